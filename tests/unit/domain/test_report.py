# SPDX-License-Identifier: GPL-2.0-or-later
"""Reports say the right thing, to the right people, in the right thread, whatever is in them."""

from __future__ import annotations

import email
import email.policy
import os
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kwatch.domain.finding import Finding, FindingKind
from kwatch.domain.mail.body import MAX_BODY
from kwatch.domain.mail.letter import MAX_SUBJECT, compose, dated
from kwatch.domain.mail.story import (
    TRANSITIONS,
    Attachment,
    MailEvent,
    MailState,
    Release,
    ReportKind,
    Story,
    ThreadMail,
    first_state,
)
from kwatch.domain.mail.tables import _folded
from kwatch.domain.milestone import Milestone
from kwatch.domain.source.commit import CommitInfo
from kwatch.domain.text import ascii_line, log_line, one_line
from kwatch.domain.verdict.bisect.commits import Mark
from kwatch.domain.verdict.blame import Blame
from kwatch.domain.verdict.grade import CleanBuilds, Count, Grade, doubts_about
from kwatch.domain.verdict.problem import Facet
from kwatch.domain.verdict.question import Answer, Verdict
from tests.unit.domain.stories import (
    BACK,
    BISECTED,
    CHANGED,
    COMMIT,
    CULPRIT,
    ENDPOINTS,
    INCONCLUSIVE,
    LAB,
    MENDED,
    NEW,
    PANIC,
    REGRESSION,
    ROOT,
    SERIES_FAULT,
    STORIES,
    UNKNOWN,
    WARNING,
    proof,
)
from tests.unit.domain.trials import failed

if TYPE_CHECKING:
    from email.message import EmailMessage

    from kwatch.domain.mail.story import Correspondence, Letter

GOLDEN = Path(__file__).with_name("golden")
OUTLOOK = "DS0PR11MB637312345678901234567890@DS0PR11MB6373.namprd11.prod.outlook.example.org"


def written(story: Story, lab: Correspondence = LAB) -> Letter:
    return compose(story, lab, token="abcd1234")


def parsed(letter: Letter) -> EmailMessage:
    mail = email.message_from_bytes(letter.message, policy=email.policy.default)
    assert not mail.defects
    return mail


def body_of(mail: EmailMessage) -> str:
    part = mail.get_body(("plain",))
    assert part is not None
    return str(part.get_content())


def text_of(letter: Letter) -> str:
    return body_of(parsed(letter))


