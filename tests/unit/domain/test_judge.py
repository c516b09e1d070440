# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from kwatch.domain.finding import Finding, FindingKind, Severity
from kwatch.domain.milestone import Milestone
from kwatch.domain.trial.case_results import case_fingerprint
from kwatch.domain.trial.route import Outcome
from kwatch.domain.trial.seen import Seen, fingerprints_of
from kwatch.domain.verdict.judge import (
    Earlier,
    Gone,
    Here,
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
    OPEN_STATES,
    RegressionState,
)
from tests.unit.domain.lanes import BROKEN, FAIL, PANICS, REFUSED, SPLAT, UBSAN, lane, run, warned
from tests.unit.domain.trials import COMPILE, HANG, LAB_FAILED, PANIC, PASSED, failed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kwatch.domain.verdict.lane import TagRun


def known(
    state: RegressionState = RegressionState.CONFIRMED,
    *,
    sighted: Iterable[int] = (1,),
    first_bad: int | None = 1,
    good: TagRun | None = None,
    gone: int | None = None,
    branch: str = "next-",
    finding: Finding = HANG,
    milestone: Milestone = Milestone.LINKED,
    facet: Facet = Facet.FAILURE,
) -> Known:
    return Known(
        id=7,
        problem=Problem(facet=facet, fingerprints=fingerprints_of(finding), milestone=milestone),
        state=state,
        sighted=frozenset(sighted),
        here={}
        if first_bad is None
        else {branch: Here(first_bad=first_bad, good=good or lane(PASSED)[0], gone=gone)},
    )


def opened(good: TagRun, bad: TagRun, finding: Finding = HANG) -> Opened:
    return Opened(facet=Facet.FAILURE, finding=finding, good=good, bad=bad)


@pytest.mark.parametrize(
    "seen", [(), (LAB_FAILED,), (REFUSED,), (PASSED,), (PASSED, LAB_FAILED), (PASSED, None)]
)
def test_nothing_is_said_where_nothing_got_worse(seen: tuple[Seen | None, ...]) -> None:
    assert judge(lane(*seen), []) == ()


def test_the_last_good_tag_is_held_against_the_bad_one() -> None:
    runs = lane(PASSED, PASSED, FAIL)
    assert judge(runs, []) == (opened(runs[1], runs[2]),)


@pytest.mark.parametrize("nothing", [LAB_FAILED, REFUSED])
def test_infra_says_nothing(nothing: Seen) -> None:
    runs = lane(PASSED, nothing, FAIL, nothing)
    assert judge(runs, []) == (opened(runs[0], runs[2]),)


def test_without_anything_that_ever_passed_there_is_no_baseline() -> None:
    runs = lane(FAIL, LAB_FAILED, FAIL)
    assert judge(runs, []) == (NoBaseline(bad=runs[0]),)


def test_the_first_tag_is_compared_with_baselines() -> None:
    fork, release = run(90, FAIL, "stable-g0123456789ab"), run(91, PASSED, "v6.12")
    runs = lane(FAIL, FAIL)
    none = (NoBaseline(bad=runs[0]),)
    assert judge(runs, [], {0: []}) == none
    assert judge(runs, [], {0: [fork]}) == none
    assert judge(runs, [], {0: [fork, replace(release, seen=LAB_FAILED)]}) == none
    assert judge(runs, [], {0: [fork, replace(release, seen=None)]}) == ()
    assert judge(runs, [], {0: [fork, release]}) == (opened(release, runs[0]),)


def test_baselines_say_nothing_of_earlier_tags() -> None:
    release = run(90, PASSED, "v6.12")
    runs = lane(FAIL, LAB_FAILED, PANICS)
    assert judge(runs, [], {2: [release]}) == (
        NoBaseline(bad=runs[0]),
        opened(release, runs[2], PANIC),
    )


def test_an_earlier_tag_that_settles_late_keeps_the_baseline() -> None:
    release = run(90, PASSED, "v6.12")
    runs = lane(FAIL, FAIL)
    found = judge(runs, [known(good=release)], {1: [release]})
    assert found == (Earlier(regression=7, good=release, bad=runs[0]),)


def test_a_tag_without_a_baseline_does_not_hide_what_comes_back_after_a_good_one() -> None:
    runs = lane(FAIL, PASSED, FAIL)
    assert judge(runs, []) == (NoBaseline(bad=runs[0]), opened(runs[1], runs[2]))


