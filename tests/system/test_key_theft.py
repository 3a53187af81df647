"""The platform's signing key is stolen in the middle of an emergency: root drops it, devices stop what it has signed, and
control says what is in force again under the new key. Platform, broker and device are real.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any, TypeAlias

import asyncpg
import pytest

from schemas.fields import DeviceKind
from schemas.identifiers import DeviceId
from services.local import demo, installation, installation_verbs
from services.local.office import desk
from services.local.platform import DATABASE, free_port, platform
from services.shared.clock import utc_now
from tests.support import waiting

DEADLINE_S = 120.0
BOARD = "bang-01"

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]


until = partial(waiting.until, deadline_s=DEADLINE_S)


async def told(database: Connection, kind: str) -> list[dict[str, Any]]:
    """What the device's journal says, oldest first, as ingest has stored it."""
    rows = await database.fetch(
        "SELECT body FROM telemetry.event_log WHERE principal = $1 AND kind = $2 ORDER BY event_no",
        BOARD,
        kind,
    )
    return [row["body"] for row in rows]


async def test_what_is_in_force_goes_on_under_the_new_key_and_the_stolen_one_is_nobody(passable_tmp: Path) -> None:
    data = passable_tmp / "province"
    file, valid_from = demo.TREES[False]
    async with AsyncExitStack() as parts:
        units = parts.enter_context(resources.as_file(resources.files("services.control") / "data" / file))
        site = await parts.enter_async_context(platform(data, http_port=free_port()))
        await demo.found(site, units, valid_from)
        database = await asyncpg.connect(site.postgres.dsn(DATABASE))
        parts.push_async_callback(database.close)
        await database.set_type_codec("jsonb", encoder=str, decoder=json.loads, schema="pg_catalog")
        await parts.enter_async_context(site.ingest())
        installation.issue_devices(
            site.pki.directory, data / "fleet", [(DeviceId.parse(BOARD), DeviceKind.BOARD)], now=utc_now()
        )
        await parts.enter_async_context(site.fleet(data / "fleet" / "fleet.json", {"SIM_HEARTBEAT_INTERVAL": "1s"}))

        async with site.control():
            password = secrets.token_urlsafe(12)
            async with demo.person(site, demo.ADMINISTRATOR) as administrator:
                root = next(each for each in await administrator.get("/units/tree") if each["parent_id"] is None)
                row = {"device_id": BOARD, "kind": "board", "unit_id": root["unit_id"], "name": "Bảng"}
                await administrator.post("/devices/batch", {"devices": [row]})
                await administrator.post(
                    "/accounts",
                    {
                        "login": "truc",
                        "display_name": "Trực ban",
                        "unit_id": root["unit_id"],
                        "password": password,
                        "grants": [{"unit_id": root["unit_id"], "role": "operator"}],
                    },
                )

            async def is_configured() -> bool:
                return bool(await database.fetchval("SELECT max(config_serial) FROM telemetry.fleet_states"))

            await until(is_configured, "the board holds its configuration")
            async with desk(site.url, "truc", password) as operator:
                alert = await operator.post(
                    "/alerts",
                    {
                        "unit_id": root["unit_id"],
                        "event": "Lũ",
                        "severity": "extreme",
                        "texts": [{"headline": "Lũ khẩn cấp"}],
                        "audience": {"devices": [BOARD], "kinds": ["board"]},
                        "valid_until": (utc_now() + timedelta(hours=1)).isoformat(),
                        "repeat_interval_s": 600,
                    },
                )
            await until(lambda: told(database, "play_started"), "the alert is shown")

        # The key was stolen; where the authority is, somebody drops it, and control is started with the new one.
        verb = ["signing-key", "--authority", str(site.pki.directory), "--distrust"]
        assert await asyncio.to_thread(installation_verbs.main, verb) == 0
        async with site.control():

            async def is_shown_again() -> bool:
                return len(await told(database, "play_started")) == 2

            await until(is_shown_again, "the alert is shown again")
        refused = {(each["refused"], each["reason"]) for each in await told(database, "refused")}
        assert refused >= {("alert", "unknown_key"), ("config", "unknown_key")}
        assert {reason for _, reason in refused} == {"unknown_key"}
        handled = [
            (each["alert_id"], each["alert_version"], each["result"]) for each in await told(database, "alert_handled")
        ]
        assert handled == [(alert["alert_id"], 1, "taken"), (alert["alert_id"], 2, "taken")]
