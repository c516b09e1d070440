# SPDX-License-Identifier: GPL-2.0-or-later
"""Build the settings from validated sections: resolve names, find and read files."""

from __future__ import annotations

import os
from datetime import UTC, datetime, time
from types import MappingProxyType
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from kwatch.adapters.smtp import Security, SmtpSettings
from kwatch.config.files import Files, Secrets
from kwatch.config.hosts import make_hosts
from kwatch.config.model import Blobs, Web
from kwatch.config.model import Schedule as ScheduleSection
from kwatch.config.problem import shown
from kwatch.config.settings import (
    Schedule,
    Settings,
    WatchedSeries,
    WebSettings,
)
from kwatch.domain.boot.care import BootCare, BootProfile
from kwatch.domain.boot.phase import Deadlines
from kwatch.domain.log.ktap import CaseUse
from kwatch.domain.mail.story import Correspondence, Release
from kwatch.domain.recipe.arch import ARCHES
from kwatch.domain.recipe.boot import Accelerator, BootRecipe, Counters
from kwatch.domain.recipe.build import BuildRecipe
from kwatch.domain.recipe.kconfig import Fragment, KconfigRecipe
from kwatch.domain.recipe.toolchain import Toolchain
from kwatch.domain.source.mailing_list import MailingList
from kwatch.domain.source.posting import SeriesRule
from kwatch.domain.source.revision import Tree
from kwatch.domain.trial.variant import Variant
from kwatch.state import StateDirectory

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from kwatch.config import model
    from kwatch.config.problem import ProblemList
    from kwatch.config.read import Document

MAX_SHOWN = 5
"""Reported bad lines of one kernel configuration."""

LONGEST_STATE_DIRECTORY = 107 - len("/control.sock")
"""Bytes; see unix(7)."""


def assemble(
    document: Document, folder: Path, problems: ProblemList, secrets: Secrets
) -> Settings | None:
    """The settings, or None if ``problems`` is not empty; adds problems with files and paths."""
    files = Files(folder, problems, secrets)
    kconfigs = {
        section.name: _kconfig(f"kconfig[{index}]", section, files, problems)
        for index, section in document.kconfigs
    }
    hosts = make_hosts(document.hosts, files)
    series = tuple(
        _series(f"series[{index}]", section, files) for index, section in document.series
    )
    state_directory = _state_directory(document.lab, files, problems)
    lab, mail = document.lab, document.mail
    busybox = _busybox(document, files)
    smtp = _smtp(mail, files) if mail else None
    if problems.problems or lab is None or mail is None or smtp is None:
        return None
    schedule = document.schedule or ScheduleSection()
    web = document.web or Web()
    return Settings(
        name=lab.name,
        state=StateDirectory(state_directory),
        owner=lab.owner,
        contact=lab.contact,
        schedule=_schedule(document, schedule),
        trees=tuple(_tree(section, files) for _, section in document.trees),
        lists=tuple(_mailing_list(section) for _, section in document.lists),
        series=series,
        variants=_variants(document, kconfigs),
        hosts=hosts,
        checkouts=schedule.checkouts,
        collections=schedule.collections,
        busybox=busybox,
        correspondence=_correspondence(lab, mail),
        smtp=smtp,
        web=_web(web),
        blobs_budget=(document.blobs or Blobs()).budget,
    )


def _web(section: Web) -> WebSettings:
    """The settings of [web]; the host name of ``url`` counts as one of ``host_names``."""
    public = urlsplit(section.url).hostname if section.url else None
    names = (*section.host_names, *([public] if public else []))
    return WebSettings(
        host=section.host,
        port=section.port,
        host_names=tuple(dict.fromkeys(name.lower() for name in names)),
        url=section.url,
    )


def _busybox(document: Document, files: Files) -> Mapping[str, Path]:
    """The busybox of each architecture that a variant uses."""
    written = document.lab.busybox.model_dump() if document.lab else {}
    wanted = {variant.arch for _, variant in document.variants}
    found = {arch: path for arch, path in written.items() if path and arch in wanted}
    return {arch: files.readable("lab.busybox", path) for arch, path in found.items()}


def _state_directory(lab: model.Lab | None, files: Files, problems: ProblemList) -> Path:
    if lab is not None and lab.state_directory is not None:
        path = files.path(lab.state_directory)
        length = len(os.fsencode(path))
        if length > LONGEST_STATE_DIRECTORY:
            expected = (
                f"a path of at most {LONGEST_STATE_DIRECTORY} bytes (unix(7): control.sock in it)"
            )
            problems.add("lab.state_directory", expected=expected, found=f"one of {length}")
        return path
    # systemd lists several with colons; the first is ours.
    given = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if lab is not None and not given:
        problems.add(
            "lab.state_directory",
            expected="the directory for the database and all results",
            found="nothing, and no $STATE_DIRECTORY from systemd",
            hint='such as state_directory = "/var/lib/kwatch"',
        )
    return files.path(given)


def _schedule(document: Document, section: model.Schedule) -> Schedule:
    return Schedule(
        tree_poll=MappingProxyType(
            {tree.name: tree.poll or section.tree_poll for _, tree in document.trees}
        ),
        list_poll=MappingProxyType(
            {one.name: one.poll or section.list_poll for _, one in document.lists}
        ),
        bisections=section.bisections,
    )


