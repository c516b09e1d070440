# SPDX-License-Identifier: GPL-2.0-or-later
"""The names of source files, as the kernel's own people write them."""

from __future__ import annotations

import posixpath
import re

_FROM = ("arch", "block", "certs", "crypto", "drivers", "fs", "include", "init", "io_uring", "ipc",
         "kernel", "lib", "mm", "net", "rust", "samples", "scripts", "security", "sound", "tools",
         "usr", "virt")  # fmt: skip
_TOP = re.compile(rf"(?:^|/)(?P<path>(?:{'|'.join(_FROM)})/.+)$")
_NESTED = re.compile(rf"^kernel/(?P<path>(?:{'|'.join(_FROM)})/.+)$")


def source_path(path: str) -> str:
    """A path as the kernel's own people write it: relative to the top of the source."""
    path = re.sub(r"^(?:\.{1,2}/)+", "", path)
    found = _TOP.search(path)
    path = found["path"] if found else path
    nested = _NESTED.match(path)
    return posixpath.normpath(nested["path"] if nested else path)
