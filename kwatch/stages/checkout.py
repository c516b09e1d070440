# SPDX-License-Identifier: GPL-2.0-or-later
"""checkout: a source as a commit, made in a scratch worktree: ``git am -3`` and its like."""

from __future__ import annotations

import contextlib
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, assert_never

from kwatch.adapters.process import failure
from kwatch.domain.finding import Finding, FindingKind
from kwatch.domain.lab.job import JobKind
from kwatch.domain.log.build import lab_trouble
from kwatch.domain.log.line import clean
from kwatch.domain.source.message import Parsed, parse
from kwatch.domain.source.series import PatchFate, PatchResult
from kwatch.domain.source.source import ApplyMail, ApplySeries, Change, Mutate, Pick, Revert
from kwatch.domain.trial.steps import CheckoutResult
from kwatch.errors import InfraError
from kwatch.store import series, steps

if TYPE_CHECKING:
    from pathlib import Path

    from kwatch.adapters.git import Git
    from kwatch.adapters.process import Completed
    from kwatch.domain.lab.job import Job
    from kwatch.store.blobs import Blobs
    from kwatch.store.database import Database

# The result must be the same commit whenever it is made.
_IDENTITY = {
    "GIT_COMMITTER_NAME": "kwatch",
    "GIT_COMMITTER_EMAIL": "kwatch@localhost",
}

# What git am says of a file where there is no three-way merge that could leave conflicts.
_REFUSED = re.compile(
    r"^error: (?:patch failed: (.+):\d+|.* lacking or useless \((.+)\)\.)$", re.MULTILINE
)

_AUTHOR = {"GIT_AUTHOR_NAME": "kwatch", "GIT_AUTHOR_EMAIL": "kwatch@localhost"}

PATCH_LIMIT = 1 << 26


