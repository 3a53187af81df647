"""Control's view of the device registry, read as the values admission looks things up in."""

from collections.abc import Collection
from typing import TYPE_CHECKING

from schemas.fields import DeviceKind
from services.ingest.registry import RegistryRow
from services.shared.database.pool import Connection

if TYPE_CHECKING:
    import asyncpg

PREFETCH = 5_000  # rows; the event loop runs between two fetches

LOAD_ALL = """
SELECT device_id, device_no, kind, principal
  FROM control.device_registry
"""

LOAD_SOME = """
SELECT device_id, device_no, kind, principal
  FROM control.device_registry
 WHERE device_id = ANY ($1::text[])
"""


async def load_all(connection: Connection) -> list[RegistryRow]:
    """Return the whole registry; the connection is in a transaction."""
    return [_row(record) async for record in connection.cursor(LOAD_ALL, prefetch=PREFETCH)]


async def load_some(connection: Connection, device_ids: Collection[str]) -> list[RegistryRow]:
    """Return what is registered under these names."""
    return [_row(record) for record in await connection.fetch(LOAD_SOME, sorted(device_ids))]


def _row(record: "asyncpg.Record") -> RegistryRow:
    return RegistryRow(
        device_id=record["device_id"],
        device_no=record["device_no"],
        kind=DeviceKind[record["kind"].upper()],
        principal=record["principal"],
    )
