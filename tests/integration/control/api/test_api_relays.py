"""Relay sources over the API: entered, changed, seen, retired; and lists and segments as devices fetch them."""

from __future__ import annotations

import hashlib
import os
import uuid
from datetime import timedelta
from typing import Any

import pytest

from schemas.identifiers import BulletinId
from services.control import issue_store, snapshot_store
from services.control.permissions import Role
from services.control.planning.model import SourceId
from tests.support.control_api import Api, add_bulletin, add_device, broadcast_body

pytestmark = pytest.mark.integration

SOURCES = "/api/v1/relay-sources"


def a_source(api: Api, **changes: Any) -> dict[str, Any]:
    return {
        "unit_id": str(api.units["24"]),
        "name": "VOV1",
        "kind": "stream",
        "url": "https://stream.vov.example/vov1",
        **changes,
    }


async def entered(api: Api, **changes: Any) -> dict[str, Any]:
    operator = await api.person((Role.OPERATOR, "24"))
    response = await api.client.post(SOURCES, json=a_source(api, **changes), headers=operator)
    assert response.status_code == 201, response.text
    assert response.headers["ETag"] == '"1"'
    answer: dict[str, Any] = response.json()
    return answer


async def test_a_source_is_entered_with_sensible_defaults(api: Api) -> None:
    made = await entered(api)
    assert made["authenticated"] is True
    assert (made["direct"], made["silence_dbfs"], made["silence_after_s"], made["version"]) == (False, -50, 5, 1)
    assert made["health"] == {
        "state": "idle",
        "since": None,
        "last_sound_at": None,
        "trouble": None,
        "message": None,
    }
    viewer = await api.person((Role.VIEWER, "11"))
    listed = await api.client.get(SOURCES, headers=viewer)
    assert [each["relay_source_id"] for each in listed.json()] == [made["relay_source_id"]]
    one = await api.client.get(f"{SOURCES}/{made['relay_source_id']}", headers=viewer)
    assert one.json() == made


async def test_what_devices_take_themselves_is_marked_unauthenticated(api: Api) -> None:
    made = await entered(api, kind="fm", url="fm://103.5", direct=True)
    assert (made["direct"], made["authenticated"], made["health"]) == (True, False, None)


@pytest.mark.parametrize(
    ("changes", "field", "code"),
    [
        ({"url": "http://127.0.0.1:5432/"}, "url", "relay_address_not_allowed"),
        ({"url": "http://169.254.169.254/latest"}, "url", "relay_address_not_allowed"),
        ({"url": "http://[::1]/"}, "url", "relay_address_not_allowed"),
        ({"url": "file:///etc/passwd"}, "url", "relay_url_scheme"),
        ({"url": "http://u:p@vov.example/"}, "url", "relay_url_with_password"),
        ({"url": "vov1"}, "url", "relay_url_scheme"),
        ({"url": "http://a/" + "x" * 300}, "url", "relay_url_malformed"),
        ({"kind": "fm", "url": "fm://103.5"}, "direct", "relay_fm_is_direct"),
        ({"kind": "fm", "url": "fm://1", "direct": True}, "url", "relay_frequency"),
        ({"kind": "radio"}, "kind", "not_one_of"),
        ({"name": " "}, "name", "text_too_short"),
        ({"silence_dbfs": -5}, "silence_dbfs", "number_too_large"),
        ({"silence_after_s": 0}, "silence_after_s", "number_too_small"),
        ({"unit_id": str(uuid.uuid4())}, "unit_id", "unknown_unit"),
        ({"fallback_bulletin_id": str(uuid.uuid4())}, "fallback_bulletin_id", "unknown_bulletin"),
    ],
)
async def test_a_source_that_cannot_be_is_refused_by_name(
    api: Api, changes: dict[str, Any], field: str, code: str
) -> None:
    operator = await api.person((Role.OPERATOR, "24"))
    response = await api.client.post(SOURCES, json=a_source(api, **changes), headers=operator)
    assert response.status_code == 422
    assert (field, code) in [(each["field"], each["code"]) for each in response.json()["errors"]]
    assert await api.fetchval("SELECT count(*) FROM control.relay_sources") == 0


