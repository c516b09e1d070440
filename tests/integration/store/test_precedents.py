# SPDX-License-Identifier: GPL-2.0-or-later
"""What earlier good boots of a variant were like."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kwatch.store import precedents
from kwatch.store.blobs import Blobs
from kwatch.store.database import Database
from tests.integration.web_history import BLOBS, NOW, digest, fill

if TYPE_CHECKING:
    from pathlib import Path


async def test_only_good_boots_count(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "history.sqlite")
    blobs = Blobs(tmp_path / "blobs", database=database, budget=1 << 30, clock=lambda: NOW)
    for blob in BLOBS:
        await blobs.put(blob)
    await database.write(fill)
    try:
        good, bad = await database.read(
            lambda tx: [
                tx.execute(
                    "SELECT v.name, count(DISTINCT boot.key) AS boots FROM boot"
                    " JOIN observation AS o ON o.boot_key = boot.key"
                    " JOIN variant AS v ON v.digest = o.variant"
                    " WHERE o.outcome = ? GROUP BY v.name ORDER BY boots DESC LIMIT 1",
                    (outcome,),
                ).fetchone()
                for outcome in ("pass", "fail")
            ]
        )
        found = await database.read(precedents.phases, good["name"], "kvm")
        assert len(found) == good["boots"]
        assert found[0] == {"kernel": 0.4, "init": 1.3}
        assert await database.read(precedents.phases, good["name"], "tcg") == ()
        assert await database.read(precedents.phases, "nobody's", "kvm") == ()
        assert bad["boots"] > 0
        assert await database.read(precedents.profile, good["name"]) == digest(b"profile")
        assert await database.read(precedents.profile, "nobody's") is None
    finally:
        await database.close()
