# SPDX-License-Identifier: GPL-2.0-or-later
"""One daemon for one state directory."""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING

from kwatch.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def hold(directory: Path) -> Iterator[None]:
    """Own the state in ``directory``; ConfigError, naming the holder, if another process does.

    The kernel lets go when the holder dies, however it dies.
    """
    path = directory / "lock"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise ConfigError(
            f"the state directory {directory} cannot be used ({error.strerror}): correct"
            " lab.state_directory or its permissions"
        ) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(handle, 64, 0).decode("ascii", "replace").strip()
            raise ConfigError(
                f"the state directory {directory} is in use by process {holder or '(unknown)'}:"
                " stop it, or use another state directory"
            ) from None
        try:
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            raise ConfigError(
                f"the state directory {directory} cannot be written ({error.strerror}): make room"
                " there, or use another state directory"
            ) from error
        yield
    finally:
        os.close(handle)
