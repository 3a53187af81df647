"""What-if, law by law: whatever is asked for, the dry run says what the save then does. Generated mornings of a province."""

from __future__ import annotations

import itertools
import json
import uuid
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from services.control import rehearsal
from services.control.api import what_if
from services.control.permissions import Role
from services.control.planning.changes import Changes, fingerprint
from services.control.rehearsal import Outlook
from tests.integration.control.api.test_what_if import everything, set_policy, settled
from tests.support.control import a_keyring, a_planner
from tests.support.control_api import (
    Api,
    add_bulletin,
    add_device,
    add_group,
    group_body,
)

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]


# Broadcasts make what the others then change.
VERBS = [
    "create",
    "create",
    "order",
    "move",
    "create",
    "offer",
    "replace",
    "group",
    "policy",
    "create",
    "withdraw",
    "offer",
]


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
    below = {"24": ["24", "1", "11", "2", "{group}"], "1": ["1", "11", "12"], "11": ["11"], "12": ["12"]}[issuer]
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
        verb="create",
        issuer=issuer,
        pick=draw(st.integers(0, 99)),
        body=json.dumps(body),
    )


def a_morning() -> list[Step]:
    """The same in every run."""
    made: list[Step] = []

    @settings(max_examples=60, phases=[Phase.generate], derandomize=True, database=None)
    @given(steps())
    def make(step: Step) -> None:
        made.append(step)

    make()
    return [replace(step, verb=verb) for step, verb in zip(made, itertools.cycle(VERBS), strict=False)]


@pytest.fixture
def outlooks(monkeypatch: pytest.MonkeyPatch) -> list[Outlook]:
    """What the dry runs of the API came to, with the plans in it."""
    found: list[Outlook] = []

    async def rehearse(*args: Any, **kwargs: Any) -> tuple[Any, Outlook]:
        result, outlook = await rehearsal.rehearse(*args, **kwargs)
        found.append(outlook)
        return result, outlook

    monkeypatch.setattr(what_if, "rehearse", rehearse)
    return found


async def test_what_the_dry_run_says_is_what_the_save_then_does(api: Api, outlooks: list[Outlook]) -> None:
    person = await api.person((Role.OFFICER, "24"), (Role.ADMINISTRATOR, "24"))
    planner = a_planner(api.database, a_keyring())
    devices = [
        await add_device(api, unit, kind)
        for unit, kind in (("11", "cluster"), ("11", "board"), ("12", "cluster"), ("12", "cluster"), ("21", "cluster"))
    ]
    names = {
        "{short}": await add_bulletin(api, "24", duration_ms=30_000),
        "{long}": await add_bulletin(api, "24", duration_ms=400_000, board_text="Chữ"),
        "{board}": await add_bulletin(api, "24", duration_ms=None, board_text="Bảng"),
        "{group}": (await add_group(api, "24", members=devices[1:3]))["group_id"],
    }
    await set_policy(api, "1", max_day_s=1_200, volume_caps=[{"begin": "05:00", "end": "06:00", "percent": 20}])
    await set_policy(api, "11", quiet=[{"begin": "22:00", "end": "04:00"}], exceptions_by_approver=True)
    await set_policy(api, "12", accepts_normal=True, quiet=[{"begin": "22:00", "end": "04:00"}])
    issuers: dict[str, str] = {}
    seen: Counter[str] = Counter()
    await settled(api, planner)
    for step in a_morning():
        api.clock.forward(minutes=1)
        request = await a_request(api, step, names, devices, issuers, person)
        if request is None:
            continue
        before = await everything(api)
        known = set(issuers)
        outlooks.clear()
        sent: dict[str, Any] = {**request.send, "headers": {**person, **request.send.get("headers", {})}}
        dry = await api.client.request(request.method, request.path, params={"dry_run": "true"}, **sent)
        assert await everything(api) == before

        real = await api.client.request(request.method, request.path, **sent)

        if not dry.is_success:
            assert (real.status_code, real.json()) == (dry.status_code, dry.json())
            seen[real.json()["code"]] += 1
            continue
        assert real.is_success, real.text
        made = real.json()["broadcast_id"] if step.verb in {"create", "replace", "withdraw"} else None
        seen[f"{step.verb} {real.json().get('state', '')}"] += 1
        assert real.json().get("state") == dry.json().get("state", real.json().get("state"))
        if made is not None:
            issuers[made] = request.unit
        changes = await settled(api, planner) or Changes()
        told, (outlook,) = dry.json()["outlook"], outlooks
        assert {name: told[name] for name in ("add", "withdraw", "stop")} == {
            "add": len(changes.add),
            "withdraw": len(changes.withdraw),
            "stop": len(changes.stop),
        }
        new = made if step.verb == "create" else None
        assert foretold_emissions(outlook, known, new) == await recorded_emissions(api, outlook)
        foretold, noted = foretold_problems(outlook, api, known, new), await noted_problems(api)
        assert await about(api, foretold, made, request.unit) == await about(api, noted, made, request.unit)
    assert {verb.split()[0] for verb in seen} >= {
        "create",
        "replace",
        "withdraw",
        "policy",
        "group",
        "offer",
        "order",
        "move",
    }
    assert sum(seen.values()) > 30, seen


