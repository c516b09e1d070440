# SPDX-License-Identifier: GPL-2.0-or-later
"""What a service manager hears, on real datagram sockets."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from kwatch.adapters import systemd

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=["path", "abstract"])
def manager(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[socket.socket]:
    """The service manager's end of the socket."""
    address = str(tmp_path / "notify")
    if request.param == "abstract":
        address = f"\0kwatch-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(address)
        listener.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", address.replace("\0", "@"))
        yield listener


def test_the_life_of_a_daemon(manager: socket.socket) -> None:
    systemd.ready()
    systemd.status("tree next:\nboots  next-20261117")
    systemd.alive()
    systemd.stopping()
    heard = [manager.recv(4096) for _ in range(4)]
    assert heard == [
        b"READY=1",
        b"STATUS=tree next: boots next-20261117",
        b"WATCHDOG=1",
        b"STOPPING=1",
    ]


def test_a_long_status_is_cut(manager: socket.socket) -> None:
    systemd.status("x" * 100_000)
    assert len(manager.recv(4096)) == len("STATUS=") + systemd.MAX_STATUS


def test_without_systemd_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    systemd.ready()


def test_a_manager_that_is_gone_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    systemd.alive()
    assert "systemd was not told WATCHDOG=1" in caplog.text


def test_a_manager_that_does_not_read_does_not_block(
    manager: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2000):
        systemd.alive()
    assert "temporarily unavailable" in caplog.text
    assert manager.recv(4096) == b"WATCHDOG=1"


@pytest.mark.parametrize(
    ("microseconds", "owner", "interval"),
    [
        ("60000000", None, 30.0),
        pytest.param("60000000", str(os.getpid()), 30.0, id="own"),
        ("60000000", "1", None),
        ("0", None, None),
        ("soon", None, None),
        (None, None, None),
    ],
)
def test_watchdog_interval(
    monkeypatch: pytest.MonkeyPatch,
    microseconds: str | None,
    owner: str | None,
    interval: float | None,
) -> None:
    for name, value in (("WATCHDOG_USEC", microseconds), ("WATCHDOG_PID", owner)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    assert systemd.watchdog_interval() == interval
