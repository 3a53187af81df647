"""The pages on which units and approvers decide: inbox, order of priorities, approvals, policy; and bad forms."""

from __future__ import annotations

import re
import uuid
from typing import Any

import pytest

from services.control.pages import unit_pages
from services.control.permissions import Role
from tests.integration.control.api.test_api_pages import Page, get, log_in
from tests.integration.control.api.test_api_priorities import planned, priority
from tests.support.control_api import (
    PASSWORD,
    Api,
    add_awaiting_broadcast,
    add_broadcast,
    add_bulletin,
    add_device,
    add_offer,
    add_source,
    broadcast_body,
)

pytestmark = pytest.mark.integration

EVIL = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>{{ 7*7 }}"


def hidden(html: str, name: str) -> str:
    match = re.search(rf'name="{name}" value="([^"]*)"', html)
    assert match is not None, f"no field {name}"
    return match.group(1)


async def html_of(api: Api, path: str, **query: str) -> str:
    response = await api.client.get(path, params=query)
    assert response.status_code == 200, response.text[:500]
    Page(response.text)
    text: str = response.text
    return text


async def post(api: Api, path: str, **form: Any) -> Any:
    """A form with the CSRF token of this session."""
    token = hidden(await html_of(api, "/approvals"), "csrf_token")
    return await api.client.post(path, data={"csrf_token": token, **form})


def inbox(api: Api, unit: str = "11") -> str:
    return f"/units/{api.units[unit]}/inbox"


async def state_of(api: Api, broadcast_id: str) -> str:
    state: str = await api.fetchval("SELECT state FROM control.offers WHERE broadcast_id = $1", uuid.UUID(broadcast_id))
    return state


async def answer(api: Api, broadcast_id: str, decision: str, *, unit: str = "11", **form: Any) -> Any:
    """As a browser answers what it is shown now."""
    shown = hidden(await html_of(api, inbox(api, unit)), "shown")
    return await post(api, f"{inbox(api, unit)}/{broadcast_id}", shown=shown, decision=decision, **form)


async def set_policy(api: Api, unit: str, **document: Any) -> None:
    headers = await api.person((Role.ADMINISTRATOR, "24"))
    path = f"/api/v1/units/{api.units[unit]}/policy"
    etag = (await api.client.get(path, headers=headers)).headers["etag"]
    response = await api.client.put(path, json=document, headers={**headers, "If-Match": etag})
    assert response.status_code == 200, response.text


# --- inbox -----------------------------------------------------------------------------------------------------------


async def test_the_inbox_shows_who_offers_what_and_when_and_lets_one_listen(api: Api) -> None:
    news = await add_bulletin(api, "24", board_text="Chữ cho bảng tin")
    source = await add_source(api, "24")
    items = [{"bulletin_id": news}, {"pause_s": 2}, {"relay_source_id": source, "length_s": 600}]
    broadcast_id = await add_offer(
        api, "11", title="Thời sự tỉnh", items=items, recurrence="rule", rrule="FREQ=WEEKLY;BYDAY=MO,WE"
    )
    await add_offer(api, "12", title="Không phải của xã này")
    await log_in(api, (Role.OFFICER, "11"))
    html = await html_of(api, inbox(api))
    page = Page(html)
    for words in (
        "Thời sự tỉnh",
        "Tỉnh Thử Nghiệm gửi lúc 09:00",
        "Thứ Hai và thứ Tư hằng tuần, từ 11/03/2026",
        "05:30",
        "Thông báo lịch tiêm chủng",
        "Chữ cho bảng tin",
        "Nghỉ 2 giây",
        "Tiếp sóng VOV1",
        "Chờ trả lời (1)",
    ):
        assert words in page.text, words
    assert "Không phải của xã này" not in page.text
    assert re.search(r'<audio [^>]*src="/media/[0-9a-f]{64}"', html)
    # Of another unit's making: named, and not linked.
    assert f"/broadcasts/{broadcast_id}" not in page.links
    assert page.inputs.keys() == page.labels
    assert "Hộp thư: 1 chờ trả lời" in (await get(api, f"/units/{api.units['11']}")).text


