"""Why a device sounds what it sounds, over HTTP: of days on record and of those beyond the same is said."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from services.control.permissions import Role
from tests.integration.control.api.test_what_if import set_policy
from tests.support.control import a_keyring, a_planner
from tests.support.control_api import ZONE, Api, add_broadcast, add_bulletin, add_device, add_source

pytestmark = pytest.mark.integration

NEAR, FAR = "2026-03-14", "2026-04-11"  # Saturdays


async def plan(api: Api) -> None:
    await a_planner(api.database, a_keyring()).plan_once(now=api.clock.now)


async def why(api: Api, device: str, at: str) -> dict[str, Any]:
    answer = await api.client.get(
        f"/api/v1/devices/{device}/explanation",
        params={"at": datetime.fromisoformat(at).replace(tzinfo=ZONE).isoformat()},
        headers=await api.person((Role.VIEWER, "24")),
    )
    assert answer.status_code == 200, answer.text
    explained: dict[str, Any] = answer.json()
    assert explained["is_recorded"] == at.startswith("2026-03")
    return explained


@pytest.mark.parametrize("day", [NEAR, FAR])
async def test_a_session_that_is_not_held_is_told_on_its_day_and_on_no_other(api: Api, day: str) -> None:
    device = await add_device(api, "11")
    session = {"code": "chieu", "name": "Chiều", "begin": "17:00", "end": "18:00", "weekdays": [1, 2, 3, 4, 5]}
    await api.account((Role.ADMINISTRATOR, "24"))
    await set_policy(api, "11", sessions=[session])
    targets = [{"unit_id": str(api.units["11"])}]
    await add_broadcast(api, "11", recurrence="daily", local_times=[], sessions=["chieu"], targets=targets)
    await plan(api)

    saturday = await why(api, device, f"{day}T17:00:10")
    friday = await why(api, device, f"{day[:8]}{int(day[8:]) - 1}T17:00:10")

    assert saturday["on_air"] is None
    assert [(each["problem"], each["local_day"], each["detail"]) for each in saturday["refused"]] == [
        ("unknown_session", day, "chieu")
    ]
    assert friday["on_air"] is not None
    assert friday["refused"] == []


@pytest.mark.parametrize("day", [NEAR, FAR])
async def test_after_a_reform_what_names_the_old_unit_is_told_where_its_ground_lies(api: Api, day: str) -> None:
    ours, joined, elsewhere = [await add_device(api, unit) for unit in ("11", "12", "21")]
    await add_broadcast(
        api, "24", recurrence="daily", local_times=["06:00"], targets=[{"unit_id": str(api.units["11"])}]
    )
    reform = await api.client.post(
        "/api/v1/units/reform",
        params={"valid_from": "2026-03-13"},
        files={
            "tree": (
                "t.csv",
                "code,parent_code,level,name\n24,,province,Tỉnh Mới\n51,24,commune,Xã Đông\n52,24,commune,Xã Tây\n",
            ),
            "mapping": ("m.csv", "old_code,new_code\n24,24\n1,24\n2,24\n11,51\n12,51\n21,52\n"),
        },
        headers=await api.person((Role.ADMINISTRATOR, "24")),
    )
    assert reform.status_code == 200, reform.text
    await plan(api)

    for device, expected in ((ours, ["offer_pending"]), (joined, ["offer_pending"]), (elsewhere, [])):
        told = await why(api, device, f"{day}T06:00:10")
        assert [each["problem"] for each in told["offered"]] == expected


@pytest.mark.parametrize("day", ["2026-03-12", FAR])
async def test_who_speaks_live_goes_before_priority_content(api: Api, day: str) -> None:
    """Live by an authorised user, then priority, then normal (regulation section 5)."""
    device = await add_device(api, "11")
    minutes = {"items": [{"bulletin_id": await add_bulletin(api, "24", duration_ms=600_000)}]}
    targets = [{"unit_id": str(api.units["11"])}]
    daily = {"recurrence": "daily", "local_times": ["05:30"], "targets": targets}
    item = {"relay_source_id": await add_source(api, "11"), "length_s": 120, "live": True}
    live = await add_broadcast(api, "11", **daily, items=[item], title="Trực tiếp")
    urgent = await add_broadcast(api, "24", **daily, **minutes, level="priority")
    usual = await add_broadcast(api, "11", **daily, **minutes)
    assert live["items"] == [{**live["items"][0], **item}]
    await plan(api)

    first, later = await why(api, device, f"{day}T05:31"), await why(api, device, f"{day}T05:33")

    assert first["on_air"]["broadcast_id"] == live["broadcast_id"]
    assert [(each["broadcast_id"], each["decided_by"]) for each in first["losers"]] == [
        (urgent["broadcast_id"], "live"),
        (usual["broadcast_id"], "live"),
    ]
    assert later["on_air"]["broadcast_id"] == urgent["broadcast_id"]
    assert [(each["broadcast_id"], each["decided_by"]) for each in later["losers"]] == [
        (usual["broadcast_id"], "level")
    ]
