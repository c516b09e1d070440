# SPDX-License-Identifier: GPL-2.0-or-later
"""Read the configuration file into validated sections, and report all problems of form."""

from __future__ import annotations

import re
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from kwatch.config import model
from kwatch.config.problem import ProblemList, did_you_mean, shown

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pydantic_core import ErrorDetails

M = TypeVar("M", bound=BaseModel)
Entries = tuple[tuple[int, M], ...]

MAX_BYTES = 4 << 20

TABLES: Mapping[str, type[BaseModel]] = {
    "lab": model.Lab,
    "schedule": model.Schedule,
    "mail": model.Mail,
    "web": model.Web,
    "blobs": model.Blobs,
}
ARRAYS: Mapping[str, type[BaseModel]] = {
    "tree": model.Tree,
    "list": model.MailingList,
    "series": model.Series,
    "toolchain": model.Toolchain,
    "kconfig": model.Kconfig,
    "profile": model.Profile,
    "variant": model.Variant,
    "host": model.Host,
}
REQUIRED = ("lab", "mail", "tree", "variant", "host")

_POSITION = re.compile(r"(.*) \(at (line \d+, column \d+|end of document)\)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """The well-formed sections; entries of arrays have their index in the file.

    ``names`` includes the names of ill-formed entries, so that one problem is not reported twice.
    """

    lab: model.Lab | None
    schedule: model.Schedule | None
    mail: model.Mail | None
    web: model.Web | None
    blobs: model.Blobs | None
    trees: Entries[model.Tree]
    lists: Entries[model.MailingList]
    series: Entries[model.Series]
    toolchains: Entries[model.Toolchain]
    kconfigs: Entries[model.Kconfig]
    profiles: Entries[model.Profile]
    variants: Entries[model.Variant]
    hosts: Entries[model.Host]
    names: Mapping[str, tuple[tuple[int, str], ...]]


def read(path: Path, problems: ProblemList) -> Document | None:
    """The sections of the file at ``path``; None if it is not TOML."""
    raw = _toml(path, problems)
    if raw is None:
        return None
    names = {section: _names(raw.get(section)) for section in ARRAYS}
    for section, named in names.items():
        problems.names.update({f"{section}[{index}]": name for index, name in named})
    for section in raw:
        if section not in TABLES and section not in ARRAYS:
            problems.add(
                _key(section),
                expected="a known section",
                found=f"[{_key(section)}]",
                hint=did_you_mean(section, [*TABLES, *ARRAYS]),
            )
    for section in REQUIRED:
        if section not in raw or raw[section] == []:
            problems.add(section, expected=f"a section {_header(section)}", found="nothing")
    tables = {section: _table(raw, section, problems) for section in TABLES}
    arrays = {section: _array(raw, section, problems) for section in ARRAYS}
    return Document(
        lab=_as(model.Lab, tables["lab"]),
        schedule=_as(model.Schedule, tables["schedule"]),
        mail=_as(model.Mail, tables["mail"]),
        web=_as(model.Web, tables["web"]),
        blobs=_as(model.Blobs, tables["blobs"]),
        trees=_all(model.Tree, arrays["tree"]),
        lists=_all(model.MailingList, arrays["list"]),
        series=_all(model.Series, arrays["series"]),
        toolchains=_all(model.Toolchain, arrays["toolchain"]),
        kconfigs=_all(model.Kconfig, arrays["kconfig"]),
        profiles=_all(model.Profile, arrays["profile"]),
        variants=_all(model.Variant, arrays["variant"]),
        hosts=_all(model.Host, arrays["host"]),
        names=names,
    )


def fields_of(section: type[BaseModel]) -> Mapping[str, FieldInfo]:
    """The fields of a section by their TOML keys."""
    return {field.alias or name: field for name, field in section.model_fields.items()}


def _toml(path: Path, problems: ProblemList) -> dict[str, Any] | None:
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        problems.add("", expected="a file that can be read", found=reason)
        return None
    if len(data) > MAX_BYTES:
        problems.add("", expected=f"at most {MAX_BYTES} bytes", found="more")
        return None
    try:
        return tomllib.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        problems.add(f"line {line}", expected="UTF-8", found=f"the byte {data[error.start]:#04x}")
    except ValueError as error:
        at = _POSITION.fullmatch(str(error))
        text, where = (at[1], at[2]) if at else (str(error), "")
        text = text.splitlines()[0][:200]
        problems.add(where, expected="TOML", found=f"an error: {text}", hint=_toml_hint(text))
    except RecursionError:
        problems.add("", expected="TOML", found="values nested too deeply")
    return None


def _toml_hint(text: str) -> str:
    """What a message of tomllib means, where it is obscure."""
    if text == "Cannot overwrite a value" or re.fullmatch("Cannot declare .* twice", text):
        return (
            "a key or section occurs twice; sections that may repeat are all written [[like this]]"
        )
    return ""


def _table(raw: Mapping[str, Any], section: str, problems: ProblemList) -> BaseModel | None:
    value = raw.get(section, {})
    if section not in raw and section in REQUIRED:
        return None
    return _validated(TABLES[section], value, section, problems)


def _array(
    raw: Mapping[str, Any], section: str, problems: ProblemList
) -> tuple[tuple[int, BaseModel], ...]:
    value = raw.get(section, [])
    if not isinstance(value, list):
        problems.add(
            section, expected=f"sections [[{section}]], in double brackets", found=shown(value)
        )
        return ()
    validated = (
        (index, _validated(ARRAYS[section], entry, f"{section}[{index}]", problems))
        for index, entry in enumerate(value)
    )
    return tuple((index, entry) for index, entry in validated if entry is not None)


def _validated(
    section: type[BaseModel], value: object, where: str, problems: ProblemList
) -> BaseModel | None:
    if not isinstance(value, dict):
        problems.add(where, expected="a table", found=shown(value))
        return None
    try:
        return section.model_validate(_frozen(value))
    except ValidationError as error:
        details = error.errors(include_url=False)
        places = [detail["loc"][:-1] for detail in details]
        for detail in details:
            # A list with a bad entry is not reported as too short as well.
            if detail["type"] != "too_short" or detail["loc"] not in places:
                _report(section, detail, where, problems)
        return None


def _report(
    section: type[BaseModel], detail: ErrorDetails, where: str, problems: ProblemList
) -> None:
    """Add a problem for an error of pydantic."""
    place = detail["loc"]
    key = where + "".join(
        f"[{part}]" if isinstance(part, int) else f".{_key(part)}" for part in place
    )
    if detail["type"] == "extra_forbidden":
        *parents, word = place
        owner = _section_at(section, parents)
        problems.add(
            key,
            expected="a known key",
            found=_key(str(word)),
            hint=did_you_mean(str(word), list(fields_of(owner))),
        )
        return
    missing = detail["type"] == "missing"
    cause = detail.get("ctx", {}).get("error")
    problems.add(
        key,
        expected=_expected(section, place),
        found="nothing" if missing else shown(detail["input"]),
        hint=str(cause) if isinstance(cause, ValueError) else "",
    )


def _section_at(section: type[BaseModel], place: Sequence[int | str]) -> type[BaseModel]:
    for part in place:
        if isinstance(part, str):
            annotation = fields_of(section)[part].annotation
            if isinstance(annotation, type) and issubclass(annotation, BaseModel):
                section = annotation
    return section


def _expected(section: type[BaseModel], place: Sequence[int | str]) -> str:
    """The description of the field at ``place`` of a section."""
    keys = [part for part in place if isinstance(part, str)]
    if not keys:
        return "a table"
    field = fields_of(_section_at(section, keys[:-1]))[keys[-1]]
    if not isinstance(place[-1], int):
        return field.description or _described(field.annotation) or "another value"
    return _described(typing.get_args(field.annotation)[0]) or "another value"


def _described(annotation: object) -> str | None:
    """The description of a type, or of one of its alternatives."""
    if typing.get_origin(annotation) is typing.Annotated:
        fields = (one for one in typing.get_args(annotation) if isinstance(one, FieldInfo))
        return next((field.description for field in fields if field.description), None)
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        found = (_described(one) for one in typing.get_args(annotation))
        return next((description for description in found if description), None)
    return None


def _frozen(value: object) -> object:
    """The same with tuples for lists, as strict models require."""
    if isinstance(value, dict):
        return {key: _frozen(one) for key, one in value.items()}
    if isinstance(value, list):
        return tuple(_frozen(one) for one in value)
    return value


def _names(entries: object) -> tuple[tuple[int, str], ...]:
    if not isinstance(entries, list):
        return ()
    return tuple(
        (index, entry["name"])
        for index, entry in enumerate(entries)
        if isinstance(entry, dict) and isinstance(entry.get("name"), str)
    )


def _key(part: str) -> str:
    """A key in TOML syntax."""
    return part if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", part) else shown(part)


def _header(section: str) -> str:
    return f"[[{section}]]" if section in ARRAYS else f"[{section}]"


def _as(kind: type[M], value: BaseModel | None) -> M | None:
    return value if isinstance(value, kind) else None


def _all(kind: type[M], values: tuple[tuple[int, BaseModel], ...]) -> Entries[M]:
    return tuple((index, value) for index, value in values if isinstance(value, kind))
