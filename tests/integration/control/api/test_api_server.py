"""The process itself: real sockets on IPv4 and IPv6, a real stop, and the verbs at the keyboard."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import json
import os
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

import services.control
from services.control.api.app import create_api
from services.control.app import listening_sockets, serving
from services.control.metrics import ControlMetrics
from services.control.permissions import Role
from services.control.settings import HttpSettings
from services.control.trust.certificates import ServiceName
from services.local import key_sets
from services.local.broker import Broker
from services.local.pki import Pki
from services.shared.clock import utc_now
from tests.support.control import eventually
from tests.support.control_api import PASSWORD, Api, add_media
from tests.support.database import TestDatabase

pytestmark = pytest.mark.integration

DATA = Path(services.control.__file__).parent / "data"
TOP = Path(services.control.__file__).parents[2]


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
async def test_it_listens_on_ipv4_and_ipv6_on_one_port(api: Api) -> None:
    async with serving(api.app, HttpSettings(port=0)) as addresses:
        four, six = addresses
        assert (four.startswith("127.0.0.1:"), six.startswith("[::1]:")) == (True, True)
        assert four.rpartition(":")[2] == six.rpartition(":")[2]
        async with httpx.AsyncClient(trust_env=False) as client:
            for address in addresses:
                assert (await client.get(f"http://{address}/healthz")).text == "ok\n"
    async with httpx.AsyncClient(trust_env=False) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get(f"http://{four}/healthz")


def test_an_address_this_machine_does_not_have_is_left_out_and_a_taken_one_is_an_error() -> None:
    # 192.0.2.1 stands for documentation only (RFC 5737): no machine has it.
    (only,) = listening_sockets(["127.0.0.1", "192.0.2.1"], 0)
    with only, pytest.raises(OSError, match=os.strerror(errno.EADDRINUSE)):
        listening_sockets(["127.0.0.1"], only.getsockname()[1])
    with pytest.raises(OSError, match=os.strerror(errno.EADDRNOTAVAIL)):
        listening_sockets(["192.0.2.1"], 0)


async def test_a_download_under_way_is_finished_before_the_server_stops(api: Api) -> None:
    content = os.urandom(6 * 1024 * 1024)
    sha256 = await add_media(api, content=content)
    received = bytearray()
    async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
        async with serving(api.app, HttpSettings(hosts=("127.0.0.1",), port=0)) as (address,):
            request = client.build_request("GET", f"http://{address}/media/{sha256}")
            response = await client.send(request, stream=True)
            stream = response.aiter_bytes(64 * 1024)
            received += await anext(stream)

            async def rest() -> None:
                async for chunk in stream:
                    received.extend(chunk)

            reading = asyncio.gather(rest())
        await reading
        await response.aclose()
    assert bytes(received) == content


async def test_metrics_name_routes_and_never_paths(api: Api) -> None:
    headers = await api.person((Role.VIEWER, "11"))
    await api.client.get(f"/api/v1/units/{api.units['11']}", headers=headers)
    await api.client.get("/api/v1/units/secret-looking-path/nowhere", headers=headers)
    await api.client.request("BREW", "/pot")
    text = (await api.client.get("/metrics")).text
    assert 'control_http_requests_total{method="GET",route="/api/v1/units/{unit_id}",status="200"} 1.0' in text
    assert 'route="unmatched",status="404"' in text
    assert 'method="other"' in text
    assert "secret-looking-path" not in text
    assert str(api.units["11"]) not in text


async def test_readiness_tells_what_is_missing(api: Api) -> None:
    ready = await api.client.get("/readyz")
    assert (ready.status_code, ready.json()["storage"] in ("partitioned", "timescaledb")) == (200, True)
    api.app.state.services = _replaced(api, broker_is_connected=lambda: False)
    without_broker = await api.client.get("/readyz")
    assert (without_broker.status_code, without_broker.json()["broker_connected"]) == (503, False)
    await api.database.pool.close()
    without_database = await api.client.get("/readyz")
    assert (without_database.status_code, without_database.json()["ready"]) == (503, False)
    assert (await api.client.get("/healthz")).status_code == 200


async def test_without_a_database_everybody_is_told_to_come_back(api: Api) -> None:
    headers = await api.person((Role.VIEWER, "11"))
    await api.database.pool.close()
    for path in ("/api/v1/units", "/media/" + "0" * 64):
        response = await api.client.get(path, headers=headers)
        assert (response.status_code, response.json()["code"]) == (503, "database_unavailable")
        assert response.headers["retry-after"]
    login = await api.client.post("/api/v1/sessions", json={"login": "someone", "password": PASSWORD})
    assert login.status_code == 503


async def test_a_bug_answers_without_telling_anything_of_the_inside(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    headers = await api.person((Role.VIEWER, "11"))

    class Broken:
        zone = api.services.directory.zone

        async def tree(self, *_: Any, **__: Any) -> Any:
            raise RuntimeError("secret detail of the inside")

    app = create_api(_replaced(api, directory=Broken()), ControlMetrics(CollectorRegistry()))
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://loa.test") as client:
        response = await client.get("/api/v1/units", headers=headers)
        page = await client.get("/units/x", headers=headers)
    assert (response.status_code, response.json()["code"]) == (500, "internal_error")
    assert page.status_code == 500
    for text in (response.text, page.text):
        assert "secret" not in text
        assert "Traceback" not in text
    assert "secret detail of the inside" in caplog.text
    assert response.headers["content-security-policy"]


def _replaced(api: Api, **changes: Any) -> Any:
    return dataclasses.replace(api.services, **changes)


# --- the process -----------------------------------------------------------------------------------------------------


def environment(database: TestDatabase, pki: Pki, folder: Path, broker_port: int) -> dict[str, str]:
    identity = pki.service(ServiceName.CONTROL)
    key_sets.current(pki, now=utc_now())
    (folder / "media").mkdir(exist_ok=True)
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(TOP),
        "CONTROL_DATABASE__URL": database.control.url.get_secret_value(),
        "CONTROL_BROKER__HOST": "127.0.0.1",
        "CONTROL_BROKER__PORT": str(broker_port),
        "CONTROL_BROKER__CA_FILE": str(pki.service_ca),
        "CONTROL_BROKER__CERT_FILE": str(identity.certificate),
        "CONTROL_BROKER__KEY_FILE": str(identity.key),
        "CONTROL_HTTP__HOSTS": '["127.0.0.1"]',
        "CONTROL_HTTP__PORT": "0",
        "CONTROL_MEDIA__DIRECTORY": str(folder / "media"),
        "CONTROL_MEDIA__BASE_URL": "http://127.0.0.1:8480/",
        "CONTROL_SIGNING__KEY_FILE": str(pki.platform_signing_key),
        "CONTROL_SIGNING__KEYS_FILE": str(key_sets.path(pki)),
        "CONTROL_POLICY__SECOND_FACTOR_NEEDED": "false",
    }


async def command(env: Mapping[str, str], *arguments: str, stdin: str = "") -> tuple[int, Any, str]:
    """Exit status, the JSON on standard output if any, and standard error."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.control",
        *arguments,
        env=dict(env),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate(stdin.encode())
    return process.returncode or 0, json.loads(out) if out.strip() else None, err.decode()


