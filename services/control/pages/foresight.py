"""What a change would do, as pages show it before it is made."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from services.control import broadcast_store
from services.control.api.context import Services
from services.control.api.what_if import OutlookView
from services.control.broadcasts import Accepted

DEVICES_SHOWN = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreseen:
    """What saving would come to. `accepted` is None where nothing is asked for any more."""

    outlook: OutlookView
    titles: Mapping[uuid.UUID, str]
    accepted: Accepted | None = None


async def titles_in(services: Services, outlook: OutlookView, own: Mapping[uuid.UUID, str]) -> Mapping[uuid.UUID, str]:
    """The titles of all broadcasts that something happens to; `own` are those that are known, or not stored."""
    changes = [change for device in outlook.detail.devices for change in device.changes] if outlook.detail else []
    named = {each.broadcast_id for each in changes} | {each.broadcast_id for each in outlook.findings}
    named |= {each.broadcast_id for each in outlook.settled}
    named |= {each.by for each in changes if each.by is not None}
    async with services.database.connection() as connection:
        found = await broadcast_store.broadcasts_by_id(connection, named - own.keys())
    return {**{broadcast_id: each.wish.title for broadcast_id, each in found.items()}, **own}
