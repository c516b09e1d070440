# SPDX-License-Identifier: GPL-2.0-or-later
"""Stories of a lab that never was, for the tests of reports."""

from __future__ import annotations

from dataclasses import replace

from kwatch.domain.coverage.figures import Count as Figure
from kwatch.domain.coverage.figures import Totals
from kwatch.domain.finding import Finding, FindingKind, Severity
from kwatch.domain.mail.story import (
    Attachment,
    BisectionStep,
    Configuration,
    Correspondence,
    Release,
    ReportKind,
    Story,
    Tested,
    ThreadMail,
)
from kwatch.domain.milestone import Milestone
from kwatch.domain.source.commit import CommitInfo
from kwatch.domain.source.series import Series
from kwatch.domain.verdict.bisect.commits import Mark
from kwatch.domain.verdict.blame import Blame
from kwatch.domain.verdict.grade import CleanBuilds, Count, Grade
from kwatch.domain.verdict.lane import Lane, Line, TagRun
from kwatch.domain.verdict.problem import Facet
from kwatch.domain.verdict.question import Verdict
from kwatch.domain.verdict.regression import Presence, Regression, RegressionState
from tests.unit.domain.trials import PASSED, failed, trial

GOOD, BAD, FIXED, AGAIN = "1" * 40, "2" * 40, "f" * 40, "e" * 40
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
    kind=FindingKind.SILENT_HANG,
    title="silent hang: page fault in startup_counters",
    evidence=(
        "CPU 0: halted at early_fixup_exception+0x6f, interrupts off",
        "Exception: page fault at startup_counters+0x8",
        "           movl 0x10(%rdi), %edx   with %rdi = 0x0",
        "           read from 0x10: page not present",
        "Call trace:",
        "  setup_arch+0x53",
        "  start_kernel+0x71",
        "End of the kernel log buffer:",
        "  [    0.000000] Linux version 6.18.0-rc6-next-20261117",
    ),
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
    lane=Lane(tree="linux-next", variant="x86_64-mcdc"),
    facet=Facet.FAILURE,
    finding=HANG,
    milestone=Milestone.LINKED,
    good=TagRun(revision=1, tag="next-20261116", number=1, trial=trial(GOOD), seen=PASSED),
    bad=TagRun(
        revision=2,
        tag="next-20261117",
        number=2,
        trial=trial(BAD),
        seen=failed(HANG, Milestone.LINKED),
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
    mark: Mark,
    *,
    is_control: bool = False,
    is_clean: bool = False,
    other: str | None = None,
) -> Tested:
    return Tested(
        what=what, commit=commit, is_control=is_control, is_clean=is_clean, mark=mark, other=other
    )


ENDPOINTS = (
    proof("first bad tag", BAD, Mark.BAD),
    proof("first bad tag", BAD, Mark.BAD),
    proof("last good tag", GOOD, Mark.GOOD),
    proof("last good tag", GOOD, Mark.GOOD),
    proof("first bad tag", BAD, Mark.BAD, is_control=True),
)
REBUILT = (
    proof("first bad commit", CULPRIT, Mark.BAD),
    proof("first bad commit", CULPRIT, Mark.BAD, is_clean=True),
    proof("its parent", PARENT, Mark.GOOD, is_clean=True),
)

NEW = Story(
    notice=41,
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
        where="https://lab.example.org/build/42/config",
    ),
    booted_in=(
        "QEMU emulator version 10.0.8 (Debian 1:10.0.8+ds-0+deb13u1), kvm,"
        " on Linux 6.12.57+deb13-amd64"
    ),
    toolchain=(
        "clang 22.1.8 (Debian clang version 22.1.8)",
        "LLD 22.1.8 (compatible with GNU linkers)",
    ),
    reproduce=(
        "git fetch https://git.example.org/linux-next.git tag next-20261117",
        "git checkout next-20261117",
        "curl -fo .config https://lab.example.org/build/42/config",
        "make LLVM=-22 olddefconfig",
        "make LLVM=-22 -j$(nproc) bzImage",
        (
            "qemu-system-x86_64 -display none -nodefaults -M q35 -cpu host -enable-kvm -m 8G -smp 8"
            " -append 'console=ttyS0 earlycon=uart8250,io,0x3f8' -kernel arch/x86/boot/bzImage"
            " -initrd initramfs.cpio.gz -serial stdio"
        ),
    ),
    status_url="https://lab.example.org/regression/17",
)

