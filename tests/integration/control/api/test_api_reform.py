"""The reform of units over HTTP: the real tree of three levels becomes the real one of two, and everything follows."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import services.control
from services.control.permissions import Role
from tests.support.control import a_keyring, a_planner
from tests.support.control_api import TREE, ZONE, Api, add_broadcast, add_bulletin, add_device, import_tree

pytestmark = pytest.mark.integration

DATA = Path(services.control.__file__).parent / "data"
OLD, NEW = (DATA / "bac_giang_3_level.csv").read_text(), (DATA / "bac_ninh_2_level.csv").read_text()
OLD_SINCE, REFORM = date(2021, 1, 1), date(2026, 3, 14)  # four days after the tests' now: within the horizon
AFTERWARDS = datetime(2026, 3, 14, 1, 0, tzinfo=UTC)


def rows(content: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content)))


def _bare(name: str) -> str:
    return name.split(" ", 1)[1].removeprefix("trấn ")


def a_mapping() -> dict[str, str]:
    """Old codes to new ones: by name where one is left, else to the commune with the nearest code; districts go up."""
    new = {row["code"]: row for row in rows(NEW) if row["code"].startswith("07")}
    by_name = {_bare(row["name"]): code for code, row in new.items()}
    return {
        row["code"]: "24"
        if row["level"] != "commune"
        else by_name.get(_bare(row["name"])) or min(new, key=lambda code: abs(int(code) - int(row["code"])))
        for row in rows(OLD)
    }


def as_file(mapping: Mapping[str, str], *more: str) -> str:
    lines = [f"{old},{new}," for old, new in mapping.items()]
    return "\n".join(["old_code,new_code,device_id", *lines, *more, ""])


async def reform(
    api: Api,
    tree: str | bytes = NEW,
    mapping: str | bytes | None = None,
    *,
    day: date = REFORM,
    headers: dict[str, str] | None = None,
    **query: str,
) -> Any:
    return await api.client.post(
        "/api/v1/units/reform",
        params={"valid_from": day.isoformat(), **query},
        files={
            "tree": ("cay.csv", tree),
            "mapping": ("anh-xa.csv", as_file(a_mapping()) if mapping is None else mapping),
        },
        headers=headers or await api.person((Role.ADMINISTRATOR, "24")),
    )


async def everything(api: Api) -> Any:
    """What a refused or rehearsed reform must leave alone."""
    return [
        await api.fetchval(f"SELECT md5(coalesce(string_agg(t::text, '|' ORDER BY t::text), '')) FROM control.{table} t")
        for table in (
            "units", "unit_versions", "unit_heirs", "unit_parts", "unit_reforms", "unit_imports", "devices", "audit",
            "emissions", "cap_senders", "policies", "offers", "priority_places", "requisitions", "planning_requests",
        )
    ]  # fmt: skip


async def bac_giang(api: Api) -> dict[str, str]:
    """The old province with a loudspeaker in each commune; device ids by code of commune."""
    await import_tree(api, OLD, OLD_SINCE)
    return {
        row["code"]: await add_device(api, row["code"], device_id=f"loa-{row['code']}")
        for row in rows(OLD)
        if row["level"] == "commune"
    }


async def plan(api: Api) -> None:
    await a_planner(api.database, a_keyring()).plan_once(now=api.clock.now)


async def heard_on(api: Api, broadcast_id: str, day: date) -> dict[str, str]:
    """Devices that a broadcast is planned on for a day, with the unit they are recorded in."""
    async with api.database.connection() as connection:
        found = await connection.fetch(
            """
            SELECT d.device_id, e.unit_id
              FROM control.emissions e
              JOIN control.devices d USING (device_no)
             WHERE e.broadcast_id = $1
               AND e.withdrawn_at IS NULL
               AND (e.starts_at AT TIME ZONE 'Asia/Ho_Chi_Minh')::date = $2
            """,
            broadcast_id,
            day,
        )
    return {row["device_id"]: str(row["unit_id"]) for row in found}


async def codes(api: Api, day: date) -> dict[str, str]:
    """Ids of the units of a day by code."""
    async with api.database.connection() as connection:
        tree = (await api.services.directory.history(connection)).on(day)
    return {unit.code: str(unit.unit_id) for unit in tree}


async def test_the_real_tree_of_three_levels_becomes_the_real_one_of_two(api: Api) -> None:
    devices = await bac_giang(api)
    mapping = a_mapping()
    assert len(devices) == 209
    shared = {row["code"] for row in rows(OLD)} & {row["code"] for row in rows(NEW)}
    names = {row["code"]: row["name"] for row in rows(OLD)}
    renamed = {row["code"] for row in rows(NEW) if row["code"] in shared and row["name"] != names[row["code"]]}
    assert (len(shared), len(renamed)) == (59, 44)  # as it really was

    # The whole province, a district, a commune that will be merged, and one device there.
    merged = next(code for code in devices if sum(new == mapping[code] for new in mapping.values()) > 2)
    mates = {code for code in devices if mapping[code] == mapping[merged]}
    district = next(row["parent_code"] for row in rows(OLD) if row["code"] == merged)
    in_district = {row["code"] for row in rows(OLD) if row["parent_code"] == district}
    daily = {"recurrence": "daily", "local_times": ["06:00"], "level": "priority"}
    everywhere = await add_broadcast(api, "24", **daily, targets=[{"unit_id": str(api.units["24"])}])
    in_a_district = await add_broadcast(api, district, **daily, targets=[{"unit_id": str(api.units[district])}])
    local = await add_broadcast(api, merged, **daily, targets=[{"unit_id": str(api.units[merged])}])
    single = await add_broadcast(api, "24", **daily, targets=[{"device_id": devices[merged]}])
    bulletin = await add_bulletin(api, merged)
    officer = await api.person((Role.OFFICER, merged))
    district_officer = await api.person((Role.OFFICER, district))
    await plan(api)
    before, old = REFORM - timedelta(days=1), await codes(api, OLD_SINCE)
    assert await heard_on(api, everywhere["broadcast_id"], REFORM) == {
        device: old[code] for code, device in devices.items()
    }

    answer = await reform(api)
    assert answer.status_code == 200, answer.text
    done = answer.json()
    assert (done["units"], done["opened"] + done["kept"], done["is_dry_run"]) == (100, 100, False)
    going_on = {row["code"] for row in rows(NEW) if row["name"] == names.get(row["code"])}
    assert {each["old"]["code"]: each["new"]["code"] for each in done["successions"]} == {
        code: to for code, to in mapping.items() if code not in going_on
    }
    assert {each["code"] for each in done["rights_end"]} == {district}
    new = await codes(api, REFORM)

    # What is on record stays in the unit it was planned in; what is planned from now on is planned in the new ones.
    await plan(api)
    assert await heard_on(api, everywhere["broadcast_id"], before) == {
        device: old[code] for code, device in devices.items()
    }
    assert set(await heard_on(api, everywhere["broadcast_id"], REFORM)) == set(devices.values())
    newer = await add_broadcast(api, "24", **daily, targets=[{"unit_id": str(api.units["24"])}])
    await plan(api)
    assert await heard_on(api, newer["broadcast_id"], before) == {device: old[code] for code, device in devices.items()}
    assert await heard_on(api, newer["broadcast_id"], REFORM) == {
        device: new[mapping[code]] for code, device in devices.items()
    }
    # Targets follow to the new commune, a district's to the communes on its ground and not to the province.
    assert set(await heard_on(api, local["broadcast_id"], before)) == {devices[merged]}
    assert set(await heard_on(api, local["broadcast_id"], REFORM)) == {devices[code] for code in mates}
    ground = {mapping[code] for code in in_district}
    assert set(await heard_on(api, in_a_district["broadcast_id"], before)) == {devices[code] for code in in_district}
    assert set(await heard_on(api, in_a_district["broadcast_id"], REFORM)) == {
        devices[code] for code in devices if mapping[code] in ground
    }
    assert set(await heard_on(api, single["broadcast_id"], REFORM)) == {devices[merged]}

    # Until the day everything is as it was; from the day on the officer has the new commune, and no other.
    async def status_of(who: dict[str, str], unit_id: str) -> int:
        status: int = (await api.client.get(f"/api/v1/units/{unit_id}/status", headers=who)).status_code
        return status

    elsewhere = next(code for code in devices if mapping[code] != mapping[merged])
    assert await status_of(officer, old[merged]) == 200
    assert await status_of(district_officer, old[merged]) == 200
    api.clock.now = AFTERWARDS
    assert await status_of(officer, new[mapping[merged]]) == 200
    assert await status_of(officer, new[mapping[elsewhere]]) == 403
    assert await status_of(district_officer, new[mapping[merged]]) == 403
    mate = next(code for code in mates if code != merged)
    device = await api.client.get(f"/api/v1/devices/{devices[mate]}", headers=officer)
    assert device.status_code == 200
    listed = await api.client.get("/api/v1/devices", params={"unit_id": new[mapping[merged]]}, headers=officer)
    assert {each["device_id"] for each in listed.json()["devices"]} == {devices[code] for code in mates}
    owned = await api.client.get("/api/v1/bulletins", headers=officer)
    assert bulletin in {each["bulletin_id"] for each in owned.json()}
    assert (await api.client.get(f"/api/v1/broadcasts/{local['broadcast_id']}", headers=officer)).status_code == 200

    # The old tree can still be read, and so can whoever administers the province.
    administrator = await api.person((Role.ADMINISTRATOR, "24"))
    history = await api.client.get("/api/v1/units/tree", params={"on": before.isoformat()}, headers=administrator)
    assert len(history.json()) == 220
    assert (await api.client.get(f"/api/v1/units/{old[merged]}", headers=administrator)).status_code == 404
    then = {"on": before.isoformat()}
    assert (await api.client.get(f"/api/v1/units/{old[merged]}", params=then, headers=administrator)).json()[
        "name"
    ] == names[merged]
    lineage = await api.client.get(f"/api/v1/units/{new[mapping[merged]]}/lineage", headers=officer)
    assert {each["unit"]["unit_id"] for each in lineage.json()["before"]} >= {
        old[code] for code in mates if code not in going_on
    }
    went = await api.client.get(f"/api/v1/units/{old[merged]}/lineage", headers=officer)
    assert [(each["unit"]["unit_id"], each["valid_from"]) for each in went.json()["after"]] == [
        (new[mapping[merged]], REFORM.isoformat())
    ]
    # The roll of the new day plans on in the new units and takes nothing back.
    await plan(api)
    assert set(await heard_on(api, local["broadcast_id"], REFORM)) == {devices[code] for code in mates}


async def test_a_rehearsal_says_the_same_and_changes_nothing(api: Api) -> None:
    await bac_giang(api)
    headers = await api.person((Role.ADMINISTRATOR, "24"))
    before = await everything(api)
    rehearsed = await reform(api, headers=headers, dry_run="true")
    assert rehearsed.status_code == 200
    assert await everything(api) == before
    done = await reform(api, headers=headers)

    def without_new_ids(answer: dict[str, Any]) -> list[Any]:
        return [
            {key: answer[key] for key in ("units", "opened", "closed", "kept", "offers_carried")},
            sorted((each["old"]["code"], each["new"]["code"], each["devices"]) for each in answer["successions"]),
        ]

    assert without_new_ids(rehearsed.json()) == without_new_ids(done.json())
    assert await everything(api) != before


async def test_saying_it_again_with_another_mapping_takes_the_place_of_what_was_said(api: Api) -> None:
    devices = await bac_giang(api)
    mapping = a_mapping()
    code = next(iter(devices))
    assert (await reform(api)).status_code == 200
    other = next(new for new in mapping.values() if new not in {"24", mapping[code]})
    moved = await reform(api, mapping=as_file(mapping, f"{code},{other},{devices[code]}"))
    assert moved.status_code == 200, moved.text
    assert [(part["of"]["code"], part["new"]["code"], part["devices"]) for part in moved.json()["parts"]] == [
        (code, other, 1)
    ]
    again = await reform(api, mapping=as_file(mapping | {code: other}))
    assert again.status_code == 200, again.text
    assert again.json()["parts"] == []
    assert await api.fetchval("SELECT count(*) FROM control.unit_parts") == 0
    assert (
        str(
            await api.fetchval(
                "SELECT h.heir_id FROM control.devices d JOIN control.unit_heirs h USING (unit_id) WHERE d.device_id = $1",
                devices[code],
            )
        )
        == (await codes(api, REFORM))[other]
    )


async def test_a_split_commune_gives_one_device_to_another(api: Api) -> None:
    staying, leaving = await add_device(api, "11"), await add_device(api, "11")
    tree = "code,parent_code,level,name\n24,,province,Tỉnh Mới\n51,24,commune,Xã Đông\n52,24,commune,Xã Tây\n"
    lines = "24,24,\n1,24,\n2,24,\n11,51,\n12,51,\n21,52,\n"
    daily = {"recurrence": "daily", "local_times": ["06:00"], "level": "priority"}
    broadcast = await add_broadcast(api, "11", **daily, targets=[{"unit_id": str(api.units["11"])}])
    province = await add_broadcast(api, "24", **daily, targets=[{"unit_id": str(api.units["11"])}])
    await plan(api)
    answer = await reform(api, tree, f"old_code,new_code,device_id\n{lines}11,52,{leaving}\n")
    assert answer.status_code == 200, answer.text
    await plan(api)
    new, eve = await codes(api, REFORM), REFORM - timedelta(days=1)
    assert set(await heard_on(api, broadcast["broadcast_id"], eve)) == {staying, leaving}
    assert await heard_on(api, broadcast["broadcast_id"], REFORM) == {staying: new["51"]}  # its rank is another now
    # The province meant the ground of the old commune, and still reaches it.
    assert set(await heard_on(api, province["broadcast_id"], REFORM)) == {staying, leaving}
    api.clock.now = AFTERWARDS
    west = await api.client.get(
        "/api/v1/devices", params={"unit_id": new["52"]}, headers=await api.person((Role.VIEWER, "24"))
    )
    assert [each["device_id"] for each in west.json()["devices"]] == [leaving]


@pytest.mark.parametrize(
    ("tree", "mapping", "problem", "fault"),
    [
        (TREE, "old_code,new_code\n99,24\n", "unit_mapping_invalid", ("mapping.lines[2].old_code", "unknown_old_code")),
        (TREE, "old_code,new_code\n11,99\n", "unit_mapping_invalid", ("mapping.lines[2].new_code", "unknown_new_code")),
        (
            TREE.replace("21,2,commune,Xã Tân Tiến\n", ""),
            "old_code,new_code\n11,11\n",
            "unit_mapping_invalid",
            ("mapping", "old_unit_unmapped"),
        ),
        (TREE, "old_code;new_code\n11;11\n", "unit_mapping_invalid", ("mapping", "bad_header")),
        (TREE, "old_code,new_code\n11,12\n12,11\n", "unit_mapping_invalid", ("mapping.lines[2].new_code", "mapping_circle")),
        (TREE, "old_code,new_code\n11,11\n11,12\n", "unit_mapping_invalid", ("mapping.lines[3].old_code", "old_unit_twice")),
        (TREE, b"old_code,new_code\n11,\xff\n", "unit_mapping_invalid", ("mapping", "not_utf8")),
        (TREE + "11,1,commune,X\n", "old_code,new_code\n11,11\n", "unit_file_invalid", ("tree.lines[8].code", "duplicate_unit_code")),
        (TREE.encode("utf-16"), "old_code,new_code\n11,11\n", "unit_file_invalid", ("tree", "not_utf8")),
    ],
)  # fmt: skip
async def test_a_faulty_file_is_refused_whole_naming_line_and_column(
    api: Api, tree: str | bytes, mapping: str | bytes, problem: str, fault: tuple[str, str]
) -> None:
    await add_device(api, "21")
    headers = await api.person((Role.ADMINISTRATOR, "24"))
    before = await everything(api)
    answer = await reform(api, tree, mapping, headers=headers)
    assert answer.status_code == 422
    assert answer.json()["code"] == problem
    assert fault in [(error["field"], error["code"]) for error in answer.json()["errors"]]
    assert all(error["message"] and error["mend"] for error in answer.json()["errors"])
    assert await everything(api) == before


async def test_only_administrators_of_the_root_reform(api: Api) -> None:
    for role, code in ((Role.OFFICER, "24"), (Role.ADMINISTRATOR, "1"), (Role.OPERATOR, "24")):
        answer = await reform(api, TREE, "old_code,new_code\n11,11\n", headers=await api.person((role, code)))
        assert answer.status_code == 403


async def test_a_request_without_both_files_is_told_so(api: Api) -> None:
    headers = await api.person((Role.ADMINISTRATOR, "24"))
    path, query = "/api/v1/units/reform", {"valid_from": REFORM.isoformat()}
    half = await api.client.post(path, params=query, files={"tree": ("x.csv", TREE)}, headers=headers)
    assert (half.status_code, half.json()["errors"][0]["field"]) == (422, "mapping")
    none = await api.client.post(path, params=query, content=TREE, headers={**headers, "Content-Type": "text/csv"})
    assert (none.status_code, none.json()["code"]) == (415, "two_files_expected")


async def test_a_day_before_any_tree_and_one_before_the_newest_are_refused(api: Api) -> None:
    mapping = "old_code,new_code\n11,11\n"
    first = await reform(api, TREE, mapping, day=date(2020, 1, 1))
    assert (first.status_code, first.json()["errors"][0]["code"]) == (422, "no_tree_before")
    await import_tree(api, OLD, date(2026, 2, 1))
    older = await reform(api, TREE, mapping, day=date(2026, 1, 1), headers=await api.person((Role.ADMINISTRATOR, "24")))
    assert (older.status_code, older.json()["code"]) == (409, "unit_tree_is_newer")


async def test_limits_decisions_and_orders_go_over(api: Api) -> None:
    await add_device(api, "11")
    board = await add_device(api, "11", "board", ownership="private")
    tree = "code,parent_code,level,name\n24,,province,Tỉnh Mới\n51,24,commune,Xã Đông\n52,24,commune,Xã Tây\n"
    mapping = "old_code,new_code\n24,24\n1,24\n2,24\n11,51\n12,51\n21,52\n"
    broadcast = await add_broadcast(api, "24", level="normal", targets=[{"unit_id": str(api.units["24"])}])
    account = (await api.account((Role.OFFICER, "24"))).account_id
    for code in ("11", "21"):
        await api.execute(
            "INSERT INTO control.policies (unit_id, body, changed_at, changed_by) VALUES ($1, $2, now(), $3)",
            api.units[code],
            {"minutes_a_day": 30},
            account,
        )
    await api.execute(
        """
        INSERT INTO control.offers (broadcast_id, unit_id, state, offered_at, decided_at, decided_by)
        VALUES ($1, $2, 'accepted', now(), now(), $3)
            ON CONFLICT (broadcast_id, unit_id) DO UPDATE SET state = 'accepted', decided_at = now(), decided_by = $3
        """,
        broadcast["broadcast_id"],
        api.units["21"],
        account,
    )
    await api.execute(
        "INSERT INTO control.priority_places (unit_id, broadcast_id, place, set_at, set_by) VALUES ($1, $2, 7, now(), $3)",
        api.units["11"],
        broadcast["broadcast_id"],
        account,
    )
    await api.execute(
        """
        INSERT INTO control.requisitions
               (requisition_id, unit_id, order_number, issuer, valid_from, expires_at, created_at, created_by)
        VALUES (gen_random_uuid(), $1, '12/QĐ-UBND', 'UBND', $2, $3, $2, $4)
        """,
        api.units["1"],
        api.clock.now,
        api.clock.now + timedelta(days=60),
        account,
    )
    answer = await reform(api, tree, mapping)
    assert answer.status_code == 200, answer.text
    new = await codes(api, REFORM)
    assert {each["code"] for each in answer.json()["policies_carried"]} == {"51", "52"}
    assert await api.fetchval("SELECT count(*) FROM control.policies WHERE unit_id = $1", new["52"]) == 1
    assert await api.fetchval("SELECT state FROM control.offers WHERE unit_id = $1", new["52"]) == "accepted"
    assert await api.fetchval("SELECT place FROM control.priority_places WHERE unit_id = $1", new["51"]) == 7
    # An order over a district that is no more covers the boards it covered, each by itself, and no others.
    carried = await api.fetchval(
        "SELECT d.device_id FROM control.requisitions r JOIN control.devices d USING (device_no) WHERE r.valid_from = $1",
        datetime.combine(REFORM, datetime.min.time(), ZONE),
    )
    assert carried == board


MERGER = "code,parent_code,level,name\n24,,province,Tỉnh Mới\n51,24,commune,Xã Đông\n52,24,commune,Xã Tây\n"


async def test_what_communes_say_until_the_day_of_their_merger_goes_over_too(api: Api) -> None:
    devices = {code: await add_device(api, code) for code in ("11", "12", "21")}
    daily = {"recurrence": "daily", "local_times": ["06:00"], "targets": [{"unit_id": str(api.units["24"])}]}
    offered = (await add_broadcast(api, "24", level="normal", **daily))["broadcast_id"]
    urgent = (await add_broadcast(api, "24", level="priority", **daily))["broadcast_id"]
    answer = await reform(api, MERGER, "old_code,new_code\n24,24\n1,24\n2,24\n11,51\n12,51\n21,52\n")
    assert answer.status_code == 200, answer.text
    merged = (await codes(api, REFORM))["51"]
    await plan(api)
    officer = await api.person((Role.OFFICER, "11"), (Role.OFFICER, "12"))
    administrator = await api.person((Role.ADMINISTRATOR, "24")) | {"If-Match": "*"}

    async def decide(unit: str, word: str) -> None:
        path = f"/api/v1/offers/{offered}/{api.units[unit]}/{word}"
        assert (await api.client.post(path, json={}, headers=officer)).status_code == 200
        await plan(api)

    async def limit(unit: str, seconds: int) -> None:
        path = f"/api/v1/units/{api.units[unit]}/policy"
        response = await api.client.put(path, json={"max_day_s": seconds}, headers=administrator)
        assert response.status_code == 200, response.text

    async def carried() -> Any:
        return await api.fetchval("SELECT state FROM control.offers WHERE unit_id = $1", merged)

    # Two communes become one: what both decided alike is decided, and as long as they differ it will be asked again.
    await decide("11", "accept")
    assert await carried() == "offered"
    assert await heard_on(api, offered, REFORM) == {}
    await decide("12", "accept")
    assert await carried() == "accepted"
    assert set(await heard_on(api, offered, REFORM)) == {devices["11"], devices["12"]}
    await decide("11", "decline")
    assert await carried() == "offered"
    assert await heard_on(api, offered, REFORM) == {}

    await limit("11", 1800)
    await limit("12", 1800)
    assert await api.fetchval("SELECT body ->> 'max_day_s' FROM control.policies WHERE unit_id = $1", merged) == "1800"
    await limit("12", 3600)
    assert await api.fetchval("SELECT count(*) FROM control.policies WHERE unit_id = $1", merged) == 0

    path = f"/api/v1/units/{api.units['11']}/priority-order"
    response = await api.client.put(path, json={"order": [urgent]}, headers=officer | {"If-Match": "*"})
    assert response.status_code == 200, response.text
    places = await api.fetchval("SELECT array_agg(place) FROM control.priority_places WHERE unit_id = $1", merged)
    assert places == [0]


async def test_orders_over_private_boards_until_the_day_of_a_reform_go_over_too(api: Api) -> None:
    """Also those noted after the reform was registered; one that is revoked is revoked for good."""
    board = await add_device(api, "11", "board", ownership="private")
    shown = await add_bulletin(api, "24", duration_ms=None, board_text="Đóng đường")
    officer = await api.person((Role.OFFICER, "24"), (Role.OPERATOR, "24"))

    async def note(number: str) -> str:
        order = {
            "unit_id": str(api.units["1"]),
            "order_number": number,
            "issuer": "Chủ tịch UBND tỉnh",
            "valid_from": api.clock.now.isoformat(),
            "expires_at": datetime.combine(REFORM + timedelta(days=30), datetime.min.time(), ZONE).isoformat(),
        }
        response = await api.client.post("/api/v1/requisitions", json=order, headers=officer)
        assert response.status_code == 201, response.text
        return str(response.json()["requisition_id"])

    async def revoke(requisition_id: str) -> None:
        response = await api.client.post(f"/api/v1/requisitions/{requisition_id}/revoke", headers=officer)
        assert response.status_code == 200, response.text

    async def shown_around() -> list[bool]:
        await plan(api)
        days = (REFORM - timedelta(days=1), REFORM, REFORM + timedelta(days=1))
        return [board in await heard_on(api, broadcast, day) for day in days]

    api.clock.forward(days=(REFORM - api.clock.now.date()).days - 2)
    before = await note("1/QĐ")
    broadcast = (
        await add_broadcast(
            api,
            "24",
            level="priority",
            items=[{"bulletin_id": shown}],
            targets=[{"device_id": board}],
            recurrence="daily",
            local_times=["06:00"],
        )
    )["broadcast_id"]
    answer = await reform(api, MERGER, "old_code,new_code\n24,24\n1,24\n2,24\n11,51\n12,51\n21,52\n")
    assert answer.status_code == 200, answer.text
    assert await shown_around() == [True, True, True]
    await revoke(before)
    assert await shown_around() == [False, False, False]
    after = await note("2/QĐ")
    assert await shown_around() == [True, True, True]
    api.clock.forward(days=2, hours=3)  # over midnight of the reform
    await revoke(after)
    await plan(api)
    standing = await api.fetchval(
        "SELECT count(*) FROM control.emissions WHERE withdrawn_at IS NULL AND starts_at > $1", api.clock.now
    )
    assert standing == 0


async def test_boards_that_come_and_go_until_the_day_of_a_reform_come_under_the_orders_of_where_they_are_then(
    api: Api,
) -> None:
    """R-15: an order is over the boards that lie below its unit, before the day and from it on the same ones."""
    shown = await add_bulletin(api, "24", duration_ms=None, board_text="Đóng đường")
    keeper = await api.person((Role.ADMINISTRATOR, "24"))
    api.clock.forward(days=(REFORM - api.clock.now.date()).days - 2)
    order = {
        "unit_id": str(api.units["1"]),
        "order_number": "3/QĐ",
        "issuer": "Chủ tịch UBND tỉnh",
        "valid_from": api.clock.now.isoformat(),
        "expires_at": datetime.combine(REFORM + timedelta(days=30), datetime.min.time(), ZONE).isoformat(),
    }
    officer = await api.person((Role.OFFICER, "24"), (Role.OPERATOR, "24"))
    assert (await api.client.post("/api/v1/requisitions", json=order, headers=officer)).status_code == 201
    leaves, becomes_public = [
        await add_device(api, "11", "board", ownership="private", device_id=f"board-{name}") for name in ("a", "b")
    ]
    comes, becomes_private = [
        await add_device(api, unit, "board", ownership=ownership, device_id=f"board-{name}")
        for unit, ownership, name in (("21", "private", "c"), ("12", "public", "d"))
    ]
    broadcast = (
        await add_broadcast(
            api,
            "24",
            level="priority",
            items=[{"bulletin_id": shown}],
            recurrence="daily",
            local_times=["06:00"],
            targets=[{"unit_id": str(api.units[code])} for code in ("1", "2")],
        )
    )["broadcast_id"]
    mapping = "old_code,new_code\n24,24\n1,24\n2,24\n11,51\n12,51\n21,52\n"
    assert (await reform(api, MERGER, mapping)).status_code == 200

    async def say(method: str, path: str, body: dict[str, Any]) -> None:
        response = await api.client.request(method, f"/api/v1/devices{path}", json=body, headers=keeper)
        assert response.status_code in (200, 201), response.text

    def a_board(name: str, unit: str) -> dict[str, Any]:
        return {
            "device_id": f"board-{name}",
            "kind": "board",
            "unit_id": str(api.units[unit]),
            "name": "Bảng mới",
            "ownership": "private",
        }

    await say("POST", "", a_board("e", "12"))
    await say("POST", "/batch", {"devices": [a_board("f", "1"), a_board("g", "21")]})
    await say("POST", f"/{leaves}/move", {"unit_id": str(api.units["21"])})
    await say("POST", f"/{comes}/move", {"unit_id": str(api.units["11"])})
    await say("PATCH", f"/{becomes_public}", {"ownership": "public"})
    await say("PATCH", f"/{becomes_private}", {"ownership": "private"})
    await plan(api)

    under_the_order = {comes, becomes_private, "board-e", "board-f"}
    for day in (REFORM - timedelta(days=1), REFORM, REFORM + timedelta(days=1)):
        # What is public needs no order.
        assert set(await heard_on(api, broadcast, day)) == under_the_order | {becomes_public}, day
    carried = "SELECT array_agg(d.device_id ORDER BY d.device_id) FROM control.requisitions r JOIN control.devices d USING (device_no)"
    assert await api.fetchval(carried) == sorted(under_the_order)
    # Said again for the same day, the boards are those that are there by now, each once.
    assert (await reform(api, MERGER, mapping)).status_code == 200
    assert await api.fetchval(carried) == sorted(under_the_order)


async def test_a_commune_that_goes_on_keeps_its_own_word(api: Api) -> None:
    for code in ("11", "12"):
        await add_device(api, code)
    daily = {"recurrence": "daily", "local_times": ["06:00"], "targets": [{"unit_id": str(api.units["24"])}]}
    offered = (await add_broadcast(api, "24", level="normal", **daily))["broadcast_id"]
    tree = TREE.replace("12,1,commune,Xã An Lạc\n", "")
    assert (await reform(api, tree, "old_code,new_code\n12,11\n")).status_code == 200
    officer = await api.person((Role.OFFICER, "11"), (Role.OFFICER, "12"))
    for unit, word in (("11", "decline"), ("12", "accept")):
        path = f"/api/v1/offers/{offered}/{api.units[unit]}/{word}"
        assert (await api.client.post(path, json={}, headers=officer)).status_code == 200
    assert await api.fetchval("SELECT state FROM control.offers WHERE unit_id = $1", api.units["11"]) == "declined"


async def test_saying_it_again_carries_by_the_new_mapping_alone(api: Api) -> None:
    for code in ("11", "21"):
        await add_device(api, code)
    daily = {"recurrence": "daily", "local_times": ["06:00"], "targets": [{"unit_id": str(api.units["24"])}]}
    offered = (await add_broadcast(api, "24", level="normal", **daily))["broadcast_id"]
    officer = await api.person((Role.OFFICER, "11"))
    path = f"/api/v1/offers/{offered}/{api.units['11']}/accept"
    assert (await api.client.post(path, json={}, headers=officer)).status_code == 200
    lines = "old_code,new_code\n24,24\n1,24\n2,24\n12,51\n"
    assert (await reform(api, MERGER, lines + "11,51\n21,52\n")).status_code == 200
    assert (await reform(api, MERGER, lines + "11,52\n21,51\n")).status_code == 200
    new = await codes(api, REFORM)
    accepted = (
        "SELECT array_agg(unit_id::text) FROM control.offers WHERE state = 'accepted' AND unit_id::text = ANY ($1)"
    )
    assert await api.fetchval(accepted, list(new.values())) == [new["52"]]
