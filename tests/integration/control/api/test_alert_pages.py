"""The pages of emergencies: said from a template, watched, ended, stopped; and the kill switch with its return."""

from __future__ import annotations

import base64
import re
import uuid
from datetime import timedelta
from html import unescape
from typing import Any

import pytest

from services.control.alerting.keeper import AlertKeeper
from services.control.permissions import Role
from services.control.trust import totp
from tests.integration.control.api.test_api_pages import Page, get, log_in
from tests.integration.control.api.test_deciding_pages import EVIL, hidden, html_of, set_policy
from tests.support.control import some_metrics
from tests.support.control_api import PASSWORD, ZONE, Api, add_device, add_media, heard
from tests.support.people import somebody

pytestmark = pytest.mark.integration


async def add_template(api: Api, unit: str = "24", **changes: Any) -> str:
    """A template with a sound of its own, written directly: how one is rendered is tried elsewhere."""
    template_id = uuid.uuid4()
    values = {"name": "Lũ quét", "headline": "Lũ khẩn cấp", "severity": "extreme", **changes}
    await api.execute(
        """
        INSERT INTO control.alert_templates
               (template_id, unit_id, name, purpose, event, category, urgency, severity, certainty, tone,
                repeat_interval_s, validity_s, volume_percent, resume, place, created_at, created_by, changed_at, changed_by)
        SELECT $1, $2, $3, 'alert', 'Lũ', 'met', 'immediate', $4, 'observed', 'warning', 60, 21600, NULL, 'resume', 0,
               $5, account_id, $5, account_id
          FROM control.accounts
         LIMIT 1
        """,
        template_id,
        api.units[unit],
        values["name"],
        values["severity"],
        api.clock.now,
    )
    await api.execute(
        """
        INSERT INTO control.alert_template_texts
               (template_id, position, language, headline, description, instruction, board_text, media_sha256)
        VALUES ($1, 0, 'vi', $2, 'Nước sông lên nhanh.', 'Lên chỗ cao ngay.', 'LŨ: LÊN CHỖ CAO', $3)
        """,
        template_id,
        values["headline"],
        bytes.fromhex(await add_media(api)),
    )
    return str(template_id)


async def send(api: Api, path: str, html: str, **form: Any) -> Any:
    """The form of a page with what it carries, and what is typed into it besides."""
    carried: dict[str, Any] = {
        name: unescape(hidden(html, name))
        for name in ("csrf_token", "key", "unit", "template", "template_version", "version", "digest", "breaks")
        if f'name="{name}" value="' in html
    }
    if "where" not in form and 'type="hidden" name="where"' in html:
        carried["where"] = re.findall(r'type="hidden" name="where" value="([^"]*)"', html)
    return await api.client.post(path, data={**carried, **form})


async def review(api: Api, template_id: str, **form: Any) -> str:
    html = await html_of(api, "/alerts/new", template=template_id)
    response = await send(api, "/alerts/new", html, **(form or {"whole": "1"}))
    assert response.status_code == 200, response.text
    text: str = response.text
    Page(text)
    return text


async def issued(api: Api, template_id: str, **form: Any) -> str:
    html = await review(api, template_id, **form)
    response = await send(api, "/alerts/new", html, do="go")
    assert response.status_code == 303, response.text
    location: str = response.headers["location"]
    assert location.startswith("/alerts/")
    return location


async def alerts_in(api: Api, state: str = "in_force") -> int:
    count: int = await api.fetchval("SELECT count(*) FROM control.alerts WHERE state = $1", state)
    return count


# --- saying one ------------------------------------------------------------------------------------------------------


