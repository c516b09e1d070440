# SPDX-License-Identifier: GPL-2.0-or-later
"""Large artifacts: compressed files named by their SHA-256, within a disk budget.

Consoles, logs, images and profiles are kept here instead of in the database. Above the budget the
least recently used blobs are removed: first those that can be made again (images, dumps), then
logs and profiles.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeVar

import zstandard

from kwatch.errors import DiskFullError, InfraError, is_disk_full
from kwatch.store import seekable
from kwatch.store.tidy import protected

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from kwatch.store.database import Database, Transaction

T = TypeVar("T")

CHUNK = 1 << 20
KEEP_SECONDS = 3600.0
"""Blobs used within this time are never removed."""

MODE = 0o640  # the group of the state directory may read consoles


class _GoneError(InfraError):
    """Blob missing or corrupt; the caller must regenerate it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A blob on disk; sizes in bytes."""

    digest: str
    size: int
    stored: int


class Blobs:
    """The blob store below ``directory``, at most ``budget`` bytes of compressed files."""

    def __init__(
        self,
        directory: Path,
        *,
        database: Database,
        budget: int,
        clock: Callable[[], float],
    ) -> None:
        self.directory = directory
        self.budget = budget
        self._database = database
        self._clock = clock
        # Last use by digest, not yet written to the database: reading must not write.
        self._used: dict[str, float] = {}
        # Eviction must not remove the file of a blob that is put again at the same time.
        self._changing = asyncio.Lock()

    async def put(self, source: Path | bytes) -> str:
        """Store a file or bytes; return the SHA-256. DiskFullError if there is no room."""
        async with self._changing:
            stored = await asyncio.to_thread(self._store, source)
            await self._database.write(_add, stored, now=self._clock())
            await self._shrink()
        return stored.digest

    async def has(self, digest: str) -> bool:
        """Whether the blob is present; counts as a use."""
        self._note_use(digest)
        return await self._database.read(_is_known, digest)

    async def tail(self, digest: str, limit: int) -> bytes:
        """The last ``limit`` bytes of a blob, without a write to the database.

        Reads the end of the file only; blobs stored before the seekable format are decompressed as
        a whole, in bounded memory. InfraError if the blob is gone or damaged.
        """
        self._note_use(digest)
        return await asyncio.to_thread(tail, self.directory, digest, limit)

    async def read(self, digest: str, *, limit: int = 256 * CHUNK) -> bytes:
        """The content of a blob of at most ``limit`` bytes.

        InfraError if it is larger, gone, or not the content that was put.
        """
        data = bytearray()

        def keep(chunk: bytes) -> None:
            data.extend(chunk)
            if len(data) > limit:
                raise InfraError(f"blob {digest[:12]} is larger than {limit} bytes")

        await self._load(digest, lambda: self._decompress(digest, keep))
        return bytes(data)

    async def copy(self, digest: str, target: Path) -> None:
        """Write a blob's content to ``target``. InfraError as with :meth:`read`."""

        def write() -> None:
            with target.open("wb") as out:
                self._decompress(digest, out.write)

        await self._load(digest, write)

    async def sweep(self) -> int:
        """Remove partial files of a crash and files without a row; return how many.

        For the start of the daemon: a concurrent put() has a file without a row for a moment.
        """
        await self.flush()
        known = await self._database.read(_digests)
        return await asyncio.to_thread(self._sweep, known)

    async def flush(self) -> None:
        """Write the times of last use to the database; put() does so as well."""
        if self._used:
            await self._database.write(_note, self._drain())

    def path(self, digest: str) -> Path:
        """The file of a blob."""
        return _path(self.directory, digest)

    def _note_use(self, digest: str) -> None:
        self._used[digest] = self._clock()

    def _drain(self) -> Mapping[str, float]:
        used, self._used = self._used, {}
        return used

    def _store(self, source: Path | bytes) -> Stored:
        return no_room(lambda: self._compress(source))()

    def _compress(self, source: Path | bytes) -> Stored:
        self.directory.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        size = 0

        def hashed() -> Iterator[bytes]:
            nonlocal size
            for chunk in _chunks(source):
                digest.update(chunk)
                size += len(chunk)
                yield chunk

        handle, name = tempfile.mkstemp(prefix="part-", dir=self.directory)
        part = Path(name)
        try:
            with os.fdopen(handle, "wb") as out:
                os.fchmod(handle, MODE)
                seekable.write(hashed(), out)
                out.flush()
                os.fsync(handle)
            target = self.path(digest.hexdigest())
            target.parent.mkdir(exist_ok=True)
            stored = part.stat().st_size
            part.rename(target)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        return Stored(digest=digest.hexdigest(), size=size, stored=stored)

    async def _load(self, digest: str, work: Callable[[], None]) -> None:
        """Run ``work`` in a thread; if it finds the blob gone, remove the row as well."""
        self._note_use(digest)
        try:
            await asyncio.to_thread(no_room(work))
        except _GoneError:
            async with self._changing:
                await self._database.write(_forget, digest)
                await asyncio.to_thread(self.path(digest).unlink, missing_ok=True)
            raise

    def _decompress(self, digest: str, use: Callable[[bytes], object]) -> None:
        for chunk in contents(self.directory, digest):
            use(chunk)

    def _sweep(self, known: frozenset[str]) -> int:
        if not self.directory.exists():
            return 0
        left = [
            *self.directory.glob("part-*"),
            *(path for path in self.directory.glob("??/*.zst") if path.stem not in known),
        ]
        for path in left:
            path.unlink(missing_ok=True)
        return len(left)

    async def _shrink(self) -> None:
        victims = await self._database.write(_evict, self.budget, self._drain(), now=self._clock())
        for digest in victims:
            await asyncio.to_thread(self.path(digest).unlink, missing_ok=True)


