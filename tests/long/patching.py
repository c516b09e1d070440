# SPDX-License-Identifier: GPL-2.0-or-later
"""The fault that this project began with, put into a finished image."""

from __future__ import annotations

import shutil
import struct
from typing import TYPE_CHECKING

from kwatch.adapters.elf import Image

if TYPE_CHECKING:
    from pathlib import Path


def lose_a_counter(image: Path, target: Path, function: str) -> None:
    """Write ``target``: the image, but ``function`` begins with a count at address zero."""
    with Image(str(image)) as opened:
        found = next(one for one in opened.symbols() if one.name == function)
        section = opened.section_at(found.value)
        assert section is not None
        start = section.offset + found.value - section.address
    # nopl or mov at the function's second instruction would do; the prologue is long enough here.
    count = b"\x48\xff\x05" + struct.pack("<I", -(found.value + 7) % (1 << 32))
    # Not through our own memory: who measures a child's peak would see ours.
    shutil.copyfile(image, target)
    with target.open("r+b") as file:
        file.seek(start)
        file.write(count)
