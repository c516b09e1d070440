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
    order of ``parents``; untestable ones are stepped over.
    """
    reach = {commit: ancestors(parents, commit) for commit in parents}
    suspects = set(reach[bad])
    for commit, mark in marks.items():
        if commit in reach and mark is Mark.BAD:
            suspects &= reach[commit]
    for commit, mark in marks.items():
        if commit in reach and mark is Mark.GOOD:
            suspects -= reach[commit]
    tips = [
        commit
        for commit in parents
        if commit in suspects and (commit == bad or marks.get(commit) is Mark.BAD)
    ]
    if len(suspects) == 1:
        return Culprit(commit=suspects.pop())
    total = len(suspects)
    best: tuple[int, str] | None = None
    for commit in parents:
        if commit not in suspects or commit in tips or marks.get(commit) is Mark.UNTESTABLE:
            continue
        weight = len(reach[commit] & suspects)
        value = min(weight, total - weight)
        if best is None or value > best[0]:
            best = (value, commit)
    if best is None:
        return Ambiguous(commits=tuple(commit for commit in parents if commit in suspects))
    return Probe(commit=best[1], remaining=total)
