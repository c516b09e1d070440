# SPDX-License-Identifier: GPL-2.0-or-later
"""Hosts get another QEMU or another kernel: what the operator and the lists are told of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from kwatch.domain.lab.job import JobKind
from kwatch.domain.mail.story import ReportKind
from kwatch.domain.verdict.blame import Blame
from kwatch.domain.verdict.grade import Grade
from kwatch.domain.verdict.regression import RegressionState
from kwatch.views import reading
from tests.integration.stages.test_mails_of_events import AUTHOR, LIST, OWNER, Desk, desk, to
from tests.integration.store.world import Bug, Kind

if TYPE_CHECKING:
    from kwatch.domain.lab.job import Job

__all__ = ["desk"]
HANG = Bug(name="a", kind=Kind.HANG, since=2)
COMES_WITH = "It comes with the environment that we boot in (QEMU, the kernel and the processor"


async def two_tags(desk: Desk, *, commits: int, hosts: list[int]) -> None:
    """A good tag, so many commits, an upgrade of the hosts, and the next tag."""
    desk.commit()
    await desk.tag()
    for _ in range(commits):
        desk.commit()
    desk.world.hosts = hosts
    await desk.tag()


def upgrade_after_first_mail(desk: Desk) -> None:
    """The hosts are upgraded while it is bisected."""

    def look(job: Job) -> bool:
        if job.kind is JobKind.SEND:
            desk.world.hosts = [2, 2]
        return False

    desk.failing = look


async def test_an_upgrade_that_breaks_boots_is_the_operators(desk: Desk) -> None:
    desk.world.bugs.append(replace(HANG, axis=Blame.HOST, version=2, mended=3))
    await two_tags(desk, commits=5, hosts=[2, 2])
    (new,) = desk.mails
    assert (new.kind, to(new)) == (ReportKind.NEW, {OWNER})
    text = desk.text(new)
    assert COMES_WITH in text
    assert "last good tag, as tested then" in text
    assert "booted in QEMU 2" in text
    assert "bisecting" not in text
    line = reading.regression_line(desk.world.connection, desk.regression)
    assert (line.blame, line.culprits, line.progress) == (Blame.HOST, (), "changed")
    # The next upgrade mends it.
    desk.world.hosts = [3, 3]
    desk.commit()
    await desk.tag()
    assert desk.is_fixed
    assert to(desk.mails[-1]) == {OWNER}


async def test_one_host_that_breaks_boots_accuses_no_commit(desk: Desk) -> None:
    """Whichever of the two hosts a tag is booted on."""
    desk.world.bugs.append(replace(HANG, axis=Blame.HOST, version=2))
    await two_tags(desk, commits=3, hosts=[1, 2])
    for _ in range(3):
        desk.commit()
        await desk.tag()
    line = reading.regression_line(desk.world.connection, desk.regression)
    assert (line.blame, line.culprits) == (Blame.HOST, ())
    assert {address for one in desk.mails for address in to(one)} == {OWNER}


async def test_a_fault_of_the_tree_is_found_on_hosts_that_were_upgraded_meanwhile(
    desk: Desk,
) -> None:
    desk.world.bugs.append(HANG)
    upgrade_after_first_mail(desk)
    await two_tags(desk, commits=8, hosts=[1, 1])
    new, bisected = desk.mails
    assert desk.grade is Grade.VERIFIED
    assert (to(new), to(bisected)) == ({LIST, OWNER}, {LIST, OWNER, AUTHOR})


@pytest.mark.parametrize(
    "bugs",
    [[replace(HANG, mended=2)], [HANG, replace(HANG, axis=Blame.HOST, version=2)]],
    ids=["the bad tag passes there", "the good tag fails there"],
)
async def test_what_was_told_to_a_list_is_corrected(desk: Desk, bugs: list[Bug]) -> None:
    """It fails on hosts that are gone, and is no matter of commits on those that are left."""
    desk.world.bugs += bugs
    upgrade_after_first_mail(desk)
    await two_tags(desk, commits=8, hosts=[1, 1])
    new, correction = desk.mails
    assert to(new) == {LIST, OWNER}
    assert (correction.kind, to(correction)) == (ReportKind.INCONCLUSIVE, {LIST, OWNER})
    text = desk.text(correction)
    assert COMES_WITH in text
    assert "The bisection did not find a commit." in text
    assert "If you fix this" not in text
    assert desk.regression.state is RegressionState.CONFIRMED
    line = reading.regression_line(desk.world.connection, desk.regression)
    assert (line.blame, line.culprits) == (Blame.HOST, ())
