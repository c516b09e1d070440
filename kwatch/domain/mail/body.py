# SPDX-License-Identifier: GPL-2.0-or-later
"""The text of a report: the statement, the commit, the proof, the log, the commands, the tags."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from kwatch.domain.finding import AREA, Area
from kwatch.domain.mail import tables
from kwatch.domain.mail.story import ReportKind
from kwatch.domain.mail.tables import (
    BRIEF,
    CLOSING,
    ENDING,
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
from kwatch.domain.verdict.problem import Facet
from kwatch.domain.verdict.question import Verdict

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


# What is broken, what the good tag does, and what works again. A guest that got further than the
# kernel itself did boot.
_SENTENCES: Mapping[Area | Milestone | Facet, tuple[str, str, str]] = {
    Area.APPLY: (
        "The series does not apply to {tree}",
        "it applies to {good}",
        "The series applies to {tree} again",
    ),
    Area.CONFIG: (
        "{tree} cannot be configured for {arch}",
        "{good} can",
        "{tree} can be configured for {arch} again",
    ),
    Area.BUILD: (
        "{tree} does not build for {arch}",
        "{good} builds",
        "{tree} builds for {arch} again",
    ),
    Area.BOOT: (
        "{tree} does not boot on {arch}",
        "{good} boots",
        "{tree} boots on {arch} again",
    ),
    Milestone.INIT: (
        "{tree} boots on {arch}, but does not complete the tests",
        "{good} does",
        "{tree} completes the tests on {arch} again",
    ),
    Milestone.TESTED: (
        "{tree} boots on {arch} with errors",
        "{good} boots without",
        "{tree} boots on {arch} without errors again",
    ),
    Area.TEST: (
        "{tree} fails the tests on {arch}",
        "{good} passes",
        "{tree} passes the tests on {arch} again",
    ),
    Area.COVERAGE: (
        "{tree} yields no coverage data on {arch}",
        "{good} does",
        "{tree} yields coverage data on {arch} again",
    ),
    Facet.TEST: (
        "{tree} fails a test on {arch}",
        "{good} passes it",
        "{tree} passes this test on {arch} again",
    ),
    Facet.WARNING: (
        "{tree} prints a new warning on {arch}",
        "{good} does not",
        "{tree} no longer prints this warning on {arch}",
    ),
}


def _sentences(story: Story) -> tuple[str, str, str]:
    regression = story.regression
    area = AREA[regression.finding.kind]
    if regression.facet in _SENTENCES:
        found = _SENTENCES[regression.facet]
    elif area is Area.BOOT and regression.milestone >= Milestone.INIT:
        found = _SENTENCES[min(regression.milestone, Milestone.TESTED)]
    else:
        found = _SENTENCES[area]
    names = {
        "tree": label(story.lane.tree),
        "arch": label(story.arch),
        "good": label(regression.good.tag),
    }
    broken, good, working = (one.format(**names) for one in found)
    return broken, good, working


def _statement(story: Story) -> str:
    broken, good, working = _sentences(story)
    tree, arch, bad = label(story.lane.tree), label(story.arch), label(story.first_bad.tag)
    title = f"    {one_line(story.finding.title, WIDTH - 4)}"
    match story.kind:
        case ReportKind.NEW | ReportKind.BISECTED | ReportKind.INCONCLUSIVE:
            # The good tag is not good under what the bad one was tested with.
            rest = "" if story.verdict is Verdict.CHANGED else f"; {good}"
            return f"{paragraph(f'{broken} since {bad}{rest}.', WIDTH)}\n\n{title}"
        case ReportKind.SPREAD:
            before = f"; {label(story.last_good.tag)} does not" if story.last_good else ""
            first = f"{tree} shows this as well on {arch} since {bad}{before}:"
            return f"{paragraph(first, WIDTH)}\n\n{title}"
        case ReportKind.FIXED | ReportKind.GONE:
            tag = label(story.fixed.tag) if story.fixed else "the newest tag"
            did = "printed it" if story.is_warning else "failed"
            since = f"again since {label(story.again.tag)}" if story.again else f"since {bad}"
            first = f"{working} in {tag}. It had {did} {since}:"
            end = "We have not bisected the fix."
            if story.kind is ReportKind.GONE:
                end = f"{end} Other trees that we test still have it, see below."
            return f"{paragraph(first, WIDTH)}\n\n{title}\n\n{end}"
        case ReportKind.REAPPEARED:
            fixed = f" and was fixed in {label(story.fixed.tag)}" if story.fixed else ""
            first = (
                f"{tree} shows this again on {arch} since {label(story.shown.tag)}."
                f" It began with {bad}{fixed}:"
            )
            return f"{paragraph(first, WIDTH)}\n\n{title}"
        case ReportKind.RETRACTED:
            first = f"Our report about {tree} {bad} on {arch} was wrong. Please ignore it:"
            return f"{paragraph(first, WIDTH)}\n\n{title}\n\n{_retraction(story)}"
        case _:
            assert_never(story.kind)


def _retraction(story: Story) -> str:
    good, bad = label(story.regression.good.tag), label(story.regression.bad.tag)
    what = "warning" if story.is_warning else "failure"
    does = "prints it" if story.is_warning else "fails"
    reasons = {
        Verdict.NOT_REPRODUCED: f"The {what} did not occur again when we tested {bad} again.",
        Verdict.BASELINE_FAILS: f"{good} {does} as well when tested again: not a regression.",
        Verdict.NO_BASELINE: f"{good} could not be tested again, so it may not be a regression.",
        Verdict.NO_EVIDENCE: f"{bad} could not be tested again.",
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
        do = "print it" if story.is_warning else "fail"
        counts = (
            f"{clean.culprit.bad} of {clean.culprit.runs} {runs} {do} on this commit,"
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
_TO_AUTHORS = "This mail goes to the authors of the series only."


def _why(story: Story) -> str:
    """Whether the series is at fault, and whom the mail goes to where that is not clear from it."""
    sentences = []
    if story.kind in {ReportKind.REAPPEARED, ReportKind.SPREAD}:
        again = "again" if story.kind is ReportKind.REAPPEARED else "in this tree"
        sentences.append(
            f"We have not bisected it {again}. The first mail of this thread shows how we build and"
            " boot the kernel."
        )
    elif story.kind not in ENDING:
        is_changed = story.verdict is Verdict.CHANGED
        sentences.append(_change(story) if is_changed else _axis(story))
        if story.kind is ReportKind.NEW and story.suspects and not is_changed:
            sentences.append(
                f"We are bisecting {story.suspects} commits; the result will follow in this thread."
            )
    if story.tree_url is None:
        sentences.append(
            f"{label(story.lane.tree)} has been removed from our configuration; this mail"
            " goes to the operator only."
        )
    return paragraph(" ".join(sentences)) if sentences else ""


def _change(story: Story) -> str:
    """What changed in the lab between the good tag and the bad one, where that is the cause."""
    good, bad = label(story.regression.good.tag), label(story.regression.bad.tag)
    also = "prints it as well" if story.is_warning else "fails in the same way"
    match story.blame:
        case Blame.SERIES:
            return (
                "It comes with the version of the out-of-tree series that we apply since"
                f" {bad}: {good} with it {also}. {_TO_AUTHORS}"
            )
        case Blame.TOOLCHAIN:
            return f"It comes with the toolchain that we use since {bad}: {good} {also} with it."
        case Blame.CONFIG:
            return f"It comes with our configuration since {bad}: {good} {also} with it."
        case Blame.HOST:
            return (
                "It comes with the environment that we boot in (QEMU, the kernel and the processor"
                " of our host), which was another one or has changed: no commit is to blame."
            )
        case _:
            found = (
                f"It comes with our setup, which changed in several ways between {good} and"
                f" {bad}: {good} tested like {bad} {also}."
            )
            return f"{found} {_TO_AUTHORS}" if story.series else found


def _axis(story: Story) -> str:
    bad = label(story.regression.bad.tag)
    also = "prints it as well" if story.is_warning else "fails in the same way"
    without = "does not print it" if story.is_warning else "passes"
    match story.blame:
        case Blame.TREE:
            if story.series is None:
                return "We test the tree as it is, without patches on top."
            return (
                "It is not caused by the out-of-tree series that we apply:"
                f" {bad} without it {also}."
            )
        case Blame.SERIES:
            return (
                f"It occurs only with the out-of-tree series that we apply: {bad} without it"
                f" {without}. {_TO_AUTHORS}"
            )
        case Blame.TOOLCHAIN | Blame.CONFIG | Blame.HOST:
            return _ONLY_THERE[story.blame]
        case Blame.UNKNOWN if story.series is not None:
            return (
                "We do not know whether the out-of-tree series that we apply is at fault: our tests"
                f" of {bad} without it do not answer that. {_TO_AUTHORS}"
            )
        case None | Blame.UNKNOWN:
            return "We do not know whether the tree, the series or our setup is at fault."
        case _:
            assert_never(story.blame)


def _tags(story: Story, correspondence: Correspondence, message_id: str) -> list[str]:
    """The tags for a fix, and the commands to regzbot: only where the tree is at fault."""
    if story.blame is not Blame.TREE or story.tree_url is None:
        return []
    if story.kind in ENDING:
        is_end = story.kind in CLOSING
        order = _regzbot_end(story) if is_end and correspondence.regzbot and story.thread else None
        return [order] if order else []
    wanted = [f"  Reported-by: {correspondence.from_name} <{correspondence.from_address}>"]
    if correspondence.archive:
        root = story.thread[0].message_id if story.thread else message_id
        wanted.append(f"  Closes: {archived(correspondence.archive, root)}")
    is_told = story.is_verified and story.kind not in BRIEF
    culprit = story.culprit if is_told else None
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
