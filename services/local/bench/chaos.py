"""`./loa bench chaos`: everything is killed, cut off and filled up at random moments, and a ledger says what that cost.

Devices number everything. A witness between ingest and the broker notes what ingest acknowledged (`chaos_witness`), the
devices note what the broker took, and afterwards both are compared with the rows there are (`chaos_ledger`). Nothing that
ingest says of itself is believed, but for whether it raised its alarm.

Whatever happens it ends in time and says how far it got.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta

from services.local.bench import chaos_store, store, usage
from services.local.bench.chaos_broker import TELLS_EVERY_S, watching_drops
from services.local.bench.chaos_faults import GHOST_LIMIT_S, Breaker
from services.local.bench.chaos_ledger import Comparison, Loss, Outage
from services.local.bench.chaos_schedule import Fault, Kind, schedule
from services.local.bench.chaos_site import AUTOSAVE, REPLICAS, ChaosSite, Load, Replica, broker_of, chaos_site
from services.local.bench.measurement import BenchFailed
from services.local.bench.reporting import Report, reported, say
from services.local.bench.statistics import percentile
from services.local.broker import Options, installed_version

# Nine minutes less what stopping everything may take, and within that, no new fault after so long.
DEADLINE = timedelta(seconds=480)
LAST_FAULT = timedelta(seconds=380)

LOAD = Load(heartbeats=2_000, events=200)
POLL_S = 0.02
FIRST_DEADLINE_S = 30.0
RECOVERY_DEADLINE_S = 60.0
SETTLE_DEADLINE_S = 60.0
_NOT_EVERYWHERE = "nothing new was acknowledged, or not on every session,"
SETTLED_AFTER_S = 1.0  # without a message from the broker, nothing in hand, nothing waiting for a receipt

# What differs from ingest's defaults: how soon silence counts as death. Otherwise each silent fault would take a minute.
INGEST_SETTINGS = {
    "INGEST_BATCH__COMMIT_TIMEOUT": "4s",
    "INGEST_BROKER__KEEPALIVE": "4s",
    "INGEST_BROKER__CONNECT_TIMEOUT": "4s",
    "INGEST_DATABASE__CONNECT_TIMEOUT": "4s",
}

SMALL_QUEUE = 3_000  # messages
SMALL_RECEIVE_MAXIMUM = 1_000
OVERFLOW_S = 8.0
ALARM_DEADLINE_S = 15.0
ALARMS = ('ingest_broker_refusals_total{kind="full_queue"}', "ingest_broker_messages_dropped_total")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is to be done."""

    kills: int | None  # None: as many as the time holds
    seed: int
    database: str | None


def empty_report(request: Request) -> Report:
    """Return a report of a run that has not done anything yet."""
    return {
        "bench": "chaos",
        "seed": request.seed,
        "kills_wanted": request.kills,
        **dict.fromkeys(
            (
                "kills_in_all", "kills", "skipped", "killed_with_signal_9",
                "events_sent", "events_lost", "events_duplicated", "acked_events_missing",
                "heartbeats_sent", "heartbeats_taken_by_broker", "heartbeats_stored", "heartbeats_duplicated",
                "acked_heartbeats_missing", "heartbeats_lost_in_broker", "heartbeats_unexplained",
                "rows_nobody_sent", "quarantined", "acknowledged_nothing",
                "recovery_s", "lost_in_transaction", "overflow", "most_in_hand", "database_restarts",
                "load", "settings", "database",
            )
        ),
        "machine": {},
        "warnings": [],  # what was not done
        "problems": [],  # what must not be
    }  # fmt: skip


async def run(request: Request, report: Report) -> None:
    """Break things, filling in `report` as far as it goes; what went wrong stands in its `problems`."""
    began_at = time.monotonic()
    async with reported(report, deadline=DEADLINE):
        await _measure(request, report, began_at=began_at)
    report["seconds"] = round(time.monotonic() - began_at, 1)