def _tree(section: model.Tree, files: Files) -> Tree:
    is_path = section.url.startswith((".", "/"))
    return Tree(
        name=section.name,
        url=str(files.path(section.url)) if is_path else section.url,
        tags=section.tags,
        variants=section.variants,
        first=section.first,
        base=section.base,
        mail_to=section.mail_to,
    )


def _mailing_list(section: model.MailingList) -> MailingList:
    return MailingList(
        name=section.name,
        url=section.url,
        address=section.address,
        since=datetime.combine(section.since, time(), UTC) if section.since else None,
    )


def _series(key: str, section: model.Series, files: Files) -> WatchedSeries:
    return WatchedSeries(
        rule=SeriesRule(
            name=section.name,
            titles=section.titles,
            files=section.creates,
            senders=frozenset(sender.lower() for sender in section.senders),
        ),
        list=section.mailing_list,
        files=tuple(
            files.readable(f"{key}.patches[{position}]", written)
            for position, written in enumerate(section.patches)
        ),
        mail_to=section.mail_to,
    )


def _kconfig(
    key: str, section: model.Kconfig, files: Files, problems: ProblemList
) -> KconfigRecipe:
    base: str | Fragment = section.base
    if "/" in section.base:
        base = Fragment(name=section.base, text=files.text(f"{key}.base", section.base))
    recipe = KconfigRecipe(
        base=base,
        fragments=tuple(
            Fragment(name=written, text=files.text(f"{key}.fragments[{position}]", written))
            for position, written in enumerate(section.fragments)
        ),
    )
    for bad in recipe.errors[:MAX_SHOWN]:
        problems.add(
            key,
            expected="lines as in a .config",
            found=f"{shown(bad.text)} in line {bad.line} of {bad.file}",
            hint=bad.reason,
        )
    return recipe


def _toolchain(section: model.Toolchain) -> Toolchain:
    linker = section.linker or f"ld.lld{section.llvm_suffix}"
    return Toolchain(
        name=section.name,
        llvm_suffix=section.llvm_suffix,
        compiler=section.compiler or f"clang{section.llvm_suffix}",
        linker_objects=section.linker_objects or linker,
        linker=linker,
    )


def _profile(section: model.Profile, arch: str) -> BootProfile:
    recipe = BootRecipe(
        arch=arch,
        accelerator=Accelerator(section.accelerator),
        machine=section.machine or ARCHES[arch].machine,
        cpu=section.cpu,
        memory_mib=section.memory >> 20,
        cpus=section.cpus,
        cmdline=section.cmdline,
        commands=section.commands,
        counters=Counters(section.counters),
        test_results=CaseUse(section.test_results),
    )
    care = BootCare(
        command_timeout=section.command_timeout,
        deadlines=Deadlines(
            kernel=section.deadlines.kernel,
            init=section.deadlines.init,
            tests=section.deadlines.tests,
            collect=section.deadlines.collect,
            power_off=section.deadlines.power_off,
            total=section.deadlines.total,
            tcg_factor=section.deadlines.tcg_factor,
        ),
        sample_vcpus=section.sample_vcpus,
        console_limit=section.console_limit,
        channel_limit=section.channel_limit,
        dump_limit=section.dump_limit or 0,
    )
    return BootProfile(recipe=recipe, care=care)


def _variants(document: Document, kconfigs: Mapping[str, KconfigRecipe]) -> Mapping[str, Variant]:
    toolchains = {section.name: _toolchain(section) for _, section in document.toolchains}
    labels = {section.name: frozenset(section.labels) for _, section in document.toolchains}
    profiles = {section.name: section for _, section in document.profiles}
    return MappingProxyType(
        {
            section.name: Variant(
                name=section.name,
                series=section.series,
                build=BuildRecipe(
                    arch=section.arch,
                    kconfig=kconfigs[section.kconfig],
                    toolchain=toolchains[section.toolchain],
                ),
                boot=_profile(profiles[section.profile], section.arch),
                build_labels=labels[section.toolchain],
                boot_labels=frozenset(profiles[section.profile].labels),
            )
            for _, section in document.variants
        }
    )


def _correspondence(lab: model.Lab, mail: model.Mail) -> Correspondence:
    return Correspondence(
        from_name=mail.from_name,
        from_address=mail.from_address,
        message_id_domain=_message_id_domain(mail),
        owner=lab.owner,
        never_mail=tuple(pattern.lower() for pattern in mail.never_mail),
        max_recipients=mail.max_recipients,
        archive=mail.archive,
        regzbot=mail.regzbot,
        release=Release(mail.release),
    )


def _message_id_domain(mail: model.Mail) -> str:
    return mail.message_id_domain or mail.from_address.rpartition("@")[2].lower()


def _smtp(mail: model.Mail, files: Files) -> SmtpSettings:
    section = mail.smtp
    password = ""
    if section.password_file is not None:
        password = files.password("mail.smtp.password_file", section.password_file)
    return SmtpSettings(
        host=section.host,
        port=section.port,
        security=Security(section.security),
        name=section.name or _message_id_domain(mail),
        timeout=section.timeout,
        user=section.user,
        password=password,
    )
