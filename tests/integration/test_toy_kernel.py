# SPDX-License-Identifier: GPL-2.0-or-later
"""The toy kernel is built by real clang, boots in real QEMU, and does what its options plant."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from kwatch.domain.boot.channel import (
    BlobChunk,
    BlobDone,
    ChannelEvent,
    ChannelReader,
    Done,
    End,
    GuestError,
    Hello,
    Integrity,
)
from tests.lab.toy import history, refresh_series

if TYPE_CHECKING:
    from pathlib import Path

COVERAGE = ("DEBUG_FS", "LLVM_COV_KERNEL", "LLVM_COV_KERNEL_MCDC")
DEADLINE = 20.0
"""Seconds for a boot that ends by itself; one takes a fifth of a second on an idle machine."""
HANG_DEADLINE = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What a boot left behind; ``ended`` is False if the deadline had to end it."""

    ended: bool
    console: str
    events: list[ChannelEvent]


def make(source: Path, output: Path, *goals: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "-C", str(source), "LLVM=-22", f"O={output}", "-j2", *goals]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def configure(source: Path, output: Path, *options: str) -> str:
    output.mkdir(exist_ok=True)
    (output / ".config").write_text("".join(f"CONFIG_{option}=y\n" for option in options))
    assert make(source, output, "olddefconfig").returncode == 0
    return (output / ".config").read_text()


def build(source: Path, output: Path, *options: str) -> Path:
    configuration = configure(source, output, *options)
    for option in options:
        assert f"CONFIG_{option}=y\n" in configuration
    done = make(source, output, "bzImage", "vmlinux")
    assert done.returncode == 0, done.stderr
    return output / "arch/x86/boot/bzImage"


