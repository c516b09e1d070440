# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from dataclasses import replace

import pytest

from kwatch.domain.boot.ending import BootEnd
from kwatch.domain.deadguest.autopsy import Autopsy
from kwatch.domain.finding import Finding, FindingKind
from kwatch.domain.log.console import read_console
from kwatch.domain.log.ktap import CaseUse
from kwatch.domain.milestone import Milestone
from kwatch.domain.trial.diagnosis import examine

BOOT = b"[    0.000000] Linux version 7.0.0-next\r\n[    0.100000] Command line: quiet\r\n"
OOPS = b"[    1.1] BUG: unable to handle page fault for address: ffffffffdeadbeef\r\n"
REACHED = [milestone for milestone in Milestone if milestone >= Milestone.LINKED]


def examined(
    end: BootEnd, milestone: Milestone, console: bytes, statuses: dict[int, int]
) -> Finding | None:
    return examine(end, milestone, read_console(console), statuses, None)


def test_a_boot_that_is_done_is_good() -> None:
    assert examined(BootEnd.DONE, Milestone.COLLECTED, BOOT, {0: 0, 1: 0}) is None


KTAP = b"""KTAP version 1
1..2
    KTAP version 1
    # Subtest: list
    1..2
    ok 1 add
    not ok 2 remove
not ok 1 list
ok 2 string # SKIP no strings
"""


def test_results_of_tests_count_where_the_operator_wants_it() -> None:
    def judged(test_results: CaseUse) -> Finding | None:
        console = read_console(BOOT + KTAP)
        return examine(
            BootEnd.DONE, Milestone.COLLECTED, console, {0: 0}, None, test_results=test_results
        )

    assert judged(CaseUse.RECORD) is None
    finding = judged(CaseUse.JUDGE)
    assert finding is not None
    assert (finding.kind, finding.title) == (FindingKind.TEST, "list.remove fails")
    assert finding.excerpt == ("not ok list.remove",)


def test_a_command_that_fails_is_a_finding() -> None:
    finding = examined(BootEnd.DONE, Milestone.COLLECTED, BOOT, {2: 1, 0: 0, 1: 124})
    assert finding is not None
    assert (finding.kind, finding.title) == (
        FindingKind.TEST,
        "test command 2 fails with status 124",
    )


@pytest.mark.parametrize("end", [end for end in BootEnd if not end.is_infra])
def test_what_the_console_tells_comes_first(end: BootEnd) -> None:
    finding = examined(end, Milestone.TESTED, BOOT + OOPS, {0: 1})
    assert finding is not None
    assert finding.kind is FindingKind.OOPS


@pytest.mark.parametrize("milestone", REACHED)
@pytest.mark.parametrize(
    "end", [end for end in BootEnd if not end.is_infra and end is not BootEnd.DONE]
)
def test_every_end_but_the_good_one_has_a_finding(end: BootEnd, milestone: Milestone) -> None:
    finding = examined(end, milestone, BOOT, {})
    assert finding is not None
    assert finding.excerpt == ("[    0.000000] Linux version 7.0.0-next",
                               "[    0.100000] Command line: quiet")  # fmt: skip


@pytest.mark.parametrize("milestone", REACHED)
def test_a_hang_has_one_name_whether_it_was_proven_or_waited_for(milestone: Milestone) -> None:
    ends = (BootEnd.HANG, BootEnd.STALL, BootEnd.DEADLINE)
    findings = [examined(end, milestone, b"", {}) for end in ends]
    assert len({finding.fingerprint for finding in findings if finding}) == 1


def test_hangs_at_different_places_are_different_problems() -> None:
    findings = [examined(BootEnd.HANG, milestone, b"", {}) for milestone in REACHED]
    assert len({finding.fingerprint for finding in findings if finding}) == len(REACHED)


def test_a_kernel_that_never_said_a_word_hangs_silently() -> None:
    finding = examined(BootEnd.HANG, Milestone.LINKED, b"", {})
    assert finding is not None
    assert (finding.kind, finding.excerpt) == (FindingKind.SILENT_HANG, ())


@pytest.mark.parametrize("end", [end for end in BootEnd if end.is_infra])
def test_what_the_lab_did_is_no_finding(end: BootEnd) -> None:
    with pytest.raises(ValueError, match="nothing about a kernel"):
        examined(end, Milestone.KERNEL, BOOT, {})


AUTOPSY = Autopsy(
    cause="page fault in start_kernel",
    function="start_kernel",
    is_final=True,
    lines=("CPU 0: halted at early_fixup_exception+0x6f, interrupts off",),
    messages=("[    0.000000] Linux version 6.12",),
)
PANIC = "[    0.100000] Kernel panic - not syncing: nothing can be done"


def of_guest(end: BootEnd, autopsy: Autopsy, console: bytes = b"") -> Finding:
    found = examine(end, Milestone.LINKED, read_console(console), {}, autopsy)
    assert found is not None
    return found


def test_a_guest_that_can_never_go_on_names_its_problem() -> None:
    found = of_guest(BootEnd.HANG, AUTOPSY)
    assert found.title == "silent hang: page fault in start_kernel"
    assert (found.kind, found.function) == (FindingKind.SILENT_HANG, "start_kernel")
    assert found.evidence == (
        *AUTOPSY.lines,
        "End of the kernel log buffer:",
        "  [    0.000000] Linux version 6.12",
    )
    # The same bug, whether the hang was proven or waited for.
    assert of_guest(BootEnd.STALL, AUTOPSY).fingerprint == found.fingerprint


def test_where_a_slow_guest_happens_to_be_is_evidence_and_no_name() -> None:
    slow = replace(AUTOPSY, cause="endless loop in memcpy", is_final=False)
    found = of_guest(BootEnd.DEADLINE, slow)
    assert found.title == "silent hang before the first line of the kernel"
    assert found.evidence[0] == AUTOPSY.lines[0]
    assert "endless loop in memcpy" in of_guest(BootEnd.HANG, slow).title


@pytest.mark.parametrize("end", [BootEnd.HANG, BootEnd.RESET, BootEnd.PANIC])
def test_a_panic_that_no_console_showed_is_in_the_memory(end: BootEnd) -> None:
    found = of_guest(end, replace(AUTOPSY, messages=(*AUTOPSY.messages, PANIC)))
    assert (found.kind, found.title) == (
        FindingKind.PANIC, "kernel panic: nothing can be done"
    )  # fmt: skip


def test_a_reset_is_told_with_where_it_was() -> None:
    found = of_guest(BootEnd.RESET, replace(AUTOPSY, cause="in plant_boot"))
    assert found.title == "the machine resets in plant_boot"


def test_the_console_knows_better_than_the_registers() -> None:
    found = of_guest(BootEnd.HANG, AUTOPSY, BOOT + OOPS)
    assert found.kind is FindingKind.OOPS
