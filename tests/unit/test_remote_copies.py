# SPDX-License-Identifier: GPL-2.0-or-later
"""kwatch/remote has the standard library alone, so some rules stand there a second time."""

from __future__ import annotations

import pytest

from kwatch.domain import run
from kwatch.domain.deadguest import exception_frame, profile_counters
from kwatch.remote import callgraph, linkaudit, supervisor


@pytest.mark.parametrize("name", ["start_kernel", "main.c:kernel_init", "a:b:c", ""])
def test_the_hashes_of_a_functions_name(name: str) -> None:
    there = callgraph._Function(name=name, address=0, size=0, is_init=False)
    assert callgraph._hashes(there) == set(profile_counters._hashes(name))


def test_the_id_of_a_run() -> None:
    assert supervisor.RUN_ID == run.RUN_ID


def test_the_instructions_that_count() -> None:
    assert set(linkaudit._INSTRUCTIONS.values()) == exception_frame._COUNTING
