"""The pages on which an alert in force is changed: typed, looked at, said in its place; and given back with what was typed."""

from __future__ import annotations

import re
import uuid
from datetime import timedelta
from html import unescape
from typing import Any

import pytest

from services.control.alerting import alert_store, template_store
from services.control.alerting.tones import Tone
from services.control.permissions import Role
from tests.integration.control.api.test_alert_pages import add_template, alerts_in, issued, issued_in_commune, send
from tests.integration.control.api.test_alert_speaker import a_speaker
from tests.integration.control.api.test_api_cap import a_message, sent_in
from tests.integration.control.api.test_api_pages import Page, get, log_in
from tests.integration.control.api.test_deciding_pages import EVIL, hidden, html_of, set_policy
from tests.integration.control.api.test_returned_forms import faults_in
from tests.support.control_api import Api, add_device, add_media

pytestmark = pytest.mark.integration

WORDS: dict[str, Any] = {
    "headline": "Lũ lớn, sơ tán ngay",
    "description": "Nước lên 1 m mỗi giờ.",
    "instruction": "Đến trường học xã.",
    "board_text": "SƠ TÁN NGAY",
    "severity": "severe",
    "until": "2026-03-10T16:30",
    "sound": "tone",
}


async def add_tone(api: Api) -> str:
    """The bare warning tone, as control lays it out at the beginning."""
    sha256 = await add_media(api)
    async with api.database.transaction() as connection:
        await template_store.put_tone(connection, Tone.WARNING, bytes.fromhex(sha256))
    return sha256


def carried(html: str) -> dict[str, str]:
    """What the review carries of what was typed."""
    found = {name: re.search(rf'name="{name}" value="([^"]*)"', html) for name in WORDS}
    return {name: unescape(match.group(1)) for name, match in found.items() if match}


async def test_what_it_says_is_changed_after_a_look(api: Api) -> None:
    await add_device(api, "11")
    await log_in(api, (Role.OPERATOR, "11"))
    path, tone = await issued_in_commune(api), await add_tone(api)
    assert f"{path}/change" in (await get(api, path)).links
    html = await html_of(api, f"{path}/change")
    form = Page(html)
    assert form.inputs["headline-0"]["value"] == "Lũ khẩn cấp"
    assert form.inputs["until"]["value"] == "2026-03-10T15:00"
    assert "Lên chỗ cao ngay." in form.text
    looked = await send(api, f"{path}/change", html, do="review", **WORDS)
    assert looked.status_code == 200, looked.text
    text = Page(looked.text).text
    for words in ("Chưa đổi", *(WORDS[name] for name in ("headline", "description", "instruction", "board_text"))):
        assert words in text, words
    for words in ("Nghiêm trọng", "16:30", "PHÁT BẢN MỚI tới 1 thiết bị", "Xã Đại Sơn"):
        assert words in text, words
    assert f'src="/media/{tone}"' in looked.text, "what was spoken before does not go with other words"
    assert "Lũ khẩn cấp" not in text.replace("Sửa: Lũ khẩn cấp", "")
    assert await api.fetchval("SELECT max(version) FROM control.alerts") == 1
    mended = await send(api, f"{path}/change", looked.text, do="mend", **carried(looked.text))
    assert Page(mended.text).inputs["headline-0"]["value"] == WORDS["headline"]
    done = [await send(api, f"{path}/change", looked.text, do="go", **carried(looked.text)) for _ in range(2)]
    assert [(each.status_code, each.headers.get("location")) for each in done] == [(303, path)] * 2, done[0].text
    page = await get(api, path)
    for words in ("Lũ lớn, sơ tán ngay", "đến 16:30", "Phiên bản 2", "SƠ TÁN NGAY"):
        assert words in page.text, words
    async with api.database.connection() as connection:
        alert = await alert_store.alert(connection, uuid.UUID(path.rpartition("/")[2]))
    assert (alert.draft.event, alert.draft.repeat_interval) == ("Lũ", timedelta(minutes=1)), "untouched stays"
    assert await alerts_in(api) == 1


async def test_what_cannot_be_said_comes_back_with_everything_typed(api: Api) -> None:
    await add_device(api, "11")
    await log_in(api, (Role.OPERATOR, "11"))
    path = await issued_in_commune(api)
    html = await html_of(api, f"{path}/change")
    wrong = {**WORDS, "headline": "", "board_text": "x" * 2001, "until": "hôm nào đó", "severity": EVIL}
    back = await send(api, f"{path}/change", html, do="review", **wrong)
    assert back.status_code == 422
    assert faults_in(back.text) >= {"texts[0].headline", "texts[0].board_text", "valid_until", "severity"}
    assert "Đến trường học xã." in back.text
    assert "x" * 2001 in back.text
    assert "<script>alert" not in back.text
    past = await send(api, f"{path}/change", html, do="go", **{**WORDS, "until": "2026-03-10T08:00"})
    assert past.status_code == 422
    assert carried(past.text)["headline"] == WORDS["headline"], "the review, with what was typed in it"
    stale = await send(api, f"{path}/change", html, do="go", version="7", **WORDS)
    assert (stale.status_code, hidden(stale.text, "version")) == (409, "1")
    assert Page(stale.text).inputs["headline-0"]["value"] == WORDS["headline"]
    assert await api.fetchval("SELECT max(version) FROM control.alerts") == 1


