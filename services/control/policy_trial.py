"""Holding a broadcast that was just stored against the policies it meets, before the transaction that stored it ends.

What planning would refuse is refused here, by the same function over the same rows: a broadcast is planned from its
first occurrence on, for as long as a horizon is, and whatever rule of a policy stands against it then is named. Rules
ask for weekday and time of day, so of a year's occurrences those of which there was none alike before are held against
them as well: nobody is told months later that the thirty-first is a Sunday. Of hundreds of such times that all differ
the first ones are (`MAX_FORESEEN`), and planning names the others when their days come near: whoever saves waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from schemas.configuration import Ownership
from schemas.fields import DeviceKind, Level
from schemas.identifiers import BroadcastId, UnitId
from services.control import broadcast_store, snapshot_store
from services.control.broadcast_store import PolicyException, StoredBroadcast
from services.control.errors import Fault, Invalid
from services.control.planning import impact
from services.control.planning.explanation import OFFERS
from services.control.planning.impact import Finding
from services.control.planning.model import Answer, DeviceNo, DeviceRef, Plan, Problem, ProblemKind, Snapshot, Window
from services.control.planning.permission import Rule
from services.control.planning.policies import Policies
from services.control.planning.programme import later_problems, plan
from services.shared.database.pool import Connection

# As long as the default horizon, together with everything that shares what is granted.
TRIAL = timedelta(days=8)
# By itself, as far as anybody can know what policies will say. What comes later is named when its day does.
FORESIGHT = timedelta(days=366)
# What a named approver decides where a policy wants that for every broadcast of a level; no rule is broken.
APPROVAL_REQUIRED = "approval_required"
_RULES = frozenset(ProblemKind(rule.value) for rule in Rule)
# What is no news to whoever saves: that others decide first, and that what lies before now is not emitted.
_UNSAID = OFFERS | {ProblemKind.BEFORE_ISSUE}
_MAX_FAULTS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Breach:
    """A rule of a unit's policy that stands against a broadcast, and the first occurrence that meets it."""

    rule: ProblemKind
    unit_id: UnitId
    problem: Problem
    is_excusable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What an approver has to let pass before a broadcast may be planned (None: nothing stands against it).

    `findings` is what planning says about it besides, also where it sounds only in part.
    """

    exception: PolicyException | None
    findings: tuple[Finding, ...]


async def hold(
    connection: Connection,
    stored: StoredBroadcast,
    first_day: date,
    ground: Snapshot,
    audience: Sequence[DeviceNo],
    *,
    now: datetime,
) -> Trial:
    """Plan it for the first days, look through a year of it, and tell what stands against it.

    `ground` holds the units, and the devices that its targets can mean: what others share with it is shared there.
    `audience` are those of them it reaches. Its offers are made, where it is scheduled at once. Raises `Invalid` naming
    every rule and whose it is, when one of them nobody may let pass, and when all it reaches are boards of others (R-15).
    """
    window = Window(first=first_day, end=first_day + TRIAL)
    snapshot = await snapshot_store.load_snapshot(
        connection,
        window,
        zone=ground.zone,
        there_after=now,
        played_before=now,
        broadcasts=await _company(connection, stored),
        around=stored.wish.unit_id,
        ground=ground,
        begun_by=now,
    )
    planned = await asyncio.to_thread(plan, snapshot, window)
    if (unit_id := _beyond_right(stored, planned, snapshot, audience, first_day)) is not None:
        unit = snapshot.units.on(first_day).get(unit_id)
        facts = {"unit": unit.name if unit is not None else str(unit_id)}
        raise Invalid(Fault("targets", "against_private_board", facts), code="broadcast_against_policy")
    breaches, findings = await asyncio.to_thread(_heard, stored, planned, snapshot, window)
    if not all(breach.is_excusable for breach in breaches):
        raise Invalid(*(_fault(breach, snapshot) for breach in breaches[:_MAX_FAULTS]), code="broadcast_against_policy")
    approvers = _approvers(stored, snapshot, first_day)
    if breaches or approvers:
        pairs = {(breach.rule.value, breach.unit_id) for breach in breaches}
        pairs |= {(APPROVAL_REQUIRED, unit_id) for unit_id in approvers}
        return Trial(exception=PolicyException(pairs=tuple(sorted(pairs))), findings=findings)
    await broadcast_store.offer(connection, (each for each in planned.offers if each[0] == stored.broadcast_id), at=now)
    return Trial(exception=None, findings=findings)


def _heard(
    stored: StoredBroadcast, planned: Plan, snapshot: Snapshot, window: Window
) -> tuple[list[Breach], tuple[Finding, ...]]:
    """Every rule that stands against it, and everything planning says of its first days.

    What one rule refuses draws on no minutes, so that the day is full is seen only once that rule is let pass; and of two
    limits of minutes that do not suffice planning names one. Who decides is to know all of it, so it is planned again as
    if what was found were let pass, until nothing more is: each time there is a pair of rule and unit less to be found.
    """
    year = Window(first=window.first, end=window.first + FORESIGHT)
    breaches: list[Breach] = []
    said: list[Problem] = []
    while True:
        later = later_problems(snapshot, stored.broadcast_id, year, since=window.end)
        known = {(breach.rule, breach.unit_id) for breach in breaches}
        news = [
            breach
            for breach in _breaches(stored, (*planned.problems, *later), snapshot)
            if (breach.rule, breach.unit_id) not in known
        ]
        said += [each for each in planned.problems if each.broadcast_id == stored.broadcast_id]
        if not news:
            return breaches, impact.findings(each for each in said if each.kind not in _UNSAID)
        breaches += news
        passed = frozenset((breach.rule.value, breach.unit_id) for breach in breaches)
        snapshot = replace(
            snapshot,
            broadcasts=tuple(
                replace(each, allowed_rules=passed) if each.broadcast_id == stored.broadcast_id else each
                for each in snapshot.broadcasts
            ),
        )
        planned = plan(snapshot, window)


async def foresee(
    connection: Connection, stored: StoredBroadcast, first_day: date, *, zone: ZoneInfo, now: datetime
) -> tuple[Finding, ...]:
    """What planning says about the first days of a broadcast as it stands by now, with what was let pass."""
    window = Window(first=first_day, end=first_day + TRIAL)
    snapshot = await snapshot_store.load_snapshot(
        connection,
        window,
        zone=zone,
        there_after=now,
        played_before=now,
        broadcasts=await _company(connection, stored),
        around=stored.wish.unit_id,
        begun_by=now,
    )
    return _findings(stored, await asyncio.to_thread(plan, snapshot, window))


async def hold_offers(
    connection: Connection,
    offered: Mapping[BroadcastId, date],
    unit_id: UnitId,
    *,
    zone: ZoneInfo,
    now: datetime,
) -> dict[BroadcastId, tuple[Finding, ...]]:
    """Tell what stands against broadcasts from above in a unit once it accepts them, each as if it alone did.

    `offered` says on which day each of them begins next; it is planned from then on, for the first days. A unit decides
    whether and when such content sounds, so nothing is refused here: whoever decides is told what will not sound.
    """
    if not offered:
        return {}
    window = Window(first=min(offered.values()), end=max(offered.values()) + TRIAL)
    is_granted = await snapshot_store.is_time_granted(connection)
    snapshot = await snapshot_store.load_snapshot(
        connection,
        window,
        zone=zone,
        there_after=now,
        played_before=now,
        broadcasts=None if is_granted else list(offered),
        around=unit_id,
        begun_by=now,
    )
    return {
        broadcast_id: await asyncio.to_thread(_stands_against, broadcast_id, unit_id, snapshot, day)
        for broadcast_id, day in offered.items()
    }


def _stands_against(broadcast_id: BroadcastId, unit_id: UnitId, snapshot: Snapshot, day: date) -> tuple[Finding, ...]:
    """Whose word, or whose property, keeps it from sounding there; and where nothing of it does, whatever the reason."""
    offers = {**snapshot.offers, (broadcast_id, unit_id): Answer.ACCEPTED}
    planned = plan(replace(snapshot, offers=offers), Window(first=day, end=day + TRIAL))
    is_silent = not _sounds(broadcast_id, planned)
    found = impact.findings(
        each for each in planned.problems if each.broadcast_id == broadcast_id and each.kind not in _UNSAID
    )
    return tuple(each for each in found if each.is_refusal and (is_silent or each.unit_id is not None))


def _findings(stored: StoredBroadcast, planned: Plan) -> tuple[Finding, ...]:
    own = (each for each in planned.problems if each.broadcast_id == stored.broadcast_id)
    return impact.findings(each for each in own if each.kind not in _UNSAID)


def _beyond_right(
    stored: StoredBroadcast, planned: Plan, snapshot: Snapshot, audience: Sequence[DeviceNo], day: date
) -> UnitId | None:
    """The unit of the first of its devices, when every one of them is somebody's own board and no order covers it."""
    known = {device.device_no: device for device in snapshot.devices}
    devices = [known[each] for each in audience if each in known]
    if not devices or not all(map(_is_of_others, devices)) or _sounds(stored.broadcast_id, planned):
        return None
    is_offered = any(broadcast_id == stored.broadcast_id for broadcast_id, _ in planned.offers)
    # What is offered has not been held against orders yet; whether there is any can be said all the same.
    if is_offered and any(_has_order(device, snapshot, day) for device in devices):
        return None
    return devices[0].unit_id


