# SPDX-License-Identifier: GPL-2.0-or-later
"""One daemon for one state directory, whatever becomes of the last one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kwatch.errors import ConfigError
from kwatch.store import lock

ROOT = Path(__file__).parents[3]
HOLD = """
import sys, time
from pathlib import Path
from kwatch.store import lock

with lock.hold(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_the_second_is_told_who_the_first_is(tmp_path: Path) -> None:
    state = tmp_path / "a" / "state"
    with lock.hold(state):
        with (
            pytest.raises(ConfigError, match=f"in use by process {os.getpid()}: stop it"),
            lock.hold(state),
        ):
            pytest.fail("two at a time")
        # Being refused takes nothing away from the first.
        with pytest.raises(ConfigError), lock.hold(state):
            pass
    with lock.hold(state):
        pass


def test_a_failure_lets_go(tmp_path: Path) -> None:
    with pytest.raises(KeyError), lock.hold(tmp_path):
        raise KeyError
    with lock.hold(tmp_path), lock.hold(tmp_path / "another"):
        pass


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_it_is_free_when_its_holder_dies(tmp_path: Path, number: signal.Signals) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(ConfigError, match=f"in use by process {holder.pid}:"),
            lock.hold(tmp_path),
        ):
            pass
    finally:
        holder.send_signal(number)
        holder.wait(10)
        holder.stdout.close()
    with lock.hold(tmp_path):
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


def test_a_program_that_the_holder_started_does_not_hold_it(tmp_path: Path) -> None:
    with lock.hold(tmp_path):
        child = subprocess.Popen(["sleep", "600"], close_fds=False)
    try:
        with lock.hold(tmp_path):
            pass
    finally:
        child.kill()
        child.wait(10)


def test_a_directory_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/kwatch")):
        with (
            pytest.raises(ConfigError, match=r"cannot be used .*lab\.state_directory"),
            lock.hold(place),
        ):
            pass
