# SPDX-License-Identifier: GPL-2.0-or-later
"""What a mail about a regression says, gathered from the history, the tree and the blobs."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import TYPE_CHECKING

from kwatch.adapters.guest import qemu
from kwatch.domain.boot.care import BootProfile
from kwatch.domain.coverage.figures import Totals
from kwatch.domain.finding import AREA
from kwatch.domain.mail.reproducer import INITRAMFS, Reproducer, Subject, reproducer
from kwatch.domain.mail.story import (
    BisectionStep,
    Configuration,
    ReportKind,
    Story,
    Tested,
)
from kwatch.domain.mail.tables import BRIEF
from kwatch.domain.milestone import Milestone
from kwatch.domain.recipe.arch import ARCHES
from kwatch.domain.recipe.boot import Accelerator, BootRecipe
from kwatch.domain.recipe.build import BuildRecipe
from kwatch.domain.source.series import Series
from kwatch.domain.source.tag_order import branch_of
from kwatch.domain.trial.steps import BootResult, BuildResult
from kwatch.domain.trial.trial import Trial
from kwatch.domain.verdict.bisect.commits import Mark
from kwatch.domain.verdict.blame import Blame
from kwatch.domain.verdict.lane import Lane, Line, TagRun, epoch_of_run
from kwatch.domain.verdict.question import Phase, Verdict
from kwatch.domain.verdict.regression import Presence, Regression, RegressionEvent
from kwatch.errors import InfraError
from kwatch.store import (
    coverage,
    investigations,
    mail,
    presences,
    recipes,
    regressions,
    steps,
    trials,
)
from kwatch.store import series as series_store
from kwatch.store.investigations import Investigation, InvestigationStep
from kwatch.store.regressions import StoredEvent

if TYPE_CHECKING:
    from kwatch.adapters.git import Git
    from kwatch.domain.mail.story import Correspondence
    from kwatch.domain.source.commit import CommitInfo
    from kwatch.domain.source.revision import Tree
    from kwatch.domain.verdict.question import Answer
    from kwatch.store.blobs import Blobs
    from kwatch.store.database import Transaction

log = logging.getLogger(__name__)

CONFIG_LIMIT = 8 << 20
_ALL = Milestone.COLLECTED
_FREE = {RegressionEvent.GONE, RegressionEvent.FIXED}
EARLIER = ", as tested then"
"""Of a result that another series, configuration or toolchain than the first bad tag's gave."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What the history holds about a regression.

    ``build`` and ``booted`` are those of the first bad tag. ``steps`` are the trials that its
    investigations asked for. ``mbox`` is the series, ``config`` the .config of the build,
    ``config_url`` the public link. ``coverage_before`` is of the last good tags, by revision,
    ``coverage_after`` of the tags that were investigated as fixed, by investigation, ``again`` are
    the tags that showed it again, by event.
    """

    regression: Regression
    recipe: BuildRecipe
    boot: BootRecipe
    series: Series | None
    events: tuple[StoredEvent, ...]
    investigations: tuple[Investigation, ...]
    steps: tuple[InvestigationStep, ...]
    build: BuildResult | None
    booted: BootResult | None
    thread: tuple[mail.StoredMail, ...]
    present: tuple[Presence, ...]
    coverage_before: Mapping[int, Totals | None]
    coverage_after: Mapping[int, Totals | None]
    again: Mapping[int, TagRun]
    mbox: bytes | None
    config: bytes | None = None
    config_url: str | None = None


def load_case(tx: Transaction, number: int, thread: tuple[mail.StoredMail, ...]) -> Case:
    """All that the history holds about a regression; ``thread`` are its mails so far."""
    regression = regressions.load(tx, number)
    present = presences.of_regression(tx, number)
    bad = regression.bad.trial
    found = investigations.of_regression(tx, number)
    events = regressions.timeline(tx, number)
    stored = trials.load(tx, regression.bad.number)
    series = bad.source.series
    return Case(
        regression=regression,
        recipe=recipes.build(tx, bad.build),
        boot=recipes.boot(tx, bad.boot),
        series=series_store.load(tx, series) if series else None,
        events=events,
        investigations=found,
        steps=tuple(step for one in found for step in investigations.steps(tx, one.id)),
        build=steps.build(tx, stored.build_row),
        booted=steps.boot(tx, stored.boot_key),
        thread=thread,
        present=present,
        coverage_before={
            one.good.revision: _totals(tx, one.good) for one in present if one.good is not None
        },
        coverage_after={one.id: _totals(tx, one.fixed) for one in found if one.fixed},
        again={
            event.id: run
            for event in events
            if event.kind is RegressionEvent.REAPPEARED and (run := _sighted(tx, number, event))
        },
        mbox=series_store.mbox(tx, series) if series else None,
    )


def _sighted(tx: Transaction, number: int, event: StoredEvent) -> TagRun | None:
    """The tag in which a regression reappeared."""
    lane = Lane(tree=event.detail["tree"], variant=event.detail["variant"])
    return regressions.sighted_in(tx, number, lane, event.detail["tag"])


def _totals(tx: Transaction, run: TagRun) -> Totals | None:
    key = trials.load(tx, run.number).boot_key
    return coverage.totals(tx, key) if key else None


async def with_config(case: Case, blobs: Blobs, status_url: str | None) -> Case:
    """The case with the .config of its build, or a link to it where pages are public."""
    digest = case.build.artifacts.get("config") if case.build else None
    if case.build is None or digest is None:
        return case
    if status_url:
        url = f"{status_url.rstrip('/')}/build/{case.build.row}/config"
        return replace(case, config_url=url)
    try:
        return replace(case, config=await blobs.read(digest, limit=CONFIG_LIMIT))
    except InfraError as error:
        log.warning("the report is written without the .config: %s", error)
        return case


def _proof(case: Case, here: Presence, labels: Mapping[str, str]) -> tuple[Tested, ...]:
    """All tests of the commits in ``labels`` that say something about a kernel."""
    regression, order = case.regression, list(labels)
    good, bad = here.good, here.bad
    earlier = set[Trial]()
    if good and epoch_of_run(good, until=_ALL) != epoch_of_run(bad, until=_ALL):
        earlier.add(good.trial)
    fixes = [one.fixed for one in case.investigations]
    tags = [run for run in (good, bad, *fixes, *case.again.values()) if run]
    runs = [(run.trial, run.seen) for run in tags]
    runs += [(step.trial.trial, step.seen) for step in case.steps]
    shown = {
        trial: seen
        for trial, seen in runs
        if seen is not None and seen.is_evidence and trial.commit in labels
    }
    return tuple(
        Tested(
            what=labels[trial.commit] + (EARLIER if trial in earlier else ""),
            commit=trial.commit,
            is_control=trial.is_control and not bad.trial.is_control,
            is_clean=trial.sample.rebuild > 0,
            mark=regression.problem.mark(seen),
            other=seen.finding.title
            if seen.finding and seen.finding.fingerprint != regression.fingerprint
            else None,
        )
        for trial, seen in sorted(shown.items(), key=lambda one: order.index(one[0].commit))
    )


async def _steps(case: Case, git: Git) -> tuple[BisectionStep, ...]:
    """The steps of the bisection, in their order; boots of one commit are one step."""
    found: dict[str, BisectionStep] = {}
    for step in case.steps:
        if step.phase is not Phase.BISECT or step.seen is None:
            continue
        commit = step.trial.trial.commit
        mark = case.regression.problem.mark(step.seen)
        if commit not in found or mark is Mark.BAD:
            info = await git.commit_info(commit)
            found[commit] = BisectionStep(commit=commit, subject=info.subject, mark=mark)
    return tuple(found.values())


def _blame(case: Case, answer: Answer | None) -> Blame | None:
    if answer and answer.blame:
        return answer.blame
    for one in case.investigations:
        # The lab is to blame after all.
        if one.answer and one.answer.verdict is Verdict.CHANGED:
            return one.answer.blame
    for event in case.events:
        if event.kind is RegressionEvent.CONFIRMED:
            return Blame(event.detail["blame"])
    return None


async def gather(
    case: Case,
    event: StoredEvent,
    kind: ReportKind,
    *,
    notice: int,
    tree: Tree | None,
    rules: Correspondence,
    git: Git,
) -> Story:
    """What the mail about an event says, but for what its thread had before.

    ``tree`` is None where it is not configured any more.
    """
    regression = case.regression
    investigation, answer = _answer(case, event, kind)
    infos = [await git.commit_info(commit) for commit in (answer.commits if answer else ())]
    culprit = infos[0] if kind is ReportKind.BISECTED and len(infos) == 1 else None
    fixed, again = _ends(case, event, kind)
    here = _here(case, event)
    is_home = here.line.place == regression.home.place
    blame = _blame(case, answer)
    made = _reproducer(case, tree, rules, culprit.commit if culprit else None, blame)
    story = Story(
        notice=notice,
        kind=kind,
        at=event.at,
        regression=regression,
        arch=case.recipe.arch,
        tree_url=tree.url if tree else None,
        blame=blame,
        verdict=answer.verdict if answer else None,
        candidates=() if culprit else tuple(infos),
        proof=_proof(case, here, _labels(here, culprit, fixed, again)),
        fixed=fixed,
        again=again,
        place=None if is_home else here,
        others=_others(case, here),
        series=case.series,
        configuration=_configuration(case, made.config),
        toolchain=tuple(case.build.environment.split("\n")[:1]) if case.build else (),
        booted_in=case.booted.environment.partition("\n")[0] if case.booted else "",
        coverage_before=case.coverage_before.get(here.good.revision) if here.good else None,
        coverage_after=case.coverage_after.get(investigation.id) if investigation else None,
        reproduce=made.lines,
    )
    if kind not in BRIEF:
        suspects = await git.suspects(regression.bad.commit, [regression.good.commit])
        steps = () if kind is ReportKind.NEW else await _steps(case, git)
        attached = made.attachments
        story = replace(story, suspects=len(suspects) or None, steps=steps, attachments=attached)
    if culprit is None or answer is None:
        return story
    return replace(
        story, culprit=culprit, grade=answer.grade, doubts=answer.doubts, clean=answer.clean
    )


def _answer(
    case: Case, event: StoredEvent, kind: ReportKind
) -> tuple[Investigation | None, Answer | None]:
    """The investigation that an event came of, and its answer as far as the mail shows it.

    The result of the bisection belongs into the mails about it, not into the first one, which comes
    last only where there is nothing to bisect.
    """
    number = event.detail.get("investigation")
    investigation = next((one for one in case.investigations if one.id == number), None)
    answer = investigation.answer if investigation else None
    if answer and kind is ReportKind.NEW and answer.verdict is not Verdict.CHANGED:
        answer = None
    return investigation, answer


def _here(case: Case, event: StoredEvent) -> Presence:
    """The line that an event is about; the one with the first bad tag for those of the whole."""
    detail, home = event.detail, case.regression.home
    about = home
    if "tree" in detail:
        lane = Lane(tree=detail["tree"], variant=detail["variant"])
        about = Line(lane=lane, branch=branch_of(detail["tag"]))
    # A mail is about a tree and branch: in that of the first bad tag, about this.
    wanted = home if about.place == home.place else about
    return next(one for one in case.present if one.line == wanted)


def _others(case: Case, here: Presence) -> tuple[Presence, ...]:
    """The lines elsewhere that have the regression now."""
    return tuple(
        one for one in case.present if one.gone is None and one.line.place != here.line.place
    )


def _ends(case: Case, event: StoredEvent, kind: ReportKind) -> tuple[TagRun | None, TagRun | None]:
    """The tag that fixed it last, as of ``event``, and the one that showed it again last."""
    fixed = again = None
    if kind in {ReportKind.FIXED, ReportKind.GONE, ReportKind.REAPPEARED}:
        by_number = {one.id: one.fixed for one in case.investigations}
        for one in case.events:
            if one.kind in _FREE and one.id <= event.id and _same_place(one, event):
                fixed = by_number.get(one.detail.get("investigation", 0))
            if one.id <= event.id and _same_place(one, event):
                again = case.again.get(one.id, again)
    return fixed, again


def _same_place(one: StoredEvent, other: StoredEvent) -> bool:
    """Whether two events are about the same tree and branch."""
    places = [
        (event.detail.get("tree"), branch_of(event.detail.get("tag", ""))) for event in (one, other)
    ]
    return places[0] == places[1]


def _labels(
    here: Presence, culprit: CommitInfo | None, fixed: TagRun | None, again: TagRun | None
) -> Mapping[str, str]:
    """The commits whose tests are shown, and what they are called."""
    labels = {here.good.commit: "last good tag"} if here.good else {}
    labels[here.bad.commit] = "first bad tag"
    if fixed:
        labels[fixed.commit] = "fixed tag"
    if again:
        labels[again.commit] = "tag with it again"
    if culprit:
        labels[culprit.commit] = "first bad commit"
        labels.update(dict.fromkeys(culprit.parents, "its parent"))
    return labels


def _configuration(case: Case, where: str | None) -> Configuration:
    recipe = case.recipe.kconfig
    return Configuration(
        base=recipe.base if isinstance(recipe.base, str) else PurePath(recipe.base.name).name,
        fragments=tuple(PurePath(fragment.name).name for fragment in recipe.fragments),
        digest=case.build.config_digest if case.build else None,
        dropped=case.build.dropped if case.build else (),
        where=where,
    )


def _reproducer(
    case: Case, tree: Tree | None, rules: Correspondence, culprit: str | None, blame: Blame | None
) -> Reproducer:
    """The commands for the first bad commit, or for the first bad tag."""
    boots = case.booted and qemu.command_for_people(
        BootProfile(recipe=case.boot),
        Accelerator(case.booted.accelerator),
        kernel=ARCHES[case.recipe.arch].image,
        initramfs=INITRAMFS,
    )
    return reproducer(
        Subject(
            recipe=case.recipe,
            commands=case.boot.commands,
            series=case.series,
            area=AREA[case.regression.finding.kind],
            url=tree.url if tree else None,
            tag=case.regression.bad.tag,
            commit=culprit or case.regression.bad.commit,
            mbox=None if blame is Blame.TREE else case.mbox,
            archive=rules.series_archive,
            config=case.config,
            config_url=case.config_url,
            qemu=boots or None,
        )
    )
