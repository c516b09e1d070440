# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line without a daemon: what it says, and the exit status that goes with it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kwatch import __version__
from kwatch.cli.main import DONE, FAILED, USAGE, function, main
from kwatch.cli.parser import ACTS, make_parser
from kwatch.store import lock
from kwatch.store import series as series_store
from kwatch.store.blobs import Blobs
from kwatch.store.database import Database, connect, transaction
from tests.integration.web_history import BLOBS, NOW, fill
from tests.lab.toy.history import git as run_git
from tests.unit.domain.trials import MBOX, SERIES
from tests.unit.test_config import GOOD
from tests.unit.test_documents import DOCUMENTS, commands, inline_commands

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    status: int
    out: str
    err: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Shell:
    """A place to type ``kwatch`` at."""

    folder: Path
    config: Path
    capture: pytest.CaptureFixture[str]
    filled: Path

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def __call__(self, *words: str) -> Answer:
        self.capture.readouterr()
        try:
            status = main([*words, "--config", str(self.config)])
        except SystemExit as end:
            status = int(str(end.code))
        said = self.capture.readouterr()
        assert "Traceback" not in said.err
        return Answer(status=status, out=said.out, err=said.err)

    def json(self, *words: str) -> Any:  # noqa: ANN401
        answer = self(*words, "--json")
        assert answer.status == DONE, answer.err
        return json.loads(answer.out)

    def history(self) -> None:
        """Have a history with one of everything."""
        shutil.copytree(self.filled, self.state)


async def fill_state(state: Path) -> None:
    database = await Database.open(state / "history.sqlite")
    blobs = Blobs(state / "blobs", database=database, budget=1 << 30, clock=lambda: NOW)
    for blob in BLOBS:
        await blobs.put(blob)
    await database.write(fill)
    await database.close()


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    state = tmp_path_factory.mktemp("filled") / "state"
    state.mkdir()
    asyncio.run(fill_state(state))
    keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(state.parent / "ssh-key")]
    subprocess.run(keygen, check=True, timeout=30)
    return state


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], filled: Path) -> Iterator[Shell]:
    for name, text in (
        ("busybox", "\x7fELF"),
        ("password", "sesame"),
        ("coverage.config", "CONFIG_LLVM_COV_KERNEL=y\n"),
        ("config.toml", GOOD),
    ):
        (tmp_path / name).write_text(text)
    shutil.copy(filled.parent / "ssh-key", tmp_path)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield Shell(folder=tmp_path, config=tmp_path / "config.toml", capture=capsys, filled=filled)
    root.handlers[:] = handlers
    root.setLevel(level)


# --- boots ----------------------------------------------------------------------------------------


def test_a_boot_is_named_by_the_beginning_of_its_key(shell: Shell) -> None:
    shell.history()
    with connect(shell.state / "history.sqlite", read_only=True) as connection:
        key = connection.execute("SELECT key FROM boot WHERE took > 0").fetchone()["key"]
    found = shell("show", "boot", key[:8])
    assert found.status == DONE
    assert found.out.startswith(f"Boot {key[:12]}\n")
    assert shell.json("show", "boot", key)["key"] == key
    for name, text in (
        (key[:5], "give 6 characters or more"), ("123456", "no boot has a key that begins with"),
        ("%", "is too short"),
    ):  # fmt: skip
        missing = shell("show", "boot", name)
        assert missing.status == FAILED
        assert text in missing.err
        assert shell("show", "boot", name, "--follow").status == FAILED


# --- hosts ----------------------------------------------------------------------------------------


def test_the_host_and_the_image_for_a_proof(shell: Shell) -> None:
    shell.history()
    assert "required: HOST" in shell("hosts", "prove").err
    answer = shell("hosts", "prove", "kvm9")
    assert answer.status == USAGE
    assert "there is no host kvm9; known: local, remote" in answer.err
    assert "there is no host kvm9" in shell("hosts", "check", "local", "kvm9").err
    with sqlite3.connect(shell.state / "history.sqlite") as connection:
        connection.execute("DELETE FROM blob_ref WHERE name = 'image'")
    answer = shell("hosts", "prove", "remote")
    assert answer.status == USAGE
    assert "give one with --kernel FILE" in answer.err
    answer = shell("hosts", "prove", "remote", "--kernel", "/no/such/image")
    assert answer.status == USAGE
    assert "/no/such/image cannot be read" in answer.err


