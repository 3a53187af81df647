"""Bulletins over HTTP: drafts, submission, decisions, new versions."""

from __future__ import annotations

import asyncio
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from schemas import signing
from schemas.configuration import Configuration
from services.control import bulletin_store, bulletins
from services.control.measurement import Measures
from services.control.permissions import Role
from tests.support.control import a_keyring, a_planner, verifier
from tests.support.control_api import Api, a_policy, add_broadcast, add_bulletin, add_device, add_media, an_api
from tests.support.database import TestDatabase

pytestmark = pytest.mark.integration

PNG = Measures(mime="image/png", width=320, height=160)
FILM = Measures(mime="video/mp4", duration_ms=15_000, width=1920, height=1080)


def a_bulletin(api: Api, **changes: Any) -> dict[str, Any]:
    return {
        "unit_id": str(api.units["11"]),
        "title": "Lịch tiêm chủng",
        "subject_field": "health",
        "board_text": "Tiêm chủng sáng thứ Bảy",
        **changes,
    }


async def test_a_bulletin_is_submitted_by_one_and_approved_by_another(api: Api) -> None:
    officer, approver = await api.person((Role.OFFICER, "11")), await api.person((Role.APPROVER, "1"))
    sha256 = await add_media(api, duration_ms=2_000)
    made = await api.client.post(
        "/api/v1/bulletins",
        json=a_bulletin(api, media_sha256=sha256, language="vi", author="Ban văn hóa"),
        headers=officer,
    )
    assert made.status_code == 201, made.text
    view = made.json()
    assert (view["state"], view["media_sha256"]) == ("submitted", sha256)
    assert view["duration_ms"] == 2_000
    path = f"/api/v1/bulletins/{view['bulletin_id']}"
    decided = await api.client.post(f"{path}/approve", json={"note": "Đồng ý"}, headers=approver)
    assert (decided.json()["state"], decided.json()["decision_note"]) == ("approved", "Đồng ý")
    assert decided.json()["content_hash"] == view["content_hash"]
    again = await api.client.post(f"{path}/reject", headers=approver)
    assert (again.status_code, again.json()["code"], again.json()["state"]) == (
        409,
        "bulletin_already_decided",
        "approved",
    )


async def test_the_hash_covers_everything_that_is_said_and_shown(api: Api) -> None:
    officer = await api.person((Role.OFFICER, "11"))
    variants: list[dict[str, Any]] = [
        {},
        {"title": "Khác"},
        {"subject_field": "general"},
        {"language": "en"},
        {"author": "A"},
        {"board_text": "Khác"},
        {"media_sha256": await add_media(api)},
        {"media_sha256": await add_media(api), "kind": "jingle"},
        {"origin": "district"},
        {"board_style": "ticker"},
        {"board_text": None, "board_media_sha256": await add_media(api, measures=PNG)},
        {"board_length_s": 20},
        {"expires_at": "2026-03-20T00:00:00+07:00"},
        {"max_plays": 3},
    ]
    hashes = set()
    for changes in variants:
        made = await api.client.post("/api/v1/bulletins", json=a_bulletin(api, **changes), headers=officer)
        hashes.add(made.json()["content_hash"])
    assert len(hashes) == len(variants)
    same = await api.client.post("/api/v1/bulletins", json=a_bulletin(api), headers=officer)
    assert same.json()["content_hash"] in hashes
    assert same.json()["is_intact"] is True


async def test_nobody_approves_their_own_unless_the_province_says_so(database: TestDatabase, tmp_path: Path) -> None:
    for allowed, status in ((False, 403), (True, 200)):
        async with an_api(database, tmp_path, policy=a_policy(may_approve_own=allowed)) as api:
            both = await api.account((Role.OFFICER, "11"), (Role.APPROVER, "11"))
            headers = await api.token(both)
            made = await api.client.post("/api/v1/bulletins", json=a_bulletin(api), headers=headers)
            path = f"/api/v1/bulletins/{made.json()['bulletin_id']}/approve"
            response = await api.client.post(path, headers=headers)
            assert response.status_code == status
            assert allowed or response.json()["code"] == "own_bulletin"


