"""The pages of alert templates: made, heard, changed and retired; and nothing typed is lost when one cannot be."""

from __future__ import annotations

import re
from typing import Any

import pytest

from services.control.permissions import Role
from tests.integration.control.api.test_api_pages import Page, get, log_in
from tests.integration.control.api.test_api_permissions import TEMPLATE_FORM
from tests.integration.control.api.test_deciding_pages import EVIL, hidden, html_of
from tests.integration.control.api.test_returned_forms import faults_in
from tests.support.control_api import Api
from tests.support.sensing import add_rule, add_template
from tests.support.sounds import tone

pytestmark = pytest.mark.integration

FORM = {
    **TEMPLATE_FORM,
    "name": "Xả lũ",
    "tone": "evacuate",
    "severity": "extreme",
    "headline-0": "Hồ xả lũ",
    "instruction-0": "Lên nơi cao.",
    "headline-1": "Dam release",
    "mute-1": "1",
    "repeat": "30",
    "validity": "1,5",
    "volume": "80",
}


def templates(api: Api, unit: str = "11") -> str:
    return f"/units/{api.units[unit]}/alert-templates"


async def post(api: Api, path: str, **form: Any) -> Any:
    html = await html_of(api, path.removesuffix("/retire"))
    carried = {name: hidden(html, name) for name in ("csrf_token", "version") if f'type="hidden" name="{name}"' in html}
    return await api.client.post(path, data={**carried, **form})


async def test_a_template_is_made_heard_changed_and_retired(api: Api) -> None:
    await log_in(api, (Role.OPERATOR, "11"))
    assert templates(api) in (await get(api, f"/units/{api.units['11']}")).links
    assert templates(api) in (await get(api, "/alerts")).links
    assert f"{templates(api)}/new" in (await get(api, templates(api))).links

    made = await post(api, f"{templates(api)}/new", **FORM)

    assert made.status_code == 303, made.text
    path = made.headers["location"]
    row = await api.fetchval(
        "SELECT (repeat_interval_s, validity_s, volume_percent)::text FROM control.alert_templates WHERE name = 'Xả lũ'"
    )
    assert row == "(30,90,80)"
    assert path in (await get(api, templates(api))).links
    html = await html_of(api, path)
    for words in ("Hồ xả lũ", "Lên nơi cao.", "Dam release", "Sơ tán", "80 %", "1 phút 30 giây"):
        assert words in Page(html).text, words
    sounds = re.findall(r'src="(/media/[0-9a-f]{64})"', html)
    assert len(sounds) == 1, "the second text is for boards only"
    assert (await api.client.get(sounds[0])).status_code == 200
    edit = await html_of(api, f"{path}/edit")
    assert [Page(edit).inputs[name]["value"] for name in ("name", "validity", "headline-1", "headline-2")] == [
        "Xả lũ",
        "1,5",
        "Dam release",
        "",
    ]
    assert 'name="mute-1" value="1" checked' in edit
    changed = await post(api, f"{path}/edit", **{**FORM, "headline-0": "Hồ đang xả lũ", "headline-1": ""})
    assert (changed.status_code, changed.headers["location"]) == (303, path), changed.text
    shown = (await get(api, path)).text
    assert "Hồ đang xả lũ" in shown
    assert "Dam release" not in shown, "a text of which nothing is left is taken out"
    stale = await post(api, f"{path}/edit", **{**FORM, "version": "1", "name": "Tên khác"})
    assert (stale.status_code, hidden(stale.text, "version")) == (409, "2")
    assert Page(stale.text).inputs["name"]["value"] == "Tên khác"
    assert (await post(api, f"{path}/retire", version="1")).status_code == 409
    assert (await post(api, f"{path}/retire")).status_code == 303
    assert "Ngừng dùng từ" in (await get(api, path)).text
    assert path not in (await get(api, templates(api))).links
    assert (await api.client.get(f"{path}/edit")).status_code == 409