def _is_of_others(device: DeviceRef) -> bool:
    """Whether it is a private board that gives the public nothing by itself."""
    is_private = device.kind is DeviceKind.BOARD and device.ownership is not Ownership.PUBLIC
    return is_private and (device.ownership is Ownership.PRIVATE or not device.public_share)


def _sounds(broadcast_id: BroadcastId, planned: Plan) -> bool:
    programmes = {id(each): each for each in planned.programmes.values()}
    return any(slot.broadcast_id == broadcast_id for each in programmes.values() for slot in each)


def _has_order(device: DeviceRef, snapshot: Snapshot, day: date) -> bool:
    tree = snapshot.units.on(day)
    return any(
        each.device_no == device.device_no
        or (each.unit_id is not None and tree.stands(each.unit_id) and tree.covers(each.unit_id, device.unit_id))
        for each in snapshot.requisitions
    )


async def _company(connection: Connection, stored: StoredBroadcast) -> list[BroadcastId] | None:
    """The broadcasts it is planned together with: by itself, unless they share what is granted."""
    return None if await snapshot_store.is_time_granted(connection) else [stored.broadcast_id]


def _breaches(stored: StoredBroadcast, problems: Iterable[Problem], snapshot: Snapshot) -> list[Breach]:
    """Each rule of each unit once, with the first of its problems, in their order."""
    found: dict[tuple[ProblemKind, UnitId], Breach] = {}
    for problem in problems:
        unit_id = problem.unit_id
        # A session that is not held on a day is noted by the same rules and is no breach: nothing begins on that day.
        if problem.broadcast_id != stored.broadcast_id or problem.kind not in _RULES or unit_id is None:
            continue
        policy = snapshot.policies.get(unit_id)
        is_excusable = policy is not None and policy.exceptions_by_approver
        breach = Breach(rule=problem.kind, unit_id=unit_id, problem=problem, is_excusable=is_excusable)
        found.setdefault((problem.kind, unit_id), breach)
    return list(found.values())


