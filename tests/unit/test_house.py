# SPDX-License-Identifier: GPL-2.0-or-later
"""The rules of the house, as far as a program can check them."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

PROJECT = Path(__file__).parents[2]
LICENCE = "SPDX-License-Identifier: GPL-2.0-or-later"
# Mails, recorded output and configurations of kernels have forms of their own.
SOURCE_SUFFIXES = {".py", ".sh", ".c", ".h", ".S", ".toml", ".config", ".service", ".conf", ".css"}
FOLDERS = ("kwatch", "tests", "bench", "configs", "systemd")
LONGEST_MODULE = 400
LONGER: dict[str, str] = {
    "kwatch/remote/elf.py": "one format, and all that is asked of a file in it",
    "kwatch/adapters/lore.py": "the one reader of an archive, from the manifest to the mail",
    "kwatch/store/migrations.py": "one table of statements, in the order they were made",
    "kwatch/remote/supervisor.py": "one file by design: it is uploaded to hosts as it is",
}
VAGUE = re.compile(r"(^|_)(util|utils|common|helper|helpers|misc)($|_)", re.IGNORECASE)
LEFT_TO_DO = re.compile(r"\b(TODO|FIXME|XXX)\b")
# A directive of KTAP.
NO_REMARK = re.compile(r"SKIP\|TODO|\"TODO\"|TODO and XFAIL|# TODO later")
SYSTEM = {"/bin", "/dev", "/etc", "/home", "/opt", "/root", "/run", "/srv", "/tmp", "/usr", "/var"}


def files() -> list[Path]:
    found = [PROJECT / "config.example.toml", PROJECT / "pyproject.toml", PROJECT / "Makefile"]
    found += [PROJECT / ".ci/run", PROJECT / ".ci/lock"]
    for folder in FOLDERS:
        found += [
            path
            for path in sorted((PROJECT / folder).rglob("*"))
            if path.is_file() and path.suffix in SOURCE_SUFFIXES
        ]
    return [path for path in found if "__pycache__" not in path.parts]


def named(path: Path) -> str:
    return str(path.relative_to(PROJECT))


@cache
def modules() -> dict[str, ast.Module]:
    """Every module of kwatch by its path."""
    return {
        named(path): ast.parse(path.read_text())
        for path in sorted((PROJECT / "kwatch").rglob("*.py"))
    }


def classes() -> list[tuple[str, ast.ClassDef]]:
    return [
        (path, node)
        for path, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    ]


def test_all_suites_can_be_collected_at_once() -> None:
    """As the long ones are, which nobody runs every day."""
    argv = [sys.executable, "-m", "pytest", "-qqq", "--collect-only", "tests"]
    done = subprocess.run(
        argv, cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:]


def test_every_source_file_says_its_licence() -> None:
    without = [
        named(path)
        for path in files()
        if path.stat().st_size
        and LICENCE not in "\n".join(path.read_text("utf-8", "replace").splitlines()[:2])
    ]
    assert without == []


def test_packages_are_empty() -> None:
    full = [
        path
        for path in modules()
        if path.endswith("__init__.py") and (PROJECT / path).stat().st_size
    ]
    assert full == ["kwatch/__init__.py"]


def test_a_module_says_what_it_is_for() -> None:
    silent = [
        path
        for path, tree in modules().items()
        if not path.endswith("__init__.py") and not ast.get_docstring(tree)
    ]
    assert silent == []


def test_a_module_is_short_or_has_a_reason() -> None:
    lengths = {path: len((PROJECT / path).read_text().splitlines()) for path in modules()}
    long = {path: lines for path, lines in lengths.items() if lines > LONGEST_MODULE}
    assert {path: long[path] for path in long.keys() - LONGER.keys()} == {}
    assert LONGER.keys() <= lengths.keys()


def test_names_say_what_a_thing_is() -> None:
    names = [Path(path).stem for path in modules()] + [node.name for _, node in classes()]
    vague = [name for name in names if VAGUE.search(name) or name.endswith("Manager")]
    assert vague == []


def test_only_exceptions_inherit_from_our_own() -> None:
    ours = {node.name for _, node in classes() if not node.name.endswith("Error")}
    heirs = [
        f"{path}: {node.name}"
        for path, node in classes()
        if path != "kwatch/config/model.py"  # pydantic knows no other way to share an option
        and ours & {ast.unparse(base).partition("[")[0] for base in node.bases}
    ]
    assert heirs == []


def places() -> set[str]:
    """What only a path of the machine that this was written on would contain."""
    top = "/" + PROJECT.parts[1]
    return {str(PROJECT)} | ({f"{top}/"} - {f"{known}/" for known in SYSTEM})


def test_nothing_is_left_behind() -> None:
    documents = [PROJECT / "README.md", *(PROJECT / "docs").glob("*.md")]
    found = []
    for path in [*files(), *documents]:
        if path == Path(__file__):
            continue
        for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), 1):
            if LEFT_TO_DO.search(NO_REMARK.sub("", line)) or any(
                place in line for place in places()
            ):
                found.append(f"{named(path)}:{number}: {line.strip()}")
    assert found == []


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_requirements_are_pinned_by_hash_and_name_no_place(name: str) -> None:
    text = (PROJECT / name).read_text()
    assert "://" not in text
    assert not re.search(r"^\s*-(?!-hash=sha256:[0-9a-f]{64})", text, re.MULTILINE)
    pinned = {
        match[1]: Version(match[2])
        for match in re.finditer(r"^([a-z0-9-]+)==(\S+) \\\n    --hash=", text, re.MULTILINE)
    }
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    wanted = project["project"]["dependencies"]
    if name == "requirements-dev.txt":
        wanted = wanted + project["dependency-groups"]["dev"]
    for requirement in map(Requirement, wanted):
        assert pinned[requirement.name] in requirement.specifier, requirement
