# SPDX-License-Identifier: GPL-2.0-or-later
"""A tree of toy kernels that grows while a lab watches it, and waiting for what comes of it.

Each tag is published only when a test asks for it, as linux-next publishes one a day.
"""

from __future__ import annotations

import contextlib
import pwd
import time
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import TYPE_CHECKING

from tests.lab.box import Box
from tests.lab.toy import history
from tests.lab.toykernel import KERNEL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from tests.lab.box import Kernel, LabHost
    from tests.lab.toy.history import Edits

POLL = 'tree_poll = "1 s"\nlist_poll = "1 s"'
TOPICS = (
    ("lib", "lib: say what strlen counts",
     {"lib/string.c": ("size_t strlen(", "/* Bytes before the first zero. */\nsize_t strlen(")}),
    ("drivers", "serial: wait longer for a slow line",
     {"drivers/serial.c": ("TRIES = 100000", "TRIES = 200000")}),
    ("mm", "mm: say what page_alloc returns",
     {"mm/page.c": ("void *page_alloc(", "/* Or NULL. */\nvoid *page_alloc(")}),
)  # fmt: skip
BRANCHES = ("mm", "lib", "drivers")
SLOW_BUILD: Edits = {
    "Makefile": (
        "VERSION = 6\n",
        "VERSION = 6\nWAITED := $(if $(filter vmlinux,$(MAKECMDGOALS)),$(shell sleep 2))\n",
    )
}
"""A build that takes its time, in the middle."""
SLOW_BOOT: Edits = {
    "init/main.c": (
        "\tplant_boot();\n",
        """\tplant_boot();
	for (int changes = 0, last = -1; changes < 4;) {
		uint8_t value = 0;

		__asm__ volatile("outb %0, $0x70; inb $0x71, %0" : "+a"(value));
		if (value != last) {
			printk("it is %x seconds past", value);
			last = value;
			changes++;
		}
	}
""",
    )
}
"""A guest that waits until its clock has shown four seconds."""
_WAIT = """\
	plant_boot();
	enum { SECONDS = %d, TICKS_A_SECOND = 18 };
	static struct {
		uint16_t low, selector, flags, middle;
		uint32_t high, zero;
	} gates[9];
	struct __attribute__((packed)) { uint16_t limit; uint64_t base; } table = {
		sizeof(gates) - 1, (uintptr_t)gates
	};
	uint64_t tick;

	__asm__ volatile("jmp 1f\\n"
		"0: push %%%%rax; mov $0x20, %%%%al; out %%%%al, $0x20; pop %%%%rax; iretq\\n"
		"1: lea 0b(%%%%rip), %%0" : "=r"(tick));
	gates[8].low = tick;
	gates[8].selector = 8;
	gates[8].flags = 0x8e00;
	gates[8].middle = tick >> 16;
	gates[8].high = tick >> 32;
	__asm__ volatile("lidt %%0" : : "m"(table));
	outb(0x21, 0xfe);
	outb(0xa1, 0xff);
	for (int ticks = 0; ticks < SECONDS * TICKS_A_SECOND; ticks++) {
		if (ticks %% TICKS_A_SECOND == 0)
			printk("waited for %%u s", ticks / TICKS_A_SECOND);
		__asm__ volatile("sti; hlt; cli");
	}
"""
CULPRIT = "toy: new defaults for the lab"


def waiting_boot(seconds: int) -> Edits:
    """A guest that halts until its timer has run so long: many of them share a processor."""
    return {"init/main.c": ("\tplant_boot();\n", _WAIT % seconds)}


@dataclass(slots=True)
class ToyTree:
    """A history below ``source`` of which ``box`` sees the tags that were published."""

    box: Box
    source: Path
    tags: list[str] = field(default_factory=list)

    @classmethod
    def create(cls, box: Box) -> ToyTree:
        """A tree with some commits on three branches, and no tag yet."""
        source = box.directory / "source"
        history.make_repository(source)
        for branch, subject, edits in TOPICS:
            history.commit(source, branch=branch, subject=subject, edits=edits)
        history.git(box.directory, "init", "-q", "--bare", str(box.public))
        return cls(box, source)

    def commit(self, edits: Edits, subject: str = CULPRIT, branch: str = "mm") -> str:
        """Commit ``edits``; the id."""
        return history.commit(self.source, branch=branch, subject=subject, edits=edits)

    def revert(self, edits: Edits) -> str:
        """Take ``edits`` back; the id."""
        back = {name: (new, old) for name, (old, new) in edits.items()}
        return self.commit(back, f'Revert "{CULPRIT}"')

    def publish(self) -> str:
        """Tag a fresh merge of all branches and let the lab see it; the tag."""
        tag = f"next-202611{16 + len(self.tags):02}"
        # What is new besides the culprit differs between two tags, as in real life.
        history.commit(
            self.source,
            branch="drivers",
            subject=f"serial: note of {tag}",
            edits={"drivers/serial.c": ('#include "toy.h"\n', f'#include "toy.h"\n/* {tag} */\n')},
        )
        history.tag_next(self.source, tag, BRANCHES)
        self.tags.append(tag)
        push(self.box, self.source, tag)
        return tag


