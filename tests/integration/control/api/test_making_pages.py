"""The pages on which a broadcast is made, changed and withdrawn: what it would do comes first, and nothing typed is lost."""

from __future__ import annotations

import re
import uuid
from html import unescape
from typing import Any

import pytest

from services.control.permissions import Role
from tests.integration.control.api.test_api_pages import Page, get, log_in
from tests.integration.control.api.test_deciding_pages import EVIL, hidden, html_of, set_policy
from tests.support.control_api import (
    Api,
    add_broadcast,
    add_bulletin,
    add_device,
    add_group,
    add_source,
    broadcast_body,
)

pytestmark = pytest.mark.integration

DAY = "2026-03-11"  # tomorrow, a Wednesday


def new(api: Api, unit: str = "11") -> str:
    return f"/units/{api.units[unit]}/broadcasts/new"


async def typed(api: Api, unit: str = "11", **changes: Any) -> dict[str, Any]:
    """What an officer types: a bulletin, tomorrow at half past five, everywhere in the unit."""
    if "item" not in changes:
        changes["item"] = [f"bulletin:{await add_bulletin(api, unit)}"]
    form = {"title": "Bản tin sáng", "whole": "1", "days": "once", "starts_on": DAY, "time": ["05:30", "", ""]}
    return {name: value for name, value in {**form, **changes}.items() if value is not None}


async def send(api: Api, path: str, html: str, do: str, form: dict[str, Any], **more: Any) -> Any:
    """The form of a page, filled in and sent by one of its buttons."""
    carried = {
        name: unescape(hidden(html, name))
        for name in ("csrf_token", "key", "shown", "version")
        if f'name="{name}"' in html
    }
    return await api.client.post(path, data={**carried, "do": do, **form, **more})


async def preview(api: Api, path: str, form: dict[str, Any], **more: Any) -> str:
    response = await send(api, path, await html_of(api, path), "preview", form, **more)
    assert response.status_code == 200, response.text
    Page(response.text)
    text: str = response.text
    return text


async def saved(api: Api, path: str, form: dict[str, Any]) -> str:
    """Look, then save; the id of the broadcast."""
    response = await send(api, path, await preview(api, path, form), "save", form)
    assert response.status_code == 303, response.text
    location: str = response.headers["location"]
    return location.rpartition("/")[2]


async def row_of(api: Api, broadcast_id: str) -> Any:
    async with api.database.connection() as connection:
        return await connection.fetchrow(
            "SELECT * FROM control.broadcasts WHERE broadcast_id = $1", uuid.UUID(broadcast_id)
        )


async def count(api: Api) -> int:
    number: int = await api.fetchval("SELECT count(*) FROM control.broadcasts")
    return number


# --- looking before saving -------------------------------------------------------------------------------------------


async def test_one_is_led_to_the_form_where_one_may_make_broadcasts(api: Api) -> None:
    await add_bulletin(api, "11")
    await log_in(api, (Role.OFFICER, "11"))
    assert new(api) in (await get(api, f"/units/{api.units['11']}")).links
    page = Page(await html_of(api, new(api)))
    assert "Lập lịch phát của Xã Đại Sơn" in page.text
    assert "Thông báo lịch tiêm chủng · 30 giây" in page.text
    assert page.inputs.keys() - page.labels == {
        f"{name}-{row}" for name in ("minutes", "seconds") for row in range(2)
    }, "the two fields of a row are named by aria-label"
    await log_in(api, (Role.VIEWER, "11"))
    assert new(api) not in (await get(api, f"/units/{api.units['11']}")).links
    assert (await api.client.get(new(api))).status_code == 403


async def test_what_it_would_do_is_shown_and_nothing_is_saved(api: Api) -> None:
    await add_device(api, "11")
    await log_in(api, (Role.OFFICER, "11"))
    asked = await api.fetchval("SELECT count(*) FROM control.planning_requests")
    html = await preview(api, new(api), await typed(api))
    text = Page(html).text
    for words in ("Kết quả nếu lưu", "05:30 ngày 11/03/2026", "1 thiết bị", "1 thêm", "Phát đủ, không ảnh hưởng"):
        assert words in text, words
    assert await count(api) == 0
    assert await api.fetchval("SELECT count(*) FROM control.planning_requests") == asked


