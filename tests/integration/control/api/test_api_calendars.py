"""Calendar feeds over HTTP: what they show, who may read them, and how a calendar program logs in."""

from __future__ import annotations

import base64
import re
from datetime import date, datetime, timedelta
from typing import Any

import icalendar
import pytest

from services.control.permissions import Role
from tests.support.control import a_keyring, a_planner
from tests.support.control_api import ZONE, Api, add_broadcast, add_bulletin, add_device

pytestmark = pytest.mark.integration

DAILY = {"recurrence": "daily", "local_times": ["06:00"], "level": "priority"}


async def plan(api: Api) -> None:
    await a_planner(api.database, a_keyring()).plan_once(now=api.clock.now)


async def events(api: Api, path: str, headers: dict[str, str] | None = None) -> list[Any]:
    answer = await api.client.get(path, headers=headers or await api.person((Role.VIEWER, "24")))
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/calendar; charset=utf-8"
    return list(icalendar.Calendar.from_ical(answer.content).walk("VEVENT"))


def basic(login: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{login}:{password}".encode()).decode()}


async def test_a_unit_shows_each_occurrence_once_and_a_device_its_own(api: Api) -> None:
    first, second, other = await add_device(api, "11"), await add_device(api, "12"), await add_device(api, "21")
    items = [{"bulletin_id": await add_bulletin(api, "1", duration_ms=60_000)} for _ in range(2)]
    await add_broadcast(api, "1", **DAILY, items=items, targets=[{"unit_id": str(api.units["1"])}])
    await plan(api)
    found = await events(api, f"/api/v1/units/{api.units['1']}/calendar.ics")
    days = [each.start.astimezone(ZONE).date() for each in found]
    assert days == sorted(set(days))
    assert days[0] == date(2026, 3, 11)
    assert all(each.start.astimezone(ZONE).hour == 6 for each in found)
    assert all(each.end - each.start == timedelta(minutes=2) for each in found)
    assert "Số thiết bị: 2" in found[0]["DESCRIPTION"]
    assert "Huyện Bắc" in found[0]["DESCRIPTION"]
    for device in (first, second):
        assert len(await events(api, f"/api/v1/devices/{device}/calendar.ics")) == len(found)
    assert await events(api, f"/api/v1/devices/{other}/calendar.ics") == []
    assert await events(api, f"/api/v1/units/{api.units['2']}/calendar.ics") == []


_LINE = re.compile(r'([A-Z-]+)((?:;[A-Z-]+=(?:"[^"]*"|[^:;,"]*))*):(.*)', re.ASCII)


async def test_a_feed_is_lines_as_rfc_5545_wants_them(api: Api) -> None:
    """Read without a library: folding, nesting, escaping, and every planned occurrence at its instant."""
    await add_device(api, "11")
    title = "Tin dài, có dấu phẩy; chấm phẩy \\ gạch chéo – " + "tiếng Việt " * 7
    await add_broadcast(api, "24", **DAILY, title=title.strip(), targets=[{"unit_id": str(api.units["11"])}])
    await plan(api)
    viewer = await api.person((Role.VIEWER, "24"))
    content = (await api.client.get(f"/api/v1/units/{api.units['11']}/calendar.ics", headers=viewer)).content
    assert b"\n" not in content.replace(b"\r\n", b"")
    assert content.endswith(b"\r\n")
    assert max(map(len, content.split(b"\r\n"))) <= 75
    *lines, end = content.decode().replace("\r\n ", "").split("\r\n")
    assert end == ""
    open_parts: list[str] = []
    begins: list[datetime] = []
    for line in lines:
        match = _LINE.fullmatch(line)
        assert match is not None, line
        name, parameters, value = match.groups()
        if name == "BEGIN":
            open_parts.append(value)
        elif name == "END":
            assert open_parts.pop() == value
        elif name == "DTSTART" and open_parts[-1] == "VEVENT":
            assert parameters == ";TZID=Asia/Ho_Chi_Minh"
            begins.append(datetime.strptime(value, "%Y%m%dT%H%M%S").replace(tzinfo=ZONE))
        elif name == "SUMMARY":
            assert value.endswith(title.strip().replace("\\", "\\\\").replace(",", "\\,").replace(";", "\\;"))
    assert (lines[0], lines[-1], open_parts) == ("BEGIN:VCALENDAR", "END:VCALENDAR", [])
    async with api.database.connection() as connection:
        rows = await connection.fetch("SELECT starts_at FROM control.emissions ORDER BY starts_at")
    assert begins == [row["starts_at"] for row in rows]


async def test_what_is_withdrawn_is_cancelled_and_keeps_its_name(api: Api) -> None:
    await add_device(api, "11")
    made = await add_broadcast(api, "24", **DAILY, targets=[{"unit_id": str(api.units["11"])}])
    await plan(api)
    path = f"/api/v1/units/{api.units['11']}/calendar.ics"
    before = await events(api, path)
    await api.execute("UPDATE control.broadcasts SET state = 'withdrawn', withdrawn_at = $2 WHERE broadcast_id = $1",
                      made["broadcast_id"], api.clock.now)  # fmt: skip
    await api.execute("INSERT INTO control.planning_requests (requested_at) VALUES ($1)", api.clock.now)
    await plan(api)
    after = await events(api, path)
    assert [each["UID"] for each in after] == [each["UID"] for each in before]
    assert {each["STATUS"] for each in before} == {"CONFIRMED"}
    assert {each["STATUS"] for each in after} == {"CANCELLED"}


async def test_a_week_back_and_no_further(api: Api) -> None:
    await add_device(api, "11")
    await add_broadcast(api, "24", **DAILY, targets=[{"unit_id": str(api.units["11"])}])
    await plan(api)
    path = f"/api/v1/units/{api.units['11']}/calendar.ics"
    headers = await api.person((Role.VIEWER, "24"))
    api.clock.now += timedelta(days=10)
    oldest = min(each.start for each in await events(api, path, headers))
    assert oldest >= datetime(2026, 3, 13, tzinfo=ZONE)


async def test_a_calendar_program_logs_in_with_login_and_token(api: Api) -> None:
    account = await api.account((Role.VIEWER, "11"), login="lan.nguyen")
    token = (await api.token(account))["Authorization"].removeprefix("Bearer ")
    path = f"/api/v1/units/{api.units['11']}/calendar.ics"
    without = await api.client.get(path)
    assert without.status_code == 401
    assert without.headers["www-authenticate"].startswith('Basic realm="loa"')
    assert await events(api, path, basic("lan.nguyen", token)) == []
    assert await events(api, path, basic("Lan.Nguyen", token)) == []
    for headers in (
        basic("lan.nguyen", "wrong"),
        basic("somebody", token),
        basic("", token),
        {"Authorization": "Basic %%%"},
        {"Authorization": "Basic " + base64.b64encode(b"\xff\xfe:x").decode()},
        {"Authorization": "Basic"},
        {"Authorization": f"Bearer {token}x"},
    ):
        refused = await api.client.get(path, headers=headers)
        assert refused.status_code == 401, headers
        assert refused.headers["www-authenticate"].startswith("Basic")
    outside = await api.client.get(f"/api/v1/units/{api.units['21']}/calendar.ics", headers=basic("lan.nguyen", token))
    assert outside.status_code == 403
    # Elsewhere a password opens nothing, and nobody is asked for one.
    for path in ("/api/v1/units", "/api/v1/broadcasts", f"/api/v1/units/{api.units['11']}/proof-sheet?month=2026-03"):
        refused = await api.client.get(path, headers=basic("lan.nguyen", token))
        assert refused.status_code == 401
        assert "Basic" not in refused.headers["www-authenticate"]


async def test_the_address_of_a_closed_unit_goes_on_with_its_heir(api: Api) -> None:
    await add_device(api, "11")
    await add_broadcast(api, "24", **DAILY, targets=[{"unit_id": str(api.units["24"])}])
    path = f"/api/v1/units/{api.units['11']}/calendar.ics"
    viewer = await api.person((Role.VIEWER, "11"))
    answer = await api.client.post(
        "/api/v1/units/reform",
        params={"valid_from": "2026-03-14"},
        files={
            "tree": ("t.csv", "code,parent_code,level,name\n24,,province,Tỉnh Mới\n51,24,commune,Xã Đông\n"),
            "mapping": ("m.csv", "old_code,new_code\n24,24\n1,24\n2,24\n11,51\n12,51\n21,51\n"),
        },
        headers=await api.person((Role.ADMINISTRATOR, "24")),
    )
    assert answer.status_code == 200, answer.text
    await plan(api)
    days = {each.start.astimezone(ZONE).date() for each in await events(api, path, viewer)}
    assert {date(2026, 3, 13), date(2026, 3, 14)} <= days
    api.clock.now += timedelta(days=5)
    assert {date(2026, 3, 13), date(2026, 3, 14)} <= {
        each.start.astimezone(ZONE).date() for each in await events(api, path, viewer)
    }


@pytest.mark.parametrize(
    "path", ["units/00000000-0000-4000-8000-000000000000", "units/x", "devices/loa-none", "devices/%00"]
)
async def test_an_unknown_calendar_is_not_found(api: Api, path: str) -> None:
    answer = await api.client.get(f"/api/v1/{path}/calendar.ics", headers=await api.person((Role.VIEWER, "24")))
    assert answer.status_code in (404, 422)
    assert answer.headers["content-type"] == "application/problem+json"
