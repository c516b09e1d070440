# SPDX-License-Identifier: GPL-2.0-or-later
"""``python -m kwatch`` is ``kwatch``."""

from __future__ import annotations

import sys

from kwatch.cli import main

sys.exit(main())
