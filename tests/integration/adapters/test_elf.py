# SPDX-License-Identifier: GPL-2.0-or-later
"""Images that real clang and lld made, sound ones and others."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kwatch.remote import elf
from kwatch.remote.elf import KASLR_ALIGN, Image, ImageError, answer
from kwatch.remote.linkaudit import audit

BASE = 0xFFFFFFFF81000000
SOURCE = """
long counted, other;
static volatile long state = 7;
__attribute__((noinline)) long leaf(long a) { return a * state; }
__attribute__((noinline)) long middle(long a) { return leaf(a) + 1; }
void _start(void) { other = middle(counted); for (;;) ; }
"""
# A counter as Clang makes it, and the instruction that counts in it.
COUNTS = """
    .globl begin
    .type begin, @function
begin:
    nop
    incq __profc_begin(%rip)
    orb $1, __profbm_begin(%rip)
    incq %gs:24(%rip)
    ret
    .size begin, . - begin
"""
DEFINED = """
    .section __llvm_prf_cnts, "aw"
    .weak __profc_begin
__profc_begin: .quad 0
    .weak __profbm_begin
__profbm_begin: .quad 0
"""


def run(*argv: str | Path) -> None:
    subprocess.run(argv, check=True, capture_output=True)


def linked(folder: Path, source: str) -> Path:
    """An image of this program where a kernel is."""
    (folder / "thing.c").write_text(source)
    run("clang-22", "-O1", "-fno-pic", "-mcmodel=kernel", "-fno-optimize-sibling-calls", "-c",
        folder / "thing.c", "-o", folder / "thing.o")  # fmt: skip
    run("ld.lld-22", f"--image-base={BASE:#x}", "-static", folder / "thing.o", "-o",
        folder / "vmlinux")  # fmt: skip
    return folder / "vmlinux"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return linked(tmp_path_factory.mktemp("image"), SOURCE)


def address(image: Path, name: str) -> int:
    with Image(str(image)) as opened:
        return next(one.value for one in opened.symbols() if one.name == name)


def test_an_address_is_found_in_its_function(image: Path) -> None:
    leaf = address(image, "leaf")
    with Image(str(image)) as opened:
        assert opened.locate(leaf) == ("leaf", 0)
        assert opened.locate(leaf + 3) == ("leaf", 3)
        assert opened.locate(address(image, "state") + 1) == ("state", 1)
        assert opened.locate(0x1000) is None
        assert opened.locate((1 << 64) - 1) is None
        assert opened.is_code(leaf)
        assert not opened.is_code(address(image, "state"))
        assert struct.unpack("<q", opened.read(address(image, "state"), 8)) == (7,)


def test_return_addresses_are_told_from_other_words_of_a_stack(image: Path) -> None:
    middle = address(image, "middle")
    with Image(str(image)) as opened:
        code = opened.read(middle, 64)
        after_call = middle + code.index(b"\xe8") + 5
        words = [0, 17, middle, after_call, address(image, "state"), (1 << 64) - 1]
        (stack,) = answer(opened, {"stacks": [words]})["stacks"]
    assert stack == {"returns": [[3, "middle", after_call - middle]], "code": [2, 3]}


def test_return_addresses_of_arm64(tmp_path: Path) -> None:
    (tmp_path / "thing.c").write_text(SOURCE)
    run("clang-22", "--target=aarch64-linux-gnu", "-O1", "-fno-pic",
        "-fno-optimize-sibling-calls", "-c", tmp_path / "thing.c",
        "-o", tmp_path / "o")  # fmt: skip
    run("ld.lld-22", "--image-base=0xffff800080000000", tmp_path / "o", "-o", tmp_path / "vmlinux")
    middle = address(tmp_path / "vmlinux", "middle")
    with Image(str(tmp_path / "vmlinux")) as opened:
        code = [word for (word,) in struct.iter_unpack("<I", opened.read(middle, 24))]
        after_call = middle + 4 * next(at for at, one in enumerate(code) if one >> 26 == 0x25) + 4
        words = [0, middle, after_call, after_call + 1, after_call + 4, (1 << 64) - 1]
        (stack,) = answer(opened, {"stacks": [words]})["stacks"]
    assert stack["returns"] == [[2, "middle", after_call - middle]]
    assert audit([str(tmp_path / "vmlinux")]) == {"symbols": [], "accesses": [], "more": 0}


@pytest.mark.parametrize("step", [0, 1, 17, 511, -3])
def test_a_moved_image_is_recognized_by_its_code(image: Path, step: int) -> None:
    middle = address(image, "middle")
    moved = middle + step * KASLR_ALIGN
    with Image(str(image)) as opened:
        request = {
            "prints": [[moved + 1, "00" * 16], [moved, opened.read(middle, 16).hex()]],
            "locate": [moved + 2],
            "symbols": ["leaf", "nowhere"],
            "read": [[moved, 4]],
        }
        found = answer(opened, request)
        assert found["moved_by"] == step * KASLR_ALIGN
        assert found["locate"] == [("middle", 2)]
        assert found["symbols"]["leaf"][0] == address(image, "leaf") + step * KASLR_ALIGN
        assert "nowhere" not in found["symbols"]
        assert found["read"] == [opened.read(middle, 4).hex()]
        assert answer(opened, {"prints": [[middle, "00" * 16]]})["moved_by"] is None


@pytest.mark.parametrize("step", [0, 17, 511, -512])
def test_a_moved_image_is_recognized_by_what_calls_return_to(tmp_path: Path, step: int) -> None:
    """Where it moved, the addresses in its code are others."""
    calls = "".join(f"void g{n}(void) {{ leaf(); state = {n}; }}" for n in range(9))
    image = linked(
        tmp_path,
        "long state; __attribute__((noinline)) void leaf(void) { state++; }"
        f"{calls} void _start(void) {{}}",
    )
    move = step * KASLR_ALIGN
    with Image(str(image)) as opened:
        functions = [address(image, f"g{n}") for n in range(9)]
        back = [one + offset for one in functions for offset in range(4, 32)
                if opened.follows_call(one + offset)]  # fmt: skip
        stack = [0, 17, functions[0] + move + 1, *(one + move for one in back), 1 << 63]
        prints = [[functions[0] + move, "90" * 16]]
        assert answer(opened, {"prints": prints, "stacks": [stack]})["moved_by"] == move
        assert answer(opened, {"prints": prints, "stacks": [stack[:6]]})["moved_by"] is None
        assert answer(opened, {"prints": prints, "stacks": []})["moved_by"] is None


def test_it_runs_on_a_host_without_kwatch(image: Path, tmp_path: Path) -> None:
    script = tmp_path / "elf.py"
    script.write_bytes(Path(elf.__file__).read_bytes())
    argv = [sys.executable, "-I", str(script)]
    asked = json.dumps({"locate": [address(image, "leaf")]})
    done = subprocess.run([*argv, image], input=asked, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["locate"] == [["leaf", 0]]
    done = subprocess.run([*argv, script], input=asked, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "is no 64-bit little endian ELF file" in done.stderr


def link(folder: Path, *assembly: str, options: tuple[str, ...] = ()) -> list[str]:
    """The stages of a link, as a kernel's: a relocatable object, then the image."""
    objects = []
    for number, text in enumerate(assembly):
        source = folder / f"{number}.s"
        source.write_text(text)
        run("clang-22", "-c", source, "-o", source.with_suffix(".o"))
        objects.append(source.with_suffix(".o"))
    run("ld.lld-22", "-r", *objects, "-o", folder / "vmlinux.o")
    # The image is made of the first object alone: the linker has lost the others.
    run("ld.lld-22", f"--image-base={BASE:#x}", "-e", "begin", *options, objects[0], "-o",
        folder / "vmlinux")  # fmt: skip
    return [str(folder / "vmlinux.o"), str(folder / "vmlinux")]


