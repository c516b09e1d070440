# SPDX-License-Identifier: GPL-2.0-or-later
"""Hosts: this machine, and what is behind a real sshd."""

from __future__ import annotations

import contextlib
import platform
from typing import TYPE_CHECKING

import pytest

from kwatch.adapters.host.host import Host
from kwatch.domain.lab.host import HostSpec, Slot
from tests.lab.sshd import SshHost

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def sshd(tmp_path: Path) -> AsyncIterator[SshHost]:
    async with SshHost(tmp_path / "sshd") as server:
        yield server


@pytest.fixture
async def there(sshd: SshHost, tmp_path: Path) -> AsyncIterator[Host]:
    async with Host(sshd.spec(tmp_path / "there")) as host:
        yield host
        await host.runs.reap(())


@pytest.fixture(params=["local", "ssh"])
async def host(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Host]:
    async with contextlib.AsyncExitStack() as stack:
        if request.param == "local":
            spec = HostSpec(
                name="here",
                directory=str(tmp_path / "here"),
                arch=platform.machine(),
                slots={Slot.BUILD: 1, Slot.BOOT: 1},
            )
        else:
            server = await stack.enter_async_context(SshHost(tmp_path / "sshd"))
            spec = server.spec(tmp_path / "there")
        found = await stack.enter_async_context(Host(spec))
        yield found
        await found.runs.reap(())
