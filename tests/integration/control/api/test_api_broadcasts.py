"""Broadcasts over HTTP: asked for, changed by two at once, withdrawn, proven."""

from __future__ import annotations

import asyncio
from datetime import date, timedelta
from typing import Any

import pytest

from services.control.permissions import Role
from tests.support.control import a_keyring, a_planner
from tests.support.control_api import (
    Api,
    add_broadcast,
    add_bulletin,
    add_device,
    add_group,
    add_source,
    broadcast_body,
)

pytestmark = pytest.mark.integration

# For more years than the first occurrence is looked for in.
EVERY_DAY_FOR_LONG = [(date(2026, 3, 11) + timedelta(days=days)).isoformat() for days in range(10_000)]


async def create(api: Api, headers: dict[str, str], **changes: Any) -> Any:
    return await api.client.post("/api/v1/broadcasts", json=await broadcast_body(api, "11", **changes), headers=headers)


async def test_what_was_asked_for_comes_back_as_it_was_asked_for(api: Api) -> None:
    officer = await api.person((Role.OFFICER, "1"))
    bulletin_id, device_id = await add_bulletin(api, "11"), await add_device(api, "11")
    other = await add_device(api, "11")
    wanted = {
        "unit_id": str(api.units["1"]),
        "title": "Bản tin sáng",
        "level": "priority",
        "recurrence": "daily",
        "time_zone": "Asia/Ho_Chi_Minh",
        "starts_on": "2026-03-11",
        "ends_on": "2026-04-01",
        "local_times": ["05:30:00", "17:00:15"],
        "items": [{"bulletin_id": bulletin_id}, {"pause_s": 1.5}, {"bulletin_id": bulletin_id}],
        "targets": [{"unit_id": str(api.units["11"])}, {"device_id": other, "exclude": True}],
        "volume_percent": 40,
        "resume": "drop",
    }
    made = await api.client.post("/api/v1/broadcasts", json=wanted, headers=officer)
    assert made.status_code == 201, made.text
    assert made.headers["etag"] == '"1"'
    assert (made.json()["devices"], made.json()["duration_s"]) == (1, 61.5)
    path = f"/api/v1/broadcasts/{made.json()['broadcast_id']}"
    read = (await api.client.get(path, headers=officer)).json()
    assert {name: read[name] for name in wanted if name not in ("items", "targets")} == {
        name: value for name, value in wanted.items() if name not in ("items", "targets")
    }
    assert [{k: v for k, v in item.items() if v is not None} for item in read["items"]] == wanted["items"]
    assert [{k: v for k, v in target.items() if v not in (None, False)} for target in read["targets"]] == wanted[
        "targets"
    ]
    assert read["proof"]["planned"] == 0
    assert device_id not in str(read["targets"])


async def test_everything_else_that_can_be_asked_for_comes_back_too(api: Api) -> None:
    officer = await api.person((Role.OFFICER, "11"))
    group, source = await add_group(api, "11"), await add_source(api, "24")
    wanted = {
        "recurrence": "rule",
        "rrule": "FREQ=WEEKLY;BYDAY=MO,WE,FR;UNTIL=20261231",
        "rdates": ["2026-03-15", "2026-03-16T17:30:00"],
        "exdates": ["2026-03-18", "2026-03-20T05:30:00"],
        "local_times": ["05:30:00"],
        "items": [{"relay_source_id": source, "length_s": 600.0, "starts_after_s": 0.5}],
        "targets": [{"group_id": group["group_id"]}, {"kind": "cluster"}, {"kind": "board", "exclude": True}],
        "length_s": 900.0,
        "fit": "trim",
        "fill": "repeat",
        "patience_s": 2.5,
    }
    made = await create(api, officer, **wanted)
    assert made.status_code == 201, made.text
    # What is pinned is not repeated.
    assert (made.json()["devices"], made.json()["duration_s"]) == (1, 600.5)
    assert made.json()["starts_at"] == "2026-03-10T22:30:00Z"
    read = (await api.client.get(f"/api/v1/broadcasts/{made.json()['broadcast_id']}", headers=officer)).json()
    plain = {name: value for name, value in wanted.items() if name not in ("items", "targets")}
    assert {name: read[name] for name in plain} == plain
    assert [{k: v for k, v in item.items() if v is not None} for item in read["items"]] == wanted["items"]
    assert [{k: v for k, v in target.items() if v not in (None, False)} for target in read["targets"]] == wanted[
        "targets"
    ]


async def test_ten_thousand_days_taken_out_are_taken_and_one_more_is_not(api: Api) -> None:
    officer = await api.person((Role.OFFICER, "11"))
    days = [(date(2026, 3, 12) + timedelta(days=2 * number)).isoformat() for number in range(10_001)]
    made = await create(api, officer, recurrence="daily", exdates=days[:-1])
    assert made.status_code == 201, made.text
    assert len(made.json()["exdates"]) == 10_000
    refused = await create(api, officer, recurrence="daily", exdates=days)
    assert [(error["field"], error["code"]) for error in refused.json()["errors"]] == [("exdates", "too_many")]


