"""`./loa bench ingest`: how much Loa's ingest takes, next to what this machine and others can do, in one run.

Back to back, against brokers with the same configuration: the generator alone, the broker to the stock C subscriber (the
ceiling), two naive scripts, and ingest with its registry full. Whatever happens it ends in time and says how far it got.
"""

import asyncio
import os
import sys
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import asyncpg

from services.local.bench import contenders, store, usage
from services.local.bench.contenders import LoaRun
from services.local.bench.measurement import BenchFailed, Window
from services.local.bench.site import Site, site
from services.local.bench.statistics import ratio
from services.local.bench.traffic import Profile
from services.local.broker import BrokerFailed, installed_version
from services.local.postgres import PostgresFailed
from services.local.processes import ProcessFailed
from services.shared.database.errors import DatabaseError

# Nine minutes less what stopping everything may take.
DEADLINE = timedelta(seconds=480)

GENERATOR_ALONE_S = 3.0
NAIVE_S = 10.0  # at most: their rate is steady, and low
BEYOND_CEILING = 1.5
OTHERS_AT_MOST = 0.1  # of all cores, used by programs that are no part of the bench
BUSIEST_GENERATOR = 0.8  # of a core; above it, it may have been the generator that set the pace
SUSTAINED_SHARE = 0.02  # a backlog that grows by less than this share of the rate does not grow

