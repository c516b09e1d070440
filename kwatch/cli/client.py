# SPDX-License-Identifier: GPL-2.0-or-later
"""Send a command to the daemon over its control socket, or execute it here without a daemon."""

from __future__ import annotations

import dataclasses
import logging
import time
from typing import TYPE_CHECKING

import aiohttp

from kwatch.domain.lab.command import CommandState
from kwatch.errors import InfraError

if TYPE_CHECKING:
    from pathlib import Path

    from kwatch.config.settings import Settings
    from kwatch.domain.lab.command import Command

log = logging.getLogger(__name__)


async def order(settings: Settings, given: Command) -> tuple[bool, str]:
    """Execute a command, in the daemon if one runs; whether it succeeded, and the answer."""
    path = settings.state.control
    if path.exists():
        try:
            return await _ask(path, given)
        except aiohttp.ClientConnectionError:
            log.debug("no daemon listens on %s", path)
    return await _execute(settings, given)


async def _execute(settings: Settings, given: Command) -> tuple[bool, str]:
    """Execute a command in this process."""
    # Imported here: all stages and adapters, which a running daemon makes unnecessary.
    from kwatch.app import open_lab  # noqa: PLC0415
    from kwatch.domain.lab.job import JobKind  # noqa: PLC0415
    from kwatch.stages import command  # noqa: PLC0415
    from kwatch.store import commands, effects, queue  # noqa: PLC0415

    # No command connects to a host, and the SSH key may be a credential of the daemon.
    async with open_lab(dataclasses.replace(settings, hosts=())) as lab:
        number = await lab.database.write(commands.give, given, now=time.time())
        job = await lab.database.write(queue.claim, [JobKind.COMMAND], now=time.time())
        while job is not None:
            facts = await command.run(
                job,
                sources=settings.schedule.sources.keys(),
                hosts=[one.name for one in settings.hosts],
                pool=lab.pool,
                database=lab.database,
            )
            if facts is None:
                await lab.database.write(queue.drop, job, now=time.time())
            else:
                await lab.database.write(effects.record, job, facts, now=time.time())
            job = await lab.database.write(queue.claim, [JobKind.COMMAND], now=time.time())
        stored = await lab.database.read(commands.load, number)
    return stored.state is CommandState.DONE, stored.answer or ""


async def _ask(path: Path, given: Command) -> tuple[bool, str]:
    connector = aiohttp.UnixConnector(str(path))
    body = {"verb": given.verb, "argument": given.argument}
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.post("http://localhost/command", json=body) as response,
    ):
        if response.content_type != "application/json":
            raise InfraError(
                f"the daemon failed to answer (HTTP status {response.status}): see its journal"
            )
        answer = await response.json()
    if "error" in answer:
        raise InfraError(f"the daemon refused the command: {answer['error']}")
    return answer["state"] == CommandState.DONE, answer["answer"]
