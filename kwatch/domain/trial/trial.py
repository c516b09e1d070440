# SPDX-License-Identifier: GPL-2.0-or-later
"""A trial: what is tried, how, how far, and which sample of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kwatch.domain.milestone import Milestone
from kwatch.domain.source.source import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Which try of the same thing.

    ``rebuild`` > 0 asks for a build of its own from nothing, ``repeat`` > 0 for another boot of the
    same build, ``host`` for a boot on that host only. ``environment`` asks for a build by these
    very tools (see domain/recipe/toolchain), ``boot_environment`` for a boot in that environment
    (see domain/recipe/boot_environment); empty: by and in those that the lab has.
    """

    rebuild: int = 0
    repeat: int = 0
    environment: str = ""
    boot_environment: str = ""
    host: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One try of a source. ``build`` and ``boot`` are digests of recipes.

    ``until`` is the milestone that ends it: CHECKOUT for an application alone, LINKED for a build
    without a boot, COLLECTED for all of it.
    """

    source: Source
    build: str
    boot: str
    until: Milestone = Milestone.COLLECTED
    sample: Sample = Sample()

    @property
    def commit(self) -> str:
        """The commit that everything else is put upon."""
        return self.source.base

    @property
    def is_control(self) -> bool:
        """Whether no series of ours is applied."""
        return self.source.series is None

    def of(self, commit: str) -> Trial:
        """The same trial of another commit."""
        return replace(self, source=self.source.on(commit))

    def again(self, *, rebuild: int = 0, repeat: int = 0) -> Trial:
        """Another sample of the same trial."""
        return replace(self, sample=replace(self.sample, rebuild=rebuild, repeat=repeat))