async def run(
    job: Job, *, git: Git, scratch: Path, blobs: Blobs, database: Database
) -> CheckoutResult | None:
    """Put the changes of a source on its base commit; ``job.key`` is the key of the source."""
    trial = await database.read(steps.wanted, JobKind.CHECKOUT, job.key)
    if trial is None:
        return None
    started = time.monotonic()
    done = _Applied(commit=trial.commit)
    if trial.source.changes:
        tree = await git.worktree(scratch, trial.commit)
        for change in trial.source.changes:
            done = await _change(tree, done, change, blobs=blobs, database=database)
            if done.finding is not None:
                break
    tree_id = None
    if done.finding is None:
        tree_id = await git.resolve(f"{done.commit}^{{tree}}")
        await git.pin(f"refs/kwatch/checkout/{job.key}", done.commit)
    return CheckoutResult(
        key=job.key,
        result=done.commit if done.finding is None else None,
        tree_id=tree_id,
        patches=done.patches,
        finding=done.finding,
        took=time.monotonic() - started,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Applied:
    """The commit so far, the fates of all patches, and what failed."""

    commit: str
    patches: tuple[PatchResult, ...] = ()
    finding: Finding | None = None


async def _change(
    tree: Git, before: _Applied, change: Change, *, blobs: Blobs, database: Database
) -> _Applied:
    """One more change on top of ``before``, which stands in the worktree."""
    match change:
        case ApplySeries():
            mbox = await database.read(series.mbox, change.series)
            if (change.first, change.last) != (1, None):
                mbox = join(split(mbox)[change.first - 1 : change.last])
            if mbox:
                commit, patches, finding = await _apply(tree, mbox)
            else:
                # git am would call that a success.
                title = f"the series has no patch {change.first}"
                commit, patches = before.commit, ()
                finding = Finding(kind=FindingKind.APPLY, title=title)
        case ApplyMail():
            commit, patches, finding = await _apply(
                tree, await blobs.read(change.blob, limit=PATCH_LIMIT)
            )
        case Revert() | Pick():
            commit, finding = await _replay(tree, change)
            patches = ()
        case Mutate():
            diff = await blobs.read(change.blob, limit=PATCH_LIMIT)
            commit, finding = await _mutate(tree, diff)
            patches = ()
        case _:
            assert_never(change)
    return _Applied(commit=commit, patches=before.patches + patches, finding=finding)


async def _replay(tree: Git, change: Revert | Pick) -> tuple[str, Finding | None]:
    """Revert or pick a commit; the date of the result is that of the commit."""
    base = await _head(tree)
    verb = "revert" if isinstance(change, Revert) else "cherry-pick"
    date = (await tree.run("show", "--no-patch", "--format=%cI", change.commit)).text().strip()
    mainline = ("-m", "1") if await tree.resolve(f"{change.commit}^2") else ()
    done = await tree.run(
        verb, "--no-edit", "--no-gpg-sign", *mainline, change.commit, check=False,
        env={**_AUTHOR, **_IDENTITY, "GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date},
    )  # fmt: skip
    if done.status == 0:
        return await _head(tree), None
    if done.status < 0 or lab_trouble(done.stderr):
        raise failure(done)
    conflict = await _conflict(tree, done)
    await tree.run(verb, "--abort", check=False)
    return base, _refused(f"{verb} of {change.commit[:12]} does not apply", done, conflict)


async def _mutate(tree: Git, diff: bytes) -> tuple[str, Finding | None]:
    """Apply a diff and commit it."""
    base = await _head(tree)
    done = await tree.run("apply", "--index", "-", stdin=diff, check=False)
    if done.status != 0:
        if done.status < 0 or lab_trouble(done.stderr):
            raise failure(done)
        conflict = await _conflict(tree, done)
        return base, _refused("the planted change does not apply", done, conflict)
    date = (await tree.run("show", "--no-patch", "--format=%cI", base)).text().strip()
    await tree.run(
        "commit", "--quiet", "--allow-empty", "--no-verify", "--no-gpg-sign",
        "-m", "planted change",
        env={**_AUTHOR, **_IDENTITY, "GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date},
    )  # fmt: skip
    return await _head(tree), None


async def _head(tree: Git) -> str:
    found = await tree.resolve("HEAD")
    if found is None:
        raise InfraError(f"the scratch worktree {tree.directory} has no HEAD: remove the folder")
    return found


def _refused(title: str, done: Completed, conflict: list[str]) -> Finding:
    said = [
        clean(line) for line in (done.stdout + done.stderr).decode("utf-8", "replace").splitlines()
    ]
    return Finding(
        kind=FindingKind.APPLY,
        title=title,
        file=conflict[0] if conflict else None,
        excerpt=tuple([*said[-20:], *(f"conflict in {path}" for path in conflict)][:40]),
    )


async def _apply(tree: Git, mbox: bytes) -> tuple[str, tuple[PatchResult, ...], Finding | None]:
    """The commit that is the result (if all went well), each patch's fate, and what failed."""
    subjects = _subjects(mbox)
    base = await _head(tree)
    applied = await tree.run(
        "am", "-3", "--quiet", "--patch-format=mboxrd", "--committer-date-is-author-date",
        "--no-gpg-sign", stdin=mbox, env=_IDENTITY, check=False,
    )  # fmt: skip
    if applied.status == 0:
        return await _head(tree), _fates(subjects, len(subjects)), None
    if applied.status < 0 or lab_trouble(applied.stderr):
        raise failure(applied)
    number = await _applied(tree)
    conflict = await _conflict(tree, applied)
    await tree.run("am", "--abort", check=False)
    failed = subjects[number] if number < len(subjects) else "the series"
    title = f"patch {number + 1}/{len(subjects)} does not apply: {failed}"
    finding = _refused(title, applied, conflict)
    return base, _fates(subjects, number), finding


async def _applied(tree: Git) -> int:
    """How many patches the ``am`` under way is through with: HEAD lacks those it could skip."""
    counter = await tree.run("rev-parse", "--git-path", "rebase-apply/next")
    with contextlib.suppress(OSError, ValueError):
        return max(int((tree.directory / counter.text()).read_text()) - 1, 0)
    return 0


async def _conflict(tree: Git, applied: Completed) -> list[str]:
    """The files in which the three-way merge left conflicts, or which there was none for."""
    listed = await tree.run("diff", "--name-only", "--diff-filter=U", "-z", check=False)
    files = listed.text().split("\0")[:-1] or [
        merged or refused
        for merged, refused in _REFUSED.findall(applied.stderr.decode("utf-8", "replace"))
    ]
    return [clean(name) for name in files[:20]]


def _fates(subjects: list[str], applied: int) -> tuple[PatchResult, ...]:
    fates = [PatchFate.APPLIED] * applied + [PatchFate.CONFLICT]
    return tuple(
        PatchResult(
            subject=subject, fate=fates[number] if number < len(fates) else PatchFate.UNTRIED
        )
        for number, subject in enumerate(subjects)
    )


def _subjects(mbox: bytes) -> list[str]:
    """The titles of the patches of a series. Those that the operator keeps were never mailed."""
    found = [parse(b"Message-ID: <never@mailed>\n" + raw) for raw in split(mbox)]
    return [one.mail.title if isinstance(one, Parsed) else "(unreadable)" for one in found]


def split(mbox: bytes) -> list[bytes]:
    """The mails of an mboxrd file; quoted From lines stay quoted."""
    mails: list[list[bytes]] = []
    for line in mbox.splitlines(keepends=True):
        if line.startswith(b"From "):
            mails.append([])
        elif mails:
            mails[-1].append(line)
    return [b"".join(mail) for mail in mails]


def join(mails: list[bytes]) -> bytes:
    """An mboxrd file of such mails."""
    start = b"From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001\n"
    return b"".join(start + mail for mail in mails)