async def test_what_was_shown_is_saved(api: Api) -> None:
    await add_device(api, "11")
    source = await add_source(api, "24")
    bulletin, jingle = await add_bulletin(api, "11"), await add_bulletin(api, "11")
    await api.execute("UPDATE control.bulletins SET kind = 'jingle' WHERE bulletin_id = $1", uuid.UUID(jingle))
    await log_in(api, (Role.OFFICER, "11"))
    form = await typed(
        api,
        item=[f"bulletin:{jingle}", "pause", f"bulletin:{bulletin}", f"relay:{source}", ""],
        minutes=["", "", "", "10", ""],
        seconds=["", "1,5", "", "30", ""],
        level="priority",
        days="weekly",
        weekday=["3", "5"],
        last_day="2026-04-30",
        time=["05:30", "17:00"],
        volume="60",
        length="30",
        fit="trim",
        resume="drop",
    )
    broadcast_id = await saved(api, new(api), form)
    row = await row_of(api, broadcast_id)
    assert (row["title"], row["level"], row["state"]) == ("Bản tin sáng", "priority", "scheduled")
    assert (row["recurrence"], row["rrule"]) == ("rule", "FREQ=WEEKLY;BYDAY=WE,FR")
    assert (str(row["starts_on"]), str(row["ends_on"])) == (DAY, "2026-05-01")
    assert [f"{each:%H:%M}" for each in row["local_times"]] == ["05:30", "17:00"]
    assert (row["volume_percent"], row["fit"], row["resume"], row["length_ms"]) == (60, "trim", "drop", 1_800_000)
    page = await get(api, f"/broadcasts/{broadcast_id}")
    for words in ("Thứ Tư và thứ Sáu hằng tuần", "Nghỉ 2 giây", "Tiếp sóng VOV1", "10 phút 30 giây"):
        assert words in page.text, words


async def test_who_speaks_live_is_chosen_apart_from_a_relay_and_stays_chosen(api: Api) -> None:
    await add_device(api, "11")
    source = await add_source(api, "24")
    await log_in(api, (Role.OFFICER, "11"))
    form = await typed(api, item=[f"live:{source}", f"relay:{source}"], minutes=["5", "10"], seconds=["", ""])
    broadcast_id = await saved(api, new(api), form)
    page = await get(api, f"/broadcasts/{broadcast_id}")
    for words in ("Phát trực tiếp VOV1", "Tiếp sóng VOV1"):
        assert words in page.text, words
    html = await html_of(api, f"/broadcasts/{broadcast_id}/edit")
    chosen = re.findall(r'<option value="((?:live|relay):[^"]*)" selected', html)
    assert chosen == [f"live:{source}", f"relay:{source}"]
    await saved(api, f"/broadcasts/{broadcast_id}/edit", {**form, "title": "Trực tiếp sáng nay"})
    assert await api.fetchval("SELECT array_agg(is_live ORDER BY item) FROM control.broadcast_items") == [True, False]


@pytest.mark.parametrize(
    ("days", "rule"), [("daily", None), ("workdays", "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR"), ("once", None)]
)
async def test_each_choice_of_days(api: Api, days: str, rule: str | None) -> None:
    await add_device(api, "11")
    await log_in(api, (Role.OFFICER, "11"))
    row = await row_of(api, await saved(api, new(api), await typed(api, days=days)))
    assert (row["recurrence"], row["rrule"]) == ("rule" if rule else days, rule)


async def test_it_goes_with_the_sessions_of_the_unit(api: Api) -> None:
    await add_device(api, "11")
    await set_policy(api, "11", sessions=[{"code": "chieu", "name": "Buổi chiều", "begin": "16:30", "end": "18:00"}])
    await log_in(api, (Role.OFFICER, "11"))
    assert "Khung giờ Buổi chiều 16:30–18:00" in Page(await html_of(api, new(api))).text
    row = await row_of(api, await saved(api, new(api), await typed(api, session="chieu", time=[""])))
    assert row["sessions"] == ["chieu"]


