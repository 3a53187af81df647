"""When a batch is due, how it is cut, what it is made of, and how much of its quarantine is kept."""

from datetime import timedelta

import pytest

from services.ingest import quota
from services.ingest.admission import judge
from services.ingest.batch import PAYLOAD_KEPT_BYTES, Batch, Taken, assemble
from services.ingest.batching import BatchLimits, halves, seconds_left
from services.ingest.quota import QuarantineQuota
from services.ingest.rows import HeardKind
from services.ingest.stamps import TimeWindow
from tests.support.ingest_builders import NOW, NOW_MS, a_registry, event, heartbeat, presence, reading

LIMITS = BatchLimits(size=100, age_s=0.5)
OWN = "loa/v1/cluster-1"


@pytest.mark.parametrize(
    ("count", "now", "left"),
    [
        pytest.param(0, 99.0, None, id="empty_ones_are_never_due"),
        pytest.param(1, 10.0, 0.5, id="just_opened"),
        pytest.param(99, 10.2, 0.3, id="not_full_and_young"),
        pytest.param(1, 10.5, 0.0, id="old"),
        pytest.param(1, 99.0, 0.0, id="very_old"),
        pytest.param(100, 10.0, 0.0, id="full"),
        pytest.param(1000, 10.0, 0.0, id="more_than_full"),
    ],
)
def test_a_batch_is_due_by_size_or_by_age(count: int, now: float, left: float | None) -> None:
    assert seconds_left(count, 10.0, now=now, limits=LIMITS) == pytest.approx(left)


@pytest.mark.parametrize("size", [2, 3, 10, 11])
def test_halves_are_a_batch_again_and_neither_is_empty(size: int) -> None:
    left, right = halves(range(size))
    assert [*left, *right] == list(range(size))
    assert left
    assert right


def taken(topic: str, payload: bytes, *, is_retained: bool = False) -> Taken:
    verdict = judge(topic, payload, is_retained=is_retained, registry=a_registry(), now=NOW, window=TimeWindow())
    return Taken(
        topic=topic,
        payload=payload,
        is_retained=is_retained,
        packet_id=1,
        connection=1,
        received_at=NOW,
        verdict=verdict,
    )


def a_batch(*messages: Taken) -> Batch:
    return assemble(messages, now=NOW)


def test_each_table_gets_its_own_and_everything_is_counted() -> None:
    batch = a_batch(
        taken(f"{OWN}/up/heartbeat", heartbeat()),
        taken(f"{OWN}/up/event", event(1)),
        taken(f"{OWN}/up/event", event(2, b"\xff")),
        taken(f"{OWN}/presence", presence()),
        taken("loa/v1/gateway-1/up/reading/sensor-1", reading()),
        taken(f"{OWN}/up/heartbeat", b"\xff"),
        taken(f"{OWN}/up/heartbeat", b"", is_retained=True),
    )
    assert batch.taken == 7
    assert batch.heartbeats[0][-1] == "cluster-1"
    assert [(entry.numbered.sequence, entry.row is None) for entry in batch.entries] == [(1, False), (2, True)]
    assert len(batch.presences) == len(batch.readings) == len(batch.heartbeats) == batch.cleared == 1
    assert batch.quarantined == {"not_cbor": 2}
    assert batch.admitted == {"heartbeat": 1, "event": 1, "presence": 1, "reading": 1}
    assert {number: kind for number, (_, kind, _) in batch.heard.items()} == {
        1: HeardKind.PRESENCE,
        3: HeardKind.READING,
    }
    assert batch.late_hours == set()


def test_a_presence_the_broker_has_kept_is_no_sign_of_life() -> None:
    batch = a_batch(taken(f"{OWN}/presence", presence(), is_retained=True))
    assert len(batch.presences) == 1
    assert batch.heard == {}


def test_the_same_bytes_of_one_principal_are_one_inmate() -> None:
    payload = b"\xff" * 20_000
    batch = a_batch(*(taken(f"{OWN}/up/{kind}", payload) for kind in ("heartbeat", "event", "heartbeat")))
    (inmate,) = batch.inmates.values()
    assert (inmate.messages, inmate.size, len(inmate.payload)) == (3, 20_000, PAYLOAD_KEPT_BYTES)
    assert [(tally.messages, tally.bytes) for tally in batch.tallies.values()] == [(3, 60_000)]


def test_text_the_database_cannot_hold_does_not_get_there() -> None:
    batch = a_batch(taken("loa/v1/a\x00b\ud800/up/heartbeat", b""))
    (inmate,) = batch.inmates.values()
    assert inmate.principal == "a�b?"
    assert "\x00" not in inmate.topic + inmate.detail
    (inmate.topic + inmate.detail + inmate.principal).encode()


def test_an_absurd_clock_is_counted_against_its_principal_and_admitted() -> None:
    batch = a_batch(taken(f"{OWN}/up/heartbeat", heartbeat(device_at_ms=0)))
    assert (len(batch.heartbeats), batch.clock_refused) == (1, 1)
    assert list(batch.tallies) == [("cluster-1", "clock_absurd")]
    assert batch.quarantined == {}


def test_rows_of_hours_that_are_over_announce_them() -> None:
    hour = timedelta(hours=1)
    batch = a_batch(
        taken(f"{OWN}/up/heartbeat", heartbeat(device_at_ms=NOW_MS - 1)),
        taken(f"{OWN}/up/heartbeat", heartbeat(device_at_ms=NOW_MS)),
        taken(f"{OWN}/up/reading", reading(device_at_ms=NOW_MS - 10_000_000)),
    )
    assert batch.late_hours == {NOW - hour, NOW - 3 * hour}
    # The older of the two sends old news, and is heard all the same.
    assert batch.heard[1][1] is HeardKind.READING


@pytest.mark.parametrize(
    ("today", "in_all", "known", "kept"),
    [
        pytest.param({}, 0, [], ["a1", "a2", "b1"], id="first_come_first_kept"),
        pytest.param({"a": 2}, 2, [], ["b1"], id="one_principal_is_full"),
        pytest.param({"a": 2}, 2, ["a3"], ["a3", "b1"], id="known_bytes_cost_nothing"),
        pytest.param({"c": 3}, 3, [], ["a1"], id="the_day_is_nearly_full"),
        pytest.param({"c": 9}, 9, ["a1"], ["a1"], id="the_day_is_full"),
    ],
)
def test_quotas(today: dict[str, int], in_all: int, known: list[str], kept: list[str]) -> None:
    payloads = [(name[0], name.encode()) for name in ("a1", "a2", "a3", "b1")]
    result = quota.kept(
        payloads,
        known=frozenset((name[0], name.encode()) for name in known),
        today=today,
        in_all_today=in_all,
        quota=QuarantineQuota(per_principal=2, in_all=4),
    )
    assert sorted(digest.decode() for _, digest in result) == kept
