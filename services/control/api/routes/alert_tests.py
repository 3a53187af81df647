"""Tests of alerts: when they are due, having one now, what they came to on each device, and which devices fail."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Header, Query, Response
from pydantic import Field

from schemas.alerts import Purpose
from schemas.identifiers import AlertId, DeviceId, UnitId
from services.control import alerts, operation_kinds, operations, versions
from services.control.alerting import alert_store, testing, timetable, timetable_store
from services.control.alerting.model import AudienceWish, Origin
from services.control.alerting.timetable import TESTS, AudibleTimes, SilentTimes, Timetable, Timetables
from services.control.alerting.timetable_store import DeviceResult, Tally
from services.control.alerting.weighing import OUTCOMES
from services.control.api import step_up
from services.control.api.access import Scope, requires
from services.control.api.attempts import on_record
from services.control.api.context import Caller, Metered, Parts
from services.control.api.errors import documented
from services.control.api.fields import Answer, Body, Limit, PlannedInstant
from services.control.api.requests import MAY_WAIT, RequestView, by, means, waiting
from services.control.api.step_up import BreakGlass, GivenCode, Operation
from services.control.api.views import UnitRef, unit_ref
from services.control.catalogue import reach_words
from services.control.catalogue.texts import Language, text
from services.control.errors import NotFound
from services.control.operation_performing import Done
from services.control.operation_store import Request as Waiting
from services.control.permissions import Permission
from services.control.units import UnitTree

router = APIRouter(prefix="/api/v1", tags=["alert tests"])

Seer = Annotated[Caller, requires(Permission.SEE_ALERTS, Scope.ANYWHERE)]
SeerHere = Annotated[Caller, requires(Permission.SEE_ALERTS, Scope.UNIT)]
SeerOfDevice = Annotated[Caller, requires(Permission.SEE_ALERTS, Scope.DEVICE)]
TesterHere = Annotated[Caller, requires(Permission.TEST_ALERTS, Scope.UNIT)]
IfMatch = Annotated[str | None, Header(description="ETag of the version that is meant")]
Words = Annotated[Language | None, Query(description="of the texts; default: Vietnamese")]
After = Annotated[str | None, Query(max_length=48, pattern="^[a-z0-9-]*$", description="the last device id seen")]

_RUNS_SHOWN = 20
_ANY_TEST = "silent_test"  # the words are the same for both kinds, and a row of failures may hold both


class TimetableBody(Body):
    """When the unit's ground is tested; null says nothing, and what the nearest unit above says holds."""

    silent: SilentTimes | None = None
    audible: AudibleTimes | None = None


class TestRunBody(Body):
    """Which test, now, on all the unit's ground."""

    purpose: Literal["silent_test", "audible_test"] = "silent_test"


class InForceView(Answer):
    """What holds on the unit's ground. Without a unit it is nobody's word: a silent test every day, and none that sounds."""

    unit: UnitRef | None
    on: bool
    at: str
    weekdays: list[int]
    template_id: uuid.UUID | None = Field(description="of an audible test; null: the bare test tone")
    next_at: datetime | None = Field(description="null while it is off")


class RunView(Answer):
    """What became of a time at which the unit's own test was due."""

    purpose: str
    due_at: datetime
    outcome: str = Field(description="issued | missed | not_allowed (policy at that hour) | refused")
    detail: str | None
    alert_id: uuid.UUID | None


class TimetableView(Answer):
    """A unit's timetable; `version` is its ETag, 0: it never said anything."""

    unit: UnitRef
    version: int
    silent: SilentTimes | None
    audible: AudibleTimes | None
    silent_in_force: InForceView
    audible_in_force: InForceView
    changed_at: datetime | None
    changed_by: uuid.UUID | None
    runs: list[RunView] = Field(description="the latest, newest first")


class TestView(Answer):
    """A test on one's ground and what it came to there. Devices that only a gateway answers for are a class of their own."""

    alert_id: uuid.UUID
    purpose: str
    unit_id: uuid.UUID = Field(description="that speaks")
    tested_at: datetime
    weighed_at: datetime | None = Field(description="null while it goes on: ask its reach")
    devices: int
    passed: int
    failed: int
    by_gateway: int
    excused: int
    share: float | None = Field(description="passed, of those that were asked; null when nobody was")