async def test_an_emergency_is_said_in_four_steps(api: Api) -> None:
    for unit in ("11", "12"):
        await heard(api, await add_device(api, unit))
    await add_device(api, "11", kind="board")
    await log_in(api, (Role.OPERATOR, "24"))
    template_id = await add_template(api)
    assert "/alerts" in (await get(api, f"/units/{api.units['24']}")).links
    page = await get(api, "/alerts")
    assert "Không có cảnh báo nào đang hiệu lực" in page.text
    assert "/alerts/new" in page.links
    choice = await get(api, "/alerts/new")
    assert "Lũ quét" in choice.text
    assert any(template_id in link for link in choice.links)
    html = await review(api, template_id)
    text = Page(html).text
    for words in (
        "Chưa phát",
        "Tỉnh Thử Nghiệm",
        "3 thiết bị: 2 cụm loa, 1 bảng tin",
        "2 đang kết nối",
        "PHÁT NGAY tới 3 thiết bị",
        "Lũ khẩn cấp",
        "Lên chỗ cao ngay.",
        "LŨ: LÊN CHỖ CAO",
        "lặp lại sau mỗi 1 phút",
        "15:00",
    ):
        assert words in text, words
    assert await alerts_in(api) == 0
    done = await send(api, "/alerts/new", html, do="go")
    assert done.status_code == 303, done.text
    row = await api.fetchval("SELECT headline FROM control.alerts")
    assert row == "Lũ khẩn cấp"
    assert await api.fetchval("SELECT count(*) FROM control.audit WHERE action = 'alert_issued'") == 1
    assert await api.fetchval("SELECT count(*) FROM control.outbox WHERE kind = 'alert'") == 1
    standing = await get(api, "/alerts")
    assert done.headers["location"] in standing.links
    assert "Đang hiệu lực (1)" in standing.text


async def test_units_below_are_chosen_and_named(api: Api) -> None:
    for unit in ("11", "12", "21"):
        await add_device(api, unit)
    await log_in(api, (Role.OPERATOR, "24"))
    template_id = await add_template(api)
    where = [str(api.units[code]) for code in ("11", "21")]
    html = await review(api, template_id, do="review", where=where)
    text = Page(html).text
    assert "Xã Đại Sơn, Xã Tân Tiến" in text
    assert "2 thiết bị" in text
    assert (await send(api, "/alerts/new", html, do="go")).status_code == 303
    units = await api.fetchval("SELECT unit_ids FROM control.alerts")
    assert set(units) == {api.units["11"], api.units["21"]}


async def test_a_commune_has_nothing_to_choose_and_a_button_pressed_twice_speaks_once(api: Api) -> None:
    await add_device(api, "11")
    await log_in(api, (Role.OPERATOR, "11"))
    template_id = await add_template(api)
    html = await html_of(api, "/alerts/new", template=template_id)
    assert "PHÁT NGAY tới 1 thiết bị" in Page(html).text
    first, second = [await send(api, "/alerts/new", html, do="go") for _ in range(2)]
    assert (first.status_code, second.status_code) == (303, 303)
    assert first.headers["location"] == second.headers["location"]
    assert await alerts_in(api) == 1


async def test_a_template_that_has_changed_meanwhile_is_looked_at_again(api: Api) -> None:
    await add_device(api, "11")
    await log_in(api, (Role.OPERATOR, "11"))
    template_id = await add_template(api)
    html = await html_of(api, "/alerts/new", template=template_id)
    await api.execute("UPDATE control.alert_templates SET version = version + 1")
    late = await send(api, "/alerts/new", html, do="go")
    assert (late.status_code, await alerts_in(api)) == (409, 0)
    assert "vừa được người khác thay đổi" in Page(late.text).text
    assert (await send(api, "/alerts/new", late.text, do="go")).status_code == 303


async def test_with_a_second_factor_its_code_is_asked_for(api: Api) -> None:
    await add_device(api, "11")
    account = await api.account((Role.OPERATOR, "11"))
    await api.client.post("/login", data={"login": account.login, "password": PASSWORD})
    template_id = await add_template(api)
    token = hidden(await html_of(api, "/account"), "csrf_token")
    begun = await api.client.post("/account/second-factor", data={"csrf_token": token, "password": PASSWORD})
    secret = hidden(begun.text, "secret")
    form = {"csrf_token": token, "secret": secret, "address": unescape(hidden(begun.text, "address"))}
    wrong = await api.client.post("/account/second-factor/confirm", data={**form, "code": "000000"})
    assert wrong.status_code == 422
    assert hidden(wrong.text, "secret") == secret
    assert wrong.text.count('<svg class="qr"') == 1
    code = code_of(api, secret)
    confirmed = await api.client.post("/account/second-factor/confirm", data={**form, "code": code})
    assert confirmed.status_code == 200, confirmed.text
    assert len(re.findall(r"<li><code>", confirmed.text)) >= 8
    # The session has just shown it; ten minutes later it has not.
    api.clock.forward(minutes=11)
    html = await html_of(api, "/alerts/new", template=template_id)
    assert "code" in Page(html).inputs
    without = await send(api, "/alerts/new", html, do="go")
    assert (without.status_code, await alerts_in(api)) == (403, 0)
    bad = await send(api, "/alerts/new", without.text, do="go", code="000000")
    assert (bad.status_code, await alerts_in(api)) == (422, 0)
    assert 'data-place="code"' in bad.text
    good = await send(api, "/alerts/new", bad.text, do="go", code=code_of(api, secret))
    assert (good.status_code, await alerts_in(api)) == (303, 1), good.text


