# SPDX-License-Identifier: GPL-2.0-or-later
"""Investigations where the boot environment of the bad tag is gone from all hosts."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from kwatch.domain.milestone import Milestone
from kwatch.domain.trial.route import Outcome
from kwatch.domain.trial.seen import Seen
from kwatch.domain.trial.trial import Trial
from kwatch.domain.verdict.blame import Blame
from kwatch.domain.verdict.case import GIVE_UP, evidence_for
from kwatch.domain.verdict.grade import Grade
from kwatch.domain.verdict.investigation import CONFIRMATIONS, plan
from kwatch.domain.verdict.question import Answer, Ask, Goal, Question, Verdict
from tests.unit.domain import trials
from tests.unit.domain.investigations import GOOD_TAG, World, chain, in_environment
from tests.unit.domain.trials import COMPILE, ENVIRONMENT, LAB_FAILED, PASSED

OLD, NEW, NEWER = "b" * 16, "c" * 16, "d" * 16
REFUSED = Seen(outcome=Outcome.REFUSED, milestone=Milestone.LINKED)
WORLD = chain(8, culprit="c3")


@dataclass(slots=True, kw_only=True)
class Lab:
    """A lab whose hosts have some boot environments; ``broken`` are those in which boots fail.

    The good tag was booted in ``good``, the bad one in OLD.
    """

    has: list[str]
    good: str = OLD
    broken: frozenset[str] = frozenset()
    world: World = WORLD
    fixed: str | None = None
    settled: dict[Trial, Seen] = field(default_factory=dict)
    asked: list[Trial] = field(default_factory=list)

    def __post_init__(self) -> None:
        shown = self.world.tags()
        self.settled = {
            trial: replace(seen, boot_environment=OLD if trial.commit != GOOD_TAG else self.good)
            for trial, seen in shown.items()
        }

    @property
    def question(self) -> Question:
        found = self.world.question()
        sample = replace(found.subject.sample, boot_environment=OLD)
        return replace(
            found,
            goal=Goal.CAUSE if self.fixed is None else Goal.FIX,
            subject=replace(found.subject, sample=sample),
            epoch=replace(found.epoch, boot_environment=self.good),
            fixed=self.fixed,
        )

    def step(self) -> Ask | Answer:
        """What is asked for now, which is tried; or the answer."""
        known = evidence_for(self.question, self.settled)
        result = plan(self.question, known)
        assert result == plan(self.question, dict(reversed(list(known.items()))))
        if isinstance(result, Answer):
            assert all(trial in known for trial in result.proof)
            return result
        for trial in result.trials:
            self.asked.append(trial)
            self.settled[trial] = self.try_out(trial)
        return result

    def try_out(self, trial: Trial) -> Seen:
        asked = trial.sample.boot_environment
        if asked and asked not in self.has:
            return REFUSED
        found = self.world.try_out(trial)
        where = asked or self.has[0]
        if where in self.broken:
            found = in_environment(self.world.bad, ENVIRONMENT)
        return replace(found, boot_environment=where)

    def run(self) -> Answer:
        for _ in range(60):
            result = self.step()
            if isinstance(result, Answer):
                return result
        raise AssertionError("the investigation has no end")

    def environments(self) -> list[str]:
        """Those that trials asked for, in the order of the first."""
        return list(dict.fromkeys(trial.sample.boot_environment for trial in self.asked))


def test_all_trials_are_booted_in_the_environment_of_the_bad_tag() -> None:
    lab = Lab(has=[NEW, OLD])
    answer = lab.run()
    assert (answer.verdict, answer.commits, answer.grade) == (
        Verdict.FOUND,
        ("c3",),
        Grade.VERIFIED,
    )
    assert lab.environments() == [OLD]


def test_a_good_tag_that_fails_in_the_environment_of_the_bad_one_accuses_no_commit() -> None:
    """QEMU was upgraded between the two."""
    lab = Lab(has=[OLD], good=NEWER, broken=frozenset({OLD}))
    answer = lab.run()
    assert (answer.verdict, answer.blame, answer.commits) == (Verdict.CHANGED, Blame.HOST, ())


def test_a_good_tag_that_fails_in_its_own_environment_was_never_good() -> None:
    answer = Lab(has=[OLD], broken=frozenset({OLD})).run()
    assert answer.verdict is Verdict.BASELINE_FAILS


def test_where_it_is_gone_everything_is_tried_in_the_one_that_is_left() -> None:
    lab = Lab(has=[NEW])
    answer = lab.run()
    assert (answer.verdict, answer.commits, answer.grade) == (
        Verdict.FOUND,
        ("c3",),
        Grade.VERIFIED,
    )
    assert lab.environments() == [OLD, "", NEW]
    # The bad tag comes first.
    after = [trial for trial in lab.asked if trial.sample.boot_environment != OLD]
    assert after[0].commit == WORLD.history.bad
    assert {trial.sample.boot_environment for trial in answer.proof} == {NEW}


def test_a_bad_tag_that_passes_in_the_one_that_is_left_accuses_no_commit() -> None:
    lab = Lab(has=[NEW], world=replace(WORLD, shows=0))
    answer = lab.run()
    assert (answer.verdict, answer.blame, answer.commits) == (Verdict.CHANGED, Blame.HOST, ())
    bad = [one for one in lab.asked if one.sample.boot_environment in {"", NEW}]
    assert {one.commit for one in bad} == {WORLD.history.bad}
    assert len({one.sample.repeat for one in bad}) == CONFIRMATIONS


def test_a_good_tag_that_fails_in_the_one_that_is_left_accuses_no_commit() -> None:
    lab = Lab(has=[NEW], broken=frozenset({NEW}))
    answer = lab.run()
    assert (answer.verdict, answer.blame, answer.commits) == (Verdict.CHANGED, Blame.HOST, ())


def test_hosts_may_be_upgraded_again_meanwhile() -> None:
    lab = Lab(has=[OLD])
    for environments in ([OLD], [NEW], [NEW], [NEW], [NEWER]):
        lab.has = environments
        assert isinstance(lab.step(), Ask)
    answer = lab.run()
    assert (answer.verdict, answer.commits) == (Verdict.FOUND, ("c3",))
    assert {trial.sample.boot_environment for trial in answer.proof} == {NEWER}


def test_another_host_with_another_environment_changes_nothing() -> None:
    """One that has what the search moved to is enough."""
    lab = Lab(has=[NEW])
    while not any(trial.sample.boot_environment == NEW for trial in lab.asked):
        lab.step()
    lab.has = [NEWER, NEW]
    assert lab.run().commits == ("c3",)
    assert lab.environments() == [OLD, "", NEW]


def test_a_lab_that_fails_at_that_is_asked_again_and_given_up() -> None:
    lab = Lab(has=[])
    asked: Ask | Answer = Ask(phase=lab.step().phase, trials=())  # type: ignore[union-attr]
    known = evidence_for(lab.question, lab.settled)
    asked = plan(lab.question, known)
    assert isinstance(asked, Ask)
    (trial,) = asked.trials
    assert trial.sample.boot_environment == ""
    for tries in range(1, GIVE_UP):
        lab.settled[trial] = replace(LAB_FAILED, tries=tries)
        assert plan(lab.question, evidence_for(lab.question, lab.settled)) == asked
    lab.settled[trial] = replace(LAB_FAILED, tries=GIVE_UP)
    answer = plan(lab.question, evidence_for(lab.question, lab.settled))
    assert answer == Answer(verdict=Verdict.NO_EVIDENCE, proof=(trial,))


@pytest.mark.parametrize("has", [[OLD, NEW], [NEW]])
def test_a_fix_is_tried_in_the_environment_of_the_bad_tag_or_in_what_is_left(
    has: list[str],
) -> None:
    lab = Lab(has=has, fixed="next-good")
    fixed = replace(PASSED, environment=ENVIRONMENT, boot_environment=NEW)
    lab.settled[trials.trial("next-good")] = fixed
    answer = lab.run()
    assert answer.verdict is Verdict.FIXED
    assert {trial.sample.boot_environment for trial in answer.proof} == {has[0]}


def test_what_never_boots_asks_for_no_boot_environment() -> None:
    world = replace(WORLD, finding=COMPILE, milestone=Milestone.CONFIG)
    question = world.question()
    settled: dict[Trial, Seen] = dict(world.tags())
    refused = replace(trials.trial("c1"), sample=replace(question.subject.sample,
                                                         boot_environment=OLD))  # fmt: skip
    settled[refused] = REFUSED
    result = plan(question, evidence_for(question, settled))
    assert isinstance(result, Ask)
    assert {trial.sample.boot_environment for trial in result.trials} == {""}
