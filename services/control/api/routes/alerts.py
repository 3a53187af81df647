"""Alerts: an emergency in force within a blink, changed, cancelled, stopped on one's own ground; and the kill switch."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Header, Query, Response
from pydantic import Field

from schemas.alerts import Purpose
from schemas.fields import ResumePolicy
from schemas.identifiers import AlertId, DeviceId, UnitId
from services.control import alerts, operation_kinds, operations, policies, policy_store, versions
from services.control.alerting import (
    alert_store,
    template_store,
    testing,
)
from services.control.alerting.documents import document_of
from services.control.alerting.model import (
    LONGEST_SILENCE,
    MAX_AREAS,
    MAX_CORNERS,
    MAX_NAMED,
    MAX_RADIUS_M,
    MAX_SHAPES,
    MAX_TEXTS,
    MAX_UNITS,
    Alert,
    AlertDraft,
    AlertText,
    AreaWish,
    AudienceWish,
    Category,
    Certainty,
    Circle,
    Point,
    Severity,
    State,
    Status,
    Urgency,
)
from services.control.alerting.template import Template
from services.control.alerting.tones import Tone
from services.control.api import step_up
from services.control.api.access import Scope, requires
from services.control.api.attempts import on_record
from services.control.api.context import Caller, Metered, Parts, Services
from services.control.api.errors import documented
from services.control.api.fields import (
    Answer,
    BoardText,
    Body,
    DeviceIdText,
    LanguageTag,
    Latitude,
    Limit,
    Longitude,
    Name,
    Note,
    Percent,
    PlannedInstant,
    Sha256Text,
    Title,
    Whole,
)
from services.control.api.requests import MAY_WAIT, RequestView, by, means, waiting
from services.control.api.step_up import BreakGlass, GivenCode, Operation
from services.control.errors import Fault, Invalid
from services.control.metrics import ControlMetrics
from services.control.operation_performing import Done
from services.control.operation_store import Request as Waiting
from services.control.permissions import Permission
from services.control.units import UnitTree
from services.shared.database.pool import Connection

router = APIRouter(prefix="/api/v1", tags=["alerts"])

Seer = Annotated[Caller, requires(Permission.SEE_ALERTS, Scope.ANYWHERE)]
Releaser = Annotated[Caller, requires(Permission.RELEASE_ALERTS, Scope.BODY)]
Silencer = Annotated[Caller, requires(Permission.SILENCE_DEVICES, Scope.BODY)]
IfMatch = Annotated[
    str | None, Header(description="ETag of the version that is meant; * : whatever it says by now, for ending it")
]


class PointBody(Body):
    """WGS 84, in degrees."""

    latitude: Latitude
    longitude: Longitude


class CircleBody(Body):
    """All points within `radius_m` metres of the centre."""

    centre: PointBody
    radius_m: Whole = Field(ge=1, le=MAX_RADIUS_M)


class AreaBody(Body):
    """The ground of `units`; where there are shapes, of it what lies inside any of them."""

    units: list[uuid.UUID] = Field(min_length=1, max_length=MAX_UNITS)
    polygons: list[Annotated[list[PointBody], Field(min_length=3, max_length=MAX_CORNERS)]] = Field(
        default=[], max_length=MAX_SHAPES
    )
    circles: list[CircleBody] = Field(default=[], max_length=MAX_SHAPES)


class AudienceBody(Body):
    """Any of the areas and any of the devices, without the exceptions; only the kinds and ownerships named, if any."""

    areas: list[AreaBody] = Field(default=[], max_length=MAX_AREAS)
    devices: list[DeviceIdText] = Field(default=[], max_length=MAX_NAMED)
    except_units: list[uuid.UUID] = Field(default=[], max_length=MAX_NAMED)
    except_devices: list[DeviceIdText] = Field(default=[], max_length=MAX_NAMED)
    kinds: list[Literal["cluster", "board"]] = Field(default=[], max_length=2)
    ownerships: list[Literal["public", "private", "private_with_public_share"]] = Field(default=[], max_length=3)

    def wish(self) -> AudienceWish:
        """As control knows it."""
        return AudienceWish(
            areas=tuple(
                AreaWish(
                    units=tuple(map(UnitId, area.units)),
                    polygons=tuple(tuple(map(_point, polygon)) for polygon in area.polygons),
                    circles=tuple(Circle(centre=_point(each.centre), radius_m=each.radius_m) for each in area.circles),
                )
                for area in self.areas
            ),
            devices=tuple(map(DeviceId, self.devices)),
            except_units=tuple(map(UnitId, self.except_units)),
            except_devices=tuple(map(DeviceId, self.except_devices)),
            kinds=tuple(self.kinds),
            ownerships=tuple(self.ownerships),
        )


class TextBody(Body):
    """The alert in one language. Without `board_text` boards show the headline and the instruction."""

    language: LanguageTag = "vi"
    headline: Title
    description: BoardText | None = None
    instruction: BoardText | None = None
    board_text: BoardText | None = None
    media_sha256: Sha256Text | None = Field(default=None, description="a stored file: what sounds, or what boards show")

    def said(self) -> AlertText:
        """As control knows it."""
        return AlertText(
            language=self.language,
            headline=self.headline,
            description=self.description,
            instruction=self.instruction,
            board_text=self.board_text,
            media_sha256=bytes.fromhex(self.media_sha256) if self.media_sha256 is not None else None,
        )


class ContentBody(Body):
    """What an alert says, to whom and for how long; words of CAP 1.2."""

    status: Status = Status.ACTUAL
    event: Name
    category: Category = Category.OTHER
    urgency: Urgency = Urgency.UNKNOWN
    severity: Severity = Severity.UNKNOWN
    certainty: Certainty = Certainty.UNKNOWN
    texts: list[TextBody] = Field(min_length=1, max_length=MAX_TEXTS)
    audience: AudienceBody
    valid_until: PlannedInstant
    repeat_interval_s: Whole | None = Field(default=None, ge=1, le=86_400, description="pause between repetitions")
    resume: Literal["resume", "restart", "drop"] = "resume"
    volume_percent: Annotated[Percent, Field(ge=1)] | None = None
    references: list[uuid.UUID] = Field(default=[], max_length=16, description="alerts that end when this one begins")

    def draft(self, unit_id: UnitId, purpose: Purpose = Purpose.ALERT) -> AlertDraft:
        """As control knows it."""
        return AlertDraft(
            unit_id=unit_id,
            purpose=purpose,
            status=self.status,
            event=self.event,
            category=self.category,
            urgency=self.urgency,
            severity=self.severity,
            certainty=self.certainty,
            texts=tuple(each.said() for each in self.texts),
            audience=self.audience.wish(),
            repeat_interval=timedelta(seconds=self.repeat_interval_s) if self.repeat_interval_s is not None else None,
            valid_until=self.valid_until.astimezone(UTC),
            resume=ResumePolicy[self.resume.upper()],
            volume_percent=self.volume_percent,
            references=tuple(map(AlertId, self.references)),
        )


class AlertBody(Body):
    """An alert to be issued by a unit: in full, or by a template, of which each field given here takes the place."""

    unit_id: uuid.UUID = Field(description="the unit that speaks")
    template_id: uuid.UUID | None = Field(default=None, description="a template of the unit or of one above it")
    purpose: Literal["alert", "silent_test", "audible_test"] | None = Field(
        default=None, description="default: the template's, or alert"
    )
    audience: AudienceBody
    status: Status | None = Field(default=None, description="default: actual, of a template for tests test")
    event: Name | None = Field(default=None, description="needed without a template")
    category: Category | None = None
    urgency: Urgency | None = None
    severity: Severity | None = None
    certainty: Certainty | None = None
    texts: list[TextBody] | None = Field(
        default=None, min_length=1, max_length=MAX_TEXTS, description="needed without a template"
    )
    valid_until: PlannedInstant | None = Field(default=None, description="needed without a template")
    repeat_interval_s: Whole | None = Field(default=None, ge=1, le=86_400, description="pause between repetitions")
    resume: Literal["resume", "restart", "drop"] | None = None
    volume_percent: Annotated[Percent, Field(ge=1)] | None = None
    references: list[uuid.UUID] = Field(default=[], max_length=16, description="alerts that end when this one begins")

    def draft(self, template: Template | None, *, now: datetime) -> AlertDraft:
        """As control knows it. Raises `Invalid`."""
        unit_id, wish = UnitId(self.unit_id), self.audience.wish()
        if template is None:
            missing = [name for name in ("event", "texts", "valid_until") if getattr(self, name) is None]
            if missing:
                raise Invalid(*(Fault(name, "field_missing") for name in missing))
            base = AlertDraft(unit_id=unit_id, event=self.event or "", audience=wish, valid_until=now)
        else:
            base = template.draft(unit_id=unit_id, audience=wish, now=now)
        return replace(base, **self._said(base.purpose if template is not None else None))

    def facts(self) -> dict[str, Any]:
        """What a refused attempt is put on record with."""
        return {
            "headline": self.texts[0].headline if self.texts else self.event,
            "template_id": str(self.template_id) if self.template_id is not None else None,
        }

    def _said(self, purpose: Purpose | None) -> dict[str, Any]:
        """What the request says itself, by fields of a draft; `purpose` is that of the template."""
        own = {
            name: value
            for name in ("status", "event", "category", "urgency", "severity", "certainty", "volume_percent")
            if (value := getattr(self, name)) is not None
        }
        if self.purpose is not None:
            own["purpose"] = Purpose[self.purpose.upper()]
            if purpose is not None and purpose is not own["purpose"]:
                raise Invalid(Fault("purpose", "not_one_of", {"expected": purpose.name.lower()}))
        if self.texts is not None:
            own["texts"] = tuple(each.said() for each in self.texts)
        if self.valid_until is not None:
            own["valid_until"] = self.valid_until.astimezone(UTC)
        if self.repeat_interval_s is not None:
            own["repeat_interval"] = timedelta(seconds=self.repeat_interval_s)
        if self.resume is not None:
            own["resume"] = ResumePolicy[self.resume.upper()]
        return own | {"references": tuple(map(AlertId, self.references))}


class StopBody(Body):
    """Whose ground it shall end on."""

    unit_id: uuid.UUID


class SilenceBody(Body):
    """The kill switch: no sound and a blank screen, until it is released."""

    unit_id: uuid.UUID = Field(description="the unit that orders it")
    audience: AudienceBody
    reason: Name
    valid_until: PlannedInstant | None = Field(default=None, description="default: for a year")


class ReleaseBody(Body):
    """What is let go first; nothing named: everything."""

    except_units: list[uuid.UUID] = Field(default=[], max_length=MAX_NAMED, description="units that may sound again")
    except_devices: list[DeviceIdText] = Field(default=[], max_length=MAX_NAMED, description="devices that may")
    note: Note = ""


class AlertView(Answer):
    """An alert, a test or a silence as it stands."""

    alert_id: uuid.UUID
    version: int
    state: State
    purpose: str
    unit_id: uuid.UUID
    headline: str
    first_issued_at: datetime
    issued_at: datetime
    valid_until: datetime
    ended_at: datetime | None
    created_by: uuid.UUID | None
    stopped_in: list[uuid.UUID] = Field(description="units that ended this version on their own ground")
    content: dict[str, Any] = Field(description="what it says and to whom")


@router.post("/alerts", status_code=201, responses=MAY_WAIT | documented([404]))
async def issue_alert(
    body: AlertBody,
    caller: Releaser,
    response: Response,
    services: Parts,
    metrics: Metered,
    second_factor: GivenCode = None,
    break_glass: BreakGlass = None,
) -> AlertView | RequestView:
    """Issue it: when this returns 201, it is on its way to every device of the areas."""
    await step_up.demand(services, caller, Operation.RELEASE_ALERT, code=second_factor, alone=break_glass)
    unit_id = UnitId(body.unit_id)

    async def wanted(connection: Connection) -> operation_kinds.Operation:
        template = await _template(connection, body, caller.rights.tree)
        said = await with_sound(connection, body.draft(template, now=caller.now))
        if said.purpose is Purpose.AUDIBLE_TEST:
            zone = ZoneInfo(services.policy.time_zone)
            await testing.check_hours(connection, said.audience, caller.rights.tree, zone, now=caller.now)
        return operation_kinds.issuing(said)

    attempt = Attempt(action="alert_issue", unit_id=unit_id, facts=body.facts())
    return await settled(services, caller, metrics, response, attempt, wanted, break_glass)


@router.post("/alerts/{alert_id}/update", responses=MAY_WAIT)
async def update_alert(
    alert_id: uuid.UUID,
    body: ContentBody,
    caller: Releaser,
    response: Response,
    services: Parts,
    metrics: Metered,
    if_match: IfMatch = None,
    second_factor: GivenCode = None,
    break_glass: BreakGlass = None,
) -> AlertView | RequestView:
    """Say something else in its place; If-Match names the version that was read."""
    await step_up.demand(services, caller, Operation.RELEASE_ALERT, code=second_factor, alone=break_glass)

    async def wanted(connection: Connection) -> operation_kinds.Operation:
        alert = await _locked(connection, alert_id, if_match, body, silence=False)
        draft = await with_sound(connection, body.draft(alert.draft.unit_id, alert.draft.purpose))
        return operation_kinds.updating(alert, draft)

    attempt = Attempt(action="alert_update", alert_id=alert_id, facts={"headline": body.texts[0].headline})
    return await settled(services, caller, metrics, response, attempt, wanted, break_glass)


@router.post("/alerts/{alert_id}/cancel")
async def cancel_alert(
    alert_id: uuid.UUID,
    caller: Releaser,
    response: Response,
    services: Parts,
    metrics: Metered,
    if_match: IfMatch = None,
    second_factor: GivenCode = None,
) -> AlertView:
    """End it everywhere. `If-Match: *` ends whatever it says by now."""
    await step_up.demand(services, caller, Operation.CANCEL_ALERT, code=second_factor)

    async def do(connection: Connection) -> Alert:
        alert = await _locked(connection, alert_id, if_match, None, silence=False)
        return await alerts.cancel(connection, alert, by=by(caller), keyring=services.keyring, now=caller.now)

    attempt = Attempt(action="alert_cancel", alert_id=alert_id)
    return await _carried_out(services, caller, metrics, response, attempt, do)


@router.post("/alerts/{alert_id}/stop")
async def stop_alert(
    alert_id: uuid.UUID,
    body: StopBody,
    caller: Releaser,
    response: Response,
    services: Parts,
    metrics: Metered,
    second_factor: GivenCode = None,
) -> AlertView:
    """End an alert from above on one's own ground, where policy lets units do so (default: it does not)."""
    await step_up.demand(services, caller, Operation.CANCEL_ALERT, code=second_factor)
    unit_id = UnitId(body.unit_id)
    tree = caller.rights.tree

    async def do(connection: Connection) -> Alert:
        alert = await _locked(connection, alert_id, "*", None, silence=False)
        said = await policy_store.policies_of(connection, tree.path(unit_id))
        return await alerts.stop(
            connection,
            alert,
            unit_id,
            by=by(caller),
            may_stop=policies.may_stop_alerts(said, unit_id, tree),
            keyring=services.keyring,
            now=caller.now,
        )

    attempt = Attempt(action="alert_stop", alert_id=alert_id, unit_id=unit_id, facts={"unit_id": str(unit_id)})
    return await _carried_out(services, caller, metrics, response, attempt, do)


