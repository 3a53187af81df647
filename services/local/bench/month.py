"""`./loa bench month`: does every cluster play exactly what it should, for a month in which everything goes wrong?

A province is drawn from a seed, with what its three levels ask for and with its bad luck (`month_world`). The real
planning, issuing and signing make plans of the wishes (`month_office`); the real device core lives through the month
with each of them (`month_device`); the real weighing says what became of every emission (`month_proof`). What really
sounded is judged by an oracle that knows none of all this (`month_oracle`). Time, network and output are virtual.

Devices do not know of each other, so communes are shared out over processes, one for each core.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from schemas import arbitration
from schemas.arbitration import Contender, Precedence
from services.control.engine_settings import PlanningSettings
from services.control.planning.changes import EmissionKey
from services.control.planning.staging import LeftOut, Staging
from services.local.bench import (
    month_device,
    month_facts,
    month_office,
    month_oracle,
    month_proof,
    month_world,
    usage,
)
from services.local.bench.month_device import DRAINED_MS, POLL_MS, Story
from services.local.bench.month_facts import DAY, HOLDOVER, HOUR, MINUTE, SECOND, Clock, Key, Month, Site
from services.local.bench.month_office import OPENED_BEFORE_MS, Downlink, Row
from services.local.bench.month_oracle import Opinion, Wrong
from services.local.bench.month_proof import Proof
from services.local.bench.reporting import Report, reported, say
from services.local.bench.statistics import percentile
from services.shared import garbage

DEADLINE = timedelta(seconds=480)  # nine minutes less what stopping may take
SKEW_GOAL_MS = 50
LATE_MS = 2 * SECOND  # from here on a start is late, as the proof of play has it
# A clock that has missed more than one setting is away from the network: it still calls itself synchronised, for a day.
HEARS_WITHIN_MS = 2 * POLL_MS
IN_STEP = "synchronised"
SITES_AT_ONCE = 50  # enough for planning to share its work, few enough for both cores to end together
EXAMPLES = 5

VIRTUAL = (
    "virtual: time; a device is woken when its core says that something is due, and nothing happens in between",
    "virtual: clocks of devices; they drift by up to 20 ppm, are set every 1,024 s with the error of an exchange over 4G,"
    " jump, and forget the time",
    "virtual: the network; no broker, no TLS: messages take 4G's time, stall, get lost and come twice, plans and"
    " configurations are retained",
    "virtual: downloads, live sources and the output; no file is made or decoded, a part's first sample comes 6 to 20 ms"
    " after it is asked for, and a source has sound or has none",
    "virtual: the database; the record, the queue of changes and the queries of the proof are dictionaries and lists",
    "thinned out: heartbeats, one in six hours and one with every session instead of one a minute, and notes of being"
    " alive",
    "real: recurrence, news that grow stale or may be played so often, offers, the communes' order of priority content, quiet hours, planning, comparing with the record,"
    " deciding who needs an order, signing every plan, configuration and command (Ed25519)",
    "real: the device's pure core, with verification of every order, arbitration, resume policies, relays and what fills"
    " in for them, the notice when a plan has run out, shelf and notes; and its journal, with repeats until the receipt",
    "real: every event encoded, enveloped, decoded, entered in the ledger and receipted by ingest's own arithmetic",
    "real: the weighing of every emission, when its time is up and again when all reports have come",
    "apart from all this: the oracle, which imports neither arbitration nor planning nor the device",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is to be done. `breaks` spoils one rule on purpose, to see whether it is noticed."""

    clusters: int
    days: int
    seed: int
    breaks: str | None = None


def empty_report(request: Request) -> Report:
    """Return a report of a run that has not measured anything yet."""
    return {
        "bench": "month",
        "clusters": request.clusters,
        "days": request.days,
        "seed": request.seed,
        "broken_on_purpose": request.breaks,
        **dict.fromkeys(
            (
                "wrong_plays", "emissions_unexplained", "start_skew_ms_p50", "start_skew_ms_p99", "late_starts",
                "dead_air_s", "dead_air_unexplained_s", "devices", "emissions", "withdrawn", "plans_signed", "plays",
                "turns_of_the_core", "events", "events_lost", "verdicts_revised", "changes_unsent",
            )
        ),
        **{
            name: {}
            for name in (
                "start_skew_others_ms", "late_starts_by_cause", "wrong_plays_by_kind", "verdicts", "reasons",
                "unexplained", "faults", "cpu_s", "machine",
            )
        },
        "what_is_virtual": list(VIRTUAL),
        "problems": [],
    }  # fmt: skip


