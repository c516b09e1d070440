# SPDX-License-Identifier: GPL-2.0-or-later
"""What an attached supervisor says, as values: the other end of ``supervisor.py attach``."""

from __future__ import annotations

import json
from typing import Any

from kwatch.domain.run import Alive, Ended, Frame, Output, RunEnd, RunReason
from kwatch.errors import InfraError

LONGEST_HEADER = 64 << 10
LONGEST_DATA = 1 << 20


def run_end(answer: dict[str, Any]) -> RunEnd:
    """The supervisor's ``exit`` object as a value."""
    return RunEnd(
        reason=RunReason(answer["reason"]),
        status=int(answer["status"]),
        took=float(answer["took"]),
        max_rss_kib=int(answer["max_rss_kib"]),
        cpu=float(answer["cpu_s"]),
        detail=str(answer["detail"]),
    )


class RefusedError(InfraError):
    """The supervisor is well and says no: asking again would not help."""


class FrameParser:
    """Bytes in, frames out, whatever way the bytes were cut.

    Bytes that no supervisor would send raise InfraError; its refusal raises RefusedError.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._header: tuple[str, int, int] | None = None

    def feed(self, data: bytes) -> list[Frame]:
        """All frames that are complete now."""
        self._buffer += data
        frames: list[Frame] = []
        while (frame := self._next()) is not None:
            frames.append(frame)
        return frames

    def _next(self) -> Frame | None:
        if self._header is None:
            end = self._buffer.find(b"\n")
            if end < 0:
                if len(self._buffer) > LONGEST_HEADER:
                    raise self._strange(bytes(self._buffer[:200]))
                return None
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            frame = self._read_header(line)
            if frame is not None:
                return frame
        return self._read_data()

    def _read_header(self, line: bytes) -> Frame | None:
        try:
            header = json.loads(line)
            if "error" in header:
                raise RefusedError(f"the supervisor refused: {header['error']}")
            if "alive" in header:
                return Alive()
            if "exit" in header:
                return Ended(end=run_end(header["exit"]))
            name, offset, size = header["file"], int(header["offset"]), int(header["size"])
        except (ValueError, LookupError, TypeError) as error:
            raise self._strange(line) from error
        if not isinstance(name, str) or not 0 <= size <= LONGEST_DATA or offset < 0:
            raise self._strange(line)
        self._header = (name, offset, size)
        return None

    def _read_data(self) -> Frame | None:
        if self._header is None:
            return None
        name, offset, size = self._header
        if len(self._buffer) < size:
            return None
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        self._header = None
        return Output(file=name, offset=offset, data=data)

    def _strange(self, what: bytes) -> InfraError:
        return InfraError(
            f"the supervisor sent what it never would: {what[:200]!r}; does the login shell of "
            f"the host print something by itself?"
        )
