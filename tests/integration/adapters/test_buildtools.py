# SPDX-License-Identifier: GPL-2.0-or-later
"""Real compilers and linkers of this machine, identified as a build host identifies them."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kwatch.adapters.host.host import Host
from kwatch.adapters.kernel.buildtools import CACHE, identify
from kwatch.domain.lab.host import HostSpec, Slot
from kwatch.domain.recipe.toolchain import Environment, Program, Toolchain
from kwatch.errors import InfraError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TOOLCHAIN = Toolchain(
    name="llvm-22",
    llvm_suffix="-22",
    compiler="clang-22",
    linker_objects="ld.bfd",
    linker="ld.lld-22",
)


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    spec = HostSpec(
        name="here", directory=str(tmp_path / "host"), arch="x86_64", slots={Slot.BUILD: 1}
    )
    async with Host(spec) as found:
        yield found


async def environment(host: Host, **changes: str) -> Environment:
    _, found = await identify(host, replace(TOOLCHAIN, **changes))
    return found


async def test_every_program_of_a_build_is_identified(host: Host) -> None:
    versions, found = await identify(host, TOOLCHAIN)
    assert versions.compiler.program is Program.CLANG
    assert versions.linker_objects.program is Program.BFD
    assert versions.linker.program is Program.LLD
    parts = {part.name: part for part in found.parts}
    assert list(parts) == [
        "compiler", "linker of vmlinux.o", "linker of vmlinux", "llvm-ar", "llvm-nm",
        "llvm-objcopy", "llvm-objdump", "llvm-readelf", "llvm-strip",
    ]  # fmt: skip
    assert "22." in parts["llvm-nm"].version
    assert len({part.content for part in found.parts}) >= 5
    if shutil.which("dpkg-query"):
        assert parts["compiler"].package.startswith("clang-22 1:22.")
        assert parts["linker of vmlinux"].package.startswith("lld-22 1:22.")
        assert parts["linker of vmlinux.o"].package.startswith("binutils")


async def test_what_is_known_is_not_read_again(host: Host) -> None:
    first = await environment(host)
    cache = Path(await host.account.path(CACHE))
    before = cache.stat()
    assert await environment(host) == first
    assert cache.stat() == before
    for damage in (b"", b'{"content', b"[]", b"\xff", cache.read_bytes()[:-10]):
        cache.write_bytes(damage)
        assert await environment(host) == first
    assert sorted(path.name for path in cache.parent.glob("*buildtools*")) == [CACHE]


def program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n# {text}\necho 'LLD 22.1.0 (compatible with GNU linkers)'\n")
    path.chmod(0o755)


async def test_another_program_of_the_same_version_is_another_environment(
    host: Host, tmp_path: Path
) -> None:
    linker = tmp_path / "ld.lld"
    program(linker, "one")
    before = linker.stat()
    first = await environment(host, linker=str(linker))
    program(linker, "two")
    # As packages have it that are built in the same way.
    os.utime(linker, ns=(before.st_atime_ns, before.st_mtime_ns))
    second = await environment(host, linker=str(linker))
    assert [one.version for one in first.parts] == [one.version for one in second.parts]
    assert first.digest != second.digest
    program(linker, "one")
    assert await environment(host, linker=str(linker)) == first


async def test_a_library_of_the_compiler_is_part_of_it(host: Host, tmp_path: Path) -> None:
    linker, library = tmp_path / "ld.lld", tmp_path / "libLLVM.so.22"

    def made(answer: int) -> None:
        compile_ = ["clang-22", "-x", "c", "-", "-o"]
        subprocess.run(
            [*compile_, library, "-shared", "-fPIC"],
            input=f"int answer(void) {{ return {answer}; }}", text=True, check=True,
        )  # fmt: skip

    made(1)
    subprocess.run(
        ["clang-22", "-x", "c", "-", "-o", linker, f"-Wl,-rpath,{tmp_path}", f"-L{tmp_path}",
         "-l:libLLVM.so.22"],
        input='int puts(const char *); int answer(void);\n'
        'int main(void) { puts("LLD 22.1.0"); return !answer(); }',
        text=True, check=True,
    )  # fmt: skip
    first = await environment(host, linker=str(linker))
    made(2)
    assert (await environment(host, linker=str(linker))).digest != first.digest
    made(1)
    assert await environment(host, linker=str(linker)) == first


async def test_a_program_that_does_not_run_is_the_labs_fault(host: Host, tmp_path: Path) -> None:
    broken = tmp_path / "clang"
    broken.write_text("#!/bin/sh\necho >&2 'libLLVM.so.22: cannot open shared object'\nexit 127\n")
    broken.chmod(0o755)
    with pytest.raises(InfraError, match=r"here: \S+ does not run .*cannot open.*install") as one:
        await environment(host, compiler=str(broken))
    assert one.value.host == "here"
    with pytest.raises(InfraError, match=r"here: ld\.nothing does not run \(not found in /usr"):
        await environment(host, linker_objects="ld.nothing")


async def test_it_is_the_program_that_the_sandbox_finds(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = await environment(host)
    program(tmp_path / "ld.lld-22", "of the user")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert await environment(host) == expected


async def test_tools_of_llvm_that_are_missing_are_left_out(host: Host) -> None:
    found = await environment(host, llvm_suffix="-99")
    assert [part.name for part in found.parts] == [
        "compiler", "linker of vmlinux.o", "linker of vmlinux",
    ]  # fmt: skip
