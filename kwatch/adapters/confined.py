# SPDX-License-Identifier: GPL-2.0-or-later
"""Run a module of kwatch in a child process with resource limits.

For input from guests and strangers: a parser that loops, crashes or allocates without end takes
the child down and not the daemon, and never blocks the event loop.
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import kwatch
from kwatch.adapters import process
from kwatch.errors import InfraError

if TYPE_CHECKING:
    from kwatch.adapters.process import Completed

READY = b"ready\n"
"""First line of output of each such module, before it touches its input."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Address space and output in bytes, CPU time and wall clock in seconds."""

    memory: int
    output: int
    cpu: int
    timeout: float


async def run_module(
    module: str, *arguments: str, limits: Limits, stdin: bytes | None = None
) -> Completed:
    """Run ``python -m module`` under ``limits`` until it exits; ``stdout`` is without READY.

    Any exit status is returned, also that of a child killed by its limits on memory (the module
    sees MemoryError) or CPU time (SIGXCPU). InfraError for everything that is not the fault of
    the input: the child did not start, was killed by SIGKILL (out of memory on this machine), or
    exceeded ``timeout`` or ``output``.
    """
    argv = [
        "prlimit", f"--as={limits.memory}", f"--cpu={limits.cpu}:{limits.cpu + 5}", "--core=0",
        "--", sys.executable, "-P", "-X", "utf8", "-m", module, *arguments,
    ]  # fmt: skip
    # No secret of the daemon's environment is passed on.
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "PYTHONPATH": str(Path(kwatch.__file__).resolve().parents[1]),
    }
    completed = await process.run(
        argv,
        env=environment,
        stdin=stdin,
        timeout=limits.timeout,
        limit=limits.output,
        check=False,
    )
    if not completed.stdout.startswith(READY) or completed.status == -signal.SIGKILL:
        raise InfraError(
            f"a child process for {module} ended with status {completed.status}:\n"
            f"{process.tail(completed)}\nis this machine short of memory?"
        )
    return process.Completed(
        argv=completed.argv,
        status=completed.status,
        stdout=completed.stdout[len(READY) :],
        stderr=completed.stderr,
        took=completed.took,
    )
