# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kwatch.domain.boot import channel as protocol
from kwatch.domain.boot.care import BootCare, BootProfile
from kwatch.domain.boot.ending import BootEnd, BootVerdict
from kwatch.domain.boot.phase import BootPhase
from kwatch.domain.boot.vcpu import VcpuSample
from kwatch.domain.boot.watch import Continue, Decision, End, QmpEvent, Sample, Watch
from kwatch.domain.milestone import Milestone
from kwatch.domain.recipe.boot import Accelerator
from kwatch.domain.run import RunEnd, RunReason

PROFILE = BootProfile()
BOOT = b"[    0.000000] Linux version 6.12.0 (role@example.org)\r\n[    0.1] more\r\n"
PANIC = (
    b"[    1.2] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000009\r\n"
    b"[    1.2] CPU: 0 PID: 1 Comm: init\r\n"
    b"[    1.3] ---[ end Kernel panic - not syncing: Attempted to kill init! ]---\r\n"
)
BLOB = protocol.BlobStarted(name="profraw", size=1, sha256="0" * 64)
INTACT = protocol.BlobDone(name="profraw", integrity=protocol.Integrity.INTACT)


def sample(
    rip: int = 0xFFFFFFFF81000000,
    *,
    halted: bool = False,
    interrupts: bool = False,
    cpl: int = 0,
) -> VcpuSample:
    return VcpuSample(rip=rip, rsp=0, cr2=0, cpl=cpl, halted=halted, interrupts_enabled=interrupts)


DEAD = sample(halted=True)
IDLE = sample(halted=True, interrupts=True)


def watch(accelerator: Accelerator = Accelerator.KVM, profile: BootProfile = PROFILE) -> Watch:
    return Watch(profile, accelerator, 0.0)


def exited(status: int = 0, reason: RunReason = RunReason.EXITED) -> RunEnd:
    return RunEnd(reason=reason, status=status, took=1.0)


def verdict(decision: Decision) -> BootVerdict:
    assert isinstance(decision, End)
    return decision.verdict


def until_end(
    watched: Watch, looks: list[list[VcpuSample]], *, start: float = 0.0, limit: float = 10_000
) -> tuple[BootVerdict, float]:
    """Let time pass, answering each request with the next look, over and over."""
    now, number = start, 0
    while now < limit:
        now = watched.next_wakeup(now)
        decision = watched.tick(now)
        if isinstance(decision, Sample):
            decision = watched.receive_samples(looks[number % len(looks)], now)
            number += 1
        if isinstance(decision, End):
            return decision.verdict, now
    raise AssertionError("no end")


def test_a_boot_that_goes_well() -> None:
    watched = watch()
    assert watched.receive_console(BOOT, 1.0) == Continue()
    watched.receive_channel([protocol.Hello(version=1)], 2.5)
    watched.receive_channel([protocol.Tested()], 4.0)
    watched.receive_channel([BLOB, INTACT, protocol.Done()], 5.0)
    watched.receive_qmp(QmpEvent(name="SHUTDOWN", reason="guest-reset"), 5.1)
    found = watched.ended(exited(), 5.2).verdict
    assert (found.end, found.milestone) == (BootEnd.DONE, Milestone.COLLECTED)
    assert [(step.milestone, step.at) for step in found.reached] == [
        (Milestone.KERNEL, 1.0),
        (Milestone.INIT, 2.5),
        (Milestone.TESTED, 4.0),
        (Milestone.COLLECTED, 5.0),
    ]
    assert (found.boot_seconds, found.took) == (2.5, 5.2)


def test_a_damaged_profile_is_not_collected() -> None:
    watched = watch()
    damaged = protocol.BlobDone(name="profraw", integrity=protocol.Integrity.DAMAGED)
    watched.receive_channel(
        [protocol.Hello(version=1), protocol.Tested(), damaged, protocol.Done()], 1.0
    )
    found = watched.ended(exited(), 2.0).verdict
    assert (found.end, found.milestone) == (BootEnd.DONE, Milestone.TESTED)


