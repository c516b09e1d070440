# SPDX-License-Identifier: GPL-2.0-or-later
"""Problems of the configuration file: all at once, one line each."""

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
_PASSWORD = re.compile(r"(://[^/@\s:]*:)[^/\s]*@")
_ENTRY = re.compile(r"([a-z]+\[\d+\])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One problem. ``key`` is its place, with entries counted from 0 (``tree[1].url``).

    ``entry`` is the name of the entry, ``hint`` the remedy if it does not follow from ``expected``.
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
    """All problems of a configuration file; the text has one line for each."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


class ProblemList:
    """Collects the problems of one file; ``names`` maps entries (``tree[1]``) to their names."""

    def __init__(self, file: Path) -> None:
        self._file = str(file)
        self.names: dict[str, str] = {}
        self.problems: list[Problem] = []

    def add(self, key: str, *, expected: str, found: str, hint: str = "") -> None:
        """Add a problem."""
        at = _ENTRY.match(key)
        name = self.names.get(at[1]) if at else None
        entry = f"{key.partition('[')[0]} {shown(name)}" if name else ""
        self.problems.append(
            Problem(
                file=self._file, key=key, expected=expected, found=found, entry=entry, hint=hint
            )
        )


def shown(value: object) -> str:
    """A value in TOML syntax on one line, shortened, without the password of a URL."""
    match value:
        case None:
            return "nothing"
        case dict():
            return "a table"
        case str() | bool() | list() | tuple():
            text = _PASSWORD.sub(r"\1***@", json.dumps(value, default=str))
        case _:
            text = str(value)
    return text if len(text) <= _MAX_FOUND else f"{text[:_MAX_FOUND]}..."


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """A hint: the most similar known word, or all known words.

    Unprintable words are left out; they are problems of their own.
    """
    known = [name for name in known if name.isprintable()]
    near = difflib.get_close_matches(word, known, n=1)
    if near:
        return f"did you mean {near[0]}?"
    return f"known: {', '.join(known)}" if known else "there are none"