def test_the_tags_may_come_in_any_order() -> None:
    runs = lane(PASSED, PASSED, FAIL)
    assert judge(runs[::-1], []) == (opened(runs[1], runs[2]),)


@pytest.mark.parametrize("state", OPEN_STATES)
def test_a_known_problem_is_opened_once(state: RegressionState) -> None:
    runs = lane(PASSED, FAIL, FAIL)
    assert judge(runs, [known(state, sighted=(1, 2))]) == ()
    assert judge(runs, [known(state)]) == (Sighted(regression=7, run=runs[2]),)


def test_another_problem_on_top_is_another_regression() -> None:
    runs = lane(PASSED, FAIL, PANICS)
    found = judge(runs, [known()])
    assert [one for one in found if isinstance(one, Opened)] == [
        # The tag that hangs early does not show whether user space would have panicked.
        opened(runs[0], runs[2], PANIC)
    ]


def test_a_failure_that_got_further_is_a_baseline() -> None:
    runs = lane(PASSED, PANICS, FAIL)
    assert judge(runs, []) == (opened(runs[0], runs[1], PANIC), opened(runs[1], runs[2]))


def test_the_first_bad_tag_of_several_that_settle_at_once_is_the_first() -> None:
    runs = lane(PASSED, FAIL, FAIL, FAIL)
    assert judge(runs, []) == (opened(runs[0], runs[1]),)


def test_a_bad_tag_is_found_though_a_newer_one_passed_before() -> None:
    runs = lane(PASSED, FAIL, PASSED)
    assert judge(runs, []) == (opened(runs[0], runs[1]),)


@pytest.mark.parametrize("pending", [1, 2])
def test_an_earlier_tag_that_is_not_settled_holds_an_opening_back(pending: int) -> None:
    seen: list[Seen | None] = [PASSED, FAIL, FAIL, FAIL]
    seen[pending] = None
    after = [one for one in judge(lane(*seen), []) if isinstance(one, Opened)]
    assert [one.bad.revision for one in after] == ([] if pending == 1 else [1])


def test_a_tag_that_is_not_settled_before_the_good_one_holds_nothing_back() -> None:
    runs = lane(PASSED, None, PASSED, FAIL)
    assert judge(runs, []) == (opened(runs[2], runs[3]),)


@pytest.mark.parametrize("state", OPEN_STATES)
def test_a_bad_tag_before_the_first_one_settles_late(state: RegressionState) -> None:
    runs = lane(PASSED, FAIL, FAIL)
    late = known(state, sighted=(2,), first_bad=2)
    assert judge(runs, [late]) == (Earlier(regression=7, good=runs[0], bad=runs[1]),)


def test_a_late_tag_with_nothing_good_before_it_is_a_sighting() -> None:
    runs = lane(FAIL, PASSED, FAIL)
    one = known(sighted=(2,), first_bad=2, good=runs[1])
    assert judge(runs, [one]) == (Sighted(regression=7, run=runs[0]),)


def test_a_good_tag_that_moved_to_a_bad_commit_is_good_where_it_was() -> None:
    before = run(0, PASSED)
    runs = [replace(run(2, FAIL), tag=before.tag), run(3, FAIL)]
    one = known(sighted=(3,), first_bad=3, good=before)
    assert judge(runs, [one]) == (Earlier(regression=7, good=before, bad=runs[0]),)


def test_a_good_tag_that_settles_late_ends_the_wait_for_a_baseline() -> None:
    runs = lane(PASSED, FAIL)
    one = replace(known(), here={"next-": Here(first_bad=1, good=None)})
    assert judge(runs, [one]) == (Earlier(regression=7, good=runs[0], bad=runs[1]),)
    assert judge(runs[1:], [one]) == ()


def test_a_regression_of_another_lane_spreads_to_this_one() -> None:
    runs = lane(PASSED, FAIL, FAIL)
    elsewhere = known(sighted=(), first_bad=None)
    assert judge(runs, [elsewhere]) == (Spread(regression=7, good=runs[0], bad=runs[1]),)
    assert judge(runs, [known()]) == (Sighted(regression=7, run=runs[2]),)


