# SPDX-License-Identifier: GPL-2.0-or-later
"""A commit as git shows it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitInfo:
    """``signers`` are the (name, address) of its Signed-off-by lines."""

    commit: str
    subject: str
    author_name: str
    author_address: str
    signers: tuple[tuple[str, str], ...] = ()
    parents: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    @property
    def is_merge(self) -> bool:
        """Whether it joins two lines of history."""
        return len(self.parents) > 1
