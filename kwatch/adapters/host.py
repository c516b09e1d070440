# SPDX-License-Identifier: GPL-2.0-or-later
"""A host of the lab: commands, files, and supervised runs that outlive a broken connection."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import secrets
import time
from enum import Enum, auto
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from kwatch.adapters import supervisor
from kwatch.adapters.cache import SHORT, TRANSFER, Cache
from kwatch.adapters.frames import FrameParser, RefusedError, run_end
from kwatch.adapters.process import MIB, Completed
from kwatch.adapters.ssh import HostKeyError, SshTransport
from kwatch.adapters.transport import Duplex, LocalTransport, Transport
from kwatch.domain.run import RUN_ID, Alive, Ended, Frame, Output, RunEnd, RunReason, RunSpec
from kwatch.errors import InfraError

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        AsyncIterator,
        Awaitable,
        Callable,
        Collection,
        Mapping,
        Sequence,
    )

    from kwatch.domain.host import HostSpec

# Seconds without a sign of life, of which an attached supervisor gives one each second.
SILENCE = 15.0
# After so many of them it gets no more work meanwhile.
QUIET = 4.0
RENEW_EVERY = 0.8
# Seconds that a cancelled start waits for its answer: a clean stop of the daemon has ten.
START_ANSWER = 5.0
# Seconds a host may stay away: less than the lease, so that nobody is killed behind our back.
PATIENCE = 150.0

# The interpreter is looked up once: on some hosts python3 is a slow script that looks for one.
FIND_PYTHON = (
    "import sys; sys.version_info >= (3, 9) or sys.exit('Python 3.9 or later is needed'); "
    "print(sys.executable)"
)
MAKE_ROOT = (
    'umask 077; mkdir -p "$0/run" "$0/cache/sha256" && cd "$0" && pwd -P && '
    'python3 -I -S -c "$2" && if test -e "$1"; then echo present; else echo absent; fi'
)
# Who is killed while he talks ends his words like one who is done: only their number tells.
WRITE = (
    'umask 077; mkdir -p "$(dirname "$0")" && part="$0.$1.part" && cat >"$part" && '
    'test "$(wc -c <"$part")" -eq "$2" && mv -f "$part" "$0" && exit 0; '
    'rm -f "$part"; echo "not all of $0 came" >&2; exit 1'
)
READ = (
    'test -f "$0" && ! test -L "$0" || { echo "$0 is no regular file" >&2; exit 1; }; '
    'exec cat <"$0"'
)


# The ends of a run for which its host is to blame, and what to do where nothing more is known.
HOST_FAILED = {
    RunReason.LOST: "look into the log of the host",
    RunReason.NO_ROOM: "its disk is full, make room there",
}


class RunLostError(InfraError):
    """The host ended a run: neither its command did, nor we."""


class OnCancel(Enum):
    """What a cancelled wait means for the run: the daemon comes back to it, or nobody does."""

    LEAVE = auto()
    STOP = auto()


class Host:
    """One host, reached by ``transport`` (by default the one its specification asks for).

    ``owner`` names whoever uploads: the same over restarts, so that an upload goes on where it
    broke, and not that of another daemon. Every failure is an InfraError that names the host. Use
    as ``async with``: leaving closes the connections, and leaves what is supervised to its lease.
    """

    def __init__(
        self,
        spec: HostSpec,
        *,
        transport: Transport | None = None,
        owner: str | None = None,
        patience: float = PATIENCE,
    ) -> None:
        self.spec = spec
        self.name = spec.name
        self._transport: Transport = transport or (
            LocalTransport(spec.name) if spec.address is None else SshTransport(spec)
        )
        self.cache = Cache(self, self._transport, owner=owner or secrets.token_hex(4))
        self._patience = patience
        self._program = Path(supervisor.__file__)
        digest = hashlib.sha256(self._program.read_bytes()).hexdigest()
        self._supervisor = f"supervisor-{digest[:16]}.py"
        self.looked_at: float | None = None
        # Why it does not answer those who are attached to a run there; empty while it does.
        self.trouble = ""
        self._root: str | None = None
        self._python = "python3"
        self._preparing = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Drop the connections; the next use connects again."""
        await self._transport.close()

    async def prepare(self) -> str:
        """Make kwatch's folder on the host what it must be; its absolute path."""
        async with self._preparing:
            if self._root is None:
                self._root = await self._make_root()
            return self._root

    async def _make_root(self) -> str:
        made = await self._transport.run(
            ["sh", "-c", MAKE_ROOT, self.spec.directory, self._supervisor, FIND_PYTHON],
            timeout=SHORT,
        )
        lines = made.text().splitlines()[-3:]
        if len(lines) < 3 or not lines[0].startswith("/"):
            raise InfraError(
                f"{self.name}: no folder, but {made.text()[-200:]!r}, came from its login shell",
                host=self.name,
            )
        root, self._python, state = lines
        if state == "absent":
            part = f"{root}/{self._supervisor}.{secrets.token_hex(4)}.part"
            await self._transport.upload(self._program, part)
            await self._transport.run(
                ["mv", "-f", part, f"{root}/{self._supervisor}"], timeout=SHORT
            )
        return root

    # --- commands and files -----------------------------------------------------------------------

    async def run(
        self,
        argv: Sequence[str],
        *,
        timeout: float,
        stdin: bytes | AsyncIterator[bytes] | None = None,
        limit: int = 64 * MIB,
        check: bool = True,
    ) -> Completed:
        """What a short command says, in the home of the user there; see process.run()."""
        return await self._transport.run(
            argv, stdin=stdin, timeout=timeout, limit=limit, check=check
        )

    async def write(self, path: str, data: bytes) -> None:
        """Make ``path``, below kwatch's folder or absolute, a file with this content at once."""
        target = await self.path(path)
        argv = ["sh", "-c", WRITE, target, secrets.token_hex(4), str(len(data))]
        await self.run(argv, stdin=data, timeout=TRANSFER)

    async def read(self, path: str, limit: int) -> bytes:
        """The content of a regular file of at most ``limit`` bytes; anything else: InfraError.

        A link is never followed: what a sandbox wrote could lead to what it cannot see.
        """
        found = await self.run(["sh", "-c", READ, await self.path(path)], timeout=TRANSFER,
                               limit=limit)  # fmt: skip
        return found.stdout

    async def path(self, name: str) -> str:
        """The absolute path of ``name`` below kwatch's folder on the host."""
        root = await self.prepare()
        return name if name.startswith("/") else f"{root}/{name}"

    async def get(self, path: str, destination: Path, limit: int) -> None:
        """Fetch a regular file of at most ``limit`` bytes; ``destination`` appears complete."""
        part = destination.with_name(f".{destination.name}.{secrets.token_hex(4)}.part")
        try:
            async with asyncio.timeout(TRANSFER):
                await self._transport.download(await self.path(path), part, limit)
            await asyncio.to_thread(part.replace, destination)
        except TimeoutError:
            raise InfraError(
                f"{self.name}: {path} did not come within {TRANSFER:g} s", host=self.name
            ) from None
        finally:
            await asyncio.to_thread(part.unlink, missing_ok=True)

    # --- files by their content, see Cache --------------------------------------------------------

    async def keep(self, path: str) -> str:
        """Copy a file that was made on the host into its cache; its SHA-256 (hex)."""
        return await self.cache.keep(path)

    async def cached(self, digest: str) -> str | None:
        """The path of the file with this SHA-256 (hex) if the host has it; it then stays on."""
        return await self.cache.find(digest)

    async def put(self, digest: str, source: Path) -> str:
        """Have the file with this SHA-256 (hex) on the host; its path there."""
        return await self.cache.put(digest, source)

    async def obtain(
        self, digest: str, fetch: Callable[[Path], Awaitable[None]], scratch: Path
    ) -> str:
        """The same for a file that ``fetch`` writes to a path in ``scratch`` if it is needed."""
        return await self.cache.obtain(digest, fetch, scratch)

    async def put_bytes(self, data: bytes) -> str:
        """Have these bytes as a file on the host; its path there."""
        return await self.cache.put_bytes(data)

    # --- supervised runs --------------------------------------------------------------------------

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
            await asyncio.wait({asking}, timeout=START_ANSWER)
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
        answer = await self._ask("reap", request={"keep": sorted(keep)}, timeout=600)
        return tuple(answer["stopped"])

    async def runs(self) -> tuple[str, ...]:
        """The ids of all runs that have a folder on the host."""
        answer = await self._ask("list")
        return tuple(str(run["id"]) for run in answer["runs"])

    async def probe(self) -> dict[str, Any]:
        """What the host has and is; the fields are those of the verb in supervisor.py."""
        return await self._ask("probe", parent="")

    async def run_directory(self, run_id: str) -> str:
        """The absolute folder of a run."""
        if not RUN_ID.fullmatch(run_id):
            raise ValueError(f"{run_id!r} is no run id")
        return await self.path(f"run/{run_id}")

    async def connect_unix(self, path: str) -> Duplex:
        """Connect to a unix socket on the host."""
        return await self._transport.connect_unix(await self.path(path))

    async def attach(self, run_id: str, offsets: Mapping[str, int]) -> AsyncGenerator[Frame]:
        """Follow the files named in ``offsets`` from there on, until the run ends.

        Keeps the lease alive, so iterate without long pauses, and leave it by aclose(). A broken
        connection is made anew and nothing is lost; a host that stays away for longer than the
        patience raises InfraError, one that is another now at once. The last frame is Ended, but
        RunLostError is raised where it was the host that failed.
        """
        await self.run_directory(run_id)
        try:
            async with contextlib.aclosing(self._follow(run_id, dict(offsets))) as frames:
                async for frame in frames:
                    yield frame
        finally:
            # Who else is attached says so again.
            self.trouble = ""

    async def _follow(self, run_id: str, reached: dict[str, int]) -> AsyncGenerator[Frame]:
        away_since: float | None = None
        pause = 0.1
        while True:
            try:
                async for frame in self._attach_once(run_id, reached):
                    away_since, pause, self.trouble = None, 0.1, ""
                    if isinstance(frame, Output):
                        reached[frame.file] = frame.offset + len(frame.data)
                    if isinstance(frame, Ended) and frame.end.reason in HOST_FAILED:
                        raise await self._lost(run_id, frame.end)
                    yield frame
                    if isinstance(frame, Ended):
                        return
                # Ended without a last word: maybe kwatch's folder was removed under us.
                reason: InfraError | None = None
                self._root = None
            except RefusedError as error:
                raise InfraError(f"{self.name}: {error}", host=self.name) from None
            except (HostKeyError, RunLostError):
                raise
            except InfraError as error:
                reason = error
            now = time.monotonic()
            away_since = away_since or now
            self.trouble = str(reason or f"{self.name}: the connection ended")
            if now - away_since > self._patience:
                raise InfraError(
                    f"{self.name} stayed away for {self._patience:g} s, run {run_id} is given up: "
                    f"{reason or 'the connection ended'}",
                    host=self.name,
                )
            await asyncio.sleep(pause)
            pause = min(pause * 2, 5.0)

    async def _lost(self, run_id: str, end: RunEnd) -> RunLostError:
        """What to raise for a run that its host ended; nobody is to go on with it."""
        with contextlib.suppress(InfraError):
            await self.discard(run_id)
        return RunLostError(
            f"{self.name}: run {run_id} was ended there ({end.reason.value}) after {end.took:.0f} "
            f"s: {end.detail or HOST_FAILED[end.reason]}",
            host=self.name,
        )

    async def _attach_once(self, run_id: str, reached: Mapping[str, int]) -> AsyncGenerator[Frame]:
        root = await self.prepare()
        argv = self._supervise(root, "attach", f"{root}/run", run_id)
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
                raise InfraError(self.trouble, host=self.name) from None

    def _fall_silent(self) -> None:
        self.trouble = f"{self.name} is silent. Look whether it is up and its network works"

    async def supervised(
        self,
        run_id: str,
        spec: RunSpec,
        on_output: Callable[[Output], Awaitable[None]],
        *,
        on_cancel: OnCancel,
    ) -> RunEnd:
        """Run a supervised command to its end, giving each piece of output to ``on_output``."""
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
            if on_cancel is OnCancel.STOP:
                with contextlib.suppress(InfraError):
                    # Without a folder, nobody takes it for one to go on with.
                    await asyncio.shield(self.discard(run_id))
            raise
        raise InfraError(f"{self.name}: run {run_id} ended without saying how", host=self.name)

    def _supervise(self, root: str, *words: str) -> list[str]:
        return [self._python, "-I", "-S", f"{root}/{self._supervisor}", *words]

    async def _ask(
        self,
        verb: str,
        *run_id: str,
        parent: str = "/run",
        request: Mapping[str, object] | None = None,
        timeout: float = 2 * SHORT,
    ) -> dict[str, Any]:
        """One short conversation with the supervisor.

        Once more where the folder was removed under us: no verb does harm when it comes twice.
        """
        for name in run_id:
            await self.run_directory(name)
        answered = await self._converse(verb, parent, run_id, request, timeout)
        if not answered.stdout.startswith(b"{"):
            self._root = None
            answered = await self._converse(verb, parent, run_id, request, timeout)
        with contextlib.suppress(ValueError):
            answer = json.loads(answered.stdout)
            if answered.status == 0 and isinstance(answer, dict):
                return answer
        output = (answered.stderr or answered.stdout).decode("utf-8", "replace").strip()
        raise InfraError(
            f"{self.name}: the supervisor could not {verb} {' '.join(run_id)}(status "
            f"{answered.status}): {output[-2000:]}",
            host=self.name,
        )

    async def _converse(
        self,
        verb: str,
        parent: str,
        run_id: Sequence[str],
        request: Mapping[str, object] | None,
        timeout: float,
    ) -> Completed:
        root = await self.prepare()
        return await self.run(
            self._supervise(root, verb, f"{root}{parent}", *run_id),
            stdin=json.dumps(request or {}).encode(),
            timeout=timeout,
            check=False,
        )