async def _measure(request: Request, report: Report, *, began_at: float) -> None:
    report["machine"] = usage.machine() | {"mosquitto": ".".join(map(str, installed_version()))}
    report["load"] = asdict(LOAD)
    report["settings"] = INGEST_SETTINGS | {"broker_autosave": f"{AUTOSAVE.total_seconds():g}s"}
    say("preparing")
    async with chaos_site(request.database) as site:
        async with chaos_store.connected(site.server.owner_url) as owner:
            report["database"] = dict(await owner.fetchrow(store.ABOUT) or {})
        await site.open_broker(broker_of(site, "main"))
        site.add_replicas(REPLICAS, **INGEST_SETTINGS)
        await site.start_replicas()
        site.add_devices(LOAD)
        breaker = Breaker(site)
        report["skipped"] = {kind.value: why for kind, why in breaker.unavailable().items()}
        async with site.speaking():
            await _break(request, report, breaker, until=began_at + LAST_FAULT.total_seconds())
            await _settle(site, report)
            say("overflowing the broker's queue")
            report["overflow"] = await _overflow(site, report)
        say("comparing")
        for replica in site.replicas:
            await replica.stop()
        async with chaos_store.connected(site.server.owner_url) as owner:
            await chaos_store.enter_rows(owner, site.ledger)
            report["quarantined"] = await owner.fetchval(store.COUNT_QUARANTINED)
        _tell(report, site, breaker)


# --- faults ----------------------------------------------------------------------------------------------------------


async def _break(request: Request, report: Report, breaker: Breaker, *, until: float) -> None:
    """Fault after fault, each after everything works again or on top of the one before."""
    site = breaker.site
    if await _recovered(site, within_s=FIRST_DEADLINE_S) is None:
        raise BenchFailed("nothing is acknowledged, although nothing has been broken yet")
    say(f"{request.kills or 'as many as the time holds:'} faults with seed {request.seed}")
    recoveries: dict[Kind, list[float]] = {}
    faults = schedule(request.seed, without=breaker.unavailable())
    tries = 0
    while sum(breaker.done.values()) != request.kills and time.monotonic() < until:
        fault = next(faults)
        tries += 1
        await asyncio.sleep(fault.wait_s)
        over_at = await breaker.do(fault)
        if over_at is None:
            continue
        report["kills"] = {kind.value: count for kind, count in sorted(breaker.done.items())}
        if fault.is_followed and not breaker.is_occupied:
            continue
        took_s = await _recovery(breaker, fault, over_at, report)
        if took_s is not None:
            recoveries.setdefault(fault.kind, []).append(took_s)
        report["recovery_s"] = {kind.value: _summary(each) for kind, each in sorted(recoveries.items())}
    done = sum(breaker.done.values())
    report["kills_in_all"] = done
    report["killed_with_signal_9"] = breaker.killed
    report["problems"] += too_few(request.kills, done)
    if tries > done:
        report["warnings"].append(
            f"{tries - done} faults found nothing to befall, such as a COPY under way, or were not felt: they do not count"
        )


def too_few(wanted: int | None, done: int) -> list[str]:
    """Return what is wrong with having done only so many faults."""
    if not done:
        return ["nothing was broken before the time was over"]
    if wanted is not None and done < wanted:
        return [
            f"stopped after {done} of {wanted} faults, because the time was over: ask for fewer with --kills,"
            " or for as many as the time holds with --until-time-is-over"
        ]
    return []


async def _recovery(breaker: Breaker, fault: Fault, over_at: float, report: Report) -> float | None:
    """Wait until everything works again, tidy up, and see that this works as well; returns how long it took in all."""
    site = breaker.site
    done_at = await _others_recovered(breaker, fault, report)
    if breaker.tidy() and done_at is not None:
        done_at = await _recovered(site, within_s=RECOVERY_DEADLINE_S)
        if done_at is None:
            report["problems"].append(f"{fault.kind}: {_NOT_EVERYWHERE} within {RECOVERY_DEADLINE_S:g} s")
    return None if done_at is None else max(0.0, done_at - over_at)