class TestResultView(Answer):
    """What one test came to on one device."""

    device_id: str
    unit_id: uuid.UUID
    alert_id: uuid.UUID
    purpose: str
    tested_at: datetime
    outcome: str
    reason: str
    detail: str | None
    meaning: str
    what_to_do: str


class TestResultsView(Answer):
    """The devices of one test, a page at a time."""

    results: list[TestResultView]
    next_after: str | None


class FailingView(Answer):
    """A device that failed the last two tests, or more. The next one it passes ends that."""

    device_id: str
    unit_id: uuid.UUID
    failures: int = Field(description="in a row")
    since: datetime
    last_at: datetime
    reason: str
    detail: str | None
    meaning: str
    what_to_do: str


class FailingListView(Answer):
    """Devices that fail, a page at a time."""

    devices: list[FailingView]
    next_after: str | None


class TestIssuedView(Answer):
    """A test that is on its way; its reach says how it goes, its results are weighed when it is over."""

    alert_id: uuid.UUID
    purpose: str
    valid_until: datetime


@router.get("/units/{unit_id}/alert-tests")
async def get_timetable(unit_id: uuid.UUID, caller: SeerHere, response: Response, services: Parts) -> TimetableView:
    """When the unit's ground is tested, by whose word, and what became of it. The ETag is what If-Match wants."""
    unit = UnitId(unit_id)
    async with services.database.connection() as connection:
        stored = await timetable_store.timetable(connection, unit)
        said = await timetable_store.timetables(connection)
        runs = await timetable_store.runs(connection, unit, limit=_RUNS_SHOWN)
    response.headers["ETag"] = versions.etag(stored.version)
    return _timetable_view(stored, said, runs, caller, ZoneInfo(services.policy.time_zone))


@router.put("/units/{unit_id}/alert-tests")
async def put_timetable(
    unit_id: uuid.UUID,
    body: TimetableBody,
    caller: TesterHere,
    response: Response,
    services: Parts,
    if_match: IfMatch = None,
) -> TimetableView:
    """Say when the unit's ground is tested. An audible test must lie within the hours that policies allow there."""
    unit, tree = UnitId(unit_id), caller.rights.tree
    zone = ZoneInfo(services.policy.time_zone)
    # A closed unit has no ground: what its heirs are tested by is theirs to say.
    if not tree.stands(unit):
        raise NotFound("unit_not_found", facts={"id": str(unit_id)})
    async with services.database.transaction() as connection:
        stored = await timetable_store.timetable_for_update(connection, unit, by=caller.actor.account_id, at=caller.now)
        said = await timetable_store.timetables(connection)
        shown = _timetable_view(stored, said, (), caller, zone).model_dump(mode="json")
        versions.check(stored.version, if_match, shown, given=body.model_dump(mode="json"))
        saved = await testing.put(
            connection,
            stored,
            silent=body.silent,
            audible=body.audible,
            tree=tree,
            zone=zone,
            actor=caller.actor,
            origin=caller.origin,
            now=caller.now,
        )
        runs = await timetable_store.runs(connection, unit, limit=_RUNS_SHOWN)
    response.headers["ETag"] = versions.etag(saved.version)
    return _timetable_view(saved, {**said, unit: saved}, runs, caller, zone)


