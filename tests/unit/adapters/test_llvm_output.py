# SPDX-License-Identifier: GPL-2.0-or-later
"""What the output of LLVM's tools means. What they really print: tests/integration."""

from __future__ import annotations

import pytest

from kwatch.adapters.llvm import (
    explain_export_failure,
    explain_merge_failure,
    mismatched_functions,
    parse_version,
    read_instruction,
)
from kwatch.domain.deadguest.exception_frame import Instruction
from kwatch.domain.recipe.toolchain import Program, ToolchainVersions
from kwatch.errors import InfraError


@pytest.mark.parametrize(
    ("banner", "program", "version"),
    [
        ("Debian clang version 22.1.8 (1~deb12u1)\nTarget: x86_64", Program.CLANG, "22.1.8"),
        ("clang version 21.0.0git (https://example.org abc)", Program.CLANG, "21.0.0git"),
        ("Debian LLD 22.1.8 (compatible with GNU linkers)", Program.LLD, "22.1.8"),
        ("LLD 19.1.7 (compatible with GNU linkers)", Program.LLD, "19.1.7"),
        ("mold 2.37.1 (compatible with GNU ld)", Program.MOLD, "2.37.1"),
        ("mold 1.10.1 (compatible with GNU ld)\n", Program.MOLD, "1.10.1"),
        ("GNU ld (GNU Binutils for Debian) 2.40", Program.BFD, "2.40"),
        ("GNU ld version 2.41-37.fc40", Program.BFD, "2.41-37.fc40"),
    ],
)
def test_programs_are_known_by_their_own_name(banner: str, program: Program, version: str) -> None:
    probed = parse_version(banner)
    assert (probed.program, probed.version) == (program, version)
    assert probed.banner == banner.partition("\n")[0]


@pytest.mark.parametrize(
    "output", ["", "gcc (Debian 12.2.0-14) 12.2.0", "GNU gold (GNU Binutils 2.40) 1.16"]
)
def test_another_program_is_the_operators_to_correct(output: str) -> None:
    with pytest.raises(InfraError, match="correct the toolchain"):
        parse_version(output)


def test_a_report_names_a_linker_once() -> None:
    clang = parse_version("clang version 22.1.8")
    lld = parse_version("LLD 22.1.8")
    mold = parse_version("mold 2.37.1")
    one = ToolchainVersions(compiler=clang, linker_objects=lld, linker=lld)
    two = ToolchainVersions(compiler=clang, linker_objects=lld, linker=mold)
    assert str(one) == "clang 22.1.8, LLD 22.1.8"
    assert str(two) == "clang 22.1.8, mold 2.37.1 (LLD 22.1.8 for vmlinux.o)"


def test_a_tool_that_failed_by_itself_is_not_blamed_on_the_profile() -> None:
    assert explain_merge_failure("LLVM ERROR: IO failure on output stream: No space left") is None
    assert explain_merge_failure("") is None
    assert explain_export_failure("error: cannot open vmlinux: No such file") is None


def test_mismatched_functions_are_counted() -> None:
    warnings = "warning: vmlinux: profile data may be out of date - object is newer\n"
    assert mismatched_functions(warnings) == 0
    assert mismatched_functions(warnings + "warning: 17 functions have mismatched data\n") == 17


@pytest.mark.parametrize(
    ("line", "instruction"),
    [
        ("ffffffff81a6f37e:      \tincq\t0x7e590c7b(%rip) # 0x0 <__covrec_FB2D9A4BC0BAB8B6u>",
         Instruction(mnemonic="incq", operands="0x7e590c7b(%rip)", target=0)),
        ("ffffffff81a6f388:      \tleaq\t0x8(%rsp), %rbx",
         Instruction(mnemonic="leaq", operands="0x8(%rsp), %rbx")),
        ("ffffffff81a6f390:      \tmovq\t$-0x7e9e4b00, %rdi # imm = 0x8161B500",
         Instruction(mnemonic="movq", operands="$-0x7e9e4b00, %rdi")),
        ("ffffffff81a6f397:      \tcallq\t0xffffffff8102f8d0 <set_task_stack_end_magic>",
         Instruction(mnemonic="callq", operands="0xffffffff8102f8d0")),
        ("ffffffff81a6f379:      \tud2", Instruction(mnemonic="ud2", operands="")),
        ("ffff800080010a24:      \tadd\tx0, x1, #0x10, lsl #12 <begin+0x4>",
         Instruction(mnemonic="add", operands="x0, x1, #0x10, lsl #12")),
        ("ffff800080010a28:      \tb.eq\t0xffff800080010a20 <begin>",
         Instruction(mnemonic="b.eq", operands="0xffff800080010a20")),
        ("Disassembly of section .text:", None),
        ("/in/vmlinux:\tfile format elf64-x86-64", None),
        ("", None),
    ],
)  # fmt: skip
def test_an_instruction_is_read_as_it_is_shown(line: str, instruction: Instruction | None) -> None:
    assert read_instruction(line) == instruction
