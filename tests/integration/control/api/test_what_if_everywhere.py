"""What-if for every change of what is planned, held against the OpenAPI document: no route that changes a programme is
without a dry run, and none is said to change no programme that does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from services.control.api.app import routed
from services.control.permissions import Role
from tests.integration.control.api.test_api_permissions import EXAMPLES, Ask, ask
from tests.integration.control.api.test_api_second_person import asked, policy
from tests.support.control_api import Api, add_device

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

Operation = tuple[str, str]

# Routes that change something and no programme, by why not.
PEOPLE = "who may do what, and how they prove it"
DRAFTS = "content that no broadcast may name yet: those name what is approved, and go on naming what they named"
UNUSED = "nobody addresses what is new"
BESIDE = "sounds, or falls silent, beside every plan: what is planned stays planned"
READINGS = "what readings propose; nothing is planned by it"
IDENTITY = "by which key a device speaks; what it is to put out stays"
UPLINKS = "what devices said, judged anew"
NOT_YET = "kept, refused or acknowledged: what is confirmed is carried out by another route"
CHANGES_NO_PROGRAMME: dict[str, tuple[str, ...]] = {
    PEOPLE: (
        "POST /api/v1/accounts",
        "POST /api/v1/accounts/{account_id}/disable",
        "POST /api/v1/accounts/{account_id}/enable",
        "POST /api/v1/accounts/{account_id}/grants",
        "DELETE /api/v1/accounts/{account_id}/grants/{unit_id}/{role}",
        "DELETE /api/v1/accounts/{account_id}/second-factor",
        "DELETE /api/v1/accounts/{account_id}/sessions",
        "DELETE /api/v1/accounts/{account_id}/tokens/{token_id}",
        "POST /api/v1/sessions",
        "DELETE /api/v1/sessions",
        "DELETE /api/v1/sessions/current",
        "POST /api/v1/sessions/current/second-factor",
        "DELETE /api/v1/sessions/{session_id}",
        "PUT /api/v1/account/password",
        "POST /api/v1/account/second-factor",
        "POST /api/v1/account/second-factor/confirm",
        "POST /api/v1/account/second-factor/remove",
        "POST /api/v1/tokens",
        "DELETE /api/v1/tokens/{token_id}",
    ),
    DRAFTS: (
        "POST /api/v1/media",
        "POST /api/v1/bulletins",
        "PUT /api/v1/bulletins/{bulletin_id}",
        "POST /api/v1/bulletins/{bulletin_id}/submit",
        "POST /api/v1/bulletins/{bulletin_id}/approve",
        "POST /api/v1/bulletins/{bulletin_id}/reject",
    ),
    UNUSED: ("POST /api/v1/groups", "POST /api/v1/relay-sources"),
    BESIDE: (
        "POST /api/v1/alerts",
        "POST /api/v1/alerts/{alert_id}/cancel",
        "POST /api/v1/alerts/{alert_id}/stop",
        "POST /api/v1/alerts/{alert_id}/update",
        "POST /api/v1/silences",
        "POST /api/v1/silences/{alert_id}/release",
        "POST /api/v1/proposals/{alert_id}/release",
        "POST /api/v1/proposals/{alert_id}/refuse",
        "POST /api/v1/alert-templates",
        "PUT /api/v1/alert-templates/{template_id}",
        "POST /api/v1/alert-templates/{template_id}/retire",
        "POST /api/v1/units/{unit_id}/alert-tests",
        "PUT /api/v1/units/{unit_id}/alert-tests",
        "POST /api/v1/cap",
        "POST /api/v1/cap/deliveries",
        "PUT /api/v1/units/{unit_id}/cap-senders",
        "POST /api/v1/units/{unit_id}/cap-senders/remove",
    ),
    READINGS: (
        "POST /api/v1/sensor-rules",
        "POST /api/v1/sensor-rules/trial",
        "PUT /api/v1/sensor-rules/{sensor_rule_id}",
        "POST /api/v1/sensor-rules/{sensor_rule_id}/retire",
        "POST /api/v1/sensor-rules/{sensor_rule_id}/authorisation",
        "POST /api/v1/sensor-rules/{sensor_rule_id}/authorisation/confirm",
        "DELETE /api/v1/sensor-rules/{sensor_rule_id}/authorisation",
    ),
    IDENTITY: (
        "POST /api/v1/devices/claims",
        "POST /api/v1/devices/{device_id}/claim",
        "DELETE /api/v1/devices/{device_id}/claim",
        "POST /api/v1/devices/{device_id}/certificate/revoke",
        "POST /api/v1/enrolments",
        "POST /api/v1/enrolments/renewals",
    ),
    UPLINKS: (
        "POST /api/v1/quarantine/{quarantine_id}/corrections",
        "POST /api/v1/quarantine/discards",
        "POST /api/v1/quarantine/replays",
    ),
    NOT_YET: (
        "POST /api/v1/operation-requests/{request_id}/refuse",
        "POST /api/v1/operation-requests/{request_id}/acknowledge",
    ),
}
EXEMPT: dict[Operation, str] = {
    (method, path): why
    for why, names in CHANGES_NO_PROGRAMME.items()
    for method, path in (each.split(" ") for each in names)
}
# Whoever asks proves who they are by what they send: there is no example of that for somebody who is logged in.
WITHOUT_EXAMPLE = {
    ("POST", "/api/v1/sessions"),
    ("POST", "/api/v1/enrolments"),
    ("POST", "/api/v1/enrolments/renewals"),
}


def changing() -> Iterator[tuple[Operation, dict[str, Any]]]:
    """Every operation of the document that is not only read, with what the document says of it."""
    for path, item in routed().openapi()["paths"].items():
        for method, said in item.items():
            if method in {"post", "put", "patch", "delete"}:
                yield (method.upper(), path), said


def takes_dry_run(said: dict[str, Any]) -> bool:
    return any(each["name"] == "dry_run" and each["in"] == "query" for each in said.get("parameters", ()))


CHANGING = dict(changing())
TRIED = sorted(operation for operation, said in CHANGING.items() if takes_dry_run(said))
LEFT = sorted(EXEMPT.keys() - WITHOUT_EXAMPLE)


def name(operation: Operation) -> str:
    return " ".join(operation)


def test_every_route_that_changes_something_has_a_dry_run_or_a_reason() -> None:
    forgotten = [name(each) for each in sorted(CHANGING) if each not in TRIED and each not in EXEMPT]
    assert forgotten == [], "take `dry_run` (services/control/api/what_if.py), or say why no programme changes"
    assert [name(each) for each in sorted(EXEMPT) if each not in CHANGING] == []
    assert [name(each) for each in sorted(EXEMPT) if each in TRIED] == []
    assert sum(map(len, CHANGES_NO_PROGRAMME.values())) == len(EXEMPT)


def test_whoever_takes_a_dry_run_says_what_it_answers() -> None:
    document = routed().openapi()
    for operation in TRIED:
        answers = CHANGING[operation]["responses"]
        assert "OutlookView" in schemas_in(answers["200" if "200" in answers else "201"], document), name(operation)


def schemas_in(said: Any, document: dict[str, Any]) -> set[str]:
    """The names of all schemas that a part of the document leads to."""
    found: set[str] = set()
    left = [said]
    while left:
        match left.pop():
            case {"$ref": str() as reference}:
                schema = reference.rsplit("/", 1)[-1]
                if schema not in found:
                    found.add(schema)
                    left.append(document["components"]["schemas"][schema])
            case dict() as parts:
                left.extend(parts.values())
            case list() as parts:
                left.extend(parts)
    return found


# What asking leaves behind, whatever is asked: when a token was used last.
READ = {"api_tokens"}


async def everything(api: Api) -> dict[str, str]:
    """What stands in each table that control writes."""
    async with api.database.connection() as connection:
        found = await connection.fetch(
            """
            SELECT c.relname AS name
              FROM pg_class c
              JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE n.nspname = 'control' AND c.relkind = 'r'
             ORDER BY 1
            """
        )
        tables = {each["name"] for each in found} - READ
        return {
            table: await connection.fetchval(
                f"SELECT coalesce(md5(string_agg(t::text, '|' ORDER BY t::text)), '') FROM control.{table} t"
            )
            for table in tables
        }


async def a_request_that_plans(api: Api, unit: str) -> Ask:
    """What the example of confirming has is an alert; this changes what is planned."""
    await policy(api, unit, volume=1)
    await add_device(api, unit)
    operator = await api.person((Role.OPERATOR, "24"))
    path = f"/api/v1/units/{api.units[unit]}/volume"
    request = await asked(api, operator, path, body={"volume_percent": 70})
    return Ask(f"/api/v1/operation-requests/{request['request_id']}/confirm", {"json": {"digest": request["digest"]}})


async def an_example(api: Api, operation: Operation) -> Ask:
    if operation[1].endswith("/operation-requests/{request_id}/confirm"):
        return await a_request_that_plans(api, "11")
    return await EXAMPLES[operation](api, "11")


async def test_a_dry_run_answers_with_an_outlook_and_leaves_nothing_behind(api: Api) -> None:
    await api.person((Role.OFFICER, "24"))  # who makes what others decide on
    person = await api.person(*((role, "24") for role in Role))
    for operation in TRIED:
        wanted = await an_example(api, operation)
        before = await everything(api)
        params = {**wanted.send.get("params", {}), "dry_run": "true"}

        tried = await ask(api, operation[0], Ask(wanted.path, {**wanted.send, "params": params}), person)

        assert tried.is_success, f"{name(operation)}: {tried.text}"
        assert tried.json()["outlook"] is not None, name(operation)
        after = await everything(api)
        assert [table for table in before if after[table] != before[table]] == [], name(operation)


async def test_what_is_said_to_change_no_programme_asks_for_no_planning(api: Api) -> None:
    await api.person((Role.OFFICER, "24"))
    person = await api.person(*((role, "24") for role in Role))
    for operation in LEFT:
        wanted = await EXAMPLES[operation](api, "11")
        await api.execute("DELETE FROM control.planning_requests")

        answer = await ask(api, operation[0], wanted, person)

        assert answer.status_code == wanted.status, f"{name(operation)}: {answer.text}"
        assert await api.fetchval("SELECT count(*) FROM control.planning_requests") == 0, name(operation)
