# SPDX-License-Identifier: GPL-2.0-or-later
"""A real QEMU under TCG: the tiny guest, the control socket, and a hang told by registers."""

from __future__ import annotations

import asyncio
import contextlib
import platform
import shutil
import time
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kwatch import remote
from kwatch.adapters.guest.accelerator import TINY_GUESTS, Accelerators, probe_accelerators
from kwatch.adapters.guest.qemu import QMP, machine, run_spec
from kwatch.adapters.guest.qmp import Qmp, QmpError
from kwatch.adapters.guest.recording import Recording
from kwatch.adapters.guest.session import Session
from kwatch.adapters.host.fitness import try_guests
from kwatch.adapters.host.host import Host
from kwatch.domain.boot.care import BootProfile
from kwatch.domain.boot.ending import BootEnd
from kwatch.domain.boot.watch import End, QmpEvent, Sample, Watch
from kwatch.domain.lab.host import HostSpec, Slot
from kwatch.domain.recipe.arch import ARM64
from kwatch.domain.recipe.boot import Accelerator, BootRecipe
from kwatch.domain.run import RunSpec
from kwatch.errors import ConfigError, InfraError
from tests.lab.process import call

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from kwatch.adapters.host.transport import Duplex

PROFILE = BootProfile()
ARM = BootProfile(recipe=BootRecipe(arch="arm64", machine=ARM64.machine))
DISK = TINY_GUESTS["x86_64"].image

pytestmark = pytest.mark.skipif(
    not shutil.which("qemu-system-x86_64"), reason="qemu-system-x86_64 is not installed"
)


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    spec = HostSpec(name="here", directory=str(tmp_path), arch=platform.machine(), slots={})
    async with Host(spec) as found:
        yield found
        await found.runs.reap(())


def guest(disk: str, *options: str) -> RunSpec:
    argv = (
        *machine(PROFILE, Accelerator.TCG, memory_mib=64, cpus=1),
        "-drive", f"if=virtio,format=raw,readonly=on,file={disk}",
        "-qmp", f"unix:{QMP},server=on,wait=off", *options,
    )  # fmt: skip
    return RunSpec(argv=argv, deadline=30, limits={"console": 1 << 20, "log": 1 << 20})


@contextlib.asynccontextmanager
async def control(host: Host, run_id: str) -> AsyncIterator[Qmp]:
    path = Path(await host.runs.folder(run_id)) / QMP
    duplex = None
    async with asyncio.timeout(5):
        while duplex is None:
            # A socket is there a moment before it is listened to.
            with contextlib.suppress(InfraError):
                duplex = await host.account.connect_unix(str(path))
            await asyncio.sleep(0.02)
    async with Qmp(duplex) as qmp:
        yield qmp


async def test_a_tiny_guest_tells_whether_an_accelerator_works(host: Host) -> None:
    found = await probe_accelerators(host, PROFILE)
    assert found[Accelerator.TCG] is None
    reason = found[Accelerator.KVM]
    assert reason is None or reason.startswith(("QEMU ended by", "a tiny guest did not"))


async def test_a_guest_of_another_architecture_is_emulated(host: Host) -> None:
    assert await probe_accelerators(host, ARM) == {Accelerator.TCG: None}


async def test_a_host_is_tried_with_each_architecture_that_it_boots(tmp_path: Path) -> None:
    spec = HostSpec(
        name="here", directory=str(tmp_path), arch="x86_64", slots={Slot.BOOT: 1},
        accelerators=frozenset({"tcg"}), emulates=frozenset({"arm64"}),
    )  # fmt: skip
    async with Host(spec) as both:
        accelerators = Accelerators()
        assert await try_guests(both, accelerators) is None
        # Each was tried, and is not tried again.
        assert await accelerators.best(both, ARM) is Accelerator.TCG
        assert (await accelerators.tried(both, ARM)).keys() == {Accelerator.TCG}


async def test_a_cpu_that_does_not_exist_is_a_reason(host: Host) -> None:
    found = await probe_accelerators(host, BootProfile(recipe=BootRecipe(cpu="no-such-cpu")))
    assert "no-such-cpu" in str(found[Accelerator.TCG])


@pytest.mark.parametrize(
    ("arch", "target", "image"),
    [
        ("x86_64", "i386-linux-gnu", DISK[:512]),
        ("arm64", "aarch64-linux-gnu", TINY_GUESTS["arm64"].image),
    ],
)
async def test_the_tiny_guest_is_what_its_source_says(
    tmp_path: Path, arch: str, target: str, image: bytes
) -> None:
    source = resources.files(remote) / f"probe_{arch}.S"
    clang, objcopy = shutil.which("clang-22"), shutil.which("llvm-objcopy-22")
    if clang is None or objcopy is None:
        pytest.skip("clang-22 and llvm-objcopy-22 are not installed")
    await call([clang, f"--target={target}", "-c", str(source), "-o", str(tmp_path / "o")])
    await call([objcopy, "-O", "binary", "-j", ".text", str(tmp_path / "o"), str(tmp_path / "b")])
    assert (tmp_path / "b").read_bytes() == image


