"""A simulated month in plain words: who asked for what, what went wrong where, and what a clock shows. Pure.

The oracle judges by these facts and by nothing else, so they stand apart from everything they are held against: numbers
and strings, none of our own types. Instants are true milliseconds since 1970 unless a name says that a device shows them;
days and times of day are those of a zone that is always `ZONE_MS` ahead of UTC.
"""

from __future__ import annotations

import math
import uuid
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate

SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000

ZONE = "Asia/Ho_Chi_Minh"
ZONE_MS = 7 * HOUR

# As the wire numbers them (R-17, and what becomes of content that was cut).
NORMAL, PRIORITY, EMERGENCY = range(3)
RESUME, RESTART, DROP = range(3)

Span = tuple[int, int]  # [from, to)


# --- what was asked for ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One item of a broadcast: a clip, a live source for a length, or silence where there is neither.

    Stale news: it begins before `expires_ms` only, and is in the first `most` occurrences only.
    """

    number: int
    clip: int | None
    length_ms: int
    source: int | None = None
    expires_ms: int | None = None
    most: int | None = None

    @property
    def is_silence(self) -> bool:
        """Whether nothing is wanted for its length."""
        return self.clip is None and self.source is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What somebody asked for, from the moment it was asked until it was changed or withdrawn.

    `broadcast` is the same before and after a change. `days` are those of the month, counted from 0; `times_ms` are
    local times of day. `units` are those whose whole subtree is meant, except `not_devices`. An item may begin for
    `patience_ms` (None: until half of it is over).
    """

    broadcast: uuid.UUID
    unit: str
    depth: int
    level: int
    resume: int
    days: range
    times_ms: tuple[int, ...]
    parts: tuple[Part, ...]
    units: tuple[str, ...]
    not_devices: frozenset[int] = frozenset()
    asked_ms: int
    until_ms: int | None = None
    severity: int = 0
    patience_ms: int | None = None

    def stands_at(self, at_ms: int) -> bool:
        """Whether this is what the platform has been told at an instant."""
        return self.asked_ms <= at_ms and (self.until_ms is None or at_ms < self.until_ms)

    def nth(self, began_ms: int, begins_ms: int) -> int:
        """How many occurrences it has, since it was asked for, before the one that begins at an instant."""
        each = (began_ms + day * DAY + time_ms for day in self.days for time_ms in self.times_ms)
        return sum(1 for at_ms in each if self.asked_ms <= at_ms < begins_ms)

    def is_for(self, device: int, path: Iterable[str]) -> bool:
        """Whether a device in the units of `path` is meant."""
        return device not in self.not_devices and any(unit in self.units for unit in path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Speech:
    """A live word to some devices: not planned, ordered when it begins."""

    order: uuid.UUID
    devices: tuple[int, ...]
    at_ms: int
    valid_ms: int
    clip: int
    length_ms: int
    level: int
    depth: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A live source: when it gives nothing, and the clip that fills in for it then."""

    number: int
    source: uuid.UUID
    silent: tuple[Span, ...]
    fallback: int | None

    @property
    def clip(self) -> int:
        """What its sound is called where clips are numbered."""
        return -1 - self.number


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a commune says to a normal broadcast from above, from an instant on (R-17)."""

    broadcast: uuid.UUID
    unit: str
    at_ms: int
    is_accepted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StandBy:
    """What every device sounds when its plan has run out: a notice of the station, at these times of the UTC day."""

    order: uuid.UUID
    clip: int
    times_ms: tuple[int, ...]

    def last_ms(self, shown_ms: int) -> int:
        """The newest of its instants by then."""
        day_ms = shown_ms // DAY * DAY
        return max(
            at_ms for day in (day_ms - DAY, day_ms) for each in self.times_ms if (at_ms := day + each) <= shown_ms
        )

    def next_ms(self, shown_ms: int) -> int:
        """The first of its instants after that."""
        day_ms = shown_ms // DAY * DAY
        return min(
            at_ms for day in (day_ms, day_ms + DAY) for each in self.times_ms if (at_ms := day + each) > shown_ms
        )


# --- what goes wrong -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Down:
    """No power from `from_ms` to `to_ms`. A cold clock forgets the time; in order means told beforehand (a reboot)."""

    from_ms: int
    to_ms: int
    is_cold: bool = False
    is_orderly: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Jump:
    """Something moves the clock by `by_ms`, and the clock hears nothing of the right time until `deaf_until_ms`."""

    at_ms: int
    by_ms: int
    deaf_until_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Luck:
    """Everything that goes wrong with one device."""

    ppm: float = 0.0
    downs: tuple[Down, ...] = ()
    offline: tuple[Span, ...] = ()
    jumps: tuple[Jump, ...] = ()
    withheld: tuple[tuple[int, int, int], ...] = ()  # clip, from, to: cannot be fetched
    hushed: tuple[Span, ...] = ()  # silenced by order
    kinds: tuple[str, ...] = ()  # one word for each fault, to be counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One device: its number, and the units it stands in from the root down."""

    number: int
    path: tuple[str, ...]
    luck: Luck

    @property
    def name(self) -> str:
        """Its name on the wire."""
        return f"month-{self.number:05d}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Month:
    """All of it. `units` are (unit, parent); the month begins at local midnight."""

    began_ms: int
    days: int
    seed: int
    units: tuple[tuple[str, str | None], ...]
    sites: tuple[Site, ...]
    asks: tuple[Ask, ...]
    speeches: tuple[Speech, ...]
    clips: tuple[int, ...]  # lengths, by number
    decisions: tuple[Decision, ...] = ()
    places: Mapping[tuple[str, uuid.UUID], int] = field(default_factory=dict)  # of priority broadcasts, by commune
    quiet: Mapping[str, Span] = field(default_factory=dict)  # local times of day, from the evening until the morning
    stand_by: StandBy | None = None
    sources: tuple[Source, ...] = ()

    @property
    def ends_ms(self) -> int:
        """The first instant after the month."""
        return self.began_ms + self.days * DAY

    def seen_from(self, site: Site) -> Month:
        """The same month with only those wishes and decisions that concern a device: all others cost time."""
        return replace(
            self,
            sites=(site,),
            asks=tuple(ask for ask in self.asks if ask.is_for(site.number, site.path)),
            decisions=tuple(each for each in self.decisions if each.unit == site.path[-1]),
        )

    def wishes_at(self, site: Site, at_ms: int) -> Iterator[tuple[Ask, int]]:
        """What is wanted on a device as things stand at an instant, each with the instant since when it is.

        Normal content from above is only wanted where the commune has accepted it (R-17).
        """
        commune = site.path[-1]
        for ask in self.asks:
            if not ask.stands_at(at_ms) or not ask.is_for(site.number, site.path):
                continue
            if ask.level != NORMAL or ask.unit == commune:
                yield ask, ask.asked_ms
                continue
            said = [
                each
                for each in self.decisions
                if each.at_ms <= at_ms and each.unit == commune and each.broadcast == ask.broadcast
            ]
            if said and (last := max(said, key=lambda each: each.at_ms)).is_accepted:
                yield ask, max(ask.asked_ms, last.at_ms)

    def is_quiet(self, site: Site, from_ms: int, to_ms: int) -> bool:
        """Whether a span touches the quiet hours of any unit above a device."""
        for unit in site.path:
            if unit in self.quiet:
                evening_ms, morning_ms = self.quiet[unit]
                first = (from_ms - self.began_ms) // DAY - 1
                last = (to_ms - self.began_ms) // DAY
                for day in range(first, last + 1):
                    begins_ms = self.began_ms + day * DAY + evening_ms
                    if from_ms < begins_ms + (morning_ms - evening_ms) % DAY and begins_ms < to_ms:
                        return True
        return False


# --- what came of it -------------------------------------------------------------------------------------------------

Key = tuple[uuid.UUID, int | None, int | None]  # broadcast, occurrence, item; or the order of a speech, None, None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sound:
    """A stretch of sound on one device: from the first sample of a part until its last one."""

    key: Key
    clip: int  # `Source.clip` of a live source
    position_ms: int  # in the clip, at its beginning; 0 of a live source
    from_ms: int
    to_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A signed message to one device, when it was issued and until when it is worth anything."""

    at_ms: int
    issued_ms: int
    valid_until_ms: int
    is_plan: bool = False
    speech: Speech | None = None
    is_hush: bool | None = None  # True: be silent; False: you may speak again


@dataclass(frozen=True, slots=True, kw_only=True)
class Came:
    """A signed message reached its device."""

    at_ms: int
    sent: Sent


@dataclass(frozen=True, slots=True, kw_only=True)
class Stocked:
    """A clip came onto the flash, or left it."""

    at_ms: int
    clip: int
    is_there: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """A device has sound of a live source from now on, or has none any more."""

    at_ms: int
    source: int
    is_heard: bool


# --- the uplink ------------------------------------------------------------------------------------------------------


def online(luck: Luck, *, since_ms: int, until_ms: int, connects_ms: int) -> tuple[Span, ...]:
    """When a device has a session: it is up, it has a network, and it has had `connects_ms` to connect."""
    gone = sorted([*luck.offline, *((down.from_ms, down.to_ms) for down in luck.downs)])
    spans: list[Span] = []
    free_ms = since_ms
    for from_ms, to_ms in gone:
        if free_ms + connects_ms < from_ms:
            spans.append((free_ms + connects_ms, from_ms))
        free_ms = max(free_ms, to_ms)
    if free_ms + connects_ms < until_ms:
        spans.append((free_ms + connects_ms, until_ms))
    return tuple(spans)


def holds(spans: Sequence[Span], at_ms: int) -> bool:
    """Whether an instant lies in one of the ascending spans."""
    place = bisect_right(spans, at_ms, key=_from) - 1
    return place >= 0 and at_ms < spans[place][1]


def _from(span: Span) -> int:
    return span[0]


def asked_for(month: Month, site: Site) -> list[Span]:
    """When something is wanted to sound on a device: wishes as they stand when an occurrence begins."""
    spans: list[Span] = []
    for day in range(month.days):
        for time_ms in {
            time_ms for ask in month.asks if ask.is_for(site.number, site.path) for time_ms in ask.times_ms
        }:
            begins_ms = month.began_ms + day * DAY + time_ms
            for ask, since_ms in month.wishes_at(site, begins_ms):
                if day in ask.days and time_ms in ask.times_ms and since_ms <= begins_ms:
                    spans.extend(span for _, span in parts_of(month, site, ask, begins_ms))
    return united(spans)


def parts_of(month: Month, site: Site, ask: Ask, begins_ms: int) -> list[tuple[Part, Span]]:
    """When the parts of an occurrence sound, one after the other without what is stale by then.

    Nothing but an emergency passes quiet hours (R-18).
    """
    found: list[tuple[Part, Span]] = []
    at_ms = begins_ms
    for part in ask.parts:
        if part.expires_ms is not None and at_ms >= part.expires_ms:
            continue
        if part.most is not None and ask.nth(month.began_ms, begins_ms) >= part.most:
            continue
        if not part.is_silence:
            found.append((part, (at_ms, at_ms + part.length_ms)))
        at_ms += part.length_ms
    if ask.level != EMERGENCY and any(month.is_quiet(site, *span) for _, span in found):
        return []
    return found


def united(spans: Iterable[Span]) -> list[Span]:
    """The same time in spans that do not touch, ascending."""
    found: list[Span] = []
    for from_ms, to_ms in sorted(spans):
        if found and from_ms <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], to_ms))
        else:
            found.append((from_ms, to_ms))
    return found


def common(one: Iterable[Span], other: Iterable[Span]) -> list[Span]:
    """The time that is in both."""
    found: list[Span] = []
    left, right = united(one), united(other)
    first = second = 0
    while first < len(left) and second < len(right):
        from_ms, to_ms = max(left[first][0], right[second][0]), min(left[first][1], right[second][1])
        if from_ms < to_ms:
            found.append((from_ms, to_ms))
        if left[first][1] < right[second][1]:
            first += 1
        else:
            second += 1
    return found


def length_ms(spans: Iterable[Span]) -> int:
    """How long spans that do not overlap are."""
    return sum(to_ms - from_ms for from_ms, to_ms in spans)


# --- clocks ----------------------------------------------------------------------------------------------------------

SYNCHRONISED, HOLDOVER, UNSYNCHRONISED = range(3)  # as the wire numbers them
HOLDS_FOR_MS = DAY  # how long a clock calls itself synchronised after it was set


@dataclass(slots=True)
class Clock:
    """What a device's clock shows, piece by piece: it drifts within a piece, and is moved or doubted between them."""

    speed: float
    since: list[int] = field(default_factory=list)
    shown: list[int] = field(default_factory=list)
    state: list[int] = field(default_factory=list)
    is_off: list[bool] = field(default_factory=list)  # after a jump that nothing has mended yet
    set_ms: list[int] = field(default_factory=list)  # when it was last set from the network
    _most: list[float] = field(default_factory=list)

    def begin(self, at_ms: int, shown_ms: int, state: int, *, is_off: bool, set_ms: int) -> None:
        """Add a piece; one that begins where the last one did takes its place."""
        if self.since and self.since[-1] == at_ms:
            for column in (self.since, self.shown, self.state, self.is_off, self.set_ms):
                column.pop()
        self.since.append(at_ms)
        self.shown.append(shown_ms)
        self.state.append(state)
        self.is_off.append(is_off)
        self.set_ms.append(set_ms)

    def set_at(self, settings: Sequence[tuple[int, int]]) -> None:
        """Add a piece for each of many settings from the network: the instant, and the error it is set with."""
        (at_ms, error_ms), *rest = settings
        self.begin(at_ms, at_ms + error_ms, SYNCHRONISED, is_off=False, set_ms=at_ms)
        self.since += [at_ms for at_ms, _ in rest]
        self.shown += [at_ms + error_ms for at_ms, error_ms in rest]
        self.state += [SYNCHRONISED] * len(rest)
        self.is_off += [False] * len(rest)
        self.set_ms += [at_ms for at_ms, _ in rest]

    def piece(self, at_ms: int) -> int:
        """The piece that an instant lies in."""
        return bisect_right(self.since, at_ms) - 1

    def read(self, at_ms: int, piece: int | None = None) -> int:
        """What it shows at an instant."""
        place = self.piece(at_ms) if piece is None else piece
        return self.shown[place] + int((at_ms - self.since[place]) * self.speed)

    def when(self, shown_ms: int, *, after_ms: int) -> int | None:
        """The first instant from `after_ms` on at which it shows `shown_ms` or more; None: never."""
        place = self.piece(after_ms)
        if shown_ms <= self.read(after_ms, place):
            return after_ms
        reached = self._reached()
        if reached[place] < shown_ms:  # no piece up to here has come so far, so the first that has is the one
            place = bisect_left(reached, shown_ms)
        while place < len(self.since):
            begins_ms = max(after_ms, self.since[place])
            at_ms = begins_ms + max(0, int((shown_ms - self.read(begins_ms, place)) / self.speed))
            while self.read(at_ms, place) < shown_ms:
                at_ms += 1
            if place + 1 == len(self.since) or at_ms < self.since[place + 1]:
                return at_ms
            place += 1
        return None

    def _reached(self) -> list[float]:
        """The most it has shown by the end of each piece."""
        if len(self._most) != len(self.since):
            ends = [
                shown_ms + int((then_ms - 1 - since_ms) * self.speed)
                for since_ms, then_ms, shown_ms in zip(self.since, self.since[1:], self.shown, strict=False)
            ]
            self._most = list(accumulate((*ends, math.inf), max))
        return self._most

    def changes(self, *, least_ms: int) -> Iterator[tuple[int, int, int]]:
        """When, by how much, and what its state was before: moves by `least_ms` or more, and changes of its state."""
        since, shown, state = self.since, self.shown, self.state
        for place in range(1, len(since)):
            step_ms = shown[place] - shown[place - 1] - int((since[place] - since[place - 1]) * self.speed)
            if not -least_ms < step_ms < least_ms or state[place] != state[place - 1]:
                yield since[place], step_ms, state[place - 1]


def clock(
    luck: Luck, sessions: Sequence[Span], settings: Sequence[tuple[int, int]], *, since_ms: int, hears_after_ms: int
) -> Clock:
    """The clock of a device that begins right at `since_ms`.

    `settings` are the instants, ascending, at which it would be set from the network if it were online, each with the
    error it would be set with. `hears_after_ms` after a session began, it is set as well.
    """
    made = Clock(speed=1 + luck.ppm / 1_000_000)
    made.begin(since_ms, since_ms, SYNCHRONISED, is_off=False, set_ms=since_ms)
    happens: list[tuple[int, Down | Jump | Sequence[tuple[int, int]]]] = [(down.to_ms, down) for down in luck.downs]
    happens += [(jump.at_ms, jump) for jump in luck.jumps]
    for index, (from_ms, to_ms) in enumerate(_hearing(sessions, luck.jumps)):
        heard_ms = from_ms + hears_after_ms
        first = bisect_right(settings, (heard_ms, math.inf))
        last = bisect_left(settings, (to_ms, -math.inf))
        if heard_ms < to_ms:
            heard = (heard_ms, settings[index % len(settings)][1])
            happens.append((heard_ms, (heard, *settings[first:last])))
    for at_ms, what in sorted(happens, key=_when):
        set_ms = made.set_ms[-1]
        if made.state[-1] == SYNCHRONISED and at_ms > set_ms + HOLDS_FOR_MS:
            _doubt(made, set_ms)
        shown_ms, state, is_off = made.read(at_ms), made.state[-1], made.is_off[-1]
        if isinstance(what, Down) and what.is_cold:
            made.begin(at_ms, 0, UNSYNCHRONISED, is_off=False, set_ms=set_ms)
        elif isinstance(what, Down):
            made.begin(at_ms, shown_ms, max(state, HOLDOVER), is_off=is_off, set_ms=set_ms)
        elif not isinstance(what, Jump):
            made.set_at(what)
        elif state != UNSYNCHRONISED:
            made.begin(at_ms, shown_ms + what.by_ms, state, is_off=True, set_ms=set_ms)
    return made


def _when(happening: tuple[int, object]) -> int:
    return happening[0]


def _hearing(sessions: Iterable[Span], jumps: Sequence[Jump]) -> Iterator[Span]:
    """The sessions without the times after a jump in which the clock hears nothing of the right time."""
    for from_ms, to_ms in sessions:
        for jump in jumps:
            if jump.at_ms < to_ms and from_ms < jump.deaf_until_ms:
                if from_ms < jump.at_ms:
                    yield from_ms, jump.at_ms
                from_ms = jump.deaf_until_ms  # noqa: PLW2901 - what is left of it
        if from_ms < to_ms:
            yield from_ms, to_ms


def _doubt(made: Clock, set_ms: int) -> None:
    """A day after it was set the clock no longer calls itself synchronised."""
    at_ms = set_ms + HOLDS_FOR_MS
    if at_ms > made.since[-1]:
        made.begin(at_ms, made.read(at_ms), HOLDOVER, is_off=made.is_off[-1], set_ms=set_ms)
