# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kwatch.domain.lab.host import Health, HostSpec, HostState, Load, Need, Slot, place, suits

WELL = HostState()


def spec(name: str, boots: int = 1, **changes: object) -> HostSpec:
    base: dict[str, object] = {
        "arch": "x86_64", "accelerators": frozenset({"kvm", "tcg"}), "slots": {Slot.BOOT: boots},
    }  # fmt: skip
    return HostSpec(name=name, directory="kwatch", **base | changes)  # type: ignore[arg-type]


NEED = Need(slot=Slot.BOOT, arch="x86_64")


def test_only_a_host_that_suits() -> None:
    plain = spec("a")
    assert suits(NEED, plain)
    assert not suits(Need(slot=Slot.BUILD, arch="x86_64"), plain)
    assert not suits(Need(slot=Slot.BOOT, arch="arm64"), plain)
    assert not suits(NEED, spec("a", boots=0))
    assert not suits(
        Need(slot=Slot.BOOT, arch="x86_64", accelerator="kvm"), spec("a", accelerators=frozenset())
    )
    wish = Need(slot=Slot.BOOT, arch="x86_64", labels=frozenset({"amd"}))
    assert not suits(wish, plain)
    assert suits(wish, spec("a", labels=frozenset({"amd", "fast"})))
    assert not suits(Need(slot=Slot.BOOT, arch="x86_64", host="b"), plain)


def test_every_host_builds_for_every_architecture() -> None:
    assert suits(Need(slot=Slot.BUILD, arch="arm64"), spec("a", slots={Slot.BUILD: 1}))


@pytest.mark.parametrize(("accelerator", "can"), [(None, True), ("tcg", True), ("kvm", False)])
def test_another_architecture_is_emulated_and_never_run_by_kvm(
    accelerator: str | None, *, can: bool
) -> None:
    need = Need(slot=Slot.BOOT, arch="arm64", accelerator=accelerator)
    assert suits(need, spec("a", emulates=frozenset({"arm64"}))) is can
    assert not suits(need, spec("a"))
    # What the host may do with its own guests is another matter.
    kvm_only = spec("a", emulates=frozenset({"arm64"}), accelerators=frozenset({"kvm"}))
    assert suits(need, kvm_only) is can
    assert not suits(replace(need, arch="x86_64", accelerator="tcg"), kvm_only)


def test_a_host_of_the_guests_own_architecture_goes_first() -> None:
    need = Need(slot=Slot.BOOT, arch="arm64")
    hosts = [
        (spec("a", 9, emulates=frozenset({"arm64"})), WELL),
        (spec("b", 2, arch="arm64"), WELL),
    ]
    assert place(need, hosts, {"b": Load(slots={Slot.BOOT: 1})}) == hosts[1][0]
    assert place(need, hosts, {"b": Load(slots={Slot.BOOT: 2})}) == hosts[0][0]


def test_a_sick_or_full_host_gets_nothing() -> None:
    sick = HostState(health=Health.QUARANTINED, reason="boots nothing")
    away = HostState(health=Health.UNREACHABLE)
    assert place(NEED, [(spec("a"), sick), (spec("b"), away)], {}) is None
    assert place(NEED, [(spec("a"), WELL)], {"a": Load(slots={Slot.BOOT: 1})}) is None
    found = place(NEED, [(spec("a"), sick), (spec("b"), WELL)], {"a": Load(slots={Slot.BUILD: 9})})
    assert found is not None
    assert found.name == "b"


@given(slots=st.lists(st.integers(1, 5), min_size=1, max_size=5))
def test_all_slots_are_used_and_the_load_stays_even(slots: list[int]) -> None:
    hosts = [(spec(f"h{number}", boots), WELL) for number, boots in enumerate(slots)]
    busy: Counter[str] = Counter()
    while (found := place(NEED, hosts, loads(busy))) is not None:
        taken = busy[found.name] / found.slots[Slot.BOOT]
        assert all(busy[h.name] / h.slots[Slot.BOOT] >= taken for h, _ in hosts)
        busy[found.name] += 1
    assert sum(busy.values()) == sum(slots)


def loads(busy: Counter[str]) -> dict[str, Load]:
    return {name: Load(slots={Slot.BOOT: used}) for name, used in busy.items()}


def test_a_guest_goes_where_its_memory_is() -> None:
    hosts = [(spec("a", 9, memory=4), WELL), (spec("b", 2, memory=6), WELL)]
    big = Need(slot=Slot.BOOT, arch="x86_64", memory=5)
    found = place(big, hosts, {})
    assert found is not None
    assert found.name == "b"
    assert place(big, hosts, {"b": Load(slots={Slot.BOOT: 1}, memory=2)}) is None
    assert not suits(big, spec("a", memory=4))
    assert suits(big, spec("a"))


@given(
    sizes=st.lists(st.integers(1, 16), max_size=20),
    memories=st.lists(st.one_of(st.none(), st.integers(0, 40)), min_size=1, max_size=4),
)
def test_no_host_lends_more_memory_than_it_has(
    sizes: list[int], memories: list[int | None]
) -> None:
    hosts = [(spec(f"h{at}", 3, memory=memory), WELL) for at, memory in enumerate(memories)]
    used: dict[str, Load] = {}
    for size in sizes:
        need = Need(slot=Slot.BOOT, arch="x86_64", memory=size)
        found = place(need, hosts, used)
        before = [used.get(host.name, Load()) for host, _ in hosts]
        if found is None:
            assert all(
                load.slots.get(Slot.BOOT, 0) == 3
                or (host.memory is not None and load.memory + size > host.memory)
                for (host, _), load in zip(hosts, before, strict=True)
            )
            continue
        load = used.get(found.name, Load())
        used[found.name] = Load(
            slots={Slot.BOOT: load.slots.get(Slot.BOOT, 0) + 1}, memory=load.memory + size
        )
        assert found.memory is None or used[found.name].memory <= found.memory
