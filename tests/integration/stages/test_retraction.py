# SPDX-License-Identifier: GPL-2.0-or-later
"""Events of a regression become mails of one thread; some of them are held, or rejected."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING

import pytest

from kwatch.adapters.git import Git
from kwatch.domain.finding import Finding, FindingKind
from kwatch.domain.lab.command import CommandState, RejectMail, ReleaseMail
from kwatch.domain.lab.job import JobKind
from kwatch.domain.mail.story import (
    Correspondence,
    Delivery,
    DeliveryState,
    MailState,
    Release,
    ReportKind,
)
from kwatch.domain.mail.thread import of_regression
from kwatch.domain.milestone import Milestone
from kwatch.domain.source.revision import Revision, Tree
from kwatch.domain.trial.route import Outcome
from kwatch.domain.verdict.blame import Blame
from kwatch.domain.verdict.judge import Opened
from kwatch.domain.verdict.lane import Lane
from kwatch.domain.verdict.problem import Facet
from kwatch.domain.verdict.question import Answer, Goal, Phase, Verdict
from kwatch.domain.verdict.regression import RegressionEvent
from kwatch.errors import InfraError
from kwatch.stages import send
from kwatch.stages.report import stage as report
from kwatch.store import (
    commands,
    findings,
    investigations,
    lanes,
    mail,
    notices,
    queue,
    recipes,
    regressions,
    revisions,
    series,
    trials,
)
from kwatch.store.blobs import Blobs
from kwatch.views import outbox
from tests.integration.stages.jobs import NOW, claimed, keep, queued
from tests.lab.toy.history import git, three_tags
from tests.unit.domain import trials as samples

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from kwatch.domain.facts import Written
    from kwatch.domain.lab.command import Order
    from kwatch.domain.trial.trial import Trial
    from kwatch.domain.verdict.lane import TagRun
    from kwatch.store.database import Database, Transaction

pytestmark = pytest.mark.asyncio

LAB = Correspondence(
    from_name="kwatch",
    from_address="kwatch@example.org",
    message_id_domain="example.org",
    owner="operator@example.org",
    tree_mail_to=("regressions@example.org",),
    release=Release.AUTOMATIC,
)
HANG = Finding(kind=FindingKind.HANG, title="hang between the kernel and init")


class Case:
    """A regression between two tags of a real repository."""

    def __init__(
        self, database: Database, git: Git, tree: Tree, ids: Mapping[str, str], number: int
    ) -> None:
        self.database = database
        self.number = number
        self.ids = ids
        self.trees = {"next": tree}
        self.lab = LAB
        self._git = git
        self._tokens = count(1000)

    @classmethod
    async def create(cls, database: Database, folder: Path) -> Case:
        source = folder / "source"
        ids = three_tags(source, plant="silent", fixed=False)
        clone = Git(folder / "linux.git")
        await clone.create()
        await clone.fetch(str(source), ["+refs/tags/*:refs/kwatch/next/*"])
        tree = Tree(name="next", url=str(source), tags=("next-*",), variants=("x86_64",))

        def tested(tx: Transaction, tag: str, finding: Finding | None) -> TagRun:
            revision = Revision(tree="next", tag=tag, commit=ids[tag], seen_at=NOW)
            trial = _settle(tx, samples.trial(ids[tag]), finding)
            return lanes.run(tx, revisions.add(tx, revision), trial)

        def opened(tx: Transaction) -> int:
            recipes.put(tx, samples.BUILD, samples.BOOT)
            series.put(tx, samples.SERIES, samples.MBOX)
            lane = lanes.number(tx, Lane(tree="next", variant=samples.VARIANT.name))
            found = Opened(
                facet=Facet.FAILURE,
                finding=HANG,
                good=tested(tx, "next-20261116", None),
                bad=tested(tx, "next-20261117", HANG),
            )
            return regressions.open_regression(tx, lane, found, now=NOW)

        return cls(database, clone, tree, ids, await database.write(opened))

    async def happens(self, event: RegressionEvent, **detail: object) -> None:
        """Let something happen to the regression."""
        assert await self.database.write(regressions.advance, self.number, event, detail, now=NOW)

    async def write(self) -> Written:
        """Run the stage, and keep what it wrote."""
        thread = await self.database.write(notices.thread_number, of_regression(self.number))
        job = await claimed(self.database, JobKind.REPORT, str(thread))
        written = await report.run(
            job, trees=self.trees, correspondence=lambda *_: self.lab, git=self._git,
            blobs=Blobs(self._git.directory.parent / "blobs", database=self.database,
                        budget=1 << 30, clock=lambda: NOW),
            database=self.database, token=lambda: f"tok{next(self._tokens)}", status_url=None,
        )  # fmt: skip
        await keep(self.database, job, written)
        return written

    async def investigated(self) -> int:
        """An investigation of it begins; its number."""
        number = await self.database.write(
            investigations.open_investigation, self.number, Goal.CAUSE, lane=1, fixed=None, now=NOW
        )
        assert number is not None
        return number

    async def tried(
        self,
        commit: str,
        finding: Finding | None,
        *,
        asked: tuple[int, Phase] | None = None,
        rebuild: int = 0,
        repeat: int = 0,
    ) -> None:
        """A trial of a commit is settled; ``asked``: by an investigation, in a phase of it."""

        def settle(tx: Transaction) -> None:
            number = _settle(tx, samples.trial(commit, rebuild=rebuild, repeat=repeat), finding)
            if asked is not None:
                investigations.note_step(tx, asked[0], number, asked[1], now=NOW)

        await self.database.write(settle)

    async def answered(self, number: int, *commits: str) -> None:
        """The investigation ends with these commits."""
        found = Answer(verdict=Verdict.FOUND, blame=Blame.TREE, commits=commits)
        await self.database.write(investigations.close, number, found, now=NOW)

    async def order(self, order: Order) -> bool:
        """The operator gives an order; whether it is carried out."""
        state, _ = await self.database.write(commands.execute, order, now=NOW)
        return state is CommandState.DONE

    async def outbox(self) -> list[tuple[int, MailState, ReportKind]]:
        """Number, state and kind of each mail."""
        lines = await self.database.read(outbox.mails, limit=9)
        return [(one.id, one.state, one.kind) for one in reversed(lines)]

    async def text(self, number: int) -> str:
        """A mail as it stands in the outbox."""
        raw = await self.database.read(outbox.text, number)
        assert raw is not None
        return raw.decode()


def _settle(tx: Transaction, trial: Trial, finding: Finding | None) -> int:
    """Settle a trial as one that failed with ``finding``, or passed; its number."""
    number = trials.put(tx, trial, now=NOW)
    findings.put(tx, findings.TRIAL, str(number), finding)
    tx.execute(
        "UPDATE trial SET outcome = ?, milestone = ?, finding = ? WHERE id = ?",
        (Outcome.FAIL if finding else Outcome.PASS,
         Milestone.KERNEL if finding else Milestone.COLLECTED,
         findings.number_of(tx, findings.TRIAL, str(number)), number),
    )  # fmt: skip
    return number


async def test_who_was_told_is_told_that_it_was_wrong(database: Database, tmp_path: Path) -> None:
    case = await Case.create(database, tmp_path)
    await case.happens(RegressionEvent.CONFIRMED, blame=Blame.TREE)
    (new,) = (await case.write()).letters
    await case.happens(RegressionEvent.RETRACTED)
    (withdrawn,) = (await case.write()).letters
    assert (new.kind, withdrawn.kind) == (ReportKind.NEW, ReportKind.RETRACTED)
    assert withdrawn.subject == f"Re: {new.subject}"
    assert withdrawn.recipients == new.recipients
    assert f"In-Reply-To: <{new.message_id}>" in withdrawn.message.decode()
    assert "was wrong. Please ignore it:" in withdrawn.message.decode()


async def test_what_nobody_was_told_of_is_dropped_in_silence(
    database: Database, tmp_path: Path
) -> None:
    case = await Case.create(database, tmp_path)
    await case.happens(RegressionEvent.CONFIRMED, blame=Blame.TREE)
    await case.happens(RegressionEvent.RETRACTED)
    written = await case.write()
    assert written.letters == ()
    assert len(written.silent) >= 2
    assert (await case.write()).letters == ()


class Mailbox:
    """A mail server that takes everything."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []

    async def deliver(
        self, message: bytes, envelope_from: str, recipients: tuple[str, ...]
    ) -> tuple[Delivery, ...]:
        assert envelope_from
        self.messages.append(message)
        return tuple(
            Delivery(address=one, state=DeliveryState.ACCEPTED, answer="250") for one in recipients
        )


