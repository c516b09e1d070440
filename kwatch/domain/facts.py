# SPDX-License-Identifier: GPL-2.0-or-later
"""What a stage found out or did: the values it returns, and whom they concern.

A stage never names a follow-up. It returns facts; the store records them in one transaction and
wakes whoever waits, by the rules of :mod:`kwatch.store.record`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from kwatch.domain.mail.story import Delivery, Letter, Release
from kwatch.domain.recipe.variant import Variant
from kwatch.domain.source.posting import PostingMail
from kwatch.domain.source.revision import Revision
from kwatch.domain.source.series import Series
from kwatch.domain.trial.observation import (
    BootResult,
    BuildResult,
    CheckoutResult,
    Collection,
    Trial,
)
from kwatch.domain.verdict.investigation import Answer, Ask
from kwatch.domain.verdict.regression import Judgement


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A look at a tree: the revisions that were not known, in the order of their tags."""

    tree: str
    revisions: tuple[Revision, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListMail:
    """A cover letter or patch of a list, kept until its posting is complete."""

    header: PostingMail
    raw: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Posted:
    """A complete posting of a watched series, ready for ``git am``."""

    series: Series
    mbox: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """A look at a list. ``cursor`` is where to go on, ``more`` says that there is more now."""

    source: str
    cursor: str
    mails: tuple[ListMail, ...]
    posted: tuple[Posted, ...]
    more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """What is to be observed of a revision."""

    tree: str
    tag: str
    commit: str
    trials: tuple[tuple[Trial, Variant], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What history says of a tree in a variant."""

    tree: str
    variant: str
    variant_name: str
    judgements: tuple[Judgement, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Investigated:
    """The next question of an investigation, or its answer."""

    investigation: int
    result: Ask | Answer
    variants: tuple[Variant, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """The mails that a regression's events are worth."""

    regression: int
    letters: tuple[Letter, ...]
    silent_events: tuple[int, ...]
    release: Release


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What the mail server said to one mail."""

    mail: int
    deliveries: tuple[Delivery, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reread:
    """Results with the findings that reader number ``reader`` has; ``more`` wait for it."""

    results: tuple[BuildResult | BootResult, ...]
    reader: int
    more: bool


class CommandState(StrEnum):
    """A command is asked once and answered once."""

    ASKED = "asked"
    DONE = "done"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """The answer to a command."""

    command: int
    state: CommandState
    answer: str


Facts = (
    Watched
    | Heard
    | Planned
    | CheckoutResult
    | BuildResult
    | BootResult
    | Collection
    | Judged
    | Investigated
    | Written
    | Sent
    | Answered
    | Reread
)
