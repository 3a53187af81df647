"""Policies over HTTP: what a unit says, what holds with everybody's above, and that nobody loosens it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from services.control.permissions import Role
from tests.support.control_api import Api, a_policy, add_broadcast, add_bulletin, an_api
from tests.support.database import TestDatabase

pytestmark = pytest.mark.integration


def path_of(api: Api, unit: str) -> str:
    return f"/api/v1/units/{api.units[unit]}/policy"


async def put(api: Api, unit: str, body: dict[str, Any], *, if_match: str | None = "*", **params: Any) -> Any:
    headers = await api.person((Role.ADMINISTRATOR, unit))
    if if_match is not None:
        headers["If-Match"] = if_match
    return await api.client.put(path_of(api, unit), json=body, headers=headers, params=params)


async def read(api: Api, unit: str) -> dict[str, Any]:
    viewer = await api.person((Role.VIEWER, unit))
    response = await api.client.get(path_of(api, unit), headers=viewer)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    assert response.headers["etag"] == f'"{answer["version"]}"'
    return answer


def session(begin: str, end: str, **changes: Any) -> dict[str, Any]:
    return {"code": f"s{begin[:2]}", "name": "Khung", "begin": begin, "end": end, **changes}


async def test_where_nobody_says_anything_everything_may_sound(api: Api) -> None:
    view = await read(api, "11")
    assert (view["version"], view["changed_at"], view["own"]["sessions"]) == (0, None, [])
    effective = view["effective"]
    assert effective["open_hours"]["1"] == [{"begin": "00:00:00", "end": "00:00:00"}]
    assert (effective["max_day_s"], effective["fallback"], effective["quiet"]) == (None, None, [])
    assert effective["forbids_self_approval"] == {"value": True, "unit": None}  # the province's setting
    assert effective["allows_direct_relays"] == {"value": True, "unit": None}


async def test_each_limit_says_whose_it_is_and_the_strictest_decides(api: Api) -> None:
    await put(
        api,
        "24",
        {
            "sessions": [session("05:00", "08:00"), session("16:00", "19:00")],
            "quiet": [{"begin": "22:00", "end": "05:30"}],
            "max_day_s": 7_200,
            "max_session_s": 1_800,
            "allows_direct_relays": False,
        },
    )
    saved = await put(
        api,
        "11",
        {
            "sessions": [session("05:00", "07:00", weekdays=[1, 3])],
            "max_day_s": 3_600,
            "volume_caps": [{"begin": "05:00", "end": "06:00", "percent": 40}],
            "approved_levels": ["priority"],
            "exceptions_by_approver": True,
        },
    )
    assert saved.status_code == 200, saved.text
    effective = (await read(api, "11"))["effective"]
    assert {weekday: hours for weekday, hours in effective["open_hours"].items() if hours} == {
        "1": [{"begin": "05:30:00", "end": "07:00:00"}],
        "3": [{"begin": "05:30:00", "end": "07:00:00"}],
    }

    def by(limit: Any) -> tuple[Any, str]:
        return limit["value"], limit["unit"]["code"]

    assert by(effective["max_day_s"]) == (3_600, "11")
    assert by(effective["max_session_s"]) == (1_800, "24")
    assert by(effective["allows_direct_relays"]) == (False, "24")
    assert [by(each) for each in effective["approved_levels"]] == [("priority", "11")]
    assert [(each["unit"]["code"], each["code"]) for each in effective["sessions"]] == [
        ("24", "s05"),
        ("24", "s16"),
        ("11", "s05"),
    ]
    assert [each["code"] for each in effective["exceptions_by_approver"]] == ["11"]
    assert (await read(api, "12"))["effective"]["max_day_s"]["value"] == 7_200


async def test_a_slot_is_kept_from_the_units_below(api: Api) -> None:
    kept = {"begin": "17:00", "end": "17:30", "weekdays": [1, 2, 3, 4, 5]}
    await put(api, "1", {"reserved": [kept]})
    district, commune = [(await read(api, unit))["effective"] for unit in ("1", "11")]
    for effective in (district, commune):
        (slot,) = effective["reserved"]
        assert (slot["unit"]["code"], slot["begin"], slot["end"], slot["weekdays"]) == (
            "1",
            "17:00:00",
            "17:30:00",
            [1, 2, 3, 4, 5],
        )
    assert district["open_hours"]["1"] == commune["open_hours"]["6"] == [{"begin": "00:00:00", "end": "00:00:00"}]
    assert commune["open_hours"]["1"] == [
        {"begin": "00:00:00", "end": "17:00:00"},
        {"begin": "17:30:00", "end": "00:00:00"},
    ]


async def test_a_policy_is_audited_planned_anew_and_can_be_taken_back(api: Api) -> None:
    await put(api, "11", {"max_day_s": 600})
    await api.execute("DELETE FROM control.planning_requests")
    changed = await put(api, "11", {"max_day_s": 300}, if_match='"1"')
    assert (changed.json()["version"], changed.headers["etag"]) == (2, '"2"')
    assert await api.fetchval("SELECT count(*) FROM control.planning_requests WHERE broadcast_id IS NULL") == 1
    administrator = await api.person((Role.ADMINISTRATOR, "11"))
    gone = await api.client.delete(path_of(api, "11"), headers={**administrator, "If-Match": '"2"'})
    assert (gone.json()["version"], gone.json()["own"]["max_day_s"]) == (3, None)
    assert (await read(api, "11"))["effective"]["max_day_s"] is None
    async with api.database.connection() as connection:
        rows = await connection.fetch(
            "SELECT action, before, after FROM control.audit WHERE subject LIKE 'policy:%' ORDER BY audit_id"
        )
    assert [row["action"] for row in rows] == ["policy_set", "policy_set", "policy_removed"]
    assert rows[1]["before"] == {"version": 1, "policy": {"max_day_s": 600}}
    assert rows[2]["after"] == {"version": 3, "policy": {}}


async def test_a_dry_run_says_the_same_and_stores_nothing(api: Api) -> None:
    await put(api, "11", {"max_day_s": 3_600})
    await api.execute("DELETE FROM control.planning_requests")
    tried = (await put(api, "24", {"max_day_s": 600}, if_match='"0"', dry_run=True)).json()
    assert (tried["outlook"]["counts"], tried["outlook"]["units"]) == ({}, [])  # nothing is planned that it could touch
    assert await api.fetchval("SELECT count(*) FROM control.planning_requests") == 0
    assert await api.fetchval("SELECT count(*) FROM control.audit WHERE action LIKE 'policy%'") == 1
    assert (await read(api, "24"))["version"] == 0
    real = (await put(api, "24", {"max_day_s": 600}, if_match='"0"')).json()
    assert real.pop("changed_by") != tried.pop("changed_by")
    assert (real.pop("outlook"), tried.pop("outlook") is None) == (None, False)
    assert real == tried


async def test_a_dry_run_tells_what_would_sound_no_more_and_by_whose_rule(api: Api) -> None:
    broadcast = await add_broadcast(api, "11", recurrence="daily")
    tried = await put(api, "11", {"quiet": [{"begin": "21:00", "end": "06:00"}]}, if_match='"0"', dry_run=True)
    outlook = tried.json()["outlook"]
    (unit,) = outlook["units"]
    assert (unit["name"], unit["devices"], outlook["withdraw"] > 0, outlook["add"]) == ("Xã Đại Sơn", 1, True, 0)
    assert outlook["counts"] == {"refused": outlook["withdraw"]}
    (finding,) = outlook["findings"]
    assert (finding["problem"], finding["is_refusal"]) == ("quiet_hours", True)
    assert (finding["broadcast_id"], finding["unit_id"]) == (broadcast["broadcast_id"], str(api.units["11"]))
    assert (await read(api, "11"))["version"] == 0


async def test_a_unit_that_was_closed_says_nothing_any_more(api: Api) -> None:
    administrator = await api.person((Role.ADMINISTRATOR, "24"))
    await api.execute("UPDATE control.unit_versions SET valid_until = '2026-01-01' WHERE code = '11'")
    headers = {**administrator, "If-Match": "*"}
    response = await api.client.put(path_of(api, "11"), json={"max_day_s": 60}, headers=headers)
    assert (response.status_code, response.json()["code"]) == (404, "unit_not_found")


async def test_two_who_change_it_at_once_are_told_of_each_other(api: Api) -> None:
    missing = await put(api, "11", {"max_day_s": 1}, if_match=None)
    assert (missing.status_code, missing.json()["code"]) == (428, "version_required")
    answers = await asyncio.gather(*(put(api, "11", {"max_day_s": each}, if_match='"0"') for each in (600, 900)))
    (won,), (lost,) = ([each for each in answers if each.status_code == status] for status in (200, 409))
    assert lost.json()["present"]["own"]["max_day_s"] == won.json()["own"]["max_day_s"]
    assert lost.json()["given"]["max_day_s"] != won.json()["own"]["max_day_s"]


ABOVE = {
    "sessions": [session("05:00", "08:00")],
    "quiet": [{"begin": "21:00", "end": "05:00"}],
    "weekdays": [1, 2, 3, 4, 5],
    "max_session_s": 1_800,
    "max_day_s": 3_600,
    "volume_caps": [{"begin": "05:00", "end": "06:00", "percent": 50}],
    "forbids_self_approval": True,
    "approved_levels": ["priority"],
    "allows_direct_relays": False,
}


@pytest.mark.parametrize(
    ("body", "field", "limit"),
    [
        ({"sessions": [session("04:30", "06:00", weekdays=[1])]}, "sessions[0]", "05:00-08:00"),
        ({"sessions": [session("05:00", "06:00")]}, "sessions[0]", "1 2 3 4 5"),
        ({"quiet": [{"begin": "22:00", "end": "05:00"}]}, "quiet", "21:00-05:00"),
        ({"weekdays": [5, 6]}, "weekdays", "1 2 3 4 5"),
        ({"max_session_s": 1_801}, "max_session_s", "30"),
        ({"max_day_s": 7_200}, "max_day_s", "60"),
        ({"volume_caps": [{"begin": "05:00", "end": "05:30", "percent": 51}]}, "volume_caps[0]", "50"),
        ({"forbids_self_approval": False}, "forbids_self_approval", ""),
        ({"approved_levels": []}, "approved_levels", "priority"),
        ({"allows_direct_relays": True}, "allows_direct_relays", ""),
    ],
)
async def test_a_unit_may_tighten_and_not_loosen(api: Api, body: dict[str, Any], field: str, limit: str) -> None:
    assert (await put(api, "1", ABOVE)).status_code == 200
    response = await put(api, "11", body)
    assert (response.status_code, response.json()["code"]) == (422, "policy_invalid")
    *others, error = response.json()["errors"]  # root first: the province's setting is its word on approving one's own
    assert [each["field"] for each in others] == (["forbids_self_approval"] if "self" in field else [])
    assert (error["field"], error["code"]) == (field, "policy_loosens")
    assert "Huyện Bắc" in error["message"]
    assert limit in error["message"]
    assert (await read(api, "11"))["version"] == 0


async def test_the_province_s_setting_is_not_loosened_below_the_root(database: TestDatabase, tmp_path: Path) -> None:
    for setting, status in ((False, 422), (True, 200)):
        async with an_api(database, tmp_path, policy=a_policy(may_approve_own=setting)) as api:
            response = await put(api, "11", {"forbids_self_approval": False})
            assert response.status_code == status, response.text
            if status == 422:
                assert "Tỉnh Thử Nghiệm" in response.json()["errors"][0]["message"]
                assert (await put(api, "24", {"forbids_self_approval": False})).status_code == 200
                assert (await put(api, "11", {"forbids_self_approval": False})).status_code == 200
                await api.execute("DELETE FROM control.policies")


async def test_a_unit_above_that_tightens_later_is_told_who_states_something_looser(api: Api) -> None:
    for unit, body in (("11", {"max_day_s": 3_600, "weekdays": [1, 2]}), ("12", {"max_day_s": 600}), ("2", {})):
        assert (await put(api, unit, body)).status_code == 200
    saved = (await put(api, "1", {"max_day_s": 900, "weekdays": [1]})).json()
    assert saved["looser_below"] == 1
    assert [(each["unit"]["code"], each["fields"]) for each in saved["looser_units"]] == [
        ("11", ["weekdays", "max_day_s"])
    ]
    effective = (await read(api, "11"))["effective"]
    assert (effective["max_day_s"]["value"], effective["max_day_s"]["unit"]["code"]) == (900, "1")
    assert [hours for weekday, hours in effective["open_hours"].items() if hours and weekday != "1"] == []


@pytest.mark.parametrize(
    ("body", "field", "code"),
    [
        ({"sessions": [session("22:00", "05:00")]}, "sessions[0]", "policy_crosses_midnight"),
        ({"sessions": [session("05:00", "05:00")]}, "sessions[0]", "policy_is_empty"),
        (
            {"sessions": [session("05:00", "06:00"), session("07:00", "08:00", code="s05")]},
            "sessions[1]",
            "policy_code_twice",
        ),
        ({"sessions": [session("05:00", "07:00"), session("06:00", "08:00")]}, "sessions[1]", "policy_overlap"),
        ({"sessions": [session("05:00", "06:00", weekdays=[])]}, "sessions[0]", "policy_no_weekday"),
        ({"sessions": [session("5 giờ", "06:00", code="s")]}, "sessions[0].begin", "not_a_local_time"),
        ({"sessions": [session("05:00+07:00", "06:00")]}, "sessions[0].begin", "not_a_local_time"),
        ({"sessions": [{**session("05:00", "06:00"), "begin": 18_000}]}, "sessions[0].begin", "not_a_local_time"),
        ({"sessions": [session("05:00", "06:00", code="Sáng")]}, "sessions[0].code", "text_of_wrong_form"),
        ({"sessions": [session("05:00", "06:00", name="a\x1b")]}, "sessions[0].name", "text_of_wrong_form"),
        ({"sessions": [session("05:00", "06:00")] * 25}, "sessions", "too_many"),
        ({"sessions": [session("05:00", "06:00", weekdays=[0])]}, "sessions[0].weekdays[0]", "number_too_small"),
        ({"quiet": [{"begin": "05:00", "end": "05:00"}]}, "quiet[0]", "policy_is_empty"),
        ({"weekdays": []}, "weekdays", "policy_no_weekday"),
        ({"weekdays": [8]}, "weekdays[0]", "number_too_large"),
        ({"max_session_s": 0}, "max_session_s", "number_too_small"),
        ({"max_day_s": 86_401}, "max_day_s", "number_too_large"),
        ({"max_day_s": 1.5}, "max_day_s", "not_a_whole_number"),
        ({"max_day_s": True}, "max_day_s", "not_a_whole_number"),
        ({"accepts_normal": "yes"}, "accepts_normal", "not_true_or_false"),
        (
            {"volume_caps": [{"begin": "05:00", "end": "06:00", "percent": 0}]},
            "volume_caps[0].percent",
            "number_too_small",
        ),
        ({"approved_levels": ["emergency"]}, "approved_levels[0]", "not_one_of"),
        ({"fallback": {"bulletin_id": "UNKNOWN", "times": ["06:00"]}}, "fallback.bulletin_id", "unknown_bulletin"),
        ({"fallback": {"bulletin_id": "DRAFT", "times": ["06:00"]}}, "fallback.bulletin_id", "bulletin_not_approved"),
        ({"fallback": {"bulletin_id": "TEXT", "times": ["06:00"]}}, "fallback.bulletin_id", "fallback_without_sound"),
        ({"fallback": {"bulletin_id": "FAR", "times": ["06:00"]}}, "fallback.bulletin_id", "unknown_bulletin"),
        ({"fallback": {"bulletin_id": "GOOD", "times": []}}, "fallback.times", "too_few"),
        (
            {"fallback": {"bulletin_id": "GOOD", "times": ["23:00"]}, "quiet": [{"begin": "22:00", "end": "05:00"}]},
            "fallback",
            "policy_in_quiet_hours",
        ),
        ({"accepts_normal": "vâng"}, "accepts_normal", "not_true_or_false"),
        ({"colour": "red"}, "colour", "field_unknown"),
    ],
)
async def test_a_faulty_policy_is_named(api: Api, body: dict[str, Any], field: str, code: str) -> None:
    bulletins = {
        "UNKNOWN": "00000000-0000-4000-8000-000000000000",
        "DRAFT": await add_bulletin(api, "11", state="draft"),
        "TEXT": await add_bulletin(api, "11", duration_ms=None, board_text="Chữ"),
        "FAR": await add_bulletin(api, "21"),
        "GOOD": await add_bulletin(api, "11"),
    }
    if "fallback" in body:
        fallback = {**body["fallback"], "bulletin_id": bulletins[body["fallback"]["bulletin_id"]]}
        body = {**body, "fallback": fallback}
    response = await put(api, "11", body)
    assert response.status_code == 422, response.text
    assert [(error["field"], error["code"]) for error in response.json()["errors"]] == [(field, code)]
    assert (await read(api, "11"))["version"] == 0


async def test_a_unit_may_say_what_devices_sound_when_their_plan_has_run_out(api: Api) -> None:
    bulletin_id = await add_bulletin(api, "11")
    body = {"fallback": {"bulletin_id": bulletin_id, "times": ["06:00", "17:00"]}}
    assert (await put(api, "11", body)).status_code == 200
    fallback = (await read(api, "11"))["effective"]["fallback"]
    assert (fallback["bulletin_id"], fallback["unit"]["code"]) == (bulletin_id, "11")


async def test_a_policy_forbids_approving_one_s_own(database: TestDatabase, tmp_path: Path) -> None:
    async with an_api(database, tmp_path, policy=a_policy(may_approve_own=True)) as api:
        both = await api.person((Role.OFFICER, "1"), (Role.APPROVER, "1"))
        await put(api, "11", {"forbids_self_approval": True})
        for unit, status in (("11", 403), ("12", 200)):
            body = {
                "unit_id": str(api.units[unit]),
                "title": "Bản tin",
                "subject_field": "general",
                "board_text": "Chữ",
            }
            made = await api.client.post("/api/v1/bulletins", json=body, headers=both)
            response = await api.client.post(f"/api/v1/bulletins/{made.json()['bulletin_id']}/approve", headers=both)
            assert response.status_code == status
