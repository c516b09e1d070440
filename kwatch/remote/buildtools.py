# SPDX-License-Identifier: GPL-2.0-or-later
"""Identify the programs of a build or boot by version, package and content.

Runs on hosts: ``python3 buildtools.py CACHE`` reads a request from standard input and writes
what it found as JSON, see :func:`identify`. CACHE is a file that keeps what was found, by path,
inode, size, mtime and ctime of each file: hashing an LLVM takes a second.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

SHORT = 30.0
# The shared libraries that hold a compiler's or linker's own code. Those of the system (libc,
# zlib) are left out: a security update of them would make every build another one.
_LIBRARIES = re.compile(r"lib(LLVM|clang|lld|bfd|opcodes|ctf|mold)\b")
# "libLLVM.so.22.1 => /usr/lib/x86_64-linux-gnu/libLLVM.so.22.1 (0x00007f...)", ldd(1).
_LOADED = re.compile(r"^\s*(\S+) => (/.*) \(0x[0-9a-f]+\)$", re.MULTILINE)
# The first line of a --version that holds one: llvm-nm begins with "compatible with GNU nm".
_VERSION = re.compile(r"^.*\d+\.\d+.*$", re.MULTILINE)
_LINKER_CACHE = "/etc/ld.so.cache"


class ToolError(Exception):
    """A program is missing or does not run; the text says what it wrote."""


def identify(request: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    """Each program of ``request["programs"]`` as it is found in ``request["path"]``.

    That is a PATH; without it, it is that of the user, by which the supervisor starts programs.

    Gives {programs: {NAME: {version, package, digest}}, errors: {NAME: text}}. ``version`` is the
    line of ``--version`` with the number. ``package`` is "NAME VERSION" of the Debian package, or
    "" where dpkg has none. ``digest`` is SHA-256 (hex) over the file and the shared libraries
    that hold its own code. ``known`` is updated.
    """
    programs, errors = {}, {}
    search = request.get("path") or os.pathsep.join(os.get_exec_path())
    for name in request["programs"]:
        try:
            programs[name] = _identify(name, search, known)
        except (OSError, ToolError, subprocess.SubprocessError) as error:
            errors[name] = str(error)
    return {"programs": programs, "errors": errors}


def _identify(name: str, search: str, known: dict[str, Any]) -> dict[str, str]:
    called = shutil.which(name, path=search)
    if called is None:
        raise ToolError(f"not found in {search}")
    path = os.path.realpath(called)
    libraries = _remembered(
        known, "libraries", path, lambda: _libraries(path), _stamp(path), _stamp(_LINKER_CACHE)
    )
    files = [path, *libraries]
    stamps = [_stamp(file) for file in files]
    # One file is many programs, by the name it is called by (lld, llvm-objcopy).
    version = _remembered(known, "version", called, lambda: _version(called, search), *stamps)
    package = _remembered(known, "package", path, lambda: _package(path), stamps[0])
    content = hashlib.sha256()
    for file, stamp in zip(files, stamps):  # noqa: B905 - Python 3.9
        digest = _remembered(known, "content", file, lambda file=file: _content(file), stamp)
        content.update(f"{digest}  {Path(file).name}\n".encode())
    return {"version": version, "package": package, "digest": content.hexdigest()}


def _remembered(known: dict[str, Any], what: str, path: str, find: Any, *stamps: Any) -> Any:  # noqa: ANN401
    """What ``find()`` gives, or gave when the files were the same."""
    key = f"{what} {path}"
    wanted = [list(stamp) for stamp in stamps]
    found = known.get(key)
    if not isinstance(found, list) or len(found) != 2 or found[0] != wanted:
        found = known[key] = [wanted, find()]
    return found[1]


def _stamp(path: str) -> tuple[int, ...]:
    """What changes when a file does. Packages set the mtime to what they like, not the ctime."""
    try:
        found = Path(path).stat()
    except OSError:
        return ()
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _libraries(path: str) -> list[str]:
    # Status 1: it is linked statically, or is a script.
    said = subprocess.run(
        ["ldd", path], capture_output=True, text=True, timeout=SHORT, check=False
    ).stdout
    found = [where for name, where in _LOADED.findall(said) if _LIBRARIES.match(name)]
    return sorted({os.path.realpath(where) for where in found})


def _version(called: str, search: str) -> str:
    done = subprocess.run(
        [called, "--version"],
        env={"PATH": search, "LC_ALL": "C.UTF-8", "HOME": "/nonexistent"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=SHORT,
        check=False,
    )
    if done.returncode != 0:
        raise ToolError((done.stdout[:200] + done.stderr[:200]).strip())
    found = _VERSION.search(done.stdout)
    return (found[0] if found else done.stdout.partition("\n")[0]).strip()[:200]


def _package(path: str) -> str:
    """Where dpkg is not there or does not know the file: nothing."""
    if shutil.which("dpkg-query") is None:
        return ""
    # A package may have been built before /bin became a link into /usr.
    for name in (path, path.removeprefix("/usr")):
        lines = [one for one in _dpkg("-S", name).splitlines() if not one.startswith("diversion ")]
        if lines:
            owner = lines[0].partition(": ")[0].partition(",")[0]
            return _dpkg("-W", "-f", "${Package} ${Version}", owner)
    return ""


def _dpkg(*words: str) -> str:
    done = subprocess.run(
        ["dpkg-query", *words], capture_output=True, text=True, timeout=SHORT, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else ""


def _content(path: str) -> str:
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def _read(cache: Path) -> dict[str, Any]:
    """A cache that is missing, damaged or of another version is an empty one."""
    try:
        found = json.loads(cache.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def main() -> None:
    """Serve one request."""
    cache = Path(sys.argv[1])
    known = _read(cache)
    before = json.dumps(known)
    found = identify(json.load(sys.stdin), known)
    if (after := json.dumps(known)) != before:
        part = cache.with_name(f".{cache.name}.{os.getpid()}")
        try:
            part.write_text(after)
            part.replace(cache)
        finally:
            part.unlink(missing_ok=True)
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
