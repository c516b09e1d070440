# SPDX-License-Identifier: GPL-2.0-or-later
"""A host that is well passes its own proof, with a real kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kwatch.adapters.guest.proof import AcceleratorProof
from kwatch.adapters.host.host import Host
from kwatch.domain.lab.host import HostSpec
from kwatch.domain.lab.proof import CASES
from kwatch.domain.recipe.boot import Accelerator
from tests.long.bootbench import BUSYBOX, PROFILE

if TYPE_CHECKING:
    from pathlib import Path

    from tests.corpus.grow import Kernel

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]


async def test_every_end_gets_its_verdict(kernel: Kernel, tmp_path: Path) -> None:
    spec = HostSpec(name="here", directory=str(tmp_path / "host"), arch="x86_64", slots={})
    async with Host(spec) as host:
        proof = AcceleratorProof(
            host, Accelerator.TCG, profile=PROFILE, busybox=BUSYBOX["x86_64"].read_bytes(),
            scratch=tmp_path,
        )  # fmt: skip
        attempts = [attempt async for attempt in proof.run(kernel.image.read_bytes())]
    assert [(one.case.name, one.end, one.reason) for one in attempts if not one.is_right] == []
    assert len(attempts) == sum(case.times for case in CASES)
