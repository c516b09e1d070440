# SPDX-License-Identifier: GPL-2.0-or-later
"""One mail from a list, read from its raw bytes.

What strangers send is hostile until parsed: every header access can fail in the standard
library's parser, so each is guarded, bounded in size, and a mail that makes no sense becomes
``Unreadable`` with the reason.
"""

from __future__ import annotations

import email.header
import email.parser
import email.policy
import email.utils
import hashlib
import itertools
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import Message
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MAX_MAIL = 2 << 20
"""Bytes of the largest mail that is read; of a larger one the size is reported."""

MAX_HEADER = 64 << 10
"""Characters of a header that are read; the longest real Cc lines have some 12000."""

MAX_PARTS = 100
"""Parts of a mail, nested ones too."""

MAX_CONTAINERS = 12
"""Multipart or forwarded parts of a mail: the parser's time grows with lines times nesting."""

MAX_CONTENT_HEADER = 4096
"""Bytes of a header that describes a part: the parser's time grows with their square."""

MAX_REPEATS = 20
"""Headers of one name that are read."""

MAX_REFERENCES = 200
"""Message-IDs of a header that are kept: the first, the root of the thread, and the last ones."""

MAX_SUBJECT = 1000
"""Characters of a subject that are read."""

MAX_NAMED = 2000
"""New files of a mail that are kept, and links."""

MAX_LINK = 900
"""Characters of a Message-ID in a link."""

_CONTAINER = re.compile(rb"^content-type:\s*(?:multipart|message)/", re.IGNORECASE | re.MULTILINE)
_CONTENT_HEADER = re.compile(
    rb"^content-[a-z-]{1,40}:[^\n]*(?:\n[ \t][^\n]*)*", re.IGNORECASE | re.MULTILINE
)
_MESSAGE_ID = re.compile(r"<([\x21-\x3b\x3d\x3f-\x7e]{3,900})>")
_RAW_MESSAGE_ID = re.compile(
    rb"^message-id:\s*<([\x21-\x3b\x3d\x3f-\x7e]{1,900})>", re.IGNORECASE | re.MULTILINE
)
_ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,200}@[A-Za-z0-9][A-Za-z0-9.-]{0,200}")
_IN_ANGLES = re.compile(r"<([^<>\s]{3,400})>")
_CHARSET = re.compile(
    r"(?:us-)?ascii|utf-?8|utf-16(?:[lb]e)?|iso-?8859-\d{1,2}|latin-?1|(?:windows-|cp)12\d\d|koi8-[ru]"
    r"|gb2312|gbk|gb18030|big5|euc-(?:jp|kr)|shift_jis|iso-2022-(?:jp|kr)"
)
_TAGS = re.compile(r"\s*((?:\[[^\[\]]{0,200}\]\s*)+)(.*)", re.DOTALL)
_COUNTER = re.compile(r"(\d{1,4})/(\d{1,4})")
_VERSION = re.compile(r"(?:patch-?|rfc-?)?v(\d{1,3})", re.IGNORECASE)
_PLAIN_VERSION = re.compile(r"v\d{1,3}", re.IGNORECASE)
_DIFF = re.compile(r"^diff --git a/", re.MULTILINE)
_NEW_FILE = re.compile(r"^diff --git a/(\S{1,400}) b/\S+\nnew file mode \d{6}$", re.MULTILINE)
_CREATED = re.compile(r"^ create mode \d{6} (\S{1,400})$", re.MULTILINE)
_CHANGE_ID = re.compile(r"^change-id: (\S{1,200})\s*$", re.MULTILINE)
_BASE_COMMIT = re.compile(r"^base-commit: ([0-9a-f]{12,64})\s*$", re.MULTILINE)
_LINK = re.compile(
    r"https?://(?:lore\.kernel\.org|lkml\.kernel\.org)/(?:[A-Za-z0-9._-]+/)+([^\s/<>?#]+@[^\s/<>?#]+)"
)


class MailKind(Enum):
    """What a mail is to a series."""

    COVER = "cover letter"
    PATCH = "patch"
    OTHER = "something else: a reply, an announcement"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """What is kept of one mail. Message-IDs have no angle brackets, addresses are in lower case.

    ``date`` is the sender's clock, never later than ``received_at``, the archive's clock. ``title``
    is the subject without the bracketed ``prefixes``; ``index`` of ``total`` and ``version``
    (1 where none is given) come from these. ``digest`` is the SHA-256 of the raw bytes, ``patch``
    that of what ``git am`` would commit (series.patch_digest()), where it was computed.
    """

    digest: str
    patch: str | None = None
    message_id: str
    in_reply_to: str | None
    references: tuple[str, ...]
    from_name: str
    from_address: str
    subject: str
    date: datetime | None
    received_at: datetime | None
    kind: MailKind
    prefixes: tuple[str, ...]
    title: str
    index: int
    total: int
    version: int
    has_diff: bool
    new_files: tuple[str, ...]
    links: tuple[str, ...]
    change_id: str | None
    base_commit: str | None

    @property
    def is_patch(self) -> bool:
        """Whether ``git am`` may get it: a numbered or single patch, no cover letter."""
        return self.kind is MailKind.PATCH

    @property
    def parents(self) -> tuple[str, ...]:
        """The mails that it answers, nearest first."""
        nearest = (self.in_reply_to,) if self.in_reply_to else ()
        return tuple(dict.fromkeys((*nearest, *reversed(self.references))))


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """A mail with its text, and whether a program sent it (RFC 3834)."""

    mail: Mail
    body: str
    auto_submitted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """A mail that cannot be used, and why."""

    digest: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Subject:
    kind: MailKind
    prefixes: tuple[str, ...]
    title: str
    index: int
    total: int
    version: int


