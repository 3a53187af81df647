"""Somebody else's password, session, token or authenticator app (S-06, S-07): what an attacker tries, over HTTP."""

from __future__ import annotations

import asyncio
import base64
import uuid
from collections import Counter
from pathlib import Path
from typing import Any, Literal

import argon2
import httpx
import pytest

from services.control import account_store
from services.control.passwords import Passwords
from services.control.permissions import Role
from services.control.throttle import Scope
from services.control.trust import totp
from tests.support.control_api import PASSWORD, Api, add_device, an_api
from tests.support.database import TestDatabase
from tests.support.people import FACTOR, Person, somebody
from tests.support.waiting import until

pytestmark = pytest.mark.integration

SESSIONS = "/api/v1/sessions"
SHOW = f"{SESSIONS}/current/second-factor"
AT_ONCE = 16
LET_THROUGH = 5  # four that cost nothing, and the one that begins to


def a_browser(api: Api, address: str = "203.0.113.7") -> httpx.AsyncClient:
    """Another browser, at an address."""
    app: Any = api.client._transport.app  # type: ignore[attr-defined]
    transport = httpx.ASGITransport(app=app, client=(address, 4711))
    return httpx.AsyncClient(transport=transport, base_url="http://loa.test")


def wrong_code(person: Person) -> str:
    """Six digits that are no code of these minutes."""
    near = range(totp.step_at(person.api.clock.now) - 2, totp.step_at(person.api.clock.now) + 3)
    taken = {totp.code_at(person.secret, step) for step in near}
    return next(each for each in (f"{number:06}" for number in range(100)) if each not in taken)


# --- guessing --------------------------------------------------------------------------------------------------------


async def test_of_many_guesses_at_once_no_more_are_judged_than_one_after_the_other(api: Api) -> None:
    await api.account((Role.OFFICER, "11"), login="guessed")
    attempt = {"login": "guessed", "password": "wrong"}
    answers = await asyncio.gather(*(api.client.post(SESSIONS, json=attempt) for _ in range(AT_ONCE)))
    said = Counter(each.status_code for each in answers)
    assert said[401] <= LET_THROUGH  # a busy machine may have no connection left for some: 503
    assert said.keys() <= {401, 429, 503}

    person = await somebody(api)
    await person.enrol()
    wrong = {"code": wrong_code(person)}
    answers = await asyncio.gather(*(person.post(SHOW, wrong) for _ in range(AT_ONCE)))
    said = Counter(each.status_code for each in answers)
    assert said[422] <= LET_THROUGH
    assert said.keys() <= {422, 429, 503}


