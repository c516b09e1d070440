# SPDX-License-Identifier: GPL-2.0-or-later
"""One line of a kernel's console, freed from what its way here put in front of it.

printk puts a level, a time stamp and a caller (CONFIG_PRINTK_CALLER) before its text; syslog, a
serial server or a test system put theirs before that. See Documentation/core-api/printk-basics.rst
and Documentation/admin-guide/serial-console.rst.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from kwatch.domain.text import CONTROLS, ESCAPE, without_controls

MAX_LINE = 1200
"""Bytes of a line that are read: printk's longest (LOG_LINE_MAX) and what travels before it."""

MAX_TEXT = 400
"""Characters of a line that people are shown."""

_ESCAPE = re.compile(ESCAPE.encode())

# Each alternative starts with another byte than the others can go on with, so this is linear.
_TRANSPORT = re.compile(
    rb"""(?:
        <\d{1,3}>                                             # level, as in /dev/kmsg
      | \[\ *\d{1,7}\.\d{1,9}(?:@\d+)?\]\ ?                   # time stamp
      | \[\ *[TC]\d{1,8}\]\ ?                                 # caller: task or CPU
      | \*\*\ \d+\ printk\ messages\ dropped\ \*\*\ ?
      | [A-Z][a-z]{2}\ [ \d]\d\ \d\d:\d\d:\d\d\ (?:\S{1,80}\ kernel:\ ?)?
      | \[?\d{4}[-/]\d\d[-/]\d\d[T\ ]\d\d:\d\d:\d\d\S{0,20}\ (?:\S{1,80}\ kernel:\ ?)?
      | (?:kern\s*:?\s*[a-z]+\s*:\ )                          # util-linux's dmesg --decode
    )*""",
    re.VERBOSE,
)
# A program's prompt without a line end, and then the kernel's message.
_LATE = re.compile(rb"\[ *\d{1,7}\.\d{6}\](?:\[ *[TC]\d{1,8}\])? ")
_STAMP = re.compile(rb"\[ *\d{1,7}\.\d{1,9}(?:@\d+)?\]")
_CALLER = re.compile(rb"\[ *([TC]\d{1,8})\]")


class Line(NamedTuple):
    """``number`` counts from 0; ``caller`` is ``T123`` or ``C0``; ``prefix`` was cut off."""

    number: int
    text: str
    caller: str | None
    prefix: bytes

    @property
    def is_stamped(self) -> bool:
        """Whether printk's time stands before it."""
        return _STAMP.search(self.prefix) is not None


def clean(line: str) -> str:
    """A line of a log without terminal controls, at most MAX_TEXT characters."""
    return without_controls(line).rstrip()[:MAX_TEXT]


def read_line(raw: bytes, number: int) -> Line:
    """Take one line, without its line end, apart. Whatever the bytes are, this is an answer."""
    raw = raw[:MAX_LINE]
    if b"\x1b" in raw:
        raw = _ESCAPE.sub(b"", raw)
    # A carriage return alone starts the line anew, as a terminal shows it.
    raw = raw.rstrip(b"\r").rpartition(b"\r")[2]
    transport = _TRANSPORT.match(raw)
    end = transport.end() if transport else 0
    if b"[" not in raw[:end] and (late := _LATE.search(raw, end)):
        end = late.end()
    caller = _CALLER.search(raw, 0, end)
    text = raw[end:].translate(None, CONTROLS).decode("utf-8", "replace").rstrip()
    return Line(
        number,
        text,
        caller=caller[1].decode() if caller else None,
        prefix=raw[:end],
    )
