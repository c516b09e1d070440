# SPDX-License-Identifier: GPL-2.0-or-later
"""baseline: find commits that a failing tag can be compared with, if no earlier tag will do."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from kwatch.domain.facts import BaselinesFound
from kwatch.domain.lab.job import failing_tag
from kwatch.domain.source.revision import Revision
from kwatch.domain.verdict.baseline import Baseline, in_order, releases
from kwatch.store import revisions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

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
) -> BaselinesFound | None:
    """Look in the history of the tag that ``job.key`` names, which is here, and pinned."""
    lane, failing = failing_tag(job.key)
    bad = await database.read(revisions.load, failing)
    tree = trees.get(bad.tree)
    if tree is None:
        return None
    finals, candidates = releases(await git.remote_tags(tree.url, ["v*"]))
    found = in_order(
        bad.commit,
        fork=await _fork(git, tree, bad),
        candidate=await _newest(git, bad, candidates),
        release=await _newest(git, bad, finals),
    )
    names = ", ".join(one.name for one in found) or "nothing"
    log.info("%s %s: no earlier tag to compare with; to try: %s", tree.name, bad.tag, names)
    return BaselinesFound(
        lane=lane,
        failing=failing,
        revisions=tuple(
            Revision(
                tree=tree.name, tag=one.name, commit=one.commit, seen_at=clock(), is_baseline=True
            )
            for one in found
        ),
    )


async def _fork(git: Git, tree: Tree, bad: Revision) -> Baseline | None:
    """Where the tag left the branch that its tree is based on."""
    if tree.base is None:
        return None
    head = f"refs/heads/{tree.base}"
    if not await git.remote_refs(tree.url, [head]):
        log.warning("tree %s: %s has no branch %s (base)", tree.name, tree.url, tree.base)
        return None
    ref = f"refs/kwatch/base/{tree.name}"
    await git.fetch(tree.url, [f"+{head}:{ref}"])
    commit = await git.merge_base(ref, bad.commit)
    return Baseline(name=f"{tree.base}-g{commit[:12]}", commit=commit) if commit else None


async def _newest(git: Git, bad: Revision, tags: Sequence[Baseline]) -> Baseline | None:
    """The first of these that the tag contains, but for itself."""
    commits = [one.commit for one in tags if one.commit != bad.commit]
    found = await git.ancestor_of(bad.commit, commits)
    return next((one for one in tags if one.commit == found), None)
