"""The page of CAP senders: whom a unit trusts, by way of which account, and that trust taken back, each with a code."""

from __future__ import annotations

from typing import Any

import pytest

from services.control.permissions import Role
from tests.integration.control.api.test_api_cap import a_message
from tests.integration.control.api.test_api_cap_senders import SENDER, Source
from tests.integration.control.api.test_api_pages import Page, get, log_in
from tests.integration.control.api.test_deciding_pages import EVIL, hidden, html_of
from tests.integration.control.api.test_returned_forms import faults_in
from tests.support.control_api import Api
from tests.support.people import somebody

pytestmark = pytest.mark.integration

TRUSTED = "SELECT array_agg(sender ORDER BY sender) FROM control.cap_senders"


def senders(api: Api, unit: str = "24") -> str:
    return f"/units/{api.units[unit]}/cap-senders"


async def post(api: Api, path: str, **form: Any) -> Any:
    token = hidden(await html_of(api, path), "csrf_token")
    return await api.client.post(path, data={"csrf_token": token, **form})


async def test_a_sender_is_trusted_delivers_and_is_trusted_no_longer(api: Api) -> None:
    deliverer = await api.account((Role.CAP_SOURCE, "24"))
    await log_in(api, (Role.ADMINISTRATOR, "24"))
    assert senders(api) in (await get(api, f"/units/{api.units['24']}")).links
    assert senders(api) in (await get(api, "/alerts")).links
    assert "Chưa tin cậy nguồn nào" in (await get(api, senders(api))).text

    trusted = await post(api, senders(api), do="trust", sender=SENDER, account_id=str(deliverer.account_id))

    assert (trusted.status_code, trusted.headers["location"]) == (303, senders(api)), trusted.text
    shown = await get(api, senders(api))
    for words in (SENDER, f"gửi qua tài khoản {deliverer.display_name}", "Thôi tin cậy"):
        assert words in shown.text, words
    assert "Trust it no longer" in (await get(api, senders(api), lang="en")).text
    await get(api, senders(api), lang="vi")
    cookies = dict(api.client.cookies)
    api.client.cookies.clear()
    source = Source(api, deliverer, await api.token(deliverer), "24")
    assert (await source.deliver(a_message(api))).status_code == 200
    api.client.cookies.update(cookies)
    removed = await post(api, senders(api), do="remove", sender=SENDER)
    assert removed.status_code == 303, removed.text
    assert await api.fetchval(TRUSTED) is None
    api.client.cookies.clear()
    assert (await source.deliver(a_message(api, "A-2"))).status_code == 403


async def test_what_cannot_be_trusted_comes_back_with_what_was_typed(api: Api) -> None:
    elsewhere = await api.account((Role.CAP_SOURCE, "2"))
    await log_in(api, (Role.ADMINISTRATOR, "24"))
    assert "Chưa có tài khoản nào có vai trò nguồn CAP" in (await get(api, senders(api, "1"))).text
    wrong = await post(api, senders(api), do="trust", sender=EVIL[:100], account_id=str(elsewhere.account_id))
    assert (wrong.status_code, await api.fetchval(TRUSTED)) == (422, None)
    await api.account((Role.CAP_SOURCE, "24"))
    back = await post(api, senders(api), do="trust", sender=EVIL[:100], account_id="khong")
    assert (back.status_code, faults_in(back.text)) == (422, {"account_id"})
    assert "<script>alert" not in back.text
    assert Page(back.text).inputs["sender"]["value"] == EVIL[:100]
    assert faults_in((await post(api, senders(api), do="trust", account_id="x")).text) == {"sender", "account_id"}
    assert (await post(api, senders(api), do="perhaps", sender=SENDER)).status_code == 422
    assert (await post(api, senders(api), do="remove", sender="nobody@example.org")).status_code == 404


async def test_whose_account_delivers_no_more_is_said(api: Api) -> None:
    source = await Source.of(api)
    await log_in(api, (Role.VIEWER, "24"))
    before = await get(api, senders(api))
    assert "không còn quyền gửi ở đây" not in before.text
    assert "Thôi tin cậy" not in before.text, "who may only look is offered nothing"
    await api.execute(
        "UPDATE control.accounts SET disabled_at = now() WHERE account_id = $1", source.account.account_id
    )
    assert "không còn quyền gửi ở đây" in (await get(api, senders(api))).text


async def test_trust_is_given_and_taken_back_with_a_code(api: Api) -> None:
    deliverer = await api.account((Role.CAP_SOURCE, "24"))
    administrator = await somebody(api, Role.ADMINISTRATOR, "24")
    await administrator.enrol()
    api.clock.forward(minutes=1)
    administrator = await administrator.again()
    form = {"do": "trust", "sender": SENDER, "account_id": str(deliverer.account_id)}
    without = await post(api, senders(api), **form)
    assert (without.status_code, Page(without.text).inputs["sender"]["value"]) == (403, SENDER)
    wrong = await post(api, senders(api), **form, code="000000")
    assert (wrong.status_code, faults_in(wrong.text)) == (422, {"code"})
    assert await api.fetchval(TRUSTED) is None
    assert (await post(api, senders(api), **form, code=administrator.code())).status_code == 303
    api.clock.forward(minutes=30)
    administrator = await administrator.again()
    refused = await post(api, senders(api), do="remove", sender=SENDER, code="000000")
    assert (refused.status_code, faults_in(refused.text)) == (422, {"code"})
    assert await api.fetchval(TRUSTED) == [SENDER]
    assert (await post(api, senders(api), do="remove", sender=SENDER, code=administrator.code())).status_code == 303
    assert await api.fetchval(TRUSTED) is None
