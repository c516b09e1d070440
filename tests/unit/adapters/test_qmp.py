# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kwatch.adapters.guest.registers import code_command, parse_registers, tells_halts, with_code
from kwatch.domain.boot.vcpu import VcpuSample

RUNNING = """\r
CPU#0\r
RAX=0000000000000000 RBX=ffffffff82614a40 RCX=0000000000000001 RDX=4000000000000000\r
RSI=0000000000000087 RDI=0000000000003f0c RBP=ffffffff82603e88 RSP=ffffffff82603e60\r
R8 =000000000000000f R15=000000000000000a\r
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
            registers=(
                0,
                0xFFFFFFFF82614A40,
                1,
                0x4000000000000000,
                0x87,
                0x3F0C,
                0xFFFFFFFF82603E88,
                0xFFFFFFFF82603E60,
                0x0F,
                0xA,
            ),
        ),
        VcpuSample(
            rip=0xFFF0,
            rsp=0,
            cr2=0,
            cpl=0,
            halted=True,
            interrupts_enabled=False,
            registers=(0, 0, 0, 0x60FB1, 0, 0, 0, 0),
        ),
    )


ARM64 = """\r
CPU#0\r
 PC=ffff800080010a24 X00=0000000000000000 X01=0000000000000000\r
X29=ffff800080e83dd0 X30=ffff80008063b8f8  SP=ffff800080e83dd0\r
PSTATE=600000c5 -ZC- EL1h  SVCR=00000000 --  BTYPE=0    FPU disabled\r
\r
CPU#1\r
 PC=0000aaaac0f01234 X00=0000000000000000 X01=0000000000000000\r
X29=0000000000000000 X30=0000000000000000  SP=0000ffffd0000000\r
PSTATE=60001000 -ZC- EL0t  SVCR=00000000 --  BTYPE=0    FPU disabled\r
\r
CPU#2\r
 PC=0000000000000000 X00=0000000000000000 X01=0000000000000000\r
X29=0000000000000000 X30=0000000000000000  SP=0000000000000000\r
PSTATE=400003c5 -Z-- EL1h  SVCR=00000000 --  BTYPE=0    FPU disabled\r
"""


def test_registers_of_arm64() -> None:
    kernel, user = parse_registers(ARM64)
    assert kernel == VcpuSample(
        rip=0xFFFF800080010A24, rsp=0xFFFF800080E83DD0, cr2=None, cpl=0, halted=False,
        interrupts_enabled=False, registers=(0, 0, 0xFFFF800080E83DD0, 0xFFFF80008063B8F8),
    )  # fmt: skip
    assert (user.rip, user.cpl, user.interrupts_enabled) == (0xAAAAC0F01234, 3, True)
    assert tells_halts(RUNNING)
    assert not tells_halts(ARM64)


def test_whether_arm64_waits_is_told_by_its_code() -> None:
    kernel, user = parse_registers(ARM64)
    assert code_command(kernel) == "x /2wx 0xffff800080010a20"
    waits = with_code(kernel, "ffff800080010a20: 0xd503207f 0xd50323bf\r\n")
    assert (waits.halted, waits.interrupts_enabled) == (True, True)
    for said in ("ffff800080010a20: 0x14000000 0xd65f03c0", "Cannot access memory", ""):
        assert with_code(kernel, said) == kernel
    assert with_code(user, "0000aaaac0f01230: 0xd503207f 0xd50323bf") == user


@given(st.text(alphabet="CPU#0123 RIPESLFHTA=\nabcdef"))
def test_strange_text_gives_no_registers(text: str) -> None:
    assert isinstance(parse_registers(text), tuple)
