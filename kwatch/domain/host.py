# SPDX-License-Identifier: GPL-2.0-or-later
"""Where supervised commands run, and which host a build or a boot goes to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class Slot(Enum):
    """What a host has room for, counted apart."""

    BUILD = "build"
    BOOT = "boot"


class Health(Enum):
    """Whether a host gets work.

    UNREACHABLE heals by itself. QUARANTINED is not fit, and is looked over again each day or when
    the operator says that it is mended. DRAINED is what the operator took out.
    """

    OK = "ok"
    UNREACHABLE = "unreachable"
    QUARANTINED = "quarantined"
    DRAINED = "drained"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostState:
    """The health of a host, and the reason that ``kwatch hosts`` shows."""

    health: Health = Health.OK
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSpec:
    """One host of the lab, as configured.

    ``address`` None is this machine, without SSH. ``known_hosts`` pins the host's key: lines as
    in sshd(8) SSH_KNOWN_HOSTS, or bare ``ssh-ed25519 AAAA...`` lines. ``directory`` is kwatch's
    own folder there, absolute or relative to the user's home. ``agent`` is the socket of an SSH
    agent, whose keys are tried after that of ``key_file``. ``accelerators`` are QEMU's names
    (kvm, tcg), ``slots`` says how many of each kind run at a time. ``jump`` is the host that it is
    reached through.
    """

    name: str
    directory: str
    arch: str
    slots: Mapping[Slot, int]
    jump: HostSpec | None = None
    address: str | None = None
    port: int = 22
    user: str = ""
    key_file: Path | None = None
    agent: Path | None = None
    known_hosts: str = ""
    labels: frozenset[str] = frozenset()
    accelerators: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What a step asks of a host; ``host`` is set where a trial must be on that very one."""

    slot: Slot
    arch: str
    accelerator: str | None = None
    labels: frozenset[str] = field(default_factory=frozenset)
    host: str | None = None


def suits(need: Need, host: HostSpec) -> bool:
    """Whether ``host`` could ever serve ``need``, were it idle and well."""
    return (
        host.slots.get(need.slot, 0) > 0
        and host.arch == need.arch
        and (need.accelerator is None or need.accelerator in host.accelerators)
        and need.labels <= host.labels
        and need.host in {None, host.name}
    )


def place(
    need: Need,
    hosts: Sequence[tuple[HostSpec, HostState]],
    busy: Mapping[tuple[str, Slot], int],
) -> HostSpec | None:
    """The host to use now: healthy, with a free slot, and the least loaded of its kind.

    ``busy`` counts the slots in use by (host name, slot). None means wait. Equally loaded hosts
    are taken by most free slots, then by name, so that the answer is always the same.
    """
    free = [
        (used / total, used - total, host.name, host)
        for host, state in hosts
        if state.health is Health.OK and suits(need, host)
        for used, total in [(busy.get((host.name, need.slot), 0), host.slots[need.slot])]
        if used < total
    ]
    return min(free, key=lambda entry: entry[:3])[3] if free else None
