"""One station: an MQTT session, the clock behind it, its device, and for a gateway the devices it speaks for (R-28)."""

from __future__ import annotations

import asyncio
import functools
import itertools
import random
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path

from firmware_sim import clock as clocks
from firmware_sim import enrolment, faults, inputs
from firmware_sim.clock import DriftingClock
from firmware_sim.connector import Connector, Endpoint, Identity
from firmware_sim.enroller import Enroller
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
from schemas.identifiers import DeviceId
from schemas.presence import PresenceReport
from schemas.topics import AreaAlert, Downlink, DownlinkKind, Presence

_parsed = functools.lru_cache(maxsize=1_024)(topics.parse_topic)  # alerts reach a whole fleet on the same few

RESTART_S = 2.0  # from going down to being up again
MODEM_S = 0.2  # from power to the first attempt to connect


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
        self._is_leaving = False
        self._is_dark = False
        self._presence_topic = topics.format_topic(Presence(station.profile.id))
        draws: Callable[[], float] = random_source.random
        self._draws = (draws() for _ in itertools.count())
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
        self._units: dict[DeviceId, frozenset[uuid.UUID]] = {}
        self._has_started = False
        self._keys = b""  # that came with the certificate
        self._certified: asyncio.Future[None] = workshop.loop.create_future()
        self._enroller = self._enrolling(data / station.profile.id, draws)
        self._own = self._performers[station.profile.id]
        self._children = tuple(self._performers[profile.id] for profile in station.children)
        self._connector = Connector(
            endpoint,
            self._identity(),
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
        """Boot everything, then keep the session up until `stop`. Without a certificate it is fetched first."""
        if self._enroller is not None:
            await self._connector.pause(after_s)
            self._workshop.tasks.create_task(self._enroller.run(self._adopted))
            await self._connector.wait(self._certified)
            if self._is_leaving:
                return
        self._has_started = True
        for performer in self.performers:
            performer.boot(BootReason.POWER_ON)
        self._hear_of_keys([each for each in self.performers if each.state.trust.keys is None])
        self._listen(())
        await self._connector.run(after_s=after_s if self._enroller is None else 0.0)

    def stop(self) -> None:
        """Go down in order and take leave of the broker."""
        self._is_leaving = True
        for performer in self.performers:
            performer.power_off()
        self._connector.stop()

    # --- certificates ------------------------------------------------------------------------------------------------

    def _enrolling(self, folder: Path, draw: Callable[[], float]) -> Enroller | None:
        if self.station.claim_code is None:
            return None
        assert self._workshop.office is not None  # `runner.demand_office`
        enroller = Enroller(
            self.station.profile.id,
            folder,
            self.station.claim_code,
            self._workshop.office,
            read_clock=self.read_clock,
            draw=draw,
            tell=lambda what: self._workshop.tally.update({what: 1}),
        )
        if enroller.identity is not None:
            self._believe(enroller.identity.root_public_key, is_other=False)
            self._keys = enroller.identity.keys
            self._performers[self.station.profile.id].certify(enroller.identity.private_key)
            self._certified.set_result(None)
        return enroller

    def _identity(self) -> Identity:
        """The files the session is opened with; those of a device that enrols are there by the time it is."""
        own = None if self._enroller is None else self._enroller.for_tls
        certificate, key = own or self.station.certificate, own or self.station.key
        assert certificate is not None  # the manifest's own validator demands one or the other
        assert key is not None
        return Identity(client_id=self.station.profile.id, certificate=certificate, key=key)

    def _adopted(self, before: enrolment.Identity | None, identity: enrolment.Identity) -> None:
        """Connect with the new certificate. Under another root key nothing that was ordered before holds."""
        is_other = before is not None and before.root_public_key != identity.root_public_key
        if is_other and self._has_started:
            for performer in self.performers:
                performer.power_off()
        if before is None or is_other:
            self._believe(identity.root_public_key, is_other=is_other)
        self._own.certify(identity.private_key)
        self._keys = identity.keys
        if is_other and self._has_started:
            self._boot(self.performers, BootReason.COMMAND)
        if self._has_started:
            self._hear_of_keys(self.performers)
        if not self._certified.done():
            self._certified.set_result(None)
        self.sever()

    def _hear_of_keys(self, performers: Iterable[Performer]) -> None:
        """Judge the key set that came with the certificate before any that a broker offers, which may be an earlier one."""
        for performer in performers if self._keys else ():
            performer.receive(DownlinkKind.KEYS, self._keys)

    def _believe(self, root: bytes, *, is_other: bool) -> None:
        for performer in self.performers:
            performer.provision(root, is_other=is_other)

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
        if not self._is_dark:
            self._boot(going, BootReason.COMMAND)

    def _boot(self, going: tuple[Performer, ...], reason: BootReason) -> None:
        """Bring up whoever is down; nobody any more when the station takes its leave."""
        for performer in going:
            if performer.is_off and not self._is_leaving:
                performer.boot(reason)
                if self.is_up:
                    performer.connected()
        self._listen(going)

    # --- what a scenario does ----------------------------------------------------------------------------------------

    def synchronise(self, *, error_ms: int = 0) -> None:
        """Set the clock from the network, off by `error_ms`."""
        true_ms = self._workshop.true_ms()
        self._set_clock(self._clock.synchronised(true_ms, error_ms=error_ms), true_ms)

    def jump(self, *, by_ms: int) -> None:
        """Something moves the clock, which believes in itself as before."""
        true_ms = self._workshop.true_ms()
        self._set_clock(self._clock.stepped(true_ms, by_ms=by_ms), true_ms)

    def _set_clock(self, clock: DriftingClock, true_ms: int) -> None:
        step_ms, previous = clock.read(true_ms) - self._clock.read(true_ms), self._clock.state
        self._clock = clock
        for performer in self.performers:
            performer.feed(inputs.ClockSet(previous=previous, step_ms=step_ms))

    def cut_power(self, *, away_s: float, is_clock_dead: bool) -> None:
        """The station goes dark at once, with everything behind it, and comes up again later.

        With a dead clock it then begins in 1970, until the network tells it the time.
        """
        self._workshop.tally["power_cuts"] += 1
        for performer in self.performers:
            performer.lose_power()
        self._is_dark = True
        self.sever(away_s=away_s + MODEM_S)
        self._workshop.loop.call_later(away_s, self._power_returns, is_clock_dead)

    def _power_returns(self, is_clock_dead: bool) -> None:
        self._is_dark = False
        if is_clock_dead:
            self._clock = clocks.lost(self._workshop.true_ms(), ppm=self._clock.ppm)
        self._boot(self.performers, BootReason.POWER_ON)

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
        if self._workshop.trace is not None:
            self._workshop.trace.link(self.station.profile.id, "up")
        for performer in self.performers:
            performer.connected()

    def disconnected(self) -> None:
        """The session is down."""
        self._workshop.tally["disconnections"] += 1
        if self._workshop.trace is not None:
            self._workshop.trace.link(self.station.profile.id, "down")
        for performer in self.performers:
            performer.feed(inputs.Disconnected())

    def received(self, topic: str, payload: bytes) -> bool:
        """Hand a downlink to the device it names. Keys for the gateway hold for everybody it speaks for.

        The broker may wait for the answer to an alert: it has thousands of others to tell first.
        """
        self._workshop.tally["downlinks"] += 1
        try:
            parsed = _parsed(topic)
        except InvalidTopic:
            self._workshop.tally["downlinks_astray"] += 1
            return False
        if isinstance(parsed, AreaAlert):
            if self._workshop.trace is not None and payload:
                self._workshop.trace.came(self.station.profile.id, parsed.alert)
            self._let_through(functools.partial(self._hand_around, parsed, payload))
            return True
        performer = self._performers.get(parsed.device) if isinstance(parsed, Downlink) else None
        if performer is None or not isinstance(parsed, Downlink):
            self._workshop.tally["downlinks_astray"] += 1
            return False
        self._let_through(functools.partial(self._hand_down, performer, parsed.kind, payload))
        return False

    def _let_through(self, hand: Callable[[], None]) -> None:
        """Hand over a downlink, through whatever the scenario does to it."""
        if self._workshop.downlink_faults.is_harmless:
            hand()
            return
        for fate in faults.disturb((hand,), self._workshop.downlink_faults, self._draws):
            match fate:
                case faults.Later(delay_ms=0):
                    hand()
                case faults.Later(delay_ms=delay_ms):
                    self._workshop.loop.call_later(delay_ms / 1_000, hand)
                case faults.BreakLink():
                    self._workshop.tally["links_broken"] += 1
                    self._workshop.loop.call_soon(self.sever)

    def _hand_around(self, topic: AreaAlert, payload: bytes) -> None:
        """To every device here that lies in the area."""
        for performer in self.performers:
            if topic.unit in performer.units:
                self._workshop.tally["alerts"] += 1
                performer.receive_alert(payload)

    def _listen(self, again: Iterable[Performer]) -> None:
        """Subscribe to the alerts of every unit a device here lies in.

        A device that has come to lie in a unit, or was down until now, needs what is retained there, even when another
        device of the station hears that unit already.
        """
        units = {performer.profile.id: frozenset(performer.units) for performer in self.performers}
        returned = {performer.profile.id for performer in again}
        anew = {
            unit
            for device, those in units.items()
            for unit in (those if device in returned else those - self._units.get(device, frozenset()))
        }
        if units == self._units and not anew:
            return
        self._units = units
        self._connector.listen(
            frozenset(topics.area_filter(unit) for those in units.values() for unit in those),
            anew=frozenset(topics.area_filter(unit) for unit in anew),
        )

    def _hand_down(self, performer: Performer, kind: DownlinkKind, payload: bytes) -> None:
        performer.receive(kind, payload)
        if performer is self._own and kind is DownlinkKind.KEYS:
            for child in self._children:
                child.receive(kind, payload)
        if kind in (DownlinkKind.CONFIG, DownlinkKind.KEYS):
            self._listen(())
