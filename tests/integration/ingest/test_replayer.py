"""Replays against a real database: once and never twice, under the time of receipt, and nothing but what may be stored."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest
import pytest_asyncio

from schemas import codec
from schemas.topics import UplinkKind
from services.ingest import replay_store
from services.ingest.batch import PAYLOAD_KEPT_BYTES
from services.ingest.errors import DataRefused
from services.ingest.replay_store import Outcome
from services.ingest.store import BatchStore, Committed
from services.shared.database.errors import DatabaseUnavailable
from tests.integration.ingest.replays import NOW, Office, a_replayer, an_office
from tests.integration.ingest.support import (
    BEHIND,
    CLUSTER,
    GATEWAY,
    JOURNAL,
    a_heartbeat,
    a_presence,
    a_reading,
    a_sensor_heartbeat,
    an_event,
    enveloped,
)
from tests.support.database import TestDatabase

pytestmark = pytest.mark.integration

NEW = "cluster-new"
HEARTBEAT, READING, EVENT = UplinkKind.HEARTBEAT, UplinkKind.READING, UplinkKind.EVENT
ms = timedelta(milliseconds=1)


@pytest_asyncio.fixture
async def office(database: TestDatabase) -> AsyncIterator[Office]:
    async with an_office(database) as made:
        yield made


def heartbeat_of(at_offset: timedelta = timedelta(), **changes: object) -> bytes:
    return codec.encode(a_heartbeat(device_at_ms=(NOW + at_offset - EPOCH) // ms, **changes))


EPOCH = NOW - timedelta(milliseconds=round(NOW.timestamp() * 1000))


async def test_an_event_of_a_device_registered_later_is_stored_once_and_receipted(office: Office) -> None:
    received_at = NOW - timedelta(minutes=50)
    await office.take(NEW, EVENT, enveloped(1), at=received_at)
    inmate = await office.inmate()
    assert (inmate["reason"], await office.count("events")) == ("unknown_principal", 0)
    number = await office.register(NEW)

    (outcome,) = await office.replay(inmate["quarantine_id"])

    assert (outcome["result"], outcome["kind"], outcome["device_no"]) == ("stored", "event", number)
    (event,) = await office.owner.fetch("SELECT * FROM telemetry.events")
    assert (event["received_at"], event["principal"], event["sequence"]) == (received_at, NEW, 1)
    assert (await office.inmate())["replayed_at"] == NOW
    (journal,) = office.receipts
    assert (journal.device.device_id, journal.received) == (NEW, ((1, 1),))
    # The device has never heard a receipt and sends it again: a duplicate now, and not in quarantine.
    again = await office.take(NEW, EVENT, enveloped(1))
    assert (await office.count("events"), (await office.inmate())["messages"]) == (1, 1)
    assert again.duplicates == 1


async def test_what_is_asked_for_twice_is_stored_once(office: Office) -> None:
    await office.take(NEW, EVENT, enveloped(1))
    inmate = await office.inmate()
    await office.register(NEW)
    await office.replay(inmate["quarantine_id"])

    (outcome,) = await office.replay(inmate["quarantine_id"])

    assert (outcome["result"], outcome["detail"]) == ("duplicate", "replayed before")
    assert await office.count("events") == 1


async def test_replicas_at_once_store_it_once(office: Office, database: TestDatabase) -> None:
    for sequence in range(1, 31):
        await office.take(NEW, EVENT, enveloped(sequence))
    ids = [each["quarantine_id"] for each in await office.inmates()]
    await office.register(NEW)
    request = await office.ask(*ids)

    await asyncio.gather(*(a_replayer(office, database).round() for _ in range(4)))
    await office.replayer.round()

    assert [each["result"] for each in await office.outcomes(request)] == ["stored"] * 30
    assert await office.count("events") == 30
    assert await office.owner.fetchval("SELECT received FROM telemetry.journals") is not None


async def test_an_event_that_counts_as_received_is_stored_by_its_replay(office: Office) -> None:
    """Its body could not be read, so its number was given to bytes in quarantine; a corrected copy is an event."""
    garbled = enveloped(7, b"\xa1\x00\x02")
    await office.take(CLUSTER, EVENT, enveloped(6))
    await office.take(CLUSTER, EVENT, garbled)
    inmate = await office.inmate()
    assert (inmate["is_receipted"], inmate["reason"]) == (True, "unsupported_version")
    correction = await office.correct(inmate["quarantine_id"], topic=inmate["topic"], payload=enveloped(7))

    (outcome,) = await office.replay(inmate["quarantine_id"], correction=correction)

    assert (outcome["result"], outcome["is_corrected"], outcome["sequence"]) == ("stored", True, 7)
    assert outcome["journal_id"] == JOURNAL.hex()
    assert await office.count("events") == 2
    received = await office.owner.fetchval("SELECT received FROM telemetry.journals")
    assert [(each.lower, each.upper) for each in received] == [(6, 8)]
    # The original is as it was.
    assert (await office.inmate())["payload"] == garbled


@pytest.mark.parametrize("refusal", ["database", "deferred", "bug"])
async def test_a_replay_that_is_refused_leaves_the_number_received(
    office: Office, monkeypatch: pytest.MonkeyPatch, refusal: str
) -> None:
    for sequence, body in ((6, None), (7, b"\xa1\x00\x02"), (8, None)):
        await office.take(CLUSTER, EVENT, enveloped(sequence) if body is None else enveloped(sequence, body))
    inmate = await office.inmate()
    correction = await office.correct(inmate["quarantine_id"], topic=inmate["topic"], payload=enveloped(7))
    real = BatchStore.commit

    async def commit(self: BatchStore, *arguments: object, **named: object) -> Committed:
        done = await real(self, *arguments, **named)  # type: ignore[arg-type]
        match refusal:
            case "database":
                raise DataRefused("CheckViolationError: no")
            case "deferred":
                return replace(done, events=0, deferred=Counter(too_many_gaps=1))
            case _:
                raise RuntimeError("\x00")

    with monkeypatch.context() as patched:
        patched.setattr(BatchStore, "commit", commit)
        (outcome,) = await office.replay(inmate["quarantine_id"], correction=correction)

    assert (outcome["result"], outcome["reason"]) == (
        "refused",
        "too_many_gaps" if refusal == "deferred" else "database_refused",
    )
    received = await office.owner.fetchval("SELECT received FROM telemetry.journals")
    assert [(each.lower, each.upper) for each in received] == [(6, 9)]
    assert (await office.count("events"), office.receipts) == (2, [])


async def test_a_replay_that_fails_in_a_way_nobody_foresaw_is_refused_and_holds_up_nothing(
    office: Office, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for sequence in (1, 2, 3):
        await office.take(NEW, EVENT, enveloped(sequence))
    await office.register(NEW)
    request = await office.ask(*(each["quarantine_id"] for each in await office.inmates()))
    real, calls = BatchStore.commit, 0

    async def commit(self: BatchStore, *arguments: object, **named: object) -> Committed:
        nonlocal calls
        calls += 1
        if calls == 2:
            await self.connection.execute("SELECT 1 / 0")
        return await real(self, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(BatchStore, "commit", commit)
    await office.replayer.round()

    assert [(each["result"], each["reason"], each["detail"]) for each in await office.outcomes(request)] == [
        ("stored", None, None),
        ("refused", "database_refused", "DivisionByZeroError"),
        ("stored", None, None),
    ]
    (said,) = [each for each in caplog.records if each.msg == "replay_failed"]
    assert said.exc_info


async def test_two_events_of_one_number_are_one(office: Office) -> None:
    """A good one is stored already under the number that the other one claims."""
    await office.take(CLUSTER, EVENT, enveloped(7))
    await office.take(CLUSTER, EVENT, enveloped(7, b"\xa1\x00\x02"))
    inmate = await office.inmate()
    other = enveloped(7, codec.encode(an_event(volume_percent=99)))
    correction = await office.correct(inmate["quarantine_id"], topic=inmate["topic"], payload=other)

    (outcome,) = await office.replay(inmate["quarantine_id"], correction=correction)

    assert outcome["result"] == "duplicate"
    assert await office.count("events") == 1
    assert (await office.inmate())["replayed_at"] is not None


async def test_a_retained_event_is_stored_although_its_number_is_taken(office: Office) -> None:
    await office.take(CLUSTER, EVENT, enveloped(3), is_retained=True)
    inmate = await office.inmate()
    assert (inmate["reason"], inmate["is_receipted"]) == ("retained", True)

    (outcome,) = await office.replay(inmate["quarantine_id"])

    assert outcome["result"] == "stored"
    assert await office.count("events") == 1


async def test_heartbeats_and_readings_go_where_live_ones_go(office: Office) -> None:
    sent = [
        (HEARTBEAT, codec.encode(a_heartbeat())),
        (READING, codec.encode(a_reading())),
    ]
    for kind, payload in sent:
        await office.take(NEW, kind, payload, principal=GATEWAY)
    ids = [each["quarantine_id"] for each in await office.inmates()]
    number = await office.register(NEW)
    await assign(office, number)

    outcomes = await office.replay(*ids)

    assert [(each["result"], each["kind"]) for each in outcomes] == [("stored", "heartbeat"), ("stored", "reading")]
    assert (await office.count("heartbeats"), await office.count("readings")) == (1, 2)
    state = await office.owner.fetchrow("SELECT * FROM telemetry.device_states WHERE device_no = $1", number)
    assert state is not None
    assert (state["principal"], state["is_through_gateway"]) == (GATEWAY, True)


async def assign(office: Office, number: int) -> None:
    await office.owner.execute(
        "INSERT INTO control.gateway_assignments (device_no, gateway_no, valid_from)"
        " SELECT $1, device_no, now() - interval '1 hour' FROM control.devices WHERE device_id = $2",
        number,
        GATEWAY,
    )


async def test_the_same_bytes_many_times_are_one_message_of_their_first_receipt(office: Office) -> None:
    payload = heartbeat_of(-timedelta(minutes=9))
    for minutes in (9, 6, 3):
        await office.take(NEW, HEARTBEAT, payload, at=NOW - timedelta(minutes=minutes))
    inmate = await office.inmate()
    assert inmate["messages"] == 3
    await office.register(NEW)

    await office.replay(inmate["quarantine_id"])

    (row,) = await office.owner.fetch("SELECT received_at FROM telemetry.heartbeats")
    assert row["received_at"] == NOW - timedelta(minutes=9)


async def test_what_is_late_has_its_hour_rolled_up_again(office: Office) -> None:
    await office.take(NEW, HEARTBEAT, heartbeat_of(-timedelta(hours=5)), at=NOW - timedelta(hours=5))
    await office.register(NEW)

    await office.replay((await office.inmate())["quarantine_id"])

    assert await office.count("late_hours") == 1


async def test_old_news_does_not_become_the_state(office: Office) -> None:
    await office.take(NEW, HEARTBEAT, heartbeat_of(-timedelta(hours=5), uptime_s=5), at=NOW - timedelta(hours=5))
    number = await office.register(NEW)
    await office.take(NEW, HEARTBEAT, heartbeat_of(uptime_s=500))

    await office.replay((await office.inmate())["quarantine_id"])

    state = await office.owner.fetchrow("SELECT * FROM telemetry.device_states WHERE device_no = $1", number)
    assert state is not None
    assert (state["uptime_s"], state["last_heard_at"]) == (500, NOW)


async def test_presence_is_replayed_too(office: Office) -> None:
    await office.take(NEW, HEARTBEAT, a_presence(5, online=True), topic=f"loa/v1/{NEW}/presence")
    number = await office.register(NEW)

    (outcome,) = await office.replay((await office.inmate())["quarantine_id"])

    assert (outcome["result"], outcome["kind"]) == ("stored", "presence")
    assert await office.owner.fetchval("SELECT online FROM telemetry.device_states WHERE device_no = $1", number)


# --- what stays in quarantine ----------------------------------------------------------------------------------------


async def test_what_is_still_not_admitted_says_why_now(office: Office) -> None:
    await office.take(NEW, HEARTBEAT, heartbeat_of())
    await office.register(NEW, "sensor")

    (outcome,) = await office.replay((await office.inmate())["quarantine_id"])

    assert (outcome["result"], outcome["reason"]) == ("refused", "wrong_kind")
    inmate = await office.inmate()
    assert (inmate["reason"], inmate["replayed_at"]) == ("wrong_kind", None)
    assert "registered as a sensor" in inmate["detail"]


async def test_a_corrected_copy_that_is_refused_says_nothing_about_what_was_received(office: Office) -> None:
    await office.take(CLUSTER, HEARTBEAT, b"\xff")
    inmate = await office.inmate()
    correction = await office.correct(
        inmate["quarantine_id"], topic=f"loa/v1/{CLUSTER}/up/heartbeat/nobody", payload=heartbeat_of()
    )

    (outcome,) = await office.replay(inmate["quarantine_id"], correction=correction)

    assert (outcome["result"], outcome["reason"]) == ("refused", "unknown_device")
    assert (await office.inmate())["reason"] == "not_cbor"


async def test_no_correction_changes_who_sent_it(office: Office) -> None:
    """Control does not let one through; ingest does not rely on that."""
    await office.take(CLUSTER, HEARTBEAT, b"\xff")
    inmate = await office.inmate()
    correction = await office.correct(
        inmate["quarantine_id"], topic="loa/v1/cluster-2/up/heartbeat", payload=heartbeat_of()
    )

    (outcome,) = await office.replay(inmate["quarantine_id"], correction=correction)

    assert (outcome["result"], outcome["reason"]) == ("refused", "other_principal")
    assert await office.count("heartbeats") == 0


async def test_bytes_that_are_not_all_there_are_not_replayed(office: Office) -> None:
    await office.take(NEW, HEARTBEAT, bytes(PAYLOAD_KEPT_BYTES + 1))
    await office.register(NEW)

    (outcome,) = await office.replay((await office.inmate())["quarantine_id"])

    assert (outcome["result"], outcome["reason"]) == ("refused", "payload_cut")
    assert (await office.inmate())["reason"] == "unknown_principal"


@pytest.mark.parametrize(
    ("name", "payload", "days"),
    [(NEW, codec.encode(a_heartbeat()), 91), ("sensor-new", codec.encode(a_sensor_heartbeat()), 5)],
    ids=["cluster", "sensor"],
)
async def test_what_retention_would_have_dropped_is_not_brought_back(
    office: Office, name: str, payload: bytes, days: int
) -> None:
    await office.take(name, HEARTBEAT, payload, at=NOW - timedelta(days=days))
    await office.register(name, name.split("-")[0])

    (outcome,) = await office.replay((await office.inmate())["quarantine_id"])

    assert (outcome["result"], outcome["reason"]) == ("refused", "too_old")


async def test_there_is_a_place_for_what_is_older_than_live_messages_can_be(office: Office) -> None:
    at = NOW - timedelta(days=60)
    await office.take(NEW, HEARTBEAT, heartbeat_of(-timedelta(days=60)), at=at)
    await office.register(NEW)

    (outcome,) = await office.replay((await office.inmate())["quarantine_id"])

    assert outcome["result"] == "stored"
    assert await office.owner.fetchval("SELECT at FROM telemetry.heartbeats") == at


async def test_an_inmate_that_was_kept_no_longer_is_gone(office: Office) -> None:
    await office.take(NEW, HEARTBEAT, heartbeat_of())
    request = await office.ask((await office.inmate())["quarantine_id"])
    await office.owner.execute("DELETE FROM telemetry.quarantine")

    await office.replayer.round()

    assert [each["result"] for each in await office.outcomes(request)] == ["gone"]


async def test_what_is_discarded_before_its_turn_is_not_replayed(office: Office) -> None:
    await office.take(NEW, HEARTBEAT, heartbeat_of())
    number = (await office.inmate())["quarantine_id"]
    await office.register(NEW)
    await office.ask(number)
    await office.ask(number, decision="discard")

    await office.replayer.round()

    assert (await office.count("heartbeats"), await office.count("quarantine_replays")) == (0, 0)


async def test_an_event_with_too_many_gaps_waits_in_quarantine(office: Office) -> None:
    for sequence in range(2, 2 * 257, 2):
        await office.take(CLUSTER, EVENT, enveloped(sequence)) if sequence < 20 else None
    # 256 ranges at once; message by message would take a minute.
    await office.owner.execute(
        "UPDATE telemetry.journals SET received ="
        " (SELECT range_agg(int8range(n, n, '[]')) FROM generate_series(2, 512, 2) n)"
    )
    await office.take(NEW, EVENT, enveloped(9_999), principal=GATEWAY)
    inmate = await office.inmate()
    correction = await office.correct(
        inmate["quarantine_id"], topic=f"loa/v1/{GATEWAY}/up/event/{BEHIND}", payload=enveloped(9_999)
    )
    await office.owner.execute(
        "INSERT INTO telemetry.journals SELECT b.device_no, g.device_no, j.journal, j.received, now(), now()"
        "  FROM telemetry.journals j, control.devices b, control.devices g"
        " WHERE b.device_id = $1 AND g.device_id = $2",
        BEHIND,
        GATEWAY,
    )

    (outcome,) = await office.replay(inmate["quarantine_id"], correction=correction)

    assert (outcome["result"], outcome["reason"]) == ("refused", "too_many_gaps")
    assert (await office.inmate())["replayed_at"] is None


# --- the same bytes again --------------------------------------------------------------------------------------------


async def test_what_was_replayed_stays_replayed_when_its_bytes_come_again(office: Office) -> None:
    payload = heartbeat_of()
    await office.take(NEW, HEARTBEAT, payload)
    await office.register(NEW)
    await office.replay((await office.inmate())["quarantine_id"])
    await office.owner.execute("UPDATE control.devices SET retired_at = now() WHERE device_id = $1", NEW)

    await office.take(NEW, HEARTBEAT, payload)

    inmate = await office.inmate()
    assert (inmate["messages"], inmate["replayed_at"]) == (2, NOW)


# --- exactly once ----------------------------------------------------------------------------------------------------


class _Killed(BaseException):
    pass


@pytest.mark.parametrize("after", ["commit", "record"])
async def test_a_replay_that_dies_in_the_middle_has_not_happened(
    office: Office, monkeypatch: pytest.MonkeyPatch, after: str
) -> None:
    await office.take(NEW, EVENT, enveloped(1))
    number = (await office.inmate())["quarantine_id"]
    await office.register(NEW)
    request = await office.ask(number)
    real_commit, real_record = BatchStore.commit, replay_store.record

    async def commit(self: BatchStore, *arguments: object, **named: object) -> object:
        done = await real_commit(self, *arguments, **named)  # type: ignore[arg-type]
        if after == "commit":
            raise _Killed
        return done

    async def record(*arguments: object, **named: object) -> None:
        await real_record(*arguments, **named)  # type: ignore[arg-type]
        if after == "record":
            raise _Killed

    with monkeypatch.context() as patched:
        patched.setattr(BatchStore, "commit", commit)
        patched.setattr(replay_store, "record", record)
        with pytest.raises(_Killed):
            await office.replayer.round()
    assert (await office.count("events"), await office.count("journals")) == (0, 0)
    assert (office.receipts, await office.outcomes(request)) == ([], [])

    await office.replayer.round()

    assert (await office.count("events"), len(await office.outcomes(request))) == (1, 1)


async def test_a_database_that_goes_away_leaves_the_rest_for_later(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    for sequence in (1, 2, 3):
        await office.take(NEW, EVENT, enveloped(sequence))
    await office.register(NEW)
    request = await office.ask(*(each["quarantine_id"] for each in await office.inmates()))
    real, calls = replay_store.record, 0

    async def record(connection: object, request: object, outcome: Outcome, **named: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            await office.owner.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'ingest ingest:1'"
            )
        await real(connection, request, outcome, **named)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(replay_store, "record", record)
        with pytest.raises(DatabaseUnavailable):
            await office.replayer.round()
    assert await office.count("events") == 1

    await office.replayer.round()

    assert [each["result"] for each in await office.outcomes(request)] == ["stored"] * 3
    assert await office.count("events") == 3


async def test_more_than_are_read_at_once_are_all_settled(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.ingest.replayer.AT_ONCE", 4)
    for sequence in range(1, 11):
        await office.take(NEW, EVENT, enveloped(sequence))
    await office.register(NEW)

    outcomes = await office.replay(*(each["quarantine_id"] for each in await office.inmates()))

    assert [each["result"] for each in outcomes] == ["stored"] * 10
    events = await office.owner.fetch("SELECT sequence FROM telemetry.events ORDER BY event_no")
    assert [each["sequence"] for each in events] == list(range(1, 11))  # in the order in which they were received


async def test_what_is_stored_keeps_its_hash_and_bytes(office: Office) -> None:
    payload = heartbeat_of()
    await office.take(NEW, HEARTBEAT, payload)
    await office.register(NEW)

    await office.replay((await office.inmate())["quarantine_id"])

    inmate = await office.inmate()
    assert (inmate["payload"], inmate["sha256"]) == (payload, hashlib.sha256(payload).digest())
