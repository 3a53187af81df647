"""A unit orders the priority broadcasts that sound in it, as the planner has planned them (R-17)."""

from __future__ import annotations

import asyncio
import uuid
from datetime import timedelta
from typing import Any

import pytest

from services.control.permissions import Role
from tests.support.control import a_keyring, a_planner
from tests.support.control_api import Api, add_broadcast, add_device

pytestmark = pytest.mark.integration


def path_of(api: Api, unit: str) -> str:
    return f"/api/v1/units/{api.units[unit]}/priority-order"


async def priority(api: Api, by: str, unit: str = "11", **changes: Any) -> str:
    """A priority broadcast of a unit into another one, every day at 05:30."""
    targets = [{"unit_id": str(api.units[unit])}]
    made = await add_broadcast(api, by, level="priority", recurrence="daily", targets=targets, **changes)
    api.clock.forward(seconds=1)  # who asks first comes first
    return str(made["broadcast_id"])


async def planned(api: Api) -> None:
    await a_planner(api.database, a_keyring()).plan_once(now=api.clock.now)


async def read(api: Api, unit: str = "11") -> tuple[list[str], str]:
    viewer = await api.person((Role.VIEWER, unit))
    response = await api.client.get(path_of(api, unit), headers=viewer)
    assert response.status_code == 200, response.text
    return [each["broadcast_id"] for each in response.json()["order"]], response.headers["etag"]


async def put(api: Api, order: list[str], if_match: str | None, *, unit: str = "11") -> Any:
    headers = await api.person((Role.OFFICER, unit))
    if if_match is not None:
        headers["If-Match"] = if_match
    return await api.client.put(path_of(api, unit), json={"order": order}, headers=headers)


async def test_without_a_word_of_the_unit_the_order_is_that_of_the_devices(api: Api) -> None:
    await add_device(api, "11")
    own, later, above = await priority(api, "11"), await priority(api, "11"), await priority(api, "24")
    await add_broadcast(api, "11", targets=[{"unit_id": str(api.units["11"])}])  # a normal one is no affair of this
    await planned(api)
    order, _ = await read(api)
    assert order == [above, own, later]  # the issuer nearer to the root, then who asked first


async def test_a_unit_orders_them_and_it_is_planned_that_way(api: Api) -> None:
    await add_device(api, "11")
    own, above = await priority(api, "11"), await priority(api, "24")
    await planned(api)
    _, etag = await read(api)
    await api.execute("DELETE FROM control.planning_requests")
    response = await put(api, [own, above], etag)
    assert response.status_code == 200, response.text
    view = response.json()["order"]
    assert [(each["broadcast_id"], each["place"]) for each in view] == [(own, 0), (above, 1)]
    assert [each["issued_by"]["code"] for each in view] == ["11", "24"]
    assert response.headers["etag"] != etag
    assert await read(api) == ([own, above], response.headers["etag"])
    assert await api.fetchval("SELECT count(*) FROM control.planning_requests") == 2
    await planned(api)
    async with api.database.connection() as connection:
        rows = await connection.fetch(
            "SELECT DISTINCT broadcast_id, place FROM control.emissions WHERE withdrawn_at IS NULL"
        )
    assert {str(row["broadcast_id"]): row["place"] for row in rows} == {own: 0, above: 1}
    audited = await api.fetchval("SELECT before FROM control.audit WHERE action = 'priorities_ordered'")
    assert audited == {"order": [above, own]}


async def test_a_dry_run_orders_nothing(api: Api) -> None:
    await add_device(api, "11")
    one, other = await priority(api, "11"), await priority(api, "24")
    await planned(api)
    officer = {**await api.person((Role.OFFICER, "11")), "If-Match": "*"}
    response = await api.client.put(
        path_of(api, "11"), json={"order": [one, other]}, params={"dry_run": True}, headers=officer
    )
    assert [each["broadcast_id"] for each in response.json()["order"]] == [one, other]
    assert response.json()["outlook"]["units"] != []
    assert (await read(api))[0] == [other, one]


