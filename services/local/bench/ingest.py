"""`./loa bench ingest`: how much Loa's ingest takes, next to what this machine and others can do, in one run.

Back to back, against brokers with the same configuration: the generator alone, the broker to the stock C subscriber (the
ceiling), two naive scripts, ingest with its registry full, and the ceiling again. The better of the two ceilings is the
one that counts; how far they are apart says what the machine's own mood is worth. Whatever happens it ends in time and
says how far it got.
"""

import os
import time
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from services.local.bench import contenders, store, usage
from services.local.bench.contenders import LoaRun
from services.local.bench.measurement import Window
from services.local.bench.reporting import Report, reported, say
from services.local.bench.site import Site, site
from services.local.bench.statistics import ratio, rise
from services.local.bench.traffic import Profile
from services.local.broker import installed_version

# Nine minutes less what stopping everything may take.
DEADLINE = timedelta(seconds=480)

GENERATOR_ALONE_S = 3.0
NAIVE_S = 10.0  # at most: their rate is steady, and low
BEYOND_CEILING = 1.5
OTHERS_AT_MOST = 0.1  # of all cores, used by programs that are no part of the bench
BUSIEST_GENERATOR = 0.8  # of a core; above it, it may have been the generator that set the pace
SUSTAINED_SHARE = 0.02  # a backlog that grows by less than this share of the rate does not grow
SECOND_HALF_AT_LEAST = 0.9  # of the first half's rate, under the full load, whose backlog cannot grow
SPREAD_AT_MOST = 0.1  # of the better ceiling
# Of ingest's memory, over a window. What leaks with messages leaks fast at this rate: 30 bytes of each are 80 MiB a minute.
GROWTH_AT_MOST_MIB = 16.0  # of one replica
BUSY = 0.95  # of a core: a part with one thread that can do no more
IDLE_AT_LEAST = 0.05  # of all cores; where less is left, it is the machine that can do no more

