# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kwatch.domain.lab.backoff import Backoff


def test_delays_double_up_to_the_longest() -> None:
    backoff = Backoff(first=0.5, longest=3.0)
    assert [backoff.delay(failures) for failures in range(6)] == [0.5, 0.5, 1.0, 2.0, 3.0, 3.0]
    assert Backoff(first=1, longest=90, factor=3).delay(4) == 27


@given(failures=st.integers(0, 10**9), chance=st.floats(0, 1, exclude_max=True))
def test_a_delay_is_bounded_and_spread(failures: int, chance: float) -> None:
    delay = Backoff(first=5, longest=1800, jitter=0.25).delay(failures, chance=chance)
    assert 3.75 <= delay <= 2250
