"""The express way: the same rows as the ordinary way makes, for the messages it takes, and everything else left alone."""

import itertools
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import mqtt5
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import codec
from schemas.fields import ClockState, DeviceKind, NetworkType, PowerSource
from schemas.heartbeats import Network, Power, SensorHeartbeat, Storage
from services.ingest.admission import Heartbeat, judge
from services.ingest.express import Express, StateTimes
from services.ingest.forms import MOST_FORMS, Forms
from services.ingest.registry import Registry, pack
from services.ingest.rows import Row
from services.ingest.stamps import TimeWindow
from tests.support.copy_rows import cells, values
from tests.support.ingest_builders import NOW, NOW_MS, heartbeat

GATEWAY, OTHER_GATEWAY, BEHIND, ALONE, CLUSTER = b"gateway-1", b"gateway-2", b"sensor-1", b"sensor-2", b"cluster-1"
REGISTRY = Registry(
    [
        (GATEWAY, pack(DeviceKind.GATEWAY, 1, 1)),
        (OTHER_GATEWAY, pack(DeviceKind.GATEWAY, 2, 2)),
        (BEHIND, pack(DeviceKind.SENSOR, 3, 1)),
        (ALONE, pack(DeviceKind.SENSOR, 4, 4)),
        (CLUSTER, pack(DeviceKind.CLUSTER, 5, 5)),
        (b"heartbeat", pack(DeviceKind.SENSOR, 6, 1)),
    ]
)
BY_GATEWAY = "loa/v1/gateway-1/up/heartbeat/sensor-1"
BY_ITSELF = "loa/v1/sensor-2/up/heartbeat"


def an_express(*, states_per_s: int = 1_000_000) -> Express:
    return Express(REGISTRY, window=TimeWindow(), states_per_s=states_per_s)


def a_message(**changes: Any) -> SensorHeartbeat:
    return SensorHeartbeat(
        **{
            "device_at_ms": NOW_MS - 1_000,
            "clock": ClockState.SYNCHRONISED,
            "firmware": "0.7.3",
            "uptime_s": 86_400,
            "network": Network(type=NetworkType.LORA, signal_dbm=-87),
            "power": Power(source=PowerSource.SOLAR, battery_percent=71),
            **changes,
        }
    )


def packet(topic: str, payload: bytes, packet_id: int = 7, **changes: Any) -> bytes:
    return mqtt5.PublishPacket(topic, payload, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=packet_id, **changes).write()


def by_the_ordinary_way(topic: str, payload: bytes, *, now: datetime = NOW) -> Row:
    verdict = judge(topic, payload, is_retained=False, registry=REGISTRY, now=now, window=TimeWindow())
    assert isinstance(verdict, Heartbeat)
    return verdict.row


MESSAGES = st.builds(
    a_message,
    device_at_ms=st.integers(NOW_MS - 119_000, NOW_MS + 299_000),
    clock=st.sampled_from(ClockState),
    firmware=st.sampled_from(["1.0", "2.0-β", "x" * 48]),
    uptime_s=st.integers(0, 2**31 - 1),
    plan_serial=st.none() | st.integers(0, 2**63 - 1),
    config_serial=st.none() | st.integers(0, 300),
    journal_pending=st.none() | st.integers(0, 70_000),
    last_error=st.none() | st.sampled_from(["Lỗi cảm biến", "E7"]),
    network=st.none()
    | st.builds(
        Network,
        type=st.sampled_from(NetworkType),
        signal_dbm=st.none() | st.integers(-150, 0),
        operator=st.none() | st.just("Viettel"),
    ),
    power=st.none()
    | st.builds(Power, source=st.sampled_from(PowerSource), battery_percent=st.none() | st.integers(0, 100)),
    storage=st.none() | st.builds(Storage, free_mib=st.integers(0, 2**31 - 1), total_mib=st.integers(0, 2**31 - 1)),
)


@given(MESSAGES, st.sampled_from([BY_GATEWAY, BY_ITSELF]))
def test_a_row_is_the_one_the_ordinary_way_makes(message: SensorHeartbeat, topic: str) -> None:
    express = an_express()
    payload = codec.encode(message)
    express.learn(topic, payload, 3, now=NOW)

    data = packet(topic, payload)

    assert express.take(data, 0, connection=1, now=NOW) == len(data)
    (row,) = express.cut().rows
    assert values(row) == by_the_ordinary_way(topic, payload)


