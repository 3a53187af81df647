"""The page that answers why, the addresses of calendars, and what becomes of forms that were refused."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

import pytest

from services.control.permissions import Role
from tests.integration.control.api.test_api_broadcasts import emission
from tests.integration.control.api.test_api_pages import get, log_in
from tests.support.control_api import (
    PASSWORD,
    Api,
    add_awaiting_broadcast,
    add_broadcast,
    add_bulletin,
    add_device,
    add_offer,
    add_source,
)

pytestmark = pytest.mark.integration


async def test_why_is_answered_for_now_and_for_an_instant_one_chooses(api: Api) -> None:
    device_id = await add_device(api, "11")
    broadcast = await add_broadcast(api, "11", title="Bản tin sáng", targets=[{"device_id": device_id}])
    await emission(api, broadcast, device_id, starts_at=datetime(2026, 3, 10, 22, 30, tzinfo=UTC))
    await log_in(api, (Role.VIEWER, "11"))
    now = await get(api, f"/devices/{device_id}/why")
    assert "Không có nội dung nào được phát lúc này" in now.text
    then = await get(api, f"/devices/{device_id}/why", at="2026-03-11T05:30")
    assert "Phát theo lịch" in then.text
    assert "không có nội dung nào khác cùng lúc" in then.text
    assert then.inputs["at"]["value"] == "2026-03-11T05:30"
    assert then.inputs.keys() == then.labels
    far = await get(api, f"/devices/{device_id}/why", at="2026-06-11T05:30")
    assert "Ngày này chưa lập lịch" in far.text


@pytest.mark.parametrize(
    "at", ["hôm nay", "0001-01-01T00:00", "9999-12-31T23:59", "2026-03-11T05:30+07:00", "2026-02-30T00:00"]
)
async def test_what_is_no_instant_is_said_beside_the_answer_for_now(api: Api, at: str) -> None:
    device_id = await add_device(api, "11")
    await log_in(api, (Role.VIEWER, "11"))
    page = await get(api, f"/devices/{device_id}/why", at=at)
    assert "Thời điểm không hợp lệ" in page.text
    assert page.inputs["at"]["value"] == at


async def test_a_unit_and_a_device_name_the_address_of_their_calendar_and_how_to_log_in(api: Api) -> None:
    device_id = await add_device(api, "11")
    account = await api.account((Role.OFFICER, "11"), login="nguoi-doc-lich")
    await api.client.post("/login", data={"login": account.login, "password": PASSWORD})
    unit = str(api.units["11"])
    for path, address in (
        (f"/units/{unit}", f"/api/v1/units/{unit}/calendar.ics"),
        (f"/devices/{device_id}", f"/api/v1/devices/{device_id}/calendar.ics"),
    ):
        page = await get(api, path)
        assert f"http://loa.test{address}" in page.text
        assert "Tên đăng nhập: nguoi-doc-lich" in page.text
        assert address in page.links


async def test_the_proof_sheet_is_offered_in_both_languages(api: Api) -> None:
    await add_device(api, "11")
    await log_in(api, (Role.OFFICER, "11"))
    page = await get(api, f"/units/{api.units['11']}")
    sheets = [link for link in page.links if "proof-sheet?month=2026-03&lang=" in link]
    assert len(sheets) == 2
    titles = [(await api.client.get(link)).text for link in sheets]
    assert ['lang="vi"' in title for title in titles] == [True, False]


async def test_trying_again_leads_to_the_page_of_the_form_and_nowhere_else(api: Api) -> None:
    await log_in(api, (Role.OFFICER, "11"))
    unit = f"/units/{api.units['11']}"
    for referer, link in (
        (f"http://loa.test{unit}/order?lang=vi", f"{unit}/order?lang=vi"),
        ("http://evil.example/x", "/"),
        ("http://loa.test//evil.example/", "/"),
    ):
        response = await api.client.post(f"{unit}/order", data={}, headers={"Referer": referer})
        assert response.status_code == 403  # no token
        assert f'href="{link}">Thử lại' in response.text


async def test_a_broadcast_names_what_whom_and_what_stands_against_it(api: Api) -> None:
    source = await add_source(api, "24")
    spared = await add_device(api, "11")
    bulletin = await add_bulletin(api, "24", board_text="Chữ cho bảng tin")
    broadcast_id = await add_offer(
        api,
        "11",
        title="Thời sự tỉnh",
        items=[{"bulletin_id": bulletin}, {"relay_source_id": source, "length_s": 600}],
        targets=[
            {"unit_id": str(api.units["11"])},
            {"device_id": spared, "exclude": True},
            {"kind": "board", "exclude": True},
        ],
    )
    await api.execute(
        """
        INSERT INTO control.planning_problems (broadcast_id, problem, local_day, occurrence_at, unit_id, detail, found_at)
        VALUES ($1, 'quiet_hours', '2026-03-11', '2026-03-10T22:30:00Z', $2, '', now())
        """,
        uuid.UUID(broadcast_id),
        api.units["12"],
    )
    await log_in(api, (Role.VIEWER, "24"))
    page = await get(api, f"/broadcasts/{broadcast_id}")
    for words in (
        "Thông báo lịch tiêm chủng",
        "qua điểm tiếp sóng của tỉnh, có ký số",
        "Xã Đại Sơn mọi thiết bị của đơn vị và cấp dưới",
        f"Trừ Thiết bị {spared}",
        "Trong giờ yên tĩnh Xã An Lạc 1 11/03/2026",
        "1 chờ trả lời, 0 đã nhận, 0 tự xếp lịch, 0 không nhận.",
        "1 Lập lịch",
    ):
        assert words in page.text, words


async def test_a_broadcast_that_waits_says_for_whom_and_what_was_decided(api: Api) -> None:
    broadcast_id = await add_awaiting_broadcast(api, "11")
    await log_in(api, (Role.VIEWER, "24"))
    page = await get(api, f"/broadcasts/{broadcast_id}")
    assert "Duyệt ngoại lệ Phiên bản 1" in page.text
    assert "Chờ duyệt" in page.text
