"""Rules on readings of sensors: when an alarm is raised, and which alert is proposed to a person then."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response
from pydantic import Field

from schemas.identifiers import DeviceId, UnitId
from schemas.readings import UNITS
from services.control import versions
from services.control.alerting.model import Severity
from services.control.alerts import By
from services.control.api import step_up
from services.control.api.access import Scope, requires
from services.control.api.context import Caller, Parts, Services
from services.control.api.fields import Answer, Body, DeviceIdText, Flag, Limit, Name, Number, PlannedInstant, Whole
from services.control.api.step_up import GivenCode, Operation
from services.control.errors import Fault, Invalid
from services.control.permissions import Permission
from services.control.sensing import authorisation_store, authorisations, rule_store, rules, trial
from services.control.sensing.rule import MAX_SENSORS, Direction, Limits, Rule, Sensor
from services.control.sensing.rules import Change
from services.control.sensing.trial import Episode
from services.shared.database.pool import Connection

router = APIRouter(prefix="/api/v1", tags=["sensor rules"])

Seer = Annotated[Caller, requires(Permission.SEE_ALERTS, Scope.ANYWHERE)]
Reader = Annotated[Caller, requires(Permission.SEE_ALERTS, Scope.SENSOR_RULE)]
Maker = Annotated[Caller, requires(Permission.MANAGE_SENSOR_RULES, Scope.BODY)]
Keeper = Annotated[Caller, requires(Permission.MANAGE_SENSOR_RULES, Scope.SENSOR_RULE)]
Releaser = Annotated[Caller, requires(Permission.RELEASE_ALERTS, Scope.SENSOR_RULE)]
IfMatch = Annotated[str | None, Header(description="ETag of the version that is meant")]

MOST_READINGS = 200_000  # of one trial
_Value = Annotated[Number, Field(ge=-1e12, le=1e12)]


class SensorRuleBody(Body):
    """When readings raise an alarm, and what is proposed then. Thresholds are in the quantity's own unit."""

    unit_id: uuid.UUID = Field(description="the unit that keeps the rule and speaks in its alerts")
    name: Name
    quantity: str = Field(max_length=32, description=" | ".join(f"{name} ({unit})" for name, unit in UNITS.items()))
    direction: Direction = Direction.ABOVE
    raise_at: _Value = Field(description="a sensor is raised by values on the dangerous side of this, itself included")
    clear_at: _Value = Field(description="and cleared by values on the safe side of this: strictly safer than raise_at")
    hold_s: Annotated[Whole, Field(ge=0, le=86_400)] = Field(
        default=60, description="how long readings must say so, for raising and for clearing; silence does not count"
    )
    silent_after_s: Annotated[Whole, Field(ge=10, le=86_400)] = Field(
        default=900, description="a longer gap in readings begins anew, and a sensor silent for so long is no help"
    )
    quorum: Annotated[Whole, Field(ge=1, le=MAX_SENSORS)] = Field(default=1, description="sensors that must agree")
    severity: Severity = Severity.SEVERE
    template_id: uuid.UUID | None = Field(default=None, description="the alert that is proposed; null: an alarm only")
    sensor_units: list[uuid.UUID] = Field(
        default=[], max_length=64, description="every sensor below these units that gives the quantity"
    )
    sensors: list[DeviceIdText] = Field(default=[], max_length=MAX_SENSORS, description="and these")
    alert_units: list[uuid.UUID] | None = Field(
        default=None, max_length=256, description="the ground of the alert; null: the unit that keeps the rule"
    )
    cool_down_s: Annotated[Whole, Field(ge=0, le=604_800)] = Field(
        default=3_600, description="from one proposal to the next, at least"
    )
    proposal_validity_s: Annotated[Whole, Field(ge=60, le=86_400)] = Field(
        default=3_600, description="how long a proposal can be released"
    )
    enabled: Flag = True

    def rule(self, caller: Caller, stored: Rule | None) -> Rule:
        """As it is kept."""
        unit_id = UnitId(self.unit_id)
        return Rule(
            rule_id=stored.rule_id if stored is not None else uuid.uuid4(),
            unit_id=unit_id,
            name=self.name,
            quantity=self.quantity,
            limits=Limits(
                direction=self.direction,
                raise_at=self.raise_at,
                clear_at=self.clear_at,
                hold=timedelta(seconds=self.hold_s),
                silent_after=timedelta(seconds=self.silent_after_s),
            ),
            quorum=self.quorum,
            severity=self.severity,
            template_id=self.template_id,
            sensor_units=tuple(dict.fromkeys(map(UnitId, self.sensor_units))),
            sensor_ids=tuple(dict.fromkeys(map(DeviceId, self.sensors))),
            alert_units=tuple(dict.fromkeys(map(UnitId, self.alert_units)))
            if self.alert_units is not None
            else (unit_id,),
            cool_down=timedelta(seconds=self.cool_down_s),
            proposal_validity=timedelta(seconds=self.proposal_validity_s),
            is_enabled=self.enabled,
            created_at=stored.created_at if stored is not None else caller.now,
            created_by=stored.created_by if stored is not None else caller.actor.account_id,
            changed_at=caller.now,
            changed_by=caller.actor.account_id,
        )


