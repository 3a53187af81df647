"""The second promise: an event is receipted when it is committed, once, and whatever its body."""

import asyncio

import pytest

from schemas import codec
from schemas.receipts import Receipt
from tests.integration.ingest.support import (
    BEHIND,
    CLUSTER,
    GATEWAY,
    JOURNAL,
    Bench,
    an_event,
    enveloped,
    eventually,
)
from tests.support.broker import MqttClient

pytestmark = pytest.mark.integration

EVENTS = f"loa/v1/{CLUSTER}/up/event"
RECEIPTS = f"loa/v1/{CLUSTER}/down/receipt"
OTHER_JOURNAL = bytes(8)


async def listening(bench: Bench, device_id: str = CLUSTER) -> MqttClient:
    """A device that hears its receipts."""
    client = await bench.device(device_id)
    await asyncio.to_thread(client.subscribe, f"loa/v1/{device_id}/down/#")
    return client


async def send(client: MqttClient, *payloads: bytes, topic: str = EVENTS) -> None:
    for payload in payloads:
        assert await asyncio.to_thread(client.publish, topic, payload) == 0


def receipts(client: MqttClient, *, topic: str = RECEIPTS, journal: bytes = JOURNAL) -> list[Receipt]:
    """The receipts of one journal so far."""
    decoded = [codec.decode_receipt(payload) for payload in client.payloads(topic)]
    return [each for each in decoded if each.journal == journal]


async def receipted(client: MqttClient, *sequences: int, topic: str = RECEIPTS, journal: bytes = JOURNAL) -> Receipt:
    """The first receipt that covers these events."""

    async def ask() -> list[Receipt]:
        return [
            each
            for each in receipts(client, topic=topic, journal=journal)
            if all(each.covers(sequence) for sequence in sequences)
        ]

    found: list[Receipt] = await eventually(ask, bool, what=f"a receipt of {sequences}")
    return found[0]


async def test_events_are_receipted_after_commit_with_their_gaps(bench: Bench) -> None:
    async with bench.ingest():
        cluster = await listening(bench)
        await send(cluster, enveloped(1), enveloped(2), enveloped(5))
        receipt = await receipted(cluster, 1, 2, 5)
        stored = await bench.rows("SELECT sequence FROM telemetry.event_log ORDER BY sequence")

    assert receipt.through == 2
    assert not receipt.covers(3)
    assert [row["sequence"] for row in stored] == [1, 2, 5]


async def test_a_repeated_event_is_stored_once_and_receipted_again_also_after_a_restart(bench: Bench) -> None:
    async with bench.ingest():
        cluster = await listening(bench)
        await send(cluster, enveloped(1))
        await receipted(cluster, 1)
        heard = len(receipts(cluster))
        await send(cluster, enveloped(1))
        await eventually(lambda: asyncio.to_thread(lambda: len(receipts(cluster))), lambda count: count > heard)
    heard = len(receipts(cluster))
    async with bench.ingest():
        await send(cluster, enveloped(1), enveloped(1, journal=OTHER_JOURNAL))
        await receipted(cluster, 1, journal=OTHER_JOURNAL)
        await eventually(lambda: asyncio.to_thread(lambda: len(receipts(cluster))), lambda count: count > heard)
        stored = await bench.rows("SELECT journal_id FROM telemetry.event_log ORDER BY journal_id")

    # A wiped flash begins a new journal, and its event 1 is another event.
    assert [row["journal_id"] for row in stored] == [OTHER_JOURNAL.hex(), JOURNAL.hex()]


async def test_a_body_nobody_can_read_counts_as_received_and_does_not_stall_the_journal(bench: Bench) -> None:
    async with bench.ingest():
        cluster = await listening(bench)
        await send(cluster, enveloped(1, b"\xffgarbage"), enveloped(2))
        receipt = await receipted(cluster, 1, 2)
        row = await bench.quarantined("not_cbor")

    assert receipt.through == 2
    assert row["is_receipted"]
    assert codec.decode_envelope(row["payload"]).body == b"\xffgarbage"


async def test_what_quarantine_does_not_keep_is_not_receipted(bench: Bench) -> None:
    async with bench.ingest(quarantine={"per_principal": 0}) as ingest:
        cluster = await listening(bench)
        await send(cluster, enveloped(1, b"\xffgarbage"), enveloped(2))
        receipt = await receipted(cluster, 2)
        await ingest.until('ingest_events_deferred_total{reason="quarantine_full"}', 1)

    assert not receipt.covers(1)


async def test_a_retained_event_is_kept_in_quarantine_and_receipted(bench: Bench) -> None:
    async with bench.ingest():
        cluster = await listening(bench)
        assert await asyncio.to_thread(cluster.publish, EVENTS, enveloped(1), retain=True) == 0
        await receipted(cluster, 1)
        assert (await bench.quarantined("retained"))["is_receipted"]


async def test_a_gateway_gets_the_receipts_of_the_devices_behind_it(bench: Bench) -> None:
    async with bench.ingest():
        gateway = await listening(bench, GATEWAY)
        await send(gateway, enveloped(1), topic=f"loa/v1/{GATEWAY}/up/event/{BEHIND}")
        await receipted(gateway, 1, topic=f"loa/v1/{GATEWAY}/down/receipt/{BEHIND}")
        (event,) = await bench.rows("SELECT * FROM telemetry.event_log")

    assert (event["device_no"], event["principal"]) == (bench.numbers[BEHIND], GATEWAY)
    assert event["is_through_gateway"]


async def test_events_under_a_dead_clock_are_stored_under_receipt_time(bench: Bench) -> None:
    body = codec.encode(an_event(device_at_ms=86_400_000))
    async with bench.ingest():
        cluster = await listening(bench)
        await send(cluster, enveloped(1, body))
        await receipted(cluster, 1)
        (event,) = await bench.rows("SELECT * FROM telemetry.event_log")

    assert event["time_source"] == "clock_absurd"
    assert event["at"] == event["received_at"]
    assert event["body"]["device_at_ms"] == 86_400_000


async def test_one_device_cannot_open_journals_without_end(bench: Bench) -> None:
    journals = [bytes([number]) * 8 for number in range(4)]
    async with bench.ingest(ledger={"journals_a_day": 2}) as ingest:
        cluster = await listening(bench)
        for journal in journals:
            await send(cluster, enveloped(1, journal=journal))
        await ingest.until('ingest_events_deferred_total{reason="too_many_journals"}', 2)
        stored = await bench.rows("SELECT * FROM telemetry.event_log")

    assert len(stored) == 2


async def test_a_journal_cannot_have_gaps_without_end_and_fills_up_all_the_same(bench: Bench) -> None:
    async with bench.ingest(ledger={"ranges": 2}) as ingest:
        cluster = await listening(bench)
        await send(cluster, enveloped(1), enveloped(3), enveloped(5))
        await ingest.until('ingest_events_deferred_total{reason="too_many_gaps"}', 1)
        assert not (await receipted(cluster, 1, 3)).covers(5)
        await send(cluster, enveloped(2), enveloped(5))
        await receipted(cluster, 1, 2, 3, 5)
