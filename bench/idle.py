# SPDX-License-Identifier: GPL-2.0-or-later
"""What an idle daemon costs: 20 trees and 12 lists, an hour's polls in a minute.

By default a tree is polled every 15 minutes and a list every 10. Here they are polled every 15
and 10 seconds, for a minute, against a git server and archives on loopback.

    python -m bench.idle
"""

from __future__ import annotations

import argparse
import asyncio
import re
import tempfile
import time
from pathlib import Path

from tests.lab.sshd import ensure_user, remove_user
from tests.lab.toytree import ToyTree, settle, toy_box, tune

TREES, LISTS = 20, 12
SECONDS = 60


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    asyncio.run(_measure())


async def _measure() -> None:
    user = "kwatch-idle"
    await ensure_user(user)
    try:
        with tempfile.TemporaryDirectory(prefix="kwatch-idle-") as folder:
            Path(folder).chmod(0o755)
            async with toy_box(Path(folder), user) as box:
                text = box.config.read_text()
                tune(box, {"[[series]]": _copies(text) + "[[series]]"})
                text = box.config.read_text()
                polls = 'tree_poll = "15 s"\nlist_poll = "10 s"'
                box.config.write_text(
                    re.sub(r'tree_poll = ".*"\nlist_poll = ".*"', polls, text, count=1)
                )
                tree = ToyTree.create(box)
                await box.post_series()
                tag = tree.publish()
                await box.start()
                await settle(box, tag, timeout=300)
                pid = box.pid
                before, rows = _cpu(pid), _rows(box)
                started = time.monotonic()
                await asyncio.sleep(SECONDS)
                took = time.monotonic() - started
                cpu = _cpu(pid) - before
                print(f"{TREES} trees and {LISTS} lists, the polls of an hour in {took:.0f} s:")
                print(f"  CPU     {cpu:6.1f} s, {cpu / 36:.2f} % of one core over the hour")
                print(f"  memory  {_memory(pid) >> 20:6d} MiB resident")
                print(f"  rows    {_rows(box) - rows:6d} new jobs, deleted after 14 days")
                await box.stop()
    finally:
        await remove_user(user)


def _copies(text: str) -> str:
    """The sections of the tree and the list again, under other names."""
    tree = re.search(r"\[\[tree\]\]\n.*?\n\n", text, re.DOTALL)
    archive = re.search(r"\[\[list\]\]\n.*?\n\n", text, re.DOTALL)
    assert tree
    assert archive
    name = re.compile(r'^name = "(.*)"', re.MULTILINE)
    found = [name.sub(rf'name = "\g<1>{n}"', tree[0]) for n in range(TREES - 1)]
    found += [name.sub(rf'name = "\g<1>{n}"', archive[0]) for n in range(LISTS - 1)]
    # One tree is tested; the others are watched for tags that never come.
    return "".join(one.replace('"next-*"', '"never-*"') for one in found)


def _cpu(pid: int) -> float:
    """Seconds of user and system time of a process and of its children that ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15]) / 100


def _memory(pid: int) -> int:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) << 10


def _rows(box: object) -> int:
    rows: int = box.query("SELECT count(*) AS n FROM job")[0]["n"]  # type: ignore[attr-defined]
    return rows


if __name__ == "__main__":
    main()
