"""`./loa bench emergency`: from a person's request over HTTP to the first sample on every cluster of a province.

Everything is real: control, ingest, PostgreSQL, Mosquitto with our configuration, one TLS session for each device, every
device verifying the signature itself and playing what lies in its cache. A start is what the device itself writes down
when the first sample has left its decoder, in milliseconds of the machine's clock, which all devices of the bench share;
it is measured from the moment before the client begins its request, so that nothing of the platform's own work is left
out. Beside it, in the same run, the broker alone fans the same bytes out to as many simple receivers, which verify nothing,
and again with each of them verifying the signature.
"""

import asyncio
import contextlib
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import httpx

from services.control.delivery import connection as delivery
from services.local.bench import emergency_store, usage
from services.local.bench.emergency_fanout import Fanout, Receivers, have_room_beside, receivers
from services.local.bench.emergency_receivers import now_us
from services.local.bench.emergency_site import EmergencySite, emergency_site, fleets
from services.local.bench.emergency_trace import AlertTrace, sounded, spread
from services.local.bench.measurement import BenchFailed
from services.local.bench.reporting import Report, reported, say, until, until_true
from services.local.bench.statistics import percentile, percentiles, ratio, rounded
from services.local.broker import installed_version
from services.local.demo import DemoFailed
from services.local.office import OfficeFailed
from services.local.platform import DATABASE
from services.shared.clock import utc_now

DEADLINE, DEADLINE_OF_MANY = timedelta(seconds=440), timedelta(seconds=1_200)
LAST_ROUND_BEFORE_END = timedelta(seconds=70)
PREPARED_WITHIN = timedelta(seconds=400)

GOAL_MS = {2_500: 500, 10_000: 2_000}  # by devices
GOAL_RATIO = 1.5
FEWEST, MOST = 10, 10_000
ROUNDS = 5
MANY, ROUNDS_OF_MANY = 5_000, 3

VALID = timedelta(minutes=10)  # of an alert that is measured; it is cancelled when everybody has begun it
SOUND_WITHIN = timedelta(seconds=30)
QUIET_WITHIN = timedelta(seconds=60)
ENDED_WITHIN = timedelta(seconds=30)