async def test_targets_are_units_below_without_some_and_one_kind_only(api: Api) -> None:
    for unit in ("11", "12"):
        await add_device(api, unit)
        await add_device(api, unit, kind="board")
    bulletin = await add_bulletin(api, "1", board_text="Chữ")
    await log_in(api, (Role.OFFICER, "1"))
    form = await typed(api, "1", item=f"bulletin:{bulletin}", level="priority")
    units = {"except": str(api.units["12"]), "only": "cluster"}
    html = await preview(api, new(api, "1"), {**form, **units})
    assert "1 thiết bị" in Page(html).text
    broadcast_id = await saved(api, new(api, "1"), {**form, **units})
    page = await get(api, f"/broadcasts/{broadcast_id}")
    assert "Huyện Bắc mọi thiết bị" in page.text
    assert "Trừ Xã An Lạc" in page.text
    assert "Trừ Bảng tin" in page.text


async def test_what_others_lose_by_it_is_told_unit_by_unit_and_device_by_device(api: Api) -> None:
    device_id = await add_device(api, "11")
    target = [{"unit_id": str(api.units["11"])}]
    long = await add_bulletin(api, "11", duration_ms=50_000)
    await add_broadcast(api, "11", title="Bản dài", items=[{"bulletin_id": long}], targets=target, resume="drop")
    await log_in(api, (Role.OFFICER, "11"))
    form = await typed(api, level="priority", time="05:30:20")
    html = await preview(api, new(api), form)
    text = Page(html).text
    for words in ("Có nội dung bị ảnh hưởng", "1 thêm", "1 bị cắt", "Xã Đại Sơn"):
        assert words in text, words
    assert device_id not in text
    detail = await send(api, new(api), html, "", form, detail=str(api.units["11"]))
    text = Page(detail.text).text
    for words in (device_id, "vì Bản tin sáng, xét theo mức (khẩn cấp, ưu tiên, thông thường)"):
        assert words in text, words
    assert await count(api) == 1


async def test_minutes_of_the_day_and_who_has_to_let_it_pass(api: Api) -> None:
    await add_device(api, "11")
    await set_policy(api, "11", max_day_s=60, exceptions_by_approver=True, quiet=[{"begin": "21:00", "end": "06:00"}])
    await log_in(api, (Role.OFFICER, "11"))
    form = await typed(api)
    html = await preview(api, new(api), form)
    text = Page(html).text
    for words in ("sẽ chờ người duyệt của Xã Đại Sơn", "Trong giờ yên tĩnh", "Lưu và gửi duyệt"):
        assert words in text, words
    row = await row_of(api, await saved(api, new(api), form))
    assert row["state"] == "awaiting_approval"
    day = await preview(api, new(api), await typed(api, time="07:00"))
    assert "0,5 / 1,0" in Page(day).text


async def test_a_policy_that_nobody_may_except_from_is_named_and_the_form_stays(api: Api) -> None:
    await add_device(api, "11")
    await set_policy(api, "11", quiet=[{"begin": "21:00", "end": "06:00"}])
    await log_in(api, (Role.OFFICER, "11"))
    form = await typed(api)
    response = await send(api, new(api), await html_of(api, new(api)), "preview", form)
    assert response.status_code == 422
    page = Page(response.text)
    assert "Trái chính sách phát thanh" in page.text
    assert page.inputs["title"]["value"] == "Bản tin sáng"


# --- saving only what was shown --------------------------------------------------------------------------------------


async def test_nothing_is_saved_that_was_not_shown(api: Api) -> None:
    await add_device(api, "11")
    await log_in(api, (Role.OFFICER, "11"))
    form = await typed(api)
    unseen = await send(api, new(api), await html_of(api, new(api)), "save", form)
    assert (unseen.status_code, await count(api)) == (200, 0)
    assert "Kết quả nếu lưu" in unseen.text
    shown = await preview(api, new(api), form)
    altered = await send(api, new(api), shown, "save", {**form, "time": "06:00"})
    assert (altered.status_code, await count(api)) == (409, 0)
    assert "Kết quả đã khác với lần xem trước" in Page(altered.text).text
    assert (await send(api, new(api), altered.text, "save", {**form, "time": "06:00"})).status_code == 303
    assert await count(api) == 1


