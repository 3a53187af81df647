"""The pages: who gets in, what they show, and that nothing anybody typed becomes markup."""

from __future__ import annotations

import re
from datetime import timedelta
from html.parser import HTMLParser
from typing import Any

import pytest

from services.control.pages import rendering
from services.control.permissions import Role
from tests.integration.control.api.test_api_broadcasts import emission
from tests.support.control_api import PASSWORD, Api, add_broadcast, add_device, found_twice, heard

pytestmark = pytest.mark.integration


class Page(HTMLParser):
    """Words, links and structure of a page; fails on anything that is not closed properly."""

    VOID = frozenset({"meta", "link", "input", "br"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.links: list[str] = []
        self.labels: set[str] = set()
        self.inputs: dict[str, dict[str, str | None]] = {}
        self.tables_without_headers = 0
        self._in_table_head = False
        self.feed(html)
        assert self.open == [], f"left open: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "a":
            self.links.append(values["href"] or "")
        if tag == "label":
            self.labels.add(values["for"] or "")
        if tag == "input" and values.get("type") != "hidden":
            self.inputs[values["id"] or ""] = values
        if tag == "th":
            assert values.get("scope") in ("col", "row"), "a header cell says what it heads"
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"closed but never opened: {tag}"
        assert self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        if data.strip() and self.open and self.open[-1] not in ("script", "style"):
            self.words.append(data.strip())

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


async def log_in(api: Api, *grants: tuple[Role, str], **form: str) -> Any:
    account = await api.account(*grants)
    return await api.client.post("/login", data={"login": account.login, "password": PASSWORD, **form})


async def get(api: Api, path: str, **query: str) -> Page:
    response = await api.client.get(path, params=query)
    assert response.status_code == 200, response.text[:500]
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    return Page(response.text)


async def test_one_logs_in_lands_on_the_own_unit_and_logs_out(api: Api) -> None:
    form = await get(api, "/login")
    assert form.inputs.keys() == form.labels
    assert "Đăng nhập" in form.text
    logged_in = await log_in(api, (Role.OFFICER, "11"))
    assert (logged_in.status_code, logged_in.headers["location"]) == (303, "/")
    start = await api.client.get("/")
    assert start.headers["location"] == f"/units/{api.units['11']}"
    html = (await api.client.get(start.headers["location"])).text
    csrf = re.search(r'name="csrf_token" value="([0-9a-f]+)"', html)
    assert csrf is not None
    without = await api.client.post("/logout", data={})
    assert without.status_code == 403
    out = await api.client.post("/logout", data={"csrf_token": csrf.group(1)})
    assert (out.status_code, out.headers["location"]) == (303, "/login")
    assert (await api.client.get("/")).headers["location"] == "/login?next=/"


async def test_a_wrong_password_shows_the_form_again(api: Api) -> None:
    account = await api.account((Role.OFFICER, "11"))
    response = await api.client.post("/login", data={"login": account.login, "password": "wrong"})
    assert response.status_code == 401
    page = Page(response.text)
    assert "Sai tên đăng nhập hoặc mật khẩu" in page.text
    assert page.inputs.keys() == {"login", "password"}
    assert "set-cookie" not in response.headers


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("/devices/cum-1?x=1", "/devices/cum-1?x=1"),
        ("https://evil.example/", "/"),
        ("//evil.example/", "/"),
        ("/\\evil.example/", "/"),
        ("javascript:alert(1)", "/"),
        ("/a\r\nSet-Cookie: x=1", "/"),
        ("", "/"),
    ],
)
async def test_after_logging_in_one_stays_on_this_site(api: Api, wanted: str, expected: str) -> None:
    response = await log_in(api, (Role.VIEWER, "11"), next=wanted)
    assert response.headers["location"] == expected


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://["},
    ],
)
async def test_no_other_site_can_log_people_in(api: Api, headers: dict[str, str]) -> None:
    account = await api.account((Role.OFFICER, "11"))
    form = {"login": account.login, "password": PASSWORD}
    response = await api.client.post("/login", data=form, headers=headers)
    assert response.status_code == 403
    assert "set-cookie" not in response.headers