def _approvers(stored: StoredBroadcast, snapshot: Snapshot, day: date) -> Iterable[UnitId]:
    """The units that want a named approver for what this unit issues."""
    policy = Policies(snapshot.policies).at(stored.wish.unit_id, snapshot.units.on(day))
    return policy.approvers_for(Level[stored.wish.level.upper()])


# Where somebody who mends it would look.
_FIELDS = {
    ProblemKind.WEEKDAY_NOT_ALLOWED: "starts_on",
    ProblemKind.OUTSIDE_SESSION: "local_times",
    ProblemKind.QUIET_HOURS: "local_times",
    ProblemKind.RESERVED_SLOT: "local_times",
    ProblemKind.SESSION_TOO_LONG: "items",
    ProblemKind.DAY_FULL: "items",
    ProblemKind.RELAY_NOT_ALLOWED: "items",
}


def _fault(breach: Breach, snapshot: Snapshot) -> Fault:
    assert breach.problem.occurrence_at is not None, "a limit stands against an occurrence"
    # By the clock that the limit goes by, whichever zone the broadcast counts its times in.
    begins = breach.problem.occurrence_at.astimezone(snapshot.zone)
    unit = snapshot.units.on(begins.date()).get(breach.unit_id)
    return Fault(
        _FIELDS[breach.rule],
        f"against_{breach.rule.value}",
        {
            "unit": unit.name if unit is not None else str(breach.unit_id),
            "day": begins.date().isoformat(),
            "time": begins.time().isoformat("minutes"),
        },
    )
