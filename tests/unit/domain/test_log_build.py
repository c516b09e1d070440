# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kwatch.domain.finding import FindingKind
from kwatch.domain.log.build import EXCERPT_LINES, clean, lab_trouble, read_build_log


@pytest.mark.parametrize(
    ("line", "kind", "title", "file"),
    [
        (
            "../src/kernel/fork.c:101:5: error: use of undeclared identifier 'x'",
            FindingKind.COMPILE,
            "kernel/fork.c: use of undeclared identifier 'x'",
            "kernel/fork.c",
        ),
        (
            "./include/linux/a.h:7:10: fatal error: 'gone.h' file not found",
            FindingKind.COMPILE,
            "include/linux/a.h: 'gone.h' file not found",
            "include/linux/a.h",
        ),
        (
            "ld.lld-22: error: undefined symbol: start_here",
            FindingKind.LINK,
            "undefined symbol: start_here",
            None,
        ),
        ("ld.lld: error: no space", FindingKind.LINK, "no space", None),
        (
            'ERROR: modpost: "f" [drivers/a.ko] undefined!',
            FindingKind.LINK,
            '"f" [drivers/a.ko] undefined!',
            None,
        ),
    ],
)
def test_the_first_error_is_the_finding(
    line: str, kind: FindingKind, title: str, file: str | None
) -> None:
    log = f"""\
  CC      init/main.o
init/main.c:3:1: warning: unused variable 'error'
{line}
    5 | return x;
later.c:1:1: error: not the cause
make[3]: *** [../src/scripts/Makefile.build:229: kernel/fork.o] Error 1
make: *** [Makefile:224: __sub-make] Error 2
"""
    finding = read_build_log(log)
    assert (finding.kind, finding.title, finding.file) == (kind, title, file)
    assert finding.excerpt[:2] == (line, "    5 | return x;")


def test_make_has_the_last_word_where_nothing_else_says_why() -> None:
    finding = read_build_log("  CC a.o\nmake: *** No rule to make target 'a.c'.  Stop.\n")
    assert finding.title == "No rule to make target 'a.c'.  Stop."


def test_the_same_error_on_another_line_is_the_same_problem() -> None:
    logs = [f"kernel/fork.c:{line}:5: error: oh no\n" for line in (101, 207)]
    assert len({read_build_log(log).fingerprint for log in logs}) == 1


@pytest.mark.parametrize(
    "line",
    [
        "clang: error: unable to write: No space left on device",
        "/bin/sh: line 1: 123 Killed                  clang-22 -c a.c",
        "fatal error: cannot open file 'a.o': Input/output error",
        "bwrap: Can't make symlink",
    ],
)
def test_the_lab_is_told_from_the_kernel(line: str) -> None:
    assert lab_trouble(f"  CC a.o\n{line}\nmake: *** [a.o] Error 1\n") is not None


def test_a_kernel_that_is_broken_is_no_trouble_of_the_lab() -> None:
    assert lab_trouble("kernel/fork.c:1:1: error: no\nmake: *** [a.o] Error 1\n") is None


@given(st.text(max_size=2000))
def test_any_log_gives_a_finding_that_can_be_mailed(log: str) -> None:
    finding = read_build_log(log)
    assert finding.title
    assert len(finding.excerpt) <= EXCERPT_LINES + 1
    assert all(len(line) <= 400 for line in finding.excerpt)
    assert "\x1b" not in finding.title
    lab_trouble(log)


def test_terminal_controls_do_not_get_through() -> None:
    assert clean("\x1b[01;31merror:\x1b[0m \x07\x00bad\r") == "error: bad"
