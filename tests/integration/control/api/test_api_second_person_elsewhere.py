"""What needs a second person beside alerts and silences (S-07): what is live, the volume of an area, keys, tests aloud."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import httpx
import pytest

from services.control import account_store
from services.control.permissions import Role
from services.control.trust.certificates import new_key
from tests.integration.control.api.test_api_enrolment import enrol, pem, request_of
from tests.integration.control.api.test_api_pages import get, log_in
from tests.integration.control.api.test_api_relays import planned
from tests.integration.control.api.test_api_second_person import (
    REQUESTS,
    WHY,
    asked,
    confirm,
    last_actions,
    policy,
    two,
)
from tests.integration.control.api.test_deciding_pages import hidden, inbox, post
from tests.support.control import a_keyring, a_planner
from tests.support.control_api import (
    PASSWORD,
    Api,
    add_device,
    add_media,
    add_offer,
    add_source,
    broadcast_body,
    waiting_for_locks,
)
from tests.support.people import somebody
from tests.support.waiting import until

pytestmark = pytest.mark.integration


async def volumes(api: Api) -> dict[str, int]:
    async with api.database.connection() as connection:
        rows = await connection.fetch("SELECT device_id, volume_percent FROM control.devices")
    return {row["device_id"]: row["volume_percent"] for row in rows}


async def shown_to_a_person(api: Api, request: dict[str, Any], *words: str) -> None:
    """The page of the request says what it is about."""
    account = await api.account((Role.VIEWER, "24"))
    await api.client.post("/login", data={"login": account.login, "password": PASSWORD})
    page = await get(api, f"/alerts/requests/{request['request_id']}")
    for each in words:
        assert each in page.text, each
    api.client.cookies.clear()


# --- the volume of an area -------------------------------------------------------------------------------------------


async def test_the_volume_of_an_area_is_set_as_far_as_each_device_s_cap_lets_it(api: Api) -> None:
    loud, capped = await add_device(api, "11"), await add_device(api, "12", volume_cap_percent=40)
    board, elsewhere = await add_device(api, "11", "board"), await add_device(api, "21")
    set_already = await add_device(api, "11", volume_percent=60)
    people = await two(api)
    path = f"/api/v1/units/{api.units['1']}/volume"

    done = await api.client.post(path, json={"volume_percent": 60}, headers=people.first)

    assert (done.status_code, done.json()) == (200, {"changed": 2})
    assert await volumes(api) == {loud: 60, capped: 40, board: 30, elsewhere: 30, set_already: 60}
    assert await last_actions(api, 3) == ["area_volume_set", "device_changed", "device_changed"]
    assert await api.fetchval("SELECT count(*) FROM control.planning_requests WHERE device_no IS NOT NULL") == 2
    both = {"volume_percent": 20, "kinds": ["board", "cluster"]}
    assert (await api.client.post(path, json=both, headers=people.first)).json() == {"changed": 4}
    for wrong, field in (
        ({"volume_percent": 101}, "volume_percent"),
        ({"volume_percent": True}, "volume_percent"),
        ({"volume_percent": 5, "kinds": []}, "kinds"),
        ({"volume_percent": 5, "kinds": ["sensor"]}, "kinds[0]"),
    ):
        refused = await api.client.post(path, json=wrong, headers=people.first)
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, field)


async def test_above_the_policy_s_size_the_volume_of_an_area_waits_for_another_person(api: Api) -> None:
    await policy(api, "24", volume=2)
    first, second = await add_device(api, "11"), await add_device(api, "12")
    people = await two(api)
    alone = await api.client.post(
        f"/api/v1/units/{api.units['11']}/volume", json={"volume_percent": 50}, headers=people.first
    )
    assert alone.json() == {"changed": 1}, "one device is less than two"

    request = await asked(api, people.first, f"/api/v1/units/{api.units['1']}/volume", body={"volume_percent": 70})

    assert (request["kind"], request["devices"], request["needed_from"]) == ("volume", 2, 2)
    assert await volumes(api) == {first: 50, second: 30}
    await shown_to_a_person(api, request, "Huyện Bắc: 70 %", "Đặt âm lượng cả vùng")
    for role, unit in ((Role.OFFICER, "1"), (Role.OPERATOR, "11")):
        assert (await confirm(api, request, await api.person((role, unit)))).status_code == 403
    assert (await confirm(api, request, people.first)).json()["code"] == "second_person_is_the_first"
    confirmed = await confirm(api, request, people.second)
    assert (confirmed.status_code, confirmed.json()["state"]) == (200, "confirmed"), confirmed.text
    assert await volumes(api) == {first: 70, second: 70}
    assert await last_actions(api, 1) == ["second_person_confirmed"]
    named = await api.fetchval(
        "SELECT count(*) FROM control.audit WHERE action = 'device_changed' AND account_id = $1",
        people.account.account_id,
    )
    assert named == 3, "what is carried out is the first person's"


async def test_one_person_alone_sets_a_volume_with_a_factor_and_a_reason(api: Api) -> None:
    await policy(api, "24", volume=1)
    device = await add_device(api, "11")
    person = await somebody(api)
    path, body = f"/api/v1/units/{api.units['1']}/volume", {"volume_percent": 5}
    bare = await person.post(path, body, alone=WHY)
    assert (bare.status_code, bare.json()["code"]) == (403, "second_factor_not_enrolled")
    await person.enrol()
    assert (await person.post(path, body, alone=WHY)).json() == {"changed": 1}
    assert await volumes(api) == {device: 5}
    assert await last_actions(api, 3) == ["glass_broken", "area_volume_set", "device_changed"]


# --- what is live ----------------------------------------------------------------------------------------------------


async def live_body(api: Api, **changes: Any) -> dict[str, Any]:
    items = [{"relay_source_id": await add_source(api, "24"), "length_s": 300}]
    return await broadcast_body(api, "11", items=items, **changes)


async def stored(api: Api) -> int:
    count: int = await api.fetchval("SELECT count(*) FROM control.broadcasts")
    return count


async def test_a_live_broadcast_waits_for_another_person_and_one_that_is_not_live_does_not(api: Api) -> None:
    await policy(api, "24", live=1)
    people = await two(api, role=Role.OFFICER)
    body = await live_body(api, title="Trực tiếp lễ khai giảng")
    tried = await api.client.post("/api/v1/broadcasts?dry_run=true", json=body, headers=people.first)
    assert tried.status_code == 200, "to be told what it would do asks nobody"
    ordinary = await api.client.post("/api/v1/broadcasts", json=await broadcast_body(api, "11"), headers=people.first)
    assert ordinary.status_code == 201

    request = await asked(api, people.first, "/api/v1/broadcasts", body=body)

    assert (request["kind"], request["devices"], await stored(api)) == ("live", 2, 1)
    await shown_to_a_person(api, request, "Trực tiếp lễ khai giảng", "VOV1", "Xã Đại Sơn", "05:30")
    operator = await confirm(api, request, await api.person((Role.OPERATOR, "1")))
    assert (operator.status_code, operator.json()["code"]) == (403, "not_permitted")
    confirmed = await confirm(api, request, people.second)
    assert confirmed.status_code == 200, confirmed.text
    made = await api.fetchval("SELECT created_by FROM control.broadcasts WHERE title = 'Trực tiếp lễ khai giảng'")
    assert made == people.account.account_id


async def test_a_change_to_something_live_waits_and_is_over_when_the_broadcast_was_changed_meanwhile(api: Api) -> None:
    people = await two(api, role=Role.OFFICER)
    body = await broadcast_body(api, "11")
    made = (await api.client.post("/api/v1/broadcasts", json=body, headers=people.first)).json()
    path = f"/api/v1/broadcasts/{made['broadcast_id']}"
    await policy(api, "24", live=1)
    live = {**body, "items": (await live_body(api))["items"]}

    async def put(content: dict[str, Any]) -> httpx.Response:
        return await api.client.put(path, json=content, headers={**people.first, "If-Match": '"1"'})

    waiting, another = await put(live), await put({**live, "title": "Hai"})
    assert (waiting.status_code, waiting.json()["kind"]) == (202, "live_change")
    assert (await confirm(api, waiting.json(), people.second)).status_code == 200
    assert (await api.client.get(path, headers=people.first)).json()["version"] == 2
    late = await confirm(api, another.json(), people.second)
    assert (late.status_code, late.json()["code"]) == (409, "request_outdated")


async def test_a_live_broadcast_that_is_sent_twice_under_one_key_is_asked_for_once(api: Api) -> None:
    await policy(api, "24", live=1)
    people = await two(api, role=Role.OFFICER)
    body, headers = await live_body(api), {**people.first, "Idempotency-Key": '"8e03978e-40d5-43dd-bc93"'}
    first = await api.client.post("/api/v1/broadcasts", json=body, headers=headers)
    again = await api.client.post("/api/v1/broadcasts", json=body, headers=headers)
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json() == first.json()
    assert again.headers["location"] == first.headers["location"]
    assert again.headers["idempotency-replayed"] == "true"
    assert await api.fetchval("SELECT count(*) FROM control.operation_requests") == 1


async def test_what_was_offered_with_something_live_in_it_waits_like_a_broadcast(api: Api) -> None:
    items = [{"relay_source_id": await add_source(api, "24"), "length_s": 300}]
    offered = await add_offer(api, "11", items=items, title="Tiếp sóng đài tỉnh")
    await policy(api, "11", live=1)
    people = await two(api, role=Role.OFFICER, unit="11")
    path = f"/api/v1/offers/{offered}/{api.units['11']}/schedule"
    times = {"starts_on": "2026-03-12", "local_times": ["17:30"], "note": "Giờ của xã"}
    tried = await api.client.post(f"{path}?dry_run=true", json=times, headers=people.first)
    assert tried.status_code == 200, tried.text
    elsewhere = path.replace(str(api.units["11"]), str(api.units["12"]))
    unknown = await api.client.post(elsewhere, json=times, headers=await api.person((Role.OFFICER, "12")))
    assert (unknown.status_code, unknown.json()["code"]) == (404, "offer_not_found")

    request = await asked(api, people.first, path, body=times)

    assert (request["kind"], request["devices"], await stored(api)) == ("live", 1, 1)
    assert await api.fetchval("SELECT state FROM control.offers") == "offered"
    await shown_to_a_person(api, request, "Tiếp sóng đài tỉnh", "VOV1", "Xã Đại Sơn", "17:30")
    confirmed = await confirm(api, request, people.second)
    assert confirmed.status_code == 200, confirmed.text
    async with api.database.connection() as connection:
        made = await connection.fetchrow(
            "SELECT o.state, o.note, b.created_by FROM control.offers o JOIN control.broadcasts b"
            " ON b.broadcast_id = o.scheduled_as AND b.offer_of = o.broadcast_id"
        )
    assert made is not None
    assert tuple(made) == ("scheduled", "Giờ của xã", people.account.account_id)


async def test_an_offer_that_was_changed_while_it_waited_is_outdated_and_not_unknown(api: Api) -> None:
    items = [{"relay_source_id": await add_source(api, "24"), "length_s": 300}]
    offered = await add_offer(api, "11", items=items)
    await policy(api, "11", live=1)
    people = await two(api, role=Role.OFFICER, unit="11")
    path = f"/api/v1/offers/{offered}/{api.units['11']}/schedule"
    request = await asked(api, people.first, path, body={"starts_on": "2026-03-12", "local_times": ["17:30"]})
    issuer = await api.person((Role.OFFICER, "24"))
    await add_device(api, "12")
    body = await broadcast_body(api, "24", items=items, targets=[{"unit_id": str(api.units["12"])}])
    changed = await api.client.put(f"/api/v1/broadcasts/{offered}", json=body, headers={**issuer, "If-Match": '"1"'})
    assert changed.status_code == 200, changed.text

    late = await confirm(api, request, people.second)

    assert (late.status_code, late.json()["code"]) == (409, "request_outdated")


async def test_a_live_offer_is_not_put_on_by_the_page_without_a_second_person_either(api: Api) -> None:
    items = [{"relay_source_id": await add_source(api, "24"), "length_s": 300}]
    offered = await add_offer(api, "11", items=items)
    await policy(api, "11", live=1)
    await log_in(api, (Role.OFFICER, "11"))
    shown = hidden((await api.client.get(inbox(api))).text, "shown")
    times = {"starts_on": "2026-03-12", "local_time": "17:30"}
    sent = await post(api, f"{inbox(api)}/{offered}", shown=shown, decision="schedule", **times)
    assert sent.status_code == 303, sent.text
    request_id = await api.fetchval("SELECT request_id FROM control.operation_requests WHERE state = 'waiting'")
    assert sent.headers["location"] == f"/alerts/requests/{request_id}"
    assert await stored(api) == 1


async def test_an_offer_that_was_changed_meanwhile_is_not_put_on_as_it_was(api: Api) -> None:
    items = [{"relay_source_id": await add_source(api, "24"), "length_s": 300}]
    offered = await add_offer(api, "11", items=items)
    await policy(api, "11", live=1)
    people = await two(api, role=Role.OFFICER, unit="11")
    times = {"starts_on": "2026-03-12", "local_times": ["17:30"]}
    request = await asked(api, people.first, f"/api/v1/offers/{offered}/{api.units['11']}/schedule", body=times)
    await api.execute("UPDATE control.broadcasts SET version = version + 1")
    late = await confirm(api, request, people.second)
    assert (late.status_code, late.json()["code"]) == (409, "request_outdated")
    assert await stored(api) == 1


async def test_another_address_for_what_devices_are_to_sound_waits_and_another_name_does_not(api: Api) -> None:
    await policy(api, "24", live=1)
    people = await two(api, unit="24")
    source_id = await add_source(api, "24")
    await planned(api, source_id)
    path = f"/api/v1/relay-sources/{source_id}"
    body = {"unit_id": str(api.units["24"]), "name": "Đài", "kind": "stream", "url": "https://vov.test/vov1"}

    async def put(version: int, **changes: Any) -> httpx.Response:
        headers = {**people.first, "If-Match": f'"{version}"'}
        return await api.client.put(path, json={**body, **changes}, headers=headers)

    assert (await put(1)).status_code == 200
    waiting = await put(2, url="https://khac.test/dai")
    assert (waiting.status_code, waiting.json()["kind"], waiting.json()["devices"]) == (202, "relay_change", 2)
    await shown_to_a_person(api, waiting.json(), "https://khac.test/dai")
    assert (await api.client.get(path, headers=people.first)).json()["url"] == "https://vov.test/vov1"
    assert (await confirm(api, waiting.json(), people.second)).status_code == 200
    assert (await api.client.get(path, headers=people.first)).json()["url"] == "https://khac.test/dai"


@pytest.mark.parametrize("what", ["source", "broadcast"])
async def test_who_changes_something_live_holds_it_not_while_another_request_of_theirs_is_judged(
    api: Api, what: str
) -> None:
    await policy(api, "24", live=100)
    people = await two(api, role=Role.OFFICER, unit="24") if what == "broadcast" else await two(api, unit="24")
    source_id = await add_source(api, "24")
    if what == "source":
        path, row = f"/api/v1/relay-sources/{source_id}", "control.relay_sources WHERE source_id = $1"
        body = {"unit_id": str(api.units["24"]), "name": "Đài", "kind": "stream", "url": "https://vov.test/vov1"}
        changed = source_id
    else:
        live = {"items": [{"relay_source_id": source_id, "length_s": 300}]}
        body = await broadcast_body(api, "11", **live)
        made = await api.client.post("/api/v1/broadcasts", json=body, headers=people.first)
        assert made.status_code == 201, made.text
        changed = made.json()["broadcast_id"]
        path, row = f"/api/v1/broadcasts/{changed}", "control.broadcasts WHERE broadcast_id = $1"

    async with asyncio.TaskGroup() as group, api.database.transaction() as other:
        await account_store.lock(other, people.account.account_id)
        put = group.create_task(api.client.put(path, json=body, headers={**people.first, "If-Match": '"1"'}))
        await until(lambda: waiting_for_locks(api), "the change waits", deadline_s=20)
        await other.execute(f"SELECT FROM {row} FOR UPDATE NOWAIT", uuid.UUID(changed))
        assert not put.done()
    assert (await put).status_code == 200, (await put).text


async def test_what_is_not_planned_yet_counts_too_when_a_source_becomes_another(api: Api) -> None:
    """Made harmlessly for next month, and retuned before planning comes to it, it would pass by the second person."""
    people = await two(api, unit="24")
    officer = await api.person((Role.OFFICER, "24"))
    source_id = await add_source(api, "24")
    body = await broadcast_body(
        api, "11", items=[{"relay_source_id": source_id, "length_s": 300}], starts_on="2026-04-10", title="Tháng sau"
    )
    made = await api.client.post("/api/v1/broadcasts", json=body, headers=officer)
    assert made.status_code == 201, made.text
    assert await api.fetchval("SELECT count(*) FROM control.emissions") == 0
    await policy(api, "24", live=2)
    await add_device(api, "11", "board")  # shows nothing of it
    path = f"/api/v1/relay-sources/{source_id}"
    other = {"unit_id": str(api.units["24"]), "name": "VOV1", "kind": "stream", "url": "https://khac.test/dai"}

    async def put(url: str) -> httpx.Response:
        version = (await api.client.get(path, headers=people.first)).json()["version"]
        headers = {**people.first, "If-Match": f'"{version}"'}
        return await api.client.put(path, json={**other, "url": url}, headers=headers)

    clusters = 1 + await api.fetchval("SELECT count(*) FROM control.devices WHERE kind = 'cluster'")
    await add_device(api, "11")
    waiting = await put("https://khac.test/mot")
    assert (waiting.status_code, waiting.json()["devices"]) == (202, clusters), waiting.text
    broadcast = f"/api/v1/broadcasts/{made.json()['broadcast_id']}"
    assert (await api.client.post(f"{broadcast}/withdraw", headers=officer)).status_code == 200
    free = await put("https://khac.test/hai")
    assert free.status_code == 200, "nothing is to sound it any more"


async def tried(api: Api, request: dict[str, Any], headers: dict[str, str]) -> httpx.Response:
    path = f"{REQUESTS}/{request['request_id']}/confirm"
    return await api.client.post(f"{path}?dry_run=true", json={"digest": request["digest"]}, headers=headers)


async def test_who_confirms_is_told_before_what_it_would_do(api: Api) -> None:
    """It is the very confirmation, rolled back: what that refuses is refused, and nobody is asked for a factor."""
    planner = a_planner(api.database, a_keyring())
    await policy(api, "24", live=1, volume=1)
    people = await two(api, role=Role.OFFICER)
    request = await asked(api, people.first, "/api/v1/broadcasts", body=await live_body(api, starts_on="2026-03-11"))
    await planner.plan_once(now=api.clock.now)
    own = await tried(api, request, people.first)
    assert (own.status_code, own.json()["code"]) == (403, "second_person_is_the_first")

    answer = await tried(api, request, people.second)

    assert answer.status_code == 200, answer.text
    outlook = answer.json()["outlook"]
    assert (answer.json()["devices"], outlook["add"], outlook["counts"]) == (1, 1, {"added": 1})
    assert await stored(api) == 0
    state = (await api.client.get(f"{REQUESTS}/{request['request_id']}", headers=people.second)).json()["state"]
    assert state == "waiting"
    assert (await confirm(api, request, people.second)).status_code == 200
    changes = await planner.plan_once(now=api.clock.now)
    assert changes is not None
    assert (len(changes.add), len(changes.withdraw)) == (1, 0)
    decided = await tried(api, request, people.second)
    assert (decided.status_code, decided.json()["code"]) == (409, "request_decided")


async def test_what_begins_beyond_the_days_that_are_planned_is_looked_at_there_before_it_is_confirmed(api: Api) -> None:
    await policy(api, "24", live=1)
    people = await two(api, role=Role.OFFICER)
    request = await asked(api, people.first, "/api/v1/broadcasts", body=await live_body(api, starts_on="2026-05-11"))
    outlook = (await tried(api, request, people.second)).json()["outlook"]
    assert (outlook["first"], outlook["counts"]) == ("2026-05-11", {"added": 1})


async def test_a_volume_and_a_source_that_wait_are_tried_like_what_was_asked_for(api: Api) -> None:
    await policy(api, "24", live=1, volume=1)
    people = await two(api, unit="24")
    source_id = await add_source(api, "24")
    await planned(api, source_id)
    path, body = f"/api/v1/relay-sources/{source_id}", {"unit_id": str(api.units["24"]), "name": "Đài"}
    headers = {**people.first, "If-Match": '"1"'}
    other = {**body, "kind": "stream", "url": "https://khac.test/dai", "direct": True}
    retuned = await api.client.put(path, json=other, headers=headers)
    assert retuned.status_code == 202, retuned.text
    louder = await asked(api, people.first, f"/api/v1/units/{api.units['24']}/volume", body={"volume_percent": 70})

    answers = [await tried(api, each, people.second) for each in (retuned.json(), louder)]

    assert [each.status_code for each in answers] == [200, 200], [each.text for each in answers]
    devices = await api.fetchval("SELECT count(*) FROM control.devices")
    assert [each.json()["devices"] for each in answers] == [2, devices]
    assert [each.json()["outlook"]["counts"] for each in answers] == [{"changed": 2}, {}]
    assert set((await volumes(api)).values()) == {30}


async def test_what_sounds_beside_every_plan_is_not_tried_out(api: Api) -> None:
    await policy(api, "24", alerts=1)
    await add_device(api, "11")
    people = await two(api)
    texts = [{"headline": "Lũ khẩn cấp", "media_sha256": await add_media(api)}]
    request = await asked(api, people.first, texts=texts)
    refused = await tried(api, request, people.second)
    assert (refused.status_code, refused.json()["code"]) == (409, "request_plans_nothing")
    assert await api.fetchval("SELECT count(*) FROM control.outbox WHERE kind = 'alert'") == 0


async def test_the_page_shows_who_confirms_what_it_would_do_and_to_nobody_else(api: Api) -> None:
    await policy(api, "24", live=1)
    people = await two(api, role=Role.OFFICER)
    request = await asked(api, people.first, "/api/v1/broadcasts", body=await live_body(api))
    page = f"/alerts/requests/{request['request_id']}"
    await log_in(api, (Role.OFFICER, "1"))
    shown = (await get(api, page)).text
    assert "Kết quả nếu xác nhận" in shown
    assert "Xã Đại Sơn 1 1 thêm" in " ".join(shown.split("Kết quả nếu xác nhận")[1].split())
    api.client.cookies.clear()
    await log_in(api, (Role.VIEWER, "1"))
    assert "Kết quả nếu xác nhận" not in (await get(api, page)).text
    await api.execute(
        "UPDATE control.accounts SET disabled_at = $1 WHERE account_id = $2", api.clock.now, people.account.account_id
    )
    api.client.cookies.clear()
    await log_in(api, (Role.OFFICER, "1"))
    barred = await get(api, page)
    assert people.account.login in barred.text.split("Kết quả nếu xác nhận")[1]


# --- keys ------------------------------------------------------------------------------------------------------------


async def test_claim_codes_for_many_devices_are_good_for_nothing_until_another_person_has_confirmed(api: Api) -> None:
    await policy(api, "24", keys=2)
    devices = [await add_device(api, unit) for unit in ("11", "21")]
    people = await two(api, role=Role.ADMINISTRATOR, unit="24")
    one = await api.client.post(f"/api/v1/devices/{devices[0]}/claim", headers=people.first)
    assert one.status_code == 201

    given = await api.client.post("/api/v1/devices/claims", json={"device_ids": devices}, headers=people.first)

    assert given.status_code == 202, given.text
    codes = [each["claim_code"] for each in given.json()["claims"]]
    assert all(code.replace("-", "") not in given.json()["request"]["content"].__repr__() for code in codes)
    csr = pem(request_of(new_key()))
    early = await enrol(api, codes[0], csr)
    assert (early.status_code, early.json()["code"]) == (401, "claim_code_not_valid")
    await shown_to_a_person(api, given.json()["request"], *devices)
    below = await confirm(api, given.json()["request"], await api.person((Role.ADMINISTRATOR, "1")))
    assert below.status_code == 403
    confirmed = await confirm(api, given.json()["request"], people.second)
    assert confirmed.status_code == 200, confirmed.text
    assert (await enrol(api, codes[0], csr)).status_code == 201
    listed = (await api.client.get(f"{REQUESTS}?state=confirmed", headers=people.first)).json()
    assert [each["kind"] for each in listed] == ["claims"]


async def test_a_batch_of_claim_codes_passes_no_unit_by_that_is_stricter(api: Api) -> None:
    await policy(api, "24", keys=10)
    await policy(api, "11", keys=1)
    await policy(api, "12", keys=3)
    strict, *lax = [await add_device(api, unit) for unit in ("11", "12", "12", "21")]
    people = await two(api, role=Role.ADMINISTRATOR, unit="24")

    async def claim(*device_ids: str) -> httpx.Response:
        return await api.client.post("/api/v1/devices/claims", json={"device_ids": device_ids}, headers=people.first)

    assert (await claim(*lax)).status_code == 201, (
        "two of the unit that says three, three of the province that says ten"
    )
    waiting = await claim(strict, *lax)
    assert waiting.status_code == 202, waiting.text
    request = waiting.json()["request"]
    assert (request["devices"], request["needed_from"]) == (4, 1)
    assert (await confirm(api, request, people.second)).status_code == 200


# --- tests aloud -----------------------------------------------------------------------------------------------------


async def test_a_test_that_sounds_now_waits_and_a_silent_one_does_not(api: Api) -> None:
    await policy(api, "24", alerts=1)
    sound = bytes.fromhex(await add_media(api))
    await api.execute("INSERT INTO control.alert_tones (tone, media_sha256) VALUES ('test', $1)", sound)
    await add_device(api, "11")
    people = await two(api)
    path = f"/api/v1/units/{api.units['1']}/alert-tests"
    silent = await api.client.post(path, json={"purpose": "silent_test"}, headers=people.first)
    assert silent.status_code == 201

    request = await asked(api, people.first, path, body={"purpose": "audible_test"})

    assert (request["kind"], request["alert_id"]) == ("audible_test", None)
    api.clock.forward(minutes=10)  # longer than such a test lasts: it begins when it is confirmed
    confirmed = await confirm(api, request, people.second)
    assert confirmed.status_code == 200, confirmed.text
    said = await api.client.get(f"/api/v1/alerts/{confirmed.json()['alert_id']}", headers=people.first)
    assert (said.json()["purpose"], said.json()["state"]) == ("audible_test", "in_force")


# --- the policy ------------------------------------------------------------------------------------------------------


async def test_each_danger_has_a_size_of_its_own_that_units_below_tighten_only(api: Api) -> None:
    await policy(api, "24", live=10, volume=20, keys=30)
    administrator = await api.person((Role.ADMINISTRATOR, "1"))
    path = f"/api/v1/units/{api.units['1']}/policy"
    etag = {"If-Match": (await api.client.get(path, headers=administrator)).headers["etag"]}
    for danger, size in (("live", 11), ("volume", 21), ("keys", 31)):
        body = {"second_person_from": {danger: size}}
        loose = await api.client.put(path, json=body, headers={**administrator, **etag})
        assert (loose.status_code, loose.json()["errors"][0]["code"]) == (422, "policy_loosens"), danger
    tight = {"second_person_from": {"volume": 5}}
    saved = await api.client.put(path, json=tight, headers={**administrator, **etag})
    held = saved.json()["effective"]["second_person_from"]
    assert {danger: each["value"] for danger, each in held.items()} == {"live": 10, "volume": 5, "keys": 30}
