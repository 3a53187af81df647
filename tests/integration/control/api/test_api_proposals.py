"""A proposed alert waits for a person with the right over its ground, who releases it, otherwise, or refuses it."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from schemas import signing
from schemas.alerts import Alert
from services.control.permissions import Role
from tests.support.control import verifier
from tests.support.control_api import Api, add_device, add_media
from tests.support.sensing import a_watcher, add_proposal, add_readings, watched

pytestmark = pytest.mark.integration


async def content(api: Api, unit: str) -> dict[str, Any]:
    return {
        "event": "Lũ quét",
        "texts": [{"headline": "Lũ quét, chạy lên cao ngay", "media_sha256": await add_media(api)}],
        "audience": {"areas": [{"units": [str(api.units[unit])]}]},
        "valid_until": (api.clock.now + timedelta(hours=2)).isoformat(),
    }


async def test_a_proposal_is_released_as_it_is_and_holds_from_then_on(api: Api) -> None:
    operator = await api.person((Role.OPERATOR, "11"))
    address = f"/api/v1/proposals/{await add_proposal(api, '11')}"
    api.clock.forward(minutes=10)
    read = await api.client.get(address, headers=operator)
    assert (read.status_code, read.headers["etag"], read.json()["waited_s"]) == (200, '"1"', 600.0)
    assert (await api.client.post(f"{address}/release", json={}, headers=operator)).status_code == 428

    released = await api.client.post(f"{address}/release", json={}, headers={**operator, "If-Match": '"1"'})
    assert released.status_code == 200, released.text
    alert = released.json()
    assert (alert["state"], alert["version"], alert["content"]["origin"]) == ("in_force", 1, "rule")
    assert datetime.fromisoformat(alert["valid_until"]) == api.clock.now + timedelta(seconds=1_800)
    assert datetime.fromisoformat(alert["first_issued_at"]) == api.clock.now
    payload = await api.fetchval("SELECT payload FROM control.outbox WHERE kind = 'alert'")
    told = signing.verify(Alert, payload, verifier(api.services.keyring))
    assert datetime.fromtimestamp(told.valid_until_ms / 1000, UTC) == datetime.fromisoformat(alert["valid_until"])

    again = await api.client.post(f"{address}/release", json={}, headers={**operator, "If-Match": '"2"'})
    assert (again.status_code, again.json()["code"]) == (409, "proposal_decided")
    audited = await api.fetchval(
        "SELECT array_agg(action ORDER BY audit_id) FROM control.audit WHERE subject = $1", f"alert:{alert['alert_id']}"
    )
    assert audited == [
        "alert_proposed",
        "proposal_release_refused",  # without a version
        "alert_issued",
        "proposal_release_refused",  # a second time
    ]
    ended = await api.client.post(f"/api/v1/alerts/{alert['alert_id']}/cancel", headers={**operator, "If-Match": "*"})
    assert ended.json()["state"] == "cancelled"


async def test_a_person_may_say_something_else_on_their_own_ground_only(api: Api) -> None:
    operator = await api.person((Role.OPERATOR, "11"))
    address = f"/api/v1/proposals/{await add_proposal(api, '11')}/release"
    headers = {**operator, "If-Match": '"1"'}
    elsewhere = await api.client.post(address, json={"content": await content(api, "12")}, headers=headers)
    assert (elsewhere.status_code, elsewhere.json()["code"]) == (403, "not_permitted_here")
    nothing = await content(api, "11") | {"valid_until": api.clock.now.isoformat()}
    over = await api.client.post(address, json={"content": nothing}, headers=headers)
    assert over.json()["errors"][0]["code"] == "alert_over_at_once"
    assert await api.fetchval("SELECT count(*) FROM control.outbox WHERE kind = 'alert'") == 0

    released = await api.client.post(address, json={"content": await content(api, "11")}, headers=headers)
    assert released.status_code == 200, released.text
    assert (released.json()["headline"], released.json()["content"]["origin"]) == ("Lũ quét, chạy lên cao ngay", "rule")


async def test_a_refusal_needs_a_reason_and_ends_it_for_this_alarm(api: Api) -> None:
    operator = await api.person((Role.OPERATOR, "11"))
    alert_id = await add_proposal(api, "11")
    address = f"/api/v1/proposals/{alert_id}/refuse"
    headers = {**operator, "If-Match": '"1"'}
    assert (await api.client.post(address, json={}, headers=headers)).status_code == 422
    assert (await api.client.post(address, json={"reason": " "}, headers=headers)).status_code == 422
    refused = await api.client.post(address, json={"reason": "Cảm biến kẹt rác"}, headers=headers)
    assert (refused.json()["outcome"], refused.json()["note"]) == ("refused", "Cảm biến kẹt rác")
    assert refused.json()["alert"]["state"] == "refused"

    sensor = await api.fetchval("SELECT device_id FROM control.devices WHERE kind = 'sensor'")
    api.clock.forward(hours=3)
    await add_readings(api, sensor, 5.0, 5.0, 5.0)
    await watched(api, a_watcher(api))
    assert await api.fetchval("SELECT count(*) FROM control.alert_proposals") == 1


async def test_what_nobody_decides_about_ends_and_is_proposed_again_while_the_alarm_lasts(api: Api) -> None:
    operator = await api.person((Role.OPERATOR, "11"))
    alert_id = await add_proposal(api, "11")
    sensor = await api.fetchval("SELECT device_id FROM control.devices WHERE kind = 'sensor'")
    api.clock.forward(hours=1)
    late = await api.client.post(
        f"/api/v1/proposals/{alert_id}/release", json={}, headers={**operator, "If-Match": '"1"'}
    )
    assert (late.status_code, late.json()["code"]) == (409, "proposal_decided")
    await add_readings(api, sensor, 5.0, 5.0, 5.0)
    await watched(api, a_watcher(api))
    await watched(api, a_watcher(api))
    viewer = await api.person((Role.VIEWER, "11"))
    found = (await api.client.get("/api/v1/proposals", params={"waiting": False}, headers=viewer)).json()
    assert sorted(str(each["outcome"]) for each in found) == ["None", "expired"]


async def test_of_two_decisions_at_once_one_holds(api: Api) -> None:
    one, two = await api.person((Role.OPERATOR, "11")), await api.person((Role.OPERATOR, "24"))
    address = f"/api/v1/proposals/{await add_proposal(api, '11')}"
    answers = await asyncio.gather(
        api.client.post(f"{address}/release", json={}, headers={**one, "If-Match": '"1"'}),
        api.client.post(f"{address}/refuse", json={"reason": "x"}, headers={**two, "If-Match": '"1"'}),
    )
    assert sorted(each.status_code for each in answers) == [200, 409]
    state = await api.fetchval("SELECT state FROM control.alerts")
    sent = await api.fetchval("SELECT count(*) FROM control.outbox WHERE kind = 'alert'")
    assert (state, sent) in [("in_force", 1), ("refused", 0)]


async def test_who_may_not_release_learns_nothing_and_is_on_record(api: Api) -> None:
    address = f"/api/v1/proposals/{await add_proposal(api, '11')}"
    beside = await api.person((Role.OPERATOR, "12"))
    assert (await api.client.get(address, headers=beside)).status_code == 404
    assert (await api.client.get("/api/v1/proposals", headers=beside)).json() == []
    for verb, body in (("release", {}), ("refuse", {"reason": "x"})):
        answer = await api.client.post(f"{address}/{verb}", json=body, headers={**beside, "If-Match": '"9"'})
        assert (answer.status_code, "present" in answer.json()) == (403, False)
    refused = await api.fetchval("SELECT count(*) FROM control.audit WHERE action LIKE 'proposal_%_refused'")
    assert refused == 2
    unknown = await api.client.post(
        f"/api/v1/proposals/{uuid.uuid4()}/release", json={}, headers={**beside, "If-Match": "*"}
    )
    assert unknown.json()["code"] == "proposal_not_found"


async def test_a_proposal_is_no_alert_that_could_be_changed_or_cancelled(api: Api) -> None:
    operator = await api.person((Role.OPERATOR, "24"))
    alert_id = await add_proposal(api, "11")
    headers = {**operator, "If-Match": "*"}
    for verb, body in (("cancel", None), ("update", await content(api, "11"))):
        answer = await api.client.post(f"/api/v1/alerts/{alert_id}/{verb}", json=body, headers=headers)
        assert answer.status_code == 409, answer.text
    assert (await api.client.get(f"/api/v1/alerts/{alert_id}/cap", headers=operator)).status_code == 404
    assert await api.fetchval("SELECT state FROM control.alerts") == "proposed"


async def test_above_a_size_a_second_person_confirms_or_refuses_what_the_first_released(api: Api) -> None:
    await add_device(api, "11")
    first, second = await api.person((Role.OPERATOR, "11")), await api.person((Role.OPERATOR, "11"))
    body = {"second_person_from": {"alerts": 1}}
    await api.execute(
        "INSERT INTO control.policies (unit_id, body, changed_at, changed_by) SELECT $1, $2, now(), account_id"
        " FROM control.accounts LIMIT 1",
        api.units["11"],
        body,
    )
    for verb, outcome, state in (("refuse", "refused", "refused"), ("confirm", "released", "in_force")):
        alert_id = await add_proposal(api, "11")
        address = f"/api/v1/proposals/{alert_id}"
        headers = {**first, "If-Match": '"1"'}
        waits = await api.client.post(f"{address}/release", json={}, headers=headers)
        assert waits.status_code == 202, waits.text
        assert await api.fetchval("SELECT count(*) FROM control.outbox WHERE kind = 'alert'") == 0
        again = await api.client.post(f"{address}/release", json={}, headers=headers)
        assert (again.status_code, again.json()["code"]) == (409, "proposal_decided")
        sent = {"digest": waits.json()["digest"]} if verb == "confirm" else {}
        path = f"/api/v1/operation-requests/{waits.json()['request_id']}/{verb}"
        decided = await api.client.post(path, json=sent, headers=second)
        assert decided.status_code == 200, decided.text
        found = (await api.client.get(address, headers=first)).json()
        assert (found["outcome"], found["alert"]["state"]) == (outcome, state)