@router.get("/alerts")
async def list_alerts(
    caller: Seer,
    services: Parts,
    state: Annotated[list[State] | None, Query(max_length=len(State))] = None,
    before: Annotated[PlannedInstant | None, Query(description="only those first issued earlier")] = None,
    before_id: Annotated[uuid.UUID | None, Query(description="with `before`: the last one seen")] = None,
    limit: Limit = 100,
) -> list[AlertView]:
    """Alerts, tests and silences on the ground one may see, and those of units above that touch it; newest first."""
    ground = caller.rights.tree.with_ancestors(caller.rights.reach(Permission.SEE_ALERTS))
    async with services.database.connection() as connection:
        found = await alert_store.alerts_on(
            connection,
            ground,
            states=state or tuple(State),
            before=(before, AlertId(before_id or uuid.UUID(int=0))) if before is not None else None,
            limit=limit,
        )
    return [alert_view(each) for each in found]


@router.get("/alerts/{alert_id}")
async def get_alert(alert_id: uuid.UUID, caller: Seer, response: Response, services: Parts) -> AlertView:
    """One of them. The ETag is what If-Match wants."""
    async with services.database.connection() as connection:
        alert = await seen(connection, alert_id, caller)
    response.headers["ETag"] = versions.etag(alert.version)
    return alert_view(alert)