def test_the_first_tag_of_another_lane_is_awaited() -> None:
    runs = lane(PASSED, None, FAIL)
    elsewhere = known(sighted=(), first_bad=None)
    assert judge(runs, [elsewhere]) == ()
    assert judge(lane(FAIL, FAIL), [elsewhere]) == (
        Spread(regression=7, good=None, bad=lane(FAIL)[0]),
    )


def test_what_was_fixed_elsewhere_spreads_as_well() -> None:
    runs = lane(PASSED, FAIL)
    fixed = known(RegressionState.FIXED, sighted=(), first_bad=None)
    assert judge(runs, [fixed]) == (Spread(regression=7, good=runs[0], bad=runs[1]),)


def test_what_is_gone_from_one_lane_may_still_be_in_another() -> None:
    runs = lane(PASSED, FAIL, PASSED, PASSED)
    assert judge(runs, [known(gone=2)]) == ()
    back = [*runs, run(4, FAIL)]
    assert judge(back, [known(gone=2)]) == (Reappeared(regression=7, run=back[4]),)


def test_a_tag_that_was_sighted_before_the_fix_was_confirmed_shows_that_it_is_back() -> None:
    runs = lane(PASSED, FAIL, PASSED, FAIL)
    assert judge(runs, [known(sighted=(1, 3), gone=2)]) == (Reappeared(regression=7, run=runs[3]),)


def test_the_end_of_a_regression_is_looked_for_in_its_own_lane_only() -> None:
    runs = lane(PASSED, FAIL, PASSED)
    # Its own lane is not told here; that this one has it is news, and its end is not.
    assert judge(runs, [known(first_bad=None)]) == (
        Spread(regression=7, good=runs[0], bad=runs[1]),
    )


def test_a_tag_that_passes_asks_of_each_open_regression_whether_it_is_fixed() -> None:
    runs = lane(PASSED, FAIL, PANICS, PASSED)
    other = replace(known(sighted=(2,), first_bad=2, finding=PANIC), id=9)
    other = replace(other, problem=replace(other.problem, milestone=Milestone.INIT))
    assert judge(runs, [known(), other]) == (
        Gone(regression=7, run=runs[2]),
        Gone(regression=9, run=runs[3]),
    )


def test_the_first_tag_without_the_problem_is_the_one_that_may_be_fixed() -> None:
    runs = lane(PASSED, FAIL, LAB_FAILED, None, PASSED, PASSED)
    assert judge(runs, [known()]) == (Gone(regression=7, run=runs[4]),)


@pytest.mark.parametrize(
    "state", [s for s in RegressionState if s is not RegressionState.CONFIRMED]
)
def test_what_is_not_confirmed_cannot_be_fixed(state: RegressionState) -> None:
    assert judge(lane(PASSED, FAIL, PASSED), [known(state)]) == ()


def test_another_failure_before_the_place_masks_the_problem() -> None:
    runs = lane(PASSED, FAIL, BROKEN, LAB_FAILED)
    broken = replace(known(sighted=(2,), first_bad=2, finding=COMPILE), id=9)
    found = judge(runs, [known(), broken])
    assert found == (Masked(regression=7, run=runs[2]),)


def test_a_problem_that_was_fixed_shows_again() -> None:
    runs = lane(PASSED, FAIL, PASSED, FAIL)
    fixed = known(RegressionState.FIXED, gone=2)
    assert judge(runs, [fixed]) == (Reappeared(regression=7, run=runs[3]),)
    assert judge(runs[:3], [fixed]) == ()


def test_a_tag_that_settles_late_after_a_fix_is_no_return() -> None:
    runs = lane(PASSED, FAIL, FAIL, PASSED)
    assert judge(runs, [known(RegressionState.FIXED, gone=3)]) == (
        Sighted(regression=7, run=runs[2]),
    )


def test_a_failure_that_was_taken_back_is_judged_afresh_at_the_next_tag() -> None:
    runs = lane(PASSED, FAIL, FAIL)
    invalid = known(RegressionState.INVALID)
    assert judge(runs[:2], [invalid]) == ()
    assert judge(runs, [invalid]) == (opened(runs[0], runs[2]),)


@pytest.mark.parametrize("finding", [SPLAT, UBSAN])
def test_what_a_good_boot_reports_for_the_first_time_is_a_regression(finding: Finding) -> None:
    runs = lane(PASSED, warned(finding), warned(finding))
    assert judge(runs, []) == (
        Opened(facet=Facet.WARNING, finding=finding, good=runs[0], bad=runs[1]),
    )


