# SPDX-License-Identifier: GPL-2.0-or-later
"""The verbs that give the daemon a command, or carry it out here if no daemon runs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from kwatch.cli.client import order
from kwatch.config.files import Secrets
from kwatch.config.load import load
from kwatch.domain.lab.command import Command, Verb

if TYPE_CHECKING:
    import argparse

SENDER = "the command line"


def look(words: argparse.Namespace) -> int:
    """``kwatch look SOURCE``."""
    return _order(words, Verb.LOOK, words.source)


def retest(words: argparse.Namespace) -> int:
    """``kwatch retest TREE TAG [VARIANT]``."""
    named = (words.tree, words.tag, words.variant)
    return _order(words, Verb.RETEST, " ".join(word for word in named if word))


def drain(words: argparse.Namespace) -> int:
    """``kwatch hosts drain HOST``."""
    return _order(words, Verb.DRAIN_HOST, words.host)


def resume(words: argparse.Namespace) -> int:
    """``kwatch hosts resume HOST``."""
    return _order(words, Verb.RESUME_HOST, words.host)


def accept(words: argparse.Namespace) -> int:
    """``kwatch series accept DIGEST``."""
    return _order(words, Verb.ACCEPT_SERIES, words.digest)


def release(words: argparse.Namespace) -> int:
    """``kwatch report release NUMBER``."""
    return _order(words, Verb.RELEASE_MAIL, words.number)


def reject(words: argparse.Namespace) -> int:
    """``kwatch report reject NUMBER``."""
    return _order(words, Verb.REJECT_MAIL, words.number)


def _order(words: argparse.Namespace, verb: Verb, argument: str) -> int:
    settings = load(words.config, secrets=Secrets.UNUSED)
    command = Command(sender=SENDER, verb=verb, argument=argument)
    is_done, answer = asyncio.run(order(settings, command))
    print(answer)
    return 0 if is_done else 1
