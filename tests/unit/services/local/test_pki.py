"""The private infrastructure: made once, kept, renewed in time, closed to others."""

import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from schemas.identifiers import DeviceId
from services.control.trust import certificates
from services.control.trust.certificates import ServiceName
from services.local.pki import CRL_VALIDITY, Pki, PkiDamaged, issue_devices, prepare, revoke

NOW = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)
CLUSTERS = [DeviceId.parse(f"cluster-{number:04}") for number in range(5)]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def changed(before: dict[str, bytes], after: dict[str, bytes]) -> set[str]:
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def load(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def revoked_serials(pki: Pki) -> set[int]:
    return {entry.serial_number for entry in x509.load_pem_x509_crl(pki.device_crl.read_bytes())}


def test_nobody_else_can_read_any_of_it(tmp_path: Path) -> None:
    pki = prepare(tmp_path / "pki", now=NOW)
    issue_devices(pki, CLUSTERS, now=NOW)
    for path in (pki.directory, *pki.directory.rglob("*")):
        expected = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == expected, path


def test_a_second_start_keeps_everything(tmp_path: Path) -> None:
    pki = prepare(tmp_path / "pki", now=NOW)
    issue_devices(pki, CLUSTERS, now=NOW)
    before = contents(tmp_path)
    again = prepare(tmp_path / "pki", now=NOW + timedelta(days=10))
    assert issue_devices(again, CLUSTERS, now=NOW + timedelta(days=10)).keys() == set(CLUSTERS)
    assert contents(tmp_path) == before


def test_what_is_near_its_end_is_renewed_and_the_rest_kept(tmp_path: Path) -> None:
    pki = prepare(tmp_path / "pki", now=NOW)
    issue_devices(pki, CLUSTERS, now=NOW)
    before = contents(tmp_path / "pki")

    later = NOW + CRL_VALIDITY * 0.6
    prepare(tmp_path / "pki", now=later)
    issue_devices(pki, CLUSTERS, now=later)
    assert changed(before, contents(tmp_path / "pki")) == {"device-ca.crl", "service-ca.crl"}

    later = NOW + certificates.SERVICE_VALIDITY * 0.9
    prepare(tmp_path / "pki", now=later)
    issue_devices(pki, CLUSTERS, now=later)
    services = {f"services/{name}.{ending}" for name in ServiceName for ending in ("pem", "key")}
    lists = {"device-ca.crl", "service-ca.crl"}
    assert changed(before, contents(tmp_path / "pki")) == {"broker.pem", "broker.key", *services, *lists}


def test_a_renewed_service_keeps_its_name_and_two_installations_share_none(tmp_path: Path) -> None:
    pki = prepare(tmp_path / "pki", now=NOW)
    before = {name: pki.service_user(name) for name in ServiceName}
    prepare(tmp_path / "pki", now=NOW + certificates.SERVICE_VALIDITY * 2)
    assert {name: pki.service_user(name) for name in ServiceName} == before
    other = prepare(tmp_path / "other", now=NOW)
    assert {other.service_user(name) for name in ServiceName}.isdisjoint(before.values())


def test_an_authority_near_its_end_is_replaced_with_all_it_has_signed(tmp_path: Path) -> None:
    pki = prepare(tmp_path / "pki", now=NOW)
    issue_devices(pki, CLUSTERS, now=NOW)
    before = contents(tmp_path / "pki")
    late = NOW + certificates.CA_VALIDITY - timedelta(days=100)
    prepare(tmp_path / "pki", now=late)
    identities = issue_devices(pki, CLUSTERS, now=late)
    for identity in identities.values():
        load(identity.certificate).verify_directly_issued_by(load(pki.device_ca))
    load(pki.broker.certificate).verify_directly_issued_by(load(pki.service_ca))
    assert before.keys() - changed(before, contents(tmp_path / "pki")) == {
        "signing/root.key", "signing/root.pub", "signing/platform.key", "signing/platform.pub",
    }  # fmt: skip


def test_a_revocation_is_kept_when_the_list_is_renewed_and_numbers_grow(tmp_path: Path) -> None:
    pki = prepare(tmp_path / "pki", now=NOW)
    issue_devices(pki, CLUSTERS, now=NOW)
    serials = [load(pki.device(cluster).certificate).serial_number for cluster in CLUSTERS]
    revoke(pki, CLUSTERS[0], now=NOW)
    revoke(pki, CLUSTERS[1], now=NOW)
    revoke(pki, CLUSTERS[1], now=NOW + timedelta(days=1))
    assert revoked_serials(pki) == set(serials[:2])
    number = x509.load_pem_x509_crl(pki.device_crl.read_bytes()).extensions.get_extension_for_class(x509.CRLNumber)
    assert number.value.crl_number == 4
    prepare(tmp_path / "pki", now=NOW + CRL_VALIDITY)
    assert revoked_serials(pki) == set(serials[:2])


def test_a_damaged_revocation_list_is_not_replaced_by_one_that_revokes_nobody(tmp_path: Path) -> None:
    pki = prepare(tmp_path / "pki", now=NOW)
    pki.device_crl.write_bytes(b"rubbish")
    with pytest.raises(PkiDamaged, match=r"device-ca\.crl"):
        prepare(tmp_path / "pki", now=NOW)


def test_a_half_written_certificate_is_made_again(tmp_path: Path) -> None:
    pki = prepare(tmp_path / "pki", now=NOW)
    identity = issue_devices(pki, CLUSTERS, now=NOW)[CLUSTERS[0]]
    whole = identity.certificate.read_bytes()
    for ruin in (b"", whole[: len(whole) // 2]):
        identity.certificate.write_bytes(ruin)
        issue_devices(pki, CLUSTERS, now=NOW)
        assert load(identity.certificate).subject == load(pki.device(CLUSTERS[0]).certificate).subject
    for ruin_key in (identity.key.unlink, lambda: identity.key.write_bytes(pki.broker.key.read_bytes())):
        ruin_key()
        issue_devices(pki, CLUSTERS, now=NOW)
        ssl.create_default_context().load_cert_chain(identity.certificate, identity.key)


def test_an_authority_without_its_key_is_made_again_with_all_it_has_signed(tmp_path: Path) -> None:
    pki = prepare(tmp_path / "pki", now=NOW)
    pki.service_ca_key.write_bytes(pki.device_ca_key.read_bytes())
    prepare(tmp_path / "pki", now=NOW)
    load(pki.broker.certificate).verify_directly_issued_by(load(pki.service_ca))


def test_signing_keys_are_two_and_match_their_public_halves(tmp_path: Path) -> None:
    pki = prepare(tmp_path / "pki", now=NOW)
    publics = []
    for private, public in (
        (pki.root_signing_key, pki.root_public_key),
        (pki.platform_signing_key, pki.platform_public_key),
    ):
        key = serialization.load_pem_private_key(private.read_bytes(), password=None)
        assert isinstance(key, ed25519.Ed25519PrivateKey)
        assert key.public_key() == serialization.load_pem_public_key(public.read_bytes())
        publics.append(key.public_key())
    assert publics[0] != publics[1]
