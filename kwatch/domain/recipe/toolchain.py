# SPDX-License-Identifier: GPL-2.0-or-later
"""What compiles and links a kernel, and which versions of it a host really has."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Program(StrEnum):
    """The programs that a ``--version`` may turn out to come from."""

    CLANG = "clang"
    LLD = "LLD"
    MOLD = "mold"
    BFD = "GNU ld"


@dataclass(frozen=True, slots=True, kw_only=True)
class Toolchain:
    """The commands to build with, as an operator names them.

    ``llvm_suffix`` is what Kbuild's ``LLVM=`` appends to the names of LLVM's tools ("-22", or
    nothing). ``linker_objects`` links vmlinux.o, ``linker`` everything else: the two differ where
    the second cannot do the first.
    """

    name: str
    llvm_suffix: str
    compiler: str
    linker_objects: str
    linker: str

    @property
    def splits_linking(self) -> bool:
        """Whether vmlinux.o has a linker of its own."""
        return self.linker_objects != self.linker


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolVersion:
    """One program as it named itself; ``banner`` is its first line, with the packager's mark."""

    program: Program
    version: str
    banner: str

    def __str__(self) -> str:
        return f"{self.program} {self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolchainVersions:
    """What a host answered when each command of a toolchain was asked."""

    compiler: ToolVersion
    linker_objects: ToolVersion
    linker: ToolVersion

    def __str__(self) -> str:
        """For a report: a linker that does both jobs is named once."""
        if self.linker == self.linker_objects:
            return f"{self.compiler}, {self.linker}"
        return f"{self.compiler}, {self.linker} ({self.linker_objects} for vmlinux.o)"