@given(MESSAGES, MESSAGES)
def test_what_another_message_has_taught_is_never_read_wrongly(known: SensorHeartbeat, other: SensorHeartbeat) -> None:
    express = an_express()
    express.learn(BY_GATEWAY, codec.encode(known), 3, now=NOW)
    payload = codec.encode(other)
    data = packet(BY_GATEWAY, payload)

    taken = express.take(data, 0, connection=1, now=NOW) == len(data)

    rows = express.cut().rows
    assert len(rows) == taken
    for row in rows:
        assert values(row) == by_the_ordinary_way(BY_GATEWAY, payload)


@given(st.data())
def test_damaged_bytes_are_taken_only_where_the_codec_would_take_them(data: st.DataObject) -> None:
    express = an_express()
    payload = codec.encode(a_message(plan_serial=70_000, storage=Storage(free_mib=3_000, total_mib=4_096)))
    express.learn(BY_GATEWAY, payload, 3, now=NOW)
    damaged = bytearray(payload)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    whole = packet(BY_GATEWAY, bytes(damaged))

    express.take(whole, 0, connection=1, now=NOW)

    for row in express.cut().rows:
        assert values(row) == by_the_ordinary_way(BY_GATEWAY, bytes(damaged))


def test_a_form_learnt_from_one_device_serves_all_that_speak_like_it() -> None:
    express = an_express()
    express.learn(BY_GATEWAY, codec.encode(a_message()), 3, now=NOW)
    express.learn(BY_ITSELF, codec.encode(a_message()), 4, now=NOW)
    other = codec.encode(a_message(uptime_s=99_000, network=Network(type=NetworkType.LORA, signal_dbm=-120)))
    data = packet(BY_GATEWAY, other, 1) + packet(BY_ITSELF, other, 2)

    assert express.take(data, 0, connection=9, now=NOW) == len(data)

    waiting = express.cut()
    assert waiting.packet_ids == {9: [1, 2]}
    assert [values(row)[3:5] for row in waiting.rows] == [(3, 1), (4, None)]
    assert values(waiting.rows[1])[1] - values(waiting.rows[0])[1] == timedelta(microseconds=1)  # times of receipt


NOT_EXPRESS = {
    "delivered_again": packet(BY_GATEWAY, codec.encode(a_message()), duplicate=True),
    "retained": packet(BY_GATEWAY, codec.encode(a_message()), retain=True),
    "with_properties": packet(BY_GATEWAY, codec.encode(a_message()), content_type="cbor"),
    "qos_0": mqtt5.PublishPacket(BY_GATEWAY, codec.encode(a_message())).write(),
    "no_publish": mqtt5.PingRespPacket().write(),
    "of_a_stranger": packet("loa/v1/gateway-1/up/heartbeat/sensor-9", codec.encode(a_message())),
    "by_another_gateway": packet("loa/v1/gateway-2/up/heartbeat/sensor-1", codec.encode(a_message())),
    "of_another_kind": packet("loa/v1/gateway-1/up/heartbeat/cluster-1", codec.encode(a_message())),
    "a_cluster": packet("loa/v1/cluster-1/up/heartbeat", heartbeat()),
    "on_a_topic_of_readings": packet("loa/v1/gateway-1/up/reading/sensor-1", codec.encode(a_message())),
    "of_a_gateway_with_a_sensor_named_like_a_topic": packet("loa/v1/gateway-1/up/heartbeat", codec.encode(a_message())),
    "long_ago": packet(BY_GATEWAY, codec.encode(a_message(device_at_ms=NOW_MS - 121_000))),
    "in_the_future": packet(BY_GATEWAY, codec.encode(a_message(device_at_ms=NOW_MS + 301_000))),
    "after_2100_by_a_clock_it_does_not_believe": packet(
        BY_GATEWAY,
        codec.encode(a_message(clock=ClockState.UNSYNCHRONISED)).replace(
            (NOW_MS - 1_000).to_bytes(8, "big"), (8_000_000_000_000_000).to_bytes(8, "big")
        ),
    ),
    "in_another_form": packet(BY_GATEWAY, codec.encode(a_message(firmware="0.7.4"))),
    "out_of_bounds": packet(BY_GATEWAY, codec.encode(a_message()).replace(b"\x18\x47", b"\x18\x65")),
    "too_long_for_two_bytes_of_length": packet(BY_GATEWAY, bytes(20_000)),
    "topic_longer_than_the_packet": b"\x32\x05\xff\xffabc",
}


