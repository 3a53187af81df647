"""SQL of rules on readings: the rules, their sensors, the readings that are not settled, and the alarms."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from asyncpg import Record

from schemas.identifiers import DeviceId, UnitId
from services.control.alerting.model import Severity
from services.control.errors import NotFound
from services.control.planning.model import DeviceNo
from services.control.sensing.decision import Allowed, Proposed, Settled, Watched, is_releasable
from services.control.sensing.rule import (
    BLIND,
    MAX_SENSORS,
    THRESHOLD,
    Direction,
    Limits,
    Rule,
    Sample,
    Sensor,
    SensorState,
)
from services.shared.database.pool import Connection

MOST_SAMPLES = 2_000  # of one sensor in one turn
MOST_SIGNED = 10_000  # of one sensor: one every ten seconds for as long as a threshold may have to be held, a day
LONGEST_COOL_DOWN = timedelta(days=7)

_RULES = """
SELECT rule_id, unit_id, name, quantity, direction, raise_at, clear_at, hold_s, silent_after_s, quorum, severity,
       template_id, sensor_unit_ids, sensor_ids, alert_unit_ids, cool_down_s, proposal_validity_s, is_enabled, version,
       created_at, created_by, changed_at, changed_by, retired_at, looked_up_at
  FROM control.sensor_rules
"""

_PUT = """
INSERT INTO control.sensor_rules AS r
       (rule_id, unit_id, name, quantity, direction, raise_at, clear_at, hold_s, silent_after_s, quorum, severity,
        template_id, sensor_unit_ids, sensor_ids, alert_unit_ids, cool_down_s, proposal_validity_s, is_enabled, version,
        created_at, created_by, changed_at, changed_by, retired_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24)
    ON CONFLICT (rule_id) DO UPDATE
   SET name = excluded.name, quantity = excluded.quantity, direction = excluded.direction, raise_at = excluded.raise_at,
       clear_at = excluded.clear_at, hold_s = excluded.hold_s, silent_after_s = excluded.silent_after_s,
       quorum = excluded.quorum, severity = excluded.severity, template_id = excluded.template_id,
       sensor_unit_ids = excluded.sensor_unit_ids, sensor_ids = excluded.sensor_ids,
       alert_unit_ids = excluded.alert_unit_ids, cool_down_s = excluded.cool_down_s,
       proposal_validity_s = excluded.proposal_validity_s, is_enabled = excluded.is_enabled, version = excluded.version,
       changed_at = excluded.changed_at, changed_by = excluded.changed_by, retired_at = excluded.retired_at,
       looked_up_at = NULL
"""

_SENSORS = """
SELECT s.rule_id, s.device_no, d.device_id, s.joined_at, s.is_raised, s.since, s.run_since, s.last_at, s.last_value
  FROM control.sensor_states s
  JOIN control.devices d USING (device_no)
 WHERE s.rule_id = ANY ($1)
 ORDER BY s.rule_id, d.device_id COLLATE "C"
"""

# One look into the key per sensor. What the sensor itself calls bad says nothing.
_SAMPLES = """
SELECT s.rule_id, s.device_no, r.at, r.value
  FROM control.sensor_states s
  JOIN control.sensor_rules u USING (rule_id)
 CROSS JOIN LATERAL (SELECT l.at, l.value
                       FROM telemetry.reading_log l
                      WHERE l.device_no = s.device_no
                        AND l.quantity = u.quantity
                        AND l.at > s.settled_at
                        AND l.quality <> 'bad'
                      ORDER BY l.at
                      LIMIT $2) r
 WHERE s.rule_id = ANY ($1)
"""

# Rules that two officers let release what they propose, since the second of them said so.
_ALLOWED = """
SELECT rule_id, confirmed_at
  FROM control.release_authorisations
 WHERE rule_id = ANY ($1) AND confirmed_at IS NOT NULL AND ended_at IS NULL AND expires_at > $2
