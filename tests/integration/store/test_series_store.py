# SPDX-License-Identifier: GPL-2.0-or-later
"""Which version of a series is in use, on a real database."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from kwatch import app
from kwatch.domain.source.posting import SeriesRule
from kwatch.domain.source.series import series_digest
from kwatch.store import series as series_store
from kwatch.store.database import Database
from tests.unit.domain.mailed import Mailed
from tests.unit.domain.trials import SERIES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

LINE = b"From 0123456789 Mon Sep 17 00:00:00 2001\n"
A = LINE + Mailed(subject="A").raw()
B = LINE + Mailed(subject="B").raw()


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = await Database.open(tmp_path / "history.sqlite")
    yield database
    await database.close()


async def started_with(database: Database, file: Path, content: bytes) -> bytes:
    """A start with the patch file; the mbox that is in use then."""
    file.write_bytes(content)
    watched = SimpleNamespace(rule=SeriesRule(name="mcdc"), files=(file,))
    settings: Any = SimpleNamespace(series=(watched,))
    await app._series_from_files(settings, database)
    current = await database.read(series_store.current, "mcdc")
    assert current is not None
    return await database.read(series_store.mbox, current.digest)


async def test_patches_from_files_can_be_put_back(database: Database, tmp_path: Path) -> None:
    for content in (A, B, A, A, B, A):
        assert await started_with(database, tmp_path / "patch", content) == content
    assert len(await database.read(series_store.newest_first)) == 2


async def test_a_clock_that_was_set_back_makes_no_difference(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await started_with(database, tmp_path / "patch", A)
    monkeypatch.setattr("kwatch.app.time.time", lambda: 1000.0)
    for content in (B, A, B):
        assert await started_with(database, tmp_path / "patch", content) == content


async def test_the_same_patches_from_a_trusted_sender_are_accepted(database: Database) -> None:
    """Somebody else may have posted them first, with other headers."""
    digest = series_digest(A)
    held = replace(SERIES, digest=digest, accepted_by=None, origin="held@example.org")
    trusted = replace(held, accepted_by="the list of trusted senders", origin="own@example.org")
    assert await database.write(series_store.put, held, b"held")
    assert not await database.write(series_store.put, held, b"again")
    assert await database.write(series_store.put, trusted, b"trusted")
    assert not await database.write(series_store.put, held, b"held")
    assert not await database.write(series_store.put, trusted, b"again")
    assert await database.read(series_store.current, SERIES.name) == trusted
    assert await database.read(series_store.mbox, digest) == b"trusted"