async def test_saving_asks_for_planning_in_the_same_transaction(api: Api) -> None:
    await api.execute("DELETE FROM control.planning_requests")
    broadcast = await add_broadcast(api, "11")
    assert str(await api.fetchval("SELECT broadcast_id FROM control.planning_requests")) == broadcast["broadcast_id"]


async def test_a_faulty_request_stores_nothing(api: Api) -> None:
    officer = await api.person((Role.OFFICER, "11"))
    response = await create(api, officer, time_zone="Asia/Nowhere")
    assert (response.status_code, response.json()["code"]) == (422, "broadcast_invalid")
    assert [error["field"] for error in response.json()["errors"]] == ["time_zone"]
    for table in ("broadcasts", "broadcast_items", "broadcast_targets", "planning_requests"):
        assert await api.fetchval(f"SELECT count(*) FROM control.{table} WHERE broadcast_id IS NOT NULL") == 0


UNKNOWN = "00000000-0000-4000-8000-000000000000"


@pytest.mark.parametrize(
    ("changes", "field", "code"),
    [
        ({"title": " "}, "title", "text_too_short"),
        ({"level": "urgent"}, "level", "not_one_of"),
        ({"level": "emergency"}, "level", "emergency_needs_alert"),
        ({"recurrence": "hourly"}, "recurrence", "not_one_of"),
        ({"severity": 3}, "severity", "field_unknown"),
        ({"time_zone": "+07:00"}, "time_zone", "unknown_time_zone"),
        ({"time_zone": "x" * 65}, "time_zone", "text_too_long"),
        ({"starts_on": "11/03/2026"}, "starts_on", "not_a_date"),
        ({"starts_on": "2026-02-30"}, "starts_on", "not_a_date"),
        ({"starts_on": 20260311}, "starts_on", "not_a_date"),
        ({"starts_on": "2026-03-01"}, "local_times[0]", "time_in_the_past"),
        ({"recurrence": "daily", "ends_on": "2026-03-01"}, "ends_on", "end_before_start"),
        ({"local_times": []}, "local_times", "too_few"),
        ({"rrule": "FREQ=DAILY"}, "rrule", "rrule_without_rule"),
        ({"recurrence": "rule"}, "rrule", "field_missing"),
        ({"recurrence": "rule", "rrule": ""}, "rrule", "text_too_short"),
        ({"recurrence": "rule", "rrule": "x" * 1_001}, "rrule", "text_too_long"),
        ({"recurrence": "rule", "rrule": "mỗi ngày"}, "rrule", "rrule_not_readable"),
        ({"recurrence": "rule", "rrule": "FREQ=MINUTELY"}, "rrule", "rrule_freq_too_fine"),
        ({"recurrence": "rule", "rrule": "FREQ=DAILY;INTERVAL=0"}, "rrule", "rrule_value_out_of_range"),
        ({"recurrence": "rule", "rrule": "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30"}, "rrule", "rrule_never_occurs"),
        ({"exdates": ["2026-03-11T05:30+07:00"]}, "exdates[0]", "not_a_local_day_or_moment"),
        ({"exdates": ["2026-02-30"]}, "exdates[0]", "not_a_local_day_or_moment"),
        ({"exdates": [20260311]}, "exdates[0]", "not_a_local_day_or_moment"),
        ({"rdates": ["2226-03-11"]}, "rdates[0]", "day_out_of_bounds"),
        ({"sessions": ["Buổi sáng"]}, "sessions[0]", "text_of_wrong_form"),
        ({"local_times": [], "sessions": ["sang"]}, "sessions[0]", "unknown_session"),
        ({"length_s": 0}, "length_s", "number_too_small"),
        ({"length_s": 30 * 3600}, "length_s", "number_too_large"),
        ({"fit": "squeeze"}, "fit", "not_one_of"),
        ({"fill": "repeat"}, "fill", "fill_needs_length"),
        ({"patience_s": -1}, "patience_s", "number_too_small"),
        ({"items": [{"relay_source_id": UNKNOWN, "length_s": 60}]}, "items[0].relay_source_id", "unknown_relay_source"),
        ({"items": [{"relay_source_id": UNKNOWN}]}, "items[0]", "relay_needs_length"),
        ({"items": [{"pause_s": 5, "length_s": 60}]}, "items[0]", "relay_needs_length"),
        ({"items": [{"pause_s": 5, "starts_after_s": 60}]}, "items[0]", "only_relays_are_pinned"),
        ({"items": [{"pause_s": 5, "live": True}]}, "items[0]", "only_relays_are_live"),
        (
            {"items": [{"relay_source_id": UNKNOWN, "length_s": 30 * 3600}]},
            "items[0].length_s",
            "number_too_large",
        ),
        ({"targets": [{"group_id": UNKNOWN}]}, "targets[0].group_id", "unknown_group"),
        ({"targets": [{"kind": "sensor"}]}, "targets[0].kind", "not_one_of"),
        ({"local_times": ["5:30"]}, "local_times[0]", "not_a_local_time"),
        ({"local_times": ["24:00"]}, "local_times[0]", "not_a_local_time"),
        ({"local_times": ["05:30+07:00"]}, "local_times[0]", "not_a_local_time"),
        ({"local_times": [19800]}, "local_times[0]", "not_a_local_time"),
        ({"local_times": ["05:30"] * 25}, "local_times", "too_many"),
        ({"local_times": ["05:30", "05:30:00"]}, "local_times", "time_repeated"),
        ({"items": []}, "items", "too_few"),
        ({"items": [{}]}, "items[0]", "item_is_not_one_thing"),
        ({"items": [{"bulletin_id": UNKNOWN, "pause_s": 1}]}, "items[0]", "item_is_not_one_thing"),
        ({"items": [{"bulletin_id": UNKNOWN}]}, "items[0].bulletin_id", "unknown_bulletin"),
        ({"items": [{"bulletin_id": "x"}]}, "items[0].bulletin_id", "not_a_uuid"),
        ({"items": [{"pause_s": 0}]}, "items[0].pause_s", "number_too_small"),
        ({"items": [{"pause_s": 1e300}]}, "items[0].pause_s", "number_too_large"),
        ({"items": [{"pause_s": 5}]}, "items", "items_without_bulletin"),
        ({"targets": []}, "targets", "too_few"),
        ({"targets": [{}]}, "targets[0]", "target_is_not_one_thing"),
        ({"targets": [{"unit_id": UNKNOWN}]}, "targets[0].unit_id", "unknown_unit"),
        ({"targets": [{"device_id": "nobody"}]}, "targets[0].device_id", "unknown_device"),
        ({"targets": [{"device_id": "No Body"}]}, "targets[0].device_id", "bad_device_id"),
        ({"volume_percent": 101}, "volume_percent", "number_too_large"),
        ({"volume_percent": True}, "volume_percent", "not_a_whole_number"),
        ({"volume_percent": "50"}, "volume_percent", "not_a_whole_number"),
        ({"items": [{"pause_s": True}]}, "items[0].pause_s", "not_a_number"),
        ({"targets": [{"kind": "cluster", "exclude": "no"}]}, "targets[0].exclude", "not_true_or_false"),
        ({"starts_on": "1969-12-31"}, "starts_on", "day_out_of_bounds"),
        ({"length_s": 10, "fit": "drop"}, "length_s", "nothing_fits"),
        (
            {"recurrence": "rule", "rrule": "FREQ=DAILY", "exdates": EVERY_DAY_FOR_LONG},
            "exdates",
            "exdates_leave_nothing",
        ),
        ({"resume": "later"}, "resume", "not_one_of"),
        ({"unit_id": UNKNOWN}, "unit_id", "unknown_unit"),
        ({"priority": 1}, "priority", "field_unknown"),
    ],
)
async def test_each_fault_is_a_problem_that_names_its_field(
    api: Api, changes: dict[str, Any], field: str, code: str
) -> None:
    officer = await api.person((Role.OFFICER, "11"))
    response = await create(api, officer, **changes)
    assert response.status_code == 422, response.text
    assert response.headers["content-type"] == "application/problem+json"
    errors = response.json()["errors"]
    assert [(error["field"], error["code"]) for error in errors] == [(field, code)]
    assert errors[0]["message"]
    assert errors[0]["mend"]


