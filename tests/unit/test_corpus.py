# SPDX-License-Identifier: GPL-2.0-or-later
"""Every log of the corpus is read as its header says; see tests/corpus/README.md."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from kwatch.cli.read_log import reader_of

CORPUS = Path(__file__).parents[1] / "corpus"
LOGS = sorted(CORPUS.glob("*.txt"))
SEAM = b"\n---\n"


def read_as(kind: str, log: bytes) -> list[str]:
    """The lines of a header that tell what a log says."""
    reader = reader_of(kind)
    reader.feed(log)
    reading = reader.finish()
    lines = [
        f"expect: {one.severity} | {one.title} | {one.file or '-'} | {one.function or '-'}"
        f"{f' | {one.count} times' if one.count > 1 else ''}"
        for one in reading.findings
    ]
    if reading.progress is not None:
        lines.append(f"progress: {reading.progress.label}")
    cases = Counter(case.status.value for case in reading.cases)
    if cases:
        lines.append("cases: " + ", ".join(f"{count} {status}" for status, count in cases.items()))
    return lines


@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.stem)
def test_a_log_says_what_its_header_says(path: Path, request: pytest.FixtureRequest) -> None:
    header, seam, log = path.read_bytes().partition(SEAM)
    assert seam, "a line --- ends the header"
    lines = header.decode().splitlines()
    facts = [line for line in lines if not line.startswith(("expect: ", "progress: ", "cases: "))]
    kind = next(line.removeprefix("kind: ") for line in facts if line.startswith("kind: "))
    found = read_as(kind, log)
    if request.config.getoption("--update"):
        path.write_bytes("\n".join([*facts, *found]).encode() + SEAM + log)
        return
    assert [line for line in lines if line not in facts] == found


def test_the_corpus_has_both_kinds() -> None:
    kinds = {path.read_bytes().partition(b"\n")[0] for path in LOGS}
    assert kinds == {b"kind: console", b"kind: build"}
