"""SQL of alerts: what stands on record, every version that was signed, and what is retained on which topic."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import NoReturn

from asyncpg import Record

from schemas.alerts import Purpose
from schemas.identifiers import AlertId, DeviceId, UnitId
from services.control.alerting.documents import document_of, draft_of
from services.control.alerting.model import Alert, AlertVersion, Origin, State
from services.control.alerting.requests import NamedDevice
from services.control.errors import NotFound
from services.control.planning.model import Media
from services.shared.database.pool import Connection

# Rung whenever an alert begins, changes or ends: whoever follows its reach has something new to look up.
CHANNEL = "alerts_changed"

_RING = f"SELECT pg_notify('{CHANNEL}', '')"

_ADD = """
INSERT INTO control.alerts
       (alert_id, unit_id, purpose, status, state, version, event, headline, severity, origin, template_id, draft,
        unit_ids, first_issued_at, issued_at, valid_until, holds_until, created_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
"""

_ADD_VERSION = """
WITH version AS (
    INSERT INTO control.alert_versions
           (alert_id, alert_version, purpose, draft, unit_ids, issued_at, valid_until, issued_by, approved_by,
            stopped_in, message)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
)
INSERT INTO control.alert_topics (alert_id, unit_id, alert_version)
SELECT $1, unnest($5::uuid[]), $2
    ON CONFLICT (alert_id, unit_id) DO UPDATE
   SET alert_version = excluded.alert_version
"""

# Whom it means is looked up anew with a new version; that its time is over is none.
_CHANGE = """
UPDATE control.alerts
   SET state = $2, version = $3, event = $4, headline = $5, severity = $6, draft = $7, unit_ids = $8, issued_at = $9,
       valid_until = $10, holds_until = $11, ended_at = $12, ended_by = $13, first_issued_at = $14, created_by = $15,
       resolved_at = CASE WHEN version = $3 THEN resolved_at END
 WHERE alert_id = $1
"""

# What stands on a topic that is not waiting in the outbox already. A newer message for the topic takes the row over
# (`outbox`), so this can never put an old version behind a new one; a row locked by a change is left to that change.
_REQUEUE = """
WITH holding AS (
    SELECT a.alert_id
      FROM control.alerts a
     WHERE a.state IN ('in_force', 'cancelled')
       AND a.holds_until > $1
       FOR UPDATE OF a SKIP LOCKED
)
INSERT INTO control.outbox (topic, payload, is_retained, expires_at, kind, serial, created_at, dispatch_at)
SELECT format('loa/v1/area/%s/alert/%s', t.unit_id, t.alert_id), v.message, true, v.valid_until, 'alert',
       v.alert_version, $1, $1
  FROM holding h
  JOIN control.alert_topics t USING (alert_id)
  JOIN control.alert_versions v USING (alert_id, alert_version)
 WHERE v.valid_until > $1
 ORDER BY 1
    ON CONFLICT (topic) WHERE is_retained DO NOTHING
"""

_NOTE_PUBLISHED = """
UPDATE control.alert_versions v
   SET published_at = $3
  FROM unnest($1::uuid[], $2::integer[]) AS p (alert_id, alert_version)
 WHERE v.alert_id = p.alert_id
   AND v.alert_version = p.alert_version
   AND v.published_at IS NULL
"""

# The stops of the present version: what was said on lower ground since it was issued.
_ALERTS = """
SELECT a.alert_id, a.version, a.state, a.draft, a.first_issued_at, a.issued_at, a.holds_until, a.unit_ids,
       a.created_by, a.ended_at, a.ended_by,
       (SELECT array_agg(DISTINCT v.stopped_in)
          FROM control.alert_versions v
         WHERE v.alert_id = a.alert_id
           AND v.stopped_in IS NOT NULL
           AND v.issued_at >= a.issued_at) AS stopped_in
  FROM control.alerts a
"""

_VERSIONS = """
SELECT alert_id, alert_version, purpose, draft, unit_ids, issued_at, valid_until, issued_by, approved_by, stopped_in,
       message, published_at
  FROM control.alert_versions
 WHERE alert_id = $1
 ORDER BY alert_version
"""


async def add(connection: Connection, alert: Alert) -> None:
    """Put a new alert on record."""
    draft = alert.draft
    await connection.execute(
        _ADD,
        alert.alert_id,
        draft.unit_id,
        draft.purpose.name.lower(),
        draft.status,
        alert.state,
        alert.version,
        draft.event,
        draft.headline,
        draft.severity,
        draft.origin,
        draft.template_id,
        document_of(draft),
        list(alert.topics),
        alert.first_issued_at,
        alert.issued_at,
        draft.valid_until,
        alert.holds_until,
        alert.created_by,
    )


async def add_version(connection: Connection, version: AlertVersion) -> None:
    """Keep a version that was signed: from now on it is what stands on its topics."""
    await connection.execute(
        _ADD_VERSION,
        version.alert_id,
        version.version,
        version.purpose.name.lower(),
        document_of(version.draft),
        list(version.topics),
        version.issued_at,
        version.valid_until,
        version.issued_by,
        version.approved_by,
        version.stopped_in,
        version.message,
    )


async def change(connection: Connection, alert: Alert) -> None:
    """Store what became of an alert that has been locked; whom a new version addresses is looked up anew."""
    draft = alert.draft
    await connection.execute(
        _CHANGE,
        alert.alert_id,
        alert.state,
        alert.version,
        draft.event,
        draft.headline,
        draft.severity,
        document_of(draft),
        list(alert.topics),
        alert.issued_at,
        draft.valid_until,
        alert.holds_until,
        alert.ended_at,
        alert.ended_by,
        alert.first_issued_at,
        alert.created_by,
    )


async def ring(connection: Connection) -> None:
    """Wake whoever follows alerts, once the surrounding transaction commits."""
    await connection.execute(_RING)


async def alert(connection: Connection, alert_id: uuid.UUID) -> Alert:
    """One alert. Raises `NotFound`."""
    return _found(await connection.fetchrow(_ALERTS + " WHERE a.alert_id = $1", alert_id), alert_id)


async def alert_for_update(connection: Connection, alert_id: uuid.UUID, *, silence: bool | None = None) -> Alert:
    """One alert, locked until the transaction ends: of two changes at once the second sees the first. Raises `NotFound`.

    With `silence` only one that is a silence, or only one that is none.
    """
    # Locked first, read afterwards: what a row says that was waited for is only seen by a later statement.
    await connection.execute("SELECT FROM control.alerts WHERE alert_id = $1 FOR UPDATE", alert_id)
    found = await alert(connection, alert_id)
    return found if silence is None or found.is_silence is silence else none_such(alert_id)


def none_such(alert_id: uuid.UUID) -> NoReturn:
    """There is no such alert, for whoever asks. Raises `NotFound`."""
    raise NotFound("alert_not_found", facts={"id": str(alert_id)})


async def lock_all(connection: Connection, alert_ids: Collection[uuid.UUID]) -> dict[AlertId, Alert]:
    """Those of these alerts that exist, by id, locked in order of their ids."""
    if not alert_ids:
        return {}
    rows = await connection.fetch(
        _ALERTS + " WHERE a.alert_id = ANY ($1) ORDER BY a.alert_id FOR UPDATE OF a", list(alert_ids)
    )
    return {alert.alert_id: alert for alert in map(_alert, rows)}


async def named_devices(connection: Connection, device_ids: Collection[str]) -> dict[DeviceId, NamedDevice]:
    """The devices among these ids that are registered."""
    rows = await connection.fetch(
        "SELECT device_id, unit_id, kind, retired_at FROM control.devices WHERE device_id = ANY ($1)", list(device_ids)
    )
    return {
        DeviceId(row["device_id"]): NamedDevice(
            device_id=DeviceId(row["device_id"]),
            unit_id=UnitId(row["unit_id"]),
            kind=row["kind"],
            is_retired=row["retired_at"] is not None,
        )
        for row in rows
    }


async def media(connection: Connection, files: Collection[bytes]) -> dict[bytes, Media]:
    """The files among these hashes that are stored."""
    rows = await connection.fetch(
        "SELECT sha256, size, mime, duration_ms FROM control.media WHERE sha256 = ANY ($1)", list(files)
    )
    return {
        row["sha256"]: Media(
            sha256=row["sha256"],
            size=row["size"],
            mime=row["mime"],
            duration=timedelta(milliseconds=row["duration_ms"]) if row["duration_ms"] is not None else None,
        )
        for row in rows
    }


async def in_force_of(connection: Connection, origin: Origin, *, now: datetime) -> tuple[Alert, ...]:
    """Alerts in force that came this way, the oldest first."""
    rows = await connection.fetch(
        _ALERTS
        + """
         WHERE a.state = 'in_force' AND a.purpose = 'alert' AND a.origin = $1 AND a.valid_until > $2
         ORDER BY a.issued_at, a.alert_id
        """,
        origin,
        now,
    )
    return tuple(map(_alert, rows))


async def alerts_on(
    connection: Connection,
    unit_ids: Iterable[UnitId],
    *,
    states: Collection[State] = tuple(State),
    purposes: Collection[Purpose] = tuple(Purpose),
    before: tuple[datetime, AlertId] | None = None,
    limit: int,
) -> tuple[Alert, ...]:
    """Alerts that units issued or whose ground they touch, newest first, older than the one `before`."""
    first_issued_at, alert_id = before or (None, None)
    rows = await connection.fetch(
        _ALERTS
        + """
         WHERE (a.unit_ids && $1 OR a.unit_id = ANY ($1))
           AND a.state = ANY ($2)
           AND a.purpose = ANY ($3)
           AND ($4::timestamptz IS NULL OR (a.first_issued_at, a.alert_id) < ($4, $5::uuid))
         ORDER BY a.first_issued_at DESC, a.alert_id DESC
         LIMIT $6
        """,
        list(unit_ids),
        [each.value for each in states],
        [each.name.lower() for each in purposes],
        first_issued_at,
        alert_id,
        limit,
    )
    return tuple(map(_alert, rows))


async def versions(connection: Connection, alert_id: AlertId) -> tuple[AlertVersion, ...]:
    """Every version that was signed, oldest first."""
    return tuple(map(_version, await connection.fetch(_VERSIONS, alert_id)))


async def requeue_what_holds(connection: Connection, *, now: datetime) -> int:
    """Put what stands on topics into the outbox once more, as it was signed; how many messages."""
    status = await connection.execute(_REQUEUE, now)
    return int(status.rsplit(" ", 1)[-1])


async def what_holds(connection: Connection, *, now: datetime) -> list[tuple[AlertId, list[bytes]]]:
    """Every alert of which something is still retained, and the messages that stand on its topics."""
    rows = await connection.fetch(
        """
        SELECT a.alert_id, array_agg(DISTINCT v.message) AS messages
          FROM control.alerts a
          JOIN control.alert_topics t USING (alert_id)
          JOIN control.alert_versions v USING (alert_id, alert_version)
         WHERE a.state IN ('in_force', 'cancelled', 'expired')
           AND a.holds_until > $1
         GROUP BY a.alert_id
         ORDER BY a.alert_id
        """,
        now,
    )
    return [(AlertId(row["alert_id"]), list(row["messages"])) for row in rows]


async def note_published(connection: Connection, versions: Collection[tuple[uuid.UUID, int]], *, at: datetime) -> None:
    """Note when the broker took versions, those for which nothing is noted yet."""
    await connection.execute(_NOTE_PUBLISHED, [each[0] for each in versions], [each[1] for each in versions], at)


async def positions(connection: Connection, unit_ids: Collection[UnitId]) -> list[Record]:
    """Unit and place of every device in service there that sounds or shows."""
    rows: list[Record] = await connection.fetch(
        """
        SELECT unit_id, latitude, longitude
          FROM control.devices
         WHERE unit_id = ANY ($1)
           AND kind IN ('cluster', 'board')
           AND retired_at IS NULL
        """,
        list(unit_ids),
    )
    return rows


async def headlines(connection: Connection, alert_ids: Collection[uuid.UUID]) -> dict[uuid.UUID, str]:
    """What alerts are called, of those among these ids that are alerts of ours."""
    rows = await connection.fetch(
        "SELECT alert_id, headline FROM control.alerts WHERE alert_id = ANY ($1)", list(alert_ids)
    )
    return {row["alert_id"]: row["headline"] for row in rows}


def _found(row: Record | None, alert_id: uuid.UUID) -> Alert:
    if row is None:
        none_such(alert_id)
    return _alert(row)


def _alert(row: Record) -> Alert:
    return Alert(
        alert_id=AlertId(row["alert_id"]),
        version=row["version"],
        state=State(row["state"]),
        draft=draft_of(row["draft"]),
        first_issued_at=row["first_issued_at"],
        issued_at=row["issued_at"],
        holds_until=row["holds_until"],
        topics=_unit_ids(row["unit_ids"]),
        created_by=row["created_by"],
        ended_at=row["ended_at"],
        ended_by=row["ended_by"],
        stopped_in=_unit_ids(row["stopped_in"] or ()),
    )


def _version(row: Record) -> AlertVersion:
    return AlertVersion(
        alert_id=AlertId(row["alert_id"]),
        version=row["alert_version"],
        purpose=Purpose[row["purpose"].upper()],
        issued_at=row["issued_at"],
        valid_until=row["valid_until"],
        message=row["message"],
        topics=_unit_ids(row["unit_ids"]),
        draft=draft_of(row["draft"]),
        issued_by=row["issued_by"],
        approved_by=row["approved_by"],
        stopped_in=UnitId(row["stopped_in"]) if row["stopped_in"] is not None else None,
        published_at=row["published_at"],
    )


def _unit_ids(rows: Sequence[uuid.UUID]) -> tuple[UnitId, ...]:
    return tuple(map(UnitId, rows))
