"""Errors as problem documents (RFC 9457): one table from exception to status, one shape for every fault.

`type` is a URN that ends in `code`; `title`, `detail` and each error's `message` and `mend` are for people, in
Vietnamese unless the client asks for English. Nothing of the inside (traces, SQL, paths) ever leaves.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from services.control.api.context import origin_of, services_of
from services.control.api.faults import faults_of_validation
from services.control.catalogue.texts import Language, preferred, text
from services.control.errors import (
    Busy,
    Conflict,
    Fault,
    Forbidden,
    Invalid,
    NotFound,
    NotOurs,
    NotUnderstood,
    Refusal,
    TooLarge,
    TooManyAttempts,
    TooSlow,
    Unauthenticated,
    UnsupportedContent,
    VersionMismatch,
    VersionRequired,
)
from services.control.security import events as security_events
from services.shared.database.errors import (
    ConstraintViolated,
    DatabaseError,
    DatabaseRefused,
    DatabaseUnavailable,
    TransactionConflict,
)

log = logging.getLogger(__name__)

Respond = Callable[[Request, Exception], Response]

MEDIA_TYPE = "application/problem+json"

STATUS: dict[type[Exception], HTTPStatus] = {
    NotUnderstood: HTTPStatus.BAD_REQUEST,
    Unauthenticated: HTTPStatus.UNAUTHORIZED,
    Forbidden: HTTPStatus.FORBIDDEN,
    NotFound: HTTPStatus.NOT_FOUND,
    Conflict: HTTPStatus.CONFLICT,
    VersionMismatch: HTTPStatus.CONFLICT,
    TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    UnsupportedContent: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    Invalid: HTTPStatus.UNPROCESSABLE_ENTITY,
    VersionRequired: HTTPStatus.PRECONDITION_REQUIRED,
    TooManyAttempts: HTTPStatus.TOO_MANY_REQUESTS,
    TooSlow: HTTPStatus.REQUEST_TIMEOUT,
    NotOurs: HTTPStatus.MISDIRECTED_REQUEST,
    Busy: HTTPStatus.SERVICE_UNAVAILABLE,
    DatabaseUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    DatabaseRefused: HTTPStatus.SERVICE_UNAVAILABLE,
    TransactionConflict: HTTPStatus.SERVICE_UNAVAILABLE,
}

# Rules of the schema that two requests at once can run into, although each was checked by itself.
_RACES = frozenset({"devices_id_is_unique", "gateway_assignments_one_open"})

# What the framework itself answers with.
_FRAMEWORK_CODES: dict[int, str] = {
    HTTPStatus.BAD_REQUEST: "not_understood",
    HTTPStatus.NOT_FOUND: "no_such_address",
    HTTPStatus.METHOD_NOT_ALLOWED: "method_not_allowed",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "body_too_large",
}


def problem(
    code: str,
    status: int,
    *,
    language: Language,
    facts: Mapping[str, Any] | None = None,
    faults: Iterable[Fault] = (),
    members: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A problem document."""
    return {
        "type": f"urn:loa:problem:{code}",
        "title": text(f"problem.{code}.title", language),
        "status": status,
        "code": code,
        "detail": text(f"problem.{code}.detail", language, facts or {}),
        "errors": [_error(fault, language) for fault in faults],
        **(members or {}),
    }


def _error(fault: Fault, language: Language) -> dict[str, Any]:
    return {
        "field": fault.field,
        "code": fault.code,
        "message": text(f"fault.{fault.code}.message", language, fault.facts),
        "mend": text(f"fault.{fault.code}.mend", language, fault.facts),
    }


