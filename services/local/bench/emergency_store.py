"""SQL of the emergency bench: what control has signed, and when the broker took it."""

import uuid
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from services.local.bench.store import Connection

_MESSAGE = "SELECT message FROM control.alert_versions WHERE alert_id = $1 AND alert_version = 1"
_PUBLISHED_AT = "SELECT published_at FROM control.alert_versions WHERE alert_id = $1 AND alert_version = 1"
_DURATION_MS = "SELECT duration_ms FROM control.media WHERE sha256 = $1"


async def message(connection: "Connection", alert_id: str) -> bytes:
    """Return the first version of an alert as it was signed."""
    return bytes(await connection.fetchval(_MESSAGE, uuid.UUID(alert_id)))


async def published_us(connection: "Connection", alert_id: str) -> int | None:
    """Return when the broker had taken the first version, in microseconds since 1970; None when that is not on record."""
    at = await connection.fetchval(_PUBLISHED_AT, uuid.UUID(alert_id))
    return None if at is None else round(at.timestamp() * 1e6)


async def duration_us(connection: "Connection", sha256: str) -> int:
    """Return how long a sound lasts, in microseconds."""
    return 1_000 * int(await connection.fetchval(_DURATION_MS, bytes.fromhex(sha256)))
