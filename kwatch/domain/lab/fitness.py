# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether a host is fit for work, before any is given to it.

What is wrong with a host looks like what is wrong with a kernel once a kernel runs there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kwatch.domain.lab.host import Slot
from kwatch.domain.recipe.arch import ARCHES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kwatch.domain.lab.host import HostSpec
    from kwatch.domain.recipe.boot import Accelerator

MIN_FREE_BYTES = 256 << 20
MAX_SKEW_SECONDS = 120.0

# Program and the Debian package that has it.
_BUILD = {"bwrap": "bubblewrap", "make": "make"}


def unfit(spec: HostSpec, facts: Mapping[str, Any], *, now: float) -> str | None:
    """Why ``spec``'s host gets no work, or None for one that is fit.

    ``facts`` are those of Host.probe(), ``now`` is our time.
    """
    needed = dict(_BUILD) if spec.slots.get(Slot.BUILD, 0) else {}
    if spec.slots.get(Slot.BOOT, 0):
        guests = [ARCHES[arch] for arch in (spec.arch, *spec.emulates)]
        needed |= {arch.emulator: arch.package for arch in guests}
    missing = sorted(set(needed) - set(facts["tools"]))
    if missing:
        packages = " ".join(sorted({needed[program] for program in missing}))
        return f"{', '.join(missing)} not installed there (Debian: apt install {packages})"
    if facts["arch"] != ARCHES[spec.arch].uname:
        return f"it is {facts['arch']}, and the configuration says {spec.arch}"
    free = int(facts["disk_free_bytes"])
    if free < MIN_FREE_BYTES:
        return f"only {free >> 20} MiB of its disk are free: make room below {spec.directory}"
    skew = float(facts["time"]) - now
    if abs(skew) > MAX_SKEW_SECONDS:
        return f"its clock is {abs(skew):.0f} s {'ahead' if skew > 0 else 'behind'}: set it by NTP"
    return None


def no_guest(arch: str, accelerators: Mapping[Accelerator, str | None]) -> str | None:
    """Why no guest of ``arch`` runs on a host, or None.

    ``accelerators`` says of each that was tried why a tiny guest did not run under it, or None;
    one that works is enough.
    """
    if not accelerators or not all(accelerators.values()):
        return None
    reasons = "; ".join(f"{name}: {reason}" for name, reason in accelerators.items())
    return f"no guest of {arch} runs there ({reasons})"