# --- usage ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ((), "required: VERB"),
        (("dance",), "invalid choice: 'dance'"),
        (("once", "--patience", "long"), "invalid float value: 'long'"),
        (("show",), "required: ACTION"),
        (("show", "everything", "7"), "invalid choice: 'everything'"),
        (("show", "regression"), "required: NUMBER"),
        (("show", "regression", "1", "2"), "unrecognized arguments: 2"),
        (("show", "regression", "first"), "'first' is not the number of a regression"),
        (("show", "regression", "9" * 30), "is not the number of a regression"),
        (("show", "regression", "1", "--follow"), "unrecognized arguments: --follow"),
        (("show", "revision", "linux-next"), "required: TAG"),
        (("show", "revision", "linux-next", "next-20261119", "x"), "unrecognized arguments: x"),
        (("report", "show"), "required: NUMBER"),
        (("report", "show", "\u0661"), "is not the number of a mail"),
        (("report", "release"), "required: NUMBER"),
        (("report", "burn"), "invalid choice: 'burn'"),
        (("series", "accept"), "required: DIGEST"),
        (("hosts", "reboot"), "invalid choice: 'reboot'"),
        (("hosts", "accept", "remote"), "invalid choice: 'accept'"),
        (("hosts", "drain", "remote", "--json"), "unrecognized arguments: --json"),
        (("look",), "required: SOURCE"),
        (("retest", "linux-next"), "required: TAG"),
        (("retest", "linux-next", "next-20261118", "x86_64", "x"), "unrecognized arguments: x"),
        (("trees", "seed", "next"), "required: --from"),
        (("trees", "seed", "gone", "--from", "/tmp"), "there is no tree gone; known: next"),
        (("trees", "seed", "next", "--from", "/no/such"), "/no/such does not exist"),
        (("status", "--colour"), "unrecognized arguments: --colour"),
    ],
)  # fmt: skip
def test_a_mistake_in_what_was_typed(shell: Shell, words: tuple[str, ...], text: str) -> None:
    shell.history()
    answer = shell(*words)
    assert answer.status == USAGE
    assert text in answer.err
    assert answer.out == ""


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    for words, text in ((["--version"], f"kwatch {__version__}\n"), (["--help"], "check-config"),
                        (["once", "--help"], "--patience")):  # fmt: skip
        with pytest.raises(SystemExit) as end:
            main(words)
        assert end.value.code == DONE
        assert text in capsys.readouterr().out


def test_every_verb_has_its_function(capsys: pytest.CaptureFixture[str]) -> None:
    for words, name in ACTS.items():
        assert callable(function(name))
        with pytest.raises(SystemExit):
            main([*words.split(), "--help"])
        assert f"usage: kwatch {words}" in capsys.readouterr().out


@pytest.mark.parametrize("words", [("status",), ("hosts",), ("show", "regression", "1")])
def test_listings_load_nothing_of_the_daemon(shell: Shell, words: tuple[str, ...]) -> None:
    shell.history()
    command = [sys.executable, "-X", "importtime", "-m", "kwatch", *words]
    for argv in ([*command, "--help"], [*command, "--config", str(shell.config)]):
        done = subprocess.run(
            argv, cwd=ROOT, capture_output=True, text=True, check=True, timeout=30
        )
        loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
        assert "kwatch.cli.parser" in loaded
        assert not loaded & {
            "asyncssh", "aiohttp", "aiohttp.web", "apscheduler", "kwatch.app", "kwatch.daemon",
        }  # fmt: skip
        assert not [name for name in loaded if name.startswith("kwatch.stages.")]


DOCUMENTED = [
    words[1:]
    for document in DOCUMENTS
    for words in (*commands(document), *inline_commands(document))
    if words[0] == "kwatch"
]
# These connect to hosts, or work until they are stopped: tests/lab runs them.
ELSEWHERE = {"run", "once", "hosts check", "hosts prove", "read-log"}


