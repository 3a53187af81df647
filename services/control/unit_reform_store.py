"""SQL of reforms: what is filed under units, who follows whom, and what a new unit takes over from those before it."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime

from schemas.identifiers import UnitId
from services.control import vietnamese
from services.control.planning.model import DeviceNo
from services.control.unit_reforms import Holdings, Housed, Part
from services.control.units import UnitHeir
from services.shared.database.pool import Connection

_HOLDINGS = """
SELECT unit_id, held, count(*) AS count
  FROM (SELECT unit_id, 'devices' AS held FROM control.devices WHERE retired_at IS NULL
         UNION ALL
        SELECT unit_id, 'accounts' FROM control.accounts WHERE disabled_at IS NULL
         UNION ALL
        SELECT unit_id, 'grants' FROM control.role_grants WHERE expires_at IS NULL OR expires_at > $1
         UNION ALL
        SELECT unit_id, 'bulletins' FROM control.bulletins WHERE state <> 'withdrawn'
         UNION ALL
        SELECT unit_id, 'broadcasts' FROM control.broadcasts WHERE state IN ('scheduled', 'awaiting_approval')
         UNION ALL
        SELECT unit_id, 'groups' FROM control.device_groups WHERE closed_at IS NULL
         UNION ALL
        SELECT unit_id, 'relay_sources' FROM control.relay_sources WHERE retired_at IS NULL
         UNION ALL
        SELECT unit_id, 'policies' FROM control.policies) filed
 GROUP BY unit_id, held
"""

_HOUSED = """
SELECT d.device_id, d.device_no, coalesce(p.unit_id, d.unit_id) AS unit_id
  FROM control.devices d
  LEFT JOIN control.unit_parts p ON p.part_id = d.unit_id AND p.valid_from = $2
 WHERE d.device_id = ANY ($1)
   AND d.retired_at IS NULL
"""

_DISSOLVE_PARTS = """
UPDATE control.devices d
   SET unit_id = p.unit_id
  FROM control.unit_parts p
 WHERE p.part_id = d.unit_id
   AND p.valid_from = $1
"""

_FORGET_PART_VERSIONS = """
DELETE FROM control.unit_versions
 WHERE unit_id IN (SELECT part_id FROM control.unit_parts WHERE valid_from = $1)
"""

_ADD_HEIRS = """
INSERT INTO control.unit_heirs (unit_id, heir_id, valid_from, begins_at, keeps_rights)
VALUES ($1, $2, $3, $4, $5)
"""

_END_HEIRS = "UPDATE control.unit_heirs SET valid_until = $3, ends_at = $4 WHERE unit_id = $1 AND valid_from = $2"

_ADD_PART_VERSION = """
INSERT INTO control.unit_versions
       (unit_id, valid_from, valid_until, parent_id, code, level, name, sort_key, search_text)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
"""

# Limits of one old unit, or the same ones of several; what differs is for people to decide.
_CARRY_POLICIES = """
INSERT INTO control.policies (unit_id, body, version, changed_at, changed_by)
SELECT w.new_id, (array_agg(p.body))[1], 1, $3, (array_agg(p.changed_by ORDER BY p.changed_at DESC))[1]
  FROM unnest($1::uuid[], $2::uuid[]) AS w (old_id, new_id)
  JOIN control.policies p ON p.unit_id = w.old_id
 GROUP BY w.new_id
HAVING count(DISTINCT p.body) = 1
    ON CONFLICT (unit_id) DO NOTHING
RETURNING unit_id
"""

_POLICIES_THAT_DIFFER = """
SELECT w.new_id
  FROM unnest($1::uuid[], $2::uuid[]) AS w (old_id, new_id)
  JOIN control.policies p ON p.unit_id = w.old_id
 WHERE NOT EXISTS (SELECT FROM control.policies own WHERE own.unit_id = w.new_id)
 GROUP BY w.new_id
HAVING count(DISTINCT p.body) > 1
"""

# Decided alike by all of them: decided. Otherwise the new unit is asked again.
_CARRY_OFFERS = """
INSERT INTO control.offers
       (broadcast_id, unit_id, state, offered_at, decided_at, decided_by, note, scheduled_as)