def test_a_panic_ends_soon_but_not_before_its_text() -> None:
    watched = watch()
    assert watched.receive_console(BOOT + PANIC[:100], 1.0) == Continue()
    assert watched.next_wakeup(1.0) == 2.0
    assert watched.receive_console(PANIC[100:], 1.5) == Continue()
    found = verdict(watched.tick(1.6))
    assert (found.end, found.milestone) == (BootEnd.PANIC, Milestone.KERNEL)
    cut = watch()
    cut.receive_console(BOOT + PANIC[:100], 1.0)
    assert verdict(cut.tick(2.0)).end is BootEnd.PANIC


def test_a_panic_is_a_line_of_the_kernel_not_a_word_in_a_test() -> None:
    watched = watch()
    watched.receive_console(BOOT + b"# what does 'Kernel panic - not syncing' mean?\n", 1.0)
    assert watched.ended(exited(), 1.1).verdict.end is BootEnd.RESET


def test_a_panic_that_resets_the_machine_is_a_panic() -> None:
    watched = watch()
    watched.receive_console(BOOT + PANIC, 1.0)
    watched.receive_qmp(QmpEvent(name="SHUTDOWN", reason="guest-reset"), 1.0)
    assert watched.ended(exited(), 1.0).verdict.end is BootEnd.PANIC


def test_a_reset_before_the_guest_was_done() -> None:
    watched = watch()
    watched.receive_qmp(QmpEvent(name="SHUTDOWN", reason="guest-reset"), 0.5)
    found = verdict(watched.tick(watched.next_wakeup(0.5)))
    assert (found.end, found.milestone) == (BootEnd.RESET, Milestone.LINKED)


@pytest.mark.parametrize(
    ("run_end", "end"),
    [
        (exited(reason=RunReason.START_FAILED, status=127), BootEnd.NEVER_STARTED),
        (exited(status=1), BootEnd.NEVER_STARTED),
        (exited(reason=RunReason.OUTPUT_LIMIT, status=-9), BootEnd.OUTPUT_LIMIT),
        (exited(reason=RunReason.DEADLINE, status=-9), BootEnd.DEADLINE),
        (exited(reason=RunReason.LEASE, status=-9), BootEnd.CONTROL_LOST),
        (exited(reason=RunReason.LOST, status=-1), BootEnd.CONTROL_LOST),
    ],
)
def test_ends_of_the_run(run_end: RunEnd, end: BootEnd) -> None:
    found = watch().ended(run_end, 3.0).verdict
    assert found.end is end
    assert found.end.is_infra == (end in {BootEnd.NEVER_STARTED, BootEnd.CONTROL_LOST})


@pytest.mark.parametrize(
    ("reason", "end"),
    [
        (RunReason.LEASE, BootEnd.DONE),
        (RunReason.DEADLINE, BootEnd.DONE),
        (RunReason.STOPPED, BootEnd.DONE),
        (RunReason.NO_ROOM, BootEnd.CONTROL_LOST),
        (RunReason.LOST, BootEnd.CONTROL_LOST),
    ],
)
def test_a_machine_that_waited_in_vain_after_its_guest_was_done(
    reason: RunReason, end: BootEnd
) -> None:
    watched = watch()
    watched.receive_console(BOOT, 1.0)
    watched.receive_channel([protocol.Hello(version=1), protocol.Tested(), protocol.Done()], 2.0)
    assert watched.ended(exited(reason=reason, status=-9), 90.0).verdict.end is end


def test_a_full_disk_of_the_host_says_nothing_of_a_kernel() -> None:
    found = watch().ended(exited(reason=RunReason.NO_ROOM, status=-9), 3.0).verdict
    assert found.end.is_infra
    assert "no-room" in found.reason


def test_qemu_that_crashes_later_is_the_labs_fault() -> None:
    watched = watch()
    watched.receive_console(BOOT, 1.0)
    assert watched.ended(exited(status=-11), 2.0).verdict.end is BootEnd.CONTROL_LOST


