"""Events: what happened on a device. Journalled, repeated until receipted, never lost (promise 2).

An event travels as an `EventEnvelope` whose body is an encoded event. The envelope carries the journal id and the
sequence number, so that even a body nobody can read counts as received and does not stall the journal behind it.
"""

from __future__ import annotations

import enum
import uuid
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from schemas import limits
from schemas.alerts import Purpose
from schemas.fields import (
    ClockState,
    Count,
    Instant,
    Label,
    Milliseconds,
    Note,
    Percent,
    PlayReference,
    PowerSource,
    Serial,
    Sha256,
    Version,
)
from schemas.limits import INT64_MAX
from schemas.shapes import Key, Message

JournalId = Annotated[bytes, Field(min_length=8, max_length=8)]
Sequence = Annotated[int, Field(ge=1, le=INT64_MAX - 1)]


class EventEnvelope(Message):
    """Outer layer of an event: where it stands in which journal.

    `journal` is 64 random bits, drawn anew whenever the device's flash is new; `sequence` starts at 1 and has no gaps.
    """

    SIZE_LIMIT: ClassVar[int] = limits.EVENT_BYTES

    version: Version = 1
    journal: Annotated[JournalId, Key(1)]
    sequence: Annotated[Sequence, Key(2)]
    body: Annotated[bytes, Key(3), Field(min_length=1, max_length=limits.EVENT_BYTES)]


class EventType(enum.IntEnum):
    """What kind of thing happened."""

    PLAY_STARTED = 1
    PLAY_ENDED = 2
    PLAY_MISSED = 3
    PLAN_ACCEPTED = 4
    REFUSED = 5
    MEDIA_STORED = 6
    MEDIA_FAILED = 7
    COMMAND_DONE = 8
    BOOTED = 9
    POWER_CHANGED = 10
    CLOCK_CHANGED = 11
    FAULT_CHANGED = 12
    PLAN_EXPIRED = 13
    ALERT_HANDLED = 14


class PlayOutcome(enum.IntEnum):
    """How a play ended."""

    COMPLETED = 0
    CUT = 1  # something with precedence took over; `cut_by` names it
    FAILED = 2  # the player gave up part-way (decoder error, output fault)
    STOPPED = 3  # a command, or a plan that no longer holds the emission


class MissReason(enum.IntEnum):
    """Why an emission did not sound at all."""

    MEDIA_MISSING = 0
    MEDIA_CORRUPT = 1
    CLOCK_UNTRUSTED = 2
    POWERED_OFF = 3
    SILENCED = 4  # volume 0 or silenced by order
    OUTRANKED = 5  # something with precedence sounded for the whole slot; `cut_by` names it
    TOO_LATE = 6  # the device was ready only after the latest start
    UNSUPPORTED = 7  # the device cannot play this kind of content
    SOURCE_SILENT = 8  # the source of a relay gave nothing, and there was nothing to fill in


class MessageKind(enum.IntEnum):
    """What was refused."""

    PLAN = 0
    CONFIG = 1
    KEYS = 2
    COMMAND = 3
    ALERT = 4
    MEDIA = 5
    RECEIPT = 6
    SEGMENTS = 7


class RefusalReason(enum.IntEnum):
    """Why a device refused a downlink (S-11). Every refusal is a security event."""

    MALFORMED = 0
    DOWNGRADED_ALGORITHM = 1
    WRONG_TYPE = 2
    UNKNOWN_KEY = 3
    BAD_SIGNATURE = 4
    FOREIGN_AUDIENCE = 5
    EXPIRED = 6
    NOT_YET_VALID = 7
    REPLAYED = 8
    WRONG_HASH = 9
    TOO_LARGE = 10
    UNSIGNED_CONTENT = 11


class CommandResult(enum.IntEnum):
    """What became of a command."""

    DONE = 0
    FAILED = 1
    EXPIRED = 2
    UNSUPPORTED = 3


class AlertResult(enum.IntEnum):
    """What a device did with a version of an alert, a test or a silence."""

    TAKEN = 0  # in force here: it sounds and shows, at once or when what ranks higher ends
    TEST_PASSED = 1
    TEST_FAILED = 2  # the detail says what: signature, clock, media, fault, volume
    SILENCED = 3
    RELEASED = 4
    CANCELLED = 5  # also: a newer version does not address this device any more
    EXPIRED = 6  # it came too late
    MEDIA_MISSING = 7  # told at once; it sounds as soon as the file is there
    UNSUPPORTED = 8  # nothing in it that this device can put out
    KILLED = 9  # this device is silenced, so it will not sound


