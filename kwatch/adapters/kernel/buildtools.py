# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs on a host, first of all those of a toolchain: by version, package and content."""

from __future__ import annotations

import json
from importlib import resources
from typing import TYPE_CHECKING

from kwatch.adapters import llvm
from kwatch.adapters.kernel.sandbox import PATH
from kwatch.domain.recipe.toolchain import LLVM_TOOLS, Environment, Part, ToolchainVersions
from kwatch.errors import InfraError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from kwatch.adapters.host.host import Host
    from kwatch.domain.recipe.toolchain import Toolchain

# Some seconds where an LLVM is hashed the first time.
DEADLINE = 120.0
CACHE = "buildtools.json"


async def identify(host: Host, toolchain: Toolchain) -> tuple[ToolchainVersions, Environment]:
    """What each program of a toolchain is on ``host``, as the sandbox of a build finds it.

    InfraError where the compiler or a linker does not run. LLVM's other tools may be missing: a
    build that needs one fails by itself.
    """
    needed = {
        "compiler": toolchain.compiler,
        "linker of vmlinux.o": toolchain.linker_objects,
        "linker of vmlinux": toolchain.linker,
    }
    others = {name: f"{name}{toolchain.llvm_suffix}" for name in LLVM_TOOLS}
    names = {*needed.values(), *others.values()}
    found, errors = await programs(host, names, path=PATH)
    for name in needed.values():
        if name in errors:
            raise InfraError(
                f"{host.name}: {name} does not run ({errors[name]}): install it there,"
                " or correct the toolchain in the configuration",
                host=host.name,
            )
    versions = {name: llvm.parse_version(found[name]["version"]) for name in needed.values()}
    parts = [
        Part(
            name=part,
            version=found[name]["version"],
            package=found[name]["package"],
            content=found[name]["digest"],
        )
        for part, name in {**needed, **others}.items()
        if name in found
    ]
    return (
        ToolchainVersions(
            compiler=versions[toolchain.compiler],
            linker_objects=versions[toolchain.linker_objects],
            linker=versions[toolchain.linker],
        ),
        Environment(parts=tuple(parts)),
    )


async def programs(
    host: Host, names: Collection[str], *, path: str | None = None
) -> tuple[Mapping[str, Mapping[str, str]], Mapping[str, str]]:
    """What programs are, and why others are not known: kwatch.remote.buildtools.identify()."""
    file = resources.files("kwatch").joinpath("remote/buildtools.py")
    program = await host.account.program(await host.cache.put_bytes(file.read_bytes()))
    request = {"programs": sorted(names), "path": path}
    said = await host.account.run(
        [*program, await host.account.path(CACHE)],
        stdin=json.dumps(request).encode(),
        timeout=DEADLINE,
    )
    try:
        answer = json.loads(said.stdout)
        return answer["programs"], answer["errors"]
    except (ValueError, LookupError, TypeError) as error:
        raise InfraError(
            f"{host.name}: no versions of programs, but {said.stdout[:200]!r}", host=host.name
        ) from error