def parse(raw: bytes, *, received_at: datetime | None = None) -> Parsed | Unreadable:
    """Read one mail; ``received_at`` (aware) is when the archive took it. Never raises."""
    message = opened(raw)
    if isinstance(message, Unreadable):
        return message
    digest = hashlib.sha256(raw).hexdigest()
    try:
        return _read(message, digest, received_at)
    except Exception as error:  # noqa: BLE001 - the parser's failures are the sender's choice
        return _unreadable(raw, f"{type(error).__name__}: {error}"[:200])


def opened(raw: bytes) -> Message | Unreadable:
    """One mail as the standard library parses it, within the limits above. Never raises."""
    if len(raw) > MAX_MAIL:
        return _unreadable(raw, f"{len(raw)} bytes, more than {MAX_MAIL}")
    # Some archives put a line of mbox format before the mail.
    content = raw.partition(b"\n")[2] if raw.startswith(b"From ") else raw
    # The parser takes a lone carriage return for a line end too.
    content = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if len(_CONTAINER.findall(content)) > MAX_CONTAINERS:
        return _unreadable(raw, f"more than {MAX_CONTAINERS} nested parts")
    if any(len(found[0]) > MAX_CONTENT_HEADER for found in _CONTENT_HEADER.finditer(content)):
        return _unreadable(raw, f"a Content header of more than {MAX_CONTENT_HEADER} bytes")
    try:
        parser = email.parser.BytesParser(_part_factory(), policy=email.policy.compat32)
        return parser.parsebytes(content)
    except Exception as error:  # noqa: BLE001 - the parser's failures are the sender's choice
        return _unreadable(raw, f"{type(error).__name__}: {error}"[:200])


def _unreadable(raw: bytes, reason: str) -> Unreadable:
    return Unreadable(digest=hashlib.sha256(raw).hexdigest(), reason=reason)


def _part_factory() -> Callable[..., Message]:
    """What the parser makes its parts with: it stops at the limit."""
    numbers = itertools.count()

    def create(*, policy: email.policy.Policy) -> Message:
        if next(numbers) > MAX_PARTS:
            raise ValueError(f"more than {MAX_PARTS} parts")
        return Message(policy=policy)

    return create


def message_id_of(raw: bytes) -> str:
    """The Message-ID of a mail that cannot be read, for the journal; "unknown" without one."""
    found = _RAW_MESSAGE_ID.search(raw[:MAX_HEADER])
    return found[1].decode("ascii", "replace") if found else "unknown"


def normalised(title: str) -> str:
    """A title for comparison: letters and digits only, in lower case."""
    return " ".join(re.findall(r"\w+", title.casefold()))


def _read(message: Message, digest: str, received_at: datetime | None) -> Parsed | Unreadable:
    headers = header_values(message)
    message_ids = _message_ids(headers, "message-id")
    if not message_ids:
        return Unreadable(digest=digest, reason="no Message-ID")
    # Two senders are none: nobody can be trusted by one of them.
    senders = _addresses(headers, "from")
    from_name, from_address = senders[0] if len(senders) == 1 else ("", "")
    body = _body(message)
    has_diff = bool(_DIFF.search(body))
    subject = " ".join(decoded("".join(headers.get("subject", [])[:1])).split())[:MAX_SUBJECT]
    reading = _subject(subject, has_diff=has_diff)
    submitted = " ".join(headers.get("auto-submitted", [])).strip().lower()
    mail = Mail(
        digest=digest,
        message_id=message_ids[0],
        in_reply_to=next(iter(_message_ids(headers, "in-reply-to")), None),
        references=_message_ids(headers, "references"),
        from_name=from_name,
        from_address=from_address,
        subject=subject,
        date=_date(headers, received_at),
        received_at=received_at,
        kind=reading.kind,
        prefixes=reading.prefixes,
        title=reading.title,
        index=reading.index,
        total=reading.total,
        version=reading.version,
        has_diff=has_diff,
        new_files=_some((*_NEW_FILE.findall(body), *_CREATED.findall(body))),
        links=_some(link.rstrip(".,;:)'\"")[:MAX_LINK] for link in _LINK.findall(body)),
        change_id=_first(_CHANGE_ID, body),
        base_commit=_first(_BASE_COMMIT, body),
    )
    return Parsed(mail=mail, body=body, auto_submitted=submitted not in {"", "no"})


