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
    from collections.abc import Mapping, Sequence


class Mark(StrEnum):
    """What is known of a suspect. UNTESTABLE: it cannot show the problem, one way or the other."""

    BAD = "bad"
    GOOD = "good"
    UNTESTABLE = "untestable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """The commit to test next; ``remaining`` suspects are left."""

    commit: str
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
    parents: Mapping[str, Sequence[str]], bad: str, marks: Mapping[str, Mark]
) -> Probe | Culprit | Ambiguous:
    """Choose the next commit to test.

    ``parents`` maps every suspect to its parents (others among them are known good); ``bad`` is
    the tip that fails. The commit whose ancestors come nearest to one half is taken, ties by the
    order of ``parents``. With each untestable suspect the next one comes from another part of them
    (1/4, 3/4, 1/8, ...), as untestable commits are mostly neighbours; after too many
    (:func:`most_untestable`) the answer is what is left. Where ``bad`` is no suspect, as it adds
    nothing to the good commit, the answer is Ambiguous without any commits.
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
    best: tuple[float, str] | None = None
    for commit in parents:
        if not suspects & bits[commit] or commit == tip or marks.get(commit) is Mark.UNTESTABLE:
            continue
        weight = (reach[commit] & suspects).bit_count()
        value = -abs(weight - target)
        if best is None or value > best[0]:
            best = (value, commit)
    if best is None or untestable >= most_untestable(total):
        return Ambiguous(commits=tuple(commit for commit in parents if suspects & bits[commit]))
    return Probe(commit=best[1], remaining=total)


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
