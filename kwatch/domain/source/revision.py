# SPDX-License-Identifier: GPL-2.0-or-later
"""Trees that are watched, and their tags."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kwatch.domain.source.tag_order import branch_of, branches, tag_order

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """A git repository whose tags are tested.

    ``tags`` are glob patterns as of ``git ls-remote`` (``next-*``, ``v6.*-rc*``). ``first`` is how
    many of the newest tags of a branch are taken when it is seen for the first time. ``base`` is a
    branch of the repository that the tree is based on (``stable`` in linux-next), if it has one.
    """

    name: str
    url: str
    tags: tuple[str, ...]
    variants: tuple[str, ...]
    first: int = 1
    base: str | None = None
    mail_to: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """A tag of a tree, as it stood at ``seen_at`` (seconds since the epoch).

    ``is_baseline``: no tag that is watched, but a commit that others are compared with.
    """

    tree: str
    tag: str
    commit: str
    seen_at: float
    is_baseline: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TagChanges:
    """What a look at a tree found: tags to test in order, and tags that moved (tag, old, new)."""

    new: tuple[tuple[str, str], ...]
    moved: tuple[tuple[str, str, str], ...]


def tag_changes(known: Mapping[str, str], seen: Mapping[str, str], *, first: int) -> TagChanges:
    """Compare the tags seen now with those known (both tag -> commit).

    Each branch (domain/source/tag_order) is compared for itself. A tag that was missed is filled
    in, in its order; of a branch that is seen for the first time only the ``first`` newest count. A
    tag that moved is reported, and its new commit is tested as well.
    """
    oldest: dict[str, str] = {}
    for tag in sorted(known, key=tag_order):
        oldest.setdefault(branch_of(tag), tag)
    fresh: list[str] = []
    for _, own in branches(seen):
        missing = [tag for tag in own if tag not in known]
        start = oldest.get(branch_of(own[0]))
        if start is None:
            fresh += missing[-first:]
        else:
            # Older tags were left out on purpose at the first look.
            fresh += [tag for tag in missing if tag_order(tag) > tag_order(start)]
    fresh.sort(key=tag_order)
    moved = sorted((tag for tag in seen if tag in known and seen[tag] != known[tag]), key=tag_order)
    return TagChanges(
        new=tuple((tag, seen[tag]) for tag in fresh),
        moved=tuple((tag, known[tag], seen[tag]) for tag in moved),
    )
