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

from firmware_sim import contenders
from firmware_sim.change import Change, Offer, plays, same
from firmware_sim.clock import Moment
from firmware_sim.programme import (
    Begun,
    Directive,
    Figures,
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
from schemas.events import MissReason, PlayOutcome
from schemas.fields import PlayReference, PlaySource, ResumePolicy
from schemas.plans import ContentKind, Emission, Plan

# --- the plan --------------------------------------------------------------------------------------------------------


def adopt(
    programme: Programme, plan: Plan, *, accepted_at_ms: int, now: Moment
) -> tuple[Programme, tuple[Directive, ...]]:
    """The programme under another plan, which replaces the earlier one as a whole.

    What sounds goes on if the new plan still holds it with the same media, and is stopped otherwise. But a plan says
    nothing of what was over when it was issued: a play that began again late may sound beyond its slot, and a device
    whose clock is behind is not there yet. Those stay.
    """
    change = Change(programme, now)
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
    change.programme = replace(
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
    for play in plays(programme):
        if play.reference.source is PlaySource.EMISSION and kept.get(play.reference) != (play.media, play.source_id):
            _withdraw(change, play)
    return change.done()


def _planned(emission: Emission) -> Planned:
    return Planned(emission, Contender(reference=emission.reference, rank=emission.rank))


def _source_of(emission: Emission) -> tuple[bytes | None, uuid.UUID | None]:
    """What tells whether a play and an emission are the same content."""
    return emission.media, None if emission.relay is None else emission.relay.source_id


def abandon(programme: Programme, *, now: Moment) -> tuple[Programme, tuple[Directive, ...]]:
    """The programme when its plan is no longer believed: emissions are forgotten, what sounds of them stops."""
    change = Change(
        replace(programme, planned=(), ahead=0, due=(), relays_at_ms=(), plan_accepted_at_ms=0, plan_valid_until_ms=0),
        now,
    )
    for play in plays(programme):
        if play.reference.source is PlaySource.EMISSION:
            _withdraw(change, play)
    return change.done()


def _withdraw(change: Change, play: Play) -> None:
    """End a play the plan no longer holds. One that has not begun to sound leaves no trace, like any withdrawn item."""
    if play.started_at_ms is not None:
        change.close(play, PlayOutcome.STOPPED, play.paused_at_ms or change.now.at_ms)
        return
    programme = change.programme
    change.programme = replace(
        programme,
        sounding=None if programme.sounding == play else programme.sounding,
        suspended=tuple(each for each in programme.suspended if each != play),
    )
    if play.token is not None and play.paused_at_ms is None:
        change.directives.append(Stop(token=play.token))


# --- commands and alerts ---------------------------------------------------------------------------------------------


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
    change = Change(programme, now)
    begun = [play for play in plays(programme) if _is_of_alert(play.reference, alert_id)]
    if lets_sounding_end:
        ordered = [each for each in ordered if all(each.reference != play.reference for play in begun)]
    gone = {each.reference for each in ordered}
    change.programme = replace(
        programme,
        orders=tuple(each for each in programme.orders if each.reference not in gone),
        obstacles={key: each for key, each in programme.obstacles.items() if key not in gone},
    )
    for play in begun:
        if play.reference in gone:
            _withdraw(change, play)
    return change.done()


def _is_of_alert(reference: PlayReference, alert_id: uuid.UUID) -> bool:
    return reference.source is PlaySource.ALERT and reference.id == alert_id


def halt(programme: Programme, *, now: Moment) -> tuple[Programme, tuple[Directive, ...]]:
    """End what sounds now, for good. Later emissions stand, and so does what was cut and waits."""
    change = Change(programme, now)
    if programme.sounding is not None:
        change.close(programme.sounding, PlayOutcome.STOPPED, now.at_ms)
    return change.done()


def interrupt(programme: Programme, *, now: Moment) -> tuple[Programme, tuple[Directive, ...]]:
    """Pause what sounds because the device goes down; it joins in progress when the device is back in time."""
    change = Change(programme, now)
    if programme.sounding is not None:
        change.pause(programme.sounding, None)
    return change.done()


# --- one look at the programme ---------------------------------------------------------------------------------------


def conduct(programme: Programme, scene: Scene, *, now: Moment) -> tuple[Programme, tuple[Directive, ...]]:
    """Settle what is over, choose what sounds now, and say what that takes."""
    change = Change(programme, now)
    if scene.is_clock_trusted:
        _come_up(change)
    offers = [*contenders.of_emissions(change, scene), *contenders.of_orders(change, scene)]
    chosen = _best(offers)
    standing_in = contenders.of_fallback(change, scene)
    if chosen is None:
        chosen = standing_in
    current = change.programme.sounding
    if current is not None and (chosen is None or not same(chosen.reference, current.reference)):
        candidates = (*offers, standing_in) if standing_in is not None else offers
        loser = next((each for each in candidates if same(each.reference, current.reference)), None)
        if loser is None or chosen is None:
            change.close(current, PlayOutcome.STOPPED, now.at_ms)
        elif loser.resume is ResumePolicy.DROP:
            cut = replace(current, cut_by=chosen.reference)
            change.programme = replace(change.programme, sounding=cut)
            change.close(cut, PlayOutcome.CUT, now.at_ms)
        else:
            change.pause(current, chosen.reference)
    if chosen is not None:
        _give_the_air(change, chosen)
        for offer in offers:
            if offer is not chosen and change.play_of(offer.reference) is None:
                change.hinder(offer.reference, Obstacle(reason=MissReason.OUTRANKED, by=chosen.reference))
    return change.done()


def _best(offers: list[Offer]) -> Offer | None:
    if len(offers) < 2:
        return offers[0] if offers else None
    best = arbitration.winner(offer.contender for offer in offers)
    return next(offer for offer in offers if offer.contender is best)


def _come_up(change: Change) -> None:
    """Move what begins by now from what lies ahead to what is due."""
    programme = change.programme
    planned, ahead = programme.planned, programme.ahead
    while ahead < len(planned) and planned[ahead].emission.starts_at_ms <= change.now.at_ms:
        ahead += 1
    if ahead != programme.ahead:
        change.programme = replace(programme, ahead=ahead, due=(*programme.due, *planned[programme.ahead : ahead]))


def _give_the_air(change: Change, chosen: Offer) -> None:
    """Begin what was chosen, or let it go on: louder, softer, or with the other of a relay's two sources."""
    sounding = change.programme.sounding
    if sounding is None:
        _start(change, chosen)
    elif sounding.filled_by != chosen.filled_by:
        change.switch(sounding)
    elif sounding.volume_percent != chosen.volume_percent:
        change.programme = replace(change.programme, sounding=replace(sounding, volume_percent=chosen.volume_percent))


def _start(change: Change, offer: Offer) -> None:
    programme = change.programme
    earlier = change.play_of(offer.reference)
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
    change.programme = replace(
        programme,
        sounding=play,
        fallback_at_ms=change.now.at_ms if is_fallback else programme.fallback_at_ms,
        suspended=tuple(each for each in programme.suspended if each is not earlier),
        orders=tuple(
            replace(each, began_uptime_ms=change.now.uptime_ms)
            if each.reference == offer.reference and each.began_uptime_ms is None
            else each
            for each in programme.orders
        ),
        next_token=token + 1,
    )
    change.directives.append(
        Start(play=play, content=offer.content, text=offer.text, position_ms=offer.position_ms, relay=offer.relay)
        if offer.filled_by is None
        else Start(play=play, content=ContentKind.AUDIO, text=None, position_ms=offer.position_ms)
    )


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
    change = Change(programme, now)
    final = play.plus(figures)
    change.programme = replace(programme, sounding=final)
    change.close(final, outcome, now.at_ms)
    return change.done()


def stopped(
    programme: Programme, token: int, figures: Figures, *, now: Moment
) -> tuple[Programme, tuple[Directive, ...]]:
    """The player's answer to `Stop`. A token nobody waits for is an answer that came twice."""
    change = Change(programme, now)
    for closing in programme.closing:
        if closing.play.token == token:
            change.programme = replace(programme, closing=tuple(each for each in programme.closing if each != closing))
            change.tell_end(replace(closing, play=closing.play.plus(figures)))
            return change.done()
    for play in programme.suspended:
        if play.token == token:
            rest = tuple(each for each in programme.suspended if each != play)
            if play.started_at_ms is None:
                # It was cut before its first sample, so it has not begun: it may still begin later.
                reason = MissReason.SOURCE_SILENT if play.cut_by is None else MissReason.OUTRANKED
                obstacle = Obstacle(reason=reason, by=play.cut_by)
                change.programme = replace(programme, suspended=rest)
                change.hinder(play.reference, obstacle)
            else:
                change.programme = replace(programme, suspended=(*rest, play.plus(figures)))
            return change.done()
    return change.done()