class TrialBody(SensorRuleBody):
    """A rule to be tried on what was measured."""

    days: Annotated[Whole, Field(ge=1, le=7)] = Field(default=7, description="how far back")


class SensorView(Answer):
    """How a sensor stands with a rule, by the readings that are settled."""

    device_id: str
    is_raised: bool
    since: datetime | None
    last_at: datetime | None
    last_value: float | None
    waited_for_since: datetime
    signs: bool = Field(
        description="what it said within silent_after_s was signed with the key of its certificate, and rightly so: only "
        "such sensors count for a release without asking"
    )


class SensorRuleView(Answer):
    """A rule; `version` is its ETag."""

    sensor_rule_id: uuid.UUID
    version: int
    unit_id: uuid.UUID
    name: str
    quantity: str
    unit: str = Field(description="of the thresholds, as a UCUM code")
    direction: Direction
    raise_at: float
    clear_at: float
    hold_s: int
    silent_after_s: int
    quorum: int
    severity: Severity
    template_id: uuid.UUID | None
    sensor_units: list[uuid.UUID]
    sensors: list[str]
    alert_units: list[uuid.UUID]
    cool_down_s: int
    proposal_validity_s: int
    enabled: bool
    changed_at: datetime
    changed_by: uuid.UUID | None
    retired_at: datetime | None
    watched: list[SensorView] | None = Field(description="the sensors it watches; null in lists")
    authorisation: AuthorisationView | None = Field(
        description="by which what it proposes is released at once; null in lists, and where there is none"
    )


class SensorAlarmView(Answer):
    """An alarm: a threshold that was passed, or a rule that sees too little to say anything."""

    alarm_id: uuid.UUID
    kind: str = Field(description="sensor_threshold | sensor_rule_blind")
    sensor_rule_id: uuid.UUID
    name: str
    unit_id: uuid.UUID
    severity: Severity
    raised_at: datetime
    cleared_at: datetime | None
    cleared_by: str | None
    facts: dict[str, Any]
    alert_id: uuid.UUID | None = Field(description="the newest alert that was proposed because of it")


class AuthorisationView(Answer):
    """What two officers have allowed, or the first of them so far."""

    asked_at: datetime
    asked_by: uuid.UUID
    confirmed_at: datetime | None
    confirmed_by: uuid.UUID | None
    expires_at: datetime
    void_because: str | None = Field(
        description="null: what the rule proposes is released at once when `quorum` sensors say so in signed readings; "
        "not_confirmed | expired | changed_since | officer_without_right"
    )


