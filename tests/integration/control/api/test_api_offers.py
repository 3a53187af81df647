"""The inbox of a unit over HTTP: accept, decline, schedule, and how offers are taken up (R-17)."""

from __future__ import annotations

import asyncio
import uuid
from datetime import datetime, timedelta
from typing import Any

import pytest

from services.control import proof_sheet_store
from services.control.permissions import Role
from services.control.proof_sheets import Uptake
from tests.integration.control.api.test_what_if import set_policy
from tests.support.control_api import ZONE, Api, add_bulletin, add_device, add_offer, broadcast_body, waiting_for_locks
from tests.support.waiting import until

pytestmark = pytest.mark.integration

TIMES = {"starts_on": "2026-03-12", "local_times": ["17:30"]}


async def officer_of(api: Api, unit: str) -> dict[str, str]:
    return await api.person((Role.OFFICER, unit))


async def ask(api: Api, broadcast_id: str, unit: str, verb: str, headers: dict[str, str], **send: Any) -> Any:
    path = f"/api/v1/offers/{broadcast_id}/{api.units[unit]}/{verb}"
    return await api.client.post(path, headers=headers, **send)


async def state_of(api: Api, broadcast_id: str) -> str:
    state: str = await api.fetchval(
        "SELECT state FROM control.broadcasts WHERE broadcast_id = $1", uuid.UUID(broadcast_id)
    )
    return state


async def test_the_inbox_shows_what_one_must_know_to_decide(api: Api) -> None:
    bulletin_id = await add_bulletin(api, "24", board_text="Chữ cho bảng tin")
    broadcast_id = await add_offer(api, "11", items=[{"bulletin_id": bulletin_id}, {"pause_s": 2}])
    await add_offer(api, "21")
    viewer = await api.person((Role.VIEWER, "1"))
    (offer,) = (await api.client.get("/api/v1/offers", headers=viewer)).json()
    assert (offer["broadcast_id"], offer["unit"]["code"], offer["offered_by"]["code"]) == (broadcast_id, "11", "24")
    assert (offer["state"], offer["decided_at"]) == ("offered", None)
    assert offer["next_at"] == "2026-03-10T22:30:00Z"  # tomorrow at 05:30 in Việt Nam
    (bulletin,) = offer["bulletins"]
    assert (bulletin["bulletin_id"], bulletin["board_text"]) == (bulletin_id, "Chữ cho bảng tin")
    assert bulletin["media_sha256"] is not None
    assert len(offer["broadcast"]["items"]) == 2


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({}, ["11", "12"]),
        ({"unit": "12"}, ["12"]),
        ({"state": "accepted"}, ["11"]),
        ({"state": "offered"}, ["12"]),
        ({"before": "2026-03-10T01:00:00Z"}, []),
        ({"limit": "1"}, None),
    ],
)
async def test_offers_are_listed_by_unit_and_state(
    api: Api, params: dict[str, str], expected: list[str] | None
) -> None:
    taken = await add_offer(api, "11")
    await add_offer(api, "12")
    assert (await ask(api, taken, "11", "accept", await officer_of(api, "11"))).status_code == 200
    if "unit" in params:
        params = {"unit": str(api.units[params["unit"]])}
    viewer = await api.person((Role.VIEWER, "1"))
    listed = (await api.client.get("/api/v1/offers", params=params, headers=viewer)).json()
    if expected is None:
        assert len(listed) == 1
    else:
        assert sorted(each["unit"]["code"] for each in listed) == expected


