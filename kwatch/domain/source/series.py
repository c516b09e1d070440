# SPDX-License-Identifier: GPL-2.0-or-later
"""A patch series as it is applied, and what became of each patch."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from kwatch.domain.source.patch import read_patch, split_mbox

if TYPE_CHECKING:
    from collections.abc import Sequence

SCHEMA = 1
"""Number of the rules below; part of each digest. A golden test pins both."""


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
    """The identity of the patches in an mboxrd file: see :func:`patch_digest`."""
    return digest_of([patch_digest(raw) for raw in split_mbox(mbox)])


def digest_of(patches: Sequence[str]) -> str:
    """The identity of a series, from those of its patches in their order."""
    return _digest(f"kwatch series {SCHEMA}", str(len(patches)), *patches)


def patch_digest(raw: bytes) -> str:
    """The identity of one mailed patch: what ``git am`` puts into the commit.

    One patch read through two lists, in another transfer encoding or with a footer below its
    signature is one patch. A mail that cannot be read is known by its bytes.
    """
    patch = read_patch(raw)
    if patch is None:
        content = raw.partition(b"\n")[2] if raw.startswith(b"From ") else raw
        content = content.replace(b"\r\n", b"\n").rstrip(b"\n")
        return _digest(f"kwatch unread patch {SCHEMA}", content)
    return _digest(
        f"kwatch patch {SCHEMA}",
        patch.author,
        patch.address,
        patch.date,
        patch.message,
        patch.diff,
    )


def _digest(*fields: str | bytes) -> str:
    """SHA-256 (hex) over the fields, each behind its length in 8 bytes, big endian."""
    digest = hashlib.sha256()
    for field in fields:
        data = field.encode("utf-8", "surrogatepass") if isinstance(field, str) else field
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.hexdigest()


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
