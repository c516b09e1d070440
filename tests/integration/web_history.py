# SPDX-License-Identifier: GPL-2.0-or-later
"""A history with one of everything, put in by the store's own functions, as the daemon would."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kwatch.domain.boot.care import BootProfile
from kwatch.domain.coverage.figures import Count, Coverage, FileCoverage, Origin, Totals
from kwatch.domain.facts import (
    Heard,
    Investigated,
    Judged,
    Planned,
    Posted,
    Sent,
    Watched,
    Written,
)
from kwatch.domain.finding import Finding, FindingKind
from kwatch.domain.lab.host import Health, HostState
from kwatch.domain.lab.job import GIVE_UP_AFTER, Handle, Job, JobKind
from kwatch.domain.mail.story import Delivery, DeliveryState, Letter, Release, ReportKind
from kwatch.domain.milestone import Milestone
from kwatch.domain.recipe.boot import BootRecipe
from kwatch.domain.recipe.kconfig import Fragment, KconfigRecipe
from kwatch.domain.recipe.toolchain import Toolchain
from kwatch.domain.source.revision import Revision
from kwatch.domain.source.series import PatchFate, PatchResult, Series
from kwatch.domain.trial.route import Outcome
from kwatch.domain.trial.steps import BootResult, BuildResult, CheckoutResult, Collection
from kwatch.domain.trial.trial import Trial
from kwatch.domain.trial.variant import Variant
from kwatch.domain.verdict.blame import Blame
from kwatch.domain.verdict.investigation import Answer, Ask, Phase, Verdict
from kwatch.domain.verdict.regression import TagResult, Worse, judge_key
from kwatch.store import cursors, history, hosts, mail, problems, queue, record

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


BLOBS = (CONSOLE, LOG, CONFIG, b"image", b"profile")

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
    arch="x86_64",
    series=SERIES,
    toolchain=TOOLCHAIN,
    kconfig=KconfigRecipe(
        base="x86_64_defconfig",
        fragments=(Fragment(name="coverage", text="CONFIG_LLVM_COV_KERNEL=y\n"),),
    ),
    profile=BootProfile(),
)
KASAN = replace(
    X86_64, name="x86_64-kasan", profile=BootProfile(recipe=BootRecipe(memory_mib=2048))
)

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
        record.record(self.tx, job, facts, now=self.now)
        for other in others:
            queue.release(self.tx, other, now=self.now)

    def tag(self, tree: str, tag: str, *variants: Variant) -> str:
        found = Revision(tree=tree, tag=tag, commit=commit(tag), seen_at=self.now)
        self.do(JobKind.WATCH, tree, Watched(tree=tree, revisions=(found,)))
        plan = self.claim(JobKind.PLAN)
        trials = tuple(
            (Trial(commit=found.commit, variant=variant.digest), variant) for variant in variants
        )
        planned = Planned(tree=tree, tag=tag, commit=found.commit, trials=trials)
        record.record(self.tx, plan, planned, now=self.now)
        return found.commit

    def waits(self, trial: Trial) -> tuple[JobKind, str]:
        row = self.tx.execute(
            "SELECT waits_kind, waits_key FROM observation WHERE commit_id = ? AND variant = ?"
            " AND rebuild = ? AND repeat = ?",
            (trial.commit, trial.variant, trial.rebuild, trial.repeat),
        ).fetchone()
        return JobKind(row["waits_kind"]), row["waits_key"]

    def build_of(self, trial: Trial) -> str:
        found = history.find_observation(self.tx, trial)
        assert found is not None
        assert found.build_key is not None
        return found.build_key

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
                    self.do(kind, key, build(key))
                case JobKind.BOOT:
                    self.do(kind, key, boot(key, self.build_of(trial), finding))
                    if finding or not shares:
                        return key
                case JobKind.COLLECT:
                    found = Collection(key=key, finding=None, coverage=coverage(*shares), took=61.0)
                    self.do(kind, key, found)
                    return key
                case _:
                    raise AssertionError(kind)


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
        if trial.variant in {X86_64.digest, KASAN.digest}
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
        artifacts={"log": digest(LOG), "image": digest(b"image"), "config": digest(CONFIG)},
        host="build1",
        environment=f"clang version 22.1.0, LLD 22.1.0 {HOSTILE}",
        took=1873.0,
    )


def boot(key: str, build_key: str, finding: Finding | None) -> BootResult:
    lost = finding is REFCOUNT
    return BootResult(
        key=key,
        build_key=build_key,
        end="panic" if finding else "powered off",
        milestone=Milestone.KERNEL if finding else Milestone.TESTED,
        finding=finding,
        artifacts={
            "console": digest("gone") if lost else digest(CONSOLE),
            **({} if finding else {"profile": digest(b"profile")}),
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
    old = daemon.tag("linux-next", "next-20261118", X86_64, KASAN)
    daemon.now += 2 * HOUR
    daemon.observe(Trial(commit=old, variant=X86_64.digest), shares=(40.7, 52.4, 29.8, 12.2))
    daemon.observe(Trial(commit=old, variant=KASAN.digest), shares=(41.0, 52.6, 30.0, 12.4))
    found, culprit, lost = _found(daemon, old)
    going = _going(daemon, old)
    daemon.now = NOW - 5 * HOUR
    newest = daemon.tag("linux-next", "next-20261120", X86_64, KASAN)
    daemon.now += HOUR
    key = daemon.observe(
        Trial(commit=newest, variant=X86_64.digest), shares=(41.3, 53.0, 30.1, 12.5)
    )
    _under_way(daemon, newest)
    return History(
        found=found,
        going=going,
        culprit=culprit,
        boot=key,
        lost_boot=lost,
        build=history.boot(tx, key).build_key,  # type: ignore[union-attr]
    )


def _judge(daemon: Daemon, good: TagResult, bad: TagResult, variant: Variant) -> int:
    judged = Judged(
        tree="linux-next", variant=variant.digest, variant_name=variant.name,
        judgements=(Worse(good=good, bad=bad),),
    )  # fmt: skip
    daemon.do(JobKind.JUDGE, judge_key("linux-next", variant.digest), judged)
    return problems.regressions(daemon.tx)[0].id


def _result(tag: str, finding: Finding | None = None) -> TagResult:
    return TagResult(
        tag=tag,
        commit=commit(tag),
        outcome=Outcome.FAIL if finding else Outcome.PASS,
        milestone=Milestone.KERNEL if finding else Milestone.COLLECTED,
        finding=finding,
    )


def _found(daemon: Daemon, old: str) -> tuple[int, str, str]:
    """A regression that was searched to its end, and mailed."""
    daemon.now = NOW - 2 * DAY
    bad = daemon.tag("linux-next", "next-20261119", X86_64, KASAN)
    daemon.now += 2 * HOUR
    daemon.observe(Trial(commit=bad, variant=X86_64.digest), finding=PANIC)
    lost = daemon.observe(Trial(commit=bad, variant=KASAN.digest), finding=REFCOUNT)
    number = _judge(daemon, _result("next-20261118"), _result("next-20261119", PANIC), X86_64)
    investigation = problems.investigations(daemon.tx, number)[0].id
    culprit = commit("culprit")
    control = X86_64.control()
    trials = (
        Trial(commit=bad, variant=X86_64.digest, repeat=1),
        Trial(commit=old, variant=X86_64.digest, repeat=1),
        Trial(commit=bad, variant=control.digest),
        Trial(commit=culprit, variant=X86_64.digest, rebuild=1),
    )
    ask = Ask(phase=Phase.VERIFY, trials=trials, remaining=1, confirmed=Blame.SERIES)
    daemon.do(
        JobKind.INVESTIGATE,
        str(investigation),
        Investigated(investigation=investigation, result=ask, variants=(control,)),
    )
    daemon.now += HOUR
    daemon.observe(trials[0], finding=PANIC)
    daemon.observe(trials[1], shares=(40.7, 52.4, 29.8, 12.2))
    daemon.do(*_control_boot(daemon, trials[2]))
    daemon.observe(trials[3], finding=PANIC)
    answer = Answer(verdict=Verdict.FOUND, blame=Blame.SERIES, commits=(culprit,), proof=trials)
    daemon.do(
        JobKind.INVESTIGATE,
        str(investigation),
        Investigated(investigation=investigation, result=answer, variants=()),
    )
    _write(daemon, number)
    return number, culprit, lost


def _control_boot(daemon: Daemon, trial: Trial) -> tuple[JobKind, str, Facts]:
    kind, key = daemon.waits(trial)
    daemon.do(kind, key, checkout(key, trial, None))
    kind, key = daemon.waits(trial)
    daemon.do(kind, key, build(key))
    kind, key = daemon.waits(trial)
    done = boot(key, daemon.build_of(trial), None)
    return kind, key, replace(done, artifacts={"console": digest(CONSOLE)})


def _write(daemon: Daemon, number: int) -> None:
    events = problems.timeline(daemon.tx, number)
    letters = [
        Letter(
            event=event.id, kind=kind, thread=f"regression:{number}",
            message_id=f"{kind}@example.org",
            subject=f"{start}[kwatch] next-20261119: x86_64 boot: panic {HOSTILE}",
            envelope_from="lab@example.org",
            recipients=("linux-kernel@example.org", "author@example.org"),
            message=MAIL.encode(),
        )
        for event, kind, start in (
            (events[1], ReportKind.NEW, ""), (events[2], ReportKind.BISECTED, "Re: ")
        )
    ]  # fmt: skip
    for letter, release in zip(letters, (Release.AUTOMATIC, Release.MODERATE), strict=True):
        daemon.now += 600
        written = Written(
            regression=number, letters=(letter,), silent_events=(events[0].id,), release=release
        )
        daemon.do(JobKind.REPORT, str(number), written)
    deliveries = tuple(
        Delivery(address=address, state=DeliveryState.ACCEPTED, answer="250 ok queued")
        for address in letters[0].recipients
    )
    mail.start_sending(daemon.tx, 1, now=daemon.now)
    daemon.do(JobKind.SEND, "1", Sent(mail=1, deliveries=deliveries))


def _going(daemon: Daemon, old: str) -> int:
    """A regression that is being bisected."""
    daemon.now = NOW - DAY
    number = _judge(daemon, _result("next-20261118"), _result("next-20261119", REFCOUNT), KASAN)
    investigation = problems.investigations(daemon.tx, number)[0].id
    ask = Ask(
        phase=Phase.BISECT,
        trials=(Trial(commit=commit("suspect"), variant=KASAN.digest),),
        remaining=5,
        confirmed=Blame.TREE,
    )
    daemon.do(
        JobKind.INVESTIGATE,
        str(investigation),
        Investigated(investigation=investigation, result=ask, variants=()),
    )
    infra = Trial(commit=old, variant=KASAN.control().digest)
    history.put_variant(daemon.tx, KASAN.control())
    record.want(daemon.tx, infra, JobKind.INVESTIGATE, "0", now=daemon.now)
    kind, key = daemon.waits(infra)
    daemon.do(kind, key, checkout(key, infra, None))
    kind, key = daemon.waits(infra)
    daemon.do(kind, key, build(key))
    _give_up(daemon)
    return number


def _give_up(daemon: Daemon) -> None:
    for _ in range(GIVE_UP_AFTER[JobKind.BOOT]):
        job = daemon.claim(JobKind.BOOT)
        error = "given up: no KVM on any host"
        if queue.fail(daemon.tx, job, error, now=daemon.now, jitter=0.0, after=None):
            record.give_up(daemon.tx, job, now=daemon.now)
        daemon.now += 2000


def _under_way(daemon: Daemon, newest: str) -> None:
    """What the lab is doing now."""
    tx = daemon.tx
    queue.recover(tx, now=daemon.now)
    repeat = Trial(commit=newest, variant=X86_64.digest, repeat=1)
    record.want(tx, repeat, JobKind.INVESTIGATE, "0", now=daemon.now)
    daemon.observe(repeat, finding=PANIC)
    control = X86_64.control()
    wanted = Trial(commit=newest, variant=control.digest)
    record.want(tx, wanted, JobKind.INVESTIGATE, "0", now=daemon.now)
    kind, key = daemon.waits(wanted)
    daemon.do(kind, key, checkout(key, wanted, None))
    daemon.now = NOW - HOUR / 2
    stray = daemon.tag("linux-next", "for-next/core", KASAN)
    daemon.observe(Trial(commit=stray, variant=KASAN.digest), finding=CONFLICT)
    # The same patches on another commit, so that one tag's page holds a conflict.
    other = Variant(
        name="x86_64-v6", arch="x86_64", series=NEXT_SERIES, toolchain=TOOLCHAIN,
        kconfig=X86_64.kconfig, profile=X86_64.profile,
    )  # fmt: skip
    history.put_variant(tx, other)
    conflict = Trial(commit=newest, variant=other.digest)
    record.want(tx, conflict, JobKind.INVESTIGATE, "0", now=daemon.now)
    kind, key = daemon.waits(conflict)
    broken = checkout(key, Trial(commit=newest, variant=X86_64.digest), CONFLICT)
    daemon.do(kind, key, broken)
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
