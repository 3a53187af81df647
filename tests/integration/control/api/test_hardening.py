"""The HTTP side against browsers' and strangers' tricks: on every route there is, and on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import io
import struct
import wave
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

from services.control.api.access import PUBLIC
from services.control.api.app import create_api
from services.control.api.rates import RateLimit
from services.control.app import serving
from services.control.metrics import ControlMetrics
from services.control.permissions import Role
from services.control.settings import HttpSettings
from services.shared.http import Readiness, serve_health
from services.shared.settings import HealthSettings
from tests.integration.control.api.test_api_permissions import ENDPOINTS, EXAMPLES, ask
from tests.support.control_api import PASSWORD, Api, add_media, an_api
from tests.support.database import TestDatabase
from tests.support.sounds import tone

pytestmark = pytest.mark.integration

MAY_BE_KEPT = {"/media/{sha256}", "/relays/{source_id}", "/relays/{source_id}/{sha256}", "/static/{name}"}


# --- headers ---------------------------------------------------------------------------------------------------------


def is_in_bounds(headers: httpx.Headers) -> bool:
    policy = dict(part.strip().partition(" ")[::2] for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["frame-ancestors"] == "'none'"
    for name, sources in policy.items():
        assert not set(sources.split()) & {"'unsafe-inline'", "'unsafe-eval'", "*", "https:", "http:"}, name
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "same-origin"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "camera=()" in headers["permissions-policy"]
    assert "server" not in headers
    assert "access-control-allow-origin" not in headers
    return True


@pytest.mark.timeout(600)
async def test_every_route_keeps_browsers_in_bounds_and_what_is_private_out_of_caches(api: Api) -> None:
    everybody = await api.person(*((role, "24") for role in Role))
    for method, path in ENDPOINTS:
        wanted = await EXAMPLES[(method, path)](api, "11")
        response = await ask(api, method, wanted, everybody)
        assert is_in_bounds(response.headers), f"{method} {path}"
        kept = response.headers["cache-control"]
        assert "no-store" in kept or "private" in kept, f"{method} {path}: {kept}"
        assert "strict-transport-security" not in response.headers
    for method, path in sorted(PUBLIC):
        response = await api.client.request(method, path.replace("{name}", "loa.css"))
        assert is_in_bounds(response.headers), f"{method} {path}"
        assert response.status_code >= 400 or path in MAY_BE_KEPT or "no-store" in response.headers["cache-control"]


async def test_over_https_browsers_are_held_to_it_and_the_cookie_to_this_host(
    database: TestDatabase, tmp_path: Path
) -> None:
    async with an_api(database, tmp_path, http=HttpSettings(is_behind_https=True)) as api:
        account = await api.account((Role.VIEWER, "11"))
        login = {"login": account.login, "password": PASSWORD}
        response = await api.client.post("https://loa.test/api/v1/sessions", json=login)
        cookie = response.headers["set-cookie"]
        assert cookie.startswith("__Host-loa_session=")
        for attribute in ("Secure", "HttpOnly", "SameSite=strict", "Path=/"):
            assert attribute in cookie
        assert "domain" not in cookie.lower()
        assert response.headers["strict-transport-security"] == "max-age=31536000"
        assert (await api.client.get("https://loa.test/api/v1/account")).status_code == 200
        # A cookie that a neighbouring host planted under the plain name is nobody's.
        planted = {"Cookie": f"loa_session={api.client.cookies['__Host-loa_session']}"}
        api.client.cookies.clear()
        assert (await api.client.get("https://loa.test/api/v1/account", headers=planted)).status_code == 401


@pytest.mark.timeout(600)
async def test_with_a_cookie_alone_no_route_changes_anything(api: Api) -> None:
    """Every unsafe method of every route, as a page elsewhere would have a browser send it."""
    administrator = await api.account(*((role, "24") for role in Role))
    login = {"login": administrator.login, "password": PASSWORD}
    assert (await api.client.post("/api/v1/sessions", json=login)).status_code == 201
    for method, path in ENDPOINTS:
        if method in ("GET", "HEAD"):
            continue
        wanted = await EXAMPLES[(method, path)](api, "11")
        audited = await api.fetchval("SELECT count(*) FROM control.audit")
        for token in ({}, {"X-CSRF-Token": "0" * 64}):
            response = await ask(api, method, wanted, token)
            assert response.status_code == 403, f"{method} {path}: {response.status_code}"
        assert await api.fetchval("SELECT count(*) FROM control.audit") == audited, f"{method} {path}"
    assert (await api.client.get("/api/v1/account")).status_code == 200  # still logged in


# --- hosts -----------------------------------------------------------------------------------------------------------


async def test_a_host_that_is_not_ours_is_refused_but_devices_and_monitoring_come_by_any(
    database: TestDatabase, tmp_path: Path
) -> None:
    async with an_api(database, tmp_path, http=HttpSettings(names=("Loa.test", "[::1]"))) as api:
        sha256 = await add_media(api, content=b"x")
        for host in ("loa.test", "LOA.test:8480", "[::1]:8480"):
            assert (await api.client.get("/login", headers={"Host": host})).status_code == 200, host
        for host in (
            "evil.test",
            "loa.test.evil.test",
            "loa.test@evil.test",
            "loa.test:80:90",
            "",
            "loa.test/x",
            "[::2]",
        ):
            page = await api.client.get("/login", headers={"Host": host})
            answer = await api.client.get("/api/v1/account", headers={"Host": host})
            assert (page.status_code, answer.status_code) == (421, 421), host
            assert answer.json()["code"] == "host_not_served"
            assert is_in_bounds(page.headers)
            if host:
                assert host not in page.text
        for path, status in (("/healthz", 200), ("/metrics", 200), (f"/media/{sha256}", 200)):
            assert (await api.client.get(path, headers={"Host": "10.0.0.7:8480"})).status_code == status
        devices = await api.client.post("/api/v1/enrolments", json={}, headers={"Host": "10.0.0.7"})
        assert devices.status_code == 422


async def test_a_forwarded_host_is_believed_from_nobody(api: Api) -> None:
    headers = await api.person((Role.VIEWER, "11"))
    forged = {"X-Forwarded-Host": "evil.test", "Forwarded": "host=evil.test", "X-Original-URL": "/metrics"}
    page = await api.client.get(f"/units/{api.units['11']}", headers={**headers, **forged})
    assert page.status_code == 200
    assert "evil.test" not in page.text


# --- how often -------------------------------------------------------------------------------------------------------


async def test_too_many_requests_of_an_address_wait_and_devices_are_not_counted(
    database: TestDatabase, tmp_path: Path
) -> None:
    async with an_api(database, tmp_path, http=HttpSettings(requests_per_minute=30)) as api:
        sha256 = await add_media(api, content=b"x")
        answers = [await api.client.get("/api/v1/account") for _ in range(40)]
        statuses = [each.status_code for each in answers]
        assert statuses[:5] == [401] * 5
        assert statuses[-1] == 429
        assert answers[-1].json()["code"] == "too_many_requests"
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 2
        assert is_in_bounds(answers[-1].headers)
        for path in ("/healthz", f"/media/{sha256}", "/static/loa.css", "/metrics"):
            assert (await api.client.get(path)).status_code == 200
        elsewhere = httpx.ASGITransport(app=api.app, client=("2001:db8::1", 4711))
        async with httpx.AsyncClient(transport=elsewhere, base_url="http://loa.test") as client:
            assert (await client.get("/api/v1/account")).status_code == 401
        assert 'control_http_limited_requests_total{by="address"}' in (await api.client.get("/metrics")).text


async def test_too_many_requests_of_an_account_wait_wherever_they_come_from(
    database: TestDatabase, tmp_path: Path
) -> None:
    async with an_api(database, tmp_path, account_rates=RateLimit(30)) as api:
        eager, other = await api.person((Role.VIEWER, "11")), await api.person((Role.VIEWER, "11"))
        statuses = [(await api.client.get("/api/v1/account", headers=eager)).status_code for _ in range(20)]
        assert (statuses[0], statuses[-1]) == (200, 429)
        assert (await api.client.get("/api/v1/account", headers=other)).status_code == 200


# --- real sockets ----------------------------------------------------------------------------------------------------

IMPATIENT = HttpSettings(
    hosts=("127.0.0.1",),
    port=0,
    head_wait=timedelta(milliseconds=400),
    body_wait=timedelta(milliseconds=300),
    requests_per_minute=0,
)


@asynccontextmanager
async def talking(api: Api, settings: HttpSettings = IMPATIENT) -> AsyncIterator[Any]:
    """Says bytes to a control that really listens and gives what it answers, until it hangs up."""
    app = create_api(dataclasses.replace(api.services, http=settings), ControlMetrics(CollectorRegistry()))

    async def say(*pieces: bytes, pause: float = 0.0) -> bytes:
        reader, writer = await asyncio.open_connection(*address.rsplit(":", 1))
        answer = bytearray()

        async def listen() -> None:
            # Who hangs up on somebody that still talks resets the connection; what came before counts.
            with contextlib.suppress(ConnectionError):
                while piece := await reader.read(65_536):
                    answer.extend(piece)

        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            group.create_task(listen())
            with contextlib.suppress(ConnectionError):
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(pause)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        return bytes(answer)

    async with serving(app, settings) as (address,):
        yield say


async def test_who_does_not_finish_a_request_is_hung_up_on(api: Api) -> None:
    async with talking(api) as say:
        assert await say() == b""  # says nothing at all
        assert await say(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: ", b"b", b"c", pause=0.2) == b""
        # A second request on a connection that has served one.
        first = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
        assert (await say(first, b"GET /hea", pause=0.2)).count(b"HTTP/1.1") == 1


async def test_a_body_that_does_not_come_or_drips_is_answered_and_the_connection_ends(api: Api) -> None:
    head = b"POST /api/v1/sessions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n"
    chunked = head.replace(b"Content-Length: 500", b"Transfer-Encoding: chunked")
    async with talking(api) as say:
        for answer in (
            await say(head),
            await say(head, *[b"{"] * 12, pause=0.15),
            await say(chunked, b"5\r\n"),
        ):
            assert answer.startswith(b"HTTP/1.1 408 ")
            assert b"body_too_slow" in answer
            assert b"connection: close" in answer.lower()


async def test_sizes_are_refused_before_they_are_read(api: Api) -> None:
    post = b"POST /api/v1/sessions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    async with talking(api) as say:
        declared = await say(post + b"Content-Length: 99999999999999999999\r\n\r\n")
        assert declared.startswith(b"HTTP/1.1 413 ")
        chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        chunked = await say(post + b"Transfer-Encoding: chunked\r\n\r\n", *[chunk] * 20)
        assert chunked.startswith(b"HTTP/1.1 413 ")
        head = b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * 100_000
        assert (await say(head)).startswith(b"HTTP/1.1 400 ")
        many = b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(10_000))
        assert (await say(many)).startswith(b"HTTP/1.1 400 ")


async def test_requests_that_two_servers_would_read_differently_are_refused(api: Api) -> None:
    post = b"POST /api/v1/sessions HTTP/1.1\r\nHost: x\r\n"
    async with talking(api) as say:
        for request in (
            post + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n{}",
            post + b"Content-Length: -1\r\n\r\n",
            post + b"Content-Length: +2\r\n\r\n{}",
            post + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
            b"GET /healthz HTTP/1.1\r\n\r\n",  # without a host
            b"GET /healthz HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
            b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-A : b\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS where there is none
        ):
            answer = await say(request)
            assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 501 ")), request
            assert b"Traceback" not in answer


async def test_the_health_server_listens_on_ipv6_too() -> None:
    async def ready() -> Readiness:
        return Readiness(is_ready=True)

    async with serve_health(HealthSettings(host="::1"), ready=ready, registry=CollectorRegistry()) as server:
        assert server.url == f"http://[::1]:{server.port}"
        async with httpx.AsyncClient(trust_env=False) as client:
            assert (await client.get(f"{server.url}/healthz")).text == "ok\n"


# --- what is uploaded ------------------------------------------------------------------------------------------------


def wav_with(chunk: bytes) -> bytes:
    """A sound of a second with something else in a chunk of its own behind it."""
    out = io.BytesIO()
    with wave.open(out, "wb") as sound:
        sound.setparams((1, 2, 8000, 8000, "NONE", ""))
        sound.writeframes(b"\x00\x10\x00\xf0" * 4000)
    content = bytearray(out.getvalue() + b"LIST" + struct.pack("<I", len(chunk)) + chunk)
    content[4:8] = struct.pack("<I", len(content) - 8)
    return bytes(content)


def png(width: int, height: int, rows: bytes) -> bytes:
    def part(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", zlib.compress(rows, 9)) + part(b"IEND", b"")


HTML = b"<!doctype html><script>alert(document.domain)</script>"
FORGERIES = {
    "svg_as_png": ("a.png", b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>'),
    "html_as_wav": ("a.wav", HTML),
    "html_before_wav": ("a.wav", HTML + wav_with(b"")),
    "pixel_bomb": ("a.png", png(60_000, 60_000, bytes(1_000_000))),
    "png_with_html_behind": ("a.png", png(16, 16, bytes(16 * 17)) + HTML),
    "zip_as_m4a": ("a.m4a", b"PK\x03\x04" + bytes(200)),
    "gzip_bomb": ("a.wav", zlib.compress(bytes(50_000_000), 9)),
    "playlist": ("a.mp3", b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n"),
}


@pytest.mark.parametrize("forgery", FORGERIES)
async def test_what_is_no_sound_or_picture_is_refused_whatever_it_calls_itself(api: Api, forgery: str) -> None:
    officer = await api.person((Role.OFFICER, "11"))
    name, content = FORGERIES[forgery]
    response = await upload(api, officer, name, content)
    assert response.status_code == 415, response.text
    assert await api.fetchval("SELECT count(*) FROM control.media") == 0
    assert [path for path in api.services.media.directory.rglob("*") if path.is_file()] == []


async def upload(api: Api, headers: dict[str, str], name: str, content: bytes, kind: str = "text/html") -> Any:
    return await api.client.post(
        "/api/v1/media",
        headers=headers,
        data={"unit_id": str(api.units["11"])},
        files={"file": (name, content, kind)},
    )


async def test_a_sound_that_is_a_page_too_is_handed_out_as_a_sound_to_be_saved(api: Api) -> None:
    """A polyglot: a good WAV with HTML inside. It is kept, because devices play it, and no browser shows it."""
    officer = await api.person((Role.OFFICER, "11"))
    stored = await upload(api, officer, "../../evil.html", wav_with(HTML))
    assert stored.status_code == 201, stored.text
    fetched = await api.client.get(f"/media/{stored.json()['sha256']}")
    assert fetched.headers["content-type"] == "audio/wav"
    assert fetched.headers["content-disposition"] == "attachment"
    assert fetched.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in fetched.headers["content-security-policy"]
    lies = [path.name for path in api.services.media.directory.rglob("*") if path.is_file()]
    assert lies == [stored.json()["sha256"]]


@pytest.mark.parametrize(
    "name", ["../../../etc/passwd", "a\x00b.mp3", "CON.mp3", "x" * 5_000 + ".mp3", '"; rm -rf /', "ă.mp3"]
)
async def test_a_file_s_own_name_becomes_nothing(api: Api, name: str) -> None:
    officer = await api.person((Role.OFFICER, "11"))
    response = await upload(api, officer, name, tone("mp3"))
    assert response.status_code in (201, 400), response.text
    for path in api.services.media.directory.rglob("*"):
        assert not path.is_file() or len(path.name) == 64
