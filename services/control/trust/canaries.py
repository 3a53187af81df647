"""Asking the broker's door for devices whether it goes by a revocation list: with a certificate that is on it alone.

Only the handshake is made, in TLS 1.2, because there the door judges our certificate before the handshake ends and says
why it refuses it; nothing of MQTT is sent.
"""

from __future__ import annotations

import asyncio
import enum
import os
import socket
import ssl
import tempfile
from pathlib import Path

TIMEOUT_S = 5.0


class Answer(enum.StrEnum):
    """What the door said."""

    IN_FORCE = "in_force"  # refused as revoked
    NOT_YET = "not_yet"  # let in: it goes by an older list
    RUN_OUT = "run_out"  # its list is past its next update: it lets nobody in
    REFUSED = "refused"  # for another reason: it does not know the authority, or has no list of it
    UNREACHABLE = "unreachable"


async def ask(host: str, port: int, *, ca_file: Path, certificate: str, key: str) -> Answer:
    """Knock at the door with a certificate and its key."""
    return await asyncio.to_thread(_ask, host, port, ca_file, certificate, key)


def _ask(host: str, port: int, ca_file: Path, certificate: str, key: str) -> Answer:
    context = ssl.create_default_context(cafile=str(ca_file))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    _load(context, certificate, key)
    try:
        with (
            socket.create_connection((host, port), timeout=TIMEOUT_S) as plain,
            context.wrap_socket(plain, server_hostname=host),
        ):
            return Answer.NOT_YET
    except ssl.SSLError as error:
        reason = error.reason or ""
        if "CERTIFICATE_REVOKED" in reason:
            return Answer.IN_FORCE
        if "ALERT_CERTIFICATE_EXPIRED" in reason:
            return Answer.RUN_OUT
        return Answer.REFUSED if "ALERT" in reason else Answer.UNREACHABLE
    except OSError:
        return Answer.UNREACHABLE


def _load(context: ssl.SSLContext, certificate: str, key: str) -> None:
    """The standard library takes client certificates as files only."""
    descriptor, name = tempfile.mkstemp()
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(certificate + key)
        context.load_cert_chain(name)
    finally:
        Path(name).unlink()
