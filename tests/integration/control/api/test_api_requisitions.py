"""Private boards over HTTP: orders over them, agreed shares, and what they gave to the public (R-15)."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Any

import pytest

from services.control.permissions import Role
from tests.support.control import a_keyring, a_planner
from tests.support.control_api import Api, add_broadcast, add_bulletin, add_device

pytestmark = pytest.mark.integration


def order(**changes: Any) -> dict[str, Any]:
    return {
        "order_number": "12/QĐ-UBND",
        "issuer": "Chủ tịch UBND tỉnh",
        "valid_from": "2026-03-10T08:00:00+07:00",
        "expires_at": "2026-03-12T00:00:00+07:00",
        **changes,
    }


async def board(api: Api, unit: str = "11", ownership: str = "private", **changes: Any) -> str:
    return await add_device(api, unit, "board", ownership=ownership, **changes)


async def note(api: Api, headers: dict[str, str], **changes: Any) -> Any:
    return await api.client.post("/api/v1/requisitions", json=order(**changes), headers=headers)


async def asked_for(api: Api) -> list[str]:
    async with api.database.connection() as connection:
        rows = await connection.fetch(
            "SELECT d.device_id FROM control.planning_requests JOIN control.devices d USING (device_no) ORDER BY 1"
        )
    return [row["device_id"] for row in rows]


async def test_an_order_over_one_board_is_noted_audited_planned_and_revoked(api: Api) -> None:
    device_id = await board(api)
    operator, viewer = await api.person((Role.OPERATOR, "11")), await api.person((Role.VIEWER, "11"))
    made = await note(api, operator, device_id=device_id)
    assert made.status_code == 201, made.text
    view = made.json()
    assert (view["device_id"], view["unit_id"], view["holds"]) == (device_id, None, True)
    assert (view["order_number"], view["issuer"]) == ("12/QĐ-UBND", "Chủ tịch UBND tỉnh")
    assert await asked_for(api) == [device_id]
    assert (await api.client.get("/api/v1/requisitions", headers=viewer)).json() == [view]
    path = f"/api/v1/requisitions/{view['requisition_id']}/revoke"
    revoked = await api.client.post(path, headers=operator)
    assert (revoked.json()["holds"], revoked.json()["revoked_at"]) == (False, "2026-03-10T02:00:00Z")
    assert await asked_for(api) == [device_id] * 2
    again = await api.client.post(path, headers=operator)
    assert (again.status_code, again.json()["code"]) == (409, "requisition_over")
    async with api.database.connection() as connection:
        rows = await connection.fetch(
            "SELECT action, before, after FROM control.audit WHERE subject LIKE 'requisition:%' ORDER BY audit_id"
        )
    assert [row["action"] for row in rows] == ["requisition_noted", "requisition_revoked"]
    assert rows[0]["after"]["order_number"] == "12/QĐ-UBND"
    assert (rows[1]["before"]["revoked_at"], rows[1]["after"]["revoked_at"]) == (None, "2026-03-10T02:00:00+00:00")


async def test_an_order_over_a_unit_is_about_every_private_board_below_it(api: Api) -> None:
    mine = {await board(api, "11"), await board(api, "12", "private_with_public_share")}
    await board(api, "11", "public")
    await board(api, "21")
    await add_device(api, "11", "cluster")
    operator = await api.person((Role.OPERATOR, "1"))
    assert (await note(api, operator, unit_id=str(api.units["1"]))).status_code == 201
    assert set(await asked_for(api)) == mine
    below = await api.person((Role.VIEWER, "11"))
    (seen,) = (await api.client.get("/api/v1/requisitions", headers=below)).json()
    assert seen["unit_id"] == str(api.units["1"])
    beside = await api.person((Role.VIEWER, "21"))
    assert (await api.client.get("/api/v1/requisitions", headers=beside)).json() == []


async def test_an_order_holds_in_its_time_and_is_over_after_it(api: Api) -> None:
    operator = await api.person((Role.OPERATOR, "11"))
    made = await note(api, operator, device_id=await board(api), valid_from="2026-03-11T00:00:00+07:00")
    assert made.json()["holds"] is False
    for at, count in (
        ("2026-03-10T23:59:59+07:00", 0),
        ("2026-03-11T00:00:00+07:00", 1),
        ("2026-03-12T00:00:00+07:00", 0),
    ):
        found = await api.client.get("/api/v1/requisitions", params={"at": at}, headers=operator)
        assert len(found.json()) == count
    api.clock.forward(days=3)
    response = await api.client.post(f"/api/v1/requisitions/{made.json()['requisition_id']}/revoke", headers=operator)
    assert (response.status_code, response.json()["code"]) == (409, "requisition_over")


async def test_what_is_noted_of_a_unit_follows_its_boards(api: Api) -> None:
    """That a private board shows nothing is noted of its unit, and so is that a unit has no device at all."""
    planner = a_planner(api.database, a_keyring())
    device_id = await board(api)
    bulletin_id = await add_bulletin(api, "11", duration_ms=None, board_text="Chữ")
    await add_device(api, "11", "board", device_id="bang-khac", ownership="public")
    broadcast = await add_broadcast(
        api, "11", items=[{"bulletin_id": bulletin_id}], starts_on="2026-03-11", recurrence="once"
    )

    async def noted() -> list[str]:
        await planner.plan_once(now=api.clock.now)
        async with api.database.connection() as connection:
            rows = await connection.fetch(
                "SELECT problem FROM control.planning_problems WHERE broadcast_id = $1 ORDER BY 1",
                uuid.UUID(broadcast["broadcast_id"]),
            )
        return [row["problem"] for row in rows]

    keeper = await api.person((Role.OPERATOR, "11"), (Role.ADMINISTRATOR, "24"))
    assert await noted() == ["private_board"]
    made = (await note(api, keeper, device_id=device_id)).json()
    assert await noted() == []
    await api.client.post(f"/api/v1/requisitions/{made['requisition_id']}/revoke", headers=keeper)
    assert await noted() == ["private_board"]
    await api.client.post(f"/api/v1/devices/{device_id}/move", json={"unit_id": str(api.units["21"])}, headers=keeper)
    assert await noted() == []
    await api.client.post("/api/v1/devices/bang-khac/retire", headers=keeper)
    assert await noted() == ["no_device"]
    new = {"device_id": "bang-moi", "kind": "board", "unit_id": str(api.units["11"]), "name": "Bảng mới"}
    await api.client.post("/api/v1/devices", json=new, headers=keeper)
    assert await noted() == []


async def test_a_dry_run_tells_what_an_order_would_have_put_out(api: Api) -> None:
    device_id = await board(api)
    bulletin_id = await add_bulletin(api, "11", duration_ms=None, board_text="Chữ")
    targets = [{"device_id": device_id}, {"device_id": await board(api, ownership="public")}]
    await add_broadcast(api, "11", items=[{"bulletin_id": bulletin_id}], targets=targets)
    operator = await api.person((Role.OPERATOR, "11"))
    path, body = "/api/v1/requisitions", order(device_id=device_id)
    tried = await api.client.post(path, json=body, params={"dry_run": True}, headers=operator)
    assert tried.json()["outlook"]["counts"] == {"added": 1}
    assert await api.fetchval("SELECT count(*) FROM control.requisitions") == 0
    made = (await note(api, operator, device_id=device_id)).json()
    assert made["outlook"] is None
    back = await api.client.post(f"{path}/{made['requisition_id']}/revoke", params={"dry_run": True}, headers=operator)
    outlook = back.json()["outlook"]
    assert (outlook["withdraw"], [each["problem"] for each in outlook["findings"]]) == (1, ["private_board"])
    assert await api.fetchval("SELECT count(*) FROM control.requisitions WHERE revoked_at IS NOT NULL") == 0


@pytest.mark.parametrize(
    ("changes", "field", "code"),
    [
        ({"device_id": None}, "", "requisition_is_not_of_one_thing"),
        ({"unit_id": "00000000-0000-4000-8000-000000000000"}, "", "requisition_is_not_of_one_thing"),
        ({"order_number": " "}, "order_number", "text_too_short"),
        ({"order_number": "x" * 121}, "order_number", "text_too_long"),
        ({"issuer": None}, "issuer", "not_a_text"),
        ({"expires_at": "2026-03-10T08:00:00+07:00"}, "expires_at", "expires_before_valid"),
        (
            {"valid_from": "2026-03-01T00:00:00+07:00", "expires_at": "2026-03-10T09:00:00+07:00"},
            "expires_at",
            "instant_in_the_past",
        ),
        ({"expires_at": "2027-03-12T09:00:00+07:00"}, "expires_at", "instant_too_late"),
        ({"expires_at": "2026-03-12"}, "expires_at", "not_an_instant"),
        ({"valid_from": "0001-01-01T00:00:00+14:00"}, "valid_from", "day_out_of_bounds"),
        ({"device_id": "PUBLIC"}, "device_id", "not_a_private_board"),
        ({"device_id": "CLUSTER"}, "device_id", "not_a_private_board"),
        ({"device_id": "RETIRED"}, "device_id", "device_retired"),
        ({"device_id": "!"}, "device_id", "bad_device_id"),
    ],
)
async def test_a_faulty_order_is_named(api: Api, changes: dict[str, Any], field: str, code: str) -> None:
    devices = {
        "PUBLIC": await board(api, ownership="public"),
        "CLUSTER": await add_device(api, "11", ownership="private"),
        "RETIRED": await board(api),
        "GOOD": await board(api),
    }
    await api.execute(
        "UPDATE control.devices SET retired_at = $2 WHERE device_id = $1", devices["RETIRED"], api.clock.now
    )
    body = {"device_id": "GOOD", **changes}
    body["device_id"] = devices.get(body["device_id"], body["device_id"])
    response = await note(api, await api.person((Role.OPERATOR, "11")), **body)
    assert response.status_code == 422, response.text
    assert [(error["field"], error["code"]) for error in response.json()["errors"]] == [(field, code)]
    assert await api.fetchval("SELECT count(*) FROM control.requisitions") == 0


async def test_a_board_that_is_not_there_is_not_found_and_one_beyond_is_not_one_s_own(api: Api) -> None:
    operator = await api.person((Role.OPERATOR, "11"))
    assert (await note(api, operator, device_id="bang-tin-khong-co")).status_code == 404
    assert (await note(api, operator, device_id=await board(api, "12"))).status_code == 403


# --- whose it is -----------------------------------------------------------------------------------------------------


async def test_whose_a_board_is_and_its_share_are_set_by_who_registers_devices(api: Api) -> None:
    device_id = await board(api, ownership="public")
    path = f"/api/v1/devices/{device_id}"
    wanted = {"ownership": "private_with_public_share", "public_share_minutes": 90}
    operator, administrator = await api.person((Role.OPERATOR, "11")), await api.person((Role.ADMINISTRATOR, "11"))
    refused = await api.client.patch(path, json=wanted, headers=operator)
    assert (refused.status_code, refused.json()["code"]) == (403, "not_permitted_here")
    changed = await api.client.patch(path, json=wanted, headers=administrator)
    assert (changed.json()["ownership"], changed.json()["public_share_minutes"]) == tuple(wanted.values())
    assert device_id in await asked_for(api)
    after = await api.fetchval("SELECT after FROM control.audit WHERE action = 'device_changed'")
    assert (after["ownership"], after["public_share_minutes"]) == tuple(wanted.values())
    half = await api.client.patch(path, json={"ownership": "private"}, headers=administrator)
    assert [(each["field"], each["code"]) for each in half.json()["errors"]] == [
        ("public_share_minutes", "share_without_agreement")
    ]
    whole = await api.client.patch(
        path, json={"ownership": "private", "public_share_minutes": None}, headers=administrator
    )
    assert (whole.json()["ownership"], whole.json()["public_share_minutes"]) == ("private", None)


@pytest.mark.parametrize(
    ("ownership", "minutes", "code"),
    [
        ("public", 60, "share_without_agreement"),
        ("private", 60, "share_without_agreement"),
        ("private_with_public_share", 1_441, "number_too_large"),
        ("private_with_public_share", -1, "number_too_small"),
        ("private_with_public_share", 1.5, "not_a_whole_number"),
        ("private_with_public_share", 0, None),
        ("private_with_public_share", None, None),
    ],
)
async def test_a_share_is_registered_with_an_agreement_only(
    api: Api, ownership: str, minutes: Any, code: str | None
) -> None:
    body = {
        "device_id": "bang-tin-moi",
        "kind": "board",
        "unit_id": str(api.units["11"]),
        "name": "Bảng tin",
        "ownership": ownership,
        "public_share_minutes": minutes,
    }
    administrator = await api.person((Role.ADMINISTRATOR, "11"))
    response = await api.client.post("/api/v1/devices", json=body, headers=administrator)
    if code is None:
        assert (response.status_code, response.json()["public_share_minutes"]) == (201, minutes)
    else:
        assert [(each["field"], each["code"]) for each in response.json()["errors"]] == [("public_share_minutes", code)]


# --- what it gave ----------------------------------------------------------------------------------------------------


async def shown(api: Api, device_id: str, broadcast_id: str, at: str, minutes: float, **changes: Any) -> None:
    """As if the board had put something out."""
    begins = datetime.fromisoformat(at)
    values = {"outcome": "played", "evidence": "device", **changes}
    await api.execute(
        """
        INSERT INTO control.emissions
               (broadcast_id, occurrence_at, item, device_no, unit_id, bulletin_id, content, level, issuer_depth,
                starts_at, ends_at, latest_start_at, fingerprint, planned_at, outcome, reason, evidence, started_at,
                sounded_ms)
        SELECT i.broadcast_id, $3, 0, d.device_no, d.unit_id, i.bulletin_id, 'text', 'normal', 2, $3, $4, $4, '', $3,
               $5, CASE $5 WHEN 'cut' THEN 'outranked' END, $6, $3, $7
          FROM control.devices d, control.broadcast_items i
         WHERE d.device_id = $1 AND i.broadcast_id = $2
        """,
        device_id,
        uuid.UUID(broadcast_id),
        begins,
        begins + timedelta(minutes=minutes),
        values["outcome"],
        values["evidence"],
        round(minutes * 60_000),
    )


async def test_what_a_private_board_gave_is_shown_beside_what_was_agreed(api: Api) -> None:
    device_id = await board(api, ownership="private_with_public_share", public_share_minutes=10)
    bulletin_id = await add_bulletin(api, "11", duration_ms=None, board_text="Chữ")
    broadcast = await add_broadcast(api, "11", items=[{"bulletin_id": bulletin_id}], targets=[{"device_id": device_id}])
    broadcast_id = broadcast["broadcast_id"]
    await api.execute("UPDATE control.devices SET registered_at = '2026-03-08T01:00:00Z'")
    operator, viewer = await api.person((Role.OPERATOR, "1")), await api.person((Role.VIEWER, "11"))
    await note(api, operator, unit_id=str(api.units["1"]), valid_from="2026-03-10T00:00:00+07:00")
    await shown(api, device_id, broadcast_id, "2026-03-09T06:00:00+07:00", 5)
    await shown(api, device_id, broadcast_id, "2026-03-09T07:00:00+07:00", 2.5, outcome="cut")
    await shown(api, device_id, broadcast_id, "2026-03-09T08:00:00+07:00", 60, evidence="gateway")
    await shown(api, device_id, broadcast_id, "2026-03-10T00:30:00+07:00", 20)
    path = f"/api/v1/devices/{device_id}/public-share"
    view = (await api.client.get(path, params={"month": "2026-03"}, headers=viewer)).json()
    assert (view["month"], view["public_share_minutes"], view["agreed_minutes"]) == ("2026-03", 10, 30)
    assert (view["shown_minutes"], view["requisitioned_minutes"]) == (27.5, 20)
    assert [(day["day"], day["shown_minutes"], day["requisitioned_minutes"]) for day in view["days"]] == [
        ("2026-03-08", 0, 0),
        ("2026-03-09", 7.5, 0),
        ("2026-03-10", 20, 20),
    ]
    assert (await api.client.get(path, headers=viewer)).json() == view
    other = (await api.client.get(path, params={"month": "2026-02"}, headers=viewer)).json()
    assert (other["days"], other["agreed_minutes"]) == ([], 0)
    bad = await api.client.get(path, params={"month": "tháng 3"}, headers=viewer)
    assert [(each["field"], each["code"]) for each in bad.json()["errors"]] == [("month", "not_a_month")]
