# SPDX-License-Identifier: GPL-2.0-or-later
"""What a report shows: tables of trials, a log, coverage, commands, what was built.

Each function gives one section, or nothing where there is nothing to show. What strangers wrote
stands indented, so that no line of theirs can pass for one of ours.
"""

from __future__ import annotations

import re
import textwrap
from itertools import groupby
from typing import TYPE_CHECKING, assert_never

from kwatch.domain.coverage.figures import Metric, count_of
from kwatch.domain.finding import FindingKind
from kwatch.domain.mail.phrase import WIDTH, archived, area, label, listed, paragraph, short_name
from kwatch.domain.mail.story import ReportKind
from kwatch.domain.text import log_line, one_line
from kwatch.domain.trial.observation import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kwatch.domain.mail.story import Correspondence, Proof, Story

_MAX_EXCERPT_LINES = 80
_MAX_EXCERPT_BYTES = 12 << 10
_MAX_LOG_LINE = 200
_MAX_COMMAND = 900
_MAX_PROGRAMS = 8
_CLOSING = {ReportKind.FIXED, ReportKind.RETRACTED}
_WORD = re.compile(r"""(?:[^\s'"\\]|\\.|'[^']*'|"(?:[^"\\]|\\.)*")+""")


def proof(story: Story) -> str:
    """Fail:runs of each commit, as counted from the trials that are evidence."""
    rows: list[str] = []
    seen = [proof for proof in story.proof if proof.outcome is not Outcome.INFRA]
    order = list(dict.fromkeys(_trial_name(proof, story) for proof in seen))
    seen.sort(key=lambda proof: order.index(_trial_name(proof, story)))
    for (commit, what), group in groupby(seen, key=lambda proof: _trial_name(proof, story)):
        runs = list(group)
        failed = [proof for proof in runs if proof.outcome is Outcome.FAIL]
        rows.append(f"  {f'{len(failed)}:{len(runs)}':>9}  {commit}  {what}")
        titles = {proof.title for proof in failed if proof.title}
        others = sorted(titles - {story.regression.finding.title})
        rows += [f"{'':27}{one_line(title, WIDTH - 27)}" for title in others[:2]]
    if not rows:
        return ""
    return "\n".join(("What was tested:", "", "  fail:runs  commit        what", *listed(rows)))


def _trial_name(proof: Proof, story: Story) -> tuple[str, str]:
    what = [one_line(proof.what, 40)]
    if proof.is_control:
        what.append("without the series")
    elif proof.variant_name != story.regression.variant_name:
        what.append(one_line(proof.variant_name, 30))
    if proof.rebuild:
        what.append("rebuilt")
    return short_name(proof.commit), one_line(", ".join(what), WIDTH - 27)


def bisection(story: Story) -> str:
    """The commits that the bisection tested."""
    if not story.steps or story.kind not in {ReportKind.BISECTED, ReportKind.INCONCLUSIVE}:
        return ""
    over = f" over {story.suspects} commits" if story.suspects else ""
    count = len(story.steps)
    rows = [
        f"  {step.outcome:<5}  {short_name(step.commit)}  {one_line(step.subject, WIDTH - 23)}"
        for step in story.steps
    ]
    steps = "1 step" if count == 1 else f"{count} steps"
    return "\n".join((f"The bisection{over} took {steps}:", "", *listed(rows)))


def elsewhere(story: Story) -> str:
    """The same test in other trees and variants."""
    if story.kind in _CLOSING:
        return ""
    rows = []
    for other in story.elsewhere:
        where = f"{label(other.tree)} {label(other.tag)}, {label(other.variant_name)}"
        match other.outcome:
            case Outcome.PASS:
                result = "passes"
            case Outcome.FAIL:
                result = f"fails ({one_line(other.title, WIDTH)})" if other.title else "fails"
            case Outcome.INFRA:
                result = "not known, the lab failed"
            case _:
                assert_never(other.outcome)
        rows.append(f"  {one_line(f'{where}: {result}', 2 * WIDTH)}")
    return "\n".join(("The same test elsewhere:", "", *listed(rows))) if rows else ""


def coverage(story: Story) -> str:
    """The four figures before and after."""
    before, after = story.coverage_before, story.coverage_after
    if before is None or after is None:
        return ""
    rows = []
    for metric in Metric:
        old, new = count_of(before, metric), count_of(after, metric)
        rows.append(
            f"  {_METRICS[metric]:<10}  {_percent(old.percent):>7}  {_percent(new.percent):>7}"
            f"  ({new.covered} of {new.total})"
        )
    tag = story.fixed.tag if story.fixed else story.regression.bad.tag
    return "\n".join(
        (paragraph(f"Coverage at {label(story.regression.good.tag)} and {label(tag)}:"), "", *rows)
    )


_METRICS = {
    Metric.LINES: "lines",
    Metric.FUNCTIONS: "functions",
    Metric.BRANCHES: "branches",
    Metric.MCDC: "MC/DC",
}


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} %"


