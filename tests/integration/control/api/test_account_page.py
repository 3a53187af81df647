"""The page of one's own account: password, second factor, sessions and tokens."""

from __future__ import annotations

import base64
import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from services.control.account_store import Account
from services.control.pages.qr import code_of
from services.control.permissions import Role
from services.control.settings import PolicySettings
from services.control.trust import totp
from tests.integration.control.api.test_api_pages import Page, get
from tests.integration.control.api.test_deciding_pages import EVIL, hidden, html_of
from tests.support.control_api import PASSWORD, Api, an_api
from tests.support.database import TestDatabase

pytestmark = pytest.mark.integration


async def logged_in(api: Api) -> Account:
    account = await api.account((Role.OFFICER, "11"))
    await log_in(api, account)
    return account


async def log_in(api: Api, account: Account, password: str = PASSWORD) -> Any:
    return await api.client.post("/login", data={"login": account.login, "password": password})


async def post(api: Api, path: str, **form: str) -> Any:
    token = hidden(await html_of(api, "/account"), "csrf_token")
    response = await api.client.post(f"/account{path}", data={"csrf_token": token, **form})
    if response.status_code != 303:
        Page(response.text)
    return response


async def test_one_is_led_there_and_sees_who_one_is(api: Api) -> None:
    account = await logged_in(api)
    assert "/account" in (await get(api, f"/units/{api.units['11']}")).links
    page = await get(api, "/account")
    for words in (account.login, "Cán bộ biên tập tại Xã Đại Sơn", "Chưa bật", "phiên này", "203.0.113.7"):
        assert words in page.text, words
    assert page.inputs.keys() <= page.labels


async def test_who_holds_dangerous_rights_is_led_to_their_second_factor_until_it_is_on(
    database: TestDatabase, tmp_path: Path
) -> None:
    async with an_api(database, tmp_path, policy=PolicySettings()) as api:
        first, officer = await api.account((Role.ADMINISTRATOR, "24")), await api.account((Role.OFFICER, "11"))
        assert (await log_in(api, officer)).headers["location"] == "/"
        api.client.cookies.clear()
        assert (await log_in(api, first)).headers["location"] == "/account#factor"
        assert "chỉ làm được khi đã bật" in (await get(api, "/account")).text
        begun = await post(api, "/second-factor", password=PASSWORD)
        secret, address = hidden(begun.text, "secret"), hidden(begun.text, "address")
        code = totp.code_at(base64.b32decode(secret + "=" * (-len(secret) % 8)), totp.step_at(api.clock.now))
        assert (await post(api, "/second-factor/confirm", secret=secret, address=address, code=code)).status_code == 200
        api.client.cookies.clear()
        assert (await log_in(api, first)).headers["location"] == "/"


async def test_the_password_is_changed_and_other_sessions_end(api: Api) -> None:
    account = await logged_in(api)
    new = "mot mat khau moi hon"
    form = {"old_password": PASSWORD, "new_password": new, "again": new}
    for changes, status, place in (
        ({"again": "khac"}, 422, "again"),
        ({"new_password": "ngan", "again": "ngan"}, 422, "new_password"),
        ({"old_password": "sai"}, 401, None),
        ({"old_password": ""}, 422, "old_password"),
    ):
        refused = await post(api, "/password", **{**form, **changes})
        assert refused.status_code == status, (changes, refused.text)
        assert place is None or f'data-place="{place}"' in refused.text, changes
        assert new not in refused.text, "passwords are not sent back"
    done = await post(api, "/password", **form)
    assert "Đã đổi mật khẩu" in Page(done.text).text
    api.client.cookies.clear()
    assert (await log_in(api, account)).status_code == 401
    assert (await log_in(api, account, new)).status_code == 303


