# SPDX-License-Identifier: GPL-2.0-or-later
"""Generated worlds against their truth: what the lab concludes, whatever happens to it.

Tags come late, twice, and move; the series, the configuration and the tools change; hosts are
upgraded, each for itself, and some upgrades break boots; bugs come, go and hide each other; the lab
fails and restarts between any two transactions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from kwatch.domain.finding import FindingKind
from kwatch.domain.source.tag_order import branch_of, branches
from kwatch.domain.verdict.bisect.commits import Mark
from kwatch.domain.verdict.blame import Blame
from kwatch.domain.verdict.grade import Grade
from kwatch.domain.verdict.problem import Facet, Problem
from kwatch.domain.verdict.question import Goal
from kwatch.domain.verdict.regression import RegressionEvent, RegressionState
from kwatch.store import baselines, investigations, lanes, presences, regressions
from tests.integration.store.world import NEEDS_SERIES, TREE, Bug, Kind, World

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kwatch.domain.verdict.lane import TagRun
    from kwatch.domain.verdict.regression import Presence, Regression

# A thousand worlds each: some minutes on two cores.
pytestmark = pytest.mark.timeout(1200)

NEXT = "next-"
SOUND = (RegressionState.CONFIRMED, RegressionState.FIXED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """What happens before a tag, and how much of the work is done after it.

    The tag is one of linux-next, or of a stable branch, which begins where linux-next is by then,
    and later takes all of it once in a while (``merges``).
    """

    branch: str
    merges: bool
    commits: int
    side: int
    series: bool
    recipe: bool
    environment: bool
    hosts: tuple[bool, bool]
    moves: bool
    steps: int


DAYS = st.builds(
    Day,
    branch=st.sampled_from([NEXT, NEXT, NEXT, "v1.0.", "v1.1."]),
    merges=st.sampled_from([False, False, True]),
    commits=st.integers(1, 4),
    side=st.sampled_from([0, 0, 1, 2]),
    series=st.sampled_from([False, False, False, True]),
    recipe=st.sampled_from([False, False, False, False, True]),
    environment=st.sampled_from([False, False, False, False, True]),
    hosts=st.sampled_from([*[(False, False)] * 4, (True, False), (False, True), (True, True)]),
    moves=st.sampled_from([False, False, False, False, False, True]),
    steps=st.sampled_from([0, 5, 20, 60, 1000]),
)
COMMIT_BUGS = st.builds(
    Bug,
    name=st.sampled_from("abc"),
    kind=st.sampled_from(Kind),
    axis=st.sampled_from([Blame.TREE, Blame.TREE, Blame.SERIES]),
    since=st.integers(1, 25),
    until=st.one_of(st.none(), st.integers(2, 30)),
    mended=st.sampled_from([None, None, 2, 3]),
)
OTHER_BUGS = st.builds(
    Bug,
    name=st.sampled_from("xyz"),
    kind=st.sampled_from([Kind.COMPILE, Kind.HANG, Kind.PANIC, Kind.WARNING, Kind.TEST]),
    axis=st.sampled_from([Blame.SERIES, Blame.TOOLCHAIN, Blame.CONFIG]),
    version=st.just(2),
)
HOST_BUGS = st.builds(
    Bug,
    name=st.sampled_from("qrs"),
    kind=st.sampled_from([Kind.HANG, Kind.PANIC, Kind.WARNING]),
    axis=st.just(Blame.HOST),
    version=st.sampled_from([2, 3]),
    mended=st.sampled_from([None, 4]),
)
FLAKY_BUGS = st.builds(
    Bug,
    name=st.sampled_from("fgh"),
    kind=st.sampled_from([Kind.HANG, Kind.PANIC, Kind.TEST]),
    axis=st.sampled_from([Blame.TREE, Blame.SERIES]),
    since=st.integers(1, 25),
    until=st.one_of(st.none(), st.integers(2, 30)),
    rate=st.sampled_from([0.3, 0.5, 0.7, 0.9]),
)


def live(
    world: World,
    days: Sequence[Day],
    failures: set[int],
    restarts: set[int],
    released: int = 0,
) -> None:
    """Let the days go by, with a failure or a restart of the lab before some jobs.

    The first commit is a release, and a later one (``released`` > 0) a release candidate.
    """
    count = 0

    def work(steps: int) -> None:
        nonlocal count
        for _ in range(steps):
            job = world.claim()
            if job is None:
                return
            count += 1
            if count in restarts:
                world.restart()
                continue
            if count in failures:
                world.fail(replace(job, failures=5))
                continue
            world.record(job, world.work(job))

    world.releases["v1.0"] = tip = world.add_commit()
    if released:
        for _ in range(released):
            tip = world.add_commit(tip)
        world.releases["v1.1-rc1"] = tip
    heads = {NEXT: tip}
    for number, day in enumerate(days):
        head = heads.get(day.branch, heads[NEXT])
        if day.merges and heads[NEXT] != head:
            head = world.add_commit(head, heads[NEXT])
        for _ in range(day.commits):
            head = world.add_commit(head)
        if day.side:
            head = world.add_merge(day.side, head)
        world.series = min(world.series + day.series, 3)
        world.recipe = min(world.recipe + day.recipe, 3)
        world.environment = min(world.environment + day.environment, 3)
        # One that was upgraded has versions that the other one has not, and skips none.
        world.hosts = [host + is_up for host, is_up in zip(world.hosts, day.hosts, strict=True)]
        tree = TREE if day.branch == NEXT else "linux-stable"
        tag = f"{day.branch}{number}"
        for _ in range(2):
            world.tag(tag, head, tree=tree)
        if day.moves:
            head = world.add_commit(head)
            world.tag(tag, head, tree=tree)
        heads[day.branch] = head
        work(day.steps)
    for _ in range(20):
        world.run()
        world.check()
        if not world.recover():
            return
    raise AssertionError("the lab never recovers")


def lines(world: World, lane: int) -> dict[str, list[TagRun]]:
    """The tags of each branch of a lane in their order."""
    runs = {run.tag: run for run in lanes.runs(world.connection, lane)}
    return {branch_of(own[0]): [runs[tag] for tag in own] for _, own in branches(runs)}


def line(world: World, one: Presence) -> list[TagRun]:
    """The tags of the line of a presence."""
    return lines(world, lanes.number(world.connection, one.line.lane))[one.line.branch]


def all_lines(world: World) -> list[tuple[int, list[TagRun]]]:
    """Each line with the number of its lane."""
    numbers = [row["id"] for row in world.rows("SELECT id FROM lane")]
    return [(number, runs) for number in numbers for runs in lines(world, number).values()]


def check_opened_once(found: Sequence[Regression]) -> None:
    names = [(one.facet, one.fingerprint) for one in found if one.state in SOUND]
    assert len(names) == len(set(names)), "one bug is two regressions"


def check_blame(world: World, found: Sequence[Regression]) -> None:
    """No public mail where the tree is innocent; no innocent graded verified."""
    for regression in found:
        bugs = [bug for bug in world.bugs if bug.finding.title == regression.finding.title]
        is_public = any(
            bug.axis is Blame.TREE and bug.kind not in NEEDS_SERIES and bug.version is None
            for bug in bugs
        )
        for event in regressions.timeline(world.connection, regression.id):
            if event.kind is RegressionEvent.CONFIRMED and event.detail["blame"] == Blame.TREE:
                assert is_public, (regression, bugs)
        for one in investigations.of_regression(world.connection, regression.id):
            if one.answer is None or one.answer.grade is not Grade.VERIFIED:
                continue
            culprits = {world.commits[bug.since] for bug in bugs if bug.version is None}
            assert set(one.answer.commits) <= culprits, (regression, one.answer, bugs)


def check_first_bad(world: World, regression: Regression) -> None:
    """The last tag that says anything before the first bad one is good, in each lane."""
    for one in presences.of_regression(world.connection, regression.id):
        runs = line(world, one)
        at = next(at for at, run in enumerate(runs) if run.revision == one.bad.revision)
        before = runs[:at]
        if one.good and one.good.revision not in {run.revision for run in runs}:
            # The tag moved since. It is good where it was.
            before = [one.good, *(run for run in before if run.tag != one.good.tag)]
        marks = [regression.problem.mark(run.seen) for run in before if run.seen]
        telling = [mark for mark in marks if mark is not Mark.UNTESTABLE]
        if one.good is None:
            assert Mark.GOOD not in telling, regression
            continue
        assert telling, regression
        assert telling[-1] is Mark.GOOD, regression


def check_end(world: World, regression: Regression) -> None:
    """Gone from a lane if the last tag that says anything is good; fixed if gone from all.

    A tag that passes on one host and fails where it was tried again has it.
    """
    found = presences.of_regression(world.connection, regression.id)
    for one in found:
        runs = line(world, one)
        lane = lanes.number(world.connection, one.line.lane)
        sighted = regressions_sighted(world, regression.id, lane)
        marks = [
            Mark.BAD if run.revision in sighted else _mark_at_end(world, regression, one.bad, run)
            for run in runs
            if run.seen
        ]
        telling = [mark for mark in marks if mark is not Mark.UNTESTABLE]
        assert (one.gone is not None) is (telling[-1] is Mark.GOOD), (regression, one)
    is_fixed = all(one.gone is not None for one in found)
    expected = RegressionState.FIXED if is_fixed else RegressionState.CONFIRMED
    assert regression.state is expected, regression


def _mark_at_end(world: World, regression: Regression, bad: TagRun, run: TagRun) -> Mark:
    """What a tag says of a regression: a good one must be good as the bad one was tried, too."""
    assert run.seen
    mark = regression.problem.mark(run.seen)
    if mark is Mark.GOOD and bad.seen and bad.seen.environment:
        (bug,) = (one for one in world.bugs if one.finding.title == regression.finding.title)
        environment = int(bad.seen.environment.lstrip("e"))
        host = int(run.seen.boot_environment.lstrip("h") or 0)
        if world.has(bug, bad.trial.of(run.commit), environment, host):
            return Mark.BAD
    return mark


def check_nothing_lost(world: World, found: Sequence[Regression]) -> None:
    """Each failure of a tag, or of its tests, that an earlier one had not is on record."""
    for lane, runs in all_lines(world):
        for at, run in enumerate(runs):
            for problem in _problems(run):
                known = [one for one in found if one.fingerprint in problem.fingerprints]
                sighted = {
                    revision
                    for one in known
                    for revision in regressions_sighted(world, one.id, lane)
                }
                before = [
                    old for old in runs[:at] if old.seen and problem.mark(old.seen) is Mark.GOOD
                ]
                assert not before or run.revision in sighted, (run, known)


def _problems(run: TagRun) -> list[Problem]:
    """The failure of a tag, and those of its test cases."""
    seen = run.seen
    if seen is None or not seen.is_evidence:
        return []
    shown = [(Facet.FAILURE, seen.finding)] if seen.finding else []
    shown += [(Facet.TEST, one) for one in seen.others if one.kind is FindingKind.TEST]
    return [
        Problem(
            facet=facet,
            fingerprints=frozenset({finding.fingerprint}),
            milestone=seen.milestone,
        )
        for facet, finding in shown
    ]


def check_baseline(world: World) -> None:
    """A first tag that fails is compared with a release or candidate that is free of it."""
    found = regressions.newest_first(world.connection)
    for lane, (first, *_) in all_lines(world):
        if first.seen is None or first.seen.finding is None or not first.seen.is_evidence:
            continue
        fingerprint = first.seen.finding.fingerprint
        if any(
            one.fingerprint == fingerprint
            and first.revision in regressions_sighted(world, one.id, lane)
            for one in found
        ):
            continue
        problem = _problems(first)[0]
        tried = baselines.runs(world.connection, lane).get(first.revision, ())
        known = world.ancestors(first.commit) - {first.commit}
        assert len(tried) == len(set(world.releases.values()) & known), first
        marks = [problem.mark(old.seen) for old in tried if old.seen]
        assert Mark.GOOD not in marks, (first, tried)


def regressions_sighted(world: World, number: int, lane: int) -> set[int]:
    rows = world.connection.execute(
        "SELECT revision FROM sighting WHERE regression = ? AND lane = ?", (number, lane)
    )
    return {row["revision"] for row in rows}


_DAY = Day(
    branch=NEXT, merges=False, commits=1, side=0, series=False, recipe=False, environment=False,
    hosts=(False, False), moves=False, steps=0,
)  # fmt: skip
EVENTS = st.sets(st.integers(1, 200), max_size=4)
LIVES = settings(
    max_examples=1000, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)


@given(
    days=st.lists(DAYS, min_size=2, max_size=7),
    released=st.sampled_from([0, 0, 2]),
    slots=st.sampled_from([1, 1, 2, 3]),
    bugs=st.lists(
        st.one_of(COMMIT_BUGS, OTHER_BUGS, HOST_BUGS), max_size=3, unique_by=lambda bug: bug.name
    ),
    failures=EVENTS,
    restarts=EVENTS,
)
@example(
    # The good tag moves to a bad commit.
    days=[replace(_DAY, moves=True, steps=5), _DAY, _DAY],
    released=0,
    slots=1,
    bugs=[Bug(name="a", kind=Kind.APPLY, since=2)],
    failures={2},
    restarts=set(),
)
@LIVES
def test_what_is_concluded_is_true(
    *,
    days: list[Day],
    released: int,
    slots: int,
    bugs: list[Bug],
    failures: set[int],
    restarts: set[int],
) -> None:
    world = World(bugs=bugs, slots=slots)
    live(world, days, failures, restarts, released)
    found = regressions.newest_first(world.connection)
    check_opened_once(found)
    check_blame(world, found)
    check_nothing_lost(world, found)
    check_baseline(world)
    for regression in found:
        assert regression.state is not RegressionState.SUSPECTED, regression
        if regression.state in SOUND:
            check_first_bad(world, regression)
            check_end(world, regression)
        goals = [one.goal for one in investigations.of_regression(world.connection, regression.id)]
        assert goals.count(Goal.CAUSE) == 1
    world.connection.close()


@given(
    days=st.lists(DAYS, min_size=3, max_size=6),
    bugs=st.lists(
        st.one_of(FLAKY_BUGS, FLAKY_BUGS, COMMIT_BUGS, HOST_BUGS),
        min_size=1, max_size=3, unique_by=lambda bug: bug.name,
    ),
    failures=EVENTS,
    restarts=EVENTS,
    seed=st.integers(0, 1 << 30),
)  # fmt: skip
@LIVES
def test_a_bug_that_shows_at_times_accuses_no_innocent(
    days: list[Day], bugs: list[Bug], failures: set[int], restarts: set[int], seed: int
) -> None:
    world = World(bugs=bugs, seed=seed)
    live(world, days, failures, restarts)
    found = regressions.newest_first(world.connection)
    check_opened_once(found)
    check_blame(world, found)
    world.connection.close()
