"""What is signed, for whom, and what is refused."""

import ssl
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from schemas.errors import InvalidIdentifier
from schemas.identifiers import DeviceId
from services.control.trust import certificates
from services.control.trust.certificates import (
    CertificateRefused,
    RefusalReason,
    Revocation,
    ServiceName,
    ServiceUser,
)
from services.shared.clock import utc_now

NOW = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)
DEVICE_CA = certificates.make_device_ca(now=NOW)
SERVICE_CA = certificates.make_service_ca(now=NOW)
KEY = certificates.new_key()
CLUSTER = DeviceId.parse("cluster-a")


def a_csr(
    *, common_name: str = "whatever-it-says", key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey = KEY
) -> x509.CertificateSigningRequest:
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(
            x509.Name(
                [
                    x509.NameAttribute(NameOID.COMMON_NAME, common_name),
                    x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Trust me"),
                ]
            )
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("ingest")]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )


def common_names(certificate: x509.Certificate) -> list[str | bytes]:
    return [attribute.value for attribute in certificate.subject]


def usages(certificate: x509.Certificate) -> list[x509.ObjectIdentifier]:
    return list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)


def test_a_request_decides_the_key_and_nothing_else() -> None:
    request = a_csr(common_name="ingest")
    certificate = certificates.issue_device_certificate(DEVICE_CA, CLUSTER, request, now=NOW)
    assert common_names(certificate) == ["cluster-a"]
    assert certificate.public_key() == KEY.public_key()
    assert usages(certificate) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    with pytest.raises(x509.ExtensionNotFound):
        certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)


@pytest.mark.parametrize(
    "name", [*ServiceName, "area", "ab", "-ab", "AB-CD", "a+b", "cluster/a", "cluster a", "ingest:1", ""]
)
def test_a_name_that_is_not_a_device_id_is_never_signed(name: str) -> None:
    with pytest.raises(InvalidIdentifier):
        certificates.issue_device_certificate(DEVICE_CA, DeviceId(name), KEY.public_key(), now=NOW)


def test_a_request_must_be_signed_by_the_key_it_asks_for() -> None:
    signed = a_csr().public_bytes(serialization.Encoding.DER)
    forged = certificates.parse_csr(signed[:-1] + bytes([signed[-1] ^ 1]))
    with pytest.raises(CertificateRefused) as refused:
        certificates.issue_device_certificate(DEVICE_CA, CLUSTER, forged, now=NOW)
    assert refused.value.reason is RefusalReason.NO_PROOF_OF_POSSESSION


def test_a_request_with_another_kind_of_key_is_refused() -> None:
    requests = {
        "P-384": a_csr(key=ec.generate_private_key(ec.SECP384R1())),
        "RSA": a_csr(key=rsa.generate_private_key(public_exponent=65537, key_size=2048)),
    }
    for request in requests.values():
        with pytest.raises(CertificateRefused) as refused:
            certificates.issue_device_certificate(DEVICE_CA, CLUSTER, request, now=NOW)
        assert refused.value.reason is RefusalReason.UNSUPPORTED_KEY


@pytest.mark.parametrize("encoding", [serialization.Encoding.PEM, serialization.Encoding.DER])
def test_a_request_is_read_in_either_encoding(encoding: serialization.Encoding) -> None:
    assert certificates.parse_csr(a_csr().public_bytes(encoding)).is_signature_valid