SCALING = (1, 2)  # replicas
PARTS = ("ingest", "broker", "database", "generator", "bench")

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is to be measured."""

    seconds: float
    devices: int
    profile: Profile
    database: str | None
    replicas: int = 1
    is_scaling: bool = False


def empty_report(request: Request) -> Report:
    """Return a report of a run that has not measured anything yet."""
    return {
        "bench": "ingest",
        "profile": request.profile.value,
        "devices": request.devices,
        "seconds": request.seconds,
        "replicas": request.replicas,
        **dict.fromkeys(
            (
                "sent", "stored", "lost", "duplicates", "quarantined",
                "loa_msgs_per_s", "ceiling_msgs_per_s", "naive_msgs_per_s", "naive_batch_msgs_per_s",
                "ratio_to_ceiling", "ratio_to_naive", "ratio_to_naive_batch",
                "generator_msgs_per_s", "ceilings_msgs_per_s", "ceiling_spread", "replica_msgs_per_s",
                "loa_msgs_per_s_by_half", "is_sustained", "backlog_growth_msgs_per_s", "paced_msgs_per_s",
                "publish_to_committed_ms", "publish_to_committed_full_load_ms", "cpu_us_per_msg", "cores", "saturated",
                "ingest_peak_rss_mib", "ingest_rss_mib", "ingest_ready_s", "scaling", "scaling_detail", "load",
                "others_cpu_share", "database", "setup_s",
            )
        ),
        "machine": {},
        "warnings": [],  # what the figures should not be taken for
        "problems": [],  # why they are worth nothing
    }  # fmt: skip


async def run(request: Request, report: Report) -> None:
    """Measure, filling in `report` as far as it goes; what went wrong stands in its `problems`."""
    began_at = time.monotonic()
    async with reported(report, deadline=DEADLINE):
        await _measure(request, report)
    report["warnings"] += warnings(report)
    report["took_s"] = round(time.monotonic() - began_at, 1)


def warnings(report: Report) -> list[str]:
    """Return what a reader of the report must know before comparing its figures."""
    found = []
    shares = {who: share for who, share in (report["others_cpu_share"] or {}).items() if share > OTHERS_AT_MOST}
    if shares:
        busy = ", ".join(f"{share:.0%} during {who}" for who, share in shares.items())
        found.append(f"other programs used this machine ({busy}): rates are too low, and ratios may be anything")
    if (report["ceiling_spread"] or 0) > SPREAD_AT_MOST:
        found.append(f"the two ceilings differ by {report['ceiling_spread']:.0%}: ratios are no better than that")
    database = report["database"] or {}
    lax = [name for name in ("fsync", "synchronous_commit") if database.get(name) == "off"]
    if lax:
        found.append(f"{' and '.join(lax)} off: what this database commits, a power cut may take")
    return found


async def _measure(request: Request, report: Report) -> None:
    report["machine"] = usage.machine() | {
        "mosquitto": ".".join(map(str, installed_version())),
        "load_average_before": os.getloadavg()[0],
    }
    say(f"registering {request.devices:,} devices")
    async with site(devices=request.devices, profile=request.profile, database=request.database) as place:
        report["setup_s"] = place.setup_s
        report["devices"] = place.population.devices
        report["database"] = dict(await place.owner.fetchrow(store.ABOUT) or {})
        await place.owner.execute(store.MAKE_NAIVE)

        alone = await _step(place, "generator alone", contenders.generator_alone(place, seconds=GENERATOR_ALONE_S))
        report["generator_msgs_per_s"] = _whole(alone.rate)
        seconds = request.seconds
        # Nobody takes more than can be sent where nobody takes anything.
        enough = _messages(alone.rate, seconds)
        before = await _step(place, "ceiling", contenders.ceiling(place, "ceiling", seconds=seconds, messages=enough))
        _tell_of_ceilings(report, [before])
        naive_s = min(seconds, NAIVE_S)
        enough = _messages(before.rate, naive_s)
        for name, in_batches in (("naive", False), ("naive_batch", True)):
            window = await _step(
                place, name, contenders.naively(place, in_batches=in_batches, seconds=naive_s, messages=enough)
            )
            report[f"{name}_msgs_per_s"] = _whole(window.rate)
            report["others_cpu_share"][name] = _rounded(window.others_share)
        run = await _run_loa(place, request.replicas, seconds, before)
        _tell_of_loa(report, run, request.replicas, alone)
        enough = _messages(alone.rate, seconds)
        after = await _step(
            place, "ceiling again", contenders.ceiling(place, "ceiling-again", seconds=seconds, messages=enough)
        )
        _tell_of_ceilings(report, [before, after])
        if request.is_scaling:
            await _scale(place, seconds, before, report, {request.replicas: run})


async def _run_loa(place: Site, replicas: int, seconds: float, ceiling: Window) -> LoaRun:
    # Acknowledging in batches is easier on the broker, so ingest may get beyond the ceiling.
    enough = _messages(BEYOND_CEILING * ceiling.rate, seconds + contenders.paced_s(seconds), replicas)
    name = "Loa's ingest" if replicas == 1 else f"Loa's ingest, {replicas} replicas"
    return await _step(place, name, contenders.loa(place, seconds=seconds, messages=enough, replicas=replicas))


async def _scale(place: Site, seconds: float, ceiling: Window, report: Report, runs: dict[int, LoaRun]) -> None:
    """Measure what has not been: one replica and two."""
    for replicas in SCALING:
        if replicas not in runs:
            await store.empty(place.owner)
            runs[replicas] = await _run_loa(place, replicas, seconds, ceiling)
            _judge(report, runs[replicas])
    report["scaling"] = {str(replicas): _whole(run.full.rate) for replicas, run in sorted(runs.items())}
    report["scaling_detail"] = {
        str(replicas): {
            "cores": cores(run.full),
            "saturated": saturated(cores(run.full), replicas),
            "replica_msgs_per_s": {name: _whole(rate) for name, rate in run.by_replica.items()},
            "ingest_peak_rss_mib": max(each.peak_mib for each in run.memory_after),
        }
        for replicas, run in sorted(runs.items())
    }


def _messages(rate: float, seconds: float, replicas: int = 1) -> int:
    """Return how many messages to make for a measurement of so many seconds in which at most `rate` are taken."""
    return round(rate * (seconds + 2 * contenders.WARM_UP_S)) + max(
        replicas * contenders.UNDER_WAY, contenders.UNDER_WAY_CEILING
    )


async def _step(place: Site, name: str, work: Awaitable[ResultT]) -> ResultT:
    """Do one part, on a database that has nothing left to write from before."""
    say(name)
    await place.owner.execute("CHECKPOINT")
    return await work


def _tell_of_ceilings(report: Report, ceilings: Sequence[Window]) -> None:
    best = max(ceilings, key=lambda each: each.rate)
    rates = [each.rate for each in ceilings]
    report |= {
        "ceiling_msgs_per_s": _whole(best.rate),
        "ceilings_msgs_per_s": [_whole(rate) for rate in rates],
        "ceiling_spread": _rounded((max(rates) - min(rates)) / max(rates)) if len(rates) > 1 else None,
        "ratio_to_ceiling": ratio(report["loa_msgs_per_s"], best.rate, digits=3),
        "cpu_us_per_msg": (report["cpu_us_per_msg"] or {})
        | {f"ceiling_{who}": best.cpu_us_per_message(who) for who in ("broker", "subscriber")},
        "cores": (report["cores"] or {}) | {"ceiling": cores(best)},
        "load": (report["load"] or {})
        | {
            "ceiling_held_share": _rounded(best.held_share),
            "ceiling_busy_cores": _rounded(best.cores("generator")),
        },
        "others_cpu_share": (report["others_cpu_share"] or {})
        | {
            name: _rounded(each.others_share)
            for name, each in zip(("ceiling", "ceiling_again"), ceilings, strict=False)
        },
    }


def _tell_of_loa(report: Report, run: LoaRun, replicas: int, alone: Window) -> None:
    full, paced, verified = run.full, run.paced, run.verified
    halves = full.rate_by_half
    report |= {
        "sent": verified.comparison.sent,
        "stored": verified.stored,
        "lost": verified.comparison.lost,
        "duplicates": verified.comparison.duplicates,
        "quarantined": run.quarantined,
        "loa_msgs_per_s": _whole(full.rate),
        "loa_msgs_per_s_by_half": [_whole(half) for half in halves] if halves else None,
        "replica_msgs_per_s": {name: _whole(rate) for name, rate in run.by_replica.items()},
        "ratio_to_ceiling": ratio(full.rate, report["ceiling_msgs_per_s"], digits=3),
        "ratio_to_naive": ratio(full.rate, report["naive_msgs_per_s"], digits=1),
        "ratio_to_naive_batch": ratio(full.rate, report["naive_batch_msgs_per_s"]),
        "is_sustained": is_sustained(full, paced),
        "backlog_growth_msgs_per_s": _whole(paced.backlog_growth),
        "paced_msgs_per_s": _whole(run.pace),
        "publish_to_committed_ms": dict(verified.paced_ms),
        "publish_to_committed_full_load_ms": dict(verified.full_ms),
        "cpu_us_per_msg": {
            **{who: full.cpu_us_per_message(who) for who in PARTS},
            "generator_alone": alone.cpu_us_per_message("generator"),
            **report["cpu_us_per_msg"],
        },
        "cores": {"loa": cores(full), "loa_paced": cores(paced), **report["cores"]},
        "saturated": saturated(cores(full), replicas),
        "ingest_peak_rss_mib": max(each.peak_mib for each in run.memory_after),
        "ingest_rss_mib": {
            "before": round(sum(each.now_mib for each in run.memory_before), 1),
            **memory_course(full),
            "after": round(sum(each.now_mib for each in run.memory_after), 1),
        },
        "ingest_ready_s": run.ready_s,
        # Held: it could have sent more and was not allowed to, because too few of those before had been taken. Where it
        # was not held, it waited for the broker's acknowledgements, unless it was busy itself.
        "load": {
            "under_way_at_most": replicas * contenders.UNDER_WAY,
            "held_share": _rounded(full.held_share),
            "busy_cores": _rounded(full.cores("generator")),
            **report["load"],
        },
    }
    report["others_cpu_share"] |= {"loa": _rounded(full.others_share), "loa_paced": _rounded(paced.others_share)}
    _judge(report, run)


def _judge(report: Report, run: LoaRun) -> None:
    """Add what makes a run's rate worth nothing."""
    full, differences = run.full, run.verified.comparison
    report["problems"] += run.verified.problems
    report["warnings"] += run.verified.warnings
    if differences.lost or differences.duplicates or differences.foreign:
        report["problems"].append(
            f"{differences.lost} messages lost, {differences.duplicates} rows double, {differences.foreign} nobody sent"
        )
    if not is_sustained(full, run.paced):
        report["problems"].append("the backlog grew, or the rate fell: it is not sustained")
    if memory_growth_mib(full) > GROWTH_AT_MOST_MIB * len(run.memory_after):
        report["problems"].append(f"ingest's memory grew by {memory_growth_mib(full):.0f} MiB under the full load")
    if (full.cores("generator") or 0) > BUSIEST_GENERATOR:
        report["problems"].append("the generator was busy all the time: ingest may be faster than this")


