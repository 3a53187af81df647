"""The pages of test alerts: the timetable of a unit, a test now, what tests came to, and which devices fail."""

from __future__ import annotations

from typing import Any

import pytest

from services.control.permissions import Role
from tests.integration.control.api.test_alert_pages import alerts_in
from tests.integration.control.api.test_api_alert_tests import a_policy, a_result, a_tone
from tests.integration.control.api.test_api_pages import Page, get, log_in
from tests.integration.control.api.test_deciding_pages import hidden, html_of
from tests.integration.control.api.test_returned_forms import faults_in
from tests.support.control_api import Api, add_device

pytestmark = pytest.mark.integration

SAVED: dict[str, Any] = {
    "do": "save",
    "silent": "on",
    "silent_at": "09:30",
    "silent_days": ["1", "3"],
    "audible": "",
    "audible_at": "17:00",
    "audible_days": ["1"],
}


async def post(api: Api, path: str, **form: Any) -> Any:
    html = await html_of(api, path)
    carried = {name: hidden(html, name) for name in ("csrf_token", "version", "key")}
    return await api.client.post(path, data={**carried, **form})


async def test_the_timetable_says_what_holds_and_is_saved_as_it_was_read(api: Api) -> None:
    await log_in(api, (Role.OPERATOR, "1"))
    district, commune = (f"/units/{api.units[code]}/alert-tests" for code in ("1", "11"))
    assert district in (await get(api, f"/units/{api.units['1']}")).links
    assert district in (await get(api, "/alerts")).links
    before = await get(api, district)
    for words in ("10:00, hằng ngày", "lần tới: 10:00", "mặc định của hệ thống", "Không kiểm tra"):
        assert words in before.text, words
    saved = await post(api, district, **SAVED)
    assert (saved.status_code, saved.headers["location"]) == (303, district), saved.text
    after = await get(api, district)
    assert "09:30, thứ Hai và thứ Tư" in after.text
    assert after.inputs["silent_at"]["value"] == "09:30"
    assert "theo Huyện Bắc" in (await get(api, commune)).text
    stale = await post(api, district, **{**SAVED, "version": "0", "silent_at": "11:15"})
    assert (stale.status_code, hidden(stale.text, "version")) == (409, "1")
    assert Page(stale.text).inputs["silent_at"]["value"] == "11:15"
    off = await post(api, commune, **{**SAVED, "silent": "off"})
    assert off.status_code == 303
    assert "theo đơn vị này" in (await get(api, commune)).text


async def test_what_cannot_be_a_timetable_comes_back_and_changes_nothing(api: Api) -> None:
    await log_in(api, (Role.OPERATOR, "1"))
    await a_policy(api, "24", quiet=[{"begin": "21:00", "end": "05:00"}])
    path = f"/units/{api.units['1']}/alert-tests"
    wrong = {"silent_at": "25:00", "silent_days": [], "audible": "on", "audible_at": "lúc tối", "audible_days": ["9"]}
    back = await post(api, path, **{**SAVED, **wrong})
    assert (back.status_code, faults_in(back.text)) == (
        422,
        {"silent_at", "silent_days", "audible_at", "audible_days"},
    )
    assert Page(back.text).inputs["audible_at"]["value"] == "lúc tối"
    at_night = await post(api, path, **{**SAVED, "audible": "on", "audible_at": "22:00"})
    assert (at_night.status_code, faults_in(at_night.text)) == (422, {"audible_at"})
    assert await api.fetchval("SELECT count(*) FROM control.alert_timetables WHERE version > 0") == 0


async def test_a_test_now_goes_out_once_and_one_that_sounds_keeps_to_the_hours(api: Api) -> None:
    await add_device(api, "11")
    await log_in(api, (Role.OPERATOR, "11"))
    await a_tone(api)
    path = f"/units/{api.units['11']}/alert-tests"
    form = {name: hidden(await html_of(api, path), name) for name in ("csrf_token", "key")}
    twice = [await api.client.post(path, data={**form, "do": "run_silent"}) for _ in range(2)]
    assert [each.status_code for each in twice] == [303, 303]
    assert (twice[0].headers["location"] == twice[1].headers["location"], await alerts_in(api)) == (True, 1)
    running = await get(api, twice[0].headers["location"])
    results = f"{twice[0].headers['location']}/test-results"
    assert results in running.links
    assert "Chưa tổng kết" in (await get(api, results)).text
    assert "Đang kiểm tra" in (await get(api, path)).text
    await a_policy(api, "11", quiet=[{"begin": "08:00", "end": "10:00"}])
    quiet = await post(api, path, do="run_audible")
    assert (quiet.status_code, faults_in(quiet.text), await alerts_in(api)) == (422, {"purpose"}, 1)


async def test_results_trend_and_devices_that_fail(api: Api) -> None:
    await log_in(api, (Role.OPERATOR, "11"))
    device = await add_device(api, "11")
    await a_result(api, device, "failed", days_ago=3)
    test = await a_result(api, device, "failed", days_ago=2)
    await a_result(api, await add_device(api, "12"), "failed", days_ago=2)
    path = f"/units/{api.units['11']}/alert-tests"
    page = await get(api, path)
    for words in ("Thiết bị trượt kiểm tra liên tiếp (1)", device, "Có kết nối nhưng không trả lời", "0,0%"):
        assert words in page.text, words
    assert f"/alerts/{test}/test-results" in page.links
    found = await get(api, f"/alerts/{test}/test-results")
    assert f"{device} Xã Đại Sơn Không đạt" in found.text
    assert device not in (await get(api, f"/alerts/{test}/test-results", outcome="passed")).text
    history = await get(api, f"/devices/{device}/alert-tests")
    assert history.text.count("Không đạt") == 2
    assert f"/devices/{device}/alert-tests" in (await get(api, f"/devices/{device}")).links
    for language in ("vi", "en"):
        for each in (path, f"/alerts/{test}/test-results", f"/devices/{device}/alert-tests"):
            Page(await html_of(api, each, lang=language))
    await log_in(api, (Role.VIEWER, "11"))
    assert "<form class" not in await html_of(api, path)
    assert (await api.client.post(path, data={"do": "save"})).status_code == 403
