# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kwatch.domain.finding import FindingKind
from kwatch.domain.log.console import EXCERPT_LINES, console_lines, last_lines, read_console

BOOT = b"[    0.000000] Linux version 7.0.0-next\r\n[    0.100000] Command line: quiet\r\n"
OOPS = (
    b"[    1.100000] BUG: kernel NULL pointer dereference, address: 0000000000000008\r\n"
    b"[    1.100001][    T1] RIP: 0010:do_broken_thing+0x12/0x40\r\n"
)
PANIC = b"[    1.2] Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b\r\n"


@pytest.mark.parametrize(
    ("console", "kind", "title", "function"),
    [
        (PANIC, FindingKind.PANIC, "Attempted to kill init! exitcode=0x0000000b", None),
        (
            OOPS + PANIC,
            FindingKind.OOPS,
            "BUG: kernel NULL pointer dereference, address: 0000000000000008",
            "do_broken_thing",
        ),
        (
            b"<0>[    1.2][   T17] kernel BUG at mm/slub.c:17!\r\n",
            FindingKind.OOPS,
            "kernel BUG at mm/slub.c:17!",
            None,
        ),
    ],
)
def test_the_first_thing_that_went_wrong_is_the_finding(
    console: bytes, kind: FindingKind, title: str, function: str | None
) -> None:
    finding = read_console(BOOT + console)
    assert finding is not None
    assert (finding.kind, finding.title, finding.function) == (kind, title, function)
    assert finding.excerpt[0].endswith(title)


@pytest.mark.parametrize("console", [b"", BOOT, b"user: Kernel panic - not syncing: no\n"])
def test_a_console_that_tells_of_nothing_has_no_finding(console: bytes) -> None:
    assert read_console(console) is None


def test_addresses_do_not_make_another_problem() -> None:
    prints = set()
    for address in (b"0000000000000008", b"ffffdeadbeef0010"):
        finding = read_console(OOPS.replace(b"0000000000000008", address))
        assert finding is not None
        prints.add(finding.fingerprint)
    assert len(prints) == 1


def test_the_last_lines_are_those_that_count() -> None:
    console = b"".join(b"line %d\r\n\r\n" % number for number in range(100))
    assert last_lines(console, 3) == ("line 97", "line 98", "line 99")
    assert len(last_lines(console)) == EXCERPT_LINES


@given(st.binary(max_size=4000))
def test_any_console_can_be_read(console: bytes) -> None:
    read_console(console)
    for line in console_lines(console):
        assert line.strip()
        assert len(line) <= 400
        assert "\x1b" not in line
