# SPDX-License-Identifier: GPL-2.0-or-later
"""Files named by a configuration: find and read them; secrets only if they are used."""

from __future__ import annotations

import os
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from kwatch.config.fields import CREDENTIAL
from kwatch.config.problem import shown

if TYPE_CHECKING:
    from kwatch.config.problem import ProblemList

MAX_TEXT = 4 << 20
"""Bytes of a kernel configuration; a full one has about 200,000."""


class Secrets(Enum):
    """Whether this process logs in to hosts or the mail server."""

    USED = "read"
    UNUSED = "not read"


class Files:
    """Finds and reads files; relative paths start at ``folder``."""

    def __init__(self, folder: Path, problems: ProblemList, secrets: Secrets) -> None:
        self._folder = folder.absolute()
        self._problems = problems
        self._secrets = secrets

    def path(self, written: str) -> Path:
        """The absolute path."""
        return self._folder / written

    def readable(self, key: str, written: str) -> Path:
        """The path of a file that can be read and is not empty."""
        path = self.path(written)
        try:
            with path.open("rb") as stream:
                if not stream.read(1):
                    self._unreadable(key, path, "it is empty")
        except (OSError, ValueError) as error:
            self._unreadable(key, path, _reason(error))
        return path

    def secret(self, key: str, written: str) -> Path | None:
        """Like readable(), for a file or a systemd credential; None without credentials."""
        path = self._secret_path(key, written)
        if path is None or self._secrets is Secrets.USED:
            return self.readable(key, str(path)) if path else None
        try:
            path.stat()
        except (FileNotFoundError, NotADirectoryError) as error:
            self._unreadable(key, path, _reason(error))
        except (OSError, ValueError):
            pass
        return path

    def password(self, key: str, written: str) -> str:
        """The first line of a secret file; empty if secrets are unused."""
        path = self.secret(key, written)
        if path is None or self._secrets is Secrets.UNUSED:
            return ""
        return self.text(key, str(path)).partition("\n")[0].strip()

    def agent(self, key: str, written: str | None) -> Path | None:
        """The socket of an SSH agent: as configured, or $SSH_AUTH_SOCK."""
        found = written or os.environ.get("SSH_AUTH_SOCK")
        if found:
            return self.path(found)
        if self._secrets is Secrets.USED:
            self._problems.add(
                key,
                expected="key_file or agent to log in with",
                found="neither, and no $SSH_AUTH_SOCK",
                hint='such as key_file = "credential:ssh-key", or agent = "/run/agent/socket"',
            )
        return None

    def _secret_path(self, key: str, written: str) -> Path | None:
        if not written.startswith(CREDENTIAL):
            return self.path(written)
        name = written.removeprefix(CREDENTIAL)
        directory = os.environ.get("CREDENTIALS_DIRECTORY")
        if directory:
            return Path(directory) / name
        if self._secrets is Secrets.USED:
            self._problems.add(
                key,
                expected=f"the credential {name} from systemd",
                found="no $CREDENTIALS_DIRECTORY",
                hint=f"start kwatch by its unit with LoadCredential={name}:FILE, or name a file",
            )
        return None

    def text(self, key: str, written: str) -> str:
        """The content of a text file."""
        path = self.path(written)
        try:
            with path.open("rb") as stream:
                data = stream.read(MAX_TEXT + 1)
            if len(data) > MAX_TEXT:
                self._unreadable(key, path, f"it has more than {MAX_TEXT} bytes")
                return ""
            return data.decode()
        except (OSError, ValueError) as error:
            self._unreadable(key, path, _reason(error))
            return ""

    def _unreadable(self, key: str, path: Path, reason: str) -> None:
        self._problems.add(
            key, expected="a file that can be read", found=f"{shown(str(path))}: {reason}"
        )


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