@pytest.mark.parametrize(
    ("changes", "field", "code"),
    [
        ({"title": ""}, "title", "text_too_short"),
        ({"title": "x" * 201}, "title", "text_too_long"),
        ({"title": None}, "title", "not_a_text"),
        ({"subject_field": "gossip"}, "subject_field", "unknown_subject_field"),
        ({"subject_field": ""}, "subject_field", "unknown_subject_field"),
        ({"language": "Tiếng Việt"}, "language", "bad_language_tag"),
        ({"board_text": None}, "media_sha256", "bulletin_without_content"),
        ({"board_text": "x" * 2_001}, "board_text", "text_too_long"),
        ({"board_text": "a\x1bb"}, "board_text", "text_has_control_characters"),
        ({"media_sha256": "0" * 64}, "media_sha256", "unknown_media"),
        ({"media_sha256": "abc"}, "media_sha256", "not_a_sha256"),
        ({"unit_id": "00000000-0000-4000-8000-000000000000"}, "unit_id", "unknown_unit"),
        ({"unit_id": 5}, "unit_id", "not_a_uuid"),
        ({"state": "approved"}, "state", "not_one_of"),
        ({"kind": "song"}, "kind", "not_one_of"),
        ({"kind": "jingle"}, "media_sha256", "jingle_without_sound"),
        ({"origin": "mars"}, "origin", "not_one_of"),
        ({"media_sha256": "PNG"}, "media_sha256", "not_a_sound"),
        ({"media_sha256": "FILM"}, "media_sha256", "not_a_sound"),
        ({"board_text": None, "board_media_sha256": "SOUND"}, "board_media_sha256", "not_a_picture"),
        ({"board_text": None, "board_media_sha256": "0" * 64}, "board_media_sha256", "unknown_media"),
        ({"board_media_sha256": "PNG"}, "board_media_sha256", "board_shows_two_things"),
        ({"board_style": "scrolling"}, "board_style", "not_one_of"),
        ({"board_style": "ticker", "board_text": "một\nhai"}, "board_text", "ticker_of_several_lines"),
        ({"board_style": "ticker", "board_text": None, "media_sha256": "SOUND"}, "board_style", "ticker_without_text"),
        ({"board_length_s": 0}, "board_length_s", "number_too_small"),
        ({"board_length_s": 3_601}, "board_length_s", "number_too_large"),
        (
            {"board_length_s": 5, "board_text": None, "media_sha256": "SOUND"},
            "board_length_s",
            "nothing_shown_that_long",
        ),
        (
            {"board_length_s": 5, "board_text": None, "board_media_sha256": "FILM"},
            "board_length_s",
            "film_has_its_own_length",
        ),
        ({"expires_at": "2026-03-10T09:00:00+07:00"}, "expires_at", "instant_in_the_past"),
        ({"expires_at": "2028-03-20T09:00:00+07:00"}, "expires_at", "instant_too_late"),
        ({"expires_at": "0001-01-01T00:00:00+14:00"}, "expires_at", "day_out_of_bounds"),
        ({"expires_at": "2026-03-20T09:00:00"}, "expires_at", "not_an_instant"),
        ({"max_plays": 0}, "max_plays", "number_too_small"),
        ({"max_plays": 10_001}, "max_plays", "number_too_large"),
        ({"max_plays": 1.5}, "max_plays", "not_a_whole_number"),
        ({"supersedes": "00000000-0000-4000-8000-000000000000"}, "supersedes", "unknown_bulletin"),
    ],
)
async def test_a_faulty_bulletin_is_named(api: Api, changes: dict[str, Any], field: str, code: str) -> None:
    officer = await api.person((Role.OFFICER, "11"))
    files = {"PNG": PNG, "FILM": FILM, "SOUND": None}
    for name, value in changes.items():
        if value in files:
            changes = {**changes, name: await add_media(api, measures=files[value])}
    response = await api.client.post("/api/v1/bulletins", json=a_bulletin(api, **changes), headers=officer)
    assert response.status_code == 422, response.text
    assert [(error["field"], error["code"]) for error in response.json()["errors"]] == [(field, code)]
    assert await api.fetchval("SELECT count(*) FROM control.bulletins") == 0


