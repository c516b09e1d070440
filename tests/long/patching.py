# SPDX-License-Identifier: GPL-2.0-or-later
"""Faults put into a finished image."""

from __future__ import annotations

import shutil
import struct
from typing import TYPE_CHECKING

from kwatch.remote.elf import Image

if TYPE_CHECKING:
    from pathlib import Path

ENDBR = bytes.fromhex("f30f1efa")
# Where ftrace begins: a call, or room for one.
CALL, ROOM = b"\xe8", bytes.fromhex("0f1f440000")


def put_code(image: Path, target: Path, function: str, code: bytes) -> None:
    """Write ``target``: the image, but ``function`` begins with ``code``."""
    _write(image, target, _body(image, function)[1], code)


def lose_a_counter(image: Path, target: Path, function: str) -> None:
    """The same with the fault that this project began with: a count at address zero."""
    address, offset = _body(image, function)
    count = b"\x48\xff\x05" + struct.pack("<I", -(address + 7) % (1 << 32))
    _write(image, target, offset, count)


def _body(image: Path, function: str) -> tuple[int, int]:
    """Address and offset in the file of the function's own code."""
    with Image(str(image)) as opened:
        address = next(one.value for one in opened.symbols() if one.name == function)
        section = opened.section_at(address)
        assert section is not None
        head = opened.read(address, len(ENDBR) + len(ROOM))
        begins = len(ENDBR) * head.startswith(ENDBR)
        begins += len(ROOM) * head[begins:].startswith((CALL, ROOM))
        return address + begins, section.offset + address + begins - section.address


def _write(image: Path, target: Path, offset: int, code: bytes) -> None:
    # Not through our own memory: who measures a child's peak would see ours.
    shutil.copyfile(image, target)
    with target.open("r+b") as file:
        file.seek(offset)
        file.write(code)
