# SPDX-License-Identifier: GPL-2.0-or-later
"""git through its door: nothing of strangers runs, and what a killed git left is no obstacle."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kwatch.adapters import git_environment as module
from kwatch.adapters.git import Git
from kwatch.adapters.process import ProcessFailedError
from kwatch.errors import InfraError
from tests.lab.gitd import GitServer
from tests.lab.toy import history

if TYPE_CHECKING:
    from collections.abc import Mapping

MISSING = "0" * 39 + "1"


class Source:
    """A repository that grows as a test says. All ids are the same on every machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        history.git(folder, "init", "-q", "-b", "main")

    def commit(
        self, files: Mapping[str, str], message: str = "message", who: str = history.DEVELOPER
    ) -> str:
        for name, text in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        history.git(self.folder, "add", "-A")
        history.git(self.folder, "commit", "-q", "--allow-empty", "-m", message, who=who)
        return self.git("rev-parse", "HEAD")

    def git(self, *arguments: str) -> str:
        return history.git(self.folder, *arguments)


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return Source(tmp_path / "source")


@pytest.fixture
async def ours(tmp_path: Path) -> Git:
    git = Git(tmp_path / "state" / "linux.git")
    await git.create()
    return git


async def fetched(git: Git, source: Source) -> None:
    await git.fetch(str(source.folder), ["+refs/heads/*:refs/kwatch/heads/*"])


# --- the environment ------------------------------------------------------------------------------


async def test_nothing_of_the_user_or_the_repository_runs(
    tmp_path: Path, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """~/.gitconfig, hooks and a filter of .gitattributes would each leave a file."""
    ran = tmp_path / "ran"
    ran.mkdir()
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text(
        f'[core]\nfsmonitor = "touch {ran}/fsmonitor"\nhooksPath = {home}/hooks\n'
        f'[filter "evil"]\nsmudge = "touch {ran}/smudge; cat"\nclean = "touch {ran}/clean; cat"\n'
        f'[diff "evil"]\ntextconv = "touch {ran}/textconv; cat"\n[diff]\nexternal = "{home}/ext"\n'
        f'[alias]\nam = "!touch {ran}/alias"\n'
        f'[init]\ntemplateDir = {home}/template\n[commit]\ngpgSign = true\n'
    )  # fmt: skip
    hooks = [home / "hooks", home / "template" / "hooks"]
    for folder in hooks:
        folder.mkdir(parents=True)
        for name in ("post-checkout", "reference-transaction", "applypatch-msg", "pre-applypatch",
                     "post-applypatch", "pre-auto-gc", "post-index-change"):  # fmt: skip
            (folder / name).write_text(f"#!/bin/sh\ntouch {ran}/{name}\n")
            (folder / name).chmod(0o755)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home))
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", f"{home}/ext")
    first = source.commit({".gitattributes": "* filter=evil diff=evil\n", "a": "1\n"})
    source.commit({"a": "2\n"})
    patch = source.git("format-patch", "-1", "--stdout").encode() + b"\n"

    git = Git(tmp_path / "state" / "linux.git")
    await git.create()
    # What an earlier version, or the operator, may have left there.
    shutil.copytree(hooks[0], git.directory / "hooks", dirs_exist_ok=True)
    await fetched(git, source)
    tree = await git.worktree(tmp_path / "scratch", first)
    await tree.run("am", "-3", "--quiet", stdin=patch)
    assert (tmp_path / "scratch" / "a").read_text() == "2\n"
    head = await tree.resolve("HEAD")
    assert head is not None
    await git.commit_info(head)
    await git.worktree(tmp_path / "scratch", first)
    assert sorted(path.name for path in ran.iterdir()) == []


async def test_a_protocol_that_runs_programs_is_refused(tmp_path: Path, ours: Git) -> None:
    url = f"ext::sh -c touch% {tmp_path}/ran"
    with pytest.raises(InfraError, match="transport 'ext' not allowed"):
        await ours.remote_refs(url, ["refs/tags/*"])
    with pytest.raises(InfraError, match="transport 'ext' not allowed"):
        await ours.fetch(url, ["+refs/tags/*:refs/kwatch/*"])
    assert not (tmp_path / "ran").exists()


