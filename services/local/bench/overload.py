"""`./loa bench overload`: ten times what ingest can take, for minutes, and what becomes of memory, events and promises.

The database is slowed down: a relay in front of it holds back everything it answers, for as long as makes ingest's
sustainable rate a tenth of what broker and generator can do on any machine. Then ten times that rate is offered. A witness
between ingest and the broker notes what ingest acknowledged (`chaos_witness`), and a few devices number events meanwhile.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any

from services.local import installation
from services.local.bench import chaos_store, store, usage
from services.local.bench.chaos_broker import TELLS_EVERY_S, Drops, watching_drops
from services.local.bench.chaos_ledger import Comparison
from services.local.bench.chaos_site import REPLICAS, ChaosSite, Load, broker_of, chaos_site, meanwhile
from services.local.bench.measurement import BenchFailed, Generator
from services.local.bench.overload_load import Meter, Span, offer, offering
from services.local.bench.population import Population
from services.local.bench.reporting import Report, reported, say
from services.local.bench.scoreboard import Slot
from services.local.bench.statistics import percentile, ratio
from services.local.bench.traffic import Profile
from services.local.broker import Options, installed_version

DEADLINE = timedelta(seconds=480)  # nine minutes less what stopping everything may take
SETTLED_BEFORE = timedelta(seconds=440)  # after which the broker's queue is not waited for any more

TIMES = 10
DEVICES = 40_000
EVENTS = Load(heartbeats=0, events=50)
REPEAT_S = 15.0  # of events without a receipt, as a real device does

UNDER_WAY = 30_000  # as in `bench ingest`: more than ingest takes at once
# More than ingest holds at most, twice its Receive Maximum: the more waits, the larger its batches, and the more it sustains.
UNDER_WAY_SLOW = 60_000
FULL_S, WARM_UP_S = 6.0, 3.0
FIRST_DELAY_S = 0.6  # by which everything the database says is held back, to see what that does
LONGEST_DELAY_S = 3.0
FIRST_LOOK_S = 15.0
WANTED_RATE = 2_500.0  # what ingest shall be able to sustain: a tenth of what any machine's broker passes
SLOW_WARM_UP_S = 10.0
SUSTAINABLE_S = 30.0
DRAINED_S = 60.0
CALM_S = 20.0
CALM_SHARE = 0.5
FULL_SHARE = 0.9  # of the full rate, to count as full speed
RECOVERY_S = 60.0  # for which full speed is looked for
FULL_SPEED_WITHIN_S = 15.0  # in which it has to be there

FLAT_MIB = 48.0  # by which memory may differ during an overload: what a Receive Maximum of messages takes, twice
STARVED_TIMES, STARVED_S = 3.0, 5.0  # events may take so much longer than without an overload


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is to be done."""

    seconds: float
    database: str | None


def empty_report(request: Request) -> Report:
    """Return a report of a run that has not measured anything yet."""
    return {
        "bench": "overload",
        "overload_s": request.seconds,
        **dict.fromkeys(
            (
                "full_msgs_per_s", "slowed_by", "sustainable_msgs_per_s", "offered_msgs_per_s", "times_sustainable",
                "taken_in_overload_msgs_per_s", "commit_s", "ingest_rss_mib", "in_hand", "event_to_receipt_s",
                "full_speed_after_s", "events_sent", "events_lost", "events_duplicated", "acked_events_missing",
                "heartbeats_sent", "heartbeats_stored", "heartbeats_duplicated", "acked_heartbeats_missing",
                "rows_nobody_sent", "quarantined", "broker", "database",
            )
        ),
        "machine": {},
        "warnings": [],
        "problems": [],
    }  # fmt: skip


async def run(request: Request, report: Report) -> None:
    """Overload ingest, filling in `report` as far as it goes; what went wrong stands in its `problems`."""
    began_at = time.monotonic()
    async with reported(report, deadline=DEADLINE):
        await _measure(request, report, began_at=began_at)
    report["seconds"] = round(time.monotonic() - began_at, 1)


