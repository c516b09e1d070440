# SPDX-License-Identifier: GPL-2.0-or-later
"""Zstandard's seekable format: the end of a compressed file can be read without the rest.

Independent frames of FRAME bytes, each with a checksum, then a seek table in a skippable frame;
see zstd_seekable_compression_format.md in the contrib directory of Zstandard. ``zstd -d`` and any
other reader of Zstandard files decompress such a file as a whole.
"""

from __future__ import annotations

import struct
from typing import IO, TYPE_CHECKING

import zstandard

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

FRAME = 1 << 20
"""Bytes of content in each frame but the last."""

LEVEL = 3
_HEADER = struct.Struct("<II")  # magic number of a skippable frame, bytes that follow
_ENTRY = struct.Struct("<II")  # compressed and decompressed size of a frame
_FOOTER = struct.Struct("<IBI")  # number of frames, descriptor, magic number
_SKIPPABLE = 0x184D2A5E
_SEEKABLE = 0x8F92EAB1


def write(chunks: Iterable[bytes], out: IO[bytes]) -> None:
    """Compress ``chunks`` into ``out``."""
    compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True)
    table = []
    for piece in _pieces(chunks):
        frame = compressor.compress(piece)
        out.write(frame)
        table.append(_ENTRY.pack(len(frame), len(piece)))
    footer = _FOOTER.pack(len(table), 0, _SEEKABLE)
    out.write(_HEADER.pack(_SKIPPABLE, _ENTRY.size * len(table) + len(footer)))
    out.write(b"".join(table) + footer)


def read(source: IO[bytes]) -> Iterator[bytes]:
    """The whole content in pieces, of a file with or without a seek table. ZstdError if damaged."""
    decompressor = zstandard.ZstdDecompressor()
    with decompressor.stream_reader(source, read_across_frames=True, closefd=False) as stream:
        while piece := stream.read(FRAME):
            yield piece


def read_tail(source: IO[bytes], limit: int) -> bytes | None:
    """The last ``limit`` bytes of the content, or None for a file without a (valid) seek table.

    Decompresses the frames that hold these bytes only. ZstdError if one of them is damaged.
    """
    table = _table(source)
    if table is None:
        return None
    first, found, start = len(table), 0, sum(compressed for compressed, _ in table)
    while first and found < limit:
        first -= 1
        start -= table[first][0]
        found += table[first][1]
    source.seek(start)
    decompressor = zstandard.ZstdDecompressor()
    frames = (_frame(source, decompressor, *entry) for entry in table[first:])
    return b"".join(frames)[-limit:]


def _pieces(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces of FRAME bytes."""
    rest = bytearray()
    for chunk in chunks:
        for start in range(0, len(chunk), FRAME):
            rest += chunk[start : start + FRAME]
            if len(rest) >= FRAME:
                yield bytes(rest[:FRAME])
                del rest[:FRAME]
    if rest:
        yield bytes(rest)


def _frame(
    source: IO[bytes], decompressor: zstandard.ZstdDecompressor, compressed: int, size: int
) -> bytes:
    data = source.read(compressed)
    # The size in the frame is what the decompressor allocates.
    if zstandard.frame_content_size(data) != size:
        raise zstandard.ZstdError("the seek table does not fit the frames")
    return decompressor.decompress(data)


def _table(source: IO[bytes]) -> list[tuple[int, int]] | None:
    """Compressed and decompressed size of each frame; None unless the table fits the file."""
    end = source.seek(0, 2)
    if end < _HEADER.size + _FOOTER.size:
        return None
    source.seek(end - _FOOTER.size)
    count, descriptor, magic = _FOOTER.unpack(source.read(_FOOTER.size))
    length = _ENTRY.size * count + _FOOTER.size
    start = end - length - _HEADER.size
    if (descriptor, magic) != (0, _SEEKABLE) or start < 0:
        return None
    source.seek(start)
    if _HEADER.unpack(source.read(_HEADER.size)) != (_SKIPPABLE, length):
        return None
    table = list(_ENTRY.iter_unpack(source.read(_ENTRY.size * count)))
    is_whole = sum(compressed for compressed, _ in table) == start
    return table if is_whole and all(size <= FRAME for _, size in table) else None
