# SPDX-License-Identifier: GPL-2.0-or-later
"""The initramfs of a guest: busybox, the commands to run, and the guest's end of the protocol.

Written as a ``newc`` cpio archive (Linux: Documentation/driver-api/early-userspace/
buffer-format.rst), so that neither root nor a cpio program is needed to make device nodes.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import stat
import struct
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

from kwatch.adapters.guest.qemu import PORT
from kwatch.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from kwatch.domain.recipe.arch import Arch
    from kwatch.domain.recipe.boot import Counters

_DIRECTORIES = (
    "bin", "dev", "kwatch", "kwatch/commands", "proc", "root", "sys", "tmp",
)  # fmt: skip
_DEVICES = {
    "dev/console": (5, 1),
    "dev/null": (1, 3),
    "dev/ttyS0": (4, 64),
    "dev/ttyS1": (4, 65),
    "dev/ttyAMA0": (204, 64),
}
"""Name -> major, minor (Linux: Documentation/admin-guide/devices.txt), for want of devtmpfs."""
_APPLETS = (
    "cat", "mount", "poweroff", "printf", "reboot", "sh", "sha256sum", "sleep", "stat", "stty",
    "sync", "timeout",
)  # fmt: skip
"""What /init calls; the rest is linked in the guest, if busybox can do that."""

_PT_INTERP = 3
# Two percent larger than with 9, and made in a fifth of the time, while a slot of a host waits.
_COMPRESSION = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """One member of the archive; ``device`` is (major, minor) of a node."""

    name: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def build_initramfs(
    *,
    arch: Arch,
    busybox: bytes,
    commands: Sequence[str],
    counters: Counters,
    command_timeout: timedelta,
) -> bytes:
    """A gzip'ed initramfs that runs the commands and reports on the channel, then powers off.

    The channel is the port of virtio-serial named PORT, or the serial line of ``arch``.

    Each command is a shell script, run in order, ended after ``command_timeout``. The kernel
    needs BLK_DEV_INITRD, RD_GZIP, BINFMT_ELF, BINFMT_SCRIPT, PROC_FS, SYSFS, TMPFS and a driver of
    the channel. The same arguments give the same bytes (with the same zlib). Raises ConfigError
    if busybox is not a static executable for ``arch``.
    """
    _check_busybox(busybox, arch)
    init = resources.files("kwatch.remote").joinpath("guest_init.sh").read_bytes()
    settings = (
        f"port={PORT}\nserial={arch.serial}\ncounters={counters.value}\n"
        f"seconds={max(1, round(command_timeout.total_seconds()))}\n"
    )
    return _archive(_entries(busybox=busybox, init=init, settings=settings, commands=commands))


def digest_of_user_space(arch: Arch, busybox: bytes) -> str:
    """SHA-256 (hex) over what every guest of ``arch`` gets: busybox, /init, folders and devices.

    Commands, counters and time limits are those of recipes, and not in it. Nor is the compression,
    which is another one with another zlib.
    """
    init = resources.files("kwatch.remote").joinpath("guest_init.sh").read_bytes()
    settings = f"port={PORT}\nserial={arch.serial}\n"
    members = _entries(busybox=busybox, init=init, settings=settings, commands=())
    found = hashlib.sha256()
    for inode, entry in enumerate(members, start=1):
        found.update(_member(entry, inode))
    return found.hexdigest()


def _entries(
    *, busybox: bytes, init: bytes, settings: str, commands: Sequence[str]
) -> list[_Entry]:
    """The members of the archive, a folder before what is in it."""
    return [
        *(_Entry(name=name, mode=stat.S_IFDIR | 0o755) for name in _DIRECTORIES),
        *(
            _Entry(name=name, mode=stat.S_IFCHR | 0o600, device=device)
            for name, device in _DEVICES.items()
        ),
        _Entry(name="bin/busybox", mode=stat.S_IFREG | 0o755, data=busybox),
        *(
            _Entry(name=f"bin/{applet}", mode=stat.S_IFLNK | 0o777, data=b"busybox")
            for applet in _APPLETS
        ),
        _Entry(name="init", mode=stat.S_IFREG | 0o755, data=init),
        _Entry(name="kwatch/settings", mode=stat.S_IFREG | 0o644, data=settings.encode()),
        *(
            _Entry(
                name=f"kwatch/commands/{index}",
                mode=stat.S_IFREG | 0o644,
                data=f"{command}\n".encode(),
            )
            for index, command in enumerate(commands)
        ),
    ]


def _archive(entries: Sequence[_Entry]) -> bytes:
    """The members as a gzip'ed cpio archive."""
    compressed = io.BytesIO()
    # No file name and no time in the header, else equal inputs would not give equal bytes.
    with gzip.GzipFile(
        filename="", mode="wb", compresslevel=_COMPRESSION, fileobj=compressed, mtime=0
    ) as file:
        for inode, entry in enumerate(entries, start=1):
            file.write(_member(entry, inode))
        file.write(_member(_Entry(name="TRAILER!!!", mode=0), 0))
    return compressed.getvalue()


def _member(entry: _Entry, inode: int) -> bytes:
    """Header, name and data, each part padded to four bytes; owner root, time 0."""
    name = entry.name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    fields = (
        inode, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0, *entry.device, len(name), 0,
    )  # fmt: skip
    header = b"070701" + b"".join(b"%08X" % value for value in fields)
    head = header + name
    return head + bytes(-len(head) % 4) + entry.data + bytes(-len(entry.data) % 4)


def _check_busybox(data: bytes, arch: Arch) -> None:
    """Raise ConfigError unless this is a 64-bit ELF executable that needs no other file."""
    advice = f"name that of Debian's busybox-static for {arch.name} in the configuration"
    if data[:6] != b"\x7fELF\x02\x01":
        raise ConfigError(f"busybox is no 64-bit little-endian ELF file; {advice}")
    try:
        (machine,) = struct.unpack_from("<H", data, 18)
        (table,) = struct.unpack_from("<Q", data, 32)
        size, count = struct.unpack_from("<HH", data, 54)
        kinds = [struct.unpack_from("<I", data, table + size * n)[0] for n in range(count)]
    except struct.error:
        raise ConfigError(f"busybox is cut short; {advice}") from None
    if machine != arch.elf:
        raise ConfigError(f"busybox is an executable, but not for {arch.name}; {advice}")
    if not kinds:
        raise ConfigError(f"busybox is an ELF file, but no executable; {advice}")
    if _PT_INTERP in kinds:
        raise ConfigError(f"busybox is dynamically linked, and a guest has no libraries; {advice}")