SELECT o.broadcast_id, w.new_id, min(o.state), min(o.offered_at), max(o.decided_at),
       (array_agg(o.decided_by ORDER BY o.decided_at DESC))[1], (array_agg(o.note ORDER BY o.decided_at DESC))[1],
       (array_agg(o.scheduled_as ORDER BY o.decided_at DESC))[1]
  FROM unnest($1::uuid[], $2::uuid[]) AS w (old_id, new_id)
  JOIN control.offers o ON o.unit_id = w.old_id
 GROUP BY o.broadcast_id, w.new_id
HAVING count(DISTINCT o.state) = 1 AND min(o.state) <> 'offered'
    ON CONFLICT (broadcast_id, unit_id) DO UPDATE
   SET state = excluded.state, decided_at = excluded.decided_at, decided_by = excluded.decided_by,
       note = excluded.note, scheduled_as = excluded.scheduled_as
 WHERE control.offers.unit_id = ANY ($3)
RETURNING unit_id
"""

# Until its day nobody speaks for a new unit: whatever stands there was carried, or offered by planning ahead.
_FORGET_OFFERS = """
UPDATE control.offers
   SET state = 'offered', decided_at = NULL, decided_by = NULL, note = NULL, scheduled_as = NULL
 WHERE unit_id = ANY ($1)
   AND state <> 'offered'
"""

_CARRY_PLACES = """
INSERT INTO control.priority_places (unit_id, broadcast_id, place, set_at, set_by)
SELECT w.new_id, p.broadcast_id, min(p.place), max(p.set_at), (array_agg(p.set_by ORDER BY p.place))[1]
  FROM unnest($1::uuid[], $2::uuid[]) AS w (old_id, new_id)
  JOIN control.priority_places p ON p.unit_id = w.old_id
 GROUP BY w.new_id, p.broadcast_id
    ON CONFLICT (unit_id, broadcast_id) DO NOTHING
"""

# Who may propose alerts for all of the new ground has to have been trusted on all of it; and a unit that is there already
# goes on with its own word.
_CARRY_SENDERS = """
INSERT INTO control.cap_senders (unit_id, sender, account_id, trusted_since, trusted_by)
SELECT w.new_id, s.sender, (array_agg(s.account_id))[1], max(s.trusted_since),
       (array_agg(s.trusted_by ORDER BY s.trusted_since DESC))[1]
  FROM unnest($1::uuid[], $2::uuid[]) AS w (old_id, new_id)
  JOIN control.cap_senders s ON s.unit_id = w.old_id
 WHERE w.new_id = ANY ($3)
 GROUP BY w.new_id, s.sender
HAVING count(DISTINCT s.account_id) = 1
   AND count(*) = (SELECT count(*)
                     FROM unnest($1::uuid[], $2::uuid[]) AS every (old_id, new_id)
                    WHERE every.new_id = w.new_id)
RETURNING unit_id, sender
"""

_SENDERS_TO_RENEW = """
SELECT DISTINCT w.new_id AS unit_id, s.sender
  FROM unnest($1::uuid[], $2::uuid[]) AS w (old_id, new_id)
  JOIN control.cap_senders s ON s.unit_id = w.old_id
 WHERE NOT EXISTS (SELECT FROM control.cap_senders own WHERE own.unit_id = w.new_id AND own.sender = s.sender)
 ORDER BY 1, 2
"""

# An order covers the boards that were there when it was given, not those of the communes that join them: from the day on
# it stands for each of those boards, and the order of the closed unit reaches nobody any more.
_CARRY_REQUISITIONS = """
INSERT INTO control.requisitions
       (requisition_id, device_no, order_number, issuer, valid_from, expires_at, created_at, created_by, carried_from)