async def test_a_target_outside_the_own_subtree_is_forbidden_by_name(api: Api) -> None:
    officer = await api.person((Role.OFFICER, "11"))
    foreign = await add_device(api, "2")
    targets = [{"unit_id": str(api.units["11"])}, {"unit_id": str(api.units["2"])}, {"device_id": foreign}]
    response = await create(api, officer, targets=targets)
    assert (response.status_code, response.json()["code"]) == (403, "target_outside_own_subtree")
    assert [error["field"] for error in response.json()["errors"]] == ["targets[1].unit_id", "targets[2].device_id"]
    assert "Huyện Nam" in response.json()["errors"][0]["message"]
    assert await api.fetchval("SELECT count(*) FROM control.broadcasts") == 0


async def test_a_bulletin_that_is_not_approved_cannot_be_broadcast(api: Api) -> None:
    officer = await api.person((Role.OFFICER, "11"))
    for state in ("submitted", "rejected", "withdrawn"):
        response = await create(api, officer, items=[{"bulletin_id": await add_bulletin(api, "11", state=state)}])
        assert response.json()["errors"][0]["code"] == "bulletin_not_approved"


async def test_targets_without_a_device_that_can_play_are_empty(api: Api) -> None:
    officer = await api.person((Role.OFFICER, "11"))
    board = await add_device(api, "11", "board")
    response = await create(api, officer, targets=[{"device_id": board}])
    assert [(error["field"], error["code"]) for error in response.json()["errors"]] == [("targets", "targets_empty")]
    empty = await create(api, officer, targets=[{"unit_id": str(api.units["11"])}])
    assert empty.json()["errors"][0]["code"] == "targets_empty"


# --- two officers ----------------------------------------------------------------------------------------------------