@pytest.mark.parametrize("words", DOCUMENTED, ids=" ".join)
def test_the_commands_of_the_documents_run(shell: Shell, words: list[str]) -> None:
    shell.history()
    parsed = make_parser().parse_args(words)
    if f"{parsed.verb} {parsed.action or ''}".strip() in ELSEWHERE:
        return
    if parsed.verb == "trees":
        run_git(shell.folder, "init", "-q", "--bare", "linux.git")
        words = [str(shell.folder / "linux.git") if "/" in word else word for word in words]
    if parsed.verb == "check-config":
        words = words[:1]
    answer = shell(*words)
    # What the document names need not be in this history.
    assert answer.status in {DONE, FAILED}
    assert answer.out or answer.err.startswith("kwatch: ")


def test_options_may_stand_before_the_verb(shell: Shell) -> None:
    shell.history()
    assert main(["--config", str(shell.config), "hosts"]) == DONE
    assert main(["hosts", "--config", str(shell.config), "list"]) == DONE
    assert main(["--verbose", "hosts", "--json", "list", "--config", str(shell.config)]) == DONE


def test_no_permission_is_no_traceback(shell: Shell) -> None:
    """As a user outside the group kwatch; for root, without its capabilities."""
    shell.history()
    shell.state.chmod(0)
    argv = [sys.executable, "-m", "kwatch", "status", "--config", str(shell.config)]
    if os.geteuid() == 0:
        argv = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search", *argv]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False, timeout=30)
    shell.state.chmod(0o755)
    assert done.returncode == FAILED
    assert done.stderr.startswith("kwatch: ")
    assert "permission denied: run this as root or as a member of the group" in done.stderr
    assert "Traceback" not in done.stderr


def test_as_a_program(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "kwatch", "status", "--config", tmp_path / "none"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert done.returncode == USAGE
    assert done.stderr.startswith("kwatch: ")
    assert str(tmp_path / "none") in done.stderr


# --- configuration --------------------------------------------------------------------------------


def test_a_good_configuration(shell: Shell) -> None:
    answer = shell("check-config")
    assert answer == Answer(
        status=DONE, out=f"{shell.config}: valid: 1 tree, 2 variants, 2 hosts\n", err=""
    )
    assert not shell.state.exists()
    # The file may be named without an option too.
    assert main(["check-config", str(shell.config)]) == DONE


def test_a_bad_configuration_is_told_whole(shell: Shell) -> None:
    text = GOOD.replace('variants = ["cov", "control"]', 'variants = ["cove"]')
    shell.config.write_text(text.replace('budget = "1.5 GiB"', 'budget = "lots"'))
    for words in (("check-config",), ("status",), ("run",), ("once",)):
        answer = shell(*words)
        assert answer.status == USAGE
        assert "cove" in answer.err
        assert "lots" in answer.err
    assert not shell.state.exists()


@pytest.mark.parametrize("content", ["[lab\n", "\x00", "lab = 7\n", ""])
def test_what_is_no_configuration(shell: Shell, content: str) -> None:
    shell.config.write_text(content)
    answer = shell("check-config")
    assert (answer.status, answer.out) == (USAGE, "")
    assert str(shell.config) in answer.err


def test_a_configuration_that_is_not_there(shell: Shell) -> None:
    shell.config.unlink()
    assert shell("check-config").status == USAGE
    shell.config.mkdir()
    assert shell("check-config").status == USAGE


# --- the history ----------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [("status",), ("hosts",), ("series",), ("report",),
                                   ("show", "regression", "1")])  # fmt: skip
def test_before_the_first_run(shell: Shell, words: tuple[str, ...]) -> None:
    answer = shell(*words)
    assert answer.status == USAGE
    assert "has kwatch run with this file?" in answer.err
    assert not shell.state.exists()


def test_a_history_that_is_none(shell: Shell) -> None:
    shell.state.mkdir()
    (shell.state / "history.sqlite").write_bytes(b"no database at all" * 100)
    answer = shell("status")
    assert answer.status in {FAILED, USAGE}
    assert answer.err.startswith("kwatch: ")
    (shell.state / "history.sqlite").unlink()
    sqlite3.connect(shell.state / "history.sqlite").close()
    answer = shell("status")
    assert answer.status in {FAILED, USAGE}
    assert answer.err.startswith("kwatch: ")