"""

# What counts for them, newest first: signed by the device, in time, and with a key that was good when it came and still is.
_SIGNED_SAMPLES = """
SELECT s.rule_id, s.device_no, r.at, r.value
  FROM control.sensor_states s
  JOIN control.sensor_rules u USING (rule_id)
  JOIN control.good_signers g USING (device_no)
 CROSS JOIN LATERAL (SELECT l.at, l.value
                       FROM telemetry.reading_log l
                      WHERE l.device_no = s.device_no
                        AND l.quantity = u.quantity
                        AND l.at > $2::timestamptz - make_interval(secs => u.hold_s + 2 * u.silent_after_s)
                        AND l.quality <> 'bad'
                        AND l.signature = 'verified'
                        AND l.signer = g.kid
                        AND l.received_at > g.good_from
                        AND l.received_at <= g.good_until
                      ORDER BY l.at DESC
                      LIMIT $3) r
 WHERE s.rule_id = ANY ($1)
   AND g.good_until > $2::timestamptz - make_interval(secs => u.hold_s + 2 * u.silent_after_s)
"""

_SIGNING = """
SELECT DISTINCT s.device_no
  FROM control.sensor_states s
  JOIN control.sensor_rules u USING (rule_id)
  JOIN control.good_signers g USING (device_no)
 CROSS JOIN LATERAL (SELECT
                       FROM telemetry.reading_log l
                      WHERE l.device_no = s.device_no
                        AND l.quantity = u.quantity
                        AND l.at > $2::timestamptz - make_interval(secs => u.silent_after_s)
                        AND l.signature = 'verified'
                        AND l.signer = g.kid
                        AND l.received_at > g.good_from
                        AND l.received_at <= g.good_until
                      LIMIT 1) r
 WHERE s.rule_id = $1
   AND g.good_until > $2::timestamptz - make_interval(secs => u.silent_after_s)
"""

_OPEN_ALARMS = "SELECT rule_id, kind FROM control.sensor_alarms WHERE rule_id = ANY ($1) AND cleared_at IS NULL"

_PROPOSED = """
SELECT p.rule_id, bool_or(p.outcome IS NULL) AS is_open, max(p.proposed_at) AS newest_at,
       coalesce(bool_or(a.cleared_at IS NULL AND p.outcome <> 'expired'), false) AS is_answered
  FROM control.alert_proposals p
  JOIN control.sensor_alarms a USING (alarm_id)
 WHERE p.rule_id = ANY ($1)
   AND (p.outcome IS NULL OR a.cleared_at IS NULL OR p.proposed_at > $2)
 GROUP BY p.rule_id
"""

# Sensors by name, and those below units that give the quantity; who has joined stays while the registry has it there.
_MEANT = """
SELECT d.device_no
  FROM control.devices d
 WHERE d.retired_at IS NULL
   AND d.kind = 'sensor'
   AND d.unit_id = ANY ($2)
   AND (d.device_id = ANY ($3)
        OR d.unit_id = ANY ($4)
           AND (EXISTS (SELECT FROM control.sensor_states s WHERE s.rule_id = $1 AND s.device_no = d.device_no)
                OR EXISTS (SELECT
                             FROM telemetry.reading_log l
                            WHERE l.device_no = d.device_no AND l.quantity = $5 AND l.at > $6::timestamptz - interval '3 hours')
                OR EXISTS (SELECT
                             FROM telemetry.reading_hours h
                            WHERE h.device_no = d.device_no AND h.quantity = $5 AND h.hour > $6::timestamptz - interval '7 days')))
 ORDER BY d.device_no
 LIMIT $7
"""

_JOIN = """
INSERT INTO control.sensor_states (rule_id, device_no, settled_at, joined_at)
SELECT $1, unnest($2::integer[]), $3, $4
    ON CONFLICT (rule_id, device_no) DO NOTHING
"""

_SETTLE = """
UPDATE control.sensor_states
   SET settled_at = $3, is_raised = $4, since = $5, run_since = $6, last_at = $7, last_value = $8
 WHERE rule_id = $1 AND device_no = $2
