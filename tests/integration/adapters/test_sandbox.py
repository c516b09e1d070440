# SPDX-License-Identifier: GPL-2.0-or-later
"""The sandbox by bubblewrap itself: what a hostile Makefile could see, write and reach."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kwatch.adapters.kernel.sandbox import Sandbox
from tests.lab.process import running

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMEOUT = 20.0

if shutil.which("bwrap") is None:
    pytest.skip("bubblewrap is not installed", allow_module_level=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A host's folders: a source, an output, and a key beside them."""

    source: Path
    output: Path
    key: Path

    def sandbox(self, environment: Mapping[str, str] | None = None) -> Sandbox:
        return Sandbox(
            read_only={"/build/src": str(self.source)},
            writable={"/build/out": str(self.output)},
            environment=environment or {},
            directory="/build/out",
        )

    def run(
        self, script: str, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.sandbox(environment).command(["sh", "-c", script]),
            capture_output=True, text=True, check=False, timeout=TIMEOUT, stdin=subprocess.DEVNULL,
        )  # fmt: skip


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(
        source=tmp_path / "src", output=tmp_path / "out", key=tmp_path / "ssh" / "id_ed25519"
    )
    for folder in (place.source, place.output, place.key.parent):
        folder.mkdir()
    (place.source / "Makefile").write_text("all:\n")
    place.key.write_text("a private key\n")
    place.key.chmod(0o600)
    return place


def test_what_is_asked_for_is_there(place: Place) -> None:
    done = place.run("pwd; cat /build/src/Makefile; echo made >file; echo >&2 error; exit 3")
    assert (done.returncode, done.stdout, done.stderr) == (3, "/build/out\nall:\n", "error\n")
    assert (place.output / "file").read_text() == "made\n"
    tools = place.run("for tool in make clang-22 ld.lld-22 sh env; do command -v $tool; done")
    assert len(tools.stdout.split()) == 5


def test_there_is_no_network(place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code = (
            "import socket\n"
            f"try: socket.create_connection(('127.0.0.1', {port}), 2)\n"
            "except OSError as error: print('refused', error.errno)\n"
            "else: print('connected')\n"
        )
        command = [shutil.which("python3", path="/usr/bin") or "python3", "-c", code]
        outside = subprocess.run(command, capture_output=True, text=True, check=True)
        assert outside.stdout == "connected\n"
        inside = subprocess.run(
            place.sandbox().command(command),
            capture_output=True, text=True, check=False, timeout=TIMEOUT,
        )  # fmt: skip
        assert inside.stdout.startswith("refused "), inside.stderr
    interfaces = place.run("cut -s -d: -f1 /proc/net/dev").stdout.split()
    assert interfaces in (["lo"], [])


def test_a_socket_in_the_abstract_namespace_is_out_of_reach(place: Place) -> None:
    name = f"kwatch-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"\0{name}")
        server.listen()
        code = (
            "import socket\n"
            f"try: socket.socket(socket.AF_UNIX).connect('\\0{name}')\n"
            "except OSError: print('refused')\n"
        )
        done = subprocess.run(
            place.sandbox().command(["/usr/bin/python3", "-c", code]),
            capture_output=True, text=True, check=False, timeout=TIMEOUT,
        )  # fmt: skip
        assert done.stdout == "refused\n", done.stderr


def test_keys_and_homes_are_not_there(place: Place) -> None:
    for path in (place.key, place.key.parent, Path.home(), Path("/etc/passwd"),
                 Path("/etc/ssh"), Path("/var/lib"), Path("/home"), Path("/root"), Path("/run"),
                 Path("/sys")):  # fmt: skip
        assert place.run(f"test -e {path}").returncode == 1, path
    assert place.run("find / -xdev -name id_ed25519 2>/dev/null").stdout == ""


def test_nothing_outside_can_be_written(place: Place) -> None:
    before = (place.source / "Makefile").read_bytes()
    for target in ("/build/src/Makefile", "/build/src/new", "/usr/bin/new", "/usr/new"):
        done = place.run(f"echo evil >{target}")
        assert done.returncode != 0
        assert "Read-only file system" in done.stderr
    assert place.run("rm -rf /build/src").returncode != 0
    assert place.run("mount -o remount,bind,rw /build/src").returncode != 0
    assert (place.source / "Makefile").read_bytes() == before
    # What can be written elsewhere is memory that goes with the sandbox.
    assert place.run("echo x >/tmp/x && echo x >/x; cat /tmp/x").stdout == "x\n"
    assert place.run("test -e /tmp/x || test -e /x").returncode == 1


def test_a_link_out_of_the_output_leads_nowhere(place: Place) -> None:
    done = place.run(f"ln -s {place.key} link; cat link; ln -s / root; cat root{place.key}")
    assert "private" not in done.stdout
    assert done.returncode != 0


def test_other_processes_are_out_of_sight(place: Place) -> None:
    seen = place.run("ls /proc | grep -c '^[0-9]'").stdout
    assert int(seen) < 8
    assert place.run(f"kill -0 {os.getpid()}").returncode != 0


def test_there_are_no_privileges_to_use(place: Place) -> None:
    status = place.run("grep -E '^(CapEff|NoNewPrivs)' /proc/self/status").stdout.split()
    assert status == ["CapEff:", "0" * 16, "NoNewPrivs:", "1"]
    assert place.run("mknod disk b 8 0").returncode != 0
    assert place.run("chroot / true").returncode != 0


def test_the_environment_is_what_was_asked_for(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "of the daemon")
    monkeypatch.setenv("KCFLAGS", "-DEVIL")
    done = place.run("env", {"CCACHE_DIR": "/build/ccache", "LC_ALL": "C"})
    found = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert found == {
        "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        "HOME": "/tmp",
        "LC_ALL": "C",
        "TZ": "UTC",
        "CCACHE_DIR": "/build/ccache",
        "PWD": "/build/out",
    }


def test_a_word_is_a_word(place: Place) -> None:
    words = ["--bind", "a b", "$(id)", "; touch x", ""]
    done = subprocess.run(
        place.sandbox().command(["printf", "%s\\0", *words]),
        capture_output=True, text=True, check=True, timeout=TIMEOUT,
    )  # fmt: skip
    assert done.stdout.split("\0")[:-1] == words


def test_it_sees_no_terminal(place: Place) -> None:
    """A command in a controlling terminal's session could type into it (TIOCSTI)."""
    assert place.run("exec </dev/tty").returncode != 0
    assert int(place.run("cut -d' ' -f7 /proc/self/stat").stdout) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_all_of_it_dies_with_its_parent(place: Place, number: signal.Signals) -> None:
    mark = f"6{os.getpid()}"
    script = f"setsid sleep {mark} & (setsid sleep {mark} &) ; touch started; sleep {mark}"
    command = place.sandbox().command(["sh", "-c", script])
    # The shell in between is the supervisor's part: it starts the sandbox, and is killed.
    parent = subprocess.Popen(["sh", "-c", '"$@" & wait', "sh", *command])
    try:
        until(lambda: (place.output / "started").exists() and len(running(mark)) >= 3)
    finally:
        parent.send_signal(number)
        parent.wait(TIMEOUT)
    until(lambda: not running(mark))


def until(is_so: object, within: float = 10.0) -> None:
    assert callable(is_so)
    deadline = time.monotonic() + within
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)
