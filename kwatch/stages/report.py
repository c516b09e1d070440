# SPDX-License-Identifier: GPL-2.0-or-later
"""report: write the mails that a regression's events are worth."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import TYPE_CHECKING

from kwatch.adapters.guest import qemu
from kwatch.domain.boot.watch import Accelerator
from kwatch.domain.coverage.figures import Totals
from kwatch.domain.facts import Written
from kwatch.domain.mail.letter import compose
from kwatch.domain.mail.story import (
    BisectionStep,
    Configuration,
    Proof,
    ReportKind,
    Story,
    ThreadMail,
)
from kwatch.domain.recipe.arch import ARCHES, X86_64
from kwatch.domain.recipe.variant import Variant
from kwatch.domain.trial.observation import BuildResult, Trial
from kwatch.domain.verdict.blame import Blame
from kwatch.domain.verdict.regression import Regression, RegressionEvent
from kwatch.store import coverage, history, mail, problems
from kwatch.store.history import StoredObservation
from kwatch.store.problems import Investigation, StoredEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from kwatch.adapters.git import Git
    from kwatch.domain.lab.job import Job
    from kwatch.domain.mail.story import Correspondence, Letter
    from kwatch.domain.source.revision import Tree
    from kwatch.domain.verdict.investigation import Answer
    from kwatch.store.database import Database, Transaction

# What an event is worth. The others are for the timeline only.
_KINDS: Mapping[RegressionEvent, ReportKind] = {
    RegressionEvent.CONFIRM: ReportKind.NEW,
    RegressionEvent.BISECT: ReportKind.BISECTED,
    RegressionEvent.INCONCLUSIVE: ReportKind.INCONCLUSIVE,
    RegressionEvent.FIX: ReportKind.FIXED,
    RegressionEvent.RETRACT: ReportKind.RETRACTED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """All that the history holds about a regression."""

    regression: Regression
    variant: Variant
    events: tuple[StoredEvent, ...]
    investigations: tuple[Investigation, ...]
    observations: tuple[StoredObservation, ...]
    build: BuildResult | None
    accelerator: str | None
    thread: tuple[mail.StoredMail, ...]
    coverage_before: Totals | None
    coverage_after: Totals | None


async def run(
    job: Job,
    *,
    trees: Mapping[str, Tree],
    correspondence: Callable[[str, str | None], Correspondence],
    git: Git,
    database: Database,
    token: Callable[[], str],
    status_url: str | None,
) -> Written:
    """Write what is to be told of the regression that ``job.key`` numbers."""
    number = int(job.key)
    case = await database.read(_case, number)
    series = case.variant.series.name if case.variant.series else None
    rules = correspondence(case.regression.tree, series)
    letters: list[Letter] = []
    silent: list[int] = []
    pending = [event for event in case.events if event.reported_at is None]
    is_withdrawn = any(event.kind is RegressionEvent.RETRACT for event in pending)
    for event in pending:
        kind = _KINDS.get(event.kind)
        # What nobody was told of needs no retraction.
        if kind is None or (is_withdrawn and not case.thread):
            silent.append(event.id)
            continue
        story = await _story(case, event, kind, trees[case.regression.tree], git)
        story = replace(
            story,
            status_url=f"{status_url.rstrip('/')}/regression/{number}" if status_url else None,
            thread=(*story.thread, *(_as_thread_mail(letter) for letter in letters)),
            told=tuple(dict.fromkeys(
                (*story.told, *(one for letter in letters for one in letter.recipients)))),
        )  # fmt: skip
        letters.append(compose(story, rules, token=token()))
    return Written(
        regression=number,
        letters=tuple(letters),
        silent_events=tuple(silent),
        release=rules.release,
    )


def _case(tx: Transaction, number: int) -> _Case:
    regression = problems.regression(tx, number)
    variant = history.variant(tx, regression.variant)
    investigations = problems.investigations(tx, number)
    fixed = next((one.fixed for one in investigations if one.fixed), None)
    bad = history.find_observation(
        tx, Trial(commit=regression.bad.commit, variant=regression.variant)
    )
    boot = history.boot(tx, bad.boot_key) if bad and bad.boot_key else None
    return _Case(
        regression=regression,
        variant=variant,
        events=problems.timeline(tx, number),
        investigations=investigations,
        observations=history.settled(tx, (variant.digest, variant.control().digest)),
        build=history.build(tx, bad.build_key) if bad else None,
        accelerator=boot.accelerator if boot else None,
        thread=mail.thread(tx, f"regression:{number}"),
        coverage_before=_totals(tx, regression.good.commit, regression.variant),
        coverage_after=_totals(tx, fixed.commit, regression.variant) if fixed else None,
    )


def _totals(tx: Transaction, commit: str, variant: str) -> Totals | None:
    observation = history.find_observation(tx, Trial(commit=commit, variant=variant))
    if observation is None or observation.boot_key is None:
        return None
    return coverage.totals(tx, observation.boot_key)


async def _story(case: _Case, event: StoredEvent, kind: ReportKind, tree: Tree, git: Git) -> Story:
    regression = case.regression
    investigation = next(
        (one for one in case.investigations if one.id == event.detail.get("investigation")), None
    )
    answer = investigation.answer if investigation else None
    if kind is ReportKind.NEW:
        # What the search finds later belongs into the mails that tell of it.
        answer = None
    commits = answer.commits if answer else ()
    infos = [await git.commit_info(commit) for commit in commits]
    is_one = kind is ReportKind.BISECTED and len(infos) == 1
    culprit = infos[0] if is_one else None
    suspects = await git.suspects(regression.bad.commit, [regression.good.commit])
    fixed = investigation.fixed if investigation else None
    return Story(
        event=event.id,
        kind=kind,
        at=event.at,
        regression=regression,
        arch=case.variant.arch,
        tree_url=tree.url,
        blame=_blame(case, answer),
        verdict=answer.verdict if answer else None,
        culprit=culprit,
        candidates=() if culprit else tuple(infos),
        proof=_proof(
            case, culprit.parents if culprit else (), commits, fixed.commit if fixed else None
        ),
        suspects=len(suspects),
        steps=await _steps(case, git, suspects) if kind is not ReportKind.NEW else (),
        fixed=fixed,
        series=case.variant.series,
        configuration=_configuration(case),
        toolchain=(case.build.environment,) if case.build else (),
        excerpt=regression.finding.excerpt,
        coverage_before=case.coverage_before,
        coverage_after=case.coverage_after if kind is ReportKind.FIXED else None,
        reproduce=_reproduce(case, tree, culprit.commit if culprit else regression.bad.commit),
        thread=tuple(
            ThreadMail(message_id=sent.message_id, subject=sent.subject) for sent in case.thread
        ),
        told=tuple(dict.fromkeys(one for sent in case.thread for one in sent.recipients)),
    )


def _as_thread_mail(letter: Letter) -> ThreadMail:
    return ThreadMail(message_id=letter.message_id, subject=letter.subject)


def _blame(case: _Case, answer: Answer | None) -> Blame | None:
    if answer and answer.blame:
        return answer.blame
    for event in case.events:
        if event.kind is RegressionEvent.CONFIRM:
            return Blame(event.detail["blame"])
    return None


def _proof(
    case: _Case, parents: Sequence[str], commits: Sequence[str], fixed: str | None
) -> tuple[Proof, ...]:
    """The trials of the tags, of the control, and of the culprit and its parents."""
    regression = case.regression
    labels = {regression.good.commit: "last good tag", regression.bad.commit: "first bad tag"}
    if fixed:
        labels[fixed] = "fixed tag"
    if len(commits) == 1:
        labels[commits[0]] = "first bad commit"
        labels.update(dict.fromkeys(parents, "its parent"))
    shown = [one for one in case.observations if one.trial.commit in labels and one.outcome]
    order = list(labels)
    return tuple(
        Proof(
            what=labels[one.trial.commit],
            commit=one.trial.commit,
            variant_name=case.variant.name,
            is_control=one.trial.variant != case.variant.digest,
            rebuild=one.trial.rebuild,
            repeat=one.trial.repeat,
            outcome=one.outcome,
            milestone=one.milestone,
            title=one.finding.title if one.finding else None,
        )
        for one in sorted(shown, key=lambda one: (order.index(one.trial.commit), one.id))
        if one.outcome
    )


async def _steps(
    case: _Case, git: Git, suspects: Mapping[str, Sequence[str]]
) -> tuple[BisectionStep, ...]:
    """The suspects that were tested, in the order of testing."""
    steps = []
    for one in case.observations:
        trial = one.trial
        is_step = trial.variant == case.variant.digest and trial.rebuild == 0 and trial.repeat == 0
        if not is_step or trial.commit not in suspects or one.outcome is None:
            continue
        if trial.commit == case.regression.bad.commit:
            continue
        info = await git.commit_info(trial.commit)
        steps.append(BisectionStep(commit=trial.commit, subject=info.subject, outcome=one.outcome))
    return tuple(steps)


def _configuration(case: _Case) -> Configuration:
    recipe = case.variant.kconfig
    return Configuration(
        base=recipe.base if isinstance(recipe.base, str) else PurePath(recipe.base.name).name,
        fragments=tuple(PurePath(fragment.name).name for fragment in recipe.fragments),
        digest=case.build.config_digest if case.build else None,
        dropped=case.build.dropped if case.build else (),
    )


def _boot_command(case: _Case) -> str | None:
    if case.accelerator is None:
        return None
    return qemu.command_for_people(
        case.variant.profile,
        Accelerator(case.accelerator),
        kernel=ARCHES[case.variant.arch].image,
    )


def _reproduce(case: _Case, tree: Tree, commit: str) -> tuple[str, ...]:
    """Shell lines from a clone of the tree to the failure."""
    variant = case.variant
    lines = [f"git fetch {tree.url} tag {case.regression.bad.tag}", f"git checkout {commit}"]
    if variant.series and _blame(case, None) is not Blame.TREE:
        lines.append(f"b4 shazam {variant.series.origin}")
    base = variant.kconfig.base
    # Who reads this is likely at an x86 machine: any other architecture has to be named.
    arch = "" if variant.arch == X86_64.name else f"ARCH={variant.arch} "
    make = f"make {arch}LLVM={variant.toolchain.llvm_suffix or 1}"
    lines += [
        f"{make} {base}" if isinstance(base, str) else f"cp {PurePath(base.name).name} .config",
        *(f"cat {PurePath(one.name).name} >>.config" for one in variant.kconfig.fragments),
        f"{make} olddefconfig",
        f"{make} -j$(nproc) {ARCHES[variant.arch].target}",
    ]
    command = _boot_command(case)
    return (*lines, *([command] if command else []))
