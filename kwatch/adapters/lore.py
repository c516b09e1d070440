# SPDX-License-Identifier: GPL-2.0-or-later
"""New mails of a list, from the git epochs of its public-inbox archive.

An archive says in ``manifest.js.gz`` which epochs it has and what their refs are; an epoch is a git
repository with a commit for each mail, whose only file is ``m`` (a mail) or ``d`` (one taken out);
see public-inbox-v2-format(5). Nothing but the manifest is fetched while nothing changed.
"""

from __future__ import annotations

import itertools
import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

import aiohttp

from kwatch.adapters.git import Git
from kwatch.domain.source.message import MAX_HEADER, MAX_MAIL, message_id_of
from kwatch.errors import InfraError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MAX_MANIFEST = 4 << 20
"""Bytes of a manifest, packed or unpacked; that of all of lore has about one."""

MAX_READ = 32 << 20
"""Bytes of mails that are read from git at once."""

OVERLAP = timedelta(days=1)
"""How far before its last mail a rewritten history is read again: commits are not quite in order
of their dates."""

FETCH_TIMEOUT = 3600.0
"""Seconds for one fetch: an epoch has up to a gigabyte."""

CHALLENGED_WAIT = timedelta(hours=1)

HEAD = "refs/kwatch/head"
PROBE = "refs/kwatch/probe"

