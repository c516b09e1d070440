# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kwatch.adapters.host.cache import evict
from kwatch.adapters.host.frames import FrameParser, RefusedError
from kwatch.domain.run import Alive, Ended, Frame, Output, RunEnd, RunReason
from kwatch.errors import InfraError

EXIT = {
    "reason": "exited",
    "status": 3,
    "took": 1.5,
    "max_rss_kib": 7,
    "cpu_s": 0.5,
    "detail": "",
}
END = RunEnd(reason=RunReason.EXITED, status=3, took=1.5, max_rss_kib=7, cpu=0.5)


def encode(frame: Frame) -> bytes:
    match frame:
        case Output():
            header = {"file": frame.file, "offset": frame.offset, "size": len(frame.data)}
            return json.dumps(header).encode() + b"\n" + frame.data
        case Alive():
            return b'{"alive": true}\n'
        case Ended():
            return json.dumps({"exit": EXIT}).encode() + b"\n"


FRAMES = st.lists(
    st.one_of(
        st.just(Alive()),
        st.just(Ended(end=END)),
        st.builds(
            Output,
            file=st.sampled_from(["log", "console"]),
            offset=st.integers(0, 1 << 40),
            data=st.binary(max_size=60),
        ),
    ),
    max_size=10,
)


@given(frames=FRAMES, cuts=st.lists(st.integers(1, 30), min_size=1))
def test_frames_come_out_as_they_went_in_however_cut(frames: list[Frame], cuts: list[int]) -> None:
    data = b"".join(encode(frame) for frame in frames)
    parser, found, number = FrameParser(), [], 0
    while data:
        size = cuts[number % len(cuts)]
        found += parser.feed(data[:size])
        data, number = data[size:], number + 1
    assert found == frames


@given(st.binary(max_size=300))
def test_noise_is_an_infrastructure_error_at_most(noise: bytes) -> None:
    try:
        FrameParser().feed(noise + b"\n")
    except InfraError as error:
        assert "login shell" in str(error) or "refused" in str(error)  # noqa: PT017


def test_a_refusal_and_a_header_without_an_end() -> None:
    with pytest.raises(RefusedError, match="there is no run x"):
        FrameParser().feed(b'{"error": "Refused: there is no run x here"}\n')
    with pytest.raises(InfraError, match="never would"):
        FrameParser().feed(b"x" * 70_000)


def test_the_cache_loses_the_longest_unused_first_and_never_the_fresh() -> None:
    hour = 3600
    entries = [
        (9 * hour - 10, 60, "/c/fresh"),
        (2 * hour, 50, "/c/older"),
        (1 * hour, 40, "/c/oldest"),
        (3 * hour, 5, "/c/x.part"),
        (9 * hour - 10, 5, "/c/y.part"),
    ]
    now = 9.0 * hour
    assert evict(entries, budget=150, now=now) == ("/c/x.part",)
    assert evict(entries, budget=110, now=now) == ("/c/x.part", "/c/oldest")
    assert evict(entries, budget=10, now=now) == ("/c/x.part", "/c/oldest", "/c/older")