async def test_a_fallback_is_approved_and_can_be_heard(api: Api) -> None:
    good = await add_bulletin(api, "24")
    assert (await entered(api, fallback_bulletin_id=good))["fallback_bulletin_id"] == good
    operator = await api.person((Role.OPERATOR, "24"))
    for bulletin, code in (
        (await add_bulletin(api, "24", state="submitted"), "fallback_not_approved"),
        (await add_bulletin(api, "24", duration_ms=None, board_text="chữ"), "fallback_without_sound"),
    ):
        body = a_source(api, fallback_bulletin_id=bulletin)
        response = await api.client.post(SOURCES, json=body, headers=operator)
        assert [each["code"] for each in response.json()["errors"]] == [code]


@pytest.mark.parametrize("end", ["expires_at = '2030-01-01'", "max_plays = 3"])
async def test_what_ends_some_day_is_no_fallback(api: Api, end: str) -> None:
    """Refused, and what stands there from before sounds no more: who falls back asks nobody whether it still holds."""
    bulletin = await add_bulletin(api, "24")
    made = await entered(api, fallback_bulletin_id=bulletin)
    source, named = uuid.UUID(made["relay_source_id"]), BulletinId(uuid.UUID(bulletin))

    async def standing() -> tuple[bool, bool]:
        async with api.database.connection() as connection:
            sources = await snapshot_store.load_sources(connection, [source])
            sounds = await issue_store.load_sounds(connection, [named])
        return sources[SourceId(source)].fallback is not None, named in sounds

    assert await standing() == (True, True)
    await api.fetchval(f"UPDATE control.bulletins SET {end} WHERE bulletin_id = $1", named)
    assert await standing() == (False, False)
    operator = await api.person((Role.OPERATOR, "24"))
    again = await api.client.post(SOURCES, json=a_source(api, fallback_bulletin_id=bulletin), headers=operator)
    assert [each["code"] for each in again.json()["errors"]] == ["fallback_ends"]
    headers = {**await api.person((Role.ADMINISTRATOR, "24")), "If-Match": "*"}
    body = {"fallback": {"bulletin_id": bulletin, "times": ["06:00"]}}
    policy = await api.client.put(f"/api/v1/units/{api.units['24']}/policy", json=body, headers=headers)
    assert [each["code"] for each in policy.json()["errors"]] == ["fallback_ends"]


async def test_a_source_is_changed_by_who_has_read_it(api: Api) -> None:
    made = await entered(api)
    path = f"{SOURCES}/{made['relay_source_id']}"
    operator = await api.person((Role.OPERATOR, "24"))
    body = a_source(api, name="VOV2", url="https://stream.vov.example/vov2")
    assert (await api.client.put(path, json=body, headers=operator)).status_code == 428
    changed = await api.client.put(path, json=body, headers=operator | {"If-Match": '"1"'})
    assert (changed.status_code, changed.headers["ETag"]) == (200, '"2"')
    assert (changed.json()["name"], changed.json()["version"]) == ("VOV2", 2)
    late = await api.client.put(path, json=body, headers=operator | {"If-Match": '"1"'})
    assert late.status_code == 409
    assert (late.json()["present"]["name"], late.json()["given"]["name"]) == ("VOV2", "VOV2")
    moved = await api.client.put(
        path, json={**body, "unit_id": str(api.units["1"])}, headers=operator | {"If-Match": '"2"'}
    )
    assert [each["code"] for each in moved.json()["errors"]] == ["owning_unit_is_fixed"]


