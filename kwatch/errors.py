# SPDX-License-Identifier: GPL-2.0-or-later
"""What can go wrong with the lab itself.

A broken kernel, patch, mail or log is data and never an exception. An exception says that the
infrastructure failed, carries the evidence, and ends in a sentence on what to do.
"""

from __future__ import annotations

import contextlib
import errno
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta


class KwatchError(Exception):
    """Base of all: the text is for the operator, complete in itself."""


class ConfigError(KwatchError):
    """The operator must change something before it can work: exit status 2, nothing touched."""


class InfraError(KwatchError):
    """The lab failed, not a kernel: the job is tried again with back-off, then given up as INFRA.

    ``host`` is the host to blame, if one is; ``retry_after`` overrides the queue's back-off.
    """

    def __init__(
        self, message: str, *, host: str | None = None, retry_after: timedelta | None = None
    ) -> None:
        super().__init__(message)
        self.host = host
        self.retry_after = retry_after


class DiskFullError(InfraError):
    """No room left: the queue stays as it is and goes on when there is room."""


def is_disk_full(evidence: BaseException | str | bytes) -> bool:
    """Whether an exception or the output of a program reports a full disk or quota."""
    if isinstance(evidence, OSError) and evidence.errno is not None:
        return evidence.errno in {errno.ENOSPC, errno.EDQUOT}
    text = evidence.decode("utf-8", "replace") if isinstance(evidence, bytes) else str(evidence)
    return any(words in text for words in _DISK_FULL)


# strerror(3) of ENOSPC and EDQUOT, and sqlite3_errstr() of SQLITE_FULL.
_DISK_FULL = ("No space left on device", "Disk quota exceeded", "database or disk is full")


class LeaseLostError(KwatchError):
    """Another attempt owns the job now; whatever this one found is discarded."""


@contextlib.contextmanager
def ungrouped() -> Iterator[None]:
    """Let the first failure of a task group inside be raised as itself.

    A group that also holds something that is no KwatchError is a defect, and stays as it is.
    (Python before 3.11.4 wraps whatever leaves an ``except*`` block in another group.)
    """
    try:
        yield
    except BaseExceptionGroup as group:
        expected, others = group.split(KwatchError)
        if expected is None or others is not None:
            raise
        first: BaseException = expected
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from None
