# SPDX-License-Identifier: GPL-2.0-or-later
"""What ``kwatch hosts`` lists, from a daemon's hosts to the lines."""

from __future__ import annotations

import asyncio
import contextlib
import platform
import re
import time
from types import MappingProxyType
from typing import TYPE_CHECKING

import pytest

from kwatch.adapters.guest.accelerator import Accelerators
from kwatch.adapters.host.fitness import inspect
from kwatch.adapters.host.host import Host
from kwatch.adapters.host.pool import Pool
from kwatch.cli import tables
from kwatch.domain.boot.care import BootProfile
from kwatch.domain.lab.backoff import Backoff
from kwatch.domain.lab.host import Health, HostFacts, HostSpec, HostState, Load, Need, Slot
from kwatch.domain.lab.job import JobKind
from kwatch.domain.recipe.boot import Accelerator
from kwatch.engine import hosts as care
from kwatch.engine.hosts import HostCare
from kwatch.store import hosts, trials
from kwatch.store.database import Database
from tests.integration.web_history import fill

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from kwatch.store.database import Transaction

GIB = 1 << 30
SECONDS = {"boot, median": 1.3, "resets": 4.0}
FACTS = HostFacts(
    slots={Slot.BUILD: 0, Slot.BOOT: 4},
    load=Load(slots={Slot.BOOT: 2}, memory=6 * GIB),
    memory=64 * GIB,
    cache=3 * GIB,
    cache_budget=20 * GIB,
    looked_at=1_000_000.0,
    guests={"kvm": None, "tcg": None},
)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = await Database.open(tmp_path / "history.sqlite")
    yield database
    await database.close()


async def lines(database: Database) -> list[str]:
    return (await database.read(tables.hosts)).text.splitlines()


async def test_a_host_is_listed_with_what_is_in_use(database: Database) -> None:
    assert not await database.write(hosts.tell, "kvm1", FACTS), "it was never looked at"
    await database.write(hosts.note, "kvm1", HostState(), now=5.0)
    (_heading, line) = await lines(database)
    assert line.split() == ["kvm1", "ok", "never"]
    assert await database.write(hosts.tell, "kvm1", FACTS)
    assert await lines(database) == [
        (
            "NAME    HEALTH    BUILDS    BOOTS    MEMORY        CACHE         CHECKED"
            "               REASON"
        ),
        "kvm1    ok        0/0       2/4      6.0/64.0 GiB  3.0/20.0 GiB  1970-01-12 13:46:40Z",
        "",
        "HOST    ACCELERATOR    STATE     DETAIL",
        "kvm1    kvm            unproven  run 'kwatch hosts prove kvm1'",
        "kvm1    tcg            unproven  run 'kwatch hosts prove kvm1'",
    ]
    (seen,) = await database.read(hosts.seen)
    assert seen.facts == FACTS


async def test_what_was_proven_stays_until_it_fails(database: Database) -> None:
    await database.write(hosts.note, "kvm1", HostState(), now=5.0)
    await database.write(hosts.tell, "kvm1", FACTS)
    await database.write(hosts.prove, "kvm1", "kvm", SECONDS, now=0.0)
    await database.write(hosts.prove, "kvm1", "kvm", SECONDS, now=1_000_000.0)
    await database.write(
        hosts.note, "kvm1", HostState(health=Health.DRAINED, reason="for repair"), now=6.0
    )
    shown = await lines(database)
    assert shown[1].startswith("kvm1    drained ")
    assert shown[1].endswith("  for repair")
    assert shown[4:] == [
        "kvm1    kvm            proven    at 1970-01-12 13:46:40Z",
        "kvm1    tcg            unproven  run 'kwatch hosts prove kvm1'",
    ]
    (document,) = (await database.read(tables.hosts)).document
    assert document["proven"] == {"kvm": {"at": 1_000_000.0, "seconds": SECONDS}}
    assert document["slots"]["boot"] == {"used": 2, "total": 4}


