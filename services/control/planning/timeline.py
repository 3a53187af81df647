"""What really sounds on one device, second by second, when all its media are there and nobody cuts its power.

A plan says what a device is told; overlaps are resolved on the device, at play time. This module foretells how, so that
an officer sees before saving what will be cut, and can ask at any time what sounds and why. It follows the contract of
`schemas.plans` and `schemas.arbitration`, which devices follow too; a test drives the simulator's playback through the
same plans and holds both to one outcome.

At every moment the contender with the best rank sounds. Contenders are the slots whose time has come, that is:

- not begun yet, until `latest_start_at` and the end of the slot; who begins late joins in progress;
- sounding, until the end of the slot (moved as a whole if it was restarted);
- cut, by its `ResumePolicy`: RESUME until the end of the slot, where it would be by then; RESTART until `latest_start_at`,
  from its beginning and for its whole length; DROP never. A relay always resumes: its source has gone on.

So soundings never overlap, and every slot ends in exactly one fate.

Time is cut to milliseconds, as on the wire. Slots that touch nothing cost a comparison each; a province has hundreds of
distinct programmes with thousands of slots, and what-if answers while somebody waits.
"""

from __future__ import annotations

import enum
from bisect import bisect_right
from collections.abc import Container, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from heapq import heappop, heappush

from schemas import arbitration
from schemas.arbitration import Contender, Precedence
from schemas.fields import PlayReference, PlaySource, ResumePolicy
from schemas.plans import ContentKind
from services.control.planning.model import Slot, from_ms, to_ms

# A timer fires a little late on any machine, so a device may begin this much after the latest start.
START_GRACE_MS = 50

Interval = tuple[datetime, datetime]


class Fate(enum.StrEnum):
    """How a slot ends on a device; exactly one. Stable words of the API."""

    WHOLE = "whole"
    LATE = "late"  # joined in progress once what outranked it was over, and sounded to its end
    CUT = "cut"  # `is_resumed` tells whether it went on afterwards, until its end
    MOVED = "moved"  # cut, then sounded from its beginning for its whole length
    MISSED = "missed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sounding:
    """What becomes of one slot.

    `parts` are the intervals in which it sounds, in order. `by` is the slot that cut it last or kept it from beginning;
    None when nothing did: it is whole, or its media is not there.
    """

    slot: Slot
    fate: Fate
    parts: tuple[Interval, ...] = ()
    by: Slot | None = None
    is_resumed: bool = False

    @property
    def sounded(self) -> timedelta:
        """How long it sounds."""
        return sum((end - begin for begin, end in self.parts), timedelta(0))


class Ranks:
    """The precedence of slots, found out once each: thousands of devices share a slot, and most need none.

    Whoever asks for the timelines of many programmes passes one along.
    """

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[int, tuple[Slot, Precedence]] = {}

    def of(self, slot: Slot) -> Precedence:
        """The smaller wins."""
        found = self._known.get(id(slot))
        if found is None:
            # The slot is kept beside its rank, so that its id is not given to another one meanwhile.
            found = self._known[id(slot)] = (slot, arbitration.precedence(contender(slot)))
        return found[1]


def contender(slot: Slot) -> Contender:
    """The slot as arbitration sees it."""
    reference = PlayReference(
        source=PlaySource.EMISSION, id=slot.broadcast_id, occurrence_at_ms=to_ms(slot.occurrence_at), item=slot.item
    )
    return Contender(reference=reference, rank=slot.rank)


def decided_by(winner: Slot, loser: Slot) -> str:
    """Which criterion of arbitration settles the order of two slots."""
    return arbitration.decided_by(contender(winner), contender(loser))


def sounding(
    programme: Sequence[Slot], *, absent: Container[bytes] = frozenset(), ranks: Ranks | None = None
) -> tuple[Sounding, ...]:
    """Return what becomes of every slot of a programme, in its order, which is that of `Slot.order`.

    `absent` holds hashes of media that are not on the device: content that is not there silences nothing else.
    """
    known = Ranks() if ranks is None else ranks
    told: list[Sounding] = []
    place, count = 0, len(programme)
    while place < count:
        slot = programme[place]
        if slot.media is not None and slot.media.sha256 in absent:
            told.append(Sounding(slot=slot, fate=Fate.MISSED))
            place += 1
        elif place + 1 == count or programme[place + 1].starts_at >= slot.ends_at:
            told.append(Sounding(slot=slot, fate=Fate.WHOLE, parts=((slot.starts_at, slot.ends_at),)))
            place += 1
        else:
            contest = _Contest(programme, place, absent, known)
            place = contest.run()
            told.extend(contest.told())
    return tuple(told)


def on_air(programme: Sequence[Slot], at: datetime, *, ranks: Ranks | None = None) -> Slot | None:
    """Return what of a programme sounds at an instant, if all its media are there."""
    for told in sounding(programme, ranks=ranks):
        if any(begin <= at < end for begin, end in told.parts):
            return told.slot
    return None


