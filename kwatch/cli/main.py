# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line. Exit status: 0 done, 1 failed, 2 usage or configuration."""

from __future__ import annotations

import importlib
import logging
import os
import sys
from typing import TYPE_CHECKING

from kwatch import journal
from kwatch.cli.parser import act_of, make_parser
from kwatch.errors import ConfigError, KwatchError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

DONE, FAILED, USAGE = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; return its exit status."""
    try:
        try:
            return _act(arguments)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # The reader (head, less) has enough: not an error. What is still buffered goes to
        # /dev/null, or the interpreter fails when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE


def _act(arguments: Sequence[str] | None) -> int:
    words = make_parser().parse_args(arguments)
    journal.start(logging.DEBUG if words.verbose else logging.INFO)
    try:
        return function(act_of(words))(words)
    except ConfigError as error:
        return _complain(str(error), USAGE)
    except KwatchError as error:
        return _complain(str(error), FAILED)
    except PermissionError as error:
        return _complain(
            f"{error.filename}: permission denied: run this as root or as a member of the group"
            " kwatch",
            FAILED,
        )
    except KeyboardInterrupt:
        return FAILED


def function(name: str) -> Callable[[argparse.Namespace], int]:
    """Import the function that an entry of ``ACTS`` names."""
    module, _, attribute = name.partition(":")
    found: Callable[[argparse.Namespace], int] = getattr(importlib.import_module(module), attribute)
    return found


def _complain(text: str, status: int) -> int:
    for line in text.splitlines():
        print(f"kwatch: {line}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
