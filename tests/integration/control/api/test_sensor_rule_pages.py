"""The pages of sensor rules: made, tried, changed, retired; and released without asking where two officers allow it."""

from __future__ import annotations

from typing import Any

import pytest

from services.control.permissions import Role
from tests.integration.control.api.test_api_pages import Page, get, log_in
from tests.integration.control.api.test_deciding_pages import EVIL, hidden, html_of
from tests.integration.control.api.test_returned_forms import faults_in
from tests.support.control_api import Api, add_device
from tests.support.device_keys import certify
from tests.support.people import Person, somebody
from tests.support.sensing import a_watcher, add_readings, add_rule, add_template, watched

pytestmark = pytest.mark.integration


def rule_form(sensor: str, **changes: Any) -> dict[str, Any]:
    return {
        "name": "Mực nước sông",
        "quantity": "water_level",
        "direction": "above",
        "raise_at": "4,0",
        "clear_at": "3.5",
        "hold": "2",
        "silent_after": "5",
        "quorum": "1",
        "severity": "severe",
        "template_id": "",
        "sensors": [sensor],
        "others": "",
        "cool_down": "60",
        "open_for": "60",
        "enabled": "1",
        "do": "save",
        **changes,
    }


async def post(api: Api, path: str, **form: Any) -> Any:
    html = await html_of(api, path)
    carried = {name: hidden(html, name) for name in ("csrf_token", "version") if f'type="hidden" name="{name}"' in html}
    return await api.client.post(path, data={**carried, **form})


async def test_a_rule_is_tried_made_changed_and_retired(api: Api) -> None:
    sensor = await add_device(api, "11", "sensor")
    await add_readings(api, sensor, 3.0, 4.1, 4.2, 4.3, 3.0, 3.0, 3.0)
    template = await add_template(api, "11")
    await log_in(api, (Role.OPERATOR, "11"))
    rules = f"/units/{api.units['11']}/sensor-rules"
    assert rules in (await get(api, f"/units/{api.units['11']}")).links
    assert f"{rules}/new" in (await get(api, rules)).links
    wanted = rule_form(sensor, template_id=template["template_id"])
    tried = await post(api, f"{rules}/new", **{**wanted, "do": "try"})
    assert tried.status_code == 200, tried.text
    for words in ("7 số đo của 1 cảm biến", "Vượt ngưỡng", "4,3 m"):
        assert words in Page(tried.text).text, words
    assert await api.fetchval("SELECT count(*) FROM control.sensor_rules") == 0
    made = await post(api, f"{rules}/new", **wanted)
    path = made.headers["location"]
    assert made.status_code == 303
    await watched(api, a_watcher(api))
    shown = await get(api, path)
    for words in (
        "Mực nước từ 4 m trở lên, liên tục 2 phút",
        "Mực nước từ 3,5 m trở xuống",
        "Lũ khẩn cấp",
        sensor,
        "Chưa ai cho phép",
    ):
        assert words in shown.text, words
    assert path in (await get(api, rules)).links
    edit = await html_of(api, f"{path}/edit")
    assert Page(edit).inputs["raise_at"]["value"] == "4"
    assert Page(edit).inputs["clear_at"]["value"] == "3,5"
    assert f'name="sensors" value="{sensor}" checked' in edit
    changed = await post(api, f"{path}/edit", **{**wanted, "raise_at": "4,75", "sensors": [], "others": sensor})
    assert (changed.status_code, changed.headers["location"]) == (303, path), changed.text
    assert "từ 4,75 m trở lên" in (await get(api, path)).text
    token = hidden(await html_of(api, path), "csrf_token")
    stale = await api.client.post(f"{path}/retire", data={"csrf_token": token, "version": "1"})
    assert stale.status_code == 409
    gone = await api.client.post(f"{path}/retire", data={"csrf_token": token, "version": "2"})
    assert gone.status_code == 303
    assert "Đã ngừng dùng" in (await get(api, path)).text
    assert f"{path}/edit" not in (await get(api, path)).links
    assert (await api.client.get(f"{path}/edit")).status_code == 409
    assert path not in (await get(api, rules)).links


