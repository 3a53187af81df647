"""By what size a second person is asked for: that of each unit whose ground is touched, and of what came shortly before."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import httpx
import pytest

from services.control import account_store, accounts, operation_kinds, operations
from services.control.alerts import By
from services.control.api.requests import means
from services.control.operation_performing import Done
from services.control.operation_store import Request
from services.control.permissions import Rights, Role
from services.shared.database.pool import Connection
from tests.integration.control.api.test_api_pages import Page, get
from tests.integration.control.api.test_api_second_person import (
    REQUESTS,
    WHY,
    alert_body,
    confirm,
    last_actions,
    policy,
    silence_body,
    tone,
    two,
)
from tests.support.control_api import PASSWORD, Api, add_device, add_source, broadcast_body, waiting_for_locks
from tests.support.people import somebody
from tests.support.waiting import until

pytestmark = pytest.mark.integration
__all__ = ["tone"]


async def issue(api: Api, headers: dict[str, str], *units: str, **changes: Any) -> httpx.Response:
    return await api.client.post("/api/v1/alerts", json=alert_body(api, *units, **changes), headers=headers)


async def set_volume(api: Api, headers: dict[str, str], unit: str, percent: int = 70) -> httpx.Response:
    path = f"/api/v1/units/{api.units[unit]}/volume"
    return await api.client.post(path, json={"volume_percent": percent}, headers=headers)


# --- the strictest of those whose ground is touched ------------------------------------------------------------------


async def test_what_is_large_for_a_commune_is_large_there_also_when_its_district_says_it(api: Api) -> None:
    await policy(api, "24", alerts=10, silences=10, volume=10, live=10)
    await policy(api, "11", alerts=2, silences=2, volume=2, live=2)
    for unit in ("11", "11", "12"):
        await add_device(api, unit)
    people = await two(api)
    officers = await two(api, role=Role.OFFICER)
    live = {"items": [{"relay_source_id": await add_source(api, "24"), "length_s": 300}]}
    answers = {
        "alerts": await issue(api, people.first),
        "silences": await api.client.post("/api/v1/silences", json=silence_body(api), headers=people.first),
        "volume": await set_volume(api, people.first, "1"),
        "live": await api.client.post(
            "/api/v1/broadcasts", json=await broadcast_body(api, "1", **live), headers=officers.first
        ),
    }
    for danger, answer in answers.items():
        assert answer.status_code == 202, (danger, answer.text)
        request = answer.json()
        assert (request["needed_from"], request["devices_before"]) == (2, 0), danger
        assert request["devices"] >= 3, danger
    elsewhere = await issue(api, people.first, "12")
    assert elsewhere.status_code == 201, "where the strict commune is not touched it has no say"


async def test_a_strict_commune_is_not_asked_about_devices_that_are_not_its_own(api: Api) -> None:
    await policy(api, "11", alerts=2)
    for unit in ("11", "12", "12"):
        await add_device(api, unit)
    people = await two(api)
    assert (await issue(api, people.first)).status_code == 201


# --- one small one after the other -----------------------------------------------------------------------------------


async def test_small_operations_of_one_person_are_counted_together_for_an_hour(api: Api) -> None:
    await policy(api, "24", alerts=3)
    for unit in ("11", "12", "21"):
        await add_device(api, unit)
    people = await two(api, unit="24")
    anywhere = {"unit_id": str(api.units["24"])}
    for unit in ("11", "12", "12"):
        assert (await issue(api, people.first, unit, **anywhere)).status_code == 201, "two devices, one of them twice"
        api.clock.forward(minutes=10)
    assert (await issue(api, people.second, "21", **anywhere)).status_code == 201, "what another did is another's"

    third = await issue(api, people.first, "21", **anywhere)

    assert third.status_code == 202, third.text
    request = third.json()
    assert (request["devices"], request["devices_before"], request["needed_from"]) == (1, 2, 3)
    viewer = await api.account((Role.VIEWER, "24"))
    await api.client.post("/login", data={"login": viewer.login, "password": PASSWORD})
    assert "Tính cả 2 thiết bị khác" in (await get(api, f"/alerts/requests/{request['request_id']}")).text
    api.client.cookies.clear()
    assert (await confirm(api, request, people.second)).status_code == 200
    assert await api.fetchval("SELECT count(*) FROM control.operations_done") == 4, "two have looked at the third"
    silence = await api.client.post("/api/v1/silences", json=silence_body(api, "11"), headers=people.first)
    assert silence.status_code == 201, "another kind is counted by itself"
    api.clock.forward(minutes=31)  # the first is more than an hour ago
    assert (await issue(api, people.first, "21", **anywhere)).status_code == 201


async def test_the_period_is_set_by_policy(api: Api) -> None:
    await policy(api, "24", volume=2, within_s=0)
    for unit in ("11", "12"):
        await add_device(api, unit)
    people = await two(api)
    assert [(await set_volume(api, people.first, unit)).status_code for unit in ("11", "12")] == [200, 200]
    await policy(api, "24", volume=2, within_s=7_200)
    api.clock.forward(minutes=110)
    again = await set_volume(api, people.first, "11", 40)
    assert (again.status_code, again.json()["devices_before"]) == (202, 1)
    administrator = await api.person((Role.ADMINISTRATOR, "24"))
    path = f"/api/v1/units/{api.units['24']}/policy"
    stored = await api.client.get(path, headers=administrator)
    assert stored.json()["own"]["second_person_from"]["within_s"] == 7_200
    for wrong in (-1, 86_401, True, "1"):
        body = {"second_person_from": {"volume": 2, "within_s": wrong}}
        headers = {**administrator, "If-Match": stored.headers["etag"]}
        refused = await api.client.put(path, json=body, headers=headers)
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "second_person_from.within_s")


async def test_of_small_ones_at_once_no_more_pass_than_one_after_the_other(api: Api) -> None:
    await policy(api, "24", volume=2)
    for unit in ("11", "12"):
        await add_device(api, unit)
    account = await api.account((Role.OPERATOR, "24"))
    async with api.database.connection() as connection:
        tree = (await api.services.directory.history(connection)).on(api.services.directory.today(now=api.clock.now))
    by = By(tree=tree, rights=Rights(account.grants, tree, now=api.clock.now), actor=accounts.actor_of(account))

    async def settle(connection: Connection, unit: str) -> object:
        operation = operation_kinds.setting_volume(api.units[unit], 70, ["cluster"], name=unit)
        return await operations.settle(connection, operation, by=by, means=means(api.services), now=api.clock.now)

    async with api.database.transaction() as second, asyncio.TaskGroup() as group:
        async with api.database.transaction() as first:
            assert isinstance(await settle(first, "11"), Done)
            late = group.create_task(settle(second, "12"))
            await until(lambda: waiting_for_locks(api), "the second waits for the first", deadline_s=20)
            assert not late.done()
        assert isinstance(await late, Request)


async def test_who_asks_twice_at_once_holds_no_alert_while_waiting_for_the_other(api: Api) -> None:
    """Else the other, which wants that alert, would wait for it in turn, and one of the two be ended by the database."""
    await add_device(api, "11")
    people = await two(api)
    issued = await api.client.post("/api/v1/alerts", json=alert_body(api), headers=people.first)
    alert_id = issued.json()["alert_id"]
    content = {key: value for key, value in alert_body(api).items() if key != "unit_id"}

    async with asyncio.TaskGroup() as group, api.database.transaction() as other:
        await account_store.lock(other, people.account.account_id)
        path, headers = f"/api/v1/alerts/{alert_id}/update", {**people.first, "If-Match": '"1"'}
        update = group.create_task(api.client.post(path, json=content, headers=headers))
        await until(lambda: waiting_for_locks(api), "the update waits", deadline_s=20)
        await other.execute("SELECT FROM control.alerts WHERE alert_id = $1 FOR UPDATE NOWAIT", uuid.UUID(alert_id))
        assert not update.done()
    assert (await update).status_code == 200


async def test_what_waits_or_was_refused_is_not_counted_as_done(api: Api) -> None:
    await policy(api, "24", volume=2)
    for unit in ("11", "12", "21"):
        await add_device(api, unit)
    people = await two(api, unit="24")
    waiting = await set_volume(api, people.first, "1")
    assert waiting.status_code == 202
    path = f"{REQUESTS}/{waiting.json()['request_id']}/refuse"
    assert (await api.client.post(path, json={"note": "Không"}, headers=people.second)).status_code == 200
    assert (await set_volume(api, people.first, "21")).status_code == 200


async def test_the_glass_is_broken_also_for_the_last_of_many_small_ones(api: Api) -> None:
    await policy(api, "24", volume=2)
    for unit in ("11", "12"):
        await add_device(api, unit)
    person = await somebody(api)
    await person.enrol()
    first, second = (f"/api/v1/units/{api.units[unit]}/volume" for unit in ("11", "12"))
    assert (await person.post(first, {"volume_percent": 60})).json() == {"changed": 1}
    assert (await person.post(second, {"volume_percent": 60}, alone=WHY)).json() == {"changed": 1}
    assert (await last_actions(api, 3))[0] == "glass_broken"
    assert await api.fetchval("SELECT devices_before FROM control.operation_requests WHERE state = 'alone'") == 1


async def test_pages_say_beforehand_that_the_last_of_small_ones_waits(api: Api) -> None:
    await policy(api, "24", silences=2)
    for unit in ("11", "12"):
        await add_device(api, unit)
    operator = await somebody(api)
    csrf = operator.csrf["X-CSRF-Token"]
    form = {"csrf_token": csrf, "unit": str(api.units["1"]), "reason": "Bị chiếm quyền"}
    look = {**form, "where": str(api.units["12"])}
    before = await api.client.post("/alerts/silence", data=look)
    assert "alone" not in Page(before.text).inputs
    said = await operator.post("/api/v1/silences", silence_body(api, "11"))
    assert said.status_code == 201, said.text
    after = await api.client.post("/alerts/silence", data=look)
    assert "alone" in Page(after.text).inputs
