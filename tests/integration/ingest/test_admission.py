"""What becomes of honest and other uplinks, from the broker to the database."""

import asyncio
import itertools
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from schemas import codec, device_signing
from schemas.fields import ClockState
from schemas.identifiers import DeviceId
from services.control.trust.certificates import ServiceName
from services.shared.clock import utc_now
from tests.integration.ingest.support import (
    BEHIND,
    BOARD,
    CLUSTER,
    GATEWAY,
    OTHER_CLUSTER,
    OTHER_GATEWAY,
    Bench,
    a_heartbeat,
    a_presence,
    a_reading,
    a_sensor_heartbeat,
    enveloped,
    eventually,
    now_ms,
    register,
)
from tests.support.broker import NOT_AUTHORIZED, MqttClient, NotConnected, connect_service
from tests.support.device_keys import certify, revoke

pytestmark = pytest.mark.integration

Y1970_MS = 86_400_000
Y2099_MS = 4_070_908_800_000
ABSURD_TIMES = pytest.mark.parametrize("device_at_ms", [Y1970_MS, Y2099_MS], ids=["1970", "2099"])


async def send(client: MqttClient, topic: str, payload: bytes, *, retain: bool = False) -> None:
    """Publish, and see it acknowledged by the broker."""
    assert await asyncio.to_thread(client.publish, topic, payload, retain=retain) == 0


async def test_honest_messages_of_all_kinds_are_stored(bench: Bench) -> None:
    async with bench.ingest():
        cluster = await bench.device(CLUSTER)
        gateway = await bench.device(GATEWAY)
        heartbeat = a_heartbeat()
        await send(cluster, f"loa/v1/{CLUSTER}/up/heartbeat", codec.encode(heartbeat))
        await send(cluster, f"loa/v1/{CLUSTER}/up/event", enveloped(1))
        await send(cluster, f"loa/v1/{CLUSTER}/presence", a_presence(5, online=True))
        await send(gateway, f"loa/v1/{GATEWAY}/up/heartbeat/{BEHIND}", codec.encode(a_sensor_heartbeat()))
        await send(gateway, f"loa/v1/{GATEWAY}/up/reading/{BEHIND}", codec.encode(a_reading()))

        # Classes of messages are written side by side: none says that the others are there.
        (totals,) = await bench.eventually(
            "SELECT * FROM telemetry.totals",
            lambda rows: (
                rows[0]["readings_stored"] == 2 and rows[0]["events_stored"] and rows[0]["heartbeats_stored"] == 2
            ),
        )
        (state,) = await bench.eventually(
            "SELECT * FROM telemetry.fleet_states WHERE device_no = $1 AND online", bool, bench.numbers[CLUSTER]
        )
        (event,) = await bench.rows("SELECT * FROM telemetry.event_log")
        (behind,) = await bench.rows("SELECT * FROM telemetry.fleet_states WHERE device_no = $1", bench.numbers[BEHIND])

    assert (totals["heartbeats_stored"], totals["events_stored"], totals["quarantined"]) == (2, 1, 0)
    assert state["kind"] == "cluster"
    assert state["network_operator"] == "Viettel"
    assert state["faulty_channels"] == [2]
    assert state["heartbeat_at"].timestamp() * 1000 == heartbeat.device_at_ms
    assert state["state"]["volume_percent"] == 40
    assert event["journal_id"] == "8899aabbccddeeff"
    assert event["kind"] == "play_started"
    assert event["body"]["reference"]["source"] == "command"
    assert not event["is_through_gateway"]
    assert behind["principal"] == GATEWAY
    assert behind["is_through_gateway"]


