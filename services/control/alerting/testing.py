"""Tests of alerts as people and the calendar ask for them: change a timetable, and what a test says.

Works in the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from schemas.alerts import Purpose
from schemas.identifiers import UnitId
from services.control import audit, policy_store
from services.control.alerting import template_store, timetable_store
from services.control.alerting.model import (
    MAX_NAMED,
    AlertDraft,
    AlertText,
    AudienceWish,
    Category,
    Certainty,
    Origin,
    Severity,
    Status,
    Urgency,
)
from services.control.alerting.template import Template
from services.control.alerting.timetable import (
    TESTS,
    AudibleTimes,
    SilentTimes,
    Timetable,
    Timetables,
    apart,
    breaches,
    in_force,
)
from services.control.alerting.tones import Tone
from services.control.audit import Entry
from services.control.catalogue.texts import Language, text
from services.control.errors import Fault, Invalid, NotFound
from services.control.permissions import Actor
from services.control.planning.permission import Breach
from services.control.planning.policies import Policies
from services.control.planning.recurrence import local_day
from services.control.units import UnitTree
from services.shared.database.pool import Connection

# Long enough for a device that is just connecting again, short enough that a test says how things stand.
HOLDS = timedelta(minutes=5)


async def put(
    connection: Connection,
    stored: Timetable,
    *,
    silent: SilentTimes | None,
    audible: AudibleTimes | None,
    tree: UnitTree,
    zone: ZoneInfo,
    actor: Actor,
    origin: str | None,
    now: datetime,
) -> Timetable:
    """Have the unit say this from now on; it has been locked. Raises `Invalid` with every fault."""
    wanted = replace(
        stored,
        silent=silent,
        audible=audible,
        version=stored.version + 1,
        changed_at=now,
        changed_by=actor.account_id,
    )
    said = {**await timetable_store.timetables(connection), stored.unit_id: wanted}
    faults = [*_too_many_apart(said, wanted, tree)]
    if audible is not None and audible.on:
        faults += await _template_faults(connection, audible, stored.unit_id, tree)
        allowed = Policies(await policy_store.load_policies(connection))
        faults += _hour_faults(audible, stored.unit_id, tree, allowed, today=local_day(now, zone))
    if faults:
        raise Invalid(*faults)
    await timetable_store.put_timetable(connection, wanted)
    await audit.record(
        connection,
        Entry(
            action="alert_timetable_set",
            subject=f"alert_timetable:{stored.unit_id}",
            unit_id=stored.unit_id,
            before=_described(stored),
            after=_described(wanted),
        ),
        actor=actor,
        origin=origin,
        at=now,
    )
    return wanted


async def draft(
    connection: Connection,
    unit_id: UnitId,
    purpose: Purpose,
    audience: AudienceWish,
    *,
    times: SilentTimes,
    origin: Origin,
    now: datetime,
) -> AlertDraft:
    """The test as an alert: by the template of an audible one while that is in use, else in a few words and a tone."""
    template = await _template(connection, times)
    if purpose is Purpose.AUDIBLE_TEST and template is not None:
        prepared = template.draft(unit_id=unit_id, audience=audience, now=now)
        return replace(prepared, origin=origin, valid_until=now + HOLDS)
    said = purpose.name.lower()
    tone = None
    if purpose is Purpose.AUDIBLE_TEST:
        tone = (await template_store.tones(connection)).get(Tone.TEST)
    return AlertDraft(
        unit_id=unit_id,
        purpose=purpose,
        status=Status.TEST,
        event=text(f"{said}.event", Language.VIETNAMESE),
        category=Category.OTHER,
        urgency=Urgency.UNKNOWN,
        severity=Severity.MINOR,
        certainty=Certainty.OBSERVED,
        texts=(
            AlertText(
                language=Language.VIETNAMESE.value,
                headline=text(f"{said}.headline", Language.VIETNAMESE),
                instruction=text(f"{said}.instruction", Language.VIETNAMESE),
                media_sha256=tone,
            ),
        ),
        audience=audience,
        valid_until=now + HOLDS,
        origin=origin,
    )


async def check_hours(
    connection: Connection, audience: AudienceWish, tree: UnitTree, zone: ZoneInfo, *, now: datetime
) -> None:
    """Refuse a test that would sound now where policies are against it. Raises `Invalid` naming whose they are."""
    allowed = Policies(await policy_store.load_policies(connection))
    local = now.astimezone(zone)
    ground = dict.fromkeys(below for unit in audience.units for below in tree.subtree(unit) if tree.stands(below))
    left_out = {below for unit in audience.except_units for below in tree.subtree(unit)}
    against = {
        (each.unit_id, each.rule): each
        for unit_id in ground
        if unit_id not in left_out
        for each in breaches(unit_id, tree, allowed, local.date(), local.time())
    }
    if against:
        raise Invalid(*(_against("purpose", each, tree, local) for each in list(against.values())[:50]))


async def _template(connection: Connection, times: SilentTimes) -> Template | None:
    if not isinstance(times, AudibleTimes) or times.template_id is None:
        return None
    try:
        found = await template_store.template(connection, times.template_id)
    except NotFound:
        return None
    return found if found.retired_at is None and found.purpose is Purpose.AUDIBLE_TEST else None


async def _template_faults(
    connection: Connection, audible: AudibleTimes, unit_id: UnitId, tree: UnitTree
) -> list[Fault]:
    if audible.template_id is None:
        return []
    found = await _template(connection, audible)
    if found is None or found.unit_id not in tree.path(unit_id):
        return [Fault("audible.template_id", "no_template_for_tests_here", {"id": str(audible.template_id)})]
    return []


def _hour_faults(
    audible: AudibleTimes, unit_id: UnitId, tree: UnitTree, allowed: Policies, *, today: date
) -> Iterator[Fault]:
    """What the policies of the unit have against it. A unit below that is stricter is left out of the test."""
    for ahead in range(7):
        day = today + timedelta(days=ahead)
        if day.isoweekday() in audible.weekdays:
            local = datetime.combine(day, audible.at)
            for each in breaches(unit_id, tree, allowed, day, audible.at):
                yield _against("audible.at", each, tree, local)


def _against(field: str, breach: Breach, tree: UnitTree, local: datetime) -> Fault:
    unit = tree.get(breach.unit_id)
    facts = {
        "unit": unit.name if unit is not None else str(breach.unit_id),
        "day": local.date().isoformat(),
        "time": local.time().isoformat("minutes"),
    }
    return Fault(field, f"against_{breach.rule.value}", facts)


def _too_many_apart(said: Timetables, wanted: Timetable, tree: UnitTree) -> Iterator[Fault]:
    """A test can leave out as many units as a signed audience can name."""
    for purpose in TESTS:
        own = wanted.times(purpose)
        above = tree.ancestors(wanted.unit_id)
        if own is None or not above:
            continue
        owner = in_force(said, above[-1], tree, purpose).unit_id or above[0]
        if len(apart(said, owner, tree, purpose)) > MAX_NAMED:
            field = "silent" if purpose is Purpose.SILENT_TEST else "audible"
            yield Fault(field, "too_many_timetables", {"limit": MAX_NAMED})


def _described(timetable: Timetable) -> dict[str, object]:
    silent, audible = timetable.silent, timetable.audible
    return {
        "version": timetable.version,
        "silent": silent.model_dump(mode="json") if silent is not None else None,
        "audible": audible.model_dump(mode="json") if audible is not None else None,
    }
