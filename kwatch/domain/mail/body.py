# SPDX-License-Identifier: GPL-2.0-or-later
"""The text of a report: the statement, the commit, the proof, the log, the commands, the tags."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from kwatch.domain.finding import AREA, Area
from kwatch.domain.mail import tables
from kwatch.domain.mail.story import ReportKind
from kwatch.domain.mail.tables import (
    CLOSING,
    RUNS,
    WIDTH,
    archived,
    label,
    listed,
    paragraph,
    reference,
    short_name,
)
from kwatch.domain.milestone import Milestone
from kwatch.domain.text import one_line
from kwatch.domain.verdict.blame import Blame
from kwatch.domain.verdict.investigation import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kwatch.domain.mail.story import Correspondence, Story

MAX_BODY = 38 << 10
"""Bytes: the lists take 40 KB with the header."""

_MAX_LINE_BYTES = 990
_CUT_NOTE = "    [the rest was left out: lists refuse larger mails]"


def body(story: Story, correspondence: Correspondence, message_id: str) -> str:
    """The whole text, with LF line ends, at most ``MAX_BODY`` bytes of UTF-8."""
    sections = [
        _statement(story),
        _culprit(story),
        _candidates(story),
        _why(story),
        tables.where(story),
        tables.results(story),
        tables.bisection(story),
        tables.coverage(story),
        tables.symptoms(story),
        tables.build_details(story, correspondence),
        tables.reproduction(story),
    ]
    closing = [*_tags(story, correspondence, message_id), _footer(correspondence)]
    end = "\n\n".join(closing)
    text = "\n\n".join(section for section in sections if section)
    text = "\n".join(_transportable(line) for line in text.split("\n"))
    return f"{_bounded(text, MAX_BODY - len(end.encode()) - 4)}\n\n{end}\n"


# What is broken, and what works again. A guest that got further than the kernel itself did boot.
_SENTENCES: Mapping[Area | Milestone, tuple[str, str]] = {
    Area.APPLY: (
        "The series does not apply to {tree} since {bad}; it applies to {good}.",
        "The series applies to {tree} again",
    ),
    Area.CONFIG: (
        "{tree} cannot be configured for {arch} since {bad}; {good} can.",
        "{tree} can be configured for {arch} again",
    ),
    Area.BUILD: (
        "{tree} does not build for {arch} since {bad}; {good} builds.",
        "{tree} builds for {arch} again",
    ),
    Area.BOOT: (
        "{tree} does not boot on {arch} since {bad}; {good} boots.",
        "{tree} boots on {arch} again",
    ),
    Milestone.INIT: (
        "{tree} boots on {arch}, but does not complete the tests since {bad}; {good} does.",
        "{tree} completes the tests on {arch} again",
    ),
    Milestone.TESTED: (
        "{tree} boots on {arch} with errors since {bad}; {good} boots without.",
        "{tree} boots on {arch} without errors again",
    ),
    Area.TEST: (
        "{tree} fails the tests on {arch} since {bad}; {good} passes.",
        "{tree} passes the tests on {arch} again",
    ),
    Area.COVERAGE: (
        "{tree} yields no coverage data on {arch} since {bad}; {good} does.",
        "{tree} yields coverage data on {arch} again",
    ),
}


def _statement(story: Story) -> str:
    regression = story.regression
    names = {
        "tree": label(regression.tree),
        "arch": label(story.arch),
        "good": label(regression.good.tag),
        "bad": label(regression.bad.tag),
    }
    area = AREA[regression.finding.kind]
    is_booted = area is Area.BOOT and regression.milestone >= Milestone.INIT
    broken, working = _SENTENCES[min(regression.milestone, Milestone.TESTED) if is_booted else area]
    title = f"    {one_line(regression.finding.title, WIDTH - 4)}"
    match story.kind:
        case ReportKind.NEW | ReportKind.BISECTED | ReportKind.INCONCLUSIVE:
            return f"{paragraph(broken.format(**names), WIDTH)}\n\n{title}"
        case ReportKind.FIXED:
            tag = label(story.fixed.tag) if story.fixed else "the newest tag"
            first = f"{working.format(**names)} in {tag}. It had failed since {names['bad']}:"
            return f"{paragraph(first, WIDTH)}\n\n{title}\n\nWe have not bisected the fix."
        case ReportKind.RETRACTED:
            first = "Our report about {tree} {bad} on {arch} was wrong. Please ignore it:"
            return f"{paragraph(first.format(**names), WIDTH)}\n\n{title}\n\n{_retraction(story)}"
        case _:
            assert_never(story.kind)


def _retraction(story: Story) -> str:
    good, bad = label(story.regression.good.tag), label(story.regression.bad.tag)
    reasons = {
        Verdict.NOT_REPRODUCED: f"The failure did not occur again when we tested {bad} again.",
        Verdict.BASELINE_FAILS: f"{good} fails as well when tested again: not a regression.",
    }
    reason = reasons.get(story.verdict) if story.verdict else None
    return paragraph(f"{reason or 'Further tests do not confirm it.'} Sorry for the noise.")


def _culprit(story: Story) -> str:
    if story.culprit is None or story.kind is not ReportKind.BISECTED:
        return ""
    author = label(story.culprit.author_name)
    address = label(story.culprit.author_address)
    return "\n".join(
        (
            "First bad commit:" if story.is_verified else "First bad commit (not confirmed):",
            "",
            f"  {reference(story.culprit)}",
            f"  Author: {author} <{address}>",
            "",
            paragraph(_confirmation(story)),
        )
    )


def _confirmation(story: Story) -> str:
    """The counts of the clean builds as given, and the doubts as given."""
    runs = RUNS[AREA[story.regression.finding.kind]]
    counts = ""
    if clean := story.clean:
        parents = "parents" if story.culprit and story.culprit.is_merge else "parent"
        counts = (
            f"{clean.culprit.bad} of {clean.culprit.runs} {runs} fail on this commit,"
            f" {clean.parents.bad} of {clean.parents.runs} on its {parents}."
        )
    if story.is_verified:
        return f"Confirmed with clean builds: {counts}"
    doubts = f" ({'; '.join(story.doubts)})" if story.doubts else ""
    told = f" With clean builds, {counts}" if counts else ""
    return f"This commit is the likely cause, not a proven one{doubts}.{told}"


def _candidates(story: Story) -> str:
    if story.kind is not ReportKind.INCONCLUSIVE:
        return ""
    commits = story.candidates
    if not commits:
        return "The bisection did not find a commit."
    if story.verdict is Verdict.CONTRADICTED:
        claim = (
            "The bisection ended here, but clean builds contradict it. Please do not take this"
            " commit for the cause:"
        )
    else:
        claim = (
            f"The first bad commit is one of these {len(commits)}; the bisection cannot tell them"
            " apart, because not all of them can be tested:"
        )
    return "\n".join(
        (paragraph(claim), "", *listed([f"  {reference(commit)}" for commit in commits]))
    )


_ONLY_THERE = {
    Blame.TOOLCHAIN: "It occurs with this toolchain only.",
    Blame.CONFIG: "It occurs with this configuration only.",
    Blame.HOST: "It occurs on one of our hosts only.",
}


def _why(story: Story) -> str:
    """Whether the series is at fault, and whom the mail goes to where that is not clear from it."""
    sentences = []
    if story.kind not in CLOSING:
        sentences.append(_axis(story))
        if story.kind is ReportKind.NEW and story.suspects:
            sentences.append(
                f"We are bisecting {story.suspects} commits; the result will follow in this thread."
            )
    if story.tree_url is None:
        sentences.append(
            f"{label(story.regression.tree)} has been removed from our configuration; this mail"
            " goes to the operator only."
        )
    return paragraph(" ".join(sentences)) if sentences else ""


def _axis(story: Story) -> str:
    bad = label(story.regression.bad.tag)
    match story.blame:
        case Blame.TREE:
            if story.series is None:
                return "We test the tree as it is, without patches on top."
            return (
                "It is not caused by the out-of-tree series that we apply:"
                f" {bad} without it fails in the same way."
            )
        case Blame.SERIES:
            return (
                f"It occurs only with the out-of-tree series that we apply: {bad} without it"
                " passes. This mail goes to the authors of the series only."
            )
        case Blame.TOOLCHAIN | Blame.CONFIG | Blame.HOST:
            return _ONLY_THERE[story.blame]
        case None | Blame.UNKNOWN:
            return "We do not know whether the tree, the series or our setup is at fault."
        case _:
            assert_never(story.blame)


def _tags(story: Story, correspondence: Correspondence, message_id: str) -> list[str]:
    """The tags for a fix, and the commands to regzbot: only where the tree is at fault."""
    if story.blame is not Blame.TREE or story.tree_url is None:
        return []
    if story.kind in CLOSING:
        order = _regzbot_end(story) if correspondence.regzbot and story.thread else None
        return [order] if order else []
    wanted = [f"  Reported-by: {correspondence.from_name} <{correspondence.from_address}>"]
    if correspondence.archive:
        root = story.thread[0].message_id if story.thread else message_id
        wanted.append(f"  Closes: {archived(correspondence.archive, root)}")
    culprit = story.culprit if story.is_verified else None
    if culprit:
        wanted.insert(0, f"  Fixes: {reference(culprit)}")
    found = ["\n".join(("If you fix this, please add these tags:", "", *wanted))]
    if correspondence.regzbot and culprit:
        found.append(f"#regzbot introduced: {short_name(culprit.commit)}")
    elif correspondence.regzbot and not story.thread:
        good, bad = story.regression.good.tag, story.regression.bad.tag
        found.append(f"#regzbot introduced: {label(good)}..{label(bad)}")
    return found


def _regzbot_end(story: Story) -> str:
    if story.kind is ReportKind.FIXED and story.fixed:
        return f"#regzbot resolve: {label(story.fixed.tag)} works again"
    return "#regzbot resolve: withdrawn by the reporter"


def _footer(correspondence: Correspondence) -> str:
    return (
        f"-- \nThis report was generated automatically by kwatch.\nOperator: {correspondence.owner}"
    )


def _transportable(line: str) -> str:
    """SMTP takes no line of more than 998 bytes."""
    return line.encode()[:_MAX_LINE_BYTES].decode(errors="ignore")


def _bounded(text: str, limit: int) -> str:
    if len(text.encode()) <= limit:
        return text
    cut = text.encode()[: limit - len(_CUT_NOTE) - 1].decode(errors="ignore")
    return f"{cut[: cut.rindex(chr(10))]}\n{_CUT_NOTE}"
