"""What-if: a dry run says what the save then does, and leaves nothing behind."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from services.control import accounts, broadcast_store, broadcasts, planning_queue, rehearsal
from services.control.account_store import Account
from services.control.api import what_if
from services.control.api.routes.broadcasts import BroadcastBody
from services.control.permissions import Rights, Role
from services.control.planner import Planner
from services.control.planning.changes import Changes, fingerprint
from services.control.rehearsal import Outlook
from services.shared.database.pool import Connection, connect
from tests.support.control import a_keyring, a_planner
from tests.support.control_api import (
    TREE,
    ZONE,
    Api,
    add_broadcast,
    add_bulletin,
    add_device,
    add_group,
    broadcast_body,
    group_body,
    import_tree,
)
from tests.support.database import TestDatabase

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

TABLES = (
    "broadcasts",
    "broadcast_items",
    "broadcast_targets",
    "offers",
    "policy_exceptions",
    "planning_requests",
    "planning_problems",
    "emissions",
    "issue_requests",
    "outbox",
    "audit",
)


async def everything(api: Api) -> dict[str, str]:
    """Every row that a save or the planner could write."""
    return {
        table: str(await api.fetchval(f"SELECT md5(string_agg(t::text, '|' ORDER BY t::text)) FROM control.{table} t"))
        for table in TABLES
    }


async def set_policy(api: Api, unit: str, **body: Any) -> None:
    await api.execute(
        """
        INSERT INTO control.policies (unit_id, body, changed_at, changed_by)
        SELECT $1, $2, $3, account_id
          FROM control.accounts
         LIMIT 1
            ON CONFLICT (unit_id) DO UPDATE SET body = excluded.body
        """,
        api.units[unit],
        body,
        api.clock.now,
    )


async def settled(api: Api, planner: Planner) -> Changes | None:
    """What planning does with all that is asked for now."""
    return await planner.plan_once(now=api.clock.now)


# --- one change at a time --------------------------------------------------------------------------------------------


async def test_a_dry_run_stores_nothing_and_wakes_nobody(api: Api, database: TestDatabase) -> None:
    officer = await api.person((Role.OFFICER, "11"))
    body = await broadcast_body(api, "11")
    heard: list[str] = []
    before = await everything(api)
    async with connect(database.control, application="listener") as listener:
        await listener.add_listener(planning_queue.CHANNEL, lambda *_: heard.append("rung"))
        answer = await api.client.post("/api/v1/broadcasts", params={"dry_run": "true"}, json=body, headers=officer)
        assert answer.status_code == 200, answer.text
        assert "etag" not in answer.headers
        await listener.execute("SELECT 1")  # whatever was notified would have come by now
        assert heard == []
    assert await everything(api) == before
    outlook = answer.json()["outlook"]
    assert (answer.json()["state"], answer.json()["devices"], outlook["add"]) == ("scheduled", 1, 1)
    assert outlook["counts"] == {"added": 1}
    (unit,) = outlook["units"]
    assert (unit["unit_id"], unit["name"], unit["devices"]) == (str(api.units["11"]), "Xã Đại Sơn", 1)
    assert outlook["detail"] is None


async def test_numbers_come_first_and_devices_page_by_page(api: Api) -> None:
    officer = await api.person((Role.OFFICER, "1"))
    device_ids = [await add_device(api, "11") for _ in range(5)]
    body = await broadcast_body(api, "1", level="priority", targets=[{"unit_id": str(api.units["11"])}])
    seen: list[str] = []
    after = ""
    while True:
        query = {"dry_run": "true", "detail_unit": str(api.units["11"]), "detail_limit": "2", "detail_after": after}
        answer = await api.client.post("/api/v1/broadcasts", params=query, json=body, headers=officer)
        detail = answer.json()["outlook"]["detail"]
        for device in detail["devices"]:
            seen.append(device["device_id"])
            (change,) = device["changes"]
            assert (change["kind"], change["after"]["fate"], change["before"]) == ("added", "whole", None)
        if detail["more_after"] is None:
            break
        after = detail["more_after"]
    assert seen == device_ids


async def test_what_is_cut_is_told_with_what_cuts_it_and_why(api: Api) -> None:
    officer = await api.person((Role.OFFICER, "11"))
    await add_device(api, "11")
    target = [{"unit_id": str(api.units["11"])}]
    long = await add_bulletin(api, "11", duration_ms=50_000)
    await api.client.post(
        "/api/v1/broadcasts",
        json=await broadcast_body(api, "11", items=[{"bulletin_id": long}], targets=target, resume="drop"),
        headers=officer,
    )
    body = await broadcast_body(api, "11", level="priority", local_times=["05:30:20"], targets=target)
    query = {"dry_run": "true", "detail_unit": str(api.units["11"])}
    outlook = (await api.client.post("/api/v1/broadcasts", params=query, json=body, headers=officer)).json()["outlook"]
    assert outlook["counts"] == {"added": 1, "cut": 1}
    (device,) = outlook["detail"]["devices"]
    cut, added = device["changes"]
    assert (cut["kind"], cut["decided_by"], cut["by"]) == ("cut", "level", added["broadcast_id"])
    assert cut["after"]["parts"] == [["2026-03-10T22:30:00Z", "2026-03-10T22:30:20Z"]]


async def test_what_a_save_would_refuse_a_dry_run_refuses_in_the_same_words(api: Api) -> None:
    officer = await api.person((Role.OFFICER, "11"))
    await set_policy(api, "11", quiet=[{"begin": "21:00", "end": "06:00"}])
    body = await broadcast_body(api, "11")
    refused = [
        await api.client.post("/api/v1/broadcasts", params=params, json=body, headers=officer)
        for params in ({"dry_run": "true"}, {})
    ]
    assert [each.status_code for each in refused] == [422, 422]
    assert refused[0].json() == refused[1].json()
    assert refused[0].json()["code"] == "broadcast_against_policy"
    assert [(each["field"], each["code"]) for each in refused[0].json()["errors"]] == [
        ("local_times", "against_quiet_hours")
    ]
    assert "Xã Đại Sơn" in refused[0].json()["errors"][0]["message"]
    assert await api.fetchval("SELECT count(*) FROM control.broadcasts") == 0


async def test_what_begins_beyond_the_horizon_is_looked_at_where_it_begins(api: Api) -> None:
    officer = await api.person((Role.OFFICER, "11"))
    body = await broadcast_body(api, "11", starts_on="2026-05-01", recurrence="daily")
    answer = await api.client.post("/api/v1/broadcasts", params={"dry_run": "true"}, json=body, headers=officer)
    assert (answer.json()["outlook"]["first"], answer.json()["outlook"]["add"]) == ("2026-05-01", 9)


async def test_what_happens_is_told_of_the_units_of_today(api: Api) -> None:
    """A village that opens today lies in its commune, although there was no such village yesterday."""
    await import_tree(api, f"{TREE}111,11,village,Thôn Mới\n", api.clock.now.astimezone(ZONE).date())
    officer = await api.person((Role.OFFICER, "11"))
    await add_device(api, "111")
    body = await broadcast_body(api, "11", targets=[{"unit_id": str(api.units["111"])}])
    answer = await api.client.post("/api/v1/broadcasts", params={"dry_run": "true"}, json=body, headers=officer)
    assert answer.status_code == 200, answer.text
    assert [(each["name"], each["devices"]) for each in answer.json()["outlook"]["units"]] == [("Xã Đại Sơn", 1)]


async def test_a_withdrawal_can_be_tried_too(api: Api) -> None:
    officer = await api.person((Role.OFFICER, "11"))
    made = await api.client.post("/api/v1/broadcasts", json=await broadcast_body(api, "11"), headers=officer)
    path = f"/api/v1/broadcasts/{made.json()['broadcast_id']}"
    before = await everything(api)
    tried = await api.client.post(f"{path}/withdraw", params={"dry_run": "true"}, headers=officer)
    assert (tried.json()["state"], tried.json()["outlook"]["withdraw"]) == ("withdrawn", 1)
    assert tried.json()["outlook"]["counts"] == {"removed": 1}
    assert await everything(api) == before
    assert (await api.client.get(path, headers=officer)).json()["state"] == "scheduled"


async def test_a_dry_run_needs_the_version_that_was_read_as_the_save_does(api: Api) -> None:
    officer = await api.person((Role.OFFICER, "11"))
    made = await api.client.post("/api/v1/broadcasts", json=await broadcast_body(api, "11"), headers=officer)
    path = f"/api/v1/broadcasts/{made.json()['broadcast_id']}"
    body = await broadcast_body(api, "11", title="Khác")
    for headers, status in (({}, 428), ({"If-Match": '"9"'}, 409), ({"If-Match": '"1"'}, 200)):
        tried = await api.client.put(path, params={"dry_run": "true"}, json=body, headers={**officer, **headers})
        assert tried.status_code == status, tried.text


async def test_a_change_of_a_group_can_be_tried_too(api: Api) -> None:
    officer = await api.person((Role.OFFICER, "11"))
    group, newcomer = await add_group(api, "11"), await add_device(api, "11")
    path = f"/api/v1/groups/{group['group_id']}"
    await add_broadcast(api, "11", targets=[{"group_id": group["group_id"]}])
    before = await everything(api)
    body = await group_body(api, "11", members=[newcomer])
    query = {"dry_run": "true", "detail_unit": str(api.units["11"])}
    tried = await api.client.put(path, params=query, json=body, headers={**officer, "If-Match": '"1"'})
    assert tried.status_code == 200, tried.text
    outlook = tried.json()["outlook"]
    assert (outlook["add"], outlook["withdraw"], outlook["counts"]) == (1, 1, {"added": 1, "removed": 1})
    assert {each["device_id"]: each["changes"][0]["kind"] for each in outlook["detail"]["devices"]} == {
        group["members"][0]: "removed",
        newcomer: "added",
    }
    assert await everything(api) == before
    assert (await api.client.get(path, headers=officer)).json() == group


@pytest.mark.parametrize(("seconds", "days"), [(-1, 3), (0, 3), (1, 2), (600, 2)])
async def test_what_should_have_begun_already_is_not_promised(api: Api, seconds: int, days: int) -> None:
    """Accepted in the middle of an occurrence, an offer sounds from the next one on, and so says the dry run."""
    device = await add_device(api, "11")
    tomorrow = api.clock.now.astimezone(ZONE).date() + timedelta(days=1)
    offered = await add_broadcast(
        api,
        "24",
        recurrence="daily",
        starts_on=tomorrow.isoformat(),
        ends_on=(tomorrow + timedelta(days=3)).isoformat(),
        targets=[{"device_id": device}],
        items=[{"bulletin_id": await add_bulletin(api, "24", duration_ms=900_000)}],
    )
    planner = a_planner(api.database, a_keyring())
    await settled(api, planner)
    begins = datetime.combine(tomorrow, time(5, 30), ZONE).astimezone(UTC)
    api.clock.now = begins + timedelta(seconds=seconds)
    officer = await api.person((Role.OFFICER, "11"))
    path = f"/api/v1/offers/{offered['broadcast_id']}/{api.units['11']}/accept"
    dry = (await api.client.post(path, params={"dry_run": True}, json={}, headers=officer)).json()["outlook"]
    assert (dry["add"], dry["counts"]) == (days, {"added": days})
    assert (await api.client.post(path, json={}, headers=officer)).status_code == 200
    applied = await settled(api, planner)
    assert applied is not None
    assert len(applied.add) == days


async def test_media_that_are_not_on_the_device_yet_are_counted(api: Api) -> None:
    officer = await api.person((Role.OFFICER, "11"))
    device_ids = [await add_device(api, "11") for _ in range(3)]
    bulletin = await add_bulletin(api, "11")
    sha256 = await api.fetchval("SELECT media_sha256 FROM control.bulletins WHERE bulletin_id::text = $1", bulletin)
    for device_id, file in ((device_ids[0], sha256), (device_ids[1], bytes(32))):
        await api.execute(
            """
            INSERT INTO control.device_media (device_no, sha256, stored_at)
            SELECT device_no, $2, $3 FROM control.devices WHERE device_id = $1
            """,
            device_id,
            file,
            api.clock.now,
        )
    target = [{"unit_id": str(api.units["11"])}]
    body = await broadcast_body(api, "11", items=[{"bulletin_id": bulletin}], targets=target)
    tried = await api.client.post("/api/v1/broadcasts", params={"dry_run": "true"}, json=body, headers=officer)
    (unit,) = tried.json()["outlook"]["units"]
    assert [unit[name] for name in ("devices", "lacking_devices", "unknown_devices")] == [3, 1, 1]


# --- many changes, as they come --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """Something an officer does; `pick` chooses among what is there."""

    verb: str
    issuer: str
    pick: int
    body: str  # JSON with names of bulletins and targets in braces


@st.composite
def steps(draw: st.DrawFn) -> Step:
    issuer = draw(st.sampled_from(["24", "1", "11", "12"]))
    below = {"24": ["24", "1", "11", "2"], "1": ["1", "11", "12"], "11": ["11"], "12": ["12"]}[issuer]
    recurrence = draw(st.sampled_from(["once", "daily", "rule"]))
    times = st.sampled_from(["05:00", "05:20", "06:10", "11:00", "17:00", "22:30"])
    body: dict[str, Any] = {
        "level": draw(st.sampled_from(["normal", "priority"])),
        "recurrence": recurrence,
        "starts_on": draw(st.sampled_from(["2026-03-11", "2026-03-12", "2026-03-16"])),
        "local_times": draw(st.lists(times, min_size=1, max_size=2, unique=True)),
        "items": draw(st.lists(st.sampled_from(["{short}", "{long}", "{board}"]), min_size=1, max_size=3)),
        "targets": draw(st.lists(st.sampled_from(below), min_size=1, max_size=2, unique=True)),
        "resume": draw(st.sampled_from(["resume", "restart", "drop"])),
    }
    if recurrence == "rule":
        body["rrule"] = draw(st.sampled_from(["FREQ=WEEKLY;BYDAY=WE,FR", "FREQ=DAILY;INTERVAL=2;COUNT=3"]))
    if draw(st.booleans()):
        body |= {"length_s": 120, "fit": draw(st.sampled_from(["trim", "drop"])), "fill": "repeat"}
    return Step(
        verb=draw(st.sampled_from(["create", "create", "create", "replace", "withdraw"])),
        issuer=issuer,
        pick=draw(st.integers(0, 99)),
        body=json.dumps(body),
    )


def a_morning() -> list[Step]:
    """The same in every run."""
    made: list[Step] = []

    @settings(max_examples=24, phases=[Phase.generate], derandomize=True, database=None)
    @given(steps())
    def make(step: Step) -> None:
        made.append(step)

    make()
    return made


async def test_what_the_dry_run_says_is_what_the_save_then_does(api: Api) -> None:
    account = await api.account((Role.OFFICER, "24"))
    officer = await api.token(account)
    planner = a_planner(api.database, a_keyring())
    for unit, kind in (("11", "cluster"), ("11", "board"), ("12", "cluster"), ("12", "cluster"), ("21", "cluster")):
        await add_device(api, unit, kind)
    bulletins = {
        "{short}": await add_bulletin(api, "24", duration_ms=30_000),
        "{long}": await add_bulletin(api, "24", duration_ms=400_000, board_text="Chữ"),
        "{board}": await add_bulletin(api, "24", duration_ms=None, board_text="Bảng"),
    }
    await set_policy(api, "1", max_day_s=1_200, volume_caps=[{"begin": "05:00", "end": "06:00", "percent": 20}])
    await set_policy(api, "11", quiet=[{"begin": "22:00", "end": "04:00"}], exceptions_by_approver=True)
    await set_policy(api, "12", accepts_normal=True, quiet=[{"begin": "22:00", "end": "04:00"}])
    issuers: dict[str, str] = {}
    seen: Counter[str] = Counter()
    await settled(api, planner)
    for step in a_morning():
        api.clock.forward(minutes=1)
        request = await a_request(api, step, bulletins, issuers)
        if request is None:
            continue
        before = await everything(api)
        method, path, send, unit = request
        known = set(issuers)
        dry = await api.client.request(
            method,
            path,
            headers={**officer, **send.get("headers", {})},
            json=send.get("json"),
            params={"dry_run": "true"},
        )
        assert await everything(api) == before
        outlook = await rehearsed(api, account, method, path, send, unit) if dry.is_success else None
        assert await everything(api) == before

        real = await api.client.request(
            method, path, headers={**officer, **send.get("headers", {})}, json=send.get("json")
        )

        if outlook is None:
            assert (real.status_code, real.json()) == (dry.status_code, dry.json())
            seen[real.json()["code"]] += 1
            continue
        assert real.is_success, real.text
        seen[f"{method} {real.json()['state']}"] += 1
        assert real.json()["state"] == dry.json()["state"]
        issuers[real.json()["broadcast_id"]] = unit
        changes = await settled(api, planner)
        assert changes is not None
        told = dry.json()["outlook"]
        assert {name: told[name] for name in ("add", "withdraw", "stop")} == {
            "add": len(changes.add),
            "withdraw": len(changes.withdraw),
            "stop": len(changes.stop),
        }
        new = None if real.json()["broadcast_id"] in known else real.json()["broadcast_id"]
        assert foretold_emissions(outlook, known, new) == await recorded_emissions(api, outlook)
        changed = real.json()["broadcast_id"]
        foretold, noted = foretold_problems(outlook, api, known, new), await noted_problems(api)
        assert await about(api, foretold, changed, unit) == await about(api, noted, changed, unit)
    assert len(seen) >= 4, seen
    assert sum(seen.values()) > 12, seen


async def a_request(
    api: Api, step: Step, bulletins: dict[str, str], issuers: dict[str, str]
) -> tuple[str, str, dict[str, Any], str] | None:
    """Method, path, what is sent, and the unit that issues it; None when there is nothing to change yet."""
    body = json.loads(step.body)
    unit = step.issuer
    path, method, headers = "/api/v1/broadcasts", "POST", {}
    if step.verb != "create":
        standing = [
            each
            for each in sorted(issuers)
            if await api.fetchval("SELECT state FROM control.broadcasts WHERE broadcast_id::text = $1", each)
            != "withdrawn"
        ]
        if not standing:
            return None
        chosen = standing[step.pick % len(standing)]
        unit = issuers[chosen]
        version = await api.fetchval("SELECT version FROM control.broadcasts WHERE broadcast_id::text = $1", chosen)
        path, headers = f"{path}/{chosen}", {"If-Match": f'"{version}"'}
        if step.verb == "withdraw":
            return "POST", f"{path}/withdraw", {"headers": headers}, unit
        method = "PUT"
        body["targets"] = [unit]
    body["items"] = [{"bulletin_id": bulletins[name]} for name in body["items"]]
    body["targets"] = [{"unit_id": str(api.units[name])} for name in body["targets"]]
    body |= {"unit_id": str(api.units[unit]), "title": "Buổi phát"}
    return method, path, {"json": body, "headers": headers}, unit


async def rehearsed(api: Api, account: Account, method: str, path: str, send: dict[str, Any], unit: str) -> Outlook:
    """The outlook that the answer of a dry run is made of, with the plans in it."""
    async with api.database.connection() as connection:
        tree = await api.services.directory.tree(connection, now=api.clock.now)
    actor = accounts.actor_of(account)
    who: dict[str, Any] = {"actor": actor, "origin": None, "now": api.clock.now}
    rights = Rights(actor.grants, tree, now=api.clock.now)
    wish = BroadcastBody.model_validate(send["json"]).wish() if "json" in send else None

    async def save(connection: Connection) -> object:
        if wish is None:
            stored = await broadcast_store.broadcast_for_update(connection, uuid.UUID(path.split("/")[-2]))
            return await broadcasts.withdraw(connection, stored, **who)
        if method == "POST":
            return await broadcasts.create(connection, wish, rights=rights, **who)
        stored = await broadcast_store.broadcast_for_update(connection, uuid.UUID(path.split("/")[-1]))
        return await broadcasts.replace(connection, stored, wish, rights=rights, **who)

    _, outlook = await rehearsal.rehearse(
        api.database, save, stage=what_if.stage(api.services, api.units[unit]), now=api.clock.now
    )
    return outlook


def named(broadcast_id: uuid.UUID, known: set[str], new: str | None) -> str:
    """The id of a broadcast; a new one was given another in the dry run than in the save."""
    return str(broadcast_id) if str(broadcast_id) in known or new is None else new


def foretold_emissions(outlook: Outlook, known: set[str], new: str | None) -> set[tuple[Any, ...]]:
    return {
        (
            named(slot.broadcast_id, known, new),
            slot.occurrence_at,
            slot.item,
            device_no,
            slot.starts_at,
            fingerprint(slot),
        )
        for device_no, programme in outlook.after.programmes.items()
        for slot in programme
    }


async def recorded_emissions(api: Api, outlook: Outlook) -> set[tuple[Any, ...]]:
    """What is on record of the same devices and has not ended, but for what goes on as it was before a change."""
    async with api.database.connection() as connection:
        rows = await connection.fetch(
            """
            SELECT e.broadcast_id, e.occurrence_at, e.item, e.device_no, e.starts_at, e.fingerprint
              FROM control.emissions e
              JOIN control.broadcasts b USING (broadcast_id)
             WHERE e.withdrawn_at IS NULL
               AND e.stopped_at IS NULL
               AND e.ends_at > $1
               AND e.occurrence_at >= b.issued_at
               AND e.device_no = ANY ($2)
            """,
            api.clock.now,
            list(outlook.devices),
        )
    return {(str(row[0]), *row[1:]) for row in map(tuple, rows)}


Noted = Counter[tuple[Any, ...]]


def foretold_problems(outlook: Outlook, api: Api, known: set[str], new: str | None) -> Noted:
    return Counter(
        (
            named(each.broadcast_id, known, new),
            each.kind.value,
            each.occurrence_at,
            each.item,
            each.device_no,
            each.detail,
        )
        for each in outlook.after.problems
        if each.occurrence_at is not None and each.occurrence_at > api.clock.now
    )


async def noted_problems(api: Api) -> Noted:
    async with api.database.connection() as connection:
        rows = await connection.fetch(
            """
            SELECT broadcast_id, problem, occurrence_at, item, device_no, detail
              FROM control.planning_problems
             WHERE occurrence_at > $1
            """,
            api.clock.now,
        )
    return Counter((str(row[0]), *row[1:]) for row in map(tuple, rows))


async def about(api: Api, noted: Noted, changed: str, unit: str) -> Noted:
    """Everything about the broadcast that was changed, and about others what rests on units below its issuer's.

    Only what lies there is rehearsed: of a broadcast from above the dry run sees a part.
    """
    async with api.database.connection() as connection:
        tree = await api.services.directory.tree(connection, now=api.clock.now)
    below = {str(each) for each in tree.subtree(api.units[unit])}
    return Counter({key: count for key, count in noted.items() if key[0] == changed or key[-1] in below})