def test_each_warning_of_a_boot_is_a_regression_of_its_own() -> None:
    runs = lane(PASSED, warned(SPLAT, UBSAN, SPLAT))
    assert judge(runs, []) == tuple(
        Opened(facet=Facet.WARNING, finding=one, good=runs[0], bad=runs[1])
        for one in (SPLAT, UBSAN)
    )


@pytest.mark.parametrize(
    "finding",
    [
        Finding(kind=FindingKind.COMPILE, title="f.c: unused", severity=Severity.WARNING),
        Finding(kind=FindingKind.LINK, title="section mismatch", severity=Severity.WARNING),
        Finding(kind=FindingKind.KCONFIG, title="unmet dependencies", severity=Severity.WARNING),
        replace(SPLAT, severity=Severity.INFO),
    ],
    ids=["compiler", "linker", "kconfig", "info"],
)
def test_what_a_build_warns_of_or_is_for_the_record_is_no_regression(finding: Finding) -> None:
    assert judge(lane(PASSED, warned(finding)), []) == ()


def test_what_a_failing_tag_reports_besides_is_no_regression() -> None:
    runs = lane(PASSED, replace(FAIL, others=(SPLAT,)))
    assert judge(runs, []) == (opened(runs[0], runs[1]),)


def test_a_warning_without_a_baseline_is_no_news() -> None:
    assert judge(lane(warned(SPLAT), warned(SPLAT)), []) == ()
    assert judge(lane(FAIL, warned(SPLAT)), [])[1:] == ()


def test_a_tag_that_fails_does_not_show_whether_a_warning_is_gone() -> None:
    warning = known(finding=SPLAT, facet=Facet.WARNING, milestone=Milestone.COLLECTED)
    hang = replace(known(sighted=(2,), first_bad=2), id=9)
    runs = lane(PASSED, warned(SPLAT), FAIL)
    assert judge(runs, [warning, hang]) == (Masked(regression=7, run=runs[2]),)
    after = [*runs, run(3, PASSED)]
    assert judge(after, [warning, replace(hang, state=RegressionState.FIXED)]) == (
        Gone(regression=7, run=after[3]),
    )


def test_a_warning_and_a_failure_of_one_name_are_two_problems() -> None:
    fatal = failed(UBSAN, Milestone.INIT)
    runs = lane(PASSED, warned(UBSAN), fatal)
    warning = known(finding=UBSAN, facet=Facet.WARNING, milestone=Milestone.COLLECTED)
    assert [one for one in judge(runs, [warning]) if isinstance(one, Opened)] == [
        opened(runs[1], runs[2], UBSAN)
    ]


def test_a_hang_is_told_from_another_failure_though_it_has_other_names() -> None:
    stall = replace(HANG, alternatives=("rcu detected stall in f",))
    runs = lane(PASSED, failed(PANIC, Milestone.LINKED), failed(stall, Milestone.LINKED))
    found = [one for one in judge(runs, []) if isinstance(one, Opened)]
    assert [(one.finding, one.good) for one in found] == [(PANIC, runs[0]), (stall, runs[0])]


def test_a_hang_that_comes_under_its_other_name_is_the_same() -> None:
    stall = replace(HANG, alternatives=("rcu detected stall in f",))
    under_its_other_name = Finding(kind=HANG.kind, title="rcu detected stall in f")
    runs = lane(PASSED, FAIL, failed(under_its_other_name, Milestone.LINKED))
    assert judge(runs, [known(finding=stall)]) == (Sighted(regression=7, run=runs[2]),)


def branchy(**seen: Seen | None) -> list[TagRun]:
    """Tags by name (``v6_12_1`` for v6.12.1), numbered in the order in which they were made."""
    return [
        run(number, one, tag.replace("_", ".").replace(".rc", "-rc"))
        for number, (tag, one) in enumerate(seen.items())
    ]


def test_a_stable_tag_is_not_held_against_another_branch() -> None:
    runs = branchy(v6_6=PASSED, v6_12=PASSED, v6_12_5=FAIL, v6_6_66=PASSED, v6_12_6=FAIL)
    assert judge(runs, []) == (opened(runs[1], runs[2]),)
    runs = branchy(v6_12_4=PASSED, v6_6_66=FAIL)
    assert judge(runs, []) == (NoBaseline(bad=runs[1]),)


