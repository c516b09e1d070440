# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's log as it lies in a guest's memory: what never reached a console is still there.

Layout: kernel/printk/printk_ringbuffer.h of Linux 5.10 and later, x86-64 and other 64-bit little
endian. A dead guest's memory is hostile: sizes are bounded, and what does not fit is left out.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

POINTER = "prb"
"""The symbol of a pointer to the ring."""

HEADER_BYTES = 88
MAX_COUNT_BITS = 16
MAX_SIZE_BITS = 22
MAX_MESSAGES = 4000

_DESCRIPTION = struct.Struct("<QQQ")
_INFO = struct.Struct("<QQHBBI64x")
_STATE = 62
_COMMITTED = (1, 2)
"""Committed, and finalized."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A piece of the guest's memory: virtual address and bytes."""

    address: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ring:
    """Where the parts of the ring are, and which of its records count."""

    descriptions: Region
    infos: Region
    text: Region
    first: int
    last: int


def find_ring(header: bytes) -> Ring | None:
    """What the ring's header says, or None where it says nothing that could be true.

    Since 6.9 there is one more word before the ring of texts.
    """
    if len(header) < HEADER_BYTES:
        return None
    count_bits, descriptions, infos, head, tail = struct.unpack_from("<I4xQQQQ", header)
    for offset in (48, 40):
        size_bits, text = struct.unpack_from("<I4xQ", header, offset)
        if not (4 <= size_bits <= MAX_SIZE_BITS and text):
            continue
        if not (2 <= count_bits <= MAX_COUNT_BITS and descriptions and infos):
            return None
        count = 1 << count_bits
        return Ring(
            descriptions=Region(address=descriptions, size=_DESCRIPTION.size * count),
            infos=Region(address=infos, size=_INFO.size * count),
            text=Region(address=text, size=1 << size_bits),
            first=tail & _ids(_STATE),
            last=head & _ids(_STATE),
        )
    return None


def messages(ring: Ring, descriptions: bytes, infos: bytes, text: bytes) -> tuple[str, ...]:
    """The newest messages, oldest first, with their times as printk shows them."""
    count = min(len(descriptions) // _DESCRIPTION.size, len(infos) // _INFO.size)
    if count == 0:
        return ()
    found = []
    length = min((ring.last - ring.first) % (1 << _STATE) + 1, count, MAX_MESSAGES)
    for number in range(ring.last - length + 1, ring.last + 1):
        identity = number & _ids(_STATE)
        state, begin, end = _DESCRIPTION.unpack_from(
            descriptions, identity % count * _DESCRIPTION.size
        )
        if state >> _STATE not in _COMMITTED or state & _ids(_STATE) != identity:
            continue
        _, nanoseconds, size, _, _, _ = _INFO.unpack_from(infos, identity % count * _INFO.size)
        said = _text(text, begin, end)[:size].decode("utf-8", "replace")
        stamp = f"[{nanoseconds // 10**9:5}.{nanoseconds // 1000 % 10**6:06}] "
        found += [stamp + line for line in said.splitlines() if line.strip()]
    return tuple(found)


def _ids(bits: int) -> int:
    return (1 << bits) - 1


def _text(ring: bytes, begin: int, end: int) -> bytes:
    """One text. A block begins with its id; what does not fit at the end is at the start."""
    size = len(ring)
    if size == 0 or begin & 1:
        return b""
    if begin // size == (end - 1) // size:
        return ring[begin % size + 8 : (end - 1) % size + 1]
    return ring[8 : end % size]
