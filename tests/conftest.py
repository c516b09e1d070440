# SPDX-License-Identifier: GPL-2.0-or-later
"""What all tests share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import settings

if TYPE_CHECKING:
    import pytest

# How fast a test is depends on the machine; speed is measured in bench/, never in a test.
settings.register_profile("kwatch", deadline=None)
settings.load_profile("kwatch")


def pytest_addoption(parser: pytest.Parser) -> None:
    """The corpus of logs can write its expectations anew."""
    parser.addoption("--update", action="store_true", help="write tests/corpus anew")
