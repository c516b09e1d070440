# SPDX-License-Identifier: GPL-2.0-or-later
"""The types of the keys of the configuration file.

The description of a field completes the message "expected ...".
"""

from __future__ import annotations

import re
from datetime import date
from ipaddress import ip_address
from typing import Annotated, Literal
from urllib.parse import urlsplit

from email_validator import EmailNotValidError, validate_email
from pydantic import AfterValidator, BeforeValidator, Field

from kwatch.config.quantity import duration, factor, share, size
from kwatch.domain.recipe.arch import ARCHES

UNREACHABLE_DOMAINS = ("test", "local", "localhost", "invalid", "localdomain", "lan", "internal")
CREDENTIAL = "credential:"
RESERVED_REFS = ("keep", "seed", "have", "head", "checkout", "probe", "base")
"""Names below refs/kwatch that are not trees."""

_NAME = re.compile(r"[A-Za-z0-9]+(?:[._-]+[A-Za-z0-9]+)*")
_TREE_URL = re.compile(r"(?:https?|git|ssh|file)://[^\s\x00-\x1f]+|\.{0,2}/[^\x00-\x1f]+")
_TAG_PATTERN = re.compile(r"[A-Za-z0-9*?\[][^\s\x00-\x20~^:\\]*")
_DOMAIN = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]*[a-z0-9]")
_COMMAND = re.compile(r"[A-Za-z0-9_/][A-Za-z0-9_./+-]*")
_CREDENTIAL_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


def _matching(pattern: str | re.Pattern[str], *, longest: int = 4096) -> AfterValidator:
    compiled = re.compile(pattern)

    def check(text: str) -> str:
        if len(text) > longest or compiled.fullmatch(text) is None:
            raise ValueError
        return text

    return AfterValidator(check)


def _address(text: str) -> str:
    domain = text.rpartition("@")[2].lower().rstrip(".")
    if domain.rpartition(".")[2] in UNREACHABLE_DOMAINS:
        raise ValueError(
            f"mail servers take no address at {domain}: give one whose domain is in public use,"
            " or example.org for a laboratory"
        )
    try:
        found = validate_email(text, check_deliverability=False, allow_smtputf8=False)
    except EmailNotValidError as error:
        raise ValueError(str(error).rstrip(".")) from None
    return found.normalized


def _tree_name(name: str) -> str:
    if name in RESERVED_REFS or name.endswith(".lock"):
        raise ValueError("kwatch uses refs of this name itself: take another")
    return name


def _tree_url(text: str) -> str:
    if _TREE_URL.fullmatch(text) is None:
        raise ValueError("a path starts with /, ./ or ../, and SSH is written ssh://user@host/path")
    if not text.startswith((".", "/")) and urlsplit(text).password is not None:
        raise ValueError("the URL is shown in reports: use git's credential store for the password")
    return text


def _web_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or re.search(r"\s", text):
        raise ValueError
    if parts.port == 0:
        raise ValueError
    return text