async def test_the_inbox_says_which_limits_will_keep_it_from_sounding(api: Api) -> None:
    await set_policy(api, "24", quiet=[{"begin": "22:00", "end": "04:00"}])
    await set_policy(api, "11", quiet=[{"begin": "05:00", "end": "06:00"}])
    await add_offer(api, "11", title="Sớm quá", local_times=["05:30"])
    accepted = await add_offer(api, "11", title="Cũng sớm quá", local_times=["05:40"])
    await add_offer(api, "11", title="Đúng giờ", local_times=["06:30"])
    await log_in(api, (Role.OFFICER, "11"))
    html = await html_of(api, inbox(api))
    shown = re.search(rf'inbox/{accepted}#.*?name="shown" value="([^"]*)"', html, re.DOTALL)
    assert shown is not None
    await post(api, f"{inbox(api)}/{accepted}", shown=shown[1], decision="accept")

    said = {}
    for letter in (await html_of(api, inbox(api))).split("<article")[1:]:
        title = re.search(r"<h3>([^<]*)</h3>", letter)
        assert title is not None
        said[title[1]] = "Có lần không phát ở đây" in letter and "Trong giờ yên tĩnh" in letter
    assert said == {"Sớm quá": True, "Cũng sớm quá": True, "Đúng giờ": False}


@pytest.mark.parametrize(
    ("decision", "state", "words"),
    [("accept", "accepted", "Đã nhận phát"), ("decline", "declined", "Không nhận")],
)
async def test_one_answers_with_a_note_and_may_change_it(api: Api, decision: str, state: str, words: str) -> None:
    broadcast_id = await add_offer(api, "11")
    await log_in(api, (Role.OFFICER, "11"))
    response = await answer(api, broadcast_id, decision, note="Trùng giờ họp")
    assert (response.status_code, response.headers["location"]) == (303, f"{inbox(api)}#offer-{broadcast_id}")
    page = await get(api, inbox(api))
    assert "Không có nội dung nào chờ trả lời" in page.text
    assert words in page.text
    assert "Ghi chú: Trùng giờ họp" in page.text
    assert await state_of(api, broadcast_id) == state
    other = "decline" if decision == "accept" else "accept"
    assert (await answer(api, broadcast_id, other)).status_code == 303
    assert await state_of(api, broadcast_id) != state


async def test_one_puts_it_on_at_own_times(api: Api) -> None:
    broadcast_id = await add_offer(api, "11")
    await log_in(api, (Role.OFFICER, "11"))
    times: dict[str, Any] = {"starts_on": "2026-03-12", "last_day": "2026-03-14", "local_time": ["17:30", "", "18:15"]}
    response = await answer(api, broadcast_id, "schedule", **times)
    assert response.status_code == 303, response.text
    assert await state_of(api, broadcast_id) == "scheduled"
    async with api.database.connection() as connection:
        row = await connection.fetchrow(
            "SELECT b.* FROM control.offers o JOIN control.broadcasts b ON b.broadcast_id = o.scheduled_as"
        )
    assert row is not None
    assert (row["recurrence"], str(row["starts_on"]), str(row["ends_on"])) == ("daily", "2026-03-12", "2026-03-15")
    assert [f"{each:%H:%M}" for each in row["local_times"]] == ["17:30", "18:15"]
    page = await get(api, inbox(api))
    assert f"/broadcasts/{row['broadcast_id']}" in page.links
    own = await get(api, f"/broadcasts/{row['broadcast_id']}")
    assert "Hằng ngày, từ 12/03/2026 đến hết 14/03/2026" in own.text


async def test_sessions_of_the_unit_can_be_ticked(api: Api) -> None:
    broadcast_id = await add_offer(api, "11")
    await set_policy(api, "11", sessions=[{"code": "chieu", "name": "Buổi chiều", "begin": "16:30", "end": "18:00"}])
    await log_in(api, (Role.OFFICER, "11"))
    assert "Khung giờ Buổi chiều 16:30–18:00" in (await get(api, inbox(api))).text
    response = await answer(api, broadcast_id, "schedule", starts_on="2026-03-12", session="chieu")
    assert response.status_code == 303, response.text
    assert await api.fetchval("SELECT sessions FROM control.broadcasts WHERE offer_of IS NOT NULL") == ["chieu"]


