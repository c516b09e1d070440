# SPDX-License-Identifier: GPL-2.0-or-later
"""Whose turn it is where several wait for one slot: tags, searches, and the trees among them.

A search is what only investigations want: the steps of a bisection and the trials around it. One
alone may ask for more than a lab can do in a night, and the next tag must not wait for that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from kwatch.domain.lab.job import Party, Purpose, Resource

HALF = 0.5
SMALLEST_SHARE = 0.05
"""The least that searches get; then one lets 19 jobs of tags pass, see ``Turns.patience``."""
# Starts of each resource that are remembered: more than a search ever lets pass.
REMEMBERED = 100
# A share is rarely a number that a float holds.
_TINY = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A job that could start now. ``is_interrupted``: a command of it may still run on a host."""

    id: int
    party: Party
    due: float
    is_interrupted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """A job was given a slot."""

    party: Party
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Turns:
    """What decides beside those who wait: the slots there are, and who had them, newest last.

    ``share`` is the part of the slots that searches have while tags wait, SMALLEST_SHARE to 1.
    Without a past all begin equal, so it may be forgotten at any time.
    """

    slots: Mapping[Resource, int] = field(default_factory=dict)
    share: float = HALF
    past: Mapping[Resource, Sequence[Start]] = field(default_factory=dict)

    def after(self, resource: Resource, start: Start) -> Turns:
        """The same once a slot of ``resource`` was given away."""
        known = (*self.past.get(resource, ()), start)[-REMEMBERED:]
        return replace(self, past={**self.past, resource: known})

    def quota(self, resource: Resource) -> int:
        """How many searches run at a time while tags wait: one at least."""
        return max(1, math.floor(self.share * self.slots.get(resource, 1) + _TINY))

    @property
    def patience(self) -> int:
        """How many tags' jobs a search lets pass before it is its turn: one at least."""
        return max(1, math.ceil((1 - self.share) / self.share - _TINY))


def choose(
    waiting: Sequence[Waiting], running: Sequence[Party], turns: Turns, resource: Resource
) -> Waiting:
    """Who of ``waiting``, which is not empty, gets the slot that is free.

    ``running`` are those who have one now. Interrupted jobs go first. Then a tag's, unless
    searches have less than their quota and let enough pass. Among equals it is the tree with the
    fewest running ones, then the one whose last turn is longest ago, then the oldest job.
    """
    interrupted = [one for one in waiting if one.is_interrupted]
    if interrupted:
        return min(interrupted, key=_age)
    past = turns.past.get(resource, ())
    purpose = _purpose(waiting, running, turns, resource)
    trees = [party.tree for party in running if party.purpose is purpose]
    last = {start.party.tree: at for at, start in enumerate(past) if start.party.purpose is purpose}
    return min(
        (one for one in waiting if one.party.purpose is purpose),
        key=lambda one: (trees.count(one.party.tree), last.get(one.party.tree, -1), *_age(one)),
    )


def _purpose(
    waiting: Sequence[Waiting],
    running: Sequence[Party],
    turns: Turns,
    resource: Resource,
) -> Purpose:
    purposes = {one.party.purpose for one in waiting}
    if len(purposes) == 1:
        return purposes.pop()
    searches = sum(party.purpose is Purpose.SEARCH for party in running)
    if searches >= turns.quota(resource):
        return Purpose.TAG
    since = min(one.due for one in waiting if one.party.purpose is Purpose.SEARCH)
    passed = 0
    for start in reversed(turns.past.get(resource, ())):
        if start.party.purpose is Purpose.SEARCH or start.at < since:
            break
        passed += 1
    return Purpose.SEARCH if passed >= turns.patience else Purpose.TAG


def _age(one: Waiting) -> tuple[float, int]:
    return one.due, one.id
