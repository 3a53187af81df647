"""CAP messages that say several things, or mean more ground than ours: each is said where it is meant, and what is left
out is told.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import httpx
import pytest

from services.control.alerting.cap_deliveries import MOST_WAITING
from services.control.permissions import Role
from tests.integration.control.api.test_api_cap import sent_in
from tests.integration.control.api.test_api_cap_senders import Source, decide, reference
from tests.integration.control.api.test_api_pages import get, log_in
from tests.integration.control.api.test_api_second_person import WHY, policy, two
from tests.support.control_api import Api, add_device
from tests.support.people import somebody

pytestmark = pytest.mark.integration

LEAVE = {"headline": "SƠ TÁN NGAY", "urgency": "Immediate"}
OVER = {"headline": "ĐÃ HẾT MƯA", "urgency": "Past", "response": "AllClear", "severity": "Minor"}


def info(*codes: str, language: str = "vi-VN", extra: str = "", **says: str) -> str:
    words = {"headline": "Lũ lên", "urgency": "Expected", "severity": "Severe", "response": "Prepare"} | says
    areas = "".join(
        f"<area><areaDesc>Vùng {code}</areaDesc><geocode><valueName>loa:unit-code</valueName><value>{code}</value></geocode></area>"
        for code in codes
    )
    return f"""<info><language>{language}</language><category>Met</category><event>Lũ</event>
        <responseType>{words["response"]}</responseType><urgency>{words["urgency"]}</urgency>
        <severity>{words["severity"]}</severity><certainty>Likely</certainty><headline>{words["headline"]}</headline>
        {areas}{extra}</info>"""


def message(api: Api, name: str, *infos: str, kind: str = "Alert", references: str = "") -> bytes:
    sent = api.clock.now.isoformat(timespec="seconds")
    return f"""<alert xmlns="urn:oasis:names:tc:emergency:cap:1.2"><identifier>{name}</identifier>
        <sender>kttv@example.org</sender><sent>{sent}</sent><status>Actual</status><msgType>{kind}</msgType>
        <scope>Public</scope><references>{references}</references>{"".join(infos)}</alert>""".encode()


def taken(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def heard(api: Api, alert: dict[str, Any]) -> tuple[str, set[str], str]:
    codes = {str(unit_id): code for code, unit_id in api.units.items()}
    units = {codes[unit] for area in alert["content"]["audience"]["areas"] for unit in area["units"]}
    return alert["headline"], units, alert["state"]


async def in_force(api: Api, operator: dict[str, str]) -> list[tuple[str, set[str], str]]:
    answer = await api.client.get("/api/v1/alerts", params={"state": "in_force"}, headers=operator)
    return sorted((heard(api, each) for each in answer.json()), key=lambda each: each[0])


async def test_what_is_said_to_two_grounds_is_two_alerts_and_what_is_over_sounds_no_siren(api: Api) -> None:
    operator = await api.person((Role.OPERATOR, "24"))
    both = message(
        api,
        "A-1",
        info("11", **LEAVE),
        info("11", language="en", headline="LEAVE NOW", urgency="Immediate"),
        info("21"),
    )
    first = taken(await sent_in(api, operator, both))
    assert [heard(api, each) for each in first["alerts"]] == [
        ("SƠ TÁN NGAY", {"11"}, "in_force"),
        ("Lũ lên", {"21"}, "in_force"),
    ]
    assert first["alert"] == first["alerts"][0]
    assert [each["language"] for each in first["alert"]["content"]["texts"]] == ["vi", "en"]
    before = reference(api, "A-1")
    api.clock.forward(minutes=1)

    worse = message(
        api,
        "A-2",
        info("11", **OVER),
        info("21", headline="Lũ cao", severity="Extreme"),
        kind="Update",
        references=before,
    )
    second = taken(await sent_in(api, operator, worse))

    assert [(each["alert_id"], each["version"]) for each in second["alerts"]] == [(first["alerts"][1]["alert_id"], 2)]
    assert second["remarks"] == ["cap_all_clear_left"]
    assert await in_force(api, operator) == [("Lũ cao", {"21"}, "in_force")]
    before = reference(api, "A-2")
    api.clock.forward(minutes=1)

    ended = taken(
        await sent_in(api, operator, message(api, "A-3", info("21", **OVER), kind="Update", references=before))
    )

    assert [heard(api, each) for each in ended["alerts"]] == [("Lũ cao", {"21"}, "cancelled")]
    assert await in_force(api, operator) == []


async def test_a_cancel_ends_all_that_a_message_has_become(api: Api) -> None:
    operator = await api.person((Role.OPERATOR, "24"))
    taken(await sent_in(api, operator, message(api, "A-1", info("11", **LEAVE), info("21"))))
    before = reference(api, "A-1")
    api.clock.forward(minutes=1)
    ended = taken(await sent_in(api, operator, message(api, "A-2", kind="Cancel", references=before)))
    assert [each["state"] for each in ended["alerts"]] == ["cancelled", "cancelled"]
    assert await in_force(api, operator) == []


async def test_an_alert_that_says_only_that_all_is_over_here_is_refused_by_name(api: Api) -> None:
    operator = await api.person((Role.OPERATOR, "24"))
    answer = await sent_in(api, operator, message(api, "A-1", info("11", **OVER), info("99", **LEAVE)))
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (422, "cap_all_clear_only")


async def test_a_message_that_says_too_many_things_is_refused_by_name(api: Api) -> None:
    operator = await api.person((Role.OPERATOR, "24"))
    infos = [info("11", headline=f"Lũ {number}", severity=severity, urgency=urgency)
             for number, (severity, urgency) in enumerate((s, u) for s in ("Extreme", "Severe", "Moderate") for u in ("Immediate", "Expected", "Future"))]  # fmt: skip
    answer = await sent_in(api, operator, message(api, "A-1", *infos))
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (422, "cap_infos_differ")
    assert await api.fetchval("SELECT count(*) FROM control.alerts") == 0


async def test_what_is_over_of_a_message_is_left_and_told(api: Api) -> None:
    operator = await api.person((Role.OPERATOR, "24"))
    past = info("11").replace("<headline>", "<expires>2020-01-01T00:00:00+07:00</expires><headline>")
    found = taken(await sent_in(api, operator, message(api, "A-1", past, info("21"))))
    assert [heard(api, each) for each in found["alerts"]] == [("Lũ lên", {"21"}, "in_force")]
    assert found["remarks"] == ["cap_expired"]


async def test_of_a_warning_for_many_provinces_ours_is_taken_and_the_rest_is_told(api: Api) -> None:
    operator = await api.person((Role.OPERATOR, "24"))
    await add_device(api, "11", latitude=21.3, longitude=106.4)
    circle = "<area><areaDesc>Ngoài khơi</areaDesc><circle>10,110 50</circle></area>"
    found = taken(await sent_in(api, operator, message(api, "A-1", info("01", "24", "79", extra=circle))))
    assert [heard(api, each) for each in found["alerts"]] == [("Lũ lên", {"24"}, "in_force")]
    assert found["remarks"] == ["cap_area_unknown", "cap_area_outside"]
    assert [each["field"] for each in found["notes"]] == ["alert.info[0].area[0].geocode", "alert.info[0].area[3]"]
    assert "01, 79" in found["notes"][0]["message"]
    none = await sent_in(api, operator, message(api, "A-2", info("01", "79", extra=circle)))
    assert [each["code"] for each in none.json()["errors"]] == ["cap_area_unknown", "cap_area_outside"]


async def test_the_same_words_for_many_shapes_can_be_taken_and_be_released(api: Api) -> None:
    """An alert has at most sixteen areas; a feed sends a block for each of its cells."""
    source, operator = await Source.of(api), await api.person((Role.OPERATOR, "24"))
    cells = []
    for number in range(20):
        west = 106.4 + number / 50
        await add_device(api, "11", latitude=21.305, longitude=west + 0.005)
        ring = f"21.3,{west} 21.3,{west + 0.01} 21.31,{west + 0.01} 21.31,{west} 21.3,{west}"
        cells.append(info(extra=f"<area><areaDesc>Ô {number}</areaDesc><polygon>{ring}</polygon></area>"))
    proposed = await source.delivered(message(api, "A-1", *cells))
    released = await decide(api, operator, proposed["alert_id"], "release", {})
    assert heard(api, released)[1:] == ({"11"}, "in_force")
    assert [len(each["polygons"]) for each in released["content"]["audience"]["areas"]] == [16, 4]
    found = taken(await sent_in(api, operator, message(api, "A-2", *cells)))
    assert found["alert"]["content"]["audience"] == released["content"]["audience"]


async def test_what_nobody_could_release_is_not_laid_before_anybody(api: Api) -> None:
    source = await Source.of(api)
    soon = (api.clock.now + timedelta(seconds=1)).isoformat()
    short = info("11").replace("<headline>", f"<expires>{soon}</expires><headline>")
    answer = await source.deliver(message(api, "A-1", short))
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (422, "alert_over_at_once")
    assert await api.fetchval("SELECT count(*) FROM control.alerts") == 0


async def test_what_waits_is_counted_by_messages_and_not_by_their_alerts(api: Api) -> None:
    source = await Source.of(api)
    for number in range(MOST_WAITING // 2 + 1):
        found = await source.delivered(message(api, f"A-{number}", info("11", **LEAVE), info("21")))
        assert [each["state"] for each in found["alerts"]] == ["proposed", "proposed"]


async def test_proposals_follow_each_ground_and_say_what_is_not_here(api: Api) -> None:
    source, operator = await Source.of(api), await api.person((Role.OPERATOR, "24"))
    document = message(api, "A-1", info("11", "99", **LEAVE), info("21"))
    first = await source.delivered(document)
    assert [each["state"] for each in first["alerts"]] == ["proposed", "proposed"]
    assert first["remarks"] == ["cap_area_unknown"]
    assert (await source.delivered(document))["alerts"] == first["alerts"]
    page = await api.client.get(f"/api/v1/proposals/{first['alert_id']}", headers=operator)
    assert page.json()["reason"]["not_here"] == "99"
    await log_in(api, (Role.OPERATOR, "24"))
    assert "Khu vực không có ở đây 99" in (await get(api, f"/alerts/proposals/{first['alert_id']}")).text
    for each in first["alerts"]:
        await decide(api, operator, each["alert_id"], "release", {})
    before = reference(api, "A-1")
    api.clock.forward(minutes=1)

    update = message(api, "A-2", info("21", headline="Lũ cao"), info("11", **LEAVE), kind="Update", references=before)
    second = await source.delivered(update)
    await decide(api, operator, second["alerts"][0]["alert_id"], "release", {})

    assert await in_force(api, operator) == [("Lũ cao", {"21"}, "in_force"), ("SƠ TÁN NGAY", {"11"}, "in_force")]
    before = reference(api, "A-2")
    api.clock.forward(minutes=1)
    over = message(api, "A-3", info("11", **OVER), info("21", **OVER), kind="Update", references=before)
    clear = await source.delivered(over)
    assert [each["state"] for each in clear["alerts"]] == ["proposed"], "the end of what sounds is a person's to say"
    told = await decide(api, operator, clear["alert_id"], "release", {})
    assert told["headline"] == "Đã hủy: Lũ cao"


async def test_a_second_person_is_asked_by_what_a_message_meant_and_means(api: Api) -> None:
    """An update that leaves a thousand devices for one stops a thousand."""
    people = await two(api, unit="24")
    for _ in range(3):
        await add_device(api, "11")
    await add_device(api, "21")
    first = message(api, "A-1", info("11", "99", **LEAVE), info("21"))
    taken(await sent_in(api, people.first, first))
    await policy(api, "24", alerts=4)
    before = reference(api, "A-1")
    api.clock.forward(minutes=1)

    update = message(api, "A-2", info("21", "98", headline="Lũ cao"), kind="Update", references=before)
    answer = await sent_in(api, people.first, update)

    assert answer.status_code == 202, answer.text
    assert answer.json()["request"]["devices"] == 4
    assert answer.json()["remarks"] == ["cap_area_unknown"]
    await log_in(api, (Role.OPERATOR, "24"))
    page = await get(api, f"/alerts/requests/{answer.json()['request']['request_id']}")
    assert "Không rõ khu vực: 98." in page.text, "whoever confirms reads it too"


async def test_who_confirms_reads_what_would_be_said_on_each_ground(api: Api) -> None:
    await policy(api, "24", alerts=1)
    people = await two(api, unit="24")
    for code in ("11", "21"):
        await add_device(api, code)
    both = message(api, "B-1", info("11", headline="Lũ lên nhanh"), info("21", headline="Sạt lở đất"))

    answer = await sent_in(api, people.first, both)

    assert answer.status_code == 202, answer.text
    request_id = answer.json()["request"]["request_id"]
    kept = (await api.client.get(f"/api/v1/operation-requests/{request_id}", headers=people.second)).json()
    assert [each["texts"][0]["headline"] for each in kept["content"]["drafts"]] == ["Lũ lên nhanh", "Sạt lở đất"]
    await log_in(api, (Role.OPERATOR, "24"))
    page = (await get(api, f"/alerts/requests/{request_id}")).text
    assert page.index("Lũ lên nhanh") < page.index("Sạt lở đất")


async def test_who_acknowledges_what_one_did_alone_reads_what_was_said(api: Api) -> None:
    await policy(api, "24", alerts=1)
    await add_device(api, "11")
    person = await somebody(api, unit="24")
    await person.enrol()
    api.clock.forward(minutes=1)

    answer = await api.client.post(
        "/api/v1/cap",
        params={"unit_id": str(api.units["24"]), "break_glass": WHY},
        content=message(api, "B-2", info("11", headline="Lũ lên nhanh")),
        headers={**person.csrf, "Loa-Second-Factor": person.code()},
    )

    assert answer.status_code == 200, answer.text
    document = await api.fetchval("SELECT document FROM control.operation_requests WHERE state = 'alone'")
    assert [each["texts"][0]["headline"] for each in document["drafts"]] == ["Lũ lên nhanh"]
