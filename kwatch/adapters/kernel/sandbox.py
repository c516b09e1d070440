# SPDX-License-Identifier: GPL-2.0-or-later
"""The sandbox that everything from a mailed patch runs in: bubblewrap, without network.

What is compiled is code of strangers, and so are the Makefiles and Kconfig files that compile it.
Inside there is a read-only system, the folders that are bound on purpose, and nothing else: no
home, no keys, no network, no other processes. The folders have fixed names inside, so a build is
the same on every host and in every slot, byte for byte, and a compiler cache serves all slots.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
"""Where a sandboxed command finds programs."""

# The system, read-only. On Debian 12 /bin and the like are links into /usr.
_SYSTEM = (
    "--ro-bind", "/usr", "/usr",
    "--symlink", "usr/bin", "/bin",
    "--symlink", "usr/sbin", "/sbin",
    "--symlink", "usr/lib", "/lib",
    "--symlink", "usr/lib64", "/lib64",
    "--ro-bind-try", "/etc/alternatives", "/etc/alternatives",
    "--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache",
    "--proc", "/proc",
    "--dev", "/dev",
    "--tmpfs", "/tmp",  # noqa: S108 - inside the sandbox, where it is empty and private
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """What a sandboxed command sees: folder inside -> folder on the host, and its environment."""

    read_only: Mapping[str, str] = field(default_factory=dict)
    writable: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    directory: str = "/tmp"  # noqa: S108

    def command(self, argv: Sequence[str]) -> tuple[str, ...]:
        """The whole argument vector that runs ``argv`` inside."""
        words = ["bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--clearenv"]
        # Where root runs it, which it should not, it would keep root's powers, mount among them.
        words += ["--cap-drop", "ALL"]
        words += _SYSTEM
        for inside, outside in self.read_only.items():
            words += ["--ro-bind", outside, inside]
        for inside, outside in self.writable.items():
            words += ["--bind", outside, inside]
        environment = {
            "PATH": PATH,
            "HOME": "/tmp",  # noqa: S108
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
            **self.environment,
        }
        for key, value in environment.items():
            words += ["--setenv", key, value]
        return (*words, "--chdir", self.directory, "--", *argv)
