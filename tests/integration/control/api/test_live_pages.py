"""What is live, put on by a page: with a code of the second factor, and alone only with a reason (S-07)."""

from __future__ import annotations

from typing import Any

import pytest

from services.control.permissions import Role
from tests.integration.control.api.test_api_pages import Page
from tests.integration.control.api.test_api_second_person import WHY, policy
from tests.integration.control.api.test_deciding_pages import hidden, html_of, inbox
from tests.integration.control.api.test_making_pages import count, new, preview, send, typed
from tests.integration.control.api.test_returned_forms import faults_in
from tests.support.control_api import Api, add_device, add_offer, add_source
from tests.support.people import Person, somebody

pytestmark = pytest.mark.integration


async def an_officer(api: Api) -> Person:
    """With an app, in a session that has not shown it."""
    officer = await somebody(api, Role.OFFICER, "11")
    await officer.enrol()
    api.clock.forward(minutes=1)  # a code counts once
    return await officer.again()


def names_in(html: str) -> set[str]:
    return {each["name"] or "" for each in Page(html).inputs.values() if "name" in each}


async def live_form(api: Api) -> dict[str, Any]:
    return await typed(api, item=[f"relay:{await add_source(api, '24')}"], minutes=["5"], seconds=[""])


async def test_a_live_broadcast_is_saved_by_the_page_with_a_code_and_once(api: Api) -> None:
    await add_device(api, "11")
    officer = await an_officer(api)
    form = await live_form(api)

    shown = await preview(api, new(api), form)
    assert "code" in names_in(shown)
    assert "alone" not in names_in(shown), "no policy asks for a second person"
    without = await send(api, new(api), shown, "save", form)
    assert (without.status_code, hidden(without.text, "shown")) == (403, hidden(shown, "shown"))
    wrong = await send(api, new(api), without.text, "save", form, code="000000")
    assert (wrong.status_code, faults_in(wrong.text)) == (422, {"code"})
    assert await count(api) == 0
    code = officer.code()
    twice = [await send(api, new(api), wrong.text, "save", form, code=code) for _ in range(2)]
    assert [each.status_code for each in twice] == [303, 303], twice[0].text
    assert twice[0].headers["location"] == twice[1].headers["location"]
    assert await count(api) == 1
    assert "code" not in names_in(await preview(api, new(api), await typed(api))), "nothing in it is live"


async def test_a_live_broadcast_is_put_on_alone_by_the_page_with_a_reason(api: Api) -> None:
    await policy(api, "24", live=1)
    await add_device(api, "11")
    officer = await an_officer(api)
    form = await live_form(api)
    shown = await preview(api, new(api), form)
    assert "người thứ hai" in Page(shown).text
    short = await send(api, new(api), shown, "save", form, code=officer.code(), alone="x" * 501)
    assert (short.status_code, faults_in(short.text)) == (422, {"alone"})
    alone = await send(api, new(api), short.text, "save", form, code=officer.code(), alone=WHY)
    assert alone.status_code == 303, alone.text
    assert alone.headers["location"].startswith("/broadcasts/")
    assert await api.fetchval("SELECT note FROM control.operation_requests WHERE state = 'alone'") == WHY


async def test_what_was_offered_with_something_live_in_it_is_put_on_by_the_inbox_with_a_code(api: Api) -> None:
    offered = await add_offer(
        api, "11", items=[{"relay_source_id": await add_source(api, "24"), "length_s": 300}], title="Tiếp sóng"
    )
    await policy(api, "11", live=1)
    officer = await an_officer(api)
    html = await html_of(api, inbox(api))
    assert {"code", "alone"} <= names_in(html)
    form = {name: hidden(html, name) for name in ("csrf_token", "shown")}
    form |= {"decision": "schedule", "starts_on": "2026-03-12", "local_time": "17:30", "note": "Giờ của xã"}
    path = f"{inbox(api)}/{offered}"

    without = await api.client.post(path, data=form)
    assert without.status_code == 403
    assert 'name="starts_on" required value="2026-03-12"' in without.text
    wrong = await api.client.post(path, data={**form, "code": "123456", "alone": WHY})
    assert (wrong.status_code, faults_in(wrong.text)) == (422, {"code"})
    assert WHY in wrong.text
    api.clock.forward(minutes=1)
    waits = await api.client.post(path, data={**form, "code": officer.code()})
    assert waits.status_code == 303, waits.text
    assert waits.headers["location"].startswith("/alerts/requests/")
    assert await api.fetchval("SELECT state FROM control.offers") == "offered"


async def test_an_offer_that_is_not_live_asks_for_no_code(api: Api) -> None:
    await add_offer(api, "11")
    await an_officer(api)
    assert "code" not in names_in(await html_of(api, inbox(api)))
