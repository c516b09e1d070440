# SPDX-License-Identifier: GPL-2.0-or-later
"""What a kernel image says of addresses, symbols and bytes.

Hosts run this file beside images that are too large to travel, so it needs nothing but Python.
``python3 -m kwatch.remote.elf IMAGE`` reads a request from standard input and writes the answer,
both as JSON, see :func:`answer`. Images are hostile: what does not fit their own size is an
:class:`ImageError`. Format: System V ABI, ELF-64, little endian.
"""

from __future__ import annotations

import json
import mmap
import re
import struct
import sys
from bisect import bisect_right
from functools import cached_property
from heapq import nlargest
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

SHT_SYMTAB, SHT_RELA, SHT_NOBITS, SHT_SYMTAB_SHNDX = 2, 4, 8, 18
SHF_ALLOC, SHF_EXECINSTR = 2, 4
EM_X86_64, EM_AARCH64 = 62, 183
SHN_UNDEF, SHN_ABS, SHN_XINDEX = 0, 0xFFF1, 0xFFFF
STT_FUNC, STT_SECTION, STT_FILE = 2, 3, 4
KASLR_ALIGN = 1 << 21
# A kernel moves by up to a gigabyte.
KASLR_MOVES = range(-512 * KASLR_ALIGN, 512 * KASLR_ALIGN, KASLR_ALIGN)
# Return addresses of one move that are no chance.
CERTAIN = 4
LONGEST_NAME = 1024
MAX_SECTIONS = 20_000_000


# name, kind, flags, address, offset, size, link, info, alignment, entry size
_SYMBOL = "<IBBHQQ"
_HEADER = struct.Struct("<IIQQQQIIQQ")
HEADER = _HEADER.size
# Only the kind of a section, its kind and info, and only the place of a symbol's name.
_KIND, _KIND_AND_INFO, _NAME = "<4xI56x", "<4xI36xI16x", "<I20x"
WINDOW = 1 << 24
ROWS = 1 << 15  # of a table that are looked at at once
FEW_NAMES = 16
ET_REL = 1


class ImageError(Exception):
    """The file is no ELF image of a 64-bit kernel, or a damaged one."""


class Section(NamedTuple):
    """One section; ``offset`` and ``size`` are of the file."""

    number: int
    kind: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int


class Symbol(NamedTuple):
    """One symbol; ``section`` is its number, SHN_UNDEF or SHN_ABS, ``file`` that of a local one."""

    name: str
    kind: int
    section: int
    value: int
    size: int
    file: str


