"""What a turn of the planner comes to: plans held against the record, as far as what was asked for reaches. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import datetime

from schemas.identifiers import BroadcastId, UnitId
from services.control.planning.changes import Changes, Recorded, changes
from services.control.planning.model import DeviceNo, Problem, Snapshot, Window
from services.control.planning.programme import Planning, plan
from services.control.planning_queue import Scope
from services.control.programme_store import Reach


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of the programme: the snapshot it follows from, what it is about, and the record it is compared with.

    What of the record goes on as it was, whatever the plan says, is in neither.
    """

    snapshot: Snapshot
    reach: Reach
    recorded: Sequence[Recorded]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What planning a part came to."""

    reach: Reach
    changes: Changes
    problems: tuple[Problem, ...]
    offers: tuple[tuple[BroadcastId, UnitId], ...]
    ground: AbstractSet[DeviceNo] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """The ground of some units: the devices on it, and whose broadcasts can reach them."""

    devices: AbstractSet[DeviceNo]
    issuers: AbstractSet[UnitId]


def decide(parts: Sequence[Part], window: Window, *, now: datetime, asked_at: datetime) -> tuple[Decision, ...]:
    """Plan each part by itself, and hold it against its record."""
    return tuple(_decide_part(part, window, now=now, asked_at=asked_at) for part in parts)


def _decide_part(part: Part, window: Window, *, now: datetime, asked_at: datetime) -> Decision:
    planned = plan(part.snapshot, window)
    problems = planned.problems
    if part.reach.devices:
        # Seen from a few devices, most broadcasts reach nobody: only what is wrong with these devices is news.
        about = set(part.reach.devices)
        problems = tuple(problem for problem in problems if problem.device_no in about)
    return Decision(
        reach=part.reach,
        changes=changes(planned, part.recorded, now=now, asked_at=asked_at),
        problems=problems,
        offers=planned.offers,
    )


def sharing_devices(
    planning: Planning, broadcasts: AbstractSet[BroadcastId], recorded: Sequence[Recorded]
) -> set[DeviceNo]:
    """The devices on which some broadcasts draw, or drew, on time that is granted: others may gain or lose there."""
    devices = {each.device_no for each in recorded if each.broadcast_id in broadcasts}
    for broadcast_id in broadcasts:
        if broadcast_id in planning.drafts:
            devices.update(no for share in planning.drafts[broadcast_id].shares for no in share.devices)
    return {no for no in devices if any(share.is_limited for share in planning.shares.get(no, ()))}


def decide_within(
    planning: Planning,
    scope: Scope,
    ground: Ground,
    broadcasts: AbstractSet[BroadcastId],
    devices: AbstractSet[DeviceNo],
    recorded: Sequence[Recorded],
    *,
    now: datetime,
    asked_at: datetime,
) -> Decision:
    """Whole broadcasts on every device, and whole devices with every broadcast, out of a plan of everything."""
    whole = planning.plan
    programmes = {
        no: programme if no in devices else tuple(slot for slot in programme if slot.broadcast_id in broadcasts)
        for no, programme in whole.programmes.items()
        if no in devices or any(slot.broadcast_id in broadcasts for slot in programme)
    }
    about = set(broadcasts)
    about |= {each.broadcast_id for each in planning.snapshot.broadcasts if each.unit_id in ground.issuers}
    for no in devices:
        for share in planning.shares.get(no, ()):
            if share.is_limited:
                about.update(part.occurrence.broadcast_id for part in share.parts)
    # Whatever can reach devices on the ground is in it as a whole.
    asked = set(scope.devices) - ground.devices
    return Decision(
        reach=Reach(is_everything=False, broadcasts=sorted(about), devices=sorted(asked)),
        changes=changes(
            replace(whole, programmes=programmes),
            recorded,
            now=now,
            asked_at=asked_at,
        ),
        problems=tuple(each for each in whole.problems if each.broadcast_id in about or each.device_no in asked),
        offers=whole.offers,
        ground=ground.devices,
    )


def goes_on(recorded: Recorded, issued: Mapping[BroadcastId, datetime], in_service: AbstractSet[DeviceNo]) -> bool:
    """Whether an emission belongs to an occurrence that had begun when its broadcast was changed: it stays as it was.

    Of a broadcast that was withdrawn (not in `issued`) nothing goes on: what sounds is stopped.
    """
    changed_at = issued.get(recorded.broadcast_id)
    return changed_at is not None and recorded.occurrence_at < changed_at and recorded.device_no in in_service


def together(all_changes: Sequence[Changes]) -> Changes:
    """All of them as one."""
    return Changes(
        add=tuple(each for one in all_changes for each in one.add),
        lapsed=tuple(each for one in all_changes for each in one.lapsed),
        withdraw=tuple(each for one in all_changes for each in one.withdraw),
        stop=tuple(each for one in all_changes for each in one.stop),
        keep=tuple(each for one in all_changes for each in one.keep),
    )
