# SPDX-License-Identifier: GPL-2.0-or-later
"""A lab that answers an investigation, for tests of what is asked and concluded."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

from hypothesis import strategies as st

from kwatch.domain.finding import Finding
from kwatch.domain.milestone import Milestone
from kwatch.domain.source.source import with_series
from kwatch.domain.trial.route import Outcome
from kwatch.domain.trial.seen import Seen, fingerprints_of
from kwatch.domain.trial.trial import Sample, Trial
from kwatch.domain.verdict.bisect.commits import ancestors
from kwatch.domain.verdict.blame import Blame
from kwatch.domain.verdict.case import GIVE_UP, evidence_for
from kwatch.domain.verdict.investigation import plan
from kwatch.domain.verdict.lane import epoch_of
from kwatch.domain.verdict.problem import Facet, Problem
from kwatch.domain.verdict.question import Answer, Ask, Goal, Phase, Question
from tests.unit.domain import trials
from tests.unit.domain.histories import History, histories
from tests.unit.domain.trials import (
    APPLY,
    COMPILE,
    ENVIRONMENT,
    HANG,
    LAB_FAILED,
    PANIC,
    PASSED,
    SERIES,
    failed,
)

GOOD_TAG = "last-good-tag"


def in_environment(seen: Seen, environment: str) -> Seen:
    """What a trial showed, with the tools of its build."""
    return replace(seen, environment=environment)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What is true, and how often the lab stands in the way.

    ``masked`` fail otherwise, and earlier; the lab fails ``flaky`` times in ten at a trial, but no
    trial GIVE_UP times. A kernel with the bug shows it in ``shows`` of ten boots. ``lies`` are
    trials that show something else.
    """

    history: History
    culprit: str
    blame: Blame = Blame.TREE
    finding: Finding = HANG
    milestone: Milestone = Milestone.LINKED
    facet: Facet = Facet.FAILURE
    masked: frozenset[str] = frozenset()
    flaky: int = 0
    shows: int = 10
    seed: int = 0
    good_environment: str = ENVIRONMENT
    lies: dict[Trial, Seen] = field(default_factory=dict)

    @property
    def problem(self) -> Problem:
        return Problem(
            facet=self.facet,
            fingerprints=fingerprints_of(self.finding),
            milestone=self.milestone,
        )

    @property
    def bad(self) -> Seen:
        """What a kernel with the bug shows."""
        if self.facet is Facet.WARNING:
            return replace(PASSED, others=(self.finding,))
        return failed(self.finding, self.milestone)

    def trial(
        self, commit: str, *, control: bool = False, rebuild: int = 0, repeat: int = 0
    ) -> Trial:
        """A trial as the investigation names it."""
        return Trial(
            source=with_series(commit, None if control else SERIES.digest),
            build=trials.BUILD.digest,
            boot=trials.BOOT.digest,
            until=self.problem.until,
            sample=Sample(rebuild=rebuild, repeat=repeat, environment=ENVIRONMENT),
        )

    def question(self) -> Question:
        subject = self.trial(self.history.bad)
        return Question(
            goal=Goal.CAUSE,
            problem=self.problem,
            subject=subject,
            good=GOOD_TAG,
            epoch=epoch_of(subject, self.good_environment, until=self.problem.until),
            suspects=self.history.parents,
        )

    def tags(self) -> dict[Trial, Seen]:
        """What made somebody ask: trials by whatever tools there were, to the end."""
        return {
            trials.trial(GOOD_TAG): in_environment(PASSED, self.good_environment),
            trials.trial(self.history.bad): in_environment(self.bad, ENVIRONMENT),
        }

    def try_out(self, trial: Trial, tries: int = 0) -> Seen:
        """What a trial shows that the lab failed at ``tries`` times."""
        dice = random.Random(f"{self.seed}{trial}{tries}")  # noqa: S311 - repeatable
        if dice.randrange(10) < self.flaky and tries < GIVE_UP - 1:
            return replace(LAB_FAILED, tries=tries + 1)
        return in_environment(self._shown(trial, dice), trial.sample.environment)

    def _shown(self, trial: Trial, dice: random.Random) -> Seen:
        if trial in self.lies:
            return self.lies[trial]
        if trial.commit in self.masked:
            return failed(APPLY, Milestone.NOTHING)
        if trial.is_control and self.blame is Blame.SERIES:
            return PASSED
        has_it = self.culprit in ancestors(self.history.parents, trial.commit)
        return self.bad if has_it and dice.randrange(10) < self.shows else PASSED


@dataclass(slots=True, kw_only=True)
class Run:
    """An investigation from the first question to the answer."""

    answer: Answer
    evidence: dict[Trial, Seen]
    asked: list[Ask]

    def probes(self) -> list[str]:
        """The commits that were tested by the bisection, each once."""
        return list(
            dict.fromkeys(
                trial.commit
                for ask in self.asked
                if ask.phase is Phase.BISECT
                for trial in ask.trials
            )
        )

    def phases(self) -> list[Phase]:
        return list(dict.fromkeys(ask.phase for ask in self.asked))


def is_final(seen: Seen) -> bool:
    return seen.outcome is not Outcome.INFRA or seen.tries >= GIVE_UP


def investigate(
    world: World, question: Question | None = None, evidence: dict[Trial, Seen] | None = None
) -> Run:
    """Answer what is asked, one trial at a time and in any order, as a lab would."""
    question = question or world.question()
    settled = dict(world.tags() if evidence is None else evidence)
    order = random.Random(world.seed)  # noqa: S311 - a test wants to be repeatable
    asked: list[Ask] = []
    for _ in range(300 + 60 * len(question.suspects)):
        known = evidence_for(question, settled)
        result = plan(question, known)
        assert result == plan(question, dict(reversed(list(known.items()))))
        if isinstance(result, Answer):
            assert all(trial in known for trial in result.proof), "the proof was never tried"
            return Run(answer=result, evidence=settled, asked=asked)
        assert result.trials
        assert len(set(result.trials)) == len(result.trials)
        done = {trial for trial, seen in known.items() if is_final(seen)}
        assert not done & set(result.trials), "a settled trial was asked for again"
        asked.append(result)
        trial = order.choice(result.trials)
        before = settled.get(trial)
        settled[trial] = world.try_out(trial, before.tries if before else 0)
    raise AssertionError("the investigation has no end")


def chain(count: int, *, culprit: str) -> World:
    """A row of commits c0 to c(count-1), the newest of which is the bad tag."""
    parents = {f"c{n}": (f"c{n - 1}" if n else "base",) for n in reversed(range(count))}
    return World(history=History(parents=parents, bad=f"c{count - 1}"), culprit=culprit)


@st.composite
def worlds(
    draw: st.DrawFn, *, of: st.SearchStrategy[History] | None = None, flaky: bool = False
) -> World:
    history = draw(histories() if of is None else of)
    finding, milestone = draw(
        st.sampled_from(
            [(HANG, Milestone.LINKED), (PANIC, Milestone.INIT), (COMPILE, Milestone.CONFIG)]
        )
    )
    return World(
        history=history,
        culprit=draw(st.sampled_from(history.reachable())),
        blame=draw(st.sampled_from([Blame.TREE, Blame.SERIES])),
        finding=finding,
        milestone=milestone,
        flaky=draw(st.integers(0, 7)) if flaky else 0,
        seed=draw(st.integers(0, 1000)),
    )