async def test_garbage_is_kept_once_with_its_bytes_and_does_not_block(bench: Bench) -> None:
    async with bench.ingest() as ingest:
        cluster = await bench.device(CLUSTER)
        for _ in range(3):
            await send(cluster, f"loa/v1/{CLUSTER}/up/heartbeat", b"\xffnot cbor")
        await send(cluster, f"loa/v1/{CLUSTER}/up/reading", codec.encode(a_heartbeat()))
        await send(cluster, f"loa/v1/{CLUSTER}/up/heartbeat", codec.encode(a_heartbeat()))

        garbage = await bench.quarantined("not_cbor", messages=3)
        await bench.eventually("SELECT * FROM telemetry.heartbeat_log", bool)
        rows = await bench.eventually("SELECT * FROM telemetry.quarantine_log", lambda rows: len(rows) == 2)
        counts = await bench.rows("SELECT * FROM telemetry.quarantine_counts WHERE reason = 'not_cbor'")
        await ingest.until('ingest_messages_quarantined_total{reason="not_cbor"}', 3)

    assert garbage["payload"] == b"\xffnot cbor"
    assert (garbage["principal"], garbage["device"], garbage["messages"]) == (CLUSTER, CLUSTER, 3)
    assert {row["reason"] for row in rows} == {"not_cbor", "wrong_type"}
    assert [(row["messages"], row["kept"]) for row in counts] == [(3, 1)]


async def test_a_certificate_without_a_registration_is_not_enough_and_a_fresh_registration_is(bench: Bench) -> None:
    async with bench.ingest():
        stranger = await bench.device("stranger-1")
        await send(stranger, "loa/v1/stranger-1/up/heartbeat", codec.encode(a_heartbeat()))
        row = await bench.quarantined("unknown_principal")
        assert row["principal"] == "stranger-1"

        await register(bench.owner, "stranger-1", "cluster")
        await send(stranger, "loa/v1/stranger-1/up/heartbeat", codec.encode(a_heartbeat()))
        await bench.eventually("SELECT * FROM telemetry.heartbeat_log", bool)


async def test_a_change_of_the_registry_is_heard_of_at_once(bench: Bench) -> None:
    async with bench.ingest(registry_refresh="1h") as ingest:
        loads = 'ingest_registry_loads_total{kind="changes"}'
        before = await ingest.metric(loads)
        await bench.owner.execute("UPDATE control.devices SET retired_at = now() WHERE device_id = $1", CLUSTER)

        async def loaded() -> float:
            return await ingest.metric(loads)

        await eventually(loaded, lambda count: count > before)
        cluster = await bench.device(CLUSTER)
        await send(cluster, f"loa/v1/{CLUSTER}/up/heartbeat", codec.encode(a_heartbeat()))
        assert (await bench.quarantined("unknown_principal"))["principal"] == CLUSTER


async def test_a_gateway_speaks_for_its_own_devices_only(bench: Bench) -> None:
    async with bench.ingest():
        other = await bench.device(OTHER_GATEWAY)
        gateway = await bench.device(GATEWAY)
        sensor = await bench.device(BEHIND)
        await send(other, f"loa/v1/{OTHER_GATEWAY}/up/heartbeat/{BEHIND}", codec.encode(a_sensor_heartbeat()))
        foreign = await bench.quarantined("not_allowed")
        await send(gateway, f"loa/v1/{GATEWAY}/up/heartbeat/nobody-1", codec.encode(a_sensor_heartbeat(uptime_s=61)))
        unknown = await bench.quarantined("unknown_device")
        # Assigned to a gateway, it is heard through that alone: its own word would be a second, unwatched path.
        await send(sensor, f"loa/v1/{BEHIND}/up/heartbeat", codec.encode(a_sensor_heartbeat(uptime_s=62)))
        own = await bench.eventually("SELECT * FROM telemetry.quarantine_log WHERE principal = $1", bool, BEHIND)

    assert (foreign["principal"], foreign["device"]) == (OTHER_GATEWAY, BEHIND)
    assert (unknown["principal"], unknown["device"]) == (GATEWAY, "nobody-1")
    assert own[0]["reason"] == "not_allowed"


async def test_a_heartbeat_of_another_kind_than_registered_is_refused(bench: Bench) -> None:
    async with bench.ingest():
        board = await bench.device(BOARD)
        await send(board, f"loa/v1/{BOARD}/up/heartbeat", codec.encode(a_heartbeat()))
        assert (await bench.quarantined("wrong_kind"))["principal"] == BOARD


