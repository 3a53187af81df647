"""What people do with accounts: log in, be created, be granted roles, be disabled. Works inside the caller's transaction.

Rules: an administrator acts on accounts of own units only, grants nothing above own rights (neither outside the own
subtree nor for longer than own rights last), and never changes own rights.
"""

from __future__ import annotations

import logging
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta

from schemas.identifiers import UnitId
from services.control import account_store, audit, credentials, passwords, throttle
from services.control.account_store import Account, ApiToken, Session
from services.control.audit import Entry
from services.control.errors import Fault, Forbidden, Invalid, TooManyAttempts, Unauthenticated
from services.control.passwords import Passwords
from services.control.permissions import NO_NARROWING, Actor, Grant, Narrowing, Permission, Rights
from services.control.throttle import Scope
from services.shared.database.pool import Connection, Database

log = logging.getLogger(__name__)

TOUCH_AFTER = timedelta(minutes=1)  # how stale "last seen" may be; saves a write per request


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedIn:
    """A new session, whose it is, and the value of its cookie, which is kept nowhere else."""

    session: Session
    account: Account
    token: str


async def log_in(
    database: Database,
    hashes: Passwords,
    *,
    login: str,
    password: str,
    origin: str,
    user_agent: str | None,
    lifetime: timedelta,
    now: datetime,
) -> LoggedIn:
    """Open a session. Raises `Unauthenticated` or, while too many failures make one wait, `TooManyAttempts`."""
    login = login.strip().lower()
    account_id, stored = await _proven(database, hashes, login=login, password=password, origin=origin, now=now)
    renewed = await hashes.hash(password) if hashes.is_outdated(stored) else None
    token = credentials.new_session_token()
    session = Session(
        session_id=uuid.uuid4(),
        account_id=account_id,
        origin=origin,
        user_agent=user_agent[:200] if user_agent else None,
        created_at=now,
        last_seen_at=now,
        expires_at=now + lifetime,
    )
    async with database.transaction() as connection:
        if renewed is not None:
            await account_store.set_password_hash(connection, account_id, renewed)
        await account_store.add_session(connection, session, credentials.stored_form(token))
        who = await account_store.account(connection, account_id)
        await audit.record(
            connection,
            Entry(action="logged_in", subject=f"session:{session.session_id}", unit_id=who.unit_id),
            actor=actor_of(who, session_id=session.session_id),
            origin=origin,
            at=now,
        )
    return LoggedIn(session=session, account=who, token=token)


async def _proven(
    database: Database, hashes: Passwords, *, login: str, password: str, origin: str, now: datetime
) -> tuple[uuid.UUID, str]:
    """Account and stored hash behind a right password. Raises `Unauthenticated` or `TooManyAttempts`.

    The failure is counted before the password is checked and taken back when it was right, so that many attempts at
    once do not slip through between counting and checking.
    """
    network = throttle.network_of(origin)
    keys = {
        Scope.LOGIN_AND_ORIGIN: f"{login}\n{network}",
        Scope.LOGIN: login,
        Scope.ORIGIN: network,
    }
    async with database.transaction() as connection:
        counted = await account_store.failures(connection, keys)
        longest = max(
            (throttle.wait(scope, count, last, now=now) for scope, (count, last) in counted.items()),
            default=timedelta(0),
        )
        if longest > timedelta(0):
            log.warning("login_throttled", extra={"origin": origin, "wait_s": int(longest.total_seconds()) + 1})
            raise TooManyAttempts("too_many_logins", retry_after_s=int(longest.total_seconds()) + 1)
        await account_store.count_failure(connection, keys, at=now)
        # What cannot be a login is nobody's, and the database would not even take a zero byte.
        known = await account_store.password_hash(connection, login) if login.isprintable() else None
    is_right = await hashes.matches(password, known[1] if known else None)
    if not is_right or known is None:
        # Not the login: people type their password into that field too.
        log.warning("login_failed", extra={"origin": origin, "account_id": str(known[0]) if known else None})
        raise Unauthenticated("wrong_login_or_password")
    async with database.transaction() as connection:
        await account_store.take_back_failure(connection, keys)
    return known


