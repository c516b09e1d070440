# SPDX-License-Identifier: GPL-2.0-or-later
"""The story on real Linux with a kill in every stage. Takes half an hour."""

from __future__ import annotations

import asyncio

import pytest

from tests.lab.disturbed import Kill, tell_disturbed
from tests.lab.linux.topics import Tag

KILLS = {
    Tag.GOOD: [
        Kill(kind="watch", after=0.1),
        Kill(kind="checkout", after=1.0),
        Kill(kind="build", after=5.0),
        Kill(kind="build", after=12.0),
        Kill(kind="boot", after=2.0),
        Kill(kind="collect", after=0.2),
    ],
    Tag.BROKEN: [
        Kill(kind="build", after=3.0),
        Kill(kind="boot", after=4.0),
        Kill(kind="build", after=8.0),
        Kill(kind="boot", after=0.5),
        Kill(kind="checkout", after=0.2),
    ],
    Tag.REPAIRED: [Kill(kind="build", after=1.0), Kill(kind="collect", after=0.3)],
}


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_the_story_survives_a_kill_in_every_stage() -> None:
    told = asyncio.run(tell_disturbed(KILLS))
    assert told.kills == sum(map(len, KILLS.values()))
    assert told.problems == []
    assert len(told.mails) == 3
    assert told.left == ""
