# SPDX-License-Identifier: GPL-2.0-or-later
"""Stories of a lab that never was, for the tests of reports."""

from __future__ import annotations

from dataclasses import replace

from kwatch.domain.coverage.figures import Count, Totals
from kwatch.domain.finding import Finding, FindingKind
from kwatch.domain.mail.story import (
    BisectionStep,
    CommitInfo,
    Configuration,
    Correspondence,
    Elsewhere,
    Proof,
    Release,
    ReportKind,
    Story,
    ThreadMail,
)
from kwatch.domain.milestone import Milestone
from kwatch.domain.source.series import Series
from kwatch.domain.trial.observation import Outcome
from kwatch.domain.verdict.blame import Blame
from kwatch.domain.verdict.investigation import Verdict
from kwatch.domain.verdict.regression import Regression, RegressionState, TagResult

GOOD, BAD, FIXED = "1" * 40, "2" * 40, "f" * 40
CULPRIT, PARENT = "3f2a1b4c5d6e7f80" + "0" * 24, "77aa00bb11cc22dd" + "0" * 24

LAB = Correspondence(
    from_name="kwatch",
    from_address="kwatch@lab.example.org",
    message_id_domain="lab.example.org",
    owner="owner@example.org",
    tree_mail_to=("linux-next@example.org", "regressions@example.org"),
    series_mail_to=("author@example.org",),
    archive="https://lore.example.org/all/",
    series_archive="https://lore.example.org/llvm",
    regzbot=True,
    release=Release.AUTOMATIC,
)

HANG = Finding(
    kind=FindingKind.SILENT_HANG, title="silent hang before the first line of the kernel"
)
PANIC = Finding(
    kind=FindingKind.PANIC,
    title="Kernel panic - not syncing: Attempted to kill init!",
    excerpt=(
        "[    1.204811] Run /init as init process",
        "[    1.207320] Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b",
        "[    1.208112] CPU: 0 UID: 0 PID: 1 Comm: init Not tainted",
    ),
)

REGRESSION = Regression(
    id=17,
    tree="linux-next",
    variant="d" * 64,
    variant_name="x86_64-mcdc",
    finding=HANG,
    milestone=Milestone.LINKED,
    good=TagResult(
        tag="next-20261116", commit=GOOD, outcome=Outcome.PASS, milestone=Milestone.COLLECTED
    ),
    bad=TagResult(
        tag="next-20261117",
        commit=BAD,
        outcome=Outcome.FAIL,
        milestone=Milestone.LINKED,
        finding=HANG,
    ),
    state=RegressionState.CONFIRMED,
    opened_at=1794960000.0,
)

COMMIT = CommitInfo(
    commit=CULPRIT,
    subject="x86/boot: Move the early counters behind the relocation",
    author_name="Commit Author",
    author_address="commit.author@example.org",
    signers=(
        ("Commit Author", "commit.author@example.org"),
        ("Mäintainer of the Tree", "maintainer@example.org"),
    ),
    parents=(PARENT,),
    files=("arch/x86/boot/startup/counters.c",),
)


def proof(
    what: str,
    commit: str,
    outcome: Outcome,
    *,
    is_control: bool = False,
    rebuild: int = 0,
    repeat: int = 0,
    title: str | None = None,
) -> Proof:
    has_failed = outcome is Outcome.FAIL
    return Proof(
        what=what,
        commit=commit,
        variant_name="x86_64-mcdc",
        is_control=is_control,
        rebuild=rebuild,
        repeat=repeat,
        outcome=outcome,
        milestone=Milestone.LINKED if has_failed else Milestone.COLLECTED,
        title=title or (HANG.title if has_failed else None),
    )


ENDPOINTS = (
    proof("first bad tag", BAD, Outcome.FAIL),
    proof("first bad tag", BAD, Outcome.FAIL, repeat=1),
    proof("last good tag", GOOD, Outcome.PASS),
    proof("last good tag", GOOD, Outcome.PASS, repeat=1),
    proof("first bad tag", BAD, Outcome.FAIL, is_control=True),
)
REBUILT = (
    proof("first bad commit", CULPRIT, Outcome.FAIL),
    proof("first bad commit", CULPRIT, Outcome.FAIL, rebuild=1),
    proof("its parent", PARENT, Outcome.PASS, rebuild=1),
)

