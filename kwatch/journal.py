# SPDX-License-Identifier: GPL-2.0-or-later
"""Log lines for the journal: priorities that journald reads, and the context on every line."""

from __future__ import annotations

import contextlib
import contextvars
import logging
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_CONTEXT: contextvars.ContextVar[tuple[tuple[str, str], ...]] = contextvars.ContextVar(
    "journal", default=()
)

# sd-daemon(3): a line of standard error that starts with <N> has that syslog priority.
_PRIORITIES = {
    logging.DEBUG: 7,
    logging.INFO: 6,
    logging.WARNING: 4,
    logging.ERROR: 3,
    logging.CRITICAL: 2,
}


@contextlib.contextmanager
def context(**values: str) -> Iterator[None]:
    """Put ``values`` (job, tree, host) on every line that is logged inside."""
    token = _CONTEXT.set((*_CONTEXT.get(), *values.items()))
    try:
        yield
    finally:
        _CONTEXT.reset(token)


class _Formatter(logging.Formatter):
    def __init__(self, *, is_journal: bool) -> None:
        super().__init__(
            "%(context)s%(message)s" if is_journal else "%(asctime)s %(context)s%(message)s",
            datefmt="%H:%M:%S",
        )
        self._is_journal = is_journal

    def format(self, record: logging.LogRecord) -> str:
        record.context = "".join(f"{key}={value} " for key, value in _CONTEXT.get())
        text = super().format(record)
        if not self._is_journal:
            return text
        # Every line needs its own priority, or a traceback is cut into lines of no importance.
        priority = _PRIORITIES.get(record.levelno, 6)
        return "\n".join(f"<{priority}>{line}" for line in text.splitlines() or [""])


def _is_journal() -> bool:
    """Whether standard error is the journal's: systemd.exec(5), $JOURNAL_STREAM.

    A shell that runs below a service has the variable too, and a terminal for standard error.
    """
    with contextlib.suppress(OSError, ValueError):
        state = os.fstat(sys.stderr.fileno())
        return os.environ.get("JOURNAL_STREAM") == f"{state.st_dev}:{state.st_ino}"
    return False


def start(level: int = logging.INFO) -> None:
    """Send all log lines to standard error, in the journal's form where that is the journal."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(is_journal=_is_journal()))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("asyncssh").setLevel(logging.WARNING)
    logging.getLogger("apscheduler").setLevel(logging.WARNING)
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
