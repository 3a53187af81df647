"""The quarantine worked off, all of it real: broker, ingest, database, and an operator at control's API."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from schemas import codec
from services.control.permissions import Role
from services.shared.database.pool import connect
from tests.integration.ingest.support import JOURNAL, Bench, enveloped, eventually
from tests.support.broker import MqttClient
from tests.support.control_api import Api, an_api
from tests.support.database import TestDatabase

pytestmark = pytest.mark.integration

NEW = "cluster-new"
EVENTS, RECEIPTS = f"loa/v1/{NEW}/up/event", f"loa/v1/{NEW}/down/receipt"


@pytest_asyncio.fixture
async def api(database: TestDatabase, tmp_path: Path) -> AsyncIterator[Api]:
    async with an_api(database, tmp_path) as made:
        yield made


async def register(api: Api, headers: dict[str, str], device_id: str, unit: str = "11") -> None:
    body = {"device_id": device_id, "kind": "cluster", "unit_id": str(api.units[unit]), "name": "Cụm loa mới"}
    response = await api.client.post("/api/v1/devices", json=body, headers=headers)
    assert response.status_code == 201, response.text


async def replay(api: Api, headers: dict[str, str], **which: object) -> int:
    response = await api.client.post("/api/v1/quarantine/replays", json={"why": "đã đăng ký", **which}, headers=headers)
    assert response.status_code == 202, response.text
    number: int = response.json()["request_id"]
    return number


async def settled(api: Api, headers: dict[str, str], request_id: int) -> dict[str, int]:
    """How the inmates of a request ended, once none waits."""

    async def ask() -> dict[str, object]:
        response = await api.client.get(f"/api/v1/quarantine/requests/{request_id}", headers=headers)
        answer: dict[str, object] = response.json()
        return answer

    answer = await eventually(ask, lambda found: found["waiting"] == 0, what="a settled request")
    return {each["result"]: each["inmates"] for each in answer["results"]}


def covered(client: MqttClient, *sequences: int) -> bool:
    receipts = [codec.decode_receipt(payload) for payload in client.payloads(RECEIPTS)]
    return any(each.journal == JOURNAL and all(each.covers(sequence) for sequence in sequences) for each in receipts)


async def test_an_unknown_device_s_event_is_stored_and_receipted_once_it_is_registered(bench: Bench, api: Api) -> None:
    headers = await api.person((Role.ADMINISTRATOR, "24"))
    async with bench.ingest() as ingest:
        device = await bench.device(NEW)
        await asyncio.to_thread(device.subscribe, f"loa/v1/{NEW}/down/#")
        for sequence in (1, 2):
            assert await asyncio.to_thread(device.publish, EVENTS, enveloped(sequence)) == 0
        await bench.quarantined("unknown_principal", messages=2)
        found = (await api.client.get("/api/v1/quarantine", headers=headers)).json()["inmates"]
        assert {(each["principal"], each["reason"], each["standing"]) for each in found} == {
            (NEW, "unknown_principal", "open")
        }
        number = found[0]["quarantine_id"]
        assert not (await api.client.get(f"/api/v1/quarantine/{number}", headers=headers)).json()["forecast"][
            "is_admitted"
        ]

        await register(api, headers, NEW)
        shown = (await api.client.get(f"/api/v1/quarantine/{number}", headers=headers)).json()
        assert shown["forecast"]["is_admitted"], shown["forecast"]
        request_id = await replay(api, headers, matching={"reason": "unknown_principal", "principal": NEW})

        assert await settled(api, headers, request_id) == {"stored": 2}
        await eventually(lambda: asyncio.to_thread(covered, device, 1, 2), bool, what="a receipt of both")
        # It had not heard that until now, so it has sent them again; and somebody asks twice.
        assert await asyncio.to_thread(device.publish, EVENTS, enveloped(1)) == 0
        await ingest.until("ingest_duplicates_total", 1)
        again = await api.client.post(
            "/api/v1/quarantine/replays", json={"quarantine_ids": [number], "why": "lần nữa"}, headers=headers
        )
        assert (again.status_code, again.json()["code"]) == (409, "inmate_replayed")
        assert await ingest.metric('ingest_quarantine_replays_total{result="stored"}') == 2
    rows = await bench.rows("SELECT sequence, principal FROM telemetry.events ORDER BY sequence")
    assert [tuple(row) for row in rows] == [(1, NEW), (2, NEW)]
    assert (await api.client.get("/api/v1/quarantine", headers=headers)).json()["inmates"] == []


async def test_a_replay_killed_between_storing_and_marking_happens_once(
    bench: Bench, api: Api, database: TestDatabase, tmp_path: Path
) -> None:
    headers = await api.person((Role.ADMINISTRATOR, "24"))
    async with bench.ingest():
        device = await bench.device(NEW)
        for sequence in range(1, 21):
            await asyncio.to_thread(device.publish, EVENTS, enveloped(sequence))
        await bench.quarantined("unknown_principal", messages=20)
    await register(api, headers, NEW)
    request_id = await replay(api, headers, matching={"principal": NEW})
    async with connect(database.owner, application="who holds a row") as holder, holder.transaction():
        # The eighth cannot be marked, so its event is stored and not committed when the process dies.
        eighth = await holder.fetchval("SELECT quarantine_id FROM telemetry.quarantine ORDER BY 1 OFFSET 7 LIMIT 1")
        await holder.execute("SELECT FROM telemetry.quarantine WHERE quarantine_id = $1 FOR UPDATE", eighth)
        async with bench.ingest_process(tmp_path / "first.log") as process:
            await bench.eventually("SELECT count(*) FROM telemetry.quarantine_replays", lambda rows: rows[0][0] == 7)
            await bench.eventually(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%replayed_at%'",
                lambda rows: rows[0][0] >= 1,
            )
            process.kill()
    assert (await bench.rows("SELECT count(*) FROM telemetry.events"))[0][0] == 7
    async with bench.ingest():
        assert await settled(api, headers, request_id) == {"stored": 20}
    rows = await bench.rows("SELECT count(*) AS rows, count(DISTINCT sequence) AS numbers FROM telemetry.events")
    assert tuple(rows[0]) == (20, 20)
    (journal,) = await bench.rows("SELECT received FROM telemetry.journals")
    assert [(each.lower, each.upper) for each in journal["received"]] == [(1, 21)]
