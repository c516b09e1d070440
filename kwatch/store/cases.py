# SPDX-License-Identifier: GPL-2.0-or-later
"""The test cases of boots. Those of a lane run the same ones, so a list of names is kept once."""

from __future__ import annotations

import hashlib
import json
import zlib
from functools import lru_cache
from typing import TYPE_CHECKING

from kwatch.domain.trial.case_results import case_fingerprint

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kwatch.domain.trial.case_results import CaseResults
    from kwatch.store.database import Transaction

# Lists whose fingerprints are kept in memory: thousands of names take milliseconds each time.
LISTS = 64


def put(tx: Transaction, boot: str, cases: CaseResults) -> None:
    """Store the cases of a boot, in place of any that are there."""
    tx.execute(
        "UPDATE boot SET cases_run = ?, cases_failed = ? WHERE key = ?",
        (_list(tx, cases.ran), json.dumps(cases.failed), boot),
    )


def _list(tx: Transaction, names: Sequence[str]) -> str | None:
    if not names:
        return None
    text = json.dumps(names).encode()
    digest = hashlib.sha256(text).hexdigest()
    tx.execute(
        "INSERT INTO case_list (digest, names) VALUES (?, ?) ON CONFLICT DO NOTHING",
        (digest, zlib.compress(text)),
    )
    return digest


def of_boots(
    tx: Transaction, boots: Sequence[str]
) -> Mapping[str, tuple[frozenset[str], frozenset[str]]]:
    """The fingerprints of the cases that ran in boots, and of those that failed, by boot."""
    rows = tx.execute(
        "SELECT boot.key, cases_run, cases_failed FROM json_each(?) AS wanted"
        " CROSS JOIN boot ON boot.key = wanted.value WHERE cases_run IS NOT NULL",
        (json.dumps(boots),),
    ).fetchall()
    lists = tx.execute(
        "SELECT digest, names FROM json_each(?) AS wanted"
        " CROSS JOIN case_list ON digest = wanted.value",
        (json.dumps(sorted({row["cases_run"] for row in rows})),),
    )
    known = {row["digest"]: _fingerprints(row["names"]) for row in lists}
    return {
        row["key"]: (
            known[row["cases_run"]],
            frozenset(map(case_fingerprint, json.loads(row["cases_failed"]))),
        )
        for row in rows
    }


@lru_cache(maxsize=LISTS)
def _fingerprints(names: bytes) -> frozenset[str]:
    return frozenset(map(case_fingerprint, json.loads(zlib.decompress(names))))