async def test_what_has_changed_under_it_meanwhile_is_shown_first(api: Api) -> None:
    await add_device(api, "11")
    await log_in(api, (Role.OFFICER, "11"))
    form = await typed(api, level="priority")
    shown = await preview(api, new(api), form)
    target = [{"unit_id": str(api.units["11"])}]
    await add_broadcast(api, "11", title="Người khác vừa lập", targets=target, local_times=["05:30"])
    late = await send(api, new(api), shown, "save", form)
    assert (late.status_code, await count(api)) == (409, 1)
    assert "Có nội dung bị ảnh hưởng" in Page(late.text).text
    assert (await send(api, new(api), late.text, "save", form)).status_code == 303


async def test_a_button_pressed_twice_saves_once(api: Api) -> None:
    await add_device(api, "11")
    await log_in(api, (Role.OFFICER, "11"))
    form = await typed(api)
    shown = await preview(api, new(api), form)
    first, second = [await send(api, new(api), shown, "save", form) for _ in range(2)]
    assert (first.status_code, second.status_code) == (303, 303)
    assert first.headers["location"] == second.headers["location"]
    assert await count(api) == 1
    # Whoever goes back and asks for something else means another one.
    other = {**form, "title": "Bản khác"}
    again = await send(api, new(api), shown, "save", other)
    assert again.status_code == 409
    assert (await send(api, new(api), again.text, "save", other)).status_code == 303
    assert await count(api) == 2


# --- forms that are given back ---------------------------------------------------------------------------------------


NOBODY = "00000000-0000-4000-8000-000000000000"

BAD: list[tuple[dict[str, Any], str]] = [
    ({"title": " "}, "title"),
    ({"title": "x" * 201}, "title"),
    ({"item": [""]}, "items"),
    ({"item": ["bulletin:nonsense"]}, "items[0]"),
    ({"item": ["", f"bulletin:{NOBODY}"]}, "items[1]"),
    ({"item": ["nonsense"]}, "items[0]"),
    ({"item": ["pause"], "minutes": [""], "seconds": [""]}, "items[0]"),
    ({"item": ["pause"], "minutes": ["mười"], "seconds": [""]}, "items[0]"),
    ({"item": [f"relay:{NOBODY}"], "minutes": ["1"], "seconds": ["0"]}, "items[0]"),
    ({"item": [f"relay:{NOBODY}"], "minutes": [""], "seconds": [""]}, "items[0]"),
    ({"level": "emergency"}, "level"),
    ({"level": "loudest"}, "level"),
    ({"whole": None}, "targets"),
    ({"unit": ["nonsense"]}, "targets"),
    ({"unit": [NOBODY]}, "targets"),
    ({"other": ["-device:KHÔNG"]}, "targets"),
    ({"other": ["nonsense"]}, "targets"),
    ({"only": "radio"}, "targets"),
    ({"days": "sometimes"}, "days"),
    ({"days": "weekly"}, "weekdays"),
    ({"days": "weekly", "weekday": ["8"]}, "days"),
    ({"days": "kept"}, "days"),
    ({"starts_on": ""}, "starts_on"),
    ({"starts_on": "tomorrow"}, "starts_on"),
    ({"days": "daily", "last_day": "2026-03-01"}, "last_day"),
    ({"days": "daily", "last_day": "9999-12-31"}, "last_day"),
    ({"time": ["", "25:00"]}, "times[1]"),
    ({"time": [""]}, "times"),
    ({"time": ["05:30", "05:30"]}, "times"),
    ({"session": ["nowhere"]}, "sessions"),
    ({"volume": "101"}, "volume"),
    ({"volume": "to"}, "volume"),
    ({"length": "-1"}, "length"),
    ({"fit": "squeeze"}, "fit"),
    ({"fill": "repeat"}, "fill"),
    ({"resume": "never"}, "resume"),
    ({"detail": "nonsense"}, ""),
]


