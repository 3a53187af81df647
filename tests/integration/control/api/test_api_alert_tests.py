"""Tests of alerts over the API: timetables, having one now, results, trend, and devices that fail."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest

from services.control.permissions import Role
from tests.support.control_api import Api, add_device, add_media

pytestmark = pytest.mark.integration

ALL_DAYS = [1, 2, 3, 4, 5, 6, 7]


def path(api: Api, unit: str, suffix: str = "") -> str:
    return f"/api/v1/units/{api.units[unit]}/alert-tests{suffix}"


async def put(api: Api, unit: str, body: dict[str, Any], *, version: str = "*", by: str = "24") -> Any:
    operator = await api.person((Role.OPERATOR, by))
    return await api.client.put(path(api, unit), json=body, headers={**operator, "If-Match": version})


async def a_policy(api: Api, unit: str, **body: Any) -> None:
    await api.execute(
        """
        INSERT INTO control.policies (unit_id, body, changed_at, changed_by)
        SELECT $1, $2, now(), account_id FROM control.accounts LIMIT 1
        """,
        api.units[unit],
        body,
    )


async def a_tone(api: Api) -> None:
    sound = bytes.fromhex(await add_media(api))
    await api.execute("INSERT INTO control.alert_tones (tone, media_sha256) VALUES ('test', $1)", sound)


async def a_result(api: Api, device_id: str, outcome: str, *, days_ago: int, reason: str = "no_answer") -> str:
    """A weighed test of the province in which this device came to something."""
    alert_id = uuid.uuid4()
    at = api.clock.now - timedelta(days=days_ago)
    await api.execute(
        """
        INSERT INTO control.alerts
               (alert_id, unit_id, purpose, status, state, version, event, headline, severity, origin, draft, unit_ids,
                first_issued_at, issued_at, valid_until, holds_until, ended_at, weighed_at)
        VALUES ($1, $2::uuid, 'silent_test', 'test', 'expired', 1, 'K', 'K', 'minor', 'schedule', $4, ARRAY[$2::uuid], $3, $3, $3, $3,
                $3, $3)
        """,
        alert_id,
        api.units["24"],
        at,
        {
            "unit_id": str(api.units["24"]),
            "purpose": "silent_test",
            "status": "test",
            "event": "K",
            "category": "other",
            "urgency": "unknown",
            "severity": "minor",
            "certainty": "unknown",
            "texts": [],
            "audience": {
                "areas": [{"units": [str(api.units["24"])], "polygons": [], "circles": []}],
                "devices": [],
                "except_units": [],
                "except_devices": [],
                "kinds": [],
                "ownerships": [],
            },
            "repeat_interval_s": None,
            "valid_until": at.isoformat(),
            "resume": "resume",
            "volume_percent": None,
            "template_id": None,
            "origin": "schedule",
            "cap": None,
            "references": [],
        },
    )
    await api.execute(
        """
        INSERT INTO control.alert_test_results (alert_id, device_no, unit_id, purpose, tested_at, outcome, reason)
        SELECT $1, device_no, unit_id, 'silent_test', $3, $4, $5 FROM control.devices WHERE device_id = $2
        """,
        alert_id,
        device_id,
        at,
        outcome,
        reason,
    )
    return str(alert_id)


async def test_without_anybody_s_word_there_is_a_silent_test_every_day(api: Api) -> None:
    viewer = await api.person((Role.VIEWER, "11"))

    answer = await api.client.get(path(api, "11"), headers=viewer)

    assert answer.status_code == 200, answer.text
    assert answer.headers["ETag"] == '"0"'
    view = answer.json()
    assert view["silent_in_force"] == {
        "unit": None,
        "on": True,
        "at": "10:00",
        "weekdays": ALL_DAYS,
        "template_id": None,
        "next_at": "2026-03-10T03:00:00Z",
    }
    assert (view["audible_in_force"]["on"], view["audible_in_force"]["next_at"]) == (False, None)


async def test_what_a_unit_says_holds_below_until_somebody_there_says_otherwise(api: Api) -> None:
    saved = await put(api, "1", {"silent": {"at": "09:30", "weekdays": [1, 3]}}, version='"0"')
    assert saved.status_code == 200, saved.text
    viewer = await api.person((Role.VIEWER, "24"))

    below = (await api.client.get(path(api, "11"), headers=viewer)).json()["silent_in_force"]
    beside = (await api.client.get(path(api, "2"), headers=viewer)).json()["silent_in_force"]

    assert (below["unit"]["code"], below["at"], below["next_at"]) == ("1", "09:30", "2026-03-11T02:30:00Z")
    assert beside["unit"] is None
    assert (await put(api, "11", {"silent": {"on": False}}, version='"0"')).status_code == 200
    now = (await api.client.get(path(api, "11"), headers=viewer)).json()["silent_in_force"]
    assert (now["unit"]["code"], now["on"], now["next_at"]) == ("11", False, None)
    back = await put(api, "11", {}, version='"1"')
    assert back.json()["silent_in_force"]["unit"]["code"] == "1"
    stale = await put(api, "11", {}, version='"1"')
    assert (stale.status_code, stale.json()["code"]) == (409, "version_mismatch")
    entries = await api.fetchval(
        """
        SELECT json_agg(json_build_array(unit_id, before->'silent', after->'silent') ORDER BY audit_id)
          FROM control.audit
         WHERE action = 'alert_timetable_set'
        """
    )
    first, off, again = [[unit, before, after] for unit, before, after in entries]
    assert (first[0], first[1], first[2]["at"]) == (str(api.units["1"]), None, "09:30:00")
    assert (off[0], off[1], off[2]["on"]) == (str(api.units["11"]), None, False)
    assert again == [str(api.units["11"]), off[2], None]


BAD: dict[str, tuple[dict[str, Any], str, str]] = {
    "no_time": ({"silent": {"at": "25:00"}}, "silent.at", "not_a_local_time"),
    "a_number": ({"silent": {"at": 36_000}}, "silent.at", "not_a_local_time"),
    "no_weekday": ({"silent": {"weekdays": []}}, "silent.weekdays", "too_few"),
    "eighth_day": ({"silent": {"weekdays": [8]}}, "silent.weekdays[0]", "number_too_large"),
    "yes": ({"silent": {"on": "yes"}}, "silent.on", "not_true_or_false"),
    "silent_has_no_words": ({"silent": {"template_id": str(uuid.uuid4())}}, "silent.template_id", "field_unknown"),
    "misspelt": ({"sielnt": {}}, "sielnt", "field_unknown"),
    "unknown_template": (
        {"audible": {"template_id": str(uuid.uuid4())}},
        "audible.template_id",
        "no_template_for_tests_here",
    ),
}


@pytest.mark.parametrize("case", list(BAD))
async def test_bad_timetables_name_the_field_and_change_nothing(api: Api, case: str) -> None:
    body, field, code = BAD[case]

    answer = await put(api, "1", body)

    assert answer.status_code == 422, answer.text
    assert (field, code) in {(each["field"], each["code"]) for each in answer.json()["errors"]}
    assert await api.fetchval("SELECT count(*) FROM control.alert_timetables") == 0


async def test_a_test_that_sounds_outside_the_allowed_hours_is_refused_when_it_is_saved(api: Api) -> None:
    await api.person((Role.OPERATOR, "24"))
    await a_policy(api, "24", quiet=[{"begin": "21:00", "end": "05:00"}])
    await a_policy(api, "1", sessions=[{"code": "sang", "begin": "06:00", "end": "08:00", "weekdays": [1, 2, 3]}])

    at_night = await put(api, "2", {"audible": {"at": "22:00"}})
    no_session = await put(api, "11", {"audible": {"at": "07:00", "weekdays": [3, 7]}})
    allowed = await put(api, "11", {"audible": {"at": "07:00", "weekdays": [3]}})
    # Off, it is nobody's business when it would be.
    off = await put(api, "2", {"audible": {"on": False, "at": "22:00"}})

    assert at_night.status_code == 422
    assert {(each["field"], each["code"]) for each in at_night.json()["errors"]} == {
        ("audible.at", "against_quiet_hours")
    }
    assert {each["code"] for each in no_session.json()["errors"]} == {"against_outside_session"}
    assert (allowed.status_code, off.status_code) == (200, 200)


async def test_a_test_now_is_on_its_way_and_one_that_sounds_keeps_to_the_hours(api: Api) -> None:
    operator = await api.person((Role.OPERATOR, "1"))
    await a_tone(api)

    silent = await api.client.post(path(api, "1"), json={}, headers=operator)
    audible = await api.client.post(path(api, "1"), json={"purpose": "audible_test"}, headers=operator)
    await a_policy(api, "12", quiet=[{"begin": "08:00", "end": "10:00"}])
    refused = await api.client.post(path(api, "1"), json={"purpose": "audible_test"}, headers=operator)
    elsewhere = await api.client.post(path(api, "2"), json={}, headers=operator)

    assert (silent.status_code, audible.status_code) == (201, 201), audible.text
    topics = await api.fetchval("SELECT count(*) FROM control.outbox WHERE kind = 'alert'")
    assert topics == 2
    assert refused.status_code == 422
    (fault,) = refused.json()["errors"]
    assert (fault["field"], fault["code"]) == ("purpose", "against_quiet_hours")
    assert "Xã An Lạc" in fault["message"]
    assert elsewhere.status_code == 403
    attempts = await api.fetchval(
        """
        SELECT json_agg(json_build_array(unit_id, after->>'purpose', after->>'code') ORDER BY audit_id)
          FROM control.audit
         WHERE action = 'alert_test_refused'
        """
    )
    # Who tries it on ground of others is refused before it is an attempt; that is told as a security event.
    assert attempts == [[str(api.units["1"]), "audible_test", "invalid_request"]]
    reach = await api.client.get(f"/api/v1/alerts/{silent.json()['alert_id']}/reach", headers=operator)
    assert reach.status_code == 200


async def test_an_alert_that_is_a_test_and_sounds_keeps_to_the_hours_as_well(api: Api) -> None:
    operator = await api.person((Role.OPERATOR, "1"))
    await a_policy(api, "24", quiet=[{"begin": "08:00", "end": "10:00"}])
    body = {
        "unit_id": str(api.units["1"]),
        "purpose": "audible_test",
        "event": "Kiểm tra",
        "texts": [{"headline": "Kiểm tra", "media_sha256": await add_media(api)}],
        "audience": {"areas": [{"units": [str(api.units["1"])]}]},
        "valid_until": (api.clock.now + timedelta(hours=1)).isoformat(),
    }

    answer = await api.client.post("/api/v1/alerts", json=body, headers=operator)

    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (422, "against_quiet_hours")
    assert await api.fetchval("SELECT count(*) FROM control.alerts") == 0


async def test_results_trend_and_who_fails_are_those_of_one_s_own_ground(api: Api) -> None:
    here, there = await add_device(api, "11"), await add_device(api, "21")
    for days_ago in (3, 2):
        await a_result(api, here, "failed", days_ago=days_ago)
        await a_result(api, there, "failed", days_ago=days_ago, reason="offline")
    last = await a_result(api, here, "passed", days_ago=1, reason="reached")
    worse = await a_result(api, there, "failed", days_ago=1, reason="offline")
    everywhere, north = await api.person((Role.VIEWER, "24")), await api.person((Role.VIEWER, "1"))

    failing = (await api.client.get("/api/v1/alert-tests/failing?language=en", headers=everywhere)).json()["devices"]
    of_north = (await api.client.get("/api/v1/alert-tests/failing", headers=north)).json()["devices"]
    trend = (await api.client.get(path(api, "1", "/trend"), headers=north)).json()
    device = (await api.client.get(f"/api/v1/devices/{here}/alert-tests", headers=north)).json()
    foreign = (await api.client.get(f"/api/v1/alerts/{worse}/test-results", headers=north)).json()
    of_all = (await api.client.get(f"/api/v1/alerts/{worse}/test-results?outcome=failed", headers=everywhere)).json()

    assert [(each["device_id"], each["failures"], each["reason"]) for each in failing] == [(there, 3, "offline")]
    assert "Check its power and its line." in failing[0]["what_to_do"]
    assert of_north == []
    assert [(each["passed"], each["failed"], each["share"]) for each in trend if each["devices"]] == [
        (1, 0, 1.0),
        (0, 1, 0.0),
        (0, 1, 0.0),
    ]
    assert [each["outcome"] for each in device] == ["passed", "failed", "failed"]
    assert device[0]["alert_id"] == last
    assert foreign["results"] == []
    assert [each["device_id"] for each in of_all["results"]] == [there]
