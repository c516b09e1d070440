# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a kernel stopped, told from counters."""

from __future__ import annotations

import hashlib
import itertools
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kwatch.domain.deadguest.progress import find, once_only

if TYPE_CHECKING:
    from collections.abc import Mapping

CALLS = {
    "start_kernel": ["_printk", "setup_arch", "mm_init", "main.c:rest_init"],
    "setup_arch": ["e820.c:early", "_printk", "e820.c:late"],
    "mm_init": ["page.c:init", "slab.c:init"],
    "main.c:kernel_init": ["main.c:do_initcalls", "main.c:free_init"],
    "main.c:do_initcalls": ["one.c:init", "two.c:init", "plain.c:init", "three.c:init"],
    # Nothing counts in it, and what it calls runs once.
    "plain.c:init": ["helper"],
}
# In the order in which a good boot enters them.
ORDER = (
    "start_kernel", "setup_arch", "e820.c:early", "e820.c:late", "mm_init", "page.c:init",
    "slab.c:init", "main.c:rest_init", "main.c:kernel_init", "main.c:do_initcalls", "one.c:init",
    "two.c:init", "helper", "three.c:init", "main.c:free_init",
)  # fmt: skip


def hashed(name: str) -> int:
    return int.from_bytes(hashlib.md5(name.encode(), usedforsecurity=False).digest()[:8], "little")


def entries(counts: Mapping[str, int]) -> dict[int, int]:
    return {hashed(name): count for name, count in counts.items()}


GOOD = entries({**dict.fromkeys(ORDER, 1), "_printk": 2})


def until(function: str) -> dict[int, int]:
    """A boot that ended in this function."""
    done = ORDER.index(function) + 1
    return entries(
        {**dict.fromkeys(ORDER, 0), **dict.fromkeys(ORDER[:done], 1), "_printk": min(done, 2)}
    )


@pytest.mark.parametrize(
    ("function", "path", "caller", "missing"),
    [
        ("e820.c:early", ("start_kernel", "setup_arch", "e820.c:early"), "setup_arch",
         "e820.c:late"),
        ("e820.c:late", ("start_kernel", "setup_arch", "e820.c:late"), "start_kernel", "mm_init"),
        ("mm_init", ("start_kernel", "mm_init"), "mm_init", "page.c:init"),
        ("two.c:init", ("main.c:kernel_init", "main.c:do_initcalls", "two.c:init"),
         "main.c:do_initcalls", "three.c:init"),
        ("helper", ("main.c:kernel_init", "main.c:do_initcalls", "plain.c:init", "helper"),
         "main.c:do_initcalls", "three.c:init"),
        ("three.c:init", ("main.c:kernel_init", "main.c:do_initcalls", "three.c:init"),
         "main.c:kernel_init", "main.c:free_init"),
    ],
)  # fmt: skip
def test_the_last_and_the_next_are_found(
    function: str, path: tuple[str, ...], caller: str, missing: str
) -> None:
    found = find(CALLS, GOOD, until(function))
    assert found is not None
    assert (found.entered, found.caller, found.missing) == (path, caller, missing)


def test_it_is_told_in_a_sentence() -> None:
    assert str(find(CALLS, GOOD, until("two.c:init"))) == (
        "Boot progress from the coverage counters: last function reached init(), next expected"
        " init() (in do_initcalls()), 12 of 15."
    )


def test_what_ran_by_another_way_is_no_proof() -> None:
    # helper was entered early in this boot, by something else.
    now = {**until("one.c:init"), hashed("helper"): 1}
    found = find(CALLS, GOOD, now)
    assert found is not None
    assert found.entered[-1] == "one.c:init"
    assert found.missing == "two.c:init"


def test_a_boot_that_lacks_nothing_tells_nothing() -> None:
    assert find(CALLS, GOOD, GOOD) is None
    assert find({}, GOOD, until("mm_init")) is None
    assert find(CALLS, {}, until("mm_init")) is None
    assert find(CALLS, GOOD, {}) is None


def test_what_runs_often_is_not_looked_at() -> None:
    assert hashed("_printk") not in once_only(GOOD)
    assert len(once_only(GOOD)) == len(ORDER)


NAMES = st.sampled_from(["start_kernel", "main.c:kernel_init", "a", "b", "c.c:d", "e"])
COUNTS = st.dictionaries(NAMES, st.integers(0, 2)).map(entries)


@given(st.dictionaries(NAMES, st.lists(NAMES)), COUNTS, COUNTS)
def test_whatever_the_image_says_it_ends(
    calls: dict[str, list[str]], before: dict[int, int], now: dict[int, int]
) -> None:
    found = find(calls, before, now)
    if found is not None:
        assert found.missing in calls[found.caller]
        assert found.caller in found.entered
        assert before[hashed(found.missing)] == 1
        assert now[hashed(found.missing)] == 0


def test_a_chain_of_any_length_ends() -> None:
    names = ["start_kernel", *(f"f{number}" for number in range(5000))]
    calls = {one: [other] for one, other in itertools.pairwise(names)}
    assert find(calls, {}, {}) is None
    assert find(calls, entries({names[-1]: 1}), entries({names[-1]: 1})) is None
