"""Trust in CAP senders over a reform of units: it goes over where all units before gave it, and else a person is told."""

from __future__ import annotations

from typing import Any

import pytest

from services.control.account_store import Account
from services.control.permissions import Role
from tests.integration.control.api.test_api_cap import a_message
from tests.integration.control.api.test_api_cap_senders import SENDER, Source, code_of, decide, reference
from tests.integration.control.api.test_api_pages import get, log_in
from tests.integration.control.api.test_api_reform import AFTERWARDS, MERGER, REFORM, codes, reform
from tests.integration.control.api.test_cap_sender_pages import post
from tests.support.control_api import Api

pytestmark = pytest.mark.integration

MAPPING = "old_code,new_code\n24,24\n1,24\n2,24\n11,51\n12,51\n21,52\n"
MERGED = "<geocode><valueName>loa:unit-code</valueName><value>51</value></geocode>"
OTHER = "thuydien@example.org"


async def a_source(api: Api, *units: str) -> Account:
    return await api.account(*((Role.CAP_SOURCE, unit) for unit in units))


async def say(api: Api, unit: str, sender: str, account: Account, *, ends: bool = False) -> None:
    """Trust a sender, or end that."""
    path = f"/api/v1/units/{api.units[unit]}/cap-senders"
    headers = await api.person((Role.ADMINISTRATOR, unit))
    if ends:
        answer = await api.client.post(f"{path}/remove", json={"sender": sender}, headers=headers)
    else:
        body = {"sender": sender, "account_id": str(account.account_id)}
        answer = await api.client.put(path, json=body, headers=headers)
    assert answer.status_code == 200, answer.text


async def trusted(api: Api, unit_id: str) -> list[str]:
    found = await api.fetchval(
        "SELECT coalesce(array_agg(sender ORDER BY sender), '{}') FROM control.cap_senders WHERE unit_id = $1", unit_id
    )
    return list(found)


def named(answer: Any, field: str) -> list[tuple[str, str]]:
    return [(each["unit"]["code"], each["sender"]) for each in answer.json()[field]]


async def test_trust_that_all_gave_alike_goes_over_and_other_trust_is_named(api: Api) -> None:
    everybody, one = await a_source(api, "11", "12", "21"), await a_source(api, "11", "12")
    for unit in ("11", "12", "21"):
        await say(api, unit, SENDER, everybody)
    await say(api, "11", OTHER, one)

    rehearsed = await reform(api, MERGER, MAPPING, dry_run="true")
    answer = await reform(api, MERGER, MAPPING)

    for each in (rehearsed, answer):
        assert each.status_code == 200, each.text
        assert sorted(named(each, "cap_senders_carried")) == [("51", SENDER), ("52", SENDER)]
        assert named(each, "cap_senders_to_renew") == [("51", OTHER)]
    new = await codes(api, REFORM)
    assert await trusted(api, new["51"]) == [SENDER]
    # What they say until the day counts as well, in both directions.
    await say(api, "12", OTHER, one)
    assert await trusted(api, new["51"]) == [SENDER, OTHER]
    await say(api, "12", OTHER, everybody)
    assert await trusted(api, new["51"]) == [SENDER], "by way of different accounts it is not the same trust"
    await say(api, "11", SENDER, everybody, ends=True)
    assert await trusted(api, new["51"]) == []
    assert await trusted(api, new["52"]) == [SENDER]


async def test_a_unit_that_goes_on_keeps_its_own_word_about_senders(api: Api) -> None:
    source = await a_source(api, "11", "12")
    await say(api, "11", SENDER, source)
    tree = "code,parent_code,level,name\n24,,province,Tỉnh Thử Nghiệm\n1,24,district,Huyện Bắc\n12,1,commune,Xã An Lạc\n2,24,district,Huyện Nam\n21,2,commune,Xã Hạ\n"
    answer = await reform(api, tree, "old_code,new_code\n11,12\n")
    assert answer.status_code == 200, answer.text
    assert named(answer, "cap_senders_carried") == []
    assert named(answer, "cap_senders_to_renew") == [("12", SENDER)]


async def test_a_sender_goes_on_delivering_and_ends_what_it_began_before_the_reform(api: Api) -> None:
    account = await a_source(api, "11", "12")
    for unit in ("11", "12"):
        await say(api, unit, SENDER, account)
    source, operator = Source(api, account, await api.token(account), "11"), await api.person((Role.OPERATOR, "11"))
    assert (await reform(api, MERGER, MAPPING)).status_code == 200
    lasting = {"expires": (AFTERWARDS.replace(hour=20)).isoformat(timespec="seconds")}
    first = await source.delivered(a_message(api, **lasting))
    await decide(api, operator, first["alert_id"], "release", {})
    before = reference(api, "A-1")

    api.clock.now = AFTERWARDS
    again = await source.deliver(a_message(api, "A-2", area=MERGED))  # to the unit that it has always named
    ended = await source.deliver(a_message(api, "C", "Cancel", area=MERGED, references=before))

    assert (again.status_code, again.json()["state"]) == (200, "proposed"), again.text
    assert (ended.status_code, ended.json()["state"]) == (200, "proposed"), ended.text
    new = (await codes(api, REFORM))["51"]
    operator = await api.person((Role.OPERATOR, "24"))
    told = await decide(api, operator, ended.json()["alert_id"], "release", {})
    assert told["content"]["audience"]["areas"] == [{"units": [new], "polygons": [], "circles": []}], (
        "of units of today"
    )
    units = await api.fetchval("SELECT array_agg(DISTINCT unit_id::text) FROM control.cap_messages")
    assert set(units) == {str(api.units["11"]), new}


async def test_whoever_is_in_charge_sees_what_has_to_be_renewed(api: Api) -> None:
    account = await a_source(api, "11", "12")
    for sender in (SENDER, OTHER):
        await say(api, "11", sender, account)
    source = Source(api, account, await api.token(account), "11")
    assert (await reform(api, MERGER, MAPPING)).status_code == 200
    api.clock.now = AFTERWARDS
    refused = await source.deliver(a_message(api))
    assert (refused.status_code, code_of(refused)) == (403, "cap_sender_not_trusted")
    new = (await codes(api, REFORM))["51"]
    page = f"/units/{new}/cap-senders"
    await log_in(api, (Role.ADMINISTRATOR, "24"))
    shown = await get(api, page)
    for words in ("Cần tin cậy lại sau sắp xếp đơn vị (2)", SENDER, OTHER):
        assert words in shown.text, words

    form = {"of": str(api.units["11"]), "account_id": str(account.account_id)}
    renewed = await post(api, page, do="trust", sender=SENDER, **form)
    assert (renewed.status_code, renewed.headers["location"]) == (303, page), renewed.text
    elsewhere = await post(api, page, do="remove", sender=OTHER, of=str(api.units["21"]))
    assert elsewhere.status_code == 422
    put_away = await post(api, page, do="remove", sender=OTHER, **form)
    assert put_away.status_code == 303, put_away.text

    assert "Cần tin cậy lại" not in (await get(api, page)).text
    assert await trusted(api, new) == [SENDER]
    api.client.cookies.clear()
    assert (await source.deliver(a_message(api, area=MERGED))).status_code == 200
