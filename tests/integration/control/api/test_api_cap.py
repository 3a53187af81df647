"""Alerts of ours as CAP 1.2: what was said, read back by our own reading of the standard."""

from __future__ import annotations

import math
import uuid
from datetime import timedelta
from pathlib import Path
from xml.etree import ElementTree as ET

import httpx
import pytest

from services.control.alerting.cap import CapInfo, MessageType, Status
from services.control.alerting.cap_reading import parse
from services.control.alerting.cap_xml import MAX_BYTES
from services.control.permissions import Role
from tests.support.control_api import Api, a_policy, add_device, add_media, an_api
from tests.support.database import TestDatabase

pytestmark = pytest.mark.integration


async def test_each_version_is_a_message_that_names_those_before(api: Api) -> None:
    operator = await api.person((Role.OPERATOR, "24"))
    content = {
        "event": "Lũ",
        "severity": "extreme",
        "texts": [{"headline": "Lũ <khẩn> & gấp", "media_sha256": await add_media(api)}],
        "audience": {"areas": [{"units": [str(api.units["11"])]}]},
        "valid_until": (api.clock.now + timedelta(hours=6)).isoformat(),
    }
    issued = await api.client.post(
        "/api/v1/alerts", json={**content, "unit_id": str(api.units["24"])}, headers=operator
    )
    assert issued.status_code == 201, issued.text
    address = f"/api/v1/alerts/{issued.json()['alert_id']}"
    api.clock.forward(minutes=5)
    ended = await api.client.post(f"{address}/cancel", headers={**operator, "If-Match": "*"})
    assert ended.status_code == 200, ended.text

    first = await api.client.get(f"{address}/cap", params={"version": 1}, headers=operator)
    newest = await api.client.get(f"{address}/cap", headers=operator)

    assert first.headers["content-type"] == "application/cap+xml"
    one, two = parse(first.content), parse(newest.content)
    assert (one.faults, one.remarks, two.faults, two.remarks) == ((), (), (), ())
    assert one.alert is not None
    assert two.alert is not None
    assert (one.alert.status, one.alert.message_type) == (Status.ACTUAL, MessageType.ALERT)
    assert one.alert.infos[0].headline == "Lũ <khẩn> & gấp"
    assert one.alert.infos[0].areas[0].geocodes[0].value == "11"
    assert (two.alert.message_type, two.alert.references) == (MessageType.CANCEL, (one.alert.reference,))
    assert (await api.client.get(f"{address}/cap", params={"version": 9}, headers=operator)).status_code == 404
    assert (await api.client.get(f"/api/v1/alerts/{uuid.uuid4()}/cap", headers=operator)).status_code == 404


async def exported(api: Api, operator: dict[str, str], language: str, **audience: object) -> CapInfo:
    content = {
        "event": "Lũ",
        "texts": [{"language": language, "headline": "Lũ", "media_sha256": await add_media(api)}],
        "audience": audience,
        "valid_until": (api.clock.now + timedelta(hours=6)).isoformat(),
    }
    body = {**content, "unit_id": str(api.units["24"])}
    issued = await api.client.post("/api/v1/alerts", json=body, headers=operator)
    assert issued.status_code == 201, issued.text
    document = await api.client.get(f"/api/v1/alerts/{issued.json()['alert_id']}/cap", headers=operator)
    reading = parse(document.content)
    assert (reading.faults, reading.remarks) == ((), ())
    assert reading.alert is not None
    return reading.alert.infos[0]


async def test_no_more_ground_is_claimed_than_sounds(api: Api) -> None:
    operator = await api.person((Role.OPERATOR, "24"))
    device = await add_device(api, "21")
    north, village = str(api.units["1"]), str(api.units["11"])
    corners = [{"latitude": 21.0 + x, "longitude": 106.0 + y} for x, y in ((0, 0), (0, 1), (1, 1))]

    part = await exported(api, operator, "vi", areas=[{"units": [north]}], except_units=[village], kinds=["board"])
    shape = await exported(
        api, operator, "en", areas=[{"units": [north], "polygons": [corners]}], except_units=[village]
    )
    named = await exported(api, operator, "en", devices=[device])

    codes = [each.value for each in part.areas[0].geocodes]
    assert ("12" in codes, "1" in codes, "11" in codes) == (True, False, False)
    assert part.areas[0].description.endswith("(trừ Xã Đại Sơn; chỉ Bảng tin)")
    assert [(each.name, each.value) for each in part.parameters] == [
        ("loa:except-unit-code", "11"),
        ("loa:kind", "board"),
    ]
    assert (shape.areas[0].geocodes, "(except Xã Đại Sơn)" in shape.areas[0].description) == ((), True)
    assert [each.description for each in named.areas] == [f"Devices {device}"]
    assert [(each.name, each.value) for each in named.parameters] == [("loa:device", device)]


