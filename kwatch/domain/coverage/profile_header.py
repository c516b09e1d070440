# SPDX-License-Identifier: GPL-2.0-or-later
"""The header of LLVM's raw profile format, versions 9 and 10.

Source: LLVM's "Instrumentation Profile Format" and compiler-rt's InstrProfData.inc. The header
announces the size of everything behind it, so a profile that was cut short on its way out of a
guest is told from one that LLVM cannot read, before any tool sees it. llvm-profdata itself takes
an empty file for a valid profile, and says "corrupt" about everything else.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

# Version 10 has the longest header that is read: 16 words.
HEADER_BYTES = 128

# A kernel's profile is some 100 MB; a header that announces more than this is damage.
MAX_PROFILE_BYTES = 1 << 32

_WORDS = {9: 14, 10: 16}
_WRITERS = {8: "LLVM 14 to 17", 9: "LLVM 18", 10: "LLVM 19 to 22", 11: "LLVM 23"}
_MAGIC = b"\xfflprofr\x81"
_MAGIC_32 = b"\xfflprofR\x81"
_VARIANT_BYTE_COVERAGE = 1 << 60
_VERSION_MASK = (1 << 32) - 1

# A data record is six 64-bit words, two 32-bit counts and one 16-bit count a value kind, padded
# to 64 bits; a virtual table record (version 10) is two words and a 32-bit size, padded.
_RECORD_FIXED_BYTES = 6 * 8 + 2 * 4
_VTABLE_BYTES = 24
_MAX_VALUE_KIND = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Malformed:
    """Why the bytes are not a profile of this kernel; ``reason`` is a sentence for a person."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileHeader:
    """What a raw profile says about itself.

    ``header_bytes`` is its own length, ``functions`` the number of instrumented functions,
    ``counters`` and ``bitmap_bytes`` the room for their counts and MC/DC test vectors (0 when built
    without MC/DC), ``size`` the bytes of the whole profile, header included.
    """

    version: int
    header_bytes: int
    functions: int
    counters: int
    bitmap_bytes: int
    size: int


def parse_header(data: bytes) -> ProfileHeader | Malformed:
    """Read the header at the start of ``data``, of which the first 128 bytes matter."""
    order = _byte_order(data)
    if isinstance(order, Malformed):
        return order
    if len(data) < 16:
        return Malformed(reason=f"the profile ends after {len(data)} bytes, within its header")
    (stamped,) = struct.unpack_from(f"{order}Q", data, 8)
    version = stamped & _VERSION_MASK
    if version not in _WORDS:
        return Malformed(
            reason=f"raw profile format version {_named(version)} is not supported: "
            f"only {' and '.join(_named(known) for known in _WORDS)} are"
        )
    words = _WORDS[version]
    if len(data) < 8 * words:
        return Malformed(
            reason=f"the profile ends after {len(data)} bytes, within its header of {8 * words}"
        )
    fields = struct.unpack_from(f"{order}{words}Q", data)
    return _header(version, fields, byte_counters=bool(stamped & _VARIANT_BYTE_COVERAGE))


def check_profile(head: bytes, size: int) -> ProfileHeader | Malformed:
    """The header of a profile of ``size`` bytes that begins with ``head``, if the size fits.

    Too short means cut on its way; too long means that something else was written behind it.
    """
    header = parse_header(head)
    if isinstance(header, Malformed) or header.size == size:
        return header
    if size < header.size:
        return Malformed(
            reason=f"the profile is truncated: {size} of the {header.size} bytes it announces"
        )
    return Malformed(
        reason=f"{size - header.size} bytes follow the {header.size} that the profile announces"
    )


def _byte_order(data: bytes) -> str | Malformed:
    if not data:
        return Malformed(reason="the profile is empty")
    magic = data[:8]
    for order, stored in (("<", _MAGIC[::-1]), (">", _MAGIC)):
        if magic == stored:
            return order
    if magic in (_MAGIC_32, _MAGIC_32[::-1]):
        return Malformed(reason="a profile of a 32-bit program: only 64-bit kernels are supported")
    if len(data) < 8 and (_MAGIC.startswith(data) or _MAGIC[::-1].startswith(data)):
        return Malformed(reason=f"the profile ends after {len(data)} bytes, within its header")
    return Malformed(reason=f"not an LLVM raw profile: it begins with {magic.hex(' ')}")


def _header(
    version: int, fields: tuple[int, ...], *, byte_counters: bool
) -> ProfileHeader | Malformed:
    (_, _, binary_ids, functions, gap_before_counters, counters, gap_after_counters) = fields[:7]
    (bitmap_bytes, gap_after_bitmap, names) = fields[7:10]
    vtables, vtable_names = fields[13:15] if version >= 10 else (0, 0)
    last_value_kind = fields[-1]
    if last_value_kind > _MAX_VALUE_KIND:
        return Malformed(reason=f"the header is damaged: value kind {last_value_kind}")
    if not functions or not counters:
        return Malformed(
            reason="the profile holds no function: the kernel was built without coverage"
        )
    size = (
        8 * len(fields)
        + binary_ids
        + functions * _aligned(_RECORD_FIXED_BYTES + 2 * (last_value_kind + 1))
        + gap_before_counters
        + counters * (1 if byte_counters else 8)
        + gap_after_counters
        + bitmap_bytes
        + gap_after_bitmap
        + _aligned(names)
        + vtables * _VTABLE_BYTES
        + _aligned(vtable_names)
    )
    if size > MAX_PROFILE_BYTES:
        return Malformed(reason=f"the header is damaged: it announces {size} bytes")
    return ProfileHeader(
        version=version,
        header_bytes=8 * len(fields),
        functions=functions,
        counters=counters,
        bitmap_bytes=bitmap_bytes,
        size=size,
    )


def _named(version: int) -> str:
    writer = _WRITERS.get(version)
    return f"{version} ({writer})" if writer else str(version)


def _aligned(size: int) -> int:
    return (size + 7) & ~7
