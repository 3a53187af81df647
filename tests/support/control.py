"""A province in a database, for tests of planning, delivery and proof: rows written directly, as role loa_control.

Also what devices said, written as ingest would write it (role loa_ingest): encoded by `schemas`, never by hand.
"""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from prometheus_client import CollectorRegistry

from schemas import device_signing, signing
from schemas.events import Event
from schemas.fields import ClockState
from schemas.identifiers import BroadcastId, BulletinId, UnitId
from schemas.keys import KeySet, SigningKey, key_id
from schemas.wire import to_json
from services.control import planning_queue
from services.control.engine_settings import DeliverySettings, PlanningSettings, ProofSettings
from services.control.metrics import ControlMetrics
from services.control.planner import Planner
from services.control.planning.model import DeviceNo, to_ms
from services.control.trust.keyring import Keyring, parse_key_set
from services.shared.clock import utc_now
from services.shared.database.pool import Connection, Database, open_database
from tests.support.database import TestDatabase

ZONE = "Asia/Ho_Chi_Minh"
MEDIA_BASE_URL = "http://media.test:8480"
LOCAL = ZoneInfo(ZONE)

_numbers = itertools.count(1)


def local_day(at: datetime) -> date:
    """The day in Việt Nam."""
    return at.astimezone(LOCAL).date()


def local_time(at: datetime) -> time:
    """The time of day in Việt Nam."""
    return at.astimezone(LOCAL).time()


def a_keyring(root: Ed25519PrivateKey | None = None) -> Keyring:
    """Fresh keys, announced."""
    root = root or Ed25519PrivateKey.generate()
    private = Ed25519PrivateKey.generate()
    now = utc_now()
    raw = private.public_key().public_bytes_raw()
    keys = KeySet(
        serial=1,
        issued_at_ms=to_ms(now),
        valid_from_ms=to_ms(now - timedelta(days=1)),
        valid_until_ms=to_ms(now + timedelta(days=700)),
        keys=(
            SigningKey(
                kid=key_id(raw),
                public_key=raw,
                not_before_ms=to_ms(now - timedelta(days=1)),
                not_after_ms=to_ms(now + timedelta(days=700)),
            ),
        ),
    )
    return Keyring(private_key=private, announced=parse_key_set(signing.sign(keys, root), source="test"))


def verifier(keyring: Keyring) -> Mapping[bytes, Ed25519PublicKey]:
    """What a device believes: the platform's public key by its id."""
    return {keyring.kid: keyring.private_key.public_key()}


def some_metrics() -> ControlMetrics:
    """Metrics of a registry of their own."""
    return ControlMetrics(CollectorRegistry())


