# SPDX-License-Identifier: GPL-2.0-or-later
"""A real mail server on loopback: it keeps every mail, feeds the lists, and can misbehave."""

from __future__ import annotations

import asyncio
import json
import warnings
from dataclasses import asdict, dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Self

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

from tests.lab.process import LOOPBACK

if TYPE_CHECKING:
    from pathlib import Path

    from aiosmtpd.smtp import Envelope, Session

    from tests.lab.inbox import Inbox


class Fault(Enum):
    """What the server does wrong from now on."""

    NONE = "none"
    REFUSE_CONNECT = "nothing listens on the port"
    SLOW = "every answer takes ``delay`` seconds"
    TEMPORARY = "451 to every MAIL FROM"
    PERMANENT_RECIPIENT = "550 to the addresses in ``refused``"
    GARBAGE = "what it says is not SMTP"
    CLOSE_AFTER_DATA = "keeps the mail, then drops the connection without an answer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """One mail that the server took: the envelope, and the bytes as they came (CRLF)."""

    sender: str
    recipients: tuple[str, ...]
    content: bytes


class MailServer:
    """SMTP on a free port of loopback; an async context manager on the running loop.

    Mails to the address of a list of ``inbox`` are delivered there. Everything accepted stays in
    ``directory`` as NNNN.eml beside NNNN.json (the envelope), in order, over restarts too. With
    ``user`` set, AUTH is demanded.
    """

    def __init__(
        self,
        directory: Path,
        *,
        inbox: Inbox | None = None,
        user: str | None = None,
        password: str = "",
    ) -> None:
        self.directory = directory
        self.inbox = inbox
        self.host = LOOPBACK
        self.port = 0
        self.fault = Fault.NONE
        self.refused: frozenset[str] = frozenset()
        self.delay = 5.0
        self._user = user
        self._password = password
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.WriteTransport] = set()
        self._taking: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self.directory.mkdir(parents=True, exist_ok=True)
        await self._open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._close()
        await asyncio.gather(*self._taking)

    async def set_fault(
        self, fault: Fault, *, refused: frozenset[str] = frozenset(), delay: float = 5.0
    ) -> None:
        """Switch to ``fault``; open connections see it at their next command."""
        self.fault, self.refused, self.delay = fault, refused, delay
        if fault is Fault.REFUSE_CONNECT:
            await self._close()
        elif self._server is None:
            await self._open()

    def accepted(self) -> list[Accepted]:
        """Every mail ever accepted below ``directory``, oldest first."""
        found = []
        for path in sorted(self.directory.glob("*.json")):
            envelope = json.loads(path.read_text())
            found.append(
                Accepted(
                    sender=envelope["sender"],
                    recipients=tuple(envelope["recipients"]),
                    content=path.with_suffix(".eml").read_bytes(),
                )
            )
        return found

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._session, self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._server is None:
            return
        server, self._server = self._server, None
        server.close()
        for transport in tuple(self._connections):
            transport.abort()
        await asyncio.sleep(0)

    def _session(self) -> asyncio.Protocol:
        if self.fault is Fault.GARBAGE:
            return _Garbage()
        with warnings.catch_warnings():
            # aiosmtpd warns of a password without TLS, which is what loopback is for.
            warnings.simplefilter("ignore", UserWarning)
            return _Session(
                _Handler(self),
                server=self,
                hostname="mail.example.org",
                enable_SMTPUTF8=False,
                authenticator=self._authenticate,
                auth_required=self._user is not None,
                auth_require_tls=False,
            )

    def _authenticate(
        self, _server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, given: object
    ) -> AuthResult:
        right = isinstance(given, LoginPassword) and (given.login, given.password) == (
            (self._user or "").encode(),
            self._password.encode(),
        )
        return AuthResult(success=right, handled=right)

    async def take(self, accepted: Accepted) -> None:
        """Keep one mail and give it to the lists among its recipients.

        That is not interrupted by a client that dies: an archive that is killed between its
        commit and its index would take the same mail for a new one later.
        """
        task = asyncio.create_task(self._deliver(accepted))
        self._taking.add(task)
        task.add_done_callback(self._taking.discard)
        await asyncio.shield(task)

    async def _deliver(self, accepted: Accepted) -> None:
        number = len(list(self.directory.glob("*.json"))) + 1
        path = self.directory / f"{number:04}.eml"
        path.write_bytes(accepted.content)
        envelope = asdict(accepted)
        del envelope["content"]
        # The envelope comes last: a mail counts once both files stand.
        path.with_suffix(".json").write_text(json.dumps(envelope))
        if self.inbox is None:
            return
        for name in self.inbox.lists:
            if self.inbox.address(name) in {address.lower() for address in accepted.recipients}:
                await self.inbox.deliver(name, accepted.content)


class _Session(SMTP):  # aiosmtpd has no other way to see its connections
    def __init__(self, handler: _Handler, *, server: MailServer, **options: Any) -> None:  # noqa: ANN401
        super().__init__(handler, **options)
        self._connections = server._connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert isinstance(transport, asyncio.WriteTransport)
        self._open = transport
        self._connections.add(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._connections.discard(self._open)
        super().connection_lost(error)


class _Garbage(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        transport.write(b"\x00\xff\xfenot a mail server\r\n" * 3)
        transport.close()


class _Handler:
    """The hooks of aiosmtpd, which finds them by name."""

    def __init__(self, server: MailServer) -> None:
        self._server = server

    async def _wait(self) -> None:
        if self._server.fault is Fault.SLOW:
            await asyncio.sleep(self._server.delay)

    async def handle_MAIL(  # noqa: N802
        self, _smtp: SMTP, _session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        await self._wait()
        if self._server.fault is Fault.TEMPORARY:
            return "451 4.3.0 try again later"
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_RCPT(  # noqa: N802
        self, _smtp: SMTP, _session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        await self._wait()
        server = self._server
        if server.fault is Fault.PERMANENT_RECIPIENT and address in server.refused:
            return "550 5.1.1 no such user"
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 OK"

    async def handle_DATA(self, smtp: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        await self._wait()
        assert isinstance(envelope.content, bytes)
        await self._server.take(
            Accepted(
                sender=envelope.mail_from or "",
                recipients=tuple(envelope.rcpt_tos),
                content=envelope.content,
            )
        )
        if self._server.fault is Fault.CLOSE_AFTER_DATA:
            assert isinstance(smtp.transport, asyncio.WriteTransport)
            smtp.transport.abort()
        return "250 OK"
