"""What one device may sound at every instant of a month, worked out from the plain facts by brute force. Pure.

This is the other opinion: it knows nothing of the code it judges. It imports neither the arbitration nor planning nor the
device, only the facts; it re-states the rules from the specification, in words as plain as it can, and walks from one
instant at which anything changes to the next. What a device is to sound by these rules is then held against what its
output really put out.

The rules.
- A device knows the wishes as they stood when the newest plan it believes was issued: of those, what ended after the
  issue and begins before the plan does not hold any longer. Of what was over by then a plan says nothing.
- It goes by the clock it has, as long as it trusts it: the clock knows that it was set, and does not lie more than two
  minutes before something the device has seen signed. Without that it sounds nothing that is planned; what a person orders
  at once it sounds all the same.
- A clip it does not have sounds nothing and silences nobody. A silenced device sounds nothing.
- A live source sounds while it gives something; else the clip that fills in for it does, again and again since the
  beginning; with neither there is silence, and nobody is silenced for it.
- An item may begin from its start until half of it is over, or as long as was asked for, and then joins in progress.
- Of what expires nothing begins from that instant on, and what may be in so many occurrences is in the first of them since
  it was asked for. What begins an occurrence later than what is left out moves up.
- Of several the first in order sounds: emergency, then live, then priority, then normal; of priority ones the one that
  the commune has put first; of equal ones the more severe, the issuer higher up, the one asked for earlier, the smaller id.
- Normal content from above sounds where the commune has accepted it, and nothing but an emergency in its quiet hours.
- When the plan has run out, the notice that stands in for it sounds at its times, once each, while nothing else does.
- What was cut goes on where it would be by now (resume), begins again if it still may begin (restart), or is over (drop).
  After a power cut everything joins in progress.
- What sounds goes on when the clock is set back to before its start by a second or less; by more, it pauses until then.
- What ended, was stopped or can no longer begin is over for good, whatever the clock shows later.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise, takewhile

from services.local.bench.month_facts import (
    DAY,
    DROP,
    EMERGENCY,
    MINUTE,
    NORMAL,
    PRIORITY,
    RESTART,
    RESUME,
    SECOND,
    UNSYNCHRONISED,
    Ask,
    Came,
    Clock,
    Key,
    Month,
    Sent,
    Site,
    Sound,
    Source,
    Speech,
    Stocked,
    Tuned,
    parts_of,
)

UNPLACED = 128  # where priority content stands that its commune has not put in order: room before it, and after it
STANDS_IN_MS = 30 * SECOND  # how late what stands in for a plan may begin
EVERYDAY_MS = SECOND  # by which clocks are set back every day
GRACE_MS = 50  # a timer may fire so late
BEHIND_MS = 2 * MINUTE  # by which a clock may be behind what was signed, or ahead of it
UNTIMED_MS = 60 * SECOND  # how long an order waits to begin on a device that does not know the time
TOLERANCE_MS = 250  # decoding and rounding take less than this; more is another programme
LOOKS_EVERY_MS = 31 * SECOND  # how soon a device notices that its clock has passed what was signed


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrong:
    """A stretch in which something else sounded than may have: None stands for silence."""

    from_ms: int
    to_ms: int
    expected: Key | None
    sounded: Key | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """The first sound of an item: by how much later than planned it may begin, and why it could not begin earlier."""

    key: Key
    planned_ms: int
    late_ms: int
    why: str | None


@dataclass(slots=True)
class Opinion:
    """What may sound, in order of time, and the beginnings among it."""

    sounds: list[Sound]
    starts: dict[Key, Start]
    loose: list[int]  # instants from which on a device may take its time to notice that its clock can be trusted
    unsent: int = 0  # changes that should have led to a plan and did not


@dataclass(slots=True)
class _Item:
    """Something that may sound. Times are what a device's clock shows; a speech has none and begins when ordered."""

    key: Key
    clip: int | None
    level: int
    is_live: bool
    depth: int
    severity: int
    place: int
    asked_ms: int
    resume: int
    starts_ms: int
    ends_ms: int
    patience_ms: int = 0
    # How it goes:
    has_begun: bool = False
    was_cut: bool = False
    shifted_ms: int = 0
    began_ms: int = 0  # true time, of a speech
    begins_by_ms: int = 0  # true time, of a speech
    is_speech: bool = False
    source: Source | None = None
    why: str | None = None

    @property
    def latest_ms(self) -> int:
        return self.starts_ms + self.patience_ms

    @property
    def form(self) -> tuple[object, ...]:
        """Everything a device is told of it."""
        return (self.key, self.clip, self.source, self.starts_ms, self.ends_ms, self.level, self.depth, self.severity, self.place,
                self.asked_ms, self.resume, self.patience_ms)  # fmt: skip