def test_a_counter_that_the_linker_lost_is_named_with_its_stage(tmp_path: Path) -> None:
    weak = "\n.weak __profc_begin\n.weak __profbm_begin\n"
    found = audit(link(tmp_path, COUNTS + weak, DEFINED))
    assert [(one["function"], one["offset"], one["instruction"], one["symbol"])
            for one in found["accesses"]] == [
        ("begin", 1, "incq", "__profc_begin"), ("begin", 8, "orb", "__profbm_begin"),
    ]  # fmt: skip
    assert {(one["symbol"], one["state"], one["before"], one["stage"])
            for one in found["symbols"]} <= {
        (name, "undefined", "vmlinux.o", "vmlinux")
        for name in ("__profc_begin", "__profbm_begin")
    }  # fmt: skip
    assert found["more"] == 0


def test_a_sound_image_has_nothing_to_tell_of(tmp_path: Path) -> None:
    stages = [str(tmp_path / "not-made"), *link(tmp_path, COUNTS + DEFINED)]
    assert audit(stages) == {"symbols": [], "accesses": [], "more": 0}


@given(st.data())
@settings(deadline=None, max_examples=150)
def test_a_damaged_image_is_refused_or_read(
    image: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    whole = bytearray(image.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, 0x40) | st.integers(0, len(whole) - 1))
        whole[at] = data.draw(st.integers(0, 255))
    del whole[data.draw(st.integers(1, len(whole))) :]
    damaged = tmp_path_factory.getbasetemp() / "damaged"
    damaged.write_bytes(whole)
    try:
        with Image(str(damaged)) as opened:
            answer(opened, {"locate": [BASE + 0x1000], "stacks": [[BASE]], "symbols": ["leaf"]})
        audit([str(damaged), str(damaged)])
    except ImageError:
        pass
