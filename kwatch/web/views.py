# SPDX-License-Identifier: GPL-2.0-or-later
"""The HTML pages: each renders one snapshot of the history."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import aiohttp_jinja2
from aiohttp import web

from kwatch.domain.lab.job import JobKind
from kwatch.errors import InfraError
from kwatch.views import reading
from kwatch.web import parameters
from kwatch.web.health import is_alive
from kwatch.web.metrics import unready
from kwatch.web.ports import CLOCK, DATABASE, LIVENESS, NAME, READ_LIVE, READ_TAIL
from kwatch.web.rendering import TAIL_BYTES, tail

if TYPE_CHECKING:
    from collections.abc import Mapping

ROUTES = web.RouteTableDef()

# Bytes of a kernel configuration that are served; a whole one has some 200,000.
CONFIG_LIMIT = 4 << 20


@ROUTES.get("/")
async def overview(request: web.Request) -> web.Response:
    """The overview of the lab."""
    front = await request.app[DATABASE].read(reading.front)
    now, liveness = request.app[CLOCK](), request.app[LIVENESS]()
    return _page(
        request,
        "overview.html",
        front=front,
        liveness=liveness,
        is_alive=is_alive(liveness, now=now),
        reasons=await unready(request),
    )


@ROUTES.get(r"/regression/{number:[0-9]{1,9}}")
async def regression(request: web.Request) -> web.Response:
    """A regression: timeline, trials, mails."""
    number = parameters.path_number(request)
    story = await request.app[DATABASE].read(reading.regression_story, number)
    if story is None:
        raise web.HTTPNotFound(text=f"there is no regression {number}")
    return _page(request, "regression.html", story=story, progress=reading.progress)


@ROUTES.get(r"/revision/{tree}/{tag:.+}")
async def revision(request: web.Request) -> web.Response:
    """A tag with all its trials."""
    tree, tag = parameters.path_text(request, "tree"), parameters.path_text(request, "tag")
    stories = await request.app[DATABASE].read(reading.revision_stories, tree, tag)
    if not stories:
        raise web.HTTPNotFound(text=f"there is no tag {tag} in {tree}")
    return _page(request, "revision.html", tree=tree, tag=tag, stories=stories)


@ROUTES.get(r"/boot/{key:[0-9a-f]{64}(?:@[0-9a-f]{1,64})?}")
async def boot(request: web.Request) -> web.Response:
    """A boot: result, coverage and the end of its console; the console only while it runs."""
    key = request.match_info["key"]
    live = await asyncio.to_thread(request.app[READ_LIVE], key)
    story = await request.app[DATABASE].read(reading.boot_story, key)
    if story is None and live is not None:
        host = await request.app[DATABASE].read(reading.runs_on, JobKind.BOOT, key)
        return _page(request, "live.html", key=key, console=tail(live), host=host)
    if story is None:
        raise web.HTTPNotFound(text="there is no boot with this key")
    console, problem = await _text(request, story.boot.artifacts, "console")
    return _page(request, "boot.html", story=story, console=console, problem=problem)


@ROUTES.get(r"/build/{key:[0-9a-f]{64}(?:@[0-9a-f]{1,64})?}")
async def build(request: web.Request) -> web.Response:
    """A build: dropped options and the end of its log."""
    story = await request.app[DATABASE].read(reading.build_story, request.match_info["key"])
    if story is None:
        raise web.HTTPNotFound(text="there is no build with this key")
    log, problem = await _text(request, story.build.artifacts, "log")
    return _page(request, "build.html", story=story, log=log, problem=problem)


@ROUTES.get(r"/build/{key:[0-9a-f]{64}(?:@[0-9a-f]{1,64})?}/config")
async def config(request: web.Request) -> web.Response:
    """The .config of a build, for the reproducer of a report."""
    story = await request.app[DATABASE].read(reading.build_story, request.match_info["key"])
    digest = story.build.artifacts.get("config") if story else None
    if digest is None:
        raise web.HTTPNotFound(text="there is no build with this key, or it has no .config")
    try:
        content = await request.app[READ_TAIL](digest, CONFIG_LIMIT)
    except InfraError as error:
        raise web.HTTPNotFound(text=str(error)) from None
    return web.Response(body=content, content_type="text/plain", charset="utf-8")


def _page(request: web.Request, template: str, **context: Any) -> web.Response:  # noqa: ANN401
    context.update(lab=request.app[NAME], now=request.app[CLOCK]())
    return aiohttp_jinja2.render_template(template, request, context)


async def _text(
    request: web.Request, artifacts: Mapping[str, str], name: str
) -> tuple[str, str | None]:
    """The end of an artifact, or the reason why there is none."""
    digest = artifacts.get(name)
    if digest is None:
        return "", f"no {name} was stored"
    try:
        return tail(await request.app[READ_TAIL](digest, TAIL_BYTES + 1)), None
    except InfraError as error:
        return "", str(error)
