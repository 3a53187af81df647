"""What wraps every request: a limit on its body, headers that keep browsers in bounds, and its metrics. Plain ASGI."""

from __future__ import annotations

import time
from collections.abc import Callable

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.control.api.errors import Respond
from services.control.errors import TooLarge
from services.control.metrics import ControlMetrics

_CSP = (
    "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'; "
    "script-src 'self'; style-src 'self'; img-src 'self' data:"
)
_HEADERS = {
    "Content-Security-Policy": _CSP,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})  # anything may be sent
_HSTS = "max-age=31536000"


class BodyLimit:
    """Refuses bodies larger than their address may have: at once by Content-Length, else while they are read."""

    def __init__(self, app: ASGIApp, limit_of: Callable[[str], int], respond: Respond) -> None:
        self._app = app
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
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            if message["type"] == "http.request":
                seen += len(message.get("body", b""))
                if seen > limit:
                    raise error
            return message

        await self._app(scope, counted, send)


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
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                if self._is_https:
                    headers.setdefault("Strict-Transport-Security", _HSTS)
                if scope["path"].startswith("/api/"):
                    headers.setdefault("Cache-Control", "no-store")
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
