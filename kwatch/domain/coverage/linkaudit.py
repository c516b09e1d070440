# SPDX-License-Identifier: GPL-2.0-or-later
"""Instrumentation that a linker lost: found before the first boot, and named.

A counter that is gone leaves an instruction that counts at address zero. Where it runs before the
kernel can report a fault, the kernel dies without a word.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from kwatch.domain.finding import Finding, FindingKind

if TYPE_CHECKING:
    from collections.abc import Mapping

SHOWN = 20
LINK_AUDIT = "link audit"
"""The rule of its findings: they are of the image, and not of the build's log."""
_NAME = re.compile(r"[\w.$@]{1,512}")


def lost_instrumentation(audit: Mapping[str, Any]) -> Finding | None:
    """What an audit (:func:`kwatch.remote.linkaudit.audit`) found, or None for a sound image."""
    symbols, accesses = audit["symbols"], audit["accesses"]
    if not symbols and not accesses:
        return None
    lines = [
        f"{_name(one['function'])}+{one['offset']:#x}: {one['instruction']} at address zero;"
        f" the object counts in {_name(one['symbol'])} there"
        for one in accesses[:SHOWN]
    ]
    lines += [
        f"{_name(one['symbol'])}: in {one['before']} still defined, {one['state']} in"
        f" {one['stage']}"
        for one in symbols[:SHOWN]
    ]
    rest = len(symbols) + len(accesses) + audit["more"] - len(lines)
    if rest > 0:
        lines.append(f"and {rest} more")
    function = _name(accesses[0]["function"]) if accesses else None
    if symbols:
        first = symbols[0]
        what = f"{_name(first['symbol'])} is {first['state']} in {first['stage']}"
    else:
        what = f"{function} counts at address zero"
    return Finding(
        kind=FindingKind.LINK,
        title=f"the linker lost instrumentation: {what}",
        function=function,
        excerpt=tuple(lines),
        rule=LINK_AUDIT,
    )


def _name(symbol: object) -> str:
    """A symbol of a stranger's image, if it is one that a compiler makes."""
    return symbol if isinstance(symbol, str) and _NAME.fullmatch(symbol) else "a symbol"
