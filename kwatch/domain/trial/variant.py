# SPDX-License-Identifier: GPL-2.0-or-later
"""A variant: one row of the test matrix, as the operator configured it."""

from __future__ import annotations

from dataclasses import dataclass

from kwatch.domain.boot.care import BootProfile
from kwatch.domain.recipe.build import BuildRecipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One way to test the tags of a tree.

    ``series`` is the name of a watched series, or None for a control: without one nobody can tell
    a fault of the tree from one of our own patches.
    """

    name: str
    series: str | None
    build: BuildRecipe
    boot: BootProfile
    build_labels: frozenset[str] = frozenset()
    boot_labels: frozenset[str] = frozenset()

    @property
    def arch(self) -> str:
        """The architecture, as in domain/recipe/arch."""
        return self.build.arch
