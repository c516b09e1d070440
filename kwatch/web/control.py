# SPDX-License-Identifier: GPL-2.0-or-later
"""The control socket: commands from this machine, answered once they are executed.

A unix socket, protected by the permissions of its directory. There are no commands over TCP.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING

from aiohttp import web

from kwatch.domain.lab.command import Command, CommandState, Verb
from kwatch.store import commands

if TYPE_CHECKING:
    from collections.abc import Callable

    from kwatch.store.database import Database

ANSWER_SECONDS = 60.0
LONGEST_ARGUMENT = 500


def make_control(
    *, database: Database, wake: Callable[[], None], clock: Callable[[], float]
) -> web.Application:
    """The application behind the control socket: POST /command {verb, argument}."""

    async def command(request: web.Request) -> web.Response:
        try:
            body = await request.json()
            order = Command(
                sender=_peer(request), verb=Verb(body["verb"]), argument=str(body["argument"])
            )
            # JSON can contain lone surrogates, which cannot be stored.
            order.argument.encode()
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            return web.json_response({"error": f"not a command: {error}"}, status=400)
        if len(order.argument) > LONGEST_ARGUMENT:
            return web.json_response({"error": "the argument is too long"}, status=400)
        number = await database.write(commands.give, order, now=clock())
        wake()
        deadline = clock() + ANSWER_SECONDS
        while clock() < deadline:
            stored = await database.read(commands.load, number)
            if stored.state is not CommandState.ASKED:
                return web.json_response({"state": stored.state, "answer": stored.answer})
            await asyncio.sleep(0.05)
        return web.json_response(
            {"error": "no answer within a minute; the command stays in the queue"}, status=504
        )

    application = web.Application(client_max_size=64 * 1024)
    application.router.add_post("/command", command)
    return application


def _peer(request: web.Request) -> str:
    """The peer's user (SO_PEERCRED)."""
    transport = request.transport
    connection = transport.get_extra_info("socket") if transport else None
    if connection is None:
        return "unknown"
    packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, _ = struct.unpack("3i", packed)
    return f"uid {uid}"
