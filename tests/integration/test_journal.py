# SPDX-License-Identifier: GPL-2.0-or-later
"""Log lines as journald, and as a terminal gets them: by a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPT = """
import asyncio, logging
from kwatch import journal

journal.start()
log = logging.getLogger("kwatch.test")
log.debug("not asked for")
log.info("nothing around it")

async def work(name):
    with journal.context(job=name):
        await asyncio.sleep(0.01)
        with journal.context(host="lab-1", tree="next"):
            log.warning("inside %s", name)
        log.info("outside")

async def both():
    await asyncio.gather(work("one"), work("two"))

asyncio.run(both())
log.info("two\\nlines <3>and\\r\\nmore")
try:
    raise ValueError("broken\\n<0>not an emergency")
except ValueError:
    log.exception("it failed")
log.critical("")
logging.getLogger("apscheduler").info("chatter")
"""


def said(*, journal: str | None = "of the pipe") -> list[str]:
    """What the script writes to a pipe that is the journal's, or is said to be."""
    reading, writing = os.pipe()
    environment = {**os.environ}
    environment.pop("JOURNAL_STREAM", None)
    if journal == "of the pipe":
        state = os.fstat(writing)
        journal = f"{state.st_dev}:{state.st_ino}"
    if journal is not None:
        environment["JOURNAL_STREAM"] = journal
    with subprocess.Popen([sys.executable, "-c", SCRIPT], cwd=ROOT, stderr=writing,
                          env=environment) as process:  # fmt: skip
        os.close(writing)
        with os.fdopen(reading) as stream:
            text = stream.read()
    assert process.returncode == 0
    return text.splitlines()


def test_every_line_has_its_priority_and_its_context() -> None:
    lines = said()
    assert all(re.match(r"<[2-6]>", line) for line in lines)
    assert lines[0] == "<6>nothing around it"
    for name in ("one", "two"):
        assert f"<4>job={name} host=lab-1 tree=next inside {name}" in lines
        assert f"<6>job={name} outside" in lines
    start = lines.index("<6>two")
    assert lines[start : start + 3] == ["<6>two", "<6>lines <3>and", "<6>more"]
    assert "<3>it failed" in lines
    assert "<3>Traceback (most recent call last):" in lines
    assert "<3><0>not an emergency" in lines
    assert "chatter" not in "".join(lines)


def test_a_terminal_gets_the_time_instead() -> None:
    lines = said(journal=None)
    assert re.fullmatch(r"\d\d:\d\d:\d\d nothing around it", lines[0])
    assert not any(line.startswith("<6>") for line in lines)


def test_a_shell_that_a_service_started_is_not_the_journal() -> None:
    """Terminals hand $JOURNAL_STREAM on to whatever they run: sd-daemon(3)."""
    lines = said(journal="8:12345")
    assert re.fullmatch(r"\d\d:\d\d:\d\d nothing around it", lines[0])
    assert said(journal="rubbish")[0][0] != "<"
