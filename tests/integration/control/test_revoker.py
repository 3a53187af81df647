"""Revocation from the API's word to the end of a live session, with a real database and a real broker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from services.control import device_store, enrolment_store, enrolments, revocation_store
from services.control.engine_settings import EnrolmentSettings
from services.control.trust import canaries, claims
from services.control.trust.canaries import Answer
from services.control.trust.certificates import ServiceName, key_pem, new_key, parse_authority
from services.control.trust.issuer import Issuer
from services.control.trust.revoker import Revoker, run_revoker
from services.local.broker import Broker
from services.local.pki import Identity
from services.shared.clock import utc_now
from services.shared.database.pool import open_database
from services.shared.settings import BrokerSettings
from tests.support.broker import MqttClient, NotConnected
from tests.support.control import Province, some_metrics
from tests.support.database import TestDatabase

pytestmark = pytest.mark.integration


def an_issuer(broker: Broker) -> Issuer:
    pki = broker.pki
    return Issuer(
        authority=parse_authority(pki.issuing_ca.read_bytes(), pki.issuing_ca_key.read_bytes()),
        root_public_key=bytes(32),
        broker_host="localhost",
        broker_port=broker.device_port,
        broker_ca=pki.service_ca.read_text(),
        validity=timedelta(days=30),
    )


def settings_for(broker: Broker, **changes: Any) -> EnrolmentSettings:
    pki = broker.pki
    values: dict[str, Any] = {
        "ca_file": pki.issuing_ca,
        "ca_key_file": pki.issuing_ca_key,
        "root_key_file": pki.root_public_key,
        "list_file": pki.issuing_crl,
        "broker_host": "localhost",
        "broker_port": broker.device_port,
        **changes,
    }
    return EnrolmentSettings(**values)


def as_control(broker: Broker) -> BrokerSettings:
    identity = broker.pki.service(ServiceName.CONTROL)
    return BrokerSettings(
        host="localhost",
        port=broker.service_port,
        ca_file=broker.pki.service_ca,
        cert_file=identity.certificate,
        key_file=identity.key,
    )


def a_revoker(province: Province, broker: Broker, **changes: Any) -> Revoker:
    return Revoker(
        province.control,
        broker=as_control(broker),
        settings=settings_for(broker, **changes),
        issuer=an_issuer(broker),
        metrics=some_metrics(),
    )


@asynccontextmanager
async def followed(broker: Broker) -> AsyncIterator[None]:
    """Somebody beside the broker who takes up each list."""

    async def follow() -> None:
        while True:
            await asyncio.sleep(0.05)
            if broker.has_news():
                await broker.reload()

    following = asyncio.get_running_loop().create_task(follow())
    try:
        yield
    finally:
        following.cancel()
        await asyncio.wait({following})


async def enrolled(province: Province, broker: Broker, name: str, folder: Path) -> Identity:
    """A device with a certificate that control has issued."""
    number, key = await province.device(name, "tinh"), new_key()
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    code = claims.new_code()
    async with province.control.transaction() as connection:
        stored = claims.stored_form(code)
        assert stored is not None
        await enrolment_store.set_claim(
            connection, number, stored, made_by=None, at=utc_now(), expires_at=utc_now() + timedelta(days=1)
        )
    enrolled = await enrolments.enrol(
        province.control,
        an_issuer(broker),
        code=code,
        request=request.public_bytes(serialization.Encoding.PEM).decode(),
        origin="test",
        now=utc_now(),
    )
    identity = Identity(folder / f"{name}.pem", folder / f"{name}.key")
    identity.certificate.write_bytes(enrolled.certificate.public_bytes(serialization.Encoding.PEM))
    identity.key.write_bytes(key_pem(key))
    return identity


async def revoke(province: Province, name: str) -> None:
    now = utc_now()
    async with province.control.transaction() as connection:
        device = await device_store.device_for_update(connection, name, now=now)
        await enrolments.revoke(connection, device, reason="stolen", actor=None, origin=None, now=now)


async def connect(broker: Broker, name: str, identity: Identity) -> MqttClient:
    return await asyncio.to_thread(MqttClient, broker.device_port, broker.pki, identity, client_id=name)


async def test_a_revoked_device_is_thrown_out_within_seconds_and_stays_out(
    database: TestDatabase, province: Province, broker: Broker, tmp_path: Path
) -> None:
    await province.unit("tinh")
    stolen = await enrolled(province, broker, "cum-loa-1", tmp_path)
    other = await enrolled(province, broker, "cum-loa-2", tmp_path)
    async with followed(broker), open_database(database.control, application="control-test") as opened:
        running = asyncio.get_running_loop().create_task(
            run_revoker(
                opened,
                listening=database.control,
                broker=as_control(broker),
                settings=settings_for(broker),
                issuer=an_issuer(broker),
                metrics=some_metrics(),
            )
        )
        try:
            await until_in_force(province, broker)
            thief, honest = await connect(broker, "cum-loa-1", stolen), await connect(broker, "cum-loa-2", other)

            began = time.monotonic()
            await revoke(province, "cum-loa-1")
            await asyncio.to_thread(thief.wait_until_disconnected)

            assert time.monotonic() - began < 10
            with pytest.raises(NotConnected):
                await connect(broker, "cum-loa-1", stolen)
            await asyncio.to_thread(honest.publish, "loa/v1/cum-loa-2/up/event", b"undisturbed")
            thief.close()
            honest.close()
        finally:
            running.cancel()
            await asyncio.wait({running})


async def until_in_force(province: Province, broker: Broker) -> None:
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        async with province.control.connection() as connection:
            newest = await revocation_store.newest(connection, an_issuer(broker).key_id)
        if newest is not None and newest.in_force_at is not None:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("no list is in force")


async def test_before_the_list_is_in_force_nobody_is_thrown_out_and_it_shows(
    province: Province, broker: Broker, tmp_path: Path
) -> None:
    await province.unit("tinh")
    identity, revoker = await enrolled(province, broker, "cum-loa-1", tmp_path), a_revoker(province, broker)
    await revoker.turn(now=utc_now())
    await broker.reload()
    await revoker.turn(now=utc_now())
    device = await connect(broker, "cum-loa-1", identity)
    await revoke(province, "cum-loa-1")

    assert await revoker.turn(now=utc_now())  # nobody has taken the new list up
    async with province.control.connection() as connection:
        waiting, since = await revocation_store.pending(connection, an_issuer(broker).key_id, now=utc_now())
    assert waiting == 1
    assert since is not None
    assert device.disconnected is None

    await broker.reload()
    assert not await revoker.turn(now=utc_now())
    await asyncio.to_thread(device.wait_until_disconnected)
    device.close()
    async with province.control.connection() as connection:
        assert await revocation_store.pending(connection, an_issuer(broker).key_id, now=utc_now()) == (0, None)


async def test_a_list_is_signed_anew_long_before_it_runs_out_and_for_every_revocation(
    province: Province, broker: Broker, tmp_path: Path
) -> None:
    await province.unit("tinh")
    await enrolled(province, broker, "cum-loa-1", tmp_path)
    revoker, now, key = a_revoker(province, broker), utc_now(), an_issuer(broker).key_id

    async def number_at(days: float) -> int:
        await revoker.turn(now=now + timedelta(days=days))
        async with province.control.connection() as connection:
            newest = await revocation_store.newest(connection, key)
        assert newest is not None
        return newest.number

    assert [await number_at(days) for days in (0, 1, 6.9, 7, 8)] == [1, 1, 1, 2, 2]
    await revoke(province, "cum-loa-1")  # with a time before the newest list was signed
    assert await number_at(8.1) == 3
    written = x509.load_pem_x509_crl(broker.pki.issuing_crl.read_bytes())
    assert len(written) == 4  # the device, and the canaries of three lists


async def test_a_list_that_runs_out_is_told_from_one_that_is_not_in_force(
    province: Province, broker: Broker, tmp_path: Path
) -> None:
    del tmp_path
    long_ago = utc_now() - timedelta(days=31)
    revoker = a_revoker(province, broker)
    await revoker.turn(now=long_ago)
    async with province.control.connection() as connection:
        newest = await revocation_store.newest(connection, an_issuer(broker).key_id)
    assert newest is not None

    async def ask() -> Answer:
        return await canaries.ask(
            "localhost",
            broker.device_port,
            ca_file=broker.pki.service_ca,
            certificate=newest.canary_certificate,
            key=newest.canary_key,
        )

    assert await ask() is Answer.REFUSED  # the door has no list of this authority
    await broker.reload()
    assert await ask() is Answer.RUN_OUT


async def test_a_device_that_is_replaced_shuts_the_old_one_out(
    province: Province, broker: Broker, tmp_path: Path
) -> None:
    await province.unit("tinh")
    revoker = a_revoker(province, broker)
    old = await enrolled(province, broker, "cum-loa-1", tmp_path)
    await revoker.turn(now=utc_now())
    await broker.reload()
    number = province.devices["cum-loa-1"]
    async with province.control.transaction() as connection:
        await enrolment_store.revoke(connection, number, reason="replaced", by=None, at=utc_now())
    await revoker.turn(now=utc_now())
    await broker.reload()
    with pytest.raises(NotConnected):
        await connect(broker, "cum-loa-1", old)


async def in_force(revoker: Revoker, broker: Broker) -> None:
    """A first list, which the broker goes by."""
    await revoker.turn(now=utc_now())
    await broker.reload()
    await revoker.turn(now=utc_now())


async def waiting(province: Province, broker: Broker) -> int:
    async with province.control.connection() as connection:
        return (await revocation_store.pending(connection, an_issuer(broker).key_id, now=utc_now()))[0]


@pytest.mark.parametrize("why", ["of_another_authority", "run_out_before_it_was_listed"])
async def test_what_comes_on_no_list_of_ours_is_thrown_out_all_the_same_and_pages_nobody_for_ever(
    province: Province, broker: Broker, tmp_path: Path, why: str
) -> None:
    await province.unit("tinh")
    identity, revoker = await enrolled(province, broker, "cum-loa-1", tmp_path), a_revoker(province, broker)
    await in_force(revoker, broker)
    device = await connect(broker, "cum-loa-1", identity)
    match why:
        case "of_another_authority":
            await province.execute(r"UPDATE control.device_certificates SET issuer_key = '\x00'")
            await revoke(province, "cum-loa-1")
        case "run_out_before_it_was_listed":
            await revoke(province, "cum-loa-1")
            await province.execute("UPDATE control.device_certificates SET not_after = now() - interval '1 second'")
    assert await waiting(province, broker) == 1

    await revoker.turn(now=utc_now())

    await asyncio.to_thread(device.wait_until_disconnected)
    device.close()
    assert await waiting(province, broker) == 0


async def test_who_renewed_keeps_the_session_and_what_was_renewed_is_refused(
    province: Province, broker: Broker, tmp_path: Path
) -> None:
    await province.unit("tinh")
    identity, revoker = await enrolled(province, broker, "cum-loa-1", tmp_path), a_revoker(province, broker)
    await in_force(revoker, broker)
    device = await connect(broker, "cum-loa-1", identity)
    # It renewed eight days ago, as `enrolments.renew` notes it, and has been connected ever since.
    await province.execute("UPDATE control.device_certificates SET replaced_at = now() - interval '8 days'")

    await revoker.turn(now=utc_now())
    await broker.reload()
    await revoker.turn(now=utc_now())

    with pytest.raises(NotConnected):
        await connect(broker, "cum-loa-1", identity)
    await asyncio.to_thread(device.publish, "loa/v1/cum-loa-1/up/event", b"undisturbed")
    assert device.disconnected is None
    device.close()
    assert await waiting(province, broker) == 0
