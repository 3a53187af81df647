"""What a device sounds (or shows) at an instant, and what becomes of everything it was told to sound.

The order between contents that want the same instant is `schemas.arbitration`, the same as on the server. This module
adds what a single device knows: whether the media is there, whether the clock can be trusted, what was cut and how it
goes on. Nothing ends in silence: every planned emission leaves here as `Ended` or `Missed` with its reason, unless a
newer plan took it back before it began.

How a cut emission goes on (`ResumePolicy`):
- RESUME: where it would be by now, until the end of its slot;
- RESTART: from its beginning and for its whole length, if that is still possible by `latest_start_ms`;
- DROP: not at all.
A play that was interrupted by a power cut joins in progress whatever its policy, as any late device does.

The player is asked to stop a part and answers with what really was decoded; until the answer is there a finished play
waits in `closing`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from firmware_sim.clock import Moment
from firmware_sim.programme import (
    Begun,
    Closing,
    Directive,
    Ended,
    Figures,
    Lapsed,
    Missed,
    Obstacle,
    Order,
    Play,
    Programme,
    Scene,
    Start,
    Stop,
)
from schemas import arbitration
from schemas.events import MissReason, PlayOutcome
from schemas.fields import DeviceKind, PlayReference, PlaySource, ResumePolicy
from schemas.orders import Rank
from schemas.plans import ContentKind, Emission, Plan

# A timer fires a little late on any machine; an emission whose latest start is its start must survive that.
START_GRACE_MS = 50

# What has been settled is remembered this long after the end of its slot, so that no newer plan and no clock set back
# makes it sound or be reported twice.
REMEMBERED_MS = 48 * 3_600_000

_SUPPORTED: Mapping[DeviceKind, frozenset[ContentKind]] = {
    DeviceKind.CLUSTER: frozenset({ContentKind.AUDIO}),
    DeviceKind.BOARD: frozenset({ContentKind.TEXT, ContentKind.TICKER, ContentKind.IMAGE}),
    DeviceKind.SENSOR: frozenset(),
    DeviceKind.GATEWAY: frozenset(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Offer:
    """Content that could sound now, and what it takes to begin it."""

    reference: PlayReference
    rank: Rank
    resume: ResumePolicy
    content: ContentKind
    media: bytes | None
    text: str | None
    volume_percent: int | None
    position_ms: int
    shifted_ms: int = 0


class _Turn:
    """The programme being changed, and what came of it so far. Lives for one call of a function below."""

    __slots__ = ("directives", "now", "programme")

    def __init__(self, programme: Programme, now: Moment) -> None:
        self.programme = programme
        self.now = now
        self.directives: list[Directive] = []

    def done(self) -> tuple[Programme, tuple[Directive, ...]]:
        return self.programme, tuple(self.directives)

    def play_of(self, reference: PlayReference) -> Play | None:
        sounding = self.programme.sounding
        if sounding is not None and sounding.reference == reference:
            return sounding
        return next((play for play in self.programme.suspended if play.reference == reference), None)

    def settle(self, reference: PlayReference) -> None:
        """Take a reference out of everything that could still make it sound."""
        programme = self.programme
        ends_ms = next((each.ends_at_ms for each in programme.pending if _is(each, reference)), self.now.at_ms)
        self.programme = replace(
            programme,
            pending=tuple(each for each in programme.pending if not _is(each, reference)),
            orders=tuple(each for each in programme.orders if each.reference != reference),
            settled={**programme.settled, reference: max(ends_ms, self.now.at_ms) + REMEMBERED_MS},
            obstacles={key: value for key, value in programme.obstacles.items() if key != reference},
        )

    def miss(self, reference: PlayReference, reason: MissReason, by: PlayReference | None = None) -> None:
        self.settle(reference)
        self.directives.append(Missed(reference=reference, reason=reason, by=by))

    def hinder(self, reference: PlayReference, obstacle: Obstacle) -> None:
        if self.programme.obstacles.get(reference) != obstacle:
            self.programme = replace(self.programme, obstacles={**self.programme.obstacles, reference: obstacle})

    def close(self, play: Play, outcome: PlayOutcome, ended_at_ms: int) -> None:
        """End a play for good; told at once when the player holds no part of it."""
        self.settle(play.reference)
        programme = self.programme
        self.programme = replace(
            programme,
            sounding=None if programme.sounding == play else programme.sounding,
            suspended=tuple(each for each in programme.suspended if each != play),
        )
        if play.token is None:
            self.tell_end(Closing(play=play, outcome=outcome, ended_at_ms=ended_at_ms))
            return
        closing = Closing(play=play, outcome=outcome, ended_at_ms=ended_at_ms)
        self.programme = replace(self.programme, closing=(*self.programme.closing, closing))
        if play.paused_at_ms is None:
            self.directives.append(Stop(token=play.token))

    def tell_end(self, closing: Closing) -> None:
        play = closing.play
        if play.started_at_ms is not None:
            self.directives.append(Ended(play=play, outcome=closing.outcome, ended_at_ms=closing.ended_at_ms))
        elif closing.outcome is PlayOutcome.CUT:
            self.directives.append(Missed(reference=play.reference, reason=MissReason.OUTRANKED, by=play.cut_by))
        elif closing.outcome is PlayOutcome.STOPPED:
            self.directives.append(Missed(reference=play.reference, reason=MissReason.SILENCED))
        else:
            self.directives.append(Missed(reference=play.reference, reason=MissReason.TOO_LATE))

    def pause(self, play: Play, cut_by: PlayReference | None) -> None:
        """Interrupt what sounds; it stays a contender."""
        assert play.token is not None
        paused = replace(
            play, interruptions=play.interruptions + 1, cut_by=cut_by or play.cut_by, paused_at_ms=self.now.at_ms
        )
        self.programme = replace(self.programme, sounding=None, suspended=(*self.programme.suspended, paused))
        self.directives.append(Stop(token=play.token))


# --- the plan --------------------------------------------------------------------------------------------------------


def adopt(
    programme: Programme, plan: Plan, *, accepted_at_ms: int, now: Moment
) -> tuple[Programme, tuple[Directive, ...]]:
    """The programme under another plan, which replaces the earlier one as a whole.

    What sounds goes on if the new plan still holds it with the same media, and is stopped otherwise.
    """
    turn = _Turn(programme, now)
    forgotten = {key: until for key, until in programme.settled.items() if until > now.at_ms}
    settled = forgotten if len(forgotten) != len(programme.settled) else programme.settled
    pending = tuple(each for each in plan.emissions if each.reference not in settled)
    kept = {each.reference: each.media for each in pending}
    planned_before = {each.reference for each in programme.pending}
    turn.programme = replace(
        programme,
        pending=pending,
        plan_accepted_at_ms=accepted_at_ms,
        plan_valid_until_ms=plan.valid_until_ms,
        settled=settled,
        obstacles={
            key: value for key, value in programme.obstacles.items() if key in kept or key not in planned_before
        },
    )
    for play in _plays(programme):
        is_ordered = any(order.reference == play.reference for order in programme.orders)
        if not is_ordered and (play.reference not in kept or kept[play.reference] != play.media):
            _withdraw(turn, play)
    return turn.done()


def abandon(programme: Programme, *, now: Moment) -> tuple[Programme, tuple[Directive, ...]]:
    """The programme when its plan is no longer believed: emissions are forgotten, what sounds of them stops."""
    turn = _Turn(replace(programme, pending=(), plan_accepted_at_ms=0, plan_valid_until_ms=0), now)
    ordered = {order.reference for order in programme.orders}
    for play in _plays(programme):
        if play.reference not in ordered:
            _withdraw(turn, play)
    return turn.done()


def _withdraw(turn: _Turn, play: Play) -> None:
    """End a play the plan no longer holds. One that has not begun to sound leaves no trace, like any withdrawn item."""
    if play.started_at_ms is not None:
        turn.close(play, PlayOutcome.STOPPED, play.paused_at_ms or turn.now.at_ms)
        return
    programme = turn.programme
    turn.programme = replace(
        programme,
        sounding=None if programme.sounding == play else programme.sounding,
        suspended=tuple(each for each in programme.suspended if each != play),
    )
    if play.token is not None and play.paused_at_ms is None:
        turn.directives.append(Stop(token=play.token))


def _is(emission: Emission, reference: PlayReference) -> bool:
    """Whether `reference` names this emission; building one to compare costs more on a plan of thousands."""
    return (
        emission.broadcast_id == reference.id
        and emission.occurrence_at_ms == reference.occurrence_at_ms
        and emission.item == reference.item
        and reference.source is PlaySource.EMISSION
    )


def _plays(programme: Programme) -> tuple[Play, ...]:
    return (*((programme.sounding,) if programme.sounding is not None else ()), *programme.suspended)


# --- commands --------------------------------------------------------------------------------------------------------


def order(programme: Programme, ordered: Order) -> Programme:
    """The programme with one more play ordered by a command."""
    return replace(programme, orders=(*programme.orders, ordered))


def halt(programme: Programme, *, now: Moment) -> tuple[Programme, tuple[Directive, ...]]:
    """End what sounds now, for good. Later emissions stand, and so does what was cut and waits."""
    turn = _Turn(programme, now)
    if programme.sounding is not None:
        turn.close(programme.sounding, PlayOutcome.STOPPED, now.at_ms)
    return turn.done()


def interrupt(programme: Programme, *, now: Moment) -> tuple[Programme, tuple[Directive, ...]]:
    """Pause what sounds because the device goes down; it joins in progress when the device is back in time."""
    turn = _Turn(programme, now)
    if programme.sounding is not None:
        turn.pause(programme.sounding, None)
    return turn.done()


# --- one look at the programme ---------------------------------------------------------------------------------------


def conduct(programme: Programme, scene: Scene, *, now: Moment) -> tuple[Programme, tuple[Directive, ...]]:
    """Settle what is over, choose what sounds now, and say what that takes."""
    turn = _Turn(programme, now)
    offers = [*_emission_offers(turn, scene), *_order_offers(turn, scene)]
    by_reference = {offer.reference: offer for offer in offers}
    best = arbitration.winner(arbitration.Contender(reference=offer.reference, rank=offer.rank) for offer in offers)
    chosen = None if best is None else by_reference[best.reference]
    current = turn.programme.sounding
    if current is not None and (chosen is None or chosen.reference != current.reference):
        loser = by_reference.get(current.reference)
        if loser is None or chosen is None:
            turn.close(current, PlayOutcome.STOPPED, now.at_ms)
        elif loser.resume is ResumePolicy.DROP:
            cut = replace(current, cut_by=chosen.reference)
            turn.programme = replace(turn.programme, sounding=cut)
            turn.close(cut, PlayOutcome.CUT, now.at_ms)
        else:
            turn.pause(current, chosen.reference)
    if chosen is not None:
        if turn.programme.sounding is None:
            _start(turn, chosen)
        elif turn.programme.sounding.volume_percent != chosen.volume_percent:
            louder = replace(turn.programme.sounding, volume_percent=chosen.volume_percent)
            turn.programme = replace(turn.programme, sounding=louder)
        for offer in offers:
            if offer is not chosen and turn.play_of(offer.reference) is None:
                turn.hinder(offer.reference, Obstacle(reason=MissReason.OUTRANKED, by=chosen.reference))
    return turn.done()


def _start(turn: _Turn, offer: _Offer) -> None:
    programme = turn.programme
    token = programme.next_token
    earlier = turn.play_of(offer.reference)
    play = replace(
        earlier or Play(reference=offer.reference, token=token, media=offer.media, volume_percent=offer.volume_percent),
        token=token,
        volume_percent=offer.volume_percent,
        paused_at_ms=None,
        shifted_ms=offer.shifted_ms,
    )
    turn.programme = replace(
        programme,
        sounding=play,
        suspended=tuple(each for each in programme.suspended if each.reference != offer.reference),
        orders=tuple(
            replace(each, began_uptime_ms=turn.now.uptime_ms)
            if each.reference == offer.reference and each.began_uptime_ms is None
            else each
            for each in programme.orders
        ),
        next_token=token + 1,
    )
    turn.directives.append(Start(play=play, content=offer.content, text=offer.text, position_ms=offer.position_ms))


def _emission_offers(turn: _Turn, scene: Scene) -> Iterable[_Offer]:
    if not scene.is_clock_trusted:
        return
    now_ms = turn.now.at_ms
    for emission in turn.programme.pending:
        if emission.starts_at_ms > now_ms:
            break
        reference = emission.reference
        play = turn.play_of(reference)
        offer = (
            _first_offer(turn, scene, emission, reference)
            if play is None
            else _further_offer(turn, scene, emission, play)
        )
        if offer is not None:
            yield offer


def _first_offer(turn: _Turn, scene: Scene, emission: Emission, reference: PlayReference) -> _Offer | None:
    """The offer of an emission that has not begun; misses it when it can no longer begin."""
    now_ms = turn.now.at_ms
    if now_ms > emission.latest_start_ms + START_GRACE_MS or now_ms >= emission.ends_at_ms:
        obstacle = turn.programme.obstacles.get(reference) or _absence(turn, scene, emission)
        turn.miss(reference, obstacle.reason, obstacle.by)
        return None
    if emission.starts_at_ms >= turn.programme.plan_valid_until_ms:
        # The plan's word has ended before this emission begins.
        turn.hinder(reference, Obstacle(reason=MissReason.TOO_LATE))
        return None
    volume = scene.volume_of(emission.volume_percent)
    blocked = _blocked(scene, emission.content, emission.media, emission.text, volume)
    if blocked is not None:
        turn.hinder(reference, Obstacle(reason=blocked))
        return None
    return _offer(emission, volume, position_ms=emission.offset_ms + now_ms - emission.starts_at_ms)


def _further_offer(turn: _Turn, scene: Scene, emission: Emission, play: Play) -> _Offer | None:
    """The offer of an emission that has begun; ends it when its time is over."""
    now_ms = turn.now.at_ms
    volume = scene.volume_of(emission.volume_percent)
    is_blocked = _blocked(scene, emission.content, emission.media, emission.text, volume) is not None
    ends_at_ms = emission.ends_at_ms + play.shifted_ms
    if play.paused_at_ms is None:
        if now_ms >= ends_at_ms:
            turn.close(play, PlayOutcome.COMPLETED, now_ms)
            return None
        # No offer while it sounds means that it is stopped.
        return None if is_blocked else _offer(emission, volume, position_ms=0, shifted_ms=play.shifted_ms)
    is_restart = play.cut_by is not None and emission.resume is ResumePolicy.RESTART
    is_over = now_ms > emission.latest_start_ms + START_GRACE_MS if is_restart else now_ms >= ends_at_ms
    if is_over:
        turn.close(play, PlayOutcome.CUT if play.cut_by is not None else PlayOutcome.FAILED, play.paused_at_ms)
        return None
    if is_blocked:
        return None
    if is_restart:
        return _offer(
            emission, volume, position_ms=emission.offset_ms, shifted_ms=max(0, now_ms - emission.starts_at_ms)
        )
    elapsed_ms = now_ms - emission.starts_at_ms - play.shifted_ms
    return _offer(emission, volume, position_ms=emission.offset_ms + elapsed_ms, shifted_ms=play.shifted_ms)


def _offer(emission: Emission, volume: int | None, *, position_ms: int, shifted_ms: int = 0) -> _Offer:
    return _Offer(
        reference=emission.reference,
        rank=emission.rank,
        resume=emission.resume,
        content=emission.content,
        media=emission.media,
        text=emission.text,
        volume_percent=volume,
        position_ms=position_ms,
        shifted_ms=shifted_ms,
    )


def _order_offers(turn: _Turn, scene: Scene) -> Iterable[_Offer]:
    uptime_ms = turn.now.uptime_ms
    for ordered in turn.programme.orders:
        play = turn.play_of(ordered.reference)
        elapsed_ms = 0 if ordered.began_uptime_ms is None else uptime_ms - ordered.began_uptime_ms
        if play is None and uptime_ms > ordered.begin_by_uptime_ms:
            obstacle = turn.programme.obstacles.get(ordered.reference)
            turn.settle(ordered.reference)
            turn.directives.append(Lapsed(reference=ordered.reference, obstacle=obstacle))
            continue
        if play is not None and ordered.duration_ms is not None and elapsed_ms >= ordered.duration_ms:
            is_cut = play.paused_at_ms is not None
            turn.close(play, PlayOutcome.CUT if is_cut else PlayOutcome.COMPLETED, play.paused_at_ms or turn.now.at_ms)
            continue
        volume = scene.volume_of(ordered.volume_percent)
        blocked = _blocked(scene, ordered.content, ordered.media, ordered.text, volume)
        if blocked is not None:
            if play is None:
                turn.hinder(ordered.reference, Obstacle(reason=blocked))
            continue
        yield _Offer(
            reference=ordered.reference,
            rank=ordered.rank,
            resume=ordered.resume,
            content=ordered.content,
            media=ordered.media,
            text=ordered.text,
            volume_percent=volume,
            position_ms=0 if ordered.resume is ResumePolicy.RESTART else elapsed_ms,
        )


def _blocked(
    scene: Scene, content: ContentKind, media: bytes | None, text: str | None, volume: int | None
) -> MissReason | None:
    """Why this content cannot be put out right now, if so. Content that is not at hand never silences another."""
    if content not in _SUPPORTED[scene.kind]:
        return MissReason.UNSUPPORTED
    if media is None and (text is None or scene.kind is DeviceKind.CLUSTER):
        return MissReason.UNSUPPORTED
    if scene.is_silenced or volume == 0:
        return MissReason.SILENCED
    if media is not None and media in scene.corrupt:
        return MissReason.MEDIA_CORRUPT
    if media is not None and media not in scene.stored:
        return MissReason.MEDIA_MISSING
    return None


def _absence(turn: _Turn, scene: Scene, emission: Emission) -> Obstacle:
    """Why an emission was missed that the device never looked at while it could have begun."""
    latest_ms = emission.latest_start_ms
    if turn.programme.plan_accepted_at_ms > latest_ms:
        return Obstacle(reason=MissReason.TOO_LATE)
    if turn.now.at_ms - turn.now.uptime_ms > latest_ms:
        return Obstacle(reason=MissReason.POWERED_OFF)
    if scene.trusted_since_ms is not None and scene.trusted_since_ms > latest_ms:
        return Obstacle(reason=MissReason.CLOCK_UNTRUSTED)
    return Obstacle(reason=MissReason.TOO_LATE)


# --- what the player says --------------------------------------------------------------------------------------------


def begun(programme: Programme, token: int, *, at_ms: int) -> tuple[Programme, tuple[Directive, ...]]:
    """The first sample of a part left the decoder at `at_ms`. Only the first part of a play begins it."""
    play = programme.sounding
    if play is None or play.token != token or play.started_at_ms is not None:
        return programme, ()
    play = replace(play, started_at_ms=at_ms)
    return replace(programme, sounding=play), (Begun(play=play),)


def finished(
    programme: Programme, token: int, figures: Figures, *, now: Moment
) -> tuple[Programme, tuple[Directive, ...]]:
    """The content ended by itself; what ended while it was cut off ended by the cut."""
    play = programme.sounding
    is_cut = play is not None and play.token == token and play.cut_by is not None and figures.sounded_ms == 0
    return _over(programme, token, figures, PlayOutcome.CUT if is_cut else PlayOutcome.COMPLETED, now)


def broke(
    programme: Programme, token: int, figures: Figures, *, now: Moment
) -> tuple[Programme, tuple[Directive, ...]]:
    """The player gave up. A play that had not begun stays to be settled by the state of its media."""
    play = programme.sounding
    if play is not None and play.token == token and play.started_at_ms is None:
        return replace(programme, sounding=None), ()
    return _over(programme, token, figures, PlayOutcome.FAILED, now)


def _over(
    programme: Programme, token: int, figures: Figures, outcome: PlayOutcome, now: Moment
) -> tuple[Programme, tuple[Directive, ...]]:
    play = programme.sounding
    if play is None or play.token != token:
        return stopped(programme, token, figures, now=now)
    turn = _Turn(programme, now)
    final = play.plus(figures)
    turn.programme = replace(programme, sounding=final)
    turn.close(final, outcome, now.at_ms)
    return turn.done()


def stopped(
    programme: Programme, token: int, figures: Figures, *, now: Moment
) -> tuple[Programme, tuple[Directive, ...]]:
    """The player's answer to `Stop`. A token nobody waits for is an answer that came twice."""
    turn = _Turn(programme, now)
    for closing in programme.closing:
        if closing.play.token == token:
            turn.programme = replace(programme, closing=tuple(each for each in programme.closing if each != closing))
            turn.tell_end(replace(closing, play=closing.play.plus(figures)))
            return turn.done()
    for play in programme.suspended:
        if play.token == token:
            rest = tuple(each for each in programme.suspended if each != play)
            if play.started_at_ms is None:
                # It was cut before its first sample, so it has not begun: it may still begin later.
                obstacle = Obstacle(reason=MissReason.OUTRANKED, by=play.cut_by)
                turn.programme = replace(programme, suspended=rest)
                turn.hinder(play.reference, obstacle)
            else:
                turn.programme = replace(programme, suspended=(*rest, play.plus(figures)))
            return turn.done()
    return turn.done()


