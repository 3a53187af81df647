"""What is missing is laid at the right door: the ledger of a bench that breaks things."""

import mqtt5
import pytest

from schemas import codec, events
from schemas.events import EventEnvelope
from schemas.fields import ClockState, PowerSource
from schemas.heartbeats import HEARTBEATS
from services.local.bench.chaos_ledger import (
    DEVICE_AT_KEY,
    JOURNAL_KEY,
    SEQUENCE_KEY,
    Heartbeats,
    Journal,
    Ledger,
    Loss,
    Outage,
)
from services.local.bench.chaos_packets import Packets, read_publish
from services.local.bench.population import FEWEST, Mix, Population
from services.local.bench.traffic import Profile, Traffic

REPORTER = "bench-speaker-0-001"
REPORTER_NO = 9_600_002
JOURNAL = -7
KEY = (REPORTER_NO, JOURNAL)
SENT = 3_000
BULK, VITAL = "ingest:1", "ingest:1-vital"


def a_ledger() -> Ledger:
    population = Population.of(FEWEST, Mix.HEAVY)
    ledger = Ledger(
        traffic=Traffic(population=population, profile=Profile.HEARTBEATS, base_ms=1_900_000_000_000),
        heartbeats=[Heartbeats() for _ in range(population.gateways)],
        journals={KEY: Journal()},
        event_devices={REPORTER: REPORTER_NO},
    )
    for book in ledger.heartbeats:
        book.send(SENT)
    return ledger


def a_heartbeat(ledger: Ledger, gateway: int, number: int) -> tuple[str, bytes]:
    (raw,) = ledger.traffic.packets(gateway, range(number, number + 1))
    (packet,) = Packets().feed(raw)
    return read_publish(packet)[:2]


def an_event(sequence: int) -> tuple[str, bytes]:
    body = codec.encode(events.PowerChanged(device_at_ms=1, clock=ClockState.SYNCHRONISED, source=PowerSource.MAINS))
    envelope = EventEnvelope(journal=JOURNAL.to_bytes(8, "big", signed=True), sequence=sequence, body=body)
    return f"loa/v1/bench-reporter-0/up/event/{REPORTER}", codec.encode(envelope)


def store(ledger: Ledger, gateway: int, number: int) -> None:
    traffic = ledger.traffic
    ledger.enter_heartbeat(traffic.population.device_no(gateway, traffic.index(number)), traffic.at_ms(number))


def test_keys_are_those_of_the_wire_contract() -> None:
    heartbeat = {
        key.number
        for model in HEARTBEATS.values()
        for key in model.model_fields["device_at_ms"].metadata
        if hasattr(key, "number")
    }
    envelope = {name: field.metadata for name, field in EventEnvelope.model_fields.items()}

    assert heartbeat == {DEVICE_AT_KEY}
    assert [key.number for key in envelope["journal"] if hasattr(key, "number")] == [JOURNAL_KEY]
    assert [key.number for key in envelope["sequence"] if hasattr(key, "number")] == [SEQUENCE_KEY]


def test_everything_stored_once_is_as_it_should_be() -> None:
    ledger = a_ledger()
    for gateway in range(len(ledger.heartbeats)):
        for number in range(SENT):
            ledger.taken(gateway, number, unheard=False, at=1.0)
            ledger.note_acknowledged(*a_heartbeat(ledger, gateway, number), at=1.0, session=BULK)
            store(ledger, gateway, number)

    found = ledger.compare()

    assert found.heartbeats_sent == found.heartbeats_taken == found.heartbeats_stored == 4 * SENT
    assert found.acked_heartbeats_missing == found.unexplained == found.heartbeats_duplicated == found.foreign == 0


def test_what_ingest_acknowledged_is_excused_by_nothing() -> None:
    ledger = a_ledger()
    ledger.outages.append(Outage(Loss.CRASH, 0.0, 10.0))
    ledger.taken(2, 1_234, unheard=True, at=5.0)
    ledger.note_acknowledged(*a_heartbeat(ledger, 2, 1_234), at=6.0, session=BULK)

    found = ledger.compare()

    assert found.acked_heartbeats_missing == 1
    assert (found.unheard, found.lost[Loss.CRASH], found.unexplained) == (0, 0, 0)


