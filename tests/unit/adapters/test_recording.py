# SPDX-License-Identifier: GPL-2.0-or-later
"""What a guest says is written down as it comes."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from kwatch.adapters.guest import recording
from kwatch.adapters.guest.recording import Recording
from kwatch.domain.boot.channel import ChannelReader
from kwatch.errors import DiskFullError
from kwatch.store import live

if TYPE_CHECKING:
    from pathlib import Path


def _blob(name: bytes, data: bytes) -> bytes:
    digest = hashlib.sha256(data).hexdigest().encode()
    return b"kwatch blob %s %d %s\n%s\n" % (name, len(data), digest, data)


def _say(heard: Recording, said: bytes) -> bool:
    """Let the guest say it; whether its profile is whole then."""
    for event in ChannelReader().feed(said):
        heard.remember(event)
    return heard.is_intact


def test_the_newest_profile_is_kept_and_nothing_else(tmp_path: Path) -> None:
    with Recording(folder=tmp_path / "boot") as heard:
        assert _say(heard, _blob(b"profraw", b"old"))
        _say(heard, b"kwatch end 3 1\n" + _blob(b"profraw", b"new") + _blob(b"other", b"thing"))
        assert heard.profile.read_bytes() == b"new"
        assert heard.statuses == {3: 1}
        assert not _say(heard, b"kwatch blob profraw 4 " + b"0" * 64 + b"\nrest\n")
    assert not heard.folder.exists()


def test_a_console_is_there_at_once_and_grows(tmp_path: Path) -> None:
    with Recording(folder=tmp_path / "boot") as heard:
        assert heard.console.read_bytes() == b""
        heard.hear(b"one\n")
        heard.hear(b"two\n")
        assert heard.console.read_bytes() == b"one\ntwo\n"


def test_it_is_where_those_look_who_follow_it(tmp_path: Path) -> None:
    with Recording(folder=live.folder(tmp_path, "key")) as heard:
        assert heard.console == live.console(tmp_path, "key")


def test_pieces_end_with_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "PIECE", 10)
    with Recording(folder=tmp_path / "boot") as heard:
        heard.hear(b"a line\nanother one\n" + b"x" * 25 + b"\nend")
        pieces = list(heard.pieces())
    assert b"".join(pieces) == b"a line\nanother one\n" + b"x" * 25 + b"\nend"
    assert pieces[0] == b"a line\nanother one\n"
    # A line without end is cut, or it would be all that there is.
    assert max(map(len, pieces)) <= 20


def test_what_an_earlier_attempt_left_is_gone(tmp_path: Path) -> None:
    folder = tmp_path / "boot"
    folder.mkdir()
    (folder / "console").write_bytes(b"stale")
    with Recording(folder=folder) as heard:
        assert heard.console.read_bytes() == b""


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    with Recording(folder=tmp_path / "boot") as heard:
        heard.console.unlink()
        heard.console.symlink_to("/dev/full")
        with pytest.raises(DiskFullError, match="make room"):
            heard.hear(b"word")
