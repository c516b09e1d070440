# SPDX-License-Identifier: GPL-2.0-or-later
"""What a long history costs: 200,000 trials and a year of jobs.

Prints the 99th percentile of each query that a stage, a page or a scrape makes, beside the goal of
100 ms. The history is made once for each schema and kept in ``--directory``.

    python -m bench.history
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from kwatch.domain.finding import Finding, FindingKind
from kwatch.domain.source.source import with_series
from kwatch.domain.trial.case_results import CaseResults
from kwatch.domain.verdict.case import evidence_for
from kwatch.domain.verdict.investigation import plan
from kwatch.domain.verdict.judge import judge
from kwatch.stages.investigate import question_of
from kwatch.stages.report.gathering import load_case
from kwatch.store import (
    baselines,
    cases,
    good_boots,
    investigations,
    lanes,
    migrations,
    recipes,
    regressions,
    tidy,
    trials,
)
from kwatch.store.codec import encode
from kwatch.store.database import connect, migrate
from kwatch.views import counts, overview, reading
from tests.unit.domain import trials as samples

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

TRIALS = 200_000
JOBS = 1_300_000
TREES, VARIANTS = 20, 3
CASES = tuple(f"suite{number // 20}.case{number}" for number in range(3000))
GOAL = 0.1
RUNS = 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, default=Path("/var/tmp/kwatch-history"))  # noqa: S108
    directory = parser.parse_args().directory
    directory.mkdir(parents=True, exist_ok=True)
    schema = hashlib.sha256(migrations.SCHEMA.encode()).hexdigest()[:12]
    path = directory / f"history-{schema}.sqlite"
    if not path.exists():
        started = time.monotonic()
        part = path.with_suffix(".part")
        part.unlink(missing_ok=True)
        _make(part)
        part.rename(path)
        print(f"made {TRIALS} trials and {JOBS} jobs in {time.monotonic() - started:.0f} s")
    connection = connect(path, read_only=True)
    print(f"{path.stat().st_size >> 20} MiB on disk, goal: p99 of {GOAL * 1000:.0f} ms\n")
    print(f"{'query':<34} {'median':>9} {'p99':>9}")
    for name, query in _queries(connection).items():
        took = [_time(query) for _ in range(RUNS)]
        p99 = max(took)
        verdict = "" if p99 <= GOAL else "  over"
        print(
            f"{name:<34} {statistics.median(took) * 1000:>6.1f} ms {p99 * 1000:>6.1f} ms{verdict}"
        )
    connection.close()


def _time(query: Callable[[], object]) -> float:
    started = time.perf_counter()
    query()
    return time.perf_counter() - started


def _queries(tx: sqlite3.Connection) -> dict[str, Callable[[], object]]:
    lane = 1
    known = tx.execute("SELECT key, build FROM boot ORDER BY at DESC LIMIT 1").fetchone()
    tag = tx.execute("SELECT tree, tag FROM revision ORDER BY id DESC LIMIT 1").fetchone()

    def judged() -> object:
        runs = lanes.runs(tx, lane)
        return judge(runs, regressions.known(tx, lane, runs), baselines.runs(tx, lane))

    def investigated() -> object:
        found = regressions.load(tx, 1)
        commits = [f"{number:040x}" for number in range(300)]
        suspects = {commit: (f"{n + 1:040x}",) for n, commit in enumerate(commits)}
        suspects = {found.bad.commit: (commits[0],), **suspects}
        question = replace(
            question_of(tx, investigations.of_regression(tx, 1)[0]), suspects=suspects
        )
        settled = trials.evidence(tx, [found.good.commit, *suspects])
        return plan(question, evidence_for(question, settled))

    return {
        "judge a lane": judged,
        "step of an investigation": investigated,
        "report: read the case": lambda: load_case(tx, 1, ()),
        "good_boots: profile": lambda: good_boots.profile(
            tx, samples.BUILD.digest, samples.BOOT.digest
        ),
        "good_boots: phases": lambda: good_boots.phases(tx, samples.BOOT.digest, "kvm"),
        "tidy: protected blobs": lambda: tidy.protected(tx),
        "/metrics": lambda: counts.figures(tx),
        "/": lambda: reading.front(tx),
        "/regression/1": lambda: reading.regression_story(tx, 1),
        "/revision/TREE/TAG": lambda: reading.revision_stories(tx, tag["tree"], tag["tag"]),
        "/boot/KEY": lambda: reading.boot_story(tx, known["key"]),
        "/build/KEY": lambda: reading.build_story(tx, known["build"]),
        "/api/v1/trials": lambda: overview.trial_lines(tx, limit=50),
        "/api/v1/trials?tree=": lambda: overview.trial_lines(tx, tree=tag["tree"], limit=50),
        "/api/v1/trials?outcome=fail": lambda: overview.trial_lines(tx, variant="v1", limit=50),
    }


def _make(path: Path) -> None:
    connection = connect(path, read_only=False)
    migrate(connection, path)
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA foreign_keys = OFF")
    connection.execute("BEGIN")
    recipes.put(connection, samples.BUILD, samples.BOOT)
    _make_trials(connection)
    _make_jobs(connection)
    connection.execute("COMMIT")
    connection.execute("ANALYZE")
    connection.close()


def _make_trials(tx: sqlite3.Connection) -> None:
    """Tags of all trees in all variants; one in 50 fails, one in 100 opens a regression."""
    number = revision = regression = 0
    finding = Finding(kind=FindingKind.PANIC, title="Attempted to kill init!")
    definition = encode(samples.build("k", artifacts={}))
    booted = encode(samples.boot("k", "b", artifacts={}))
    for tree in range(TREES):
        for variant in range(VARIANTS):
            tx.execute(
                "INSERT INTO lane (tree, variant) VALUES (?, ?)", (f"tree{tree}", f"v{variant}")
            )
    for day in range(TRIALS // (TREES * VARIANTS)):
        for tree in range(TREES):
            revision += 1
            commit = hashlib.sha256(f"{tree} {day}".encode()).hexdigest()[:40]
            tx.execute(
                "INSERT INTO revision (id, tree, tag, commit_id, seen_at) VALUES (?, ?, ?, ?, ?)",
                (revision, f"tree{tree}", f"next-{day}", commit, 86400.0 * day),
            )
            for variant in range(VARIANTS):
                number += 1
                series = None if variant == 0 else f"s{variant}"
                source = with_series(commit, series)
                tx.execute(
                    "INSERT OR IGNORE INTO source VALUES (?, ?, ?, ?)",
                    (source.key, commit, series, encode(source)),
                )
                is_bad = day % 50 == 49
                key = hashlib.sha256(str(number).encode()).hexdigest()
                _make_trial(tx, number, source.key, key, finding if is_bad else None, definition,
                            booted, at=86400.0 * day)  # fmt: skip
                lane = tree * VARIANTS + variant + 1
                tx.execute(
                    "INSERT INTO planned (lane, revision, trial) VALUES (?, ?, ?)",
                    (lane, revision, number),
                )
                if day % 100 == 99:
                    regression += 1
                    _make_regression(tx, regression, lane, revision, number, finding, day)


def _make_trial(  # noqa: PLR0917
    tx: sqlite3.Connection, number: int, source: str, key: str, finding: Finding | None,
    build: str, boot: str, *, at: float,
) -> None:  # fmt: skip
    row = f"{key}@e"
    if finding:
        tx.execute(
            "INSERT INTO finding (id, step_kind, step_key, position, is_cause, fingerprint, kind,"
            " severity, title, finding) VALUES (?, 'boot', ?, 0, 1, ?, ?, ?, ?, ?)",
            (number, key, finding.fingerprint, finding.kind, finding.severity, finding.title,
             encode(finding)),
        )  # fmt: skip
    tx.execute(
        "INSERT INTO build (row, key, environment, recipe, host, milestone, took, result, at,"
        " reader) VALUES (?, ?, 'e', ?, 'h', 40, 60.0, ?, ?, 3)",
        (row, key, samples.BUILD.digest, build, at),
    )
    tx.execute(
        "INSERT INTO boot (key, inputs, environment, build, recipe, host, accelerator, milestone,"
        " is_good, took, result, cases_failed, at, reader)"
        " VALUES (?, ?, '', ?, ?, 'h', 'kvm', 70, ?, 5.0, ?, '[]', ?, 3)",
        (key, key, row, samples.BOOT.digest, finding is None, boot, at),
    )
    cases.put(tx, key, CaseResults(ran=CASES, failed=CASES[number % 500 : number % 500 + 1]))
    tx.execute(
        "INSERT INTO trial (id, source, build, boot, until, rebuild, repeat, environment,"
        " boot_environment, host, checkout_key, build_row, boot_key, outcome, milestone,"
        " finding, created_at, settled_at)"
        " VALUES (?, ?, ?, ?, 80, 0, 0, '', '', '', ?, ?, ?, ?, ?, ?, ?, ?)",
        (number, source, samples.BUILD.digest, samples.BOOT.digest, source, row, key,
         "fail" if finding else "pass", 50 if finding else 80, number if finding else None, at, at),
    )  # fmt: skip


def _make_regression(  # noqa: PLR0917
    tx: sqlite3.Connection, number: int, lane: int, revision: int, trial: int, finding: Finding,
    day: int,
) -> None:  # fmt: skip
    state = "confirmed" if day > TRIALS // (TREES * VARIANTS) - 110 else "fixed"
    tx.execute(
        "INSERT INTO regression VALUES (?, ?, 'next-', 'failure', ?, 50, ?, ?, ?)",
        (number, lane, f"{number:016x}", encode(finding), state, 86400.0 * day),
    )
    tx.execute(
        "INSERT INTO presence VALUES (?, ?, 'next-', ?, ?, ?, ?, ?)",
        (number, lane, revision - TREES, trial - TREES * VARIANTS, revision, trial,
         None if state == "confirmed" else revision),
    )  # fmt: skip
    tx.execute("INSERT INTO sighting VALUES (?, ?, ?, ?, 0)", (number, lane, revision, trial))
    tx.execute(
        "INSERT INTO regression_event (regression_id, kind, at, detail) VALUES (?, 'opened', 0, ?)",
        (number, json.dumps({"tag": f"next-{day}"})),
    )
    tx.execute(
        "INSERT INTO investigation (regression_id, goal, lane, phase, opened_at)"
        " VALUES (?, 'cause', ?, 'bisect', 0)", (number, lane),
    )  # fmt: skip


def _make_jobs(tx: sqlite3.Connection) -> None:
    """A year of looks at trees and lists."""
    tx.executemany(
        "INSERT INTO job (kind, key, state, attempt, run_after, created_at, started_at, ended_at)"
        " VALUES ('watch', ?, 'done', 1, 0, 0, 0, ?)",
        ((f"tree{number % TREES}", 86400.0 + number) for number in range(JOBS)),
    )


if __name__ == "__main__":
    main()
