# SPDX-License-Identifier: GPL-2.0-or-later
"""The order of tags, and the branches that they are on, read off their names."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# Bounded, for a tag is untrusted text, and int() refuses more than 4300 digits.
_NUMBERS = re.compile(r"([0-9]{1,18})")
_RELEASE_CANDIDATE = re.compile(r"-rc([0-9]{1,9})$")
# v6.12.4: the stable branch v6.12, which begins at the release v6.12 of the main line.
_STABLE = re.compile(r"(\D*[0-9]{1,9}\.[0-9]{1,9})\.[0-9]{1,9}(?:\D.*)?")
_PREFIX = re.compile(r"[^0-9]*")


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


def is_candidate(tag: str) -> bool:
    """Whether a tag is a release candidate (``-rcN``)."""
    return _RELEASE_CANDIDATE.search(tag) is not None


def branch_of(tag: str) -> str:
    """The branch that a tag is on: ``next-``, ``v`` (main line) or ``v6.12`` (a stable branch)."""
    stable = _STABLE.fullmatch(tag)
    if stable and not tag.startswith("next-"):
        return stable[1]
    found = _PREFIX.match(tag)
    return found[0] if found else ""


def branches(tags: Iterable[str]) -> tuple[tuple[Sequence[str], Sequence[str]], ...]:
    """Tags by branch, each branch in its order, with the tags of another that it begins from."""
    lines: dict[str, list[str]] = {}
    for tag in sorted(tags, key=tag_order):
        lines.setdefault(branch_of(tag), []).append(tag)
    found = []
    for branch, own in lines.items():
        parent = branch_of(branch)
        base = [
            tag
            for tag in (lines.get(parent, []) if parent != branch else [])
            if tag_order(tag) <= tag_order(branch)
        ]
        found.append((base, own))
    return tuple(found)