class AuthorisationBody(Body):
    """Until when the platform may release what the rule proposes without asking."""

    expires_at: PlannedInstant = Field(description="a year from now at most")


class EpisodeView(Answer):
    """An alarm that there would have been."""

    kind: str
    began_at: datetime
    ended_at: datetime | None = Field(description="null: it still lasted")
    sensors: list[str] = Field(description="raised, or silent, when it began")
    peak: float | None
    proposed_at: datetime | None = Field(description="when an alert would have been proposed")


class TrialView(Answer):
    """What the rule would have done."""

    since: datetime
    until: datetime
    sensors: list[str]
    readings: int
    episodes: list[EpisodeView]


@router.get("/sensor-rules")
async def list_rules(caller: Seer, services: Parts) -> list[SensorRuleView]:
    """The rules in use of the units one may see."""
    async with services.database.connection() as connection:
        found = await rule_store.rules_of(connection, caller.rights.reach(Permission.SEE_ALERTS))
    return [_view(each) for each in found]


@router.post("/sensor-rules", status_code=201)
async def create_rule(body: SensorRuleBody, caller: Maker, response: Response, services: Parts) -> SensorRuleView:
    """Make a rule; it is watched within a minute."""
    _demand(body, caller)
    async with services.database.transaction() as connection:
        created = await rules.create(connection, body.rule(caller, None), _change(caller))
    response.headers["ETag"] = versions.etag(created.version)
    return _view(created)


@router.post("/sensor-rules/trial")
async def try_rule(body: TrialBody, caller: Maker, services: Parts) -> TrialView:
    """What this rule would have done over the readings of the last days. Nothing is stored."""
    _demand(body, caller)
    wanted = body.rule(caller, None)
    tree, since = caller.rights.tree, caller.now - timedelta(days=body.days)
    async with services.database.connection() as connection:
        await rules.check(connection, wanted, tree, now=caller.now)
        meant = await rule_store.meant(
            connection, wanted, own=tree.subtree(wanted.unit_id), below=rules.below_of(wanted, tree), now=caller.now
        )
        names = await rule_store.names(connection, meant)
        samples = await rule_store.history(
            connection, meant, wanted.quantity, since=since, until=caller.now, limit=MOST_READINGS + 1
        )
    readings = sum(map(len, samples.values()))
    if readings > MOST_READINGS:
        raise Invalid(Fault("days", "too_many_readings", {"limit": MOST_READINGS}))
    found = trial.episodes(wanted, names, samples, since=since, until=caller.now)
    return TrialView(
        since=since,
        until=caller.now,
        sensors=sorted(names.values()),
        readings=readings,
        episodes=[_episode_view(each) for each in found],
    )


@router.get("/sensor-rules/{sensor_rule_id}")
async def get_rule(sensor_rule_id: uuid.UUID, caller: Reader, response: Response, services: Parts) -> SensorRuleView:
    """One rule and its sensors. Its ETag is what If-Match wants."""
    async with services.database.connection() as connection:
        found = await rule_store.rule(connection, sensor_rule_id)
        sensors = await rule_store.sensors(connection, sensor_rule_id)
        signing = await rule_store.signing(connection, sensor_rule_id, now=caller.now)
        authorisation = await _authorisation(connection, found, caller)
    response.headers["ETag"] = versions.etag(found.version)
    watched = [_sensor_view(each, signs=each.device_no in signing) for each in sensors]
    return _view(found, watched, authorisation)


@router.put("/sensor-rules/{sensor_rule_id}")
async def replace_rule(
    sensor_rule_id: uuid.UUID,
    body: SensorRuleBody,
    caller: Keeper,
    response: Response,
    services: Parts,
    if_match: IfMatch = None,
) -> SensorRuleView:
    """Change a rule: its alarms end, what it proposed is taken back, and it begins anew."""
    async with services.database.transaction() as connection:
        stored = await rule_store.rule_for_update(connection, sensor_rule_id)
        shown = _view(stored).model_dump(mode="json")
        versions.check(stored.version, if_match, shown, given=body.model_dump(mode="json"))
        changed = await rules.replace_with(connection, stored, body.rule(caller, stored), _change(caller))
    response.headers["ETag"] = versions.etag(changed.version)
    return _view(changed)


