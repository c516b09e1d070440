# SPDX-License-Identifier: GPL-2.0-or-later
"""send: hand one mail to the mail server. Its Message-ID was stored long before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kwatch.domain.facts import Sent
from kwatch.store import mail

if TYPE_CHECKING:
    from kwatch.adapters.smtp import Smtp
    from kwatch.domain.job import Job
    from kwatch.store.database import Database


async def run(job: Job, *, smtp: Smtp, database: Database) -> Sent | None:
    """Send the mail that ``job.key`` numbers to those that have not got it."""
    number = int(job.key)
    letter = await database.write(mail.start_sending, number)
    if letter is None:
        return None
    deliveries = await smtp.deliver(letter.message, letter.envelope_from, letter.waiting)
    return Sent(mail=number, deliveries=deliveries)
