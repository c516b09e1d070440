# SPDX-License-Identifier: GPL-2.0-or-later
"""Find the lines that may matter in a log of any size, in one pass over chunks.

The words of a grammar are looked for all at once; lines without any are counted and passed by.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ahocorasick_rs import BytesAhoCorasick

from kwatch.domain.finding import Finding
from kwatch.domain.log.ktap import Case
from kwatch.domain.log.line import clean
from kwatch.domain.log.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from collections.abc import Set as AbstractSet

READER_VERSION = 4
"""Goes up with each change to an answer: what an older one read is read again."""

MAX_PENDING = 1 << 16
"""Bytes of a line that has not ended. A longer one is cut, which no line of a kernel is."""

BLOCK = 1 << 20
"""Bytes that are searched at once."""

TAIL = 1 << 14
"""Bytes of the end that are kept."""

LAST_LINES = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a log says, in its order. ``left_out`` is how many findings were too many to keep.

    ``last_lines`` are the last that say something, as they may stand in a mail. ``cases`` are the
    results of tests that a console tells of, and ``progress`` how far the machine got; a build log
    has neither.
    """

    findings: tuple[Finding, ...]
    left_out: int
    last_lines: tuple[str, ...]
    cases: tuple[Case, ...] = ()
    progress: Progress | None = None


class Words:
    """The words of a grammar, ready to be looked for; a word is known by its place in ``words``."""

    def __init__(self, words: Iterable[str]) -> None:
        self.words = tuple(dict.fromkeys(words))
        self._search = BytesAhoCorasick([word.encode() for word in self.words])

    def found(self, block: bytes) -> list[tuple[int, int, int]]:
        """Each word, where it begins and where it ends, in the order of the ends."""
        return self._search.find_matches_as_indexes(block, overlapping=True)


class Reader(Protocol):
    """What a scanner reads for: the console's reader and the build log's."""

    def take(self, raw: bytes, number: int, words: Sequence[int]) -> None:
        """One line without its end, and the words in it."""

    @property
    def unwanted(self) -> AbstractSet[int]:
        """The words because of which no line is wanted now."""

    def wants_all(self) -> bool:
        """Whether the next line is wanted even without a word."""


class Scanner:
    """Cuts bytes into lines, and gives those to a reader that it wants."""

    def __init__(self, words: Words) -> None:
        self._words = words
        self._pending = b""
        self.lines = 0
        self._tail = b""

    def feed(self, data: bytes, reader: Reader) -> None:
        """Take the next bytes; how they are cut into pieces makes no difference."""
        for start in range(0, len(data), BLOCK):
            self._feed(data[start : start + BLOCK], reader)
        self._tail = (self._tail + data[-TAIL:])[-TAIL:]

    def last_lines(self) -> tuple[str, ...]:
        """The last that say something, as they may stand in a mail."""
        text = self._tail.decode("utf-8", "replace").replace("\r", "\n")
        return tuple(line for raw in text.split("\n") if (line := clean(raw)))[-LAST_LINES:]

    def finish(self, reader: Reader) -> None:
        """The last line may have no end."""
        if self._pending:
            self._scan(self._pending + b"\n", reader)
            self._pending = b""

    def _feed(self, data: bytes, reader: Reader) -> None:
        end = data.rfind(b"\n") + 1
        if end:
            self._scan(self._pending + data[:end], reader)
            self._pending = b""
        self._pending = (self._pending + data[end:])[:MAX_PENDING]

    def _scan(self, block: bytes, reader: Reader) -> None:
        """Whole lines."""
        hits = self._words.found(block)
        count = len(hits)
        following = 0
        position = 0
        while position < len(block):
            if not reader.wants_all():
                unwanted = reader.unwanted
                while following < count and hits[following][0] in unwanted:
                    following += 1
                if following == count:
                    self.lines += block.count(b"\n", position)
                    return
                start = block.rfind(b"\n", position, hits[following][1]) + 1 or position
                self.lines += block.count(b"\n", position, start)
                position = start
            end = block.index(b"\n", position)
            words = []
            while following < count and hits[following][1] < end:
                words.append(hits[following][0])
                following += 1
            reader.take(block[position : min(end, position + MAX_PENDING)], self.lines, words)
            self.lines += 1
            position = end + 1
