# SPDX-License-Identifier: GPL-2.0-or-later
"""The verbs that print the history, read-only, whether the daemon runs or not."""

from __future__ import annotations

import json
import socket
import sys
from typing import TYPE_CHECKING

from kwatch.cli import details, tables
from kwatch.cli.follow import follow
from kwatch.config.files import Secrets
from kwatch.config.load import load
from kwatch.store.database import reading

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from pathlib import Path

    from kwatch.cli.tables import Listing


def status(words: argparse.Namespace) -> int:
    """``kwatch status``."""
    done = _print(words, tables.status)
    control = load(words.config, secrets=Secrets.UNUSED).state.control
    if not words.json and not _answers(control):
        print("\nThe daemon is not running.")
    return done


def boot(words: argparse.Namespace) -> int:
    """``kwatch show boot KEY [--follow]``."""
    if not words.follow:
        return _print(words, details.boot, words.key)
    settings = load(words.config, secrets=Secrets.UNUSED)
    with reading(settings.state.database) as connection:
        key = details.boot_key(connection, words.key)
    follow(settings.state, words.key, sys.stdout, key=key)
    return 0


def regression(words: argparse.Namespace) -> int:
    """``kwatch show regression NUMBER``."""
    return _print(words, details.regression, words.number)


def revision(words: argparse.Namespace) -> int:
    """``kwatch show revision TREE TAG``."""
    return _print(words, details.revision, words.tree, words.tag)


def hosts(words: argparse.Namespace) -> int:
    """``kwatch hosts list``."""
    return _print(words, tables.hosts)


def series(words: argparse.Namespace) -> int:
    """``kwatch series list``."""
    return _print(words, tables.series)


def reports(words: argparse.Namespace) -> int:
    """``kwatch report list``."""
    return _print(words, tables.mails)


def report(words: argparse.Namespace) -> int:
    """``kwatch report show NUMBER``."""
    return _print(words, details.mail, words.number)


def _print(words: argparse.Namespace, query: Callable[..., Listing], *arguments: str) -> int:
    settings = load(words.config, secrets=Secrets.UNUSED)
    with reading(settings.state.database) as connection:
        found = query(connection, *arguments)
    print(json.dumps(found.document, indent=2) if words.json else found.text)
    return 0


def _answers(control: Path) -> bool:
    """Whether a daemon listens on its control socket, as far as we may see."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(2.0)
        try:
            client.connect(str(control))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except OSError:
            return True
    return True