async def test_commands_events_and_registers(host: Host) -> None:
    await host.runs.start("r", guest(await host.cache.put_bytes(DISK), "-S"))
    async with control(host, "r") as qmp:
        assert (await qmp.execute("query-status"))["running"] is False
        (vcpu,) = await qmp.vcpus()
        assert (vcpu.rip, vcpu.halted, vcpu.interrupts_enabled) == (0xFFF0, False, False)
        with pytest.raises(QmpError, match="no-such-command"):
            await qmp.execute("no-such-command")
        await qmp.execute("cont")
        async with asyncio.timeout(10):
            event = await qmp.next_event()
            while event is not None and event.name != "SHUTDOWN":
                event = await qmp.next_event()
            assert event == QmpEvent(name="SHUTDOWN", reason="guest-reset")
            assert await qmp.next_event() is None
        with pytest.raises(QmpError):
            await qmp.execute("query-status")


async def test_a_machine_that_is_off_waits_for_whoever_comes_later(host: Host) -> None:
    disk = await host.cache.put_bytes(DISK)
    await host.runs.start("r", guest(disk, "-action", "shutdown=pause"))
    async with control(host, "r") as qmp, asyncio.timeout(10):
        while (await qmp.end()) is None:
            await asyncio.sleep(0.05)
    # The connection broke, and is made anew: the registers and the memory are still there.
    async with control(host, "r") as qmp, asyncio.timeout(10):
        assert await qmp.end() == QmpEvent(name="SHUTDOWN")
        assert await qmp.vcpus()
        saved = Path(await host.runs.folder("r")) / "memory"
        await qmp.save(0x7C00, 512, str(saved), cpu=0)
        assert saved.read_bytes() == DISK[:512]
        with pytest.raises(QmpError):
            await qmp.save(1 << 46, 512, str(saved), cpu=0)
        await qmp.quit()
        # It ends now, and says so once more.
        assert await qmp.next_event() == QmpEvent(name="SHUTDOWN", reason="host-qmp-quit")
        assert await qmp.next_event() is None


async def test_a_guest_that_is_halted_for_ever_is_a_hang_within_seconds(host: Host) -> None:
    # cli; hlt; and again, should anything wake it.
    sector = bytes.fromhex("faf4ebfd").ljust(510, b"\0") + b"\x55\xaa"
    await host.runs.start("r", guest(await host.cache.put_bytes(sector.ljust(1 << 20, b"\0"))))
    begin = time.monotonic()
    watch = Watch(PROFILE, Accelerator.TCG, begin)
    async with control(host, "r") as qmp, asyncio.timeout(15):
        while True:
            await asyncio.sleep(watch.next_wakeup(time.monotonic()) - time.monotonic())
            decision = watch.tick(time.monotonic())
            if isinstance(decision, Sample):
                decision = watch.receive_samples(await qmp.vcpus(), time.monotonic())
            if isinstance(decision, End):
                break
        await qmp.quit()
    assert decision.verdict.end is BootEnd.HANG
    assert decision.verdict.samples[-1][0].halted
    assert decision.verdict.took < 10


async def test_a_socket_that_nobody_serves(host: Host) -> None:
    await host.account.prepare()
    path = await host.account.path("run/s")

    async def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_unix_server(close, path):
        with pytest.raises(QmpError, match="closed"):
            async with Qmp(await host.account.connect_unix(path)):
                pass


def test_the_command_line() -> None:
    spec = run_spec(
        BootProfile(recipe=BootRecipe(memory_mib=2048, cpus=4, cmdline="kunit.enable=0")),
        Accelerator.KVM,
        kernel="/cache/k",
        initramfs="/cache/i",
    )
    line = " ".join(spec.argv)
    for part in ("-M q35", "-accel kvm -cpu host -m 2048M -smp 4", "-kernel /cache/k",
                 "-initrd /cache/i", "-qmp unix:qmp,server=on,wait=off", "-no-reboot"):  # fmt: skip
        assert part in line
    assert spec.argv[-1].endswith("panic=-1 nokaslr kunit.enable=0")
    assert line.index("path=console") < line.index("path=channel") < line.index("path=serial")
    assert "virtserialport,chardev=channel,name=org.kwatch.channel" in line
    assert {"console", "channel", "serial"} < spec.limits.keys()
    assert spec.deadline > 1200
    with pytest.raises(ConfigError, match="riscv64"):
        run_spec(
            BootProfile(recipe=BootRecipe(arch="riscv64")), Accelerator.TCG, kernel="", initramfs=""
        )


async def test_a_control_socket_that_never_comes_is_not_hammered(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[float] = []
    connect = host.account.connect_unix

    async def counted(path: str) -> Duplex:
        tried.append(time.monotonic())
        return await connect(path)

    monkeypatch.setattr(host.account, "connect_unix", counted)
    with Recording(folder=tmp_path / "heard") as heard:
        session = Session(
            host, profile=PROFILE, accelerator=Accelerator.TCG, heard=heard, image=None, usual={}
        )
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(3.5):
                await session._converse("run/none", asyncio.Queue(), asyncio.Event())
    # At first at once, for the socket is there a moment after the start; then less and less often.
    assert tried[1] - tried[0] < 0.5
    assert 4 <= len(tried) <= 8
