"""Which routes ask for a second factor: every route there is, sent by somebody who has one and has not shown it.

The table is generated from the routes, with the examples of the table of permissions: a route that is not listed here and
asks, or is listed and does not ask, fails; so does one that changes something and is forgotten.
"""

from __future__ import annotations

import pytest

from services.control.api.step_up import HEADER, Operation
from services.control.permissions import Role
from tests.integration.control.api.test_api_permissions import ENDPOINTS, EXAMPLES, OWN, Ask, ask
from tests.support.control_api import Api, add_device, add_offer, broadcast_body

pytestmark = pytest.mark.integration

ASKS = {
    "POST /api/v1/alerts": Operation.RELEASE_ALERT,
    "POST /api/v1/alerts/{alert_id}/update": Operation.RELEASE_ALERT,
    "POST /api/v1/alerts/{alert_id}/cancel": Operation.CANCEL_ALERT,
    "POST /api/v1/alerts/{alert_id}/stop": Operation.CANCEL_ALERT,
    "POST /api/v1/cap": Operation.RELEASE_ALERT,
    "POST /api/v1/silences": Operation.KILL_SWITCH,
    "POST /api/v1/silences/{alert_id}/release": Operation.END_SILENCE,
    "POST /api/v1/operation-requests/{request_id}/confirm": Operation.SECOND_PERSON,
    "POST /api/v1/proposals/{alert_id}/release": Operation.RELEASE_ALERT,
    "POST /api/v1/proposals/{alert_id}/refuse": Operation.CANCEL_ALERT,
    "PUT /api/v1/units/{unit_id}/cap-senders": Operation.SET_POLICY,
    "POST /api/v1/units/{unit_id}/cap-senders/remove": Operation.SET_POLICY,
    "POST /api/v1/sensor-rules/{sensor_rule_id}/authorisation": Operation.AUTHORISE_RELEASE,
    "POST /api/v1/sensor-rules/{sensor_rule_id}/authorisation/confirm": Operation.AUTHORISE_RELEASE,
    "POST /api/v1/relay-sources": Operation.LIVE,
    "PUT /api/v1/relay-sources/{relay_source_id}": Operation.LIVE,
    "POST /api/v1/relay-sources/{relay_source_id}/retire": Operation.LIVE,
    "PATCH /api/v1/devices/{device_id}": Operation.VOLUME,
    "POST /api/v1/units/{unit_id}/volume": Operation.VOLUME,
    "PUT /api/v1/units/{unit_id}/policy": Operation.SET_POLICY,
    "DELETE /api/v1/units/{unit_id}/policy": Operation.SET_POLICY,
    "POST /api/v1/devices/{device_id}/retire": Operation.RETIRE_DEVICE,
    "POST /api/v1/devices/{device_id}/move": Operation.MOVE_DEVICES,
    "PUT /api/v1/devices/{device_id}/gateway": Operation.MOVE_DEVICES,
    "POST /api/v1/units/import": Operation.MOVE_DEVICES,
    "POST /api/v1/units/reform": Operation.MOVE_DEVICES,
    "POST /api/v1/devices/{device_id}/claim": Operation.MANAGE_KEYS,
    "POST /api/v1/devices/claims": Operation.MANAGE_KEYS,
    "POST /api/v1/devices/{device_id}/certificate/revoke": Operation.MANAGE_KEYS,
    "POST /api/v1/accounts": Operation.MANAGE_ACCOUNTS,
    "POST /api/v1/accounts/{account_id}/grants": Operation.MANAGE_ACCOUNTS,
    "POST /api/v1/accounts/{account_id}/enable": Operation.MANAGE_ACCOUNTS,
    "DELETE /api/v1/accounts/{account_id}/second-factor": Operation.MANAGE_ACCOUNTS,
}
# What changes something and asks for a password only: it makes no sound and takes none away at once, gives nobody a right
# or a key, or only takes them away; a test by the calendar says that it is one and keeps to the hours. What is live in
# broadcasts asks too, below.
DOES_NOT_ASK = {
    "POST /api/v1/accounts/{account_id}/disable",
    "DELETE /api/v1/accounts/{account_id}/grants/{unit_id}/{role}",
    "DELETE /api/v1/accounts/{account_id}/sessions",
    "DELETE /api/v1/accounts/{account_id}/tokens/{token_id}",
    "POST /api/v1/devices",
    "POST /api/v1/devices/batch",
    "DELETE /api/v1/devices/{device_id}/claim",
    "POST /api/v1/media",
    "POST /api/v1/bulletins",
    "PUT /api/v1/bulletins/{bulletin_id}",
    "POST /api/v1/bulletins/{bulletin_id}/submit",
    "POST /api/v1/bulletins/{bulletin_id}/approve",
    "POST /api/v1/bulletins/{bulletin_id}/reject",
    "POST /api/v1/bulletins/{bulletin_id}/withdraw",
    "POST /api/v1/broadcasts",
    "PUT /api/v1/broadcasts/{broadcast_id}",
    "POST /api/v1/broadcasts/{broadcast_id}/withdraw",
    "POST /api/v1/broadcasts/{broadcast_id}/approve",
    "POST /api/v1/broadcasts/{broadcast_id}/reject",
    "POST /api/v1/groups",
    "PUT /api/v1/groups/{group_id}",
    "DELETE /api/v1/groups/{group_id}",
    "PUT /api/v1/units/{unit_id}/priority-order",
    "POST /api/v1/requisitions",
    "POST /api/v1/requisitions/{requisition_id}/revoke",
    "POST /api/v1/offers/{broadcast_id}/{unit_id}/accept",
    "POST /api/v1/offers/{broadcast_id}/{unit_id}/decline",
    "POST /api/v1/offers/{broadcast_id}/{unit_id}/schedule",
    "POST /api/v1/operation-requests/{request_id}/refuse",  # one does without what one asked for, or asks again
    "POST /api/v1/operation-requests/{request_id}/acknowledge",
    "PUT /api/v1/units/{unit_id}/alert-tests",
    "POST /api/v1/units/{unit_id}/alert-tests",
    "POST /api/v1/cap/deliveries",
    "POST /api/v1/sensor-rules",
    "POST /api/v1/sensor-rules/trial",
    "PUT /api/v1/sensor-rules/{sensor_rule_id}",
    "POST /api/v1/sensor-rules/{sensor_rule_id}/retire",
    "DELETE /api/v1/sensor-rules/{sensor_rule_id}/authorisation",
    "POST /api/v1/alert-templates",
    "PUT /api/v1/alert-templates/{template_id}",
    "POST /api/v1/alert-templates/{template_id}/retire",
    "POST /api/v1/quarantine/{quarantine_id}/corrections",
    "POST /api/v1/quarantine/replays",
    "POST /api/v1/quarantine/discards",
    "POST /quarantine/replay",
    "POST /quarantine/{quarantine_id}",
    "POST /quarantine/{quarantine_id}/correct",
    "POST /units/{unit_id}/inbox/{broadcast_id}",
    "POST /units/{unit_id}/order",
    "POST /units/{unit_id}/broadcasts/new",
    "POST /broadcasts/{broadcast_id}/edit",
    "POST /broadcasts/{broadcast_id}/withdraw",
    "POST /units/{unit_id}/sensor-rules/new",
    "POST /sensor-rules/{sensor_rule_id}/edit",
    "POST /sensor-rules/{sensor_rule_id}/retire",
    "POST /units/{unit_id}/alert-templates/new",
    "POST /alert-templates/{template_id}/edit",
    "POST /alert-templates/{template_id}/retire",
    "POST /approvals/bulletins/{bulletin_id}",
    "POST /approvals/broadcasts/{broadcast_id}",
}


