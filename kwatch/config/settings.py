# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab as its operator described it: frozen values, nothing of the file's format left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kwatch.adapters.smtp import SmtpSettings
from kwatch.domain.lab.host import HostSpec
from kwatch.domain.mail.story import Correspondence
from kwatch.domain.recipe.variant import VariantSpec
from kwatch.domain.source.mailing_list import MailingList
from kwatch.domain.source.posting import SeriesRule
from kwatch.domain.source.revision import Tree
from kwatch.state import StateDirectory


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Seconds between two looks at each tree and each list, by name.

    ``bisections`` is the part of the slots that investigations have while tags wait.
    """

    tree_poll: Mapping[str, float]
    list_poll: Mapping[str, float]
    bisections: float

    @property
    def sources(self) -> Mapping[str, float]:
        """Both, under the names that people and the history use: ``tree:NAME``, ``list:NAME``."""
        return {
            **{f"tree:{name}": every for name, every in self.tree_poll.items()},
            **{f"list:{name}": every for name, every in self.list_poll.items()},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedSeries:
    """A series to test with: watched for on ``list``, or the operator's ``files``, in order."""

    rule: SeriesRule
    list: str | None
    files: tuple[Path, ...]
    mail_to: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSettings:
    """Address of the HTTP endpoint.

    ``host_names`` are accepted in the Host header besides localhost and IP addresses. ``url`` is
    the public URL, for links in mails.
    """

    host: str = "127.0.0.1"
    port: int = 8417
    host_names: tuple[str, ...] = ()
    url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """The labels that a host must have, by the name of the toolchain or boot profile.

    Where something is built or booted is no part of what it is, so they are no part of a variant:
    a label that moves makes nothing incomparable.
    """

    toolchains: Mapping[str, frozenset[str]]
    profiles: Mapping[str, frozenset[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All of the configuration. Paths are absolute, names refer to what is there.

    ``contact`` goes into the User-Agent. ``checkouts`` and ``collections`` are how many run at a
    time. ``correspondence`` has no recipients of trees and series yet: those stand at each tree
    and series as ``mail_to``. ``busybox`` has a file for each architecture. ``blobs_budget`` is
    in bytes.
    """

    name: str
    state: StateDirectory
    owner: str
    contact: str
    schedule: Schedule
    trees: tuple[Tree, ...]
    lists: tuple[MailingList, ...]
    series: tuple[WatchedSeries, ...]
    variants: Mapping[str, VariantSpec]
    hosts: tuple[HostSpec, ...]
    wishes: Wishes
    checkouts: int
    collections: int
    busybox: Mapping[str, Path]
    correspondence: Correspondence
    smtp: SmtpSettings
    web: WebSettings = field(default_factory=WebSettings)
    blobs_budget: int
