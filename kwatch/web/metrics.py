# SPDX-License-Identifier: GPL-2.0-or-later
"""Health checks, and metrics for Prometheus.

Labels are names from the configuration and enumerations only, never commits, keys or job numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder

from kwatch.domain.coverage.figures import Metric
from kwatch.domain.lab.host import Health
from kwatch.domain.lab.job import JobState
from kwatch.errors import InfraError
from kwatch.store import cursors
from kwatch.views.counts import figures, schema_is_current
from kwatch.web.health import is_alive, source_troubles
from kwatch.web.ports import CLOCK, DATABASE, LIVENESS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.metrics_core import Metric as Family

    from kwatch.store.cursors import Source
    from kwatch.store.database import Transaction
    from kwatch.views.counts import Figures
    from kwatch.web.health import Liveness

ROUTES = web.RouteTableDef()
FRESH = {"Cache-Control": "no-store"}


@ROUTES.get("/healthz")
async def healthz(request: web.Request) -> web.Response:
    """200 while the event loop and the worker run; does not touch the database."""
    now = request.app[CLOCK]()
    liveness = request.app[LIVENESS]()
    alive = is_alive(liveness, now=now)
    return web.json_response(
        {"alive": alive, "beat_age_seconds": round(max(now - liveness.beat, 0.0), 3)},
        status=200 if alive else 503,
        headers=FRESH,
    )


@ROUTES.get("/readyz")
async def readyz(request: web.Request) -> web.Response:
    """200 if the database has the current schema and no source is late or failing."""
    reasons = await unready(request)
    return web.json_response(
        {"ready": not reasons, "reasons": reasons}, status=503 if reasons else 200, headers=FRESH
    )


@ROUTES.get("/metrics")
async def metrics(request: web.Request) -> web.Response:
    """All metrics, in the format of the Accept header."""
    snapshot = _Snapshot(
        await request.app[DATABASE].read(figures),
        request.app[LIVENESS](),
        request.app[CLOCK](),
    )
    registry = CollectorRegistry()
    registry.register(snapshot)
    try:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    except (ValueError, TypeError):
        # A malformed version in the Accept header.
        encode, content_type = choose_encoder("")
    return web.Response(body=encode(registry), headers={**FRESH, "Content-Type": content_type})


async def unready(request: web.Request) -> list[str]:
    """Why the daemon is not ready, one sentence each."""
    now = request.app[CLOCK]()
    try:
        is_current, sources = await request.app[DATABASE].read(_readiness)
    except InfraError as error:
        return [str(error)]
    reasons = list(source_troubles(request.app[LIVENESS](), sources, now=now))
    if not is_current:
        reasons.insert(
            0, "the schema of the database is not that of this version: restart the daemon"
        )
    return reasons


def _readiness(tx: Transaction) -> tuple[bool, tuple[Source, ...]]:
    return schema_is_current(tx), cursors.sources(tx)


class _Snapshot:
    """A collector over figures read beforehand, since prometheus-client is synchronous."""

    def __init__(self, figures: Figures, liveness: Liveness, now: float) -> None:
        self._figures = figures
        self._liveness = liveness
        self._now = now

    def collect(self) -> Iterator[Family]:
        """All families."""
        yield from _daemon(self._liveness, self._now)
        yield from _work(self._figures)
        yield from _results(self._figures)
        yield from _surroundings(self._figures, self._now)


def _daemon(liveness: Liveness, now: float) -> Iterator[Family]:
    yield GaugeMetricFamily(
        "kwatch_start_time_seconds",
        "When the daemon started, in seconds since the epoch.",
        value=liveness.started_at,
    )
    yield GaugeMetricFamily(
        "kwatch_worker_beat_age_seconds",
        "Seconds since the worker last looked at its queue.",
        value=max(now - liveness.beat, 0.0),
    )


def _work(figures: Figures) -> Iterator[Family]:
    queue = GaugeMetricFamily(
        "kwatch_queue_jobs", "Jobs that are queued or running.", labels=["kind", "state"]
    )
    ended = CounterMetricFamily(
        "kwatch_jobs", "Jobs that ended, by how they did.", labels=["kind", "state"]
    )
    failed = CounterMetricFamily("kwatch_jobs_failed", "Jobs that were given up.", labels=["kind"])
    for (kind, state), count in sorted(figures.jobs.items()):
        if state in {JobState.QUEUED, JobState.RUNNING}:
            queue.add_metric([kind, state], count)
        else:
            ended.add_metric([kind, state], count)
        if state is JobState.DEAD:
            failed.add_metric([kind], count)
    yield from (queue, ended, failed)


def _results(figures: Figures) -> Iterator[Family]:
    trials = CounterMetricFamily("kwatch_trials", "Settled trials.", labels=["outcome"])
    for outcome, count in figures.trials.items():
        trials.add_metric([outcome], count)
    yield trials
    yield GaugeMetricFamily("kwatch_trials_pending", "Trials under way.", value=figures.pending)
    regressions = GaugeMetricFamily("kwatch_regressions", "Regressions.", labels=["state"])
    for regression_state, count in figures.regressions.items():
        regressions.add_metric([regression_state], count)
    yield regressions
    mails = GaugeMetricFamily("kwatch_mails", "Mails of the outbox.", labels=["state"])
    for mail_state, count in figures.mails.items():
        mails.add_metric([mail_state], count)
    yield mails
    coverage = GaugeMetricFamily(
        "kwatch_coverage_percent",
        "Coverage of the newest tag that has any.",
        labels=["tree", "variant", "metric"],
    )
    for (tree, variant), totals in sorted(figures.coverage.items()):
        for metric in Metric:
            share = getattr(totals, metric).percent
            if share is not None:
                coverage.add_metric([tree, variant, metric], share)
    yield coverage


def _surroundings(figures: Figures, now: float) -> Iterator[Family]:
    age = GaugeMetricFamily(
        "kwatch_source_last_look_age_seconds",
        "Seconds since a source was last looked at without an error.",
        labels=["source"],
    )
    failing = GaugeMetricFamily(
        "kwatch_source_failing", "Whether the newest look failed.", labels=["source"]
    )
    for source in figures.sources:
        if source.looked_at is not None:
            age.add_metric([source.name], max(now - source.looked_at, 0.0))
        failing.add_metric([source.name], float(source.error is not None))
    healthy = GaugeMetricFamily("kwatch_host_up", "Whether a host gets work.", labels=["host"])
    for host in figures.hosts:
        healthy.add_metric([host.name], float(host.state.health is Health.OK))
    yield from (age, failing, healthy)
    yield GaugeMetricFamily(
        "kwatch_blob_bytes", "Compressed bytes of blobs on disk.", value=figures.blob_bytes
    )
