# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernel configurations: what is asked for, what is made of it, what of it did not survive.

The syntax is that of a .config as scripts/kconfig/confdata.c reads it, but for white space around
a line, which Kconfig minds and ``merge`` takes away. A symbol that is absent and one that "is not
set" mean the same to Kconfig: n, or no value.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

NO = "n"

_ASSIGNMENT = re.compile(r"CONFIG_([A-Za-z0-9_]+)=(.*)")
_UNSET = re.compile(r"# CONFIG_([A-Za-z0-9_]+) is not set")
_VALUE = re.compile(r'[ymn]|-?[0-9]+|(?:0[xX])?[0-9a-fA-F]+|"(?:[^"\\]|\\.)*"')
_TARGET = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*config")

SOURCES = re.compile(
    rb"(?:^|/)Kconfig[^/]*$|^scripts/|\.sh$|^Makefile$|^arch/[^/]+/Makefile"
    rb"|/configs/|\.config$"
)
"""The paths of a kernel tree that decide what becomes of a request: Kconfig's language, the
programs and scripts that it runs, the makefiles that run it, and what the config targets read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BadLine:
    """A line that Kconfig would drop, or read otherwise than it looks. ``line`` counts from 1."""

    file: str
    line: int
    text: str
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.reason}: {self.text}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kconfig:
    """Values as written (``y``, ``m``, ``n``, ``"text"``, ``123``, ``0x1f``) by symbol.

    Symbols have no ``CONFIG_`` and stand in the order of their last assignment, for among the
    members of a choice Kconfig obeys the last one that is set to y.
    """

    values: Mapping[str, str]
    errors: tuple[BadLine, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fragment:
    """A piece of a configuration; ``name`` is for messages."""

    name: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """What was asked of Kconfig and what it became; ``n`` also stands for absent."""

    symbol: str
    asked: str
    got: str

    def __str__(self) -> str:
        return f"CONFIG_{self.symbol}: asked for {self.asked}, got {self.got}"


@dataclass(frozen=True, slots=True, kw_only=True)
class KconfigRecipe:
    """How to make a .config: a base, then fragments over it, then ``make olddefconfig``.

    ``base`` is a target of the kernel's Makefile ("tinyconfig", "x86_64_defconfig") or a whole
    configuration.
    """

    base: str | Fragment
    fragments: tuple[Fragment, ...]

    def __post_init__(self) -> None:
        if isinstance(self.base, str) and not _TARGET.fullmatch(self.base):
            raise ValueError(
                f"{self.base!r} is no configuration target: name one such as 'defconfig', "
                "or give a file"
            )

    @property
    def digest(self) -> str:
        """SHA-256 of what the recipe asks for; names of fragments and comments do not count."""
        base = self.base
        parts = ["target", base] if isinstance(base, str) else ["text", config_digest(base.text)]
        parts.extend(config_digest(fragment.text) for fragment in self.fragments)
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    @property
    def asked(self) -> Mapping[str, str]:
        """What the fragments ask for, to be held against what survived."""
        texts = (parse(fragment.text, fragment.name) for fragment in self.fragments)
        return MappingProxyType(_overlaid(text.values for text in texts))

    @property
    def errors(self) -> tuple[BadLine, ...]:
        """Every bad line of the base text and the fragments, in order."""
        base = () if isinstance(self.base, str) else (self.base,)
        texts = (parse(fragment.text, fragment.name) for fragment in (*base, *self.fragments))
        return tuple(error for text in texts for error in text.errors)


def parse(text: str, file: str) -> Kconfig:
    """Read a .config or fragment; ``file`` names it in the errors."""
    values: dict[str, str] = {}
    errors: list[BadLine] = []
    for number, line in _lines(text):
        found = _assignment(line)
        if isinstance(found, str):
            errors.append(BadLine(file=file, line=number, text=line[:100], reason=found))
        else:
            symbol, value = found
            values.pop(symbol, None)
            values[symbol] = value
    return Kconfig(values=MappingProxyType(values), errors=tuple(errors))


def merge(base_text: str, fragments: Sequence[Fragment]) -> str:
    """One text in which later assignments win: the same input gives the same text.

    Bad lines are left out: ask ``KconfigRecipe.errors`` first.
    """
    layers = [parse(base_text, "base").values]
    layers += [parse(fragment.text, fragment.name).values for fragment in fragments]
    return "".join(_line(symbol, value) for symbol, value in _overlaid(layers).items())


def dropped(asked: Mapping[str, str], survived: Mapping[str, str]) -> list[Dropped]:
    """What was asked of Kconfig and is not in the .config that olddefconfig made, in order."""
    return [
        Dropped(symbol=symbol, asked=value, got=survived.get(symbol, NO))
        for symbol, value in asked.items()
        if _meaning(value) != _meaning(survived.get(symbol, NO))
    ]


def config_digest(text: str) -> str:
    """SHA-256 of a configuration without its comments, which name the kernel and the compiler.

    Lines that say "is not set" count, and so does the order, which Kconfig keeps fixed.
    """
    digest = hashlib.sha256()
    for _, line in _lines(text):
        digest.update(line.encode("utf-8", "surrogatepass") + b"\n")
    return digest.hexdigest()


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines that say something, stripped, with their numbers."""
    for number, line in enumerate(text.split("\n"), 1):
        stripped = line.strip()
        if stripped and (not stripped.startswith("#") or _UNSET.fullmatch(stripped)):
            yield number, stripped


def _assignment(line: str) -> tuple[str, str] | str:
    """The symbol and its value, or why there is none."""
    if unset := _UNSET.fullmatch(line):
        return unset[1], NO
    assignment = _ASSIGNMENT.fullmatch(line)
    if assignment is None:
        return "neither CONFIG_NAME=value nor '# CONFIG_NAME is not set'"
    symbol, value = assignment.groups()
    if not _VALUE.fullmatch(value):
        return "the value is neither y, m or n, nor a number or a quoted string"
    return symbol, value


def _overlaid(layers: Iterable[Mapping[str, str]]) -> dict[str, str]:
    values: dict[str, str] = {}
    for layer in layers:
        for symbol, value in layer.items():
            values.pop(symbol, None)
            values[symbol] = value
    return values


def _line(symbol: str, value: str) -> str:
    if value == NO:
        return f"# CONFIG_{symbol} is not set\n"
    return f"CONFIG_{symbol}={value}\n"


def _meaning(value: str) -> str | int:
    """Kconfig keeps a number as it was typed: 0x0F and 0xf are the same."""
    return int(value, 16) if value[:2] in ("0x", "0X") else value
