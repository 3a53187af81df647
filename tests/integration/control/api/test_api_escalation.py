"""Attempts to get more than one was given: by grants, accounts, tokens, and by being two people at once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import httpx
import pytest

from services.control.permissions import PERMISSIONS, Permission, Role
from tests.support.control_api import PASSWORD, Api, add_device
from tests.support.people import somebody

pytestmark = pytest.mark.integration

TOKENS = "/api/v1/tokens"


async def token(api: Api, headers: dict[str, str], **narrowed: Any) -> dict[str, str]:
    """Headers of a token made with these headers."""
    made = await api.client.post(TOKENS, json={"name": "máy", **narrowed}, headers=headers)
    assert made.status_code == 201, made.text
    return {"Authorization": f"Bearer {made.json()['token']}"}


async def refused(answer: httpx.Response, code: str, field: str | None = None) -> None:
    assert (answer.status_code, answer.json()["code"]) == (403, code), answer.text
    if field is not None:
        assert answer.json()["errors"][0]["field"] == field


# --- grants and accounts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", ["24", "2", "21"], ids=["above", "aside", "below_the_one_aside"])
async def test_nobody_grants_or_makes_anything_outside_the_own_subtree(api: Api, unit: str) -> None:
    administrator = await api.person((Role.ADMINISTRATOR, "1"))
    below = await api.account((Role.VIEWER, "11"))
    there = {"unit_id": str(api.units[unit]), "role": "viewer"}
    granted = await api.client.post(f"/api/v1/accounts/{below.account_id}/grants", json=there, headers=administrator)
    await refused(granted, "grant_above_own_rights", "unit_id")
    for body in ({"unit_id": str(api.units["1"]), "grants": [there]}, {"unit_id": str(api.units[unit])}):
        account = {"login": "con-roi", "display_name": "Con rối", "password": PASSWORD, **body}
        made = await api.client.post("/api/v1/accounts", json=account, headers=administrator)
        assert made.status_code == 403, made.text
    foreign = await api.account((Role.VIEWER, unit))
    for method, path in (
        ("POST", "disable"),
        ("POST", "enable"),
        ("GET", "sessions"),
        ("DELETE", "sessions"),
        ("GET", "tokens"),
        ("DELETE", "second-factor"),
    ):
        answer = await api.client.request(
            method, f"/api/v1/accounts/{foreign.account_id}/{path}", headers=administrator
        )
        await refused(answer, "account_beyond_own_rights")


async def test_an_account_that_is_also_something_above_is_out_of_reach(api: Api) -> None:
    administrator = await api.person((Role.ADMINISTRATOR, "1"))
    both = await api.account((Role.OFFICER, "11"), (Role.VIEWER, "24"))
    for path in ("disable", "enable"):
        answer = await api.client.post(f"/api/v1/accounts/{both.account_id}/{path}", headers=administrator)
        await refused(answer, "account_beyond_own_rights")
    ended = await api.client.delete(f"/api/v1/accounts/{both.account_id}/sessions", headers=administrator)
    await refused(ended, "account_beyond_own_rights")


@pytest.mark.parametrize("role", list(Role))
async def test_nobody_changes_what_they_are_themselves(api: Api, role: Role) -> None:
    own = await api.account((Role.ADMINISTRATOR, "1"))
    headers = await api.token(own)
    path = f"/api/v1/accounts/{own.account_id}"
    grant = {"unit_id": str(api.units["11"]), "role": role.value}
    await refused(await api.client.post(f"{path}/grants", json=grant, headers=headers), "own_rights_untouchable")
    taken = await api.client.delete(f"{path}/grants/{api.units['1']}/{role.value}", headers=headers)
    await refused(taken, "own_rights_untouchable")
    for verb in ("enable", "disable"):
        await refused(await api.client.post(f"{path}/{verb}", headers=headers), "own_rights_untouchable")


@pytest.mark.parametrize("role", [each for each in Role if each is not Role.ADMINISTRATOR])
async def test_only_administrators_have_to_do_with_accounts(api: Api, role: Role) -> None:
    headers = await api.person((role, "24"))
    account = await api.account((Role.VIEWER, "11"))
    grant = {"unit_id": str(api.units["11"]), "role": "viewer"}
    path = f"/api/v1/accounts/{account.account_id}"
    await refused(await api.client.post(f"{path}/grants", json=grant, headers=headers), "not_permitted")
    await refused(await api.client.get(f"{path}/tokens", headers=headers), "not_permitted")


async def test_a_right_for_a_time_gives_none_that_outlasts_it(api: Api) -> None:
    end = api.clock.now + timedelta(days=1)
    account = await api.account((Role.ADMINISTRATOR, "1"), expires_at=end)
    headers = await api.token(account)
    below = await api.account((Role.VIEWER, "11"))
    grant = {"unit_id": str(api.units["11"]), "role": "officer", "expires_at": (end + timedelta(seconds=1)).isoformat()}
    path = f"/api/v1/accounts/{below.account_id}/grants"
    await refused(await api.client.post(path, json=grant, headers=headers), "grant_above_own_rights", "expires_at")
    given = await api.client.post(path, json={**grant, "expires_at": None}, headers=headers)
    assert given.status_code == 200
    ends = [each["expires_at"] for each in given.json()["grants"] if each["role"] == "officer"]
    assert ends == [end.isoformat().replace("+00:00", "Z")]


# --- tokens ----------------------------------------------------------------------------------------------------------


async def test_a_token_is_never_wider_than_its_account(api: Api) -> None:
    operator = await api.account((Role.OPERATOR, "1"))
    headers = await api.token(operator)
    above = await api.client.post(
        TOKENS, json={"name": "x", "permissions": ["see_devices", "manage_accounts"]}, headers=headers
    )
    await refused(above, "token_above_own_rights", "permissions[0]")
    elsewhere = await api.client.post(
        TOKENS, json={"name": "x", "permissions": ["see_devices"], "unit_id": str(api.units["2"])}, headers=headers
    )
    await refused(elsewhere, "token_above_own_rights", "permissions[0]")
    unknown = await api.client.post(TOKENS, json={"name": "x", "unit_id": str(operator.account_id)}, headers=headers)
    assert (unknown.status_code, unknown.json()["errors"][0]["field"]) == (422, "unit_id")
    for wrong in ([], ["fly"], "see_devices"):
        answer = await api.client.post(TOKENS, json={"name": "x", "permissions": wrong}, headers=headers)
        assert answer.status_code == 422, wrong
    # A unit above gives no more than the account may below it, and what it loses later its token loses as well.
    wide = await token(api, headers, unit_id=str(api.units["24"]), permissions=["operate_devices", "own_account"])
    inside, outside = await add_device(api, "11"), await add_device(api, "21")
    change = {"name": "Cụm loa chợ"}
    assert (await api.client.patch(f"/api/v1/devices/{inside}", json=change, headers=wide)).status_code == 200
    await refused(await api.client.patch(f"/api/v1/devices/{outside}", json=change, headers=wide), "not_permitted_here")
    await api.execute("DELETE FROM control.role_grants WHERE account_id = $1", operator.account_id)
    await refused(await api.client.patch(f"/api/v1/devices/{inside}", json=change, headers=wide), "not_permitted")


async def test_a_narrowed_token_does_what_it_names_where_it_names_it_and_nothing_else(api: Api) -> None:
    account = await api.account(*((role, "24") for role in Role))
    narrow = await token(
        api, await api.token(account), permissions=["see_devices", "operate_devices"], unit_id=str(api.units["1"])
    )
    inside, outside = await add_device(api, "11"), await add_device(api, "21")
    listed = (await api.client.get("/api/v1/devices", headers=narrow)).json()["devices"]
    assert [each["device_id"] for each in listed] == [inside]
    change = {"name": "Cụm loa chợ"}
    assert (await api.client.patch(f"/api/v1/devices/{inside}", json=change, headers=narrow)).status_code == 200
    await refused(
        await api.client.patch(f"/api/v1/devices/{outside}", json=change, headers=narrow), "not_permitted_here"
    )
    # Whose it is belongs to another permission.
    owned = await api.client.patch(f"/api/v1/devices/{inside}", json={"ownership": "private"}, headers=narrow)
    await refused(owned, "not_permitted_here")
    for method, path, json in (
        ("GET", "/api/v1/audit", None),
        ("GET", "/api/v1/accounts", None),
        ("POST", "/api/v1/alerts/00000000-0000-4000-8000-000000000000/cancel", None),
        ("GET", "/api/v1/account", None),
        ("GET", "/api/v1/sessions", None),
        ("DELETE", "/api/v1/sessions", None),
        ("GET", TOKENS, None),
        ("POST", TOKENS, {"name": "rộng hơn"}),
        ("PUT", "/api/v1/account/password", {"old_password": PASSWORD, "new_password": "mot mat khau khac"}),
        ("POST", "/api/v1/account/second-factor", {"password": PASSWORD}),
    ):
        await refused(await api.client.request(method, path, json=json, headers=narrow), "not_permitted")


async def test_a_narrowed_token_makes_none_that_is_wider(api: Api) -> None:
    account = await api.account(*((role, "24") for role in Role))
    mine = ["own_account", "see_devices"]
    first = await token(api, await api.token(account), permissions=mine, unit_id=str(api.units["1"]))
    wider = await api.client.post(TOKENS, json={"name": "x", "permissions": ["see_audit"]}, headers=first)
    await refused(wider, "token_above_own_rights", "permissions[0]")
    for unit in ("24", "2"):
        moved = await api.client.post(TOKENS, json={"name": "x", "unit_id": str(api.units[unit])}, headers=first)
        await refused(moved, "token_above_own_rights", "unit_id")
    # What is not said is as it was of the one that makes it.
    made = (await api.client.post(TOKENS, json={"name": "x"}, headers=first)).json()
    assert (made["permissions"], made["unit_id"]) == (sorted(mine), str(api.units["1"]))


@pytest.mark.parametrize("role", list(Role))
async def test_every_permission_can_be_named_by_who_has_it_and_by_nobody_else(api: Api, role: Role) -> None:
    headers = await api.person((role, "11"))
    for permission in Permission:
        answer = await api.client.post(TOKENS, json={"name": "x", "permissions": [permission.value]}, headers=headers)
        assert answer.status_code == (201 if permission in PERMISSIONS[role] else 403), permission


# --- two at once -----------------------------------------------------------------------------------------------------


async def test_one_s_own_colleague_s_token_is_another_person_and_a_token_of_one_s_own_is_not(api: Api) -> None:
    """A program of another account is that account; its owner shows a factor or has none (`test_api_second_person`)."""
    account = await api.account((Role.OPERATOR, "1"))
    await api.execute(
        "INSERT INTO control.policies (unit_id, body, changed_at, changed_by) VALUES ($1, $2, now(), $3)"
        " ON CONFLICT (unit_id) DO UPDATE SET body = excluded.body",
        api.units["24"],
        {"second_person_from": {"silences": 1}},
        account.account_id,
    )
    await add_device(api, "11")
    audience = {"areas": [{"units": [str(api.units["1"])]}]}
    silence = {"unit_id": str(api.units["1"]), "audience": audience, "reason": "Bị chiếm quyền"}
    first, other_token = await api.token(account), await api.token(account)
    request = (await api.client.post("/api/v1/silences", json=silence, headers=first)).json()
    path, body = f"/api/v1/operation-requests/{request['request_id']}/confirm", {"digest": request["digest"]}
    narrow = await token(api, first, permissions=["see_alerts", "silence_devices"])
    for headers in (first, other_token, narrow):
        await refused(await api.client.post(path, json=body, headers=headers), "second_person_is_the_first")
    colleague = await api.account((Role.OPERATOR, "1"))
    # A token that was not given this right does not confirm, whatever its owner may.
    blind = await token(api, await api.token(colleague), permissions=["see_alerts", "operate_devices"])
    await refused(await api.client.post(path, json=body, headers=blind), "not_permitted")
    aside = await token(api, await api.token(colleague), unit_id=str(api.units["12"]))
    await refused(await api.client.post(path, json=body, headers=aside), "not_permitted_here")
    assert (await api.client.post(path, json=body, headers=await api.token(colleague))).status_code == 200


async def test_a_stolen_password_changed_back_ends_what_the_thief_made(api: Api) -> None:
    thief = await somebody(api)
    made = await thief.post(TOKENS, {"name": "cửa sau", "password": PASSWORD})
    stolen = {"Authorization": f"Bearer {made.json()['token']}"}
    owner = await thief.again()
    body = {"old_password": PASSWORD, "new_password": "mot mat khau khac"}
    changed = await api.client.put("/api/v1/account/password", json=body, headers=owner.csrf)
    assert changed.status_code == 204
    sessions = (await api.client.get("/api/v1/sessions")).json()
    assert [each["is_current"] for each in sessions] == [True]
    assert (await api.client.get("/api/v1/account", headers=stolen)).status_code == 401
