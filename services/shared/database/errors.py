"""What can go wrong between a service and its database, told apart by what the caller should do about it.

Adapters translate at once and by SQLSTATE or constraint name, never by message text: messages are localised.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg


class DatabaseError(Exception):
    """The database did not do what was asked of it."""


class DatabaseUnavailable(DatabaseError):
    """The database cannot be reached or is stopping; the same call may succeed later."""


class DatabaseRefused(DatabaseError):
    """The database answers but does not let us in: wrong credentials, missing database or missing privilege."""


class DatabaseOutdated(DatabaseError):
    """The database lacks migrations of this release."""


class TransactionConflict(DatabaseError):
    """Another transaction was in the way; the whole transaction may be tried again at once."""


class ConstraintViolated(DatabaseError):
    """A rule of the schema said no; `constraint` is its name, which code compares."""

    def __init__(self, constraint: str) -> None:
        super().__init__(constraint)
        self.constraint = constraint


# Whole SQLSTATE classes: connection exception, insufficient resources, operator intervention, system error.
_UNAVAILABLE_CLASSES = frozenset({"08", "53", "57", "58"})
# The server has ended a transaction that stood idle: for who froze in the middle of one, the connection is gone.
_IDLE_ENDED = frozenset({"25P03", "25P04"})
# query_canceled belongs to class 57 but is a statement that took too long, not an outage.
_QUERY_CANCELED = "57014"
_REFUSED = {
    "28000": "this user may not log in from here: see the server's pg_hba.conf",
    "28P01": "the password is not the one of this user, or there is no such user",
    "3D000": "there is no database of this name",
    "42501": "this user lacks a privilege for it: has `migrate` run, and is it the right user?",
}
_CONFLICTS = frozenset({"40001", "40P01", "55P03", _QUERY_CANCELED})


def translate(error: BaseException) -> DatabaseError | None:
    """Our error for one of the driver's or the network's, or None where it is a bug that should surface as it is."""
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        if state in _REFUSED:
            return DatabaseRefused(f"{_REFUSED[state]} ({type(error).__name__}, SQLSTATE {state})")
        if state in _CONFLICTS:
            return TransactionConflict(f"{type(error).__name__} (SQLSTATE {state})")
        if state[:2] in _UNAVAILABLE_CLASSES or state in _IDLE_ENDED:
            return DatabaseUnavailable(f"{type(error).__name__} (SQLSTATE {state})")
        if state[:2] == "23":
            return ConstraintViolated(getattr(error, "constraint_name", None) or "")
        return None
    if isinstance(error, (asyncpg.InterfaceError, asyncpg.InternalClientError)):
        # A closed or closing connection or pool. Misuse of the driver shows here too, but says so in its message,
        # which is kept as the cause.
        return DatabaseUnavailable(type(error).__name__)
    if isinstance(error, (OSError, TimeoutError)):
        return DatabaseUnavailable(f"{type(error).__name__}: {error}")
    return None


@contextmanager
def translated() -> Iterator[None]:
    """Inside, errors of the driver become ours, with the original as the cause."""
    try:
        yield
    except DatabaseError:
        raise
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError) as error:
        ours = translate(error)
        if ours is None:
            raise
        raise ours from error
