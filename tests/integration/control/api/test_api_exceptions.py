"""Named approvers let broadcasts pass that a policy stands against, or do not."""

from __future__ import annotations

import asyncio
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from services.control import programme_store, snapshot_store
from services.control.permissions import Role
from services.control.planning.model import Window
from services.control.planning.programme import plan
from services.control.programme_store import Reach
from tests.support.control import a_keyring, a_planner
from tests.support.control_api import (
    ZONE,
    Api,
    a_policy,
    add_awaiting_broadcast,
    add_broadcast,
    add_bulletin,
    add_device,
    an_api,
    broadcast_body,
)
from tests.support.database import TestDatabase

pytestmark = pytest.mark.integration


async def set_policy(api: Api, unit: str, **body: Any) -> None:
    headers = {**await api.person((Role.ADMINISTRATOR, unit)), "If-Match": "*"}
    response = await api.client.put(f"/api/v1/units/{api.units[unit]}/policy", json=body, headers=headers)
    assert response.status_code == 200, response.text


async def decide(api: Api, broadcast_id: str, verb: str, headers: dict[str, str], **send: Any) -> Any:
    return await api.client.post(f"/api/v1/broadcasts/{broadcast_id}/{verb}", headers=headers, **send)


async def test_what_is_over_is_not_let_pass(api: Api) -> None:
    """It would be called scheduled, and nothing would ever sound or say why; it can still be rejected."""
    await set_policy(api, "11", quiet=[{"begin": "21:00", "end": "06:00"}], exceptions_by_approver=True)
    officer, approver = await api.person((Role.OFFICER, "1")), await api.person((Role.APPROVER, "11"))
    made = await api.client.post(
        "/api/v1/broadcasts", json=await broadcast_body(api, "11", level="priority"), headers=officer
    )
    broadcast_id = made.json()["broadcast_id"]
    assert made.json()["state"] == "awaiting_approval"
    api.clock.forward(days=2)
    late = await decide(api, broadcast_id, "approve", approver)
    assert (late.status_code, late.json()["code"]) == (409, "broadcast_is_over"), late.text
    assert await state_of(api, broadcast_id) == "awaiting_approval"
    assert (await decide(api, broadcast_id, "reject", approver)).status_code == 200
    assert await state_of(api, broadcast_id) == "rejected"


async def state_of(api: Api, broadcast_id: str) -> str:
    state: str = await api.fetchval(
        "SELECT state FROM control.broadcasts WHERE broadcast_id = $1", uuid.UUID(broadcast_id)
    )
    return state


