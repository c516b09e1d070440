# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kwatch.domain.finding import Finding, FindingKind, Severity
from kwatch.domain.log.build import (
    EXCERPT_LINES,
    MAX_FINDINGS,
    BuildReader,
    read_build_log,
)
from kwatch.domain.log.line import clean
from kwatch.domain.log.source import source_path


def findings(log: str) -> tuple[Finding, ...]:
    reader = BuildReader()
    reader.feed(log.encode())
    return reader.finish().findings


def errors(log: str) -> list[tuple[str, str | None]]:
    return [(one.title, one.file) for one in findings(log) if one.severity is Severity.ERROR]


@pytest.mark.parametrize(
    ("line", "kind", "title", "file"),
    [
        (
            "../src/kernel/fork.c:101:5: error: use of undeclared identifier 'x'",
            FindingKind.COMPILE,
            "kernel/fork.c:101:5: error: use of undeclared identifier 'x'",
            "kernel/fork.c",
        ),
        (
            "./include/linux/a.h:7:10: fatal error: 'gone.h' file not found",
            FindingKind.COMPILE,
            "include/linux/a.h:7:10: fatal error: 'gone.h' file not found",
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
    finding = read_build_log(log.encode())
    assert (finding.kind, finding.title, finding.file) == (kind, title, file)
    assert finding.excerpt[:2] == (line, "    5 | return x;")


def test_make_has_the_last_word_where_nothing_else_says_why() -> None:
    finding = read_build_log(b"  CC a.o\nmake: *** No rule to make target 'a.c'.  Stop.\n")
    assert finding.title == "No rule to make target 'a.c'.  Stop."


def test_the_same_error_on_another_line_is_the_same_problem() -> None:
    logs = [f"kernel/fork.c:{line}:5: error: oh no\n" for line in (101, 207)]
    assert len({read_build_log(log.encode()).fingerprint for log in logs}) == 1


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
    log = f"  CC a.o\na.c:1:1: error: no\n{line}\nmake: *** [a.o] Error 1\n"
    assert read_build_log(log.encode()).kind is FindingKind.HOST


def test_a_kernel_that_is_broken_is_no_trouble_of_the_lab() -> None:
    log = b"kernel/fork.c:1:1: error: no\nmake: *** [a.o] Error 1\n"
    assert read_build_log(log).kind is FindingKind.COMPILE


@given(st.binary(max_size=2000))
def test_any_log_gives_a_finding_that_can_be_mailed(log: bytes) -> None:
    finding = read_build_log(log)
    assert finding.title
    assert len(finding.excerpt) <= EXCERPT_LINES + 1
    assert all(len(line) <= 400 for line in finding.excerpt)
    assert "\x1b" not in finding.title


def test_terminal_controls_do_not_get_through() -> None:
    assert clean("\x1b[01;31merror:\x1b[0m \x07\x00bad\r") == "error: bad"


def test_a_linker_names_the_object_before_the_symbol() -> None:
    log = (
        "ld: mm/slab.o: in function `grow':\n"
        "slab.c:(.text+0x62): undefined reference to `shrink'\n"
        "make: *** [Makefile:1139: vmlinux] Error 1\n"
    )
    assert errors(log) == [("undefined reference to `shrink'", "mm/slab.c")]


@pytest.mark.parametrize(
    "line",
    [
        "Absolute reference to symbol '__llvm_prf_cnts' not permitted in .head.text",
        "relocation truncated to fit: R_X86_64_PC32 against symbol `far'",
        "FAILED unresolved symbol tcp_reno_ssthresh",
        "multiple definition of `twice'",
    ],
)
def test_what_only_a_link_can_find(line: str) -> None:
    (finding,) = findings(f"  LD      vmlinux\n{line}\nmake: *** [vmlinux] Error 1\n")[:1]
    assert (finding.kind, finding.severity) == (FindingKind.LINK, Severity.ERROR)


def test_an_error_in_a_header_is_one_of_the_file_that_includes_it() -> None:
    log = (
        "./include/linux/a.h:3:1: error: no such type\n"
        "make[2]: *** [scripts/Makefile.build:229: fs/open.o] Error 1\n"
        "make: *** [Makefile:224: __sub-make] Error 2\n"
    )
    assert [file for _, file in errors(log)] == ["include/linux/a.h", "fs/open.c"]


def test_a_build_with_nothing_but_warnings_is_good() -> None:
    log = (
        "mm/a.c:3:1: warning: unused variable 'x'\n"
        "vmlinux.o: warning: objtool: f+0x3: unreachable instruction\n"
        "Kernel: arch/x86/boot/bzImage is ready  (#1)\n"
    )
    assert errors(log) == []
    assert len(findings(log)) == 2


def test_the_last_warning_stands_for_an_error_that_nobody_named() -> None:
    log = (
        "mm/a.c:3:1: warning: first\nmm/a.c:9:1: warning: last\n"
        "make[1]: *** [scripts/Makefile.build:229: mm/a.o] Error 1\n"
    )
    assert [title for title, _ in errors(log)] == [
        "last",
        "mm/a.o failed: Error 1",
    ]


@pytest.mark.parametrize(
    ("path", "plain"),
    [
        ("/build/src/kernel/fork.c", "kernel/fork.c"),
        ("/home/a/kernel/arch/x86/mm/init.c", "arch/x86/mm/init.c"),
        ("../../drivers/net/a.c", "drivers/net/a.c"),
        ("drivers/gpu/amdgpu/../display/a.c", "drivers/gpu/display/a.c"),
        ("/usr/include/stdio.h", "usr/include/stdio.h"),
        ("a.c", "a.c"),
    ],
)
def test_paths_are_those_of_the_tree(path: str, plain: str) -> None:
    assert source_path(path).removeprefix("/") == plain


def test_more_errors_than_anybody_reads_are_counted() -> None:
    reader = BuildReader()
    for number in range(MAX_FINDINGS + 7):
        reader.feed(f"fs/a{'x' * number}.c:1:1: error: no\n".encode())
    reading = reader.finish()
    assert (len(reading.findings), reading.left_out) == (MAX_FINDINGS, 7)


def test_objtool_is_counted_by_kind() -> None:
    log = "".join(
        f"vmlinux.o: warning: objtool: {said}\n"
        for said in (
            "thing_a+0x12: call to trace_x() leaves .noinstr.text section",
            "thing_b+0x7: call to lock_y() leaves .noinstr.text section",
            "thing_c() falls through to next function thing_d()",
            "thing_a+0x40: unreachable instruction",
            "thing_e.cold+0x9: unreachable instruction",
            "thing_f+0x1: unreachable instruction",
        )
    )
    assert [(one.title, one.count, one.severity) for one in findings(log)] == [
        ("objtool: call to FUNCTION leaves .noinstr.text section", 2, Severity.INFO),
        ("objtool: FUNCTION falls through to next function FUNCTION", 1, Severity.INFO),
        ("objtool: unreachable instruction", 3, Severity.INFO),
    ]
