# SPDX-License-Identifier: GPL-2.0-or-later
"""A tag in, a threaded mail out: the whole daemon on the toy kernel, in what it is there for."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from tests.lab.toy.history import PLANTS
from tests.lab.toytree import (
    CULPRIT,
    ToyTree,
    archived,
    letters,
    outcomes,
    settle,
    text_of,
    toy_box,
    tune,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.lab.conftest import Run
    from tests.lab.toy.history import Edits

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(240)]

LIST = "regressions@example.org"
OPERATOR = "operator@example.org"
SERIES_AUTHOR = "author@example.org"
DEVELOPER = "developer@example.org"

# Only a kernel with the coverage series dies of it.
SERIES_PANIC: Edits = {
    "init/main.c": (
        "\tplant_boot();\n",
        """\tplant_boot();
#ifdef CONFIG_LLVM_COV_KERNEL
	panic("the counters cannot be written");
#endif
""",
    )
}


# --- one tag to three mails -----------------------------------------------------------------------


async def test_one_thread_tells_the_whole_story(undisturbed: Run) -> None:
    mails = archived(undisturbed.box)
    assert [mail["X-Kwatch-Event"] for mail in mails] == ["new", "bisected", "fixed"]
    first, second, third = (str(mail["Message-ID"]) for mail in mails)
    assert mails[0]["In-Reply-To"] is None
    assert mails[1]["In-Reply-To"] == first
    assert mails[2]["In-Reply-To"] == second
    assert str(mails[1]["References"]).split() == [first]
    assert str(mails[2]["References"]).split() == [first, second]
    assert {first, second, third} == {
        f"<{row['message_id']}>" for row in undisturbed.box.query("SELECT message_id FROM mail")
    }


async def test_the_culprit_and_nobody_else_is_named(undisturbed: Run) -> None:
    new, bisected, _ = (text_of(mail) for mail in letters(undisturbed.box))
    named = f'{undisturbed.ids["culprit"][:12]} ("{CULPRIT}")'
    assert CULPRIT not in new
    assert f"First bad commit:\n\n  {named}\n" in bisected
    assert f"Fixes: {named}" in bisected
    assert "Confirmed with clean builds: " in bisected


async def test_the_control_says_that_it_is_the_tree(undisturbed: Run) -> None:
    mails = letters(undisturbed.box)
    assert str(mails[0]["Subject"]).endswith("(tree)")
    shown = " ".join(text_of(mails[0]).split())
    assert "without it fails in the same way" in shown
    for mail in mails:
        assert SERIES_AUTHOR not in f"{mail['To']} {mail['Cc']}"
    assert DEVELOPER not in f"{mails[0]['To']} {mails[0]['Cc']}"
    assert DEVELOPER in mails[1]["To"]


async def test_the_third_mail_says_fixed(undisturbed: Run) -> None:
    fixed = text_of(letters(undisturbed.box)[2])
    assert fixed.startswith("linux-next boots on x86_64 again in next-20261118.")
    assert undisturbed.ids["next-20261118"][:12] in fixed


async def test_every_trial_ended_as_the_kernel_did(undisturbed: Run) -> None:
    assert {outcome for outcome, _, _ in undisturbed.outcomes.values()} == {"pass", "fail"}
    assert undisturbed.outcomes[undisturbed.ids["culprit"], False, 1, 0][0] == "fail"
    assert undisturbed.outcomes[undisturbed.ids["next-20261118"], False, 0, 1][0] == "pass"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", "next-20261117"),
        ("/healthz", '"alive": true'),
        ("/readyz", '"ready": true'),
        ("/metrics", "kwatch_"),
        ("/regression/1", CULPRIT),
        ("/revision/linux-next/next-20261118", "next-20261118"),
        ("/api/v1/status", '"ready": true'),
        ("/api/v1/regressions", '"fixed"'),
        ("/api/v1/trials", '"pass"'),
        ("/api/v1/mails", "bisected"),
        ("/api/v1/trees", "next-20261118"),
        ("/api/v1/hosts", "kvm1"),
    ],
)
async def test_pages_answer(undisturbed: Run, path: str, expected: str) -> None:
    async with asyncio.timeout(20):
        # A loaded machine may be late for one look at a source.
        status, body = await undisturbed.box.get(path)
        while path == "/readyz" and status != 200:
            await asyncio.sleep(0.5)
            status, body = await undisturbed.box.get(path)
    assert status == 200
    assert expected in body


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("status",), "next-20261117"),
        (("show", "regression", "1"), "fixed"),
        (("show", "revision", "linux-next", "next-20261118"), "pass"),
        (("series",), "Coverage of the toy kernel with Clang"),
        (("report",), "silent"),
        (("report", "show", "2"), CULPRIT),
        (("hosts",), "run 'kwatch hosts prove kvm1'"),
    ],
)
async def test_commands_print(undisturbed: Run, words: tuple[str, ...], expected: str) -> None:
    plain, document = await asyncio.gather(
        undisturbed.box.command(*words), undisturbed.box.command(*words, "--json")
    )
    assert plain[0] == document[0] == 0, (plain, document)
    assert expected in plain[1]
    assert json.loads(document[1])


async def test_the_hosts_are_checked(undisturbed: Run) -> None:
    status, output = await undisturbed.box.command("hosts", "check")
    assert (status, output.split()) == (0, ["HOST", "RESULT", "kvm1", "ok"])


async def test_the_configuration_is_checked(undisturbed: Run) -> None:
    status, output = await undisturbed.box.command("check-config")
    assert status == 0, output


async def test_what_is_not_there_is_said(undisturbed: Run) -> None:
    for words in (("show", "regression", "99"), ("report", "show", "99"),
                  ("show", "revision", "linux-next", "next-2")):  # fmt: skip
        status, output = await undisturbed.box.command(*words)
        assert status == 1
        assert output.startswith("kwatch: ")
        assert "Traceback" not in output


# --- what else can go wrong with a kernel ---------------------------------------------------------


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def tree(tmp_path_factory: pytest.TempPathFactory, user: str) -> AsyncIterator[ToyTree]:
    """A lab with a tree of which one good tag was seen. Every test leaves the newest tag good."""
    async with toy_box(tmp_path_factory.mktemp("tree"), user) as box:
        grown = ToyTree.create(box)
        await box.post_series()
        grown_first = grown.publish()
        await box.start()
        await settle(box, grown_first)
        yield grown
        assert await box.stop() == 0


async def _mails_of(tree: ToyTree, edits: Edits) -> tuple[str, list[str], list[str]]:
    """The life of a fault: its commit, the bodies and the recipients of the mails about it."""
    before = len(letters(tree.box))
    culprit = tree.commit(edits)
    await settle(tree.box, tree.publish())
    tree.revert(edits)
    await settle(tree.box, tree.publish())
    mails = letters(tree.box)[before:]
    assert [mail["X-Kwatch-Event"] for mail in mails] == ["new", "bisected", "fixed"]
    assert len({str(mail["X-Kwatch-Regression"]) for mail in mails}) == 1
    return culprit, [text_of(mail) for mail in mails], [f"{mail['To']} {mail['Cc']}"
                                                        for mail in mails]  # fmt: skip


@pytest.mark.parametrize("edits", [SERIES_PANIC, PLANTS["series-conflict"]], ids=["panic", "apply"])
async def test_a_fault_of_the_series_goes_to_its_people_only(tree: ToyTree, edits: Edits) -> None:
    culprit, bodies, recipients = await _mails_of(tree, edits)
    assert culprit[:12] in bodies[1]
    for people in recipients:
        assert SERIES_AUTHOR in people
        assert OPERATOR in people
        assert LIST not in people
        assert DEVELOPER not in people


async def test_a_build_error_is_bisected(tree: ToyTree) -> None:
    culprit, bodies, recipients = await _mails_of(tree, PLANTS["build-error"])
    assert f'{culprit[:12]} ("{CULPRIT}")' in bodies[1]
    assert bodies[0].startswith("linux-next does not build for x86_64 since ")
    assert DEVELOPER in recipients[1]


async def test_a_failure_that_does_not_come_again_is_told_to_nobody(tree: ToyTree) -> None:
    before, known = len(letters(tree.box)), len(tree.box.query("SELECT 1 FROM regression"))
    window = 25
    edits = _dies_until(time.time() + window)
    until = time.monotonic() + window + 2
    tree.commit(edits)
    tag = tree.publish()
    await tree.box.until(
        lambda: len(tree.box.query("SELECT 1 FROM regression")) > known,
        timeout=window, what="regression", pause=0.02,
    )  # fmt: skip
    assert await tree.box.stop() == 0
    await asyncio.sleep(max(0.0, until - time.monotonic()))
    await tree.box.start()
    await settle(tree.box, tag)
    (regression,) = tree.box.query("SELECT * FROM regression ORDER BY id DESC LIMIT 1")
    assert regression["state"] == "invalid"
    assert len(letters(tree.box)) == before
    tree.revert(edits)
    await settle(tree.box, tree.publish())
    assert len(letters(tree.box)) == before


def _dies_until(moment: float) -> Edits:
    """A kernel that panics while its clock shows a time of the hour before ``moment``."""
    line = "\tplant_boot();\n"
    return {
        "init/main.c": (
            line,
            line + """\t{
		unsigned int now = 0;

		for (uint8_t where = 6; where; where -= 2) {
			uint8_t value = where - 2;

			__asm__ volatile("outb %0, $0x70; inb $0x71, %0" : "+a"(value));
			now = now * 60 + (value >> 4) * 10 + (value & 15);
		}
"""
            f"\t\tif (({int(moment) % 86400}u + 86400 - now) % 86400 < 3600)\n"
            '\t\t\tpanic("the hour is wrong");\n\t}\n',
        )
    }


# --- what must not lead to a mail -----------------------------------------------------------------


async def test_a_held_series_waits_and_without_a_baseline_nobody_is_told(
    tmp_path: Path, user: str
) -> None:
    async with toy_box(tmp_path, user) as box:
        tune(box, {'senders = ["author@example.org"]': 'senders = ["other@example.org"]'})
        tree = ToyTree.create(box)
        tree.commit(PLANTS["panic"])
        await box.post_series()
        tag = tree.publish()
        await box.start()
        await box.until(
            lambda: bool(box.query("SELECT 1 FROM series") and "is accepted yet" in box.log()),
            timeout=30, what="held series",
        )  # fmt: skip
        assert box.query("SELECT 1 FROM result") == []
        status, listed = await box.command("series")
        assert status == 0
        posting = listed.splitlines()[1]
        assert "  no  " in posting
        assert (await box.command("series", "accept", "0" * 12))[0] == 1

        status, answer = await box.command("series", "accept", posting.split()[0])
        assert status == 0, answer
        await settle(box, tag)
        assert {seen[0] for seen in outcomes(box).values()} == {"fail"}
        assert "shows whether that is new" in box.log()
        assert box.query("SELECT 1 FROM regression") == []
        assert letters(box) == []
        assert await box.stop() == 0
