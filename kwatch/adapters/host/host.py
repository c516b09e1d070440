# SPDX-License-Identifier: GPL-2.0-or-later
"""A host of the lab: the account there, its files by content, and its supervised runs."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Self

from kwatch.adapters.host.account import Account
from kwatch.adapters.host.cache import Cache
from kwatch.adapters.host.runs import PATIENCE, Runs
from kwatch.adapters.host.ssh import SshTransport
from kwatch.adapters.host.transport import LocalTransport, Transport

if TYPE_CHECKING:
    from kwatch.domain.lab.host import HostSpec


class Host:
    """One host, reached by ``transport`` (by default the one its specification asks for).

    ``owner`` is part of the names of uploads: the same over restarts, so that an upload resumes,
    and not that of another daemon. Use as ``async with``: leaving closes the connections, and
    leaves supervised runs to their lease.
    """

    def __init__(
        self,
        spec: HostSpec,
        *,
        transport: Transport | None = None,
        owner: str | None = None,
        patience: float = PATIENCE,
    ) -> None:
        self.spec = spec
        self.name = spec.name
        self._transport: Transport = transport or (
            LocalTransport(spec.name) if spec.address is None else SshTransport(spec)
        )
        self.account = Account(spec.name, spec.directory, self._transport)
        self.cache = Cache(self.account, self._transport, owner=owner or secrets.token_hex(4))
        self.runs = Runs(self.account, self._transport, patience=patience)
        self.looked_at: float | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Drop the connections; the next use connects again."""
        await self._transport.close()
