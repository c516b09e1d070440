# SPDX-License-Identifier: GPL-2.0-or-later
"""Show a guest's console while it grows, and to its end."""

from __future__ import annotations

import codecs
import time
from typing import TYPE_CHECKING, TextIO

from kwatch.domain.text import printable
from kwatch.errors import KwatchError
from kwatch.store import blobs, history, live
from kwatch.store.database import reading
from kwatch.views import overview

if TYPE_CHECKING:
    from kwatch.domain.trial.observation import BootResult
    from kwatch.state import StateDirectory

LOOK_SECONDS = 0.3
PIECE = 1 << 20


def follow(state: StateDirectory, name: str, out: TextIO, *, key: str) -> None:
    """Write what the guest of the boot ``key`` says to ``out`` until the boot is over.

    Waits for one that has not begun. ``name`` is what the operator calls it. What a terminal would
    obey is made visible. Raises KwatchError where nobody wants the boot any more.
    """
    printer = _Printer(out)
    file, inode = live.console(state.scratch, key), 0
    while True:
        over, is_wanted = _state(state, key)
        try:
            with file.open("rb") as console:
                # A guest that is booted anew, on another host say, begins its console anew.
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
                raise KwatchError(f"nobody wants the boot {name} any more") from None
        time.sleep(LOOK_SECONDS)


def _state(state: StateDirectory, key: str) -> tuple[BootResult | None, bool]:
    """The result of a boot that is over, and whether somebody waits for it."""
    with reading(state.database) as connection:
        return history.boot(connection, key), key in overview.boots(connection, key, limit=1)


def _finish(state: StateDirectory, result: BootResult, printer: _Printer) -> None:
    """Write what was not shown yet of a console that is kept now."""
    digest = result.artifacts.get(live.CONSOLE)
    if digest is not None:
        skipped = 0
        for piece in blobs.contents(state.blobs, digest):
            printer.write(piece[max(0, printer.offset - skipped) :])
            skipped += len(piece)
    printer.end(f"the boot ended: {result.end}, got as far as {result.milestone.label}")


class _Printer:
    """Writes bytes as text, and counts them."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._is_anew = False
        self.offset = 0

    def begin(self) -> None:
        """A console begins."""
        if self._is_anew:
            self.end("the guest is booted anew")
        self._is_anew = True
        self._decoder.reset()
        self.offset = 0

    def write(self, piece: bytes) -> None:
        """More of it."""
        self.offset += len(piece)
        self._out.write(printable(self._decoder.decode(piece)))
        self._out.flush()

    def end(self, words: str) -> None:
        """Say what is not the guest's own word, on a line of its own."""
        self._out.write(f"\n-- {words}\n")
        self._out.flush()
