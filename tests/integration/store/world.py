# SPDX-License-Identifier: GPL-2.0-or-later
"""A lab without hosts in a world whose truth is known: the real queue, store and domain.

Each stage does what that of ``kwatch.stages`` does with the store, and takes from the truth what
the other would take from git, make or QEMU.
"""

from __future__ import annotations

import hashlib
import sqlite3
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from kwatch.domain.facts import (
    BaselinesFound,
    Built,
    EnvironmentGone,
    Facts,
    Investigated,
    Judged,
    Plan,
    Planned,
    Sent,
    Watched,
    Written,
)
from kwatch.domain.finding import Finding, FindingKind, Severity
from kwatch.domain.lab.job import Job, JobKind, failing_tag
from kwatch.domain.mail.story import Delivery, DeliveryState, Letter, Release
from kwatch.domain.mail.thread import of_regression, reports_of
from kwatch.domain.milestone import Milestone
from kwatch.domain.source.revision import Revision
from kwatch.domain.source.source import with_series
from kwatch.domain.trial.case_results import CaseResults
from kwatch.domain.trial.steps import boot_row, build_key, environment_of, inputs_of
from kwatch.domain.trial.trial import Trial
from kwatch.domain.verdict.baseline import in_order, releases
from kwatch.domain.verdict.blame import Blame
from kwatch.domain.verdict.case import evidence_for
from kwatch.domain.verdict.investigation import plan
from kwatch.domain.verdict.judge import judge
from kwatch.domain.verdict.lane import Lane
from kwatch.stages.investigate import question_of
from kwatch.store import (
    baselines,
    costs,
    effects,
    investigations,
    lanes,
    mail,
    motion,
    notices,
    queue,
    recipes,
    regressions,
    revisions,
    steps,
    trials,
)
from kwatch.store.database import connect, migrate, transaction
from tests.unit.domain import trials as samples

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from kwatch.domain.recipe.build import BuildRecipe

TREE = "linux-next"


class Kind(StrEnum):
    """How a bug shows."""

    APPLY = "apply"
    COMPILE = "compile"
    HANG = "hang"
    PANIC = "panic"
    COVERAGE = "coverage"
    WARNING = "warning"
    TEST = "test"


