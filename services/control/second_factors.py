"""A second factor beside the password: an authenticator app, and recovery codes for the day it is lost.

A code is taken once, of two that come at the same time one; wrong ones make the next wait, as wrong passwords do.
"""

from __future__ import annotations

import logging
import secrets
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

from services.control import account_store, audit, credentials, second_factor_store, throttle
from services.control.account_store import Account
from services.control.audit import Entry
from services.control.errors import Busy, Conflict, Fault, Invalid, TooManyAttempts
from services.control.permissions import Actor
from services.control.throttle import Scope
from services.control.trust import totp
from services.control.trust.secret_box import SecretBox, SecretNotReadable
from services.shared.database.pool import Connection, Database

log = logging.getLogger(__name__)

ISSUER = "Loa"
RECOVERY_CODES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolment:
    """A secret on its way into an app; shown this once."""

    secret: str
    address: str


async def begin(
    connection: Connection, box: SecretBox | None, *, actor: Actor, origin: str | None, now: datetime
) -> Enrolment:
    """A new secret that is in force once a code of it was given. Raises `Conflict` when one is in force already."""
    if box is None:
        raise Conflict("second_factor_not_offered")
    secret = totp.new_secret()
    sealed = box.seal(secret, owner=actor.account_id.bytes)
    if not await second_factor_store.put_unconfirmed(connection, actor.account_id, sealed, at=now):
        raise Conflict("second_factor_in_force")
    await _record(connection, "second_factor_begun", actor, origin=origin, now=now)
    return Enrolment(secret=totp.as_text(secret), address=totp.address(secret, login=actor.login, issuer=ISSUER))


async def confirm(
    database: Database, box: SecretBox | None, *, actor: Actor, code: str, origin: str | None, now: datetime
) -> tuple[str, ...]:
    """Put the secret in force by its first code; gives the recovery codes, which are shown this once.

    Raises `Conflict` when there is nothing to confirm, `Invalid`, or `TooManyAttempts`.
    """
    async with _Attempt(database, actor, now=now) as attempt, database.transaction() as connection:
        factor = await second_factor_store.factor_to_judge(connection, actor.account_id)
        if factor is None or factor.confirmed_at is not None:
            raise Conflict("no_second_factor_to_confirm" if factor is None else "second_factor_in_force")
        attempt.judge(await _is_code(connection, box, factor.sealed, actor.account_id, code, now=now))
        codes = tuple(_new_recovery_code() for _ in range(RECOVERY_CODES))
        await second_factor_store.confirm(
            connection, actor.account_id, [credentials.stored_form(_plain(each)) for each in codes], at=now
        )
        await _note_shown(connection, actor, now=now)
        await _record(connection, "second_factor_enrolled", actor, origin=origin, now=now)
    return codes


async def show(
    database: Database, box: SecretBox | None, *, actor: Actor, code: str, origin: str | None, now: datetime
) -> None:
    """Take a code of the app or a recovery code, and note it with the session, if it is one.

    Raises `Conflict` when none is in force, `Invalid` for a code that is wrong or was used, or `TooManyAttempts`.
    """
    async with _Attempt(database, actor, now=now) as attempt, database.transaction() as connection:
        factor = await second_factor_store.factor_to_judge(connection, actor.account_id)
        if factor is None or factor.confirmed_at is None:
            raise Conflict("no_second_factor")
        is_recovery = await second_factor_store.use_recovery_code(
            connection, actor.account_id, credentials.stored_form(_plain(code)), at=now
        )
        attempt.judge(is_recovery or await _is_code(connection, box, factor.sealed, actor.account_id, code, now=now))
        await _note_shown(connection, actor, now=now)
        action = "recovery_code_used" if is_recovery else "second_factor_shown"
        await _record(connection, action, actor, origin=origin, now=now)


async def remove(connection: Connection, account: Account, *, actor: Actor, origin: str | None, now: datetime) -> None:
    """Take the factor of an account out of force. Raises `Conflict` when it has none."""
    if not await second_factor_store.remove(connection, account.account_id):
        raise Conflict("no_second_factor")
    await audit.record(
        connection,
        Entry(action="second_factor_removed", subject=f"account:{account.account_id}", unit_id=account.unit_id),
        actor=actor,
        origin=origin,
        at=now,
    )


class _Attempt:
    """One try at a code. Counted before it is judged and taken back when right, so that many at once gain nothing."""

    def __init__(self, database: Database, actor: Actor, *, now: datetime) -> None:
        self._database = database
        self._account_id = actor.account_id
        self._keys = {Scope.SECOND_FACTOR: str(actor.account_id)}
        self._now = now
        self._is_wrong = False

    def judge(self, is_right: bool) -> None:
        """Raise `Invalid` unless the code was right."""
        if not is_right:
            self._is_wrong = True
            log.warning("second_factor_failed", extra={"account_id": str(self._account_id)})
            raise Invalid(Fault("code", "code_not_taken"))

    async def __aenter__(self) -> Self:
        async with self._database.transaction() as connection:
            counted = await account_store.failures(connection, self._keys)
            for scope, (count, last) in counted.items():
                wait = throttle.wait(scope, count, last, now=self._now)
                if wait > timedelta(0):
                    raise TooManyAttempts("too_many_codes", retry_after_s=int(wait.total_seconds()) + 1)
            await account_store.count_failure(connection, self._keys, at=self._now)
        return self

    async def __aexit__(self, *_: object) -> None:
        if not self._is_wrong:
            async with self._database.transaction() as connection:
                await account_store.take_back_failure(connection, self._keys)


async def _is_code(
    connection: Connection,
    box: SecretBox | None,
    sealed: bytes,
    account_id: uuid.UUID,
    code: str,
    *,
    now: datetime,
) -> bool:
    if box is None:
        raise Busy("second_factor_not_readable")
    try:
        secret = box.open(sealed, owner=account_id.bytes)
    except SecretNotReadable:
        log.exception("second_factor_not_readable", extra={"account_id": str(account_id)})
        raise Busy("second_factor_not_readable") from None
    step = totp.step_of(secret, code, now=now)
    if step is None or not await second_factor_store.use_step(connection, account_id, step):
        return False
    if not box.is_current(sealed):
        # The old key can go once everybody has shown a code.
        await second_factor_store.reseal(connection, account_id, box.seal(secret, owner=account_id.bytes))
        log.info("second_factor_resealed", extra={"account_id": str(account_id)})
    return True


async def _note_shown(connection: Connection, actor: Actor, *, now: datetime) -> None:
    if actor.session_id is not None:
        await second_factor_store.note_shown(connection, actor.session_id, at=now)


async def _record(connection: Connection, action: str, actor: Actor, *, origin: str | None, now: datetime) -> None:
    await audit.record(
        connection,
        Entry(action=action, subject=f"account:{actor.account_id}", unit_id=actor.unit_id),
        actor=actor,
        origin=origin,
        at=now,
    )


def _new_recovery_code() -> str:
    """80 random bits in groups that people can copy."""
    text = secrets.token_hex(10)
    return "-".join(text[start : start + 5] for start in range(0, len(text), 5))


def _plain(code: str) -> str:
    return "".join(code.lower().replace("-", "").split())
