"""`./loa bench planner`: how long planning takes, for everything and for one change, beside a plain loop over dateutil.

Nothing is stored and nothing is sent: what is timed is computing alone, in this process, from a loaded snapshot to the
programme of every device (`cold_s`), from a planned province and one changed broadcast to the new plan (`one_change_ms`),
and to what that change does to what people hear (`whatif_ms`). Signing is timed apart, on some of the devices.
"""

import asyncio
import gc
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from datetime import time as time_of_day
from functools import lru_cache
from zoneinfo import ZoneInfo

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas import signing
from schemas.identifiers import DeviceId
from services.control import orders
from services.control.planning import impact
from services.control.planning.model import DeviceNo, Plan, Window
from services.control.planning.policies import Policies
from services.control.planning.programme import Planning, begin, replan
from services.local.bench import planner_naive, usage
from services.local.bench.planner_province import FIRST_DAY, ZONE, Province, province
from services.local.bench.reporting import Report, reported, say
from services.local.bench.statistics import percentile
from services.shared import garbage

DEADLINE = timedelta(minutes=8)
FEWEST, MOST = 1_000, 300_000
MOST_DAYS = 31

CHANGED_PROVINCE = 10_000  # devices of the province in which one broadcast is changed
CHANGES = 9
# Devices deal slots out to one another in runs, as when their orders are made in batches.
SIGNED_RUNS, SIGNED_RUN = 10, 50
# The plain loop looks at one device at a time, so a part of them says what all would take.
NAIVE_DEVICES = 200

