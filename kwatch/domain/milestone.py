# SPDX-License-Identifier: GPL-2.0-or-later
"""How far a tested commit got: the ordered answer that every comparison starts from."""

from __future__ import annotations

from enum import IntEnum


class Milestone(IntEnum):
    """The last thing that was seen to work, in the order of the way of a tag.

    The numbers are stored in the history, so they never change; gaps leave room for more.
    """

    NOTHING = 0
    CHECKOUT = 10
    CONFIG = 20
    COMPILED = 30
    LINKED = 40
    KERNEL = 50
    INIT = 60
    TESTED = 70
    COLLECTED = 80

    @property
    def label(self) -> str:
        """What a reader of a report sees: ``got as far as LABEL``."""
        return LABELS[self]


LABELS: dict[Milestone, str] = {
    Milestone.NOTHING: "nothing",
    Milestone.CHECKOUT: "the patched source tree",
    Milestone.CONFIG: "the configuration",
    Milestone.COMPILED: "the compiled objects",
    Milestone.LINKED: "the linked image",
    Milestone.KERNEL: "the kernel's first line",
    Milestone.INIT: "user space",
    Milestone.TESTED: "the end of the tests",
    Milestone.COLLECTED: "the collected coverage",
}