@pytest.mark.parametrize(
    ("unheard", "at", "doors"),
    [
        (True, 5.0, (1, 0, 0, 0)),
        (False, 5.0, (0, 1, 0, 0)),
        (False, 25.0, (0, 0, 1, 0)),
        (False, 15.0, (0, 0, 0, 1)),
    ],
)
def test_what_the_broker_took_and_nobody_stored_is_laid_at_a_door(
    unheard: bool, at: float, doors: tuple[int, int, int, int]
) -> None:
    ledger = a_ledger()
    ledger.outages += [Outage(Loss.CRASH, 1.0, 10.0), Outage(Loss.FULL_QUEUE, 20.0, 30.0)]
    ledger.taken(0, 17, unheard=unheard, at=at)

    found = ledger.compare()

    assert (found.unheard, found.lost[Loss.CRASH], found.lost[Loss.FULL_QUEUE], found.unexplained) == doors


def test_what_the_broker_never_took_may_be_missing() -> None:
    found = a_ledger().compare()

    assert (found.heartbeats_taken, found.unexplained, found.heartbeats_stored) == (0, 0, 0)


def test_events_are_lost_double_or_acknowledged_and_missing() -> None:
    ledger = a_ledger()
    for _ in range(4):
        ledger.journals[KEY].send()
    ledger.enter_event(*KEY, 1)
    ledger.enter_event(*KEY, 2)
    ledger.enter_event(*KEY, 2)
    ledger.note_acknowledged(*an_event(3), at=1.0, session=BULK)

    found = ledger.compare()

    assert (found.events_sent, found.events_stored, found.events_lost) == (4, 2, 2)
    assert (found.events_duplicated, found.acked_events_missing) == (1, 1)


def test_rows_that_nobody_sent_are_noticed() -> None:
    ledger = a_ledger()
    ledger.journals[KEY].send()
    store(ledger, 0, SENT)
    ledger.enter_heartbeat(1, 1_900_000_000_000)
    ledger.enter_event(*KEY, 2)
    ledger.enter_event(REPORTER_NO, 8, 1)

    assert ledger.compare().foreign == 4


def test_a_watch_waits_for_what_is_sent_after_it_begins() -> None:
    ledger = a_ledger()
    ledger.journals[KEY].send()
    watch = ledger.begin_watch(())
    ledger.note_acknowledged(*a_heartbeat(ledger, 0, SENT - 1), at=1.0, session=BULK)
    ledger.note_acknowledged(*an_event(1), at=1.0, session=BULK)
    assert not watch.is_done

    ledger.heartbeats[0].send(1)
    ledger.journals[KEY].send()
    ledger.note_acknowledged(*a_heartbeat(ledger, 0, SENT), at=2.0, session=BULK)
    assert not watch.is_done
    ledger.note_acknowledged(*an_event(2), at=2.0, session=BULK)
    assert watch.is_done


def test_a_watch_waits_for_every_session() -> None:
    ledger = a_ledger()
    ledger.journals[KEY].send()
    other = "ingest:2"
    watch = ledger.begin_watch((BULK, VITAL, other))
    ledger.heartbeats[0].send(2)
    ledger.journals[KEY].send()
    ledger.note_acknowledged(*a_heartbeat(ledger, 0, SENT), at=2.0, session=BULK)
    ledger.note_acknowledged(*an_event(2), at=2.0, session=VITAL)
    ledger.note_acknowledged(*a_heartbeat(ledger, 0, 5), at=2.0, session=other)
    assert not watch.is_done

    ledger.note_acknowledged(*a_heartbeat(ledger, 0, SENT + 1), at=3.0, session=other)
    assert watch.is_done


def test_what_the_broker_took_and_never_gave_to_ingest_is_counted() -> None:
    ledger = a_ledger()
    ledger.journals[KEY].send()
    for number in range(10):
        ledger.taken(0, number, unheard=number == 9, at=1.0)
    for number in range(6):
        ledger.note_delivered(*a_heartbeat(ledger, 0, number), at=1.0)
    ledger.events_taken = 2
    ledger.note_delivered(*an_event(1), at=1.0)

    assert ledger.undelivered() == 3 + 1


def test_other_topics_are_passed_over() -> None:
    ledger = a_ledger()
    for topic in ("$SYS/broker/uptime", "loa/v1/bench-gateway-0/presence"):
        ledger.note_delivered(topic, mqtt5.PingReqPacket().write(), at=1.0)
        ledger.note_acknowledged(topic, b"", at=1.0, session=BULK)

    assert ledger.undelivered() == 0