# Forms that hand their code on to the functions above, and ask in their own words.
BY_FORM = {
    "POST /units/{unit_id}/cap-senders",
    "POST /units/{unit_id}/alert-tests",
    "POST /sensor-rules/{sensor_rule_id}/authorisation",
    "POST /alerts/new",
    "POST /alerts/silence",
    "POST /alerts/requests/{request_id}",
    "POST /alerts/proposals/{alert_id}",
    "POST /alerts/{alert_id}/change",
    "POST /alerts/{alert_id}/end",
    "POST /alerts/{alert_id}/release",
}


async def with_a_factor(api: Api) -> dict[str, str]:
    """A program of somebody who may do everything everywhere, has an app and shows no code of it."""
    account = await api.account(*((role, "24") for role in Role))
    await api.execute(
        "INSERT INTO control.second_factors (account_id, sealed, created_at, confirmed_at) VALUES ($1, $2, now(), now())",
        account.account_id,
        b"x",
    )
    return await api.token(account)


CHANGING = [endpoint for endpoint in ENDPOINTS if endpoint[0] not in ("GET", "HEAD") and " ".join(endpoint) not in OWN]
PARTS = 8  # of the table, each with a database of its own


def test_every_route_that_changes_something_says_whether_it_asks() -> None:
    assert {" ".join(endpoint) for endpoint in CHANGING} == ASKS.keys() | DOES_NOT_ASK | BY_FORM
    assert not ASKS.keys() & DOES_NOT_ASK


