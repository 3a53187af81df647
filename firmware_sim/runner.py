"""A whole fleet from a manifest and a scenario: boots it, lets things go wrong, and takes it down in order."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import math
import random
import resource
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from firmware_sim import clock as clocks
from firmware_sim import faults, manifest, scenario
from firmware_sim.aftermath import Aftermath
from firmware_sim.clock import DriftingClock
from firmware_sim.connector import Endpoint
from firmware_sim.downloader import Downloader
from firmware_sim.enroller import Office
from firmware_sim.errors import InvalidInput
from firmware_sim.manifest import Station
from firmware_sim.player import Player
from firmware_sim.relay_stream import Streams
from firmware_sim.scenario import Scenario
from firmware_sim.settings import Settings
from firmware_sim.state import Rhythm
from firmware_sim.status import serve_status
from firmware_sim.steward import Steward
from firmware_sim.trace import Trace
from firmware_sim.workshop import Workshop
from schemas.fields import PowerSource

log = logging.getLogger(__name__)

SCENARIOS = Path(__file__).parent / "scenarios"
GOODBYE_S = 8.0  # how long the fleet may take leave before connections are cut


def true_us() -> int:
    """The machine's clock, which stands for true time."""
    return time.time_ns() // 1_000  # noqa: TID251 - the one place in the simulator that reads the wall clock


def true_ms() -> int:
    """True time, from which every device derives its own wrong one."""
    return true_us() // 1_000


def load_scenario(name: str) -> Scenario:
    """The scenario called `name`, or in the file `name`; raises `InvalidInput`."""
    path = Path(name) if name.endswith(".toml") else SCENARIOS / f"{name}.toml"
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        known = ", ".join(sorted(each.stem for each in SCENARIOS.glob("*.toml")))
        raise InvalidInput((f"SIM_SCENARIO: {error.strerror}: {path}; named scenarios are {known}",)) from None
    try:
        return scenario.parse(text)
    except InvalidInput as error:
        raise InvalidInput(tuple(f"SIM_SCENARIO: {path.name}: {each}" for each in error.problems)) from None


def load_stations(path: Path) -> tuple[Station, ...]:
    """The stations of a manifest file; raises `InvalidInput` naming everything that is wrong, missing files too."""
    try:
        stations = manifest.parse(path.read_text("utf-8"), folder=path.parent)
    except OSError as error:
        raise InvalidInput((f"SIM_MANIFEST: {error.strerror}: {path}",)) from None
    except InvalidInput as error:
        raise InvalidInput(tuple(f"SIM_MANIFEST: {each}" for each in error.problems)) from None
    missing = tuple(
        f"SIM_MANIFEST: {station.profile.id}: there is no file {file}"
        for station in stations
        for file in (station.certificate, station.key)
        if file is not None and not file.is_file()
    )
    if missing:
        raise InvalidInput(missing)
    return stations


def demand_office(settings: Settings, stations: tuple[Station, ...]) -> None:
    """Raise `InvalidInput` where a device is to enrol and nobody said where."""
    waiting = [station.profile.id for station in stations if station.claim_code is not None]
    if waiting and settings.enrolment.url is None:
        raise InvalidInput((f"SIM_ENROLMENT__URL: must be set, because {waiting[0]} has a claim code",))


def flooded(stations: tuple[Station, ...], chosen: Scenario, *, started_at_ms: int) -> tuple[Station, ...]:
    """The stations, at rivers that rise where the scenario wants it."""
    if chosen.flood is None:
        return stations
    flood = chosen.flood.flood(started_at_ms=started_at_ms)
    return tuple(
        replace(
            station,
            profile=replace(station.profile, flood=flood),
            children=tuple(replace(child, flood=flood) for child in station.children),
        )
        for station in stations
    )


