# SPDX-License-Identifier: GPL-2.0-or-later
"""The archive is one that cpio reads, and the same every time."""

from __future__ import annotations

import gzip
import struct
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

from kwatch.adapters.guest.initramfs import build_initramfs, digest_of_user_space
from kwatch.domain.recipe.arch import ARM64, X86_64, Arch
from kwatch.domain.recipe.boot import Counters
from kwatch.errors import ConfigError

BUSYBOX = Path("/bin/busybox")


def executable(*segments: int, machine: int = X86_64.elf) -> bytes:
    """The headers of a 64-bit ELF file with program headers of these types."""
    identity = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header = struct.pack(
        "<HHIQQQIHHHHHH", 2, machine, 1, 0, 64, 0, 0, 64, 56, len(segments), 0, 0, 0
    )
    return identity + header + b"".join(struct.pack("<I52x", kind) for kind in segments)


STATIC = executable(1, 1)


def archive(
    *commands: str,
    busybox: bytes = STATIC,
    counters: Counters = Counters.KEEP,
    arch: Arch = X86_64,
) -> bytes:
    return build_initramfs(
        arch=arch,
        busybox=busybox,
        commands=commands,
        counters=counters,
        command_timeout=timedelta(minutes=2),
    )


def extract(data: bytes, name: str) -> bytes:
    command = ["cpio", "--quiet", "-i", "--to-stdout", name]
    done = subprocess.run(command, input=gzip.decompress(data), capture_output=True, check=True)
    return done.stdout


def test_cpio_lists_what_the_guest_needs() -> None:
    command = ["cpio", "--quiet", "-itv", "--numeric-uid-gid"]
    data = gzip.decompress(archive("true"))
    listing = subprocess.run(command, input=data, capture_output=True, check=True).stdout.decode()
    rows = {line.split(" 1970 ")[1]: line.split() for line in listing.splitlines()}
    assert rows["init"][0] == "-rwxr-xr-x"
    assert rows["bin/busybox"][:4] == ["-rwxr-xr-x", "1", "0", "0"]
    assert rows["bin/sh -> busybox"][0] == "lrwxrwxrwx"
    assert rows["dev/console"][0] == "crw-------"
    assert rows["dev/console"][4:6] == ["5,", "1"]
    assert rows["sys"][0] == "drwxr-xr-x"
    assert "kwatch/commands/0" in rows
    assert "kwatch/commands/1" not in rows


def test_each_command_is_a_script_of_its_own() -> None:
    data = archive("echo 'ä'", "exit 7")
    assert extract(data, "kwatch/commands/0").decode() == "echo 'ä'\n"
    assert extract(data, "kwatch/commands/1") == b"exit 7\n"


def test_the_guest_is_told_what_to_do() -> None:
    settings = extract(archive(counters=Counters.RESET), "kwatch/settings").decode()
    assert settings == ("port=org.kwatch.channel\nserial=/dev/ttyS1\ncounters=reset\nseconds=120\n")
    data = archive(busybox=executable(1, machine=ARM64.elf), arch=ARM64)
    assert "serial=/dev/ttyS0\n" in extract(data, "kwatch/settings").decode()


def test_what_goes_in_comes_out() -> None:
    busybox = STATIC + bytes(range(256)) * 5 + b"odd"
    assert extract(archive(busybox=busybox), "bin/busybox") == busybox


def test_the_same_every_time() -> None:
    assert archive("true") == archive("true")
    assert archive("true") != archive("false")


def test_the_script_is_one_that_busybox_understands() -> None:
    script = extract(archive(), "init")
    subprocess.run([BUSYBOX, "sh", "-n"], input=script, check=True, capture_output=True)


def test_debians_static_busybox_has_all_that_init_calls() -> None:
    data = archive(busybox=BUSYBOX.read_bytes())
    names = subprocess.run(
        ["cpio", "--quiet", "-it"], input=gzip.decompress(data), capture_output=True, check=True
    ).stdout.decode()
    linked = {name.removeprefix("bin/") for name in names.split() if name.startswith("bin/")}
    known = subprocess.run([BUSYBOX, "--list"], capture_output=True, check=True).stdout.decode()
    assert linked <= set(known.split())


@pytest.mark.parametrize(
    ("busybox", "reason"),
    [
        (b"", "no 64-bit"),
        (b"#!/bin/sh\n", "no 64-bit"),
        (STATIC[:70], "cut short"),
        (executable(), "no executable"),
        (executable(1, 3), "dynamically linked"),
        (executable(1, machine=ARM64.elf), "not for x86_64"),
    ],
)
def test_a_busybox_that_could_not_run(busybox: bytes, reason: str) -> None:
    with pytest.raises(ConfigError, match=f"{reason}.*busybox-static for x86_64"):
        archive(busybox=busybox)


def test_the_digest_is_of_what_a_recipe_does_not_add() -> None:
    first = digest_of_user_space(X86_64, STATIC)
    assert digest_of_user_space(X86_64, STATIC) == first
    assert len({first, digest_of_user_space(X86_64, STATIC + b"\0"),
                digest_of_user_space(ARM64, STATIC)}) == 3  # fmt: skip
