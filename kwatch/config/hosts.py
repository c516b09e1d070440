# SPDX-License-Identifier: GPL-2.0-or-later
"""The hosts of a configuration with their jump hosts."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from kwatch.domain.lab.host import HostSpec, Slot

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kwatch.config import model
    from kwatch.config.files import Files


def make_hosts(sections: Iterable[tuple[int, model.Host]], files: Files) -> tuple[HostSpec, ...]:
    """The hosts in file order; check.py verifies that ``jump`` names one of them."""
    listed = list(sections)
    direct = {section.name: _host(f"host[{at}]", section, files) for at, section in listed}
    return tuple(
        replace(direct[section.name], jump=direct.get(section.jump))
        if section.jump is not None
        else direct[section.name]
        for _, section in listed
    )


def _host(key: str, section: model.Host, files: Files) -> HostSpec:
    key_file = files.secret(f"{key}.key_file", section.key_file) if section.key_file else None
    is_in_need = section.address is not None and section.key_file is None
    return HostSpec(
        name=section.name,
        directory=section.directory,
        arch=section.arch,
        slots=MappingProxyType({Slot.BUILD: section.slots.build, Slot.BOOT: section.slots.boot}),
        address=section.address,
        port=section.port,
        user=section.user or "",
        key_file=key_file,
        agent=files.agent(f"{key}.key_file", section.agent)
        if is_in_need or section.agent
        else None,
        known_hosts=section.known_hosts or "",
        accelerators=frozenset(section.accelerators),
        labels=frozenset(section.labels),
        memory=section.memory,
        emulates=frozenset(section.emulates) - {section.arch},
    )