@router.post("/sensor-rules/{sensor_rule_id}/retire")
async def retire_rule(sensor_rule_id: uuid.UUID, caller: Keeper, response: Response, services: Parts) -> SensorRuleView:
    """Take a rule out of use."""
    async with services.database.transaction() as connection:
        stored = await rule_store.rule_for_update(connection, sensor_rule_id)
        retired = await rules.retire(connection, stored, _change(caller))
    response.headers["ETag"] = versions.etag(retired.version)
    return _view(retired)


@router.post(
    "/sensor-rules/{sensor_rule_id}/authorisation",
    status_code=201,
)
async def ask_for_authorisation(
    sensor_rule_id: uuid.UUID,
    body: AuthorisationBody,
    caller: Releaser,
    services: Parts,
    if_match: IfMatch = None,
    second_factor: GivenCode = None,
) -> SensorRuleView:
    """The first of two officers lets the platform release what this version of the rule proposes; it holds nothing yet.

    Only readings that sensors sign count for it: `quorum` sensors must sign (`watched[].signs`; a sensor behind a gateway
    has no key and never does), or what the rule proposes waits for a person as before. Whoever holds the broker cannot
    forge them, but can keep some back; whoever stole the keys of as many sensors can make it sound with nobody asked.
    """
    await step_up.demand(services, caller, Operation.AUTHORISE_RELEASE, code=second_factor)

    async def do(connection: Connection, rule: Rule, by: By) -> None:
        expires_at = body.expires_at.astimezone(UTC)
        await authorisations.ask(connection, rule, expires_at=expires_at, by=by, now=caller.now)

    return await _of_the_rule_as_read(services, caller, sensor_rule_id, if_match, do)


@router.post(
    "/sensor-rules/{sensor_rule_id}/authorisation/confirm",
)
async def confirm_authorisation(
    sensor_rule_id: uuid.UUID,
    caller: Releaser,
    services: Parts,
    if_match: IfMatch = None,
    second_factor: GivenCode = None,
) -> SensorRuleView:
    """The second one, never the same account: from now on what the rule proposes is released at once.

    Only readings that sensors sign count (`watched[].signs`). With it the second officer, too, takes it upon himself that
    whoever stole the keys of as many sensors as have to agree can make it sound.
    """
    await step_up.demand(services, caller, Operation.AUTHORISE_RELEASE, code=second_factor)

    async def do(connection: Connection, rule: Rule, by: By) -> None:
        await authorisations.confirm(connection, rule, by=by, now=caller.now)

    return await _of_the_rule_as_read(services, caller, sensor_rule_id, if_match, do)


@router.delete("/sensor-rules/{sensor_rule_id}/authorisation", status_code=204)
async def end_authorisation(sensor_rule_id: uuid.UUID, caller: Releaser, services: Parts) -> None:
    """End it: what the rule proposes waits for a person again."""
    async with services.database.transaction() as connection:
        rule = await rule_store.rule_for_update(connection, sensor_rule_id)
        await authorisations.revoke(connection, rule, reason="revoked", by=_change(caller).by, now=caller.now)


@router.get("/sensor-alarms")
async def list_alarms(
    caller: Seer,
    services: Parts,
    active: Annotated[bool, Query(description="only those that last")] = True,
    limit: Limit = 100,
) -> list[SensorAlarmView]:
    """Alarms of rules of the units one may see, newest first."""
    async with services.database.connection() as connection:
        found = await rule_store.alarms(
            connection, caller.rights.reach(Permission.SEE_ALERTS), is_active=active, limit=limit
        )
    return [
        SensorAlarmView(
            alarm_id=each.alarm_id,
            kind=each.kind,
            sensor_rule_id=each.rule_id,
            name=each.rule_name,
            unit_id=each.unit_id,
            severity=each.severity,
            raised_at=each.raised_at,
            cleared_at=each.cleared_at,
            cleared_by=each.cleared_by,
            facts=dict(each.facts),
            alert_id=each.alert_id,
        )
        for each in found
    ]


