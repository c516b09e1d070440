# SPDX-License-Identifier: GPL-2.0-or-later
"""A real public-inbox on loopback: the lab's lore."""

from __future__ import annotations

import asyncio
import email.utils
import os
import re
import shutil
import subprocess
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

from tests.lab.process import DIES_WITH_US, LOOPBACK, Server, call

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

BOUND = re.compile(r"# bound http://127\.0\.0\.1:(\d+)")


class Inbox:
    """Mailing lists with an archive, served by public-inbox-httpd.

    An async context manager; everything lives below ``directory``, and a later run finds the
    mails of an earlier one there unless ``reset`` is set.
    """

    def __init__(
        self,
        directory: Path,
        lists: Sequence[str],
        *,
        domain: str = "example.org",
        reset: bool = False,
    ) -> None:
        self.directory = directory.absolute()
        self.lists = tuple(lists)
        self.domain = domain
        self.reset = reset
        self.port = 0
        self._server: Server | None = None
        # Mails reach the archive in the order in which they were handed over.
        self._order = asyncio.Lock()
        self._environment = {
            **{name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ},
            "HOME": str(self.directory),
            "PI_CONFIG": str(self.directory / "config"),
            "PI_EMERGENCY": str(self.directory / "emergency"),
            "TZ": "UTC",
        }

    async def __aenter__(self) -> Self:
        if self.reset and self.directory.exists():
            shutil.rmtree(self.directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        for name in self.lists:
            if not (self.directory / name).exists():
                await self._create(name)
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Serve the archives, on the port of the last start where there was one."""
        self._server = await Server.start(
            ["public-inbox-httpd", "-l", f"http://{LOOPBACK}:{self.port}", "-W0"],
            log=self.directory / "httpd.log",
            env=self._environment,
        )
        await self._server.until(self._bound)
        found = BOUND.search(self._server.output())
        assert found is not None
        self.port = int(found[1])

    async def stop(self) -> None:
        """Take the web server away; mails can still be delivered."""
        if self._server is not None:
            await self._server.stop()
            self._server = None

    def url(self, list_name: str) -> str:
        """Where the archive of a list is, as lore would have it: no slash at the end."""
        return f"http://{LOOPBACK}:{self.port}/{list_name}"

    def address(self, list_name: str) -> str:
        """The posting address of a list."""
        return f"{list_name}@{self.domain}"

    async def deliver(
        self, list_name: str, message: bytes, *, received_at: datetime | None = None
    ) -> None:
        """Put ``message`` into the archive of a list, as its mail server would.

        A Received header with ``received_at`` (default: now) goes on top: the archive dates its
        commit by it. A mail that the archive has already is ignored, as lore does.
        """
        when = received_at or datetime.now(UTC)
        stamp = email.utils.format_datetime(when)
        trace = f"Received: from lab by {self.domain} with ESMTP; {stamp}\n".encode()
        async with self._order:
            await call(
                ["public-inbox-mda", "--no-precheck"],
                env={**self._environment, "ORIGINAL_RECIPIENT": self.address(list_name)},
                stdin=trace + message.replace(b"\r\n", b"\n"),
            )

    async def remove(self, list_name: str, message: bytes) -> None:
        """Take a mail out with a commit that says so (spam); the history still holds it.

        ``message`` is the mail as ``messages`` gave it.
        """
        async with self._order:
            await call(
                ["public-inbox-learn", "rm"],
                env={**self._environment, "ORIGINAL_RECIPIENT": self.address(list_name)},
                stdin=message,
            )

    async def purge(self, list_name: str, message: bytes) -> None:
        """Take a mail out of the history itself: all later commits get new ids."""
        async with self._order:
            await call(
                ["public-inbox-purge", str(self.directory / list_name)],
                env=self._environment,
                stdin=message,
            )

    async def roll_over(self, list_name: str) -> None:
        """Begin the next epoch: later mails go there (lore does so at about 1 GB)."""
        async with self._order:
            await call(
                [
                    "perl",
                    "-MPublicInbox::MultiGit",
                    "-e",
                    'PublicInbox::MultiGit->new($ARGV[0], "all.git", "git")->add_epoch($ARGV[1])',
                    str(self.directory / list_name),
                    str(len(self._epochs(list_name))),
                ],
                env=self._environment,
            )

    def messages(self, list_name: str) -> list[bytes]:
        """Every mail of a list as the archive holds it, oldest first; removed ones are absent."""
        found: list[tuple[Path, str]] = []
        removed: set[str] = set()
        for epoch in self._epochs(list_name):
            # ":000000 100644 OLD NEW A<tab>m" is a mail, "d" holds a removed one.
            log = self._git(
                epoch, "log", "--reverse", "--format=", "--raw", "--no-abbrev", "--no-renames"
            )
            for line in log.decode().splitlines():
                _, _, _, blob, change, name = line.split()
                if change != "D" and name == "m":
                    found.append((epoch, blob))
                elif change != "D":
                    removed.add(blob)
        contents = [
            self._git(epoch, "cat-file", "blob", blob)
            for epoch, blob in found
            if blob not in removed
        ]
        # A purged mail leaves an empty one behind.
        return [content for content in contents if content]

    def _bound(self) -> bool:
        return self._server is not None and bool(BOUND.search(self._server.output()))

    def _epochs(self, list_name: str) -> list[Path]:
        epochs = (self.directory / list_name / "git").glob("*.git")
        return sorted(epochs, key=lambda path: int(path.stem))

    def _git(self, epoch: Path, *args: str) -> bytes:
        done = subprocess.run(
            [*DIES_WITH_US, "git", "-C", str(epoch), *args],
            env=self._environment,
            capture_output=True,
            timeout=30,
            check=False,
        )
        return done.stdout

    async def _create(self, name: str) -> None:
        folder = str(self.directory / name)
        url = f"http://{LOOPBACK}/{name}"
        await call(
            ["public-inbox-init", "-V2", "-L", "basic", "-j1", name, folder, url,
             self.address(name)],
            env=self._environment,
        )  # fmt: skip
        await call(
            ["git", "config", "-f", str(self.directory / "config"),
             "publicinboxmda.spamcheck", "none"],
            env=self._environment,
        )  # fmt: skip
