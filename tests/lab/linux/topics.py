# SPDX-License-Identifier: GPL-2.0-or-later
"""What the lab's maintainers commit between three linux-next tags, as data.

Each commit is a few exact replacements in Linux 6.12, small enough to compile at a glance. A file
belongs to one branch, so that branches merge without conflicts. One commit of the second tag makes
the kernel die before its console works, and one of the third tag repairs it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Branch(StrEnum):
    """A topic branch, by the name that it has in the tree."""

    MM = "mm"
    LIB = "lib"
    PRINTK = "printk"
    DOCS = "docs"
    NET = "net"
    X86 = "x86"
    SCHED = "sched"
    ARM64 = "arm64"


class Tag(StrEnum):
    """A daily tag of the lab's linux-next, oldest first."""

    GOOD = "next-20261116"
    BROKEN = "next-20261117"
    REPAIRED = "next-20261118"


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """One replacement. `old` occurs exactly once in the file as the branch has it."""

    path: str
    old: str
    new: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """One commit of a branch, first seen in `tag`. An author of None is the branch's maintainer.

    `{culprit}` in the body stands for the abbreviated id of the commit that breaks the boot.
    """

    tag: Tag
    branch: Branch
    subject: str
    body: str
    edits: tuple[Edit, ...]
    author: str | None = None


def maintainer(branch: Branch) -> str:
    """Return who commits to a branch, as git writes a person."""
    return f"{branch} maintainer <{branch}@example.org>"


NEXT_MAINTAINER = "next maintainer <next@example.org>"
CULPRIT_SUBJECT = "lib/sort: use __ffs() to find the parent"
SORT_CONTRIBUTOR = "sort contributor <contributor@example.org>"