async def test_missing_fields_and_broken_json_are_told_apart(api: Api) -> None:
    officer = await api.person((Role.OFFICER, "11"))
    missing = await api.client.post("/api/v1/bulletins", json={}, headers=officer)
    assert {error["field"] for error in missing.json()["errors"]} == {"unit_id", "title", "subject_field"}
    headers = {**officer, "Content-Type": "application/json"}
    for broken in (b"{", b"", b"\xff", b"[" * 100_000, b'{"title": NaN}'):
        response = await api.client.post("/api/v1/bulletins", content=broken, headers=headers)
        assert response.status_code in (400, 422), broken[:20]
        assert response.headers["content-type"] == "application/problem+json"
    large = await api.client.post("/api/v1/bulletins", content=b" " * (1024 * 1024 + 1), headers=headers)
    assert (large.status_code, large.json()["code"]) == (413, "body_too_large")


async def test_a_withdrawn_bulletin_is_planned_anew_without_it(api: Api) -> None:
    officer = await api.person((Role.OFFICER, "11"))
    bulletin_id = await add_bulletin(api, "11")
    broadcast = await add_broadcast(api, "11", items=[{"bulletin_id": bulletin_id}])
    await api.execute("DELETE FROM control.planning_requests")
    response = await api.client.post(f"/api/v1/bulletins/{bulletin_id}/withdraw", headers=officer)
    assert response.json()["state"] == "withdrawn"
    assert str(await api.fetchval("SELECT broadcast_id FROM control.planning_requests")) == broadcast["broadcast_id"]
    again = await api.client.post(f"/api/v1/bulletins/{bulletin_id}/withdraw", headers=officer)
    assert again.status_code == 409


async def test_a_dry_run_tells_what_would_fall_silent_also_where_others_broadcast_it(api: Api) -> None:
    officer = await api.person((Role.OFFICER, "11"))
    bulletin_id = await add_bulletin(api, "11")
    await add_broadcast(api, "1", level="priority", items=[{"bulletin_id": bulletin_id}])
    path = f"/api/v1/bulletins/{bulletin_id}/withdraw"
    tried = (await api.client.post(path, params={"dry_run": True}, headers=officer)).json()
    assert (tried["state"], tried["outlook"]["withdraw"]) == ("withdrawn", 1)
    assert [each["problem"] for each in tried["outlook"]["findings"]] == ["bulletin_not_approved"]
    assert (await api.client.get(f"/api/v1/bulletins/{bulletin_id}", headers=officer)).json()["state"] == "approved"


async def test_a_withdrawn_bulletin_fills_in_for_no_plan_any_more(api: Api) -> None:
    """Devices hold it in their configuration: they get another one at once (R-26)."""
    officer = await api.person((Role.OFFICER, "11"))
    keyring = a_keyring()
    planner = a_planner(api.database, keyring)
    device = await add_device(api, "11")
    bulletin_id = await add_bulletin(api, "11")
    body = {"fallback": {"bulletin_id": bulletin_id, "times": ["06:00"]}}
    headers = {**await api.person((Role.ADMINISTRATOR, "11")), "If-Match": "*"}
    policy = await api.client.put(f"/api/v1/units/{api.units['11']}/policy", json=body, headers=headers)
    assert policy.status_code == 200, policy.text

    async def configured() -> Configuration:
        """What planning makes of all that is asked for now."""
        await planner.plan_once(now=api.clock.now)
        while await planner.issue_once(now=api.clock.now):
            pass
        topic = f"loa/v1/{device}/down/config"
        sent = await api.fetchval("DELETE FROM control.outbox WHERE topic = $1 RETURNING payload", topic)
        return signing.verify(Configuration, sent, verifier(keyring))

    fallback = (await configured()).fallback
    assert str(fallback.fallback_id if fallback is not None else None) == bulletin_id
    path = f"/api/v1/bulletins/{bulletin_id}/withdraw"
    for query in ({"dry_run": True}, {}):
        answer = await api.client.post(path, params=query, headers=officer)
        assert [each["code"] for each in answer.json()["fallback_of"]] == ["11"]
    assert (await configured()).fallback is None


