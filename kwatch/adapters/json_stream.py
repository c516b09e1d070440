# SPDX-License-Identifier: GPL-2.0-or-later
"""A pull reader for JSON texts that are too big to be loaded.

The caller walks through objects and arrays and says of each value whether it is decoded or
skipped; memory holds one chunk and one decoded value, whatever the size of the whole. What is
skipped is only followed to its end, by brackets and strings: it is not checked further. A run of
small arrays and objects, which is what a coverage export mostly consists of, is one match of a
regular expression.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

VALUE_BYTES = 1 << 20

_SPACE = re.compile(rb"[ \t\r\n]*+")
_SCALAR = re.compile(rb"[-+.0-9a-zA-Z]++")
# Only single characters are repeated possessively: Python 3.11.2 loses its place in a possessive
# group. Each alternative begins with a character of its own, so nothing is tried twice.
_PLAIN = rb'[^\[\]{}"]'
_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*"'
_FLAT = rb"\[" + _PLAIN + rb"*+(?:" + _STRING + _PLAIN + rb"*+)*\]"
_RECORD = rb"\{" + _PLAIN + rb"*+(?:(?:" + _STRING + rb"|" + _FLAT + rb")" + _PLAIN + rb"*+)*\}"

# Inside a value: as much as possible that is whole in itself, or else one bracket.
_TOKEN = re.compile(
    rb"(?:" + rb"|".join((_PLAIN + rb"++", _STRING, _FLAT, _RECORD)) + rb")+|[\[{\]}]", re.DOTALL
)
# At its start: here a whole array must not take the arrays beside it along.
_FIRST = re.compile(rb"[\[{]|" + _STRING, re.DOTALL)
_OPEN = b"[{"
_CLOSE = b"]}"


class JsonStreamError(ValueError):
    """The text is not JSON, ends too early, or holds a value larger than allowed."""


class JsonStream:
    """A cursor over the JSON text that ``chunks`` make up.

    Use: ``members()`` or ``elements()`` at the start of an object or array; for each item they
    give, call exactly one of ``members``, ``elements`` (to its end), ``value`` or ``skip``.
    """

    def __init__(self, chunks: AsyncIterator[bytes], *, value_bytes: int = VALUE_BYTES) -> None:
        self._chunks = chunks
        self._value_bytes = value_bytes
        self._buffer = b""
        self._at = 0
        self._dropped = 0

    async def members(self) -> AsyncIterator[str]:
        """The names in the object at the cursor; the cursor stands before each one's value."""
        await self._expect(b"{")
        if await self._peek() == b"}":
            self._at += 1
            return
        while True:
            name = await self.value()
            if not isinstance(name, str):
                raise self._wrong("a name")
            await self._expect(b":")
            yield name
            if not await self._another(b"}"):
                return

    async def elements(self) -> AsyncIterator[int]:
        """The indices of the array at the cursor; the cursor stands before each element."""
        await self._expect(b"[")
        if await self._peek() == b"]":
            self._at += 1
            return
        index = 0
        while True:
            yield index
            index += 1
            if not await self._another(b"]"):
                return

    async def value(self) -> object:
        """The decoded value at the cursor, which must not be larger than ``value_bytes``."""
        parts: list[bytes] = []
        size = 0
        async for part in self._spans():
            size += len(part)
            if size > self._value_bytes:
                raise JsonStreamError(
                    f"the value at byte {self._offset()} is larger than {self._value_bytes} bytes"
                )
            parts.append(part)
        try:
            decoded: object = json.loads(b"".join(parts))
        except (ValueError, RecursionError) as error:
            raise JsonStreamError(f"before byte {self._offset()}: {error}") from None
        return decoded

    async def skip(self) -> None:
        """Move the cursor behind the value at the cursor, of any size."""
        async for _ in self._spans():
            pass

    async def end(self) -> None:
        """Insist that nothing but white space is left."""
        if await self._peek(optional=True):
            raise self._wrong("the end")

    async def _another(self, closing: bytes) -> bool:
        byte = await self._peek()
        if byte not in (b",", closing):
            raise self._wrong(f"',' or '{closing.decode()}'")
        self._at += 1
        return byte == b","

    async def _expect(self, byte: bytes) -> None:
        if await self._peek() != byte:
            raise self._wrong(f"'{byte.decode()}'")
        self._at += 1

    async def _spans(self) -> AsyncIterator[bytes]:
        """The bytes of the value at the cursor, piece by piece."""
        if (await self._peek()) not in (b"{", b"[", b'"'):
            yield await self._scalar()
            return
        depth = 0
        while True:
            pattern = _TOKEN if depth else _FIRST
            match = pattern.match(self._buffer, self._at)
            if match is None:
                await self._grow_token()
                continue
            token = match.group()
            self._at = match.end()
            if len(token) == 1:
                depth += (token in _OPEN) - (token in _CLOSE)
            yield token
            if depth <= 0:
                return

    async def _scalar(self) -> bytes:
        while True:
            match = _SCALAR.match(self._buffer, self._at)
            if match is None:
                raise self._wrong("a value")
            # A number at the end of the buffer may go on in the next chunk.
            if match.end() < len(self._buffer) or len(match.group()) > self._value_bytes:
                break
            if not await self._fill():
                break
        self._at = match.end()
        return match.group()

    async def _grow_token(self) -> None:
        if len(self._buffer) - self._at > self._value_bytes:
            raise JsonStreamError(
                f"the string at byte {self._offset()} is larger than {self._value_bytes} bytes"
            )
        if not await self._fill():
            raise JsonStreamError(f"the text ends at byte {self._offset()}, within a value")

    async def _peek(self, *, optional: bool = False) -> bytes:
        """The next byte that is not white space, or nothing at the end where that is allowed."""
        while True:
            match = _SPACE.match(self._buffer, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._buffer):
                return self._buffer[self._at : self._at + 1]
            if not await self._fill():
                if optional:
                    return b""
                raise JsonStreamError(f"the text ends at byte {self._offset()}, too early")

    async def _fill(self) -> bool:
        """Get one more chunk behind the cursor; what lies before the cursor is forgotten."""
        while (chunk := await anext(self._chunks, None)) is not None:
            if chunk:
                self._dropped += self._at
                self._buffer = self._buffer[self._at :] + chunk
                self._at = 0
                return True
        return False

    def _offset(self) -> int:
        return self._dropped + self._at

    def _wrong(self, expected: str) -> JsonStreamError:
        found = self._buffer[self._at : self._at + 1]
        return JsonStreamError(f"byte {self._offset()} is {found!r} where {expected} belongs")
