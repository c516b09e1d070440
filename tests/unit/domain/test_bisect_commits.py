# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import math
import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kwatch.domain.verdict.bisect.commits import (
    Ambiguous,
    Culprit,
    Mark,
    Probe,
    ancestors,
    halve,
    most_untestable,
)
from tests.unit.domain.histories import History, histories, next_histories


def chain(count: int) -> dict[str, tuple[str, ...]]:
    """``count`` commits in a row, newest first; the oldest one's parent is good."""
    names = [f"c{number}" for number in reversed(range(count))]
    return {new: (old,) for new, old in pairwise([*names, "good"])}


def search(history: History, marks_of: dict[str, Mark]) -> tuple[Culprit | Ambiguous, list[str]]:
    """Halve until there is an answer; the commits that were tested, in order."""
    tested: list[str] = []
    marks: dict[str, Mark] = {}
    while True:
        found = halve(history.parents, history.bad, marks)
        if not isinstance(found, Probe):
            return found, tested
        (commit,) = found.commits
        assert commit not in marks
        assert commit != history.bad
        tested.append(commit)
        marks[commit] = marks_of[commit]


def marks_for(history: History, culprit: str) -> dict[str, Mark]:
    return {
        commit: Mark.BAD if culprit in ancestors(history.parents, commit) else Mark.GOOD
        for commit in history.parents
    }


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 8, 9, 100])
def test_a_chain_is_halved(count: int) -> None:
    history = History(parents=chain(count), bad=f"c{count - 1}")
    for number in range(count):
        found, tested = search(history, marks_for(history, f"c{number}"))
        assert found == Culprit(commit=f"c{number}")
        assert len(tested) <= math.ceil(math.log2(count))


@given(histories(), st.data())
@settings(max_examples=40, deadline=None)
def test_the_culprit_is_found_in_any_history(history: History, data: st.DataObject) -> None:
    culprit = data.draw(st.sampled_from(history.reachable()))
    found, tested = search(history, marks_for(history, culprit))
    assert found == Culprit(commit=culprit)
    # Where no commit has more than two parents, one of them splits off a third or more.
    assert len(tested) <= math.log(len(history.reachable()), 1.5) + 1


@given(next_histories(), st.data())
@settings(max_examples=40, deadline=None)
def test_a_day_of_linux_next_is_halved(history: History, data: st.DataObject) -> None:
    culprit = data.draw(st.sampled_from(history.reachable()))
    found, tested = search(history, marks_for(history, culprit))
    assert found == Culprit(commit=culprit)
    assert len(tested) <= math.ceil(math.log2(len(history.reachable()))) + 2


@given(histories(), st.data())
@settings(max_examples=40, deadline=None)
def test_what_cannot_be_tested_is_told_and_never_hides_the_culprit(
    history: History, data: st.DataObject
) -> None:
    culprit = data.draw(st.sampled_from(history.reachable()))
    untestable = data.draw(st.sets(st.sampled_from(history.reachable())))
    marks = marks_for(history, culprit) | dict.fromkeys(untestable, Mark.UNTESTABLE)
    found, _ = search(history, marks)
    match found:
        case Culprit():
            assert found.commit == culprit
        case Ambiguous():
            assert culprit in found.commits
            assert len(found.commits) > 1
            assert untestable.intersection(found.commits)


@given(histories(), st.data())
@settings(max_examples=40, deadline=None)
def test_no_marks_however_odd_lead_to_nothing(history: History, data: st.DataObject) -> None:
    """Two culprits, a flake, or a problem that came, went and came again: still an answer."""
    suspects = st.sampled_from(history.reachable())
    marks = data.draw(st.dictionaries(suspects, st.sampled_from(Mark)))
    match halve(history.parents, history.bad, marks):
        case Probe() as probe:
            (commit,) = probe.commits
            assert commit not in marks
            assert probe.remaining > 1
        case Culprit() as culprit:
            assert culprit.commit in history.reachable()
        case Ambiguous() as ambiguous:
            assert len(ambiguous.commits) > 1


def test_a_problem_that_was_gone_in_between_is_looked_for_after_that() -> None:
    marks = {"c1": Mark.BAD, "c4": Mark.GOOD}
    assert halve(chain(8), "c7", marks) == Probe(commits=("c6",), remaining=3)


def test_of_two_culprits_one_is_found() -> None:
    """The same patch came in by two branches: whichever fails by itself is to blame."""
    parents = {
        "merge": ("left", "right"),
        "left": ("base",),
        "right": ("base",),
        "base": ("good",),
    }
    marks = {"left": Mark.BAD, "right": Mark.BAD, "base": Mark.GOOD}
    found = halve(parents, "merge", marks)
    assert isinstance(found, Culprit)
    assert found.commit in {"left", "right"}


def test_a_bad_commit_that_adds_nothing_to_the_good_one_has_no_suspects() -> None:
    assert halve({}, "bad", {}) == Ambiguous(commits=())


