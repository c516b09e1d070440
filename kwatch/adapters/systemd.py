# SPDX-License-Identifier: GPL-2.0-or-later
"""What systemd is told about the daemon: sd_notify(3) and sd_watchdog_enabled(3).

All of it does nothing where systemd did not start us, and a service manager that does not listen
is no reason to fail.
"""

from __future__ import annotations

import logging
import os
import socket

log = logging.getLogger(__name__)

MAX_STATUS = 500


def ready() -> None:
    """The daemon does its work: the unit counts as started."""
    _notify("READY=1")


def status(text: str) -> None:
    """One line for ``systemctl status``."""
    _notify("STATUS=" + " ".join(text.split())[:MAX_STATUS])


def alive() -> None:
    """Put off the watchdog; to be called at least each :func:`watchdog_interval`."""
    _notify("WATCHDOG=1")


def stopping() -> None:
    """The daemon was told to end, and needs some time for it."""
    _notify("STOPPING=1")


def watchdog_interval() -> float | None:
    """Seconds between two signs of life, half of what systemd waits; None without a watchdog."""
    owner = os.environ.get("WATCHDOG_PID", "")
    if owner and owner != str(os.getpid()):
        return None
    try:
        microseconds = int(os.environ.get("WATCHDOG_USEC", ""))
    except ValueError:
        return None
    return microseconds / 2e6 if microseconds > 0 else None


def _notify(message: str) -> None:
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):
        # An abstract socket: the kernel has a zero byte where systemd writes @.
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            # A service manager that does not read must not stop the daemon.
            sender.sendto(message.encode(errors="replace"), socket.MSG_DONTWAIT, address)
    except OSError as error:
        log.warning("systemd was not told %s: %s", message, error)