class _Contest:
    """Slots that touch each other in time, from the first until the device is idle. Lives for one call of `sounding`."""

    __slots__ = ("_absent", "_air", "_first", "_next", "_programme", "_ranks", "_states", "_waiting")

    def __init__(self, programme: Sequence[Slot], first: int, absent: Container[bytes], ranks: Ranks) -> None:
        self._programme = programme
        self._first = self._next = first
        self._absent = absent
        self._ranks = ranks
        self._states: list[_State | None] = []  # of the slots from `first` on; None for what is absent
        self._waiting: list[tuple[Precedence, int]] = []  # a heap: the best contender first
        self._air: list[tuple[int, int, int]] = []  # what sounded: begin, end, place

    def run(self) -> int:
        """Let time pass until nothing waits; return the place of the first slot that is not part of this."""
        now = to_ms(self._programme[self._first].starts_at)
        self._arrive(now)
        while self._waiting:
            precedence, place = heappop(self._waiting)
            state = self._state(place)
            if not state.can_sound(now):
                continue  # its time is over; what it is by now is what it stays
            until = state.begin(now)
            rival = self._rival(precedence, until)
            if rival is None:
                self._air.append((now, until, place))
                state.finish(until)
                now = until
            else:
                at, rival_place = rival
                self._air.append((now, at, place))
                if state.cut(at, rival_place):
                    heappush(self._waiting, (precedence, place))
                now = at
            self._arrive(now)
        return self._next

    def told(self) -> list[Sounding]:
        """What became of each slot."""
        begins = [begin for begin, _, _ in self._air]
        return [
            Sounding(slot=self._programme[self._first + index], fate=Fate.MISSED)
            if state is None
            else self._tell(state, begins)
            for index, state in enumerate(self._states)
        ]

    def _tell(self, state: _State, begins: list[int]) -> Sounding:
        by = state.cut_by
        if by is None and state.parts[:1] != [(state.starts_ms, state.ends_ms)]:
            # It waited: what sounded last before it joined, or before it no longer could.
            by = self._on_air(begins, (state.parts[0][0] if state.parts else state.give_up_ms) - 1)
        return Sounding(
            slot=state.slot,
            fate=state.fate,
            parts=tuple((from_ms(begin), from_ms(end)) for begin, end in state.parts),
            by=None if by is None else self._programme[by],
            is_resumed=state.fate is Fate.CUT and state.is_finished,
        )

    def _on_air(self, begins: list[int], at_ms: int) -> int | None:
        index = bisect_right(begins, at_ms) - 1
        return self._air[index][2] if index >= 0 and at_ms < self._air[index][1] else None

    def _state(self, place: int) -> _State:
        state = self._states[place - self._first]
        assert state is not None
        return state

    def _rival(self, precedence: Precedence, until: int) -> tuple[int, int] | None:
        """When before `until` something arrives that outranks what sounds, and its place."""
        while self._next < len(self._programme):
            at = to_ms(self._programme[self._next].starts_at)
            if at >= until:
                return None
            self._arrive(at)
            if self._waiting and self._waiting[0] < (precedence, -1):
                return at, self._waiting[0][1]
        return None

    def _arrive(self, now: int) -> None:
        """Let everything contend whose slot has begun by now."""
        while self._next < len(self._programme):
            slot = self._programme[self._next]
            if to_ms(slot.starts_at) > now:
                return
            if slot.media is not None and slot.media.sha256 in self._absent:
                self._states.append(None)
            else:
                state = _State(slot)
                self._states.append(state)
                if state.starts_ms < state.ends_ms:
                    heappush(self._waiting, (self._ranks.of(slot), self._next))
            self._next += 1


class _State:
    """One slot while its contest runs, in milliseconds."""

    __slots__ = ("cut_by", "ends_ms", "is_finished", "latest_ms", "parts", "shifted_ms", "slot", "starts_ms")

    def __init__(self, slot: Slot) -> None:
        self.slot = slot
        self.starts_ms = to_ms(slot.starts_at)
        self.ends_ms = to_ms(slot.ends_at)
        self.latest_ms = to_ms(slot.latest_start_at) + START_GRACE_MS
        self.parts: list[tuple[int, int]] = []
        self.cut_by: int | None = None
        self.shifted_ms = 0
        self.is_finished = False

    @property
    def is_restarting(self) -> bool:
        return (
            self.cut_by is not None
            and self.slot.resume is ResumePolicy.RESTART
            and self.slot.content is not ContentKind.RELAY
        )

    @property
    def give_up_ms(self) -> int:
        """The first moment at which it can no longer begin."""
        return min(self.latest_ms + 1, self.ends_ms)

    @property
    def fate(self) -> Fate:
        if not self.parts:
            return Fate.MISSED
        if not self.is_finished:
            return Fate.CUT
        if self.shifted_ms:
            return Fate.MOVED
        if self.cut_by is not None:
            return Fate.CUT
        return Fate.WHOLE if self.parts[0][0] == self.starts_ms else Fate.LATE

    def can_sound(self, now: int) -> bool:
        if self.is_restarting:
            return now <= self.latest_ms
        return now < (self.ends_ms if self.cut_by is not None else self.give_up_ms)

    def begin(self, now: int) -> int:
        """Sound from now on; return until when, if nothing comes between."""
        if self.is_restarting:
            self.shifted_ms = now - self.starts_ms
        self.parts.append((now, now))
        return self.ends_ms + self.shifted_ms

    def finish(self, at: int) -> None:
        self.parts[-1] = (self.parts[-1][0], at)
        self.is_finished = True

    def cut(self, at: int, by: int) -> bool:
        """End the part that sounds; return whether the slot still contends."""
        self.parts[-1] = (self.parts[-1][0], at)
        self.cut_by = by
        return self.slot.resume is not ResumePolicy.DROP
