# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks across sections of the configuration file."""

from __future__ import annotations

import base64
import binascii
import re
from ipaddress import ip_address
from typing import TYPE_CHECKING

from kwatch.config.problem import did_you_mean, shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kwatch.config import model
    from kwatch.config.problem import ProblemList
    from kwatch.config.read import Document

_KEY = re.compile(r"(?:\S+\s+)?((?:ssh|ecdsa|sk)-[a-z0-9@.-]+)\s+(\S+)(?:\s.*)?")


def check(document: Document, problems: ProblemList) -> None:
    """Add problems between sections, of those that are well-formed on their own."""
    for section, names in document.names.items():
        _unique(section, names, problems)
    _references(document, problems)
    for index, tree in document.trees:
        _each_once(f"tree[{index}].variants", tree.variants, problems)
    for index, series in document.series:
        _series_source(f"series[{index}]", series, problems)
    for index, host in document.hosts:
        _host(f"host[{index}]", host, [one for _, one in document.hosts], problems)
    _placement(document, problems)
    _guests(document, problems)
    if document.mail is not None:
        _smtp(document.mail.smtp, problems)


def _unique(section: str, names: Sequence[tuple[int, str]], problems: ProblemList) -> None:
    first: dict[str, int] = {}
    for index, name in names:
        # Names become directories and refs; file systems may ignore case.
        earlier = first.setdefault(name.casefold(), index)
        if earlier != index:
            problems.add(
                f"{section}[{index}].name",
                expected="a unique name",
                found=shown(name),
                hint=f"{section}[{earlier}] has this name",
            )


def _references(document: Document, problems: ProblemList) -> None:
    wanted: list[tuple[str, str, str | None]] = []
    for index, tree in document.trees:
        for position, name in enumerate(tree.variants):
            wanted.append((f"tree[{index}].variants[{position}]", "variant", name))
    for index, series in document.series:
        wanted.append((f"series[{index}].list", "list", series.mailing_list))
    for index, variant in document.variants:
        wanted += [
            (f"variant[{index}].series", "series", variant.series),
            (f"variant[{index}].toolchain", "toolchain", variant.toolchain),
            (f"variant[{index}].kconfig", "kconfig", variant.kconfig),
            (f"variant[{index}].profile", "profile", variant.profile),
        ]
    for key, section, wanted_name in wanted:
        known = [one for _, one in document.names[section]]
        if wanted_name is not None and wanted_name not in known:
            problems.add(
                key,
                expected=f"the name of a [[{section}]]",
                found=shown(wanted_name),
                hint=did_you_mean(wanted_name, known),
            )


def _each_once(key: str, names: Sequence[str], problems: ProblemList) -> None:
    doubles = sorted({name for name in names if names.count(name) > 1})
    if doubles:
        found = f"{', '.join(map(shown, doubles))} more than once"
        problems.add(key, expected="each name once", found=found)


def _series_source(key: str, series: model.Series, problems: ProblemList) -> None:
    if (series.mailing_list is None) == (not series.patches):
        problems.add(
            key,
            expected="either list (to watch for the series) or patches (local files)",
            found="both" if series.patches else "neither",
        )
    elif series.mailing_list is not None and not (series.titles or series.creates):
        problems.add(
            key,
            expected="titles or creates, to identify the series",
            found="neither",
            hint='such as creates = ["kernel/llvm-cov/fs.c"]',
        )
    elif series.patches:
        for name, value in (
            ("titles", series.titles), ("creates", series.creates), ("senders", series.senders),
        ):  # fmt: skip
            if value:
                problems.add(
                    f"{key}.{name}",
                    expected="no such key beside patches",
                    found=shown(value),
                    hint="it is for a series that comes from a list",
                )


def _host(key: str, host: model.Host, hosts: Sequence[model.Host], problems: ProblemList) -> None:
    is_gateway = any(one.jump == host.name for one in hosts)
    if not host.slots.build and not host.slots.boot and not is_gateway:
        problems.add(f"{key}.slots", expected="room for a build or a boot", found="none")
    logins: Mapping[str, str | None] = {
        "user": host.user, "key_file": host.key_file, "agent": host.agent,
        "known_hosts": host.known_hosts,
    }  # fmt: skip
    for name, value in logins.items():
        if host.address is None and value is not None:
            problems.add(
                f"{key}.{name}",
                expected="no such key without address",
                found=shown(value),
                hint="a host without address is this machine, without SSH",
            )
    if host.address is not None:
        if host.user is None:
            problems.add(f"{key}.user", expected="user to log in with", found="nothing")
        _pinned_keys(f"{key}.known_hosts", host, problems)
    gateways = {one.name for one in hosts if one.address and not one.jump} - {host.name}
    if host.jump is not None and (host.address is None or host.jump not in gateways):
        problems.add(
            f"{key}.jump",
            expected="the name of another host with an address and without a jump",
            found=shown(host.jump),
        )


