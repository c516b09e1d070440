# SPDX-License-Identifier: GPL-2.0-or-later
"""SMTP client.

smtplib runs in a thread. A recipient that the server refuses is a result; a session that breaks is
an InfraError, and the mail is sent again with the same Message-ID.
"""

from __future__ import annotations

import asyncio
import contextlib
import smtplib
import socket
import ssl
import threading
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, assert_never

from kwatch.domain.mail.story import Delivery, DeliveryState
from kwatch.errors import InfraError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_ANSWERS_IN_A_SESSION = 5
"""How many times its timeout a whole session may take."""


class Security(StrEnum):
    """How the connection is protected. PLAIN is for a relay on the same machine."""

    PLAIN = "plain"
    STARTTLS = "starttls"
    TLS = "tls"


@dataclass(frozen=True, slots=True, kw_only=True)
class SmtpSettings:
    """How to reach the mail server.

    ``name`` is the host name for EHLO, a full domain name. ``timeout`` is the limit for each answer
    of the server, in seconds. Without ``user`` there is no login.
    """

    host: str
    port: int
    security: Security
    name: str
    timeout: float = 60.0
    user: str | None = None
    password: str = field(default="", repr=False)


class Smtp:
    """Sends mails through one mail server, one session for each mail."""

    def __init__(self, settings: SmtpSettings) -> None:
        self.settings = settings

    async def deliver(
        self, message: bytes, envelope_from: str, recipients: Sequence[str]
    ) -> tuple[Delivery, ...]:
        """Send ``message`` (LF line ends) and return the answer for each recipient, in order.

        Raise InfraError if the session broke or all recipients were deferred: the mail may have
        been accepted or not. Cancelling closes the connection.
        """
        session = _Session(self.settings)
        limit = self.settings.timeout * _ANSWERS_IN_A_SESSION
        try:
            async with asyncio.timeout(limit):
                return await asyncio.to_thread(
                    session.converse, message, envelope_from, tuple(recipients)
                )
        except TimeoutError as error:
            raise InfraError(
                f"{session.where}: the session did not end within {limit:g} s: "
                "look at the server's log"
            ) from error
        finally:
            session.hang_up()