@pytest.mark.parametrize("data", [b"", b"rubbish", b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END", b"\x30\x82"])
def test_what_is_no_request_is_refused_as_malformed(data: bytes) -> None:
    with pytest.raises(CertificateRefused) as refused:
        certificates.parse_csr(data)
    assert refused.value.reason is RefusalReason.MALFORMED


def test_each_authority_vouches_for_its_own_only() -> None:
    device = certificates.issue_device_certificate(DEVICE_CA, CLUSTER, KEY.public_key(), now=NOW)
    device.verify_directly_issued_by(DEVICE_CA.certificate)
    with pytest.raises(ValueError, match="does not match"):
        device.verify_directly_issued_by(SERVICE_CA.certificate)


def test_nobody_but_the_broker_can_pass_for_the_broker() -> None:
    server = certificates.issue_server_certificate(
        SERVICE_CA, ["localhost", "127.0.0.1", "::1"], KEY.public_key(), now=NOW
    )
    service = certificates.issue_service_certificate(
        SERVICE_CA, ServiceUser.new(ServiceName.INGEST), KEY.public_key(), now=NOW
    )
    assert usages(server) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert usages(service) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]


def test_a_services_name_says_whose_it_is_and_is_never_the_same_twice() -> None:
    for name in ServiceName:
        first, second = ServiceUser.new(name), ServiceUser.new(name)
        assert first != second
        assert ServiceUser.parse(first).service is name
        certificate = certificates.issue_service_certificate(SERVICE_CA, first, KEY.public_key(), now=NOW)
        assert certificates.common_name(certificate) == first


@pytest.mark.parametrize("text", ["", "ingest", "ingest:", "ingest:1", f"Ingest:{'a' * 32}", f"cluster:{'a' * 32}",
                                  f"ingest:{'a' * 33}", f"ingest:{'a' * 32}\n"])  # fmt: skip
def test_any_other_name_is_no_services_and_is_not_signed(text: str) -> None:
    with pytest.raises(ValueError, match="not the user name of a service"):
        certificates.issue_service_certificate(SERVICE_CA, ServiceUser(text), KEY.public_key(), now=NOW)


def test_a_certificate_is_good_for_a_while_and_not_longer_than_its_authority() -> None:
    certificate = certificates.issue_device_certificate(
        DEVICE_CA, CLUSTER, KEY.public_key(), now=NOW, valid_for=timedelta(days=10)
    )
    assert certificate.not_valid_before_utc == NOW - certificates.BACKDATE
    assert certificate.not_valid_after_utc == NOW + timedelta(days=10)
    late = NOW + certificates.CA_VALIDITY - timedelta(days=1)
    last = certificates.issue_device_certificate(DEVICE_CA, CLUSTER, KEY.public_key(), now=late)
    assert last.not_valid_after_utc == DEVICE_CA.certificate.not_valid_after_utc


def test_an_authority_cannot_make_further_authorities() -> None:
    for ca in (DEVICE_CA, SERVICE_CA):
        constraints = ca.certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        assert constraints.critical
        assert (constraints.value.ca, constraints.value.path_length) == (True, 0)


def test_a_revocation_list_names_who_is_out_and_until_when_it_speaks() -> None:
    revoked_at = NOW - timedelta(hours=3)
    crl = certificates.make_crl(
        DEVICE_CA,
        [Revocation(serial=9, revoked_at=revoked_at), Revocation(serial=4, revoked_at=NOW)],
        now=NOW,
        next_update=NOW + timedelta(days=7),
        number=3,
    )
    assert crl.is_signature_valid(DEVICE_CA.certificate.public_key())  # type: ignore[arg-type]
    assert [entry.serial_number for entry in crl] == [4, 9]
    entry = crl.get_revoked_certificate_by_serial_number(9)
    assert entry is not None
    assert entry.revocation_date_utc == revoked_at
    assert crl.next_update_utc == NOW + timedelta(days=7)
    assert crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == 3


def test_an_authority_is_read_back_from_its_files_and_only_with_its_own_key() -> None:
    pem = certificates.certificate_pem(DEVICE_CA.certificate)
    again = certificates.parse_authority(pem, certificates.key_pem(DEVICE_CA.key))
    assert again.certificate == DEVICE_CA.certificate
    with pytest.raises(ValueError, match="not the one"):
        certificates.parse_authority(pem, certificates.key_pem(SERVICE_CA.key))
    ed25519_key = ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with pytest.raises(ValueError, match="elliptic-curve"):
        certificates.parse_authority(pem, ed25519_key)


def test_an_instant_in_another_zone_means_the_same() -> None:
    elsewhere = NOW.astimezone(timezone(timedelta(hours=7)))
    certificate = certificates.issue_device_certificate(DEVICE_CA, CLUSTER, KEY.public_key(), now=elsewhere)
    assert certificate.not_valid_before_utc == NOW - certificates.BACKDATE


@pytest.fixture
def doors(tmp_path: Path) -> "Doors":
    return Doors(tmp_path)


class Doors:
    """A broker and its clients as OpenSSL sees them, with every strictness it has, over a connection in memory.

    Certificates here are made for today, because OpenSSL has no other clock.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = utc_now()
        self.device_ca = certificates.make_device_ca(now=self.now)
        self.service_ca = certificates.make_service_ca(now=self.now)

    def file(self, *parts: bytes) -> Path:
        path = self.folder / f"{len(list(self.folder.iterdir()))}.pem"
        path.write_bytes(b"".join(parts))
        return path

    def listener(self, *revoked: x509.Certificate) -> ssl.SSLContext:
        """The device listener, with its revocation list."""
        key = certificates.new_key()
        own = certificates.issue_server_certificate(self.service_ca, ["localhost"], key.public_key(), now=self.now)
        crl = certificates.make_crl(
            self.device_ca,
            [Revocation(serial=one.serial_number, revoked_at=self.now) for one in revoked],
            now=self.now,
            next_update=self.now + timedelta(days=7),
            number=1,
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.file(certificates.certificate_pem(own), certificates.key_pem(key)))
        context.load_verify_locations(
            self.file(certificates.certificate_pem(self.device_ca.certificate), certificates.crl_pem(crl))
        )
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_CRL_CHECK_LEAF
        return context

    def client(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=certificates.certificate_pem(self.service_ca.certificate).decode())
        context.load_cert_chain(self.file(certificates.certificate_pem(certificate), certificates.key_pem(key)))
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context


def shake_hands(server_context: ssl.SSLContext, client_context: ssl.SSLContext, *, name: str = "localhost") -> None:
    """Raise what either side raises."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(down, up, server_hostname=name)
    server = server_context.wrap_bio(up, down, server_side=True)
    waiting = [client, server]
    for _ in range(10):
        for side in list(waiting):
            try:
                side.do_handshake()
                waiting.remove(side)
            except ssl.SSLWantReadError:
                pass
    assert not waiting, "the handshake did not end"


def test_openssl_at_its_strictest_lets_a_device_in(doors: Doors) -> None:
    device = certificates.issue_device_certificate(doors.device_ca, CLUSTER, a_csr(), now=doors.now)
    shake_hands(doors.listener(), doors.client(device, KEY))


def test_openssl_shuts_a_revoked_device_out_and_not_its_neighbour(doors: Doors) -> None:
    revoked, neighbour = (
        certificates.issue_device_certificate(doors.device_ca, DeviceId.parse(name), a_csr(), now=doors.now)
        for name in ("cluster-a", "cluster-b")
    )
    listener = doors.listener(revoked)
    shake_hands(listener, doors.client(neighbour, KEY))
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        shake_hands(listener, doors.client(revoked, KEY))


def test_openssl_takes_no_service_for_a_device(doors: Doors) -> None:
    service = certificates.issue_service_certificate(
        doors.service_ca, ServiceUser.new(ServiceName.INGEST), KEY.public_key(), now=doors.now
    )
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        shake_hands(doors.listener(), doors.client(service, KEY))


def test_openssl_takes_no_device_or_service_for_the_broker(doors: Doors) -> None:
    device = certificates.issue_device_certificate(doors.device_ca, CLUSTER, a_csr(), now=doors.now)
    service = certificates.issue_service_certificate(
        doors.service_ca, ServiceUser.new(ServiceName.CONTROL), KEY.public_key(), now=doors.now
    )
    for impostor in (device, service):
        listener = doors.listener()
        listener.load_cert_chain(doors.file(certificates.certificate_pem(impostor), certificates.key_pem(KEY)))
        with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
            shake_hands(listener, doors.client(device, KEY))
