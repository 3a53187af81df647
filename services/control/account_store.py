"""SQL of accounts, grants, sessions, API tokens and failed logins."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from asyncpg import Record

from schemas.identifiers import UnitId
from services.control.errors import Conflict, Fault, NotFound
from services.control.permissions import NO_NARROWING, Actor, Grant, Narrowing, Permission, Role
from services.control.throttle import FORGOTTEN_AFTER, Scope
from services.shared.database.pool import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A person's account with its grants; never its password."""

    account_id: uuid.UUID
    unit_id: UnitId
    login: str
    display_name: str
    created_at: datetime
    disabled_at: datetime | None
    grants: tuple[Grant, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A login in a browser."""

    session_id: uuid.UUID
    account_id: uuid.UUID
    origin: str | None
    user_agent: str | None
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiToken:
    """A token for programs; never the token itself."""

    token_id: uuid.UUID
    name: str
    created_at: datetime
    expires_at: datetime
    narrowing: Narrowing = NO_NARROWING
    last_used_at: datetime | None = None
    last_used_origin: str | None = None


_GRANTS = """
    coalesce(
        (SELECT jsonb_agg(jsonb_build_object('unit_id', g.unit_id, 'role', g.role, 'expires_at', g.expires_at)
                          ORDER BY g.granted_at, g.unit_id, g.role)
           FROM control.role_grants g
          WHERE g.account_id = a.account_id),
        '[]'::jsonb
    ) AS grants
"""

_BY_SESSION = f"""
SELECT a.account_id, a.login, a.display_name, a.unit_id, s.session_id, s.last_seen_at,
       s.second_factor_at, {_GRANTS}
  FROM control.sessions s
  JOIN control.accounts a USING (account_id)
 WHERE s.token_hash = $1
   AND s.ended_at IS NULL
   AND s.expires_at > $2
   AND s.last_seen_at > $3
   AND a.disabled_at IS NULL
"""  # noqa: S608 - made of constants

_BY_TOKEN = f"""
SELECT a.account_id, a.login, a.display_name, a.unit_id AS unit_id, t.token_id, t.expires_at, t.permissions,
       t.unit_id AS token_unit_id, t.last_used_at, {_GRANTS}
  FROM control.api_tokens t
  JOIN control.accounts a USING (account_id)
 WHERE t.token_hash = $1
   AND t.revoked_at IS NULL
   AND t.expires_at > $2
   AND a.disabled_at IS NULL
"""  # noqa: S608 - made of constants

_ACCOUNTS = f"""
SELECT a.account_id, a.unit_id, a.login, a.display_name, a.created_at, a.disabled_at, {_GRANTS}
  FROM control.accounts a
"""  # noqa: S608 - made of constants


# --- accounts --------------------------------------------------------------------------------------------------------


async def add_account(
    connection: Connection,
    *,
    account_id: uuid.UUID,
    unit_id: UnitId,
    login: str,
    display_name: str,
    password_hash: str,
    at: datetime,
) -> None:
    """Store a new account without rights. Raises `Conflict` when the login is taken."""
    added = await connection.fetchval(
        """
        INSERT INTO control.accounts (account_id, unit_id, login, display_name, password_hash, created_at)
        VALUES ($1, $2, $3, $4, $5, $6)
            ON CONFLICT ON CONSTRAINT accounts_login_is_unique DO NOTHING
        RETURNING account_id
        """,
        account_id,
        unit_id,
        login,
        display_name,
        password_hash,
        at,
    )
    if added is None:
        raise Conflict("login_taken", faults=[Fault("login", "login_taken", {"login": login})], facts={"login": login})


async def account(connection: Connection, account_id: uuid.UUID) -> Account:
    """One account. Raises `NotFound`."""
    row = await connection.fetchrow(_ACCOUNTS + " WHERE a.account_id = $1", account_id)
    if row is None:
        raise NotFound("account_not_found", facts={"id": str(account_id)})
    return _account(row)


async def lock(connection: Connection, account_id: uuid.UUID) -> None:
    """Let operations of one person be judged one after the other, until the transaction ends."""
    await connection.execute("SELECT FROM control.accounts WHERE account_id = $1 FOR NO KEY UPDATE", account_id)


async def display_names(connection: Connection, account_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, str]:
    """What the people behind these accounts are called."""
    rows = await connection.fetch(
        "SELECT account_id, display_name FROM control.accounts WHERE account_id = ANY ($1)", list(set(account_ids))
    )
    return {row["account_id"]: row["display_name"] for row in rows}


async def login_exists(connection: Connection, login: str) -> bool:
    """Whether some account has the login, disabled or not."""
    found: bool = await connection.fetchval("SELECT EXISTS (SELECT FROM control.accounts WHERE login = $1)", login)
    return found


async def accounts_of(connection: Connection, unit_ids: Iterable[UnitId]) -> tuple[Account, ...]:
    """Accounts that belong to the units, or were granted something in them, by login."""
    rows = await connection.fetch(
        _ACCOUNTS
        + """
         WHERE a.unit_id = ANY ($1)
            OR EXISTS (SELECT FROM control.role_grants g WHERE g.account_id = a.account_id AND g.unit_id = ANY ($1))
         ORDER BY a.login
        """,
        list(unit_ids),
    )
    return tuple(_account(row) for row in rows)


async def set_disabled(connection: Connection, account_id: uuid.UUID, disabled_at: datetime | None) -> None:
    """Disable the account and end its sessions, or enable it again."""
    await connection.execute(
        "UPDATE control.accounts SET disabled_at = $2 WHERE account_id = $1", account_id, disabled_at
    )
    if disabled_at is not None:
        await connection.execute(
            "UPDATE control.sessions SET ended_at = $2 WHERE account_id = $1 AND ended_at IS NULL",
            account_id,
            disabled_at,
        )


async def password_hash(connection: Connection, login: str) -> tuple[uuid.UUID, str] | None:
    """Account and stored hash of an account that is not disabled."""
    row = await connection.fetchrow(
        "SELECT account_id, password_hash FROM control.accounts WHERE login = $1 AND disabled_at IS NULL", login
    )
    return (row["account_id"], row["password_hash"]) if row else None


async def set_password_hash(connection: Connection, account_id: uuid.UUID, value: str) -> None:
    """Replace the stored hash."""
    await connection.execute("UPDATE control.accounts SET password_hash = $2 WHERE account_id = $1", account_id, value)


# --- grants ----------------------------------------------------------------------------------------------------------


async def add_grant(
    connection: Connection, account_id: uuid.UUID, grant: Grant, *, by: uuid.UUID | None, at: datetime
) -> None:
    """Grant a role in a unit; an existing grant of the same role gets the new expiry."""
    await connection.execute(
        """
        INSERT INTO control.role_grants (account_id, unit_id, role, granted_at, granted_by, expires_at)
        VALUES ($1, $2, $3, $4, $5, $6)
            ON CONFLICT (account_id, unit_id, role)
            DO UPDATE SET expires_at = EXCLUDED.expires_at,
                          granted_at = EXCLUDED.granted_at,
                          granted_by = EXCLUDED.granted_by
        """,
        account_id,
        grant.unit_id,
        grant.role.value,
        at,
        by,
        grant.expires_at,
    )


async def remove_grant(connection: Connection, account_id: uuid.UUID, unit_id: UnitId, role: Role) -> None:
    """Take a role back. Raises `NotFound` when it was not granted."""
    removed = await connection.fetchval(
        """
        DELETE FROM control.role_grants
         WHERE account_id = $1 AND unit_id = $2 AND role = $3
        RETURNING true
        """,
        account_id,
        unit_id,
        role.value,
    )
    if not removed:
        raise NotFound("grant_not_found", facts={"role": role.value, "unit": str(unit_id)})


# --- sessions and tokens ---------------------------------------------------------------------------------------------


async def actor_of_session(
    connection: Connection, token_hash: bytes, *, now: datetime, seen_after: datetime
) -> tuple[Actor, datetime] | None:
    """Who a cookie stands for, and when it was last used; None when it stands for nobody any more."""
    row = await connection.fetchrow(_BY_SESSION, token_hash, now, seen_after)
    if row is None:
        return None
    actor = _actor(row, session_id=row["session_id"], second_factor_at=row["second_factor_at"])
    return actor, row["last_seen_at"]


async def actor_of_token(
    connection: Connection, token_hash: bytes, *, now: datetime
) -> tuple[Actor, datetime | None] | None:
    """Who an API token stands for, and when it was last used."""
    row = await connection.fetchrow(_BY_TOKEN, token_hash, now)
    if row is None:
        return None
    actor = _actor(
        row,
        token_id=row["token_id"],
        token_expires_at=row["expires_at"],
        narrowing=_narrowing(row["permissions"], row["token_unit_id"]),
    )
    return actor, row["last_used_at"]


async def touch_token(connection: Connection, token_id: uuid.UUID, *, origin: str, at: datetime) -> None:
    """Note that the token is in use, and from where."""
    await connection.execute(
        "UPDATE control.api_tokens SET last_used_at = $2, last_used_origin = $3 WHERE token_id = $1",
        token_id,
        at,
        origin,
    )


async def touch_session(connection: Connection, session_id: uuid.UUID, *, at: datetime) -> None:
    """Note that the session is in use."""
    await connection.execute("UPDATE control.sessions SET last_seen_at = $2 WHERE session_id = $1", session_id, at)


async def add_session(connection: Connection, session: Session, token_hash: bytes) -> None:
    """Store a new session."""
    await connection.execute(
        """
        INSERT INTO control.sessions
               (session_id, token_hash, account_id, origin, user_agent, created_at, last_seen_at, expires_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
        """,
        session.session_id,
        token_hash,
        session.account_id,
        session.origin,
        session.user_agent,
        session.created_at,
        session.last_seen_at,
        session.expires_at,
    )


async def sessions_of(
    connection: Connection, account_id: uuid.UUID, *, now: datetime, seen_after: datetime
) -> tuple[Session, ...]:
    """Sessions of an account that are still open, newest first."""
    rows = await connection.fetch(
        """
        SELECT session_id, account_id, origin, user_agent, created_at, last_seen_at, expires_at
          FROM control.sessions
         WHERE account_id = $1 AND ended_at IS NULL AND expires_at > $2 AND last_seen_at > $3
         ORDER BY created_at DESC
        """,
        account_id,
        now,
        seen_after,
    )
    return tuple(Session(**dict(row)) for row in rows)


async def end_session(connection: Connection, account_id: uuid.UUID, session_id: uuid.UUID, *, at: datetime) -> None:
    """End a session of the account. Raises `NotFound` when it has no such open session."""
    ended = await connection.fetchval(
        """
        UPDATE control.sessions
           SET ended_at = $3
         WHERE account_id = $1 AND session_id = $2 AND ended_at IS NULL
        RETURNING true
        """,
        account_id,
        session_id,
        at,
    )
    if not ended:
        raise NotFound("session_not_found", facts={"id": str(session_id)})


async def end_other_sessions(
    connection: Connection, account_id: uuid.UUID, keep: uuid.UUID | None, *, at: datetime
) -> int:
    """End every session of the account except one; returns how many were open."""
    ended: int = await connection.fetchval(
        """
        WITH ended AS (
            UPDATE control.sessions
               SET ended_at = $3
             WHERE account_id = $1 AND ended_at IS NULL AND session_id IS DISTINCT FROM $2
            RETURNING expires_at > $3 AS was_open
        )
        SELECT count(*) FILTER (WHERE was_open) FROM ended
        """,
        account_id,
        keep,
        at,
    )
    return ended


async def add_token(connection: Connection, account_id: uuid.UUID, token: ApiToken, token_hash: bytes) -> None:
    """Store a new API token."""
    await connection.execute(
        """
        INSERT INTO control.api_tokens
               (token_id, account_id, token_hash, name, created_at, expires_at, permissions, unit_id)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
        """,
        token.token_id,
        account_id,
        token_hash,
        token.name,
        token.created_at,
        token.expires_at,
        sorted(token.narrowing.permissions) if token.narrowing.permissions is not None else None,
        token.narrowing.unit_id,
    )


async def tokens_of(connection: Connection, account_id: uuid.UUID, *, now: datetime) -> tuple[ApiToken, ...]:
    """Tokens of an account that still open something, newest first."""
    rows = await connection.fetch(
        """
        SELECT token_id, name, created_at, expires_at, permissions, unit_id, last_used_at, last_used_origin
          FROM control.api_tokens
         WHERE account_id = $1 AND revoked_at IS NULL AND expires_at > $2
         ORDER BY created_at DESC
        """,
        account_id,
        now,
    )
    return tuple(
        ApiToken(
            token_id=row["token_id"],
            name=row["name"],
            created_at=row["created_at"],
            expires_at=row["expires_at"],
            narrowing=_narrowing(row["permissions"], row["unit_id"]),
            last_used_at=row["last_used_at"],
            last_used_origin=row["last_used_origin"],
        )
        for row in rows
    )


async def revoke_token(connection: Connection, account_id: uuid.UUID, token_id: uuid.UUID, *, at: datetime) -> None:
    """Revoke a token of the account. Raises `NotFound`."""
    revoked = await connection.fetchval(
        """
        UPDATE control.api_tokens
           SET revoked_at = $3
         WHERE account_id = $1 AND token_id = $2 AND revoked_at IS NULL
        RETURNING true
        """,
        account_id,
        token_id,
        at,
    )
    if not revoked:
        raise NotFound("token_not_found", facts={"id": str(token_id)})


async def revoke_tokens(connection: Connection, account_id: uuid.UUID, *, at: datetime) -> None:
    """Revoke every token of the account."""
    await connection.execute(
        "UPDATE control.api_tokens SET revoked_at = $2 WHERE account_id = $1 AND revoked_at IS NULL", account_id, at
    )


async def forget_what_is_over(connection: Connection, *, before: datetime, at_most: int) -> int:
    """Drop sessions and tokens that were over before an instant, some of each; returns how many were dropped."""
    dropped: int = await connection.fetchval(
        """
        WITH sessions AS (
            DELETE FROM control.sessions
             WHERE session_id IN (SELECT session_id
                                    FROM control.sessions
                                   WHERE least(expires_at, ended_at) < $1
                                   ORDER BY least(expires_at, ended_at)
                                   LIMIT $2
                                     FOR UPDATE SKIP LOCKED)
            RETURNING 1
        ), tokens AS (
            DELETE FROM control.api_tokens
             WHERE token_id IN (SELECT token_id
                                  FROM control.api_tokens
                                 WHERE least(expires_at, revoked_at) < $1
                                 ORDER BY least(expires_at, revoked_at)
                                 LIMIT $2
                                   FOR UPDATE SKIP LOCKED)
            RETURNING 1
        )
        SELECT (SELECT count(*) FROM sessions) + (SELECT count(*) FROM tokens)
        """,
        before,
        at_most,
    )
    return dropped


# --- failed logins ---------------------------------------------------------------------------------------------------


async def failures(connection: Connection, keys: Mapping[Scope, str]) -> dict[Scope, tuple[int, datetime]]:
    """Failures so far and the last of them, by what they are counted by; locks the counts until the end."""
    # Also where there is no row to be locked yet: of many who come at once each has to see the one before.
    places = [int.from_bytes(_key_hash(scope.value + keys[scope])[:8], signed=True) for scope in sorted(keys)]
    for place in places:
        await connection.execute("SELECT pg_advisory_xact_lock($1)", place)
    rows = await connection.fetch(
        """
        SELECT l.scope, l.failures, l.last_failed_at
          FROM control.login_attempts l
          JOIN unnest($1::text[], $2::bytea[]) AS k (scope, key_hash)
            ON (l.scope, l.key_hash) = (k.scope, k.key_hash)
         ORDER BY l.scope
           FOR UPDATE OF l
        """,
        [scope.value for scope in keys],
        [_key_hash(key) for key in keys.values()],
    )
    return {Scope(row["scope"]): (row["failures"], row["last_failed_at"]) for row in rows}


async def count_failure(connection: Connection, keys: Mapping[Scope, str], *, at: datetime) -> None:
    """Count one failure under every key, and forget what is old."""
    await forget_failures(connection, before=at - FORGOTTEN_AFTER)
    await connection.execute(
        """
        INSERT INTO control.login_attempts (scope, key_hash, failures, last_failed_at)
        SELECT scope, key_hash, 1, $3
          FROM unnest($1::text[], $2::bytea[]) AS k (scope, key_hash)
         ORDER BY scope
            ON CONFLICT (scope, key_hash)
            DO UPDATE SET failures = control.login_attempts.failures + 1,
                          last_failed_at = EXCLUDED.last_failed_at
        """,
        [scope.value for scope in keys],
        [_key_hash(key) for key in keys.values()],
        at,
    )


async def forget_failures(connection: Connection, *, before: datetime) -> None:
    """Drop counts whose last failure was before an instant."""
    await connection.execute("DELETE FROM control.login_attempts WHERE last_failed_at < $1", before)


async def take_back_failure(connection: Connection, keys: Mapping[Scope, str]) -> None:
    """Undo one counted failure under every key; under login and origin together, all of them."""
    scopes = [scope.value for scope in keys]
    hashes = [_key_hash(key) for key in keys.values()]
    await connection.execute(
        """
        DELETE FROM control.login_attempts l
         USING unnest($1::text[], $2::bytea[]) AS k (scope, key_hash)
         WHERE (l.scope, l.key_hash) = (k.scope, k.key_hash)
           AND (l.failures <= 1 OR l.scope = $3)
        """,
        scopes,
        hashes,
        Scope.LOGIN_AND_ORIGIN.value,
    )
    await connection.execute(
        """
        UPDATE control.login_attempts l
           SET failures = l.failures - 1
          FROM unnest($1::text[], $2::bytea[]) AS k (scope, key_hash)
         WHERE (l.scope, l.key_hash) = (k.scope, k.key_hash)
        """,
        scopes,
        hashes,
    )


def _key_hash(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def _narrowing(permissions: list[str] | None, unit_id: uuid.UUID | None) -> Narrowing:
    """As stored; a permission that there is no more lets nothing through."""
    known = {each.value for each in Permission}
    return Narrowing(
        permissions=None
        if permissions is None
        else frozenset(Permission(each) for each in permissions if each in known),
        unit_id=UnitId(unit_id) if unit_id is not None else None,
    )


def _grant(value: Mapping[str, Any]) -> Grant:
    expires_at = value["expires_at"]
    return Grant(
        unit_id=UnitId(uuid.UUID(value["unit_id"])),
        role=Role(value["role"]),
        expires_at=datetime.fromisoformat(expires_at) if expires_at else None,
    )


def _account(row: Record) -> Account:
    return Account(
        account_id=row["account_id"],
        unit_id=UnitId(row["unit_id"]),
        login=row["login"],
        display_name=row["display_name"],
        created_at=row["created_at"],
        disabled_at=row["disabled_at"],
        grants=tuple(map(_grant, row["grants"])),
    )


def _actor(
    row: Record,
    *,
    session_id: uuid.UUID | None = None,
    token_id: uuid.UUID | None = None,
    token_expires_at: datetime | None = None,
    second_factor_at: datetime | None = None,
    narrowing: Narrowing = NO_NARROWING,
) -> Actor:
    return Actor(
        account_id=row["account_id"],
        login=row["login"],
        display_name=row["display_name"],
        unit_id=UnitId(row["unit_id"]),
        grants=tuple(map(_grant, row["grants"])),
        session_id=session_id,
        token_id=token_id,
        token_expires_at=token_expires_at,
        second_factor_at=second_factor_at,
        narrowing=narrowing,
    )
