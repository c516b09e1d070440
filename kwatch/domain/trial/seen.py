# SPDX-License-Identifier: GPL-2.0-or-later
"""What a settled trial showed."""

from __future__ import annotations

from dataclasses import dataclass

from kwatch.domain.finding import Finding, fingerprint
from kwatch.domain.milestone import Milestone
from kwatch.domain.trial.route import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Outcome, milestone and findings. ``finding`` is what failed it, ``others`` everything else.

    ``environment`` are the tools of the build, empty where nothing was built, ``boot_environment``
    is what it was booted in, empty where nothing was booted. ``tries`` counts how often the lab
    gave up on it (INFRA). ``cases_run`` are the fingerprints of the test cases that passed or
    failed, whichever, and ``cases_failed`` those of the ones that failed.
    """

    outcome: Outcome
    milestone: Milestone
    finding: Finding | None = None
    others: tuple[Finding, ...] = ()
    environment: str = ""
    boot_environment: str = ""
    host: str = ""
    accelerator: str = ""
    tries: int = 0
    cases_run: frozenset[str] = frozenset()
    cases_failed: frozenset[str] = frozenset()

    @property
    def is_evidence(self) -> bool:
        """Whether it says anything about a kernel."""
        return self.outcome in (Outcome.PASS, Outcome.FAIL)

    @property
    def causes(self) -> frozenset[str]:
        """The fingerprints of what failed it, under all its titles."""
        return frozenset() if self.finding is None else fingerprints_of(self.finding)

    @property
    def fingerprints(self) -> frozenset[str]:
        """The fingerprints of all findings."""
        return self.causes.union(*map(fingerprints_of, self.others))


def fingerprints_of(finding: Finding) -> frozenset[str]:
    """The fingerprint of a finding and those of its alternative titles."""
    return frozenset(
        {finding.fingerprint, *(fingerprint(finding.kind, one) for one in finding.alternatives)}
    )
