# SPDX-License-Identifier: GPL-2.0-or-later
"""A lab without hosts: the real queue, store and domain, and stages that know the truth.

Each stage does what that of ``kwatch.stages`` does with the store, and takes from the truth what
the other would take from git, make or QEMU.
"""

from __future__ import annotations

import atexit
import shutil
import sqlite3
import tempfile
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from kwatch.domain.facts import (
    Facts,
    Investigated,
    Judged,
    Planned,
    Sent,
    Watched,
    Written,
)
from kwatch.domain.lab.job import Job, JobKind
from kwatch.domain.mail.story import Delivery, DeliveryState, Letter, Release, ReportKind
from kwatch.domain.milestone import Milestone
from kwatch.domain.source.revision import Revision
from kwatch.domain.trial.observation import Trial
from kwatch.domain.verdict.blame import Blame
from kwatch.domain.verdict.investigation import Ask, Evidence, Question, plan
from kwatch.domain.verdict.regression import (
    TRANSITIONS,
    RegressionEvent,
    RegressionState,
    judge,
    judged_by,
)
from kwatch.store import history, mail, problems, queue, record
from kwatch.store.database import connect, migrate, transaction
from tests.unit.domain import trials
from tests.unit.domain.trials import VARIANT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kwatch.domain.recipe.variant import Variant

TREE = "linux-next"
MAILS = {
    RegressionEvent.CONFIRM: ReportKind.NEW,
    RegressionEvent.BISECT: ReportKind.BISECTED,
    RegressionEvent.INCONCLUSIVE: ReportKind.INCONCLUSIVE,
    RegressionEvent.FIX: ReportKind.FIXED,
}


class Trouble(StrEnum):
    """What is wrong with a commit."""

    NONE = "none"
    APPLY = "apply"
    COMPILE = "compile"
    HANG = "hang"
    PANIC = "panic"
    COVERAGE = "coverage"


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """A commit as it is. Only with the series does a fault of Blame.SERIES show."""

    trouble: Trouble = Trouble.NONE
    blame: Blame = Blame.TREE

    def shows(self, variant: Variant) -> Trouble:
        """What comes out of a trial in ``variant``."""
        needs_series = self.trouble in {Trouble.APPLY, Trouble.COVERAGE}
        is_hidden = variant.series is None and (needs_series or self.blame is Blame.SERIES)
        return Trouble.NONE if is_hidden else self.trouble


_TEMPLATE: list[Path] = []


