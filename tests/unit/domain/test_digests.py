# SPDX-License-Identifier: GPL-2.0-or-later
"""The digests that name results in every lab's history.

A literal below never changes. Where one must, because a field got another meaning, the schema
number in the code changes with it, and every lab tests everything again.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from kwatch.domain.boot.care import BootCare, BootProfile
from kwatch.domain.boot.phase import Deadlines
from kwatch.domain.digest import digest
from kwatch.domain.log.ktap import CaseUse
from kwatch.domain.milestone import Milestone
from kwatch.domain.recipe.boot import Accelerator, BootRecipe, Counters
from kwatch.domain.recipe.boot_environment import BootEnvironment
from kwatch.domain.recipe.build import BuildRecipe
from kwatch.domain.recipe.kconfig import Fragment, KconfigRecipe
from kwatch.domain.recipe.toolchain import Part, Toolchain
from kwatch.domain.source.source import (
    ApplyMail,
    ApplySeries,
    Change,
    Mutate,
    Pick,
    Revert,
    Source,
    with_series,
)
from kwatch.domain.trial.steps import boot_key, build_key
from kwatch.domain.trial.trial import Sample, Trial
from kwatch.domain.trial.variant import Variant

BASE = "1" * 40
SERIES = "2" * 64
BARE = Source(base=BASE)
SOURCE = Source(
    base=BASE,
    changes=(
        ApplySeries(series=SERIES, first=2, last=5),
        Revert(commit="3" * 40),
        Pick(commit="4" * 40),
        ApplyMail(blob="5" * 64, message_id="one@example.org"),
        Mutate(blob="6" * 64),
    ),
    resolutions="7" * 64,
)
TOOLCHAIN = Toolchain(
    name="llvm-22-mold",
    llvm_suffix="-22",
    compiler="clang-22",
    linker_objects="ld.lld-22",
    linker="mold",
)
KCONFIG = KconfigRecipe(
    base="defconfig",
    fragments=(
        Fragment(name="kvm.config", text="CONFIG_KVM_GUEST=y\n"),
        Fragment(name="lab.config", text="# of the lab\nCONFIG_LOG_BUF_SHIFT=20\n"),
    ),
)
BUILD = BuildRecipe(
    arch="x86_64",
    kconfig=KCONFIG,
    toolchain=TOOLCHAIN,
    options=(("KASAN", "n"), ("DEBUG_INFO", "y")),
)
BOOT = BootRecipe(
    arch="arm64",
    accelerator=Accelerator.TCG,
    machine="virt",
    cpu="cortex-a57",
    memory_mib=2048,
    cpus=4,
    cmdline="slub_debug=P",
    commands=("true", "run-tests --all"),
    counters=Counters.RESET,
    test_results=CaseUse.RECORD,
)
TRIAL = Trial(
    source=SOURCE,
    build="8" * 64,
    boot="9" * 64,
    sample=Sample(rebuild=1, repeat=2, environment="e" * 16, host="lab-1"),
)
BOOT_ENVIRONMENT = BootEnvironment(
    accelerator=Accelerator.KVM,
    emulator=Part(
        name="qemu-system-x86_64",
        version="QEMU emulator version 8.2.2 (Debian 1:8.2.2+ds-0ubuntu1.4)",
        package="qemu-system-x86 1:8.2.2+ds-0ubuntu1.4",
        content="3" * 64,
    ),
    kernel="6.8.0-45-generic",
    kernel_build="#45-Ubuntu SMP PREEMPT_DYNAMIC Fri Aug 30 12:02:04 UTC 2024",
    cpu="AMD EPYC 7763 64-Core Processor",
    microcode="0xa0011d5",
    initramfs="4" * 64,
)
PLAIN = Trial(source=BARE, build="8" * 64, boot="9" * 64)

GOLDEN = {
    "bare source": (BARE.key, "f784c407195a0c27c96d623cf512ae52f0224ca2ebc14a3785127f628e6d0cd1"),
    "source": (SOURCE.key, "5d509ffa47e946ac1f15ba5dc92b0addfea9b474c74efb8f2290110794e49b80"),
    "source with a series": (
        with_series(BASE, SERIES).key,
        "ebc5e0fe1399a143d28a32bfb3031d01dd3794ca8f2886fa0005b8c363a01eb6",
    ),
    "kconfig": (KCONFIG.digest, "9d1e0e2aa4aba89083876d8d56e7ac42d23366158bea2ace6087dd3626c744f8"),
    "build recipe": (
        BUILD.digest,
        "026868310f395d8f46a41f6b3a28a210a30050ce8074b8c0c4abdd3a81b1d03a",
    ),
    "build recipe without options": (
        replace(BUILD, options=()).digest,
        "52a32c5e7567dc8ba9bed0b1c239d2f5427f01d1d109a3707348a8e3e527f85c",
    ),
    "boot recipe": (
        BOOT.digest,
        "50287040c4ebe12a7fbbf8b5f96900845bef0906e24cf170a37df87ef674953b",
    ),
    "default boot recipe": (
        BootRecipe().digest,
        "2f9699639c8a50628d98fdeb505c12da7389508ab9db3fb646452e569a766cb5",
    ),
    "boot environment": (BOOT_ENVIRONMENT.digest, "61eb6a4f59fea27d"),
    "build": (
        build_key("a" * 40, TRIAL),
        "dfa744df20374dd1c0f70a46c047c7b2a57eaced18653533247829c5ae74ccab",
    ),
    "plain build": (
        build_key("a" * 40, PLAIN),
        "d2964ca64ac2e980b91418845a658c3aa9629463b798407d1759565a446b1a44",
    ),
    "boot": (
        boot_key("b" * 64, TRIAL),
        "333174a9b4d66f49b9a969471059300ae60294e3990adf3c9e45a9288c06d670",
    ),
    "plain boot": (
        boot_key("b" * 64, PLAIN),
        "4b96380e42613260a02b77d22d268b2ea60f673ca6c7493b51e08efb6b7fb1b9",
    ),
}


@pytest.mark.parametrize("what", GOLDEN)
def test_a_digest_never_changes(what: str) -> None:
    found, pinned = GOLDEN[what]
    assert found == pinned


def keys(variant: Variant, source: Source) -> tuple[str, ...]:
    """Everything that a row of the matrix is known by in the history."""
    trial = Trial(source=source, build=variant.build.digest, boot=variant.boot.recipe.digest)
    return (
        trial.source.key,
        trial.build,
        trial.boot,
        build_key("a" * 40, trial),
        boot_key("b" * 64, trial),
    )


VARIANT = Variant(name="x86_64", series="mcdc", build=BUILD, boot=BootProfile(recipe=BOOT))


def built(**changes: object) -> Variant:
    return replace(VARIANT, build=replace(BUILD, **changes))  # type: ignore[arg-type]


def watched(care: BootCare) -> Variant:
    return replace(VARIANT, boot=BootProfile(recipe=BOOT, care=care))


RENAMED = KconfigRecipe(
    base="defconfig",
    fragments=tuple(
        Fragment(name=f"moved/{one.name}", text=f"# a comment\n{one.text}")
        for one in KCONFIG.fragments
    ),
)
WITHOUT_A_SAY = {
    "the name of the variant": replace(VARIANT, name="another"),
    "the name of the series": replace(VARIANT, series="another"),
    "the labels": replace(VARIANT, build_labels=frozenset("a"), boot_labels=frozenset("b")),
    "the name of the toolchain": built(toolchain=replace(TOOLCHAIN, name="another")),
    "names and comments of files": built(kconfig=RENAMED),
    "a deadline": watched(BootCare(deadlines=Deadlines(tests=1.0, total=2.0, tcg_factor=9.0))),
    "the limit of a command": watched(BootCare(command_timeout=1.0)),
    "the limit of a dump": watched(BootCare(dump_limit=1 << 30)),
    "the limits of a log": watched(BootCare(console_limit=1, channel_limit=1)),
    "sampling": watched(BootCare(sample_vcpus=False)),
}


@pytest.mark.parametrize("what", WITHOUT_A_SAY)
def test_what_has_no_say_in_a_result_is_in_no_digest(what: str) -> None:
    assert keys(WITHOUT_A_SAY[what], SOURCE) == keys(VARIANT, SOURCE)


def test_nothing_of_how_a_boot_is_watched_is_left_out_above() -> None:
    changed = {
        field.name
        for field in fields(BootCare)
        for variant in WITHOUT_A_SAY.values()
        if getattr(variant.boot.care, field.name) != getattr(BootCare(), field.name)
    }
    assert changed == {field.name for field in fields(BootCare)}


def test_where_a_mail_came_from_has_no_say() -> None:
    one, other = (
        Source(base=BASE, changes=(ApplyMail(blob="5" * 64, message_id=name),))
        for name in ("one@example.org", "other@example.org")
    )
    assert one.key == other.key


CHANGED_BUILDS = {
    "arch": replace(BUILD, arch="arm64"),
    "kconfig": replace(BUILD, kconfig=replace(KCONFIG, base="tinyconfig")),
    "options": replace(BUILD, options=(("KASAN", "y"), ("DEBUG_INFO", "y"))),
    "llvm_suffix": replace(BUILD, toolchain=replace(TOOLCHAIN, llvm_suffix="-21")),
    "compiler": replace(BUILD, toolchain=replace(TOOLCHAIN, compiler="clang-21")),
    "linker_objects": replace(BUILD, toolchain=replace(TOOLCHAIN, linker_objects="mold")),
    "linker": replace(BUILD, toolchain=replace(TOOLCHAIN, linker="ld.lld-22")),
    "order of options": replace(BUILD, options=BUILD.options[::-1]),
    "a fragment": replace(BUILD, kconfig=replace(KCONFIG, fragments=KCONFIG.fragments[:1])),
    "order of fragments": replace(
        BUILD, kconfig=replace(KCONFIG, fragments=KCONFIG.fragments[::-1])
    ),
    "a base in a file": replace(
        BUILD, kconfig=replace(KCONFIG, base=Fragment(name="base", text="CONFIG_A=y\n"))
    ),
}
CHANGED_BOOTS = {
    "arch": replace(BOOT, arch="x86_64"),
    "accelerator": replace(BOOT, accelerator=Accelerator.KVM),
    "machine": replace(BOOT, machine="q35"),
    "cpu": replace(BOOT, cpu=None),
    "memory_mib": replace(BOOT, memory_mib=4096),
    "cpus": replace(BOOT, cpus=1),
    "cmdline": replace(BOOT, cmdline=""),
    "commands": replace(BOOT, commands=BOOT.commands[::-1]),
    "counters": replace(BOOT, counters=Counters.KEEP),
    "test_results": replace(
        BOOT, test_results=next(use for use in CaseUse if use is not CaseUse.RECORD)
    ),
}


def test_every_field_with_a_say_makes_another_build_recipe() -> None:
    digests = {BUILD.digest, *(one.digest for one in CHANGED_BUILDS.values())}
    assert len(digests) == len(CHANGED_BUILDS) + 1
    # A field that is new must come into one of the two tables.
    names = {field.name for kind in (BuildRecipe, Toolchain) for field in fields(kind)}
    assert names - CHANGED_BUILDS.keys() == {"name", "toolchain"}


def test_every_field_with_a_say_makes_another_boot_recipe() -> None:
    digests = {BOOT.digest, *(one.digest for one in CHANGED_BOOTS.values())}
    assert len(digests) == len(CHANGED_BOOTS) + 1
    assert {field.name for field in fields(BootRecipe)} == CHANGED_BOOTS.keys()


ONE_CHANGE: dict[str, Change] = {
    "series": ApplySeries(series=SERIES),
    "another series": ApplySeries(series="3" * 64),
    "without the first patch": ApplySeries(series=SERIES, first=2),
    "the first patches": ApplySeries(series=SERIES, last=2),
    "revert": Revert(commit="3" * 40),
    "another revert": Revert(commit="4" * 40),
    "pick": Pick(commit="3" * 40),
    "mail": ApplyMail(blob="3" * 64, message_id="one@example.org"),
    "another mail": ApplyMail(blob="4" * 64, message_id="one@example.org"),
    "mutation": Mutate(blob="3" * 64),
}


def test_every_field_with_a_say_makes_another_source() -> None:
    sources = [
        BARE,
        replace(BARE, base="2" * 40),
        replace(BARE, resolutions="7" * 64),
        *(replace(BARE, changes=(change,)) for change in ONE_CHANGE.values()),
        SOURCE,
        replace(SOURCE, changes=SOURCE.changes[::-1]),
    ]
    assert len({source.key for source in sources}) == len(sources)


def test_every_field_with_a_say_makes_another_build_and_boot() -> None:
    builds = [
        build_key("a" * 40, PLAIN),
        build_key("b" * 40, PLAIN),
        build_key("a" * 40, replace(PLAIN, build="7" * 64)),
        build_key("a" * 40, PLAIN.again(rebuild=1)),
    ]
    assert len(set(builds)) == len(builds)
    boots = [
        boot_key("b" * 64, PLAIN),
        boot_key("c" * 64, PLAIN),
        boot_key("b" * 64, replace(PLAIN, boot="7" * 64)),
        boot_key("b" * 64, PLAIN.again(rebuild=1)),
        boot_key("b" * 64, PLAIN.again(repeat=1)),
        boot_key("b" * 64, replace(PLAIN, sample=Sample(host="lab-1"))),
    ]
    assert len(set(boots)) == len(boots)


@pytest.mark.parametrize(
    "other",
    [
        PLAIN.of("2" * 40),
        replace(PLAIN, source=SOURCE),
        replace(PLAIN, until=Milestone.LINKED),
        replace(PLAIN, sample=Sample(environment="e" * 16)),
    ],
    ids=["commit", "series", "until", "environment"],
)
def test_what_gives_the_same_tree_and_image_shares_its_results(other: Trial) -> None:
    assert build_key("a" * 40, other) == build_key("a" * 40, PLAIN)
    assert boot_key("b" * 64, other) == boot_key("b" * 64, PLAIN)


@pytest.mark.parametrize(
    "changed",
    [
        {"accelerator": Accelerator.TCG},
        {"emulator": replace(BOOT_ENVIRONMENT.emulator, name="qemu-system-aarch64")},
        {"emulator": replace(BOOT_ENVIRONMENT.emulator, version="QEMU emulator version 9.0.0")},
        {"emulator": replace(BOOT_ENVIRONMENT.emulator, package="qemu-system-x86 1:9.0.0")},
        {"emulator": replace(BOOT_ENVIRONMENT.emulator, content="5" * 64)},
        {"kernel": "6.8.0-46-generic"},
        {"kernel_build": "#46-Ubuntu SMP"},
        {"cpu": "another"},
        {"microcode": "0xa0011d6"},
        {"initramfs": "5" * 64},
    ],
    ids="".join,
)
def test_whatever_a_kernel_is_booted_in_makes_another_environment(changed: dict[str, Any]) -> None:
    other = replace(BOOT_ENVIRONMENT, **changed)
    assert other.digest != BOOT_ENVIRONMENT.digest


def test_a_boot_environment_is_told_in_lines() -> None:
    first, *others, last = BOOT_ENVIRONMENT.describe()
    assert first == (
        "QEMU emulator version 8.2.2 (Debian 1:8.2.2+ds-0ubuntu1.4), kvm, on Linux 6.8.0-45-generic"
    )
    assert last == f"boot environment: {BOOT_ENVIRONMENT.digest}"
    text = "\n".join(others)
    for part in ("1:8.2.2+ds-0ubuntu1.4]", "#45-Ubuntu", "EPYC 7763", "0xa0011d5", "4" * 16):
        assert part in text
    assert "microcode" not in "".join(replace(BOOT_ENVIRONMENT, microcode="").describe())


def test_neither_kind_nor_schema_are_mixed_up() -> None:
    one = digest("build", 1, {"a": "b"})
    assert len({one, digest("boot", 1, {"a": "b"}), digest("build", 2, {"a": "b"})}) == 3


def test_the_order_of_fields_has_no_say_and_that_of_lists_has() -> None:
    assert digest("k", 1, {"a": 1, "b": 2}) == digest("k", 1, {"b": 2, "a": 1})
    assert digest("k", 1, {"a": [1, 2]}) != digest("k", 1, {"a": [2, 1]})


@pytest.mark.parametrize("value", [1.5, True, b"bytes", {1: "a"}, {"a"}, [None, object()]])
def test_what_python_may_write_in_more_than_one_way_has_no_place(value: object) -> None:
    with pytest.raises(TypeError):
        digest("k", 1, {"a": value})


@pytest.mark.parametrize("name", ["kind", "schema"])
def test_a_field_cannot_take_the_place_of_what_a_digest_is_of(name: str) -> None:
    with pytest.raises(TypeError):
        digest("k", 1, {name: "other"})