@router.post("/silences", status_code=201, responses=MAY_WAIT | documented([404]))
async def silence(
    body: SilenceBody,
    caller: Silencer,
    response: Response,
    services: Parts,
    metrics: Metered,
    second_factor: GivenCode = None,
    break_glass: BreakGlass = None,
) -> AlertView | RequestView:
    """The kill switch (S-04): one device, a unit's subtree, or everything below the root. At once, signed, retained."""
    await step_up.demand(services, caller, Operation.KILL_SWITCH, code=second_factor, alone=break_glass)
    unit_id = UnitId(body.unit_id)
    until = body.valid_until.astimezone(UTC) if body.valid_until is not None else caller.now + LONGEST_SILENCE
    draft = AlertDraft(
        unit_id=unit_id,
        purpose=Purpose.SILENCE,
        event=body.reason,
        severity=Severity.EXTREME,
        audience=body.audience.wish(),
        valid_until=until,
    )

    async def wanted(connection: Connection) -> operation_kinds.Operation:
        del connection
        return operation_kinds.issuing(draft)

    attempt = Attempt(action="silence", unit_id=unit_id, facts={"reason": body.reason})
    return await settled(services, caller, metrics, response, attempt, wanted, break_glass)


@router.post("/silences/{alert_id}/release", responses=MAY_WAIT)
async def release(
    alert_id: uuid.UUID,
    body: ReleaseBody,
    caller: Silencer,
    response: Response,
    services: Parts,
    metrics: Metered,
    if_match: IfMatch = None,
    second_factor: GivenCode = None,
    break_glass: BreakGlass = None,
) -> AlertView | RequestView:
    """Controlled return: first the units and devices named, and the rest with a release that names none."""
    await step_up.demand(services, caller, Operation.END_SILENCE, code=second_factor, alone=break_glass)

    async def wanted(connection: Connection) -> operation_kinds.Operation:
        return operation_kinds.releasing(
            await _locked(connection, alert_id, if_match, body, silence=True),
            units=tuple(map(UnitId, body.except_units)),
            devices=tuple(map(DeviceId, body.except_devices)),
            note=body.note,
        )

    attempt = Attempt(action="silence_release", alert_id=alert_id)
    return await settled(services, caller, metrics, response, attempt, wanted, break_glass)


