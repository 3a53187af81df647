"""Errors of the control service. Each carries a stable code and facts; the words stand in the catalogue.

What the HTTP side makes of them is one table, `services.control.api.errors`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


class ControlError(Exception):
    """Base of every error of the control service."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a request: which field, what (a code of the catalogue), and the facts its text names."""

    field: str
    code: str
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class Refusal(ControlError):
    """A request that is not carried out. `code` is stable, `members` are shown to the client beside it."""

    def __init__(
        self,
        code: str,
        *,
        faults: Iterable[Fault] = (),
        facts: Mapping[str, Any] | None = None,
        members: Mapping[str, Any] | None = None,
    ) -> None:
        self.code = code
        self.faults = tuple(faults)
        self.facts = dict(facts or {})
        self.members = dict(members or {})
        super().__init__(f"{code} {self.facts or ''} {[(each.field, each.code) for each in self.faults] or ''}".strip())


class NotUnderstood(Refusal):
    """The body cannot be read at all."""


class Invalid(Refusal):
    """The request can be read but asks for something that cannot be."""

    def __init__(self, *faults: Fault, code: str = "invalid_request") -> None:
        super().__init__(code, faults=faults)


class Unauthenticated(Refusal):
    """Nobody, or nobody known, is asking. With `takes_basic` HTTP Basic may be tried too."""

    def __init__(self, code: str, *, takes_basic: bool = False) -> None:
        super().__init__(code)
        self.takes_basic = takes_basic


class Forbidden(Refusal):
    """Who asks is known and may not."""


class NotFound(Refusal):
    """There is no such thing."""


class Conflict(Refusal):
    """It cannot be done in the present state of things."""


class VersionMismatch(Refusal):
    """The resource has changed since the client read it.

    Answered as a conflict with both versions, for a person to settle: RFC 9110 (13.1.1) lets a server say 412 of an
    If-Match that does not hold, and does not ask it to.
    """


class VersionRequired(Refusal):
    """The client must say which version it means to change (RFC 6585)."""


class TooManyAttempts(Refusal):
    """Too many failures; `retry_after_s` seconds of waiting come first."""

    def __init__(self, code: str, *, retry_after_s: int) -> None:
        super().__init__(code, facts={"seconds": retry_after_s})
        self.retry_after_s = retry_after_s


class TooLarge(Refusal):
    """The body is larger than this request may be."""


class TooSlow(Refusal):
    """The body does not come, or drips."""


class NotOurs(Refusal):
    """The request was meant for somebody else: it names a host that is not served here."""


class UnsupportedContent(Refusal):
    """The body is of a kind that is not taken here."""


class Busy(Refusal):
    """The service cannot do it just now; the same request may succeed later."""
