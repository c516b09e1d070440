# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel that was built, on a host that has the tools it was built with.

What a series built is a stranger's: the tools read it inside the sandbox.
"""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from importlib import resources
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from kwatch.adapters import llvm
from kwatch.adapters.kernel.sandbox import Sandbox
from kwatch.domain.deadguest.autopsy import Place
from kwatch.errors import InfraError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from kwatch.adapters.host.host import Host
    from kwatch.domain.deadguest.exception_frame import Instruction
    from kwatch.domain.finding import Finding
    from kwatch.domain.recipe.toolchain import Toolchain

log = logging.getLogger(__name__)

VMLINUX = PurePosixPath("/in/vmlinux")
# Programs of ours that run beside an image, at the places that their imports ask for.
PROGRAMS = PurePosixPath("/in")
_ENVIRONMENT = {"PYTHONPATH": str(PROGRAMS)}
_FILES = (
    "__init__.py",
    "remote/__init__.py",
    "remote/elf.py",
    "remote/callgraph.py",
    "remote/linkaudit.py",
)
DEADLINE = 120.0
# What each stage of a link leaves behind, in their order; not every configuration has them all.
STAGES = ("vmlinux.o", ".tmp_vmlinux1", "vmlinux")


class Image:
    """The vmlinux at ``path`` on ``host``; all questions raise InfraError where a tool fails."""

    def __init__(self, host: Host, path: str, toolchain: Toolchain) -> None:
        self._host = host
        self._path = path
        self._tools = llvm.Llvm(suffix=toolchain.llvm_suffix)

    async def sources(self, places: Sequence[str]) -> tuple[tuple[str, int] | None, ...]:
        """File and line of each place (``f+0x12``), where the image has debug information."""
        said = await self._run(self._tools.symbolize_command(VMLINUX, places))
        return llvm.read_places(said.decode("utf-8", "replace"))

    async def ask(self, request: Mapping[str, object]) -> dict[str, Any]:
        """What the image says of addresses and symbols; see :func:`kwatch.remote.elf.answer`."""
        said = await self._run(_program("elf", str(VMLINUX)), stdin=json.dumps(request).encode())
        return _json(said)

    async def calls(self, roots: Sequence[str], once: Sequence[int]) -> Mapping[str, Sequence[str]]:
        """What functions that run once call; see :func:`kwatch.remote.callgraph.calls`."""
        request = json.dumps({"roots": roots, "once": once}).encode()
        said = await self._run(_program("callgraph", str(VMLINUX)), stdin=request)
        return _json(said)

    async def locate(self, addresses: Sequence[int]) -> tuple[Place | None, ...]:
        """Which function each address is in, as the image was linked."""
        found = (await self.ask({"locate": list(addresses)}))["locate"]
        return tuple(Place(function=one[0], offset=one[1]) if one else None for one in found)

    async def instruction(self, address: int) -> Instruction | None:
        """The instruction at ``address`` as it was linked."""
        said = await self._run(self._tools.disassemble_command(VMLINUX, address))
        lines = said.decode("utf-8", "replace").splitlines()
        return next((found for line in lines if (found := llvm.read_instruction(line))), None)

    async def _run(self, argv: Sequence[str], stdin: bytes | None = None) -> bytes:
        programs = await _programs(self._host)
        sandbox = Sandbox(
            read_only={**programs, str(VMLINUX): self._path}, environment=_ENVIRONMENT
        )
        done = await self._host.account.run(sandbox.command(argv), stdin=stdin, timeout=DEADLINE)
        return done.stdout


async def _programs(host: Host) -> dict[str, str]:
    """Where a sandbox is to see our programs, and where they are on ``host``."""
    package = resources.files("kwatch")
    return {
        str(PROGRAMS / "kwatch" / name): await host.cache.put_bytes(
            package.joinpath(name).read_bytes()
        )
        for name in _FILES
    }


def _program(name: str, *arguments: str) -> tuple[str, ...]:
    return ("python3", "-m", f"kwatch.remote.{name}", *arguments)


async def located(finding: Finding | None, image: Callable[[], Awaitable[Image]]) -> Finding | None:
    """The finding with file and line, where the image can tell and the log does not."""
    if finding is None or finding.place is None or finding.line is not None:
        return finding
    try:
        (source,) = await (await image()).sources([finding.place])
    except InfraError as error:
        # A finding without a line is one still.
        log.warning("%s stays without file and line: %s", finding.place, error)
        return finding
    return replace(finding, file=source[0], line=source[1]) if source else finding


async def names_of(
    addresses: Sequence[int], image: Callable[[], Awaitable[Image]]
) -> Mapping[int, str]:
    """The names (``f+0x12``) of a running kernel's addresses that the image knows."""
    if not addresses:
        return {}
    try:
        found = await (await image()).locate(addresses)
    except InfraError as error:
        log.warning("the addresses of a trace stay without names: %s", error)
        return {}
    return {address: str(place) for address, place in zip(addresses, found, strict=True) if place}


async def audit(host: Host, output: str) -> dict[str, Any]:
    """What the linker lost in the build whose folder is ``output``.

    See :func:`kwatch.remote.linkaudit.audit`.
    """
    sandbox = Sandbox(read_only={**await _programs(host), "/out": output}, environment=_ENVIRONMENT)
    argv = _program("linkaudit", *(f"/out/{stage}" for stage in STAGES))
    done = await host.account.run(sandbox.command(argv), timeout=DEADLINE)
    return _json(done.stdout)


def _json(said: bytes) -> dict[str, Any]:
    try:
        found = json.loads(said)
    except ValueError as error:
        raise InfraError(f"an image could not be read: {said[:200]!r}") from error
    if not isinstance(found, dict):
        raise InfraError(f"an image could not be read: {said[:200]!r}")
    return found
