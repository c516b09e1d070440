# SPDX-License-Identifier: GPL-2.0-or-later
"""The verbs for a new lab: check a configuration file, seed a tree from a local repository."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from kwatch.adapters.git import Git
from kwatch.config.files import Secrets
from kwatch.config.load import load
from kwatch.errors import ConfigError

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from kwatch.config.settings import Settings


def check_config(words: argparse.Namespace) -> int:
    """``kwatch check-config [FILE]``."""
    path = words.file or words.config
    settings = load(path, secrets=Secrets.UNUSED)
    counts = ", ".join(
        f"{len(found)} {noun}{'' if len(found) == 1 else 's'}"
        for found, noun in (
            (settings.trees, "tree"), (settings.variants, "variant"), (settings.hosts, "host"),
        )
    )  # fmt: skip
    print(f"{path}: valid: {counts}")
    return 0


def seed(words: argparse.Namespace) -> int:
    """``kwatch trees seed TREE --from PATH``."""
    settings = load(words.config, secrets=Secrets.UNUSED)
    known = sorted(tree.name for tree in settings.trees)
    if words.tree not in known:
        raise ConfigError(
            f"{words.config}: there is no tree {words.tree}; known: {', '.join(known)}"
        )
    if not words.source.exists():
        raise ConfigError(f"{words.source} does not exist: give a repository or a bundle file")
    asyncio.run(_seed(settings, words.tree, words.source.absolute()))
    return 0


async def _seed(settings: Settings, tree: str, source: Path) -> None:
    git = Git(settings.state.git)
    await git.create()
    await git.fetch(str(source), [f"+refs/*:refs/kwatch/seed/{tree}/*"])
    print(f"{tree}: seeded from {source}")