def excerpt(story: Story) -> str:
    """The log of the first bad tag."""
    if story.kind in _CLOSING:
        return ""
    finding = story.regression.finding
    lines = [log_line(text, _MAX_LOG_LINE) for text in story.excerpt or finding.excerpt]
    tag = label(story.regression.bad.tag)
    is_silent = finding.kind is FindingKind.SILENT_HANG and not story.excerpt
    heading = f"The console of {tag} stayed empty: not a single byte came."
    if not is_silent:
        heading = f"From the {'console' if area(finding.kind) in _RUNNING else 'log'} of {tag}:"
    if not lines:
        return paragraph(heading) if is_silent else ""
    return "\n".join((paragraph(heading), "", *(f"    {line}".rstrip() for line in _middle(lines))))


def evidence(story: Story) -> str:
    """What the machine told of a guest that said nothing."""
    told = story.regression.finding.evidence
    if story.kind in _CLOSING or not told:
        return ""
    lines = [log_line(text, _MAX_LOG_LINE) for text in told[1:]]
    text = paragraph(f"What its processor and memory tell: {one_line(told[0], _MAX_COMMAND)}")
    return "\n".join((text, "", *(f"    {line}".rstrip() for line in _middle(lines))))


_RUNNING = {"boot", "test", "coverage"}


def _middle(lines: Sequence[str]) -> list[str]:
    """The first and the last lines, when there are too many."""
    sizes = [len(line.encode()) + 5 for line in lines]
    if len(lines) <= _MAX_EXCERPT_LINES and sum(sizes) <= _MAX_EXCERPT_BYTES:
        return list(lines)
    kept: set[int] = set()
    room = _MAX_EXCERPT_BYTES
    for place in sorted(range(len(lines)), key=lambda place: min(place, len(lines) - 1 - place)):
        room -= sizes[place]
        if room < 0 or len(kept) == _MAX_EXCERPT_LINES - 1:
            break
        kept.add(place)
    shown = [lines[place] for place in sorted(kept)]
    gap = next(place for place in range(len(lines)) if place not in kept)
    shown.insert(gap, f"[{len(lines) - len(kept)} lines left out]")
    return shown


def reproduction(story: Story) -> str:
    """How to see it oneself."""
    if story.kind in _CLOSING:
        return ""
    return _commands("To reproduce:", story.reproduce)


def _commands(heading: str, commands: Iterable[str]) -> str:
    lines = [line for command in commands for line in _folded(log_line(command, _MAX_COMMAND))]
    return "\n".join((heading, "", *lines)) if lines else ""


def _folded(command: str) -> list[str]:
    """A shell command over several lines, broken only where the shell sees a space."""
    words = _WORD.findall(command)
    if " ".join(words) != command:
        return [f"    {command}"]
    units: list[str] = []
    for word in words:
        # An option and its argument stay on one line.
        is_argument = units and units[-1].startswith("-") and " " not in units[-1]
        if is_argument and not word.startswith("-") and len(units[-1]) + len(word) < WIDTH - 12:
            units[-1] += f" {word}"
        else:
            units.append(word)
    lines = ["   "]
    for unit in units:
        if len(lines[-1]) + len(unit) + 1 > WIDTH - 2 and lines[-1].strip():
            lines[-1] += " \\"
            lines.append("       ")
        lines[-1] += f" {unit}"
    return lines


def built(story: Story, correspondence: Correspondence) -> str:
    """Series, configuration and toolchain, which the commands take for granted."""
    if story.kind in _CLOSING:
        return f"Status: {story.status_url}" if story.status_url else ""
    parts = ["What was built and how:", ""]
    if story.series:
        parts += _item("series", one_line(story.series.title, 2 * WIDTH))
        parts.append(
            f"             {story.series.patches} patches, sha256 {story.series.digest[:16]}"
        )
        if correspondence.series_archive and "@" in story.series.origin:
            url = archived(correspondence.series_archive, story.series.origin)
            parts.append(f"             {url}")
    if story.configuration:
        wanted = (story.configuration.base, *story.configuration.fragments)
        parts += _item("config", " + ".join(label(part) for part in wanted))
        if story.configuration.digest:
            parts.append(f"             .config sha256 {story.configuration.digest[:16]}")
        if story.configuration.dropped:
            parts.append("             asked for, but not kept by Kconfig:")
            dropped = [one_line(text, WIDTH - 15) for text in story.configuration.dropped]
            parts += listed([f"               {text}" for text in dropped])
    for number, program in enumerate(story.toolchain[:_MAX_PROGRAMS]):
        parts += _item("" if number else "toolchain", one_line(program, 2 * WIDTH))
    if story.status_url:
        parts.append(f"  status     {one_line(story.status_url, 200)}")
    return "\n".join(parts) if parts[2:] else ""


def _item(name: str, text: str) -> list[str]:
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=f"  {name:<9}  ",
        subsequent_indent=" " * 13,
        break_on_hyphens=False,
    )
