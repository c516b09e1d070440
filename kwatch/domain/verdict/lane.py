# SPDX-License-Identifier: GPL-2.0-or-later
"""A lane: one tree in one variant, a row of the matrix for ever; and what its tags gave."""

from __future__ import annotations

from dataclasses import dataclass

from kwatch.domain.milestone import Milestone
from kwatch.domain.source.tag_order import branch_of
from kwatch.domain.trial.seen import Seen
from kwatch.domain.trial.trial import Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """A tree and the name of a variant. Its history goes on when the variant changes."""

    tree: str
    variant: str

    def __str__(self) -> str:
        return f"{self.tree}/{self.variant}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A branch of a lane: tags that follow each other (see domain/source/tag_order)."""

    lane: Lane
    branch: str

    @property
    def place(self) -> tuple[str, str]:
        """Tree and branch, whatever the variant."""
        return self.lane.tree, self.branch


@dataclass(frozen=True, slots=True, kw_only=True)
class TagRun:
    """A tag of a lane and what its trial showed; ``seen`` is None while it is not settled.

    ``revision`` and ``number`` are the numbers of the revision and of the trial.
    """

    revision: int
    tag: str
    number: int
    trial: Trial
    seen: Seen | None

    @property
    def commit(self) -> str:
        """The tagged commit."""
        return self.trial.commit

    @property
    def branch(self) -> str:
        """The branch that the tag is on."""
        return branch_of(self.tag)


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """Everything but the commit that a result depends on. Results compare within one epoch."""

    series: str | None
    build: str
    boot: str
    environment: str
    boot_environment: str = ""


def epoch_of(
    trial: Trial, environment: str, boot_environment: str = "", *, until: Milestone
) -> Epoch:
    """The epoch of a trial: what its result depends on as far as ``until``."""
    is_built, is_booted = until > Milestone.CHECKOUT, until > Milestone.LINKED
    return Epoch(
        series=trial.source.series,
        build=trial.build if is_built else "",
        boot=trial.boot if is_booted else "",
        environment=environment if is_built else "",
        boot_environment=boot_environment if is_booted else "",
    )


def epoch_of_run(run: TagRun, *, until: Milestone) -> Epoch:
    """The epoch of a tag's result."""
    seen = run.seen
    environments = (seen.environment, seen.boot_environment) if seen else ("", "")
    return epoch_of(run.trial, *environments, until=until)