@pytest.mark.parametrize(
    ("said", "end"),
    [
        (b"qemu: linux kernel too old to load a ram disk\n", BootEnd.REFUSED),
        (b"qemu: invalid kernel header\n", BootEnd.REFUSED),
        (b"qemu-system-x86_64: Error while loading elf kernel\n", BootEnd.REFUSED),
        (b"qemu: could not load kernel 'image': No such file or directory\n", BootEnd.REFUSED),
        (b"qemu: could not open kernel file '/x': No such file\n", BootEnd.NEVER_STARTED),
        (b"failed to initialize kvm: Permission denied\n", BootEnd.NEVER_STARTED),
        (b"initrd is too large, cannot support.\n", BootEnd.NEVER_STARTED),
    ],
)
def test_an_image_that_is_no_kernel_is_not_the_labs_fault(said: bytes, end: BootEnd) -> None:
    watched = watch()
    watched.receive_log(said, 0.2)
    found = watched.ended(exited(status=1), 0.3).verdict
    assert found.end is end
    assert found.end.is_infra == (end is BootEnd.NEVER_STARTED)


def test_a_silent_guest_that_is_halted_for_ever_is_called_early() -> None:
    found, now = until_end(watch(), [[DEAD]])
    assert (found.end, found.milestone) == (BootEnd.HANG, Milestone.LINKED)
    assert now < 6
    assert found.samples[-1] == (DEAD,)
    assert "halted with interrupts off at 0xffffffff81000000" in found.reason


def test_a_small_loop_with_interrupts_off_is_called_later() -> None:
    looks = [[sample(0xFFFFFFFF81000000 + step)] for step in (0, 12, 60)]
    found, now = until_end(watch(), looks)
    assert found.end is BootEnd.HANG
    assert 10 < now < 15


def test_a_second_vcpu_may_wait_for_its_start() -> None:
    found, now = until_end(watch(), [[DEAD, sample(0xFFF0, halted=True)]])
    assert (found.end, now < 6) == (BootEnd.HANG, True)


@pytest.mark.parametrize(
    "looks",
    [
        [[IDLE]],
        [[IDLE, IDLE]],
        [[DEAD, sample(0x1000 * n)] for n in range(500)],
        [[sample(0xFFFFFFFF81000000 + 65 * n)] for n in range(500)],
        [[sample(0x400000, cpl=3, interrupts=True)]],
        [[DEAD], [IDLE]],
        [[]],
    ],
)
def test_a_guest_that_may_go_on_waits_for_its_deadline(looks: list[list[VcpuSample]]) -> None:
    watched = watch()
    watched.receive_console(BOOT, 1.0)
    found, now = until_end(watched, looks, start=1.0)
    assert (found.end, now) == (BootEnd.STALL, 121.0)


@pytest.mark.parametrize("look", [[IDLE], [sample(interrupts=True)], [DEAD, IDLE]])
def test_user_space_may_sleep(look: list[VcpuSample]) -> None:
    watched = watch()
    watched.receive_channel([protocol.Hello(version=1)], 1.0)
    found, now = until_end(watched, [look], start=1.0)
    assert (found.end, now) == (BootEnd.STALL, 901.0)


def test_a_guest_that_prints_is_never_called_dead() -> None:
    watched = watch()
    now = 0.0
    while now < 25:
        now += 0.3
        decision = watched.receive_samples([DEAD], now)
        assert isinstance(decision, Continue)
        if round(now * 10) % 24 == 0:
            assert isinstance(watched.receive_console(b".", now), Continue)


def test_the_deadlines_of_each_phase_and_of_all() -> None:
    assert until_end(watch(), [[IDLE]])[1] == 30
    assert until_end(watch(Accelerator.TCG), [[IDLE]])[1] == 120
    watched = watch()
    watched.receive_channel([protocol.Hello(version=1), protocol.Tested()], 10.0)
    assert until_end(watched, [[IDLE]], start=10.0)[1] == 310
    watched = watch()
    watched.receive_channel([protocol.Hello(version=1), protocol.Tested(), protocol.Done()], 10.0)
    found, now = until_end(watched, [[IDLE]], start=10.0)
    assert (found.end, now) == (BootEnd.STALL, 30)
    watched = watch()
    watched.receive_channel([protocol.Hello(version=1)], 20.0)
    watched.receive_channel([protocol.Tested()], 919.0)
    found, now = until_end(watched, [[IDLE]], start=919.0)
    assert (found.end, now) == (BootEnd.DEADLINE, 1200)


