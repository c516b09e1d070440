# SPDX-License-Identifier: GPL-2.0-or-later
"""The account on a host: kwatch's folder there, short commands, files, and its supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kwatch.adapters.process import MIB, Completed
from kwatch.errors import InfraError
from kwatch.remote import supervisor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from kwatch.adapters.host.transport import Duplex, Transport

SHORT = 60.0
"""Timeout in seconds of a command that takes milliseconds on a healthy host."""
TRANSFER = 1800.0
"""Timeout in seconds of a file transfer."""

# The interpreter is looked up once: on some hosts python3 is a slow script that looks for one.
FIND_PYTHON = (
    "import sys; sys.version_info >= (3, 9) or sys.exit('Python 3.9 or later is needed'); "
    "print(sys.executable)"
)
MAKE_ROOT = (
    'umask 077; mkdir -p "$0/run" "$0/cache/sha256" && cd "$0" && pwd -P && '
    'python3 -I -S -c "$2" && if test -e "$1"; then echo present; else echo absent; fi'
)
# Who is killed while he talks ends his words like one who is done: only their number tells.
WRITE = (
    'umask 077; mkdir -p "$(dirname "$0")" && part="$0.$1.part" && cat >"$part" && '
    'test "$(wc -c <"$part")" -eq "$2" && mv -f "$part" "$0" && exit 0; '
    'rm -f "$part"; echo "not all of $0 came" >&2; exit 1'
)
READ = (
    'test -f "$0" && ! test -L "$0" || { echo "$0 is no regular file" >&2; exit 1; }; '
    'exec cat <"$0"'
)


class Account:
    """The user account on ``host`` that kwatch works in, and its ``directory`` there.

    Every failure is an InfraError that names the host.
    """

    def __init__(self, host: str, directory: str, transport: Transport) -> None:
        self.host = host
        self._directory = directory
        self._transport = transport
        self._program = Path(supervisor.__file__)
        digest = hashlib.sha256(self._program.read_bytes()).hexdigest()
        self._supervisor = f"supervisor-{digest[:16]}.py"
        self._root: str | None = None
        self._python = "python3"
        self._preparing = asyncio.Lock()

    async def prepare(self) -> str:
        """Make kwatch's folder on the host what it must be; its absolute path."""
        async with self._preparing:
            if self._root is None:
                self._root = await self._make_root()
            return self._root

    async def _make_root(self) -> str:
        made = await self._transport.run(
            ["sh", "-c", MAKE_ROOT, self._directory, self._supervisor, FIND_PYTHON],
            timeout=SHORT,
        )
        lines = made.text().splitlines()[-3:]
        if len(lines) < 3 or not lines[0].startswith("/"):
            raise InfraError(
                f"{self.host}: no folder, but {made.text()[-200:]!r}, came from its login shell",
                host=self.host,
            )
        root, self._python, state = lines
        if state == "absent":
            part = f"{root}/{self._supervisor}.{secrets.token_hex(4)}.part"
            await self._transport.upload(self._program, part)
            await self._transport.run(
                ["mv", "-f", part, f"{root}/{self._supervisor}"], timeout=SHORT
            )
        return root

    # --- commands and files -----------------------------------------------------------------------

    async def run(
        self,
        argv: Sequence[str],
        *,
        timeout: float,
        stdin: bytes | AsyncIterator[bytes] | None = None,
        limit: int = 64 * MIB,
        check: bool = True,
    ) -> Completed:
        """What a short command says, in the home of the user there; see process.run()."""
        return await self._transport.run(
            argv, stdin=stdin, timeout=timeout, limit=limit, check=check
        )

    async def write(self, path: str, data: bytes) -> None:
        """Make ``path``, below kwatch's folder or absolute, a file with this content at once."""
        target = await self.path(path)
        argv = ["sh", "-c", WRITE, target, secrets.token_hex(4), str(len(data))]
        await self.run(argv, stdin=data, timeout=TRANSFER)

    async def read(self, path: str, limit: int) -> bytes:
        """The content of a regular file of at most ``limit`` bytes; anything else: InfraError.

        A link is never followed: what a sandbox wrote could lead to what it cannot see.
        """
        found = await self.run(["sh", "-c", READ, await self.path(path)], timeout=TRANSFER,
                               limit=limit)  # fmt: skip
        return found.stdout

    async def path(self, name: str) -> str:
        """The absolute path of ``name`` below kwatch's folder on the host."""
        root = await self.prepare()
        return name if name.startswith("/") else f"{root}/{name}"

    async def get(self, path: str, destination: Path, limit: int) -> None:
        """Fetch a regular file of at most ``limit`` bytes; ``destination`` appears complete."""
        part = destination.with_name(f".{destination.name}.{secrets.token_hex(4)}.part")
        try:
            async with asyncio.timeout(TRANSFER):
                await self._transport.download(await self.path(path), part, limit)
            await asyncio.to_thread(part.replace, destination)
        except TimeoutError:
            raise InfraError(
                f"{self.host}: {path} did not come within {TRANSFER:g} s", host=self.host
            ) from None
        finally:
            await asyncio.to_thread(part.unlink, missing_ok=True)

    async def connect_unix(self, path: str) -> Duplex:
        """Connect to a unix socket on the host."""
        return await self._transport.connect_unix(await self.path(path))

    # --- its supervisor ---------------------------------------------------------------------------

    async def probe(self) -> dict[str, Any]:
        """What the host has and is; the fields are those of the verb in supervisor.py."""
        return await self.ask("probe", ".")

    async def supervisor(self, verb: str, folder: str, *words: str) -> list[str]:
        """The command that does a verb of supervisor.py in a folder below kwatch's."""
        root = await self.prepare()
        program = await self.program(f"{root}/{self._supervisor}")
        return [*program, verb, f"{root}/{folder}", *words]

    async def program(self, path: str) -> list[str]:
        """The command that runs a file of the host as Python: the standard library alone."""
        await self.prepare()
        return [self._python, "-I", "-S", path]

    def forget(self) -> None:
        """Make kwatch's folder again before its next use: it may have been removed under us."""
        self._root = None

    async def ask(
        self,
        verb: str,
        folder: str,
        *words: str,
        request: Mapping[str, object] | None = None,
        timeout: float = 2 * SHORT,
    ) -> dict[str, Any]:
        """One short conversation with the supervisor.

        Once more where the folder was removed: no verb does harm when it comes twice.
        """
        answered = await self._converse(verb, folder, words, request, timeout)
        if not answered.stdout.startswith(b"{"):
            self.forget()
            answered = await self._converse(verb, folder, words, request, timeout)
        with contextlib.suppress(ValueError):
            answer = json.loads(answered.stdout)
            if answered.status == 0 and isinstance(answer, dict):
                return answer
        output = (answered.stderr or answered.stdout).decode("utf-8", "replace").strip()
        raise InfraError(
            f"{self.host}: the supervisor could not {' '.join((verb, *words))} (status "
            f"{answered.status}): {output[-2000:]}",
            host=self.host,
        )

    async def _converse(
        self,
        verb: str,
        folder: str,
        words: Sequence[str],
        request: Mapping[str, object] | None,
        timeout: float,
    ) -> Completed:
        return await self.run(
            await self.supervisor(verb, folder, *words),
            stdin=json.dumps(request or {}).encode(),
            timeout=timeout,
            check=False,
        )
