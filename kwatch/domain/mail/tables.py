# SPDX-License-Identifier: GPL-2.0-or-later
"""The tables and listings of a report.

Each function returns one section, or "" where there is nothing to show. Text that comes from
kernels, commits and mails stands indented, so that no such line can pass for one of ours.
"""

from __future__ import annotations

import re
import textwrap
from itertools import groupby
from typing import TYPE_CHECKING
from urllib.parse import quote

from kwatch.domain.coverage.figures import Metric, count_of
from kwatch.domain.finding import AREA, Area
from kwatch.domain.mail.story import ReportKind
from kwatch.domain.milestone import Milestone
from kwatch.domain.text import log_line, one_line
from kwatch.domain.verdict.bisect.commits import Mark
from kwatch.domain.verdict.problem import Facet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kwatch.domain.mail.story import Correspondence, Story, Tested
    from kwatch.domain.source.commit import CommitInfo
    from kwatch.domain.verdict.lane import TagRun

WIDTH = 78
CLOSING = {ReportKind.FIXED, ReportKind.RETRACTED}
"""The last mail of a thread."""
ENDING = CLOSING | {ReportKind.GONE}
"""These repeat neither logs nor commands, and go to all who got a mail of the thread."""
BRIEF = ENDING | {ReportKind.REAPPEARED, ReportKind.SPREAD}
"""These repeat neither build details nor commands."""

# In the words of git bisect.
_MARKS = {Mark.BAD: "bad", Mark.GOOD: "good", Mark.UNTESTABLE: "skip"}

_MAX_NAME = 60
_MAX_ROWS = 20
_MAX_EXCERPT_LINES = 80
_MAX_EXCERPT_BYTES = 12 << 10
_MAX_LOG_LINE = 200
_MAX_COMMAND = 4000
_MAX_PROGRAMS = 8
_WORD = re.compile(r"""(?:[^\s'"\\]|\\.|'[^']*'|"(?:[^"\\]|\\.)*")+""")


def paragraph(text: str, width: int = WIDTH - 4) -> str:
    """Our own sentences, filled."""
    return textwrap.fill(text, width, break_on_hyphens=False)


def label(text: str) -> str:
    """A name from a configuration or a repository: a tree, a tag, a person.

    Without colons (git has none in tags): a sentence that is wrapped before a name must not look
    like a trailer.
    """
    return one_line(text.replace(":", " "), _MAX_NAME)


def short_name(commit: str) -> str:
    """The first 12 digits of a commit id, as in a Fixes: tag."""
    return one_line(commit, 40)[:12]


def reference(commit: CommitInfo) -> str:
    """A commit as in a Fixes: tag."""
    return f'{short_name(commit.commit)} ("{one_line(commit.subject, 160)}")'


def archived(archive: str, message_id: str) -> str:
    """The URL of a mail in ``archive``."""
    return f"{archive.rstrip('/')}/{quote(one_line(message_id, 250), safe='@')}/"


def listed(rows: Sequence[str]) -> list[str]:
    """Rows of a table, and how many more there are."""
    if len(rows) <= _MAX_ROWS:
        return list(rows)
    shown = _MAX_ROWS - 1
    return [*rows[:shown], f"  [{len(rows) - shown} more]"]


_REACHED = {
    Milestone.NOTHING: "nothing",
    Milestone.CHECKOUT: "source checked out",
    Milestone.CONFIG: "kernel configured",
    Milestone.COMPILED: "objects compiled",
    Milestone.LINKED: "image linked",
    Milestone.KERNEL: "first line of the kernel",
    Milestone.INIT: "user space",
    Milestone.TESTED: "end of the tests",
    Milestone.COLLECTED: "coverage collected",
}


