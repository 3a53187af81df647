"""The pages of proposed alerts: what a sensor rule lays before people, released as it was shown, or refused with a reason."""

from __future__ import annotations

import uuid

import pytest

from services.control.permissions import Role
from tests.integration.control.api.test_alert_pages import alerts_in, send
from tests.integration.control.api.test_api_cap_grounds import info, message
from tests.integration.control.api.test_api_cap_senders import Source, reference
from tests.integration.control.api.test_api_pages import Page, get, log_in
from tests.integration.control.api.test_deciding_pages import EVIL, html_of, set_policy
from tests.integration.control.api.test_returned_forms import faults_in
from tests.support.control_api import PASSWORD, Api, add_device
from tests.support.people import somebody
from tests.support.sensing import add_proposal, lay_proposal

pytestmark = pytest.mark.integration


async def test_what_a_rule_proposes_is_found_read_and_released_once(api: Api) -> None:
    await add_device(api, "11")
    await log_in(api, (Role.OPERATOR, "11"))
    assert "/alerts/proposals" in (await get(api, "/alerts")).links
    assert "Không có đề xuất nào đang chờ" in (await get(api, "/alerts/proposals")).text
    path = f"/alerts/proposals/{await add_proposal(api, '11')}"
    assert "Đề xuất cảnh báo (1)" in (await get(api, "/alerts")).text
    listed = await get(api, "/alerts/proposals")
    assert path in listed.links
    assert "Quy tắc cảm biến “Mực nước sông”" in listed.text
    html = await html_of(api, path)
    sensor = await api.fetchval("SELECT device_id FROM control.devices WHERE kind = 'sensor'")
    for words in (
        "Đề xuất: Nước sông vượt báo động 3",
        "Chưa phát",
        "Mực nước từ 4 m trở lên",
        f"{sensor} 4,3 m",
        "Xã Đại Sơn",
        "PHÁT NGAY tới 1 thiết bị",
        "Hiệu lực đến 09:30",
    ):
        assert words in Page(html).text, words
    assert f"/devices/{sensor}" in Page(html).links
    assert await alerts_in(api) == 0
    first, second = [await send(api, path, html, do="release") for _ in range(2)]
    assert (first.status_code, second.status_code, await alerts_in(api)) == (303, 303, 1), first.text
    assert first.headers["location"] == second.headers["location"] == path.replace("/proposals", "")
    assert path in (await get(api, first.headers["location"])).links, "why it was proposed can be read ever after"
    after = await get(api, path)
    assert "Đã phát" in after.text
    assert 'value="release"' not in await html_of(api, path)
    assert "Đề xuất cảnh báo (1)" not in (await get(api, "/alerts")).text


async def test_it_is_refused_with_a_reason_and_what_was_typed_stays(api: Api) -> None:
    await log_in(api, (Role.OPERATOR, "11"))
    path = f"/alerts/proposals/{await add_proposal(api, '11')}"
    assert (await api.client.get(path.replace("/proposals", ""))).headers["location"] == path
    html = await html_of(api, path)
    empty = await send(api, path, html, do="refuse", reason=" ")
    assert (empty.status_code, faults_in(empty.text)) == (422, {"reason"})
    for form, status in (
        ({"do": "refuse", "version": "9"}, 409),
        ({"do": "refuse", "version": ""}, 409),
        ({"do": "perhaps"}, 422),
    ):
        stays = await send(api, path, html, reason="Cảm biến kẹt rác", **form)
        assert (stays.status_code, Page(stays.text).inputs["reason"]["value"]) == (status, "Cảm biến kẹt rác")
    stale = await send(api, path, html, do="release", version="9")
    assert (stale.status_code, await alerts_in(api)) == (409, 0)
    done = await send(api, path, html, do="refuse", reason="Cảm biến kẹt rác")
    assert (done.status_code, done.headers["location"]) == (303, "/alerts/proposals")
    for page in ("/alerts/proposals", path):
        assert "Không phát" in (await get(api, page)).text
    assert "Lý do: Cảm biến kẹt rác" in (await get(api, path)).text
    late = await send(api, path, html, do="release")
    assert (late.status_code, await alerts_in(api)) == (409, 0)
    assert "Có người khác vừa sửa" in Page(late.text).text