"""

_ALARMS = """
SELECT a.alarm_id, a.rule_id, r.name AS rule_name, a.unit_id, a.kind, a.severity, a.raised_at, a.facts, a.cleared_at,
       a.cleared_by,
       (SELECT p.alert_id
          FROM control.alert_proposals p
         WHERE p.alarm_id = a.alarm_id
         ORDER BY p.proposed_at DESC
         LIMIT 1) AS alert_id
  FROM control.sensor_alarms a
  JOIN control.sensor_rules r USING (rule_id)
"""

_HISTORY = """
SELECT l.device_no, l.at, l.value
  FROM telemetry.reading_log l
 WHERE l.device_no = ANY ($1)
   AND l.quantity = $2
   AND l.at > $3
   AND l.at <= $4
   AND l.quality <> 'bad'
 ORDER BY l.at, l.device_no
 LIMIT $5
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """An alarm of a rule, with the newest alert that was proposed because of it."""

    alarm_id: uuid.UUID
    rule_id: uuid.UUID
    rule_name: str
    unit_id: UnitId
    kind: str
    severity: Severity
    raised_at: datetime
    facts: Mapping[str, Any]
    cleared_at: datetime | None
    cleared_by: str | None
    alert_id: uuid.UUID | None


# --- rules -----------------------------------------------------------------------------------------------------------


async def rule(connection: Connection, rule_id: uuid.UUID) -> Rule:
    """One rule, retired or not. Raises `NotFound`."""
    return _found(await connection.fetchrow(_RULES + " WHERE rule_id = $1", rule_id), rule_id)


async def rule_for_update(connection: Connection, rule_id: uuid.UUID) -> Rule:
    """One rule, locked until the transaction ends. Raises `NotFound`."""
    return _found(await connection.fetchrow(_RULES + " WHERE rule_id = $1 FOR UPDATE", rule_id), rule_id)


async def rule_at_work(connection: Connection, rule_id: uuid.UUID) -> Rule | None:
    """One rule in force, locked; None where another replica is at it, or it is out of force by now."""
    row = await connection.fetchrow(
        _RULES + " WHERE rule_id = $1 AND retired_at IS NULL AND is_enabled FOR UPDATE SKIP LOCKED", rule_id
    )
    return _rule(row) if row is not None else None


async def rules_of(connection: Connection, unit_ids: Iterable[UnitId]) -> tuple[Rule, ...]:
    """The rules in use that the units keep, by name."""
    rows = await connection.fetch(
        _RULES + " WHERE unit_id = ANY ($1) AND retired_at IS NULL ORDER BY name, rule_id", list(unit_ids)
    )
    return tuple(map(_rule, rows))


async def in_force(connection: Connection) -> tuple[Rule, ...]:
    """Every rule that is to be watched."""
    rows = await connection.fetch(_RULES + " WHERE retired_at IS NULL AND is_enabled ORDER BY rule_id")
    return tuple(map(_rule, rows))


async def unit_of(connection: Connection, rule_id: uuid.UUID) -> UnitId:
    """The unit that keeps a rule. Raises `NotFound`."""
    return (await rule(connection, rule_id)).unit_id


async def name_of_user(connection: Connection, template_id: uuid.UUID) -> str | None:
    """A rule in use that proposes the template, if there is one."""
    found: str | None = await connection.fetchval(
        "SELECT name FROM control.sensor_rules WHERE template_id = $1 AND retired_at IS NULL ORDER BY name LIMIT 1",
        template_id,
    )
    return found


async def put(connection: Connection, rule: Rule) -> None:
    """Store a rule as it is from now on; its sensors are looked up anew."""
    limits = rule.limits
    await connection.execute(
        _PUT,
        rule.rule_id,
        rule.unit_id,
        rule.name,
        rule.quantity,
        limits.direction,
        limits.raise_at,
        limits.clear_at,
        round(limits.hold.total_seconds()),
        round(limits.silent_after.total_seconds()),
        rule.quorum,
        rule.severity,
        rule.template_id,
        list(rule.sensor_units),
        list(rule.sensor_ids),
        list(rule.alert_units),
        round(rule.cool_down.total_seconds()),
        round(rule.proposal_validity.total_seconds()),
        rule.is_enabled,
        rule.version,
        rule.created_at,
        rule.created_by,
        rule.changed_at,
        rule.changed_by,
        rule.retired_at,
    )