def where(story: Story) -> str:
    """Tree, tags, how far it got, configuration."""
    url = f", {one_line(story.tree_url, 200)}" if story.tree_url else ""
    rows = [
        ("tree", f"{label(story.lane.tree)}{url}"),
        *([("last good", _tag(story.last_good))] if story.last_good else []),
        ("first bad", _tag(story.first_bad)),
    ]
    # In the order in which it happened.
    times = [("fixed in", story.fixed), ("again in", story.again)]
    is_gone = story.kind in {ReportKind.FIXED, ReportKind.GONE}
    if is_gone:
        times.reverse()
    rows += [(name, _tag(run)) for name, run in times if run]
    rows += [("also in", found) for found in _also_in(story)]
    if not is_gone and story.regression.facet is Facet.FAILURE:
        silent = "; nothing on the console" if is_silent(story) else ""
        rows.append(("reached", f"{_REACHED[_milestone(story)]}{silent}"))
    shown = None if story.kind in BRIEF else story.configuration
    link = shown.where if shown else None
    place = f" (.config {'linked below' if '/' in link else 'attached'})" if link else ""
    rows.append(("config", f"{label(story.lane.variant)}{place}"))
    return "\n".join(f"  {name:<9}  {text}" for name, text in rows)


def _also_in(story: Story) -> list[str]:
    """Other trees and branches that have it, each once, with the first tag there."""
    found: dict[tuple[str, str], str] = {}
    for one in story.others:
        found.setdefault(one.line.place, f"{label(one.line.lane.tree)} since {_tag(one.bad)}")
    return listed(list(found.values()))


def _tag(result: TagRun) -> str:
    return f"{label(result.tag)} ({short_name(result.commit)})"


def is_silent(story: Story) -> bool:
    """Whether the guest printed nothing at all."""
    return (
        AREA[story.finding.kind] is Area.BOOT
        and _milestone(story) is Milestone.LINKED
        and not _excerpt(story)
    )


def _milestone(story: Story) -> Milestone:
    seen = story.shown.seen
    is_first = story.shown is story.regression.bad
    return story.regression.milestone if is_first or seen is None else seen.milestone


RUNS = {
    Area.APPLY: "attempts",
    Area.CONFIG: "builds",
    Area.BUILD: "builds",
    Area.BOOT: "boots",
    Area.TEST: "boots",
    Area.COVERAGE: "boots",
}


def results(story: Story) -> str:
    """Failures and runs of each commit. Only failures of this regression count as such."""
    rows: list[str] = []
    names = [_test_name(proof) for proof in story.proof]
    order = list(dict.fromkeys(names))
    tests = sorted(story.proof, key=lambda proof: order.index(_test_name(proof)))
    for (commit, what), group in groupby(tests, key=_test_name):
        runs = list(group)
        failed = sum(proof.mark is Mark.BAD for proof in runs)
        rows.append(f"  {f'{failed}/{len(runs)}':>7}  {commit}  {what}")
        others = sorted({proof.other for proof in runs if proof.other})
        rows += [f"{'':25}also: {one_line(title, WIDTH - 31)}" for title in others[:2]]
    if not rows:
        return ""
    count = "warnings" if story.is_warning else "failures"
    heading = f"Test results ({count}/{RUNS[AREA[story.regression.finding.kind]]}):"
    return "\n".join((heading, "", *listed(rows)))


def _test_name(proof: Tested) -> tuple[str, str]:
    what = [one_line(proof.what, 40)]
    if proof.is_control:
        what.append("without the series")
    if proof.is_clean:
        what.append("clean build")
    return short_name(proof.commit), one_line(", ".join(what), WIDTH - 25)


def bisection(story: Story) -> str:
    """The commits that the bisection tested."""
    if not story.steps or story.kind in BRIEF or story.kind is ReportKind.NEW:
        return ""
    count = len(story.steps)
    steps = "1 step" if count == 1 else f"{count} steps"
    rows = [
        f"  {_MARKS[step.mark]:<4}  {short_name(step.commit)}  {one_line(step.subject, WIDTH - 22)}"
        for step in story.steps
    ]
    of = f" of {story.suspects} commits" if story.suspects else ""
    return "\n".join((f"Bisection{of}, {steps}:", "", *listed(rows)))


_METRICS = {
    Metric.LINES: "lines",
    Metric.FUNCTIONS: "functions",
    Metric.BRANCHES: "branches",
    Metric.MCDC: "MC/DC",
}


