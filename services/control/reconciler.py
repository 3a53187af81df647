"""The reconciler: follows what devices report and puts a verdict on every emission.

*Following* reads committed events after a cursor, keeps the reports, weighs the emissions they are about, and moves the
cursor, all in one transaction: an event is dealt with exactly once, by one replica at a time. *Classifying* gives a
verdict to what nobody reported, when its time is up; replicas share that by rows.

A late report simply leads to another weighing of the same emission.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

from schemas.events import EventType, MessageKind, RefusalReason
from services.control import device_media_store, report_store
from services.control.engine_settings import ProofSettings
from services.control.metrics import ControlMetrics
from services.control.planning.changes import EmissionKey
from services.control.planning.reconcile import PATIENCE, VERDICT_WITHIN, Standing, Verdict, began, weigh
from services.control.planning.reports import BOOTED, PLAYS, POWER_CHANGED, emission_key, read_power
from services.control.report_store import Candidate, FollowedEvent, PlanAnswer, PlayReport, PowerTold
from services.control.turns import take_turns, take_turns_listening
from services.shared.clock import utc_now
from services.shared.database.pool import Connection, Database
from services.shared.settings import DatabaseSettings

CHANNEL = "telemetry_committed"
PLAN_ACCEPTED = EventType.PLAN_ACCEPTED.name.lower()
REFUSED = EventType.REFUSED.name.lower()
MEDIA_STORED = EventType.MEDIA_STORED.name.lower()
MEDIA_FAILED = EventType.MEDIA_FAILED.name.lower()
READ = PLAYS | {PLAN_ACCEPTED, REFUSED, BOOTED, POWER_CHANGED, MEDIA_STORED, MEDIA_FAILED}

# What explains a silence explains slots that lie this far back at most: a plan is no older, and neither is an outage that
# anybody asks about.
EXPLAINS = timedelta(days=10)
# Emissions that one turn weighs again because their devices explained something. Beyond that they wait for the next word.
EXPLAINED_AT_ONCE = 20_000

# How long to leave an older transaction alone that hides what we were woken for.
SETTLING = timedelta(milliseconds=100)

log = logging.getLogger(__name__)


async def run_reconciler(
    database: Database, *, listening: DatabaseSettings, settings: ProofSettings, metrics: ControlMetrics
) -> None:
    """Follow and classify until cancelled."""
    reconciler = Reconciler(database, settings=settings, metrics=metrics)
    async with asyncio.TaskGroup() as group:
        group.create_task(
            take_turns_listening(
                "reconciler",
                lambda: reconciler.follow_once(now=utc_now()),
                every=settings.turn_every,
                listening=listening,
                channels=[CHANNEL],
                metrics=metrics,
            )
        )
        group.create_task(
            take_turns(
                "classifier",
                lambda: reconciler.classify_once(now=utc_now()),
                every=settings.classify_every,
                wake=asyncio.Event(),
                metrics=metrics,
            )
        )


class Reconciler:
    """One reconciler of one process."""

    def __init__(self, database: Database, *, settings: ProofSettings, metrics: ControlMetrics) -> None:
        self._database = database
        self._settings = settings
        self._metrics = metrics

    async def follow_once(self, *, now: datetime) -> bool:
        """Deal with the next committed events; returns whether there may be more."""
        async with self._database.transaction() as connection:
            place = await report_store.lock_cursor(connection)
            if place is None:
                return False
            events = await report_store.load_events(connection, place, kinds=READ, limit=self._settings.batch)
            if events:
                await self._deal_with(connection, events, now=now)
                place = events[-1].place
            is_early = await report_store.has_unsettled(connection, place)
        is_full = len(events) == self._settings.batch
        if is_early and not is_full:
            # We were woken for events that a transaction older than theirs still hides; nobody will wake us for its end.
            await asyncio.sleep(SETTLING.total_seconds())
        return is_early or is_full

    async def _deal_with(self, connection: Connection, events: Sequence[FollowedEvent], *, now: datetime) -> None:
        reports = self._reports(events)
        await report_store.keep_reports(connection, reports)
        answers = [answer for event in events if (answer := _answer(event)) is not None]
        await report_store.keep_answers(connection, answers)
        power = _power(events)
        await report_store.keep_power(connection, power)
        await device_media_store.note(connection, _media(events))
        verdicts = await self._weigh_named(connection, reports, now=now)
        verdicts += await self._weigh_silent(connection, [*answers, *power], now=now)
        await report_store.move_cursor(connection, events[-1].place)
        self._count(events, reports, verdicts, now=now)

    async def classify_once(self, *, now: datetime) -> bool:
        """Give a verdict to emissions nobody reported in time; returns whether there may be more."""
        async with self._database.transaction() as connection:
            candidates = await report_store.load_overdue(
                connection, ended_before=now - PATIENCE, limit=self._settings.batch
            )
            verdicts = await self._weigh(connection, candidates, now=now)
            overdue = await report_store.count_overdue(connection, ended_before=now - VERDICT_WITHIN)
        self._count_verdicts(verdicts)
        self._metrics.overdue_emissions.set(overdue)
        if verdicts:
            log.info("emissions_classified", extra={"emissions": len(verdicts)})
        return len(candidates) == self._settings.batch

    def _reports(self, events: Sequence[FollowedEvent]) -> list[PlayReport]:
        reports: list[PlayReport] = []
        for event in events:
            if event.kind not in PLAYS or event.body is None or event.standing is None:
                continue
            key = emission_key(event.body)
            if key is None:
                continue  # a command, an alert or the fallback played: no emission
            if event.standing is Standing.FOREIGN:
                log.warning("foreign_play_report", extra={"device_no": event.device_no, "principal": event.principal})
            reports.append(PlayReport(event=event, key=(*key, event.device_no)))
        return reports

    async def _weigh_named(
        self, connection: Connection, reports: Sequence[PlayReport], *, now: datetime
    ) -> list[tuple[EmissionKey, Verdict]]:
        keys = {report.key for report in reports if report.event.standing is not Standing.FOREIGN}
        candidates = await report_store.load_named(connection, keys)
        for broadcast_id, occurrence_at, item, device_no in keys - {candidate.key for candidate in candidates}:
            self._metrics.unplanned_plays.inc()
            log.warning(
                "play_without_plan",
                extra={
                    "broadcast_id": str(broadcast_id),
                    "occurrence_at": occurrence_at.isoformat(),
                    "item": item,
                    "device_no": device_no,
                },
            )
        return await self._weigh(connection, candidates, now=now)

    async def _weigh_silent(
        self, connection: Connection, told: Sequence[PlanAnswer | PowerTold], *, now: datetime
    ) -> list[tuple[EmissionKey, Verdict]]:
        """Weigh again what nobody reported, of devices that have told what may explain it."""
        since = {each.event.device_no: now - EXPLAINS for each in told if each.event.standing is not Standing.FOREIGN}
        if not since:
            return []
        candidates = await report_store.load_silent(
            connection, since, ended_before=now - PATIENCE, limit=EXPLAINED_AT_ONCE
        )
        return await self._weigh(connection, candidates, now=now)

    async def _weigh(
        self, connection: Connection, candidates: Sequence[Candidate], *, now: datetime
    ) -> list[tuple[EmissionKey, Verdict]]:
        if not candidates:
            return []
        reports = await report_store.load_reports(connection, [candidate.key for candidate in candidates])
        circumstances = await report_store.load_circumstances(connection, candidates)
        verdicts: list[tuple[EmissionKey, Verdict]] = []
        starts: list[tuple[EmissionKey, datetime]] = []
        for candidate in candidates:
            key = candidate.key
            verdict = weigh(candidate.expected, reports[key], circumstances[key], now=now)
            if verdict is not None:
                verdicts.append((key, verdict))
            elif (started_at := began(reports[key])) is not None:
                starts.append((key, started_at))
        await report_store.conclude(connection, verdicts, now=now)
        await report_store.note_starts(connection, starts)
        return verdicts

    def _count(
        self,
        events: Sequence[FollowedEvent],
        reports: Sequence[PlayReport],
        verdicts: Sequence[tuple[EmissionKey, Verdict]],
        *,
        now: datetime,
    ) -> None:
        for event in events:
            self._metrics.followed_events.labels(event.kind).inc()
        for report in reports:
            self._metrics.play_reports.labels(report.event.standing).inc()
        self._count_verdicts(verdicts)
        self._metrics.event_lag_seconds.set((now - max(event.received_at for event in events)).total_seconds())

    def _count_verdicts(self, verdicts: Sequence[tuple[EmissionKey, Verdict]]) -> None:
        for _, verdict in verdicts:
            self._metrics.verdicts.labels(verdict.outcome, verdict.evidence or "none").inc()


def _media(events: Sequence[FollowedEvent]) -> dict[device_media_store.File, datetime | None]:
    """What was last said about each media file on each device: when it was stored, or that it could not be fetched."""
    told: dict[device_media_store.File, datetime | None] = {}
    for event in events:
        if event.kind not in (MEDIA_STORED, MEDIA_FAILED) or event.body is None:
            continue
        if event.standing in (Standing.DEVICE, Standing.GATEWAY):
            try:
                sha256 = bytes.fromhex(event.body["media"])
            except (KeyError, TypeError, ValueError):
                continue  # a newer ingest may write it otherwise
            told[event.device_no, sha256] = event.received_at if event.kind == MEDIA_STORED else None
    return told


def _power(events: Sequence[FollowedEvent]) -> list[PowerTold]:
    """What devices themselves said about their power, by a clock that can be trusted."""
    return [
        PowerTold(event=event, report=report)
        for event in events
        if event.standing is Standing.DEVICE and event.is_clock_trusted and event.body is not None
        if (report := read_power(event.kind, event.body)) is not None
    ]


def _answer(event: FollowedEvent) -> PlanAnswer | None:
    """What an event says to a plan, if it does."""
    if event.body is None or event.standing is None:
        return None
    if event.kind == PLAN_ACCEPTED:
        return PlanAnswer(event=event, serial=event.body.get("serial"), refusal=None)
    if event.kind == REFUSED and event.body.get("refused") == MessageKind.PLAN.name.lower():
        reason = str(event.body.get("reason", "")).upper()
        if reason in RefusalReason.__members__:
            return PlanAnswer(event=event, serial=event.body.get("serial"), refusal=RefusalReason[reason])
    return None