@pytest.mark.parametrize("name", STORIES)
def test_golden_mails(name: str) -> None:
    path = GOLDEN / f"{name}.eml"
    message = written(STORIES[name]).message
    if os.environ.get("KWATCH_UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(message)
    assert message == path.read_bytes()


@pytest.mark.parametrize("name", STORIES)
def test_headers_say_what_robots_need(name: str) -> None:
    story = STORIES[name]
    letter = written(story)
    mail = parsed(letter)
    assert mail["Message-ID"] == f"<{letter.message_id}>"
    assert len(letter.message_id) < 70
    assert mail["Subject"] == letter.subject
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["X-Kwatch-Regression"] == "17"
    assert mail["X-Kwatch-Event"] == story.kind.value
    assert mail["Reply-To"] is mail["Precedence"] is mail["List-Id"] is None
    assert letter.envelope_from == f"kwatch+b-{story.notice}@lab.example.org"
    shown = [*mail["To"].addresses, *(mail["Cc"].addresses if mail["Cc"] else ())]
    assert tuple(found.addr_spec for found in shown) == letter.recipients


def test_the_state_of_a_dead_guest_is_a_block() -> None:
    evidence = (*NEW.regression.finding.evidence, "#regzbot invalid: evil symbol")
    finding = replace(NEW.regression.finding, evidence=evidence)
    text = text_of(written(replace(NEW, regression=replace(NEW.regression, finding=finding))))
    assert (
        "\nNo output on the console, earlycon included. State of the guest when it\n"
        "was stopped:\n\n"
        "  CPU 0: halted at early_fixup_exception+0x6f, interrupts off\n"
        "  Exception: page fault at startup_counters+0x8\n"
    ) in text
    assert "\n  Call trace:\n    setup_arch+0x53\n" in text
    assert "#regzbot invalid" not in text


def test_a_follow_up_is_in_the_thread_of_its_root() -> None:
    first = written(NEW)
    second = written(
        replace(BISECTED, thread=(ThreadMail(message_id=first.message_id, subject=first.subject),))
    )
    mail = parsed(second)
    assert second.subject == f"Re: {first.subject}"
    assert mail["In-Reply-To"] == mail["References"] == f"<{first.message_id}>"
    third = parsed(
        written(
            replace(
                MENDED,
                thread=tuple(
                    ThreadMail(message_id=found.message_id, subject=found.subject)
                    for found in (first, second)
                ),
            )
        )
    )
    assert third["Subject"] == f"Re: {first.subject}"
    assert third["In-Reply-To"] == f"<{second.message_id}>"
    assert third["References"].split() == [f"<{first.message_id}>", f"<{second.message_id}>"]


def test_references_keep_the_root_and_the_latest_and_never_grow() -> None:
    thread = (
        ROOT,
        *(ThreadMail(message_id=f"{number}.{OUTLOOK}", subject="Re: x") for number in range(40)),
    )
    mail = parsed(written(replace(BISECTED, thread=thread)))
    references = mail["References"].split()
    assert references[0] == f"<{ROOT.message_id}>"
    assert references[1:] == [f"<{number}.{OUTLOOK}>" for number in range(31, 40)]
    assert mail["In-Reply-To"] == f"<39.{OUTLOOK}>"


def test_the_author_is_named_only_with_proof() -> None:
    verified = parsed(written(BISECTED))
    assert verified["To"] == "Commit Author <commit.author@example.org>"
    assert "maintainer@example.org" in verified["Cc"]
    for story in (
        NEW,
        INCONCLUSIVE,
        replace(BISECTED, grade=Grade.LIKELY, doubts=("it is a merge",)),
    ):
        assert written(story).recipients == (
            "linux-next@example.org",
            "regressions@example.org",
            "owner@example.org",
        )
        assert "Fixes:" not in text_of(written(story))
        assert "Confirmed" not in text_of(written(story))


@pytest.mark.parametrize("kind", [ReportKind.NEW, ReportKind.BISECTED, ReportKind.INCONCLUSIVE])
def test_a_fault_of_the_series_stays_with_its_people(kind: ReportKind) -> None:
    letter = written(replace(BISECTED, kind=kind, blame=Blame.SERIES))
    assert letter.recipients == ("author@example.org", "owner@example.org")
    assert "#regzbot invalid" not in text_of(letter)
    assert "Closes:" not in text_of(letter)


@pytest.mark.parametrize("kind", [*ReportKind])
@pytest.mark.parametrize("verdict", [*Verdict, None])
def test_an_unknown_fault_never_reaches_the_public(
    kind: ReportKind, verdict: Verdict | None
) -> None:
    story = replace(BACK, kind=kind, blame=Blame.UNKNOWN, verdict=verdict, culprit=COMMIT, told=())
    for grade in Grade:
        letter = written(replace(story, grade=grade))
        assert set(letter.recipients) <= {"author@example.org", "owner@example.org"}
        assert "#regzbot" not in text_of(letter)
        assert "Closes:" not in text_of(letter)
    if kind is ReportKind.REAPPEARED:
        # Whoever was told before.
        letter = written(replace(story, told=BACK.told))
        assert letter.recipients == ("author@example.org", "owner@example.org")


def test_an_unknown_fault_is_told_to_the_people_of_the_series() -> None:
    letter = written(UNKNOWN)
    assert letter.recipients == ("author@example.org", "owner@example.org")
    assert letter.subject.endswith("startup_counters")
    text = " ".join(text_of(letter).split())
    assert "We do not know whether the out-of-tree series that we apply is at fault" in text
    # A control has no series, and nobody's address.
    lab = replace(LAB, series_mail_to=())
    letter = written(replace(UNKNOWN, series=None), lab)
    assert letter.recipients == ("owner@example.org",)
    assert "the authors of the series" not in text_of(letter)


def test_a_warning_is_no_failure_to_boot() -> None:
    for kind in ReportKind:
        for blame in (*Blame, None):
            for verdict in (*Verdict, None):
                story = replace(
                    BISECTED,
                    kind=kind,
                    blame=blame,
                    verdict=verdict,
                    regression=WARNING.regression,
                    fixed=MENDED.fixed if kind is ReportKind.FIXED else None,
                )
                text = " ".join(text_of(written(story)).split())
                assert "does not boot" not in text
                assert "fails in the same way" not in text
                assert "It had failed" not in text
    assert text_of(written(WARNING)).startswith(
        "linux-next prints a new warning on x86_64 since next-20261117; next-20261116\ndoes not.\n"
    )
    assert written(WARNING).subject.startswith("[kwatch] next-20261117: x86_64 warning: possible")
    bisected = replace(BISECTED, regression=WARNING.regression)
    assert "5 of 5 boots print it on this commit" in " ".join(text_of(written(bisected)).split())
    fixed = replace(MENDED, regression=WARNING.regression)
    assert text_of(written(fixed)).startswith(
        "linux-next no longer prints this warning on x86_64 in next-20261118. It had\nprinted it"
    )


def test_what_is_back_is_told_in_its_thread() -> None:
    letter = written(BACK)
    mail = parsed(letter)
    assert letter.recipients == BACK.told
    assert mail["In-Reply-To"] == f"<{BACK.thread[-1].message_id}>"
    assert mail["X-Kwatch-Tag"] == "next-20261119"
    text = body_of(mail)
    assert text.startswith("linux-next shows this again on x86_64 since next-20261119.")
    assert "next-20261117 and was fixed in next-20261118" in " ".join(text.split())
    # The state of the guest is that of the new tag.
    assert "setup_arch" not in text
    assert "Closes:" in text
    assert "#regzbot" not in text
    again = text_of(written(replace(MENDED, again=BACK.again, fixed=BACK.fixed)))
    assert "It had failed again since next-20261119:" in " ".join(again.split())


@pytest.mark.parametrize(
    ("blame", "words", "people"),
    [
        (Blame.SERIES, "with the version of the out-of-tree series", ("author@example.org",)),
        (Blame.TOOLCHAIN, "with the toolchain that we use since next-20261117", ()),
        (Blame.CONFIG, "with our configuration since next-20261117", ()),
        (Blame.HOST, "with the environment that we boot in (QEMU, the kernel and the", ()),
        (Blame.UNKNOWN, "with our setup, which changed in several ways", ("author@example.org",)),
    ],
)
def test_a_change_of_the_lab_is_no_regression_of_the_tree(
    blame: Blame, words: str, people: tuple[str, ...]
) -> None:
    letter = written(replace(CHANGED, blame=blame))
    assert letter.recipients == (*people, "owner@example.org")
    text = " ".join(text_of(letter).split())
    assert f"It comes {words}" in text
    assert "next-20261116 boots" not in text
    assert "bisecting" not in text
    assert "#regzbot" not in text


@pytest.mark.parametrize("facet", Facet)
@pytest.mark.parametrize("verdict", Verdict)
def test_a_retraction_says_why(facet: Facet, verdict: Verdict) -> None:
    story = replace(
        STORIES["retracted"], verdict=verdict, regression=replace(REGRESSION, facet=facet)
    )
    text = " ".join(text_of(written(story)).split())
    assert "Sorry for the noise." in text
    no_baseline = "next-20261116 could not be tested again, so it may not be a regression."
    assert (no_baseline in text) is (verdict is Verdict.NO_BASELINE)


@pytest.mark.parametrize("blame", [Blame.TOOLCHAIN, Blame.CONFIG, Blame.HOST, None])
def test_any_other_fault_goes_to_the_owner(blame: Blame | None) -> None:
    assert written(replace(BISECTED, blame=blame)).recipients == ("owner@example.org",)


def test_the_end_goes_to_whom_the_thread_went() -> None:
    assert written(MENDED).recipients == MENDED.told
    assert written(replace(MENDED, told=())).recipients == ("owner@example.org",)


def test_never_mail_and_the_cap_hold_but_the_owner_always_hears() -> None:
    lab = replace(LAB, never_mail=("commit.author@*", "regressions@*", "owner@*"))
    assert written(BISECTED, lab).recipients == (
        "linux-next@example.org",
        "maintainer@example.org",
        "owner@example.org",
    )
    signers = tuple(("", f"signer{number}@example.org") for number in range(60))
    crowd = written(replace(BISECTED, culprit=replace(COMMIT, signers=signers)))
    assert len(crowd.recipients) == 25
    assert crowd.recipients[0] == "commit.author@example.org"
    assert crowd.recipients[-1] == "owner@example.org"


def test_nobody_is_written_to_twice_nor_we_to_ourselves() -> None:
    signers = (
        ("", "Commit.Author@EXAMPLE.org"),
        ("", "owner@example.org"),
        ("", "kwatch@lab.example.org"),
        ("", "kwatch+b-3@lab.example.org"),
        ("", "root@localhost.(none)"),
        ("", "x@example.org\r\nBcc: y@example.org"),
        ("", ".@3429e2599065"),
    )
    assert written(replace(BISECTED, culprit=replace(COMMIT, signers=signers))).recipients == (
        "commit.author@example.org",
        "linux-next@example.org",
        "regressions@example.org",
        "owner@example.org",
    )


def test_a_commit_without_a_usable_author_is_told_to_the_lists() -> None:
    culprit = replace(COMMIT, author_address="root@localhost.(none)", signers=())
    assert written(replace(BISECTED, culprit=culprit)).recipients == (
        "linux-next@example.org",
        "regressions@example.org",
        "owner@example.org",
    )


def test_a_name_is_shown_as_it_is_and_never_decoded() -> None:
    names = ("=?utf-8?q?x=0ABcc=3A_y?=", 'A. "B" \\ C, D', "Mäintainer, of the \u4e2d Tree")
    signers = tuple((name, f"signer{number}@example.org") for number, name in enumerate(names))
    mail = parsed(written(replace(BISECTED, culprit=replace(COMMIT, signers=signers))))
    shown = {found.addr_spec: found.display_name for found in mail["Cc"].addresses}
    assert shown["signer0@example.org"] == "= ?utf-8?q?x=0ABcc=3A_y?="
    assert shown["signer1@example.org"] == names[1]
    assert shown["signer2@example.org"] == names[2]


def test_a_commit_that_cannot_be_it_is_not_verified() -> None:
    answer = Answer(verdict=Verdict.FOUND, grade=Grade.VERIFIED, commits=(CULPRIT,))
    assert answer.doubted(doubts_about(COMMIT, "x86_64")) == answer
    mixed = replace(COMMIT, files=("arch/Kconfig", "arch/arm64/Kconfig"))
    assert answer.doubted(doubts_about(mixed, "x86_64")) == answer
    foreign = "it changes nothing that is compiled for x86_64"
    for culprit, doubt in (
        (replace(COMMIT, files=("Documentation/arch/x86/boot.rst",)), foreign),
        (replace(COMMIT, files=("arch/arm64/kernel/head.S",)), foreign),
        (replace(COMMIT, parents=(*COMMIT.parents, "9" * 40)), "it is a merge"),
    ):
        found = answer.doubted(doubts_about(culprit, "x86_64"))
        assert (found.grade, found.doubts) == (Grade.LIKELY, (doubt,))
        story = replace(BISECTED, culprit=culprit, grade=found.grade, doubts=found.doubts)
        assert "commit.author@example.org" not in written(story).recipients
        assert doubt in " ".join(text_of(written(story)).split())


def test_the_counts_of_clean_builds_are_printed_as_given() -> None:
    clean = CleanBuilds(culprit=Count(bad=4, good=1), parents=Count(good=5))
    text = " ".join(text_of(written(replace(BISECTED, clean=clean))).split())
    assert (
        "Confirmed with clean builds: 4 of 5 boots fail on this commit, 0 of 5 on its parent."
    ) in text
    likely = replace(BISECTED, clean=clean, grade=Grade.LIKELY, doubts=("it is a merge",))
    text = " ".join(text_of(written(likely)).split())
    assert (
        "This commit is the likely cause, not a proven one (it is a merge). With clean builds,"
        " 4 of 5 boots fail on this commit, 0 of 5 on its parent."
    ) in text


def test_failures_are_counted_by_commit() -> None:
    text = text_of(written(NEW))
    assert "Test results (failures/boots):\n\n" in text
    assert "      2/2  222222222222  first bad tag\n" in text
    assert "      0/2  111111111111  last good tag\n" in text
    assert "      1/1  222222222222  first bad tag, without the series\n" in text


def test_another_failure_is_shown_and_not_counted() -> None:
    other = proof("first bad tag", "2" * 40, Mark.UNTESTABLE, other=PANIC.title)
    text = text_of(written(replace(NEW, proof=(*ENDPOINTS[:4], other))))
    assert "      2/3  222222222222  first bad tag\n" in text
    assert "also: Kernel panic - not syncing" in text


def test_the_bisection_shows_marks() -> None:
    text = text_of(written(BISECTED))
    assert "Bisection of 212 commits, 4 steps:\n\n  bad   a1a1a1a1a1a1  Merge" in text
    assert "\n  skip  a2a2a2a2a2a2  x86/mm: Sort the table\n" in text


def test_an_empty_console_is_said_to_be_empty() -> None:
    assert "No output on the console, earlycon included." in text_of(written(NEW))
    assert "image linked; nothing on the console\n" in text_of(written(NEW))
    assert "No output on the console" not in text_of(written(SERIES_FAULT))


@pytest.mark.parametrize("kind", FindingKind)
@pytest.mark.parametrize("blame", [*Blame, None])
@pytest.mark.parametrize("report", ReportKind)
def test_every_mail_begins_with_the_statement(
    kind: FindingKind, blame: Blame | None, report: ReportKind
) -> None:
    finding = Finding(kind=kind, title="the title")
    text = text_of(
        written(
            replace(
                BISECTED,
                kind=report,
                blame=blame,
                regression=replace(REGRESSION, finding=finding),
                again=BACK.again if report is ReportKind.REAPPEARED else None,
                fixed=MENDED.fixed if report is ReportKind.FIXED else None,
            )
        )
    )
    statement, _, rest = text.partition("\n\n")
    assert re.match("linux-next |The series |Our report ", statement)
    assert "next-20261117" in statement
    assert rest.startswith("    the title\n\n")


def test_a_kernel_that_booted_is_not_said_not_to_boot() -> None:
    for milestone, words in (
        (Milestone.KERNEL, "linux-next does not boot on x86_64 since"),
        (Milestone.INIT, "linux-next boots on x86_64, but does not complete the tests since"),
        (Milestone.TESTED, "linux-next boots on x86_64 with errors since"),
        (Milestone.COLLECTED, "linux-next boots on x86_64 with errors since"),
    ):
        regression = replace(REGRESSION, finding=PANIC, milestone=milestone)
        assert text_of(written(replace(NEW, regression=regression))).startswith(words)


def test_a_mail_is_dated_when_it_is_sent_first() -> None:
    letter = written(NEW)
    assert parsed(letter)["Date"] is None
    sent = dated(letter.message, NEW.at + 7 * 86400)
    mail = email.message_from_bytes(sent, policy=email.policy.default)
    assert mail["Date"].datetime.timestamp() == NEW.at + 7 * 86400
    assert mail["Message-ID"] == f"<{letter.message_id}>"
    assert dated(sent, NEW.at + 8 * 86400) == sent
    assert sent.partition(b"\n\n")[2] == letter.message.partition(b"\n\n")[2]


def test_attached_files_arrive_as_they_are() -> None:
    files = (
        Attachment(name="config", content=b'CONFIG_CC="clang"\n# CONFIG_X is not set\n'),
        Attachment(name="series.mbox", content=b"From x Mon\nSubject: y\n\nFrom here on \n.\n"),
        Attachment(name="odd.config", content=b"--kwatch-abcd1234--\n\xff" + b"x" * 2000),
        Attachment(name="config.gz", content=bytes(range(256))),
    )
    letter = written(replace(NEW, attachments=files))
    mail = parsed(letter)
    assert mail.get_content_type() == "multipart/mixed"
    text, *attached = mail.iter_parts()
    assert text.get_content().startswith("linux-next does not boot")
    assert [one.get_filename() for one in attached] == [one.name for one in files]
    assert [one.get_payload(decode=True) for one in attached] == [one.content for one in files]
    assert b"\n# CONFIG_X is not set\n" in letter.message
    assert max(map(len, letter.message.split(b"\n"))) <= 998


def test_a_tree_that_left_the_configuration_is_the_operators_business() -> None:
    for story in STORIES.values():
        letter = written(replace(story, tree_url=None))
        assert letter.recipients == ("owner@example.org",)
        assert "has been removed from our configuration" in " ".join(text_of(letter).split())
        assert "#regzbot" not in text_of(letter)


def test_regzbot_hears_of_the_tree_and_only_if_it_is_wanted() -> None:
    quiet = replace(LAB, regzbot=False)
    assert "\n\n#regzbot introduced: next-20261116..next-20261117\n\n" in text_of(written(NEW))
    assert f"\n\n#regzbot introduced: {CULPRIT[:12]}\n\n" in text_of(written(BISECTED))
    assert "#regzbot invalid" not in text_of(written(NEW, quiet))
    assert "#regzbot invalid" not in text_of(written(INCONCLUSIVE))


def test_a_contradicted_bisection_blames_nobody() -> None:
    text = text_of(
        written(replace(INCONCLUSIVE, verdict=Verdict.CONTRADICTED, candidates=(COMMIT,)))
    )
    assert "do not take this commit for the cause" in " ".join(text.split())


def test_a_long_log_keeps_both_ends() -> None:
    lines = tuple(f"line {number}" for number in range(1000))
    text = text_of(written(replace(NEW, excerpt=lines)))
    shown = [
        line.strip() for line in text.splitlines() if re.match(r" {4}(line|\[\d+ lines)", line)
    ]
    assert len(shown) == 80
    assert shown[0] == "line 0"
    assert shown[-1] == "line 999"
    assert "[921 lines left out]" in shown


def test_the_states_of_a_mail() -> None:
    assert first_state(Release.MODERATE) is MailState.HELD
    assert first_state(Release.AUTOMATIC) is MailState.READY
    final = {MailState.SENT, MailState.FAILED, MailState.REJECTED}
    assert {state for state, _ in TRANSITIONS} == set(MailState) - final
    assert [state for state in MailState if (state, MailEvent.DELIVER) in TRANSITIONS] == [
        MailState.SENDING
    ]
    reached = {MailState.HELD}
    for _ in MailState:
        reached |= {end for (start, _), end in TRANSITIONS.items() if start in reached}
    assert reached == set(MailState)


def test_terminal_art_and_invisible_text_is_gone() -> None:
    assert log_line("\x1b[31m[  1.0]\x1b[0m\tpanic\x00\x07 \u202eevil\r\n", 80) == (
        "[  1.0]        panic evil"
    )
    assert one_line("a\u2028b\n\x1b]0;title\x07c\ud800", 80) == "a b c"
    assert ascii_line("variable \u2018sqe\u2019 =?utf-8?q?x?= \u00e9", 80) == (
        "variable 'sqe' = ?utf-8?q?x?= ?"
    )
    assert log_line("#regzbot introduced: v1", 80) == "# regzbot introduced: v1"


WORD = st.text(
    alphabet=st.characters(codec="utf-8", categories=["L", "N", "P", "S"], exclude_characters=""),
    min_size=1,
)


@given(st.lists(WORD, min_size=1, max_size=30))
def test_a_folded_command_is_the_same_command(words: list[str]) -> None:
    command = shlex.join(words)
    folded = "\n".join(_folded(command))
    assert shlex.split(folded.replace("\\\n", "")) == words


HOSTILE_PIECES = st.sampled_from(
    [
        "\r\nBcc: victim@example.org",
        "\n\n#regzbot introduced: v6.1..v6.2\n\n",
        "#kwatch upstream",
        "=?utf-8?b?Cgo=?=",
        "\x1b[2J\x1b]0;x\x07",
        "\x00",
        "\u202e",
        "\udcff",
        "Reported-by: x <x@example.org>\n",
        "\n-- \n",
        "\n.\n",
        "From mallory",
        '<a@b>, "c" <d@example.org>',
        "x" * 400,
        "\U0001f600" * 300,
        "\u4e2d" * 100,
        " " * 100,
    ]
)
HOSTILE = st.lists(st.one_of(HOSTILE_PIECES, st.text(max_size=60)), max_size=4).map("".join)
LOG = st.lists(HOSTILE, max_size=120).map(tuple)


@st.composite
def hostile_stories(draw: st.DrawFn) -> Story:
    finding = Finding(
        kind=draw(st.sampled_from(FindingKind)), title=draw(HOSTILE), excerpt=draw(LOG)
    )
    commit = CommitInfo(
        commit=CULPRIT,
        subject=draw(HOSTILE),
        author_name=draw(HOSTILE),
        author_address=draw(st.one_of(HOSTILE, st.just("author@example.org"))),
        signers=(
            *draw(st.lists(st.tuples(HOSTILE, HOSTILE), max_size=4)),
            (draw(HOSTILE), "signer@example.org"),
        ),
        parents=COMMIT.parents,
    )
    tag = draw(HOSTILE)
    return replace(
        draw(st.sampled_from(tuple(STORIES.values()))),
        # Half of them name the author, who is the one that strangers would like to choose.
        kind=draw(st.one_of(st.just(ReportKind.BISECTED), st.sampled_from(ReportKind))),
        blame=draw(st.one_of(st.just(Blame.TREE), st.sampled_from([*Blame, None]))),
        grade=draw(st.sampled_from([*Grade, None])),
        attachments=draw(st.sampled_from([(), (Attachment(name="config", content=b"x\n"),)])),
        verdict=draw(st.sampled_from([*Verdict, None])),
        regression=replace(
            REGRESSION,
            facet=draw(st.sampled_from(Facet)),
            finding=finding,
            bad=replace(REGRESSION.bad, tag=tag, seen=failed(finding, Milestone.KERNEL)),
        ),
        again=draw(
            st.none()
            | st.builds(
                replace,
                st.just(BACK.again),
                tag=HOSTILE,
                seen=st.just(failed(finding, Milestone.LINKED)),
            )
        ),
        culprit=commit,
        candidates=(commit,) * draw(st.integers(0, 40)),
        toolchain=(draw(HOSTILE),),
        booted_in=draw(HOSTILE),
        reproduce=(draw(HOSTILE),) * draw(st.integers(0, 60)),
        excerpt=draw(LOG),
        thread=tuple(
            ThreadMail(message_id=f"{number}.{OUTLOOK}", subject=ROOT.subject)
            for number in range(draw(st.integers(0, 12)))
        ),
    )


OURS = re.compile(r"#regzbot (introduced: (3f2a1b4c5d6e$|next-20261116\.\.)|resolve: )")


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(hostile_stories())
def test_no_stranger_gets_out_of_his_line(story: Story) -> None:
    letter = written(story)
    mail = parsed(letter)
    head = letter.message.decode().partition("\n\n")[0]
    text = body_of(mail)

    names = [found.partition(":")[0] for found in head.split("\n") if not found.startswith(" ")]
    assert len(names) == len(set(names))
    assert set(names) <= {
        *("From", "To", "Cc", "Subject", "Message-ID", "In-Reply-To", "References"),
        *("Auto-Submitted", "MIME-Version", "Content-Type", "Content-Transfer-Encoding"),
        *("X-Kwatch-Regression", "X-Kwatch-Tree", "X-Kwatch-Tag", "X-Kwatch-Event"),
    }
    assert head.isascii()
    assert mail["Subject"] == letter.subject
    assert len(letter.subject.removeprefix("Re: ")) <= MAX_SUBJECT
    shown = [*mail["To"].addresses, *(mail["Cc"].addresses if mail["Cc"] else ())]
    assert tuple(found.addr_spec for found in shown) == letter.recipients
    if story.thread:
        assert mail["In-Reply-To"] == f"<{story.thread[-1].message_id}>"
        references = mail["References"].split()
        assert references[0] == f"<{story.thread[0].message_id}>"
        assert references[-1] == mail["In-Reply-To"]
        assert len(references) <= 10

    assert len(letter.message) <= 40 << 10
    assert len(text.encode()) <= MAX_BODY
    assert max(len(found.encode()) for found in letter.message.decode().split("\n")) <= 998
    assert all(found.isprintable() for found in text.split("\n"))
    orders = [found for found in text.split("\n") if re.search("#(regzbot|kwatch)", found)]
    assert len(orders) <= 1
    assert all(OURS.match(found) for found in orders)
    assert sum(found == "-- " for found in text.split("\n")) == 1
    flush = [found for found in text.split("\n") if re.match("[A-Z][A-Za-z-]+-by:", found)]
    assert flush == []
    assert text in letter.message.decode()


def test_a_correction_goes_to_all_who_were_told() -> None:
    told = ("list@example.org", "author@example.org")
    story = replace(
        STORIES["inconclusive"], verdict=Verdict.CHANGED, blame=Blame.HOST, candidates=(), told=told
    )
    letter = written(story)
    assert letter.recipients == (*told, "owner@example.org")
    text = " ".join(text_of(letter).split())
    assert "The bisection did not find a commit." in text
    assert "no commit is to blame" in text
    assert "Closes:" not in text
    # Another one that finds no commit is the operator's as before.
    assert "list@example.org" not in written(replace(story, verdict=Verdict.NO_EVIDENCE)).recipients
