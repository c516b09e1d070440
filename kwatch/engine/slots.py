# SPDX-License-Identifier: GPL-2.0-or-later
"""How many jobs of each kind run at the same time."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from kwatch.domain.lab.host import HostSpec, Slot
from kwatch.domain.lab.job import Resource

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SOURCES = 4
THOUGHTS = 2
MAILS = 1


def count_slots(
    hosts: Sequence[HostSpec], *, checkouts: int, collections: int
) -> Mapping[Resource, int]:
    """The slots of each resource; those of builds and boots are the sums over all hosts."""
    return MappingProxyType(
        {
            Resource.SOURCE: SOURCES,
            Resource.GIT: checkouts,
            Resource.BUILD: sum(host.slots[Slot.BUILD] for host in hosts),
            Resource.BOOT: sum(host.slots[Slot.BOOT] for host in hosts),
            Resource.COLLECT: collections,
            Resource.THOUGHT: THOUGHTS,
            Resource.MAIL: MAILS,
        }
    )