_EPOCH = re.compile(r"/git/(\d{1,4})\.git\Z")
_FINGERPRINT = re.compile(r"[0-9a-f]{40,64}")
_LATEST = datetime(9999, 1, 1, tzinfo=UTC)
_RETRY_SECONDS = re.compile(r"\d{1,6}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """How far a list was read: the last commit of the newest epoch that was read.

    ``fingerprints`` are those of the manifest when each epoch was last fetched. ``commit`` is None
    while an epoch has nothing that was read; ``committed_at`` is the archive's clock.
    """

    fingerprints: Mapping[int, str]
    epoch: int
    commit: str | None
    committed_at: datetime

    def to_json(self) -> str:
        """The cursor as the database keeps it."""
        return json.dumps(
            {
                "fingerprints": {str(epoch): value for epoch, value in self.fingerprints.items()},
                "epoch": self.epoch,
                "commit": self.commit,
                "committed_at": self.committed_at.isoformat(),
            },
            sort_keys=True,
        )

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what ``to_json`` wrote."""
        stored = json.loads(text)
        return cls(
            fingerprints={int(epoch): value for epoch, value in stored["fingerprints"].items()},
            epoch=stored["epoch"],
            commit=stored["commit"],
            committed_at=datetime.fromisoformat(stored["committed_at"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RawMail:
    """One mail as the archive holds it. ``received_at`` is the archive's clock, in UTC."""

    epoch: int
    commit: str
    received_at: datetime
    raw: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class TooLarge:
    """A mail of more than MAX_MAIL bytes, which is not read."""

    epoch: int
    commit: str
    size: int
    message_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What a poll found, in the archive's order. ``more`` asks to poll again at once.

    After a rewritten history mails come a second time: their Message-IDs tell.
    """

    mails: tuple[RawMail, ...]
    too_large: tuple[TooLarge, ...]
    cursor: Cursor
    more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Epoch:
    number: int
    fingerprint: str
    modified: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class _Commit:
    id: str
    at: datetime


class Lore:
    """A reader of public-inbox archives; their epochs are kept as repositories in ``directory``.

    ``user_agent`` (``kwatch/0.1+CONTACT``) names the operator: lore turns nameless clients away.
    """

    def __init__(self, *, directory: Path, user_agent: str, session: aiohttp.ClientSession) -> None:
        self._directory = directory
        self._user_agent = user_agent
        self._session = session

    async def poll(
        self,
        url: str,
        cursor: Cursor | None,
        *,
        since: datetime,
        limit: int = 500,
        timeout: float = 60,
    ) -> Batch:
        """Read at most ``limit`` new commits of the list at ``url`` after ``cursor``.

        Without a cursor, mails from ``since`` on are new. ``timeout`` (seconds) bounds the look at
        the manifest. An archive that does not answer as one raises InfraError.
        """
        url = url.rstrip("/")
        epochs = await self._manifest(url, timeout)
        now = cursor or Cursor(fingerprints={}, epoch=0, commit=None, committed_at=since)
        mails: list[RawMail] = []
        too_large: list[TooLarge] = []
        room = limit
        for epoch in sorted(epochs, key=lambda one: one.number):
            if epoch.number < now.epoch or (cursor is None and epoch.modified < since - OVERLAP):
                continue
            git = Git(self._repository(url, epoch.number))
            first = since if cursor is None else None
            head = await self._update(git, url, epoch, now, first)
            fresh = await self._fresh(git, epoch, now, first) if head else []
            found, refused = await _read(git, epoch.number, fresh[:room])
            mails += found
            too_large += refused
            more = len(fresh) > room
            reached = fresh[room - 1] if more else (fresh[-1] if fresh else head)
            room -= min(room, len(fresh))
            now = _moved(now, epoch, reached)
            if more or room == 0:
                return Batch(mails=tuple(mails), too_large=tuple(too_large), cursor=now, more=True)
        return Batch(mails=tuple(mails), too_large=tuple(too_large), cursor=now, more=False)

    def _repository(self, url: str, epoch: int) -> Path:
        parts = urlsplit(url)
        name = re.sub(r"[^A-Za-z0-9.-]", "_", f"{parts.netloc}{parts.path}")
        return self._directory / name / f"{epoch}.git"

    async def _update(
        self, git: Git, url: str, epoch: _Epoch, now: Cursor, first: datetime | None
    ) -> _Commit | None:
        """Bring the epoch's repository up to the manifest; its head, None in an empty one."""
        await git.create()
        fetched = await git.resolve(HEAD)
        if fetched is None or now.fingerprints.get(epoch.number) != epoch.fingerprint:
            # A whole epoch has a gigabyte; only the part that is to be read is fetched of it.
            start = first
            if start is None and fetched is None and epoch.number == now.epoch:
                start = now.committed_at - OVERLAP
            await self._fetch(git, f"{url}/git/{epoch.number}.git", start)
        return next(iter(await _log(git, "--max-count=1", HEAD)), None)

    async def _fetch(self, git: Git, url: str, start: datetime | None) -> None:
        """Fetch the epoch's branch, from ``start`` on where one is given."""
        depth: list[str] = []
        if start is not None:
            # A server refuses --shallow-since when not even the head is that new.
            await self._git_fetch(git, url, "--depth=1", f"+HEAD:{PROBE}")
            (head,) = await _log(git, "--max-count=1", PROBE)
            date = f"--shallow-since={int(start.timestamp())}"
            depth = ["--depth=1" if head.at < start else date]
        await self._git_fetch(git, url, *depth, f"+HEAD:{HEAD}")
        await git.run("-c", "gc.auto=2000", "-c", "gc.autoDetach=false", "gc", "--auto", "--quiet")

    async def _git_fetch(self, git: Git, url: str, *args: str) -> None:
        *options, refspec = args
        # Mails are only read, never checked out, and many a From line makes an odd commit.
        await git.run(
            "-c", "fetch.fsckObjects=false", "fetch", "--quiet", "--no-tags",
            "--no-write-fetch-head", *options, "--end-of-options", url, refspec,
            timeout=FETCH_TIMEOUT,
            env={"GIT_HTTP_USER_AGENT": f"git/2 ({self._user_agent})"},
        )  # fmt: skip

    async def _fresh(
        self, git: Git, epoch: _Epoch, now: Cursor, first: datetime | None
    ) -> list[_Commit]:
        """The commits of an epoch that were not read, oldest first."""
        if first is None and epoch.number > now.epoch:
            return await _log(git, "--reverse", HEAD)
        if first is None and now.commit is not None:
            known = await git.run("merge-base", "--is-ancestor", now.commit, HEAD, check=False)
            if known.status == 0:
                return await _log(git, "--reverse", f"{now.commit}..{HEAD}")
        # The first look, or a history that was rewritten: a mail was purged from it.
        start = first
        if start is None:
            start = now.committed_at - (OVERLAP if now.commit else timedelta())
        return [commit for commit in await _log(git, "--reverse", HEAD) if commit.at >= start]

    async def _manifest(self, url: str, timeout: float) -> list[_Epoch]:
        address = f"{url}/manifest.js.gz"
        try:
            async with self._session.get(
                address,
                headers={"User-Agent": self._user_agent},
                timeout=aiohttp.ClientTimeout(total=timeout),
                max_redirects=3,
            ) as response:
                _check(address, response)
                content = bytearray()
                async for piece in response.content.iter_chunked(1 << 16):
                    content += piece
                    if len(content) > MAX_MANIFEST:
                        raise InfraError(
                            f"{address} has more than {MAX_MANIFEST} bytes: "
                            f"check that the URL is that of one list"
                        )
        except TimeoutError:
            raise InfraError(f"{address} did not answer within {timeout:g} s") from None
        except aiohttp.ClientError as error:
            raise InfraError(
                f"{address} cannot be read: {type(error).__name__}: {error}; "
                f"check the URL and this machine's network"
            ) from error
        return _epochs(address, bytes(content))


def _check(address: str, response: aiohttp.ClientResponse) -> None:
    """Raise InfraError unless the answer can be a manifest."""
    wait = _retry_after(response.headers)
    if response.status == 404:
        raise InfraError(f"{address}: no such archive (404): check the URL of the list")
    if response.status != 200:
        raise InfraError(
            f"{address} answered {response.status} {(response.reason or '')[:100]}: "
            f"the archive is overloaded or turns this client away; it is tried again later",
            retry_after=wait,
        )
    if response.content_type == "text/html":
        raise InfraError(
            f"{address}: challenged: a web page came where a gzip file was expected. The archive "
            f"takes this client for a robot without a name: check that user_agent names kwatch "
            f"and a contact, and that the URL is an archive's",
            retry_after=wait or CHALLENGED_WAIT,
        )


def _retry_after(headers: Mapping[str, str]) -> timedelta | None:
    """The wait that a server asks for, at most a day; a date is taken by the server's clock."""
    value = headers.get("Retry-After", "").strip()
    if _RETRY_SECONDS.fullmatch(value):
        wait = timedelta(seconds=int(value))
    else:
        try:
            wait = parsedate_to_datetime(value) - parsedate_to_datetime(headers.get("Date", ""))
        except (TypeError, ValueError, OverflowError, IndexError):
            return None
    return min(max(wait, timedelta()), timedelta(days=1))


def _epochs(address: str, content: bytes) -> list[_Epoch]:
    """The epochs that a manifest names; one that has no mail yet is left out."""
    if content.startswith(b"\x1f\x8b"):
        content = _unpacked(address, content)
    try:
        manifest = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InfraError(f"{address} is no manifest: {error}: {content[:80]!r}") from error
    if not isinstance(manifest, dict):
        raise InfraError(f"{address} is no manifest: {content[:80]!r}")
    name = urlsplit(address).path.rsplit("/", 2)[1]
    found = []
    for path, entry in manifest.items():
        epoch = _EPOCH.search(path)
        if epoch is None or not path[: epoch.start()].endswith(f"/{name}"):
            continue
        fingerprint = entry.get("fingerprint") if isinstance(entry, dict) else None
        if isinstance(fingerprint, str) and _FINGERPRINT.fullmatch(fingerprint):
            modified = entry.get("modified")
            known = isinstance(modified, int) and 0 <= modified < 1 << 33
            found.append(
                _Epoch(
                    number=int(epoch[1]),
                    fingerprint=fingerprint,
                    modified=datetime.fromtimestamp(modified, UTC) if known else _LATEST,
                )
            )
    return found


def _unpacked(address: str, content: bytes) -> bytes:
    unpacker = zlib.decompressobj(wbits=31)
    try:
        unpacked = unpacker.decompress(content, MAX_MANIFEST)
    except zlib.error as error:
        raise InfraError(f"{address} is damaged: {error}; it is tried again later") from error
    if not unpacker.eof:
        raise InfraError(
            f"{address} is cut off or unpacks to more than {MAX_MANIFEST} bytes: "
            f"it is tried again later"
        )
    return unpacked


def _moved(now: Cursor, epoch: _Epoch, reached: _Commit | None) -> Cursor:
    """The cursor once ``epoch`` is fetched, and read to ``reached``."""
    return Cursor(
        fingerprints={**now.fingerprints, epoch.number: epoch.fingerprint},
        epoch=epoch.number if reached else now.epoch,
        commit=reached.id if reached else now.commit,
        committed_at=reached.at if reached else now.committed_at,
    )


async def _log(git: Git, *args: str) -> list[_Commit]:
    listed = await git.run("log", "--format=%H %ct", *args, "--")
    rows = (line.split() for line in listed.text().splitlines())
    return [_Commit(id=row[0], at=datetime.fromtimestamp(int(row[1]), UTC)) for row in rows]


async def _read(
    git: Git, epoch: int, commits: Sequence[_Commit]
) -> tuple[list[RawMail], list[TooLarge]]:
    """The mails of ``commits``; a commit that took one out, or whose mail was purged, has none."""
    names = "".join(f"{commit.id}:m\n" for commit in commits).encode()
    sizes = await git.run("cat-file", "--batch-check=%(objectname) %(objectsize)", stdin=names)
    wanted: list[tuple[_Commit, str, int]] = []
    too_large: list[TooLarge] = []
    for commit, line in zip(commits, sizes.text().splitlines(), strict=True):
        blob, size = line.rsplit(" ", 1)
        if size in {"missing", "0"}:
            continue
        if int(size) > MAX_MAIL:
            message_id = message_id_of(await git.beginning(blob, MAX_HEADER))
            too_large.append(
                TooLarge(epoch=epoch, commit=commit.id, size=int(size), message_id=message_id)
            )
        else:
            wanted.append((commit, blob, int(size)))
    mails: list[RawMail] = []
    while wanted:
        count = _fitting([size for _, _, size in wanted])
        names = "".join(f"{blob}\n" for _, blob, _ in wanted[:count]).encode()
        output = (await git.run("cat-file", "--batch", stdin=names)).stdout
        offset = 0
        for commit, _, length in wanted[:count]:
            start = output.index(b"\n", offset) + 1
            raw = output[start : start + length]
            mails.append(RawMail(epoch=epoch, commit=commit.id, received_at=commit.at, raw=raw))
            offset = start + length + 1
        wanted = wanted[count:]
    return mails, too_large


def _fitting(sizes: Sequence[int]) -> int:
    """How many of the first sizes fit into MAX_READ together; one always does."""
    total = itertools.accumulate(sizes)
    return max(1, sum(1 for size in total if size <= MAX_READ))
