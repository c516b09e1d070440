# SPDX-License-Identifier: GPL-2.0-or-later
"""The verbs that do the lab's work: the daemon, and one round without it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from kwatch import daemon
from kwatch.config.load import load

if TYPE_CHECKING:
    import argparse


def run(words: argparse.Namespace) -> int:
    """``kwatch run``."""
    asyncio.run(daemon.run(load(words.config)))
    return 0


def once(words: argparse.Namespace) -> int:
    """``kwatch once``."""
    is_done = asyncio.run(daemon.once(load(words.config), patience=words.patience))
    return 0 if is_done else 1