async def _measure(request: Request, report: Report, *, began_at: float) -> None:
    report["machine"] = usage.machine() | {"mosquitto": ".".join(map(str, installed_version()))}
    say("preparing")
    async with chaos_site(request.database, Population.of(DEVICES, Profile.HEARTBEATS.mix)) as site:
        async with chaos_store.connected(site.server.owner_url) as owner:
            report["database"] = dict(await owner.fetchrow(store.ABOUT) or {})
        options = Options(autosave=installation.AUTOSAVE, logs_denied_publishes=False)
        await site.open_broker(broker_of(site, "main", options))
        site.add_replicas(REPLICAS[:1])
        await site.start_replicas()
        site.add_devices(EVENTS, repeat_s=REPEAT_S)
        meter = Meter(site.ledger)
        site.witness.listener = meter
        messages = round(2 * UNDER_WAY + 60_000 * FULL_S + 1.6 * TIMES * WANTED_RATE * (request.seconds + 10))
        async with offering(site, messages=messages) as load, site.speaking(), watching_drops(site) as drops:
            bench = _Bench(site, load, meter, drops, report)
            await bench.find_rates()
            await bench.overload(request.seconds)
            await bench.recover(until=began_at + SETTLED_BEFORE.total_seconds())
        await bench.compare()


