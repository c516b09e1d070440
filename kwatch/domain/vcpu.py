# SPDX-License-Identifier: GPL-2.0-or-later
"""What the registers of a quiet guest tell: idle, busy, or dead.

A guest that prints is never called dead; the caller starts a new history with every byte. A
halted vCPU whose interrupts are off stays so for ever. A small loop is less certain (the host may
be overloaded, and Linux reports some of them itself, the soft lockup after 20 s, a stall of RCU
after 21 s), so it takes longer, and longest where an interrupt could still end it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

SMALL_LOOP = 64  # bytes from the first to the last instruction pointer seen


@dataclass(frozen=True, slots=True, kw_only=True)
class VcpuSample:
    """The registers of one vCPU at one moment, by their names on x86; ``cpl`` 3 is user space.

    ``cr2`` is the address of the last page fault, where the machine tells it.
    """

    rip: int
    rsp: int
    cr2: int | None
    cpl: int
    halted: bool
    interrupts_enabled: bool


class Liveness(Enum):
    """What all samples of a history say together."""

    UNKNOWN = auto()
    ALIVE = auto()
    DEAD = auto()


class _Kind(Enum):
    """How sure one can be that the vCPUs never go on."""

    HALTED = auto()
    LOOPING = auto()
    INTERRUPTIBLE = auto()


# (samples, seconds) that it takes to call it dead.
_PROOF = {
    _Kind.HALTED: (5, 3.0),
    _Kind.LOOPING: (10, 10.0),
    _Kind.INTERRUPTIBLE: (20, 40.0),
}


@dataclass(slots=True)
class _Vcpu:
    """All samples of one vCPU, summed up."""

    lowest: int
    highest: int
    always_halted: bool = True
    ever_interruptible: bool = False
    ever_user: bool = False

    def add(self, sample: VcpuSample) -> None:
        self.lowest = min(self.lowest, sample.rip)
        self.highest = max(self.highest, sample.rip)
        self.always_halted &= sample.halted
        self.ever_interruptible |= sample.interrupts_enabled
        self.ever_user |= sample.cpl != 0

    @property
    def kind(self) -> _Kind | None:
        """None means that it runs."""
        if self.always_halted:
            return _Kind.INTERRUPTIBLE if self.ever_interruptible else _Kind.HALTED
        if self.ever_user or self.highest - self.lowest > SMALL_LOOP:
            return None
        return _Kind.INTERRUPTIBLE if self.ever_interruptible else _Kind.LOOPING

    @property
    def is_idle(self) -> bool:
        """Waiting for an interrupt, as every idle kernel does."""
        return self.always_halted and self.ever_interruptible


def is_idle(samples: Sequence[VcpuSample]) -> bool:
    """Whether all vCPUs wait for an interrupt at this moment."""
    return all(sample.halted and sample.interrupts_enabled for sample in samples)


class VcpuHistory:
    """What was seen of all vCPUs since the guest went quiet."""

    def __init__(self) -> None:
        self._vcpus: list[_Vcpu] = []
        self._count = 0
        self._first = 0.0
        self._last = 0.0

    def add(self, samples: Sequence[VcpuSample], now: float) -> None:
        """One look at all vCPUs; another number of them than before starts anew."""
        if len(samples) != len(self._vcpus):
            self._vcpus = [_Vcpu(lowest=sample.rip, highest=sample.rip) for sample in samples]
            self._count = 0
            self._first = now
        for vcpu, sample in zip(self._vcpus, samples, strict=True):
            vcpu.add(sample)
        self._count += 1
        self._last = now

    def liveness(self, *, may_sleep: bool) -> Liveness:
        """ALIVE as soon as one vCPU runs or all idle, DEAD only with enough proof.

        Where the guest ``may_sleep``, a vCPU that an interrupt could wake is alive.
        """
        if self._count < 2:
            return Liveness.UNKNOWN
        kinds = [vcpu.kind for vcpu in self._vcpus]
        idle = all(vcpu.is_idle for vcpu in self._vcpus)
        if None in kinds or idle or (may_sleep and _Kind.INTERRUPTIBLE in kinds):
            return Liveness.ALIVE
        samples, seconds = max(_PROOF[kind] for kind in kinds if kind is not None)
        enough = self._count >= samples and self._last - self._first >= seconds
        return Liveness.DEAD if enough else Liveness.UNKNOWN

    def describe(self) -> str:
        """A sentence on what the vCPUs did."""
        parts = []
        for number, vcpu in enumerate(self._vcpus):
            if vcpu.always_halted:
                state = "halted" if vcpu.ever_interruptible else "halted with interrupts off"
            else:
                state = f"in a loop of at most {vcpu.highest - vcpu.lowest} bytes"
            parts.append(f"vCPU {number} {state} at {vcpu.lowest:#x}")
        return (
            f"no byte and no progress in {self._count} looks over "
            f"{self._last - self._first:.0f} s: {', '.join(parts)}"
        )