async def sent(case: Case, number: int, *, at: float = NOW) -> bytes | None:
    """Run the send job of a mail; what the server got."""
    server = Mailbox()
    job = await claimed(case.database, JobKind.SEND, str(number))
    done = await send.run(job, smtp=server, database=case.database, clock=lambda: at)  # type: ignore[arg-type]
    if done is not None:
        await keep(case.database, job, done)
    else:
        await case.database.write(queue.drop, job, now=NOW)
    return server.messages[0] if server.messages else None


async def held(database: Database, folder: Path) -> Case:
    """Two mails of a thread, NEW and INCONCLUSIVE, both held."""
    case = await Case.create(database, folder)
    case.lab = replace(LAB, release=Release.MODERATE, archive="https://lore.example.org/all/")
    await case.happens(RegressionEvent.CONFIRMED, blame=Blame.TREE)
    await case.write()
    await case.happens(RegressionEvent.INCONCLUSIVE)
    await case.write()
    assert await case.outbox() == [
        (1, MailState.HELD, ReportKind.NEW), (2, MailState.HELD, ReportKind.INCONCLUSIVE)
    ]  # fmt: skip
    return case


async def test_held_mails_go_out_in_their_order(database: Database, tmp_path: Path) -> None:
    case = await held(database, tmp_path)
    assert not await case.order(ReleaseMail(number=2))
    assert await case.order(ReleaseMail(number=1))
    assert await case.order(ReleaseMail(number=2))
    with pytest.raises(InfraError, match="mail 2 waits for mail 1"):
        await sent(case, 2)
    await database.write(queue.recover, now=NOW)
    first = await sent(case, 1, at=NOW + 7 * 86400)
    assert first is not None
    assert b"\nDate: Fri, 22 Jan 2027 08:00:00 +0000\n" in first
    # A retry is the same mail.
    assert await database.read(outbox.text, 1) == first
    assert await sent(case, 2) is not None


