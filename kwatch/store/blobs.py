# SPDX-License-Identifier: GPL-2.0-or-later
"""Big things: compressed files by SHA-256, within a disk budget.

Consoles, logs and images are kept here and not in the database. When the budget is reached, what
was used longest ago goes first, kernels before logs; a kernel that is gone can be built again,
byte for byte, so nothing is ever lost but time.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import zstandard

from kwatch.errors import DiskFullError, InfraError, is_disk_full

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kwatch.store.database import Database, Transaction

T = TypeVar("T")

CHUNK = 1 << 20
COMPRESSION_LEVEL = 3
# What was used this recently is never taken away: somebody is about to read it.
KEEP_SECONDS = 3600.0


class _GoneError(InfraError):
    """A blob is not what it was, or not there: whatever can make it again must do so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A blob as it lies on disk; sizes in bytes."""

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
        # What the budget takes may be put again at that moment: a row must not lose its file.
        self._changing = asyncio.Lock()

    async def put(self, source: Path | bytes) -> str:
        """Keep a file or bytes; the SHA-256. DiskFullError if there is no room."""
        async with self._changing:
            stored = await asyncio.to_thread(self._store, source)
            await self._database.write(_add, stored, now=self._clock())
            await self._shrink()
        return stored.digest

    async def has(self, digest: str) -> bool:
        """Whether the blob is there; it then counts as used now."""
        return await self._database.write(_touch, digest, now=self._clock())

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
        """At the start: remove files that a crash left half written, or unknown; how many."""
        known = await self._database.read(_digests)
        return await asyncio.to_thread(self._sweep, known)

    def path(self, digest: str) -> Path:
        """Where a blob lies."""
        return _path(self.directory, digest)

    def _store(self, source: Path | bytes) -> Stored:
        return no_room(lambda: self._compress(source))()

    def _compress(self, source: Path | bytes) -> Stored:
        self.directory.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        size = 0
        compressor = zstandard.ZstdCompressor(level=COMPRESSION_LEVEL)
        handle, name = tempfile.mkstemp(prefix="part-", dir=self.directory)
        part = Path(name)
        try:
            with os.fdopen(handle, "wb") as out, compressor.stream_writer(out, closefd=False) as to:
                for chunk in _chunks(source):
                    digest.update(chunk)
                    size += len(chunk)
                    to.write(chunk)
                to.flush(zstandard.FLUSH_FRAME)
                out.flush()
                os.fsync(out.fileno())
            target = self.path(digest.hexdigest())
            target.parent.mkdir(exist_ok=True)
            stored = part.stat().st_size
            part.rename(target)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        return Stored(digest=digest.hexdigest(), size=size, stored=stored)

    async def _load(self, digest: str, work: Callable[[], None]) -> None:
        """Run ``work`` in a thread; a blob that it finds gone is gone for all."""
        await self._database.write(_touch, digest, now=self._clock())
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
        victims = await self._database.write(_evict, self.budget, now=self._clock())
        for digest in victims:
            await asyncio.to_thread(self.path(digest).unlink, missing_ok=True)


def contents(directory: Path, digest: str) -> Iterator[bytes]:
    """The content of a blob below ``directory``, in pieces, for one who only reads.

    InfraError if it is gone or, at its end, if it is not the content that was put.
    """
    found = hashlib.sha256()
    try:
        with (
            _path(directory, digest).open("rb") as source,
            zstandard.ZstdDecompressor().stream_reader(source) as stream,
        ):
            while chunk := stream.read(CHUNK):
                found.update(chunk)
                yield chunk
    except FileNotFoundError:
        raise _GoneError(
            f"blob {digest[:12]} is gone from {directory}: the disk budget took it, or somebody"
            " else did"
        ) from None
    except zstandard.ZstdError as error:
        raise _damaged(digest, directory) from error
    if found.hexdigest() != digest:
        raise _damaged(digest, directory)


def _path(directory: Path, digest: str) -> Path:
    return directory / digest[:2] / f"{digest}.zst"


def no_room(work: Callable[[], T]) -> Callable[[], T]:
    """The same work, with a full disk in the operator's words."""

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
        f"blob {digest[:12]} in {directory} is damaged: see that the disk is well (dmesg,"
        " smartctl); what can be made again will be"
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


def _touch(tx: Transaction, digest: str, *, now: float) -> bool:
    touched = tx.execute("UPDATE blob SET used_at = ? WHERE digest = ?", (now, digest))
    return touched.rowcount > 0


def _forget(tx: Transaction, digest: str) -> None:
    tx.execute("DELETE FROM blob WHERE digest = ?", (digest,))


def _digests(tx: Transaction) -> frozenset[str]:
    return frozenset(row["digest"] for row in tx.execute("SELECT digest FROM blob"))


def _evict(tx: Transaction, budget: int, *, now: float) -> list[str]:
    """Take blobs from the table until the rest fits; their digests."""
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
    for row in rows:
        if total <= budget:
            break
        total -= row["stored"]
        victims.append(row["digest"])
        tx.execute("DELETE FROM blob WHERE digest = ?", (row["digest"],))
    return victims
