"""The API of control over a real database: a small tree of units, people with roles, and a clock the test moves."""

from __future__ import annotations

import hashlib
import itertools
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import argon2
import httpx
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from schemas.identifiers import BroadcastId, BulletinId, DeviceId, UnitId
from services.control import (
    account_store,
    accounts,
    broadcast_store,
    bulletin_store,
    bulletins,
    device_store,
    unit_directory,
)
from services.control.account_store import Account
from services.control.alerting.sounds import Workshop
from services.control.api.app import create_api
from services.control.api.context import Services
from services.control.bulletin_store import Bulletin, MediaFile
from services.control.device_store import NewDevice
from services.control.engine_settings import EnrolmentSettings, RelaySettings, SensingSettings
from services.control.measurement import Limits, Measures
from services.control.media_files import MediaFiles
from services.control.metrics import ControlMetrics
from services.control.passwords import Passwords
from services.control.permissions import Grant, Role
from services.control.relay_files import RelayFiles
from services.control.settings import HttpSettings, MediaSettings, PolicySettings, SessionSettings
from services.control.trust import certificates
from services.control.trust.issuer import Issuer
from services.control.trust.secret_box import SecretBox
from services.control.unit_directory import UnitDirectory
from services.shared.database.pool import Database, open_database
from tests.support.conformance import Conforming
from tests.support.control import a_keyring
from tests.support.database import TestDatabase
from tests.support.workshops import RememberingMeasurer, RememberingRenderer

PASSWORD = "mot mat khau rat dai"
ZONE = ZoneInfo("Asia/Ho_Chi_Minh")
NOW = datetime(2026, 3, 10, 2, 0, tzinfo=UTC)  # 09:00 in Việt Nam
VALID_FROM = date(2020, 1, 1)

# north and south are districts; each has communes.
TREE = """code,parent_code,level,name
24,,province,Tỉnh Thử Nghiệm
1,24,district,Huyện Bắc
2,24,district,Huyện Nam
11,1,commune,Xã Đại Sơn
12,1,commune,Xã An Lạc
21,2,commune,Xã Tân Tiến
"""

# Cheap on purpose: what is tested is not the cost.
CHEAP = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


@dataclass(slots=True)
class Clock:
    """A clock that stands still until it is moved."""

    now: datetime = NOW

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **span: float) -> None:
        """Move on."""
        self.now += timedelta(**span)


@dataclass(slots=True)
class Api:
    """The application and everything a test needs to talk to it."""

    app: FastAPI
    client: httpx.AsyncClient
    services: Services
    telemetry: Database  # as role loa_ingest
    clock: Clock
    units: dict[str, UnitId] = field(default_factory=dict)

    @property
    def database(self) -> Database:
        """The database, as role loa_control."""
        return self.services.database

    async def account(
        self, *grants: tuple[Role, str], login: str | None = None, expires_at: datetime | None = None
    ) -> Account:
        """An account with roles in units given by code; it belongs to the first of them."""
        name = login or f"nguoi-{uuid.uuid4().hex[:12]}"
        account = Account(
            account_id=uuid.uuid4(),
            unit_id=self.units[grants[0][1]] if grants else self.units["24"],
            login=name,
            display_name=name.title(),
            created_at=self.clock.now,
            disabled_at=None,
            grants=tuple(Grant(unit_id=self.units[code], role=role, expires_at=expires_at) for role, code in grants),
        )
        async with self.database.transaction() as connection:
            await accounts.create_account(
                connection,
                account=account,
                password_hash=CHEAP.hash(PASSWORD),
                rights=None,
                actor=None,
                origin=None,
                now=self.clock.now,
            )
        return account

    async def token(self, account: Account) -> dict[str, str]:
        """Headers of a program that acts for the account."""
        async with self.database.transaction() as connection:
            _, text = await accounts.create_token(
                connection,
                actor=accounts.actor_of(account),
                name="test",
                expires_at=self.clock.now + timedelta(days=3_000),
                origin=None,
                now=self.clock.now,
            )
        return {"Authorization": f"Bearer {text}"}

    async def person(self, *grants: tuple[Role, str]) -> dict[str, str]:
        """Headers of somebody with these roles."""
        return await self.token(await self.account(*grants))

    async def fetchval(self, query: str, *arguments: Any) -> Any:
        """One value of the database."""
        async with self.database.connection() as connection:
            return await connection.fetchval(query, *arguments)

    async def execute(self, query: str, *arguments: Any) -> None:
        """Change something behind the API's back."""
        async with self.database.connection() as connection:
            await connection.execute(query, *arguments)