# --- carrying out ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What is tried, as the audit names it if it is refused."""

    action: str
    alert_id: uuid.UUID | None = None
    unit_id: UnitId | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


@asynccontextmanager
async def attempted(
    services: Services, caller: Caller, metrics: ControlMetrics, attempt: Attempt
) -> AsyncIterator[Connection]:
    """One transaction; what is refused in it is on record too."""
    async with (
        on_record(
            services,
            caller,
            metrics,
            action=attempt.action,
            subject=f"alert:{attempt.alert_id}" if attempt.alert_id is not None else "alert:new",
            unit_id=attempt.unit_id if attempt.unit_id is not None else caller.actor.unit_id,
            facts=attempt.facts,
        ),
        services.database.transaction() as connection,
    ):
        yield connection


async def _carried_out(
    services: Services,
    caller: Caller,
    metrics: ControlMetrics,
    response: Response,
    attempt: Attempt,
    do: Callable[[Connection], Awaitable[Alert]],
) -> AlertView:
    async with attempted(services, caller, metrics, attempt) as connection:
        alert = await do(connection)
    return told_of(services, metrics, response, attempt.action, Done(alerts=(alert,)))


async def settled(
    services: Services,
    caller: Caller,
    metrics: ControlMetrics,
    response: Response,
    attempt: Attempt,
    wanted: Callable[[Connection], Awaitable[operation_kinds.Operation]],
    alone: str | None,
) -> AlertView | RequestView:
    """Carried out; or, where a policy asks for a second person, 202 and the address at which it waits for one."""
    async with attempted(services, caller, metrics, attempt) as connection:
        operation = await wanted(connection)
        outcome = await operations.settle(
            connection, operation, by=by(caller), means=means(services, alone), now=caller.now
        )
    if isinstance(outcome, Waiting):
        return await waiting(services, response, outcome)
    return told_of(services, metrics, response, attempt.action, outcome)


