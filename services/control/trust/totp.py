"""One-time codes by time (RFC 6238) as authenticator apps make them: SHA-1, 30 seconds, six digits.

SHA-1 is what the apps in use compute; HMAC does not rest on SHA-1's resistance to collisions.
"""

from __future__ import annotations

import base64
import hmac
import secrets
from datetime import datetime
from urllib.parse import quote, urlencode

PERIOD_S = 30
DIGITS = 6
SECRET_BYTES = 20  # as many as SHA-1 gives (RFC 4226, 4 R6 asks for 16 at least)
STEPS_ASIDE = 1  # a code of the step before or after counts: clocks differ and people type slowly (RFC 6238, 5.2)


def new_secret() -> bytes:
    """A secret for one account's app."""
    return secrets.token_bytes(SECRET_BYTES)


def code_at(secret: bytes, step: int, *, digits: int = DIGITS) -> str:
    """The code of a step of time (RFC 4226, 5.3)."""
    digest = hmac.digest(secret, step.to_bytes(8, "big"), "sha1")
    offset = digest[-1] & 0x0F
    number = int.from_bytes(digest[offset : offset + 4], "big") & 0x7FFF_FFFF
    return str(number % 10**digits).zfill(digits)


def step_at(instant: datetime) -> int:
    """The step of time an instant lies in."""
    return int(instant.timestamp()) // PERIOD_S


def step_of(secret: bytes, given: str, *, now: datetime) -> int | None:
    """Which step near `now` the code belongs to; None when it is no code of any. Compared in constant time."""
    digits = "".join(given.split())
    if len(digits) != DIGITS or not digits.isascii() or not digits.isdigit():
        return None
    current = step_at(now)
    found = None
    for step in range(max(0, current - STEPS_ASIDE), current + STEPS_ASIDE + 1):
        if hmac.compare_digest(code_at(secret, step), digits):
            found = step
    return found


def as_text(secret: bytes) -> str:
    """The secret as people type it into an app."""
    return base64.b32encode(secret).decode().rstrip("=")


def address(secret: bytes, *, login: str, issuer: str) -> str:
    """The `otpauth` address apps read from a QR code."""
    facts = {"secret": as_text(secret), "issuer": issuer, "algorithm": "SHA1", "digits": DIGITS, "period": PERIOD_S}
    return f"otpauth://totp/{quote(issuer, safe='')}:{quote(login, safe='')}?{urlencode(facts, quote_via=quote)}"
