# SPDX-License-Identifier: GPL-2.0-or-later
"""Trees that are watched, their tags, and the order in which tags came."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

# Bounded, for a tag is a stranger's text, and int() refuses more than 4300 digits.
_NUMBERS = re.compile(r"([0-9]{1,18})")
_RELEASE_CANDIDATE = re.compile(r"-rc([0-9]{1,9})$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """A git repository whose tags are tested.

    ``tags`` are glob patterns as of ``git ls-remote`` (``next-*``, ``v6.*-rc*``). ``first`` is how
    many of the newest tags are taken when the tree is seen for the first time.
    """

    name: str
    url: str
    tags: tuple[str, ...]
    variants: tuple[str, ...]
    first: int = 1
    mail_to: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """A tag of a tree, as it stood at ``seen_at`` (seconds since the epoch)."""

    tree: str
    tag: str
    commit: str
    seen_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TagChanges:
    """What a look at a tree found: tags to test in order, and tags that moved (tag, old, new)."""

    new: tuple[tuple[str, str], ...]
    moved: tuple[tuple[str, str, str], ...]


def tag_order(tag: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key of a tag: numbers by value, and -rcN before the release it leads to.

    Covers ``next-20261117``, ``next-20261117.1``, ``v6.12-rc3``, ``v6.12`` and ``v6.12.4``.
    """
    candidate = _RELEASE_CANDIDATE.search(tag)
    stem = tag[: candidate.start()] if candidate else tag
    parts = [
        (1, int(part), "") if _NUMBERS.fullmatch(part) else (2, 0, part)
        for part in _NUMBERS.split(stem)
        if part
    ]
    parts.append((0, int(candidate[1]), "") if candidate else (0, 1 << 30, ""))
    return tuple(parts)


def tag_changes(known: Mapping[str, str], seen: Mapping[str, str], *, first: int) -> TagChanges:
    """Compare the tags seen now with those known (both tag -> commit).

    A tag that was missed is filled in, in its order; on the first look only the ``first`` newest
    count. A tag that moved is told, and its new commit is tested as well.
    """
    fresh = sorted((tag for tag in seen if tag not in known), key=tag_order)
    if not known:
        fresh = fresh[-first:]
    else:
        # Tags older than all that was ever taken were left out on purpose at the first look.
        oldest = min(map(tag_order, known))
        fresh = [tag for tag in fresh if tag_order(tag) > oldest]
    moved = sorted((tag for tag in seen if tag in known and seen[tag] != known[tag]), key=tag_order)
    return TagChanges(
        new=tuple((tag, seen[tag]) for tag in fresh),
        moved=tuple((tag, known[tag], seen[tag]) for tag in moved),
    )
