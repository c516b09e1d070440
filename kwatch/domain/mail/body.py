# SPDX-License-Identifier: GPL-2.0-or-later
"""The words of a report, in the order in which a maintainer needs them.

What broke and since when; what was proven and whom it points to; the log; how to reproduce it;
what was built. Everything that strangers wrote stands indented, so that no line of theirs can pass
for one of ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from kwatch.domain.mail import tables
from kwatch.domain.mail.phrase import (
    WIDTH,
    archived,
    area,
    label,
    listed,
    paragraph,
    reference,
    short_name,
)
from kwatch.domain.mail.story import Grade, ReportKind, doubts, grade
from kwatch.domain.text import one_line
from kwatch.domain.verdict.blame import Blame
from kwatch.domain.verdict.investigation import Verdict

if TYPE_CHECKING:
    from kwatch.domain.mail.story import Correspondence, Story
    from kwatch.domain.verdict.regression import TagResult

MAX_BODY = 38 << 10
"""Bytes: the lists take 40 KB with the header."""

_MAX_LINE_BYTES = 990
_CUT_NOTE = "    [the rest was left out: lists refuse larger mails]"


def body(story: Story, correspondence: Correspondence, message_id: str) -> str:
    """The whole text, with LF line ends, at most ``MAX_BODY`` bytes of UTF-8."""
    sections = [
        _news(story),
        _where(story),
        _why(story),
        _culprit(story),
        _candidates(story),
        tables.proof(story),
        tables.bisection(story),
        tables.elsewhere(story),
        tables.coverage(story),
        tables.excerpt(story),
        tables.evidence(story),
        tables.reproduction(story),
        tables.built(story, correspondence),
    ]
    closing = [*_trailers(story, correspondence, message_id), _signature(correspondence)]
    end = "\n\n".join(closing)
    text = "\n\n".join(section for section in sections if section)
    text = "\n".join(_transportable(line) for line in text.split("\n"))
    return f"{_bounded(text, MAX_BODY - len(end.encode()) - 4)}\n\n{end}\n"


_BROKEN = {
    "apply": "no longer takes the series",
    "config": "can no longer be configured",
    "build": "no longer builds",
    "boot": "no longer boots",
    "test": "no longer passes the tests",
    "coverage": "no longer yields its coverage",
}
_WORKING = {
    "apply": "takes the series again",
    "config": "can be configured again",
    "build": "builds again",
    "boot": "boots again",
    "test": "passes the tests again",
    "coverage": "yields its coverage again",
}


def _news(story: Story) -> str:
    regression = story.regression
    tree, arch = label(regression.tree), label(story.arch)
    good, bad = label(regression.good.tag), label(regression.bad.tag)
    what = area(regression.finding.kind)
    title = f"    {one_line(regression.finding.title, WIDTH - 4)}"
    match story.kind:
        case ReportKind.NEW | ReportKind.BISECTED | ReportKind.INCONCLUSIVE:
            first = paragraph(f"Since {bad}, {tree} {_BROKEN[what]} on {arch}; {good} was good:")
            return f"{first}\n\n{title}"
        case ReportKind.FIXED:
            tag = label(story.fixed.tag) if story.fixed else "the newest tag"
            first = paragraph(
                f"With {tag}, {tree} {_WORKING[what]} on {arch}. Since {bad} it had failed:"
            )
            return f"{first}\n\n{title}"
        case ReportKind.RETRACTED:
            first = paragraph(f"Please ignore the report of this failure of {tree} on {arch}:")
            return f"{first}\n\n{title}\n\n{paragraph(_retraction(story))}"
        case _:
            assert_never(story.kind)


def _retraction(story: Story) -> str:
    good, bad = label(story.regression.good.tag), label(story.regression.bad.tag)
    match story.verdict:
        case Verdict.NOT_REPRODUCED | Verdict.NOT_FIXED:
            reason = f"It did not happen again when {bad} was tried once more."
        case Verdict.BASELINE_FAILS:
            reason = f"{good} fails as well when it is tried again, so {bad} did not break it."
        case Verdict.CONTRADICTED:
            reason = "Further tests contradict it."
        case None | Verdict.FOUND | Verdict.AMBIGUOUS | Verdict.FIXED | Verdict.NO_EVIDENCE:
            reason = "The operator of this lab has withdrawn it."
        case _:
            assert_never(story.verdict)
    return f"{reason} Sorry for the noise."


def _where(story: Story) -> str:
    regression = story.regression
    rows = [
        f"  tree       {label(regression.tree)}, {one_line(story.tree_url, 200)}",
        f"  last good  {_tag(regression.good)}",
        f"  first bad  {_tag(regression.bad)}, got as far as {regression.milestone.label}",
    ]
    if story.fixed:
        rows.append(f"  good again {_tag(story.fixed)}")
    rows.append(f"  variant    {label(regression.variant_name)}")
    return "\n".join(rows)


def _tag(result: TagResult) -> str:
    return f"{label(result.tag)} ({short_name(result.commit)})"


def _why(story: Story) -> str:
    if story.kind is ReportKind.FIXED:
        return "Which commit repaired it has not been searched for."
    if story.kind is ReportKind.RETRACTED:
        return ""
    match story.blame:
        case Blame.TREE:
            if story.series is None:
                text = "The fault is in the tree: nothing was applied on top of it."
            else:
                text = (
                    "The fault is in the tree. We test with a patch series on top of it, but the "
                    "control, built without the series, fails as well."
                )
        case Blame.SERIES:
            text = (
                "The fault shows only together with the series: the control, built without it, "
                "passes. Only the people of the series get this mail."
            )
        case Blame.TOOLCHAIN:
            text = "The fault comes and goes with the toolchain."
        case Blame.CONFIG:
            text = "The fault comes and goes with a configuration option."
        case Blame.HOST:
            text = "The fault comes and goes with the host of the test."
        case None:
            text = "Where the fault lies is not known."
        case _:
            assert_never(story.blame)
    if story.kind is ReportKind.NEW and story.suspects:
        text += (
            f" A bisection over {story.suspects} commits has begun; its result will follow in "
            "this thread."
        )
    return paragraph(text)


def _culprit(story: Story) -> str:
    if story.culprit is None or story.kind is not ReportKind.BISECTED:
        return ""
    found = doubts(story.culprit, story)
    if found:
        claim = "The bisection ended at this commit. It is the likely cause, not a proven one:"
        reason = f"Likely, but {' and '.join(found)}."
    else:
        claim = "The first bad commit is:"
        reason = "Verified: rebuilt from nothing, this commit fails and its parent passes."
    author = label(story.culprit.author_name)
    address = label(story.culprit.author_address)
    return "\n".join(
        (
            paragraph(claim),
            "",
            f"  {reference(story.culprit)}",
            f"  Author: {author} <{address}>",
            "",
            paragraph(reason),
        )
    )


def _candidates(story: Story) -> str:
    if story.kind is not ReportKind.INCONCLUSIVE:
        return ""
    commits = story.candidates or ((story.culprit,) if story.culprit else ())
    if not commits:
        return paragraph("The bisection ended without naming a commit.")
    if story.verdict is Verdict.CONTRADICTED:
        claim = (
            "The bisection ended here, but after a rebuild from nothing the results contradict it. "
            "Please do not take this commit for the cause:"
        )
    else:
        claim = (
            f"The bisection could not name one commit. The cause is in this set of {len(commits)}, "
            "which could not be told apart because not all of them could be tested:"
        )
    return "\n".join(
        (paragraph(claim), "", *listed([f"  {reference(commit)}" for commit in commits]))
    )


def _trailers(story: Story, correspondence: Correspondence, message_id: str) -> list[str]:
    """What a fix should carry, and what regzbot should know: of faults of the tree only."""
    if story.blame is not Blame.TREE:
        return []
    if story.kind in {ReportKind.FIXED, ReportKind.RETRACTED}:
        order = _regzbot_end(story) if correspondence.regzbot and story.thread else None
        return [order] if order else []
    wanted = [f"  Reported-by: {correspondence.from_name} <{correspondence.from_address}>"]
    if correspondence.archive:
        root = story.thread[0].message_id if story.thread else message_id
        wanted.append(f"  Closes: {archived(correspondence.archive, root)}")
    is_verified = grade(story) is Grade.VERIFIED and story.culprit
    if story.culprit and is_verified:
        wanted.insert(0, f"  Fixes: {reference(story.culprit)}")
    found = ["\n".join(("If you fix it, please add to the commit:", "", *wanted))]
    if correspondence.regzbot and story.culprit and is_verified:
        found.append(f"#regzbot introduced: {short_name(story.culprit.commit)}")
    elif correspondence.regzbot and not story.thread:
        good, bad = story.regression.good.tag, story.regression.bad.tag
        found.append(f"#regzbot introduced: {label(good)}..{label(bad)}")
    return found


def _regzbot_end(story: Story) -> str:
    if story.kind is ReportKind.FIXED and story.fixed:
        return f"#regzbot resolve: {label(story.fixed.tag)} works again"
    return "#regzbot resolve: withdrawn by the reporter"


def _signature(correspondence: Correspondence) -> str:
    return f"-- \nSent by a program. Its operator: {correspondence.owner}"


def _transportable(line: str) -> str:
    """SMTP takes no line of more than 998 bytes."""
    return line.encode()[:_MAX_LINE_BYTES].decode(errors="ignore")


def _bounded(text: str, limit: int) -> str:
    if len(text.encode()) <= limit:
        return text
    cut = text.encode()[: limit - len(_CUT_NOTE) - 1].decode(errors="ignore")
    return f"{cut[: cut.rindex(chr(10))]}\n{_CUT_NOTE}"