@router.post("/units/{unit_id}/alert-tests", status_code=201, responses=MAY_WAIT)
async def run_test(
    unit_id: uuid.UUID,
    body: TestRunBody,
    caller: TesterHere,
    services: Parts,
    metrics: Metered,
    response: Response,
    second_factor: GivenCode = None,
    break_glass: BreakGlass = None,
) -> TestIssuedView | RequestView:
    """Test all the unit's ground now. One that sounds is held against the policies of everybody there, and may wait for a
    second person.
    """
    unit, purpose, tree = UnitId(unit_id), Purpose[body.purpose.upper()], caller.rights.tree
    if purpose is Purpose.AUDIBLE_TEST:
        await step_up.demand(services, caller, Operation.RELEASE_ALERT, code=second_factor, alone=break_glass)
    async with (
        on_record(
            services,
            caller,
            metrics,
            action="alert_test",
            subject="alert:new",
            unit_id=unit,
            facts={"purpose": body.purpose},
        ),
        services.database.transaction() as connection,
    ):
        if purpose is Purpose.AUDIBLE_TEST:
            name = found.name if (found := tree.get(unit)) is not None else ""
            outcome = await operations.settle(
                connection,
                operation_kinds.testing_aloud(unit, name=name),
                by=by(caller),
                means=means(services, break_glass),
                now=caller.now,
            )
        else:
            draft = await testing.draft(
                connection,
                unit,
                purpose,
                AudienceWish.of_units(unit),
                times=SilentTimes(),
                origin=Origin.CONSOLE,
                now=caller.now,
            )
            issued = await alerts.issue(connection, draft, by=by(caller), keyring=services.keyring, now=caller.now)
            outcome = Done(alerts=(issued,))
    if isinstance(outcome, Waiting):
        return await waiting(services, response, outcome)
    alert = outcome.alert
    if alert is None:
        raise TypeError("a test is an alert")
    services.wake_alerts()
    metrics.alerts_issued.labels(body.purpose).inc()
    return TestIssuedView(alert_id=alert.alert_id, purpose=body.purpose, valid_until=alert.draft.valid_until)


@router.get("/units/{unit_id}/alert-tests/trend")
async def get_trend(
    unit_id: uuid.UUID,
    caller: SeerHere,
    services: Parts,
    purpose: Annotated[Literal["silent_test", "audible_test"] | None, Query(description="only those")] = None,
    before: Annotated[PlannedInstant | None, Query(description="only earlier ones")] = None,
    limit: Limit = 100,
) -> list[TestView]:
    """The tests on the unit's ground, newest first, each with how many devices there confirmed it."""
    tree, unit = caller.rights.tree, UnitId(unit_id)
    ground = tree.subtree(unit)
    purposes = TESTS if purpose is None else (Purpose[purpose.upper()],)
    async with services.database.connection() as connection:
        found = await timetable_store.tests(
            connection, (*ground, *tree.ancestors(unit)), ground, purposes=purposes, before=before, limit=limit
        )
    return [_test_view(each) for each in found]


@router.get("/alerts/{alert_id}/test-results")
async def get_test_results(
    alert_id: uuid.UUID,
    caller: Seer,
    services: Parts,
    outcome: Annotated[Literal[*OUTCOMES] | None, Query(description="only these")] = None,  # type: ignore[valid-type]
    unit_id: Annotated[uuid.UUID | None, Query(description="only devices below this unit")] = None,
    language: Words = None,
    after: After = None,
    limit: Limit = 100,
) -> TestResultsView:
    """What a test came to on each device one may see, once it is over and weighed."""
    tree, ground = caller.rights.tree, caller.rights.reach(Permission.SEE_ALERTS)
    units = ground if unit_id is None else ground & set(tree.subtree(UnitId(unit_id)))
    async with services.database.connection() as connection:
        alert = await alert_store.alert(connection, alert_id)
        over = {above for top in caller.rights.units(Permission.SEE_ALERTS) for above in tree.path(top)}
        if ground.isdisjoint(alert.topics) and over.isdisjoint(alert.topics):
            alert_store.none_such(alert_id)
        found = await timetable_store.results_of_test(
            connection, AlertId(alert_id), units, outcome=outcome, after=after, limit=limit + 1
        )
    page = found[:limit]
    return TestResultsView(
        results=[_result_view(each, language or Language.VIETNAMESE) for each in page],
        next_after=page[-1].device_id if len(found) > limit else None,
    )


@router.get("/devices/{device_id}/alert-tests")
async def get_device_results(
    device_id: str, caller: SeerOfDevice, services: Parts, language: Words = None, limit: Limit = 30
) -> list[TestResultView]:
    """What the latest tests came to on a device, newest first."""
    del caller
    async with services.database.connection() as connection:
        found = await timetable_store.results_of_device(connection, DeviceId(device_id), limit=limit)
    return [_result_view(each, language or Language.VIETNAMESE) for each in found]


