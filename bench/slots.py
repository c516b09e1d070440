# SPDX-License-Identifier: GPL-2.0-or-later
"""How busy the boot slots of many hosts are while more boots wait than there are slots.

    python -m bench.slots [--hosts 8] [--boots 50] [--sleep 25]

Claim: of the time between the first claim and the last result, at least 95 % is spent with a
running QEMU in the slot, over all slots. Each host is a real sshd on loopback with a folder and one
slot of its own; worker, queue, pool and boot stage are those of the daemon. The guest is the toy
kernel, which halts for ``--sleep`` seconds: eight guests that compute would measure two cores. All
of it takes 22 minutes; a few boots for each host tell nearly the same.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from kwatch.adapters.guest.accelerator import Accelerators
from kwatch.adapters.guest.environment import KnownEnvironments
from kwatch.adapters.host.host import Host
from kwatch.adapters.host.pool import Pool
from kwatch.domain.boot.care import BootCare, BootProfile
from kwatch.domain.boot.ending import BootEnd
from kwatch.domain.boot.phase import Deadlines
from kwatch.domain.facts import Built
from kwatch.domain.lab.job import JobKind, Resource
from kwatch.domain.recipe.boot import Accelerator, BootRecipe
from kwatch.domain.source.source import Source
from kwatch.domain.trial.steps import BootResult
from kwatch.domain.trial.trial import Sample, Trial
from kwatch.engine.worker import Worker
from kwatch.stages import boot
from kwatch.store import effects, queue
from kwatch.store.blobs import Blobs
from kwatch.store.database import Database
from tests.integration.stages.jobs import keep, next_of, want
from tests.lab.sshd import SshHost
from tests.lab.toykernel import TOY
from tests.unit.domain import trials

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kwatch.domain.lab.job import Job
    from kwatch.store.database import Transaction

LIMIT = 95
BUSYBOX = Path("/bin/busybox")
TICKS_PER_SECOND = 18.2

# The timer interrupts, and nothing else happens: unlike a loop, it costs the host nothing.
DOZE = """
static volatile unsigned int ticks;

static __attribute__((interrupt)) void tick(void *frame)
{
	(void)frame;
	ticks++;
	outb(0x20, 0x20);
}

static void doze(unsigned int count)
{
	static struct __attribute__((packed)) {
		uint16_t low, segment;
		uint8_t stack, type;
		uint16_t middle;
		uint32_t high, zero;
	} gates[33];
	struct __attribute__((packed)) { uint16_t limit; uint64_t base; } table = {
		sizeof(gates) - 1, (uintptr_t)gates,
	};
	static const uint8_t setup[][2] = {	/* timer at vector 32, all else masked, 18.2 Hz */
		{ 0x20, 0x11 }, { 0xa0, 0x11 }, { 0x21, 0x20 }, { 0xa1, 0x28 }, { 0x21, 4 },
		{ 0xa1, 2 }, { 0x21, 1 }, { 0xa1, 1 }, { 0x21, 0xfe }, { 0xa1, 0xff },
		{ 0x43, 0x34 }, { 0x40, 0xff }, { 0x40, 0xff },
	};
	uintptr_t handler = (uintptr_t)tick;

	gates[32].low = handler;
	gates[32].segment = 8;
	gates[32].type = 0x8e;
	gates[32].middle = handler >> 16;
	gates[32].high = handler >> 32;
	asm volatile("lidt %0" : : "m"(table));
	for (unsigned int i = 0; i < sizeof(setup) / sizeof(setup[0]); i++)
		outb(setup[i][0], setup[i][1]);
	while (ticks < count)
		asm volatile("sti; hlt; cli");
}

