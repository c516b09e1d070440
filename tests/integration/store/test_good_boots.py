# SPDX-License-Identifier: GPL-2.0-or-later
"""What earlier good boots of the same recipes were like."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from kwatch.domain.recipe.boot import BootRecipe
from kwatch.store import good_boots, recipes, steps
from tests.integration.store.world import World, recipe_of
from tests.unit.domain.trials import BOOT, BUILD, HANG, boot, build

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

OTHER = recipe_of(2)
ARM64 = BootRecipe(arch="arm64")


@pytest.fixture
def tx() -> Iterator[sqlite3.Connection]:
    world = World()
    recipes.put(world.connection, BUILD, OTHER, BOOT, ARM64)
    yield world.connection
    world.connection.close()


def keep(tx: sqlite3.Connection, *digests: str) -> None:
    """These blobs are there."""
    tx.executemany("INSERT INTO blob VALUES (?, 1, 1, 0, 0)", [(one,) for one in digests])


def booted(
    tx: sqlite3.Connection,
    key: str,
    *,
    at: float,
    recipe: BootRecipe = BOOT,
    is_good: bool = True,
    accelerator: str = "kvm",
) -> None:
    """A boot of the build ``key``, with a profile and an image named after it."""
    made = build(key, artifacts={"image": f"image of {key}"})
    steps.put_build(tx, made, (OTHER if key.startswith("other") else BUILD).digest, now=at)
    ran = boot(
        f"boot of {key}",
        made.row,
        finding=None if is_good else HANG,
        artifacts={"profile": f"profile of {key}"},
    )
    ran = replace(ran, accelerator=accelerator, phases={"kernel": at, "init": 2 * at})
    steps.put_boot(tx, ran, recipe.digest, now=at)


def test_the_profile_of_the_newest_good_boot_that_is_kept(tx: sqlite3.Connection) -> None:
    assert good_boots.profile(tx, BUILD.digest, BOOT.digest) is None
    for at, key in enumerate(("old", "newer", "gone"), 1):
        booted(tx, key, at=at)
    booted(tx, "bad", at=8, is_good=False)
    booted(tx, "other", at=9)
    booted(tx, "arm", at=9, recipe=ARM64)
    keep(tx, *(f"profile of {key}" for key in ("old", "newer", "bad", "other", "arm")))
    assert good_boots.profile(tx, BUILD.digest, BOOT.digest) == "profile of newer"
    assert good_boots.profile(tx, OTHER.digest, BOOT.digest) == "profile of other"
    assert good_boots.profile(tx, "nobody's", BOOT.digest) is None


def test_the_image_of_the_newest_good_boot_of_an_architecture(tx: sqlite3.Connection) -> None:
    assert good_boots.image(tx, "x86_64") is None
    for at, key in enumerate(("old", "newer", "gone"), 1):
        booted(tx, key, at=at)
    booted(tx, "bad", at=8, is_good=False)
    booted(tx, "arm", at=9, recipe=ARM64)
    keep(tx, *(f"image of {key}" for key in ("old", "newer", "bad", "arm")))
    assert good_boots.image(tx, "x86_64") == "image of newer"
    assert good_boots.image(tx, "arm64") == "image of arm"
    assert good_boots.image(tx, "riscv") is None


def test_only_good_boots_under_the_same_accelerator_say_what_is_usual(
    tx: sqlite3.Connection,
) -> None:
    for at, key in enumerate(("old", "newer"), 1):
        booted(tx, key, at=at)
    # How it was built makes no difference to what is usual.
    booted(tx, "other", at=3)
    booted(tx, "slow", at=4, accelerator="tcg")
    booted(tx, "bad", at=5, is_good=False)
    booted(tx, "arm", at=6, recipe=ARM64)
    found = good_boots.phases(tx, BOOT.digest, "kvm")
    assert [one["kernel"] for one in found] == [3, 2, 1]
    assert found[0] == {"kernel": 3, "init": 6}
    assert [one["kernel"] for one in good_boots.phases(tx, BOOT.digest, "tcg")] == [4]
    assert good_boots.phases(tx, "nobody's", "kvm") == ()
    for at in range(good_boots.BOOTS + 5):
        booted(tx, f"many {at}", at=100 + at)
    assert len(good_boots.phases(tx, BOOT.digest, "kvm")) == good_boots.BOOTS