async def test_what_cannot_be_a_template_comes_back_with_everything_typed(api: Api) -> None:
    await log_in(api, (Role.OPERATOR, "11"))
    path = f"{templates(api)}/new"
    wrong = {
        **FORM,
        "name": EVIL[:100],
        "severity": "awful",
        "validity": "lâu",
        "repeat": "0",
        "volume": "200",
        "language-1": "tiếng Anh",
        "description-1": "Một hồ chứa",
    }
    back = await post(api, path, **wrong)
    assert (back.status_code, faults_in(back.text)) == (
        422,
        {"severity", "validity", "repeat", "volume", "language-1"},
    )
    assert "<script>alert" not in back.text
    typed = Page(back.text).inputs
    assert [typed[name]["value"] for name in ("name", "validity", "repeat", "language-1")] == [
        EVIL[:100],
        "lâu",
        "0",
        "tiếng Anh",
    ]
    assert "Một hồ chứa" in back.text
    assert 'name="mute-1" value="1" checked' in back.text
    twice = await post(api, path, **{**FORM, "language-1": "vi"})
    assert faults_in(twice.text) == {"language-1"}
    # Of three the second is left out: what is wrong with the third is said at the third.
    gap = await post(api, path, **{**FORM, "headline-1": "", "language-2": "xx yy", "headline-2": "Ba"})
    assert faults_in(gap.text) == {"language-2"}
    nothing = await post(api, path, **{**FORM, "headline-0": "", "instruction-0": "", "headline-1": ""})
    assert faults_in(nothing.text) == {"texts"}
    assert await api.fetchval("SELECT count(*) FROM control.alert_templates") == 0


async def test_the_recorded_voice_of_a_template_stays_as_long_as_its_box_is_ticked(api: Api) -> None:
    operator = await api.person((Role.OPERATOR, "24"), (Role.OFFICER, "24"))
    uploaded = await api.client.post(
        "/api/v1/media",
        data={"unit_id": str(api.units["11"])},
        files={"file": ("giong.wav", tone("wav", seconds=3))},
        headers=operator,
    )
    sha256 = uploaded.json()["sha256"]
    made = await add_template(api, "11", texts=[{"headline": "Sơ tán", "recording_sha256": sha256}])
    path = f"/alert-templates/{made['template_id']}/edit"
    recordings = "SELECT encode(recording_sha256, 'hex') FROM control.alert_template_texts"
    await log_in(api, (Role.OPERATOR, "11"))
    assert f'name="recording-0" value="{sha256}" checked' in await html_of(api, path)
    kept = await post(api, path, **{**FORM, "headline-1": "", "recording-0": sha256})
    assert (kept.status_code, await api.fetchval(recordings)) == (303, sha256), kept.text
    unknown = await post(api, path, **{**FORM, "headline-1": "", "recording-0": "0" * 64})
    assert (unknown.status_code, faults_in(unknown.text)) == (422, {"headline-0"})
    spoken = await post(api, path, **{**FORM, "headline-1": ""})
    assert (spoken.status_code, await api.fetchval(recordings)) == (303, None)


async def test_a_template_that_a_rule_proposes_is_not_retired_and_the_page_says_why(api: Api) -> None:
    made = await add_template(api, "11")
    await add_rule(api, "11", template_id=made["template_id"], name="Mực nước sông Thương")
    await log_in(api, (Role.OPERATOR, "11"))
    refused = await post(api, f"/alert-templates/{made['template_id']}/retire")
    assert refused.status_code == 409
    assert "Mực nước sông Thương" in refused.text


async def test_templates_from_above_are_heard_and_left_alone(api: Api) -> None:
    made = await add_template(api, "24")
    await log_in(api, (Role.OPERATOR, "11"))
    path = f"/alert-templates/{made['template_id']}"
    assert path in (await get(api, templates(api))).links
    assert f"{path}/edit" not in (await get(api, path)).links
    assert (await api.client.get(f"{path}/edit")).status_code == 403
