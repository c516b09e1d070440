# SPDX-License-Identifier: GPL-2.0-or-later
"""Reference data from passing boots: profile, image, phase durations."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kwatch.store.database import Transaction

# What is usual may change with a kernel: the newest count.
BOOTS = 100


def profile(tx: Transaction, build: str, boot: str) -> str | None:
    """The blob of the newest profile of a good boot under these recipes (digests)."""
    row = tx.execute(
        "SELECT profile.digest FROM boot JOIN build ON build.row = boot.build"
        " JOIN blob_ref AS profile ON profile.owner_kind = 'boot'"
        " AND profile.owner_key = boot.key AND profile.name = 'profile'"
        " JOIN blob ON blob.digest = profile.digest"
        " WHERE boot.recipe = ? AND boot.is_good = 1 AND build.recipe = ?"
        " ORDER BY boot.at DESC LIMIT 1",
        (boot, build),
    ).fetchone()
    return row and str(row["digest"])


def image(tx: Transaction, arch: str) -> str | None:
    """The blob of the newest image that booted well and is still kept."""
    row = tx.execute(
        "SELECT image.digest FROM recipe"
        " JOIN boot ON boot.recipe = recipe.digest AND boot.is_good = 1"
        " JOIN blob_ref AS image ON image.owner_kind = 'build' AND image.owner_key = boot.build"
        " AND image.name = 'image' JOIN blob ON blob.digest = image.digest"
        " WHERE recipe.kind = 'boot' AND json_extract(recipe.definition, '$.arch') = ?"
        " ORDER BY boot.at DESC LIMIT 1",
        (arch,),
    ).fetchone()
    return row and str(row["digest"])


def phases(tx: Transaction, boot: str, accelerator: str) -> tuple[Mapping[str, float], ...]:
    """Seconds of each phase of the newest good boots of a recipe under one accelerator."""
    rows = tx.execute(
        "SELECT json_extract(result, '$.phases') AS phases FROM boot"
        " WHERE recipe = ? AND is_good = 1 AND accelerator = ? ORDER BY at DESC LIMIT ?",
        (boot, accelerator, BOOTS),
    )
    return tuple(json.loads(row["phases"]) for row in rows if row["phases"])