def a_message(api: Api, name: str = "A-1", kind: str = "Alert", area: str = "", **changes: str) -> bytes:
    values = {"sender": "kttv@example.org", "status": "Actual", "references": "", "scope": "Public"} | changes
    sent = api.clock.now.isoformat(timespec="seconds")
    expires = values.get("expires", (api.clock.now + timedelta(hours=2)).isoformat(timespec="seconds"))
    where = area or "<geocode><valueName>loa:unit-code</valueName><value>11</value></geocode>"
    info = f"""<info><language>en-US</language><category>Met</category><event>Flood</event>
        <urgency>Immediate</urgency><severity>Severe</severity><certainty>Likely</certainty><expires>{expires}</expires>
        <area><areaDesc>X</areaDesc>{where}</area></info>"""
    vietnamese = info.replace("en-US", "vi-VN").replace("Flood", "Lũ")
    return f"""<alert xmlns="urn:oasis:names:tc:emergency:cap:1.2"><identifier>{name}</identifier>
        <sender>{values["sender"]}</sender><sent>{sent}</sent><status>{values["status"]}</status><msgType>{kind}</msgType>
        <scope>{values["scope"]}</scope><references>{values["references"]}</references>{info}{vietnamese}</alert>""".encode()


async def sent_in(api: Api, headers: dict[str, str], document: bytes) -> httpx.Response:
    params = {"unit_id": str(api.units["24"])}
    return await api.client.post("/api/v1/cap", params=params, content=document, headers=headers)


async def test_a_message_is_taken_in_changed_and_cancelled_by_its_sender_only(api: Api) -> None:
    operator = await api.person((Role.OPERATOR, "24"))
    first = await sent_in(api, operator, a_message(api))
    assert first.status_code == 200, first.text
    alert = first.json()["alert"]
    assert (alert["headline"], [each["language"] for each in alert["content"]["texts"]]) == ("Lũ", ["vi", "en"])
    assert (await sent_in(api, operator, a_message(api))).json()["errors"][0]["code"] == "cap_known_already"
    reference = f"kttv@example.org,A-1,{api.clock.now.isoformat(timespec='seconds')}"
    api.clock.forward(minutes=1)

    stranger = await sent_in(api, operator, a_message(api, "B", "Cancel", sender="x@y.z", references=reference))
    unknown = await sent_in(api, operator, a_message(api, "C", "Cancel", references=reference.replace("A-1", "A-2")))
    itself = f"kttv@example.org,D,{api.clock.now.isoformat(timespec='seconds')}"
    circle = await sent_in(api, operator, a_message(api, "D", "Update", references=itself))
    cumulative = f"{reference} {itself.replace(',D,', ',E,')}"  # as services do that list all of an event
    update = await sent_in(api, operator, a_message(api, "E", "Update", references=cumulative))
    cancel = await sent_in(api, operator, a_message(api, "F", "Cancel", references=reference))

    codes = [each.json()["errors"][0]["code"] for each in (stranger, unknown, circle)]
    assert codes == ["cap_of_another_sender", "cap_reference_unknown", "cap_self_reference"]
    assert (update.json()["alert"]["alert_id"], update.json()["alert"]["version"]) == (alert["alert_id"], 2)
    assert cancel.json()["alert"]["state"] == "cancelled"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"area": "<geocode><valueName>loa:unit-code</valueName><value>99</value></geocode>"}, "cap_area_unknown"),
        ({"area": "<geocode><valueName>SAME</valueName><value>11</value></geocode>"}, "cap_area_unknown"),
        ({"area": "<circle>38.5,-98.0 200</circle>"}, "cap_area_outside"),
        ({"expires": "2020-01-01T00:00:00+00:00"}, "cap_expired"),
        ({"status": "Real"}, "cap_not_listed"),
    ],
)
async def test_what_cannot_be_said_here_is_refused_by_name(api: Api, changes: dict[str, str], code: str) -> None:
    operator = await api.person((Role.OPERATOR, "24"))
    await add_device(api, "11")
    answer = await sent_in(api, operator, a_message(api, **changes))
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["code"] == code
    assert await api.fetchval("SELECT count(*) FROM control.alerts") == 0