async def test_what_breaks_quiet_hours_waits_for_the_approver_of_the_unit_and_is_planned_then(api: Api) -> None:
    await set_policy(api, "11", quiet=[{"begin": "21:00", "end": "06:00"}], exceptions_by_approver=True)
    officer, approver = await api.person((Role.OFFICER, "1")), await api.person((Role.APPROVER, "11"))
    body = await broadcast_body(api, "11", level="priority")
    made = await api.client.post("/api/v1/broadcasts", json=body, headers=officer)
    assert (made.status_code, made.json()["state"]) == (201, "awaiting_approval"), made.text
    broadcast_id = made.json()["broadcast_id"]
    (waiting,) = (await api.client.get("/api/v1/policy-exceptions", headers=approver)).json()
    assert (waiting["broadcast_id"], waiting["rules"], waiting["state"]) == (broadcast_id, ["quiet_hours"], "open")
    assert ([each["code"] for each in waiting["units"]], waiting["may_decide"]) == (["11"], True)
    (seen,) = (await api.client.get("/api/v1/policy-exceptions", headers=officer)).json()
    assert seen["may_decide"] is False
    await api.execute("DELETE FROM control.planning_requests")
    tried = (await decide(api, broadcast_id, "approve", approver, params={"dry_run": True})).json()
    assert (tried["state"], tried["outlook"]["counts"]) == ("allowed", {"added": 1})
    assert await state_of(api, broadcast_id) == "awaiting_approval"
    allowed = await decide(
        api, broadcast_id, "approve", {**approver, "If-Match": '"1"'}, json={"note": "Lễ khai mạc sớm"}
    )
    assert allowed.status_code == 200, allowed.text
    assert (allowed.json()["state"], allowed.json()["note"]) == ("allowed", "Lễ khai mạc sớm")
    assert (await state_of(api, broadcast_id), allowed.headers["etag"]) == ("scheduled", '"1"')
    assert str(await api.fetchval("SELECT broadcast_id FROM control.planning_requests")) == broadcast_id
    tomorrow = api.clock.now.date() + timedelta(days=1)
    async with api.database.connection() as connection:
        window = Window(first=tomorrow, end=tomorrow + timedelta(days=1))
        snapshot = await snapshot_store.load_snapshot(
            connection, window, zone=ZONE, there_after=api.clock.now, played_before=api.clock.now
        )
    assert [each.allowed_rules for each in snapshot.broadcasts] == [frozenset({("quiet_hours", api.units["11"])})]
    audited = await api.fetchval(
        "SELECT after FROM control.audit WHERE action = 'broadcast_approved' AND before ->> 'state' = $1",
        "awaiting_approval",
    )
    assert (audited["state"], audited["rules"], audited["note"]) == ("scheduled", ["quiet_hours"], "Lễ khai mạc sớm")


async def test_what_waits_is_told_where_it_would_have_sounded(api: Api) -> None:
    await set_policy(api, "11", approved_levels=["normal"])
    device_id = await add_device(api, "11")
    officer, viewer = await api.person((Role.OFFICER, "11")), await api.person((Role.VIEWER, "24"))
    made = await api.client.post("/api/v1/broadcasts", json=await broadcast_body(api, "11"), headers=officer)
    assert made.json()["state"] == "awaiting_approval", made.text
    broadcast_id = made.json()["broadcast_id"]
    tomorrow = api.clock.now.astimezone(ZONE).date() + timedelta(days=1)
    async with api.database.transaction() as connection:
        window = Window(first=tomorrow, end=tomorrow + timedelta(days=1))
        snapshot = await snapshot_store.load_snapshot(
            connection, window, zone=ZONE, there_after=api.clock.now, played_before=api.clock.now
        )
        (problem,) = plan(snapshot, window).problems
        assert problem.occurrence_at is not None
        await programme_store.replace_problems(
            connection,
            Reach(is_everything=True),
            [problem],
            asked_at=api.clock.now,
            asked_on=tomorrow,
            now=api.clock.now,
        )
    found = await api.client.get(
        f"/api/v1/devices/{device_id}/explanation", params={"at": problem.occurrence_at.isoformat()}, headers=viewer
    )
    assert found.status_code == 200, found.text
    told = [(each["problem"], each["broadcast_id"]) for each in found.json()["offered"]]
    assert (told, found.json()["refused"]) == ([("awaiting_approval", broadcast_id)], [])
    sheet = await api.client.get(
        f"/api/v1/units/{api.units['11']}/proof-sheet",
        params={"month": f"{tomorrow:%Y-%m}", "format": "csv"},
        headers={**viewer, "Accept-Language": "en"},
    )
    assert sheet.status_code == 200, sheet.text
    assert "Awaiting approval" in sheet.text


QUIET: dict[str, Any] = {"quiet": [{"begin": "21:00", "end": "06:00"}], "exceptions_by_approver": True}


