# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import errno
import os

import pytest

from kwatch.adapters.process import Completed, failure
from kwatch.errors import DiskFullError, is_disk_full


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_and_a_full_quota_are_one(number: int) -> None:
    said = f"fatal: sha1 file write error: {os.strerror(number)}".encode()
    assert is_disk_full(OSError(number, os.strerror(number)))
    assert is_disk_full(said)
    assert is_disk_full(said.decode())
    completed = Completed(argv=("git",), status=128, stdout=b"", stderr=said, took=0.1)
    assert isinstance(failure(completed), DiskFullError)


def test_nothing_else_is() -> None:
    assert not is_disk_full(OSError(errno.EIO, os.strerror(errno.EIO)))
    assert not is_disk_full(OSError("No such thing"))
    assert not is_disk_full(b"full of errors")