async def test_what_was_done_is_written_down(api: Api) -> None:
    made = await entered(api)
    path = f"{SOURCES}/{made['relay_source_id']}"
    operator = await api.person((Role.OPERATOR, "24"))
    await api.client.put(path, json=a_source(api, name="VOV2"), headers=operator | {"If-Match": '"1"'})
    assert (await api.client.post(f"{path}/retire", headers=operator)).json()["retired_at"]
    async with api.database.connection() as connection:
        rows = await connection.fetch(
            "SELECT action, before, after, account_id FROM control.audit WHERE subject = $1 ORDER BY audit_id",
            f"relay_source:{made['relay_source_id']}",
        )
    assert [row["action"] for row in rows] == [
        "relay_source_created",
        "relay_source_changed",
        "relay_source_retired",
    ]
    assert (rows[1]["before"]["name"], rows[1]["after"]["name"]) == ("VOV1", "VOV2")
    assert rows[2]["after"]["retired"] is True
    assert all(row["account_id"] for row in rows)


async def test_what_is_out_of_use_is_listed_on_request_and_stays_as_it_is(api: Api) -> None:
    made = await entered(api)
    path = f"{SOURCES}/{made['relay_source_id']}"
    operator = await api.person((Role.OPERATOR, "24"))
    assert (await api.client.post(f"{path}/retire", headers=operator)).status_code == 200
    assert (await api.client.get(SOURCES, headers=operator)).json() == []
    assert len((await api.client.get(SOURCES, params={"retired": True}, headers=operator)).json()) == 1
    for response in (
        await api.client.post(f"{path}/retire", headers=operator),
        await api.client.put(path, json=a_source(api), headers=operator | {"If-Match": '"2"'}),
    ):
        assert (response.status_code, response.json()["code"]) == (409, "relay_source_retired")


async def planned(api: Api, source_id: str, **columns: Any) -> str:
    """A broadcast with the source, and an emission of it, as planning would write it."""
    device_id = await add_device(api, "11")
    officer = await api.person((Role.OFFICER, "24"))
    body = await broadcast_body(api, "11")
    broadcast = (await api.client.post("/api/v1/broadcasts", json=body, headers=officer)).json()
    await api.execute(
        """
        UPDATE control.broadcast_items SET bulletin_id = NULL, relay_source_id = $2, length_ms = 60000
         WHERE broadcast_id = $1
        """,
        uuid.UUID(broadcast["broadcast_id"]),
        uuid.UUID(source_id),
    )
    now = api.clock.now
    await api.execute(
        """
        INSERT INTO control.emissions
               (broadcast_id, occurrence_at, item, device_no, unit_id, relay_source_id, content, level, issuer_depth,
                starts_at, ends_at, latest_start_at, fingerprint, planned_at)
        SELECT $1, $2, 0, device_no, unit_id, $3, 'relay', 'normal', 0, $2, $4, $4, '', now()
          FROM control.devices
         WHERE device_id = $5
        """,
        uuid.UUID(broadcast["broadcast_id"]),
        now + timedelta(hours=1),
        uuid.UUID(source_id),
        now + timedelta(hours=2),
        device_id,
    )
    await api.execute("DELETE FROM control.planning_requests")
    return str(broadcast["broadcast_id"])


async def test_a_source_that_is_planned_is_not_taken_away(api: Api) -> None:
    made = await entered(api)
    await planned(api, made["relay_source_id"])
    operator = await api.person((Role.OPERATOR, "24"))
    response = await api.client.post(f"{SOURCES}/{made['relay_source_id']}/retire", headers=operator)
    assert (response.status_code, response.json()["code"]) == (409, "relay_source_in_use")
    api.clock.forward(hours=3)
    assert (await api.client.post(f"{SOURCES}/{made['relay_source_id']}/retire", headers=operator)).status_code == 200


async def test_a_change_is_planned_anew(api: Api) -> None:
    made = await entered(api)
    broadcast_id = await planned(api, made["relay_source_id"])
    operator = await api.person((Role.OPERATOR, "24"))
    path = f"{SOURCES}/{made['relay_source_id']}"
    await api.client.put(path, json=a_source(api, name="VOV2"), headers=operator | {"If-Match": '"1"'})
    assert await api.fetchval("SELECT broadcast_id FROM control.planning_requests") == uuid.UUID(broadcast_id)


