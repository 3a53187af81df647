"""Sound files and bulletins over HTTP."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import pytest

from services.control.measurement import Limits
from services.control.measurer import Measurer
from services.control.permissions import Role
from services.control.settings import PolicySettings
from tests.support import sounds
from tests.support.control_api import Api, add_broadcast, add_bulletin, add_media, an_api
from tests.support.database import TestDatabase

pytestmark = pytest.mark.integration


async def upload(api: Api, content: bytes, *, name: str = "ban-tin.mp3", unit: str = "11", **headers: str) -> Any:
    who = headers or await api.person((Role.OFFICER, unit))
    return await api.client.post(
        "/api/v1/media", data={"unit_id": str(api.units[unit])}, files={"file": (name, content)}, headers=who
    )


def stored_files(api: Api) -> list[str]:
    folder = api.services.media.directory
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


async def test_a_sound_is_measured_and_kept_under_its_hash(api: Api) -> None:
    content = sounds.tone("mp3", seconds=2)
    response = await upload(api, content, name="../../etc/passwd\r\n.mp3")
    assert response.status_code == 201, response.text
    view = response.json()
    sha256 = hashlib.sha256(content).hexdigest()
    assert (view["sha256"], view["mime"], view["size"]) == (sha256, "audio/mpeg", len(content))
    assert view["duration_ms"] == pytest.approx(2_000, abs=100)
    assert view["loudness_lufs"] == pytest.approx(-17, abs=1)
    assert (view["is_silent"], view["is_new"]) == (False, True)
    assert stored_files(api) == [f"{sha256[:2]}/{sha256}"]
    assert (api.services.files.path(bytes.fromhex(sha256))).read_bytes() == content


async def test_the_same_bytes_are_kept_once(api: Api) -> None:
    content = sounds.tone("wav")
    assert (await upload(api, content)).json()["is_new"] is True
    again = await upload(api, content, unit="2", name="khac.wav")
    assert (again.status_code, again.json()["is_new"]) == (201, False)
    assert len(stored_files(api)) == 1


async def test_silence_is_taken_and_flagged(api: Api) -> None:
    view = (await upload(api, sounds.tone("wav", amplitude=0))).json()
    assert (view["is_silent"], view["loudness_lufs"]) == (True, None)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "media_empty"),
        (b"<html><script>alert(1)</script>", "media_not_audio"),
        (b"RIFF\x00\x00\x00\x00WAVE", None),
        (b"\xff\xfb\x90\x64" + bytes(5_000), None),
        (sounds.video(), "media_has_video"),
        (sounds.tone("wav", seconds=61, rate=8_000), "media_too_long"),
    ],
    ids=["empty", "page", "header_only", "noise", "video", "too_long"],
)
async def test_what_is_no_sound_leaves_no_trace(api: Api, content: bytes, code: str | None) -> None:
    response = await upload(api, content)
    assert response.status_code == 415
    error = response.json()["errors"][0]
    assert error["field"] == "file"
    assert code in (None, error["code"])
    assert error["mend"]
    assert stored_files(api) == []
    assert await api.fetchval("SELECT count(*) FROM control.media") == 0


async def test_a_file_that_is_too_large_is_refused_while_it_comes(api: Api) -> None:
    def endless() -> Any:
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        for _ in range(10_000):
            yield bytes(64 * 1024)

    headers = await api.person((Role.OFFICER, "11"))

    async def body() -> Any:
        for chunk in endless():
            yield chunk

    response = await api.client.post(
        "/api/v1/media", content=body(), headers={**headers, "Content-Type": "multipart/form-data; boundary=x"}
    )
    assert (response.status_code, response.json()["code"]) == (413, "body_too_large")
    big = await upload(api, b"ID3" + bytes(8 * 1024 * 1024 + 1))
    assert (big.status_code, big.json()["code"]) == (413, "media_too_large")
    assert stored_files(api) == []


async def test_nobody_unknown_makes_us_read_a_large_body(api: Api) -> None:
    read = 0

    async def body() -> Any:
        nonlocal read
        for _ in range(64):
            read += 64 * 1024
            yield bytes(64 * 1024)

    response = await api.client.post(
        "/api/v1/media", content=body(), headers={"Content-Type": "multipart/form-data; boundary=x"}
    )
    assert response.status_code == 401
    assert read <= 128 * 1024


@pytest.mark.parametrize(
    ("request_", "status", "field"),
    [
        ({"json": {"file": "x"}}, 415, None),
        ({"files": {"file": ("a", b"x")}}, 422, "unit_id"),
        ({"data": {"unit_id": "x"}, "files": {"file": ("a", b"x")}}, 422, "unit_id"),
        ({"data": {"unit_id": "00000000-0000-4000-8000-000000000000"}, "files": {"file": ("a", b"x")}}, 422, "unit_id"),
        ({"data": {"unit_id": "OWN", "file": "text"}, "files": {"other": ("a", b"x")}}, 400, None),
        ({"data": {"unit_id": "OWN", "file": "text"}, "files": {"other": ("a", b"")}}, 422, "file"),
        ({"content": b"--x\r\nnonsense", "headers": {"Content-Type": "multipart/form-data"}}, 400, None),
    ],
    ids=["json", "no_unit", "bad_unit", "unknown_unit", "text_and_file", "text_for_file", "no_boundary"],
)
async def test_a_form_that_is_not_right_is_told_so(
    api: Api, request_: dict[str, Any], status: int, field: str | None
) -> None:
    headers = {**await api.person((Role.OFFICER, "11")), **request_.pop("headers", {})}
    if request_.get("data", {}).get("unit_id") == "OWN":
        request_["data"]["unit_id"] = str(api.units["11"])
    response = await api.client.post("/api/v1/media", headers=headers, **request_)
    assert response.headers["content-type"] == "application/problem+json"
    if field is not None:
        assert (response.status_code, response.json()["errors"][0]["field"]) == (status, field)
    else:
        assert response.status_code in (status, 422)


async def test_a_decoder_that_eats_too_much_is_stopped(api: Api) -> None:
    small = Measurer(Limits(max_duration_s=60, max_cpu_s=20, max_memory_mib=24))
    services = dataclasses.replace(api.services, measurer=small)
    api.client._transport.app.state.services = services  # type: ignore[attr-defined]
    response = await upload(api, sounds.tone("mp3"))
    assert response.json()["errors"][0]["code"] == "media_unmeasurable"
    assert stored_files(api) == []


# --- fetching --------------------------------------------------------------------------------------------------------


async def test_devices_fetch_whole_files_and_parts_without_a_login(api: Api) -> None:
    content = bytes(range(256)) * 4
    sha256 = await add_media(api, content=content)
    whole = await api.client.get(f"/media/{sha256}")
    assert (whole.status_code, whole.content) == (200, content)
    assert whole.headers["etag"] == f'"{sha256}"'
    assert "immutable" in whole.headers["cache-control"]
    assert whole.headers["accept-ranges"] == "bytes"
    assert whole.headers["content-type"] == "audio/mpeg"
    assert whole.headers["x-content-type-options"] == "nosniff"
    part = await api.client.get(f"/media/{sha256}", headers={"Range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, content[100:200])
    assert part.headers["content-range"] == "bytes 100-199/1024"
    assert part.headers["content-length"] == "100"
    rest = await api.client.get(f"/media/{sha256}", headers={"Range": "bytes=1000-", "If-Range": f'"{sha256}"'})
    assert (rest.status_code, rest.content) == (206, content[1000:])
    changed = await api.client.get(f"/media/{sha256}", headers={"Range": "bytes=1000-", "If-Range": '"other"'})
    assert (changed.status_code, changed.content) == (200, content)


async def test_a_range_beyond_the_end_cannot_be_had(api: Api) -> None:
    sha256 = await add_media(api, content=b"x" * 100)
    response = await api.client.get(f"/media/{sha256}", headers={"Range": "bytes=100-"})
    assert response.status_code == 416
    assert response.headers["content-range"] == "bytes */100"


async def test_who_has_it_already_gets_nothing(api: Api) -> None:
    sha256 = await add_media(api, content=b"x" * 100)
    response = await api.client.get(f"/media/{sha256}", headers={"If-None-Match": f'"{sha256}"'})
    assert (response.status_code, response.content) == (304, b"")
    assert response.headers["etag"] == f'"{sha256}"'


async def test_head_answers_as_get_would_without_the_bytes(api: Api) -> None:
    sha256 = await add_media(api, content=b"x" * 100)
    response = await api.client.head(f"/media/{sha256}")
    assert (response.status_code, response.content, response.headers["content-length"]) == (200, b"", "100")
    part = await api.client.head(f"/media/{sha256}", headers={"Range": "bytes=0-9"})
    assert (part.status_code, part.headers["content-length"]) == (206, "10")


@pytest.mark.parametrize("name", ["0" * 64, "x", "..%2f..%2fetc%2fpasswd", "0" * 63, "g" * 64, "staging", "%00"])
async def test_what_is_not_there_is_not_found(api: Api, name: str) -> None:
    response = await api.client.get(f"/media/{name}")
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"


async def test_a_file_lost_from_disk_is_not_found_rather_than_empty(api: Api) -> None:
    sha256 = await add_media(api, content=b"x" * 100)
    api.services.files.path(bytes.fromhex(sha256)).unlink()
    assert (await api.client.get(f"/media/{sha256}")).status_code == 404


# --- bulletins -------------------------------------------------------------------------------------------------------


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
    sha256 = (await upload(api, sounds.tone("ogg"))).json()["sha256"]
    made = await api.client.post(
        "/api/v1/bulletins",
        json=a_bulletin(api, media_sha256=sha256, language="vi", author="Ban văn hóa"),
        headers=officer,
    )
    assert made.status_code == 201, made.text
    view = made.json()
    assert (view["state"], view["media_sha256"]) == ("submitted", sha256)
    assert view["duration_ms"] == pytest.approx(2_000, abs=100)
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
    ]
    hashes = set()
    for changes in variants:
        made = await api.client.post("/api/v1/bulletins", json=a_bulletin(api, **changes), headers=officer)
        hashes.add(made.json()["content_hash"])
    assert len(hashes) == len(variants)
    same = await api.client.post("/api/v1/bulletins", json=a_bulletin(api), headers=officer)
    assert same.json()["content_hash"] in hashes


async def test_nobody_approves_their_own_unless_the_province_says_so(database: TestDatabase, tmp_path: Path) -> None:
    for allowed, status in ((False, 403), (True, 200)):
        async with an_api(database, tmp_path, policy=PolicySettings(may_approve_own=allowed)) as api:
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
        ({"state": "approved"}, "state", "field_unknown"),
    ],
)
async def test_a_faulty_bulletin_is_named(api: Api, changes: dict[str, Any], field: str, code: str) -> None:
    officer = await api.person((Role.OFFICER, "11"))
    response = await api.client.post("/api/v1/bulletins", json=a_bulletin(api, **changes), headers=officer)
    assert response.status_code == 422, response.text
    assert [(error["field"], error["code"]) for error in response.json()["errors"]] == [(field, code)]


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


async def test_categories_are_those_of_the_decree(api: Api) -> None:
    viewer = await api.person((Role.VIEWER, "11"))
    fields = (await api.client.get("/api/v1/subject-fields", headers=viewer)).json()
    assert len(fields) == 11
    assert {"policy", "health", "disaster", "general"} <= {field["code"] for field in fields}
