"""Nonsense in every field of the forms of emergencies: never an error of ours, always a page, and nothing is said."""

from __future__ import annotations

from typing import Any

import pytest

from services.control.permissions import Role
from tests.integration.control.api.test_alert_pages import issued_in_commune
from tests.integration.control.api.test_alert_test_pages import SAVED
from tests.integration.control.api.test_api_pages import log_in
from tests.integration.control.api.test_api_permissions import TEMPLATE_FORM
from tests.integration.control.api.test_change_pages import WORDS
from tests.integration.control.api.test_deciding_pages import hidden, html_of
from tests.integration.control.api.test_sensor_rule_pages import rule_form
from tests.support.control_api import Api, add_device
from tests.support.sensing import add_rule, add_template, lay_proposal

pytestmark = pytest.mark.integration

NONSENSE = ("a\x00b", "x" * 30_000, "-1", "9" * 12, "9999-12-31", "0001-01-01T00:00", "{{ 7*7 }}")


async def test_nonsense_in_a_form_is_answered_with_a_page(api: Api) -> None:
    await add_device(api, "11")
    sensor = await add_device(api, "11", "sensor")
    template = await add_template(api, "11")
    rule = await add_rule(api, "11", sensor=sensor, template_id=template["template_id"])
    await log_in(api, (Role.OPERATOR, "11"), (Role.ADMINISTRATOR, "11"))
    alert = await issued_in_commune(api)
    path, unit = f"/sensor-rules/{rule['sensor_rule_id']}", f"/units/{api.units['11']}"
    forms: tuple[tuple[str, str, dict[str, Any]], ...] = (
        (f"{unit}/sensor-rules/new", "", rule_form(sensor, do="try", sensor_units=[], alert_units=[])),
        (path, "/authorisation", {"do": "ask", "until": "2026-06-30", "code": "123456"}),
        (f"{unit}/alert-tests", "", {**SAVED, "audible_template_id": ""}),
        (f"{unit}/alert-templates/new", "", {**TEMPLATE_FORM, "mute-0": "1", "recording-0": "0" * 64, "spoken-0": ""}),
        (f"{unit}/cap-senders", "", {"do": "trust", "sender": "x", "account_id": "", "of": "", "code": ""}),
        (f"{unit}/cap-senders", "", {"do": "remove", "sender": "x", "of": "", "code": ""}),
        (f"{alert}/change", "", {**WORDS, "do": "review"}),
        (
            f"/alerts/proposals/{await lay_proposal(api, '11')}",
            "",
            {"do": "refuse", "reason": " ", "alone": "", "code": ""},
        ),
    )
    for page, suffix, form in forms:
        html = await html_of(api, page)
        carried = {name: hidden(html, name) for name in ("csrf_token", "version", "key") if f'name="{name}"' in html}
        for field in (*form, *(carried.keys() - {"csrf_token"})):
            for nonsense in NONSENSE:
                response = await api.client.post(page + suffix, data={**carried, **form, field: nonsense})
                assert response.status_code < 500, f"{page} {field} = {nonsense[:20]!r}: {response.text}"
                assert response.headers.get("content-type", "text/html").startswith("text/html")
    assert await api.fetchval("SELECT count(*) FROM control.alerts WHERE state = 'in_force'") == 1
    assert await api.fetchval("SELECT max(version) FROM control.alerts") == 1
