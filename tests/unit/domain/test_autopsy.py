# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import pytest

from kwatch.domain.autopsy import examine
from kwatch.domain.boot import BootEnd
from kwatch.domain.finding import Finding, FindingKind
from kwatch.domain.log.console import read_console
from kwatch.domain.milestone import Milestone

BOOT = b"[    0.000000] Linux version 7.0.0-next\r\n[    0.100000] Command line: quiet\r\n"
OOPS = b"[    1.1] BUG: unable to handle page fault for address: ffffffffdeadbeef\r\n"
REACHED = [milestone for milestone in Milestone if milestone >= Milestone.LINKED]


def examined(
    end: BootEnd, milestone: Milestone, console: bytes, statuses: dict[int, int]
) -> Finding | None:
    return examine(end, milestone, read_console(console), statuses, None)


def test_a_boot_that_is_done_is_good() -> None:
    assert examined(BootEnd.DONE, Milestone.COLLECTED, BOOT, {0: 0, 1: 0}) is None


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
