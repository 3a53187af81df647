"""What the OpenAPI document says of problems, derived from what each route is like."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import pytest

from services.control.api import errors
from services.control.api.app import routed
from services.control.api.openapi import document, problems_of

ALWAYS = {500, 503}
DOOR = {421, 429}
BODY: dict[str, Any] = {"requestBody": {}}
KNOWN: dict[str, Any] = {"security": [{"token": []}]}
VERSIONED: dict[str, Any] = {**KNOWN, **BODY, "parameters": [{"name": "if-match"}]}


@pytest.mark.parametrize(
    ("method", "path", "operation", "more"),
    [
        ("GET", "/healthz", {}, set()),
        ("GET", "/media/{sha256}", {}, {404}),  # from devices, as often as there are devices behind an address
        ("GET", "/api/v1/units", KNOWN, DOOR | {401, 403}),
        ("GET", "/api/v1/units/{unit_id}", KNOWN, DOOR | {401, 403, 404}),
        ("POST", "/api/v1/sessions", BODY, DOOR | {400, 408, 409, 413, 422}),
        ("POST", "/api/v1/enrolments", BODY, {429, 400, 408, 409, 413, 422}),  # by any name of ours
        ("PUT", "/api/v1/x/{x_id}", VERSIONED, DOOR | {400, 401, 403, 404, 408, 409, 413, 422, 428}),
    ],
)
def test_problems_follow_from_what_a_route_is_like(
    method: str, path: str, operation: dict[str, Any], more: set[int]
) -> None:
    assert problems_of(method, path, operation) == ALWAYS | more


def test_every_error_there_is_is_a_problem_of_the_document_or_said_to_be_none() -> None:
    schema = document(routed())
    others = set()
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            for status, response in operation["responses"].items():
                if int(status) >= HTTPStatus.BAD_REQUEST and response != {
                    "$ref": f"#/components/responses/Problem{status}"
                }:
                    others.add((method, path, status))
    assert others == {("get", "/readyz", "503"), ("get", "/media/{sha256}", "416")}
    statuses = {f"Problem{status.value}" for status in errors.STATUS.values()} | {"Problem500"}
    assert schema["components"]["responses"].keys() == statuses
    for response in schema["components"]["responses"].values():
        assert response["description"]
        assert response["content"].keys() == {"application/problem+json"}
