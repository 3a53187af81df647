"""What a test came to on a device, from how it was reached. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.identifiers import UnitId
from services.control.alerting.reach import Reach

OUTCOMES = ("passed", "failed", "by_gateway", "excused")
# Who was silenced, or on ground where the test was stopped, was not asked.
_EXCUSED = frozenset({"silenced", "stopped_here"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One word for a device; the reason is that of its reach."""

    unit_id: UnitId
    outcome: str
    reason: str
    detail: str | None


def weigh(reach: Reach) -> Result:
    """Passed is who says so itself; a gateway's word is a class of its own, neither success nor failure (R-28)."""
    if reach.is_reached:
        outcome = "passed"
    elif reach.reason == "reached_by_gateway":
        outcome = "by_gateway"
    else:
        outcome = "excused" if reach.reason in _EXCUSED else "failed"
    return Result(unit_id=reach.unit_id, outcome=outcome, reason=reach.reason, detail=reach.detail)
