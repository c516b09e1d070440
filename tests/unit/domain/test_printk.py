# SPDX-License-Identifier: GPL-2.0-or-later
"""The ring of the kernel's log, made here as kernel/printk makes it."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kwatch.domain.deadguest.printk import HEADER_BYTES, Region, Ring, find_ring, messages

COUNT_BITS, SIZE_BITS = 3, 8
FINALIZED, REUSABLE = 2, 3


def header(*, has_sequence: bool = True) -> bytes:
    ring = struct.pack("<I4xQQQQ", COUNT_BITS, 0xA000, 0xB000, 20, 13)
    ring += struct.pack("<Q", 19) if has_sequence else b""
    ring += struct.pack("<I4xQQQQ", SIZE_BITS, 0xC000, 0, 0, 0)
    return ring.ljust(HEADER_BYTES, b"\0")


class Written:
    """A ring that messages are written into, the newest over the oldest."""

    def __init__(self) -> None:
        self.descriptions = bytearray(24 << COUNT_BITS)
        self.infos = bytearray(88 << COUNT_BITS)
        self.text = bytearray(1 << SIZE_BITS)
        self.position = 0

    def write(self, identity: int, said: bytes, state: int = FINALIZED) -> None:
        size = 1 << SIZE_BITS
        begin = self.position
        end = begin + (8 + len(said) + 7) // 8 * 8
        start = begin
        if begin // size != (end - 1) // size:
            # It does not fit: the block at the end stays empty but for its id.
            end = (begin // size + 1) * size + (8 + len(said) + 7) // 8 * 8
            start = (begin // size + 1) * size
        at = start % size
        self.text[at : at + 8 + len(said)] = struct.pack("<Q", identity) + said
        place = identity % (1 << COUNT_BITS)
        struct.pack_into("<QQQ", self.descriptions, place * 24, state << 62 | identity, begin, end)
        struct.pack_into("<QQHBBI", self.infos, place * 88, identity, identity * 10**9 + 5000,
                         len(said), 0, 0, 0)  # fmt: skip
        self.position = end

    def read(self, first: int, last: int) -> tuple[str, ...]:
        ring = find_ring(header())
        assert ring is not None
        ring = Ring(descriptions=ring.descriptions, infos=ring.infos, text=ring.text, first=first,
                    last=last)  # fmt: skip
        return messages(ring, bytes(self.descriptions), bytes(self.infos), bytes(self.text))


@pytest.mark.parametrize("has_sequence", [True, False])
def test_the_header_of_old_and_new_kernels_is_read(has_sequence: bool) -> None:
    assert find_ring(header(has_sequence=has_sequence)) == Ring(
        descriptions=Region(address=0xA000, size=24 * 8),
        infos=Region(address=0xB000, size=88 * 8),
        text=Region(address=0xC000, size=256),
        first=13,
        last=20,
    )


def test_messages_come_with_their_times_and_in_order() -> None:
    ring = Written()
    ring.write(13, b"Linux version 6.12\nCommand line: quiet")
    ring.write(14, b"never finished", state=0)
    ring.write(15, b"dying now")
    assert ring.read(13, 15) == (
        "[   13.000005] Linux version 6.12",
        "[   13.000005] Command line: quiet",
        "[   15.000005] dying now",
    )


def test_what_was_written_over_is_gone_and_a_wrapped_text_is_whole() -> None:
    ring = Written()
    for identity in range(40):
        ring.write(identity, b"message %d of many that there are" % identity)
    said = ring.read(32, 39)
    assert said[-1] == "[   39.000005] message 39 of many that there are"
    assert len(said) == 8
    assert all("of many" in line for line in said[-5:])


@given(st.binary(max_size=HEADER_BYTES + 8))
def test_any_header_is_read_or_refused(data: bytes) -> None:
    ring = find_ring(data)
    assert ring is None or ring.text.size <= 1 << 22


@given(st.binary(max_size=600), st.binary(max_size=800), st.binary(max_size=300),
       st.integers(0, (1 << 62) - 1), st.integers(0, (1 << 62) - 1))  # fmt: skip
def test_any_memory_is_read(
    descriptions: bytes, infos: bytes, text: bytes, first: int, last: int
) -> None:
    ring = Ring(descriptions=Region(address=1, size=1), infos=Region(address=1, size=1),
                text=Region(address=1, size=1), first=first, last=last)  # fmt: skip
    for line in messages(ring, descriptions, infos, text):
        assert line.startswith("[")
