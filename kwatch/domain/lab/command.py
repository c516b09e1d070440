# SPDX-License-Identifier: GPL-2.0-or-later
"""Commands: the few orders that people give a running lab."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Verb(StrEnum):
    """What can be ordered. The argument of each is in :data:`ARGUMENT`."""

    ACCEPT_SERIES = "accept-series"
    RELEASE_MAIL = "release-mail"
    REJECT_MAIL = "reject-mail"
    LOOK = "look"
    DRAIN_HOST = "drain-host"
    RESUME_HOST = "resume-host"
    ACCEPT_HOST = "accept-host"


ARGUMENT: Mapping[Verb, str] = {
    Verb.ACCEPT_SERIES: "the digest of a series, or its first digits",
    Verb.RELEASE_MAIL: "the number of a mail that is held",
    Verb.REJECT_MAIL: "the number of a mail that is held",
    Verb.LOOK: "tree:NAME or list:NAME",
    Verb.DRAIN_HOST: "the name of a host",
    Verb.RESUME_HOST: "the name of a host",
    Verb.ACCEPT_HOST: "JSON: host, accelerator, and seconds by what was tried",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One order. ``sender`` says who gave it."""

    sender: str
    verb: Verb
    argument: str
