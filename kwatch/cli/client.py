# SPDX-License-Identifier: GPL-2.0-or-later
"""Give a command to the daemon over its control socket, or run it here where no daemon runs."""

from __future__ import annotations

import dataclasses
import logging
import time
from typing import TYPE_CHECKING

import aiohttp

from kwatch.app import open_lab
from kwatch.domain.facts import CommandState
from kwatch.domain.lab.job import JobKind
from kwatch.errors import InfraError
from kwatch.stages import command
from kwatch.store import commands, queue, record

if TYPE_CHECKING:
    from pathlib import Path

    from kwatch.config.settings import Settings
    from kwatch.domain.lab.command import Command

log = logging.getLogger(__name__)


async def order(settings: Settings, given: Command) -> tuple[bool, str]:
    """Have a command carried out, by the daemon if one runs.

    Whether it was done, and the answer.
    """
    path = settings.state.control
    if path.exists():
        try:
            return await _ask(path, given)
        except aiohttp.ClientConnectionError:
            log.debug("nobody listens on %s", path)
    # No order concerns a host, and the key to one may be a credential of the daemon.
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
                clock=time.time,
            )
            if facts is not None:
                await lab.database.write(record.record, job, facts, now=time.time())
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
        answer = await response.json()
    if "error" in answer:
        raise InfraError(f"the daemon refuses: {answer['error']}")
    return answer["state"] == CommandState.DONE, answer["answer"]
