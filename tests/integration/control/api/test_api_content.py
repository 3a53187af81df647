"""Sounds, pictures and films over HTTP."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import pytest

from services.control.measurement import Limits
from services.control.measurer import Measurer
from services.control.permissions import Role
from tests.support import pictures, sounds
from tests.support.control_api import Api, add_media

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


async def test_pictures_and_films_are_measured_beside_sounds(api: Api) -> None:
    picture = (await upload(api, pictures.picture("jpeg", width=320, height=160))).json()
    assert (picture["mime"], picture["width"], picture["height"]) == ("image/jpeg", 320, 160)
    assert (picture["duration_ms"], picture["is_silent"]) == (None, False)
    film = (await upload(api, pictures.film("webm", "libvpx", seconds=2))).json()
    assert (film["mime"], film["width"], film["height"]) == ("video/webm", 64, 48)
    assert film["duration_ms"] == pytest.approx(2_000, abs=50)
    officer = await api.person((Role.OFFICER, "11"))
    again = (await api.client.get(f"/api/v1/media/{film['sha256']}", headers=officer)).json()
    assert again == {**film, "is_new": False}
    fetched = await api.client.get(f"/media/{picture['sha256']}")
    assert (fetched.headers["content-type"], fetched.headers["content-disposition"]) == ("image/jpeg", "attachment")


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "media_empty"),
        (pictures.picture("png") + b"PK\x03\x04", "media_foreign_bytes"),
        (pictures.png(width=100_000, height=100_000, rows=b""), "media_too_many_pixels"),
        (pictures.film(seconds=31), "media_too_long"),
        (b"<html><script>alert(1)</script>", "media_not_audio"),
        (b"RIFF\x00\x00\x00\x00WAVE", None),
        (b"\xff\xfb\x90\x64" + bytes(5_000), None),
        (sounds.video(), "media_codec"),
        (sounds.tone("wav", seconds=61, rate=8_000), "media_too_long"),
    ],
    ids=[
        "empty",
        "archive_behind_a_picture",
        "pixel_bomb",
        "film_too_long",
        "page",
        "header_only",
        "noise",
        "video",
        "too_long",
    ],
)
async def test_what_cannot_be_put_out_leaves_no_trace(api: Api, content: bytes, code: str | None) -> None:
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
    small = Measurer(Limits(max_duration_s=60, max_film_s=30, max_cpu_s=20, max_memory_mib=24))
    services = dataclasses.replace(api.services, measurer=small)
    api.app.state.services = services
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