def coverage(story: Story) -> str:
    """The four figures before and after."""
    before, after, good = story.coverage_before, story.coverage_after, story.last_good
    if before is None or after is None or good is None:
        return ""
    rows = []
    for metric in Metric:
        old, new = count_of(before, metric), count_of(after, metric)
        rows.append(
            f"  {_METRICS[metric]:<10}  {_percent(old.percent):>7}  {_percent(new.percent):>7}"
            f"  ({new.covered} of {new.total})"
        )
    tag = story.fixed.tag if story.fixed else story.first_bad.tag
    return "\n".join((paragraph(f"Coverage at {label(good.tag)} and {label(tag)}:"), "", *rows))


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} %"


def symptoms(story: Story) -> str:
    """The log of the tag in question, and the state of a guest that ended silently."""
    if story.kind in ENDING:
        return ""
    source = _SOURCES.get(AREA[story.finding.kind], "Console")
    state = [log_line(text, _MAX_LOG_LINE) for text in story.finding.evidence]
    sections = []
    heading = "State of the guest when it was stopped:" if state else ""
    if log := _excerpt(story):
        title = paragraph(f"{source} of {label(story.shown.tag)}:")
        sections.append("\n".join((title, "", *_indented(log, 4))))
    elif is_silent(story):
        heading = f"No output on the console, earlycon included. {heading}".rstrip()
    if heading:
        rows = ("", *_indented(state, 2)) if state else ()
        sections.append("\n".join((paragraph(heading), *rows)))
    return "\n\n".join(sections)


_SOURCES = {
    Area.APPLY: "Output of git am on top",
    Area.CONFIG: "Build log",
    Area.BUILD: "Build log",
}


def _excerpt(story: Story) -> list[str]:
    lines = story.excerpt or story.finding.excerpt
    return [log_line(text, _MAX_LOG_LINE) for text in lines]


def _indented(lines: Sequence[str], columns: int) -> list[str]:
    return [f"{'':{columns}}{line}".rstrip() for line in _middle(lines)]


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
    """Shell commands from a clone of the kernel to the failure."""
    if story.kind in BRIEF or not story.reproduce:
        return ""
    heading = "To reproduce, in a clone of the kernel:"
    if story.attachments:
        heading = "To reproduce, in a clone of the kernel with the attached files saved in it:"
    lines = [line for one in story.reproduce for line in _folded(log_line(one, _MAX_COMMAND))]
    return "\n".join((heading, "", *lines))


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


def build_details(story: Story, correspondence: Correspondence) -> str:
    """Series, configuration, toolchain, and what it was booted in."""
    if story.kind in BRIEF:
        return f"Status: {one_line(story.status_url, 200)}" if story.status_url else ""
    rows = [*_series(story, correspondence), *_configuration(story)]
    for number, program in enumerate(story.toolchain[:_MAX_PROGRAMS]):
        rows += _item("" if number else "toolchain", one_line(program, 2 * WIDTH))
    if story.booted_in:
        rows += _item("booted in", one_line(story.booted_in, 2 * WIDTH))
    if story.status_url:
        rows.append(f"  status     {one_line(story.status_url, 200)}")
    return "\n".join(("Build details:", "", *rows)) if rows else ""


def _series(story: Story, correspondence: Correspondence) -> list[str]:
    series = story.series
    if series is None:
        return []
    rows = _item("series", one_line(series.title, 2 * WIDTH))
    count = "1 patch" if series.patches == 1 else f"{series.patches} patches"
    rows.append(f"             {count}, sha256 {series.digest[:16]}")
    if correspondence.series_archive and "@" in series.origin:
        rows.append(f"             {archived(correspondence.series_archive, series.origin)}")
    return rows


def _configuration(story: Story) -> list[str]:
    made = story.configuration
    if made is None:
        return []
    rows = _item("config", " + ".join(label(part) for part in (made.base, *made.fragments)))
    if made.where and "/" in made.where:
        rows.append(f"             {one_line(made.where, 200)}")
    if made.digest:
        rows.append(f"             .config sha256 {made.digest[:16]} (without comments)")
    if made.dropped:
        rows.append("             dropped by Kconfig:")
        dropped = [one_line(text, WIDTH - 15) for text in made.dropped]
        rows += listed([f"               {text}" for text in dropped])
    return rows


def _item(name: str, text: str) -> list[str]:
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=f"  {name:<9}  ",
        subsequent_indent=" " * 13,
        break_on_hyphens=False,
    )