@pytest.mark.parametrize(
    "form",
    [
        {"decision": "perhaps"},
        {"decision": ""},
        {"decision": "accept", "note": "x" * 501},
        {"decision": "schedule"},
        {"decision": "schedule", "starts_on": "2026-03-12"},
        {"decision": "schedule", "starts_on": "tomorrow", "local_time": "17:30"},
        {"decision": "schedule", "starts_on": "2026-03-12", "local_time": "25:00"},
        {"decision": "schedule", "starts_on": "2026-03-12", "local_time": "17:30", "last_day": "2026-03-01"},
        {"decision": "schedule", "starts_on": "2026-03-12", "local_time": "17:30", "last_day": "9999-12-31"},
        {"decision": "schedule", "starts_on": "2026-03-12", "session": "nowhere"},
    ],
)
async def test_what_cannot_be_is_said_and_nothing_happens(api: Api, form: dict[str, str]) -> None:
    broadcast_id = await add_offer(api, "11")
    await log_in(api, (Role.OFFICER, "11"))
    response = await answer(api, broadcast_id, **form)
    assert response.status_code == 422, response.text
    Page(response.text)
    assert await state_of(api, broadcast_id) == "offered"
    assert await api.fetchval("SELECT count(*) FROM control.broadcasts") == 1


async def test_without_its_token_a_form_does_nothing(api: Api) -> None:
    broadcast_id = await add_offer(api, "11")
    await log_in(api, (Role.OFFICER, "11"))
    shown = hidden(await html_of(api, inbox(api)), "shown")
    for token in ({}, {"csrf_token": "0" * 64}):
        form = {"decision": "accept", "shown": shown, **token}
        assert (await api.client.post(f"{inbox(api)}/{broadcast_id}", data=form)).status_code == 403
    assert await state_of(api, broadcast_id) == "offered"


async def test_who_may_only_look_gets_no_buttons_and_who_belongs_elsewhere_no_inbox(api: Api) -> None:
    broadcast_id = await add_offer(api, "11")
    form = {"decision": "accept", "shown": "1-offered"}
    await log_in(api, (Role.VIEWER, "11"))
    assert "Nhận phát" not in await html_of(api, inbox(api))
    assert (await post(api, f"{inbox(api)}/{broadcast_id}", **form)).status_code == 403
    await log_in(api, (Role.OFFICER, "12"))
    assert (await api.client.get(inbox(api))).status_code == 403
    assert (await post(api, f"{inbox(api)}/{broadcast_id}", **form)).status_code == 403
    own = await post(api, f"{inbox(api, '12')}/{broadcast_id}", **form)
    assert own.status_code == 404, "it was not offered to this unit"
    assert await state_of(api, broadcast_id) == "offered"


async def test_nobody_answers_what_they_have_not_seen(api: Api) -> None:
    broadcast_id = await add_offer(api, "11", title="Bản cũ")
    await log_in(api, (Role.OFFICER, "11"))
    shown = hidden(await html_of(api, inbox(api)), "shown")
    headers = await api.person((Role.OFFICER, "24"))
    path = f"/api/v1/broadcasts/{broadcast_id}"
    etag = (await api.client.get(path, headers=headers)).headers["etag"]
    body = await broadcast_body(api, "24", title="Bản mới", targets=[{"unit_id": str(api.units["11"])}])
    changed = await api.client.put(path, json=body, headers={**headers, "If-Match": etag})
    assert changed.status_code == 200, changed.text
    response = await post(api, f"{inbox(api)}/{broadcast_id}", shown=shown, decision="accept")
    assert response.status_code == 409
    assert "vừa được người khác thay đổi" in Page(response.text).text
    assert await state_of(api, broadcast_id) == "offered"


async def test_two_officers_do_not_overrule_each_other_unseen(api: Api) -> None:
    broadcast_id = await add_offer(api, "11")
    await log_in(api, (Role.OFFICER, "11"))
    shown = hidden(await html_of(api, inbox(api)), "shown")
    assert (await answer(api, broadcast_id, "decline")).status_code == 303
    late = await post(api, f"{inbox(api)}/{broadcast_id}", shown=shown, decision="accept")
    assert late.status_code == 409
    assert await state_of(api, broadcast_id) == "declined"


async def test_what_is_over_is_told_from_what_waits(api: Api) -> None:
    await add_offer(api, "11", title="Đã lỡ")
    api.clock.forward(days=2)
    await log_in(api, (Role.OFFICER, "11"))
    page = await get(api, inbox(api))
    assert "Không có nội dung nào chờ trả lời" in page.text
    assert "Không trả lời" in page.text
    assert "Nhận phát" not in page.text
    assert "chờ trả lời" not in (await get(api, f"/units/{api.units['11']}")).text


