# SPDX-License-Identifier: GPL-2.0-or-later
"""Which instrumentation a linker lost.

Like elf.py a file that hosts run beside an image: ``python3 -m kwatch.remote.linkaudit
STAGE...`` writes what it found as JSON, see :func:`audit`.
"""

from __future__ import annotations

import json
import re
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kwatch.remote.elf import (
    EM_X86_64,
    SHF_EXECINSTR,
    SHN_ABS,
    SHN_UNDEF,
    SHT_NOBITS,
    Image,
    ImageError,
    Symbol,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# What Clang's instrumentation makes: counters, descriptions, values, bitmaps, names.
_INSTRUMENTATION = re.compile(r"__(?:prof(?:c|d|n|vp|bm)_|llvm_prf_|llvm_profile_|covrec_)")
# incq, addq and orb of an address relative to the next instruction; so far away as it is here, it
# is below the kernel's own addresses. Groups: the displacement, and what follows it.
_COUNT = re.compile(
    rb"(?P<name>\x48\xff\x05|[\x48\x4c]\x01[\x05\x0d\x15\x1d\x25\x2d\x35\x3d]|\x08[\x05\x0d\x15\x1d\x25\x2d\x35\x3d]"
    rb"|\x48\x83\x05(?=....(?P<byte>.))|\x80\x0d(?=....(?P<mask>.))|\x48\x81\x05(?=....(?P<word>....)))"
    rb"(?P<displacement>...[\x40-\x7f])",
    re.DOTALL,
)  # fmt: skip
_INSTRUCTIONS = {0xFF: "incq", 0x83: "addq", 0x81: "addq", 0x01: "addq", 0x80: "orb", 0x08: "orb"}
_GS = 0x65
PAGE = 4096
MAX_PROBLEMS = 100


def audit(paths: Sequence[str]) -> dict[str, Any]:
    """Instrumentation that the linker lost, in the stages of one link, the finished image last.

    ``symbols``: what the image leaves undefined or at absolute zero although an earlier stage
    defines it, as {symbol, state, before, stage}; ``stage`` is the first that lost it.
    ``accesses``: counting instructions of an x86-64 image that address page zero, as {function,
    offset, instruction, symbol}; the symbol is what the relocation in an object names, or null. At
    most MAX_PROBLEMS each; ``more`` tells of others. Earlier stages are read only where there is
    something to find; those that a configuration does not make may be missing.
    """
    paths = [path for path in paths[:-1] if Path(path).exists()] + list(paths[-1:])
    with Image(paths[-1]) as image:
        lost = {one.name for one in image.symbols({SHN_UNDEF, SHN_ABS}) if _is_lost(one)}
        accesses = list(_lost_accesses(image)) if image.machine == EM_X86_64 else []
    symbols = _lives(lost, paths) if lost else []
    more = max(0, len(symbols) - MAX_PROBLEMS) + max(0, len(accesses) - MAX_PROBLEMS)
    accesses = accesses[:MAX_PROBLEMS]
    if accesses:
        _name_operands(accesses, paths[:-1])
    return {"symbols": symbols[:MAX_PROBLEMS], "accesses": accesses, "more": more}


def _is_lost(symbol: Symbol) -> bool:
    return _INSTRUMENTATION.match(symbol.name) is not None and _state(symbol) != "defined"


def _lives(lost: set[str], paths: Sequence[str]) -> list[dict[str, object]]:
    """In which stage each symbol was there last, and in which it was lost."""
    defined: dict[str, str] = {}
    problems: dict[str, dict[str, object]] = {}
    for path in paths:
        stage = Path(path).name
        with Image(path) as image:
            for symbol in image.named(lost):
                state = _state(symbol)
                if state == "defined":
                    defined[symbol.name] = stage
                    problems.pop(symbol.name, None)
                elif symbol.name in defined and symbol.name not in problems:
                    problems[symbol.name] = {
                        "symbol": symbol.name,
                        "state": state,
                        "before": defined[symbol.name],
                        "stage": stage,
                    }
    return list(problems.values())


def _state(symbol: Symbol) -> str:
    if symbol.section == SHN_UNDEF:
        return "undefined"
    return "absolute zero" if symbol.section == SHN_ABS and symbol.value == 0 else "defined"


def _lost_accesses(image: Image) -> Iterator[dict[str, object]]:
    """Counting instructions that address page zero; a per-CPU variable may well be there."""
    for section in image.loaded:
        if section.kind == SHT_NOBITS or not section.flags & SHF_EXECINSTR:
            continue
        end = min(section.offset + section.size, len(image.data))
        if section.offset >= end:
            continue
        for match in _COUNT.finditer(image.data, section.offset, end):
            after = match.end() + len(match["byte"] or match["mask"] or match["word"] or b"")
            (displacement,) = struct.unpack("<i", match["displacement"])
            target = (section.address + after - section.offset + displacement) % (1 << 64)
            if target >= PAGE or _GS in image.data[max(0, match.start() - 3) : match.start()]:
                continue
            address = section.address + match.start() - section.offset
            if place := image.locate(address):
                opcode = match["name"][1] if match["name"][0] in {0x48, 0x4C} else match["name"][0]
                yield {
                    "function": place[0],
                    "offset": place[1],
                    "instruction": _INSTRUCTIONS[opcode],
                    "operand": place[1] + match.start("displacement") - match.start(),
                    "symbol": None,
                }


def _name_operands(accesses: list[dict[str, Any]], paths: Sequence[str]) -> None:
    """Ask the relocations of the first stage that has any what the operands were to be."""
    for path in paths:
        with Image(path) as image:
            if not accesses or not image.is_relocatable:
                continue
            functions = {one["function"] for one in accesses}
            homes = {one.name: one for one in image.named(functions)}
            relocations = image.relocations_of({home.section for home in homes.values()})
            for access in accesses:
                home = homes.get(access["function"])
                if home is not None and home.section in relocations:
                    place = home.value + access["operand"]
                    access["symbol"] = image.relocated(relocations[home.section], place)
            return


def main(arguments: list[str]) -> int:
    """Audit the stages; what is wrong with one goes to standard error, with status 1."""
    try:
        json.dump(audit(arguments), sys.stdout)
    except (ImageError, OSError, ValueError, IndexError) as error:
        sys.stderr.write(f"lostcounters: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
