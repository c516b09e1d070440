# SPDX-License-Identifier: GPL-2.0-or-later
"""The route of a trial: :func:`next_step` says what it needs next, or how it ended."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from kwatch.domain.finding import Finding, FindingKind
from kwatch.domain.lab.job import JobKind
from kwatch.domain.milestone import Milestone
from kwatch.domain.trial.steps import keys_of

if TYPE_CHECKING:
    from kwatch.domain.trial.steps import BootResult, Collected, Steps
    from kwatch.domain.trial.trial import Trial


class Outcome(StrEnum):
    """How a trial ended. INFRA and REFUSED say nothing about a kernel.

    INFRA: the lab failed; never final. REFUSED: it cannot be tried (a source that needs what is
    not there).
    """

    PASS = "pass"  # noqa: S105 - a verdict, not a secret
    FAIL = "fail"
    INFRA = "infra"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The one thing to do next."""

    kind: JobKind
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """Nothing is left to do."""

    outcome: Outcome
    milestone: Milestone
    finding: Finding | None = None


def next_step(trial: Trial, steps: Steps) -> Step | Settled:
    """The next step of a trial, or its end. A broken kernel ends here with a finding."""
    keys = keys_of(trial, steps)
    if steps.checkout is None:
        return Step(kind=JobKind.CHECKOUT, key=keys[JobKind.CHECKOUT])
    if steps.checkout.finding:
        return _failed(Milestone.NOTHING, steps.checkout.finding)
    if trial.until <= Milestone.CHECKOUT:
        return _passed(Milestone.CHECKOUT)
    if steps.build is None:
        return Step(kind=JobKind.BUILD, key=keys[JobKind.BUILD])
    if steps.build.finding:
        return _failed(steps.build.milestone, steps.build.finding)
    if trial.until <= Milestone.LINKED:
        return _passed(Milestone.LINKED)
    if steps.boot is None:
        following = JobKind.BOOT
    elif "profile" in steps.boot.artifacts and not trial.is_control and steps.collection is None:
        following = JobKind.COLLECT
    else:
        return _boot_outcome(trial, steps.boot, steps.collection)
    # Both need the kernel: a boot its image, a collection the map in its vmlinux.
    kind = following if steps.build.available else JobKind.BUILD
    return Step(kind=kind, key=keys[kind])


def _boot_outcome(trial: Trial, boot: BootResult, collection: Collected | None) -> Settled:
    if boot.finding:
        return _failed(boot.milestone, boot.finding)
    if collection and collection.finding:
        return _failed(Milestone.TESTED, collection.finding)
    if not trial.is_control and collection is None:
        return _failed(
            Milestone.TESTED,
            Finding(kind=FindingKind.COVERAGE, title="no coverage profile came out of the guest"),
        )
    return _passed(Milestone.COLLECTED if collection else Milestone.TESTED)


def _passed(milestone: Milestone) -> Settled:
    return Settled(outcome=Outcome.PASS, milestone=milestone)


def _failed(milestone: Milestone, finding: Finding) -> Settled:
    return Settled(outcome=Outcome.FAIL, milestone=milestone, finding=finding)
