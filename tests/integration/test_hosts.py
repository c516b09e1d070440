# SPDX-License-Identifier: GPL-2.0-or-later
"""What ``kwatch hosts`` lists, from a daemon's hosts to the lines."""

from __future__ import annotations

import asyncio
import contextlib
import platform
import time
from types import MappingProxyType
from typing import TYPE_CHECKING

import pytest

from kwatch.adapters.guest.accelerator import Accelerators
from kwatch.adapters.host.fitness import inspect
from kwatch.adapters.host.host import Host
from kwatch.adapters.host.pool import Pool
from kwatch.cli import tables
from kwatch.domain.boot.watch import Accelerator, BootProfile
from kwatch.domain.lab.host import Health, HostFacts, HostSpec, HostState, Load, Need, Slot
from kwatch.engine import hosts as care
from kwatch.engine.hosts import HostCare
from kwatch.store import hosts
from kwatch.store.database import Database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

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
    return list((await database.read(tables.hosts)).lines)


async def test_a_host_is_listed_with_what_is_in_use(database: Database) -> None:
    assert not await database.write(hosts.tell, "kvm1", FACTS), "it was never looked at"
    await database.write(hosts.note, "kvm1", HostState(), now=5.0)
    assert await lines(database) == ["kvm1: ok"]
    assert await database.write(hosts.tell, "kvm1", FACTS)
    assert await lines(database) == [
        "kvm1: ok",
        (
            "  boots 2/4, memory of guests 6.0 of 64.0 GiB, cache 3.0 of 20.0 GiB,"
            " looked over 1970-01-12 13:46:40Z"
        ),
        "  KVM: unproven, see 'kwatch hosts accept'",
        "  TCG: unproven, see 'kwatch hosts accept'",
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
    assert shown[0] == "kvm1: drained for repair"
    assert shown[2:] == [
        "  KVM: proven 1970-01-12 13:46:40Z", "  TCG: unproven, see 'kwatch hosts accept'",
    ]  # fmt: skip
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
                while wanted not in "\n".join(await lines(database)):
                    await asyncio.sleep(0.02)

        await database.write(hosts.note, "here", HostState(), now=5.0)
        await until("builds 0/1, boots 0/1, not looked over yet")
        await host.cache.put_bytes(b"x" * (GIB >> 4))
        await inspect(host, now=1_000_000.0)
        await pool.admit("here")
        await until("builds 0/1, boots 0/1, cache 0.1 of 20.0 GiB, looked over 1970-01-12")
        await accelerators.tried(host, BootProfile(name="preflight"))
        await until("TCG: unproven, see 'kwatch hosts accept'")
        assert "KVM" not in "\n".join(await lines(database)), "it may not use it"
        async with pool.lease(Need(slot=Slot.BUILD, arch=spec.arch)):
            await until("builds 1/1, boots 0/1")
            telling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await telling
        await until("builds 0/1, boots 0/1")


def test_one_machine_that_works_is_enough_to_say_that_an_accelerator_does() -> None:
    host = Host(HostSpec(name="here", directory="", arch="x86_64", slots={Slot.BOOT: 1}))
    accelerators = Accelerators()
    assert accelerators.guests(host) == {}
    for at, reason in enumerate(("broken", None, "worse")):
        accelerators._known["here", "x86_64", f"machine{at}", None] = {Accelerator.KVM: reason}
    accelerators._known["there", "x86_64", "q35", None] = {Accelerator.TCG: None}
    assert accelerators.guests(host) == {Accelerator.KVM: None}
