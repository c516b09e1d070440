# SPDX-License-Identifier: GPL-2.0-or-later
"""``make demo``: kwatch does its main job on a real Linux kernel, in a lab in a box.

One folder keeps what is worth keeping (the tree, compiled objects, the compiler cache), so that a
second run is quick. Results are never kept: every run finds out all by itself.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from kwatch.errors import ConfigError
from kwatch.store import lock
from tests.lab.box import Box
from tests.lab.linux.history import make_tree, publish
from tests.lab.linux.topics import CULPRIT_SUBJECT, Tag
from tests.lab.linuxkernel import KERNEL, TARBALL
from tests.lab.process import LabError
from tests.lab.progress import Progress, duration
from tests.lab.sshd import ensure_user
from tests.lab.story import Chapter, Outcome, tell
from tests.lab.toytree import text_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

USER = "kwatch-lab"
CHAPTERS = (
    Chapter(tag=Tag.GOOD, reports=0),
    Chapter(tag=Tag.BROKEN, reports=2),
    Chapter(tag=Tag.REPAIRED, reports=3),
)
STAGES = ("checkout", "build", "boot", "collect")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; 0 if kwatch found what was planted, and said so."""
    parser = argparse.ArgumentParser(prog="demo", description=__doc__)
    parser.add_argument("--directory", type=Path, required=True, help="what is kept between runs")
    parser.add_argument("--serve", action="store_true", help="leave the status page up at the end")
    words = parser.parse_args(arguments)
    try:
        return asyncio.run(_demo(words.directory.absolute(), serve=words.serve))
    except (LabError, ConfigError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndemo: interrupted; the next run goes on with what is built", file=sys.stderr)
        return 1


async def _demo(directory: Path, *, serve: bool) -> int:
    async with linux_box(directory) as box:
        progress = Progress(box)
        tree = directory / "tree.git"
        await asyncio.to_thread(make_tree, tree, TARBALL, progress=progress.say)
        progress.say(f"the status page will be at http://127.0.0.1:{box.web_port}/")
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(progress.run())

            def reveal(tag: str) -> None:
                progress.say(f"tag      {tag} is out")
                publish(tree, box.public, Tag(tag))

            outcome = await tell(box, CHAPTERS, publish=reveal)
            watching.cancel()
        progress.look()
        _print_mails(outcome)
        _print_summary(box, outcome)
        problems = check(box, outcome)
        for problem in problems:
            print(f"demo: {problem}", file=sys.stderr)
        if serve:
            await _serve(box)
        return 1 if problems else 0


@contextlib.asynccontextmanager
async def linux_box(directory: Path) -> AsyncIterator[Box]:
    """A lab for the real kernel below ``directory``, without the results of earlier runs."""
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o755)
    with lock.hold(directory):
        _forget(directory)
        user: str | None = None
        host = directory / "host"
        host.mkdir(exist_ok=True)
        if os.geteuid() == 0:
            user = USER
            await ensure_user(USER)
            shutil.chown(host, USER, USER)
        async with Box(directory, KERNEL, user=user, host_directory=str(host)) as box:
            yield box


def _forget(directory: Path) -> None:
    """Remove the results of an earlier run, and nothing else."""
    for name in ("state", "git", "daemon.log", "daemons.log", "smtp"):
        path = directory / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def check(box: Box, outcome: Outcome) -> list[str]:
    """What is wrong with the outcome; empty if kwatch did its job."""
    problems = []
    kinds = [str(mail["X-Kwatch-Event"]) for mail in outcome.mails]
    if kinds != ["new", "bisected", "fixed"]:
        problems.append(f"the mails are {kinds}")
    roots = {str(mail["References"] or mail["Message-ID"]).split()[0] for mail in outcome.mails}
    if len(roots) != 1:
        problems.append(f"the mails are in {len(roots)} threads")
    if len(outcome.mails) > 1 and CULPRIT_SUBJECT not in _text(outcome, 1):
        problems.append(f"the second mail does not name {CULPRIT_SUBJECT!r}")
    left = box.query("SELECT kind, error FROM job WHERE state = 'dead'")
    problems += [f"given up: {row['kind']}: {row['error']}" for row in left]
    return problems


def _text(outcome: Outcome, number: int) -> str:
    return text_of(outcome.mails[number])


def _print_mails(outcome: Outcome) -> None:
    for number, mail in enumerate(outcome.mails):
        print(f"\n{'=' * 32} mail {number + 1} of {len(outcome.mails)} {'=' * 32}\n")
        for name in ("From", "To", "Cc", "Subject", "Date", "Message-ID", "In-Reply-To"):
            if mail[name]:
                print(f"{name}: {mail[name]}")
        print(f"\n{_text(outcome, number)}")


def _print_summary(box: Box, outcome: Outcome) -> None:
    print(f"\n{'=' * 34} summary {'=' * 34}\n")
    for tag, seconds in outcome.took.items():
        print(f"{tag:<16} {duration(seconds)}")
    print(f"{'in all':<16} {duration(outcome.total)}\n")
    print(f"{'stage':<10} {'jobs':>5} {'in all':>8} {'longest':>8}")
    for stage in STAGES:
        row = box.query(
            "SELECT count(*) AS jobs, sum(ended_at - started_at) AS total,"
            " max(ended_at - started_at) AS longest FROM job WHERE kind = ? AND state = 'done'",
            stage,
        )[0]
        print(
            f"{stage:<10} {row['jobs']:>5} {duration(row['total'] or 0):>8}"
            f" {duration(row['longest'] or 0):>8}"
        )
    print(f"\n{'coverage':<16} {'lines':>9} {'functions':>9} {'branches':>9} {'MC/DC':>9}")
    for row in box.query(
        "SELECT r.tag, sum(lines_covered) * 100.0 / sum(lines_total) AS lines,"
        " sum(functions_covered) * 100.0 / sum(functions_total) AS functions,"
        " sum(branches_covered) * 100.0 / sum(branches_total) AS branches,"
        " sum(mcdc_covered) * 100.0 / sum(mcdc_total) AS mcdc"
        " FROM revision AS r JOIN result AS o USING (commit_id)"
        " JOIN coverage AS c ON c.boot_key = o.boot_key"
        " WHERE o.rebuild = 0 AND o.repeat = 0 GROUP BY r.id ORDER BY r.id"
    ):
        figures = (row["lines"], row["functions"], row["branches"], row["mcdc"])
        print(f"{row['tag']:<16} " + " ".join(f"{figure:>8.2f}%" for figure in figures))


async def _serve(box: Box) -> None:
    print(f"\nThe status page is at http://127.0.0.1:{box.web_port}/ until Ctrl-C.", flush=True)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()


if __name__ == "__main__":
    sys.exit(main())
