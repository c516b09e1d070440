# SPDX-License-Identifier: GPL-2.0-or-later
"""Uploads that break, at a real sshd, and what travels when they go on."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kwatch.adapters.host.host import Host
from kwatch.domain.lab.host import HostSpec
from kwatch.errors import InfraError
from tests.lab.relay import Relay
from tests.lab.sshd import SshHost

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MIB = 1 << 20
SIZE = 30 * MIB
# What SSH adds to 30 MiB: packets' heads, and a login.
EXTRA = MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A host behind a relay, and a file for it."""

    spec: HostSpec
    relay: Relay
    source: Path
    digest: str

    def host(self, owner: str = "lab") -> Host:
        return Host(self.spec, owner=owner)

    def parts(self) -> list[Path]:
        return sorted(Path(self.spec.directory, "cache/sha256").glob("*.part"))

    async def broken(self, host: Host, after: int) -> None:
        """Begin an upload whose connection breaks after so many bytes."""
        await host.account.prepare()
        self.relay.reset(cut_after=after)
        with pytest.raises(InfraError) as failed:
            await host.cache.put(self.digest, self.source)
        assert failed.value.host == "there"
        # What came before the break is written there in a moment.
        async with asyncio.timeout(10):
            while any(map(is_open, self.parts())):
                await asyncio.sleep(0.01)

    async def whole(self, host: Host) -> int:
        """Upload it to the end; how many bytes travelled."""
        await host.account.prepare()
        self.relay.reset()
        path = Path(await host.cache.put(self.digest, self.source))
        assert path.read_bytes() == self.source.read_bytes()
        assert path.name == self.digest
        return self.relay.sent


def is_open(path: Path) -> bool:
    """Whether any process has it open."""
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if link.readlink() == path:
                return True
    return False


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    source = tmp_path / "image"
    source.write_bytes(os.urandom(SIZE))
    async with SshHost(tmp_path / "sshd") as sshd, Relay(sshd.port) as relay:
        spec = replace(
            sshd.spec(tmp_path / "there"),
            port=relay.port,
            known_hosts=sshd.host_key_line.split(maxsplit=1)[1],
        )
        digest = hashlib.sha256(source.read_bytes()).hexdigest()
        yield Bench(spec=spec, relay=relay, source=source, digest=digest)


async def test_an_upload_that_broke_goes_on_where_it_was(bench: Bench) -> None:
    async with bench.host() as host:
        await bench.broken(host, after=SIZE * 8 // 10)
        (part,) = bench.parts()
        there = part.stat().st_size
        assert there > SIZE // 2
        travelled = await bench.whole(host)
        print(f"{there} bytes were there, {travelled} of {SIZE} travelled")
        assert travelled < SIZE - there + EXTRA
        assert bench.parts() == []


async def test_also_after_a_restart_and_more_than_once(bench: Bench) -> None:
    sizes = []
    for _ in range(3):
        async with bench.host() as host:
            await bench.broken(host, after=SIZE // 4)
        (part,) = bench.parts()
        sizes.append(part.stat().st_size)
    assert 0 < sizes[0] < sizes[1] < sizes[2]
    async with bench.host() as host:
        assert await bench.whole(host) < SIZE - sizes[-1] + EXTRA


async def test_a_plain_upload_travels_once(bench: Bench) -> None:
    async with bench.host() as host:
        assert SIZE < await bench.whole(host) < SIZE + EXTRA
        assert await bench.whole(host) < EXTRA


@pytest.mark.parametrize("size", [1, SIZE // 2, SIZE, SIZE + 1])
async def test_a_part_that_is_wrong_is_sent_anew_once(bench: Bench, size: int) -> None:
    async with bench.host() as host:
        await host.account.prepare()
        part = Path(await host.account.path(f"cache/sha256/{bench.digest}.lab.part"))
        part.write_bytes(os.urandom(size))
        travelled = await bench.whole(host)
        again = 2 * SIZE - size if size <= SIZE else SIZE
        assert again <= travelled < again + EXTRA
        assert bench.parts() == []


async def test_a_part_that_is_all_there_needs_no_bytes(bench: Bench) -> None:
    async with bench.host() as host:
        await host.account.prepare()
        part = Path(await host.account.path(f"cache/sha256/{bench.digest}.lab.part"))
        part.write_bytes(bench.source.read_bytes())
        assert await bench.whole(host) < EXTRA


async def test_a_source_that_changed_is_refused_and_leaves_nothing(bench: Bench) -> None:
    async with bench.host() as host:
        await bench.broken(host, after=SIZE // 2)
        bench.source.write_bytes(os.urandom(SIZE))
        bench.relay.reset()
        with pytest.raises(InfraError, match="did not arrive as SHA-256"):
            await host.cache.put(bench.digest, bench.source)
        assert bench.relay.sent < 2 * SIZE
        assert bench.parts() == []
        assert await host.cache.find(bench.digest) is None


async def test_two_daemons_do_not_write_into_one_part(bench: Bench) -> None:
    async with bench.host("one") as one, bench.host("two") as two:
        await bench.broken(one, after=SIZE // 2)
        await one.account.prepare()
        await two.account.prepare()
        async with asyncio.TaskGroup() as group:
            group.create_task(one.cache.put(bench.digest, bench.source))
            group.create_task(two.cache.put(bench.digest, bench.source))
        async with asyncio.timeout(5):
            while len(bench.parts()) > 0:
                await asyncio.sleep(0.05)
        assert await bench.whole(one) < EXTRA


async def test_two_tasks_upload_the_same_once(bench: Bench) -> None:
    async with bench.host() as host:
        await host.account.prepare()
        bench.relay.reset()
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(host.cache.put(bench.digest, bench.source))
        assert bench.relay.sent < SIZE + EXTRA


async def test_who_is_stopped_in_the_middle_loses_nothing(bench: Bench) -> None:
    async with bench.host() as host:
        await host.account.prepare()
        bench.relay.reset()
        putting = asyncio.ensure_future(host.cache.put(bench.digest, bench.source))
        while bench.relay.sent < SIZE // 2:
            await asyncio.sleep(0.001)
        putting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await putting
    there = sum(part.stat().st_size for part in bench.parts())
    assert there > 0
    async with bench.host() as host:
        assert await bench.whole(host) < SIZE - there + EXTRA


async def test_a_part_that_nobody_takes_up_is_removed(bench: Bench) -> None:
    async with bench.host() as host:
        await bench.broken(host, after=SIZE // 2)
        (part,) = bench.parts()
        old = part.stat().st_mtime - 3700
        os.utime(part, (old, old))
        await host.cache.put_bytes(b"something else")
        assert bench.parts() == []
        assert host.cache.used == len(b"something else")
