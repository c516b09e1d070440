# SPDX-License-Identifier: GPL-2.0-or-later
"""A relay on loopback that counts what passes, and cuts the line when it is told to."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Self

from tests.lab.process import LOOPBACK

PIECE = 64 << 10


class Relay:
    """Connections to ``port`` go on to ``target``, a port of loopback; an async context manager.

    ``sent`` counts the bytes that clients sent since the last ``reset()``, all together. Once it
    reaches ``cut_after`` all connections break, and the next ones go through.
    """

    def __init__(self, target: int) -> None:
        self.port = 0
        self.sent = 0
        self.cut_after: int | None = None
        self._target = target
        self._open: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, LOOPBACK, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()

    def reset(self, *, cut_after: int | None = None) -> None:
        """Count from nothing."""
        self.sent = 0
        self.cut_after = cut_after

    def cut(self) -> None:
        """Break every connection, without a word."""
        self.cut_after = None
        for writer in self._open:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        onward_reader, onward = await asyncio.open_connection(LOOPBACK, self._target)
        ends = {writer, onward}
        self._open |= ends
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._forth(reader, onward))
                group.create_task(_back(onward_reader, writer))
        finally:
            self._open -= ends
            for end in ends:
                end.close()

    async def _forth(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while (data := await reader.read(PIECE)) and not writer.is_closing():
                self.sent += len(data)
                writer.write(data)
                await writer.drain()
                if self.cut_after is not None and self.sent >= self.cut_after:
                    self.cut()
                    return
            writer.write_eof()


async def _back(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while (data := await reader.read(PIECE)) and not writer.is_closing():
            writer.write(data)
            await writer.drain()
        writer.write_eof()
