# SPDX-License-Identifier: GPL-2.0-or-later
"""An observation: one trial of commit x variant, and the steps that make it.

:func:`next_step` is the whole route of a kernel. Steps are immutable results, keyed by their
inputs, so that equal work is done once, whoever wants it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from kwatch.domain.coverage.figures import Coverage
from kwatch.domain.deadguest.autopsy import Autopsy
from kwatch.domain.finding import Finding, FindingKind
from kwatch.domain.lab.job import JobKind
from kwatch.domain.log.ktap import CaseStatus, CaseUse
from kwatch.domain.milestone import Milestone
from kwatch.domain.recipe.variant import digest_of
from kwatch.domain.source.series import PatchResult

if TYPE_CHECKING:
    from kwatch.domain.recipe.variant import Variant


class Outcome(StrEnum):
    """What an observation says. INFRA says something about the lab, and is never evidence."""

    PASS = "pass"  # noqa: S105 - a verdict, not a secret
    FAIL = "fail"
    INFRA = "infra"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What is tried. ``variant`` is a variant's digest.

    ``rebuild`` > 0 asks for a build of its own from nothing, ``repeat`` > 0 for another boot of
    the same build, ``host`` for a boot on that host and no other.
    """

    commit: str
    variant: str
    rebuild: int = 0
    repeat: int = 0
    host: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckoutResult:
    """The series on the commit. ``tree_id`` and ``result`` (a commit) are None if it failed."""

    key: str
    result: str | None
    tree_id: str | None
    patches: tuple[PatchResult, ...]
    finding: Finding | None
    took: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildResult:
    """What ``make`` gave. ``artifacts`` maps log, config, image, vmlinux, system-map to blobs.

    ``dropped`` are the lines asked of Kconfig that did not survive. ``available`` is False when
    the disk budget took the image since: the same inputs give it again, byte for byte.
    ``environment`` names the compiler and linkers, ``environment_digest`` identifies all programs
    of the build by version, package and content; "" in results of before it was recorded.
    """

    key: str
    milestone: Milestone
    finding: Finding | None
    config_digest: str | None
    dropped: tuple[str, ...]
    artifacts: Mapping[str, str]
    host: str
    environment: str
    took: float
    available: bool = True
    environment_digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BootResult:
    """One boot: a sample, never shared with another accelerator.

    ``end`` is the word of the boot's end (domain/boot); ``artifacts`` maps console and profile to
    blobs. ``boot_seconds`` is the time from power-on to the guest's first word. ``statuses`` are
    the exit statuses of the guest's commands, by their number; ``autopsy`` is of a guest that ended
    without a word, and ``names`` are those of bare addresses on its console. ``phases`` are the
    seconds of each phase that ended, by its name (domain/phase). ``tests`` counts the results of
    tests that the console tells of; ``test_results`` says what became of them.
    """

    key: str
    build_key: str
    end: str
    milestone: Milestone
    finding: Finding | None
    artifacts: Mapping[str, str]
    host: str
    accelerator: str
    took: float
    boot_seconds: float | None = None
    statuses: Mapping[int, int] = field(default_factory=dict)
    autopsy: Autopsy | None = None
    names: Mapping[int, str] = field(default_factory=dict)
    phases: Mapping[str, float] = field(default_factory=dict)
    tests: Mapping[CaseStatus, int] = field(default_factory=dict)
    test_results: CaseUse = CaseUse.RECORD


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """The coverage of one boot, or why there is none. ``key`` is the boot's."""

    key: str
    finding: Finding | None
    coverage: Coverage | None
    took: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """What is known of a trial so far."""

    checkout: CheckoutResult | None = None
    build: BuildResult | None = None
    boot: BootResult | None = None
    collection: Collection | None = None


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


def checkout_key(trial: Trial, variant: Variant) -> str:
    """Commit + series."""
    series = variant.series.digest if variant.series else None
    return digest_of({"commit": trial.commit, "series": series})


def build_key(tree_id: str, trial: Trial, variant: Variant) -> str:
    """Tree + kconfig recipe + architecture + toolchain + rebuild."""
    return digest_of(
        {
            "tree": tree_id,
            "kconfig": variant.kconfig.digest,
            "arch": variant.arch,
            "toolchain": variant.toolchain,
            "rebuild": trial.rebuild,
        }
    )


def boot_key(build: str, trial: Trial, variant: Variant) -> str:
    """Build + profile + repeat + the host asked for."""
    return digest_of(
        {"build": build, "profile": variant.profile, "repeat": trial.repeat, "host": trial.host}
    )


def keys_of(trial: Trial, variant: Variant, steps: Steps) -> dict[JobKind, str]:
    """The keys of all steps whose inputs are known."""
    keys = {JobKind.CHECKOUT: checkout_key(trial, variant)}
    if steps.checkout and steps.checkout.tree_id:
        keys[JobKind.BUILD] = build_key(steps.checkout.tree_id, trial, variant)
        keys[JobKind.BOOT] = boot_key(keys[JobKind.BUILD], trial, variant)
        keys[JobKind.COLLECT] = keys[JobKind.BOOT]
    return keys


def next_step(trial: Trial, variant: Variant, steps: Steps) -> Step | Settled:
    """The route: what a trial needs next, or how it ended.

    A broken kernel ends here with a finding; it never raises.
    """
    keys = keys_of(trial, variant, steps)
    if steps.checkout is None:
        return Step(kind=JobKind.CHECKOUT, key=keys[JobKind.CHECKOUT])
    if steps.checkout.finding:
        return _failed(Milestone.NOTHING, steps.checkout.finding)
    if steps.build is None:
        return Step(kind=JobKind.BUILD, key=keys[JobKind.BUILD])
    if steps.build.finding:
        return _failed(steps.build.milestone, steps.build.finding)
    if steps.boot is None:
        following = JobKind.BOOT
    elif "profile" in steps.boot.artifacts and variant.wants_coverage and steps.collection is None:
        following = JobKind.COLLECT
    else:
        return _boot_outcome(variant, steps.boot, steps.collection)
    # Both need the kernel: a boot its image, a collection the map in its vmlinux.
    kind = following if steps.build.available else JobKind.BUILD
    return Step(kind=kind, key=keys[kind])


def _boot_outcome(variant: Variant, boot: BootResult, collection: Collection | None) -> Settled:
    if boot.finding:
        return _failed(boot.milestone, boot.finding)
    if collection and collection.finding:
        return _failed(Milestone.TESTED, collection.finding)
    if variant.wants_coverage and collection is None:
        return _failed(
            Milestone.TESTED,
            Finding(kind=FindingKind.COVERAGE, title="no coverage profile came out of the guest"),
        )
    return Settled(
        outcome=Outcome.PASS,
        milestone=Milestone.COLLECTED if collection else Milestone.TESTED,
    )


def _failed(milestone: Milestone, finding: Finding) -> Settled:
    return Settled(outcome=Outcome.FAIL, milestone=milestone, finding=finding)
