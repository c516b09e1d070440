# SPDX-License-Identifier: GPL-2.0-or-later
"""What a page or a document shows, read in one snapshot of the history. No SQL, no HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kwatch.domain.coverage.figures import Totals
from kwatch.domain.lab.job import JobKind
from kwatch.domain.mail.story import MailState
from kwatch.domain.mail.thread import of_regression
from kwatch.domain.source.message import Mail, Parsed, parse
from kwatch.domain.source.revision import Revision
from kwatch.domain.source.series import Series
from kwatch.domain.text import printable
from kwatch.domain.trial.route import Outcome
from kwatch.domain.trial.steps import BootResult, BuildResult, CheckoutResult
from kwatch.domain.verdict.blame import Blame
from kwatch.domain.verdict.effort import about
from kwatch.domain.verdict.grade import Grade
from kwatch.domain.verdict.question import Goal
from kwatch.domain.verdict.regression import (
    CLOSED_STATES,
    OPEN_STATES,
    Regression,
    RegressionEvent,
)
from kwatch.store import (
    cursors,
    hosts,
    investigations,
    queue,
    regressions,
    steps,
)
from kwatch.store import series as series_store
from kwatch.store.cursors import Source
from kwatch.store.hosts import SeenHost
from kwatch.store.investigations import Investigation
from kwatch.store.queue import QueuedJob
from kwatch.store.regressions import StoredEvent
from kwatch.views import outbox, overview
from kwatch.views.counts import mail_states
from kwatch.views.outbox import MailLine
from kwatch.views.overview import BaselineLine, Folder, PresenceLine, TagLine, TrialLine

if TYPE_CHECKING:
    from kwatch.store.database import Transaction

TAGS_OF_A_TREE = 8
JOBS_OF_A_PAGE = 40
MAILS_OF_A_PAGE = 12
CLOSED_REGRESSIONS = 5
TRIALS_OF_A_PAGE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenTag:
    """A tag in which a regression was seen, and the variants that showed it."""

    tree: str
    tag: str
    variants: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RegressionLine:
    """A regression with what is known of its cause.

    ``sightings`` are the (tree, tag, variant) where it was seen, oldest first, ``present`` the
    lines that have or had it, ``mails`` its thread, root first.
    """

    regression: Regression
    investigation: Investigation | None
    blame: Blame | None
    culprits: tuple[str, ...]
    grade: Grade | None
    sightings: tuple[tuple[str, str, str], ...]
    present: tuple[PresenceLine, ...]
    mails: tuple[MailLine, ...]

    @property
    def is_open(self) -> bool:
        """Neither fixed nor invalid."""
        return self.regression.state in OPEN_STATES

    @property
    def seen(self) -> tuple[SeenTag, ...]:
        """The tags in which it was seen, newest first."""
        tags: dict[tuple[str, str], list[str]] = {}
        for tree, tag, variant in self.sightings:
            tags.setdefault((tree, tag), []).append(variant)
        found = (
            SeenTag(tree=tree, tag=tag, variants=tuple(variants))
            for (tree, tag), variants in tags.items()
        )
        return tuple(found)[::-1]

    @property
    def progress(self) -> str:
        """Where its newest investigation stands: ``bisect, 5 suspects left``."""
        return "" if self.investigation is None else progress(self.investigation)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobLine:
    """A job, and what it is about."""

    job: QueuedJob
    subject: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """The front page. ``before`` holds, by trial, the coverage of the tag before it."""

    trees: Mapping[str, tuple[TagLine, ...]]
    before: Mapping[int, Totals]
    failures: Mapping[int, str]
    regressions: tuple[RegressionLine, ...]
    closed: tuple[RegressionLine, ...]
    jobs: tuple[JobLine, ...]
    more_jobs: int
    sources: tuple[Source, ...]
    hosts: tuple[SeenHost, ...]
    mail_states: Mapping[MailState, int]
    mails: tuple[MailLine, ...]
    series: tuple[Series, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A mail and its text; ``parsed`` is None where it cannot be read, then ``text`` is all."""

    line: MailLine
    parsed: Mail | None
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Inquiry:
    """An investigation and the trials that it rests on, or that it waits for."""

    investigation: Investigation
    trials: tuple[TrialLine, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RegressionStory:
    """All that is known of a regression."""

    line: RegressionLine
    timeline: tuple[StoredEvent, ...]
    inquiries: tuple[Inquiry, ...]
    letters: tuple[Letter, ...]
    roles: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionStory:
    """All that is known of a tag at one of the commits that it stood at."""

    revision: Revision
    trials: tuple[TrialLine, ...]
    checkouts: tuple[CheckoutResult, ...]
    baselines: tuple[BaselineLine, ...]
    failures: Mapping[int, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class BootStory:
    """A boot, whom it was for, and its coverage."""

    boot: BootResult
    at: float
    trials: tuple[TrialLine, ...]
    totals: Totals | None
    folders: tuple[Folder, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildStory:
    """A build, and whom it was for."""

    build: BuildResult
    at: float
    trials: tuple[TrialLine, ...]


def front(tx: Transaction) -> Front:
    """What the operator sees first."""
    trees = {
        tree: overview.newest_tags(tx, tree, limit=TAGS_OF_A_TREE) for tree in overview.trees(tx)
    }
    shown = [line for tags in trees.values() for tag in tags for line in tag.trials]
    is_open = regressions.newest_first(tx, states=OPEN_STATES)
    closed = regressions.newest_first(tx, states=CLOSED_STATES, limit=CLOSED_REGRESSIONS)
    jobs = queue.alive(tx)
    return Front(
        trees=trees,
        before=_before(trees),
        failures=_failures(tx, shown),
        regressions=tuple(regression_line(tx, regression) for regression in is_open),
        closed=tuple(regression_line(tx, found) for found in closed),
        jobs=job_lines(tx, jobs[:JOBS_OF_A_PAGE]),
        more_jobs=max(len(jobs) - JOBS_OF_A_PAGE, 0),
        sources=cursors.sources(tx),
        hosts=hosts.seen(tx),
        mail_states=mail_states(tx),
        mails=outbox.mails(tx, limit=MAILS_OF_A_PAGE),
        series=series_store.newest_first(tx),
    )


def regression_line(tx: Transaction, regression: Regression) -> RegressionLine:
    """A regression as one line tells of it."""
    found = investigations.of_regression(tx, regression.id)
    answers = [one.answer for one in found if one.answer and one.goal is Goal.CAUSE]
    answer = answers[-1] if answers else None
    mails = outbox.mails(tx, thread=str(of_regression(regression.id)), limit=TRIALS_OF_A_PAGE)
    return RegressionLine(
        regression=regression,
        investigation=found[-1] if found else None,
        blame=(answer.blame if answer else None) or _confirmed_blame(tx, regression.id),
        culprits=answer.commits if answer else (),
        grade=answer.grade if answer else None,
        sightings=regressions.sightings(tx, regression.id),
        present=overview.present_in(tx, regression.id),
        mails=mails[::-1],
    )


def progress(investigation: Investigation) -> str:
    """Where an investigation stands, in the words of the operator."""
    goal = "fix: " if investigation.goal is Goal.FIX else ""
    if investigation.answer:
        return f"{goal}{investigation.answer.verdict}"
    left = investigation.remaining
    if left is None:
        return f"{goal}{investigation.phase}"
    time = f", {about(investigation.seconds_left)}" if investigation.seconds_left else ""
    return f"{goal}{investigation.phase}, {left} suspect{'s' if left != 1 else ''} left{time}"


def regression_story(tx: Transaction, number: int) -> RegressionStory | None:
    """A regression from its first sight on; None if there is none of this number."""
    if not regressions.exists(tx, number):
        return None
    line = regression_line(tx, regressions.load(tx, number))
    regression = line.regression
    roles = {
        commit: "culprit" if len(line.culprits) == 1 else "suspect" for commit in line.culprits
    }
    roles[regression.good.commit] = f"last good, {regression.good.tag}"
    bad = f"first bad, {regression.bad.tag}"
    roles[regression.bad.commit] = f"culprit and {bad}" if regression.bad.commit in roles else bad
    return RegressionStory(
        line=line,
        timeline=regressions.timeline(tx, number),
        inquiries=tuple(_inquiry(tx, found) for found in investigations.of_regression(tx, number)),
        letters=tuple(found for mail in line.mails if (found := letter(tx, mail.id)) is not None),
        roles=roles,
    )


def letter(tx: Transaction, number: int) -> Letter | None:
    """A mail with its text; None if there is none of this number."""
    lines = outbox.mails(tx, number=number, limit=1)
    raw = outbox.text(tx, number)
    if not lines or raw is None:
        return None
    parsed = parse(raw)
    if isinstance(parsed, Parsed):
        return Letter(line=lines[0], parsed=parsed.mail, text=printable(parsed.body))
    return Letter(line=lines[0], parsed=None, text=printable(raw.decode("utf-8", "replace")))


def revision_stories(tx: Transaction, tree: str, tag: str) -> tuple[RevisionStory, ...]:
    """A tag at every commit that it stood at, newest first."""
    return tuple(_revision_story(tx, found) for found in overview.tagged(tx, tree, tag))


def boot_story(tx: Transaction, key: str) -> BootStory | None:
    """A boot, by its key or that of its inputs; None if there is none."""
    boot = steps.find_boot(tx, key)
    at = overview.recorded_at(tx, JobKind.BOOT, boot.key) if boot else None
    if boot is None or at is None:
        return None
    lines = overview.trial_lines(tx, boot_key=boot.key, limit=TRIALS_OF_A_PAGE)
    return BootStory(
        boot=boot,
        at=at,
        trials=lines,
        totals=next((line.totals for line in lines if line.totals), None),
        folders=overview.folders(tx, boot.key),
    )


def runs_on(tx: Transaction, kind: JobKind, key: str) -> str | None:
    """The host that does this step now."""
    found = (job.host for job in queue.alive(tx) if (job.kind, job.key) == (kind, key))
    return next(found, None)


def build_story(tx: Transaction, key: str) -> BuildStory | None:
    """A build; None if there is none with this key."""
    build = steps.build(tx, key)
    at = overview.recorded_at(tx, JobKind.BUILD, key)
    if build is None or at is None:
        return None
    lines = overview.trial_lines(tx, build_key=key, limit=TRIALS_OF_A_PAGE)
    return BuildStory(build=build, at=at, trials=lines)


def job_lines(tx: Transaction, jobs: tuple[QueuedJob, ...]) -> tuple[JobLine, ...]:
    """Jobs with what they are about."""
    return tuple(
        JobLine(job=job, subject=overview.subject_of_job(tx, JobKind(job.kind), job.key))
        for job in jobs
    )


def _confirmed_blame(tx: Transaction, number: int) -> Blame | None:
    blames = [
        event.detail.get("blame")
        for event in regressions.timeline(tx, number)
        if event.kind is RegressionEvent.CONFIRMED
    ]
    return Blame(blames[-1]) if blames and blames[-1] else None


def _inquiry(tx: Transaction, investigation: Investigation) -> Inquiry:
    if investigation.answer:
        found = overview.proof(tx, investigation.answer.proof)
    else:
        found = overview.wanted_by(tx, JobKind.INVESTIGATE, str(investigation.id))
    return Inquiry(investigation=investigation, trials=found)


def _revision_story(tx: Transaction, revision: Revision) -> RevisionStory:
    lines = overview.trial_lines(tx, commit=revision.commit, limit=TRIALS_OF_A_PAGE)
    keys = sorted({line.checkout_key for line in lines if line.checkout_key})
    checkouts = (steps.checkout(tx, key) for key in keys)
    return RevisionStory(
        revision=revision,
        trials=lines,
        checkouts=tuple(found for found in checkouts if found and found.patches),
        baselines=overview.baselines(tx, revision),
        failures=_failures(tx, lines),
    )


def _failures(tx: Transaction, lines: list[TrialLine] | tuple[TrialLine, ...]) -> Mapping[int, str]:
    found = {
        line.id: overview.infra_failure(tx, line.id)
        for line in lines
        if line.outcome is Outcome.INFRA
    }
    return {number: reason for number, reason in found.items() if reason}


def _before(trees: Mapping[str, tuple[TagLine, ...]]) -> Mapping[int, Totals]:
    """The coverage of the next older tag in the same lane, by the same recipes and series."""
    found: dict[int, Totals] = {}
    for tags in trees.values():
        last: dict[object, Totals] = {}
        for tag in reversed(tags):
            for line in tag.trials:
                if line.totals is None:
                    continue
                what = (line.variant_name, line.trial.of(""))
                if what in last:
                    found[line.id] = last[what]
                last[what] = line.totals
    return found
