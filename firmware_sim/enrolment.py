"""How a device comes by its certificate: what it asks for with its claim code or its present key, and what it makes of the
answer. Values only; `enroller` does the asking.

A device makes its key itself, and nobody else ever sees it. The same code with the same key is answered with the same
certificate, so the key is kept before anything is asked, and a lost answer is asked for again.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from firmware_sim.errors import NotOurs

ENROL, RENEW = "/api/v1/enrolments", "/api/v1/enrolments/renewals"
CONTEXT = b"loa certificate renewal v1\x00"  # what the present key signs begins with this
_READ_AS = str.maketrans("OIL", "011", " -\t")  # a code as people type it


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What a device holds once it has enrolled: PEM texts, whom it believes, and when to ask for the next certificate.

    `keys` is the key set that came with it, empty where none did: the least that a device believes which knows none.
    """

    key: str
    certificate: str
    chain: str
    root_public_key: bytes
    renew_after_ms: int
    keys: bytes = b""

    def dump(self) -> bytes:
        """As bytes for the flash."""
        return json.dumps(
            {
                "key": self.key,
                "certificate": self.certificate,
                "chain": self.chain,
                "root_public_key": self.root_public_key.hex(),
                "renew_after_ms": self.renew_after_ms,
                "keys": base64.b64encode(self.keys).decode("ascii"),
            }
        ).encode()

    @property
    def private_key(self) -> ec.EllipticCurvePrivateKey:
        """What the device signs with."""
        return _key(self.key)

    @property
    def for_tls(self) -> bytes:
        """Key and certificate as a TLS library loads them, from one file."""
        return f"{self.key}{self.certificate}".encode()


def load(content: bytes) -> Identity | None:
    """The identity in `content`; None when it is unreadable, as if there were none."""
    try:
        data = json.loads(content)
        return Identity(
            key=str(data["key"]),
            certificate=str(data["certificate"]),
            chain=str(data["chain"]),
            root_public_key=bytes.fromhex(data["root_public_key"]),
            renew_after_ms=int(data["renew_after_ms"]),
            keys=base64.b64decode(data.get("keys", ""), validate=True),
        )
    except (ValueError, KeyError, TypeError):
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A request to the platform: where, and what."""

    path: str
    body: bytes


def new_key() -> str:
    """A fresh P-256 key, PEM."""
    made = ec.generate_private_key(ec.SECP256R1())
    return made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode("ascii")


def code_name(code: str) -> str:
    """What a code is remembered by when it was used or refused; however it was typed."""
    return hashlib.sha256(code.upper().translate(_READ_AS).encode()).hexdigest()


def with_code(code: str, key: str) -> Ask:
    """Ask for the first certificate. The request names nobody: the code says which device it is."""
    return Ask(path=ENROL, body=_json({"claim_code": code, "csr": _pem(_request(key))}))


def with_present(present: Identity, key: str) -> Ask:
    """Ask for the next certificate, proving that the present key is ours."""
    request = _request(key)
    proof = _key(present.key).sign(CONTEXT + request.public_bytes(Encoding.DER), ec.ECDSA(hashes.SHA256()))
    return Ask(
        path=RENEW,
        body=_json(
            {
                "certificate": present.certificate,
                "csr": _pem(request),
                "proof": base64.b64encode(proof).decode("ascii"),
            }
        ),
    )


def read(answer: bytes, *, device: str, key: str) -> Identity:
    """The identity in an answer. Raises `NotOurs` when it is not for this device and this key."""
    try:
        data = json.loads(answer)
        certificate = x509.load_pem_x509_certificate(str(data["certificate"]).encode())
        identity = Identity(
            key=key,
            certificate=str(data["certificate"]),
            chain=str(data["chain"]),
            root_public_key=bytes.fromhex(data["root_public_key"]),
            renew_after_ms=int(datetime.fromisoformat(data["renew_after"]).timestamp() * 1_000),
            keys=base64.b64decode(data.get("keys", ""), validate=True),
        )
        names = [each.value for each in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    except (ValueError, KeyError, TypeError) as error:
        raise NotOurs(f"no answer to an enrolment: {type(error).__name__}") from None
    if names != [device] or data.get("device_id") != device:
        raise NotOurs(f"the certificate is for {names}")
    if _raw(certificate.public_key()) != _raw(_key(key).public_key()):
        raise NotOurs("the certificate is over another key")
    if len(identity.root_public_key) != 32:
        raise NotOurs("the root key is no Ed25519 key")
    return identity


def _request(key: str) -> x509.CertificateSigningRequest:
    return x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(_key(key), hashes.SHA256())


def _key(pem: str) -> ec.EllipticCurvePrivateKey:
    key = load_pem_private_key(pem.encode(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)  # we made it
    return key


def _raw(key: Any) -> bytes:
    raw: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return raw


def _pem(request: x509.CertificateSigningRequest) -> str:
    return request.public_bytes(Encoding.PEM).decode("ascii")


def _json(data: dict[str, str]) -> bytes:
    return json.dumps(data).encode()
