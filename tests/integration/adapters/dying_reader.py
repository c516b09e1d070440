# SPDX-License-Identifier: GPL-2.0-or-later
"""The reader of mails with two defects: one mail crashes it, one never ends."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

from kwatch.adapters import mail_reader

if TYPE_CHECKING:
    from datetime import datetime

describe = mail_reader.describe


def defective(raw: bytes, received_at: datetime) -> dict[str, object]:
    if raw.endswith(b"\n\ndie\n"):
        os.kill(os.getpid(), signal.SIGSEGV)
    while raw.endswith(b"\n\nloop\n"):
        pass
    return describe(raw, received_at)


if __name__ == "__main__":
    mail_reader.describe = defective
    mail_reader.MAIL_SECONDS = 0.2
    sys.exit(mail_reader.main())
