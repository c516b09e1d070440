# SPDX-License-Identifier: GPL-2.0-or-later
"""What clients put into paths and queries: bounded, and refused with a sentence where it is wrong.

Everything raises 400 (or 404 for a path) and nothing else.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Mapping
    from enum import StrEnum

    E = TypeVar("E", bound=StrEnum)

DEFAULT_LIMIT = 50
MAX_LIMIT = 500
MAX_TEXT = 200
_NUMBER = re.compile(r"[0-9]{1,4}")


def checked(request: web.Request, *names: str) -> Mapping[str, str]:
    """The query's parameters, none of them unknown, repeated, long or unprintable."""
    given: dict[str, str] = {}
    for name, value in request.query.items():
        if name not in names:
            allowed = ", ".join(names) or "none"
            raise bad_request(f"unknown query parameter; known here: {allowed}")
        if name in given:
            raise bad_request(f"{name} is given more than once")
        if len(value) > MAX_TEXT or not value.isprintable():
            raise bad_request(f"{name} must be at most {MAX_TEXT} printable characters")
        given[name] = value
    return given


def limit(given: Mapping[str, str]) -> int:
    """How many entries are asked for: 1 to MAX_LIMIT."""
    text = given.get("limit", str(DEFAULT_LIMIT))
    if not _NUMBER.fullmatch(text) or not 1 <= int(text) <= MAX_LIMIT:
        raise bad_request(f"limit must be a number from 1 to {MAX_LIMIT}")
    return int(text)


def choice(kind: type[E], given: Mapping[str, str], name: str) -> E | None:
    """A member of an enumeration by its value, or None if it is not given."""
    text = given.get(name)
    if text is None:
        return None
    try:
        return kind(text)
    except ValueError:
        allowed = ", ".join(member.value for member in kind)
        raise bad_request(f"{name} must be one of: {allowed}") from None


def path_text(request: web.Request, name: str) -> str:
    """A part of the path that may hold anything; what cannot be a name is not found."""
    text = request.match_info[name]
    if len(text) > MAX_TEXT or not text.isprintable():
        raise web.HTTPNotFound(text="there is no such name")
    return text


def path_number(request: web.Request) -> int:
    """The number that the route's pattern already bounded."""
    return int(request.match_info["number"])


def bad_request(message: str) -> web.HTTPBadRequest:
    """A 400 that says what is wrong."""
    return web.HTTPBadRequest(text=message)
