# SPDX-License-Identifier: GPL-2.0-or-later
"""The MIME body of a mail: one text, or a text with attached files (RFC 2045, RFC 2046).

Plain text stays readable in the raw mail. What a relay or an mbox could change is base64.
"""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING

from kwatch.domain.mail import header

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kwatch.domain.mail.story import Attachment

_MAX_LINE = 990
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,60}")
_UNSAFE = re.compile(rb"(?m)^From |[^\t\n\x20-\x7e]|[\t ]$|[^\n]{%d}" % _MAX_LINE)


def multipart(text: str, attachments: Sequence[Attachment], token: str) -> bytes:
    """The MIME headers and the body; ``text`` has no line above 998 bytes.

    ``token`` makes the boundary.
    """
    if not attachments:
        return _text(text)
    boundary = f"kwatch-{token}"
    lines = header.line("Content-Type", f'multipart/mixed; boundary="{boundary}"')
    parts = [lines.encode() + b"\n", _part(boundary, _text(text))]
    parts += [_part(boundary, _file(one)) for one in attachments]
    return b"".join((*parts, f"--{boundary}--\n".encode()))


def _part(boundary: str, content: bytes) -> bytes:
    # The line end before a boundary belongs to the boundary.
    return f"--{boundary}\n".encode() + content + b"\n"


def _text(text: str) -> bytes:
    encoding = "7bit" if text.isascii() else "8bit"
    head = header.line("Content-Type", "text/plain; charset=utf-8")
    head += header.line("Content-Transfer-Encoding", encoding)
    return f"{head}\n{text}".encode()


def _file(attachment: Attachment) -> bytes:
    name, content = attachment.name, attachment.content
    if not _NAME.fullmatch(name):
        raise ValueError(f"not a name for an attachment: {name!r}")
    # No line of a file may look like a boundary.
    is_plain = not _UNSAFE.search(content) and b"\n--kwatch-" not in b"\n" + content
    kind = "application/gzip" if name.endswith(".gz") else "text/plain; charset=utf-8"
    head = header.line("Content-Type", f'{kind}; name="{name}"')
    head += header.line("Content-Disposition", f'attachment; filename="{name}"')
    head += header.line("Content-Transfer-Encoding", "7bit" if is_plain else "base64")
    data = content if is_plain else base64.encodebytes(content)
    return head.encode() + b"\n" + data