def is_sustained(full: Window, paced: Window) -> bool:
    """Whether a rate can be held.

    A paced load shows it in its backlog. Under a full load no backlog can grow, for no more is sent than is taken; there
    it would show in a rate that falls.
    """
    growth, halves = paced.backlog_growth, full.rate_by_half
    is_level = halves is None or halves[1] >= SECOND_HALF_AT_LEAST * halves[0]
    return is_level and growth is not None and growth <= SUSTAINED_SHARE * paced.rate


def memory_course(window: Window) -> dict[str, float | None]:
    """Return how much memory ingest had over a window, MiB."""
    sizes = [size for _, size in window.memory]
    if not sizes:
        return {"first": None, "last": None, "max": None, "rise_per_minute": None}
    growth = rise(window.memory)
    return {
        "first": round(sizes[0], 1),
        "last": round(sizes[-1], 1),
        "max": round(max(sizes), 1),
        "rise_per_minute": None if growth is None else round(60 * growth, 1),
    }


def memory_growth_mib(window: Window) -> float:
    """Return by how much memory grew over a window, what comes and goes left out."""
    return (rise(window.memory) or 0.0) * (window.end - window.begin)


def cores(window: Window) -> dict[str, float | None]:
    """Return how many cores each part kept busy, and how many nobody did."""
    parts = {who: _rounded(window.cores(who)) for who in window.cpu_s}
    return {**parts, "idle": _rounded((1 - window.busy_share) * usage.cores())}


def saturated(used: Mapping[str, float | None], replicas: int) -> list[str]:
    """Return which parts can do no more; none of them: they wait for one another, or for the disk."""
    found = []
    if (used["idle"] or 0) < IDLE_AT_LEAST * usage.cores():
        found.append("the machine's cores")
    for part, threads in (("broker", 1), ("ingest", replicas), ("generator", 1)):
        if (used.get(part) or 0) > BUSY * threads:
            found.append(part)
    return found


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)
