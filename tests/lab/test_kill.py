# SPDX-License-Identifier: GPL-2.0-or-later
"""kill -9 in every stage of a run: nothing is lost, told twice, or left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import random
import signal
import sqlite3
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.lab.conftest import TAGS
from tests.lab.process import LabError
from tests.lab.toy import history
from tests.lab.toytree import (
    ToyTree,
    archived,
    is_settled,
    letters,
    nothing_left,
    outcomes,
    push,
    settle,
    toy_box,
    working_on,
)

if TYPE_CHECKING:
    from tests.lab.box import Box
    from tests.lab.conftest import Run

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(420)]

# How often each stage is hit: 20 times together.
HITS = Counter(
    watch=1, listen=1, plan=2, checkout=2, build=3, boot=3, collect=2, judge=1, investigate=2,
    report=1, send=2,
)  # fmt: skip
# Kills while the daemon is still starting, so that even going on is disturbed.
EARLY = 2
# How long a stage takes here, in seconds: the kill comes somewhere in it.
LASTS = {
    "checkout": 0.08, "build": 0.8, "boot": 3.0, "collect": 0.15, "send": 0.2, "watch": 0.02,
    "listen": 0.05,
}  # fmt: skip
# What runs so often that it need not be hit the first time.
OFTEN = {"checkout", "build", "boot", "collect", "investigate"}


_RUNNING = "SELECT id, kind, attempt FROM job WHERE state = 'running'"


class Killer:
    """Kills the daemon at seeded moments, and starts it again at once.

    A stage counts as hit when its job was running as the daemon died. A kill puts the job back, so
    a stage that is to be hit again comes again.
    """

    def __init__(self, box: Box, seed: int) -> None:
        self.box = box
        self.left = Counter(HITS)
        self.early = EARLY
        self.struck: list[str] = []
        self._chance = random.Random(seed)  # noqa: S311 - it draws moments
        self._seen: set[tuple[int, int]] = set()
        self._escaped: set[str] = set()

    async def drive(self, tag: str, *, timeout: float, is_last: bool) -> None:
        """Kill again and again until the lab is through with ``tag``."""
        deadline = time.monotonic() + timeout
        while kind := await asyncio.to_thread(self._frozen, tag, deadline, is_last=is_last):
            await self.box.kill()
            if self._is_running(kind):
                self.left[kind] -= 1
                self.struck.append(kind)
            else:
                self.struck.append(f"after {kind}")
            await self._start()

    def _frozen(self, tag: str, deadline: float, *, is_last: bool) -> str:
        """Stop the daemon in the middle of a stage; which one. Empty once ``tag`` is through."""
        looked = 0.0
        with contextlib.closing(self._connect()) as connection:
            while time.monotonic() < deadline:
                for number, kind, attempt in connection.execute(_RUNNING).fetchall():
                    if (number, attempt) in self._seen or not self.left[kind]:
                        continue
                    self._seen.add((number, attempt))
                    if kind in OFTEN and not is_last and self._chance.random() < 0.5:
                        continue
                    if kind not in self._escaped:
                        time.sleep(self._chance.uniform(0, LASTS.get(kind, 0.0)))
                    self.box.send_signal(signal.SIGSTOP)
                    if (number, kind, attempt) in connection.execute(_RUNNING).fetchall():
                        return str(kind)
                    # It was faster. The next of its kind gets no grace.
                    self._escaped.add(kind)
                    self.box.send_signal(signal.SIGCONT)
                if time.monotonic() - looked > 0.1:
                    looked = time.monotonic()
                    if is_settled(self.box, tag):
                        return ""
                if not self.box.is_running:
                    raise LabError(f"the daemon ended by itself:\n{self.box.log()[-4000:]}")
                time.sleep(0.0002)
        raise LabError(f"{tag} did not come to its end:\n{self.box.log()[-6000:]}")

    async def _start(self) -> None:
        if self.early and self._chance.random() < 0.2:
            self.early -= 1
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._chance.uniform(0.2, 1.5)):
                    await self.box.start()
            await self.box.kill()
            self.struck.append("start")
        await self.box.start()

    def _is_running(self, kind: str) -> bool:
        with contextlib.closing(self._connect()) as connection:
            return kind in {row[1] for row in connection.execute(_RUNNING)}

    def _connect(self) -> sqlite3.Connection:
        path = self.box.state / "history.sqlite"
        return sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)


@pytest.mark.parametrize("seed", [int(os.environ.get("KWATCH_SEED", "20261117"))])
async def test_a_run_survives_kills_in_every_stage(
    undisturbed: Run, tmp_path: Path, user: str, seed: int
) -> None:
    print(f"seed {seed} (set KWATCH_SEED to try another)")
    source = tmp_path / "source"
    history.three_tags(source, plant="silent", fixed=True)
    async with toy_box(tmp_path, user) as box:
        await box.start()
        killer = Killer(box, seed)
        await box.post_series()
        for tag in TAGS:
            push(box, source, tag)
            await killer.drive(tag, timeout=200, is_last=tag == TAGS[-1])
        print(f"kills: {', '.join(killer.struck)}")
        assert +killer.left == Counter(), "every stage is hit as often as it says"

        assert outcomes(box) == undisturbed.outcomes
        _assert_same_mails(box)
        assert box.query("SELECT kind, key, error FROM job WHERE state = 'dead'") == []
        assert await box.stop() == 0
        await nothing_left(box, user)
        _assert_nothing_lies_about(box, user)


def _assert_same_mails(box: Box) -> None:
    mails = archived(box)
    assert [mail["X-Kwatch-Event"] for mail in mails] == ["new", "bisected", "fixed"]
    ids = [str(mail["Message-ID"]) for mail in mails]
    assert len(set(ids)) == 3
    rows = box.query("SELECT message_id, notice, state FROM mail ORDER BY id")
    assert [f"<{row['message_id']}>" for row in rows] == ids
    assert len({row["notice"] for row in rows}) == 3
    assert {row["state"] for row in rows} == {"sent"}
    # A server may get a mail twice, but always under the same Message-ID.
    assert {str(mail["Message-ID"]) for mail in letters(box)} == set(ids)


def _assert_nothing_lies_about(box: Box, user: str) -> None:
    """No lock, no half file, no run: here and on the host."""
    repository = box.state / "linux.git"
    assert [path for path in box.state.rglob("*.lock") if path.is_file()] == []
    assert list((box.state / "blobs").glob("part-*")) == []
    assert [path.name for path in (box.state / "scratch").iterdir()] == ["source"]
    worktrees = history.git(repository, "worktree", "list", "--porcelain")
    assert [line for line in worktrees.splitlines() if line.startswith("worktree ")] == [
        f"worktree {repository}", f"worktree {box.state}/scratch/source",
    ]  # fmt: skip
    history.git(repository, "fsck", "--connectivity-only", "--no-dangling")
    assert list(repository.glob("objects/pack/tmp_*")) == []
    assert working_on(box.state) == []
    assert box.query("PRAGMA integrity_check") == [{"integrity_check": "ok"}]

    kwatch = Path(pwd.getpwnam(user).pw_dir) / "kwatch"
    assert [path.name for path in (kwatch / "run").iterdir() if path.is_dir()] == []
    assert list((kwatch / "collect").iterdir()) == []
    assert list((kwatch / "cache").rglob("*.part")) == []
    assert list(kwatch.glob("slots/*/index.lock")) == []


async def test_what_a_killed_git_was_holding_is_let_go(tmp_path: Path, user: str) -> None:
    """The locks that a git leaves that is killed in the middle, put where it leaves them."""
    async with toy_box(tmp_path, user) as box:
        tree = ToyTree.create(box)
        await box.post_series()
        first = tree.publish()
        await box.start()
        await settle(box, first)
        await box.kill()
        repository = box.state / "linux.git"
        (epoch,) = (box.state / "lore").glob("*/0.git")
        # git-update-ref, git-fetch and git-am; git-fetch of a shallow archive, and of a pack.
        second = tree.publish()
        for lock in (
            repository / f"refs/kwatch/linux-next/{second}.lock",
            repository / "packed-refs.lock",
            repository / "worktrees/source/index.lock",
            repository / "worktrees/source/HEAD.lock",
            epoch / "shallow.lock",
            epoch / "packed-refs.lock",
        ):
            lock.touch()
        half = repository / "objects/pack/tmp_pack_AbCdEf"
        half.touch()
        await box.start()
        await settle(box, second, timeout=60)
        assert {seen[0] for seen in outcomes(box).values()} == {"pass"}
        assert box.query("SELECT 1 FROM cursor WHERE error IS NOT NULL") == []
        assert await box.stop() == 0
        assert [path for path in box.state.rglob("*.lock") if path.is_file()] == []
        assert not half.exists()