async def test_a_board_shows_a_picture_or_a_film_and_its_measures_are_told(api: Api) -> None:
    officer = await api.person((Role.OFFICER, "11"))
    for measures, length in ((PNG, 12.5), (FILM, None)):
        sha256 = await add_media(api, measures=measures)
        body = a_bulletin(api, board_text=None, board_media_sha256=sha256, board_length_s=length)
        view = (await api.client.post("/api/v1/bulletins", json=body, headers=officer)).json()
        assert (view["board_media_sha256"], view["board_mime"]) == (sha256, measures.mime)
        assert (view["board_duration_ms"], view["board_length_s"]) == (measures.duration_ms, length)


async def test_whose_a_bulletin_is_follows_the_level_of_the_unit_unless_somebody_says(api: Api) -> None:
    officer = await api.person((Role.OFFICER, "24"))
    for unit, told, expected in (
        ("24", None, "province"),
        ("1", None, "district"),
        ("11", None, "commune"),
        ("11", "relay", "relay"),
        ("24", "centre", "centre"),
    ):
        body = a_bulletin(api, unit_id=str(api.units[unit]), origin=told)
        made = await api.client.post("/api/v1/bulletins", json=body, headers=officer)
        assert made.json()["origin"] == expected


# --- drafts ----------------------------------------------------------------------------------------------------------


async def a_draft(api: Api, headers: dict[str, str], **changes: Any) -> dict[str, Any]:
    body = a_bulletin(api, state="draft", **changes)
    made = await api.client.post("/api/v1/bulletins", json=body, headers=headers)
    assert made.status_code == 201, made.text
    view: dict[str, Any] = made.json()
    assert (view["state"], view["version"], made.headers["etag"]) == ("draft", 1, '"1"')
    return view


def content(**changes: Any) -> dict[str, Any]:
    return {"title": "Lịch tiêm", "subject_field": "health", "board_text": "Sáng Chủ nhật", **changes}


async def test_a_draft_is_edited_until_it_is_submitted_and_then_frozen(api: Api) -> None:
    officer = await api.person((Role.OFFICER, "11"))
    draft = await a_draft(api, officer, board_text=None)  # nothing to say yet
    path = f"/api/v1/bulletins/{draft['bulletin_id']}"
    early = await api.client.post(f"{path}/submit", headers=officer)
    assert [(each["field"], each["code"]) for each in early.json()["errors"]] == [
        ("media_sha256", "bulletin_without_content")
    ]
    edited = await api.client.put(path, json=content(), headers={**officer, "If-Match": '"1"'})
    assert (edited.status_code, edited.headers["etag"]) == (200, '"2"')
    assert edited.json()["content_hash"] != draft["content_hash"]
    submitted = await api.client.post(f"{path}/submit", headers={**officer, "If-Match": '"2"'})
    view = submitted.json()
    assert (view["state"], view["version"], view["content_hash"]) == ("submitted", 3, edited.json()["content_hash"])
    assert view["submitted_at"] is not None
    frozen = await api.client.put(path, json=content(title="Khác"), headers={**officer, "If-Match": '"3"'})
    assert (frozen.status_code, frozen.json()["code"], frozen.json()["state"]) == (409, "bulletin_frozen", "submitted")
    twice = await api.client.post(f"{path}/submit", headers=officer)
    assert (twice.status_code, twice.json()["code"]) == (409, "bulletin_frozen")
    assert (await api.client.get(path, headers=officer)).json() == view


