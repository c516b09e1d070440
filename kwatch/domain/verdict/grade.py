# SPDX-License-Identifier: GPL-2.0-or-later
"""How sure an investigation may be of a culprit."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from kwatch.domain.recipe.arch import ARCHES
from kwatch.domain.verdict.bisect.commits import Mark

if TYPE_CHECKING:
    from kwatch.domain.source.commit import CommitInfo

# A bug that fails only sometimes explains good results by luck. A culprit is proven when the best
# such explanation is less likely than this.
LUCK = 0.0001
# More boots of the clean builds of a commit, and of its parents, that a proof may cost.
MOST_SAMPLES = 6
# A flaky bug is missed in a commit that has it with this probability at most.
MISSED = 0.05


class Grade(StrEnum):
    """What a report may say.

    VERIFIED: clean builds of the commit fail in the same way, those of its parents do not, and luck
    does not explain it. LIKELY: the search led to this commit. SET: it is one of several.
    """

    VERIFIED = "verified"
    LIKELY = "likely"
    SET = "set"


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """Samples of one commit: how many show the problem, and how many could have."""

    bad: int = 0
    good: int = 0

    @property
    def runs(self) -> int:
        """All that say anything."""
        return self.bad + self.good

    def plus(self, mark: Mark) -> Count:
        """One more sample."""
        match mark:
            case Mark.BAD:
                return Count(bad=self.bad + 1, good=self.good)
            case Mark.GOOD:
                return Count(bad=self.bad, good=self.good + 1)
            case Mark.UNTESTABLE:
                return self

    def __str__(self) -> str:
        return f"{self.bad}/{self.runs}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanBuilds:
    """Samples of the clean builds of a culprit and of all its parents."""

    culprit: Count = Count()
    parents: Count = Count()


def doubts_about(commit: CommitInfo, arch: str) -> tuple[str, ...]:
    """What speaks against a culprit, whatever the trials say; each completes "but"."""
    found = []
    if commit.is_merge:
        found.append("it is a merge")
    if commit.files and all(_is_foreign(path, arch) for path in commit.files):
        found.append(f"it changes nothing that is compiled for {arch}")
    return tuple(found)


def _is_foreign(path: str, arch: str) -> bool:
    if path.startswith("arch/"):
        # arch/Kconfig belongs to all.
        return path.count("/") > 1 and not path.startswith(f"arch/{ARCHES[arch].folder}/")
    return path.startswith("Documentation/")


def luck(failing: int, passing: int) -> float:
    """The likelihood of ``failing`` failures and then ``passing`` passes of one and the same bug,
    for the failure rate that explains them best.
    """
    total = failing + passing
    if total == 0:
        return 1.0
    rate = failing / total
    return float(rate**failing * (1 - rate) ** passing)


def samples_needed(failing: int, passing: int) -> tuple[int, int]:
    """How many more failures and passes leave nothing to luck, for the fewest boots in all.

    A boot that fails is mostly over sooner than one that passes, so failures come first.
    """
    choices = (
        (more, also)
        for total in range(2 * MOST_SAMPLES)
        for also in range(total + 1)
        for more in [total - also]
        if more <= MOST_SAMPLES and also <= MOST_SAMPLES
    )
    return next(
        ((more, also) for more, also in choices if luck(failing + more, passing + also) < LUCK),
        (MOST_SAMPLES, MOST_SAMPLES),
    )


def runs_needed(seen: Count) -> int:
    """Passes after which a commit counts as good, by how often the problem showed elsewhere."""
    if seen.good == 0 or seen.bad == 0:
        return 1
    rate = seen.bad / seen.runs
    chance = 1.0
    for number in range(1, 4 * MOST_SAMPLES):
        chance *= 1 - rate
        if chance < MISSED:
            return number
    return 4 * MOST_SAMPLES