async def test_a_unit_accepts_and_may_change_its_mind_and_each_word_is_audited_and_planned(api: Api) -> None:
    broadcast_id = await add_offer(api, "11")
    officer = await officer_of(api, "11")
    await api.execute("DELETE FROM control.planning_requests")
    accepted = await ask(api, broadcast_id, "11", "accept", officer, json={"note": "Hay"})
    assert (accepted.json()["state"], accepted.json()["note"]) == ("accepted", "Hay")
    declined = await ask(api, broadcast_id, "11", "decline", officer, json={"note": "Trùng giờ họp"})
    assert declined.json()["state"] == "declined"
    assert await api.fetchval("SELECT count(*) FROM control.planning_requests") == 2
    async with api.database.connection() as connection:
        rows = await connection.fetch(
            "SELECT action, before, after, unit_id FROM control.audit WHERE subject LIKE 'offer:%' ORDER BY audit_id"
        )
    assert [row["action"] for row in rows] == ["offer_accepted", "offer_declined"]
    assert (rows[1]["before"]["state"], rows[1]["after"]["note"]) == ("accepted", "Trùng giờ họp")
    assert {row["unit_id"] for row in rows} == {api.units["11"]}


async def test_nothing_is_decided_once_the_last_occurrence_has_begun(api: Api) -> None:
    broadcast_id = await add_offer(api, "11")
    officer = await officer_of(api, "11")
    api.clock.now += timedelta(days=1)  # 09:00 on the day of the broadcast at 05:30
    response = await ask(api, broadcast_id, "11", "accept", officer)
    assert (response.status_code, response.json()["code"]) == (409, "offer_is_over")
    assert "Bản tin sáng" in response.json()["detail"]
    (offer,) = (await api.client.get("/api/v1/offers", headers=officer)).json()
    assert offer["next_at"] is None


async def test_what_recurs_may_be_decided_on_for_the_rest_but_not_while_it_sounds(api: Api) -> None:
    broadcast_id = await add_offer(api, "11", recurrence="daily")
    officer = await officer_of(api, "11")
    assert (await ask(api, broadcast_id, "11", "accept", officer)).status_code == 200
    at = api.clock.now + timedelta(days=3)
    await api.execute(
        """
        INSERT INTO control.emissions
               (broadcast_id, occurrence_at, item, device_no, unit_id, bulletin_id, content, level, issuer_depth,
                starts_at, ends_at, latest_start_at, fingerprint, planned_at)
        SELECT broadcast_id, $2, 0, device_no, d.unit_id, bulletin_id, 'audio', 'normal', 0, $2,
               $2::timestamptz + interval '30 s', $2, '', $2
          FROM control.broadcast_items i, control.devices d
         WHERE broadcast_id = $1
        """,
        uuid.UUID(broadcast_id),
        at,
    )
    api.clock.now = at + timedelta(seconds=10)
    busy = await ask(api, broadcast_id, "11", "decline", officer)
    assert (busy.status_code, busy.json()["code"]) == (409, "offer_on_air")
    api.clock.now = at + timedelta(seconds=30)
    assert (await ask(api, broadcast_id, "11", "decline", officer)).status_code == 200


async def test_a_dry_run_tells_what_a_decision_would_do_and_decides_nothing(api: Api) -> None:
    broadcast_id = await add_offer(api, "11")
    officer = await officer_of(api, "11")
    tried = await ask(api, broadcast_id, "11", "accept", officer, params={"dry_run": True})
    assert tried.json()["state"] == "accepted"
    outlook = tried.json()["outlook"]
    assert (outlook["counts"], [each["name"] for each in outlook["units"]]) == ({"added": 1}, ["Xã Đại Sơn"])
    own = await ask(api, broadcast_id, "11", "schedule", officer, json=TIMES, params={"dry_run": True})
    assert own.json()["outlook"]["counts"] == {"added": 1}
    assert await api.fetchval("SELECT state FROM control.offers") == "offered"
    assert await api.fetchval("SELECT count(*) FROM control.broadcasts") == 1
    accepted = await ask(api, broadcast_id, "11", "accept", officer)
    assert (accepted.json()["state"], accepted.json()["outlook"]) == ("accepted", None)