async def test_what_does_not_say_when_it_ends_is_over_a_day_after_it_was_sent(api: Api) -> None:
    """Else a message of years ago would begin anew whenever somebody finds it."""
    operator = await api.person((Role.OPERATOR, "24"))
    old, late = a_message(api, "A-1", expires=""), a_message(api, "A-2", expires="")
    api.clock.forward(hours=23)
    taken = await sent_in(api, operator, old)
    assert taken.status_code == 200, taken.text
    assert taken.json()["alert"]["valid_until"] == (api.clock.now + timedelta(hours=1)).isoformat().replace(
        "+00:00", "Z"
    )
    api.clock.forward(hours=1)
    refused = await sent_in(api, operator, late)
    assert (refused.status_code, refused.json()["errors"][0]["code"]) == (422, "cap_without_end")
    before = f"kttv@example.org,A-1,{(api.clock.now - timedelta(hours=24)).isoformat(timespec='seconds')}"
    update = a_message(api, "A-3", "Update", references=before, expires="")
    assert (await sent_in(api, operator, update)).json()["alert"]["version"] == 1, "what it updates is over"


async def test_an_update_of_what_never_came_is_put_in_force_and_not_undone_by_the_original(api: Api) -> None:
    operator = await api.person((Role.OPERATOR, "24"))
    original, sent = a_message(api), api.clock.now.isoformat(timespec="seconds")
    api.clock.forward(minutes=1)

    update = await sent_in(api, operator, a_message(api, "E", "Update", references=f"kttv@example.org,A-1,{sent}"))
    late = await sent_in(api, operator, original)

    assert update.status_code == 200, update.text
    assert (update.json()["alert"]["state"], update.json()["alert"]["version"]) == ("in_force", 1)
    assert "cap_update_taken_as_new" in update.json()["remarks"]
    assert [each["code"] for each in late.json()["errors"]] == ["cap_superseded"]
    before = f"kttv@example.org,E,{api.clock.now.isoformat(timespec='seconds')}"
    api.clock.forward(minutes=1)
    assert (await sent_in(api, operator, a_message(api, "F", "Cancel", references=before))).status_code == 200
    later = await sent_in(api, operator, original)
    assert [each["code"] for each in later.json()["errors"]] == ["cap_superseded"], "nor when the update is over"
    assert await api.fetchval("SELECT count(*) FROM control.alerts") == 1


async def test_a_document_may_come_as_the_file_of_a_form(api: Api) -> None:
    """So that people can send one by a page or a command; what is wrong with it is told as of a bare body."""
    operator = await api.person((Role.OPERATOR, "24"))
    address, params = "/api/v1/cap", {"unit_id": str(api.units["24"])}
    without = await api.client.post(address, params=params, files={"other": b"x"}, headers=operator)
    assert (without.status_code, without.json()["errors"][0]["field"]) == (422, "file")
    two = [("file", ("a.xml", a_message(api))), ("file", ("b.xml", a_message(api, "B-1")))]
    assert (await api.client.post(address, params=params, files=two, headers=operator)).status_code == 400
    bomb = {"file": ("bomb.xml", b'<!DOCTYPE a [<!ENTITY b "b">]><alert>&b;</alert>')}
    refused = await api.client.post(address, params=params, files=bomb, headers=operator)
    assert (refused.status_code, refused.json()["errors"][0]["code"]) == (422, "cap_has_dtd")
    large = {"file": ("large.xml", b" " * (MAX_BYTES + 1))}
    assert (await api.client.post(address, params=params, files=large, headers=operator)).status_code == 413
    assert await api.fetchval("SELECT count(*) FROM control.alerts") == 0

    taken = await api.client.post(address, params=params, files={"file": ("a.xml", a_message(api))}, headers=operator)

    assert (taken.status_code, taken.json()["alert"]["state"]) == (200, "in_force"), taken.text
    assert await api.fetchval("SELECT document FROM control.cap_messages") == a_message(api)


async def test_units_are_found_under_any_name_the_province_reads_and_written_under_its_first(
    database: TestDatabase, tmp_path: Path
) -> None:
    policy = a_policy(cap_unit_codes=("DVHC", "loa:unit-code"))
    async with an_api(database, tmp_path, policy=policy) as api:
        operator = await api.person((Role.OPERATOR, "24"))
        first, second = [
            await sent_in(
                api,
                operator,
                a_message(api, name, area=f"<geocode><valueName>{name}</valueName><value>11</value></geocode>"),
            )
            for name in ("dvhc", "LOA:unit-code")
        ]
        assert (first.status_code, second.status_code) == (200, 200), first.text + second.text
        document = await api.client.get(f"/api/v1/alerts/{second.json()['alert']['alert_id']}/cap", headers=operator)
        written = parse(document.content).alert
        assert written is not None
        assert [(each.name, each.value) for each in written.infos[0].areas[0].geocodes] == [("DVHC", "11")]
        area = "<geocode><valueName>SAME</valueName><value>11</value></geocode>"
        unknown = await sent_in(api, operator, a_message(api, "B", area=area))
        assert "DVHC" in unknown.json()["errors"][0]["mend"]