def headings(text: str) -> list[list[str]]:
    """The words of each line of headings."""
    return [line.split() for line in text.splitlines() if re.fullmatch(r"[A-Z/]{2}[A-Z /]*", line)]


def test_status_is_tables_with_headings(shell: Shell) -> None:
    shell.history()
    answer = shell("status")
    assert (answer.status, answer.err) == (DONE, "")
    tags = ["TAG", "VARIANT", "RESULT", "REACHED", "FINDING"]
    assert headings(answer.out) == [
        tags,
        ["NUMBER", "STATE", "TREE", "VARIANT", "LAST", "GOOD", "FIRST", "BAD", "SEEN", "IN",
         "INVESTIGATION", "GRADE", "FINDING"],
        ["STATE", "KIND", "KEY", "SUBJECT", "HOST", "LAST", "ERROR"],
        ["SOURCE", "ERROR"],
    ]  # fmt: skip
    lines = answer.out.splitlines()
    assert lines[0] == "linux-next"
    assert lines[1].split() == tags
    (regression,) = [line for line in lines if re.match("1 +confirmed", line)]
    assert regression.split()[2:4] == ["linux-next", "x86_64"]
    assert "next-20261119 (x86_64, x86_64-smp)" in regression
    assert "  likely  " in regression
    assert "tree:mainline  the git server does not answer" in lines
    assert "1 mail held: see 'kwatch report list'" in lines
    assert any(line.endswith("is not accepted: see 'kwatch series list'") for line in lines)
    assert lines[-1] == "The daemon is not running."
    assert isinstance(shell.json("status"), dict)


@pytest.mark.parametrize(
    ("words", "columns"),
    [
        (("hosts",), "NAME HEALTH BUILDS BOOTS MEMORY CACHE CHECKED REASON"),
        (("hosts", "list"), "NAME HEALTH BUILDS BOOTS MEMORY CACHE CHECKED REASON"),
        (("series",), "DIGEST NAME POSTED PATCHES ACCEPTED ORIGIN TITLE"),
        (("report",), "NUMBER STATE KIND TO SUBJECT"),
        (("report", "list"), "NUMBER STATE KIND TO SUBJECT"),
    ],
)
def test_every_listing_for_people_and_for_programs(
    shell: Shell, words: tuple[str, ...], columns: str
) -> None:
    shell.history()
    answer = shell(*words)
    assert (answer.status, answer.err) == (DONE, "")
    assert headings(answer.out) == [columns.split()]
    document = shell.json(*words)
    assert isinstance(document, list)
    assert len(document) == len(answer.out.splitlines()) - 1 > 0


def test_a_refused_recipient_is_shown(shell: Shell) -> None:
    shell.history()
    with sqlite3.connect(shell.state / "history.sqlite") as connection:
        connection.execute(
            "UPDATE recipient SET state = 'refused' WHERE address = 'linux-kernel@example.org'"
        )
    assert "linux-kernel@example.org (refused), author@example.org" in shell("report").out


