# SPDX-License-Identifier: GPL-2.0-or-later
"""What the listings print: a table for people, the HTTP API's documents for programs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kwatch.cli.layout import document, moment, section, table
from kwatch.domain.lab.job import JobKind
from kwatch.domain.mail.story import DeliveryState, MailState
from kwatch.store import hosts as hosts_store
from kwatch.store import series as series_store
from kwatch.views import counts
from kwatch.views import outbox as outbox_view
from kwatch.views import reading as stories
from kwatch.web import documents

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kwatch.domain.lab.host import HostFacts, Slot
    from kwatch.domain.source.series import Series
    from kwatch.store.database import Transaction
    from kwatch.store.hosts import SeenHost
    from kwatch.views.outbox import MailLine
    from kwatch.views.overview import TagLine, TrialLine
    from kwatch.views.reading import Front, JobLine, RegressionLine

MAILS = 50
SHOWN_RECIPIENTS = 2
SHOWN_TAGS = 2
SHORT = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """One answer in both forms."""

    text: str
    document: Any


# --- status ---------------------------------------------------------------------------------------


def status(tx: Transaction) -> Listing:
    """Trees, open regressions, jobs, failing sources, and what needs the operator."""
    front = stories.front(tx)
    text = document(
        *(section(tree, _tags(tags, front.failures)) for tree, tags in front.trees.items()),
        section("Open regressions", regressions(front.regressions)),
        section("Jobs", _jobs(front.jobs, front.more_jobs)),
        section("Failing sources", _sources(front)),
        section("For the operator", "\n".join(_needs(front))),
    )
    return Listing(
        text=text or "no tree was looked at yet", document=documents.counts(counts.figures(tx))
    )


def _tags(tags: Sequence[TagLine], failures: Mapping[int, str]) -> str:
    rows: list[Sequence[object]] = []
    for tag in tags:
        name = tag.revision.tag
        for line in tag.trials:
            rows.append((name, variant(line), result(line), reached(line), finding(line, failures)))
            name = ""
        if not tag.trials:
            rows.append((name, "", "not planned", "", ""))
    headings = ("TAG", "VARIANT", "RESULT", "REACHED", "FINDING")
    return table(headings, rows, empty="no tag was seen yet")


def regressions(lines: Sequence[RegressionLine]) -> str:
    """Regressions, a row each."""
    rows = [
        (
            line.regression.id,
            line.regression.state,
            line.regression.tree,
            line.regression.variant_name,
            line.regression.good.tag,
            line.regression.bad.tag,
            seen_in(line, SHOWN_TAGS),
            line.progress,
            line.grade,
            line.regression.finding.title,
        )
        for line in lines
    ]
    headings = (
        "NUMBER", "STATE", "TREE", "VARIANT", "LAST GOOD", "FIRST BAD", "SEEN IN", "INVESTIGATION",
        "GRADE", "FINDING",
    )  # fmt: skip
    return table(headings, rows)


def seen_in(line: RegressionLine, limit: int) -> str:
    """The newest tags in which a regression was seen, each with its variants."""
    shown = [
        f"{'' if seen.tree == line.regression.tree else f'{seen.tree} '}{seen.tag}"
        f" ({', '.join(seen.variants)})"
        for seen in line.seen[:limit]
    ]
    more = len(line.seen) - limit
    return ", ".join(shown) + (f" and {_counted(more, 'earlier tag')}" if more > 0 else "")


def _jobs(lines: Sequence[JobLine], more: int) -> str:
    rows = [
        (
            line.job.state,
            line.job.kind,
            line.job.key[:SHORT] if line.job.kind == JobKind.BOOT else "",
            line.subject,
            line.job.host,
            line.job.error.splitlines()[0] if line.job.error else "",
        )
        for line in lines
    ]
    text = table(("STATE", "KIND", "KEY", "SUBJECT", "HOST", "LAST ERROR"), rows)
    return f"{text}\n... and {more} more" if more else text


def _sources(front: Front) -> str:
    rows = [(source.name, source.error) for source in front.sources if source.error]
    return table(("SOURCE", "ERROR"), rows)


def _needs(front: Front) -> list[str]:
    """What only the operator can do, a line each, with the command."""
    held = front.mail_states.get(MailState.HELD, 0)
    needs = [f"{_counted(held, 'mail')} held: see 'kwatch report list'"] if held else []
    needs += [
        f"series {one.name} {one.digest[:SHORT]} is not accepted: see 'kwatch series list'"
        for one in front.series
        if one.accepted_by is None
    ]
    needs += [
        f"{host.name}: {name} is unproven: run 'kwatch hosts prove {host.name}'"
        for host in front.hosts
        for name in unproven(host)
    ]
    return needs


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


# --- a trial -------------------------------------------------------------------------------------


def variant(line: TrialLine) -> str:
    """The variant; a control is marked as such."""
    return f"{line.variant_name}{' (control)' if line.is_control else ''}"


def result(line: TrialLine) -> str:
    """The outcome, or the next step and whether it runs."""
    if line.outcome:
        return line.outcome
    return f"{line.step or 'step'} {'running' if line.is_running else 'queued'}"


def reached(line: TrialLine) -> str:
    """The last milestone, once the outcome is known."""
    return line.milestone.label if line.outcome else ""


def finding(line: TrialLine, failures: Mapping[int, str]) -> str:
    """The title of the finding, or the failure of the lab."""
    return line.finding.title if line.finding else failures.get(line.id, "")


# --- hosts ----------------------------------------------------------------------------------------


def hosts(tx: Transaction) -> Listing:
    """The hosts with their load, and what is known of their accelerators."""
    found = hosts_store.seen(tx)
    headings = ("NAME", "HEALTH", "BUILDS", "BOOTS", "MEMORY", "CACHE", "CHECKED", "REASON")
    listed = table(headings, map(_host, found), empty="no host was checked yet")
    guests = table(
        ("HOST", "ACCELERATOR", "STATE", "DETAIL"),
        [row for host in found for row in _accelerators(host)],
    )
    return Listing(text=document(listed, guests), document=[documents.host(host) for host in found])


def unproven(host: SeenHost) -> list[str]:
    """The accelerators that run guests, without a proof that verdicts are right there."""
    guests = host.facts.guests if host.facts else {}
    return [name for name, trouble in guests.items() if trouble is None and name not in host.proven]


def _host(host: SeenHost) -> Sequence[object]:
    facts = host.facts
    return (
        host.name,
        host.state.health.value,
        *((_slots(facts, "build"), _slots(facts, "boot")) if facts else ("", "")),
        _gib(facts.load.memory, facts.memory) if facts and facts.memory is not None else "",
        _gib(facts.cache, facts.cache_budget) if facts and facts.cache is not None else "",
        moment(facts.looked_at) if facts and facts.looked_at is not None else "never",
        host.state.reason,
    )


def _slots(facts: HostFacts, kind: str) -> str:
    used: Mapping[Slot, int] = facts.load.slots
    return "".join(
        f"{used.get(slot, 0)}/{total}" for slot, total in facts.slots.items() if slot.value == kind
    )


def _accelerators(host: SeenHost) -> list[Sequence[object]]:
    rows: list[Sequence[object]] = []
    for name, trouble in (host.facts.guests if host.facts else {}).items():
        if trouble is not None:
            rows.append((host.name, name, "fails", trouble))
        elif name in host.proven:
            rows.append((host.name, name, "proven", f"at {moment(host.proven[name].at)}"))
        else:
            rows.append((host.name, name, "unproven", f"run 'kwatch hosts prove {host.name}'"))
    return rows


def _gib(used: int, total: int) -> str:
    return f"{used / (1 << 30):.1f}/{total / (1 << 30):.1f} GiB"


# --- series and mails -----------------------------------------------------------------------------


def series(tx: Transaction) -> Listing:
    """The postings of the watched series, newest first."""
    found = series_store.newest_first(tx)
    headings = ("DIGEST", "NAME", "POSTED", "PATCHES", "ACCEPTED", "ORIGIN", "TITLE")
    return Listing(
        text=table(headings, map(_posting, found), empty="no series was seen yet"),
        document=[documents.series(one) for one in found],
    )


def _posting(one: Series) -> Sequence[object]:
    return (
        one.digest[:SHORT],
        one.name,
        moment(one.posted_at),
        one.patches,
        f"by {one.accepted_by}" if one.accepted_by else "no",
        one.origin,
        one.title,
    )


def mails(tx: Transaction) -> Listing:
    """The newest mails of the outbox."""
    found = outbox_view.mails(tx, limit=MAILS)
    return Listing(
        text=outbox(found) or "no mail was written yet",
        document=[documents.mail(one) for one in found],
    )


def outbox(lines: Sequence[MailLine]) -> str:
    """Mails, a row each."""
    rows = [(one.id, one.state, one.kind, _recipients(one), one.subject) for one in lines]
    return table(("NUMBER", "STATE", "KIND", "TO", "SUBJECT"), rows)


def _recipients(line: MailLine) -> str:
    """The first recipients; refused ones come first and are marked."""
    ordered = sorted(line.deliveries, key=lambda one: one.state is not DeliveryState.REFUSED)
    shown = [
        f"{one.address}{' (refused)' if one.state is DeliveryState.REFUSED else ''}"
        for one in ordered[:SHOWN_RECIPIENTS]
    ]
    more = len(ordered) - SHOWN_RECIPIENTS
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")
