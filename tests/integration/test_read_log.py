# SPDX-License-Identifier: GPL-2.0-or-later
"""``kwatch read-log`` as people and programs run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kwatch.cli.read_log import WHOLE, reader_of
from kwatch.domain.log.console import MAX_FINDINGS

ROOT = Path(__file__).parents[2]
CONSOLE = (
    "[    0.000000] Linux version 7.0.0-next\n"
    "[    1.000000] Run /init as init process\n"
    "[    1.100000] WARNING: CPU: 0 PID: 1 at fs/thing.c:42 thing_put+0x22/0x30\n"
    '[    1.200000] said "good bye" \\ \u00e9\n'
    "[    1.300000] kernel BUG at fs/thing.c:77!\n"
    "[    1.300000] RIP: 0010:thing_free+0x3/0x20\n"
)
FAULT = CONSOLE.replace(
    "kernel BUG at fs/thing.c:77!", "BUG: unable to handle page fault for address: dead"
)
BUILD = "fs/thing.c:42:1: error: no such type\nmake: *** [fs/thing.o] Error 1\n"


def read_log(*words: str, stdin: str | bytes = b"") -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "kwatch", "read-log", *words],
        input=stdin.encode() if isinstance(stdin, str) else stdin,
        cwd=ROOT, capture_output=True, check=False, timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    return subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
    )


def titles(findings: list[dict[str, object]]) -> list[object]:
    return [one["title"] for one in findings]


def test_people_get_a_line_for_each_finding(tmp_path: Path) -> None:
    log = tmp_path / "console"
    log.write_text(CONSOLE)
    done = read_log("--kind", "console", str(log))
    assert done.returncode == 0
    first, second, *reached = done.stdout.splitlines()
    assert first.startswith("warning ")
    assert first.endswith("WARNING in thing_put  fs/thing.c:42  line 3")
    assert "kernel BUG in thing_free" in second
    assert reached == [
        "reached: init",
        "last line: [    1.300000] RIP: 0010:thing_free+0x3/0x20",
    ]
    assert read_log("--kind", "console", stdin="all is well\n").stdout == (
        "no finding\nreached: nothing\nlast line: all is well\n"
    )
    assert read_log("--kind", "build", stdin="  CC a.o\n").stdout == "no finding\n"


def test_programs_get_json() -> None:
    found = json.loads(read_log("--kind", "build", "--json", stdin=BUILD).stdout)["findings"]
    errors = [one for one in found if one["severity"] == "error"]
    assert titles(errors) == ["fs/thing.c:42:1: error: no such type"]
    assert (errors[0]["file"], errors[0]["line"], errors[0]["type"]) == (
        "fs/thing.c",
        42,
        "compile",
    )
    assert len(str(errors[0]["fingerprint"])) == 16


def test_programs_are_told_how_far_a_machine_got_and_what_its_tests_gave() -> None:
    console = CONSOLE + "KTAP version 1\n1..3\nok 1 a\nnot ok 2 b\nok 3 c\n"
    answer = json.loads(read_log("--json", stdin=console).stdout)
    assert answer["progress"] == "tests"
    assert answer["tests"] == {"pass": 2, "fail": 1}
    assert answer["last_line"] == "ok 3 c"
    assert answer["left_out"] == 0


def test_what_matched_which_line_can_be_seen() -> None:
    shown = read_log("--explain", stdin=CONSOLE).stdout
    assert (
        "    rule: kernel BUG in {function}\n          5  kernel BUG at fs/thing.c:77!\n" in shown
    )
    shown = read_log("--kind", "build", "--explain", stdin=BUILD).stdout
    assert "    rule: compiler\n" in shown


def test_only_what_is_new_against_another_log_is_told(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text("a.c:1:1: warning: unused variable 'a'\n")
    new.write_text("a.c:9:1: warning: unused variable 'a'\nb.c:2:1: warning: unused 'b'\n")
    told = read_log("--kind", "build", "--against", str(old), str(new)).stdout
    assert len(told.splitlines()) == 1
    assert "unused 'b'" in told
    assert read_log("--kind", "build", "--against", str(old), str(old)).stdout == "no new finding\n"


def test_a_batch_is_answered_line_by_line() -> None:
    cases = [
        {"id": 1, "kind": "console", "log": CONSOLE},
        {"id": "two", "kind": "build", "log": BUILD},
        {"id": 3, "kind": "boot", "log": "\ud83d"},
    ]
    done = read_log("--jsonl", stdin="\n".join(json.dumps(case) for case in cases) + "\n\n")
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, done.stderr) == (0, "")
    assert [answer["id"] for answer in answers] == [1, "two", 3]
    assert titles(answers[0]["findings"]) == ["WARNING in thing_put", "kernel BUG in thing_free"]
    assert answers[2]["findings"] == []


@pytest.mark.parametrize("is_ascii", [True, False])
def test_a_log_of_any_length_is_read_in_pieces(*, is_ascii: bool) -> None:
    filler = "".join(
        f'[{number:12.6f}] "quoted" \\ back\\\\slashes \u00e9 \U0001f427 {"x" * (number % 7)}\n'
        for number in range(120_000)
    )
    case = {"id": "long", "kind": "console", "log": filler + CONSOLE}
    text = json.dumps(case, ensure_ascii=is_ascii)
    assert len(text) > WHOLE
    after = json.dumps({"id": "next", "kind": "console", "log": CONSOLE})
    done = read_log("--jsonl", stdin=f"{text}\n{after}\n")
    assert done.returncode == 0, done.stderr
    long, short = [json.loads(line) for line in done.stdout.splitlines()]
    assert long["id"] == "long"
    assert titles(long["findings"]) == titles(short["findings"])
    shift = filler.count("\n")
    assert [one["first_line"] - shift for one in long["findings"]] == [
        one["first_line"] for one in short["findings"]
    ]


def test_what_is_no_case_is_told_and_the_others_are_read() -> None:
    good = json.dumps({"id": 1, "kind": "console", "log": CONSOLE})
    lines = ["{", "[]", '{"id": 1}', '{"id": 2, "kind": "console", "log": 3}', "\x00", good]
    done = read_log("--jsonl", stdin="\n".join(lines) + "\n")
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 1
    assert [line.split(": ")[1] for line in done.stderr.splitlines()] == [
        f"line {number}" for number in range(1, 6)
    ]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    done = read_log(str(tmp_path / "gone"))
    assert done.returncode == 2
    assert "cannot be read: No such file or directory" in done.stderr


def test_bytes_that_are_no_text_are_read_all_the_same() -> None:
    done = read_log(stdin=b"\xff\xfe\x00" * 1000 + b"\n" + CONSOLE.encode())
    assert done.returncode == 0
    assert "thing_free" in done.stdout


def test_an_image_with_debug_information_tells_file_and_line(tmp_path: Path) -> None:
    source = tmp_path / "kernel" / "thing.c"
    source.parent.mkdir()
    source.write_text(
        "int thing_free(int a)\n{\n\treturn a * 3;\n}\nint main(void) { return 0; }\n"
    )
    subprocess.run(["clang-22", "-g", "-o", "vmlinux", source], cwd=tmp_path, check=True)
    vmlinux = str(tmp_path / "vmlinux")
    told = read_log("--json", "--llvm=-22", "--vmlinux", vmlinux, stdin=CONSOLE).stdout
    found = {one["function"]: one for one in json.loads(told)["findings"]}
    # The kernel said the line of the one itself, and the other's is in the image.
    assert (found["thing_put"]["file"], found["thing_put"]["line"]) == ("fs/thing.c", 42)
    assert found["thing_free"]["file"] == "fs/thing.c"
    told = read_log("--json", "--llvm=-22", "--vmlinux", vmlinux, stdin=FAULT).stdout
    found = {one["function"]: one for one in json.loads(told)["findings"]}
    assert (found["thing_free"]["file"], found["thing_free"]["line"]) == ("kernel/thing.c", 2)


@pytest.mark.parametrize(
    ("words", "said"),
    [(("--vmlinux", "/nowhere"), "/nowhere cannot be read: No such file or directory"),
     (("--vmlinux", __file__, "--llvm=-99"), "check --llvm")],
)  # fmt: skip
def test_an_image_that_cannot_be_asked_is_said(words: tuple[str, ...], said: str) -> None:
    done = read_log(*words, stdin=FAULT)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


@pytest.mark.parametrize("kind", ["console", "build"])
def test_a_million_findings_are_counted(kind: str) -> None:
    lines = {
        "console": b"[    1.0] WARNING: CPU: 0 PID: 1 at fs/a.c:%d thing_%d+0x1/0x2\n",
        "build": b"fs/a.c:%d:1: error: use of undeclared identifier 'thing_%d'\n",
    }
    reader = reader_of(kind)
    for start in range(0, 1_000_000, 50_000):
        reader.feed(b"".join(lines[kind] % (n, n) for n in range(start, start + 50_000)))
    reading = reader.finish()
    assert len(reading.findings) + reading.left_out == 1_000_000
    assert len(reading.findings) <= MAX_FINDINGS


def test_a_log_of_a_gigabyte_takes_no_more_room_than_a_small_one() -> None:
    block = (CONSOLE + "[    2.000000] all is well on this line, as on so many\n" * 20_000).encode()
    with subprocess.Popen(
        [sys.executable, "-m", "kwatch", "read-log"],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        for _ in range((1 << 30) // len(block)):
            process.stdin.write(block)
        process.stdin.flush()
        status = Path(f"/proc/{process.pid}/status").read_text()
        process.stdin.close()
        said = process.stdout.read().decode()
    peak = int(status.partition("VmHWM:")[2].split()[0]) * 1024
    assert peak < 120 * 1_000_000
    assert process.returncode == 0
    assert said.startswith("warning ")
    assert " times\n" in said
