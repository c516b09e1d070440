# SPDX-License-Identifier: GPL-2.0-or-later
"""The steps of a trial: immutable results, keyed by their inputs, shared between trials."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kwatch.domain.coverage.figures import Coverage
from kwatch.domain.deadguest.autopsy import Autopsy
from kwatch.domain.digest import digest
from kwatch.domain.finding import Finding
from kwatch.domain.lab.job import JobKind
from kwatch.domain.log.ktap import CaseStatus, CaseUse
from kwatch.domain.milestone import Milestone
from kwatch.domain.source.series import PatchResult
from kwatch.domain.trial.case_results import CaseResults

if TYPE_CHECKING:
    from kwatch.domain.trial.trial import Trial

IMAGE = "image"
"""The name of the artifact that is booted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckoutResult:
    """The source as a commit. ``tree_id`` and ``result`` (a commit) are None if it failed."""

    key: str
    result: str | None
    tree_id: str | None
    patches: tuple[PatchResult, ...]
    finding: Finding | None
    took: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildResult:
    """The result of ``make``.

    ``key`` is that of the inputs (:func:`build_key`); ``environment_digest`` names the tools that
    were used, and both together name the build. ``artifacts`` maps log, config, image, vmlinux and
    system-map to blobs. ``finding`` is what failed it; ``others`` is everything else that the log
    reports, in its order. ``dropped`` are the requested Kconfig lines that did not survive.
    ``available`` is False when the disk budget took the image since: the same inputs in the same
    environment give it again, byte for byte.
    """

    key: str
    milestone: Milestone
    finding: Finding | None
    config_digest: str | None
    dropped: tuple[str, ...]
    artifacts: Mapping[str, str]
    host: str
    environment: str
    environment_digest: str = ""
    took: float
    others: tuple[Finding, ...] = ()
    available: bool = True

    @property
    def row(self) -> str:
        """The key of the build in its environment."""
        return build_row(self.key, self.environment_digest)


@dataclass(frozen=True, slots=True, kw_only=True)
class BootResult:
    """One boot: a sample, of one boot environment.

    ``key`` is that of the inputs (:func:`boot_key`) in the environment (:func:`boot_row`), which
    ``environment`` describes.
    ``end`` is the boot's end (domain/boot/ending); ``artifacts`` maps console and profile to blobs.
    ``finding`` is what failed it, ``others`` everything else that the console reports.
    ``boot_seconds`` is the time from power-on to the guest's first message. ``statuses`` are the
    exit statuses of the guest's commands, by number; ``autopsy`` is of a guest that ended silently,
    and ``names`` are those of bare addresses on its console. ``phases`` are the seconds of each
    phase that ended. ``tests`` counts test results, ``cases`` has their names; ``test_results``
    says what they count for.
    ``build`` is the :attr:`BuildResult.row` whose image was booted.
    """

    key: str
    build: str
    end: str
    milestone: Milestone
    finding: Finding | None
    artifacts: Mapping[str, str]
    host: str
    accelerator: str
    took: float
    others: tuple[Finding, ...] = ()
    environment: str = ""
    boot_seconds: float | None = None
    statuses: Mapping[int, int] = field(default_factory=dict)
    autopsy: Autopsy | None = None
    names: Mapping[int, str] = field(default_factory=dict)
    phases: Mapping[str, float] = field(default_factory=dict)
    tests: Mapping[CaseStatus, int] = field(default_factory=dict)
    cases: CaseResults = field(default_factory=CaseResults)
    test_results: CaseUse = CaseUse.RECORD

    @property
    def inputs(self) -> str:
        """The key of the inputs, whatever the environment."""
        return inputs_of(self.key)

    @property
    def environment_digest(self) -> str:
        """The environment that the boot was made in."""
        return environment_of(self.key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """The coverage of one boot, or why there is none. ``key`` is the boot's."""

    key: str
    finding: Finding | None
    coverage: Coverage | None
    took: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """That coverage was collected, without its figures: all that the route needs to know."""

    finding: Finding | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """The results of a trial so far."""

    checkout: CheckoutResult | None = None
    build: BuildResult | None = None
    boot: BootResult | None = None
    collection: Collected | None = None


def build_key(tree_id: str, trial: Trial) -> str:
    """Tree + recipe + rebuild."""
    return digest(
        "build inputs",
        1,
        {"tree": tree_id, "recipe": trial.build, "rebuild": trial.sample.rebuild},
    )


def build_row(key: str, environment: str) -> str:
    """The build of these inputs by these tools."""
    return f"{key}@{environment}" if environment else key


def boot_row(key: str, environment: str) -> str:
    """The boot of these inputs in this environment."""
    return f"{key}@{environment}" if environment else key


def inputs_of(row: str) -> str:
    """The inputs of a build or boot."""
    return row.partition("@")[0]


def environment_of(row: str) -> str:
    """The environment of a build or boot; empty where none is named."""
    return row.partition("@")[2]


def boot_key(image: str, trial: Trial) -> str:
    """Image + recipe + sample. Two builds with one image share their boots."""
    return digest(
        "boot inputs",
        1,
        {
            "image": image,
            "recipe": trial.boot,
            "rebuild": trial.sample.rebuild,
            "repeat": trial.sample.repeat,
            "host": trial.sample.host,
        },
    )


def keys_of(trial: Trial, steps: Steps) -> dict[JobKind, str]:
    """The keys of all steps whose inputs are known."""
    keys = {JobKind.CHECKOUT: trial.source.key}
    if steps.checkout and steps.checkout.tree_id:
        key = build_key(steps.checkout.tree_id, trial)
        keys[JobKind.BUILD] = build_row(key, trial.sample.environment)
    if steps.build and IMAGE in steps.build.artifacts:
        key = boot_key(steps.build.artifacts[IMAGE], trial)
        keys[JobKind.BOOT] = boot_row(key, trial.sample.boot_environment)
    if steps.boot:
        keys[JobKind.COLLECT] = steps.boot.key
    return keys
