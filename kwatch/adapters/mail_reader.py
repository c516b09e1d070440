# SPDX-License-Identifier: GPL-2.0-or-later
"""Parse the mails of a poll in one child process.

The child (``python -m kwatch.adapters.mail_reader``) reads frames from standard input, each a
``FRAME`` header and the raw mail, and prints READY, then one JSON line for each mail in order.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import signal
import struct
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, BinaryIO

from kwatch.adapters import confined
from kwatch.domain.source.message import Mail, MailKind, Parsed, message_id_of, parse
from kwatch.domain.source.series import patch_digest
from kwatch.errors import InfraError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

    from kwatch.adapters.lore import RawMail

MIB = 1 << 20
LIMITS = confined.Limits(memory=1024 * MIB, output=64 * MIB, cpu=300, timeout=1200.0)
MAX_INPUT = 16 * MIB
"""Bytes of mails that one child gets; a poll of a busy list has 5 MiB."""

MAX_OUTPUT = 16 * MIB
"""Bytes after which a child ends, and another one goes on."""

MAIL_SECONDS = 5.0
"""CPU time for one mail; the largest real ones take 0.1 s."""

FRAME = struct.Struct("<dI")
"""When the archive took the mail, in seconds since the epoch, and its size in bytes."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIELDS = tuple(field.name for field in dataclasses.fields(Mail))
_TUPLES = ("references", "prefixes", "new_files", "links")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """A mail that cannot be read, or that takes more than its share, and why."""

    message_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Other:
    """A mail that is neither a cover letter nor a patch, or that a machine sent."""


Answer = Mail | Unread | Other


async def read_mails(mails: Sequence[RawMail]) -> list[Answer]:
    """What each mail is, in order. No mail keeps another one from being read.

    A mail on which a child dies is tried once more, first in a child of its own.
    """
    answers: list[Answer] = []
    while len(answers) < len(mails):
        rest = mails[len(answers) :]
        read = await confined.run_module(
            __name__, limits=LIMITS, stdin=await asyncio.to_thread(_frames, rest)
        )
        found = await asyncio.to_thread(_received, read.stdout)
        if not found:
            if read.status == 0:
                raise InfraError("a child process read no mail and reported no error")
            reason = f"its reader ended with status {read.status}: {read.stderr[-300:]!r}"
            found = [Unread(message_id=message_id_of(rest[0].raw), reason=reason)]
        answers += found[: len(rest)]
    return answers


def _frames(mails: Sequence[RawMail]) -> bytes:
    """The input of a child: at least one mail."""
    frames: list[bytes] = []
    size = 0
    for mail in mails:
        size += len(mail.raw)
        if frames and size > MAX_INPUT:
            break
        frames += [FRAME.pack((mail.received_at - _EPOCH).total_seconds(), len(mail.raw)), mail.raw]
    return b"".join(frames)


def _received(output: bytes) -> list[Answer]:
    """The answers of a child; a line that its death cut off is none."""
    return [_answer(json.loads(line)) for line in output.splitlines(keepends=True)
            if line.endswith(b"\n")]  # fmt: skip


def _answer(found: dict[str, object]) -> Answer:
    if "reason" in found:
        return Unread(message_id=str(found["message_id"]), reason=str(found["reason"]))
    if not found:
        return Other()
    values = dict(found)
    for name in ("date", "received_at"):
        if (value := values[name]) is not None:
            values[name] = datetime.fromisoformat(str(value))
    for name in _TUPLES:
        values[name] = tuple(values[name])  # type: ignore[arg-type]
    values["kind"] = MailKind(values["kind"])
    return Mail(**values)  # type: ignore[arg-type]


# --- in the child ---------------------------------------------------------------------------------


class _TooSlowError(Exception):
    """The CPU time for one mail is used up."""


class _Stopwatch:
    """Interrupts the reading of a mail after MAIL_SECONDS of CPU time."""

    def __init__(self) -> None:
        self.expired = False
        signal.signal(signal.SIGPROF, self._ring)

    def start(self) -> None:
        self.expired = False
        # Again and again: the parser may be in a place that takes exceptions for bad input.
        signal.setitimer(signal.ITIMER_PROF, MAIL_SECONDS, 0.1)

    def stop(self) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)

    def _ring(self, _number: int, _frame: FrameType | None) -> None:
        self.expired = True
        raise _TooSlowError


def describe(raw: bytes, received_at: datetime) -> dict[str, object]:
    """One line of output: the fields of a Mail, ``reason``, or nothing for Other."""
    parsed = parse(raw, received_at=received_at)
    if not isinstance(parsed, Parsed):
        return {"message_id": message_id_of(raw), "reason": parsed.reason}
    mail = parsed.mail
    if mail.kind is MailKind.OTHER or parsed.auto_submitted:
        return {}
    found: dict[str, object] = {name: getattr(mail, name) for name in _FIELDS}
    found["patch"] = patch_digest(raw) if mail.is_patch else None
    found["kind"] = mail.kind.value
    found["date"] = mail.date.isoformat() if mail.date else None
    found["received_at"] = received_at.isoformat()
    return found


def _mails(source: BinaryIO) -> Iterator[tuple[bytes, datetime]]:
    while header := source.read(FRAME.size):
        at, size = FRAME.unpack(header)
        yield source.read(size), _EPOCH + timedelta(seconds=at)


def _timed(watch: _Stopwatch, raw: bytes, received_at: datetime) -> str:
    slow = {"message_id": message_id_of(raw), "reason": f"takes more than {MAIL_SECONDS:g} s"}
    found: dict[str, object] = {}
    try:
        watch.start()
        try:
            found = describe(raw, received_at)
        finally:
            watch.stop()
    except _TooSlowError:
        return json.dumps(slow)
    except MemoryError:
        return json.dumps({**slow, "reason": "takes too much memory"})
    return json.dumps(slow if watch.expired else found)


def main() -> int:
    """Answer for the mails on standard input until they end or MAX_OUTPUT is reached."""
    sys.stdout.write(confined.READY.decode())
    sys.stdout.flush()
    watch = _Stopwatch()
    written = 0
    for raw, received_at in _mails(sys.stdin.buffer):
        line = _timed(watch, raw, received_at)
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
        written += len(line)
        if written > MAX_OUTPUT:
            break
    return 0


if __name__ == "__main__":
    sys.exit(main())