async def test_who_accepts_is_told_what_will_not_sound_and_by_which_rule(api: Api) -> None:
    """It is the unit's choice, so it is not refused; a week's minutes that two share count for the later one."""
    await add_device(api, "12")
    officer = await officer_of(api, "11")
    await set_policy(api, "24", quiet=[{"begin": "22:00", "end": "05:00"}])
    await set_policy(api, "11", max_day_s=40)
    await set_policy(api, "12", quiet=[{"begin": "20:00", "end": "06:00"}])
    targets = [{"unit_id": str(api.units["1"])}]
    names = {}
    for at, recurrence in (("05:30", "once"), ("05:40", "daily")):
        names[at] = await add_offer(api, "11", recurrence=recurrence, local_times=[at], targets=targets)
        api.clock.forward(seconds=1)
    await set_policy(api, "24", quiet=[{"begin": "05:35", "end": "05:45"}])

    told = {}
    for at, broadcast_id in names.items():
        for tried in ({"dry_run": True}, {}):
            answer = (await ask(api, broadcast_id, "11", "accept", officer, params=tried)).json()
            told[at] = [(each["problem"], each["unit_id"], each["occurrences"]) for each in answer["problems"]]
    assert told == {"05:30": [], "05:40": [("quiet_hours", str(api.units["24"]), 8)]}

    await set_policy(api, "24")
    again = (await ask(api, names["05:40"], "11", "accept", officer)).json()
    assert [(each["problem"], each["unit_id"], each["occurrences"]) for each in again["problems"]] == [
        ("day_full", str(api.units["11"]), 1)
    ]
    assert (await ask(api, names["05:40"], "11", "decline", officer)).json()["problems"] == []


async def test_what_can_never_sound_in_the_unit_is_accepted_with_a_word_of_why(api: Api) -> None:
    """Every board there is somebody's own by now; or the only loudspeaker is out of service."""
    items = [{"bulletin_id": await add_bulletin(api, "24", duration_ms=None, board_text="Tiêm chủng")}]
    await add_device(api, "11", "board", device_id="bang-11")
    shown = await add_offer(api, "11", items=items)
    sounded = await add_offer(api, "12")
    await api.execute("UPDATE control.devices SET ownership = 'private' WHERE device_id = 'bang-11'")
    await api.execute("UPDATE control.devices SET retired_at = $1 WHERE unit_id = $2", api.clock.now, api.units["12"])
    told = {}
    for offered, unit in ((shown, "11"), (sounded, "12")):
        officer = await api.person((Role.OFFICER, unit))
        for params in ({"dry_run": "true"}, {}):
            answer = await ask(api, offered, unit, "accept", officer, params=params)
            assert answer.status_code == 200, answer.text
            told[unit, bool(params)] = [(each["problem"], each["unit_id"]) for each in answer.json()["problems"]]
    here = str(api.units["11"])
    assert told["11", False] == told["11", True] == [("private_board", here)]
    assert told["12", False] == told["12", True] == [("no_device", None)]


async def test_times_of_one_s_own_beyond_the_days_that_are_planned_are_looked_at_there(api: Api) -> None:
    offered = await add_offer(api, "11")
    path = f"/api/v1/offers/{offered}/{api.units['11']}/schedule"
    times = {"starts_on": "2026-05-11", "local_times": ["17:30"]}
    officer = await api.person((Role.OFFICER, "11"))
    tried = await api.client.post(path, params={"dry_run": "true"}, json=times, headers=officer)
    outlook = tried.json()["outlook"]
    assert (tried.status_code, outlook["first"], outlook["counts"]) == (200, "2026-05-11", {"added": 1}), tried.text


async def test_what_begins_beyond_the_days_that_are_planned_is_decided_on_with_a_look_at_them(api: Api) -> None:
    offered = await add_offer(api, "11", starts_on="2026-05-11")
    officer = await api.person((Role.OFFICER, "11"))
    for verb, counts in (("accept", {"added": 1}), ("decline", {"refused": 1})):
        tried = (await ask(api, offered, "11", verb, officer, params={"dry_run": "true"})).json()["outlook"]
        assert (tried["first"], tried["counts"]) == ("2026-05-11", counts)
        assert (await ask(api, offered, "11", verb, officer)).status_code == 200


