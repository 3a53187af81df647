"""What the API says of devices now: whether they are there, and what they put out."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from services.control.permissions import Role
from tests.support.control_api import Api, add_broadcast, add_device, found_twice, heard

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(
    ("silence_s", "interval_s", "state", "expected"),
    [
        (0, 60, {}, "online"),
        (179, 60, {}, "online"),
        (181, 60, {}, "offline"),
        (89, 5, {}, "online"),  # never less than ninety seconds: one lost heartbeat is no outage
        (91, 5, {}, "offline"),
        (1_000, 600, {}, "online"),
        (10, 60, {"online": True}, "online"),
        (10, 60, {"online": False}, "offline"),  # its last will has come
        (10, 60, {"online": False, "presence_seconds_before": 5}, "online"),  # and it has been heard since
    ],
)
async def test_a_device_is_there_while_it_is_heard(
    api: Api, silence_s: int, interval_s: int, state: dict[str, Any], expected: str
) -> None:
    viewer = await api.person((Role.VIEWER, "11"))
    device_id = await add_device(api, "11", heartbeat_interval=timedelta(seconds=interval_s))
    at = api.clock.now - timedelta(seconds=silence_s)
    before = state.pop("presence_seconds_before", 0)
    if state:
        presence_at = at - timedelta(seconds=before)
        state |= {"presence_at": presence_at, "presence_received_at": presence_at, "connection_no": 1}
    await heard(api, device_id, at=at, **state)
    status = (await api.client.get(f"/api/v1/devices/{device_id}/status", headers=viewer)).json()["status"]
    assert status["liveness"] == expected
    listed = await api.client.get("/api/v1/devices", params={"liveness": expected}, headers=viewer)
    assert [each["device_id"] for each in listed.json()["devices"]] == [device_id]


async def test_a_device_that_was_never_heard_says_so(api: Api) -> None:
    viewer = await api.person((Role.VIEWER, "11"))
    device_id = await add_device(api, "11")
    status = (await api.client.get(f"/api/v1/devices/{device_id}/status", headers=viewer)).json()["status"]
    assert (status["liveness"], status["last_heard_at"], status["state"]) == ("never", None, None)


async def test_what_a_device_puts_out_is_named(api: Api) -> None:
    viewer = await api.person((Role.VIEWER, "11"))
    broadcast = await add_broadcast(api, "11")
    device_id = await add_device(api, "11")
    await heard(
        api,
        device_id,
        volume_percent=30,
        playing_source=0,
        playing_id=broadcast["broadcast_id"],
        playing_occurrence_at=api.clock.now,
        playing_item=0,
        playing_since=api.clock.now,
    )
    status = (await api.client.get(f"/api/v1/devices/{device_id}/status", headers=viewer)).json()["status"]
    assert status["playing"]["title"] == "Thông báo lịch tiêm chủng"
    assert (status["volume_percent"], status["firmware"]) == (30, "loa 1.0")
    unit = (await api.client.get(f"/api/v1/units/{api.units['11']}/status", headers=viewer)).json()
    assert unit["playing"] == 1
    # Who has gone silent is believed no longer.
    api.clock.forward(minutes=10)
    status = (await api.client.get(f"/api/v1/devices/{device_id}/status", headers=viewer)).json()["status"]
    assert (status["liveness"], status["playing"]) == ("offline", None)
    unit = (await api.client.get(f"/api/v1/units/{api.units['11']}/status", headers=viewer)).json()
    assert unit["playing"] == 0


async def test_counts_add_up_from_below(api: Api) -> None:
    viewer = await api.person((Role.VIEWER, "24"))
    for unit, kind in (("11", "cluster"), ("11", "board"), ("12", "cluster"), ("21", "sensor"), ("1", "gateway")):
        device_id = await add_device(api, unit, kind)
        if unit != "12":
            await heard(api, device_id)
    status = (await api.client.get(f"/api/v1/units/{api.units['24']}/status", headers=viewer)).json()
    kinds = {each.pop("kind"): each for each in status["devices_by_kind"]}
    assert kinds["cluster"] == {"online": 1, "offline": 0, "never": 1}
    assert kinds.keys() == {"cluster", "board", "sensor", "gateway"}
    north, south = status["children"]
    assert (north["unit"]["code"], [each["kind"] for each in north["devices"]]) == (
        "1",
        ["cluster", "board", "gateway"],
    )
    assert (south["unit"]["code"], [each["kind"] for each in south["devices"]]) == ("2", ["sensor"])


async def test_totals_are_cut_to_what_one_may_see(api: Api) -> None:
    await add_device(api, "11"), await add_device(api, "2")
    viewer = await api.person((Role.VIEWER, "1"))
    totals = (await api.client.get("/api/v1/totals", headers=viewer)).json()
    assert [each["never"] for each in totals["devices"]] == [1]
    assert totals["heartbeats_stored"] == totals["quarantined"] == 0
    foreign = await api.client.get("/api/v1/totals", params={"unit_id": str(api.units["2"])}, headers=viewer)
    assert foreign.status_code == 403


async def test_a_device_tells_when_two_used_its_certificate(api: Api) -> None:
    viewer = await api.person((Role.VIEWER, "11"))
    device_id = await add_device(api, "11")
    path = f"/api/v1/devices/{device_id}/status"
    assert (await api.client.get(path, headers=viewer)).json()["certificate_shared_at"] is None

    await found_twice(api, device_id, at=api.clock.now)

    shared_at = (await api.client.get(path, headers=viewer)).json()["certificate_shared_at"]
    assert datetime.fromisoformat(shared_at) == api.clock.now


async def test_totals_name_the_replicas_that_are_gone_and_have_not_left(api: Api) -> None:
    viewer = await api.person((Role.VIEWER, "11"))
    async with api.telemetry.connection() as connection:
        await connection.execute(
            "INSERT INTO telemetry.replicas (replica, started_at, seen_at, left_at)"
            " VALUES ('ingest:1', now(), now(), NULL),"
            "        ('ingest:2', now() - interval '1 day', now() - interval '1 hour', NULL),"
            "        ('ingest:3', now() - interval '1 day', now() - interval '1 hour', now() - interval '1 hour')"
        )

    totals = (await api.client.get("/api/v1/totals", headers=viewer)).json()

    assert totals["replicas_stranded"] == ["ingest:2"]