async def test_a_retained_uplink_is_quarantined_cleared_and_counted(bench: Bench) -> None:
    topic = f"loa/v1/{CLUSTER}/up/heartbeat"
    async with bench.ingest() as ingest:
        cluster = await bench.device(CLUSTER)
        await send(cluster, topic, codec.encode(a_heartbeat()), retain=True)
        await bench.quarantined("retained")
        await ingest.until("ingest_retained_cleared_total", 1)
        # Whoever subscribes now is given nothing old: the first to arrive is what is published afterwards.
        with connect_service(bench.broker, ServiceName.INGEST, client_id="ingest:onlooker") as onlooker:
            await asyncio.to_thread(onlooker.subscribe, topic)
            fresh = codec.encode(a_heartbeat(uptime_s=61))
            await send(cluster, topic, fresh)
            await asyncio.to_thread(onlooker.wait_for, fresh)
            assert onlooker.payloads(topic) == [fresh]
        await bench.eventually("SELECT * FROM telemetry.heartbeat_log", bool)
        # Our own clearing came back through the shared subscription, and is nothing to quarantine.
        assert len(await bench.rows("SELECT * FROM telemetry.quarantine_log")) == 1


@ABSURD_TIMES
async def test_a_time_nobody_can_believe_is_replaced_marked_and_counted(bench: Bench, device_at_ms: int) -> None:
    async with bench.ingest():
        cluster = await bench.device(CLUSTER)
        before = utc_now()
        await send(cluster, f"loa/v1/{CLUSTER}/up/heartbeat", codec.encode(a_heartbeat(device_at_ms=device_at_ms)))
        (row,) = await bench.eventually("SELECT * FROM telemetry.heartbeat_log", bool)
        (count,) = await bench.rows("SELECT * FROM telemetry.quarantine_counts")

    assert row["time_source"] == "clock_absurd"
    assert row["at"] == row["received_at"] >= before
    assert row["device_at"].timestamp() * 1000 == device_at_ms
    assert (count["principal"], count["reason"], count["messages"], count["kept"]) == (CLUSTER, "clock_absurd", 1, 0)


async def test_the_time_of_a_device_that_doubts_its_own_clock_is_not_used(bench: Bench) -> None:
    async with bench.ingest():
        cluster = await bench.device(CLUSTER)
        heartbeat = a_heartbeat(clock=ClockState.UNSYNCHRONISED, device_at_ms=now_ms() - 3_600_000)
        await send(cluster, f"loa/v1/{CLUSTER}/up/heartbeat", codec.encode(heartbeat))
        (row,) = await bench.eventually("SELECT * FROM telemetry.heartbeat_log", bool)

    assert (row["time_source"], row["clock_state"]) == ("clock_unsynchronised", "unsynchronised")
    assert row["received_at"] == row["at"]
    assert row["at"] - row["device_at"] >= timedelta(hours=1)


async def test_late_rows_have_a_place_to_go(bench: Bench) -> None:
    async with bench.ingest():
        cluster = await bench.device(CLUSTER)
        for days in (0, 3, 30):
            at_ms = now_ms() - days * 86_400_000
            await send(cluster, f"loa/v1/{CLUSTER}/up/heartbeat", codec.encode(a_heartbeat(device_at_ms=at_ms)))
        rows = await bench.eventually("SELECT * FROM telemetry.heartbeat_log", lambda rows: len(rows) == 3)
        late = await bench.rows("SELECT * FROM telemetry.late_hours")
        (state,) = await bench.rows("SELECT * FROM telemetry.fleet_states")

    assert {row["time_source"] for row in rows} == {"device"}
    assert len(late) == 2
    assert state["heartbeat_at"] == max(row["at"] for row in rows)


async def test_presence_goes_by_connection_number_and_not_by_arrival(bench: Bench) -> None:
    topic = f"loa/v1/{CLUSTER}/presence"
    query = "SELECT online, connection_no FROM telemetry.fleet_states WHERE connection_no IS NOT NULL"
    steps = (
        (10, True, (True, 10)),
        (9, False, (True, 10)),  # the will of an older connection, late
        (11, True, (True, 11)),
        (11, False, (False, 11)),
        (11, True, (False, 11)),  # on equal numbers offline wins
        (12, True, (True, 12)),
    )
    async with bench.ingest() as ingest:
        cluster = await bench.device(CLUSTER)
        for step, (number, online, wanted) in enumerate(steps, start=1):
            await send(cluster, topic, a_presence(number, online=online), retain=True)
            await ingest.until('ingest_messages_admitted_total{kind="presence"}', step)
            (row,) = await bench.rows(query)
            assert (row["online"], row["connection_no"]) == wanted