def document_of(error: Exception, language: Language) -> tuple[dict[str, Any], dict[str, str]]:
    """The problem document for an exception, and the headers that belong to it."""
    match error:
        case Refusal():
            document = problem(
                error.code,
                STATUS[type(error)],
                language=language,
                facts=error.facts,
                faults=error.faults,
                members=error.members,
            )
            return document, _headers(error)
        case RequestValidationError():
            is_unreadable, faults = faults_of_validation(error.errors())
            code = "not_understood" if is_unreadable else "invalid_request"
            status = HTTPStatus.BAD_REQUEST if is_unreadable else HTTPStatus.UNPROCESSABLE_ENTITY
            return problem(code, status, language=language, faults=faults), {}
        case HTTPException(__cause__=Refusal() as cause):
            return document_of(cause, language)  # the framework's word for an error of ours while it read the body
        case HTTPException():
            code = _FRAMEWORK_CODES.get(error.status_code, "not_understood")
            return problem(code, error.status_code, language=language), dict(error.headers or {})
        case ConstraintViolated() if error.constraint in _RACES:
            return problem("changed_meanwhile", HTTPStatus.CONFLICT, language=language), {}
        case DatabaseError() if type(error) in STATUS:
            status = STATUS[type(error)]
            return problem("database_unavailable", status, language=language), {"Retry-After": "2"}
        case _:
            status = HTTPStatus.INTERNAL_SERVER_ERROR
            return problem("internal_error", status, language=language), {}


def _headers(error: Refusal) -> dict[str, str]:
    match error:
        case TooManyAttempts(retry_after_s=seconds):
            return {"Retry-After": str(seconds)}
        case TooLarge() | TooSlow():
            return {"Connection": "close"}  # the rest of the body is read by nobody
        case Busy():
            return {"Retry-After": "5"}
        case Unauthenticated(takes_basic=True):
            # Calendar programs ask for a password only when they are told that one helps.
            return {"WWW-Authenticate": 'Basic realm="loa", charset="UTF-8", Bearer realm="loa"'}
        case Unauthenticated():
            return {"WWW-Authenticate": 'Bearer realm="loa"'}
        case VersionMismatch(members={"etag": str(etag)}):
            return {"ETag": etag}
        case _:
            return {}


def language_of(request: Request) -> Language:
    """The language the client asks for."""
    return preferred(request.headers.get("accept-language"))


def as_response(request: Request, error: Exception) -> Response:
    """The error as a problem document."""
    document, headers = document_of(error, language_of(request))
    if document["status"] >= HTTPStatus.INTERNAL_SERVER_ERROR:
        note(request, document, error)
    return JSONResponse(
        document,
        status_code=document["status"],
        media_type=MEDIA_TYPE,
        headers={**headers, "Cache-Control": "no-store"},
    )


def note(request: Request, document: Mapping[str, Any], error: Exception) -> None:
    """Log an error that is ours; what nobody foresaw with its trace."""
    route = getattr(request.scope.get("route"), "path", request.url.path)
    log.error(
        "request_failed",
        extra={"method": request.method, "route": route, "code": document["code"]},
        exc_info=error if document["code"] == "internal_error" else None,
    )


def install(app: FastAPI, respond: Respond) -> None:
    """Let `respond` answer for every error that routes are known to raise; the rest is `middleware.Envelope`'s."""

    async def handle(request: Request, error: Exception) -> Response:
        _tell(request, error)
        return respond(request, error)

    for kind in (Refusal, RequestValidationError, HTTPException, DatabaseError):
        app.add_exception_handler(kind, handle)


def _tell(request: Request, error: Exception) -> None:
    """Note a refusal that is a security event."""
    if not isinstance(error, Refusal):
        return
    services = services_of(request)
    actor = getattr(request.state, "actor", None)
    codes = (error.code, *(fault.code for fault in error.faults))
    facts = {
        "status": STATUS[type(error)].value,
        "method": request.method,
        "route": getattr(request.scope.get("route"), "path", request.url.path),
        "origin": origin_of(request),
        "login": actor.login if actor else None,
        "account_id": str(actor.account_id) if actor else None,
    }
    if (event := security_events.of_refusal(codes, at=services.clock(), facts=facts)) is not None:
        services.security.note(event)


PROBLEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["type", "title", "status", "code", "detail", "errors"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "description": "stable, for programs"},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "code", "message", "mend"],
                "properties": {
                    "field": {"type": "string", "description": "which field, such as targets[0].unit_id"},
                    "code": {"type": "string", "description": "stable, for programs"},
                    "message": {"type": "string"},
                    "mend": {"type": "string", "description": "what to do about it"},
                },
            },
        },
    },
}


def documented(statuses: Sequence[int]) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route for the OpenAPI document."""
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in statuses
    }