def faults_in(html: str) -> set[str]:
    return set(re.findall(r'<p class="fault" data-place="([^"]*)">', html))


async def test_what_is_wrong_is_said_beside_its_field_and_what_was_typed_stays(api: Api) -> None:
    await add_device(api, "11")
    await log_in(api, (Role.OFFICER, "11"))
    html = await html_of(api, new(api))
    valid = await typed(api, title="Tên còn nguyên")
    for changes, place in BAD:
        form = {name: value for name, value in {**valid, **changes}.items() if value is not None}
        response = await send(api, new(api), html, "preview", form)
        assert response.status_code == 422, (changes, response.text)
        assert place in faults_in(response.text), changes
        assert Page(response.text).inputs["title"]["value"] == form["title"].strip()
    assert await count(api) == 0


async def test_a_fault_stands_in_its_row_although_rows_above_are_empty(api: Api) -> None:
    await add_device(api, "11")
    await log_in(api, (Role.OFFICER, "11"))
    good = f"bulletin:{await add_bulletin(api, '11')}"
    form = await typed(
        api, item=[good, "", "pause"], minutes=["", "", ""], seconds=["", "", "0"], time=["05:30", "", "7"]
    )
    response = await send(api, new(api), await html_of(api, new(api)), "preview", form)
    assert response.status_code == 422
    rows = re.findall(r"<li>\s*<div class=\"item\">.*?</li>", response.text, flags=re.S)
    assert [("fault" in row) for row in rows] == [False, False, True]
    times = re.findall(r'<input id="time-\d".*?</div>', response.text, flags=re.S)
    assert [("fault" in each) for each in times] == [False, False, True]
    assert 'value="7"' in times[2]
    assert f'value="{good}" selected' in rows[0]


async def test_units_beyond_one_s_own_are_refused_and_the_form_stays(api: Api) -> None:
    await add_device(api, "11")
    await log_in(api, (Role.OFFICER, "11"))
    form = {**await typed(api), "unit": str(api.units["12"])}
    response = await send(api, new(api), await html_of(api, new(api)), "preview", form)
    assert response.status_code == 403
    assert "Xã An Lạc" in Page(response.text).text
    assert Page(response.text).inputs["title"]["value"] == "Bản tin sáng"
    assert (await api.client.get(new(api, "12"))).status_code == 403
    token = hidden(response.text, "csrf_token")
    assert (await api.client.post(new(api, "12"), data={"csrf_token": token, **form})).status_code == 403
    assert (await api.client.post(new(api), data=form)).status_code == 403, "without its token"


async def test_rows_are_added_moved_and_dropped_without_a_word_lost(api: Api) -> None:
    await log_in(api, (Role.OFFICER, "11"))
    one, two = [f"bulletin:{await add_bulletin(api, '11')}" for _ in range(2)]
    form = await typed(api, item=[one, two, "pause"], minutes=["", "", "1"], seconds=["", "", ""], title="Chưa xong")
    html = await html_of(api, new(api))

    def rows(text: str) -> list[str]:
        return [
            (re.findall(r'value="([^"]*)" selected', each) or [""])[0]
            for each in re.findall(r'<select id="item-.*?</select>', text, flags=re.S)
        ]

    for do, expected in (
        ("add", [one, two, "pause", ""]),
        ("up:2", [one, "pause", two]),
        ("down:0", [two, one, "pause"]),
        ("up:0", [one, two, "pause"]),
        ("down:2", [one, two, "pause"]),
        ("drop:1", [one, "pause"]),
    ):
        response = await send(api, new(api), html, do, form)
        assert response.status_code == 200
        assert rows(response.text) == expected, do
        page = Page(response.text)
        assert page.inputs["title"]["value"] == "Chưa xong"
        minutes = page.inputs[f"minutes-{expected.index('pause')}"]
        assert minutes["value"] == "1", "the length goes with its row"
    last = await send(api, new(api), html, "drop:0", {**form, "item": [one], "minutes": [""], "seconds": [""]})
    assert rows(last.text) == [""]
    more = await send(api, new(api), html, "time", form)
    assert "time-4" in Page(more.text).inputs
    assert await count(api) == 0


