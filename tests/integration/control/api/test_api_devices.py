"""The registry of devices over HTTP."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from services.control.permissions import Role
from tests.support.control_api import Api, add_device

pytestmark = pytest.mark.integration


def a_device(api: Api, unit: str = "11", **changes: Any) -> dict[str, Any]:
    return {"device_id": "cum-loa-1", "kind": "cluster", "unit_id": str(api.units[unit]), "name": "Cụm loa", **changes}


async def register(api: Api, devices: list[Any], **headers: str) -> Any:
    who = headers or await api.person((Role.ADMINISTRATOR, "1"))
    return await api.client.post("/api/v1/devices/batch", json={"devices": devices}, headers=who)


async def requests_for_planning(api: Api) -> list[str | None]:
    """Ids of the devices the planner was asked to look at, oldest request first."""
    async with api.database.connection() as connection:
        rows = await connection.fetch(
            """
            SELECT d.device_id FROM control.planning_requests r LEFT JOIN control.devices d USING (device_no)
             WHERE r.broadcast_id IS NULL ORDER BY r.request_id
            """
        )
    return [row["device_id"] for row in rows if row["device_id"] is not None]


async def test_a_fleet_is_registered_in_one_request(api: Api) -> None:
    devices = [a_device(api, device_id=f"cum-{number:04}", name=f"Cụm {number}") for number in range(500)]
    response = await register(api, devices)
    assert (response.status_code, response.json()) == (201, {"registered": 500})
    assert await api.fetchval("SELECT count(*) FROM control.devices") == 500
    assert len(await requests_for_planning(api)) == 500
    assert await api.fetchval("SELECT count(*) FROM control.audit WHERE action = 'device_registered'") == 500


async def test_a_gateway_and_the_devices_behind_it_come_together(api: Api) -> None:
    devices = [
        a_device(api, device_id="loa-fm-1", technology="fm", gateway_id="cau-noi-1"),
        a_device(api, device_id="cau-noi-1", kind="gateway"),
        a_device(api, device_id="loa-fm-2", technology="fm", gateway_id="cau-noi-1"),
    ]
    assert (await register(api, devices)).status_code == 201
    async with api.database.connection() as connection:
        rows = await connection.fetch("SELECT device_id, principal FROM control.device_registry ORDER BY device_id")
    assert [tuple(row) for row in rows] == [
        ("cau-noi-1", "cau-noi-1"),
        ("loa-fm-1", "cau-noi-1"),
        ("loa-fm-2", "cau-noi-1"),
    ]


@pytest.mark.parametrize(
    ("changes", "field", "code"),
    [
        ({"device_id": "Cum-Loa"}, "device_id", "bad_device_id"),
        ({"device_id": "ab"}, "device_id", "bad_device_id"),
        ({"device_id": "ingest"}, "device_id", "bad_device_id"),
        ({"device_id": "a/b"}, "device_id", "bad_device_id"),
        ({"device_id": "cụm-loa"}, "device_id", "bad_device_id"),
        ({"device_id": "x" * 49}, "device_id", "bad_device_id"),
        ({"device_id": 7}, "device_id", "not_a_text"),
        ({"device_id": None}, "device_id", "not_a_text"),
        ({"device_id": "da-co"}, "device_id", "device_id_taken"),
        ({"kind": "radio"}, "kind", "not_one_of"),
        ({"unit_id": "x"}, "unit_id", "not_a_uuid"),
        ({"unit_id": "00000000-0000-4000-8000-000000000000"}, "unit_id", "unknown_unit"),
        ({"name": ""}, "name", "text_too_short"),
        ({"name": "   "}, "name", "text_too_short"),
        ({"name": "x" * 121}, "name", "text_too_long"),
        ({"name": "a\x00b"}, "name", "text_has_control_characters"),
        ({"technology": "5g"}, "technology", "not_one_of"),
        ({"latitude": 91, "longitude": 0}, "latitude", "number_too_large"),
        ({"latitude": 21.3}, "longitude", "position_incomplete"),
        ({"volume_percent": 101}, "volume_percent", "number_too_large"),
        ({"volume_percent": -1}, "volume_percent", "number_too_small"),
        ({"volume_percent": 3.5}, "volume_percent", "not_a_whole_number"),
        ({"volume_percent": 60, "volume_cap_percent": 50}, "volume_percent", "volume_above_cap"),
        ({"heartbeat_interval_s": 0}, "heartbeat_interval_s", "number_too_small"),
        ({"gateway_id": "nobody"}, "gateway_id", "unknown_device"),
        ({"gateway_id": "da-co"}, "gateway_id", "not_a_gateway"),
        ({"gateway_id": "cau-xa"}, "gateway_id", "gateway_outside_own_subtree"),
        ({"kind": "gateway", "gateway_id": "cau-xa"}, "gateway_id", "gateway_behind_gateway"),
        ({"colour": "red"}, "colour", "field_unknown"),
    ],
)
async def test_one_faulty_device_keeps_all_out_and_is_named(
    api: Api, changes: dict[str, Any], field: str, code: str
) -> None:
    await add_device(api, "11", device_id="da-co")
    await add_device(api, "2", "gateway", device_id="cau-xa")
    good = a_device(api, device_id="cum-tot")
    response = await register(api, [good, a_device(api, **changes)])
    assert response.status_code == 422, response.text
    errors = [(error["field"], error["code"]) for error in response.json()["errors"]]
    assert errors == [(f"devices[1].{field}", code)]
    assert await api.fetchval("SELECT count(*) FROM control.devices") == 2


async def test_a_missing_field_and_a_repeated_id_are_named(api: Api) -> None:
    missing = await register(api, [{"device_id": "cum-loa-1"}])
    assert {error["field"] for error in missing.json()["errors"]} == {
        "devices[0].kind",
        "devices[0].unit_id",
        "devices[0].name",
    }
    repeated = await register(api, [a_device(api), a_device(api, name="lần hai")])
    assert [(error["field"], error["code"]) for error in repeated.json()["errors"]] == [
        ("devices[1].device_id", "device_id_repeated")
    ]


@pytest.mark.parametrize("devices", [[], "no list", None, [7], {"a": 1}])
async def test_what_is_no_list_of_devices_is_refused(api: Api, devices: Any) -> None:
    response = await register(api, devices)
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"].startswith("devices")


async def test_a_device_beyond_own_rights_is_refused_by_name(api: Api) -> None:
    response = await register(api, [a_device(api), a_device(api, "2", device_id="cum-xa")])
    assert response.status_code == 403
    assert [error["field"] for error in response.json()["errors"]] == ["devices[1].unit_id"]
    assert await api.fetchval("SELECT count(*) FROM control.devices") == 0


async def test_a_change_of_volume_asks_for_a_new_configuration(api: Api) -> None:
    device_id = await add_device(api, "11")
    operator = await api.person((Role.OPERATOR, "11"))
    path = f"/api/v1/devices/{device_id}"
    changed = await api.client.patch(path, json={"volume_percent": 55, "volume_cap_percent": 60}, headers=operator)
    assert (changed.json()["volume_percent"], changed.json()["volume_cap_percent"]) == (55, 60)
    assert await requests_for_planning(api) == [device_id]
    above = await api.client.patch(path, json={"volume_percent": 61}, headers=operator)
    assert above.json()["errors"][0]["code"] == "volume_above_cap"
    before, after = await _last_audit(api)
    assert (before["volume_percent"], after["volume_percent"]) == (30, 55)


async def _last_audit(api: Api) -> tuple[Any, Any]:
    async with api.database.connection() as connection:
        row = await connection.fetchrow("SELECT before, after FROM control.audit ORDER BY audit_id DESC LIMIT 1")
    assert row is not None
    return row["before"], row["after"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"volume_percent": None}, "volume_percent"),
        ({"name": None}, "name"),
        ({"latitude": 10.0}, "longitude"),
        ({"unit_id": "x"}, "unit_id"),
        ({"heartbeat_interval_s": 1e9}, "heartbeat_interval_s"),
    ],
)
async def test_a_faulty_change_is_named(api: Api, body: dict[str, Any], field: str) -> None:
    device_id = await add_device(api, "11")
    operator = await api.person((Role.OPERATOR, "11"))
    response = await api.client.patch(f"/api/v1/devices/{device_id}", json=body, headers=operator)
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == field


async def test_moving_needs_the_right_over_both_units(api: Api) -> None:
    device_id = await add_device(api, "11")
    path = f"/api/v1/devices/{device_id}/move"
    district = await api.person((Role.ADMINISTRATOR, "1"))
    commune = await api.person((Role.ADMINISTRATOR, "11"))
    to = {code: {"unit_id": str(api.units[code])} for code in ("12", "2")}
    assert (await api.client.post(path, json=to["12"], headers=commune)).status_code == 403
    assert (await api.client.post(path, json=to["2"], headers=district)).status_code == 403
    moved = await api.client.post(path, json=to["12"], headers=district)
    assert moved.json()["unit_id"] == str(api.units["12"])
    unknown = await api.client.post(path, json={"unit_id": "00000000-0000-4000-8000-000000000000"}, headers=district)
    assert unknown.json()["errors"][0]["field"] == "unit_id"


async def test_who_speaks_for_a_device_is_dated(api: Api) -> None:
    administrator = await api.person((Role.ADMINISTRATOR, "1"))
    device_id = await add_device(api, "11")
    gateways = [await add_device(api, "1", "gateway"), await add_device(api, "1", "gateway")]
    path = f"/api/v1/devices/{device_id}/gateway"
    for gateway_id in gateways:
        api.clock.forward(hours=1)
        assigned = await api.client.put(path, json={"gateway_id": gateway_id}, headers=administrator)
        assert assigned.json()["gateway_id"] == gateway_id
    api.clock.forward(hours=1)
    alone = await api.client.put(path, json={"gateway_id": None}, headers=administrator)
    assert alone.json()["gateway_id"] is None
    async with api.database.connection() as connection:
        rows = await connection.fetch(
            """
            SELECT g.device_id, extract(epoch FROM a.valid_until - a.valid_from) AS seconds
              FROM control.gateway_assignments a JOIN control.devices g ON g.device_no = a.gateway_no
             ORDER BY a.valid_from
            """
        )
    assert [(row["device_id"], int(row["seconds"])) for row in rows] == [(gateways[0], 3600), (gateways[1], 3600)]


async def test_a_retired_device_stays_as_it_is_and_a_gateway_in_use_stays(api: Api) -> None:
    administrator = await api.person((Role.ADMINISTRATOR, "1"))
    gateway_id, device_id = await add_device(api, "1", "gateway"), await add_device(api, "11")
    path = f"/api/v1/devices/{device_id}"
    await api.client.put(f"{path}/gateway", json={"gateway_id": gateway_id}, headers=administrator)
    api.clock.forward(seconds=1)
    in_use = await api.client.post(f"/api/v1/devices/{gateway_id}/retire", headers=administrator)
    assert (in_use.status_code, in_use.json()["code"]) == (409, "gateway_in_use")
    assert (await api.client.post(f"{path}/retire", headers=administrator)).status_code == 200
    for method, suffix, body in (
        ("POST", "/retire", None),
        ("PATCH", "", {"volume_percent": 10}),
        ("POST", "/move", {"unit_id": str(api.units["12"])}),
        ("PUT", "/gateway", {"gateway_id": None}),
    ):
        again = await api.client.request(method, f"{path}{suffix}", json=body, headers=administrator)
        assert (again.status_code, again.json()["code"]) == (409, "device_retired"), suffix
    listed = await api.client.get("/api/v1/devices", headers=administrator)
    assert [each["device_id"] for each in listed.json()["devices"]] == [gateway_id]
    assert (await api.client.post(f"/api/v1/devices/{gateway_id}/retire", headers=administrator)).status_code == 200


async def test_long_lists_come_in_pages(api: Api) -> None:
    wanted = sorted([await add_device(api, "11") for _ in range(7)])
    viewer = await api.person((Role.VIEWER, "24"))
    seen: list[str] = []
    after: str | None = None
    while True:
        query = {"limit": "3", **({"after": after} if after else {})}
        page = (await api.client.get("/api/v1/devices", params=query, headers=viewer)).json()
        seen += [each["device_id"] for each in page["devices"]]
        after = page["more_after"]
        if after is None:
            break
    assert seen == wanted


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "501"}, "limit"),
        ({"limit": "many"}, "limit"),
        ({"kind": "radio"}, "kind"),
        ({"liveness": "dead"}, "liveness"),
        ({"unit_id": "x"}, "unit_id"),
        ({"unit_id": "00000000-0000-4000-8000-000000000000"}, "unit_id"),
    ],
)
async def test_a_faulty_query_is_named(api: Api, query: dict[str, str], field: str) -> None:
    viewer = await api.person((Role.VIEWER, "24"))
    response = await api.client.get("/api/v1/devices", params=query, headers=viewer)
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == field


async def test_two_who_register_the_same_id_at_once_do_not_both_succeed(api: Api) -> None:
    headers = await api.person((Role.ADMINISTRATOR, "1"))
    answers = await asyncio.gather(*(register(api, [a_device(api)], **headers) for _ in range(6)))
    assert sorted(answer.status_code for answer in answers)[0] == 201
    losers = [answer for answer in answers if answer.status_code != 201]
    assert len(losers) == 5
    assert {answer.json()["code"] for answer in losers} <= {"changed_meanwhile", "devices_invalid"}
    assert await api.fetchval("SELECT count(*) FROM control.devices") == 1