async def test_a_presence_from_the_future_does_not_shut_out_the_present(bench: Bench) -> None:
    topic = f"loa/v1/{CLUSTER}/presence"
    query = "SELECT * FROM telemetry.fleet_states WHERE connection_no IS NOT NULL"
    async with bench.ingest():
        cluster = await bench.device(CLUSTER)
        await send(cluster, topic, a_presence(Y2099_MS, online=True, device_at_ms=Y2099_MS), retain=True)
        (row,) = await bench.eventually(query, bool)
        assert row["connection_no"] == Y2099_MS
        assert row["presence_at"] == row["presence_received_at"]

        # Its clock was put right and its flash was wiped: it counts from the time again, and is believed.
        number = now_ms()
        await send(cluster, topic, a_presence(number, online=True), retain=True)
        await bench.eventually(query, lambda rows: rows[0]["connection_no"] == number)


async def test_presence_published_before_ingest_ever_ran_is_known(bench: Bench) -> None:
    cluster = await bench.device(CLUSTER)
    # Nobody is subscribed yet; the broker says so and keeps it as retained.
    topic, an_hour_ago = f"loa/v1/{CLUSTER}/presence", utc_now().replace(microsecond=0) - timedelta(hours=1)
    kept = a_presence(3, online=True, device_at_ms=round(an_hour_ago.timestamp() * 1000))
    await asyncio.to_thread(cluster.publish, topic, kept, retain=True)
    query = "SELECT * FROM telemetry.fleet_states WHERE online AND connection_no = $1"
    async with bench.ingest():
        (row,) = await bench.eventually(query, bool, 3)
        assert row["last_heard_at"] == an_hour_ago  # the broker has spoken just now, the device has not

        await send(cluster, topic, a_presence(4, online=True), retain=True)
        (row,) = await bench.eventually(query, bool, 4)
        assert row["last_heard_at"] == row["presence_received_at"]


async def test_a_retained_message_under_a_name_nobody_can_have_is_cleared(bench: Bench) -> None:
    async with bench.ingest() as ingest:
        cluster = await bench.device(CLUSTER)
        await send(cluster, f"loa/v1/{CLUSTER}/up/heartbeat/NOBODY", codec.encode(a_heartbeat()), retain=True)
        await bench.quarantined("unknown_topic")
        await ingest.until("ingest_retained_cleared_total", 1)


async def test_what_the_database_refuses_is_found_and_the_rest_is_stored(bench: Bench) -> None:
    # The wire contract lets nothing through that PostgreSQL cannot hold, so the table is made stricter than the contract.
    await bench.owner.execute("ALTER TABLE telemetry.heartbeats ADD CONSTRAINT no_poison CHECK (firmware <> 'poison')")
    async with bench.ingest(batch={"size": 100, "age": "1s", "commit_timeout": "5s"}) as ingest:
        cluster = await bench.device(CLUSTER)
        at_ms = now_ms()
        for number in range(9):
            firmware = "poison" if number == 4 else "honest"
            heartbeat = a_heartbeat(device_at_ms=at_ms + number, firmware=firmware)
            await send(cluster, f"loa/v1/{CLUSTER}/up/heartbeat", codec.encode(heartbeat))
        poison = await bench.quarantined("database_refused")
        await bench.eventually("SELECT * FROM telemetry.heartbeat_log", lambda rows: len(rows) == 8)
        await ingest.until("ingest_messages_acknowledged_total", 9)

    assert codec.decode_heartbeat(poison["payload"]).firmware == "poison"
    assert "no_poison" in poison["detail"]


