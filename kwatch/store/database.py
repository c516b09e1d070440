# SPDX-License-Identifier: GPL-2.0-or-later
"""SQLite under asyncio: one thread writes, a few read.

One writer means that no transaction ever waits for another or fails as locked; every write is one
``BEGIN IMMEDIATE`` transaction, wholly there or not at all. The command line reads the same file
while the daemon writes (WAL).
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

import sqlite_utils

from kwatch.errors import ConfigError, DiskFullError, InfraError, is_disk_full
from kwatch.store.migrations import MIGRATIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

P = ParamSpec("P")
T = TypeVar("T")

READERS = 2
BUSY_MILLISECONDS = 10_000

Transaction = sqlite3.Connection


class Database:
    """The history. Open with :meth:`open`, close with :meth:`close`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="database-writer")
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="database-reader")
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []

    @classmethod
    async def open(cls, path: Path) -> Database:
        """Open ``path``, making and migrating it as needed.

        A database written by a newer kwatch raises ConfigError and is not touched.
        """
        database = cls(path)
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(database._writer, database._prepare)
        except BaseException:
            await database.close()
            raise
        return database

    async def close(self) -> None:
        """Finish what is under way and close every connection."""
        self._readers.shutdown(wait=True)
        self._writer.shutdown(wait=True)
        # The writer's is the oldest and goes last: only it can put the WAL into the database.
        for connection in reversed(self._connections):
            connection.close()
        self._connections.clear()

    async def write(
        self, work: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run ``work(transaction, ...)`` as one transaction in the writer thread."""

        def call() -> T:
            connection = self._connection(read_only=False)
            with transaction(connection):
                return work(connection, *args, **kwargs)

        return await asyncio.get_running_loop().run_in_executor(self._writer, translated(call))

    async def read(
        self, work: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run ``work(connection, ...)`` on a read-only connection: one snapshot."""

        def call() -> T:
            connection = self._connection(read_only=True)
            connection.execute("BEGIN")
            try:
                return work(connection, *args, **kwargs)
            finally:
                connection.rollback()

        return await asyncio.get_running_loop().run_in_executor(self._readers, translated(call))

    def _prepare(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            migrate(self._connection(read_only=False), self.path)
        except sqlite3.DatabaseError as error:
            raise ConfigError(
                f"{self.path} cannot be opened ({error}): see that it is kwatch's own, writable and"
                " whole, or put a backup in its place"
            ) from error

    def _connection(self, *, read_only: bool) -> sqlite3.Connection:
        """The connection of the running thread, made at its first use."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = connect(self.path, read_only=read_only)
            self._local.connection = connection
            self._connections.append(connection)
        return connection


@contextlib.contextmanager
def reading(path: Path) -> Iterator[Transaction]:
    """One snapshot of the history, for a process beside the daemon. InfraError if it is none."""
    if not path.exists():
        raise ConfigError(f"there is no history at {path} yet: has kwatch run with this file?")
    connection = connect(path, read_only=True)
    try:
        connection.execute("BEGIN")
        yield connection
    except sqlite3.DatabaseError as error:
        raise InfraError(
            f"the history at {path} cannot be read ({error}): see that it is kwatch's own and"
            " whole, and that kwatch has run since it was installed anew"
        ) from error
    finally:
        connection.close()


def connect(path: Path, *, read_only: bool) -> sqlite3.Connection:
    """A connection with the settings that everything here relies on."""
    mode = "ro" if read_only else "rwc"
    connection = sqlite3.connect(
        f"file:{path}?mode={mode}", uri=True, isolation_level=None, check_same_thread=False
    )
    connection.row_factory = sqlite3.Row
    connection.execute(f"PRAGMA busy_timeout = {BUSY_MILLISECONDS}")
    connection.execute("PRAGMA foreign_keys = ON")
    if read_only:
        connection.execute("PRAGMA query_only = ON")
    else:
        connection.execute("PRAGMA journal_mode = WAL")
        # Message-IDs and cursors must outlive a power cut, and there are few writes a second.
        connection.execute("PRAGMA synchronous = FULL")
    return connection


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Bring the schema up to date; refuse one that is newer than this program."""
    database = sqlite_utils.Database(connection)
    known = {migration.name for migration in MIGRATIONS.pending(sqlite_utils.Database(memory=True))}
    applied = {migration.name for migration in MIGRATIONS.applied(database)}
    if newer := applied - known:
        raise ConfigError(
            f"{path} was written by a newer kwatch (it has the migrations "
            f"{', '.join(sorted(newer))}): install that version, or use another state directory"
        )
    MIGRATIONS.apply(database)


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """One immediate transaction: committed at the end, rolled back on any exception."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.rollback()
        raise
    connection.commit()


def translated(call: Callable[[], T]) -> Callable[[], T]:
    """The same call, with SQLite's own failures in the operator's words."""

    def translate() -> T:
        try:
            return call()
        except sqlite3.OperationalError as error:
            if is_disk_full(error) or "disk I/O error" in str(error):
                raise DiskFullError(
                    f"no room left for the database ({error}): make room, the work goes on"
                ) from error
            raise InfraError(f"the database does not answer: {error}") from error

    return translate
