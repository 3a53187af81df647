"""Limits over HTTP, exactly at them and a millisecond beyond: minutes of a day, quiet hours, orders over boards."""

from __future__ import annotations

from datetime import datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from services.control.permissions import Role
from tests.support.control import a_keyring, a_planner
from tests.support.control_api import ZONE, Api, add_bulletin, add_device, broadcast_body

pytestmark = pytest.mark.integration


async def set_policy(api: Api, unit: str, **body: Any) -> None:
    headers = {**await api.person((Role.ADMINISTRATOR, unit)), "If-Match": "*"}
    response = await api.client.put(f"/api/v1/units/{api.units[unit]}/policy", json=body, headers=headers)
    assert response.status_code == 200, response.text


async def ask(api: Api, officer: dict[str, str], unit: str = "11", **changes: Any) -> Any:
    body = await broadcast_body(api, unit, **changes)
    return await api.client.post("/api/v1/broadcasts", json=body, headers=officer)


def codes(response: Any) -> list[str]:
    return [error["code"] for error in response.json().get("errors", [])]


async def test_minutes_of_a_day_are_used_to_the_last_millisecond(api: Api) -> None:
    officer = await api.person((Role.OFFICER, "11"))
    await add_device(api, "11")
    await set_policy(api, "11", max_day_s=60)

    async def sound(*lengths_ms: int, **changes: Any) -> Any:
        items: list[dict[str, Any]] = [
            {"bulletin_id": await add_bulletin(api, "11", duration_ms=each)} for each in lengths_ms
        ]
        items.insert(1, {"pause_s": 300})  # silence is granted by nobody
        return await ask(api, officer, items=items, targets=[{"unit_id": str(api.units["11"])}], **changes)

    assert codes(await sound(60_001)) == ["against_day_full"]
    assert codes(await sound(30_000, 30_001)) == ["against_day_full"]
    full = await sound(30_000, 30_000)
    assert full.status_code == 201, full.text
    api.clock.forward(seconds=1)  # of two alike the earlier one comes first
    assert codes(await sound(1, local_times=["08:00"])) == ["against_day_full"]
    path = f"/api/v1/broadcasts/{full.json()['broadcast_id']}/withdraw"
    assert (await api.client.post(path, headers=officer)).status_code == 200
    assert (await sound(59_999)).status_code == 201
    api.clock.forward(seconds=1)
    last = await sound(1, local_times=["08:00"])
    assert last.status_code == 201, last.text
    await a_planner(api.database, a_keyring()).plan_once(now=api.clock.now)
    assert await api.fetchval("SELECT count(*) FROM control.planning_problems") == 0
    assert await api.fetchval("SELECT count(*) FROM control.emissions") == 2


@pytest.mark.parametrize(
    ("at", "length_ms", "is_taken"),
    [
        pytest.param("20:59:30", 30_000, True, id="until_the_night"),
        pytest.param("20:59:30", 30_001, False, id="into_the_night"),
        pytest.param("23:59:45", 30_000, False, id="over_midnight"),
        pytest.param("00:00", 1, False, id="at_midnight"),
        pytest.param("04:59:59", 999, False, id="before_the_morning"),
        pytest.param("05:00", 30_000, True, id="from_the_morning_on"),
    ],
)
async def test_a_night_is_quiet_over_midnight(api: Api, at: str, length_ms: int, is_taken: bool) -> None:
    officer = await api.person((Role.OFFICER, "11"))
    await set_policy(api, "11", quiet=[{"begin": "21:00", "end": "05:00"}])
    bulletin = await add_bulletin(api, "11", duration_ms=length_ms)
    response = await ask(api, officer, items=[{"bulletin_id": bulletin}], local_times=[at])
    assert (response.status_code, codes(response)) == ((201, []) if is_taken else (422, ["against_quiet_hours"])), (
        response.text
    )


@pytest.mark.parametrize("zone", ["Asia/Ho_Chi_Minh", "Europe/London", "Pacific/Kiritimati", "America/Los_Angeles"])
@pytest.mark.parametrize(("at", "is_taken"), [("03:15", False), ("05:30", True)])
async def test_a_night_is_quiet_in_words_of_every_zone(api: Api, zone: str, at: str, is_taken: bool) -> None:
    officer = await api.person((Role.OFFICER, "11"))
    await set_policy(api, "24", quiet=[{"begin": "22:00", "end": "05:00"}])
    bulletin = await add_bulletin(api, "11", duration_ms=30_000)
    tomorrow = api.clock.now.astimezone(ZONE).date() + timedelta(days=1)
    there = datetime.combine(tomorrow, time.fromisoformat(at), ZONE).astimezone(ZoneInfo(zone))
    response = await ask(
        api,
        officer,
        items=[{"bulletin_id": bulletin}],
        recurrence="once",
        time_zone=zone,
        starts_on=there.date().isoformat(),
        local_times=[there.time().isoformat("minutes")],
    )
    assert (response.status_code, codes(response)) == ((201, []) if is_taken else (422, ["against_quiet_hours"])), (
        response.text
    )
    if not is_taken:
        # Told by the clock that the limit goes by.
        assert at in response.text
        return
    await a_planner(api.database, a_keyring()).plan_once(now=api.clock.now)
    assert await api.fetchval("SELECT array_agg(DISTINCT starts_at) FROM control.emissions") == [there]
    assert await api.fetchval("SELECT count(*) FROM control.planning_problems") == 0


async def test_an_order_over_a_board_covers_an_occurrence_from_its_beginning_to_its_end(api: Api) -> None:
    headers = await api.person((Role.OFFICER, "24"), (Role.OPERATOR, "24"))
    board = await add_device(api, "11", "board", ownership="private")
    shown = await add_bulletin(api, "24", duration_ms=None, board_text="Đóng đường")  # for a minute
    begin = (api.clock.now.astimezone(ZONE) + timedelta(days=1)).replace(hour=5, minute=30, second=0, microsecond=0)

    async def order(**shifts: timedelta) -> str:
        body = {
            "device_id": board,
            "order_number": "12/QĐ-UBND",
            "issuer": "Chủ tịch UBND tỉnh",
            "valid_from": (begin + shifts.get("late", timedelta(0))).isoformat(),
            "expires_at": (begin + timedelta(minutes=1) - shifts.get("early", timedelta(0))).isoformat(),
        }
        response = await api.client.post("/api/v1/requisitions", json=body, headers=headers)
        assert response.status_code == 201, response.text
        return str(response.json()["requisition_id"])

    async def show() -> Any:
        target = [{"device_id": board}]
        return await ask(api, headers, "24", items=[{"bulletin_id": shown}], targets=target, level="priority")

    async def standing() -> int:
        await a_planner(api.database, a_keyring()).plan_once(now=api.clock.now)
        count: int = await api.fetchval("SELECT count(*) FROM control.emissions WHERE withdrawn_at IS NULL")
        return count

    millisecond = timedelta(milliseconds=1)
    await order(early=millisecond)
    assert codes(await show()) == ["against_private_board"]
    await order(late=millisecond)
    assert codes(await show()) == ["against_private_board"]
    requisition = await order()
    made = await show()
    assert made.status_code == 201, made.text
    assert await standing() == 1
    revoked = await api.client.post(f"/api/v1/requisitions/{requisition}/revoke", headers=headers)
    assert revoked.status_code == 200, revoked.text
    assert await standing() == 0