async def test_the_keeper_imports_units_and_makes_the_first_administrator(
    database: TestDatabase, pki: Pki, tmp_path: Path
) -> None:
    env = environment(database, pki, tmp_path, 1)
    early = await command(env, "create-administrator", "--login", "quantri", stdin=PASSWORD)
    assert (early[0], "import-units comes first" in early[2]) == (1, True)
    units = str(DATA / "bac_giang_3_level.csv")
    for opened in (220, 0):  # the second time there is nothing left to do
        status, answer, _ = await command(env, "import-units", units, "--valid-from", "2020-01-01")
        assert (status, answer["units"], answer["opened"]) == (0, 220, opened)
    weak = await command(env, "create-administrator", "--login", "quantri", stdin="12345678\n")
    assert (weak[0], "10 characters" in weak[2] or "too short" in weak[2]) == (1, True)
    made = await command(env, "create-administrator", "--login", "QuanTri", "--name", "Quản trị", stdin=f"{PASSWORD}\n")
    assert (made[0], made[1]) == (0, {"login": "quantri", "created": True})
    again = await command(env, "create-administrator", "--login", "quantri", stdin=PASSWORD)
    assert (again[0], "quantri" in again[2]) == (1, True)
    calm = await command(env, "create-administrator", "--login", "quantri", "--if-missing", stdin=PASSWORD)
    assert calm[:2] == (0, {"login": "quantri", "created": False})
    drawn = await command(env, "create-administrator", "--login", "huyen", "--unit", "213", "--generate")
    assert (drawn[0], len(drawn[1]["password"])) == (0, 20)
    lost = await command(env, "create-administrator", "--login", "khac", "--unit", "nowhere", stdin=PASSWORD)
    assert (lost[0], "0 units match" in lost[2]) == (1, True)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("code,name\n1,x\n", "file: Line 1: the header is wrong"),
        ("code,parent_code,level,name\n1,,province,\n", "lines[2].name"),
        (None, "No such file"),
    ],
)
async def test_a_faulty_file_at_the_keyboard_is_told_line_by_line(
    database: TestDatabase, pki: Pki, tmp_path: Path, content: str | None, expected: str
) -> None:
    path = tmp_path / "units.csv"
    if content is not None:
        path.write_text(content)
    env = environment(database, pki, tmp_path, 1)
    status, _, err = await command(env, "import-units", str(path), "--valid-from", "2020-01-01")
    assert status == 1
    assert expected in err
    assert "Traceback" not in err


