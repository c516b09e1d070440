# SPDX-License-Identifier: GPL-2.0-or-later
"""The compiler caches of verifications on a host: their names, and their removal."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from kwatch.adapters.host.account import SHORT
from kwatch.adapters.kernel.kbuild import DISCARD

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from kwatch.adapters.host.host import Host

PREFIX = "clean-"

# $0 folder of all caches
_LIST = """
test -d "$0" || exit 0
ls -1 "$0" | grep '^clean-' || true
"""

# $0 folder of all caches, $1 folder of the slots, $2 numbers of those that build; the names.
# SLOT/ccache names the cache that a slot uses.
_DROP = """
set -e
exec 8>"$0.lock"
flock 8
cd "$0"
slots=$1 building=$2
shift 2
for name; do
    for number in $building; do
        if grep -qsxF "$name" "$slots/$number/ccache"; then continue 2; fi
    done
    discard "$name"
done
"""


def name(verification: str, domain: str) -> str:
    """The cache of all clean builds that a verification (its token) makes in a trust domain."""
    return f"{PREFIX}{verification}-{domain}"


def verification_of(cache: str) -> str:
    """The token in the name of a cache."""
    return cache.removeprefix(PREFIX).partition("-")[0]


async def found(host: Host) -> tuple[str, ...]:
    """The names of the caches of verifications that a host has."""
    listed = await host.account.run(
        ["sh", "-c", _LIST, await host.account.path("ccache")], timeout=SHORT
    )
    return tuple(listed.text().split())


async def drop(host: Host, names: Sequence[str], *, building: Collection[int]) -> None:
    """Delete caches of verifications, but those that one of the slots ``building`` uses."""
    folder = await host.account.path("ccache")
    slots = PurePosixPath(folder).with_name("slots")
    numbers = " ".join(map(str, sorted(building)))
    await host.account.run(
        ["sh", "-c", DISCARD + _DROP, folder, str(slots), numbers, *names], timeout=SHORT * 5
    )