# --- sensors ---------------------------------------------------------------------------------------------------------


async def sensors_below(connection: Connection, unit_ids: Collection[UnitId]) -> int:
    """How many sensors are in service in the units."""
    found: int = await connection.fetchval(
        "SELECT count(*) FROM control.devices WHERE unit_id = ANY ($1) AND kind = 'sensor' AND retired_at IS NULL",
        list(unit_ids),
    )
    return found


async def meant(
    connection: Connection, rule: Rule, *, own: Collection[UnitId], below: Collection[UnitId], now: datetime
) -> tuple[DeviceNo, ...]:
    """The sensors the rule means, one more than it may have at most: those of its own ground (`own`), by name or `below`."""
    rows = await connection.fetch(
        _MEANT, rule.rule_id, list(own), list(rule.sensor_ids), list(below), rule.quantity, now, MAX_SENSORS + 1
    )
    return tuple(DeviceNo(row["device_no"]) for row in rows)


async def put_sensors(connection: Connection, rule: Rule, meant: Collection[DeviceNo], *, now: datetime) -> None:
    """Note whom the rule watches; who is new begins with what it said shortly before."""
    nos = list(meant)
    since = now - rule.limits.hold - rule.limits.silent_after
    await connection.execute(
        "DELETE FROM control.sensor_states WHERE rule_id = $1 AND device_no <> ALL ($2)", rule.rule_id, nos
    )
    await connection.execute(_JOIN, rule.rule_id, nos, since, now)
    await connection.execute("UPDATE control.sensor_rules SET looked_up_at = $2 WHERE rule_id = $1", rule.rule_id, now)


async def forget_sensors(connection: Connection, rule_id: uuid.UUID) -> None:
    """Begin anew: the rule is another one."""
    await connection.execute("DELETE FROM control.sensor_states WHERE rule_id = $1", rule_id)


async def sensors(connection: Connection, rule_id: uuid.UUID) -> tuple[Sensor, ...]:
    """The sensors of a rule, as last settled."""
    return tuple(map(_sensor, await connection.fetch(_SENSORS, [rule_id])))


async def signing(connection: Connection, rule_id: uuid.UUID, *, now: datetime) -> frozenset[DeviceNo]:
    """The sensors of a rule that have not been silent and sign what they say, so that they count for a release."""
    return frozenset(DeviceNo(row["device_no"]) for row in await connection.fetch(_SIGNING, rule_id, now))


async def settle(connection: Connection, rule_id: uuid.UUID, settled: Iterable[Settled]) -> None:
    """Keep what readings made of sensors."""
    await connection.executemany(
        _SETTLE,
        [
            (
                rule_id,
                each.device_no,
                each.until,
                each.state.is_raised,
                each.state.since,
                each.state.run_since,
                each.state.last_at,
                each.state.last_value,
            )
            for each in settled
        ],
    )


