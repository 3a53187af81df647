"""Devices, and whoever has made a certificate, that want what is meant for ingest, while the real ingest is at work.

What the broker alone does about them is in tests/integration/broker; here it is whether ingest keeps its session, whether
anything is lost, and whether somebody is told.
"""

import asyncio
from typing import Any

import pytest

from schemas import codec
from schemas.topics import shared
from tests.integration.ingest.journal_device import JournalDevice
from tests.integration.ingest.support import (
    CLUSTER,
    GROUP,
    OTHER_CLUSTER,
    Bench,
    RunningIngest,
    a_heartbeat,
    enveloped,
    eventually,
)
from tests.support.broker import NEVER_EXPIRES, NOT_AUTHORIZED, MqttClient, NotConnected, mint

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

REPLICA = "ingest:1"
UPLINKS = ("loa/v1/+/up/event", "loa/v1/+/up/heartbeat", "loa/v1/+/up/#", "loa/v1/#", "#")


async def subscribe(client: MqttClient, *topic_filters: str) -> None:
    for topic_filter in topic_filters:
        await asyncio.to_thread(client.subscribe, topic_filter)


async def connect_minted(bench: Bench, name: str, *, port: int, client_id: str, **options: Any) -> MqttClient:
    """A connection with a certificate of that name, as only somebody with the key of the device CA could make it."""
    identity = await asyncio.to_thread(mint, bench.broker.pki, name)
    client = await asyncio.to_thread(MqttClient, port, bench.broker.pki, identity, client_id=client_id, **options)
    bench.clients.append(client)
    return client


async def kept_its_session(ingest: RunningIngest) -> bool:
    return await ingest.is_ready() and await ingest.metric('ingest_broker_connections_total{lane="bulk"}') == 1


async def test_a_device_that_takes_the_client_id_of_ingest_stays_a_device_and_ingest_stays_connected(
    bench: Bench,
) -> None:
    async with bench.ingest() as ingest:
        thief = await bench.device(OTHER_CLUSTER, client_id=REPLICA, clean_start=False, session_expiry_s=3_600)
        assert not thief.session_present
        honest = await bench.device(CLUSTER)

        for client, device_id in ((thief, OTHER_CLUSTER), (honest, CLUSTER)):
            heartbeat = codec.encode(a_heartbeat())
            assert await asyncio.to_thread(client.publish, f"loa/v1/{device_id}/up/heartbeat", heartbeat) == 0
        rows = await bench.eventually("SELECT device_no FROM telemetry.heartbeat_log", lambda rows: len(rows) == 2)

        assert {row["device_no"] for row in rows} == {bench.numbers[CLUSTER], bench.numbers[OTHER_CLUSTER]}
        assert thief.payloads() == []
        assert await kept_its_session(ingest)


@pytest.mark.parametrize("name", ["ingest", f"ingest:{'0' * 32}"], ids=["plain", "with_a_wrong_random_part"])
async def test_a_certificate_named_like_ingest_is_turned_away_at_one_door_and_a_stranger_at_the_other(
    bench: Bench, name: str
) -> None:
    async with bench.ingest(broker_log=bench.broker.log) as ingest:
        with pytest.raises(NotConnected):
            await connect_minted(bench, name, port=bench.broker.service_port, client_id=REPLICA)
        await ingest.until('ingest_broker_refusals_total{kind="untrusted_certificate"}', 1)

        impostor = await connect_minted(bench, name, port=bench.broker.device_port, client_id=REPLICA)
        await subscribe(impostor, *UPLINKS, *(shared(GROUP, each) for each in UPLINKS[2:]))
        own = await asyncio.to_thread(impostor.publish, f"loa/v1/{name}/up/heartbeat", codec.encode(a_heartbeat()))
        receipt = await asyncio.to_thread(impostor.publish, f"loa/v1/{CLUSTER}/down/receipt", b"false")
        assert (own, receipt) == (0, NOT_AUTHORIZED)

        # No device may have that name, so neither its topic nor anything it says means anything.
        row = await bench.quarantined("unknown_topic")
        assert row["topic"] == f"loa/v1/{name}/up/heartbeat"
        await ingest.until('ingest_broker_refusals_total{kind="foreign_topic"}', 1)
        assert impostor.payloads() == []
        assert await bench.rows("SELECT * FROM telemetry.heartbeat_log") == []
        assert await kept_its_session(ingest)


async def test_who_has_the_key_of_the_device_authority_can_throw_ingest_out_but_reads_and_costs_no_event(
    bench: Bench,
) -> None:
    """A certificate named like the client id of a replica takes that client id at the devices' door. No authority of ours
    issues one (tests/integration/broker/test_identity.py); only its stolen key could. 2026-11-20: this is what is left
    then. The replica comes back, and what the broker held for it is repeated by the devices.
    """
    inherit: dict[str, Any] = {"clean_start": False, "session_expiry_s": NEVER_EXPIRES}
    async with bench.ingest() as ingest:
        impostor = await connect_minted(bench, REPLICA, port=bench.broker.device_port, client_id=REPLICA, **inherit)
        assert impostor.session_present
        await asyncio.to_thread(impostor.wait_until_disconnected)  # by the replica, which takes its client id back
        await ingest.until('ingest_broker_connections_total{lane="bulk"}', 2)

        device = JournalDevice(bench.broker, CLUSTER, journal=bytes(range(8)), count=20)
        try:
            await asyncio.wrap_future(device.start())
        finally:
            await asyncio.to_thread(device.close)
        await bench.until_events(20)
        assert impostor.payloads() == []


async def test_a_device_that_does_not_know_the_secret_group_takes_nothing(bench: Bench) -> None:
    count = 40
    async with bench.ingest() as ingest:
        thief = await bench.device(OTHER_CLUSTER)
        for group in ("ingest", "loa", REPLICA, GROUP[:-1], f"{GROUP}x", GROUP.upper()):
            await subscribe(thief, *(shared(group, each) for each in UPLINKS))
        honest = await bench.device(CLUSTER)
        for sequence in range(1, count + 1):
            assert await asyncio.to_thread(honest.publish, f"loa/v1/{CLUSTER}/up/event", enveloped(sequence)) == 0

        # Every event at its first attempt: nobody repeats anything here.
        await bench.until_events(count)
        assert thief.payloads() == []
        assert await kept_its_session(ingest)


async def test_a_device_that_does_know_the_group_reads_nothing_and_no_event_is_lost(bench: Bench) -> None:
    """The group's name is a secret because the broker deals a share to whoever joins. Should it get out, the thief still
    sees nothing (the access rules are applied to each message), and devices repeat what was not receipted.
    """
    count = 200
    async with bench.ingest() as ingest:
        thief = await bench.device(OTHER_CLUSTER)
        await subscribe(thief, *(shared(GROUP, each) for each in UPLINKS[:2]))
        device = JournalDevice(bench.broker, CLUSTER, journal=bytes(range(8)), count=count)
        try:
            await asyncio.wrap_future(device.start())
        finally:
            await asyncio.to_thread(device.close)

        (row,) = await bench.rows("SELECT count(*) AS stored, count(DISTINCT sequence) AS n FROM telemetry.event_log")
        assert (row["stored"], row["n"]) == (count, count)
        assert device.sent > count, "the thief had no share: this test shows nothing"
        assert thief.payloads() == []
        await eventually(lambda: kept_its_session(ingest), bool)
