"""Examples of everything that travels unsigned."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from schemas import codec, readings
from schemas.alerts import Purpose
from schemas.events import (
    AlertHandled,
    AlertResult,
    Booted,
    BootReason,
    ClockChanged,
    CommandDone,
    CommandResult,
    Event,
    EventEnvelope,
    Fault,
    FaultChanged,
    MediaFailed,
    MediaStored,
    MessageKind,
    MissReason,
    PlanAccepted,
    PlanExpired,
    PlayEnded,
    PlayMissed,
    PlayOutcome,
    PlayStarted,
    PowerChanged,
    RefusalReason,
    Refused,
)
from schemas.fields import ClockState, NetworkType, PowerSource
from schemas.heartbeats import (
    BoardHeartbeat,
    ClusterHeartbeat,
    GatewayHeartbeat,
    Network,
    Playing,
    Power,
    SensorHeartbeat,
    Storage,
)
from schemas.presence import PresenceReport
from schemas.receipts import Receipt, SequenceRange
from schemas.shapes import Message
from tests.support.vectors.world import (
    ALERT,
    BY_ALERT,
    BY_COMMAND,
    COMMAND,
    DAY,
    EMISSION,
    IMAGE,
    JOURNAL,
    MEDIA,
    SYNC,
    T,
)


def _heartbeats() -> Iterator[tuple[str, Message]]:
    yield (
        "heartbeat_cluster_v1_minimal",
        ClusterHeartbeat(
            device_at_ms=T, clock=ClockState.UNSYNCHRONISED, firmware="1.0.0", uptime_s=12, volume_percent=0
        ),
    )
    yield (
        "heartbeat_cluster_v1_playing",
        ClusterHeartbeat(
            device_at_ms=T + 30_000,
            clock=SYNC,
            firmware="loa-cum 2.4.1",
            uptime_s=864_000,
            network=Network(type=NetworkType.CELLULAR_4G, signal_dbm=-87, operator="Viettel"),
            power=Power(source=PowerSource.MAINS, battery_percent=97),
            plan_serial=1_042,
            config_serial=7,
            storage=Storage(free_mib=5_120, total_mib=7_456),
            journal_pending=3,
            volume_percent=65,
            playing=Playing(reference=EMISSION, since_ms=T),
            amplifier_temperature_tenths_c=412,
            amplifier_power_w=118,
        ),
    )
    yield (
        "heartbeat_cluster_v1_faulty",
        ClusterHeartbeat(
            device_at_ms=T + 60_000,
            clock=ClockState.HOLDOVER,
            firmware="loa-cum 2.4.1",
            uptime_s=864_030,
            network=Network(type=NetworkType.WIFI),
            power=Power(source=PowerSource.BATTERY, battery_percent=41),
            last_error="kênh 2: hở mạch loa",
            volume_percent=65,
            amplifier_temperature_tenths_c=-35,
            amplifier_power_w=0,
            faulty_channels=(2, 4),
        ),
    )
    yield (
        "heartbeat_board_v1_showing",
        BoardHeartbeat(
            device_at_ms=T,
            clock=SYNC,
            firmware="board 0.9",
            uptime_s=3_600,
            network=Network(type=NetworkType.ETHERNET),
            plan_serial=88,
            screen_on=True,
            brightness_percent=80,
            showing=Playing(reference=BY_COMMAND, since_ms=T - 1_000),
            temperature_tenths_c=387,
        ),
    )
    yield (
        "heartbeat_board_v1_dark",
        BoardHeartbeat(
            device_at_ms=T, clock=SYNC, firmware="board 0.9", uptime_s=5, screen_on=False, brightness_percent=0
        ),
    )
    yield (
        "heartbeat_sensor_v1_solar",
        SensorHeartbeat(
            device_at_ms=T,
            clock=SYNC,
            firmware="ws-1",
            uptime_s=77,
            network=Network(type=NetworkType.LORA, signal_dbm=-119),
            power=Power(source=PowerSource.SOLAR, battery_percent=64),
            journal_pending=0,
        ),
    )
    yield (
        "heartbeat_gateway_v1_partial",
        GatewayHeartbeat(
            device_at_ms=T,
            clock=SYNC,
            firmware="gw 3.1",
            uptime_s=1_000,
            storage=Storage(free_mib=0, total_mib=64),
            devices_assigned=20,
            devices_heard=18,
        ),
    )


def _readings() -> Iterator[tuple[str, Message]]:
    yield (
        "reading_v1_water_level",
        readings.Reading(
            device_at_ms=T,
            clock=SYNC,
            samples=(readings.Sample(quantity="water_level", value=3.25, unit="m"),),
        ),
    )
    yield (
        "reading_v1_weather",
        readings.Reading(
            device_at_ms=T,
            clock=ClockState.HOLDOVER,
            samples=(
                readings.Sample(quantity="air_temperature", value=-0.1, unit="Cel", at_ms=T - 60_000),
                readings.Sample(quantity="rainfall", value=0.0, unit="mm"),
                readings.Sample(quantity="pm25", value=35.0, unit="ug/m3", quality=readings.Quality.UNCERTAIN),
                # A quantity of a vendor's own, in any UCUM unit; a value that needs a double.
                readings.Sample(quantity="soil_ph", value=6.123456789, unit="[pH]", quality=readings.Quality.BAD),
            ),
        ),
    )


def _events() -> Iterator[tuple[str, Event]]:
    now: dict[str, Any] = {"device_at_ms": T + 60_000, "clock": SYNC}
    yield "play_started", PlayStarted(**now, reference=EMISSION, started_at_ms=T + 12, media=MEDIA, volume_percent=65)
    yield (
        "play_ended",
        PlayEnded(
            **now,
            reference=EMISSION,
            started_at_ms=T + 12,
            media=MEDIA,
            volume_percent=65,
            ended_at_ms=T + 60_012,
            outcome=PlayOutcome.COMPLETED,
            sounded_ms=60_000,
            samples=2_880_000,
            sample_rate_hz=48_000,
        ),
    )
    yield (
        "play_ended_cut",
        PlayEnded(
            **now,
            reference=EMISSION,
            started_at_ms=T + 12,
            ended_at_ms=T + 20_012,
            outcome=PlayOutcome.CUT,
            sounded_ms=20_000,
            samples=960_000,
            sample_rate_hz=48_000,
            cut_by=BY_ALERT,
            interruptions=1,
        ),
    )
    yield "play_missed", PlayMissed(**now, reference=EMISSION, reason=MissReason.OUTRANKED, cut_by=BY_ALERT)
    yield "plan_accepted", PlanAccepted(**now, serial=1_042, emissions=42, media_missing=2)
    yield (
        "refused",
        Refused(
            **now,
            refused=MessageKind.PLAN,
            reason=RefusalReason.REPLAYED,
            serial=1_041,
            detail="số 1041 không lớn hơn 1042",
        ),
    )
    yield "media_stored", MediaStored(**now, media=MEDIA, size=482_113)
    yield "media_failed", MediaFailed(**now, media=IMAGE, detail="HTTP 404")
    yield "command_done", CommandDone(**now, command_id=COMMAND, result=CommandResult.DONE)
    yield (
        "booted",
        Booted(
            device_at_ms=0,
            clock=ClockState.UNSYNCHRONISED,
            reason=BootReason.WATCHDOG,
            firmware="loa-cum 2.4.1",
            last_up_at_ms=T - DAY,
        ),
    )
    yield "power_changed", PowerChanged(**now, source=PowerSource.BATTERY, battery_percent=99)
    yield "clock_changed", ClockChanged(**now, previous=ClockState.UNSYNCHRONISED, step_ms=T)
    yield "fault_changed", FaultChanged(**now, fault=Fault.SPEAKER_CHANNEL, present=True, detail="kênh 2")
    yield (
        "play_ended_fallback",
        PlayEnded(
            **now,
            reference=EMISSION,
            started_at_ms=T + 12,
            ended_at_ms=T + 60_012,
            outcome=PlayOutcome.COMPLETED,
            sounded_ms=60_000,
            samples=2_880_000,
            sample_rate_hz=48_000,
            fallback_ms=12_000,
        ),
    )
    yield "plan_expired", PlanExpired(**now, serial=1_042, valid_until_ms=T - 1)
    of_alert: dict[str, Any] = {**now, "alert_id": ALERT, "alert_version": 2}
    yield "alert_handled", AlertHandled(**of_alert, purpose=Purpose.ALERT, result=AlertResult.TAKEN)
    yield (
        "alert_handled_test",
        AlertHandled(**of_alert, purpose=Purpose.SILENT_TEST, result=AlertResult.TEST_FAILED, detail="kênh 2"),
    )
    yield "alert_started", PlayStarted(**now, reference=BY_ALERT, started_at_ms=T + 30_120, volume_percent=100)


def _presence_and_receipts() -> Iterator[tuple[str, Message]]:
    yield "presence_v1_online", PresenceReport(connection_number=T, online=True, device_at_ms=T, clock=SYNC)
    yield "presence_v1_will", PresenceReport(connection_number=T, online=False, device_at_ms=T, clock=SYNC)
    yield "receipt_v1_nothing", Receipt(journal=JOURNAL, through=0)
    yield "receipt_v1_through", Receipt(journal=JOURNAL, through=1_000_000)
    yield (
        "receipt_v1_gaps",
        Receipt(
            journal=JOURNAL,
            through=10,
            ranges=(SequenceRange(first=12, last=12), SequenceRange(first=14, last=2**63 - 2)),
        ),
    )


@functools.cache
def messages() -> dict[str, Message]:
    """Return every unsigned example by the name of its vector."""
    found: dict[str, Message] = dict([*_heartbeats(), *_readings(), *_presence_and_receipts()])
    for sequence, (case, event) in enumerate(_events(), start=1):
        found[f"event_body_v1_{case}"] = event
        found[f"event_v1_{case}"] = EventEnvelope(journal=JOURNAL, sequence=sequence, body=codec.encode(event))
    return found
