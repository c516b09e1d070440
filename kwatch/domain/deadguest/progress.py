# SPDX-License-Identifier: GPL-2.0-or-later
"""Where on its way a kernel stopped, beside a boot that went well.

Counters tell which functions ran and not in which order. But most of what a kernel does on its way
up is done by functions that run once: such a function calls the others from its first line to its
last. In the last of them that was entered, or behind it, is where it ended.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kwatch.domain.deadguest.profile_counters import entered

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# A kernel begins in the first of these that it has, and goes on in a thread of its own.
ROOTS = ("x86_64_start_kernel", "start_kernel", "main.c:kernel_init")
DEEPEST = 100
# How sure it is that a function was entered: its own counter says so, something does that it calls
# in a good boot, nothing says anything, its own counter says no.
_SURE, _LIKELY, _UNKNOWN, _NOT = 2, 1, 0, -2


@dataclass(frozen=True, slots=True, kw_only=True)
class Whereabouts:
    """``entered`` is the last function that was entered, with its callers, outermost first.

    ``missing`` is what was to come next, in ``caller``. ``done`` of the ``once`` functions that run
    once in a good boot had run. Names are the profile's.
    """

    entered: tuple[str, ...]
    caller: str
    missing: str
    done: int
    once: int

    def __str__(self) -> str:
        """One line for a report."""
        *_, last = map(_name, self.entered)
        return (
            f"Boot progress from the coverage counters: last function reached {last}(), next"
            f" expected {_name(self.missing)}() (in {_name(self.caller)}()), {self.done} of"
            f" {self.once}."
        )


def once_only(before: Mapping[int, int]) -> list[int]:
    """The functions, by the hashes of their names, that a good boot entered once."""
    return [function for function, count in before.items() if count == 1]


def find(
    calls: Mapping[str, Sequence[str]], before: Mapping[int, int], now: Mapping[int, int]
) -> Whereabouts | None:
    """Where it stopped, or None where the counters do not tell.

    ``calls`` are the functions that each one calls, in the order of its code, for those that run
    once; ``before`` and ``now`` are the entries of a good boot and of this one.
    """
    search = _Search(calls, before, now)
    root = next((root for root in reversed(ROOTS) if search.evidence(root) > 0), None)
    if root is None:
        return None
    path = search.last_of(root)
    next_one = search.next_of(path)
    if next_one is None:
        return None
    once = [function for function in once_only(before) if function in now]
    return Whereabouts(
        entered=path,
        caller=next_one[0],
        missing=next_one[1],
        done=sum(now[function] > 0 for function in once),
        once=len(once),
    )


class _Search:
    """Looks at functions that run once, and at those that do not count but call such ones."""

    def __init__(
        self, calls: Mapping[str, Sequence[str]], before: Mapping[int, int], now: Mapping[int, int]
    ) -> None:
        self._calls = calls
        self._before = before
        self._now = now
        self._known: dict[str, int] = {}

    def evidence(self, function: str, depth: int = 0) -> int:
        """How sure it is that it was entered; more than 0 is for it."""
        if function not in self._known:
            # Whoever calls in a circle finds no proof there.
            self._known[function] = _UNKNOWN
            count = entered(self._now, function)
            if entered(self._before, function) == 1 and count is not None:
                self._known[function] = _SURE if count else _NOT
            elif depth < DEEPEST:
                callees = self._calls.get(function, ())
                if any(self.evidence(callee, depth + 1) > 0 for callee in callees):
                    self._known[function] = _LIKELY
        return self._known[function]

    def last_of(self, root: str) -> tuple[str, ...]:
        """The last function that was entered, from ``root`` on, with its callers."""
        path = [root]
        while len(path) < DEEPEST:
            callees = self._calls.get(path[-1], ())
            place = _last([self.evidence(callee) for callee in callees])
            if place is None or callees[place] in path:
                break
            path.append(callees[place])
        return tuple(path)

    def next_of(self, path: Sequence[str]) -> tuple[str, str] | None:
        """A function on ``path`` and what it calls behind the next one there, or calls first."""
        for caller, callee in zip(reversed(path), (None, *reversed(path)), strict=False):
            callees = self._calls.get(caller, ())
            start = 0 if callee is None else callees.index(callee) + 1
            for later in callees[start:]:
                if entered(self._before, later) == 1 and entered(self._now, later) == 0:
                    return caller, later
        return None


def _last(evidence: Sequence[int]) -> int | None:
    """The last place that was entered: the one that the least speaks against.

    Against it speaks what was not entered before it, and what was behind it. None: the first was
    not reached.
    """
    against = least = sum(one for one in evidence if one > 0)
    place = None
    for at, one in enumerate(evidence):
        against -= one
        if one > 0 and against <= least:
            least, place = against, at
    return place


def _name(function: str) -> str:
    """Without the file of a static function."""
    return function.rpartition(":")[2]