SELECT gen_random_uuid(), d.device_no, r.order_number, r.issuer, greatest(r.valid_from, $3), r.expires_at, $4,
       r.created_by, r.requisition_id
  FROM unnest($1::uuid[], $2::uuid[]) AS below (unit_id, filed_under)
  JOIN control.requisitions r ON r.unit_id = below.unit_id
  JOIN control.devices d ON d.unit_id = below.filed_under
 WHERE r.revoked_at IS NULL
   AND r.expires_at > greatest(r.valid_from, $3)
   AND d.retired_at IS NULL
   AND d.kind = 'board'
   AND d.ownership <> 'public'
   AND ($5::integer[] IS NULL OR d.device_no = ANY ($5))
    ON CONFLICT (carried_from, device_no, valid_from) DO NOTHING
"""

# Until the day of the reform none of it has held yet. What was revoked by itself stays: it would be carried anew.
_FORGET_REQUISITIONS = """
DELETE FROM control.requisitions c
 USING control.requisitions o
 WHERE c.carried_from = o.requisition_id
   AND o.unit_id = ANY ($1)
   AND c.revoked_at IS NULL
   AND c.valid_from > $2
   AND ($3::integer[] IS NULL OR c.device_no = ANY ($3))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """What new units took over besides what simply follows them."""

    policies: tuple[UnitId, ...]
    policies_that_differ: tuple[UnitId, ...]
    offers: int
    cap_senders: tuple[tuple[UnitId, str], ...]
    cap_senders_to_renew: tuple[tuple[UnitId, str], ...]


async def holdings(connection: Connection, *, now: datetime) -> dict[UnitId, Holdings]:
    """What is filed under each unit, by the id it is filed under."""
    counts: dict[UnitId, dict[str, int]] = {}
    for row in await connection.fetch(_HOLDINGS, now):
        counts.setdefault(UnitId(row["unit_id"]), {})[row["held"]] = row["count"]
    return {
        unit_id: Holdings(**{each.name: held.get(each.name, 0) for each in fields(Holdings)})
        for unit_id, held in counts.items()
    }


async def housed(connection: Connection, device_ids: Iterable[str], *, valid_from: date) -> Mapping[str, Housed]:
    """The devices in service among these, and where they are; parts of a reform of that day do not count."""
    rows = await connection.fetch(_HOUSED, list(device_ids), valid_from)
    return {
        row["device_id"]: Housed(device_no=DeviceNo(row["device_no"]), unit_id=UnitId(row["unit_id"])) for row in rows
    }


async def parts_of(connection: Connection, valid_from: date) -> tuple[UnitId, ...]:
    """The parts that a reform of this day made."""
    rows = await connection.fetch("SELECT part_id FROM control.unit_parts WHERE valid_from = $1", valid_from)
    return tuple(UnitId(row["part_id"]) for row in rows)


async def forget(connection: Connection, valid_from: date) -> None:
    """Undo what a reform of this day said about who follows whom."""
    await connection.execute(_DISSOLVE_PARTS, valid_from)
    await connection.execute(_FORGET_PART_VERSIONS, valid_from)
    await connection.execute("DELETE FROM control.unit_parts WHERE valid_from = $1", valid_from)
    await connection.execute("DELETE FROM control.unit_heirs WHERE valid_from = $1", valid_from)
    await connection.execute(
        "UPDATE control.unit_heirs SET valid_until = NULL, ends_at = NULL WHERE valid_until = $1", valid_from
    )


async def add_heirs(
    connection: Connection, heirs: Iterable[UnitHeir], ended: Iterable[UnitHeir], *, day_starts_at: datetime
) -> None:
    """Say who follows whom, and whom nobody follows any more, from a day on that begins at an instant."""
    await connection.executemany(
        _END_HEIRS, [(heir.unit_id, heir.valid_from, heir.valid_until, day_starts_at) for heir in ended]
    )
    await connection.executemany(
        _ADD_HEIRS,
        [(heir.unit_id, heir.heir_id, heir.valid_from, day_starts_at, heir.keeps_rights) for heir in heirs],
    )


