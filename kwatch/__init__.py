# SPDX-License-Identifier: GPL-2.0-or-later
"""kwatch: from a new tag of a kernel tree to a mail that somebody can act on."""

__version__ = "0.1.0"
