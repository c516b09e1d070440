# SPDX-License-Identifier: GPL-2.0-or-later
"""``python -m kwatch``, and the entry point of the installed command."""

from __future__ import annotations

import sys

from kwatch.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