@pytest.mark.parametrize("data", NOT_EXPRESS.values(), ids=NOT_EXPRESS)
def test_what_is_not_ordinary_is_left_to_the_ordinary_way(data: bytes) -> None:
    express = an_express()
    for topic in (BY_GATEWAY, "loa/v1/gateway-2/up/heartbeat/sensor-1", BY_ITSELF):
        express.learn(topic, codec.encode(a_message()), 3, now=NOW)
        express.learn(topic, codec.encode(a_message(clock=ClockState.UNSYNCHRONISED)), 3, now=NOW)
    good = packet(BY_GATEWAY, codec.encode(a_message()))

    assert express.take(good + data + good, 0, connection=1, now=NOW) == len(good)
    assert len(express.cut()) == 1


def test_a_packet_that_has_arrived_in_part_waits_for_its_rest() -> None:
    express = an_express()
    express.learn(BY_GATEWAY, codec.encode(a_message()), 3, now=NOW)
    whole = packet(BY_GATEWAY, codec.encode(a_message()))
    for size in range(len(whole)):
        assert express.take(whole[:size], 0, connection=1, now=NOW) == 0
    assert len(express.cut()) == 0


def test_the_device_named_like_a_level_of_the_topic_is_a_device() -> None:
    express = an_express()
    express.learn("loa/v1/gateway-1/up/heartbeat/heartbeat", codec.encode(a_message()), 6, now=NOW)
    data = packet("loa/v1/gateway-1/up/heartbeat/heartbeat", codec.encode(a_message()))

    assert express.take(data, 0, connection=1, now=NOW) == len(data)
    assert values(express.cut().rows[0])[3:5] == (6, 1)


def test_a_gateway_that_is_no_longer_registered_takes_its_devices_with_it() -> None:
    registry = Registry([(GATEWAY, pack(DeviceKind.GATEWAY, 1, 1)), (BEHIND, pack(DeviceKind.SENSOR, 3, 1))])
    express = Express(registry, window=TimeWindow(), states_per_s=1_000)
    express.learn(BY_GATEWAY, codec.encode(a_message()), 3, now=NOW)
    data = packet(BY_GATEWAY, codec.encode(a_message()))
    assert express.take(data, 0, connection=1, now=NOW) == len(data)

    registry.merge(["gateway-1"], [])

    assert express.take(data, 0, connection=1, now=NOW) == 0


def test_forms_are_bounded_and_what_says_something_new_each_time_pushes_nothing_out() -> None:
    forms = Forms(most=3)
    honest = codec.encode(a_message())
    forms.learn(honest)
    for number in range(10):
        forms.learn(codec.encode(a_message(firmware=f"9.9.{number}")))

    assert len(forms) == 3
    assert forms.is_full
    assert forms.find(honest) is not None
    forms.forget()
    assert len(forms) == 0
    assert forms.find(honest) is None