@contextmanager
def alone_with(data: Path) -> Iterator[None]:
    """Hold the data folder while the context is open; raises `InvalidInput` when another simulator holds it.

    Two processes on one flash would give the same event numbers twice.
    """
    data.mkdir(parents=True, exist_ok=True)
    with (data / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InvalidInput((f"SIM_DATA: another simulator is using {data}",)) from None
        yield


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Run the fleet until `stop` is set; raises when a device has a bug."""
    chosen = load_scenario(settings.scenario)
    stations = flooded(load_stations(settings.manifest), chosen, started_at_ms=true_ms())
    demand_office(settings, stations)
    _allow_files(len(stations) * 2 + 256)
    loop = asyncio.get_running_loop()
    failure: asyncio.Future[None] = loop.create_future()

    def failed(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Left to itself, the loop would log a bug in a callback and go on. A broken connection is none."""
        error = context.get("exception")
        if isinstance(error, OSError) and "transport" in context:
            log.debug("transport_failed", extra={"error": str(error)})
        elif not failure.done():
            failure.set_exception(error or RuntimeError(context["message"]))

    loop.set_exception_handler(failed)
    player, streams = Player(), Streams()
    trace = None if settings.trace is None else Trace(settings.trace, true_us=true_us)
    try:
        async with asyncio.TaskGroup() as tasks:
            workshop = Workshop(
                loop=loop,
                tasks=tasks,
                player=player,
                streams=streams,
                downloader=Downloader(at_once=settings.fetches, pool=settings.data / ".media"),
                true_ms=true_ms,
                uplink_faults=chosen.uplink.faults(),
                downlink_faults=chosen.downlink.faults(),
                spoilt_downloads=chosen.downloads.spoilt,
                trace=trace,
                office=_office(settings, chosen),
                aftermath=Aftermath(owns_process=True),
            )
            fleet = Fleet(settings, stations, chosen, workshop)
            async with serve_status(settings.status.host, settings.status.port, report=fleet.report) as (host, port):
                url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
                log.info("status_listening", extra={"url": url})
                sessions = fleet.start()
                stopping = tasks.create_task(stop.wait())
                await asyncio.wait((stopping, failure), return_when=asyncio.FIRST_COMPLETED)
                if failure.done():
                    failure.result()
                fleet.stop()
                await asyncio.wait(sessions, timeout=GOODBYE_S)
            raise _Over
    except* _Over:
        log.info("fleet_stopped")
    finally:
        streams.close()
        player.close()
        if trace is not None:
            trace.close()


class _Over(Exception):
    """Ends the task group: downloads, bad luck and whoever did not leave in time are cancelled."""


class Fleet:
    """Every station of a process, and the bad luck a scenario has in store for them."""

    def __init__(self, settings: Settings, stations: tuple[Station, ...], chosen: Scenario, workshop: Workshop) -> None:
        self._settings = settings
        self._scenario = chosen
        self._workshop = workshop
        self._began = workshop.loop.time()
        self._random = random.Random(settings.seed)  # noqa: S311 - bad luck, not secrets
        gate = asyncio.Semaphore(settings.broker.handshakes)
        endpoint = _endpoint(settings)
        rhythm = _rhythm(settings)
        self._stewards = tuple(
            Steward(
                station,
                data=settings.data,
                fsync=settings.fsync,
                rhythm=rhythm,
                clock=self._clock(),
                endpoint=endpoint,
                gate=gate,
                workshop=workshop,
                random_source=random.Random(f"{settings.seed}/{station.profile.id}"),  # noqa: S311 - as above
            )
            for station in stations
        )

    def start(self) -> list[asyncio.Task[None]]:
        """Boot everybody, spread over the ramp; returns the tasks of the sessions."""
        ramp_s = self._settings.ramp.total_seconds()
        count = len(self._stewards)
        sessions = [
            self._workshop.tasks.create_task(steward.run(after_s=ramp_s * index / count))
            for index, steward in enumerate(self._stewards)
        ]
        self._let_things_go_wrong()
        devices = sum(len(steward.performers) for steward in self._stewards)
        log.info("fleet_started", extra={"sessions": count, "devices": devices, "scenario": self._settings.scenario})
        return sessions

    def stop(self) -> None:
        """Take everybody down in order."""
        for steward in self._stewards:
            steward.stop()

    def report(self) -> dict[str, object]:
        """How the fleet is doing."""
        performers = [performer for steward in self._stewards for performer in steward.performers]
        return {
            "scenario": self._settings.scenario,
            "uptime_s": round(self._workshop.loop.time() - self._began, 1),
            "sessions": len(self._stewards),
            "connected": sum(1 for steward in self._stewards if steward.is_up),
            "devices": len(performers),
            "sounding": self._workshop.player.sounding,
            "journal_pending": sum(performer.journal_pending for performer in performers),
            "files_decoded": self._workshop.player.files_decoded,
            "samples_decoded": self._workshop.player.samples_decoded,
            "media_bytes": self._workshop.downloader.bytes_received,
            **dict(sorted(self._workshop.tally.items())),
        }

    # --- bad luck ----------------------------------------------------------------------------------------------------

    def _clock(self) -> DriftingClock:
        bad = self._scenario.clocks
        ppm = self._random.uniform(-bad.ppm, bad.ppm)
        now_ms = self._workshop.true_ms()
        if self._random.random() < bad.unsynchronised_share:
            return clocks.lost(now_ms, ppm=ppm)
        return DriftingClock(set_at_ms=now_ms, shown_ms=now_ms - bad.behind_ms, ppm=ppm)

    def _let_things_go_wrong(self) -> None:
        create = self._workshop.tasks.create_task
        create(self._synchronise_clocks())
        if self._scenario.storm is not None:
            create(self._storms(self._scenario.storm))
        if (outages := self._scenario.outages) is not None:
            for steward in self._stewards:
                create(self._outages(steward, outages))
        if (mains := self._scenario.mains) is not None:
            for steward in self._stewards:
                create(self._mains(steward, mains))
        if (cuts := self._scenario.cuts) is not None:
            for steward in self._stewards:
                create(self._cuts(steward, cuts))
        if (jumps := self._scenario.clocks.jumps) is not None:
            for steward in self._stewards:
                create(self._jumps(steward, jumps))

    async def _synchronise_clocks(self) -> None:
        """Set every clock that can be set once per interval, one after the other."""
        pause_s = self._scenario.clocks.synchronised_every_s / len(self._stewards)
        while True:
            for steward in self._stewards:
                await asyncio.sleep(pause_s)
                if steward.hears_time:
                    error_ms = faults.within_ms(self._scenario.clocks.error_ms, self._random.random())
                    steward.synchronise(error_ms=error_ms)

    async def _storms(self, storm: scenario.Storm) -> None:
        await asyncio.sleep(storm.first_after_s)
        while True:
            hit = [steward for steward in self._stewards if self._random.random() < storm.share]
            log.info("storm", extra={"sessions": len(hit)})
            for steward in hit:
                steward.sever(away_s=storm.length_s)
            await asyncio.sleep(storm.every_s)

    async def _outages(self, steward: Steward, spells: scenario.Spells) -> None:
        episodes, draw = spells.episodes(), self._random.random
        while True:
            await asyncio.sleep(episodes.next_gap_ms(draw()) / 1_000)
            length_s = episodes.next_length_ms(draw()) / 1_000
            steward.sever(away_s=length_s)
            await asyncio.sleep(length_s)

    async def _cuts(self, steward: Steward, cuts: scenario.Cuts) -> None:
        episodes, draw = cuts.episodes(), self._random.random
        while True:
            await asyncio.sleep(episodes.next_gap_ms(draw()) / 1_000)
            length_s = episodes.next_length_ms(draw()) / 1_000
            steward.cut_power(away_s=length_s, is_clock_dead=draw() < cuts.dead_clocks)
            await asyncio.sleep(length_s)

    async def _jumps(self, steward: Steward, jumps: scenario.Jumps) -> None:
        # Only the gaps between jumps are used: a jump has no length, it lasts until the clock is set.
        gaps, draw = faults.Episodes(mean_gap_s=jumps.mean_gap_s, mean_length_s=1.0), self._random.random
        while True:
            await asyncio.sleep(gaps.next_gap_ms(draw()) / 1_000)
            steward.jump(by_ms=faults.within_ms(jumps.max_ms, draw()))

    async def _mains(self, steward: Steward, spells: scenario.Spells) -> None:
        episodes, draw = spells.episodes(), self._random.random
        while True:
            await asyncio.sleep(episodes.next_gap_ms(draw()) / 1_000)
            steward.switch_power(PowerSource.BATTERY)
            await asyncio.sleep(episodes.next_length_ms(draw()) / 1_000)
            steward.switch_power(PowerSource.MAINS)


def _endpoint(settings: Settings) -> Endpoint:
    broker = settings.broker
    return Endpoint(
        host=broker.host,
        port=broker.port,
        ca_file=broker.ca_file,
        keepalive_s=max(1, math.ceil(broker.keepalive.total_seconds())),
        connect_timeout_s=broker.connect_timeout.total_seconds(),
        backoff_base_ms=math.ceil(broker.backoff_base.total_seconds() * 1_000),
        backoff_cap_ms=math.ceil(broker.backoff_cap.total_seconds() * 1_000),
    )


def _office(settings: Settings, chosen: Scenario) -> Office | None:
    enrolment = settings.enrolment
    if enrolment.url is None:
        return None
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.minimum_version = ssl.TLSVersion.TLSv1_2
    tls.load_verify_locations(enrolment.ca_file)
    return Office(
        url=enrolment.url,
        client=Downloader(at_once=settings.fetches, tls=tls),
        look_every_s=enrolment.look_every.total_seconds(),
        backoff_base_ms=math.ceil(settings.broker.backoff_base.total_seconds() * 1_000),
        backoff_cap_ms=math.ceil(settings.broker.backoff_cap.total_seconds() * 1_000),
        lost_answers=chosen.enrolment.lost_answers,
    )


def _rhythm(settings: Settings) -> Rhythm:
    override = settings.heartbeat_interval
    return Rhythm(
        heartbeat_s=None if override is None else max(1, round(override.total_seconds())),
        reading_s=max(1, round(settings.reading_interval.total_seconds())),
    )


def _allow_files(wanted: int) -> None:
    """Raise the soft limit of open files as far as the machine lets us: a socket per session, and some more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    ceiling = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < ceiling:
        resource.setrlimit(resource.RLIMIT_NOFILE, (ceiling, hard))
