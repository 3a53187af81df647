"""What a device signs to renew its certificate: proof that whoever asks holds the key of the present one. Pure.

The proof is an ECDSA signature (P-256, SHA-256, DER) by the present key over `CONTEXT` and the DER of the request. It
binds the request, so whoever records and repeats it is answered with a certificate of no use to anybody else.
"""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

CONTEXT = b"loa certificate renewal v1\x00"


def proof(request: x509.CertificateSigningRequest, key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the signature with which the holder of `key` asks for what `request` asks for."""
    return key.sign(CONTEXT + request.public_bytes(serialization.Encoding.DER), ec.ECDSA(hashes.SHA256()))


def is_proven(request: x509.CertificateSigningRequest, signature: bytes, present: x509.Certificate) -> bool:
    """Whether the holder of the key in `present` has signed `request`."""
    key = present.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        return False
    try:
        key.verify(signature, CONTEXT + request.public_bytes(serialization.Encoding.DER), ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True