def test_a_stable_branch_begins_from_the_release_of_the_main_line() -> None:
    runs = branchy(v6_12_rc7=PASSED, v6_12=None, v6_13_rc1=FAIL, v6_12_1=FAIL)
    assert judge(runs, []) == ()
    runs[1] = replace(runs[1], seen=LAB_FAILED)
    assert judge(runs, [])[0] == opened(runs[0], runs[2])


def test_a_problem_that_two_branches_show_at_once_is_one_regression() -> None:
    runs = branchy(v6_12=PASSED, v6_13_rc1=FAIL, v6_12_1=FAIL)
    assert judge(runs, []) == (opened(runs[0], runs[1]),)
    there = known(branch="v")
    assert judge(runs, [there]) == (Spread(regression=7, good=runs[0], bad=runs[2]),)


def test_tags_of_two_names_are_two_histories() -> None:
    runs = [run(0, PASSED, "next-20261117"), run(1, PANICS, "v6.18"), run(2, FAIL, "next-20261118")]
    assert set(judge(runs, [])) == {NoBaseline(bad=runs[1]), opened(runs[0], runs[2])}


def test_a_fix_in_a_stable_branch_is_none_of_the_main_line() -> None:
    runs = branchy(v6_12=PASSED, v6_13_rc1=FAIL, v6_12_1=FAIL, v6_12_2=PASSED, v6_13_rc2=FAIL)
    one = known(sighted=(1, 2, 4), branch="v")
    one = replace(one, here={**one.here, "v6.12": Here(first_bad=2, good=runs[0])})
    assert judge(runs, [one]) == (Gone(regression=7, run=runs[3]),)
    ended = replace(one, here={**one.here, "v6.12": Here(first_bad=2, good=runs[0], gone=3)})
    assert judge(runs, [ended]) == ()


def with_cases(*failed_cases: str, ran: Iterable[str] = ("a", "a.b", "c")) -> Seen:
    """A boot that passes, whatever its tests do."""
    return replace(
        PASSED,
        others=tuple(map(case_failure, failed_cases)),
        cases_run=frozenset(map(case_fingerprint, ran)),
        cases_failed=frozenset(map(case_fingerprint, failed_cases)),
    )


def case_failure(name: str) -> Finding:
    return Finding(kind=FindingKind.TEST, title=f"{name} fails", severity=Severity.WARNING)


def test_a_test_that_passed_and_fails_is_news() -> None:
    runs = lane(with_cases(), with_cases(ran=["c"]), with_cases("a.b"), with_cases("a.b", "c"))
    assert judge(runs, []) == tuple(
        Opened(facet=Facet.TEST, finding=case_failure(name), good=runs[good], bad=runs[bad])
        for name, good, bad in (("a.b", 0, 2), ("c", 2, 3))
    )


def test_a_test_that_never_passed_is_no_news() -> None:
    assert judge(lane(PASSED, with_cases("a.b"), with_cases("a.b")), []) == ()


def test_a_test_that_fails_its_boot_is_the_same_problem() -> None:
    failing = replace(
        with_cases("a.b", "c"), outcome=Outcome.FAIL, finding=case_failure("a.b"),
        others=(case_failure("c"),),
    )  # fmt: skip
    runs = lane(with_cases("a.b"), with_cases(), failing)
    assert [one.finding.title for one in judge(runs, []) if isinstance(one, Opened)] == [
        "a.b fails", "c fails",
    ]  # fmt: skip
    assert judge(lane(failing), []) == (NoBaseline(bad=run(0, failing)),)


def test_a_test_is_gone_where_it_passes_and_not_where_it_is_skipped() -> None:
    test = known(finding=case_failure("a.b"), facet=Facet.TEST, milestone=Milestone.COLLECTED)
    skipped = lane(with_cases(), with_cases("a.b"), with_cases(ran=["c"]))
    assert judge(skipped, [test]) == (Masked(regression=7, run=skipped[2]),)
    passed = lane(with_cases(), with_cases("a.b"), with_cases())
    assert judge(passed, [test]) == (Gone(regression=7, run=passed[2]),)