async def test_answers_are_counted_by_unit(api: Api) -> None:
    first = await add_offer(api, "11")
    await add_offer(api, "12")
    await log_in(api, (Role.OFFICER, "1"))
    assert (await answer(api, first, "accept")).status_code == 303
    district = await get(api, inbox(api, "1"))
    assert "Tháng 3/2026" in district.text
    assert inbox(api, "12") in district.links
    assert "Bản tin sáng" not in district.text, "what is offered to communes is in their inboxes"


async def test_a_long_past_is_read_in_pages(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit_pages, "_DECIDED_SHOWN", 2)
    await log_in(api, (Role.OFFICER, "11"))
    for title in ("Thứ nhất", "Thứ hai", "Thứ ba"):
        assert (await answer(api, await add_offer(api, "11", title=title), "decline")).status_code == 303
        api.clock.forward(seconds=1)
    newest = await get(api, inbox(api))
    assert "Thứ nhất" not in newest.text
    (older,) = [link for link in newest.links if "before=" in link]
    past = Page((await api.client.get(older)).text)
    assert "Thứ nhất" in past.text
    assert "Thứ hai" not in past.text
    assert not any(link.startswith(inbox(api)) and "before=" in link for link in past.links)


async def test_what_was_answered_at_one_instant_is_read_in_pages_too(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit_pages, "_DECIDED_SHOWN", 1)
    await log_in(api, (Role.OFFICER, "11"))
    titles = ["Thứ nhất", "Thứ hai", "Thứ ba"]
    for title in titles:
        assert (await answer(api, await add_offer(api, "11", title=title), "decline")).status_code == 303
    seen: list[str] = []
    path: str | None = inbox(api)
    while path is not None:
        page = Page((await api.client.get(path)).text)
        seen += [title for title in titles if title in page.text]
        path = next((link for link in page.links if link.startswith(f"{inbox(api)}?before=")), None)
    assert sorted(seen) == sorted(titles)


# --- order of priorities ---------------------------------------------------------------------------------------------


def order_path(api: Api, unit: str = "11") -> str:
    return f"/units/{api.units[unit]}/order"


async def titles(api: Api) -> list[str]:
    return re.findall(r"<b>(?:<a [^>]*>)?([^<]+)", await html_of(api, order_path(api)))


async def three_priorities(api: Api) -> list[str]:
    await add_device(api, "11")
    made = [await priority(api, "11", title=title) for title in ("Một", "Hai", "Ba")]
    await planned(api)
    return made


async def test_the_order_is_changed_by_buttons(api: Api) -> None:
    one, _, three = await three_priorities(api)
    await log_in(api, (Role.OFFICER, "11"))
    assert await titles(api) == ["Một", "Hai", "Ba"]
    for move, wanted, expected in (
        ("up", three, ["Một", "Ba", "Hai"]),
        ("down", one, ["Ba", "Một", "Hai"]),
        ("up", three, ["Ba", "Một", "Hai"]),  # it stands at the top already
    ):
        version = hidden(await html_of(api, order_path(api)), "version")
        response = await post(api, order_path(api), version=version, **{move: wanted})
        assert (response.status_code, response.headers["location"]) == (303, order_path(api))
        assert await titles(api) == expected


async def test_a_second_officer_s_change_is_shown_and_nothing_is_lost(api: Api) -> None:
    one, two, three = await three_priorities(api)
    await log_in(api, (Role.OFFICER, "11"))
    version = hidden(await html_of(api, order_path(api)), "version")
    assert (await post(api, order_path(api), version=version, up=three)).status_code == 303
    late = await post(api, order_path(api), version=version, up=two)
    assert late.status_code == 409
    assert "Thao tác của anh/chị chưa được thực hiện" in Page(late.text).text
    assert await titles(api) == ["Một", "Ba", "Hai"]
    assert (await post(api, order_path(api), version=hidden(late.text, "version"), down=one)).status_code == 303
    assert await titles(api) == ["Ba", "Một", "Hai"]


@pytest.mark.parametrize(
    "form",
    [{}, {"up": "nonsense"}, {"up": "00000000-0000-4000-8000-000000000000"}, {"up": "{id}", "down": "{id}"}],
)
async def test_a_move_that_names_nothing_is_refused(api: Api, form: dict[str, str]) -> None:
    one, *_ = await three_priorities(api)
    await log_in(api, (Role.OFFICER, "11"))
    version = hidden(await html_of(api, order_path(api)), "version")
    named = {name: value.format(id=one) for name, value in form.items()}
    assert (await post(api, order_path(api), version=version, **named)).status_code == 422
    assert await titles(api) == ["Một", "Hai", "Ba"]


