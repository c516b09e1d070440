# SPDX-License-Identifier: GPL-2.0-or-later
"""How a boot is watched: what its result does not depend on, so it is in no digest."""

from __future__ import annotations

from dataclasses import dataclass, field

from kwatch.domain.boot.phase import Deadlines
from kwatch.domain.recipe.boot import Accelerator, BootRecipe


@dataclass(frozen=True, slots=True, kw_only=True)
class BootCare:
    """Deadlines, limits and what is recorded.

    Each of the recipe's commands is ended after ``command_timeout`` seconds. ``console_limit``,
    ``channel_limit`` and ``dump_limit`` are bytes: the memory of a guest that died silently is
    kept, compressed, if it is no more than ``dump_limit``; 0: never.
    """

    command_timeout: float = 300.0
    deadlines: Deadlines = field(default_factory=Deadlines)
    sample_vcpus: bool = True
    console_limit: int = 64 << 20
    channel_limit: int = 1 << 30
    dump_limit: int = 0

    def slowness(self, accelerator: Accelerator) -> float:
        """The factor on all deadlines under ``accelerator``."""
        return self.deadlines.tcg_factor if accelerator is Accelerator.TCG else 1.0

    def total_deadline(self, accelerator: Accelerator) -> float:
        """Seconds after which a boot under ``accelerator`` is over in any case."""
        return self.deadlines.total * self.slowness(accelerator)


@dataclass(frozen=True, slots=True, kw_only=True)
class BootProfile:
    """One boot as it is asked for: what is booted, and how it is watched."""

    recipe: BootRecipe = field(default_factory=BootRecipe)
    care: BootCare = field(default_factory=BootCare)
