# SPDX-License-Identifier: GPL-2.0-or-later
"""git, by its command line.

libgit2 has no ``am -3`` and pure Python is too slow for a kernel (the figures are in
docs/architecture.md).
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from kwatch.adapters import process
from kwatch.adapters.git_environment import GIT_ENVIRONMENT
from kwatch.domain.source.commit import CommitInfo
from kwatch.errors import InfraError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Collection, Mapping, Sequence

    from kwatch.adapters.process import Completed

# Seconds that a repack of all of Linux may take.
REPACK = 4 * 3600.0
FULL_REPACK_EVERY = 30 * 86400.0
# A git that runs beside a repack may have made objects that no ref leads to yet.
EXPIRY = "2.weeks.ago"
REPACKED = "kwatch-repacked"


def _remove_left_packs(directory: Path) -> None:
    for left in directory.glob("objects/pack/.tmp-*"):
        left.unlink(missing_ok=True)


def _age(stamp: Path) -> float:
    """Seconds since a file was touched; infinite if it is not there."""
    try:
        return time.time() - stamp.stat().st_mtime
    except FileNotFoundError:
        return float("inf")


# Where a git that is killed leaves a lock or half a pack, below the git directory.
_LEFTOVERS = (
    "*.lock", "refs/**/*.lock", "worktrees/*/*.lock", "objects/info/**/*.lock",
    "objects/**/tmp_*",
)  # fmt: skip


def _unlock(git_directory: Path) -> None:
    """Remove what a git that was killed left behind; nobody else may work there."""
    for pattern in _LEFTOVERS:
        for left in git_directory.glob(pattern):
            left.unlink(missing_ok=True)


def _clear(git_directory: Path) -> None:
    """Make a worktree one where nothing is under way.

    ``am --abort`` would read the state of the broken ``am``, and refuse where that is half written.
    """
    _unlock(git_directory)
    shutil.rmtree(git_directory / "rebase-apply", ignore_errors=True)


def _reading(url: str) -> tuple[str, ...]:
    """How to read a repository on this machine, whoever owns it: an operator seeds from a clone.

    The git that does so is a child without our configuration, and would refuse it.
    """
    return ("--upload-pack=git -c 'safe.directory=*' upload-pack",) if url.startswith("/") else ()


def _digest(listed: bytes, wanted: re.Pattern[bytes]) -> str:
    digest = hashlib.sha256()
    for entry in listed.split(b"\0")[:-1]:
        if wanted.search(entry.partition(b"\t")[2]):
            digest.update(entry + b"\0")
    return digest.hexdigest()


def _signer(line: str) -> tuple[str, str] | None:
    """The name and address of a trailer; people write commas and remarks, unlike in mail."""
    found = _SIGNER.search(line)
    return None if found is None else ((found[1] or "").strip(' "'), found[2] or found[3])


_SIGNER = re.compile(r"([^<]*)<([^<>@\s]+@[^<>@\s]+)>|^\s*([^<>@\s]+@[^<>@\s]+)\s*$")

_TAGS = "refs/tags/"

# Commit, subject, author, parents, Signed-off-by lines.
_COMMIT_FORMAT = "%H%x00%s%x00%an%x00%ae%x00%P%x00%(trailers:key=Signed-off-by,valueonly,unfold)"


class Git:
    """One repository (or worktree) on this machine."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    async def run(
        self,
        *args: str,
        timeout: float = 600,
        stdin: bytes | None = None,
        env: Mapping[str, str] | None = None,
        check: bool = True,
    ) -> Completed:
        """Run ``git ARGS`` here; ``env`` is added to the hardened environment."""
        return await process.run(
            ["git", *args],
            cwd=self.directory,
            env={**GIT_ENVIRONMENT, **(env or {})},
            stdin=stdin,
            timeout=timeout,
            check=check,
        )

    async def beginning(self, blob: str, size: int) -> bytes:
        """The first ``size`` bytes of a blob, which may be of any size."""
        data = b""
        argv = ("git", "cat-file", "blob", blob)
        async with (
            asyncio.timeout(60),
            process.spawn(argv, cwd=self.directory, env=GIT_ENVIRONMENT) as child,
        ):
            assert child.stdout is not None  # noqa: S101 - spawn made the pipes
            while len(data) < size and (piece := await child.stdout.read(size)):
                data += piece
        return data[:size]

    async def create(self) -> None:
        """Make the directory a bare repository unless it is one; finish one that is half made."""
        self.directory.mkdir(parents=True, exist_ok=True)
        if (await self.run("rev-parse", "--resolve-git-dir", ".", check=False)).status == 0:
            return
        await self.clear_locks()
        await self.run("init", "--quiet", "--bare", ".")

    async def clear_locks(self) -> None:
        """Let go of what a killed git was holding. Only where nobody else works here now."""
        await asyncio.to_thread(_unlock, self.directory)

    async def resolve(self, name: str) -> str | None:
        """The object id that ``name`` stands for, or None."""
        found = await self.run("rev-parse", "--verify", "--quiet", "--end-of-options", name,
                               check=False)  # fmt: skip
        return found.text() or None

    async def pin(self, ref: str, commit: str) -> None:
        """Keep ``commit`` reachable for ever under ``ref`` (below refs/kwatch/)."""
        await self.run("update-ref", ref, commit)

    async def refs(self, prefix: str) -> dict[str, str]:
        """Every ref below ``prefix`` and its object id."""
        listed = await self.run("for-each-ref", "--format=%(objectname) %(refname)", prefix)
        pairs = (line.split(" ", 1) for line in listed.text().splitlines())
        return {ref: object_id for object_id, ref in pairs}

    async def remote_refs(self, url: str, patterns: Sequence[str]) -> dict[str, str]:
        """The refs of ``url`` that match ``patterns``, with their ids.

        An annotated tag comes twice: as itself, and as ``NAME^{}`` with the commit it leads to.
        """
        # A pattern without a star at its end would not match what the tag leads to.
        both = [name for pattern in patterns for name in (pattern, f"{pattern}^{{}}")]
        listed = await self.run(
            "ls-remote", "--quiet", *_reading(url), "--end-of-options", url, *both, timeout=120
        )
        pairs = (line.split("\t", 1) for line in listed.text().splitlines())
        return {ref: object_id for object_id, ref in pairs}

    async def remote_tags(self, url: str, patterns: Sequence[str]) -> dict[str, str]:
        """The tags of ``url`` that match ``patterns``, and the commits that they lead to."""
        refs = await self.remote_refs(url, [f"{_TAGS}{pattern}" for pattern in patterns])
        tags = {ref.removeprefix(_TAGS): object_id for ref, object_id in refs.items()}
        return {
            name: tags.get(f"{name}^{{}}", object_id)
            for name, object_id in tags.items()
            if not name.endswith("^{}")
        }

    async def worktree(self, directory: Path, commit: str) -> Git:
        """A worktree of this repository with ``commit`` checked out, whatever was there before.

        Only files that differ are written. What a killed git left behind is cleared away.
        """
        tree = Git(directory)
        if (directory / ".git").exists():
            known = await tree.run("rev-parse", "--git-dir", check=False)
            if known.status == 0:
                await asyncio.to_thread(_clear, Path(known.text()))
                done = await tree.run("checkout", "--force", "--quiet", "--detach", commit,
                                      check=False)  # fmt: skip
                if done.status == 0:
                    await tree.run("clean", "-ffdxq")
                    return tree
        await self.run("worktree", "prune")
        await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)
        # Twice: a git that was killed while it made the worktree has left it locked.
        await self.run("worktree", "add", "--force", "--force", "--detach", "--quiet",
                       str(directory), commit)  # fmt: skip
        return tree

    async def fetch(
        self,
        url: str,
        refspecs: Sequence[str],
        *,
        timeout: float = 7200,
    ) -> None:
        """Fetch ``refspecs`` from ``url``: no tags but those asked for, nothing guessed."""
        await self.run(
            "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", *_reading(url),
            "--end-of-options", url, *refspecs, timeout=timeout,
        )  # fmt: skip

    async def write_commit_graph(self) -> None:
        """Add what was fetched to the commit graph, without which each walk parses each commit.

        A failure only costs speed. It is no part of the fetch (fetch.writeCommitGraph), because a
        fetch fails where another git holds the lock of the graph.
        """
        await self._nice("commit-graph", "write", "--reachable", "--split", check=False)

    async def maintain(self) -> None:
        """Keep a repository quick: refs and packs in few files, the commit graph complete.

        Objects that are not reachable are deleted once they are two weeks old, in a repack of all
        of it every 30 days. It runs at low priority, and may be killed at any instant.
        """
        await self.run("pack-refs", "--all")
        # A repack that was killed leaves packs under temporary names, which the next one takes for
        # packs and does not find.
        await asyncio.to_thread(_remove_left_packs, self.directory)
        stamp = self.directory / REPACKED
        if await asyncio.to_thread(_age, stamp) < FULL_REPACK_EVERY:
            await self._nice("repack", "-d", "--quiet", "--geometric=2")
            await self.write_commit_graph()
        else:
            await self._nice("repack", "-d", "--quiet", "--cruft", f"--cruft-expiration={EXPIRY}")
            # The old graph may contain commits that are gone now.
            await self._nice("commit-graph", "write", "--reachable", "--split=replace", check=False)
            await asyncio.to_thread(stamp.touch)

    async def drop(self, refs: Mapping[str, str]) -> None:
        """Delete refs, each only while it still has the object id given."""
        lines = [f"delete {ref} {object_id}\n" for ref, object_id in refs.items()]
        for start in range(0, len(lines), 1000):
            batch = "".join(lines[start : start + 1000]).encode()
            await self.run("update-ref", "--stdin", stdin=batch)

    async def ancestor_of(self, commit: str, names: Sequence[str]) -> str | None:
        """The first of ``names`` (object ids) that ``commit`` contains, or None."""
        here = await self._existing(names)
        for name in names:
            if name in here:
                asked = await self.run("merge-base", "--is-ancestor", name, commit, check=False)
                if asked.status == 0:
                    return name
        return None

    async def merge_base(self, one: str, other: str) -> str | None:
        """The best common ancestor of two commits, or None."""
        found = await self.run("merge-base", one, other, check=False)
        return found.text() or None

    async def unreachable(self, commits: Collection[str], tips: Collection[str]) -> frozenset[str]:
        """Those of ``commits`` that no history of ``tips`` contains, or that are not here."""
        here = await self._existing({*commits, *tips})
        lines = [*(set(commits) & here), *(f"^{tip}" for tip in set(tips) & here)]
        listed = await self.run(
            "rev-list", "--stdin", stdin="".join(f"{line}\n" for line in lines).encode()
        )
        return frozenset(commits) & {*listed.text().split(), *(set(commits) - here)}

    async def _existing(self, names: Collection[str]) -> frozenset[str]:
        """Those of ``names`` (object ids) that are here."""
        checked = await self.run(
            "cat-file", "--batch-check=%(objectname)", "--buffer",
            stdin="".join(f"{name}\n" for name in names).encode(),
        )  # fmt: skip
        # One that is not is answered by "NAME missing".
        return frozenset(names) & frozenset(checked.text().splitlines())

    async def _nice(self, *args: str, check: bool = True) -> None:
        await process.run(
            ["nice", "-n", "19", "git", *args],
            cwd=self.directory, env=GIT_ENVIRONMENT, timeout=REPACK, check=check,
        )  # fmt: skip

    async def suspects(self, bad: str, good: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """The ancestors of ``bad`` that no ``good`` has: commit -> its parents, newest first."""
        listed = await self.run(
            "rev-list", "--parents", "--topo-order", bad, *[f"^{commit}" for commit in good]
        )
        rows = (line.split() for line in listed.text().splitlines())
        return {row[0]: tuple(row[1:]) for row in rows}

    async def digest(self, commit: str, wanted: re.Pattern[bytes]) -> str:
        """SHA-256 (hex) over mode, id and path of each file whose path matches ``wanted``."""
        listed = await self.run("ls-tree", "-r", "-z", "--full-tree", commit)
        # Linux has some 90000 files.
        return await asyncio.to_thread(_digest, listed.stdout, wanted)

    async def commit_info(self, commit: str) -> CommitInfo:
        """Subject, author, signers, parents and touched files of a commit.

        The files of a merge are those that it brings to its first parent.
        """
        shown = await self.run("log", "-1", f"--format={_COMMIT_FORMAT}", commit)
        fields = shown.text().split("\0")
        touched = await self.run(
            "diff-tree", "--no-commit-id", "--name-only", "-z", "-r",
            "--diff-merges=first-parent", "--root", commit,
        )  # fmt: skip
        signers = [_signer(line) for line in fields[5].splitlines()]
        return CommitInfo(
            commit=fields[0],
            subject=fields[1],
            author_name=fields[2],
            author_address=fields[3],
            parents=tuple(fields[4].split()),
            signers=tuple(signer for signer in signers if signer is not None),
            files=tuple(touched.text().split("\0")[:-1]),
        )

    async def pack(self, wanted: Sequence[str], have: Sequence[str]) -> AsyncGenerator[bytes]:
        """A thin pack, in pieces, of all that ``wanted`` needs and ``have`` lacks.

        Leave it by aclose(): the program that makes it lives until then.
        """
        revisions = "\n".join([*wanted, *[f"^{commit}" for commit in have], ""]).encode()
        argv = ("git", "-C", str(self.directory), "pack-objects", "--revs", "--thin", "--stdout",
                "--quiet", "--delta-base-offset", "--threads=2")  # fmt: skip
        async with process.spawn(argv, env=GIT_ENVIRONMENT, feed=True) as child:
            assert child.stdin is not None  # noqa: S101 - spawn made the pipes
            assert child.stdout is not None  # noqa: S101
            assert child.stderr is not None  # noqa: S101
            child.stdin.write(revisions)
            child.stdin.close()
            while True:
                async with asyncio.timeout(600):
                    piece = await child.stdout.read(process.MIB)
                if not piece:
                    break
                yield piece
            errors = await child.stderr.read()
            if await child.wait() != 0:
                raise InfraError(
                    f"git pack-objects in {self.directory} ended with status {child.returncode}: "
                    f"{errors.decode('utf-8', 'replace')[-2000:]}"
                )