class _Session:
    """One connection; ``converse`` runs in a thread, ``hang_up`` may be called from another."""

    def __init__(self, settings: SmtpSettings) -> None:
        self.where = f"mail server {settings.host}:{settings.port}"
        self._settings = settings
        self._client: smtplib.SMTP | None = None
        self._is_over = threading.Event()

    def hang_up(self) -> None:
        """Close the connection, which ends a blocked ``converse``. Safe to call at any time."""
        self._is_over.set()
        connection = self._client.sock if self._client else None
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def converse(
        self, message: bytes, envelope_from: str, recipients: tuple[str, ...]
    ) -> tuple[Delivery, ...]:
        try:
            self._client = client = self._connect()
            try:
                self._go_on()
                self._greet(client)
                self._go_on()
                return self._send(client, message, envelope_from, recipients)
            finally:
                client.close()
        except smtplib.SMTPAuthenticationError as error:
            raise InfraError(
                f"{self.where}: it refuses the login of {self._settings.user} "
                f"({_answer(error.smtp_code, error.smtp_error)}): "
                "check mail.smtp.user and mail.smtp.password_file in the configuration"
            ) from error
        except smtplib.SMTPNotSupportedError as error:
            raise InfraError(
                f"{self.where}: {error} Check mail.smtp.security, mail.smtp.port and "
                "mail.smtp.user in the configuration"
            ) from error
        except smtplib.SMTPResponseException as error:
            raise InfraError(
                f"{self.where}: {_answer(error.smtp_code, error.smtp_error)}: "
                "the mail stays in the outbox and is tried again"
            ) from error
        except ssl.SSLError as error:
            raise InfraError(
                f"{self.where}: no protected connection ({error}): check mail.smtp.security, "
                "mail.smtp.host and the server's certificate"
            ) from error
        # smtplib lets a line that is too long or a broken AUTH challenge out as ValueError.
        except (OSError, ValueError) as error:
            raise InfraError(
                f"{self.where}: the session broke ({str(error) or type(error).__name__}): check "
                "that the server runs, and mail.smtp.host and mail.smtp.port in the configuration"
            ) from error

    def _go_on(self) -> None:
        if self._is_over.is_set():
            raise ConnectionAbortedError("nobody waits for it any more")

    def _connect(self) -> smtplib.SMTP:
        settings = self._settings
        match settings.security:
            case Security.PLAIN | Security.STARTTLS:
                return smtplib.SMTP(
                    settings.host, settings.port, settings.name, timeout=settings.timeout
                )
            case Security.TLS:
                return smtplib.SMTP_SSL(
                    settings.host,
                    settings.port,
                    settings.name,
                    timeout=settings.timeout,
                    context=ssl.create_default_context(),
                )
            case _:
                assert_never(settings.security)

    def _greet(self, client: smtplib.SMTP) -> None:
        client.ehlo_or_helo_if_needed()
        if self._settings.security is Security.STARTTLS:
            client.starttls(context=ssl.create_default_context())
            client.ehlo_or_helo_if_needed()
        if self._settings.user is not None:
            client.login(self._settings.user, self._settings.password)

    def _send(
        self,
        client: smtplib.SMTP,
        message: bytes,
        envelope_from: str,
        recipients: tuple[str, ...],
    ) -> tuple[Delivery, ...]:
        # smtplib asks for 8BITMIME only in send_message, which would rewrite the header.
        options = ["BODY=8BITMIME"] if client.has_extn("8bitmime") else []
        lines = message.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        try:
            refused = client.sendmail(envelope_from, recipients, lines, mail_options=options)
        except smtplib.SMTPRecipientsRefused as error:
            return self._nobody(recipients, error.recipients)
        except smtplib.SMTPDataError as error:
            if error.smtp_code < 500:
                raise
            answer = _answer(error.smtp_code, error.smtp_error)
            return tuple(
                Delivery(address=address, state=DeliveryState.REFUSED, answer=answer)
                for address in recipients
            )
        except smtplib.SMTPSenderRefused as error:
            if error.smtp_code < 500:
                raise
            raise InfraError(
                f"{self.where}: it takes no mail from {envelope_from} "
                f"({_answer(error.smtp_code, error.smtp_error)}): check mail.from_address in the "
                "configuration"
            ) from error
        with contextlib.suppress(OSError):
            client.quit()
        return _deliveries(recipients, refused)

    def _nobody(
        self, recipients: tuple[str, ...], refused: Mapping[str, tuple[int, bytes]]
    ) -> tuple[Delivery, ...]:
        """All recipients were refused. After 421 the server answers for some of them only."""
        if len(refused) < len(set(recipients)) or all(code < 500 for code, _ in refused.values()):
            code, text = list(refused.values())[-1]
            raise InfraError(
                f"{self.where}: it puts all recipients off ({_answer(code, text)}): "
                "the mail stays in the outbox and is tried again"
            )
        return _deliveries(recipients, refused)


def _deliveries(
    recipients: tuple[str, ...], refused: Mapping[str, tuple[int, bytes]]
) -> tuple[Delivery, ...]:
    found = []
    for address in recipients:
        if address not in refused:
            state, answer = DeliveryState.ACCEPTED, "250"
        else:
            code, text = refused[address]
            state = DeliveryState.DEFERRED if code < 500 else DeliveryState.REFUSED
            answer = _answer(code, text)
        found.append(Delivery(address=address, state=state, answer=answer))
    return tuple(found)


def _answer(code: int, text: bytes | str) -> str:
    """The server's answer, on one line."""
    words = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    printable = "".join(letter if letter.isprintable() else " " for letter in words)
    # smtplib gives -1 to a line that does not begin with three digits.
    start = "not an SMTP answer:" if code < 0 else str(code)
    return " ".join(f"{start} {printable}".split())[:300]
