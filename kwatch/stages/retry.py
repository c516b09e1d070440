# SPDX-License-Identifier: GPL-2.0-or-later
"""retry: try again, once an hour, what the lab failed at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kwatch.domain.facts import Retried

if TYPE_CHECKING:
    from kwatch.domain.lab.job import Job


async def run(job: Job) -> Retried:  # noqa: ARG001 - there is one such job
    """INFRA is never final; which trials ended so is for the store to find."""
    return Retried()