def _host_name(text: str) -> str:
    try:
        ip_address(text)
    except ValueError:
        if re.fullmatch(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?", text) is None:
            raise ValueError from None
    return text


def _by_architecture(written: object) -> object:
    return {"x86_64": written} if isinstance(written, str) else written


def _secret_file(text: str) -> str:
    if text.startswith(CREDENTIAL) and not _CREDENTIAL_NAME.fullmatch(text[len(CREDENTIAL) :]):
        raise ValueError("the name of a credential has letters, digits, '.', '_' and '-'")
    return text


Text = Annotated[
    str, _matching(r"[^\x00-\x1f\x7f]*\S[^\x00-\x1f\x7f]*"), Field(description="a line of text")
]
Name = Annotated[
    str,
    _matching(_NAME, longest=64),
    Field(description="a name of letters, digits, '.', '_' and '-', 64 at most"),
]
TreeName = Annotated[
    Name,
    AfterValidator(_tree_name),
    Field(description="a name of letters, digits, '.', '_' and '-', 64 at most"),
]
FilePath = Annotated[
    str,
    _matching(r"[^\x00-\x1f]+"),
    Field(description="the path of a file, absolute or relative to this file"),
]
SecretFile = Annotated[
    str,
    _matching(r"[^\x00-\x1f]+"),
    AfterValidator(_secret_file),
    Field(description="the path of a file, or credential:NAME for systemd's LoadCredential="),
]
Address = Annotated[str, AfterValidator(_address), Field(description="a mail address")]
TreeUrl = Annotated[
    str,
    AfterValidator(_tree_url),
    Field(description="a git URL (https, http, git, ssh, file or a path)"),
]
WebUrl = Annotated[str, AfterValidator(_web_url), Field(description="a URL (https or http)")]
HostName = Annotated[
    str, AfterValidator(_host_name), Field(description="the name or IP address of a machine")
]
TagPattern = Annotated[
    str, _matching(_TAG_PATTERN), Field(description="a pattern for tags such as next-* or v6.*")
]
BranchName = Annotated[
    str,
    _matching(r"[A-Za-z0-9_]+(?:[./-][A-Za-z0-9_]+)*", longest=100),
    Field(description='the name of a branch such as "stable"'),
]
Domain = Annotated[
    str, _matching(_DOMAIN), Field(description="a domain in lower case such as kwatch.example.org")
]
Tool = Annotated[str, _matching(_COMMAND), Field(description="the name or path of a program")]
Port = Annotated[int, Field(ge=0, le=65535, description="a port number, 0 to 65535")]
SshPort = Annotated[int, Field(ge=1, le=65535, description="a port number, 1 to 65535")]
Count = Annotated[int, Field(ge=1, le=1000, description="a number, 1 to 1000")]
Slots = Annotated[int, Field(ge=0, le=1000, description="a number, 0 to 1000")]
Size = Annotated[
    int,
    BeforeValidator(size),
    Field(description='a size such as "200 GiB" or a number of bytes'),
]
Duration = Annotated[
    float,
    BeforeValidator(duration),
    Field(description='a time such as "15 min" or a number of seconds'),
]
Day = Annotated[date, Field(description="a day such as 2026-01-31, without quotes")]
Flag = Annotated[bool, Field(description="true or false")]
Arch = Annotated[
    str,
    _matching("|".join(ARCHES)),
    Field(description=" or ".join(f'"{name}"' for name in ARCHES)),
]
Accelerator = Annotated[Literal["kvm", "tcg"], Field(description='"kvm" or "tcg"')]
QemuWord = Annotated[
    str,
    _matching(r"[A-Za-z0-9_][A-Za-z0-9_.,=+-]*"),
    Field(description="a QEMU option value without blanks"),
]
KernelText = Annotated[
    str, _matching(r"[\x20-\x7e]{0,1024}"), Field(description="kernel parameters on one line")
]
Script = Annotated[str, _matching(r"[^\x00]*\S[^\x00]*"), Field(description="a shell command")]
CaseUse = Annotated[Literal["record", "judge"], Field(description='"record" or "judge"')]
KconfigBase = Annotated[
    str,
    _matching(r"[A-Za-z0-9_][A-Za-z0-9_.-]*config|[^\x00-\x1f]*/[^\x00-\x1f]+"),
    Field(description="a target such as x86_64_defconfig, or a file (then with a / in its path)"),
]
Share = Annotated[
    float, BeforeValidator(share), Field(description="a part of the whole, 0.05 to 1")
]
Labels = Annotated[tuple[Name, ...], Field(description="a list of labels")]
LlvmSuffix = Annotated[
    str, _matching(r"(?:-\d{1,3})?"), Field(description='a suffix such as "-22", or ""')
]
Factor = Annotated[float, BeforeValidator(factor), Field(description="a number, 1 to 100")]
ByArchitecture = BeforeValidator(_by_architecture)
"""A plain path is for x86_64."""
