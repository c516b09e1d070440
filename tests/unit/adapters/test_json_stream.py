# SPDX-License-Identifier: GPL-2.0-or-later
"""The streaming reader agrees with json.loads, wherever the chunks end."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kwatch.adapters.json_stream import JsonStream, JsonStreamError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

documents = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


async def chunked(text: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(text), size):
        yield text[start : start + size]
        yield b""


async def walked(stream: JsonStream, document: object) -> object:
    """Read by walking wherever ``document`` has a list or an object."""
    if isinstance(document, dict):
        return {name: await walked(stream, document[name]) async for name in stream.members()}
    if isinstance(document, list):
        return [await walked(stream, document[index]) async for index in stream.elements()]
    return await stream.value()


@given(document=documents, size=st.integers(1, 40), indent=st.none() | st.integers(0, 3))
@example(document=[[1], [2], [[3], "]"]], size=3, indent=None)
@example(document={"a\\": '"]}', "b": [1.5e9, -2]}, size=1, indent=1)
async def test_walking_and_decoding_agree_with_json(
    document: object, size: int, indent: int | None
) -> None:
    text = json.dumps(document, indent=indent).encode()
    walking, decoding = JsonStream(chunked(text, size)), JsonStream(chunked(text, size))
    assert await walked(walking, document) == document
    assert await decoding.value() == document
    await walking.end()
    await decoding.end()


@given(document=documents, size=st.integers(1, 40))
async def test_what_is_skipped_does_not_disturb_its_neighbours(document: object, size: int) -> None:
    text = json.dumps({"skip": document, "after": [document, 7, document]}).encode()
    stream = JsonStream(chunked(text, size))
    seen: list[object] = []
    async for name in stream.members():
        if name == "skip":
            await stream.skip()
            continue
        async for index in stream.elements():
            if index == 1:
                seen.append(await stream.value())
            else:
                await stream.skip()
    await stream.end()
    assert seen == [7]


@given(document=documents.filter(lambda d: isinstance(d, (dict, list))), data=st.data())
async def test_every_truncation_is_noticed(document: object, data: st.DataObject) -> None:
    text = json.dumps(document).encode()
    cut = data.draw(st.integers(0, len(text) - 1))
    with pytest.raises(JsonStreamError):
        await walked(JsonStream(chunked(text[:cut], 7)), document)


@given(text=st.binary(max_size=60), size=st.integers(1, 9))
async def test_hostile_bytes_raise_nothing_else(text: bytes, size: int) -> None:
    for opening in (b"", b"{", b"[", b'{"a":'):
        stream = JsonStream(chunked(opening + text, size), value_bytes=20)
        try:
            async for _ in stream.members():
                await stream.value()
        except JsonStreamError:
            pass


@pytest.mark.parametrize("text", [b'"' + b"x" * 100, b"[" * 100 + b"]" * 100, b"1" * 100 + b","])
async def test_a_value_has_a_largest_size(text: bytes) -> None:
    with pytest.raises(JsonStreamError, match="larger than 50 bytes"):
        await JsonStream(chunked(text, 16), value_bytes=50).value()


async def test_brackets_nested_past_recursion_are_an_error() -> None:
    text = b"[" * 200_000 + b"]" * 200_000
    with pytest.raises(JsonStreamError):
        await JsonStream(chunked(text, 4096)).value()
    await JsonStream(chunked(text, 4096)).skip()