async def test_each_transition_is_audited_with_before_and_after(api: Api) -> None:
    officer, approver = await api.person((Role.OFFICER, "11")), await api.person((Role.APPROVER, "11"))
    draft = await a_draft(api, officer)
    path = f"/api/v1/bulletins/{draft['bulletin_id']}"
    await api.client.put(path, json=content(), headers={**officer, "If-Match": '"1"'})
    await api.client.post(f"{path}/submit", headers=officer)
    await api.client.post(f"{path}/approve", json={"note": "Được"}, headers=approver)
    await api.client.post(f"{path}/withdraw", headers=officer)
    async with api.database.connection() as connection:
        rows = await connection.fetch(
            "SELECT action, before, after FROM control.audit WHERE subject = $1 ORDER BY audit_id",
            f"bulletin:{draft['bulletin_id']}",
        )
    assert [row["action"] for row in rows] == [
        "bulletin_drafted",
        "bulletin_edited",
        "bulletin_submitted",
        "bulletin_approved",
        "bulletin_withdrawn",
    ]
    assert rows[0]["before"] is None
    states = [(row["before"]["state"], row["after"]["state"]) for row in rows[1:]]
    assert states == [("draft", "draft"), ("draft", "submitted"), ("submitted", "approved"), ("approved", "withdrawn")]
    assert rows[1]["before"]["content_hash"] != rows[1]["after"]["content_hash"]
    assert (rows[3]["before"]["note"], rows[3]["after"]["note"]) == (None, "Được")
    assert [row["after"]["version"] for row in rows] == [1, 2, 3, 4, 5]


async def test_a_draft_that_somebody_else_has_changed_is_shown_beside_one_s_own(api: Api) -> None:
    officer = await api.person((Role.OFFICER, "11"))
    draft = await a_draft(api, officer)
    path = f"/api/v1/bulletins/{draft['bulletin_id']}"
    without = await api.client.put(path, json=content(), headers=officer)
    assert (without.status_code, without.json()["code"]) == (428, "version_required")
    both = await asyncio.gather(
        *(
            api.client.put(path, json=content(title=title), headers={**officer, "If-Match": '"1"'})
            for title in ("Của Lan", "Của Minh")
        )
    )
    (won,), (lost,) = ([each for each in both if each.status_code == status] for status in (200, 409))
    problem = lost.json()
    assert (problem["code"], problem["present"]["title"]) == ("version_mismatch", won.json()["title"])
    assert problem["given"]["title"] != won.json()["title"]
    assert lost.headers["etag"] == won.headers["etag"] == '"2"'
    stale = await api.client.post(f"{path}/submit", headers={**officer, "If-Match": '"1"'})
    assert (stale.status_code, stale.json()["given"]) == (409, {"state": "submitted"})


async def test_a_draft_is_not_decided_on_and_can_be_given_up(api: Api) -> None:
    officer, approver = await api.person((Role.OFFICER, "11")), await api.person((Role.APPROVER, "11"))
    draft = await a_draft(api, officer)
    path = f"/api/v1/bulletins/{draft['bulletin_id']}"
    for verb in ("approve", "reject"):
        response = await api.client.post(f"{path}/{verb}", headers=approver)
        assert (response.status_code, response.json()["code"]) == (409, "bulletin_not_submitted")
    assert (await api.client.post(f"{path}/withdraw", headers=officer)).json()["state"] == "withdrawn"
    drafts = await api.client.get("/api/v1/bulletins", params={"state": "draft"}, headers=officer)
    assert drafts.json() == []


