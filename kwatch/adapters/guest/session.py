# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest on a host: started, watched to its end, and asked what it died of."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING

from kwatch.adapters.guest import qemu
from kwatch.adapters.guest.deadguest import Memory, examine_guest
from kwatch.adapters.guest.qmp import SHUTDOWN, Qmp
from kwatch.adapters.host.runs import Cancellation, OnCancel
from kwatch.domain import run
from kwatch.domain.boot.channel import Channels, Done
from kwatch.domain.boot.ending import BootEnd, BootVerdict
from kwatch.domain.boot.vcpu import VcpuSample
from kwatch.domain.boot.watch import Continue, Decision, End, QmpEvent, Sample, Watch
from kwatch.domain.deadguest.autopsy import Machine
from kwatch.domain.lab.backoff import Backoff
from kwatch.domain.run import Alive, Ended, Output
from kwatch.errors import InfraError, ungrouped

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from kwatch.adapters.guest.recording import Recording
    from kwatch.adapters.host.host import Host
    from kwatch.adapters.kernel.image import Image
    from kwatch.domain.boot.care import BootProfile
    from kwatch.domain.boot.phase import BootPhase
    from kwatch.domain.recipe.boot import Accelerator

log = logging.getLogger(__name__)

# QEMU makes its socket a moment after it was started, and a connection may break.
RECONNECT = Backoff(first=0.05, longest=2.0)
# Seconds between two signs of life of an attached supervisor, which gives one each second.
LONGEST_GAP = 2.5
# Seconds after the machine's end in which its guest's last word comes, if there is one.
LAST_WORD = 0.5
LONGEST_DUMP = 300.0

# How boots end of which the console tells nothing.
_SILENT = frozenset({BootEnd.HANG, BootEnd.STALL, BootEnd.DEADLINE})


class _Clock:
    """Seconds that stand still while the host is away: what nobody could hear is no silence."""

    def __init__(self) -> None:
        self._heard = time.monotonic()
        self._away = 0.0

    def now(self) -> float:
        """The time of the guest."""
        return min(time.monotonic(), self._heard + LONGEST_GAP) - self._away

    def hear(self) -> None:
        """The host said something, if only that it lives."""
        now = time.monotonic()
        self._away += max(0.0, now - self._heard - LONGEST_GAP)
        self._heard = now


