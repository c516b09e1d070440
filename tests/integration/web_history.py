# SPDX-License-Identifier: GPL-2.0-or-later
"""A history with one of everything, put in by the store's own functions, as the daemon would."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kwatch.domain.boot.care import BootProfile
from kwatch.domain.coverage.figures import Count, Coverage, FileCoverage, Origin, Totals
from kwatch.domain.facts import (
    BaselinesFound,
    Built,
    Heard,
    Investigated,
    Judged,
    Plan,
    Planned,
    Posted,
    Sent,
    Watched,
    Written,
)
from kwatch.domain.finding import Finding, FindingKind
from kwatch.domain.lab.host import Health, HostState
from kwatch.domain.lab.job import GIVE_UP_AFTER, Handle, Job, JobKind, baseline_key
from kwatch.domain.mail.story import Delivery, DeliveryState, Letter, Release, ReportKind
from kwatch.domain.mail.thread import of_regression
from kwatch.domain.milestone import Milestone
from kwatch.domain.recipe.boot import BootRecipe
from kwatch.domain.recipe.build import BuildRecipe
from kwatch.domain.recipe.kconfig import Fragment, KconfigRecipe
from kwatch.domain.recipe.toolchain import Toolchain
from kwatch.domain.source.revision import Revision
from kwatch.domain.source.series import PatchFate, PatchResult, Series
from kwatch.domain.source.source import with_series
from kwatch.domain.trial.steps import BootResult, BuildResult, CheckoutResult, Collection
from kwatch.domain.trial.trial import Sample, Trial
from kwatch.domain.trial.variant import Variant
from kwatch.domain.verdict.blame import Blame
from kwatch.domain.verdict.grade import CleanBuilds, Grade
from kwatch.domain.verdict.grade import Count as Samples
from kwatch.domain.verdict.judge import Gone, Judgement, Opened, Spread
from kwatch.domain.verdict.lane import Lane, TagRun
from kwatch.domain.verdict.problem import Facet
from kwatch.domain.verdict.question import Answer, Ask, Phase, Verdict
from kwatch.store import (
    cursors,
    effects,
    hosts,
    investigations,
    lanes,
    mail,
    notices,
    queue,
    regressions,
    trials,
)

if TYPE_CHECKING:
    from kwatch.domain.facts import Facts
    from kwatch.store.database import Transaction

NOW = 1_795_000_000.0
HOUR = 3600.0
DAY = 86400.0
HOSTILE = '<img src=x onerror=alert(1)>"\u202e{{7*7}}'

CONSOLE = (
    b"beginning of the console\n"
    + b"[    0.000000] filler\n" * 14_000
    + b'<script>alert("console")</script>\n'
    + b"\x1b[31mKernel panic - not syncing\x1b[0m: \xff\xfe\x00 in init\r\n"
    + b"end of the console\n"
)
CONFIG = b"CONFIG_X86_64=y\n# CONFIG_MODULES is not set\n"
LOG = b"  CC      init/main.o\n  AR      built-in.a\n  LD      vmlinux\n"


def digest(words: str | bytes) -> str:
    return hashlib.sha256(words if isinstance(words, bytes) else words.encode()).hexdigest()


def commit(name: str) -> str:
    return digest(name)[:40]


BLOBS = (CONSOLE, LOG, CONFIG, b"profile")
TREE = "linux-next"

SERIES = Series(
    name="llvm-cov",
    digest=digest("v5"),
    title="[PATCH v5 0/4] Clang source-based coverage and MC/DC",
    origin="cover-v5@example.org",
    patches=4,
    accepted_by="lab operator",
    posted_at=NOW - 9 * DAY,
)
NEXT_SERIES = replace(
    SERIES,
    digest=digest("v6"),
    title=f"[PATCH v6 0/4] {HOSTILE}",
    origin="cover-v6@example.org",
    accepted_by=None,
    posted_at=NOW - DAY / 2,
)
TOOLCHAIN = Toolchain(
    name="llvm22", llvm_suffix="-22", compiler="clang-22", linker_objects="ld.lld-22",
    linker="ld.lld-22",
)  # fmt: skip
X86_64 = Variant(
    name="x86_64",
    series="llvm-cov",
    build=BuildRecipe(
        arch="x86_64",
        kconfig=KconfigRecipe(
            base="x86_64_defconfig",
            fragments=(Fragment(name="coverage", text="CONFIG_LLVM_COV_KERNEL=y\n"),),
        ),
        toolchain=TOOLCHAIN,
    ),
    boot=BootProfile(),
)
KASAN = replace(X86_64, name="x86_64-kasan", boot=BootProfile(recipe=BootRecipe(memory_mib=2048)))
SMP = replace(X86_64, name="x86_64-smp", boot=BootProfile(recipe=BootRecipe(cpus=4)))
PLAIN = replace(X86_64, name="x86_64-plain", series=None)
# The next version of the series, on its own.
NEXT = replace(X86_64, name="x86_64-v6", series="llvm-cov-next")
VERSIONS = {"llvm-cov": SERIES.digest, "llvm-cov-next": NEXT_SERIES.digest}

PANIC = Finding(
    kind=FindingKind.PANIC,
    title=f"Attempted to kill init! {HOSTILE}",
    function="init_post",
    file="init/main.c",
    excerpt=("[    1.201] Kernel panic - not syncing: Attempted to kill init!", f" {HOSTILE}"),
)
REFCOUNT = Finding(
    kind=FindingKind.OOPS,
    title="BUG: unable to handle page fault in folio_add_lru",
    function="folio_add_lru",
    file="mm/swap.c",
)
CONFLICT = Finding(kind=FindingKind.APPLY, title="patch 2 of 4 does not apply")

MAIL = """\
From: Lab of the Example <lab@example.org>
To: linux-kernel@example.org
Subject: [kwatch] next-20261119: x86_64 boot: panic
Message-ID: <first@example.org>
MIME-Version: 1.0
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: quoted-printable