async def test_a_host_that_is_proven_before_any_daemon_saw_it(database: Database) -> None:
    await database.write(hosts.prove, "kvm1", "kvm", SECONDS, now=7.0)
    await database.write(hosts.prove, "kvm1", "tcg", SECONDS, now=8.0)
    (seen,) = await database.read(hosts.seen)
    assert (seen.state, seen.checked_at) == (HostState(), 7.0)
    assert {name: proof.at for name, proof in seen.proven.items()} == {"kvm": 7.0, "tcg": 8.0}


async def test_the_daemon_publishes_the_state_of_its_hosts(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(care, "HEALTH_SECONDS", 0.02)
    spec = HostSpec(
        name="here", directory=str(tmp_path / "here"), arch=platform.machine(),
        slots=MappingProxyType({Slot.BUILD: 1, Slot.BOOT: 1}), accelerators=frozenset({"tcg"}),
    )  # fmt: skip
    async with Host(spec) as host:
        pool = Pool([host], clock=time.time)
        accelerators = Accelerators()
        telling = asyncio.ensure_future(
            HostCare(pool=pool, accelerators=accelerators, database=database).publish(host)
        )

        async def until(wanted: str) -> None:
            async with asyncio.timeout(20):
                while not re.search(wanted, "\n".join(await lines(database)), re.MULTILINE):
                    await asyncio.sleep(0.02)

        await database.write(hosts.note, "here", HostState(), now=5.0)
        await until("^here +ok +0/1 +0/1 +never")
        await host.cache.put_bytes(b"x" * (GIB >> 4))
        await inspect(host, now=1_000_000.0)
        await pool.admit("here")
        await until("^here +ok +0/1 +0/1 +0.1/20.0 GiB +1970-01-12")
        await accelerators.tried(host, BootProfile())
        await until("^here +tcg +unproven +run 'kwatch hosts prove here'")
        assert "kvm" not in "\n".join(await lines(database)), "it may not use it"
        async with pool.lease(Need(slot=Slot.BUILD, arch=spec.arch)):
            await until("^here +ok +1/1 +0/1")
            telling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await telling
        await until("^here +ok +0/1 +0/1")


async def test_a_host_that_is_back_gives_the_failures_of_the_lab_another_try(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(care, "UNREACHABLE", Backoff(first=0.05, longest=0.05))
    await database.write(fill)

    def failed(tx: Transaction) -> tuple[int, ...]:
        return trials.failed_by_lab(tx, tries=None)

    (number,) = await database.read(failed)
    # What is no folder cannot be prepared.
    (tmp_path / "here").write_text("")
    spec = HostSpec(
        name="here", directory=str(tmp_path / "here" / "kwatch"), arch=platform.machine(),
        slots=MappingProxyType({Slot.BUILD: 1}),
    )  # fmt: skip
    async with Host(spec) as host:
        pool = Pool([host], clock=time.time)
        checking = asyncio.ensure_future(
            HostCare(pool=pool, accelerators=Accelerators(), database=database).check(host)
        )

        async def until(wanted: Health) -> None:
            async with asyncio.timeout(30):
                while pool.state("here").health is not wanted or not any(
                    one.name == "here" and one.state.health is wanted
                    for one in await database.read(hosts.seen)
                ):
                    assert not checking.done(), checking
                    await asyncio.sleep(0.02)

        await until(Health.UNREACHABLE)
        assert await database.read(failed) == (number,)
        (tmp_path / "here").unlink()
        await until(Health.OK)
        async with asyncio.timeout(10):
            while await database.read(failed):
                await asyncio.sleep(0.02)
        again = await database.read(trials.load, number)
        assert (again.outcome, again.waits_kind) == (None, JobKind.BOOT)
        checking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await checking


def test_one_machine_that_works_is_enough_to_say_that_an_accelerator_does() -> None:
    host = Host(HostSpec(name="here", directory="", arch="x86_64", slots={Slot.BOOT: 1}))
    accelerators = Accelerators()
    assert accelerators.guests(host) == {}
    for at, reason in enumerate(("broken", None, "worse")):
        accelerators._known["here", "x86_64", f"machine{at}", None] = {Accelerator.KVM: reason}
    accelerators._known["there", "x86_64", "q35", None] = {Accelerator.TCG: None}
    assert accelerators.guests(host) == {Accelerator.KVM: None}
