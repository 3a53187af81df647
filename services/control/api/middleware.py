"""What wraps every request: who is let in, a limit on its body, headers that keep browsers in bounds, its metrics. Plain ASGI."""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import Callable
from datetime import timedelta

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.control.api.context import origin_of
from services.control.api.errors import Respond
from services.control.api.rates import RateLimit
from services.control.errors import NotOurs, Refusal, TooLarge, TooManyAttempts, TooSlow
from services.control.metrics import ControlMetrics
from services.control.settings import HttpSettings
from services.control.throttle import network_of

_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# Bytes of strangers: should a browser ever show them, then without a script, a form or an origin.
_CSP_OF_FILES = "default-src 'none'; frame-ancestors 'none'; sandbox"
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",  # unless the route knows better
}
_OF_FILES = ("/media/", "/relays/")
# Asked for by devices and by monitoring, by whatever name and as often as there are devices behind an address.
FOR_MACHINES = (*_OF_FILES, "/static/", "/healthz", "/readyz", "/metrics", "/api/v1/revocation-list")
FOR_ANY_HOST = (*FOR_MACHINES, "/api/v1/enrolments")
_SLOWEST_BYTES_PER_S = 4_096  # a body may drip, but not for ever
_HOST_PORT = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:\d{1,5})?")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})  # anything may be sent
_HSTS = "max-age=31536000"


class BodyLimit:
    """Refuses bodies larger than their address may have: at once by Content-Length, else while they are read.

    And those that do not come: `wait` is for the next piece, and the whole has to keep up a least rate.
    """

    def __init__(self, app: ASGIApp, limit_of: Callable[[str], int], wait: timedelta, respond: Respond) -> None:
        self._app = app
        self._wait_s = wait.total_seconds()
        self._limit_of = limit_of
        self._respond = respond

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, its body counted."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._limit_of(scope["path"])
        request = Request(scope)
        declared = request.headers.get("content-length", "")
        error = TooLarge("body_too_large", facts={"limit": limit // 1024})
        if declared.isdecimal() and int(declared[:18]) > limit:
            # The rest of the body is not read: the connection ends with the answer.
            response = self._respond(request, error)
            response.headers["Connection"] = "close"
            await response(scope, receive, send)
            return
        seen, is_whole, began = 0, False, time.monotonic()

        async def counted() -> Message:
            nonlocal seen, is_whole
            if is_whole:
                return await receive()  # what comes now is the end of the connection, and that may take its time
            left = began + 4 * self._wait_s + seen / _SLOWEST_BYTES_PER_S - time.monotonic()
            try:
                async with asyncio.timeout(max(0.0, min(self._wait_s, left))):
                    message = await receive()
            except TimeoutError:
                raise TooSlow("body_too_slow") from None
            if message["type"] == "http.request":
                is_whole = not message.get("more_body", False)
                seen += len(message.get("body", b""))
                if seen > limit:
                    raise error
            return message

        await self._app(scope, counted, send)


class Door:
    """Lets in who asks for a name of ours and not too often; devices and monitoring are let through."""

    def __init__(self, app: ASGIApp, settings: HttpSettings, metrics: ControlMetrics, respond: Respond) -> None:
        self._app = app
        self._names = frozenset(settings.names)
        self._rates = RateLimit(settings.requests_per_minute)
        self._metrics = metrics
        self._respond = respond

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer for it."""
        refused = self._refused(Request(scope)) if scope["type"] == "http" else None
        if refused is None:
            await self._app(scope, receive, send)
        else:
            await self._respond(Request(scope), refused)(scope, receive, send)

    def _refused(self, request: Request) -> Refusal | None:
        path = request.url.path
        if path.startswith(FOR_MACHINES):
            return None
        if self._names and not path.startswith(FOR_ANY_HOST):
            host = _HOST_PORT.fullmatch(request.headers.get("host", "").lower())
            if host is None or host["name"] not in self._names:
                return NotOurs("host_not_served")
        wait = self._rates.wait(network_of(origin_of(request)), now=time.monotonic())
        if not wait:
            return None
        self._metrics.http_limited.labels("address").inc()
        return TooManyAttempts("too_many_requests", retry_after_s=math.ceil(wait))


class Envelope:
    """Adds headers to every answer and counts it by route, method and status."""

    def __init__(self, app: ASGIApp, *, is_https: bool, metrics: ControlMetrics, respond: Respond) -> None:
        self._app = app
        self._respond = respond
        self._is_https = is_https
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and note how it went."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 0

        async def enveloped(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                is_of_file = scope["path"].startswith(_OF_FILES)
                headers.setdefault("Content-Security-Policy", _CSP_OF_FILES if is_of_file else _CSP)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                if self._is_https:
                    headers.setdefault("Strict-Transport-Security", _HSTS)
            await send(message)

        try:
            await self._app(scope, receive, enveloped)
        except Exception as error:
            if status:
                raise  # the answer has begun: all that is left is to break the connection
            await self._respond(Request(scope), error)(scope, receive, enveloped)
        finally:
            # The route's pattern, never the path: a label per id would be a label per device.
            route = getattr(scope.get("route"), "path", "unmatched")
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._metrics.http_requests.labels(method, route, status).inc()
            self._metrics.http_request_seconds.labels(method, route).observe(time.perf_counter() - started)