def code_of(api: Api, secret: str) -> str:
    """What the app shows now."""
    return totp.code_at(base64.b32decode(secret + "=" * (-len(secret) % 8)), totp.step_at(api.clock.now))


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ({"template": "nonsense"}, 422),
        ({"template": "00000000-0000-4000-8000-000000000000"}, 404),
        ({"template": ""}, 404),
        ({"unit": "nonsense"}, 422),
        ({"where": "nonsense"}, 422),
        ({"template_version": "7"}, 409),
        ({"key": "không phải khóa"}, 422),
        ({"where": "00000000-0000-4000-8000-000000000000"}, 403),
    ],
)
async def test_what_cannot_be_is_refused_and_nothing_is_said(api: Api, form: dict[str, str], status: int) -> None:
    await add_device(api, "11")
    await log_in(api, (Role.OPERATOR, "11"))
    html = await html_of(api, "/alerts/new", template=await add_template(api))
    response = await send(api, "/alerts/new", html, **{"do": "go", **form})
    assert response.status_code == status, response.text
    Page(response.text)
    assert await alerts_in(api) == 0


async def test_who_may_not_speak_is_not_led_there_and_ground_of_others_is_refused_on_record(api: Api) -> None:
    await add_device(api, "12")
    await log_in(api, (Role.VIEWER, "11"))
    template_id = await add_template(api)
    assert "/alerts/new" not in (await get(api, "/alerts")).links
    assert (await api.client.get("/alerts/new")).status_code == 403
    await log_in(api, (Role.OPERATOR, "11"))
    html = await html_of(api, "/alerts/new", template=template_id)
    other = str(api.units["12"])
    assert (await api.client.get("/alerts/new", params={"unit": other})).status_code == 403
    refused = await send(api, "/alerts/new", html, do="go", unit=other, where=[other])
    assert (refused.status_code, await alerts_in(api)) == (403, 0)
    assert await api.fetchval("SELECT count(*) FROM control.audit WHERE action LIKE 'alert_issue%refused'") == 1


# --- watching and ending ---------------------------------------------------------------------------------------------


async def issued_in_commune(api: Api) -> str:
    html = await html_of(api, "/alerts/new", template=await add_template(api))
    response = await send(api, "/alerts/new", html, do="go")
    assert response.status_code == 303, response.text
    location: str = response.headers["location"]
    return location


async def test_the_page_says_whom_it_did_not_reach_and_what_to_do(api: Api) -> None:
    silent, loud = await add_device(api, "11"), await add_device(api, "11")
    await log_in(api, (Role.OPERATOR, "11"))
    path = await issued_in_commune(api)
    before = await get(api, path)
    assert "chưa đếm xong" in before.text
    keeper = AlertKeeper(
        api.database,
        time_zone=ZONE,
        keyring=api.services.keyring,
        metrics=some_metrics(),
        wake_alerts=lambda: None,
    )
    await keeper.keep_once(now=api.clock.now)
    await api.execute(
        """
        UPDATE control.alert_reach
           SET starts = 2, first_start_at = $2, start_told_by = 'device', told = 'taken', told_by = 'device'
         WHERE device_no = (SELECT device_no FROM control.devices WHERE device_id = $1)
        """,
        loud,
        api.clock.now + timedelta(seconds=1),
    )
    page = await get(api, path)
    for words in (
        "1/2 đã phát",
        "0 xác nhận bằng chữ ký của thiết bị",
        "1 chưa phát",
        "Chưa từng kết nối",
        "Báo bằng cách khác; kiểm tra việc lắp đặt.",
        f"{silent} Xã Đại Sơn",
        "Phiên bản 1",
    ):
        assert words in page.text, words
    assert f"{loud} Xã Đại Sơn" not in page.text, "those that somebody has to do something about come first"
    assert f"{path}/end" in page.links
    signed = "UPDATE control.alert_reach SET signed_start_at = first_start_at WHERE first_start_at IS NOT NULL"
    await api.execute(signed)
    assert "1 xác nhận bằng chữ ký của thiết bị" in (await get(api, path)).text
    reached = await get(api, path, reason="reached")
    assert f"{loud} Xã Đại Sơn" in reached.text
    assert (await api.client.get(path, params={"reason": "nonsense"})).status_code == 422


