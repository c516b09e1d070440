# SPDX-License-Identifier: GPL-2.0-or-later
"""What QEMU's monitor prints of registers, of x86 and of arm64 machines."""

from __future__ import annotations

import re
from dataclasses import replace

from kwatch.domain.boot.vcpu import VcpuSample

_CPU = re.compile(r"^CPU#\d+", re.MULTILINE)


def _patterns(**named: str) -> dict[str, re.Pattern[str]]:
    return {name: re.compile(rf"\b{pattern}=([0-9a-f]+)") for name, pattern in named.items()}


_X86 = _patterns(
    rip="[ER]IP", rsp="[ER]SP", flags="(?:EFL|RFL)", cr2="CR2", cpl="CPL", halted="HLT"
)
_X86_GENERAL = re.compile(r"\b[ER](?:[A-D]X|[SD]I|[SB]P|\d+) *=([0-9a-f]+)")
_X86_INTERRUPTS = 1 << 9  # RFLAGS.IF
_ARM64 = _patterns(pc="PC", sp="SP", pstate="PSTATE")
_ARM64_GENERAL = re.compile(r"\bX\d+=([0-9a-f]+)")
_ARM64_MASKED = 1 << 7  # PSTATE.I
_ARM64_LEVEL = 3 << 2  # PSTATE.EL; 0 is user space
_USER = 3
# WFI and WFE: the Arm Architecture Reference Manual, C6.2.
_WAITS = re.compile(r"\b0xd503(?:205f|207f)\b")


def parse_registers(text: str) -> tuple[VcpuSample, ...]:
    """What ``info registers -a`` says, per vCPU.

    A vCPU without all of the registers that matter is left out, and one of arm64 that was not
    started yet: its program counter is zero. Those of arm64 count as running, see
    :func:`tells_halts`.
    """
    samples = []
    for part in _CPU.split(text.replace("\r", ""))[1:]:
        sample = _x86(part) or _arm64(part)
        if sample is not None:
            samples.append(sample)
    return tuple(samples)


def tells_halts(text: str) -> bool:
    """Whether the registers say which vCPUs are halted; else the code there does."""
    return "HLT=" in text


def code_command(sample: VcpuSample) -> str:
    """The monitor's command for the instructions before and at the program counter."""
    return f"x /2wx {sample.rip - 4:#x}"


def with_code(sample: VcpuSample, said: str) -> VcpuSample:
    """The sample of a vCPU of arm64 with what the monitor said of the code there.

    One that waits is halted, and goes on with the next interrupt, even a masked one: the kernel
    itself idles with interrupts masked.
    """
    if sample.cpl == 0 and _WAITS.search(said):
        return replace(sample, halted=True, interrupts_enabled=True)
    return sample


def _found(part: str, patterns: dict[str, re.Pattern[str]]) -> dict[str, int] | None:
    found = {name: pattern.search(part) for name, pattern in patterns.items()}
    values = {name: int(match[1], 16) for name, match in found.items() if match is not None}
    return values if len(values) == len(patterns) else None


def _all(part: str, pattern: re.Pattern[str]) -> tuple[int, ...]:
    return tuple(int(value, 16) for value in pattern.findall(part))


def _x86(part: str) -> VcpuSample | None:
    values = _found(part, _X86)
    if values is None:
        return None
    return VcpuSample(
        rip=values["rip"],
        rsp=values["rsp"],
        cr2=values["cr2"],
        cpl=values["cpl"],
        halted=values["halted"] == 1,
        interrupts_enabled=bool(values["flags"] & _X86_INTERRUPTS),
        registers=_all(part, _X86_GENERAL),
    )


def _arm64(part: str) -> VcpuSample | None:
    values = _found(part, _ARM64)
    if values is None or not values["pc"]:
        return None
    return VcpuSample(
        rip=values["pc"],
        rsp=values["sp"],
        cr2=None,
        cpl=0 if values["pstate"] & _ARM64_LEVEL else _USER,
        halted=False,
        interrupts_enabled=not values["pstate"] & _ARM64_MASKED,
        registers=_all(part, _ARM64_GENERAL),
    )
