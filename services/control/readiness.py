"""Whether control can do its work now, and the facts that rests on."""

from __future__ import annotations

from typing import Any

from services.control import fleet_store
from services.shared.database.errors import DatabaseError
from services.shared.database.pool import Database


async def facts(database: Database, *, broker_is_connected: bool) -> dict[str, Any]:
    """`ready` and why. Without the broker nothing is delivered, so that counts as not ready too."""
    try:
        async with database.connection() as connection:
            storage = await fleet_store.storage_mode(connection)
    except DatabaseError as error:
        return {"ready": False, "database": type(error).__name__, "broker_connected": broker_is_connected}
    return {
        "ready": broker_is_connected,
        "database": "ok",
        "storage": storage,
        "broker_connected": broker_is_connected,
    }