async def test_a_change_needs_the_version_that_was_read(api: Api) -> None:
    officer = await api.person((Role.OFFICER, "11"))
    made = await create(api, officer)
    path = f"/api/v1/broadcasts/{made.json()['broadcast_id']}"
    body = await broadcast_body(api, "11", title="Bản tin chiều")
    without = await api.client.put(path, json=body, headers=officer)
    assert (without.status_code, without.json()["code"]) == (428, "version_required")
    changed = await api.client.put(path, json=body, headers={**officer, "If-Match": made.headers["etag"]})
    assert (changed.status_code, changed.headers["etag"]) == (200, '"2"')
    late = await api.client.put(
        path, json={**body, "title": "Khác nữa"}, headers={**officer, "If-Match": made.headers["etag"]}
    )
    assert (late.status_code, late.json()["code"], late.headers["etag"]) == (409, "version_mismatch", '"2"')
    assert late.json()["present"]["title"] == "Bản tin chiều"
    assert late.json()["given"]["title"] == "Khác nữa"


async def test_of_two_changes_at_once_one_wins_and_the_other_is_told(api: Api) -> None:
    officer = await api.person((Role.OFFICER, "11"))
    made = await create(api, officer)
    path = f"/api/v1/broadcasts/{made.json()['broadcast_id']}"
    bodies = [await broadcast_body(api, "11", title=f"Lần {number}") for number in range(5)]
    headers = {**officer, "If-Match": made.headers["etag"]}
    answers = await asyncio.gather(*(api.client.put(path, json=body, headers=headers) for body in bodies))
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409, 409]
    winner = next(answer for answer in answers if answer.status_code == 200)
    stored = (await api.client.get(path, headers=officer)).json()
    assert (stored["title"], stored["version"]) == (winner.json()["title"], 2)
    assert await api.fetchval("SELECT count(*) FROM control.broadcast_items") == 1


async def test_withdrawing_looks_at_the_version_when_it_is_given(api: Api) -> None:
    officer = await api.person((Role.OFFICER, "11"))
    made = await create(api, officer)
    path = f"/api/v1/broadcasts/{made.json()['broadcast_id']}"
    other = await api.client.post(f"{path}/withdraw", headers={**officer, "If-Match": '"7"'})
    assert other.status_code == 409
    withdrawn = await api.client.post(f"{path}/withdraw", headers={**officer, "If-Match": '"1"'})
    assert (withdrawn.json()["state"], withdrawn.headers["etag"]) == ("withdrawn", '"2"')
    for again in (
        await api.client.post(f"{path}/withdraw", headers=officer),
        await api.client.put(path, json=await broadcast_body(api, "11"), headers={**officer, "If-Match": '"2"'}),
    ):
        assert (again.status_code, again.json()["code"]) == (409, "broadcast_withdrawn")


async def test_what_is_on_the_air_can_be_changed(api: Api) -> None:
    officer = await api.person((Role.OFFICER, "11"))
    made = await create(api, officer)
    device_id, now = await add_device(api, "11"), api.clock.now
    await emission(api, made.json(), device_id, starts_at=now - timedelta(seconds=10))
    path = f"/api/v1/broadcasts/{made.json()['broadcast_id']}"
    body, headers = await broadcast_body(api, "11", title="Sửa lỗi chính tả"), {**officer, "If-Match": '"1"'}
    changed = await api.client.put(path, json=body, headers=headers)
    assert (changed.status_code, changed.json()["title"]) == (200, "Sửa lỗi chính tả")


async def test_the_issuing_unit_stays(api: Api) -> None:
    officer = await api.person((Role.OFFICER, "1"))
    made = await create(api, officer)
    path = f"/api/v1/broadcasts/{made.json()['broadcast_id']}"
    body = await broadcast_body(api, "12")
    response = await api.client.put(path, json=body, headers={**officer, "If-Match": '"1"'})
    assert response.json()["errors"][0]["code"] == "issuing_unit_is_fixed"


async def test_every_change_is_written_down_with_before_and_after(api: Api) -> None:
    officer, administrator = await api.account((Role.OFFICER, "11")), await api.person((Role.ADMINISTRATOR, "1"))
    headers = await api.token(officer)
    made = await create(api, headers)
    path = f"/api/v1/broadcasts/{made.json()['broadcast_id']}"
    body = await broadcast_body(api, "11", title="Bản tin chiều")
    await api.client.put(path, json=body, headers={**headers, "If-Match": '"1"'})
    await api.client.post(f"{path}/withdraw", headers=headers)
    entries = (await api.client.get("/api/v1/audit", headers=administrator)).json()
    about = [entry for entry in entries if entry["subject"].startswith("broadcast:")]
    assert [entry["action"] for entry in about] == ["broadcast_withdrawn", "broadcast_changed", "broadcast_created"]
    assert {entry["login"] for entry in about} == {officer.login}
    assert {entry["origin"] for entry in about} == {"203.0.113.7"}
    assert (about[1]["before"]["title"], about[1]["after"]["title"]) == ("Bản tin sáng", "Bản tin chiều")


# --- what policies are against -----------------------------------------------------------------------------------------


async def set_policy(api: Api, unit: str, **body: Any) -> None:
    await api.execute(
        """
        INSERT INTO control.policies (unit_id, body, changed_at, changed_by)
        SELECT $1, $2, $3, account_id FROM control.accounts LIMIT 1
        """,
        api.units[unit],
        body,
        api.clock.now,
    )


