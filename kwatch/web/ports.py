# SPDX-License-Identifier: GPL-2.0-or-later
"""What the pages need from the rest of the daemon, and the keys that the application keeps it by."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from kwatch.store.database import Database
from kwatch.web.health import Liveness

Clock = Callable[[], float]
ReadBlob = Callable[[str], Awaitable[bytes]]

DATABASE = web.AppKey("database", Database)
LIVENESS = web.AppKey("liveness", Callable[[], Liveness])
CLOCK = web.AppKey("clock", Clock)
READ_BLOB = web.AppKey("read_blob", ReadBlob)
NAME = web.AppKey("name", str)
