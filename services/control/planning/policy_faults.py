"""What is wrong with a policy: by itself, and by what holds above it, which a unit may tighten and not loosen (R-16)."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from schemas.fields import Level
from schemas.identifiers import UnitId
from services.control.planning.day_spans import (
    DAY_MS,
    around,
    clock_text,
    covers,
    end_ms,
    intersection,
    minutes_text,
    ms_of_day,
    numbers_text,
    spans_text,
    wrapped,
)
from services.control.planning.policies import (
    WEEKDAYS,
    Danger,
    EffectivePolicy,
    Fallback,
    Limits,
    Policy,
    Quiet,
    Reserved,
    Session,
    VolumeCap,
)

_LOUDEST = 100


class FaultCode(enum.StrEnum):
    """What is wrong with a policy. Stable words of the API."""

    CROSSES_MIDNIGHT = "crosses_midnight"
    IS_EMPTY = "is_empty"
    CODE_TWICE = "code_twice"
    OVERLAP = "overlap"
    WEEKDAY_UNKNOWN = "weekday_unknown"
    NO_WEEKDAY = "no_weekday"
    NOT_POSITIVE = "not_positive"
    NOT_A_VOLUME = "not_a_volume"
    EMERGENCY_CANNOT_WAIT = "emergency_cannot_wait"
    NO_TIME = "no_time"
    IN_QUIET_HOURS = "in_quiet_hours"
    LOOSENS = "loosens"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Why a policy cannot be as it was sent.

    `field` is a field of `Policy`, `index` the place in it where it is a list. `unit_id` is whose limit would be loosened,
    and `detail` that limit, as facts: times, minutes, percent, weekdays.
    """

    field: str
    code: FaultCode
    index: int | None = None
    unit_id: UnitId | None = None
    detail: str = ""


def faults(policy: Policy) -> tuple[Fault, ...]:
    """What is wrong with a policy by itself, in the order of its fields."""
    return tuple(_faults(policy))


def _faults(policy: Policy) -> Iterator[Fault]:
    yield from _session_faults(policy.sessions)
    for index, slot in enumerate(policy.reserved):
        yield from _slot_faults("reserved", slot, index)
    hours: tuple[tuple[str, Sequence[Quiet | VolumeCap]], ...] = (
        ("quiet", policy.quiet),
        ("volume_caps", policy.volume_caps),
    )
    for name, spans in hours:
        for index, span in enumerate(spans):
            # The same time twice could mean never or always.
            if span.begin == span.end:
                yield Fault(field=name, code=FaultCode.IS_EMPTY, index=index)
    for index, cap in enumerate(policy.volume_caps):
        # Silence is what quiet hours are for: an emission at volume 0 would count as missed.
        if not 1 <= cap.percent <= _LOUDEST:
            yield Fault(field="volume_caps", code=FaultCode.NOT_A_VOLUME, index=index, detail=str(cap.percent))
    if policy.weekdays is not None:
        yield from _weekday_faults("weekdays", policy.weekdays, None)
    for name, limit in (("max_session", policy.max_session), ("max_day", policy.max_day)):
        if limit is not None and limit <= timedelta(0):
            yield Fault(field=name, code=FaultCode.NOT_POSITIVE)
    if policy.approved_levels is not None and Level.EMERGENCY in policy.approved_levels:
        yield Fault(field="approved_levels", code=FaultCode.EMERGENCY_CANNOT_WAIT)
    if policy.fallback is not None and not policy.fallback.times:
        yield Fault(field="fallback", code=FaultCode.NO_TIME)
    if policy.fallback is not None and (at := _quiet_time(policy.fallback, Limits.of(policy))) is not None:
        yield Fault(field="fallback", code=FaultCode.IN_QUIET_HOURS, detail=at)


def _session_faults(sessions: Sequence[Session]) -> Iterator[Fault]:
    for index, session in enumerate(sessions):
        begin, end = ms_of_day(session.begin), end_ms(session.end)
        yield from _slot_faults("sessions", session, index)
        for other in sessions[:index]:
            if other.code == session.code:
                yield Fault(field="sessions", code=FaultCode.CODE_TWICE, index=index, detail=session.code)
            is_shared_time = begin < end_ms(other.end) and ms_of_day(other.begin) < end
            if is_shared_time and other.weekdays & session.weekdays:
                yield Fault(field="sessions", code=FaultCode.OVERLAP, index=index, detail=other.code)


