"""Logging in and out, tokens, and how long either holds."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from services.control import forgetter
from services.control.permissions import Role
from services.control.settings import HttpSettings
from tests.support.control_api import PASSWORD, Api, an_api
from tests.support.database import TestDatabase

pytestmark = pytest.mark.integration


async def log_in(api: Api, login: str, password: str = PASSWORD) -> dict[str, str]:
    """A session in the client's cookie jar; returns the header unsafe requests need."""
    response = await api.client.post("/api/v1/sessions", json={"login": login, "password": password})
    assert response.status_code == 201, response.text
    return {"X-CSRF-Token": response.json()["csrf_token"]}


async def test_login_gives_a_cookie_that_scripts_and_other_sites_cannot_use(api: Api) -> None:
    account = await api.account((Role.OFFICER, "11"))
    response = await api.client.post("/api/v1/sessions", json={"login": account.login.upper(), "password": PASSWORD})
    assert response.status_code == 201
    cookie = response.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Secure" not in cookie
    assert response.json()["account"]["account_id"] == str(account.account_id)
    own = await api.client.get("/api/v1/account")
    assert own.json()["permissions"]["make_broadcasts"] == [str(api.units["11"])]
    assert own.json()["csrf_token"] == response.json()["csrf_token"]


async def test_behind_https_the_cookie_travels_on_https_only(database: TestDatabase, tmp_path: Path) -> None:
    async with an_api(database, tmp_path, http=HttpSettings(is_behind_https=True)) as api:
        account = await api.account((Role.VIEWER, "11"))
        response = await api.client.post("/api/v1/sessions", json={"login": account.login, "password": PASSWORD})
        assert "Secure" in response.headers["set-cookie"]
        assert response.headers["strict-transport-security"]


async def test_the_cookie_and_the_tokens_are_stored_as_hashes_only(api: Api) -> None:
    account = await api.account((Role.OFFICER, "11"))
    csrf = await log_in(api, account.login)
    made = await api.client.post("/api/v1/tokens", json={"name": "máy tính", "password": PASSWORD}, headers=csrf)
    secrets = [api.client.cookies["loa_session"], made.json()["token"], PASSWORD]
    for table in ("sessions", "api_tokens", "accounts", "audit"):
        dump = await api.fetchval(f"SELECT coalesce(string_agg(t::text, ' '), '') FROM control.{table} t")
        assert not any(secret in dump for secret in secrets), table


@pytest.mark.parametrize(
    ("login", "password"),
    [("known", "wrong password"), ("unknown", PASSWORD), ("disabled", PASSWORD), ("known", "x")],
)
async def test_a_failed_login_never_says_what_was_wrong(api: Api, login: str, password: str) -> None:
    await api.account((Role.OFFICER, "11"), login="known")
    disabled = await api.account((Role.OFFICER, "11"), login="disabled")
    await api.execute("UPDATE control.accounts SET disabled_at = now() WHERE account_id = $1", disabled.account_id)
    response = await api.client.post("/api/v1/sessions", json={"login": login, "password": password})
    assert response.status_code == 401
    assert response.json()["code"] == "wrong_login_or_password"
    assert response.json()["errors"] == []


async def test_failures_make_one_wait_longer_and_longer(api: Api) -> None:
    await api.account((Role.OFFICER, "11"), login="guessed")
    waits = []
    for _ in range(8):
        response = await api.client.post("/api/v1/sessions", json={"login": "guessed", "password": "wrong"})
        while response.status_code == 429:
            wait = int(response.headers["retry-after"])
            waits.append(wait)
            # The right password does not help who has to wait.
            early = await api.client.post("/api/v1/sessions", json={"login": "guessed", "password": PASSWORD})
            assert early.status_code == 429
            api.clock.forward(seconds=wait)
            response = await api.client.post("/api/v1/sessions", json={"login": "guessed", "password": "wrong"})
        assert response.status_code == 401
    assert waits == sorted(waits)
    assert waits[-1] >= 4
    api.clock.forward(seconds=waits[-1] * 2 + 1)
    await log_in(api, "guessed")
    # Success takes the failures back.
    again = await api.client.post("/api/v1/sessions", json={"login": "guessed", "password": "wrong"})
    assert again.status_code == 401


