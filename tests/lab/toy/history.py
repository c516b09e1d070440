# SPDX-License-Identifier: GPL-2.0-or-later
"""Git histories of the toy kernel, shaped like linux-next: branches, and tags that merge them.

All dates are fixed, so the same calls give the same commit ids on every machine.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

SOURCE_FOLDER = Path(__file__).resolve().parent
"""Where the toy's sources stand, without the coverage series."""

SOURCES = (
    ".gitignore", "Kconfig", "Makefile", "arch", "drivers", "include", "init", "kernel", "lib",
    "mm", "scripts",
)  # fmt: skip
"""What of that folder is the kernel; the rest is the lab's."""

STABLE = "stable"
DEVELOPER = "toy developer <developer@example.org>"
MAINTAINER = "toy maintainer <maintainer@example.org>"
FIRST_DAY = 1793577600
"""2026-11-02 00:00:00 UTC, in seconds since the epoch: the date of the first commit."""

Edits = Mapping[str, tuple[str, str]]
"""Path below the repository -> (text that stands there exactly once, its replacement)."""


def _flip_default(option: str, *, to: str) -> Edits:
    """The edit that changes the default of one option of the toy's Kconfig."""
    text = (SOURCE_FOLDER / "Kconfig").read_text()
    found = re.search(rf"^config {option}\n(?:\t.*\n)*?\tdefault [yn]\n", text, re.MULTILINE)
    if found is None:
        raise ValueError(f"the toy's Kconfig has no option {option} with a default")
    return {"Kconfig": (found[0], found[0][:-2] + to + "\n")}


PLANTS: Mapping[str, Edits] = {
    **{
        plant: _flip_default("TOY_" + plant.upper().replace("-", "_"), to="y")
        for plant in (
            "hang", "silent", "panic", "oops", "flake", "build-error", "no-coverage",
            "selftest-fail", "triple-fault",
        )
    },
    "series-conflict": {
        "Makefile": ("obj-y += mm/page.o\n", "obj-$(CONFIG_X86_64) += mm/page.o\n"),
    },
}  # fmt: skip
"""Name of a fault -> the edits of the commit that brings it."""

_BEFORE = (
    ("mm", "mm: keep more pages back for the firmware",
     {"mm/page.c": ("RESERVED = 4", "RESERVED = 8")}),
    ("lib", "lib: say what memcmp returns",
     {"lib/string.c": ("int memcmp(", "/* Less, equal or greater than 0. */\nint memcmp(")}),
    ("drivers", "serial: wait longer for a slow line",
     {"drivers/serial.c": ("TRIES = 100000", "TRIES = 200000")}),
)  # fmt: skip
_AFTER = (
    ("mm", "mm: start behind the second stage of the firmware",
     {"mm/page.c": ("FIRST_PAGE = 0x1000000", "FIRST_PAGE = 0x1100000")}),
    ("mm", "mm: say what page_alloc returns",
     {"mm/page.c": ("void *page_alloc(", "/* Or NULL. */\nvoid *page_alloc(")}),
    ("lib", "lib: say what strlen counts",
     {"lib/string.c": ("size_t strlen(", "/* Bytes before the first zero. */\nsize_t strlen(")}),
    ("lib", "lib: say how sort works",
     {"lib/sort.c": ("void sort(", "/* Insertion sort: short inputs only. */\nvoid sort(")}),
    ("drivers", "serial: clear both queues at the start",
     {"drivers/serial.c": ("outb(port + FIFO, 7)", "outb(port + FIFO, 0xc7)")}),
    ("drivers", "printk: assume a faster clock",
     {"kernel/printk.c": ("TICKS_PER_MICROSECOND = 2000", "TICKS_PER_MICROSECOND = 2400")}),
)  # fmt: skip
_LATER = (
    ("lib", "lib: say what bitmap_full means",
     {"lib/bitmap.c": ("bool bitmap_full(", "/* No bit below size is 0. */\nbool bitmap_full(")}),
)  # fmt: skip
_CULPRIT_BRANCH = "mm"
_CULPRIT = "toy: new defaults for the lab"


