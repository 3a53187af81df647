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

from services.local.bench import contenders, store, usage
from services.local.bench.contenders import LoaRun
from services.local.bench.measurement import BenchFailed, Window
from services.local.bench.site import Site, site
from services.local.bench.statistics import ratio
from services.local.bench.traffic import Profile
from services.local.broker import BrokerFailed, installed_version
from services.local.postgres import PostgresFailed
from services.local.processes import ProcessFailed

# Nine minutes less what stopping everything may take.
DEADLINE = timedelta(seconds=480)

GENERATOR_ALONE_S = 3.0
NAIVE_S = 10.0  # at most: their rate is steady, and low
HEADROOM = 1.15  # messages made beyond what the generator alone could have sent
SUSTAINED_SHARE = 0.01  # a backlog that grows by less than this share of the rate does not grow

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
                "is_sustained", "backlog", "cpu_us_per_msg", "publish_to_committed_ms", "ingest_peak_rss_mib",
                "ingest_rss_mib", "ingest_ready_s", "load", "database", "setup_s",
            )
        ),
        "machine": {},
        "problems": [],
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
    report["took_s"] = round(time.monotonic() - began_at, 1)


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
        # Nobody can take more than can be sent.
        fastest = HEADROOM * (alone.rate or 0)

        def messages(seconds: float) -> int:
            return round(fastest * (seconds + contenders.WARM_UP_S)) + contenders.UNDER_WAY

        ceiling = await _step(
            place, "ceiling", contenders.ceiling(place, seconds=request.seconds, messages=messages(request.seconds))
        )
        report["ceiling_msgs_per_s"] = _whole(ceiling.rate)
        naive_s = min(request.seconds, NAIVE_S)
        for name, in_batches in (("naive", False), ("naive_batch", True)):
            window = await _step(
                place,
                name,
                contenders.naively(place, in_batches=in_batches, seconds=naive_s, messages=messages(naive_s) // 4),
            )
            report[f"{name}_msgs_per_s"] = _whole(window.rate)
        run = await _step(
            place, "Loa's ingest", contenders.loa(place, seconds=request.seconds, messages=messages(request.seconds))
        )
        _tell_of_loa(report, run, ceiling, alone)


async def _step(place: Site, name: str, work: Awaitable[ResultT]) -> ResultT:
    """Do one part, on a database that has nothing left to write from before."""
    _say(name)
    await place.owner.execute("CHECKPOINT")
    return await work


def _tell_of_loa(report: Report, run: LoaRun, ceiling: Window, alone: Window) -> None:
    window, comparison = run.window, run.verified.comparison
    rate = window.rate
    cpu = {who: window.cpu_us_per_message(who) for who in ("ingest", "broker", "database", "generator")}
    ceiling_cpu = {f"ceiling_{who}": ceiling.cpu_us_per_message(who) for who in ("broker", "subscriber")}
    growth = window.backlog_slope
    report |= {
        "sent": comparison.sent,
        "stored": run.verified.stored,
        "lost": comparison.lost,
        "duplicates": comparison.duplicates,
        "quarantined": run.quarantined,
        "loa_msgs_per_s": _whole(rate),
        "ratio_to_ceiling": ratio(rate, ceiling.rate, digits=3),
        "ratio_to_naive": ratio(rate, report["naive_msgs_per_s"], digits=1),
        "ratio_to_naive_batch": ratio(rate, report["naive_batch_msgs_per_s"]),
        "is_sustained": growth is not None and rate is not None and growth <= SUSTAINED_SHARE * rate,
        "backlog": {
            "slope_msgs_per_s": _whole(growth),
            "mean": _whole(sum(each for _, each in window.backlog) / max(1, len(window.backlog))),
            "under_way_at_most": contenders.UNDER_WAY,
        },
        "cpu_us_per_msg": cpu | ceiling_cpu | {"generator_alone": alone.cpu_us_per_message("generator")},
        "publish_to_committed_ms": dict(run.verified.committed_ms),
        "ingest_peak_rss_mib": run.memory_after.peak_mib,
        "ingest_rss_mib": {"before": run.memory_before.now_mib, "after": run.memory_after.now_mib},
        "ingest_ready_s": run.ready_s,
        # Held: it had messages to send and was not allowed to, because ingest had not taken enough of those before.
        "load": {"held_share": round(window.held_share, 3), "ceiling_held_share": round(ceiling.held_share, 3)},
    }
    ours = sum(used for used in window.cpu_s.values() if used is not None)
    span = (window.end - window.begin) * report["machine"]["cores"]
    report["machine"]["busy_share"] = round(window.busy_s / span, 3)
    report["machine"]["busy_share_of_others"] = round((window.busy_s - ours) / span, 3)
    report["problems"] += run.verified.problems
    if comparison.lost or comparison.duplicates or comparison.foreign:
        report["problems"].append(
            f"{comparison.lost} messages lost, {comparison.duplicates} rows double, {comparison.foreign} nobody sent"
        )
    if not report["is_sustained"]:
        report["problems"].append("the backlog grew: the rate is not sustained")


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)


def _say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)
