# SPDX-License-Identifier: GPL-2.0-or-later
"""Real logs, mutated: whatever comes, there is an answer, and the same one for any chunking."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kwatch.cli.read_log import reader_of
from kwatch.domain.log.console import MAX_FINDINGS

if TYPE_CHECKING:
    from kwatch.domain.log.scan import Reading

CORPUS = Path(__file__).parents[1] / "corpus"
LINES = 120
"""Of a log that are taken at once: hypothesis needs many tries more than long ones."""

PREFIXES = (
    b"", b"<4>", b"[   12.345678] ", b"[   12.345678][  T123] ", b"[    1.0][    C0] ",
    b"Nov  9 08:30:00 lab kernel: ", b"\x1b[0;31m", b"\r", b"\xff\xfe", b"\0\0",
)  # fmt: skip


def _logs() -> list[tuple[str, list[bytes]]]:
    logs = []
    for path in sorted(CORPUS.glob("*.txt")):
        header, _, log = path.read_bytes().partition(b"\n---\n")
        kind = header.decode().partition("\n")[0].removeprefix("kind: ")
        logs.append((kind, log.splitlines(keepends=True)))
    return logs


LOGS = _logs()


@st.composite
def mutated(draw: st.DrawFn) -> tuple[str, bytes]:
    """The kind of a log of the corpus, and a piece of it that something happened to."""
    kind, lines = draw(st.sampled_from(LOGS))
    start = draw(st.integers(0, max(0, len(lines) - LINES)))
    piece = list(lines[start : start + LINES])
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, len(piece) - 1)) if piece else 0
        line = piece[at] if piece else b""
        match draw(st.integers(0, 7)):
            case 0:
                del piece[at : at + draw(st.integers(1, 20))]
            case 1:
                piece.insert(at, draw(st.binary(max_size=60)))
            case 2:
                piece[at : at + 1] = [line] * draw(st.integers(2, 40))
            case 3:
                prefix = draw(st.sampled_from(PREFIXES))
                piece = [prefix + one for one in piece]
            case 4:
                piece[at : at + 1] = [line[: draw(st.integers(0, len(line)))]]
            case 5:
                other, text = draw(st.sampled_from(LOGS))
                piece[at:at] = text[: draw(st.integers(0, 40))]
                kind = draw(st.sampled_from((kind, other)))
            case 6:
                piece[at : at + 1] = [line.rstrip(b"\r\n") * draw(st.integers(1, 200)) + b"\n"]
            case _:
                piece = [one.replace(b"\n", b"\r\n") for one in piece]
    return kind, b"".join(piece)


def read(kind: str, pieces: list[bytes]) -> Reading:
    reader = reader_of(kind)
    for piece in pieces:
        reader.feed(piece)
    return reader.finish()


@given(mutated(), st.lists(st.integers(0, 20_000), max_size=12))
@settings(deadline=None, max_examples=300)
def test_a_mutated_log_has_one_answer(log: tuple[str, bytes], cuts: list[int]) -> None:
    kind, text = log
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[start:end] for start, end in itertools.pairwise(places)]
    whole = read(kind, [text])
    assert read(kind, pieces) == whole
    assert len(whole.findings) <= MAX_FINDINGS + 1
    for finding in whole.findings:
        assert finding.title.strip()
        assert "\n" not in finding.title
        assert "\x1b" not in finding.title


@pytest.mark.parametrize("kind", ["console", "build"])
@pytest.mark.parametrize("filler", [b"x", b"\0", b"[", b"\r", b"BUG: ", b"error: ", b"\xff"])
def test_a_line_of_a_hundred_megabytes_is_cut(kind: str, filler: bytes) -> None:
    reader = reader_of(kind)
    block = filler * ((1 << 20) // len(filler))
    for _ in range(100):
        reader.feed(block)
    reader.feed(b"\n[    1.0] kernel BUG at fs/a.c:1!\nfs/a.c:1:1: error: no\n")
    titles = [one.title for one in reader.finish().findings]
    assert any("kernel BUG" in title or "error: no" in title for title in titles)