async def test_a_url_is_never_an_option(tmp_path: Path, ours: Git) -> None:
    for call in (ours.remote_refs("--upload-pack=touch ran", ["x"]),
                 ours.fetch("--upload-pack=touch ran", ["x"])):  # fmt: skip
        with pytest.raises(InfraError):
            await call
    assert await ours.resolve("--all") is None
    assert not list(tmp_path.rglob("ran"))


async def test_a_repository_of_somebody_else_can_be_fetched_from(
    tmp_path: Path, source: Source, ours: Git
) -> None:
    """An operator seeds the lab from a clone of his own."""
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    commit = source.commit({"a": "1\n"})
    for path in (source.folder, *source.folder.rglob("*")):
        os.chown(path, 1000, 1000)
    await fetched(ours, source)
    assert await ours.resolve("refs/kwatch/heads/main") == commit
    listed = await ours.remote_refs(str(source.folder), ["refs/heads/*"])
    assert listed == {"refs/heads/main": commit}


# --- the repository -------------------------------------------------------------------------------


async def test_a_repository_is_made_once_and_repaired(tmp_path: Path) -> None:
    git = Git(tmp_path / "a" / "linux.git")
    await git.create()
    blob = (await git.run("hash-object", "-w", "--stdin", stdin=b"kept")).text()
    await git.create()
    assert (await git.run("cat-file", "blob", blob)).stdout == b"kept"

    # Killed in the middle of its creation.
    half = Git(tmp_path / "b" / "linux.git")
    half.directory.mkdir(parents=True)
    (half.directory / "HEAD").write_text("ref: refs/heads/master\n")
    (half.directory / "config.lock").write_bytes(b"")
    await half.create()
    assert await half.refs("refs/") == {}


async def test_names_are_resolved_and_kept(source: Source, ours: Git) -> None:
    first = source.commit({"a": "1\n"})
    await fetched(ours, source)
    assert await ours.resolve("refs/kwatch/heads/main") == first
    assert await ours.resolve(f"{first}^{{tree}}") == source.git("rev-parse", f"{first}^{{tree}}")
    assert await ours.resolve("refs/kwatch/heads/none") is None
    await ours.pin(f"refs/kwatch/keep/{first}", first)
    assert await ours.refs("refs/kwatch/") == {
        "refs/kwatch/heads/main": first,
        f"refs/kwatch/keep/{first}": first,
    }
    # What git gc would throw away stays.
    await ours.run("update-ref", "-d", "refs/kwatch/heads/main")
    await ours.run("gc", "--quiet", "--prune=now")
    assert await ours.resolve(f"{first}^{{commit}}") == first
    with pytest.raises(ProcessFailedError, match=MISSING):
        await ours.pin("refs/kwatch/keep/none", MISSING)


async def test_the_suspects_are_what_no_good_commit_has(source: Source, ours: Git) -> None:
    base = source.commit({"a": "1\n"})
    one = source.commit({"a": "2\n"})
    source.git("checkout", "-q", "-b", "side", base)
    two = source.commit({"b": "1\n"})
    source.git("checkout", "-q", "main")
    source.git("merge", "-q", "--no-ff", "-m", "Merge side", "side")
    merge = source.git("rev-parse", "HEAD")
    await fetched(ours, source)
    found = await ours.suspects(merge, [base])
    assert found == {merge: (one, two), one: (base,), two: (base,)}
    assert next(iter(found)) == merge
    assert set(await ours.suspects(merge, [one])) == {merge, two}
    assert await ours.suspects(base, [merge]) == {}
    assert (await ours.suspects(base, []))[base] == ()


