"""SQL of the quarantine inbox: what is in it, what was decided, what ingest made of it.

An inmate's standing is computed and stored nowhere: it is `replayed` once ingest has stored it, `discarded` while the
reason is the one for which it was discarded, `waiting` between a request and its outcome, and `open` otherwise.
"""

# ruff: noqa: S608 - what is put into these statements are constants of ours

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from asyncpg import Record
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from schemas.fields import DeviceKind
from schemas.identifiers import UnitId
from services.control.errors import NotFound
from services.control.quarantine_forecast import Known
from services.shared.database.pool import Connection

CHANNEL = "quarantine_decided"

OPEN, WAITING, REPLAYED, DISCARDED = "open", "waiting", "replayed", "discarded"
STANDINGS = (OPEN, WAITING, REPLAYED, DISCARDED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which inmates are meant; None means any. `units` are those to which the device (or its sender) belongs."""

    standing: str | None = OPEN
    reason: str | None = None
    principal: str | None = None
    device_id: str | None = None
    units: frozenset[UnitId] | None = None
    since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Inmate:
    """An uplink in quarantine; `payload` is the beginning of `size` bytes."""

    quarantine_id: int
    principal: str
    device_id: str | None
    topic: str
    reason: str
    detail: str
    size: int
    sha256: bytes
    payload: bytes
    messages: int
    first_seen_at: datetime
    last_seen_at: datetime
    is_receipted: bool
    replayed_at: datetime | None
    decision_id: int | None
    correction_id: int | None
    standing: str

    @property
    def is_cut(self) -> bool:
        """Whether only the beginning of the payload was kept."""
        return self.size > len(self.payload)


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """A copy somebody corrected."""

    correction_id: int
    topic: str
    payload: bytes
    corrected_at: datetime
    corrected_by: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What somebody decided about one inmate or many."""

    decision_id: int
    decision: str
    decided_at: datetime
    decided_by: str
    why: str
    inmates: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What ingest made of an inmate for one request."""

    request_no: int
    replayed_at: datetime
    result: str
    reason: str | None
    detail: str | None
    is_corrected: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """How many inmates of a reason are open, how many messages they are, and since when the oldest has waited."""

    reason: str
    inmates: int
    messages: int
    oldest_at: datetime


_STANDING = """
CASE WHEN q.replayed_at IS NOT NULL THEN 'replayed'
     WHEN d.decision = 'discard' AND s.reason = q.reason THEN 'discarded'
     WHEN d.decision = 'replay'
          AND NOT EXISTS (SELECT
                            FROM telemetry.quarantine_replay_log o
                           WHERE o.request_no = s.decision_id
                             AND o.quarantine_id = s.quarantine_id) THEN 'waiting'
     ELSE 'open'
END
"""

_FROM = """
  FROM telemetry.quarantine_log q
  LEFT JOIN control.quarantine_decided s USING (quarantine_id)
  LEFT JOIN control.quarantine_decisions d USING (decision_id)
"""

_INMATES = f"""
SELECT q.quarantine_id, q.principal, q.device AS device_id, q.topic, q.reason, q.detail, q.size, q.sha256, q.payload,
       q.messages, q.first_seen_at, q.last_seen_at, q.is_receipted, q.replayed_at, s.decision_id, s.correction_id,
       {_STANDING} AS standing
{_FROM}
"""

# $1 standing, $2 reason, $3 principal, $4 device, $5 units, $6 since
_MATCHING = f"""
 WHERE ($1::text IS NULL OR {_STANDING} = $1)
   AND ($2::text IS NULL OR q.reason = $2)
   AND ($3::text IS NULL OR q.principal = $3)
   AND ($4::text IS NULL OR q.device = $4)
   AND ($5::uuid[] IS NULL OR EXISTS (SELECT
                                        FROM control.devices n
                                       WHERE n.device_id IN (q.device, q.principal)
                                         AND n.unit_id = ANY ($5)))
   AND ($6::timestamptz IS NULL OR q.last_seen_at >= $6)
"""

_LIST = f"""
{_INMATES}
{_MATCHING}
   AND ($7::bigint IS NULL OR q.quarantine_id < $7)
 ORDER BY q.quarantine_id DESC
 LIMIT $8
"""

_SOME = f"{_INMATES} WHERE q.quarantine_id = ANY ($1) ORDER BY q.quarantine_id"

# Oldest first: what does not fit into one request is what came last. Bytes that are not all there cannot be replayed.
_CHOOSE = f"""
SELECT q.quarantine_id, q.reason, s.correction_id
{_FROM}
{_MATCHING}
   AND ($7::boolean OR q.size <= length(q.payload))
 ORDER BY q.quarantine_id
 LIMIT $8
"""

_COUNTS = f"""
SELECT q.reason, count(*) AS inmates, sum(q.messages)::bigint AS messages, min(q.first_seen_at) AS oldest_at
{_FROM}
 WHERE {_STANDING} = 'open'
 GROUP BY q.reason
 ORDER BY count(*) DESC, q.reason
"""

_CORRECTIONS = """
SELECT c.correction_id, c.topic, c.payload, c.corrected_at, a.login AS corrected_by, c.why
  FROM control.quarantine_corrections c
  JOIN control.accounts a ON a.account_id = c.corrected_by
"""

_ADD_DECISION = """
INSERT INTO control.quarantine_decisions (decision, decided_at, decided_by, why, inmates)
VALUES ($1, $2, $3, $4, $5)
RETURNING decision_id
"""

_DECIDE = """
INSERT INTO control.quarantine_decided (quarantine_id, decision_id, correction_id, reason)
SELECT k.quarantine_id, $2, k.correction_id, k.reason
  FROM unnest($1::bigint[], $3::bigint[], $4::text[]) AS k (quarantine_id, correction_id, reason)
 ORDER BY k.quarantine_id
    ON CONFLICT (quarantine_id) DO UPDATE
   SET decision_id = excluded.decision_id,
       correction_id = excluded.correction_id,
       reason = excluded.reason
"""

_DECISION = """
SELECT d.decision_id, d.decision, d.decided_at, a.login AS decided_by, d.why, d.inmates
  FROM control.quarantine_decisions d
  JOIN control.accounts a ON a.account_id = d.decided_by
 WHERE d.decision_id = $1
"""

_RESULTS = """
SELECT result, coalesce(reason, '') AS reason, count(*) AS inmates
  FROM telemetry.quarantine_replay_log
 WHERE request_no = $1
 GROUP BY result, coalesce(reason, '')
"""

_STILL_WAITING = """
SELECT count(*)
  FROM control.quarantine_decided s
 WHERE s.decision_id = $1
   AND NOT EXISTS (SELECT
                     FROM telemetry.quarantine_replay_log o
                    WHERE o.request_no = s.decision_id
                      AND o.quarantine_id = s.quarantine_id)
"""

_OUTCOMES = """
SELECT request_no, replayed_at, result, reason, detail, is_corrected
  FROM telemetry.quarantine_replay_log
 WHERE quarantine_id = $1
 ORDER BY request_no DESC
 LIMIT 20
"""

_KNOWN = """
SELECT device_id, kind, principal
  FROM control.device_registry
 WHERE device_id = ANY ($1)
"""

_KEYS = """
SELECT device_id, kid, certificate
  FROM control.device_keys
 WHERE device_id = ANY ($1) AND not_after > now()
"""

# Ingest forgets inmates after a while; what was decided about them stands in the audit.
_FORGET_DECIDED = """
DELETE FROM control.quarantine_decided s
 USING control.quarantine_decisions d
 WHERE d.decision_id = s.decision_id
   AND NOT EXISTS (SELECT FROM telemetry.quarantine_log q WHERE q.quarantine_id = s.quarantine_id)
   AND (d.decision = 'discard'
        OR EXISTS (SELECT
                     FROM telemetry.quarantine_replay_log o
                    WHERE o.request_no = s.decision_id
                      AND o.quarantine_id = s.quarantine_id))
"""

_FORGET_CORRECTIONS = """
DELETE FROM control.quarantine_corrections c
 WHERE NOT EXISTS (SELECT FROM telemetry.quarantine_log q WHERE q.quarantine_id = c.quarantine_id)
   AND NOT EXISTS (SELECT FROM control.quarantine_decided s WHERE s.correction_id = c.correction_id)
"""


async def inmates(
    connection: Connection, wanted: Filter, *, after: int | None, limit: int
) -> tuple[tuple[Inmate, ...], int | None]:
    """Inmates, newest first, from below number `after` on; and the number after which to go on."""
    rows = await connection.fetch(_LIST, *_arguments(wanted), after, limit + 1)
    found = tuple(_inmate(row) for row in rows[:limit])
    return found, found[-1].quarantine_id if len(rows) > limit else None


async def inmate(connection: Connection, quarantine_id: int) -> Inmate:
    """One inmate. Raises `NotFound`."""
    found = await some(connection, [quarantine_id])
    if not found:
        raise NotFound("inmate_not_found", facts={"id": quarantine_id})
    return found[0]


async def some(connection: Connection, quarantine_ids: Collection[int]) -> tuple[Inmate, ...]:
    """Those of these inmates that exist."""
    return tuple(_inmate(row) for row in await connection.fetch(_SOME, list(quarantine_ids)))


async def choose(
    connection: Connection, wanted: Filter, *, with_cut: bool, limit: int
) -> tuple[tuple[int, str, int | None], ...]:
    """Number, reason and correction of what matches, oldest first."""
    rows = await connection.fetch(_CHOOSE, *_arguments(wanted), with_cut, limit)
    return tuple((row["quarantine_id"], row["reason"], row["correction_id"]) for row in rows)


async def counts(connection: Connection) -> tuple[Count, ...]:
    """What is open, by reason, the most first."""
    return tuple(Count(**dict(row)) for row in await connection.fetch(_COUNTS))


async def corrections(connection: Connection, quarantine_id: int) -> tuple[Correction, ...]:
    """The corrected copies of an inmate, newest first."""
    rows = await connection.fetch(
        f"{_CORRECTIONS} WHERE c.quarantine_id = $1 ORDER BY c.correction_id DESC", quarantine_id
    )
    return tuple(Correction(**dict(row)) for row in rows)


async def newest_corrections(connection: Connection, quarantine_ids: Collection[int]) -> Mapping[int, int]:
    """The correction that counts for each of these inmates that has one."""
    rows = await connection.fetch(
        """
        SELECT quarantine_id, max(correction_id) AS correction_id
          FROM control.quarantine_corrections
         WHERE quarantine_id = ANY ($1)
         GROUP BY quarantine_id
        """,
        list(quarantine_ids),
    )
    return {row["quarantine_id"]: row["correction_id"] for row in rows}


async def add_correction(
    connection: Connection, quarantine_id: int, *, topic: str, payload: bytes, why: str, by: uuid.UUID, at: datetime
) -> int:
    """Keep a corrected copy; returns its number."""
    number: int = await connection.fetchval(
        """
        INSERT INTO control.quarantine_corrections (quarantine_id, topic, payload, corrected_at, corrected_by, why)
        VALUES ($1, $2, $3, $4, $5, $6)
        RETURNING correction_id
        """,
        quarantine_id,
        topic,
        payload,
        at,
        by,
        why,
    )
    return number


async def decide(
    connection: Connection,
    decision: str,
    chosen: Sequence[tuple[int, str, int | None]],
    *,
    why: str,
    by: uuid.UUID,
    at: datetime,
) -> int:
    """Let a decision stand for these (number, reason, correction); returns the decision's number."""
    decision_id: int = await connection.fetchval(_ADD_DECISION, decision, at, by, why, len(chosen))
    await connection.execute(
        _DECIDE,
        [number for number, _, _ in chosen],
        decision_id,
        [correction for _, _, correction in chosen],
        [reason for _, reason, _ in chosen],
    )
    await connection.execute("SELECT pg_notify($1, '')", CHANNEL)
    return decision_id


async def decision(connection: Connection, decision_id: int) -> Decision | None:
    """One decision, if there is such a one."""
    row = await connection.fetchrow(_DECISION, decision_id)
    return Decision(**dict(row)) if row is not None else None


async def progress(connection: Connection, decision_id: int) -> tuple[Mapping[tuple[str, str], int], int]:
    """Of a replay: how many inmates ended how (by result and reason), and how many still wait."""
    # In this order: of what does not wait any more, the result is there.
    waiting: int = await connection.fetchval(_STILL_WAITING, decision_id)
    rows = await connection.fetch(_RESULTS, decision_id)
    return {(row["result"], row["reason"]): row["inmates"] for row in rows}, waiting


async def outcomes(connection: Connection, quarantine_id: int) -> tuple[Outcome, ...]:
    """What ingest made of an inmate, newest first."""
    return tuple(Outcome(**dict(row)) for row in await connection.fetch(_OUTCOMES, quarantine_id))


async def known(connection: Connection, device_ids: Collection[str]) -> Mapping[str, Known]:
    """Those of these devices that are registered, who may speak for them, and the keys by which they sign."""
    rows = await connection.fetch(_KNOWN, list(device_ids))
    principals: dict[str, set[str]] = {}
    for row in rows:
        principals.setdefault(row["device_id"], set()).add(row["principal"])
    kinds = {row["device_id"]: DeviceKind[row["kind"].upper()] for row in rows}
    keys: dict[str, dict[bytes, EllipticCurvePublicKey]] = {}
    for row in await connection.fetch(_KEYS, list(device_ids)):
        key = x509.load_der_x509_certificate(row["certificate"]).public_key()
        assert isinstance(key, EllipticCurvePublicKey), "we certify no other keys"
        keys.setdefault(row["device_id"], {})[row["kid"]] = key
    return {
        each: Known(kind=kinds[each], principals=frozenset(found), keys=keys.get(each, {}))
        for each, found in principals.items()
    }


async def forget(connection: Connection) -> None:
    """Drop decisions and corrections of inmates that are no more."""
    await connection.execute(_FORGET_DECIDED)
    await connection.execute(_FORGET_CORRECTIONS)


def _arguments(wanted: Filter) -> tuple[object, ...]:
    units = None if wanted.units is None else list(wanted.units)
    return (wanted.standing, wanted.reason, wanted.principal, wanted.device_id, units, wanted.since)


def _inmate(row: Record) -> Inmate:
    return Inmate(**dict(row))
