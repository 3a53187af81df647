"""What-if: a dry run says what the save then does, and leaves nothing behind."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest

from services.control import planning_queue
from services.control.permissions import Role
from services.control.planner import Planner
from services.control.planning.changes import Changes
from services.shared.database.pool import connect
from tests.support.control import a_keyring, a_planner
from tests.support.control_api import (
    TREE,
    ZONE,
    Api,
    add_broadcast,
    add_bulletin,
    add_device,
    add_group,
    broadcast_body,
    group_body,
    import_tree,
)
from tests.support.database import TestDatabase

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

TABLES = (
    "broadcasts",
    "broadcast_items",
    "broadcast_targets",
    "offers",
    "past_offers",
    "policy_exceptions",
    "policies",
    "priority_places",
    "device_groups",
    "device_group_members",
    "devices",
    "planning_requests",
    "planning_problems",
    "emissions",
    "issue_requests",
    "outbox",
    "audit",
)


async def everything(api: Api) -> dict[str, str]:
    """Every row that a save or the planner could write."""
    return {
        table: str(await api.fetchval(f"SELECT md5(string_agg(t::text, '|' ORDER BY t::text)) FROM control.{table} t"))
        for table in TABLES
    }


async def set_policy(api: Api, unit: str, **body: Any) -> None:
    await api.execute(
        """
        INSERT INTO control.policies (unit_id, body, changed_at, changed_by)
        SELECT $1, $2, $3, account_id
          FROM control.accounts
         LIMIT 1
            ON CONFLICT (unit_id) DO UPDATE SET body = excluded.body
        """,
        api.units[unit],
        body,
        api.clock.now,
    )


async def settled(api: Api, planner: Planner) -> Changes | None:
    """What planning does with all that is asked for now."""
    return await planner.plan_once(now=api.clock.now)


# --- one change at a time --------------------------------------------------------------------------------------------


async def test_a_dry_run_stores_nothing_and_wakes_nobody(api: Api, database: TestDatabase) -> None:
    officer = await api.person((Role.OFFICER, "11"))
    body = await broadcast_body(api, "11")
    heard: list[str] = []
    before = await everything(api)
    async with connect(database.control, application="listener") as listener:
        await listener.add_listener(planning_queue.CHANNEL, lambda *_: heard.append("rung"))
        answer = await api.client.post("/api/v1/broadcasts", params={"dry_run": "true"}, json=body, headers=officer)
        assert answer.status_code == 200, answer.text
        assert "etag" not in answer.headers
        await listener.execute("SELECT 1")  # whatever was notified would have come by now
        assert heard == []
    assert await everything(api) == before
    outlook = answer.json()["outlook"]
    assert (answer.json()["state"], answer.json()["devices"], outlook["add"]) == ("scheduled", 1, 1)
    assert outlook["counts"] == {"added": 1}
    (unit,) = outlook["units"]
    assert (unit["unit_id"], unit["name"], unit["devices"]) == (str(api.units["11"]), "Xã Đại Sơn", 1)
    assert outlook["detail"] is None


async def test_numbers_come_first_and_devices_page_by_page(api: Api) -> None:
    officer = await api.person((Role.OFFICER, "1"))
    device_ids = [await add_device(api, "11") for _ in range(5)]
    body = await broadcast_body(api, "1", level="priority", targets=[{"unit_id": str(api.units["11"])}])
    seen: list[str] = []
    after = ""
    while True:
        query = {"dry_run": "true", "detail_unit": str(api.units["11"]), "detail_limit": "2", "detail_after": after}
        answer = await api.client.post("/api/v1/broadcasts", params=query, json=body, headers=officer)
        detail = answer.json()["outlook"]["detail"]
        for device in detail["devices"]:
            seen.append(device["device_id"])
            (change,) = device["changes"]
            assert (change["kind"], change["after"]["fate"], change["before"]) == ("added", "whole", None)
        if detail["more_after"] is None:
            break
        after = detail["more_after"]
    assert seen == device_ids


async def test_units_stand_in_the_order_of_the_tree(api: Api) -> None:
    officer = await api.person((Role.OFFICER, "24"))
    for unit in ("21", "12", "11"):
        await add_device(api, unit)
    tree = (await api.client.get("/api/v1/units/tree", headers=officer)).json()
    communes = [each["unit_id"] for each in tree if each["code"] in ("11", "12", "21")]
    for level in ("priority", "normal"):
        body = await broadcast_body(api, "24", level=level, targets=[{"unit_id": str(api.units["24"])}])
        tried = await api.client.post("/api/v1/broadcasts", params={"dry_run": "true"}, json=body, headers=officer)
        outlook = tried.json()["outlook"]
        found = outlook["units"] if level == "priority" else outlook["findings"]
        assert [each["unit_id"] for each in found] == communes


async def test_what_is_cut_is_told_with_what_cuts_it_and_why(api: Api) -> None:
    officer = await api.person((Role.OFFICER, "11"))
    await add_device(api, "11")
    target = [{"unit_id": str(api.units["11"])}]
    long = await add_bulletin(api, "11", duration_ms=50_000)
    await api.client.post(
        "/api/v1/broadcasts",
        json=await broadcast_body(api, "11", items=[{"bulletin_id": long}], targets=target, resume="drop"),
        headers=officer,
    )
    body = await broadcast_body(api, "11", level="priority", local_times=["05:30:20"], targets=target)
    query = {"dry_run": "true", "detail_unit": str(api.units["11"])}
    outlook = (await api.client.post("/api/v1/broadcasts", params=query, json=body, headers=officer)).json()["outlook"]
    assert outlook["counts"] == {"added": 1, "cut": 1}
    (device,) = outlook["detail"]["devices"]
    cut, added = device["changes"]
    assert (cut["kind"], cut["decided_by"], cut["by"]) == ("cut", "level", added["broadcast_id"])
    assert cut["after"]["parts"] == [["2026-03-10T22:30:00Z", "2026-03-10T22:30:20Z"]]


async def test_what_a_save_would_refuse_a_dry_run_refuses_in_the_same_words(api: Api) -> None:
    officer = await api.person((Role.OFFICER, "11"))
    await set_policy(api, "11", quiet=[{"begin": "21:00", "end": "06:00"}])
    body = await broadcast_body(api, "11")
    refused = [
        await api.client.post("/api/v1/broadcasts", params=params, json=body, headers=officer)
        for params in ({"dry_run": "true"}, {})
    ]
    assert [each.status_code for each in refused] == [422, 422]
    assert refused[0].json() == refused[1].json()
    assert refused[0].json()["code"] == "broadcast_against_policy"
    assert [(each["field"], each["code"]) for each in refused[0].json()["errors"]] == [
        ("local_times", "against_quiet_hours")
    ]
    assert "Xã Đại Sơn" in refused[0].json()["errors"][0]["message"]
    assert await api.fetchval("SELECT count(*) FROM control.broadcasts") == 0


async def test_what_begins_beyond_the_horizon_is_looked_at_where_it_begins(api: Api) -> None:
    officer = await api.person((Role.OFFICER, "11"))
    body = await broadcast_body(api, "11", starts_on="2026-05-01", recurrence="daily")
    answer = await api.client.post("/api/v1/broadcasts", params={"dry_run": "true"}, json=body, headers=officer)
    assert (answer.json()["outlook"]["first"], answer.json()["outlook"]["add"]) == ("2026-05-01", 9)


async def test_what_happens_is_told_of_the_units_of_today(api: Api) -> None:
    """A village that opens today lies in its commune, although there was no such village yesterday."""
    await import_tree(api, f"{TREE}111,11,village,Thôn Mới\n", api.clock.now.astimezone(ZONE).date())
    officer = await api.person((Role.OFFICER, "11"))
    await add_device(api, "111")
    body = await broadcast_body(api, "11", targets=[{"unit_id": str(api.units["111"])}])
    answer = await api.client.post("/api/v1/broadcasts", params={"dry_run": "true"}, json=body, headers=officer)
    assert answer.status_code == 200, answer.text
    assert [(each["name"], each["devices"]) for each in answer.json()["outlook"]["units"]] == [("Xã Đại Sơn", 1)]


async def test_a_withdrawal_can_be_tried_too(api: Api) -> None:
    officer = await api.person((Role.OFFICER, "11"))
    made = await api.client.post("/api/v1/broadcasts", json=await broadcast_body(api, "11"), headers=officer)
    path = f"/api/v1/broadcasts/{made.json()['broadcast_id']}"
    before = await everything(api)
    tried = await api.client.post(f"{path}/withdraw", params={"dry_run": "true"}, headers=officer)
    assert (tried.json()["state"], tried.json()["outlook"]["withdraw"]) == ("withdrawn", 1)
    assert tried.json()["outlook"]["counts"] == {"removed": 1}
    assert await everything(api) == before
    assert (await api.client.get(path, headers=officer)).json()["state"] == "scheduled"


async def test_a_change_that_waits_for_an_approver_falls_silent_until_then_and_so_says_the_dry_run(api: Api) -> None:
    """It was scheduled; what it becomes is against the quiet hours. Withdrawn while it waits, nothing is missed any more."""
    planner = a_planner(api.database, a_keyring())
    officer = await api.person((Role.OFFICER, "11"))
    await set_policy(api, "11", quiet=[{"begin": "22:00", "end": "04:00"}], exceptions_by_approver=True)
    body = await broadcast_body(api, "11", recurrence="daily")
    made = await api.client.post("/api/v1/broadcasts", json=body, headers=officer)
    assert made.json()["state"] == "scheduled", made.text
    path = f"/api/v1/broadcasts/{made.json()['broadcast_id']}"
    planned = await settled(api, planner)
    assert planned is not None
    days = len(planned.add)
    api.clock.forward(minutes=1)

    async def tried_and_done(method: str, path: str, **send: Any) -> tuple[dict[str, Any], Changes]:
        before = await everything(api)
        tried = await api.client.request(method, path, params={"dry_run": "true"}, **send)
        assert tried.status_code == 200, tried.text
        assert await everything(api) == before
        done = await api.client.request(method, path, **send)
        assert (done.status_code, done.json()["state"]) == (200, tried.json()["state"])
        return tried.json(), await settled(api, planner) or Changes()

    late = {"json": {**body, "local_times": ["22:30"]}, "headers": {**officer, "If-Match": '"1"'}}
    tried, changes = await tried_and_done("PUT", path, **late)

    assert tried["state"] == "awaiting_approval"
    assert tried["exception"] == {"rules": ["quiet_hours"], "unit_ids": [str(api.units["11"])]}
    outlook = tried["outlook"]
    assert (outlook["add"], outlook["withdraw"], outlook["counts"]) == (0, days, {"removed": days})
    assert (len(changes.add), len(changes.withdraw)) == (0, days)
    assert [each["problem"] for each in outlook["findings"]] == ["awaiting_approval"]
    waiting = "SELECT count(*) FROM control.planning_problems WHERE problem = 'awaiting_approval'"
    assert outlook["findings"][0]["occurrences"] == await api.fetchval(waiting) > 0

    tried, changes = await tried_and_done("POST", f"{path}/withdraw", headers=officer)

    outlook = tried["outlook"]
    assert (tried["state"], outlook["counts"], outlook["findings"], outlook["units"]) == ("withdrawn", {}, [], [])
    assert (changes.add, changes.withdraw, await api.fetchval(waiting)) == ((), (), 0)
    assert [each["problem"] for each in outlook["settled"]] == ["awaiting_approval"]
    left = await api.client.get("/api/v1/policy-exceptions", params={"is_open": True}, headers=officer)
    assert left.json() == [], "nobody is asked any more"


async def test_a_dry_run_needs_the_version_that_was_read_as_the_save_does(api: Api) -> None:
    officer = await api.person((Role.OFFICER, "11"))
    made = await api.client.post("/api/v1/broadcasts", json=await broadcast_body(api, "11"), headers=officer)
    path = f"/api/v1/broadcasts/{made.json()['broadcast_id']}"
    body = await broadcast_body(api, "11", title="Khác")
    for headers, status in (({}, 428), ({"If-Match": '"9"'}, 409), ({"If-Match": '"1"'}, 200)):
        tried = await api.client.put(path, params={"dry_run": "true"}, json=body, headers={**officer, **headers})
        assert tried.status_code == status, tried.text


async def test_a_change_of_a_group_can_be_tried_too(api: Api) -> None:
    officer = await api.person((Role.OFFICER, "11"))
    group, newcomer = await add_group(api, "11"), await add_device(api, "11")
    path = f"/api/v1/groups/{group['group_id']}"
    await add_broadcast(api, "11", targets=[{"group_id": group["group_id"]}])
    before = await everything(api)
    body = await group_body(api, "11", members=[newcomer])
    query = {"dry_run": "true", "detail_unit": str(api.units["11"])}
    tried = await api.client.put(path, params=query, json=body, headers={**officer, "If-Match": '"1"'})
    assert tried.status_code == 200, tried.text
    outlook = tried.json()["outlook"]
    assert (outlook["add"], outlook["withdraw"], outlook["counts"]) == (1, 1, {"added": 1, "removed": 1})
    assert {each["device_id"]: each["changes"][0]["kind"] for each in outlook["detail"]["devices"]} == {
        group["members"][0]: "removed",
        newcomer: "added",
    }
    assert await everything(api) == before
    assert (await api.client.get(path, headers=officer)).json() == group


async def test_closing_a_group_can_be_tried_too(api: Api) -> None:
    officer = await api.person((Role.OFFICER, "11"))
    used, free = await add_group(api, "11"), await add_group(api, "11")
    await add_broadcast(api, "11", targets=[{"group_id": used["group_id"]}])
    before = await everything(api)
    answers = {}
    for group in (used, free):
        path = f"/api/v1/groups/{group['group_id']}"
        answers[group["group_id"]] = await api.client.delete(path, params={"dry_run": "true"}, headers=officer)
        late = await api.client.delete(path, params={"dry_run": "true"}, headers={**officer, "If-Match": '"7"'})
        assert late.status_code == 409
        assert (await api.client.get(path, headers=officer)).json() == group
    assert (answers[used["group_id"]].status_code, answers[used["group_id"]].json()["code"]) == (409, "group_in_use")
    assert (answers[free["group_id"]].status_code, answers[free["group_id"]].json()["outlook"]["counts"]) == (200, {})
    assert await everything(api) == before


@pytest.mark.parametrize(("seconds", "days"), [(-1, 3), (0, 3), (1, 2), (600, 2)])
async def test_what_should_have_begun_already_is_not_promised(api: Api, seconds: int, days: int) -> None:
    """Accepted in the middle of an occurrence, an offer sounds from the next one on, and so says the dry run."""
    device = await add_device(api, "11")
    tomorrow = api.clock.now.astimezone(ZONE).date() + timedelta(days=1)
    offered = await add_broadcast(
        api,
        "24",
        recurrence="daily",
        starts_on=tomorrow.isoformat(),
        ends_on=(tomorrow + timedelta(days=3)).isoformat(),
        targets=[{"device_id": device}],
        items=[{"bulletin_id": await add_bulletin(api, "24", duration_ms=900_000)}],
    )
    planner = a_planner(api.database, a_keyring())
    await settled(api, planner)
    begins = datetime.combine(tomorrow, time(5, 30), ZONE).astimezone(UTC)
    api.clock.now = begins + timedelta(seconds=seconds)
    officer = await api.person((Role.OFFICER, "11"))
    path = f"/api/v1/offers/{offered['broadcast_id']}/{api.units['11']}/accept"
    dry = (await api.client.post(path, params={"dry_run": True}, json={}, headers=officer)).json()["outlook"]
    assert (dry["add"], dry["counts"]) == (days, {"added": days})
    assert (await api.client.post(path, json={}, headers=officer)).status_code == 200
    applied = await settled(api, planner)
    assert applied is not None
    assert len(applied.add) == days


async def test_media_that_are_not_on_the_device_yet_are_counted(api: Api) -> None:
    officer = await api.person((Role.OFFICER, "11"))
    device_ids = [await add_device(api, "11") for _ in range(3)]
    bulletin = await add_bulletin(api, "11")
    sha256 = await api.fetchval("SELECT media_sha256 FROM control.bulletins WHERE bulletin_id::text = $1", bulletin)
    for device_id, file in ((device_ids[0], sha256), (device_ids[1], bytes(32))):
        await api.execute(
            """
            INSERT INTO control.device_media (device_no, sha256, stored_at)
            SELECT device_no, $2, $3 FROM control.devices WHERE device_id = $1
            """,
            device_id,
            file,
            api.clock.now,
        )
    target = [{"unit_id": str(api.units["11"])}]
    body = await broadcast_body(api, "11", items=[{"bulletin_id": bulletin}], targets=target)
    tried = await api.client.post("/api/v1/broadcasts", params={"dry_run": "true"}, json=body, headers=officer)
    (unit,) = tried.json()["outlook"]["units"]
    assert [unit[name] for name in ("devices", "lacking_devices", "unknown_devices")] == [3, 1, 1]