# --- changing --------------------------------------------------------------------------------------------------------


async def test_a_broadcast_is_changed_after_a_look(api: Api) -> None:
    broadcast = await add_broadcast(api, "11", title="Bản cũ")
    path = f"/broadcasts/{broadcast['broadcast_id']}/edit"
    await log_in(api, (Role.OFFICER, "11"))
    assert path in (await get(api, f"/broadcasts/{broadcast['broadcast_id']}")).links
    html = await html_of(api, path)
    page = Page(html)
    assert page.inputs["title"]["value"] == "Bản cũ"
    assert page.inputs["time-1"]["value"] == "05:30"
    assert page.inputs["starts-on"]["value"] == DAY
    form = await typed(api, item=f"bulletin:{broadcast['items'][0]['bulletin_id']}", title="Bản mới", time="06:00")
    shown = await send(api, path, html, "preview", form)
    assert "1 đổi giờ" in Page(shown.text).text or "1 thêm" in Page(shown.text).text
    done = await send(api, path, shown.text, "save", form)
    assert (done.status_code, done.headers["location"]) == (303, f"/broadcasts/{broadcast['broadcast_id']}")
    row = await row_of(api, broadcast["broadcast_id"])
    assert (row["title"], row["version"]) == ("Bản mới", 2)
    twice = await send(api, path, shown.text, "save", form)
    assert twice.status_code == 303, "the same button pressed twice"


async def test_what_somebody_else_changed_meanwhile_is_not_overwritten_and_nothing_typed_is_lost(api: Api) -> None:
    broadcast = await add_broadcast(api, "11", title="Bản cũ")
    path = f"/broadcasts/{broadcast['broadcast_id']}"
    await log_in(api, (Role.OFFICER, "11"))
    form = await typed(api, item=f"bulletin:{broadcast['items'][0]['bulletin_id']}", title="Của tôi")
    shown = await preview(api, f"{path}/edit", form)
    headers = await api.person((Role.OFFICER, "24"))
    etag = (await api.client.get(f"/api/v1{path}", headers=headers)).headers["etag"]
    body = await broadcast_body(
        api, "11", title="Của người khác", items=broadcast["items"], targets=broadcast["targets"]
    )
    body["items"] = [{"bulletin_id": broadcast["items"][0]["bulletin_id"]}]
    body["targets"] = [{"unit_id": str(api.units["11"])}]
    changed = await api.client.put(f"/api/v1{path}", json=body, headers={**headers, "If-Match": etag})
    assert changed.status_code == 200, changed.text
    late = await send(api, f"{path}/edit", shown, "save", form)
    assert late.status_code == 409
    page = Page(late.text)
    assert "nay là phiên bản 2" in page.text
    assert page.inputs["title"]["value"] == "Của tôi"
    assert (await row_of(api, broadcast["broadcast_id"]))["title"] == "Của người khác"
    again = await send(api, f"{path}/edit", late.text, "preview", form)
    assert (await send(api, f"{path}/edit", again.text, "save", form)).status_code == 303
    assert (await row_of(api, broadcast["broadcast_id"]))["title"] == "Của tôi"


