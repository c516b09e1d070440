# SPDX-License-Identifier: GPL-2.0-or-later
"""Sources and builds on a host, with real git, real make and clang, on the toy kernel."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kwatch.adapters.git import Git
from kwatch.adapters.host.host import Host
from kwatch.adapters.kernel import caches, kbuild
from kwatch.adapters.kernel.kbuild import (
    CACHES_KEPT,
    CLEAN_KEPT,
    CONTROL,
    OUTPUTS_KEPT,
    SOURCE,
    BuildSlot,
    linker_script,
    make_command,
)
from kwatch.domain.lab.host import HostSpec, Slot
from kwatch.domain.recipe.arch import X86_64
from kwatch.domain.recipe.kconfig import SOURCES
from kwatch.domain.recipe.toolchain import Toolchain
from kwatch.errors import InfraError
from tests.lab.toy import history

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from kwatch.adapters.process import Completed

TOOLCHAIN = Toolchain(
    name="llvm-22",
    llvm_suffix="-22",
    compiler="clang-22",
    linker_objects="ld.lld-22",
    linker="ld.lld-22",
)
EDITS = {"lib/sort.c": ("void sort(", "/* Insertion sort. */\nvoid sort(")}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    history.make_repository(path)
    return path


@pytest.fixture
async def git(tmp_path: Path, source: Path) -> Git:
    found = Git(tmp_path / "state" / "linux.git")
    await found.create()
    return found


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    spec = HostSpec(
        name="here",
        directory=str(tmp_path / "host"),
        arch="x86_64",
        slots={Slot.BUILD: 2},
    )
    async with Host(spec) as found:
        yield found


async def fetched(git: Git, source: Path) -> str:
    """Take over the newest commit of ``source``."""
    await git.fetch(str(source), ["+HEAD:refs/kwatch/head"])
    commit = await git.resolve("refs/kwatch/head")
    assert commit is not None
    return commit


def committed(source: Path, subject: str, edits: history.Edits = EDITS) -> str:
    return history.commit(source, branch="lib", subject=subject, edits=edits)


def objects(repository: str) -> int:
    """How many objects all packs of a repository hold."""
    said = subprocess.run(
        ["git", "-C", repository, "count-objects", "-v"], capture_output=True, text=True, check=True
    )
    return int(dict(line.split(": ") for line in said.stdout.splitlines())["in-pack"])


async def filled(host: Host, git: Git, commit: str, *, fresh: bool = False) -> BuildSlot:
    repository = await kbuild.push(git, host, commit)
    slot = await kbuild.slot(host, 0, recipe="r", cache=CONTROL, tools={})
    await kbuild.fill(host, slot, repository, commit, is_fresh=fresh)
    return slot


def tree_of(folder: str) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file()
    }


def expected(source: Path, commit: str, scratch: Path) -> dict[str, bytes]:
    """The files of a commit, by git archive."""
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    archive = subprocess.run(
        ["git", "-C", source, "archive", commit], capture_output=True, check=True
    )
    subprocess.run(["tar", "-x", "-C", scratch], input=archive.stdout, check=True)
    return tree_of(str(scratch))


# --- sources --------------------------------------------------------------------------------------


async def test_only_what_the_host_lacks_is_sent(host: Host, git: Git, source: Path) -> None:
    first = await fetched(git, source)
    repository = await kbuild.push(git, host, first)
    there = Git(Path(repository))
    whole = objects(repository)
    assert await there.resolve(f"{first}^{{tree}}") is not None
    assert await kbuild.push(git, host, first) == repository
    assert objects(repository) == whole

    committed(source, "lib: say how sort works")
    second = await fetched(git, source)
    await kbuild.push(git, host, second)
    # The commit, two folders and a file; the thin pack is completed by what it is a delta of.
    assert 4 <= objects(repository) - whole <= 8
    await there.run("fsck", "--full", "--strict", second)
    assert await there.refs("refs/kwatch/have/") == {
        f"refs/kwatch/have/{commit}": commit for commit in (first, second)
    }


async def test_a_host_that_knows_other_commits_gets_all_that_it_lacks(
    host: Host, git: Git, source: Path, tmp_path: Path
) -> None:
    """The state was set up anew while the host kept its repository."""
    old = Git(tmp_path / "old.git")
    await old.create()
    committed(
        source, "lib: nothing that lasts", {"lib/sort.c": ("void sort(", "/* ? */\nvoid sort(")}
    )
    await kbuild.push(old, host, await fetched(old, source))
    history.git(source, "checkout", "-q", history.STABLE)
    commit = await fetched(git, source)
    slot = await filled(host, git, commit)
    assert tree_of(slot.source) == expected(source, commit, tmp_path / "expected")


async def test_a_push_that_is_cancelled_is_made_good(
    host: Host, git: Git, source: Path, tmp_path: Path
) -> None:
    (source / "big").write_text(os.urandom(2 << 20).hex())
    history.git(source, "add", "big")
    history.git(source, "commit", "-q", "-m", "a large file")
    commit = await fetched(git, source)
    for delay in (0.02, 0.1):
        task = asyncio.ensure_future(kbuild.push(git, host, commit))
        await asyncio.sleep(delay)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    # A minute later.
    for left in Path(await host.account.path("linux.git")).rglob("*.lock"):
        os.utime(left, (time.time() - 120,) * 2)
    slot = await filled(host, git, commit)
    assert tree_of(slot.source) == expected(source, commit, tmp_path / "expected")


async def test_what_a_killed_push_left_on_the_host_is_cleared_away(
    host: Host, git: Git, source: Path
) -> None:
    repository = Path(await kbuild.push(git, host, await fetched(git, source)))
    committed(source, "lib: say how sort works")
    commit = await fetched(git, source)
    locks = [repository / "packed-refs.lock", repository / "refs/kwatch/have" / f"{commit}.lock"]
    unfinished = repository / "objects/pack/tmp_pack_x"
    fresh = repository / "objects/pack/tmp_pack_y"
    for left in (*locks, unfinished, fresh):
        left.write_bytes(b"")
    for left, age in ((locks[0], 120), (locks[1], 120), (unfinished, 90_000)):
        os.utime(left, (time.time() - age,) * 2)
    await kbuild.push(git, host, commit)
    assert not any(left.exists() for left in (*locks, unfinished))
    # Somebody may be at it.
    assert fresh.exists()


async def test_a_repository_that_is_half_made_is_finished(
    host: Host, git: Git, source: Path
) -> None:
    folder = Path(await host.account.path("linux.git"))
    folder.mkdir()
    (folder / "HEAD").write_text("ref: refs/heads/master\n")
    (folder / "config.lock").write_bytes(b"")
    commit = await fetched(git, source)
    repository = await kbuild.push(git, host, commit)
    assert await Git(Path(repository)).resolve(f"{commit}^{{commit}}") == commit


async def test_what_is_shared_with_a_host_is_found_by_one_command(
    host: Host, git: Git, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = await kbuild.push(git, host, await fetched(git, source))
    unknown = [f"{number:040x}" for number in range(1, 150)]
    for number, commit in enumerate(unknown):
        # Objects that the host has and we have not.
        path = Path(repository) / "refs/kwatch/have" / commit
        path.write_text(f"{await _unlike(Git(Path(repository)), number)}\n")
    committed(source, "lib: say how sort works")
    commit = await fetched(git, source)
    before = objects(repository)
    commands: list[str] = []
    run = Git.run

    async def counted(self: Git, *args: str, **others: Any) -> Completed:  # noqa: ANN401
        commands.append(args[0])
        return await run(self, *args, **others)

    monkeypatch.setattr(Git, "run", counted)
    await kbuild.push(git, host, commit)
    assert commands == ["cat-file"]
    assert 4 <= objects(repository) - before <= 8


async def _unlike(there: Git, number: int) -> str:
    """A commit of a repository that no other has."""
    tree = (await there.run("mktree", stdin=b"")).text()
    return (await there.run("commit-tree", "-m", f"unlike {number}", tree)).text()


async def test_the_newest_of_many_commits_is_what_a_pack_builds_upon(
    host: Host, git: Git, source: Path
) -> None:
    """A host that was there for a year has seen thousands."""
    commit = await fetched(git, source)
    repository = await kbuild.push(git, host, commit)
    there = Git(Path(repository))
    blob = (await there.run("hash-object", "-w", "--stdin", stdin=b"other")).text()
    other = (await there.run("mktree", stdin=f"100644 blob {blob}\tf\n".encode())).text()
    unlike = (await there.run("commit-tree", "-m", "unlike", other,
                              env={"GIT_COMMITTER_DATE": "1600000000 +0000"})).text()  # fmt: skip
    # As many as a pack may name, and all of them behind the one that matters by name.
    names = [f"refs/kwatch/have/{prefix}{number}" for prefix in "0f" for number in range(250)]
    update = "".join(f"create {name} {unlike}\n" for name in names)
    await there.run("update-ref", "--stdin", stdin=update.encode())
    before = objects(repository)
    committed(source, "lib: say how sort works")
    await kbuild.push(git, host, await fetched(git, source))
    assert objects(repository) - before <= 8


async def test_only_files_that_differ_are_written(
    host: Host, git: Git, source: Path, tmp_path: Path
) -> None:
    one = await fetched(git, source)
    slot = await filled(host, git, one)
    assert tree_of(slot.source) == expected(source, one, tmp_path / "expected")
    before = {path: path.stat().st_mtime_ns for path in Path(slot.source).rglob("*.c")}
    committed(source, "lib: say how sort works")
    two = await fetched(git, source)
    for commit in (two, one, two):
        await filled(host, git, commit)
        assert tree_of(slot.source) == expected(source, commit, tmp_path / "expected")
        after = {path: path.stat().st_mtime_ns for path in Path(slot.source).rglob("*.c")}
        changed = {path.name for path in before if after[path] != before[path]}
        assert changed == {"sort.c"}
        before = after


async def test_nothing_of_git_is_in_the_source(host: Host, git: Git, source: Path) -> None:
    """Kbuild would ask it for a version, which is not the same in every slot."""
    slot = await filled(host, git, await fetched(git, source))
    assert not (Path(slot.source) / ".git").exists()


async def test_a_file_that_was_changed_or_lost_comes_back_after_a_broken_checkout(
    host: Host, git: Git, source: Path, tmp_path: Path
) -> None:
    one = await fetched(git, source)
    slot = await filled(host, git, one)
    # Killed in the middle: some files are new, the index is half written, the marker is gone.
    (Path(slot.source) / "lib/sort.c").write_text("half a file")
    (Path(slot.source) / "Makefile").unlink()
    (Path(slot.folder) / "index").write_bytes(b"DIRC" + b"\0" * 20)
    (Path(slot.folder) / "index.lock").write_bytes(b"")
    (Path(slot.folder) / "commit").unlink()
    await filled(host, git, one)
    assert tree_of(slot.source) == expected(source, one, tmp_path / "expected")


async def test_a_checkout_that_is_killed_is_repaired(
    host: Host, git: Git, source: Path, tmp_path: Path
) -> None:
    one = await fetched(git, source)
    for number in range(400):
        (source / f"f{number}").write_text(f"{number}\n")
    history.git(source, "add", "-A")
    history.git(source, "commit", "-q", "-m", "many files")
    two = await fetched(git, source)
    slot = await filled(host, git, one)
    repository = await kbuild.push(git, host, two)
    for number, delay in enumerate((0.01, 0.02, 0.03, 0.05)):
        commit = (two, one)[number % 2]
        task = asyncio.ensure_future(kbuild.fill(host, slot, repository, commit, is_fresh=False))
        await asyncio.sleep(delay)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    await filled(host, git, two)
    assert tree_of(slot.source) == expected(source, two, tmp_path / "expected")


async def test_a_commit_that_is_not_there_is_the_labs_fault(
    host: Host, git: Git, source: Path
) -> None:
    commit = await fetched(git, source)
    slot = await filled(host, git, commit)
    with pytest.raises(InfraError) as caught:
        await kbuild.fill(
            host, slot, await host.account.path("linux.git"), "1" * 40, is_fresh=False
        )
    assert caught.value.host == "here"
    await filled(host, git, commit)


async def test_nothing_of_the_hosts_user_is_run(
    host: Host, git: Git, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    (home / "template" / "hooks").mkdir(parents=True)
    for name in ("post-checkout", "reference-transaction", "post-index-change"):
        (home / "template" / "hooks" / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
        (home / "template" / "hooks" / name).chmod(0o755)
    (home / ".gitconfig").write_text(
        f"[init]\ntemplateDir = {home}/template\ndefaultObjectFormat = sha256\n"
        f'[filter "evil"]\nsmudge = "touch {tmp_path}/ran; cat"\n'
    )
    monkeypatch.setenv("HOME", str(home))
    (source / ".gitattributes").write_text("* filter=evil\n")
    history.git(source, "add", "-A")
    history.git(source, "commit", "-q", "-m", "a filter")
    slot = await filled(host, git, await fetched(git, source))
    assert (Path(slot.source) / ".gitattributes").exists()
    assert not (tmp_path / "ran").exists()


# --- outputs --------------------------------------------------------------------------------------


async def test_an_unfinished_build_leads_to_an_empty_output(
    host: Host, git: Git, source: Path
) -> None:
    commit = await fetched(git, source)
    slot = await filled(host, git, commit)
    left = Path(slot.output) / "half.o"
    left.write_text("half")
    # Nobody said that the build came to its end.
    await filled(host, git, commit)
    assert not left.exists()
    left.write_text("whole")
    await kbuild.finish(host, slot)
    await filled(host, git, commit)
    assert left.exists()
    await kbuild.finish(host, slot)
    await filled(host, git, commit, fresh=True)
    assert not left.exists()


async def test_the_unfinished_build_of_one_kind_says_nothing_of_another(
    host: Host, git: Git, source: Path
) -> None:
    commit = await fetched(git, source)
    repository = await kbuild.push(git, host, commit)
    one, two = [
        await kbuild.slot(host, 0, recipe=name, cache=CONTROL, tools={}) for name in ("one", "two")
    ]
    assert one.source == two.source
    await kbuild.fill(host, one, repository, commit, is_fresh=False)
    (Path(one.output) / "whole.o").write_text("whole")
    await kbuild.finish(host, one)
    await kbuild.fill(host, two, repository, commit, is_fresh=False)
    await kbuild.fill(host, one, repository, commit, is_fresh=False)
    assert (Path(one.output) / "whole.o").exists()


async def test_a_slot_keeps_the_outputs_that_were_used_last(
    host: Host, git: Git, source: Path
) -> None:
    commit = await fetched(git, source)
    repository = await kbuild.push(git, host, commit)
    slot = await kbuild.slot(host, 0, recipe="0", cache=CONTROL, tools={})
    for number in [*range(OUTPUTS_KEPT), 0, OUTPUTS_KEPT, OUTPUTS_KEPT + 1]:
        slot = await kbuild.slot(host, 0, recipe=str(number), cache=None, tools={})
        await kbuild.fill(host, slot, repository, commit, is_fresh=False)
        await kbuild.finish(host, slot)
        await asyncio.sleep(0.01)
    kept = sorted(path.name for path in Path(slot.folder).glob("out-*"))
    assert kept == ["out-0", "out-3", "out-4", "out-5"]


async def test_a_host_keeps_the_compiler_caches_that_were_used_last(
    host: Host, git: Git, source: Path
) -> None:
    commit = await fetched(git, source)
    repository = await kbuild.push(git, host, commit)
    folder = Path(await host.account.path("ccache"))

    async def fill(number: int, cache: str | None) -> None:
        slot = await kbuild.slot(host, number, recipe="r", cache=cache, tools={})
        await kbuild.fill(host, slot, repository, commit, is_fresh=False)
        await asyncio.sleep(0.01)

    # What an older kwatch left: one cache for all.
    (folder / "0").mkdir(parents=True)
    (folder / "ccache.conf").touch()
    await fill(0, CONTROL)
    # It stays in use in its slot for as long as all others take.
    await fill(1, "series-in-use")
    for number in range(CACHES_KEPT + 2):
        await fill(0, f"series-{number}")
    await fill(0, "series-2")
    await fill(0, None)
    await fill(0, "series-new")
    kept = {path.name for path in folder.iterdir()}
    assert kept == {CONTROL, "series-in-use", "series-4", "series-5", "series-2", "series-new"}
    await fill(1, None)
    await fill(0, "series-2")
    assert not (folder / "series-in-use").exists()


async def test_a_host_keeps_few_caches_of_verifications(host: Host, git: Git, source: Path) -> None:
    commit = await fetched(git, source)
    repository = await kbuild.push(git, host, commit)

    async def fill(number: int, cache: str | None) -> None:
        slot = await kbuild.slot(host, number, recipe="r", cache=cache, tools={})
        await kbuild.fill(host, slot, repository, commit, is_fresh=True)
        await asyncio.sleep(0.01)

    names = [caches.name(token, CONTROL) for token in "abcde"]
    await fill(0, "series-1")
    await fill(1, names[0])
    for name in names[1:]:
        await fill(0, name)
    # The first is in use.
    assert set(await caches.found(host)) == {names[0], *names[-CLEAN_KEPT:]}
    assert {caches.verification_of(name) for name in await caches.found(host)} == {"a", "d", "e"}
    await caches.drop(host, names, building={1})
    assert await caches.found(host) == (names[0],)
    await caches.drop(host, names, building=())
    kept = sorted(path.name for path in Path(await host.account.path("ccache")).iterdir())
    assert kept == ["series-1"]


def test_what_a_makefile_made_unreadable_is_removed_all_the_same() -> None:
    nobody = ["setpriv", "--reuid=65534", "--clear-groups"] if os.getuid() == 0 else []
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="kwatch-test-") as folder:
        Path(folder).chmod(0o777)
        script = (
            'cd "$0" && mkdir -p out/a/b && touch out/a/b/c && ln -s / out/a/root'
            " && chmod 0 out/a/b out/a && discard out && ! test -e out"
        )
        argv = [*nobody, "sh", "-ec", kbuild.DISCARD + script, folder]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


async def test_a_configuration_is_known_by_what_it_was_made_from(
    host: Host, git: Git, source: Path
) -> None:
    commit = await fetched(git, source)
    slot = await filled(host, git, commit)
    first = await git.digest(commit, SOURCES)
    assert not await kbuild.is_configured(host, slot, first)
    await kbuild.configured(host, slot, first)
    assert await kbuild.is_configured(host, slot, first)
    committed(source, "lib: no matter for Kconfig")
    assert await git.digest(await fetched(git, source), SOURCES) == first
    help_text = {"Kconfig": ("# The options of", "# All the options of")}
    committed(source, "Kconfig: say more", help_text)
    second = await git.digest(await fetched(git, source), SOURCES)
    assert second != first
    assert not await kbuild.is_configured(host, slot, second)
    await kbuild.configured(host, slot, None)
    assert not await kbuild.is_configured(host, slot, first)
    await kbuild.configured(host, slot, first)
    await kbuild.finish(host, slot)
    slot = await filled(host, git, commit, fresh=True)
    assert not await kbuild.is_configured(host, slot, first)


# --- builds ---------------------------------------------------------------------------------------


async def made(
    host: Host, slot: BuildSlot, *targets: str, toolchain: Toolchain = TOOLCHAIN
) -> None:
    """One ``make`` in the sandbox of the slot, as the build stage has it run."""
    command = make_command(
        toolchain, "x86_64", *targets, jobs=2, launcher="ccache" if shutil.which("ccache") else ""
    )
    await host.account.run(slot.sandbox().command(command), timeout=60)


async def made_whole(
    host: Host, git: Git, commit: str, *, number: int = 0, toolchain: Toolchain = TOOLCHAIN
) -> BuildSlot:
    """Configure and build a commit in a slot."""
    repository = await kbuild.push(git, host, commit)
    slot = await kbuild.slot(
        host, number, recipe="toy", cache=CONTROL, tools=await kbuild.linkers(host, toolchain)
    )
    await kbuild.fill(host, slot, repository, commit, is_fresh=False)
    await made(host, slot, "tinyconfig", toolchain=toolchain)
    await made(host, slot, "olddefconfig", toolchain=toolchain)
    await made(host, slot, "bzImage", "vmlinux", toolchain=toolchain)
    await kbuild.finish(host, slot)
    return slot


async def built(host: Host, git: Git, commit: str, *, number: int = 0) -> str:
    """Build a commit in a slot; the SHA-256 of its vmlinux and image."""
    slot = await made_whole(host, git, commit, number=number)
    files = [Path(slot.output) / name for name in ("vmlinux", X86_64.image)]
    assert SOURCE.encode() in files[0].read_bytes() or files[0].stat().st_size > 10_000
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
async def test_the_same_commit_gives_the_same_bytes_in_every_slot(
    host: Host, git: Git, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KCFLAGS", "-DFROM_THE_DAEMON")
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    one = await fetched(git, source)
    first = await built(host, git, one)
    assert await built(host, git, one, number=1) == first
    # On top of another commit's output, and with an empty one.
    committed(source, "mm: more pages", {"mm/page.c": ("RESERVED = 4", "RESERVED = 8")})
    two = await fetched(git, source)
    second = await built(host, git, two)
    assert second != first
    assert await built(host, git, one) == first
    shutil.rmtree(await host.account.path("slots/0"))
    shutil.rmtree(await host.account.path("ccache"))
    assert await built(host, git, two) == second


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
async def test_a_hostile_makefile_can_neither_write_the_source_nor_have_files_read_for_it(
    host: Host, git: Git, source: Path, tmp_path: Path
) -> None:
    key = tmp_path / "id_ed25519"
    key.write_text("a private key\n")
    (source / "Makefile").write_text(
        f"steal:\n\tln -sf {key} $(O)/.config\n\tmkfifo $(O)/pipe\n"
        "spoil:\n\techo evil >$(CURDIR)/lib/sort.c\n"
    )
    history.git(source, "add", "-A")
    history.git(source, "commit", "-q", "-m", "hostile")
    slot = await filled(host, git, await fetched(git, source))
    with pytest.raises(InfraError, match="Read-only file system"):
        await made(host, slot, "spoil")
    await made(host, slot, "steal")
    assert (Path(slot.output) / ".config").read_text() == "a private key\n"
    async with asyncio.timeout(10):
        for name in (".config", "pipe"):
            with pytest.raises(InfraError):
                await host.account.read(f"{slot.output}/{name}", 1 << 20)
            with pytest.raises(InfraError):
                await host.account.get(f"{slot.output}/{name}", tmp_path / "got", 1 << 20)


def linked_again(slot: BuildSlot, linker: str) -> bytes:
    """The toy's vmlinux.o, linked by hand from the objects of a build."""
    rules = (Path(slot.source) / "Makefile").read_text()
    objects = re.findall(r"\S+\.o\b", rules.partition("KBUILD_CFLAGS")[0])
    assert len(objects) > 10
    target = Path(slot.folder) / "again.o"
    subprocess.run(
        [linker, "-m", "elf_x86_64", "-z", "noexecstack", "-r", "-o", target, *objects],
        cwd=slot.output, check=True,
    )  # fmt: skip
    return target.read_bytes()


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
@pytest.mark.parametrize(
    ("linker_objects", "linker"),
    [("ld.bfd", "ld.lld-22"), ("ld.lld-22", "ld.bfd"), ("ld.bfd", "ld.bfd")],
)
async def test_vmlinux_o_has_the_linker_that_was_asked_for(
    host: Host, git: Git, source: Path, linker_objects: str, linker: str
) -> None:
    toolchain = replace(TOOLCHAIN, linker_objects=linker_objects, linker=linker)
    slot = await made_whole(host, git, await fetched(git, source), toolchain=toolchain)
    output = Path(slot.output)
    same = [
        one
        for one in ("ld.bfd", "ld.lld-22")
        if linked_again(slot, one) == (output / "vmlinux.o").read_bytes()
    ]
    assert same == [linker_objects]
    # LLD signs what it links for good.
    assert (b"Linker: " in (output / "vmlinux").read_bytes()) == (linker == "ld.lld-22")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("-m elf_x86_64 -r -o vmlinux.o --whole-archive vmlinux.a", "objects"),
        ("-o vmlinux.o -r vmlinux.a", "objects"),
        ("-ovmlinux.o --relocatable vmlinux.a", "objects"),
        ("--output=vmlinux.o -r vmlinux.a", "objects"),
        ("--output vmlinux.o -r vmlinux.a", "objects"),
        # Modules, tools and the final links.
        ("-r -o fs/ext4/ext4.o @fs/ext4/ext4.mod", "linker"),
        ("-r -o arch/x86/vmlinux.o a.o", "linker"),
        ("-r -o vmlinux.o.o vmlinux.o", "linker"),
        ("-r -T vmlinux.o -o mod.o", "linker"),
        ("-o vmlinux.o a.o", "linker"),
        ("-o -r vmlinux.o", "linker"),
        ("-T vmlinux.lds -o vmlinux vmlinux.o", "linker"),
        ("-o .tmp_vmlinux1 --whole-archive vmlinux.o", "linker"),
        ("--version", "linker"),
        ("", "linker"),
    ],
)
def test_only_the_step_of_vmlinux_o_is_given_to_its_linker(
    tmp_path: Path, words: str, expected: str
) -> None:
    programs = {name: tmp_path / f"the {name}" for name in ("objects", "linker")}
    for name, path in programs.items():
        path.write_text(f"#!/bin/sh\necho {name}\nprintf '<%s>' \"$@\"\nexit 7\n")
        path.chmod(0o755)
    wrapper = tmp_path / "ld"
    wrapper.write_text(
        linker_script(
            replace(
                TOOLCHAIN,
                linker_objects=str(programs["objects"]),
                linker=str(programs["linker"]),
            )
        )
    )
    given = [*words.split(), "a b", "$(id)", ""]
    done = subprocess.run(["sh", wrapper, *given], capture_output=True, text=True, check=False)
    said = expected + "\n" + "".join(f"<{word}>" for word in given)
    assert (done.returncode, done.stdout) == (7, said), done.stderr
    # POSIX alone: what Debian's /bin/sh is.
    if shutil.which("dash"):
        posix = subprocess.run(["dash", "-n", wrapper], capture_output=True, text=True, check=False)
        assert posix.stderr == ""


async def test_one_linker_for_all_needs_no_wrapper(host: Host) -> None:
    assert await kbuild.linkers(host, TOOLCHAIN) == {}
    assert "LD=ld.lld-22" in make_command(TOOLCHAIN, "x86_64", jobs=1)
