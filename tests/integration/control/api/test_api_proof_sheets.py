"""The proof sheet over HTTP: what it counts, whom it lets in, and that a print of it can be checked."""

from __future__ import annotations

import csv
import io
from datetime import date
from typing import Any

import pytest

from services.control.permissions import Role
from tests.support.control import a_keyring, a_planner
from tests.support.control_api import Api, add_broadcast, add_bulletin, add_device, import_tree

pytestmark = pytest.mark.integration

MONTH = "2026-03"
DAILY = {"recurrence": "daily", "local_times": ["06:00"], "level": "priority"}
NEW = "code,parent_code,level,name\n24,,province,Tỉnh Mới\n51,24,commune,Xã Đông\n52,24,commune,Xã Tây\n"
MAPPING = "old_code,new_code\n24,24\n1,24\n2,24\n11,51\n12,51\n21,52\n"
REFORM = date(2026, 3, 14)


async def planned(api: Api, unit: str, *, issuer: str = "24", **changes: Any) -> str:
    """A daily broadcast of a minute to a unit, planned for the week that comes; its id."""
    items = [{"bulletin_id": await add_bulletin(api, issuer, duration_ms=60_000)}]
    made = await add_broadcast(
        api, issuer, **(DAILY | {"items": items, "targets": [{"unit_id": str(api.units[unit])}]} | changes)
    )
    await a_planner(api.database, a_keyring()).plan_once(now=api.clock.now)
    return str(made["broadcast_id"])


async def became(
    api: Api, device: str, day: int, outcome: str, evidence: str | None = "device", **columns: Any
) -> None:
    """What became of a device's emissions of a day of the month."""
    values = {"reason": None if outcome in {"played", "late"} else "offline", "sounded_ms": None, **columns}
    names = list(values)
    places = ", ".join(f"{name} = ${place}" for place, name in enumerate(names, start=5))
    await api.execute(
        f"""
        UPDATE control.emissions e
           SET outcome = $3, evidence = $4, started_at = starts_at, {places}
          FROM control.devices d
         WHERE d.device_no = e.device_no
           AND d.device_id = $1
           AND (e.starts_at AT TIME ZONE 'Asia/Ho_Chi_Minh')::date = $2
        """,
        device,
        date(2026, 3, day),
        outcome,
        evidence,
        *values.values(),
    )


async def sheet(api: Api, unit: object, headers: dict[str, str] | None = None, **query: str) -> Any:
    return await api.client.get(
        f"/api/v1/units/{unit}/proof-sheet",
        params={"month": MONTH, "format": "csv", **query},
        headers=headers or await api.person((Role.VIEWER, "24")),
    )


async def parts(api: Api, unit: object, headers: dict[str, str] | None = None) -> dict[str, list[dict[str, str]]]:
    """The lines of a sheet as CSV, by what they are about."""
    answer = await sheet(api, unit, headers)
    assert answer.status_code == 200, answer.text
    found: dict[str, list[dict[str, str]]] = {}
    for row in csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"))):
        found.setdefault(row["part"], []).append(row)
    return found


async def test_a_sheet_adds_up_by_day_broadcast_and_device(api: Api) -> None:
    first, second = await add_device(api, "11"), await add_device(api, "12")
    await planned(api, "1")
    await became(api, first, 11, "played", sounded_ms=60_000)
    await became(api, first, 12, "late", sounded_ms=50_000)
    await became(api, first, 13, "cut", sounded_ms=30_000, cut_by_source="alert")
    await became(api, second, 11, "played", "gateway", sounded_ms=60_000)  # the bridge says so, and proves nothing
    await became(api, second, 12, "missed", None)
    await became(api, second, 13, "unknown", None)
    found = await parts(api, api.units["1"])
    (total,) = found["total"]
    assert {name: int(total[name]) for name in ("played", "late", "cut", "missed", "unknown", "by_gateway")} == {
        "played": 1, "late": 1, "cut": 1, "missed": 1, "unknown": 1, "by_gateway": 1,
    }  # fmt: skip
    assert int(total["sounded_ms"]) == 140_000
    days = {row["id"]: row for row in found["day"]}
    assert (days["2026-03-11"]["planned"], days["2026-03-11"]["planned_ms"]) == ("2", "120000")
    assert int(total["planned"]) == sum(int(row["planned"]) for row in found["day"])
    assert int(total["planned"]) == sum(int(row["planned"]) for row in found["device"])
    assert int(total["planned"]) == sum(int(row["planned"]) for row in found["broadcast"])
    assert {row["id"] for row in found["device"]} == {first, second}
    # Why each of those that did not sound in full: what the gateway speaks for here sounded, by its word.
    why = {row["id"]: (row["about"], row["planned"]) for row in found["reason"]}
    assert why == {"cut.offline": ("Thiết bị tự báo", "1"), "missed.offline": ("", "1"), "unknown.offline": ("", "1")}
    printed = (await sheet(api, api.units["1"], format="html")).text
    assert "Vì sao không phát đủ" in printed
    assert "Thiết bị mất kết nối" in printed
    only = await parts(api, api.units["12"])
    assert {row["id"] for row in only["device"]} == {second}
    assert (only["total"][0]["played"], only["total"][0]["sounded_ms"]) == ("0", "0")


