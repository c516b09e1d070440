# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tests of the whole daemon share: a user for the lab's host, and one undisturbed run."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from tests.lab import toytree
from tests.lab.box import Box
from tests.lab.sshd import ensure_user, remove_user
from tests.lab.toy import history
from tests.lab.toytree import push, settle, toy_box

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TAGS = ("next-20261116", "next-20261117", "next-20261118")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def user() -> AsyncIterator[str]:
    """A user of this machine for the lab's host: what runs as it is the lab's."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a user for the lab's host")
    name = f"kwatch-t{os.getpid()}"
    await ensure_user(name)
    yield name
    await remove_user(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Three tags that went through a lab: good, silent, good again. The daemon still runs."""

    box: Box
    source: Path
    ids: Mapping[str, str]
    outcomes: Mapping[tuple[str, bool, int, int], tuple[str, int, str | None]]


@pytest_asyncio.fixture(scope="session", loop_scope="session", autouse=True)
async def started(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[asyncio.Task[Run] | None]:
    """The undisturbed run, begun at once: it mostly waits for silent guests, as others work."""
    wanted = any(
        "undisturbed" in getattr(item, "fixturenames", ()) for item in request.session.items
    )
    if not wanted or os.geteuid() != 0:
        yield None
        return
    name = f"kwatch-u{os.getpid()}"
    await ensure_user(name)
    directory = tmp_path_factory.mktemp("undisturbed")
    try:
        async with toy_box(directory, name) as box:
            task = asyncio.ensure_future(_run(box))
            yield task
            task.cancel()
            await asyncio.wait({task})
            assert await box.stop() == 0
    finally:
        await remove_user(name)


async def _run(box: Box) -> Run:
    source = box.directory / "source"
    ids = history.three_tags(source, plant="silent", fixed=True)
    await box.post_series()
    await box.start()
    for tag in TAGS:
        push(box, source, tag)
        await settle(box, tag, timeout=200)
    return Run(box=box, source=source, ids=ids, outcomes=toytree.outcomes(box))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def undisturbed(user: str, started: asyncio.Task[Run]) -> Run:
    """One run that nobody disturbs, shared by all that looks at its results."""
    return await asyncio.shield(started)
