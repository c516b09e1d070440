# SPDX-License-Identifier: GPL-2.0-or-later
"""Commands: the few orders that people give a running lab."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from kwatch.domain.lab.host import HostState
from kwatch.domain.lab.job import JobKind


class Verb(StrEnum):
    """What can be ordered."""

    ACCEPT_SERIES = "accept-series"
    RELEASE_MAIL = "release-mail"
    REJECT_MAIL = "reject-mail"
    LOOK = "look"
    RETEST = "retest"
    DRAIN_HOST = "drain-host"
    RESUME_HOST = "resume-host"
    PROVE_HOST = "prove-host"


class CommandState(StrEnum):
    """A command is given once and answered once."""

    ASKED = "asked"
    DONE = "done"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One order. ``sender`` says who gave it.

    ``argument``: the digest of a series or its first digits; the number of a mail; ``tree:NAME`` or
    ``list:NAME`` (LOOK); tree, tag and optionally variant, separated by blanks (RETEST); the name
    of a host; JSON with host, accelerator and seconds by case (PROVE_HOST).
    """

    sender: str
    verb: Verb
    argument: str


# What a command is to change. The store applies it and writes the answer in one transaction.


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptSeries:
    """Accept the one series whose digest starts with ``prefix``, at least 6 digits."""

    prefix: str
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseMail:
    """Send a mail that is held."""

    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectMail:
    """Never send a mail that is held."""

    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Poll a tree or a list now. ``source`` is its name for people."""

    kind: JobKind
    name: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Retest:
    """Test a tag again, in all its lanes or in that of ``variant``."""

    tree: str
    tag: str
    variant: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SetHost:
    """Note the state of a host; ``answer`` says what that means."""

    name: str
    state: HostState
    answer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProveHost:
    """An accelerator of a host gives right verdicts; ``seconds`` by case."""

    name: str
    accelerator: str
    seconds: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refuse:
    """Change nothing."""

    reason: str


Order = AcceptSeries | ReleaseMail | RejectMail | Look | Retest | SetHost | ProveHost | Refuse
