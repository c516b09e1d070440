# SPDX-License-Identifier: GPL-2.0-or-later
"""Compare the tags of a lane: what is new, what is still there, what is gone.

:func:`judge` is pure and has no memory: all tags of the lane and all regressions with findings of
theirs go in, at every call. So the order in which tags settle has no influence on what comes out in
the end, and a tag that settles late, or again, is judged like any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from kwatch.domain.finding import AREA, Area, Finding, Severity
from kwatch.domain.milestone import Milestone
from kwatch.domain.source.tag_order import branches, tag_order
from kwatch.domain.trial.seen import fingerprints_of
from kwatch.domain.verdict.bisect.commits import Mark
from kwatch.domain.verdict.lane import TagRun
from kwatch.domain.verdict.problem import Facet, Problem
from kwatch.domain.verdict.regression import RegressionState

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kwatch.domain.trial.seen import Seen


BUILD_AREAS = frozenset({Area.APPLY, Area.CONFIG, Area.BUILD})


@dataclass(frozen=True, slots=True, kw_only=True)
class Here:
    """A regression in a branch of the lane.

    ``first_bad`` is the revision of the first tag that has it there, ``good`` the last one before
    without it as of then, if there was one, and ``gone`` the revision that is free of it again.
    """

    first_bad: int
    good: TagRun | None
    gone: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A regression with a finding of the lane's.

    ``here`` are the branches of this lane that have or had it, ``sighted`` the revisions in which
    it was seen already. ``tried`` are the trials (numbers) of tags without it whose investigation
    has ended.
    """

    id: int
    problem: Problem
    state: RegressionState
    here: Mapping[str, Here]
    sighted: frozenset[int]
    tried: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """``bad`` is the first tag with the problem, ``good`` the last one known to be without it."""

    facet: Facet
    finding: Finding
    good: TagRun
    bad: TagRun


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighted:
    """A known regression shows in one more tag."""

    regression: int
    run: TagRun


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A known regression shows in one more branch or lane, first in ``bad``.

    ``good`` is the last tag before that is known to be without it, if there is one.
    """

    regression: int
    good: TagRun | None
    bad: TagRun


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """A tag before the first bad one has the problem too: it settled late."""

    regression: int
    good: TagRun
    bad: TagRun


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """``run`` is the first tag after the last sighting that is free of it, and not tried yet."""

    regression: int
    run: TagRun


@dataclass(frozen=True, slots=True, kw_only=True)
class Reappeared:
    """A regression that was gone from this branch shows in it again."""

    regression: int
    run: TagRun


@dataclass(frozen=True, slots=True, kw_only=True)
class Masked:
    """Another failure keeps the newest tag from showing whether the problem is still there."""

    regression: int
    run: TagRun


@dataclass(frozen=True, slots=True, kw_only=True)
class NoBaseline:
    """No earlier tag of the branch, and no baseline that was tried, shows whether it is new."""

    bad: TagRun


_NO_BASELINES: Mapping[int, Sequence[TagRun]] = MappingProxyType({})

Judgement = Opened | Sighted | Spread | Earlier | Gone | Reappeared | Masked | NoBaseline


def judge(
    runs: Sequence[TagRun],
    known: Sequence[Known],
    baselines: Mapping[int, Sequence[TagRun]] = _NO_BASELINES,
) -> tuple[Judgement, ...]:
    """Everything that the tags of one lane say that is not on record yet.

    ``baselines`` are the commits that tags (their revision numbers) were compared with, because no
    earlier tag of their branch could be.
    """
    by_tag = {run.tag: run for run in runs}
    found: list[Judgement] = []
    opened: set[str] = set()
    for base, own in branches(list(by_tag)):
        before = [by_tag[tag] for tag in base]
        line = [by_tag[tag] for tag in own]
        found += _judge_branch(before, line, known, opened, baselines)
        ends = (_end(one, line) for one in known)
        found += [end for end in ends if end is not None]
    return tuple(found)


def _judge_branch(
    base: Sequence[TagRun],
    line: Sequence[TagRun],
    known: Sequence[Known],
    opened: set[str],
    baselines: Mapping[int, Sequence[TagRun]],
) -> Iterator[Judgement]:
    """``base`` are tags of another branch that the first of ``line`` descends from.

    ``opened`` collects the fingerprints of what is opened: other tags are sighted at the next call.
    """
    spread: set[int] = set()
    for at, run in enumerate(line):
        for problem, finding in _problems(run):
            names = problem.fingerprints
            matches = [
                one
                for one in known
                if one.problem.facet is problem.facet and one.problem.fingerprints & names
            ]
            recorded = [one for one in matches if run.revision in one.sighted]
            if names & opened and not recorded:
                continue
            about = [one for one in recorded or _nearest(matches, run) if _is_valid(one)]
            if about or recorded:
                news = [_again(one, base, line, at) for one in about if one.id not in spread]
                spread |= {one.regression for one in news if isinstance(one, Spread)}
                yield from (one for one in news if one is not None)
                continue
            # A tag whose failure could not be reproduced says nothing either way.
            doubtful = frozenset[int]().union(*(one.sighted for one in matches))
            before = [old for old in (*base, *line[:at]) if old.revision not in doubtful]
            also = [old for one in line[: at + 1] for old in baselines.get(one.revision, ())]
            verdict = _first(problem, finding, before, also, run)
            if isinstance(verdict, Opened):
                opened |= names
            if verdict is not None:
                yield verdict


def _is_valid(one: Known) -> bool:
    return one.state is not RegressionState.INVALID


def _nearest(matches: Sequence[Known], run: TagRun) -> Sequence[Known]:
    """Of the regressions that a tag may show, one that its branch had before, or the newest."""
    valid = [one for one in matches if _is_valid(one)]
    here = [one for one in valid if run.branch in one.here]
    return (here or valid)[-1:]


def _problems(run: TagRun) -> Iterator[tuple[Problem, Finding]]:
    """What a tag shows that may be news: a failure, test cases that fail, warnings."""
    seen = run.seen
    if seen is None or not seen.is_evidence:
        return
    failure = seen.finding
    if failure is not None and failure.fingerprint not in seen.cases_failed:
        yield _problem(Facet.FAILURE, failure, seen), failure
        if seen.milestone < Milestone.TESTED or AREA[failure.kind] is Area.TEST:
            # The tests were cut short, or the command fails that ran them.
            return
        others = [one for one in seen.others if one.fingerprint in seen.cases_failed]
    else:
        others = [*([failure] if failure else []), *seen.others]
    if seen.milestone < Milestone.KERNEL:
        return
    names: set[str] = set()
    for other in others:
        # What a build log warns of is on record, and no regression.
        is_news = other.severity is not Severity.INFO and AREA[other.kind] not in BUILD_AREAS
        if is_news and other.fingerprint not in names:
            names.add(other.fingerprint)
            is_case = other.fingerprint in seen.cases_failed
            yield _problem(Facet.TEST if is_case else Facet.WARNING, other, seen), other


def _problem(facet: Facet, finding: Finding, seen: Seen) -> Problem:
    return Problem(facet=facet, fingerprints=fingerprints_of(finding), milestone=seen.milestone)


def _again(
    one: Known, base: Sequence[TagRun], line: Sequence[TagRun], at: int
) -> Sighted | Spread | Earlier | Reappeared | None:
    """What is new about a known regression in a tag (``line[at]``) that shows it."""
    run = line[at]
    here = one.here.get(run.branch)
    if here is None:
        return _spread(one, base, line, at)
    if _is_back(one, here, line, at):
        return Reappeared(regression=one.id, run=run)
    # A good tag before it may have settled since it was sighted.
    earlier = _earlier(one, here, base, line, at)
    if earlier is not None or run.revision in one.sighted:
        return earlier
    return Sighted(regression=one.id, run=run)


def _spread(one: Known, base: Sequence[TagRun], line: Sequence[TagRun], at: int) -> Spread | None:
    """The first tag of a branch with a known regression; None while an earlier one is pending."""
    for old in reversed((*base, *line[:at])):
        if old.seen is None:
            return None
        if one.problem.mark(old.seen) is Mark.GOOD:
            return Spread(regression=one.id, good=old, bad=line[at])
    return Spread(regression=one.id, good=None, bad=line[at])


def _is_back(one: Known, here: Here, line: Sequence[TagRun], at: int) -> bool:
    """Whether ``line[at]`` is later than the tag in which the regression was gone."""
    if here.gone is None:
        return False
    gone = next((place for place, run in enumerate(line) if run.revision == here.gone), None)
    if gone is not None:
        return gone < at
    if line[at].revision in one.sighted:
        return False
    # That tag was moved: any good one since the last sighting will do.
    last = _last_sighted(one, line[:at])
    return last is not None and any(
        old.seen and one.problem.mark(old.seen) is Mark.GOOD for old in line[last + 1 : at]
    )


def _earlier(
    one: Known, here: Here, base: Sequence[TagRun], line: Sequence[TagRun], at: int
) -> Earlier | None:
    """Whether a regression began with ``line[at]``, before the tag that is on record for it.

    The good tag may have moved since. Where none was known, one may have settled since.
    """
    before = (*base, *line[:at])
    good = _last_good(one.problem, before)
    if here.first_bad in {later.revision for later in line[at + 1 :]}:
        recorded = here.good
        if good is None and recorded and _is_before(recorded, line[at]):
            good = recorded
    elif here.first_bad != line[at].revision or here.good is not None:
        return None
    return None if good is None else Earlier(regression=one.id, good=good, bad=line[at])


def _is_before(good: TagRun, run: TagRun) -> bool:
    """Whether a good tag on record is before ``run``; a baseline, of another branch, always is."""
    return good.branch != run.branch or tag_order(good.tag) <= tag_order(run.tag)


def _last_sighted(one: Known, line: Sequence[TagRun]) -> int | None:
    """The last place in ``line`` where it was seen."""
    places = (
        at
        for at, run in enumerate(line)
        if run.revision in one.sighted or (run.seen and one.problem.mark(run.seen) is Mark.BAD)
    )
    return max(places, default=None)


def _first(
    problem: Problem,
    finding: Finding,
    before: Sequence[TagRun],
    baselines: Sequence[TagRun],
    run: TagRun,
) -> Opened | NoBaseline | None:
    """Whether a problem began with this tag; None while an earlier tag may still say otherwise."""
    is_first = True
    for old in reversed(before):
        if old.seen is None:
            return None
        mark = problem.mark(old.seen)
        if mark is Mark.GOOD:
            return Opened(facet=problem.facet, finding=finding, good=old, bad=run)
        # One that has it and opened nothing: it has no baseline itself, or a warning of a boot
        # that failed.
        is_first &= mark is not Mark.BAD
    for old in baselines:
        if old.seen is None:
            return None
        if problem.mark(old.seen) is Mark.GOOD:
            return Opened(facet=problem.facet, finding=finding, good=old, bad=run)
    is_failure = run.seen is not None and run.seen.finding == finding
    return NoBaseline(bad=run) if is_first and is_failure else None


def _last_good(problem: Problem, before: Sequence[TagRun]) -> TagRun | None:
    return next(
        (old for old in reversed(before) if old.seen and problem.mark(old.seen) is Mark.GOOD), None
    )


def _end(one: Known, line: Sequence[TagRun]) -> Gone | Masked | None:
    """Whether a confirmed regression is gone from its branch, or hidden by another failure."""
    here = one.here.get(line[0].branch)
    if one.state is not RegressionState.CONFIRMED or here is None or here.gone is not None:
        return None
    last = _last_sighted(one, line)
    if last is None:
        return None
    after = [run for run in line[last + 1 :] if run.seen and run.seen.is_evidence]
    good = [run for run in after if run.seen and one.problem.mark(run.seen) is Mark.GOOD]
    if good:
        return next(
            (Gone(regression=one.id, run=run) for run in good if run.number not in one.tried), None
        )
    if after:
        return Masked(regression=one.id, run=after[-1])
    return None
