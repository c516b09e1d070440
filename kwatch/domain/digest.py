# SPDX-License-Identifier: GPL-2.0-or-later
"""Digests that name things for ever: written out field by field, with a schema number.

A digest decides which results compare and which work is shared. So it never depends on how a value
is represented in Python: renaming a field, or adding one that has no say in the result, changes
nothing. A change of meaning is a new schema number; tests/unit/domain/test_digests.py pins them.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def digest(kind: str, schema: int, fields: Mapping[str, object]) -> str:
    """SHA-256 (hex) over the canonical JSON of ``fields``: strings, integers, None, and lists of
    these. Anything else raises TypeError, as does a field of the name ``kind`` or ``schema``.
    """
    _check(fields)
    if not fields.keys().isdisjoint({"kind", "schema"}):
        raise TypeError("kind and schema name no fields of a digest")
    canonical = json.dumps(
        {"kind": kind, "schema": schema, **fields}, sort_keys=True, separators=(",", ":")
    )
    return hashlib.sha256(canonical.encode()).hexdigest()


def _check(value: object) -> None:
    if isinstance(value, dict):
        for name, field in value.items():
            if not isinstance(name, str):
                raise TypeError(f"{name!r} cannot name a field of a digest")
            _check(field)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _check(item)
    elif value is not None and not (type(value) in (str, int) or isinstance(value, str)):
        raise TypeError(f"{type(value).__name__} has no place in a digest")