async def test_an_alert_is_ended_after_a_look_and_only_as_it_was_shown(api: Api) -> None:
    await add_device(api, "11")
    await log_in(api, (Role.OPERATOR, "11"))
    path = await issued_in_commune(api)
    html = await html_of(api, f"{path}/end")
    assert "Kết thúc: Lũ khẩn cấp" in Page(html).text
    stale = await send(api, f"{path}/end", html, version="7")
    assert (stale.status_code, await alerts_in(api)) == (409, 1)
    done = await send(api, f"{path}/end", html)
    assert (done.status_code, done.headers["location"]) == (303, path)
    assert await alerts_in(api, "cancelled") == 1
    page = await get(api, path)
    assert "Đã kết thúc" in page.text
    assert f"{path}/end" not in page.links
    assert (await send(api, f"{path}/end", html)).status_code == 409
    assert "Đã kết thúc" in (await get(api, "/alerts")).text


async def test_a_commune_stops_what_comes_from_above_where_it_may(api: Api) -> None:
    for unit in ("11", "12"):
        await add_device(api, unit)
    await log_in(api, (Role.OPERATOR, "24"))
    path = await issued(api, await add_template(api))
    await log_in(api, (Role.OPERATOR, "11"))
    unit = str(api.units["11"])
    assert not any("/end" in link for link in (await get(api, path)).links)
    assert (await api.client.get(f"{path}/end")).status_code == 403
    html = await html_of(api, f"{path}/end", unit=unit)
    assert (await send(api, f"{path}/end", html)).status_code == 403, "policy does not let it"
    await set_policy(api, "24", may_stop_alerts_from_above=True)
    await log_in(api, (Role.OPERATOR, "11"))
    assert f"{path}/end?unit={unit}" in (await get(api, path)).links
    html = await html_of(api, f"{path}/end", unit=unit)
    assert "Dừng tại Xã Đại Sơn" in Page(html).text
    assert (await send(api, f"{path}/end", html)).status_code == 303
    assert "Đã dừng trên địa bàn: Xã Đại Sơn" in (await get(api, path)).text
    assert await alerts_in(api) == 1


async def test_what_sounds_elsewhere_is_as_if_it_were_not_there(api: Api) -> None:
    await add_device(api, "11")
    await log_in(api, (Role.OPERATOR, "11"))
    path = await issued_in_commune(api)
    await log_in(api, (Role.OPERATOR, "12"))
    assert (await api.client.get(path)).status_code == 404
    assert path not in (await get(api, "/alerts")).links
    for nothing in (f"/alerts/{uuid.uuid4()}", "/alerts/nonsense", f"/alerts/{uuid.uuid4()}/end"):
        assert (await api.client.get(nothing)).status_code in (404, 422)


# --- the kill switch -------------------------------------------------------------------------------------------------


async def test_devices_are_silenced_and_let_go_unit_by_unit(api: Api) -> None:
    for unit in ("11", "12"):
        await add_device(api, unit)
    await log_in(api, (Role.OPERATOR, "1"))
    html = await html_of(api, "/alerts/silence")
    looked = await send(api, "/alerts/silence", html, reason="Bị chiếm quyền", whole="1")
    text = Page(looked.text).text
    assert looked.status_code == 200
    for words in ("Chưa tắt", "Huyện Bắc", "TẮT TIẾNG 2 thiết bị"):
        assert words in text, words
    assert await alerts_in(api) == 0
    nothing = await send(api, "/alerts/silence", looked.text, reason="", do="go")
    assert (nothing.status_code, await alerts_in(api)) == (422, 0)
    assert 'data-place="reason"' in nothing.text
    done = await send(api, "/alerts/silence", nothing.text, reason="Bị chiếm quyền", do="go")
    assert (done.status_code, await alerts_in(api)) == (303, 1), done.text
    path = done.headers["location"]
    page = await get(api, path)
    assert f"{path}/release" in page.links
    await api.execute("UPDATE control.alerts SET resolved_at = now()")
    await api.execute(
        """
        INSERT INTO control.alert_reach (alert_id, device_no, unit_id, told_version, told, told_by)
        SELECT a.alert_id, d.device_no, d.unit_id, 1, 'silenced', CASE row_number() OVER () WHEN 1 THEN 'device' ELSE 'gateway' END
          FROM control.alerts a CROSS JOIN control.devices d
        """
    )
    # Of a silence it is said that something is silent, not that it sounded.
    text = (await get(api, path)).text
    for words in ("Đã tắt tiếng", "Chỉ có cổng kết nối báo đã tắt tiếng", "Thiết bị chưa tắt tiếng"):
        assert words in text, words
    assert "Đã phát đúng lúc" not in text
    html = await html_of(api, f"{path}/release")
    none = await send(api, f"{path}/release", html, do="some", note="Đã kiểm tra")
    assert none.status_code == 422
    assert Page(none.text).inputs["note"]["value"] == "Đã kiểm tra"
    some = await send(api, f"{path}/release", none.text, do="some", let_go=[str(api.units["11"])])
    assert some.status_code == 303, some.text
    html = await html_of(api, f"{path}/release")
    assert "Đã cho phát lại: Xã Đại Sơn" in Page(html).text
    assert str(api.units["11"]) not in re.findall(r'name="let_go" value="([^"]*)"', html)
    stale = await send(api, f"{path}/release", html, do="all", version="1")
    assert (stale.status_code, await alerts_in(api)) == (409, 1)
    everybody = await send(api, f"{path}/release", html, do="all")
    assert (everybody.status_code, await alerts_in(api, "cancelled")) == (303, 1), everybody.text
    assert "đã kết thúc" in Page(await html_of(api, f"{path}/release")).text


