# SPDX-License-Identifier: GPL-2.0-or-later
"""A real git server on loopback, as git.kernel.org's git:// is one."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from tests.lab.process import LOOPBACK, LabError, Server, call, free_port, listens


class GitServer:
    """``git daemon`` over every repository below ``directory``; an async context manager."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()
        self.port = 0
        self._server: Server | None = None

    async def __aenter__(self) -> Self:
        self.directory.mkdir(parents=True, exist_ok=True)
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def url(self, name: str) -> str:
        """Where to fetch the repository ``directory/name``."""
        return f"git://{LOOPBACK}:{self.port}/{name}"

    async def start(self) -> None:
        """Serve, on the port of the last start where there was one."""
        # "git daemon" would start it as a child, which outlives a killed parent.
        folder = (await call(["git", "--exec-path"])).decode().strip()
        port = self.port or free_port()
        server = await Server.start(
            [
                str(Path(folder) / "git-daemon"),
                f"--base-path={self.directory}",
                "--export-all",
                f"--listen={LOOPBACK}",
                f"--port={port}",
                "--reuseaddr",
                "--informative-errors",
            ],
            log=self.directory.with_name(f"{self.directory.name}-daemon.log"),
        )
        await server.until(lambda: listens(port))
        if server.process.returncode is not None:
            raise LabError(f"git daemon: {server.output()}")
        self.port = port
        self._server = server

    async def stop(self) -> None:
        """Take the server away: a fetch finds nobody listening."""
        if self._server is not None:
            await self._server.stop()
            self._server = None