COMMITS: tuple[Commit, ...] = (
    Commit(
        tag=Tag.GOOD,
        branch=Branch.MM,
        subject="mm/memblock: do not ask for write access to dump regions",
        body="memblock_dump() only prints, so its argument can be const.",
        edits=(
            Edit(
                path="mm/memblock.c",
                old="static void __init_memblock memblock_dump(struct memblock_type *type)",
                new="static void __init_memblock memblock_dump(const struct memblock_type *type)",
            ),
        ),
    ),
    Commit(
        tag=Tag.GOOD,
        branch=Branch.LIB,
        subject="lib/hexdump: separate declaration and code in hex_to_bin()",
        body="Add the empty line that coding style asks for. No functional change.",
        edits=(
            Edit(
                path="lib/hexdump.c",
                old="\tunsigned char cu = ch & 0xdf;\n\treturn -1 +\n",
                new="\tunsigned char cu = ch & 0xdf;\n\n\treturn -1 +\n",
            ),
        ),
    ),
    Commit(
        tag=Tag.GOOD,
        branch=Branch.PRINTK,
        subject="printk: name the parameter that is too small",
        body=(
            "All other messages about the size of the buffer name log_buf_len, which is\n"
            "what the administrator wrote. new_log_buf_len is a variable."
        ),
        edits=(
            Edit(
                path="kernel/printk/printk.c",
                old='pr_err("new_log_buf_len: %lu too small\\n"',
                new='pr_err("log_buf_len: %lu too small\\n"',
            ),
        ),
    ),
    Commit(
        tag=Tag.GOOD,
        branch=Branch.X86,
        subject="x86/e820: let e820__print_table() take a constant name",
        body="All callers pass string literals, and the name is only printed.",
        edits=(
            Edit(
                path="arch/x86/include/asm/e820/api.h",
                old="extern void e820__print_table(char *who);",
                new="extern void e820__print_table(const char *who);",
            ),
            Edit(
                path="arch/x86/kernel/e820.c",
                old="void __init e820__print_table(char *who)",
                new="void __init e820__print_table(const char *who)",
            ),
        ),
    ),
    Commit(
        tag=Tag.GOOD,
        branch=Branch.SCHED,
        subject="sched/wait_bit: compute the shift from BITS_PER_LONG",
        body="ilog2() of a constant is a constant, and says what 5 and 6 are for.",
        edits=(
            Edit(
                path="kernel/sched/wait_bit.c",
                old="\tconst int shift = BITS_PER_LONG == 32 ? 5 : 6;\n",
                new="\tconst int shift = ilog2(BITS_PER_LONG);\n",
            ),
        ),
    ),
    Commit(
        tag=Tag.GOOD,
        branch=Branch.NET,
        subject="gtp: remove a doubled word from a comment",
        body="The header is aligned to 4 bytes.",
        edits=(
            Edit(
                path="drivers/net/gtp.c",
                old="header is aligned to to 4 bytes.",
                new="header is aligned to 4 bytes.",
            ),
        ),
    ),
    Commit(
        tag=Tag.BROKEN,
        branch=Branch.MM,
        subject="mm/memblock: tell when an option is not known",
        body=(
            "memblock= only knows debug. Anything else was dropped without a word, so a\n"
            "typing error was hard to see."
        ),
        edits=(
            Edit(
                path="mm/memblock.c",
                old='\tif (p && strstr(p, "debug"))\n\t\tmemblock_debug = 1;\n\treturn 0;\n',
                new=(
                    '\tif (p && strstr(p, "debug"))\n\t\tmemblock_debug = 1;\n\telse\n'
                    '\t\tpr_warn("memblock: unknown option %s\\n", p ?: "(empty)");\n'
                    "\treturn 0;\n"
                ),
            ),
        ),
    ),
    Commit(
        tag=Tag.BROKEN,
        branch=Branch.MM,
        subject="mm/maccess: describe strncpy_from_kernel_nofault()",
        body="Its sibling for user memory has a kernel-doc comment. Write this one's.",
        edits=(
            Edit(
                path="mm/maccess.c",
                old="long strncpy_from_kernel_nofault(char *dst, ",
                new=(
                    "/**\n"
                    " * strncpy_from_kernel_nofault(): copy a string that may not be mapped\n"
                    " * @dst: destination, always terminated unless @count is not positive\n"
                    " * @unsafe_addr: address of the string in kernel space\n"
                    " * @count: size of @dst\n"
                    " *\n"
                    " * Return: number of bytes copied, including the terminator, or a negative\n"
                    " * error if the address may not be read or a fault happens.\n"
                    " */\n"
                    "long strncpy_from_kernel_nofault(char *dst, "
                ),
            ),
        ),
    ),
    Commit(
        tag=Tag.BROKEN,
        branch=Branch.LIB,
        subject="lib/cmdline: drop parentheses around an argument",
        body="They have no effect. No functional change.",
        edits=(
            Edit(
                path="lib/cmdline.c",
                old="upper_range = simple_strtol((*str), NULL, 0);",
                new="upper_range = simple_strtol(*str, NULL, 0);",
            ),
        ),
    ),
    Commit(
        tag=Tag.BROKEN,
        branch=Branch.LIB,
        subject="lib/argv_split: end strings with a character",
        body="*argv_str is a char, so write its terminator as one.",
        edits=(
            Edit(
                path="lib/argv_split.c",
                old="\t\t\t*argv_str = 0;\n",
                new="\t\t\t*argv_str = '\\0';\n",
            ),
        ),
    ),
    Commit(
        tag=Tag.BROKEN,
        branch=Branch.LIB,
        subject=CULPRIT_SUBJECT,
        body=(
            "parent() wants to know the least significant bit of the size. Say so with\n"
            "__ffs() instead of a well-known trick that every reader has to look up; it\n"
            "is one instruction on most machines."
        ),
        author=SORT_CONTRIBUTOR,
        edits=(
            Edit(
                path="lib/sort.c",
                old="\tconst unsigned int lsbit = size & -size;  /* Used to find parent */\n",
                new="\tconst unsigned int lsbit = __ffs(size);  /* Used to find parent */\n",
            ),
            Edit(
                path="lib/sort.c",
                old="#include <linux/types.h>\n",
                new="#include <linux/bitops.h>\n#include <linux/types.h>\n",
            ),
        ),
    ),
    Commit(
        tag=Tag.BROKEN,
        branch=Branch.LIB,
        subject="lib/bsearch: make the comment a kernel-doc comment",
        body="It has the form of one already, but for the first line.",
        edits=(
            Edit(
                path="lib/bsearch.c",
                old="/*\n * bsearch - binary search an array of elements\n",
                new="/**\n * bsearch - binary search an array of elements\n",
            ),
        ),
    ),
    Commit(
        tag=Tag.BROKEN,
        branch=Branch.LIB,
        subject="lib/hexdump: tell what bin2hex() returns",
        body="Callers use the value to continue the string.",
        edits=(
            Edit(
                path="lib/hexdump.c",
                old=" * @count: binary data length\n */\nchar *bin2hex(",
                new=(
                    " * @count: binary data length\n *\n"
                    " * Return: the first byte after the result, which is not terminated.\n"
                    " */\nchar *bin2hex("
                ),
            ),
        ),
    ),
    Commit(
        tag=Tag.BROKEN,
        branch=Branch.PRINTK,
        subject="printk: correct the comment of suspend_console()",
        body="printk() goes on storing messages while the consoles are suspended.",
        edits=(
            Edit(
                path="kernel/printk/printk.c",
                old=" * This disables printk() while we go into suspend states\n",
                new=" * Messages are stored, but not shown, while we go into suspend states\n",
            ),
        ),
    ),
    Commit(
        tag=Tag.BROKEN,
        branch=Branch.PRINTK,
        subject="printk: docs: name the usual way to read the log of systemd hosts",
        body="Many hosts do not let users run dmesg.",
        edits=(
            Edit(
                path="Documentation/core-api/printk-basics.rst",
                old="using ``dmesg``.\n",
                new="using ``dmesg`` or ``journalctl -k``.\n",
            ),
        ),
    ),
    Commit(
        tag=Tag.BROKEN,
        branch=Branch.DOCS,
        subject="docs: kernel-parameters: remove doubled words",
        body="Found by a search for words that follow themselves.",
        edits=(
            Edit(
                path="Documentation/admin-guide/kernel-parameters.txt",
                old="Specify mount options for for the initramfs mount.",
                new="Specify mount options for the initramfs mount.",
            ),
            Edit(
                path="Documentation/admin-guide/kernel-parameters.txt",
                old="The format is is ",
                new="The format is ",
            ),
        ),
    ),
    Commit(
        tag=Tag.BROKEN,
        branch=Branch.NET,
        subject="bnx2x: remove a doubled word from a comment",
        body="Found by a search for words that follow themselves.",
        edits=(
            Edit(
                path="drivers/net/ethernet/broadcom/bnx2x/bnx2x_dcb.c",
                old="/* maps unmapped priorities to to the same COS as L2 */",
                new="/* maps unmapped priorities to the same COS as L2 */",
            ),
        ),
    ),
    Commit(
        tag=Tag.BROKEN,
        branch=Branch.X86,
        subject="x86/setup: use the usual style of comments in reserve_brk()",
        body="No functional change.",
        edits=(
            Edit(
                path="arch/x86/kernel/setup.c",
                old=(
                    "\t/* Mark brk area as locked down and no longer taking any\n"
                    "\t   new allocations */\n"
                ),
                new="\t/* The brk area is locked down and takes no new allocations. */\n",
            ),
        ),
    ),
    Commit(
        tag=Tag.BROKEN,
        branch=Branch.X86,
        subject="x86/e820: count entries without a sign when printing",
        body="nr_entries is unsigned, so let the index be, too.",
        edits=(
            Edit(
                path="arch/x86/kernel/e820.c",
                old="void __init e820__print_table(const char *who)\n{\n\tint i;\n",
                new="void __init e820__print_table(const char *who)\n{\n\tu32 i;\n",
            ),
        ),
    ),
    Commit(
        tag=Tag.BROKEN,
        branch=Branch.SCHED,
        subject="sched/idle: use pr_err() for a level of its own",
        body="No functional change.",
        edits=(
            Edit(
                path="kernel/sched/idle.c",
                old='printk(KERN_ERR "bad: scheduling from the idle thread!\\n");',
                new='pr_err("bad: scheduling from the idle thread!\\n");',
            ),
        ),
    ),
    Commit(
        tag=Tag.BROKEN,
        branch=Branch.ARM64,
        subject="arm64: pauth: correct a comment",
        body="The code assumes that it is run from EL2.",
        edits=(
            Edit(
                path="arch/arm64/kvm/pauth.c",
                old="This code assumes that is is run from EL2",
                new="This code assumes that it is run from EL2",
            ),
        ),
    ),
    Commit(
        tag=Tag.REPAIRED,
        branch=Branch.MM,
        subject="docs: mm: page_frags: repair a sentence",
        body="A word was left over from an earlier version.",
        edits=(
            Edit(
                path="Documentation/mm/page_frags.rst",
                old="and tracks allows multiple calls",
                new="and allows multiple calls",
            ),
        ),
    ),
    Commit(
        tag=Tag.REPAIRED,
        branch=Branch.LIB,
        subject="lib/sort: pass a mask to parent() again",
        body=(
            "parent() tests a bit with a mask, but __ffs() returns the number of that\n"
            "bit. The walk up the heap then misses its end and leaves the array. The\n"
            "first to be sorted are the sites of static calls, before there is a\n"
            "console, so nothing is seen of it.\n"
            "\n"
            'Fixes: {culprit} ("' + CULPRIT_SUBJECT + '")'
        ),
        author=SORT_CONTRIBUTOR,
        edits=(
            Edit(
                path="lib/sort.c",
                old="\tconst unsigned int lsbit = __ffs(size);  /* Used to find parent */\n",
                new="\tconst unsigned int lsbit = BIT(__ffs(size));  /* Used to find parent */\n",
            ),
        ),
    ),
    Commit(
        tag=Tag.REPAIRED,
        branch=Branch.SCHED,
        subject="sched/completion: write kernel-doc names as functions",
        body="kernel-doc wants parentheses and a dash, not a colon.",
        edits=(
            Edit(
                path="kernel/sched/completion.c",
                old=" * complete: - signals a single thread waiting on this completion\n",
                new=" * complete() - signals a single thread waiting on this completion\n",
            ),
            Edit(
                path="kernel/sched/completion.c",
                old=" * complete_all: - signals all threads waiting on this completion\n",
                new=" * complete_all() - signals all threads waiting on this completion\n",
            ),
        ),
    ),
    Commit(
        tag=Tag.REPAIRED,
        branch=Branch.DOCS,
        subject="docs: bcache: remove a doubled word",
        body="Found by a search for words that follow themselves.",
        edits=(
            Edit(
                path="Documentation/admin-guide/bcache.rst",
                old="Can be written to to\n",
                new="Can be written to\n",
            ),
        ),
    ),
    Commit(
        tag=Tag.REPAIRED,
        branch=Branch.NET,
        subject="can: ucan: remove a doubled word from a comment",
        body="Found by a search for words that follow themselves.",
        edits=(
            Edit(
                path="drivers/net/can/usb/ucan.c",
                old="m[n] is is aligned to a 4 byte boundary",
                new="m[n] is aligned to a 4 byte boundary",
            ),
        ),
    ),
    Commit(
        tag=Tag.REPAIRED,
        branch=Branch.ARM64,
        subject="arm64/fpsimd: remove a doubled word from a comment",
        body="Found by a search for words that follow themselves.",
        edits=(
            Edit(
                path="arch/arm64/kernel/fpsimd.c",
                old="P0-P15 and FFR are encoded in in\n",
                new="P0-P15 and FFR are encoded in\n",
            ),
        ),
    ),
)
