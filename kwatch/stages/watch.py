# SPDX-License-Identifier: GPL-2.0-or-later
"""watch: look at a tree for tags that are new, missed or moved, and fetch them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from kwatch.domain.facts import Watched
from kwatch.domain.source.revision import Revision, tag_changes
from kwatch.store import revisions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kwatch.adapters.git import Git
    from kwatch.domain.lab.job import Job
    from kwatch.domain.source.revision import Tree
    from kwatch.store.database import Database

log = logging.getLogger(__name__)


async def run(
    job: Job,
    *,
    trees: Mapping[str, Tree],
    git: Git,
    database: Database,
    clock: Callable[[], float],
) -> Watched | None:
    """Find and fetch the new tags of the tree that ``job.key`` names."""
    tree = trees.get(job.key)
    if tree is None:
        return None
    known = await database.read(revisions.known_tags, tree.name)
    seen = await git.remote_tags(tree.url, tree.tags)
    changes = tag_changes(known, seen, first=tree.first)
    for tag, old, new in changes.moved:
        log.warning("tag %s of %s moved from %.12s to %.12s", tag, tree.name, old, new)
    found = [*changes.new, *((tag, new) for tag, _, new in changes.moved)]
    if found:
        log.info("tree %s: %s", tree.name, ", ".join(tag for tag, _ in found))
        await git.fetch(
            tree.url,
            [f"+refs/tags/{tag}:refs/kwatch/{tree.name}/{tag}" for tag, _ in found],
        )
        await git.write_commit_graph()
    for _, commit in found:
        # linux-next is rebuilt every day: what was tested once must stay reachable.
        await git.pin(f"refs/kwatch/keep/{commit}", commit)
    return Watched(
        tree=tree.name,
        revisions=tuple(
            Revision(tree=tree.name, tag=tag, commit=commit, seen_at=clock())
            for tag, commit in found
        ),
    )
