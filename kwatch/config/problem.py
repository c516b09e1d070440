# SPDX-License-Identifier: GPL-2.0-or-later
"""Mistakes in the configuration file, all of them at once, each on a line of its own."""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kwatch.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

_MAX_FOUND = 80
_ENTRY = re.compile(r"([a-z]+\[\d+\])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One mistake. ``key`` is where it stands, entries counted from 0 (``tree[1].url``).

    ``entry`` names the entry for those who do not count, ``hint`` is what to do about it where that
    does not follow from ``expected``.
    """

    file: str
    key: str
    expected: str
    found: str
    entry: str = ""
    hint: str = ""

    def __str__(self) -> str:
        where = f"{self.file}: {self.key}" if self.key else self.file
        entry = f" (in {self.entry})" if self.entry else ""
        hint = f"; {self.hint}" if self.hint else ""
        return f"{where}: expected {self.expected}, found {self.found}{entry}{hint}"


class ConfigProblems(ConfigError):  # noqa: N818 - they are many
    """Everything that is wrong with a configuration file; its text is a line for each."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


class ProblemList:
    """Collects the mistakes of one file; ``names`` are those of its entries (``tree[1]``)."""

    def __init__(self, file: Path) -> None:
        self._file = str(file)
        self.names: dict[str, str] = {}
        self.problems: list[Problem] = []

    def add(self, key: str, *, expected: str, found: str, hint: str = "") -> None:
        """Note a mistake."""
        at = _ENTRY.match(key)
        name = self.names.get(at[1]) if at else None
        entry = f"{key.partition('[')[0]} {shown(name)}" if name else ""
        self.problems.append(
            Problem(
                file=self._file, key=key, expected=expected, found=found, entry=entry, hint=hint
            )
        )


def shown(value: object) -> str:
    """A value as TOML writes it, on one line and not too long."""
    match value:
        case None:
            return "nothing"
        case dict():
            return "a table"
        case str() | bool() | list() | tuple():
            text = json.dumps(value, default=str)
        case _:
            text = str(value)
    return text if len(text) <= _MAX_FOUND else f"{text[:_MAX_FOUND]}..."


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """A hint to the nearest known word, or to all of them where none is near.

    What cannot be shown as it is was told to be wrong already.
    """
    known = [name for name in known if name.isprintable()]
    near = difflib.get_close_matches(word, known, n=1)
    if near:
        return f"did you mean {near[0]}?"
    return f"there are {', '.join(known)}" if known else "there are none"
