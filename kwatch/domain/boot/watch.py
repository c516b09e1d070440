# SPDX-License-Identifier: GPL-2.0-or-later
"""A boot in a virtual machine: how it is asked for, watched, and judged to be over.

:class:`Watch` does no I/O and has no clock: console bytes, channel events, machine events, vCPU
samples and the time go in, and what to do now comes out.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from kwatch.domain.boot.channel import BlobDone, ChannelEvent, Done, Hello, Integrity, Tested
from kwatch.domain.boot.ending import BootEnd, BootVerdict, Reached
from kwatch.domain.boot.phase import BootPhase, after, goal, longest_idle
from kwatch.domain.boot.vcpu import Liveness, VcpuHistory, VcpuSample, is_idle
from kwatch.domain.log.console import ConsoleReader
from kwatch.domain.log.progress import Progress
from kwatch.domain.milestone import Milestone
from kwatch.domain.run import RunEnd, RunReason

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from kwatch.domain.boot.care import BootProfile
    from kwatch.domain.recipe.boot import Accelerator

KEPT_SAMPLES = 8
KEPT_LOG = 4096
# Seconds without a byte from the guest after which its vCPUs are looked at.
QUIET = 2.0
SAMPLE_EVERY = 0.6
LONGEST_SAMPLE_PAUSE = 10.0
# Seconds for the rest of a panic message, and from the end of the machine to that of QEMU.
PANIC_REST = 1.0
PANIC_END_REST = 0.05
EXIT_REST = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class QmpEvent:
    """An event of the machine; ``reason`` as in SHUTDOWN (QEMU: qapi/run-state.json)."""

    name: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Continue:
    """Nothing to do but go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Look at all vCPUs now, and hand the result to receive_samples()."""


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """It is over: stop the machine."""

    verdict: BootVerdict


Decision = Continue | Sample | End


_NOT_EXITED = {
    RunReason.START_FAILED: BootEnd.NEVER_STARTED,
    RunReason.OUTPUT_LIMIT: BootEnd.OUTPUT_LIMIT,
    RunReason.DEADLINE: BootEnd.DEADLINE,
}
# A machine that is off waits to be asked. These end it when nobody comes, and say nothing of it.
_NOBODY_LISTENED = frozenset({RunReason.DEADLINE, RunReason.LEASE, RunReason.STOPPED})


# What QEMU says of an image that it cannot load; that there is no such file it says otherwise.
_REFUSAL = re.compile(
    rb"^.*(?:linux kernel too old|invalid kernel header|loading elf kernel"
    rb"|could not load kernel).*$",
    re.MULTILINE,
)


class Watch:
    """Follows one boot that began at ``now``. All times are seconds of one monotonic clock.

    ``usual`` says how many seconds phases usually take here. Holds a bounded state, never raises,
    and gives one answer however the bytes are cut. Once it said End it says nothing else.
    """

    def __init__(
        self,
        profile: BootProfile,
        accelerator: Accelerator,
        now: float,
        usual: Mapping[BootPhase, float] = MappingProxyType({}),
    ) -> None:
        self._profile = profile
        self._usual = usual
        self._factor = profile.care.slowness(accelerator)
        self._start = now
        self._milestone = Milestone.LINKED
        self._reached: list[Reached] = []
        self._phase_since = now
        self._done_at: float | None = None
        self._panic_until: float | None = None
        self._off_until: float | None = None
        self._log = b""
        self._has_spoken = False
        self._console = ConsoleReader()
        self._heard = now
        self._idle_since: float | None = None
        self._next_sample = now
        self._sample_pause = SAMPLE_EVERY
        self._history = VcpuHistory()
        self._samples: deque[tuple[VcpuSample, ...]] = deque(maxlen=KEPT_SAMPLES)
        self._verdict: BootVerdict | None = None

    @property
    def milestone(self) -> Milestone:
        """How far it got until now."""
        return self._milestone

    def receive_console(self, data: bytes, now: float) -> Decision:
        """Bytes of the console."""
        if data:
            self._has_spoken = True
            self._sign_of_life(now)
            self._console.feed(data)
            self._note_console(now)
        return self._decide(now)

    def receive_log(self, data: bytes, now: float) -> Decision:
        """Words of QEMU's own."""
        self._log = (self._log + data)[-KEPT_LOG:]
        return self._decide(now)

    def receive_channel(self, events: Iterable[ChannelEvent], now: float) -> Decision:
        """What the guest said on its channel."""
        for event in events:
            self._sign_of_life(now)
            match event:
                case Hello():
                    self._reach(Milestone.INIT, now)
                case Tested():
                    self._reach(Milestone.TESTED, now)
                case BlobDone(integrity=Integrity.INTACT):
                    self._reach(Milestone.COLLECTED, now)
                case Done() if self._done_at is None:
                    self._done_at = now
                case _:
                    pass
        return self._decide(now)

    def receive_qmp(self, event: QmpEvent, now: float) -> Decision:
        """An event of the machine."""
        if event.name == "GUEST_PANICKED" and self._panic_until is None:
            self._panic_until = now + PANIC_REST
        elif event.name == "SHUTDOWN" and self._off_until is None:
            self._off_until = now + EXIT_REST
        return self._decide(now)

    def receive_samples(self, samples: Sequence[VcpuSample], now: float) -> Decision:
        """One look at all vCPUs; one that was overtaken by output is worth nothing."""
        if samples and now - self._heard >= QUIET:
            self._samples.append(tuple(samples))
            self._history.add(samples, now)
            self._idle_since = (self._idle_since or now) if is_idle(samples) else None
            if self._liveness() is Liveness.ALIVE:
                self._sample_pause = min(self._sample_pause * 2, LONGEST_SAMPLE_PAUSE)
                self._history = VcpuHistory()
            else:
                self._sample_pause = SAMPLE_EVERY
        return self._decide(now)

    def tick(self, now: float) -> Decision:
        """Time went by; to be called at next_wakeup() at the latest."""
        decision = self._decide(now)
        if isinstance(decision, Continue) and self._sample_due(now):
            self._next_sample = now + self._sample_pause
            return Sample()
        return decision

    def ended(self, run_end: RunEnd, now: float) -> End:
        """QEMU is gone and all its output was given in."""
        self._console.end_line()
        self._note_console(now)
        return self._finish(*self._judge_exit(run_end), now)

    def next_wakeup(self, now: float) -> float:
        """When tick() is due if nothing happens before."""
        if (last_words := self._last_words()) is not None:
            return max(now, last_words)
        times = [self._start + self._profile.care.deadlines.total * self._factor, self._phase_end()]
        if (idle_end := self._idle_end()) is not None:
            times.append(idle_end)
        if self._profile.care.sample_vcpus:
            times.append(max(self._next_sample, self._heard + QUIET))
        return max(now, min(times))

    # --- what it means ----------------------------------------------------------------------------

    def _sign_of_life(self, now: float) -> None:
        self._heard = now
        self._idle_since = None
        self._sample_pause = SAMPLE_EVERY
        self._history = VcpuHistory()
        self._samples.clear()

    def _note_console(self, now: float) -> None:
        if self._console.progress >= Progress.KERNEL:
            self._reach(Milestone.KERNEL, now)
        if self._panic_until is None and self._console.has_panicked:
            self._panic_until = now + PANIC_REST
        if self._panic_until is not None and self._console.is_panic_over:
            self._panic_until = min(self._panic_until, now + PANIC_END_REST)

    def _reach(self, milestone: Milestone, now: float) -> None:
        if milestone > self._milestone:
            self._milestone = milestone
            self._phase_since = now
            self._reached.append(Reached(milestone=milestone, at=now - self._start))

    def _liveness(self) -> Liveness:
        # A guest in user space may well sleep: only what no interrupt can end counts then.
        return self._history.liveness(may_sleep=self._milestone >= Milestone.INIT)

    def _sample_due(self, now: float) -> bool:
        return (
            self._profile.care.sample_vcpus
            and self._last_words() is None
            and now >= max(self._next_sample, self._heard + QUIET)
        )

    def _phase(self) -> BootPhase:
        return BootPhase.POWER_OFF if self._done_at is not None else after(self._milestone)

    def _phase_end(self) -> float:
        """When the running phase is too long."""
        since = self._phase_since if self._done_at is None else self._done_at
        return since + self._profile.care.deadlines.of(self._phase()) * self._factor

    def _idle_end(self) -> float | None:
        """When an idle guest is given up, where it is known what is usual."""
        longest = longest_idle(self._phase(), self._usual)
        if self._idle_since is None or longest is None:
            return None
        return self._idle_since + longest

    def _decide(self, now: float) -> Decision:
        if self._verdict is not None:
            return End(verdict=self._verdict)
        over = self._over(now)
        return Continue() if over is None else self._finish(*over, now)

    def _last_words(self) -> float | None:
        """Until when more is awaited of a guest that is already at its end."""
        return self._panic_until if self._panic_until is not None else self._off_until

    def _over(self, now: float) -> tuple[BootEnd, str] | None:
        """Why it is over by now, if it is."""
        if (last_words := self._last_words()) is not None:
            return self._judge_machine_off() if now >= last_words else None
        if self._profile.care.sample_vcpus and self._liveness() is Liveness.DEAD:
            return BootEnd.HANG, self._history.describe()
        total = self._profile.care.deadlines.total * self._factor
        if now >= self._start + total:
            return BootEnd.DEADLINE, f"not over after {total:g} s"
        if now >= self._phase_end():
            return BootEnd.STALL, f"took too long {goal(self._phase())}"
        if (idle_end := self._idle_end()) is not None and now >= idle_end:
            idle = f"idle and without a word for {now - self._heard:.0f} s"
            return BootEnd.STALL, f"{idle}, and had {goal(self._phase())}"
        return None

    def _judge_machine_off(self) -> tuple[BootEnd, str]:
        if self._panic_until is not None:
            return BootEnd.PANIC, "the kernel panicked"
        if self._done_at is not None:
            return BootEnd.DONE, "the guest was done"
        return BootEnd.RESET, "the machine reset or powered off before the guest was done"

    def _judge_exit(self, run_end: RunEnd) -> tuple[BootEnd, str]:
        if run_end.reason is not RunReason.EXITED:
            has_had_its_say = self._done_at is not None or self._panic_until is not None
            if has_had_its_say and run_end.reason in _NOBODY_LISTENED:
                return self._judge_machine_off()
            end = _NOT_EXITED.get(run_end.reason, BootEnd.CONTROL_LOST)
            return end, f"the run of QEMU ended by {run_end.reason.value} {run_end.detail}".rstrip()
        if run_end.status == 0:
            return self._judge_machine_off()
        if refusal := _REFUSAL.search(self._log):
            said = refusal[0].decode("utf-8", "replace").strip()
            return BootEnd.REFUSED, f"QEMU does not take the image: {said}"
        end = BootEnd.CONTROL_LOST if self._has_spoken else BootEnd.NEVER_STARTED
        return end, f"QEMU ended with status {run_end.status}"

    def _finish(self, end: BootEnd, reason: str, now: float) -> End:
        if self._verdict is None:
            self._verdict = BootVerdict(
                end=end,
                milestone=self._milestone,
                reached=tuple(self._reached),
                samples=tuple(self._samples),
                took=now - self._start,
                console=self._console.finish(),
                reason=reason,
            )
        return End(verdict=self._verdict)
