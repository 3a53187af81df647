"""What a device wants done: the outputs of `device.step`, carried out by `performer` in the order they stand."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from firmware_sim.memory import Notes
from firmware_sim.standing import Alerts
from schemas.events import Event
from schemas.heartbeats import Heartbeat
from schemas.orders import MediaReference
from schemas.plans import ContentKind, RelayReference
from schemas.readings import Reading


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """Publish a message that is not journalled: newest wins (promise 3)."""

    message: Heartbeat | Reading


@dataclass(frozen=True, slots=True, kw_only=True)
class Publish:
    """One message on its way to the broker, QoS 1: what `Send` and the journal become on the uplink."""

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Write an event into the journal, from where it is published until receipted (promise 2)."""

    event: Event


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetch:
    """Download a media file and check its hash."""

    media: MediaReference
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteMedia:
    """Make room: nobody needs this file any more."""

    sha256: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class StartPlayback:
    """Put out content from `position_ms` on: a media file, text on a board, or what a relay source says right now."""

    token: int
    content: ContentKind
    media: bytes | None
    text: str | None
    position_ms: int
    relay: RelayReference | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StopPlayback:
    """End a part and answer with its figures."""

    token: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tune:
    """Listen to a relay source at `url`: the list of its segments, or a stream taken directly (`source.url`).

    Answered by `SourceSounds` as soon as there is sound to put out, and by `SourceSilent` when there is none any more.
    """

    source: RelayReference
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Untune:
    """Listen to a relay source no longer."""

    source_id: uuid.UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Persist:
    """Replace one file of the device's memory, whole or not at all. None deletes it."""

    name: str
    content: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Remember:
    """Replace the notes, like any other file of the memory (`memory.NOTES`, written by `memory.dump`)."""

    notes: Notes


@dataclass(frozen=True, slots=True, kw_only=True)
class RememberAlerts:
    """Replace the alerts, like any other file of the memory (`memory.ALERTS`, written by `standing.dump`)."""

    alerts: Alerts
    uptime_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteAlive:
    """Write down that the device was up at this time, cheaply; torn writes do not matter."""

    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reboot:
    """Go down and start again."""


Effect = (
    Send
    | Record
    | Fetch
    | DeleteMedia
    | StartPlayback
    | StopPlayback
    | Tune
    | Untune
    | Persist
    | Remember
    | RememberAlerts
    | NoteAlive
    | Reboot
)