async def test_what_cannot_be_a_rule_comes_back_with_everything_typed(api: Api) -> None:
    sensor = await add_device(api, "11", "sensor")
    await log_in(api, (Role.OPERATOR, "11"))
    path = f"/units/{api.units['11']}/sensor-rules/new"
    wrong = rule_form(
        sensor, name=EVIL[:100], raise_at="bốn mét", hold="lâu", quorum="x", others="cum khac", direction="sideways"
    )
    back = await post(api, path, **wrong)
    assert back.status_code == 422
    assert faults_in(back.text) >= {"raise_at", "hold", "quorum", "direction"}
    assert "<script>alert" not in back.text
    typed = Page(back.text).inputs
    assert [typed[name]["value"] for name in ("name", "raise_at", "hold", "quorum")] == [
        EVIL[:100],
        "bốn mét",
        "lâu",
        "x",
    ]
    assert "cum khac" in back.text
    assert f'name="sensors" value="{sensor}" checked' in back.text
    flapping = await post(api, path, **rule_form(sensor, clear_at="5"))
    assert faults_in(flapping.text) == {"clear_at"}
    nobody = await post(api, path, **rule_form(sensor, sensors=[]))
    assert faults_in(nobody.text) == {"sensor_units"}
    assert await api.fetchval("SELECT count(*) FROM control.sensor_rules") == 0
    rule = await add_rule(api, "11", sensor=sensor)
    stale = await post(
        api, f"/sensor-rules/{rule['sensor_rule_id']}/edit", **rule_form(sensor, version="7", name="Tên mới")
    )
    assert (stale.status_code, hidden(stale.text, "version")) == (409, "1")
    assert Page(stale.text).inputs["name"]["value"] == "Tên mới"


async def test_two_officers_let_the_platform_release_and_one_alone_does_not(api: Api) -> None:
    template = await add_template(api, "11")
    rule = await add_rule(api, "11", template_id=template["template_id"])
    path = f"/sensor-rules/{rule['sensor_rule_id']}"
    first, second = await somebody(api, unit="11"), await somebody(api, unit="11")
    for each in (first, second):
        each.csrf = (await each.again()).csrf
        await each.enrol()

    async def say(officer: Person, **form: Any) -> Any:
        await officer.again()
        html = await html_of(api, path)
        carried = {name: hidden(html, name) for name in ("csrf_token", "version")}
        api.clock.forward(seconds=31)  # a code counts once
        return await api.client.post(f"{path}/authorisation", data={**carried, "code": officer.code(), **form})

    for form, place in (
        ({"until": "2028-01-01"}, "expires_at"),
        ({"until": "mai"}, "expires_at"),
        ({"code": "000000"}, "code"),
    ):
        refused = await say(first, do="ask", **{"until": "2026-06-30", **form})
        assert (refused.status_code, faults_in(refused.text)) == (422, {place}), form
    asked = await say(first, do="ask", until="2026-06-30")
    assert asked.status_code == 303, asked.text
    own = await get(api, path)
    assert "Chờ người thứ hai" in own.text
    assert "cần một cán bộ khác" in own.text
    assert (await say(first, do="confirm")).status_code == 403, "never one's own"
    confirmed = await say(second, do="confirm")
    assert confirmed.status_code == 303, confirmed.text
    text = (await get(api, path)).text
    for words in (
        "ký số đo: 0 trên 0; cần 1",
        "Chưa đủ",
        "ĐANG CHO PHÉP TỰ PHÁT",
        first.login.title(),
        second.login.title(),
        "01/07/2026",
    ):
        assert words in text, words
    async with api.database.connection() as connection:
        key = await certify(connection, rule["sensors"][0], now=api.clock.now)
    await add_readings(api, rule["sensors"][0], 1.0, key=key)
    await watched(api, a_watcher(api))
    text = (await get(api, path)).text
    assert "ký số đo: 1 trên 1; cần 1" in text
    assert "Chưa đủ" not in text
    assert (await say(first, do="end")).status_code == 303
    assert "Chưa ai cho phép" in (await get(api, path)).text


async def test_who_may_only_look_is_led_nowhere_else(api: Api) -> None:
    rule = await add_rule(api, "11")
    rules, path = f"/units/{api.units['11']}/sensor-rules", f"/sensor-rules/{rule['sensor_rule_id']}"
    await log_in(api, (Role.VIEWER, "11"))
    for page in (rules, path):
        assert not any("/new" in link or "/edit" in link for link in (await get(api, page)).links)
        assert "<form class" not in await html_of(api, page)
    for refused in (f"{rules}/new", f"{path}/edit"):
        assert (await api.client.get(refused)).status_code == 403
    await log_in(api, (Role.OPERATOR, "12"))
    assert (await api.client.get(path)).status_code == 403
    await log_in(api, (Role.OPERATOR, "11"))
    for language in ("vi", "en"):
        for page in (rules, path, f"{rules}/new", f"{path}/edit"):
            Page(await html_of(api, page, lang=language))
