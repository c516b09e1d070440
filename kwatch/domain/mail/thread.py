# SPDX-License-Identifier: GPL-2.0-or-later
"""Threads of mail: what each is about."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ThreadKind(StrEnum):
    """What the mails of a thread are about."""

    REGRESSION = "regression"


@dataclass(frozen=True, slots=True, kw_only=True)
class Thread:
    """All mails about one thing. ``owner`` is its number or name among those of its kind."""

    kind: ThreadKind
    owner: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.owner}"


def of_regression(number: int) -> Thread:
    """The thread about a regression."""
    return Thread(kind=ThreadKind.REGRESSION, owner=str(number))