async def test_what_was_not_planned_stands_there_with_its_reason(api: Api) -> None:
    await add_device(api, "11")
    broadcast = await planned(api, "1")
    for day, unit in ((11, "11"), (12, "11"), (11, "21")):
        await api.execute(
            """
            INSERT INTO control.planning_problems (broadcast_id, local_day, problem, unit_id, detail, found_at)
            VALUES ($1, $2, 'offer_pending', $3, '', now())
            """,
            broadcast,
            date(2026, 3, day),
            api.units[unit],
        )
    (row,) = (await parts(api, api.units["11"]))["problem"]
    assert (row["name"], row["about"], row["planned"]) == ("Bản tin sáng", "Đơn vị chưa nhận phát", "2")
    assert "problem" not in await parts(api, api.units["12"])


async def test_each_form_and_each_language(api: Api) -> None:
    await add_device(api, "11", device_id="loa-1")
    await planned(api, "11", title="<b>Bản tin</b>")
    html = await sheet(api, api.units["11"], format="html")
    assert html.headers["content-type"] == "text/html; charset=utf-8"
    assert "CỘNG HÒA XÃ HỘI CHỦ NGHĨA VIỆT NAM" in html.text
    assert "Xã Đại Sơn" in html.text
    assert "<b>Bản tin" not in html.text
    assert "tạm tính" in html.text  # the month is not over
    headers = {**await api.person((Role.VIEWER, "24")), "Accept-Language": "en"}
    assert "PROOF OF BROADCASTING" in (await sheet(api, api.units["11"], headers, format="html")).text
    book = await sheet(api, api.units["11"], format="xlsx")
    assert book.content[:2] == b"PK"
    assert book.headers["content-disposition"] == 'attachment; filename="loa-11-2026-03.xlsx"'


async def test_a_print_can_be_checked_also_after_the_figures_have_changed(api: Api) -> None:
    device = await add_device(api, "11")
    await planned(api, "11")
    headers = await api.person((Role.VIEWER, "24"))
    digest = next(row["name"] for row in (await parts(api, api.units["11"]))["sheet"] if row["id"] == "sha256")

    async def check(of: str) -> dict[str, Any]:
        answer = await api.client.get(
            f"/api/v1/units/{api.units['11']}/proof-sheet/check",
            params={"month": MONTH, "digest": of},
            headers=headers,
        )
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    assert await check(digest) == {
        "is_on_record": True,
        "made_at": "2026-03-10T02:00:00Z",
        "is_current": True,
        "digest": digest,
    }
    assert (await check("0" * 64))["is_on_record"] is False
    await became(api, device, 11, "played", sounded_ms=60_000)
    later = await check(" ".join([digest[:32], digest[32:]]))
    assert (later["is_on_record"], later["is_current"]) == (True, False)
    bad = await api.client.get(
        f"/api/v1/units/{api.units['11']}/proof-sheet/check", params={"month": MONTH, "digest": "xyz"}, headers=headers
    )
    assert (bad.status_code, bad.json()["errors"][0]["code"]) == (422, "not_a_digest")


async def test_old_and_new_units_share_the_month_of_a_reform_without_counting_twice(api: Api) -> None:
    await add_device(api, "11")
    await planned(api, "24")
    administrator = await api.person((Role.ADMINISTRATOR, "24"))
    whole = int((await parts(api, api.units["11"]))["total"][0]["planned"])
    answer = await api.client.post(
        "/api/v1/units/reform",
        params={"valid_from": REFORM.isoformat()},
        files={"tree": ("tree.csv", NEW), "mapping": ("mapping.csv", MAPPING)},
        headers=administrator,
    )
    assert answer.status_code == 200, answer.text
    async with api.database.connection() as connection:
        tree = (await api.services.directory.history(connection)).on(REFORM)
    new = next(unit.unit_id for unit in tree if unit.code == "51")
    old, after = await parts(api, api.units["11"]), await parts(api, new)
    assert {row["id"] for row in old["sheet"]} >= {"11", "held"}
    assert next(row for row in old["sheet"] if row["id"] == "held")["about"] == REFORM.isoformat()
    counted = [int(each["total"][0]["planned"]) for each in (old, after)]
    assert min(counted) > 0
    assert sum(counted) == whole
    # A month in which the unit was in no tree has no sheet.
    gone = await sheet(api, new, administrator, month="2026-02")
    assert (gone.status_code, gone.json()["errors"][0]["code"]) == (422, "unit_not_in_month")


@pytest.mark.parametrize("query", [{"month": "2026-13"}, {"month": "10/2026"}, {"format": "pdf"}, {"month": ""}])
async def test_a_month_or_form_that_is_none_is_named(api: Api, query: dict[str, str]) -> None:
    answer = await sheet(api, api.units["11"], None, **query)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == next(iter(query))


async def test_a_sheet_is_for_those_who_may_see_the_unit(api: Api) -> None:
    assert (await sheet(api, api.units["21"], await api.person((Role.VIEWER, "1")))).status_code == 403
    assert (await sheet(api, api.units["11"], await api.person((Role.VIEWER, "1")))).status_code == 200
    unknown = await sheet(api, "00000000-0000-4000-8000-000000000000")
    assert unknown.status_code == 404


async def test_an_empty_month_is_a_sheet_too(api: Api) -> None:
    headers = await api.person((Role.VIEWER, "24"))
    await import_tree(api, NEW, date(2026, 3, 21))
    found = await parts(api, api.units["52"], headers)
    assert found["total"][0]["planned"] == "0"
    assert (await sheet(api, api.units["52"], headers, format="html")).status_code == 200
