# SPDX-License-Identifier: GPL-2.0-or-later
"""The JSON API, as documented in docs/http-api.md; names are stable."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from aiohttp import web

from kwatch.domain.lab.job import JobState
from kwatch.domain.mail.story import MailState
from kwatch.domain.trial.route import Outcome
from kwatch.domain.verdict.regression import RegressionState
from kwatch.store import cursors, queue
from kwatch.store import hosts as host_store
from kwatch.store import regressions as regression_store
from kwatch.store import revisions as revision_store
from kwatch.store import series as series_store
from kwatch.views import outbox, overview, reading
from kwatch.views.counts import figures
from kwatch.web import documents
from kwatch.web.health import is_alive
from kwatch.web.metrics import unready
from kwatch.web.parameters import checked, choice, limit, path_number, path_text
from kwatch.web.ports import CLOCK, DATABASE, LIVENESS, NAME

if TYPE_CHECKING:
    from kwatch.store.database import Transaction

ROUTES = web.RouteTableDef()


@ROUTES.get("/api/v1/status")
async def status(request: web.Request) -> web.Response:
    """Health and counts."""
    checked(request)
    now, liveness = request.app[CLOCK](), request.app[LIVENESS]()
    reasons = await unready(request)
    counted = await request.app[DATABASE].read(figures)
    return web.json_response(
        {
            "name": request.app[NAME],
            "now": now,
            "started_at": liveness.started_at,
            "beat_at": liveness.beat,
            "alive": is_alive(liveness, now=now),
            "ready": not reasons,
            "reasons": reasons,
            **documents.counts(counted),
        }
    )


@ROUTES.get("/api/v1/trees")
async def trees(request: web.Request) -> web.Response:
    """Every tree with its newest tag and the result of the last look."""
    checked(request)

    def read(tx: Transaction) -> list[documents.Document]:
        sources = {source.name: source for source in cursors.sources(tx)}
        newest = {revision.tree: revision for _, revision in revision_store.newest(tx)}
        return [
            documents.tree(name, newest.get(name), sources.get(f"tree:{name}"))
            for name in overview.trees(tx)
        ]

    return web.json_response({"trees": await request.app[DATABASE].read(read)})


@ROUTES.get("/api/v1/revisions")
async def revisions(request: web.Request) -> web.Response:
    """The newest tags."""
    given = checked(request, "tree", "limit")
    found = await request.app[DATABASE].read(
        revision_store.newest_first, given.get("tree"), limit(given)
    )
    return web.json_response({"revisions": [documents.revision(item) for item in found]})


@ROUTES.get(r"/api/v1/boot/{key:[0-9a-f]{64}(?:@[0-9a-f]{1,64})?}")
async def boot(request: web.Request) -> web.Response:
    """A boot that has ended."""
    checked(request)
    story = await request.app[DATABASE].read(reading.boot_story, request.match_info["key"])
    if story is None:
        raise web.HTTPNotFound(text="there is no boot with this key that has ended")
    return web.json_response(documents.boot_story(story))


@ROUTES.get(r"/api/v1/revision/{tree}/{tag:.+}")
async def revision(request: web.Request) -> web.Response:
    """A tag at every commit that it pointed to, newest first."""
    checked(request)
    tree, tag = path_text(request, "tree"), path_text(request, "tag")
    stories = await request.app[DATABASE].read(reading.revision_stories, tree, tag)
    if not stories:
        raise web.HTTPNotFound(text=f"there is no tag {tag} in {tree}")
    return web.json_response(
        {"tree": tree, "tag": tag, "commits": [documents.revision_story(one) for one in stories]}
    )


@ROUTES.get("/api/v1/trials")
async def trials(request: web.Request) -> web.Response:
    """Trials, newest first."""
    given = checked(request, "tree", "commit", "variant", "outcome", "limit")
    read = partial(
        overview.trial_lines,
        tree=given.get("tree"),
        commit=given.get("commit"),
        variant=given.get("variant"),
        outcome=choice(Outcome, given, "outcome"),
        limit=limit(given),
    )
    found = await request.app[DATABASE].read(read)
    return web.json_response({"trials": [documents.trial(line) for line in found]})


@ROUTES.get("/api/v1/regressions")
async def regressions(request: web.Request) -> web.Response:
    """Regressions, newest first."""
    given = checked(request, "state", "tree", "limit")
    state, count = choice(RegressionState, given, "state"), limit(given)

    def read(tx: Transaction) -> list[documents.Document]:
        fitting = [
            regression
            for regression in regression_store.newest_first(tx)
            if state in {None, regression.state} and given.get("tree") in {None, regression.tree}
        ]
        return [documents.regression(reading.regression_line(tx, one)) for one in fitting[:count]]

    return web.json_response({"regressions": await request.app[DATABASE].read(read)})


@ROUTES.get(r"/api/v1/regression/{number:[0-9]{1,9}}")
async def regression(request: web.Request) -> web.Response:
    """A regression with timeline, investigations and mails."""
    checked(request)
    number = path_number(request)
    story = await request.app[DATABASE].read(reading.regression_story, number)
    if story is None:
        raise web.HTTPNotFound(text=f"there is no regression {number}")
    return web.json_response(documents.regression_story(story))


@ROUTES.get("/api/v1/mails")
async def mails(request: web.Request) -> web.Response:
    """The outbox, newest first, without the texts."""
    given = checked(request, "state", "thread", "limit")
    read = partial(
        outbox.mails,
        thread=given.get("thread"),
        state=choice(MailState, given, "state"),
        limit=limit(given),
    )
    found = await request.app[DATABASE].read(read)
    return web.json_response({"mails": [documents.mail(line) for line in found]})


@ROUTES.get(r"/api/v1/mail/{number:[0-9]{1,9}}")
async def mail(request: web.Request) -> web.Response:
    """A mail with its text."""
    checked(request)
    number = path_number(request)
    letter = await request.app[DATABASE].read(reading.letter, number)
    if letter is None:
        raise web.HTTPNotFound(text=f"there is no mail {number}")
    return web.json_response(documents.letter(letter))


@ROUTES.get("/api/v1/queue")
async def jobs(request: web.Request) -> web.Response:
    """Running and queued jobs, running ones first."""
    given = checked(request, "state", "limit")
    state, count = choice(JobState, given, "state"), limit(given)

    def read(tx: Transaction) -> list[documents.Document]:
        alive = tuple(job for job in queue.alive(tx) if state in {None, job.state})
        return [documents.job(line) for line in reading.job_lines(tx, alive[:count])]

    return web.json_response({"jobs": await request.app[DATABASE].read(read)})


@ROUTES.get("/api/v1/hosts")
async def hosts(request: web.Request) -> web.Response:
    """Hosts in their last known state."""
    checked(request)
    found = await request.app[DATABASE].read(host_store.seen)
    return web.json_response({"hosts": [documents.host(line) for line in found]})


@ROUTES.get("/api/v1/series")
async def series(request: web.Request) -> web.Response:
    """Every posting of every watched series, newest first."""
    checked(request)
    found = await request.app[DATABASE].read(series_store.newest_first)
    return web.json_response({"series": [documents.series(one) for one in found]})
