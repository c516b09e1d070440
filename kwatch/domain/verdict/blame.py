# SPDX-License-Identifier: GPL-2.0-or-later
"""Who or what is to blame."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kwatch.domain.verdict.lane import Epoch


class Blame(StrEnum):
    """The axis on which the fault lies.

    TREE: the kernel fails in the same way without our series. SERIES: only with it; an interaction
    of the tree with the series, of interest to the people of the series only. UNKNOWN: nothing that
    was tried tells these apart, so nobody but the operator and the series' people is told.
    TOOLCHAIN, CONFIG, HOST: something of the lab changed: the tools of a build, a recipe, or what
    kernels are booted in. Only the operator is told.
    """

    TREE = "tree"
    SERIES = "series"
    TOOLCHAIN = "toolchain"
    CONFIG = "config"
    HOST = "host"
    UNKNOWN = "unknown"


def changed_axis(before: Epoch, after: Epoch) -> Blame:
    """To blame where the same commit is good in one epoch and bad in the other."""
    found = []
    if before.series != after.series:
        found.append(Blame.SERIES)
    if before.environment != after.environment:
        found.append(Blame.TOOLCHAIN)
    if before.boot_environment != after.boot_environment:
        found.append(Blame.HOST)
    if (before.build, before.boot) != (after.build, after.boot):
        found.append(Blame.CONFIG)
    return found[0] if len(found) == 1 else Blame.UNKNOWN
