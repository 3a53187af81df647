"""What a device says of itself: heartbeats (R-24, R-27) and readings."""

from __future__ import annotations

from typing import assert_never

from firmware_sim import contenders, inputs, physics, trust
from firmware_sim.clock import Moment
from firmware_sim.state import DeviceState
from schemas import heartbeats, readings
from schemas.fields import ClockState, DeviceKind, NetworkType

_FLASH_MIB = 4_096
_BRIGHTNESS = 80


def heartbeat(state: DeviceState, tick: inputs.Tick, *, now: Moment) -> heartbeats.Heartbeat:
    """What the device says of itself now."""
    profile = state.profile
    is_trusted = trust.is_trusted(now, state.trust.floor_ms)
    used_mib = sum(state.shelf.stored.values()) >> 20
    is_behind_gateway = profile.principal != profile.id
    network = (
        heartbeats.Network(type=NetworkType.WIRED_BUS)
        if is_behind_gateway
        else heartbeats.Network(
            type=NetworkType.CELLULAR_4G, signal_dbm=physics.signal_dbm(profile.id, now.at_ms), operator="loa-sim"
        )
    )
    common = {
        "device_at_ms": now.at_ms,
        "clock": now.clock if is_trusted else ClockState.UNSYNCHRONISED,
        "firmware": profile.firmware,
        "uptime_s": now.uptime_ms // 1_000,
        "network": network,
        "power": heartbeats.Power(source=state.power, battery_percent=state.battery_percent),
        "plan_serial": None if state.plan is None else state.plan.order.serial,
        "config_serial": None if state.config is None else state.config.order.serial,
        "storage": heartbeats.Storage(free_mib=max(0, _FLASH_MIB - used_mib), total_mib=_FLASH_MIB),
        "journal_pending": tick.journal_pending,
        "last_error": _trouble(state, is_expired=is_trusted and contenders.has_expired(state.programme, now=now)),
    }
    play = state.programme.sounding
    playing = (
        None
        if play is None or play.started_at_ms is None
        else heartbeats.Playing(reference=play.reference, since_ms=play.started_at_ms)
    )
    match profile.kind:
        case DeviceKind.CLUSTER:
            volume = state.volume_percent if play is None else play.volume_percent or 0
            is_sounding = playing is not None
            return heartbeats.ClusterHeartbeat.model_validate(
                common
                | {
                    "volume_percent": 0 if state.is_quiet else volume,
                    "playing": playing,
                    "amplifier_temperature_tenths_c": physics.amplifier_temperature_tenths(
                        profile.id, now.at_ms, sounding=is_sounding
                    ),
                    "amplifier_power_w": physics.amplifier_power_w(volume_percent=volume, sounding=is_sounding),
                }
            )
        case DeviceKind.BOARD:
            return heartbeats.BoardHeartbeat.model_validate(
                common
                | {
                    "screen_on": not state.is_quiet,
                    "brightness_percent": 0 if state.is_quiet else _BRIGHTNESS,
                    "showing": playing,
                    "temperature_tenths_c": round(10 * (physics.air_temperature(profile.id, now.at_ms) + 8)),
                }
            )
        case DeviceKind.SENSOR:
            return heartbeats.SensorHeartbeat.model_validate(common)
        case DeviceKind.GATEWAY:
            return heartbeats.GatewayHeartbeat.model_validate(
                common | {"devices_assigned": profile.children, "devices_heard": tick.devices_heard}
            )
        case _:
            assert_never(profile.kind)


def _trouble(state: DeviceState, *, is_expired: bool) -> str | None:
    """The last error; a plan that has run out is one for as long as that lasts."""
    if not is_expired or state.plan is None:
        return state.last_error
    return f"plan {state.plan.order.serial} has run out; {state.last_error or 'no newer one came'}"[:160]


def reading(state: DeviceState, *, now: Moment) -> readings.Reading:
    """What a sensor measures now: every quantity it has."""
    profile = state.profile
    return readings.Reading(
        device_at_ms=now.at_ms,
        clock=now.clock if trust.is_trusted(now, state.trust.floor_ms) else ClockState.UNSYNCHRONISED,
        samples=tuple(
            readings.Sample(
                quantity=quantity,
                value=physics.measure(profile.id, quantity, now.at_ms, flood=profile.flood),
                unit=readings.UNITS[quantity],
            )
            for quantity in profile.quantities
        ),
    )