@dataclass(slots=True)
class _Sounding:
    item: _Item
    clip: int
    position_ms: int
    from_ms: int


def opine(
    month: Month, site: Site, clock: Clock, *, sent: Sequence[Sent], came: Sequence[Came], stocked: Sequence[Stocked],
    tuned: Sequence[Tuned], since_ms: int, until_ms: int,
) -> Opinion:  # fmt: skip
    """What may sound on a device from `since_ms` to `until_ms`, given what was sent to it and what reached it."""
    opinion = _Walk(month, site, clock).walk(came, stocked, tuned, since_ms=since_ms, until_ms=until_ms)
    opinion.unsent = _unsent(month, site, sent, until_ms=until_ms)
    return opinion


def judge(expected: Iterable[Sound], sounded: Iterable[Sound], *, loose: Sequence[int] = ()) -> list[Wrong]:
    """Every stretch in which what sounded is not what may have sounded."""
    wrongs: list[Wrong] = []
    for from_ms, to_ms, one, other in _side_by_side(list(expected), sorted(sounded, key=lambda each: each.from_ms)):
        if one is None or other is None:
            is_right = one is other
        else:
            drift_ms = (one.position_ms - one.from_ms) - (other.position_ms - other.from_ms)
            is_right = (one.key, one.clip) == (other.key, other.clip) and (
                one.clip < 0 or abs(drift_ms) <= TOLERANCE_MS
            )
        if is_right or any(at_ms - TOLERANCE_MS <= from_ms and to_ms <= at_ms + LOOKS_EVERY_MS for at_ms in loose):
            continue
        wrong = Wrong(
            from_ms=from_ms, to_ms=to_ms, expected=one.key if one else None, sounded=other.key if other else None
        )
        if to_ms - from_ms > TOLERANCE_MS:
            wrongs.append(wrong)
    return wrongs


def _side_by_side(expected: list[Sound], sounded: list[Sound]) -> Iterator[tuple[int, int, Sound | None, Sound | None]]:
    """Time cut at every beginning and end on either side, with what is on each side in between."""
    cuts = sorted({at_ms for each in (*expected, *sounded) for at_ms in (each.from_ms, each.to_ms)})
    one = other = 0
    for from_ms, to_ms in pairwise(cuts):
        while one < len(expected) and expected[one].to_ms <= from_ms:
            one += 1
        while other < len(sounded) and sounded[other].to_ms <= from_ms:
            other += 1
        left = expected[one] if one < len(expected) and expected[one].from_ms <= from_ms else None
        right = sounded[other] if other < len(sounded) and sounded[other].from_ms <= from_ms else None
        yield from_ms, to_ms, left, right


# --- wishes ----------------------------------------------------------------------------------------------------------