async def test_a_released_mail_stays_behind_a_held_one(database: Database, tmp_path: Path) -> None:
    case = await held(database, tmp_path)

    def ready(tx: Transaction) -> None:
        tx.execute("UPDATE mail SET state = 'ready' WHERE id = 2")

    await database.write(ready)
    assert await sent(case, 2) is None
    assert await queued(database, JobKind.SEND) == []
    assert await case.order(ReleaseMail(number=1))
    assert await queued(database, JobKind.SEND) == ["1", "2"]


async def test_after_a_rejected_mail_the_next_one_begins_the_thread(
    database: Database, tmp_path: Path
) -> None:
    case = await held(database, tmp_path)
    rejected = (await database.read(outbox.mails, limit=9))[1].message_id
    assert await case.order(RejectMail(number=1))
    assert not await case.order(RejectMail(number=1))
    assert not await case.order(ReleaseMail(number=1))
    assert await queued(database, JobKind.REPORT) == [str(case.number)]
    await case.write()
    assert await case.outbox() == [
        (1, MailState.REJECTED, ReportKind.NEW), (2, MailState.HELD, ReportKind.INCONCLUSIVE)
    ]  # fmt: skip
    text = await case.text(2)
    assert rejected not in text
    assert "In-Reply-To" not in text
    assert "Subject: [kwatch] " in text
    assert await case.order(ReleaseMail(number=2))
    assert await sent(case, 2) is not None


