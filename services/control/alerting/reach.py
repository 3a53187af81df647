"""Whether an alert reached a device, and if not, why: from what is known to one word for each device. Pure.

Reached is who says itself that it began to sound or show (of a test: that it passed; of a silence: that it is silent). A
gateway's word is a class of its own (R-28), and so is what the device has signed: whoever holds the broker can say the
rest. Whoever was not reached has a reason that tells a person what to do.

It is asked of the version that holds: whoever heard what was said before it, and goes on sounding that, has not heard it.
Once an alert is over it is asked of how it stood until then: that a device confirms the end makes it none the less reached.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from schemas.alerts import Purpose
from schemas.identifiers import DeviceId, UnitId

LATE_AFTER = timedelta(seconds=5)  # ten times the goal: who begins later came back, or fetched a file first
PATIENCE = timedelta(seconds=10)  # so long nothing is concluded from silence

REASONS = (
    "reached",
    "reached_late",
    "reached_by_gateway",
    "waiting",
    "offline",
    "never_heard",
    "media_missing",
    "silenced",
    "refused",
    "clock_untrusted",
    "unsupported",
    "came_too_late",
    "test_failed",
    "play_failed",
    "not_started",
    "no_answer",
    "stopped_here",
)

_TOLD = {
    "media_missing": "media_missing",
    "killed": "silenced",
    "refused": "refused",
    "unsupported": "unsupported",
    "expired": "came_too_late",
    "test_failed": "test_failed",
}
_DONE = {Purpose.SILENT_TEST: "test_passed", Purpose.SILENCE: "silenced"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of a device and an alert."""

    device_id: DeviceId
    unit_id: UnitId
    is_addressed: bool
    addressed_at: datetime | None  # since when it is meant
    told: str | None
    told_version: int | None  # what its last word is about
    told_detail: str | None
    told_by: str | None
    signed_told: str | None  # its last word that it has signed, and what that is about
    signed_told_version: int | None
    signed_given_version: int | None  # the newest it had, by a word that it has signed
    signed_start_at: datetime | None  # its first start of that, by one that it has signed
    ended_version: int | None  # with which version it said last that it has nothing of it any more
    given_version: int | None  # the newest it had, by its own word
    starts: int  # of all versions
    first_start_at: datetime | None  # of the version it was given last; so are the two below
    start_told_by: str | None
    last_outcome: str | None
    liveness: str  # never, online, offline
    last_heard_at: datetime | None
    is_clock_trusted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """What an alert came to on a device."""

    device_id: DeviceId
    unit_id: UnitId
    is_reached: bool
    is_signed: bool  # reached by words that the device has signed: nobody on the way can have said them
    reason: str
    version: int | None
    told_by: str | None
    detail: str | None
    first_start_at: datetime | None
    after_s: float | None
    is_late: bool
    starts: int
    offline_since: datetime | None


def judge(
    facts: Facts, purpose: Purpose, *, version: int, issued_at: datetime, now: datetime, is_over: bool = False
) -> Reach:
    """One word for a device about the version that holds or was the last to, which was issued at `issued_at`."""
    since = max(issued_at, facts.addressed_at or issued_at)
    current = facts if (facts.told_version or 0) >= version else replace(facts, told=None, told_detail=None)
    if not is_over and (facts.ended_version or 0) >= version:
        current = replace(current, told=None, told_detail=None)  # it says itself that it holds no more
    if (facts.given_version or 1) < version:
        current = replace(current, first_start_at=None, start_told_by=None, last_outcome=None)
    reason = _reason(current, purpose, since=since, now=now)
    after = current.first_start_at - since if current.first_start_at is not None else None
    is_reached = reason in ("reached", "reached_late")
    return Reach(
        device_id=facts.device_id,
        unit_id=facts.unit_id,
        is_reached=is_reached,
        is_signed=is_reached and _has_signed(facts, purpose, version=version),
        reason=reason,
        version=facts.given_version,
        told_by=current.start_told_by or facts.told_by,
        detail=current.told_detail,
        first_start_at=facts.first_start_at,
        after_s=round(max(after, timedelta()).total_seconds(), 3) if after is not None else None,
        is_late=reason == "reached_late",
        starts=facts.starts,
        offline_since=facts.last_heard_at if facts.liveness == "offline" else None,
    )


def _has_signed(facts: Facts, purpose: Purpose, *, version: int) -> bool:
    """Whether what the device has signed says by itself that the version reached it."""
    if (done := _DONE.get(purpose)) is not None:
        return facts.signed_told == done and (facts.signed_told_version or 0) >= version
    return facts.signed_start_at is not None and (facts.signed_given_version or 1) >= version


def _reason(facts: Facts, purpose: Purpose, *, since: datetime, now: datetime) -> str:
    done = _DONE.get(purpose)
    is_done = facts.told == done if done is not None else facts.first_start_at is not None
    if is_done:
        word = facts.told_by if done is not None else facts.start_told_by
        if word == "gateway":
            return "reached_by_gateway"
        if done is None and facts.last_outcome in ("failed", "missed"):
            return "play_failed"
        is_late = facts.first_start_at is not None and facts.first_start_at > since + LATE_AFTER
        return "reached_late" if is_late else "reached"
    if not facts.is_addressed:
        return "stopped_here"
    if facts.told in _TOLD:
        return _TOLD[facts.told]
    return _silent_reason(facts, since=since, now=now)


def _silent_reason(facts: Facts, *, since: datetime, now: datetime) -> str:
    if facts.liveness == "never":
        return "never_heard"
    if facts.liveness == "offline":
        return "offline"
    if now < since + PATIENCE:
        return "waiting"
    if facts.told == "taken":
        return "not_started"
    return "no_answer" if facts.is_clock_trusted else "clock_untrusted"
