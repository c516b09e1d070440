# SPDX-License-Identifier: GPL-2.0-or-later
"""The boot stage on this machine: real QEMU and the toy kernel, in sources that differ or not."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from kwatch.adapters.guest.environment import identify
from kwatch.adapters.host.host import Host
from kwatch.domain.boot.ending import BootEnd
from kwatch.domain.facts import EnvironmentGone
from kwatch.domain.finding import Finding, FindingKind
from kwatch.domain.lab.host import Health
from kwatch.domain.lab.job import JobKind
from kwatch.domain.milestone import Milestone
from kwatch.domain.trial.case_results import case_fingerprint
from kwatch.domain.trial.route import Outcome
from kwatch.domain.trial.trial import Sample
from kwatch.store import findings, steps, trials
from tests.integration.stages.jobs import keep, next_of, queued
from tests.lab.toykernel import TOY
from tests.long.bootbench import BUSYBOX, PROFILE, BootBench, changed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from kwatch.domain.recipe.arch import Arch
    from kwatch.domain.recipe.boot import Accelerator
    from kwatch.domain.recipe.boot_environment import BootEnvironment

if shutil.which("qemu-system-x86_64") is None or not BUSYBOX["x86_64"].exists():
    pytest.skip("QEMU or a static busybox is not installed", allow_module_level=True)

SMALL = changed(PROFILE, memory_mib=128)
# Twice the same, as a loop would have it.
WARNINGS = (
    "------------[ cut here ]------------",
    "WARNING: CPU: 0 PID: 1 at mm/page.c:77 page_alloc+0x1f/0x40",
    "---[ end trace 0000000000000000 ]---",
    "------------[ cut here ]------------",
    "WARNING: CPU: 0 PID: 1 at lib/sort.c:12 sort+0x3/0x90",
    "---[ end trace 0000000000000000 ]---",
) * 2
TITLES = ["WARNING in page_alloc", "WARNING in sort"]


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[BootBench]:
    bench = await BootBench.open(tmp_path)
    yield bench
    await bench.close()


def toy(folder: Path, *options: str, says: tuple[str, ...] = ()) -> tuple[Path, Path]:
    """Image and vmlinux of the toy kernel with these options, that says this before its plants."""
    source, output = folder / "toy", folder / "out"
    shutil.copytree(TOY, source)
    path = source / "init/main.c"
    lines = "".join(f'\tprintk("{line}");\n' for line in says)
    path.write_text(path.read_text().replace("\tplant_boot();\n", f"{lines}\tplant_boot();\n", 1))
    output.mkdir()
    (output / ".config").write_text("".join(f"CONFIG_{option}=y\n" for option in options))
    for goals in (("olddefconfig",), ("bzImage", "vmlinux")):
        subprocess.run(["make", "-s", "-C", source, "LLVM=-22", f"O={output}", *goals], check=True)
    return output / "arch/x86/boot/bzImage", output / "vmlinux"


async def boots(bench: BootBench) -> int:
    return int(
        await bench.database.read(lambda tx: tx.execute("SELECT count(*) FROM boot").fetchone()[0])
    )


async def test_an_image_that_booted_is_not_booted_again_for_another_source(
    bench: BootBench, tmp_path: Path
) -> None:
    """Half of the commits of a search change nothing that is compiled."""
    image, vmlinux = toy(tmp_path)
    first = await bench.built(image, vmlinux, SMALL)
    # Two wait for the same boot: it is one job.
    second = await bench.built(image, vmlinux, SMALL)
    (key,) = await queued(bench.database, JobKind.BOOT)
    result = await bench.run(await next_of(bench.database, JobKind.BOOT))
    assert (result.inputs, result.end, result.finding) == (key, BootEnd.DONE, None)
    # One that comes later has its result at once.
    third = await bench.built(image, vmlinux, SMALL)
    assert await queued(bench.database, JobKind.BOOT) == []
    found = [await bench.database.read(trials.load, one) for one in (first, second, third)]
    assert [one.outcome for one in found] == [Outcome.PASS] * 3
    assert {one.boot_key for one in found} == {result.key}
    assert len({one.trial.source.key for one in found}) == 3
    assert len({one.build_row for one in found}) == 3
    assert await boots(bench) == 1


async def test_one_of_the_builds_of_an_image_is_enough_to_boot_it(
    bench: BootBench, tmp_path: Path
) -> None:
    """The disk budget took the vmlinux of the one that came first."""
    image, vmlinux = toy(tmp_path)
    stripped = tmp_path / "stripped"
    stripped.write_bytes(b"another vmlinux")
    await bench.built(image, stripped, SMALL)
    await bench.built(image, vmlinux, SMALL)
    lost = await bench.blobs.put(stripped)
    await bench.database.write(lambda tx: tx.execute("DELETE FROM blob WHERE digest = ?", (lost,)))
    result = await bench.run(await next_of(bench.database, JobKind.BOOT))
    assert result.finding is None


async def test_another_image_recipe_or_sample_is_another_boot(
    bench: BootBench, tmp_path: Path
) -> None:
    image, vmlinux = toy(tmp_path)
    await bench.boot(image, vmlinux, SMALL)
    other = tmp_path / "other"
    other.write_bytes(image.read_bytes() + b"\0")
    await bench.built(other, vmlinux, SMALL)
    await bench.built(image, vmlinux, changed(SMALL, cmdline="quiet"))
    for sample in (Sample(repeat=1), Sample(rebuild=1), Sample(host="here")):
        await bench.built(image, vmlinux, SMALL, sample)
    assert len(await queued(bench.database, JobKind.BOOT)) == 5
    # How a boot is watched is none of them.
    await bench.built(image, vmlinux, changed(SMALL, command_timeout=1.0))
    assert len(await queued(bench.database, JobKind.BOOT)) == 5


async def test_what_a_good_boot_warns_of_is_kept(bench: BootBench, tmp_path: Path) -> None:
    number = await bench.built(*toy(tmp_path, says=WARNINGS), SMALL)
    result = await bench.run(await next_of(bench.database, JobKind.BOOT))
    assert (result.end, result.finding) == (BootEnd.DONE, None)
    assert [(one.kind, one.title) for one in result.others] == [
        (FindingKind.WARNING, title) for title in TITLES
    ]
    await is_stored(bench, number, cause=None)


async def test_what_a_failing_boot_reports_besides_is_kept(
    bench: BootBench, tmp_path: Path
) -> None:
    number = await bench.built(*toy(tmp_path, "TOY_PANIC", says=WARNINGS), SMALL)
    result = await bench.run(await next_of(bench.database, JobKind.BOOT))
    assert result.end == BootEnd.PANIC
    assert result.finding is not None
    assert result.finding.kind is FindingKind.PANIC
    assert [one.title for one in result.others] == TITLES
    await is_stored(bench, number, cause=result.finding)


async def is_stored(bench: BootBench, number: int, *, cause: Finding | None) -> None:
    """The findings are rows of the boot, and part of what its trial showed."""
    found = await bench.database.read(trials.load, number)
    assert found.boot_key is not None
    stored = await bench.database.read(findings.of_step, JobKind.BOOT, found.boot_key)
    assert stored[0] == cause
    assert [one.title for one in stored[1]] == TITLES
    boot = await bench.database.read(steps.boot, found.boot_key)
    assert boot is not None
    assert (boot.finding, boot.others) == stored
    seen = await bench.database.read(trials.seen, found)
    assert seen is not None
    assert (seen.finding, seen.others) == stored
    assert seen.outcome is (Outcome.FAIL if cause else Outcome.PASS)
    assert seen.milestone is (Milestone.KERNEL if cause else Milestone.TESTED)


async def test_a_boot_tells_what_it_was_made_in(bench: BootBench, tmp_path: Path) -> None:
    result = await bench.boot(*toy(tmp_path), SMALL)
    first, *others = result.environment.splitlines()
    assert first.startswith("QEMU emulator version ")
    assert ", tcg, on Linux " in first
    assert others[-1] == f"boot environment: {result.environment_digest}"
    described = await bench.database.read(
        lambda tx: tx.execute(
            "SELECT description FROM environment WHERE id = ?", (result.environment_digest,)
        ).fetchone()[0]
    )
    assert described == result.environment


async def test_a_trial_that_asks_for_the_environment_that_is_there_is_booted(
    bench: BootBench, tmp_path: Path
) -> None:
    image, vmlinux = toy(tmp_path)
    first = await bench.boot(image, vmlinux, SMALL)
    asked = Sample(boot_environment=first.environment_digest)
    # That boot is known.
    number = await bench.built(image, vmlinux, SMALL, asked)
    assert (await bench.database.read(trials.load, number)).boot_key == first.key
    await bench.built(image, vmlinux, SMALL, replace(asked, repeat=1))
    again = await bench.run(await next_of(bench.database, JobKind.BOOT))
    assert again.environment_digest == first.environment_digest
    assert again.key != first.key


async def test_a_trial_whose_environment_no_host_has_is_refused(
    bench: BootBench, tmp_path: Path
) -> None:
    """The host was upgraded: that is no failure of its, and it gets other work at once."""
    image, vmlinux = toy(tmp_path)
    number = await bench.built(image, vmlinux, SMALL, Sample(boot_environment="f" * 16))
    job = await next_of(bench.database, JobKind.BOOT)
    gone = await bench.attempt(job)
    assert gone == EnvironmentGone(key=job.key)
    await keep(bench.database, job, gone)
    found = await bench.database.read(trials.load, number)
    assert (found.outcome, found.milestone) == (Outcome.REFUSED, Milestone.LINKED)
    assert await boots(bench) == 0
    assert bench.pool.state("here").health is Health.OK


async def test_a_host_with_the_environment_that_is_asked_for_is_found(
    bench: BootBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first host was upgraded, and the other one is upgraded meanwhile."""
    kernels = {"here": "6.9", "there": "6.8"}
    asked: list[str] = []

    async def kernel(
        host: Host, arch: Arch, accelerator: Accelerator, initramfs: str
    ) -> BootEnvironment:
        asked.append(host.name)
        found = await identify(host, arch, accelerator, initramfs)
        return replace(found, kernel=kernels[host.name])

    monkeypatch.setattr("kwatch.stages.boot.identify", kernel)
    spec = bench.pool.hosts["here"].spec
    there = Host(replace(spec, name="there", directory=f"{spec.directory}-2"))
    bench.pool.hosts["there"] = there
    image, vmlinux = toy(tmp_path)
    first = await bench.boot(image, vmlinux, SMALL)
    assert first.host == "here"
    await bench.pool.admit("there")
    kernels["here"] = "6.10"
    kernels["there"] = "6.9"
    wanted = Sample(boot_environment=first.environment_digest)
    await bench.built(image, vmlinux, SMALL, replace(wanted, repeat=1))
    again = await bench.run(await next_of(bench.database, JobKind.BOOT))
    assert (again.host, again.environment_digest) == ("there", first.environment_digest)
    # It is known now, and the other one is not asked again.
    asked.clear()
    await bench.built(image, vmlinux, SMALL, replace(wanted, repeat=2))
    await bench.run(await next_of(bench.database, JobKind.BOOT))
    assert asked == ["there"]
    # What is known is no proof.
    kernels["here"], kernels["there"] = "6.9", "6.10"
    asked.clear()
    await bench.built(image, vmlinux, SMALL, replace(wanted, repeat=3))
    assert (await bench.run(await next_of(bench.database, JobKind.BOOT))).host == "here"
    assert asked == ["there", "here"]
    kernels["here"] = "6.10"
    await bench.built(image, vmlinux, SMALL, replace(wanted, repeat=4))
    job = await next_of(bench.database, JobKind.BOOT)
    assert await bench.attempt(job) == EnvironmentGone(key=job.key)


async def test_the_results_of_tests_are_kept_by_name(bench: BootBench, tmp_path: Path) -> None:
    number = await bench.built(*toy(tmp_path, "TOY_SELFTEST", "TOY_SELFTEST_FAIL"), SMALL)
    result = await bench.run(await next_of(bench.database, JobKind.BOOT))
    # The command that ran them fails as well.
    assert result.finding is not None
    assert result.finding.title == "test command 1 fails with status 1"
    assert [one.title for one in result.others] == ["toy.failing_test fails"]
    found = await bench.database.read(trials.load, number)
    seen = await bench.database.read(trials.seen, found)
    assert seen is not None
    assert seen.outcome is Outcome.FAIL
    assert seen.cases_failed == {case_fingerprint(name) for name in ("toy", "toy.failing_test")}
    assert {case_fingerprint("toy.string_test"), *seen.cases_failed} <= seen.cases_run
    # A log that is gone keeps the results that it gave.
    bare = await bench.database.read(steps.boot, result.key)
    assert bare is not None
    await bench.database.write(steps.read_again, bare, reader=99)
    assert await bench.database.read(trials.seen, found) == seen