class BootReason(enum.IntEnum):
    """Why a device started."""

    POWER_ON = 0
    WATCHDOG = 1
    COMMAND = 2
    UPDATE = 3
    UNKNOWN = 4


class Fault(enum.IntEnum):
    """What is broken (R-27)."""

    SPEAKER_CHANNEL = 0
    AMPLIFIER = 1
    OVERHEAT = 2
    STORAGE = 3
    CLOCK = 4
    SCREEN = 5
    MODEM = 6


class _Event(Message):
    SIZE_LIMIT: ClassVar[int] = limits.EVENT_BYTES

    version: Version = 1
    device_at_ms: Annotated[Instant, Key(1)]
    clock: Annotated[ClockState, Key(2)]


class PlayStarted(_Event):
    """The first sample of a play has left the decoder. `started_at_ms` is the device's own time of that moment."""

    type: Annotated[Literal[EventType.PLAY_STARTED], Key(3)] = EventType.PLAY_STARTED
    reference: Annotated[PlayReference, Key(10)]
    started_at_ms: Annotated[Instant, Key(11)]
    media: Annotated[Sha256 | None, Key(12)] = None
    volume_percent: Annotated[Percent | None, Key(13)] = None


class PlayEnded(_Event):
    """A play is over.

    `sounded_ms` is the length of what was really decoded and put out, over all parts of a resumed play; `samples` and
    `sample_rate_hz` say what that claim rests on (absent on boards, where `sounded_ms` is the time shown). Of a relay,
    `fallback_ms` of `sounded_ms` were the fallback, because the source was silent.
    """

    type: Annotated[Literal[EventType.PLAY_ENDED], Key(3)] = EventType.PLAY_ENDED
    reference: Annotated[PlayReference, Key(10)]
    started_at_ms: Annotated[Instant, Key(11)]
    media: Annotated[Sha256 | None, Key(12)] = None
    volume_percent: Annotated[Percent | None, Key(13)] = None
    ended_at_ms: Annotated[Instant, Key(14)]
    outcome: Annotated[PlayOutcome, Key(15)]
    sounded_ms: Annotated[Milliseconds, Key(16)]
    samples: Annotated[int | None, Key(17), Field(ge=0, le=INT64_MAX)] = None
    sample_rate_hz: Annotated[int | None, Key(18), Field(ge=1, le=384_000)] = None
    cut_by: Annotated[PlayReference | None, Key(19)] = None
    interruptions: Annotated[Count | None, Key(20)] = None
    fallback_ms: Annotated[Milliseconds | None, Key(21)] = None


class PlayMissed(_Event):
    """A planned play did not sound."""

    type: Annotated[Literal[EventType.PLAY_MISSED], Key(3)] = EventType.PLAY_MISSED
    reference: Annotated[PlayReference, Key(10)]
    reason: Annotated[MissReason, Key(15)]
    cut_by: Annotated[PlayReference | None, Key(19)] = None


class PlanAccepted(_Event):
    """A plan was verified and stored; `media_missing` files are still to be fetched."""

    type: Annotated[Literal[EventType.PLAN_ACCEPTED], Key(3)] = EventType.PLAN_ACCEPTED
    serial: Annotated[Serial, Key(10)]
    emissions: Annotated[Count, Key(11)]
    media_missing: Annotated[Count, Key(12)]


class Refused(_Event):
    """A downlink or a media file was not accepted (security event)."""

    type: Annotated[Literal[EventType.REFUSED], Key(3)] = EventType.REFUSED
    refused: Annotated[MessageKind, Key(10)]
    reason: Annotated[RefusalReason, Key(11)]
    serial: Annotated[Serial | None, Key(12)] = None
    detail: Annotated[Note | None, Key(13)] = None


class MediaStored(_Event):
    """A media file is on the device and its hash was checked (R-26)."""

    type: Annotated[Literal[EventType.MEDIA_STORED], Key(3)] = EventType.MEDIA_STORED
    media: Annotated[Sha256, Key(10)]
    size: Annotated[int, Key(11), Field(ge=0, le=INT64_MAX)]