def test_an_idle_guest_is_given_up_when_it_is_known_what_is_usual() -> None:
    usual = {BootPhase.INIT: 2.0, BootPhase.TESTS: 40.0}
    watched = Watch(PROFILE, Accelerator.TCG, 0.0, usual)
    watched.receive_console(BOOT, 1.0)
    found, at = until_end(watched, [[IDLE]], start=1.0)
    assert found.end is BootEnd.STALL
    assert found.reason == "idle and without a word for 62 s, and had to reach user space"
    assert 61 < at < 64
    # What may take long gets its time: the tests of this one sleep.
    watched = Watch(PROFILE, Accelerator.TCG, 0.0, usual)
    watched.receive_channel([protocol.Hello(version=1)], 1.0)
    found, at = until_end(watched, [[IDLE]], start=1.0)
    assert 200 < at < 214


def test_a_busy_guest_is_not_idle() -> None:
    watched = Watch(PROFILE, Accelerator.KVM, 0.0, {BootPhase.INIT: 2.0})
    watched.receive_console(BOOT, 1.0)
    busy = sample(rip=0xFFFFFFFF81100000, interrupts=True)
    found, at = until_end(watched, [[IDLE], [busy]], start=1.0)
    assert (found.end, at) == (BootEnd.STALL, 121.0)


def test_without_sampling_nothing_is_asked() -> None:
    watched = watch(profile=BootProfile(care=BootCare(sample_vcpus=False)))
    assert watched.next_wakeup(0.0) == 30.0
    assert isinstance(watched.tick(29.0), Continue)


def test_what_ended_stays_ended() -> None:
    watched = watch()
    first = watched.ended(exited(), 1.0)
    assert watched.receive_console(BOOT + PANIC, 5.0) == first
    assert watched.tick(50.0) == first


def cut(data: bytes, at: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in at)})
    return [data[start:end] for start, end in pairwise(edges)]


LINES = st.lists(
    st.sampled_from([*BOOT.splitlines(True), *PANIC.splitlines(True), b"x" * 700, b"\n", b"<6>"])
    | st.binary(max_size=80),
    max_size=12,
)
CHANNEL = st.lists(
    st.sampled_from([b"kwatch hello 1\n", b"kwatch tested\n", b"kwatch done\n", b"kwatch blob "])
    | st.binary(max_size=40),
    max_size=8,
)


@given(lines=LINES, channel=CHANNEL, cuts=st.lists(st.integers(0, 5000), max_size=20))
def test_one_answer_for_any_way_to_cut_the_bytes(
    lines: list[bytes], channel: list[bytes], cuts: list[int]
) -> None:
    answers = []
    for pieces in ([b"".join(lines)], cut(b"".join(lines), cuts)):
        watched, reader = watch(), protocol.ChannelReader()
        for piece in pieces:
            watched.receive_console(piece, 1.0)
        for piece in cut(b"".join(channel), cuts):
            watched.receive_channel(reader.feed(piece), 1.0)
        answers.append(watched.ended(exited(), 1.0))
    assert answers[0] == answers[1]


EVENTS = st.one_of(
    st.tuples(st.just("console"), st.binary(max_size=200)),
    st.tuples(st.just("samples"), st.lists(st.sampled_from([DEAD, IDLE, sample()]), max_size=3)),
    st.tuples(st.just("qmp"), st.sampled_from(["SHUTDOWN", "GUEST_PANICKED", "STOP"])),
    st.tuples(
        st.just("channel"),
        st.sampled_from([protocol.Hello(version=9), protocol.Tested(), INTACT, protocol.Done()]),
    ),
    st.tuples(st.just("tick"), st.none()),
)


@given(script=st.lists(st.tuples(EVENTS, st.floats(0, 400)), max_size=40))
def test_it_never_raises_and_always_ends(script: list[tuple[tuple[str, object], float]]) -> None:
    watched, now = watch(), 0.0
    for (kind, value), pause in script:
        now += pause
        if isinstance(value, bytes):
            watched.receive_console(value, now)
        elif isinstance(value, list):
            watched.receive_samples(value, now)
        elif isinstance(value, str):
            watched.receive_qmp(QmpEvent(name=value), now)
        elif isinstance(
            value, protocol.Hello | protocol.Tested | protocol.BlobDone | protocol.Done
        ):
            watched.receive_channel([value], now)
        else:
            assert kind == "tick"
            watched.tick(now)
        assert watched.next_wakeup(now) >= now
    assert until_end(watched, [[IDLE]], start=now, limit=now + 2000)[0].took >= 0