async def _others_recovered(breaker: Breaker, fault: Fault, report: Report) -> float | None:
    """Wait until everything works again but for who stands still; returns when it did."""
    site = breaker.site
    before = {key: journal.sent for key, journal in site.ledger.journals.items()}

    def is_through() -> bool:
        # Past a connection lost in a transaction, what it may have locked has to go through as well.
        return breaker.ghost is None or all(each.has_receipts(before) for each in site.events)

    limit = GHOST_LIMIT_S if breaker.ghost is not None else RECOVERY_DEADLINE_S
    done_at = await _recovered(site, within_s=limit, without=breaker.absent, and_also=is_through)
    if done_at is None and breaker.ghost is not None:
        report["problems"].append(
            f"{fault.kind}: a connection lost within a transaction held the others up for {limit:g} s,"
            " until the bench ended it"
        )
        breaker.give_up_ghost()
        done_at = await _recovered(site, within_s=RECOVERY_DEADLINE_S, without=breaker.absent)
    if done_at is None:
        report["problems"].append(f"{fault.kind}: {_NOT_EVERYWHERE} within {limit:g} s")
    return done_at


async def _recovered(
    site: ChaosSite,
    *,
    within_s: float,
    without: Replica | None = None,
    and_also: Callable[[], bool] = lambda: True,
) -> float | None:
    """Wait until messages sent from now on are acknowledged on every session of every replica but `without`.

    Returns when; None when it takes too long.
    """
    watch = site.ledger.begin_watch(
        session for replica in site.replicas if replica is not without for session in replica.sessions
    )
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        if watch.is_done and and_also():
            return time.monotonic()
        site.restart_fallen()
        await asyncio.sleep(POLL_S)
    return None


async def _settle(site: ChaosSite, report: Report) -> None:
    """Have nothing new said, and wait until everything said has arrived."""
    say("waiting until everything has arrived")
    site.say_no_more()
    site.restart_fallen()
    for replica in site.replicas:
        await replica.wait_ready()
    until = time.monotonic() + SETTLE_DEADLINE_S
    busy_at = time.monotonic()
    while (now := time.monotonic()) - busy_at < SETTLED_AFTER_S:
        if now > until:
            report["problems"].append(
                f"{site.events_waiting} events were not receipted and {site.witness.in_hand} messages not acknowledged"
                f" within {SETTLE_DEADLINE_S:g} s"
            )
            return
        is_busy = site.events_waiting or site.witness.in_hand or not site.is_connected
        busy_at = now if is_busy else max(busy_at, site.ledger.last_delivered_at)
        await asyncio.sleep(POLL_S)


# --- a queue that overflows ------------------------------------------------------------------------------------------


async def _overflow(site: ChaosSite, report: Report) -> Report:
    """Have a broker with a small queue drop messages, because ingest has no database; returns what that cost."""
    ledger = site.ledger
    for replica in site.replicas:
        await replica.stop()
    await site.broker.stop()
    options = Options(autosave=AUTOSAVE, logs_denied_publishes=False, queued_messages=SMALL_QUEUE)
    await site.open_broker(broker_of(site, "small", options))
    site.add_replicas(REPLICAS[:1], **INGEST_SETTINGS, INGEST_RECEIVE_MAXIMUM=str(SMALL_RECEIVE_MAXIMUM))
    await site.start_replicas()
    missing_before = ledger.undelivered()
    async with watching_drops(site) as drops:
        site.say_on()
        began_at = time.monotonic()
        if await _recovered(site, within_s=FIRST_DEADLINE_S) is None:
            raise BenchFailed("nothing is acknowledged over the broker with a small queue")
        async with site.to_database.refusing():
            await asyncio.sleep(OVERFLOW_S)
        await _settle(site, report)
        alarms = await _alarms(site)
        ledger.outages.append(Outage(Loss.FULL_QUEUE, began_at, time.monotonic()))
        await asyncio.sleep(TELLS_EVERY_S)
        lost = drops.count
    missing = ledger.undelivered() - missing_before
    if lost == 0:
        report["problems"].append("the broker's small queue did not overflow")
    if not alarms:
        report["problems"].append("the broker dropped messages, and ingest raised no alarm")
    if lost != missing:
        report["problems"].append(f"the broker says that it dropped {lost} messages, the ledger misses {missing}")
    return {
        "queue_limit": SMALL_QUEUE,
        "dropped_by_broker": lost,
        "missing_by_ledger": missing,
        "alarmed": bool(alarms),
        "alarms": alarms,
    }


