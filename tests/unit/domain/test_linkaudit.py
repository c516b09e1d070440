# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from typing import Any

from kwatch.domain.coverage.linkaudit import SHOWN, lost_instrumentation
from kwatch.domain.finding import FindingKind

SYMBOL = {"symbol": "__profc__Z13sized_strscpy", "state": "undefined", "before": "vmlinux.o",
          "stage": ".tmp_vmlinux1"}  # fmt: skip
ACCESS = {"function": "start_kernel", "offset": 14, "instruction": "incq", "operand": 17,
          "symbol": "__profc__Z13sized_strscpy"}  # fmt: skip


def audit(**parts: object) -> dict[str, Any]:
    return {"symbols": [], "accesses": [], "more": 0, **parts}


def test_a_sound_image_has_no_finding() -> None:
    assert lost_instrumentation(audit()) is None


def test_the_symbol_its_stages_and_who_counts_are_named() -> None:
    finding = lost_instrumentation(audit(symbols=[SYMBOL], accesses=[ACCESS]))
    assert finding is not None
    assert (finding.kind, finding.function) == (FindingKind.LINK, "start_kernel")
    assert finding.title == (
        "the linker lost instrumentation: __profc__Z13sized_strscpy is undefined in .tmp_vmlinux1"
    )
    assert finding.excerpt == (
        f"start_kernel+0xe: incq at address zero; the object counts in {SYMBOL['symbol']} there",
        "__profc__Z13sized_strscpy: in vmlinux.o still defined, undefined in .tmp_vmlinux1",
    )


def test_many_are_counted_and_strange_names_do_not_get_through() -> None:
    accesses = [{**ACCESS, "function": "evil\nname"} for _ in range(SHOWN + 5)]
    finding = lost_instrumentation(audit(accesses=accesses, more=7))
    assert finding is not None
    assert finding.title == "the linker lost instrumentation: a symbol counts at address zero"
    assert finding.excerpt[-1] == "and 12 more"
