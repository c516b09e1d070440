# SPDX-License-Identifier: GPL-2.0-or-later
"""Halving a set of suspect commits.

The suspects are the ancestors of the bad commit that the good one does not have: with linux-next,
where two tags share no chain, these are the day's new commits and merges only. A suspect that
fails takes the blame from all that are not its ancestors; one that passes clears its ancestors.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence


class Mark(StrEnum):
    """What is known of a suspect. UNTESTABLE: it cannot show the problem, one way or the other."""

    BAD = "bad"
    GOOD = "good"
    UNTESTABLE = "untestable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """The commits to test at the same time; ``remaining`` suspects are left."""

    commits: tuple[str, ...]
    remaining: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Culprit:
    """One commit is left: it fails and all its parents pass, or are not suspects."""

    commit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ambiguous:
    """No more can be learned by testing: the culprit is one of ``commits``."""

    commits: tuple[str, ...]


def ancestors(parents: Mapping[str, Sequence[str]], commit: str) -> frozenset[str]:
    """``commit`` and all its ancestors among the suspects."""
    found: set[str] = set()
    open_ends = [commit]
    while open_ends:
        current = open_ends.pop()
        if current in parents and current not in found:
            found.add(current)
            open_ends.extend(parents[current])
    return frozenset(found)


def halve(
    parents: Mapping[str, Sequence[str]],
    bad: str,
    marks: Mapping[str, Mark],
    *,
    pending: Collection[str] = (),
    slots: int = 1,
) -> Probe | Culprit | Ambiguous:
    """Choose the next commits to test, ``slots`` at a time.

    ``parents`` maps every suspect to its parents (others among them are known good); ``bad`` is
    the tip that fails. The commit whose ancestors come nearest to one half is taken, ties by the
    order of ``parents``. With each untestable suspect the next one comes from another part of them
    (1/4, 3/4, 1/8, ...), as untestable commits are mostly neighbours; after too many
    (:func:`most_untestable`) the answer is what is left. Where ``bad`` is no suspect, as it adds
    nothing to the good commit, the answer is Ambiguous without any commits.

    Commits that are tested already (``pending``) stay as long as their result says anything. With
    more slots, each further commit is the one that cuts what the others leave into the smallest
    parts.
    """
    if bad not in parents:
        return Ambiguous(commits=())
    bits = {commit: 1 << number for number, commit in enumerate(parents)}
    reach = _reach(parents, bits)
    marked = [
        (commit, marks[commit])
        for commit in parents
        if commit in marks and commit != bad and reach[bad] & bits[commit]
    ]
    suspects, tip = reach[bad], bad
    for commit, mark in marked:
        if mark is Mark.GOOD:
            suspects &= ~reach[commit]
    for commit, mark in marked:
        # One that fails but is no suspect is another story: the problem was gone in between, or
        # came in by two branches.
        if mark is Mark.BAD and suspects & bits[commit]:
            suspects, tip = suspects & reach[commit], commit
    total = suspects.bit_count()
    if total == 1:
        return Culprit(commit=tip)
    untestable = sum(
        mark is Mark.UNTESTABLE and bool(suspects & bits[commit]) for commit, mark in marked
    )
    target = total * _part(untestable)
    weights = {
        commit: reach[commit] & suspects
        for commit in parents
        if suspects & bits[commit] and commit != tip and marks.get(commit) is not Mark.UNTESTABLE
    }
    if not weights or untestable >= most_untestable(total):
        return Ambiguous(commits=tuple(commit for commit in parents if suspects & bits[commit]))
    chosen = [commit for commit in weights if commit in pending]
    if not chosen:
        chosen = [min(weights, key=lambda commit: abs(weights[commit].bit_count() - target))]
    chosen += _cuts(suspects, weights, chosen, slots - len(chosen))
    return Probe(commits=tuple(chosen), remaining=total)


def _cuts(
    suspects: int, weights: Mapping[str, int], chosen: Sequence[str], count: int
) -> list[str]:
    """At most ``count`` more commits, each of which cuts the parts as small as can be.

    A part is a set of suspects that no test of a chosen commit tells apart. The sum of squares is
    the number of suspects that are left on average, times all of them.
    """
    parts = [suspects]
    for commit in chosen:
        parts = _cut(parts, weights[commit])
    found: list[str] = []
    while len(found) < count:
        sizes = {
            commit: sum(part.bit_count() ** 2 for part in _cut(parts, ancestors_of))
            for commit, ancestors_of in weights.items()
        }
        best = min(sizes, key=lambda commit: sizes[commit])
        if sizes[best] >= sum(part.bit_count() ** 2 for part in parts):
            break
        found.append(best)
        parts = _cut(parts, weights[best])
    return found


def _cut(parts: Sequence[int], ancestors_of: int) -> list[int]:
    halves = (half for part in parts for half in (part & ancestors_of, part & ~ancestors_of))
    return [half for half in halves if half]


def most_untestable(suspects: int) -> int:
    """Untestable ones among so many suspects after which a search ends: each costs a build."""
    return 8 + 2 * suspects.bit_length()


def _part(untestable: int) -> float:
    """Where to look among the suspects: 1/2, 1/4, 3/4, 1/8, 5/8, 3/8, ..."""
    number, part, step = untestable + 1, 0.0, 0.5
    while number:
        part += step * (number & 1)
        number, step = number >> 1, step / 2
    return part


def _reach(parents: Mapping[str, Sequence[str]], bits: Mapping[str, int]) -> dict[str, int]:
    """The ancestors of each suspect, itself among them, as a set of bits.

    A merge window has 13 000 suspects: sets of names would take minutes and gigabytes.
    """
    found: dict[str, int] = {}
    for start in parents:
        stack = [start]
        while stack:
            commit = stack[-1]
            inside = [parent for parent in parents[commit] if parent in parents]
            missing = [parent for parent in inside if parent not in found]
            if missing:
                stack.extend(missing)
                continue
            stack.pop()
            mask = bits[commit]
            for parent in inside:
                mask |= found[parent]
            found[commit] = mask
    return found
