# SPDX-License-Identifier: GPL-2.0-or-later
"""Follow the console of a boot until the boot ends."""

from __future__ import annotations

import codecs
import time
from typing import TYPE_CHECKING, TextIO

from kwatch.domain.run import CONSOLE
from kwatch.domain.text import printable
from kwatch.errors import KwatchError
from kwatch.store import blobs, live, steps
from kwatch.store.database import reading
from kwatch.views import overview

if TYPE_CHECKING:
    from kwatch.domain.trial.steps import BootResult
    from kwatch.state import StateDirectory

LOOK_SECONDS = 0.3
PIECE = 1 << 20


def follow(state: StateDirectory, name: str, out: TextIO, *, key: str) -> None:
    """Write the console of the boot ``key`` to ``out`` until the boot ends.

    Waits for a boot that is queued. ``name`` is the key as typed, for messages. Control characters
    are replaced. Raises KwatchError if the boot is cancelled.
    """
    printer = _Printer(out)
    file, inode = live.console(state.scratch, key), 0
    while True:
        over, is_wanted = _state(state, key)
        try:
            with file.open("rb") as console:
                # A boot that is repeated, on another host for example, has a new file.
                found = file.stat().st_ino
                if found != inode:
                    inode = found
                    printer.begin()
                console.seek(printer.offset)
                while piece := console.read(PIECE):
                    printer.write(piece)
        except FileNotFoundError:
            if over is not None:
                _finish(state, over, printer)
                return
            if not is_wanted:
                raise KwatchError(f"boot {name} was cancelled") from None
        time.sleep(LOOK_SECONDS)


def _state(state: StateDirectory, key: str) -> tuple[BootResult | None, bool]:
    """The result if the boot has ended, and whether it is known or queued."""
    with reading(state.database) as connection:
        return steps.find_boot(connection, key), key in overview.boots(connection, key, limit=1)


def _finish(state: StateDirectory, result: BootResult, printer: _Printer) -> None:
    """Write the rest of the console from the stored blob."""
    digest = result.artifacts.get(CONSOLE)
    if digest is not None:
        skipped = 0
        for piece in blobs.contents(state.blobs, digest):
            printer.write(piece[max(0, printer.offset - skipped) :])
            skipped += len(piece)
    printer.end(f"the boot ended: {result.end}, reached: {result.milestone.label}")


class _Printer:
    """Writes bytes as printable text, and counts them."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._is_anew = False
        self.offset = 0

    def begin(self) -> None:
        """Start a console, the first or that of a repeated boot."""
        if self._is_anew:
            self.end("the boot is repeated")
        self._is_anew = True
        self._decoder.reset()
        self.offset = 0

    def write(self, piece: bytes) -> None:
        """Write more of the console."""
        self.offset += len(piece)
        self._out.write(printable(self._decoder.decode(piece)))
        self._out.flush()

    def end(self, words: str) -> None:
        """Write a message of our own, on a separate line."""
        self._out.write(f"\n-- {words}\n")
        self._out.flush()
