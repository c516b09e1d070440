# SPDX-License-Identifier: GPL-2.0-or-later
"""The commands of a report, run by a shell that has nothing but the mail, show the failure."""

from __future__ import annotations

import json
import os
import re
import subprocess
import textwrap
from email import message_from_bytes, policy
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from kwatch.adapters.git import Git
from kwatch.domain.finding import Finding, FindingKind
from kwatch.domain.lab.job import JobKind
from kwatch.domain.mail.story import Correspondence, Release
from kwatch.domain.milestone import Milestone
from kwatch.domain.recipe.boot import BootRecipe
from kwatch.domain.recipe.build import BuildRecipe
from kwatch.domain.recipe.kconfig import Fragment, KconfigRecipe
from kwatch.domain.recipe.toolchain import Toolchain
from kwatch.domain.source.revision import Revision, Tree
from kwatch.domain.source.series import Series, series_digest
from kwatch.domain.source.source import with_series
from kwatch.domain.trial.steps import BootResult, BuildResult
from kwatch.domain.trial.trial import Trial
from kwatch.domain.verdict.blame import Blame
from kwatch.domain.verdict.judge import Opened
from kwatch.domain.verdict.lane import Lane, TagRun
from kwatch.domain.verdict.problem import Facet
from kwatch.domain.verdict.regression import RegressionEvent
from kwatch.stages.report import stage as report
from kwatch.store import lanes, recipes, regressions, revisions, steps, trials
from kwatch.store import series as series_store
from kwatch.store.blobs import Blobs
from kwatch.store.database import Database
from tests.integration.stages.jobs import NOW, claimed
from tests.lab.toy.history import SOURCE_FOLDER, git, three_tags
from tests.lab.toykernel import KERNEL
from tests.lab.toytree import text_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from email.message import EmailMessage
    from pathlib import Path

    from kwatch.store.database import Transaction

pytestmark = pytest.mark.asyncio

LLD = "/usr/lib/llvm-22/bin/ld.lld"
GOOD, BAD = "next-20261116", "next-20261117"
PATCHES = [path for path in KERNEL.series if not path.name.startswith("0000")]
MBOX = b"".join(path.read_bytes() for path in PATCHES)
SERIES = Series(
    name="llvm-cov", digest=series_digest(MBOX), title="coverage", origin="files",
    patches=len(PATCHES), accepted_by="test", posted_at=NOW,
)  # fmt: skip
BUILD = BuildRecipe(
    arch="x86_64",
    # What LLVM= means anyway, and what it does not.
    toolchain=Toolchain(
        name="llvm", llvm_suffix="-22", compiler="clang-22", linker_objects=LLD, linker=LLD
    ),
    kconfig=KconfigRecipe(
        base="tinyconfig", fragments=(Fragment(name="lab/lab.config", text=KERNEL.fragment),)
    ),
)
BOOT = BootRecipe(memory_mib=128, commands=("echo it works", "false"))
LAB = Correspondence(
    from_name="kwatch", from_address="kwatch@example.org", message_id_domain="example.org",
    owner="operator@example.org", release=Release.AUTOMATIC,
)  # fmt: skip


