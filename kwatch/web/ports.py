# SPDX-License-Identifier: GPL-2.0-or-later
"""What the pages need from the rest of the daemon, as keys of the application."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from aiohttp import web

from kwatch.store.database import Database

if TYPE_CHECKING:
    from kwatch.web.health import Liveness

Clock = Callable[[], float]
ReadTail = Callable[[str, int], Awaitable[bytes]]
ReadLive = Callable[[str], bytes | None]

DATABASE = web.AppKey("database", Database)
LIVENESS: web.AppKey[Callable[[], Liveness]] = web.AppKey("liveness")
CLOCK: web.AppKey[Clock] = web.AppKey("clock")
READ_TAIL: web.AppKey[ReadTail] = web.AppKey("read_tail")
READ_LIVE: web.AppKey[ReadLive] = web.AppKey("read_live")
NAME = web.AppKey("name", str)
