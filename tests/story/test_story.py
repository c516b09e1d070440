# SPDX-License-Identifier: GPL-2.0-or-later
"""One end-to-end run on real Linux, with three kills in it; every test looks at its outcome."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.lab.disturbed import Kill, Told, tell_disturbed
from tests.lab.linux.topics import CULPRIT_SUBJECT, Tag
from tests.lab.toytree import text_of

pytestmark = pytest.mark.timeout(3600)

KILLS = {
    Tag.GOOD: [Kill(kind="build", after=15.0)],
    Tag.BROKEN: [Kill(kind="boot", after=1.0)],
    Tag.REPAIRED: [Kill(kind="collect", after=0.1)],
}


@pytest.fixture(scope="module")
def told() -> Told:
    return asyncio.run(tell_disturbed(KILLS))


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
    assert len({mail["notice"] for mail in told.mails}) == 3
    archived = [str(mail["Message-ID"]).strip("<>") for mail in told.outcome.mails]
    assert archived == [mail["message_id"] for mail in told.mails]


def test_the_culprit_is_named_and_proven(told: Told) -> None:
    text = text_of(told.outcome.mails[1])
    assert CULPRIT_SUBJECT in text
    assert "Confirmed with clean builds: " in text
    assert "Fixes: " in text


def test_the_hang_is_silent_and_the_trees_fault(told: Told) -> None:
    text = text_of(told.outcome.mails[0])
    assert "silent hang: general protection fault in static_call_site_swap" in text
    assert "\n  Exception: general protection fault at static_call_site_swap+" in text
    assert "static_call_init" in text.partition("\n  Call trace:\n")[2]
    assert "It is not caused by the out-of-tree series" in " ".join(text.split())
    assert "No output on the console, earlycon included." in text


def test_coverage_of_the_good_tags_is_measured(told: Told) -> None:
    text = text_of(told.outcome.mails[2])
    assert "MC/DC" in text
    good = [row for row in told.results if row["outcome"] == "pass" and row["milestone"] == 80]
    assert len(good) >= 4


def test_nothing_ended_as_infra(told: Told) -> None:
    assert [row for row in told.results if row["outcome"] == "infra"] == []


def test_the_status_pages_answer(told: Told) -> None:
    assert set(told.pages.values()) == {200}, told.pages


def test_the_daemon_stops_within_ten_seconds_and_leaves_nothing(told: Told) -> None:
    assert told.stop_status == 0
    assert told.stop_seconds < 10
    assert told.left == ""


def test_the_same_inputs_give_the_same_kernel_byte_for_byte(told: Told) -> None:
    rebuilt = {row["commit_id"] for row in told.builds if row["rebuild"]}
    twice = [commit for commit in rebuilt if _builds(told, commit) == 2]
    assert twice
    assert all(len(_vmlinux(told, commit)) == 1 for commit in twice)


def _builds(told: Told, commit: str) -> int:
    return sum(row["commit_id"] == commit for row in told.builds)


def _vmlinux(told: Told, commit: str) -> set[str]:
    """The digests of all kernels that were built of a commit."""
    return {
        json.loads(row["result"])["artifacts"]["vmlinux"]
        for row in told.builds
        if row["commit_id"] == commit
    }