def taught(express: Express, firmwares: Iterable[str], *, now: datetime) -> datetime:
    """Have so many forms learnt, at no more than may be in a second; return when the last was."""
    at = now
    for number, firmware in enumerate(firmwares):
        at = now + timedelta(seconds=number // 100)
        express.learn(BY_GATEWAY, codec.encode(a_message(firmware=firmware)), 3, now=at)
    return at


def is_known(express: Express, firmware: str) -> bool:
    data = packet(BY_GATEWAY, codec.encode(a_message(firmware=firmware)))
    return express.take(data, 0, connection=1, now=NOW) == len(data)


def test_an_express_way_that_is_full_forgets_once_a_minute() -> None:
    express = an_express()
    full_at = taught(express, (f"f{number}" for number in range(MOST_FORMS)), now=NOW)
    taught(express, ["new"], now=full_at)
    assert is_known(express, "new")
    assert not is_known(express, "f0")

    full_again_at = taught(express, (f"g{number}" for number in range(MOST_FORMS)), now=full_at + timedelta(seconds=1))
    taught(express, ["newer"], now=full_again_at + timedelta(seconds=1))
    assert not is_known(express, "newer")
    taught(express, ["newest"], now=full_at + timedelta(seconds=60))
    assert is_known(express, "newest")


def test_a_length_with_more_layouts_than_there_is_room_for_is_forgotten_too() -> None:
    # One device that says the same length in ever new layouts must not keep the others from being learnt for good.
    forms = Forms()
    for number in range(48):
        forms.learn(codec.encode(a_message(firmware="v" * (number + 1), last_error="e" * (60 - number))))
    assert forms.is_full
    assert len(forms) < MOST_FORMS
    forms.forget()
    assert not forms.is_full


def test_so_much_is_learnt_in_a_second_and_no_more() -> None:
    express = an_express()
    for number in range(500):
        express.learn(BY_GATEWAY, codec.encode(a_message(firmware=f"f{number}")), 3, now=NOW)
    assert is_known(express, "f199")
    assert not is_known(express, "f200")
    taught(express, ["f200"], now=NOW + timedelta(seconds=1))
    assert is_known(express, "f200")


def test_after_something_said_the_ordinary_way_the_next_state_is_written() -> None:
    express = an_express(states_per_s=1)
    data = packet(BY_GATEWAY, codec.encode(a_message()))
    express.learn(BY_GATEWAY, codec.encode(a_message()), 3, now=NOW)
    for seconds in range(1, 3):
        express.take(data, 0, connection=1, now=NOW + timedelta(seconds=seconds))
    express.cut()

    express.learn(BY_GATEWAY, codec.encode(a_message(last_error="E9")), 3, now=NOW + timedelta(seconds=2))

    express.take(data, 0, connection=1, now=NOW + timedelta(seconds=2))
    assert express.cut().state_numbers == [3]


@pytest.mark.parametrize(
    "payload",
    [b"", b"\xa0", b"\xff", heartbeat(), codec.encode(a_message(device_at_ms=5))],
    ids=["empty", "no_fields", "no_cbor", "a_cluster", "a_time_within_its_head"],
)
def test_what_cannot_be_learnt_is_not(payload: bytes) -> None:
    forms = Forms()
    forms.learn(payload)
    assert len(forms) == 0


def test_a_field_of_a_newer_minor_version_may_say_what_it_likes() -> None:
    express = an_express()
    newer = codec.dumps(codec.loads(codec.encode(a_message()), size_limit=1_024) | {100: 1_000, 101: {1: [500, "x"]}})
    express.learn(BY_GATEWAY, newer, 3, now=NOW)
    later = newer.replace(b"\x19\x03\xe8", b"\x19\xff\xff")
    assert later != newer
    data = packet(BY_GATEWAY, later)

    assert express.take(data, 0, connection=1, now=NOW) == len(data)
    assert values(express.cut().rows[0]) == by_the_ordinary_way(BY_GATEWAY, later)


# --- states ----------------------------------------------------------------------------------------------------------


def test_a_small_fleet_has_every_state_written() -> None:
    express = an_express(states_per_s=1_000)
    express.learn(BY_GATEWAY, codec.encode(a_message()), 3, now=NOW)
    data = packet(BY_GATEWAY, codec.encode(a_message()))
    for seconds in range(3):
        express.take(data, 0, connection=1, now=NOW + timedelta(seconds=seconds))
    waiting = express.cut()
    assert waiting.state_numbers == [3, 3, 3]
    *same, principal = cells(waiting.states[0])
    assert same == cells(waiting.rows[0])
    assert principal == GATEWAY


def test_a_large_fleet_has_each_state_written_once_an_interval_and_at_once_when_something_changes() -> None:
    # 3 sensors at 1 a second is every 3 s; a sensor is first due within that time of a start.
    express = an_express(states_per_s=1)
    runs_on = {source: codec.encode(a_message(power=Power(source=source))) for source in PowerSource}
    for payload in runs_on.values():
        express.learn(BY_GATEWAY, payload, 3, now=NOW)

    def due_at(seconds: int, source: PowerSource) -> bool:
        data = packet(BY_GATEWAY, runs_on[source])
        assert express.take(data, 0, connection=1, now=NOW + timedelta(seconds=seconds)) == len(data)
        return bool(express.cut().states)

    on_mains = [due_at(second, PowerSource.MAINS) for second in range(30)]
    assert sum(on_mains) == 9
    assert not due_at(29, PowerSource.MAINS)
    assert due_at(29, PowerSource.BATTERY)
    assert not due_at(30, PowerSource.BATTERY)


def test_states_are_due_evenly_after_a_start() -> None:
    fleet = Registry((f"s-{number}".encode(), pack(DeviceKind.SENSOR, number, number)) for number in range(1, 6_001))
    written, _, seconds, every = StateTimes(per_second=100).at(1_000, fleet)
    assert (seconds, every) == (0, 60)
    due = [sum(second - written[number] >= every for number in range(1, 6_001)) for second in (0, 20, 40, 60)]
    assert due[0] <= 200
    assert all(1_800 <= later - sooner <= 2_200 for sooner, later in itertools.pairwise(due))