async def test_who_may_not_order_sees_the_order_only(api: Api) -> None:
    one, *_ = await three_priorities(api)
    await log_in(api, (Role.VIEWER, "11"))
    html = await html_of(api, order_path(api))
    assert "<button class=" not in html.split("<main", 1)[1]
    assert (await post(api, order_path(api), up=one)).status_code == 403
    await log_in(api, (Role.OFFICER, "12"))
    assert (await api.client.get(order_path(api))).status_code == 403
    assert "Không có nội dung ưu tiên nào" in (await get(api, order_path(api, "12"))).text


# --- approvals -------------------------------------------------------------------------------------------------------


async def test_an_approver_decides_on_bulletins(api: Api) -> None:
    good = await add_bulletin(api, "11", state="submitted", board_text="Họp lúc 19 giờ")
    bad = await add_bulletin(api, "12", state="submitted")
    await add_bulletin(api, "21", state="submitted")
    await log_in(api, (Role.APPROVER, "1"))
    page = await get(api, "/approvals")
    assert "Bản tin chờ duyệt (2)" in page.text
    assert "Họp lúc 19 giờ" in page.text
    assert page.inputs.keys() == page.labels
    for bulletin_id, decision in ((good, "approve"), (bad, "reject")):
        response = await post(api, f"/approvals/bulletins/{bulletin_id}", decision=decision, note="Đã nghe")
        assert (response.status_code, response.headers["location"]) == (303, "/approvals")
    async with api.database.connection() as connection:
        rows = await connection.fetch("SELECT bulletin_id, state, decision_note FROM control.bulletins")
    states = {str(row["bulletin_id"]): (row["state"], row["decision_note"]) for row in rows}
    assert (states[good], states[bad]) == (("approved", "Đã nghe"), ("rejected", "Đã nghe"))
    again = await post(api, f"/approvals/bulletins/{good}", decision="reject")
    assert again.status_code == 409
    assert "Không có bản tin nào chờ duyệt" in (await get(api, "/approvals")).text


async def test_what_one_made_oneself_is_for_somebody_else(api: Api) -> None:
    account = await api.account((Role.OFFICER, "11"), (Role.APPROVER, "11"), login="mot-minh")
    own = await add_bulletin(api, "11", state="submitted", by=account.account_id)
    await set_policy(api, "11", forbids_self_approval=True)
    await api.client.post("/login", data={"login": "mot-minh", "password": PASSWORD})
    page = await get(api, "/approvals")
    assert "Do chính anh/chị làm ra" in page.text
    assert "Không duyệt" not in page.text
    assert (await post(api, f"/approvals/bulletins/{own}", decision="approve")).status_code == 403


async def test_an_approver_decides_on_what_a_policy_stands_against(api: Api) -> None:
    allowed = await add_awaiting_broadcast(api, "11")
    refused = await add_awaiting_broadcast(api, "12")
    await log_in(api, (Role.APPROVER, "1"))
    page = await get(api, "/approvals")
    assert "Lịch phát chờ duyệt ngoại lệ (2)" in page.text
    assert "Trong giờ yên tĩnh" in page.text
    assert f"/units/{api.units['11']}/policy" in page.links
    for broadcast_id, decision in ((allowed, "approve"), (refused, "reject")):
        path = f"/approvals/broadcasts/{broadcast_id}"
        assert (await post(api, path, decision=decision, version="7")).status_code == 409
        response = await post(api, path, decision=decision, version="1", note="Có lệnh của huyện")
        assert (response.status_code, response.headers["location"]) == (303, "/approvals")
    states = {
        each: await api.fetchval("SELECT state FROM control.broadcasts WHERE broadcast_id = $1", uuid.UUID(each))
        for each in (allowed, refused)
    }
    assert states == {allowed: "scheduled", refused: "rejected"}