async def test_what_the_form_cannot_say_stays_as_it_was(api: Api) -> None:
    device_id = await add_device(api, "11")
    other = await add_device(api, "11")
    group = await add_group(api, "11", members=[other])
    source = await add_source(api, "24")
    items = [
        {"bulletin_id": await add_bulletin(api, "11")},
        {"relay_source_id": source, "length_s": 90, "starts_after_s": 600},
    ]
    targets = [{"device_id": device_id}, {"group_id": group["group_id"]}, {"kind": "board", "exclude": True}]
    broadcast = await add_broadcast(
        api,
        "11",
        items=items,
        targets=targets,
        recurrence="rule",
        rrule="FREQ=MONTHLY;BYMONTHDAY=11",
        exdates=["2026-05-11"],
        patience_s=7,
        local_times=["05:30:15"],
    )
    path = f"/broadcasts/{broadcast['broadcast_id']}/edit"
    await log_in(api, (Role.OFFICER, "11"))
    html = await html_of(api, path)
    assert "Ngày 11 hằng tháng" in Page(html).text
    form = {
        "title": "Chỉ đổi tên",
        "item": re.findall(r'value="((?:bulletin|relay):[^"]*)" selected', html),
        "minutes": ["", "1"],
        "seconds": ["", "30"],
        "other": [f"device:{device_id}"],
        "group": group["group_id"],
        "only": "cluster",
        "days": "kept",
        "time": "05:30:15",
    }
    assert form["item"][1].endswith("@600")
    shown = await send(api, path, html, "preview", form)
    assert (await send(api, path, shown.text, "save", form)).status_code == 303
    headers = await api.person((Role.VIEWER, "24"))
    after = (await api.client.get(f"/api/v1/broadcasts/{broadcast['broadcast_id']}", headers=headers)).json()
    before = {**broadcast, "title": "Chỉ đổi tên", "version": 2}
    for name in ("title", "version", "rrule", "exdates", "items", "patience_s", "local_times", "starts_on"):
        assert after[name] == before[name], name
    by_word = sorted(map(str, after["targets"]))
    assert by_word == sorted(map(str, before["targets"]))


async def test_who_may_not_change_it_is_not_led_there(api: Api) -> None:
    broadcast = await add_broadcast(api, "24")
    path = f"/broadcasts/{broadcast['broadcast_id']}"
    await log_in(api, (Role.VIEWER, "24"))
    assert f"{path}/edit" not in (await get(api, path)).links
    for way in ("edit", "withdraw"):
        assert (await api.client.get(f"{path}/{way}")).status_code == 403
    assert (await api.client.get(f"/broadcasts/{uuid.uuid4()}/edit")).status_code == 403


# --- withdrawing -----------------------------------------------------------------------------------------------------


async def test_a_broadcast_is_withdrawn_after_a_look(api: Api) -> None:
    broadcast = await add_broadcast(api, "11", title="Sẽ rút")
    path = f"/broadcasts/{broadcast['broadcast_id']}"
    await log_in(api, (Role.OFFICER, "11"))
    html = await html_of(api, f"{path}/withdraw")
    text = Page(html).text
    for words in ("Rút: Sẽ rút", "1 bớt", "Xã Đại Sơn"):
        assert words in text, words
    token, version = hidden(html, "csrf_token"), hidden(html, "version")
    stale = await api.client.post(f"{path}/withdraw", data={"csrf_token": token, "version": "7"})
    assert stale.status_code == 409
    assert "Chưa rút" in Page(stale.text).text
    assert (await row_of(api, broadcast["broadcast_id"]))["state"] == "scheduled"
    done = await api.client.post(f"{path}/withdraw", data={"csrf_token": token, "version": version})
    assert (done.status_code, done.headers["location"]) == (303, path)
    assert (await row_of(api, broadcast["broadcast_id"]))["state"] == "withdrawn"
    page = await get(api, path)
    assert f"{path}/edit" not in page.links
    for way in ("edit", "withdraw"):
        assert (await api.client.get(f"{path}/{way}")).status_code == 409
    assert (
        await api.client.post(f"{path}/withdraw", data={"csrf_token": token, "version": version})
    ).status_code == 409


async def test_nothing_anybody_typed_becomes_markup_and_both_languages_are_whole(api: Api) -> None:
    await add_device(api, "11")
    form = await typed(api, title=EVIL)
    await api.execute("UPDATE control.bulletins SET title = $1", EVIL)
    await api.execute("UPDATE control.unit_versions SET name = $1 WHERE code = '11'", EVIL)
    await log_in(api, (Role.OFFICER, "24"))
    for language in ("vi", "en"):
        await html_of(api, new(api), lang=language)
        html = await preview(api, new(api), form)
        broadcast_id = await saved(api, new(api), {**form, "title": f"{EVIL} {language}"})
        pages = [html, *[await html_of(api, f"/broadcasts/{broadcast_id}/{way}") for way in ("edit", "withdraw")]]
        for each in pages:
            assert "<script>alert" not in each
            assert "<img" not in each
            assert f'<html lang="{language}">' in each