async def run(request: Request, report: Report) -> None:
    """Live through the month, filling in `report`; what went wrong stands in its `problems`."""
    began_at = time.monotonic()
    report["machine"] = usage.machine()
    total = Tally()
    async with reported(report, deadline=DEADLINE, mend="; ask for fewer clusters or days"):
        await _live(request, total)
    if total.devices:
        fill_in(total, report)
    report["elapsed_s"] = round(time.monotonic() - began_at, 1)


async def _live(request: Request, total: Tally) -> None:
    """Share the sites out over processes and add up in `total` what comes back."""
    parts = range(-(-request.clusters // SITES_AT_ONCE))
    if len(parts) == 1:
        total.add(live_part(request, 0))
        return
    loop = asyncio.get_running_loop()
    with _workers(min(len(parts), usage.cores())) as pool:
        waiting = [loop.run_in_executor(pool, live_part, request, part) for part in parts]
        for done, each in enumerate(asyncio.as_completed(waiting), start=1):
            total.add(await each)
            if done * 10 // len(parts) > (done - 1) * 10 // len(parts):
                say(f"{done * 100 // len(parts)} % of {request.clusters:,} clusters lived through")


@contextmanager
def _workers(processes: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that end with us, whatever they are at."""
    # Forked, they would share our loop's way of being told of signals, and ending them would end us.
    spawning = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, mp_context=spawning, initializer=_prepare)
    try:
        yield pool
    except BaseException:
        for process in list((pool._processes or {}).values()):  # noqa: SLF001 - nothing else ends them at once
            process.terminate()
        pool.shutdown(wait=True, cancel_futures=True)
        raise
    pool.shutdown(wait=True)


def _prepare() -> None:
    """Leave interrupts to the parent, and look for garbage less often: nearly all there is, is a device's life long."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    garbage.settle()


# --- a part of the province ------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Tally:
    """What came of some devices, or of all."""

    devices: int = 0
    emissions: int = 0
    withdrawn: int = 0
    plans: int = 0
    plays: int = 0
    events: int = 0
    events_lost: int = 0
    turns: int = 0
    unsent: int = 0
    wrong: Counter[str] = field(default_factory=Counter)
    wrong_examples: list[str] = field(default_factory=list)
    skews_ms: dict[str, list[int]] = field(default_factory=dict)  # by what the clock was worth
    late: Counter[str] = field(default_factory=Counter)  # by what kept them
    dead_ms: int = 0
    dead_unexplained_ms: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    proof: Proof = field(default_factory=Proof)
    cpu_s: Counter[str] = field(default_factory=Counter)

    def add(self, other: Tally) -> None:
        """Count another's as well."""
        for name in ("devices", "emissions", "withdrawn", "plans", "plays", "events", "events_lost", "turns", "unsent",
                     "dead_ms", "dead_unexplained_ms"):  # fmt: skip
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("wrong", "late", "faults", "cpu_s"):
            getattr(self, name).update(getattr(other, name))
        for worth, skews_ms in other.skews_ms.items():
            self.skews_ms.setdefault(worth, []).extend(skews_ms)
        self.wrong_examples = (self.wrong_examples + other.wrong_examples)[:EXAMPLES]
        self.proof.add(other.proof)


def live_part(request: Request, part: int) -> Tally:
    """Live through the month with some of the clusters, and judge it."""
    with BREAKS[request.breaks]() if request.breaks is not None else nullcontext():
        return _live_part(request, part)


def _live_part(request: Request, part: int) -> Tally:
    tally = Tally()
    with _timed(tally, "drawing the month"):
        within = range(part * SITES_AT_ONCE, (part + 1) * SITES_AT_ONCE)
        month = month_world.month(clusters=request.clusters, days=request.days, seed=request.seed, within=within)
    with _timed(tally, "planning and signing"):
        keys = month_office.make_keys(now_ms=month.began_ms - OPENED_BEFORE_MS - DAY)
        office = month_office.Office(month, keys, PlanningSettings())
        office.work()
    rows: dict[int, dict[EmissionKey, Row]] = {site.number: {} for site in month.sites}
    for key, row in office.rows.items():
        rows[key[3]][key] = row
    shared = month_device.common(month, keys.root_public_key)
    for site in month.sites:
        downlinks = office.downlinks[site.number]
        with _timed(tally, "devices"):
            story = month_device.live(shared, site, downlinks)
        with _timed(tally, "oracle"):
            _judge(month.seen_from(site), site, downlinks, story, tally)
        with _timed(tally, "proof"):
            tally.proof.add(month_proof.prove(site, rows[site.number], downlinks, story))
        _count(site, rows[site.number], downlinks, story, tally)
    return tally


def _count(
    site: Site, rows: Mapping[EmissionKey, Row], downlinks: Sequence[Downlink], story: Story, tally: Tally
) -> None:
    tally.devices += 1
    tally.emissions += sum(1 for row in rows.values() if not row.is_withdrawn)
    tally.withdrawn += sum(1 for row in rows.values() if row.is_withdrawn)
    tally.plans += sum(1 for each in downlinks if each.sent.is_plan)
    tally.plays += len({sound.key for sound in story.sounded})
    tally.events += story.events
    tally.events_lost += story.events_left
    tally.turns += story.turns
    tally.faults.update(site.luck.kinds)
    tally.faults.update(story.faults)


def _judge(month: Month, site: Site, downlinks: Sequence[Downlink], story: Story, tally: Tally) -> None:
    opinion = month_oracle.opine(
        month,
        site,
        story.clock,
        sent=[each.sent for each in downlinks],
        came=story.came,
        stocked=story.stocked,
        tuned=story.tuned,
        since_ms=month.began_ms - OPENED_BEFORE_MS,
        until_ms=month.ends_ms + DRAINED_MS,
    )
    wrongs = month_oracle.judge(opinion.sounds, story.sounded, loose=opinion.loose)
    tally.unsent += opinion.unsent
    for wrong in wrongs:
        tally.wrong[_word(wrong)] += 1
        tally.wrong_examples.append(_told(month, site, wrong))
    tally.dead_unexplained_ms += sum(wrong.to_ms - wrong.from_ms for wrong in wrongs if wrong.sounded is None)
    asked = month_facts.asked_for(month, site)
    tally.dead_ms += month_facts.length_ms(asked) - month_facts.length_ms(
        month_facts.common(asked, [(sound.from_ms, sound.to_ms) for sound in story.sounded])
    )
    _note_starts(site, story, opinion, tally)


def _note_starts(site: Site, story: Story, opinion: Opinion, tally: Tally) -> None:
    """How far from the planned instant the first samples came that nothing held up, and what held up the others."""
    seen: set[Key] = set()
    for sound in story.sounded:
        start = opinion.starts.get(sound.key)
        if sound.key in seen or start is None or sound.key[1] is None:
            continue
        seen.add(sound.key)
        if start.late_ms > LATE_MS:
            tally.late[start.why or _trouble(site, story.clock, start.planned_ms)] += 1
        elif start.late_ms <= month_oracle.TOLERANCE_MS:
            tally.skews_ms.setdefault(_worth(story.clock, sound.from_ms), []).append(sound.from_ms - start.planned_ms)


def _worth(clock: Clock, at_ms: int) -> str:
    """How far a clock can be trusted at an instant to be in step with the others."""
    piece = clock.piece(at_ms)
    if clock.is_off[piece]:
        return "after_jump"
    if clock.state[piece] == HOLDOVER:
        return "holdover"
    return IN_STEP if at_ms - clock.set_ms[piece] <= HEARS_WITHIN_MS else "not_set_for_hours"


def _trouble(site: Site, clock: Clock, at_ms: int) -> str:
    """What kept something from its start that nothing else was in the way of."""
    if any(down.from_ms <= at_ms < down.to_ms for down in site.luck.downs):
        return "power"
    return "told late" if _worth(clock, at_ms) == IN_STEP else "clock"


def _word(wrong: Wrong) -> str:
    if wrong.sounded is None:
        return "silence where something was to sound"
    return "sound where silence was to be" if wrong.expected is None else "something else than was to sound"


def _told(month: Month, site: Site, wrong: Wrong) -> str:
    """One wrong play in words."""
    days, rest_ms = divmod(wrong.from_ms - month.began_ms, DAY)
    when = f"day {days + 1} {rest_ms // HOUR:02}:{rest_ms % HOUR // MINUTE:02}:{rest_ms % MINUTE / SECOND:06.3f}"
    names = {ask.broadcast: f"{ask.unit} {str(ask.broadcast)[:8]}" for ask in month.asks}
    expected, sounded = (
        "silence" if key is None else names.get(key[0], "a speech") for key in (wrong.expected, wrong.sounded)
    )
    return f"{site.name} {when} for {(wrong.to_ms - wrong.from_ms) / SECOND:.1f} s: {sounded} instead of {expected}"


@contextmanager
def _timed(tally: Tally, what: str) -> Iterator[None]:
    began = time.process_time()
    yield
    tally.cpu_s[what] += time.process_time() - began  # type: ignore[assignment]


# --- to see whether it would be noticed ------------------------------------------------------------------------------

TIE_BREAK = "tie-break"
STALE_NEWS = "stale-news"


@contextmanager
def _turned_round() -> Iterator[None]:
    """Arbitration with one rule turned round: of equal ones the one asked for later goes first."""
    right = arbitration.precedence

    def wrong(contender: Contender) -> Precedence:
        tier, place, severity, depth, issued_at_ms, *identity = right(contender)
        return (tier, place, severity, depth, -issued_at_ms, *identity)  # type: ignore[return-value]

    arbitration.precedence = wrong
    try:
        yield
    finally:
        arbitration.precedence = right


@contextmanager
def _never_stale() -> Iterator[None]:
    """Planning that leaves out nothing that has expired or was played often enough."""
    right = Staging.left_out

    def nothing(self: Staging, at: datetime) -> LeftOut:
        del self, at
        return LeftOut()

    Staging.left_out = nothing  # type: ignore[method-assign]
    try:
        yield
    finally:
        Staging.left_out = right  # type: ignore[method-assign]


BREAKS = {TIE_BREAK: _turned_round, STALE_NEWS: _never_stale}


# --- the report ------------------------------------------------------------------------------------------------------


def fill_in(total: Tally, report: Report) -> None:
    """Put what came of all devices into the report, and what is not as it has to be into its problems."""
    proof = total.proof
    skews = {worth: sorted(abs(each) for each in found) for worth, found in total.skews_ms.items()}
    in_step = skews.get(IN_STEP, [])
    report |= {
        "wrong_plays": total.wrong.total(),
        "emissions_unexplained": proof.unexplained.total(),
        "start_skew_ms_p50": percentile(in_step, 50),
        "start_skew_ms_p99": percentile(in_step, 99),
        "late_starts": total.late.total(),
        "dead_air_s": round(total.dead_ms / SECOND),
        "dead_air_unexplained_s": round(total.dead_unexplained_ms / SECOND),
        "devices": total.devices,
        "emissions": total.emissions,
        "withdrawn": total.withdrawn,
        "plans_signed": total.plans,
        "plays": total.plays,
        "turns_of_the_core": total.turns,
        "events": total.events,
        "events_lost": total.events_lost,
        "verdicts_revised": proof.revised,
        "changes_unsent": total.unsent,
        "start_skew_others_ms": {
            worth: {"starts": len(found), "p50": percentile(found, 50), "p99": percentile(found, 99)}
            for worth, found in sorted(skews.items())
            if worth != IN_STEP
        },
        "late_starts_by_cause": dict(total.late.most_common()),
        "wrong_plays_by_kind": dict(total.wrong.most_common()),
        "verdicts": {str(name): count for name, count in proof.outcomes.most_common()},
        "reasons": dict(proof.reasons.most_common()),
        "unexplained": dict(proof.unexplained.most_common()),
        "faults": dict(total.faults.most_common()),
        "cpu_s": {name: round(seconds, 1) for name, seconds in total.cpu_s.most_common()},
    }
    report["problems"] += _problems(total, report)


def _problems(total: Tally, report: Report) -> Iterator[str]:
    if total.wrong:
        yield f"{total.wrong.total()} wrong plays: " + "; ".join(total.wrong_examples)
    if total.proof.unexplained:
        count = total.proof.unexplained.total()
        yield f"{count} emissions unexplained: " + "; ".join(total.proof.examples[:EXAMPLES])
    if total.unsent:
        yield f"{total.unsent} changes did not become a plan, or a plan ran out although its device could be reached"
    if total.events_lost:
        yield f"{total.events_lost} events never arrived"
    if not total.emissions:
        yield "nothing was planned"
    if (skew := report["start_skew_ms_p99"]) is not None and skew > SKEW_GOAL_MS:
        yield f"starts of devices with a synchronised clock are {skew} ms apart from the plan (p99; goal {SKEW_GOAL_MS} ms)"
