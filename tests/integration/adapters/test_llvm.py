# SPDX-License-Identifier: GPL-2.0-or-later
"""The real clang-22, llvm-profdata-22 and llvm-cov-22 on a program that was counted by hand.

The program writes its own raw profile, as a kernel does: the host needs no profiling runtime.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from kwatch.adapters.coverage_export import read_export
from kwatch.adapters.llvm import (
    Llvm,
    explain_export_failure,
    explain_merge_failure,
    mismatched_functions,
    parse_version,
)
from kwatch.adapters.process import run
from kwatch.domain.coverage.figures import Count, Coverage, FileCoverage, Origin, Roots
from kwatch.domain.coverage.profile_header import (
    HEADER_BYTES,
    Malformed,
    ProfileHeader,
    check_profile,
)
from kwatch.domain.recipe.toolchain import Program

SOURCES = Path(__file__).with_name("profiled")
LLVM = Llvm(suffix="-22")
INSTRUMENT = ("-O0", "-fprofile-instr-generate", "-fcoverage-mapping", "-fcoverage-mcdc")

# decisions.c says beside each function what is covered of it.
LINES = Count(covered=19, total=24)
FUNCTIONS = Count(covered=3, total=4)
BRANCHES = Count(covered=8, total=10)
MCDC = Count(covered=3, total=4)


@pytest.fixture
async def built(tmp_path: Path) -> Path:
    """A scratch folder with the instrumented program and the profile of one run."""
    for source in SOURCES.iterdir():
        shutil.copy(source, tmp_path)
    await build(tmp_path)
    await run(["./decisions", "kernel.profraw"], cwd=tmp_path, timeout=10)
    return tmp_path


async def build(folder: Path) -> None:
    # An absolute name, as Kbuild gives it with O=.
    compile_it = ("clang-22", *INSTRUMENT, "-c", folder / "decisions.c", "-o", "decisions.o")
    await run(compile_it, cwd=folder, timeout=60)
    await run(["clang-22", "-O1", "-c", "profile.c", "-o", "profile.o"], cwd=folder, timeout=60)
    linked = ("clang-22", "decisions.o", "profile.o", "-o", "decisions")
    await run(linked, cwd=folder, timeout=60)


async def merge(folder: Path) -> Path:
    profdata = folder / "kernel.profdata"
    await run(LLVM.merge_command(folder / "kernel.profraw", profdata), timeout=60)
    return profdata


async def export(folder: Path, *more: str) -> Coverage:
    command = LLVM.export_command(await merge(folder), folder / "decisions")
    completed = await run([word for word in command if word not in more], timeout=60)
    roots = Roots(source=str(folder), output="/build/out")
    return await read(folder, completed.stdout, roots)


async def read(folder: Path, exported: bytes, roots: Roots) -> Coverage:
    (folder / "export.json").write_bytes(exported)
    return await read_export(folder / "export.json", roots)


def checked(profraw: Path) -> ProfileHeader | Malformed:
    data = profraw.read_bytes()
    return check_profile(data[:HEADER_BYTES], len(data))


@pytest.mark.parametrize("left_out", [(), ("--summary-only", "--skip-expansions")])
async def test_the_figures_are_those_counted_by_hand(
    built: Path, left_out: tuple[str, ...]
) -> None:
    coverage = await export(built, *left_out)
    assert coverage.files == (
        FileCoverage(
            path="decisions.c",
            origin=Origin.SOURCE,
            lines=LINES,
            functions=FUNCTIONS,
            branches=BRANCHES,
            mcdc=MCDC,
        ),
    )
    totals = coverage.totals
    assert (totals.lines, totals.functions) == (LINES, FUNCTIONS)
    assert (totals.branches, totals.mcdc) == (BRANCHES, MCDC)


async def test_the_header_fits_what_llvm_takes(built: Path) -> None:
    header = checked(built / "kernel.profraw")
    assert isinstance(header, ProfileHeader)
    # main 2, both 4, either 4, never 1 counters; a bitmap byte for each decision.
    assert (header.version, header.functions) == (10, 4)
    assert (header.counters, header.bitmap_bytes) == (11, 2)


@pytest.mark.parametrize("kept", [0, 4, 100, 200, -1])
async def test_a_truncated_profile_is_told_clearly(built: Path, kept: int) -> None:
    profraw = built / "kernel.profraw"
    whole = profraw.read_bytes()
    profraw.write_bytes(whole[:kept])
    answer = checked(profraw)
    assert isinstance(answer, Malformed)
    merged = await run(
        LLVM.merge_command(profraw, built / "kernel.profdata"), timeout=60, check=False
    )
    explained = explain_merge_failure(merged.stderr.decode())
    if kept == 0:
        # The reason why the header is read at all.
        assert merged.status == 0
        assert answer.reason == "the profile is empty"
        return
    assert merged.status == 1
    assert explained is not None
    assert explained.startswith("llvm-profdata rejects the profile: ")
    if kept in (200, -1):
        have = len(whole[:kept])
        assert answer.reason == (
            f"the profile is truncated: {have} of the {len(whole)} bytes it announces"
        )


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x7fELF" + bytes(500), "it is not a profile"),
        # llvm-profdata takes every text for a profile in its text format.
        (b"[    0.000000] Linux version\n" * 9, "its parts do not fit together"),
    ],
)
async def test_a_foreign_file_is_told_from_a_cut_one(
    built: Path, content: bytes, words: str
) -> None:
    profraw = built / "kernel.profraw"
    profraw.write_bytes(content)
    answer = checked(profraw)
    assert isinstance(answer, Malformed)
    assert "not an LLVM raw profile" in answer.reason
    merged = await run(
        LLVM.merge_command(profraw, built / "kernel.profdata"), timeout=60, check=False
    )
    assert words in (explain_merge_failure(merged.stderr.decode()) or "")


async def test_a_text_that_llvm_would_believe_is_refused(built: Path) -> None:
    profraw = built / "kernel.profraw"
    profraw.write_text("main\n0\n1\n4096\n")
    await merge(built)
    answer = checked(profraw)
    assert isinstance(answer, Malformed)
    assert "not an LLVM raw profile" in answer.reason


async def test_a_tool_without_room_is_not_a_rejected_profile(built: Path) -> None:
    merged = await run(
        LLVM.merge_command(built / "kernel.profraw", Path("/dev/full")), timeout=60, check=False
    )
    assert merged.status != 0
    assert explain_merge_failure(merged.stderr.decode()) is None


async def test_the_profile_of_another_image_is_noticed(built: Path) -> None:
    profdata = await merge(built)
    source = built / "decisions.c"
    source.write_text(source.read_text().replace("a && b", "a && b && a < 9"))
    await build(built)
    exported = await run(LLVM.export_command(profdata, built / "decisions"), timeout=60)
    assert mismatched_functions(exported.stderr.decode()) == 1
    coverage = await read(built, exported.stdout, Roots(source=str(built), output="/build/out"))
    assert coverage.totals.functions == Count(covered=2, total=3)


async def test_an_image_without_coverage_is_data(built: Path) -> None:
    command = LLVM.export_command(await merge(built), built / "profile.o")
    exported = await run(command, timeout=60, check=False)
    assert exported.status == 1
    assert "built without coverage mapping" in (
        explain_export_failure(exported.stderr.decode()) or ""
    )


@pytest.mark.parametrize(
    ("command", "program"),
    [("clang-22", Program.CLANG), ("ld.lld-22", Program.LLD), ("ld.bfd", Program.BFD)],
)
async def test_installed_tools_name_themselves(command: str, program: Program) -> None:
    probed = parse_version((await run((command, "--version"), timeout=30)).text())
    assert probed.program is program
    assert command.endswith("bfd") or probed.version.startswith("22.")
