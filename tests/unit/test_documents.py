# SPDX-License-Identifier: GPL-2.0-or-later
"""The documents name only what exists: commands, targets, files and each other."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest

from kwatch.cli.parser import ACTS, make_parser

PROJECT = Path(__file__).parents[2]
DOCUMENTS = sorted([PROJECT / "README.md", *(PROJECT / "docs").glob("*.md")])
SHELL_BLOCK = re.compile(r"^( *)```sh\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`((?:kwatch|make) [^`]+)`")
LINK = re.compile(r"\]\(([^)]+)\)")
SOURCE = re.compile(r"`((?:kwatch|tests|bench|configs|systemd|docs)/[\w./*-]+)`")
TARGET = re.compile(r"^([a-z-]+):", re.MULTILINE)
OTHERS = {"make olddefconfig"}  # the kernel's own
ASSIGNMENT = re.compile(r"[A-Z_]+=")


def commands(document: Path) -> list[list[str]]:
    """Each command of the document's shell blocks, as words."""
    found = []
    for indentation, block in SHELL_BLOCK.findall(document.read_text()):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix(indentation), comments=True)
            while words and ASSIGNMENT.match(words[0]):
                words = words[1:]
            if words:
                found.append(words)
    return found


def inline_commands(document: Path) -> list[list[str]]:
    """Each command of kwatch in a sentence, as words; not those that only name a verb."""
    text = SHELL_BLOCK.sub("", document.read_text())
    if document.name == "guest-protocol.md":
        return []  # lines of the protocol
    found = [shlex.split(phrase) for phrase in INLINE.findall(text)]
    return [words for words in found if words[0] == "kwatch" and not _is_name(words)]


def _is_name(words: list[str]) -> bool:
    phrase = " ".join(words[1:])
    return any(act == phrase or act.startswith(f"{phrase} ") for act in ACTS)


def targets() -> set[str]:
    return set(TARGET.findall((PROJECT / "Makefile").read_text()))


def identity(document: Path) -> str:
    return document.name


every_document = pytest.mark.parametrize("document", DOCUMENTS, ids=identity)


@every_document
def test_commands_of_kwatch_are_understood(document: Path) -> None:
    for words in commands(document):
        if words[0] == "kwatch":
            make_parser().parse_args(words[1:])
    for words in inline_commands(document):
        make_parser().parse_args(words[1:])


@every_document
def test_targets_of_make_exist(document: Path) -> None:
    for words in commands(document):
        if words[0] == "make":
            named = [word for word in words[1:] if "=" not in word]
            assert set(named) <= targets(), words


@every_document
def test_files_that_are_installed_exist(document: Path) -> None:
    for words in commands(document):
        if words[0] in {"install", "cp"} and "-d" not in words:
            *sources, _ = [word for word in words[1:] if re.match(r"[\w.]*[./\w]+$", word)]
            sources = [source for source in sources if not source.isdigit()]
            assert sources, words
            assert all((PROJECT / source).exists() for source in sources), words


@every_document
def test_what_is_named_in_a_sentence_exists(document: Path) -> None:
    text = SHELL_BLOCK.sub("", document.read_text())
    for phrase in INLINE.findall(text):
        program, first, *_ = phrase.split()
        if program == "make":
            assert phrase in OTHERS or first in targets(), phrase
    for path in SOURCE.findall(text):
        assert list(PROJECT.glob(path.rstrip("/"))), path


@every_document
def test_links_lead_somewhere(document: Path) -> None:
    for link in LINK.findall(document.read_text()):
        if not link.startswith(("http://", "https://", "#")):
            assert (document.parent / link.partition("#")[0]).exists(), link


def test_every_document_is_linked_from_the_readme() -> None:
    readme = (PROJECT / "README.md").read_text()
    for document in DOCUMENTS[1:]:
        assert f"(docs/{document.name})" in readme, document.name


def test_the_report_in_the_readme_is_a_real_one() -> None:
    readme = (PROJECT / "README.md").read_text()
    shown = re.search(
        r"<!-- report: (\S+) -->\n```text\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL
    )
    assert shown, "README.md shows no report"
    assert shown[2] == (PROJECT / shown[1]).read_text()


def test_every_target_is_in_the_help() -> None:
    makefile = (PROJECT / "Makefile").read_text()
    helped = set(re.findall(r"^([a-z-]+):.* ## ", makefile, re.MULTILINE))
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony
    assert set(phony[1].split()) == helped == targets()


def sentences() -> str:
    """Every text in kwatch's sources, a line each, with {} for what is filled in."""
    found = []
    for path in (PROJECT / "kwatch").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [
                    one.value if isinstance(one, ast.Constant) else "{}" for one in node.values
                ]
                found.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n".join(found)


def test_messages_that_are_explained_exist() -> None:
    text = (PROJECT / "docs" / "operations.md").read_text()
    _, _, table = text.partition("## Messages")
    known = sentences()
    explained = [
        part.strip(" :,")
        for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
        for message in re.findall(r"`([^`]+)`", row)
        for part in re.split(r"\.\.\.|\bN$", message)
        if part.strip(" :,s")
    ]
    assert len(explained) > 15
    assert [part for part in explained if part not in known] == []
