# SPDX-License-Identifier: GPL-2.0-or-later
"""The story on real Linux while the daemon is killed again and again."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.lab import demo
from tests.lab.linux.history import make_tree, publish
from tests.lab.linux.topics import Tag
from tests.lab.linuxkernel import TARBALL
from tests.lab.story import Chapter, Outcome, tell

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.lab.box import Box

DIRECTORY = Path(os.environ.get("KWATCH_LAB", "/var/tmp/kwatch-demo"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """A SIGKILL of the daemon, ``after`` seconds in the middle of a job of ``kind``."""

    kind: str
    after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What is left of the story once its lab is gone."""

    outcome: Outcome
    problems: list[str]
    results: list[dict[str, Any]]
    builds: list[dict[str, Any]]
    mails: list[dict[str, Any]]
    pages: dict[str, int]
    kills: int
    stop_status: int | None
    stop_seconds: float
    left: str


# Each build with the commit that it is of.
_BUILDS = """
SELECT DISTINCT r.commit_id, r.rebuild, b.row AS key, b.took, b.result
FROM build AS b JOIN result AS r ON r.build_row = b.row
WHERE r.series IS NOT NULL ORDER BY b.at
"""


async def tell_disturbed(kills: Mapping[Tag, Sequence[Kill]]) -> Told:
    """Tell the story; ``kills`` are those of each tag, one after the other."""
    done = 0
    async with demo.linux_box(DIRECTORY) as box:
        tree = DIRECTORY / "tree.git"
        await asyncio.to_thread(make_tree, tree, TARBALL, progress=print)

        async def disturb(chapter: Chapter) -> None:
            nonlocal done
            for kill in kills[Tag(chapter.tag)]:
                await _kill(box, kill)
                done += 1

        outcome = await tell(
            box,
            demo.CHAPTERS,
            publish=lambda tag: publish(tree, box.public, Tag(tag)),
            during=disturb,
        )
        pages = {
            path: (await box.get(path))[0]
            for path in ("/", "/healthz", "/readyz", "/metrics", "/api/v1/status", "/regression/1")
        }
        problems = demo.check(box, outcome)
        results = box.query("SELECT * FROM result")
        builds = box.query(_BUILDS)
        mails = box.query("SELECT * FROM mail ORDER BY id")
        started = time.monotonic()
        status = await box.stop()
        seconds = time.monotonic() - started
        left = await _processes(demo.USER) if os.geteuid() == 0 else ""
    return Told(
        outcome=outcome,
        problems=problems,
        results=results,
        builds=builds,
        mails=mails,
        pages=pages,
        kills=done,
        stop_status=status,
        stop_seconds=seconds,
        left=left,
    )


async def _kill(box: Box, kill: Kill) -> None:
    """Kill the daemon, and start it again."""
    running = "SELECT 1 FROM job WHERE state = 'running' AND kind = ?"
    database = box.state / "history.sqlite"
    await box.until(
        lambda: database.exists() and bool(box.query(running, kill.kind)),
        timeout=1800,
        what=f"{kill.kind} to kill",
        pause=0.05,
    )
    await asyncio.sleep(kill.after)
    await box.kill()
    await box.start()


async def _processes(user: str) -> str:
    """What still runs as ``user`` ten seconds after the end; empty as soon as nothing does."""
    names: list[str] = []
    for _ in range(20):
        listed = await asyncio.create_subprocess_exec(
            "ps", "-u", user, "-o", "comm=", stdout=asyncio.subprocess.PIPE
        )
        output, _error = await listed.communicate()
        names = [line for line in output.decode().split() if not line.startswith("sshd")]
        if not names:
            break
        await asyncio.sleep(0.5)
    return " ".join(names)
