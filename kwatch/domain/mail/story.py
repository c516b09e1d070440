# SPDX-License-Identifier: GPL-2.0-or-later
"""Reports: which mail an event is worth, and all that is needed to write it.

The stage gathers a :class:`Story`; :func:`kwatch.domain.mail.letter.compose` makes a
:class:`Letter` of it. Message-IDs carry no angle brackets here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, assert_never

from kwatch.domain.coverage.figures import Totals
from kwatch.domain.milestone import Milestone
from kwatch.domain.recipe.arch import ARCHES
from kwatch.domain.source.series import Series
from kwatch.domain.trial.observation import Outcome
from kwatch.domain.verdict.blame import Blame
from kwatch.domain.verdict.investigation import Verdict
from kwatch.domain.verdict.regression import Regression, TagResult

if TYPE_CHECKING:
    from collections.abc import Mapping


class MailState(StrEnum):
    """How far a mail is. HELD waits for the operator; SENT and FAILED end it."""

    HELD = "held"
    READY = "ready"
    SENDING = "sending"
    SENT = "sent"
    FAILED = "failed"


class MailEvent(StrEnum):
    """What happens to a mail.

    RETRY: the server did not take it from all recipients that are left, but may later. REFUSE:
    nobody will ever get it.
    """

    RELEASE = "release"
    START = "start"
    RETRY = "retry"
    DELIVER = "deliver"
    REFUSE = "refuse"


_S, _E = MailState, MailEvent
TRANSITIONS: Mapping[tuple[MailState, MailEvent], MailState] = {
    (_S.HELD, _E.RELEASE): _S.READY,
    (_S.READY, _E.START): _S.SENDING,
    # A kill in the middle leaves SENDING: the next attempt starts again, with the same Message-ID.
    (_S.SENDING, _E.START): _S.SENDING,
    (_S.SENDING, _E.RETRY): _S.READY,
    (_S.SENDING, _E.DELIVER): _S.SENT,
    (_S.SENDING, _E.REFUSE): _S.FAILED,
}


class ReportKind(StrEnum):
    """What a mail has to tell.

    NEW: confirmed by a repeat and by the control. BISECTED: one commit was found.
    INCONCLUSIVE: the search ended with several commits, or with a contradiction.
    """

    NEW = "new"
    BISECTED = "bisected"
    INCONCLUSIVE = "inconclusive"
    FIXED = "fixed"
    RETRACTED = "retracted"


class Release(StrEnum):
    """Whether a mail waits for the operator before it goes out."""

    MODERATE = "moderate"
    AUTOMATIC = "automatic"


def first_state(release: Release) -> MailState:
    """The state in which a mail is stored."""
    match release:
        case Release.MODERATE:
            return MailState.HELD
        case Release.AUTOMATIC:
            return MailState.READY
        case _:
            assert_never(release)


class Grade(StrEnum):
    """How sure we are of a culprit, in the words of a report."""

    VERIFIED = "verified"
    LIKELY = "likely"
    SET = "set"


class DeliveryState(StrEnum):
    """What the mail server said to one recipient. DEFERRED may be tried again."""

    ACCEPTED = "accepted"
    DEFERRED = "deferred"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """The server's word on one recipient; ``answer`` is its code and text."""

    address: str
    state: DeliveryState
    answer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """One mail, ready to be stored and sent.

    ``event`` is the regression event it tells of, ``thread`` the thread's key
    (``regression:17``), ``recipients`` the envelope's (everybody of To and Cc). ``message`` is the
    whole mail with LF line ends: whoever speaks SMTP makes them CRLF.
    """

    event: int
    kind: ReportKind
    thread: str
    message_id: str
    subject: str
    envelope_from: str
    recipients: tuple[str, ...]
    message: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitInfo:
    """A commit as git shows it; ``signers`` are the (name, address) of its Signed-off-by lines."""

    commit: str
    subject: str
    author_name: str
    author_address: str
    signers: tuple[tuple[str, str], ...] = ()
    parents: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    @property
    def is_merge(self) -> bool:
        """Whether it joins two lines of history."""
        return len(self.parents) > 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """One trial that the report rests on.

    ``what`` says which commit it is: ``first bad tag``, ``parent``. ``title`` is the finding's,
    where it failed.
    """

    what: str
    commit: str
    variant_name: str
    is_control: bool
    rebuild: int
    repeat: int
    outcome: Outcome
    milestone: Milestone
    title: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BisectionStep:
    """One commit that the bisection tested."""

    commit: str
    subject: str
    outcome: Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """The kernel configuration: ``dropped`` are the lines asked for that Kconfig did not keep."""

    base: str
    fragments: tuple[str, ...]
    digest: str | None
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Elsewhere:
    """The newest result of the same test in another tree or variant."""

    tree: str
    tag: str
    variant_name: str
    outcome: Outcome
    title: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadMail:
    """A mail of the thread as it stands."""

    message_id: str
    subject: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """All that a report tells, gathered by the stage.

    ``at`` is in seconds since the epoch. ``verdict`` is the investigation's, if one has ended.
    ``candidates`` are the commits that an inconclusive search left. ``suspects`` is how many
    commits the search started from. ``toolchain`` holds one line for each program as it was
    probed, ``excerpt`` the lines of the console or the build log (empty: not a single byte came).
    ``coverage_before`` is of the last good tag, ``coverage_after`` of the tag in question.
    ``reproduce`` are shell lines, from a clone to the failure. ``thread`` is in the order of
    sending, root first; ``told`` are the addresses that its mails went to.
    """

    event: int
    kind: ReportKind
    at: float
    regression: Regression
    arch: str
    tree_url: str
    blame: Blame | None = None
    verdict: Verdict | None = None
    culprit: CommitInfo | None = None
    candidates: tuple[CommitInfo, ...] = ()
    proof: tuple[Proof, ...] = ()
    suspects: int | None = None
    steps: tuple[BisectionStep, ...] = ()
    fixed: TagResult | None = None
    series: Series | None = None
    configuration: Configuration | None = None
    toolchain: tuple[str, ...] = ()
    excerpt: tuple[str, ...] = ()
    coverage_before: Totals | None = None
    coverage_after: Totals | None = None
    elsewhere: tuple[Elsewhere, ...] = ()
    reproduce: tuple[str, ...] = ()
    status_url: str | None = None
    thread: tuple[ThreadMail, ...] = ()
    told: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Correspondence:
    """The lab's rules for mail about one tree and one series.

    ``tree_mail_to`` are lists, ``series_mail_to`` the people of the series, ``owner`` gets a copy
    of everything. ``never_mail`` are glob patterns in lower case. ``archive`` is the address that
    the Message-ID of a report is appended to (``https://lore.kernel.org/all/``), if there is one;
    ``series_archive`` that for a mail of the series.
    """

    from_name: str
    from_address: str
    message_id_domain: str
    owner: str
    tree_mail_to: tuple[str, ...] = ()
    series_mail_to: tuple[str, ...] = ()
    never_mail: tuple[str, ...] = ()
    max_recipients: int = 25
    archive: str | None = None
    series_archive: str | None = None
    regzbot: bool = False
    release: Release = Release.MODERATE