def header_values(message: Message) -> dict[str, list[str]]:
    """Every header by its name in lower case; what is not ASCII is taken for UTF-8."""
    headers: dict[str, list[str]] = {}
    for name, value in message.raw_items():
        octets = str(value)[:MAX_HEADER].encode("utf-8", "surrogateescape")
        values = headers.setdefault(name.lower(), [])
        if len(values) < MAX_REPEATS:
            values.append(octets.decode("utf-8", "replace"))
    return headers


def _message_ids(headers: dict[str, list[str]], name: str) -> tuple[str, ...]:
    found = _MESSAGE_ID.findall(" ".join(headers.get(name, [])))
    if len(found) > MAX_REFERENCES:
        found = [found[0], *found[1 - MAX_REFERENCES :]]
    return tuple(dict.fromkeys(found))


def _addresses(headers: dict[str, list[str]], name: str) -> list[tuple[str, str]]:
    """Name and address of each mailbox in a header; what is no address is left out."""
    try:
        pairs = email.utils.getaddresses(headers.get(name, []))
    except Exception:  # noqa: BLE001 - the parser's failures are the sender's choice
        pairs = []
    if not any(address for _, address in pairs):
        # Newer versions of the standard library refuse a whole header for one odd name in it.
        text = " ".join(headers.get(name, []))
        pairs = [("", address) for address in _IN_ANGLES.findall(text)]
    return [
        (" ".join(decoded(who).split()), address.lower())
        for who, address in pairs
        if _ADDRESS.fullmatch(address) and not address.startswith("=?")
    ]


def decoded(value: str) -> str:
    """A header with its RFC 2047 words decoded, as far as they can be."""
    try:
        words = email.header.decode_header(value)
    except Exception:  # noqa: BLE001 - the parser's failures are the sender's choice
        return value
    return "".join(
        word if isinstance(word, str) else text_of(word, charset) for word, charset in words
    )


def text_of(octets: bytes, charset: str | None) -> str:
    """Decode by a charset that mail really uses; any other name is taken for UTF-8.

    Some codecs of the standard library take quadratic time, or are no charsets at all.
    """
    name = (charset or "utf-8").lower()
    if _CHARSET.fullmatch(name):
        try:
            return octets.decode(name, "replace")
        except (LookupError, ValueError):
            pass
    return octets.decode("utf-8", "replace")


def _date(headers: dict[str, list[str]], received_at: datetime | None) -> datetime | None:
    try:
        date = email.utils.parsedate_to_datetime("".join(headers.get("date", [])[:1]))
        date = date.replace(tzinfo=date.tzinfo or UTC).astimezone(UTC)
    except Exception:  # noqa: BLE001 - the parser's failures are the sender's choice
        return received_at
    return min(date, received_at) if received_at else date


def _body(message: Message) -> str:
    """The text that a reader sees first: every inline text/plain part, joined."""
    texts = [
        _part(part)
        for part in message.walk()
        if part.get_content_type() == "text/plain"
        and part.get_content_disposition() != "attachment"
    ]
    return "\n".join(texts).replace("\r\n", "\n")


def _part(part: Message) -> str:
    try:
        octets = part.get_payload(decode=True)
        charset = part.get_content_charset()
    except Exception:  # noqa: BLE001 - the parser's failures are the sender's choice
        octets, charset = part.as_bytes(), None
    return text_of(octets, charset) if isinstance(octets, bytes) else ""


def _subject(subject: str, *, has_diff: bool) -> _Subject:
    """Read ``[PREFIX vV I/N] title``; a reply or a bracket of another kind is OTHER."""
    tagged = _TAGS.fullmatch(subject)
    words = re.split(r"[\s,\[\]]+", tagged[1]) if tagged else []
    counters = [found for word in words if (found := _COUNTER.fullmatch(word))]
    versions = [found for word in words if (found := _VERSION.fullmatch(word))]
    index, total = (int(counters[0][1]), int(counters[0][2])) if counters else (1, 1)
    is_series = any(word.lower().startswith(("patch", "rfc")) for word in words)
    if not is_series or index > total or not (counters or has_diff):
        kind = MailKind.OTHER
    else:
        kind = MailKind.PATCH if index else MailKind.COVER
    return _Subject(
        kind=kind,
        prefixes=tuple(
            word
            for word in words
            if word and not _COUNTER.fullmatch(word) and not _PLAIN_VERSION.fullmatch(word)
        ),
        title=tagged[2].strip() if tagged else subject,
        index=index,
        total=total,
        version=int(versions[0][1]) if versions else 1,
    )


def _some(found: Iterable[str]) -> tuple[str, ...]:
    """What a body names, once each, of the first MAX_NAMED."""
    return tuple(itertools.islice(dict.fromkeys(found), MAX_NAMED))


def _first(pattern: re.Pattern[str], body: str) -> str | None:
    found = pattern.search(body)
    return found[1] if found else None
