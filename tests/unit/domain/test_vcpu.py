# SPDX-License-Identifier: GPL-2.0-or-later
"""Ten thousand guests that are slow, busy, asleep or half started: none of them is called dead."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from kwatch.domain.boot.vcpu import Liveness, VcpuHistory, VcpuSample
from kwatch.domain.boot.watch import QUIET

if TYPE_CHECKING:
    from collections.abc import Iterator

WINDOWS = 10_000
SAMPLE_SECONDS = 0.6
TEXT = 0xFFFFFFFF81000000


def vcpu(
    rip: int,
    *,
    halted: bool = False,
    interrupts: bool = True,
    cpl: int = 0,
    registers: tuple[int, ...] = (),
) -> VcpuSample:
    return VcpuSample(
        rip=rip,
        rsp=0xFFFFC90000013F00,
        cr2=0,
        cpl=cpl,
        halted=halted,
        interrupts_enabled=interrupts,
        registers=registers,
    )


def idle(chance: random.Random) -> VcpuSample:
    """Waits for an interrupt, or serves one at this moment."""
    if chance.random() < 0.1:
        return vcpu(TEXT + chance.randrange(1 << 20), interrupts=chance.random() < 0.5)
    return vcpu(TEXT + 0x9A, halted=True)


def parked(_chance: random.Random) -> VcpuSample:
    """Not started by the kernel yet: halted for good, and no harm."""
    return vcpu(0xFD09A, halted=True, interrupts=False)


def busy(chance: random.Random) -> VcpuSample:
    """An initcall, decompression, a memory test: here and there in the kernel."""
    return vcpu(TEXT + chance.randrange(1 << 22), interrupts=chance.random() < 0.7)


def user(chance: random.Random) -> VcpuSample:
    """A test in user space, maybe in a very small loop."""
    return vcpu(0x400000 + chance.randrange(32), cpl=3)


def delay(chance: random.Random) -> VcpuSample:
    """mdelay(), memtest, a cipher's self test: one instruction for a minute, and a clock or sum."""
    values = 0x5000, chance.getrandbits(40)
    return vcpu(TEXT + 0x5000, interrupts=chance.random() < 0.5, registers=values)


def spin(chance: random.Random) -> VcpuSample:
    """Waits for another vCPU, or for the next tick: a circle for some seconds."""
    return vcpu(TEXT + 0x6000 + 2 * chance.randrange(3), interrupts=chance.random() < 0.5)


def window(chance: random.Random) -> Iterator[list[VcpuSample]]:
    """The looks at one healthy guest that prints nothing for a while."""
    others = [chance.choice((idle, parked)) for _ in range(chance.choice((0, 0, 1, 3, 7)))]
    looks = chance.randrange(2, 120)
    at = 0
    while at < looks:
        first = chance.choice((idle, busy, user, delay, spin))
        # Others are waited for in moments: Linux itself complains of one that lasts.
        longest = 6 if first is spin else 60
        for _ in range(chance.randrange(1, longest)):
            yield [first(chance), *(one(chance) for one in others)]
            at += 1


def is_called_dead(looks: Iterator[list[VcpuSample]], *, may_sleep: bool) -> bool:
    """As domain/boot.Watch asks: whoever is seen alive begins a new history."""
    history = VcpuHistory()
    for number, look in enumerate(looks):
        history.add(look, number * SAMPLE_SECONDS)
        match history.liveness(may_sleep=may_sleep):
            case Liveness.DEAD:
                return True
            case Liveness.ALIVE:
                history = VcpuHistory()
            case Liveness.UNKNOWN:
                pass
    return False


def test_no_healthy_guest_is_called_dead() -> None:
    called = [
        seed
        for seed in range(WINDOWS)
        if is_called_dead(window(random.Random(seed)), may_sleep=seed % 2 == 0)  # noqa: S311
    ]
    assert called == []


def test_every_dead_guest_is_called_so() -> None:
    for seed in range(1000):
        chance = random.Random(seed)  # noqa: S311
        others = [parked] * chance.choice((0, 1, 3))
        dead = vcpu(TEXT + 0x6F, halted=True, interrupts=False)
        if seed % 2:
            dead = vcpu(TEXT + 0x70, interrupts=False)
        looks = ([dead, *(one(chance) for one in others)] for _ in range(60))
        assert is_called_dead(looks, may_sleep=False)


def loop(chance: random.Random) -> VcpuSample:
    """An endless loop of some instructions, now and then in the timer's interrupt."""
    if chance.random() < 0.02:  # as measured
        return vcpu(TEXT + chance.randrange(1 << 20), interrupts=False)
    at = chance.randrange(4)
    return vcpu(TEXT + 0x70 + 3 * at, registers=(at, 7))


def test_an_endless_loop_is_called_so_within_half_a_minute() -> None:
    missed = []
    for seed in range(1000):
        chance = random.Random(seed)  # noqa: S311
        others = [chance.choice((idle, parked)) for _ in range(chance.choice((0, 0, 1, 3)))]
        looks = (
            [loop(chance), *(one(chance) for one in others)]
            for _ in range(round((30 - QUIET) / SAMPLE_SECONDS))
        )
        if not is_called_dead(looks, may_sleep=False):
            missed.append(seed)
    # Where most looks fall into interrupts by chance, it takes some seconds more.
    assert len(missed) <= 5, missed


def test_who_reads_a_clock_is_not_in_a_circle() -> None:
    chance = random.Random(1)  # noqa: S311
    assert not is_called_dead(([delay(chance)] for _ in range(1000)), may_sleep=False)
