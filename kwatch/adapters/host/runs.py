# SPDX-License-Identifier: GPL-2.0-or-later
"""The supervised runs of a host: commands that outlive the connection they were started over."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from contextvars import ContextVar
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from kwatch.adapters.host.account import SHORT
from kwatch.adapters.host.frames import FrameParser, RefusedError, run_end
from kwatch.adapters.host.ssh import HostKeyError
from kwatch.adapters.process import MIB
from kwatch.domain.lab.backoff import Backoff
from kwatch.domain.run import RUN_ID, Alive, Ended, Frame, Output, RunEnd, RunReason, RunSpec
from kwatch.errors import InfraError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping

    from kwatch.adapters.host.account import Account
    from kwatch.adapters.host.transport import Transport

FOLDER = "run"
# Seconds without a sign of life, of which an attached supervisor gives one each second.
SILENCE = 15.0
# After so many of them the host gets no more work meanwhile.
QUIET = 4.0
RENEW_EVERY = 0.8
# Seconds that a cancelled start waits for its answer. A stop of the daemon waits for less.
START_ANSWER = 5.0
# Seconds a host may stay away: less than the lease, so that nobody is killed behind our back.
PATIENCE = 150.0
REAPING = 600.0
REATTACH = Backoff(first=0.1, longest=5.0)

# How a run ends while no daemon is attached; its job starts it anew.
ABANDONED = {RunReason.LEASE, RunReason.LOST}

# The ends of a run for which its host is to blame, and what to do where nothing more is known.
HOST_FAILED = {
    RunReason.LOST: "look into the log of the host",
    RunReason.NO_ROOM: "its disk is full, make room there",
}


class RunLostError(InfraError):
    """The host ended a run: neither its command did, nor we."""


class OnCancel(Enum):
    """What becomes of a run when the task that follows it is cancelled.

    LEAVE: it goes on under its lease, for the next start of the daemon to adopt. STOP: it is
    stopped and its folder deleted.
    """

    LEAVE = auto()
    STOP = auto()


@dataclass(slots=True)
class Cancellation:
    """The reason for a cancellation that may come: set before the task is cancelled."""

    on_cancel: OnCancel = OnCancel.STOP


_OF_JOB: ContextVar[Cancellation | None] = ContextVar("cancellation", default=None)


def cancellation_of_job(given: Cancellation | None = None) -> Cancellation:
    """The cancellation of the job that this task works for; ``given`` sets it for its stage.

    Outside of a job it is a new one that stops what runs.
    """
    if given is not None:
        _OF_JOB.set(given)
    return _OF_JOB.get() or Cancellation()


class Runs:
    """What runs on a host under its supervisor, each run by its id (a RUN_ID, or ValueError).

    ``patience`` is for how many seconds a host may stay away from those who follow a run there.
    """

    def __init__(self, account: Account, transport: Transport, *, patience: float) -> None:
        self._account = account
        self._transport = transport
        self._patience = patience
        # Why the host does not answer those who are attached to a run; empty while it does.
        self.trouble = ""

    async def start(self, run_id: str, spec: RunSpec) -> None:
        """Start a supervised run, unless this id was started before.

        To be cancelled waits for the answer: the host starts it all the same, and whoever then
        stops the run must find it.
        """
        request = {
            "argv": spec.argv,
            "cwd": spec.cwd,
            "env": dict(spec.env),
            "deadline_s": spec.deadline,
            "lease_s": spec.lease,
            "files": dict(spec.limits),
            "nice": spec.nice,
        }
        asking = asyncio.ensure_future(  # noqa: TID251 - it ends here in any case
            self._ask("start", run_id, request=request)
        )
        try:
            await asyncio.shield(asking)
        except asyncio.CancelledError:
            try:
                await asyncio.wait({asking}, timeout=START_ANSWER)
            finally:
                if not asking.cancel():
                    asking.exception()
            raise

    async def stop(self, run_id: str) -> RunEnd | None:
        """Kill the run and wait until nothing of it is left; None if it was never started."""
        answer = await self._ask("stop", run_id)
        return None if answer["exit"] is None else run_end(answer["exit"])

    async def discard(self, run_id: str) -> None:
        """Stop the run and delete its folder with all that it wrote."""
        await self._ask("discard", run_id)

    async def reap(self, keep: Collection[str]) -> tuple[str, ...]:
        """Stop and delete every run but those to ``keep``; the ids of those still running."""
        answer = await self._ask("reap", request={"keep": sorted(keep)}, timeout=REAPING)
        return tuple(answer["stopped"])

    async def ids(self) -> tuple[str, ...]:
        """The ids of all runs that have a folder on the host."""
        answer = await self._ask("list")
        return tuple(str(run["id"]) for run in answer["runs"])

    async def adopt(self, run_id: str) -> bool:
        """Whether there is a run of this id to follow, running or ended.

        One that ended by its lease, or with its host, is deleted: it can be started anew.
        """
        answer = await self._ask("list")
        exits = {run["id"]: run["exit"] for run in answer["runs"] if run["state"] != "prepared"}
        if _checked(run_id) not in exits:
            return False
        if exits[run_id] is None or run_end(exits[run_id]).reason not in ABANDONED:
            return True
        await self.discard(run_id)
        return False

    async def folder(self, run_id: str) -> str:
        """The absolute folder of a run."""
        return await self._account.path(f"{FOLDER}/{_checked(run_id)}")

    async def attach(self, run_id: str, offsets: Mapping[str, int]) -> AsyncGenerator[Frame]:
        """Follow the files named in ``offsets`` from there on, until the run ends.

        Keeps the lease alive, so iterate without long pauses, and leave it by aclose(). A broken
        connection is made anew and nothing is lost; a host that stays away for longer than the
        patience raises InfraError, one that is another now at once. The last frame is Ended, but
        RunLostError is raised where it was the host that failed.
        """
        try:
            async with contextlib.aclosing(self._follow(_checked(run_id), dict(offsets))) as frames:
                async for frame in frames:
                    yield frame
        finally:
            # Who else is attached says so again.
            self.trouble = ""

    async def _follow(self, run_id: str, reached: dict[str, int]) -> AsyncGenerator[Frame]:
        away_since: float | None = None
        failures = 0
        while True:
            try:
                async for frame in self._attach_once(run_id, reached):
                    away_since, failures, self.trouble = None, 0, ""
                    if isinstance(frame, Output):
                        reached[frame.file] = frame.offset + len(frame.data)
                    if isinstance(frame, Ended) and frame.end.reason in HOST_FAILED:
                        raise await self._lost(run_id, frame.end)
                    yield frame
                    if isinstance(frame, Ended):
                        return
                # Ended without a last word: maybe kwatch's folder was removed under us.
                reason: InfraError | None = None
                self._account.forget()
            except RefusedError as error:
                raise InfraError(
                    f"{self._account.host}: {error}", host=self._account.host
                ) from None
            except (HostKeyError, RunLostError):
                raise
            except InfraError as error:
                reason = error
            now = time.monotonic()
            away_since = away_since or now
            self.trouble = str(reason or f"{self._account.host}: the connection ended")
            if now - away_since > self._patience:
                raise InfraError(
                    f"{self._account.host} stayed away for {self._patience:g} s, run {run_id} is "
                    f"given up: {reason or 'the connection ended'}",
                    host=self._account.host,
                )
            failures += 1
            await asyncio.sleep(REATTACH.delay(failures))

    async def _lost(self, run_id: str, end: RunEnd) -> RunLostError:
        """What to raise for a run that its host ended; nobody is to go on with it."""
        with contextlib.suppress(InfraError):
            await self.discard(run_id)
        return RunLostError(
            f"{self._account.host}: run {run_id} was ended there ({end.reason.value}) after "
            f"{end.took:.0f} s: {end.detail or HOST_FAILED[end.reason]}",
            host=self._account.host,
        )

    async def _attach_once(self, run_id: str, reached: Mapping[str, int]) -> AsyncGenerator[Frame]:
        argv = await self._account.supervisor("attach", FOLDER, run_id)
        parser = FrameParser()
        async with contextlib.AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(SILENCE):
                    duplex = await stack.enter_async_context(self._transport.open(argv))
                duplex.writer.write(json.dumps({"offsets": dict(reached)}).encode() + b"\n")
                renewed = time.monotonic()
                while True:
                    doubt = asyncio.get_running_loop().call_later(QUIET, self._fall_silent)
                    try:
                        async with asyncio.timeout(SILENCE):
                            data = await duplex.reader.read(MIB)
                    finally:
                        doubt.cancel()
                    if not data:
                        return
                    for frame in parser.feed(data):
                        yield frame
                    if time.monotonic() - renewed >= RENEW_EVERY:
                        duplex.writer.write(b"\n")
                        renewed = time.monotonic()
            except TimeoutError:
                self._fall_silent()
                raise InfraError(self.trouble, host=self._account.host) from None

    def _fall_silent(self) -> None:
        self.trouble = (
            f"{self._account.host} is silent. Look whether it is up and its network works"
        )

    async def supervised(
        self,
        run_id: str,
        spec: RunSpec,
        on_output: Callable[[Output], Awaitable[None]],
        *,
        cancellation: Cancellation,
    ) -> RunEnd:
        """Run a supervised command to its end, giving each piece of output to ``on_output``.

        ``cancellation`` decides what becomes of the run if this is cancelled.
        """
        try:
            await self.start(run_id, spec)
            async with contextlib.aclosing(
                self.attach(run_id, dict.fromkeys(spec.limits, 0))
            ) as frames:
                async for frame in frames:
                    match frame:
                        case Output():
                            await on_output(frame)
                        case Alive():
                            pass
                        case Ended(end=end):
                            return end
        except asyncio.CancelledError:
            if cancellation.on_cancel is OnCancel.STOP:
                with contextlib.suppress(InfraError):
                    # Without a folder, nobody takes it for one to go on with.
                    await asyncio.shield(self.discard(run_id))
            raise
        raise InfraError(
            f"{self._account.host}: run {run_id} ended without saying how", host=self._account.host
        )

    async def _ask(
        self,
        verb: str,
        *run_id: str,
        request: Mapping[str, object] | None = None,
        timeout: float = 2 * SHORT,
    ) -> dict[str, Any]:
        words = map(_checked, run_id)
        return await self._account.ask(verb, FOLDER, *words, request=request, timeout=timeout)


def _checked(run_id: str) -> str:
    """A run's id, which becomes the name of a folder."""
    if not RUN_ID.fullmatch(run_id):
        raise ValueError(f"{run_id!r} is no run id")
    return run_id