async def _alarms(site: ChaosSite) -> dict[str, float]:
    """Return the metrics of ingest that say that messages were dropped, once there is one."""
    until = time.monotonic() + ALARM_DEADLINE_S
    while True:
        values = {name: await site.replicas[0].metric(name) for name in ALARMS}
        raised = {name: value for name, value in values.items() if value}
        if raised or time.monotonic() > until:
            return raised
        await asyncio.sleep(0.2)


# --- the report ------------------------------------------------------------------------------------------------------


def _tell(report: Report, site: ChaosSite, breaker: Breaker) -> None:
    found = site.ledger.compare()
    ghosts = breaker.ghosts
    report |= {
        "events_sent": found.events_sent,
        "events_lost": found.events_lost,
        "events_duplicated": found.events_duplicated,
        "acked_events_missing": found.acked_events_missing,
        "heartbeats_sent": found.heartbeats_sent,
        "heartbeats_taken_by_broker": found.heartbeats_taken,
        "heartbeats_stored": found.heartbeats_stored,
        "heartbeats_duplicated": found.heartbeats_duplicated,
        "acked_heartbeats_missing": found.acked_heartbeats_missing,
        "heartbeats_lost_in_broker": {
            "after_its_last_save": found.lost[Loss.CRASH],
            "nobody_subscribed": found.unheard,
            "full_queue": found.lost[Loss.FULL_QUEUE],
        },
        "heartbeats_unexplained": found.unexplained,
        "rows_nobody_sent": found.foreign,
        "acknowledged_nothing": site.witness.acknowledged_nothing,
        "lost_in_transaction": asdict(ghosts),
        "database_restarts": breaker.database_restarts,
        "most_in_hand": {name: session.most_in_hand for name, session in sorted(site.witness.sessions.items())},
    }
    report["problems"] += problems(found)
    report["problems"] += site.last_words
    if site.witness.acknowledged_nothing:
        report["problems"].append(f"{site.witness.acknowledged_nothing} acknowledgements of what was not delivered")
    if report["quarantined"]:
        report["problems"].append(f"{report['quarantined']} messages were quarantined, and all of them were good")


def problems(found: Comparison) -> list[str]:
    """Return what must not be."""
    counts: Mapping[str, int] = {
        "events lost": found.events_lost,
        "events stored more than once": found.events_duplicated,
        "events missing that ingest acknowledged": found.acked_events_missing,
        "heartbeats stored more than once": found.heartbeats_duplicated,
        "heartbeats missing that ingest acknowledged": found.acked_heartbeats_missing,
        "heartbeats missing that the broker took, for no reason of the broker's": found.unexplained,
        "rows stored that nobody sent": found.foreign,
    }
    return [f"{count} {what}" for what, count in counts.items() if count]


def _summary(seconds: Sequence[float]) -> dict[str, float | int | None]:
    ordered = sorted(seconds)
    middle = percentile(ordered, 50)
    return {
        "p50": None if middle is None else round(middle, 2),
        "max": round(ordered[-1], 2),
        "times": len(ordered),
    }