async def watched(connection: Connection, rules: Collection[Rule], *, now: datetime) -> tuple[Watched, ...]:
    """The rules with their sensors, the readings that are not settled, and what is open."""
    ids = [each.rule_id for each in rules]
    found: dict[uuid.UUID, list[Sensor]] = defaultdict(list)
    for row in await connection.fetch(_SENSORS, ids):
        found[row["rule_id"]].append(_sensor(row))
    samples: dict[uuid.UUID, dict[DeviceNo, list[Sample]]] = defaultdict(lambda: defaultdict(list))
    for row in await connection.fetch(_SAMPLES, ids, MOST_SAMPLES):
        samples[row["rule_id"]][DeviceNo(row["device_no"])].append(Sample(row["at"], row["value"]))
    alarms = {(row["rule_id"], row["kind"]) for row in await connection.fetch(_OPEN_ALARMS, ids)}
    proposed = {
        row["rule_id"]: Proposed(is_open=row["is_open"], is_answered=row["is_answered"], newest_at=row["newest_at"])
        for row in await connection.fetch(_PROPOSED, ids, now - LONGEST_COOL_DOWN)
    }
    standing = [
        Watched(
            rule=each,
            sensors=tuple(found[each.rule_id]),
            samples=samples[each.rule_id],
            is_whole=all(len(some) < MOST_SAMPLES for some in samples[each.rule_id].values()),
            is_raised=(each.rule_id, THRESHOLD) in alarms,
            is_blind=(each.rule_id, BLIND) in alarms,
            proposed=proposed.get(each.rule_id, Proposed()),
        )
        for each in rules
    ]
    allowed = await _allowed(connection, standing, now=now)
    return tuple(replace(each, allowed=allowed.get(each.rule.rule_id)) for each in standing)


async def _allowed(connection: Connection, standing: Collection[Watched], *, now: datetime) -> dict[uuid.UUID, Allowed]:
    """What counts for a release, of the rules that may come to one: it may be readings of days, and turns are many."""
    ids = [each.rule.rule_id for each in standing]
    since = {row["rule_id"]: row["confirmed_at"] for row in await connection.fetch(_ALLOWED, ids, now)}
    asking = [each.rule.rule_id for each in standing if each.rule.rule_id in since and is_releasable(each, now=now)]
    if not asking:
        return {}
    signed: dict[uuid.UUID, dict[DeviceNo, list[Sample]]] = defaultdict(lambda: defaultdict(list))
    for row in await connection.fetch(_SIGNED_SAMPLES, asking, now, MOST_SIGNED):
        signed[row["rule_id"]][DeviceNo(row["device_no"])].append(Sample(row["at"], row["value"]))
    return {rule_id: Allowed(since=since[rule_id], signed=signed[rule_id]) for rule_id in asking}


async def history(
    connection: Connection,
    device_nos: Collection[DeviceNo],
    quantity: str,
    *,
    since: datetime,
    until: datetime,
    limit: int,
) -> dict[DeviceNo, list[Sample]]:
    """Readings of the past, oldest first, at most `limit` of all."""
    found: dict[DeviceNo, list[Sample]] = {no: [] for no in device_nos}
    for row in await connection.fetch(_HISTORY, list(device_nos), quantity, since, until, limit):
        found[DeviceNo(row["device_no"])].append(Sample(row["at"], row["value"]))
    return found


async def names(connection: Connection, device_nos: Collection[DeviceNo]) -> dict[DeviceNo, DeviceId]:
    """What devices are called on the wire."""
    rows = await connection.fetch(
        "SELECT device_no, device_id FROM control.devices WHERE device_no = ANY ($1)", list(device_nos)
    )
    return {DeviceNo(row["device_no"]): DeviceId(row["device_id"]) for row in rows}


# --- alarms ----------------------------------------------------------------------------------------------------------


async def raise_alarm(
    connection: Connection, rule: Rule, kind: str, facts: Mapping[str, Any], *, at: datetime
) -> uuid.UUID:
    """An alarm begins; there is none of this kind for the rule."""
    alarm_id = uuid.uuid4()
    await connection.execute(
        """
        INSERT INTO control.sensor_alarms (alarm_id, rule_id, rule_version, unit_id, kind, severity, raised_at, facts)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
        """,
        alarm_id,
        rule.rule_id,
        rule.version,
        rule.unit_id,
        kind,
        rule.severity,
        at,
        facts,
    )
    return alarm_id


