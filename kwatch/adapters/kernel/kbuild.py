# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernel sources and builds on a host: the slot, its worktree, and the ``make`` commands.

A host keeps one bare repository. A slot has a source folder, into which only files that differ
are written, and one output folder for each kind of build, so that a step of a bisection compiles
what changed and no more.

What a series can write, its output folder and its compiler cache, is never read by the build of
another series or of the control: see :func:`trust_domain`. A build from nothing has the cache of
its verification, which began empty (see kwatch/adapters/kernel/caches.py), or none.
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from kwatch.adapters.git import EXPIRY, REPACK
from kwatch.adapters.git_environment import GIT_ENVIRONMENT
from kwatch.adapters.kernel.sandbox import Sandbox
from kwatch.domain.coverage.figures import Roots

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kwatch.adapters.git import Git
    from kwatch.adapters.host.host import Host
    from kwatch.domain.recipe.toolchain import Toolchain
    from kwatch.domain.source.source import Source

SOURCE = "/build/src"
OUTPUT = "/build/out"
CCACHE = "/build/ccache"
# The wrapper that is LD where a toolchain has a linker of its own for vmlinux.o.
LINKER = "/build/ld"

ROOTS = Roots(source=SOURCE, output=OUTPUT)

# Fixed, so that the same source gives the same bytes whenever and wherever it is built.
REPRODUCIBLE = (
    "KBUILD_BUILD_TIMESTAMP=1970-01-01",
    "KBUILD_BUILD_USER=kwatch",
    "KBUILD_BUILD_HOST=kwatch",
    "KBUILD_BUILD_VERSION=1",
    "LOCALVERSION=",
)

SHORT = 120.0
TRANSFER = 7200.0
# Output folders that a slot keeps; each holds a gigabyte or two.
OUTPUTS_KEPT = 4
# Compiler caches of series and of verifications that a host keeps, besides those of its slots' last
# builds. With the control's they take (CACHES_KEPT + CLEAN_KEPT + 1 + slots) * CACHE_SIZE at most.
CACHES_KEPT = 4
CLEAN_KEPT = 2
CACHE_SIZE = "5G"
CONTROL = "control"

# Commits of a host that a pack may build upon: the newest are the most alike.
KNOWN = 200

# $0 git directory, $1 how many commits to tell. What was killed half made is finished. No git that
# lives holds a lock for a minute here; the slots of a host share the repository.
_OPEN = """
set -e
if ! git rev-parse --resolve-git-dir "$0" >/dev/null 2>&1; then
    rm -f "$0/config.lock" "$0/HEAD.lock"
    git init -q --bare "$0"
fi
find "$0" '(' -name '*.lock' -mmin +1 -o -name 'tmp_*' -mmin +1440 ')' -delete
git --git-dir="$0" for-each-ref --sort=-creatordate --count="$1" \
    --format='%(objectname)' refs/kwatch/have
"""

# $0 git directory, $1 how many refs to keep, $2 age of objects that are deleted by the full repack,
# which comes every 30 days. Each command may be killed; the next run does its work.
_TIDY = """
set -e
test -d "$0" || exit 0
cd "$0"
old=$(git for-each-ref --sort=-creatordate --format='delete %(refname) %(objectname)' \\
    refs/kwatch/have | tail -n +"$(($1 + 1))")
test -z "$old" || echo "$old" | git update-ref --stdin
git pack-refs --all
rm -f objects/pack/.tmp-*
if test -n "$(find kwatch-repacked -mtime -30 2>/dev/null)"; then
    nice -n 19 git repack -d --quiet --geometric=2
else
    nice -n 19 git repack -d --quiet --cruft --cruft-expiration="$2"
    touch kwatch-repacked
fi
test -z "$old" && echo 0 || echo "$old" | wc -l
"""

# $0 git directory, $1 source folder, $2 index, $3 commit, $4 marker of a whole worktree
_CHECK_OUT = """
if ! test -f "$4"; then rm -rf "$1" "$2"; fi
rm -f "$4" "$2.lock"
mkdir -p "$1"
GIT_INDEX_FILE="$2" git --git-dir="$0" --work-tree="$1" read-tree --reset -u "$3"
echo "$3" >"$4"
"""

# What a killed daemon had begun in a slot may still run; $LOCK makes its successor wait for it.
_ALONE = """
set -e
mkdir -p "${LOCK%/*}"
exec 9>"$LOCK"
flock 9
"""

# Remove a folder. What a Makefile made unreadable must not keep the slot from its next build.
DISCARD = """
discard() {
    rm -rf "$1" 2>/dev/null || { chmod -R u+rwX "$1"; rm -rf "$1"; }
}
"""

