# SPDX-License-Identifier: GPL-2.0-or-later
"""One end-to-end run on real Linux, with three kills in it; every test looks at its outcome."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab import demo
from tests.lab.linux.history import make_tree, publish
from tests.lab.linux.topics import CULPRIT_SUBJECT, Tag
from tests.lab.linuxkernel import TARBALL
from tests.lab.story import Chapter, Outcome, tell

if TYPE_CHECKING:
    from tests.lab.box import Box

pytestmark = pytest.mark.timeout(3600)

DIRECTORY = Path(os.environ.get("KWATCH_LAB", "/var/tmp/kwatch-demo"))

# The stage in whose middle the daemon is killed, by chapter, and seconds after its start.
KILLS = {Tag.GOOD: ("build", 15.0), Tag.BROKEN: ("boot", 1.0), Tag.REPAIRED: ("collect", 0.1)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What is left of the story once its lab is gone."""

    outcome: Outcome
    problems: list[str]
    observations: list[dict[str, Any]]
    mails: list[dict[str, Any]]
    pages: dict[str, int]
    kills: int
    stop_status: int | None
    stop_seconds: float
    left: str


@pytest.fixture(scope="module")
def told() -> Told:
    return asyncio.run(_tell())


async def _tell() -> Told:
    kills = 0
    async with demo.linux_box(DIRECTORY) as box:
        tree = DIRECTORY / "tree.git"
        await asyncio.to_thread(make_tree, tree, TARBALL, progress=print)

        async def disturb(chapter: Chapter) -> None:
            nonlocal kills
            await _kill_in(box, *KILLS[Tag(chapter.tag)])
            kills += 1

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
        observations = box.query("SELECT * FROM observation")
        mails = box.query("SELECT * FROM mail ORDER BY id")
        started = time.monotonic()
        status = await box.stop()
        seconds = time.monotonic() - started
        left = await _processes(demo.USER) if os.geteuid() == 0 else ""
    return Told(
        outcome=outcome,
        problems=problems,
        observations=observations,
        mails=mails,
        pages=pages,
        kills=kills,
        stop_status=status,
        stop_seconds=seconds,
        left=left,
    )


async def _kill_in(box: Box, kind: str, after: float) -> None:
    """Kill the daemon with SIGKILL in the middle of a job of ``kind``, and start it again."""
    running = "SELECT 1 FROM job WHERE state = 'running' AND kind = ?"
    database = box.state / "history.sqlite"
    await box.until(
        lambda: database.exists() and bool(box.query(running, kind)),
        timeout=1800,
        what=f"{kind} to kill",
        pause=0.05,
    )
    await asyncio.sleep(after)
    await box.kill()
    await box.start()


async def _processes(user: str) -> str:
    """What still runs as ``user``."""
    listed = await asyncio.create_subprocess_exec(
        "ps", "-u", user, "-o", "comm=", stdout=asyncio.subprocess.PIPE
    )
    output, _ = await listed.communicate()
    names = [line for line in output.decode().split() if not line.startswith("sshd")]
    return " ".join(names)


def test_kwatch_does_its_job_in_spite_of_three_kills(told: Told) -> None:
    assert told.kills == 3
    assert told.problems == []


def test_three_mails_in_one_thread(told: Told) -> None:
    new, bisected, fixed = told.outcome.mails
    assert new["In-Reply-To"] is None
    assert bisected["In-Reply-To"] == new["Message-ID"]
    assert fixed["In-Reply-To"] == bisected["Message-ID"]
    assert bisected["Subject"] == fixed["Subject"] == f"Re: {new['Subject']}"


def test_no_report_has_two_message_ids(told: Told) -> None:
    assert len(told.mails) == 3
    assert len({mail["event_id"] for mail in told.mails}) == 3
    archived = [str(mail["Message-ID"]).strip("<>") for mail in told.outcome.mails]
    assert archived == [mail["message_id"] for mail in told.mails]


def test_the_culprit_is_named_and_proven(told: Told) -> None:
    text = str(told.outcome.mails[1].get_content())
    assert CULPRIT_SUBJECT in text
    assert "Verified: rebuilt from nothing, this commit fails and its parent passes." in text
    assert "Fixes: " in text


def test_the_hang_is_silent_and_the_trees_fault(told: Told) -> None:
    text = str(told.outcome.mails[0].get_content())
    assert "silent hang before the first line of the kernel" in text
    assert "The fault is in the tree." in text
    assert "not a single byte came" in text


def test_coverage_of_the_good_tags_is_measured(told: Told) -> None:
    text = str(told.outcome.mails[2].get_content())
    assert "MC/DC" in text
    good = [row for row in told.observations if row["outcome"] == "pass" and row["milestone"] == 80]
    assert len(good) >= 4


def test_nothing_ended_as_infra(told: Told) -> None:
    assert [row for row in told.observations if row["outcome"] == "infra"] == []


def test_the_status_pages_answer(told: Told) -> None:
    assert set(told.pages.values()) == {200}, told.pages


def test_the_daemon_stops_within_ten_seconds_and_leaves_nothing(told: Told) -> None:
    assert told.stop_status == 0
    assert told.stop_seconds < 10
    assert told.left == ""
