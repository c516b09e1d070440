# SPDX-License-Identifier: GPL-2.0-or-later
"""The commands of a report: complete, quoted, and no longer than the failure needs."""

from __future__ import annotations

import gzip
import random
import shlex
from dataclasses import replace

import pytest

from kwatch.domain.finding import Area
from kwatch.domain.mail.reproducer import MAX_BYTES, PLAIN_BYTES, Subject, make_line, reproducer
from kwatch.domain.recipe.kconfig import Fragment, KconfigRecipe
from tests.unit.domain.trials import BUILD, SERIES, TOOLCHAIN

COVERED = replace(
    BUILD,
    kconfig=KconfigRecipe(
        base="defconfig", fragments=(Fragment(name="cov", text="CONFIG_LLVM_COV_KERNEL=y\n"),)
    ),
)
SUBJECT = Subject(
    recipe=BUILD,
    commands=(),
    series=replace(SERIES, origin="cover-v5@example.org"),
    area=Area.BOOT,
    url="https://git.example.org/next.git",
    tag="next-20261117",
    commit="4" * 40,
    config=b"CONFIG_X86_64=y\n",
    qemu="qemu-system-x86_64 -initrd initramfs.cpio.gz",
)


@pytest.mark.parametrize(
    ("area", "last"),
    [
        (Area.APPLY, "git checkout "),
        (Area.CONFIG, "make LLVM=-22 olddefconfig"),
        (Area.BUILD, "make LLVM=-22 -j$(nproc) bzImage"),
        (Area.BOOT, "qemu-system-x86_64 "),
        (Area.COVERAGE, "qemu-system-x86_64 "),
    ],
)
def test_the_last_command_is_the_one_that_fails(area: Area, last: str) -> None:
    assert reproducer(replace(SUBJECT, area=area)).lines[-1].startswith(last)


def test_names_of_strangers_are_quoted() -> None:
    tag = "next-$(touch${IFS}x);'`id`"
    lines = reproducer(replace(SUBJECT, tag=tag)).lines
    assert shlex.split(lines[0]) == ["git", "fetch", SUBJECT.url, "tag", tag]


def test_the_toolchain_is_named_as_it_was_used() -> None:
    assert make_line("arm64", TOOLCHAIN) == "make ARCH=arm64 LLVM=-22"
    mold = replace(TOOLCHAIN, linker="mold", compiler="/opt/clang")
    assert make_line("x86_64", mold) == ("make LLVM=-22 CC=/opt/clang HOSTCC=/opt/clang LD=mold")


def test_a_linked_config_is_not_attached() -> None:
    found = reproducer(replace(SUBJECT, config_url="https://lab.example.org/build/1/config"))
    assert found.attachments == ()
    assert "curl -fLo .config https://lab.example.org/build/1/config" in found.lines


def test_a_large_file_is_attached_as_gzip_and_a_huge_one_is_not() -> None:
    large = b"# CONFIG_X is not set\n" * PLAIN_BYTES
    found = reproducer(replace(SUBJECT, config=large))
    assert [one.name for one in found.attachments] == [found.config] == ["config.gz"]
    assert gzip.decompress(found.attachments[0].content) == large
    assert "gunzip -c config.gz >.config" in found.lines
    huge = random.Random(1).randbytes(2 * MAX_BYTES)  # noqa: S311
    found = reproducer(replace(SUBJECT, recipe=COVERED, config=huge))
    assert [one.name for one in found.attachments] == ["fragment.config"]
    assert "make LLVM=-22 defconfig" in found.lines
    assert "cat fragment.config >>.config" in found.lines


def test_a_series_is_taken_from_the_archive_where_b4_finds_it() -> None:
    on_lore = replace(SUBJECT, mbox=b"From x\n", archive="https://lore.kernel.org/llvm/")
    assert "b4 shazam cover-v5@example.org" in reproducer(on_lore).lines
    elsewhere = reproducer(replace(on_lore, archive="https://lists.example.org/llvm/"))
    assert "git am -3 --patch-format=mboxrd series.mbox" in elsewhere.lines
    assert [one.name for one in elsewhere.attachments] == ["series.mbox", "config"]


def test_the_test_commands_run_in_the_guest() -> None:
    lines = reproducer(replace(SUBJECT, commands=("exit 3\necho 'never'",))).lines
    written = [
        line for one in lines if one.startswith("printf ") for line in shlex.split(one)[2:-1]
    ]
    assert written[4:8] == ["(", "exit 3", "echo 'never'", "); echo command 1: status $?"]
    assert written[0] == "#!/bin/busybox sh"
    assert written[-1] == "poweroff -f"
