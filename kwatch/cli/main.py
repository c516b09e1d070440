# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line. Exit status: 0 done, 1 failed, 2 usage or configuration."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from kwatch import __version__, daemon, journal
from kwatch.adapters.git import Git
from kwatch.adapters.guest.accelerator import Accelerators
from kwatch.adapters.host.fitness import inspect, try_guests
from kwatch.adapters.host.host import Host
from kwatch.cli import client, read_log, tables
from kwatch.cli.follow import follow
from kwatch.cli.prove import accept
from kwatch.config.files import Secrets
from kwatch.config.load import load
from kwatch.domain.lab.command import Command, Verb
from kwatch.domain.text import printable
from kwatch.errors import ConfigError, KwatchError
from kwatch.store.database import reading

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kwatch.config.settings import Settings

DONE, FAILED, USAGE = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; its exit status."""
    try:
        try:
            return _act(arguments)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # Somebody read enough (head, less): that is no failure of ours. What is left to write
        # must have a place to go, or the interpreter fails at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE


def _act(arguments: Sequence[str] | None) -> int:
    words = _parser().parse_args(arguments)
    journal.start(logging.DEBUG if words.verbose else logging.INFO)
    try:
        act: Callable[[argparse.Namespace], int] = words.act
        return act(words)
    except ConfigError as error:
        print(f"kwatch: {error}", file=sys.stderr)
        return USAGE
    except KwatchError as error:
        print(f"kwatch: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kwatch",
        description="Watches kernel trees, tests every tag with Clang coverage and MC/DC, finds"
        " who is to blame, and mails one thread per problem.",
    )
    parser.add_argument("--version", action="version", version=f"kwatch {__version__}")
    parser.add_argument("--verbose", action="store_true", help="log more")
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    def verb(name: str, act: Callable[[argparse.Namespace], int], text: str) -> _Verb:
        added = verbs.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        added.set_defaults(act=act)
        return _Verb(added)

    verb("run", _run, "be the daemon").config()
    once = verb("once", _once, "look at every source once, and work until nothing is left to do")
    once.config().option(
        "--patience", type=float, default=60.0, metavar="SECONDS",
        help="wait for work that is put off by no more than this (default: 60)",
    )  # fmt: skip
    check = verb("check-config", _check_config, "tell every mistake in a configuration file")
    check.option("file", type=Path, nargs="?", metavar="FILE").config()
    verb("status", _status, "what the lab is at").config().json()
    show = verb("show", _show, "everything that is known of one thing")
    show.option("what", choices=sorted(tables.SHOWN)).option("name", nargs="+", metavar="NAME")
    show.option("--follow", action="store_true",
                help="of a boot: its console, while it runs and to its end")  # fmt: skip
    show.config().json()
    hosts = verb(
        "hosts", _hosts, "list hosts, look them over, take one out or back in, or prove one"
    )
    hosts.option("action", nargs="?", default="list",
                 choices=("list", "check", "drain", "resume", "accept"))  # fmt: skip
    hosts.option("name", nargs="?", help="the host to drain, resume or accept")
    hosts.option("--kernel", type=Path, metavar="FILE",
                 help="to accept a host with: an image that boots well")  # fmt: skip
    hosts.config().json()
    series = verb("series", _series, "list the series that were posted, or accept one")
    series.option("action", choices=("list", "accept"), nargs="?", default="list")
    series.option("digest", nargs="?").config().json()
    report = verb("report", _report, "list the mails, show one, or release one that is held")
    report.option("action", choices=("list", "show", "release"), nargs="?", default="list")
    report.option("number", nargs="?").config().json()
    look = verb("look", _look, "look at a tree or a list now")
    look.option("source", metavar="tree:NAME|list:NAME").config()
    reading_logs = verbs.add_parser(
        "read-log", help="tell what went wrong in a console or build log",
        description=read_log.DESCRIPTION,
    )  # fmt: skip
    read_log.add_options(reading_logs)
    reading_logs.set_defaults(act=read_log.run)
    trees = verb("trees", _trees, "seed a tree's first clone from a local repository or bundle")
    trees.option("action", choices=("seed",)).option("name", metavar="TREE")
    trees.option("--from", dest="source", type=Path, required=True, metavar="PATH").config()
    return parser


class _Verb:
    """Adds what many verbs share; each call gives the verb back."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._parser = parser

    def option(self, *names: str, **settings: object) -> _Verb:
        self._parser.add_argument(*names, **settings)  # type: ignore[arg-type]
        return self

    def config(self) -> _Verb:
        return self.option(
            "--config", type=Path, default=Path("/etc/kwatch/config.toml"), metavar="FILE",
            help="the configuration (default: /etc/kwatch/config.toml)",
        )  # fmt: skip

    def json(self) -> _Verb:
        return self.option("--json", action="store_true", help="print JSON, as the HTTP API does")


def _settings(words: argparse.Namespace) -> Settings:
    """The configuration for a verb that connects to nobody: keys and passwords are not read."""
    return load(words.config, secrets=Secrets.UNUSED)


def _run(words: argparse.Namespace) -> int:
    asyncio.run(daemon.run(load(words.config)))
    return DONE