async def test_who_may_not_speak_there_is_not_led_there_and_what_is_over_is_not_changed(api: Api) -> None:
    await add_device(api, "11")
    await log_in(api, (Role.OPERATOR, "24"))
    path = await issued(api, await add_template(api))
    html = await html_of(api, f"{path}/change")
    await log_in(api, (Role.OPERATOR, "11"))
    assert f"{path}/change" not in (await get(api, path)).links
    assert (await api.client.get(f"{path}/change")).status_code == 403
    token = hidden(await html_of(api, path), "csrf_token")
    refused = await send(api, f"{path}/change", html, do="go", csrf_token=token, **WORDS)
    assert refused.status_code == 403
    guessed = await send(api, f"{path}/change", html, do="go", csrf_token=token, code="000000", **WORDS)
    assert guessed.status_code == 403
    assert "Lũ khẩn cấp" not in guessed.text, "a wrong code shows nobody the alert either"
    await log_in(api, (Role.OPERATOR, "24"))
    await send(api, f"{path}/end", await html_of(api, f"{path}/end"))
    assert (await api.client.get(f"{path}/change")).headers["location"] == path
    html = await html_of(api, path)
    over = await send(api, f"{path}/change", html, do="go", version="1", **WORDS)
    assert over.status_code == 409
    assert await alerts_in(api) == 0


async def test_above_a_size_a_change_waits_for_a_second_person(api: Api) -> None:
    await add_device(api, "11")
    await log_in(api, (Role.OPERATOR, "11"))
    path = await issued_in_commune(api)
    await add_tone(api)
    await set_policy(api, "24", second_person_from={"alerts": 1})
    await log_in(api, (Role.OPERATOR, "11"))
    looked = await send(api, f"{path}/change", await html_of(api, f"{path}/change"), do="review", **WORDS)
    assert "Không chờ được người thứ hai?" in Page(looked.text).text
    asked = await send(api, f"{path}/change", looked.text, do="go", **carried(looked.text))
    assert asked.headers.get("location", "").startswith("/alerts/requests/"), asked.text
    assert "Sửa cảnh báo: Lũ lớn, sơ tán ngay" in (await get(api, asked.headers["location"])).text
    for language in ("vi", "en"):
        Page(await html_of(api, f"{path}/change", lang=language))


async def test_a_voice_is_shown_with_the_text_it_reads_and_follows_its_words(api: Api) -> None:
    operator = await api.person((Role.OPERATOR, "24"))
    alert_id = (await sent_in(api, operator, a_message(api))).json()["alert"]["alert_id"]
    assert await a_speaker(api).speak_once(now=api.clock.now) is True
    address = f"/api/v1/alerts/{alert_id}"

    async def texts() -> list[dict[str, Any]]:
        answer = await api.client.get(address, headers=operator)
        found: list[dict[str, Any]] = answer.json()["content"]["texts"]
        return found

    tone, voice, _ = (each["media_sha256"] for each in await texts())
    await log_in(api, (Role.OPERATOR, "24"))
    path = f"/alerts/{alert_id}"
    html = await html_of(api, path)
    assert (html.count('<article class="said"'), html.count("<audio"), "vi-001" in html) == (2, 2, False)
    form = await html_of(api, f"{path}/change")
    assert [name for name in Page(form).inputs if name.startswith("headline")] == ["headline-0", "headline-1"]
    assert "vi-001" not in form

    typed = {"severity": "severe", "until": WORDS["until"], "description": ["", ""]}
    typed |= {"instruction": ["Lên đồi.", ""], "board_text": ["", ""]}
    empty = await send(api, f"{path}/change", form, do="review", sound="same", headline=["Lũ lớn", ""], **typed)
    places = re.findall(r'data-place="([^"]+)"', empty.text)
    assert (empty.status_code, places) == (422, ["texts[2].headline"])
    typed["headline"] = ["Lũ lớn", "Great flood"]
    looked = await send(api, f"{path}/change", form, do="review", sound="same", **typed)
    assert looked.text.count("Lên đồi.</b>") == 1
    done = await send(api, f"{path}/change", looked.text, do="go", sound="same", **typed)
    assert done.status_code == 303, done.text
    assert [(each["language"], each["headline"], each["media_sha256"]) for each in await texts()] == [
        ("vi", "Lũ lớn", tone), ("vi-001", "Lũ lớn", voice), ("en", "Great flood", None),
    ]  # fmt: skip
    assert [each["instruction"] for each in await texts()] == ["Lên đồi.", "Lên đồi.", None]
    assert (await api.client.get(f"{address}/cap", headers=operator)).text.count("<info>") == 2

    form = await html_of(api, f"{path}/change")
    looked = await send(api, f"{path}/change", form, do="review", sound="tone", **typed)
    done = await send(api, f"{path}/change", looked.text, do="go", sound="tone", **typed)
    assert done.status_code == 303, done.text
    assert [(each["language"], each["media_sha256"]) for each in await texts()] == [("vi", tone), ("en", None)]