async def prove_password(
    database: Database, hashes: Passwords, *, actor: Actor, password: str, origin: str | None, now: datetime
) -> None:
    """Have the actor give their password once more. Raises as logging in does."""
    await _proven(database, hashes, login=actor.login, password=password, origin=origin or "", now=now)


def actor_of(account: Account, *, session_id: uuid.UUID | None = None) -> Actor:
    """The account as somebody who acts."""
    return Actor(
        account_id=account.account_id,
        login=account.login,
        display_name=account.display_name,
        unit_id=account.unit_id,
        grants=account.grants,
        session_id=session_id,
    )


async def create_account(
    connection: Connection,
    *,
    account: Account,
    password_hash: str,
    rights: Rights | None,
    actor: Actor | None,
    origin: str | None,
    now: datetime,
) -> None:
    """Store the account with its grants. Without `rights` it is the platform's keeper at its own keyboard.

    Raises `Forbidden` for a grant above own rights, `Conflict` when the login is taken.
    """
    if rights is not None:
        check_grants(account.grants, rights, field="grants")
    await account_store.add_account(
        connection,
        account_id=account.account_id,
        unit_id=account.unit_id,
        login=account.login,
        display_name=account.display_name,
        password_hash=password_hash,
        at=now,
    )
    by = actor.account_id if actor else None
    for grant in account.grants:
        await account_store.add_grant(connection, account.account_id, grant, by=by, at=now)
    await audit.record(
        connection,
        Entry(
            action="account_created",
            subject=f"account:{account.account_id}",
            unit_id=account.unit_id,
            after={"login": account.login, "name": account.display_name, "grants": described(account.grants)},
        ),
        actor=actor,
        origin=origin,
        at=now,
    )


def check_grants(grants: tuple[Grant, ...], rights: Rights, *, field: str) -> None:
    """Raise `Forbidden` when a grant goes beyond what the granter may give."""
    faults = [
        fault
        for position, grant in enumerate(grants)
        if (fault := _grant_fault(grant, rights, f"{field}[{position}]")) is not None
    ]
    if faults:
        raise Forbidden("grant_above_own_rights", faults=faults)


def _grant_fault(grant: Grant, rights: Rights, field: str) -> Fault | None:
    if not rights.may(Permission.MANAGE_ACCOUNTS, grant.unit_id):
        return Fault(f"{field}.unit_id", "unit_outside_own_subtree", {"unit": str(grant.unit_id)})
    own_end = rights.lasts_until(Permission.MANAGE_ACCOUNTS, grant.unit_id)
    if own_end is not None and (grant.expires_at is None or grant.expires_at > own_end):
        return Fault(f"{field}.expires_at", "grant_outlasts_own", {"latest": own_end.isoformat()})
    return None


def check_may_manage(account: Account, rights: Rights, actor: Actor) -> None:
    """Raise `Forbidden` unless everything the account is and may lies below the actor's administration."""
    if account.account_id == actor.account_id:
        raise Forbidden("own_rights_untouchable")
    units = {account.unit_id, *(grant.unit_id for grant in account.grants)}
    if not all(rights.may(Permission.MANAGE_ACCOUNTS, unit_id) for unit_id in units):
        raise Forbidden("account_beyond_own_rights", facts={"login": account.login})


async def grant_role(
    connection: Connection,
    account: Account,
    grant: Grant,
    *,
    rights: Rights,
    actor: Actor,
    origin: str | None,
    now: datetime,
) -> Account:
    """Grant a role to an existing account. Raises `Forbidden` as the rules say."""
    if account.account_id == actor.account_id:
        raise Forbidden("own_rights_untouchable")
    fault = _grant_fault(grant, rights, "grant")
    if fault is not None:
        raise Forbidden(
            "grant_above_own_rights", faults=[Fault(fault.field.removeprefix("grant."), fault.code, fault.facts)]
        )
    await account_store.add_grant(connection, account.account_id, grant, by=actor.account_id, at=now)
    return await _record_grants(connection, account, grant, "role_granted", actor=actor, origin=origin, now=now)


