# SPDX-License-Identifier: GPL-2.0-or-later
"""Move a question to the boot environment that the lab has, where that of the bad tag is gone.

All trials of a question are booted in one environment, or they would not compare: in that of the
bad tag for as long as a host has it. Once a trial was refused because none has, everything is tried
anew in another one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from kwatch.domain.trial.route import Outcome
from kwatch.domain.verdict.case import GIVE_UP
from kwatch.domain.verdict.question import Answer, Ask, Phase, Question, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kwatch.domain.trial.seen import Seen
    from kwatch.domain.trial.trial import Trial


def moved(question: Question, evidence: Mapping[Trial, Seen]) -> Question | Ask | Answer:
    """The question in an environment that the lab has; itself where nothing was refused.

    Which one that is, is told by a boot of the tag in question that asks for none.
    """
    subject = question.subject
    gone = {
        trial.sample.boot_environment
        for trial, seen in evidence.items()
        if seen.outcome is Outcome.REFUSED
        and (trial.boot, trial.sample.host) == (subject.boot, subject.sample.host)
    }
    if not subject.sample.boot_environment or subject.sample.boot_environment not in gone:
        return question
    tag = subject if question.fixed is None else subject.of(question.fixed)
    tries = {trial: seen for trial, seen in evidence.items() if _any(trial) == _any(tag)}
    there = sorted(
        (trial.sample.repeat, trial.sample.boot_environment)
        for trial, seen in tries.items()
        if seen.is_evidence and trial.sample.boot_environment not in {"", *gone}
    )
    if there:
        return replace(question, subject=_booted_in(subject, there[0][1]))
    # A number that was taken may be a boot in an environment that is gone.
    taken = [
        trial.sample.repeat for trial, seen in tries.items() if seen.outcome is not Outcome.INFRA
    ]
    asked = _booted_in(tag, "").again(repeat=1 + max(taken, default=0))
    seen = evidence.get(asked)
    if seen is not None and seen.tries >= GIVE_UP:
        return Answer(verdict=Verdict.NO_EVIDENCE, proof=(asked,))
    return Ask(phase=Phase.CONFIRM, trials=(asked,))


def _booted_in(trial: Trial, environment: str) -> Trial:
    return replace(trial, sample=replace(trial.sample, boot_environment=environment))


def _any(trial: Trial) -> Trial:
    """What is tried, whatever the sample and the boot environment."""
    return _booted_in(trial.again(), "")
