"""What several pages look up: units, content of broadcasts, sessions of a unit, whether a form asks for a second factor."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import time

from schemas.identifiers import UnitId
from services.control import broadcast_store, bulletin_store, second_factor_store
from services.control.api import step_up
from services.control.api.context import Caller, Services
from services.control.broadcast_requests import BulletinWish, RelayWish, Wish
from services.control.broadcast_store import StoredBroadcast
from services.control.pages.contents import Part, parts_of
from services.control.planning.policies import Policies, Policy
from services.control.units import UnitTree
from services.shared.database.pool import Connection


def unit_here(caller: Caller, unit_id: uuid.UUID) -> UnitId:
    """The unit that stands for one since a reform; that one itself where none does, or it is not known."""
    return caller.rights.tree.standing(UnitId(unit_id)) or UnitId(unit_id)


async def contents_of(
    connection: Connection, broadcasts: Iterable[StoredBroadcast]
) -> Mapping[uuid.UUID, tuple[Part, ...]]:
    """The items of broadcasts, by broadcast."""
    some = tuple(broadcasts)
    found = await contents_of_wishes(connection, [each.wish for each in some])
    return {each.broadcast_id: parts for each, parts in zip(some, found, strict=True)}


async def contents_of_wishes(connection: Connection, wishes: Sequence[Wish]) -> tuple[tuple[Part, ...], ...]:
    """The items of what is wished for, in the same order."""
    items = [item for each in wishes for item in each.items]
    bulletins = await bulletin_store.bulletins_by_id(
        connection, {item.bulletin_id for item in items if isinstance(item, BulletinWish)}
    )
    sources = await broadcast_store.sources_by_id(
        connection, {item.source_id for item in items if isinstance(item, RelayWish)}
    )
    return tuple(parts_of(each, bulletins, sources) for each in wishes)


def sessions_of(
    stated: Mapping[UnitId, Policy], unit_id: UnitId, tree: UnitTree
) -> tuple[tuple[str, str, time, time], ...]:
    """Code, name, begin and end of every session a unit can schedule by, in order of the day.

    A code means the slot of the lowest unit that names it.
    """
    by_code = {
        each.code: (each.code, each.name or each.code, each.begin, each.end)
        for policy in Policies(stated).at(unit_id, tree).policies
        for each in policy.sessions
    }
    return tuple(sorted(by_code.values(), key=lambda session: (session[2], session[0])))


async def code_asked(services: Services, caller: Caller, *, always: bool = False) -> str:
    """What a form of a dangerous operation asks for besides: `code` of the second factor, to `enrol` one, or "" nothing.

    `always`: the operation asks for one whatever the province's policy says.
    """
    shown_at = caller.actor.second_factor_at
    if shown_at is not None and caller.now - shown_at < step_up.HOLDS:
        return ""
    async with services.database.connection() as connection:
        factor = await second_factor_store.factor(connection, caller.actor.account_id)
    if factor is not None and factor.confirmed_at is not None:
        return "code"
    return "enrol" if always or services.policy.second_factor_needed else ""
