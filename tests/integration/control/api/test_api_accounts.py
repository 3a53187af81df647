"""Accounts of other people over HTTP, and that nobody gets more than their granter has."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from services.control.permissions import Role
from tests.support.control_api import PASSWORD, Api, account_by_login

pytestmark = pytest.mark.integration


def an_account(api: Api, unit: str = "11", **changes: Any) -> dict[str, Any]:
    return {
        "login": "nguyen.van.an",
        "display_name": "Nguyễn Văn An",
        "unit_id": str(api.units[unit]),
        "password": PASSWORD,
        "grants": [{"unit_id": str(api.units[unit]), "role": "officer"}],
        **changes,
    }


async def test_an_account_that_was_made_can_log_in_and_do_its_work(api: Api) -> None:
    administrator = await api.person((Role.ADMINISTRATOR, "1"))
    made = await api.client.post(
        "/api/v1/accounts", json=an_account(api, login=" Nguyen.Van.An "), headers=administrator
    )
    assert made.status_code == 201, made.text
    assert made.json()["login"] == "nguyen.van.an"
    session = await api.client.post("/api/v1/sessions", json={"login": "nguyen.van.an", "password": PASSWORD})
    assert session.status_code == 201
    own = (await api.client.get("/api/v1/account")).json()
    assert own["permissions"]["make_bulletins"] == [str(api.units["11"])]


@pytest.mark.parametrize(
    ("changes", "field", "code"),
    [
        ({"login": "a"}, "login", "bad_login"),
        ({"login": "có dấu"}, "login", "bad_login"),
        ({"login": "x" * 201}, "login", "text_too_long"),
        ({"display_name": ""}, "display_name", "text_too_short"),
        ({"password": "short"}, "password", "password_too_short"),
        ({"password": "x" * 201}, "password", "password_too_long"),
        ({"password": "8888888888"}, "password", "password_too_easy"),
        ({"password": "nguyen.van.an1"}, "password", "password_too_easy"),
        ({"password": "aaaaaaaaaaaaaaa"}, "password", "password_too_easy"),
        ({"unit_id": "00000000-0000-4000-8000-000000000000"}, "unit_id", "unknown_unit"),
        (
            {"grants": [{"unit_id": "00000000-0000-4000-8000-000000000000", "role": "viewer"}]},
            "grants[0].unit_id",
            "unknown_unit",
        ),
        ({"grants": [{"unit_id": "x", "role": "king"}]}, "grants[0].unit_id", "not_a_uuid"),
        ({"is_disabled": False}, "is_disabled", "field_unknown"),
    ],
)
async def test_a_faulty_account_is_named(api: Api, changes: dict[str, Any], field: str, code: str) -> None:
    administrator = await api.person((Role.ADMINISTRATOR, "1"))
    accounts = await api.fetchval("SELECT count(*) FROM control.accounts")
    response = await api.client.post("/api/v1/accounts", json=an_account(api, **changes), headers=administrator)
    assert response.status_code == 422
    assert (field, code) in [(error["field"], error["code"]) for error in response.json()["errors"]]
    assert PASSWORD not in response.text
    assert await api.fetchval("SELECT count(*) FROM control.accounts") == accounts


async def test_a_login_is_given_once_whoever_has_it(api: Api) -> None:
    await api.account((Role.VIEWER, "2"), login="nguyen.van.an")
    administrator = await api.person((Role.ADMINISTRATOR, "1"))
    response = await api.client.post("/api/v1/accounts", json=an_account(api), headers=administrator)
    assert (response.status_code, response.json()["code"]) == (409, "login_taken")


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize(("unit", "allowed"), [("1", True), ("11", True), ("24", False), ("2", False), ("21", False)])
async def test_roles_are_granted_in_the_own_subtree_only(api: Api, role: Role, unit: str, allowed: bool) -> None:
    administrator = await api.person((Role.ADMINISTRATOR, "1"))
    grants = [{"unit_id": str(api.units[unit]), "role": role.value}]
    made = await api.client.post("/api/v1/accounts", json=an_account(api, grants=grants), headers=administrator)
    target = await api.account((Role.VIEWER, "11"))
    granted = await api.client.post(
        f"/api/v1/accounts/{target.account_id}/grants", json=grants[0], headers=administrator
    )
    assert (made.status_code, granted.status_code) == ((201, 200) if allowed else (403, 403))
    if not allowed:
        assert made.json()["code"] == granted.json()["code"] == "grant_above_own_rights"
        assert made.json()["errors"][0]["field"] == "grants[0].unit_id"
        assert granted.json()["errors"][0]["field"] == "unit_id"


async def test_nothing_granted_outlasts_the_granter_s_own_right(api: Api) -> None:
    end = api.clock.now + timedelta(days=7)
    temporary = await api.token(await api.account((Role.ADMINISTRATOR, "1"), expires_at=end))
    target = await api.account((Role.VIEWER, "11"))
    path = f"/api/v1/accounts/{target.account_id}/grants"
    body = {"unit_id": str(api.units["11"]), "role": "officer"}
    too_long = {**body, "expires_at": (end + timedelta(seconds=1)).isoformat()}
    refused = await api.client.post(path, json=too_long, headers=temporary)
    assert (refused.status_code, refused.json()["errors"][0]["code"]) == (403, "grant_outlasts_own")
    granted = await api.client.post(path, json=body, headers=temporary)
    officer = next(grant for grant in granted.json()["grants"] if grant["role"] == "officer")
    assert officer["expires_at"] == end.isoformat().replace("+00:00", "Z")


async def test_nobody_changes_their_own_rights(api: Api) -> None:
    account = await api.account((Role.ADMINISTRATOR, "1"))
    headers = await api.token(account)
    path = f"/api/v1/accounts/{account.account_id}"
    grant = {"unit_id": str(api.units["1"]), "role": "officer"}
    for response in (
        await api.client.post(f"{path}/grants", json=grant, headers=headers),
        await api.client.delete(f"{path}/grants/{api.units['1']}/administrator", headers=headers),
        await api.client.post(f"{path}/disable", headers=headers),
    ):
        assert (response.status_code, response.json()["code"]) == (403, "own_rights_untouchable")


async def test_an_account_with_rights_above_is_out_of_reach(api: Api) -> None:
    administrator = await api.person((Role.ADMINISTRATOR, "1"))
    province = await api.account((Role.ADMINISTRATOR, "24"), (Role.VIEWER, "11"))
    response = await api.client.post(f"/api/v1/accounts/{province.account_id}/disable", headers=administrator)
    assert (response.status_code, response.json()["code"]) == (403, "account_beyond_own_rights")
    # What lies in the own subtree may be taken back all the same.
    path = f"/api/v1/accounts/{province.account_id}/grants"
    taken = await api.client.delete(f"{path}/{api.units['11']}/viewer", headers=administrator)
    assert taken.status_code == 200
    refused = await api.client.delete(f"{path}/{api.units['24']}/administrator", headers=administrator)
    assert refused.status_code == 403


async def test_a_disabled_account_is_out_at_once_and_its_tokens_stay_dead(api: Api) -> None:
    administrator = await api.person((Role.ADMINISTRATOR, "1"))
    account = await api.account((Role.OFFICER, "11"), login="nguoi-cu")
    token = await api.token(account)
    await api.client.post("/api/v1/sessions", json={"login": "nguoi-cu", "password": PASSWORD})
    path = f"/api/v1/accounts/{account.account_id}"
    disabled = await api.client.post(f"{path}/disable", headers=administrator)
    assert disabled.json()["is_disabled"] is True
    assert (await api.client.get("/api/v1/account", headers=token)).status_code == 401
    assert (await api.client.get("/api/v1/account")).status_code == 401
    enabled = await api.client.post(f"{path}/enable", headers=administrator)
    assert enabled.json()["is_disabled"] is False
    assert (await api.client.get("/api/v1/account", headers=token)).status_code == 401
    assert (await api.client.get("/api/v1/account")).status_code == 401
    again = await api.client.post("/api/v1/sessions", json={"login": "nguoi-cu", "password": PASSWORD})
    assert again.status_code == 201


async def test_a_role_taken_back_is_gone_with_the_next_request(api: Api) -> None:
    administrator = await api.person((Role.ADMINISTRATOR, "1"))
    account = await api.account((Role.OFFICER, "11"))
    headers = await api.token(account)
    assert (await api.client.get("/api/v1/bulletins", headers=headers)).status_code == 200
    path = f"/api/v1/accounts/{account.account_id}/grants/{api.units['11']}/officer"
    assert (await api.client.delete(path, headers=administrator)).json()["grants"] == []
    assert (await api.client.get("/api/v1/bulletins", headers=headers)).status_code == 403
    assert (await api.client.delete(path, headers=administrator)).status_code == 404


async def test_passwords_and_their_hashes_are_never_shown_or_written_down(api: Api) -> None:
    administrator = await api.person((Role.ADMINISTRATOR, "1"))
    made = await api.client.post("/api/v1/accounts", json=an_account(api), headers=administrator)
    account = await account_by_login(api, "nguyen.van.an")
    listed = await api.client.get("/api/v1/accounts", headers=administrator)
    one = await api.client.get(f"/api/v1/accounts/{account.account_id}", headers=administrator)
    written = await api.fetchval("SELECT string_agg(a::text, ' ') FROM control.audit a")
    for text in (made.text, listed.text, one.text, written):
        assert PASSWORD not in text
        assert "argon2" not in text
    assert "nguyen.van.an" in listed.text
