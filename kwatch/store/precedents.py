# SPDX-License-Identifier: GPL-2.0-or-later
"""What good boots of a variant were like, to hold another one against."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kwatch.store.database import Transaction

# What is usual may change with a kernel: the newest count.
BOOTS = 100


def profile(tx: Transaction, variant: str) -> str | None:
    """The blob of the newest profile that a good boot of the variant of this name handed out."""
    row = tx.execute(
        "SELECT profile.digest FROM blob_ref AS profile"
        " JOIN blob ON blob.digest = profile.digest"
        " JOIN observation AS o ON o.boot_key = profile.owner_key"
        " JOIN variant AS v ON v.digest = o.variant"
        " WHERE profile.owner_kind = 'boot' AND profile.name = 'profile'"
        " AND v.name = ? AND o.outcome = 'pass' ORDER BY o.settled_at DESC LIMIT 1",
        (variant,),
    ).fetchone()
    return row and str(row["digest"])


def image(tx: Transaction, arch: str) -> str | None:
    """The blob of the newest image that booted well and is still kept."""
    row = tx.execute(
        "SELECT image.digest FROM observation AS o"
        " JOIN variant AS v ON v.digest = o.variant"
        " JOIN blob_ref AS image ON image.owner_kind = 'build' AND image.owner_key = o.build_key"
        " AND image.name = 'image' JOIN blob ON blob.digest = image.digest"
        " WHERE o.outcome = 'pass' AND json_extract(v.variant, '$.arch') = ?"
        " ORDER BY o.settled_at DESC LIMIT 1",
        (arch,),
    ).fetchone()
    return row and str(row["digest"])


def phases(tx: Transaction, variant: str, accelerator: str) -> tuple[Mapping[str, float], ...]:
    """Seconds of each phase of the newest good boots under one accelerator."""
    rows = tx.execute(
        "SELECT DISTINCT boot.key, json_extract(boot.result, '$.phases') AS phases, boot.at"
        " FROM boot JOIN observation AS o ON o.boot_key = boot.key"
        " JOIN variant AS v ON v.digest = o.variant"
        " WHERE v.name = ? AND o.outcome = 'pass'"
        " AND json_extract(boot.result, '$.accelerator') = ? ORDER BY boot.at DESC LIMIT ?",
        (variant, accelerator, BOOTS),
    )
    return tuple(json.loads(row["phases"]) for row in rows if row["phases"])
