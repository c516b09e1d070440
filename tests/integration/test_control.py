# SPDX-License-Identifier: GPL-2.0-or-later
"""The control socket over a real unix socket, with a worker behind it that answers, or none."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from kwatch.adapters.host.pool import Pool
from kwatch.domain.lab.command import CommandState, Verb
from kwatch.domain.lab.host import Health, HostState
from kwatch.domain.lab.job import JobKind
from kwatch.stages import command
from kwatch.store import commands, effects, hosts, queue
from kwatch.store.database import Database
from kwatch.web import control as module
from kwatch.web.control import LONGEST_ARGUMENT, make_control

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SOURCES = frozenset(f"tree:{name}" for name in ("next", *range(20)))
LOOK = {"verb": Verb.LOOK, "argument": "tree:next"}


@dataclass(slots=True, kw_only=True)
class Lab:
    database: Database
    path: Path
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    pool: Pool = field(default_factory=lambda: Pool([], clock=time.time))

    async def post(self, body: object, **settings: Any) -> tuple[int, dict[str, Any]]:  # noqa: ANN401
        """Status and answer to a command; ``body`` bytes are sent as they are."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        connector = aiohttp.UnixConnector(str(self.path))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.post("http://localhost/command", data=data, **settings) as response,
        ):
            text = await response.text()
            return response.status, json.loads(text) if text.startswith("{") else {}

    async def answer(self) -> None:
        """Carry out what is asked, as the worker does, until cancelled."""
        while True:
            await self.woken.wait()
            self.woken.clear()
            while True:
                job = await self.database.write(queue.claim, [JobKind.COMMAND], now=time.time())
                if job is None:
                    break
                facts = await command.run(
                    job,
                    sources=SOURCES,
                    hosts=["kvm-1"],
                    pool=self.pool,
                    database=self.database,
                )
                assert facts is not None
                await self.database.write(effects.record, job, facts, now=time.time())

    @contextlib.asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        task = asyncio.ensure_future(self.answer())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def count(self) -> int:
        return await self.database.read(
            lambda tx: int(tx.execute("SELECT count(*) FROM command").fetchone()[0])
        )


@pytest_asyncio.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    database = await Database.open(tmp_path / "history.sqlite")
    lab = Lab(database=database, path=tmp_path / "control.sock")
    runner = web.AppRunner(
        make_control(database=database, wake=lab.woken.set, clock=time.time),
        shutdown_timeout=1.0,
        access_log=None,
    )
    await runner.setup()
    await web.UnixSite(runner, str(lab.path)).start()
    yield lab
    await runner.cleanup()
    await database.close()


async def test_a_command_is_answered_when_it_is_carried_out(lab: Lab) -> None:
    async with lab.at_work():
        assert await lab.post(LOOK) == (
            200,
            {"state": CommandState.DONE, "answer": "looking at tree:next"},
        )
        jobs = await lab.database.read(queue.alive)
        assert [(job.kind, job.key) for job in jobs] == [(JobKind.WATCH, "next")]
        status, answer = await lab.post({"verb": Verb.RELEASE_MAIL, "argument": "7"})
        assert (status, answer["state"]) == (200, CommandState.REFUSED)
        assert "no held mail has the number 7" in answer["answer"]