def boot(image: Path, folder: Path, *, deadline: float = DEADLINE) -> Session:
    folder.mkdir(exist_ok=True)
    initrd, console, channel = (folder / name for name in ("initrd", "console", "channel"))
    initrd.write_bytes(b"\0" * 512)
    command = (
        "qemu-system-x86_64 -display none -nodefaults -M q35 -cpu max -accel tcg -m 128M "
        f"-no-reboot -kernel {image} -initrd {initrd} -serial file:{console} "
        f"-serial file:{channel}"
    ).split()
    try:
        done = subprocess.run(
            [*command, "-append", "console=ttyS0 panic=-1"],
            stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=deadline,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        ended = False
    else:
        assert done.returncode == 0, done.stderr
        ended = True
    reader = ChannelReader()
    events = reader.feed(channel.read_bytes()) + reader.finish()
    return Session(ended=ended, console=console.read_text(), events=events)


def coverage(session: Session, vmlinux: Path, folder: Path) -> dict[str, dict[str, float]]:
    profile = b"".join(event.data for event in session.events if isinstance(event, BlobChunk))
    raw, merged = folder / "profraw", folder / "profdata"
    raw.write_bytes(profile)
    subprocess.run(["llvm-profdata-22", "merge", raw, "-o", merged], check=True)
    command = ["llvm-cov-22", "export", "--summary-only", "--show-mcdc-summary"]
    done = subprocess.run(
        [*command, f"--instr-profile={merged}", vmlinux], check=True, capture_output=True
    )
    totals: dict[str, dict[str, float]] = json.loads(done.stdout)["data"][0]["totals"]
    return totals


@pytest.fixture(scope="module")
def patched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy's sources with the coverage series applied by git am -3."""
    repository = tmp_path_factory.mktemp("patched") / "toy"
    history.make_repository(repository)
    refresh_series.apply_mails(repository)
    return repository


def test_without_the_series(tmp_path: Path) -> None:
    session = boot(build(history.SOURCE_FOLDER, tmp_path / "out"), tmp_path)
    assert session.ended
    assert session.events[0] == Hello(version=1)
    assert End(index=0, status=0) in session.events
    assert session.events[-2:] == [GuestError(text="no profile"), Done()]
    assert session.console.startswith("[    0.000000] Linux version 6.12.0-toy ")
    assert "    ok 6 sha256_test" in session.console
    assert "reboot: Power down" in session.console


def test_the_series_measures_what_the_self_tests_reach(patched: Path, tmp_path: Path) -> None:
    image = build(patched, tmp_path / "out", *COVERAGE)
    sessions = [boot(image, tmp_path / f"boot{number}") for number in range(2)]
    for session in sessions:
        assert BlobDone(name="profraw", integrity=Integrity.INTACT) in session.events
        assert session.events[-1] == Done()
    vmlinux = tmp_path / "out" / "vmlinux"
    first, second = (coverage(session, vmlinux, tmp_path) for session in sessions)
    assert first == second
    for kind in ("lines", "functions", "branches", "mcdc"):
        assert 0 < first[kind]["percent"] < 100

    less = boot(build(patched, tmp_path / "out", *COVERAGE, "TOY_NO_COVERAGE"), tmp_path)
    totals = coverage(less, vmlinux, tmp_path)
    for kind in ("lines", "functions", "branches", "mcdc"):
        assert totals[kind]["percent"] < first[kind]["percent"]


def test_the_first_patch_alone_has_no_mcdc(patched: Path, tmp_path: Path) -> None:
    session = boot(build(patched, tmp_path / "out", *COVERAGE[:2]), tmp_path)
    totals = coverage(session, tmp_path / "out" / "vmlinux", tmp_path)
    assert totals["lines"]["percent"] > 0
    assert totals["mcdc"]["count"] == 0


@pytest.mark.parametrize(
    ("plant", "ended", "last"),
    [
        ("TOY_SILENT", False, ""),
        ("TOY_HANG", False, "printk: legacy console [ttyS0] enabled\n"),
        ("TOY_TRIPLE_FAULT", True, "printk: legacy console [ttyS0] enabled\n"),
        ("TOY_PANIC", True, "Kernel Offset: disabled\n"),
    ],
)
def test_plants_before_the_guest_is_up(tmp_path: Path, plant: str, ended: bool, last: str) -> None:
    image = build(history.SOURCE_FOLDER, tmp_path / "out", plant)
    session = boot(image, tmp_path, deadline=DEADLINE if ended else HANG_DEADLINE)
    assert session.ended is ended
    assert session.events == []
    assert session.console.endswith(last)
    assert ("Kernel panic - not syncing: toy panic" in session.console) is (plant == "TOY_PANIC")
    assert bool(session.console) is bool(last)


def test_an_oops_cuts_the_session(tmp_path: Path) -> None:
    session = boot(build(history.SOURCE_FOLDER, tmp_path / "out", "TOY_OOPS"), tmp_path)
    assert session.ended
    assert Hello(version=1) in session.events
    assert not any(isinstance(event, End | Done) for event in session.events)
    assert "BUG: kernel NULL pointer dereference, address: 0000000000000008" in session.console
    assert "Kernel panic - not syncing: Fatal exception" in session.console


def test_a_failing_self_test(tmp_path: Path) -> None:
    session = boot(build(history.SOURCE_FOLDER, tmp_path / "out", "TOY_SELFTEST_FAIL"), tmp_path)
    assert End(index=0, status=1) in session.events
    assert "    not ok 7 failing_test" in session.console
    assert session.events[-1] == Done()


def test_a_flake_has_both_results(tmp_path: Path) -> None:
    image = build(history.SOURCE_FOLDER, tmp_path / "out", "TOY_FLAKE")
    seen: set[bool] = set()
    for _ in range(20):
        seen.add(boot(image, tmp_path, deadline=HANG_DEADLINE).ended)
        if len(seen) == 2:
            break
    assert seen == {True, False}


def test_a_build_error_is_one_of_the_compiler(tmp_path: Path) -> None:
    configure(history.SOURCE_FOLDER, tmp_path / "out", "TOY_BUILD_ERROR")
    done = make(history.SOURCE_FOLDER, tmp_path / "out", "bzImage", "vmlinux")
    assert done.returncode == 2
    assert "error: call to undeclared function 'toy_function_that_nobody_declared'" in done.stderr
    assert not (tmp_path / "out" / "vmlinux").exists()


def test_the_same_inputs_give_the_same_bytes(patched: Path, tmp_path: Path) -> None:
    images = []
    for _ in range(2):
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        image = build(patched, tmp_path / "out", *COVERAGE)
        images.append((image.read_bytes(), (tmp_path / "out" / "vmlinux").read_bytes()))
    assert images[0] == images[1]


def test_kconfig_drops_what_cannot_be(tmp_path: Path) -> None:
    wanted = ("TOY_HANG", "LLVM_COV_KERNEL", "NO_SUCH_SYMBOL")
    configuration = configure(history.SOURCE_FOLDER, tmp_path / "out", *wanted)
    assert "CONFIG_TOY_HANG=y\n" in configuration
    assert "# CONFIG_TOY_PANIC is not set\n" in configuration
    assert "LLVM_COV_KERNEL" not in configuration
    assert "NO_SUCH_SYMBOL" not in configuration


def test_kconfig_drops_what_depends_on_something_unset(patched: Path, tmp_path: Path) -> None:
    configuration = configure(patched, tmp_path / "out", "LLVM_COV_KERNEL_MCDC")
    assert "# CONFIG_DEBUG_FS is not set\n" in configuration
    assert "LLVM_COV" not in configuration


def test_a_changed_flag_builds_again(tmp_path: Path) -> None:
    build(history.SOURCE_FOLDER, tmp_path / "out")
    assert "CC" not in make(history.SOURCE_FOLDER, tmp_path / "out", "bzImage").stdout
    again = make(history.SOURCE_FOLDER, tmp_path / "out", "bzImage", "KCFLAGS=-DUNUSED")
    assert "  CC      lib/string.o" in again.stdout


def test_three_tags_are_the_same_on_every_machine(tmp_path: Path) -> None:
    ids = history.three_tags(tmp_path / "one", plant="oops", fixed=True)
    assert history.three_tags(tmp_path / "two", plant="oops", fixed=True) == ids
    fresh = history.git(tmp_path / "one", "rev-list", "--no-merges", ids["next-20261117"],
                        f"^{ids['next-20261116']}")  # fmt: skip
    assert ids["culprit"] in fresh.split()
    assert len(fresh.split()) == 8
    for plant in history.PLANTS:
        history.three_tags(tmp_path / plant, plant=plant, fixed=True)


def test_a_tag_is_as_bad_as_its_commits(tmp_path: Path) -> None:
    repository = tmp_path / "toy"
    ids = history.three_tags(repository, plant="oops", fixed=True)
    results = {}
    for tag in ("next-20261116", "next-20261117", "next-20261118"):
        history.git(repository, "checkout", "-q", ids[tag])
        session = boot(build(repository, tmp_path / "out"), tmp_path)
        assert f"6.12.0-toy-{tag} " in session.console
        results[tag] = Done() in session.events
    assert list(results.values()) == [True, False, True]


def test_a_tag_that_the_series_does_not_apply_to(tmp_path: Path) -> None:
    repository = tmp_path / "toy"
    ids = history.three_tags(repository, plant="series-conflict", fixed=True)
    refresh_series.apply_mails(repository, onto=ids["next-20261116"])
    with pytest.raises(RuntimeError, match="Patch failed at 0001"):
        refresh_series.apply_mails(repository, onto=ids["next-20261117"])
    refresh_series.apply_mails(repository, onto=ids["next-20261118"])


def test_an_edit_that_does_not_fit_writes_nothing(tmp_path: Path) -> None:
    repository = tmp_path / "toy"
    history.make_repository(repository)
    with pytest.raises(ValueError, match="0 times"):
        history.commit(
            repository,
            branch="mm",
            subject="mm: nothing",
            edits={"Kconfig": ("config TOY_HANG", "x"), "mm/page.c": ("no such text", "x")},
        )
    assert history.git(repository, "status", "--porcelain") == ""