async def test_a_fallback_that_is_withdrawn_is_planned_away(api: Api) -> None:
    bulletin_id = await add_bulletin(api, "24")
    made = await entered(api, fallback_bulletin_id=bulletin_id)
    broadcast_id = await planned(api, made["relay_source_id"])
    officer = await api.person((Role.OFFICER, "24"))
    response = await api.client.post(f"/api/v1/bulletins/{bulletin_id}/withdraw", json={}, headers=officer)
    assert response.status_code == 200, response.text
    assert await api.fetchval("SELECT broadcast_id FROM control.planning_requests") == uuid.UUID(broadcast_id)


async def test_trouble_is_told_in_the_language_asked_for(api: Api) -> None:
    made = await entered(api)
    await api.execute(
        """
        INSERT INTO control.relay_health (source_id, state, since, detail)
        VALUES ($1, 'unreachable', $2, 'stalled')
        """,
        uuid.UUID(made["relay_source_id"]),
        api.clock.now,
    )
    viewer = await api.person((Role.VIEWER, "11"))
    path = f"{SOURCES}/{made['relay_source_id']}"
    vietnamese = (await api.client.get(path, headers=viewer)).json()["health"]
    english = (await api.client.get(path, headers=viewer | {"Accept-Language": "en"})).json()["health"]
    assert (vietnamese["state"], vietnamese["trouble"]) == ("unreachable", "stalled")
    assert vietnamese["message"].startswith("Nguồn đã kết nối")
    assert english["message"] == "Connected, but nothing comes"


# --- for devices -------------------------------------------------------------------------------------------------------


async def handed_out(api: Api, source_id: uuid.UUID, message: bytes, *, age_s: float = 0) -> None:
    """A list as the relay point writes it, that long ago."""
    await api.services.relay_files.put_list(source_id, message)
    written = (api.clock.now - timedelta(seconds=age_s)).timestamp()
    os.utime(api.services.media.directory / "relays" / str(source_id) / "list", (written, written))


async def test_devices_fetch_lists_and_segments_without_a_login(api: Api) -> None:
    source_id = uuid.uuid4()
    await handed_out(api, source_id, b"signed")
    sha256 = await api.services.relay_files.add_segment(source_id, b"OggS...")

    listed = await api.client.get(f"/relays/{source_id}")
    assert (listed.status_code, listed.content) == (200, b"signed")
    assert listed.headers["Content-Type"].startswith("application/cose")
    assert listed.headers["Cache-Control"] == "public, max-age=1"
    again = await api.client.get(f"/relays/{source_id}", headers={"If-None-Match": listed.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    found = await api.client.get(f"/relays/{source_id}/{sha256.hex()}")
    assert (found.status_code, found.content, found.headers["Content-Type"]) == (200, b"OggS...", "audio/ogg")
    assert hashlib.sha256(found.content).digest() == sha256


async def test_a_list_that_nobody_renews_is_not_handed_out(api: Api) -> None:
    source_id = uuid.uuid4()
    await handed_out(api, source_id, b"signed", age_s=29)
    assert (await api.client.get(f"/relays/{source_id}")).status_code == 200
    await handed_out(api, source_id, b"signed", age_s=31)
    response = await api.client.get(f"/relays/{source_id}")
    assert (response.status_code, response.json()["code"]) == (404, "nothing_relayed")


@pytest.mark.parametrize(
    "path",
    [
        "/relays/x",
        "/relays/00000000-0000-4000-8000-000000000000",
        "/relays/00000000-0000-4000-8000-000000000000/list",
        "/relays/00000000-0000-4000-8000-000000000000/" + "0" * 64,
        "/relays/00000000-0000-4000-8000-000000000000/" + "../" * 21 + "x",
        "/relays/..%2f..%2fetc/passwd",
    ],
)
async def test_nothing_else_is_handed_out(api: Api, path: str) -> None:
    assert (await api.client.get(path)).status_code == 404
