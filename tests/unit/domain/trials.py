# SPDX-License-Identifier: GPL-2.0-or-later
"""Variants, findings and results of steps, for tests of what is decided from them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from kwatch.domain.boot.watch import BootProfile
from kwatch.domain.coverage.figures import Count, Coverage, FileCoverage, Origin, Totals
from kwatch.domain.finding import Finding, FindingKind
from kwatch.domain.lab.job import JobKind
from kwatch.domain.milestone import Milestone
from kwatch.domain.recipe.kconfig import KconfigRecipe
from kwatch.domain.recipe.toolchain import Toolchain
from kwatch.domain.recipe.variant import Variant
from kwatch.domain.source.series import PatchFate, PatchResult, Series, series_digest
from kwatch.domain.trial.observation import (
    BootResult,
    BuildResult,
    CheckoutResult,
    Collection,
    Outcome,
    Steps,
    Trial,
    keys_of,
)
from kwatch.domain.verdict.investigation import Evidence

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
VARIANT = Variant(
    name="x86_64-mcdc",
    arch="x86_64",
    series=SERIES,
    toolchain=TOOLCHAIN,
    kconfig=KconfigRecipe(base="defconfig", fragments=()),
    profile=BootProfile(name="smoke"),
)
CONTROL = VARIANT.control()

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

PASSED = Evidence(outcome=Outcome.PASS, milestone=Milestone.COLLECTED)
LAB_FAILED = Evidence(outcome=Outcome.INFRA, milestone=Milestone.NOTHING)


def failed(finding: Finding, milestone: Milestone) -> Evidence:
    return Evidence(outcome=Outcome.FAIL, milestone=milestone, finding=finding)


def tree_id(commit: str, variant: Variant) -> str:
    """The tree that a commit has with or without the series."""
    return f"tree-{commit}-{variant.series.digest[:8] if variant.series else 'bare'}"


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
) -> BuildResult:
    return BuildResult(
        key=key,
        milestone=Milestone.CONFIG if finding else Milestone.LINKED,
        finding=finding,
        config_digest="c" * 64,
        dropped=(),
        artifacts=artifacts or {},
        host="builder",
        environment="clang 22",
        took=60.0,
    )


def boot(
    key: str,
    build_key: str,
    *,
    finding: Finding | None = None,
    milestone: Milestone = Milestone.TESTED,
    artifacts: Mapping[str, str] | None = None,
) -> BootResult:
    return BootResult(
        key=key,
        build_key=build_key,
        end="done" if finding is None else "panic",
        milestone=milestone,
        finding=finding,
        artifacts={"console": "0" * 64} if artifacts is None else artifacts,
        host="lab-1",
        accelerator="kvm",
        took=5.0,
        boot_seconds=2.0,
    )


def collection(key: str, *, finding: Finding | None = None) -> Collection:
    return Collection(key=key, finding=finding, coverage=None if finding else COVERAGE, took=3.0)


def steps(
    trial: Trial,
    variant: Variant,
    *,
    until: JobKind,
    profile: bool = True,
) -> Steps:
    """All steps up to and with ``until``, each of them well."""
    found = Steps()
    keys = keys_of(trial, variant, found)
    found = replace(
        found, checkout=checkout(keys[JobKind.CHECKOUT], tree_id(trial.commit, variant))
    )
    if until is JobKind.CHECKOUT:
        return found
    keys = keys_of(trial, variant, found)
    found = replace(found, build=build(keys[JobKind.BUILD]))
    if until is JobKind.BUILD:
        return found
    artifacts = {"profile": "p" * 64} if profile else {}
    found = replace(found, boot=boot(keys[JobKind.BOOT], keys[JobKind.BUILD], artifacts=artifacts))
    if until is JobKind.BOOT:
        return found
    return replace(found, collection=collection(keys[JobKind.COLLECT]))