@dataclass(frozen=True)
class Ask:
    """A request, and the unit on whose ground it changes something."""

    method: str
    path: str
    send: dict[str, Any]
    unit: str


async def a_request(
    api: Api, step: Step, names: dict[str, str], devices: list[str], issuers: dict[str, str], person: dict[str, str]
) -> Ask | None:
    """What a step asks for; None when there is nothing to change yet."""
    unit = step.issuer
    match step.verb:
        case "policy":
            said: list[dict[str, Any]] = [
                {"max_day_s": 600}, {"quiet": [{"begin": "21:00", "end": "06:05"}]}, {"weekdays": [1, 2, 3, 4, 5]},
                {"accepts_normal": True}, {}, {"max_session_s": 100, "sessions": [
                    {"code": "sang", "name": "Sáng", "begin": "05:00", "end": "07:00"},
                    {"code": "toi", "name": "Tối", "begin": "16:00", "end": "23:00"}]},
            ]  # fmt: skip
            path = f"/api/v1/units/{api.units[unit]}/policy"
            version = (await api.client.get(path, headers=person)).headers["ETag"]
            return Ask("PUT", path, {"json": said[step.pick % len(said)], "headers": {"If-Match": version}}, unit)
        case "group":
            path = f"/api/v1/groups/{names['{group}']}"
            version = (await api.client.get(path, headers=person)).headers["ETag"]
            first = step.pick % (len(devices) - 1)
            body = await group_body(api, "24", members=devices[first : first + 2])
            return Ask("PUT", path, {"json": body, "headers": {"If-Match": version}}, "24")
        case "offer":
            async with api.database.connection() as connection:
                offers = await connection.fetch(
                    """
                    SELECT o.broadcast_id, o.unit_id FROM control.offers o JOIN control.broadcasts b USING (broadcast_id)
                     WHERE b.state = 'scheduled'
                    """
                )
            if not offers:
                return None
            made, codes = list(issuers), {unit_id: code for code, unit_id in api.units.items()}
            offers.sort(key=lambda each: (made.index(str(each["broadcast_id"])), codes[each["unit_id"]]))
            chosen = offers[step.pick % len(offers)]
            unit = codes[chosen["unit_id"]]
            verb = "decline" if step.pick % 4 == 0 else "accept"
            path = f"/api/v1/offers/{chosen['broadcast_id']}/{chosen['unit_id']}/{verb}"
            return Ask("POST", path, {"json": {}}, unit)
        case "order":
            for unit in ("11", "12", "21"):
                path = f"/api/v1/units/{api.units[unit]}/priority-order"
                present = await api.client.get(path, headers=person)
                order = [each["broadcast_id"] for each in present.json()["order"]]
                if len(order) > 1:
                    headers = {"If-Match": present.headers["ETag"]}
                    return Ask("PUT", path, {"json": {"order": order[::-1]}, "headers": headers}, unit)
            return None
        case "move":
            device_id = devices[step.pick % len(devices)]
            return Ask(
                "POST", f"/api/v1/devices/{device_id}/move", {"json": {"unit_id": str(api.units[step.issuer])}}, "24"
            )
        case _:
            return await a_broadcast_request(api, step, names, issuers)


async def a_broadcast_request(api: Api, step: Step, names: dict[str, str], issuers: dict[str, str]) -> Ask | None:
    body = json.loads(step.body)
    unit = step.issuer
    path, method, headers = "/api/v1/broadcasts", "POST", {}
    if step.verb != "create":
        standing = [
            each
            for each in issuers  # as they were made: by their ids, every run would choose others
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
            return Ask("POST", f"{path}/withdraw", {"headers": headers}, unit)
        method = "PUT"
        body["targets"] = [unit]
    body["items"] = [{"bulletin_id": names[name]} for name in body["items"]]
    body["targets"] = [
        {"group_id": names[name]} if name in names else {"unit_id": str(api.units[name])} for name in body["targets"]
    ]
    body |= {"unit_id": str(api.units[unit]), "title": "Buổi phát"}
    return Ask(method, path, {"json": body, "headers": headers}, unit)


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
            each.unit_id,
        )
        for each in outlook.after.problems
        if each.occurrence_at is not None and each.occurrence_at > api.clock.now
    )


async def noted_problems(api: Api) -> Noted:
    async with api.database.connection() as connection:
        rows = await connection.fetch(
            """
            SELECT broadcast_id, problem, occurrence_at, item, device_no, detail, unit_id
              FROM control.planning_problems
             WHERE occurrence_at > $1
            """,
            api.clock.now,
        )
    return Counter((str(row[0]), *row[1:]) for row in map(tuple, rows))


async def about(api: Api, noted: Noted, changed: str | None, unit: str) -> Noted:
    """Everything about the broadcast that was changed, and about others what rests on units below its issuer's.

    Only what lies there is rehearsed: of a broadcast from above the dry run sees a part.
    """
    async with api.database.connection() as connection:
        tree = await api.services.directory.tree(connection, now=api.clock.now)
    below = set(tree.subtree(api.units[unit]))
    return Counter({key: count for key, count in noted.items() if key[0] == changed or key[-1] in below})
