"""Whom alerts reached, whom not and why, and what to do about those."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import Field

from schemas.identifiers import UnitId
from services.control.alerting import reach_store
from services.control.alerting.model import Alert
from services.control.alerting.reach import REASONS, Reach
from services.control.api.context import Parts
from services.control.api.fields import Answer, Limit
from services.control.api.routes.alerts import Seer, seen
from services.control.catalogue import reach_words
from services.control.catalogue.texts import Language
from services.control.permissions import Permission

router = APIRouter(prefix="/api/v1", tags=["alerts"])


class ReachCountView(Answer):
    """How many devices stand in a class, and what to do about them."""

    reached: bool
    reason: str
    devices: int
    meaning: str
    what_to_do: str


class RepetitionView(Answer):
    """One repetition: how many devices began it and how many ended it whole."""

    number: int
    started: int
    completed: int


class DeviceReachView(Answer):
    """What is known of one device."""

    device_id: str
    unit_id: uuid.UUID
    reached: bool = Field(description="by the version that holds: what it heard of an earlier one is none of it")
    by_signed_word: bool = Field(description="reached, by words that the device itself has signed")
    reason: str
    version: int | None = Field(description="the newest version that it was given, by its own word")
    told_by: str | None = Field(description="whose word it rests on: device or gateway")
    detail: str | None
    first_start_at: datetime | None = Field(description="its first sound of the version that it was given")
    after_s: float | None = Field(description="from the issue of the version that holds to its first sound")
    is_late: bool
    starts: int = Field(description="repetitions it began, of all versions")
    offline_since: datetime | None
    meaning: str
    what_to_do: str


class ReachView(Answer):
    """Whom an alert reached and whom not, as it stands this moment."""

    alert_id: uuid.UUID
    version: int
    is_counted: bool = Field(description="false while the audience is still being looked up")
    published_at: datetime | None = Field(description="when the broker took the version that holds")
    addressed: int
    reached: int
    reached_by_signed_word: int = Field(
        description="of those: by words that the device has signed. Whoever holds the broker can make up all others"
    )
    late: int
    by_gateway_only: int
    not_reached: int
    end_confirmed: int = Field(description="of an alert that has ended: devices that said so")
    classes: list[ReachCountView]
    repetitions: list[RepetitionView]
    devices: list[DeviceReachView]
    next_after: str | None


@router.get("/alerts/{alert_id}/reach")
async def get_reach(
    alert_id: uuid.UUID,
    caller: Seer,
    services: Parts,
    language: Annotated[Language | None, Query(description="of the texts; default: Vietnamese")] = None,
    reached: Annotated[bool | None, Query(description="only devices that it reached, or did not")] = None,
    reason: Annotated[Literal[*REASONS] | None, Query(description="only devices of this class")] = None,  # type: ignore[valid-type]
    unit_id: Annotated[uuid.UUID | None, Query(description="only devices below this unit")] = None,
    after: Annotated[str | None, Query(max_length=48, pattern="^[a-z0-9-]*$")] = None,
    limit: Limit = 100,
) -> ReachView:
    """Whom it reached, whom not and why, and what to do about those: counted at this moment."""
    words = language or Language.VIETNAMESE
    tree, reach = caller.rights.tree, caller.rights.reach(Permission.SEE_ALERTS)
    units = reach if unit_id is None else reach & set(tree.subtree(UnitId(unit_id)))
    async with services.database.connection() as connection:
        alert = await seen(connection, alert_id, caller)
        found = await reach_store.reach(connection, alert, units, now=caller.now)
        repetitions = await reach_store.repetitions(connection, alert.alert_id, units)
    return _reach_view(alert, found, repetitions, words, reached, reason, after, limit)


def _reach_view(
    alert: Alert,
    found: reach_store.Reached,
    repetitions: Sequence[reach_store.Repetition],
    language: Language,
    reached: bool | None,
    reason: str | None,
    after: str | None,
    limit: int,
) -> ReachView:
    everybody, purpose = found.devices, alert.draft.purpose.name.lower()
    counts: dict[tuple[bool, str], int] = {}
    for each in everybody:
        counts[each.is_reached, each.reason] = counts.get((each.is_reached, each.reason), 0) + 1
    chosen = [
        each
        for each in everybody
        if (reached is None or each.is_reached is reached)
        and (reason is None or each.reason == reason)
        and (after is None or each.device_id > after)
    ]
    page = chosen[:limit]
    return ReachView(
        alert_id=alert.alert_id,
        version=alert.version,
        is_counted=found.is_counted,
        published_at=found.published_at,
        addressed=len(everybody),
        reached=sum(each.is_reached for each in everybody),
        reached_by_signed_word=sum(each.is_signed for each in everybody),
        late=sum(each.is_late for each in everybody),
        by_gateway_only=sum(each.reason == "reached_by_gateway" for each in everybody),
        not_reached=sum(not each.is_reached for each in everybody),
        end_confirmed=found.end_confirmed,
        classes=[
            ReachCountView(
                reached=is_reached,
                reason=why,
                devices=count,
                meaning=reach_words.meaning(why, purpose, language),
                what_to_do=reach_words.what_to_do(why, purpose, language),
            )
            for (is_reached, why), count in sorted(counts.items())
        ],
        repetitions=[
            RepetitionView(number=each.number, started=each.started, completed=each.completed) for each in repetitions
        ],
        devices=[_device_view(each, purpose, language) for each in page],
        next_after=page[-1].device_id if len(chosen) > limit else None,
    )


def _device_view(each: Reach, purpose: str, language: Language) -> DeviceReachView:
    return DeviceReachView(
        device_id=each.device_id,
        unit_id=each.unit_id,
        reached=each.is_reached,
        by_signed_word=each.is_signed,
        reason=each.reason,
        version=each.version,
        told_by=each.told_by,
        detail=each.detail,
        first_start_at=each.first_start_at,
        after_s=each.after_s,
        is_late=each.is_late,
        starts=each.starts,
        offline_since=each.offline_since,
        meaning=reach_words.meaning(each.reason, purpose, language),
        what_to_do=reach_words.what_to_do(each.reason, purpose, language),
    )
