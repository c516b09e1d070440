# SPDX-License-Identifier: GPL-2.0-or-later
"""Commands: read by the stage, carried out and answered by the store in one transaction."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from kwatch.adapters.host.pool import Pool
from kwatch.domain.lab.command import Command, CommandState, Verb
from kwatch.domain.lab.job import JobKind
from kwatch.domain.trial.route import Outcome
from kwatch.errors import LeaseLostError
from kwatch.stages import command
from kwatch.store import commands, effects, hosts, lanes, queue, revisions, trials
from tests.integration.web_history import NEXT_SERIES, NOW, TREE, fill

if TYPE_CHECKING:
    from kwatch.domain.facts import Ordered
    from kwatch.domain.lab.job import Job
    from kwatch.store.commands import StoredCommand
    from kwatch.store.database import Database, Transaction
    from kwatch.store.trials import StoredTrial

PROOF = {"host": "kvm1", "accelerator": "kvm", "seconds": {"boot, median": 1.25}}
RETESTED = f"{TREE} next-20261120 x86_64"
# One of each kind, with a query whose result it changes.
ORDERS = [
    (Verb.RELEASE_MAIL, "2", "SELECT state FROM mail WHERE id = 2"),
    (Verb.REJECT_MAIL, "2", "SELECT state FROM mail WHERE id = 2"),
    (Verb.ACCEPT_SERIES, NEXT_SERIES.digest, "SELECT accepted_by FROM series ORDER BY digest"),
    (Verb.LOOK, "tree:linux-next", "SELECT count(*) FROM job WHERE kind = 'watch'"),
    (Verb.RETEST, RETESTED, "SELECT count(*) FROM trial"),
    (Verb.DRAIN_HOST, "kvm1", "SELECT count(*) FROM host"),
    (Verb.PROVE_HOST, json.dumps(PROOF), "SELECT count(*) FROM host"),
]


class KilledError(Exception):
    """The daemon dies here."""


async def give(database: Database, verb: Verb, argument: str) -> Job:
    """Give a command and claim its job."""
    given = Command(sender="a test", verb=verb, argument=argument)
    await database.write(commands.give, given, now=NOW)
    return await claim(database)


async def claim(database: Database) -> Job:
    job = await database.write(queue.claim, [JobKind.COMMAND], now=NOW)
    assert job is not None
    return job


async def read(database: Database, job: Job) -> Ordered | None:
    """What the stage makes of a command."""
    return await command.run(
        job,
        sources=["tree:linux-next"],
        hosts=["kvm1"],
        pool=Pool([], clock=lambda: NOW),
        database=database,
    )


async def carry_out(database: Database, job: Job) -> StoredCommand:
    """Have a command executed and answered."""
    facts = await read(database, job)
    assert facts is not None
    await database.write(effects.record, job, facts, now=NOW)
    return await database.read(commands.load, int(job.key))


async def order(database: Database, verb: Verb, argument: str) -> StoredCommand:
    return await carry_out(database, await give(database, verb, argument))


async def rows(database: Database, statement: str) -> list[tuple[object, ...]]:
    return await database.read(lambda tx: [tuple(row) for row in tx.execute(statement)])


# --- hosts ----------------------------------------------------------------------------------------


async def test_a_proof_is_kept_with_its_figures(database: Database) -> None:
    found = await order(database, Verb.PROVE_HOST, json.dumps(PROOF))
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
    found = await order(database, Verb.PROVE_HOST, argument)
    assert found.state is CommandState.REFUSED
    assert await database.read(hosts.seen) == ()


# --- once -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("verb", "argument", "changed"), ORDERS)
async def test_a_command_and_its_answer_are_one_transaction(
    database: Database, verb: Verb, argument: str, changed: str
) -> None:
    """Killed before the end, nothing is done and nothing answered; then both."""
    await database.write(fill)
    before = await rows(database, changed)
    job = await give(database, verb, argument)
    facts = await read(database, job)
    assert facts is not None
    assert await rows(database, changed) == before

    def killed(tx: Transaction) -> None:
        effects.record(tx, job, facts, now=NOW)
        raise KilledError

    with pytest.raises(KilledError):
        await database.write(killed)
    assert await rows(database, changed) == before
    stored = await database.read(commands.load, int(job.key))
    assert (stored.state, stored.answer) == (CommandState.ASKED, None)
    await database.write(queue.recover, now=NOW)
    found = await carry_out(database, await claim(database))
    assert found.state is CommandState.DONE, found.answer
    assert await rows(database, changed) != before


@pytest.mark.parametrize(("verb", "argument", "changed"), ORDERS)
async def test_a_command_that_runs_twice_is_answered_once(
    database: Database, verb: Verb, argument: str, changed: str
) -> None:
    await database.write(fill)
    stale = await give(database, verb, argument)
    facts = await read(database, stale)
    assert facts is not None
    await database.write(queue.recover, now=NOW)
    again = await claim(database)
    assert again.key == stale.key
    answered = await carry_out(database, again)
    assert answered.state is CommandState.DONE, answered.answer
    after = await rows(database, changed)
    # The first attempt comes late with the same order.
    with pytest.raises(LeaseLostError):
        await database.write(effects.record, stale, facts, now=NOW)
    assert await database.read(commands.load, int(stale.key)) == answered
    assert await rows(database, changed) == after
    # A job that is queued once more finds it answered.
    await database.write(queue.enqueue, JobKind.COMMAND, stale.key, now=NOW)
    assert await read(database, await claim(database)) is None


# --- retest ---------------------------------------------------------------------------------------


async def counted(database: Database, tag: str, variant: str) -> tuple[int, int, StoredTrial]:
    """The lane, the revision, and the trial by which a tag counts in a variant."""

    def find(tx: Transaction) -> tuple[int, int, StoredTrial]:
        revision = revisions.find(tx, TREE, tag)
        assert revision is not None
        ((lane, number),) = lanes.planned(tx, revision, variant)
        return lane, revision, trials.load(tx, number)

    return await database.read(find)


async def queued(database: Database) -> set[tuple[JobKind, str]]:
    alive = await database.read(queue.alive)
    return {(JobKind(job.kind), job.key) for job in alive}


async def test_what_the_lab_failed_at_is_tried_again(database: Database) -> None:
    await database.write(fill)
    _, _, before = await counted(database, "next-20261118", "x86_64-plain")
    assert before.outcome is Outcome.INFRA
    found = await order(database, Verb.RETEST, f"{TREE} next-20261118 x86_64-plain")
    assert found.state is CommandState.DONE
    assert found.answer == f"{TREE} next-20261118: 1 trial is tested again"
    _, _, after = await counted(database, "next-20261118", "x86_64-plain")
    assert (after.id, after.outcome, after.waits_kind) == (before.id, None, JobKind.BOOT)
    assert (JobKind.BOOT, after.waits_key) in await queued(database)


async def test_a_settled_tag_gets_one_more_sample(database: Database) -> None:
    """Also after an investigation has booted it again itself."""
    history = await database.write(fill)
    _, _, before = await counted(database, "next-20261120", "x86_64")
    assert before.outcome is Outcome.PASS
    assert before.boot_key == history.boot
    asked = before.trial.again(repeat=1)
    assert await database.read(trials.find, asked)
    found = await order(database, Verb.RETEST, RETESTED)
    assert found.state is CommandState.DONE
    lane, _, after = await counted(database, "next-20261120", "x86_64")
    assert after.trial == before.trial.again(repeat=2)
    assert (after.outcome, after.waits_kind) == (None, JobKind.BOOT)
    assert (JobKind.BOOT, after.waits_key) in await queued(database)
    wants = await rows(database, "SELECT trial, asker_kind, asker_key FROM want")
    assert [want for want in wants if want[0] == after.id] == [(after.id, JobKind.JUDGE, str(lane))]
    # The result that was there stays.
    kept = await database.read(trials.load, before.id)
    assert (kept.outcome, kept.boot_key) == (before.outcome, before.boot_key)


async def test_a_sample_that_another_trial_has_booted_is_not_one_more(database: Database) -> None:
    """An investigation names the tools of its trials, and shares boots with those that do not."""
    await database.write(fill)
    shared = "next-20261118"
    _, _, before = await counted(database, shared, "x86_64")
    pinned = "5" * 16
    await database.write(
        lambda tx: tx.execute(
            "UPDATE trial SET environment = ? WHERE repeat = 1 AND source = ?",
            (pinned, before.trial.source.key),
        ).fetchone()
    )
    await order(database, Verb.RETEST, f"{TREE} {shared} x86_64")
    _, _, after = await counted(database, shared, "x86_64")
    assert after.trial.sample.repeat == 2
    assert after.outcome is None


async def test_a_trial_under_way_is_not_started_twice(database: Database) -> None:
    await database.write(fill)
    _, _, before = await counted(database, "next-20261120", "x86_64-kasan")
    assert before.outcome is None
    jobs = await queued(database)
    found = await order(database, Verb.RETEST, f"{TREE} next-20261120 x86_64-kasan")
    assert found.state is CommandState.DONE
    _, _, after = await counted(database, "next-20261120", "x86_64-kasan")
    assert after == before
    assert await queued(database) == jobs


async def test_a_tag_is_tested_again_in_all_its_variants(database: Database) -> None:
    await database.write(fill)
    found = await order(database, Verb.RETEST, f"{TREE} next-20261118")
    assert found.answer == f"{TREE} next-20261118: 3 trials are tested again"
    for variant in ("x86_64", "x86_64-kasan", "x86_64-plain"):
        _, _, after = await counted(database, "next-20261118", variant)
        assert after.outcome is None, variant


@pytest.mark.parametrize(
    ("argument", "text"),
    [
        (f"{TREE} next-20991231", "nothing is planned for linux-next next-20991231: see"),
        (f"{TREE} next-20261118 s390", "nothing is planned for linux-next next-20261118 s390: see"),
        ("other next-20261118", "nothing is planned for other next-20261118: see"),
        (TREE, "name a tree, a tag and optionally a variant"),
        (f"{TREE} next-20261118 x86_64 twice", "name a tree, a tag and optionally a variant"),
        ("", "name a tree, a tag and optionally a variant"),
    ],
)
async def test_what_cannot_be_tested_again(database: Database, argument: str, text: str) -> None:
    await database.write(fill)
    before = await rows(database, "SELECT id, outcome, waits_kind FROM trial")
    found = await order(database, Verb.RETEST, argument)
    assert found.state is CommandState.REFUSED
    assert text in (found.answer or "")
    assert await rows(database, "SELECT id, outcome, waits_kind FROM trial") == before