def contents(directory: Path, digest: str) -> Iterator[bytes]:
    """The content of a blob below ``directory`` in pieces, for a process beside the daemon.

    InfraError if it is gone or, at its end, if it is not the content that was put.
    """
    found = hashlib.sha256()
    with _opened(directory, digest) as source:
        for chunk in seekable.read(source):
            found.update(chunk)
            yield chunk
    if found.hexdigest() != digest:
        raise _damaged(digest, directory)


def tail(directory: Path, digest: str, limit: int) -> bytes:
    """The last ``limit`` bytes of a blob below ``directory``. InfraError if gone or damaged."""
    with _opened(directory, digest) as source:
        found = seekable.read_tail(source, limit)
    if found is not None:
        return found
    kept = bytearray()
    for chunk in contents(directory, digest):
        kept += chunk
        del kept[: max(len(kept) - limit, 0)]
    return bytes(kept)


@contextlib.contextmanager
def _opened(directory: Path, digest: str) -> Iterator[IO[bytes]]:
    """The file of a blob, with read errors as InfraError."""
    try:
        with _path(directory, digest).open("rb") as source:
            yield source
    except FileNotFoundError:
        raise _GoneError(
            f"blob {digest[:12]} is gone from {directory}: removed to stay within [blobs] budget,"
            " or by someone else"
        ) from None
    except zstandard.ZstdError as error:
        raise _damaged(digest, directory) from error


def _path(directory: Path, digest: str) -> Path:
    return directory / digest[:2] / f"{digest}.zst"


def no_room(work: Callable[[], T]) -> Callable[[], T]:
    """Wrap ``work``: a full disk raises DiskFullError."""

    def attempt() -> T:
        try:
            return work()
        except OSError as error:
            if is_disk_full(error):
                raise DiskFullError(
                    f"no room left on the disk ({error.filename or error}): make room, or lower"
                    " [blobs] budget; the work goes on by itself"
                ) from error
            raise

    return attempt


def _damaged(digest: str, directory: Path) -> _GoneError:
    return _GoneError(
        f"blob {digest[:12]} in {directory} is damaged: check the disk (dmesg, smartctl); an image"
        " is built again when it is needed"
    )


def _chunks(source: Path | bytes) -> Iterator[bytes]:
    if isinstance(source, bytes):
        yield source
        return
    with source.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            yield chunk


def _add(tx: Transaction, stored: Stored, *, now: float) -> None:
    tx.execute(
        "INSERT INTO blob (digest, size, stored, created_at, used_at) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (digest) DO UPDATE SET used_at = excluded.used_at",
        (stored.digest, stored.size, stored.stored, now, now),
    )


def _note(tx: Transaction, used: Mapping[str, float]) -> None:
    tx.executemany(
        "UPDATE blob SET used_at = ? WHERE digest = ? AND used_at < ?",
        [(at, digest, at) for digest, at in used.items()],
    )


def _is_known(tx: Transaction, digest: str) -> bool:
    return tx.execute("SELECT 1 FROM blob WHERE digest = ?", (digest,)).fetchone() is not None


def _forget(tx: Transaction, digest: str) -> None:
    tx.execute("DELETE FROM blob WHERE digest = ?", (digest,))


def _digests(tx: Transaction) -> frozenset[str]:
    return frozenset(row["digest"] for row in tx.execute("SELECT digest FROM blob"))


def _evict(tx: Transaction, budget: int, used: Mapping[str, float], *, now: float) -> list[str]:
    """Remove blobs from the table until the rest fits; return their digests.

    Evidence of open regressions stays, even where the budget is then exceeded.
    """
    _note(tx, used)
    total = tx.execute("SELECT coalesce(sum(stored), 0) AS total FROM blob").fetchone()["total"]
    if total <= budget:
        return []
    rows = tx.execute(
        "SELECT blob.digest, stored FROM blob LEFT JOIN blob_ref USING (digest)"
        " WHERE used_at < ? GROUP BY blob.digest"
        " ORDER BY max(coalesce(name, '') NOT IN ('', 'image', 'vmlinux', 'dump')), used_at",
        (now - KEEP_SECONDS,),
    ).fetchall()
    victims = []
    kept = protected(tx)
    for row in rows:
        if total <= budget:
            break
        if row["digest"] in kept:
            continue
        total -= row["stored"]
        victims.append(row["digest"])
        tx.execute("DELETE FROM blob WHERE digest = ?", (row["digest"],))
    return victims
