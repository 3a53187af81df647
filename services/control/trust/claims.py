"""Claim codes: what stands on a device's label and lets it fetch its certificate, once. Pure but for the drawing.

Twenty characters of Crockford's base 32, 100 random bits, in groups of five. People type them from a label in the rain,
so case, blanks and hyphens do not matter, and O, I and L are read as the digits they look like.
"""

from __future__ import annotations

import hashlib
import secrets

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_LENGTH = 20
_GROUP = 5
_LOOKS_LIKE = str.maketrans("OIL", "011", " -\t")


def new_code() -> str:
    """Return a fresh code as it is printed."""
    drawn = "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))
    return "-".join(drawn[start : start + _GROUP] for start in range(0, _LENGTH, _GROUP))


def hash_of(code: str) -> bytes:
    """Return what is stored of a code that was drawn here."""
    stored = stored_form(code)
    assert stored is not None
    return stored


def stored_form(code: str) -> bytes | None:
    """Return what is stored and looked up of a code as somebody typed it; None when it cannot be one."""
    plain = code[:64].upper().translate(_LOOKS_LIKE)
    if len(plain) != _LENGTH or not set(plain) <= set(_ALPHABET):
        return None
    return hashlib.sha256(b"loa claim " + plain.encode("ascii")).digest()
