# SPDX-License-Identifier: GPL-2.0-or-later
"""command: carry out one order, and answer it."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from kwatch.domain.command import Verb
from kwatch.domain.facts import Answered, CommandState
from kwatch.domain.job import Job, JobKind
from kwatch.store import commands, queue

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from kwatch.store.database import Database

_SOURCES = {"tree": JobKind.WATCH, "list": JobKind.LISTEN}


async def run(
    job: Job, *, sources: Collection[str], database: Database, clock: Callable[[], float]
) -> Answered | None:
    """Carry out the command that ``job.key`` numbers. ``sources`` are what is watched, by the
    names ``tree:NAME`` and ``list:NAME``.
    """
    stored = await database.read(commands.load, int(job.key))
    if stored.state is not CommandState.ASKED:
        return None
    argument = stored.command.argument
    match stored.command.verb:
        case Verb.ACCEPT_SERIES:
            title = await database.write(
                commands.accept_series, argument, by=stored.command.sender, now=clock()
            )
            answer = title and f"accepted: {title}"
            refusal = f"no single series starts with {argument!r}: see 'kwatch series'"
        case Verb.RELEASE_MAIL:
            is_released = argument.isdecimal() and await database.write(
                commands.release_mail, int(argument), now=clock()
            )
            answer = f"mail {argument} is on its way" if is_released else None
            refusal = f"no held mail has the number {argument}: see 'kwatch report'"
        case Verb.LOOK:
            is_known = argument in sources
            if is_known:
                source, _, name = argument.partition(":")
                await database.write(queue.demand, _SOURCES[source], name, now=clock())
            answer = f"looking at {argument}" if is_known else None
            refusal = f"{argument!r} is not watched; what is: {', '.join(sorted(sources))}"
        case _:
            assert_never(stored.command.verb)
    return Answered(
        command=stored.id,
        state=CommandState.DONE if answer else CommandState.REFUSED,
        answer=answer or refusal,
    )