async def test_a_unit_shows_what_is_below_it_its_devices_and_the_day_s_proof(api: Api) -> None:
    await log_in(api, (Role.VIEWER, "1"))
    broadcast = await add_broadcast(api, "11", title="Bản tin sáng")
    online, silent = await add_device(api, "11"), await add_device(api, "12")
    await heard(
        api,
        online,
        at=api.clock.now - timedelta(seconds=125),
        volume_percent=35,
        playing_source=0,
        playing_id=broadcast["broadcast_id"],
        playing_item=0,
        playing_occurrence_at=api.clock.now,
        playing_since=api.clock.now,
    )
    await heard(api, silent, at=api.clock.now - timedelta(hours=3))
    await emission(api, broadcast, online, outcome="played", evidence="device")
    await emission(api, broadcast, silent, outcome="missed", reason="media_missing")
    await emission(api, broadcast, online, starts_at=api.clock.now + timedelta(hours=8))
    page = await get(api, f"/units/{api.units['1']}")
    for words in (
        "Huyện Bắc",
        "Xã An Lạc",
        "Xã Đại Sơn",
        "2 phút trước",
        "3 giờ trước",
        "Trực tuyến",
        "Mất kết nối",
        "35 %",
        "Thông báo lịch tiêm chủng",
        "Thiếu tệp âm thanh",
        "17:00",
        "Bản tin sáng",
    ):
        assert words in page.text, words
    assert f"/devices/{online}" in page.links
    # The province above may not be looked at, so it is named and not linked.
    assert "Tỉnh Thử Nghiệm" in page.text
    assert f"/units/{api.units['24']}" not in page.links
    offline = await get(api, f"/units/{api.units['1']}", liveness="offline")
    assert f"/devices/{silent}" in offline.links
    assert f"/devices/{online}" not in offline.links


async def test_a_broadcast_from_above_is_named_where_it_is_heard_and_linked_where_one_may_read_it(api: Api) -> None:
    broadcast = await add_broadcast(api, "1", title="Từ huyện")
    device_id = await add_device(api, "11")
    await emission(api, broadcast, device_id, starts_at=api.clock.now + timedelta(hours=1))
    link = f"/broadcasts/{broadcast['broadcast_id']}"
    await log_in(api, (Role.VIEWER, "11"))
    for path in (f"/units/{api.units['11']}", f"/devices/{device_id}"):
        page = await get(api, path)
        assert "Từ huyện" in page.text
        assert link not in page.links
    await log_in(api, (Role.VIEWER, "1"))
    for path in (f"/units/{api.units['11']}", f"/devices/{device_id}"):
        assert link in (await get(api, path)).links


async def test_a_device_and_a_broadcast_have_pages_of_their_own(api: Api) -> None:
    await log_in(api, (Role.VIEWER, "11"))
    broadcast = await add_broadcast(api, "11", title="Bản tin sáng")
    device_id = await add_device(api, "11")
    await heard(api, device_id, network_type=4, signal_dbm=-93, power_source=0, volume_percent=30)
    await emission(api, broadcast, device_id, outcome="cut", reason="outranked", evidence="device", sounded_ms=12_000)
    device = await get(api, f"/devices/{device_id}")
    for words in ("4G, -93 dBm", "Điện lưới", "Bị ngắt", "Nội dung ưu tiên hơn", "12 giây", "30 %"):
        assert words in device.text, words
    page = await get(api, f"/broadcasts/{broadcast['broadcast_id']}")
    for words in ("Bản tin sáng", "Một lần, 11/03/2026", "05:30", "Asia/Ho_Chi_Minh", device_id, "Bị ngắt"):
        assert words in page.text, words


async def test_a_device_whose_certificate_two_use_says_so_for_a_day(api: Api) -> None:
    await log_in(api, (Role.VIEWER, "11"))
    device_id, honest = await add_device(api, "11"), await add_device(api, "11")
    warning = "Hai thiết bị dùng chung một chứng thư"
    assert warning not in (await get(api, f"/devices/{device_id}")).text

    await found_twice(api, device_id, at=api.clock.now)

    assert warning in (await get(api, f"/devices/{device_id}")).text
    assert warning not in (await get(api, f"/devices/{honest}")).text
    api.clock.forward(hours=25)
    await log_in(api, (Role.VIEWER, "11"))
    assert warning not in (await get(api, f"/devices/{device_id}")).text


