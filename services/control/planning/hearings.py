"""What policies make of one occurrence: refuse it, shorten it, grant it time, cap its volume.

An occurrence that reaches a whole province is under dozens of policies, most of which say the same about it; each is
asked once, and what is the same for all of them is found out once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from typing import NamedTuple

from schemas.fields import DeviceKind, Level, ResumePolicy
from schemas.identifiers import UnitId
from services.control.planning import permission, wall_clock
from services.control.planning.day_spans import end_ms
from services.control.planning.lineup import Lineup, Piece
from services.control.planning.model import MAX_OCCURRENCE_LENGTH, Fill, Fit, GrantKey, Occurrence, Problem, ProblemKind
from services.control.planning.policies import NOTHING_LIMITED, EffectivePolicy
from services.control.planning.shares import Grant
from services.control.planning.staging import LeftOut, Staging
from services.control.planning.timeline import START_GRACE_MS

_NOTHING = timedelta(0)
_MS = timedelta(milliseconds=1)
_GRACE = START_GRACE_MS * _MS

Caps = tuple[int | None, ...]


class Ruling(NamedTuple):
    """What holds for an occurrence under one policy. Without a line-up it is refused.

    `bound` are pieces, by position, that may not begin anew: as late as they might, they would sound when the policy is
    against it, or louder than it lets them.
    """

    lineup: Lineup | None
    caps: Caps | None = None  # of the volume of each piece; None: nobody caps any
    bound: frozenset[int] = frozenset()


class Hearing:
    """One occurrence before the policies of everybody it means; `problems` are what they have against it."""

    def __init__(self, staging: Staging, occurrence: Occurrence, left_out: LeftOut) -> None:
        self.whole = staging.line_up(left_out, None)
        self.problems: set[Problem] = set()
        self._staging = staging
        self._broadcast = staging.broadcast
        self._occurrence = occurrence
        self._left_out = left_out
        self._above = staging.above(occurrence.day)
        self._shown: tuple[wall_clock.Stretch, ...] | None = None
        # By the id of a policy: `Policies` keeps them, and hands out the same one for the same path.
        self._rulings: dict[int, Ruling] = {}
        # By the ids of a policy and of the pieces that a kind of device puts out; the staging keeps these.
        self._grants: dict[tuple[int, int], tuple[Grant, ...] | None] = {}
        # By the id of pieces: what is the same for all policies.
        self._local: dict[int, tuple[wall_clock.Stretch, ...]] = {}
        self._pieces: dict[int, tuple[tuple[wall_clock.Stretch, ...], ...]] = {}
        self._caps: dict[tuple[int, ...], Caps | None] = {}
        # By the id of a line-up.
        self._anew: dict[int, tuple[tuple[wall_clock.Stretch, ...], ...]] = {}

    @property
    def lineups(self) -> list[Lineup]:
        """The line-ups of the policies that let something sound."""
        return [each.lineup for each in self._rulings.values() if each.lineup is not None]

    def ruling(self, policy: EffectivePolicy) -> Ruling:
        """What holds under a policy."""
        found = self._rulings.get(id(policy))
        if found is None:
            found = self._rulings[id(policy)] = self._rule(policy)
        return found

    def grants(self, policy: EffectivePolicy, kind: DeviceKind) -> tuple[Grant, ...] | None:
        """The time that a kind of device draws on under a policy for what it puts out itself; None: it is too long."""
        lineup = self.ruling(policy).lineup
        if lineup is None or policy.is_empty or self._broadcast.level is Level.EMERGENCY:
            return ()
        own = self._staging.cast(lineup, kind).pieces
        key = (id(policy), id(own))
        if key not in self._grants:
            self._grants[key] = self._granted(policy, own)
        return self._grants[key]

    def _granted(self, policy: EffectivePolicy, own: tuple[Piece, ...]) -> tuple[Grant, ...] | None:
        broadcast, local = self._broadcast, self._local_of(own)
        excesses = permission.excesses(policy, local, level=broadcast.level, allowed=broadcast.allowed_rules)
        for excess in excesses:
            self._say(ProblemKind(excess.rule.value), excess.unit_id)
        if excesses:
            return None
        budgets = permission.budgets(policy, local, level=broadcast.level, allowed=broadcast.allowed_rules)
        return _as_grants(budgets, self._occurrence)

    def _local_of(self, pieces: tuple[Piece, ...]) -> tuple[wall_clock.Stretch, ...]:
        """When pieces that the staging keeps sound, in local time."""
        local = self._local.get(id(pieces))
        if local is None:
            spans = _spans(self._occurrence.at, pieces)
            local = self._local[id(pieces)] = self._staging.stretches(spans)
        return local

    def _rule(self, policy: EffectivePolicy) -> Ruling:
        broadcast = self._broadcast
        lineup = self.whole
        if not policy.is_empty and (broadcast.fit is not Fit.WHOLE or broadcast.fill is Fill.REPEAT):
            closing = self._closes(policy)
            lineup = self._staging.line_up(self._left_out, None if closing is None else closing[0])
            if closing is not None and lineup.is_shortened:
                self._say(ProblemKind.SHORTENED, closing[1])
        if lineup.length > MAX_OCCURRENCE_LENGTH:
            self._say(ProblemKind.TOO_LONG)
            return Ruling(None)
        if policy.is_empty or broadcast.level is Level.EMERGENCY:
            return Ruling(lineup)
        breaches = permission.check(
            policy,
            self._local_of(lineup.pieces),
            level=broadcast.level,
            above=self._above,
            has_direct_relay=lineup.has_direct_relay,
            allowed=broadcast.allowed_rules,
        )
        for breach in breaches:
            self._say(ProblemKind(breach.rule.value), breach.unit_id)
        if breaches:
            return Ruling(None)
        caps = self._volume_caps(policy, lineup)
        return Ruling(lineup, caps, self._bound(policy, lineup, caps))

    def _say(self, kind: ProblemKind, unit_id: UnitId | None = None) -> None:
        self.problems.add(Problem.about(self._occurrence, kind, unit_id=unit_id))

    def _closes(self, policy: EffectivePolicy) -> tuple[timedelta, UnitId] | None:
        """When the session ends that the occurrence begins in, and whose limit that is. No policy ends an emergency (R-22)."""
        if self._broadcast.level is Level.EMERGENCY:
            policy = NOTHING_LIMITED
        code, day = self._occurrence.session, self._occurrence.day
        return closing(policy, self._wall, None if code is None else self._staging.held(code, day), day)

    @property
    def _wall(self) -> tuple[wall_clock.Stretch, ...]:
        """What the clock on the wall shows from the beginning of the occurrence on."""
        if self._shown is None:
            self._shown = self._staging.wall(self._occurrence.at)
        return self._shown

    def _volume_caps(self, policy: EffectivePolicy, lineup: Lineup) -> Caps | None:
        """The cap of each piece; None where there is none. Most units only have the caps of those above."""
        said = [id(each) for each in policy.policies if each.volume_caps]
        if not said:
            return None
        key = (id(lineup), *said)
        if key not in self._caps:
            pieces = self._pieces.get(id(lineup))
            if pieces is None:
                pieces = self._pieces[id(lineup)] = self._local_by_piece(lineup)
            level = self._broadcast.level
            caps = tuple(permission.volume_cap(policy, each, level=level) for each in pieces)
            self._caps[key] = caps if any(cap is not None for cap in caps) else None
        return self._caps[key]

    def _bound(self, policy: EffectivePolicy, lineup: Lineup, caps: Caps | None) -> frozenset[int]:
        """The pieces that have to stay in their slot."""
        broadcast = self._broadcast
        if broadcast.resume is not ResumePolicy.RESTART:
            return frozenset()
        bound: set[int] = set()
        for position, reach in enumerate(self._reaches(lineup)):
            cap = permission.volume_cap(policy, reach, level=broadcast.level)
            if cap != (None if caps is None else caps[position]) or permission.check(
                policy, reach, level=broadcast.level, above=self._above, allowed=broadcast.allowed_rules
            ):
                bound.add(position)
        return frozenset(bound)

    def _reaches(self, lineup: Lineup) -> tuple[tuple[wall_clock.Stretch, ...], ...]:
        """When each piece may sound, also if it begins anew as late as it may, in local time."""
        reaches = self._anew.get(id(lineup))
        if reaches is None:
            at = self._occurrence.at
            reaches = self._anew[id(lineup)] = tuple(
                self._staging.stretches(
                    [(begin := at + each.offset, begin + self._staging.patience(each, at) + _GRACE + each.length)]
                )
                for each in lineup.pieces
            )
        return reaches

    def _local_by_piece(self, lineup: Lineup) -> tuple[tuple[wall_clock.Stretch, ...], ...]:
        local, at = self._local_of(lineup.pieces), self._occurrence.at
        if len(local) == 1 and len(lineup.pieces) > 1:
            # All of it without a break on one day: the clock on the wall runs evenly through it.
            day, begin_ms = local[0].day, local[0].begin_ms
            first = lineup.pieces[0].offset
            spans = [
                (begin_ms + (each.offset - first) // _MS, begin_ms + (each.offset + each.length - first) // _MS)
                for each in lineup.pieces
            ]
            if spans[-1][1] == local[0].end_ms:
                return tuple((wall_clock.Stretch(day, begin, end),) for begin, end in spans)
        return tuple(self._staging.stretches(_spans(at, [piece])) for piece in lineup.pieces)


def closing(
    policy: EffectivePolicy,
    wall: Sequence[wall_clock.Stretch],
    held: permission.Held | permission.Rule | ProblemKind | None,
    day: date,
) -> tuple[timedelta, UnitId] | None:
    """When, from its beginning on, the session ends in which something begins under a policy, and whose limit that is.

    `wall` is what the clock shows from then on; `held` how the session takes place on `day` that it begins with, if it
    does with one.
    """
    begin = wall[0]
    ends: list[tuple[date, int, UnitId]] = []
    until = permission.open_until(policy, begin.day, begin.begin_ms)
    if until is not None:
        ends.append((begin.day, *until))
    if isinstance(held, permission.Held) and held.ended_by is not None:
        ends.append((day, end_ms(held.end), held.ended_by))
    known = [(wall_clock.until(wall, on, at_ms), unit_id) for on, at_ms, unit_id in ends]
    return min((each for each in known if each[0] > _NOTHING), key=lambda each: each[0], default=None)


def _spans(at: datetime, pieces: Iterable[Piece]) -> Iterable[tuple[datetime, datetime]]:
    """When pieces of an occurrence sound."""
    return ((at + each.offset, at + each.offset + each.length) for each in pieces)


def _as_grants(budgets: Iterable[permission.Budget], occurrence: Occurrence) -> tuple[Grant, ...]:
    """Budgets as grants. What sounds after midnight counts for the day on which its occurrence begins, like all of it:
    so what a day holds is known from that day, and windows of days compose.
    """
    merged: dict[GrantKey, Grant] = {}
    for budget in budgets:
        key = (budget.unit_id, occurrence.day, budget.session)
        before = merged[key].wanted if key in merged else _NOTHING
        merged[key] = Grant(
            key=key,
            limit=budget.limit,
            wanted=before + budget.wanted,
            kind=ProblemKind(budget.rule.value),
            unit_id=budget.unit_id,
        )
    return tuple(merged.values())
