"""Which time counts: the device's own, or that of receipt where the device's clock cannot be believed."""

import enum
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from schemas.fields import ClockState

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


# A message this old says little about now: its device is heard again, but its state may be newer already.
OLD = timedelta(minutes=2)


class TimeSource(enum.IntEnum):
    """Where the time of a row comes from; the names stand in `telemetry.time_source_name`."""

    DEVICE = 0
    CLOCK_UNSYNCHRONISED = 1  # receipt time: the device itself does not believe its clock
    CLOCK_ABSURD = 2  # receipt time: the device believes its clock and is wrong


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeWindow:
    """How far a believable clock may be from the time of receipt."""

    ahead: timedelta = timedelta(minutes=5)
    behind: timedelta = timedelta(days=31)  # a device may have been offline, and sends its journal late


class Stamp(NamedTuple):
    """When something was so. `device_at` is None where it would only repeat `at`."""

    at: datetime
    device_at: datetime | None
    received_at: datetime
    clock: ClockState
    source: TimeSource


def instant(ms: int) -> datetime:
    """Return the instant `ms` milliseconds after 1970 began in UTC."""
    return EPOCH + timedelta(milliseconds=ms)


def stamp(device_at_ms: int, clock: ClockState, *, now: datetime, window: TimeWindow) -> Stamp:
    """Return the time to use for what a device says happened at `device_at_ms`, received at `now`.

    Both ends of the window are inside it.
    """
    device_at = instant(device_at_ms)
    if clock is ClockState.UNSYNCHRONISED:
        return Stamp(now, device_at, now, clock, TimeSource.CLOCK_UNSYNCHRONISED)
    if not now - window.behind <= device_at <= now + window.ahead:
        return Stamp(now, device_at, now, clock, TimeSource.CLOCK_ABSURD)
    return Stamp(device_at, None, now, clock, TimeSource.DEVICE)


def sample_stamp(message: Stamp, message_at_ms: int, sample_at_ms: int | None, *, window: TimeWindow) -> Stamp:
    """Return the stamp of one sample in a message stamped `message`.

    A clock that does not know the day still knows how long ago something was, so the sample keeps its distance from the
    message; what that puts outside the window is taken to be as late as the message.
    """
    if sample_at_ms is None or sample_at_ms == message_at_ms:
        return message
    at = message.at + timedelta(milliseconds=sample_at_ms - message_at_ms)
    device_at = instant(sample_at_ms)
    if not message.received_at - window.behind <= at <= message.received_at + window.ahead:
        return message._replace(at=message.at, device_at=device_at, source=TimeSource.CLOCK_ABSURD)
    return message._replace(at=at, device_at=None if at == device_at else device_at)