async def test_beyond_the_quota_only_counters_grow(bench: Bench) -> None:
    async with bench.ingest(quarantine={"per_principal": 2, "in_all": 3}):
        cluster, board = await bench.device(CLUSTER), await bench.device(BOARD)
        for number in range(5):
            await send(cluster, f"loa/v1/{CLUSTER}/up/heartbeat", b"\xff" + bytes([number]))
        for number in range(5):
            await send(board, f"loa/v1/{BOARD}/up/heartbeat", b"\xff" + bytes([number]))
        counts = await bench.eventually(
            "SELECT principal, messages, kept FROM telemetry.quarantine_counts ORDER BY principal",
            lambda rows: sum(row["messages"] for row in rows) == 10,
        )
        rows = await bench.rows("SELECT * FROM telemetry.quarantine_log")

    assert [tuple(row) for row in counts] == [(BOARD, 5, 1), (CLUSTER, 5, 2)]
    assert len(rows) == 3


async def test_what_the_broker_refuses_is_counted_from_its_log(bench: Bench) -> None:
    async with bench.ingest(broker_log=bench.broker.log) as ingest:
        cluster = await bench.device(CLUSTER)
        topic = f"loa/v1/{OTHER_CLUSTER}/up/heartbeat"
        assert await asyncio.to_thread(cluster.publish, topic, codec.encode(a_heartbeat())) == NOT_AUTHORIZED
        with pytest.raises(NotConnected):
            await asyncio.to_thread(cluster.publish, f"loa/v1/{CLUSTER}/up/heartbeat", bytes(10_000_000))
        await ingest.until('ingest_broker_refusals_total{kind="foreign_topic"}', 1)
        await ingest.until('ingest_broker_refusals_total{kind="oversized_packet"}', 1)
        assert await bench.rows("SELECT * FROM telemetry.heartbeat_log") == []
        assert await bench.rows("SELECT * FROM telemetry.quarantine_log") == []


# --- what a device signs ---------------------------------------------------------------------------------------------


async def verified(bench: Bench, count: int) -> list[bytes]:
    """The key ids by which as many readings of the cluster were signed."""
    rows = await bench.eventually(
        "SELECT signer, signature FROM telemetry.reading_log WHERE device_no = $1 ORDER BY received_at",
        lambda rows: len(rows) == count,
        bench.numbers[CLUSTER],
    )
    assert {row["signature"] for row in rows} == {"verified"}
    return [row["signer"] for row in rows]


async def test_a_signed_reading_is_verified_by_the_certificate_of_now(bench: Bench) -> None:
    """Enrolled while ingest runs, renewed with both keys good, the old one revoked, another device's key: all by what
    control's tables say, and at once.
    """
    numbers = itertools.count()

    def signed(key: EllipticCurvePrivateKey) -> bytes:
        reading = a_reading().model_copy(update={"device_at_ms": now_ms() + next(numbers)})
        reading = reading.model_copy(update={"samples": reading.samples[:1]})
        return device_signing.sign(reading, DeviceId(CLUSTER), key)

    async with bench.ingest():
        device, topic = await bench.device(CLUSTER), f"loa/v1/{CLUSTER}/up/reading"
        first = await certify(bench.owner, CLUSTER)
        await send(device, topic, signed(first))
        assert await verified(bench, 1) == [device_signing.key_id(first.public_key())]

        second = await certify(bench.owner, CLUSTER, renews=first)
        for key in (second, first, second):
            await send(device, topic, signed(key))
        kids = [device_signing.key_id(each.public_key()) for each in (first, second)]
        assert sorted(await verified(bench, 4)) == sorted([kids[0], kids[1], kids[0], kids[1]])

        other = await certify(bench.owner, OTHER_CLUSTER)
        await send(device, topic, signed(other))
        assert (await bench.quarantined("unknown_key"))["device"] == CLUSTER

        await revoke(bench.owner, first, reason="superseded")

        async def is_refused() -> bool:
            await send(device, topic, signed(first))
            rows = await bench.rows("SELECT sum(messages) FROM telemetry.quarantine WHERE reason = 'unknown_key'")
            return bool(rows[0][0] > 1)

        await eventually(is_refused, bool, what="the old key refused")
        await send(device, topic, signed(second).replace(b"loa-reading", b"loa-reasing"))
        assert "wrong_type" in (await bench.quarantined("bad_signature"))["detail"]
