# SPDX-License-Identifier: GPL-2.0-or-later
"""What a guest says on its channel: the reader of docs/guest-protocol.md, version 1.

The guest is hostile until parsed. The reader does no I/O, never raises, holds at most one line and
one chunk, and gives the same events however the bytes are cut into pieces.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import dropwhile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

LINE_LIMIT = 1024
"""Bytes of the longest line, its newline included."""
CHUNK_SIZE = 65536
"""Bytes of each ``BlobChunk`` but the last of a blob."""
DEFAULT_MAX_BLOB = 1 << 30
"""Ten times the raw profile of a whole x86_64 defconfig."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """The guest side is up; ``version`` is not checked here."""

    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """File systems are mounted, counters reset if that was wanted and possible."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin:
    """Command ``index`` starts; its output goes to the console."""

    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """Command ``index`` ended with exit status 0..255."""

    index: int
    status: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tested:
    """All commands ran."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobStarted:
    """``size`` bytes follow in chunks; ``sha256`` is what the guest says of them."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobChunk:
    """The next bytes of the blob that started last."""

    data: bytes


class Integrity(Enum):
    """How a blob came over."""

    INTACT = auto()
    """All bytes, and their SHA-256 is what the guest said."""
    DAMAGED = auto()
    """All bytes, but their SHA-256 is another."""
    CUT = auto()
    """The channel ended before the last byte."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobDone:
    """The blob that started last has ended."""

    name: str
    integrity: Integrity


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobRefused:
    """A blob larger than allowed: its bytes are read and dropped."""

    name: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestError:
    """Something the guest could not do; printable text."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The guest powers off right after."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Garbage:
    """A line of ``count`` bytes, newline included, that the protocol does not know."""

    count: int


ChannelEvent = (
    Hello
    | Ready
    | Begin
    | End
    | Tested
    | BlobStarted
    | BlobChunk
    | BlobDone
    | BlobRefused
    | GuestError
    | Done
    | Garbage
)

_NUMBERED = re.compile(rb"(hello|begin) ([0-9]{1,6})")
_END = re.compile(rb"end ([0-9]{1,6}) ([0-9]{1,3})")
_BLOB = re.compile(rb"blob ([a-z][a-z0-9-]{0,31}) ([0-9]{1,18}) ([0-9a-f]{64})")
_ERROR = re.compile(rb"error (.+)")
_PLAIN: dict[bytes, ChannelEvent] = {b"ready": Ready(), b"tested": Tested(), b"done": Done()}


@dataclass(slots=True)
class _Blob:
    """The blob whose bytes are being read."""

    started: BlobStarted
    missing: int
    keep: bool
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)


