"""The OpenAPI document: what the framework knows of each route, and every problem the route can answer with.

Most problems follow from what a route is like: who is let in, what its path names, whether it takes a body. They are
derived here from the route itself. Those that follow from what it does stand on the route (`errors.documented`). Tests
hold every answer they get to this document.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from services.control.api import errors
from services.control.api.access import COOKIE, requirement_of
from services.control.api.middleware import FOR_ANY_HOST, FOR_MACHINES

_HEADERS: dict[int, dict[str, Any]] = {
    HTTPStatus.UNAUTHORIZED: {
        "WWW-Authenticate": {"description": "which ways to log in are taken", "schema": {"type": "string"}}
    },
    **{
        status: {"Retry-After": {"description": "seconds to wait", "schema": {"type": "integer"}}}
        for status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
    },
}


def document(app: FastAPI) -> dict[str, Any]:
    """The document of an application, made once: operations with their problems, and the ways to log in."""
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        components = schema.setdefault("components", {})
        components.setdefault("schemas", {})["Problem"] = errors.PROBLEM_SCHEMA
        for unused in ("HTTPValidationError", "ValidationError"):
            components["schemas"].pop(unused, None)
        components["securitySchemes"] = {
            "token": {"type": "http", "scheme": "bearer"},
            "session": {"type": "apiKey", "in": "cookie", "name": COOKIE},
            "basic": {
                "type": "http",
                "scheme": "basic",
                "description": "the account's login, and an API token as password; only for calendars and feeds",
            },
        }
        components["responses"] = dict(_problem_responses())
        for route in app.routes:
            if isinstance(route, APIRoute) and route.include_in_schema:
                for method in route.methods or ():
                    _complete(route, method, schema["paths"][route.path_format][method.lower()])
        app.openapi_schema = schema
    return app.openapi_schema


def _complete(route: APIRoute, method: str, operation: dict[str, Any]) -> None:
    requirement = requirement_of(route)
    if requirement is not None:
        ways = ("token", "session", "basic") if requirement.takes_basic else ("token", "session")
        operation["security"] = [{way: []} for way in ways]
    responses = operation["responses"]
    # The framework's own word for a parameter that is not valid names a document that we never send.
    validated = {"422"} & responses.keys()
    declared = {status for status, response in responses.items() if errors.MEDIA_TYPE in response.get("content", {})}
    derived = {str(int(status)) for status in problems_of(method, route.path, operation)} - responses.keys()
    for status in validated | declared | derived:
        responses[status] = {"$ref": f"#/components/responses/{_name(int(status))}"}
    operation["responses"] = dict(sorted(responses.items()))


def problems_of(method: str, path: str, operation: Mapping[str, Any]) -> frozenset[int]:
    """The statuses of problems that follow from what an operation is like."""
    found = {HTTPStatus.INTERNAL_SERVER_ERROR, HTTPStatus.SERVICE_UNAVAILABLE}
    if not path.startswith(FOR_MACHINES):
        found.add(HTTPStatus.TOO_MANY_REQUESTS)
        if not path.startswith(FOR_ANY_HOST):
            found.add(HTTPStatus.MISDIRECTED_REQUEST)
    if "security" in operation:
        found |= {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
    if method != "GET":
        found.add(HTTPStatus.CONFLICT)  # what is to be changed may be in another state than was thought
    if "{" in path:
        found.add(HTTPStatus.NOT_FOUND)
    if "requestBody" in operation:
        found |= {
            HTTPStatus.BAD_REQUEST,
            HTTPStatus.REQUEST_TIMEOUT,
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            HTTPStatus.UNPROCESSABLE_ENTITY,
        }
    if any(parameter["name"].lower() == "if-match" for parameter in operation.get("parameters", ())):
        found.add(HTTPStatus.PRECONDITION_REQUIRED)
    return frozenset(found)


def _problem_responses() -> Iterator[tuple[str, dict[str, Any]]]:
    """A response for each status of a problem, in the words of the error it comes from."""
    said = {HTTPStatus.INTERNAL_SERVER_ERROR: "An error of ours."}
    for error, status in reversed(errors.STATUS.items()):
        said[status] = (inspect.getdoc(error) or "").partition("\n")[0]
    for status, description in sorted(said.items()):
        content = {errors.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
        headers = {"headers": _HEADERS[status]} if status in _HEADERS else {}
        yield _name(status), {"description": description, **headers, "content": content}


def _name(status: int) -> str:
    return f"Problem{status}"