async def test_many_guesses_at_once_are_all_counted(api: Api) -> None:
    await api.account((Role.OFFICER, "11"), login="guessed")
    attempt = {"login": "guessed", "password": "wrong"}
    await asyncio.gather(*(api.client.post("/api/v1/sessions", json=attempt) for _ in range(12)))
    response = await api.client.post("/api/v1/sessions", json={"login": "guessed", "password": PASSWORD})
    assert response.status_code == 429


@pytest.mark.parametrize(
    ("headers", "status"),
    [({}, 403), ({"X-CSRF-Token": ""}, 403), ({"X-CSRF-Token": "0" * 64}, 403)],
    ids=["none", "empty", "foreign"],
)
async def test_a_session_changes_nothing_without_its_csrf_token(api: Api, headers: dict[str, str], status: int) -> None:
    account = await api.account((Role.OFFICER, "11"))
    await log_in(api, account.login)
    response = await api.client.post("/api/v1/tokens", json={"name": "x"}, headers=headers)
    assert (response.status_code, response.json()["code"]) == (status, "csrf_token_missing")
    assert await api.fetchval("SELECT count(*) FROM control.api_tokens") == 0


async def test_a_session_ends_when_it_is_idle_when_it_is_old_and_when_one_says_so(api: Api) -> None:
    account = await api.account((Role.OFFICER, "11"))

    async def status() -> int:
        return (await api.client.get("/api/v1/account")).status_code

    await log_in(api, account.login)
    assert await status() == 200
    api.clock.forward(hours=1.9)
    assert await status() == 200  # in use, so not idle
    api.clock.forward(hours=2.1)
    assert await status() == 401
    await log_in(api, account.login)
    for _ in range(6):
        api.clock.forward(hours=1.9)
        assert await status() == 200
    api.clock.forward(hours=1.9)
    assert await status() == 401  # twelve hours are over, although it was never idle
    csrf = await log_in(api, account.login)
    ended = await api.client.delete("/api/v1/sessions/current", headers=csrf)
    assert ended.status_code == 204
    assert await status() == 401


async def test_own_sessions_can_be_listed_and_ended_others_cannot(api: Api) -> None:
    account, other = await api.account((Role.OFFICER, "11")), await api.account((Role.OFFICER, "11"))
    await log_in(api, other.login)
    foreign = (await api.client.get("/api/v1/sessions")).json()[0]["session_id"]
    api.client.cookies.clear()
    await log_in(api, account.login)
    first = (await api.client.get("/api/v1/sessions")).json()[0]["session_id"]
    api.client.cookies.clear()
    api.clock.forward(minutes=1)
    csrf = await log_in(api, account.login)
    sessions = (await api.client.get("/api/v1/sessions")).json()
    assert [each["is_current"] for each in sessions] == [True, False]
    assert (await api.client.delete(f"/api/v1/sessions/{foreign}", headers=csrf)).status_code == 404
    assert (await api.client.delete(f"/api/v1/sessions/{first}", headers=csrf)).status_code == 204
    assert len((await api.client.get("/api/v1/sessions")).json()) == 1


async def test_a_token_opens_until_it_expires_or_is_revoked(api: Api) -> None:
    account = await api.account((Role.OFFICER, "11"))
    csrf = await log_in(api, account.login)
    expires_at = (api.clock.now + timedelta(days=2)).isoformat()
    made = await api.client.post(
        "/api/v1/tokens", json={"name": "a", "expires_at": expires_at, "password": PASSWORD}, headers=csrf
    )
    other = await api.client.post("/api/v1/tokens", json={"name": "b", "password": PASSWORD}, headers=csrf)
    api.client.cookies.clear()
    headers = {"Authorization": f"Bearer {made.json()['token']}"}
    assert (await api.client.get("/api/v1/account", headers=headers)).status_code == 200
    revoked = await api.client.delete(f"/api/v1/tokens/{other.json()['token_id']}", headers=headers)
    assert revoked.status_code == 204
    dead = {"Authorization": f"Bearer {other.json()['token']}"}
    assert (await api.client.get("/api/v1/account", headers=dead)).json()["code"] == "token_not_valid"
    api.clock.forward(days=2, seconds=1)
    assert (await api.client.get("/api/v1/account", headers=headers)).status_code == 401