# What a bug shows at, in the order in which one hides the next.
ORDER = (Kind.APPLY, Kind.COMPILE, Kind.HANG, Kind.PANIC, Kind.COVERAGE, Kind.WARNING, Kind.TEST)
_FINDINGS = {
    Kind.APPLY: FindingKind.APPLY,
    Kind.COMPILE: FindingKind.COMPILE,
    Kind.HANG: FindingKind.SILENT_HANG,
    Kind.PANIC: FindingKind.PANIC,
    Kind.COVERAGE: FindingKind.COVERAGE,
    Kind.WARNING: FindingKind.WARNING,
    Kind.TEST: FindingKind.TEST,
}
NEEDS_SERIES = {Kind.APPLY, Kind.COVERAGE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bug:
    """A bug of ``axis``: in commits that descend from commit ``since`` and not from ``until``.

    SERIES: only with the series; of a version of the series, of a toolchain or of a host
    (``version``) from that version on, whatever the commit. It does not show on hosts from version
    ``mended`` on. ``rate`` of its boots fail, the others are well.
    """

    name: str
    kind: Kind
    axis: Blame = Blame.TREE
    since: int = 0
    until: int | None = None
    version: int | None = None
    mended: int | None = None
    rate: float = 1.0

    @property
    def finding(self) -> Finding:
        """What a log has of it."""
        is_error = self.kind not in (Kind.WARNING, Kind.TEST)
        title = f"{self.kind} in {self.name}"
        return Finding(
            kind=_FINDINGS[self.kind],
            title=f"{self.name} fails" if self.kind is Kind.TEST else title,
            severity=Severity.ERROR if is_error else Severity.WARNING,
        )


_EMPTY: list[bytes] = []


def _database() -> sqlite3.Connection:
    """An empty history in memory, as the store makes it."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.row_factory = sqlite3.Row
    if not _EMPTY:
        migrate(connection, Path(":memory:"))
        _EMPTY.append(connection.serialize())
    else:
        connection.deserialize(_EMPTY[0])
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def reopened(path: Path) -> sqlite3.Connection:
    """A connection as the daemon's, but for the disk: a test survives no power cut."""
    connection = connect(path, read_only=False)
    connection.execute("PRAGMA synchronous = OFF")
    return connection


@dataclass(slots=True, kw_only=True)
class World:
    """One lab, its clock, a history of commits and the tags on it.

    ``hosts`` are the versions of what each host boots in.
    The database is in memory, or at ``path``: see :meth:`on_disk`.
    """

    path: Path | None = None
    connection: sqlite3.Connection = field(default_factory=_database)
    now: float = 1_000_000.0
    bugs: list[Bug] = field(default_factory=list)
    commits: list[str] = field(default_factory=list)
    parents: dict[str, tuple[str, ...]] = field(default_factory=dict)
    series: int = 1
    recipe: int = 1
    environment: int = 1
    hosts: list[int] = field(default_factory=lambda: [1, 1])
    seed: int = 0
    slots: int = 1
    tags: dict[str, str] = field(default_factory=dict)
    releases: dict[str, str] = field(default_factory=dict)
    _known: dict[str, frozenset[str]] = field(default_factory=dict)

    @classmethod
    def on_disk(cls, folder: Path) -> World:
        """A lab with an empty history in a file, which others can open too."""
        path = folder / "kwatch.db"
        connection = reopened(path)
        _database().backup(connection)
        return cls(path=path, connection=connection)

    # The truth

    def add_commit(self, *parents: str) -> str:
        """One more commit, on ``parents`` or on the newest one."""
        commit = f"c{len(self.commits):03}"
        self.parents[commit] = parents or tuple(self.commits[-1:])
        self.commits.append(commit)
        return commit

    def add_merge(self, length: int, base: str) -> str:
        """A side branch of ``length`` commits that leaves at ``base``, and its merge."""
        side = base
        for _ in range(length):
            side = self.add_commit(side)
        main = self.add_commit(base)
        return self.add_commit(main, side)

    def has(self, bug: Bug, trial: Trial, environment: int, host: int) -> bool:
        """Whether a kernel has the bug, built by these tools and booted on a host of this version.

        Before it is built or booted, the versions are 0.
        """
        series = trial.source.series
        if series is None and (bug.axis is Blame.SERIES or bug.kind in NEEDS_SERIES):
            return False
        if bug.mended is not None and host >= bug.mended:
            return False
        if bug.version is not None:
            present = {
                Blame.SERIES: int((series or "0").lstrip("s")),
                Blame.TOOLCHAIN: environment,
                Blame.HOST: host,
                Blame.CONFIG: RECIPES.index(trial.build) + 1,
            }[bug.axis]
            return present >= bug.version
        known = self.ancestors(trial.commit)
        numbers = {self.commits.index(one) for one in known}
        return bug.since in numbers and bug.until not in numbers

    def shown(self, trial: Trial, environment: int, host: int = 0) -> list[Bug]:
        """The bugs that this very trial shows, in the order in which they do."""
        found = [
            bug
            for bug in self.bugs
            if self.has(bug, trial, environment, host) and self._strikes(bug, trial)
        ]
        return sorted(found, key=lambda bug: ORDER.index(bug.kind))

    def _strikes(self, bug: Bug, trial: Trial) -> bool:
        if bug.rate >= 1 or bug.kind in (Kind.APPLY, Kind.COMPILE):
            return True
        text = f"{self.seed} {bug.name} {trial.source.key} {trial.sample}"
        digest = hashlib.sha256(text.encode()).digest()
        return int.from_bytes(digest[:4], "big") / (1 << 32) < bug.rate

    # What happens outside

    def tag(self, tag: str, commit: str | None = None, *, tree: str = TREE) -> None:
        """Upstream tags a commit (the newest one), or moves a tag; the tree is polled."""
        self.tags[tag] = commit or self.commits[-1]
        revision = Revision(tree=tree, tag=tag, commit=self.tags[tag], seen_at=self.now)
        with transaction(self.connection):
            queue.enqueue(self.connection, JobKind.WATCH, tree, now=self.now)
        job = self.claim([JobKind.WATCH])
        assert job is not None
        self.record(job, Watched(tree=tree, revisions=(revision,)))

    def suspects(self, bad: str, good: str) -> Mapping[str, Sequence[str]]:
        """What ``git rev-list --parents --topo-order bad ^good`` would say."""
        known = self.ancestors(good)
        found = self.ancestors(bad) - known
        return {
            commit: self.parents[commit] for commit in reversed(self.commits) if commit in found
        }

    def ancestors(self, commit: str) -> frozenset[str]:
        """A commit and all that it contains."""
        if commit not in self._known:
            self._known[commit] = frozenset(self._walk(commit))
        return self._known[commit]

    def _walk(self, commit: str) -> set[str]:
        found: set[str] = set()
        todo = [commit]
        while todo:
            one = todo.pop()
            if one not in found:
                found.add(one)
                todo += self.parents[one]
        return found

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
                if isinstance(facts, Built):
                    self._keep(facts.result.artifacts.values())
                effects.record(self.connection, job, facts, now=self.now)

    def _keep(self, digests: Iterable[str]) -> None:
        """The blobs are there."""
        self.connection.executemany(
            "INSERT OR IGNORE INTO blob (digest, size, stored, created_at, used_at)"
            " VALUES (?, 1, 1, 0, 0)",
            [(digest,) for digest in digests],
        )

    def fail(self, job: Job) -> bool:
        """End a job with a failure of the lab, as the worker does; True if it was given up."""
        with transaction(self.connection):
            given_up = queue.fail(
                self.connection, job, "the host is gone", now=self.now, jitter=0.5, after=None
            )
            if given_up:
                effects.give_up(self.connection, job, now=self.now)
        return given_up

    def recover(self, tries: int | None = None) -> int:
        """The hosts are back; how many trials are tried again."""
        with transaction(self.connection):
            return motion.retry(self.connection, tries=tries, now=self.now)

    def restart(self) -> int:
        """Die and start again; how many jobs ran."""
        if self.path is not None:
            self.connection.close()
            self.connection = reopened(self.path)
        with transaction(self.connection):
            return queue.recover(self.connection, now=self.now)

    def run(self, limit: int = 5000) -> None:
        """Work until nothing is left to do."""
        for _ in range(limit):
            job = self.claim()
            if job is None:
                return
            self.record(job, self.work(job))
        raise AssertionError("there is always something left to do")

    # The stages

    def work(
        self,
        job: Job,
        *,
        lie: Kind | None = None,
        delivery: DeliveryState = DeliveryState.ACCEPTED,
    ) -> Facts | None:
        """What the stage of ``job`` finds; with ``lie`` it takes that for the truth."""
        match job.kind:
            case JobKind.PLAN:
                return self._plan(job)
            case JobKind.CHECKOUT | JobKind.BUILD | JobKind.BOOT | JobKind.COLLECT:
                return self._step(job, lie)
            case JobKind.JUDGE:
                return self._judge(job)
            case JobKind.BASELINE:
                return self._baseline(job)
            case JobKind.INVESTIGATE:
                return self._investigate(job)
            case JobKind.REPORT:
                return self._report(job)
            case JobKind.SEND:
                return self._send(job, delivery)
            case JobKind.TIDY:
                # Hosts of this world keep nothing.
                return None
            case _:
                raise AssertionError(job)

    def _plan(self, job: Job) -> Planned:
        revision = revisions.load(self.connection, int(job.key))
        build = recipe_of(self.recipe)
        plans = [
            Plan(
                lane=Lane(tree=revision.tree, variant=name),
                trial=Trial(
                    source=with_series(revision.commit, series),
                    build=build.digest,
                    boot=samples.BOOT.digest,
                ),
                build=build,
                boot=samples.BOOT,
            )
            for name, series in (("cov", f"s{self.series}"), ("plain", None))
        ]
        return Planned(revision=int(job.key), plans=tuple(plans))

    def _step(self, job: Job, lie: Kind | None) -> Facts | None:
        trial = steps.wanted(self.connection, job.kind, job.key)
        if trial is None:
            return None
        bugs = [Bug(name="lie", kind=lie)] if lie else None
        if job.kind is JobKind.CHECKOUT:
            shown = bugs if bugs is not None else self.shown(trial, 0)
            is_broken = bool(shown) and shown[0].kind is Kind.APPLY
            result = samples.checkout(job.key, None if is_broken else samples.tree_id(trial.source))
            return replace(result, finding=shown[0].finding) if is_broken else result
        if job.kind is JobKind.BUILD:
            return self._build(trial, bugs)
        build_row = trials.waiting(self.connection, job.kind, job.key)[0].build_row
        build = steps.build(self.connection, build_row)
        assert build is not None
        environment = _version(build.environment_digest)
        if job.kind is JobKind.COLLECT:
            host = _version(environment_of(job.key))
        else:
            asked = trial.sample.boot_environment
            host = _version(asked) if asked else self.hosts[job.id % len(self.hosts)]
            if host not in self.hosts:
                return EnvironmentGone(key=job.key)
        shown = bugs if bugs is not None else self.shown(trial, environment, host)
        if job.kind is JobKind.COLLECT:
            first = next((bug for bug in shown if bug.kind is Kind.COVERAGE), None)
            return samples.collection(job.key, finding=first.finding if first else None)
        first = next((bug for bug in shown if bug.kind in (Kind.HANG, Kind.PANIC)), None)
        others = tuple(bug.finding for bug in shown if bug.kind in (Kind.WARNING, Kind.TEST))
        failed = tuple(sorted(bug.name for bug in shown if bug.kind is Kind.TEST))
        milestones = {Kind.HANG: Milestone.LINKED, Kind.PANIC: Milestone.INIT}
        return samples.boot(
            boot_row(inputs_of(job.key), f"h{host}"),
            build.row,
            finding=first.finding if first else None,
            milestone=milestones[first.kind] if first else Milestone.TESTED,
            artifacts={"profile": "p" * 64} if not trial.is_control and first is None else {},
            others=others if first is None else (),
            # There is a case for each bug, of its name.
            cases=CaseResults(ran=tuple(sorted(bug.name for bug in self.bugs)), failed=failed)
            if first is None
            else CaseResults(),
            environment=f"QEMU {host}",
        )

    def _build(self, trial: Trial, bugs: list[Bug] | None) -> Built:
        asked = trial.sample.environment
        environment = _version(asked) if asked else self.environment
        shown = bugs if bugs is not None else self.shown(trial, environment)
        broken = shown[0] if shown and shown[0].kind is Kind.COMPILE else None
        result = samples.build(
            build_key(samples.tree_id(trial.source), trial),
            finding=broken.finding if broken else None,
            environment=f"e{environment}",
        )
        if broken is None:
            # A rebuild is the same image, byte for byte.
            text = f"{samples.tree_id(trial.source)} {trial.build} {environment}"
            digest = hashlib.sha256(text.encode()).hexdigest()
            result = replace(result, artifacts={"image": digest})
        return Built(result=result, recipe=trial.build)

    def _judge(self, job: Job) -> Judged:
        lane = int(job.key)
        runs = lanes.runs(self.connection, lane)
        known = regressions.known(self.connection, lane, runs)
        tried = baselines.runs(self.connection, lane)
        return Judged(lane=lane, judgements=judge(runs, known, tried))

    def _baseline(self, job: Job) -> BaselinesFound:
        lane, failing = failing_tag(job.key)
        bad = revisions.load(self.connection, failing)
        known = self.ancestors(bad.commit) - {bad.commit}
        finals, candidates = releases(
            {name: commit for name, commit in self.releases.items() if commit in known}
        )
        found = in_order(
            bad.commit,
            fork=None,
            candidate=next(iter(candidates), None),
            release=next(iter(finals), None),
        )
        return BaselinesFound(
            lane=lane,
            failing=failing,
            revisions=tuple(
                Revision(
                    tree=bad.tree,
                    tag=one.name,
                    commit=one.commit,
                    seen_at=self.now,
                    is_baseline=True,
                )
                for one in found
            ),
        )

    def _investigate(self, job: Job) -> Investigated | None:
        investigation = investigations.load(self.connection, int(job.key))
        if investigation.ended_at is not None:
            return None
        question = question_of(self.connection, investigation)
        question = replace(question, suspects=self.suspects(question.bad, question.good))
        settled = trials.evidence(self.connection, self.commits)
        result = plan(
            question,
            evidence_for(question, settled),
            pending=investigations.pending(self.connection, investigation.id),
            slots=self.slots,
            costs=costs.of(self.connection, question.subject),
        )
        return Investigated(investigation=investigation.id, result=result)

    def _report(self, job: Job) -> Written:
        thread = notices.load_thread(self.connection, int(job.key))
        events = {
            str(event.id): event
            for event in regressions.timeline(self.connection, int(thread.owner))
        }
        pending = notices.pending(self.connection, int(job.key))
        kinds = reports_of(
            [(events[one.cause].kind, events[one.cause].detail) for one in pending],
            is_begun=bool(mail.thread(self.connection, thread)),
        )
        fresh = [(notice.id, kind) for notice, kind in zip(pending, kinds, strict=True)]
        return Written(
            letters=tuple(
                Letter(
                    notice=notice,
                    kind=kind,
                    # As in the real stage, each attempt makes an identity of its own.
                    message_id=f"{notice}.{job.id}.{job.attempt}@lab.example.org",
                    subject="subject",
                    envelope_from="kwatch@lab.example.org",
                    recipients=("author@example.org", "list@example.org"),
                    message=b"Subject: subject\n\nbody\n",
                )
                for notice, kind in fresh
                if kind is not None
            ),
            silent=tuple(notice for notice, kind in fresh if kind is None),
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

    def rows(self, statement: str) -> list[sqlite3.Row]:
        """What the database says."""
        return self.connection.execute(statement).fetchall()

    def dump(self) -> list[str]:
        """The whole database as text."""
        return list(self.connection.iterdump())

    def check(self) -> None:
        """The invariants of a history between two transactions."""
        alive = [(job.kind, job.key, job.state) for job in queue.alive(self.connection)]
        assert len(alive) == len(set(alive)), "a job is queued or running twice"
        runnable = {(kind, key) for kind, key, _ in alive}
        self._check_trials(runnable)
        self._check_investigations(runnable)
        self._check_regressions(runnable)

    def _check_trials(self, runnable: set[tuple[str, str]]) -> None:
        for row in self.rows(
            "SELECT trial.*, EXISTS (SELECT 1 FROM want WHERE want.trial = trial.id) AS is_wanted"
            " FROM trial"
        ):
            if row["outcome"] is not None:
                assert (row["waits_kind"], row["waits_key"]) == (None, None)
                assert (row["outcome"] == "fail") == (row["finding"] is not None)
            elif row["is_wanted"]:
                assert (row["waits_kind"], row["waits_key"]) in runnable, dict(row)

    def _check_investigations(self, runnable: set[tuple[str, str]]) -> None:
        for row in self.rows("SELECT id FROM investigation WHERE ended_at IS NULL"):
            key = str(row["id"])
            # A trial that the lab failed at is tried again when the lab has recovered.
            pending = self.connection.execute(
                "SELECT 1 FROM want JOIN trial ON trial.id = want.trial"
                " WHERE asker_kind = 'investigate' AND asker_key = ?"
                " AND (outcome IS NULL OR outcome = 'infra')",
                (key,),
            ).fetchall()
            assert pending or (JobKind.INVESTIGATE, key) in runnable, key
        assert not self.rows(
            "SELECT * FROM want JOIN investigation AS i ON asker_kind = 'investigate'"
            " AND asker_key = i.id WHERE i.ended_at IS NOT NULL"
        ), "an investigation that has ended wants something"

    def _check_regressions(self, runnable: set[tuple[str, str]]) -> None:
        for regression in regressions.newest_first(self.connection):
            events = regressions.timeline(self.connection, regression.id)[1:]
            if any(event.reported_at is None for event in events):
                thread = notices.thread_number(self.connection, of_regression(regression.id))
                assert (JobKind.REPORT, str(thread)) in runnable, regression
        for row in self.rows("SELECT count(*) AS n, notice FROM mail GROUP BY notice"):
            assert row["n"] == 1
        for row in self.rows("SELECT id FROM mail WHERE state IN ('ready', 'sending')"):
            assert (JobKind.SEND, str(row["id"])) in runnable


def _version(environment: str) -> int:
    """Of tools (e1) or of a host (h1)."""
    return int(environment[1:])


def recipe_of(number: int) -> BuildRecipe:
    """The build recipe after so many changes of the configuration."""
    if number == 1:
        return samples.BUILD
    return replace(samples.BUILD, options=(("RECIPE", str(number)),))


RECIPES = [recipe_of(number).digest for number in range(1, 5)]


def put_recipes(world: World) -> None:
    """Recipes that the lab had before."""
    with transaction(world.connection):
        recipes.put(world.connection, samples.BUILD, samples.BOOT)
