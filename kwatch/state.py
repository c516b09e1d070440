# SPDX-License-Identifier: GPL-2.0-or-later
"""The layout of the state directory, in one place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class StateDirectory:
    """Where the daemon keeps what it knows. Paths only: nothing is created or read here."""

    root: Path

    @property
    def database(self) -> Path:
        """History, queue and outbox: one SQLite file."""
        return self.root / "history.sqlite"

    @property
    def blobs(self) -> Path:
        """Consoles, images, profiles and logs, by SHA-256."""
        return self.root / "blobs"

    @property
    def control(self) -> Path:
        """The daemon's control socket."""
        return self.root / "control.sock"

    @property
    def git(self) -> Path:
        """The bare repository of all trees."""
        return self.root / "linux.git"

    @property
    def lore(self) -> Path:
        """Clones of list archives: one folder a list, one repository an epoch."""
        return self.root / "lore"

    @property
    def scratch(self) -> Path:
        """Work in progress; emptied at every start."""
        return self.root / "scratch"

    @property
    def source(self) -> Path:
        """The worktree that patches are applied in; it survives a restart."""
        return self.scratch / "source"
