# SPDX-License-Identifier: GPL-2.0-or-later
"""The figures of a coverage export, from whatever a child process gets to read."""

from __future__ import annotations

import asyncio
import copy
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kwatch.adapters import confined, coverage_export
from kwatch.adapters.coverage_export import parse_export, read_export
from kwatch.domain.coverage.figures import Count, Coverage, FileCoverage, Origin, Roots
from kwatch.errors import InfraError

if TYPE_CHECKING:
    from pathlib import Path

ROOTS = Roots(source="/build/src", output="/build/out")
SUMMARY = {
    "branches": {"count": 10, "covered": 8, "notcovered": 2, "percent": 80},
    "functions": {"count": 4, "covered": 3, "percent": 75},
    "lines": {"count": 24, "covered": 19, "percent": 79.166666666666657},
    "mcdc": {"count": 4, "covered": 3, "notcovered": 1, "percent": 75},
}
DATA = {
    "files": [
        {"filename": "/build/src/mm/slub.c", "summary": SUMMARY, "segments": [[1, 2]]},
        {"branches": [], "filename": "/usr/include/x.h", "summary": SUMMARY},
    ],
    "functions": [{"name": "a", "filenames": ["]}"]}],
    "totals": SUMMARY,
}
EXPORT = {"data": [DATA], "type": "llvm.coverage.json.export", "version": "3.1.0"}


def read(export: object) -> Coverage:
    return parse_export(json.dumps(export).encode(), ROOTS)


def altered(*keys: Any, value: object) -> object:  # noqa: ANN401 - names and indices mixed
    export: Any = copy.deepcopy(EXPORT)
    inner = export
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    return export


def test_the_figures_of_each_file_are_read() -> None:
    coverage = read(EXPORT)
    figures = {
        "lines": Count(covered=19, total=24),
        "functions": Count(covered=3, total=4),
        "branches": Count(covered=8, total=10),
        "mcdc": Count(covered=3, total=4),
    }
    assert coverage.files == (
        FileCoverage(path="/usr/include/x.h", origin=Origin.FOREIGN, **figures),
        FileCoverage(path="mm/slub.c", origin=Origin.SOURCE, **figures),
    )
    assert coverage.totals.mcdc == figures["mcdc"]


@pytest.mark.parametrize(
    ("export", "text"),
    [
        (altered("version", value="4.0.0"), "format version '4.0.0', kwatch reads version 3.x"),
        (altered("version", value=3), "format version 3, kwatch"),
        (altered("type", value="other"), "its type is 'other'"),
        (altered("data", value=[]), "no files or no totals"),
        (altered("data", value=[DATA, DATA]), "one set of data"),
        (altered("data", value={}), "one set of data"),
        (altered("data", 0, "files", 0, "filename", value=5), "no name"),
        (altered("data", 0, "files", 0, "summary", value=5), "no summary"),
        (altered("data", 0, "files", 0, "summary", "mcdc", value=None), "true for mcdc"),
        (altered("data", 0, "totals", "lines", "covered", value=25), "true for lines"),
        (altered("data", 0, "totals", "lines", "covered", value=-1), "true for lines"),
        (altered("data", 0, "totals", "lines", "covered", value=True), "true for lines"),
        (altered("data", 0, "totals", "lines", "count", value=1 << 63), "true for lines"),
        ([], "no object"),
    ],
)
def test_an_export_that_cannot_be_true_is_a_broken_tool(export: object, text: str) -> None:
    with pytest.raises(InfraError) as caught:
        read(export)
    assert text in str(caught.value)


@given(st.integers(0, len(json.dumps(EXPORT)) - 1))
def test_a_truncated_export_is_a_broken_tool(length: int) -> None:
    with pytest.raises(InfraError, match="did not write what it should"):
        parse_export(json.dumps(EXPORT).encode()[:length], ROOTS)


def test_something_behind_the_export_is_noticed() -> None:
    with pytest.raises(InfraError, match="Extra data"):
        parse_export(json.dumps(EXPORT).encode() + b"\n{", ROOTS)


@pytest.mark.parametrize("name", [b'"/build/src/\\ud800.c"', b'"/build/src/\xff.c"'])
def test_file_names_can_be_stored_whatever_they_are(name: bytes) -> None:
    text = json.dumps(EXPORT).encode().replace(b'"/build/src/mm/slub.c"', name)
    try:
        coverage = parse_export(text, ROOTS)
    except InfraError:
        return
    for file in coverage.files:
        file.path.encode()


async def test_the_child_and_the_daemon_agree(tmp_path: Path) -> None:
    export = tmp_path / "export.json"
    export.write_text(json.dumps(EXPORT))
    assert await read_export(export, ROOTS) == read(EXPORT)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is no JSON"),
        (b"{" * 1000, "is no JSON"),
        (b"[" * 5_000_000, "is no JSON"),
        (b"[" + b"9" * 1_000_000 + b"]", "is no JSON"),
        (json.dumps({**EXPORT, "version": "4.0.0"}).encode(), "reads version 3.x"),
        (json.dumps({**EXPORT, "type": "\ud800"}).encode(), "its type is"),
    ],
)
async def test_hostile_exports(tmp_path: Path, content: bytes, reason: str) -> None:
    export = tmp_path / "export.json"
    export.write_bytes(content)
    with pytest.raises(InfraError, match=reason):
        await read_export(export, ROOTS)


async def test_an_export_may_take_so_much_memory_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """2 bytes of JSON make a list of 56 bytes."""
    few = confined.Limits(memory=256 << 20, output=1 << 20, cpu=60, timeout=60)
    monkeypatch.setattr(coverage_export, "LIMITS", few)
    export = tmp_path / "export.json"
    export.write_bytes(b"[" + b"[]," * 10_000_000 + b"[]]")
    with pytest.raises(InfraError, match="MiB"):
        await read_export(export, ROOTS)


async def test_an_export_may_take_so_long_and_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = confined.Limits(memory=4 << 30, output=1 << 20, cpu=1, timeout=60)
    monkeypatch.setattr(coverage_export, "LIMITS", short)
    export = tmp_path / "export.json"
    export.write_bytes(b"[" + b"[]," * 40_000_000 + b"[]]")
    with pytest.raises(InfraError, match="ended with status -24"):
        await read_export(export, ROOTS)


async def test_the_event_loop_goes_on_meanwhile(tmp_path: Path) -> None:
    export = tmp_path / "export.json"
    files = [
        {"filename": f"/build/src/mm/file{number}.c", "summary": SUMMARY}
        for number in range(10_000)
    ]
    export.write_text(json.dumps(altered("data", 0, "files", value=files)))
    lag = 0.0

    async def beat() -> None:
        nonlocal lag
        while True:
            slept = time.perf_counter()
            await asyncio.sleep(0.005)
            lag = max(lag, time.perf_counter() - slept - 0.005)

    async with asyncio.TaskGroup() as group:
        heart = group.create_task(beat())
        coverage = await read_export(export, ROOTS)
        heart.cancel()
    assert len(coverage.files) == 10_000
    # Measured: some 10 ms; in the loop itself it was a second. Other work may run beside a test.
    assert lag < 0.25
