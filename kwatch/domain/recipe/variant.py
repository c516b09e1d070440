# SPDX-License-Identifier: GPL-2.0-or-later
"""What is done with a commit: series or none, architecture, toolchain, kconfig, boot profile."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kwatch.domain.boot.watch import BootProfile
from kwatch.domain.recipe.kconfig import KconfigRecipe
from kwatch.domain.recipe.toolchain import Toolchain
from kwatch.domain.source.series import Series

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One way to test a commit.

    ``series = None`` is the control: without it nobody can tell the tree from our own patches.
    """

    name: str
    arch: str
    series: Series | None
    toolchain: Toolchain
    kconfig: KconfigRecipe
    profile: BootProfile

    @property
    def digest(self) -> str:
        """The identity of the variant: equal digests are comparable over time."""
        return digest_of(
            {
                "arch": self.arch,
                "series": self.series.digest if self.series else None,
                "toolchain": self.toolchain,
                "kconfig": self.kconfig.digest,
                "profile": self.profile,
            }
        )

    @property
    def wants_coverage(self) -> bool:
        """A kernel without the series has no counters to read."""
        return self.series is not None

    def control(self) -> Variant:
        """The same without our patches."""
        return dataclasses.replace(self, series=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantSpec:
    """A variant as the operator configured it: ``series`` is the name of a watched series."""

    name: str
    arch: str
    series: str | None
    toolchain: Toolchain
    kconfig: KconfigRecipe
    profile: BootProfile

    def with_series(self, series: Series | None) -> Variant:
        """The variant with the version of the series that is current."""
        return Variant(
            name=self.name,
            arch=self.arch,
            series=series,
            toolchain=self.toolchain,
            kconfig=self.kconfig,
            profile=self.profile,
        )


def digest_of(value: Mapping[str, object]) -> str:
    """SHA-256 over the canonical JSON of ``value``."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), default=_plain)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    raise TypeError(f"{type(value).__name__} has no place in a digest")
