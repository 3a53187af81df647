"""A province is attacked while it broadcasts: each attack is refused where it should be, on record with its reason, and
changes nothing that sounds.

Every part is real: the platform, its fleet, and attackers with an independent client at the platform's own broker. The
tables of single cases are in tests/integration; this is their sum.
"""

import asyncio
import secrets
import urllib.request
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any, TypeAlias

import asyncpg
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas import codec, signing
from schemas.fields import ClockState
from schemas.heartbeats import ClusterHeartbeat
from schemas.plans import Plan
from schemas.topics import shared
from services.control.trust.certificates import ServiceName
from services.local import demo, factory
from services.local.platform import DATABASE, Platform, free_port, platform
from services.local.province import Province, lay_out, read_units
from services.shared.clock import utc_now
from tests.support import waiting
from tests.support.broker import NOT_AUTHORIZED, MqttClient, NotConnected, connect_device, connect_service, mint

DEADLINE_S = 90.0
Y1970_MS = 86_400_000
Y2099_MS = 4_070_908_800_000
FIRMWARE = "mallory 1.0"

# Registered, certified, and played by the test instead of the simulator.
MALLORY = "mallory-01"

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


until = partial(waiting.until, deadline_s=DEADLINE_S)


def now_ms() -> int:
    return int(utc_now().timestamp() * 1_000)


def a_heartbeat(at_ms: int) -> bytes:
    return codec.encode(
        ClusterHeartbeat(
            device_at_ms=at_ms, clock=ClockState.SYNCHRONISED, firmware=FIRMWARE, uptime_s=1, volume_percent=1
        )
    )


def metric(port: int, name: str) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
        for line in response.read().decode().splitlines():
            if line.startswith(f"{name} "):
                return float(line.rpartition(" ")[2])
    return 0.0


async def the_plan_of(database: Connection, device_id: str) -> bytes:
    """The signed plan control has issued to a device last."""
    message = await database.fetchval(
        "SELECT message FROM control.issued_orders o JOIN control.devices USING (device_no)"
        " WHERE device_id = $1 AND o.kind = 'plan'",
        device_id,
    )
    assert isinstance(message, bytes), f"no plan was issued to {device_id}"
    return message


