# SPDX-License-Identifier: GPL-2.0-or-later
"""boot: start a kernel in QEMU on a host, watch it, and keep what it said."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from kwatch.adapters import qemu
from kwatch.adapters.deadguest import Memory, examine_guest
from kwatch.adapters.image import Image, located, names_of
from kwatch.adapters.initramfs import build_initramfs
from kwatch.adapters.qmp import SHUTDOWN, Qmp
from kwatch.domain.autopsy import examine
from kwatch.domain.boot import (
    Accelerator,
    BootEnd,
    BootProfile,
    BootVerdict,
    Continue,
    Decision,
    End,
    QmpEvent,
    Sample,
    Watch,
)
from kwatch.domain.guest import BlobChunk, BlobDone, BlobStarted, ChannelReader, Done, Integrity
from kwatch.domain.guest import End as CommandEnd
from kwatch.domain.host import Need, Slot
from kwatch.domain.job import Handle, JobKind
from kwatch.domain.log.addresses import bare_addresses, with_names
from kwatch.domain.log.console import read_console
from kwatch.domain.observation import BootResult, BuildResult, Trial
from kwatch.domain.postmortem import Autopsy, Machine
from kwatch.domain.run import LOG, Alive, Ended, Output
from kwatch.domain.variant import Variant
from kwatch.domain.vcpu import VcpuSample
from kwatch.errors import InfraError, ungrouped
from kwatch.store import history, queue

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from kwatch.adapters.accelerator import Accelerators
    from kwatch.adapters.pool import Lease, Pool
    from kwatch.domain.job import Job
    from kwatch.store.blobs import Blobs
    from kwatch.store.database import Database, Transaction

log = logging.getLogger(__name__)

PROFILE = "profraw"
# QEMU makes its socket a moment after it was started, and a connection may break.
RECONNECT = 0.05
# Seconds between two signs of life of an attached supervisor, which gives one each second.
LONGEST_GAP = 2.5
# Seconds after the machine's end in which its guest's last word comes, if there is one.
LAST_WORD = 0.5


# How boots end of which the console tells nothing.
_SILENT = frozenset({BootEnd.HANG, BootEnd.STALL, BootEnd.DEADLINE})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Inputs:
    build: BuildResult
    trial: Trial
    variant: Variant


@dataclass(slots=True, kw_only=True)
class _Recording:
    """What a guest has said so far."""

    console: bytearray = field(default_factory=bytearray)
    log: bytearray = field(default_factory=bytearray)
    profile: bytearray = field(default_factory=bytearray)
    is_profile: bool = False
    is_intact: bool = False
    statuses: dict[int, int] = field(default_factory=dict)
    autopsy: Autopsy | None = None
    done: asyncio.Event = field(default_factory=asyncio.Event)


async def run(
    job: Job,
    *,
    pool: Pool,
    blobs: Blobs,
    database: Database,
    scratch: Path,
    busybox: bytes,
    accelerators: Accelerators,
) -> BootResult | None:
    """Boot the kernel that ``job.key`` names."""
    inputs = await database.read(_inputs, job.key)
    if inputs is None:
        return None
    profile = inputs.variant.profile
    need = Need(
        slot=Slot.BOOT,
        arch=profile.arch,
        accelerator=None if profile.accelerator is Accelerator.AUTO else profile.accelerator,
        host=inputs.trial.host,
    )
    async with pool.lease(need, prefer=job.handle) as lease:
        accelerator = await accelerators.best(lease.host, profile)
        digest = inputs.build.artifacts["image"]
        kernel = await lease.host.obtain(digest, partial(blobs.copy, digest), scratch)
        initramfs = await lease.host.put_bytes(
            await asyncio.to_thread(_initramfs, profile, busybox)
        )
        vmlinux = partial(_vmlinux, inputs, pool=pool, blobs=blobs, scratch=scratch)
        session = _Session(
            lease=lease,
            job=job,
            profile=profile,
            accelerator=accelerator,
            image=vmlinux,
        )
        verdict, heard = await session.run(database, kernel=kernel, initramfs=initramfs)
    if verdict.end.is_infra:
        said = heard.log[-1000:].decode("utf-8", "replace").strip()
        raise InfraError(
            f"{lease.host.name}: {verdict.reason}{': ' + said if said else ''}",
            host=lease.host.name,
        )
    artifacts = {qemu.CONSOLE: await blobs.put(bytes(heard.console))}
    if heard.is_intact:
        artifacts["profile"] = await blobs.put(bytes(heard.profile))
    log.info("%s, %s: %s", lease.host.name, verdict.end, verdict.reason)
    console = verdict.console
    names = await names_of(bare_addresses(bytes(heard.console)), vmlinux)
    if names:
        console = read_console(with_names(bytes(heard.console), names))
    finding = examine(verdict.end, verdict.milestone, console, heard.statuses, heard.autopsy)
    return BootResult(
        key=job.key,
        build_key=inputs.build.key,
        end=verdict.end,
        milestone=verdict.milestone,
        finding=await located(finding, vmlinux),
        statuses=heard.statuses,
        autopsy=heard.autopsy,
        names=names,
        artifacts=artifacts,
        host=lease.host.name,
        accelerator=accelerator,
        took=verdict.took,
        boot_seconds=verdict.boot_seconds,
    )


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


class _Session:
    """One guest on one host, from its start until nothing of it is left."""

    def __init__(
        self,
        *,
        lease: Lease,
        job: Job,
        profile: BootProfile,
        accelerator: Accelerator,
        image: Callable[[], Awaitable[Image]],
    ) -> None:
        self._host = lease.host
        self._slot = lease.slot
        self._job = job
        self._profile = profile
        self._accelerator = accelerator
        self._image = image
        self._machine: Qmp | None = None
        self._heard = _Recording()
        self._channel = ChannelReader(max_blob=profile.channel_limit)
        self._clock = _Clock()

    async def run(
        self, database: Database, *, kernel: str, initramfs: str
    ) -> tuple[BootVerdict, _Recording]:
        """Start the guest and watch it to its end."""
        run_id = f"boot-{self._job.id}-{self._job.attempt}"
        folder = await self._host.run_directory(run_id)
        handle = Handle(host=self._host.name, run_id=run_id, slot=self._slot)
        await database.write(queue.remember, self._job, handle)
        spec = qemu.run_spec(self._profile, self._accelerator, kernel=kernel, initramfs=initramfs)
        try:
            await self._host.start(run_id, spec)
            verdict = await self._watch(run_id, folder)
        finally:
            # Also when the boot is over: the guest may sit in its halt loop for ever.
            with contextlib.suppress(InfraError):
                await asyncio.shield(self._host.discard(run_id))
        return verdict, self._heard

    async def _watch(self, run_id: str, folder: str) -> BootVerdict:
        """Feed everything that happens into the domain's Watch until it says End."""
        watch = Watch(self._profile, self._accelerator, self._clock.now())
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
                    self._heard.autopsy = await self._examine(self._machine, folder, Machine.SILENT)
                for task in tasks:
                    task.cancel()
        assert isinstance(decision, End)  # noqa: S101 - the loop ends no other way
        return decision.verdict

    async def _examine(self, machine: Qmp, folder: str, state: Machine) -> Autopsy | None:
        """Ask the guest what it died of, while it is still there."""
        try:
            await machine.stop()
            memory = Memory(machine, self._host, folder)
            return await examine_guest(await machine.vcpus(), memory, await self._image(), state)
        except InfraError as error:
            log.warning("%s: the guest cannot be examined: %s", self._host.name, error)
            return None

    def _tell(self, watch: Watch, happening: object, now: float) -> Decision:
        match happening:
            case Output(file=qemu.CONSOLE, data=data):
                self._heard.console += data
                return watch.receive_console(data, now)
            case Output(file=qemu.CHANNEL, data=data):
                events = self._channel.feed(data)
                for event in events:
                    self._remember(event)
                return watch.receive_channel(events, now)
            case Output(data=data):
                self._heard.log += data
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

    def _remember(self, event: object) -> None:
        heard = self._heard
        match event:
            case BlobStarted(name=name):
                heard.is_profile = name == PROFILE
                if heard.is_profile:
                    heard.profile.clear()
                    heard.is_intact = False
            case BlobChunk(data=data) if heard.is_profile:
                heard.profile += data
            case BlobDone(name=name, integrity=integrity) if name == PROFILE:
                heard.is_intact = integrity is Integrity.INTACT
            case CommandEnd(index=index, status=status):
                heard.statuses[index] = status
            case Done():
                heard.done.set()
            case _:
                pass

    async def _follow(self, run_id: str, happenings: asyncio.Queue[object]) -> None:
        """Everything that the supervisor tells."""
        offsets = dict.fromkeys((LOG, qemu.CONSOLE, qemu.CHANNEL), 0)
        async with contextlib.aclosing(self._host.attach(run_id, offsets)) as frames:
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
        while True:
            with contextlib.suppress(InfraError), ungrouped():
                async with Qmp(await self._host.connect_unix(f"{folder}/{qemu.QMP}")) as machine:
                    self._machine = machine
                    async with asyncio.TaskGroup() as group:
                        sampling = group.create_task(_sample(machine, happenings, wants_sample))
                        await self._forward(machine, folder, happenings)
                        sampling.cancel()
            self._machine = None
            await asyncio.sleep(RECONNECT)

    async def _forward(self, machine: Qmp, folder: str, happenings: asyncio.Queue[object]) -> None:
        """Tell of the machine's events until it is gone, and let it end once it is off."""
        event = await machine.end() or await machine.next_event()
        while event is not None and event.name != SHUTDOWN:
            await happenings.put(event)
            event = await machine.next_event()
        if event is not None:
            if not await self._is_done():
                self._heard.autopsy = await self._examine(machine, folder, Machine.OFF)
            await happenings.put(event)
            await machine.quit()

    async def _is_done(self) -> bool:
        """Whether the guest said that it was done; what it said last may still be on its way."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORD):
                await self._heard.done.wait()
        return self._heard.done.is_set()


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


def _inputs(tx: Transaction, key: str) -> _Inputs | None:
    observation = history.wanted(tx, JobKind.BOOT, key)
    if observation is None:
        return None
    build = history.build(tx, observation.build_key)
    if build is None or not build.available:
        return None
    return _Inputs(
        build=build,
        trial=observation.trial,
        variant=history.variant(tx, observation.trial.variant),
    )


async def _vmlinux(inputs: _Inputs, *, pool: Pool, blobs: Blobs, scratch: Path) -> Image:
    """The image that was booted, where the tools are that can read it."""
    host = pool.with_tools(inputs.build.host)
    digest = inputs.build.artifacts["vmlinux"]
    path = await host.obtain(digest, partial(blobs.copy, digest), scratch)
    return Image(host, path, inputs.variant.toolchain)


def _initramfs(profile: BootProfile, busybox: bytes) -> bytes:
    return build_initramfs(
        busybox=busybox,
        commands=profile.commands,
        counters=profile.counters,
        command_timeout=timedelta(seconds=profile.command_timeout),
    )
