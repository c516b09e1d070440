# SPDX-License-Identifier: GPL-2.0-or-later
"""The grammar of a build log: how each tool says that something is wrong with the source.

A table in the order of precedence. A line without any of a row's ``words`` is not tried.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto

from kwatch.domain.finding import FindingKind

_PLACE = r"(?P<file>[^\s:()`']+\.(?:[chSs]|rs|o|a|ko|y|l|dts|dtsi|lds|cpp|cc|sh|py|S)):(?:(?P<line>\d+):(?:\d+:)?)?"


class Says(Enum):
    """What a line is to the question of why a build failed."""

    CAUSE = auto()
    """A tool says why it failed."""
    REMARK = auto()
    """No failure yet; the last one stands for the cause where no tool named one."""
    NOTE = auto()
    """No failure, and none that will come of it."""
    ECHO = auto()
    """make repeats that something failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One row: what a tool says, and what kind of problem it is.

    ``pattern`` names ``text``, and ``file`` and ``line`` where the tool does. ``title`` is made of
    these and of ``place``: file and line as the tool writes them. ``is_of_object``: the linker
    named the object on a line before. ``is_counted``: the functions that a line names do not tell
    it from another, so that all lines of a kind are one finding.
    """

    name: str
    kind: FindingKind
    words: tuple[str, ...]
    pattern: re.Pattern[str]
    says: Says = Says.CAUSE
    title: str = "{text}"
    is_of_object: bool = False
    is_counted: bool = False


LINKER = r"(?:[\w./+-]*\bld(?:\.(?:lld|bfd|gold|mold))?(?:-\d+)?|mold|collect2)"

RULES = (
    Rule(name="disk", kind=FindingKind.HOST, words=("No space left on device", "Input/output error"),
         pattern=re.compile(r"^(?P<text>.*(?:No space left on device|Input/output error).*)")),
    Rule(name="memory", kind=FindingKind.HOST, words=("Killed", "signal 9", "ut of memory", "Cannot allocate memory"),
         pattern=re.compile(r"^(?P<text>(?:.*(?::|\d) )?Killed(?: .*)?$|.*(?:signal 9|[Oo]ut of memory|Cannot allocate memory).*)")),
    Rule(name="sandbox", kind=FindingKind.HOST, words=("bwrap: ",), pattern=re.compile(r"^(?P<text>bwrap: .+)")),
    Rule(name="compiler", kind=FindingKind.COMPILE, words=("error:",), title="{place}{text}",
         pattern=re.compile(rf"^{_PLACE} (?:fatal )?error: (?P<text>.+)")),
    Rule(name="driver", kind=FindingKind.COMPILE, words=("error:",),
         pattern=re.compile(r"^(?P<text>(?:[\w./+-]*(?:clang|gcc|g\+\+|cc1(?:plus)?|rustc|as|bindgen|objcopy|strip|pahole)(?:-\d+)?): (?:fatal )?error: .+)")),
    Rule(name="linker", kind=FindingKind.LINK, words=("error:",),
         pattern=re.compile(rf"^(?:{LINKER}): (?:fatal )?error: (?P<text>(?:(?P<file>[\w./-]+\.lds):(?P<line>\d+): )?.+)")),
    Rule(name="undefined", kind=FindingKind.LINK, words=("undefined reference", "more undefined"), is_of_object=True,
         pattern=re.compile(rf"^(?:{LINKER}: )?(?:{_PLACE})?(?:[\w.-]+\.[chS]:)?(?:\(.*?\): ?)? ?(?P<text>(?:more )?undefined references? to .+)")),
    Rule(name="duplicate", kind=FindingKind.LINK, words=("multiple definition",), is_of_object=True,
         pattern=re.compile(rf"^(?:{LINKER}: )?(?:{_PLACE})?(?:[\w.-]+\.[chS]:)?(?:\(.*?\): ?)? ?(?P<text>multiple definition of .+)")),
    Rule(name="relocation", kind=FindingKind.LINK, words=("relocation", "Absolute reference"),
         pattern=re.compile(r"^(?:[^:\s]+: )*(?P<text>(?:relocation (?:truncated|R_\w+ )|Absolute reference to symbol|Invalid absolute R_|[Uu]nsupported relocation).+)")),
    Rule(name="mismatches", kind=FindingKind.LINK, words=("Section mismatches detected",), says=Says.ECHO,
         pattern=re.compile(r"^ERROR: modpost: (?P<text>Section mismatches detected.*)")),
    Rule(name="mismatch", kind=FindingKind.LINK, words=("section mismatch in reference",), says=Says.REMARK,
         pattern=re.compile(r"^WARNING: modpost: (?P<text>.*section mismatch in reference: .+)")),
    Rule(name="modpost", kind=FindingKind.LINK, words=("ERROR: modpost", "modpost: "),
         pattern=re.compile(r"^(?:ERROR|FATAL): modpost: (?P<text>.+)")),
    Rule(name="btf", kind=FindingKind.LINK, words=("FAILED",), pattern=re.compile(r"^(?P<text>FAILED:? (?:unresolved symbol|load BTF) .*)")),
    Rule(name="objtool", kind=FindingKind.COMPILE, words=("objtool: ",), says=Says.NOTE, is_counted=True, title="objtool: {text}",
         pattern=re.compile(r"^(?P<file>[\w./-]+\.o): warning: objtool: (?P<text>.+)")),
    Rule(name="objtool-error", kind=FindingKind.COMPILE, words=("objtool: ",),
         pattern=re.compile(r"^(?P<file>[\w./-]+\.o): error: objtool: (?P<text>.+)")),
    Rule(name="kconfig", kind=FindingKind.KCONFIG, words=("Kconfig", "recursive dependency"), title="{place}{text}",
         pattern=re.compile(r"^(?P<file>[\w./-]*Kconfig[\w.]*):(?P<line>\d+): ?(?P<text>(?:error: |syntax error|unknown|recursive|can't open|invalid|missing).*)")),
    Rule(name="config", kind=FindingKind.KCONFIG, words=("No configuration exists", "Can't find default configuration", "during update of the configuration"),
         pattern=re.compile(r"^(?:.*?: )?\*\*\* (?P<text>(?:No configuration exists|Can't find default configuration|Error during update of the configuration).*)")),
    Rule(name="missing-tool", kind=FindingKind.COMPILE, words=("Kconfig.include:",),
         pattern=re.compile(r"^\S*scripts/Kconfig\.include:\d+: (?P<text>.+)")),
    Rule(name="tool", kind=FindingKind.COMPILE, words=("not found", "cannot stat", "No such file", "annot find", "Permission denied"),
         pattern=re.compile(r"^(?P<text>(?:/bin/sh: |sh: |bash: |make(?:\[\d+\])?: |mv: |cp: |cat: |\S+\.sh: ).*(?:not found|cannot stat|No such file or directory|Permission denied).*)")),
    Rule(name="plain", kind=FindingKind.COMPILE, words=("error:", "rror: ", "ERROR: "),
         pattern=re.compile(r"^(?P<text>(?:error(?:\[E\d+\])?: |Error: |ERROR: |fatal: ).+)")),
    Rule(name="rule", kind=FindingKind.COMPILE, words=("*** ",),
         pattern=re.compile(r"^(?:[^\s:]+:(?:\d+:)?|make(?:\[\d+\])?:) ?\*\*\* (?P<text>(?!\[|Waiting|Deleting|Error during|No configuration|Can't find default).+)")),
    Rule(name="warning", kind=FindingKind.COMPILE, words=("warning:",), says=Says.REMARK,
         pattern=re.compile(rf"^{_PLACE} warning: (?P<text>.+)")),
    Rule(name="make", kind=FindingKind.COMPILE, words=("*** [",), says=Says.ECHO, title="{target} failed: {text}",
         pattern=re.compile(r"^make(?:\[\d+\])?: \*\*\* \[(?:[^\]]*?:\d+: )?(?P<target>(?P<file>[^\]]+\.o)|[^\]]+)\] (?P<text>Error \d+|Segmentation fault.*|Killed|Terminated|Interrupt)")),
)  # fmt: skip
