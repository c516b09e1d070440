# SPDX-License-Identifier: GPL-2.0-or-later
"""The nouns of reports: the states of a mail, the contents of a report, the written mail.

The stage gathers a :class:`Story`; :func:`kwatch.domain.mail.letter.compose` makes a
:class:`Letter` of it. Message-IDs carry no angle brackets here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, assert_never

from kwatch.domain.coverage.figures import Totals
from kwatch.domain.source.commit import CommitInfo
from kwatch.domain.source.series import Series
from kwatch.domain.trial.seen import fingerprints_of
from kwatch.domain.verdict.bisect.commits import Mark
from kwatch.domain.verdict.blame import Blame
from kwatch.domain.verdict.grade import CleanBuilds, Grade
from kwatch.domain.verdict.lane import Lane, TagRun
from kwatch.domain.verdict.problem import Facet
from kwatch.domain.verdict.question import Verdict
from kwatch.domain.verdict.regression import Presence, Regression

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kwatch.domain.finding import Finding


class MailState(StrEnum):
    """The state of a mail in the outbox.

    HELD: not released by the operator yet. SENT, FAILED and REJECTED are final.
    """

    HELD = "held"
    READY = "ready"
    SENDING = "sending"
    SENT = "sent"
    FAILED = "failed"
    REJECTED = "rejected"


class MailEvent(StrEnum):
    """What happens to a mail.

    RETRY: some recipients are deferred. REFUSE: all recipients are refused. ABANDON: the send job
    is given up.
    """

    RELEASE = "release"
    REJECT = "reject"
    START = "start"
    RETRY = "retry"
    DELIVER = "deliver"
    REFUSE = "refuse"
    ABANDON = "abandon"


_S, _E = MailState, MailEvent
TRANSITIONS: Mapping[tuple[MailState, MailEvent], MailState] = {
    (_S.HELD, _E.RELEASE): _S.READY,
    (_S.HELD, _E.REJECT): _S.REJECTED,
    (_S.READY, _E.START): _S.SENDING,
    # A kill in the middle leaves SENDING: the next attempt starts again, with the same Message-ID.
    (_S.SENDING, _E.START): _S.SENDING,
    (_S.SENDING, _E.RETRY): _S.READY,
    (_S.SENDING, _E.DELIVER): _S.SENT,
    (_S.SENDING, _E.REFUSE): _S.FAILED,
    (_S.SENDING, _E.ABANDON): _S.FAILED,
    (_S.READY, _E.ABANDON): _S.FAILED,
}


class ReportKind(StrEnum):
    """What a mail reports.

    NEW: confirmed by a repeat and by the control. BISECTED: one commit was found.
    INCONCLUSIVE: the bisection ended with several commits, or with a contradiction.
    SPREAD: another tree or branch has it. GONE: one of its trees or branches is free of it.
    FIXED: the last one is. REAPPEARED: it was gone, and a later tag shows it again.
    """

    NEW = "new"
    BISECTED = "bisected"
    INCONCLUSIVE = "inconclusive"
    SPREAD = "spread"
    GONE = "gone"
    FIXED = "fixed"
    REAPPEARED = "reappeared"
    RETRACTED = "retracted"


class Release(StrEnum):
    """Whether the operator has to release each mail."""

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


class DeliveryState(StrEnum):
    """The server's answer for one recipient. DEFERRED may be tried again."""

    ACCEPTED = "accepted"
    DEFERRED = "deferred"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """The server's answer for one recipient; ``answer`` is its code and text."""

    address: str
    state: DeliveryState
    answer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """One mail, ready to be stored and sent.

    ``notice`` is what it reports (its number), ``recipients`` are the envelope's (everybody of To
    and Cc). ``message`` is the whole mail with LF line ends and without Date, which is added when
    it is sent first.
    """

    notice: int
    kind: ReportKind
    message_id: str
    subject: str
    envelope_from: str
    recipients: tuple[str, ...]
    message: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Tested:
    """One test that the report rests on.

    ``what`` names its commit: ``first bad tag``, ``parent``. ``is_control``: without the series.
    ``is_clean``: built from scratch. ``other`` is the title of the finding, where it is not that
    of the regression.
    """

    what: str
    commit: str
    is_control: bool
    is_clean: bool
    mark: Mark
    other: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BisectionStep:
    """One commit that the bisection tested."""

    commit: str
    subject: str
    mark: Mark


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """The kernel configuration: ``dropped`` are the lines asked for that Kconfig did not keep.

    ``where`` is the name of the attached .config, or its URL.
    """

    base: str
    fragments: tuple[str, ...]
    digest: str | None
    dropped: tuple[str, ...] = ()
    where: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """A file of a mail. ``name`` is one word of printable ASCII; ``.gz`` is gzip, else text."""

    name: str
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadMail:
    """An earlier mail of the thread."""

    message_id: str
    subject: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """The contents of a report, gathered by the stage.

    ``at`` is when the event happened, in seconds since the epoch. ``tree_url`` is None where the
    tree is not configured any more: the mail then goes to the operator only. ``verdict`` is that
    of the investigation, if one has ended. ``candidates`` are the commits that an inconclusive
    bisection left, ``suspects`` how many commits it started from. ``grade`` and ``doubts`` say how
    sure the ``culprit`` is, ``clean`` how its clean builds ended. ``fixed`` is the tag without the
    problem, ``again`` the later one that had it again. ``toolchain`` has one line a
    program, ``booted_in`` is the environment of the boot in a line (empty: it was not booted),
    ``excerpt`` the lines of the console or the build log (empty: no output).
    ``coverage_before`` is of the last good tag, ``coverage_after`` of the tag in question.
    ``place`` is the line that the mail is about, where that is in another tree or branch than the
    first bad tag; ``others`` are the lines elsewhere that have it now. ``reproduce`` are shell
    lines to run in a clone with the ``attachments``. ``thread`` are the
    mails of the thread that went out or will, root first; ``told`` are their recipients.
    """

    notice: int
    kind: ReportKind
    at: float
    regression: Regression
    arch: str
    tree_url: str | None
    blame: Blame | None = None
    verdict: Verdict | None = None
    culprit: CommitInfo | None = None
    grade: Grade | None = None
    doubts: tuple[str, ...] = ()
    clean: CleanBuilds | None = None
    candidates: tuple[CommitInfo, ...] = ()
    proof: tuple[Tested, ...] = ()
    suspects: int | None = None
    steps: tuple[BisectionStep, ...] = ()
    fixed: TagRun | None = None
    again: TagRun | None = None
    place: Presence | None = None
    others: tuple[Presence, ...] = ()
    series: Series | None = None
    configuration: Configuration | None = None
    toolchain: tuple[str, ...] = ()
    booted_in: str = ""
    excerpt: tuple[str, ...] = ()
    coverage_before: Totals | None = None
    coverage_after: Totals | None = None
    reproduce: tuple[str, ...] = ()
    attachments: tuple[Attachment, ...] = ()
    status_url: str | None = None
    thread: tuple[ThreadMail, ...] = ()
    told: tuple[str, ...] = ()

    @property
    def is_corrected(self) -> bool:
        """Whether it turned out after the first mail that something in the lab has changed."""
        return self.kind is ReportKind.INCONCLUSIVE and self.verdict is Verdict.CHANGED

    @property
    def shown(self) -> TagRun:
        """The tag whose log is shown: the first bad one, or the one that shows it again."""
        is_again = self.kind is ReportKind.REAPPEARED and self.again is not None
        return self.again if self.again and is_again else self.first_bad

    @property
    def finding(self) -> Finding:
        """The problem as that tag has it."""
        names, again = self.regression.problem.fingerprints, self.shown
        is_first = again is self.regression.bad
        seen = None if is_first else again.seen
        found = (seen.finding, *seen.others) if seen else ()
        return next(
            (one for one in found if one and fingerprints_of(one) & names), self.regression.finding
        )

    @property
    def lane(self) -> Lane:
        """The tree and variant that the mail is about."""
        return self.place.line.lane if self.place else self.regression.lane

    @property
    def last_good(self) -> TagRun | None:
        """The last tag there before the problem, if there was one."""
        return self.place.good if self.place else self.regression.good

    @property
    def first_bad(self) -> TagRun:
        """The first tag there with the problem."""
        return self.place.bad if self.place else self.regression.bad

    @property
    def is_warning(self) -> bool:
        """Whether the kernel passes the test and reports something."""
        return self.regression.facet is Facet.WARNING

    @property
    def is_verified(self) -> bool:
        """Whether the culprit may be named to its author."""
        return self.culprit is not None and self.grade is Grade.VERIFIED


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