def told_of(services: Services, metrics: ControlMetrics, response: Response, action: str, done: Done) -> AlertView:
    """The lane of this process is woken, and the answer says what stands now."""
    alert = done.alert
    if alert is None:
        raise TypeError(f"{action} makes no alert")
    services.wake_alerts()
    metrics.alerts_issued.labels(action).inc(len(done.alerts))
    response.headers["ETag"] = versions.etag(alert.version)
    return alert_view(alert)


async def _template(connection: Connection, body: AlertBody, tree: UnitTree) -> Template | None:
    """The template that is named, where it is in use. Raises `Invalid`."""
    if body.template_id is None:
        return None
    above = await template_store.templates_of(connection, tree.path(UnitId(body.unit_id)))
    found = next((each for each in above if each.template_id == body.template_id), None)
    if found is None:
        raise Invalid(Fault("template_id", "no_alert_template_here", {"id": str(body.template_id)}))
    return found


async def with_sound(connection: Connection, draft: AlertDraft) -> AlertDraft:
    """The draft, sounding a bare tone where it is only words: every device holds the tones already."""
    if draft.purpose is Purpose.SILENT_TEST or any(each.media_sha256 is not None for each in draft.texts):
        return draft
    wanted = Tone.WARNING if draft.purpose is Purpose.ALERT and draft.status is Status.ACTUAL else Tone.TEST
    tone = (await template_store.tones(connection)).get(wanted)
    if tone is None:
        return draft
    first, *rest = draft.texts
    return replace(draft, texts=(replace(first, media_sha256=tone), *rest))


