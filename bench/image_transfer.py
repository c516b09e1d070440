# SPDX-License-Identifier: GPL-2.0-or-later
"""An image put on a host, beside ``scp`` of the same file to the same sshd, in one run.

    python -m bench.image_transfer [--megabytes 30] [--runs 7]

Claim: kwatch needs at most 0.5 s more than scp. Both begin without a connection, both write a new
file; kwatch compares its SHA-256 on the host as well. A real sshd on loopback, random bytes.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from kwatch.adapters.host.host import Host
from tests.lab.process import call
from tests.lab.sshd import SshHost

if TYPE_CHECKING:
    from collections.abc import Awaitable

LIMIT = 0.5
MB = 1_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=30)
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()
    asyncio.run(_measure(options.megabytes * MB, options.runs))


async def _measure(size: int, runs: int) -> None:
    took: dict[str, list[float]] = {"scp": [], "kwatch": [], "kwatch, connected": []}
    with tempfile.TemporaryDirectory(prefix="kwatch-bench-") as name:
        folder = Path(name)
        image = folder / "image"
        async with SshHost(folder / "sshd") as server:
            known = folder / "known_hosts"
            known.write_text(f"{server.host_key_line}\n")
            for number in range(runs):
                # In turns: what else the machine does meets both.
                image.write_bytes(os.urandom(size))
                digest = hashlib.sha256(image.read_bytes()).hexdigest()
                copied = folder / f"copy-{number}"
                took["scp"].append(await _timed(_scp(server, known, image, copied)))
                assert copied.read_bytes() == image.read_bytes()
                async with Host(server.spec(folder / f"host-{number}")) as host:
                    took["kwatch"].append(await _timed(host.cache.put(digest, image)))
                async with Host(server.spec(folder / f"warm-{number}")) as host:
                    await host.account.prepare()
                    took["kwatch, connected"].append(await _timed(host.cache.put(digest, image)))
    for what, seconds in took.items():
        runs_of_it = " ".join(f"{one:5.2f}" for one in seconds)
        print(f"{what:<18} {median(seconds):5.2f} s   {runs_of_it}")
    more = median(took["kwatch"]) - median(took["scp"])
    print(f"{size / MB:.0f} MB: kwatch needs {more:+.2f} s (at most {LIMIT:+.2f} s is claimed)")


async def _timed(what: Awaitable[object]) -> float:
    started = time.monotonic()
    await what
    return time.monotonic() - started


async def _scp(server: SshHost, known: Path, source: Path, target: Path) -> None:
    await call(
        ["scp", "-q", "-F", "none", "-i", str(server.client_key), "-P", str(server.port),
         "-o", f"UserKnownHostsFile={known}", "-o", "BatchMode=yes", "-o", "Compression=no",
         str(source), f"{server.user}@{server.host}:{target}"]
    )  # fmt: skip


if __name__ == "__main__":
    main()