@pytest.mark.parametrize(
    ("policy", "changes", "field", "code"),
    [
        ({"quiet": [{"begin": "22:00", "end": "06:00"}]}, {}, "local_times", "against_quiet_hours"),
        (
            {"sessions": [{"code": "chieu", "begin": "17:00", "end": "18:00"}]},
            {},
            "local_times",
            "against_outside_session",
        ),
        ({"reserved": [{"begin": "05:00", "end": "06:00"}]}, {}, "local_times", "against_reserved_slot"),
        ({"weekdays": [1, 2]}, {}, "starts_on", "against_weekday_not_allowed"),  # the eleventh is a Wednesday
        ({"max_session_s": 20}, {}, "items", "against_session_too_long"),
        ({"max_day_s": 20}, {}, "items", "against_day_full"),
        ({"max_day_s": 50}, {"local_times": ["05:30", "17:00"]}, "items", "against_day_full"),
        ({"allows_direct_relays": False}, {"items": "direct"}, "items", "against_relay_not_allowed"),
    ],
)
async def test_what_a_policy_is_against_is_refused_by_rule_and_unit(
    api: Api, policy: dict[str, Any], changes: dict[str, Any], field: str, code: str
) -> None:
    officer = await api.person((Role.OFFICER, "11"))
    await set_policy(api, "1", **policy)  # the district's: it holds in the commune below
    if changes.get("items") == "direct":
        source = await add_source(api, "24", is_direct=True)
        changes = {"items": [{"relay_source_id": source, "length_s": 60}]}
    response = await create(api, officer, **changes)
    assert (response.status_code, response.json()["code"]) == (422, "broadcast_against_policy")
    (error,) = response.json()["errors"]
    assert (error["field"], error["code"]) == (field, code)
    assert "Huyện Bắc" in error["message"]
    assert await api.fetchval("SELECT count(*) FROM control.broadcasts") == 0


@pytest.mark.parametrize(
    ("policy", "changes", "first"),
    [
        # The last days of March and April are no Sunday, that of May is one.
        ({"weekdays": [1, 2, 3, 4, 5, 6]}, {"rrule": "FREQ=MONTHLY;BYMONTHDAY=-1"}, ["2026-05-31"]),
        # Half past seven here, until the clocks there are set to summer.
        (
            {"quiet": [{"begin": "06:00", "end": "06:45"}]},
            {"rrule": "FREQ=DAILY", "time_zone": "Europe/Berlin", "local_times": ["01:30"]},
            ["2026-03-30"],
        ),
        (
            {"quiet": [{"begin": "11:00", "end": "13:00"}]},
            {"rrule": "FREQ=DAILY", "rdates": ["2026-11-03T12:00"], "local_times": ["09:00"]},
            ["2026-11-03", "12:00"],
        ),
    ],
)
async def test_what_comes_against_a_policy_months_later_is_refused_with_its_first_day(
    api: Api, policy: dict[str, Any], changes: dict[str, Any], first: list[str]
) -> None:
    officer = await api.person((Role.OFFICER, "11"))
    await set_policy(api, "1", **policy)
    response = await create(api, officer, recurrence="rule", **changes)
    assert (response.status_code, response.json()["code"]) == (422, "broadcast_against_policy"), response.text
    (error,) = response.json()["errors"]
    assert all(each in error["message"] for each in [*first, "Huyện Bắc"])
    allowed = await create(api, officer, recurrence="rule", **{**changes, "rdates": [], "ends_on": first[0]})
    assert allowed.status_code == 201, allowed.text


async def test_other_broadcasts_use_up_the_minutes_of_a_day(api: Api) -> None:
    officer = await api.person((Role.OFFICER, "11"))
    await add_device(api, "11")
    await set_policy(api, "11", max_day_s=50)
    target = [{"unit_id": str(api.units["11"])}]
    first = await create(api, officer, targets=target)
    assert first.status_code == 201
    api.clock.forward(minutes=1)  # of two alike the earlier one comes first
    second = await create(api, officer, targets=target, local_times=["17:00"])
    assert [error["code"] for error in second.json()["errors"]] == ["against_day_full"]
    more_urgent = await create(api, officer, targets=target, local_times=["17:00"], level="priority")
    assert more_urgent.status_code == 201, more_urgent.text


async def test_where_an_approver_may_except_it_waits_and_is_not_planned(api: Api) -> None:
    officer = await api.person((Role.OFFICER, "11"))
    await set_policy(api, "11", quiet=[{"begin": "22:00", "end": "06:00"}], exceptions_by_approver=True)
    target = [await a_device(api, "11")]
    made = await create(api, officer, targets=target)
    assert (made.status_code, made.json()["state"]) == (201, "awaiting_approval")
    assert made.json()["exception"] == {"rules": ["quiet_hours"], "unit_ids": [str(api.units["11"])]}
    planner = a_planner(api.database, a_keyring())
    await planner.plan_once(now=api.clock.now)
    assert await api.fetchval("SELECT count(*) FROM control.emissions") == 0
    path = f"/api/v1/broadcasts/{made.json()['broadcast_id']}"

    # Put right, it needs nobody; and what was asked for about the first version holds for that one only.
    body = await broadcast_body(api, "11", targets=target, local_times=["06:30"])
    changed = await api.client.put(path, json=body, headers={**officer, "If-Match": '"1"'})
    assert (changed.json()["state"], changed.json()["exception"]) == ("scheduled", None)
    await planner.plan_once(now=api.clock.now)
    assert await api.fetchval("SELECT count(*) FROM control.emissions") == 1


