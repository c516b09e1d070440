# SPDX-License-Identifier: GPL-2.0-or-later
"""Headers of raw profiles, good, cut, foreign and hostile."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kwatch.domain.coverage.profile_header import (
    HEADER_BYTES,
    Malformed,
    ProfileHeader,
    check_profile,
    parse_header,
)

MAGIC = 0xFF6C70726F667281
WORDS_9 = (MAGIC, 9, 0, 2, 0, 5, 0, 3, 5, 10, 0, 0, 0, 1)
WORDS_10 = (MAGIC, 10, 0, 2, 0, 5, 0, 3, 5, 10, 0, 0, 0, 0, 0, 2)
# Records, counters, bitmap and its gap, names padded to words.
BODY = 2 * 64 + 5 * 8 + 8 + 16


def packed(words: tuple[int, ...], order: str = "<") -> bytes:
    return struct.pack(f"{order}{len(words)}Q", *words)


def reason(answer: ProfileHeader | Malformed) -> str:
    assert isinstance(answer, Malformed)
    return answer.reason


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("words", [WORDS_9, WORDS_10])
def test_both_versions_and_byte_orders_are_read(words: tuple[int, ...], order: str) -> None:
    size = 8 * len(words) + BODY
    expected = ProfileHeader(
        version=words[1], header_bytes=8 * len(words), functions=2, counters=5, bitmap_bytes=3,
        size=size,
    )  # fmt: skip
    assert check_profile(packed(words, order), size) == expected


def test_variant_bits_do_not_hide_the_version() -> None:
    byte_counters = (MAGIC, 10 | 1 << 60, *WORDS_10[2:])
    answer = parse_header(packed(byte_counters))
    assert isinstance(answer, ProfileHeader)
    assert answer.version == 10
    assert answer.size == 128 + BODY - 5 * 7


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "empty"),
        (b"\x81rf", "ends after 3 bytes"),
        (packed(WORDS_10)[:8], "ends after 8 bytes"),
        (packed(WORDS_10)[:120], "ends after 120 bytes, within its header of 128"),
        (b"\x7fELF\x02\x01\x01\x00" + bytes(200), "not an LLVM raw profile: it begins with 7f 45"),
        (packed((0xFF6C70726F665281, *WORDS_10[1:])), "32-bit"),
        (packed((MAGIC, 8, *WORDS_10[2:])), r"version 8 (LLVM 14 to 17) is not supported"),
        (packed((MAGIC, 11, *WORDS_10[2:])), r"version 11 (LLVM 23) is not supported"),
        (packed((MAGIC, 4000, *WORDS_10[2:])), "version 4000 is not supported"),
        (packed((*WORDS_10[:3], 0, *WORDS_10[4:])), "built without coverage"),
        (packed((*WORDS_10[:3], 1 << 63, *WORDS_10[4:])), "damaged"),
        (packed((*WORDS_10[:-1], 1 << 20)), "damaged"),
    ],
)
def test_each_damage_has_its_sentence(data: bytes, text: str) -> None:
    assert text in reason(parse_header(data))


def test_a_truncated_profile_says_how_much_is_there() -> None:
    answer = check_profile(packed(WORDS_10), 200)
    assert reason(answer) == f"the profile is truncated: 200 of the {128 + BODY} bytes it announces"


def test_bytes_behind_the_profile_are_told() -> None:
    assert "7 bytes follow" in reason(check_profile(packed(WORDS_10), 128 + BODY + 7))


@given(st.binary(max_size=200), st.integers(0, 1 << 70))
def test_hostile_bytes_never_raise(data: bytes, size: int) -> None:
    assert isinstance(check_profile(data, size), ProfileHeader | Malformed)


@given(
    st.sampled_from([9, 10, 11]),
    st.lists(st.integers(0, (1 << 64) - 1), min_size=14, max_size=14),
    st.sampled_from("<>"),
)
def test_hostile_fields_never_raise(version: int, fields: list[int], order: str) -> None:
    data = packed((MAGIC, version, *fields), order)
    answer = parse_header(data)
    if isinstance(answer, ProfileHeader):
        assert HEADER_BYTES - 16 < answer.size <= 1 << 32


@given(st.integers(0, 127))
def test_every_cut_within_the_header_is_an_ending(length: int) -> None:
    text = reason(parse_header(packed(WORDS_10)[:length]))
    assert "ends after" in text or text == "the profile is empty"
