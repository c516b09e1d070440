# SPDX-License-Identifier: GPL-2.0-or-later
"""Counters of functions, out of profiles and out of memory."""

from __future__ import annotations

import hashlib
import struct

from hypothesis import given
from hypothesis import strategies as st

from kwatch.domain.deadguest.profile_counters import MANY, Counters, entered, entries, of_profile


def hashed(name: str) -> int:
    return int.from_bytes(hashlib.md5(name.encode(), usedforsecurity=False).digest()[:8], "little")


def record(name: str, where: int) -> bytes:
    """As struct __llvm_profile_data begins: name, structure, place of the counters."""
    return struct.pack("<QQq40x", hashed(name), 0, where)


def test_the_first_counter_of_each_function_counts() -> None:
    # The counters begin 1000 bytes behind the records; places count from each record on.
    found = entries(
        Counters(
            records=record("one", 1000) + record("a.c:two", 1000 - 64 + 16)
            + record("three", 1000 - 128 + 24),
            counters=struct.pack("<4Q", 1, 9, 0, 77),
            distance=1000,
        )
    )  # fmt: skip
    assert entered(found, "one") == 1
    assert entered(found, "a.c:two") == 0
    assert entered(found, "three") == MANY
    assert entered(found, "four") is None


def test_both_ways_to_write_a_static_function_are_known() -> None:
    found = {hashed("a.c;two"): 1}
    assert entered(found, "a.c:two") == 1


def test_what_leads_out_of_the_counters_is_left_out() -> None:
    for where in (-8, 1, 9, 1 << 40, -(1 << 40)):
        found = entries(Counters(records=record("one", where), counters=bytes(8), distance=0))
        assert (entered(found, "one") is None) == (not 0 <= where <= 0)


@given(st.binary(max_size=300), st.binary(max_size=100), st.integers(-100, 100))
def test_damaged_memory_is_read_without_harm(
    records: bytes, counters: bytes, distance: int
) -> None:
    found = entries(Counters(records=records, counters=counters, distance=distance))
    assert set(found.values()) <= {0, 1, MANY}


@given(st.binary(max_size=400))
def test_what_is_no_profile_has_no_counters(data: bytes) -> None:
    assert of_profile(data) is None