async def test_a_level_that_needs_an_approver_waits_although_no_rule_is_broken(api: Api) -> None:
    officer = await api.person((Role.OFFICER, "11"))
    await set_policy(api, "1", approved_levels=["priority"])
    normal = await create(api, officer)
    priority = await create(api, officer, level="priority")
    assert [each.json()["state"] for each in (normal, priority)] == ["scheduled", "awaiting_approval"]
    assert priority.json()["exception"] == {"rules": ["approval_required"], "unit_ids": [str(api.units["1"])]}


async def test_a_change_takes_back_what_units_decided_about_an_offer(api: Api) -> None:
    officer = await api.person((Role.OFFICER, "24"))
    broadcast = await add_broadcast(api, "24", targets=[{"unit_id": str(api.units["11"])}, await a_device(api, "11")])
    offers = "SELECT string_agg(state, ' ' ORDER BY state) FROM control.offers"
    assert await api.fetchval(offers) == "offered"
    await api.execute("UPDATE control.offers SET state = 'accepted', decided_at = $1", api.clock.now)
    path = f"/api/v1/broadcasts/{broadcast['broadcast_id']}"
    body = await broadcast_body(api, "24", targets=[{"unit_id": str(api.units["11"])}], local_times=["06:00"])
    changed = await api.client.put(path, json=body, headers={**officer, "If-Match": '"1"'})
    assert changed.status_code == 200, changed.text
    assert await api.fetchval(offers) == "offered"


async def a_device(api: Api, unit: str) -> dict[str, Any]:
    return {"device_id": await add_device(api, unit)}


# --- proof -----------------------------------------------------------------------------------------------------------


async def emission(api: Api, broadcast: dict[str, Any], device_id: str, **values: Any) -> None:
    """An emission as the planner and the reconciler leave it behind."""
    starts_at = values.pop("starts_at", api.clock.now - timedelta(hours=1))
    columns = {
        "broadcast_id": broadcast["broadcast_id"],
        "occurrence_at": starts_at,
        "item": 0,
        "device_no": await api.fetchval("SELECT device_no FROM control.devices WHERE device_id = $1", device_id),
        "unit_id": await api.fetchval("SELECT unit_id FROM control.devices WHERE device_id = $1", device_id),
        "bulletin_id": broadcast["items"][0]["bulletin_id"],
        "content": "audio",
        "level": "normal",
        "issuer_depth": 2,
        "starts_at": starts_at,
        "ends_at": starts_at + timedelta(seconds=30),
        "latest_start_at": starts_at + timedelta(seconds=15),
        "fingerprint": b"",
        "planned_at": starts_at - timedelta(days=1),
        **values,
    }
    places = ", ".join(f"${number}" for number in range(1, len(columns) + 1))
    await api.execute(f"INSERT INTO control.emissions ({', '.join(columns)}) VALUES ({places})", *columns.values())


async def test_proof_lists_every_emission_with_outcome_reason_and_evidence(api: Api) -> None:
    viewer = await api.person((Role.VIEWER, "11"))
    broadcast = await add_broadcast(api, "11")
    device_ids = [await add_device(api, "11") for _ in range(5)]
    outcomes: list[dict[str, Any]] = [
        {"outcome": "played", "evidence": "device", "sounded_ms": 30_000},
        {"outcome": "missed", "reason": "media_missing"},
        {"outcome": "unknown", "reason": "offline"},
        {},
        {"outcome": "played", "evidence": "gateway"},
    ]
    for device_id, values in zip(device_ids, outcomes, strict=True):
        await emission(api, broadcast, device_id, **values)
    path = f"/api/v1/broadcasts/{broadcast['broadcast_id']}"
    proof = (await api.client.get(path, headers=viewer)).json()["proof"]
    assert {name: number for name, number in proof.items() if number} == {
        "planned": 5,
        "played": 1,
        "by_gateway": 1,
        "missed": 1,
        "unknown": 1,
        "overdue": 1,
        "unexplained": 2,
    }
    seen: list[Any] = []
    after = None
    while True:
        query = {"limit": "2", **({"after": after} if after else {})}
        page = (await api.client.get(f"{path}/emissions", params=query, headers=viewer)).json()
        seen += page["emissions"]
        after = page["more_after"]
        if after is None:
            break
    assert [each["device_id"] for each in seen] == device_ids
    assert [(each["outcome"], each["reason"], each["evidence"]) for each in seen] == [
        ("played", None, "device"),
        ("missed", "media_missing", None),
        ("unknown", "offline", None),
        (None, None, None),
        ("played", None, "gateway"),
    ]
    pending = await api.client.get(f"{path}/emissions", params={"outcome": "pending"}, headers=viewer)
    assert [each["device_id"] for each in pending.json()["emissions"]] == [device_ids[3]]
    totals = (await api.client.get("/api/v1/totals", headers=viewer)).json()
    assert (totals["emissions_planned"], totals["emissions_played"], totals["emissions_unexplained"]) == (5, 1, 2)
    assert totals["database"] in ("partitioned", "timescaledb")


