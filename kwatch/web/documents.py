# SPDX-License-Identifier: GPL-2.0-or-later
"""Values as JSON documents, written out name by name: internal renames do not change the API.

Times are seconds since the epoch, durations are seconds, absent values are null. Milestones are
their names in lower case.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kwatch.domain.coverage.figures import Metric
from kwatch.domain.lab.job import JobState
from kwatch.views.reading import progress

if TYPE_CHECKING:
    from kwatch.domain.coverage.figures import Totals
    from kwatch.domain.finding import Finding
    from kwatch.domain.milestone import Milestone
    from kwatch.domain.source.revision import Revision
    from kwatch.domain.source.series import Series
    from kwatch.domain.trial.steps import CheckoutResult
    from kwatch.domain.verdict.lane import TagRun
    from kwatch.store.cursors import Source
    from kwatch.store.hosts import SeenHost
    from kwatch.store.regressions import StoredEvent
    from kwatch.views.counts import Figures
    from kwatch.views.outbox import MailLine
    from kwatch.views.overview import BaselineLine, PresenceLine, TrialLine
    from kwatch.views.reading import (
        BootStory,
        Inquiry,
        JobLine,
        Letter,
        RegressionLine,
        RegressionStory,
        RevisionStory,
    )

Document = dict[str, Any]


def counts(figures: Figures) -> Document:
    """The counts of ``status``."""
    alive = (JobState.QUEUED, JobState.RUNNING)
    return {
        "jobs": {
            state: sum(count for (_, at), count in figures.jobs.items() if at is state)
            for state in alive
        },
        "trials": {**figures.trials, "pending": figures.pending},
        "regressions": dict(figures.regressions),
        "mails": dict(figures.mails),
        "sources": [source(item) for item in figures.sources],
        "blob_bytes": figures.blob_bytes,
    }


def source(value: Source) -> Document:
    """A source and its last look."""
    return {"name": value.name, "looked_at": value.looked_at, "error": value.error}


def tree(name: str, newest: Revision | None, look: Source | None) -> Document:
    """A tree."""
    return {
        "name": name,
        "newest": revision(newest) if newest else None,
        "looked_at": look.looked_at if look else None,
        "error": look.error if look else None,
    }


def revision(value: Revision) -> Document:
    """A tag."""
    return {
        "tree": value.tree,
        "tag": value.tag,
        "commit": value.commit,
        "seen_at": value.seen_at,
    }


def revision_story(story: RevisionStory) -> Document:
    """A tag at one commit."""
    return {
        "commit": story.revision.commit,
        "seen_at": story.revision.seen_at,
        "trials": [
            {**trial(line), "lab_failure": story.failures.get(line.id)} for line in story.trials
        ],
        "checkouts": [checkout(one) for one in story.checkouts],
        "baselines": [baseline(one) for one in story.baselines],
    }


def baseline(line: BaselineLine) -> Document:
    """What a tag is compared with."""
    return {
        "variant": line.variant,
        "name": line.name,
        "commit": line.commit,
        "outcome": line.outcome,
    }


def checkout(value: CheckoutResult) -> Document:
    """The result of applying the patches."""
    return {
        "key": value.key,
        "patches": [{"subject": one.subject, "fate": one.fate} for one in value.patches],
        "finding": finding(value.finding),
        "took": value.took,
    }


def trial(line: TrialLine) -> Document:
    """A trial."""
    return {
        "id": line.id,
        "commit": line.trial.commit,
        "tags": [{"tree": tree_name, "tag": tag} for tree_name, tag in line.tags],
        "variant": line.variant_name,
        "control": line.is_control,
        "series": line.series,
        "rebuild": line.trial.sample.rebuild,
        "repeat": line.trial.sample.repeat,
        "until": milestone(line.trial.until),
        "outcome": line.outcome,
        "milestone": milestone(line.milestone),
        "finding": finding(line.finding),
        "waits_for": line.step,
        "running": line.is_running,
        "host": line.host,
        "build": line.build_key,
        "boot": line.boot_key,
        "coverage": totals(line.totals),
        "created_at": line.created_at,
        "settled_at": line.settled_at,
    }


def finding(value: Finding | None) -> Document | None:
    """A finding."""
    if value is None:
        return None
    return {
        "kind": value.kind,
        "title": value.title,
        "function": value.function,
        "file": value.file,
        "excerpt": list(value.excerpt),
        "fingerprint": value.fingerprint,
    }


def milestone(value: Milestone) -> str:
    """The last milestone reached."""
    return value.name.lower()


def totals(value: Totals | None) -> Document | None:
    """Coverage; ``percent`` is null if there is nothing to cover."""
    if value is None:
        return None
    figures = {metric: getattr(value, metric) for metric in Metric}
    return {
        metric: {"covered": count.covered, "total": count.total, "percent": count.percent}
        for metric, count in figures.items()
    }


def regression(line: RegressionLine) -> Document:
    """A regression in a list."""
    value = line.regression
    return {
        "id": value.id,
        "tree": value.tree,
        "variant": value.variant_name,
        "state": value.state,
        "open": line.is_open,
        "opened_at": value.opened_at,
        "finding": finding(value.finding),
        "good": tag_result(value.good),
        "bad": tag_result(value.bad),
        "blame": line.blame,
        "commits": list(line.culprits),
        "grade": line.grade,
        "seen_in": [
            {"tree": seen.tree, "tag": seen.tag, "variants": list(seen.variants)}
            for seen in line.seen
        ],
        "present_in": [presence(one) for one in line.present],
        "progress": line.progress or None,
        "mails": [mail(one) for one in line.mails],
    }


def presence(line: PresenceLine) -> Document:
    """A regression in one branch of a lane; ``gone`` is null while it is there."""
    return {
        "tree": line.tree,
        "variant": line.variant,
        "good": line.good,
        "bad": line.bad,
        "gone": line.gone,
    }


def tag_result(value: TagRun) -> Document:
    """The good or bad tag of a regression."""
    return {
        "tag": value.tag,
        "commit": value.commit,
        "outcome": value.seen.outcome if value.seen else None,
        "milestone": milestone(value.seen.milestone) if value.seen else None,
    }


def boot_story(story: BootStory) -> Document:
    """A boot."""
    found = story.boot
    return {
        "key": found.key,
        "build": found.build,
        "end": found.end,
        "milestone": found.milestone.name.lower(),
        "host": found.host,
        "accelerator": found.accelerator,
        "environment": found.environment,
        "took": found.took,
        "boot_seconds": found.boot_seconds,
        "tests": {status.value: count for status, count in found.tests.items()},
        "recorded_at": story.at,
        "finding": finding(found.finding),
        "evidence": list(found.finding.evidence) if found.finding else [],
        "trials": [trial(line) for line in story.trials],
    }


def regression_story(story: RegressionStory) -> Document:
    """A regression with timeline, investigations and mails."""
    return {
        **regression(story.line),
        "timeline": [event(one) for one in story.timeline],
        "investigations": [inquiry(one) for one in story.inquiries],
        "mails": [letter(one) for one in story.letters],
    }


def event(value: StoredEvent) -> Document:
    """One entry of a timeline."""
    return {
        "kind": value.kind,
        "at": value.at,
        "detail": dict(value.detail),
        "reported_at": value.reported_at,
    }


def inquiry(value: Inquiry) -> Document:
    """An investigation and its trials."""
    found = value.investigation
    return {
        "goal": found.goal,
        "phase": found.phase,
        "remaining": found.remaining,
        "seconds_left": found.seconds_left,
        "progress": progress(found),
        "verdict": found.answer.verdict if found.answer else None,
        "commits": list(found.answer.commits) if found.answer else [],
        "grade": found.answer.grade if found.answer else None,
        "doubts": list(found.answer.doubts) if found.answer else [],
        "opened_at": found.opened_at,
        "ended_at": found.ended_at,
        "trials": [trial(line) for line in value.trials],
    }


def mail(line: MailLine) -> Document:
    """A mail without its text."""
    return {
        "id": line.id,
        "message_id": line.message_id,
        "thread": line.thread,
        "kind": line.kind,
        "subject": line.subject,
        "state": line.state,
        "error": line.error,
        "created_at": line.created_at,
        "sent_at": line.sent_at,
        "recipients": [
            {"address": one.address, "state": one.state, "answer": one.answer}
            for one in line.deliveries
        ],
    }


def letter(value: Letter) -> Document:
    """A mail with its text."""
    return {**mail(value.line), "text": value.text}


def job(line: JobLine) -> Document:
    """A job."""
    return {
        "id": line.job.id,
        "kind": line.job.kind,
        "subject": line.subject,
        "state": line.job.state,
        "attempt": line.job.attempt,
        "failures": line.job.failures,
        "run_after": line.job.run_after,
        "started_at": line.job.started_at,
        "host": line.job.host,
        "error": line.job.error,
    }


def host(line: SeenHost) -> Document:
    """A host; everything but its health is null until the first check."""
    facts = line.facts
    return {
        "name": line.name,
        "health": line.state.health.value,
        "reason": line.state.reason,
        "checked_at": line.checked_at,
        "looked_at": facts.looked_at if facts else None,
        "slots": {
            slot.value: {"used": facts.load.slots.get(slot, 0), "total": total}
            for slot, total in facts.slots.items()
        }
        if facts
        else None,
        "memory": {"used": facts.load.memory, "total": facts.memory} if facts else None,
        "cache": {"used": facts.cache, "budget": facts.cache_budget} if facts else None,
        "guests": dict(facts.guests) if facts else None,
        "proven": {
            name: {"at": proof.at, "seconds": dict(proof.seconds)}
            for name, proof in line.proven.items()
        },
    }


def series(value: Series) -> Document:
    """A posting of a series; ``accepted_by`` is null until it is accepted."""
    return {
        "name": value.name,
        "digest": value.digest,
        "title": value.title,
        "origin": value.origin,
        "patches": value.patches,
        "accepted_by": value.accepted_by,
        "posted_at": value.posted_at,
    }