@router.get("/alert-tests/failing", responses=documented([404]))
async def list_failing(
    caller: Seer,
    services: Parts,
    unit_id: Annotated[uuid.UUID | None, Query(description="only devices below this unit")] = None,
    language: Words = None,
    after: After = None,
    limit: Limit = 100,
) -> FailingListView:
    """Devices that failed the last two tests or more, with what to do. Those retired or silenced are not asked."""
    ground, words = caller.rights.reach(Permission.SEE_ALERTS), language or Language.VIETNAMESE
    units = ground if unit_id is None else ground & set(caller.rights.tree.subtree(UnitId(unit_id)))
    async with services.database.connection() as connection:
        found = await timetable_store.failing(connection, units, after=after, limit=limit + 1)
    page = found[:limit]
    return FailingListView(
        devices=[
            FailingView(
                device_id=each.device_id,
                unit_id=each.unit_id,
                failures=each.failures,
                since=each.since,
                last_at=each.last_at,
                reason=each.reason,
                detail=each.detail,
                meaning=reach_words.meaning(each.reason, _ANY_TEST, words),
                what_to_do=text(
                    "test_failing.what_to_do",
                    words,
                    {"what_to_do": reach_words.what_to_do(each.reason, _ANY_TEST, words)},
                ),
            )
            for each in page
        ],
        next_after=page[-1].device_id if len(found) > limit else None,
    )


def _timetable_view(
    stored: Timetable,
    said: Timetables,
    runs: tuple[timetable_store.Run, ...],
    caller: Caller,
    zone: ZoneInfo,
) -> TimetableView:
    tree = caller.rights.tree
    return TimetableView(
        unit=unit_ref(tree, stored.unit_id),
        version=stored.version,
        silent=stored.silent,
        audible=stored.audible,
        silent_in_force=_in_force_view(stored, said, tree, Purpose.SILENT_TEST, zone, now=caller.now),
        audible_in_force=_in_force_view(stored, said, tree, Purpose.AUDIBLE_TEST, zone, now=caller.now),
        changed_at=stored.changed_at,
        changed_by=stored.changed_by,
        runs=[
            RunView(
                purpose=each.purpose,
                due_at=each.due_at,
                outcome=each.outcome,
                detail=each.detail,
                alert_id=each.alert_id,
            )
            for each in runs
        ],
    )


def _in_force_view(
    stored: Timetable, said: Timetables, tree: UnitTree, purpose: Purpose, zone: ZoneInfo, *, now: datetime
) -> InForceView:
    holds = timetable.in_force({**said, stored.unit_id: stored}, stored.unit_id, tree, purpose)
    times = holds.times
    return InForceView(
        unit=unit_ref(tree, holds.unit_id) if holds.unit_id is not None else None,
        on=times.on,
        at=times.at.isoformat("minutes"),
        weekdays=sorted(times.weekdays),
        template_id=times.template_id if isinstance(times, AudibleTimes) else None,
        next_at=timetable.next_due(times, zone, now=now),
    )


def _test_view(each: Tally) -> TestView:
    asked = each.devices - each.excused
    return TestView(
        alert_id=each.alert_id,
        purpose=each.purpose,
        unit_id=each.unit_id,
        tested_at=each.tested_at,
        weighed_at=each.weighed_at,
        devices=each.devices,
        passed=each.passed,
        failed=each.failed,
        by_gateway=each.by_gateway,
        excused=each.excused,
        share=round(each.passed / asked, 4) if asked else None,
    )


def _result_view(each: DeviceResult, words: Language) -> TestResultView:
    return TestResultView(
        device_id=each.device_id,
        unit_id=each.unit_id,
        alert_id=each.alert_id,
        purpose=each.purpose,
        tested_at=each.tested_at,
        outcome=each.outcome,
        reason=each.reason,
        detail=each.detail,
        meaning=reach_words.meaning(each.reason, each.purpose, words),
        what_to_do=reach_words.what_to_do(each.reason, each.purpose, words),
    )
