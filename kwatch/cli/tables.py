# SPDX-License-Identifier: GPL-2.0-or-later
"""What the command line prints: for people as lines, for programs as the HTTP API's documents."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from kwatch.domain.lab.job import JobKind
from kwatch.errors import ConfigError, KwatchError
from kwatch.store import hosts as hosts_store
from kwatch.store import problems, versions
from kwatch.views import counts, overview
from kwatch.views import reading as stories
from kwatch.web import documents

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from kwatch.domain.coverage.figures import Totals
    from kwatch.store.database import Transaction
    from kwatch.store.hosts import SeenHost
    from kwatch.views.overview import ObservationLine

MAILS = 50
SHORTEST_KEY = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """One answer in both forms."""

    lines: tuple[str, ...]
    document: Any


class NotFoundError(KwatchError):
    """There is nothing of that name."""


def status(tx: Transaction) -> Listing:
    """What the lab is at."""
    front = stories.front(tx)
    lines = []
    for tree, tags in front.trees.items():
        for tag in tags:
            lines.append(f"{tree} {tag.revision.tag} {tag.revision.commit[:12]}")
            lines += [f"  {line}" for line in _observations(tag.observations)]
    for line in front.regressions:
        regression = line.regression
        lines.append(
            f"regression {regression.id} ({regression.state}): {regression.finding.title},"
            f" {regression.good.tag}..{regression.bad.tag}; {line.progress}"
        )
    lines += [
        f"{item.job.state} {item.job.kind}"
        f"{f' {item.job.key[:12]}' if item.job.kind == JobKind.BOOT else ''} {item.subject}"
        + (f": {item.job.error.splitlines()[0]}" if item.job.error else "")
        for item in front.jobs
    ]
    lines += [f"{source.name}: {source.error}" for source in front.sources if source.error]
    lines += [
        f"{host.name}: {name.upper()}: unproven" for host in front.hosts for name in unproven(host)
    ]
    return Listing(
        lines=tuple(lines or ["nothing yet"]), document=documents.counts(counts.figures(tx))
    )


def hosts(tx: Transaction) -> Listing:
    """The hosts as they were last seen."""
    found = hosts_store.seen(tx)
    return Listing(
        lines=tuple(line for host in found for line in _host(host)),
        document=[documents.host(host) for host in found],
    )


def unproven(host: SeenHost) -> list[str]:
    """The accelerators that run guests there, of which it is not proven how these end."""
    guests = host.facts.guests if host.facts else {}
    return [name for name, trouble in guests.items() if trouble is None and name not in host.proven]


def _host(host: SeenHost) -> list[str]:
    lines = [f"{host.name}: {host.state.health.value} {host.state.reason}".rstrip()]
    facts = host.facts
    if facts is None:
        return lines
    used = [
        f"{slot.value}s {facts.load.slots.get(slot, 0)}/{total}"
        for slot, total in facts.slots.items()
        if total
    ]
    if facts.memory is not None:
        used.append(f"memory of guests {_gib(facts.load.memory)} of {_gib(facts.memory)} GiB")
    if facts.cache is not None:
        used.append(f"cache {_gib(facts.cache)} of {_gib(facts.cache_budget)} GiB")
    looked = "not looked over yet" if facts.looked_at is None else _time(facts.looked_at)
    used.append(looked if facts.looked_at is None else f"looked over {looked}")
    lines.append(f"  {', '.join(used)}")
    for accelerator, trouble in facts.guests.items():
        if trouble is not None:
            lines.append(f"  {accelerator.upper()}: no guest runs ({trouble})")
        elif accelerator in host.proven:
            lines.append(f"  {accelerator.upper()}: proven {_time(host.proven[accelerator].at)}")
        else:
            lines.append(f"  {accelerator.upper()}: unproven, see 'kwatch hosts accept'")
    return lines


def _gib(size: int) -> str:
    return f"{size / (1 << 30):.1f}"


def series(tx: Transaction) -> Listing:
    """The postings of the watched series, newest first."""
    found = versions.newest_first(tx)
    return Listing(
        lines=tuple(
            f"{one.digest[:12]} {one.name}: {one.title} ({one.patches} patches,"
            f" {f'accepted by {one.accepted_by}' if one.accepted_by else 'waits for acceptance'})"
            for one in found
        ),
        document=[documents.series(one) for one in found],
    )


def mails(tx: Transaction) -> Listing:
    """The newest mails of the outbox."""
    found = overview.mails(tx, limit=MAILS)
    return Listing(
        lines=tuple(f"{one.id} {one.state} {_time(one.created_at)} {one.subject}" for one in found),
        document=[documents.mail(one) for one in found],
    )


def mail(tx: Transaction, number: str) -> Listing:
    """One mail as it goes out."""
    raw = overview.mail_text(tx, _number(number, "mail"))
    letter = stories.letter(tx, int(number))
    if raw is None or letter is None:
        raise NotFoundError(f"there is no mail {number}: see 'kwatch report'")
    return Listing(
        lines=tuple(raw.decode("utf-8", "replace").splitlines()),
        document=documents.letter(letter),
    )


def revision(tx: Transaction, tree: str, tag: str) -> Listing:
    """What was observed of a tag."""
    found = stories.revision_stories(tx, tree, tag)
    if not found:
        raise NotFoundError(f"{tree} {tag} was never seen: see 'kwatch status'")
    lines = []
    for story in found:
        lines.append(f"{tree} {tag} {story.revision.commit}, seen {_time(story.revision.seen_at)}")
        lines += [f"  {line}" for line in _observations(story.observations)]
    return Listing(
        lines=tuple(lines), document=[documents.revision_story(story) for story in found]
    )


def regression(tx: Transaction, number: str) -> Listing:
    """The timeline of a regression, and its mails."""
    story = stories.regression_story(tx, _number(number, "regression"))
    if story is None:
        raise NotFoundError(f"there is no regression {number}: see 'kwatch status'")
    known = problems.regression(tx, int(number))
    lines = [
        f"regression {known.id} ({known.state}): {known.finding.title}",
        f"  {known.tree} {known.good.tag}..{known.bad.tag}, variant {known.variant_name}",
        *(f"  {_time(event.at)} {event.kind}" for event in story.timeline),
        *(f"  mail {letter.line.id} {letter.line.state}: {letter.line.subject}"
          for letter in story.letters),
    ]  # fmt: skip
    return Listing(lines=tuple(lines), document=documents.regression_story(story))


def boot(tx: Transaction, name: str) -> Listing:
    """How a boot went, by the beginning of its key."""
    key = boot_key(tx, name)
    story = stories.boot_story(tx, key)
    if story is None:
        line = f"boot {key[:12]} is not over: 'kwatch show boot {key[:12]} --follow' shows it"
        return Listing(lines=(line,), document={"key": key, "end": None})
    found = story.boot
    return Listing(
        lines=(
            (
                f"boot {key[:12]} ended {_time(story.at)}: {found.end}, got as far as"
                f" {found.milestone.label}, on {found.host} ({found.accelerator}),"
                f" {found.took:.1f} s"
            ),
            *(f"  tests, {status.value}: {count}" for status, count in found.tests.items()),
            *(f"  {line}" for line in _observations(story.observations)),
            *(
                f"  {name}: blobs/{digest[:2]}/{digest}.zst"
                for name, digest in sorted(found.artifacts.items())
            ),
            *(f"  {line}" for line in (found.finding.evidence if found.finding else ())),
            *(f"  | {line}" for line in (found.finding.excerpt if found.finding else ())),
        ),
        document=documents.boot_story(story),
    )


def boot_key(tx: Transaction, name: str) -> str:
    """The key of the one boot whose key begins with ``name``."""
    found = overview.boots(tx, name, limit=2) if len(name) >= SHORTEST_KEY else ()
    if len(found) == 1:
        return found[0]
    few = f"{name} is the beginning of several boots' keys" if found else f"there is no boot {name}"
    raise NotFoundError(f"{few}: give {SHORTEST_KEY} characters or more; see 'kwatch status'")


SHOWN: Mapping[str, Callable[..., Listing]] = {
    "boot": boot,
    "regression": regression,
    "revision": revision,
}
# What names one of them.
NAMED_BY: Mapping[str, tuple[str, ...]] = {
    "boot": ("KEY",),
    "regression": ("NUMBER",),
    "revision": ("TREE", "TAG"),
}


def _observations(lines: Sequence[ObservationLine]) -> list[str]:
    return [
        f"{line.variant_name}{' (control)' if line.is_control else ''}:"
        f" {line.outcome or 'under way'}, {line.milestone.label}{_figures(line.totals)}"
        + (f": {line.finding.title}" if line.finding else "")
        for line in lines
    ]


def _figures(totals: Totals | None) -> str:
    if totals is None:
        return ""
    named = {
        "lines": totals.lines,
        "functions": totals.functions,
        "branches": totals.branches,
        "MC/DC": totals.mcdc,
    }
    shown = [
        f"{name} {count.percent:.1f} %"
        for name, count in named.items()
        if count.percent is not None
    ]
    return f" ({', '.join(shown)})"


def _number(text: str, what: str) -> int:
    if not text.isdecimal() or len(text) > 18:
        raise ConfigError(f"{text!r} is not the number of a {what}")
    return int(text)


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
