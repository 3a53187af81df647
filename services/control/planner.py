"""The planner: what was asked for becomes programmes on record, and programmes become signed orders in the outbox.

Two steps, each in transactions of its own. *Planning* takes every request there is, loads what they touch, plans,
compares with the record and applies the difference; one replica at a time does it. *Issuing* takes devices in batches,
makes what they need and puts it into the outbox; any number of replicas share it. A step that dies is rolled back, its
requests with it, and done again by whoever comes next.

Planning and signing compute for seconds in a large province, so they run in a thread beside the event loop.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from schemas.identifiers import UnitId
from schemas.topics import parse_topic
from services.control import (
    broadcast_store,
    issue_store,
    issuing,
    planning_queue,
    policy_store,
    programme_store,
    snapshot_store,
    unit_store,
)
from services.control.alerting import alert_store, template_store
from services.control.delivery import outbox
from services.control.engine_settings import PlanningSettings
from services.control.issuing import CONFIG, PLAN, Issue, Need, Terms
from services.control.metrics import ControlMetrics
from services.control.orders import Addressee
from services.control.planning.changes import Changes, Recorded
from services.control.planning.ground import surroundings
from services.control.planning.model import DeviceNo, Problem, Snapshot, Window
from services.control.planning.policies import Policies
from services.control.planning.programme import begin
from services.control.planning.recurrence import local_day, start_of
from services.control.planning_decisions import (
    Decision,
    Ground,
    Part,
    decide,
    decide_within,
    goes_on,
    sharing_devices,
    together,
)
from services.control.planning_queue import Scope
from services.control.programme_store import Reach
from services.control.trust.keyring import Keyring
from services.control.turns import take_turns_listening
from services.control.units import UnitTree
from services.shared.clock import utc_now
from services.shared.database.pool import Connection, Database
from services.shared.settings import DatabaseSettings

# An occurrence lasts a day at most, and a day where the clock is set back is longer: two days back hold all that can sound.
LOOK_BACK = timedelta(days=2)
LOOK_AHEAD = timedelta(days=1)

log = logging.getLogger(__name__)


async def run_planner(
    database: Database,
    *,
    listening: DatabaseSettings,
    settings: PlanningSettings,
    keyring: Keyring,
    media_base_url: str,
    time_zone: str,
    metrics: ControlMetrics,
) -> None:
    """Plan and issue until cancelled. `time_zone` is where policies hold, and whose days the horizon is made of."""
    planner = Planner(
        database,
        settings=settings,
        keyring=keyring,
        media_base_url=media_base_url,
        zone=ZoneInfo(time_zone),
        metrics=metrics,
    )
    await take_turns_listening(
        "planner",
        planner.turn,
        every=settings.turn_every,
        listening=listening,
        channels=[planning_queue.CHANNEL],
        metrics=metrics,
    )


class Planner:
    """One planner of one process; holds what its turns have in common."""

    def __init__(
        self,
        database: Database,
        *,
        settings: PlanningSettings,
        keyring: Keyring,
        media_base_url: str,
        zone: ZoneInfo,
        metrics: ControlMetrics,
    ) -> None:
        self._database = database
        self._settings = settings
        self._keyring = keyring
        self._keys_hash = hashlib.sha256(keyring.announced.message).digest()
        self._media_base_url = media_base_url
        self._zone = zone
        self._metrics = metrics
        self._has_looked_for_strays = False

    async def turn(self) -> bool:
        """Plan what was asked for, then make the orders that are due. Returns whether more is waiting already."""
        await self.plan_once(now=utc_now())
        await self.ask_for_due_orders(now=utc_now())
        while await self.issue_once(now=utc_now()):
            pass
        return False

    # --- planning ----------------------------------------------------------------------------------------------------

    async def plan_once(self, *, now: datetime) -> Changes | None:
        """Plan everything that was asked for until now; None when there is nothing, or somebody else is at it."""
        async with self._database.transaction() as connection:
            if not await programme_store.try_lock(connection):
                self._metrics.planning_turns.labels("busy").inc()
                return None
            scope = await self._scope(connection, now=now)
            if scope is None:
                self._metrics.planning_turns.labels("idle").inc()
                return None
            with self._metrics.planning_seconds.time():
                applied = await self._plan(connection, scope, now=now)
        self._metrics.planning_turns.labels("planned").inc()
        return applied

    async def _scope(self, connection: Connection, *, now: datetime) -> Scope | None:
        scope = await planning_queue.take_all(connection)
        # A new day brings a new last day of the horizon, and perhaps another tree of units.
        rolled_from = await programme_store.roll(
            connection, local_day(now, self._zone), planned_until=self._horizon_at(now=now), now=now
        )
        if rolled_from is None:
            return scope
        asked_at = rolled_from if scope is None else min(rolled_from, scope.asked_at)
        return Scope(asked_at=asked_at, is_everything=True)

    async def _plan(self, connection: Connection, scope: Scope, *, now: datetime) -> Changes:
        window = self._window(scope, now=now)
        decisions = await self._decisions(connection, scope, window, now=now)
        asked_on = local_day(scope.asked_at, self._zone)
        for decision in decisions:
            await programme_store.apply(connection, decision.changes, now=now)
            await programme_store.replace_problems(
                connection, decision.reach, decision.problems, asked_at=scope.asked_at, asked_on=asked_on, now=now
            )
            await broadcast_store.offer(connection, decision.offers, at=now)
        await programme_store.refile(connection, None if scope.is_everything else scope.devices, now=now)
        touched = frozenset(scope.devices)
        if scope.is_everything:
            await programme_store.ask_to_issue_to_all(connection, at=now)
        else:
            # Also devices that go on as they did: what they sound without a plan may be another thing now.
            touched = touched.union(*(decision.changes.devices | decision.ground for decision in decisions))
        # Named devices even then: one that was just retired is no longer among all, and has to be told to fall silent.
        await programme_store.ask_to_issue(connection, touched, at=now)
        applied = together([decision.changes for decision in decisions])
        self._note(scope, applied, [problem for decision in decisions for problem in decision.problems])
        return applied

    async def _decisions(
        self, connection: Connection, scope: Scope, window: Window, *, now: datetime
    ) -> tuple[Decision, ...]:
        if not scope.is_everything:
            is_granted = await snapshot_store.is_time_granted(connection)
            if scope.units or is_granted:
                return (await self._decide_within(connection, scope, window, is_granted=is_granted, now=now),)
        parts = await self._parts(connection, scope, window, now=now)
        return await asyncio.to_thread(decide, parts, window, now=now, asked_at=scope.asked_at)

    def _window(self, scope: Scope, *, now: datetime) -> Window:
        today = local_day(now, self._zone)
        return Window(
            first=local_day(min(now, scope.asked_at), self._zone) - LOOK_BACK,
            end=today + timedelta(days=self._settings.horizon_days + 1) + LOOK_AHEAD,
        )

    async def _parts(self, connection: Connection, scope: Scope, window: Window, *, now: datetime) -> tuple[Part, ...]:
        """Load what the scope touches: whole broadcasts on every device, and whole devices with every broadcast."""
        ends_after = min(now, scope.asked_at)
        there_after = start_of(window.first, self._zone) - LOOK_AHEAD
        if scope.is_everything:
            reach = Reach(is_everything=True)
            snapshot = await snapshot_store.load_snapshot(
                connection, window, zone=self._zone, there_after=there_after, played_before=ends_after, begun_by=now
            )
            recorded = await programme_store.load_recorded(connection, reach, ends_after=ends_after)
            return (
                Part(snapshot=snapshot, reach=reach, recorded=await _open(connection, recorded, snapshot, now=now)),
            )
        broadcasts = set(scope.broadcasts)
        parts: list[Part] = []
        if scope.devices:
            devices = await snapshot_store.load_snapshot(
                connection,
                window,
                zone=self._zone,
                there_after=there_after,
                played_before=ends_after,
                devices=scope.devices,
            )
            reach = Reach(is_everything=False, devices=scope.devices)
            recorded = [
                each
                for each in await programme_store.load_recorded(connection, reach, ends_after=ends_after)
                if each.broadcast_id not in broadcasts
            ]
            parts.append(
                Part(
                    snapshot=replace(
                        devices,
                        broadcasts=tuple(each for each in devices.broadcasts if each.broadcast_id not in broadcasts),
                    ),
                    reach=reach,
                    recorded=await _open(connection, recorded, devices, now=now),
                )
            )
        if broadcasts:
            reach = Reach(is_everything=False, broadcasts=sorted(broadcasts))
            snapshot = await snapshot_store.load_snapshot(
                connection,
                window,
                zone=self._zone,
                there_after=there_after,
                played_before=ends_after,
                broadcasts=reach.broadcasts,
            )
            recorded = await programme_store.load_recorded(connection, reach, ends_after=ends_after)
            parts.append(
                Part(snapshot=snapshot, reach=reach, recorded=await _open(connection, recorded, snapshot, now=now))
            )
        return tuple(parts)

    async def _decide_within(
        self, connection: Connection, scope: Scope, window: Window, *, is_granted: bool, now: datetime
    ) -> Decision:
        """Decide where a change reaches more than broadcasts or devices: what holds on the ground of units, or time.

        Where policies and owners grant devices time, a change reaches whatever draws on the same grants, so everything is
        planned; else what can reach the ground of the units is. Only the devices on which something may change are
        compared with the record as a whole.
        """
        there_after = start_of(window.first, self._zone) - LOOK_AHEAD
        ground = await _ground(connection, scope.units, window, there_after=there_after)
        is_narrow = not (is_granted or scope.broadcasts or set(scope.devices) - ground.devices)
        ends_after = min(now, scope.asked_at)
        broadcasts = set(scope.broadcasts)
        of_broadcasts = Reach(is_everything=False, broadcasts=sorted(broadcasts))
        recorded = await programme_store.load_recorded(connection, of_broadcasts, ends_after=ends_after)
        snapshot = await snapshot_store.load_snapshot(
            connection,
            window,
            zone=self._zone,
            there_after=there_after,
            played_before=ends_after,
            issuers=ground.issuers if is_narrow else None,
            begun_by=now,
        )
        planning = await asyncio.to_thread(begin, snapshot, window)
        devices = sharing_devices(planning, broadcasts, recorded) | set(scope.devices) | ground.devices
        of_devices = Reach(is_everything=False, devices=sorted(devices))
        others = await programme_store.load_recorded(connection, of_devices, ends_after=ends_after)
        recorded += [each for each in others if each.broadcast_id not in broadcasts]
        recorded = await _open(connection, recorded, snapshot, now=now)
        return await asyncio.to_thread(
            decide_within, planning, scope, ground, broadcasts, devices, recorded, now=now, asked_at=scope.asked_at
        )

    def _note(self, scope: Scope, applied: Changes, problems: Sequence[Problem]) -> None:
        counts = {name: len(getattr(applied, name)) for name in ("add", "lapsed", "withdraw", "stop", "keep")}
        for name, count in counts.items():
            self._metrics.planned_emissions.labels(name).inc(count)
        kinds = Counter(problem.kind.value for problem in problems)
        for kind, count in kinds.items():
            self._metrics.planning_problems.labels(kind).inc(count)
        log.info(
            "programme_planned",
            extra={
                "everything": scope.is_everything,
                "broadcasts": len(scope.broadcasts),
                "devices": len(scope.devices),
                "units": len(scope.units),
                "problems": dict(kinds),
                **counts,
            },
        )

    # --- issuing -----------------------------------------------------------------------------------------------------

    async def ask_for_due_orders(self, *, now: datetime) -> None:
        """Have orders renewed in time; once per process, also find devices that were left without."""
        async with self._database.transaction() as connection:
            await issue_store.ask_for_renewals(connection, now=now)
            if not self._has_looked_for_strays:
                await issue_store.ask_for_strays(connection, kid=self._keyring.kid, keys_hash=self._keys_hash, now=now)
                await issue_store.forget_old_plans(connection, now=now)
        self._has_looked_for_strays = True

    async def issue_once(self, *, now: datetime) -> int:
        """Make the orders of one batch of devices; returns how many devices were looked at."""
        terms = self._terms(now=now)
        async with self._database.transaction() as connection:
            device_nos = await issue_store.claim_devices(connection, limit=self._settings.batch)
            if not device_nos:
                return 0
            issues = await self._issue(connection, device_nos, terms)
        for kind, count in Counter(issue.kind for issue in issues).items():
            self._metrics.issued_orders.labels(kind).inc(count)
        if issues:
            log.info("orders_issued", extra={"devices": len(device_nos), "orders": len(issues)})
        return len(device_nos)

    async def _issue(self, connection: Connection, device_nos: Sequence[DeviceNo], terms: Terms) -> tuple[Issue, ...]:
        tree = (await unit_store.load_units(connection)).on(local_day(terms.now, self._zone))
        addressees = await self._addressees(connection, device_nos, tree, now=terms.now)
        standings = await issue_store.load_standing(connection, device_nos)
        programmes = await issue_store.load_slots(
            connection,
            issuing.lookback(addressees, standings, now=terms.now),
            starts_before=terms.horizon_at,
        )
        needs = await asyncio.to_thread(issuing.needs, addressees, standings, programmes, tree, self._keyring, terms)
        serials = {
            kind: await issue_store.next_serials(
                connection, kind, [need.addressee.device_no for need in needs if kind in need.kinds]
            )
            for kind in (PLAN, CONFIG)
        }

        def sign() -> tuple[Issue, ...]:
            return tuple(
                issue
                for need in needs
                for issue in issuing.issue(
                    need, _serials_of(need, serials), standings, programmes, tree, self._keyring, terms
                )
            )

        issues = await asyncio.to_thread(sign)
        await issue_store.put(connection, issues, now=terms.now)
        await outbox.enqueue(connection, _publishes(issues), at=terms.now)
        return issues

    async def _addressees(
        self, connection: Connection, device_nos: Sequence[DeviceNo], tree: UnitTree, *, now: datetime
    ) -> tuple[Addressee, ...]:
        addressees = await issue_store.load_addressees(connection, device_nos, now=now)
        templates = await template_store.all_templates(connection)
        tones = tuple((await template_store.tones(connection)).values())
        if templates or tones:
            named_files = {*tones, *(file for kept in templates.values() for each in kept for file in each.files)}
            files = await alert_store.media(connection, named_files)
            addressees = issuing.with_alert_media(addressees, templates, tones, tree, files)
        policies = await policy_store.load_policies(connection)
        named = {policy.fallback.bulletin_id for policy in policies.values() if policy.fallback is not None}
        if not named:
            return addressees
        sounds = await issue_store.load_sounds(connection, named)
        return issuing.with_fallbacks(
            addressees, Policies(policies), tree, sounds, zone=self._zone, today=local_day(now, self._zone)
        )

    def _horizon_at(self, *, now: datetime) -> datetime:
        """The end of the last local day that is planned."""
        return start_of(local_day(now, self._zone) + timedelta(days=self._settings.horizon_days + 1), self._zone)

    def _terms(self, *, now: datetime) -> Terms:
        return Terms(
            now=now,
            horizon_at=self._horizon_at(now=now),
            renew_left=self._settings.renew_left,
            configuration_validity=self._settings.configuration_validity,
            media_base_url=self._media_base_url,
        )


async def _ground(
    connection: Connection, unit_ids: Sequence[UnitId], window: Window, *, there_after: datetime
) -> Ground:
    if not unit_ids:
        return Ground(devices=frozenset(), issuers=frozenset())
    history = await unit_store.load_units(connection)
    issuers, grounds = surroundings(unit_ids, history, window)
    fleet = await snapshot_store.load_fleet(connection, grounds, (), there_after=there_after)
    return Ground(devices=frozenset(device.device_no for device in fleet), issuers=issuers)


async def _open(
    connection: Connection, recorded: Sequence[Recorded], snapshot: Snapshot, *, now: datetime
) -> list[Recorded]:
    """What of the record the plan may still change; the rest goes on as it was."""
    begun = {each.broadcast_id for each in recorded if each.occurrence_at <= now}
    issued = await programme_store.issued_at(connection, begun)
    in_service = {device.device_no for device in snapshot.devices if device.is_there(now)}
    return [each for each in recorded if not goes_on(each, issued, in_service)]


def _serials_of(need: Need, serials: dict[str, dict[DeviceNo, int]]) -> dict[str, int]:
    no = need.addressee.device_no
    return {kind: of_kind[no] for kind, of_kind in serials.items() if no in of_kind}


def _publishes(issues: Sequence[Issue]) -> list[outbox.Publish]:
    publishes = [
        outbox.Publish(topic=parse_topic(issue.old_topic), payload=b"", kind=issue.kind)
        for issue in issues
        if issue.old_topic is not None
    ]
    publishes += [
        outbox.Publish(
            topic=issue.topic,
            payload=issue.message,
            kind=issue.kind,
            device_no=issue.device_no,
            serial=issue.serial,
            expires_at=issue.valid_until,
        )
        for issue in issues
    ]
    return publishes
