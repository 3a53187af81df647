"""What one occurrence of a broadcast consists of, and when each part of it begins: items, placed one after another.

What cannot be emitted takes no time, so it leaves no silence behind. A relay with a fixed start waits for nobody: it
begins then, and what is before it gives way by the broadcast's own rule for what does not fit (`Fit`):

- WHOLE: sounds to its end, and the relay is joined late;
- TRIM: is cut where the relay begins;
- DROP: is left out.

The same rule holds at the end of the broadcast's length and, unless it is WHOLE, at the end of the session it is in.
`Fill.REPEAT` plays the items again, in order, while there is time; it never runs past the end of a session. What goes
stale within the occurrence no longer begins from then on, and takes no time either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import NamedTuple, assert_never

from schemas.fields import DeviceKind
from schemas.identifiers import BroadcastId, BulletinId
from schemas.plans import ContentKind
from services.control.planning.model import (
    Broadcast,
    Bulletin,
    BulletinItem,
    Fill,
    Fit,
    Item,
    Media,
    Pause,
    Plays,
    ProblemKind,
    RelayItem,
    RelaySource,
    SourceId,
)

# How long a board shows what has no length of its own, nor a sound to last as long as.
TEXT_LENGTH = timedelta(minutes=1)
# Items are numbered in a byte on the wire.
MAX_ITEM_NUMBER = 255
_NOTHING = timedelta(0)
_SHORTEST = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What a kind of device puts out of something."""

    content: ContentKind
    length: timedelta | None = None  # None: as long as its piece
    media: Media | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A bulletin or a relay at its place. `item` is its number in this round, `asked` the one it was asked for by."""

    item: int
    asked: int
    offset: timedelta
    length: timedelta
    source: Bulletin | RelaySource
    is_live: bool = False

    def form(self, kind: DeviceKind) -> Form | None:
        """What a device of this kind puts out of it; None when it cannot."""
        if isinstance(self.source, RelaySource):
            return Form(content=ContentKind.RELAY) if kind is DeviceKind.CLUSTER else None
        return bulletin_form(self.source, kind)

    def trimmed(self, length: timedelta | None) -> Piece:
        """The piece, no longer than what a device has to put out in it; None: as long as it is."""
        return self if length is None or length >= self.length else replace(self, length=length)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineup:
    """The parts of an occurrence in order of time; what is missing from it; and whether its session cut it short."""

    pieces: tuple[Piece, ...]
    gaps: tuple[tuple[int, ProblemKind], ...]
    length: timedelta
    is_shortened: bool = False
    is_overfull: bool = False  # there was time to repeat more items than can be numbered
    has_direct_relay: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Stock:
    """What items name."""

    bulletins: Mapping[BulletinId, Bulletin]
    relays: Mapping[SourceId, RelaySource]
    plays: Mapping[tuple[BroadcastId, BulletinId], Plays] = field(default_factory=dict)


def bulletin_form(bulletin: Bulletin, kind: DeviceKind) -> Form | None:
    """What a device of this kind puts out of a bulletin: clusters sound, boards show; None when it is nothing."""
    if kind is DeviceKind.CLUSTER and bulletin.media is not None and not _is_seen(bulletin.media):
        return Form(content=ContentKind.AUDIO, media=bulletin.media, length=_length(bulletin.media))
    if kind is DeviceKind.BOARD:
        if bulletin.board_media is not None:
            shown = _SHOWN.get(bulletin.board_media.mime.partition("/")[0])
            if shown is None:
                return None
            return Form(content=shown, media=bulletin.board_media, length=_length(bulletin.board_media))
        if bulletin.board_text:
            return Form(content=bulletin.board_style, text=bulletin.board_text)
    return None


_SHOWN = {"image": ContentKind.IMAGE, "video": ContentKind.VIDEO}


def _is_seen(media: Media) -> bool:
    return media.mime.partition("/")[0] in _SHOWN


def bulletin_length(bulletin: Bulletin) -> timedelta:
    """How long a bulletin takes: as long as what has a length in it, else as boards are to show it."""
    own = (_length(each) for each in (bulletin.media, bulletin.board_media))
    return max((length for length in own if length is not None), default=bulletin.board_length or TEXT_LENGTH)


def _length(media: Media | None) -> timedelta | None:
    """How long a file lasts, where it has a length worth the name."""
    if media is None or media.duration is None or media.duration < _SHORTEST:
        return None
    return media.duration


def line_up(
    broadcast: Broadcast,
    stock: Stock,
    *,
    left_out: Mapping[int, ProblemKind] | None = None,
    stale: Mapping[int, timedelta] | None = None,
    closes: timedelta | None = None,
) -> Lineup:
    """Place the items of `broadcast`.

    `left_out` names items that are not in this occurrence, and why; `stale` those that expire within it, `closes` is when
    the session ends that the occurrence begins in: both counted from its beginning.
    """
    gaps: dict[int, ProblemKind] = {}
    usable: list[_Usable] = []
    for item in broadcast.items:
        found = (left_out or {}).get(item.number) or _look_up(item, stock, (stale or {}).get(item.number))
        if isinstance(found, ProblemKind):
            gaps[item.number] = found
        else:
            usable.append(found)
    if any(_can_be_framed(item) for item in broadcast.items) and not any(
        each.source is not None and not _is_jingle(each.item) for each in usable
    ):
        # Nothing is left for the jingles to frame: a signature tune by itself tells nobody anything.
        gaps |= {each.item.number: ProblemKind.JINGLE_ALONE for each in usable if _is_jingle(each.item)}
        usable = [each for each in usable if not _is_jingle(each.item)]
    placing = _Placing(broadcast.fit, length=broadcast.length, closes=closes)
    for position, each in enumerate(usable):
        pins = (later.pin for later in usable[position + 1 :] if later.pin is not None)
        gap = placing.place(each, before=next(pins, None))
        if gap is not None:
            gaps[each.item.number] = gap
    placed = {piece.asked for piece in placing.pieces}
    framed = {each.item.number for each in usable if _can_be_framed(each.item)}
    if framed and placed.isdisjoint(framed):
        # What they were to frame had no room.
        gaps |= dict.fromkeys(placed, ProblemKind.JINGLE_ALONE)
        placing.clear()
    if broadcast.fill is Fill.REPEAT and placing.pieces:
        placing.repeat([each for each in usable if each.pin is None], framed, stride=broadcast.items[-1].number + 1)
    return Lineup(
        pieces=tuple(placing.pieces),
        gaps=tuple(sorted(gaps.items())),
        length=placing.offset,
        is_shortened=placing.is_shortened,
        is_overfull=placing.is_overfull,
        has_direct_relay=any(
            isinstance(piece.source, RelaySource) and piece.source.is_direct for piece in placing.pieces
        ),
    )


class _Usable(NamedTuple):
    """An item that can be placed; without a source it is a pause."""

    item: Item
    source: Bulletin | RelaySource | None
    length: timedelta
    pin: timedelta | None = None
    stale: timedelta | None = None  # since when it no longer begins

    def is_stale(self, at: timedelta) -> bool:
        return self.stale is not None and at >= self.stale


def _look_up(item: Item, stock: Stock, stale: timedelta | None) -> _Usable | ProblemKind:
    if item.number > MAX_ITEM_NUMBER:
        return ProblemKind.NO_ROOM
    match item:
        case Pause(length=length):
            return _Usable(item, None, max(length, _NOTHING))
        case BulletinItem(bulletin_id=bulletin_id):
            bulletin = stock.bulletins.get(bulletin_id)
            if bulletin is None:
                return ProblemKind.BULLETIN_MISSING
            if not bulletin.is_approved:
                return ProblemKind.BULLETIN_NOT_APPROVED
            return _Usable(item, bulletin, bulletin_length(bulletin), stale=stale)
        case RelayItem(source_id=source_id, length=length, starts_after=starts_after, is_live=is_live):
            source = stock.relays.get(source_id)
            if source is None:
                return ProblemKind.SOURCE_MISSING
            if is_live:
                # What fills in would go before priority content too.
                source = replace(source, fallback=None)
            return _Usable(item, source, length, starts_after)
        case _:
            assert_never(item)


def _is_jingle(item: Item) -> bool:
    return isinstance(item, BulletinItem) and item.is_jingle


def _can_be_framed(item: Item) -> bool:
    """Whether the item is something that a jingle could frame."""
    return not isinstance(item, Pause) and not _is_jingle(item)


class _Placing:
    """Where the next item would begin, and what has been placed before it."""

    def __init__(self, fit: Fit, *, length: timedelta | None, closes: timedelta | None) -> None:
        self._fit = fit
        self._length = length
        self._closes = closes
        self.offset = _NOTHING
        self.pieces: list[Piece] = []
        self.is_shortened = False
        self.is_overfull = False

    def place(self, each: _Usable, *, before: timedelta | None) -> ProblemKind | None:
        """Place an item of the first round, which gives way to what begins at `before`; why not, when it cannot be."""
        begin = self.offset if each.pin is None else max(self.offset, each.pin)
        end = (begin if each.pin is None else each.pin) + each.length
        if each.source is None:
            # Silence gives way to whatever comes.
            self.offset = end if before is None else max(begin, min(end, before))
            return None
        if each.is_stale(begin):
            return ProblemKind.EXPIRED
        if self._fit is not Fit.WHOLE:
            limit = min((each for each in (before, self._length, self._closes) if each is not None), default=end)
            if end > limit:
                if self._fit is Fit.DROP or limit - begin < _SHORTEST:
                    return ProblemKind.NO_ROOM
                self.is_shortened |= limit == self._closes != self._length
                end = limit
        if end - begin < _SHORTEST:
            return ProblemKind.NO_ROOM
        self._add(each.item.number, each, begin, end)
        return None

    def clear(self) -> None:
        """Take back everything that was placed."""
        self.pieces, self.offset, self.is_shortened = [], _NOTHING, False

    def repeat(self, items: Sequence[_Usable], framed: AbstractSet[int], *, stride: int) -> None:
        """Place the items again and again, as long as there is time and numbers for them.

        Where items are framed by jingles, there is no round without any of them.
        """
        until = min((each for each in (self._length, self._closes) if each is not None), default=_NOTHING)
        shift, goes_on = stride, True
        while goes_on:
            placed, begin = len(self.pieces), self.offset
            goes_on = self._round(items, shift, until) and len(self.pieces) > placed
            if framed and framed.isdisjoint(piece.asked for piece in self.pieces[placed:]):
                del self.pieces[placed:]
                self.offset = begin
                return
            shift += stride

    def _round(self, items: Sequence[_Usable], shift: int, until: timedelta) -> bool:
        """Place the items once more; whether there may be time and numbers for another round."""
        cursor = self.offset
        for each in items:
            end = cursor + each.length
            if each.source is None:
                cursor = end
                continue
            if each.length < _SHORTEST or each.is_stale(cursor):
                continue
            if until - cursor < _SHORTEST or (end > until and not self._may_pass(end)):
                return False
            if each.item.number + shift > MAX_ITEM_NUMBER:
                self.is_overfull = True
                return False
            self._add(each.item.number + shift, each, cursor, end if self._fit is Fit.WHOLE else min(end, until))
            cursor = self.offset
        return True

    def _may_pass(self, end: timedelta) -> bool:
        """Whether what is repeated may begin although it would end after the time that is to be filled."""
        return self._fit is Fit.TRIM or (self._fit is Fit.WHOLE and (self._closes is None or end <= self._closes))

    def _add(self, number: int, each: _Usable, begin: timedelta, end: timedelta) -> None:
        assert each.source is not None
        self.pieces.append(
            Piece(
                item=number,
                asked=each.item.number,
                offset=begin,
                length=end - begin,
                source=each.source,
                is_live=isinstance(each.item, RelayItem) and each.item.is_live,
            )
        )
        self.offset = end
