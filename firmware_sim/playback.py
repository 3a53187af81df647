"""What a device sounds (or shows) at an instant, and what becomes of everything it was told to sound.

The order between contents that want the same instant is `schemas.arbitration`, the same as on the server. This module
adds what a single device knows: whether the media is there, whether the clock can be trusted, what was cut and how it
goes on. Nothing ends in silence: every planned emission leaves here as `Ended` or `Missed` with its reason, unless a
newer plan took it back before it began.

How a cut emission goes on (`ResumePolicy`):
- RESUME: where it would be by now, until the end of its slot;
- RESTART: from its beginning and for its whole length, if that is still possible by `latest_start_ms`;
- DROP: not at all.
A play that was interrupted by a power cut joins in progress whatever its policy, as any late device does; and so does
a relay, because its source has gone on.

A relay sounds its source while that has sound, and its fallback, over and over, while the source is silent; both are
parts of one play, and both are where they would be had they begun with the slot, so that clusters are in step. Without a
fallback at hand a relay whose source is silent is no contender: the slot is free for whatever else waits, and the relay
goes on when its source is back, or has failed at its end.

When the plan has run out and none newer came, the configuration's fallback sounds at its times. It ranks below
everything: it never cuts, anything cuts it, and what of it did not sound is not missed by anybody.

The player is asked to stop a part and answers with what really was decoded; until the answer is there a finished play
waits in `closing`.
"""

from __future__ import annotations

import uuid
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from firmware_sim import standby
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
    Planned,
    Play,
    Programme,
    Scene,
    Start,
    Stop,
)
from firmware_sim.values import replace
from schemas import arbitration
from schemas.arbitration import Contender
from schemas.configuration import Fallback
from schemas.events import MissReason, PlayOutcome
from schemas.fields import DeviceKind, Level, PlayReference, PlaySource, ResumePolicy
from schemas.orders import Rank
from schemas.plans import ContentKind, Emission, Plan, RelayReference

# A timer fires a little late on any machine; an emission whose latest start is its start must survive that.
START_GRACE_MS = 50

# Steps of the clock up to this are everyday synchronisation.
EVERYDAY_STEP_MS = 1_000

# What has been settled is remembered this long after the end of its slot, so that no newer plan and no clock set back
# makes it sound or be reported twice.
REMEMBERED_MS = 48 * 3_600_000

# A relay is listened to this long before it starts (schemas/README.md): time enough to fetch what sounds first.
TUNE_LEAD_MS = 60_000

# How late the configuration's fallback may still begin: it is a notice at its time, not a programme to be caught up on.
FALLBACK_GRACE_MS = 30_000
FALLBACK_SHOWN_MS = 60_000  # on a board, when its media has no duration