async def test_a_second_factor_is_switched_on_by_a_qr_code_and_off_by_a_recovery_code(api: Api) -> None:
    await logged_in(api)
    begun = await post(api, "/second-factor", password=PASSWORD)
    secret, address = hidden(begun.text, "secret"), unescape(hidden(begun.text, "address"))
    assert address.startswith("otpauth://totp/")
    path = re.search(r'<path d="([^"]+)"', begun.text)
    assert path is not None
    assert path.group(1) == code_of(address).path
    wrong = await post(api, "/second-factor/confirm", secret=secret, address=address, code="12345")
    assert (wrong.status_code, hidden(wrong.text, "secret")) == (422, secret)
    forged = await post(api, "/second-factor/confirm", secret=secret, address="javascript:alert(1)", code="12345")
    assert (forged.status_code, "<svg" in forged.text) == (422, False)
    code = totp.code_at(base64.b32decode(secret + "=" * (-len(secret) % 8)), totp.step_at(api.clock.now))
    confirmed = await post(api, "/second-factor/confirm", secret=secret, address=address, code=code)
    codes = re.findall(r"<li><code>([^<]+)</code></li>", confirmed.text)
    assert confirmed.status_code == 200
    assert len(codes) >= 8
    page = await get(api, "/account")
    assert f"Còn {len(codes)} mã dự phòng" in page.text
    assert codes[0] not in page.text, "shown once"
    assert (await post(api, "/second-factor", password=PASSWORD)).status_code == 409
    bad = await post(api, "/second-factor/remove", code="no code")
    assert bad.status_code == 422
    off = await post(api, "/second-factor/remove", code=codes[0])
    assert "Đã tắt xác thực hai lớp" in Page(off.text).text
    assert "Chưa bật" in (await get(api, "/account")).text


async def test_one_ends_other_sessions_of_one_s_own(api: Api) -> None:
    account = await logged_in(api)
    other = await api.account((Role.OFFICER, "12"))
    await log_in(api, other)
    theirs = await api.fetchval("SELECT session_id FROM control.sessions WHERE account_id = $1", other.account_id)
    mine = await api.fetchval("SELECT session_id FROM control.sessions WHERE account_id = $1", account.account_id)
    await log_in(api, account)
    html = await html_of(api, "/account")
    assert html.count("/account/sessions/") == 1, "not the one in use"
    assert (await post(api, f"/sessions/{mine}/end")).status_code == 303
    assert await api.fetchval("SELECT ended_at IS NOT NULL FROM control.sessions WHERE session_id = $1", mine)
    assert (await post(api, f"/sessions/{theirs}/end")).status_code == 404


async def test_a_token_is_made_shown_once_and_ended(api: Api) -> None:
    await logged_in(api)
    made = await post(api, "/tokens", name="Lịch điện tử", days="30", password=PASSWORD)
    token = re.search(r"<code class=\"address\">([^<]+)</code>", made.text)
    assert token is not None
    headers = {"Authorization": f"Bearer {token.group(1)}"}
    assert (await api.client.get("/api/v1/account", headers=headers)).status_code == 200
    html = await html_of(api, "/account")
    assert token.group(1) not in html
    assert "Lịch điện tử" in html
    (path,) = re.findall(r'action="/account(/tokens/[^"]+/end)"', html)
    assert (await post(api, path)).status_code == 303
    assert (await api.client.get("/api/v1/account", headers=headers)).status_code == 401
    for form in ({"name": "", "days": "30"}, {"name": "x", "days": "0"}, {"name": "x" * 121, "days": "365"}):
        refused = await post(api, "/tokens", **form, password=PASSWORD)
        assert refused.status_code == 422
        assert f'value="{form["name"]}"' in refused.text, "what was typed stays"
    for password in ("", "mot mat khau khac"):
        assert (await post(api, "/tokens", name="x", days="30", password=password)).status_code >= 400
    assert await api.fetchval("SELECT count(*) FROM control.api_tokens WHERE revoked_at IS NULL") == 0


async def test_nothing_anybody_typed_becomes_markup_and_forms_want_their_token(api: Api) -> None:
    await logged_in(api)
    for path, form in (("/tokens", {"name": EVIL[:100], "days": "30"}), ("/tokens", {"name": EVIL, "days": EVIL})):
        assert "<script>alert" not in (await post(api, path, **form)).text
        assert (await api.client.post(f"/account{path}", data=form)).status_code == 403
    for language in ("vi", "en"):
        html = await html_of(api, "/account", lang=language)
        assert "<script>alert" not in html
        assert f'<html lang="{language}">' in html
