# SPDX-License-Identifier: GPL-2.0-or-later
"""Validation of paths and query parameters: 400 (404 for a path) with an explanation."""

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
    """The query parameters; 400 for unknown, repeated, long or unprintable ones."""
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
    """The requested number of entries, 1 to MAX_LIMIT."""
    text = given.get("limit", str(DEFAULT_LIMIT))
    if not _NUMBER.fullmatch(text) or not 1 <= int(text) <= MAX_LIMIT:
        raise bad_request(f"limit must be a number from 1 to {MAX_LIMIT}")
    return int(text)


def choice(kind: type[E], given: Mapping[str, str], name: str) -> E | None:
    """A member of an enumeration by its value; None if the parameter is absent."""
    text = given.get(name)
    if text is None:
        return None
    try:
        return kind(text)
    except ValueError:
        allowed = ", ".join(member.value for member in kind)
        raise bad_request(f"{name} must be one of: {allowed}") from None


def path_text(request: web.Request, name: str) -> str:
    """A free-form part of the path; 404 for what cannot be a name."""
    text = request.match_info[name]
    if len(text) > MAX_TEXT or not text.isprintable():
        raise web.HTTPNotFound(text="there is no such name")
    return text


def path_number(request: web.Request) -> int:
    """The number in the path; the route bounds its length."""
    return int(request.match_info["number"])


def bad_request(message: str) -> web.HTTPBadRequest:
    """A 400 with an explanation."""
    return web.HTTPBadRequest(text=message)