_SUPPORTED: Mapping[DeviceKind, frozenset[ContentKind]] = {
    DeviceKind.CLUSTER: frozenset({ContentKind.AUDIO, ContentKind.RELAY}),
    DeviceKind.BOARD: frozenset({ContentKind.TEXT, ContentKind.TICKER, ContentKind.IMAGE, ContentKind.VIDEO}),
    DeviceKind.SENSOR: frozenset(),
    DeviceKind.GATEWAY: frozenset(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Offer:
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
        return self.contender.reference


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
        if sounding is not None and _same(sounding.reference, reference):
            return sounding
        return next((play for play in self.programme.suspended if _same(play.reference, reference)), None)

    def settle(self, reference: PlayReference) -> None:
        """Take a reference out of everything that could still make it sound.

        The configuration's fallback comes again; what is settled of alerts is remembered by `alerts`, for all their rounds.
        """
        if reference.source is PlaySource.FALLBACK:
            return
        programme = self.programme
        ends_ms, planned, due = self.now.at_ms, programme.planned, programme.due
        found = next((each for each in due if _same(each.reference, reference)), None)
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
        self.settle(reference)
        self.directives.append(Missed(reference=reference, reason=reason, by=by))

    def hinder(self, reference: PlayReference, obstacle: Obstacle) -> None:
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


# --- the plan --------------------------------------------------------------------------------------------------------


def adopt(
    programme: Programme, plan: Plan, *, accepted_at_ms: int, now: Moment
) -> tuple[Programme, tuple[Directive, ...]]:
    """The programme under another plan, which replaces the earlier one as a whole.

    What sounds goes on if the new plan still holds it with the same media, and is stopped otherwise. But a plan says
    nothing of what was over when it was issued: a play that began again late may sound beyond its slot, and a device
    whose clock is behind is not there yet. Those stay.
    """
    turn = _Turn(programme, now)
    forgotten = {key: until for key, until in programme.settled.items() if until > now.at_ms}
    settled = forgotten if len(forgotten) != len(programme.settled) else programme.settled
    planned = tuple(each for each in map(_planned, plan.emissions) if each.reference not in settled)
    unsettled = (*programme.due, *programme.planned[programme.ahead :])
    outlived = [each for each in unsettled if each.emission.ends_at_ms <= plan.issued_at_ms]
    if outlived:
        named = {each.reference for each in planned}
        outlived = [each for each in outlived if each.reference not in named]
        planned = tuple(sorted((*outlived, *planned), key=lambda each: each.emission.starts_at_ms))
    kept = {each.reference: _source_of(each.emission) for each in planned}
    planned_before = {each.reference for each in unsettled}
    turn.programme = replace(
        programme,
        planned=planned,
        ahead=0,
        due=(),
        relays_at_ms=tuple(each.emission.starts_at_ms for each in planned if each.emission.relay is not None),
        lengths_ms={each.sha256: each.duration_ms for each in plan.media if each.duration_ms},
        plan_accepted_at_ms=accepted_at_ms,
        plan_valid_until_ms=plan.valid_until_ms,
        settled=settled,
        obstacles={
            key: value for key, value in programme.obstacles.items() if key in kept or key not in planned_before
        },
    )
    for play in _plays(programme):
        if play.reference.source is PlaySource.EMISSION and kept.get(play.reference) != (play.media, play.source_id):
            _withdraw(turn, play)
    return turn.done()


def _planned(emission: Emission) -> Planned:
    return Planned(emission, Contender(reference=emission.reference, rank=emission.rank))


def _source_of(emission: Emission) -> tuple[bytes | None, uuid.UUID | None]:
    """What tells whether a play and an emission are the same content."""
    return emission.media, None if emission.relay is None else emission.relay.source_id


def abandon(programme: Programme, *, now: Moment) -> tuple[Programme, tuple[Directive, ...]]:
    """The programme when its plan is no longer believed: emissions are forgotten, what sounds of them stops."""
    turn = _Turn(
        replace(programme, planned=(), ahead=0, due=(), relays_at_ms=(), plan_accepted_at_ms=0, plan_valid_until_ms=0),
        now,
    )
    for play in _plays(programme):
        if play.reference.source is PlaySource.EMISSION:
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


def _same(one: PlayReference, other: PlayReference) -> bool:
    """Equality, asking first whether it is one object: it nearly always is, and comparing the fields takes longer."""
    return one is other or one == other


def _plays(programme: Programme) -> tuple[Play, ...]:
    return (*((programme.sounding,) if programme.sounding is not None else ()), *programme.suspended)


# --- commands and alerts --------------------------------------------------------------------------------------------------------


def order(programme: Programme, ordered: Order) -> Programme:
    """The programme with one more play ordered by a command or an alert."""
    return replace(programme, orders=(*programme.orders, ordered))


def retract(
    programme: Programme, alert_id: uuid.UUID, *, now: Moment, lets_sounding_end: bool = False
) -> tuple[Programme, tuple[Directive, ...]]:
    """The programme without what an alert ordered; what has begun of it is stopped, or goes on to its end."""
    ordered = [each for each in programme.orders if _is_of_alert(each.reference, alert_id)]
    if not ordered:
        return programme, ()
    turn = _Turn(programme, now)
    begun = [play for play in _plays(programme) if _is_of_alert(play.reference, alert_id)]
    if lets_sounding_end:
        ordered = [each for each in ordered if all(each.reference != play.reference for play in begun)]
    gone = {each.reference for each in ordered}
    turn.programme = replace(
        programme,
        orders=tuple(each for each in programme.orders if each.reference not in gone),
        obstacles={key: each for key, each in programme.obstacles.items() if key not in gone},
    )
    for play in begun:
        if play.reference in gone:
            _withdraw(turn, play)
    return turn.done()


def _is_of_alert(reference: PlayReference, alert_id: uuid.UUID) -> bool:
    return reference.source is PlaySource.ALERT and reference.id == alert_id


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
    if scene.is_clock_trusted:
        _come_up(turn)
    offers = [*_emission_offers(turn, scene), *_order_offers(turn, scene)]
    chosen = _best(offers)
    standing_in = _fallback_offer(turn, scene)
    if chosen is None:
        chosen = standing_in
    current = turn.programme.sounding
    if current is not None and (chosen is None or not _same(chosen.reference, current.reference)):
        candidates = (*offers, standing_in) if standing_in is not None else offers
        loser = next((each for each in candidates if _same(each.reference, current.reference)), None)
        if loser is None or chosen is None:
            turn.close(current, PlayOutcome.STOPPED, now.at_ms)
        elif loser.resume is ResumePolicy.DROP:
            cut = replace(current, cut_by=chosen.reference)
            turn.programme = replace(turn.programme, sounding=cut)
            turn.close(cut, PlayOutcome.CUT, now.at_ms)
        else:
            turn.pause(current, chosen.reference)
    if chosen is not None:
        _give_the_air(turn, chosen)
        for offer in offers:
            if offer is not chosen and turn.play_of(offer.reference) is None:
                turn.hinder(offer.reference, Obstacle(reason=MissReason.OUTRANKED, by=chosen.reference))
    return turn.done()


def _best(offers: list[_Offer]) -> _Offer | None:
    if len(offers) < 2:
        return offers[0] if offers else None
    best = arbitration.winner(offer.contender for offer in offers)
    return next(offer for offer in offers if offer.contender is best)


def _come_up(turn: _Turn) -> None:
    """Move what begins by now from what lies ahead to what is due."""
    programme = turn.programme
    planned, ahead = programme.planned, programme.ahead
    while ahead < len(planned) and planned[ahead].emission.starts_at_ms <= turn.now.at_ms:
        ahead += 1
    if ahead != programme.ahead:
        turn.programme = replace(programme, ahead=ahead, due=(*programme.due, *planned[programme.ahead : ahead]))


def _give_the_air(turn: _Turn, chosen: _Offer) -> None:
    """Begin what was chosen, or let it go on: louder, softer, or with the other of a relay's two sources."""
    sounding = turn.programme.sounding
    if sounding is None:
        _start(turn, chosen)
    elif sounding.filled_by != chosen.filled_by:
        turn.switch(sounding)
    elif sounding.volume_percent != chosen.volume_percent:
        turn.programme = replace(turn.programme, sounding=replace(sounding, volume_percent=chosen.volume_percent))


def _start(turn: _Turn, offer: _Offer) -> None:
    programme = turn.programme
    earlier = turn.play_of(offer.reference)
    if earlier is not None and earlier.token is not None:
        return  # the player still owes the figures of its last part
    token = programme.next_token
    play = replace(
        earlier
        or Play(
            reference=offer.reference,
            token=token,
            media=offer.media,
            source_id=None if offer.relay is None else offer.relay.source_id,
            volume_percent=offer.volume_percent,
        ),
        token=token,
        volume_percent=offer.volume_percent,
        paused_at_ms=None,
        shifted_ms=offer.shifted_ms,
        filled_by=offer.filled_by,
        is_silent=False,
    )
    is_fallback = offer.reference.source is PlaySource.FALLBACK
    turn.programme = replace(
        programme,
        sounding=play,
        fallback_at_ms=turn.now.at_ms if is_fallback else programme.fallback_at_ms,
        suspended=tuple(each for each in programme.suspended if each is not earlier),
        orders=tuple(
            replace(each, began_uptime_ms=turn.now.uptime_ms)
            if each.reference == offer.reference and each.began_uptime_ms is None
            else each
            for each in programme.orders
        ),
        next_token=token + 1,
    )
    turn.directives.append(
        Start(play=play, content=offer.content, text=offer.text, position_ms=offer.position_ms, relay=offer.relay)
        if offer.filled_by is None
        else Start(play=play, content=ContentKind.AUDIO, text=None, position_ms=offer.position_ms)
    )


def _emission_offers(turn: _Turn, scene: Scene) -> Iterable[_Offer]:
    if not scene.is_clock_trusted:
        return
    now_ms = turn.now.at_ms
    for planned in turn.programme.due:
        play = turn.play_of(planned.reference)
        if planned.emission.starts_at_ms > now_ms and not _goes_on_too_early(turn, planned.emission, play):
            continue
        offer = _first_offer(turn, scene, planned) if play is None else _further_offer(turn, scene, planned, play)
        if offer is not None:
            yield offer


def _goes_on_too_early(turn: _Turn, emission: Emission, play: Play | None) -> bool:
    """Whether an emission sounds on whose time is yet to come, because the clock was set back since it began.

    A small correction is none to be heard; after a larger one it pauses until its time by the better clock.
    """
    if play is None or play.paused_at_ms is not None:
        return False
    if emission.starts_at_ms - turn.now.at_ms <= EVERYDAY_STEP_MS:
        return True
    turn.pause(play, None)
    return False


def _first_offer(turn: _Turn, scene: Scene, planned: Planned) -> _Offer | None:
    """The offer of an emission that has not begun; misses it when it can no longer begin."""
    now_ms, emission, reference = turn.now.at_ms, planned.emission, planned.reference
    if now_ms > emission.latest_start_ms + START_GRACE_MS or now_ms >= emission.ends_at_ms:
        obstacle = turn.programme.obstacles.get(reference) or _absence(turn, scene, emission)
        turn.miss(reference, obstacle.reason, obstacle.by)
        return None
    if emission.starts_at_ms >= turn.programme.plan_valid_until_ms:
        # The plan's word has ended before this emission begins.
        turn.hinder(reference, Obstacle(reason=MissReason.TOO_LATE))
        return None
    volume, filled_by = scene.volume_of(emission.volume_percent), _filling(scene, emission)
    blocked = _blocked_emission(scene, emission, volume, filled_by)
    if blocked is not None:
        turn.hinder(reference, Obstacle(reason=blocked))
        return None
    position_ms = emission.offset_ms + now_ms - emission.starts_at_ms
    if filled_by is not None:
        position_ms = _filling_position_ms(turn, emission, filled_by)
    return _offer(planned, volume, position_ms=position_ms, filled_by=filled_by)


def _further_offer(turn: _Turn, scene: Scene, planned: Planned, play: Play) -> _Offer | None:
    """The offer of an emission that has begun; ends it when its time is over."""
    now_ms, emission = turn.now.at_ms, planned.emission
    volume, filled_by = scene.volume_of(emission.volume_percent), _filling(scene, emission)
    blocked = _blocked_emission(scene, emission, volume, filled_by)
    ends_at_ms = emission.ends_at_ms + play.shifted_ms
    if play.paused_at_ms is None:
        if now_ms >= ends_at_ms:
            turn.close(play, PlayOutcome.COMPLETED, now_ms)
            return None
        if blocked is MissReason.SOURCE_SILENT:
            turn.pause(play, None, is_silent=True)
            return None
        # No offer while it sounds means that it is stopped.
        if blocked is not None:
            return None
        return _offer(planned, volume, position_ms=0, shifted_ms=play.shifted_ms, filled_by=filled_by)
    is_restart = play.cut_by is not None and emission.resume is ResumePolicy.RESTART and emission.relay is None
    is_over = now_ms > emission.latest_start_ms + START_GRACE_MS if is_restart else now_ms >= ends_at_ms
    if is_over:
        turn.close(play, _outcome_of_paused(play, ends_at_ms), play.paused_at_ms)
        return None
    if blocked is not None:
        return None
    if is_restart:
        shifted_ms = max(0, now_ms - emission.starts_at_ms)
        return _offer(planned, volume, position_ms=emission.offset_ms, shifted_ms=shifted_ms)
    position_ms = emission.offset_ms + now_ms - emission.starts_at_ms - play.shifted_ms
    if filled_by is not None:
        position_ms = _filling_position_ms(turn, emission, filled_by)
    return _offer(planned, volume, position_ms=position_ms, shifted_ms=play.shifted_ms, filled_by=filled_by)


def _filling_position_ms(turn: _Turn, emission: Emission, filled_by: bytes) -> int:
    """Where a fallback that repeats since the slot began is by now; at its beginning when its length is not known."""
    length_ms = turn.programme.lengths_ms.get(filled_by)
    return 0 if length_ms is None else (turn.now.at_ms - emission.starts_at_ms) % length_ms


def _outcome_of_paused(play: Play, ends_at_ms: int) -> PlayOutcome:
    """How a play ends whose slot is over while it is paused."""
    assert play.paused_at_ms is not None
    if play.source_id is not None and play.paused_at_ms >= ends_at_ms:
        return PlayOutcome.COMPLETED  # a round of its fallback ended with the slot
    return PlayOutcome.CUT if play.cut_by is not None and not play.is_silent else PlayOutcome.FAILED


def _offer(
    planned: Planned, volume: int | None, *, position_ms: int, shifted_ms: int = 0, filled_by: bytes | None = None
) -> _Offer:
    emission = planned.emission
    return _Offer(
        contender=planned.contender,
        resume=emission.resume,
        content=emission.content,
        media=emission.media,
        text=emission.text,
        volume_percent=volume,
        position_ms=position_ms,
        shifted_ms=shifted_ms,
        relay=emission.relay,
        filled_by=filled_by,
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
        volume = scene.volume_of(ordered.volume_percent, passes_cap=ordered.passes_cap)
        blocked = _blocked(scene, ordered.content, ordered.media, ordered.text, volume)
        if blocked is not None:
            if play is None:
                turn.hinder(ordered.reference, Obstacle(reason=blocked))
            continue
        yield _Offer(
            contender=Contender(reference=ordered.reference, rank=ordered.rank),
            resume=ordered.resume,
            content=ordered.content,
            media=ordered.media,
            text=ordered.text,
            volume_percent=volume,
            position_ms=0 if ordered.resume is ResumePolicy.RESTART else elapsed_ms,
        )


def _blocked_emission(
    scene: Scene, emission: Emission, volume: int | None, filled_by: bytes | None
) -> MissReason | None:
    """Why this emission cannot be put out right now, if so. A relay without any sound yet never silences another."""
    relay = emission.relay
    if relay is None:
        return _blocked(scene, emission.content, emission.media, emission.text, volume)
    if emission.content not in _SUPPORTED[scene.kind]:
        return MissReason.UNSUPPORTED
    if scene.is_silenced or volume == 0:
        return MissReason.SILENCED
    return None if filled_by is not None or relay.source_id in scene.heard else MissReason.SOURCE_SILENT


def _filling(scene: Scene, emission: Emission) -> bytes | None:
    """The fallback of a relay, if it has to fill in for the source now and is at hand."""
    relay, fallback = emission.relay, emission.fallback
    if relay is None or fallback is None or relay.source_id in scene.heard:
        return None
    return fallback if fallback in scene.stored and fallback not in scene.corrupt else None


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


# --- when the plan has run out ---------------------------------------------------------------------------------------

# Never compared: the fallback is only asked when there is nothing else.
_BELOW_EVERYTHING = Rank(level=Level.NORMAL, issuer_depth=15, issued_at_ms=0)


def has_expired(programme: Programme, *, now: Moment) -> bool:
    """Whether there is a plan and its word has ended, by a clock that the caller trusts."""
    return 0 < programme.plan_valid_until_ms <= now.at_ms


def _fallback_offer(turn: _Turn, scene: Scene) -> _Offer | None:
    """The offer of the configuration's fallback: at its times, once for each, and then until its media ends."""
    fallback, sounding = scene.fallback, turn.programme.sounding
    if fallback is None:
        return None
    content = _content_of(fallback)
    if sounding is not None and sounding.reference.source is PlaySource.FALLBACK:
        is_another = sounding.reference.id != fallback.fallback_id or sounding.media != fallback.media.sha256
        shown_until_ms = _shown_until_ms(scene, fallback, sounding)
        if is_another or (shown_until_ms is not None and turn.now.at_ms >= shown_until_ms):
            turn.close(sounding, PlayOutcome.STOPPED if is_another else PlayOutcome.COMPLETED, turn.now.at_ms)
            return None
    elif not _is_time_for(fallback, turn.programme, scene, turn.now):
        return None
    volume, media = scene.volume_of(None), fallback.media.sha256
    if _blocked(scene, content, media, None, volume) is not None:
        return None
    reference = PlayReference(source=PlaySource.FALLBACK, id=fallback.fallback_id)
    return _Offer(
        contender=Contender(reference=reference, rank=_BELOW_EVERYTHING),
        resume=ResumePolicy.DROP,
        content=content,
        media=media,
        text=None,
        volume_percent=volume,
        position_ms=0,
    )


def _is_time_for(fallback: Fallback, programme: Programme, scene: Scene, now: Moment) -> bool:
    if not scene.is_clock_trusted or not has_expired(programme, now=now):
        return False
    at_ms = standby.latest_ms(fallback, now.at_ms)
    is_new = at_ms >= programme.plan_valid_until_ms and at_ms > programme.fallback_at_ms
    return is_new and now.at_ms - at_ms <= FALLBACK_GRACE_MS


def _shown_until_ms(scene: Scene, fallback: Fallback, play: Play) -> int | None:
    """Until when a board shows it, device time. A loudspeaker goes by the end of the sound."""
    if scene.kind is not DeviceKind.BOARD or play.started_at_ms is None:
        return None
    return play.started_at_ms + (fallback.media.duration_ms or FALLBACK_SHOWN_MS)


def _content_of(fallback: Fallback) -> ContentKind:
    family = fallback.media.mime.partition("/")[0]
    return {"image": ContentKind.IMAGE, "video": ContentKind.VIDEO}.get(family, ContentKind.AUDIO)


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
    """The content ended by itself; what ended while it was cut off ended by the cut.

    A relay is not over with its part: the fallback begins anew, and a source that ended is silent.
    """
    play = programme.sounding
    if play is not None and play.token == token and play.source_id is not None:
        return _part_over(programme, play, figures, now)
    is_cut = play is not None and play.token == token and play.cut_by is not None and figures.sounded_ms == 0
    return _over(programme, token, figures, PlayOutcome.CUT if is_cut else PlayOutcome.COMPLETED, now)


def broke(
    programme: Programme, token: int, figures: Figures, *, now: Moment
) -> tuple[Programme, tuple[Directive, ...]]:
    """The player gave up. A play that had not begun stays to be settled by the state of its media."""
    play = programme.sounding
    if play is not None and play.token == token and play.started_at_ms is None:
        return replace(programme, sounding=None), ()
    if play is not None and play.token == token and play.source_id is not None:
        return _part_over(programme, play, figures, now)
    return _over(programme, token, figures, PlayOutcome.FAILED, now)


def _part_over(
    programme: Programme, play: Play, figures: Figures, now: Moment
) -> tuple[Programme, tuple[Directive, ...]]:
    """Lay a relay aside whose part ended by itself: whether it goes on, and with what, is decided at the next look."""
    if play.started_at_ms is None:
        return replace(programme, sounding=None), ()
    aside = replace(play.plus(figures), paused_at_ms=now.at_ms, is_silent=True)
    return replace(programme, sounding=None, suspended=(*programme.suspended, aside)), ()


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
                reason = MissReason.SOURCE_SILENT if play.cut_by is None else MissReason.OUTRANKED
                obstacle = Obstacle(reason=reason, by=play.cut_by)
                turn.programme = replace(programme, suspended=rest)
                turn.hinder(play.reference, obstacle)
            else:
                turn.programme = replace(programme, suspended=(*rest, play.plus(figures)))
            return turn.done()
    return turn.done()


# --- relay sources ---------------------------------------------------------------------------------------------------


def wanted_sources(programme: Programme, *, now: Moment) -> Mapping[uuid.UUID, RelayReference]:
    """The relay sources to listen to now: of the relays that are due, and of those that begin soon."""
    if not programme.relays_at_ms:
        return {}
    wanted: dict[uuid.UUID, RelayReference] = {}
    for each in programme.due:
        relay = each.emission.relay
        if relay is not None and each.emission.starts_at_ms - TUNE_LEAD_MS <= now.at_ms:
            wanted.setdefault(relay.source_id, relay)
    for index in range(programme.ahead, len(programme.planned)):
        emission = programme.planned[index].emission
        if emission.starts_at_ms - TUNE_LEAD_MS > now.at_ms:
            break
        if emission.relay is not None:
            wanted.setdefault(emission.relay.source_id, emission.relay)
    return wanted


# --- when to look again ----------------------------------------------------------------------------------------------


def next_look_ms(programme: Programme, scene: Scene, *, now: Moment) -> int | None:
    """Milliseconds until something may change by itself; None when nothing is ahead."""
    waits: list[int] = []
    if scene.is_clock_trusted:
        waits.extend(_plan_waits_ms(programme, scene, now))
    for ordered in programme.orders:
        if ordered.began_uptime_ms is None:
            waits.append(ordered.begin_by_uptime_ms + 1 - now.uptime_ms)
        elif ordered.duration_ms is not None:
            waits.append(ordered.began_uptime_ms + ordered.duration_ms - now.uptime_ms)
    return max(0, min(waits)) if waits else None


def _plan_waits_ms(programme: Programme, scene: Scene, now: Moment) -> Iterable[int]:
    at_ms = now.at_ms
    for planned in programme.due:
        starts_at_ms = planned.emission.starts_at_ms
        yield (starts_at_ms if starts_at_ms > at_ms else _next_change_ms(programme, planned)) - at_ms
    if programme.ahead < len(programme.planned):
        yield programme.planned[programme.ahead].emission.starts_at_ms - at_ms
    if programme.relays_at_ms:
        index = bisect_right(programme.relays_at_ms, at_ms + TUNE_LEAD_MS)
        if index < len(programme.relays_at_ms):
            yield programme.relays_at_ms[index] - TUNE_LEAD_MS - at_ms
    if programme.plan_valid_until_ms > at_ms:
        yield programme.plan_valid_until_ms - at_ms
    if scene.fallback is not None and programme.plan_valid_until_ms:
        # The instant the plan ends may itself be one of the fallback's times.
        yield standby.next_ms(scene.fallback, max(at_ms, programme.plan_valid_until_ms - 1)) - at_ms
        play = programme.sounding
        if play is not None and play.reference.source is PlaySource.FALLBACK:
            shown_until_ms = _shown_until_ms(scene, scene.fallback, play)
            if shown_until_ms is not None:
                yield shown_until_ms - at_ms


def _next_change_ms(programme: Programme, planned: Planned) -> int:
    """The device time at which an emission in its slot is to be looked at again."""
    emission = planned.emission
    play = next((play for play in _plays(programme) if _same(play.reference, planned.reference)), None)
    too_late_ms = min(emission.latest_start_ms + START_GRACE_MS + 1, emission.ends_at_ms)
    if play is None:
        return too_late_ms
    is_cut = play.paused_at_ms is not None and play.cut_by is not None
    if is_cut and emission.resume is ResumePolicy.RESTART and emission.relay is None:
        return emission.latest_start_ms + START_GRACE_MS + 1
    return emission.ends_at_ms + play.shifted_ms
