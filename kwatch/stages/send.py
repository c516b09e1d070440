# SPDX-License-Identifier: GPL-2.0-or-later
"""send: hand one mail to the mail server. Its Message-ID was stored long before."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from kwatch.domain.facts import Sent
from kwatch.domain.mail.story import MailState
from kwatch.errors import InfraError
from kwatch.store import mail

if TYPE_CHECKING:
    from collections.abc import Callable

    from kwatch.adapters.smtp import Smtp
    from kwatch.domain.lab.job import Job
    from kwatch.store.database import Database

ORDER_PAUSE = timedelta(seconds=10)


async def run(
    job: Job, *, smtp: Smtp, database: Database, clock: Callable[[], float]
) -> Sent | None:
    """Send the mail with the number ``job.key`` to the recipients that have not got it."""
    number = int(job.key)
    first = await database.read(mail.waits_for, number)
    if first is not None:
        earlier, state = first
        if state is MailState.HELD:
            # Releasing or rejecting that mail queues this job again.
            return None
        raise InfraError(
            f"mail {number} waits for mail {earlier} of its thread", retry_after=ORDER_PAUSE
        )
    letter = await database.write(mail.start_sending, number, now=clock())
    if letter is None:
        return None
    deliveries = await smtp.deliver(letter.message, letter.envelope_from, letter.waiting)
    return Sent(mail=number, deliveries=deliveries)
