# SPDX-License-Identifier: GPL-2.0-or-later
"""Variants, findings and results of steps, for tests of what is decided from them."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

from kwatch.domain.boot.care import BootProfile
from kwatch.domain.coverage.figures import Count, Coverage, FileCoverage, Origin, Totals
from kwatch.domain.finding import Finding, FindingKind
from kwatch.domain.lab.job import JobKind
from kwatch.domain.milestone import Milestone
from kwatch.domain.recipe.boot import BootRecipe
from kwatch.domain.recipe.build import BuildRecipe
from kwatch.domain.recipe.kconfig import KconfigRecipe
from kwatch.domain.recipe.toolchain import Toolchain
from kwatch.domain.source.series import PatchFate, PatchResult, Series, series_digest
from kwatch.domain.source.source import Source, with_series
from kwatch.domain.trial.case_results import CaseResults
from kwatch.domain.trial.route import Outcome
from kwatch.domain.trial.seen import Seen
from kwatch.domain.trial.steps import (
    BootResult,
    BuildResult,
    CheckoutResult,
    Collected,
    Collection,
    Steps,
    build_key,
    keys_of,
)
from kwatch.domain.trial.trial import Sample, Trial
from kwatch.domain.trial.variant import Variant
from kwatch.domain.verdict.lane import Lane

if TYPE_CHECKING:
    from collections.abc import Mapping

MBOX = b"From 0 Mon Sep 17 00:00:00 2001\nSubject: [PATCH] one\n\nbody\n"
SERIES = Series(
    name="mcdc",
    digest=series_digest(MBOX),
    title="Source-based coverage",
    origin="root@example.org",
    patches=1,
    accepted_by="operator@example.org",
    posted_at=1_000.0,
)
TOOLCHAIN = Toolchain(
    name="llvm-22",
    llvm_suffix="-22",
    compiler="clang-22",
    linker_objects="ld.lld-22",
    linker="ld.lld-22",
)
BUILD = BuildRecipe(
    arch="x86_64",
    kconfig=KconfigRecipe(base="defconfig", fragments=()),
    toolchain=TOOLCHAIN,
)
BOOT = BootRecipe()
VARIANT = Variant(name="x86_64-mcdc", series="mcdc", build=BUILD, boot=BootProfile(recipe=BOOT))
CONTROL = Variant(name="x86_64", series=None, build=BUILD, boot=BootProfile(recipe=BOOT))
ENVIRONMENT = "e" * 16
LANE = Lane(tree="linux-next", variant=VARIANT.name)


def trial(
    commit: str = "a" * 40, *, series: str | None = SERIES.digest, **sample: int | str
) -> Trial:
    """A trial of a commit by the recipes above; ``series`` None: of the control."""
    return Trial(
        source=with_series(commit, series),
        build=BUILD.digest,
        boot=BOOT.digest,
        sample=Sample(**sample),  # type: ignore[arg-type]
    )


APPLY = Finding(kind=FindingKind.APPLY, title="patch 1/1 does not apply: one")
COMPILE = Finding(kind=FindingKind.COMPILE, title="kernel/fork.c: use of undeclared identifier")
HANG = Finding(kind=FindingKind.SILENT_HANG, title="silent hang before the first line")
PANIC = Finding(kind=FindingKind.PANIC, title="Attempted to kill init!")
NO_COVERAGE = Finding(kind=FindingKind.COVERAGE, title="the profile is cut short")

COUNT = Count(covered=1, total=2)
COVERAGE = Coverage(
    files=(
        FileCoverage(
            path="kernel/fork.c",
            origin=Origin.SOURCE,
            lines=COUNT,
            functions=COUNT,
            branches=COUNT,
            mcdc=COUNT,
        ),
    ),
    totals=Totals(lines=COUNT, functions=COUNT, branches=COUNT, mcdc=COUNT),
)

PASSED = Seen(outcome=Outcome.PASS, milestone=Milestone.COLLECTED)
LAB_FAILED = Seen(outcome=Outcome.INFRA, milestone=Milestone.NOTHING, tries=3)


def failed(finding: Finding, milestone: Milestone) -> Seen:
    return Seen(outcome=Outcome.FAIL, milestone=milestone, finding=finding)


def tree_id(source: Source) -> str:
    """The tree of a source."""
    return f"tree-{source.base}-{(source.series or 'bare')[:8]}"


def checkout(key: str, tree: str | None) -> CheckoutResult:
    """A checkout that gave ``tree``, or one that failed where it is None."""
    return CheckoutResult(
        key=key,
        result=None if tree is None else f"commit-of-{tree}",
        tree_id=tree,
        patches=(
            PatchResult(
                subject="one", fate=PatchFate.CONFLICT if tree is None else PatchFate.APPLIED
            ),
        ),
        finding=APPLY if tree is None else None,
        took=1.0,
    )


def build(
    key: str,
    *,
    finding: Finding | None = None,
    artifacts: Mapping[str, str] | None = None,
    environment: str = ENVIRONMENT,
    others: tuple[Finding, ...] = (),
) -> BuildResult:
    """A build; its image is a digest of its key."""
    if artifacts is None:
        artifacts = {} if finding else {"image": hashlib.sha256(key.encode()).hexdigest()}
    return BuildResult(
        key=key,
        milestone=Milestone.CONFIG if finding else Milestone.LINKED,
        finding=finding,
        config_digest="c" * 64,
        dropped=(),
        artifacts=artifacts,
        host="builder",
        environment="clang 22",
        environment_digest=environment,
        others=others,
        took=60.0,
    )


_NO_CASES = CaseResults()


def boot(
    key: str,
    build: str,
    *,
    finding: Finding | None = None,
    milestone: Milestone = Milestone.TESTED,
    artifacts: Mapping[str, str] | None = None,
    others: tuple[Finding, ...] = (),
    environment: str = "",
    cases: CaseResults = _NO_CASES,
) -> BootResult:
    return BootResult(
        key=key,
        build=build,
        end="done" if finding is None else "panic",
        milestone=milestone,
        finding=finding,
        artifacts={"console": "0" * 64} if artifacts is None else artifacts,
        host="lab-1",
        accelerator="kvm",
        took=5.0,
        boot_seconds=2.0,
        others=others,
        environment=environment,
        cases=cases,
    )


def collection(key: str, *, finding: Finding | None = None) -> Collection:
    return Collection(key=key, finding=finding, coverage=None if finding else COVERAGE, took=3.0)


def steps(trial: Trial, *, until: JobKind, profile: bool = True) -> Steps:
    """All steps up to and with ``until``, each of them well."""
    found = Steps(checkout=checkout(trial.source.key, tree_id(trial.source)))
    if until is JobKind.CHECKOUT:
        return found
    found = replace(found, build=build(build_key(tree_id(trial.source), trial)))
    if until is JobKind.BUILD:
        return found
    assert found.build is not None
    key = keys_of(trial, found)[JobKind.BOOT]
    artifacts = {"profile": "p" * 64} if profile else {}
    found = replace(found, boot=boot(key, found.build.row, artifacts=artifacts))
    if until is JobKind.BOOT:
        return found
    return replace(found, collection=Collected(finding=None))