async def test_who_edited_a_draft_does_not_decide_on_it(api: Api) -> None:
    maker = await api.person((Role.OFFICER, "11"))
    helper = await api.person((Role.OFFICER, "11"), (Role.APPROVER, "11"))
    submitter = await api.person((Role.OFFICER, "11"), (Role.APPROVER, "11"))
    other = await api.person((Role.APPROVER, "11"))
    draft = await a_draft(api, maker)
    path = f"/api/v1/bulletins/{draft['bulletin_id']}"
    await api.client.put(path, json=content(), headers={**helper, "If-Match": '"1"'})
    await api.client.put(path, json=content(title="Sửa lại"), headers={**maker, "If-Match": '"2"'})
    await api.client.post(f"{path}/submit", headers=submitter)
    for who in (helper, submitter):
        response = await api.client.post(f"{path}/approve", headers=who)
        assert (response.status_code, response.json()["code"]) == (403, "own_bulletin")
    assert (await api.client.post(f"{path}/approve", headers=other)).json()["state"] == "approved"


async def test_what_is_not_what_was_submitted_is_not_approved(api: Api) -> None:
    maker, approver = await api.account((Role.OFFICER, "11")), await api.person((Role.APPROVER, "11"))
    bulletin_id = await add_bulletin(api, "11", state="submitted", board_text="Thật", by=maker.account_id)
    await api.execute("UPDATE control.bulletins SET board_text = 'Giả' WHERE bulletin_id = $1", uuid.UUID(bulletin_id))
    path = f"/api/v1/bulletins/{bulletin_id}"
    assert (await api.client.get(path, headers=approver)).json()["is_intact"] is False
    response = await api.client.post(f"{path}/approve", headers=approver)
    assert (response.status_code, response.json()["code"]) == (409, "bulletin_not_as_submitted")


async def test_what_was_frozen_before_there_were_pictures_still_has_its_hash(api: Api) -> None:
    maker, approver = await api.account((Role.OFFICER, "11")), await api.person((Role.APPROVER, "11"))
    bulletin_id = uuid.UUID(await add_bulletin(api, "11", state="submitted", by=maker.account_id))
    async with api.database.transaction() as connection:
        bulletin = await bulletin_store.bulletin(connection, bulletin_id)
        await connection.execute(
            "UPDATE control.bulletins SET content_hash = $2, content_form = DEFAULT WHERE bulletin_id = $1",
            bulletin_id,
            bulletins.content_hash(bulletin, 1),
        )
    response = await api.client.post(f"/api/v1/bulletins/{bulletin_id}/approve", headers=approver)
    assert (response.json()["state"], response.json()["is_intact"]) == ("approved", True)


# --- new versions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["approved", "rejected", "withdrawn"])
async def test_what_was_decided_on_is_opened_again_as_a_new_version(api: Api, state: str) -> None:
    officer = await api.person((Role.OFFICER, "11"))
    old = await add_bulletin(api, "11", state=state)
    new = await a_draft(api, officer, supersedes=old)
    assert new["supersedes"] == old
    view = (await api.client.get(f"/api/v1/bulletins/{old}", headers=officer)).json()
    assert (view["state"], view["superseded_by"]) == (state, new["bulletin_id"])


@pytest.mark.parametrize("state", ["draft", "submitted"])
async def test_what_is_still_open_has_no_new_version(api: Api, state: str) -> None:
    officer = await api.person((Role.OFFICER, "11"))
    body = a_bulletin(api, supersedes=await add_bulletin(api, "11", state=state))
    response = await api.client.post("/api/v1/bulletins", json=body, headers=officer)
    assert (response.status_code, response.json()["code"], response.json()["state"]) == (
        409,
        "bulletin_still_open",
        state,
    )