@pytest.mark.parametrize("after", ["x", "1.2", "1.2.3.4", "-1.2.3", "9" * 18 + ".1.1", "1.99999999999.1", "1.1.999"])
async def test_a_place_that_is_none_is_refused(api: Api, after: str) -> None:
    viewer = await api.person((Role.VIEWER, "11"))
    broadcast = await add_broadcast(api, "11")
    response = await api.client.get(
        f"/api/v1/broadcasts/{broadcast['broadcast_id']}/emissions", params={"after": after}, headers=viewer
    )
    assert response.status_code in (200, 422)
    if response.status_code == 422:
        assert response.json()["errors"][0]["field"] == "after"


async def test_now_next_and_last_of_a_device_and_a_unit(api: Api) -> None:
    viewer = await api.person((Role.VIEWER, "1"))
    broadcast = await add_broadcast(api, "11")
    device_id = await add_device(api, "11")
    now = api.clock.now
    await emission(api, broadcast, device_id, outcome="played", evidence="device")
    await emission(api, broadcast, device_id, starts_at=now - timedelta(seconds=10))
    await emission(api, broadcast, device_id, starts_at=now + timedelta(hours=1))
    await emission(api, broadcast, device_id, starts_at=now + timedelta(hours=2), withdrawn_at=now)
    status = (await api.client.get(f"/api/v1/devices/{device_id}/status", headers=viewer)).json()
    assert status["status"]["liveness"] == "never"
    assert status["status"]["due"]["title"] == "Thông báo lịch tiêm chủng"
    assert status["status"]["next"]["starts_at"] == (now + timedelta(hours=1)).isoformat().replace("+00:00", "Z")
    assert status["status"]["last"]["outcome"] == "played"
    assert [len(status[name]) for name in ("coming", "past")] == [1, 2]
    unit = (await api.client.get(f"/api/v1/units/{api.units['1']}/status", headers=viewer)).json()
    assert [child["unit"]["code"] for child in unit["children"]] == ["12", "11"]
    assert unit["proof_today"]["planned"] == 3
    explained = await api.client.get(
        f"/api/v1/devices/{device_id}/explanation", params={"at": now.isoformat()}, headers=viewer
    )
    assert [each["broadcast_id"] for each in explained.json()["contenders"]] == [broadcast["broadcast_id"]]
    naive = await api.client.get(
        f"/api/v1/devices/{device_id}/explanation", params={"at": "2026-03-10T09:00:00"}, headers=viewer
    )
    assert naive.json()["errors"][0]["field"] == "at"


async def test_a_request_sent_again_under_its_key_is_carried_out_once(api: Api) -> None:
    officer, other = await api.person((Role.OFFICER, "11")), await api.person((Role.OFFICER, "11"))
    body = await broadcast_body(api, "11")

    async def send(headers: dict[str, str], key: str, **changes: Any) -> Any:
        return await api.client.post(
            "/api/v1/broadcasts", json={**body, **changes}, headers={**headers, "Idempotency-Key": key}
        )

    together = await asyncio.gather(*(send(officer, "sáng".encode().hex()) for _ in range(5)))
    assert {answer.status_code for answer in together} == {201}
    assert len({answer.text for answer in together}) == 1
    assert {answer.headers["etag"] for answer in together} == {'"1"'}
    assert sorted(answer.headers.get("idempotency-replayed", "") for answer in together) == ["", *["true"] * 4]
    assert await api.fetchval("SELECT count(*) FROM control.broadcasts") == 1

    changed = await send(officer, '"73c3a16e"', title="Khác")
    assert changed.status_code == 201, changed.text
    reused = await send(officer, "73c3a16e")
    assert (reused.status_code, reused.json()["code"]) == (422, "idempotency_key_reused")
    assert [error["field"] for error in reused.json()["errors"]] == ["Idempotency-Key"]
    assert (await send(other, "73c3a16e")).json()["title"] == "Bản tin sáng"
    assert await api.fetchval("SELECT count(*) FROM control.broadcasts") == 3


async def test_what_was_refused_may_be_sent_again_mended_under_the_same_key(api: Api) -> None:
    officer = await api.person((Role.OFFICER, "11"))
    body, headers = await broadcast_body(api, "11"), {**officer, "Idempotency-Key": "k"}
    path = "/api/v1/broadcasts"
    refused = await api.client.post(path, json={**body, "time_zone": "Asia/Nowhere"}, headers=headers)
    assert refused.status_code == 422
    tried = await api.client.post(path, json=body, params={"dry_run": True}, headers=headers)
    assert (tried.status_code, await api.fetchval("SELECT count(*) FROM control.idempotency_keys")) == (200, 0)
    assert (await api.client.post(path, json=body, headers=headers)).status_code == 201


async def test_a_key_is_kept_for_two_days_and_then_dropped(api: Api) -> None:
    officer = await api.person((Role.OFFICER, "11"))
    starts_on = (api.clock.now + timedelta(days=30)).date().isoformat()
    body, headers = await broadcast_body(api, "11", starts_on=starts_on), {**officer, "Idempotency-Key": "k"}
    first = await api.client.post("/api/v1/broadcasts", json=body, headers=headers)
    api.clock.forward(hours=47)
    again = await api.client.post("/api/v1/broadcasts", json=body, headers=headers)
    assert again.json()["broadcast_id"] == first.json()["broadcast_id"]
    api.clock.forward(hours=2)
    new = await api.client.post("/api/v1/broadcasts", json=body, headers={**headers, "Idempotency-Key": "other"})
    assert new.json()["broadcast_id"] != first.json()["broadcast_id"]
    assert await api.fetchval("SELECT array_agg(key) FROM control.idempotency_keys") == ["other"]


