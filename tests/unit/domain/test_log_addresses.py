# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kwatch.domain.log.addresses import MAX_ADDRESSES, bare_addresses, with_names
from kwatch.domain.log.console import read_console

# As a kernel without KALLSYMS prints it.
CONSOLE = b"""\
[    1.100000] BUG: kernel NULL pointer dereference, address: 0000000000000008
[    1.100000] #PF: supervisor read access in kernel mode
[    1.100000] RIP: 0010:0xffffffff81001ec2
[    1.100000] Code: 48 8b 70 08 48 c7 c7
[    1.100000] RAX: 0000000000000000 RBX: ffffffff81bd0080 RCX: 00000000000201e6
[    1.100000] Call Trace:
[    1.100000]  <TASK>
[    1.100000]  ? 0xffffffff810125c0
[    1.100000]  0xffffffff81a00b50
[    1.100000]  </TASK>
"""
NAMES = {0xFFFFFFFF81001EC2: "thing_open+0x2", 0xFFFFFFFF81A00B50: "do_one_initcall+0x153"}


def test_names_stand_where_addresses_were() -> None:
    assert bare_addresses(CONSOLE) == (
        0xFFFFFFFF81001EC2,
        0xFFFFFFFF810125C0,
        0xFFFFFFFF81A00B50,
    )
    (bare,) = read_console(CONSOLE).findings
    assert bare.function is None
    (named,) = read_console(with_names(CONSOLE, NAMES)).findings
    assert named.title == "BUG: unable to handle kernel NULL pointer dereference in thing_open"
    assert with_names(CONSOLE, {}) == CONSOLE


def test_addresses_in_other_places_are_left_alone() -> None:
    other = b"[    0.1] mapped 0xffffffff81001ec2 for it\n[    0.2] RAX: ffffffff81bd0080\n"
    assert bare_addresses(other) == ()


def test_no_more_are_asked_for_than_a_trace_can_have() -> None:
    lines = (b"[    1.0]  0xffffffff%08x\n" % (0x81000000 + n) for n in range(5000))
    assert len(bare_addresses(b"".join(lines))) == MAX_ADDRESSES


@given(st.binary(max_size=500))
def test_any_console_can_be_searched(console: bytes) -> None:
    assert with_names(console, dict.fromkeys(bare_addresses(console), "f+0x1")) is not None
