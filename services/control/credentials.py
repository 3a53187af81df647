"""What a client shows to be let in: session cookies, CSRF tokens and API tokens. Random, and stored as hashes only."""

from __future__ import annotations

import hashlib
import hmac
import secrets

TOKEN_PREFIX = "loa_"  # noqa: S105 - lets secret scanners find a token that leaked


def new_session_token() -> str:
    """A cookie's value: 256 random bits."""
    return secrets.token_urlsafe(32)


def new_api_token() -> str:
    """A bearer token: 256 random bits behind a prefix."""
    return TOKEN_PREFIX + secrets.token_urlsafe(32)


def stored_form(token: str) -> bytes:
    """What is stored and looked up; the token has enough entropy for a plain hash."""
    return hashlib.sha256(token.encode()).digest()


def csrf_token(session_token: str) -> str:
    """The token that must come with unsafe requests of a session: only who can read the cookie can make it."""
    return hmac.digest(session_token.encode(), b"loa csrf token", "sha256").hex()


def is_csrf_token(given: str | None, session_token: str) -> bool:
    """Whether `given` is the session's token; compared in constant time."""
    return given is not None and hmac.compare_digest(given.encode(), csrf_token(session_token).encode())
