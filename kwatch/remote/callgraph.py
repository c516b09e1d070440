# SPDX-License-Identifier: GPL-2.0-or-later
"""Which functions a kernel calls on its way up, in the order of its code.

Like elf.py a file that hosts run beside an image: ``python3 -m kwatch.remote.callgraph IMAGE``
reads {roots, once} from standard input and writes the calls, both as JSON, see :func:`calls`.
x86-64.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
import sys
from typing import TYPE_CHECKING, NamedTuple

from kwatch.remote.elf import STT_FUNC, Image, ImageError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

MAX_FUNCTIONS = 50_000
LONGEST_FUNCTION = 1 << 16
# call and jmp to an address relative to the next instruction; found at each byte, for nothing here
# knows where instructions begin. One that leads to a function's very first byte is hardly chance.
_CALL = re.compile(rb"(?=[\xe8\xe9](?P<far>.{4})|\xeb(?P<near>.))", re.DOTALL)
_INIT = ".init.text"
# init/main.c: do_one_initcall() is given the entries of a table by two of its callers, of which the
# first may be a part of its own caller.
_INITCALL = "do_one_initcall"
_BEFORE_SMP = "do_pre_smp_initcalls"


class _Function(NamedTuple):
    """``name`` is the profile's: a static function has its file in front, ``main.c:init``."""

    name: str
    address: int
    size: int
    is_init: bool


def calls(image: Image, roots: Sequence[str], once: Collection[int]) -> dict[str, list[str]]:
    """The functions that each one calls, in the order of its code, callers before callees.

    Begins at ``roots`` and goes on in functions that run once: those of the section .init.text, and
    those the hashes of whose names are in ``once``. Initcalls are called by what runs their table.
    """
    functions = {one.address: one for one in _functions(image)}
    named = {one.name: one for one in functions.values()}
    plain = {one.name.rpartition(":")[2]: one for one in functions.values()}
    initcalls = _Initcalls(image, functions, has_own_caller=_BEFORE_SMP in plain)
    found: dict[str, list[str]] = {}
    wanted = set(once)
    waiting = [named[name] for name in reversed(roots) if name in named]
    while waiting and len(found) < MAX_FUNCTIONS:
        one = waiting.pop()
        if one.name in found:
            continue
        callees: list[_Function] = []
        for callee in _callees(image, one, functions):
            callees.append(callee)
            if callee.name == _INITCALL:
                callees += initcalls.of(one)
        found[one.name] = list(dict.fromkeys(callee.name for callee in callees))
        waiting += [
            callee for callee in reversed(callees) if callee.is_init or _hashes(callee) & wanted
        ]
    return found


def _functions(image: Image) -> Iterator[_Function]:
    homes = {one.number: image.name_of(one) == _INIT for one in image.loaded}
    for symbol in image.symbols():
        if symbol.kind == STT_FUNC and symbol.section in homes:
            name = f"{symbol.file}:{symbol.name}" if symbol.file else symbol.name
            yield _Function(name, symbol.value, symbol.size, homes[symbol.section])


def _callees(image: Image, one: _Function, functions: dict[int, _Function]) -> Iterator[_Function]:
    code = image.read(one.address, min(one.size, LONGEST_FUNCTION))
    for match in _CALL.finditer(code):
        kind = match.lastgroup or "far"
        distance = int.from_bytes(match[kind], "little", signed=True)
        callee = functions.get(one.address + match.end(kind) + distance)
        if callee is not None and callee is not one:
            yield callee


class _Initcalls:
    """The table of initcalls: 32-bit distances to functions (include/linux/init.h)."""

    def __init__(
        self, image: Image, functions: dict[int, _Function], *, has_own_caller: bool
    ) -> None:
        self._image = image
        self._functions = functions
        self._has_own_caller = has_own_caller
        wanted = {"__initcall_start", "__initcall0_start", "__initcall_end"}
        self._places = {one.name: one.value for one in image.symbols() if one.name in wanted}
        self._is_late = False

    def of(self, caller: _Function) -> list[_Function]:
        """What ``caller`` runs: the early ones at the first time, then all others."""
        is_early = caller.name.endswith(_BEFORE_SMP) if self._has_own_caller else not self._is_late
        self._is_late = True
        first, last = "__initcall0_start", "__initcall_end"
        if is_early:
            first, last = "__initcall_start", "__initcall0_start"
        begin, end = self._places.get(first, 0), self._places.get(last, 0)
        table = self._image.read(begin, max(0, end - begin))
        entries = [
            begin + 4 * number + distance
            for number, (distance,) in enumerate(struct.iter_unpack("<i", table[: len(table) & ~3]))
        ]
        return [self._functions[address] for address in entries if address in self._functions]


def _hashes(function: _Function) -> set[int]:
    """As a profile has them; LLVM has written both of these between file and function."""
    return {
        int.from_bytes(hashlib.md5(name.encode(), usedforsecurity=False).digest()[:8], "little")
        for name in (function.name, function.name.replace(":", ";", 1))
    }


def main(arguments: list[str]) -> int:
    """Answer one request; what is wrong with the image goes to standard error, with status 1."""
    try:
        request = json.load(sys.stdin)
        with Image(arguments[0]) as image:
            json.dump(calls(image, request["roots"], frozenset(request["once"])), sys.stdout)
    except (ImageError, OSError, ValueError, LookupError) as error:
        sys.stderr.write(f"callgraph: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
