"""The watcher of sensors: holds every rule against what ingest has committed, raises alarms, and proposes alerts.

It also keeps count of what waits for a person, and ends proposals that waited in vain.

Woken by ingest's commits. Rules are read without a lock first, and most turns end there; where something is to be done,
the rule's row is locked, everything is read once more and decided anew, so of several replicas one acts. Readings that
are not settled are read again at every turn: a commit that was slow, or rung for while nobody listened, is not missed.
"""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from schemas.readings import UNITS
from services.control import alerts, audit
from services.control.alerting import proposal_store, proposals, template_store
from services.control.alerting.model import AudienceWish, Origin
from services.control.alerting.proposal import Proposal
from services.control.alerting.proposals import Why
from services.control.alerts import By
from services.control.audit import Entry
from services.control.engine_settings import SensingSettings
from services.control.errors import Refusal
from services.control.metrics import AUTOMATIC_RELEASE, ControlMetrics
from services.control.sensing import authorisations, rule_store
from services.control.sensing.decision import Steps, decide
from services.control.sensing.rule import BLIND, THRESHOLD, Rule, Sensor, Standing
from services.control.sensing.rules import below_of
from services.control.trust.keyring import Keyring
from services.control.turns import take_turns
from services.control.unit_directory import UnitDirectory
from services.control.units import UnitTree
from services.shared.clock import utc_now
from services.shared.database.listener import listen
from services.shared.database.pool import Connection, Database
from services.shared.settings import DatabaseSettings

CHANNEL = "telemetry_committed"
LOOK_UP_EVERY = timedelta(minutes=1)  # sensors come, move and go
PAUSE = timedelta(milliseconds=500)  # between two turns: a province commits many batches a second
_SHOWN = 20  # sensors told of in facts
_REFUSALS_KEPT = 1_000
READINGS_NOT_SIGNED = "readings_not_signed"  # why what two officers allowed waits for a person all the same

log = logging.getLogger(__name__)


async def run_watcher(
    database: Database,
    *,
    listening: DatabaseSettings,
    settings: SensingSettings,
    time_zone: ZoneInfo,
    keyring: Keyring,
    metrics: ControlMetrics,
    wake_alerts: Callable[[], None],
) -> None:
    """Watch until cancelled."""
    watcher = SensorWatcher(
        database, settings=settings, time_zone=time_zone, keyring=keyring, metrics=metrics, wake_alerts=wake_alerts
    )
    wake = asyncio.Event()

    def rung(_channel: str, payload: str | None) -> None:
        if has_readings(payload):
            wake.set()

    async def turn() -> bool:
        has_more = await watcher.watch_once(now=utc_now())
        await asyncio.sleep(PAUSE.total_seconds())
        return has_more

    async with asyncio.TaskGroup() as group:
        group.create_task(listen(listening, [CHANNEL], rung, application="control-sensor_watcher"))
        group.create_task(take_turns("sensor_watcher", turn, every=settings.watch_every, wake=wake, metrics=metrics))


def has_readings(payload: str | None) -> bool:
    """Whether a commit of ingest concerns rules; so does having been away (None), and what cannot be read."""
    if payload is None:
        return True
    try:
        return bool(json.loads(payload).get("readings", True))
    except (ValueError, AttributeError):
        return True