void start_kernel("""


@dataclass(slots=True)
class Boots:
    """When each boot was claimed, how long its QEMU ran, and when its stage was through."""

    rows: list[tuple[float, float, float]] = field(default_factory=list)

    async def timed(self, job: Job, *, stage: Callable[[Job], Awaitable[object]]) -> BootResult:
        """The stage, with its times noted."""
        claimed = time.monotonic()
        result = await stage(job)
        assert isinstance(result, BootResult)
        assert result.end == BootEnd.DONE, result
        self.rows.append((claimed, result.took, time.monotonic()))
        return result

    def report(self, slots: int) -> None:
        """Print what became of the slots' time."""
        wall = max(end for _, _, end in self.rows) - min(begin for begin, _, _ in self.rows)
        total = wall * slots
        ran = sum(took for _, took, _ in self.rows)
        around = sum(end - begin - took for begin, took, end in self.rows)
        count = len(self.rows)
        print(f"{count} boots on {slots} slots in {wall:.1f} s")
        for what, seconds in (
            ("QEMU runs", ran),
            ("around it: image, start, clearing away", around),
            ("between two boots, and at the end", total - ran - around),
        ):
            print(
                f"{what:<40} {seconds / count:6.2f} s for each boot {100 * seconds / total:6.1f} %"
            )
        print(f"slots are busy {100 * ran / total:.1f} % of the time (at least {LIMIT} is claimed)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, default=8)
    parser.add_argument("--boots", type=int, default=50, help="for each host")
    parser.add_argument("--sleep", type=float, default=25.0, help="seconds")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kwatch-bench-") as folder:
        asyncio.run(_measure(Path(folder), options.hosts, options.boots, options.sleep))


async def _measure(folder: Path, hosts: int, boots: int, sleep: float) -> None:
    output = _sleeper(folder, sleep)
    (folder / "scratch").mkdir()
    async with contextlib.AsyncExitStack() as stack:
        specs = []
        for number in range(hosts):
            server = await stack.enter_async_context(SshHost(folder / f"sshd-{number}"))
            spec = server.spec(folder / f"host-{number}", f"host-{number}")
            specs.append(replace(spec, accelerators=frozenset({"tcg"})))
        database = await Database.open(folder / "history.sqlite")
        stack.push_async_callback(database.close)
        pool = Pool([Host(spec) for spec in specs], clock=time.time)
        stack.push_async_callback(pool.close)
        for spec in specs:
            await pool.admit(spec.name)
        blobs = Blobs(folder / "blobs", database=database, budget=8 << 30, clock=time.time)
        profile = _profile(sleep)
        await _want(database, blobs, output, hosts * boots, profile.recipe)
        done = Boots()
        stage = partial(
            boot.run, pool=pool, blobs=blobs, database=database, scratch=folder / "scratch",
            busybox={"x86_64": BUSYBOX.read_bytes()}, accelerators=Accelerators(),
            known=KnownEnvironments(),
            cares={profile.recipe.digest: profile.care},
        )  # fmt: skip
        worker = Worker(
            database=database,
            stages={JobKind.BOOT: partial(done.timed, stage=stage)},
            slots={Resource.BOOT: hosts},
            clock=time.time,
            jitter=lambda: 0.5,
        )
        async with asyncio.TaskGroup() as group:
            working = group.create_task(worker.run())
            while await database.read(_waiting):  # noqa: ASYNC110 - the database has no event
                await asyncio.sleep(1.0)
            working.cancel()
    done.report(hosts)


def _sleeper(folder: Path, sleep: float) -> Path:
    """The toy kernel with a nap in the middle of its boot; its output folder."""
    source, output = folder / "toy", folder / "out"
    shutil.copytree(TOY, source)
    path = source / "init/main.c"
    text = path.read_text().replace("\nvoid start_kernel(", DOZE, 1)
    nap = f"\tdoze({round(sleep * TICKS_PER_SECOND)});\n"
    path.write_text(text.replace("\tplant_boot();\n", nap, 1))
    for goals in (("olddefconfig",), ("bzImage", "vmlinux")):
        subprocess.run(["make", "-s", "-C", source, "LLVM=-22", f"O={output}", *goals], check=True)
    return output


def _profile(sleep: float) -> BootProfile:
    seconds = sleep + 60
    return BootProfile(
        recipe=BootRecipe(accelerator=Accelerator.TCG, memory_mib=64),
        care=BootCare(
            deadlines=Deadlines(kernel=60.0, init=seconds, total=2 * seconds, tcg_factor=1.0)
        ),
    )


async def _want(
    database: Database, blobs: Blobs, output: Path, count: int, recipe: BootRecipe
) -> None:
    """Have so many boots of one build wanted."""
    await database.write(_put, recipe, count)
    job = await next_of(database, JobKind.CHECKOUT)
    await keep(database, job, trials.checkout(job.key, "tree"))
    job = await next_of(database, JobKind.BUILD)
    artifacts = {
        "image": await blobs.put(output / "arch/x86/boot/bzImage"),
        "vmlinux": await blobs.put(output / "vmlinux"),
    }
    # Other repeats wait for the same build; it is recorded in the present, or nothing is due.
    result = trials.build(job.key, artifacts=artifacts)
    built = Built(result=result, recipe=trials.BUILD.digest)
    await database.write(effects.record, job, built, now=time.time())


def _put(tx: Transaction, recipe: BootRecipe, count: int) -> None:
    for repeat in range(count):
        trial = Trial(
            source=Source(base="c"),
            build=trials.BUILD.digest,
            boot=recipe.digest,
            sample=Sample(repeat=repeat),
        )
        want(tx, trial, boot=recipe, now=time.time())


def _waiting(tx: Transaction) -> bool:
    return any(job.kind == JobKind.BOOT for job in queue.alive(tx))


if __name__ == "__main__":
    main()
