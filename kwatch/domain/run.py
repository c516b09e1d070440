# SPDX-License-Identifier: GPL-2.0-or-later
"""A supervised command on a host: what is asked, what it says, how it ends."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

RUN_ID = re.compile(r"[a-z0-9-]{1,64}")

# Files that are followed, and what is kept of them: the console of a guest, and what a command
# writes to standard output and error.
CONSOLE = "console"
LOG = "log"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """A command to supervise.

    ``deadline`` and ``lease`` are seconds: after the first the run is killed in any case, after
    the second without anybody attached it is killed too. ``limits`` names the files in the
    folder of the run that may grow, in bytes; ``log`` is the command's own output. ``env`` is
    added to PATH, HOME and LC_ALL. ``cwd`` None is the folder of the run.
    """

    argv: tuple[str, ...]
    deadline: float
    limits: Mapping[str, int]
    lease: float = 180.0
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str | None = None
    nice: int = 0


class RunReason(Enum):
    """Why a run ended; the values are those of the supervisor's ``exit`` file.

    NO_ROOM: the disk of the host was full, so that what the run wrote may be less than it said.
    """

    EXITED = "exited"
    DEADLINE = "deadline"
    LEASE = "lease"
    STOPPED = "stopped"
    OUTPUT_LIMIT = "output-limit"
    NO_ROOM = "no-room"
    START_FAILED = "start-failed"
    LOST = "lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnd:
    """How a run ended.

    ``status`` is the exit status of the command, or minus the signal that killed it; ``took``
    and ``cpu`` are seconds; ``max_rss_kib`` is the largest of its processes.
    """

    reason: RunReason
    status: int
    took: float
    max_rss_kib: int = 0
    cpu: float = 0.0
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """A piece of a followed file, from byte ``offset`` on; pieces come in order, without gaps."""

    file: str
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Alive:
    """Nothing new, but the host is there and the run goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The last frame of a run: all output came before it."""

    end: RunEnd


Frame = Output | Alive | Ended
