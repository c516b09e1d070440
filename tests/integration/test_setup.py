# SPDX-License-Identifier: GPL-2.0-or-later
"""The machine's set-up, and the installation that the documents describe."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT = Path(__file__).parents[2]
NOBODY = 65534


def call(*argv: str | Path, cwd: Path = PROJECT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, cwd=cwd, capture_output=True, text=True, check=False, timeout=300)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that any user may enter, which those of pytest are not."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_who_may_not_install_is_told_the_line(open_folder: Path) -> None:
    lab = open_folder / "tests" / "lab"
    lab.mkdir(parents=True)
    shutil.copy(PROJECT / "tests/lab/setup.sh", lab)
    (lab / "packages.txt").write_text("coreutils\nno-such-package\nno-such-either\n")
    as_nobody = ["setpriv", f"--reuid={NOBODY}", "--clear-groups"] if os.geteuid() == 0 else []
    done = call(*as_nobody, lab / "setup.sh", cwd=open_folder)
    assert done.returncode == 2
    line = "apt-get install --yes --no-install-recommends no-such-either no-such-package"
    assert line in done.stderr.splitlines()[2]
    assert not (open_folder / ".venv").exists()


def test_everything_that_the_lab_needs_is_listed_once_and_in_order() -> None:
    lines = (PROJECT / "tests/lab/packages.txt").read_text().splitlines()
    assert lines == sorted(set(lines))


@pytest.mark.timeout(300)
def test_make_install_gives_a_kwatch_that_runs_by_itself(tmp_path: Path) -> None:
    source, prefix = tmp_path / "source", tmp_path / "prefix"
    call("git", "clone", "--quiet", PROJECT, source)
    # What make would set up first is here already.
    (source / ".venv").symlink_to(sys.prefix)
    installed = call("make", "install", f"PREFIX={prefix}", "SETUP=:", cwd=source)
    assert installed.returncode == 0, installed.stdout + installed.stderr
    shutil.rmtree(source)
    kwatch = prefix / "bin" / "kwatch"
    checked = call(kwatch, "check-config", PROJECT / "config.example.toml", cwd=tmp_path)
    assert checked.returncode == 0, checked.stderr
    package = next(prefix.glob("lib/*/site-packages/kwatch"))
    assert (package / "remote" / "guest_init.sh").is_file()
    assert (package / "web" / "templates" / "base.html").is_file()


def test_a_ci_run_calls_everything() -> None:
    told = call("make", "--dry-run", "test").stdout
    assert "lint unit integration lab story" in told
    assert "make --no-print-directory test" in (PROJECT / ".ci/run").read_text()
