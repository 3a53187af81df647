"""A province relays a station: its sound reaches speakers in step, and when the station is gone its fallback does.

Every part is real: a station that sends MP3, the relay point in control, the plan, and speakers of the fleet that fetch,
verify and decode what was signed.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from services.local import demo, factory
from services.local.chime import chime
from services.local.office import Desk
from services.local.platform import Platform, free_port, platform
from services.local.province import Province, lay_out, read_units
from services.shared.clock import utc_now
from tests.support import waiting
from tests.support.streams import RATE, Programme, Station, a_station, file_of, melody

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

DEADLINE_S = 120.0
LEAD = timedelta(seconds=15)
LENGTH_S = 45
FALLBACK = timedelta(seconds=4)
DELAY_S = 5
RELAYS = {
    "CONTROL_RELAYS__NETWORKS": json.dumps(["127.0.0.0/8"]),
    "CONTROL_RELAYS__SEGMENT": "1s",
    "CONTROL_RELAYS__DELAY": f"{DELAY_S}s",
    "CONTROL_RELAYS__STALL_AFTER": "1s",
    "CONTROL_RELAYS__TURN_EVERY": "1s",
}


until = partial(waiting.until, deadline_s=DEADLINE_S)


def a_programme() -> Programme:
    """Minutes of MP3 as a station sends it."""
    samples = melody(20) * 9
    content = file_of(samples, "libmp3lame", "mp3")
    return Programme(content=content, seconds=len(samples) / RATE, content_type="audio/mpeg", hangs_up=False)


async def unit_of(desk: Desk, province: Province) -> str:
    tree = await desk.get("/units/tree")
    return str(next(unit["unit_id"] for unit in tree if unit["code"] == province.host.code))


async def enter_source(site: Platform, province: Province, url: str) -> str:
    """The station as a source of the district, with a chime that fills in."""
    async with demo.person(site, demo.OFFICER) as officer, demo.person(site, demo.APPROVER) as approver:
        host = await unit_of(officer, province)
        sound = await officer.upload(await asyncio.to_thread(chime, FALLBACK), unit_id=host)
        body = {"unit_id": host, "title": "Nhạc chờ", "subject_field": "general", "media_sha256": sound["sha256"]}
        bulletin = await officer.post("/bulletins", body)
        await approver.post(f"/bulletins/{bulletin['bulletin_id']}/approve", {})
    async with demo.person(site, demo.ADMINISTRATOR) as administrator:
        source = await administrator.post(
            "/relay-sources",
            {
                "unit_id": host,
                "name": "VOV1",
                "kind": "stream",
                "url": url,
                "fallback_bulletin_id": bulletin["bulletin_id"],
            },
        )
    return str(source["relay_source_id"])


async def schedule(officer: Desk, province: Province, source_id: str) -> dict[str, Any]:
    host = await unit_of(officer, province)
    starts_at = (utc_now() + LEAD).astimezone(demo.ZONE).replace(microsecond=0)
    made: dict[str, Any] = await officer.post(
        "/broadcasts",
        {
            "unit_id": host,
            "title": "Tiếp sóng VOV1",
            "level": "priority",
            "recurrence": "once",
            "starts_on": starts_at.date().isoformat(),
            "local_times": [starts_at.strftime("%H:%M:%S")],
            "items": [{"relay_source_id": source_id, "length_s": LENGTH_S}],
            "targets": [{"kind": "cluster"}],
        },
    )
    return made | {"starts_at": starts_at}


async def health(desk: Desk, source_id: str) -> dict[str, Any]:
    found: dict[str, Any] = (await desk.get(f"/relay-sources/{source_id}"))["health"]
    return found


async def play(officer: Desk, station: Station, source_id: str, broadcast: dict[str, Any]) -> list[dict[str, Any]]:
    """Let the station go in the middle and come back; returns the emissions once all have their verdict."""

    async def is_(state: str) -> bool:
        return bool((await health(officer, source_id))["state"] == state)

    async def passed(seconds: float) -> bool:
        return bool(utc_now() >= broadcast["starts_at"] + timedelta(seconds=seconds))

    await until(lambda: is_("on_air"), "the source is on the air")
    await until(lambda: passed(8), "eight seconds have sounded")
    station.programmes["/vov1"].flows.clear()
    await until(lambda: is_("unreachable"), "the source is known to be gone")
    assert (await health(officer, source_id))["trouble"] == "stalled"
    await until(lambda: passed(18), "the fallback has sounded for a while")
    station.programmes["/vov1"].flows.set()
    await until(lambda: is_("on_air"), "the source is back")

    async def weighed() -> list[dict[str, Any]]:
        emissions = (await officer.get(f"/broadcasts/{broadcast['broadcast_id']}/emissions"))["emissions"]
        return emissions if emissions and all(each["outcome"] for each in emissions) else []

    found: list[dict[str, Any]] = await until(weighed, "every emission has its verdict")
    return found


async def test_a_station_is_relayed_with_a_fallback_while_it_is_gone(passable_tmp: Path) -> None:
    data = passable_tmp / "province"
    file, valid_from = demo.TREES[False]
    async with AsyncExitStack() as parts:
        station = await parts.enter_async_context(a_station())
        station.programmes["/vov1"] = await asyncio.to_thread(a_programme)
        units = parts.enter_context(resources.as_file(resources.files("services.control") / "data" / file))
        province = lay_out(read_units(units), 3)
        site = await parts.enter_async_context(platform(data, http_port=free_port()))
        await demo.found(site, units, valid_from)
        factory.equip(site.pki, province.devices, data / "fleet.json", now=utc_now())
        await parts.enter_async_context(site.ingest())
        await parts.enter_async_context(site.control(**RELAYS))
        await demo.settle(site, province)
        await parts.enter_async_context(site.fleet(data / "fleet.json", demo.FAST_HEARTBEATS))
        await demo.until_connected(site, province)

        source_id = await enter_source(site, province, station.url("/vov1"))
        async with demo.person(site, demo.OFFICER) as officer:
            broadcast = await schedule(officer, province, source_id)
            emissions = await play(officer, station, source_id, broadcast)

    assert len(emissions) == broadcast["devices"] == 3
    assert {each["evidence"] for each in emissions} == {"device", "gateway"}
    for each in emissions:
        # Hardly a moment without sound; a good part of it was not the source, and the verdict says so.
        assert 40_000 <= each["sounded_ms"] <= LENGTH_S * 1_000 + 50
        assert 5_000 <= each["fallback_ms"] <= 25_000
        assert (each["content"], each["reason"]) == ("relay", "source_silent")
    begun = [datetime.fromisoformat(each["started_at"]) for each in emissions]
    assert all(timedelta(0) <= at - broadcast["starts_at"] < timedelta(milliseconds=500) for at in begun)
    # In step: they begin together, and go over to the fallback and back at the same places of the programme.
    assert max(begun) - min(begun) < timedelta(milliseconds=300)
    filled = [each["fallback_ms"] for each in emissions]
    assert max(filled) - min(filled) < 1_500