async def _locked(
    connection: Connection, alert_id: uuid.UUID, if_match: str | None, body: Body | None, *, silence: bool
) -> Alert:
    alert = await alert_store.alert_for_update(connection, alert_id, silence=silence)
    shown = alert_view(alert).model_dump(mode="json")
    versions.check(alert.version, if_match, shown, given=body.model_dump(mode="json") if body is not None else {})
    return alert


async def seen(connection: Connection, alert_id: uuid.UUID, caller: Caller) -> Alert:
    """An alert that touches ground one may see. Raises `NotFound` as if there were none."""
    alert = await alert_store.alert(connection, alert_id)
    rights, tree = caller.rights, caller.rights.tree
    tops = rights.units(Permission.SEE_ALERTS)
    is_seen = any(
        tree.covers(top, unit) or tree.covers(unit, top)
        for top in tops
        for unit in (*alert.topics, alert.draft.unit_id)
    )
    return alert if is_seen else alert_store.none_such(alert_id)


def _point(body: PointBody) -> Point:
    return Point(latitude=body.latitude, longitude=body.longitude)


def alert_view(alert: Alert) -> AlertView:
    """The alert as it is shown."""
    draft = alert.draft
    return AlertView(
        alert_id=alert.alert_id,
        version=alert.version,
        state=alert.state,
        purpose=draft.purpose.name.lower(),
        unit_id=draft.unit_id,
        headline=draft.headline,
        first_issued_at=alert.first_issued_at,
        issued_at=alert.issued_at,
        valid_until=draft.valid_until,
        ended_at=alert.ended_at,
        created_by=alert.created_by,
        stopped_in=list(alert.stopped_in),
        content=document_of(draft),
    )
