"""Control's views of the device registry, read as the entries admission looks things up in.

Everything is read in slices of whole devices, so that whoever takes them can let others run in between.
"""

from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from services.ingest.device_keys import DeviceKey
from services.ingest.registry import Row, pack
from services.shared.database.pool import Connection

if TYPE_CHECKING:
    import asyncpg

SLICE = 2_000  # rows; some 5 ms of work

# Where the registry stands now. A history is told by the server (and its start: a crash may take back what was not yet on
# disk, and a physical backup is put back with the server stopped), the database and the table. Within one, changes are
# told by the snapshot; their highest number only shows that there are fewer than there were.
STANDING = """
SELECT concat_ws(' ',
                 (SELECT system_identifier FROM pg_control_system()),
                 pg_postmaster_start_time(),
                 (SELECT oid FROM pg_database WHERE datname = current_database()),
                 'control.registry_changes'::regclass::oid) AS history,
       (SELECT coalesce(max(change_no), 0) FROM control.registry_change_log) AS change_no,
       pg_current_snapshot()::text AS snapshot,
       now() AS at
"""

NEXT_INSTANT = """
SELECT min(at) FROM control.assignment_instants WHERE at > now() AND at <= now() + $1::interval
"""

# Few changes are looked up in large tables by their keys, whatever the planner thinks of how many they are.
LOOK_UP = "SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off"

LOAD_ALL = """
SELECT device_id, device_no, kind_no, principal_no
  FROM control.device_registry
 ORDER BY device_no
"""

LOAD_SOME = """
SELECT device_id, device_no, kind_no, principal_no
  FROM control.device_registry
 WHERE device_id = ANY ($1::text[])
"""

# $1: the snapshot of the version one has. Below its xmin it has seen everything.
IS_EVERYTHING_CHANGED = """
SELECT coalesce(bool_or(lower_inf(numbers)), false)
  FROM control.registry_change_log
 WHERE tx >= pg_snapshot_xmin($1::text::pg_snapshot) AND NOT pg_visible_in_snapshot(tx, $1::text::pg_snapshot)
"""

LOAD_NAMES_GONE = """
SELECT DISTINCT unnest(names) AS device_id
  FROM control.registry_change_log
 WHERE tx >= pg_snapshot_xmin($1::text::pg_snapshot) AND NOT pg_visible_in_snapshot(tx, $1::text::pg_snapshot)
"""

# $2: the instant of the version one has. Assignments that began or ended since then changed no row.
LOAD_NUMBERS_CHANGED = """
SELECT generate_series(lower(changed), upper(changed) - 1) AS device_no
  FROM unnest((
       SELECT range_agg(numbers)
         FROM (SELECT numbers
                 FROM control.registry_change_log
                WHERE tx >= pg_snapshot_xmin($1::text::pg_snapshot)
                  AND NOT pg_visible_in_snapshot(tx, $1::text::pg_snapshot)
                UNION ALL
               SELECT int4multirange(int4range(device_no, device_no, '[]'))
                 FROM control.assignment_instants
                WHERE at > $2 AND at <= now()) changes
       )) AS changed
"""

LOAD_NUMBERED = """
SELECT device_id, device_no, kind_no, principal_no
  FROM control.device_registry
 WHERE device_no = ANY ($1::integer[])
"""

LOAD_KEYS = """
SELECT device_no, kid, certificate, not_after
  FROM control.device_keys
 WHERE device_no = ANY ($1::integer[])
 ORDER BY not_after DESC
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """What the registry was read at: enough to ask for what changed since."""

    history: str
    change_no: int
    snapshot: str
    at: datetime

    def told(self) -> str:
        """Return what tells two versions apart, for the log."""
        return f"{self.history}, change {self.change_no}"

    def follows(self, earlier: "Version") -> bool:
        """Whether this is the same registry later on, and not another one or an older one put back in its place."""
        return self.history == earlier.history and self.change_no >= earlier.change_no


async def standing(connection: Connection) -> Version:
    """Return the version of all that the transaction of this connection sees; it is a repeatable read."""
    record = await connection.fetchrow(STANDING)
    assert record is not None
    return Version(**record)


async def next_instant(connection: Connection, *, within: timedelta) -> datetime | None:
    """Return when the next assignment begins or ends, by the database's clock."""
    instant: datetime | None = await connection.fetchval(NEXT_INSTANT, within)
    return instant


async def load_all(connection: Connection) -> AsyncIterator[list[Row]]:
    """Return the whole registry."""
    cursor = await connection.cursor(LOAD_ALL)
    held_back: list[Row] = []  # the last device's, which may have more rows to come
    while records := await cursor.fetch(SLICE):
        rows = held_back + [_row(record) for record in records]
        end = len(rows) - 1
        while end and rows[end - 1][0] == rows[-1][0]:
            end -= 1
        held_back = rows[end:]
        yield rows[:end]
    yield held_back


async def load_some(connection: Connection, device_ids: Collection[str]) -> list[Row]:
    """Return what is registered under these names."""
    return [_row(record) for record in await connection.fetch(LOAD_SOME, sorted(device_ids))]


async def load_keys(connection: Connection, device_nos: Collection[int]) -> Mapping[int, list[DeviceKey]]:
    """Return the keys by which these devices may sign, by their numbers; of one key the certificate that lasts longest."""
    found: dict[int, list[DeviceKey]] = {}
    for record in await connection.fetch(LOAD_KEYS, sorted(device_nos)):
        key = x509.load_der_x509_certificate(record["certificate"]).public_key()
        assert isinstance(key, EllipticCurvePublicKey), "control certifies no other keys"
        found.setdefault(record["device_no"], []).append(
            DeviceKey(kid=record["kid"], key=key, not_after=record["not_after"])
        )
    return found


async def is_everything_changed(connection: Connection, since: Version) -> bool:
    """Whether a change since then is not told by device."""
    answer: bool = await connection.fetchval(IS_EVERYTHING_CHANGED, since.snapshot)
    return answer


async def load_names_gone(connection: Connection, since: Version) -> AsyncIterator[list[str]]:
    """Return the names that stopped being registered since then; some may be again."""
    cursor = await connection.cursor(LOAD_NAMES_GONE, since.snapshot)
    while records := await cursor.fetch(SLICE):
        yield [record["device_id"] for record in records]


async def load_changed(connection: Connection, since: Version) -> AsyncIterator[list[Row]]:
    """Return the registered devices among those that changed since then, and perhaps some that did not."""
    cursor = await connection.cursor(LOAD_NUMBERS_CHANGED, since.snapshot, since.at)
    while records := await cursor.fetch(SLICE):
        numbers = [record["device_no"] for record in records]
        yield [_row(record) for record in await connection.fetch(LOAD_NUMBERED, numbers)]


async def look_up(connection: Connection) -> None:
    """Have this transaction go by keys rather than through whole tables."""
    await connection.execute(LOOK_UP)


def _row(record: "asyncpg.Record") -> Row:
    device_id, device_no, kind_no, principal_no = record
    return device_id.encode(), pack(kind_no, device_no, principal_no)