def forged_plans(site: Platform, *, old: bytes, new: bytes, foreign: bytes) -> dict[str, bytes]:
    """What somebody who holds the broker, or even an old platform key, could send instead of a plan; by the reason with
    which a device has to refuse it.
    """
    flipped = bytearray(new)
    flipped[len(flipped) // 2] ^= 1
    key = serialization.load_pem_private_key(site.pki.platform_signing_key.read_bytes(), password=None)
    assert isinstance(key, Ed25519PrivateKey)
    plan = signing.verify(Plan, new, {signing.key_id(key.public_key()): key.public_key()})
    # Long enough ago to be over, not so long that the key was not believed yet.
    begin_ms = now_ms() - 60_000
    times = {"issued_at_ms": begin_ms, "valid_from_ms": begin_ms, "valid_until_ms": begin_ms + 1_000}
    expired = plan.model_copy(update={**times, "serial": plan.serial + 1})
    return {
        "bad_signature": bytes(flipped),
        "replayed": old,
        "foreign_audience": foreign,
        "expired": signing.sign(expired, key),
        "malformed": b"\xff\x00garbage",
    }


def attack_a_device(site: Platform, victim: str, forged: dict[str, bytes]) -> None:
    with connect_service(site.broker, ServiceName.CONTROL, client_id="control:thief") as control:
        for message in forged.values():
            assert control.publish(f"loa/v1/{victim}/down/plan", message, retain=True) == 0


def attack_ingest(site: Platform, victim: str) -> None:
    """Everything a device with a valid certificate, and somebody with a self-made one, can try. Quarantines 3 messages."""
    broker, pki = site.broker, site.pki
    # As ingest, by its client id; the broker makes that the name of the certificate.
    with connect_device(broker, MALLORY, client_id="ingest:1") as mallory:
        for group in ("ingest", secrets.token_urlsafe(15)):
            mallory.subscribe(shared(group, "loa/v1/+/up/event"))
        for topic_filter in ("#", f"loa/v1/{victim}/#"):
            mallory.subscribe(topic_filter)
        for topic in ("up/heartbeat", "up/event", "presence", "down/plan", "down/receipt"):
            assert mallory.publish(f"loa/v1/{victim}/{topic}", a_heartbeat(now_ms())) == NOT_AUTHORIZED
        assert mallory.publish(f"loa/v1/{MALLORY}/up/heartbeat", b"\xffgarbage") == 0
        for at_ms in (Y1970_MS, Y2099_MS):
            assert mallory.publish(f"loa/v1/{MALLORY}/up/heartbeat", a_heartbeat(at_ms)) == 0
        with pytest.raises(NotConnected):
            mallory.publish(f"loa/v1/{MALLORY}/up/heartbeat", bytes(10_000_000))
        # Asking for everything, it is given its own orders.
        assert {message.topic.split("/")[2] for message in mallory.messages} <= {MALLORY}
    with connect_device(broker, "nobody-01") as stranger:
        assert stranger.publish("loa/v1/nobody-01/up/heartbeat", a_heartbeat(now_ms())) == 0
    impostor = mint(pki, "ingest")
    with pytest.raises(NotConnected):
        MqttClient(broker.service_port, pki, impostor, client_id="ingest:1")
    with MqttClient(broker.device_port, pki, impostor, client_id="ingest:1") as fake:
        fake.subscribe("loa/v1/+/up/#")
        assert fake.publish("loa/v1/ingest/up/heartbeat", a_heartbeat(now_ms())) == 0
        assert fake.payloads() == []


async def register_mallory(site: Platform, province: Province) -> None:
    """A device in another district than the one that broadcasts."""
    communes = {unit.code: unit.parent_code for unit in province.units}
    elsewhere = next(
        code
        for code, parent in communes.items()
        if parent and communes[parent] and province.host.code not in (code, parent)
    )
    async with demo.person(site, demo.ADMINISTRATOR) as administrator:
        unit_ids = {unit["code"]: unit["unit_id"] for unit in await administrator.get("/units/tree")}
        row = {"device_id": MALLORY, "kind": "cluster", "unit_id": unit_ids[elsewhere], "name": "Mallory"}
        await administrator.post("/devices/batch", {"devices": [row]})


async def orders_are_held(database: Connection, device_ids: list[str]) -> bool:
    """Whether each of these devices says that it holds the newest plan of control, and that plan has something in it."""
    rows = await database.fetch(
        "SELECT s.plan_serial = o.serial AND o.emissions > 0 AS is_held FROM telemetry.fleet_states s"
        " JOIN control.devices USING (device_no) JOIN control.issued_orders o USING (device_no)"
        " WHERE device_id = ANY($1) AND o.kind = 'plan'",
        device_ids,
    )
    return len(rows) == len(device_ids) and all(row["is_held"] for row in rows)


async def refusals(database: Connection) -> list[tuple[str, str, str]]:
    """What devices have refused, and why: as stored from their journals."""
    rows = await database.fetch(
        "SELECT device_id, body->>'refused' AS what, body->>'reason' AS reason FROM telemetry.event_log e"
        " JOIN control.devices USING (device_no) WHERE e.kind = 'refused'"
    )
    return sorted((row["device_id"], row["what"], row["reason"]) for row in rows)


async def proof_of(site: Platform, broadcast: dict[str, Any]) -> dict[str, int]:
    async with demo.person(site, demo.OFFICER) as officer:
        proof: dict[str, int] = (await officer.get(f"/broadcasts/{broadcast['broadcast_id']}"))["proof"]
    return proof


async def check_what_is_on_record(database: Connection, health_port: int, refused_before: float) -> None:
    """Each attack on ingest with its reason, and nothing said for another device."""
    kept = await database.fetch("SELECT principal, reason, messages FROM telemetry.quarantine_log")
    assert {tuple(row) for row in kept} == {
        (MALLORY, "not_cbor", 1),
        ("nobody-01", "unknown_principal", 1),
        ("ingest", "unknown_topic", 1),  # a name no device may have
    }
    for kind, count in (("foreign_topic", 5), ("oversized_packet", 1), ("untrusted_certificate", 1 + refused_before)):
        assert metric(health_port, f'ingest_broker_refusals_total{{kind="{kind}"}}') == count, kind
    said = await database.fetch(
        "SELECT device_id, time_source, at = received_at AS is_mended FROM telemetry.heartbeat_log"
        " JOIN control.devices USING (device_no) WHERE firmware = $1",
        FIRMWARE,
    )
    assert [tuple(row) for row in said] == [(MALLORY, "clock_absurd", True)] * 2
    counted = await database.fetch("SELECT principal, reason, messages FROM telemetry.quarantine_counts WHERE kept = 0")
    assert [tuple(row) for row in counted] == [(MALLORY, "clock_absurd", 2)]


async def test_a_province_under_attack_refuses_counts_and_sounds(passable_tmp: Path) -> None:
    data = passable_tmp / "province"
    file, valid_from = demo.TREES[False]
    health = free_port()
    async with AsyncExitStack() as parts:
        units = parts.enter_context(resources.as_file(resources.files("services.control") / "data" / file))
        province = lay_out(read_units(units), 6)
        victim, other = (each.device_id for each in province.devices[:2])
        site = await parts.enter_async_context(platform(data, http_port=free_port()))
        await demo.found(site, units, valid_from)
        factory.equip(site.pki, province.devices, data / "fleet.json", now=utc_now())
        database = await asyncpg.connect(site.postgres.dsn(DATABASE))
        parts.push_async_callback(database.close)
        ingest = await parts.enter_async_context(site.ingest(health_port=health))
        await parts.enter_async_context(site.control())
        await demo.settle(site, province)
        await parts.enter_async_context(site.fleet(data / "fleet.json", demo.FAST_HEARTBEATS))
        await demo.until_connected(site, province)
        await register_mallory(site, province)

        old = await the_plan_of(database, victim)
        async with demo.person(site, demo.OFFICER) as officer, demo.person(site, demo.APPROVER) as approver:
            broadcast = await demo.schedule(officer, approver, province, timedelta(seconds=5))
        await until(lambda: orders_are_held(database, [victim, other]), "both devices hold the plan")
        new, foreign = await the_plan_of(database, victim), await the_plan_of(database, other)
        assert old != new
        forged = forged_plans(site, old=old, new=new, foreign=foreign)

        async def lists_are_in_force() -> bool:
            return bool(
                await database.fetchval("SELECT bool_and(in_force_at IS NOT NULL) FROM control.revocation_lists")
            )

        # Control tries at the door for devices whether its list is in force; each try is a refusal.
        await until(lists_are_in_force, "the list of revoked certificates is in force")
        refused_before = metric(health, 'ingest_broker_refusals_total{kind="untrusted_certificate"}')
        await asyncio.gather(
            asyncio.to_thread(attack_a_device, site, victim, forged),
            asyncio.to_thread(attack_ingest, site, victim),
        )

        async def has_told() -> bool:
            return len(await refusals(database)) >= len(forged)

        async def is_proven() -> bool:
            proof = await proof_of(site, broadcast)
            return proof["planned"] > 0 and not proof["pending"]

        await until(has_told, "the device has told of every forged plan")
        await until(is_proven, "every emission has its verdict")

        # Every speaker has sounded as if nothing had happened; the attacked device says what it refused and why.
        proof = await proof_of(site, broadcast)
        assert proof["played"] + proof["late"] + proof["by_gateway"] == proof["planned"] == broadcast["devices"] == 6
        assert proof["unexplained"] == 0
        assert await refusals(database) == sorted((victim, "plan", reason) for reason in forged)
        await check_what_is_on_record(database, health, refused_before)
        # Ingest has kept its session and its life.
        assert metric(health, 'ingest_broker_connections_total{lane="bulk"}') == 1
        assert ingest.returncode is None