async def _of_the_rule_as_read(
    services: Services,
    caller: Caller,
    rule_id: uuid.UUID,
    if_match: str | None,
    do: Callable[[Connection, Rule, By], Awaitable[None]],
) -> SensorRuleView:
    async with services.database.transaction() as connection:
        rule = await rule_store.rule_for_update(connection, rule_id)
        versions.check(rule.version, if_match, _view(rule).model_dump(mode="json"), given={})
        await do(connection, rule, _change(caller).by)
        return _view(rule, authorisation=await _authorisation(connection, rule, caller))


async def _authorisation(connection: Connection, rule: Rule, caller: Caller) -> AuthorisationView | None:
    found = await authorisation_store.of_rule(connection, rule.rule_id)
    if found is None:
        return None
    void = await authorisations.why_void(connection, found, rule, caller.rights.tree, now=caller.now)
    return AuthorisationView(
        asked_at=found.asked_at,
        asked_by=found.asked_by,
        confirmed_at=found.confirmed_at,
        confirmed_by=found.confirmed_by,
        expires_at=found.expires_at,
        void_because=void,
    )


def _demand(body: SensorRuleBody, caller: Caller) -> None:
    unit_id = UnitId(body.unit_id)
    if unit_id not in caller.rights.tree:
        raise Invalid(Fault("unit_id", "unknown_unit", {"unit": str(unit_id)}))
    caller.demand(Permission.MANAGE_SENSOR_RULES, unit_id, field="unit_id")


def _change(caller: Caller) -> Change:
    by = By(tree=caller.rights.tree, rights=caller.rights, actor=caller.actor, origin=caller.origin)
    return Change(by=by, now=caller.now)


def _view(
    rule: Rule, watched: list[SensorView] | None = None, authorisation: AuthorisationView | None = None
) -> SensorRuleView:
    limits = rule.limits
    return SensorRuleView(
        sensor_rule_id=rule.rule_id,
        version=rule.version,
        unit_id=rule.unit_id,
        name=rule.name,
        quantity=rule.quantity,
        unit=UNITS[rule.quantity],
        direction=limits.direction,
        raise_at=limits.raise_at,
        clear_at=limits.clear_at,
        hold_s=round(limits.hold.total_seconds()),
        silent_after_s=round(limits.silent_after.total_seconds()),
        quorum=rule.quorum,
        severity=rule.severity,
        template_id=rule.template_id,
        sensor_units=list(rule.sensor_units),
        sensors=list(rule.sensor_ids),
        alert_units=list(rule.alert_units),
        cool_down_s=round(rule.cool_down.total_seconds()),
        proposal_validity_s=round(rule.proposal_validity.total_seconds()),
        enabled=rule.is_enabled,
        changed_at=rule.changed_at,
        changed_by=rule.changed_by,
        retired_at=rule.retired_at,
        watched=watched,
        authorisation=authorisation,
    )


def _sensor_view(sensor: Sensor, *, signs: bool) -> SensorView:
    state = sensor.state
    return SensorView(
        device_id=sensor.device_id,
        is_raised=state.is_raised,
        since=state.since,
        last_at=state.last_at,
        last_value=state.last_value,
        waited_for_since=sensor.joined_at,
        signs=signs,
    )


def _episode_view(episode: Episode) -> EpisodeView:
    return EpisodeView(
        kind=episode.kind,
        began_at=episode.began_at,
        ended_at=episode.ended_at,
        sensors=list(episode.sensors),
        peak=episode.peak,
        proposed_at=episode.proposed_at,
    )
