"""One station: an MQTT session, the clock behind it, its device, and for a gateway the devices it speaks for (R-28)."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable
from pathlib import Path

from firmware_sim import inputs
from firmware_sim.clock import DriftingClock
from firmware_sim.connector import Connector, Endpoint, Identity
from firmware_sim.flash import Flash
from firmware_sim.manifest import Station
from firmware_sim.performer import Performer
from firmware_sim.session import Taken
from firmware_sim.state import Rhythm
from firmware_sim.workshop import Workshop
from schemas import codec, topics
from schemas.errors import InvalidTopic
from schemas.events import BootReason
from schemas.fields import ClockState, PowerSource
from schemas.presence import PresenceReport
from schemas.topics import Downlink, DownlinkKind, Presence

RESTART_S = 2.0  # from going down to being up again


class Steward:
    """Keeps one station going. It is the surroundings of its devices and the speaker of its connector."""

    def __init__(
        self,
        station: Station,
        *,
        data: Path,
        fsync: bool,
        rhythm: Rhythm,
        clock: DriftingClock,
        endpoint: Endpoint,
        gate: asyncio.Semaphore,
        workshop: Workshop,
        random_source: random.Random,
    ) -> None:
        self.station = station
        self._clock = clock
        self.hears_time = clock.state is ClockState.SYNCHRONISED  # who begins without time never gets any
        self._workshop = workshop
        self._random = random_source
        self._presence_topic = topics.format_topic(Presence(station.profile.id))
        draws: Callable[[], float] = random_source.random
        self._performers = {
            profile.id: Performer(
                profile,
                rhythm,
                Flash(data / profile.id, fsync=fsync),
                self,
                workshop,
                (draws() for _ in itertools.count()),
            )
            for profile in (station.profile, *station.children)
        }
        self._own = self._performers[station.profile.id]
        self._children = tuple(self._performers[profile.id] for profile in station.children)
        self._connector = Connector(
            endpoint,
            Identity(client_id=station.profile.id, certificate=station.certificate, key=station.key),
            topics.downlink_filters(station.profile.id),
            self,
            gate=gate,
            draw=draws,
        )

    @property
    def performers(self) -> tuple[Performer, ...]:
        """The station's own device and those behind it."""
        return (self._own, *self._children)

    async def run(self, *, after_s: float) -> None:
        """Boot everything, then keep the session up until `stop`."""
        for performer in self.performers:
            performer.boot(BootReason.POWER_ON)
        await self._connector.run(after_s=after_s)

    def stop(self) -> None:
        """Go down in order and take leave of the broker."""
        for performer in self.performers:
            performer.power_off()
        self._connector.stop()

    # --- surroundings of the devices ---------------------------------------------------------------------------------

    @property
    def is_up(self) -> bool:
        """Whether there is an uplink."""
        return self._connector.is_up

    @property
    def speed(self) -> float:
        """How fast the clock runs."""
        return self._clock.speed

    @property
    def devices_heard(self) -> int:
        """How many devices behind this station are alive."""
        return sum(1 for child in self._children if not child.is_off)

    def read_clock(self) -> tuple[int, ClockState]:
        """What the station's clock shows, and what it thinks of itself."""
        return self._clock.read(self._workshop.true_ms()), self._clock.state

    def publish(self, topic: str, payload: bytes) -> Taken:
        """Send a message upwards."""
        return self._connector.publish(topic, payload)

    def sever(self, *, away_s: float = 0.0) -> None:
        """Break the link, for a while."""
        self._connector.sever(away_s=away_s)

    def restart(self, performer: Performer) -> None:
        """Take a device down and bring it up again; the station's own device takes the whole station with it."""
        going = self.performers if performer is self._own else (performer,)
        for each in going:
            each.power_off()
        if performer is self._own:
            self.sever(away_s=RESTART_S)
        self._workshop.loop.call_later(RESTART_S, self._boot_again, going)

    def _boot_again(self, going: tuple[Performer, ...]) -> None:
        for performer in going:
            performer.boot(BootReason.COMMAND)
            if self.is_up:
                performer.connected()

    # --- what a scenario does ----------------------------------------------------------------------------------------

    def synchronise(self) -> None:
        """Set the clock from the network."""
        true_ms = self._workshop.true_ms()
        step_ms = true_ms - self._clock.read(true_ms)
        previous = self._clock.state
        self._clock = self._clock.synchronised(true_ms)
        for performer in self.performers:
            performer.feed(inputs.ClockSet(previous=previous, step_ms=step_ms))

    def switch_power(self, source: PowerSource) -> None:
        """Mains are lost or come back."""
        battery = self._random.randrange(40, 100) if source is PowerSource.BATTERY else None
        for performer in self.performers:
            performer.feed(inputs.PowerSwitched(source=source, battery_percent=battery))

    # --- speaker of the connector ------------------------------------------------------------------------------------

    def announcement(self, *, is_online: bool) -> tuple[str, bytes]:
        """The presence report of the present connection number."""
        now = self._own.now()
        report = PresenceReport(
            connection_number=self._own.state.connection_number,
            online=is_online,
            device_at_ms=now.at_ms,
            clock=now.clock,
        )
        return self._presence_topic, codec.encode(report)

    def connecting(self) -> None:
        """A connection is about to be tried: it needs a number of its own."""
        self._own.feed(inputs.Connecting())

    def connected(self) -> None:
        """The session is up."""
        self._workshop.tally["connections"] += 1
        for performer in self.performers:
            performer.connected()

    def disconnected(self) -> None:
        """The session is down."""
        self._workshop.tally["disconnections"] += 1
        for performer in self.performers:
            performer.feed(inputs.Disconnected())

    def received(self, topic: str, payload: bytes) -> None:
        """Hand a downlink to the device it names. Keys for the gateway hold for everybody it speaks for."""
        self._workshop.tally["downlinks"] += 1
        try:
            parsed = topics.parse_topic(topic)
        except InvalidTopic:
            self._workshop.tally["downlinks_astray"] += 1
            return
        performer = self._performers.get(parsed.device) if isinstance(parsed, Downlink) else None
        if performer is None or not isinstance(parsed, Downlink):
            self._workshop.tally["downlinks_astray"] += 1
            return
        performer.receive(parsed.kind, payload)
        if performer is self._own and parsed.kind is DownlinkKind.KEYS:
            for child in self._children:
                child.receive(parsed.kind, payload)
