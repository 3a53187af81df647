"""Holds every answer that a test gets to the OpenAPI document: its status, its kind, its shape."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping

import jsonschema_rs
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.control.api.app import routed
from services.control.api.openapi import document


class NotAsDocumentedError(AssertionError):
    """An answer that the document does not have."""


class Conforming:
    """The application, with whoever asks told of an answer that is not as documented."""

    def __init__(self, app: FastAPI) -> None:
        self._app: ASGIApp = app
        self._routes = [route for route in app.routes if isinstance(route, APIRoute) and route.include_in_schema]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and look at what comes back."""
        begun: Message = {}
        body = bytearray()

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                begun.update(message)
            elif message["type"] == "http.response.body":
                body.extend(message.get("body", b""))
            await send(message)

        await self._app(scope, receive, noted)
        route = self._route_of(scope)
        if begun and route is not None:
            headers = {name.decode().lower(): value.decode("latin-1") for name, value in begun["headers"]}
            found = list(faults(scope["method"], route.path_format, begun["status"], headers, bytes(body)))
            if found:
                said = bytes(body[:500]).decode("utf-8", "replace")
                raise NotAsDocumentedError(
                    f"{scope['method']} {route.path_format} answered {begun['status']}: {'; '.join(found)}: {said}"
                )

    def _route_of(self, scope: Scope) -> APIRoute | None:
        """The documented route that the request was for, also where it was answered before it got there."""
        if scope["type"] != "http":
            return None
        return next((each for each in self._routes if each.matches(dict(scope))[0] is Match.FULL), None)


def faults(method: str, path: str, status: int, headers: Mapping[str, str], body: bytes) -> Iterator[str]:
    """What the document does not say of an answer."""
    whole = document(_app())
    documented = whole["paths"][path][method.lower()]["responses"].get(str(status))
    if documented is None:
        yield "the status is not documented"
        return
    if "$ref" in documented:
        documented = whole["components"]["responses"][documented["$ref"].rpartition("/")[2]]
    content = documented.get("content", {})
    if not body:
        return
    if not content:
        yield "a body that is not documented"
        return
    kind = headers.get("content-type", "").partition(";")[0]
    fitting = [each for each in content if each.partition(";")[0] in (kind, f"{kind.partition('/')[0]}/*")]
    if not fitting:
        yield f"{kind or 'no kind'} instead of {', '.join(content)}"
    elif kind.endswith("json"):
        for error in _validator(path, method.lower(), str(status), fitting[0]).iter_errors(json.loads(body)):
            yield f"{'/'.join(map(str, error.instance_path))}: {error.message}"


@functools.cache
def _app() -> FastAPI:
    return routed()


@functools.cache
def _validator(path: str, method: str, status: str, kind: str) -> jsonschema_rs.Draft202012Validator:
    whole = document(_app())
    response = whole["paths"][path][method]["responses"][status]
    if "$ref" in response:
        response = whole["components"]["responses"][response["$ref"].rpartition("/")[2]]
    return jsonschema_rs.Draft202012Validator(
        {**response["content"][kind].get("schema", {}), "components": whole["components"]}, validate_formats=True
    )
