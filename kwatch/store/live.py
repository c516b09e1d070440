# SPDX-License-Identifier: GPL-2.0-or-later
"""Consoles of boots that are under way: files that grow while a guest talks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kwatch.domain.run import CONSOLE

if TYPE_CHECKING:
    from pathlib import Path


def folder(scratch: Path, key: str) -> Path:
    """Where all that a boot says is kept until it is over."""
    return scratch / f"live-{key}"


def console(scratch: Path, key: str) -> Path:
    """The console of a running boot; the file does not exist for others."""
    return folder(scratch, key) / CONSOLE


def tail(scratch: Path, key: str, limit: int) -> bytes | None:
    """The last ``limit`` bytes that a guest said, or None where none runs."""
    try:
        with console(scratch, key).open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - limit))
            return file.read(limit)
    except FileNotFoundError:
        return None
