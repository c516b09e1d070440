# SPDX-License-Identifier: GPL-2.0-or-later
"""How often each function was entered, from the counters of Clang's instrumentation.

A guest that died has them in its memory, and one that was done handed them out in a profile. The
records are those of raw profile versions 9 and 10 (LLVM 18 to 22: InstrProfData.inc).
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kwatch.domain.coverage.profile_header import HEADER_BYTES, Malformed, parse_header

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# The hash of a name, and where its first counter is, from the record's own address on.
_RECORD = struct.Struct("<Q8xq40x")
_COUNTER = struct.Struct("<Q")
MANY = 2
"""Entered more than once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """The sections __llvm_prf_data (``records``) and __llvm_prf_cnts (``counters``).

    ``distance`` is from the begin of the first to that of the second, in bytes.
    """

    records: bytes
    counters: bytes
    distance: int


def of_profile(profile: bytes) -> Counters | None:
    """Those of a raw profile that is whole; None where it is not one of such a machine's."""
    header = parse_header(profile[:HEADER_BYTES])
    if isinstance(header, Malformed) or header.size != len(profile) or profile[0] != 0x81:
        return None
    fields = struct.unpack_from("<11Q", profile)
    start = header.header_bytes + fields[2]
    end = start + header.functions * _RECORD.size
    counters = end + fields[4]
    return Counters(
        records=profile[start:end],
        counters=profile[counters : counters + _COUNTER.size * header.counters],
        distance=fields[10],
    )


def entries(found: Counters) -> Mapping[int, int]:
    """By the hash of a function's name: 0, 1, or MANY. What is damaged is left out."""
    whole = len(found.records) // _RECORD.size * _RECORD.size
    counted: dict[int, int] = {}
    for number, (hashed, where) in enumerate(_RECORD.iter_unpack(found.records[:whole])):
        place = number * _RECORD.size + where - found.distance
        if 0 <= place <= len(found.counters) - _COUNTER.size:
            (count,) = _COUNTER.unpack_from(found.counters, place)
            counted[hashed] = min(MANY, counted.get(hashed, 0) + count)
    return counted


def entered(counted: Mapping[int, int], function: str) -> int | None:
    """How often ``function`` was entered, or None where it does not count.

    The name is the profile's: that of a static function has its file in front, ``main.c:init``.
    """
    return next((counted[one] for one in _hashes(function) if one in counted), None)


def _hashes(function: str) -> Iterator[int]:
    """LLVM has written both of these between file and function; so has remote/callgraph.py."""
    for name in dict.fromkeys((function, function.replace(":", ";", 1))):
        digest = hashlib.md5(name.encode(), usedforsecurity=False).digest()
        yield int.from_bytes(digest[:8], "little")
