# SPDX-License-Identifier: GPL-2.0-or-later
"""Parse sizes, times and factors; ValueError for anything else."""

from __future__ import annotations

import re

from kwatch.domain.lab.fairness import SMALLEST_SHARE

_SIZES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_DURATIONS = {"s": 1, "min": 60, "h": 3600, "d": 86400}
_QUANTITY = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)\s*([A-Za-z]+)")


def _quantity(value: object, units: dict[str, int], *, most: float) -> float:
    number: object = value
    unit = 1
    if isinstance(value, str):
        written = _QUANTITY.fullmatch(value.strip())
        if written is None or written[2] not in units:
            raise ValueError(f"units are {', '.join(units)}")
        number, unit = float(written[1]), units[written[2]]
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        raise ValueError  # noqa: TRY004 - pydantic takes ValueError only
    if not 0 < number <= most / unit:
        raise ValueError(f"it must be more than 0 and at most {most:.0f} {next(iter(units))}")
    return number * unit


def size(value: object) -> int:
    """Bytes."""
    return int(_quantity(value, _SIZES, most=1 << 60))


def duration(value: object) -> float:
    """Seconds."""
    return float(_quantity(value, _DURATIONS, most=366 * 86400))


def factor(value: object) -> float:
    """A number from 1 to 100."""
    return _number(value, least=1, most=100)


def share(value: object) -> float:
    """A part of the slots, SMALLEST_SHARE to 1."""
    return _number(value, least=SMALLEST_SHARE, most=1)


def _number(value: object, *, least: float, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise ValueError
    return float(value)