class Session:
    """One guest on one host, from its start until nothing of it is left.

    What it says goes into ``heard``. ``image`` is the kernel with its symbols, where the tools are
    that can read it, for a guest that ends without a word; None asks no guest what it died of.
    ``usual`` are the seconds that phases usually take. ``cancellation`` decides whether the guest
    goes on if the session is cancelled; None: it is stopped.
    """

    def __init__(
        self,
        host: Host,
        *,
        profile: BootProfile,
        accelerator: Accelerator,
        heard: Recording,
        image: Callable[[], Awaitable[Image]] | None,
        usual: Mapping[BootPhase, float],
        cancellation: Cancellation | None = None,
    ) -> None:
        self._host = host
        self._profile = profile
        self._accelerator = accelerator
        self._image = image
        self._usual = usual
        self._cancellation = cancellation or Cancellation()
        self._machine: Qmp | None = None
        self._heard = heard
        self._done = asyncio.Event()
        # The guest takes the one that its kernel has a driver for.
        lines = (qemu.CHANNEL, qemu.SERIAL)
        self._channels = Channels(lines, max_blob=profile.care.channel_limit)
        self._clock = _Clock()

    async def run(self, run_id: str, *, kernel: str, initramfs: str) -> BootVerdict:
        """Start the guest, or go on with one of this run, and watch it to its end.

        ``kernel`` and ``initramfs`` are paths on the host. Raises InfraError where the host fails.
        """
        folder = await self._host.runs.folder(run_id)
        spec = qemu.run_spec(self._profile, self._accelerator, kernel=kernel, initramfs=initramfs)
        is_left = False
        try:
            await self._host.runs.start(run_id, spec)
            return await self._watch(run_id, folder)
        except asyncio.CancelledError:
            is_left = self._cancellation.on_cancel is OnCancel.LEAVE
            raise
        finally:
            # Also when the boot is over: the guest may sit in its halt loop for ever.
            if not is_left:
                with contextlib.suppress(InfraError):
                    await asyncio.shield(self._host.runs.discard(run_id))

    async def _watch(self, run_id: str, folder: str) -> BootVerdict:
        """Feed everything that happens into the domain's Watch until it says End."""
        watch = Watch(self._profile, self._accelerator, self._clock.now(), self._usual)
        happenings: asyncio.Queue[object] = asyncio.Queue(maxsize=64)
        wants_sample = asyncio.Event()
        decision: Decision = Continue()
        with ungrouped():
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._follow(run_id, happenings)),
                    group.create_task(self._converse(folder, happenings, wants_sample)),
                ]
                while not isinstance(decision, End):
                    if isinstance(decision, Sample):
                        wants_sample.set()
                    now = self._clock.now()
                    happening = await _next(happenings, watch.next_wakeup(now) - now)
                    decision = self._tell(watch, happening, self._clock.now())
                if decision.verdict.end in _SILENT and self._machine is not None:
                    await self._examine(self._machine, folder, Machine.SILENT)
                for task in tasks:
                    task.cancel()
        assert isinstance(decision, End)  # noqa: S101 - the loop ends no other way
        return decision.verdict

    async def _examine(self, machine: Qmp, folder: str, state: Machine) -> None:
        """Ask the guest what it died of, while it is still there."""
        if self._image is None:
            return
        try:
            await machine.stop()
            memory = Memory(machine, self._host, folder)
            vcpus, arch = await machine.vcpus(), self._profile.recipe.arch
            remains = await examine_guest(arch, vcpus, memory, await self._image(), state)
        except InfraError as error:
            log.warning("%s: the guest cannot be examined: %s", self._host.name, error)
        else:
            self._heard.autopsy, self._heard.counters = remains.autopsy, remains.counters
            if self._profile.care.dump_limit:
                await self._dump(machine, f"{folder}/dump")

    async def _dump(self, machine: Qmp, path: str) -> None:
        """Keep the guest's whole memory, where the operator wants that and it is not too much."""
        try:
            await machine.dump(path, patience=LONGEST_DUMP)
            await self._host.account.get(path, self._heard.dump, self._profile.care.dump_limit)
        except InfraError as error:
            log.warning("%s: no dump of the guest is kept: %s", self._host.name, error)

    def _tell(self, watch: Watch, happening: object, now: float) -> Decision:
        match happening:
            case Output(file=run.CONSOLE, data=data):
                self._heard.hear(data)
                return watch.receive_console(data, now)
            case Output(file=qemu.CHANNEL | qemu.SERIAL as file, data=data):
                events = self._channels.feed(file, data)
                for event in events:
                    self._heard.remember(event)
                    if isinstance(event, Done):
                        self._done.set()
                return watch.receive_channel(events, now)
            case Output(data=data):
                self._heard.log += data
                return watch.receive_log(data, now)
            case QmpEvent():
                return watch.receive_qmp(happening, now)
            case [*samples]:
                return watch.receive_samples(
                    [one for one in samples if isinstance(one, VcpuSample)], now
                )
            case Ended(end=end):
                return watch.ended(end, now)
            case _:
                pass
        return watch.tick(now)

    async def _follow(self, run_id: str, happenings: asyncio.Queue[object]) -> None:
        """Everything that the supervisor tells."""
        offsets = dict.fromkeys((run.LOG, run.CONSOLE, *self._channels.names), 0)
        async with contextlib.aclosing(self._host.runs.attach(run_id, offsets)) as frames:
            async for frame in frames:
                self._clock.hear()
                if not isinstance(frame, Alive):
                    await happenings.put(frame)

    async def _converse(
        self, folder: str, happenings: asyncio.Queue[object], wants_sample: asyncio.Event
    ) -> None:
        """Events of the machine, and the registers when they are asked for.

        A connection that breaks is made anew: a machine that is off waits for us.
        """
        failures = 0
        while True:
            with contextlib.suppress(InfraError), ungrouped():
                async with Qmp(
                    await self._host.account.connect_unix(f"{folder}/{qemu.QMP}")
                ) as machine:
                    await machine.go_on()
                    failures = 0
                    self._machine = machine
                    async with asyncio.TaskGroup() as group:
                        sampling = group.create_task(_sample(machine, happenings, wants_sample))
                        await self._forward(machine, folder, happenings)
                        sampling.cancel()
            self._machine = None
            failures += 1
            await asyncio.sleep(RECONNECT.delay(failures))

    async def _forward(self, machine: Qmp, folder: str, happenings: asyncio.Queue[object]) -> None:
        """Tell of the machine's events until it is gone, and let it end once it is off."""
        event = await machine.end() or await machine.next_event()
        while event is not None and event.name != SHUTDOWN:
            await happenings.put(event)
            event = await machine.next_event()
        if event is not None:
            if not await self._is_done():
                await self._examine(machine, folder, Machine.OFF)
            await happenings.put(event)
            await machine.quit()

    async def _is_done(self) -> bool:
        """Whether the guest said that it was done; what it said last may still be on its way."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORD):
                await self._done.wait()
        return self._done.is_set()


async def _sample(
    machine: Qmp, happenings: asyncio.Queue[object], wants_sample: asyncio.Event
) -> None:
    while True:
        await wants_sample.wait()
        wants_sample.clear()
        await happenings.put(await machine.vcpus())


async def _next(happenings: asyncio.Queue[object], seconds: float) -> object:
    """The next thing that happens, or None after so many seconds."""
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            return await happenings.get()
    except TimeoutError:
        return None
