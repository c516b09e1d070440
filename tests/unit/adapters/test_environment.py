# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from dataclasses import replace

from kwatch.adapters.guest.environment import KnownEnvironments
from kwatch.domain.recipe.arch import ARM64, X86_64
from kwatch.domain.recipe.boot import Accelerator
from tests.unit.domain.test_digests import BOOT_ENVIRONMENT

OTHER = replace(BOOT_ENVIRONMENT, kernel="6.9.0")


def test_hosts_that_had_another_environment_are_passed_over() -> None:
    known = KnownEnvironments()
    known.note("a", X86_64, BOOT_ENVIRONMENT)
    known.note("b", X86_64, OTHER)
    assert known.without(OTHER.digest) == {"a"}
    # A host may have several: for each architecture and accelerator one.
    known.note("a", ARM64, OTHER)
    known.note("c", X86_64, replace(OTHER, accelerator=Accelerator.TCG))
    assert known.without(OTHER.digest) == {"c"}


def test_a_host_that_was_upgraded_has_the_new_one() -> None:
    known = KnownEnvironments()
    known.note("a", X86_64, BOOT_ENVIRONMENT)
    known.note("b", X86_64, OTHER)
    known.note("a", X86_64, OTHER)
    assert known.without(OTHER.digest) == set()


def test_where_no_host_is_known_to_have_it_all_are_asked() -> None:
    known = KnownEnvironments()
    known.note("a", X86_64, BOOT_ENVIRONMENT)
    assert known.without(OTHER.digest) == set()
    assert known.without("") == set()