class SensorWatcher:
    """The watcher of one process."""

    def __init__(
        self,
        database: Database,
        *,
        settings: SensingSettings,
        time_zone: ZoneInfo,
        keyring: Keyring,
        metrics: ControlMetrics,
        wake_alerts: Callable[[], None],
    ) -> None:
        self._database = database
        self._keyring = keyring
        self._wake_alerts = wake_alerts
        self._settings = settings
        self._directory = UnitDirectory(time_zone)
        self._metrics = metrics
        self._unreleasable: set[uuid.UUID] = set()  # what was refused once, and need not be tried at every turn

    async def watch_once(self, *, now: datetime) -> bool:
        """Hold every rule against its readings; returns whether there are more than one turn takes."""
        async with self._database.connection() as connection:
            tree = await self._directory.tree(connection, now=now)
            rules = await rule_store.in_force(connection)
            fresh = [each for each in rules if not _is_due(each, now=now)]
            watched = await rule_store.watched(connection, fresh, now=now) if fresh else ()
        due = [each for each in rules if _is_due(each, now=now)]
        due += [each.rule for each in watched if not decide(each, now=now).is_nothing]
        has_more = False
        for rule in due:
            async with self._database.transaction() as connection:
                has_more |= await self._act(connection, rule, tree, now=now)
            self._wake_alerts()  # for what was released at once
        await self._end_proposals(tree, now=now)
        await self._count(now=now)
        return has_more

    async def _act(self, connection: Connection, seen: Rule, tree: UnitTree, *, now: datetime) -> bool:
        """Decide about one rule under its lock and do what was decided; returns whether there is more to read."""
        rule = await rule_store.rule_at_work(connection, seen.rule_id)
        if rule is None:
            return False
        if _is_due(rule, now=now):
            meant = await rule_store.meant(
                connection, rule, own=tree.subtree(rule.unit_id), below=below_of(rule, tree), now=now
            )
            await rule_store.put_sensors(connection, rule, meant, now=now)
        (watched,) = await rule_store.watched(connection, [rule], now=now)
        steps = decide(watched, now=now)
        await rule_store.settle(connection, rule.rule_id, steps.settled)
        if steps.standing is None:
            return True
        await self._alarms(connection, rule, steps, steps.standing, now=now)
        if steps.proposes:
            proposal = await self._propose(connection, rule, steps.standing, tree, now=now)
            await self._release(connection, rule, proposal, tree, signed_by=steps.signed_by, now=now)
        elif steps.releases:
            await self._release_waiting(connection, rule, tree, signed_by=steps.signed_by, now=now)
        return False

    async def _alarms(
        self, connection: Connection, rule: Rule, steps: Steps, standing: Standing, *, now: datetime
    ) -> None:
        for kind, begins, ends, sensors in (
            (THRESHOLD, steps.raises, steps.clears, standing.raised),
            (BLIND, steps.goes_blind, steps.sees_again, standing.silent),
        ):
            facts = _facts(rule, sensors)
            if begins:
                await rule_store.raise_alarm(connection, rule, kind, facts, at=now)
                self._metrics.sensor_alarms_raised.labels(kind).inc()
                await _record(connection, f"{kind}_raised", rule, facts, now=now)
            elif ends:
                await rule_store.clear_alarms(connection, rule.rule_id, [kind], by="readings", at=now)
                await _record(connection, f"{kind}_cleared", rule, facts, now=now)
            if begins or ends:
                log.warning(
                    "sensor_alarm_raised" if begins else "sensor_alarm_cleared",
                    extra={"kind": kind, "rule_id": str(rule.rule_id), "rule": rule.name},
                )

    async def _propose(
        self, connection: Connection, rule: Rule, standing: Standing, tree: UnitTree, *, now: datetime
    ) -> Proposal:
        alarm = await rule_store.open_alarm(connection, rule.rule_id, THRESHOLD)
        assert alarm is not None, "a rule proposes while its alarm lasts"
        assert rule.template_id is not None, "a rule proposes a template"
        template = await template_store.template(connection, rule.template_id)
        ground = AudienceWish.of_units(*(tree.standing(each) or each for each in rule.alert_units))
        draft = replace(
            template.draft(unit_id=rule.unit_id, audience=ground, now=now),
            origin=Origin.RULE,
            severity=rule.severity,
        )
        why = Why(
            reason={"kind": THRESHOLD, "raised_at": alarm.raised_at.isoformat(), **_facts(rule, standing.raised)},
            rule_id=rule.rule_id,
            rule_version=rule.version,
            alarm_id=alarm.alarm_id,
        )
        proposal = await proposals.propose(
            connection,
            draft,
            why,
            by=By(tree=tree),
            validity=template.validity,
            expires_at=now + rule.proposal_validity,
            now=now,
        )
        self._metrics.alerts_proposed.labels(Origin.RULE.value).inc()
        log.warning("alert_proposed", extra={"alert_id": str(proposal.alert.alert_id), "rule_id": str(rule.rule_id)})
        return proposal

    async def _release_waiting(
        self, connection: Connection, rule: Rule, tree: UnitTree, *, signed_by: Collection[Sensor], now: datetime
    ) -> None:
        """Release what waits for a person, now that signed readings say it too. Where it could not be, it waits on."""
        alert_id = await proposal_store.open_of(connection, rule.rule_id)
        if alert_id is None or alert_id in self._unreleasable:
            return
        proposal = await proposal_store.proposal_for_update(connection, alert_id)
        if proposal.is_waiting(now=now):
            await self._release(connection, rule, proposal, tree, signed_by=signed_by, now=now)

    async def _release(
        self,
        connection: Connection,
        rule: Rule,
        proposal: Proposal,
        tree: UnitTree,
        *,
        signed_by: Collection[Sensor],
        now: datetime,
    ) -> None:
        """Release it at once where two officers have allowed that and sensors have signed it; otherwise it waits."""
        by = By(tree=tree)
        held = await authorisations.holding(connection, rule, by=by, now=now)
        if held is None:
            return
        first, second = held.officers
        facts = {
            "alert_id": str(proposal.alert.alert_id),
            "authorisation_id": str(held.authorisation.authorisation_id),
            "officers": [first.login, second.login],
        }
        if not signed_by:
            unsigned = {**facts, "code": READINGS_NOT_SIGNED}
            log.warning("alert_not_released_automatically", extra=unsigned)
            await authorisations.record(connection, "alert_not_released_automatically", rule, unsigned, by=by, now=now)
            return
        try:
            async with connection.transaction():
                await alerts.issue(
                    connection,
                    proposals.to_release(proposal, None, now=now),
                    by=replace(by, note=f"authorised by {first.login} and {second.login}"),
                    keyring=self._keyring,
                    now=now,
                    alert_id=proposal.alert.alert_id,
                )
        except Refusal as refusal:
            refused = {**facts, "code": refusal.code}
            log.warning("alert_not_released_automatically", extra=refused)
            await authorisations.record(connection, "alert_not_released_automatically", rule, refused, by=by, now=now)
            if len(self._unreleasable) >= _REFUSALS_KEPT:
                self._unreleasable.clear()
            self._unreleasable.add(proposal.alert.alert_id)
            return
        self._metrics.alerts_issued.labels(AUTOMATIC_RELEASE).inc()
        # What was proposed may rest on others: by these it went out, and theirs are the certificates to look at.
        grounds = {
            "sensor_count": len(signed_by),
            "sensors": [_sensor_facts(each) for each in list(signed_by)[:_SHOWN]],
        }
        released = {**facts, **grounds}
        await authorisations.record(connection, "alert_released_automatically", rule, released, by=by, now=now)

    async def _end_proposals(self, tree: UnitTree, *, now: datetime) -> None:
        async with self._database.transaction() as connection:
            ended = await proposals.expire(connection, by=By(tree=tree), now=now)
        for each in ended:
            log.warning("alert_proposal_expired", extra={"alert_id": str(each.alert.alert_id)})

    async def _count(self, *, now: datetime) -> None:
        async with self._database.connection() as connection:
            alarms = await rule_store.active_alarms(connection)
            waiting = await proposal_store.waiting(connection, patience=self._settings.proposal_patience, now=now)
        for kind in (THRESHOLD, BLIND):
            self._metrics.sensor_alarms.labels(kind).set(alarms.get(kind, 0))
        counts = {each.origin: each for each in waiting}
        for origin in (Origin.RULE.value, Origin.CAP.value):
            found = counts.get(origin)
            self._metrics.proposals_waiting.labels(origin).set(found.proposals if found else 0)
            self._metrics.proposals_overdue.labels(origin).set(found.overdue if found else 0)


