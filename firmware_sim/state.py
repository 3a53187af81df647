"""Everything a device knows, as one frozen value; and what of it goes to flash."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

from firmware_sim import effects, media, memory, trust
from firmware_sim.clock import Moment
from firmware_sim.profile import Profile
from firmware_sim.programme import Programme, Scene
from firmware_sim.standing import Alerts
from firmware_sim.trust import Held, Refusals, Trust
from schemas.configuration import Configuration
from schemas.fields import PowerSource
from schemas.identifiers import CommandId
from schemas.orders import MediaReference
from schemas.plans import Plan
from schemas.topics import DownlinkKind

# Before the first configuration: loud enough to be heard in a test, quiet enough for nobody to be hurt.
FACTORY_VOLUME = 50
FACTORY_HEARTBEAT_S = 60

NOTED_ALIVE_EVERY_MS = 30_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Rhythm:
    """How often a device speaks. `heartbeat_s` overrides what the configuration says (for demos and load)."""

    heartbeat_s: int | None = None
    reading_s: int = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Awaiting:
    """An order signed by a key the device does not know, kept a moment because that key may be on its way.

    Retained messages come in no particular order: a plan may overtake the `keys` message that makes it readable.
    """

    payload: bytes
    until_ms: int  # uptime


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceState:
    """Everything a device knows. What survives a power cut is in `memory.Notes`, in the alerts and in the three order files."""

    profile: Profile
    rhythm: Rhythm
    trust: Trust
    plan: Held[Plan] | None = None
    config: Held[Configuration] | None = None
    programme: Programme = field(default_factory=Programme)
    alerts: Alerts = field(default_factory=Alerts)
    shelf: media.Shelf = field(default_factory=media.Shelf)
    refusals: Refusals = field(default_factory=Refusals)
    awaiting: Mapping[DownlinkKind, Awaiting] = field(default_factory=dict)
    awaiting_alerts: tuple[Awaiting, ...] = ()
    ordered_media: tuple[MediaReference, ...] = ()  # of commands that wait or sound
    executed: tuple[CommandId, ...] = ()  # newest last
    unfinished: tuple[CommandId, ...] = ()  # not answered yet
    tuned: Mapping[uuid.UUID, effects.Tune] = field(default_factory=dict)  # relay sources listened to
    heard: frozenset[uuid.UUID] = frozenset()  # those of them that have sound now
    expired_serial: int | None = None  # of the plan whose end was told
    is_silenced: bool = False  # by command
    volume_override: int | None = None  # by command, until the next configuration
    connection_number: int = 0
    is_connected: bool = False
    is_going_down: bool = False
    trusted_since_ms: int | None = None
    power: PowerSource = PowerSource.MAINS
    battery_percent: int | None = None
    last_error: str | None = None
    events_lost: int = 0
    heartbeat_due_ms: int = 0  # uptime
    reading_due_ms: int = 0  # uptime
    alive_noted_ms: int = -NOTED_ALIVE_EVERY_MS  # uptime

    @property
    def heartbeat_interval_ms(self) -> int:
        """Milliseconds between heartbeats."""
        configured = FACTORY_HEARTBEAT_S if self.config is None else self.config.order.heartbeat_interval_s
        return 1_000 * (self.rhythm.heartbeat_s or configured)

    @property
    def is_quiet(self) -> bool:
        """Whether the device keeps silent, by command or by the silence of an area."""
        return self.is_silenced or self.alerts.is_quiet

    @property
    def volume_percent(self) -> int:
        """The volume of content that names none: by command, by configuration, from the factory; below the cap."""
        configured = FACTORY_VOLUME if self.config is None else self.config.order.volume_percent
        return min(self.volume_cap_percent, configured if self.volume_override is None else self.volume_override)

    @property
    def volume_cap_percent(self) -> int:
        """The volume nothing may exceed."""
        return 100 if self.config is None else self.config.order.volume_cap_percent

    def scene(self, now: Moment) -> Scene:
        """What decides, besides the programme, what may sound at `now`."""
        return Scene(
            kind=self.profile.kind,
            is_clock_trusted=trust.is_trusted(now, self.trust.floor_ms),
            trusted_since_ms=self.trusted_since_ms,
            is_silenced=self.is_quiet,
            volume_percent=self.volume_percent,
            volume_cap_percent=self.volume_cap_percent,
            stored=self.shelf.stored,
            corrupt=self.shelf.corrupt,
            heard=self.heard,
            fallback=None if self.config is None else self.config.order.fallback,
        )


def notes_of(state: DeviceState) -> memory.Notes:
    """What of the state goes into the notes on flash."""
    programme = state.programme
    sounding = () if programme.sounding is None else (programme.sounding,)
    plays = (*sounding, *programme.suspended, *(closing.play for closing in programme.closing))
    return memory.Notes(
        serials=state.trust.serials,
        floor_ms=state.trust.floor_ms,
        plan_accepted_at_ms=programme.plan_accepted_at_ms,
        connection_number=state.connection_number,
        is_silenced=state.is_silenced,
        volume_override=state.volume_override,
        executed=state.executed,
        unfinished=state.unfinished,
        settled=programme.settled,
        # A play without its first sample is none yet; after a power cut its emission is looked at anew.
        plays=tuple(play for play in plays if play.started_at_ms is not None),
        expired_serial=state.expired_serial,
        fallback_at_ms=programme.fallback_at_ms,
    )


def orders_of(state: DeviceState) -> dict[str, bytes | None]:
    """The signed orders on flash, by file name."""
    return {
        memory.KEYS: None if state.trust.keys is None else state.trust.keys.raw,
        memory.CONFIG: None if state.config is None else state.config.raw,
        memory.PLAN: None if state.plan is None else state.plan.raw,
    }