def push(box: Box, source: Path, tag: str) -> None:
    """Let the lab see a tag of ``source``."""
    if not box.public.exists():
        history.git(box.directory, "init", "-q", "--bare", str(box.public))
    history.git(source, "push", "-q", str(box.public), f"refs/tags/{tag}")


def tune(box: Box, changes: Mapping[str, str]) -> None:
    """Change the configuration's text; each key must stand there once."""
    text = box.config.read_text()
    for old, new in changes.items():
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {box.config}"
        text = text.replace(old, new)
    box.config.write_text(text)


@contextlib.asynccontextmanager
async def toy_box(
    directory: Path, user: str, *, kernel: Kernel = KERNEL, hosts: Sequence[LabHost] = ()
) -> AsyncIterator[Box]:
    """A box for the toy kernel that looks at its sources every second."""
    async with Box(directory, kernel, user=user, hosts=hosts) as box:
        tune(box, {'tree_poll = "5 s"\nlist_poll = "5 s"': POLL})
        yield box


async def settle(box: Box, tag: str, *, timeout: float = 90) -> None:
    """Wait until the lab has seen ``tag`` and is through with all that follows from it."""
    await box.until(lambda: is_settled(box, tag), timeout=timeout, what=f"end of {tag}")


_SETTLED = """
SELECT EXISTS (SELECT 1 FROM revision JOIN result USING (commit_id)
               WHERE tag = ? AND outcome IS NOT NULL)
    AND NOT EXISTS (SELECT 1 FROM investigation WHERE ended_at IS NULL)
    AND NOT EXISTS (SELECT 1 FROM job WHERE state IN ('queued', 'running')
                    AND kind NOT IN ('watch', 'listen')) AS settled
"""


def is_settled(box: Box, tag: str) -> bool:
    """Whether ``tag`` was observed and nothing but the next look at the sources is left to do."""
    return bool(box.query(_SETTLED, tag)[0]["settled"])


def outcomes(box: Box) -> dict[tuple[str, bool, int, int], tuple[str, int, str | None]]:
    """What the trials gave: (commit, is control, rebuild, repeat) -> (outcome, milestone, what)."""
    rows = box.query("SELECT *, series IS NULL AS control FROM result WHERE outcome IS NOT NULL")
    return {
        (row["commit_id"], bool(row["control"]), row["rebuild"], row["repeat"]): (
            row["outcome"], row["milestone"], row["title"],
        )
        for row in rows
    }  # fmt: skip


def archived(box: Box) -> list[EmailMessage]:
    """The reports on the list, oldest first."""
    return [message_from_bytes(raw, policy=policy.default) for raw in box.reports()]


def letters(box: Box) -> list[EmailMessage]:
    """Every mail that the mail server took, oldest first, whoever got it; repeats included."""
    return [
        message_from_bytes(mail.content, policy=policy.default) for mail in box.smtpd.accepted()
    ]


def text_of(letter: EmailMessage) -> str:
    """The body of a report."""
    text = letter.get_body(("plain",))
    assert isinstance(text, EmailMessage)
    return str(text.get_content()).replace("\r\n", "\n")


def left_behind(user: str) -> list[str]:
    """What the lab started as ``user`` and still runs; the sessions of sshd are none of it."""
    uid = pwd.getpwnam(user).pw_uid
    return [line for owner, line in _processes() if owner == uid and not line.startswith("sshd")]


def working_on(directory: Path) -> list[str]:
    """The command lines of all processes that name ``directory``."""
    return [line for _, line in _processes() if str(directory) in line]


def _processes() -> list[tuple[int, str]]:
    """User id and command line of every process of this machine."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
                if line:
                    found.append((entry.stat().st_uid, line.decode("utf-8", "replace").strip()))
    return found


async def nothing_left(box: Box, user: str, *, seconds: float = 10) -> None:
    """Wait until nothing of ``user`` runs; an AssertionError names what does."""
    deadline = time.monotonic() + seconds
    while left_behind(user) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left_behind(user) == [], box.log()[-2000:]
