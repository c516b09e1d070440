# SPDX-License-Identifier: GPL-2.0-or-later
"""What an image says of the order in which it starts, made by real clang and lld."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from kwatch.remote.callgraph import calls
from kwatch.remote.elf import Image

if TYPE_CHECKING:
    from pathlib import Path

# As init/main.c goes, with two tables of initcalls.
SOURCE = """
#define INIT __attribute__((section(".init.text"), noinline))
#define LATER __attribute__((noinline))
#define INITCALL(function, table) \\
    __asm__(".section .initcall" #table ",\\"a\\"\\n.long " #function " - .\\n.previous");
volatile long state;
extern const int __initcall_start[], __initcall0_start[], __initcall_end[];
LATER void rarely(void) { state = 1; }
LATER void once(void) { state = 2; rarely(); }
LATER void often(void) { state = 3; rarely(); }
static INIT __attribute__((used)) int early(void) { state = 4; return 0; }
static INIT __attribute__((used)) int late(void) { state = 5; once(); return 0; }
INITCALL(early, 0early) INITCALL(late, 1)
INIT int do_one_initcall(const int *entry) {
    return ((int (*)(void))((long)entry + *entry))() + (int)state; }
static INIT void do_pre_smp_initcalls(void) {
    for (const int *one = __initcall_start; one < __initcall0_start; one++) do_one_initcall(one); }
static INIT void do_initcalls(void) {
    for (const int *one = __initcall0_start; one < __initcall_end; one++) do_one_initcall(one);
    state = 6; }
static INIT void smp(void) { state = 7; often(); }
INIT void start_kernel(void) { often(); do_pre_smp_initcalls(); smp(); do_initcalls();
    for (;;) ; }
"""
SCRIPT = """
ENTRY(start_kernel)
SECTIONS { . = 0xffffffff81000000; .text : { *(.text) } .init.text : { *(.init.text) }
  .init.data : { __initcall_start = .; *(.initcall0early) __initcall0_start = .; *(.initcall1)
    __initcall_end = .; } .data : { *(.data) *(.bss) } }
"""


def hashed(name: str) -> int:
    return int.from_bytes(hashlib.md5(name.encode(), usedforsecurity=False).digest()[:8], "little")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("image")
    (folder / "main.c").write_text(SOURCE)
    (folder / "script").write_text(SCRIPT)
    for argv in (
        ["clang-22", "-O2", "-fno-pic", "-mcmodel=kernel", "-c", "main.c", "-o", "main.o"],
        ["ld.lld-22", "-static", "-T", "script", "main.o", "-o", "vmlinux"],
    ):
        subprocess.run(argv, check=True, capture_output=True, cwd=folder)
    return folder / "vmlinux"


def test_initcalls_are_called_by_what_runs_their_table(image: Path) -> None:
    with Image(str(image)) as opened:
        found = calls(opened, ["start_kernel"], [])
    assert found["start_kernel"] == [
        "often", "main.c:do_pre_smp_initcalls", "main.c:smp", "main.c:do_initcalls",
    ]  # fmt: skip
    assert found["main.c:do_pre_smp_initcalls"] == ["do_one_initcall", "main.c:early"]
    assert found["main.c:do_initcalls"] == ["do_one_initcall", "main.c:late"]
    # What is not of the section .init.text may run at any time.
    assert "often" not in found
    assert "once" not in found


@pytest.mark.parametrize("name", ["once", "often"])
def test_what_runs_once_is_followed(image: Path, name: str) -> None:
    with Image(str(image)) as opened:
        found = calls(opened, ["start_kernel"], [hashed(name)])
    assert found[name] == ["rarely"]
    assert "rarely" not in found


def test_a_root_that_is_not_there_is_none(image: Path) -> None:
    with Image(str(image)) as opened:
        assert calls(opened, ["x86_64_start_kernel"], []) == {}


def test_it_is_a_program_too(image: Path) -> None:
    request = json.dumps({"roots": ["start_kernel"], "once": [hashed("once")]})
    argv = [sys.executable, "-m", "kwatch.remote.callgraph", str(image)]
    done = subprocess.run(argv, input=request, capture_output=True, check=True, text=True)
    assert "rarely" in json.loads(done.stdout)["once"]
    argv[-1] = str(image.with_name("script"))
    done = subprocess.run(argv, input=request, capture_output=True, check=False, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert "no 64-bit little endian ELF file" in done.stderr