async def test_a_host_is_taken_out_and_looked_over_again(lab: Lab) -> None:
    async with lab.at_work():
        await lab.pool.admit("kvm-1")
        status, answer = await lab.post({"verb": Verb.DRAIN_HOST, "argument": "kvm-1"})
        assert (status, answer["answer"]) == (200, "kvm-1 gets no more work")
        assert lab.pool.state("kvm-1").health is Health.DRAINED
        assert not lab.pool.wants_preflight("kvm-1")
        # A look at the host that was under way does not undo it, whatever it finds.
        await lab.pool.admit("kvm-1")
        lab.pool.hold("kvm-1", HostState(health=Health.QUARANTINED, reason="no make"))
        assert lab.pool.state("kvm-1").health is Health.DRAINED
        # A restart finds it there.
        (seen,) = await lab.database.read(hosts.seen)
        assert (seen.name, seen.state) == ("kvm-1", lab.pool.state("kvm-1"))
        await lab.post({"verb": Verb.RESUME_HOST, "argument": "kvm-1"})
        assert lab.pool.wants_preflight("kvm-1")
        (seen,) = await lab.database.read(hosts.seen)
        assert seen.state.health is Health.UNREACHABLE
        status, answer = await lab.post({"verb": Verb.DRAIN_HOST, "argument": "kvm-2"})
        assert (status, answer["state"]) == (200, CommandState.REFUSED)
        assert answer["answer"] == "no host is called 'kvm-2'; hosts: kvm-1"


async def test_who_asked_is_kept(lab: Lab) -> None:
    async with lab.at_work():
        await lab.post(LOOK)
    stored = await lab.database.read(commands.load, 1)
    assert stored.command.sender == f"uid {os.getuid()}"


async def test_many_at_a_time_get_their_own_answers(lab: Lab) -> None:
    async with lab.at_work():
        answers = await asyncio.gather(
            *(lab.post({"verb": "look", "argument": f"tree:{number}"}) for number in range(20))
        )
    assert [answer["answer"] for _, answer in answers] == [
        f"looking at tree:{number}" for number in range(20)
    ]


async def test_without_an_answer_the_command_stays(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.2)
    status, answer = await lab.post(LOOK)
    assert (status, answer) == (
        504,
        {"error": "no answer within a minute; the command stays in the queue"},
    )
    assert lab.woken.is_set()
    async with lab.at_work():
        async with asyncio.timeout(5):
            while (await lab.database.read(commands.load, 1)).state is CommandState.ASKED:
                await asyncio.sleep(0.01)


async def test_who_hangs_up_has_asked_all_the_same(lab: Lab) -> None:
    asking = asyncio.ensure_future(lab.post(LOOK))
    async with asyncio.timeout(30):
        while await lab.count() == 0:
            await asyncio.sleep(0.01)
    asking.cancel()
    await asyncio.wait({asking})
    # The server notices the lost connection, and the command stays.
    await asyncio.sleep(0.2)
    assert asking.cancelled()
    assert await lab.count() == 1


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"\xff\xfe", b"null", b"[]", b'"look"', b"7", b"{}", b"[" * 30_000,
        {"verb": "look"}, {"argument": "x"}, {"verb": "rm -rf", "argument": "/"},
        {"verb": None, "argument": "x"}, {"verb": [], "argument": "x"}, {"verb": {}, "argument": 1},
        {"verb": "look", "argument": "x" * (LONGEST_ARGUMENT + 1)},
        b'{"verb": "look", "argument": "\\ud800"}',
        b'{"verb": "look", "argument": ' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    ],
)  # fmt: skip
async def test_what_is_no_command_is_refused(
    lab: Lab, body: object, caplog: pytest.LogCaptureFixture
) -> None:
    status, answer = await lab.post(body)
    assert status == 400
    assert answer["error"]
    assert await lab.count() == 0
    assert "Traceback" not in caplog.text


async def test_a_charset_that_does_not_exist(lab: Lab) -> None:
    kind = {"Content-Type": "application/json; charset=no-such"}
    assert (await lab.post(LOOK, headers=kind))[0] == 400


async def test_a_body_is_bounded(lab: Lab) -> None:
    status, _ = await lab.post({"verb": "look", "argument": "x" * (1 << 17)})
    assert status == 413
    assert await lab.count() == 0


async def test_nothing_else_is_served(lab: Lab) -> None:
    connector = aiohttp.UnixConnector(str(lab.path))
    async with aiohttp.ClientSession(connector=connector) as session:
        for method, path, status in (("GET", "/command", 405), ("POST", "/", 404),
                                     ("GET", "/", 404)):  # fmt: skip
            async with session.request(method, f"http://localhost{path}") as response:
                assert response.status == status