# --- a second person -------------------------------------------------------------------------------------------------


async def test_above_a_size_an_alert_waits_for_a_second_person_who_confirms_what_is_shown(api: Api) -> None:
    await add_device(api, "11")
    await set_policy(api, "24", second_person_from={"alerts": 1})
    first, second = await api.account((Role.OPERATOR, "11")), await api.account((Role.OPERATOR, "11"))
    await api.client.post("/login", data={"login": first.login, "password": PASSWORD})
    template_id = await add_template(api)
    html = await html_of(api, "/alerts/new", template=template_id)
    assert "Không chờ được người thứ hai?" in Page(html).text
    asked = await send(api, "/alerts/new", html, do="go")
    path = asked.headers["location"]
    assert (asked.status_code, path.startswith("/alerts/requests/"), await alerts_in(api)) == (303, True, 0)
    own = await html_of(api, path)
    assert "cần một người khác" in Page(own).text
    assert 'value="confirm"' not in own
    token, digest = hidden(own, "csrf_token"), hidden(own, "digest")
    form = {"csrf_token": token, "do": "confirm", "digest": digest}
    assert (await api.client.post(path, data=form)).status_code == 403, "never one's own"
    assert path in (await get(api, "/alerts")).links
    api.client.cookies.clear()
    await api.client.post("/login", data={"login": second.login, "password": PASSWORD})
    html = await html_of(api, path)
    for words in ("Lũ khẩn cấp", "Xã Đại Sơn", "XÁC NHẬN và thực hiện: 1 thiết bị", first.display_name):
        assert words in Page(html).text, words
    form["csrf_token"] = hidden(html, "csrf_token")
    for changes, status in (({"digest": "0" * 64}, 409), ({"digest": "x"}, 422), ({"do": "perhaps"}, 422)):
        refused = await api.client.post(path, data={**form, **changes})
        assert (refused.status_code, await alerts_in(api)) == (status, 0), refused.text
    done = await api.client.post(path, data=form)
    assert (done.status_code, await alerts_in(api)) == (303, 1), done.text
    assert (await get(api, done.headers["location"])).text.count("Lũ khẩn cấp") >= 1
    assert "Đã thực hiện" in (await get(api, path)).text


async def test_a_request_is_refused_with_a_reason_and_alone_wants_a_second_factor(api: Api) -> None:
    await add_device(api, "11")
    await set_policy(api, "24", second_person_from={"alerts": 1})
    await log_in(api, (Role.OPERATOR, "11"))
    template_id = await add_template(api)
    html = await html_of(api, "/alerts/new", template=template_id)
    why = "Vỡ đập, không gọi được ai"
    alone = await send(api, "/alerts/new", html, do="go", alone=why)
    assert (alone.status_code, await alerts_in(api)) == (403, 0)
    assert Page(alone.text).inputs["alone"]["value"] == why, "what was typed stays"
    path = (await send(api, "/alerts/new", alone.text, do="go")).headers["location"]
    html = await html_of(api, path)
    form = {"csrf_token": hidden(html, "csrf_token"), "do": "refuse", "note": "x" * 501}
    long = await api.client.post(path, data=form)
    assert (long.status_code, 'data-place="note"' in long.text) == (422, True)
    assert (await api.client.post(path, data={**form, "note": "Nhầm mẫu"})).status_code == 303
    page = await get(api, path)
    assert "Đã từ chối" in page.text
    assert "Lý do: Nhầm mẫu" in page.text
    assert (await api.client.get("/alerts/requests/00000000-0000-4000-8000-000000000000")).status_code == 404
    await log_in(api, (Role.OPERATOR, "12"))
    assert (await api.client.get(path)).status_code == 404


