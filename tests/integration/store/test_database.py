# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import asyncio
import sqlite3
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import sqlite_utils

from kwatch.errors import ConfigError, InfraError
from kwatch.store import database as module
from kwatch.store.database import Database, connect
from kwatch.store.migrations import MIGRATIONS

if TYPE_CHECKING:
    from kwatch.store.database import Transaction

SCHEMA = Path(__file__).with_name("schema.sql")


def note(tx: Transaction, value: str) -> None:
    tx.execute("INSERT INTO cursor (source, value) VALUES (?, ?)", (value, value))


def values(tx: Transaction) -> list[str]:
    return [row["value"] for row in tx.execute("SELECT value FROM cursor ORDER BY value")]


def schema(connection: sqlite3.Connection) -> str:
    """Every statement that makes the database, but for SQLite's and sqlite-utils' own tables."""
    rows = connection.execute(
        "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND tbl_name NOT LIKE '\\_%' ESCAPE"
        " '\\' AND tbl_name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY tbl_name, type DESC, name"
    )
    return "".join(f"{row['sql']};\n\n" for row in rows)


async def test_a_new_database_has_the_schema_of_the_golden_file(tmp_path: Path) -> None:
    """If this fails on purpose: a new migration, and its schema in schema.sql."""
    store = await Database.open(tmp_path / "state" / "kwatch.db")
    found = await store.read(schema)
    await store.close()
    assert found == SCHEMA.read_text()


async def test_every_table_is_strict(tmp_path: Path) -> None:
    store = await Database.open(tmp_path / "kwatch.db")
    tables = await store.read(
        lambda tx: tx.execute(
            "SELECT name, strict FROM pragma_table_list WHERE schema = 'main' AND type = 'table'"
        ).fetchall()
    )
    await store.close()
    lax = {row["name"] for row in tables if not row["strict"]}
    assert {name for name in lax if not name.startswith(("sqlite_", "_sqlite_migrations"))} == set()
    assert len(tables) > 20


async def test_a_database_is_opened_again_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "kwatch.db"
    for value in ("a", "b"):
        store = await Database.open(path)
        await store.write(note, value)
        await store.close()
    store = await Database.open(path)
    assert await store.read(values) == ["a", "b"]
    assert (await store.read(lambda tx: tx.execute("PRAGMA integrity_check").fetchone()))[0] == "ok"
    await store.close()
    assert not path.with_name("kwatch.db-wal").exists()


async def test_a_database_of_a_newer_kwatch_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "kwatch.db"
    store = await Database.open(path)
    await store.write(note, "a")
    await store.close()
    connection = sqlite3.connect(path)
    newer = type(MIGRATIONS)("kwatch")

    @newer()
    def m999_from_the_future(database: sqlite_utils.Database) -> None:
        database.execute("CREATE TABLE future (x INTEGER) STRICT")

    newer.apply(sqlite_utils.Database(connection))
    connection.commit()
    connection.close()
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=r"newer kwatch.*m999_from_the_future"):
        await Database.open(path)
    assert path.read_bytes() == before
    assert [other.name for other in tmp_path.iterdir()] == ["kwatch.db"]


@pytest.mark.parametrize("content", [b"no database " * 500, b"SQLite format 3\0" + b"x" * 4096])
async def test_a_file_that_is_no_database_is_the_operators_to_put_right(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "kwatch.db"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"kwatch\.db"):
        await Database.open(path)
    assert path.read_bytes() == content


async def test_a_state_directory_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "kwatch.db").mkdir()
    with pytest.raises(ConfigError, match=r"kwatch\.db"):
        await Database.open(tmp_path / "kwatch.db")


async def test_a_write_that_raises_leaves_nothing_behind(tmp_path: Path) -> None:
    store = await Database.open(tmp_path / "kwatch.db")

    def half(tx: Transaction) -> None:
        note(tx, "half")
        raise ValueError("the second half is missing")

    with pytest.raises(ValueError, match="second half"):
        await store.write(half)
    await store.write(note, "whole")
    assert await store.read(values) == ["whole"]
    await store.close()


async def test_a_reader_sees_what_is_committed_and_nothing_else(tmp_path: Path) -> None:
    store = await Database.open(tmp_path / "kwatch.db")
    is_written, may_commit = threading.Event(), threading.Event()

    def slow(tx: Transaction) -> None:
        note(tx, "slow")
        is_written.set()
        assert may_commit.wait(10)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(store.write(slow))
        await asyncio.to_thread(is_written.wait, 10)
        assert await store.read(values) == []
        # As the command line does, from another process's connection.
        other = connect(store.path, read_only=True)
        assert values(other) == []
        may_commit.set()
        await task
        assert await store.read(values) == ["slow"]
        assert values(other) == ["slow"]
        other.close()
    await store.close()


async def test_a_read_is_one_snapshot(tmp_path: Path) -> None:
    store = await Database.open(tmp_path / "kwatch.db")
    is_reading, may_go_on = threading.Event(), threading.Event()

    def twice(tx: Transaction) -> tuple[list[str], list[str]]:
        first = values(tx)
        is_reading.set()
        assert may_go_on.wait(10)
        return first, values(tx)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(store.read(twice))
        await asyncio.to_thread(is_reading.wait, 10)
        await store.write(note, "meanwhile")
        may_go_on.set()
        assert await task == ([], [])
    await store.close()


async def test_a_reader_cannot_write(tmp_path: Path) -> None:
    store = await Database.open(tmp_path / "kwatch.db")
    with pytest.raises(InfraError, match="readonly"):
        await store.read(note, "sneaky")
    await store.close()


async def test_writes_from_everywhere_come_one_after_the_other(tmp_path: Path) -> None:
    store = await Database.open(tmp_path / "kwatch.db")
    await store.write(note, "0")

    def increment(tx: Transaction) -> None:
        (row,) = tx.execute("SELECT value FROM cursor")
        tx.execute("UPDATE cursor SET value = ?", (str(int(row["value"]) + 1),))

    async with asyncio.TaskGroup() as group:
        for _ in range(50):
            group.create_task(store.write(increment))
    assert await store.read(values) == ["50"]
    await store.close()


async def test_a_database_that_somebody_else_locks_is_trouble_of_the_lab(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BUSY_MILLISECONDS", 50)
    store = await Database.open(tmp_path / "kwatch.db")
    other = connect(store.path, read_only=False)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(InfraError, match="locked"):
        await store.write(note, "a")
    other.rollback()
    other.close()
    await store.write(note, "a")
    await store.close()


async def test_the_wrong_type_is_refused(tmp_path: Path) -> None:
    store = await Database.open(tmp_path / "kwatch.db")
    with pytest.raises(sqlite3.IntegrityError, match="cannot store TEXT"):
        await store.write(
            lambda tx: tx.execute("INSERT INTO cursor (source, looked_at) VALUES ('a', 'noon')")
        )
    await store.close()
