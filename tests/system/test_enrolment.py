"""A device comes by its certificate itself: with the code on its label, over HTTPS, and keeps it until it is stolen.

The platform, its broker and the fleet are real; between them and control stands a proxy as in an installation, which loses
the first answer.
"""

from __future__ import annotations

import asyncio
import json
import urllib.request
from contextlib import AsyncExitStack
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any, TypeAlias

import asyncpg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from schemas import device_signing
from services.local import demo, key_sets
from services.local.platform import DATABASE, Platform, free_port, platform
from tests.support import waiting
from tests.support.https_proxy import https_proxy

DEADLINE_S = 90.0
DEVICE, GUESSER = "loa-tu-ghi-danh", "loa-doan-ma"
VALIDITY = "43215s"  # begins a day back, so two thirds of its life are over ten seconds after it was issued

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


until = partial(waiting.until, deadline_s=DEADLINE_S)


async def status_of(port: int) -> dict[str, Any]:
    def ask() -> dict[str, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=10) as response:
            status: dict[str, Any] = json.load(response)
            return status

    return await asyncio.to_thread(ask)


async def test_a_device_enrols_renews_is_shut_out_and_comes_back_as_itself(passable_tmp: Path) -> None:
    data = passable_tmp / "province"
    file, valid_from = demo.TREES[False]
    fleet_port = free_port()
    passed: list[tuple[str, int]] = []
    async with AsyncExitStack() as parts:
        units = parts.enter_context(resources.as_file(resources.files("services.control") / "data" / file))
        site = await parts.enter_async_context(platform(data, http_port=free_port()))
        await demo.found(site, units, valid_from)
        database = await asyncpg.connect(site.postgres.dsn(DATABASE))
        parts.push_async_callback(database.close)

        async def judge(path: str, status: int) -> bool:
            passed.append((path, status))
            if passed.count(("/api/v1/enrolments", 201)) == 1:
                # Control has issued a certificate and the device does not hear of it. Nor does it hear, afterwards, that
                # it was issued just now, too recently to be renewed.
                await database.execute("UPDATE control.device_certificates SET issued_at = issued_at - interval '2 h'")
                return status != 201
            return True

        await parts.enter_async_context(site.ingest())
        await parts.enter_async_context(site.control(CONTROL_ENROLMENT__CERTIFICATE_VALIDITY=VALIDITY))
        url = await parts.enter_async_context(https_proxy(site.pki.broker, site.http_port, judge))
        async with demo.person(site, demo.ADMINISTRATOR) as administrator:
            root = next(each for each in await administrator.get("/units/tree") if each["parent_id"] is None)
            rows = [
                {"device_id": each, "kind": "sensor", "unit_id": root["unit_id"], "name": each}
                for each in (DEVICE, GUESSER)
            ]
            await administrator.post("/devices/batch", {"devices": rows})
            code = (await administrator.post(f"/devices/{DEVICE}/claim"))["claim_code"]
        write_manifest(site, data / "fleet.json", {DEVICE: code.lower(), GUESSER: "00000-00000-00000-00000"})
        settings = {
            "SIM_ENROLMENT__URL": url,
            "SIM_ENROLMENT__CA_FILE": str(site.pki.service_ca),
            "SIM_ENROLMENT__LOOK_EVERY": "200ms",
            "SIM_BROKER__BACKOFF_BASE": "200ms",
            "SIM_BROKER__BACKOFF_CAP": "1s",
            "SIM_HEARTBEAT_INTERVAL": "1s",
            "SIM_READING_INTERVAL": "1s",
        }
        await parts.enter_async_context(site.fleet(data / "fleet.json", settings, status_port=fleet_port))

        async def held() -> list[dict[str, Any]]:
            rows = await database.fetch(
                "SELECT c.origin, c.revoked_at, c.certificate FROM control.device_certificates c"
                " JOIN control.devices USING (device_no) WHERE device_id = $1 ORDER BY c.issued_at, c.not_after",
                DEVICE,
            )
            return [dict(row) for row in rows]

        async def is_heard_with(configuration_at_least: int) -> bool:
            serial = await database.fetchval(
                "SELECT config_serial FROM telemetry.fleet_states JOIN control.devices USING (device_no)"
                " WHERE device_id = $1",
                DEVICE,
            )
            return serial is not None and serial >= configuration_at_least

        async def signers() -> set[bytes]:
            """The keys that what was stored of it in the last seconds was signed with; an empty one: it was not."""
            rows = await database.fetch(
                "SELECT DISTINCT coalesce(signer, '') AS signer FROM telemetry.reading_log JOIN control.devices"
                " USING (device_no) WHERE device_id = $1 AND received_at > now() - interval '3 s'"
                " AND signature IS NOT DISTINCT FROM 'verified'",
                DEVICE,
            )
            return {row["signer"] for row in rows}

        async def signs_with(certificate: bytes) -> bool:
            key = x509.load_der_x509_certificate(certificate).public_key()
            assert isinstance(key, EllipticCurvePublicKey)
            return await signers() == {device_signing.key_id(key)}

        async def is_connected() -> bool:
            return bool((await status_of(fleet_port))["connected"] == 1)

        # With the code on its label; the first answer was lost, and the same certificate came again.
        await until(is_connected, "the device is connected")
        assert passed.count(("/api/v1/enrolments", 201)) == 2
        # It obeys what is signed for it: the answer has told it whom to believe.
        await until(lambda: is_heard_with(1), "the device says which configuration it holds")

        # What it measures it signs, and that is found to be right.
        first = (await held())[0]["certificate"]
        await until(lambda: signs_with(first), "what it says is signed and verified")
        said = await database.fetch("SELECT signer FROM telemetry.event_log WHERE principal = $1", DEVICE)
        assert said, "it has said that it started"
        assert all(row["signer"] is not None for row in said)

        # Somebody who invents codes is refused once and is then quiet.
        async def is_refused() -> bool:
            return bool((await status_of(fleet_port)).get("enrolments_refused") == 1)

        await until(is_refused, "who invents codes is refused")
        assert passed.count(("/api/v1/enrolments", 401)) == 1

        # Two thirds of its life are over: it renews by itself and connects with the new certificate.
        async def has_renewed() -> bool:
            return [row["origin"] for row in await held()] == ["claim", "renewal"]

        await until(has_renewed, "the certificate is renewed")
        await until(lambda: connections_at_least(fleet_port, 2), "it has connected again")
        await until(is_connected, "it is connected with the new certificate")
        own = (data / "devices" / DEVICE / "identity.pem").read_bytes()
        renewed = (await held())[-1]["certificate"]
        assert serial_of(own, is_pem=True) == serial_of(renewed)
        await until(lambda: signs_with(renewed), "it signs with the new key, and that is known")

        # Stolen: it is thrown out, and stays out however often it tries; it has no code to ask with.
        asked = len(passed)
        async with demo.person(site, demo.ADMINISTRATOR) as administrator:
            await administrator.post(f"/devices/{DEVICE}/certificate/revoke", {"reason": "stolen"})

        async def is_thrown_out() -> bool:
            async with demo.person(site, demo.ADMINISTRATOR) as administrator:
                found = await administrator.get(f"/devices/{DEVICE}/certificates")
            return all(each["thrown_out_at"] for each in found["certificates"])

        await until(is_thrown_out, "control has ended its session")
        assert not await is_connected()
        journals = await database.fetch("SELECT DISTINCT journal FROM telemetry.events WHERE principal = $1", DEVICE)
        assert len(journals) == 1

        # It is found again: somebody types the new code, and it is the device it was, with its journal.
        async with demo.person(site, demo.ADMINISTRATOR) as administrator:
            code = (await administrator.post(f"/devices/{DEVICE}/claim"))["claim_code"]
        assert len([each for each in passed[asked:] if each[1] == 201]) == 0
        (data / "devices" / DEVICE / "claim-code").write_text(code)
        await until(is_connected, "the device is back")
        assert not (data / "devices" / DEVICE / "claim-code").exists()
        rows = await held()
        assert [row["revoked_at"] is None for row in rows] == [False, False, True]
        connected = await database.fetchval("SELECT count(*) FROM telemetry.events WHERE principal = $1", DEVICE)
        again = await database.fetch("SELECT DISTINCT journal FROM telemetry.events WHERE principal = $1", DEVICE)
        assert connected >= 1
        assert again == journals


async def connections_at_least(port: int, count: int) -> bool:
    return int((await status_of(port)).get("connections", 0)) >= count


def write_manifest(site: Platform, path: Path, codes: dict[str, str]) -> None:
    """A fleet without certificates. The root key that stands here is not believed by devices that enrol."""
    assert key_sets.root_public_key(site.pki) != bytes(32)
    devices = [{"id": device, "kind": "sensor", "claim_code": code} for device, code in codes.items()]
    path.write_text(json.dumps({"version": 1, "root_public_key": "00" * 32, "devices": devices}))


def serial_of(certificate: bytes, *, is_pem: bool = False) -> int:
    load = x509.load_pem_x509_certificate if is_pem else x509.load_der_x509_certificate
    return load(certificate).serial_number
