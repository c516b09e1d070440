# SPDX-License-Identifier: GPL-2.0-or-later
"""A mailing list that is read for postings."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class MailingList:
    """A list with a public-inbox archive at ``url``.

    Mails from ``since`` on count when the list is read for the first time; None means from that
    moment on.
    """

    name: str
    url: str
    address: str
    since: datetime | None
