# SPDX-License-Identifier: GPL-2.0-or-later
"""The header of a mail as text.

The standard library's policies RFC 2047-encode long Message-IDs, which breaks threads, and differ
between Python versions in how they fold names; a mail that is stored once and sent for years must
not. All lines end in LF here.
"""

from __future__ import annotations

import re
from email.header import Header
from typing import TYPE_CHECKING

from kwatch.domain.text import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Mailbox = tuple[str, str]
"""Display name (may be empty) and address."""

_WIDTH = 78
_MAX_NAME = 60
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def line(name: str, value: str) -> str:
    """One header on one line: ``value`` is printable ASCII."""
    if _CONTROL.search(value) or not value.isascii():
        raise ValueError(f"no value for the header {name}: {value[:80]!r}")
    return f"{name}: {value}\n"


def identifiers(name: str, message_ids: Iterable[str]) -> str:
    """``In-Reply-To`` or ``References``: each Message-ID whole, on a line of its own."""
    return f"{name}: " + "\n ".join(f"<{_checked(found, ' <>')}>" for found in message_ids) + "\n"


def mailboxes(name: str, people: Sequence[Mailbox]) -> str:
    """``From``, ``To`` or ``Cc``: as many on a line as fit."""
    folded = [f"{name}:"]
    for number, person in enumerate(people):
        text = f" {_mailbox(person)}" + ("," if number < len(people) - 1 else "")
        if len(folded[-1]) + len(text) > _WIDTH and number:
            folded.append("")
        folded[-1] += text
    return "\n".join(folded) + "\n"


def _mailbox(person: Mailbox) -> str:
    name, address = (
        one_line(person[0], _MAX_NAME).replace("=?", "= ?"),
        _checked(person[1], ' <>,"'),
    )
    if not name:
        return address
    if not name.isascii():
        return f"{Header(name, 'utf-8').encode()} <{address}>"
    if not _ATOMS.fullmatch(name):
        name = '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return f"{name} <{address}>"


def _checked(token: str, forbidden: str) -> str:
    """An address or a Message-ID, which cannot end its header or its angle brackets."""
    if not token.isascii() or not token.isprintable() or set(token) & set(forbidden):
        raise ValueError(f"neither an address nor a Message-ID: {token[:80]!r}")
    return token
