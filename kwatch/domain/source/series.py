# SPDX-License-Identifier: GPL-2.0-or-later
"""A patch series as it is applied, and what became of each patch."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One version of a watched series: the mbox that ``git am`` gets, and who vouches for it.

    ``origin`` is the Message-ID of the posting's root, or ``files`` for patches that the operator
    keeps. A mailed patch is code that we run: ``accepted_by`` is None until somebody accepted it.
    """

    name: str
    digest: str
    title: str
    origin: str
    patches: int
    accepted_by: str | None
    posted_at: float


def series_digest(mbox: bytes) -> str:
    """The identity of a series: SHA-256 of exactly what is applied."""
    return hashlib.sha256(mbox).hexdigest()


class PatchFate(StrEnum):
    """What ``git am`` made of a patch."""

    APPLIED = "applied"
    CONFLICT = "conflict"
    UNTRIED = "untried"


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchResult:
    """The fate of one patch, in the order of the series."""

    subject: str
    fate: PatchFate
