"""One change of a programme: what could sound, what becomes of what sounds, and what the player is told of it."""

from __future__ import annotations

from dataclasses import dataclass

from firmware_sim.clock import Moment
from firmware_sim.programme import Closing, Directive, Ended, Missed, Obstacle, Play, Programme, Stop
from firmware_sim.values import replace
from schemas.arbitration import Contender
from schemas.events import MissReason, PlayOutcome
from schemas.fields import PlayReference, PlaySource, ResumePolicy
from schemas.plans import ContentKind, RelayReference

# What has been settled is remembered this long after the end of its slot, so that no newer plan and no clock set back
# makes it sound or be reported twice.
REMEMBERED_MS = 48 * 3_600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """Content that could sound now, and what it takes to begin it."""

    contender: Contender
    resume: ResumePolicy
    content: ContentKind
    media: bytes | None
    text: str | None
    volume_percent: int | None
    position_ms: int
    shifted_ms: int = 0
    relay: RelayReference | None = None
    filled_by: bytes | None = None

    @property
    def reference(self) -> PlayReference:
        """What it is a play of."""
        return self.contender.reference


class Change:
    """The programme being changed, and what came of it so far. Lives for one call of a function of `playback`."""

    __slots__ = ("directives", "now", "programme")

    def __init__(self, programme: Programme, now: Moment) -> None:
        self.programme = programme
        self.now = now
        self.directives: list[Directive] = []

    def done(self) -> tuple[Programme, tuple[Directive, ...]]:
        """The changed programme, and what came of it."""
        return self.programme, tuple(self.directives)

    def play_of(self, reference: PlayReference) -> Play | None:
        """The play that sounds or is paused, if there is one."""
        sounding = self.programme.sounding
        if sounding is not None and same(sounding.reference, reference):
            return sounding
        return next((play for play in self.programme.suspended if same(play.reference, reference)), None)

    def settle(self, reference: PlayReference) -> None:
        """Take a reference out of everything that could still make it sound.

        The configuration's fallback comes again; what is settled of alerts is remembered by `alerts`, for all their rounds.
        """
        if reference.source is PlaySource.FALLBACK:
            return
        programme = self.programme
        ends_ms, planned, due = self.now.at_ms, programme.planned, programme.due
        found = next((each for each in due if same(each.reference, reference)), None)
        if found is not None:
            due = tuple(each for each in due if each is not found)
        elif reference.source is PlaySource.EMISSION:
            found = next((each for each in planned[programme.ahead :] if each.reference == reference), None)
            planned = planned if found is None else tuple(each for each in planned if each is not found)
        if found is not None:
            ends_ms = max(ends_ms, found.emission.ends_at_ms)
        obstacles = programme.obstacles
        if reference in obstacles:
            obstacles = {key: value for key, value in obstacles.items() if key != reference}
        self.programme = replace(
            programme,
            planned=planned,
            due=due,
            orders=tuple(each for each in programme.orders if each.reference != reference),
            settled=(
                programme.settled
                if reference.source is PlaySource.ALERT
                else {**programme.settled, reference: ends_ms + REMEMBERED_MS}
            ),
            obstacles=obstacles,
        )

    def miss(self, reference: PlayReference, reason: MissReason, by: PlayReference | None = None) -> None:
        """Note for good that it did not sound."""
        self.settle(reference)
        self.directives.append(Missed(reference=reference, reason=reason, by=by))

    def hinder(self, reference: PlayReference, obstacle: Obstacle) -> None:
        """Remember what keeps it from sounding now, in case it never does."""
        if self.programme.obstacles.get(reference) != obstacle:
            self.programme = replace(self.programme, obstacles={**self.programme.obstacles, reference: obstacle})

    def close(self, play: Play, outcome: PlayOutcome, ended_at_ms: int) -> None:
        """End a play for good; told at once when the player holds no part of it."""
        self.settle(play.reference)
        programme, closing = self.programme, Closing(play=play, outcome=outcome, ended_at_ms=ended_at_ms)
        self.programme = replace(
            programme,
            sounding=None if programme.sounding == play else programme.sounding,
            suspended=tuple(each for each in programme.suspended if each != play),
            closing=programme.closing if play.token is None else (*programme.closing, closing),
        )
        if play.token is None:
            self.tell_end(closing)
        elif play.paused_at_ms is None:
            self.directives.append(Stop(token=play.token))

    def tell_end(self, closing: Closing) -> None:
        """Say how a play ended whose figures the player has told."""
        play = closing.play
        if play.started_at_ms is not None:
            self.directives.append(Ended(play=play, outcome=closing.outcome, ended_at_ms=closing.ended_at_ms))
        elif closing.outcome is PlayOutcome.CUT:
            self.directives.append(Missed(reference=play.reference, reason=MissReason.OUTRANKED, by=play.cut_by))
        elif closing.outcome is PlayOutcome.STOPPED:
            self.directives.append(Missed(reference=play.reference, reason=MissReason.SILENCED))
        else:
            self.directives.append(Missed(reference=play.reference, reason=MissReason.TOO_LATE))

    def pause(self, play: Play, cut_by: PlayReference | None, *, is_silent: bool = False) -> None:
        """Interrupt what sounds; it stays a contender."""
        self._suspend(
            replace(
                play,
                interruptions=play.interruptions + 1,
                cut_by=cut_by or play.cut_by,
                paused_at_ms=self.now.at_ms,
                is_silent=is_silent,
            )
        )

    def switch(self, play: Play) -> None:
        """End the part of a relay that is to go on with another one, as soon as the player has told its figures."""
        self._suspend(replace(play, paused_at_ms=self.now.at_ms))

    def _suspend(self, play: Play) -> None:
        self.programme = replace(self.programme, sounding=None, suspended=(*self.programme.suspended, play))
        if play.token is not None:
            self.directives.append(Stop(token=play.token))


def same(one: PlayReference, other: PlayReference) -> bool:
    """Equality, asking first whether it is one object: it nearly always is, and comparing the fields takes longer."""
    return one is other or one == other


def plays(programme: Programme) -> tuple[Play, ...]:
    """What sounds, and what is paused."""
    return (*((programme.sounding,) if programme.sounding is not None else ()), *programme.suspended)