async def test_a_commit_as_reports_show_it(source: Source, ours: Git) -> None:
    base = source.commit({"mm/page.c": "1\n", 'lib/ü "x".c': "1\n"})
    commit = source.commit(
        {"mm/page.c": "2\n", 'lib/ü "x".c': "2\n"},
        "mm: a subject\nthat goes on\n\nSigned-off-by: not a trailer <no@example.org>\n\nText.\n\n"
        "Reported-by: tester <tester@example.org>\n"
        "Signed-off-by: Jörg Developer <joerg@example.org>\n"
        "Signed-off-by: Developer, Second <second@example.org>\n"
        "Signed-off-by: third@example.org\n"
        "Signed-off-by: Fourth (company) <fourth@example.org> # by hand\n"
        "Signed-off-by: nobody\n"
        "Signed-off-by:\n",
        who="Ünal O'Author, Junior <odd@example.org>",
    )
    await fetched(ours, source)
    info = await ours.commit_info(commit)
    assert (info.commit, info.subject) == (commit, "mm: a subject that goes on")
    assert (info.author_name, info.author_address) == ("Ünal O'Author, Junior", "odd@example.org")
    assert info.parents == (base,)
    assert info.signers == (
        ("Jörg Developer", "joerg@example.org"),
        ("Developer, Second", "second@example.org"),
        ("", "third@example.org"),
        ("Fourth (company)", "fourth@example.org"),
    )
    assert info.files == ('lib/ü "x".c', "mm/page.c")
    first = await ours.commit_info(base)
    assert (first.parents, first.signers) == ((), ())
    assert first.files == info.files


async def test_a_merge_and_an_empty_commit(source: Source, ours: Git) -> None:
    base = source.commit({"a": "1\n"})
    source.git("checkout", "-q", "-b", "side")
    source.commit({"b": "1\n"})
    source.git("checkout", "-q", "main")
    source.commit({"a": "2\n"})
    source.git("merge", "-q", "--no-ff", "-m", "Merge side", "side")
    merge = source.git("rev-parse", "HEAD")
    empty = source.commit({}, "nothing")
    await fetched(ours, source)
    info = await ours.commit_info(merge)
    assert info.is_merge
    assert info.files == ("b",)
    assert (await ours.commit_info(empty)).files == ()
    assert not (await ours.commit_info(base)).is_merge


async def test_hostile_commits_are_read_all_the_same(source: Source, ours: Git) -> None:
    """An author without an address, and bytes that are no UTF-8."""
    tree = source.git("write-tree")
    raw = (
        f"tree {tree}\nauthor \xff\xfe <> 1793577600 +0000\n"
        "committer x <x@example.org> 1793577600 +0000\n\n\xff subject\x1b[31m\n"
    ).encode("latin-1")
    commit = subprocess.run(
        ["git", "-C", source.folder, "hash-object", "-t", "commit", "-w", "--stdin", "--literally"],
        input=raw, capture_output=True, check=True,
    ).stdout.decode().strip()  # fmt: skip
    source.git("update-ref", "refs/heads/main", commit)
    await fetched(ours, source)
    info = await ours.commit_info(commit)
    assert info.author_address == ""
    assert "subject" in info.subject


# --- a git server ---------------------------------------------------------------------------------


async def test_annotated_tags_lead_to_their_commits(tmp_path: Path, ours: Git) -> None:
    source = Source(tmp_path / "git" / "next")
    commit = source.commit({"a": "1\n"})
    source.git("tag", "-a", "-m", "next-20261116", "next-20261116")
    source.git("tag", "light")
    tag = source.git("rev-parse", "next-20261116")
    async with GitServer(tmp_path / "git") as server:
        url = server.url("next")
        for pattern in ("refs/tags/next-*", "refs/tags/next-20261116", "refs/tags/next-2026111[6]"):
            assert await ours.remote_refs(url, [pattern]) == {
                "refs/tags/next-20261116": tag,
                "refs/tags/next-20261116^{}": commit,
            }
        assert await ours.remote_refs(url, ["refs/tags/light"]) == {"refs/tags/light": commit}
        assert await ours.remote_refs(url, ["refs/tags/none-*"]) == {}
        await ours.fetch(url, ["+refs/tags/next-20261116:refs/kwatch/next/next-20261116"])
        assert set(await ours.refs("refs/")) == {"refs/kwatch/next/next-20261116"}
        with pytest.raises(InfraError, match="none"):
            await ours.remote_refs(server.url("none"), ["refs/tags/*"])
        await server.stop()
        with pytest.raises(InfraError, match="unable to connect"):
            await ours.remote_refs(url, ["refs/tags/*"])


