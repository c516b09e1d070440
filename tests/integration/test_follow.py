# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest's console, followed while it grows and to its end."""

from __future__ import annotations

import asyncio
import io
import shutil
import sqlite3
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from kwatch.cli.follow import follow
from kwatch.errors import InfraError, KwatchError
from kwatch.state import StateDirectory
from kwatch.store import live
from kwatch.store.blobs import Blobs
from kwatch.store.database import Database
from tests.integration.web_history import BLOBS, CONSOLE, NOW, History, fill

if TYPE_CHECKING:
    from pathlib import Path

ANEW = "the boot is repeated"
OVER = "the boot ended: "


@pytest_asyncio.fixture
async def history(tmp_path: Path) -> History:
    """One of everything, in a state directory."""
    database = await Database.open(tmp_path / "history.sqlite")
    blobs = Blobs(tmp_path / "blobs", database=database, budget=1 << 30, clock=lambda: NOW)
    for blob in BLOBS:
        await blobs.put(blob)
    found = await database.write(fill)
    await database.close()
    return found


async def _shows(out: io.StringIO, text: str) -> None:
    async with asyncio.timeout(10):
        while text not in out.getvalue():
            await asyncio.sleep(0.02)


async def test_a_boot_that_is_over_is_shown_whole(tmp_path: Path, history: History) -> None:
    out = io.StringIO()
    follow(StateDirectory(tmp_path), "it", out, key=history.boot)
    shown = out.getvalue()
    assert shown.startswith("beginning of the console\n")
    assert len(shown.splitlines()) > len(CONSOLE.splitlines())
    assert f"-- {OVER}" in shown.splitlines()[-1]
    # A terminal obeys nothing of it.
    assert "\x1b" not in shown
    assert "\x00" not in shown


async def test_it_grows_and_the_end_is_not_lost(tmp_path: Path, history: History) -> None:
    console = live.console(tmp_path / "scratch", history.boot)
    console.parent.mkdir(parents=True)
    console.write_bytes(CONSOLE[:5000])
    out = io.StringIO()
    following = asyncio.create_task(
        asyncio.to_thread(follow, StateDirectory(tmp_path), "it", out, key=history.boot)
    )
    await _shows(out, "filler")
    with console.open("ab") as file:
        file.write(CONSOLE[5000:5100])
    # What came between the last look and the end is only in the blob.
    await asyncio.sleep(1)
    shutil.rmtree(console.parent)
    async with asyncio.timeout(10):
        await following
    whole = io.StringIO()
    follow(StateDirectory(tmp_path), "it", whole, key=history.boot)
    assert out.getvalue() == whole.getvalue()


async def test_a_guest_that_is_booted_anew_begins_anew(tmp_path: Path, history: History) -> None:
    console = live.console(tmp_path / "scratch", history.boot)
    console.parent.mkdir(parents=True)
    console.write_bytes(b"a first try, which is quite long\n")
    out = io.StringIO()
    following = asyncio.create_task(
        asyncio.to_thread(follow, StateDirectory(tmp_path), "it", out, key=history.boot)
    )
    await _shows(out, "quite long")
    (console.parent / "new").write_bytes(b"second\n")
    (console.parent / "new").rename(console)
    await _shows(out, "second")
    assert f"quite long\n\n-- {ANEW}\nsecond\n" in out.getvalue()
    shutil.rmtree(console.parent)
    async with asyncio.timeout(10):
        await following


async def test_a_console_that_is_gone_is_said(tmp_path: Path, history: History) -> None:
    with pytest.raises(InfraError, match="is gone from"):
        follow(StateDirectory(tmp_path), "it", io.StringIO(), key=history.lost_boot)


@pytest.mark.usefixtures("history")
async def test_a_boot_is_waited_for_as_long_as_somebody_wants_it(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "history.sqlite") as connection:
        connection.execute(
            "UPDATE trial SET waits_kind = 'boot', waits_key = 'abcdef'"
            " WHERE id = (SELECT min(id) FROM trial WHERE outcome IS NULL)"
        )
    out = io.StringIO()
    following = asyncio.create_task(
        asyncio.to_thread(follow, StateDirectory(tmp_path), "abcdef", out, key="abcdef")
    )
    await asyncio.sleep(1)
    assert not following.done()
    with sqlite3.connect(tmp_path / "history.sqlite") as connection:
        connection.execute("UPDATE trial SET waits_kind = NULL, waits_key = NULL")
    with pytest.raises(KwatchError, match="boot abcdef was cancelled"):
        await following
    assert out.getvalue() == ""
