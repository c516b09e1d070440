# SPDX-License-Identifier: GPL-2.0-or-later
"""What a stage found out or did: the values it returns, and whom they concern.

A stage never names a follow-up. It returns facts; the store records them in one transaction and
wakes what depends on them: :mod:`kwatch.store.effects`.
"""

from __future__ import annotations

from dataclasses import dataclass

from kwatch.domain.lab.command import Order
from kwatch.domain.mail.story import Delivery, Letter, Release
from kwatch.domain.recipe.boot import BootRecipe
from kwatch.domain.recipe.build import BuildRecipe
from kwatch.domain.source.message import Mail
from kwatch.domain.source.revision import Revision
from kwatch.domain.source.series import Series
from kwatch.domain.trial.steps import BootResult, BuildResult, CheckoutResult, Collection
from kwatch.domain.trial.trial import Trial
from kwatch.domain.verdict.judge import Judgement
from kwatch.domain.verdict.lane import Lane
from kwatch.domain.verdict.question import Answer, Ask


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A look at a tree: the revisions that were not known, in the order of their tags."""

    tree: str
    revisions: tuple[Revision, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListMail:
    """A cover letter or patch of a list, kept until its posting is complete."""

    mail: Mail
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
class Plan:
    """How a revision is tried in a lane, with the recipes that the trial names."""

    lane: Lane
    trial: Trial
    build: BuildRecipe
    boot: BootRecipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """How the revision of this number is tried."""

    revision: int
    plans: tuple[Plan, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A build, and the digest of the recipe that it was made by."""

    result: BuildResult
    recipe: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentGone:
    """No host has the boot environment any more that the boot of this key asks for."""

    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What the tags of the lane of this number say."""

    lane: int
    judgements: tuple[Judgement, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselinesFound:
    """What the failure of a tag (its revision number) in a lane is compared with, first to last."""

    lane: int
    failing: int
    revisions: tuple[Revision, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Investigated:
    """The next question of an investigation, or its answer."""

    investigation: int
    result: Ask | Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """The mails that the notices of a thread are worth; ``silent`` are those that get none."""

    letters: tuple[Letter, ...]
    silent: tuple[int, ...]
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordered:
    """What the command of this number is to change."""

    command: int
    order: Order


@dataclass(frozen=True, slots=True, kw_only=True)
class Retried:
    """It is time to try again what the lab failed at."""


Facts = (
    Watched
    | Heard
    | Planned
    | CheckoutResult
    | Built
    | BootResult
    | EnvironmentGone
    | Collection
    | Judged
    | BaselinesFound
    | Investigated
    | Written
    | Sent
    | Ordered
    | Retried
    | Reread
)