ROOT = ThreadMail(
    message_id="20261117.r17.1.aaaa0001@lab.example.org",
    subject=(
        "[kwatch] next-20261117: x86_64 boot: silent hang: page fault in startup_counters (tree)"
    ),
)

BISECTED = replace(
    NEW,
    notice=42,
    kind=ReportKind.BISECTED,
    at=1795003200.0,
    verdict=Verdict.FOUND,
    culprit=COMMIT,
    grade=Grade.VERIFIED,
    clean=CleanBuilds(culprit=Count(bad=5), parents=Count(good=6)),
    proof=ENDPOINTS + REBUILT,
    steps=(
        BisectionStep(commit="a1" * 20, subject="Merge branch 'master'", mark=Mark.BAD),
        BisectionStep(commit="a2" * 20, subject="x86/mm: Sort the table", mark=Mark.UNTESTABLE),
        BisectionStep(commit=CULPRIT, subject=COMMIT.subject, mark=Mark.BAD),
        BisectionStep(commit=PARENT, subject="x86/boot: Name the section", mark=Mark.GOOD),
    ),
    thread=(ROOT,),
    told=("linux-next@example.org", "regressions@example.org", "owner@example.org"),
)

INCONCLUSIVE = replace(
    BISECTED,
    kind=ReportKind.INCONCLUSIVE,
    verdict=Verdict.AMBIGUOUS,
    culprit=None,
    grade=None,
    clean=None,
    candidates=(
        COMMIT,
        replace(COMMIT, commit="a3" * 20, subject="x86/boot: Rename the counters"),
    ),
    proof=ENDPOINTS,
)

MENDED = replace(
    BISECTED,
    notice=43,
    kind=ReportKind.FIXED,
    at=1795089600.0,
    verdict=Verdict.FIXED,
    fixed=TagRun(revision=3, tag="next-20261118", number=3, trial=trial(FIXED), seen=PASSED),
    proof=(
        proof("fixed tag", FIXED, Mark.GOOD),
        proof("fixed tag", FIXED, Mark.GOOD),
    ),
    coverage_before=Totals(
        lines=Figure(covered=310_402, total=1_204_551),
        functions=Figure(covered=20_118, total=71_002),
        branches=Figure(covered=88_120, total=604_220),
        mcdc=Figure(covered=10_240, total=140_020),
    ),
    coverage_after=Totals(
        lines=Figure(covered=311_000, total=1_205_002),
        functions=Figure(covered=20_130, total=71_050),
        branches=Figure(covered=88_300, total=604_400),
        mcdc=Figure(covered=10_262, total=140_100),
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
        bad=replace(REGRESSION.bad, seen=failed(PANIC, Milestone.KERNEL)),
    ),
    proof=(
        *ENDPOINTS[:4],
        proof("first bad tag", BAD, Mark.GOOD, is_control=True),
    ),
    configuration=replace(NEW.configuration, where="config") if NEW.configuration else None,
    attachments=(
        Attachment(name="config", content=b"CONFIG_X86_64=y\n# CONFIG_MODULES is not set\n"),
        Attachment(name="series.mbox", content=b"From nobody Mon Sep 17 00:00:00 2001\nFrom: x\n"),
    ),
    reproduce=(
        NEW.reproduce[0],
        NEW.reproduce[1],
        "git am -3 series.mbox",
        "cp config .config",
        *NEW.reproduce[3:],
    ),
)