The kernel no longer boots since next-20261119.

    Kernel panic - not syncing: <script>alert(1)</script>

Reported to J=C3=B6rg, who signed the patch off.
"""


def trial(commit: str, variant: Variant, *, control: bool = False, **sample: int) -> Trial:
    """A trial of a commit in a variant; ``control``: without its series."""
    series = VERSIONS[variant.series] if variant.series and not control else None
    return Trial(
        source=with_series(commit, series),
        build=variant.build.digest,
        boot=variant.boot.recipe.digest,
        sample=Sample(**sample),  # type: ignore[arg-type]
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What the tests ask for by name."""

    found: int
    going: int
    culprit: str
    boot: str
    lost_boot: str
    build: str


def totals(lines: float, functions: float, branches: float, mcdc: float) -> Totals:
    def count(share: float, total: int) -> Count:
        return Count(covered=round(share * total / 100), total=total)

    return Totals(
        lines=count(lines, 1_480_000),
        functions=count(functions, 121_000),
        branches=count(branches, 690_000),
        mcdc=count(mcdc, 240_000),
    )


def coverage(*shares: float) -> Coverage:
    def file(path: str, total: int) -> FileCoverage:
        return FileCoverage(
            path=path, origin=Origin.SOURCE, lines=Count(covered=total // 3, total=total),
            functions=Count(covered=4, total=9), branches=Count(covered=1, total=8),
            mcdc=Count(covered=0, total=0),
        )  # fmt: skip

    files = (file("fs/inode.c", 900), file("fs/open.c", 400), file("kernel/panic.c", 210))
    return Coverage(files=files, totals=totals(*shares))


class Daemon:
    """Feeds facts to the store, claiming each job as the worker does."""

    def __init__(self, tx: Transaction) -> None:
        self.tx = tx
        self.now = NOW - 4 * DAY

    def claim(self, kind: JobKind) -> Job:
        job = queue.claim(self.tx, [kind], now=self.now)
        assert job is not None, f"no {kind} is due"
        return job

    def do(self, kind: JobKind, key: str, facts: Facts) -> None:
        """Have the job done, whether somebody asked for it or not."""
        queue.enqueue(self.tx, kind, key, now=self.now)
        others = []
        job = self.claim(kind)
        while job.key != key:
            others.append(job)
            job = self.claim(kind)
        effects.record(self.tx, job, facts, now=self.now)
        for other in others:
            queue.release(self.tx, other, now=self.now)

    def tag(self, tag: str, *variants: Variant) -> str:
        found = Revision(tree=TREE, tag=tag, commit=commit(tag), seen_at=self.now)
        self.do(JobKind.WATCH, TREE, Watched(tree=TREE, revisions=(found,)))
        job = self.claim(JobKind.PLAN)
        plans = tuple(
            Plan(
                lane=Lane(tree=TREE, variant=variant.name),
                trial=trial(found.commit, variant),
                build=variant.build,
                boot=variant.boot.recipe,
            )
            for variant in variants
        )
        effects.record(self.tx, job, Planned(revision=int(job.key), plans=plans), now=self.now)
        return found.commit

    def waits(self, trial: Trial) -> tuple[JobKind, str]:
        found = trials.find(self.tx, trial)
        assert found is not None
        assert found.waits_kind is not None
        return found.waits_kind, found.waits_key

    def observe(
        self, trial: Trial, *, finding: Finding | None = None, shares: tuple[float, ...] = ()
    ) -> str:
        """Take a trial to its end; the key of its boot, or of the step that broke."""
        while True:
            kind, key = self.waits(trial)
            match kind:
                case JobKind.CHECKOUT:
                    self.do(kind, key, checkout(key, trial, finding))
                    if finding is CONFLICT:
                        return key
                case JobKind.BUILD:
                    self.build(key, trial)
                case JobKind.BOOT:
                    found = trials.find(self.tx, trial)
                    assert found is not None
                    assert found.build_row is not None
                    self.do(kind, key, boot(key, found.build_row, trial, finding))
                    if finding or trial.is_control:
                        return key
                case JobKind.COLLECT:
                    done = Collection(key=key, finding=None, coverage=coverage(*shares), took=61.0)
                    self.do(kind, key, done)
                    return key
                case _:
                    raise AssertionError(kind)

    def build(self, key: str, trial: Trial) -> None:
        """Build; each has an image of its own, which is kept."""
        result = build(key)
        self.tx.execute(
            "INSERT OR IGNORE INTO blob (digest, size, stored, created_at, used_at)"
            " VALUES (?, 1, 1, 0, 0)",
            (result.artifacts["image"],),
        )
        self.do(JobKind.BUILD, key, Built(result=result, recipe=trial.build))

    def lane(self, variant: Variant) -> int:
        return lanes.number(self.tx, Lane(tree=TREE, variant=variant.name))

    def run(self, variant: Variant, tag: str) -> TagRun:
        """What a tag gave in a variant."""
        return next(one for one in lanes.runs(self.tx, self.lane(variant)) if one.tag == tag)

    def judge(self, variant: Variant, *judgements: Judgement) -> None:
        number = self.lane(variant)
        self.do(JobKind.JUDGE, str(number), Judged(lane=number, judgements=judgements))

    def open(self, variant: Variant, good: str, bad: str) -> tuple[int, int]:
        """Open a regression; its number and that of its investigation."""
        first = self.run(variant, bad)
        assert first.seen is not None
        assert first.seen.finding is not None
        opened = Opened(
            facet=Facet.FAILURE,
            finding=first.seen.finding,
            good=self.run(variant, good),
            bad=first,
        )
        self.judge(variant, opened)
        number = regressions.newest_first(self.tx)[0].id
        return number, investigations.of_regression(self.tx, number)[-1].id

    def compare(self, variant: Variant, tag: str, baseline: str) -> None:
        """Find what the first tag of a branch can be compared with; it is not tried yet."""
        lane, failing = self.lane(variant), self.run(variant, tag).revision
        base = Revision(
            tree=TREE, tag=baseline, commit=commit(baseline), seen_at=self.now, is_baseline=True
        )
        found = BaselinesFound(lane=lane, failing=failing, revisions=(base,))
        self.do(JobKind.BASELINE, baseline_key(lane, failing), found)

    def investigate(self, investigation: int, result: Ask | Answer) -> None:
        found = Investigated(investigation=investigation, result=result)
        self.do(JobKind.INVESTIGATE, str(investigation), found)


def checkout(key: str, trial: Trial, finding: Finding | None) -> CheckoutResult:
    broken = finding is CONFLICT
    return CheckoutResult(
        key=key,
        result=None if broken else commit(key),
        tree_id=None if broken else commit(f"tree {key}"),
        patches=(
            PatchResult(subject="llvm-cov: add coverage", fate=PatchFate.APPLIED),
            PatchResult(
                subject="x86: enable coverage",
                fate=PatchFate.CONFLICT if broken else PatchFate.APPLIED,
            ),
        )
        if trial.source.series
        else (),
        finding=finding if broken else None,
        took=8.0,
    )


def build(key: str) -> BuildResult:
    return BuildResult(
        key=key,
        milestone=Milestone.LINKED,
        finding=None,
        config_digest=digest("config"),
        dropped=("CONFIG_MCDC: asked for y, got n", f"CONFIG_X: asked for {HOSTILE}, got n"),
        artifacts={"log": digest(LOG), "image": digest(f"image {key}"), "config": digest(CONFIG)},
        host="build1",
        environment=f"clang version 22.1.0, LLD 22.1.0 {HOSTILE}",
        environment_digest=digest("clang 22.1.0")[:16],
        took=1873.0,
    )


def boot(key: str, build: str, trial: Trial, finding: Finding | None) -> BootResult:
    lost = finding is REFCOUNT
    is_profiled = finding is None and not trial.is_control
    return BootResult(
        key=key,
        build=build,
        end="panic" if finding else "powered off",
        milestone=Milestone.KERNEL if finding else Milestone.TESTED,
        finding=finding,
        artifacts={
            "console": digest("gone") if lost else digest(CONSOLE),
            **({"profile": digest(b"profile")} if is_profiled else {}),
        },
        host="boot1",
        accelerator="kvm",
        took=94.2,
        boot_seconds=1.7,
        phases={"kernel": 0.4, "init": 1.3},
    )


def fill(tx: Transaction) -> History:
    """One of everything."""
    daemon = Daemon(tx)
    heard = Heard(
        source="llvm", cursor="1", mails=(), more=False,
        posted=(Posted(series=SERIES, mbox=b"v5"), Posted(series=NEXT_SERIES, mbox=b"v6")),
    )  # fmt: skip
    daemon.do(JobKind.LISTEN, "llvm", heard)
    old = daemon.tag("next-20261118", X86_64, KASAN, PLAIN)
    daemon.now += 2 * HOUR
    daemon.observe(trial(old, X86_64), shares=(40.7, 52.4, 29.8, 12.2))
    daemon.observe(trial(old, KASAN), shares=(41.0, 52.6, 30.0, 12.4))
    found, culprit, lost = _found(daemon, old)
    going = _going(daemon, old)
    daemon.now = NOW - 5 * HOUR
    newest = daemon.tag("next-20261120", X86_64, KASAN, NEXT)
    daemon.now += HOUR
    key = daemon.observe(trial(newest, X86_64), shares=(41.3, 53.0, 30.1, 12.5))
    row = trials.find(tx, trial(newest, X86_64)).build_row  # type: ignore[union-attr]
    _under_way(daemon, found, newest)
    assert row is not None
    return History(found=found, going=going, culprit=culprit, boot=key, lost_boot=lost, build=row)


def _found(daemon: Daemon, old: str) -> tuple[int, str, str]:
    """A regression that was searched to its end, and mailed."""
    daemon.now = NOW - 2 * DAY
    bad = daemon.tag("next-20261119", X86_64, KASAN, SMP)
    daemon.now += 2 * HOUR
    daemon.observe(trial(bad, X86_64), finding=PANIC)
    daemon.observe(trial(bad, SMP), finding=PANIC)
    lost = daemon.observe(trial(bad, KASAN), finding=REFCOUNT)
    number, investigation = daemon.open(X86_64, "next-20261118", "next-20261119")
    bad_run = daemon.run(SMP, "next-20261119")
    daemon.judge(SMP, Spread(regression=number, good=None, bad=bad_run))
    culprit = commit("culprit")
    proof = (
        trial(bad, X86_64, repeat=1),
        trial(old, X86_64, repeat=1),
        trial(bad, X86_64, control=True),
        trial(culprit, X86_64, rebuild=1),
    )
    ask = Ask(phase=Phase.VERIFY, trials=proof, remaining=1, confirmed=Blame.SERIES)
    daemon.investigate(investigation, ask)
    daemon.now += HOUR
    daemon.observe(proof[0], finding=PANIC)
    daemon.observe(proof[1], shares=(40.7, 52.4, 29.8, 12.2))
    daemon.observe(proof[2])
    daemon.observe(proof[3], finding=PANIC)
    answer = Answer(
        verdict=Verdict.FOUND,
        blame=Blame.SERIES,
        grade=Grade.LIKELY,
        commits=(culprit,),
        proof=proof,
        clean=CleanBuilds(culprit=Samples(bad=1)),
        doubts=("a clean build of its parent does not pass",),
    )
    daemon.investigate(investigation, answer)
    _write(daemon, number)
    return number, culprit, lost


def _write(daemon: Daemon, number: int) -> None:
    events = regressions.timeline(daemon.tx, number)
    thread = notices.thread_number(daemon.tx, of_regression(number))
    by_cause = {notice.cause: notice.id for notice in notices.pending(daemon.tx, thread)}
    letters = [
        Letter(
            notice=by_cause[str(event.id)], kind=kind,
            message_id=f"{kind}@example.org",
            subject=f"{start}[kwatch] next-20261119: x86_64 boot: panic {HOSTILE}",
            envelope_from="lab@example.org",
            recipients=("linux-kernel@example.org", "author@example.org"),
            message=MAIL.encode(),
        )
        for event, kind, start in (
            (events[2], ReportKind.NEW, ""), (events[3], ReportKind.BISECTED, "Re: ")
        )
    ]  # fmt: skip
    for letter, release in zip(letters, (Release.AUTOMATIC, Release.MODERATE), strict=True):
        daemon.now += 600
        written = Written(
            letters=(letter,),
            silent=tuple(by_cause[str(event.id)] for event in events[:2]),
            release=release,
        )
        daemon.do(JobKind.REPORT, str(thread), written)
    deliveries = tuple(
        Delivery(address=address, state=DeliveryState.ACCEPTED, answer="250 ok queued")
        for address in letters[0].recipients
    )
    mail.start_sending(daemon.tx, 1, now=daemon.now)
    daemon.do(JobKind.SEND, "1", Sent(mail=1, deliveries=deliveries))


def _going(daemon: Daemon, old: str) -> int:
    """A regression that is being bisected, and a tag that the lab failed at."""
    daemon.now = NOW - DAY
    number, investigation = daemon.open(KASAN, "next-20261118", "next-20261119")
    ask = Ask(
        phase=Phase.BISECT,
        trials=(trial(commit("suspect"), KASAN),),
        remaining=5,
        confirmed=Blame.TREE,
    )
    daemon.investigate(investigation, ask)
    infra = trial(old, PLAIN)
    kind, key = daemon.waits(infra)
    daemon.do(kind, key, checkout(key, infra, None))
    kind, key = daemon.waits(infra)
    daemon.build(key, infra)
    _give_up(daemon)
    return number


def _give_up(daemon: Daemon) -> None:
    for _ in range(GIVE_UP_AFTER[JobKind.BOOT]):
        job = daemon.claim(JobKind.BOOT)
        error = "given up: no KVM on any host"
        if queue.fail(daemon.tx, job, error, now=daemon.now, jitter=0.0, after=None):
            effects.give_up(daemon.tx, job, now=daemon.now)
        daemon.now += 2000


def _under_way(daemon: Daemon, found: int, newest: str) -> None:
    """What the lab is doing now."""
    tx = daemon.tx
    queue.recover(tx, now=daemon.now)
    daemon.judge(X86_64, Gone(regression=found, run=daemon.run(X86_64, "next-20261120")))
    fix = investigations.of_regression(tx, found)[-1].id
    repeat, control = trial(newest, X86_64, repeat=1), trial(newest, X86_64, control=True)
    daemon.investigate(fix, Ask(phase=Phase.CONFIRM, trials=(repeat, control)))
    daemon.observe(repeat, finding=PANIC)
    kind, key = daemon.waits(control)
    daemon.do(kind, key, checkout(key, control, None))
    daemon.now = NOW - HOUR / 2
    stray = daemon.tag("for-next/core", KASAN)
    daemon.observe(trial(stray, KASAN), finding=CONFLICT)
    daemon.compare(KASAN, "for-next/core", "v6.18-rc6")
    daemon.observe(trial(newest, NEXT), finding=CONFLICT)
    for finished in (JobKind.JUDGE, JobKind.REPORT, JobKind.INVESTIGATE):
        while job := queue.claim(tx, [finished], now=daemon.now):
            queue.finish(tx, job, now=daemon.now)
    job = daemon.claim(JobKind.BUILD)
    queue.remember(tx, job, Handle(host="build1", run_id="r1", slot=0))
    watch = "mainline"
    cursors.failed(tx, f"tree:{watch}", "the git server does not answer: exit status 128")
    queue.enqueue(tx, JobKind.WATCH, watch, now=daemon.now)
    failing = daemon.claim(JobKind.WATCH)
    queue.fail(
        tx, failing, "the git server does not answer: exit status 128", now=NOW, jitter=0.5,
        after=None,
    )  # fmt: skip
    cursors.failed(tx, f"tree:{watch}", "the git server does not answer")
    cursors.looked(tx, "tree:linux-next", None, now=NOW - 200)
    cursors.looked(tx, "list:llvm", "2", now=NOW - 60)
    hosts.note(tx, "build1", HostState(), now=NOW - 20)
    hosts.note(
        tx, "build2", HostState(health=Health.UNREACHABLE, reason="no route to host"), now=NOW - 40
    )
