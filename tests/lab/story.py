# SPDX-License-Identifier: GPL-2.0-or-later
"""The story that kwatch is measured by: three tags in, one thread of three mails out."""

from __future__ import annotations

import email
import email.policy
import time
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from tests.lab.box import Box

# Seconds for each part of the story; real kernels are built meanwhile, on few processors.
PATIENCE = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Chapter:
    """A tag that is revealed, and how many reports there must be before the next one is."""

    tag: str
    reports: int


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What came of the story. ``took`` is in seconds, by chapter and in all."""

    mails: list[EmailMessage] = field(default_factory=list)
    took: dict[str, float] = field(default_factory=dict)

    @property
    def total(self) -> float:
        """Seconds for all of it."""
        return sum(self.took.values())


async def tell(
    box: Box,
    chapters: Sequence[Chapter],
    *,
    publish: Callable[[str], None],
    during: Callable[[Chapter], Awaitable[None]] | None = None,
) -> Outcome:
    """Post the series, then reveal one tag after the other to the daemon.

    The daemon is started once there is something to watch. ``publish`` reveals a tag; ``during``
    is called once a tag is out (to watch, or to disturb).
    """
    outcome = Outcome()
    await box.post_series()
    for chapter in chapters:
        started = time.monotonic()
        publish(chapter.tag)
        if not box.is_running:
            await box.start()
        if during is not None:
            await during(chapter)
        await box.until(
            lambda chapter=chapter: is_told(box, chapter),  # type: ignore[misc]
            timeout=PATIENCE,
            what=f"end of {chapter.tag}",
        )
        outcome.took[chapter.tag] = time.monotonic() - started
    outcome.mails = [
        email.message_from_bytes(raw, policy=email.policy.default) for raw in box.reports()
    ]
    return outcome


def is_told(box: Box, chapter: Chapter) -> bool:
    """Whether the tag has its result, and all its reports have arrived on the list."""
    settled = box.query(
        "SELECT 1 FROM revision JOIN result USING (commit_id)"
        " WHERE tag = ? AND rebuild = 0 AND repeat = 0 AND outcome IS NOT NULL",
        chapter.tag,
    )
    if not settled or len(box.reports()) < chapter.reports:
        return False
    alive = "SELECT 1 FROM job WHERE state IN ('queued', 'running') AND kind NOT IN (?, ?)"
    return not box.query(alive, "watch", "listen")