# --- worktrees ------------------------------------------------------------------------------------


async def test_a_worktree_changes_only_what_differs(
    tmp_path: Path, source: Source, ours: Git
) -> None:
    one = source.commit({"same": "1\n", "changed": "1\n", "gone": "1\n"})
    source.git("rm", "-q", "gone")
    two = source.commit({"changed": "2\n", "new/file": "1\n"})
    await fetched(ours, source)
    folder = tmp_path / "scratch"
    await ours.worktree(folder, one)
    assert (folder / "gone").exists()
    before = (folder / "same").stat()
    (folder / "litter").write_text("x")
    (folder / "changed").write_text("by hand\n")
    tree = await ours.worktree(folder, two)
    assert await tree.resolve("HEAD") == two
    assert (folder / "same").stat().st_mtime_ns == before.st_mtime_ns
    assert (folder / "changed").read_text() == "2\n"
    assert sorted(path.name for path in folder.iterdir()) == [".git", "changed", "new", "same"]


def _stale_locks(folder: Path, administration: Path) -> None:
    (administration / "index.lock").write_bytes(b"half")
    (administration / "HEAD.lock").write_bytes(b"")


def _broken_am(folder: Path, administration: Path) -> None:
    """As a power cut leaves it: the files are there, and empty."""
    (administration / "rebase-apply").mkdir()
    for name in ("next", "last", "applying", "author-script", "final-commit"):
        (administration / "rebase-apply" / name).write_bytes(b"")


def _half_an_am(folder: Path, administration: Path) -> None:
    (administration / "rebase-apply").mkdir()
    (administration / "rebase-apply" / "0001").write_bytes(b"")


def _broken_index(folder: Path, administration: Path) -> None:
    (administration / "index").write_bytes(b"DIRC" + b"\0" * 50)


def _no_administration(folder: Path, administration: Path) -> None:
    shutil.rmtree(administration)


def _broken_link(folder: Path, administration: Path) -> None:
    (folder / ".git").write_bytes(b"")


def _half_removed(folder: Path, administration: Path) -> None:
    (folder / ".git").unlink()


def _broken_head(folder: Path, administration: Path) -> None:
    (administration / "HEAD").write_bytes(b"")


def _half_added(folder: Path, administration: Path) -> None:
    """Killed in the middle of ``git worktree add``, which locks what it makes."""
    (administration / "locked").write_text("initializing")
    (administration / "HEAD").write_text("0" * 40 + "\n")
    (folder / ".git").unlink()


def _half_added_and_gone(folder: Path, administration: Path) -> None:
    (administration / "locked").write_text("initializing")
    shutil.rmtree(folder)


