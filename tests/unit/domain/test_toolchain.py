# SPDX-License-Identifier: GPL-2.0-or-later
"""What a build was made with, as an identity and in words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kwatch.domain.recipe.toolchain import Environment, Part
from tests.unit.domain.trials import TOOLCHAIN

CLANG = Part(
    name="compiler",
    version="Debian clang version 22.1.8 (1~deb12u1)",
    package="clang-22 1:22.1.8-1~deb12u1",
    content="a" * 64,
)
LLD = Part(
    name="linker of vmlinux.o",
    version="Debian LLD 22.1.8 (compatible with GNU linkers)",
    package="lld-22 1:22.1.8-1~deb12u1",
    content="b" * 64,
)
MOLD = Part(
    name="linker of vmlinux",
    version="mold 2.40.0 (compatible with GNU ld)",
    package="",
    content="c" * 64,
)
ENVIRONMENT = Environment(parts=(CLANG, LLD, MOLD))


def test_the_digest_is_the_same_in_every_version_of_kwatch() -> None:
    assert ENVIRONMENT.digest == "edbc9f407adf7d97"


@pytest.mark.parametrize(
    "change", [{"name": "x"}, {"version": "x"}, {"package": "x"}, {"content": "d" * 64}]
)
def test_each_field_of_each_part_counts(change: dict[str, str]) -> None:
    for number, part in enumerate(ENVIRONMENT.parts):
        parts = list(ENVIRONMENT.parts)
        parts[number] = replace(part, **change)
        assert Environment(parts=tuple(parts)).digest != ENVIRONMENT.digest


def test_linkers_that_change_places_are_another_environment() -> None:
    swapped = (CLANG, replace(MOLD, name=LLD.name), replace(LLD, name=MOLD.name))
    assert Environment(parts=swapped).digest != ENVIRONMENT.digest


def test_parts_of_one_version_share_a_line() -> None:
    same = replace(LLD, name="linker of vmlinux")
    assert Environment(parts=(CLANG, LLD, same)).describe()[:-1] == (
        "compiler: Debian clang version 22.1.8 (1~deb12u1) [clang-22 1:22.1.8-1~deb12u1]",
        f"linker of vmlinux.o, linker of vmlinux: {LLD.version} [lld-22 1:22.1.8-1~deb12u1]",
    )
    assert ENVIRONMENT.describe()[-2:] == (
        "linker of vmlinux: mold 2.40.0 (compatible with GNU ld)",
        f"environment: {ENVIRONMENT.digest}",
    )


def test_a_toolchain_splits_linking_where_vmlinux_o_has_another_linker() -> None:
    assert not TOOLCHAIN.splits_linking
    assert replace(TOOLCHAIN, linker_objects="mold").splits_linking