@pytest.mark.parametrize("part", range(PARTS))
async def test_what_is_listed_asks_and_nothing_else_does(api: Api, part: int) -> None:
    headers = await with_a_factor(api)
    wrong = []
    for method, path in CHANGING[part::PARTS]:
        name = f"{method} {path}"
        wanted: Ask = await EXAMPLES[method, path](api, "11")
        # Some examples come with a code of somebody else's: here nobody shows one.
        wanted.send.get("headers", {}).pop(HEADER, None)
        response = await ask(api, method, wanted, headers)
        is_problem = response.headers.get("content-type") == "application/problem+json"
        asked = response.json().get("operation") if is_problem else None
        if asked != ASKS.get(name):
            wrong.append(f"{name} asks for {asked}: {response.status_code} {response.text[:200]}")
    assert wrong == []


async def test_a_live_item_in_a_broadcast_asks_and_trying_it_out_does_not(api: Api) -> None:
    headers = await with_a_factor(api)
    operator = await api.person((Role.OPERATOR, "24"))
    source = {
        "unit_id": str(api.units["24"]),
        "name": "Đài tỉnh",
        "kind": "stream",
        "url": "https://stream.vov.example/vov1",
    }
    made = await api.client.post("/api/v1/relay-sources", json=source, headers=operator)
    live = {"relay_source_id": made.json()["relay_source_id"], "length_s": 300}
    body = await broadcast_body(api, "1", items=[live])
    asked = await api.client.post("/api/v1/broadcasts", json=body, headers=headers)
    assert (asked.status_code, asked.json()["operation"]) == (403, Operation.LIVE)
    tried = await api.client.post("/api/v1/broadcasts?dry_run=true", json=body, headers=headers)
    assert tried.status_code == 200, tried.text
    path = f"/api/v1/offers/{await add_offer(api, '11', items=[live])}/{api.units['11']}/schedule"
    times = {"starts_on": "2026-03-12", "local_times": ["17:30"]}
    taken_up = await api.client.post(path, json=times, headers=headers)
    assert (taken_up.status_code, taken_up.json()["operation"]) == (403, Operation.LIVE)
    tried = await api.client.post(f"{path}?dry_run=true", json=times, headers=headers)
    assert tried.status_code == 200, tried.text


async def test_other_settings_of_a_device_and_a_policy_tried_out_ask_for_nothing(api: Api) -> None:
    headers = await with_a_factor(api)
    path = f"/api/v1/devices/{await add_device(api, '11')}"
    assert (await api.client.patch(path, json={"name": "Cụm loa chợ"}, headers=headers)).status_code == 200
    place = {"latitude": 21.3, "longitude": 106.2}
    for change in (place, {"ownership": "private"}):
        asked = await api.client.patch(path, json=change, headers=headers)
        assert (asked.status_code, asked.json()["operation"]) == (403, Operation.MOVE_DEVICES)
    elsewhere = {"unit_id": str(api.units["12"])}
    tried = await api.client.post(f"{path}/move?dry_run=true", json=elsewhere, headers=headers)
    assert tried.status_code == 200, tried.text
    policy = f"/api/v1/units/{api.units['1']}/policy"
    etag = (await api.client.get(policy, headers=headers)).headers["etag"]
    tried = await api.client.put(
        f"{policy}?dry_run=true", json={"max_day_s": 60}, headers={**headers, "If-Match": etag}
    )
    assert tried.status_code == 200, tried.text
