# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from kwatch.domain.trial.route import Outcome
from kwatch.domain.trial.seen import Seen, fingerprints_of
from kwatch.domain.verdict.judge import (
    Earlier,
    Gone,
    Here,
    Judgement,
    Known,
    Masked,
    NoBaseline,
    Opened,
    Reappeared,
    Sighted,
    Spread,
    judge,
)
from kwatch.domain.verdict.problem import Facet, Problem
from kwatch.domain.verdict.regression import (
    TRANSITIONS,
    RegressionEvent,
    RegressionState,
)
from tests.unit.domain.lanes import BROKEN, FAIL, PANICS, SPLAT, UBSAN, lane, run, warned
from tests.unit.domain.trials import LAB_FAILED, PASSED

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kwatch.domain.verdict.lane import TagRun

SETTINGS = settings(max_examples=100, deadline=None)


@dataclass(slots=True)
class Record:
    """Regressions as the store keeps them: judgements are applied at once."""

    confirms: bool = False
    regressions: list[Known] = field(default_factory=list)
    tags: dict[int, str] = field(default_factory=dict)

    def judge(self, runs: Sequence[TagRun]) -> None:
        self.tags = {one.revision: one.tag for one in runs}
        for _ in range(20):
            judgements = judge(runs, self.regressions)
            before = list(self.regressions)
            for judgement in judgements:
                self.apply(judgement)
            if self.regressions == before:
                return
        raise AssertionError("judging has no end")

    def apply(self, judgement: Judgement) -> None:
        match judgement:
            case Opened():
                assert judgement.bad.seen is not None
                self.regressions.append(
                    Known(
                        id=len(self.regressions),
                        problem=Problem(
                            facet=judgement.facet,
                            fingerprints=fingerprints_of(judgement.finding),
                            milestone=judgement.bad.seen.milestone,
                        ),
                        state=RegressionState.SUSPECTED,
                        sighted=frozenset({judgement.bad.revision}),
                        here={
                            judgement.bad.branch: Here(
                                first_bad=judgement.bad.revision, good=judgement.good
                            )
                        },
                    )
                )
                if self.confirms:
                    self.happens(len(self.regressions) - 1, RegressionEvent.CONFIRMED)
            case Sighted():
                self.sight(judgement.regression, judgement.run)
            case Earlier() | Spread():
                self.sight(judgement.regression, judgement.bad)
                self.present(judgement.regression, judgement.good, judgement.bad)
            case Reappeared():
                self.sight(judgement.regression, judgement.run)
                self.gone(judgement.regression, judgement.run.branch, None)
                self.happens(judgement.regression, RegressionEvent.REAPPEARED)
            case Gone():
                self.gone(judgement.regression, judgement.run.branch, judgement.run.revision)
                here = self.regressions[judgement.regression].here.values()
                if all(one.gone is not None for one in here):
                    self.happens(judgement.regression, RegressionEvent.FIXED)
            case Masked() | NoBaseline():
                pass

    def sight(self, number: int, run: TagRun) -> None:
        self.replace(number, sighted=self.regressions[number].sighted | {run.revision})

    def present(self, number: int, good: TagRun | None, bad: TagRun) -> None:
        here = self.regressions[number].here
        self.replace(number, here={**here, **_here(good, bad)})

    def gone(self, number: int, branch: str, revision: int | None) -> None:
        here = self.regressions[number].here
        self.replace(number, here={**here, branch: replace(here[branch], gone=revision)})

    def happens(self, number: int, event: RegressionEvent) -> None:
        state = self.regressions[number].state
        self.replace(number, state=TRANSITIONS.get((state, event), state))

    def replace(self, number: int, **changes: object) -> None:
        self.regressions[number] = replace(self.regressions[number], **changes)  # type: ignore[arg-type]

    def contents(self) -> set[tuple[Facet, frozenset[str], frozenset[str]]]:
        """The regressions, each with the tags it was seen in."""
        found = {
            (
                one.problem.facet,
                one.problem.fingerprints,
                frozenset(self.tags[number] for number in one.sighted),
            )
            for one in self.regressions
        }
        assert len(found) == len(self.regressions), "a problem was opened twice"
        return found

    def first(self) -> set[tuple[Facet, frozenset[str], int]]:
        """The tag that each regression began with."""
        return {
            (one.problem.facet, one.problem.fingerprints, here.first_bad)
            for one in self.regressions
            for here in one.here.values()
        }


def _here(good: TagRun | None, bad: TagRun) -> dict[str, Here]:
    return {bad.branch: Here(first_bad=bad.revision, good=good)}