async def add_parts(connection: Connection, parts: Sequence[Part], *, valid_from: date, at: datetime) -> None:
    """Make the parts and put their devices into them."""
    await connection.executemany(
        "INSERT INTO control.units (unit_id, created_at) VALUES ($1, $2)",
        [(part.version.unit_id, at) for part in parts],
    )
    await connection.executemany(
        _ADD_PART_VERSION,
        [
            (
                part.version.unit_id,
                part.version.valid_from,
                part.version.valid_until,
                part.version.parent_id,
                part.version.code,
                part.version.level,
                part.version.name,
                part.version.sort_key,
                vietnamese.search_text(part.version.name),
            )
            for part in parts
        ],
    )
    await connection.executemany(
        "INSERT INTO control.unit_parts (part_id, unit_id, valid_from) VALUES ($1, $2, $3)",
        [(part.version.unit_id, part.of, valid_from) for part in parts],
    )
    await connection.executemany(
        "UPDATE control.devices SET unit_id = $2 WHERE device_no = ANY ($1)",
        [(list(part.device_nos), part.version.unit_id) for part in parts],
    )


async def carry(
    connection: Connection, ways: Sequence[tuple[UnitId, UnitId]], opening: Iterable[UnitId], *, at: datetime
) -> Carried:
    """Give new units the limits, decisions, order and trust that all units before them had alike; `ways` are (old, new).

    Of the `opening` ones, which are not there yet, nothing else stands afterwards; the others keep what they said.
    """
    old, new = [old_id for old_id, _ in ways], [new_id for _, new_id in ways]
    opened = sorted(set(opening))
    # One at a time: units that go over into the same one may decide at the same moment.
    await connection.execute(
        "SELECT FROM control.units WHERE unit_id = ANY ($1) ORDER BY unit_id FOR NO KEY UPDATE", opened
    )
    await connection.execute("DELETE FROM control.policies WHERE unit_id = ANY ($1)", opened)
    await connection.execute("DELETE FROM control.priority_places WHERE unit_id = ANY ($1)", opened)
    await connection.execute("DELETE FROM control.cap_senders WHERE unit_id = ANY ($1)", opened)
    await connection.execute(_FORGET_OFFERS, opened)
    differ = await connection.fetch(_POLICIES_THAT_DIFFER, old, new)
    policies = await connection.fetch(_CARRY_POLICIES, old, new, at)
    offers = await connection.fetch(_CARRY_OFFERS, old, new, opened)
    await connection.execute(_CARRY_PLACES, old, new)
    trusted = await connection.fetch(_CARRY_SENDERS, old, new, opened)
    lapsed = await connection.fetch(_SENDERS_TO_RENEW, old, new)
    return Carried(
        policies=tuple(UnitId(row["unit_id"]) for row in policies),
        policies_that_differ=tuple(UnitId(row["new_id"]) for row in differ),
        offers=len(offers),
        cap_senders=tuple((UnitId(row["unit_id"]), row["sender"]) for row in trusted),
        cap_senders_to_renew=tuple((UnitId(row["unit_id"]), row["sender"]) for row in lapsed),
    )


async def carry_requisitions(
    connection: Connection,
    below: Sequence[tuple[UnitId, UnitId]],
    *,
    day_starts_at: datetime,
    at: datetime,
    boards: Collection[DeviceNo] | None = None,
) -> None:
    """Have orders over closed units stand for the private boards below them, or for some of those.

    `below` are (unit, unit in its subtree).
    """
    await connection.execute(
        _CARRY_REQUISITIONS,
        [unit for unit, _ in below],
        [under for _, under in below],
        day_starts_at,
        at,
        None if boards is None else list(boards),
    )


async def forget_requisitions(
    connection: Connection, unit_ids: Iterable[UnitId], *, at: datetime, boards: Collection[DeviceNo] | None = None
) -> None:
    """Undo what was carried of orders over units that are to be closed, for every board or some."""
    await connection.execute(_FORGET_REQUISITIONS, list(unit_ids), at, None if boards is None else list(boards))


async def record_reform(
    connection: Connection,
    *,
    valid_from: date,
    tree_sha256: bytes,
    mapping_sha256: bytes,
    at: datetime,
    by: uuid.UUID | None,
) -> None:
    """Note which files made which reform."""
    await connection.execute(
        """
        INSERT INTO control.unit_reforms (valid_from, tree_sha256, mapping_sha256, registered_at, registered_by)
        VALUES ($1, $2, $3, $4, $5)
        """,
        valid_from,
        tree_sha256,
        mapping_sha256,
        at,
        by,
    )
