# SPDX-License-Identifier: GPL-2.0-or-later
"""The QEMU Machine Protocol over any stream (QEMU: docs/interop/qmp-spec.rst).

qemu.qmp connects by itself to an address of this machine; our socket is on another host, behind
SSH, and comes as a stream that is connected already.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any, Self

from kwatch.adapters.guest.registers import code_command, parse_registers, tells_halts, with_code
from kwatch.domain.boot.watch import QmpEvent
from kwatch.errors import InfraError

if TYPE_CHECKING:
    from kwatch.adapters.host.transport import Duplex
    from kwatch.domain.boot.vcpu import VcpuSample

LONGEST_MESSAGE = 8 << 20
PATIENCE = 10.0
DUMP_LOOK = 0.2
# A guest can cause events by the thousand; only these mean an end.
SHUTDOWN = "SHUTDOWN"
EVENTS = frozenset({SHUTDOWN, "RESET", "GUEST_PANICKED", "GUEST_CRASHLOADED", "WATCHDOG"})
KEPT_EVENTS = 100


class QmpError(InfraError):
    """QEMU refused a command, or the connection to it broke."""


class Qmp:
    """A session with one QEMU. Use as ``async with Qmp(duplex) as qmp``.

    A broken connection raises QmpError from execute() and ends next_event(); it never cancels
    what runs beside it.
    """

    def __init__(self, duplex: Duplex) -> None:
        self._duplex = duplex
        self._group = asyncio.TaskGroup()
        self._reading: asyncio.Task[None] | None = None
        self._events: asyncio.Queue[QmpEvent | None] = asyncio.Queue(KEPT_EVENTS)
        self._greeted: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._pending: dict[int, asyncio.Future[Any]] = {}
        self._number = 0
        self._broken: str | None = None

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        self._reading = self._group.create_task(self._read())
        try:
            async with asyncio.timeout(PATIENCE):
                await self._greeted
            await self.execute("qmp_capabilities")
        except TimeoutError:
            await self._leave()
            raise QmpError("QEMU did not greet on its control socket") from None
        except BaseException:
            await self._leave()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._leave()

    async def _leave(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
        self._duplex.writer.close()
        await self._group.__aexit__(None, None, None)

    async def execute(self, command: str, **arguments: object) -> Any:  # noqa: ANN401 - JSON
        """The ``return`` of a command."""
        if self._broken is not None:
            raise QmpError(self._broken)
        self._number += 1
        number = self._number
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._pending[number] = answer
        request = {"execute": command, "arguments": arguments, "id": number}
        try:
            async with asyncio.timeout(PATIENCE):
                self._duplex.writer.write(json.dumps(request).encode() + b"\n")
                await self._duplex.writer.drain()
                return await answer
        except TimeoutError:
            raise QmpError(f"QEMU did not answer {command} within {PATIENCE:g} s") from None
        except OSError as error:
            raise QmpError(f"QEMU's control socket broke at {command}: {error}") from error
        finally:
            self._pending.pop(number, None)

    async def next_event(self) -> QmpEvent | None:
        """The next event that tells of an end; None when QEMU is gone."""
        return await self._events.get()

    async def end(self) -> QmpEvent | None:
        """The end of the machine if it came before this session."""
        status = await self.execute("query-status")
        return QmpEvent(name=SHUTDOWN) if status.get("status") == "shutdown" else None

    async def vcpus(self) -> tuple[VcpuSample, ...]:
        """The registers of all vCPUs that were started."""
        text = await self._monitor("info registers -a", cpu=0)
        samples = parse_registers(text)
        if tells_halts(text):
            return samples
        codes = [await self._monitor(code_command(one), cpu=n) for n, one in enumerate(samples)]
        return tuple(with_code(one, code) for one, code in zip(samples, codes, strict=True))

    async def stop(self) -> None:
        """Let no vCPU run any more; registers and memory stay as they are."""
        await self.execute("stop")

    async def go_on(self) -> None:
        """Let vCPUs run again that a session before this one stopped, and was cut off then."""
        status = await self.execute("query-status")
        if status.get("status") == "paused":
            await self.execute("cont")

    async def save(self, address: int, size: int, path: str, *, cpu: int) -> None:
        """Write memory at a virtual address, as a vCPU sees it, into a file of the host.

        QmpError where nothing is mapped.
        """
        # QEMU counts addresses as signed.
        signed = address - (1 << 64) if address >> 63 else address
        await self.execute("memsave", val=signed, size=size, filename=path, **{"cpu-index": cpu})

    async def dump(self, path: str, *, patience: float) -> None:
        """Write all memory into a file of the host, in makedumpfile(8)'s flattened format.

        QmpError where it fails, or is not done within so many seconds.
        """
        await self.execute(
            "dump-guest-memory", paging=False, protocol=f"file:{path}", detach=True,
            format="kdump-zlib",
        )  # fmt: skip
        for _ in range(round(patience / DUMP_LOOK)):
            state = await self.execute("query-dump")
            if state["status"] == "completed":
                return
            if state["status"] != "active":
                raise QmpError("QEMU could not write the dump: is there room on the host?")
            await asyncio.sleep(DUMP_LOOK)
        raise QmpError(f"a dump of the guest was not done within {patience:g} s")

    async def quit(self) -> None:
        """Tell QEMU to end; that it is gone already is fine."""
        with contextlib.suppress(QmpError):
            await self.execute("quit")

    async def _monitor(self, line: str, *, cpu: int) -> str:
        """What QEMU's monitor for people says."""
        command = {"command-line": line, "cpu-index": cpu}
        return str(await self.execute("human-monitor-command", **command))

    async def _read(self) -> None:
        buffer = b""
        reason = "QEMU closed its control socket"
        try:
            while data := await self._duplex.reader.read(1 << 16):
                *lines, buffer = (buffer + data).split(b"\n")
                for line in lines:
                    self._take(json.loads(line))
                if len(buffer) > LONGEST_MESSAGE:
                    raise ValueError("a message without an end")  # noqa: TRY301
        except (OSError, ValueError, LookupError, TypeError, InfraError) as error:
            reason = f"QEMU's control socket broke: {error}"
        self._broken = reason
        for waiting in (self._greeted, *self._pending.values()):
            if not waiting.done():
                waiting.set_exception(QmpError(reason))
        # Looked at once, so that asyncio does not complain where nobody waited any more.
        self._greeted.cancelled() or self._greeted.exception()
        self._put(None)

    def _take(self, message: dict[str, Any]) -> None:
        if "QMP" in message:
            if not self._greeted.done():
                self._greeted.set_result(message)
        elif "event" in message:
            if message["event"] in EVENTS:
                reason = message.get("data", {}).get("reason", "")
                self._put(QmpEvent(name=str(message["event"]), reason=str(reason)))
        else:
            waiting = self._pending.get(message.get("id", 0))
            if waiting is not None and not waiting.done():
                if "error" in message:
                    waiting.set_exception(QmpError(f"QEMU: {message['error'].get('desc')}"))
                else:
                    waiting.set_result(message["return"])

    def _put(self, event: QmpEvent | None) -> None:
        if self._events.full():
            self._events.get_nowait()
        self._events.put_nowait(event)
