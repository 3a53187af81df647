"""Passwords: argon2id, in a thread, a few at a time; and the rules for new ones.

Hashing costs memory and time on purpose, so its concurrency is bounded: a flood of logins waits, it does not eat the
machine. Whoever does not exist costs as much as a wrong password.
"""

from __future__ import annotations

import asyncio
import secrets
import string

import argon2
from argon2.exceptions import InvalidHashError, VerifyMismatchError

MIN_LENGTH = 10
MAX_LENGTH = 200
_CONCURRENT = 2
# Without letters and digits that look alike, so that it can be read out on the telephone.
_READABLE = "".join(sorted(set(string.ascii_letters + string.digits) - set("0O1lI")))

# What officers elsewhere were hijacked by (S-04), and what people type when told to use ten characters.
_WELL_KNOWN = frozenset(
    {"8888888888", "1234567890", "0123456789", "1111111111", "password123", "matkhau123", "qwertyuiop", "administrator"}
)


def faults_of(password: str, *, login: str) -> tuple[str, ...]:
    """Codes of what is wrong with a new password; none: it may be used."""
    if len(password) < MIN_LENGTH:
        return ("password_too_short",)
    if len(password) > MAX_LENGTH:
        return ("password_too_long",)
    folded = password.casefold()
    if folded in _WELL_KNOWN or len(set(folded)) < 4 or folded in {login * 2, login} or login in folded:
        return ("password_too_easy",)
    return ()


def generated() -> str:
    """A new password of 20 readable characters (116 bits)."""
    return "".join(secrets.choice(_READABLE) for _ in range(20))


class Passwords:
    """Makes and checks hashes. The costs are those of argon2-cffi (RFC 9106, low memory) unless told otherwise."""

    def __init__(self, hasher: argon2.PasswordHasher | None = None) -> None:
        self._hasher = hasher or argon2.PasswordHasher()
        self._limit = asyncio.Semaphore(_CONCURRENT)
        self._nobody: str | None = None

    async def hash(self, password: str) -> str:
        """A salted hash to store."""
        async with self._limit:
            return await asyncio.to_thread(self._hasher.hash, password)

    async def matches(self, password: str, stored: str | None) -> bool:
        """Whether `password` is the one behind `stored`; with None, False after as long a time."""
        if self._nobody is None:
            self._nobody = await self.hash(secrets.token_urlsafe())
        async with self._limit:
            is_right = await asyncio.to_thread(self._verify, stored or self._nobody, password)
        return is_right and stored is not None

    def is_outdated(self, stored: str) -> bool:
        """Whether the hash was made with other costs than today's."""
        return self._hasher.check_needs_rehash(stored)

    def _verify(self, stored: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored, password)
        except (VerifyMismatchError, InvalidHashError):
            return False
