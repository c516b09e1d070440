# SPDX-License-Identifier: GPL-2.0-or-later
"""Values of the domain to JSON columns and back, by their types."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import TypeAdapter

T = TypeVar("T")


_ADAPTERS: dict[type[Any], TypeAdapter[Any]] = {}


def _adapter(kind: type[T]) -> TypeAdapter[T]:
    """Making an adapter takes a while, so each is made once."""
    return _ADAPTERS.setdefault(kind, _ADAPTERS.get(kind) or TypeAdapter(kind))


def encode(value: Any) -> str:  # noqa: ANN401 - any value of the domain
    """The JSON of a value of the domain."""
    return _adapter(type(value)).dump_json(value).decode()


def decode(kind: type[T], text: str | bytes) -> T:
    """The value of type ``kind`` that :func:`encode` wrote."""
    return _adapter(kind).validate_json(text)


def decode_optional(kind: type[T], text: str | None) -> T | None:
    """The same for a column that may be NULL."""
    return None if text is None else decode(kind, text)
