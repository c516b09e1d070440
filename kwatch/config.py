# SPDX-License-Identifier: GPL-2.0-or-later
"""The configuration file: TOML in, :class:`Settings` out, or all mistakes at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kwatch.configassemble import assemble
from kwatch.configcheck import check
from kwatch.configproblem import ConfigProblems, Problem, ProblemList
from kwatch.configread import read
from kwatch.settings import (
    MailingList,
    Schedule,
    Settings,
    WatchedSeries,
    WebSettings,
)

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "ConfigProblems",
    "MailingList",
    "Problem",
    "Schedule",
    "Settings",
    "WatchedSeries",
    "WebSettings",
    "load",
]


def load(path: Path) -> Settings:
    """Read and check the configuration file.

    Files that it names are looked for from its folder on, ``credential:NAME`` in
    $CREDENTIALS_DIRECTORY; $STATE_DIRECTORY is the default for ``lab.state_directory``. Raises
    ConfigProblems with everything that is wrong, and touches nothing.
    """
    problems = ProblemList(path)
    document = read(path, problems)
    settings = None
    if document is not None:
        check(document, problems)
        settings = assemble(document, path.parent, problems)
    if settings is None:
        raise ConfigProblems(problems.problems)
    return settings