class ChannelReader:
    """Bytes of a channel in, events out. ``feed`` until the guest is gone, then ``finish``."""

    def __init__(self, *, max_blob: int = DEFAULT_MAX_BLOB) -> None:
        """Blobs that declare more than ``max_blob`` bytes are refused."""
        self._max_blob = max_blob
        self._buffer = bytearray()
        self._dropped = 0
        self._blob: _Blob | None = None
        self._newline_due = False

    def feed(self, data: bytes) -> list[ChannelEvent]:
        """The events that these bytes complete, in order."""
        events: list[ChannelEvent] = []
        rest = memoryview(data)
        while rest:
            if self._newline_due:
                self._newline_due = False
                if rest[0] == ord("\n"):
                    rest = rest[1:]
            elif self._blob is not None:
                rest = self._read_blob(self._blob, rest, events)
            else:
                rest = self._read_line(rest, events)
        return events

    def finish(self) -> list[ChannelEvent]:
        """What the end of the channel leaves behind: a blob that was cut, or half a line."""
        events: list[ChannelEvent] = []
        if self._blob is not None:
            name = self._blob.started.name
            if self._blob.keep:
                self._flush(events)
                events.append(BlobDone(name=name, integrity=Integrity.CUT))
            self._blob = None
        elif self._buffer or self._dropped:
            events.append(Garbage(count=len(self._buffer) + self._dropped))
        self._buffer.clear()
        self._dropped = 0
        return events

    def _read_line(self, data: memoryview, events: list[ChannelEvent]) -> memoryview:
        """Take the bytes up to the next newline; the rest."""
        room = LINE_LIMIT - len(self._buffer)
        piece = bytes(data[: max(room, CHUNK_SIZE)])
        end = piece.find(b"\n") + 1 or len(piece)
        if self._dropped or end > room:
            # Too long to be a line: only its length is kept until its newline comes.
            self._dropped += end + len(self._buffer)
            self._buffer.clear()
        else:
            self._buffer += piece[:end]
        if piece[end - 1] == ord("\n"):
            line = bytes(self._buffer)
            self._buffer.clear()
            if self._dropped:
                events.append(Garbage(count=self._dropped))
                self._dropped = 0
            else:
                self._understand(line, events)
        return data[end:]

    def _understand(self, line: bytes, events: list[ChannelEvent]) -> None:
        """Add the event of one line; a blob's line also says how the next bytes are read."""
        # A terminal that was not made raw puts a carriage return before each newline.
        event = _parse(line.removesuffix(b"\n").removesuffix(b"\r"))
        if event is None:
            events.append(Garbage(count=len(line)))
        elif isinstance(event, BlobStarted):
            keep = event.size <= self._max_blob
            refused = BlobRefused(name=event.name, size=event.size)
            events.append(event if keep else refused)
            self._blob = _Blob(started=event, missing=event.size, keep=keep)
            if not event.size:
                self._end_blob(self._blob, events)
        else:
            events.append(event)

    def _read_blob(self, blob: _Blob, data: memoryview, events: list[ChannelEvent]) -> memoryview:
        """Take bytes of the blob, up to one chunk; the rest."""
        if not blob.keep:
            size = min(len(data), blob.missing)
        else:
            size = min(len(data), blob.missing, CHUNK_SIZE - len(self._buffer))
            blob.digest.update(data[:size])
            self._buffer += data[:size]
            if len(self._buffer) == CHUNK_SIZE:
                self._flush(events)
        blob.missing -= size
        if not blob.missing:
            self._end_blob(blob, events)
        return data[size:]

    def _flush(self, events: list[ChannelEvent]) -> None:
        if self._buffer:
            events.append(BlobChunk(data=bytes(self._buffer)))
            self._buffer.clear()

    def _end_blob(self, blob: _Blob, events: list[ChannelEvent]) -> None:
        if blob.keep:
            self._flush(events)
            intact = blob.digest.hexdigest() == blob.started.sha256
            integrity = Integrity.INTACT if intact else Integrity.DAMAGED
            events.append(BlobDone(name=blob.started.name, integrity=integrity))
        self._blob = None
        self._newline_due = True


def _parse(line: bytes) -> ChannelEvent | None:
    """The event of a line without its newline; None if the protocol has no such line."""
    if not line.startswith(b"kwatch "):
        return None
    words = line.removeprefix(b"kwatch ")
    if (plain := _PLAIN.get(words)) is not None:
        return plain
    if found := _NUMBERED.fullmatch(words):
        number = int(found[2])
        return Hello(version=number) if found[1] == b"hello" else Begin(index=number)
    if found := _END.fullmatch(words):
        return End(index=int(found[1]), status=int(found[2]))
    if found := _BLOB.fullmatch(words):
        return BlobStarted(name=found[1].decode(), size=int(found[2]), sha256=found[3].decode())
    if found := _ERROR.fullmatch(words):
        text = found[1].decode(errors="replace")
        return GuestError(
            text="".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
        )
    return None


class Channels:
    """Several lines, of which the guest takes one: that on which it says hello first.

    What is said before that, and on the others, is nobody's word.
    """

    def __init__(self, names: Iterable[str], *, max_blob: int = DEFAULT_MAX_BLOB) -> None:
        self.names = tuple(names)
        self._readers = {name: ChannelReader(max_blob=max_blob) for name in self.names}

    def feed(self, name: str, data: bytes) -> list[ChannelEvent]:
        """The events that these bytes of one line complete, in order."""
        if name not in self._readers:
            return []
        events = self._readers[name].feed(data)
        if len(self._readers) > 1:
            events = list(dropwhile(lambda event: not isinstance(event, Hello), events))
            if events:
                self._readers = {name: self._readers[name]}
        return events
