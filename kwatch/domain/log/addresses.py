# SPDX-License-Identifier: GPL-2.0-or-later
"""Consoles of kernels without KALLSYMS, whose traces are bare addresses.

With the names from the image put in, they read as any other's.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_ADDRESSES = 2000

# An instruction pointer, or a line of a trace.
_BARE = re.compile(
    rb"(?P<before>(?:RIP: [0-9a-f]{4}:|pc : |lr : |\] (?: |\?){1,6}|^ {1,3}(?:\? )?))"
    rb"0x(?P<address>ffff[0-9a-f]{12})(?=\s*$)",
    re.MULTILINE,
)


def bare_addresses(console: bytes) -> tuple[int, ...]:
    """The addresses that stand where names should, each once, in their order."""
    found = (int(match["address"], 16) for match in _BARE.finditer(console))
    return tuple(dict.fromkeys(found))[:MAX_ADDRESSES]


def with_names(console: bytes, names: Mapping[int, str]) -> bytes:
    """The console with a name (``f+0x12``) for each address that has one."""

    def name(match: re.Match[bytes]) -> bytes:
        known = names.get(int(match["address"], 16))
        return match["before"] + known.encode() if known else match[0]

    return _BARE.sub(name, console)
