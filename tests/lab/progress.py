# SPDX-License-Identifier: GPL-2.0-or-later
"""What a lab in a box is at, for whoever watches: a line for each result, and a live one."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from tests.lab.box import Box

CLEAR_LINE = "\r\033[K"

_RESULTS = """
SELECT id, commit_id, rebuild, repeat, outcome, title, settled_at, series IS NULL AS is_control,
    (SELECT tag FROM revision WHERE revision.commit_id = result.commit_id LIMIT 1) AS tag
FROM result WHERE outcome IS NOT NULL ORDER BY settled_at
"""

_RUNNING = """
SELECT kind, key, started_at FROM job
WHERE state = 'running' AND kind IN ('checkout', 'build', 'boot', 'collect', 'send')
"""


class Progress:
    """Prints what happens in ``box`` until it is cancelled."""

    def __init__(self, box: Box, out: TextIO = sys.stdout) -> None:
        self._box = box
        self._out = out
        self._started = time.monotonic()
        self._seen: set[int] = set()
        self._mails = 0

    async def run(self) -> None:
        """Look every second."""
        while True:
            await asyncio.sleep(1)
            await asyncio.to_thread(self.look)

    def say(self, text: str) -> None:
        """One line that stays."""
        clear = CLEAR_LINE if self._out.isatty() else ""
        print(f"{clear}{self.clock()}  {text}", file=self._out, flush=True)

    def clock(self) -> str:
        """Minutes and seconds since the start."""
        return duration(time.monotonic() - self._started)

    def look(self) -> None:
        """Tell what is new."""
        if not (self._box.state / "history.sqlite").exists():
            return
        for row in self._box.query(_RESULTS):
            if row["id"] not in self._seen:
                self._seen.add(row["id"])
                self.say(self._result(row))
        mails = self._box.query("SELECT subject FROM mail WHERE state = 'sent' ORDER BY id")
        for mail in mails[self._mails :]:
            self.say(f"mail     {mail['subject']}")
        self._mails = len(mails)
        if self._out.isatty():
            now = time.time()
            running = [
                f"{row['kind']} {duration(now - row['started_at'])}"
                for row in self._box.query(_RUNNING)
            ]
            line = ", ".join(running) or "waiting"
            print(f"{CLEAR_LINE}{self.clock()}  {line}", end="", file=self._out, flush=True)

    def _result(self, row: dict[str, Any]) -> str:
        what = row["tag"] or row["commit_id"][:12]
        notes = [
            text
            for text, holds in (
                ("without the series", row["is_control"]),
                ("rebuilt", row["rebuild"]),
                ("again", row["repeat"]),
            )
            if holds
        ]
        name = f"{what}{', ' + ', '.join(notes) if notes else ''}"
        return f"{row['outcome']:<8} {name}"


def duration(seconds: float) -> str:
    """Minutes and seconds."""
    return f"{int(seconds) // 60:3d}:{int(seconds) % 60:02d}"
