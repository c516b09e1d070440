# SPDX-License-Identifier: GPL-2.0-or-later
"""One patch as mailers and lists hand it on."""

from __future__ import annotations

import base64
import quopri
from dataclasses import dataclass

DIFF = """\
diff --git a/lib/thing.c b/lib/thing.c
index 257cc56..5716ca5 100644
--- a/lib/thing.c
+++ b/lib/thing.c
@@ -1,3 +1,4 @@ int thing(void)
 first
-second
+2nd
+--\x20
 third
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mailed:
    """What the commit is made of."""

    author: str = "Jörg Author <Author@example.org>"
    date: str = "Thu, 05 Sep 2024 04:32:00 +0200"
    subject: str = "lib: do the thing"
    text: str = "Because.\n\nSigned-off-by: Jörg Author <Author@example.org>"
    diff: str = DIFF

    def raw(
        self,
        *,
        headers: tuple[str, ...] = (),
        prefix: str = "[PATCH 1/2] ",
        notes: str = " lib/thing.c | 3 ++-\n 1 file changed, 2 insertions(+), 1 deletion(-)\n",
        footer: str = "",
        encoding: str = "8bit",
        crlf: bool = False,
        in_body: bool = False,
    ) -> bytes:
        """The mail; ``in_body``: sent by a bot, with the author in the first line."""
        body = f"{self.text}\n---\n{notes}\n{self.diff}-- \n2.39.5\n\n{footer}"
        sender = self.author
        if in_body:
            body = f"From: {self.author}\n\n{body}"
            sender = "a bot <bot@example.org>"
        octets = body.encode()
        match encoding:
            case "base64":
                octets = base64.encodebytes(octets)
            case "quoted-printable":
                octets = quopri.encodestring(octets)
            case _:
                pass
        lines = [
            *headers,
            f"From: {sender}",
            f"Date: {self.date}",
            f"Subject: {prefix}{self.subject}",
            "Content-Type: text/plain; charset=utf-8",
            f"Content-Transfer-Encoding: {encoding}",
        ]
        mail = "\n".join(lines).encode() + b"\n\n" + octets
        return mail.replace(b"\n", b"\r\n") if crlf else mail