async def test_a_withdrawn_broadcast_is_no_offer_any_more(api: Api) -> None:
    broadcast_id = await add_offer(api, "11")
    await api.client.post(f"/api/v1/broadcasts/{broadcast_id}/withdraw", headers=await officer_of(api, "24"))
    response = await ask(api, broadcast_id, "11", "accept", await officer_of(api, "11"))
    assert (response.status_code, response.json()["code"]) == (409, "offer_is_over")


@pytest.mark.parametrize("unit", ["12", "1"])
async def test_what_was_not_offered_to_the_unit_is_not_found(api: Api, unit: str) -> None:
    broadcast_id = await add_offer(api, "11")
    response = await ask(api, broadcast_id, unit, "accept", await officer_of(api, "1"))
    assert (response.status_code, response.json()["code"]) == (404, "offer_not_found")


# --- at times of its own ---------------------------------------------------------------------------------------------


async def test_a_unit_schedules_what_is_offered_at_times_of_its_own(api: Api) -> None:
    bulletin_id = await add_bulletin(api, "24")
    broadcast_id = await add_offer(api, "11", items=[{"bulletin_id": bulletin_id}, {"pause_s": 2}])
    officer = await officer_of(api, "11")
    response = await ask(api, broadcast_id, "11", "schedule", officer, json={**TIMES, "volume_percent": 40})
    assert response.status_code == 200, response.text
    view = response.json()
    own = view["broadcast"]
    assert (view["state"], view["scheduled_as"]) == ("scheduled", own["broadcast_id"])
    assert (own["unit_id"], own["offer_of"], own["level"]) == (str(api.units["11"]), broadcast_id, "normal")
    assert own["items"][0]["bulletin_id"] == bulletin_id
    assert own["items"][1]["pause_s"] == 2
    assert [each["unit_id"] for each in own["targets"]] == [str(api.units["11"])]
    assert (view["starts_at"], own["volume_percent"]) == ("2026-03-12T10:30:00Z", 40)
    again = await ask(api, broadcast_id, "11", "schedule", officer, json=TIMES)
    assert (again.status_code, again.json()["code"]) == (409, "offer_scheduled_already")
    assert again.json()["scheduled_as"] == own["broadcast_id"]


async def test_another_decision_takes_back_what_was_scheduled(api: Api) -> None:
    broadcast_id = await add_offer(api, "11")
    officer = await officer_of(api, "11")
    own = (await ask(api, broadcast_id, "11", "schedule", officer, json=TIMES)).json()["scheduled_as"]
    accepted = await ask(api, broadcast_id, "11", "accept", officer)
    assert (accepted.json()["state"], accepted.json()["scheduled_as"]) == ("accepted", None)
    assert await state_of(api, own) == "withdrawn"
    assert (await ask(api, broadcast_id, "11", "schedule", officer, json=TIMES)).status_code == 200


@pytest.mark.parametrize(
    ("changes", "field", "code"),
    [
        ({"starts_on": "2026-03-01"}, "local_times[0]", "time_in_the_past"),
        ({"local_times": []}, "local_times", "too_few"),
        ({"targets": [{"unit_id": "OUTSIDE"}]}, "targets[0].unit_id", "target_outside_own_subtree"),
        ({"items": []}, "items", "field_unknown"),
        ({"level": "priority"}, "level", "field_unknown"),
    ],
)
async def test_faulty_times_are_named_and_nothing_is_decided(
    api: Api, changes: dict[str, Any], field: str, code: str
) -> None:
    broadcast_id = await add_offer(api, "11")
    if "targets" in changes:
        changes = {"targets": [{"unit_id": str(api.units["12"])}]}
    officer = await officer_of(api, "11")
    response = await ask(api, broadcast_id, "11", "schedule", officer, json={**TIMES, **changes})
    assert response.status_code in (403, 422), response.text
    assert [(error["field"], error["code"]) for error in response.json()["errors"]] == [(field, code)]
    assert await api.fetchval("SELECT state FROM control.offers") == "offered"
    assert await api.fetchval("SELECT count(*) FROM control.broadcasts") == 1


