"""Heartbeats and readings: what each kind of device says of itself."""

from __future__ import annotations

import itertools

import pytest

from firmware_sim import effects, inputs
from schemas import codec
from schemas.commands import Action
from schemas.fields import ClockState, DeviceKind, NetworkType, PowerSource
from schemas.heartbeats import BoardHeartbeat, ClusterHeartbeat, GatewayHeartbeat, Heartbeat, SensorHeartbeat
from schemas.plans import ContentKind
from schemas.readings import UNITS, Reading
from schemas.topics import DownlinkKind
from tests.unit.firmware_sim.builders import (
    MINUTE,
    SECOND,
    T0,
    Bench,
    a_command,
    a_configuration,
    a_plan,
    an_emission,
    signed,
)


def sent(bench: Bench) -> list[Heartbeat | Reading]:
    return [each.message for each in bench.told if isinstance(each, effects.Send)]


def beats(bench: Bench) -> list[Heartbeat]:
    return [each for each in sent(bench) if not isinstance(each, Reading)]


def latest(bench: Bench) -> Heartbeat:
    """The heartbeat the device sends next."""
    before = len(beats(bench))
    while len(beats(bench)) == before:
        bench.advance(SECOND)
    beat = beats(bench)[-1]
    assert codec.decode_heartbeat(codec.encode(beat)) == beat
    return beat


@pytest.mark.parametrize(
    ("kind", "cls"),
    [
        (DeviceKind.CLUSTER, ClusterHeartbeat),
        (DeviceKind.BOARD, BoardHeartbeat),
        (DeviceKind.SENSOR, SensorHeartbeat),
        (DeviceKind.GATEWAY, GatewayHeartbeat),
    ],
)
def test_each_kind_has_its_heartbeat(kind: DeviceKind, cls: type[Heartbeat]) -> None:
    bench = Bench(kind)
    bench.ready()
    beat = latest(bench)
    assert isinstance(beat, cls)
    assert (beat.config_serial, beat.plan_serial, beat.clock) == (1, None, ClockState.SYNCHRONISED)
    assert beat.network is not None
    assert beat.network.type is NetworkType.CELLULAR_4G
    assert beat.storage is not None
    assert beat.storage.free_mib <= beat.storage.total_mib


def test_interval_is_the_configured_one_on_a_grid_of_the_devices_own() -> None:
    bench = Bench()
    bench.ready()
    bench.advance(10 * MINUTE)
    instants = [beat.device_at_ms for beat in beats(bench)]
    gaps = [later - earlier for earlier, later in itertools.pairwise(instants[2:])]
    assert set(gaps) == {30 * SECOND}
    assert 19 <= len(instants) <= 22


def test_says_at_once_that_it_is_there_and_what_it_was_told() -> None:
    bench = Bench()
    bench.ready()
    bench.advance(SECOND)
    assert len(beats(bench)) == 1
    bench.receive(DownlinkKind.CONFIG, signed(a_configuration(serial=2)))
    bench.advance(SECOND)
    assert [beat.config_serial for beat in beats(bench)] == [1, 2]


def test_is_silent_without_an_uplink() -> None:
    bench = Bench(DeviceKind.SENSOR)
    bench.ready()
    bench.feed(inputs.Disconnected())
    bench.told.clear()
    bench.advance(10 * MINUTE)
    assert sent(bench) == []


def test_cluster_says_what_it_plays_how_loud_and_how_warm_it_gets() -> None:
    bench = Bench()
    emission = an_emission(duration_ms=2 * MINUTE, volume=70)
    bench.ready(emission)
    quiet = latest(bench)
    bench.until(T0 + MINUTE + SECOND)
    loud = latest(bench)
    assert isinstance(quiet, ClusterHeartbeat)
    assert isinstance(loud, ClusterHeartbeat)
    assert quiet.playing is None
    assert loud.playing is not None
    assert (loud.playing.reference, loud.playing.since_ms) == (emission.reference, T0 + MINUTE)
    assert (quiet.volume_percent, loud.volume_percent, loud.plan_serial) == (60, 70, 1)
    assert loud.amplifier_power_w is not None
    assert quiet.amplifier_power_w is not None
    assert loud.amplifier_power_w > quiet.amplifier_power_w


@pytest.mark.parametrize(("commanded", "told"), [(25, 25), (95, 80)], ids=["below_the_cap", "above_the_cap"])
def test_volume_told_is_the_volume_it_would_play_at(commanded: int, told: int) -> None:
    bench = Bench()
    bench.ready()
    bench.receive(DownlinkKind.COMMAND, signed(a_command(Action.SET_VOLUME, volume_percent=commanded)))
    beat = latest(bench)
    assert isinstance(beat, ClusterHeartbeat)
    assert beat.volume_percent == told


def test_silenced_devices_say_so() -> None:
    for kind in (DeviceKind.CLUSTER, DeviceKind.BOARD):
        bench = Bench(kind)
        bench.ready()
        bench.receive(DownlinkKind.COMMAND, signed(a_command(Action.SILENCE)))
        beat = latest(bench)
        match beat:
            case ClusterHeartbeat():
                assert beat.volume_percent == 0
            case BoardHeartbeat():
                assert (beat.screen_on, beat.brightness_percent) == (False, 0)


def test_board_says_what_it_shows() -> None:
    bench = Bench(DeviceKind.BOARD)
    emission = an_emission(duration_ms=2 * MINUTE, content=ContentKind.TEXT, media=None, text="Chào")
    bench.ready(emission)
    bench.until(T0 + MINUTE + SECOND)
    beat = latest(bench)
    assert isinstance(beat, BoardHeartbeat)
    assert beat.showing is not None
    assert beat.showing.reference == emission.reference


def test_clock_that_contradicts_what_was_signed_is_not_passed_off_as_synchronised() -> None:
    bench = Bench()
    bench.ready()
    bench.receive(DownlinkKind.PLAN, signed(a_plan(serial=1)))
    bench.at_ms -= 10 * MINUTE
    bench.feed(inputs.ClockSet(previous=ClockState.SYNCHRONISED, step_ms=-10 * MINUTE))
    assert latest(bench).clock is ClockState.UNSYNCHRONISED


def test_gateway_counts_and_power_and_errors_are_told() -> None:
    bench = Bench(DeviceKind.GATEWAY)
    bench.ready()
    bench.feed(inputs.PowerSwitched(source=PowerSource.BATTERY, battery_percent=40))
    bench.receive(DownlinkKind.COMMAND, b"garbage")
    bench.uptime_ms += MINUTE
    bench.feed(inputs.Tick(journal_pending=7, devices_heard=19))
    beat = beats(bench)[-1]
    assert isinstance(beat, GatewayHeartbeat)
    assert (beat.journal_pending, beat.devices_heard) == (7, 19)
    assert beat.power is not None
    assert (beat.power.source, beat.power.battery_percent) == (PowerSource.BATTERY, 40)
    assert beat.last_error == "refused command: malformed"


def test_sensor_measures_all_it_can_every_minute() -> None:
    bench = Bench(DeviceKind.SENSOR)
    bench.ready()
    bench.advance(10 * MINUTE)
    told = [each for each in sent(bench) if isinstance(each, Reading)]
    assert 10 <= len(told) <= 12
    for reading in told:
        assert [sample.quantity for sample in reading.samples] == ["water_level", "rainfall"]
        assert [sample.unit for sample in reading.samples] == [UNITS["water_level"], UNITS["rainfall"]]
