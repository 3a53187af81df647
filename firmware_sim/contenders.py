"""Who wants the air at an instant, and why somebody who does cannot have it: planned emissions, orders, the fallback.

A look at what wants it also ends what is over and misses what can no longer begin (`Change`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from firmware_sim import standby
from firmware_sim.change import Change, Offer
from firmware_sim.clock import Moment
from firmware_sim.programme import Lapsed, Obstacle, Planned, Play, Programme, Scene
from schemas.arbitration import Contender
from schemas.configuration import Fallback
from schemas.events import MissReason, PlayOutcome
from schemas.fields import DeviceKind, Level, PlayReference, PlaySource, ResumePolicy
from schemas.orders import Rank
from schemas.plans import ContentKind, Emission

# A timer fires a little late on any machine; an emission whose latest start is its start must survive that.
START_GRACE_MS = 50

# Steps of the clock up to this are everyday synchronisation.
EVERYDAY_STEP_MS = 1_000

# How late the configuration's fallback may still begin: it is a notice at its time, not a programme to be caught up on.
FALLBACK_GRACE_MS = 30_000
FALLBACK_SHOWN_MS = 60_000  # on a board, when its media has no duration

_SUPPORTED: Mapping[DeviceKind, frozenset[ContentKind]] = {
    DeviceKind.CLUSTER: frozenset({ContentKind.AUDIO, ContentKind.RELAY}),
    DeviceKind.BOARD: frozenset({ContentKind.TEXT, ContentKind.TICKER, ContentKind.IMAGE, ContentKind.VIDEO}),
    DeviceKind.SENSOR: frozenset(),
    DeviceKind.GATEWAY: frozenset(),
}


def of_emissions(change: Change, scene: Scene) -> Iterable[Offer]:
    """What the plan has for now, by a clock that is trusted."""
    if not scene.is_clock_trusted:
        return
    now_ms = change.now.at_ms
    for planned in change.programme.due:
        play = change.play_of(planned.reference)
        if planned.emission.starts_at_ms > now_ms and not _goes_on_too_early(change, planned.emission, play):
            continue
        offer = _first_offer(change, scene, planned) if play is None else _further_offer(change, scene, planned, play)
        if offer is not None:
            yield offer


def _goes_on_too_early(change: Change, emission: Emission, play: Play | None) -> bool:
    """Whether an emission sounds on whose time is yet to come, because the clock was set back since it began.

    A small correction is none to be heard; after a larger one it pauses until its time by the better clock.
    """
    if play is None or play.paused_at_ms is not None:
        return False
    if emission.starts_at_ms - change.now.at_ms <= EVERYDAY_STEP_MS:
        return True
    change.pause(play, None)
    return False


def _first_offer(change: Change, scene: Scene, planned: Planned) -> Offer | None:
    """The offer of an emission that has not begun; misses it when it can no longer begin."""
    now_ms, emission, reference = change.now.at_ms, planned.emission, planned.reference
    if now_ms > emission.latest_start_ms + START_GRACE_MS or now_ms >= emission.ends_at_ms:
        obstacle = change.programme.obstacles.get(reference) or _absence(change, scene, emission)
        change.miss(reference, obstacle.reason, obstacle.by)
        return None
    if emission.starts_at_ms >= change.programme.plan_valid_until_ms:
        # The plan's word has ended before this emission begins.
        change.hinder(reference, Obstacle(reason=MissReason.TOO_LATE))
        return None
    volume, filled_by = scene.volume_of(emission.volume_percent), _filling(scene, emission)
    blocked = _blocked_emission(scene, emission, volume, filled_by)
    if blocked is not None:
        change.hinder(reference, Obstacle(reason=blocked))
        return None
    position_ms = emission.offset_ms + now_ms - emission.starts_at_ms
    if filled_by is not None:
        position_ms = _filling_position_ms(change, emission, filled_by)
    return _offer(planned, volume, position_ms=position_ms, filled_by=filled_by)


def _further_offer(change: Change, scene: Scene, planned: Planned, play: Play) -> Offer | None:
    """The offer of an emission that has begun; ends it when its time is over."""
    now_ms, emission = change.now.at_ms, planned.emission
    volume, filled_by = scene.volume_of(emission.volume_percent), _filling(scene, emission)
    blocked = _blocked_emission(scene, emission, volume, filled_by)
    ends_at_ms = emission.ends_at_ms + play.shifted_ms
    if play.paused_at_ms is None:
        if now_ms >= ends_at_ms:
            change.close(play, PlayOutcome.COMPLETED, now_ms)
            return None
        if blocked is MissReason.SOURCE_SILENT:
            change.pause(play, None, is_silent=True)
            return None
        # No offer while it sounds means that it is stopped.
        if blocked is not None:
            return None
        return _offer(planned, volume, position_ms=0, shifted_ms=play.shifted_ms, filled_by=filled_by)
    is_restart = play.cut_by is not None and emission.resume is ResumePolicy.RESTART and emission.relay is None
    is_over = now_ms > emission.latest_start_ms + START_GRACE_MS if is_restart else now_ms >= ends_at_ms
    if is_over:
        change.close(play, _outcome_of_paused(play, ends_at_ms), play.paused_at_ms)
        return None
    if blocked is not None:
        return None
    if is_restart:
        shifted_ms = max(0, now_ms - emission.starts_at_ms)
        return _offer(planned, volume, position_ms=emission.offset_ms, shifted_ms=shifted_ms)
    position_ms = emission.offset_ms + now_ms - emission.starts_at_ms - play.shifted_ms
    if filled_by is not None:
        position_ms = _filling_position_ms(change, emission, filled_by)
    return _offer(planned, volume, position_ms=position_ms, shifted_ms=play.shifted_ms, filled_by=filled_by)


def _filling_position_ms(change: Change, emission: Emission, filled_by: bytes) -> int:
    """Where a fallback that repeats since the slot began is by now; at its beginning when its length is not known."""
    length_ms = change.programme.lengths_ms.get(filled_by)
    return 0 if length_ms is None else (change.now.at_ms - emission.starts_at_ms) % length_ms


def _outcome_of_paused(play: Play, ends_at_ms: int) -> PlayOutcome:
    """How a play ends whose slot is over while it is paused."""
    assert play.paused_at_ms is not None
    if play.source_id is not None and play.paused_at_ms >= ends_at_ms:
        return PlayOutcome.COMPLETED  # a round of its fallback ended with the slot
    return PlayOutcome.CUT if play.cut_by is not None and not play.is_silent else PlayOutcome.FAILED


def _offer(
    planned: Planned, volume: int | None, *, position_ms: int, shifted_ms: int = 0, filled_by: bytes | None = None
) -> Offer:
    emission = planned.emission
    return Offer(
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


def of_orders(change: Change, scene: Scene) -> Iterable[Offer]:
    """What commands and alerts ask for now."""
    uptime_ms = change.now.uptime_ms
    for ordered in change.programme.orders:
        play = change.play_of(ordered.reference)
        elapsed_ms = 0 if ordered.began_uptime_ms is None else uptime_ms - ordered.began_uptime_ms
        if play is None and uptime_ms > ordered.begin_by_uptime_ms:
            obstacle = change.programme.obstacles.get(ordered.reference)
            change.settle(ordered.reference)
            change.directives.append(Lapsed(reference=ordered.reference, obstacle=obstacle))
            continue
        if play is not None and ordered.duration_ms is not None and elapsed_ms >= ordered.duration_ms:
            is_cut = play.paused_at_ms is not None
            change.close(
                play, PlayOutcome.CUT if is_cut else PlayOutcome.COMPLETED, play.paused_at_ms or change.now.at_ms
            )
            continue
        volume = scene.volume_of(ordered.volume_percent, passes_cap=ordered.passes_cap)
        blocked = _blocked(scene, ordered.content, ordered.media, ordered.text, volume)
        if blocked is not None:
            if play is None:
                change.hinder(ordered.reference, Obstacle(reason=blocked))
            continue
        yield Offer(
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


def _absence(change: Change, scene: Scene, emission: Emission) -> Obstacle:
    """Why an emission was missed that the device never looked at while it could have begun."""
    latest_ms = emission.latest_start_ms
    if change.programme.plan_accepted_at_ms > latest_ms:
        return Obstacle(reason=MissReason.TOO_LATE)
    if change.now.at_ms - change.now.uptime_ms > latest_ms:
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


def of_fallback(change: Change, scene: Scene) -> Offer | None:
    """The offer of the configuration's fallback: at its times, once for each, and then until its media ends."""
    fallback, sounding = scene.fallback, change.programme.sounding
    if fallback is None:
        return None
    content = _content_of(fallback)
    if sounding is not None and sounding.reference.source is PlaySource.FALLBACK:
        is_another = sounding.reference.id != fallback.fallback_id or sounding.media != fallback.media.sha256
        until_ms = shown_until_ms(scene, fallback, sounding)
        if is_another or (until_ms is not None and change.now.at_ms >= until_ms):
            change.close(sounding, PlayOutcome.STOPPED if is_another else PlayOutcome.COMPLETED, change.now.at_ms)
            return None
    elif not _is_time_for(fallback, change.programme, scene, change.now):
        return None
    volume, media = scene.volume_of(None), fallback.media.sha256
    if _blocked(scene, content, media, None, volume) is not None:
        return None
    reference = PlayReference(source=PlaySource.FALLBACK, id=fallback.fallback_id)
    return Offer(
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


def shown_until_ms(scene: Scene, fallback: Fallback, play: Play) -> int | None:
    """Until when a board shows it, device time. A loudspeaker goes by the end of the sound."""
    if scene.kind is not DeviceKind.BOARD or play.started_at_ms is None:
        return None
    return play.started_at_ms + (fallback.media.duration_ms or FALLBACK_SHOWN_MS)


def _content_of(fallback: Fallback) -> ContentKind:
    family = fallback.media.mime.partition("/")[0]
    return {"image": ContentKind.IMAGE, "video": ContentKind.VIDEO}.get(family, ContentKind.AUDIO)