def test_one_thing(shell: Shell) -> None:
    shell.history()
    regression = shell("show", "regression", "1")
    assert (regression.status, regression.err) == (DONE, "")
    assert regression.out.startswith("Regression 1: confirmed\n")
    document = shell.json("show", "regression", "1")
    assert re.search(rf"^  culprit +{document['commits'][0]}$", regression.out, re.MULTILINE)
    assert re.search(r"^  blame +series$", regression.out, re.MULTILINE)
    assert re.search(r"^  grade +likely$", regression.out, re.MULTILINE)
    assert document["grade"] == "likely"
    seen = r"^  seen in +next-20261119 \(x86_64, x86_64-smp\)$"
    assert re.search(seen, regression.out, re.MULTILINE)
    assert document["seen_in"] == [
        {"tree": "linux-next", "tag": "next-20261119", "variants": ["x86_64", "x86_64-smp"]}
    ]
    events = re.findall(r"^\d{4}-\d\d-\d\d [\d:]{8}Z  (\w+)", regression.out, re.MULTILINE)
    assert events == ["opened", "spread", "confirmed", "bisected"]
    assert re.search(r"^linux-next +x86_64-smp +next-20261119$", regression.out, re.MULTILINE)
    assert [one["kind"] for one in document["timeline"]] == events
    revision = shell("show", "revision", "linux-next", "next-20261119")
    assert revision.out.startswith("linux-next next-20261119\n")
    (found,) = shell.json("show", "revision", "linux-next", "next-20261119")
    for trial in found["trials"]:
        if trial["boot"]:
            assert trial["boot"][:12] in revision.out
            assert shell("show", "boot", trial["boot"][:12]).status == DONE
    mail = shell("report", "show", "1")
    assert mail.status == DONE
    assert isinstance(shell.json("report", "show", "1"), dict)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("show", "regression", "999"), "there is no regression 999: see 'kwatch status'"),
        (("show", "revision", "linux-next", "v0"), "there is no tag v0 in linux-next"),
        (("report", "show", "999"), "there is no mail 999: see 'kwatch report list'"),
    ],
)
def test_what_is_not_there(shell: Shell, words: tuple[str, ...], text: str) -> None:
    shell.history()
    answer = shell(*words)
    assert (answer.status, answer.out) == (FAILED, "")
    assert text in answer.err


def test_the_listings_change_nothing(shell: Shell) -> None:
    shell.history()
    before = (shell.state / "history.sqlite").read_bytes()
    with lock.hold(shell.state):
        for words in (("status",), ("series",), ("report",), ("show", "regression", "1")):
            assert shell(*words).status == DONE
    assert (shell.state / "history.sqlite").read_bytes() == before


def test_what_a_stranger_wrote_cannot_drive_the_terminal(shell: Shell) -> None:
    """Titles of patches, findings and mails come from outside."""
    shell.history()
    said = ""
    for words in (("status",), ("series",), ("report",), ("show", "regression", "1"),
                  ("report", "show", "1")):  # fmt: skip
        said += shell(*words).out
    assert [character for character in said if ord(character) < 32 and character != "\n"] == []
    assert "\x7f" not in said
    assert "\x9b" not in said


@pytest.mark.parametrize("words", [("status",), ("report", "--json"), ("--help",)])
def test_who_has_read_enough(shell: Shell, words: tuple[str, ...]) -> None:
    """kwatch status | head -0"""
    shell.history()
    reading, writing = os.pipe()
    os.close(reading)
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONUNBUFFERED"}
    options = [] if words == ("--help",) else ["--config", str(shell.config)]
    with os.fdopen(writing, "wb") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "kwatch", *words, *options],
            cwd=ROOT, env=environment, stdout=closed, stderr=subprocess.PIPE, text=True,
            check=False, timeout=30,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (DONE, "")


# --- orders ---------------------------------------------------------------------------------------


def test_an_order_is_carried_out_here_where_no_daemon_runs(shell: Shell) -> None:
    answer = shell("look", "tree:next")
    assert (answer.status, answer.out) == (DONE, "looking at tree:next\n")
    connection = connect(shell.state / "history.sqlite", read_only=True)
    rows = connection.execute("SELECT kind, key, state FROM job WHERE kind = 'watch'").fetchall()
    connection.close()
    assert [tuple(row) for row in rows] == [("watch", "next", "queued")]
    refused = shell("look", "tree:nxet")
    assert refused.status == FAILED
    assert "'tree:nxet' is not watched; sources: list:patches, tree:next" in refused.out


def test_an_order_needs_no_key(shell: Shell) -> None:
    """systemd gives credentials to the daemon, and none to a shell."""
    (shell.folder / "ssh-key").unlink()
    shell.config.write_text(GOOD.replace('"ssh-key"', '"credential:ssh-key"'))
    answer = shell("look", "tree:next")
    assert (answer.status, answer.out) == (DONE, "looking at tree:next\n"), answer.err


