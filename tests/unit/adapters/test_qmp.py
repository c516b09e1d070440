# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kwatch.adapters.qmp import parse_registers
from kwatch.domain.vcpu import VcpuSample

RUNNING = """\r
CPU#0\r
RAX=0000000000000000 RBX=ffffffff82614a40 RCX=0000000000000001 RDX=4000000000000000\r
RSI=0000000000000087 RDI=0000000000003f0c RBP=ffffffff82603e88 RSP=ffffffff82603e60\r
RIP=ffffffff81e0d16f RFL=00000246 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=1\r
CS =0010 0000000000000000 ffffffff 00af9b00 DPL=0 CS64 [-RA]\r
CR0=80050033 CR2=00007f0c8c000010 CR3=0000000002e1c000 CR4=00750ef0\r
\r
CPU#1\r
EAX=00000000 EBX=00000000 ECX=00000000 EDX=00060fb1\r
ESI=00000000 EDI=00000000 EBP=00000000 ESP=00000000\r
EIP=0000fff0 EFL=00000002 [-------] CPL=0 II=0 A20=1 SMM=0 HLT=1\r
CR0=60000010 CR2=00000000 CR3=00000000 CR4=00000000\r
"""


def test_registers_in_both_modes() -> None:
    assert parse_registers(RUNNING) == (
        VcpuSample(
            rip=0xFFFFFFFF81E0D16F,
            rsp=0xFFFFFFFF82603E60,
            cr2=0x7F0C8C000010,
            cpl=0,
            halted=True,
            interrupts_enabled=True,
        ),
        VcpuSample(rip=0xFFF0, rsp=0, cr2=0, cpl=0, halted=True, interrupts_enabled=False),
    )


@given(st.text(alphabet="CPU#0123 RIPESLFHT=\nabcdef"))
def test_strange_text_gives_no_registers(text: str) -> None:
    assert isinstance(parse_registers(text), tuple)
