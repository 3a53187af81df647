"""Who may do what where: every route there is, for every role, on the own unit, one below, one above and one beside.

The table is generated from the routes: a new route without an example here fails, so none is forgotten.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from fastapi.routing import APIRoute

from services.control.api.access import PUBLIC, Requirement, Scope
from services.control.api.app import routed
from services.control.permissions import Role
from tests.support.control_api import (
    PASSWORD,
    TREE,
    ZONE,
    Api,
    add_awaiting_broadcast,
    add_broadcast,
    add_bulletin,
    add_device,
    add_group,
    add_media,
    add_offer,
    broadcast_body,
    group_body,
)
from tests.support.quarantine import add_inmate
from tests.support.sensing import add_rule, lay_proposal, rule_body

pytestmark = pytest.mark.integration

ACTOR_UNIT = "1"
POSITIONS = {"own": "1", "child": "11", "parent": "24", "sibling": "2"}
INSIDE = {"own", "child"}


@dataclass(frozen=True)
class Ask:
    """A request that succeeds for whoever may make it."""

    path: str
    send: dict[str, Any] = field(default_factory=dict)
    status: int = 200


Example = Callable[[Api, str], Awaitable[Ask]]
EXAMPLES: dict[tuple[str, str], Example] = {}

SEEING = set(Role) - {Role.CAP_SOURCE}
# Which roles may do it: written down here once more, so that a permission declared by mistake is found.
MAY: dict[str, set[Role]] = {
    "GET /api/v1/units": SEEING,
    "GET /api/v1/units/tree": SEEING,
    "GET /api/v1/units/{unit_id}": SEEING,
    "GET /api/v1/units/{unit_id}/status": SEEING,
    "GET /api/v1/units/{unit_id}/proof-sheet": SEEING,
    "GET /api/v1/units/{unit_id}/proof-sheet/check": SEEING,
    "GET /api/v1/units/{unit_id}/lineage": SEEING,
    "GET /api/v1/units/{unit_id}/calendar.ics": SEEING,
    "GET /api/v1/devices/{device_id}/calendar.ics": SEEING,
    "POST /api/v1/units/import": set(),  # nobody whose unit is not the root
    "POST /api/v1/units/reform": set(),
    "GET /api/v1/accounts": {Role.ADMINISTRATOR},
    "POST /api/v1/accounts": {Role.ADMINISTRATOR},
    "GET /api/v1/accounts/{account_id}": {Role.ADMINISTRATOR},
    "POST /api/v1/accounts/{account_id}/disable": {Role.ADMINISTRATOR},
    "POST /api/v1/accounts/{account_id}/enable": {Role.ADMINISTRATOR},
    "DELETE /api/v1/accounts/{account_id}/second-factor": {Role.ADMINISTRATOR},
    "GET /api/v1/accounts/{account_id}/sessions": {Role.ADMINISTRATOR},
    "DELETE /api/v1/accounts/{account_id}/sessions": {Role.ADMINISTRATOR},
    "GET /api/v1/accounts/{account_id}/tokens": {Role.ADMINISTRATOR},
    "DELETE /api/v1/accounts/{account_id}/tokens/{token_id}": {Role.ADMINISTRATOR},
    "POST /api/v1/accounts/{account_id}/grants": {Role.ADMINISTRATOR},
    "DELETE /api/v1/accounts/{account_id}/grants/{unit_id}/{role}": {Role.ADMINISTRATOR},
    "GET /api/v1/devices": SEEING,
    "POST /api/v1/devices": {Role.ADMINISTRATOR},
    "POST /api/v1/devices/batch": {Role.ADMINISTRATOR},
    "GET /api/v1/devices/{device_id}": SEEING,
    "GET /api/v1/devices/{device_id}/status": SEEING,
    "GET /api/v1/devices/{device_id}/explanation": SEEING,
    "PATCH /api/v1/devices/{device_id}": {Role.OPERATOR, Role.ADMINISTRATOR},
    "POST /api/v1/devices/{device_id}/move": {Role.ADMINISTRATOR},
    "PUT /api/v1/devices/{device_id}/gateway": {Role.ADMINISTRATOR},
    "POST /api/v1/devices/{device_id}/retire": {Role.ADMINISTRATOR},
    "POST /api/v1/devices/{device_id}/claim": {Role.ADMINISTRATOR},
    "DELETE /api/v1/devices/{device_id}/claim": {Role.ADMINISTRATOR},
    "POST /api/v1/devices/claims": {Role.ADMINISTRATOR},
    "GET /api/v1/devices/{device_id}/certificates": SEEING,
    "POST /api/v1/devices/{device_id}/certificate/revoke": {Role.ADMINISTRATOR},
    "POST /api/v1/media": {Role.OFFICER},
    "GET /api/v1/media/{sha256}": SEEING,
    "GET /api/v1/subject-fields": SEEING,
    "GET /api/v1/bulletins": SEEING,
    "POST /api/v1/bulletins": {Role.OFFICER},
    "GET /api/v1/bulletins/{bulletin_id}": SEEING,
    "PUT /api/v1/bulletins/{bulletin_id}": {Role.OFFICER},
    "POST /api/v1/bulletins/{bulletin_id}/submit": {Role.OFFICER},
    "POST /api/v1/bulletins/{bulletin_id}/approve": {Role.APPROVER},
    "POST /api/v1/bulletins/{bulletin_id}/reject": {Role.APPROVER},
    "POST /api/v1/bulletins/{bulletin_id}/withdraw": {Role.OFFICER},
    "GET /api/v1/broadcasts": SEEING,
    "POST /api/v1/broadcasts": {Role.OFFICER},
    "GET /api/v1/broadcasts/{broadcast_id}": SEEING,
    "PUT /api/v1/broadcasts/{broadcast_id}": {Role.OFFICER},
    "POST /api/v1/broadcasts/{broadcast_id}/withdraw": {Role.OFFICER},
    "GET /api/v1/broadcasts/{broadcast_id}/proof": SEEING,
    "GET /api/v1/broadcasts/{broadcast_id}/emissions": SEEING,
    "GET /api/v1/groups": SEEING,
    "POST /api/v1/groups": {Role.OFFICER},
    "GET /api/v1/groups/{group_id}": SEEING,
    "PUT /api/v1/groups/{group_id}": {Role.OFFICER},
    "DELETE /api/v1/groups/{group_id}": {Role.OFFICER},
    "GET /api/v1/relay-sources": SEEING,
    "POST /api/v1/relay-sources": {Role.OPERATOR, Role.ADMINISTRATOR},
    "GET /api/v1/relay-sources/{relay_source_id}": SEEING,
    "PUT /api/v1/relay-sources/{relay_source_id}": {Role.OPERATOR, Role.ADMINISTRATOR},
    "POST /api/v1/relay-sources/{relay_source_id}/retire": {Role.OPERATOR, Role.ADMINISTRATOR},
    "GET /api/v1/units/{unit_id}/policy": SEEING,
    "GET /api/v1/units/{unit_id}/priority-order": SEEING,
    "PUT /api/v1/units/{unit_id}/priority-order": {Role.OFFICER},
    "GET /api/v1/requisitions": SEEING,
    "POST /api/v1/requisitions": {Role.OPERATOR, Role.ADMINISTRATOR},
    "POST /api/v1/requisitions/{requisition_id}/revoke": {Role.OPERATOR, Role.ADMINISTRATOR},
    "GET /api/v1/devices/{device_id}/public-share": SEEING,
    "GET /api/v1/offers": SEEING,
    "GET /api/v1/offers/counts": SEEING,
    "POST /api/v1/offers/{broadcast_id}/{unit_id}/accept": {Role.OFFICER},
    "POST /api/v1/offers/{broadcast_id}/{unit_id}/decline": {Role.OFFICER},
    "POST /api/v1/offers/{broadcast_id}/{unit_id}/schedule": {Role.OFFICER},
    "GET /api/v1/policy-exceptions": SEEING,
    "POST /api/v1/broadcasts/{broadcast_id}/approve": {Role.APPROVER},
    "POST /api/v1/broadcasts/{broadcast_id}/reject": {Role.APPROVER},
    "PUT /api/v1/units/{unit_id}/policy": {Role.ADMINISTRATOR},
    "DELETE /api/v1/units/{unit_id}/policy": {Role.ADMINISTRATOR},
    "GET /api/v1/alerts": SEEING,
    "POST /api/v1/alerts": {Role.OPERATOR},
    "GET /api/v1/alerts/{alert_id}": SEEING,
    "GET /api/v1/alerts/{alert_id}/cap": SEEING,
    "GET /api/v1/alerts/{alert_id}/reach": SEEING,
    "POST /api/v1/alerts/{alert_id}/update": {Role.OPERATOR},
    "POST /api/v1/alerts/{alert_id}/cancel": {Role.OPERATOR},
    "POST /api/v1/alerts/{alert_id}/stop": {Role.OPERATOR},
    "POST /api/v1/cap": {Role.OPERATOR},
    "POST /api/v1/silences": {Role.OPERATOR, Role.ADMINISTRATOR},
    "POST /api/v1/silences/{alert_id}/release": {Role.OPERATOR, Role.ADMINISTRATOR},
    "GET /api/v1/operation-requests": SEEING,
    "GET /api/v1/operation-requests/{request_id}": SEEING,
    # Of an alert; `test_api_second_person` has the others.
    "POST /api/v1/operation-requests/{request_id}/confirm": {Role.OPERATOR},
    "POST /api/v1/operation-requests/{request_id}/refuse": {Role.OPERATOR},
    "POST /api/v1/operation-requests/{request_id}/acknowledge": {Role.OPERATOR},
    "GET /api/v1/alert-templates": SEEING,
    "POST /api/v1/alert-templates": {Role.OPERATOR, Role.ADMINISTRATOR},
    "GET /api/v1/alert-templates/{template_id}": SEEING,
    "PUT /api/v1/alert-templates/{template_id}": {Role.OPERATOR, Role.ADMINISTRATOR},
    "POST /api/v1/alert-templates/{template_id}/retire": {Role.OPERATOR, Role.ADMINISTRATOR},
    "GET /api/v1/alert-tests/failing": SEEING,
    "GET /api/v1/cap/feed.atom": SEEING,
    "GET /api/v1/alerts/{alert_id}/test-results": SEEING,
    "GET /api/v1/devices/{device_id}/alert-tests": SEEING,
    "GET /api/v1/units/{unit_id}/alert-tests": SEEING,
    "GET /api/v1/units/{unit_id}/alert-tests/trend": SEEING,
    "PUT /api/v1/units/{unit_id}/alert-tests": {Role.OPERATOR},
    "POST /api/v1/units/{unit_id}/alert-tests": {Role.OPERATOR},
    "GET /api/v1/units/{unit_id}/cap-senders": SEEING,
    "PUT /api/v1/units/{unit_id}/cap-senders": {Role.ADMINISTRATOR},
    "POST /api/v1/units/{unit_id}/cap-senders/remove": {Role.ADMINISTRATOR},
    "POST /api/v1/cap/deliveries": {Role.CAP_SOURCE},
    "POST /api/v1/units/{unit_id}/volume": {Role.OPERATOR, Role.ADMINISTRATOR},
    "GET /api/v1/proposals": SEEING,
    "GET /api/v1/proposals/{alert_id}": SEEING,
    "POST /api/v1/proposals/{alert_id}/release": {Role.OPERATOR},
    "POST /api/v1/proposals/{alert_id}/refuse": {Role.OPERATOR},
    "GET /api/v1/sensor-rules": SEEING,
    "POST /api/v1/sensor-rules": {Role.OPERATOR, Role.ADMINISTRATOR},
    "POST /api/v1/sensor-rules/trial": {Role.OPERATOR, Role.ADMINISTRATOR},
    "GET /api/v1/sensor-rules/{sensor_rule_id}": SEEING,
    "PUT /api/v1/sensor-rules/{sensor_rule_id}": {Role.OPERATOR, Role.ADMINISTRATOR},
    "POST /api/v1/sensor-rules/{sensor_rule_id}/retire": {Role.OPERATOR, Role.ADMINISTRATOR},
    "POST /api/v1/sensor-rules/{sensor_rule_id}/authorisation": {Role.OPERATOR},
    "POST /api/v1/sensor-rules/{sensor_rule_id}/authorisation/confirm": {Role.OPERATOR},
    "DELETE /api/v1/sensor-rules/{sensor_rule_id}/authorisation": {Role.OPERATOR},
    "GET /api/v1/sensor-alarms": SEEING,
    "GET /api/v1/totals": SEEING,
    "GET /api/v1/audit": {Role.ADMINISTRATOR},
    # Nobody whose unit is not the root, as above; `test_api_quarantine` has who may in the root.
    "GET /api/v1/quarantine": set(),
    "GET /api/v1/quarantine/counts": set(),
    "GET /api/v1/quarantine/requests/{request_id}": set(),
    "GET /api/v1/quarantine/{quarantine_id}": set(),
    "POST /api/v1/quarantine/{quarantine_id}/corrections": set(),
    "POST /api/v1/quarantine/replays": set(),
    "POST /api/v1/quarantine/discards": set(),
    "GET /quarantine": set(),
    "POST /quarantine/replay": set(),
    "GET /quarantine/{quarantine_id}": set(),
    "POST /quarantine/{quarantine_id}": set(),
    "POST /quarantine/{quarantine_id}/correct": set(),
    "GET /units/{unit_id}": SEEING,
    "GET /units/{unit_id}/inbox": SEEING,
    "POST /units/{unit_id}/inbox/{broadcast_id}": {Role.OFFICER},
    "GET /units/{unit_id}/order": SEEING,
    "POST /units/{unit_id}/order": {Role.OFFICER},
    "GET /units/{unit_id}/policy": SEEING,
    "GET /units/{unit_id}/broadcasts/new": {Role.OFFICER},
    "POST /units/{unit_id}/broadcasts/new": {Role.OFFICER},
    "GET /broadcasts/{broadcast_id}/edit": {Role.OFFICER},
    "POST /broadcasts/{broadcast_id}/edit": {Role.OFFICER},
    "GET /broadcasts/{broadcast_id}/withdraw": {Role.OFFICER},
    "POST /broadcasts/{broadcast_id}/withdraw": {Role.OFFICER},
    "GET /alerts": SEEING,
    "GET /alerts/new": {Role.OPERATOR},
    "POST /alerts/new": {Role.OPERATOR},
    "GET /alerts/glass": {Role.OPERATOR, Role.ADMINISTRATOR},
    "GET /alerts/silence": {Role.OPERATOR, Role.ADMINISTRATOR},
    "POST /alerts/silence": {Role.OPERATOR, Role.ADMINISTRATOR},
    "GET /alerts/requests/{request_id}": SEEING,
    "POST /alerts/requests/{request_id}": {Role.OPERATOR},
    "GET /alerts/proposals": SEEING,
    "GET /alerts/proposals/{alert_id}": SEEING,
    "POST /alerts/proposals/{alert_id}": {Role.OPERATOR},
    "GET /alerts/{alert_id}": SEEING,
    "GET /alerts/{alert_id}/change": {Role.OPERATOR},
    "POST /alerts/{alert_id}/change": {Role.OPERATOR},
    "GET /alerts/{alert_id}/end": {Role.OPERATOR},
    "POST /alerts/{alert_id}/end": {Role.OPERATOR},
    "GET /alerts/{alert_id}/release": {Role.OPERATOR, Role.ADMINISTRATOR},
    "POST /alerts/{alert_id}/release": {Role.OPERATOR, Role.ADMINISTRATOR},
    "GET /units/{unit_id}/alert-tests": SEEING,
    "POST /units/{unit_id}/alert-tests": {Role.OPERATOR},
    "GET /alerts/{alert_id}/test-results": SEEING,
    "GET /devices/{device_id}/alert-tests": SEEING,
    "GET /units/{unit_id}/cap-senders": SEEING,
    "POST /units/{unit_id}/cap-senders": {Role.ADMINISTRATOR},
    "GET /units/{unit_id}/alert-templates": SEEING,
    "GET /units/{unit_id}/alert-templates/new": {Role.OPERATOR, Role.ADMINISTRATOR},
    "POST /units/{unit_id}/alert-templates/new": {Role.OPERATOR, Role.ADMINISTRATOR},
    "GET /alert-templates/{template_id}": SEEING,
    "GET /alert-templates/{template_id}/edit": {Role.OPERATOR, Role.ADMINISTRATOR},
    "POST /alert-templates/{template_id}/edit": {Role.OPERATOR, Role.ADMINISTRATOR},
    "POST /alert-templates/{template_id}/retire": {Role.OPERATOR, Role.ADMINISTRATOR},
    "GET /units/{unit_id}/sensor-rules": SEEING,
    "GET /units/{unit_id}/sensor-rules/new": {Role.OPERATOR, Role.ADMINISTRATOR},
    "POST /units/{unit_id}/sensor-rules/new": {Role.OPERATOR, Role.ADMINISTRATOR},
    "GET /sensor-rules/{sensor_rule_id}": SEEING,
    "GET /sensor-rules/{sensor_rule_id}/edit": {Role.OPERATOR, Role.ADMINISTRATOR},
    "POST /sensor-rules/{sensor_rule_id}/edit": {Role.OPERATOR, Role.ADMINISTRATOR},
    "POST /sensor-rules/{sensor_rule_id}/retire": {Role.OPERATOR, Role.ADMINISTRATOR},
    "POST /sensor-rules/{sensor_rule_id}/authorisation": {Role.OPERATOR},
    "GET /approvals": SEEING,
    "POST /approvals/bulletins/{bulletin_id}": {Role.APPROVER},
    "POST /approvals/broadcasts/{broadcast_id}": {Role.APPROVER},
    "GET /devices/{device_id}": SEEING,
    "GET /devices/{device_id}/why": SEEING,
    "GET /broadcasts/{broadcast_id}": SEEING,
}
# One's own, lists that are cut to what one may see, and what is no secret among those who work here.
EVERYWHERE = {
    "GET /api/v1/units",
    "GET /api/v1/units/tree",
    "GET /api/v1/units/{unit_id}",
    "GET /api/v1/units/{unit_id}/lineage",
    "GET /api/v1/accounts",
    "GET /api/v1/devices",
    "GET /api/v1/media/{sha256}",
    "GET /api/v1/subject-fields",
    "GET /api/v1/bulletins",
    "GET /api/v1/broadcasts",
    "GET /api/v1/groups",
    "GET /api/v1/relay-sources",
    "GET /api/v1/relay-sources/{relay_source_id}",
    "GET /api/v1/requisitions",
    "GET /api/v1/offers",
    "GET /api/v1/offers/counts",
    "GET /api/v1/policy-exceptions",
    "GET /api/v1/alerts",
    "GET /api/v1/operation-requests",
    "GET /api/v1/alert-templates",
    "GET /api/v1/alert-templates/{template_id}",
    "GET /alert-templates/{template_id}",
    "GET /api/v1/alert-tests/failing",
    "GET /api/v1/proposals",
    "GET /api/v1/sensor-rules",
    "GET /api/v1/sensor-alarms",
    "GET /api/v1/cap/feed.atom",
    "GET /api/v1/totals",
    "GET /api/v1/audit",
    "GET /approvals",
    "GET /alerts",
    "GET /alerts/proposals",
    "GET /alerts/new",
    "GET /alerts/silence",
    "GET /alerts/glass",
}
# What sounds on one's ground is seen, also when it comes from above; what sounds elsewhere is as if it were not there.
WHERE_IT_SOUNDS = {
    "GET /api/v1/alerts/{alert_id}",
    "GET /api/v1/alerts/{alert_id}/cap",
    "GET /api/v1/alerts/{alert_id}/reach",
    "GET /api/v1/proposals/{alert_id}",
    "GET /api/v1/alerts/{alert_id}/test-results",
    "GET /api/v1/operation-requests/{request_id}",
    "GET /alerts/requests/{request_id}",
    "GET /alerts/{alert_id}",
    "GET /alerts/proposals/{alert_id}",
    "GET /alerts/{alert_id}/test-results",
}
# Who may do it somewhere and tries it elsewhere is on record as well (S-08).
REFUSALS_ON_RECORD = {
    "POST /alerts/new",
    "POST /alerts/silence",
    "POST /alerts/requests/{request_id}",
    "POST /alerts/{alert_id}/change",
    "POST /alerts/{alert_id}/end",
    "POST /alerts/{alert_id}/release",
    "POST /alerts/proposals/{alert_id}",
    "POST /api/v1/alerts",
    "POST /api/v1/alerts/{alert_id}/update",
    "POST /api/v1/alerts/{alert_id}/cancel",
    "POST /api/v1/alerts/{alert_id}/stop",
    "POST /api/v1/cap",
    "POST /api/v1/silences",
    "POST /api/v1/silences/{alert_id}/release",
    "POST /api/v1/operation-requests/{request_id}/confirm",
    "POST /api/v1/operation-requests/{request_id}/refuse",
    "POST /api/v1/operation-requests/{request_id}/acknowledge",
    "POST /api/v1/proposals/{alert_id}/release",
    "POST /api/v1/proposals/{alert_id}/refuse",
    "POST /api/v1/cap/deliveries",
}
# A trial stores nothing, what is not there cannot be ended, and exercises are read and left.
CHANGES_NOTHING = {
    "POST /api/v1/cap/deliveries",
    "POST /api/v1/sensor-rules/trial",
    "DELETE /api/v1/sensor-rules/{sensor_rule_id}/authorisation",
}
OWN = {
    "GET /api/v1/sessions",
    "DELETE /api/v1/sessions",
    "DELETE /api/v1/sessions/current",
    "DELETE /api/v1/sessions/{session_id}",
    "GET /api/v1/account",
    "PUT /api/v1/account/password",
    "GET /api/v1/account/second-factor",
    "POST /api/v1/account/second-factor",
    "POST /api/v1/account/second-factor/confirm",
    "POST /api/v1/account/second-factor/remove",
    "POST /api/v1/sessions/current/second-factor",
    "GET /api/v1/tokens",
    "POST /api/v1/tokens",
    "DELETE /api/v1/tokens/{token_id}",
    "POST /logout",
    "GET /",
    "GET /account",
    "POST /account/password",
    "POST /account/second-factor",
    "POST /account/second-factor/confirm",
    "POST /account/second-factor/remove",
    "POST /account/sessions/{session_id}/end",
    "POST /account/tokens",
    "POST /account/tokens/{token_id}/end",
}


def example(method: str, path: str) -> Callable[[Example], Example]:
    def note(make: Example) -> Example:
        EXAMPLES[(method, path)] = make
        return make

    return note


def fixed(method: str, path: str, *, status: int = 200, **send: Any) -> None:
    """An example that does not depend on a unit."""

    async def make(api: Api, unit: str) -> Ask:
        return Ask(path, send, status)

    EXAMPLES[(method, path)] = make


# --- one's own -------------------------------------------------------------------------------------------------------

fixed("GET", "/api/v1/sessions")
fixed("DELETE", "/api/v1/sessions")
fixed("DELETE", "/api/v1/sessions/current", status=409)  # a token has no session
fixed("GET", "/api/v1/account")
fixed(
    "PUT", "/api/v1/account/password", json={"old_password": "wrong", "new_password": "mot mat khau khac"}, status=401
)
fixed("GET", "/api/v1/account/second-factor")
fixed("POST", "/api/v1/account/second-factor", json={"password": PASSWORD}, status=409)  # a program enrols none
for asked in ("account/second-factor/confirm", "account/second-factor/remove", "sessions/current/second-factor"):
    fixed("POST", f"/api/v1/{asked}", json={"code": "000000"}, status=409)
fixed("GET", "/api/v1/tokens")
fixed("POST", "/api/v1/tokens", json={"name": "x"}, status=201)
fixed("POST", "/logout", status=409)
fixed("GET", "/", status=303)


@example("DELETE", "/api/v1/sessions/{session_id}")
async def _(api: Api, unit: str) -> Ask:
    return Ask("/api/v1/sessions/00000000-0000-4000-8000-000000000000", status=404)


@example("DELETE", "/api/v1/tokens/{token_id}")
async def _(api: Api, unit: str) -> Ask:
    return Ask("/api/v1/tokens/00000000-0000-4000-8000-000000000000", status=404)


# --- lists -----------------------------------------------------------------------------------------------------------

for listed in (
    "accounts",
    "units",
    "units/tree",
    "devices",
    "subject-fields",
    "bulletins",
    "broadcasts",
    "groups",
    "relay-sources",
    "requisitions",
    "offers",
    "offers/counts",
    "policy-exceptions",
    "alerts",
    "operation-requests",
    "alert-templates",
    "proposals",
    "sensor-rules",
    "sensor-alarms",
    "totals",
    "audit",
):
    fixed("GET", f"/api/v1/{listed}")


# --- accounts --------------------------------------------------------------------------------------------------------


@example("POST", "/api/v1/accounts")
async def _(api: Api, unit: str) -> Ask:
    number = await api.fetchval("SELECT count(*) FROM control.accounts")
    body = {
        "login": f"moi-{number}",
        "display_name": "Người mới",
        "unit_id": str(api.units[unit]),
        "password": "mot mat khau rat dai",
        "grants": [{"unit_id": str(api.units[unit]), "role": "officer"}],
    }
    return Ask("/api/v1/accounts", {"json": body}, 201)


async def _account_path(api: Api, unit: str, suffix: str = "") -> str:
    account = await api.account((Role.VIEWER, unit))
    return f"/api/v1/accounts/{account.account_id}{suffix}"


@example("GET", "/api/v1/accounts/{account_id}")
async def _(api: Api, unit: str) -> Ask:
    return Ask(await _account_path(api, unit))


@example("POST", "/api/v1/accounts/{account_id}/disable")
async def _(api: Api, unit: str) -> Ask:
    return Ask(await _account_path(api, unit, "/disable"))


@example("POST", "/api/v1/accounts/{account_id}/enable")
async def _(api: Api, unit: str) -> Ask:
    return Ask(await _account_path(api, unit, "/enable"))


@example("DELETE", "/api/v1/accounts/{account_id}/second-factor")
async def _(api: Api, unit: str) -> Ask:
    return Ask(await _account_path(api, unit, "/second-factor"), status=409)  # has none


@example("GET", "/api/v1/accounts/{account_id}/sessions")
async def _(api: Api, unit: str) -> Ask:
    return Ask(await _account_path(api, unit, "/sessions"))


@example("DELETE", "/api/v1/accounts/{account_id}/sessions")
async def _(api: Api, unit: str) -> Ask:
    return Ask(await _account_path(api, unit, "/sessions"))


@example("GET", "/api/v1/accounts/{account_id}/tokens")
async def _(api: Api, unit: str) -> Ask:
    return Ask(await _account_path(api, unit, "/tokens"))


@example("DELETE", "/api/v1/accounts/{account_id}/tokens/{token_id}")
async def _(api: Api, unit: str) -> Ask:
    account = await api.account((Role.VIEWER, unit))
    await api.token(account)
    token_id = await api.fetchval("SELECT token_id FROM control.api_tokens WHERE account_id = $1", account.account_id)
    return Ask(f"/api/v1/accounts/{account.account_id}/tokens/{token_id}", status=204)


@example("POST", "/api/v1/accounts/{account_id}/grants")
async def _(api: Api, unit: str) -> Ask:
    path = await _account_path(api, unit, "/grants")
    return Ask(path, {"json": {"unit_id": str(api.units[unit]), "role": "officer"}})


@example("DELETE", "/api/v1/accounts/{account_id}/grants/{unit_id}/{role}")
async def _(api: Api, unit: str) -> Ask:
    return Ask(await _account_path(api, unit, f"/grants/{api.units[unit]}/viewer"))


# --- units -----------------------------------------------------------------------------------------------------------


@example("GET", "/api/v1/units/{unit_id}")
async def _(api: Api, unit: str) -> Ask:
    return Ask(f"/api/v1/units/{api.units[unit]}")


@example("GET", "/api/v1/units/{unit_id}/status")
async def _(api: Api, unit: str) -> Ask:
    return Ask(f"/api/v1/units/{api.units[unit]}/status")


@example("GET", "/api/v1/units/{unit_id}/proof-sheet")
async def _(api: Api, unit: str) -> Ask:
    return Ask(f"/api/v1/units/{api.units[unit]}/proof-sheet", {"params": {"month": "2026-03", "format": "csv"}})


@example("GET", "/api/v1/units/{unit_id}/proof-sheet/check")
async def _(api: Api, unit: str) -> Ask:
    return Ask(
        f"/api/v1/units/{api.units[unit]}/proof-sheet/check", {"params": {"month": "2026-03", "digest": "0" * 64}}
    )


@example("GET", "/api/v1/units/{unit_id}/lineage")
async def _(api: Api, unit: str) -> Ask:
    return Ask(f"/api/v1/units/{api.units[unit]}/lineage")


@example("GET", "/api/v1/units/{unit_id}/calendar.ics")
async def _(api: Api, unit: str) -> Ask:
    return Ask(f"/api/v1/units/{api.units[unit]}/calendar.ics")


@example("GET", "/api/v1/devices/{device_id}/calendar.ics")
async def _(api: Api, unit: str) -> Ask:
    return Ask(f"/api/v1/devices/{await add_device(api, unit)}/calendar.ics")


@example("POST", "/api/v1/units/import")
async def _(api: Api, unit: str) -> Ask:
    send = {"params": {"valid_from": "2020-01-01"}, "content": TREE, "headers": {"Content-Type": "text/csv"}}
    return Ask("/api/v1/units/import", send)


@example("POST", "/api/v1/units/reform")
async def _(api: Api, unit: str) -> Ask:
    files = {"tree": ("tree.csv", TREE), "mapping": ("mapping.csv", "old_code,new_code\n24,24\n")}
    return Ask("/api/v1/units/reform", {"params": {"valid_from": "2026-04-01"}, "files": files})


# --- devices ---------------------------------------------------------------------------------------------------------


async def _new_device(api: Api, unit: str) -> dict[str, Any]:
    number = await api.fetchval("SELECT count(*) FROM control.devices")
    return {"device_id": f"moi-{number}", "kind": "cluster", "unit_id": str(api.units[unit]), "name": "Cụm loa mới"}


@example("POST", "/api/v1/devices")
async def _(api: Api, unit: str) -> Ask:
    return Ask("/api/v1/devices", {"json": await _new_device(api, unit)}, 201)


async def _claimable(api: Api, unit: str) -> str:
    device_id = await add_device(api, unit)
    administrator = await api.person((Role.ADMINISTRATOR, "24"))
    await api.client.post(f"/api/v1/devices/{device_id}/claim", headers=administrator)
    return device_id


@example("POST", "/api/v1/devices/{device_id}/claim")
async def _(api: Api, unit: str) -> Ask:
    return Ask(f"/api/v1/devices/{await add_device(api, unit)}/claim", status=201)


@example("DELETE", "/api/v1/devices/{device_id}/claim")
async def _(api: Api, unit: str) -> Ask:
    return Ask(f"/api/v1/devices/{await _claimable(api, unit)}/claim", status=204)


@example("POST", "/api/v1/devices/claims")
async def _(api: Api, unit: str) -> Ask:
    return Ask("/api/v1/devices/claims", {"json": {"device_ids": [await add_device(api, unit)]}}, 201)


@example("GET", "/api/v1/devices/{device_id}/certificates")
async def _(api: Api, unit: str) -> Ask:
    return Ask(f"/api/v1/devices/{await _claimable(api, unit)}/certificates")


@example("POST", "/api/v1/devices/{device_id}/certificate/revoke")
async def _(api: Api, unit: str) -> Ask:
    path = f"/api/v1/devices/{await _claimable(api, unit)}/certificate/revoke"
    return Ask(path, {"json": {"reason": "stolen"}})


@example("POST", "/api/v1/devices/batch")
async def _(api: Api, unit: str) -> Ask:
    return Ask("/api/v1/devices/batch", {"json": {"devices": [await _new_device(api, unit)]}}, 201)


def _of_device(method: str, suffix: str = "", make_body: Callable[[Api, str], Awaitable[Any]] | None = None) -> None:
    @example(method, f"/api/v1/devices/{{device_id}}{suffix}")
    async def _(api: Api, unit: str) -> Ask:
        device_id = await add_device(api, unit)
        send = {"json": await make_body(api, unit)} if make_body else {}
        return Ask(f"/api/v1/devices/{device_id}{suffix}", send)


async def _volume(api: Api, unit: str) -> Any:
    return {"volume_percent": 40}


async def _same_unit(api: Api, unit: str) -> Any:
    return {"unit_id": str(api.units[unit])}


async def _gateway(api: Api, unit: str) -> Any:
    return {"gateway_id": await add_device(api, unit, "gateway")}


@example("POST", "/api/v1/units/{unit_id}/volume")
async def _(api: Api, unit: str) -> Ask:
    return Ask(f"/api/v1/units/{api.units[unit]}/volume", {"json": await _volume(api, unit)})


_of_device("GET")
_of_device("GET", "/status")
_of_device("GET", "/explanation")
_of_device("GET", "/public-share")
_of_device("PATCH", "", _volume)
_of_device("POST", "/move", _same_unit)
_of_device("PUT", "/gateway", _gateway)
_of_device("POST", "/retire")


# --- alerts ----------------------------------------------------------------------------------------------------------


async def _alert_content(api: Api, unit: str) -> dict[str, Any]:
    return {
        "event": "Lũ",
        "texts": [{"headline": "Lũ khẩn cấp", "media_sha256": await add_media(api)}],
        "audience": {"areas": [{"units": [str(api.units[unit])]}]},
        "valid_until": (api.clock.now + timedelta(hours=6)).isoformat(),
    }


def _silence_body(api: Api, unit: str) -> dict[str, Any]:
    audience = {"areas": [{"units": [str(api.units[unit])]}]}
    return {"unit_id": str(api.units[unit]), "audience": audience, "reason": "Bị chiếm quyền"}


async def _made_by_the_province(api: Api, path: str, body: dict[str, Any]) -> Any:
    operator = await api.person((Role.OPERATOR, "24"))
    answer = await api.client.post(path, json=body, headers=operator)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def _alert_path(api: Api, unit: str, suffix: str = "", by: str | None = None) -> str:
    body = await _alert_content(api, unit) | {"unit_id": str(api.units[by or unit])}
    return f"/api/v1/alerts/{(await _made_by_the_province(api, '/api/v1/alerts', body))['alert_id']}{suffix}"


@example("POST", "/api/v1/alerts")
async def _(api: Api, unit: str) -> Ask:
    return Ask("/api/v1/alerts", {"json": await _alert_content(api, unit) | {"unit_id": str(api.units[unit])}}, 201)


def _of_alert(suffix: str = "") -> None:
    @example("GET", f"/api/v1/alerts/{{alert_id}}{suffix}")
    async def _(api: Api, unit: str) -> Ask:
        return Ask(await _alert_path(api, unit, suffix))


_of_alert()
_of_alert("/cap")
_of_alert("/reach")
_of_alert("/test-results")


@example("POST", "/api/v1/alerts/{alert_id}/update")
async def _(api: Api, unit: str) -> Ask:
    send = {"json": await _alert_content(api, unit), "headers": {"If-Match": '"1"'}}
    return Ask(await _alert_path(api, unit, "/update"), send)


@example("POST", "/api/v1/alerts/{alert_id}/cancel")
async def _(api: Api, unit: str) -> Ask:
    return Ask(await _alert_path(api, unit, "/cancel"), {"headers": {"If-Match": '"1"'}})


@example("POST", "/api/v1/alerts/{alert_id}/stop")
async def _(api: Api, unit: str) -> Ask:
    path = await _alert_path(api, unit, "/stop", by="24")
    await api.execute(
        "INSERT INTO control.policies (unit_id, body, changed_at, changed_by) SELECT $1, $2, now(), account_id"
        " FROM control.accounts LIMIT 1 ON CONFLICT DO NOTHING",
        api.units["24"],
        {"may_stop_alerts_from_above": True},
    )
    return Ask(path, {"json": {"unit_id": str(api.units[unit])}})


def _cap_message(api: Api, unit: str, status: str) -> bytes:
    sent = api.clock.now.isoformat(timespec="seconds")
    expires = (api.clock.now + timedelta(hours=2)).isoformat(timespec="seconds")
    return f"""<alert xmlns="urn:oasis:names:tc:emergency:cap:1.2"><identifier>{uuid.uuid4()}</identifier>
        <sender>kttv@example.org</sender><sent>{sent}</sent><status>{status}</status><msgType>Alert</msgType>
        <scope>Public</scope><info><language>vi-VN</language><category>Met</category><event>Lũ</event>
        <urgency>Immediate</urgency><severity>Severe</severity><certainty>Likely</certainty><expires>{expires}</expires>
        <area><areaDesc>X</areaDesc><geocode><valueName>loa:unit-code</valueName><value>{unit}</value></geocode></area>
        </info></alert>""".encode()


@example("POST", "/api/v1/cap")
async def _(api: Api, unit: str) -> Ask:
    params = {"unit_id": str(api.units[unit])}
    return Ask("/api/v1/cap", {"params": params, "content": _cap_message(api, unit, "Actual")})


@example("POST", "/api/v1/silences")
async def _(api: Api, unit: str) -> Ask:
    return Ask("/api/v1/silences", {"json": _silence_body(api, unit)}, 201)


@example("POST", "/api/v1/silences/{alert_id}/release")
async def _(api: Api, unit: str) -> Ask:
    made = await _made_by_the_province(api, "/api/v1/silences", _silence_body(api, unit))
    return Ask(f"/api/v1/silences/{made['alert_id']}/release", {"json": {}, "headers": {"If-Match": '"1"'}})


async def _waiting(api: Api, unit: str) -> dict[str, Any]:
    """An alert of the unit that waits for a second person; the policy that asked for one is gone again."""
    await add_device(api, unit)
    body = await _alert_content(api, unit) | {"unit_id": str(api.units[unit])}
    operator = await api.person((Role.OPERATOR, "24"))
    await api.execute(
        "INSERT INTO control.policies (unit_id, body, changed_at, changed_by) SELECT $1, $2, now(), account_id"
        " FROM control.accounts LIMIT 1 ON CONFLICT (unit_id) DO UPDATE SET body = policies.body || excluded.body",
        api.units[unit],
        {"second_person_from": {"alerts": 1}},
    )
    answer = await api.client.post("/api/v1/alerts", json=body, headers=operator)
    assert answer.status_code == 202, answer.text
    await api.execute("UPDATE control.policies SET body = body - 'second_person_from'")
    request: dict[str, Any] = answer.json()
    return request


@example("GET", "/api/v1/operation-requests/{request_id}")
async def _(api: Api, unit: str) -> Ask:
    return Ask(f"/api/v1/operation-requests/{(await _waiting(api, unit))['request_id']}")


@example("POST", "/api/v1/operation-requests/{request_id}/confirm")
async def _(api: Api, unit: str) -> Ask:
    request = await _waiting(api, unit)
    return Ask(f"/api/v1/operation-requests/{request['request_id']}/confirm", {"json": {"digest": request["digest"]}})


@example("POST", "/api/v1/operation-requests/{request_id}/refuse")
async def _(api: Api, unit: str) -> Ask:
    return Ask(f"/api/v1/operation-requests/{(await _waiting(api, unit))['request_id']}/refuse", {"json": {}})


@example("POST", "/api/v1/operation-requests/{request_id}/acknowledge")
async def _(api: Api, unit: str) -> Ask:
    request_id = (await _waiting(api, unit))["request_id"]
    await api.execute("UPDATE control.operation_requests SET state = 'alone', note = 'x'")
    return Ask(f"/api/v1/operation-requests/{request_id}/acknowledge")


def _template_body(api: Api, unit: str) -> dict[str, Any]:
    return {
        "unit_id": str(api.units[unit]),
        "name": "Lũ",
        "event": "Lũ",
        "tone": "none",
        "texts": [{"headline": "Lũ"}],
    }


async def _template_path(api: Api, unit: str, suffix: str = "") -> str:
    made = await _made_by_the_province(api, "/api/v1/alert-templates", _template_body(api, unit))
    return f"/api/v1/alert-templates/{made['template_id']}{suffix}"


@example("POST", "/api/v1/alert-templates")
async def _(api: Api, unit: str) -> Ask:
    return Ask("/api/v1/alert-templates", {"json": _template_body(api, unit)}, 201)


@example("GET", "/api/v1/alert-templates/{template_id}")
async def _(api: Api, unit: str) -> Ask:
    return Ask(await _template_path(api, unit))


@example("PUT", "/api/v1/alert-templates/{template_id}")
async def _(api: Api, unit: str) -> Ask:
    send = {"json": _template_body(api, unit), "headers": {"If-Match": '"1"'}}
    return Ask(await _template_path(api, unit), send)


@example("POST", "/api/v1/alert-templates/{template_id}/retire")
async def _(api: Api, unit: str) -> Ask:
    return Ask(await _template_path(api, unit, "/retire"))


# As the page of a template sends it.
TEMPLATE_FORM = {
    "name": "Lũ",
    "purpose": "alert",
    "event": "Lũ",
    "category": "met",
    "urgency": "immediate",
    "severity": "severe",
    "certainty": "likely",
    "tone": "none",
    "language-0": "vi",
    "headline-0": "Lũ",
    "language-1": "en",
    "headline-1": "",
    "repeat": "",
    "validity": "60",
    "volume": "",
    "resume": "resume",
    "place": "",
}


# --- tests of alerts -------------------------------------------------------------------------------------------------

fixed("GET", "/api/v1/alert-tests/failing")
fixed("GET", "/api/v1/cap/feed.atom")


@example("GET", "/api/v1/devices/{device_id}/alert-tests")
async def _(api: Api, unit: str) -> Ask:
    return Ask(f"/api/v1/devices/{await add_device(api, unit)}/alert-tests")


def _of_alert_tests(method: str, suffix: str = "", status: int = 200, **send: Any) -> None:
    @example(method, f"/api/v1/units/{{unit_id}}/alert-tests{suffix}")
    async def _(api: Api, unit: str) -> Ask:
        return Ask(f"/api/v1/units/{api.units[unit]}/alert-tests{suffix}", send, status)


_of_alert_tests("GET")
_of_alert_tests("GET", "/trend")
_of_alert_tests("PUT", json={"silent": {"at": "09:00"}}, headers={"If-Match": "*"})
_of_alert_tests("POST", status=201, json={"purpose": "silent_test"})


# --- rules on readings, and what they propose ------------------------------------------------------------------------


async def _rule_path(api: Api, unit: str, suffix: str = "") -> str:
    return f"/api/v1/sensor-rules/{(await add_rule(api, unit))['sensor_rule_id']}{suffix}"


@example("POST", "/api/v1/sensor-rules")
async def _(api: Api, unit: str) -> Ask:
    sensor = await add_device(api, unit, "sensor")
    return Ask("/api/v1/sensor-rules", {"json": rule_body(api, unit, sensor)}, 201)


@example("POST", "/api/v1/sensor-rules/trial")
async def _(api: Api, unit: str) -> Ask:
    sensor = await add_device(api, unit, "sensor")
    return Ask("/api/v1/sensor-rules/trial", {"json": rule_body(api, unit, sensor, days=1)})


@example("GET", "/api/v1/sensor-rules/{sensor_rule_id}")
async def _(api: Api, unit: str) -> Ask:
    return Ask(await _rule_path(api, unit))


@example("PUT", "/api/v1/sensor-rules/{sensor_rule_id}")
async def _(api: Api, unit: str) -> Ask:
    body = rule_body(api, unit, await add_device(api, unit, "sensor"))
    return Ask(await _rule_path(api, unit), {"json": body, "headers": {"If-Match": '"1"'}})


@example("POST", "/api/v1/sensor-rules/{sensor_rule_id}/retire")
async def _(api: Api, unit: str) -> Ask:
    return Ask(await _rule_path(api, unit, "/retire"))


# Whoever may is asked for a second factor, which a program without one does not have.
for suffix in ("", "/confirm"):

    @example("POST", f"/api/v1/sensor-rules/{{sensor_rule_id}}/authorisation{suffix}")
    async def _(api: Api, unit: str, suffix: str = suffix) -> Ask:
        send: dict[str, Any] = {"headers": {"If-Match": '"1"', "Loa-Second-Factor": "000000"}}
        if not suffix:
            send["json"] = {"expires_at": (api.clock.now + timedelta(days=9)).isoformat()}
        return Ask(await _rule_path(api, unit, f"/authorisation{suffix}"), send, 409)


@example("DELETE", "/api/v1/sensor-rules/{sensor_rule_id}/authorisation")
async def _(api: Api, unit: str) -> Ask:
    return Ask(await _rule_path(api, unit, "/authorisation"), status=204)


async def _cap_sender(api: Api, unit: str) -> dict[str, Any]:
    """A sender that the unit trusts from now on."""
    source = await api.account((Role.CAP_SOURCE, unit))
    await api.execute(
        "INSERT INTO control.cap_senders (unit_id, sender, account_id, trusted_since) VALUES ($1, 'kttv@example.org', $2, $3)"
        " ON CONFLICT (unit_id, sender) DO UPDATE SET account_id = excluded.account_id",
        api.units[unit],
        source.account_id,
        api.clock.now,
    )
    return {"sender": "kttv@example.org", "account_id": str(source.account_id)}


@example("GET", "/api/v1/units/{unit_id}/cap-senders")
async def _(api: Api, unit: str) -> Ask:
    return Ask(f"/api/v1/units/{api.units[unit]}/cap-senders")


@example("PUT", "/api/v1/units/{unit_id}/cap-senders")
async def _(api: Api, unit: str) -> Ask:
    return Ask(f"/api/v1/units/{api.units[unit]}/cap-senders", {"json": await _cap_sender(api, unit)})


@example("POST", "/api/v1/units/{unit_id}/cap-senders/remove")
async def _(api: Api, unit: str) -> Ask:
    sender = (await _cap_sender(api, unit))["sender"]
    return Ask(f"/api/v1/units/{api.units[unit]}/cap-senders/remove", {"json": {"sender": sender}})


@example("POST", "/api/v1/cap/deliveries")
async def _(api: Api, unit: str) -> Ask:
    # An exercise is read and left: nobody has to trust its sender for that.
    params = {"unit_id": str(api.units[unit])}
    return Ask("/api/v1/cap/deliveries", {"params": params, "content": _cap_message(api, unit, "Exercise")})


def _of_proposal(method: str, suffix: str, **send: Any) -> None:
    @example(method, f"/api/v1/proposals/{{alert_id}}{suffix}")
    async def _(api: Api, unit: str) -> Ask:
        return Ask(f"/api/v1/proposals/{await lay_proposal(api, unit)}{suffix}", send)


_of_proposal("GET", "")
_of_proposal("POST", "/release", json={}, headers={"If-Match": '"1"'})
_of_proposal("POST", "/refuse", json={"reason": "Cảm biến hỏng"}, headers={"If-Match": '"1"'})


# --- content ---------------------------------------------------------------------------------------------------------


@example("POST", "/api/v1/media")
async def _(api: Api, unit: str) -> Ask:
    # Nobody's sound: who may upload is told so, who may not is refused before anybody looks at it.
    return Ask(
        "/api/v1/media",
        {"data": {"unit_id": str(api.units[unit])}, "files": {"file": ("x.mp3", b"not a sound at all")}},
        415,
    )


@example("GET", "/api/v1/media/{sha256}")
async def _(api: Api, unit: str) -> Ask:
    return Ask(f"/api/v1/media/{await add_media(api)}")


@example("POST", "/api/v1/bulletins")
async def _(api: Api, unit: str) -> Ask:
    body = {
        "unit_id": str(api.units[unit]),
        "title": "Bản tin",
        "subject_field": "general",
        "board_text": "Chữ trên bảng tin",
    }
    return Ask("/api/v1/bulletins", {"json": body}, 201)


def _of_bulletin(method: str, suffix: str = "") -> None:
    @example(method, f"/api/v1/bulletins/{{bulletin_id}}{suffix}")
    async def _(api: Api, unit: str) -> Ask:
        return Ask(f"/api/v1/bulletins/{await add_bulletin(api, unit, state='submitted')}{suffix}")


for suffix in ("/approve", "/reject", "/withdraw"):
    _of_bulletin("POST", suffix)
_of_bulletin("GET")


@example("PUT", "/api/v1/bulletins/{bulletin_id}")
async def _(api: Api, unit: str) -> Ask:
    body = {"title": "Bản nháp", "subject_field": "general", "board_text": "Chữ khác"}
    bulletin_id = await add_bulletin(api, unit, state="draft")
    return Ask(f"/api/v1/bulletins/{bulletin_id}", {"json": body, "headers": {"If-Match": '"1"'}})


@example("POST", "/api/v1/bulletins/{bulletin_id}/submit")
async def _(api: Api, unit: str) -> Ask:
    return Ask(f"/api/v1/bulletins/{await add_bulletin(api, unit, state='draft')}/submit")


# --- broadcasts ------------------------------------------------------------------------------------------------------


@example("POST", "/api/v1/broadcasts")
async def _(api: Api, unit: str) -> Ask:
    return Ask("/api/v1/broadcasts", {"json": await broadcast_body(api, unit)}, 201)


@example("PUT", "/api/v1/broadcasts/{broadcast_id}")
async def _(api: Api, unit: str) -> Ask:
    broadcast = await add_broadcast(api, unit)
    send = {"json": await broadcast_body(api, unit), "headers": {"If-Match": '"1"'}}
    return Ask(f"/api/v1/broadcasts/{broadcast['broadcast_id']}", send)


def _of_broadcast(method: str, suffix: str = "") -> None:
    @example(method, f"/api/v1/broadcasts/{{broadcast_id}}{suffix}")
    async def _(api: Api, unit: str) -> Ask:
        broadcast = await add_broadcast(api, unit)
        return Ask(f"/api/v1/broadcasts/{broadcast['broadcast_id']}{suffix}")


for suffix in ("", "/proof", "/emissions"):
    _of_broadcast("GET", suffix)
_of_broadcast("POST", "/withdraw")


# --- groups ----------------------------------------------------------------------------------------------------------


@example("POST", "/api/v1/groups")
async def _(api: Api, unit: str) -> Ask:
    return Ask("/api/v1/groups", {"json": await group_body(api, unit)}, 201)


def _of_group(method: str) -> None:
    @example(method, "/api/v1/groups/{group_id}")
    async def _(api: Api, unit: str) -> Ask:
        group = await add_group(api, unit)
        send = {"json": await group_body(api, unit), "headers": {"If-Match": '"1"'}} if method == "PUT" else {}
        return Ask(f"/api/v1/groups/{group['group_id']}", send)


for verb in ("GET", "PUT", "DELETE"):
    _of_group(verb)
# --- relays ----------------------------------------------------------------------------------------------------------


def _relay_source(api: Api, unit: str) -> dict[str, Any]:
    return {"unit_id": str(api.units[unit]), "name": "VOV1", "kind": "fm", "url": "fm://103.5", "direct": True}


@example("POST", "/api/v1/relay-sources")
async def _(api: Api, unit: str) -> Ask:
    return Ask("/api/v1/relay-sources", {"json": _relay_source(api, unit)}, 201)


def _of_relay_source(method: str, suffix: str = "", *, has_body: bool = False) -> None:
    @example(method, f"/api/v1/relay-sources/{{relay_source_id}}{suffix}")
    async def _(api: Api, unit: str) -> Ask:
        operator = await api.person((Role.OPERATOR, "24"))
        made = await api.client.post("/api/v1/relay-sources", json=_relay_source(api, unit), headers=operator)
        send = {"json": _relay_source(api, unit), "headers": {"If-Match": '"1"'}} if has_body else {}
        return Ask(f"/api/v1/relay-sources/{made.json()['relay_source_id']}{suffix}", send)


_of_relay_source("GET")
_of_relay_source("PUT", has_body=True)
_of_relay_source("POST", "/retire")


# --- policies ---------------------------------------------------------------------------------------------------------


@example("GET", "/api/v1/units/{unit_id}/policy")
async def _(api: Api, unit: str) -> Ask:
    return Ask(f"/api/v1/units/{api.units[unit]}/policy")


@example("PUT", "/api/v1/units/{unit_id}/policy")
async def _(api: Api, unit: str) -> Ask:
    body = {
        "sessions": [{"code": "sang", "name": "Sáng", "begin": "05:00", "end": "07:00", "weekdays": [1, 2]}],
        "quiet": [{"begin": "22:00", "end": "05:00"}],
        "volume_caps": [{"begin": "05:00", "end": "06:00", "percent": 40}],
        "max_day_s": 3_600,
    }
    return Ask(f"/api/v1/units/{api.units[unit]}/policy", {"json": body, "headers": {"If-Match": "*"}})


@example("GET", "/api/v1/units/{unit_id}/priority-order")
async def _(api: Api, unit: str) -> Ask:
    return Ask(f"/api/v1/units/{api.units[unit]}/priority-order")


@example("PUT", "/api/v1/units/{unit_id}/priority-order")
async def _(api: Api, unit: str) -> Ask:
    send = {"json": {"order": []}, "headers": {"If-Match": "*"}}
    return Ask(f"/api/v1/units/{api.units[unit]}/priority-order", send)


def _order(api: Api, unit: str) -> dict[str, Any]:
    return {
        "unit_id": str(api.units[unit]),
        "order_number": "12/QĐ-UBND",
        "issuer": "UBND tỉnh",
        "valid_from": "2026-03-10T00:00:00+07:00",
        "expires_at": "2026-03-20T00:00:00+07:00",
    }


@example("POST", "/api/v1/requisitions")
async def _(api: Api, unit: str) -> Ask:
    return Ask("/api/v1/requisitions", {"json": _order(api, unit)}, 201)


@example("POST", "/api/v1/requisitions/{requisition_id}/revoke")
async def _(api: Api, unit: str) -> Ask:
    operator = await api.person((Role.OPERATOR, "24"))
    made = await api.client.post("/api/v1/requisitions", json=_order(api, unit), headers=operator)
    return Ask(f"/api/v1/requisitions/{made.json()['requisition_id']}/revoke")


def _of_offer(verb: str, make_body: Callable[[Api], Any] | None = None) -> None:
    @example("POST", f"/api/v1/offers/{{broadcast_id}}/{{unit_id}}/{verb}")
    async def _(api: Api, unit: str) -> Ask:
        broadcast_id = await add_offer(api, unit)
        send = {"json": make_body(api)} if make_body else {}
        return Ask(f"/api/v1/offers/{broadcast_id}/{api.units[unit]}/{verb}", send)


def _own_times(api: Api) -> Any:
    return {"starts_on": "2026-03-12", "local_times": ["17:30"]}


_of_offer("accept")
_of_offer("decline")
_of_offer("schedule", _own_times)


def _of_exception(verb: str) -> None:
    @example("POST", f"/api/v1/broadcasts/{{broadcast_id}}/{verb}")
    async def _(api: Api, unit: str) -> Ask:
        return Ask(f"/api/v1/broadcasts/{await add_awaiting_broadcast(api, unit)}/{verb}")


for verb in ("approve", "reject"):
    _of_exception(verb)


@example("DELETE", "/api/v1/units/{unit_id}/policy")
async def _(api: Api, unit: str) -> Ask:
    return Ask(f"/api/v1/units/{api.units[unit]}/policy", {"headers": {"If-Match": "*"}})


# --- pages -----------------------------------------------------------------------------------------------------------


@example("GET", "/units/{unit_id}")
async def _(api: Api, unit: str) -> Ask:
    return Ask(f"/units/{api.units[unit]}")


@example("GET", "/units/{unit_id}/inbox")
async def _(api: Api, unit: str) -> Ask:
    return Ask(f"/units/{api.units[unit]}/inbox")


@example("POST", "/units/{unit_id}/inbox/{broadcast_id}")
async def _(api: Api, unit: str) -> Ask:
    path = f"/units/{api.units[unit]}/inbox/{await add_offer(api, unit)}"
    return Ask(path, {"data": {"decision": "accept", "shown": "1-offered"}}, 303)


@example("GET", "/units/{unit_id}/order")
async def _(api: Api, unit: str) -> Ask:
    return Ask(f"/units/{api.units[unit]}/order")


@example("POST", "/units/{unit_id}/order")
async def _(api: Api, unit: str) -> Ask:
    return Ask(f"/units/{api.units[unit]}/order", {"data": {"version": "another"}}, 409)


@example("GET", "/units/{unit_id}/policy")
async def _(api: Api, unit: str) -> Ask:
    return Ask(f"/units/{api.units[unit]}/policy")


@example("GET", "/units/{unit_id}/broadcasts/new")
async def _(api: Api, unit: str) -> Ask:
    return Ask(f"/units/{api.units[unit]}/broadcasts/new")


@example("POST", "/units/{unit_id}/broadcasts/new")
async def _(api: Api, unit: str) -> Ask:
    return Ask(f"/units/{api.units[unit]}/broadcasts/new", {"data": {"do": "save"}}, 422)


@example("GET", "/broadcasts/{broadcast_id}/edit")
async def _(api: Api, unit: str) -> Ask:
    return Ask(f"/broadcasts/{(await add_broadcast(api, unit))['broadcast_id']}/edit")


@example("POST", "/broadcasts/{broadcast_id}/edit")
async def _(api: Api, unit: str) -> Ask:
    return Ask(f"/broadcasts/{(await add_broadcast(api, unit))['broadcast_id']}/edit", {"data": {"do": "save"}}, 422)


@example("GET", "/broadcasts/{broadcast_id}/withdraw")
async def _(api: Api, unit: str) -> Ask:
    return Ask(f"/broadcasts/{(await add_broadcast(api, unit))['broadcast_id']}/withdraw")


@example("POST", "/broadcasts/{broadcast_id}/withdraw")
async def _(api: Api, unit: str) -> Ask:
    path = f"/broadcasts/{(await add_broadcast(api, unit))['broadcast_id']}/withdraw"
    return Ask(path, {"data": {"version": "1"}}, 303)


fixed("GET", "/alerts")
fixed("GET", "/alerts/new")
fixed("GET", "/alerts/silence")
fixed("GET", "/alerts/glass")
fixed("GET", "/alerts/proposals")


@example("GET", "/alerts/proposals/{alert_id}")
async def _(api: Api, unit: str) -> Ask:
    return Ask(f"/alerts/proposals/{await lay_proposal(api, unit)}")


@example("POST", "/alerts/proposals/{alert_id}")
async def _(api: Api, unit: str) -> Ask:
    form = {"do": "refuse", "version": "1", "reason": "Cảm biến hỏng"}
    return Ask(f"/alerts/proposals/{await lay_proposal(api, unit)}", {"data": form}, 303)


@example("POST", "/alerts/new")
async def _(api: Api, unit: str) -> Ask:
    made = await _made_by_the_province(api, "/api/v1/alert-templates", _template_body(api, unit))
    form = {"do": "go", "unit": str(api.units[unit]), "template": made["template_id"], "template_version": "1"}
    return Ask("/alerts/new", {"data": form | {"key": uuid.uuid4().hex}}, 303)


@example("POST", "/alerts/silence")
async def _(api: Api, unit: str) -> Ask:
    form = {"do": "go", "unit": str(api.units[unit]), "reason": "Bị chiếm quyền", "key": uuid.uuid4().hex}
    return Ask("/alerts/silence", {"data": form}, 303)


@example("GET", "/alerts/requests/{request_id}")
async def _(api: Api, unit: str) -> Ask:
    return Ask(f"/alerts/requests/{(await _waiting(api, unit))['request_id']}")


@example("POST", "/alerts/requests/{request_id}")
async def _(api: Api, unit: str) -> Ask:
    request = await _waiting(api, unit)
    form = {"do": "confirm", "digest": request["digest"]}
    return Ask(f"/alerts/requests/{request['request_id']}", {"data": form}, 303)


async def _alert_page(api: Api, unit: str, suffix: str = "") -> str:
    return (await _alert_path(api, unit, suffix)).removeprefix("/api/v1")


@example("GET", "/alerts/{alert_id}")
async def _(api: Api, unit: str) -> Ask:
    return Ask(await _alert_page(api, unit))


@example("GET", "/units/{unit_id}/alert-tests")
async def _(api: Api, unit: str) -> Ask:
    return Ask(f"/units/{api.units[unit]}/alert-tests")


@example("POST", "/units/{unit_id}/alert-tests")
async def _(api: Api, unit: str) -> Ask:
    form = {"do": "run_silent", "key": uuid.uuid4().hex}
    return Ask(f"/units/{api.units[unit]}/alert-tests", {"data": form}, 303)


@example("GET", "/alerts/{alert_id}/test-results")
async def _(api: Api, unit: str) -> Ask:
    return Ask(await _alert_page(api, unit, "/test-results"))


@example("GET", "/devices/{device_id}/alert-tests")
async def _(api: Api, unit: str) -> Ask:
    return Ask(f"/devices/{await add_device(api, unit)}/alert-tests")


@example("GET", "/units/{unit_id}/cap-senders")
async def _(api: Api, unit: str) -> Ask:
    return Ask(f"/units/{api.units[unit]}/cap-senders")


@example("POST", "/units/{unit_id}/cap-senders")
async def _(api: Api, unit: str) -> Ask:
    form = {"do": "trust", **await _cap_sender(api, unit)}
    return Ask(f"/units/{api.units[unit]}/cap-senders", {"data": form}, 303)


for suffix in ("", "/new"):

    @example("GET", f"/units/{{unit_id}}/alert-templates{suffix}")
    async def _(api: Api, unit: str, suffix: str = suffix) -> Ask:
        return Ask(f"/units/{api.units[unit]}/alert-templates{suffix}")


@example("POST", "/units/{unit_id}/alert-templates/new")
async def _(api: Api, unit: str) -> Ask:
    return Ask(f"/units/{api.units[unit]}/alert-templates/new", {"data": TEMPLATE_FORM}, 303)


async def _template_page(api: Api, unit: str, suffix: str = "") -> str:
    return (await _template_path(api, unit, suffix)).removeprefix("/api/v1")


for suffix in ("", "/edit"):

    @example("GET", f"/alert-templates/{{template_id}}{suffix}")
    async def _(api: Api, unit: str, suffix: str = suffix) -> Ask:
        return Ask(await _template_page(api, unit, suffix))


@example("POST", "/alert-templates/{template_id}/edit")
async def _(api: Api, unit: str) -> Ask:
    return Ask(await _template_page(api, unit, "/edit"), {"data": {**TEMPLATE_FORM, "version": "1"}}, 303)


@example("POST", "/alert-templates/{template_id}/retire")
async def _(api: Api, unit: str) -> Ask:
    return Ask(await _template_page(api, unit, "/retire"), {"data": {"version": "1"}}, 303)


async def _rule_page(api: Api, unit: str, suffix: str = "") -> str:
    return (await _rule_path(api, unit, suffix)).removeprefix("/api/v1")


for suffix in ("", "/new"):

    @example("GET", f"/units/{{unit_id}}/sensor-rules{suffix}")
    async def _(api: Api, unit: str, suffix: str = suffix) -> Ask:
        return Ask(f"/units/{api.units[unit]}/sensor-rules{suffix}")


@example("POST", "/units/{unit_id}/sensor-rules/new")
async def _(api: Api, unit: str) -> Ask:
    form = {"name": "Sông", "raise_at": "4", "clear_at": "3", "hold": "1", "silent_after": "15", "quorum": "1"}
    more = {"quantity": "water_level", "direction": "above", "severity": "severe", "cool_down": "60", "open_for": "60"}
    sensors = {"sensors": await add_device(api, unit, "sensor")}
    return Ask(f"/units/{api.units[unit]}/sensor-rules/new", {"data": form | more | sensors}, 303)


for suffix in ("", "/edit"):

    @example("GET", f"/sensor-rules/{{sensor_rule_id}}{suffix}")
    async def _(api: Api, unit: str, suffix: str = suffix) -> Ask:
        return Ask(await _rule_page(api, unit, suffix))


@example("POST", "/sensor-rules/{sensor_rule_id}/edit")
async def _(api: Api, unit: str) -> Ask:
    return Ask(await _rule_page(api, unit, "/edit"), {"data": {"name": "", "version": "1"}}, 422)


@example("POST", "/sensor-rules/{sensor_rule_id}/retire")
async def _(api: Api, unit: str) -> Ask:
    return Ask(await _rule_page(api, unit, "/retire"), {"data": {"version": "1"}}, 303)


@example("POST", "/sensor-rules/{sensor_rule_id}/authorisation")
async def _(api: Api, unit: str) -> Ask:
    # Two officers with their second factors: `test_sensor_rule_pages` has them.
    return Ask(await _rule_page(api, unit, "/authorisation"), {"data": {"do": "perhaps"}}, 422)


@example("GET", "/alerts/{alert_id}/change")
async def _(api: Api, unit: str) -> Ask:
    return Ask(await _alert_page(api, unit, "/change"))


@example("POST", "/alerts/{alert_id}/change")
async def _(api: Api, unit: str) -> Ask:
    form = {"do": "go", "version": "1", "headline": "Lũ lớn", "severity": "extreme", "key": uuid.uuid4().hex}
    until = (api.clock.now + timedelta(hours=2)).astimezone(ZONE)
    return Ask(await _alert_page(api, unit, "/change"), {"data": form | {"until": f"{until:%Y-%m-%dT%H:%M}"}}, 303)


@example("GET", "/alerts/{alert_id}/end")
async def _(api: Api, unit: str) -> Ask:
    return Ask(await _alert_page(api, unit, "/end"))


@example("POST", "/alerts/{alert_id}/end")
async def _(api: Api, unit: str) -> Ask:
    return Ask(await _alert_page(api, unit, "/end"), {"data": {"version": "1"}}, 303)


@example("GET", "/alerts/{alert_id}/release")
async def _(api: Api, unit: str) -> Ask:
    made = await _made_by_the_province(api, "/api/v1/silences", _silence_body(api, unit))
    return Ask(f"/alerts/{made['alert_id']}/release")


@example("POST", "/alerts/{alert_id}/release")
async def _(api: Api, unit: str) -> Ask:
    made = await _made_by_the_province(api, "/api/v1/silences", _silence_body(api, unit))
    form = {"do": "all", "version": "1", "key": uuid.uuid4().hex}
    return Ask(f"/alerts/{made['alert_id']}/release", {"data": form}, 303)


def _of_own(kind: str) -> None:
    @example("POST", f"/account/{kind}s/{{{kind}_id}}/end")
    async def _(api: Api, unit: str) -> Ask:
        return Ask(f"/account/{kind}s/00000000-0000-4000-8000-000000000000/end", status=404)


_of_own("session")
_of_own("token")
fixed("GET", "/account")
fixed("POST", "/account/password", data={"old_password": "x"}, status=422)
fixed("POST", "/account/second-factor", data={"password": PASSWORD}, status=409)
fixed("POST", "/account/second-factor/confirm", data={"code": "123456"}, status=409)
fixed("POST", "/account/second-factor/remove", data={"code": "123456"}, status=409)
fixed("POST", "/account/tokens", data={"name": "lịch", "days": "30", "password": PASSWORD})

fixed("GET", "/approvals")


@example("POST", "/approvals/bulletins/{bulletin_id}")
async def _(api: Api, unit: str) -> Ask:
    path = f"/approvals/bulletins/{await add_bulletin(api, unit, state='submitted')}"
    return Ask(path, {"data": {"decision": "approve"}}, 303)


@example("POST", "/approvals/broadcasts/{broadcast_id}")
async def _(api: Api, unit: str) -> Ask:
    path = f"/approvals/broadcasts/{await add_awaiting_broadcast(api, unit)}"
    return Ask(path, {"data": {"decision": "approve", "version": "1"}}, 303)


@example("GET", "/devices/{device_id}/why")
async def _(api: Api, unit: str) -> Ask:
    return Ask(f"/devices/{await add_device(api, unit)}/why")


@example("GET", "/devices/{device_id}")
async def _(api: Api, unit: str) -> Ask:
    return Ask(f"/devices/{await add_device(api, unit)}")


@example("GET", "/broadcasts/{broadcast_id}")
async def _(api: Api, unit: str) -> Ask:
    broadcast = await add_broadcast(api, unit)
    return Ask(f"/broadcasts/{broadcast['broadcast_id']}")


# --- quarantine ------------------------------------------------------------------------------------------------------


def _of_quarantine(method: str, path: str, send: dict[str, Any] | None = None, status: int = 200) -> None:
    @example(method, path)
    async def _(api: Api, unit: str) -> Ask:
        number = await add_inmate(api)
        filled = json.loads(json.dumps(send or {}).replace('"{quarantine_id}"', str(number)))
        return Ask(path.replace("{quarantine_id}", str(number)).replace("{request_id}", "1"), filled, status)


_of_quarantine("GET", "/api/v1/quarantine")
_of_quarantine("GET", "/api/v1/quarantine/counts")
_of_quarantine("GET", "/api/v1/quarantine/requests/{request_id}", status=404)
_of_quarantine("GET", "/api/v1/quarantine/{quarantine_id}")
_of_quarantine(
    "POST", "/api/v1/quarantine/{quarantine_id}/corrections", {"json": {"device_id": "cum-khac", "why": "x"}}, 201
)
for verb, verb_status in (("replays", 202), ("discards", 201)):
    send = {"json": {"quarantine_ids": ["{quarantine_id}"], "why": "x"}}
    _of_quarantine("POST", f"/api/v1/quarantine/{verb}", send, verb_status)
_of_quarantine("GET", "/quarantine")
_of_quarantine("POST", "/quarantine/replay", {"data": {"reason": "unknown_device", "why": "x"}}, 303)
_of_quarantine("GET", "/quarantine/{quarantine_id}")
_of_quarantine("POST", "/quarantine/{quarantine_id}", {"data": {"decision": "discard", "why": "x"}}, 303)
_of_quarantine("POST", "/quarantine/{quarantine_id}/correct", {"data": {"device_id": "cum-khac", "why": "x"}}, 303)


# --- the tests -------------------------------------------------------------------------------------------------------


def declared() -> dict[tuple[str, str], Requirement]:
    found = {}
    for route in routed().routes:
        assert isinstance(route, APIRoute)
        for method in route.methods or ():
            if (method, route.path) not in PUBLIC:
                (requirement,) = [d.call for d in route.dependant.dependencies if isinstance(d.call, Requirement)]
                found[(method, route.path)] = requirement
    return found


DECLARED = declared()
ENDPOINTS = sorted(DECLARED)


def is_allowed(endpoint: tuple[str, str], role: Role, position: str) -> bool:
    name = " ".join(endpoint)
    if name in OWN:
        return True
    if name in WHERE_IT_SOUNDS:
        return role in MAY[name] and position != "sibling"
    return role in MAY[name] and (name in EVERYWHERE or position in INSIDE)


async def ask(api: Api, method: str, wanted: Ask, headers: dict[str, str]) -> Any:
    send = dict(wanted.send)
    return await api.client.request(method, wanted.path, headers={**send.pop("headers", {}), **headers}, **send)


def test_every_route_has_an_example() -> None:
    assert set(EXAMPLES) == set(DECLARED)
    assert {" ".join(endpoint) for endpoint in EXAMPLES} == MAY.keys() | OWN


def test_nothing_that_lies_in_a_unit_is_asked_for_anywhere() -> None:
    for (method, path), requirement in DECLARED.items():
        if requirement.scope is Scope.ANYWHERE:
            assert f"{method} {path}" in EVERYWHERE | WHERE_IT_SOUNDS | OWN | {"GET /api/v1/accounts/{account_id}"}


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=[" ".join(endpoint) for endpoint in ENDPOINTS])
async def test_each_role_on_each_side_of_its_unit(api: Api, endpoint: tuple[str, str]) -> None:
    method, name = endpoint[0], " ".join(endpoint)
    wrong = []
    for role in Role:
        headers = await api.person((role, ACTOR_UNIT))
        for position, unit in POSITIONS.items():
            wanted = await EXAMPLES[endpoint](api, unit)
            audited = await api.fetchval("SELECT count(*) FROM control.audit")
            response = await ask(api, method, wanted, headers)
            refused = 404 if name in WHERE_IT_SOUNDS and role in MAY[name] else 403
            expected = wanted.status if is_allowed(endpoint, role, position) else refused
            if response.status_code != expected:
                wrong.append(
                    f"{role} on {position}: {response.status_code} instead of {expected}: {response.text[:300]}"
                )
            written = await api.fetchval("SELECT count(*) FROM control.audit") - audited
            # Forms of pages lead on to a page when they have done what they say.
            is_said_done = method not in ("GET", "HEAD") and 200 <= response.status_code < 400
            changes_something = is_said_done and name not in CHANGES_NOTHING
            is_on_record = response.status_code == 403 and name in REFUSALS_ON_RECORD and role in MAY[name]
            if bool(written) != (changes_something or is_on_record):
                wrong.append(f"{role} on {position}: {written} audit entries")
    assert wrong == []


async def test_nobody_gets_in_without_proof_of_who_they_are(api: Api) -> None:
    expired = await api.person((Role.ADMINISTRATOR, "24"))
    await api.execute("UPDATE control.api_tokens SET expires_at = $1", api.clock.now)
    for method, path in ENDPOINTS:
        wanted = await EXAMPLES[(method, path)](api, "1")
        for headers in ({}, expired, {"Authorization": "Bearer loa_nobody"}, {"Cookie": "loa_session=nothing"}):
            response = await ask(api, method, wanted, headers)
            if path.startswith("/api/"):
                assert response.status_code == 401, f"{method} {path}"
                assert response.headers["content-type"] == "application/problem+json"
            else:
                assert response.status_code == 303, f"{method} {path}"
                assert response.headers["location"].startswith("/login?next=")


async def test_a_role_that_has_run_out_gives_nothing(api: Api) -> None:
    account = await api.account(*((role, "24") for role in Role), expires_at=api.clock.now + timedelta(hours=1))
    headers = await api.token(account)
    wanted = {endpoint: await EXAMPLES[endpoint](api, "11") for endpoint in ENDPOINTS}
    api.clock.forward(hours=1)
    for (method, path), each in wanted.items():
        if f"{method} {path}" not in OWN:
            assert (await ask(api, method, each, headers)).status_code == 403, f"{method} {path}"


async def test_what_concerns_the_whole_tree_needs_the_right_over_its_root(api: Api) -> None:
    for code, expected in (("24", 200), ("1", 403), ("11", 403)):
        headers = await api.person((Role.ADMINISTRATOR, code))
        for path in ("/api/v1/units/import", "/api/v1/units/reform"):
            wanted = await EXAMPLES[("POST", path)](api, code)
            assert (await ask(api, "POST", wanted, headers)).status_code == expected, path


async def test_lists_show_only_what_lies_below(api: Api) -> None:
    inside, outside = await add_device(api, "11"), await add_device(api, "2")
    mine, theirs = await add_bulletin(api, "11"), await add_bulletin(api, "21")
    headers = await api.person((Role.VIEWER, "1"))
    devices = (await api.client.get("/api/v1/devices", headers=headers)).json()["devices"]
    assert [each["device_id"] for each in devices] == [inside]
    assert outside not in str(devices)
    bulletins = (await api.client.get("/api/v1/bulletins", headers=headers)).json()
    assert [each["bulletin_id"] for each in bulletins] == [mine]
    assert theirs not in str(bulletins)


async def test_a_unit_that_is_in_no_tree_gives_no_rights_and_is_in_the_root_s_hands(api: Api) -> None:
    device_id = await add_device(api, "11")
    local, above = await api.person((Role.ADMINISTRATOR, "11")), await api.person((Role.ADMINISTRATOR, "24"))
    district = await api.person((Role.ADMINISTRATOR, "1"))
    await api.execute("UPDATE control.unit_versions SET valid_until = '2026-01-01' WHERE code = '11'")
    path = f"/api/v1/devices/{device_id}"
    assert (await api.client.get(path, headers=local)).status_code == 403
    assert (await api.client.get(path, headers=district)).status_code == 403
    assert (await api.client.get(path, headers=above)).status_code == 200
    moved = await api.client.post(f"{path}/move", json={"unit_id": str(api.units["12"])}, headers=above)
    assert moved.status_code == 200
