"""The tester: has tests of alerts issued when units' timetables say so, and weighs them when they are over.

Each time a test is due is a row that one replica writes, in the transaction that issues the test: so it is issued once, or
by the next replica if the first dies with it. One that could not be issued within a quarter of an hour is noted as missed.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from schemas.identifiers import UnitId
from services.control import alerts, audit, policy_store
from services.control.alerting import alert_store, reach_store, testing, timetable, timetable_store
from services.control.alerting.model import Alert, Origin, State
from services.control.alerting.timetable import TESTS, Due
from services.control.alerting.weighing import OUTCOMES, weigh
from services.control.alerts import By
from services.control.audit import Entry
from services.control.errors import Refusal
from services.control.metrics import ControlMetrics
from services.control.planning.policies import Policies
from services.control.trust.keyring import Keyring
from services.control.turns import take_turns
from services.control.unit_directory import UnitDirectory
from services.control.units import UnitTree
from services.shared.clock import utc_now
from services.shared.database.pool import Connection, Database

TURN_EVERY = timedelta(seconds=5)
# After its end: so long a device's last word may take to come in.
SETTLING = timedelta(seconds=30)
# So long a word that was spoken in time still counts, however late it comes in.
LATE_WORDS = timedelta(days=2)
KEPT = timedelta(days=400)  # tests and what devices said of them
COUNT_EVERY = timedelta(minutes=1)
_LISTED = 100  # devices named in one entry of the audit

log = logging.getLogger(__name__)


async def run_alert_tester(
    database: Database,
    *,
    time_zone: ZoneInfo,
    keyring: Keyring,
    metrics: ControlMetrics,
    wake_alerts: Callable[[], None],
) -> None:
    """Issue and weigh tests until cancelled."""
    tester = AlertTester(database, time_zone=time_zone, keyring=keyring, metrics=metrics, wake_alerts=wake_alerts)
    async with asyncio.TaskGroup() as group:
        for name, turn in (("alert_tester", tester.test_once), ("alert_test_weigher", tester.weigh_once)):
            group.create_task(
                take_turns(
                    name,
                    lambda turn=turn: turn(now=utc_now()),  # type: ignore[misc]
                    every=TURN_EVERY,
                    wake=asyncio.Event(),
                    metrics=metrics,
                )
            )


class AlertTester:
    """The tester of one process."""

    def __init__(
        self,
        database: Database,
        *,
        time_zone: ZoneInfo,
        keyring: Keyring,
        metrics: ControlMetrics,
        wake_alerts: Callable[[], None],
    ) -> None:
        self._database = database
        self._zone = time_zone
        self._directory = UnitDirectory(time_zone)
        self._keyring = keyring
        self._metrics = metrics
        self._wake_alerts = wake_alerts
        self._counted_at: datetime | None = None
        for purpose, outcome in itertools.product(TESTS, timetable.RUN_OUTCOMES):
            metrics.alert_tests.labels(purpose.name.lower(), outcome)

    # --- issuing -----------------------------------------------------------------------------------------------------

    async def test_once(self, *, now: datetime) -> bool:
        """Issue what is due, and note what was missed."""
        async with self._database.connection() as connection:
            tree = await self._directory.tree(connection, now=now)
            said = await timetable_store.timetables(connection)
            open_ones = [
                each
                for each in timetable.due(said, tree, self._zone, now=now)
                if not await timetable_store.is_noted(connection, each)
            ]
        for each in open_ones:
            if each.is_missed(now=now):
                await self._miss(each, now=now)
            else:
                await self._test(each, tree, now=now)
        return False

    async def _test(self, due: Due, tree: UnitTree, *, now: datetime) -> None:
        try:
            outcome = await self._issue(due, tree, now=now)
        except Refusal as refusal:
            outcome = "refused"
            codes = ", ".join(fault.code for fault in refusal.faults) or refusal.code
            async with self._database.transaction() as connection:
                if not await timetable_store.claim(connection, due, outcome, detail=codes, now=now):
                    return
        if outcome is not None:
            self._note(due, outcome)

    async def _issue(self, due: Due, tree: UnitTree, *, now: datetime) -> str | None:
        """Issue it; what became of it, or None where another replica deals with it."""
        async with self._database.transaction() as connection:
            allowed = Policies(await policy_store.load_policies(connection))
            objecting = timetable.objecting(due, tree, allowed, self._zone)
            if due.unit_id in objecting:
                is_ours = await timetable_store.claim(connection, due, "not_allowed", now=now)
                return "not_allowed" if is_ours else None
            if not await timetable_store.claim(connection, due, "issued", now=now):
                return None
            draft = await testing.draft(
                connection,
                due.unit_id,
                due.purpose,
                due.audience(*objecting),
                times=due.times,
                origin=Origin.SCHEDULE,
                now=now,
            )
            alert = await alerts.issue(connection, draft, by=By(tree=tree), keyring=self._keyring, now=now)
            await timetable_store.note_issued(connection, due, alert.alert_id)
        self._wake_alerts()
        return "issued"

    async def _miss(self, due: Due, *, now: datetime) -> None:
        async with self._database.transaction() as connection:
            # Before the first one ever there was nobody to issue it: the installation is younger than the time.
            if not await timetable_store.has_run_before(connection, due):
                return
            if not await timetable_store.claim(connection, due, "missed", now=now):
                return
        self._note(due, "missed")

    def _note(self, due: Due, outcome: str) -> None:
        self._metrics.alert_tests.labels(due.purpose.name.lower(), outcome).inc()
        log.info(
            "alert_test_dealt_with",
            extra={
                "unit_id": str(due.unit_id),
                "purpose": due.purpose.name.lower(),
                "due_at": due.due_at.isoformat(),
                "outcome": outcome,
            },
        )

    # --- weighing ----------------------------------------------------------------------------------------------------

    async def weigh_once(self, *, now: datetime) -> bool:
        """Put on record what tests that are over came to, and tell monitoring who fails."""
        async with self._database.connection() as connection:
            tree = await self._directory.tree(connection, now=now)
        async with self._database.transaction() as connection:
            await timetable_store.take_late_words(connection, tested_after=now - LATE_WORDS)
            over = await timetable_store.to_weigh(connection, over_before=now - SETTLING)
            for alert_id in over:
                alert = await alert_store.alert(connection, alert_id)
                await self._weigh(connection, alert, tree, now=now)
            await timetable_store.forget(connection, before=now - KEPT)
        if over or self._counted_at is None or now >= self._counted_at + COUNT_EVERY:
            self._counted_at = now
            async with self._database.connection() as connection:
                failing = await timetable_store.failing(connection, _everywhere(tree))
            self._metrics.alert_test_failing.set(len(failing))
        return bool(over)

    async def _weigh(self, connection: Connection, alert: Alert, tree: UnitTree, *, now: datetime) -> None:
        # One that was cancelled says nothing about anybody.
        everywhere = _everywhere(tree) if alert.state is not State.CANCELLED else []
        meant = await timetable_store.meant(connection, alert.alert_id)
        found = (await reach_store.reach(connection, alert, everywhere, now=now)).devices
        results = [(meant[each.device_id], weigh(each)) for each in found if each.device_id in meant]
        purpose = alert.draft.purpose
        before = {each.device_id for each in await timetable_store.failing(connection, everywhere)}
        await timetable_store.add_results(
            connection, alert.alert_id, purpose, results, tested_at=alert.first_issued_at, now=now
        )
        after = {each.device_id for each in await timetable_store.failing(connection, everywhere)}
        counts = {name: sum(each.outcome == name for _, each in results) for name in OUTCOMES}
        for name, count in counts.items():
            self._metrics.alert_test_results.labels(purpose.name.lower(), name).inc(count)
        await audit.record(
            connection,
            Entry(
                action="alert_test_weighed",
                subject=f"alert:{alert.alert_id}",
                unit_id=alert.draft.unit_id,
                after={
                    **counts,
                    "began_to_fail": sorted(after - before)[:_LISTED],
                    "fail_no_longer": sorted(before - after)[:_LISTED],
                },
            ),
            actor=None,
            origin=None,
            at=now,
        )
        log.info("alert_test_weighed", extra={"alert_id": str(alert.alert_id), **counts, "failing": len(after)})


def _everywhere(tree: UnitTree) -> list[UnitId]:
    return [below for root in tree.roots for below in tree.subtree(root.unit_id)]
