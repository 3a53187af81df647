"""What the devices of a bench say, message by message, and the way back from a stored row to its message. Pure.

Everything follows from a gateway and a message's number, so the ledger of what was sent is a count and needs no memory:

* Devices take turns in an order that jumps about (a fixed stride around the circle), because neighbours in time are
  not neighbours in an index either. All have spoken once before one speaks again.
* Device time moves on with the number, at about the speed we hope for, so a device's messages differ in time.
* Contents are encoded by `schemas.codec` in many variants; what is set in afterwards are the instants and an event's
  journal, byte for byte what the codec would have written (a test holds it to that).
"""

import enum
import math
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from schemas import codec, events, heartbeats, readings
from schemas.fields import ClockState, DeviceKind, NetworkType, PlayReference, PlaySource, PowerSource
from schemas.shapes import Message
from schemas.topics import Uplink, UplinkKind, format_topic
from services.local.bench import packets
from services.local.bench.population import DIGITS, Mix, Population

# Messages of one gateway to a millisecond of device time: 48,000 a second for all four.
PER_MS = 12
VARIANTS = 64

# Stand-ins that are looked for in an encoded message; no other field holds their bytes.
_SENTINEL_MS = 0x123_4567_89AB
_SENTINEL_JOURNAL = bytes.fromhex("5afe5afe0ddba115")
_BEFORE_MS = 1_700_000_000_000

_SAMPLES = (("water_level", "m", 2.37), ("rainfall", "mm", 11.5))


class Profile(enum.StrEnum):
    """What is sent, and by whom."""

    HEARTBEATS = "heartbeats"  # by a province's devices, nearly all of them sensors
    MIXED = "mixed"  # of ten devices, two of them clusters, seven send heartbeats, two readings, one (a cluster) events

    @property
    def mix(self) -> Mix:
        """Of which kinds the devices are: a hundred times the clusters of a province where there are to be events."""
        return Mix.PROVINCE if self is Profile.HEARTBEATS else Mix.HEAVY


def speaks(profile: Profile, index: int) -> UplinkKind:
    """Return what the device with this index sends."""
    if profile is Profile.HEARTBEATS:
        return UplinkKind.HEARTBEAT
    match index % 10:
        case 7 | 8:
            return UplinkKind.READING
        case 9:
            return UplinkKind.EVENT
        case _:
            return UplinkKind.HEARTBEAT


def rows_of(kind: UplinkKind) -> int:
    """Return how many rows one message of this kind becomes."""
    return len(_SAMPLES) if kind is UplinkKind.READING else 1