def grade(story: Story) -> Grade | None:
    """How sure the report may be of whom it names; None where it names nobody."""
    if story.culprit and story.kind is ReportKind.BISECTED:
        return Grade.LIKELY if doubts(story.culprit, story) else Grade.VERIFIED
    return Grade.SET if story.candidates else None


def doubts(culprit: CommitInfo, story: Story) -> tuple[str, ...]:
    """What keeps a culprit from being proven, each as the rest of a sentence after "but".

    Proven is a commit that fails, and whose parent passes, when both are rebuilt from nothing. A
    merge has several people behind it, and a commit that no object file depends on is innocent.
    """
    rebuilt = [proof for proof in story.proof if proof.rebuild and not proof.is_control]
    failing = {proof.commit for proof in rebuilt if proof.outcome is Outcome.FAIL}
    passing = {proof.commit for proof in rebuilt if proof.outcome is Outcome.PASS}
    found = []
    if culprit.commit not in failing or culprit.commit in passing:
        found.append("it was not seen to fail after a rebuild from nothing")
    if not culprit.parents or not passing.issuperset(culprit.parents):
        found.append("its parent was not seen to pass after a rebuild from nothing")
    if culprit.is_merge:
        found.append("it is a merge")
    if culprit.files and all(_is_foreign(path, story.arch) for path in culprit.files):
        found.append(f"it touches nothing that is compiled for {story.arch}")
    return tuple(found)


def _is_foreign(path: str, arch: str) -> bool:
    if path.startswith("arch/"):
        # arch/Kconfig belongs to all.
        return path.count("/") > 1 and not path.startswith(f"arch/{ARCHES[arch].folder}/")
    return path.startswith("Documentation/")