class Reporter:
    """Writes the report of a regression between two tags of the toy kernel."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.folder = folder
        self._database = database

    async def written(
        self, plant: str, finding: Finding, blame: Blame, *, config: bytes | None
    ) -> EmailMessage:
        """The first mail; ``config`` is the .config that the build left, if it left one."""
        source = self.folder / "source"
        ids = three_tags(source, plant=plant, fixed=False)
        clone = Git(self.folder / "linux.git")
        await clone.create()
        await clone.fetch(str(source), ["+refs/tags/*:refs/kwatch/next/*"])
        blobs = Blobs(
            self.folder / "blobs", database=self._database, budget=1 << 30, clock=lambda: NOW
        )
        artifacts = {"config": await blobs.put(config)} if config else {}
        number = await self._database.write(_regression, ids, finding, blame, artifacts)
        done = await report.run(
            await claimed(self._database, JobKind.REPORT, str(number)),
            trees={"next": Tree(name="next", url=str(source), tags=("next-*",), variants=("toy",))},
            correspondence=lambda *_: LAB, git=clone, blobs=blobs, database=self._database,
            token=lambda: "tok1", status_url=None,
        )  # fmt: skip
        (letter,) = done.letters
        return message_from_bytes(letter.message, policy=policy.default)


def _regression(
    tx: Transaction,
    ids: Mapping[str, str],
    finding: Finding,
    blame: Blame,
    artifacts: Mapping[str, str],
) -> int:
    recipes.put(tx, BUILD, BOOT)
    series_store.put(tx, SERIES, MBOX)
    built = BuildResult(
        key="b" * 64, milestone=Milestone.LINKED, finding=None, config_digest=None, dropped=(),
        artifacts=artifacts, host="h", environment="clang 22", environment_digest="e", took=1.0,
    )  # fmt: skip
    steps.put_build(tx, built, BUILD.digest, now=NOW)
    booted = BootResult(
        key="c" * 64, build=built.row, end="panic", milestone=Milestone.KERNEL,
        finding=finding, artifacts={}, host="h", accelerator="tcg", took=1.0,
    )  # fmt: skip
    steps.put_boot(tx, booted, BOOT.digest, now=NOW)
    good = _run(tx, GOOD, ids[GOOD])
    bad = _run(tx, BAD, ids[BAD])
    tx.execute(
        "UPDATE trial SET outcome = 'fail', milestone = ?, build_row = ?, boot_key = ?"
        " WHERE id = ?",
        (Milestone.KERNEL, built.row, booted.key, bad.number),
    )
    number = regressions.open_regression(
        tx,
        lanes.number(tx, Lane(tree="next", variant="toy")),
        Opened(facet=Facet.FAILURE, finding=finding, good=good, bad=_run(tx, BAD, ids[BAD])),
        now=NOW,
    )
    regressions.advance(tx, number, RegressionEvent.CONFIRMED, {"blame": blame}, now=NOW)
    return number


def _run(tx: Transaction, tag: str, commit: str) -> TagRun:
    trial = Trial(source=with_series(commit, SERIES.digest), build=BUILD.digest, boot=BOOT.digest)
    revision = revisions.add(tx, Revision(tree="next", tag=tag, commit=commit, seen_at=NOW))
    return lanes.run(tx, revision, trials.put(tx, trial, now=NOW))


@pytest_asyncio.fixture
async def reporter(tmp_path: Path) -> AsyncIterator[Reporter]:
    database = await Database.open(tmp_path / "history.sqlite")
    yield Reporter(database, tmp_path)
    await database.close()


def script_of(mail: EmailMessage) -> str:
    """The commands of the report, as a reader copies them."""
    section = text_of(mail).partition("\nTo reproduce")[2].partition("\n\n")[2]
    lines = []
    for line in section.splitlines():
        if line and not line.startswith("    "):
            break
        lines.append(line)
    return textwrap.dedent("\n".join(lines))


def reproduce(mail: EmailMessage, folder: Path) -> subprocess.CompletedProcess[str]:
    """Save the attachments in a fresh repository and run the commands."""
    folder.mkdir()
    git(folder, "init", "-q")
    for part in mail.iter_attachments():
        name, content = part.get_filename(), part.get_payload(decode=True)
        assert name
        assert isinstance(content, bytes)
        (folder / name).write_bytes(content)
    names = {"GIT_COMMITTER_NAME": "r", "GIT_COMMITTER_EMAIL": "r@example.org"}
    return subprocess.run(
        ["sh", "-ec", script_of(mail)], cwd=folder, env={**os.environ, **names},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def configured(source: Path, output: Path) -> bytes:
    """The .config that kwatch's build leaves for the toy kernel."""
    output.mkdir()
    (output / ".config").write_text(KERNEL.fragment)
    subprocess.run(
        ["make", "-C", str(source), "LLVM=-22", f"O={output}", "olddefconfig"],
        check=True, capture_output=True,
    )  # fmt: skip
    return (output / ".config").read_bytes()


PANIC = Finding(kind=FindingKind.PANIC, title="Kernel panic - not syncing: toy panic")


async def test_a_panic_of_the_tree(reporter: Reporter, tmp_path: Path) -> None:
    # The defaults of the bad tag: its plant is in them.
    config = configured(SOURCE_FOLDER, tmp_path / "out").replace(
        b"# CONFIG_TOY_PANIC is not set", b"CONFIG_TOY_PANIC=y"
    )
    mail = await reporter.written("panic", PANIC, Blame.TREE, config=config)
    assert [part.get_filename() for part in mail.iter_attachments()] == ["config"]
    done = reproduce(mail, tmp_path / "reader")
    assert done.returncode == 0, done.stderr
    assert PANIC.title in done.stdout
    assert f"toy-{BAD} " in done.stdout
    # The initramfs holds what a Linux would run.
    listed = subprocess.run(
        ["sh", "-c", "gzip -cd initramfs.cpio.gz | cpio -t"], cwd=tmp_path / "reader",
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert {"init", "bin/busybox", "proc", "sys"} <= set(listed.stdout.split())
    script = (tmp_path / "reader" / "initramfs" / "init").read_text()
    assert subprocess.run(["sh", "-n", "-c", script], check=False).returncode == 0
    assert "-initrd initramfs.cpio.gz" in " ".join(script_of(mail).split())


async def test_a_panic_with_the_series_from_files(reporter: Reporter, tmp_path: Path) -> None:
    # No .config was kept: it is made from the recipe.
    mail = await reporter.written("panic", PANIC, Blame.SERIES, config=None)
    names = [part.get_filename() for part in mail.iter_attachments()]
    assert names == ["series.mbox", "fragment.config"]
    done = reproduce(mail, tmp_path / "reader")
    assert done.returncode == 0, done.stderr
    assert PANIC.title in done.stdout
    assert "CONFIG_LLVM_COV_KERNEL=y" in (tmp_path / "reader" / ".config").read_text()


async def test_a_build_error_stops_in_make(reporter: Reporter, tmp_path: Path) -> None:
    finding = Finding(kind=FindingKind.COMPILE, title="call to undeclared function")
    mail = await reporter.written("build-error", finding, Blame.TREE, config=None)
    done = reproduce(mail, tmp_path / "reader")
    assert done.returncode != 0
    assert "call to undeclared function 'toy_function_that_nobody_declared'" in done.stderr
    assert f"LD={LLD}" in script_of(mail)
    assert "qemu" not in script_of(mail)


async def test_a_series_that_does_not_apply_stops_in_git_am(
    reporter: Reporter, tmp_path: Path
) -> None:
    finding = Finding(kind=FindingKind.APPLY, title="Patch failed at 0001")
    mail = await reporter.written("series-conflict", finding, Blame.SERIES, config=None)
    done = reproduce(mail, tmp_path / "reader")
    assert done.returncode != 0
    assert "Patch failed at 0001" in done.stdout + done.stderr
    assert not re.search("^make", script_of(mail), re.MULTILINE)
    assert json.dumps(text_of(mail)).count("series.mbox") == 1