async def test_whoever_decides_is_asked_about_everything_that_would_refuse_it(api: Api) -> None:
    """What quiet hours refuse draws on no minutes: that the day is full was only seen once the former was let pass."""
    await set_policy(api, "24", max_day_s=80, exceptions_by_approver=True)
    await set_policy(api, "11", **QUIET, max_day_s=60)
    officer, approver = await api.person((Role.OFFICER, "11")), await api.person((Role.APPROVER, "24"))
    long = {"items": [{"bulletin_id": await add_bulletin(api, "11", duration_ms=90_000)}]}
    body = await broadcast_body(api, "11", **long)

    made = await api.client.post("/api/v1/broadcasts", json=body, headers=officer)

    assert made.json()["state"] == "awaiting_approval", made.text
    here, above = str(api.units["11"]), str(api.units["24"])
    (waiting,) = (await api.client.get("/api/v1/policy-exceptions", headers=approver)).json()
    assert sorted(waiting["rules"]) == ["day_full", "quiet_hours"]
    assert {each["unit_id"] for each in waiting["units"]} == {here, above}
    asked = await api.fetchval(
        "SELECT array_agg(r || ' ' || u) FROM control.policy_exceptions, unnest(rules, unit_ids) p (r, u)"
    )
    assert sorted(asked) == sorted([f"quiet_hours {here}", f"day_full {here}", f"day_full {above}"])
    allowed = await decide(api, made.json()["broadcast_id"], "approve", approver)
    assert (allowed.status_code, allowed.json()["problems"]) == (200, [])
    planned = await a_planner(api.database, a_keyring()).plan_once(now=api.clock.now)
    assert planned is not None
    assert len(planned.add) == 1, "it sounds now"


async def test_what_nobody_may_let_pass_is_named_also_behind_what_somebody_may(api: Api) -> None:
    await set_policy(api, "24", max_day_s=60)
    await set_policy(api, "11", **QUIET)
    await add_broadcast(api, "11", level="priority", local_times=["17:00"])
    body = await broadcast_body(api, "11", items=[{"bulletin_id": await add_bulletin(api, "11", duration_ms=40_000)}])
    officer = await api.person((Role.OFFICER, "11"))
    refused = await api.client.post("/api/v1/broadcasts", json=body, headers=officer)
    assert (refused.status_code, refused.json()["code"]) == (422, "broadcast_against_policy"), refused.text
    assert {each["code"] for each in refused.json()["errors"]} == {"against_quiet_hours", "against_day_full"}


async def test_what_has_come_to_stand_against_it_since_is_told_when_it_is_let_pass(api: Api) -> None:
    """The day was free when it was asked for, and is full when somebody decides: that was let pass by nobody."""
    await set_policy(api, "11", **QUIET, max_day_s=60)
    officer, approver = await api.person((Role.OFFICER, "11")), await api.person((Role.APPROVER, "11"))
    made = await api.client.post("/api/v1/broadcasts", json=await broadcast_body(api, "11"), headers=officer)
    broadcast_id = made.json()["broadcast_id"]
    assert made.json()["exception"]["rules"] == ["quiet_hours"]
    await add_broadcast(
        api,
        "11",
        level="priority",
        local_times=["17:00"],
        items=[{"bulletin_id": await add_bulletin(api, "11", duration_ms=50_000)}],
        targets=[{"unit_id": str(api.units["11"])}],
    )
    told = []
    for params in ({"dry_run": True}, {}):
        answer = await decide(api, broadcast_id, "approve", approver, params=params)
        assert answer.status_code == 200, answer.text
        told.append([(each["problem"], each["unit_id"], each["is_refusal"]) for each in answer.json()["problems"]])
    assert told == [[("day_full", str(api.units["11"]), True)]] * 2


async def test_what_begins_beyond_the_days_that_are_planned_is_let_pass_with_a_look_at_them(api: Api) -> None:
    await set_policy(api, "11", **QUIET)
    officer, approver = await api.person((Role.OFFICER, "11")), await api.person((Role.APPROVER, "11"))
    body = await broadcast_body(api, "11", starts_on="2026-05-11")
    made = await api.client.post("/api/v1/broadcasts", json=body, headers=officer)
    tried = await decide(api, made.json()["broadcast_id"], "approve", approver, params={"dry_run": True})
    outlook = tried.json()["outlook"]
    assert (outlook["first"], outlook["counts"]) == ("2026-05-11", {"added": 1})


