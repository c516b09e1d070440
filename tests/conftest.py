# SPDX-License-Identifier: GPL-2.0-or-later
"""What all tests share."""

from __future__ import annotations

from hypothesis import settings

# How fast a test is depends on the machine; speed is measured in bench/, never in a test.
settings.register_profile("kwatch", deadline=None)
settings.load_profile("kwatch")
