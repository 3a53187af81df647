"""Nonsense in every field of every request: never an error of ours, always a document."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest

from services.control.api.app import routed
from services.control.api.openapi import document
from services.control.permissions import Role
from tests.integration.control.api.test_api_permissions import ENDPOINTS, EXAMPLES
from tests.support.control_api import Api

pytestmark = pytest.mark.integration

NONSENSE: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    2**63,
    10**400,
    1e308,
    "",
    " ",
    "\x00",
    "a\x00b",
    "\ud800",
    "x" * 5_000,
    "'; DROP TABLE control.devices; --",
    "{{ 7*7 }}",
    "%s%n{0}{__class__}",
    "\u202e\u200b",
    "00000000-0000-0000-0000-000000000000",
    "9999-12-31",
    "0001-01-01",
    "23:59:59.999999",
    [],
    {},
    [[[[[[]]]]]],
    {"$ne": None},
)

IN_QUERIES = (
    "",
    "\x00",
    "-1",
    "9" * 40,
    "1e9",
    "x" * 5_000,
    "\ud800",
    "0001-01-01",
    "9999-12-31T23:59:59+14:00",
    "%00",
)
IN_PATHS = ("%00", "%2e%2e%2f", "x" * 3_000, "%ff", "%ED%A0%80", "0" * 36, "a%0ab", "-")


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Where something else could stand in a body."""
    yield path
    pairs: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        pairs = list(value.items())
    elif isinstance(value, list):
        pairs = list(enumerate(value))
    for key, each in pairs:
        yield from places(each, (*path, key))


def replaced(body: Any, path: tuple[str | int, ...], nonsense: Any) -> Any:
    if not path:
        return nonsense
    changed = copy.deepcopy(body)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = nonsense
    return changed


def as_bytes(body: Any) -> bytes:
    return json.dumps(body).encode()


PATHS = document(routed())["paths"]


def takes_json(method: str, path: str) -> bool:
    operation = PATHS.get(path, {}).get(method.lower(), {})
    return "application/json" in operation.get("requestBody", {}).get("content", {})


WITH_BODY = [endpoint for endpoint in ENDPOINTS if takes_json(*endpoint)]


@pytest.mark.timeout(240)
@pytest.mark.parametrize("endpoint", WITH_BODY, ids=[" ".join(endpoint) for endpoint in WITH_BODY])
async def test_nonsense_in_a_body_is_answered_with_a_document(api: Api, endpoint: tuple[str, str]) -> None:
    everything = await api.person(*((role, "24") for role in Role))
    method, _ = endpoint
    wanted = await EXAMPLES[endpoint](api, "11")
    body = wanted.send.get("json", {"note": "Vì sao"})  # decisions may come without a body
    headers = {**everything, **wanted.send.get("headers", {}), "Content-Type": "application/json"}
    for path in places(body):
        for nonsense in NONSENSE:
            content = as_bytes(replaced(body, path, nonsense))
            response = await api.client.request(method, wanted.path, content=content, headers=headers)
            assert response.status_code < 500, f"{path} = {nonsense!r}: {response.text}"
            if response.status_code >= 400:
                assert response.headers["content-type"] == "application/problem+json"
                assert response.json()["detail"]


@pytest.mark.timeout(240)
async def test_nonsense_in_queries_and_paths_is_answered_with_a_document(api: Api) -> None:
    everything = await api.person(*((role, "24") for role in Role))
    for path, operations in document(routed())["paths"].items():
        for method, operation in operations.items():
            names = {
                place: [each["name"] for each in operation.get("parameters", []) if each["in"] == place]
                for place in ("query", "path")
            }
            tries = [(path, {name: value}) for name in names["query"] for value in IN_QUERIES]
            for name in names["path"]:
                tries += [(path.replace("{" + name + "}", value), {}) for value in IN_PATHS]
            for address, query in tries:
                whole = address
                for name in names["path"]:
                    whole = whole.replace("{" + name + "}", str(api.units["11"]))
                encodable = {name: value.encode("utf-8", "surrogatepass") for name, value in query.items()}
                response = await api.client.request(method, whole, params=encodable, headers=everything)
                assert response.status_code < 500, f"{method} {whole} {query!r}: {response.text}"
                assert response.status_code < 400 or response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("field", ["login", "password"])
@pytest.mark.parametrize("nonsense", ["\x00", "\ud800", "x" * 100_000, "\u202e", "'--", "quan\x00tri"])
async def test_nonsense_at_the_door_is_a_wrong_password_or_a_document(api: Api, field: str, nonsense: str) -> None:
    body = {"login": "quantri", "password": "mat khau", field: nonsense}
    content = as_bytes(body)
    response = await api.client.post(
        "/api/v1/sessions", content=content, headers={"Content-Type": "application/json", "User-Agent": "\x01\x7f"}
    )
    assert response.status_code in (401, 422)
    form = {name: value.encode("utf-8", "surrogatepass") for name, value in body.items()}
    page = await api.client.post("/login", data=form)
    assert page.status_code == 401
