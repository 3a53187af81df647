"""What forms of emergencies share: whom it is for, the second factor and the second person, and being sent only once."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import Request, Response
from fastapi.responses import RedirectResponse
from starlette.datastructures import FormData

from schemas.identifiers import UnitId
from services.control import fleet_store, idempotency, operation_sizes, policy_store
from services.control.alerting import reach_store
from services.control.alerting.addressing import addressed
from services.control.alerting.model import Alert
from services.control.alerting.reach_store import Candidate
from services.control.api.alert_bodies import AlertView
from services.control.api.context import Caller, Services
from services.control.api.fields import Body, Reason
from services.control.api.requests import RequestView
from services.control.api.routes.alert_tests import TestIssuedView
from services.control.errors import Refusal
from services.control.pages.forms import Sent, checked, given, only, returned
from services.control.pages.pages import wording_of
from services.control.planning.model import DeviceNo
from services.control.planning.policies import Danger
from services.shared.database.pool import Connection

# What nobody can mend on the page where it happened.
_FINAL = frozenset({"not_permitted", "not_permitted_here", "alert_from_above", "alert_not_here", "alert_over"})


def is_mendable(error: Refusal) -> bool:
    """Whether a form of an emergency is given back for this, and not put aside."""
    return error.code not in _FINAL and not error.code.endswith("_not_found")


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """Whom it is for: the unit that speaks, and the units it names on its own ground."""

    unit_id: UnitId
    units: tuple[UnitId, ...]
    device_nos: frozenset[DeviceNo]
    clusters: int
    boards: int
    online: int

    @property
    def devices(self) -> int:
        """Everything that sounds or shows there."""
        return len(self.device_nos)


async def aim_of_units(unit_id: UnitId, units: tuple[UnitId, ...], caller: Caller, services: Services) -> Aim:
    """Everything that sounds or shows on the ground of units."""
    ground = {below for unit in units for below in caller.rights.tree.subtree(unit)}
    async with services.database.connection() as connection:
        found = await reach_store.candidates(connection, ground, ())
        return await _aim(connection, unit_id, units, found, caller)


async def aim_of_alert(alert: Alert, caller: Caller, services: Services) -> Aim:
    """Everything that an alert means, by the rule devices go by: shapes, kinds and exceptions count."""
    wish, tree = alert.draft.audience, caller.rights.tree
    ground = {below for unit in wish.units for below in tree.subtree(unit)}
    async with services.database.connection() as connection:
        found = await reach_store.candidates(connection, ground, wish.devices)
        meant = await asyncio.to_thread(addressed, alert, found, tree)
        return await _aim(connection, alert.draft.unit_id, wish.units, meant, caller)


async def _aim(
    connection: Connection, unit_id: UnitId, units: tuple[UnitId, ...], found: Sequence[Candidate], caller: Caller
) -> Aim:
    online = await fleet_store.online_among(connection, [each.device_no for each in found], now=caller.now)
    kinds = Counter(each.kind for each in found)
    return Aim(
        unit_id=unit_id,
        units=units,
        device_nos=frozenset(each.device_no for each in found),
        clusters=kinds["cluster"],
        boards=kinds["board"],
        online=online,
    )


def key_of(sent: Sent | None) -> str:
    """What makes a form be carried out once: that of the form that was sent, else a new one."""
    return sent.typed("key") if sent is not None else str(uuid.uuid4())


class _Alone(Body):
    """Why somebody does not wait for a second person, as the API takes it."""

    alone: Reason | None = None


def alone_of(form: FormData) -> str | None:
    """Why somebody does not wait for a second person. Raises `Invalid`."""
    return checked(_Alone, given(form, "alone")).alone


async def asks_second(device_nos: frozenset[DeviceNo], danger: Danger, caller: Caller, services: Services) -> bool:
    """Whether a policy asks for a second person where these devices are touched."""
    async with services.database.connection() as connection:
        asking = await policy_store.asking_for_second(connection, danger)
        size = await operation_sizes.reached(
            connection,
            asking,
            danger,
            device_nos,
            account_id=caller.actor.account_id,
            tree=caller.rights.tree,
            now=caller.now,
        )
    return size is not None


async def once(
    form: FormData,
    asked: Any,
    carry_out: Callable[[str | None], Awaitable[AlertView | RequestView | TestIssuedView]],
    again: Callable[[Sent], Awaitable[Response]],
    request: Request,
    caller: Caller,
    services: Services,
    *,
    places: Iterable[str] = (),
) -> Response:
    """Carry it out once, however often the form is sent; or give the form back with what is wrong.

    `places` are fields of the API that the form has besides those that every form of an emergency has.
    """
    values = given(form, "key", "code")
    try:
        key = idempotency.key_of(
            values.get("key", "-")[:64], account_id=caller.actor.account_id, operation="page", body=asked
        )
        async with services.database.transaction() as connection:

            async def do() -> str:
                return _address(await carry_out(values.get("code")))

            # Its own transaction holds the key and nothing else: what is said has been said, whatever becomes of this.
            address, _ = await idempotency.once(connection, key, do, now=caller.now)
    except Refusal as error:
        if not is_mendable(error):
            raise
        language = wording_of(request, services).language
        back = returned(error, language, place_of=only("code", "reason", "alone", "note", *places))
        return await again(Sent(about="go", form=form, back=back))
    return RedirectResponse(str(address), status_code=HTTPStatus.SEE_OTHER)


def _address(answer: AlertView | RequestView | TestIssuedView) -> str:
    """Where one sees what became of it: the alert, or what waits for a second person."""
    if isinstance(answer, RequestView):
        return f"/alerts/requests/{answer.request_id}"
    return f"/alerts/{answer.alert_id}"