async def test_a_rule_is_let_pass_for_the_unit_whose_it_is_and_the_others_keep_theirs(api: Api) -> None:
    """A commune's quiet hours and a province's day were let pass; the quiet hours that the province sets later were not."""
    await set_policy(api, "11", quiet=[{"begin": "21:00", "end": "06:00"}], exceptions_by_approver=True)
    await set_policy(api, "1", max_day_s=20, exceptions_by_approver=True)
    officer = await api.person((Role.OFFICER, "1"))
    approver = await api.person((Role.APPROVER, "1"))
    body = await broadcast_body(api, "11", level="priority", local_times=["05:30", "17:00"])
    made = await api.client.post("/api/v1/broadcasts", json=body, headers=officer)
    assert made.json()["exception"]["rules"] == ["day_full", "quiet_hours"], made.text
    allowed = await decide(api, made.json()["broadcast_id"], "approve", approver)
    assert (allowed.status_code, allowed.json()["rules"]) == (200, ["day_full", "quiet_hours"]), allowed.text
    tomorrow = api.clock.now.astimezone(ZONE).date() + timedelta(days=1)
    window = Window(first=tomorrow, end=tomorrow + timedelta(days=1))

    async def planned() -> tuple[int, list[tuple[str, Any]]]:
        async with api.database.connection() as connection:
            snapshot = await snapshot_store.load_snapshot(
                connection, window, zone=ZONE, there_after=api.clock.now, played_before=api.clock.now
            )
        found = plan(snapshot, window)
        return sum(map(len, found.programmes.values())), [(each.kind.value, each.unit_id) for each in found.problems]

    assert await planned() == (2, [])
    await set_policy(api, "1", max_day_s=20, quiet=[{"begin": "04:00", "end": "06:00"}])
    assert await planned() == (1, [("quiet_hours", api.units["1"])])


async def test_where_no_exception_is_granted_nobody_can_let_it_pass(api: Api) -> None:
    await set_policy(api, "11", quiet=[{"begin": "21:00", "end": "06:00"}])
    officer = await api.person((Role.OFFICER, "11"))
    made = await api.client.post("/api/v1/broadcasts", json=await broadcast_body(api, "11"), headers=officer)
    assert (made.status_code, made.json()["code"]) == (422, "broadcast_against_policy")
    assert await api.fetchval("SELECT count(*) FROM control.policy_exceptions") == 0


async def test_a_level_may_want_an_approver_s_word_every_time(api: Api) -> None:
    await set_policy(api, "11", approved_levels=["normal"])
    officer, approver = await api.person((Role.OFFICER, "11")), await api.person((Role.APPROVER, "11"))
    made = await api.client.post("/api/v1/broadcasts", json=await broadcast_body(api, "11"), headers=officer)
    assert made.json()["exception"]["rules"] == ["approval_required"]
    refused = await decide(api, made.json()["broadcast_id"], "reject", approver)
    assert refused.json()["state"] == "refused"
    assert await state_of(api, made.json()["broadcast_id"]) == "rejected"


async def test_the_right_must_hold_over_every_unit_whose_policy_it_is(api: Api) -> None:
    broadcast_id = await add_awaiting_broadcast(api, "1", against=("11", "12"))
    one = await api.person((Role.APPROVER, "11"))
    response = await decide(api, broadcast_id, "approve", one)
    assert (response.status_code, response.json()["code"]) == (403, "not_permitted_here")
    assert "Xã An Lạc" in response.json()["detail"]
    both = await api.person((Role.APPROVER, "11"), (Role.APPROVER, "12"))
    assert (await decide(api, broadcast_id, "approve", both)).status_code == 200