async def test_a_token_makes_no_token_that_outlasts_it(api: Api) -> None:
    account = await api.account((Role.OFFICER, "11"))
    csrf = await log_in(api, account.login)
    expires_at = api.clock.now + timedelta(days=2)
    first = await api.client.post(
        "/api/v1/tokens", json={"name": "a", "expires_at": expires_at.isoformat(), "password": PASSWORD}, headers=csrf
    )
    api.client.cookies.clear()
    headers = {"Authorization": f"Bearer {first.json()['token']}"}
    second = await api.client.post("/api/v1/tokens", json={"name": "b"}, headers=headers)
    assert datetime.fromisoformat(second.json()["expires_at"]) == expires_at
    later = (expires_at + timedelta(seconds=1)).isoformat()
    third = await api.client.post("/api/v1/tokens", json={"name": "c", "expires_at": later}, headers=headers)
    assert (third.status_code, third.json()["errors"][0]["code"]) == (422, "instant_too_late")


@pytest.mark.parametrize(
    "authorization", ["Bearer", "Bearer ", "Bearer loa_nonsense", "Basic YTpi", "loa_x", "Bearer " + "x" * 5_000]
)
async def test_nonsense_in_the_authorization_header_is_refused(api: Api, authorization: str) -> None:
    response = await api.client.get("/api/v1/account", headers={"Authorization": authorization})
    assert response.status_code == 401
    assert response.headers["www-authenticate"].startswith("Bearer")


async def test_a_new_password_ends_the_other_sessions(api: Api) -> None:
    account = await api.account((Role.OFFICER, "11"))
    await log_in(api, account.login)
    old = api.client.cookies["loa_session"]
    api.client.cookies.clear()
    csrf = await log_in(api, account.login)
    wrong = {"old_password": "not it", "new_password": "mot mat khau khac"}
    assert (await api.client.put("/api/v1/account/password", json=wrong, headers=csrf)).status_code == 401
    easy = {"old_password": PASSWORD, "new_password": "1234567890"}
    refused = await api.client.put("/api/v1/account/password", json=easy, headers=csrf)
    assert refused.json()["errors"][0]["field"] == "new_password"
    right = {"old_password": PASSWORD, "new_password": "mot mat khau khac"}
    assert (await api.client.put("/api/v1/account/password", json=right, headers=csrf)).status_code == 204
    assert (await api.client.get("/api/v1/account")).status_code == 200
    api.client.cookies.clear()
    assert (await api.client.get("/api/v1/account", headers={"Cookie": f"loa_session={old}"})).status_code == 401
    await log_in(api, account.login, "mot mat khau khac")


async def test_stronger_hashing_costs_reach_old_accounts_when_they_log_in(
    database: TestDatabase, tmp_path: Path
) -> None:
    async with an_api(database, tmp_path) as api:
        account = await api.account((Role.OFFICER, "11"))
        before = await api.fetchval("SELECT password_hash FROM control.accounts WHERE login = $1", account.login)
        app_services = dataclasses.replace(api.services, passwords=type(api.services.passwords)())
        api.app.state.services = app_services
        await log_in(api, account.login)
        after = await api.fetchval("SELECT password_hash FROM control.accounts WHERE login = $1", account.login)
    assert before != after
    assert after.startswith("$argon2id$")


async def test_one_ends_all_other_sessions_of_one_s_own_at_once(api: Api) -> None:
    account = await api.account((Role.OFFICER, "11"))
    for _ in range(2):
        await log_in(api, account.login)
        api.client.cookies.clear()
    csrf = await log_in(api, account.login)
    ended = await api.client.delete("/api/v1/sessions", headers=csrf)
    assert (ended.status_code, ended.json()) == (200, {"ended": 2})
    assert [each["is_current"] for each in (await api.client.get("/api/v1/sessions")).json()] == [True]
    by_token = await api.client.delete("/api/v1/sessions", headers=await api.token(account))
    assert by_token.json() == {"ended": 1}
    assert (await api.client.get("/api/v1/sessions")).status_code == 401


