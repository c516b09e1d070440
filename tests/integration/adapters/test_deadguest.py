# SPDX-License-Identifier: GPL-2.0-or-later
"""A small kernel that goes silent in real QEMU, and what is found out about it."""

from __future__ import annotations

import asyncio
import contextlib
import platform
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kwatch.adapters.guest.deadguest import Memory, examine_guest
from kwatch.adapters.guest.qmp import Qmp, QmpError
from kwatch.adapters.host.host import Host
from kwatch.adapters.kernel.image import Image
from kwatch.domain.deadguest.autopsy import Machine
from kwatch.domain.lab.host import HostSpec
from tests.unit.domain.trials import TOOLCHAIN

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from kwatch.domain.deadguest.autopsy import Autopsy

TOY = Path(__file__).parents[2] / "lab/toy"


def build(folder: Path, option: str) -> Path:
    """A kernel with one fault planted."""
    folder.mkdir(exist_ok=True)
    (folder / ".config").write_text(f"CONFIG_{option}=y\n")
    for goals in (["olddefconfig"], ["bzImage", "vmlinux"]):
        argv = ["make", "-C", str(TOY), "LLVM=-22", f"O={folder}", *goals]
        subprocess.run(argv, check=True, capture_output=True, timeout=60)
    return folder


@contextlib.asynccontextmanager
async def machine(folder: Path, host: Host, *options: str) -> AsyncIterator[Qmp]:
    """A guest with the kernel in ``folder``, until it prints nothing any more."""
    (folder / "initrd").write_bytes(bytes(512))
    process = await asyncio.create_subprocess_exec(
        "qemu-system-x86_64", "-display", "none", "-nodefaults", "-no-reboot", "-accel", "tcg",
        "-cpu", "max", "-M", "q35", "-m", "128M", "-action", "shutdown=pause",
        "-serial", f"file:{folder}/console", "-qmp", f"unix:{folder}/qmp,server=on,wait=off",
        "-kernel", "arch/x86/boot/bzImage", "-initrd", "initrd",
        "-append", "console=ttyS0 panic=-1", *options, cwd=folder,
    )  # fmt: skip
    try:
        async with asyncio.timeout(10):
            while not (folder / "qmp").exists():
                await asyncio.sleep(0.02)
        async with Qmp(await host.account.connect_unix(str(folder / "qmp"))) as qmp:
            yield qmp
    finally:
        process.kill()
        await process.wait()


async def autopsy_of(folder: Path, option: str, state: Machine) -> Autopsy | None:
    kernel = build(folder / "kernel", option)
    spec = HostSpec(name="here", directory=str(folder / "host"), arch=platform.machine(), slots={})
    async with Host(spec) as host, machine(kernel, host) as qmp:
        await asyncio.sleep(1.5)
        await qmp.stop()
        image = Image(host, str(kernel / "vmlinux"), TOOLCHAIN)
        memory = Memory(qmp, host, str(kernel))
        remains = await examine_guest("x86_64", await qmp.vcpus(), memory, image, state)
        return remains.autopsy


async def test_a_guest_that_was_stopped_goes_on(tmp_path: Path) -> None:
    kernel = build(tmp_path / "kernel", "TOY_HANG")
    spec = HostSpec(name="here", directory=str(tmp_path / "host"), arch="x86_64", slots={})
    async with Host(spec) as host, machine(kernel, host) as qmp:
        await qmp.stop()
        assert (await qmp.execute("query-status"))["status"] == "paused"
        await qmp.go_on()
        assert (await qmp.execute("query-status"))["status"] == "running"


async def test_its_memory_can_be_kept(tmp_path: Path) -> None:
    kernel = build(tmp_path / "kernel", "TOY_SILENT")
    spec = HostSpec(name="here", directory=str(tmp_path / "host"), arch="x86_64", slots={})
    async with Host(spec) as host, machine(kernel, host) as qmp:
        await qmp.stop()
        await qmp.dump(str(tmp_path / "dump"), patience=60)
        with pytest.raises(QmpError, match=r"could not|No such file"):
            await qmp.dump(str(tmp_path / "nowhere" / "dump"), patience=60)
    assert (tmp_path / "dump").read_bytes().startswith(b"makedumpfile\0")
    assert (tmp_path / "dump").stat().st_size < 32 << 20


@pytest.mark.parametrize(
    ("option", "state", "cause", "function"),
    [("TOY_SILENT", Machine.SILENT, "halted with interrupts off in plant_early", "plant_early"),
     ("TOY_HANG", Machine.SILENT, "endless loop in spin_for_ever", "spin_for_ever"),
     ("TOY_TRIPLE_FAULT", Machine.OFF, "in plant_boot", "plant_boot")],
)  # fmt: skip
async def test_a_silent_guest_tells_where_it_is(
    tmp_path: Path, option: str, state: Machine, cause: str, function: str
) -> None:
    autopsy = await autopsy_of(tmp_path, option, state)
    assert autopsy is not None
    assert (autopsy.cause, autopsy.function) == (cause, function)
    assert any("start_kernel+0x" in line for line in autopsy.lines)