async def test_after_a_rejected_mail_the_next_one_answers_the_last_that_went_out(
    database: Database, tmp_path: Path
) -> None:
    case = await held(database, tmp_path)
    assert await case.order(ReleaseMail(number=1))
    first = await sent(case, 1)
    assert first is not None
    await case.happens(RegressionEvent.FIXED)
    await case.write()
    assert await case.order(RejectMail(number=2))
    await case.write()
    root = (await database.read(outbox.mails, limit=9))[-1].message_id
    text = await case.text(3)
    assert f"\nIn-Reply-To: <{root}>\nReferences: <{root}>\n" in text


async def test_nothing_ends_a_thread_that_nobody_has_seen(
    database: Database, tmp_path: Path
) -> None:
    case = await held(database, tmp_path)
    await case.happens(RegressionEvent.FIXED)
    await case.write()
    for number in (1, 2):
        assert await case.order(RejectMail(number=number))
        await case.write()
    assert [state for _, state, _ in await case.outbox()] == [MailState.REJECTED] * 2


async def test_a_first_mail_that_no_server_takes_is_not_answered(
    database: Database, tmp_path: Path
) -> None:
    case = await held(database, tmp_path)
    assert await case.order(ReleaseMail(number=1))
    await database.write(mail.abandon, 1, now=NOW)
    await case.write()
    assert [state for _, state, _ in await case.outbox()] == [MailState.FAILED, MailState.HELD]
    assert "In-Reply-To" not in await case.text(2)


async def test_a_tree_that_left_the_configuration(database: Database, tmp_path: Path) -> None:
    case = await Case.create(database, tmp_path)
    case.trees = {}
    await case.happens(RegressionEvent.CONFIRMED, blame=Blame.TREE)
    (letter,) = (await case.write()).letters
    assert letter.recipients == ("operator@example.org",)
    assert "next has been removed from our configuration" in letter.message.decode()
    assert "git fetch" not in letter.message.decode()
    assert (await case.write()).letters == ()


async def test_the_mail_shows_marks_of_its_own_regression(
    database: Database, tmp_path: Path
) -> None:
    case = await Case.create(database, tmp_path)
    bad, good, culprit = (case.ids[one] for one in ("next-20261117", "next-20261116", "culprit"))
    listed = history_of(tmp_path / "source", good, bad)
    after = [one for one in listed if git_has(tmp_path / "source", culprit, one)]
    aside = [one for one in listed if one not in after and one != culprit]
    other = Finding(kind=FindingKind.PANIC, title="Kernel panic: another one")
    number = await case.investigated()
    await case.tried(bad, other, asked=(number, Phase.CONFIRM), repeat=1)
    await case.tried(after[-1], other, asked=(number, Phase.BISECT))
    await case.tried(culprit, HANG, asked=(number, Phase.BISECT))
    # Another regression asked for this one.
    await case.tried(aside[0], other)
    await case.tried(culprit, HANG, asked=(number, Phase.VERIFY), rebuild=1)
    await case.answered(number, culprit)
    await case.happens(RegressionEvent.CONFIRMED, blame=Blame.TREE)
    await case.happens(RegressionEvent.BISECTED, investigation=number)
    text = (await case.write()).letters[1].message.decode()
    assert f"      1/2  {bad[:12]}  first bad tag\n" in text
    assert "also: Kernel panic: another one\n" in text
    steps = text.partition("\nBisection of")[2].partition("\n\n")[2].partition("\n\n")[0]
    assert [row.split()[:2] for row in steps.splitlines()] == [
        ["skip", after[-1][:12]], ["bad", culprit[:12]]
    ]  # fmt: skip


def history_of(source: Path, good: str, bad: str) -> list[str]:
    """The commits of ``bad`` that ``good`` has not, without ``bad``, newest first."""
    return git(source, "rev-list", "--topo-order", bad, f"^{good}").split()[1:]


def git_has(source: Path, ancestor: str, commit: str) -> bool:
    """Whether ``commit`` comes after ``ancestor``."""
    return commit != ancestor and ancestor in git(source, "rev-list", commit).split()
