# SPDX-License-Identifier: GPL-2.0-or-later
"""command: carry out one order, and answer it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, assert_never

from kwatch.domain.boot.watch import Accelerator
from kwatch.domain.facts import Answered, CommandState
from kwatch.domain.lab.command import Verb
from kwatch.domain.lab.host import Health, HostState
from kwatch.domain.lab.job import Job, JobKind
from kwatch.store import commands, queue
from kwatch.store import hosts as host_states

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from kwatch.adapters.host.pool import Pool
    from kwatch.store.database import Database

_SOURCES = {"tree": JobKind.WATCH, "list": JobKind.LISTEN}


async def run(
    job: Job,
    *,
    sources: Collection[str],
    hosts: Collection[str],
    pool: Pool,
    database: Database,
    clock: Callable[[], float],
) -> Answered | None:
    """Carry out the command that ``job.key`` numbers.

    ``sources`` are what is watched, by the names ``tree:NAME`` and ``list:NAME``; ``hosts`` are
    the names of those that are configured. Without a daemon ``pool`` has none of them, and an
    order about one counts from the next start on.
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
            refusal = (
                f"no held mail has the number {argument}, or an earlier one of its thread is held:"
                " see 'kwatch report'"
            )
        case Verb.REJECT_MAIL:
            is_rejected = argument.isdecimal() and await database.write(
                commands.reject_mail, int(argument), now=clock()
            )
            answer = f"mail {argument} is rejected and is never sent" if is_rejected else None
            refusal = f"no held mail has the number {argument}: see 'kwatch report'"
        case Verb.LOOK:
            is_known = argument in sources
            if is_known:
                source, _, name = argument.partition(":")
                await database.write(queue.demand, _SOURCES[source], name, now=clock())
            answer = f"looking at {argument}" if is_known else None
            refusal = f"{argument!r} is not watched; what is: {', '.join(sorted(sources))}"
        case Verb.DRAIN_HOST:
            refusal = _no_host(argument, hosts)
            drained = HostState(
                health=Health.DRAINED, reason=f"taken out by {stored.command.sender}"
            )
            if argument in hosts:
                await database.write(host_states.note, argument, drained, now=clock())
                pool.hold(argument, drained)
            answer = f"{argument} gets no more work" if argument in hosts else None
        case Verb.RESUME_HOST:
            refusal = _no_host(argument, hosts)
            unknown = HostState(health=Health.UNREACHABLE, reason="not checked yet")
            if argument in hosts:
                await database.write(host_states.note, argument, unknown, now=clock())
                pool.release(argument)
            answer = f"{argument} will be checked" if argument in hosts else None
        case Verb.ACCEPT_HOST:
            proof = _proof(argument, hosts)
            if proof is not None:
                await database.write(host_states.prove, *proof, now=clock())
            answer = proof and f"{proof[0]}: {proof[1].upper()} is proven"
            refusal = "invalid proof: unknown host or malformed JSON"
        case _:
            assert_never(stored.command.verb)
    return Answered(
        command=stored.id,
        state=CommandState.DONE if answer else CommandState.REFUSED,
        answer=answer or refusal,
    )


def _proof(text: str, hosts: Collection[str]) -> tuple[str, str, Mapping[str, float]] | None:
    """Host, accelerator and figures of a proof, if that is what the text is."""
    try:
        proof = json.loads(text)
        accelerator = Accelerator(proof["accelerator"])
        seconds = {str(name): float(value) for name, value in proof["seconds"].items()}
        return (proof["host"], accelerator.value, seconds) if proof["host"] in hosts else None
    except (ValueError, LookupError, TypeError, AttributeError):
        return None


def _no_host(name: str, hosts: Collection[str]) -> str:
    return f"no host is called {name!r}; there are {', '.join(sorted(hosts)) or 'none'}"
