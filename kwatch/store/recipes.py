# SPDX-License-Identifier: GPL-2.0-or-later
"""Recipes by their digests: how kernels are built and booted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kwatch.domain.recipe.boot import BootRecipe
from kwatch.domain.recipe.build import BuildRecipe
from kwatch.store.codec import decode, encode

if TYPE_CHECKING:
    from kwatch.store.database import Transaction

Recipe = BuildRecipe | BootRecipe


def put(tx: Transaction, *recipes: Recipe) -> None:
    """Keep recipes. A definition of the same digest that was kept before stays."""
    tx.executemany(
        "INSERT INTO recipe (digest, kind, definition) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        [
            (one.digest, "build" if isinstance(one, BuildRecipe) else "boot", encode(one))
            for one in recipes
        ],
    )


def build(tx: Transaction, digest: str) -> BuildRecipe:
    """The build recipe with this digest."""
    return decode(BuildRecipe, _definition(tx, digest))


def boot(tx: Transaction, digest: str) -> BootRecipe:
    """The boot recipe with this digest."""
    return decode(BootRecipe, _definition(tx, digest))


def _definition(tx: Transaction, digest: str) -> str:
    row = tx.execute("SELECT definition FROM recipe WHERE digest = ?", (digest,)).fetchone()
    found: str = row["definition"]
    return found
