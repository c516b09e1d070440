# SPDX-License-Identifier: GPL-2.0-or-later
"""A real database, and what every test of a stage does with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest_asyncio

from kwatch.store.database import Database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest_asyncio.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = await Database.open(tmp_path / "history.sqlite")
    yield database
    await database.close()
