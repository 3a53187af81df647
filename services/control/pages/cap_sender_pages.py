"""The page of CAP senders: whom a unit trusts to propose alerts, by way of which account, and the end of that trust."""

from __future__ import annotations

import uuid
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.datastructures import FormData

from schemas.identifiers import UnitId
from services.control import account_store
from services.control.account_store import Account
from services.control.alerting import cap_store
from services.control.api.access import Scope, requires
from services.control.api.context import Caller, Parts, Services
from services.control.api.fields import uuid_of
from services.control.api.routes import cap_senders as sender_routes
from services.control.errors import Fault, Invalid, Refusal
from services.control.pages.emergencies import is_mendable
from services.control.pages.forms import Sent, checked, form_of, given, only, returned
from services.control.pages.lookups import code_asked
from services.control.pages.pages import own_units, page, trail_of, wording_of
from services.control.permissions import Permission, Rights

router = APIRouter(include_in_schema=False)

SeerHere = Annotated[Caller, requires(Permission.SEE_ALERTS, Scope.UNIT)]
SetterHere = Annotated[Caller, requires(Permission.SET_POLICIES, Scope.UNIT)]

_TRUST, _REMOVE = "trust", "remove"


@router.get("/units/{unit_id}/cap-senders", response_class=HTMLResponse)
async def senders_page(unit_id: uuid.UUID, request: Request, caller: SeerHere, services: Parts) -> Response:
    """Whom the unit trusts, since when and by whose word."""
    return await _senders_page(unit_id, request, caller, services)


@router.post("/units/{unit_id}/cap-senders", response_class=HTMLResponse)
async def act(unit_id: uuid.UUID, request: Request, caller: SetterHere, services: Parts) -> Response:
    """Trust a sender by way of an account, or trust it no longer."""
    form = await form_of(request)
    values = given(form, "do", "sender", "code")
    do, code = values.get("do"), values.get("code")
    try:
        match do:
            case "trust":
                body = checked(sender_routes.CapSenderBody, given(form, "sender", "account_id"))
                await sender_routes.trust_sender(unit_id, body, caller, services, second_factor=code)
            case "remove":
                named = checked(sender_routes.CapSenderNameBody, given(form, "sender"))
                of = _trusting(unit_id, form, caller)
                await sender_routes.remove_sender(of, named, caller, services, second_factor=code)
            case _:
                raise Invalid(Fault("do", "not_one_of", {"expected": f"{_TRUST}, {_REMOVE}"}))
    except Refusal as error:
        if not is_mendable(error):
            raise
        # What is wrong with the end of a trust is said at its own button.
        about = values.get("sender", "") if do == _REMOVE else _TRUST
        places = ("code",) if do == _REMOVE else ("sender", "account_id", "code")
        back = returned(error, wording_of(request, services).language, place_of=only(*places))
        sent = Sent(about=about, form=form, back=back)
        return await _senders_page(unit_id, request, caller, services, sent=sent)
    return RedirectResponse(f"/units/{unit_id}/cap-senders", status_code=HTTPStatus.SEE_OTHER)


def _trusting(unit_id: uuid.UUID, form: FormData, caller: Caller) -> uuid.UUID:
    """The unit whose trust is to end: this one, or one that it follows since a reform."""
    named = given(form, "of").get("of")
    of = unit_id if named is None else uuid_of(named, field="of")
    if UnitId(of) not in caller.rights.tree.followed_by(UnitId(unit_id)):
        raise Invalid(Fault("of", "unknown_unit", {"unit": str(of)}))
    return of


async def _senders_page(
    unit_id: uuid.UUID, request: Request, caller: Caller, services: Services, *, sent: Sent | None = None
) -> Response:
    unit, tree = UnitId(unit_id), caller.rights.tree
    trusted = await sender_routes.list_senders(unit_id, caller, services)
    may_set = caller.rights.may(Permission.SET_POLICIES, unit) and tree.stands(unit)
    async with services.database.connection() as connection:
        lapsed = [
            each
            for old in sorted(tree.followed_by(unit) - {unit})
            for each in await cap_store.senders(connection, old)
            if each.sender not in {own.sender for own in trusted}
        ]
        people = {each.trusted_by for each in trusted if each.trusted_by is not None}
        people |= {each.account_id for each in trusted} | {each.account_id for each in lapsed}
        names = await account_store.display_names(connection, people)
        above = [own for each in tree.path(unit) for own in own_units(each, tree)]
        known = await account_store.accounts_of(connection, above)
    deliverers = [each for each in known if _delivers(each, unit, caller)]
    return page(
        request,
        services,
        "cap_senders.html",
        caller=caller,
        http_status=HTTPStatus.OK if sent is None else sent.back.status,
        trail=trail_of(caller, unit),
        unit=tree.get(unit),
        unit_id=unit,
        trusted=trusted,
        lapsed=lapsed,
        names=names,
        deliverers=deliverers,
        # Those that may deliver no more: whoever trusts them should know that nothing comes.
        mute={each.account_id for each in trusted} - {each.account_id for each in deliverers},
        may_set=may_set,
        code=await code_asked(services, caller) if may_set else "",
        sent=sent,
    )


def _delivers(account: Account, unit: UnitId, caller: Caller) -> bool:
    rights = Rights(account.grants, caller.rights.tree, now=caller.now)
    return account.disabled_at is None and rights.may(Permission.DELIVER_CAP, unit)
