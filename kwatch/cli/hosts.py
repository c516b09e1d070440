# SPDX-License-Identifier: GPL-2.0-or-later
"""The verbs that connect to hosts: check their tools and guests, prove their verdicts."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from kwatch.adapters.guest.accelerator import Accelerators
from kwatch.adapters.guest.proof import AcceleratorProof
from kwatch.adapters.host.fitness import inspect, try_guests
from kwatch.adapters.host.host import Host
from kwatch.cli.client import order
from kwatch.cli.layout import table
from kwatch.cli.orders import SENDER
from kwatch.config.load import load
from kwatch.domain.boot.care import BootProfile
from kwatch.domain.lab.command import Command, Verb
from kwatch.domain.lab.proof import figures
from kwatch.domain.recipe.arch import ARCHES
from kwatch.domain.recipe.boot import Accelerator, BootRecipe
from kwatch.errors import ConfigError, InfraError, KwatchError
from kwatch.store import blobs, good_boots
from kwatch.store.database import reading

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from kwatch.config.settings import Settings
    from kwatch.domain.lab.host import HostSpec
    from kwatch.domain.lab.proof import Attempt


def check(words: argparse.Namespace) -> int:
    """``kwatch hosts check [HOST...]``."""
    settings = load(words.config)
    specs = [_named(settings, name) for name in words.host] or list(settings.hosts)
    troubles = asyncio.run(_check(specs))
    rows = [(spec.name, troubles.get(spec.name, "ok")) for spec in specs]
    print(table(("HOST", "RESULT"), rows))
    return 1 if troubles else 0


async def _check(specs: Sequence[HostSpec]) -> dict[str, str]:
    """Why hosts are unreachable or not fit for work, by name."""
    troubles = {}
    for spec in specs:
        try:
            async with Host(spec) as host:
                reason = await inspect(host, now=time.time())
                reason = reason or await try_guests(host, Accelerators())
            if reason is not None:
                troubles[spec.name] = reason
        except KwatchError as error:
            troubles[spec.name] = str(error)
    return {name: reason.removeprefix(f"{name}: ") for name, reason in troubles.items()}


def prove(words: argparse.Namespace) -> int:
    """``kwatch hosts prove HOST [--kernel FILE]``."""
    settings = load(words.config)
    orders = asyncio.run(proofs(settings, words.host, words.kernel, partial(print, flush=True)))
    is_done = bool(orders)
    for command in orders:
        is_kept, answer = asyncio.run(order(settings, command))
        is_done &= is_kept
        print(answer)
    if not orders:
        print(f"{words.host}: no accelerator passed")
    return 0 if is_done else 1


async def proofs(
    settings: Settings, name: str, kernel: Path | None, say: Callable[[str], None]
) -> tuple[Command, ...]:
    """Boot guests that end in known ways under each accelerator of a host.

    Returns the commands that record the accelerators that passed. ``kernel`` is a good image, by
    default the newest that booted well; ``say`` gets a line for each guest, and for an accelerator
    that runs none. Raises ConfigError for an unknown host or kernel, InfraError for a host that
    cannot be reached.
    """
    spec = _named(settings, name)
    image = _newest_good(settings, spec.arch) if kernel is None else _image(kernel)
    proven = []
    with tempfile.TemporaryDirectory(prefix="kwatch-prove-") as scratch:
        async with Host(spec) as host:
            for accelerator in sorted(spec.accelerators):
                proof = AcceleratorProof(
                    host,
                    Accelerator(accelerator),
                    profile=BootProfile(
                        recipe=BootRecipe(arch=spec.arch, machine=ARCHES[spec.arch].machine)
                    ),
                    busybox=settings.busybox[spec.arch].read_bytes(),
                    scratch=Path(scratch),
                )
                attempts = []
                try:
                    async for attempt in proof.run(image):
                        say(f"{accelerator}: {_line(attempt)}")
                        attempts.append(attempt)
                except InfraError as error:
                    say(f"{accelerator}: {error}")
                    continue
                if all(attempt.is_right for attempt in attempts):
                    proven.append(_command(spec, accelerator, attempts))
    return tuple(proven)


def _named(settings: Settings, name: str) -> HostSpec:
    found = {host.name: host for host in settings.hosts}
    if name not in found:
        known = ", ".join(sorted(found)) or "none"
        raise ConfigError(f"there is no host {name}; known: {known}")
    return found[name]


def _image(kernel: Path) -> bytes:
    try:
        return kernel.read_bytes()
    except OSError as error:
        raise ConfigError(f"{kernel} cannot be read: {error.strerror}") from error


def _newest_good(settings: Settings, arch: str) -> bytes:
    with reading(settings.state.database) as connection:
        digest = good_boots.image(connection, arch)
    if digest is None:
        raise ConfigError(
            f"there is no image for {arch} that booted well: give one with --kernel FILE"
        )
    return b"".join(blobs.contents(settings.state.blobs, digest))


def _line(attempt: Attempt) -> str:
    what = f"a guest that {attempt.case.name}: {attempt.end.value} after {attempt.took:.1f} s"
    if attempt.is_right:
        return what
    expected = " or ".join(sorted(end.value for end in attempt.case.ends))
    return f"{what}, expected {expected} ({attempt.reason})"


def _command(spec: HostSpec, accelerator: str, attempts: Sequence[Attempt]) -> Command:
    proof = {"host": spec.name, "accelerator": accelerator, "seconds": figures(attempts)}
    return Command(sender=SENDER, verb=Verb.PROVE_HOST, argument=json.dumps(proof))
