# SPDX-License-Identifier: GPL-2.0-or-later
"""Consoles as kernels print them, in every way that they travel."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kwatch.domain.finding import Finding, FindingKind, Severity
from kwatch.domain.log.console import (
    MAX_FINDINGS,
    ConsoleReader,
    read_console,
)
from kwatch.domain.log.progress import Progress
from kwatch.domain.log.scan import LAST_LINES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

FAULT = """\
[    1.100000][    T7] BUG: kernel NULL pointer dereference, address: 0000000000000008
[    1.100001][    T7] #PF: supervisor read access in kernel mode
[    1.100002][    T7] Oops: Oops: 0000 [#1] PREEMPT SMP PTI
[    1.100003][    T7] CPU: 1 UID: 0 PID: 7 Comm: kworker/1:0 Not tainted 7.0.0-next #4
[    1.100004][    T7] RIP: 0010:memcpy+0x12/0x40
[    1.100005][    T7] Call Trace:
[    1.100006][    T7]  <TASK>
[    1.100007][    T7]  ? __die+0x20/0x70
[    1.100008][    T7]  copy_thing.isra.0+0x44/0x90 [thing]
[    1.100009][    T7]  process_one_work+0x150/0x300
[    1.100010][    T7]  worker_thread+0x50/0x3a0
[    1.100011][    T7] ---[ end trace 0000000000000000 ]---
[    1.100012][    T7] Kernel panic - not syncing: Fatal exception
"""
SANITIZED = """\
[    2.0] BUG: KASAN: slab-use-after-free in walk_things+0x1f/0x60
[    2.0] Read of size 8 at addr ffff888100a2b010 by task init/1
[    2.0] CPU: 0 UID: 0 PID: 1 Comm: init Not tainted 7.0.0 #1
[    2.0] Call Trace:
[    2.0]  dump_stack_lvl+0x5d/0x80
[    2.0]  print_report+0x171/0x4c0
[    2.0]  kasan_report+0xd9/0x110
[    2.0]  walk_things+0x1f/0x60
[    2.0]  do_syscall_64+0x90/0x170
[    2.0] Allocated by task 1:
[    2.0]  kasan_save_stack+0x24/0x50
[    2.0]  list_make+0x1f/0x60
"""
DEADLOCK = """\
[    3.0] ======================================================
[    3.0] WARNING: possible circular locking dependency detected
[    3.0] 7.0.0-next Not tainted
[    3.0] ------------------------------------------------------
[    3.0] init/1 is trying to acquire lock:
[    3.0] ffff888100112233 (&a->lock){+.+.}-{4:4}, at: take_second+0x33/0x80
[    3.0]
[    3.0] but task is already holding lock:
[    3.0] ffff888100112299 (&b->lock){+.+.}-{4:4}, at: take_first+0x33/0x80
"""
WARNED = """\
[    4.0] ------------[ cut here ]------------
[    4.0] WARNING: CPU: 0 PID: 1 at fs/thing.c:42 thing_put+0x22/0x30
[    4.0] CPU: 0 UID: 0 PID: 1 Comm: init Not tainted 7.0.0 #1
"""
STALLED = """\
[   26.0] rcu: INFO: rcu_preempt self-detected stall on CPU
[   26.0] rcu: \t0-....: (21000 ticks this GP) idle=7dd4/1/0x4000000000000000
[   26.0] Call Trace:
[   26.0]  <IRQ>
[   26.0]  rcu_sched_clock_irq+0x3e8/0x990
[   26.0]  update_process_times+0x8b/0xb0
[   26.0]  asm_sysvec_apic_timer_interrupt+0x1a/0x20
[   26.0]  </IRQ>
[   26.0] RIP: 0010:spin_for_ever+0x10/0x20
[   26.0]  thing_ioctl+0x20/0x30
[   26.0]  __x64_sys_ioctl+0x8f/0xd0
[   26.0]  do_syscall_64+0x90/0x170
"""
ROOTLESS = (
    "[    1.2] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)\n"
)
HUNG = """\
[    9.0] INFO: task cat:77 blocked for more than 120 seconds.
[    9.0] Call Trace:
[    9.0]  __schedule+0x3/0x9
[    9.0]  mutex_lock+0x3/0x9
[    9.0]  thing_read+0x3/0x9
"""
ARM = """\
Unable to handle kernel paging request at virtual address ffff0000dead0000
pc : thing_poll+0x14/0x28
lr : vfs_poll+0x3/0x9
"""
LEAK = """\
BUG: memory leak
unreferenced object 0xffff888100112233 (size 64):
  backtrace:
    [<00000000c0ffee00>] kmalloc_trace+0x11/0x22
    [<00000000c0ffee01>] thing_open+0x11/0x22
"""
BOOT = """\
[    0.000000] Linux version 7.0.0-next
[    0.100000] Command line: quiet
[    1.000000] Run /init as init process
"""


def one(text: str) -> Finding:
    return read_console(text.encode()).findings[0]


@pytest.mark.parametrize(
    ("console", "kind", "title"),
    [
        (FAULT, FindingKind.OOPS,
         "BUG: unable to handle kernel NULL pointer dereference in copy_thing"),
        (SANITIZED, FindingKind.KASAN, "KASAN: slab-use-after-free Read in walk_things"),
        (DEADLOCK, FindingKind.LOCKDEP, "possible deadlock in take_second"),
        (WARNED, FindingKind.WARNING, "WARNING in thing_put"),
        (STALLED, FindingKind.RCU_STALL, "INFO: rcu detected stall in thing_ioctl"),
        (ROOTLESS,
         FindingKind.PANIC, "kernel panic: VFS: Unable to mount root fs on unknown-block(0,0)"),
        ("[    1.2] kernel BUG at mm/slub.c:17!\n[    1.2] RIP: 0010:grow_slabs+0x3/0x20\n",
         FindingKind.BUG, "kernel BUG in grow_slabs"),
        (HUNG, FindingKind.HUNG_TASK, "INFO: task hung in thing_read"),
        (ARM, FindingKind.OOPS, "BUG: unable to handle kernel paging request in thing_poll"),
        (LEAK, FindingKind.MEMLEAK,
         "memory leak in thing_open"),
    ],
)  # fmt: skip
def test_each_kind_of_trouble_has_its_title(console: str, kind: FindingKind, title: str) -> None:
    finding = one(console)
    assert (finding.kind, finding.title) == (kind, title)


def test_a_report_says_who_ran_where() -> None:
    finding = one(BOOT + FAULT)
    assert finding.function == "copy_thing"
    assert finding.module == "thing"
    assert (finding.process, finding.cpu, finding.taint) == ("kworker/1:0", 1, "Not tainted")
    assert finding.first_line == 3
    assert finding.excerpt[0] == FAULT.splitlines()[0].partition("] ")[2].partition("] ")[
        2
    ].strip() or ("BUG: kernel NULL" in finding.excerpt[0])


def test_what_follows_from_a_fault_is_no_second_fault() -> None:
    found = read_console(FAULT.encode()).findings
    assert [finding.severity for finding in found[1:]] == [Severity.INFO] * (len(found) - 1)


def test_a_consequence_alone_is_all_there_is() -> None:
    finding = one("[    1.1] Kernel panic - not syncing: Fatal exception\n")
    assert (finding.kind, finding.severity) == (FindingKind.PANIC, Severity.ERROR)


TRANSPORTS: Mapping[str, Callable[[str], str]] = {
    "as it is": lambda line: line,
    "carriage returns": lambda line: line + "\r",
    "levels": lambda line: f"<4>{line}",
    "syslog": lambda line: f"Nov 22 12:00:01 host7 kernel: {line}",
    "a serial server": lambda line: f"2026-11-22T12:00:01.123456+00:00 {line}",
    "colours": lambda line: f"\x1b[31m{line}\x1b[0m",
    "titles": lambda line: f"\x1b]0;root@guest\x07{line}",
    "later": lambda line: line.replace("[    1.1", "[ 7171.1"),
    "another task": lambda line: line.replace("T7]", "T4711]").replace("PID: 7 ", "PID: 4711 "),
    "another address": lambda line: line.replace("0000000000000008", "ffff8881deadbeef"),
    "other offsets": lambda line: line.replace("+0x44/0x90", "+0x48/0x98"),
    "another clone": lambda line: line.replace(".isra.0", ".constprop.3"),
}


@pytest.mark.parametrize("way", TRANSPORTS)
def test_one_bug_has_one_fingerprint(way: str) -> None:
    text = "\n".join(TRANSPORTS[way](line) for line in FAULT.splitlines())
    assert one(text).fingerprint == one(FAULT).fingerprint


def test_bugs_that_differ_have_other_fingerprints() -> None:
    consoles = (FAULT, SANITIZED, DEADLOCK, WARNED, STALLED, FAULT.replace("copy_thing", "send_it"))
    assert len({one(console).fingerprint for console in consoles}) == len(consoles)


def test_what_another_task_says_in_between_is_not_of_the_report() -> None:
    lines = FAULT.splitlines()
    noise = "[    1.100005][    T9]  other_function+0x3/0x9"
    mixed = "\n".join(
        line for pair in zip(lines, [noise] * len(lines), strict=True) for line in pair
    )
    assert one(mixed).title == one(FAULT).title


@pytest.mark.parametrize(
    "console",
    ["", BOOT, "user: Kernel panic - not syncing: no\n", "a WARNING: nobody: minds\n",
     "[    1.0] systemd[1]: Started BUG tracker.\n"],
)  # fmt: skip
def test_a_console_that_tells_of_nothing_has_no_finding(console: str) -> None:
    assert read_console(console.encode()).findings == ()


def test_a_kernel_that_starts_anew_by_itself_has_rebooted() -> None:
    (finding,) = read_console((BOOT + BOOT).encode()).findings
    assert (finding.kind, finding.title) == (FindingKind.RESET, "unexpected kernel reboot")
    asked = BOOT + "[    9.000000] reboot: Restarting system\n" + BOOT
    assert read_console(asked.encode()).findings == ()


def test_a_boot_that_stops_on_its_way_did_not_finish() -> None:
    kernel = BOOT.splitlines(keepends=True)
    (finding,) = read_console("".join(kernel[:2]).encode()).findings
    assert finding.kind is FindingKind.BOOT_INCOMPLETE
    _, again = read_console((BOOT + kernel[0]).encode()).findings
    assert again.kind is FindingKind.BOOT_INCOMPLETE
    assert again.first_line == 3


ANYTHING = st.binary(max_size=3000) | st.lists(
    st.sampled_from([line.encode() for text in (FAULT, SANITIZED, DEADLOCK, STALLED, BOOT)
                     for line in text.splitlines(keepends=True)]) | st.binary(max_size=40),
    max_size=60,
).map(b"".join)  # fmt: skip


@given(ANYTHING, st.lists(st.integers(0, 3000), max_size=8))
@settings(deadline=None)
def test_how_a_console_is_cut_makes_no_difference(console: bytes, cuts: list[int]) -> None:
    reader = ConsoleReader()
    start = 0
    for cut in [*sorted(cuts), len(console)]:
        reader.feed(console[start:cut])
        start = max(start, cut)
    assert reader.finish() == read_console(console)


def test_hostile_logs_take_bounded_room_and_time() -> None:
    started = time.process_time()
    reader = ConsoleReader()
    reader.feed(b"x" * (20 << 20))
    reader.feed(b"\n" + b"\0" * (1 << 20) + b"\n")
    for number in range(5 * MAX_FINDINGS):
        reader.feed(b"[    1.0] WARNING: CPU: 0 PID: 1 at a.c:1 f%d+0x1/0x2\n" % number)
    for words in (b"WARNING: at ", b"possible irq ", b"BUG: stack ", b"ok 1 # "):
        reader.feed((words * 400 + b"\n") * 300)
    reader.feed(b"[" * (1 << 20) + b"\n" + b"BUG: KASAN: " * 10_000 + b"\n")
    reading = reader.finish()
    assert len(reading.findings) <= MAX_FINDINGS + 1
    assert reading.left_out >= 4 * MAX_FINDINGS
    assert time.process_time() - started < 20


def test_the_last_lines_are_those_that_count() -> None:
    console = b"".join(b"line %d\r\n\r\n" % number for number in range(100))
    last = read_console(console).last_lines
    assert last[-3:] == ("line 97", "line 98", "line 99")
    assert len(last) == LAST_LINES


@given(st.binary(max_size=4000))
def test_any_console_can_be_read(console: bytes) -> None:
    for line in read_console(console).last_lines:
        assert line.strip()
        assert len(line) <= 400
        assert "\x1b" not in line


@pytest.mark.parametrize(
    ("console", "progress"),
    [("", Progress.NOTHING),
     ("\x1bcSeaBIOS (version 1.16.2)\r\nBooting from ROM..\r\n", Progress.FIRMWARE),
     ("Welcome to GRUB!\n", Progress.FIRMWARE),
     ("early console in extract_kernel\n", Progress.DECOMPRESSOR),
     ("early console in setup codec[    0.000000] Linux version 7.0.0\n", Progress.KERNEL),
     (BOOT, Progress.INIT),
     ("<30>[    3.1] systemd[1]: Reached target basic.target\n", Progress.INIT),
     (BOOT + "\nlab login: ", Progress.READY),
     (BOOT + "KTAP version 1\n1..2\nok 1 first\n", Progress.TESTS),
     ("".join(BOOT.splitlines(keepends=True)[:2]) + "KTAP version 1\n1..2\nok 1 first\n",
      Progress.KERNEL),
     (BOOT + "[    9.1] reboot: Power down\n", Progress.DONE),
     (BOOT + "[    9.1] reboot: Restarting system\nSeaBIOS (version 1)\n[    0.000000] Linux"
      " version 7.0.0\n", Progress.KERNEL)],
)  # fmt: skip
def test_how_far_the_machine_got(console: str, progress: Progress) -> None:
    assert read_console(console.encode()).progress is progress


def test_who_prints_the_kernels_version_does_not_reboot() -> None:
    said = BOOT + "Linux version 7.0.0-next (someone@somewhere)\n"
    assert read_console(said.encode()).findings == ()
    assert read_console(said.encode()).progress is Progress.INIT


def test_a_kernel_without_time_stamps_reboots_and_prints_its_version_too() -> None:
    boot = "Linux version 7.0.0 (a@b)\nCommand line: quiet\nRun /init as init process\n"
    assert read_console((boot + "Linux version 7.0.0 (a@b)\nbye\n").encode()).findings == ()
    (finding,) = read_console((boot + boot).encode()).findings
    assert (finding.kind, finding.first_line) == (FindingKind.RESET, 3)


def test_a_symbolised_announcement_is_one() -> None:
    console = (
        "BUG: KASAN: use-after-free in read_once include/linux/compiler.h:254 [inline]\n"
        "BUG: KASAN: use-after-free in send_thing+0x1d/0x2f net/thing.c:271\n"
        "Read of size 4 at addr ffff880066df126c by task init/1\n"
        "Call Trace:\n"
        " kasan_report+0x22b/0x340 mm/kasan/report.c:408\n"
        " read_once include/linux/compiler.h:254 [inline]\n"
        " send_thing+0x1d/0x2f net/thing.c:271\n"
    )
    (finding,) = read_console(console.encode()).findings
    assert finding.title == "KASAN: use-after-free Read in send_thing"
    assert (finding.file, finding.line) == ("net/thing.c", 271)
