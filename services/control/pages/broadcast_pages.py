"""The page of a broadcast: what was asked for, of whom, what stands against it, who took it up, and what became of it."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import assert_never

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from schemas.identifiers import BroadcastId, UnitId
from services.control import (
    account_store,
    airing_store,
    audit,
    broadcast_store,
    device_store,
    emission_store,
    group_store,
    offer_store,
    policy_store,
    programme_store,
    relay_store,
)
from services.control.api.context import Caller, Parts
from services.control.broadcast_requests import DeviceWish, GroupWish, KindWish, RelayWish, TargetWish, UnitWish, Wish
from services.control.broadcasts import WITHDRAWN
from services.control.device_store import Device
from services.control.group_store import Group
from services.control.offer_store import Offer
from services.control.pages.lookups import contents_of
from services.control.pages.pages import BroadcastReader, page, proof_rows, trail_of
from services.control.permissions import Permission
from services.control.planning.explanation import OFFERS
from services.control.planning.model import Problem, ProblemKind
from services.control.units import UnitTree
from services.shared.database.pool import Connection

router = APIRouter(include_in_schema=False)

_EMISSIONS_SHOWN = 500
_OFFERS_SHOWN = 300
_VERSIONS_SHOWN = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One target: what kind of thing it is, its name, and where it leads to; `note` says more about it."""

    kind: str
    name: str
    note: str = ""
    address: str | None = None
    is_excluded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacle:
    """What planning says, once for each rule and unit: on how many occurrences, from which day to which."""

    kind: ProblemKind
    unit_id: UnitId | None
    times: int
    first: date | None
    last: date | None


@router.get("/broadcasts/{broadcast_id}", response_class=HTMLResponse)
async def broadcast_page(
    broadcast_id: uuid.UUID, request: Request, caller: BroadcastReader, services: Parts
) -> Response:
    """A broadcast: what was asked for and what became of it."""
    tree = caller.rights.tree
    async with services.database.connection() as connection:
        stored = await broadcast_store.broadcast(connection, broadcast_id)
        counts = await airing_store.proof_totals(connection, now=caller.now, broadcast_id=BroadcastId(broadcast_id))
        emissions = await emission_store.of_broadcast(
            connection,
            broadcast_id,
            caller.rights.reach(Permission.SEE_BROADCASTS),
            outcome=None,
            after=None,
            limit=_EMISSIONS_SHOWN + 1,
        )
        contents = await contents_of(connection, [stored])
        aims = await targets_of(connection, stored.wish, caller)
        sources = await relay_store.sources_by_id(
            connection, {item.source_id for item in stored.wish.items if isinstance(item, RelayWish)}
        )
        problems = await programme_store.load_problems(connection, BroadcastId(broadcast_id))
        offers = await offer_store.of_broadcast(connection, broadcast_id, limit=_OFFERS_SHOWN + 1)
        exceptions = await policy_store.exceptions_of(connection, BroadcastId(broadcast_id))
        versions = await audit.of_subject(
            connection, f"broadcast:{broadcast_id}", stored.wish.unit_id, limit=_VERSIONS_SHOWN
        )
        people = await account_store.display_names(
            connection,
            {each.account_id for each in versions if each.account_id is not None}
            | {who for each in exceptions for who in (each.asked_by, each.decided_by) if who is not None},
        )
    return page(
        request,
        services,
        "broadcast.html",
        caller=caller,
        trail=trail_of(caller, stored.wish.unit_id),
        unit=tree.get(stored.wish.unit_id),
        unit_id=stored.wish.unit_id,
        stored=stored,
        wish=stored.wish,
        contents=contents[stored.broadcast_id],
        targets=sorted(aims, key=lambda each: each.is_excluded),
        sources=sources.values(),
        obstacles=obstacles(each for each in problems if each.kind not in OFFERS),
        offers=_by_answer(offers[:_OFFERS_SHOWN], tree),
        offer_counts=Counter(each.state for each in offers),
        offers_are_more=len(offers) > _OFFERS_SHOWN,
        exceptions=exceptions,
        versions=versions,
        people=people,
        units=tree,
        proof=proof_rows(counts),
        emissions=emissions[:_EMISSIONS_SHOWN],
        is_cut_off=len(emissions) > _EMISSIONS_SHOWN,
        shown=_EMISSIONS_SHOWN,
        may_change=stored.state != WITHDRAWN and caller.rights.may(Permission.MAKE_BROADCASTS, stored.wish.unit_id),
    )