async def test_to_refuse_asks_for_a_code_as_to_release_does(api: Api) -> None:
    person = await somebody(api, unit="11")
    await person.enrol()
    api.clock.forward(minutes=11)  # what the session has shown holds no longer
    path = f"/alerts/proposals/{await add_proposal(api, '11')}"
    html = await html_of(api, path)
    assert html.count('name="code"') == 2
    reason = "Cảm biến kẹt rác"
    without = await send(api, path, html, do="refuse", reason=reason)
    assert without.status_code == 403
    bad = await send(api, path, html, do="refuse", reason=reason, code="000000")
    assert (bad.status_code, bad.text.count('data-place="code"')) == (422, 1)
    assert Page(bad.text).inputs["reason"]["value"] == reason
    good = await send(api, path, bad.text, do="refuse", reason=reason, code=person.code())
    assert (good.status_code, good.headers.get("location")) == (303, "/alerts/proposals"), good.text


async def test_above_a_size_it_waits_for_a_second_person(api: Api) -> None:
    await add_device(api, "11")
    await set_policy(api, "24", second_person_from={"alerts": 1})
    second = await api.account((Role.OPERATOR, "11"))
    path = f"/alerts/proposals/{await add_proposal(api, '11')}"
    await log_in(api, (Role.OPERATOR, "11"))
    html = await html_of(api, path)
    assert "Không chờ được người thứ hai?" in Page(html).text
    asked = await send(api, path, html, do="release")
    request = asked.headers["location"]
    assert (request.startswith("/alerts/requests/"), await alerts_in(api)) == (True, 0)
    assert "Chờ người thứ hai" in (await get(api, path)).text
    await api.client.post("/login", data={"login": second.login, "password": PASSWORD})
    html = await html_of(api, request)
    done = await send(api, request, html, do="confirm")
    assert (done.status_code, await alerts_in(api)) == (303, 1), done.text


async def test_only_whose_ground_it_is_decides_and_elsewhere_there_is_none(api: Api) -> None:
    said = {"kind": "cap", "message_type": "Cancel", "sender": "kttv@example.vn", "identifier": EVIL}
    path = f"/alerts/proposals/{await lay_proposal(api, '1', **said)}"
    await log_in(api, (Role.OPERATOR, "11"))
    below = await html_of(api, path)
    for words in ("Cần người có quyền phát cảnh báo", "Thông điệp CAP", "Báo yên", "kttv@example.vn"):
        assert words in Page(below).text, words
    assert "<script>alert" not in below
    assert "<form class" not in below
    form = {"do": "release", "version": "1", "key": uuid.uuid4().hex}
    assert (await send(api, path, below, **form)).status_code == 403
    await log_in(api, (Role.VIEWER, "1"))
    assert 'value="release"' not in await html_of(api, path)
    await log_in(api, (Role.OPERATOR, "2"))
    assert (await api.client.get(path)).status_code == 404
    assert path not in (await get(api, "/alerts/proposals")).links
    assert await alerts_in(api) == 0
    await log_in(api, (Role.OPERATOR, "1"))
    for language in ("vi", "en"):
        for each in ("/alerts/proposals", path):
            Page(await html_of(api, each, lang=language))


async def test_an_update_of_what_is_not_in_force_here_says_so_and_names_only_places_as_places(api: Api) -> None:
    source = await Source.of(api)
    before = reference(api, "A-0")
    api.clock.forward(minutes=1)
    over = info("12").replace("<headline>", "<expires>2020-01-01T00:00:00+07:00</expires><headline>")
    update = message(api, "A-1", info("11", "99"), over, kind="Update", references=before)
    new = await source.delivered(update)
    await log_in(api, (Role.OPERATOR, "24"))
    said = Page(await html_of(api, f"/alerts/proposals/{new['alert_id']}")).text
    for words in ("Bản sửa", "Gửi lúc 09:01", "chưa có hoặc không còn hiệu lực ở đây", "Khu vực không có ở đây 99 "):
        assert words in said, words
    assert "2020-01-01" not in said
    known = reference(api, "A-1")
    api.clock.forward(minutes=1)
    follows = await source.delivered(message(api, "A-2", info("11"), kind="Update", references=known))
    page = Page(await html_of(api, f"/alerts/proposals/{follows['alert_id']}")).text
    assert "còn hiệu lực ở đây" not in page