async def test_an_approver_is_shown_what_would_refuse_it_all_the_same_before_it_passes(api: Api) -> None:
    """Nobody was asked about the day that has become full since; it takes a second look, and no third."""
    await set_policy(api, "11", quiet=[{"begin": "22:00", "end": "06:00"}], exceptions_by_approver=True, max_day_s=60)
    broadcast_id = (await add_broadcast(api, "11"))["broadcast_id"]
    items = [{"bulletin_id": await add_bulletin(api, "11", duration_ms=50_000)}]
    targets = [{"unit_id": str(api.units["11"])}]
    await add_broadcast(api, "11", level="priority", local_times=["17:00"], items=items, targets=targets)
    await log_in(api, (Role.APPROVER, "11"))
    path = f"/approvals/broadcasts/{broadcast_id}"

    first = await post(api, path, decision="approve", version="1", note="Lễ")

    assert first.status_code == 409
    assert "Duyệt rồi vẫn có lần không phát" in first.text
    assert "Hết thời lượng trong ngày" in first.text
    assert await api.fetchval("SELECT count(*) FROM control.policy_exceptions WHERE is_allowed IS NULL") == 1
    again = await post(api, path, decision="approve", version="1", note="Lễ", shown="0" * 64)
    assert again.status_code == 409, "not what was shown"
    second = await post(api, path, decision="approve", version="1", note="Lễ", shown=hidden(first.text, "shown"))
    assert (second.status_code, second.headers["location"]) == (303, "/approvals")
    assert await api.fetchval("SELECT is_allowed FROM control.policy_exceptions")


async def test_whose_limit_it_is_decides(api: Api) -> None:
    broadcast_id = await add_awaiting_broadcast(api, "11", against=("24",))
    await log_in(api, (Role.APPROVER, "11"))
    assert "Cần người duyệt của Tỉnh Thử Nghiệm" in (await get(api, "/approvals")).text
    response = await post(api, f"/approvals/broadcasts/{broadcast_id}", decision="approve", version="1")
    assert response.status_code == 403


@pytest.mark.parametrize("form", [{}, {"decision": "perhaps"}, {"decision": "approve", "note": "x" * 501}])
async def test_a_decision_that_is_none_changes_nothing(api: Api, form: dict[str, str]) -> None:
    bulletin_id = await add_bulletin(api, "11", state="submitted")
    broadcast_id = await add_awaiting_broadcast(api, "11")
    await log_in(api, (Role.APPROVER, "11"))
    for path in (f"/approvals/bulletins/{bulletin_id}", f"/approvals/broadcasts/{broadcast_id}"):
        assert (await post(api, path, version="1", **form)).status_code == 422
        assert (await api.client.post(path, data={"decision": "approve", "version": "1"})).status_code == 403
    page = await get(api, "/approvals")
    assert "Bản tin chờ duyệt (1)" in page.text
    assert "Lịch phát chờ duyệt ngoại lệ (1)" in page.text


async def test_only_approvers_are_led_there_and_others_see_no_buttons(api: Api) -> None:
    bulletin_id = await add_bulletin(api, "11", state="submitted")
    await log_in(api, (Role.APPROVER, "11"))
    assert "/approvals" in (await get(api, f"/units/{api.units['11']}")).links
    await log_in(api, (Role.OFFICER, "11"))
    assert "/approvals" not in (await get(api, f"/units/{api.units['11']}")).links
    assert "Cần người duyệt của Xã Đại Sơn" in (await get(api, "/approvals")).text
    assert (await post(api, f"/approvals/bulletins/{bulletin_id}", decision="approve")).status_code == 403


# --- policy ----------------------------------------------------------------------------------------------------------


async def test_the_policy_page_says_what_holds_and_whose_word_it_is(api: Api) -> None:
    await set_policy(
        api,
        "24",
        quiet=[{"begin": "22:00", "end": "05:00"}],
        volume_caps=[{"begin": "20:00", "end": "22:00", "percent": 50}],
        max_day_s=10_800,
    )
    session = {"code": "sang", "name": "Buổi sáng", "begin": "05:00", "end": "06:30", "weekdays": [1, 2, 3, 4, 5]}
    await set_policy(api, "11", sessions=[session], approved_levels=["priority"], accepts_normal=True)
    await log_in(api, (Role.VIEWER, "11"))
    html = await html_of(api, f"/units/{api.units['11']}/policy")
    page = Page(html)
    for words in (
        "Được phát: thứ Hai đến thứ Sáu",
        "không được phát",
        "22:00–05:00 Tỉnh Thử Nghiệm",
        "50 %: 20:00–22:00",
        "3 giờ Tỉnh Thử Nghiệm",
        "Buổi sáng: 05:00–06:30, thứ Hai đến thứ Sáu Xã Đại Sơn",
        "Ưu tiên Xã Đại Sơn",
        "phát ngay, không cần nhận từng mục",
    ):
        assert words in page.text, words
    assert re.search(r'<rect x="300" y="0" width="90" height="100"/>', html), "05:00 until 06:30"
    assert (await api.client.get(f"/units/{api.units['12']}/policy")).status_code == 403


