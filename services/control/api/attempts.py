"""Attempts at what is dangerous are on record whatever came of them: a refused one by an audit entry of its own."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from schemas.identifiers import UnitId
from services.control import audit
from services.control.api.context import Caller, Services
from services.control.audit import Entry
from services.control.errors import Refusal
from services.control.metrics import ControlMetrics

log = logging.getLogger(__name__)


@asynccontextmanager
async def on_record(
    services: Services,
    caller: Caller,
    metrics: ControlMetrics,
    *,
    action: str,
    subject: str,
    unit_id: UnitId | None,
    facts: Mapping[str, Any],
) -> AsyncIterator[None]:
    """What is refused inside the block is audited as `{action}_refused`, with its code, in a transaction of its own."""
    try:
        yield
    except Refusal as refusal:
        metrics.alerts_refused.labels(action, refusal.code).inc()
        log.warning(
            "attempt_refused",
            extra={
                "action": action,
                "subject": subject,
                "code": refusal.code,
                "login": caller.actor.login,
                "origin": caller.origin,
            },
        )
        async with services.database.transaction() as connection:
            await audit.record(
                connection,
                Entry(
                    action=f"{action}_refused",
                    subject=subject,
                    unit_id=unit_id,
                    after={
                        "code": refusal.code,
                        "faults": [{"field": each.field, "code": each.code} for each in refusal.faults],
                        **facts,
                    },
                ),
                actor=caller.actor,
                origin=caller.origin,
                at=caller.now,
            )
        raise
