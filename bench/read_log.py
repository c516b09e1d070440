# SPDX-License-Identifier: GPL-2.0-or-later
"""The console reader's throughput and memory, beside ``grep -E`` over the same file.

    python -m bench.read_log

Claim: 40 MB a second on one core over a boot log of 64 MB with a crash in every thousandth line,
all findings named, in less than 120 MB of memory however long the log is. grep only says whether a
line looks like a crash; it is what people use instead.
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from kwatch.domain.log.splats import SPLATS

MB = 1_000_000
CRASH = """\
BUG: kernel NULL pointer dereference, address: 0000000000000008
Oops: Oops: 0000 [#1] PREEMPT SMP PTI
CPU: 1 UID: 0 PID: 7 Comm: kworker/1:0 Not tainted 7.0.0-next #4
RIP: 0010:copy_thing_{number}+0x12/0x40
Call Trace:
 <TASK>
 read_thing+0x44/0x90
 process_one_work+0x150/0x300
 worker_thread+0x50/0x3a0
 kthread+0xf0/0x120
 ret_from_fork+0x34/0x50
 </TASK>
---[ end trace 0000000000000000 ]---
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, nargs="*", default=[64, 256])
    sizes: list[int] = parser.parse_args().megabytes
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            log = Path(folder) / "console"
            _write(log, size * MB)
            length = log.stat().st_size / MB
            words = "|".join(sorted({re.escape(word) for row in SPLATS for word in row.words}))
            commands = {
                "grep -E": ["grep", "-cE", words, str(log)],
                "kwatch read-log": [sys.executable, "-m", "kwatch", "read-log", "--json", str(log)],
            }
            for name, command in commands.items():
                seconds, peak = _run(command)
                print(f"{name:<16} {length:5.0f} MB {seconds:6.2f} s {length / seconds:7.1f} MB/s"
                      f" {peak:5.0f} MB peak")  # fmt: skip


def _write(log: Path, size: int) -> None:
    """A boot log: ordinary lines, and a crash now and then."""
    with log.open("w") as file:
        written = 0
        numbers = itertools.count()
        while written < size:
            for number in itertools.islice(numbers, 1000):
                said = f"usb {number % 4}-{number % 7}: new high-speed USB device number {number}"
                if number % 1000 == 0:
                    said = CRASH.format(number=number % 37)
                # A report is of one task, and so are its lines.
                prefix = f"[{number * 1e-3:12.6f}][{f'T{number % 9 + 1}':>6}] "
                written += file.write("".join(f"{prefix}{line}\n" for line in said.splitlines()))


def _run(command: list[str]) -> tuple[float, float]:
    """Seconds, and peak memory in MB, of one command on one core."""
    started = time.monotonic()
    # To /dev/null, grep would stop at the first match.
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdout=output)
        _, status, usage = os.wait4(process.pid, 0)
    if status not in {0, 256}:
        raise SystemExit(f"{command[0]} failed: {status}")
    return time.monotonic() - started, usage.ru_maxrss / 1024


if __name__ == "__main__":
    main()
