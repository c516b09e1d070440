# SPDX-License-Identifier: GPL-2.0-or-later
"""Try on a host that each way in which a guest ends gets the right verdict, and keep the proof."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from kwatch.adapters.guest.proof import Acceptance
from kwatch.adapters.host.host import Host
from kwatch.domain.boot.watch import Accelerator, BootProfile
from kwatch.domain.lab.command import Command, Verb
from kwatch.domain.lab.proof import figures
from kwatch.domain.recipe.arch import ARCHES
from kwatch.errors import ConfigError
from kwatch.store import blobs, precedents
from kwatch.store.database import reading

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kwatch.config.settings import Settings
    from kwatch.domain.lab.host import HostSpec
    from kwatch.domain.lab.proof import Attempt


async def accept(
    settings: Settings, name: str, kernel: Path | None, say: Callable[[str], None]
) -> tuple[Command, ...]:
    """Try all accelerators of a host; the orders to keep what was proven, one for each.

    ``kernel`` is an image that is good, by default the newest that booted well. ``say`` is given
    a line for each guest. Raises ConfigError where there is no such host or kernel, InfraError
    where the host fails.
    """
    spec = next((host for host in settings.hosts if host.name == name), None)
    if spec is None:
        known = ", ".join(sorted(host.name for host in settings.hosts)) or "none"
        raise ConfigError(f"no host is called {name!r}; there are {known}")
    image = _newest_good(settings, spec.arch) if kernel is None else _image(kernel)
    proven = []
    with tempfile.TemporaryDirectory(prefix="kwatch-accept-") as scratch:
        async with Host(spec) as host:
            for accelerator in sorted(spec.accelerators):
                acceptance = Acceptance(
                    host,
                    Accelerator(accelerator),
                    profile=BootProfile(
                        name="acceptance", arch=spec.arch, machine=ARCHES[spec.arch].machine
                    ),
                    busybox=settings.busybox[spec.arch].read_bytes(),
                    scratch=Path(scratch),
                )
                attempts = []
                async for attempt in acceptance.run(image):
                    say(f"{accelerator}: {_told(attempt)}")
                    attempts.append(attempt)
                if all(attempt.is_right for attempt in attempts):
                    proven.append(_order(spec, accelerator, attempts))
    return tuple(proven)


def _image(kernel: Path) -> bytes:
    try:
        return kernel.read_bytes()
    except OSError as error:
        raise ConfigError(f"{kernel} cannot be read: {error.strerror}") from error


def _newest_good(settings: Settings, arch: str) -> bytes:
    with reading(settings.state.database) as connection:
        digest = precedents.image(connection, arch)
    if digest is None:
        raise ConfigError(
            f"no kernel for {arch} has booted well here yet, or none is kept: name a good image"
            " with --kernel"
        )
    return b"".join(blobs.contents(settings.state.blobs, digest))


def _told(attempt: Attempt) -> str:
    what = f"a guest that {attempt.case.name}: {attempt.end.value} after {attempt.took:.1f} s"
    if attempt.is_right:
        return what
    wanted = " or ".join(sorted(end.value for end in attempt.case.ends))
    return f"{what}, and should be {wanted} ({attempt.reason})"


def _order(spec: HostSpec, accelerator: str, attempts: Sequence[Attempt]) -> Command:
    proof = {"host": spec.name, "accelerator": accelerator, "seconds": figures(attempts)}
    return Command(sender="the command line", verb=Verb.ACCEPT_HOST, argument=json.dumps(proof))
