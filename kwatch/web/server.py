# SPDX-License-Identifier: GPL-2.0-or-later
"""The HTTP endpoint: read-only pages, metrics and JSON.

Only GET and HEAD, without authentication: any client that can connect can read everything, so the
default is loopback. Requests with an unknown name in the Host header are refused, against DNS
rebinding.
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
    READ_LIVE,
    READ_TAIL,
    Clock,
    ReadLive,
    ReadTail,
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
    read_tail: ReadTail,
    read_live: ReadLive,
    name: str,
    host_names: Collection[str] = (),
) -> web.Application:
    """The application, ready for an ``AppRunner``.

    ``name`` is the title of the pages. ``read_tail`` returns the end of a blob by digest and size
    in bytes, or raises InfraError if the blob is gone; ``read_live`` returns the end of the console
    of a running boot by its key, or None. Neither may write to the database. ``host_names`` are
    accepted in ``Host:`` besides ``localhost`` and IP addresses, for example that of a proxy.
    """
    names = frozenset(name.lower() for name in (*host_names, "localhost"))
    application = web.Application(
        middlewares=[_harden, _explain_errors, _guard(names), _validate_cache]
    )
    application[DATABASE] = database
    application[LIVENESS] = liveness
    application[CLOCK] = clock
    application[READ_TAIL] = read_tail
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
    """Read once, so that an update under way cannot mix old pages with a new style sheet."""
    style = (FOLDER / "static" / "style.css").read_bytes()

    async def serve(_request: web.Request) -> web.Response:
        return web.Response(body=style, content_type="text/css", charset="utf-8")

    return serve


@web.middleware
async def _harden(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Add the security headers to every response, errors included."""
    response = await handler(request)
    response.headers.update(HEADERS)
    response.headers.setdefault("Cache-Control", "no-cache")
    return response


@web.middleware
async def _explain_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every failure into a page, or into JSON below /api/; no details of internal errors."""
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
        message = str(error) or "the request took too long: use a smaller limit"
        log.warning("%s %s: %s", request.method, request.path, message)
        return _failure(request, 503, message)
    except Exception:
        log.exception("%s %s", request.method, request.path)
        return _failure(request, 500, "internal error; see the journal of the daemon")


def _failure(request: web.Request, status: int, message: str) -> web.Response:
    if request.path.startswith("/api/") or request.path in {"/healthz", "/readyz", "/metrics"}:
        return web.json_response({"error": message}, status=status)
    context = {"status": status, "message": message, "lab": request.app[NAME]}
    return aiohttp_jinja2.render_template("error.html", request, context, status=status)


def _guard(names: frozenset[str]) -> Middleware:
    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse unknown names. An IP address cannot be the subject of DNS rebinding."""
        if _is_known(request.headers.get("Host", ""), names):
            return await handler(request)
        raise web.HTTPMisdirectedRequest(
            text="unknown host name in Host: add it to host_names in [web] of the configuration"
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
    """Add an ETag over the body; 304 if the client already has it."""
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
