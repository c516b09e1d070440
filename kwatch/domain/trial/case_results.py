# SPDX-License-Identifier: GPL-2.0-or-later
"""The test cases of a boot: which gave a result, which failed, and what is reported of that."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kwatch.domain.finding import Finding, FindingKind, Severity, fingerprint
from kwatch.domain.log.ktap import CaseStatus, CaseUse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kwatch.domain.log.ktap import Case

MOST_OF_A_SUITE = 3
"""Cases of one suite that may fail before the suite is reported instead of each of them."""
MOST_REPORTED = 20
SHOWN = 20
LONGEST_NAME = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseResults:
    """Names of cases, suites among them. ``ran`` passed or failed; what was skipped did neither."""

    ran: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()


def results_of(cases: Sequence[Case]) -> CaseResults:
    """The results of a console. A case that ran twice has failed if it failed once."""
    failed = {_name(case) for case in cases if case.status is CaseStatus.FAIL}
    passed = {_name(case) for case in cases if case.status is CaseStatus.PASS}
    return CaseResults(ran=tuple(sorted(failed | passed)), failed=tuple(sorted(failed)))


def failures(cases: Sequence[Case], use: CaseUse) -> tuple[Finding, ...]:
    """A finding for each case that failed, without the suites around it, in their order.

    Of a suite in which more than MOST_OF_A_SUITE fail there is one.
    """
    failed = list({case.path: case for case in cases if case.status is CaseStatus.FAIL}.values())
    around = {case.path[:depth] for case in failed for depth in range(1, len(case.path))}
    inner: dict[tuple[str, ...], list[Case]] = defaultdict(list)
    for case in failed:
        if case.path not in around:
            inner[case.path[:-1]].append(case)
    suites = {case.path: case for case in failed}
    found = []
    for path, members in inner.items():
        if len(members) > MOST_OF_A_SUITE and path in suites:
            found.append(_finding(suites[path], members, use))
        else:
            found += [_finding(case, [case], use) for case in members]
    return tuple(found[:MOST_REPORTED])


def case_fingerprint(name: str) -> str:
    """The fingerprint of the failure of a case."""
    return fingerprint(FindingKind.TEST, _title(name))


def _finding(case: Case, failed: Sequence[Case], use: CaseUse) -> Finding:
    lines = [f"not ok {one.name} {one.reason}".rstrip() for one in failed[:SHOWN]]
    return Finding(
        kind=FindingKind.TEST,
        title=_title(_name(case)),
        severity=Severity.ERROR if use is CaseUse.JUDGE else Severity.WARNING,
        first_line=case.first_line,
        last_line=case.last_line,
        excerpt=tuple(lines),
    )


def _title(name: str) -> str:
    return f"{name} fails"


def _name(case: Case) -> str:
    return case.name[:LONGEST_NAME]
