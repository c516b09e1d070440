# SPDX-License-Identifier: GPL-2.0-or-later
"""The sections of the configuration file, before names and files are resolved.

The description of a field completes the message "expected ..."; docs/configuration.md explains the
keys.
"""

from __future__ import annotations

import re
from datetime import date
from ipaddress import ip_address
from typing import Annotated, Literal
from urllib.parse import urlsplit

from email_validator import EmailNotValidError, validate_email
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from kwatch.config.quantity import duration, factor, share, size
from kwatch.domain.recipe.arch import ARCHES

UNREACHABLE_DOMAINS = ("test", "local", "localhost", "invalid", "localdomain", "lan", "internal")
CREDENTIAL = "credential:"
RESERVED_REFS = ("keep", "seed", "have", "head", "checkout", "probe")
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


def _busybox(written: object) -> object:
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


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Busybox(_Section):
    """The files of [lab] busybox by architecture; a plain path is for x86_64."""

    x86_64: FilePath = "/bin/busybox"
    arm64: FilePath | None = None


class Lab(_Section):
    """[lab]."""

    name: Name = "kwatch"
    owner: Address
    contact: Text = Field(description="a mail address or the address of a web page")
    state_directory: FilePath | None = None
    busybox: Annotated[Busybox, BeforeValidator(_busybox)] = Field(
        default=Busybox(), description='a path, or a table such as { arm64 = "busybox-arm64" }'
    )


class Schedule(_Section):
    """[schedule]."""

    tree_poll: Duration = 900.0
    list_poll: Duration = 600.0
    checkouts: Count = 1
    collections: Count = 1
    bisections: Share = 0.5


class Tree(_Section):
    """[[tree]]."""

    name: TreeName
    url: TreeUrl
    tags: tuple[TagPattern, ...] = Field(min_length=1, description="a list of tag patterns")
    variants: tuple[Name, ...] = Field(min_length=1, description="a list of names of variants")
    first: Count = 1
    poll: Duration | None = None
    mail_to: tuple[Address, ...] = Field(default=(), description="a list of mail addresses")


class MailingList(_Section):
    """[[list]]."""

    name: Name
    url: WebUrl
    address: Address
    since: Day | None = None
    poll: Duration | None = None


class Series(_Section):
    """[[series]]."""

    name: Name
    mailing_list: Name | None = Field(default=None, alias="list")
    titles: tuple[Text, ...] = Field(default=(), description="a list of patterns for titles")
    creates: tuple[Text, ...] = Field(default=(), description="a list of paths in the kernel")
    senders: tuple[Address, ...] = Field(default=(), description="a list of mail addresses")
    patches: tuple[FilePath, ...] = Field(default=(), description="a list of files, in order")
    mail_to: tuple[Address, ...] = Field(default=(), description="a list of mail addresses")


class Toolchain(_Section):
    """[[toolchain]]."""

    name: Name
    llvm_suffix: Annotated[
        str, _matching(r"(?:-\d{1,3})?"), Field(description='a suffix such as "-22", or ""')
    ] = ""
    compiler: Tool | None = None
    linker: Tool | None = None
    linker_objects: Tool | None = None
    labels: Labels = ()


class Kconfig(_Section):
    """[[kconfig]]."""

    name: Name
    base: KconfigBase
    fragments: tuple[FilePath, ...] = Field(default=(), description="a list of files, in order")


class Deadlines(_Section):
    """Deadlines of a [[profile]]."""

    kernel: Duration = 30.0
    init: Duration = 120.0
    tests: Duration = 900.0
    collect: Duration = 300.0
    power_off: Duration = 20.0
    total: Duration = 1200.0
    tcg_factor: Annotated[
        float, BeforeValidator(factor), Field(description="a number, 1 to 100")
    ] = 4.0


class Profile(_Section):
    """[[profile]]."""

    name: Name
    accelerator: Annotated[
        Literal["auto", "kvm", "tcg"], Field(description='"auto", "kvm" or "tcg"')
    ] = "auto"
    machine: QemuWord | None = None
    cpu: QemuWord | None = None
    memory: Annotated[
        Size, Field(ge=16 << 20, le=1 << 40, description='a size of 16 MiB or more, "1 GiB"')
    ] = 1 << 30
    cpus: Annotated[int, Field(ge=1, le=256, description="a number, 1 to 256")] = 1
    cmdline: KernelText = ""
    commands: tuple[Script, ...] = Field(default=(), description="a list of shell commands")
    command_timeout: Duration = 300.0
    counters: Annotated[Literal["keep", "reset"], Field(description='"keep" or "reset"')] = "keep"
    test_results: CaseUse = "record"
    sample_vcpus: Flag = True
    console_limit: Size = 64 << 20
    channel_limit: Size = 1 << 30
    dump_limit: Size | None = None
    deadlines: Deadlines = Field(
        default=Deadlines(), description='a table such as { init = "5 min" }'
    )
    labels: Labels = ()


class Variant(_Section):
    """[[variant]]."""

    name: Name
    arch: Arch = "x86_64"
    series: Name | None = None
    toolchain: Name
    kconfig: Name
    profile: Name


class HostSlots(_Section):
    """Slots of a [[host]]."""

    build: Slots = 0
    boot: Slots = 0


class Host(_Section):
    """[[host]]."""

    name: Name
    address: HostName | None = None
    port: SshPort = 22
    user: Name | None = None
    key_file: SecretFile | None = None
    agent: FilePath | None = None
    known_hosts: str | None = Field(
        default=None, description='the public key of the machine: "ssh-ed25519 AAAA..."'
    )
    jump: Name | None = None
    directory: FilePath = "kwatch"
    arch: Arch = "x86_64"
    slots: HostSlots = Field(description="a table such as { build = 1, boot = 2 }")
    emulates: tuple[Arch, ...] = Field(default=(), description="a list of architectures")
    accelerators: tuple[Accelerator, ...] = Field(
        default=("kvm",), min_length=1, description='a list of "kvm" and "tcg"'
    )
    labels: Labels = ()
    memory: Size | None = None


class Smtp(_Section):
    """[mail.smtp]."""

    host: HostName
    port: SshPort = 587
    security: Annotated[
        Literal["starttls", "tls", "plain"], Field(description='"starttls", "tls" or "plain"')
    ] = "starttls"
    name: Domain | None = None
    user: Text | None = None
    password_file: SecretFile | None = None
    timeout: Duration = 60.0


class Mail(_Section):
    """[mail]."""

    from_name: Text = "kwatch"
    from_address: Address
    message_id_domain: Domain | None = None
    never_mail: tuple[Text, ...] = Field(default=(), description="a list of address patterns")
    max_recipients: Count = 25
    archive: WebUrl | None = None
    regzbot: Flag = False
    release: Annotated[
        Literal["moderate", "automatic"], Field(description='"moderate" or "automatic"')
    ] = "moderate"
    smtp: Smtp = Field(description="a section [mail.smtp]")


class Web(_Section):
    """[web]."""

    host: HostName = "127.0.0.1"
    port: Port = 8417
    host_names: tuple[HostName, ...] = Field(default=(), description="a list of host names")
    url: WebUrl | None = None


class Blobs(_Section):
    """[blobs]."""

    budget: Size = 200 << 30