@dataclass(slots=True)
class _Bench:
    """The parts of the measurement, in their order."""

    site: ChaosSite
    load: Generator
    meter: Meter
    drops: Drops
    report: Report
    full: float = 0.0
    sustainable: float = 0.0
    calm: Span | None = None

    async def find_rates(self) -> None:
        """At full speed, slowed down, and with little to do."""
        site, load, meter = self.site, self.load, self.meter
        say("full speed")
        await offer(load, meter, seconds=WARM_UP_S, under_way=UNDER_WAY)
        self.full = (await offer(load, meter, seconds=FULL_S, under_way=UNDER_WAY)).rate
        self.report["full_msgs_per_s"] = round(self.full)
        say("slowing the database down")
        site.to_database.delay_s = FIRST_DELAY_S
        await offer(load, meter, seconds=SLOW_WARM_UP_S, under_way=UNDER_WAY_SLOW)
        looked = (await offer(load, meter, seconds=FIRST_LOOK_S, under_way=UNDER_WAY_SLOW)).rate
        delay_s = round(min(LONGEST_DELAY_S, FIRST_DELAY_S * looked / WANTED_RATE), 3)
        site.to_database.delay_s = delay_s
        self.report["slowed_by"] = f"a relay that holds back everything the database answers for {delay_s} s"
        await offer(load, meter, seconds=SLOW_WARM_UP_S, under_way=UNDER_WAY_SLOW)
        self.sustainable = (await offer(load, meter, seconds=SUSTAINABLE_S, under_way=UNDER_WAY_SLOW)).rate
        self.report["sustainable_msgs_per_s"] = round(self.sustainable)
        if self.sustainable <= 0:
            raise BenchFailed("nothing was taken from a slow database")
        say("little to do")
        drained_by = time.monotonic() + DRAINED_S
        load.allow(0)
        while meter.taken < load.sent and time.monotonic() < drained_by:
            await asyncio.sleep(0.1)
        await offer(load, meter, seconds=CALM_S / 2, pace=CALM_SHARE * self.sustainable)
        self.calm = await offer(load, meter, seconds=CALM_S / 2, pace=CALM_SHARE * self.sustainable)

    async def overload(self, seconds: float) -> None:
        """Ten times as much as can be sustained."""
        report, calm = self.report, self.calm
        assert calm is not None, "the calm comes before"
        say(f"{TIMES} times as much for {seconds:g} s")
        commits_before = await self._commits()
        async with sampling(self.site) as samples:
            span = await offer(self.load, self.meter, seconds=seconds, pace=TIMES * self.sustainable)
        self.load.allow(0)
        commits = await self._commits()
        report["offered_msgs_per_s"] = round(span.offered_rate)
        report["times_sustainable"] = ratio(span.offered_rate, self.sustainable, digits=1)
        report["taken_in_overload_msgs_per_s"] = round(span.rate)
        report["commit_s"] = ratio(commits[0] - commits_before[0], commits[1] - commits_before[1])
        report["ingest_rss_mib"] = samples.memory()
        report["in_hand"] = {
            "held_by_ingest_at_most": samples.most_in_hand,
            "delivered_and_not_acknowledged_at_most": {
                name: session.most_in_hand for name, session in sorted(self.site.witness.sessions.items())
            },
            "receive_maximum": {
                name: session.receive_maximum for name, session in sorted(self.site.witness.sessions.items())
            },
        }
        without, during = self._waited(calm), self._waited(span)
        report["event_to_receipt_s"] = {"without": without, "during": during}
        if samples.growth_mib > FLAT_MIB:
            report["problems"].append(f"memory of ingest grew by {samples.growth_mib:.0f} MiB")
        if during["p99"] is None or during["p99"] > STARVED_TIMES * (without["p99"] or 0) + STARVED_S:
            report["problems"].append("events waited behind heartbeats")

    def _waited(self, span: Span) -> dict[str, float | int | None]:
        waited = sorted(each for speaker in self.site.events for each in speaker.waited_s(span.begin, span.end))
        found = {f"p{each}": percentile(waited, each) for each in (50, 99)}
        return {**{name: None if value is None else round(value, 2) for name, value in found.items()}, "n": len(waited)}

    async def _commits(self) -> tuple[float, float]:
        """Seconds spent in commits, and how many there were, as ingest says; for orientation only."""
        replica = self.site.replicas[0]
        return (
            await replica.metric("ingest_commit_seconds_sum") or 0.0,
            await replica.metric("ingest_commit_seconds_count") or 0.0,
        )

    async def recover(self, *, until: float) -> None:
        """Give the database its speed back, see how soon ingest has its own, and let everything arrive."""
        report, site, meter = self.report, self.site, self.meter
        say("the overload is over")
        site.to_database.delay_s = 0.0
        over_at = time.monotonic()
        fastest = 0.0
        while time.monotonic() < over_at + RECOVERY_S:
            meter.look(time.monotonic())
            fastest = max(fastest, meter.rate(1.0))
            if time.monotonic() - over_at > 1 and meter.rate(1.0) >= FULL_SHARE * self.full:
                report["full_speed_after_s"] = round(time.monotonic() - over_at - 1.0, 2)
                break
            await asyncio.sleep(0.05)
        report["problems"] += too_late(report["full_speed_after_s"])
        say("waiting until everything has arrived")
        site.say_no_more()
        await self.load.stop()
        report["heartbeats_sent"] = self.load.sent
        quiet_at = time.monotonic()
        while time.monotonic() - quiet_at < 2.0:
            if time.monotonic() > until:
                report["warnings"].append(
                    "the broker's queue was not empty in time: what was left in it is not counted, nor are"
                    f" {site.events_waiting} events without a receipt"
                )
                return
            is_busy = site.events_waiting or site.witness.in_hand
            quiet_at = time.monotonic() if is_busy else max(quiet_at, site.ledger.last_delivered_at)
            await asyncio.sleep(0.05)
        await asyncio.sleep(TELLS_EVERY_S)
        board = self.load.board
        heartbeats = (
            board[Slot.ACKNOWLEDGED] - board[Slot.UNHEARD] - sum(sum(book.delivered) for book in site.ledger.heartbeats)
        )
        missing = heartbeats + site.ledger.events_taken - site.ledger.events_delivered
        report["broker"] = {
            "dropped_from_its_full_queue": self.drops.count,
            "missing_by_ledger": missing,
            "given_to_nobody": board[Slot.UNHEARD],
        }
        if missing != self.drops.count:
            report["problems"].append(
                f"the broker says that it dropped {self.drops.count} messages, the ledger misses {missing}"
            )

    async def compare(self) -> None:
        """Look up every row."""
        say("comparing")
        report, site = self.report, self.site
        for replica in site.replicas:
            await replica.stop()
        async with chaos_store.connected(site.server.owner_url) as owner:
            await chaos_store.enter_rows(owner, site.ledger)
            report["quarantined"] = await owner.fetchval(store.COUNT_QUARANTINED)
        comparison = site.ledger.compare()
        found = asdict(comparison)
        for name in (
            "events_sent", "events_lost", "events_duplicated", "acked_events_missing", "heartbeats_stored",
            "heartbeats_duplicated", "acked_heartbeats_missing",
        ):  # fmt: skip
            report[name] = found[name]
        report["rows_nobody_sent"] = found["foreign"]
        report["problems"] += problems(comparison, waiting=site.events_waiting, quarantined=report["quarantined"])