def _pinned_keys(key: str, host: model.Host, problems: ProblemList) -> None:
    lines = [line.strip() for line in (host.known_hosts or "").splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    for line in lines or [""]:
        if not _is_public_key(line):
            problems.add(
                key,
                expected='the public key of the machine, "ssh-ed25519 AAAA..."',
                found=shown(line or None),
                hint=f"run ssh-keyscan -p {host.port} {host.address}, compare the fingerprint with"
                " the machine's own (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub)",
            )


def _is_public_key(line: str) -> bool:
    """Whether a line has a complete key whose type matches its data (RFC 4253, 6.6)."""
    found = _KEY.fullmatch(line)
    if found is None:
        return False
    try:
        blob = base64.b64decode(found[2], validate=True)
    except (binascii.Error, ValueError):
        return False
    parts = []
    while len(blob) >= 4:
        end = 4 + int.from_bytes(blob[:4], "big")
        if end > len(blob):
            return False
        parts.append(blob[4:end])
        blob = blob[end:]
    return len(parts) > 1 and not blob and parts[0] == found[1].encode()


def _placement(document: Document, problems: ProblemList) -> None:
    """Each variant needs a host that builds it and one that boots it."""
    if len(document.hosts) < len(document.names["host"]):
        return
    builders = [host for _, host in document.hosts if host.slots.build]
    booters = [host for _, host in document.hosts if host.slots.boot]
    for index, one in document.toolchains:
        _labels(f"toolchain[{index}].labels", one.labels, "build", builders, problems)
    for index, each in document.profiles:
        _labels(f"profile[{index}].labels", each.labels, "boot", booters, problems)
    toolchains = {one.name: one for _, one in document.toolchains}
    profiles = {one.name: one for _, one in document.profiles}
    for index, variant in document.variants:
        key = f"variant[{index}]"
        toolchain, profile = toolchains.get(variant.toolchain), profiles.get(variant.profile)
        if toolchain is not None:
            labels = _known(toolchain.labels, builders)
            if not any(labels <= {*one.labels} for one in builders):
                expected = f"a [[host]] with build slots{_labelled(labels)}"
                problems.add(key, expected=expected, found="none")
        if profile is not None:
            labels = _known(profile.labels, booters)
            fitting = [one for one in booters if _boots(one, variant.arch, profile, labels)]
            if not any(one.memory is None or profile.memory <= one.memory for one in fitting):
                needed = "" if profile.accelerator == "auto" else f" under {profile.accelerator}"
                memory = f" and {profile.memory >> 20} MiB of memory for its guests"
                problems.add(
                    key,
                    expected=f"a [[host]] with boot slots for {variant.arch}{needed}"
                    f"{_labelled(labels)}{memory if fitting else ''}",
                    found="none",
                    hint=f'another may have emulates = ["{variant.arch}"], for tcg',
                )


def _guests(document: Document, problems: ProblemList) -> None:
    """The guests of each variant need a busybox."""
    if document.lab is None:
        return
    files = document.lab.busybox.model_dump()
    for arch in sorted({variant.arch for _, variant in document.variants}):
        if files[arch] is None:
            problems.add(
                f"lab.busybox.{arch}",
                expected=f"the path of a static busybox for {arch}",
                found="none",
                hint="docs/configuration.md says where to get one",
            )


def _boots(host: model.Host, arch: str, profile: model.Profile, labels: set[str]) -> bool:
    if host.arch == arch:
        runs = profile.accelerator in {*host.accelerators, "auto"}
    else:
        runs = arch in host.emulates and profile.accelerator in {"tcg", "auto"}
    return runs and labels <= {*host.labels}


def _labels(
    key: str,
    labels: Sequence[str],
    slots: str,
    hosts: Sequence[model.Host],
    problems: ProblemList,
) -> None:
    """A label that no host has would block its jobs for ever."""
    known = sorted({label for host in hosts for label in host.labels})
    for position, label in enumerate(labels):
        if label not in known:
            problems.add(
                f"{key}[{position}]",
                expected=f"a label of a [[host]] with {slots} slots",
                found=shown(label),
                hint=did_you_mean(label, known),
            )


def _known(labels: Sequence[str], hosts: Sequence[model.Host]) -> set[str]:
    """The labels that some host has; unknown ones are reported by _labels()."""
    return {label for label in labels if any(label in host.labels for host in hosts)}


def _labelled(labels: set[str]) -> str:
    return f" labelled {', '.join(sorted(labels))}" if labels else ""


def _smtp(smtp: model.Smtp, problems: ProblemList) -> None:
    if (smtp.user is None) != (smtp.password_file is None):
        missing = "password_file" if smtp.password_file is None else "user"
        problems.add(
            f"mail.smtp.{missing}", expected="both user and password_file", found="one of them"
        )
    if smtp.user is not None and smtp.security == "plain" and not _is_loopback(smtp.host):
        problems.add(
            "mail.smtp.security",
            expected='"starttls" or "tls", since the password would be sent in clear',
            found='"plain"',
        )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
