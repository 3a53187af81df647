"""For supervisors and scrapers: whether the process lives, whether it can work, and its metrics."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from services.control import readiness
from services.control.api.context import Parts

router = APIRouter(tags=["health"])


@router.get("/healthz", response_class=PlainTextResponse)
async def healthz() -> str:
    """The process lives."""
    return "ok\n"


@router.get("/readyz", responses={503: {"description": "not ready, and why", "content": {"application/json": {}}}})
async def readyz(services: Parts) -> Response:
    """Whether requests can be served (the database answers) and orders can be delivered (the broker is there)."""
    facts = await readiness.facts(services.database, broker_is_connected=services.broker_is_connected())
    status = HTTPStatus.OK if facts["ready"] else HTTPStatus.SERVICE_UNAVAILABLE
    return JSONResponse(facts, status_code=status, headers={"Cache-Control": "no-store"})


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(services: Parts) -> Response:
    """Metrics in the Prometheus text format."""
    return Response(generate_latest(services.registry), media_type=CONTENT_TYPE_LATEST)
