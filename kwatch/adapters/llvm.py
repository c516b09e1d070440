# SPDX-License-Identifier: GPL-2.0-or-later
"""The one door to LLVM's tools: what to run, and what their output means.

It runs nothing itself: the profile of a guest is hostile, so the stages run these commands on a
build host, inside a sandbox. Sources: the manuals of llvm-profdata and llvm-cov, and what version
22 was seen to print.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kwatch.domain.deadguest.exception_frame import Instruction
from kwatch.domain.log.source import source_path
from kwatch.domain.recipe.toolchain import Program, ToolVersion
from kwatch.errors import InfraError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import PurePath

_MISMATCHED = re.compile(r"^warning: (\d+) functions have mismatched data", re.MULTILINE)

# What LLVM says about a profile that it does not take, and what that means for a guest's.
_PROFILE_REJECTIONS = (
    ("unrecognized instrumentation profile encoding format", "it is not a profile"),
    ("empty raw profile file", "it is empty"),
    ("truncated profile data", "it was cut short"),
    ("invalid instrumentation profile data", "its header is damaged or cut short"),
    (
        "unsupported instrumentation profile format version",
        "the compiler that built the kernel is of another LLVM version than this tool",
    ),
    (
        "malformed instrumentation profile data",
        "its parts do not fit together: it was cut short, or overwritten in the guest",
    ),
    ("too much profile data", "more follows than its header announces"),
)
_IMAGE_REJECTIONS = (
    ("no coverage data found", "the image was built without coverage mapping"),
    ("malformed coverage data", "the coverage mapping of the image is damaged"),
    ("truncated coverage data", "the coverage mapping of the image is cut short"),
    (
        "unsupported coverage format version",
        "the compiler that built the image is of another LLVM version than this tool",
    ),
)

# GNU ld and mold both call themselves compatible with others, so only the start of a line counts.
_BANNERS = (
    (Program.CLANG, re.compile(r"(?:\S+ )?clang version (\d[\w.+-]*)")),
    (Program.LLD, re.compile(r"(?:\S+ )?LLD (\d[\w.+-]*)")),
    (Program.MOLD, re.compile(r"mold (\d[\w.+-]*)")),
    (Program.BFD, re.compile(r"GNU ld (?:\([^)]*\) |version )(\d[\w.+-]*)")),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Llvm:
    """The tools of one LLVM version, told by what their names end in ("-22", or nothing)."""

    suffix: str

    def merge_command(self, profraw: PurePath, profdata: PurePath) -> tuple[str, ...]:
        """Turn one raw profile into an indexed one; functions that never ran are left out.

        llvm-cov reports those as uncovered all the same, and most of a kernel never runs.
        """
        return (
            f"llvm-profdata{self.suffix}",
            "merge",
            "--sparse",
            "--failure-mode=any",
            f"--output={profdata}",
            str(profraw),
        )

    def export_command(self, profdata: PurePath, vmlinux: PurePath) -> tuple[str, ...]:
        """Write the figures of every file to standard output, for coverage_export.

        MC/DC is always part of the summaries of an export; only the reports for people need a
        flag for it.
        """
        return (
            f"llvm-cov{self.suffix}",
            "export",
            "--format=text",
            "--summary-only",
            "--skip-expansions",
            f"--instr-profile={profdata}",
            str(vmlinux),
        )

    def symbolize_command(self, vmlinux: PurePath, places: Sequence[str]) -> tuple[str, ...]:
        """Tell file and line of places such as ``f+0x12``, for ``read_places``.

        Names instead of addresses are taken since LLVM 18.
        """
        return (
            f"llvm-symbolizer{self.suffix}",
            "--output-style=JSON",
            f"--obj={vmlinux}",
            *places,
        )

    def disassemble_command(self, vmlinux: PurePath, address: int) -> tuple[str, ...]:
        """Show the instruction at ``address``, for domain/postmortem."""
        return (
            f"llvm-objdump{self.suffix}",
            "--disassemble",
            "--no-show-raw-insn",
            f"--start-address={address:#x}",
            f"--stop-address={address + 1:#x}",
            str(vmlinux),
        )


def read_places(output: str) -> tuple[tuple[str, int] | None, ...]:
    """File and line of each place that was asked for, the innermost where code was inlined.

    None: not known, for want of the symbol or of debug information. The file is relative to the
    top of the kernel's source. InfraError if the output is none.
    """
    try:
        found = [place.get("Loc") or place.get("Symbol") or [{}] for place in json.loads(output)]
        files = [(str(one[0].get("FileName", "")), int(one[0].get("Line", 0))) for one in found]
    except (ValueError, TypeError, AttributeError, LookupError) as error:
        raise InfraError(f"llvm-symbolizer answered {output[:200]!r}") from error
    return tuple((source_path(file), line) if file and line else None for file, line in files)


_DISASSEMBLED = re.compile(
    r"^\s*(?P<at>[0-9a-f]+):\s+(?P<mnemonic>[a-z][\w.]*)\s*(?P<operands>(?:[^#<]|#\S)*?)\s*"
    r"(?:<[^>]*>)?\s*(?:#\s+(?:imm = )?(?:0x(?P<target>[0-9a-f]+))?.*)?$"
)


def read_instruction(line: str) -> Instruction | None:
    """One line of llvm-objdump -d --no-show-raw-insn, in AT&T syntax or that of arm64."""
    found = _DISASSEMBLED.match(line)
    if found is None:
        return None
    target = found["target"]
    return Instruction(
        mnemonic=found["mnemonic"],
        operands=" ".join(found["operands"].split()),
        target=int(target, 16) if target and "(%rip)" in found["operands"] else None,
    )


def parse_version(output: str) -> ToolVersion:
    """What program it is that answered ``--version`` so; InfraError if it builds no kernels."""
    banner = output.strip().partition("\n")[0].rstrip()[:200]
    for program, pattern in _BANNERS:
        if match := pattern.match(banner):
            return ToolVersion(program=program, version=match[1], banner=banner)
    raise InfraError(
        f"a --version answered {banner!r}, which is neither clang nor LLD, mold or GNU ld: "
        "correct the toolchain in the configuration, or install it on the host"
    )


def explain_merge_failure(stderr: str) -> str | None:
    """Why llvm-profdata rejects a profile, or None where the tool itself failed."""
    return _explain(stderr, "llvm-profdata rejects the profile", _PROFILE_REJECTIONS)


def explain_export_failure(stderr: str) -> str | None:
    """Why llvm-cov rejects an image or a profile, or None where the tool itself failed."""
    return _explain(
        stderr, "llvm-cov rejects its input", (*_IMAGE_REJECTIONS, *_PROFILE_REJECTIONS)
    )


def mismatched_functions(stderr: str) -> int:
    """How many functions of an image llvm-cov left out, as the profile has others by their name.

    More than 0 means that the profile does not come from this image: the figures are then short
    of whole functions, in what is covered and in what there is to cover.
    """
    match = _MISMATCHED.search(stderr)
    return int(match[1][:9]) if match else 0


def _explain(stderr: str, what: str, rejections: tuple[tuple[str, str], ...]) -> str | None:
    for line in stderr.splitlines():
        for words, meaning in rejections:
            at = line.find(words)
            if at >= 0:
                return f"{what}: {meaning} ({line[at : at + 200]})"
    return None
