# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from kwatch.domain.host import Health, HostSpec, HostState, Need, Slot, place, suits

WELL = HostState()


def spec(name: str, boots: int = 1, **changes: object) -> HostSpec:
    base: dict[str, object] = {"arch": "x86_64", "accelerators": frozenset({"kvm", "tcg"})}
    return HostSpec(name=name, directory="kwatch", slots={Slot.BOOT: boots}, **base | changes)  # type: ignore[arg-type]


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


def test_a_sick_or_full_host_gets_nothing() -> None:
    sick = HostState(health=Health.QUARANTINED, reason="boots nothing")
    away = HostState(health=Health.UNREACHABLE)
    assert place(NEED, [(spec("a"), sick), (spec("b"), away)], {}) is None
    assert place(NEED, [(spec("a"), WELL)], {("a", Slot.BOOT): 1}) is None
    found = place(NEED, [(spec("a"), sick), (spec("b"), WELL)], {("a", Slot.BUILD): 9})
    assert found is not None
    assert found.name == "b"


@given(slots=st.lists(st.integers(1, 5), min_size=1, max_size=5))
def test_all_slots_are_used_and_the_load_stays_even(slots: list[int]) -> None:
    hosts = [(spec(f"h{number}", boots), WELL) for number, boots in enumerate(slots)]
    busy: Counter[tuple[str, Slot]] = Counter()
    while (found := place(NEED, hosts, busy)) is not None:
        taken = busy[found.name, Slot.BOOT] / found.slots[Slot.BOOT]
        assert all(busy[h.name, Slot.BOOT] / h.slots[Slot.BOOT] >= taken for h, _ in hosts)
        busy[found.name, Slot.BOOT] += 1
    assert sum(busy.values()) == sum(slots)
