# SPDX-License-Identifier: GPL-2.0-or-later
"""What to compare a tag with if no earlier tag of its branch shows whether its failure is new."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from kwatch.domain.source.tag_order import is_candidate, tag_order

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MOST_TAGS = 200
"""Of a repository, newest first, that are looked at for the newest ancestors of a tag."""

_RELEASE = re.compile(r"v[0-9]{1,9}(?:\.[0-9]{1,9}){1,2}(?:-rc[0-9]{1,9})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """A commit to try, and the name that people know it by."""

    name: str
    commit: str


def releases(tags: Mapping[str, str]) -> tuple[tuple[Baseline, ...], tuple[Baseline, ...]]:
    """The kernel's releases and its release candidates among tags (name -> commit), newest first.

    At most MOST_TAGS of each: a repository is a stranger's.
    """
    names = sorted(filter(_RELEASE.fullmatch, tags), key=tag_order, reverse=True)
    return (
        _newest(tags, (name for name in names if not is_candidate(name))),
        _newest(tags, filter(is_candidate, names)),
    )


def _newest(tags: Mapping[str, str], names: Iterable[str]) -> tuple[Baseline, ...]:
    return tuple(Baseline(name=name, commit=tags[name]) for name in islice(names, MOST_TAGS))


def in_order(
    bad: str, *, fork: Baseline | None, candidate: Baseline | None, release: Baseline | None
) -> tuple[Baseline, ...]:
    """The commits to compare ``bad`` with, first to last, each once; one that passes is enough.

    ``fork`` is where its tree left the branch that it is based on, ``candidate`` and ``release``
    are the newest that it contains.
    """
    tags = [one for one in (candidate, release) if one is not None]
    tags.sort(key=lambda one: tag_order(one.name), reverse=True)
    found: dict[str, Baseline] = {}
    for one in ([fork] if fork else []) + tags:
        # Where a tree is based on a release, the name of that says more.
        if one.commit != bad:
            found[one.commit] = one
    return tuple(found.values())
