"""A province, its wishes and its bad luck for a month, drawn from a seed. Pure: equal seeds, equal months.

Three levels ask for sound: communes for their own ground, districts and the province for what lies below them. What
they ask for overlaps on purpose, at one level and across levels, with every resume policy; broadcasts are added, changed
and withdrawn in the course of the month, now and then while they sound. Times of day are multiples of five minutes and
changes come in between, as nobody changes a programme in the very second it begins.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterable
from dataclasses import replace

from services.local.bench.month_facts import (
    DAY,
    DROP,
    EMERGENCY,
    HOUR,
    MINUTE,
    NORMAL,
    PRIORITY,
    RESTART,
    RESUME,
    SECOND,
    Ask,
    Decision,
    Down,
    Jump,
    Luck,
    Month,
    Part,
    Site,
    Source,
    Span,
    Speech,
    StandBy,
)

BEGAN_MS = 1_772_298_000_000  # 2026-03-01 00:00 in the zone: whatever year it is, equal seeds are equal months
DECIDED_MS = BEGAN_MS - 2 * DAY - HOUR  # when communes have said what they want of what was asked for before
CLUSTERS_PER_COMMUNE = 10
COMMUNES_PER_DISTRICT = 21  # 209 communes in 10 districts, as the province was until 2025
PROVINCE = "province"
USUAL_DAYS = 30  # what the chances of faults below are given for

MONTHLY_OUTAGES = 3.0  # of some hours, per device
MONTHLY_POWER_CUTS = 3.0
COLD_SHARE = 0.3  # of power cuts after which the clock has forgotten the time
THREE_DAYS_SHARE, BEYOND_HORIZON_SHARE = 0.05, 0.02  # devices that are away for so long, once
JUMP_SHARE, WITHHELD_SHARE, HUSHED_SHARE, REBOOT_SHARE = 0.06, 0.05, 0.03, 0.15
SILENT_SHARE = 0.3  # of days on which a live source falls silent while it is relayed
EXPIRES_SHARE, COUNTED_SHARE = 0.2, 0.2  # of news that grow stale at an instant, or after so many plays
EXPIRIES = ((5, 30), (5, 46), (17, 0), (17, 10), (17, 15), (17, 22), (12, 0))
AWAY_BEYOND_HORIZON = 9 * DAY
REBOOT_MS = 20 * SECOND
MID_ITEM = ((5, 31), (5, 46), (11, 2), (17, 3), (17, 16), (23, 58))  # times of day at which something usually sounds


def month(*, clusters: int, days: int, seed: int, within: range | None = None) -> Month:
    """A month of so many clusters and days, with only those clusters whose index is in `within`."""
    draw = random.Random(f"month/{seed}/{clusters}/{days}")  # noqa: S311 - bad luck, not secrets
    office = _Office(draw, days)
    office.go_on_air()
    communes = -(-clusters // CLUSTERS_PER_COMMUNE)
    districts = min(communes, max(2, -(-communes // COMMUNES_PER_DISTRICT)))
    units: list[tuple[str, str | None]] = [(PROVINCE, None)]
    units += [(f"district-{number}", PROVINCE) for number in range(districts)]
    sites: list[Site] = []
    for commune in range(communes):
        name, district = f"commune-{commune}", f"district-{commune % districts}"
        units.append((name, district))
        numbers = range(commune * CLUSTERS_PER_COMMUNE + 1, min(clusters, (commune + 1) * CLUSTERS_PER_COMMUNE) + 1)
        clips = office.commune(name, tuple(numbers))
        sites += [
            Site(number=number, path=(PROVINCE, district, name), luck=_luck(seed, number, days, clips))
            for number in numbers
            if within is None or number - 1 in within
        ]
    for number in range(districts):
        office.district(f"district-{number}")
    office.province([f"district-{number}" for number in range(districts)])
    for commune in range(communes):
        office.decide(f"commune-{commune}", f"district-{commune % districts}")
    return Month(
        began_ms=BEGAN_MS,
        days=days,
        seed=seed,
        units=tuple(units),
        sites=tuple(sites),
        asks=tuple(office.asks),
        speeches=tuple(office.speeches),
        clips=tuple(office.clips),
        decisions=tuple(office.decisions),
        places=office.places,
        quiet=office.quiet,
        stand_by=office.stand_by,
        sources=tuple(office.sources),
    )


def _at(day: float, hour: int, minute: int = 0) -> int:
    return BEGAN_MS + int(day) * DAY + hour * HOUR + minute * MINUTE


def _clock(hour: int, minute: int = 0) -> int:
    return hour * HOUR + minute * MINUTE


class _Office:
    """Everybody who asks for something, and the clips they have made."""

    def __init__(self, draw: random.Random, days: int) -> None:
        self._draw = draw
        self._days = days
        self.asks: list[Ask] = []
        self.speeches: list[Speech] = []
        self.clips: list[int] = []
        self.decisions: list[Decision] = []
        self.places: dict[tuple[str, uuid.UUID], int] = {}
        self.quiet: dict[str, Span] = {}
        self.sources: list[Source] = []
        self.stand_by = StandBy(
            order=self._id(), clip=self._clip(40, 60), times_ms=(HOUR, 11 * HOUR)
        )  # at 08:00, 18:00

    def go_on_air(self) -> None:
        """The live sources of the month: one with something to fill in for it, one without, both silent now and then."""
        draw = self._draw
        for number, fallback in enumerate((self._clip(25, 45), None)):
            silent: list[Span] = []
            for day in range(self._days):
                if draw.random() < SILENT_SHARE:
                    begins = _at(day, 6, draw.randrange(26, 40)) + draw.randrange(60 * SECOND)
                    silent.append((begins, begins + draw.choice([20 * SECOND, 3 * MINUTE, 15 * MINUTE])))
            self.sources.append(Source(number=number, source=self._id(), silent=tuple(silent), fallback=fallback))

    def commune(self, unit: str, devices: tuple[int, ...]) -> tuple[int, ...]:
        """What a commune asks for in the month; returns the clips of its morning."""
        draw = self._draw
        jingle = self._part(0, self._clip(12, 20))
        morning = self._ask(unit, 2, NORMAL, RESUME, [_clock(5, 30)], (jingle, self._news(1, 4, 8)))
        self._changed(morning, times_ms=(_clock(5, 30 + draw.choice([0, 5]))), parts=(jingle, self._news(1, 4, 8)))
        times = [_clock(11), _clock(17)] if draw.random() < 0.2 else [_clock(17)]
        evening = self._ask(unit, 2, NORMAL, draw.choice([RESUME, RESTART]), times, (self._news(0, 6, 12),))
        if draw.random() < 0.2:
            self._end(evening, self._moment(17, 2))  # while it sounds
        else:
            self._changed(evening, times_ms=None, parts=(self._news(0, 5, 9),))
        notice = self._part(0, self._clip(90, 200))
        self._asked_later(unit, 2, NORMAL, draw.choice([DROP, RESUME]), [_clock(17, 5)], (notice,), share=0.2)
        if draw.random() < 0.4:
            pause = Part(number=1, clip=None, length_ms=20 * SECOND)
            parts = (self._part(0, self._clip(60, 120)), pause, self._part(2, self._clip(60, 120)))
            self._asked_later(unit, 2, PRIORITY, RESUME, [_clock(5, 35)], parts, share=0.3)
        if draw.random() < 0.3:
            relay = Part(number=1, clip=None, length_ms=draw.randrange(5, 12) * MINUTE, source=draw.randrange(2))
            self._ask(unit, 2, NORMAL, RESUME, [_clock(6, 30)], (jingle, relay))
        if draw.random() < 0.6:
            self._speech(devices, NORMAL if draw.random() < 0.8 else EMERGENCY)
        return self._clips_of(morning)

    def district(self, unit: str) -> None:
        """What a district asks for."""
        draw = self._draw
        times = [_clock(5, 45), _clock(17, 10)] if draw.random() < 0.3 else [_clock(17, 10)]
        daily = self._ask(unit, 1, NORMAL, draw.choice([RESUME, RESTART]), times, (self._news(0, 8, 14),))
        self._changed(daily, times_ms=_clock(17, 10), parts=(self._news(0, 6, 12),))
        # Three at one instant: who issued it earlier goes first.
        self._asked_later(unit, 1, PRIORITY, DROP, [_clock(17, 15)], (self._news(0, 3, 5),))
        self._asked_later(unit, 1, PRIORITY, RESTART, [_clock(17, 15)], (self._news(0, 2, 4),), share=0.4)

    def province(self, districts: list[str]) -> None:
        """What the province asks for: its programme, what the whole province must hear, and emergencies."""
        draw = self._draw
        self._ask(PROVINCE, 0, NORMAL, RESUME, [_clock(17, 15)], (self._news(0, 8, 10),))
        self._asked_later(PROVINCE, 0, PRIORITY, RESTART, [_clock(5, 50), _clock(17, 20)], (self._news(0, 3, 6),))
        self.asks[-1] = replace(self.asks[-1], patience_ms=2 * MINUTE)
        midnight = self._ask(PROVINCE, 0, PRIORITY, RESUME, [_clock(23, 55)], (self._news(0, 9, 11),))
        self.asks[-1] = replace(midnight, days=range(min(1, self._days - 1), self._days, 5))
        for number in range(max(1, self._days // 9)):
            day = draw.randrange(self._days)
            hour = draw.choice([5, 6, 11, 17])
            asked_ms = _at(day, hour, 2) + draw.randrange(60 * SECOND)
            first = _clock(hour, draw.choice([5, 10, 15]))
            emergency = Ask(
                broadcast=self._id(),
                unit=PROVINCE,
                depth=0,
                level=EMERGENCY,
                resume=RESUME,
                days=range(day, day + 1),
                times_ms=(first, first + 10 * MINUTE, first + 20 * MINUTE),
                parts=(self._part(0, self._clip(60, 150)),),
                units=(PROVINCE,) if number % 2 == 0 else tuple(draw.sample(districts, max(1, len(districts) // 3))),
                asked_ms=asked_ms,
                severity=draw.randrange(1, 5),
            )
            self.asks.append(emergency)
            if number % 2:
                # A graver one at the same time, asked for later: severity goes before the time of asking.
                graver = replace(
                    emergency, broadcast=self._id(), severity=4, asked_ms=asked_ms + SECOND, units=(PROVINCE,),
                    times_ms=(first,), parts=(self._part(0, self._clip(60, 90)),),
                )  # fmt: skip
                self.asks.append(graver)

    def decide(self, commune: str, district: str) -> None:
        """What a commune says to what comes from above (R-17), and when it wants quiet (R-18)."""
        draw = self._draw
        above = {ask.broadcast: ask for ask in self.asks if ask.unit in (PROVINCE, district)}
        for ask in above.values():
            if ask.level == NORMAL:
                lot = draw.random()
                if lot < 0.87:
                    self._decided(ask, commune, DECIDED_MS, is_accepted=lot < 0.78)
                if 0.72 <= lot < 0.78:
                    self._decided(ask, commune, self._moment(draw.choice([9, 17]), 12), is_accepted=False)
                elif 0.80 <= lot < 0.94:
                    self._decided(ask, commune, self._moment(draw.choice([9, 17]), 12), is_accepted=True)
        if draw.random() < 0.4:
            priority = [ask for ask in above.values() if ask.level == PRIORITY]
            draw.shuffle(priority)
            self.places.update({(commune, ask.broadcast): place for place, ask in enumerate(priority, start=1)})
        if draw.random() < 0.15:
            self.quiet[commune] = (_clock(22), _clock(5))

    def _decided(self, ask: Ask, commune: str, at_ms: int, *, is_accepted: bool) -> None:
        self.decisions.append(Decision(broadcast=ask.broadcast, unit=commune, at_ms=at_ms, is_accepted=is_accepted))

    # --- one wish ----------------------------------------------------------------------------------------------------

    def _ask(
        self, unit: str, depth: int, level: int, resume: int, times_ms: Iterable[int], parts: tuple[Part, ...]
    ) -> Ask:
        """Every day of the month, asked for before anything was decided about it."""
        asked_ms = DECIDED_MS - HOUR - self._draw.randrange(DAY // SECOND) * SECOND
        ask = Ask(
            broadcast=self._id(),
            unit=unit,
            depth=depth,
            level=level,
            resume=resume,
            days=range(self._days),
            times_ms=tuple(times_ms),
            parts=parts,
            units=(unit,),
            asked_ms=asked_ms,
        )
        self.asks.append(ask)
        return ask

    def _asked_later(
        self,
        unit: str,
        depth: int,
        level: int,
        resume: int,
        times_ms: Iterable[int],
        parts: tuple[Part, ...],
        *,
        share: float = 0.3,
    ) -> None:
        """For a share of the month's days, asked for in the course of it."""
        asked_ms = self._moment(self._draw.choice([9, 14]), 2)
        first = min(self._days - 1, (asked_ms - BEGAN_MS) // DAY + 1)
        last = min(self._days, first + max(1, round(share * self._days)))
        ask = self._ask(unit, depth, level, resume, times_ms, parts)
        self.asks[-1] = replace(ask, asked_ms=asked_ms, days=range(first, last))

    def _changed(self, ask: Ask, *, times_ms: tuple[int, ...] | int | None, parts: tuple[Part, ...]) -> None:
        """From some moment of the month on, something else is wanted under the same name."""
        changed_ms = self._moment(self._draw.choice([8, 10, 15, 17]), 2)
        self._end(ask, changed_ms)
        times = ask.times_ms if times_ms is None else (times_ms,) if isinstance(times_ms, int) else times_ms
        self.asks.append(replace(ask, times_ms=times, parts=parts, asked_ms=changed_ms, until_ms=None))

    def _end(self, ask: Ask, at_ms: int) -> None:
        self.asks[self.asks.index(ask)] = replace(ask, until_ms=at_ms)

    def _speech(self, devices: tuple[int, ...], level: int) -> None:
        self.speeches.append(
            Speech(
                order=self._id(),
                devices=devices,
                at_ms=self._moment(self._draw.choice([5, 6, 11, 17, 20]), self._draw.randrange(1, 50)),
                valid_ms=60 * SECOND,
                clip=(clip := self._clip(120, 240)),
                length_ms=self.clips[clip],
                level=level,
                depth=2,
            )
        )

    def _moment(self, hour: int, minute: int) -> int:
        """Some day at this time, give or take seconds."""
        return _at(self._draw.randrange(self._days), hour, minute) + self._draw.randrange(1, 55) * SECOND

    def _news(self, number: int, least_min: int, most_min: int) -> Part:
        part = self._part(number, self._clip(60 * least_min, 60 * most_min))
        # By a die of its own, so that whatever else the month brings is not another for it.
        die = random.Random(f"stale/{part.clip}/{part.length_ms}")  # noqa: S311 - bad luck, not secrets
        lot = die.random()
        if lot < EXPIRES_SHARE:
            # At the beginning of something, in the middle of it, or somewhen.
            at_ms = _at(die.randrange(self._days), *die.choice(EXPIRIES)) + die.choice([0, 0, 90 * SECOND])
            return replace(part, expires_ms=at_ms)
        if lot < EXPIRES_SHARE + COUNTED_SHARE:
            return replace(part, most=die.randrange(1, max(2, self._days)))
        return part

    def _part(self, number: int, clip: int) -> Part:
        return Part(number=number, clip=clip, length_ms=self.clips[clip])

    def _clip(self, least_s: int, most_s: int) -> int:
        self.clips.append(self._draw.randrange(least_s * SECOND, most_s * SECOND))
        return len(self.clips) - 1

    def _id(self) -> uuid.UUID:
        return uuid.UUID(int=self._draw.getrandbits(128), version=4)

    @staticmethod
    def _clips_of(ask: Ask) -> tuple[int, ...]:
        return tuple(part.clip for part in ask.parts if part.clip is not None)


# --- bad luck --------------------------------------------------------------------------------------------------------


def _luck(seed: int, number: int, days: int, clips: tuple[int, ...]) -> Luck:
    """What goes wrong with one device. Everything is over when the month is, so that its last word can be heard."""
    draw = random.Random(f"luck/{seed}/{number}")  # noqa: S311 - bad luck, not secrets
    kinds: list[str] = []
    ends_ms = BEGAN_MS + days * DAY
    offline: list[Span] = []
    for _ in range(_times(draw, MONTHLY_OUTAGES * days / USUAL_DAYS)):
        begins = BEGAN_MS + draw.randrange(days * DAY)
        offline.append((begins, min(ends_ms, begins + round(draw.uniform(0.3, 6) * HOUR))))
        kinds.append("offline_for_hours")
    for share, length, word in (
        (THREE_DAYS_SHARE, 3 * DAY, "offline_for_three_days"),
        (BEYOND_HORIZON_SHARE, AWAY_BEYOND_HORIZON, "offline_beyond_the_horizon"),
    ):
        if draw.random() < share and days * DAY > length:
            begins = BEGAN_MS + draw.randrange(days * DAY - length)
            offline.append((begins, begins + length))
            kinds.append(word)
    cuts: list[tuple[Down, str]] = []
    for _ in range(_times(draw, MONTHLY_POWER_CUTS * days / USUAL_DAYS)):
        is_mid_item = draw.random() < 0.6
        begins = BEGAN_MS + draw.randrange(days) * DAY
        begins += _clock(*draw.choice(MID_ITEM)) + draw.randrange(60 * SECOND) if is_mid_item else draw.randrange(DAY)
        length = draw.choice([8 * SECOND, 40 * SECOND, 4 * MINUTE, 25 * MINUTE, 3 * HOUR])
        is_cold = draw.random() < COLD_SHARE
        down = Down(from_ms=begins, to_ms=begins + length + draw.randrange(5 * SECOND), is_cold=is_cold)
        cuts.append((down, "power_cut_mid_item" if is_mid_item else "power_cut"))
    if draw.random() < REBOOT_SHARE:
        begins = BEGAN_MS + draw.randrange(days) * DAY + _clock(17, draw.randrange(1, 25)) + draw.randrange(MINUTE)
        cuts.append((Down(from_ms=begins, to_ms=begins + REBOOT_MS, is_orderly=True), "reboot_mid_session"))
    cuts = _apart(cuts)
    kinds += [word for _, word in cuts]
    kinds += ["clock_lost" for down, _ in cuts if down.is_cold]
    jumps: list[Jump] = []
    if draw.random() < JUMP_SHARE:
        begins = BEGAN_MS + draw.randrange(days * DAY)
        by_ms = draw.choice([-1, 1]) * draw.choice([3 * SECOND, 50 * SECOND, 10 * MINUTE, 3 * HOUR])
        jumps.append(Jump(at_ms=begins, by_ms=by_ms, deaf_until_ms=begins + round(draw.uniform(0.5, 30) * HOUR)))
        kinds.append("clock_jump")
    withheld: list[tuple[int, int, int]] = []
    if draw.random() < WITHHELD_SHARE:
        begins = BEGAN_MS - DAY + draw.randrange(days * DAY)
        withheld.append((draw.choice(clips), begins, begins + draw.choice([3 * HOUR, 2 * DAY, 60 * DAY])))
        kinds.append("media_missing")
    hushed: list[Span] = []
    if draw.random() < HUSHED_SHARE:
        begins = BEGAN_MS + draw.randrange(days) * DAY + _clock(draw.choice([5, 17]), 12) + draw.randrange(MINUTE)
        hushed.append((begins, begins + draw.choice([10 * MINUTE, 14 * HOUR])))
        kinds.append("silenced_by_order")
    return Luck(
        ppm=draw.uniform(-20, 20),
        downs=tuple(down for down, _ in cuts),
        offline=tuple(sorted(offline)),
        jumps=tuple(jumps),
        withheld=tuple(withheld),
        hushed=tuple(hushed),
        kinds=tuple(kinds),
    )


def _apart(cuts: list[tuple[Down, str]]) -> list[tuple[Down, str]]:
    """Power cannot go while it is away: what overlaps an earlier cut, or follows within a minute, did not happen."""
    kept: list[tuple[Down, str]] = []
    for cut in sorted(cuts, key=lambda each: each[0].from_ms):
        if not kept or cut[0].from_ms > kept[-1][0].to_ms + MINUTE:
            kept.append(cut)
    return kept


def _times(draw: random.Random, mean: float) -> int:
    """How often something happens that happens `mean` times on average."""
    count, left = 0, draw.expovariate(1.0)
    while left < mean:
        count += 1
        left += draw.expovariate(1.0)
    return count