# --- when to look again ----------------------------------------------------------------------------------------------


def next_look_ms(programme: Programme, scene: Scene, *, now: Moment) -> int | None:
    """Milliseconds until something may change by itself; None when nothing is ahead."""
    waits: list[int] = []
    if scene.is_clock_trusted:
        for emission in programme.pending:
            if emission.starts_at_ms > now.at_ms:
                waits.append(emission.starts_at_ms - now.at_ms)
                break
            waits.append(_next_change_ms(programme, emission) - now.at_ms)
    for ordered in programme.orders:
        if ordered.began_uptime_ms is None:
            waits.append(ordered.begin_by_uptime_ms + 1 - now.uptime_ms)
        elif ordered.duration_ms is not None:
            waits.append(ordered.began_uptime_ms + ordered.duration_ms - now.uptime_ms)
    return max(0, min(waits)) if waits else None


def _next_change_ms(programme: Programme, emission: Emission) -> int:
    """The device time at which an emission in its slot is to be looked at again."""
    reference = emission.reference
    play = next((play for play in _plays(programme) if play.reference == reference), None)
    too_late_ms = min(emission.latest_start_ms + START_GRACE_MS + 1, emission.ends_at_ms)
    if play is None:
        return too_late_ms
    if play.paused_at_ms is not None and play.cut_by is not None and emission.resume is ResumePolicy.RESTART:
        return emission.latest_start_ms + START_GRACE_MS + 1
    return emission.ends_at_ms + play.shifted_ms