class Image:
    """An ELF file in memory. Use as a context manager."""

    def __init__(self, path: str) -> None:
        with Path(path).open("rb") as file:
            try:
                self.data = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
            except ValueError as error:
                raise ImageError(f"{path} is empty") from error
        if self.data[:6] != b"\x7fELF\x02\x01":
            raise ImageError(f"{path} is no 64-bit little endian ELF file")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.data.close()

    @cached_property
    def machine(self) -> int:
        """The architecture, as ELF's e_machine."""
        (machine,) = self._unpack("<H", 0x12)
        return int(machine)

    def _unpack(self, layout: str, offset: int) -> tuple[Any, ...]:
        try:
            return struct.unpack_from(layout, self.data, offset)
        except struct.error as error:
            raise ImageError(f"the image ends before byte {offset}") from error

    @cached_property
    def _headers(self) -> tuple[int, int]:
        """Where the table of sections is, and how many there are.

        An instrumented vmlinux.o has a million, so nothing here makes a list of them all.
        """
        (table,) = self._unpack("<Q", 0x28)
        size, count = self._unpack("<HH", 0x3A)
        if count == 0:
            # More than 65279: the first one's size says how many.
            (count,) = self._unpack("<Q", table + 32)
        if not 0 < count <= MAX_SECTIONS or size != HEADER or table + size * count > len(self.data):
            raise ImageError("the table of sections is damaged")
        return table, count

    def section(self, number: int) -> Section:
        """The section with this number."""
        table, count = self._headers
        if not number < count:
            raise ImageError(f"there is no section {number}")
        row = self._unpack(_HEADER.format, table + HEADER * number)
        return Section(number, row[1], row[2], row[3], row[4], row[5], row[6], row[7])

    def sections(self, kind: int) -> Iterator[Section]:
        """All sections of one kind."""
        table, count = self._headers
        rows = self._rows(_KIND, table, HEADER * count)
        for number, (found,) in enumerate(rows):
            if found == kind:
                yield self.section(number)

    def _rows(self, layout: str, start: int, size: int) -> Iterator[tuple[Any, ...]]:
        """The rows of a table, of which little stays in memory at a time."""
        step = struct.calcsize(layout) * ROWS
        for at in range(start, start + size, step):
            end = min(at + step, start + size)
            yield from struct.iter_unpack(layout, self.data[at:end])
            self._let_go(at, end)

    def _let_go(self, start: int, end: int) -> None:
        """Take a part of the file out of our memory until it is read again."""
        start -= start % mmap.PAGESIZE
        end = min(end, len(self.data))
        if hasattr(mmap, "MADV_DONTNEED") and start < end:
            self.data.madvise(mmap.MADV_DONTNEED, start, end - start)

    @cached_property
    def is_relocatable(self) -> bool:
        """Whether it is an object, which has no addresses yet."""
        return bool(self._unpack("<H", 16) == (ET_REL,))

    @cached_property
    def _tables(self) -> tuple[list[Section], list[Section]]:
        """The tables of symbols, and those of their section numbers that do not fit into a row."""
        table, count = self._headers
        kinds: dict[int, list[Section]] = {SHT_SYMTAB: [], SHT_SYMTAB_SHNDX: []}
        for number, (kind,) in enumerate(self._rows(_KIND, table, HEADER * count)):
            if kind in kinds:
                kinds[kind].append(self.section(number))
        return kinds[SHT_SYMTAB], kinds[SHT_SYMTAB_SHNDX]

    def relocations_of(self, wanted: Collection[int]) -> dict[int, Section]:
        """The relocations of each of these sections that has any."""
        table, count = self._headers
        rows = self._rows(_KIND_AND_INFO, table, HEADER * count)
        return {
            info: self.section(number)
            for number, (kind, info) in enumerate(rows)
            if kind == SHT_RELA and info in wanted
        }

    @cached_property
    def loaded(self) -> list[Section]:
        """The sections of a linked image that are in memory, by their address."""
        table, count = self._headers
        found = [
            Section(number, *row[1:8])
            for number, row in enumerate(self._rows(_HEADER.format, table, HEADER * count))
            if row[2] & SHF_ALLOC and row[3]
        ]
        return sorted(found, key=lambda section: section.address)

    def _string(self, offset: int) -> str:
        end = self.data.find(b"\0", offset, offset + LONGEST_NAME)
        return self.data[offset : end if end >= 0 else offset + LONGEST_NAME].decode(
            "utf-8", "replace"
        )

    def symbols(self, homes: Collection[int] | None = None) -> Iterator[Symbol]:
        """All symbols of the symbol table, but for those of sections and files.

        With ``homes`` only those of these sections, which is cheaper: no other's name is read.
        """
        for section in self._tables[0]:
            strings = self.section(section.link)
            rows = self._rows(_SYMBOL, section.offset, self._size_of(section))
            file = ""
            for place, row in enumerate(rows):
                if row[1] & 15 == STT_FILE:
                    file = self._string(strings.offset + row[0])
                if not row[0] or row[1] & 15 in {STT_SECTION, STT_FILE}:
                    continue
                if homes is None or row[3] in homes or row[3] == SHN_XINDEX:
                    yield self._symbol(strings.offset, place, row, file)
                if place % ROWS == 0:
                    self._let_go(strings.offset, strings.offset + strings.size)

    def named(self, names: Collection[str]) -> Iterator[Symbol]:
        """The symbols with one of these names; a few are found without reading all others.

        Then nobody knows which file they are of.
        """
        if len(names) > FEW_NAMES:
            yield from (one for one in self.symbols() if one.name in names)
            return
        for section in self._tables[0]:
            strings = self.section(section.link)
            places = self._places(strings, names)
            rows = self._rows(_NAME, section.offset, self._size_of(section))
            for place, (name,) in enumerate(rows):
                if name in places:
                    row = self._unpack(_SYMBOL, section.offset + 24 * place)
                    if row[1] & 15 not in {STT_SECTION, STT_FILE}:
                        yield self._symbol(strings.offset, place, row, "")

    def _symbol(self, strings: int, place: int, row: tuple[Any, ...], file: str) -> Symbol:
        name, info, _, index, value, size = row
        if index == SHN_XINDEX and self._tables[1]:
            (index,) = self._unpack("<I", self._tables[1][0].offset + 4 * place)
        home = "" if info >> 4 else file
        return Symbol(self._string(strings + name), info & 15, index, value, size, home)

    def _places(self, strings: Section, names: Collection[str]) -> set[int]:
        """Where each name stands among the strings, also as the end of a longer one."""
        found = set()
        start, end = strings.offset, min(strings.offset + strings.size, len(self.data))
        for name in names:
            word = name.encode() + b"\0"
            for at in range(start, end, WINDOW):
                # A name that lies across the border is found from the window it begins in.
                last = min(at + WINDOW + len(word) - 1, end)
                place = self.data.find(word, at, last)
                while place >= 0:
                    found.add(place - start)
                    place = self.data.find(word, place + 1, last)
                self._let_go(at, last)
        return found

    def _size_of(self, section: Section) -> int:
        """The bytes of a table with 24-byte rows: symbols or relocations."""
        size = section.size - section.size % 24
        if section.offset + size > len(self.data):
            raise ImageError("a table is cut off")
        return size

    @cached_property
    def _table(self) -> tuple[list[int], list[str]]:
        """The addresses of everything that is loaded, sorted, and the names there."""
        homes = {section.number for section in self.loaded}
        found = sorted(
            (symbol.value, symbol.kind != STT_FUNC, symbol.name)
            for symbol in self.symbols(homes)
            if symbol.section in homes and not symbol.name.startswith(("__pfx_", ".L"))
        )
        addresses: list[int] = []
        names: list[str] = []
        for address, _, name in found:
            # A function's name goes before a label at the same place.
            if not addresses or addresses[-1] != address:
                addresses.append(address)
                names.append(name)
        return addresses, names

    def locate(self, address: int) -> tuple[str, int] | None:
        """The symbol that holds ``address``, and how far in; None outside of the image."""
        if self.section_at(address) is None:
            return None
        addresses, names = self._table
        place = bisect_right(addresses, address) - 1
        return (names[place], address - addresses[place]) if place >= 0 else None

    def section_at(self, address: int) -> Section | None:
        """The loaded section that holds ``address``."""
        return next((one for one in self.loaded if 0 <= address - one.address < one.size), None)

    def read(self, address: int, size: int) -> bytes:
        """Bytes at ``address`` as the linker wrote them; fewer at the end of a section."""
        section = self.section_at(address)
        if section is None or section.kind == SHT_NOBITS:
            return b""
        start = section.offset + address - section.address
        return self.data[start : min(start + size, section.offset + section.size)]

    def is_code(self, address: int) -> bool:
        """Whether instructions stand there."""
        section = self.section_at(address)
        return section is not None and bool(section.flags & SHF_EXECINSTR)

    def follows_call(self, address: int) -> bool:
        """Whether ``address`` can be one that a call returns to."""
        if not self.is_code(address):
            return False
        if self.machine == EM_AARCH64:
            word = int.from_bytes(self.read(address - 4, 4), "little")
            return address % 4 == 0 and (word >> 26 == _BL or word & _REGISTER == _BLR)
        before = self.read(address - 7, 7)
        return len(before) == 7 and _CALL.search(before) is not None

    def relocated(self, relocations: Section, place: int) -> str | None:
        """The symbol that a relocation puts at ``place``, an offset into its section."""
        rows = self._rows("<QQq", relocations.offset, self._size_of(relocations))
        for offset, info, _ in rows:
            if offset == place:
                return self._name_of(self.section(relocations.link), info >> 32)
        return None

    def _name_of(self, table: Section, number: int) -> str:
        """A symbol's name, or that of its section where it has none of its own."""
        name, _, _, index, _, _ = self._unpack(_SYMBOL, table.offset + 24 * number)
        if name:
            return self._string(self.section(table.link).offset + name)
        if index == SHN_XINDEX:
            for numbers in self._tables[1]:
                (index,) = self._unpack("<I", numbers.offset + 4 * number)
        return self._section_name(index)

    def name_of(self, section: Section) -> str:
        """A section's name."""
        return self._section_name(section.number)

    def _section_name(self, number: int) -> str:
        header, _ = self._headers
        (names,) = self._unpack("<H", 0x3E)
        if names == SHN_XINDEX:
            names = self.section(0).link
        (name,) = self._unpack("<I", header + HEADER * number)
        return self._string(self.section(names).offset + name)

    def moved_by(self, address: int, found: bytes) -> int | None:
        """How far KASLR moved an image in which ``found`` stands at ``address``; None: not ours.

        Bytes that the kernel patched itself make no match, so the caller tries several places.
        """
        for move in KASLR_MOVES:
            if found and self.read(address - move, len(found)) == found:
                return move
        return None

    def moved_with(self, words: Iterable[int]) -> int | None:
        """The same by the words of stacks, of which some are addresses that calls return to.

        A kernel that moves changes the addresses in its own code, which then may match nowhere.
        """
        code = [one for one in self.loaded if one.flags & SHF_EXECINSTR]
        reach = range(
            min((one.address for one in code), default=0) + KASLR_MOVES[0],
            max((one.address + one.size for one in code), default=0) + KASLR_MOVES[-1],
        )
        near = {word for word in words if word in reach}
        votes = [(sum(self.follows_call(one - move) for one in near), move) for move in KASLR_MOVES]
        best, second = nlargest(2, votes)
        return best[1] if best[0] >= max(CERTAIN, 2 * second[0]) else None


