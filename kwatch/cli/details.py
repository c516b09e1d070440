# SPDX-License-Identifier: GPL-2.0-or-later
"""What ``kwatch show`` and ``kwatch report show`` print of one thing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kwatch.cli.layout import document, moment, record, section, table
from kwatch.cli.tables import SHORT, Listing, finding, outbox, reached, result, seen_in, variant
from kwatch.domain.text import printable
from kwatch.errors import ConfigError, KwatchError
from kwatch.views import outbox as outbox_view
from kwatch.views import overview
from kwatch.views import reading as stories
from kwatch.web import documents

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kwatch.domain.coverage.figures import Count
    from kwatch.domain.finding import Finding
    from kwatch.domain.verdict.lane import TagRun
    from kwatch.store.database import Transaction
    from kwatch.store.regressions import StoredEvent
    from kwatch.views.overview import PresenceLine, TrialLine
    from kwatch.views.reading import BootStory, RegressionStory, RevisionStory

SHORTEST_KEY = 6
# The newest tags with a regression that are listed.
SHOWN_TAGS = 10


class NotFoundError(KwatchError):
    """Nothing has this name."""


def regression(tx: Transaction, number: str) -> Listing:
    """A regression: culprit, blame, timeline and mails."""
    story = stories.regression_story(tx, _number(number, "regression"))
    if story is None:
        raise NotFoundError(f"there is no regression {number}: see 'kwatch status'")
    known = story.line.regression
    places = table(("TREE", "VARIANT", "SINCE", "GONE IN"), map(_place, story.line.present))
    events = table(("TIME", "EVENT", "DETAILS"), map(_event, story.timeline))
    return Listing(
        text=document(
            section(f"Regression {known.id}: {known.state}", record(_facts(story))),
            _excerpt(known.finding),
            section("Present in", places),
            section("Timeline", events),
            section("Mails", outbox([letter.line for letter in story.letters])),
        ),
        document=documents.regression_story(story),
    )


def _facts(story: RegressionStory) -> list[tuple[str, object]]:
    line, known = story.line, story.line.regression
    many = len(line.culprits) > 1
    answer = line.investigation.answer if line.investigation else None
    return [
        ("finding", known.finding.title),
        ("tree", known.tree),
        ("variant", known.variant_name),
        ("last good", _tag(known.good)),
        ("first bad", _tag(known.bad)),
        ("reached", known.milestone.label),
        ("opened", moment(known.opened_at)),
        ("blame", line.blame),
        ("suspects" if many else "culprit", ", ".join(line.culprits)),
        ("grade", line.grade),
        ("investigation", line.progress or "not started"),
        ("trials", len(answer.proof) if answer else None),
        ("fingerprint", known.fingerprint),
        ("seen in", seen_in(line, SHOWN_TAGS)),
    ]


def _tag(value: TagRun) -> str:
    return f"{value.tag} ({value.commit[:SHORT]})"


def _place(line: PresenceLine) -> Sequence[object]:
    return (line.tree, line.variant, line.bad, line.gone)


def _event(event: StoredEvent) -> Sequence[object]:
    details = ", ".join(f"{name} {value}" for name, value in event.detail.items())
    return (moment(event.at), event.kind.value, details)


def revision(tx: Transaction, tree: str, tag: str) -> Listing:
    """The trials of a tag, with the keys of their builds and boots."""
    found = stories.revision_stories(tx, tree, tag)
    if not found:
        raise NotFoundError(f"there is no tag {tag} in {tree}: see 'kwatch status'")
    return Listing(
        text=document(*(_commit(tree, tag, story) for story in found)),
        document=[documents.revision_story(story) for story in found],
    )


def _commit(tree: str, tag: str, story: RevisionStory) -> str:
    at = story.revision
    rows = [
        (
            variant(line),
            _trial(line),
            result(line),
            reached(line),
            *_coverage(line),
            (line.build_key or "")[:SHORT],
            (line.boot_key or "")[:SHORT],
            finding(line, story.failures),
        )
        for line in story.trials
    ]
    headings = (
        "VARIANT", "TRIAL", "RESULT", "REACHED", "LINES", "BRANCHES", "MC/DC", "BUILD", "BOOT",
        "FINDING",
    )  # fmt: skip
    return document(
        section(
            f"{tree} {tag}",
            record([("commit", at.commit), ("seen", moment(at.seen_at))]),
        ),
        table(headings, rows, empty="nothing is planned for this commit"),
        section(
            "Compared with",
            table(
                ("VARIANT", "BASELINE", "COMMIT", "RESULT"),
                [
                    (one.variant, one.name, one.commit[:SHORT], one.outcome or "not tried")
                    for one in story.baselines
                ],
            ),
        ),
        *(
            table(("FATE", "PATCH"), [(one.fate, one.subject) for one in checkout.patches])
            for checkout in story.checkouts
        ),
    )


def _trial(line: TrialLine) -> str:
    sample = line.trial.sample
    parts = [f"rebuild {sample.rebuild}"] if sample.rebuild else []
    parts += [f"repeat {sample.repeat}"] if sample.repeat else []
    parts += [f"on {sample.host}"] if sample.host else []
    return " ".join(parts) or "first"


def _coverage(line: TrialLine) -> Sequence[str]:
    def percent(count: Count) -> str:
        return "" if count.percent is None else f"{count.percent:.1f} %"

    totals = line.totals
    if totals is None:
        return ("", "", "")
    return (percent(totals.lines), percent(totals.branches), percent(totals.mcdc))


def boot(tx: Transaction, name: str) -> Listing:
    """A boot by the beginning of its key: end, tests, files and finding."""
    key = boot_key(tx, name)
    story = stories.boot_story(tx, key)
    if story is None:
        text = f"boot {key[:SHORT]} has not ended: see 'kwatch show boot {key[:SHORT]} --follow'"
        return Listing(text=text, document={"key": key, "end": None})
    return Listing(text=_boot(story), document=documents.boot_story(story))


def _boot(story: BootStory) -> str:
    found = story.boot
    facts: list[tuple[str, object]] = [
        ("ended", moment(story.at)),
        ("end", found.end),
        ("reached", found.milestone.label),
        ("host", f"{found.host} ({found.accelerator})"),
        *(("environment", line) for line in found.environment.splitlines()[:1]),
        ("took", f"{found.took:.1f} s"),
        ("build", found.build[:SHORT]),
        ("tests", ", ".join(f"{count} {status.value}" for status, count in found.tests.items())),
        ("finding", found.finding.title if found.finding else None),
    ]
    tried = table(
        ("COMMIT", "TAGS", "VARIANT", "TRIAL", "RESULT"),
        [
            (
                line.trial.commit[:SHORT],
                ", ".join(tag for _, tag in line.tags),
                variant(line),
                _trial(line),
                result(line),
            )
            for line in story.trials
        ],
    )
    files = table(
        ("ARTIFACT", "FILE"),
        [
            (name, f"blobs/{digest[:2]}/{digest}.zst")
            for name, digest in sorted(found.artifacts.items())
        ],
    )
    evidence = "\n".join(found.finding.evidence) if found.finding else ""
    environment = "\n".join(found.environment.splitlines()[1:])
    return document(
        section(f"Boot {found.key[:SHORT]}", record(facts)),
        tried,
        files,
        printable(environment),
        printable(evidence),
        _excerpt(found.finding),
    )


def _excerpt(found: Finding | None) -> str:
    lines = found.excerpt if found else ()
    return printable("\n".join(f"  | {line}" for line in lines))


def boot_key(tx: Transaction, name: str) -> str:
    """The key of the one boot whose key begins with ``name``."""
    if len(name) < SHORTEST_KEY:
        raise NotFoundError(f"{name!r} is too short: give {SHORTEST_KEY} characters or more")
    found = overview.boots(tx, name, limit=2)
    if len(found) == 1:
        return found[0]
    if found:
        raise NotFoundError(f"several boots have a key that begins with {name}: give more of it")
    raise NotFoundError(f"no boot has a key that begins with {name}: see 'kwatch show revision'")


def mail(tx: Transaction, number: str) -> Listing:
    """One mail as it is sent."""
    raw = outbox_view.text(tx, _number(number, "mail"))
    letter = stories.letter(tx, int(number))
    if raw is None or letter is None:
        raise NotFoundError(f"there is no mail {number}: see 'kwatch report list'")
    text = printable(raw.decode("utf-8", "replace"))
    return Listing(text=text.rstrip("\n"), document=documents.letter(letter))


def _number(text: str, what: str) -> int:
    if not text.isdecimal() or not text.isascii() or len(text) > 18:
        raise ConfigError(f"{text!r} is not the number of a {what}")
    return int(text)
