# SPDX-License-Identifier: GPL-2.0-or-later
"""The syntax of the command line, and which function carries out which verb.

Nothing of the daemon is imported here: each verb loads what it needs.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from kwatch import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

CONFIG = Path("/etc/kwatch/config.toml")

ACTS: Mapping[str, str] = {
    "run": "kwatch.cli.service:run",
    "once": "kwatch.cli.service:once",
    "check-config": "kwatch.cli.preparation:check_config",
    "status": "kwatch.cli.show:status",
    "show boot": "kwatch.cli.show:boot",
    "show regression": "kwatch.cli.show:regression",
    "show revision": "kwatch.cli.show:revision",
    "hosts list": "kwatch.cli.show:hosts",
    "hosts check": "kwatch.cli.hosts:check",
    "hosts drain": "kwatch.cli.orders:drain",
    "hosts resume": "kwatch.cli.orders:resume",
    "hosts prove": "kwatch.cli.hosts:prove",
    "series list": "kwatch.cli.show:series",
    "series accept": "kwatch.cli.orders:accept",
    "report list": "kwatch.cli.show:reports",
    "report show": "kwatch.cli.show:report",
    "report release": "kwatch.cli.orders:release",
    "report reject": "kwatch.cli.orders:reject",
    "retest": "kwatch.cli.orders:retest",
    "look": "kwatch.cli.orders:look",
    "trees seed": "kwatch.cli.preparation:seed",
    "read-log": "kwatch.cli.read_log:run",
}
"""Module and function by verb and action; the function takes the namespace."""


def act_of(words: argparse.Namespace) -> str:
    """The entry of ACTS for what was typed."""
    return ACTS[f"{words.verb} {words.action}" if words.action else words.verb]


def make_parser() -> argparse.ArgumentParser:
    """The parser. The namespace has ``verb`` and ``action`` (None for a verb without actions)."""
    parser = argparse.ArgumentParser(
        prog="kwatch",
        description="Test every tag of Linux kernel trees with Clang coverage and MC/DC, find the"
        " cause of regressions, and report them by mail.",
        epilog="'kwatch VERB --help' describes a verb.",
    )
    parser.add_argument("--version", action="version", version=f"kwatch {__version__}")
    _common(parser, config=CONFIG, verbose=False)
    parser.set_defaults(action=None, json=False)
    add = _adder(parser, "verb", required=True)
    _service(add)
    _history(add)
    _lab(add)
    log = add("read-log", "list the findings of a console or build log")
    log.description = READ_LOG
    _read_log(log)
    return parser


def _adder(
    parser: argparse.ArgumentParser, dest: str, *, required: bool
) -> Callable[[str, str], argparse.ArgumentParser]:
    """How to add verbs or actions to a parser: by name and help text."""
    group = parser.add_subparsers(
        dest=dest, metavar=dest.upper(), required=required, title=f"{dest}s"
    )

    def add(name: str, text: str) -> argparse.ArgumentParser:
        added = group.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        _common(added)
        return added

    return add


def _common(
    parser: argparse.ArgumentParser,
    *,
    config: object = argparse.SUPPRESS,
    verbose: object = argparse.SUPPRESS,
) -> None:
    """The options that may stand before and after a verb."""
    parser.add_argument(
        "--config", type=Path, default=config, metavar="FILE",
        help=f"the configuration file (default: {CONFIG})",
    )  # fmt: skip
    parser.add_argument(
        "--verbose", action="store_true", default=verbose, help="log debug messages"
    )


def _json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON")


def _service(add: Callable[[str, str], argparse.ArgumentParser]) -> None:
    add("run", "run the daemon")
    once = add("once", "look at every source once, and run all jobs that result")
    once.add_argument(
        "--patience", type=float, default=60.0, metavar="SECONDS",
        help="also run jobs that are postponed by up to this time (default: 60)",
    )  # fmt: skip
    check = add("check-config", "check a configuration file")
    check.add_argument(
        "file", type=Path, nargs="?", metavar="FILE", help="the file (default: that of --config)"
    )


def _history(add: Callable[[str, str], argparse.ArgumentParser]) -> None:
    _json(add("status", "show current state: tags, regressions, jobs"))
    show = _adder(
        add("show", "show details of a boot, regression or revision"), "action", required=True
    )
    boot = show("boot", "show how a boot ended, or follow its console")
    boot.add_argument("key", metavar="KEY", help="the first 6 characters or more of the boot's key")
    boot.add_argument("--follow", action="store_true", help="print the console until the boot ends")
    regression = show("regression", "show culprit, timeline and mails of a regression")
    regression.add_argument(
        "number", metavar="NUMBER", help="the number, as 'kwatch status' lists it"
    )
    revision = show("revision", "show all trials of a tag")
    revision.add_argument("tree", metavar="TREE", help="the name of the tree")
    revision.add_argument("tag", metavar="TAG", help="a tag of it that was tested")
    for one in (boot, regression, revision):
        _json(one)


def _lab(add: Callable[[str, str], argparse.ArgumentParser]) -> None:
    verb = add("hosts", "list hosts, check them, or change their state")
    hosts = _listed(verb, "list hosts with load and accelerators")
    check = hosts("check", "connect to hosts, check their tools, boot a tiny guest")
    check.add_argument("host", nargs="*", metavar="HOST", help="host names (default: all hosts)")
    drain = hosts("drain", "give a host no more work")
    resume = hosts("resume", "check a drained or quarantined host and give it work again")
    prove = hosts("prove", "boot guests that end in known ways, and compare the verdicts")
    prove.add_argument(
        "--kernel", type=Path, metavar="FILE",
        help="an image that boots (default: the newest that passed)",
    )  # fmt: skip
    for one in (drain, resume, prove):
        one.add_argument("host", metavar="HOST", help="the name of the host")
    series = _listed(
        add("series", "list postings of the watched series, or accept one"), "list all postings"
    )
    accept = series("accept", "accept a posting: its code will run on the hosts")
    accept.add_argument("digest", metavar="DIGEST", help="the first 6 characters or more")
    report = _listed(
        add("report", "list mails, show one, or release or reject one that is held"),
        "list the newest mails",
    )
    shown = report("show", "show a mail as it is sent")
    _json(shown)
    release = report("release", "send a mail that is held")
    reject = report("reject", "discard a mail that is held")
    for one in (shown, release, reject):
        one.add_argument("number", metavar="NUMBER", help="the number, as 'report list' shows it")
    look = add("look", "look at a tree or a list now")
    look.add_argument("source", metavar="SOURCE", help="tree:NAME or list:NAME")
    retest = add("retest", "test a tag again: what the lab failed at, or one more sample")
    retest.add_argument("tree", metavar="TREE", help="the name of the tree")
    retest.add_argument("tag", metavar="TAG")
    retest.add_argument("variant", metavar="VARIANT", nargs="?", help="in this variant only")
    trees = _adder(add("trees", "prepare the repository"), "action", required=True)
    seed = trees("seed", "fetch a tree's objects from a local repository or bundle first")
    seed.add_argument("tree", metavar="TREE", help="the name of the tree in the configuration")
    seed.add_argument(
        "--from", dest="source", type=Path, required=True, metavar="PATH",
        help="a repository, or a file made by git bundle",
    )  # fmt: skip


def _listed(
    verb: argparse.ArgumentParser, text: str
) -> Callable[[str, str], argparse.ArgumentParser]:
    """Actions of a verb of which ``list`` is the default."""
    _json(verb)
    actions = _adder(verb, "action", required=False)
    verb.set_defaults(action="list")
    _json(actions("list", f"{text} (default)"))
    return actions


READ_LOG = (
    "Read a console or build log and list its findings: kind, title, function, file, and a"
    " fingerprint that does not depend on tag, host or addresses."
)


def _read_log(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--kind", choices=("console", "build"), default="console",
        help="what wrote the log (default: console)",
    )  # fmt: skip
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print the findings as JSON")
    form.add_argument(
        "--jsonl", action="store_true",
        help="read lines of JSON with id, kind and log, print lines with id and findings",
    )  # fmt: skip
    form.add_argument("--explain", action="store_true", help="print which rule matched which line")
    parser.add_argument(
        "--against", metavar="OLDER", help="leave out findings of this older log of the same kind"
    )
    parser.add_argument(
        "--vmlinux", metavar="IMAGE",
        help="add file and line from the debug information of the kernel that wrote the console",
    )  # fmt: skip
    parser.add_argument(
        "--llvm", metavar="SUFFIX", default="",
        help="suffix of LLVM's tools such as -22, version 18 or newer (default: none)",
    )  # fmt: skip
    parser.add_argument("file", nargs="?", metavar="FILE", help="the log (default: standard input)")