Report = dict[str, Any]
ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is to be measured."""

    seconds: float
    devices: int
    profile: Profile
    database: str | None


def empty_report(request: Request) -> Report:
    """Return a report of a run that has not measured anything yet."""
    return {
        "bench": "ingest",
        "profile": request.profile.value,
        "devices": request.devices,
        "seconds": request.seconds,
        **dict.fromkeys(
            (
                "sent", "stored", "lost", "duplicates", "quarantined",
                "loa_msgs_per_s", "ceiling_msgs_per_s", "naive_msgs_per_s", "naive_batch_msgs_per_s",
                "generator_msgs_per_s", "ratio_to_ceiling", "ratio_to_naive", "ratio_to_naive_batch",
                "is_sustained", "backlog_slope_msgs_per_s", "paced_msgs_per_s", "publish_to_committed_ms",
                "publish_to_committed_full_load_ms", "cpu_us_per_msg", "ingest_peak_rss_mib",
                "ingest_rss_mib", "ingest_ready_s", "load", "others_cpu_share", "database", "setup_s",
            )
        ),
        "machine": {},
        "warnings": [],  # what the figures should not be taken for
        "problems": [],  # why they are worth nothing
    }  # fmt: skip


async def run(request: Request, report: Report) -> None:
    """Measure, filling in `report` as far as it goes; what went wrong stands in its `problems`."""
    began_at = time.monotonic()
    try:
        async with asyncio.timeout(DEADLINE.total_seconds()):
            await _measure(request, report)
    except TimeoutError:
        report["problems"].append(f"not finished after {DEADLINE.total_seconds():g} s")
    except (BenchFailed, BrokerFailed, PostgresFailed, ProcessFailed) as error:
        report["problems"].append(str(error))
    except (OSError, asyncpg.PostgresError, DatabaseError) as error:
        report["problems"].append(f"{type(error).__name__}: {error}")
    report["warnings"] = warnings(report)
    report["took_s"] = round(time.monotonic() - began_at, 1)


def warnings(report: Report) -> list[str]:
    """Return what a reader of the report must know before comparing its figures."""
    found = []
    shares = {who: share for who, share in (report["others_cpu_share"] or {}).items() if share > OTHERS_AT_MOST}
    if shares:
        busy = ", ".join(f"{share:.0%} during {who}" for who, share in shares.items())
        found.append(f"other programs used this machine ({busy}): rates are too low, and ratios may be anything")
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
    _say(f"registering {request.devices:,} devices")
    async with site(devices=request.devices, profile=request.profile, database=request.database) as place:
        report["setup_s"] = place.setup_s
        report["devices"] = place.population.devices
        report["database"] = dict(await place.owner.fetchrow(store.ABOUT) or {})
        await place.owner.execute(store.MAKE_NAIVE)

        alone = await _step(place, "generator alone", contenders.generator_alone(place, seconds=GENERATOR_ALONE_S))
        report["generator_msgs_per_s"] = _whole(alone.rate)
        seconds = request.seconds
        # Nobody takes more than can be sent where nobody takes anything.
        ceiling = await _step(
            place, "ceiling", contenders.ceiling(place, seconds=seconds, messages=_messages(alone.rate, seconds))
        )
        report["ceiling_msgs_per_s"] = _whole(ceiling.rate)
        report["others_cpu_share"] = {"ceiling": _rounded(ceiling.others_share)}
        naive_s = min(seconds, NAIVE_S)
        enough = _messages(ceiling.rate, naive_s)
        for name, in_batches in (("naive", False), ("naive_batch", True)):
            window = await _step(
                place, name, contenders.naively(place, in_batches=in_batches, seconds=naive_s, messages=enough)
            )
            report[f"{name}_msgs_per_s"] = _whole(window.rate)
            report["others_cpu_share"][name] = _rounded(window.others_share)
        # Acknowledging in batches is easier on the broker, so ingest may get beyond the ceiling.
        enough = _messages(BEYOND_CEILING * ceiling.rate, seconds * (1 + contenders.PACED_SHARE))
        run = await _step(place, "Loa's ingest", contenders.loa(place, seconds=seconds, messages=enough))
        _tell_of_loa(report, run, ceiling, alone)


def _messages(rate: float, seconds: float) -> int:
    """Return how many messages to make for a measurement of so many seconds in which at most `rate` are taken."""
    return round(rate * (seconds + 2 * contenders.WARM_UP_S)) + contenders.UNDER_WAY


async def _step(place: Site, name: str, work: Awaitable[ResultT]) -> ResultT:
    """Do one part, on a database that has nothing left to write from before."""
    _say(name)
    await place.owner.execute("CHECKPOINT")
    return await work


def _tell_of_loa(report: Report, run: LoaRun, ceiling: Window, alone: Window) -> None:
    full, paced, verified = run.full, run.paced, run.verified
    rate, growth = full.rate, paced.backlog_slope
    is_sustained = growth is not None and growth <= SUSTAINED_SHARE * rate
    report |= {
        "sent": verified.comparison.sent,
        "stored": verified.stored,
        "lost": verified.comparison.lost,
        "duplicates": verified.comparison.duplicates,
        "quarantined": run.quarantined,
        "loa_msgs_per_s": _whole(rate),
        "ratio_to_ceiling": ratio(rate, ceiling.rate, digits=3),
        "ratio_to_naive": ratio(rate, report["naive_msgs_per_s"], digits=1),
        "ratio_to_naive_batch": ratio(rate, report["naive_batch_msgs_per_s"]),
        "is_sustained": is_sustained,
        "backlog_slope_msgs_per_s": _whole(growth),
        "paced_msgs_per_s": _whole(run.pace),
        "publish_to_committed_ms": dict(verified.paced_ms),
        "publish_to_committed_full_load_ms": dict(verified.full_ms),
        "cpu_us_per_msg": {
            **{who: full.cpu_us_per_message(who) for who in ("ingest", "broker", "database", "generator")},
            **{f"ceiling_{who}": ceiling.cpu_us_per_message(who) for who in ("broker", "subscriber")},
            "generator_alone": alone.cpu_us_per_message("generator"),
        },
        "ingest_peak_rss_mib": run.memory_after.peak_mib,
        "ingest_rss_mib": {"before": run.memory_before.now_mib, "after": run.memory_after.now_mib},
        "ingest_ready_s": run.ready_s,
        # Held: it could have sent more and was not allowed to, because too few of those before had been taken. Where it
        # was not held, it waited for the broker's acknowledgements, unless it was busy itself.
        "load": {
            "under_way_at_most": contenders.UNDER_WAY,
            "held_share": _rounded(full.held_share),
            "busy_cores": _rounded(full.cores("generator")),
            "ceiling_held_share": _rounded(ceiling.held_share),
            "ceiling_busy_cores": _rounded(ceiling.cores("generator")),
        },
    }
    report["others_cpu_share"] |= {"loa": _rounded(full.others_share), "loa_paced": _rounded(paced.others_share)}
    report["problems"] += verified.problems
    differences = verified.comparison
    if differences.lost or differences.duplicates or differences.foreign:
        report["problems"].append(
            f"{differences.lost} messages lost, {differences.duplicates} rows double, {differences.foreign} nobody sent"
        )
    if not is_sustained:
        report["problems"].append("the backlog grew: the rate is not sustained")
    if (full.cores("generator") or 0) > BUSIEST_GENERATOR:
        report["problems"].append("the generator was busy all the time: ingest may be faster than this")


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)


def _say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)
