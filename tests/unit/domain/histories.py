# SPDX-License-Identifier: GPL-2.0-or-later
"""Random commit histories, as the suspects of a bisection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

from kwatch.domain.verdict.bisect.commits import ancestors


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Suspects and their parents, newest first. Parents that are no suspects are good."""

    parents: Mapping[str, Sequence[str]]
    bad: str

    def reachable(self) -> list[str]:
        """What ``bad`` contains."""
        inside = ancestors(self.parents, self.bad)
        return [commit for commit in self.parents if commit in inside]


@st.composite
def histories(draw: st.DrawFn, *, most: int = 24) -> History:
    """Up to ``most`` commits with one or two parents each; the newest is the bad one."""
    count = draw(st.integers(1, most))
    parents: dict[str, tuple[str, ...]] = {}
    for number in range(count):
        older = [f"c{other}" for other in range(number)] + ["good"]
        chosen = draw(st.lists(st.sampled_from(older), min_size=1, max_size=2, unique=True))
        parents[f"c{number}"] = tuple(chosen)
    newest_first = {commit: parents[commit] for commit in reversed(parents)}
    bad = f"c{count - 1}"
    inside = ancestors(newest_first, bad)
    return History(
        parents={commit: of for commit, of in newest_first.items() if commit in inside}, bad=bad
    )


@st.composite
def next_histories(draw: st.DrawFn, *, most: int = 12) -> History:
    """A day of linux-next: a row of merges, each of a branch; the good tag is no ancestor.

    Branches that stood in the good tag already begin at a commit that is no suspect.
    """
    parents: dict[str, tuple[str, ...]] = {}
    trunk = "mainline"
    for branch in range(draw(st.integers(1, most))):
        tip = f"known{branch}"
        for number in range(draw(st.integers(0, 8))):
            commit = f"b{branch}.{number}"
            parents[commit] = (tip,)
            tip = commit
        merge = f"merge{branch}"
        parents[merge] = (trunk, tip)
        trunk = merge
    return History(parents={commit: parents[commit] for commit in reversed(parents)}, bad=trunk)
