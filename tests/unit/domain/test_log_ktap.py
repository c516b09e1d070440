# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kwatch.domain.finding import FindingKind, Severity
from kwatch.domain.log.console import ConsoleReader
from kwatch.domain.log.ktap import MAX_CASES, Case, CaseStatus, KtapReader

NESTED = """\
KTAP version 1
1..2
    KTAP version 1
    # Subtest: list
    # module: list_test
    1..3
    ok 1 list_add
random: crng init done
    # list_del: EXPECTATION FAILED at lib/list-test.c:7
    not ok 2 list_del
    ok 3 list_swap # SKIP no room: too small
# list: pass:1 fail:1 skip:1 total:3
not ok 1 list
    # Subtest: bits
    1..1
        KTAP version 1
        # Subtest: genmask
        ok 1 genmask 0..7
    ok 1 genmask
ok 2 - bits
"""


def cases(text: str) -> tuple[Case, ...]:
    reader = KtapReader()
    for number, line in enumerate(text.splitlines()):
        reader.take(line, number)
    return reader.finish()


def test_results_are_those_of_the_tree_of_tests() -> None:
    assert [(case.name, case.status) for case in cases(NESTED)] == [
        ("list.list_add", CaseStatus.PASS),
        ("list.list_del", CaseStatus.FAIL),
        ("list.list_swap", CaseStatus.SKIP),
        ("list", CaseStatus.FAIL),
        ("bits.genmask.genmask 0..7", CaseStatus.PASS),
        ("bits.genmask", CaseStatus.PASS),
        ("bits", CaseStatus.PASS),
    ]
    assert cases(NESTED)[2].reason == "no room: too small"


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("ok 1 a", CaseStatus.PASS),
        ("ok 1", CaseStatus.PASS),
        ("not ok 1 - a # TODO later", CaseStatus.XFAIL),
        ("not ok 1 a # XFAIL known", CaseStatus.XFAIL),
        ("not ok 1 a # TIMEOUT", CaseStatus.FAIL),
        ("ok 1 a # SKIP", CaseStatus.SKIP),
    ],
)
def test_directives_count(line: str, status: CaseStatus) -> None:
    (case,) = cases(f"TAP version 14\n1..1\n{line}\n")
    assert case.status is status


def test_without_a_version_there_is_no_test() -> None:
    assert cases("ok 1 this\nnot ok 2 that\nlook at 3\n") == ()


def test_results_are_bounded_and_counted() -> None:
    reader = KtapReader()
    reader.take("KTAP version 1", 0)
    for number in range(MAX_CASES + 5):
        reader.take(f"ok {number} case", number + 1)
    assert (len(reader.finish()), reader.left_out) == (MAX_CASES, 5)


@given(st.lists(st.sampled_from(NESTED.splitlines()) | st.text(max_size=40), max_size=60))
def test_whatever_stands_on_the_console_there_is_an_answer(lines: list[str]) -> None:
    for case in cases("\n".join(lines)):
        assert case.path
        assert case.first_line <= case.last_line


PROVOKED = """\
[    1.000000] KTAP version 1
[    1.000000] 1..1
[    1.000000]     KTAP version 1
[    1.000000]     # Subtest: usercopy
[    1.000000]     1..1
[    1.100000] BUG: KASAN: slab-out-of-bounds in write_past_the_end+0x4/0x20
[    1.200000]     {result} 1 catches_a_write_past_the_end
[    1.300000] {result} 1 usercopy
"""


@pytest.mark.parametrize(
    ("result", "severity"), [("ok", Severity.INFO), ("not ok", Severity.ERROR)]
)
def test_what_a_test_provoked_and_expected_is_no_finding(result: str, severity: Severity) -> None:
    reader = ConsoleReader()
    reader.feed(PROVOKED.format(result=result).encode())
    reading = reader.finish()
    (finding,) = reading.findings
    assert (finding.kind, finding.severity) == (FindingKind.KASAN, severity)
    assert [case.name for case in reading.cases] == [
        "usercopy.catches_a_write_past_the_end",
        "usercopy",
    ]


def test_after_the_tests_a_fault_is_a_fault() -> None:
    reader = ConsoleReader()
    reader.feed(PROVOKED.format(result="ok").encode())
    reader.feed(b"[    2.000000] kernel BUG at mm/a.c:1!\n")
    assert [one.severity for one in reader.finish().findings] == [Severity.INFO, Severity.ERROR]
