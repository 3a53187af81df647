"""The second factor: enrolled, shown, used once, asked for, lost."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from services.control.permissions import Role
from services.control.settings import PolicySettings
from services.control.trust import totp
from services.control.trust.secret_box import SecretBox
from tests.support.control_api import PASSWORD, Api, an_api
from tests.support.database import TestDatabase
from tests.support.people import FACTOR, somebody

pytestmark = pytest.mark.integration

SHOW = "/api/v1/sessions/current/second-factor"
SOURCES = "/api/v1/relay-sources"


def source(api: Api) -> dict[str, Any]:
    return {
        "unit_id": str(api.units["1"]),
        "name": "Đài tỉnh",
        "kind": "stream",
        "url": "https://stream.vov.example/vov1",
    }


async def test_a_factor_is_in_force_once_a_code_of_it_was_given(api: Api) -> None:
    person = await somebody(api)
    await person.post(FACTOR, {"password": PASSWORD})
    assert (await api.client.get(FACTOR)).json() == {"is_in_force": False, "recovery_codes_left": 0}
    wrong = await person.post(f"{FACTOR}/confirm", {"code": "12345"})
    assert (wrong.status_code, wrong.json()["errors"][0]["code"]) == (422, "code_not_taken")
    await person.enrol()
    assert (await api.client.get(FACTOR)).json() == {"is_in_force": True, "recovery_codes_left": 10}
    again = await person.post(FACTOR, {"password": PASSWORD})
    assert (again.status_code, again.json()["code"]) == (409, "second_factor_in_force")


async def test_neither_secret_nor_recovery_codes_lie_open_in_the_database(api: Api) -> None:
    person = await somebody(api)
    await person.enrol()
    shown = [totp.as_text(person.secret), person.secret.hex(), *person.recovery]
    shown += [each.replace("-", "") for each in person.recovery]
    for table in ("second_factors", "recovery_codes", "audit", "sessions"):
        dump = await api.fetchval(f"SELECT coalesce(string_agg(t::text, ' '), '') FROM control.{table} t")
        assert not any(secret in dump for secret in shown), table


async def test_a_code_counts_once_also_when_it_comes_twice_at_once(api: Api) -> None:
    person = await somebody(api)
    await person.enrol()
    used = await person.post(SHOW, {"code": person.code()})
    assert used.status_code == 422  # it was the one that confirmed
    api.clock.forward(seconds=totp.PERIOD_S)
    code = {"code": person.code()}
    both = await asyncio.gather(*(person.post(SHOW, code) for _ in range(2)))
    assert sorted(each.status_code for each in both) == [204, 422]


async def test_a_recovery_code_counts_once_as_it_was_copied(api: Api) -> None:
    person = await somebody(api)
    await person.enrol()
    typed = f" {person.recovery[0].upper()} "
    assert (await person.post(SHOW, {"code": typed})).status_code == 204
    assert (await person.post(SHOW, {"code": typed})).status_code == 422
    assert (await api.client.get(FACTOR)).json()["recovery_codes_left"] == 9


async def test_wrong_codes_make_one_wait_and_a_right_one_does_not_pass_meanwhile(api: Api) -> None:
    person = await somebody(api)
    await person.enrol()
    api.clock.forward(minutes=1)
    statuses = [(await person.post(SHOW, {"code": "no code"})).status_code for _ in range(6)]
    assert statuses == [422, 422, 422, 422, 422, 429]
    waiting = await person.post(SHOW, {"code": person.code()})
    assert (waiting.status_code, waiting.json()["code"]) == (429, "too_many_codes")
    # What is no guess at all takes back its own count and no other.
    await person.post(f"{FACTOR}/confirm", {"code": "no code"})
    assert (await person.post(SHOW, {"code": "no code"})).status_code == 429
    api.clock.forward(seconds=int(waiting.headers["retry-after"]))
    assert (await person.post(SHOW, {"code": person.code()})).status_code == 204


async def test_a_live_source_asks_for_the_factor_of_who_has_one(api: Api) -> None:
    person = await somebody(api)
    assert (await person.post(SOURCES, source(api))).status_code == 201  # has none yet
    await person.enrol()
    assert (await person.post(SOURCES, source(api))).status_code == 201  # showed it a moment ago
    api.clock.forward(minutes=11)
    asked = await person.post(SOURCES, source(api))
    assert (asked.status_code, asked.json()["code"], asked.json()["operation"]) == (403, "second_factor_needed", "live")
    assert (await person.post(SHOW, {"code": person.code()})).status_code == 204
    assert (await person.post(SOURCES, source(api))).status_code == 201


async def test_a_program_sends_the_code_with_the_request(api: Api) -> None:
    person = await somebody(api)
    await person.enrol()
    made = await person.post("/api/v1/tokens", {"name": "máy", "password": PASSWORD})
    bearer = {"Authorization": f"Bearer {made.json()['token']}"}
    api.client.cookies.clear()
    assert (await api.client.post(SOURCES, json=source(api), headers=bearer)).json()["code"] == "second_factor_needed"
    api.clock.forward(minutes=1)
    with_code = {**bearer, "Loa-Second-Factor": person.code()}
    assert (await api.client.post(SOURCES, json=source(api), headers=with_code)).status_code == 201
    assert (await api.client.post(SOURCES, json=source(api), headers=with_code)).status_code == 422
    # A stolen token sets up no factor and takes none away.
    assert (await api.client.post(FACTOR, json={"password": PASSWORD}, headers=bearer)).json()["code"] == "no_session"
    removal = await api.client.post(f"{FACTOR}/remove", json={"code": person.recovery[0]}, headers=bearer)
    assert removal.json()["code"] == "no_session"


async def test_where_the_province_asks_everybody_who_has_none_is_refused(
    database: TestDatabase, tmp_path: Path
) -> None:
    async with an_api(database, tmp_path, policy=PolicySettings()) as api:
        person = await somebody(api)
        refused = await person.post(SOURCES, source(api))
        assert (refused.status_code, refused.json()["code"]) == (403, "second_factor_not_enrolled")
        await person.enrol()
        assert (await person.post(SOURCES, source(api))).status_code == 201


async def test_one_removes_the_own_factor_with_a_code_of_it(api: Api) -> None:
    person = await somebody(api)
    await person.enrol()
    assert (await person.post(f"{FACTOR}/remove", {"code": "no code"})).status_code == 422
    assert (await person.post(f"{FACTOR}/remove", {"code": person.recovery[3]})).status_code == 204
    assert (await api.client.get(FACTOR)).json() == {"is_in_force": False, "recovery_codes_left": 0}
    assert await api.fetchval("SELECT count(*) FROM control.sessions WHERE second_factor_at IS NOT NULL") == 0


async def test_an_administrator_removes_what_somebody_lost_but_not_their_own(api: Api) -> None:
    person = await somebody(api)
    await person.enrol()
    path = f"/api/v1/accounts/{person.account_id}/second-factor"
    api.client.cookies.clear()
    elsewhere = await api.person((Role.ADMINISTRATOR, "2"))
    assert (await api.client.delete(path, headers=elsewhere)).status_code == 403
    above = await api.account((Role.ADMINISTRATOR, "24"))
    headers = await api.token(above)
    assert (await api.client.delete(path, headers=headers)).status_code == 204
    assert (await api.client.delete(path, headers=headers)).json()["code"] == "no_second_factor"
    own = await api.client.delete(f"/api/v1/accounts/{above.account_id}/second-factor", headers=headers)
    assert own.status_code == 403
    noted = await api.fetchval("SELECT count(*) FROM control.audit WHERE action = 'second_factor_removed'")
    assert noted == 1


async def test_without_its_key_nothing_is_enrolled_and_nothing_passes(database: TestDatabase, tmp_path: Path) -> None:
    async with an_api(database, tmp_path, secret_box=None) as api:
        person = await somebody(api)
        assert (await person.post(FACTOR, {"password": PASSWORD})).json()["code"] == "second_factor_not_offered"
        strange = SecretBox([bytes([7] * 32)]).seal(b"x" * 20, owner=bytes(16))
        await api.execute(
            "INSERT INTO control.second_factors (account_id, sealed, created_at, confirmed_at)"
            " VALUES ($1::uuid, $2, now(), now())",
            person.account_id,
            strange,
        )
        assert (await person.post(SHOW, {"code": "123456"})).status_code == 503
        assert (await person.post(SOURCES, source(api))).status_code == 403


async def test_a_secret_is_sealed_anew_when_a_newer_key_stands_in_front(database: TestDatabase, tmp_path: Path) -> None:
    old, new = bytes([1] * 32), bytes([2] * 32)
    async with an_api(database, tmp_path, secret_box=SecretBox([old])) as api:
        person = await somebody(api)
        await person.enrol()
        services = api.services
        state = api.app.state

        async def shown(box: SecretBox, code: str) -> tuple[int, bool]:
            state.services = dataclasses.replace(services, secret_box=box)
            answer = await person.post(SHOW, {"code": code})
            return answer.status_code, SecretBox([new]).is_current(await api.fetchval(SEALED))

        api.clock.forward(minutes=1)
        assert await shown(SecretBox([new, old]), "000000") == (422, False)  # a wrong code changes nothing
        assert await shown(SecretBox([new, old]), person.code()) == (204, True)
        api.clock.forward(minutes=1)
        assert await shown(SecretBox([new]), person.code()) == (204, True)  # the old key is gone
        api.clock.forward(minutes=1)
        assert await shown(SecretBox([old]), person.code()) == (503, True)


SEALED = "SELECT sealed FROM control.second_factors"


async def test_emergencies_and_the_kill_switch_ask_whoever_has_a_factor_for_it(api: Api) -> None:
    person = await somebody(api)
    await person.enrol()
    api.clock.forward(minutes=10)  # since the code that confirmed it
    audience = {"areas": [{"units": [str(api.units["1"])]}]}
    silence = {"unit_id": str(api.units["1"]), "audience": audience, "reason": "Bị chiếm quyền"}
    alert = {
        "unit_id": str(api.units["1"]),
        "event": "Lũ",
        "texts": [{"headline": "Lũ khẩn cấp"}],
        "audience": audience,
        "valid_until": (api.clock.now + timedelta(hours=1)).isoformat(),
    }
    for path, body in (("/api/v1/silences", silence), ("/api/v1/alerts", alert)):
        refused = await person.post(path, body)
        assert (refused.status_code, refused.json()["code"]) == (403, "second_factor_needed"), path
    assert await api.fetchval("SELECT count(*) FROM control.alerts") == 0

    code = {"Loa-Second-Factor": person.code()}
    silenced = await person.post("/api/v1/silences", silence, **code)
    assert silenced.status_code == 201, silenced.text
    release = f"/api/v1/silences/{silenced.json()['alert_id']}/release"
    assert (await person.post(release, {}, **{"If-Match": "*"}, **code)).status_code == 422  # the code is used up
    api.clock.forward(minutes=10)
    assert (await person.post(release, {}, **{"If-Match": "*"})).json()["code"] == "second_factor_needed"
    assert (await person.post(SHOW, {"code": person.code()})).status_code == 204
    released = await person.post(release, {}, **{"If-Match": "*"})
    assert released.status_code == 200, released.text
