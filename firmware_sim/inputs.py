"""What can happen to a device: the inputs of `device.step`. (An *event* is what a device tells the platform.)"""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from firmware_sim.programme import Figures
from firmware_sim.trust import Refusal
from schemas.events import MessageKind
from schemas.fields import ClockState, PowerSource
from schemas.topics import DownlinkKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Connecting:
    """A connection to the broker is about to be tried; it needs a number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Connected:
    """The session is up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disconnected:
    """The session is down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A downlink for this device. Receipts go to the journal and never come here, unless they are unreadable."""

    kind: DownlinkKind
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertReceived:
    """A message came on the topic of an area."""

    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """Time has passed. What only the shell knows for a heartbeat comes along."""

    journal_pending: int = 0
    devices_heard: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaFetched:
    """A file came in and its hash is right."""

    sha256: bytes
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaRejected:
    """A file came in whole and its hash is wrong; it was deleted."""

    sha256: bytes
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaFailed:
    """A file did not come in."""

    sha256: bytes
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaUnreadable:
    """The decoder, which looks at files as they come in, can make nothing of this one, though its hash is right."""

    sha256: bytes
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaybackStarted:
    """The first sample of a part left the decoder at `at_ms` (device time), or the screen has shown it since then."""

    token: int
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaybackFinished:
    """A part ended because its content did."""

    token: int
    figures: Figures


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaybackStopped:
    """The player's answer to being stopped."""

    token: int
    figures: Figures


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaybackBroke:
    """The decoder or the output failed; `figures` is what came out before."""

    token: int
    figures: Figures
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSounds:
    """A relay source that is listened to has verified sound to put out now."""

    source_id: uuid.UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSilent:
    """A relay source that is listened to has nothing to put out: it says so, gave nothing new, or cannot be reached."""

    source_id: uuid.UUID
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRefused:
    """What came in the name of a relay source, a list (`SEGMENTS`) or a segment (`MEDIA`), is not to be believed."""

    source_id: uuid.UUID
    kind: MessageKind
    refusal: Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerSwitched:
    """Mains were lost or came back (R-27)."""

    source: PowerSource
    battery_percent: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockSet:
    """The clock was moved by `step_ms` or thinks otherwise of itself than before."""

    previous: ClockState
    step_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EventsLost:
    """Events could not be journalled: the flash is full, or one was too large to be taken."""

    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PoweringOff:
    """The device goes down in order (a reboot by command, a stop of the simulator)."""


Input = (
    Connecting
    | Connected
    | Disconnected
    | Received
    | AlertReceived
    | Tick
    | MediaFetched
    | MediaRejected
    | MediaFailed
    | MediaUnreadable
    | PlaybackStarted
    | PlaybackFinished
    | PlaybackStopped
    | PlaybackBroke
    | SourceSounds
    | SourceSilent
    | SourceRefused
    | PowerSwitched
    | ClockSet
    | EventsLost
    | PoweringOff
)
