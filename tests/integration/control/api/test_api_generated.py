"""Requests generated from the OpenAPI document: whatever a program makes of it, the answer is one that it has.

Most of them are as the document says, others are not. The path, and the version meant, are those of an example that
exists, so that what is generated reaches further than a 404. That each answer is as documented is asked of every test
(`tests.support.conformance`); here nothing may be an error of ours.

The same requests in every run. `LOA_TEST_GENERATED=200 pytest …` makes so many of each operation and kind, and others each time.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
from collections.abc import Mapping
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.core import NotSet
from schemathesis.core.result import Ok

from services.control.api.app import routed
from services.control.api.openapi import document
from services.control.permissions import Role
from tests.integration.control.api.test_api_permissions import EXAMPLES
from tests.support.conformance import NotAsDocumentedError
from tests.support.control_api import Api

pytestmark = pytest.mark.integration

# Of each operation.
_LONG = int(os.environ.get("LOA_TEST_GENERATED", "0"))
_EACH = {GenerationMode.POSITIVE: _LONG or 2, GenerationMode.NEGATIVE: _LONG or 1}
_SEED = secrets.randbits(32) if _LONG else 20_261

# What takes the caller's own login away.
_ENDS_THE_CALLER = {("DELETE", "/api/v1/sessions/current"), ("POST", "/api/v1/accounts/{account_id}/disable")}


def operations() -> dict[tuple[str, str], Any]:
    """Every operation of the document, by method and path."""
    schema = schemathesis.openapi.from_dict(document(routed()))
    found: list[Any] = [each.ok() for each in schema.get_all_operations() if isinstance(each, Ok)]
    return {(each.method.upper(), each.path): each for each in found}


def cases(operation: Any, mode: GenerationMode) -> list[Any]:
    """Some requests for an operation."""
    found: list[Any] = []

    @seed(_SEED)
    @settings(
        max_examples=_EACH[mode],
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(generation_mode=mode))
    def collect(case: Any) -> None:
        found.append(case)

    with contextlib.suppress(Unsatisfiable):  # nothing can be wrong with what takes nothing
        collect()
    return found


def request_of(case: Any, headers: Mapping[str, str]) -> dict[str, Any]:
    """What a client sends for a case; what no client can put into a header is left out."""
    send: dict[str, Any] = {"headers": {"Authorization": headers["Authorization"]}}
    if isinstance(case.query, Mapping):
        send["params"] = [
            (name, each if isinstance(each, str | int | float) else json.dumps(each))
            for name, value in case.query.items()
            for each in (value if isinstance(value, list) else [value])
        ]
    for name, value in (case.headers or {}).items():
        if isinstance(value, str) and value.isascii() and value.isprintable() and name.lower() != "authorization":
            send["headers"][name] = value
    send["headers"].update(headers)
    if not isinstance(case.body, NotSet):
        body = case.body
        if not isinstance(body, bytes):
            body = json.dumps(body, default=repr).encode("utf-8", "surrogatepass")
        send["content"] = body
        send["headers"]["Content-Type"] = case.media_type or "application/json"
    return send


@pytest.mark.timeout(600 if not _LONG else 36_000)
async def test_no_generated_request_is_an_error_of_ours_or_answered_as_nobody_said(api: Api) -> None:
    everything = await api.person(*((role, "24") for role in Role))
    little = await api.person((Role.OPERATOR, "11"))
    wrong: dict[str, str] = {}
    asked = 0
    for (method, path), operation in operations().items():
        if (method, path) in _ENDS_THE_CALLER:
            continue
        example = EXAMPLES.get((method, path))
        try:
            wanted = await example(api, "11") if example is not None else None
        except NotAsDocumentedError as error:
            wrong[str(error)[:120]], wanted = str(error), None
        address = wanted.path if wanted is not None else re.sub(r"\{\w+\}", "0" * 32, path)
        versions = wanted.send.get("headers", {}) if wanted is not None else {}
        made = cases(operation, GenerationMode.POSITIVE)
        if operation.body or operation.query or operation.headers:  # paths are those of examples
            made += cases(operation, GenerationMode.NEGATIVE)
        for number, case in enumerate(made):
            for who in (little, everything) if number == 0 or _LONG else (everything,):
                send = request_of(case, {**versions, **who})
                asked += 1
                try:
                    answer = await api.client.request(method, address, **send)
                except NotAsDocumentedError as error:
                    wrong[str(error)[:120]] = f"{error} | {send}"
                else:
                    if answer.status_code >= 500:
                        wrong[f"{method} {path} {answer.status_code}"] = f"{answer.text} | {send}"
    assert wrong == {}
    assert asked > 2 * len(document(routed())["paths"])