RETRACTED = replace(
    MENDED,
    kind=ReportKind.RETRACTED,
    verdict=Verdict.BASELINE_FAILS,
    fixed=None,
    coverage_before=None,
    coverage_after=None,
    proof=(proof("last good tag", GOOD, Mark.BAD),),
)

BACK = replace(
    MENDED,
    notice=44,
    kind=ReportKind.REAPPEARED,
    at=1795176000.0,
    verdict=None,
    again=TagRun(
        revision=4,
        tag="next-20261119",
        number=4,
        trial=trial(AGAIN),
        seen=failed(replace(HANG, evidence=HANG.evidence[:2]), Milestone.LINKED),
    ),
    coverage_before=None,
    coverage_after=None,
    proof=(
        proof("fixed tag", FIXED, Mark.GOOD),
        proof("tag with it again", AGAIN, Mark.BAD),
    ),
)

_MAINLINE = Presence(
    line=Line(lane=Lane(tree="mainline", variant="x86_64-mcdc"), branch="v"),
    good=TagRun(revision=5, tag="v6.19-rc1", number=5, trial=trial("5" * 40), seen=PASSED),
    bad=TagRun(
        revision=6,
        tag="v6.19-rc2",
        number=6,
        trial=trial("6" * 40),
        seen=failed(replace(HANG, evidence=HANG.evidence[:2]), Milestone.LINKED),
    ),
)
ELSEWHERE = replace(
    MENDED,
    notice=45,
    kind=ReportKind.SPREAD,
    verdict=None,
    fixed=None,
    place=_MAINLINE,
    coverage_before=None,
    coverage_after=None,
    proof=(),
)
GONE_HERE = replace(MENDED, notice=46, kind=ReportKind.GONE, others=(_MAINLINE,))

LOCKDEP = Finding(
    kind=FindingKind.LOCKDEP,
    title="possible circular locking dependency detected in counters_open",
    severity=Severity.WARNING,
    excerpt=(
        "[    2.113402] WARNING: possible circular locking dependency detected",
        "[    2.113977] init/1 is trying to acquire lock:",
    ),
)
WARNING = replace(
    NEW,
    regression=replace(
        REGRESSION,
        facet=Facet.WARNING,
        finding=LOCKDEP,
        milestone=Milestone.COLLECTED,
        bad=replace(REGRESSION.bad, seen=replace(PASSED, others=(LOCKDEP,))),
    ),
)
CASE = Finding(
    kind=FindingKind.TEST,
    title="list_sort.list_sort_test fails",
    severity=Severity.WARNING,
    excerpt=("not ok list_sort.list_sort_test",),
)
TEST = replace(
    NEW,
    regression=replace(
        REGRESSION,
        facet=Facet.TEST,
        finding=CASE,
        milestone=Milestone.COLLECTED,
        bad=replace(REGRESSION.bad, seen=replace(PASSED, others=(CASE,))),
    ),
)
UNKNOWN = replace(
    NEW,
    blame=Blame.UNKNOWN,
    proof=(
        *ENDPOINTS[:4],
        proof("first bad tag", BAD, Mark.UNTESTABLE, is_control=True, other=PANIC.title),
    ),
)
CHANGED = replace(
    NEW,
    blame=Blame.TOOLCHAIN,
    verdict=Verdict.CHANGED,
    proof=(
        *ENDPOINTS[:2],
        proof("last good tag, as tested then", GOOD, Mark.GOOD),
        proof("last good tag", GOOD, Mark.BAD),
    ),
)

STORIES = {
    "new-tree": NEW,
    "new-series": SERIES_FAULT,
    "bisected": BISECTED,
    "inconclusive": INCONCLUSIVE,
    "fixed": MENDED,
    "retracted": RETRACTED,
    "reappeared": BACK,
    "warning": WARNING,
    "test": TEST,
    "unknown": UNKNOWN,
    "changed": CHANGED,
    "spread": ELSEWHERE,
    "gone": GONE_HERE,
}
