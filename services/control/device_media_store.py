"""SQL of what devices hold: which media files each has said it stored, and which it could not fetch."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime

from services.control.planning.model import DeviceNo
from services.shared.database.pool import Connection

_STORED = """
INSERT INTO control.device_media (device_no, sha256, stored_at)
SELECT s.*
  FROM unnest($1::integer[], $2::bytea[], $3::timestamptz[]) AS s (device_no, sha256, stored_at)
  JOIN control.devices USING (device_no)
 ORDER BY s.device_no, s.sha256
    ON CONFLICT (device_no, sha256) DO UPDATE SET stored_at = excluded.stored_at
"""

_LOST = """
DELETE FROM control.device_media m
 USING unnest($1::integer[], $2::bytea[]) AS l (device_no, sha256)
 WHERE (m.device_no, m.sha256) = (l.device_no, l.sha256)
"""

_HELD = """
SELECT device_no, sha256
  FROM control.device_media
 WHERE sha256 = ANY ($1)
   AND device_no = ANY ($2)
"""

# Who has said anything at all: of the others nobody knows.
_KNOWN = """
SELECT w.device_no
  FROM unnest($1::integer[]) AS w (device_no)
 WHERE EXISTS (SELECT FROM control.device_media m WHERE m.device_no = w.device_no)
"""

File = tuple[DeviceNo, bytes]


async def note(connection: Connection, told: Mapping[File, datetime | None]) -> None:
    """Keep what devices said last about files: stored at an instant, or (None) not to be had."""
    stored = {file: at for file, at in told.items() if at is not None}
    lost = [file for file, at in told.items() if at is None]
    if stored:
        await connection.execute(
            _STORED, [no for no, _ in stored], [sha256 for _, sha256 in stored], list(stored.values())
        )
    if lost:
        await connection.execute(_LOST, [no for no, _ in lost], [sha256 for _, sha256 in lost])


async def held(
    connection: Connection, device_nos: Collection[DeviceNo], files: Collection[bytes]
) -> dict[DeviceNo, frozenset[bytes]]:
    """Which of the files each of the devices holds; devices that have never said anything are left out."""
    if not files or not device_nos:
        return {}
    numbers = list(device_nos)
    found: dict[DeviceNo, set[bytes]] = {
        DeviceNo(row["device_no"]): set() for row in await connection.fetch(_KNOWN, numbers)
    }
    for row in await connection.fetch(_HELD, list(files), numbers):
        found[DeviceNo(row["device_no"])].add(row["sha256"])
    return {device_no: frozenset(theirs) for device_no, theirs in found.items()}