class MediaFailed(_Event):
    """A media file could not be fetched; the device tries again by itself."""

    type: Annotated[Literal[EventType.MEDIA_FAILED], Key(3)] = EventType.MEDIA_FAILED
    media: Annotated[Sha256, Key(10)]
    detail: Annotated[Note, Key(13)]


class CommandDone(_Event):
    """What became of a command (R-25)."""

    type: Annotated[Literal[EventType.COMMAND_DONE], Key(3)] = EventType.COMMAND_DONE
    command_id: Annotated[uuid.UUID, Key(10)]
    result: Annotated[CommandResult, Key(11)]
    detail: Annotated[Note | None, Key(13)] = None


class Booted(_Event):
    """The device started; `last_up_at_ms` is the last moment its previous life wrote down."""

    type: Annotated[Literal[EventType.BOOTED], Key(3)] = EventType.BOOTED
    reason: Annotated[BootReason, Key(10)]
    firmware: Annotated[Label, Key(11)]
    last_up_at_ms: Annotated[Instant | None, Key(12)] = None


class PowerChanged(_Event):
    """Mains were lost or came back (R-27)."""

    type: Annotated[Literal[EventType.POWER_CHANGED], Key(3)] = EventType.POWER_CHANGED
    source: Annotated[PowerSource, Key(10)]
    battery_percent: Annotated[Percent | None, Key(11)] = None


class ClockChanged(_Event):
    """The clock was set by `step_ms`, or its state changed."""

    type: Annotated[Literal[EventType.CLOCK_CHANGED], Key(3)] = EventType.CLOCK_CHANGED
    previous: Annotated[ClockState, Key(10)]
    step_ms: Annotated[int, Key(11), Field(ge=-INT64_MAX, le=INT64_MAX)] = 0


class FaultChanged(_Event):
    """A fault appeared or went away."""

    type: Annotated[Literal[EventType.FAULT_CHANGED], Key(3)] = EventType.FAULT_CHANGED
    fault: Annotated[Fault, Key(10)]
    present: Annotated[bool, Key(11)]
    detail: Annotated[Note | None, Key(13)] = None


class PlanExpired(_Event):
    """The plan has run out and no newer one came: from here on only the fallback of the configuration sounds."""

    type: Annotated[Literal[EventType.PLAN_EXPIRED], Key(3)] = EventType.PLAN_EXPIRED
    serial: Annotated[Serial, Key(10)]
    valid_until_ms: Annotated[Instant, Key(11)]


class AlertHandled(_Event):
    """What became of a version of an alert on this device. How it sounded, plays tell."""

    type: Annotated[Literal[EventType.ALERT_HANDLED], Key(3)] = EventType.ALERT_HANDLED
    alert_id: Annotated[uuid.UUID, Key(10)]
    alert_version: Annotated[int, Key(11), Field(ge=1, le=65_535)]
    purpose: Annotated[Purpose, Key(12)]
    result: Annotated[AlertResult, Key(15)]
    detail: Annotated[Note | None, Key(13)] = None


Event = (
    PlayStarted
    | PlayEnded
    | PlayMissed
    | PlanAccepted
    | Refused
    | MediaStored
    | MediaFailed
    | CommandDone
    | Booted
    | PowerChanged
    | ClockChanged
    | FaultChanged
    | PlanExpired
    | AlertHandled
)

EVENTS: dict[int, type[Event]] = {
    EventType.PLAY_STARTED: PlayStarted,
    EventType.PLAY_ENDED: PlayEnded,
    EventType.PLAY_MISSED: PlayMissed,
    EventType.PLAN_ACCEPTED: PlanAccepted,
    EventType.REFUSED: Refused,
    EventType.MEDIA_STORED: MediaStored,
    EventType.MEDIA_FAILED: MediaFailed,
    EventType.COMMAND_DONE: CommandDone,
    EventType.BOOTED: Booted,
    EventType.POWER_CHANGED: PowerChanged,
    EventType.CLOCK_CHANGED: ClockChanged,
    EventType.FAULT_CHANGED: FaultChanged,
    EventType.PLAN_EXPIRED: PlanExpired,
    EventType.ALERT_HANDLED: AlertHandled,
}