async def test_what_comes_in_later_stands_behind_and_is_seen_before_it_is_ordered(api: Api) -> None:
    await add_device(api, "11")
    first = await priority(api, "11")
    await planned(api)
    ordered = await put(api, [first], (await read(api))[1])
    later = await priority(api, "24")
    await planned(api)
    stale = await put(api, [first], ordered.headers["etag"])
    assert (stale.status_code, stale.json()["code"]) == (409, "version_mismatch")
    assert [each["broadcast_id"] for each in stale.json()["present"]["order"]] == [first, later]
    assert (await read(api))[0] == [first, later]


async def test_an_order_names_each_of_them_once_and_nothing_else(api: Api) -> None:
    await add_device(api, "11")
    await add_device(api, "12")
    one, other, elsewhere = await priority(api, "11"), await priority(api, "24"), await priority(api, "24", "12")
    await planned(api)
    _, etag = await read(api)
    nobody = str(uuid.uuid4())
    for order, expected in (
        ([one], [("order", "priority_left_out")]),
        ([], [("order", "priority_left_out")] * 2),
        ([one, other, one], [("order[2]", "priority_repeated")]),
        ([one, other, elsewhere], [("order[2]", "priority_not_here")]),
        ([nobody, one, other], [("order[0]", "priority_not_here")]),
        (["x"], [("order[0]", "not_a_uuid")]),
        ([nobody] * 129, [("order", "too_many")]),
    ):
        response = await put(api, order, etag)
        assert response.status_code == 422, response.text
        assert [(each["field"], each["code"]) for each in response.json()["errors"]] == expected
    assert await api.fetchval("SELECT count(*) FROM control.priority_places") == 0
    assert (await put(api, [one, other], None)).status_code == 428


async def test_two_who_order_at_once_meet(api: Api) -> None:
    await add_device(api, "11")
    one, other = await priority(api, "11"), await priority(api, "24")
    await planned(api)
    _, etag = await read(api)
    answers = await asyncio.gather(put(api, [one, other], etag), put(api, [one, other], etag))
    assert sorted(each.status_code for each in answers) == [200, 409]


async def test_a_place_is_kept_while_the_next_time_lies_beyond_what_is_planned(api: Api) -> None:
    await add_device(api, "11")
    one, other = await priority(api, "11"), await priority(api, "24")
    await planned(api)
    await put(api, [one, other], "*")
    await api.execute("DELETE FROM control.emissions WHERE broadcast_id = $1", uuid.UUID(one))
    assert (await read(api))[0] == [one, other]
    officer = await api.person((Role.OFFICER, "11"))
    await api.client.post(f"/api/v1/broadcasts/{one}/withdraw", headers=officer)
    assert (await read(api))[0] == [other]


async def test_a_place_below_a_commune_is_the_commune_s_to_decide(api: Api) -> None:
    await api.execute("INSERT INTO control.units (unit_id, created_at) VALUES ($1, now())", uuid.UUID(int=77))
    await api.execute(
        """
        INSERT INTO control.unit_versions (unit_id, valid_from, parent_id, code, level, name, sort_key, search_text)
        VALUES ($1, '2020-01-01', $2, '111', 'village', 'Thôn Đông', '', 'thon dong')
        """,
        uuid.UUID(int=77),
        api.units["11"],
    )
    officer = await api.person((Role.OFFICER, "11"))
    path = f"/api/v1/units/{uuid.UUID(int=77)}/priority-order"
    response = await api.client.get(path, headers=officer)
    assert (response.status_code, response.json()["code"]) == (409, "unit_does_not_decide")
    assert "Xã Đại Sơn" in response.json()["detail"]


async def test_what_is_over_is_ordered_no_more(api: Api) -> None:
    await add_device(api, "11")
    tomorrow = await priority(api, "24", ends_on="2026-03-12")
    await planned(api)
    assert (await read(api))[0] == [tomorrow]
    await put(api, [tomorrow], "*")
    api.clock.now += timedelta(days=3)
    assert (await read(api))[0] == []
