# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import pytest

from kwatch.domain.finding import FindingKind, Severity
from kwatch.domain.log.console import read_console
from kwatch.domain.log.ktap import Case, CaseStatus, CaseUse
from kwatch.domain.trial.case_results import (
    LONGEST_NAME,
    MOST_OF_A_SUITE,
    MOST_REPORTED,
    CaseResults,
    case_fingerprint,
    failures,
    results_of,
)

KTAP = b"""\
KTAP version 1
1..2
    KTAP version 1
    # Subtest: list
    1..3
    ok 1 add
    not ok 2 remove
    ok 3 move # SKIP no memory
not ok 1 list
    KTAP version 1
    # Subtest: time
    1..1
    ok 1 months
ok 2 time
"""


def cases(*failed: str, passed: tuple[str, ...] = ()) -> list[Case]:
    names = [*((name, CaseStatus.FAIL) for name in failed),
             *((name, CaseStatus.PASS) for name in passed)]  # fmt: skip
    return [
        Case(
            path=tuple(name.split(".")), status=status, reason="", first_line=at, last_line=at
        )
        for at, (name, status) in enumerate(names)
    ]  # fmt: skip


def reported(found: list[Case]) -> list[str]:
    return [one.title for one in failures(found, CaseUse.RECORD)]


def test_the_results_of_a_console() -> None:
    console = read_console(KTAP)
    assert results_of(console.cases) == CaseResults(
        ran=("list", "list.add", "list.remove", "time", "time.months"),
        failed=("list", "list.remove"),
    )
    (finding,) = failures(console.cases, CaseUse.RECORD)
    assert (finding.title, finding.severity) == ("list.remove fails", Severity.WARNING)
    assert finding.fingerprint == case_fingerprint("list.remove")
    (finding,) = failures(console.cases, CaseUse.JUDGE)
    assert (finding.kind, finding.severity) == (FindingKind.TEST, Severity.ERROR)


def test_a_case_that_ran_twice_has_failed_if_it_failed_once() -> None:
    found = results_of(cases("a.b", passed=("a.b", "a")))
    assert found == CaseResults(ran=("a", "a.b"), failed=("a.b",))


def test_a_suite_is_reported_where_many_of_its_cases_fail() -> None:
    names = [f"ext4.case{number}" for number in range(MOST_OF_A_SUITE + 1)]
    assert reported(cases(*names[1:], "ext4")) == [f"{name} fails" for name in names[1:]]
    assert reported(cases(*names, "ext4", "list.add", "list")) == [
        "ext4 fails",
        "list.add fails",
    ]
    (suite,) = failures(cases(*names, "ext4"), CaseUse.RECORD)
    assert suite.excerpt == tuple(f"not ok {name}" for name in names)
    # A suite without a result of its own has no name in the next boot.
    assert len(reported(cases(*names))) == len(names)


def test_a_suite_that_fails_by_itself_is_reported() -> None:
    assert reported(cases("ext4", passed=("ext4.a",))) == ["ext4 fails"]


def test_no_more_are_reported_than_anybody_reads() -> None:
    names = [f"suite{number}.case" for number in range(3 * MOST_REPORTED)]
    assert len(reported(cases(*names))) == MOST_REPORTED
    assert len(results_of(cases(*names)).failed) == len(names)


def test_a_long_name_is_cut() -> None:
    (name,) = results_of(cases("x" * 5000)).ran
    assert name == "x" * LONGEST_NAME


@pytest.mark.parametrize(
    ("one", "other"), [("crypto.sha1", "crypto.sha512"), ("a.case_1", "a.case_2")]
)
def test_numbers_are_part_of_a_name(one: str, other: str) -> None:
    assert case_fingerprint(one) != case_fingerprint(other)