def a_policy(**changes: Any) -> PolicySettings:
    """What the province has decided; nobody has an authenticator app but where it is tested."""
    return PolicySettings(second_factor_needed=False, **changes)


def an_issuer(now: datetime) -> Issuer:
    """An authority of this test's own."""
    return Issuer(
        authority=certificates.make_issuing_ca(now=now),
        root_public_key=bytes(range(32)),
        broker_host="mqtt.loa.test",
        broker_port=8883,
        broker_ca="-----BEGIN CERTIFICATE-----\n",
        validity=timedelta(days=397),
    )


@asynccontextmanager
async def an_api(database: TestDatabase, folder: Path, **changes: Any) -> AsyncIterator[Api]:
    """The application over a database with `TREE` in it; `changes` replace parts of `Services`."""
    clock = Clock()
    media = MediaSettings(directory=folder / "media", base_url="http://media.test", max_file_mib=8)
    registry = CollectorRegistry()
    async with (
        open_database(database.control, application="control-test") as opened,
        open_database(database.ingest, application="ingest-test") as telemetry,
    ):
        files = MediaFiles(media.directory)
        files.prepare(now=clock.now)
        limits = Limits(max_duration_s=60, max_film_s=30, max_cpu_s=20, max_memory_mib=1024)
        measurer = RememberingMeasurer(limits)
        parts: dict[str, Any] = {
            "database": opened,
            "directory": UnitDirectory(ZONE),
            "passwords": Passwords(CHEAP),
            "files": files,
            "measurer": measurer,
            "workshop": Workshop(renderer=RememberingRenderer(limits), measurer=measurer, files=files),
            "relay_files": RelayFiles(media.directory),
            "http": HttpSettings(requests_per_minute=0),  # a test asks as often as it likes
            "media": media,
            "relays": RelaySettings(),
            "enrolment": EnrolmentSettings(),
            "issuer": an_issuer(clock.now),
            "sessions": SessionSettings(token_lifetime=timedelta(days=4_000)),
            "policy": a_policy(),
            "sensing": SensingSettings(),
            "secret_box": SecretBox([bytes(32)]),
            "horizon_days": 7,
            "registry": registry,
            "broker_is_connected": lambda: True,
            "clock": clock,
            "keyring": a_keyring(),
            "wake_alerts": lambda: None,
        }
        services = Services(**{**parts, **changes})
        app = create_api(services, ControlMetrics(registry))
        transport = httpx.ASGITransport(app=Conforming(app), client=("203.0.113.7", 4711))
        async with httpx.AsyncClient(transport=transport, base_url="http://loa.test") as client:
            api = Api(app=app, client=client, services=services, telemetry=telemetry, clock=clock)
            await import_tree(api, TREE, VALID_FROM)
            yield api


async def import_tree(api: Api, content: str, valid_from: date) -> None:
    """Make a CSV the tree from a day on and note the units of that day by code."""
    async with api.database.transaction() as connection:
        await unit_directory.import_units(
            connection,
            content.encode(),
            valid_from=valid_from,
            zone=ZONE,
            may_strand=True,
            actor=None,
            origin=None,
            now=api.clock.now,
        )
        tree = (await api.services.directory.history(connection)).on(valid_from)
    api.units.update({unit.code: unit.unit_id for unit in tree})


async def account_by_login(api: Api, login: str) -> Account:
    """An account as stored."""
    account_id = await api.fetchval("SELECT account_id FROM control.accounts WHERE login = $1", login)
    async with api.database.connection() as connection:
        return await account_store.account(connection, account_id)


_serial = itertools.count(1)