# bl; blr with the bits of its register cleared.
_BL, _BLR, _REGISTER = 0b100101, 0xD63F0000, ~(31 << 5)
# call rel32; call *disp(%rip) and its like; call *%reg.
_CALL = re.compile(
    rb"(?:\xe8....|\xff[\x15\x90-\x97]....|\xff[\x50-\x57].|\xff[\x10-\x17\xd0-\xd7]"
    rb"|\x41\xff[\xd0-\xd7])\Z",
    re.DOTALL,
)


def answer(image: Image, request: dict[str, Any]) -> dict[str, Any]:
    """Answer all questions of a request; each part may be left out.

    ``prints``: [address, hex] of places, to tell by how far the image was moved -> ``moved_by``.
    All other addresses are of the running kernel, and so are those of the answers.
    ``locate``: addresses -> [symbol, offset] or null. ``stacks``: lists of words -> for each the
    ``returns``, which are [position, symbol, offset] of return addresses, and the positions of all
    that is ``code``. ``symbols``: names -> address and size.
    ``sections``: the same of sections. ``read``: [address, size] -> hex.
    """
    moved = None
    for address, found in request.get("prints", ()):
        moved = image.moved_by(address, bytes.fromhex(found))
        if moved is not None:
            break
    else:
        moved = image.moved_with(word for words in request.get("stacks", ()) for word in words)
    move = moved or 0
    wanted = set(request.get("symbols", ()))
    return {
        "moved_by": moved,
        "locate": [image.locate(address - move) for address in request.get("locate", ())],
        "stacks": [_stack(image, words, move) for words in request.get("stacks", ())],
        "symbols": {
            one.name: [one.value + move, one.size]
            for one in (image.symbols() if wanted else ())
            if one.name in wanted and one.section != SHN_UNDEF
        },
        "sections": {
            name: [one.address + move, one.size]
            for one in (image.loaded if request.get("sections") else ())
            if (name := image.name_of(one)) in request["sections"]
        },
        "read": [image.read(at - move, size).hex() for at, size in request.get("read", ())],
    }


def _stack(image: Image, words: Sequence[int], move: int) -> dict[str, object]:
    found: list[list[object]] = []
    code = [at for at, word in enumerate(words) if image.is_code(word - move)]
    for at in code:
        # What the call was made from: the next instruction may be another function's.
        address = words[at] - move
        if image.follows_call(address) and (place := image.locate(address - 1)):
            found.append([at, place[0], place[1] + 1])
    return {"returns": found, "code": code}


def main(arguments: list[str]) -> int:
    """Answer one request; what is wrong with the image goes to standard error, with status 1."""
    try:
        with Image(arguments[0]) as image:
            json.dump(answer(image, json.load(sys.stdin)), sys.stdout)
    except (ImageError, OSError, ValueError, IndexError) as error:
        sys.stderr.write(f"elf: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