async def test_tests_and_exercises_are_never_on_air(api: Api) -> None:
    operator = await api.person((Role.OPERATOR, "24"))
    for status in ("Test", "Exercise", "System", "Draft"):
        assert (await sent_in(api, operator, a_message(api, status=status))).json()["taken"] is False
    assert await api.fetchval("SELECT count(*) FROM control.alerts") == 0


async def test_a_circle_reaches_the_unit_whose_device_stands_inside(api: Api) -> None:
    operator = await api.person((Role.OPERATOR, "24"))
    await add_device(api, "11", latitude=21.3, longitude=106.4)
    await add_device(api, "21", latitude=21.0, longitude=106.0)
    answer = await sent_in(api, operator, a_message(api, area="<circle>21.3,106.4 3</circle>"))
    assert answer.status_code == 200, answer.text
    assert answer.json()["alert"]["content"]["audience"]["areas"][0]["units"] == [str(api.units["11"])]


ATOM = "{http://www.w3.org/2005/Atom}"


async def test_the_feed_holds_what_is_in_force_with_links_to_its_cap(api: Api) -> None:
    operator = await api.person((Role.OPERATOR, "24"))
    first = (await sent_in(api, operator, a_message(api))).json()["alert"]
    api.clock.forward(minutes=1)
    code = "<geocode><valueName>loa:unit-code</valueName><value>21</value></geocode>"
    south = (await sent_in(api, operator, a_message(api, "B-1", area=code))).json()["alert"]
    account = await api.account((Role.VIEWER, "11"), login="doc-tin")
    token = (await api.token(account))["Authorization"].removeprefix("Bearer ")

    answer = await api.client.get("/api/v1/cap/feed.atom", auth=("doc-tin", token))

    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/atom+xml"
    feed = ET.fromstring(answer.content)
    later, entry = feed.findall(f"{ATOM}entry")
    assert later.findtext(f"{ATOM}id") == f"urn:uuid:{south['alert_id']}"
    assert entry.findtext(f"{ATOM}id") == f"urn:uuid:{first['alert_id']}"
    assert entry.findtext(f"{ATOM}title") == "Lũ"
    link = entry.find(f"{ATOM}link")
    assert link is not None
    document = await api.client.get(link.get("href", ""), auth=("doc-tin", token))
    assert parse(document.content).alert is not None

    await api.client.post(f"/api/v1/alerts/{first['alert_id']}/cancel", headers={**operator, "If-Match": "*"})
    ended = await api.client.get("/api/v1/cap/feed.atom", auth=("doc-tin", token))
    ids = [each.findtext(f"{ATOM}id") for each in ET.fromstring(ended.content).iter(f"{ATOM}entry")]
    assert ids == [f"urn:uuid:{south['alert_id']}"]
    assert (await api.client.get("/api/v1/cap/feed.atom")).status_code == 401


async def test_shapes_of_a_whole_country_are_taken_for_those_that_reach_us(api: Api) -> None:
    """Some services send hundreds of polygons, and coasts with tens of thousands of corners."""
    operator = await api.person((Role.OPERATOR, "24"))
    for number in range(3):
        await add_device(api, "11", latitude=21.25 + number / 10, longitude=106.15)
    far = " ".join(f"{45 + 5 * math.sin(i / 4_000):.5f},{10 + 5 * math.cos(i / 4_000):.5f}" for i in range(25_132))
    squares = [
        f"<polygon>{lat},{lon} {lat},{lon + 0.04} {lat + 0.04},{lon + 0.04} {lat + 0.04},{lon} {lat},{lon}</polygon>"
        for lat in (21.23, 21.33, 21.43)
        for lon in (106.12 + step / 1_000 for step in range(8))
    ]
    area = "".join([f"<polygon>{far} {far.split()[0]}</polygon>", *squares])

    answer = await sent_in(api, operator, a_message(api, area=area))

    assert answer.status_code == 200, answer.text
    wishes = answer.json()["alert"]["content"]["audience"]["areas"]
    assert [each["units"] for each in wishes] == [[str(api.units["11"])]] * 2
    assert [len(each["polygons"]) for each in wishes] == [16, 8]
    assert all(21 < latitude < 22 for each in wishes for polygon in each["polygons"] for latitude, _ in polygon)
