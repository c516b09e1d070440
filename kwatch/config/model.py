# SPDX-License-Identifier: GPL-2.0-or-later
"""The sections of the configuration file, before names and files are resolved.

docs/configuration.md explains the keys.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from kwatch.config.fields import (
    Accelerator,
    Address,
    Arch,
    BranchName,
    ByArchitecture,
    CaseUse,
    Count,
    Day,
    Domain,
    Duration,
    Factor,
    FilePath,
    Flag,
    HostName,
    KconfigBase,
    KernelText,
    Labels,
    LlvmSuffix,
    Name,
    Port,
    QemuWord,
    Script,
    SecretFile,
    Share,
    Size,
    Slots,
    SshPort,
    TagPattern,
    Text,
    Tool,
    TreeName,
    TreeUrl,
    WebUrl,
)


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
    busybox: Annotated[Busybox, ByArchitecture] = Field(
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
    base: BranchName | None = None
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
    llvm_suffix: LlvmSuffix = ""
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
    tcg_factor: Factor = 4.0


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