async def test_nobody_lets_their_own_pass_where_that_is_forbidden(database: TestDatabase, tmp_path: Path) -> None:
    for allowed, status in ((False, 403), (True, 200)):
        async with an_api(database, tmp_path, policy=a_policy(may_approve_own=allowed)) as api:
            await set_policy(api, "11", approved_levels=["normal"])
            maker = await api.person((Role.OFFICER, "11"), (Role.APPROVER, "11"))
            changer = await api.person((Role.OFFICER, "11"), (Role.APPROVER, "11"))
            body = await broadcast_body(api, "11")
            made = (await api.client.post("/api/v1/broadcasts", json=body, headers=maker)).json()
            path = f"/api/v1/broadcasts/{made['broadcast_id']}"
            changed = await api.client.put(path, json={**body, "title": "Khác"}, headers={**changer, "If-Match": '"1"'})
            assert changed.json()["state"] == "awaiting_approval", changed.text
            for who in (maker, changer):
                listed = (await api.client.get("/api/v1/policy-exceptions", headers=who)).json()
                asked = [each for each in listed if each["broadcast_id"] == made["broadcast_id"]]
                assert [(each["version"], each["may_decide"]) for each in asked] == [(2, allowed)]
            response = await decide(api, made["broadcast_id"], "approve", changer)
            assert response.status_code == status
            assert allowed or response.json()["code"] == "own_broadcast"
            await api.execute("DELETE FROM control.policies")


async def test_a_decision_is_about_the_version_that_was_read_and_is_taken_once(api: Api) -> None:
    broadcast_id = await add_awaiting_broadcast(api, "11")
    approver = await api.person((Role.APPROVER, "11"))
    stale = await decide(api, broadcast_id, "approve", {**approver, "If-Match": '"7"'})
    assert (stale.status_code, stale.json()["present"]) == (409, {"state": "awaiting_approval", "version": 1})
    answers = await asyncio.gather(*(decide(api, broadcast_id, verb, approver) for verb in ("approve", "reject")))
    assert sorted(each.status_code for each in answers) == [200, 409]
    lost = next(each for each in answers if each.status_code == 409)
    assert lost.json()["code"] == "broadcast_not_awaiting"
    listed = (await api.client.get("/api/v1/policy-exceptions", params={"is_open": True}, headers=approver)).json()
    decided = (await api.client.get("/api/v1/policy-exceptions", params={"is_open": False}, headers=approver)).json()
    assert (listed, [each["broadcast_id"] for each in decided]) == ([], [broadcast_id])


async def test_what_was_asked_for_a_version_that_stands_no_more_waits_for_nobody(api: Api) -> None:
    broadcast_id = await add_awaiting_broadcast(api, "11")
    officer, approver = await api.person((Role.OFFICER, "11")), await api.person((Role.APPROVER, "11"))
    await api.client.post(f"/api/v1/broadcasts/{broadcast_id}/withdraw", headers=officer)
    response = await decide(api, broadcast_id, "approve", approver)
    assert (response.status_code, response.json()["code"]) == (409, "broadcast_not_awaiting")
    assert (await api.client.get("/api/v1/policy-exceptions", headers=approver)).json() == []


async def test_what_was_rejected_may_be_changed_and_asked_for_again(api: Api) -> None:
    await set_policy(api, "11", approved_levels=["normal"])
    await add_device(api, "11")
    officer, approver = await api.person((Role.OFFICER, "11")), await api.person((Role.APPROVER, "11"))
    body = await broadcast_body(api, "11")
    made = (await api.client.post("/api/v1/broadcasts", json=body, headers=officer)).json()
    assert (await decide(api, made["broadcast_id"], "reject", approver)).status_code == 200
    path = f"/api/v1/broadcasts/{made['broadcast_id']}"
    again = await api.client.put(path, json={**body, "title": "Sửa lại"}, headers={**officer, "If-Match": '"1"'})
    assert again.json()["state"] == "awaiting_approval", again.text
    assert (await decide(api, made["broadcast_id"], "approve", approver)).status_code == 200
    assert await state_of(api, made["broadcast_id"]) == "scheduled"
