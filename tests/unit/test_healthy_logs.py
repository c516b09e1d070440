# SPDX-License-Identifier: GPL-2.0-or-later
"""Logs of kernels that nothing is wrong with; see tests/corpus/README.md."""

from __future__ import annotations

import tarfile
from pathlib import Path

from kwatch.cli.read_log import reader_of
from kwatch.domain.finding import Severity

CORPUS = Path(__file__).parents[1] / "corpus"


def test_nothing_is_wrong_with_healthy_logs() -> None:
    names = []
    with tarfile.open(CORPUS / "healthy.tar.xz") as archive:
        for member in archive:
            log = archive.extractfile(member)
            assert log is not None
            reader = reader_of(member.name.rpartition(".")[2])
            reader.feed(log.read())
            wrong = [one for one in reader.finish().findings if one.severity is not Severity.INFO]
            assert wrong == [], member.name
            names.append(member.name)
    assert len(names) >= 300