def git(repository: Path, *arguments: str, when: int = FIRST_DAY, who: str = MAINTAINER) -> str:
    """Run git there, untouched by the user's own settings; its output, stripped.

    ``when`` (seconds since the epoch) and ``who`` are author and committer of what it creates.
    """
    name, address = who.removesuffix(">").split(" <")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(repository),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "LC_ALL": "C",
    }
    for role in ("AUTHOR", "COMMITTER"):
        environment[f"GIT_{role}_NAME"] = name
        environment[f"GIT_{role}_EMAIL"] = address
        environment[f"GIT_{role}_DATE"] = f"{when} +0000"
    done = subprocess.run(
        ["git", "-C", str(repository), *arguments],
        check=False, capture_output=True, text=True, env=environment, timeout=60,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(
            f"git {' '.join(arguments)}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        )
    return done.stdout.strip()


def make_repository(path: Path) -> None:
    """A new git repository with the toy's sources as the first commit of branch ``stable``."""
    path.mkdir(parents=True)
    git(path, "init", "-q", "-b", STABLE)
    for name in SOURCES:
        source = SOURCE_FOLDER / name
        if source.is_dir():
            shutil.copytree(source, path / name)
        else:
            shutil.copy(source, path / name)
    git(path, "add", "-A")
    git(path, "commit", "-q", "-m", "Linux 6.12-toy")


def commit(
    repository: Path, *, branch: str, subject: str, edits: Edits, author: str = DEVELOPER
) -> str:
    """Commit exact replacements on a branch (made from ``stable`` if new); the commit's id.

    Raises ValueError, with nothing written, if a text to replace does not stand there once.
    """
    known = git(repository, "branch", "--list", branch)
    git(repository, "checkout", "-q", *([branch] if known else ["-b", branch, STABLE]))
    results = {}
    for name, (old, new) in edits.items():
        text = (repository / name).read_text()
        if text.count(old) != 1:
            raise ValueError(f"{name} holds {old!r} {text.count(old)} times, not once")
        results[name] = text.replace(old, new)
    for name, text in results.items():
        (repository / name).write_text(text)
    when = _next_minute(repository)
    signed = f"{subject}\n\nSigned-off-by: {author}\n"
    git(repository, "commit", "-q", "-a", "-m", signed, when=when, who=author)
    return git(repository, "rev-parse", "HEAD")


def tag_next(repository: Path, tag: str, branches: Iterable[str]) -> str:
    """Tag a fresh merge of the branches into ``stable``, as linux-next does; the commit's id.

    The merge starts anew each time, so an older tag is no ancestor. ``master`` follows the tag.
    """
    git(repository, "checkout", "-q", "--detach", STABLE)
    when = _next_minute(repository)
    for branch in branches:
        message = f"Merge branch '{branch}'"
        git(repository, "merge", "-q", "--no-ff", "-m", message, branch, when=when)
    (repository / "localversion-next").write_text(f"-{tag}\n")
    git(repository, "add", "localversion-next")
    message = f"Add linux-next specific files for {tag.removeprefix('next-')}"
    git(repository, "commit", "-q", "-m", message, when=when)
    git(repository, "tag", "-a", "-m", tag, tag, when=when)
    git(repository, "branch", "-f", "master")
    return git(repository, "rev-parse", "HEAD")


def three_tags(path: Path, *, plant: str, fixed: bool) -> Mapping[str, str]:
    """A repository with next-20261116 (good), next-20261117 (bad) and next-20261118.

    ``plant`` is a key of PLANTS. Returns tag -> commit id, and "culprit" -> the bad commit, one
    of seven that are new in the second tag. With ``fixed`` the third tag holds its revert
    ("fix"), else it is as bad as the second.
    """
    make_repository(path)
    branches = ("mm", "lib", "drivers")
    for branch, subject, edits in _BEFORE:
        commit(path, branch=branch, subject=subject, edits=edits)
    ids = {"next-20261116": tag_next(path, "next-20261116", branches)}
    for number, (branch, subject, edits) in enumerate(_AFTER):
        commit(path, branch=branch, subject=subject, edits=edits)
        if number == 0:
            ids["culprit"] = commit(
                path, branch=_CULPRIT_BRANCH, subject=_CULPRIT, edits=PLANTS[plant]
            )
    ids["next-20261117"] = tag_next(path, "next-20261117", branches)
    for branch, subject, edits in _LATER:
        commit(path, branch=branch, subject=subject, edits=edits)
    if fixed:
        subject = f'Revert "{_CULPRIT}"'
        reverted = {name: (new, old) for name, (old, new) in PLANTS[plant].items()}
        ids["fix"] = commit(path, branch=_CULPRIT_BRANCH, subject=subject, edits=reverted)
    ids["next-20261118"] = tag_next(path, "next-20261118", branches)
    return ids


def _next_minute(repository: Path) -> int:
    """A date later than that of all commits so far, and the same on every machine."""
    return FIRST_DAY + 60 * int(git(repository, "rev-list", "--all", "--count"))
