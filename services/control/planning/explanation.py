"""Why does this sound here now? The answer for one device and one instant, past or future, as values without words.

It rests on the timeline of the device's programme, so it says what would sound by the plan; what really did is the
business of `reconcile`. Whatever wanted the instant is named: what sounds, what lost to it and by which criterion, what
goes on afterwards, and what was never planned there because a unit's policy refused it or nobody accepted the offer.
"""

from __future__ import annotations

import enum
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import chain

from schemas.identifiers import BroadcastId, UnitId
from services.control.planning import timeline
from services.control.planning.model import MAX_OCCURRENCE_LENGTH, DeviceNo, Problem, ProblemKind, Slot
from services.control.planning.timeline import Sounding

OFFERS = frozenset({ProblemKind.OFFER_PENDING, ProblemKind.OFFER_DECLINED, ProblemKind.OFFER_SCHEDULED})
# What nobody refused: others have the word, or had it.
UNDECIDED = OFFERS | {ProblemKind.AWAITING_APPROVAL}
# What is emitted all the same, and should be looked at.
NOTES = frozenset(
    {
        ProblemKind.LOCAL_TIME_SKIPPED,
        ProblemKind.LOCAL_TIME_REPEATED,
        ProblemKind.SHORTENED,
        ProblemKind.TOO_MANY_ITEMS,
    }
)


class Standing(enum.StrEnum):
    """Why something that wants the instant does not sound. Stable words of the API."""

    WAITS = "waits"  # has not begun, and joins in progress later
    INTERRUPTED = "interrupted"  # was cut, and goes on later
    CUT = "cut"  # was cut for good
    MISSED = "missed"  # never sounds
    ABSENT = "absent"  # its media is not on the device, so it is no contender


@dataclass(frozen=True, slots=True, kw_only=True)
class OnAir:
    """What sounds: since when without a break, and until when."""

    slot: Slot
    since: datetime
    until: datetime
    first_began_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Loser:
    """What wanted the instant and does not sound: what outranks it, and the criterion that decided between the two."""

    slot: Slot
    standing: Standing
    by: Slot | None
    decided_by: str | None
    goes_on_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Something that sounds without a break at another time. `is_resumption`: it had begun before."""

    slot: Slot
    begins_at: datetime
    ends_at: datetime
    is_resumption: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What sounds at an instant and why. Losers in order of precedence, problems in their own order.

    `refused` was kept out of the programme, by a policy or because it is impossible; `offered` waits for the word
    of the unit or of an approver, or was declined; `noted` is in the programme, in another form than was asked for.
    """

    at: datetime
    on_air: OnAir | None
    losers: tuple[Loser, ...]
    previous: Turn | None
    next: Turn | None
    refused: tuple[Problem, ...] = ()
    offered: tuple[Problem, ...] = ()
    noted: tuple[Problem, ...] = ()


def explain(
    programme: Sequence[Slot],
    at: datetime,
    *,
    day: date,
    device_no: DeviceNo,
    path: Sequence[UnitId],
    problems: Iterable[Problem] = (),
    lengths: Mapping[BroadcastId, timedelta] | None = None,
    absent: Container[bytes] = frozenset(),
) -> Explanation:
    """Explain what sounds on a device at an instant.

    `day` is its local day, and `path` leads from the root to the device's unit on it. `problems` are those of broadcasts that mean the device;
    `lengths` how long an occurrence of each would last. `absent` holds hashes of media that are not on the device.
    """
    ranks = timeline.Ranks()
    told = timeline.sounding(programme, absent=absent, ranks=ranks)
    turns = sorted(chain.from_iterable(map(_turns, told)), key=lambda turn: turn.begins_at)
    on_air = next((each for each in (_on_air(one, at) for one in told) if each is not None), None)
    losers = [
        _loser(each, at, None if on_air is None else on_air.slot, ranks)
        for each in told
        if _wants(each, at) and (on_air is None or each.slot is not on_air.slot)
    ]
    concerned = [each for each in problems if _concerns(each, at, day, device_no, path, lengths or {})]
    return Explanation(
        at=at,
        on_air=on_air,
        losers=tuple(sorted(losers, key=lambda loser: ranks.of(loser.slot))),
        previous=next((turn for turn in reversed(turns) if turn.ends_at <= at), None),
        next=next((turn for turn in turns if turn.begins_at > at), None),
        refused=_in_order(each for each in concerned if each.kind not in UNDECIDED | NOTES),
        offered=_in_order(each for each in concerned if each.kind in UNDECIDED),
        noted=_in_order(each for each in concerned if each.kind in NOTES),
    )


def _turns(told: Sounding) -> Iterable[Turn]:
    for index, (begin, end) in enumerate(told.parts):
        yield Turn(slot=told.slot, begins_at=begin, ends_at=end, is_resumption=index > 0)


def _on_air(told: Sounding, at: datetime) -> OnAir | None:
    for begin, end in told.parts:
        if begin <= at < end:
            return OnAir(slot=told.slot, since=begin, until=end, first_began_at=told.parts[0][0])
    return None


def _wants(told: Sounding, at: datetime) -> bool:
    """Whether a slot claims the instant: by its own time, or by the time it was moved to."""
    last = max(told.slot.ends_at, told.parts[-1][1]) if told.parts else told.slot.ends_at
    return told.slot.starts_at <= at < last


def _loser(told: Sounding, at: datetime, winner: Slot | None, ranks: timeline.Ranks) -> Loser:
    goes_on_at = next((begin for begin, _ in told.parts if begin > at), None)
    has_begun = bool(told.parts) and told.parts[0][0] <= at
    if told.by is None:
        return Loser(slot=told.slot, standing=Standing.ABSENT, by=None, decided_by=None)
    if goes_on_at is not None:
        standing = Standing.INTERRUPTED if has_begun else Standing.WAITS
    else:
        standing = Standing.CUT if has_begun else Standing.MISSED
    # What sounds now may rank below it: it had its chance, and what took that from it is over.
    by = winner if winner is not None and ranks.of(winner) < ranks.of(told.slot) else told.by
    return Loser(
        slot=told.slot, standing=standing, by=by, decided_by=timeline.decided_by(by, told.slot), goes_on_at=goes_on_at
    )


def _concerns(
    problem: Problem,
    at: datetime,
    day: date,
    device_no: DeviceNo,
    path: Sequence[UnitId],
    lengths: Mapping[BroadcastId, timedelta],
) -> bool:
    """Whether a problem says something about this device at this instant."""
    if problem.device_no not in (None, device_no):
        return False
    if problem.unit_id is not None and problem.unit_id not in path:
        return False
    if problem.occurrence_at is None:
        # About the broadcast as a whole, or about a day on which it has no time.
        return problem.local_day in (None, day)
    return (
        problem.occurrence_at <= at < problem.occurrence_at + lengths.get(problem.broadcast_id, MAX_OCCURRENCE_LENGTH)
    )


def _in_order(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    return tuple(sorted(problems, key=lambda problem: problem.order))
