# SPDX-License-Identifier: GPL-2.0-or-later
"""What the mail server says, or fails to say, becomes a delivery or a failure of the lab."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from aiosmtpd.smtp import SMTP

from kwatch.adapters.smtp import Security, Smtp, SmtpSettings
from kwatch.domain.mail.story import Delivery, DeliveryState
from kwatch.errors import InfraError
from tests.lab.process import LOOPBACK
from tests.lab.smtpd import Fault, MailServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from aiosmtpd.smtp import Envelope, Session

MESSAGE = (
    b"From: kwatch <kwatch@example.org>\n"
    b"Message-ID: <20261118.r17.1.abcd1234@lab.example.org>\n"
    b"Content-Type: text/plain; charset=utf-8\n"
    b"Content-Transfer-Encoding: 8bit\n"
    b"\n"
    b"M\xc3\xa4intainer\n"
    b".a line that begins with a dot\n"
    b".\n"
    b"the end\n"
)
BOT = "kwatch+b-1@example.org"
ONE, TWO = "one@example.org", "two@example.org"


def door(server: MailServer, **changes: object) -> Smtp:
    settings = SmtpSettings(
        host=server.host,
        port=server.port,
        security=Security.PLAIN,
        name="lab.example.org",
        timeout=5,
    )
    return Smtp(replace(settings, **changes))  # type: ignore[arg-type]


async def test_a_mail_arrives_byte_for_byte(tmp_path: Path) -> None:
    async with MailServer(tmp_path) as server:
        answers = await door(server).deliver(MESSAGE, BOT, (ONE, TWO))
        assert [(found.address, found.state) for found in answers] == [
            (ONE, DeliveryState.ACCEPTED),
            (TWO, DeliveryState.ACCEPTED),
        ]
        (mail,) = server.accepted()
    assert mail.sender == BOT
    assert mail.recipients == (ONE, TWO)
    assert mail.content == MESSAGE.replace(b"\n", b"\r\n")


async def test_a_refused_recipient_does_not_keep_the_mail_from_others(tmp_path: Path) -> None:
    async with MailServer(tmp_path) as server:
        await server.set_fault(Fault.PERMANENT_RECIPIENT, refused=frozenset({ONE}))
        answers = await door(server).deliver(MESSAGE, BOT, (ONE, TWO))
        assert answers == (
            Delivery(address=ONE, state=DeliveryState.REFUSED, answer="550 5.1.1 no such user"),
            Delivery(address=TWO, state=DeliveryState.ACCEPTED, answer="250"),
        )
        assert [mail.recipients for mail in server.accepted()] == [(TWO,)]


async def test_all_refused_is_an_answer_not_a_failure(tmp_path: Path) -> None:
    async with MailServer(tmp_path) as server:
        await server.set_fault(Fault.PERMANENT_RECIPIENT, refused=frozenset({ONE, TWO}))
        answers = await door(server).deliver(MESSAGE, BOT, (ONE, TWO))
        assert {found.state for found in answers} == {DeliveryState.REFUSED}
        assert server.accepted() == []


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault.REFUSE_CONNECT, "check that the server runs"),
        (Fault.GARBAGE, "not an SMTP answer"),
        (Fault.TEMPORARY, "451 4.3.0 try again later"),
        (Fault.CLOSE_AFTER_DATA, "the session broke"),
        (Fault.SLOW, "timed out"),
    ],
)
async def test_a_broken_session_is_the_labs_failure(
    tmp_path: Path, fault: Fault, said: str
) -> None:
    async with MailServer(tmp_path) as server:
        smtp = door(server, timeout=0.5)
        await server.set_fault(fault, delay=3)
        with pytest.raises(InfraError, match=f"mail server {LOOPBACK}:{server.port}: .*{said}"):
            await smtp.deliver(MESSAGE, BOT, (ONE,))
        await server.set_fault(Fault.NONE)
        assert [found.state for found in await smtp.deliver(MESSAGE, BOT, (ONE,))] == [
            DeliveryState.ACCEPTED
        ]


async def test_login(tmp_path: Path) -> None:
    async with MailServer(tmp_path, user="bot", password="right") as server:
        assert await door(server, user="bot", password="right").deliver(MESSAGE, BOT, (ONE,))
        with pytest.raises(InfraError, match=r"login of bot \(535.*check mail\.smtp\.user"):
            await door(server, user="bot", password="wrong").deliver(MESSAGE, BOT, (ONE,))
        assert "wrong" not in repr(door(server, password="wrong").settings)


async def test_login_where_the_server_knows_none(tmp_path: Path) -> None:
    async with MailServer(tmp_path) as server:
        with pytest.raises(InfraError, match=r"check mail\.smtp\.user|Check mail\.smtp\.security"):
            await door(server, user="bot", password="x").deliver(MESSAGE, BOT, (ONE,))


async def test_starttls_where_the_server_knows_none(tmp_path: Path) -> None:
    async with MailServer(tmp_path) as server:
        with pytest.raises(InfraError, match=r"Check mail\.smtp\.security"):
            await door(server, security=Security.STARTTLS).deliver(MESSAGE, BOT, (ONE,))
        assert server.accepted() == []


async def test_cancelling_hangs_up_and_frees_the_thread(tmp_path: Path) -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    async with MailServer(tmp_path) as server:
        await server.set_fault(Fault.SLOW, delay=20)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await door(server, timeout=60).deliver(MESSAGE, BOT, (ONE,))
        # The only thread is free again long before the server or a timeout would have freed it.
        async with asyncio.timeout(2):
            await asyncio.to_thread(time.monotonic)
        assert server.accepted() == []


async def test_a_server_that_drips_is_given_up(tmp_path: Path) -> None:
    async with serving(Drip) as port:
        smtp = Smtp(
            SmtpSettings(
                host=LOOPBACK,
                port=port,
                security=Security.PLAIN,
                name="lab.example.org",
                timeout=0.3,
            )
        )
        with pytest.raises(InfraError, match="did not end within"):
            await smtp.deliver(MESSAGE, BOT, (ONE,))


@pytest.mark.parametrize(
    ("rcpt", "data", "states"),
    [
        (["450 later", "450 later"], "250 OK", None),
        (["450 later", "550 never"], "250 OK", ["deferred", "refused"]),
        (["450 later", "250 OK"], "250 OK", ["deferred", "accepted"]),
        (["421 closing", "250 OK"], "250 OK", None),
        (["250 OK", "250 OK"], "452 full", None),
        (["250 OK", "250 OK"], "554 too \x1b[1mbig", ["refused", "refused"]),
    ],
)
async def test_the_words_of_a_server(rcpt: list[str], data: str, states: list[str] | None) -> None:
    class Words:
        def __init__(self) -> None:
            self.rcpt = iter(rcpt)

        async def handle_RCPT(  # noqa: N802
            self,
            _smtp: SMTP,
            _session: Session,
            envelope: Envelope,
            address: str,
            _options: list[str],
        ) -> str:
            answer = next(self.rcpt)
            if answer.startswith("250"):
                envelope.rcpt_tos.append(address)
            return answer

        async def handle_DATA(self, _smtp: SMTP, _session: Session, _envelope: Envelope) -> str:  # noqa: N802
            return data

    async with serving(lambda: SMTP(Words(), hostname="mail.example.org")) as port:
        smtp = Smtp(
            SmtpSettings(
                host=LOOPBACK, port=port, security=Security.PLAIN, name="lab.example.org", timeout=5
            )
        )
        if states is None:
            with pytest.raises(InfraError, match="tried again"):
                await smtp.deliver(MESSAGE, BOT, (ONE, TWO))
        else:
            answers = await smtp.deliver(MESSAGE, BOT, (ONE, TWO))
            assert [found.state.value for found in answers] == states
            assert all(found.answer.isprintable() for found in answers)


@pytest.mark.parametrize("security", [Security.STARTTLS, Security.TLS])
async def test_protected_connections(
    security: Security, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[bytes] = []

    class Keep:
        async def handle_DATA(self, _smtp: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
            assert isinstance(envelope.content, bytes)
            taken.append(envelope.content)
            return "250 OK"

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    is_tls = security is Security.TLS

    def session() -> SMTP:
        return SMTP(
            Keep(),
            hostname="mail.example.org",
            tls_context=None if is_tls else context,
            require_starttls=not is_tls,
        )

    async with serving(session, context if is_tls else None) as port:
        smtp = Smtp(
            SmtpSettings(
                host=LOOPBACK, port=port, security=security, name="lab.example.org", timeout=5
            )
        )
        with pytest.raises(
            InfraError, match=r"check mail\.smtp\.security, mail\.smtp\.host and the"
        ):
            await smtp.deliver(MESSAGE, BOT, (ONE,))
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        (answer,) = await smtp.deliver(MESSAGE, BOT, (ONE,))
    assert answer.state is DeliveryState.ACCEPTED
    assert taken == [MESSAGE.replace(b"\n", b"\r\n")]


class Drip(asyncio.Protocol):
    """A greeting that never ends, one byte at a time."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self.transport = transport
        self.drip()

    def drip(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(b"2")
            asyncio.get_running_loop().call_later(0.1, self.drip)


@asynccontextmanager
async def serving(
    session: Callable[[], asyncio.Protocol], context: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    loop = asyncio.get_running_loop()
    transports: list[asyncio.BaseTransport] = []

    def kept() -> asyncio.Protocol:
        protocol = session()
        connected = protocol.connection_made

        def connection_made(transport: asyncio.BaseTransport) -> None:
            transports.append(transport)
            connected(transport)

        protocol.connection_made = connection_made  # type: ignore[method-assign]
        return protocol

    server = await loop.create_server(kept, LOOPBACK, 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for transport in transports:
            assert isinstance(transport, asyncio.WriteTransport)
            # Python 3.11.2 forgets the protocol of a TLS connection that the client closed.
            with suppress(AttributeError):
                transport.abort()
        await asyncio.sleep(0.05)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=lab", "-addext", f"subjectAltName=IP:{LOOPBACK}"),
            *("-keyout", path, "-out", path.with_name("cert.pem")),
        ],
        check=True,
        capture_output=True,
    )
    path.write_bytes(path.read_bytes() + path.with_name("cert.pem").read_bytes())
    return path
