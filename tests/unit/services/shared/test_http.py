"""The health server, asked by a client that shares nothing with it."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta

import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter

from services.shared.http import HealthServer, Readiness, serve_health
from services.shared.settings import HealthSettings


async def yes() -> Readiness:
    return Readiness(is_ready=True, facts={"storage": "partitioned"})


async def no() -> Readiness:
    return Readiness(is_ready=False, facts={"database": "unavailable"})


async def broken() -> Readiness:
    raise ConnectionError("postgresql://user:swordfish@host/db")


async def get(server: HealthServer, path: str, method: str = "GET") -> httpx.Response:
    async with httpx.AsyncClient(base_url=server.url, trust_env=False) as client:
        return await client.request(method, path)


async def raw(server: HealthServer, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(server.host, server.port)
    try:
        writer.write(request)
        return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


async def test_healthz_answers_while_the_loop_turns() -> None:
    async with serve_health(HealthSettings(), ready=no, registry=CollectorRegistry()) as server:
        response = await get(server, "/healthz")
    assert (response.status_code, response.text) == (200, "ok\n")


@pytest.mark.parametrize(
    ("ready", "status", "facts"),
    [
        (yes, 200, {"ready": True, "storage": "partitioned"}),
        (no, 503, {"ready": False, "database": "unavailable"}),
        (broken, 503, {"ready": False, "error": "ConnectionError"}),
    ],
)
async def test_readyz_tells_what_it_rests_on(ready: object, status: int, facts: Mapping[str, object]) -> None:
    async with serve_health(HealthSettings(), ready=ready, registry=CollectorRegistry()) as server:  # type: ignore[arg-type]
        response = await get(server, "/readyz")
    assert (response.status_code, response.json()) == (status, facts)


async def test_metrics_are_those_of_the_registry() -> None:
    registry = CollectorRegistry()
    Counter("ingest_batches", "Batches.", registry=registry).inc(3)
    async with serve_health(HealthSettings(), ready=yes, registry=registry) as server:
        response = await get(server, "/metrics?name=x")
    assert "ingest_batches_total 3.0" in response.text
    assert response.headers["content-type"].startswith("text/plain")


async def test_head_has_no_body() -> None:
    async with serve_health(HealthSettings(), ready=yes, registry=CollectorRegistry()) as server:
        response = await get(server, "/healthz", "HEAD")
        assert (response.status_code, response.content, response.headers["content-length"]) == (200, b"", "3")


@pytest.mark.parametrize(("path", "method", "status"), [("/", "GET", 404), ("/healthz", "POST", 405)])
async def test_anything_else_is_refused(path: str, method: str, status: int) -> None:
    async with serve_health(HealthSettings(), ready=yes, registry=CollectorRegistry()) as server:
        assert (await get(server, path, method)).status_code == status


@pytest.mark.parametrize(
    "request_bytes", [b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n", b"GET / HTT"], ids=["too_long", "cut_off"]
)
async def test_requests_without_end_are_dropped_and_others_go_on(
    request_bytes: bytes,
) -> None:
    async with serve_health(
        HealthSettings(), ready=yes, registry=CollectorRegistry(), request_timeout=timedelta(milliseconds=100)
    ) as server:
        try:
            answer = await raw(server, request_bytes)
        except ConnectionError:
            answer = b""
        assert answer == b""
        assert (await get(server, "/healthz")).status_code == 200


async def test_address_in_use_is_an_error_at_the_start() -> None:
    async with serve_health(HealthSettings(), ready=yes, registry=CollectorRegistry()) as server:
        with pytest.raises(OSError, match=r"(?i)address already in use"):
            async with serve_health(HealthSettings(port=server.port), ready=yes, registry=CollectorRegistry()):
                pass
