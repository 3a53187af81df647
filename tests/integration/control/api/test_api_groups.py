"""Groups over HTTP: made, changed by two at once, used by broadcasts, closed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from services.control.permissions import Role
from tests.support.control_api import Api, add_broadcast, add_device, add_group, group_body

pytestmark = pytest.mark.integration


async def test_a_group_comes_back_as_it_was_made(api: Api) -> None:
    officer = await api.person((Role.OFFICER, "1"))
    one, two, board = [await add_device(api, *where) for where in (("11",), ("12",), ("11", "board"))]
    made = await api.client.post(
        "/api/v1/groups", json=await group_body(api, "1", name=" Chợ  Đồi ", members=[two, board, one]), headers=officer
    )
    assert (made.status_code, made.headers["etag"]) == (201, '"1"')
    read = await api.client.get(f"/api/v1/groups/{made.json()['group_id']}", headers=officer)
    assert read.json() == made.json()
    assert (read.json()["name"], read.json()["members"]) == ("Chợ Đồi", sorted([one, two, board]))
    listed = (await api.client.get("/api/v1/groups", headers=officer)).json()
    assert listed == [made.json()]


@pytest.mark.parametrize(
    ("changes", "field", "code"),
    [
        ({"members": ["nobody"]}, "members[0]", "unknown_device"),
        ({"members": ["No Body"]}, "members[0]", "bad_device_id"),
        ({"members": ["{cluster}", "{cluster}"]}, "members[1]", "member_repeated"),
        ({"members": ["{sensor}"]}, "members[0]", "device_cannot_play"),
        ({"members": ["{retired}"]}, "members[0]", "device_retired"),
        ({"name": " "}, "name", "text_too_short"),
        ({"unit_id": "00000000-0000-4000-8000-000000000000"}, "unit_id", "unknown_unit"),
        ({"colour": "red"}, "colour", "field_unknown"),
    ],
)
async def test_each_fault_names_its_field(api: Api, changes: dict[str, Any], field: str, code: str) -> None:
    officer = await api.person((Role.OFFICER, "11"))
    known = {"cluster": await add_device(api, "11"), "sensor": await add_device(api, "11", "sensor")}
    known["retired"] = await add_device(api, "11")
    await api.execute(
        "UPDATE control.devices SET retired_at = $2 WHERE device_id = $1", known["retired"], api.clock.now
    )
    if "members" in changes:
        changes = {"members": [member.format_map(known) for member in changes["members"]]}
    response = await api.client.post("/api/v1/groups", json=await group_body(api, "11", **changes), headers=officer)
    assert response.status_code == 422, response.text
    assert [(error["field"], error["code"]) for error in response.json()["errors"]] == [(field, code)]
    assert await api.fetchval("SELECT count(*) FROM control.device_groups") == 0


async def test_members_lie_below_the_group_s_unit_and_where_one_may_speak(api: Api) -> None:
    officer = await api.person((Role.OFFICER, "1"))
    inside, beside, elsewhere = [await add_device(api, code) for code in ("11", "12", "21")]
    response = await api.client.post(
        "/api/v1/groups", json=await group_body(api, "11", members=[inside, beside, elsewhere]), headers=officer
    )
    assert (response.status_code, response.json()["code"]) == (403, "target_outside_own_subtree")
    assert [error["field"] for error in response.json()["errors"]] == ["members[1]", "members[2]"]


async def test_of_two_changes_at_once_one_wins_and_the_other_sees_both_versions(api: Api) -> None:
    officer = await api.person((Role.OFFICER, "11"))
    group = await add_group(api, "11")
    path = f"/api/v1/groups/{group['group_id']}"
    bodies = [await group_body(api, "11", name=f"Nhóm {number}") for number in range(3)]
    assert (await api.client.put(path, json=bodies[0], headers=officer)).status_code == 428
    answers = await asyncio.gather(
        *(api.client.put(path, json=body, headers={**officer, "If-Match": '"1"'}) for body in bodies)
    )
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409]
    stored = (await api.client.get(path, headers=officer)).json()
    for answer in answers:
        if answer.status_code == 409:
            assert answer.json()["present"]["name"] == stored["name"]
            assert answer.json()["given"]["name"] != stored["name"]


async def test_a_group_that_is_in_use_stays_open_and_its_change_is_planned(api: Api) -> None:
    officer = await api.person((Role.OFFICER, "11"))
    group = await add_group(api, "11")
    path = f"/api/v1/groups/{group['group_id']}"
    broadcast = await add_broadcast(api, "11", targets=[{"group_id": group["group_id"]}])
    used = await api.client.delete(path, headers=officer)
    assert (used.status_code, used.json()["code"]) == (409, "group_in_use")
    assert used.json()["broadcasts"] == [broadcast["broadcast_id"]]
    await api.execute("DELETE FROM control.planning_requests")
    changed = await api.client.put(path, json=await group_body(api, "11"), headers={**officer, "If-Match": '"1"'})
    assert changed.status_code == 200
    assert str(await api.fetchval("SELECT broadcast_id FROM control.planning_requests")) == broadcast["broadcast_id"]

    await api.client.post(f"/api/v1/broadcasts/{broadcast['broadcast_id']}/withdraw", headers=officer)
    closed = await api.client.delete(path, headers={**officer, "If-Match": '"2"'})
    assert (closed.status_code, closed.json()["version"]) == (200, 3)
    assert closed.json()["closed_at"] is not None
    again = await api.client.delete(path, headers=officer)
    assert (again.status_code, again.json()["code"]) == (409, "group_closed")
    assert (await api.client.get("/api/v1/groups", headers=officer)).json() == []


async def test_a_group_that_something_waits_to_be_let_pass_for_stays_open(api: Api) -> None:
    """Let pass afterwards it would sound nowhere, and nobody would have said so."""
    officer = await api.person((Role.OFFICER, "11"))
    group = await add_group(api, "11")
    path = f"/api/v1/groups/{group['group_id']}"
    broadcast = await add_broadcast(api, "11", targets=[{"group_id": group["group_id"]}])
    await api.execute("UPDATE control.broadcasts SET state = 'awaiting_approval'")
    used = await api.client.delete(path, headers=officer)
    assert (used.status_code, used.json()["code"]) == (409, "group_in_use")
    assert used.json()["broadcasts"] == [broadcast["broadcast_id"]]
    await api.execute("UPDATE control.broadcasts SET state = 'rejected'")
    assert (await api.client.delete(path, headers=officer)).status_code == 200
