"""What all occurrences of one broadcast have in common: line-ups, ranks, sessions, and which items come to an end when.

A broadcast has dozens of occurrences in a window, and nearly all of them consist of the same. So everything here is found
out once; ids of what is found out are good keys, because it is kept for as long as the staging is.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from datetime import date, datetime, time, timedelta
from typing import NamedTuple

from schemas.fields import DeviceKind
from schemas.identifiers import UnitId
from schemas.orders import Rank
from services.control.planning import permission, recurrence, wall_clock
from services.control.planning.ground import Ground
from services.control.planning.lineup import Form, Lineup, Piece, Stock, line_up
from services.control.planning.model import (
    LONGEST_DAY,
    MAX_OCCURRENCE_LENGTH,
    Broadcast,
    Bulletin,
    BulletinItem,
    Occurrence,
    Plays,
    ProblemKind,
    Window,
    to_ms,
)

# A unit deeper than the wire can say ranks with the deepest it can.
MAX_ISSUER_DEPTH = 15
# How far ahead the first occurrences of a broadcast are looked for at once.
_COUNTED_DAYS = 64
# Who is ready later than half-way through an item leaves it: the rest of a notice tells nobody anything.
JOINABLE_PARTS = 2

_NOTHING = timedelta(0)
_MS = timedelta(milliseconds=1)


class LeftOut(NamedTuple):
    """What an occurrence comes too late for: items that are not in it, and why; and those that expire within it, and when.

    Both by their numbers, the latter counted from the beginning of the occurrence.
    """

    items: tuple[tuple[int, ProblemKind], ...] = ()
    stale: tuple[tuple[int, timedelta], ...] = ()


class Cast(NamedTuple):
    """What one kind of device makes of a line-up: pieces as long as it puts them out, by position; who asked for them."""

    forms: tuple[tuple[int, Piece, Form], ...]
    pieces: tuple[Piece, ...]
    asked: frozenset[int]


class Staging:
    """What all occurrences of a broadcast have in common on the days of a window."""

    def __init__(self, broadcast: Broadcast, ground: Ground, stock: Stock) -> None:
        self.broadcast = broadcast
        self.ground = ground
        self._stock = stock
        self._lineups: dict[tuple[LeftOut, timedelta | None], Lineup] = {}
        self._casts: dict[tuple[int, DeviceKind], Cast] = {}
        self._ranks: dict[tuple[int, int | None, bool], Rank] = {}
        self._perishables = tuple(self._find_perishables())

    def expand(self, window: Window) -> recurrence.Expansion:
        """Every occurrence on the days of `window`."""
        return recurrence.expand(self.broadcast, window, self.ground.zone, self._session_begins)

    def likeness(self, occurrence: Occurrence) -> Hashable:
        """Everything of an occurrence that units and policies are asked about: what shares it is allowed or refused alike.

        That is the tree and what the clock on the wall shows, besides what is left out. Where the clock is changed within
        the occurrence it is like no other.
        """
        at, zone = occurrence.at, self.ground.zone
        wall, later = at.astimezone(zone), (at + LONGEST_DAY).astimezone(zone)
        return (
            id(self.ground.units.on(occurrence.day)),
            wall.isoweekday(),
            wall.time(),
            occurrence.session,
            self.left_out(at),
            at if wall.utcoffset() != later.utcoffset() else None,
        )

    def left_out(self, at: datetime) -> LeftOut:
        """What an occurrence which begins at `at` comes too late for."""
        return LeftOut(
            items=tuple((item, kind) for item, kind, since in self._perishables if at >= since),
            stale=tuple(
                (item, since - at)
                for item, kind, since in self._perishables
                if kind is ProblemKind.EXPIRED and _NOTHING < since - at < MAX_OCCURRENCE_LENGTH
            ),
        )

    def line_up(self, left_out: LeftOut, closes: timedelta | None) -> Lineup:
        """The items in their places, when some are left out and a session ends `closes` after the beginning."""
        found = self._lineups.get((left_out, closes))
        if found is None:
            found = line_up(
                self.broadcast,
                self._stock,
                left_out=dict(left_out.items),
                stale=dict(left_out.stale),
                closes=closes,
            )
            self._lineups[left_out, closes] = found
        return found

    def cast(self, lineup: Lineup, kind: DeviceKind) -> Cast:
        """What a kind of device makes of a line-up that `line_up` gave."""
        found = self._casts.get((id(lineup), kind))
        if found is None:
            forms = tuple(
                (position, piece.trimmed(form.length), form)
                for position, piece in enumerate(lineup.pieces)
                if (form := piece.form(kind)) is not None
            )
            pieces = tuple(piece for _, piece, _ in forms)
            if pieces == lineup.pieces:
                # Kinds that put out all of it have one tuple, so what follows from it is found out once.
                pieces = lineup.pieces
            found = Cast(forms, pieces, frozenset(piece.asked for piece in pieces))
            self._casts[id(lineup), kind] = found
        return found

    def patience(self, piece: Piece, at: datetime) -> timedelta:
        """How late a piece may begin in the occurrence that begins at `at`."""
        asked = self.broadcast.patience
        patience = piece.length / JOINABLE_PARTS if asked is None else min(asked, piece.length)
        if isinstance(piece.source, Bulletin) and piece.source.expires_at is not None:
            # Who is ready only then does not begin with what is stale.
            patience = max(min(patience, piece.source.expires_at - _MS - (at + piece.offset)), _NOTHING)
        return patience

    def rank(self, depth: int, place: int | None, *, is_live: bool = False) -> Rank:
        """How the broadcast ranks when its issuer lies `depth` levels below the root and it is given a place.

        `is_live` is of what somebody says live in it.
        """
        found = self._ranks.get((depth, place, is_live))
        if found is None:
            found = self._ranks[depth, place, is_live] = Rank(
                level=self.broadcast.level,
                live=is_live,
                severity=self.broadcast.severity,
                issuer_depth=min(depth, MAX_ISSUER_DEPTH),
                issued_at_ms=to_ms(self.broadcast.issued_at),
                place=place,
            )
        return found

    def held(self, code: str, day: date) -> permission.Held | ProblemKind:
        """A session of the issuing unit as it takes place on a day, or why it does not."""
        tree = self.ground.units.on(day)
        if self.broadcast.unit_id not in tree:
            return ProblemKind.ISSUER_CLOSED
        policy, above = self.ground.policies.at(self.broadcast.unit_id, tree), self.above(day)
        held = permission.session(policy, code, day, above=above)
        return held if isinstance(held, permission.Held) else ProblemKind.UNKNOWN_SESSION

    def above(self, day: date) -> tuple[UnitId, ...]:
        """The units above the issuer on a day."""
        return self.ground.units.on(day).ancestors(self.broadcast.unit_id)

    def stretches(self, spans: Iterable[tuple[datetime, datetime]]) -> tuple[wall_clock.Stretch, ...]:
        """What sounds in `spans`, in local days and times of the zone of policies."""
        return wall_clock.stretches(spans, self.ground.zone)

    def wall(self, at: datetime) -> tuple[wall_clock.Stretch, ...]:
        """What the clock on the wall shows from an instant on, for a day at least."""
        return self.stretches([(at, at + LONGEST_DAY)])

    def _session_begins(self, code: str, day: date) -> time | ProblemKind:
        held = self.held(code, day)
        return held.begin if isinstance(held, permission.Held) else held

    # --- what comes to an end ----------------------------------------------------------------------------------------

    def _find_perishables(self) -> Iterable[tuple[int, ProblemKind, datetime]]:
        """Items that are in no occurrence from an instant on: bulletins that expire, and that were in often enough."""
        for item in self.broadcast.items:
            bulletin = self._stock.bulletins.get(item.bulletin_id) if isinstance(item, BulletinItem) else None
            if bulletin is None:
                continue
            if bulletin.expires_at is not None:
                yield item.number, ProblemKind.EXPIRED, bulletin.expires_at
            if bulletin.max_plays is not None:
                key = (self.broadcast.broadcast_id, bulletin.bulletin_id)
                plays = self._stock.plays.get(key) or Plays(0, self.broadcast.issued_at)
                used_up_at = self._used_up_at(max(bulletin.max_plays - plays.so_far, 0), plays.since)
                if used_up_at is not None:
                    yield item.number, ProblemKind.PLAYS_USED_UP, used_up_at

    def _used_up_at(self, left: int, since: datetime) -> datetime | None:
        """When the occurrence after the first `left` ones from `since` on begins; None when that is after the window."""
        first, end, days = recurrence.local_day(since, self.ground.zone), self.ground.window.end, _COUNTED_DAYS
        first = max(first, self.broadcast.recurrence.starts_on - recurrence.AROUND)
        while first < end:
            until = min(first + timedelta(days=days), end)
            found = [each.at for each in self.expand(Window(first=first, end=until)).occurrences if each.at >= since]
            if left < len(found):
                return found[left]
            left -= len(found)
            first, days = until, days * 2
        return None