@pytest.mark.parametrize("key", ["", " ", "khóa", "x" * 201, "a\tb"])
async def test_a_key_that_is_none_is_refused(api: Api, key: str) -> None:
    officer = await api.person((Role.OFFICER, "11"))
    response = await api.client.post(
        "/api/v1/broadcasts",
        json=await broadcast_body(api, "11"),
        headers=[
            *((name.encode(), value.encode()) for name, value in officer.items()),
            (b"Idempotency-Key", key.encode()),
        ],
    )
    assert response.status_code == 422
    assert [error["field"] for error in response.json()["errors"]] == ["Idempotency-Key"]
    assert await api.fetchval("SELECT count(*) FROM control.broadcasts") == 0


async def test_a_page_goes_on_after_the_last_row_by_its_instant_and_id(api: Api) -> None:
    officer = await api.person((Role.OFFICER, "11"))
    made = sorted([(await create(api, officer)).json()["broadcast_id"] for _ in range(3)])
    at = api.clock.now.isoformat()
    ids = []
    for params in ({"before": at}, {"before": at, "before_id": made[0]}, {"before": at, "before_id": made[2]}):
        answer = await api.client.get("/api/v1/broadcasts", params=params, headers=officer)
        ids.append([each["broadcast_id"] for each in answer.json()])
    assert ids == [[], made[1:], []]


async def a_board_of_somebody(api: Api) -> str:
    return await add_device(api, "11", "board", ownership="private")


async def test_what_only_private_boards_without_an_order_would_show_is_refused(api: Api) -> None:
    officer = await api.person((Role.OFFICER, "11"), (Role.OPERATOR, "11"))
    device_id = await a_board_of_somebody(api)
    items = [{"bulletin_id": await add_bulletin(api, "11", duration_ms=None, board_text="Chữ")}]
    wanted = {"items": items, "targets": [{"device_id": device_id}]}
    refused = await create(api, officer, **wanted)
    assert (refused.status_code, refused.json()["code"]) == (422, "broadcast_against_policy")
    assert [(each["field"], each["code"]) for each in refused.json()["errors"]] == [
        ("targets", "against_private_board")
    ]
    assert await api.fetchval("SELECT count(*) FROM control.broadcasts") == 0
    order = {
        "device_id": device_id,
        "order_number": "12/QĐ-UBND",
        "issuer": "Chủ tịch UBND tỉnh",
        "valid_from": "2026-03-10T08:00:00+07:00",
        "expires_at": "2026-03-12T00:00:00+07:00",
    }
    assert (await api.client.post("/api/v1/requisitions", json=order, headers=officer)).status_code == 201
    accepted = await create(api, officer, **wanted)
    assert (accepted.status_code, accepted.json()["problems"]) == (201, [])
    after_it = await create(api, officer, **wanted, starts_on="2026-03-13")
    assert after_it.status_code == 422


async def test_what_is_offered_to_private_boards_without_an_order_is_refused_too(api: Api) -> None:
    province = await api.person((Role.OFFICER, "24"))
    device_id = await a_board_of_somebody(api)
    items = [{"bulletin_id": await add_bulletin(api, "24", duration_ms=None, board_text="Chữ")}]
    body = await broadcast_body(api, "24", items=items, targets=[{"device_id": device_id}])
    refused = await api.client.post("/api/v1/broadcasts", json=body, headers=province)
    assert [each["code"] for each in refused.json()["errors"]] == ["against_private_board"]


async def test_private_boards_among_others_are_named_as_a_problem(api: Api) -> None:
    officer = await api.person((Role.OFFICER, "11"))
    await a_board_of_somebody(api)
    public = await add_device(api, "11", "board")
    items = [{"bulletin_id": await add_bulletin(api, "11", duration_ms=None, board_text="Chữ")}]
    made = await create(api, officer, items=items, targets=[{"kind": "board"}])
    assert made.status_code == 201, public
    (problem,) = made.json()["problems"]
    assert (problem["problem"], problem["unit_id"], problem["occurrences"], problem["is_refusal"]) == (
        "private_board",
        str(api.units["11"]),
        1,
        True,
    )


async def test_limits_of_numbers_are_said_as_people_write_them(api: Api) -> None:
    officer = await api.person((Role.OFFICER, "11"))
    response = await create(
        api,
        {**officer, "Accept-Language": "en"},
        items=[{"pause_s": 0}, {"pause_s": 3_601}],
        patience_s=-1,
        level="loud",
    )
    assert {error["field"]: error["mend"] for error in response.json()["errors"]} == {
        "items[0].pause_s": "It must be > 0.",
        "items[1].pause_s": "It must be ≤ 3 600.",
        "patience_s": "It must be ≥ 0.",
        "level": "Choose one of: normal, priority, emergency.",
    }
