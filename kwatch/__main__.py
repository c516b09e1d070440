# SPDX-License-Identifier: GPL-2.0-or-later
"""``python -m kwatch``, and what the installed command calls."""

from __future__ import annotations

import sys


def main() -> int:
    """Run one verb; its exit status. A verb loads only what it is made of."""
    if sys.argv[1:2] == ["read-log"]:
        from kwatch.cli import read_log  # noqa: PLC0415 - that is the point

        return read_log.main(sys.argv[2:])
    from kwatch.cli import main  # noqa: PLC0415

    return main.main()


if __name__ == "__main__":
    sys.exit(main())