def template() -> Path:
    """An empty database, migrated once."""
    if not _TEMPLATE:
        folder = Path(tempfile.mkdtemp(prefix="kwatch-template-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        path = folder / "template.db"
        connection = connect(path, read_only=False)
        migrate(connection, path)
        connection.close()
        _TEMPLATE.append(path)
    return _TEMPLATE[0]


@dataclass(slots=True, kw_only=True)
class Lab:
    """One database, its clock, a row of commits and the tags on it."""

    path: Path
    connection: sqlite3.Connection
    now: float = 1_000_000.0
    commits: list[str] = field(default_factory=list)
    truth: dict[str, Truth] = field(default_factory=dict)
    tags: int = 0
    failures: int = 0

    @classmethod
    def create(cls, folder: Path) -> Lab:
        """A lab with an empty history."""
        path = folder / "kwatch.db"
        shutil.copy(template(), path)
        return cls(path=path, connection=reopened(path))

    def restart(self) -> int:
        """Die and start again; how many jobs ran."""
        self.connection.close()
        self.connection = reopened(self.path)
        with transaction(self.connection):
            return queue.recover(self.connection, now=self.now)

    # What happens outside

    def grow(self, truths: Sequence[Truth]) -> None:
        """Upstream adds commits, the newest of which is tagged; the tree is looked at."""
        for truth in truths:
            commit = f"c{len(self.commits):03}"
            self.commits.append(commit)
            self.truth[commit] = truth
        self.tags += 1
        revision = Revision(
            tree=TREE, tag=f"next-{self.tags}", commit=self.commits[-1], seen_at=self.now
        )
        with transaction(self.connection):
            queue.enqueue(self.connection, JobKind.WATCH, TREE, now=self.now)
        job = self.claim([JobKind.WATCH])
        assert job is not None
        self.record(job, Watched(tree=TREE, revisions=(revision,)))

    def suspects(self, bad: str, good: str) -> Mapping[str, Sequence[str]]:
        """What ``git rev-list --parents --topo-order bad ^good`` would say."""
        first, last = self.commits.index(good) + 1, self.commits.index(bad) + 1
        return {
            self.commits[number]: (self.commits[number - 1],)
            for number in reversed(range(first, last))
        }

    # The worker

    def claim(self, kinds: Sequence[JobKind] = tuple(JobKind)) -> Job | None:
        """The next job that is due; time goes on until one is."""
        due = queue.next_due(self.connection, kinds)
        if due is None:
            return None
        self.now = max(self.now + 1, due)
        with transaction(self.connection):
            return queue.claim(self.connection, kinds, now=self.now)

    def record(self, job: Job, facts: Facts | None) -> None:
        """End a job as the worker does."""
        with transaction(self.connection):
            if facts is None:
                queue.drop(self.connection, job, now=self.now)
            else:
                record.record(self.connection, job, facts, now=self.now)

    def fail(self, job: Job) -> bool:
        """End a job with a failure of the lab, as the worker does; True if it was given up."""
        self.failures += 1
        with transaction(self.connection):
            given_up = queue.fail(
                self.connection, job, "the host is gone", now=self.now, jitter=0.5, after=None
            )
            if given_up:
                record.give_up(self.connection, job, now=self.now)
        return given_up

    # The stages

    def work(
        self,
        job: Job,
        *,
        lie: Trouble | None = None,
        delivery: DeliveryState = DeliveryState.ACCEPTED,
    ) -> Facts | None:
        """What the stage of ``job`` finds; with ``lie`` it takes that for the truth."""
        match job.kind:
            case JobKind.PLAN:
                revision = history.revision(self.connection, int(job.key))
                trial = Trial(commit=revision.commit, variant=VARIANT.digest)
                return Planned(
                    tree=revision.tree,
                    tag=revision.tag,
                    commit=revision.commit,
                    trials=((trial, VARIANT),),
                )
            case JobKind.CHECKOUT | JobKind.BUILD | JobKind.BOOT | JobKind.COLLECT:
                return self._step(job, lie)
            case JobKind.JUDGE:
                return self._judge(job)
            case JobKind.INVESTIGATE:
                return self._investigate(job)
            case JobKind.REPORT:
                return self._report(job)
            case JobKind.SEND:
                return self._send(job, delivery)
            case _:
                raise AssertionError(job)

    def _step(self, job: Job, lie: Trouble | None) -> Facts | None:
        observation = history.wanted(self.connection, job.kind, job.key)
        if observation is None:
            return None
        trial = observation.trial
        variant = history.variant(self.connection, trial.variant)
        shown = self.truth[trial.commit].shows(variant) if lie is None else lie
        if job.kind is JobKind.CHECKOUT:
            is_broken = shown is Trouble.APPLY
            tree = None if is_broken else trials.tree_id(trial.commit, variant)
            return trials.checkout(job.key, tree)
        if job.kind is JobKind.BUILD:
            broken = trials.COMPILE if shown is Trouble.COMPILE else None
            return trials.build(job.key, finding=broken)
        if job.kind is JobKind.COLLECT:
            broken = trials.NO_COVERAGE if shown is Trouble.COVERAGE else None
            return trials.collection(job.key, finding=broken)
        assert observation.build_key is not None
        broken = {Trouble.HANG: trials.HANG, Trouble.PANIC: trials.PANIC}.get(shown)
        has_profile = variant.wants_coverage and broken is None
        return trials.boot(
            job.key,
            observation.build_key,
            finding=broken,
            milestone={Trouble.HANG: Milestone.LINKED, Trouble.PANIC: Milestone.INIT}.get(
                shown, Milestone.TESTED
            ),
            artifacts={"profile": "p" * 64} if has_profile else {},
        )

    def _judge(self, job: Job) -> Judged:
        tree, digest = judged_by(job.key)
        results = history.tag_results(self.connection, tree, digest)
        known = problems.open_regressions(self.connection, tree, digest)
        return Judged(
            tree=tree,
            variant=digest,
            variant_name=history.variant(self.connection, digest).name,
            judgements=judge(results, known),
        )

    def _investigate(self, job: Job) -> Investigated | None:
        investigation = problems.investigation(self.connection, int(job.key))
        if investigation.ended_at is not None:
            return None
        regression = problems.regression(self.connection, investigation.regression)
        variant = history.variant(self.connection, regression.variant)
        control = variant.control()
        question = Question(
            goal=investigation.goal,
            good=regression.good.commit,
            bad=regression.bad.commit,
            variant=variant.digest,
            control=control.digest,
            fingerprint=regression.fingerprint,
            milestone=regression.milestone,
            suspects=self.suspects(regression.bad.commit, regression.good.commit),
            fixed=investigation.fixed.commit if investigation.fixed else None,
        )
        evidence = {
            one.trial: Evidence(outcome=one.outcome, milestone=one.milestone, finding=one.finding)
            for one in history.settled(self.connection, (variant.digest, control.digest))
            if one.outcome is not None
        }
        result = plan(question, evidence)
        asked = {trial.variant for trial in result.trials} if isinstance(result, Ask) else set()
        return Investigated(
            investigation=investigation.id,
            result=result,
            variants=tuple(one for one in (variant, control) if one.digest in asked),
        )

    def _report(self, job: Job) -> Written:
        number = int(job.key)
        fresh = [
            event
            for event in problems.timeline(self.connection, number)
            if event.reported_at is None
        ]
        return Written(
            regression=number,
            letters=tuple(
                Letter(
                    event=event.id,
                    kind=MAILS[event.kind],
                    thread=f"regression:{number}",
                    # As in the real stage, each attempt makes an identity of its own.
                    message_id=f"{event.id}.{job.id}.{job.attempt}@lab.example.org",
                    subject="subject",
                    envelope_from="kwatch@lab.example.org",
                    recipients=("author@example.org", "list@example.org"),
                    message=b"Subject: subject\n\nbody\n",
                )
                for event in fresh
                if event.kind in MAILS
            ),
            silent_events=tuple(event.id for event in fresh if event.kind not in MAILS),
            release=Release.AUTOMATIC,
        )

    def _send(self, job: Job, delivery: DeliveryState) -> Sent | None:
        with transaction(self.connection):
            letter = mail.start_sending(self.connection, int(job.key), now=self.now)
        if letter is None:
            return None
        return Sent(
            mail=letter.id,
            deliveries=tuple(
                Delivery(address=address, state=delivery, answer="250")
                for address in letter.waiting
            ),
        )

    # What must always be true

    def check(self) -> None:
        """The invariants of a history between two transactions."""
        alive = [(job.kind, job.key, job.state) for job in queue.alive(self.connection)]
        assert len(alive) == len(set(alive)), "a job is queued or running twice"
        runnable = {(kind, key) for kind, key, _ in alive}
        self._check_observations(runnable)
        self._check_investigations(runnable)
        self._check_regressions(runnable)

    def rows(self, statement: str) -> list[sqlite3.Row]:
        """What the database says."""
        return self.connection.execute(statement).fetchall()

    def dump(self) -> list[str]:
        """The whole database as text."""
        return list(self.connection.iterdump())

    def _check_observations(self, runnable: set[tuple[str, str]]) -> None:
        for row in self.rows(
            "SELECT o.*, EXISTS (SELECT 1 FROM want WHERE observation_id = o.id) AS is_wanted"
            " FROM observation AS o"
        ):
            if row["outcome"] is not None:
                assert (row["waits_kind"], row["waits_key"]) == (None, None)
                assert (row["outcome"] == "fail") == (row["finding"] is not None)
            elif row["is_wanted"]:
                assert (row["waits_kind"], row["waits_key"]) in runnable, dict(row)

    def _check_investigations(self, runnable: set[tuple[str, str]]) -> None:
        for investigation in problems.open_investigations(self.connection):
            key = str(investigation.id)
            pending = self.connection.execute(
                "SELECT 1 FROM want JOIN observation ON id = observation_id"
                " WHERE asker_kind = 'investigate' AND asker_key = ? AND outcome IS NULL",
                (key,),
            ).fetchall()
            assert pending or (JobKind.INVESTIGATE, key) in runnable, investigation
        assert not self.rows(
            "SELECT * FROM want JOIN investigation AS i ON asker_kind = 'investigate'"
            " AND asker_key = i.id WHERE i.ended_at IS NOT NULL"
        ), "an investigation that has ended wants something"

    def _check_regressions(self, runnable: set[tuple[str, str]]) -> None:
        for regression in problems.regressions(self.connection):
            state = RegressionState.SUSPECTED
            opened, *events = problems.timeline(self.connection, regression.id)
            assert opened.kind is RegressionEvent.OPENED
            for event in events:
                state = TRANSITIONS[state, event.kind]
            assert state is regression.state
            if any(event.reported_at is None for event in events):
                assert (JobKind.REPORT, str(regression.id)) in runnable, regression
        for row in self.rows("SELECT count(*) AS n, event_id FROM mail GROUP BY event_id"):
            assert row["n"] == 1
        for row in self.rows("SELECT id FROM mail WHERE state IN ('ready', 'sending')"):
            assert (JobKind.SEND, str(row["id"])) in runnable
        for row in self.rows("SELECT id FROM mail WHERE state = 'sent'"):
            assert (JobKind.SEND, str(row["id"])) not in runnable


def reopened(path: Path) -> sqlite3.Connection:
    """A connection as the store makes it, but for the waiting for the disk."""
    connection = connect(path, read_only=False)
    connection.execute("PRAGMA synchronous = OFF")
    return connection