async def test_codes_are_counted_by_person_whatever_session_or_token_they_come_with(api: Api) -> None:
    person = await somebody(api)
    await person.enrol()
    token = (await person.post("/api/v1/tokens", {"name": "máy", "password": PASSWORD})).json()["token"]
    second = await person.again()
    wrong = wrong_code(person)
    for _ in range(LET_THROUGH):
        assert (await second.post(SHOW, {"code": wrong})).status_code == 422
    async with a_browser(api, "198.51.100.9") as elsewhere:
        headers = {"Authorization": f"Bearer {token}", "Loa-Second-Factor": person.code()}
        path = f"/api/v1/units/{api.units['1']}/volume"
        answer = await elsewhere.post(path, json={"volume_percent": 5}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (429, "too_many_codes")


async def test_who_changes_the_address_within_a_network_is_counted_as_one(api: Api) -> None:
    await api.account((Role.OFFICER, "11"), login="guessed")
    statuses = []
    for number in range(LET_THROUGH + 1):
        async with a_browser(api, f"2001:db8:7::{number + 1:x}") as browser:
            answer = await browser.post(SESSIONS, json={"login": "guessed", "password": "wrong"})
            statuses.append(answer.status_code)
    assert statuses == [401] * LET_THROUGH + [429]
    async with a_browser(api, "2001:db8:8::1") as browser:  # the officer, elsewhere
        answer = await browser.post(SESSIONS, json={"login": "guessed", "password": PASSWORD})
    assert answer.status_code == 201


class _Counting(argon2.PasswordHasher):
    """Counts what costs time."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=8, parallelism=1)
        self.checked = 0

    def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:  # noqa: A002 - as the library calls it
        self.checked += 1
        return super().verify(hash, password)


async def test_who_exists_is_told_neither_by_the_answer_nor_by_how_much_is_reckoned(
    database: TestDatabase, tmp_path: Path
) -> None:
    hasher = _Counting()
    async with an_api(database, tmp_path, passwords=Passwords(hasher)) as api:
        await api.account((Role.OFFICER, "11"), login="co-that")
        gone = await api.account((Role.OFFICER, "11"), login="da-nghi")
        administrator = await api.person((Role.ADMINISTRATOR, "24"))
        disable = f"/api/v1/accounts/{gone.account_id}/disable"
        assert (await api.client.post(disable, headers=administrator)).status_code == 200
        told = []
        for login, password in (
            ("co-that", "wrong"),
            ("khong-co", "wrong"),
            ("da-nghi", "wrong"),
            ("da-nghi", PASSWORD),
        ):
            before = hasher.checked
            answer = await api.client.post(SESSIONS, json={"login": login, "password": password})
            facts = {name: value for name, value in answer.json().items() if name not in ("instance", "trace_id")}
            told.append(
                (answer.status_code, facts, dict(answer.headers) | {"x-request-id": ""}, hasher.checked - before)
            )
        assert all(each[0] == 401 and each[3] == 1 for each in told)
        assert [each[1]["code"] for each in told] == ["wrong_login_or_password"] * 4
        assert len({str(sorted(each[2])) for each in told}) == 1


# --- sessions --------------------------------------------------------------------------------------------------------


async def test_a_cookie_planted_beforehand_is_not_what_one_is_logged_in_with(api: Api) -> None:
    account = await api.account((Role.OFFICER, "11"))
    planted = base64.urlsafe_b64encode(bytes(32)).decode().rstrip("=")
    login = {"login": account.login, "password": PASSWORD}
    for path, content in (("/login", {"data": login}), (SESSIONS, {"json": login})):
        async with a_browser(api) as browser:
            browser.cookies.set("loa_session", planted, domain="loa.test")
            answer = await browser.post(path, **content)  # type: ignore[arg-type]
            given = answer.cookies["loa_session"]
            assert given != planted
        async with a_browser(api) as thief:
            thief.cookies.set("loa_session", planted, domain="loa.test")
            assert (await thief.get("/api/v1/account")).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://ke-xau.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "null"},
    ],
    ids=["origin", "cross_site", "neighbour", "sandboxed"],
)
async def test_no_page_of_another_site_logs_anybody_in(api: Api, headers: dict[str, str]) -> None:
    account = await api.account((Role.OFFICER, "11"))
    login = {"login": account.login, "password": PASSWORD}
    by_form = await api.client.post("/login", data=login, headers=headers)
    by_script = await api.client.post(SESSIONS, json=login, headers=headers)
    assert (by_form.status_code, by_script.status_code) == (403, 403)
    assert by_script.json()["code"] == "cross_site"
    assert not by_form.cookies
    assert not by_script.cookies
    own = {"Origin": "http://loa.test", "Sec-Fetch-Site": "same-origin"}
    assert (await api.client.post(SESSIONS, json=login, headers=own)).status_code == 201


async def test_who_found_a_session_open_makes_no_token_that_outlasts_it(api: Api) -> None:
    path = "/api/v1/tokens"
    person = await somebody(api)
    assert (await person.post(path, {"name": "x"})).json()["errors"][0]["code"] == "field_missing"
    wrong = await person.post(path, {"name": "x", "password": "mot mat khau khac"})
    assert (wrong.status_code, wrong.json()["code"]) == (401, "wrong_login_or_password")
    assert (await person.post(path, {"name": "x", "password": PASSWORD})).status_code == 201

    await person.enrol()
    thief = await person.again()  # who knows the password, too, and has no app
    asked = await thief.post(path, {"name": "y", "password": PASSWORD})
    assert (asked.status_code, asked.json()["operation"]) == (403, "make_token")
    assert await api.fetchval("SELECT count(*) FROM control.api_tokens WHERE name = 'y'") == 0
    api.clock.forward(seconds=31)
    code = {"Loa-Second-Factor": person.code()}
    assert (await thief.post(path, {"name": "y", "password": PASSWORD}, **code)).status_code == 201


async def test_what_one_session_has_shown_counts_for_no_other_and_for_no_token(api: Api) -> None:
    person = await somebody(api)
    await person.enrol()
    path, body = f"/api/v1/units/{api.units['1']}/volume", {"volume_percent": 5}
    assert (await person.post(path, body)).status_code == 200
    token = (await person.post("/api/v1/tokens", {"name": "máy", "password": PASSWORD})).json()["token"]
    cookie = api.client.cookies["loa_session"]
    thief = await person.again()
    assert (await thief.post(path, body)).json()["code"] == "second_factor_needed"
    async with a_browser(api) as program:
        answer = await program.post(path, json=body, headers={"Authorization": f"Bearer {token}"})
        assert answer.json()["code"] == "second_factor_needed"
        # With the cookie of the session that has, and the token of the one that has not, the token counts.
        program.cookies.set("loa_session", cookie, domain="loa.test")
        answer = await program.post(path, json=body, headers={**person.csrf, "Authorization": f"Bearer {token}"})
        assert answer.json()["code"] == "second_factor_needed"


async def test_who_holds_a_session_alone_sets_up_no_app_and_takes_no_password(api: Api) -> None:
    person = await somebody(api)
    for content in ({}, {"password": ""}, {"password": "guess-guess"}):
        refused = await person.post(FACTOR, content)
        assert refused.status_code in (401, 422), content
    assert await api.fetchval("SELECT count(*) FROM control.second_factors") == 0
    change = {"old_password": "guess-guess", "new_password": "mot mat khau moi hon"}
    refused = await api.client.put("/api/v1/account/password", json=change, headers=person.csrf)
    assert refused.status_code == 401


# --- codes of the app ------------------------------------------------------------------------------------------------


async def test_a_code_that_was_seen_opens_nothing_again_nor_does_an_older_one(api: Api) -> None:
    person = await somebody(api)
    await person.enrol()
    api.clock.forward(seconds=totp.PERIOD_S * 2)
    older = totp.code_at(person.secret, totp.step_at(api.clock.now) - 1)
    seen = person.code()
    path, body = f"/api/v1/units/{api.units['1']}/volume", {"volume_percent": 5}
    assert (await person.post(path, body, **{"Loa-Second-Factor": seen})).status_code == 200
    thief = await person.again()
    for code in (seen, older, f" {seen[:3]} {seen[3:]}"):
        assert (await thief.post(SHOW, {"code": code})).status_code == 422, code
    api.clock.forward(seconds=totp.PERIOD_S)  # still within the window of the one that was seen
    assert (await thief.post(SHOW, {"code": seen})).status_code == 422
    assert (await thief.post(f"{FACTOR}/remove", {"code": seen})).status_code == 422


async def test_a_code_of_somebody_else_s_app_is_none(api: Api) -> None:
    victim = await somebody(api)
    await victim.enrol()
    thief = await somebody(api)
    await thief.enrol()
    api.clock.forward(seconds=totp.PERIOD_S * 2)
    wrong = await thief.post(SHOW, {"code": victim.code()})
    recovery = await thief.post(SHOW, {"code": victim.recovery[0]})
    assert (wrong.status_code, recovery.status_code) == (422, 422)


# --- after somebody has left -----------------------------------------------------------------------------------------


async def test_who_was_disabled_is_out_of_every_door_at_once(api: Api) -> None:
    person = await somebody(api)
    token = (await person.post("/api/v1/tokens", {"name": "lịch", "password": PASSWORD})).json()["token"]
    basic = "Basic " + base64.b64encode(f"{person.login}:{token}".encode()).decode()
    device = await add_device(api, "11")
    doors: list[tuple[str, dict[str, str]]] = [
        ("/api/v1/account", {}),
        ("/", {}),
        ("/api/v1/account", {"Authorization": f"Bearer {token}"}),
        ("/api/v1/cap/feed.atom", {"Authorization": basic}),
        (f"/api/v1/units/{api.units['1']}/calendar.ics", {"Authorization": basic}),
        (f"/api/v1/devices/{device}/calendar.ics", {"Authorization": basic}),
    ]
    cookie = api.client.cookies["loa_session"]

    async def through() -> list[int]:
        async with a_browser(api) as browser:
            browser.cookies.set("loa_session", cookie, domain="loa.test")
            return [(await browser.get(path, headers=headers)).status_code for path, headers in doors]

    assert await through() == [200, 303, 200, 200, 200, 200]
    api.client.cookies.clear()
    administrator = await api.person((Role.ADMINISTRATOR, "24"))
    disabled = await api.client.post(f"/api/v1/accounts/{person.account_id}/disable", headers=administrator)
    assert disabled.status_code == 200
    assert await through() == [401, 303, 401, 401, 401, 401]
    enabled = await api.client.post(f"/api/v1/accounts/{person.account_id}/enable", headers=administrator)
    assert enabled.status_code == 200
    assert await through() == [401, 303, 401, 401, 401, 401], "what was theirs stays dead"


async def test_whose_role_was_taken_confirms_and_acknowledges_nothing(api: Api) -> None:
    person = await somebody(api)
    await api.execute("DELETE FROM control.role_grants WHERE account_id = $1", uuid.UUID(person.account_id))
    for path in ("/api/v1/operation-requests", "/api/v1/alerts", "/api/v1/cap/feed.atom"):
        assert (await api.client.get(path)).status_code == 403, path


async def test_of_two_guesses_at_once_the_second_sees_the_first(api: Api) -> None:
    keys = {Scope.SECOND_FACTOR: "somebody"}
    seen: list[int] = []

    async def look() -> None:
        async with api.database.transaction() as connection:
            seen.append((await account_store.failures(connection, keys))[Scope.SECOND_FACTOR][0])

    async def is_waiting() -> bool:
        waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted)"
        return bool(await api.fetchval(waits))

    async with asyncio.TaskGroup() as group, api.database.transaction() as first:
        assert await account_store.failures(first, keys) == {}
        await account_store.count_failure(first, keys, at=api.clock.now)
        group.create_task(look())
        await until(is_waiting, "the second waits for the first", deadline_s=60)
    assert seen == [1]