async def test_of_two_who_decide_at_once_both_are_heard_in_turn(api: Api) -> None:
    broadcast_id = await add_offer(api, "11")
    officer = await officer_of(api, "11")
    answers = await asyncio.gather(
        ask(api, broadcast_id, "11", "schedule", officer, json=TIMES),
        ask(api, broadcast_id, "11", "schedule", officer, json=TIMES),
    )
    assert sorted(each.status_code for each in answers) == [200, 409]
    assert await api.fetchval("SELECT count(*) FROM control.broadcasts WHERE offer_of IS NOT NULL") == 1


async def test_who_schedules_holds_no_offer_while_waiting_for_who_changes_what_is_offered(api: Api) -> None:
    """Else who changes it, and takes the offers back, would wait in turn, and one of the two be ended by the database."""
    broadcast_id = await add_offer(api, "11")
    officer = await officer_of(api, "11")

    async with asyncio.TaskGroup() as group, api.database.transaction() as other:
        await other.execute(
            "SELECT FROM control.broadcasts WHERE broadcast_id = $1 FOR UPDATE", uuid.UUID(broadcast_id)
        )
        scheduling = group.create_task(ask(api, broadcast_id, "11", "schedule", officer, json=TIMES))
        await until(lambda: waiting_for_locks(api), "the unit waits", deadline_s=20)
        await other.execute(
            "SELECT FROM control.offers WHERE broadcast_id = $1 FOR UPDATE NOWAIT", uuid.UUID(broadcast_id)
        )
        assert not scheduling.done()
    assert (await scheduling).status_code == 200


# --- how it is taken up ----------------------------------------------------------------------------------------------


async def test_offers_are_counted_per_unit_and_month(api: Api) -> None:
    officer = await officer_of(api, "1")
    for verb, unit in (("accept", "11"), ("accept", "11"), ("decline", "11"), (None, "11"), ("decline", "12")):
        broadcast_id = await add_offer(api, unit)
        if verb is not None:
            assert (await ask(api, broadcast_id, unit, verb, officer)).status_code == 200
    scheduled = await add_offer(api, "12")
    assert (await ask(api, scheduled, "12", "schedule", officer, json=TIMES)).status_code == 200
    await add_offer(api, "21")
    rows = (await api.client.get("/api/v1/offers/counts", params={"month": "2026-03"}, headers=officer)).json()
    names = ("offered", "accepted", "declined", "scheduled", "undecided")
    assert {row["unit"]["code"]: tuple(row[name] for name in names) for row in rows} == {
        "11": (4, 2, 1, 0, 1),
        "12": (2, 0, 1, 1, 0),
    }
    assert (await api.client.get("/api/v1/offers/counts", headers=officer)).json() == rows
    other = await api.client.get("/api/v1/offers/counts", params={"month": "2026-04"}, headers=officer)
    assert other.json() == []


async def test_a_month_is_a_month_of_the_province_s_days(api: Api) -> None:
    broadcast_id = uuid.UUID(await add_offer(api, "11"))
    officer = await officer_of(api, "11")
    for at, month in (("2026-03-31T16:59:59Z", "2026-03"), ("2026-03-31T17:00:00Z", "2026-04")):
        await api.execute(
            "UPDATE control.offers SET offered_at = $2::text::timestamptz WHERE broadcast_id = $1", broadcast_id, at
        )
        rows = (await api.client.get("/api/v1/offers/counts", params={"month": month}, headers=officer)).json()
        assert [row["offered"] for row in rows] == [1]


