# SPDX-License-Identifier: GPL-2.0-or-later
"""A one-file rebuild in a bisection, beside a build from nothing, in one run.

    python -m bench.bisection --directory /var/tmp/kwatch-bench

Claim: a step of a bisection that changes one file takes at most 0.2 times as long as a build from
nothing. Both are read from the history of one story: the first build of the lab's first tag with
an empty compiler cache, and the steps of the bisection of the second.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
from pathlib import Path
from statistics import median

from tests.lab import demo
from tests.lab.linux.history import make_tree, publish
from tests.lab.linux.topics import Tag
from tests.lab.linuxkernel import TARBALL
from tests.lab.story import tell

LIMIT = 0.2

# Builds of suspects in the variant with the series, in the order of building.
_BUILDS = """
SELECT b.took, o.rebuild, o.commit_id,
    EXISTS (SELECT 1 FROM revision AS r WHERE r.commit_id = o.commit_id) AS is_tag
FROM build AS b JOIN result AS o ON o.build_row = b.row
WHERE o.series IS NOT NULL AND o.repeat = 0
GROUP BY b.row ORDER BY b.at
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, default=Path("/var/tmp/kwatch-bench"))  # noqa: S108
    directory: Path = parser.parse_args().directory
    directory.mkdir(parents=True, exist_ok=True)
    tree = directory / "tree.git"
    make_tree(tree, TARBALL, progress=print)
    asyncio.run(_measure(directory, tree))


async def _measure(directory: Path, tree: Path) -> None:
    shutil.rmtree(directory / "host", ignore_errors=True)
    async with demo.linux_box(directory) as box:
        await tell(box, demo.CHAPTERS[:2], publish=lambda tag: publish(tree, box.public, Tag(tag)))
        rows = box.query(_BUILDS)
    clean = rows[0]["took"]
    steps = [row["took"] for row in rows if not row["is_tag"] and not row["rebuild"]]
    print(f"{'from nothing':<16} {clean:7.1f} s")
    print(f"{'bisection steps':<16} {', '.join(f'{took:.1f}' for took in steps)} s")
    print(f"{'median ratio':<16} {median(steps) / clean:7.2f}   (at most {LIMIT} is claimed)")


if __name__ == "__main__":
    main()
