# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel and the bench of the long tests."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from tests.corpus.grow import PLAIN_CONFIG, Kernel
from tests.long.bootbench import BootBench

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

FOLDER = Path("/var/tmp/kwatch-misdeeds")


@pytest.fixture(scope="session")
def kernel() -> Kernel:
    """Debian's Linux with the misdeeds in it, built once and kept."""
    kernel = Kernel(FOLDER, [PLAIN_CONFIG])
    kernel.prepare()
    return kernel


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[BootBench]:
    """A bench of its own for each test."""
    bench = await BootBench.open(tmp_path)
    yield bench
    await bench.close()
