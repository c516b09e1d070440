# SPDX-License-Identifier: GPL-2.0-or-later
"""command: read one order; the store carries it out with the answer, in one transaction."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, assert_never

from kwatch.domain.facts import Ordered
from kwatch.domain.lab.command import (
    AcceptSeries,
    CommandState,
    Look,
    ProveHost,
    Refuse,
    RejectMail,
    ReleaseMail,
    Retest,
    SetHost,
    Verb,
)
from kwatch.domain.lab.host import Health, HostState
from kwatch.domain.lab.job import Job, JobKind
from kwatch.domain.recipe.boot import Accelerator
from kwatch.store import commands

if TYPE_CHECKING:
    from collections.abc import Collection

    from kwatch.adapters.host.pool import Pool
    from kwatch.domain.lab.command import Command, Order
    from kwatch.store.database import Database

_SOURCES = {"tree": JobKind.WATCH, "list": JobKind.LISTEN}


async def run(
    job: Job,
    *,
    sources: Collection[str],
    hosts: Collection[str],
    pool: Pool,
    database: Database,
) -> Ordered | None:
    """Read the command that ``job.key`` numbers.

    ``sources`` are what is watched, by the names ``tree:NAME`` and ``list:NAME``; ``hosts`` are
    the names of those that are configured. Without a daemon ``pool`` has none of them, and an
    order about one counts from the next start on.
    """
    stored = await database.read(commands.load, int(job.key))
    if stored.state is not CommandState.ASKED:
        return None
    order = read(stored.command, sources=sources, hosts=hosts)
    if isinstance(order, SetHost):
        # Twice is once: a kill before the answer is stored repeats this.
        if order.state.health is Health.DRAINED:
            pool.hold(order.name, order.state)
        else:
            pool.release(order.name)
    return Ordered(command=stored.id, order=order)


def read(command: Command, *, sources: Collection[str], hosts: Collection[str]) -> Order:
    """What a command is to change."""
    argument = command.argument
    match command.verb:
        case Verb.ACCEPT_SERIES:
            return AcceptSeries(prefix=argument, by=command.sender)
        case Verb.RELEASE_MAIL | Verb.REJECT_MAIL:
            return _mail(command.verb, argument)
        case Verb.LOOK:
            if argument not in sources:
                listed = ", ".join(sorted(sources))
                return Refuse(reason=f"{argument!r} is not watched; sources: {listed}")
            kind, _, name = argument.partition(":")
            return Look(kind=_SOURCES[kind], name=name, source=argument)
        case Verb.RETEST:
            return _retest(argument)
        case Verb.DRAIN_HOST | Verb.RESUME_HOST:
            return _host(command, hosts)
        case Verb.PROVE_HOST:
            return _proof(argument, hosts)
        case _:
            assert_never(command.verb)


def _mail(verb: Verb, argument: str) -> Order:
    if not (argument.isascii() and argument.isdecimal()) or len(argument) > 12:
        return Refuse(reason=f"{argument!r} is not the number of a mail: see 'kwatch report list'")
    number = int(argument)
    return ReleaseMail(number=number) if verb is Verb.RELEASE_MAIL else RejectMail(number=number)


def _retest(argument: str) -> Order:
    words = argument.split()
    match words:
        case [tree, tag]:
            return Retest(tree=tree, tag=tag)
        case [tree, tag, variant]:
            return Retest(tree=tree, tag=tag, variant=variant)
        case _:
            return Refuse(reason="name a tree, a tag and optionally a variant")


def _host(command: Command, hosts: Collection[str]) -> Order:
    name = command.argument
    if name not in hosts:
        listed = ", ".join(sorted(hosts)) or "none"
        return Refuse(reason=f"no host is called {name!r}; hosts: {listed}")
    if command.verb is Verb.DRAIN_HOST:
        state = HostState(health=Health.DRAINED, reason=f"taken out by {command.sender}")
        return SetHost(name=name, state=state, answer=f"{name} gets no more work")
    state = HostState(health=Health.UNREACHABLE, reason="not checked yet")
    return SetHost(name=name, state=state, answer=f"{name} will be checked")


def _proof(text: str, hosts: Collection[str]) -> Order:
    """Host, accelerator and figures of a proof, if that is what the text is."""
    try:
        proof = json.loads(text)
        accelerator = Accelerator(proof["accelerator"])
        seconds = {str(name): float(value) for name, value in proof["seconds"].items()}
        if proof["host"] in hosts:
            return ProveHost(name=proof["host"], accelerator=accelerator.value, seconds=seconds)
    except (ValueError, LookupError, TypeError, AttributeError):
        pass
    return Refuse(reason="invalid proof: unknown host or malformed JSON")
