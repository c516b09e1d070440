# SPDX-License-Identifier: GPL-2.0-or-later
"""Where supervised commands run, and which host a build or a boot goes to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class Slot(Enum):
    """What a host has room for, counted apart."""

    BUILD = "build"
    BOOT = "boot"


class Health(Enum):
    """Whether a host gets work.

    UNREACHABLE heals by itself. QUARANTINED is not fit, and is looked over again now and then, or
    when the operator says that it is mended. DRAINED is what the operator took out.
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
    (kvm, tcg) for guests of its own architecture; those in ``emulates`` it boots as well, by tcg.
    ``slots`` says how many of each kind run at a time, and ``memory`` how many bytes all guests
    together may have (None: not counted). ``jump`` is the host that it is reached through.
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
    memory: int | None = None
    emulates: frozenset[str] = frozenset()

    def accelerators_for(self, arch: str) -> frozenset[str]:
        """What may run guests of ``arch`` here: KVM runs none but those of the host's own."""
        if arch == self.arch:
            return self.accelerators
        return frozenset({"tcg"}) if arch in self.emulates else frozenset()


UNLABELLED: Mapping[str, frozenset[str]] = MappingProxyType({})
"""Nothing needs a label."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What a step asks of a host; ``host`` is set where a trial must be on that very one.

    ``memory`` is that of a guest, in bytes. ``without`` are hosts that will not do.
    """

    slot: Slot
    arch: str
    accelerator: str | None = None
    labels: frozenset[str] = field(default_factory=frozenset)
    host: str | None = None
    memory: int = 0
    without: frozenset[str] = frozenset()

    def __str__(self) -> str:
        words = [f"{self.slot.value} for {self.arch}"]
        if self.accelerator:
            words.append(f"with {self.accelerator}")
        if self.host:
            words.append(f"on {self.host}")
        if self.labels:
            words.append(f"labelled {', '.join(sorted(self.labels))}")
        if self.memory:
            words.append(f"in {self.memory >> 20} MiB")
        return " ".join(words)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is in use on a host: slots of each kind, and the memory of its guests in bytes."""

    slots: Mapping[Slot, int] = field(default_factory=dict)
    memory: int = 0


IDLE = Load()


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """What the daemon knows of a host beside its health, for people.

    ``slots`` is how many there are, ``memory`` what its guests may have together, if that is
    bounded, and ``cache`` the bytes in its cache, once they were counted. ``looked_at`` is the last
    look over it (seconds since the epoch). ``guests`` says of each accelerator that it may use why
    a tiny guest did not run under it, or None.
    """

    slots: Mapping[Slot, int]
    load: Load
    memory: int | None
    cache: int | None
    cache_budget: int
    looked_at: float | None
    guests: Mapping[str, str | None]


def suits(need: Need, host: HostSpec) -> bool:
    """Whether ``host`` could ever serve ``need``, were it idle and well.

    Clang builds for every architecture on any host; guests are another matter.
    """
    return (
        host.slots.get(need.slot, 0) > 0
        and (need.slot is Slot.BUILD or _boots(need, host))
        and need.labels <= host.labels
        and need.host in {None, host.name}
        and host.name not in need.without
        and fits(need, host, IDLE)
    )


def fits(need: Need, host: HostSpec, load: Load) -> bool:
    """Whether the memory that ``load`` leaves is enough."""
    return host.memory is None or load.memory + need.memory <= host.memory


def _boots(need: Need, host: HostSpec) -> bool:
    if need.accelerator is not None:
        return need.accelerator in host.accelerators_for(need.arch)
    return need.arch in {host.arch, *host.emulates}


def place(
    need: Need,
    hosts: Sequence[tuple[HostSpec, HostState]],
    loads: Mapping[str, Load],
) -> HostSpec | None:
    """The host to use now: healthy, with a free slot and room, and the least loaded of its kind.

    ``loads`` says by host name what is in use. None means wait. A host of the guest's own
    architecture goes before one that emulates it. Equally loaded hosts are taken by most free
    slots, then by name, so that the answer is always the same.
    """
    free = [
        (_emulates(need, host), used / total, used - total, host.name, host)
        for host, state in hosts
        if state.health is Health.OK and suits(need, host)
        for load in [loads.get(host.name, IDLE)]
        for used, total in [(load.slots.get(need.slot, 0), host.slots[need.slot])]
        if used < total and fits(need, host, load)
    ]
    return min(free, key=lambda entry: entry[:4])[4] if free else None


def _emulates(need: Need, host: HostSpec) -> bool:
    return need.slot is Slot.BOOT and need.arch != host.arch
