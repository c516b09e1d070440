# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel that was built, on a host that has the tools it was built with.

What a series built is a stranger's: the tools read it inside the sandbox.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from kwatch.adapters import llvm
from kwatch.adapters.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kwatch.adapters.host import Host
    from kwatch.domain.toolchain import Toolchain

VMLINUX = PurePosixPath("/in/vmlinux")
DEADLINE = 120.0


class Image:
    """The vmlinux at ``path`` on ``host``; all questions raise InfraError where a tool fails."""

    def __init__(self, host: Host, path: str, toolchain: Toolchain) -> None:
        self._host = host
        self._sandbox = Sandbox(read_only={str(VMLINUX): path}, writable={})
        self._tools = llvm.Llvm(suffix=toolchain.llvm_suffix)

    async def sources(self, places: Sequence[str]) -> tuple[tuple[str, int] | None, ...]:
        """File and line of each place (``f+0x12``), where the image has debug information."""
        command = self._tools.symbolize_command(VMLINUX, places)
        answered = await self._host.run(self._sandbox.command(command), timeout=DEADLINE)
        return llvm.read_places(answered.text())