def test_commits_that_are_no_suspects_do_not_count() -> None:
    marks = {"elsewhere": Mark.BAD, "good": Mark.GOOD}
    assert halve(chain(3), "c2", marks) == halve(chain(3), "c2", {})


@given(histories(), st.data())
@settings(max_examples=40, deadline=None)
def test_the_same_question_has_the_same_answer(history: History, data: st.DataObject) -> None:
    marks = data.draw(st.dictionaries(st.sampled_from(history.reachable()), st.sampled_from(Mark)))
    shuffled = dict(sorted(marks.items(), reverse=True))
    assert halve(history.parents, history.bad, marks) == halve(
        history.parents, history.bad, shuffled
    )


def test_a_merge_window_is_halved_in_seconds() -> None:
    """v6.12 to v6.13-rc1 is some 13 000 commits."""
    parents = chain(13_000)
    started = time.process_time()
    found = halve(parents, "c12999", {})
    assert time.process_time() - started < 5.0
    assert isinstance(found, Probe)
    assert found.remaining == 13_000


@pytest.mark.parametrize("culprit", [10, 250, 350, 699, 710, 900])
def test_a_stretch_that_cannot_be_tested_costs_a_bounded_number_of_tests(culprit: int) -> None:
    """A build error that masks the problem in 400 of 1,000 commits."""
    parents = {f"c{n}": ([f"c{n - 1}"] if n else ["base"]) for n in reversed(range(1000))}
    marks: dict[str, Mark] = {}
    while isinstance(found := halve(parents, "c999", marks), Probe):
        (commit,) = found.commits
        number = int(commit[1:])
        is_masked = 300 <= number < 700
        mark = Mark.BAD if number >= culprit else Mark.GOOD
        marks[commit] = Mark.UNTESTABLE if is_masked else mark
    assert len(marks) <= most_untestable(1000) + 12
    if culprit < 300 or culprit > 800:
        assert found == Culprit(commit=f"c{culprit}")
    else:
        assert isinstance(found, Ambiguous)
        assert f"c{culprit}" in found.commits


@pytest.mark.parametrize("slots", [2, 3, 4, 8])
@pytest.mark.parametrize("count", [3, 10, 100, 1000])
def test_more_slots_take_fewer_rounds(count: int, slots: int) -> None:
    parents = chain(count)
    longest = 0
    for culprit in range(0, count, max(count // 50, 1)):
        marks: dict[str, Mark] = {}
        rounds = 0
        while isinstance(found := halve(parents, f"c{count - 1}", marks, slots=slots), Probe):
            assert 0 < len(found.commits) <= slots
            rounds += 1
            for commit in found.commits:
                marks[commit] = Mark.BAD if int(commit[1:]) >= culprit else Mark.GOOD
        assert found == Culprit(commit=f"c{culprit}")
        longest = max(longest, rounds)
    # Each test is placed for itself, so the parts are not all equal.
    assert longest <= math.ceil(1.3 * math.log(count, slots + 1))


def test_the_parts_are_about_equal() -> None:
    found = halve(chain(100), "c99", {}, slots=3)
    assert isinstance(found, Probe)
    assert sorted(int(commit[1:]) for commit in found.commits) == [24, 49, 74]


def test_what_is_tested_already_stays_while_it_says_anything() -> None:
    parents = chain(100)
    found = halve(parents, "c99", {"c49": Mark.BAD}, pending={"c24", "c74"}, slots=2)
    assert isinstance(found, Probe)
    # c74 descends from one that fails, so its result is known.
    assert "c24" in found.commits
    assert "c74" not in found.commits
    assert len(found.commits) == 2
    # One slot, one test.
    assert halve(parents, "c99", {}, pending={"c10"}) == Probe(commits=("c10",), remaining=100)


@given(histories(), st.integers(1, 4), st.data())
@settings(max_examples=60, deadline=None)
def test_tests_that_end_in_any_order_lead_to_the_culprit(
    history: History, slots: int, data: st.DataObject
) -> None:
    culprit = data.draw(st.sampled_from(history.reachable()))
    marks_of = marks_for(history, culprit)
    marks: dict[str, Mark] = {}
    pending: list[str] = []
    tested: set[str] = set()
    while True:
        found = halve(history.parents, history.bad, marks, pending=pending, slots=slots)
        if not isinstance(found, Probe):
            break
        kept = [commit for commit in pending if commit in found.commits]
        assert set(found.commits) & tested <= set(kept)
        tested |= set(found.commits)
        pending = list(found.commits)
        settled = data.draw(st.sampled_from(pending))
        pending.remove(settled)
        marks[settled] = marks_of[settled]
    assert found == Culprit(commit=culprit)


def test_a_merge_window_is_cut_for_eight_slots() -> None:
    found = halve(chain(13_000), "c12999", {}, slots=8)
    assert isinstance(found, Probe)
    assert len(found.commits) == 8
