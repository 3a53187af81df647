"""Ingest is killed while a province broadcasts: no event is lost and none is stored twice (promise 2)."""

import json
import urllib.request
from datetime import timedelta
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from services.local import demo, factory
from services.local.platform import DATABASE, Platform, free_port, platform
from services.local.province import lay_out, read_units
from services.shared.clock import utc_now
from tests.support import waiting

KILLS = 4
DEADLINE_S = 120.0

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


until = partial(waiting.until, deadline_s=DEADLINE_S)


def fleet_report(port: int) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=10) as response:
        report: dict[str, Any] = json.load(response)
    return report


async def stored_events(site: Platform) -> int:
    connection = await asyncpg.connect(site.postgres.dsn(DATABASE))
    try:
        return int(await connection.fetchval("SELECT count(*) FROM telemetry.event_log"))
    finally:
        await connection.close()


async def faulty_journals(site: Platform) -> list[str]:
    """Journals in which a number is missing or stands twice."""
    connection = await asyncpg.connect(site.postgres.dsn(DATABASE))
    try:
        rows = await connection.fetch(
            """
            SELECT device_no, journal_id, count(*) AS stored, count(DISTINCT sequence) AS numbers, max(sequence) AS last
              FROM telemetry.event_log
             GROUP BY device_no, journal_id
            HAVING count(*) <> max(sequence) OR count(DISTINCT sequence) <> max(sequence)
            """
        )
    finally:
        await connection.close()
    return [str(dict(row)) for row in rows]


async def test_killed_again_and_again_while_devices_report_ingest_loses_and_doubles_nothing(passable_tmp: Path) -> None:
    data = passable_tmp / "province"
    file, valid_from = demo.TREES[False]
    status_port = free_port()
    with resources.as_file(resources.files("services.control") / "data" / file) as units:
        province = lay_out(read_units(units), 60)
        async with platform(data, http_port=free_port()) as site:
            await demo.found(site, units, valid_from)
            manifest = data / "fleet.json"
            factory.equip(site.pki, province.devices, manifest, now=utc_now())
            async with (
                site.control(),
                site.fleet(manifest, demo.FAST_HEARTBEATS, status_port=status_port),
            ):
                async with site.ingest():
                    await demo.settle(site, province)
                    await demo.until_connected(site, province)
                    async with demo.person(site, demo.OFFICER) as officer, demo.person(site, demo.APPROVER) as approver:
                        broadcast = await demo.schedule(officer, approver, province, timedelta(seconds=5))

                for _ in range(KILLS):
                    before = await stored_events(site)
                    async with site.ingest() as process:

                        async def took_some(before: int = before) -> bool:
                            return (
                                await stored_events(site) > before or fleet_report(status_port)["journal_pending"] == 0
                            )

                        await until(took_some, "ingest stores again")
                        process.kill()
                        await process.wait()

                address = f"/broadcasts/{broadcast['broadcast_id']}"
                async with site.ingest(), demo.person(site, demo.OFFICER) as officer:

                    async def is_proven() -> bool:
                        proof = (await officer.get(address))["proof"]
                        return bool(proof["planned"] > 0 and not proof["pending"])

                    async def has_told_everything() -> bool:
                        return bool(fleet_report(status_port)["journal_pending"] == 0)

                    await until(is_proven, "every emission has its verdict")
                    await until(has_told_everything, "every journal is empty")
                    proof = (await officer.get(address))["proof"]

            assert await faulty_journals(site) == []
            assert await stored_events(site) > 0
            assert proof["played"] + proof["late"] + proof["by_gateway"] == proof["planned"]
            assert proof["unexplained"] == 0