def items_of(month: Month, site: Site, *, at_ms: int, until_ms: int) -> list[_Item]:
    """What the wishes as they stand at `at_ms` come to: everything that ends after it and begins before `until_ms`."""
    found: list[_Item] = []
    first = max(0, (at_ms - month.began_ms) // DAY - 1)
    last = min(month.days - 1, (until_ms - month.began_ms) // DAY)
    for ask, since_ms in month.wishes_at(site, at_ms):
        for day in range(first, last + 1):
            if day in ask.days:
                for time_ms in ask.times_ms:
                    found.extend(_items(month, site, ask, month.began_ms + day * DAY + time_ms, since_ms))
    return [item for item in found if item.ends_ms > at_ms and item.starts_ms < until_ms]


def _items(month: Month, site: Site, ask: Ask, occurrence_ms: int, since_ms: int) -> Iterator[_Item]:
    """The items of one occurrence. Nobody can ask for what has begun already, nor accept it."""
    if occurrence_ms < ask.asked_ms:
        return
    for part, (starts_ms, ends_ms) in parts_of(month, site, ask, occurrence_ms):
        if starts_ms < since_ms:
            continue
        patience_ms = (ends_ms - starts_ms) // 2 if ask.patience_ms is None else ask.patience_ms
        if part.expires_ms is not None:
            patience_ms = min(patience_ms, part.expires_ms - 1 - starts_ms)
        yield _Item(
            key=(ask.broadcast, occurrence_ms, part.number),
            clip=part.clip,
            source=None if part.source is None else month.sources[part.source],
            level=ask.level,
            is_live=False,
            depth=ask.depth,
            severity=ask.severity,
            place=month.places.get((site.path[-1], ask.broadcast), UNPLACED),
            asked_ms=ask.asked_ms,
            resume=ask.resume,
            starts_ms=starts_ms,
            ends_ms=ends_ms,
            patience_ms=patience_ms,
        )


def _unsent(month: Month, site: Site, sent: Sequence[Sent], *, until_ms: int) -> int:
    """How often a device was left with a plan that no longer says what is wanted, or that runs out.

    A plan is to be issued within a minute of a change, and again when less than two days of it are left.
    """
    plans = [each for each in sent if each.is_plan]
    missing = sum(1 for one, other in pairwise(plans) if other.at_ms > one.valid_until_ms - 2 * DAY)
    asks = [ask for ask in month.asks if ask.is_for(site.number, site.path)]
    changed = {at_ms for ask in asks for at_ms in (ask.asked_ms, ask.until_ms) if at_ms is not None}
    changed |= {each.at_ms for each in month.decisions if each.unit == site.path[-1]}
    for at_ms in sorted(changed):
        if not plans or not plans[0].at_ms < at_ms < until_ms:
            continue
        held = max((plan for plan in plans if plan.at_ms <= at_ms + MINUTE), key=lambda plan: plan.at_ms)
        if held.at_ms >= at_ms:
            continue
        told, wanted = (
            {item.form for item in items_of(month, site, at_ms=moment, until_ms=held.valid_until_ms)
             if item.starts_ms > at_ms + MINUTE}
            for moment in (held.at_ms, at_ms + MINUTE)
        )  # fmt: skip
        missing += told != wanted
    return missing


# --- order -----------------------------------------------------------------------------------------------------------


def _urgency(item: _Item) -> int:
    """Live is a rank of a source: it comes after every emergency and before everything else."""
    if item.level == EMERGENCY:
        return 0
    if item.is_live:
        return 1
    return 2 if item.level == PRIORITY else 3


_RULES: tuple[Callable[[_Item], int | bytes], ...] = (
    _urgency,
    lambda item: item.place if _urgency(item) == 2 else 0,
    lambda item: -item.severity,
    lambda item: item.depth,
    lambda item: item.asked_ms,
    lambda item: item.key[0].bytes,
    lambda item: item.key[1] or 0,
    lambda item: item.key[2] or 0,
)


def first_of(wanting: Sequence[_Item]) -> _Item | None:
    """Who sounds of all that want to: each rule in turn sends home whoever it does not favour."""
    left = list(wanting)
    for rule in _RULES:
        if len(left) < 2:
            break
        best = min(rule(item) for item in left)
        left = [item for item in left if rule(item) == best]
    return left[0] if left else None


# --- the walk --------------------------------------------------------------------------------------------------------


class _Walk:
    """One device, from one instant at which anything changes to the next."""

    def __init__(self, month: Month, site: Site, clock: Clock) -> None:
        self._month = month
        self._site = site
        self._clock = clock
        self._items: list[_Item] = []  # in order of start, speeches before all others
        self._over: set[Key] = set()
        self._sounding: _Sounding | None = None
        self._clips: set[int] = set()
        self._heard: set[int] = set()
        self._is_up = False
        self._is_hushed = False
        self._floor_ms = 0
        self._held: Sent | None = None
        self._notice = self._stand_by()
        self._stood_in_ms = 0
        self._opinion = Opinion(sounds=[], starts={}, loose=[])

    def walk(
        self, came: Sequence[Came], stocked: Sequence[Stocked], tuned: Sequence[Tuned], *, since_ms: int, until_ms: int
    ) -> Opinion:
        """Live through everything that happens, and look again at every instant in between at which something may."""
        happens = self._happenings(came, stocked, tuned, since_ms=since_ms)
        at_ms, place = since_ms, 0
        while at_ms <= until_ms:
            while place < len(happens) and happens[place][0] <= at_ms:
                happens[place][2](at_ms)
                place += 1
                self._look(at_ms)
            self._look(at_ms)
            then_ms = self._next_ms(at_ms)
            if place < len(happens):
                then_ms = min(then_ms, happens[place][0])
            at_ms = max(then_ms, at_ms + 1)
        return self._opinion

    def _happenings(
        self, came: Sequence[Came], stocked: Sequence[Stocked], tuned: Sequence[Tuned], *, since_ms: int
    ) -> list[tuple[int, int, Callable[[int], None]]]:
        found: list[tuple[int, int, Callable[[int], None]]] = [(since_ms, 0, self._power_up)]
        for down in self._site.luck.downs:
            found += [(down.from_ms, 0, self._power_down), (down.to_ms, 0, self._power_up)]
        found += [(at_ms, 1, _nothing) for at_ms, _, _ in self._clock.changes(least_ms=SECOND)]
        found += [(each.at_ms, 2, partial(self._stock, each)) for each in stocked]
        found += [(each.at_ms, 2, partial(self._tune, each)) for each in tuned]
        found += [(each.at_ms, 3, partial(self._receive, each.sent)) for each in came]
        return sorted(found, key=lambda each: each[:2])

    # --- what happens ------------------------------------------------------------------------------------------------

    def _power_up(self, _: int) -> None:
        self._is_up = True

    def _power_down(self, at_ms: int) -> None:
        self._is_up = False
        self._stop(at_ms)
        # What was ordered is forgotten without power; what was planned is not.
        self._items = [item for item in self._items if not item.is_speech]

    def _stock(self, stocked: Stocked, _: int) -> None:
        if stocked.is_there:
            self._clips.add(stocked.clip)
        else:
            self._clips.discard(stocked.clip)

    def _tune(self, tuned: Tuned, _: int) -> None:
        if tuned.is_heard:
            self._heard.add(tuned.source)
        else:
            self._heard.discard(tuned.source)

    def _receive(self, sent: Sent, at_ms: int) -> None:
        """Take in what was signed, unless it is over or from the future by a clock that is trusted."""
        if sent.is_plan and self._held is not None and sent.issued_ms <= self._held.issued_ms:
            return
        shown_ms = self._clock.read(at_ms)
        is_trusted = self._is_trusted(at_ms)
        if sent.valid_until_ms <= (max(shown_ms, self._floor_ms) if is_trusted else self._floor_ms):
            return
        if is_trusted and sent.issued_ms > shown_ms + BEHIND_MS:
            return
        if sent.is_plan:
            self._look(at_ms)
        self._floor_ms = max(self._floor_ms, sent.issued_ms)
        if sent.is_plan:
            self._held = sent
            self._learn(sent, at_ms)
        if sent.is_hush is not None:
            self._is_hushed = sent.is_hush
        if sent.speech is not None:
            wait_ms = sent.valid_until_ms - shown_ms if is_trusted else UNTIMED_MS
            begins_by_ms = at_ms + math.ceil(wait_ms / self._clock.speed)
            self._items.insert(0, self._spoken(sent.speech, begins_by_ms=begins_by_ms))

    def _learn(self, sent: Sent, at_ms: int) -> None:
        """A newer plan takes the place of the older one; what has begun and still is wanted goes on."""
        wanted = [item for item in self._items if item.is_speech or item.ends_ms <= sent.issued_ms]
        known = {item.key: item for item in self._items if all(item is not other for other in wanted)}
        for item in items_of(self._month, self._site, at_ms=sent.issued_ms, until_ms=sent.valid_until_ms):
            earlier = known.pop(item.key, None)
            if item.key in self._over:
                continue
            if earlier is not None and earlier.has_begun and (earlier.clip, earlier.source) != (item.clip, item.source):
                known[item.key] = earlier
                continue
            if earlier is not None:
                item.has_begun, item.was_cut, item.shifted_ms = earlier.has_begun, earlier.was_cut, earlier.shifted_ms
                item.why = earlier.why
                if self._sounding is not None and self._sounding.item is earlier:
                    self._sounding.item = item
            wanted.append(item)
        self._items = sorted(wanted, key=lambda item: item.starts_ms)
        for gone in known.values():
            if gone.has_begun:
                self._end(gone, at_ms)

    def _spoken(self, speech: Speech, *, begins_by_ms: int) -> _Item:
        return _Item(
            key=(speech.order, None, None),
            clip=speech.clip,
            level=speech.level,
            is_live=True,
            depth=speech.depth,
            severity=0,
            place=UNPLACED,
            asked_ms=speech.at_ms,
            resume=RESUME,
            starts_ms=0,
            ends_ms=speech.length_ms,
            is_speech=True,
            begins_by_ms=begins_by_ms,
        )

    # --- looking -----------------------------------------------------------------------------------------------------

    def _is_trusted(self, at_ms: int) -> bool:
        piece = self._clock.piece(at_ms)
        is_set = self._clock.state[piece] != UNSYNCHRONISED
        return is_set and self._clock.read(at_ms, piece) >= self._floor_ms - BEHIND_MS

    def _look(self, at_ms: int) -> None:
        """Decide what sounds from here on."""
        if not self._is_up:
            return
        shown_ms = self._clock.read(at_ms)
        is_trusted = self._is_trusted(at_ms)
        if is_trusted and self._is_too_early(shown_ms):
            self._stop(at_ms)
        wanting: list[tuple[_Item, int]] = []  # with the position in its clip at which it would go on
        for item in self._come(shown_ms):
            if item.is_speech:
                position_ms = self._speech_at(item, at_ms)
            elif not is_trusted:
                continue
            else:
                position_ms = self._planned_at(item, at_ms, shown_ms)
            if position_ms is not None:
                wanting.append((item, position_ms))
        chosen = first_of([item for item, _ in wanting])
        if chosen is None and self._stands_in(at_ms, shown_ms, is_trusted=is_trusted):
            chosen = self._notice
        current = None if self._sounding is None else self._sounding.item
        if current is not None and current is not chosen:
            if chosen is None or all(item is not current for item, _ in wanting) or current.resume == DROP:
                self._end(current, at_ms)
            else:
                self._stop(at_ms)
                current.was_cut = True
        if chosen is not None and self._sounding is None:
            position_ms = next((position for item, position in wanting if item is chosen), 0)
            self._begin(chosen, position_ms, at_ms, shown_ms)
        for item, _ in wanting:
            if item is not chosen and not item.has_begun:
                item.why = "outranked"

    def _is_too_early(self, shown_ms: int) -> bool:
        """Whether what sounds is planned for later, by a clock that has been set back by more than happens every day."""
        if self._sounding is None or self._sounding.item.is_speech or self._sounding.item is self._notice:
            return False
        return self._sounding.item.starts_ms - shown_ms > EVERYDAY_MS

    def _come(self, shown_ms: int) -> list[_Item]:
        """What has come up by now, and what sounds in any case."""
        come = list(takewhile(lambda item: item.starts_ms <= shown_ms, self._items))
        if self._sounding is not None and all(item is not self._sounding.item for item in come):
            come.append(self._sounding.item)
        return come

    def _planned_at(self, item: _Item, at_ms: int, shown_ms: int) -> int | None:
        """Where in its clip an item of the plan may sound now; None: it may not. Ends what is over."""
        content = self._content(item)
        is_able = content is not None and not self._is_hushed
        is_sounding = self._is_sounding(item)
        may_begin = shown_ms <= item.latest_ms + GRACE_MS
        if not item.has_begun:
            if not may_begin or shown_ms >= item.ends_ms:
                self._end(item, at_ms)
            elif is_able:
                return self._position(item, shown_ms)
            else:
                item.why = "silenced" if self._is_hushed else "media" if item.source is None else "source silent"
            return None
        begins_again = not is_sounding and item.was_cut and item.resume == RESTART and item.source is None
        if not may_begin if begins_again else shown_ms >= item.ends_ms + item.shifted_ms:
            self._end(item, at_ms)
            return None
        if is_sounding and item.source is None and self._is_through(at_ms):
            self._end(item, at_ms)
            return None
        if self._is_hushed or (not is_able and not (is_sounding and item.source is None)):
            if is_sounding and item.source is not None and not self._is_hushed:
                self._stop(at_ms)  # the source gives nothing: this is no end
            return None
        if is_sounding and item.source is not None and self._goes_on_with(content, at_ms):
            self._stop(at_ms)  # and goes on at once with what there is
        return 0 if begins_again else self._position(item, shown_ms)

    def _goes_on_with(self, content: int | None, at_ms: int) -> bool:
        """Whether what stands for a live source changes now, or begins again."""
        assert self._sounding is not None
        return self._sounding.clip != content or self._is_through(at_ms)

    def _content(self, item: _Item) -> int | None:
        """What an item would sound now, if there is anything."""
        if item.source is None:
            return item.clip if item.clip in self._clips else None
        if item.source.number in self._heard:
            return item.source.clip
        return item.source.fallback if item.source.fallback in self._clips else None

    def _position(self, item: _Item, shown_ms: int) -> int:
        since_ms = shown_ms - item.starts_ms - item.shifted_ms
        if item.source is None:
            return since_ms
        content = self._content(item)
        return 0 if content is None or content < 0 else since_ms % self._month.clips[content]

    def _speech_at(self, item: _Item, at_ms: int) -> int | None:
        is_able = item.clip in self._clips and not self._is_hushed
        if not item.has_begun:
            if at_ms > item.begins_by_ms:
                self._end(item, at_ms)
                return None
            return 0 if is_able else None
        spoken_ms = int((at_ms - item.began_ms) * self._clock.speed)
        if spoken_ms >= item.ends_ms:
            self._end(item, at_ms)
            return None
        return spoken_ms if is_able else None

    def _is_sounding(self, item: _Item) -> bool:
        return self._sounding is not None and self._sounding.item is item

    def _stand_by(self) -> _Item | None:
        stand_by = self._month.stand_by
        if stand_by is None:
            return None
        clip_ms = self._month.clips[stand_by.clip]
        return _Item(
            key=(stand_by.order, None, None), clip=stand_by.clip, level=NORMAL, is_live=False,
            depth=0, severity=0, place=UNPLACED, asked_ms=0, resume=DROP, starts_ms=0, ends_ms=clip_ms,
        )  # fmt: skip

    def _stands_in(self, at_ms: int, shown_ms: int, *, is_trusted: bool) -> bool:
        """Whether the notice sounds, now that nothing else wants to: it begins at one of its times, and goes on."""
        stand_by, notice = self._month.stand_by, self._notice
        if stand_by is None or notice is None or notice.clip not in self._clips or self._is_hushed:
            return False
        if self._is_sounding(notice):
            return not self._is_through(at_ms)
        if not is_trusted or self._held is None or shown_ms < self._held.valid_until_ms:
            return False
        last_ms = stand_by.last_ms(shown_ms)
        return last_ms >= max(self._held.valid_until_ms, self._stood_in_ms + 1) and shown_ms <= last_ms + STANDS_IN_MS

    def _is_through(self, at_ms: int) -> bool:
        """Whether the clip that sounds has come to its end; live sources come to none."""
        assert self._sounding is not None
        if self._sounding.clip < 0:
            return False
        played_ms = (at_ms - self._sounding.from_ms) * self._clock.speed
        return self._sounding.position_ms + played_ms >= self._month.clips[self._sounding.clip]

    def _begin(self, item: _Item, position_ms: int, at_ms: int, shown_ms: int) -> None:
        if item.is_speech and not item.has_begun:
            item.began_ms = at_ms
        if item.has_begun and item.was_cut and item.resume == RESTART and not item.is_speech:
            item.shifted_ms = shown_ms - item.starts_ms
        if item is self._notice:
            self._stood_in_ms = shown_ms
        elif not item.has_begun:
            item.has_begun = True
            self._opinion.starts[item.key] = Start(
                key=item.key, planned_ms=item.starts_ms, late_ms=shown_ms - item.starts_ms, why=item.why
            )
        content = self._content(item)
        assert content is not None
        self._sounding = _Sounding(item=item, clip=content, position_ms=position_ms, from_ms=at_ms)

    def _stop(self, at_ms: int) -> None:
        """Silence what sounds; what becomes of it is another matter."""
        if self._sounding is None:
            return
        sounding, self._sounding = self._sounding, None
        if at_ms > sounding.from_ms:
            self._opinion.sounds.append(
                Sound(
                    key=sounding.item.key,
                    clip=sounding.clip,
                    position_ms=sounding.position_ms,
                    from_ms=sounding.from_ms,
                    to_ms=at_ms,
                )
            )

    def _end(self, item: _Item, at_ms: int) -> None:
        """For good."""
        if self._sounding is not None and self._sounding.item is item:
            self._stop(at_ms)
        self._over.add(item.key)
        self._items = [each for each in self._items if each is not item]

    # --- when to look again ------------------------------------------------------------------------------------------

    def _next_ms(self, at_ms: int) -> int:
        """The next instant at which the passing of time alone may change something."""
        moments: list[int] = []
        shown: list[int] = []
        shown_ms = self._clock.read(at_ms)
        for item in self._items:
            if item.is_speech:
                ends_ms = item.began_ms + math.ceil(item.ends_ms / self._clock.speed)
                moments.append(ends_ms if item.has_begun else item.begins_by_ms + 1)
            elif item.starts_ms > shown_ms:
                shown.append(item.starts_ms)
                break  # speeches stand before what is planned
            else:
                shown += [item.latest_ms + GRACE_MS + 1, item.ends_ms, item.ends_ms + item.shifted_ms]
        if self._sounding is not None and self._sounding.clip >= 0:
            left_ms = self._month.clips[self._sounding.clip] - self._sounding.position_ms
            moments.append(self._sounding.from_ms + math.ceil(left_ms / self._clock.speed))
        if self._month.stand_by is not None and self._held is not None:
            shown.append(self._month.stand_by.next_ms(max(shown_ms, self._held.valid_until_ms - 1)))
        piece = self._clock.piece(at_ms)
        if self._clock.state[piece] != UNSYNCHRONISED and not self._is_trusted(at_ms):
            shown.append(self._floor_ms - BEHIND_MS)
            trusted_ms = self._clock.when(self._floor_ms - BEHIND_MS, after_ms=at_ms)
            self._opinion.loose.append(trusted_ms if trusted_ms is not None else at_ms)
        ahead = min((each for each in shown if each > shown_ms), default=None)
        if ahead is not None and (then_ms := self._clock.when(ahead, after_ms=at_ms)) is not None:
            moments.append(then_ms)
        return min((each for each in moments if each > at_ms), default=at_ms + DAY)


def _nothing(_: int) -> None:
    """The clock was moved or came to be doubted: all there is to do is look."""