async def test_glass_is_broken_from_the_page_of_the_unit_and_everybody_there_is_told_until_somebody_knows(
    api: Api,
) -> None:
    await add_device(api, "11")
    unit = f"/units/{api.units['11']}"
    await log_in(api, (Role.VIEWER, "11"))
    assert not any("glass" in link for link in (await get(api, unit)).links)
    assert (await api.client.get("/alerts/glass")).status_code == 403
    # Where no policy asks for a second person there is nothing to do alone.
    await log_in(api, (Role.OPERATOR, "21"))
    calm = await get(api, "/alerts/glass", unit=str(api.units["21"]))
    assert "không có gì để phá" in calm.text
    assert f"/alerts/silence?unit={api.units['21']}" in calm.links
    assert not any("alone" in link for link in calm.links)
    await set_policy(api, "24", second_person_from={"alerts": 1})
    alone = await somebody(api, unit="11")
    template_id = await add_template(api)
    (way,) = [link for link in (await get(api, unit)).links if "/glass" in link]
    explained = await get(api, way)
    for words in ("không chờ người thứ hai", "từ 1 thiết bị", "nhật ký không xóa được", "Mở trang Tài khoản"):
        assert words in explained.text, words
    assert f"/alerts/new?unit={api.units['11']}&alone=1" in explained.links
    assert f"/alerts/silence?unit={api.units['11']}&alone=1" in explained.links
    await alone.enrol()
    html = await html_of(api, "/alerts/new", template=template_id, unit=str(api.units["11"]), alone="1")
    assert '<details class="glass" open>' in html
    why = "Vỡ đập, không gọi được ai cả"
    api.clock.forward(seconds=31)
    done = await send(api, "/alerts/new", html, do="go", alone=why, code=alone.code())
    assert (done.status_code, await alerts_in(api)) == (303, 1), done.text
    await log_in(api, (Role.OPERATOR, "24"))
    for page in (f"/units/{api.units['24']}", unit):
        assert (
            "PHÁ KÍNH: một người đã làm một mình. Phát cảnh báo: Lũ khẩn cấp, 1 thiết bị" in (await get(api, page)).text
        )
    told = await get(api, unit)
    (request,) = [link for link in told.links if "/alerts/requests/" in link]
    html = await html_of(api, request)
    assert why in Page(html).text
    assert (await send(api, request, html, do="acknowledge")).status_code == 303
    assert "PHÁ KÍNH" not in (await get(api, unit)).text


async def test_nothing_anybody_typed_becomes_markup_and_both_languages_are_whole(api: Api) -> None:
    await add_device(api, "11")
    await log_in(api, (Role.OPERATOR, "11"))
    template_id = await add_template(api, name=EVIL[:100], headline=EVIL[:100])
    await api.execute("UPDATE control.unit_versions SET name = $1 WHERE code = '11'", EVIL)
    html = await html_of(api, "/alerts/new", template=template_id)
    path = (await send(api, "/alerts/new", html, do="go")).headers["location"]
    html = await html_of(api, "/alerts/silence")
    looked = await send(api, "/alerts/silence", html, reason=EVIL[:100], whole="1")
    silence = (await send(api, "/alerts/silence", looked.text, reason=EVIL[:100], do="go")).headers["location"]
    for language in ("vi", "en"):
        for each in (
            "/alerts",
            "/alerts/new",
            "/alerts/silence",
            "/alerts/glass",
            path,
            f"{path}/end",
            silence,
            f"{silence}/release",
        ):
            html = await html_of(api, each, lang=language)
            assert "<script>alert" not in html
            assert "<img" not in html
            assert f'<html lang="{language}">' in html
        html = await html_of(api, "/alerts/new", template=template_id, lang=language)
        assert "<script>alert" not in html
