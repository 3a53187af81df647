"""Alerts that a rule or a CAP sender proposes to people. Pure."""

from __future__ import annotations

import enum
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from services.control.alerting.model import Alert, State


class Outcome(enum.StrEnum):
    """What came of a proposal."""

    RELEASED = "released"
    REFUSED = "refused"
    EXPIRED = "expired"  # nobody decided in time
    WITHDRAWN = "withdrawn"  # by who proposed it


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A proposed alert: why, until when somebody can release it, and what came of it.

    `validity` is how long the alert holds from its release; None: until its own end. `reason_over_since` is when the
    alarm behind it ended.
    """

    alert: Alert
    version: int = 1
    rule_id: uuid.UUID | None = None
    rule_version: int | None = None
    alarm_id: uuid.UUID | None = None
    reason: Mapping[str, Any]
    validity: timedelta | None = None
    proposed_at: datetime
    expires_at: datetime
    outcome: Outcome | None = None
    decided_at: datetime | None = None
    decided_by: uuid.UUID | None = None
    note: str | None = None
    reason_over_since: datetime | None = None

    def is_waiting(self, *, now: datetime) -> bool:
        """Whether somebody can still release it; what waits for a second person has been released by the first."""
        return self.outcome is None and self.alert.state is State.PROPOSED and now < self.expires_at
