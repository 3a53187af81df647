"""Forms of the inbox, of approvals and of the quarantine come back with what was typed when they are refused."""

from __future__ import annotations

import re
from typing import Any

import pytest

from services.control.permissions import Role
from tests.integration.control.api.test_api_pages import Page, log_in
from tests.integration.control.api.test_deciding_pages import EVIL, hidden, html_of, inbox, set_policy
from tests.support.control_api import Api, add_awaiting_broadcast, add_bulletin, add_offer
from tests.support.quarantine import add_inmate

pytestmark = pytest.mark.integration


def faults_in(html: str) -> set[str]:
    return set(re.findall(r'<p class="fault" data-place="([^"]*)">', html))


async def refused(api: Api, page: str, path: str, status: int, **form: Any) -> str:
    """A form of a page, sent and given back."""
    html = await html_of(api, page)
    carried = {
        name: hidden(html, name)
        for name in ("csrf_token", "shown", "version")
        if f'type="hidden" name="{name}"' in html
    }
    response = await api.client.post(path, data={**carried, **form})
    assert response.status_code == status, response.text
    text: str = response.text
    Page(text)
    return text


async def test_own_times_come_back_as_they_were_typed(api: Api) -> None:
    broadcast_id = await add_offer(api, "11", title="Được gửi tới")
    await add_offer(api, "11", title="Cái khác")
    await set_policy(api, "11", sessions=[{"code": "chieu", "name": "Buổi chiều", "begin": "16:30", "end": "18:00"}])
    await log_in(api, (Role.OFFICER, "11"))
    form = {
        "decision": "schedule",
        "starts_on": "2026-03-12",
        "local_time": ["", "17:45", "25:00"],
        "session": "chieu",
        "last_day": "2026-03-01",
        "note": "Đã hẹn với thôn",
    }
    html = await refused(api, inbox(api), f"{inbox(api)}/{broadcast_id}", 422, **form)
    (letter,) = re.findall(rf'<article class="letter" id="offer-{broadcast_id}">.*?</article>', html, flags=re.S)
    assert html.count("Đã hẹn với thôn") == letter.count("Đã hẹn với thôn") == 2, "in no other letter"
    assert faults_in(letter) == faults_in(html) == {"times[2]"}
    typed = Page(f"<html>{letter}</html>").inputs
    by_name: dict[str, list[str | None]] = {}
    for each in typed.values():
        by_name.setdefault(each["name"] or "", []).append(each.get("value"))
    assert by_name["local_time"] == ["", "17:45", "25:00"]
    assert by_name["starts_on"] == ["2026-03-12"]
    assert by_name["last_day"] == ["2026-03-01"]
    assert re.search(r'name="session" value="chieu" checked', letter)
    assert "<details open>" in letter
    assert f'action="{inbox(api)}/{broadcast_id}#offer-{broadcast_id}"' in letter


async def test_a_note_that_is_too_long_comes_back_and_so_does_one_to_what_has_changed(api: Api) -> None:
    broadcast_id = await add_offer(api, "11")
    await log_in(api, (Role.OFFICER, "11"))
    path = f"{inbox(api)}/{broadcast_id}"
    html = await refused(api, inbox(api), path, 422, decision="accept", note="x" * 501)
    assert (faults_in(html), html.count("x" * 501)) == ({"note"}, 1)
    html = await refused(api, inbox(api), path, 409, decision="accept", shown="7-offered", note="Nhận nhé")
    assert "vừa được người khác thay đổi" in Page(html).text
    assert "Nhận nhé" in html
    assert hidden(html, "shown") == "1-offered", "the form is for what stands there now"
    assert await api.fetchval("SELECT state FROM control.offers") == "offered"
    html = await refused(api, inbox(api), path, 422, decision=EVIL, note=EVIL)
    assert "<script>alert" not in html


async def test_what_an_approver_wrote_comes_back(api: Api) -> None:
    bulletin_id = await add_bulletin(api, "11", state="submitted")
    broadcast_id = await add_awaiting_broadcast(api, "11")
    await log_in(api, (Role.APPROVER, "11"))
    for kind, identifier in (("bulletin", bulletin_id), ("broadcast", broadcast_id)):
        path = f"/approvals/{kind}s/{identifier}"
        html = await refused(api, "/approvals", path, 422, decision="approve", note="y" * 501)
        (letter,) = re.findall(rf'<article class="letter" id="{kind}-{identifier}">.*?</article>', html, flags=re.S)
        assert faults_in(letter) == faults_in(html) == {"note"}
        assert html.count("y" * 501) == letter.count("y" * 501) == 1
        html = await refused(api, "/approvals", path, 422, decision="perhaps", note="Xem lại đoạn hai")
        assert "Xem lại đoạn hai" in html
        assert f'href="#{kind}-{identifier}"' in html
    path = f"/approvals/broadcasts/{broadcast_id}"
    html = await refused(api, "/approvals", path, 409, decision="approve", version="9", note="Được")
    assert 'value="Được"' in html
    assert await api.fetchval("SELECT count(*) FROM control.policy_exceptions WHERE decided_at IS NULL") == 1


async def test_what_was_typed_about_an_inmate_comes_back(api: Api) -> None:
    number = await add_inmate(api)
    await log_in(api, (Role.ADMINISTRATOR, "24"))
    page = f"/quarantine/{number}"
    html = await refused(api, page, page, 422, decision="discard", why="z" * 501)
    assert (faults_in(html), html.count("z" * 501)) == ({"why"}, 1)
    form = {"why": "gõ nhầm", "device_id": "cum-1", "payload_diagnostic": "{1: h'zz'"}
    html = await refused(api, page, f"{page}/correct", 422, **form)
    assert Page(html).inputs["device"]["value"] == "cum-1"
    assert Page(html).inputs["reason-given"]["value"] == "gõ nhầm"
    assert Page(html).inputs["why"]["value"] == ""
    assert re.search(r"<textarea[^>]*>\{1: h&#39;zz&#39;</textarea>", html)
    assert await api.fetchval("SELECT count(*) FROM control.quarantine_corrections") == 0
    html = await refused(api, "/quarantine", "/quarantine/replay", 422, reason="unknown_device", why="w" * 501)
    assert (faults_in(html), html.count("w" * 501)) == ({"why"}, 1)
    await refused(api, "/quarantine", "/quarantine/replay", 422, reason="", why="vì thế")
