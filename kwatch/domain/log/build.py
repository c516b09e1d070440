# SPDX-License-Identifier: GPL-2.0-or-later
"""Read a build log: why the build failed, in the words of the tool that failed.

The root cause is the first error of a compiler, linker or other tool; make only repeats it. What
the host did to the build (memory, disk, sandbox) is no fault of the kernel.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from kwatch.domain.finding import Finding, FindingKind, Severity
from kwatch.domain.log.line import MAX_TEXT, clean
from kwatch.domain.log.rules import LINKER, RULES, Says
from kwatch.domain.log.scan import Reading, Scanner, Words
from kwatch.domain.log.source import source_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kwatch.domain.log.rules import Rule

EXCERPT_LINES = 12
MAX_FINDINGS = 200
_QUOTES = str.maketrans({"\u2018": "'", "\u2019": "'"})


# A function in what objtool says, and where it stands in front of it.
_FUNCTIONS = re.compile(r"[\w.$]+(?:\(\))?\+0x[0-9a-f]+|[\w.$]+\(\)")
_WHERE = re.compile(rf"^(?:{_FUNCTIONS.pattern}|\S+): ")
_LLD_OBJECT = re.compile(
    r"^>>>\s+(?:referenced by |defined (?:at|in) )?(?P<file>[\w./-]+/[\w.-]+\.[ocSh])\b"
)
# Objects that are made of all others.
_WHOLE = {"vmlinux.o", "built-in.a"}
_IN_FUNCTION = re.compile(rf"^(?:{LINKER}: )?(?P<object>[\w./+-]+\.o)(?:\([\w.]+\))?: in function ")
_WORDS = Words([*(word for rule in RULES for word in rule.words), "in function"])


class BuildReader:
    """Feed it bytes as they come, then ask for the reading."""

    def __init__(self) -> None:
        self._scanner = Scanner(_WORDS)
        self._found: list[tuple[Says, Finding]] = []
        self._places: dict[str, int] = {}
        self._object: str | None = None
        self._following = 0
        self._left_out = 0

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        self._scanner.feed(data, self)

    def finish(self) -> Reading:
        """Everything was fed. Errors come first."""
        self._scanner.finish(self)
        return Reading(
            findings=_concluded(self._found),
            left_out=self._left_out,
            last_lines=self._scanner.last_lines(),
        )

    def wants_all(self) -> bool:
        """Lines after an error show where it is."""
        return self._following > 0

    @property
    def unwanted(self) -> frozenset[int]:
        """Any of the words will do."""
        return frozenset()

    def take(self, raw: bytes, number: int, words: Sequence[int]) -> None:
        """One line that may matter."""
        text = clean(raw[: 4 * MAX_TEXT].decode("utf-8", "replace")).translate(_QUOTES)
        if self._following:
            self._following -= 1
            says, last = self._found[-1]
            file = last.file or _referring_file(text)
            self._found[-1] = (
                says,
                replace(last, excerpt=(*last.excerpt, text), last_line=number, file=file),
            )
        if not words:
            return
        if found := _IN_FUNCTION.match(text):
            self._object = found["object"]
            return
        if (match := _match(text)) is None:
            return
        rule, matched = match
        finding = _finding(rule, matched, self._object)
        if (place := self._places.get(finding.title)) is not None:
            says, known = self._found[place]
            self._found[place] = says, replace(known, count=known.count + 1)
            return
        if len(self._found) >= MAX_FINDINGS:
            self._left_out += 1
            return
        self._places[finding.title] = len(self._found)
        self._found.append((rule.says, replace(finding, first_line=number, last_line=number)))
        self._following = EXCERPT_LINES - 1 if finding.severity is Severity.ERROR else 0


def _referring_file(text: str) -> str | None:
    """The object that a line of lld names, after an error in which it is used or defined."""
    found = _LLD_OBJECT.match(text)
    if found is None or found["file"] in _WHOLE:
        return None
    path = source_path(found["file"])
    return f"{path[:-2]}.c" if path.endswith(".o") else path


def _concluded(found: list[tuple[Says, Finding]]) -> tuple[Finding, ...]:
    """Where no tool said why make failed, its last warning and make's own word have to do."""
    causes = [finding for says, finding in found if says is Says.CAUSE]
    echoes = [finding for says, finding in found if says is Says.ECHO]
    if causes:
        named = {finding.file for finding in causes}
        # An error in a header is one of the file that includes it as well.
        raised = [one for one in echoes if one.file and one.file not in named]
    elif echoes:
        before = [
            finding
            for says, finding in found
            if says is Says.REMARK and (finding.first_line or 0) < (echoes[0].first_line or 0)
        ]
        raised = [*before[-1:], echoes[0]]
    else:
        raised = []
    errors = [*causes, *(replace(finding, severity=Severity.ERROR) for finding in raised)]
    rest = [finding for _, finding in found if finding not in causes and finding not in raised]
    return (*errors, *rest)


def _match(text: str) -> tuple[Rule, re.Match[str]] | None:
    """The first row of the grammar that a line fits."""
    for rule in RULES:
        if any(word in text for word in rule.words) and (match := rule.pattern.match(text)):
            return rule, match
    return None


def _finding(rule: Rule, match: re.Match[str], current_object: str | None) -> Finding:
    """What one line of a build says; ``current_object`` is what the linker is at."""
    groups = {key: value or "" for key, value in match.groupdict().items()}
    text, file, line = groups["text"], groups.get("file", ""), groups.get("line", "")
    if rule.is_of_object and current_object and "/" not in file:
        file = current_object
    if rule.is_counted:
        text = _FUNCTIONS.sub("FUNCTION", _WHERE.sub("", text))
    path = source_path(file) if file and file not in _WHOLE else ""
    if path.endswith(".o"):
        path = f"{path[:-2]}.c"
    # As the compiler says it, which people search for.
    place = f"{path}{match.string[match.end('file') : match.start('text')]}" if file else ""
    target = source_path(groups["target"]) if "target" in groups else ""
    return Finding(
        kind=rule.kind,
        title=rule.title.format(text=text, place=place, target=target).strip(),
        file=path or None,
        line=int(line) if line else None,
        severity=Severity.ERROR if rule.says is Says.CAUSE else Severity.INFO,
        excerpt=(match.string,),
        rule=rule.name,
    )


def read_build_log(log: bytes) -> Finding:
    """The root cause of a failed build; where no line says why, the end of the log.

    A finding of kind HOST says nothing about the kernel, and goes before all others.
    """
    reader = BuildReader()
    reader.feed(log)
    reading = reader.finish()
    errors = [one for one in reading.findings if one.severity is Severity.ERROR]
    of_the_host = [one for one in errors if one.kind is FindingKind.HOST]
    if errors:
        return (of_the_host or errors)[0]
    return Finding(
        kind=FindingKind.COMPILE,
        title="the build failed without saying why",
        excerpt=reading.last_lines[-EXCERPT_LINES:],
    )


def build_findings(log: bytes) -> tuple[Finding, ...]:
    """Everything that a build log reports, in its order."""
    reader = BuildReader()
    reader.feed(log)
    return reader.finish().findings


def lab_trouble(said: bytes) -> str | None:
    """Why what a program said tells nothing about a kernel, or None."""
    reader = BuildReader()
    reader.feed(said)
    found = (one for one in reader.finish().findings if one.kind is FindingKind.HOST)
    return next((one.title for one in found), None)