async def clear_alarms(
    connection: Connection, rule_id: uuid.UUID, kinds: Collection[str], *, by: str, at: datetime
) -> tuple[str, ...]:
    """The alarms of these kinds end; the kinds of those there were."""
    rows = await connection.fetch(
        """
        UPDATE control.sensor_alarms
           SET cleared_at = $3, cleared_by = $4
         WHERE rule_id = $1 AND kind = ANY ($2) AND cleared_at IS NULL
        RETURNING kind
        """,
        rule_id,
        list(kinds),
        at,
        by,
    )
    return tuple(row["kind"] for row in rows)


async def open_alarm(connection: Connection, rule_id: uuid.UUID, kind: str) -> Alarm | None:
    """The alarm of this kind that has not ended."""
    row = await connection.fetchrow(
        _ALARMS + " WHERE a.rule_id = $1 AND a.kind = $2 AND a.cleared_at IS NULL", rule_id, kind
    )
    return _alarm(row) if row is not None else None


async def alarms(
    connection: Connection, unit_ids: Iterable[UnitId], *, is_active: bool, limit: int
) -> tuple[Alarm, ...]:
    """Alarms of rules of the units, newest first: those that last, or all."""
    rows = await connection.fetch(
        _ALARMS
        + """
         WHERE a.unit_id = ANY ($1)
           AND (NOT $2 OR a.cleared_at IS NULL)
         ORDER BY a.raised_at DESC, a.alarm_id
         LIMIT $3
        """,
        list(unit_ids),
        is_active,
        limit,
    )
    return tuple(map(_alarm, rows))


async def active_alarms(connection: Connection, unit_ids: Collection[UnitId] | None = None) -> dict[str, int]:
    """How many alarms last, by kind: of rules of the units, or of all."""
    rows = await connection.fetch(
        """
        SELECT kind, count(*) AS alarms
          FROM control.sensor_alarms
         WHERE cleared_at IS NULL
           AND ($1::uuid[] IS NULL OR unit_id = ANY ($1))
         GROUP BY kind
        """,
        list(unit_ids) if unit_ids is not None else None,
    )
    return {row["kind"]: row["alarms"] for row in rows}


def _found(row: Record | None, rule_id: uuid.UUID) -> Rule:
    if row is None:
        raise NotFound("sensor_rule_not_found", facts={"id": str(rule_id)})
    return _rule(row)


def _rule(row: Record) -> Rule:
    return Rule(
        rule_id=row["rule_id"],
        unit_id=UnitId(row["unit_id"]),
        name=row["name"],
        quantity=row["quantity"],
        limits=Limits(
            direction=Direction(row["direction"]),
            raise_at=row["raise_at"],
            clear_at=row["clear_at"],
            hold=timedelta(seconds=row["hold_s"]),
            silent_after=timedelta(seconds=row["silent_after_s"]),
        ),
        quorum=row["quorum"],
        severity=Severity(row["severity"]),
        template_id=row["template_id"],
        sensor_units=tuple(map(UnitId, row["sensor_unit_ids"])),
        sensor_ids=tuple(map(DeviceId, row["sensor_ids"])),
        alert_units=tuple(map(UnitId, row["alert_unit_ids"])),
        cool_down=timedelta(seconds=row["cool_down_s"]),
        proposal_validity=timedelta(seconds=row["proposal_validity_s"]),
        is_enabled=row["is_enabled"],
        version=row["version"],
        created_at=row["created_at"],
        created_by=row["created_by"],
        changed_at=row["changed_at"],
        changed_by=row["changed_by"],
        retired_at=row["retired_at"],
        looked_up_at=row["looked_up_at"],
    )


def _sensor(row: Record) -> Sensor:
    return Sensor(
        device_no=DeviceNo(row["device_no"]),
        device_id=DeviceId(row["device_id"]),
        joined_at=row["joined_at"],
        state=SensorState(
            is_raised=row["is_raised"],
            since=row["since"],
            run_since=row["run_since"],
            last_at=row["last_at"],
            last_value=row["last_value"],
        ),
    )


def _alarm(row: Record) -> Alarm:
    values = dict(row)
    return Alarm(**{**values, "unit_id": UnitId(row["unit_id"]), "severity": Severity(row["severity"])})
