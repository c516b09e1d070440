# SPDX-License-Identifier: GPL-2.0-or-later
"""Orders about hosts: what is kept, and what is refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from kwatch.adapters.host.pool import Pool
from kwatch.domain.facts import Answered, CommandState
from kwatch.domain.lab.command import Command, Verb
from kwatch.domain.lab.job import JobKind
from kwatch.stages import command
from kwatch.store import commands, hosts, queue

if TYPE_CHECKING:
    from kwatch.store.database import Database

NOW = 1_000.0
PROOF = {"host": "kvm1", "accelerator": "kvm", "seconds": {"boot, median": 1.25}}


async def answered(database: Database, argument: str) -> Answered:
    order = Command(sender="a test", verb=Verb.ACCEPT_HOST, argument=argument)
    await database.write(commands.give, order, now=NOW)
    job = await database.write(queue.claim, [JobKind.COMMAND], now=NOW)
    assert job is not None
    found = await command.run(
        job, sources=[], hosts=["kvm1"], pool=Pool([], clock=lambda: NOW), database=database,
        clock=lambda: NOW,
    )  # fmt: skip
    assert found is not None
    return found


async def test_a_proof_is_kept_with_its_figures(database: Database) -> None:
    found = await answered(database, json.dumps(PROOF))
    assert (found.state, found.answer) == (CommandState.DONE, "kvm1: KVM is proven")
    (seen,) = await database.read(hosts.seen)
    assert seen.proven["kvm"].at == NOW
    assert seen.proven["kvm"].seconds == {"boot, median": 1.25}


@pytest.mark.parametrize(
    "argument",
    [
        "kvm1",
        "[]",
        json.dumps({**PROOF, "host": "another"}),
        json.dumps({**PROOF, "accelerator": "wings"}),
        json.dumps({**PROOF, "seconds": ["fast"]}),
        json.dumps({**PROOF, "seconds": {"boot": "fast"}}),
        json.dumps({**PROOF, "host": ["kvm1"]}),
    ],
)
async def test_what_proves_nothing_is_refused(database: Database, argument: str) -> None:
    found = await answered(database, argument)
    assert found.state is CommandState.REFUSED
    assert await database.read(hosts.seen) == ()