async def revoke_role(
    connection: Connection,
    account: Account,
    grant: Grant,
    *,
    rights: Rights,
    actor: Actor,
    origin: str | None,
    now: datetime,
) -> Account:
    """Take a role back. Raises `Forbidden`, or `NotFound` when it was not granted."""
    if account.account_id == actor.account_id:
        raise Forbidden("own_rights_untouchable")
    if not rights.may(Permission.MANAGE_ACCOUNTS, grant.unit_id):
        raise Forbidden(
            "grant_above_own_rights",
            faults=[Fault("unit_id", "unit_outside_own_subtree", {"unit": str(grant.unit_id)})],
        )
    await account_store.remove_grant(connection, account.account_id, grant.unit_id, grant.role)
    return await _record_grants(connection, account, grant, "role_revoked", actor=actor, origin=origin, now=now)


async def _record_grants(
    connection: Connection,
    account: Account,
    grant: Grant,
    action: str,
    *,
    actor: Actor,
    origin: str | None,
    now: datetime,
) -> Account:
    changed = await account_store.account(connection, account.account_id)
    await audit.record(
        connection,
        Entry(
            action=action,
            subject=f"account:{account.account_id}",
            unit_id=grant.unit_id,
            before={"grants": described(account.grants)},
            after={"grants": described(changed.grants)},
        ),
        actor=actor,
        origin=origin,
        at=now,
    )
    return changed


async def set_disabled(
    connection: Connection,
    account: Account,
    *,
    disabled: bool,
    rights: Rights,
    actor: Actor,
    origin: str | None,
    now: datetime,
) -> Account:
    """Disable an account (its sessions end, its tokens are void) or enable it again. Raises `Forbidden`."""
    check_may_manage(account, rights, actor)
    await account_store.set_disabled(connection, account.account_id, now if disabled else None)
    if disabled:
        # Enabling an account again must not bring its old tokens back to life.
        await account_store.revoke_tokens(connection, account.account_id, at=now)
    await audit.record(
        connection,
        Entry(
            action="account_disabled" if disabled else "account_enabled",
            subject=f"account:{account.account_id}",
            unit_id=account.unit_id,
            before={"is_disabled": account.disabled_at is not None},
            after={"is_disabled": disabled},
        ),
        actor=actor,
        origin=origin,
        at=now,
    )
    return await account_store.account(connection, account.account_id)


async def change_own_password(
    database: Database,
    hashes: Passwords,
    *,
    actor: Actor,
    old: str,
    new: str,
    origin: str | None,
    now: datetime,
) -> None:
    """Replace the actor's password; the other sessions end and every token is void. Raises `Invalid`, or as logging in does."""
    codes = passwords.faults_of(new, login=actor.login)
    if codes:
        raise Invalid(
            *(
                Fault("new_password", code, {"minimum": passwords.MIN_LENGTH, "maximum": passwords.MAX_LENGTH})
                for code in codes
            )
        )
    await prove_password(database, hashes, actor=actor, password=old, origin=origin, now=now)
    value = await hashes.hash(new)
    async with database.transaction() as connection:
        await account_store.set_password_hash(connection, actor.account_id, value)
        # Whoever knew the old password may have made one.
        await account_store.end_other_sessions(connection, actor.account_id, actor.session_id, at=now)
        await account_store.revoke_tokens(connection, actor.account_id, at=now)
        await audit.record(
            connection,
            Entry(action="password_changed", subject=f"account:{actor.account_id}", unit_id=actor.unit_id),
            actor=actor,
            origin=origin,
            at=now,
        )