def _once(words: argparse.Namespace) -> int:
    asyncio.run(daemon.once(load(words.config), patience=words.patience))
    return DONE


def _check_config(words: argparse.Namespace) -> int:
    settings = load(words.file or words.config, secrets=Secrets.UNUSED)
    print(
        f"{words.file or words.config}: good: {len(settings.trees)} trees,"
        f" {len(settings.variants)} variants, {len(settings.hosts)} hosts"
    )
    return DONE


def _status(words: argparse.Namespace) -> int:
    return _print(words, tables.status)


def _show(words: argparse.Namespace) -> int:
    needed = tables.NAMED_BY[words.what]
    if len(words.name) != len(needed):
        raise ConfigError(f"name a {words.what} by {' and '.join(needed)}")
    if words.follow:
        return _follow(words)
    return _print(words, tables.SHOWN[words.what], *words.name)


def _follow(words: argparse.Namespace) -> int:
    if words.what != "boot":
        raise ConfigError("only a boot can be followed")
    settings = _settings(words)
    with reading(settings.state.database) as connection:
        key = tables.boot_key(connection, words.name[0])
    follow(settings.state, words.name[0], sys.stdout, key=key)
    return DONE


def _hosts(words: argparse.Namespace) -> int:
    if words.action == "list":
        return _print(words, tables.hosts)
    if words.action == "drain":
        return _order(words, Verb.DRAIN_HOST, words.name, "the name of the host")
    if words.action == "resume":
        return _order(words, Verb.RESUME_HOST, words.name, "the name of the host")
    if words.action == "accept":
        return _accept(words)
    settings = load(words.config)
    troubles = asyncio.run(_check_hosts(settings))
    for host in settings.hosts:
        print(f"{host.name}: {troubles.get(host.name, 'ok')}")
    return FAILED if troubles else DONE


def _accept(words: argparse.Namespace) -> int:
    """Boot guests on a host that end in known ways, and keep what was proven."""
    if not words.name:
        raise ConfigError("name the host to accept")
    settings = load(words.config)
    say = partial(print, flush=True)
    orders = asyncio.run(accept(settings, words.name, words.kernel, say))
    is_done = bool(orders)
    for order in orders:
        is_kept, answer = asyncio.run(client.order(settings, order))
        is_done &= is_kept
        print(answer)
    if not orders:
        print(f"{words.name}: nothing is proven")
    return DONE if is_done else FAILED


async def _check_hosts(settings: Settings) -> dict[str, str]:
    """What is wrong with each host that does not answer, or is not fit for work."""
    troubles = {}
    for spec in settings.hosts:
        try:
            async with Host(spec) as host:
                reason = await inspect(host, now=time.time())
                reason = reason or await try_guests(host, Accelerators())
            if reason is not None:
                troubles[spec.name] = reason
        except KwatchError as error:
            troubles[spec.name] = str(error)
    return troubles


def _series(words: argparse.Namespace) -> int:
    if words.action == "list":
        return _print(words, tables.series)
    return _order(words, Verb.ACCEPT_SERIES, words.digest, "the digest of the series")


def _report(words: argparse.Namespace) -> int:
    if words.action == "list":
        return _print(words, tables.mails)
    if words.action == "show":
        return _print(words, tables.mail, words.number or "")
    return _order(words, Verb.RELEASE_MAIL, words.number, "the number of the mail")


def _look(words: argparse.Namespace) -> int:
    return _order(words, Verb.LOOK, words.source, "a source")


def _trees(words: argparse.Namespace) -> int:
    settings = _settings(words)
    if words.name not in {tree.name for tree in settings.trees}:
        raise ConfigError(f"{words.config}: there is no tree {words.name}")
    if not words.source.exists():
        raise ConfigError(f"{words.source} does not exist: name a repository or a bundle file")
    asyncio.run(_seed(settings, words.name, words.source.absolute()))
    return DONE


async def _seed(settings: Settings, tree: str, source: Path) -> None:
    git = Git(settings.state.git)
    await git.create()
    await git.fetch(str(source), [f"+refs/*:refs/kwatch/seed/{tree}/*"])
    print(f"{tree}: seeded from {source}")


def _order(words: argparse.Namespace, verb: Verb, argument: str | None, needed: str) -> int:
    """Give a command to the daemon, or carry it out here where none runs."""
    if not argument:
        raise ConfigError(f"name {needed}")
    settings = _settings(words)
    command = Command(sender="the command line", verb=verb, argument=argument)
    is_done, answer = asyncio.run(client.order(settings, command))
    print(answer)
    return DONE if is_done else FAILED


def _print(words: argparse.Namespace, query: Callable[..., tables.Listing], *arguments: str) -> int:
    """Read the history, without disturbing the daemon, and print what was asked."""
    settings = _settings(words)
    with reading(settings.state.database) as connection:
        found = query(connection, *arguments)
    if words.json:
        print(json.dumps(found.document, indent=2))
    else:
        # Titles, subjects and consoles are strangers' words: a terminal must not obey them.
        print(printable("\n".join(found.lines)))
    return DONE


if __name__ == "__main__":
    sys.exit(main())
