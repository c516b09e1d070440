# SPDX-License-Identifier: GPL-2.0-or-later
"""systemd's own tools accept the files that we ship for it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
UNIT = PROJECT / "systemd" / "kwatch.service"
USERS = PROJECT / "systemd" / "kwatch.sysusers.conf"
TARGETS = Path("/usr/lib/systemd/system")

pytestmark = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd is not installed"
)


def call(*argv: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A system with the unit, systemd's own targets, and something to execute."""
    program = tmp_path / "opt/kwatch/bin/kwatch"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    shutil.copytree(
        TARGETS, tmp_path / "usr/lib/systemd/system", symlinks=True,
        ignore=lambda _, names: [name for name in names if not name.endswith(".target")],
    )  # fmt: skip
    unit = tmp_path / "etc/systemd/system" / UNIT.name
    unit.parent.mkdir(parents=True)
    unit.write_text(UNIT.read_text())
    return tmp_path


def verify(root: Path) -> subprocess.CompletedProcess[str]:
    return call("systemd-analyze", "verify", f"--root={root}", UNIT.name)


def test_the_unit_is_valid(root: Path) -> None:
    found = verify(root)
    assert (found.returncode, found.stdout + found.stderr) == (0, "")


def test_verify_would_find_mistakes(root: Path) -> None:
    unit = root / "etc/systemd/system" / UNIT.name
    unit.write_text(UNIT.read_text().replace("KillMode=mixed", "KillMode=some"))
    assert "kill mode" in verify(root).stderr
    unit.write_text(UNIT.read_text())
    (root / "opt/kwatch/bin/kwatch").unlink()
    assert verify(root).returncode != 0


def test_the_unit_is_hardened() -> None:
    found = call(
        "systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", UNIT
    )
    assert found.returncode == 0, found.stdout
    exposure = re.search(r"Overall exposure level for \S+: ([0-9.]+)", found.stdout)
    assert exposure is not None
    assert float(exposure[1]) <= 2.0


def test_the_unit_hands_over_what_the_example_asks_for() -> None:
    asked = set(re.findall(r'"credential:([^"]+)"', (PROJECT / "config.example.toml").read_text()))
    assert asked == set(re.findall(r"(?m)^LoadCredential=([^:]+):", UNIT.read_text()))


def test_the_user_is_made(root: Path) -> None:
    made = call("systemd-sysusers", f"--root={root}", USERS)
    assert made.returncode == 0, made.stderr
    (line,) = (root / "etc/passwd").read_text().splitlines()
    assert re.fullmatch(r"kwatch:x:\d+:\d+:kwatch daemon:/var/lib/kwatch:\S*nologin", line)
    assert re.search(r"(?m)^kwatch:", (root / "etc/group").read_text())