NEW = Story(
    event=41,
    kind=ReportKind.NEW,
    at=1794981600.0,
    regression=REGRESSION,
    arch="x86_64",
    tree_url="https://git.example.org/linux-next.git",
    blame=Blame.TREE,
    proof=ENDPOINTS,
    suspects=212,
    series=Series(
        name="mcdc",
        digest="c0ffee00" * 8,
        title="Enable measuring the kernel's source-based code coverage and MC/DC",
        origin="20261101120000.1-author@example.org",
        patches=4,
        accepted_by="owner",
        posted_at=1793530800.0,
    ),
    configuration=Configuration(
        base="defconfig",
        fragments=("kwatch/mcdc.config",),
        digest="beef" * 16,
        dropped=("CONFIG_LLVM_COV_PROFILE_ALL=y",),
    ),
    toolchain=(
        "clang 22.1.8 (Debian clang version 22.1.8)",
        "LLD 22.1.8 (compatible with GNU linkers)",
    ),
    elsewhere=(
        Elsewhere(
            tree="mainline",
            tag="v6.18-rc6",
            variant_name="x86_64-mcdc",
            outcome=Outcome.PASS,
        ),
    ),
    reproduce=(
        "git fetch https://git.example.org/linux-next.git tag next-20261117",
        "git checkout next-20261117",
        "make LLVM=-22 defconfig",
        "./scripts/kconfig/merge_config.sh .config mcdc.config && make LLVM=-22 olddefconfig",
        "make LLVM=-22 -j$(nproc) bzImage",
        (
            "qemu-system-x86_64 -display none -nodefaults -M q35 -cpu host -enable-kvm -m 8G -smp 8"
            " -append 'console=ttyS0 earlycon=uart8250,io,0x3f8' -kernel arch/x86/boot/bzImage"
            " -initrd rootfs.cpio -serial stdio"
        ),
    ),
    status_url="https://lab.example.org/regression/17",
)

ROOT = ThreadMail(
    message_id="20261117.r17.1.aaaa0001@lab.example.org",
    subject=(
        "[kwatch] next-20261117: x86_64 boot: silent hang before the first line of the kernel"
        " (tree)"
    ),
)

BISECTED = replace(
    NEW,
    event=42,
    kind=ReportKind.BISECTED,
    at=1795003200.0,
    verdict=Verdict.FOUND,
    culprit=COMMIT,
    proof=ENDPOINTS + REBUILT,
    steps=(
        BisectionStep(commit="a1" * 20, subject="Merge branch 'master'", outcome=Outcome.FAIL),
        BisectionStep(commit="a2" * 20, subject="x86/mm: Sort the table", outcome=Outcome.PASS),
        BisectionStep(commit=CULPRIT, subject=COMMIT.subject, outcome=Outcome.FAIL),
        BisectionStep(commit=PARENT, subject="x86/boot: Name the section", outcome=Outcome.PASS),
    ),
    thread=(ROOT,),
    told=("linux-next@example.org", "regressions@example.org", "owner@example.org"),
)

INCONCLUSIVE = replace(
    BISECTED,
    kind=ReportKind.INCONCLUSIVE,
    verdict=Verdict.AMBIGUOUS,
    culprit=None,
    candidates=(
        COMMIT,
        replace(COMMIT, commit="a3" * 20, subject="x86/boot: Rename the counters"),
    ),
    proof=ENDPOINTS,
)

MENDED = replace(
    BISECTED,
    event=43,
    kind=ReportKind.FIXED,
    at=1795089600.0,
    verdict=Verdict.FIXED,
    fixed=TagResult(
        tag="next-20261118", commit=FIXED, outcome=Outcome.PASS, milestone=Milestone.COLLECTED
    ),
    proof=(
        proof("the new tag", FIXED, Outcome.PASS),
        proof("the new tag", FIXED, Outcome.PASS, repeat=1),
    ),
    coverage_before=Totals(
        lines=Count(covered=310_402, total=1_204_551),
        functions=Count(covered=20_118, total=71_002),
        branches=Count(covered=88_120, total=604_220),
        mcdc=Count(covered=10_240, total=140_020),
    ),
    coverage_after=Totals(
        lines=Count(covered=311_000, total=1_205_002),
        functions=Count(covered=20_130, total=71_050),
        branches=Count(covered=88_300, total=604_400),
        mcdc=Count(covered=10_262, total=140_100),
    ),
    thread=(
        ROOT,
        ThreadMail(
            message_id="20261118.r17.2.aaaa0002@lab.example.org", subject=f"Re: {ROOT.subject}"
        ),
    ),
    told=(
        "commit.author@example.org",
        "linux-next@example.org",
        "regressions@example.org",
        "owner@example.org",
    ),
)

SERIES_FAULT = replace(
    NEW,
    blame=Blame.SERIES,
    regression=replace(
        REGRESSION,
        finding=PANIC,
        milestone=Milestone.KERNEL,
        bad=replace(REGRESSION.bad, finding=PANIC, milestone=Milestone.KERNEL),
    ),
    proof=(
        *(replace(row, title=PANIC.title if row.title else None) for row in ENDPOINTS[:4]),
        proof("first bad tag", BAD, Outcome.PASS, is_control=True),
    ),
)

RETRACTED = replace(
    MENDED,
    kind=ReportKind.RETRACTED,
    verdict=Verdict.BASELINE_FAILS,
    fixed=None,
    coverage_before=None,
    coverage_after=None,
    proof=(proof("last good tag", GOOD, Outcome.FAIL, repeat=1),),
)

STORIES = {
    "new-tree": NEW,
    "new-series": SERIES_FAULT,
    "bisected": BISECTED,
    "inconclusive": INCONCLUSIVE,
    "fixed": MENDED,
    "retracted": RETRACTED,
}
