"""What needs a second person (S-07): asked for, confirmed by another one, refused, run out; and done alone, loudly."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx
import pytest
import pytest_asyncio

from schemas import signing
from schemas.alerts import Alert, Purpose
from services.control.account_store import Account
from services.control.alerting import alert_store
from services.control.alerting.keeper import AlertKeeper
from services.control.permissions import Role
from tests.support.control import some_metrics
from tests.support.control_api import PASSWORD, ZONE, Api, add_device, add_media, waiting_for_locks
from tests.support.people import Person, somebody
from tests.support.waiting import until

pytestmark = pytest.mark.integration

REQUESTS = "/api/v1/operation-requests"
WHY = "Vỡ đập lúc 2 giờ sáng, không liên lạc được với ai khác"


@pytest_asyncio.fixture(autouse=True)
async def tone(api: Api) -> None:
    """What sounds where an alert is words alone."""
    sound = bytes.fromhex(await add_media(api))
    await api.execute("INSERT INTO control.alert_tones (tone, media_sha256) VALUES ('warning', $1)", sound)


@dataclass(slots=True)
class Two:
    """Two officers of a district, by token, and the account of the first."""

    first: dict[str, str]
    second: dict[str, str]
    account: Account


async def two(api: Api, *, role: Role = Role.OPERATOR, unit: str = "1") -> Two:
    account = await api.account((role, unit))
    return Two(first=await api.token(account), second=await api.person((role, unit)), account=account)


async def policy(api: Api, unit: str, **second_person_from: int) -> None:
    administrator = await api.person((Role.ADMINISTRATOR, "24"))
    path = f"/api/v1/units/{api.units[unit]}/policy"
    etag = (await api.client.get(path, headers=administrator)).headers["etag"]
    body = {"second_person_from": second_person_from}
    saved = await api.client.put(path, json=body, headers={**administrator, "If-Match": etag})
    assert saved.status_code == 200, saved.text


def alert_body(api: Api, *units: str, **changes: Any) -> dict[str, Any]:
    named = units or ("1",)
    return {
        "unit_id": str(api.units["1"]),
        "event": "Lũ",
        "texts": [{"headline": "Lũ khẩn cấp"}],
        "audience": {"areas": [{"units": [str(api.units[each]) for each in named]}]},
        "valid_until": (api.clock.now + timedelta(hours=6)).isoformat(),
        **changes,
    }


def silence_body(api: Api, *units: str) -> dict[str, Any]:
    body = alert_body(api, *units)
    return {"unit_id": body["unit_id"], "audience": body["audience"], "reason": "Loa bị chiếm quyền"}


async def asked(api: Api, headers: dict[str, str], path: str = "/api/v1/alerts", **changes: Any) -> dict[str, Any]:
    body = changes.pop("body", None) or alert_body(api, **changes)
    answer = await api.client.post(path, json=body, headers=headers)
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"{REQUESTS}/{answer.json()['request_id']}"
    request: dict[str, Any] = answer.json()
    return request


async def confirm(api: Api, request: dict[str, Any], headers: dict[str, str], **changes: Any) -> httpx.Response:
    return await api.client.post(
        f"{REQUESTS}/{request['request_id']}/confirm", json={"digest": request["digest"], **changes}, headers=headers
    )


async def on_their_way(api: Api) -> int:
    count: int = await api.fetchval("SELECT count(*) FROM control.outbox WHERE kind = 'alert'")
    return count


async def last_actions(api: Api, count: int) -> list[str]:
    found: list[str] = await api.fetchval(
        "SELECT array_agg(action ORDER BY audit_id DESC) FROM"
        " (SELECT action, audit_id FROM control.audit ORDER BY audit_id DESC LIMIT $1) a",
        count,
    )
    return found


async def test_without_a_policy_an_alert_waits_for_nobody(api: Api) -> None:
    people = await two(api)
    await add_device(api, "11")
    assert (await api.client.post("/api/v1/alerts", json=alert_body(api), headers=people.first)).status_code == 201


async def test_what_touches_fewer_devices_than_policy_says_waits_for_nobody(api: Api) -> None:
    await policy(api, "24", alerts=2)
    people = await two(api)
    await add_device(api, "11")
    await add_device(api, "21")  # not on the ground
    await add_device(api, "11", kind="sensor")  # makes no sound
    answer = await api.client.post("/api/v1/alerts", json=alert_body(api), headers=people.first)
    assert answer.status_code == 201, answer.text


async def test_an_alert_waits_until_another_person_confirms_it_and_carries_both_names(api: Api) -> None:
    await policy(api, "24", alerts=2)
    people = await two(api)
    for unit in ("11", "12"):
        await add_device(api, unit)

    request = await asked(api, people.first)

    assert (request["devices"], request["needed_from"], request["state"]) == (2, 2, "waiting")
    assert await on_their_way(api) == 0
    waiting = (await api.client.get(f"/api/v1/alerts/{request['alert_id']}", headers=people.second)).json()
    assert (waiting["state"], waiting["version"]) == ("awaiting_second", 0)
    listed = (await api.client.get(REQUESTS, headers=people.second)).json()
    assert [each["request_id"] for each in listed] == [request["request_id"]]
    assert (await last_actions(api, 1)) == ["second_person_asked"]

    api.clock.forward(minutes=5)
    confirmed = await confirm(api, request, people.second)

    assert confirmed.status_code == 200, confirmed.text
    assert (confirmed.json()["state"], confirmed.json()["alert_id"]) == ("confirmed", request["alert_id"])
    assert await on_their_way(api) == 1
    payload = await api.fetchval("SELECT payload FROM control.outbox WHERE kind = 'alert'")
    said = signing.verify(Alert, payload, {api.services.keyring.kid: api.services.keyring.private_key.public_key()})
    # It ranks by when it was issued, not by when somebody asked for it.
    assert (said.purpose, said.rank.issued_at_ms) == (Purpose.ALERT, round(api.clock.now.timestamp() * 1000))
    row = await api.fetchval(
        "SELECT (v.issued_by, v.approved_by, a.state, a.first_issued_at) FROM control.alert_versions v"
        " JOIN control.alerts a USING (alert_id)"
    )
    assert (row[0], row[2], row[3]) == (people.account.account_id, "in_force", api.clock.now)
    assert row[1] not in (None, people.account.account_id)
    assert await last_actions(api, 2) == ["second_person_confirmed", "alert_issued"]
    assert (await api.client.get(REQUESTS, headers=people.second)).json() == []


async def test_it_is_judged_when_it_is_asked_for_with_the_same_faults(api: Api) -> None:
    people = await two(api)
    await add_device(api, "11")
    wrong = alert_body(api, texts=[{"headline": "A", "media_sha256": "0" * 64}])
    at_once = await api.client.post("/api/v1/alerts", json=wrong, headers=people.first)
    await policy(api, "24", alerts=1)
    kept = await api.client.post("/api/v1/alerts", json=wrong, headers=people.first)
    assert (kept.status_code, kept.json()["errors"]) == (at_once.status_code, at_once.json()["errors"])
    elsewhere = await api.client.post("/api/v1/alerts", json=alert_body(api, "1", "21"), headers=people.first)
    assert elsewhere.status_code == 403
    assert await api.fetchval("SELECT count(*) FROM control.operation_requests") == 0
    assert await api.fetchval("SELECT count(*) FROM control.alerts") == 0


async def test_nobody_confirms_what_they_asked_for_with_another_session_or_token_either(api: Api) -> None:
    await policy(api, "24", alerts=1)
    await add_device(api, "11")
    asker = await somebody(api)
    request = (await asker.post("/api/v1/alerts", alert_body(api))).json()
    path, body = f"{REQUESTS}/{request['request_id']}/confirm", {"digest": request["digest"]}
    assert (await asker.post(path, body)).json()["code"] == "second_person_is_the_first"
    again = await asker.again()  # a second session of the same account
    assert (await again.post(path, body)).json()["code"] == "second_person_is_the_first"
    token = (await again.post("/api/v1/tokens", {"name": "máy", "password": PASSWORD})).json()["token"]
    api.client.cookies.clear()
    by_token = await api.client.post(path, json=body, headers={"Authorization": f"Bearer {token}"})
    assert (by_token.status_code, by_token.json()["code"]) == (403, "second_person_is_the_first")
    assert await on_their_way(api) == 0
    assert await last_actions(api, 1) == ["second_person_confirm_refused"]
    # The database holds to it as well, whatever the code above it does.
    with pytest.raises(Exception, match="operation_requests_are_confirmed_by_another"):
        await api.execute("UPDATE control.operation_requests SET state = 'confirmed', decided_by = asked_by")


async def test_the_second_person_needs_the_same_right_over_all_the_ground(api: Api) -> None:
    await policy(api, "24", alerts=1)
    await add_device(api, "11")
    people = await two(api)
    request = await asked(api, people.first)
    for role, unit, code in (
        (Role.ADMINISTRATOR, "1", "not_permitted"),  # may silence, not alert
        (Role.VIEWER, "1", "not_permitted"),
        (Role.OPERATOR, "11", "not_permitted_here"),
        (Role.OPERATOR, "2", "not_permitted_here"),
    ):
        answer = await confirm(api, request, await api.person((role, unit)))
        assert (answer.status_code, answer.json()["code"]) == (403, code), (role, unit)
    # The unit that speaks alone is not all of the ground.
    wide = await asked(
        api, await api.person((Role.OPERATOR, "24")), body=alert_body(api, "11", "21", unit_id=str(api.units["1"]))
    )
    narrow = await confirm(api, wide, people.second)
    assert (narrow.status_code, narrow.json()["errors"][0]["field"]) == (403, "audience.areas[0].units[1]")
    assert await on_their_way(api) == 0
    above = await confirm(api, wide, await api.person((Role.OPERATOR, "24")))
    assert above.status_code == 200, above.text


async def test_the_second_person_shows_the_factor_they_have(api: Api) -> None:
    await policy(api, "24", alerts=1)
    await add_device(api, "11")
    request = await asked(api, await api.person((Role.OPERATOR, "1")))
    other = await somebody(api)
    await other.enrol()
    api.clock.forward(minutes=10)
    path, body = f"{REQUESTS}/{request['request_id']}/confirm", {"digest": request["digest"]}
    refused = await other.post(path, body)
    assert (refused.status_code, refused.json()["operation"]) == (403, "second_person")
    confirmed = await other.post(path, body, **{"Loa-Second-Factor": other.code()})
    assert confirmed.status_code == 200, confirmed.text


async def test_of_two_who_decide_at_once_one_does(api: Api) -> None:
    await policy(api, "24", alerts=1)
    await add_device(api, "11")
    people = await two(api)
    third = await api.person((Role.OPERATOR, "1"))
    request = await asked(api, people.first)
    answers = await asyncio.gather(*(confirm(api, request, each) for each in (people.second, third)))
    assert sorted(each.status_code for each in answers) == [200, 409]
    assert await on_their_way(api) == 1


async def test_one_confirms_what_one_has_read(api: Api) -> None:
    await policy(api, "24", alerts=1)
    await add_device(api, "11")
    people = await two(api)
    request = await asked(api, people.first)
    another = await confirm(api, request, people.second, digest="0" * 64)
    assert (another.status_code, another.json()["code"]) == (409, "request_is_another")
    # Somebody at the database changes what is said after it was asked for.
    await api.execute(
        "UPDATE control.operation_requests"
        " SET document = jsonb_set(document, '{draft,texts,0,headline}', '\"Chạy ngay đi\"')"
    )
    changed = await confirm(api, request, people.second)
    assert (changed.status_code, changed.json()["code"]) == (409, "request_is_another")
    assert await on_their_way(api) == 0


async def test_it_is_judged_again_by_what_there_is_when_it_is_confirmed(api: Api) -> None:
    await policy(api, "24", alerts=1)
    await add_device(api, "11")
    people = await two(api)
    short = alert_body(api, valid_until=(api.clock.now + timedelta(minutes=5)).isoformat())
    request = await asked(api, people.first, body=short)
    lasting = await asked(api, people.first)
    api.clock.forward(minutes=6)
    over = await confirm(api, request, people.second)
    assert (over.status_code, over.json()["errors"][0]["field"]) == (422, "valid_until")
    # Who asked has lost the right meanwhile.
    await api.execute("DELETE FROM control.role_grants WHERE account_id = $1", people.account.account_id)
    lost = await confirm(api, lasting, people.second)
    assert (lost.status_code, lost.json()["code"]) == (409, "first_person_may_no_longer")
    assert await on_their_way(api) == 0
    assert await api.fetchval("SELECT count(*) FROM control.operation_requests WHERE state = 'waiting'") == 2


async def test_a_disabled_account_s_request_is_not_carried_out(api: Api) -> None:
    await policy(api, "24", alerts=1)
    await add_device(api, "11")
    people = await two(api)
    request = await asked(api, people.first)
    administrator = await api.person((Role.ADMINISTRATOR, "24"))
    disable = f"/api/v1/accounts/{people.account.account_id}/disable"
    assert (await api.client.post(disable, headers=administrator)).status_code == 200
    answer = await confirm(api, request, people.second)
    assert (answer.status_code, answer.json()["code"]) == (409, "first_person_may_no_longer")


async def test_a_refused_request_is_not_carried_out_and_its_alert_stands_as_refused(api: Api) -> None:
    await policy(api, "24", alerts=1)
    await add_device(api, "11")
    people = await two(api)
    request = await asked(api, people.first)
    path = f"{REQUESTS}/{request['request_id']}/refuse"
    outside = await api.client.post(path, json={}, headers=await api.person((Role.OPERATOR, "2")))
    assert outside.status_code == 403
    refused = await api.client.post(path, json={"note": "Sai xã"}, headers=people.second)
    assert (refused.status_code, refused.json()["state"], refused.json()["note"]) == (200, "refused", "Sai xã")
    alert = (await api.client.get(f"/api/v1/alerts/{request['alert_id']}", headers=people.first)).json()
    assert (alert["state"], alert["version"]) == ("refused", 0)
    late = await confirm(api, request, people.second)
    assert (late.status_code, late.json()["code"]) == (409, "request_decided")
    # One takes one's own back.
    own = await asked(api, people.first)
    taken = await api.client.post(f"{REQUESTS}/{own['request_id']}/refuse", json={}, headers=people.first)
    assert taken.status_code == 200


async def test_what_nobody_confirms_runs_out(api: Api) -> None:
    await policy(api, "24", alerts=1)
    await add_device(api, "11")
    people = await two(api)
    request = await asked(api, people.first)
    api.clock.forward(minutes=15)
    late = await confirm(api, request, people.second)
    assert (late.status_code, late.json()["code"]) == (409, "request_expired")
    metrics = some_metrics()
    keeper = AlertKeeper(
        api.database, time_zone=ZONE, keyring=api.services.keyring, metrics=metrics, wake_alerts=lambda: None
    )
    await keeper.keep_once(now=api.clock.now)
    states = await api.fetchval(
        "SELECT (r.state, a.state) FROM control.operation_requests r JOIN control.alerts a USING (alert_id)"
    )
    assert tuple(states) == ("expired", "refused")
    assert await last_actions(api, 1) == ["second_person_missing"]
    assert metrics.requests_waiting._value.get() == 0


async def test_an_update_waits_and_is_outdated_by_one_that_came_before_it(api: Api) -> None:
    people = await two(api)
    await add_device(api, "11")
    issued = await api.client.post("/api/v1/alerts", json=alert_body(api), headers=people.first)
    await policy(api, "24", alerts=1)
    body = alert_body(api, texts=[{"headline": "Lũ rút"}])
    content = {key: value for key, value in body.items() if key != "unit_id"}
    path = f"/api/v1/alerts/{issued.json()['alert_id']}/update"
    waiting = [
        (await api.client.post(path, json=content, headers={**people.first, "If-Match": '"1"'})).json() for _ in "12"
    ]
    assert (await confirm(api, waiting[0], people.second)).status_code == 200
    late = await confirm(api, waiting[1], people.second)
    assert (late.status_code, late.json()["code"]) == (409, "request_outdated")
    now = (await api.client.get(f"/api/v1/alerts/{issued.json()['alert_id']}", headers=people.first)).json()
    assert (now["version"], now["headline"]) == (2, "Lũ rút")
    # To end a false alarm nobody is waited for.
    cancelled = await api.client.post(
        f"/api/v1/alerts/{issued.json()['alert_id']}/cancel", headers={**people.first, "If-Match": "*"}
    )
    assert cancelled.status_code == 200


async def test_the_kill_switch_and_its_end_have_a_size_of_their_own(api: Api) -> None:
    await policy(api, "24", silences=2)
    people = await two(api, role=Role.ADMINISTRATOR)
    for _ in range(2):
        await add_device(api, "11")
    one = await add_device(api, "12")

    small = await api.client.post("/api/v1/silences", json=silence_body(api, "12"), headers=people.first)
    assert small.status_code == 201, small.text
    request = await asked(api, people.first, "/api/v1/silences", body=silence_body(api, "1"))
    assert request["kind"] == "silence"
    assert (await confirm(api, request, people.second)).status_code == 200

    release = f"/api/v1/silences/{request['alert_id']}/release"
    part = {"except_devices": [one], "note": "đã kiểm tra"}
    let_go = await api.client.post(release, json=part, headers={**people.first, "If-Match": "*"})
    assert let_go.status_code == 200, let_go.text  # one device is fewer than two
    rest = await api.client.post(release, json={"note": "xong"}, headers={**people.first, "If-Match": "*"})
    assert rest.status_code == 202
    assert (await confirm(api, rest.json(), people.second)).status_code == 200
    after = (await api.client.get(f"/api/v1/alerts/{request['alert_id']}", headers=people.first)).json()
    assert after["state"] == "cancelled"


async def test_a_message_from_elsewhere_waits_as_well_and_its_end_does_not(api: Api) -> None:
    await policy(api, "24", alerts=1)
    await add_device(api, "11")
    people = await two(api)
    document = CAP.format(
        identifier="LU-1", type="Alert", references="", sent=api.clock.now.isoformat(timespec="seconds")
    )
    path = f"/api/v1/cap?unit_id={api.units['1']}"
    taken = await api.client.post(path, content=document.encode(), headers=people.first)
    assert (taken.status_code, taken.json()["taken"]) == (202, False), taken.text
    request = taken.json()["request"]
    assert request["alert_id"] is None
    confirmed = await confirm(api, request, people.second)
    assert confirmed.status_code == 200, confirmed.text
    assert await on_their_way(api) == 1
    reference = f"<references>ai@do.vn,LU-1,{api.clock.now.isoformat(timespec='seconds')}</references>"
    api.clock.forward(minutes=1)
    end = CAP.format(
        identifier="LU-2", type="Cancel", references=reference, sent=api.clock.now.isoformat(timespec="seconds")
    )
    ended = await api.client.post(path, content=end.encode(), headers=people.first)
    assert (ended.status_code, ended.json()["alert"]["state"]) == (200, "cancelled"), ended.text


CAP = """<?xml version="1.0" encoding="UTF-8"?>
<alert xmlns="urn:oasis:names:tc:emergency:cap:1.2"><identifier>{identifier}</identifier><sender>ai@do.vn</sender>
<sent>{sent}</sent><status>Actual</status><msgType>{type}</msgType><scope>Public</scope>{references}
<info><category>Met</category><event>Lũ</event><urgency>Immediate</urgency><severity>Extreme</severity>
<certainty>Observed</certainty><area><areaDesc>Huyện Bắc</areaDesc>
<geocode><valueName>loa:unit-code</valueName><value>1</value></geocode></area></info></alert>"""


# --- alone -----------------------------------------------------------------------------------------------------------


async def test_one_person_alone_needs_a_second_factor_and_a_reason(api: Api) -> None:
    await policy(api, "24", alerts=1)
    await add_device(api, "11")
    person = await somebody(api)
    bare = await person.post("/api/v1/alerts", alert_body(api), alone=WHY)
    assert (bare.status_code, bare.json()["code"]) == (403, "second_factor_not_enrolled")
    await person.enrol()
    for reason in ("gấp", " " * 40, "x" * 501, "gấp quá không chờ được\x07 đâu"):
        sighed = await person.post("/api/v1/alerts", alert_body(api), alone=reason)
        assert (sighed.status_code, sighed.json()["errors"][0]["field"]) == (422, "break_glass"), reason
    api.clock.forward(minutes=11)
    asked_again = await person.post("/api/v1/alerts", alert_body(api), alone=WHY)
    assert (asked_again.status_code, asked_again.json()["operation"]) == (403, "break_glass")
    assert await on_their_way(api) == 0


async def broken(api: Api) -> tuple[Person, dict[str, Any]]:
    """Somebody has issued an alert alone; the request on record."""
    await policy(api, "24", alerts=1)
    await add_device(api, "11")
    person = await somebody(api)
    await person.enrol()
    issued = await person.post("/api/v1/alerts", alert_body(api), alone=WHY)
    assert issued.status_code == 201, issued.text
    listed = await api.client.get(f"{REQUESTS}?state=alone&unacknowledged=true")
    (request,) = listed.json()
    assert request["alert_id"] == issued.json()["alert_id"]
    return person, request


async def test_what_one_did_alone_is_told_above_and_below_until_another_acknowledges(api: Api) -> None:
    person, request = await broken(api)
    assert await on_their_way(api) == 1
    assert (request["note"], request["decided_by"], request["devices"]) == (WHY, person.account_id, 1)
    assert await last_actions(api, 2) == ["glass_broken", "alert_issued"]
    path = f"{REQUESTS}/{request['request_id']}/acknowledge"
    own = await person.post(path)
    assert (own.status_code, own.json()["code"]) == (403, "second_person_is_the_first")
    api.client.cookies.clear()
    metrics = some_metrics()
    keeper = AlertKeeper(
        api.database, time_zone=ZONE, keyring=api.services.keyring, metrics=metrics, wake_alerts=lambda: None
    )
    await keeper.keep_once(now=api.clock.now)
    assert metrics.glass_broken._value.get() == 1

    for unit, shown in (("24", 1), ("1", 1), ("11", 1), ("2", 0)):
        viewer = await api.person((Role.VIEWER, unit))
        told = (await api.client.get("/api/v1/totals", headers=viewer)).json()["broken_glass"]
        assert len(told) == shown, unit
    refused = await api.client.post(path, headers=await api.person((Role.OPERATOR, "11")))
    assert refused.status_code == 403
    colleague = await api.person((Role.OPERATOR, "24"))
    known = await api.client.post(path, headers=colleague)
    assert known.status_code == 200, known.text
    assert (await api.client.post(path, headers=colleague)).json()["code"] == "nothing_to_acknowledge"
    assert (await api.client.get("/api/v1/totals", headers=colleague)).json()["broken_glass"] == []
    await keeper.keep_once(now=api.clock.now)
    assert metrics.glass_broken._value.get() == 0


async def test_a_reason_where_none_was_needed_breaks_nothing(api: Api) -> None:
    await policy(api, "24", alerts=5)
    await add_device(api, "11")
    person = await somebody(api)
    await person.enrol()
    issued = await person.post("/api/v1/alerts", alert_body(api), alone=WHY)
    assert issued.status_code == 201
    assert await api.fetchval("SELECT count(*) FROM control.operation_requests") == 0


# --- the policy ------------------------------------------------------------------------------------------------------


async def test_a_unit_tightens_the_size_and_never_loosens_it(api: Api) -> None:
    await policy(api, "24", alerts=10, silences=5)
    administrator = await api.person((Role.ADMINISTRATOR, "1"))
    path = f"/api/v1/units/{api.units['1']}/policy"
    etag = {"If-Match": (await api.client.get(path, headers=administrator)).headers["etag"]}
    loose = await api.client.put(path, json={"second_person_from": {"alerts": 11}}, headers={**administrator, **etag})
    (fault,) = loose.json()["errors"]
    assert (loose.status_code, fault["field"], fault["code"]) == (422, "second_person_from", "policy_loosens")
    for wrong in (0, -1, 1.5, "5", True):
        body = {"second_person_from": {"alerts": wrong}}
        answer = await api.client.put(path, json=body, headers={**administrator, **etag})
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "second_person_from.alerts"), wrong
    saved = await api.client.put(path, json={"second_person_from": {"alerts": 1}}, headers={**administrator, **etag})
    assert saved.status_code == 200, saved.text
    held = saved.json()["effective"]["second_person_from"]
    assert {danger: (each["value"], each["unit"]["code"]) for danger, each in held.items()} == {
        "alerts": (1, "1"),
        "silences": (5, "24"),
    }
    # It binds whoever speaks on that unit's ground, the province above it too; and nobody elsewhere.
    for unit in ("11", "21"):
        await add_device(api, unit)
    await asked(api, await api.person((Role.OPERATOR, "1")))
    province = await api.person((Role.OPERATOR, "24"))
    await asked(api, province, unit_id=str(api.units["24"]))
    elsewhere = alert_body(api, "2", unit_id=str(api.units["24"]))
    assert (await api.client.post("/api/v1/alerts", json=elsewhere, headers=province)).status_code == 201


async def test_who_changes_an_alert_and_who_confirms_a_change_of_another_do_not_wait_for_one_another(api: Api) -> None:
    """One ends what the other changes: both lock the request first, so one waits and nobody is thrown out."""
    people = await two(api)
    for unit in ("11", "12"):
        await add_device(api, unit)
    one, other = [
        (await api.client.post("/api/v1/alerts", json=alert_body(api), headers=people.first)).json()["alert_id"]
        for _ in range(2)
    ]
    await policy(api, "24", alerts=2)

    def changed(headline: str, ended: str, *units: str) -> dict[str, Any]:
        body = alert_body(api, *units, texts=[{"headline": headline}], references=[ended])
        del body["unit_id"]
        return body

    match = {"If-Match": '"1"'}
    request = await asked(api, {**people.first, **match}, f"/api/v1/alerts/{other}/update", body=changed("Lũ rút", one))

    async def are_waiting(count: int) -> bool:
        return await waiting_for_locks(api) == count

    async with asyncio.TaskGroup() as group, api.database.transaction() as connection:
        await alert_store.alert_for_update(connection, uuid.UUID(other))
        confirming = group.create_task(confirm(api, request, people.second))
        await until(lambda: are_waiting(1), "it is being confirmed", deadline_s=20)
        path, headers = f"/api/v1/alerts/{one}/update", {**people.first, **match}
        updating = group.create_task(api.client.post(path, json=changed("Lũ lên", other, "11"), headers=headers))
        await until(lambda: are_waiting(2), "the other waits for it", deadline_s=20)
    confirmed, updated = await confirming, await updating

    assert (confirmed.status_code, confirmed.json()["state"]) == (200, "confirmed"), confirmed.text
    assert (updated.status_code, updated.json()["code"]) == (409, "version_mismatch"), "it was ended meanwhile"
