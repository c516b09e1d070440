# SPDX-License-Identifier: GPL-2.0-or-later
"""The HTTP endpoint: shows the state, and changes nothing.

Commands go through the control socket; over TCP there is only GET. Whoever may connect may read
all of it, so the default is loopback, and a page of another site that a browser resolves to
loopback (DNS rebinding) is refused by its Host header.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp_jinja2
import jinja2
from aiohttp import ETag, web

from kwatch.errors import InfraError
from kwatch.web import api, metrics, views
from kwatch.web.ports import (
    CLOCK,
    DATABASE,
    LIVENESS,
    NAME,
    READ_BLOB,
    READ_LIVE,
    Clock,
    ReadBlob,
    ReadLive,
)
from kwatch.web.rendering import FILTERS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from aiohttp.typedefs import Handler, Middleware

    from kwatch.store.database import Database
    from kwatch.web.health import Liveness


log = logging.getLogger(__name__)

FOLDER = Path(__file__).parent
ANSWER_SECONDS = 30.0

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none';"
        " frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Server": "kwatch",
}


def make_application(
    *,
    database: Database,
    liveness: Callable[[], Liveness],
    clock: Clock,
    read_blob: ReadBlob,
    read_live: ReadLive,
    name: str,
    host_names: Collection[str] = (),
) -> web.Application:
    """The application, ready for an ``AppRunner``.

    ``name`` is the lab's, for the pages' titles. ``read_blob`` gives a blob by its digest, or
    raises InfraError where it is gone; ``read_live`` gives the end of the console of a boot that
    runs, by its key, or None. ``host_names`` are the names, beside ``localhost`` and
    every IP address, under which clients may reach the lab (that of a reverse proxy, say).
    """
    names = frozenset(name.lower() for name in (*host_names, "localhost"))
    application = web.Application(
        middlewares=[_harden, _explain_errors, _guard(names), _validate_cache]
    )
    application[DATABASE] = database
    application[LIVENESS] = liveness
    application[CLOCK] = clock
    application[READ_BLOB] = read_blob
    application[READ_LIVE] = read_live
    application[NAME] = name
    environment = aiohttp_jinja2.setup(
        application,
        loader=jinja2.FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(FILTERS)
    application.router.add_get("/static/style.css", _stylesheet())
    application.add_routes(views.ROUTES)
    application.add_routes(metrics.ROUTES)
    application.add_routes(api.ROUTES)
    return application


def _stylesheet() -> Handler:
    """Read once: the page must not change its looks while an update is being installed."""
    style = (FOLDER / "static" / "style.css").read_bytes()

    async def serve(_request: web.Request) -> web.Response:
        return web.Response(body=style, content_type="text/css", charset="utf-8")

    return serve


@web.middleware
async def _harden(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The headers of every answer, errors included."""
    response = await handler(request)
    response.headers.update(HEADERS)
    response.headers.setdefault("Cache-Control", "no-cache")
    return response


@web.middleware
async def _explain_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every failure as a page, or as JSON below /api/; our own as a bare sentence."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return await handler(request)
    except web.HTTPException as error:
        message = error.text or error.reason
        response = _failure(request, error.status, message)
        if isinstance(error, web.HTTPMethodNotAllowed):
            response.headers["Allow"] = ", ".join(sorted(error.allowed_methods))
        return response
    except (InfraError, TimeoutError) as error:
        message = str(error) or "this took too long: ask for less"
        log.warning("%s %s: %s", request.method, request.path, message)
        return _failure(request, 503, message)
    except Exception:
        log.exception("%s %s", request.method, request.path)
        return _failure(request, 500, "kwatch failed to answer; the journal says why")


def _failure(request: web.Request, status: int, message: str) -> web.Response:
    if request.path.startswith("/api/") or request.path in {"/healthz", "/readyz", "/metrics"}:
        return web.json_response({"error": message}, status=status)
    context = {"status": status, "message": message, "lab": request.app[NAME]}
    return aiohttp_jinja2.render_template("error.html", request, context, status=status)


def _guard(names: frozenset[str]) -> Middleware:
    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        """An address in the Host header is what was connected to; a name may be anybody's."""
        if _is_known(request.headers.get("Host", ""), names):
            return await handler(request)
        raise web.HTTPMisdirectedRequest(
            text="this lab is not known by that host name: add it to the configuration"
        )

    return guard


def _is_known(host: str, names: frozenset[str]) -> bool:
    bare, colon, port = host.rpartition(":")
    if not colon or not port.isdecimal():
        bare = host
    try:
        ipaddress.ip_address(bare.removeprefix("[").removesuffix("]"))
    except ValueError:
        return bare.lower() in names
    return True


@web.middleware
async def _validate_cache(request: web.Request, handler: Handler) -> web.StreamResponse:
    """An ETag over the body; 304 for a client that has it."""
    response = await handler(request)
    if (
        not isinstance(response, web.Response)
        or response.status != web.HTTPOk.status_code
        or response.headers.get("Cache-Control") == "no-store"
        or not isinstance(response.body, bytes)
    ):
        return response
    tag = hashlib.blake2b(response.body, digest_size=16).hexdigest()
    response.etag = ETag(value=tag, is_weak=False)
    known = request.if_none_match or ()
    if any(known_tag.value in {tag, "*"} for known_tag in known):
        return web.Response(status=web.HTTPNotModified.status_code, headers={"ETag": f'"{tag}"'})
    return response