async def test_a_bulletin_has_one_successor_at_a_time(api: Api) -> None:
    officer = await api.person((Role.OFFICER, "11"))
    old = await add_bulletin(api, "11")

    async def open_again() -> Any:
        return await api.client.post("/api/v1/bulletins", json=a_bulletin(api, supersedes=old), headers=officer)

    answers = await asyncio.gather(open_again(), open_again(), open_again())
    (won,) = (each for each in answers if each.status_code == 201)
    for lost in answers:
        if lost is not won:
            assert (lost.status_code, lost.json()["code"]) == (409, "bulletin_superseded")
            assert lost.json()["superseded_by"] == won.json()["bulletin_id"]
    await api.client.post(f"/api/v1/bulletins/{won.json()['bulletin_id']}/withdraw", headers=officer)
    assert (await open_again()).status_code == 201


async def test_only_a_bulletin_of_the_same_unit_is_superseded(api: Api) -> None:
    officer = await api.person((Role.OFFICER, "1"))
    body = a_bulletin(api, supersedes=await add_bulletin(api, "12"))
    response = await api.client.post("/api/v1/bulletins", json=body, headers=officer)
    assert [each["code"] for each in response.json()["errors"]] == ["unknown_bulletin"]


# --- how far it has come ---------------------------------------------------------------------------------------------


async def stage_of(api: Api, bulletin_id: str) -> tuple[str, str | None]:
    viewer = await api.person((Role.VIEWER, "11"))
    view = (await api.client.get(f"/api/v1/bulletins/{bulletin_id}", headers=viewer)).json()
    listed = (await api.client.get("/api/v1/bulletins", headers=viewer)).json()
    assert [each["stage"] for each in listed if each["bulletin_id"] == bulletin_id] == [view["stage"]]
    return view["stage"], view["first_played_at"]


async def test_an_approved_bulletin_is_scheduled_then_played(api: Api) -> None:
    bulletin_id = await add_bulletin(api, "11")
    assert await stage_of(api, bulletin_id) == ("approved", None)
    broadcast = await add_broadcast(api, "11", items=[{"bulletin_id": bulletin_id}])
    assert await stage_of(api, bulletin_id) == ("scheduled", None)
    at = api.clock.now + timedelta(days=1)
    for evidence, played in (("gateway", False), ("device", True)):
        await api.execute("DELETE FROM control.emissions")
        await api.execute(
            """
            INSERT INTO control.emissions
                   (broadcast_id, occurrence_at, item, device_no, unit_id, bulletin_id, content, level, issuer_depth,
                    starts_at, ends_at, latest_start_at, fingerprint, planned_at, outcome, evidence, started_at)
            SELECT $1, $2, 0, device_no, unit_id, $3, 'audio', 'normal', 2, $2, $2::timestamptz + interval '30 s', $2,
                   '', $2, 'played', $4, $2
              FROM control.devices
            """,
            uuid.UUID(broadcast["broadcast_id"]),
            at,
            uuid.UUID(bulletin_id),
            evidence,
        )
        api.clock.now = at + timedelta(hours=1)  # the day of the broadcast is not over yet
        assert (await stage_of(api, bulletin_id))[0] == "scheduled"
        api.clock.now = at + timedelta(days=1)
        stage, first = await stage_of(api, bulletin_id)
        assert (stage, first is not None) == (("played", True) if played else ("approved", False))
        api.clock.now = at - timedelta(days=1)


async def test_a_withdrawn_broadcast_schedules_nothing(api: Api) -> None:
    bulletin_id = await add_bulletin(api, "11")
    broadcast = await add_broadcast(api, "11", items=[{"bulletin_id": bulletin_id}])
    officer = await api.person((Role.OFFICER, "11"))
    await api.client.post(f"/api/v1/broadcasts/{broadcast['broadcast_id']}/withdraw", headers=officer)
    assert await stage_of(api, bulletin_id) == ("approved", None)


async def test_categories_are_those_of_the_decree(api: Api) -> None:
    viewer = await api.person((Role.VIEWER, "11"))
    fields = (await api.client.get("/api/v1/subject-fields", headers=viewer)).json()
    assert len(fields) == 11
    assert {"policy", "health", "disaster", "general"} <= {field["code"] for field in fields}
