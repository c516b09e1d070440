# SPDX-License-Identifier: GPL-2.0-or-later
"""The files that a host has by their content: images, initramfs, profiles.

They lie in ``cache/sha256/DIGEST`` below kwatch's folder there. A file appears whole: it is
uploaded as a part, verified by the host itself, and renamed. An upload that broke goes on where
it was.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from kwatch.adapters.host.account import SHORT, TRANSFER
from kwatch.errors import InfraError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from kwatch.adapters.host.account import Account
    from kwatch.adapters.host.transport import Transport

GIB = 1 << 30
BUDGET = 20 * GIB
# Seconds for which a file is never removed: somebody is about to use it.
FRESH = 3600

# Status 9: it is another file, or not all of it.
ADOPT = (
    'test "$(sha256sum <"$0" | cut -c1-64)" = "$2" && mv -f "$0" "$1" && exit 0; rm -f "$0"; exit 9'
)
# A copy, and no link: a later build may write into the same file.
KEEP = (
    'part="$1/$2.part"; cp -- "$0" "$part" && digest=$(sha256sum <"$part" | cut -c1-64) && '
    'mv -f "$part" "$1/$digest" && echo "$digest"'
)
LIST = "date +%s; find \"$0\" -type f -printf '%T@ %s %p\\n'"


class Cache:
    """The cache of a host, of at most ``budget`` bytes.

    ``owner`` is part of the names of parts, so that two daemons never write into the same one.
    Every failure is an InfraError that names the host.
    """

    def __init__(
        self, account: Account, transport: Transport, *, owner: str, budget: int = BUDGET
    ) -> None:
        self._account = account
        self._transport = transport
        self._owner = owner
        self.budget = budget
        self.used: int | None = None
        self._uploading = asyncio.Lock()

    async def path(self, digest: str) -> str:
        """Where the file with this SHA-256 (hex) is, or would be."""
        return await self._account.path(f"cache/sha256/{digest}")

    async def find(self, digest: str) -> str | None:
        """The path of the file with this SHA-256 (hex) if it is there; it then stays on."""
        target = await self.path(digest)
        return target if await self._has(target) else None

    async def keep(self, path: str) -> str:
        """Copy a file that was made on the host; its SHA-256 (hex)."""
        folder = await self._account.path("cache/sha256")
        kept = await self._account.run(
            ["sh", "-c", KEEP, await self._account.path(path), folder, secrets.token_hex(4)],
            timeout=TRANSFER,
        )
        return kept.text().strip()

    async def put(self, digest: str, source: Path) -> str:
        """Have the file with this SHA-256 (hex) on the host; its path there.

        The file stays for an hour at least, then as long as there is room. A ``source`` that has
        another digest raises InfraError and leaves nothing. After any other failure the next
        attempt goes on where this one was, for an hour.
        """
        target = await self.path(digest)
        async with self._uploading:
            if await self._has(target):
                return target
            await self._upload(digest, source, target)
            await self.trim()
        return target

    async def _upload(self, digest: str, source: Path, target: str) -> None:
        part = f"{target}.{self._owner}.part"
        for _ in range(2):
            try:
                async with asyncio.timeout(TRANSFER):
                    begun = await self._transport.upload(source, part)
            except TimeoutError:
                raise InfraError(
                    f"{self._account.host}: {source} was not there after {TRANSFER:g} s, the next"
                    " attempt goes on where it is: is the link slow?",
                    host=self._account.host,
                ) from None
            adopted = await self._account.run(
                ["sh", "-c", ADOPT, part, target, digest], timeout=TRANSFER, check=False
            )
            if adopted.status == 0:
                return
            if not begun:
                break
            # What lay there was no beginning of it, and is gone now: all of it, once more.
        raise InfraError(
            f"{self._account.host}: {source} did not arrive as SHA-256 {digest}",
            host=self._account.host,
        )

    async def obtain(
        self, digest: str, fetch: Callable[[Path], Awaitable[None]], scratch: Path
    ) -> str:
        """The path of the file with this SHA-256 (hex) on the host.

        Where it is not there, ``fetch`` writes it to a path in ``scratch``, and it is put there.
        """
        if (known := await self.find(digest)) is not None:
            return known
        with tempfile.TemporaryDirectory(dir=scratch, prefix="obtain-") as folder:
            source = Path(folder) / "file"
            await fetch(source)
            return await self.put(digest, source)

    async def put_bytes(self, data: bytes) -> str:
        """Have these bytes as a file on the host; its path there."""
        target = await self.path(hashlib.sha256(data).hexdigest())
        if not await self._has(target):
            await self._account.write(target, data)
            await self.trim()
        return target

    async def _has(self, target: str) -> bool:
        """Whether ``target`` is there, which then counts as used now."""
        found = await self._account.run(
            ["sh", "-c", 'test -f "$0" && touch "$0"', target], timeout=SHORT, check=False
        )
        return found.status == 0

    async def trim(self) -> None:
        """Remove what was not used for longest, until all fits the budget; note what is in use."""
        listed = await self._account.run(
            ["sh", "-c", LIST, await self._account.path("cache/sha256")], timeout=SHORT
        )
        now, *lines = listed.text().splitlines()
        entries = [_entry(line) for line in lines]
        old = evict(entries, budget=self.budget, now=float(now))
        if old:
            await self._account.run(["rm", "-f", "--", *old], timeout=SHORT)
        self.used = sum(size for _, size, path in entries if path not in old)


def evict(entries: Sequence[tuple[float, int, str]], *, budget: int, now: float) -> tuple[str, ...]:
    """What to remove of a cache: (last use, bytes, path) of each file, seconds since the epoch.

    The longest unused go first until the rest fits ``budget`` bytes. What was used within the
    last hour stays in any case; parts of broken uploads go after it in any case.
    """
    gone = [path for used, _, path in entries if path.endswith(".part") and now - used > FRESH]
    whole = sorted(entry for entry in entries if not entry[2].endswith(".part"))
    total = sum(size for _, size, _ in whole)
    for used, size, path in whole:
        if total <= budget or now - used <= FRESH:
            break
        gone.append(path)
        total -= size
    return tuple(gone)


def _entry(line: str) -> tuple[float, int, str]:
    used, size, path = line.split(" ", 2)
    return float(used), int(size), path
