# SPDX-License-Identifier: GPL-2.0-or-later
"""What the registers of a quiet guest tell: idle, busy, or dead.

A guest that prints is never called dead; the caller starts a new history with every byte. A
halted vCPU whose interrupts are off stays so for ever. One that is seen again and again at the
same instruction with the very same registers goes round in a circle: whoever waits for a time
reads a clock, and whoever computes has other values each time. That is less certain, since
another vCPU or an interrupt may end it, so it takes longer; but less than the 20 s after which
Linux itself complains.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

# One look in so many may fall into an interrupt, or upon an instruction of a loop not seen before.
MOST = 4
# States seen for the first time after which a vCPU is known to go on.
MOVES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class VcpuSample:
    """The registers of one vCPU at one moment, by their names on x86; ``cpl`` 3 is user space.

    ``cr2`` is the address of the last page fault, where the machine tells it. ``registers`` are
    all that the kernel computes with, in an order that is always the same.
    """

    rip: int
    rsp: int
    cr2: int | None
    cpl: int
    halted: bool
    interrupts_enabled: bool
    registers: tuple[int, ...] = ()


class Liveness(Enum):
    """What all samples of a history say together."""

    UNKNOWN = auto()
    ALIVE = auto()
    DEAD = auto()


class _Kind(Enum):
    """What a vCPU did, if it did one thing."""

    HALTED = auto()
    IDLE = auto()
    CIRCLING = auto()
    """With interrupts off."""
    INTERRUPTIBLE = auto()
    """Circling with interrupts on."""
    RUNNING = auto()


# (samples, seconds) that it takes to call it dead. One that idles never is; nor is a guest that
# idles while others of its vCPUs are halted, which the kernel may have put off, or never started.
_PROOF = {
    _Kind.HALTED: (5, 3.0),
    _Kind.IDLE: (20, 15.0),
    _Kind.CIRCLING: (10, 10.0),
    _Kind.INTERRUPTIBLE: (20, 15.0),
}


@dataclass(slots=True)
class _Vcpu:
    """All samples of one vCPU, summed up."""

    looks: int = 0
    waiting: int = 0
    halted: int = 0
    ever_interruptible: bool = False
    ever_user: bool = False
    states: dict[tuple[int, tuple[int, ...]], int] = field(default_factory=dict)

    def add(self, sample: VcpuSample) -> None:
        state = sample.rip, sample.registers
        self.looks += 1
        self.halted += sample.halted
        self.waiting += sample.halted and sample.interrupts_enabled
        self.ever_interruptible |= sample.interrupts_enabled
        self.ever_user |= sample.cpl != 0
        self.states[state] = self.states.get(state, 0) + 1

    @property
    def kind(self) -> _Kind | None:
        """None means that it cannot be told."""
        if self.halted == self.looks and not self.ever_interruptible:
            return _Kind.HALTED
        if self._is_most(self.waiting):
            return _Kind.IDLE
        moves = len(self.states)
        if self.ever_user or (moves >= MOVES and 2 * moves > self.looks):
            return _Kind.RUNNING
        if self.waiting:
            return _Kind.RUNNING if self.looks >= max(MOVES, 2 * self.waiting) else None
        if not self._is_most(self.looks - moves):
            return None
        return _Kind.INTERRUPTIBLE if self.ever_interruptible else _Kind.CIRCLING

    @property
    def place(self) -> int:
        """Where it was seen most often."""
        return max(self.states, key=self.states.__getitem__)[0]

    def _is_most(self, looks: int) -> bool:
        return looks > 0 and looks * MOST >= self.looks * (MOST - 1)


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
            self._vcpus = [_Vcpu() for _ in samples]
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
        kinds = {vcpu.kind for vcpu in self._vcpus}
        asleep = bool(kinds & {_Kind.IDLE, _Kind.INTERRUPTIBLE})
        idle = _Kind.IDLE in kinds and kinds <= {_Kind.IDLE, _Kind.HALTED}
        if _Kind.RUNNING in kinds or idle or (may_sleep and asleep):
            return Liveness.ALIVE
        proofs = [_PROOF[kind] for kind in kinds if kind in _PROOF]
        if len(proofs) < len(kinds):
            return Liveness.UNKNOWN
        samples, seconds = max(proofs)
        enough = self._count >= samples and self._last - self._first >= seconds
        return Liveness.DEAD if enough else Liveness.UNKNOWN

    def describe(self) -> str:
        """A sentence on what the vCPUs did."""
        parts = []
        for number, vcpu in enumerate(self._vcpus):
            match vcpu.kind:
                case _Kind.HALTED:
                    state = "halted with interrupts off"
                case _Kind.IDLE:
                    state = "halted"
                case _:
                    state = f"in a circle of {len(vcpu.states)} states"
            parts.append(f"vCPU {number} {state} at {vcpu.place:#x}")
        return (
            f"no byte and no progress in {self._count} looks over "
            f"{self._last - self._first:.0f} s: {', '.join(parts)}"
        )
