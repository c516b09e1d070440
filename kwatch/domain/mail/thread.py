# SPDX-License-Identifier: GPL-2.0-or-later
"""Threads of mail: what each is about, and what it reports."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from kwatch.domain.mail.story import ReportKind
from kwatch.domain.mail.tables import BRIEF
from kwatch.domain.verdict.regression import RegressionEvent

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


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


# The events of a regression that get a mail. The others are for its timeline only.
_REPORTS: Mapping[RegressionEvent, ReportKind] = {
    RegressionEvent.CONFIRMED: ReportKind.NEW,
    RegressionEvent.BISECTED: ReportKind.BISECTED,
    RegressionEvent.INCONCLUSIVE: ReportKind.INCONCLUSIVE,
    RegressionEvent.SPREAD: ReportKind.SPREAD,
    RegressionEvent.GONE: ReportKind.GONE,
    RegressionEvent.FIXED: ReportKind.FIXED,
    RegressionEvent.REAPPEARED: ReportKind.REAPPEARED,
    RegressionEvent.RETRACTED: ReportKind.RETRACTED,
}


def reports_of(
    events: Iterable[tuple[RegressionEvent, Mapping[str, Any]]], *, is_begun: bool
) -> tuple[ReportKind | None, ...]:
    """What is mailed about each of these events; None where one is not worth a mail.

    Each event comes with its detail, which says ``news``: False where another variant of the same
    tree had the same. ``is_begun``: the thread has a mail already. Without one there is nothing to
    withdraw or to call fixed.
    """
    pending = list(events)
    is_withdrawn = any(event is RegressionEvent.RETRACTED for event, _ in pending)
    found: list[ReportKind | None] = []
    for event, detail in pending:
        report = _REPORTS.get(event) if detail.get("news", True) else None
        if not is_begun and (is_withdrawn or report in BRIEF):
            report = None
        is_begun |= report is not None
        found.append(report)
    return tuple(found)