@dataclass
class Province:
    """Rows in the database, by short names."""

    control: Database
    ingest: Database
    units: dict[str, UnitId] = field(default_factory=dict)
    devices: dict[str, DeviceNo] = field(default_factory=dict)
    account_id: uuid.UUID = field(default_factory=uuid.uuid4)

    async def unit(self, name: str, parent: str | None = None, *, valid_from: date = date(2020, 1, 1)) -> UnitId:
        unit_id = UnitId(uuid.uuid4())
        async with self.control.transaction() as connection:
            await connection.execute("INSERT INTO control.units (unit_id, created_at) VALUES ($1, now())", unit_id)
            await connection.execute(
                """
                INSERT INTO control.unit_versions
                       (unit_id, valid_from, parent_id, code, level, name, sort_key, search_text)
                VALUES ($1, $2, $3, $4, 'unit', $4, $4, $4)
                """,
                unit_id,
                valid_from,
                self.units[parent] if parent else None,
                name,
            )
        self.units[name] = unit_id
        return unit_id

    async def device(
        self,
        device_id: str,
        unit: str,
        kind: str = "cluster",
        *,
        gateway: str | None = None,
        registered_at: datetime | None = None,
    ) -> DeviceNo:
        now = utc_now()
        async with self.control.transaction() as connection:
            no = DeviceNo(
                await connection.fetchval(
                    """
                    INSERT INTO control.devices (device_id, kind, unit_id, name, registered_at, latitude, longitude)
                    VALUES ($1, $2, $3, $1, $4, 21.27, 106.19)
                    RETURNING device_no
                    """,
                    device_id,
                    kind,
                    self.units[unit],
                    registered_at or now - timedelta(days=30),
                )
            )
            if gateway is not None:
                await connection.execute(
                    "INSERT INTO control.gateway_assignments (device_no, gateway_no, valid_from) VALUES ($1, $2, $3)",
                    no,
                    self.devices[gateway],
                    now - timedelta(days=30),
                )
            await planning_queue.request_fleet(connection, [no], [self.units[unit]], at=now)
        self.devices[device_id] = no
        return no

    async def bulletin(
        self,
        *,
        seconds: float | None = 60,
        board_text: str | None = None,
        state: str = "approved",
        title: str = "Bản tin",
    ) -> BulletinId:
        bulletin_id = BulletinId(uuid.uuid4())
        sha256 = next(_numbers).to_bytes(32, "big") if seconds is not None else None
        async with self.control.transaction() as connection:
            if sha256 is not None and seconds is not None:
                await connection.execute(
                    """
                    INSERT INTO control.media (sha256, size, mime, duration_ms, sample_rate_hz, channels, stored_at)
                    VALUES ($1, 16000, 'audio/mpeg', $2, 44100, 1, now())
                    """,
                    sha256,
                    round(seconds * 1000),
                )
            await connection.execute(
                """
                INSERT INTO control.bulletins
                       (bulletin_id, unit_id, title, subject_field, media_sha256, board_text, content_hash, state,
                        created_at, created_by)
                VALUES ($1, $2, $3, 'general', $4, $5, $6, $7, now(), $8)
                """,
                bulletin_id,
                next(iter(self.units.values())),
                title,
                sha256,
                board_text,
                b"\x00" * 32,
                state,
                self.account_id,
            )
        return bulletin_id

    async def broadcast(
        self,
        unit: str,
        items: Sequence[BulletinId],
        *,
        at: datetime | None = None,
        times: Sequence[time] | None = None,
        daily: bool = False,
        to: Iterable[str] = (),
        level: str = "priority",
        issued_at: datetime | None = None,
        requested_at: datetime | None = None,
        volume_percent: int | None = None,
        relays: Mapping[uuid.UUID, timedelta] | None = None,
    ) -> BroadcastId:
        """A broadcast that begins at `at`, to units and devices by their names (default: the unit itself).

        Priority content enters everywhere; normal content from above would have to be accepted first (R-17).
        """
        broadcast_id = BroadcastId(uuid.uuid4())
        now = utc_now()
        starts = at or now + timedelta(hours=1)
        async with self.control.transaction() as connection:
            await connection.execute(
                """
                INSERT INTO control.broadcasts
                       (broadcast_id, unit_id, title, level, recurrence, time_zone, starts_on, local_times, state,
                        issued_at, created_by, volume_percent)
                VALUES ($1, $2, 'Buổi phát', $3, $4, $5, $6, $7, 'scheduled', $8, $9, $10)
                """,
                broadcast_id,
                self.units[unit],
                level,
                "daily" if daily else "once",
                ZONE,
                local_day(starts),
                list(times) if times is not None else [local_time(starts)],
                issued_at or now - timedelta(days=1),
                self.account_id,
                volume_percent,
            )
            await connection.executemany(
                "INSERT INTO control.broadcast_items (broadcast_id, item, bulletin_id) VALUES ($1, $2, $3)",
                [(broadcast_id, place, bulletin_id) for place, bulletin_id in enumerate(items)],
            )
            await connection.executemany(
                "INSERT INTO control.broadcast_items (broadcast_id, item, relay_source_id, length_ms) VALUES ($1, $2, $3, $4)",
                [
                    (broadcast_id, place, source_id, length // timedelta(milliseconds=1))
                    for place, (source_id, length) in enumerate((relays or {}).items(), start=len(items))
                ],
            )
            await connection.executemany(
                """
                INSERT INTO control.broadcast_targets (broadcast_id, position, unit_id, device_no)
                VALUES ($1, $2, $3, $4)
                """,
                [
                    (broadcast_id, place, self.units.get(name), self.devices.get(name))
                    for place, name in enumerate(to or [unit])
                ],
            )
            await planning_queue.request_broadcast(connection, broadcast_id, at=requested_at or now)
        return broadcast_id

    async def source(self, name: str, *, fallback: BulletinId | None = None) -> uuid.UUID:
        """A relay source of the root at the relay point."""
        source_id = uuid.uuid4()
        await self.execute(
            """
            INSERT INTO control.relay_sources
                   (source_id, unit_id, name, kind, url, is_direct, fallback_bulletin_id, created_at, created_by)
            VALUES ($1, $2, $3, 'stream', 'https://source.test/live', false, $4, now(), $5)
            """,
            source_id,
            next(iter(self.units.values())),
            name,
            fallback,
            self.account_id,
        )
        return source_id

    async def policy(self, unit: str, **body: Any) -> None:
        """What a unit says for its ground, in the words of its document."""
        async with self.control.transaction() as connection:
            await connection.execute(
                """
                INSERT INTO control.policies (unit_id, body, changed_at, changed_by) VALUES ($1, $2, now(), $3)
                    ON CONFLICT (unit_id) DO UPDATE SET body = excluded.body
                """,
                self.units[unit],
                body,
                self.account_id,
            )
            await planning_queue.request_ground(connection, self.units[unit], at=utc_now())

    async def decide(self, broadcast_id: BroadcastId, unit: str, state: str, *, at: datetime | None = None) -> None:
        """As if somebody in the unit had decided on an offer."""
        async with self.control.transaction() as connection:
            await connection.execute(
                """
                UPDATE control.offers SET state = $3, decided_at = now(), decided_by = $4
                 WHERE broadcast_id = $1 AND unit_id = $2
                """,
                broadcast_id,
                self.units[unit],
                state,
                self.account_id,
            )
            await planning_queue.request_broadcast(connection, broadcast_id, at=at or utc_now())

    async def withdraw(self, broadcast_id: BroadcastId) -> None:
        now = utc_now()
        async with self.control.transaction() as connection:
            await connection.execute(
                "UPDATE control.broadcasts SET state = 'withdrawn', withdrawn_at = $2 WHERE broadcast_id = $1",
                broadcast_id,
                now,
            )
            await planning_queue.request_broadcast(connection, broadcast_id, at=now)

    async def change_broadcast(self, broadcast_id: BroadcastId, *, at: datetime, **columns: Any) -> None:
        """As if an officer had put another wish in its place."""
        async with self.control.transaction() as connection:
            for column, value in {**columns, "issued_at": at}.items():
                await connection.execute(
                    f"UPDATE control.broadcasts SET {column} = $2 WHERE broadcast_id = $1", broadcast_id, value
                )
            await planning_queue.request_broadcast(connection, broadcast_id, at=at)

    async def change_device(self, device_id: str, **columns: Any) -> None:
        now, no = utc_now(), self.devices[device_id]
        async with self.control.transaction() as connection:
            here = "SELECT unit_id FROM control.devices WHERE device_no = $1"
            places = {UnitId(await connection.fetchval(here, no))}
            for column, value in columns.items():
                await connection.execute(f"UPDATE control.devices SET {column} = $2 WHERE device_no = $1", no, value)
            places.add(UnitId(await connection.fetchval(here, no)))
            if columns.keys() <= {"name"}:
                places = set()
            await planning_queue.request_fleet(connection, [no], places, at=now)

    async def rows(self, query: str, *arguments: object) -> list[dict[str, Any]]:
        async with self.control.connection() as connection:
            return [dict(row) for row in await connection.fetch(query, *arguments)]

    async def value(self, query: str, *arguments: object) -> Any:
        async with self.control.connection() as connection:
            return await connection.fetchval(query, *arguments)

    async def execute(self, query: str, *arguments: object) -> None:
        async with self.control.connection() as connection:
            await connection.execute(query, *arguments)

    async def emissions(self, broadcast_id: BroadcastId) -> list[dict[str, Any]]:
        return await self.rows(
            """
            SELECT e.*, d.device_id
              FROM control.emissions e
              JOIN control.devices d USING (device_no)
             WHERE broadcast_id = $1
             ORDER BY starts_at, device_no
            """,
            broadcast_id,
        )

    # --- what devices said -------------------------------------------------------------------------------------------

    async def event(
        self,
        device_id: str,
        event: Event,
        *,
        principal: str | None = None,
        received_at: datetime | None = None,
        connection: Connection | None = None,
        key: EllipticCurvePrivateKey | None = None,
    ) -> None:
        """Store an event as ingest does, as signed with `key` where there is one, and ring its bell."""

        async def store(on: Connection) -> None:
            received = received_at or utc_now()
            is_trusted = event.clock is not ClockState.UNSYNCHRONISED
            device_at = datetime.fromtimestamp(event.device_at_ms / 1000, UTC)
            await on.execute(
                """
                INSERT INTO telemetry.events
                       (journal, sequence, at, device_at, received_at, device_no, principal_no, clock_state,
                        time_source, kind, principal, body, signer)
                VALUES (1, $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
                """,
                next(_numbers),
                device_at if is_trusted else received,
                None if is_trusted else device_at,
                received,
                self.devices[device_id],
                self.devices.get(principal) if principal and principal != device_id else None,
                int(event.clock),
                0 if is_trusted else 1,
                event.type.name.lower(),
                principal or device_id,
                to_json(event),
                None if key is None else device_signing.key_id(key.public_key()),
            )
            await on.execute("SELECT pg_notify('telemetry_committed', '{\"events\": 1}')")

        if connection is not None:
            await store(connection)
            return
        async with self.ingest.transaction() as own:
            await store(own)

    async def heard(
        self,
        device_id: str,
        *,
        at: datetime | None = None,
        plan_serial: int | None = None,
        config_serial: int | None = None,
        principal: str | None = None,
    ) -> None:
        """Store the latest state of a device as ingest does after a heartbeat."""
        when = at or utc_now()
        async with self.ingest.connection() as connection:
            await connection.execute(
                """
                INSERT INTO telemetry.device_states
                       (device_no, principal, is_through_gateway, last_heard_kind, last_heard_at, heartbeat_at,
                        heartbeat_received_at, plan_serial, config_serial, kind, clock_state, time_source, firmware)
                VALUES ($1, $2, $3, 0, $4, $4, $4, $5, $6, 0, 0, 0, 'test 1.0')
                    ON CONFLICT (device_no) DO UPDATE
                   SET principal = excluded.principal,
                       is_through_gateway = excluded.is_through_gateway,
                       last_heard_at = excluded.last_heard_at,
                       heartbeat_at = excluded.heartbeat_at,
                       heartbeat_received_at = excluded.heartbeat_received_at,
                       plan_serial = excluded.plan_serial,
                       config_serial = excluded.config_serial
                """,
                self.devices[device_id],
                principal or device_id,
                principal is not None and principal != device_id,
                when,
                plan_serial,
                config_serial,
            )


@asynccontextmanager
async def a_province(database: TestDatabase) -> AsyncIterator[Province]:
    """Province 1 with districts a and b, communes a1, a2 in a and b1 in b, and an officer."""
    async with (
        open_database(database.control, application="test") as control,
        open_database(database.ingest, application="test") as ingest,
    ):
        province = Province(control, ingest)
        for name, parent in (("p", None), ("a", "p"), ("b", "p"), ("a1", "a"), ("a2", "a"), ("b1", "b")):
            await province.unit(name, parent)
        async with control.connection() as connection:
            await connection.execute(
                """
                INSERT INTO control.accounts (account_id, unit_id, login, display_name, password_hash, created_at)
                VALUES ($1, $2, 'officer', 'Cán bộ', 'x', now())
                """,
                province.account_id,
                province.units["p"],
            )
        yield province


def a_planner(database: Database, keyring: Keyring, **changes: Any) -> Planner:
    """A planner whose turns the test takes itself."""
    return Planner(
        database,
        settings=PlanningSettings(**changes),
        keyring=keyring,
        media_base_url=MEDIA_BASE_URL,
        zone=LOCAL,
        metrics=some_metrics(),
    )


def quick_delivery(**changes: Any) -> DeliverySettings:
    """Delivery that does not wait for anything longer than a test likes."""
    values: dict[str, Any] = {
        "turn_every": timedelta(milliseconds=200),
        "compare_every": timedelta(milliseconds=200),
        "publish_timeout": timedelta(seconds=5),
    }
    return DeliverySettings(**(values | changes))


def quick_proof(**changes: Any) -> ProofSettings:
    """Proof that looks often."""
    values: dict[str, Any] = {
        "turn_every": timedelta(milliseconds=200),
        "classify_every": timedelta(milliseconds=200),
    }
    return ProofSettings(**(values | changes))


async def eventually(
    condition: Callable[[], Awaitable[bool]], *, what: str, deadline: timedelta = timedelta(seconds=60)
) -> None:
    """Return when `condition` holds; fail when it does not in time."""
    until = asyncio.get_running_loop().time() + deadline.total_seconds()
    while not await condition():
        assert asyncio.get_running_loop().time() < until, f"waited {deadline} in vain for {what}"
        await asyncio.sleep(0.02)