async def end_sessions(
    connection: Connection,
    account_id: uuid.UUID,
    unit_id: UnitId,
    *,
    keep: uuid.UUID | None = None,
    actor: Actor,
    origin: str | None,
    now: datetime,
) -> int:
    """End every open session of an account except one; returns how many there were."""
    ended = await account_store.end_other_sessions(connection, account_id, keep, at=now)
    await audit.record(
        connection,
        Entry(action="sessions_ended", subject=f"account:{account_id}", unit_id=unit_id, after={"sessions": ended}),
        actor=actor,
        origin=origin,
        at=now,
    )
    return ended


async def revoke_token(
    connection: Connection,
    account_id: uuid.UUID,
    unit_id: UnitId,
    token_id: uuid.UUID,
    *,
    actor: Actor,
    origin: str | None,
    now: datetime,
) -> None:
    """Make a token of an account void. Raises `NotFound`."""
    await account_store.revoke_token(connection, account_id, token_id, at=now)
    await audit.record(
        connection,
        Entry(action="token_revoked", subject=f"token:{token_id}", unit_id=unit_id),
        actor=actor,
        origin=origin,
        at=now,
    )


def narrowed(wanted: Narrowing, rights: Rights, actor: Actor) -> Narrowing:
    """What a new token lets through: what was asked for, within what lets its maker through.

    Raises `Invalid` for a unit that there is not, and `Forbidden` for more than the maker may: a permission they hold
    nowhere in the unit, a unit outside of where they may anything.
    """
    own, tree = actor.narrowing, rights.tree
    if wanted.unit_id is not None and wanted.unit_id not in tree:
        raise Invalid(Fault("unit_id", "unknown_unit", {"unit": str(wanted.unit_id)}))
    faults = []
    if own.unit_id is not None and wanted.unit_id is not None and not tree.covers(own.unit_id, wanted.unit_id):
        faults.append(Fault("unit_id", "unit_outside_own_subtree", {"unit": str(wanted.unit_id)}))
    unit_id = wanted.unit_id if wanted.unit_id is not None else own.unit_id
    for position, permission in enumerate(sorted(wanted.permissions or ())):
        tops = rights.units(permission)
        is_held = rights.may_anywhere(permission) and (
            unit_id is None
            or permission is Permission.OWN_ACCOUNT
            or any(tree.covers(top, unit_id) or tree.covers(unit_id, top) for top in tops)
        )
        if not is_held:
            faults.append(Fault(f"permissions[{position}]", "permission_not_held", {"permission": permission.value}))
    if faults:
        raise Forbidden("token_above_own_rights", faults=faults)
    return Narrowing(
        permissions=wanted.permissions if wanted.permissions is not None else own.permissions, unit_id=unit_id
    )


async def create_token(
    connection: Connection,
    *,
    actor: Actor,
    name: str,
    expires_at: datetime,
    narrowing: Narrowing = NO_NARROWING,
    origin: str | None,
    now: datetime,
) -> tuple[ApiToken, str]:
    """A new API token and its text, which is shown once and stored nowhere; `narrowing` as `narrowed` gave it."""
    text = credentials.new_api_token()
    token = ApiToken(token_id=uuid.uuid4(), name=name, created_at=now, expires_at=expires_at, narrowing=narrowing)
    await account_store.add_token(connection, actor.account_id, token, credentials.stored_form(text))
    await audit.record(
        connection,
        Entry(
            action="token_created",
            subject=f"token:{token.token_id}",
            unit_id=actor.unit_id,
            after={
                "name": name,
                "expires_at": expires_at.isoformat(),
                "permissions": sorted(narrowing.permissions) if narrowing.permissions is not None else None,
                "unit_id": str(narrowing.unit_id) if narrowing.unit_id is not None else None,
            },
        ),
        actor=actor,
        origin=origin,
        at=now,
    )
    return token, text


def described(grants: tuple[Grant, ...]) -> list[dict[str, str | None]]:
    """Grants as facts of the audit."""
    return [
        {
            "unit_id": str(grant.unit_id),
            "role": grant.role.value,
            "expires_at": grant.expires_at.isoformat() if grant.expires_at else None,
        }
        for grant in grants
    ]
