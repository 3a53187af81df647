"""Rules on readings through the API, and what the watcher makes of them: alarms, blindness, proposals."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from schemas.readings import Quality
from services.control.metrics import ControlMetrics
from services.control.permissions import Role
from tests.support.control_api import Api, add_device
from tests.support.sensing import a_watcher, add_readings, add_rule, add_template, rule_body, watched

pytestmark = pytest.mark.integration


async def active(api: Api) -> list[dict[str, Any]]:
    viewer = await api.person((Role.VIEWER, "24"))
    found: list[dict[str, Any]] = (await api.client.get("/api/v1/sensor-alarms", headers=viewer)).json()
    return found


async def proposals(api: Api, **params: Any) -> list[dict[str, Any]]:
    viewer = await api.person((Role.VIEWER, "24"))
    found: list[dict[str, Any]] = (await api.client.get("/api/v1/proposals", params=params, headers=viewer)).json()
    return found


async def actions(api: Api, subject: str) -> list[str]:
    found: list[str] = await api.fetchval(
        "SELECT array_agg(action ORDER BY audit_id) FROM control.audit WHERE subject = $1", subject
    )
    return found


# --- rules -----------------------------------------------------------------------------------------------------------


async def test_a_rule_is_made_read_changed_and_retired_under_its_version(api: Api) -> None:
    operator = await api.person((Role.OPERATOR, "24"))
    sensor = await add_device(api, "11", "sensor")
    made = await api.client.post("/api/v1/sensor-rules", json=rule_body(api, "11", sensor), headers=operator)
    assert (made.status_code, made.headers["etag"]) == (201, '"1"'), made.text
    address = f"/api/v1/sensor-rules/{made.json()['sensor_rule_id']}"
    read = await api.client.get(address, headers=operator)
    assert (read.json()["unit"], read.json()["watched"], read.json()["alert_units"]) == (
        "m",
        [],
        [str(api.units["11"])],
    )

    wanted = rule_body(api, "11", sensor, raise_at=5.0)
    assert (await api.client.put(address, json=wanted, headers=operator)).status_code == 428
    changed = await api.client.put(address, json=wanted, headers={**operator, "If-Match": '"1"'})
    assert (changed.status_code, changed.json()["raise_at"], changed.json()["version"]) == (200, 5.0, 2)
    stale = await api.client.put(address, json=wanted, headers={**operator, "If-Match": '"1"'})
    assert (stale.status_code, stale.json()["present"]["raise_at"]) == (409, 5.0)

    moved = rule_body(api, "12", await add_device(api, "12", "sensor"))
    elsewhere = await api.client.put(address, json=moved, headers={**operator, "If-Match": '"2"'})
    assert elsewhere.json()["errors"][0]["code"] == "owning_unit_is_fixed"

    assert (await api.client.post(f"{address}/retire", headers=operator)).status_code == 200
    assert (await api.client.post(f"{address}/retire", headers=operator)).json()["code"] == "sensor_rule_retired"
    assert (await api.client.get("/api/v1/sensor-rules", headers=operator)).json() == []
    subject = f"sensor_rule:{made.json()['sensor_rule_id']}"
    assert await actions(api, subject) == ["sensor_rule_created", "sensor_rule_changed", "sensor_rule_retired"]


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"clear_at": 4.0}, "clear_at", "clear_not_below_raise"),
    ({"clear_at": 4.5}, "clear_at", "clear_not_below_raise"),
    ({"direction": "below"}, "clear_at", "clear_not_above_raise"),
    ({"raise_at": "4"}, "raise_at", "not_a_number"),
    ({"raise_at": 1e13}, "raise_at", "number_too_large"),
    ({"quantity": "river"}, "quantity", "not_one_of"),
    ({"template_id": str(uuid.UUID(int=5))}, "template_id", "unknown_alert_template"),
    ({"sensors": []}, "sensor_units", "rule_without_sensors"),
    ({"sensors": ["nobody-00001"]}, "sensors[0]", "unknown_device"),
    ({"sensor_units": [str(uuid.UUID(int=5))]}, "sensor_units[0]", "unknown_unit"),
    ({"quorum": 2}, "quorum", "quorum_never_met"),
    ({"quorum": 0}, "quorum", "number_too_small"),
    ({"hold_s": -1}, "hold_s", "number_too_small"),
    ({"silent_after_s": 1}, "silent_after_s", "number_too_small"),
    ({"severity": "bad"}, "severity", "not_one_of"),
    ({"unit_id": str(uuid.UUID(int=5))}, "unit_id", "unknown_unit"),
]


@pytest.mark.parametrize(("changes", "field", "code"), BAD, ids=[f"{field}-{code}" for _, field, code in BAD])
async def test_what_cannot_be_a_rule_is_refused_by_field(
    api: Api, changes: dict[str, Any], field: str, code: str
) -> None:
    operator = await api.person((Role.OPERATOR, "24"))
    sensor = await add_device(api, "11", "sensor")
    answer = await api.client.post(
        "/api/v1/sensor-rules", json=rule_body(api, "11", sensor) | changes, headers=operator
    )
    assert answer.status_code == 422, answer.text
    assert (field, code) in [(each["field"], each["code"]) for each in answer.json()["errors"]]
    assert await api.fetchval("SELECT count(*) FROM control.sensor_rules") == 0


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
async def test_what_is_no_number_is_no_threshold(api: Api, number: str) -> None:
    operator = await api.person((Role.OPERATOR, "24"))
    body = f'{{"unit_id": "{api.units["11"]}", "name": "x", "quantity": "water_level", "raise_at": {number}, "clear_at": 1}}'
    headers = {**operator, "Content-Type": "application/json"}
    answer = await api.client.post("/api/v1/sensor-rules", content=body.encode(), headers=headers)
    assert answer.status_code in (400, 422), answer.text
    assert await api.fetchval("SELECT count(*) FROM control.sensor_rules") == 0


async def test_a_rule_stays_on_its_own_ground(api: Api) -> None:
    operator = await api.person((Role.OPERATOR, "1"))
    beside, cluster = await add_device(api, "21", "sensor"), await add_device(api, "11")
    old = await add_device(api, "11", "sensor", device_id="old-sensor-1")
    await api.execute("UPDATE control.devices SET retired_at = now() WHERE device_id = $1", old)
    template = await add_template(api, "12")
    for changes, field, code in (
        ({"sensors": [beside]}, "sensors[0]", "outside_the_rules_unit"),
        ({"sensors": [cluster]}, "sensors[0]", "device_measures_nothing"),
        ({"sensors": [old]}, "sensors[0]", "device_retired"),
        ({"sensors": [], "sensor_units": [str(api.units["2"])]}, "sensor_units[0]", "outside_the_rules_unit"),
        ({"alert_units": [str(api.units["24"])]}, "alert_units[0]", "outside_the_rules_unit"),
        ({"template_id": template["template_id"]}, "template_id", "unknown_alert_template"),
    ):
        body = rule_body(api, "11", await add_device(api, "11", "sensor")) | changes
        answer = await api.client.post("/api/v1/sensor-rules", json=body, headers=operator)
        assert answer.status_code == 422, answer.text
        assert (field, code) == (answer.json()["errors"][0]["field"], answer.json()["errors"][0]["code"])


async def test_a_template_that_a_rule_proposes_stays_in_use(api: Api) -> None:
    operator = await api.person((Role.OPERATOR, "24"))
    template = await add_template(api, "11")
    rule = await add_rule(api, "11", template_id=template["template_id"])
    address = f"/api/v1/alert-templates/{template['template_id']}/retire"
    refused = await api.client.post(address, headers=operator)
    assert (refused.status_code, refused.json()["code"]) == (409, "alert_template_of_a_rule")
    await api.client.post(f"/api/v1/sensor-rules/{rule['sensor_rule_id']}/retire", headers=operator)
    assert (await api.client.post(address, headers=operator)).status_code == 200


# --- alarms ----------------------------------------------------------------------------------------------------------


async def test_a_rising_river_raises_one_alarm_and_proposes_one_alert(api: Api) -> None:
    sensor = await add_device(api, "11", "sensor")
    template = await add_template(api, "11")
    rule = await add_rule(api, "11", sensor=sensor, template_id=template["template_id"], severity="severe")
    registry = CollectorRegistry()
    watcher = a_watcher(api, ControlMetrics(registry))
    await add_readings(api, sensor, 3.0, 3.9, 4.0, 4.1)
    await watched(api, watcher)
    assert await active(api) == []
    api.clock.forward(minutes=1)
    await add_readings(api, sensor, 4.6)
    await watched(api, watcher)

    (alarm,) = await active(api)
    assert (alarm["kind"], alarm["sensor_rule_id"]) == ("sensor_threshold", rule["sensor_rule_id"])
    assert alarm["facts"]["sensors"][0] | {"at": None, "since": None} == {
        "device_id": sensor,
        "value": 4.6,
        "at": None,
        "since": None,
    }
    (proposal,) = await proposals(api)
    assert proposal["alert"]["alert_id"] == alarm["alert_id"]
    assert proposal["alert"]["state"] == "proposed"
    assert (proposal["origin"], proposal["reason"]["threshold"], proposal["reason"]["unit"]) == ("rule", 4.0, "m")
    content = proposal["alert"]["content"]
    assert (content["severity"], content["template_id"]) == ("severe", template["template_id"])
    assert content["audience"]["areas"][0]["units"] == [str(api.units["11"])]
    assert await api.fetchval("SELECT count(*) FROM control.outbox WHERE kind = 'alert'") == 0
    viewer = await api.person((Role.VIEWER, "24"))
    totals = (await api.client.get("/api/v1/totals", headers=viewer)).json()
    assert (totals["proposals_waiting"], totals["sensor_alarms"]) == (1, {"sensor_threshold": 1})
    assert registry.get_sample_value("control_alert_proposals_waiting", {"origin": "rule"}) == 1
    assert registry.get_sample_value("control_sensor_alarms", {"kind": "sensor_threshold"}) == 1

    api.clock.forward(minutes=3)
    await add_readings(api, sensor, 5.0, 5.0)
    await watched(api, watcher)
    assert len(await proposals(api, waiting=False)) == 1
    assert registry.get_sample_value("control_alert_proposals_overdue", {"origin": "rule"}) == 1
    assert registry.get_sample_value("control_raised_sensor_alarms_total", {"kind": "sensor_threshold"}) == 1

    api.clock.forward(minutes=4)
    await add_readings(api, sensor, 3.4, 3.4, 3.4)
    await watched(api, watcher)
    assert await active(api) == []
    (proposal,) = await proposals(api)
    assert proposal["reason_over_since"] is not None
    history = await actions(api, f"sensor_rule:{rule['sensor_rule_id']}")
    assert history == ["sensor_rule_created", "sensor_threshold_raised", "sensor_threshold_cleared"]


async def test_silence_raises_blindness_and_nothing_else(api: Api) -> None:
    sensor = await add_device(api, "11", "sensor")
    rule = await add_rule(api, "11", sensor=sensor)
    watcher = a_watcher(api)
    await add_readings(api, sensor, 4.5, 4.5)
    await watched(api, watcher)
    api.clock.forward(hours=2)
    await watched(api, watcher)
    (alarm,) = await active(api)
    assert (alarm["kind"], alarm["facts"]["sensors"][0]["device_id"]) == ("sensor_rule_blind", sensor)

    await add_readings(api, sensor, 4.5)
    await watched(api, watcher)
    assert await active(api) == []  # it speaks again; the hours without a word were no flood
    assert await actions(api, f"sensor_rule:{rule['sensor_rule_id']}") == [
        "sensor_rule_created",
        "sensor_rule_blind_raised",
        "sensor_rule_blind_cleared",
    ]


async def test_an_alarm_outlasts_silence(api: Api) -> None:
    sensor = await add_device(api, "11", "sensor")
    await add_rule(api, "11", sensor=sensor)
    watcher = a_watcher(api)
    await add_readings(api, sensor, 4.5, 4.5, 4.5)
    await watched(api, watcher)
    api.clock.forward(hours=5)
    await watched(api, watcher)
    assert {each["kind"] for each in await active(api)} == {"sensor_threshold", "sensor_rule_blind"}


async def test_what_a_sensor_calls_bad_is_no_reading(api: Api) -> None:
    sensor = await add_device(api, "11", "sensor")
    await add_rule(api, "11", sensor=sensor)
    await add_readings(api, sensor, 9.0, 9.0, 9.0, quality=Quality.BAD)
    await watched(api, a_watcher(api))
    assert await active(api) == []


async def test_a_rule_finds_the_sensors_below_its_units_that_give_the_quantity(api: Api) -> None:
    operator = await api.person((Role.OPERATOR, "24"))
    river, smoke, beside = [await add_device(api, unit, "sensor") for unit in ("11", "11", "21")]
    made = await api.client.post("/api/v1/sensor-rules", json=rule_body(api, "1"), headers=operator)
    address = f"/api/v1/sensor-rules/{made.json()['sensor_rule_id']}"
    for device in (river, beside):
        await add_readings(api, device, 4.5, 4.5, 4.5)
    await add_readings(api, smoke, 9.0, quantity="smoke_obscuration")
    await watched(api, a_watcher(api))
    view = (await api.client.get(address, headers=operator)).json()
    assert [(each["device_id"], each["is_raised"]) for each in view["watched"]] == [(river, True)]

    await api.execute("UPDATE control.devices SET retired_at = now() WHERE device_id = $1", river)
    api.clock.forward(minutes=2)
    await watched(api, a_watcher(api))
    assert (await api.client.get(address, headers=operator)).json()["watched"] == []


async def test_several_watchers_at_once_raise_one_alarm_and_one_proposal(api: Api) -> None:
    sensor = await add_device(api, "11", "sensor")
    template = await add_template(api, "11")
    await add_rule(api, "11", sensor=sensor, template_id=template["template_id"], cool_down_s=0)
    await add_readings(api, sensor, 4.5, 4.5, 4.5)
    watchers = [a_watcher(api) for _ in range(4)]
    for _ in range(3):
        await asyncio.gather(*(each.watch_once(now=api.clock.now) for each in watchers))
    assert len(await active(api)) == 1
    assert len(await proposals(api, waiting=False)) == 1


async def test_a_changed_rule_begins_anew_and_takes_back_what_it_proposed(api: Api) -> None:
    operator = await api.person((Role.OPERATOR, "24"))
    sensor = await add_device(api, "11", "sensor")
    template = await add_template(api, "11")
    rule = await add_rule(api, "11", sensor=sensor, template_id=template["template_id"])
    await add_readings(api, sensor, 4.5, 4.5, 4.5)
    await watched(api, a_watcher(api))
    (proposal,) = await proposals(api)
    wanted = rule_body(api, "11", sensor, template_id=template["template_id"], raise_at=6.0)
    changed = await api.client.put(
        f"/api/v1/sensor-rules/{rule['sensor_rule_id']}", json=wanted, headers={**operator, "If-Match": '"1"'}
    )
    assert changed.status_code == 200, changed.text
    await watched(api, a_watcher(api))
    assert await active(api) == []
    (ended,) = await proposals(api, waiting=False)
    assert (ended["outcome"], ended["alert"]["state"]) == ("withdrawn", "cancelled")
    assert ended["alert"]["alert_id"] == proposal["alert"]["alert_id"]


# --- trials ----------------------------------------------------------------------------------------------------------


async def test_a_rule_is_tried_on_the_past_and_nothing_is_stored(api: Api) -> None:
    operator = await api.person((Role.OPERATOR, "24"))
    sensor = await add_device(api, "11", "sensor")
    await add_readings(api, sensor, 1.0, 4.5, 4.5, 5.5, 3.0, 3.0, 3.0, 1.0)
    body = rule_body(api, "11", sensor, days=1)
    found = (await api.client.post("/api/v1/sensor-rules/trial", json=body, headers=operator)).json()
    assert (found["sensors"], found["readings"]) == ([sensor], 8)
    flood = next(each for each in found["episodes"] if each["kind"] == "sensor_threshold")
    assert (flood["peak"], flood["sensors"], flood["proposed_at"]) == (5.5, [sensor], None)
    assert flood["ended_at"] is not None
    assert await api.fetchval("SELECT count(*) FROM control.sensor_rules") == 0
    assert await active(api) == []

    bad = await api.client.post("/api/v1/sensor-rules/trial", json=body | {"days": 8}, headers=operator)
    assert bad.json()["errors"][0]["code"] == "number_too_large"
