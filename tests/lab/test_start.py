# SPDX-License-Identifier: GPL-2.0-or-later
"""What is wrong from the start: one clear message, exit status 2, and nothing is touched."""

from __future__ import annotations

import hashlib
import os
import socket
import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from tests.lab.box import ROOT
from tests.lab.process import call
from tests.lab.toytree import ToyTree, toy_box, tune

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from tests.lab.box import Box

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(120)]


@pytest_asyncio.fixture(loop_scope="session")
async def box(tmp_path: Path, user: str) -> AsyncIterator[Box]:
    """A lab whose daemon was never started."""
    async with toy_box(tmp_path, user) as made:
        yield made


def _kwatch(
    box: Box, *words: str, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a verb that must end by itself soon, as nobody in particular."""
    return subprocess.run(
        [sys.executable, "-m", "kwatch", *words, "--config", str(box.config)],
        env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})},
        check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def _is_refused(done: subprocess.CompletedProcess[str], *expected: str) -> None:
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert all(line.startswith("kwatch: ") for line in done.stderr.splitlines()), done.stderr
    for words in expected:
        assert words in done.stderr


@pytest.mark.parametrize("verb", ["run", "once", "check-config"])
async def test_every_mistake_is_told_at_once(box: Box, verb: str) -> None:
    tune(
        box,
        {
            f'owner = "{"operator@example.org"}"': 'owner = "nobody"',
            'variants = ["clang-22"]': 'variants = ["clang-23"]',
            'tree_poll = "1 s"': 'tree_poll = "often"',
            'security = "plain"': 'security = "none"',
        },
    )
    _is_refused(
        _kwatch(box, verb),
        "lab.owner", "tree[0].variants", "schedule.tree_poll", "mail.smtp.security",
    )  # fmt: skip
    assert not box.state.exists()


async def test_a_configuration_that_is_not_there(box: Box) -> None:
    box.config.unlink()
    _is_refused(_kwatch(box, "run"), str(box.config))
    assert not box.state.exists()


@pytest.mark.parametrize(("present", "missing"), [("setpriv", "git"), ("git", "setpriv")])
async def test_a_missing_tool_is_named(
    box: Box, tmp_path: Path, present: str, missing: str
) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / present).symlink_to(f"/usr/bin/{present}")
    for verb in ("run", "once"):
        _is_refused(_kwatch(box, verb, env={"PATH": str(tools)}), f"not installed: {missing}")
        assert not box.state.exists()


async def test_an_unreadable_key_is_named(box: Box) -> None:
    # Root may read everything, so the file is one that nobody can read: a folder.
    key = box.sshd.client_key
    key.unlink()
    key.mkdir()
    for words in (("run",), ("once",), ("hosts", "check")):
        _is_refused(_kwatch(box, *words), "host[0].key_file", str(key))
    assert not box.state.exists()


async def test_a_key_that_is_none_is_named(box: Box) -> None:
    box.sshd.client_key.write_text("-----BEGIN NOTHING-----\n")
    for words in (("run",), ("once",)):
        _is_refused(_kwatch(box, *words), "host kvm1", str(box.sshd.client_key))
    assert not box.state.exists()


async def test_a_port_in_use_is_named(box: Box) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", box.web_port))
        taken.listen()
        _is_refused(_kwatch(box, "run"), f"cannot listen on 127.0.0.1:{box.web_port}", "[web]")


async def test_a_newer_database_is_left_alone(box: Box) -> None:
    await box.start()
    assert await box.stop() == 0
    path = box.state / "history.sqlite"
    connection = sqlite3.connect(path)
    connection.execute(
        "INSERT INTO _sqlite_migrations (migration_set, name, applied_at)"
        " VALUES ('kwatch', 'm999_from_the_future', '2030-01-01')"
    )
    connection.commit()
    connection.close()
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    listed = sorted(entry.name for entry in box.state.iterdir())
    for verb in ("run", "once"):
        _is_refused(_kwatch(box, verb), "newer kwatch", "m999_from_the_future", str(path))
        assert hashlib.sha256(path.read_bytes()).hexdigest() == before
        assert sorted(entry.name for entry in box.state.iterdir()) == listed


async def test_an_unknown_host_key_is_an_operators_matter(box: Box, tmp_path: Path) -> None:
    other = tmp_path / "other_key"
    await call(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other)])
    kind, key, *_ = other.with_suffix(".pub").read_text().split()
    right = box.sshd.host_key_line
    tune(box, {right: f"{right.split(maxsplit=1)[0]} {kind} {key}"})
    tree = ToyTree.create(box)
    await box.post_series()
    tree.publish()

    checked = _kwatch(box, "hosts", "check")
    assert checked.returncode == 1
    for words in ("host key is not the pinned one", "ssh-keyscan"):
        assert words in checked.stdout
    assert "Traceback" not in checked.stderr

    # Other hosts may be well, so the daemon works on, shows the host, and judges no kernel.
    await box.start()
    await box.until(lambda: "host key is not the pinned one" in box.log(), timeout=30, what="word")
    await box.until(
        lambda: bool(box.query("SELECT 1 FROM host WHERE state != 'ok'")), timeout=30, what="host"
    )
    status, output = await box.command("hosts")
    assert status == 0
    assert "host key is not the pinned one" in output
    assert (await box.get("/healthz"))[0] == 200
    assert "host key is not the pinned one" in (await box.get("/"))[1]
    assert box.query("SELECT 1 FROM result WHERE outcome IS NOT NULL") == []
    assert await box.stop() == 0
