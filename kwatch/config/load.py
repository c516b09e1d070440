# SPDX-License-Identifier: GPL-2.0-or-later
"""The configuration file: TOML in, :class:`Settings` out, or all mistakes at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kwatch.config.assemble import assemble
from kwatch.config.check import check
from kwatch.config.files import Secrets
from kwatch.config.problem import ConfigProblems, ProblemList
from kwatch.config.read import read

if TYPE_CHECKING:
    from pathlib import Path

    from kwatch.config.settings import Settings


def load(path: Path, *, secrets: Secrets = Secrets.USED) -> Settings:
    """Read and check the configuration file.

    Relative paths start at its directory, ``credential:NAME`` is a file in $CREDENTIALS_DIRECTORY;
    $STATE_DIRECTORY is the default of ``lab.state_directory``. With secrets UNUSED the password is
    empty and a key that is a credential may be None. Raises ConfigProblems with all problems;
    changes nothing.
    """
    problems = ProblemList(path)
    document = read(path, problems)
    settings = None
    if document is not None:
        check(document, problems)
        settings = assemble(document, path.parent, problems, secrets)
    if settings is None:
        raise ConfigProblems(problems.problems)
    return settings
