# SPDX-License-Identifier: GPL-2.0-or-later
"""The reader of the guest's channel: what a session means, and what hostile bytes cannot do."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kwatch.domain.boot import channel
from kwatch.domain.boot.channel import (
    CHUNK_SIZE,
    LINE_LIMIT,
    Begin,
    BlobChunk,
    BlobDone,
    BlobRefused,
    BlobStarted,
    ChannelEvent,
    ChannelReader,
    Channels,
    Done,
    End,
    Garbage,
    GuestError,
    Hello,
    Integrity,
    Ready,
)

PROFILE = bytes(range(256)) * 300


def blob(data: bytes, *, size: int | None = None, sha256: str | None = None) -> bytes:
    digest = sha256 or hashlib.sha256(data).hexdigest()
    declared = len(data) if size is None else size
    return b"kwatch blob profraw %d %s\n" % (declared, digest.encode()) + data + b"\n"


SESSION = (
    b"kwatch hello 1\nkwatch ready\nkwatch begin 0\nkwatch end 0 0\nkwatch begin 1\n"
    b"kwatch end 1 143\nkwatch tested\n" + blob(PROFILE) + b"kwatch done\n"
)


def read(data: bytes, *, max_blob: int = 1 << 20) -> list[ChannelEvent]:
    reader = ChannelReader(max_blob=max_blob)
    return reader.feed(data) + reader.finish()


def test_the_line_with_the_first_hello_is_the_channel() -> None:
    lines = Channels(("virtio", "serial"))
    # The firmware and a kernel that looks for its devices may say anything.
    assert lines.feed("serial", b"\xff\x00noise\n") == []
    assert lines.feed("virtio", b"noise\nkwatch hello 1\nkwatch re") == [Hello(version=1)]
    assert lines.feed("serial", SESSION) == []
    assert lines.feed("virtio", b"ady\n") == [Ready()]


@given(size=st.integers(1, 3000), other=st.binary(max_size=40))
def test_two_lines_never_mix(size: int, other: bytes) -> None:
    lines = Channels(("a", "b"))
    events: list[ChannelEvent] = []
    for at in range(0, len(SESSION), size):
        lines.feed("a", other.replace(b"hello", b""))
        events += lines.feed("b", SESSION[at : at + size])
    assert events == read(SESSION)


def test_a_whole_session() -> None:
    assert read(SESSION) == [
        Hello(version=1),
        Ready(),
        Begin(index=0),
        End(index=0, status=0),
        Begin(index=1),
        End(index=1, status=143),
        channel.Tested(),
        BlobStarted(name="profraw", size=len(PROFILE), sha256=hashlib.sha256(PROFILE).hexdigest()),
        BlobChunk(data=PROFILE[:CHUNK_SIZE]),
        BlobChunk(data=PROFILE[CHUNK_SIZE:]),
        BlobDone(name="profraw", integrity=Integrity.INTACT),
        Done(),
    ]


def test_an_error_is_text_that_a_mail_may_carry() -> None:
    assert read(b"kwatch error no \x1b[31mprofile \xff\xe4\n") == [
        GuestError(text="no \N{REPLACEMENT CHARACTER}[31mprofile \N{REPLACEMENT CHARACTER}"
                   "\N{REPLACEMENT CHARACTER}")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("sent", "integrity"),
    [
        (blob(b"abc", sha256="0" * 64), Integrity.DAMAGED),
        (blob(b"abc", size=40), Integrity.CUT),
        (blob(b""), Integrity.INTACT),
    ],
)
def test_how_a_blob_came_over(sent: bytes, integrity: Integrity) -> None:
    assert read(sent)[-1] == BlobDone(name="profraw", integrity=integrity)


def test_a_blob_may_hold_lines_of_the_protocol() -> None:
    events = read(blob(b"\nkwatch done\nkwatch tested\n") + b"kwatch done\n")
    assert [type(event) for event in events] == [BlobStarted, BlobChunk, BlobDone, Done]


def test_a_blob_above_the_limit_is_refused_and_skipped() -> None:
    events = read(blob(b"x" * 5000) + b"kwatch done\n", max_blob=4999)
    assert events == [BlobRefused(name="profraw", size=5000), Done()]


def test_a_blob_without_its_newline_does_not_swallow_the_next_line() -> None:
    events = read(blob(b"abc").removesuffix(b"\n") + b"kwatch done\n")
    assert events[-1] == Done()


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"hello",
        b"kwatch",
        b"kwatch hello",
        b"kwatch hello one",
        b"kwatch hello 1 2",
        b"kwatch begin -1",
        b"kwatch begin 9999999",
        b"kwatch end 0 1000",
        b"kwatch ready now",
        b"kwatch blob profraw 12 short",
        b"kwatch blob ../../profraw 12 " + b"0" * 64,
        b"kwatch blob profraw " + b"9" * 19 + b" " + b"0" * 64,
        b"kwatch error " + b"x" * LINE_LIMIT,
        b"x" * 200000,
    ],
)
def test_what_the_protocol_does_not_know_is_counted(line: bytes) -> None:
    assert read(line + b"\nkwatch done\n") == [Garbage(count=len(line) + 1), Done()]


def test_the_longest_line() -> None:
    text = "x" * (LINE_LIMIT - len("kwatch error \n"))
    assert read(f"kwatch error {text}\n".encode()) == [GuestError(text=text)]


def test_half_a_line_at_the_end_is_counted() -> None:
    assert read(b"kwatch don") == [Garbage(count=10)]


def test_a_channel_that_was_not_made_raw_can_be_read() -> None:
    assert read(b"kwatch hello 1\r\nkwatch done\r\n") == [Hello(version=1), Done()]


PIECE = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(
        [
            SESSION,
            SESSION[:90],
            blob(PROFILE),
            blob(b"abc"),
            blob(b"abc", size=2),
            blob(b"x" * 70000),
            b"kwatch done\n",
            b"kwatch blob profraw 10 ",
            b"x" * LINE_LIMIT,
            b"y" * 70000,
            b"\n",
        ]
    ),
)


@given(pieces=st.lists(PIECE, max_size=6), sizes=st.lists(st.integers(1, 70000), min_size=1))
@example(pieces=[b"x" * LINE_LIMIT, b"\n"], sizes=[1])
@example(pieces=[SESSION], sizes=[1])
def test_the_same_events_however_the_bytes_are_cut(pieces: list[bytes], sizes: list[int]) -> None:
    data = b"".join(pieces)
    reader = ChannelReader(max_blob=70000)
    events: list[ChannelEvent] = []
    position = turn = 0
    while position < len(data):
        size = sizes[turn % len(sizes)]
        events += reader.feed(data[position : position + size])
        assert len(reader._buffer) <= max(CHUNK_SIZE, LINE_LIMIT)
        position += size
        turn += 1
    assert events + reader.finish() == read(data, max_blob=70000)


@given(data=st.binary(max_size=4000))
def test_no_byte_is_lost_in_noise(data: bytes) -> None:
    noise = data.replace(b"kwatch", b"")
    counts = [event.count for event in read(noise) if isinstance(event, Garbage)]
    assert sum(counts) == len(noise)