SEEN = st.sampled_from(
    [
        PASSED,
        FAIL,
        PANICS,
        BROKEN,
        warned(SPLAT),
        warned(SPLAT, UBSAN),
        replace(FAIL, others=(SPLAT,)),
        LAB_FAILED,
    ]
)
TAGS = ["v6.11", "v6.12-rc1", "v6.12", "v6.13-rc1", "v6.13-rc2", "v6.12.1", "v6.12.2"]


@st.composite
def settlings(draw: st.DrawFn, tags: Sequence[str]) -> tuple[list[TagRun], list[list[int]]]:
    """Tags with what they show in the end, and in which order and groups they settle."""
    count = draw(st.integers(1, len(tags)))
    runs = [run(number, draw(SEEN), tags[number]) for number in range(count)]
    order = draw(st.permutations(range(count)))
    groups: list[list[int]] = [[]]
    for number in order:
        groups[-1].append(number)
        if draw(st.booleans()):
            groups.append([])
    return runs, groups


def judged(
    runs: Sequence[TagRun],
    groups: Iterable[Iterable[int]],
    *,
    confirms: bool = False,
    lab_fails: frozenset[int] = frozenset(),
) -> Record:
    """Judge after each group of tags that settles; ``lab_fails`` at first at some of them."""
    record = Record(confirms=confirms)
    now = [replace(one, seen=None) for one in runs]
    for group in groups:
        for number in group:
            seen = LAB_FAILED if number in lab_fails else runs[number].seen
            now[number] = replace(now[number], seen=seen)
        record.judge(now)
    for number in sorted(lab_fails):
        now[number] = replace(now[number], seen=runs[number].seen)
        record.judge(now)
    return record


IN_ONE_LINE = [f"next-2026010{number}" for number in range(1, 8)]


@given(settlings(IN_ONE_LINE), st.booleans())
@SETTINGS
def test_the_order_in_which_tags_settle_changes_nothing(
    case: tuple[list[TagRun], list[list[int]]], confirms: bool
) -> None:
    runs, groups = case
    at_once = judged(runs, [range(len(runs))], confirms=confirms)
    late = judged(runs, groups, confirms=confirms)
    assert late.contents() == at_once.contents()
    assert late.first() == at_once.first()


@given(settlings(TAGS), st.booleans())
@SETTINGS
def test_the_order_changes_nothing_where_a_branch_begins_either(
    case: tuple[list[TagRun], list[list[int]]], confirms: bool
) -> None:
    runs, groups = case
    at_once = judged(runs, [range(len(runs))], confirms=confirms)
    assert judged(runs, groups, confirms=confirms).contents() == at_once.contents()


@given(settlings(IN_ONE_LINE), st.data())
@SETTINGS
def test_a_tag_that_the_lab_failed_at_first_is_judged_like_any_other(
    case: tuple[list[TagRun], list[list[int]]], data: st.DataObject
) -> None:
    runs, groups = case
    fails = data.draw(st.frozensets(st.sampled_from(range(len(runs)))))
    at_once = judged(runs, [range(len(runs))])
    late = judged(runs, groups, lab_fails=fails)
    assert late.contents() == at_once.contents()
    assert late.first() == at_once.first()


@given(st.lists(SEEN, max_size=8))
def test_infra_never_changes_a_judgement(seen: list[Seen]) -> None:
    runs = lane(*seen)
    evidence = [one for one in runs if one.seen and one.seen.is_evidence]
    assert judge(runs, []) == judge(evidence, [])


@given(st.lists(SEEN, max_size=8))
def test_a_regression_lies_between_a_tag_without_it_and_a_later_one_with_it(
    seen: list[Seen],
) -> None:
    runs = lane(*seen)
    for judgement in judge(runs, []):
        if isinstance(judgement, Opened):
            good, bad = judgement.good.seen, judgement.bad.seen
            assert good is not None
            assert bad is not None
            assert judgement.finding.fingerprint not in good.fingerprints
            assert judgement.finding.fingerprint in bad.fingerprints
            assert runs.index(judgement.good) < runs.index(judgement.bad)


@given(st.lists(SEEN, min_size=1, max_size=8))
def test_every_news_of_a_lane_with_a_good_beginning_is_on_record_in_the_end(
    seen: list[Seen],
) -> None:
    runs = lane(PASSED, *seen)
    record = judged(runs, [range(len(runs))])
    shown = {
        (one.finding.fingerprint, one_run.tag)
        for one_run in runs
        if (one := one_run.seen) and one.finding
    } | {
        (other.fingerprint, one_run.tag)
        for one_run in runs
        if one_run.seen and one_run.seen.outcome is Outcome.PASS
        for other in one_run.seen.others
    }
    on_record = {
        (name, record.tags[number])
        for one in record.regressions
        for name in one.problem.fingerprints
        for number in one.sighted
    }
    assert on_record == shown