async def add_device(api: Api, unit: str, kind: str = "cluster", **changes: Any) -> str:
    """A device in the unit with this code; returns its id."""
    device_id = DeviceId(changes.pop("device_id", f"{kind}-{next(_serial):05}"))
    device = NewDevice(device_id=device_id, kind=kind, unit_id=api.units[unit], name=f"Thiết bị {device_id}", **changes)
    async with api.database.transaction() as connection:
        await device_store.add_devices(connection, [device], at=api.clock.now - timedelta(days=1))
    return device_id


async def add_media(
    api: Api, *, duration_ms: int = 30_000, content: bytes | None = None, measures: Measures | None = None
) -> str:
    """A file as if it had been uploaded, a sound unless `measures` say otherwise; returns its hash."""
    bytes_ = content if content is not None else uuid.uuid4().bytes * 64
    sha256 = hashlib.sha256(bytes_).digest()
    path = api.services.files.path(sha256)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(bytes_)
    measures = measures or Measures(
        mime="audio/mpeg",
        duration_ms=duration_ms,
        sample_rate_hz=48_000,
        channels=1,
        loudness_lufs=-23.0,
        true_peak_dbtp=-3.0,
    )
    async with api.database.transaction() as connection:
        account_id = await _somebody(api)
        media = MediaFile(sha256=sha256, size=len(bytes_), measures=measures, stored_at=api.clock.now)
        await bulletin_store.add_media(connection, media, by=account_id)
    return sha256.hex()


async def add_bulletin(
    api: Api,
    unit: str,
    *,
    state: str = "approved",
    duration_ms: int | None = 30_000,
    board_text: str | None = None,
    by: uuid.UUID | None = None,
) -> str:
    """A bulletin of the unit with this code, with sound unless `duration_ms` is None; returns its id."""
    sha256 = await add_media(api, duration_ms=duration_ms) if duration_ms is not None else None
    maker = by or await _somebody(api)
    bulletin = Bulletin(
        bulletin_id=BulletinId(uuid.uuid4()),
        unit_id=api.units[unit],
        title="Thông báo lịch tiêm chủng",
        subject_field="general",
        language="vi",
        author=None,
        media_sha256=bytes.fromhex(sha256) if sha256 else None,
        board_text=board_text,
        content_hash=b"",
        content_form=bulletins.FORM,
        state=state,
        created_at=api.clock.now,
        created_by=maker,
        edited_by=frozenset({maker}),
    )
    bulletin = replace(bulletin, content_hash=bulletins.content_hash(bulletin))
    async with api.database.transaction() as connection:
        await bulletin_store.add_bulletin(connection, bulletin)
    return str(bulletin.bulletin_id)


async def broadcast_body(api: Api, unit: str, **changes: Any) -> dict[str, Any]:
    """A request for a broadcast that is valid: once, tomorrow, in the unit, which gets a cluster and a bulletin."""
    if "items" not in changes:
        changes["items"] = [{"bulletin_id": await add_bulletin(api, unit)}]
    if "targets" not in changes:
        await add_device(api, unit)
        changes["targets"] = [{"unit_id": str(api.units[unit])}]
    tomorrow = api.clock.now.astimezone(ZONE).date() + timedelta(days=1)
    return {
        "unit_id": str(api.units[unit]),
        "title": "Bản tin sáng",
        "recurrence": "once",
        "starts_on": tomorrow.isoformat(),
        "local_times": ["05:30"],
        **changes,
    }


async def add_broadcast(api: Api, unit: str, **changes: Any) -> dict[str, Any]:
    """A broadcast issued by the unit, asked for through the API by an officer of the root; the API's answer."""
    officer = await api.person((Role.OFFICER, "24"))
    response = await api.client.post(
        "/api/v1/broadcasts", json=await broadcast_body(api, unit, **changes), headers=officer
    )
    assert response.status_code == 201, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def group_body(api: Api, unit: str, **changes: Any) -> dict[str, Any]:
    """A request for a group that is valid: of the unit, with a cluster of it."""
    members = changes.pop("members", None) or [await add_device(api, unit)]
    return {"unit_id": str(api.units[unit]), "name": "Nhóm chợ", "members": members, **changes}


