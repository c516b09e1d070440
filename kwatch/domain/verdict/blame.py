# SPDX-License-Identifier: GPL-2.0-or-later
"""Who or what is to blame."""

from __future__ import annotations

from enum import StrEnum


class Blame(StrEnum):
    """The axis on which the fault lies.

    TREE: the kernel fails without our series too. SERIES: it fails only with it; an interaction
    of the tree with the series, which only the series' people need to hear of.
    """

    TREE = "tree"
    SERIES = "series"
    TOOLCHAIN = "toolchain"
    CONFIG = "config"
    HOST = "host"