def _conflict(folder: Path, administration: Path) -> None:
    patch = (
        b"From mboxrd@z Mon Sep 17 00:00:00 2001\nFrom: author <author@example.org>\n"
        b"Date: Tue, 10 Nov 2026 00:00:01 +0000\nSubject: [PATCH] a\n\n---\n"
        b"diff --git a/a b/a\n--- a/a\n+++ b/a\n@@ -1 +1 @@\n-never\n+there\n"
    )
    done = subprocess.run(
        ["git", "-C", folder, "-c", "user.name=x", "-c", "user.email=x@example.org", "am"],
        input=patch, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0


@pytest.mark.parametrize(
    "harm",
    [_stale_locks, _broken_am, _half_an_am, _broken_index, _no_administration, _broken_link,
     _half_removed, _broken_head, _half_added, _half_added_and_gone, _conflict],
)  # fmt: skip
async def test_what_a_killed_git_left_is_cleared_away(
    tmp_path: Path, source: Source, ours: Git, harm: object
) -> None:
    assert callable(harm)
    one = source.commit({"a": "1\n"})
    two = source.commit({"a": "2\n"})
    patch = source.git("format-patch", "-1", "--stdout").encode() + b"\n"
    await fetched(ours, source)
    folder = tmp_path / "scratch"
    await ours.worktree(folder, one)
    harm(folder, ours.directory / "worktrees" / "scratch")
    tree = await ours.worktree(folder, one)
    assert await tree.resolve("HEAD") == one
    assert (await tree.run("status", "--porcelain")).text() == ""
    await tree.run("am", "-3", "--quiet", stdin=patch)
    assert (folder / "a").read_text() == "2\n"
    assert await tree.resolve("HEAD^{tree}") == source.git("rev-parse", f"{two}^{{tree}}")


async def test_a_checkout_that_is_killed_again_and_again(tmp_path: Path, ours: Git) -> None:
    source = Source(tmp_path / "big")
    one = source.commit({f"{number % 40}/{number}": f"{number}\n" for number in range(1000)})
    two = source.commit({f"{number % 40}/{number}": f"-{number}\n" for number in range(1000)})
    await fetched(ours, source)
    folder = tmp_path / "scratch"
    for number, delay in enumerate((0.02, 0.04, 0.07, 0.1)):
        task = asyncio.ensure_future(ours.worktree(folder, (one, two)[number % 2]))
        await asyncio.sleep(delay)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    tree = await ours.worktree(folder, two)
    assert (await tree.run("status", "--porcelain")).text() == ""
    assert (folder / "7" / "7").read_text() == "-7\n"


# --- packs ----------------------------------------------------------------------------------------


async def packed(git: Git, wanted: list[str], have: list[str]) -> bytes:
    return b"".join([piece async for piece in git.pack(wanted, have)])


async def test_a_pack_holds_what_the_other_side_lacks(
    tmp_path: Path, source: Source, ours: Git
) -> None:
    text = "".join(f"line {number} of a file that is large enough\n" for number in range(5000))
    one = source.commit({"big": text, "small": "1\n"})
    two = source.commit({"big": text + "one line more\n"})
    await fetched(ours, source)
    other = Git(tmp_path / "other.git")
    await other.create()

    first = await packed(ours, [one], [])
    await other.run("index-pack", "--stdin", "--fix-thin", stdin=first)
    thin = await packed(ours, [two], [one])
    assert len(thin) < 2000 < len(first)
    with pytest.raises(InfraError, match="unresolved delta"):
        await other.run("index-pack", "--stdin", stdin=thin)
    await other.run("index-pack", "--stdin", "--fix-thin", stdin=thin)
    assert (await other.run("cat-file", "blob", f"{two}:big")).stdout.decode().endswith("more\n")
    await other.run("fsck", "--full", "--strict", two)
    # Nothing is lacking: a pack of no objects.
    assert len(await packed(ours, [two], [two])) < 40


async def test_a_pack_of_what_is_not_there_fails(ours: Git) -> None:
    with pytest.raises(InfraError, match=f"git pack-objects in .* ended with .*{MISSING}"):
        await packed(ours, [MISSING], [])


async def test_a_pack_that_nobody_reads_on_ends_its_program(source: Source, ours: Git) -> None:
    commit = source.commit({"big": os.urandom(3 << 20).hex()})
    await fetched(ours, source)
    pieces = ours.pack([commit], [])
    assert await anext(pieces)
    await pieces.aclose()
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    assert children == []


def test_the_environment_has_nothing_of_ours() -> None:
    allowed = {"PATH", "HOME", "LC_ALL", "GIT_TERMINAL_PROMPT", "GIT_CONFIG_NOSYSTEM",
               "GIT_CONFIG_GLOBAL", "GIT_CONFIG_COUNT", "GIT_OPTIONAL_LOCKS"}  # fmt: skip
    others = set(module.GIT_ENVIRONMENT) - allowed
    assert {name[:15] for name in others} <= {"GIT_CONFIG_KEY_", "GIT_CONFIG_VALU"}
