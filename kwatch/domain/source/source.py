# SPDX-License-Identifier: GPL-2.0-or-later
"""What is tried: a base commit, and what is put on top of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, assert_never

from kwatch.domain.digest import digest


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplySeries:
    """A series (its digest), or the patches ``first`` to ``last`` of it, counted from 1."""

    series: str
    first: int = 1
    last: int | None = None
    kind: Literal["series"] = "series"


@dataclass(frozen=True, slots=True, kw_only=True)
class Revert:
    """``git revert`` of a commit."""

    commit: str
    kind: Literal["revert"] = "revert"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """``git cherry-pick`` of a commit."""

    commit: str
    kind: Literal["pick"] = "pick"


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyMail:
    """A mailed patch: ``blob`` is the SHA-256 of its mbox, ``message_id`` where it came from."""

    blob: str
    message_id: str
    kind: Literal["mail"] = "mail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutate:
    """A planted fault, to test the lab itself: ``blob`` is the SHA-256 of a diff."""

    blob: str
    kind: Literal["mutate"] = "mutate"


Change = ApplySeries | Revert | Pick | ApplyMail | Mutate
"""``kind`` is the only difference between some of them once they are JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A commit (``base``) with ``changes`` on top, in this order.

    ``resolutions`` is the digest of the learned conflict resolutions that may be used, or None.
    """

    base: str
    changes: tuple[Change, ...] = ()
    resolutions: str | None = None

    @property
    def key(self) -> str:
        """The identity of the source: the key of its checkout."""
        return _key(self)

    @property
    def series(self) -> str | None:
        """The digest of the series that is applied, if one is."""
        found = (change.series for change in self.changes if isinstance(change, ApplySeries))
        return next(found, None)

    def on(self, base: str) -> Source:
        """The same changes on another commit."""
        return replace(self, base=base)

    @property
    def bare(self) -> Source:
        """The same without any series: the control."""
        kept = tuple(one for one in self.changes if not isinstance(one, ApplySeries))
        return replace(self, changes=kept)


@lru_cache(maxsize=8192)
def _key(source: Source) -> str:
    return digest(
        "source",
        1,
        {
            "base": source.base,
            "changes": [_fields(change) for change in source.changes],
            "resolutions": source.resolutions,
        },
    )


def _fields(change: Change) -> list[object]:
    match change:
        case ApplySeries():
            return ["series", change.series, change.first, change.last]
        case Revert():
            return ["revert", change.commit]
        case Pick():
            return ["pick", change.commit]
        case ApplyMail():
            return ["mail", change.blob]
        case Mutate():
            return ["mutate", change.blob]
        case _:
            assert_never(change)


def with_series(base: str, series: str | None) -> Source:
    """A commit with a whole series on top, or the bare commit."""
    return Source(base=base, changes=() if series is None else (ApplySeries(series=series),))
