# SPDX-License-Identifier: GPL-2.0-or-later
"""What compiles and links a kernel, and which versions of it a host really has."""

from __future__ import annotations

import hashlib
import json
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


# The number of the format that Environment.digest is taken over: change it with the format.
ENVIRONMENT_FORMAT = 1
# LLVM's tools that a build with LLVM= runs; their names end in the toolchain's suffix.
LLVM_TOOLS = ("llvm-ar", "llvm-nm", "llvm-objcopy", "llvm-objdump", "llvm-readelf", "llvm-strip")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One program of a build.

    ``name`` is its part in the build ("compiler", "llvm-ar"), ``version`` the line of
    ``--version`` that holds the number, ``package`` name and version of the Debian package ("":
    it is of none), ``content`` SHA-256 (hex) over the program and its own shared libraries.
    """

    name: str
    version: str
    package: str
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """The programs that a build was made with: equal digests, equal programs."""

    parts: tuple[Part, ...]

    @property
    def digest(self) -> str:
        """16 hex digits over all fields of all parts."""
        rows = [[part.name, part.version, part.package, part.content] for part in self.parts]
        canonical = json.dumps(
            {"format": ENVIRONMENT_FORMAT, "parts": rows}, sort_keys=True, separators=(",", ":")
        )
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    def describe(self) -> tuple[str, ...]:
        """Lines for a report; parts that are of one version and package share a line."""
        shared: dict[tuple[str, str], list[str]] = {}
        for part in self.parts:
            shared.setdefault((part.version, part.package), []).append(part.name)
        lines = [
            f"{', '.join(names)}: {version}{f' [{package}]' if package else ''}"
            for (version, package), names in shared.items()
        ]
        return (*lines, f"environment: {self.digest}")
