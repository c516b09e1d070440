# SPDX-License-Identifier: GPL-2.0-or-later
"""What one guest says, written down while it says it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from kwatch.domain.boot.channel import BlobChunk, BlobDone, BlobStarted, ChannelEvent, Integrity
from kwatch.domain.boot.channel import End as CommandEnd
from kwatch.domain.deadguest.autopsy import Autopsy
from kwatch.domain.deadguest.profile_counters import Counters
from kwatch.domain.run import CONSOLE
from kwatch.errors import DiskFullError, is_disk_full

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

# The blob that a guest hands out its coverage in.
PROFILE = "profraw"
PIECE = 1 << 24


@dataclass(slots=True, kw_only=True)
class Recording:
    """The words of a guest, in files of ``folder``. Use as a context manager: it ends with them.

    ``console`` and ``profile`` grow as the guest talks, so that somebody else can follow them, and
    memory stays what it is however much that is. ``is_intact``: the profile came over whole.
    ``log`` is what QEMU itself said, ``autopsy`` and ``counters`` are what was found in a guest
    that ended without a word. DiskFullError where there is no room.
    """

    folder: Path
    log: bytearray = field(default_factory=bytearray)
    statuses: dict[int, int] = field(default_factory=dict)
    is_intact: bool = False
    autopsy: Autopsy | None = None
    counters: Counters | None = None
    _is_profile: bool = False

    def __enter__(self) -> Self:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.console.touch()
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def console(self) -> Path:
        """The file of the console."""
        return self.folder / CONSOLE

    @property
    def profile(self) -> Path:
        """The file of the raw profile."""
        return self.folder / "profile"

    @property
    def dump(self) -> Path:
        """The file of a dead guest's whole memory, where one is made."""
        return self.folder / "dump"

    def hear(self, data: bytes) -> None:
        """Bytes of the console."""
        _append(self.console, data)

    def remember(self, event: ChannelEvent) -> None:
        """What the guest said on its channel."""
        match event:
            case BlobStarted(name=name):
                self._is_profile = name == PROFILE
                if self._is_profile:
                    self.profile.write_bytes(b"")
                    self.is_intact = False
            case BlobChunk(data=data) if self._is_profile:
                _append(self.profile, data)
            case BlobDone(name=name, integrity=integrity) if name == PROFILE:
                self.is_intact = integrity is Integrity.INTACT
            case CommandEnd(index=index, status=status):
                self.statuses[index] = status
            case _:
                pass

    def pieces(self) -> Iterator[bytes]:
        """The console in whole lines, some megabytes at a time."""
        with self.console.open("rb") as file:
            while piece := file.read(PIECE):
                yield piece + file.readline(PIECE)


def _append(file: Path, data: bytes) -> None:
    try:
        with file.open("ab", buffering=0) as out:
            rest = memoryview(data)
            while rest:
                rest = rest[out.write(rest) :]
    except OSError as error:
        if is_disk_full(error):
            raise DiskFullError(
                f"no room left for what a guest says ({file}): make room; it is booted again then"
            ) from error
        raise