async def test_a_sensor_shows_its_newest_readings(api: Api) -> None:
    await log_in(api, (Role.VIEWER, "11"))
    device_id = await add_device(api, "11", "sensor")
    page = await get(api, f"/devices/{device_id}")
    assert "Chưa có số đo nào" in page.text
    assert "Sắp phát" not in page.text


async def test_nothing_anybody_typed_becomes_markup(api: Api) -> None:
    await log_in(api, (Role.VIEWER, "24"))
    evil = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>{{ 7*7 }}"
    broadcast = await add_broadcast(api, "11", title=evil)
    device_id = await add_device(api, "11")
    await api.execute("UPDATE control.devices SET name = $1", evil)
    await api.execute("UPDATE control.unit_versions SET name = $1 WHERE code = '11'", evil)
    await api.execute("UPDATE control.bulletins SET title = $1", evil)
    await heard(api, device_id, last_error=evil, firmware=evil[:40])
    await emission(api, broadcast, device_id, outcome="missed", reason="media_missing")
    for path in (
        f"/units/{api.units['11']}",
        f"/units/{api.units['24']}",
        f"/devices/{device_id}",
        f"/broadcasts/{broadcast['broadcast_id']}",
    ):
        html = (await api.client.get(path)).text
        assert "<script>alert" not in html
        assert "<img" not in html
        assert "{{ 7*7 }}" in html
        Page(html)


async def test_every_answer_keeps_browsers_in_bounds(api: Api) -> None:
    await log_in(api, (Role.VIEWER, "11"))
    for path in ("/login", f"/units/{api.units['11']}", "/api/v1/account", "/healthz", "/nowhere", "/static/loa.js"):
        headers = (await api.client.get(path)).headers
        assert "default-src 'none'" in headers["content-security-policy"], path
        assert "'unsafe-inline'" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "same-origin"
    assert "no-store" in (await api.client.get(f"/units/{api.units['11']}")).headers["cache-control"]


async def test_people_get_pages_and_programs_get_documents(api: Api) -> None:
    await log_in(api, (Role.VIEWER, "11"))
    for path, status in (
        ("/nowhere", 404),
        ("/units/00000000-0000-4000-8000-000000000000", 404),
        ("/units/nonsense", 404),
        (f"/units/{api.units['2']}", 403),
        ("/devices/nobody", 404),
    ):
        response = await api.client.get(path)
        assert response.status_code == status, path
        Page(response.text)
    document = await api.client.get("/api/v1/nowhere")
    assert (document.status_code, document.json()["code"]) == (404, "no_such_address")
    other = await api.client.put("/api/v1/units")
    assert (other.status_code, other.json()["code"]) == (405, "method_not_allowed")


async def test_no_address_makes_a_page_lead_to_another_site(api: Api) -> None:
    response = await api.client.get("http://control.test//evil.example/x")
    assert response.status_code == 404
    assert 'href="//' not in response.text


async def test_the_language_is_vietnamese_until_somebody_chooses(api: Api) -> None:
    await log_in(api, (Role.VIEWER, "11"))
    path = f"/units/{api.units['11']}"
    by_browser = await api.client.get(path, headers={"Accept-Language": "en-US,en;q=0.9"})
    assert '<html lang="vi">' in by_browser.text
    chosen = await api.client.get(path, params={"lang": "en"})
    assert '<html lang="en">' in chosen.text
    assert "Units below" not in chosen.text  # a commune has none
    assert "Devices" in chosen.text
    assert '<html lang="en">' in (await api.client.get(path)).text
    assert '<html lang="vi">' in (await api.client.get(path, params={"lang": "xx"})).text
    problem = await api.client.get("/api/v1/units/x/status", headers={"Accept-Language": "en"})
    assert "unit" in problem.json()["title"].lower()


async def test_files_of_the_pages_are_served_and_nothing_else(api: Api) -> None:
    for name, file in rendering.STATIC.items():
        response = await api.client.get(f"/static/{name}")
        assert (response.content, response.headers["content-type"]) == (file.content, file.media_type)
    for name in ("../pages.py", "..%2fpages.py", "unit.html", "loa.css.map"):
        assert (await api.client.get(f"/static/{name}")).status_code == 404
