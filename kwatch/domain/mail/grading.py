# SPDX-License-Identifier: GPL-2.0-or-later
"""How sure a report is of the commit that it names.

Only the report stage calls this; the texts print what it returns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kwatch.domain.mail.story import CleanBuilds, Grade, Mark
from kwatch.domain.recipe.arch import ARCHES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kwatch.domain.mail.story import CommitInfo, Proof


def grade(
    culprit: CommitInfo, proof: Sequence[Proof], arch: str
) -> tuple[Grade, tuple[str, ...], CleanBuilds]:
    """The grade of ``culprit``, what speaks against it, and the counts of its clean builds.

    Verified is a commit that fails, and whose parents pass, when both are built from scratch.
    """
    clean = [one for one in proof if one.is_clean and not one.is_control]
    own = [one.mark for one in clean if one.commit == culprit.commit]
    parents = [one for one in clean if one.commit in culprit.parents]
    passing = {one.commit for one in parents if one.mark is Mark.GOOD}
    doubts = []
    if Mark.BAD not in own or Mark.GOOD in own:
        doubts.append("a clean build of this commit does not fail in the same way")
    if not culprit.parents or not passing.issuperset(culprit.parents):
        doubts.append("a clean build of its parent does not pass")
    if culprit.is_merge:
        doubts.append("it is a merge")
    if culprit.files and all(_is_foreign(path, arch) for path in culprit.files):
        doubts.append(f"it changes nothing that is compiled for {arch}")
    return (
        Grade.LIKELY if doubts else Grade.VERIFIED,
        tuple(doubts),
        CleanBuilds(
            failed=own.count(Mark.BAD),
            runs=len(own),
            parents_failed=sum(one.mark is Mark.BAD for one in parents),
            parents_runs=len(parents),
        ),
    )


def _is_foreign(path: str, arch: str) -> bool:
    if path.startswith("arch/"):
        # arch/Kconfig belongs to all.
        return path.count("/") > 1 and not path.startswith(f"arch/{ARCHES[arch].folder}/")
    return path.startswith("Documentation/")
