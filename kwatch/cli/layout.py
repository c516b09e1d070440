# SPDX-License-Identifier: GPL-2.0-or-later
"""Tables and records as plain text. Every cell is one line without control characters."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tabulate import tabulate

from kwatch.domain.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LONGEST_CELL = 1000


def table(headings: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str = "") -> str:
    """Rows under headings; the sentence ``empty`` if there is no row. None is an empty cell."""
    cells = [[_cell(value) for value in row] for row in rows]
    if not cells:
        return empty
    text = tabulate(cells, headers=headings, tablefmt="plain", disable_numparse=True)
    return "\n".join(line.rstrip() for line in text.splitlines())


def record(fields: Iterable[tuple[str, object]]) -> str:
    """Names and values, one pair a line, without those whose value is None or empty."""
    cells = [(name, _cell(value)) for name, value in fields]
    width = max((len(name) for name, value in cells if value), default=0)
    return "\n".join(f"  {name:{width}}  {value}" for name, value in cells if value)


def section(title: str, body: str) -> str:
    """A body under its title, or nothing for an empty body."""
    return f"{title}\n{body}" if body else ""


def document(*parts: str) -> str:
    """Parts separated by blank lines, without the empty ones."""
    return "\n\n".join(part for part in parts if part)


def moment(at: float) -> str:
    """A time in UTC: ``2026-11-17 08:58:03Z``."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _cell(value: object) -> str:
    text = "" if value is None else " ".join(printable(str(value)).split())
    return text if len(text) <= LONGEST_CELL else f"{text[: LONGEST_CELL - 3]}..."