def problems(found: Comparison, *, waiting: int, quarantined: int) -> list[str]:
    """Return what must not be; `waiting` events are not receipted, so their devices still have them."""
    counts = {
        "events receipted and not stored": max(0, found.events_lost - waiting),
        "events stored more than once": found.events_duplicated,
        "events missing that ingest acknowledged": found.acked_events_missing,
        "heartbeats stored more than once": found.heartbeats_duplicated,
        "heartbeats missing that ingest acknowledged": found.acked_heartbeats_missing,
        "rows stored that nobody sent": found.foreign,
        "messages quarantined, and all of them were good": quarantined,
    }
    return [f"{count} {what}" for what, count in counts.items() if count]


def too_late(full_speed_after_s: float | None) -> list[str]:
    """Return what is wrong with being at full speed again only after so long, or not at all."""
    if full_speed_after_s is None:
        return [f"full speed was not reached within {RECOVERY_S:g} s"]
    if full_speed_after_s > FULL_SPEED_WITHIN_S:
        return [f"full speed was reached after {full_speed_after_s:g} s, and not within {FULL_SPEED_WITHIN_S:g} s"]
    return []


@dataclass(slots=True)
class _Samples:
    """What ingest held during the overload."""

    rss_mib: list[float] = field(default_factory=list)
    most_in_hand: int = 0

    @property
    def growth_mib(self) -> float:
        """By how much memory differed, once the first Receive Maximum of messages had arrived."""
        steady = self._steady()
        return max(steady) - min(steady) if steady else 0.0

    def memory(self) -> dict[str, Any]:
        """Return it for the report."""
        steady = self._steady()
        return {
            "first": self.rss_mib[0] if self.rss_mib else None,
            "least": min(steady, default=None),
            "most": max(steady, default=None),
            "over_time": self.rss_mib[:: max(1, len(self.rss_mib) // 20)],
        }

    def _steady(self) -> Sequence[float]:
        return self.rss_mib[_SAMPLES_UNTIL_STEADY:]


_SAMPLE_EVERY_S = 0.5
_SAMPLES_UNTIL_STEADY = 20  # ten seconds


@asynccontextmanager
async def sampling(site: ChaosSite) -> AsyncIterator[_Samples]:
    """Look at ingest now and then while the block runs."""
    samples = _Samples()
    replica = site.replicas[0]

    async def look() -> None:
        while True:
            try:
                samples.rss_mib.append(usage.memory(replica.process.pid).now_mib)
            except OSError as error:
                raise BenchFailed(f"{replica.name} ended during the overload{replica.process.tail()}") from error
            samples.most_in_hand = max(
                samples.most_in_hand, round(await replica.metric("ingest_messages_in_hand") or 0)
            )
            await asyncio.sleep(_SAMPLE_EVERY_S)

    async with meanwhile(look()):
        yield samples
