# SPDX-License-Identifier: GPL-2.0-or-later
"""The pool of slots: nobody is connected to, only counted."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from kwatch.adapters.host import pool as module
from kwatch.adapters.host.host import Host
from kwatch.adapters.host.pool import ASK_AGAIN, FIRST_PAUSE, LONGEST_PAUSE, Pool
from kwatch.domain.lab.host import Health, HostSpec, Load, Need, Slot
from kwatch.domain.lab.job import Handle
from kwatch.errors import DiskFullError, InfraError

if TYPE_CHECKING:
    from collections.abc import Mapping

BUILD = Need(slot=Slot.BUILD, arch="x86_64")
BOOT = Need(slot=Slot.BOOT, arch="x86_64")
KVM = Need(slot=Slot.BOOT, arch="x86_64", accelerator="kvm")


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def spec(
    name: str, *, builds: int = 1, boots: int = 1, kvm: bool = False, memory: int | None = None
) -> HostSpec:
    slots: Mapping[Slot, int] = {Slot.BUILD: builds, Slot.BOOT: boots}
    return HostSpec(
        name=name,
        directory=name,
        arch="x86_64",
        slots=slots,
        accelerators=frozenset({"kvm", "tcg"} if kvm else {"tcg"}),
        memory=memory,
    )


async def pool_of(*specs: HostSpec, clock: Clock | None = None) -> Pool:
    pool = Pool([Host(one) for one in specs], clock=clock or Clock())
    for one in specs:
        await pool.admit(one.name)
    return pool


async def taken(stack: contextlib.AsyncExitStack, pool: Pool, need: Need) -> tuple[str, int]:
    async with asyncio.timeout(2):
        lease = await stack.enter_async_context(pool.lease(need))
    return lease.host.name, lease.slot


async def is_refused(pool: Pool, need: Need = BUILD) -> bool:
    """Whether nobody gets a slot within an instant."""
    try:
        async with asyncio.timeout(0.05), pool.lease(need):
            return False
    except TimeoutError:
        return True


async def fail(pool: Pool, host: str | None, need: Need = BUILD) -> None:
    with pytest.raises(InfraError):
        async with pool.lease(need):
            raise InfraError("the disk of lab-1 fails\nand more", host=host)


async def test_each_lease_has_a_slot_of_its_own() -> None:
    pool = await pool_of(spec("a", builds=3, boots=1))
    async with contextlib.AsyncExitStack() as stack:
        found = [await taken(stack, pool, BUILD) for _ in range(3)]
        assert sorted(found) == [("a", 0), ("a", 1), ("a", 2)]
        assert await is_refused(pool)
        # Builds and boots are counted apart.
        assert await taken(stack, pool, BOOT) == ("a", 0)
    async with contextlib.AsyncExitStack() as stack:
        assert await taken(stack, pool, BUILD) == ("a", 0)


async def test_the_slot_that_became_free_is_the_one_that_is_given() -> None:
    pool = await pool_of(spec("a", builds=3))
    async with contextlib.AsyncExitStack() as stack:
        await taken(stack, pool, BUILD)
        async with pool.lease(BUILD) as second:
            assert second.slot == 1
            await taken(stack, pool, BUILD)
        assert await taken(stack, pool, BUILD) == ("a", 1)


async def test_work_is_spread_over_the_hosts() -> None:
    pool = await pool_of(spec("a", builds=2), spec("b", builds=4))
    async with contextlib.AsyncExitStack() as stack:
        found = [(await taken(stack, pool, BUILD))[0] for _ in range(6)]
        assert (found.count("a"), found.count("b")) == (2, 4)
        assert found[:3] == ["b", "a", "b"]


async def test_a_need_goes_only_where_it_can_be_met() -> None:
    pool = await pool_of(spec("a", boots=9), spec("b", kvm=True))
    async with contextlib.AsyncExitStack() as stack:
        assert await taken(stack, pool, KVM) == ("b", 0)
        assert await is_refused(pool, KVM)
        here = Need(slot=Slot.BOOT, arch="x86_64", host="a")
        assert await taken(stack, pool, here) == ("a", 0)


@pytest.mark.parametrize(
    ("need", "text"),
    [
        (Need(slot=Slot.BOOT, arch="arm64"), "no host can boot for arm64: add one"),
        (Need(slot=Slot.BOOT, arch="x86_64", accelerator="hvf"), "boot for x86_64 with hvf"),
        (Need(slot=Slot.BUILD, arch="x86_64", host="gone"), "build for x86_64 on gone"),
        (Need(slot=Slot.BUILD, arch="x86_64", labels=frozenset({"big"})), "labelled big: add"),
        (Need(slot=Slot.BOOT, arch="x86_64", memory=65 << 30), "boot for x86_64 in 66560 MiB"),
    ],
)
async def test_what_no_host_can_is_told_at_once(need: Need, text: str) -> None:
    pool = await pool_of(spec("a", memory=64 << 30))
    with pytest.raises(InfraError, match=text) as caught:
        async with asyncio.timeout(1), pool.lease(need):
            pass
    # It counts as a failure of the job: waiting alone does not mend it.
    assert caught.value.retry_after is None


async def test_guests_wait_for_memory() -> None:
    pool = await pool_of(spec("a", builds=2, boots=9, memory=8))
    guest = Need(slot=Slot.BOOT, arch="x86_64", memory=3)
    handle = Handle(host="a", run_id="boot-1-1", slot=5)
    async with contextlib.AsyncExitStack() as stack:
        assert await taken(stack, pool, guest) == ("a", 0)
        async with pool.lease(guest):
            assert pool.load("a") == Load(slots={Slot.BOOT: 2}, memory=6)
            assert await is_refused(pool, guest)
            # Not even in the slot that it had before, and builds do not count.
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05), pool.lease(guest, prefer=handle):
                    pass
            assert await taken(stack, pool, BUILD) == ("a", 0)
            waiting = asyncio.ensure_future(taken(stack, pool, guest))
            await asyncio.sleep(0.01)
            assert not waiting.done()
        assert await waiting == ("a", 1)
    assert pool.load("a") == Load()


async def test_those_who_wait_are_served_in_their_order() -> None:
    pool = await pool_of(spec("a"))
    order: list[int] = []
    all_wait = asyncio.Event()

    async def work(number: int) -> None:
        async with pool.lease(BUILD):
            order.append(number)
            await all_wait.wait()

    async with asyncio.TaskGroup() as group:
        for number in range(12):
            group.create_task(work(number))
            await asyncio.sleep(0.01)
        all_wait.set()
    assert order == list(range(12))


async def test_never_more_than_there_are_slots() -> None:
    pool = await pool_of(spec("a", builds=2), spec("b", builds=1))
    together: set[tuple[str, int]] = set()
    most = 0

    async def work(number: int) -> None:
        nonlocal most
        with contextlib.suppress(TimeoutError, InfraError):
            async with asyncio.timeout(0.02 if number % 5 == 0 else 5), pool.lease(BUILD) as lease:
                key = (lease.host.name, lease.slot)
                assert key not in together
                together.add(key)
                most = max(most, len(together))
                try:
                    await asyncio.sleep(0.003 * (number % 4))
                    if number % 7 == 0:
                        raise InfraError("no fault of the host")
                finally:
                    together.discard(key)

    async with asyncio.TaskGroup() as group:
        for number in range(60):
            group.create_task(work(number))
    assert most == 3
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(3):
            await taken(stack, pool, BUILD)


async def test_who_gives_up_waiting_leaves_nothing_behind() -> None:
    pool = await pool_of(spec("a"))
    async with pool.lease(BUILD):
        waiting = [asyncio.ensure_future(is_refused(pool)) for _ in range(5)]
        waiting[2].cancel()
        await asyncio.wait(waiting)
    assert not await is_refused(pool)


async def test_no_free_slot_is_reported_at_once_and_does_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "WAIT_SECONDS", 0.1)
    clock = Clock()
    pool = await pool_of(spec("a"), spec("b"), spec("c", builds=0), clock=clock)
    await fail(pool, "a", Need(slot=Slot.BUILD, arch="x86_64", host="a"))
    async with pool.lease(BUILD):
        with pytest.raises(InfraError) as caught:
            async with pool.lease(BUILD):
                pass
    assert str(caught.value) == ("no build slot is free (a: the disk of lab-1 fails; b: busy)")
    assert caught.value.retry_after == timedelta(seconds=ASK_AGAIN)
    assert caught.value.host is None


async def test_a_host_that_fails_rests_longer_each_time() -> None:
    clock = Clock()
    pool = await pool_of(spec("a"), clock=clock)
    pauses = []
    for _ in range(9):
        await fail(pool, "a")
        assert pool.state("a").health is Health.UNREACHABLE
        assert pool.state("a").reason == "the disk of lab-1 fails"
        begin = clock.now
        while not pool.wants_preflight("a"):
            clock.now += 5
        pauses.append(clock.now - begin)
        assert pool.state("a").health is Health.UNREACHABLE, "nobody looked it over"
        await pool.admit("a")
        assert pool.state("a").health is Health.OK
    assert pauses[:4] == [10, 20, 40, 80]
    assert pauses[-1] == LONGEST_PAUSE
    # It forgets at the first success.
    async with pool.lease(BUILD):
        pass
    await fail(pool, "a")
    clock.now += FIRST_PAUSE
    assert pool.wants_preflight("a")


async def test_what_ends_well_on_a_host_that_failed_speaks_for_it() -> None:
    pool = await pool_of(spec("a", builds=2))
    async with pool.lease(BUILD):
        await fail(pool, "a")
        assert pool.state("a").health is Health.UNREACHABLE
    assert pool.state("a").health is Health.OK
    assert not pool.wants_preflight("a")


async def test_a_host_that_does_not_answer_who_is_there_gets_nobody_else() -> None:
    pool = await pool_of(spec("a", builds=2), spec("b"))
    pool.hosts["a"].runs.trouble = "a is silent"
    assert pool.state("a").reason == "a is silent"
    async with contextlib.AsyncExitStack() as stack:
        assert await taken(stack, pool, BUILD) == ("b", 0)
        assert await is_refused(pool)
        pool.hosts["a"].runs.trouble = ""
        assert await taken(stack, pool, BUILD) == ("a", 0)


async def test_only_a_failure_of_the_host_makes_it_rest() -> None:
    pool = await pool_of(spec("a"))
    await fail(pool, None)
    await fail(pool, "b")
    for error in (DiskFullError("no room here"), ValueError("a defect"), asyncio.CancelledError()):
        with pytest.raises(type(error)):
            async with pool.lease(BUILD):
                raise error
    assert pool.state("a").health is Health.OK


async def test_who_waits_for_a_host_that_rests_gets_it_when_it_is_back() -> None:
    clock = Clock()
    pool = await pool_of(spec("a"), clock=clock)
    await fail(pool, "a")
    waiting = asyncio.ensure_future(contextlib.AsyncExitStack().enter_async_context(
        pool.lease(BUILD)))  # fmt: skip
    await asyncio.sleep(0.05)
    assert not waiting.done()
    clock.now += FIRST_PAUSE
    await pool.admit("a")
    async with asyncio.timeout(3):
        assert (await waiting).host.name == "a"


async def test_a_host_gets_work_once_it_is_admitted() -> None:
    pool = Pool([Host(spec("a")), Host(spec("b"))], clock=Clock())
    assert pool.state("a").reason == "not reached yet"
    assert await is_refused(pool)
    async with contextlib.AsyncExitStack() as stack:
        waiting = asyncio.ensure_future(taken(stack, pool, BUILD))
        await asyncio.sleep(0.01)
        await pool.admit("b")
        assert await waiting == ("b", 0)
        assert await is_refused(pool)


async def test_the_slot_of_an_earlier_attempt_is_preferred() -> None:
    pool = await pool_of(spec("a", builds=3), spec("b", builds=3))
    handle = Handle(host="b", run_id="build-1-1-make", slot=2)
    async with pool.lease(BUILD, prefer=handle) as lease:
        assert (lease.host.name, lease.slot) == ("b", 2)
        # Somebody else has it: any other will do.
        async with pool.lease(BUILD, prefer=handle) as other:
            assert (other.host.name, other.slot) == ("a", 0)
        async with contextlib.AsyncExitStack() as stack:
            found = [await taken(stack, pool, BUILD) for _ in range(5)]
            assert len({*found, ("b", 2)}) == 6
            assert await is_refused(pool)


async def test_a_preference_for_what_is_gone_is_no_obstacle() -> None:
    pool = await pool_of(spec("a"))
    gone = Handle(host="gone", run_id="build-1-1-make", slot=0)
    async with pool.lease(BUILD, prefer=gone) as lease:
        assert (lease.host.name, lease.slot) == ("a", 0)


async def test_an_operator_is_not_kept_waiting_for_the_next_look() -> None:
    pool = await pool_of(spec("a"))
    pool.release("a")
    assert pool.wants_preflight("a")
    async with asyncio.timeout(2):
        assert await pool.rest("a", 60)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await pool.rest("a", 60)
    assert not await pool.rest("a", 0.01)


async def test_no_preference_leads_back_to_a_host_that_fails() -> None:
    """The attempt before this one had its command there, and failed because of it."""
    pool = await pool_of(spec("a"), spec("b"))
    await fail(pool, "a", Need(slot=Slot.BUILD, arch="x86_64", host="a"))
    handle = Handle(host="a", run_id="build-1-1-make", slot=0)
    async with pool.lease(BUILD, prefer=handle) as lease:
        assert lease.host.name == "b"


async def test_a_preferred_host_that_is_not_back_yet_is_waited_for() -> None:
    """After a restart the fastest host is admitted first; the others still run our commands."""
    pool = Pool([Host(spec("a")), Host(spec("b"))], clock=Clock())
    await pool.admit("a")
    handle = Handle(host="b", run_id="build-1-1-make", slot=0)
    async with contextlib.AsyncExitStack() as stack:
        waiting = asyncio.ensure_future(stack.enter_async_context(pool.lease(BUILD, prefer=handle)))
        await asyncio.sleep(0.05)
        await pool.admit("b")
        async with asyncio.timeout(2):
            lease = await waiting
        assert (lease.host.name, lease.slot) == ("b", 0)


async def test_a_preferred_host_that_stays_away_is_not_waited_for_in_vain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "ARRIVAL_SECONDS", 0.1)
    pool = Pool([Host(spec("a")), Host(spec("b"))], clock=Clock())
    await pool.admit("a")
    handle = Handle(host="b", run_id="build-1-1-make", slot=0)
    async with pool.lease(BUILD, prefer=handle) as lease:
        assert lease.host.name == "a"