async def test_the_policy_page_says_which_slots_are_kept_above(api: Api) -> None:
    await set_policy(api, "1", reserved=[{"begin": "17:00", "end": "17:30", "weekdays": [1, 2, 3, 4, 5]}])
    await log_in(api, (Role.VIEWER, "11"))
    page = await get(api, f"/units/{api.units['11']}/policy")
    for words in ("Dành cho chương trình của đơn vị này và cấp trên", "17:00–17:30, thứ Hai đến thứ Sáu", "Huyện Bắc"):
        assert words in page.text, words
    assert "Được phát: thứ Hai đến thứ Sáu 17:30–17:00" in page.text, "what is left for the commune"


async def test_the_policy_page_says_how_much_counts_along_and_who_may_stop_alerts_from_above(api: Api) -> None:
    await set_policy(
        api, "24", second_person_from={"alerts": 50, "volume": 9, "within_s": 0}, may_stop_alerts_from_above=True
    )
    await set_policy(api, "11", second_person_from={"alerts": 20, "within_s": 5_400})
    await log_in(api, (Role.VIEWER, "11"))
    page = Page(await html_of(api, f"/units/{api.units['11']}/policy"))
    for words in (
        "từ 20 thiết bị, tính cả những gì cùng người đó đã làm trong 1 giờ 30 phút trước Xã Đại Sơn",
        "từ 9 thiết bị Tỉnh Thử Nghiệm",
        "Dừng cảnh báo của cấp trên tại địa bàn được phép Tỉnh Thử Nghiệm",
    ):
        assert words in page.text, words
    await set_policy(api, "1", may_stop_alerts_from_above=False)
    forbidden = Page(await html_of(api, f"/units/{api.units['11']}/policy")).text
    assert "Dừng cảnh báo của cấp trên tại địa bàn không được phép Huyện Bắc" in forbidden


async def test_where_nobody_says_anything_everything_may_sound(api: Api) -> None:
    await log_in(api, (Role.VIEWER, "11"))
    page = await get(api, f"/units/{api.units['11']}/policy")
    assert "Được phát cả ngày" in page.text
    assert "chỉ phát sau khi đơn vị nhận" in page.text
    assert "Dừng cảnh báo của cấp trên tại địa bàn không được phép mặc định" in page.text
    assert "May sound all day" in (await get(api, f"/units/{api.units['11']}/policy", lang="en")).text


# --- all of them -----------------------------------------------------------------------------------------------------


async def test_nothing_anybody_typed_becomes_markup_and_both_languages_are_whole(api: Api) -> None:
    await add_offer(api, "11", title=EVIL)
    await add_bulletin(api, "11", state="submitted", board_text=EVIL)
    await add_awaiting_broadcast(api, "11")
    await priority(api, "11", title=EVIL)
    await planned(api)
    session = {"code": "sang", "name": EVIL[:100], "begin": "05:00", "end": "06:30"}
    await set_policy(api, "11", sessions=[session])
    await api.execute("UPDATE control.unit_versions SET name = $1 WHERE code = '11'", EVIL)
    await api.execute("UPDATE control.bulletins SET title = $1", EVIL)
    await api.execute("UPDATE control.accounts SET display_name = $1", EVIL[:100])
    await log_in(api, (Role.OFFICER, "24"), (Role.APPROVER, "24"))
    unit = f"/units/{api.units['11']}"
    for path in (unit, f"{unit}/inbox", f"{unit}/order", f"{unit}/policy", "/approvals"):
        for language in ("vi", "en"):
            html = await html_of(api, path, lang=language)
            assert "<script>alert" not in html
            assert "<img" not in html
            assert f'<html lang="{language}">' in html


async def test_of_a_unit_nobody_knows_there_is_nothing(api: Api) -> None:
    await log_in(api, (Role.VIEWER, "24"))
    for page in ("inbox", "order", "policy"):
        for unit in ("00000000-0000-4000-8000-000000000000", "nonsense"):
            assert (await api.client.get(f"/units/{unit}/{page}")).status_code == 404