async def test_settings_are_checked_without_showing_secrets(database: TestDatabase, pki: Pki, tmp_path: Path) -> None:
    env = environment(database, pki, tmp_path, 1)
    status, answer, _ = await command(env, "--check")
    assert status == 0
    assert answer["media"]["base_url"] == "http://127.0.0.1:8480"
    assert answer["policy"]["time_zone"] == "Asia/Ho_Chi_Minh"
    assert "**********" in answer["database"]["url"]
    wrong = {
        **env,
        "CONTROL_POLICY__TIME_ZONE": "Asia/Bac_Giang",
        "CONTROL_HTTP__PORTS": "1",
        "CONTROL_MEDIA__BASE_URL": "x",
    }
    status, _, err = await command(wrong, "--check")
    assert status == 2
    for name in ("CONTROL_POLICY__TIME_ZONE", "did you mean CONTROL_HTTP__PORT", "CONTROL_MEDIA__BASE_URL"):
        assert name in err
    status, _, err = await command(
        {**env, "CONTROL_MEDIA__BASE_URL": ""}, "import-units", "x", "--valid-from", "2020-01-01"
    )
    assert status in (1, 2)


async def test_what_cannot_be_started_with_is_one_line_that_names_the_setting(
    database: TestDatabase, pki: Pki, tmp_path: Path
) -> None:
    env = environment(database, pki, tmp_path, 1)
    nonsense = tmp_path / "nonsense"
    nonsense.write_text("nonsense\n")
    enrolment = {
        "CONTROL_ENROLMENT__CA_FILE": str(pki.service_ca),
        "CONTROL_ENROLMENT__CA_KEY_FILE": str(nonsense),
        "CONTROL_ENROLMENT__ROOT_KEY_FILE": str(nonsense),
        "CONTROL_ENROLMENT__BROKER_HOST": "localhost",
    }
    password = database.control.url.get_secret_value().replace("://loa_control:", "://loa_control:x")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        for change, expected in (
            ({"CONTROL_HTTP__PORT": str(taken.getsockname()[1])}, "CONTROL_HTTP__PORT: "),
            ({"CONTROL_MEDIA__DIRECTORY": str(nonsense)}, f"CONTROL_MEDIA__DIRECTORY: {nonsense}/"),
            ({"CONTROL_SIGNING__KEYS_FILE": str(nonsense)}, f"{nonsense}: not a signed key set"),
            ({"CONTROL_SESSIONS__SECRET_KEYS_FILE": str(nonsense)}, "CONTROL_SESSIONS__SECRET_KEYS_FILE: "),
            (enrolment, "CONTROL_ENROLMENT__CA_FILE "),
            ({"CONTROL_DATABASE__URL": password}, "CONTROL_DATABASE__URL: the password is not the one of this user"),
        ):
            status, _, err = await command({**env, "CONTROL_LOG__LEVEL": "error", **change})
            assert status in (1, 2), err
            assert expected in err
            assert err.count("\n") == 1, err


async def test_the_document_is_printed_without_any_settings() -> None:
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(TOP)}
    status, answer, _ = await command(env, "openapi")
    assert (status, answer["info"]["title"]) == (0, "Loa")
    assert "/api/v1/broadcasts" in answer["paths"]


async def test_the_process_becomes_ready_and_stops_when_told(
    database: TestDatabase, pki: Pki, broker: Broker, tmp_path: Path
) -> None:
    env = environment(database, pki, tmp_path, broker.service_port)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.control",
        env={**env, "CONTROL_HTTP__PORT": str(port)},
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with httpx.AsyncClient(trust_env=False, base_url=f"http://127.0.0.1:{port}") as client:

            async def is_ready() -> bool:
                try:
                    return (await client.get("/readyz")).status_code == 200
                except httpx.TransportError:
                    return False

            await eventually(is_ready, what="control to be ready")
            facts = (await client.get("/readyz")).json()
            assert (facts["database"], facts["broker_connected"]) == ("ok", True)
            assert "control_broker_connected 1.0" in (await client.get("/metrics")).text
        process.send_signal(signal.SIGTERM)
        _, err = await asyncio.wait_for(process.communicate(), timeout=20)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, err.decode()[-2_000:]
    assert "Traceback" not in err.decode()