async def add_group(api: Api, unit: str, **changes: Any) -> dict[str, Any]:
    """A group of the unit, made through the API by an officer of the root; the API's answer."""
    officer = await api.person((Role.OFFICER, "24"))
    response = await api.client.post("/api/v1/groups", json=await group_body(api, unit, **changes), headers=officer)
    assert response.status_code == 201, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def add_source(api: Api, unit: str, *, is_direct: bool = False) -> str:
    """A relay source of the unit with this code, written directly; returns its id."""
    source_id = uuid.uuid4()
    await api.execute(
        """
        INSERT INTO control.relay_sources (source_id, unit_id, name, kind, url, is_direct, created_at, created_by)
        VALUES ($1, $2, 'VOV1', 'stream', 'https://vov.test/vov1', $3, $4, $5)
        """,
        source_id,
        api.units[unit],
        is_direct,
        api.clock.now,
        await _somebody(api),
    )
    return str(source_id)


async def add_offer(api: Api, unit: str, *, by: str = "24", **changes: Any) -> str:
    """A normal broadcast of a unit above with its bulletin, as offered to the unit; its id."""
    await add_device(api, unit)
    changes.setdefault("targets", [{"unit_id": str(api.units[unit])}])
    broadcast = await add_broadcast(api, by, **changes)
    broadcast_id = BroadcastId(uuid.UUID(broadcast["broadcast_id"]))
    async with api.database.transaction() as connection:
        await broadcast_store.offer(connection, [(broadcast_id, api.units[unit])], at=api.clock.now)
    return str(broadcast["broadcast_id"])


async def add_awaiting_broadcast(api: Api, unit: str, *, against: tuple[str, ...] = ()) -> str:
    """A broadcast of the unit that breaks the quiet hours of itself, or of others, and waits for an approver; its id."""
    broadcast = await add_broadcast(api, unit)
    broadcast_id = uuid.UUID(broadcast["broadcast_id"])
    await api.execute("UPDATE control.broadcasts SET state = 'awaiting_approval' WHERE broadcast_id = $1", broadcast_id)
    await api.execute(
        """
        INSERT INTO control.policy_exceptions (broadcast_id, version, rules, unit_ids, asked_at, asked_by)
        SELECT broadcast_id, version, array_fill('quiet_hours'::text, ARRAY[cardinality($2::uuid[])]), $2, $3, created_by
          FROM control.broadcasts
         WHERE broadcast_id = $1
        """,
        broadcast_id,
        [api.units[code] for code in against or (unit,)],
        api.clock.now,
    )
    return str(broadcast_id)


async def _somebody(api: Api) -> uuid.UUID:
    """Any account."""
    found: uuid.UUID | None = await api.fetchval("SELECT account_id FROM control.accounts ORDER BY created_at LIMIT 1")
    return found or (await api.account((Role.OFFICER, "24"))).account_id


async def heard(api: Api, device_id: str, *, at: datetime | None = None, **state: Any) -> None:
    """The latest state of a device as ingest keeps it after a heartbeat of a cluster."""
    when = at or api.clock.now
    device_no = await api.fetchval("SELECT device_no FROM control.devices WHERE device_id = $1", device_id)
    columns = {
        "device_no": device_no,
        "principal": device_id,
        "is_through_gateway": False,
        "last_heard_kind": 0,
        "last_heard_at": when,
        "heartbeat_at": when,
        "heartbeat_received_at": when,
        "kind": 0,
        "clock_state": 0,
        "time_source": 0,
        "firmware": "loa 1.0",
        **state,
    }
    places = ", ".join(f"${number}" for number in range(1, len(columns) + 1))
    async with api.telemetry.connection() as connection:
        await connection.execute(
            f"INSERT INTO telemetry.device_states ({', '.join(columns)}) VALUES ({places})", *columns.values()
        )


async def found_twice(api: Api, device_id: str, *, at: datetime) -> None:
    """As ingest writes it down when two devices speak with the certificate of this one."""
    device_no = await api.fetchval("SELECT device_no FROM control.devices WHERE device_id = $1", device_id)
    async with api.telemetry.connection() as connection:
        await connection.execute(
            "INSERT INTO telemetry.shared_certificates VALUES ($1, $2, $2, 'boots', 'went back 3 times')", device_no, at
        )


async def waiting_for_locks(api: Api) -> int:
    """How many sessions of the database wait for a lock that another one holds."""
    count: int = await api.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    return count