# While uplinks flap: how often, how long, and the alerts that everybody has to sound all the same.
GAP_S, LENGTH_S = 8.0, 4.0
ONCE_VALID = timedelta(seconds=30)
REPEATED_VALID = timedelta(seconds=50)
REPEAT_S = 5
AT_THE_END = timedelta(seconds=3)  # who has an uplink only so shortly before the end may hear of it or not


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is to be measured."""

    clusters: int
    flapping: float = 0.0  # share of them whose uplinks come and go
    rounds: int | None = None
    processes: int | None = None  # of devices, and of simple receivers


def empty_report(request: Request) -> Report:
    """Return a report of a run that has not measured anything yet."""
    return {
        "bench": "emergency",
        "clusters": request.clusters,
        "flapping": request.flapping,
        **dict.fromkeys(
            (
                "p50_ms", "p99_ms", "max_ms", "after_answer_p99_ms", "reached", "reached_by_journal", "reached_by_control",
                "addressed", "raw_fanout_p50_ms", "raw_fanout_p99_ms", "raw_received", "raw_beside", "ratio",
                "verified_fanout_p50_ms", "verified_fanout_p99_ms", "verified_received", "ratio_to_verified",
                "cancel_p50_ms", "cancel_p99_ms",
            )
        ),
        "parts_ms": {},
        "cpu_us_per_device": {},
        "others_busy_share": None,
        "rounds": {},
        "flaps": {},
        "setup_s": {},
        "processes": {},
        "machine": {},
        "warnings": [],
        "problems": [],
    }  # fmt: skip


async def run(request: Request, report: Report) -> None:
    """Measure, filling in `report` as far as it goes; what went wrong stands in its `problems`."""
    began_at = time.monotonic()
    async with reported(report, deadline=_deadline(request), mend="; on a slower machine ask for fewer --clusters"):
        try:
            await _measure(request, report, began_at=began_at)
        except (OfficeFailed, DemoFailed, delivery.BrokerError) as error:
            raise BenchFailed(str(error)) from error
        except httpx.HTTPError as error:
            raise BenchFailed(f"{type(error).__name__}: {error}") from error
    report["seconds"] = round(time.monotonic() - began_at, 1)


async def _measure(request: Request, report: Report, *, began_at: float) -> None:
    report["machine"] = usage.machine() | {"mosquitto": ".".join(map(str, installed_version()))}
    processes = request.processes or usage.cores()
    report["processes"] = {"fleets": processes, "receivers": processes}
    flapping = round(request.clusters * request.flapping)
    setup_s = report["setup_s"]
    say("preparing a platform and a province")
    async with AsyncExitStack() as stack:
        site = await stack.enter_async_context(
            emergency_site(clusters=request.clusters, flapping=flapping, setup_s=setup_s)
        )
        bench = _Bench(site, report, Fanout(site))
        bench.database = await asyncpg.connect(site.platform.postgres.dsn(DATABASE))
        stack.push_async_callback(bench.database.close, timeout=5)
        await bench.make_template()
        is_beside = report["raw_beside"] = have_room_beside(request.clusters)
        wanted = request.rounds or (ROUNDS if request.clusters < MANY else ROUNDS_OF_MANY)
        if not is_beside:
            report["warnings"].append(
                f"only {usage.open_files()} open files: the broker alone was measured before the devices, not between"
            )
            async with receivers(site, processes=processes, beside=False) as raw:
                await bench.settle_receivers(raw)
                message = await bench.a_message()
                for number in range(1, wanted + 1):
                    await bench.fanout.measure(raw, message, number=number)
        await stack.enter_async_context(fleets(site, processes=processes, gap_s=GAP_S, length_s=LENGTH_S))
        await bench.prepare()
        beside: Receivers | None = None
        if is_beside:
            beside = await stack.enter_async_context(receivers(site, processes=processes, beside=True))
            await bench.settle_receivers(beside)
        for number in range(1, wanted + 1):
            if time.monotonic() - began_at > (_deadline(request) - LAST_ROUND_BEFORE_END).total_seconds():
                report["warnings"].append(f"{number - 1} of {wanted} rounds: there was no time for more")
                break
            message = await bench.round(number)
            if beside is not None:
                await bench.fanout.measure(beside, message, number=number)
        bench.sum_up()
        if flapping:
            await bench.flap()


@dataclass(slots=True)
class _Bench:
    """The parts of the measurement, in their order."""

    site: EmergencySite
    report: Report
    fanout: Fanout
    database: Any = None
    sound: str = ""
    total_ms: list[float] = field(default_factory=list)
    after_answer_ms: list[float] = field(default_factory=list)
    cancel_ms: list[float] = field(default_factory=list)
    parts: dict[str, list[float]] = field(default_factory=dict)

    async def make_template(self) -> None:
        """An alert prepared beforehand, whose sound devices fetch and keep; here a tone without words."""
        say("preparing an alert")
        template = await self.site.operator.post(
            "/alert-templates",
            {
                "unit_id": str(self.site.root),
                "name": "Lũ khẩn cấp",
                "event": "Lũ",
                "texts": [{"headline": "Lũ khẩn cấp", "spoken": ""}],
            },
        )
        self.sound = template["texts"][0]["media_sha256"]

    async def settle_receivers(self, raw: Receivers) -> None:
        """Wait until every simple receiver has subscribed."""
        began = utc_now()
        say(f"connecting {raw.count} simple receivers")
        await until_true(lambda: raw.ready == raw.count, PREPARED_WITHIN, "every simple receiver has subscribed")
        self.report["setup_s"]["receivers"] = _seconds(utc_now() - began)

    async def prepare(self) -> None:
        """Connect everybody, and have each sound an alert once: whoever has, holds keys, configuration and the sound."""
        site = self.site
        began = utc_now()
        say(f"connecting {len(site.devices)} devices")
        await until(self._all_connected, PREPARED_WITHIN, "every device is connected")
        self.report["setup_s"]["devices_connected"] = _seconds(utc_now() - began)
        say("a first alert, to see that everybody has what it takes")
        alert_id = (await self._issue(VALID))["alert_id"]
        try:
            await until_true(
                lambda: len(site.look().alert(alert_id).started) == len(site.devices),
                PREPARED_WITHIN,
                "every device has sounded a first alert",
                progress=lambda: f"{len(site.trace.alert(alert_id).started)} of {len(site.devices)} devices ready",
            )
        except BenchFailed:
            reach = await site.operator.get(f"/alerts/{alert_id}/reach", limit=1)
            classes = {each["reason"]: each["devices"] for each in reach["classes"]}
            self.report["warnings"].append(f"of the first alert control knows {classes}")
            self.report["warnings"] += [f"{each}" for each in await site.statuses()]
            raise
        await self._cancel(alert_id)
        await self._quiet()
        self.report["setup_s"]["devices_ready"] = _seconds(utc_now() - began)

    async def a_message(self) -> bytes:
        """An alert as control signs it, while nobody listens."""
        alert_id = (await self._issue(VALID))["alert_id"]
        message = await emergency_store.message(self.database, alert_id)
        await self._cancel(alert_id)
        return message

    async def round(self, number: int) -> bytes:
        """One alert for everybody: measured, counted by both sides, cancelled. Returns its bytes."""
        site, report = self.site, self.report
        await self._quiet()
        cpu, busy_s, cpu_at = site.cpu_s(), usage.machine_busy_s(), time.monotonic()
        asked_us = now_us()
        alert_id = (await self._issue(VALID))["alert_id"]
        answered_us = now_us()
        everybody = len(site.devices)
        with contextlib.suppress(BenchFailed):  # who did not is counted below
            await until_true(
                lambda: len(site.look().alert(alert_id).started) >= everybody, SOUND_WITHIN, "everybody sounds"
            )
        spent = {name: used - cpu[name] for name, used in site.cpu_s().items()}
        others = usage.machine_busy_s() - busy_s - sum(spent.values())
        reach = await self._reach(alert_id, everybody)
        alert = site.trace.alert(alert_id)
        published_us = await emergency_store.published_us(self.database, alert_id)
        taken = alert.results(1)["taken"]
        cancelled_us = now_us()
        await self._cancel(alert_id)
        with contextlib.suppress(BenchFailed):
            await until_true(
                lambda: len(site.look().alert(alert_id).told_at(2, "cancelled")) >= len(alert.started),
                ENDED_WITHIN,
                "everybody says that it is over",
            )
        cancelled = alert.told_at(2, "cancelled")
        steady = {device: at_us for device, at_us in alert.first_starts().items() if device in set(site.steady)}
        total = sorted((at_us - asked_us) / 1_000 for at_us in steady.values())
        cancel = sorted((at_us - cancelled_us) / 1_000 for at_us in cancelled)
        self.total_ms += total
        self.after_answer_ms += [(at_us - answered_us) / 1_000 for at_us in steady.values()]
        self.cancel_ms += cancel
        parts = _parts(alert, steady, asked_us=asked_us, answered_us=answered_us, published_us=published_us)
        for name, values in parts.items():
            self.parts.setdefault(name, []).extend(values)
        report["rounds"][str(number)] = {
            **percentiles(total),
            "reached_by_journal": len(alert.started),
            "reached_by_control": reach["reached"],
            "addressed": reach["addressed"],
            "told_taken": taken,
            "cancelled": len(cancelled),
            "others_busy_share": round(others / usage.cores() / (time.monotonic() - cpu_at), 2),
            "cpu_us_per_device": {name: round(used * 1e6 / everybody) for name, used in spent.items()},
            **{name: rounded(percentile(sorted(values), 99)) for name, values in parts.items()},
        }
        say(f"round {number}: p99 {rounded(percentile(total, 99))} ms, {len(alert.started)} of {everybody} sounded")
        return await emergency_store.message(self.database, alert_id)

    def sum_up(self) -> None:
        """Everything the rounds say together, and which goals were missed."""
        report, rounds = self.report, list(self.report["rounds"].values())
        if not rounds:
            report["problems"].append("no round was measured")
            return
        report |= {**percentiles(sorted(self.total_ms)), **self.fanout.summary()}
        report["after_answer_p99_ms"] = rounded(percentile(sorted(self.after_answer_ms), 99))
        report["ratio"] = ratio(report["p99_ms"], report["raw_fanout_p99_ms"])
        report["ratio_to_verified"] = ratio(report["p99_ms"], report["verified_fanout_p99_ms"])
        for name in ("reached_by_journal", "reached_by_control", "addressed"):
            report[name] = min(each[name] for each in rounds)
        report["reached"] = min(report["reached_by_journal"], report["reached_by_control"])
        cancel = percentiles(sorted(self.cancel_ms))
        report |= {"cancel_p50_ms": cancel["p50_ms"], "cancel_p99_ms": cancel["p99_ms"]}
        report["parts_ms"] = {name: percentiles(sorted(values)) for name, values in self.parts.items()}
        report["cpu_us_per_device"] = {
            name: round(sum(each["cpu_us_per_device"][name] for each in rounds) / len(rounds))
            for name in rounds[0]["cpu_us_per_device"]
        }
        report["others_busy_share"] = max(each["others_busy_share"] for each in rounds)
        report["problems"] += missed(report)

    async def flap(self) -> None:
        """One alert that sounds once and one that is repeated, while uplinks come and go: who sounded how often."""
        site, flaps = self.site, self.report["flaps"]
        sound_us = await emergency_store.duration_us(self.database, self.sound)
        for name, valid, repeat_s in (("once", ONCE_VALID, None), ("repeated", REPEATED_VALID, REPEAT_S)):
            say(f"an alert that is to sound {name}, with {len(site.flapping)} uplinks that come and go")
            await self._quiet()
            begin_us = now_us()
            answer = await self._issue(valid, repeat_s=repeat_s)
            over_at = datetime.fromisoformat(answer["valid_until"])
            await asyncio.sleep((over_at - utc_now()).total_seconds() + AT_THE_END.total_seconds())
            await self._quiet()
            trace, span = site.look(), (begin_us, round(over_at.timestamp() * 1e6))
            found = sounded(
                trace,
                answer["alert_id"],
                site.devices,
                valid=span,
                margin_us=round(AT_THE_END / timedelta(microseconds=1)),
                period_us=None if repeat_s is None else sound_us + repeat_s * 1_000_000,
            )
            first = trace.alert(answer["alert_id"]).first_starts()
            flaps[name] = asdict(found) | {
                "devices": len(site.devices),
                "dropped": trace.dropped(site.flapping, span),
                "began_after_5_s": sum(at_us - begin_us > 5_000_000 for at_us in first.values()),
            }
            if not found.is_exact:
                self.report["problems"].append(f"of {found.online} devices online, {found.once} sounded it {name}")

    # --- with control ------------------------------------------------------------------------------------------------

    async def _issue(self, valid: timedelta, *, repeat_s: int | None = None) -> Any:
        return await self.site.operator.post(
            "/alerts",
            {
                "unit_id": str(self.site.root),
                "event": "Lũ",
                "category": "met",
                "urgency": "immediate",
                "severity": "extreme",
                "certainty": "observed",
                "texts": [{"headline": "Lũ khẩn cấp", "description": "Nước sông lên.", "media_sha256": self.sound}],
                "audience": {"areas": [{"units": [str(self.site.root)]}]},
                "valid_until": (utc_now() + valid).isoformat(),
                "repeat_interval_s": repeat_s,
            },
        )

    async def _cancel(self, alert_id: str) -> None:
        await self.site.operator.post(f"/alerts/{alert_id}/cancel", headers={"If-Match": "*"})

    async def _reach(self, alert_id: str, everybody: int) -> Mapping[str, Any]:
        """What control knows, once it knows of everybody or does not learn more."""
        reach: Mapping[str, Any] = {}

        async def is_complete() -> bool:
            nonlocal reach
            reach = await self.site.operator.get(f"/alerts/{alert_id}/reach", limit=1)
            return bool(reach["is_counted"] and reach["reached"] == reach["addressed"] == everybody)

        try:
            await until(is_complete, SOUND_WITHIN, "control knows that everybody was reached")
        except BenchFailed:
            self.report["warnings"].append(f"classes of reach: {reach['classes']}")
        return reach

    # --- with devices ------------------------------------------------------------------------------------------------

    async def _all_connected(self) -> bool:
        statuses = await self.site.statuses()
        # Of those whose uplinks come and go some are always away.
        steady = sum(
            each["connected"] for group, each in zip(self.site.groups, statuses, strict=True) if not _flaps(group.name)
        )
        return bool(steady == len(self.site.steady))

    async def _quiet(self) -> None:
        """Wait until the platform has receipted all that steady devices have to tell."""

        async def is_quiet() -> bool:
            statuses = await self.site.statuses()
            return not any(
                each["journal_pending"]
                for group, each in zip(self.site.groups, statuses, strict=True)
                if not _flaps(group.name)
            )

        await until(is_quiet, QUIET_WITHIN, "every device has its receipts")


def _deadline(request: Request) -> timedelta:
    """How long everything may take; connecting alone takes a minute for 5,000 devices, and again for the receivers."""
    return DEADLINE if request.clusters < MANY else DEADLINE_OF_MANY


def _flaps(name: str) -> bool:
    return name.endswith("flapping")


def _parts(
    alert: AlertTrace, starts: Mapping[str, int], *, asked_us: int, answered_us: int, published_us: int | None
) -> dict[str, list[float]]:
    """Where the time went, in milliseconds: of control's way, of the broker's, and of each device's own."""
    first_us = min(alert.came_us.values(), default=asked_us)
    parts = {
        "request_to_answer": [(answered_us - asked_us) / 1_000],
        "request_to_first_packet": [(first_us - asked_us) / 1_000],
        "first_packet_to_packet": sorted(
            (at_us - first_us) / 1_000 for device, at_us in alert.came_us.items() if device in starts
        ),
        # Devices write whole milliseconds down, which are on average half of one ago.
        "packet_to_sample": [each + 0.5 for each in spread(starts, alert.came_us)],
    }
    if published_us is not None:
        parts["request_to_broker_done"] = [(published_us - asked_us) / 1_000]
    return parts


def missed(report: Mapping[str, Any]) -> list[str]:
    """Return what a finished report says against the goals."""
    found = []
    clusters = report["clusters"]
    goal_ms = next((goal for most, goal in GOAL_MS.items() if clusters <= most), None)
    if goal_ms is not None and (report["p99_ms"] is None or report["p99_ms"] > goal_ms):
        found.append(f"p99 was {report['p99_ms']} ms, and not within {goal_ms} ms")
    if report["ratio"] is None or report["ratio"] > GOAL_RATIO:
        found.append(f"p99 was {report['ratio']} times the broker's own, and not within {GOAL_RATIO} times")
    for name, whose in (("reached_by_journal", "devices' own journals"), ("reached_by_control", "control's reach")):
        if report[name] != clusters:
            found.append(f"by {whose} {report[name]} of {clusters} were reached")
    for name, what in (("raw_received", "got"), ("verified_received", "verified")):
        if report[name] != clusters:
            found.append(f"{report[name]} of {clusters} simple receivers {what} what the broker was given")
    return found


def _seconds(length: timedelta) -> float:
    return round(length.total_seconds(), 1)
