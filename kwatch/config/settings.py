# SPDX-License-Identifier: GPL-2.0-or-later
"""The configuration as frozen values, independent of the file format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kwatch.adapters.smtp import SmtpSettings
from kwatch.domain.lab.host import HostSpec
from kwatch.domain.mail.story import Correspondence
from kwatch.domain.source.mailing_list import MailingList
from kwatch.domain.source.posting import SeriesRule
from kwatch.domain.source.revision import Tree
from kwatch.domain.trial.variant import Variant
from kwatch.state import StateDirectory


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Polling periods of trees and lists in seconds, by name.

    ``bisections`` is the share of slots for investigations while tags are queued.
    """

    tree_poll: Mapping[str, float]
    list_poll: Mapping[str, float]
    bisections: float

    @property
    def sources(self) -> Mapping[str, float]:
        """All periods by source name: ``tree:NAME``, ``list:NAME``."""
        return {
            **{f"tree:{name}": every for name, every in self.tree_poll.items()},
            **{f"list:{name}": every for name, every in self.list_poll.items()},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedSeries:
    """A series to apply: watched for on ``list``, or local ``files`` in order."""

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
class Settings:
    """The whole configuration. Paths are absolute, names are resolved.

    ``contact`` is part of the User-Agent. ``checkouts`` and ``collections`` are the numbers of
    concurrent jobs. ``correspondence`` lacks the recipients of trees and series, see their
    ``mail_to``. ``busybox`` has a file for each architecture in use. ``blobs_budget`` is in bytes.
    """

    name: str
    state: StateDirectory
    owner: str
    contact: str
    schedule: Schedule
    trees: tuple[Tree, ...]
    lists: tuple[MailingList, ...]
    series: tuple[WatchedSeries, ...]
    variants: Mapping[str, Variant]
    hosts: tuple[HostSpec, ...]
    checkouts: int
    collections: int
    busybox: Mapping[str, Path]
    correspondence: Correspondence
    smtp: SmtpSettings
    web: WebSettings = field(default_factory=WebSettings)
    blobs_budget: int
