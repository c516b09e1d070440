# SPDX-License-Identifier: GPL-2.0-or-later
"""``kwatch read-log``: the findings of a console or build log, as text or JSON.

Imports nothing of the daemon, so that thousands of logs can be read in a loop.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from kwatch.domain.finding import Finding, Severity
from kwatch.domain.log.build import BuildReader
from kwatch.domain.log.console import ConsoleReader
from kwatch.errors import ConfigError, InfraError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from kwatch.domain.log.scan import Reading

BLOCK = 1 << 20
SYMBOLIZE = 120.0
WHOLE = 4 << 20
"""Bytes of a JSON line up to which it is loaded whole; the log of a longer one is streamed."""

_LOG = re.compile(rb'"log"\s*:\s*"')
_BACKSLASH = ord("\\")
# An escape that is not complete, a high surrogate without its low one, a part of UTF-8.
_UNFINISHED = re.compile(
    rb"(?:\\u[dD][89abAB][0-9a-fA-F]{2}(?:\\(?:u[0-9a-fA-F]{0,3})?)?|\\(?:u[0-9a-fA-F]{0,3})?"
    rb"|[\xc0-\xff][\x80-\xbf]{0,3})\Z"
)


def run(words: argparse.Namespace) -> int:
    """Read the log that ``words`` name, and print its findings."""
    if words.file is None or words.file == "-":
        return _print(words, sys.stdin.buffer)
    with _open(words.file) as log:
        return _print(words, log)


def _open(path: str) -> IO[bytes]:
    try:
        return Path(path).open("rb")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error


def _read(kind: str, log: IO[bytes]) -> Reading:
    reader = reader_of(kind)
    while block := log.read(BLOCK):
        reader.feed(block)
    return reader.finish()


def _print(words: argparse.Namespace, log: IO[bytes]) -> int:
    if words.jsonl:
        return _batch(log)
    reading = _read(words.kind, log)
    if words.vmlinux:
        findings = _located(reading.findings, Path(words.vmlinux), words.llvm)
        reading = replace(reading, findings=findings)
    if words.against:
        with _open(words.against) as older:
            known = {one.fingerprint for one in _read(words.kind, older).findings}
        new = tuple(one for one in reading.findings if one.fingerprint not in known)
        reading = replace(reading, findings=new)
    if words.json:
        print(json.dumps(_as_json(reading), indent=1))
        return 0
    for finding in reading.findings:
        if finding.severity is not Severity.INFO or words.explain or words.against:
            print(_line(finding))
        if words.explain:
            _explain(finding)
    if reading.left_out:
        print(f"... and {reading.left_out} more")
    if not reading.findings:
        print("no new finding" if words.against else "no finding")
    if reading.progress is not None and not words.against:
        print(f"reached: {reading.progress.label}")
        print(f"last line: {reading.last_lines[-1] if reading.last_lines else 'none'}")
    return 0


def _located(findings: tuple[Finding, ...], vmlinux: Path, suffix: str) -> tuple[Finding, ...]:
    """Add file and line from the debug information of ``vmlinux``."""
    # Imported here: loading these takes longer than reading a log.
    import asyncio  # noqa: PLC0415

    from kwatch.adapters import llvm, process  # noqa: PLC0415

    _open(str(vmlinux)).close()
    wanted = [one for one in findings if one.place and one.line is None]
    command = llvm.Llvm(suffix=suffix).symbolize_command(
        vmlinux, [one.place for one in wanted if one.place]
    )
    try:
        answered = asyncio.run(process.run(command, timeout=SYMBOLIZE)) if wanted else None
        sources = llvm.read_places(answered.text()) if answered else ()
    except InfraError as error:
        raise ConfigError(
            f"cannot read the debug information of {vmlinux} ({error}): check --llvm"
        ) from error
    known = {id(one): source for one, source in zip(wanted, sources, strict=True) if source}
    return tuple(
        replace(one, file=known[id(one)][0], line=known[id(one)][1]) if id(one) in known else one
        for one in findings
    )


def _explain(finding: Finding) -> None:
    """Print the rule and the lines that it matched."""
    print(f"    rule: {finding.rule}")
    for number, text in enumerate(finding.excerpt):
        # Lines of other CPUs are left out of the excerpt, so only the first line has a number.
        print(f"    {'' if number else (finding.first_line or 0) + 1:>7}  {text}")


def _line(finding: Finding) -> str:
    where = ""
    if finding.first_line is not None:
        where = f"  line {finding.first_line + 1}"
    place = f"  {finding.file}:{finding.line}" if finding.file and finding.line else ""
    times = f"  {finding.count} times" if finding.count > 1 else ""
    return (
        f"{finding.severity.value:<7} {finding.fingerprint}  {finding.title}{place}{where}{times}"
    )


def reader_of(kind: str) -> BuildReader | ConsoleReader:
    """The reader for a kind of log: ``build``, or anything else for a console."""
    return BuildReader() if kind == "build" else ConsoleReader()


def as_json(finding: Finding) -> dict[str, Any]:
    """A finding as JSON."""
    return {
        "title": finding.title,
        "type": finding.kind.value.replace(" ", "-"),
        "fingerprint": finding.fingerprint,
        "severity": finding.severity.value,
        "function": finding.function,
        "file": finding.file,
        "line": finding.line,
        "module": finding.module,
        "first_line": finding.first_line,
        "last_line": finding.last_line,
        "process": finding.process,
        "cpu": finding.cpu,
        "taint": finding.taint,
        "corrupted": finding.is_corrupted,
        "rule": finding.rule,
        "count": finding.count,
    }


def _as_json(reading: Reading) -> dict[str, Any]:
    """All findings of a log as JSON."""
    answer: dict[str, Any] = {
        "findings": [as_json(one) for one in reading.findings],
        "left_out": reading.left_out,
        "last_line": reading.last_lines[-1] if reading.last_lines else None,
    }
    if reading.progress is not None:
        answer["progress"] = reading.progress.label
        answer["tests"] = dict(Counter(case.status.value for case in reading.cases))
    return answer


def _batch(stream: IO[bytes]) -> int:
    status = 0
    number = 0
    while line := stream.readline(WHOLE):
        number += 1
        try:
            answer = _one(line, stream)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            print(f"kwatch: line {number}: no JSON object with id, kind and log: {error}",
                  file=sys.stderr)  # fmt: skip
            status = 1
            continue
        if answer is not None:
            sys.stdout.write(answer)
            sys.stdout.write("\n")
    return status


def _one(line: bytes, stream: IO[bytes]) -> str | None:
    if line.endswith(b"\n") or len(line) < WHOLE:
        if not line.strip():
            return None
        case = json.loads(line)
        log = reader_of(case["kind"])
        log.feed(case["log"].encode("utf-8", "surrogatepass"))
        identity = case["id"]
    else:
        identity, log = _long(line, stream)
    reading = log.finish()
    return json.dumps({"id": identity, **_as_json(reading)})


def _long(line: bytes, stream: IO[bytes]) -> tuple[object, BuildReader | ConsoleReader]:
    """Read a line that is too long to load: id and kind must precede the log."""
    rest = _Line(line, stream)
    try:
        return rest.read()
    except (ValueError, KeyError):
        rest.pass_by()
        raise


class _Line:
    """A long line, read in pieces."""

    def __init__(self, start: bytes, stream: IO[bytes]) -> None:
        self._block = start
        self._stream = stream

    def read(self) -> tuple[object, BuildReader | ConsoleReader]:
        opening = _LOG.search(self._block)
        if opening is None:
            raise ValueError(f"a line of more than {WHOLE} bytes must begin with id and kind")
        case = json.loads(self._block[: opening.end()] + b'"}')
        self._block = self._block[opening.end() :]
        log = reader_of(case["kind"])
        for piece in self._string():
            log.feed(json.loads(b'"' + piece + b'"').encode("utf-8", "surrogatepass"))
        self.pass_by()
        return case["id"], log

    def _string(self) -> Iterator[bytes]:
        """The pieces of a JSON string up to its closing quote."""
        kept = b""
        while self._block:
            text = kept + self._block
            end = _closing(text)
            if end is not None:
                yield text[:end]
                return
            cut = _seam(text)
            yield text[:cut]
            kept = text[cut:]
            self._next()
        raise ValueError("the log does not end")

    def _next(self) -> None:
        ended = self._block.endswith(b"\n")
        self._block = b"" if ended else self._stream.readline(BLOCK)

    def pass_by(self) -> None:
        """Read on to the end of the line."""
        while self._block:
            self._next()


def _seam(text: bytes) -> int:
    """Where a JSON string can be split: not inside an escape or a character."""
    cut = len(text)
    if unfinished := _UNFINISHED.search(text, max(0, cut - 12)):
        start = unfinished.start()
        if text[start] != _BACKSLASH or _is_escape(text, start):
            return start
        # The backslash is itself escaped: plain text follows.
    return cut


def _is_escape(text: bytes, position: int) -> bool:
    """Whether the backslash there is not itself escaped."""
    count = 0
    while count < position and text[position - count - 1] == _BACKSLASH:
        count += 1
    return count % 2 == 0


def _closing(text: bytes) -> int | None:
    position = text.find(b'"')
    while position >= 0:
        if _is_escape(text, position):
            return position
        position = text.find(b'"', position + 1)
    return None
