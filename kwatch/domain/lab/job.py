# SPDX-License-Identifier: GPL-2.0-or-later
"""Jobs: what can be asked of the worker, and how a job lives and dies.

A job names a stage and a key and carries nothing else: the stage reads all it needs from the
store, so a wake-up that comes twice, late or after a crash does no harm.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from kwatch.domain.lab.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Mapping


class JobKind(StrEnum):
    """One for each stage, in the order a tag travels."""

    WATCH = "watch"
    LISTEN = "listen"
    PLAN = "plan"
    CHECKOUT = "checkout"
    BUILD = "build"
    BOOT = "boot"
    COLLECT = "collect"
    JUDGE = "judge"
    BASELINE = "baseline"
    INVESTIGATE = "investigate"
    REPORT = "report"
    SEND = "send"
    COMMAND = "command"
    REREAD = "reread"
    TIDY = "tidy"
    RETRY = "retry"


WHOLE = "all"
"""The key of a job that there is only one of."""

CACHES = "caches"
"""The key of a TIDY that deletes the compiler caches of verifications that ended, and no more."""

STEPS = (JobKind.CHECKOUT, JobKind.BUILD, JobKind.BOOT, JobKind.COLLECT)


def baseline_key(lane: int, revision: int) -> str:
    """The key of a BASELINE: a tag (the number of its revision) that fails in a lane."""
    return f"{lane}/{revision}"


def failing_tag(key: str) -> tuple[int, int]:
    """The lane and the revision in such a key."""
    lane, _, revision = key.partition("/")
    return int(lane), int(revision)


class Resource(StrEnum):
    """What a job occupies while it runs; each has its own number of slots."""

    SOURCE = "source"
    GIT = "git"
    BUILD = "build"
    BOOT = "boot"
    COLLECT = "collect"
    THOUGHT = "thought"
    MAIL = "mail"


RESOURCE: Mapping[JobKind, Resource] = {
    JobKind.WATCH: Resource.SOURCE,
    JobKind.LISTEN: Resource.SOURCE,
    JobKind.PLAN: Resource.THOUGHT,
    JobKind.CHECKOUT: Resource.GIT,
    JobKind.BUILD: Resource.BUILD,
    JobKind.BOOT: Resource.BOOT,
    JobKind.COLLECT: Resource.COLLECT,
    JobKind.JUDGE: Resource.THOUGHT,
    JobKind.BASELINE: Resource.SOURCE,
    JobKind.INVESTIGATE: Resource.THOUGHT,
    JobKind.REPORT: Resource.THOUGHT,
    JobKind.SEND: Resource.MAIL,
    JobKind.COMMAND: Resource.THOUGHT,
    JobKind.REREAD: Resource.SOURCE,
    JobKind.TIDY: Resource.SOURCE,
    JobKind.RETRY: Resource.THOUGHT,
}


class JobState(StrEnum):
    """Where a job is. QUEUED and RUNNING are alive, the others are history."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    DROPPED = "dropped"
    DEAD = "dead"


class JobEvent(StrEnum):
    """What can happen to a job."""

    CLAIM = "claim"
    FINISH = "finish"
    FAIL = "fail"
    GIVE_UP = "give up"
    RELEASE = "release"
    DROP = "drop"


TRANSITIONS: Mapping[tuple[JobState, JobEvent], JobState] = {
    (JobState.QUEUED, JobEvent.CLAIM): JobState.RUNNING,
    (JobState.QUEUED, JobEvent.DROP): JobState.DROPPED,
    (JobState.RUNNING, JobEvent.FINISH): JobState.DONE,
    (JobState.RUNNING, JobEvent.FAIL): JobState.QUEUED,
    (JobState.RUNNING, JobEvent.GIVE_UP): JobState.DEAD,
    (JobState.RUNNING, JobEvent.RELEASE): JobState.QUEUED,
    (JobState.RUNNING, JobEvent.DROP): JobState.DROPPED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Handle:
    """A supervised command of a job: stored before it starts, so that a restart can adopt it.

    ``environment`` is the boot environment that it was started in, if it is a boot.
    """

    host: str
    run_id: str
    slot: int
    environment: str = ""


class Purpose(StrEnum):
    """What a step is done for."""

    TAG = "tag"
    SEARCH = "search"


@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
    """On whose behalf a step is done: a tree, and what for. A SEARCH is for investigations only."""

    tree: str
    purpose: Purpose


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A claimed job. ``attempt`` counts from 1 and fences its results.

    ``party`` is known of the steps that were just claimed.
    """

    id: int
    kind: JobKind
    key: str
    attempt: int
    failures: int
    handle: Handle | None = None
    party: Party | None = None


_NEVER = 1_000_000
# Attempts that fail before the job is given up. Only a step may fail for good, for INFRA is an
# answer too. A source is looked at for ever, and so is what nobody would ask for again: a tag that
# is never planned or judged, an investigation without an answer, a mail that is never written.
# A mail that is written is worth days of trying.
GIVE_UP_AFTER: Mapping[JobKind, int] = {
    JobKind.WATCH: _NEVER,
    JobKind.LISTEN: _NEVER,
    JobKind.PLAN: _NEVER,
    JobKind.CHECKOUT: 6,
    JobKind.BUILD: 6,
    JobKind.BOOT: 6,
    JobKind.COLLECT: 6,
    JobKind.JUDGE: _NEVER,
    JobKind.BASELINE: _NEVER,
    JobKind.INVESTIGATE: _NEVER,
    JobKind.REPORT: _NEVER,
    JobKind.SEND: 200,
    JobKind.COMMAND: 3,
    JobKind.REREAD: _NEVER,
    JobKind.TIDY: _NEVER,
    JobKind.RETRY: _NEVER,
}

LEASE_SECONDS = 180.0
FIRST_DELAY = 5.0
LONGEST_DELAY = 1800.0
RETRY = Backoff(first=FIRST_DELAY, longest=LONGEST_DELAY, jitter=0.25)


def delay_after(failures: int, *, jitter: float) -> float:
    """Seconds to wait after the n-th failure in a row; ``jitter`` in [0, 1) spreads the herd."""
    return RETRY.delay(failures, chance=jitter)


def is_hopeless(kind: JobKind, failures: int) -> bool:
    """Whether a job that failed that often is given up (its trials become INFRA)."""
    return failures >= GIVE_UP_AFTER[kind]
