# SPDX-License-Identifier: GPL-2.0-or-later
"""How a kernel is built: everything that the result of a build depends on, beside the source."""

from __future__ import annotations

from dataclasses import dataclass

from kwatch.domain.digest import digest
from kwatch.domain.recipe.kconfig import Fragment, KconfigRecipe
from kwatch.domain.recipe.toolchain import Toolchain


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRecipe:
    """Architecture, configuration and tools.

    ``options`` are overrides of single Kconfig symbols (without ``CONFIG_``), over the recipe's
    fragments: what an investigation changes to find a guilty option. The name of the toolchain and
    those of files have no say in the result and are in no digest.
    """

    arch: str
    kconfig: KconfigRecipe
    toolchain: Toolchain
    options: tuple[tuple[str, str], ...] = ()

    @property
    def digest(self) -> str:
        """The identity of the recipe."""
        return digest(
            "build",
            1,
            {
                "arch": self.arch,
                "kconfig": self.kconfig.digest,
                "options": [list(pair) for pair in self.options],
                "llvm_suffix": self.toolchain.llvm_suffix,
                "compiler": self.toolchain.compiler,
                "linker_objects": self.toolchain.linker_objects,
                "linker": self.toolchain.linker,
            },
        )

    @property
    def fragments(self) -> tuple[Fragment, ...]:
        """The fragments over the base configuration, the overrides last."""
        if not self.options:
            return self.kconfig.fragments
        lines = (
            f"# CONFIG_{symbol} is not set\n" if value == "n" else f"CONFIG_{symbol}={value}\n"
            for symbol, value in self.options
        )
        return (*self.kconfig.fragments, Fragment(name="overrides", text="".join(lines)))
