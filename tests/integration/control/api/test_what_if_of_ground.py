"""What-if for what devices and units are, and for live sources: a dry run says what the save then does."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from services.control.permissions import Role
from services.control.planner import Planner
from tests.support.control import a_keyring, a_planner
from tests.support.control_api import TREE, ZONE, Api, add_broadcast, add_bulletin, add_device

pytestmark = pytest.mark.integration

CSV = {"Content-Type": "text/csv"}
TABLES = (
    "broadcasts", "devices", "emissions", "audit", "planning_requests", "planning_problems", "issue_requests", "outbox",
    "units", "unit_versions", "unit_heirs", "unit_imports", "unit_reforms", "unit_parts", "relay_sources",
    "device_certificates", "requisitions",
)  # fmt: skip


@pytest.fixture
def planner(api: Api) -> Planner:
    return a_planner(api.database, a_keyring())


async def everything(api: Api) -> list[Any]:
    return [
        await api.fetchval(f"SELECT md5(string_agg(t::text, '|' ORDER BY t::text)) FROM control.{table} t")
        for table in TABLES
    ]


async def foretold(api: Api, planner: Planner, method: str, path: str, **send: Any) -> dict[str, Any]:
    """The outlook of a dry run, which leaves nothing behind and says what the save then comes to."""
    await planner.plan_once(now=api.clock.now)
    before = await everything(api)
    query = send.pop("params", {})
    shown = {"dry_run": "true", "detail_unit": str(api.units["11"])}
    tried = await api.client.request(method, path, params={**query, **shown}, **send)
    assert tried.status_code == 200, tried.text
    assert "etag" not in tried.headers
    assert await everything(api) == before
    outlook: dict[str, Any] = tried.json()["outlook"]

    done = await api.client.request(method, path, params=query, **send)

    assert done.is_success, done.text
    changes = await planner.plan_once(now=api.clock.now)
    assert changes is not None
    assert {name: outlook[name] for name in ("add", "withdraw", "stop")} == {
        "add": len(changes.add),
        "withdraw": len(changes.withdraw),
        "stop": len(changes.stop),
    }
    return outlook


def by_unit(outlook: dict[str, Any]) -> dict[str, dict[str, int]]:
    return {each["name"]: each["counts"] for each in outlook["units"]}


async def test_a_device_that_is_moved_loses_and_gains_a_programme(api: Api, planner: Planner) -> None:
    device_id = await add_device(api, "11")
    await add_device(api, "12")
    for unit, times in (("11", ["05:30", "06:30"]), ("12", ["17:00"]), ("1", ["12:00"])):
        await add_broadcast(api, unit, level="priority", local_times=times, targets=[{"unit_id": str(api.units[unit])}])
    admin = await api.person((Role.ADMINISTRATOR, "1"))

    outlook = await foretold(
        api, planner, "POST", f"/api/v1/devices/{device_id}/move", json={"unit_id": str(api.units["12"])}, headers=admin
    )

    # Told of the commune it comes to; what it sounds in both is no news. Nobody is left who could sound the other.
    assert by_unit(outlook) == {"Xã An Lạc": {"added": 1, "refused": 2}}
    assert {each["problem"]: each["occurrences"] for each in outlook["findings"]} == {"no_device": 2}


async def test_a_device_that_is_retired_falls_silent_and_that_is_told_before(api: Api, planner: Planner) -> None:
    device_id, _ = await add_device(api, "11"), await add_device(api, "11")
    await add_broadcast(api, "11", targets=[{"unit_id": str(api.units["11"])}])
    admin = await api.person((Role.ADMINISTRATOR, "1"))

    outlook = await foretold(api, planner, "POST", f"/api/v1/devices/{device_id}/retire", headers=admin)

    assert by_unit(outlook) == {"Xã Đại Sơn": {"removed": 1}}
    (device,) = outlook["detail"]["devices"]
    assert (device["device_id"], [each["kind"] for each in device["changes"]]) == (device_id, ["removed"])
    assert outlook["findings"] == []


async def test_devices_to_be_registered_get_what_is_planned_where_they_come(api: Api, planner: Planner) -> None:
    await add_device(api, "12")
    await add_broadcast(api, "1", level="priority", targets=[{"unit_id": str(api.units["1"])}])
    admin = await api.person((Role.ADMINISTRATOR, "1"))
    new = {"kind": "cluster", "unit_id": str(api.units["11"]), "name": "Cụm loa mới"}

    one = await foretold(api, planner, "POST", "/api/v1/devices", json={**new, "device_id": "moi-1"}, headers=admin)
    several = await foretold(
        api,
        planner,
        "POST",
        "/api/v1/devices/batch",
        json={
            "devices": [
                {**new, "device_id": "cong-1", "kind": "gateway"},
                {**new, "device_id": "moi-2", "gateway_id": "cong-1"},
                {**new, "device_id": "moi-3"},
            ]
        },
        headers=admin,
    )

    assert by_unit(one) == {"Xã Đại Sơn": {"added": 1}}
    (device,) = one["detail"]["devices"]
    assert (device["device_id"], [each["kind"] for each in device["changes"]]) == ("moi-1", ["added"])
    assert (one["units"][0]["unknown_devices"], by_unit(several)) == (1, {"Xã Đại Sơn": {"added": 2}})


async def test_what_nobody_could_sound_is_settled_by_the_device_that_can(api: Api, planner: Planner) -> None:
    gone = await add_device(api, "11")
    await add_broadcast(api, "11", targets=[{"unit_id": str(api.units["11"])}])
    admin = await api.person((Role.ADMINISTRATOR, "1"))
    assert (await api.client.post(f"/api/v1/devices/{gone}/retire", headers=admin)).status_code == 200
    new = {"device_id": "moi-1", "kind": "cluster", "unit_id": str(api.units["11"]), "name": "Cụm loa mới"}

    outlook = await foretold(api, planner, "POST", "/api/v1/devices", json=new, headers=admin)

    assert (outlook["counts"], outlook["findings"]) == ({"added": 1}, [])
    assert [each["problem"] for each in outlook["settled"]] == ["no_device"]


async def test_who_speaks_for_a_device_changes_nothing_that_it_sounds(api: Api, planner: Planner) -> None:
    device_id, gateway_id = await add_device(api, "11"), await add_device(api, "11", "gateway")
    await add_broadcast(api, "11", targets=[{"unit_id": str(api.units["11"])}])
    admin = await api.person((Role.ADMINISTRATOR, "1"))

    outlook = await foretold(
        api,
        planner,
        "PUT",
        f"/api/v1/devices/{device_id}/gateway",
        json={"gateway_id": gateway_id},
        headers=admin,
    )

    assert (outlook["counts"], outlook["units"], outlook["findings"]) == ({}, [], [])


async def test_a_volume_below_the_cap_of_the_hour_is_told_of_the_whole_area(api: Api, planner: Planner) -> None:
    """At six in the morning nobody is louder than 20 %: who is set to less from now on needs no cap any more."""
    for unit in ("11", "12"):
        await add_device(api, unit)
        await add_broadcast(api, unit, targets=[{"unit_id": str(api.units[unit])}])
    await api.execute(
        """
        INSERT INTO control.policies (unit_id, body, changed_at, changed_by)
        SELECT $1, $2, $3, account_id FROM control.accounts LIMIT 1
        """,
        api.units["11"],
        {"volume_caps": [{"begin": "05:00", "end": "06:00", "percent": 20}]},
        api.clock.now,
    )
    operator = await api.person((Role.OPERATOR, "1"))
    path, body = f"/api/v1/units/{api.units['1']}/volume", {"volume_percent": 10}

    tried = (await api.client.post(path, params={"dry_run": 1}, json=body, headers=operator)).json()
    outlook = await foretold(api, planner, "POST", path, json=body, headers=operator)

    assert (tried["changed"], by_unit(outlook)) == (2, {"Xã Đại Sơn": {"changed": 1}})


async def test_a_board_that_is_somebody_s_own_from_now_on_shows_nothing_more(api: Api, planner: Planner) -> None:
    device_id = await add_device(api, "11", "board")
    items = [{"bulletin_id": await add_bulletin(api, "11", board_text="Tiêm chủng")}]
    await add_broadcast(api, "11", targets=[{"unit_id": str(api.units["11"])}], items=items)
    admin = await api.person((Role.ADMINISTRATOR, "1"))

    outlook = await foretold(
        api, planner, "PATCH", f"/api/v1/devices/{device_id}", json={"ownership": "private"}, headers=admin
    )

    assert by_unit(outlook) == {"Xã Đại Sơn": {"refused": 1}}
    assert [(each["problem"], each["is_refusal"]) for each in outlook["findings"]] == [("private_board", True)]


async def test_what_a_save_refuses_its_dry_run_refuses_in_the_same_words(api: Api) -> None:
    device_id = await add_device(api, "11")
    district = await api.person((Role.ADMINISTRATOR, "1"))
    root = await api.person((Role.ADMINISTRATOR, "24"))
    asked: list[tuple[str, dict[str, Any]]] = [
        (
            "/api/v1/devices",
            {
                "json": {"device_id": device_id, "kind": "board", "unit_id": str(api.units["11"]), "name": "X"},
                "headers": district,
            },
        ),
        (f"/api/v1/devices/{device_id}/move", {"json": {"unit_id": str(api.units["2"])}, "headers": district}),
        (
            "/api/v1/units/import",
            {
                "content": TREE.replace("11,1,commune,Xã Đại Sơn\n", ""),
                "headers": {**root, **CSV},
                "params": {"valid_from": "2026-03-12"},
            },
        ),
    ]
    for path, send in asked:
        query = send.pop("params", {})
        tried = await api.client.post(path, params={**query, "dry_run": "true"}, **send)
        refused = await api.client.post(path, params=query, **send)
        assert (tried.status_code, tried.json()) == (refused.status_code, refused.json())
        assert refused.status_code in {403, 409, 422}


@pytest.mark.parametrize("days", [2, 60])
async def test_a_tree_to_come_is_tried_where_it_begins(api: Api, planner: Planner, days: int) -> None:
    """Commune 11 is closed with a loudspeaker in it; what the district has for both communes reaches one less from then on."""
    await add_device(api, "11")
    await add_device(api, "12")
    district = [{"unit_id": str(api.units["1"])}]
    await add_broadcast(api, "1", level="priority", recurrence="daily", targets=district)
    day = api.clock.now.astimezone(ZONE).date() + timedelta(days=days)
    root = await api.person((Role.ADMINISTRATOR, "24"))
    send: dict[str, Any] = {
        "params": {"valid_from": day.isoformat(), "may_strand": "true"},
        "content": TREE.replace("11,1,commune,Xã Đại Sơn\n", ""),
        "headers": {**root, **CSV},
    }
    if days == 2:
        outlook = await foretold(api, planner, "POST", "/api/v1/units/import", **send)
    else:
        params = {**send["params"], "dry_run": "true"}
        outlook = (await api.client.post("/api/v1/units/import", **{**send, "params": params})).json()["outlook"]
        assert outlook["first"] == day.isoformat()

    assert outlook["counts"].keys() == {"removed"}
    assert outlook["withdraw"] == outlook["counts"]["removed"] > 5


async def test_what_a_reform_leaves_out_is_told_before(api: Api, planner: Planner) -> None:
    """Commune 11 goes over into one of the other district, which is beyond the reach of the one that broadcast to it."""
    await add_device(api, "11")
    await add_device(api, "12")
    targets = [{"unit_id": str(api.units["1"])}]
    await add_broadcast(api, "1", level="priority", recurrence="daily", targets=targets)
    day = api.clock.now.astimezone(ZONE).date() + timedelta(days=3)
    root = await api.person((Role.ADMINISTRATOR, "24"))

    outlook = await foretold(
        api,
        planner,
        "POST",
        "/api/v1/units/reform",
        params={"valid_from": day.isoformat()},
        files={
            "tree": ("cay.csv", TREE.replace("11,1,commune,Xã Đại Sơn\n", "")),
            "mapping": ("anh-xa.csv", "old_code,new_code\n11,21\n"),
        },
        headers=root,
    )

    assert outlook["add"] == outlook["stop"] == 0
    assert by_unit(outlook) == {"Xã Đại Sơn": {"removed": outlook["withdraw"]}}
    assert outlook["withdraw"] > 4


# --- live sources ----------------------------------------------------------------------------------------------------


async def a_relayed_source(api: Api) -> tuple[str, dict[str, Any], dict[str, str]]:
    operator = await api.person((Role.OPERATOR, "24"))
    body = {
        "unit_id": str(api.units["24"]), "name": "VOV1", "kind": "stream", "url": "https://source.test/live",
    }  # fmt: skip
    made = (await api.client.post("/api/v1/relay-sources", json=body, headers=operator)).json()
    return f"/api/v1/relay-sources/{made['relay_source_id']}", body, operator


async def test_a_source_that_devices_are_to_take_themselves_falls_silent_where_a_policy_is_against_it(
    api: Api, planner: Planner
) -> None:
    path, body, operator = await a_relayed_source(api)
    for unit in ("11", "12"):
        await add_device(api, unit)
    await add_broadcast(
        api,
        "1",
        level="priority",
        targets=[{"unit_id": str(api.units["1"])}],
        items=[{"relay_source_id": path.split("/")[-1], "length_s": 60}],
    )
    await api.execute(
        """
        INSERT INTO control.policies (unit_id, body, changed_at, changed_by)
        SELECT $1, $2, $3, account_id FROM control.accounts LIMIT 1
        """,
        api.units["11"],
        {"allows_direct_relays": False},
        api.clock.now,
    )

    outlook = await foretold(
        api, planner, "PUT", path, json={**body, "direct": True}, headers={**operator, "If-Match": '"1"'}
    )

    assert by_unit(outlook) == {"Xã Đại Sơn": {"refused": 1}, "Xã An Lạc": {"changed": 1}}
    assert [each["problem"] for each in outlook["findings"]] == ["relay_not_allowed"]


async def test_a_source_in_use_cannot_be_retired_and_its_dry_run_says_so_too(api: Api, planner: Planner) -> None:
    path, _, operator = await a_relayed_source(api)
    await add_device(api, "11")
    broadcast = await add_broadcast(
        api,
        "11",
        targets=[{"unit_id": str(api.units["11"])}],
        items=[{"relay_source_id": path.split("/")[-1], "length_s": 60}],
    )
    await planner.plan_once(now=api.clock.now)
    answers = [
        await api.client.post(f"{path}/retire", params=query, headers=operator) for query in ({"dry_run": 1}, {})
    ]
    assert [(each.status_code, each.json()["code"]) for each in answers] == [(409, "relay_source_in_use")] * 2

    officer = await api.person((Role.OFFICER, "11"))
    await api.client.post(f"/api/v1/broadcasts/{broadcast['broadcast_id']}/withdraw", headers=officer)
    await planner.plan_once(now=api.clock.now)
    tried = await api.client.post(f"{path}/retire", params={"dry_run": 1}, headers=operator)
    assert (tried.status_code, tried.json()["outlook"]["counts"]) == (200, {})
    assert (await api.client.get(path, headers=operator)).json()["retired_at"] is None