def _is_due(rule: Rule, *, now: datetime) -> bool:
    """Whether its sensors have to be looked up."""
    return rule.looked_up_at is None or rule.looked_up_at <= now - LOOK_UP_EVERY


def _facts(rule: Rule, sensors: Iterable[Sensor]) -> dict[str, Any]:
    """What an alarm rests on, for people."""
    told = list(sensors)
    return {
        "rule_id": str(rule.rule_id),
        "rule": rule.name,
        "rule_version": rule.version,
        "quantity": rule.quantity,
        "unit": UNITS[rule.quantity],
        "direction": rule.limits.direction.value,
        "threshold": rule.limits.raise_at,
        "sensor_count": len(told),
        "sensors": [_sensor_facts(each) for each in told[:_SHOWN]],
    }


def _sensor_facts(sensor: Sensor) -> Mapping[str, Any]:
    state = sensor.state
    return {
        "device_id": sensor.device_id,
        "value": state.last_value,
        "at": state.last_at.isoformat() if state.last_at is not None else None,
        "since": state.since.isoformat() if state.since is not None else None,
    }


async def _record(connection: Connection, action: str, rule: Rule, facts: Mapping[str, Any], *, now: datetime) -> None:
    await audit.record(
        connection,
        Entry(action=action, subject=f"sensor_rule:{rule.rule_id}", unit_id=rule.unit_id, after=facts),
        actor=None,
        origin=None,
        at=now,
    )
