"""A certificate and its key in files, where settings want such and nobody connects."""

from pathlib import Path

from cryptography.hazmat.primitives import serialization

from services.control.trust.certificates import certificate_pem, make_device_ca
from services.shared.clock import utc_now


def tls_files(folder: Path) -> tuple[Path, Path]:
    """Certificate and private key, PEM."""
    authority = make_device_ca(now=utc_now())
    certificate, key = folder / "some.pem", folder / "some.key"
    certificate.write_bytes(certificate_pem(authority.certificate))
    key.write_bytes(
        authority.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return certificate, key
