"""The intake: batches in order of arrival, due by size and age, and never more in hand than may be."""

import asyncio

import mqtt5
import pytest

from services.ingest.admission import Heartbeat, Quarantined
from services.ingest.batching import BatchLimits
from services.ingest.frames import Unreadable
from services.ingest.intake import Intake, IntakeLimits
from services.ingest.metrics import Metrics
from services.ingest.stamps import TimeWindow
from tests.support.ingest_builders import NOW, a_registry, heartbeat

TOPIC = "loa/v1/cluster-1/up/heartbeat"


def an_intake(*, size: int = 3, age_s: float = 60.0, messages: int = 100, payload_bytes: int = 10_000) -> Intake:
    return Intake(
        a_registry(),
        lane="bulk",
        limits=IntakeLimits(batch=BatchLimits(size=size, age_s=age_s), messages=messages, bytes=payload_bytes),
        window=TimeWindow(),
        clock=lambda: NOW,
        metrics=Metrics(),
        states_per_s=1_000,
    )


def packets(*numbers: int, payload: bytes | None = None) -> list[mqtt5.PublishPacket]:
    content = heartbeat() if payload is None else payload
    return [mqtt5.PublishPacket(TOPIC, content, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=number) for number in numbers]


async def test_a_full_batch_is_handed_out_at_once_and_the_rest_waits() -> None:
    intake = an_intake(size=3)
    intake.take(packets(1, 2, 3, 4), connection=7)
    batch = await intake.next_batch()
    assert [message.packet_id for message in batch.messages] == [1, 2, 3]
    assert {message.connection for message in batch.messages} == {7}
    assert all(isinstance(message.verdict, Heartbeat) for message in batch.messages)
    assert intake.in_hand == 4
    intake.settled(batch)
    assert intake.in_hand == 1
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await intake.next_batch()


async def test_two_messages_of_one_chunk_never_share_a_time_of_receipt() -> None:
    # Both clocks are absurd, so the time of receipt is what the rows are known by: one must not pass for the other.
    intake = an_intake(size=2)
    intake.take(packets(1, 2, payload=heartbeat(device_at_ms=0)), connection=1)

    first, second = (await intake.next_batch()).messages

    assert first.received_at < second.received_at
    assert isinstance(first.verdict, Heartbeat)
    assert isinstance(second.verdict, Heartbeat)
    assert first.verdict.stamp.at == first.received_at
    assert second.verdict.stamp.at == second.received_at


async def test_a_young_batch_is_handed_out_when_it_is_old_enough() -> None:
    intake = an_intake(age_s=0.02)
    intake.take(packets(1), connection=1)
    began_at = asyncio.get_running_loop().time()
    assert len(await intake.next_batch()) == 1
    assert asyncio.get_running_loop().time() - began_at >= 0.019


async def test_whoever_waits_is_woken_by_the_message_that_fills_the_batch() -> None:
    intake = an_intake(size=2)
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(intake.next_batch())
        await asyncio.sleep(0)
        intake.take(packets(1), connection=1)
        await asyncio.sleep(0)
        assert not waiting.done()
        intake.take(packets(2), connection=1)
    assert [message.packet_id for message in waiting.result().messages] == [1, 2]


async def test_a_closed_intake_hands_out_what_it_has_and_takes_nothing() -> None:
    intake = an_intake()
    intake.take(packets(1), connection=1)
    intake.close()
    intake.take(packets(2), connection=1)
    assert [message.packet_id for message in (await intake.next_batch()).messages] == [1]
    assert len(await intake.next_batch()) == 0
    assert intake.taken == 1


@pytest.mark.parametrize(
    ("messages", "payload_bytes"), [(4, 10_000_000), (1_000, 4_000)], ids=["by_number", "by_bytes"]
)
async def test_reading_stops_when_too_much_is_in_hand_and_goes_on_at_half(messages: int, payload_bytes: int) -> None:
    intake = an_intake(size=1, messages=messages, payload_bytes=payload_bytes)
    paces: list[bool] = []
    intake.set_pace(paces.append)
    intake.take(packets(1, 2, 3, payload=bytes(1_000)), connection=1)
    assert paces == []
    intake.take(packets(4, payload=bytes(1_000)), connection=1)
    assert paces == [False]
    intake.settled(await intake.next_batch())
    assert paces == [False]
    intake.settled(await intake.next_batch())
    assert paces == [False, True]


async def test_a_packet_nobody_can_read_waits_for_quarantine_like_any_other() -> None:
    intake = an_intake(size=1)
    unreadable = Unreadable(topic=TOPIC, payload=b"raw", packet_id=9, is_retained=False, problem="no UTF-8")
    intake.take_unreadable(unreadable, connection=1)
    (message,) = (await intake.next_batch()).messages
    assert isinstance(message.verdict, Quarantined)
    assert (message.packet_id, message.verdict.reason, message.verdict.principal) == (
        9,
        "malformed_packet",
        "cluster-1",
    )
