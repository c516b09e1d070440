# SPDX-License-Identifier: GPL-2.0-or-later
"""What a log, or a guest that died without one, tells about a problem."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from enum import StrEnum


class FindingKind(StrEnum):
    """The family of a problem, in the words kernel people use."""

    APPLY = "apply"
    KCONFIG = "kconfig"
    COMPILE = "compile"
    LINK = "link"
    SILENT_HANG = "silent hang"
    HANG = "hang"
    PANIC = "panic"
    OOPS = "oops"
    RESET = "reset"
    OUTPUT_FLOOD = "output flood"
    TEST = "test"
    COVERAGE = "coverage"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One problem.

    ``title`` is one line as a maintainer would write it in a subject. ``excerpt`` holds the lines
    that show it, at most 40. ``file`` and ``function`` are known or None.
    """

    kind: FindingKind
    title: str
    function: str | None = None
    file: str | None = None
    excerpt: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """The identity of the problem over tags, hosts and addresses: 16 hex digits."""
        return fingerprint(self.kind, self.title)


_ADDRESS = re.compile(r"\b(?:0x)?[0-9a-f]{8,16}\b")
_OFFSET = re.compile(r"\+0x[0-9a-f]+(?:/0x[0-9a-f]+)?")
_NUMBER = re.compile(r"\d+")


def fingerprint(kind: FindingKind, title: str) -> str:
    """Hash of what stays the same when addresses, offsets, lines and counts change."""
    stable = _NUMBER.sub("N", _ADDRESS.sub("ADDRESS", _OFFSET.sub("", title)))
    return hashlib.sha256(f"{kind.value}\0{stable}".encode()).hexdigest()[:16]