GOALS = {"cold_s": 10.0, "one_change_ms": 200.0, "whatif_ms": 500.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is to be done."""

    devices: int
    days: int

    @property
    def window(self) -> Window:
        """The days that are planned."""
        return Window(first=FIRST_DAY, end=FIRST_DAY + timedelta(days=self.days))


def empty_report(request: Request) -> Report:
    """Return a report of a run that has not measured anything yet."""
    return {
        "bench": "planner",
        "devices": request.devices,
        "days": request.days,
        **dict.fromkeys(("cold_s", "one_change_ms", "whatif_ms", "sign_s", "bytes_per_plan", "dateutil_loop_s")),
        "goals": dict(GOALS),
        "counts": {},
        "how": {},
        "machine": {},
        "warnings": [],
        "problems": [],
    }


async def run(request: Request, report: Report) -> None:
    """Plan, filling in `report` as far as it goes; what went wrong stands in its `problems`."""
    began_at = time.monotonic()
    async with reported(report, deadline=DEADLINE, mend="; ask for fewer devices"):
        report["machine"] = usage.machine()
        for step in (_cold, _change, _naive):
            # Computing for minutes would leave nobody to be told to stop.
            await asyncio.to_thread(step, request, report)
    report["seconds"] = round(time.monotonic() - began_at, 1)


# --- everything ------------------------------------------------------------------------------------------------------


def _cold(request: Request, report: Report) -> None:
    say("making a province")
    made = province(request.devices)
    garbage.settle()  # as control does before it plans
    say("planning it")
    began_at, used = time.perf_counter(), time.thread_time()
    planning = begin(made.snapshot, request.window)
    report["cold_s"] = round(time.perf_counter() - began_at, 2)
    report["how"]["cold_cpu_s"] = round(time.thread_time() - used, 2)
    report["counts"] = counts(made, planning, request.days)
    report["how"]["peak_rss_mib"] = usage.memory(os.getpid()).peak_mib
    _sign(request, planning.plan, report)
    report["problems"] += missed("cold_s", report["cold_s"])


def counts(made: Province, planning: Planning, days: int) -> dict[str, int | float]:
    """Return what was planned, in numbers."""
    programmes = planning.plan.programmes
    known: dict[int, int] = {}
    for programme in programmes.values():
        if id(programme) not in known:
            known[id(programme)] = len({(slot.broadcast_id, slot.occurrence_at) for slot in programme})
    occurrences = sum(known[id(programme)] for programme in programmes.values())
    return {
        "communes": made.communes,
        "broadcasts": len(made.snapshot.broadcasts),
        "policies": len(made.snapshot.policies),
        "offers_answered": len(made.snapshot.offers),
        "places": len(made.snapshot.places),
        "emissions": sum(map(len, programmes.values())),
        "occurrences_per_device_and_day": round(occurrences / len(programmes) / days, 2),
        "distinct_programmes": len(known),
        "problems": len(planning.plan.problems),
    }


# --- signing ---------------------------------------------------------------------------------------------------------


def _sign(request: Request, plan: Plan, report: Report) -> None:
    """Sign the plans of some devices, as the planner does when it issues them."""
    say("signing some of the plans")
    key = Ed25519PrivateKey.generate()
    wire = lru_cache(maxsize=4096)(orders.wire_emission)
    issued_at = datetime.combine(FIRST_DAY, time_of_day(0), tzinfo=UTC) - timedelta(days=1)
    device_ids = {number: f"dev-{number:07}" for number in sample(sorted(plan.programmes))}
    sizes: list[float] = []
    began_at = time.perf_counter()
    for number, device_id in device_ids.items():
        signed = orders.sign_plan(
            DeviceId.parse(device_id),
            plan.programmes[number],
            serial=1,
            issued_at=issued_at,
            valid_until=issued_at + timedelta(days=request.days + 1),
            sign=lambda order: signing.sign(order, key),
            wire=wire,
        )
        sizes.append(len(signed.message))
    took = time.perf_counter() - began_at
    sizes.sort()
    report["sign_s"] = round(took / len(sizes) * len(plan.programmes), 1)
    report["bytes_per_plan"] = {f"p{each}": percentile(sizes, each) for each in (50, 99, 100)}
    report["how"]["signed"] = (
        f"{len(sizes)} plans in {took:.2f} s, in runs of neighbours; sign_s is that times"
        f" {len(plan.programmes) / len(sizes):.4g}, on one core"
    )


def sample(numbers: Sequence[DeviceNo]) -> list[DeviceNo]:
    """Return runs of neighbours, evenly apart; everybody, when there are few."""
    if len(numbers) <= SIGNED_RUNS * SIGNED_RUN:
        return list(numbers)
    step = len(numbers) // SIGNED_RUNS
    return [number for run in range(SIGNED_RUNS) for number in numbers[run * step : run * step + SIGNED_RUN]]


# --- one change ------------------------------------------------------------------------------------------------------


def _change(request: Request, report: Report) -> None:
    """Move a broadcast of the whole province by some minutes, again and again: every device is touched."""
    devices = min(request.devices, CHANGED_PROVINCE)
    say(f"changing one broadcast of a province of {devices} devices")
    made = province(devices)
    snapshot, broadcast = made.snapshot, made.changed
    planned = begin(snapshot, request.window)
    planning = planned
    zone = ZoneInfo(ZONE)
    changes: list[float] = []
    whatifs: list[float] = []
    for minute in range(1, CHANGES + 1):
        moved = replace(broadcast, recurrence=replace(broadcast.recurrence, times=(time_of_day(5, minute),)))
        snapshot = replace(snapshot, broadcasts=(moved, *snapshot.broadcasts[1:]))
        gc.collect()
        began_at = time.perf_counter()
        after = replan(planning, snapshot, {broadcast.broadcast_id})
        changes.append((time.perf_counter() - began_at) * 1000)
        found = impact.compare(planning.plan, after.plan, grounds=grounds(after), zone=zone)
        whatifs.append((time.perf_counter() - began_at) * 1000)
        if not found.units:
            report["problems"].append("a change of what everybody hears was no change")
        planning = after
    if planning.plan != begin(snapshot, request.window).plan:
        report["problems"].append("planning changes one by one came to another plan than planning everything")
    report["one_change_ms"] = round(percentile(sorted(changes), 50) or 0, 1)
    report["whatif_ms"] = round(percentile(sorted(whatifs), 50) or 0, 1)
    report["how"]["changed"] = (
        f"a broadcast to all {devices} devices of a province, moved {CHANGES} times; the medians. Of one change:"
        f" {min(changes):.0f} to {max(changes):.0f} ms, of what it does: {min(whatifs):.0f} to {max(whatifs):.0f} ms"
    )
    for name in ("one_change_ms", "whatif_ms"):
        report["problems"] += missed(name, report[name])


def grounds(planning: Planning) -> dict[DeviceNo, impact.Ground]:
    """Return where each device stands on the first day; devices of one unit share one object."""
    tree = planning.ground.units.on(planning.window.first)
    known = Policies(planning.snapshot.policies)
    by_unit = {
        unit.unit_id: impact.Ground(unit_id=tree.deciding(unit.unit_id), policy=known.at(unit.unit_id, tree))
        for unit in tree
    }
    return {
        device.device_no: by_unit[device.unit_id]
        for device in planning.snapshot.devices
        if device.device_no in planning.plan.programmes
    }


# --- the plain loop --------------------------------------------------------------------------------------------------


def _naive(request: Request, report: Report) -> None:
    """Expand every broadcast for every device with dateutil, on some of the devices."""
    say("a plain loop over dateutil")
    made = province(request.devices)
    every = max(1, request.devices // NAIVE_DEVICES)
    devices = made.snapshot.devices[::every]
    naive = planner_naive.prepare(made.snapshot)
    began_at = time.perf_counter()
    emissions = sum(len(planner_naive.programme(naive, device, request.window)) for device in devices)
    took = time.perf_counter() - began_at
    report["dateutil_loop_s"] = round(took * request.devices / len(devices), 1)
    report["how"]["dateutil_loop"] = (
        f"{len(devices)} devices in {took:.2f} s ({emissions} emissions), times {request.devices / len(devices):.4g}: each"
        " broadcast that means a device is expanded for it and its items placed; offers, policies, order, shares and"
        " what is wrong are left out"
    )


def missed(name: str, value: float | None) -> list[str]:
    """Return what is wrong with a figure that misses its goal."""
    goal = GOALS[name]
    return [f"{name} is {value:g}, and was to be at most {goal:g}"] if value is not None and value > goal else []