async def test_an_administrator_sees_and_ends_sessions_and_tokens_of_people_below(api: Api) -> None:
    account = await api.account((Role.OFFICER, "11"))
    csrf = await log_in(api, account.login)
    made = await api.client.post(
        "/api/v1/tokens", json={"name": "máy", "permissions": ["see_units"], "password": PASSWORD}, headers=csrf
    )
    cookie = {"Cookie": f"loa_session={api.client.cookies['loa_session']}"}
    api.client.cookies.clear()
    bearer = {"Authorization": f"Bearer {made.json()['token']}"}
    administrator = await api.person((Role.ADMINISTRATOR, "1"))
    path = f"/api/v1/accounts/{account.account_id}"

    (before,) = (await api.client.get(f"{path}/tokens", headers=administrator)).json()
    assert (before["last_used_at"], before["last_used_origin"]) == (None, None)
    assert (before["name"], before["permissions"], before["unit_id"]) == ("máy", ["see_units"], None)
    assert "token" not in before
    assert (await api.client.get("/api/v1/units", headers=bearer)).status_code == 200
    (after,) = (await api.client.get(f"{path}/tokens", headers=administrator)).json()
    assert datetime.fromisoformat(after["last_used_at"]) == api.clock.now
    assert after["last_used_origin"] == "203.0.113.7"
    # Within a minute it is not written again.
    api.clock.forward(seconds=59)
    await api.client.get("/api/v1/units", headers=bearer)
    assert (await api.client.get(f"{path}/tokens", headers=administrator)).json() == [after]

    (session,) = (await api.client.get(f"{path}/sessions", headers=administrator)).json()
    assert (session["is_current"], session["origin"]) == (False, "203.0.113.7")
    assert (await api.client.delete(f"{path}/sessions", headers=administrator)).json() == {"ended": 1}
    assert (await api.client.get("/api/v1/account", headers=cookie)).status_code == 401
    token = f"{path}/tokens/{after['token_id']}"
    assert (await api.client.delete(token, headers=administrator)).status_code == 204
    assert (await api.client.delete(token, headers=administrator)).status_code == 404
    assert (await api.client.get("/api/v1/units", headers=bearer)).status_code == 401
    actions = "SELECT array_agg(action ORDER BY audit_id DESC) FROM (SELECT * FROM control.audit ORDER BY audit_id DESC LIMIT 2) a"
    assert await api.fetchval(actions) == ["token_revoked", "sessions_ended"]


async def test_what_is_long_over_is_forgotten_a_little_at_a_time(api: Api) -> None:
    account = await api.account((Role.OFFICER, "11"))
    await log_in(api, account.login)
    await api.token(account)
    await api.client.post("/api/v1/sessions", json={"login": "nobody", "password": "wrong"})
    await api.execute(
        "INSERT INTO control.second_factors (account_id, sealed, created_at) VALUES ($1, 'x', $2)",
        account.account_id,
        api.clock.now,
    )
    await api.execute(
        "INSERT INTO control.idempotency_keys (account_id, key, digest, answer, at) VALUES ($1, 'k', $2, '{}', $3)",
        account.account_id,
        bytes(32),
        api.clock.now,
    )
    count = """
        SELECT ARRAY[(SELECT count(*) FROM control.sessions), (SELECT count(*) FROM control.api_tokens),
                     (SELECT count(*) FROM control.login_attempts), (SELECT count(*) FROM control.second_factors),
                     (SELECT count(*) FROM control.idempotency_keys)]
    """
    await forgetter.forget(api.database, now=api.clock.now)
    assert await api.fetchval(count) == [1, 1, 3, 1, 1]
    await forgetter.forget(api.database, now=api.clock.now + timedelta(days=2, seconds=1))
    assert await api.fetchval(count) == [1, 1, 0, 0, 0]
    # The session ended after twelve hours; the token holds for years.
    has_more = await forgetter.forget(api.database, now=api.clock.now + timedelta(days=30, hours=13))
    assert await api.fetchval(count) == [0, 1, 0, 0, 0]
    assert not has_more
    await api.execute("UPDATE control.api_tokens SET revoked_at = $1", api.clock.now)
    await forgetter.forget(api.database, now=api.clock.now + timedelta(days=31))
    assert await api.fetchval(count) == [0, 0, 0, 0, 0]