def _slot_faults(name: str, slot: Session | Reserved, index: int) -> Iterator[Fault]:
    begin, end = ms_of_day(slot.begin), end_ms(slot.end)
    if begin == ms_of_day(slot.end) and begin != 0:
        yield Fault(field=name, code=FaultCode.IS_EMPTY, index=index)
    elif end < begin:
        yield Fault(field=name, code=FaultCode.CROSSES_MIDNIGHT, index=index)
    yield from _weekday_faults(name, slot.weekdays, index)


def _weekday_faults(name: str, weekdays: frozenset[int], index: int | None) -> Iterator[Fault]:
    if not weekdays:
        yield Fault(field=name, code=FaultCode.NO_WEEKDAY, index=index)
    if unknown := weekdays - WEEKDAYS:
        yield Fault(field=name, code=FaultCode.WEEKDAY_UNKNOWN, index=index, detail=numbers_text(unknown))


# --- may a unit say so -----------------------------------------------------------------------------------------------


def loosens(policy: Policy, above: EffectivePolicy) -> tuple[Fault, ...]:
    """Return each field in which a policy says less than what holds above, and whose limit that is.

    A field that says nothing loosens nothing. Quiet hours apart from those above add to them; quiet hours that touch on
    some of those above must cover them, or the unit would believe that its shorter night holds.
    """
    own = Limits.of(policy)
    return tuple(fault for limits in above.limits for fault in _loosens(own, limits))


def _loosens(own: Limits, above: Limits) -> Iterator[Fault]:
    mine, theirs = own.policy, above.policy

    def loosening(name: str, detail: str = "", index: int | None = None) -> Fault:
        return Fault(field=name, code=FaultCode.LOOSENS, index=index, unit_id=theirs.unit_id, detail=detail)

    for index, slot in enumerate(mine.sessions):
        span = (ms_of_day(slot.begin), end_ms(slot.end))
        for weekday in sorted(slot.weekdays & WEEKDAYS):
            if weekday not in above.weekdays:
                yield loosening("sessions", numbers_text(above.weekdays), index)
                break
            if above.windows is not None and not covers(above.windows[weekday - 1], span):
                yield loosening("sessions", spans_text(above.windows[weekday - 1]), index)
                break
    if mine.quiet:
        mine_round, theirs_round = around(own.quiet), around(above.quiet)
        for span in theirs_round:
            common = intersection(mine_round, [span])
            if common and common != [span]:
                yield loosening("quiet", spans_text([(span[0] % DAY_MS, (span[1] - 1) % DAY_MS + 1)]))
                break
    if mine.weekdays is not None and not mine.weekdays <= above.weekdays:
        yield loosening("weekdays", numbers_text(above.weekdays))
    for name, limit, bound in (
        ("max_session", mine.max_session, theirs.max_session),
        ("max_day", mine.max_day, theirs.max_day),
    ):
        if limit is not None and bound is not None and limit > bound:
            yield loosening(name, minutes_text(bound))
    for index, cap in enumerate(mine.volume_caps):
        bounds = [
            percent
            for span in wrapped(cap.begin, cap.end)
            for begin, end, percent in above.caps
            if begin < span[1] and span[0] < end and percent < cap.percent
        ]
        if bounds:
            yield loosening("volume_caps", str(min(bounds)), index)
    if mine.forbids_self_approval is False and theirs.forbids_self_approval:
        yield loosening("forbids_self_approval")
    if mine.allows_direct_relays and theirs.allows_direct_relays is False:
        yield loosening("allows_direct_relays")
    if mine.second_person is not None and theirs.second_person is not None:
        for danger in Danger:
            wanted, least = mine.second_person.needed_from(danger), theirs.second_person.needed_from(danger)
            if wanted is not None and least is not None and wanted > least:
                yield loosening("second_person", f"{danger.value} {least}")
    if mine.approved_levels is not None and (missing := (theirs.approved_levels or frozenset()) - mine.approved_levels):
        yield loosening("approved_levels", " ".join(level.name.lower() for level in sorted(missing)))
    if mine.fallback is not None and (at := _quiet_time(mine.fallback, above)) is not None:
        yield loosening("fallback", at)


def _quiet_time(fallback: Fallback, limits: Limits) -> str | None:
    """The first time of a fallback that lies in quiet hours."""
    return next(
        (
            clock_text(ms_of_day(at))
            for at in fallback.times
            if covers(limits.quiet, (ms_of_day(at), ms_of_day(at) + 1))
        ),
        None,
    )