@dataclass(frozen=True)
class Traffic:
    """The messages of a run whose first device time is `base_ms`."""

    population: Population
    profile: Profile
    base_ms: int

    # --- numbers and devices ---

    @cached_property
    def _stride(self) -> int:
        """How far apart, around the circle of a gateway's devices, two messages in a row are."""
        stride = round(self.population.per_gateway * (math.sqrt(5) - 1) / 2)
        while math.gcd(stride, self.population.per_gateway) != 1:
            stride += 1
        return stride

    @cached_property
    def _back(self) -> int:
        return pow(self._stride, -1, self.population.per_gateway)

    def index(self, number: int) -> int:
        """Return the index of the device that a gateway's message with this number is about."""
        return number * self._stride % self.population.per_gateway

    def at_ms(self, number: int) -> int:
        """Return the device time of a gateway's message with this number."""
        return self.base_ms + number // PER_MS

    def number_at(self, index: int, at_ms: int) -> int | None:
        """Return the number of a gateway's message about this device with this device time, None if there is none."""
        per_gateway = self.population.per_gateway
        first = index * self._back % per_gateway
        earliest = (at_ms - self.base_ms) * PER_MS  # the PER_MS numbers from here on have this time
        number = first + -(-(earliest - first) // per_gateway) * per_gateway
        return number if 0 <= number < earliest + PER_MS else None

    def number_in_journal(self, index: int, journal: int, sequence: int) -> int | None:
        """Return the number of a gateway's message that is this event of this device, None if there is none.

        `journal` is what the database holds: the id as a signed big-endian integer.
        """
        if journal != self.journal_no(index) or sequence < 1:
            return None
        per_gateway = self.population.per_gateway
        return index * self._back % per_gateway + (sequence - 1) * per_gateway

    def journal_no(self, index: int) -> int:
        """Return the journal of the device with this index, as the database holds it."""
        return int.from_bytes(self._journal(index), "big", signed=True)

    def _journal(self, index: int) -> bytes:
        return (self.base_ms << 24 & 0xFFFF_FFFF_FF00_0000 | index).to_bytes(8, "big")

    # --- bytes ---

    def _topic(self, gateway: int, index: int) -> bytes:
        population, kind = self.population, speaks(self.profile, index)
        return format_topic(Uplink(population.gateway_id(gateway), kind, population.device_id(gateway, index))).encode()

    def packets(self, gateway: int, numbers: range) -> list[bytes]:
        """Return the PUBLISH packets of these messages."""
        habits = self._habits[gateway]
        per_gateway, stride = self.population.per_gateway, self._stride
        device_digits = self.population.device_digits
        cycle = len(habits)
        result: list[bytes] = []
        for number in numbers:
            index = number * stride % per_gateway
            habit = habits[index % cycle]
            wording = habit[number % len(habit)]
            at = (self.base_ms + number // PER_MS).to_bytes(8, "big")
            digits, packet_id = device_digits(gateway, index), packets.packet_id(number)
            if isinstance(wording, _Event):
                sequence = 1 + number // per_gateway
                result.append(wording.packet(digits, packet_id, at, self._journal(index), sequence))
            else:
                result.append(b"%b%b%b%b%b%b" % (wording.head, digits, packet_id, wording.before, at, wording.after))
        return result

    @cached_property
    def _habits(self) -> "Sequence[Sequence[Sequence[_Plain | _Event]]]":
        """By gateway and index (of the cycle): what such a device says, in its variants."""
        wordings, profile = _Wordings(), self.profile
        return [
            [
                wordings.of(self._topic(gateway, index)[:-DIGITS], kind, speaks(profile, index))
                for index, kind in enumerate(self.population.cycle)
            ]
            for gateway in range(self.population.gateways)
        ]


# --- messages with a hole for what differs ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Plain:
    """A PUBLISH: `head`, the device's digits, packet id, `before`, eight bytes of device time, `after`."""

    head: bytes
    before: bytes
    after: bytes


@dataclass(frozen=True, slots=True)
class _Event:
    """An event, whose length depends on its sequence number."""

    topic: bytes  # without the device's digits
    message: events.PlayEnded
    by_sequence: dict[int, tuple[bytes, bytes, bytes, bytes]]

    def packet(self, digits: bytes, packet_id: bytes, at: bytes, journal: bytes, sequence: int) -> bytes:
        parts = self.by_sequence.get(sequence)
        if parts is None:
            parts = self.by_sequence[sequence] = self._parts(sequence)
        head, first, middle, last = parts
        return b"%b%b%b%b%b%b%b%b" % (head, digits, packet_id, first, journal, middle, at, last)

    def _parts(self, sequence: int) -> tuple[bytes, bytes, bytes, bytes]:
        envelope = events.EventEnvelope(journal=_SENTINEL_JOURNAL, sequence=sequence, body=codec.encode(self.message))
        payload = codec.encode(envelope)
        first, rest = _cut(payload, _SENTINEL_JOURNAL)
        middle, last = _cut(rest, _SENTINEL_MS.to_bytes(8, "big"))
        return _head(self.topic, len(payload)), b"\x00" + first, middle, last


class _Wordings:
    """Makes the wordings, each only once."""

    def __init__(self) -> None:
        self._made: dict[tuple[bytes, DeviceKind, UplinkKind], list[_Plain | _Event]] = {}

    def of(self, topic: bytes, device: DeviceKind, uplink: UplinkKind) -> list[_Plain | _Event]:
        """Return what such a device says on `topic`, which lacks the digits at its end."""
        made = self._made.get((topic, device, uplink))
        if made is None:
            made = self._made[topic, device, uplink] = [
                _Event(topic, message, {}) if isinstance(message, events.PlayEnded) else _plain(topic, message)
                for message in _messages(device, uplink)
            ]
        return made


def _plain(topic: bytes, message: Message) -> _Plain:
    payload = codec.encode(message)
    before, after = _cut(payload, _SENTINEL_MS.to_bytes(8, "big"))
    return _Plain(_head(topic, len(payload)), b"\x00" + before, after)


def _head(topic: bytes, payload_size: int) -> bytes:
    return packets.head(topic + b"0" * DIGITS, payload_size)[:-DIGITS]


def _cut(payload: bytes, sentinel: bytes) -> tuple[bytes, bytes]:
    before, found, after = payload.partition(sentinel)
    assert found, "a stand-in stands in every message"
    assert sentinel not in after, "a stand-in stands there once"
    return before, after


def _messages(device: DeviceKind, uplink: UplinkKind) -> list[Message]:
    make = _HEARTBEATS[device] if uplink is UplinkKind.HEARTBEAT else _OTHERS[uplink]
    return [make(variant) for variant in range(VARIANTS)]


def _reference(variant: int) -> PlayReference:
    return PlayReference(
        source=PlaySource.EMISSION,
        id=uuid.UUID(int=0x1234_5678_9ABC_4DEF_8000_0000_0000_0000 + variant),
        occurrence_at_ms=_BEFORE_MS,
        item=variant % 4,
    )


def _playing(variant: int) -> heartbeats.Playing | None:
    return heartbeats.Playing(reference=_reference(variant), since_ms=_BEFORE_MS + 7) if variant % 2 else None


def _cluster(variant: int) -> Message:
    return heartbeats.ClusterHeartbeat(
        device_at_ms=_SENTINEL_MS,
        clock=ClockState.SYNCHRONISED,
        firmware="2.4.1",
        uptime_s=86_400 + 61 * variant,
        network=heartbeats.Network(type=NetworkType.CELLULAR_4G, signal_dbm=-70 - variant % 40, operator="Viettel"),
        power=heartbeats.Power(source=PowerSource.MAINS, battery_percent=100 - variant % 30),
        plan_serial=1_000 + variant,
        config_serial=12,
        storage=heartbeats.Storage(free_mib=3_000 - variant, total_mib=4_096),
        journal_pending=variant % 5,
        volume_percent=30 + variant % 50,
        playing=_playing(variant),
        amplifier_temperature_tenths_c=300 + variant,
        amplifier_power_w=50 + variant,
    )


def _board(variant: int) -> Message:
    return heartbeats.BoardHeartbeat(
        device_at_ms=_SENTINEL_MS,
        clock=ClockState.SYNCHRONISED,
        firmware="1.9.0",
        uptime_s=86_400 + 59 * variant,
        network=heartbeats.Network(type=NetworkType.ETHERNET),
        power=heartbeats.Power(source=PowerSource.MAINS),
        plan_serial=1_000 + variant,
        storage=heartbeats.Storage(free_mib=20_000 - variant, total_mib=32_768),
        screen_on=True,
        brightness_percent=40 + variant % 60,
        showing=_playing(variant),
        temperature_tenths_c=350 + variant,
    )


def _sensor(variant: int) -> Message:
    return heartbeats.SensorHeartbeat(
        device_at_ms=_SENTINEL_MS,
        clock=ClockState.SYNCHRONISED if variant % 3 else ClockState.HOLDOVER,
        firmware="0.7.3",
        uptime_s=40_000 + 67 * variant,
        network=heartbeats.Network(type=NetworkType.LORA, signal_dbm=-80 - variant % 50),
        power=heartbeats.Power(source=PowerSource.SOLAR, battery_percent=100 - variant % 60),
        config_serial=3,
    )


def _reading(variant: int) -> Message:
    return readings.Reading(
        device_at_ms=_SENTINEL_MS,
        clock=ClockState.SYNCHRONISED,
        samples=tuple(
            readings.Sample(quantity=quantity, value=value + variant / 16, unit=unit)
            for quantity, unit, value in _SAMPLES
        ),
    )


def _play_ended(variant: int) -> Message:
    return events.PlayEnded(
        device_at_ms=_SENTINEL_MS,
        clock=ClockState.SYNCHRONISED,
        reference=_reference(variant),
        started_at_ms=_BEFORE_MS + 11,
        ended_at_ms=_BEFORE_MS + 300_011,
        outcome=events.PlayOutcome.COMPLETED,
        sounded_ms=300_000 - variant,
        samples=4_800_000,
        sample_rate_hz=16_000,
        volume_percent=40 + variant % 40,
    )


_HEARTBEATS: dict[DeviceKind, Callable[[int], Message]] = {
    DeviceKind.CLUSTER: _cluster,
    DeviceKind.BOARD: _board,
    DeviceKind.SENSOR: _sensor,
}
_OTHERS: dict[UplinkKind, Callable[[int], Message]] = {UplinkKind.READING: _reading, UplinkKind.EVENT: _play_ended}