# $0 slot folder, $1 output folder, $2 how many to keep (plus one), $3 fresh or keep,
# $4 marker of a build under way: what a killed make was writing cannot be told from what is whole.
_MAKE_OUTPUT = """
if test "$3" = fresh || test -e "$4"; then discard "$1"; fi
mkdir -p "$1"
touch "$1" "$4"
ls -1dt "$0"/out-* | tail -n +"$2" | while read -r old; do discard "$old"; done
"""

# $0 slot folder, $1 folder of all caches, $2 the cache of this build ("": none), $3 and $4 how many
# of series and of verifications to keep (plus one). SLOT/ccache names the cache that the slot uses
# until it is filled again; such a cache is never removed. One slot at a time: the lock also orders
# the naming.
_MAKE_CACHE = """
set -e
mkdir -p "$1"
exec 8>"$1.lock"
flock 8
printf '%s\n' "$2" >"$0/ccache"
if test -n "$2"; then mkdir -p "$1/$2"; touch "$1/$2"; fi
find "$1" -mindepth 1 -maxdepth 1 \
    ! -name control ! -name 'series-*' ! -name 'clean-*' -exec rm -rf {} +
cd "$1"
keep() {
    ls -1t | grep "^$1-" | tail -n +"$2" | while read -r old; do
        grep -qsxF "$old" "${0%/*}"/*/ccache || discard "$old"
    done
}
keep series "$3"
keep clean "$4"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildSlot:
    """The folders of one slot on a host, as absolute paths there.

    ``ccache`` is None where the build uses no compiler cache.
    """

    folder: str
    source: str
    output: str
    marker: str
    configured: str
    ccache: str | None
    tools: Mapping[str, str]
    """Programs of ours that ``make`` runs: path inside -> path on the host."""

    def sandbox(self) -> Sandbox:
        """Where ``make`` runs. The source is read-only: a build writes to its output only."""
        cached = {} if self.ccache is None else {CCACHE: self.ccache}
        return Sandbox(
            read_only={SOURCE: self.source, **self.tools},
            writable={OUTPUT: self.output, **cached},
            environment=_WITH_CCACHE if cached else _WITHOUT_CCACHE,
            directory=OUTPUT,
        )


_WITH_CCACHE = {
    "CCACHE_DIR": CCACHE,
    # Dependencies are taken from the compiler itself: nothing is preprocessed apart, which costs a
    # third of a build from nothing.
    "CCACHE_DEPEND": "true",
    "CCACHE_MAXSIZE": CACHE_SIZE,
    "CCACHE_NOHASHDIR": "true",
    "CCACHE_COMPILERCHECK": "content",
}
# The command line of make stays the same, and with it what the build makes.
_WITHOUT_CCACHE = {"CCACHE_DISABLE": "1"}


def trust_domain(source: Source) -> str:
    """The name of all builds that may read what the others of them wrote.

    A patch runs its own Makefiles and can plant objects in any folder that it can write.
    """
    changes = source.on("").key
    return CONTROL if not source.changes else f"series-{changes[:32]}"


def make_command(
    toolchain: Toolchain, arch: str, *targets: str, jobs: int, launcher: str = ""
) -> tuple[str, ...]:
    """``make`` of ``targets`` inside the sandbox; ``launcher`` runs the compiler (ccache).

    The sandbox must have the files of :func:`linkers`.
    """
    compiler = f"{launcher} {toolchain.compiler}".lstrip()
    return (
        "make",
        "-C",
        SOURCE,
        f"O={OUTPUT}",
        f"ARCH={arch}",
        f"LLVM={toolchain.llvm_suffix or 1}",
        f"CC={compiler}",
        f"HOSTCC={compiler}",
        f"LD={LINKER if toolchain.splits_linking else toolchain.linker}",
        f"-j{jobs}",
        *REPRODUCIBLE,
        *targets,
    )


async def linkers(host: Host, toolchain: Toolchain) -> Mapping[str, str]:
    """What the sandbox of a build with ``toolchain`` must have read-only, for ``LD``.

    Empty where one linker does everything.
    """
    if not toolchain.splits_linking:
        return {}
    path = await host.cache.put_bytes(linker_script(toolchain).encode())
    await host.account.run(["chmod", "0500", path], timeout=SHORT)
    return {LINKER: path}


def linker_script(toolchain: Toolchain) -> str:
    """The program that links vmlinux.o with one linker and everything else with the other."""
    text = resources.files("kwatch").joinpath("remote/linker.sh").read_text()
    text = text.replace("exec @OBJECTS@", f"exec {shlex.quote(toolchain.linker_objects)}")
    return text.replace("exec @LINKER@", f"exec {shlex.quote(toolchain.linker)}")


async def push(git: Git, host: Host, commit: str) -> str:
    """Have ``commit`` in the repository of ``host``; the repository's path there.

    Only what the host lacks travels, over the connection that is there anyway.
    """
    repository = await host.account.path("linux.git")
    made = await host.account.run(
        [*_environment(), "sh", "-c", _OPEN, repository, str(KNOWN)], timeout=SHORT
    )
    have = made.text().split()
    if commit in have:
        return repository
    shared = await _present(git, have)
    async with contextlib.aclosing(git.pack([commit], shared)) as pack:
        await host.account.run(
            [*_git(repository), "index-pack", "--stdin", "--fix-thin"], stdin=pack, timeout=TRANSFER
        )
    await host.account.run(
        [*_git(repository), "update-ref", f"refs/kwatch/have/{commit}", commit], timeout=SHORT
    )
    return repository


async def tidy(host: Host) -> int:
    """Forget which old commits a host has, and repack its repository; how many refs went.

    The newest stay, for packs to build upon. An object is deleted two weeks after its last ref.
    """
    repository = await host.account.path("linux.git")
    done = await host.account.run(
        [*_environment(), "sh", "-c", _TIDY, repository, str(KNOWN), EXPIRY], timeout=REPACK
    )
    return int(done.text() or 0)


async def _present(git: Git, commits: Sequence[str]) -> list[str]:
    """Those of ``commits`` (full ids) that ``git`` has, by one command."""
    listed = await git.run(
        "cat-file",
        "--batch-check=%(objecttype) %(objectname)",
        stdin="".join(f"{commit}\n" for commit in commits).encode(),
    )
    # What is not there is listed as "ID missing".
    rows = (line.split() for line in listed.text().splitlines())
    return [row[1] for row in rows if row[0] == "commit"]


async def slot(
    host: Host,
    number: int,
    *,
    recipe: str,
    cache: str | None,
    tools: Mapping[str, str],
) -> BuildSlot:
    """The folders of a slot. ``recipe`` names the kind of build (its output folder).

    ``cache`` names its compiler cache, a :func:`trust_domain` or that of a verification; None: it
    uses none. ``tools`` are those of :func:`linkers`.
    """
    folder = await host.account.path(f"slots/{number}")
    return BuildSlot(
        folder=folder,
        source=f"{folder}/src",
        output=f"{folder}/out-{recipe}",
        marker=f"{folder}/unfinished-{recipe}",
        configured=f"{folder}/out-{recipe}/.configured",
        ccache=None if cache is None else await host.account.path(f"ccache/{cache}"),
        tools=tools,
    )


async def fill(
    host: Host, slot: BuildSlot, repository: str, commit: str, *, is_fresh: bool
) -> None:
    """Check ``commit`` out into a slot. ``is_fresh`` empties the output folder first."""
    alone = f"LOCK={slot.folder}.lock"
    await host.account.run(
        ["env", alone, "sh", "-c", DISCARD + _ALONE + _MAKE_OUTPUT, slot.folder, slot.output,
         str(OUTPUTS_KEPT + 1), "fresh" if is_fresh else "keep", slot.marker],
        timeout=SHORT * 5,
    )  # fmt: skip
    await host.account.run(
        ["sh", "-c", DISCARD + _MAKE_CACHE, slot.folder, await host.account.path("ccache"),
         PurePosixPath(slot.ccache).name if slot.ccache else "", str(CACHES_KEPT + 1),
         str(CLEAN_KEPT + 1)],
        timeout=SHORT * 5,
    )  # fmt: skip
    await host.account.run(
        [*_environment(), alone, "sh", "-c", _ALONE + _CHECK_OUT, repository, slot.source,
         f"{slot.folder}/index", commit, f"{slot.folder}/commit"],
        timeout=SHORT * 10,
    )  # fmt: skip


async def is_configured(host: Host, slot: BuildSlot, key: str) -> bool:
    """Whether the output folder's ``.config`` was made from what ``key`` stands for."""
    found = await host.account.run(
        ["grep", "-qsx", key, slot.configured], timeout=SHORT, check=False
    )
    return found.status == 0


async def configured(host: Host, slot: BuildSlot, key: str | None) -> None:
    """The output folder's ``.config`` is made from what ``key`` stands for; None: from nothing."""
    await host.account.write(slot.configured, f"{key or ''}\n".encode())


async def finish(host: Host, slot: BuildSlot) -> None:
    """``make`` came to its end by itself: what it left can be built upon."""
    await host.account.run(["rm", "-f", "--", slot.marker], timeout=SHORT)


def _environment() -> tuple[str, ...]:
    hardened = [f"{key}={value}" for key, value in GIT_ENVIRONMENT.items() if key != "PATH"]
    return ("env", *hardened)


def _git(repository: str) -> tuple[str, ...]:
    return (*_environment(), "git", f"--git-dir={repository}")