@pytest.mark.parametrize("month", ["2026", "2026-13", "2026-3", "03-2026", "x" * 20])
async def test_what_is_no_month_is_named(api: Api, month: str) -> None:
    response = await api.client.get(
        "/api/v1/offers/counts", params={"month": month}, headers=await officer_of(api, "11")
    )
    assert [(each["field"], each["code"]) for each in response.json()["errors"]] == [("month", "not_a_month")]


@pytest.mark.parametrize(
    ("level", "left", "stands"),
    [
        pytest.param("normal", ["11"], "offered", id="other_ground"),
        pytest.param("priority", [], None, id="no_longer_offered"),
    ],
)
async def test_a_changed_broadcast_is_offered_to_whom_it_now_means_and_to_nobody_else(
    api: Api, level: str, left: list[str], stands: str | None
) -> None:
    for code in ("11", "12"):
        await add_device(api, code)
    both = [{"unit_id": str(api.units[code])} for code in ("11", "12")]
    issuer = await api.person((Role.OFFICER, "24"))
    body = await broadcast_body(api, "24", targets=both)
    made = await api.client.post("/api/v1/broadcasts", json=body, headers=issuer)
    broadcast_id = made.json()["broadcast_id"]
    officer = await officer_of(api, "11")
    assert (await ask(api, broadcast_id, "11", "accept", officer)).status_code == 200

    changed = await api.client.put(
        f"/api/v1/broadcasts/{broadcast_id}",
        json={**body, "level": level, "targets": both[:1]},
        headers={**issuer, "If-Match": made.headers["etag"]},
    )
    assert changed.status_code == 200, changed.text

    viewer = await api.person((Role.VIEWER, "1"))
    listed = (await api.client.get("/api/v1/offers", headers=viewer)).json()
    assert [(each["unit"]["code"], each["state"]) for each in listed] == [(code, stands) for code in left]
    refused = await ask(api, broadcast_id, "12", "decline", await officer_of(api, "12"))
    assert (refused.status_code, refused.json()["code"]) == (404, "offer_not_found")


async def test_what_a_unit_said_in_a_month_stays_said_when_the_broadcast_is_changed_later(api: Api) -> None:
    issuer, officer = await api.person((Role.OFFICER, "24")), await officer_of(api, "11")
    body = await broadcast_body(api, "24", targets=[{"unit_id": str(api.units["11"])}], recurrence="daily")
    await add_device(api, "11")
    made = await api.client.post("/api/v1/broadcasts", json=body, headers=issuer)
    broadcast_id = made.json()["broadcast_id"]
    assert (await ask(api, broadcast_id, "11", "accept", officer)).status_code == 200

    async def march() -> tuple[dict[str, int], Any]:
        counted = await api.client.get("/api/v1/offers/counts", params={"month": "2026-03"}, headers=officer)
        async with api.database.connection() as connection:
            begins_at = datetime(2026, 3, 1, tzinfo=ZONE)
            printed = await proof_sheet_store.uptake(
                connection, [api.units["11"]], begins_at=begins_at, ends_at=begins_at + timedelta(days=31)
            )
        (row,) = counted.json()
        return {name: row[name] for name in ("offered", "accepted", "undecided")}, printed

    said = await march()
    assert said == ({"offered": 1, "accepted": 1, "undecided": 0}, Uptake(offered=1, accepted=1))
    api.clock.forward(days=30)
    changed = await api.client.put(
        f"/api/v1/broadcasts/{broadcast_id}",
        json={**body, "title": "Khác"},
        headers={**issuer, "If-Match": made.headers["etag"]},
    )
    assert changed.status_code == 200, changed.text
    assert await march() == said
    (asked,) = (await api.client.get("/api/v1/offers/counts", params={"month": "2026-04"}, headers=officer)).json()
    assert (asked["offered"], asked["undecided"]) == (1, 1)