def test_a_series_is_accepted(shell: Shell) -> None:
    shell.history()
    connection = connect(shell.state / "history.sqlite", read_only=False)
    held = f"{'ab' * 32}"
    series = SERIES.__class__(
        name="llvm-cov", digest=held, title="a new version", origin="x@example.org", patches=1,
        accepted_by=None, posted_at=2e9,
    )  # fmt: skip
    with transaction(connection):
        series_store.put(connection, series, MBOX)
    connection.close()
    (line,) = [line for line in shell("series").out.splitlines() if line.startswith(held[:12])]
    assert "  no  " in line
    refused = shell("series", "accept", "ab")
    assert (refused.status, refused.out) == (FAILED, "'ab' is too short: give 6 digits or more\n")
    refused = shell("series", "accept", "f" * 12)
    assert refused.status == FAILED
    assert f"no single series starts with '{'f' * 12}'" in refused.out
    answer = shell("series", "accept", held[:12])
    assert (answer.status, answer.out) == (DONE, "accepted: a new version\n")
    (line,) = [line for line in shell("series").out.splitlines() if line.startswith(held[:12])]
    assert "by the command line" in line


def test_a_tag_is_tested_again(shell: Shell) -> None:
    shell.history()
    words = ("retest", "linux-next", "next-20261118")
    assert "boot: given up: no KVM on any host" in shell("status").out
    answer = shell(*words, "x86_64-plain")
    said = "linux-next next-20261118: 1 trial is tested again\n"
    assert (answer.status, answer.out) == (DONE, said)
    assert "given up" not in shell("status").out
    # It is under way now, the others get one more sample.
    answer = shell(*words)
    said = "linux-next next-20261118: 3 trials are tested again\n"
    assert (answer.status, answer.out) == (DONE, said)
    refused = shell(*words, "s390")
    assert refused.status == FAILED
    said = "nothing is planned for linux-next next-20261118 s390: see 'kwatch status'\n"
    assert refused.out == said


def test_an_order_while_somebody_else_has_the_state(shell: Shell) -> None:
    """The daemon is starting, or stopping: there is no socket, and it is not ours."""
    with lock.hold(shell.state):
        answer = shell("look", "tree:next")
    assert answer.status == USAGE
    assert f"in use by process {os.getpid()}" in answer.err


def test_a_socket_that_a_killed_daemon_left(shell: Shell) -> None:
    import socket

    shell.state.mkdir()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(shell.state / "control.sock"))
    assert shell("look", "list:patches").out == "looking at list:patches\n"


def test_a_mail_that_is_not_held(shell: Shell) -> None:
    shell.history()
    for number, text in (
        ("999", "no held mail has the number 999"), ("x", "'x' is not the number of a mail"),
    ):  # fmt: skip
        for action in ("release", "reject"):
            answer = shell("report", action, number)
            assert answer.status == FAILED
            assert text in answer.out


def test_a_held_mail_is_rejected(shell: Shell) -> None:
    shell.history()
    answer = shell("report", "reject", "2")
    assert (answer.status, answer.out) == (DONE, "mail 2 is rejected and is never sent\n")
    assert "rejected" in shell("report").out
    assert shell("report", "release", "2").status == FAILED


# --- seeding --------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["repository", "bundle"])
def test_a_tree_is_seeded(shell: Shell, form: str) -> None:
    source = shell.folder / "clone"
    source.mkdir()
    run_git(source, "init", "-q", "-b", "master")
    run_git(source, "commit", "-q", "--allow-empty", "-m", "one")
    commit = run_git(source, "rev-parse", "HEAD")
    if form == "bundle":
        run_git(source, "bundle", "create", "-q", "../all.bundle", "--all")
        source = shell.folder / "all.bundle"
    answer = shell("trees", "seed", "next", "--from", str(source))
    assert (answer.status, answer.out) == (DONE, f"next: seeded from {source}\n"), answer.err
    known = run_git(shell.state / "linux.git", "for-each-ref", "--format=%(objectname)")
    assert set(known.splitlines()) == {commit}
    (shell.folder / "rubbish").write_text("no bundle")
    answer = shell("trees", "seed", "next", "--from", str(shell.folder / "rubbish"))
    assert answer.status == FAILED
    assert "git fetch" in answer.err