def obstacles(problems: Iterable[Problem]) -> tuple[Obstacle, ...]:
    """Problems gathered by rule and unit, in order of the rule's word."""
    found: dict[tuple[ProblemKind, UnitId | None], list[Problem]] = {}
    for problem in problems:
        found.setdefault((problem.kind, problem.unit_id), []).append(problem)
    return tuple(
        _obstacle(kind, unit_id, some)
        for (kind, unit_id), some in sorted(found.items(), key=lambda each: (each[0][0].value, str(each[0][1])))
    )


def _obstacle(kind: ProblemKind, unit_id: UnitId | None, some: list[Problem]) -> Obstacle:
    days = [each.local_day for each in some if each.local_day is not None]
    return Obstacle(
        kind=kind,
        unit_id=unit_id,
        times=len({(each.local_day, each.local_time, each.occurrence_at) for each in some}),
        first=min(days, default=None),
        last=max(days, default=None),
    )


def _by_answer(offers: Iterable[Offer], tree: UnitTree) -> list[tuple[str, Offer]]:
    """Offers with their units' names: those that wait first, then by name."""
    named = (
        (unit.name if (unit := tree.get(each.unit_id)) is not None else str(each.unit_id), each) for each in offers
    )
    return sorted(named, key=lambda each: (each[1].state != "offered", each[1].state, each[0]))


async def targets_of(connection: Connection, wish: Wish, caller: Caller) -> tuple[Target, ...]:
    """What it is meant for and what is left out of that, as it was asked for."""
    groups = await group_store.groups_by_id(
        connection, [each.group_id for each in wish.targets if isinstance(each, GroupWish)]
    )
    devices = await device_store.devices_by_id(
        connection, [each.device_id for each in wish.targets if isinstance(each, DeviceWish)], now=caller.now
    )
    by_id = {str(device_id): device for device_id, device in devices.items()}
    return tuple(_target(each, caller, groups, by_id) for each in wish.targets)


def _target(
    target: TargetWish, caller: Caller, groups: Mapping[uuid.UUID, Group], devices: Mapping[str, Device]
) -> Target:
    match target:
        case UnitWish(unit_id=unit_id, is_excluded=is_excluded):
            unit = caller.rights.tree.get(unit_id)
            may_see = caller.rights.may(Permission.SEE_DEVICES, unit_id)
            return Target(
                kind="unit",
                name=unit.name if unit is not None else str(unit_id),
                address=f"/units/{unit_id}" if may_see else None,
                is_excluded=is_excluded,
            )
        case DeviceWish(device_id=device_id, is_excluded=is_excluded):
            device = devices.get(device_id)
            may_see = device is not None and caller.rights.may(Permission.SEE_DEVICES, device.unit_id)
            return Target(
                kind="device",
                name=device.name if device is not None else device_id,
                note=device_id,
                address=f"/devices/{device_id}" if may_see else None,
                is_excluded=is_excluded,
            )
        case GroupWish(group_id=group_id, is_excluded=is_excluded):
            group = groups.get(group_id)
            return Target(
                kind="group",
                name=group.name if group is not None else str(group_id),
                note=str(len(group.members)) if group is not None else "",
                is_excluded=is_excluded,
            )
        case KindWish(kind=kind, is_excluded=is_excluded):
            return Target(kind="kind", name=kind, is_excluded=is_excluded)
        case _:
            assert_never(target)
