"""What a device does about alerts: whether one is believed, what of it sounds or shows, and when it is over.

An alert comes on the topic of an area or inside a command; only what is signed decides. Of one alert the highest version
counts, whatever way it came and whatever came first, so two devices that heard the same messages in another order end up
the same. What has been dealt with is remembered beyond its validity, and a device without a trusted clock goes by the
floor, so that yesterday's alert does not sound today.

Sound is `playback`'s, by the same arbitration as all else: an alert is put there content by content as an order. Here is
only which content is next: a round sounds every content that this device can put out and has at hand, the next round
begins after the pause that was asked for, until the alert is over.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from firmware_sim import effects, playback, trust
from firmware_sim.clock import Moment
from firmware_sim.programme import Order
from firmware_sim.standing import Alerts, Handled, Kept, Recalled, Standing
from firmware_sim.state import Awaiting, DeviceState
from firmware_sim.trust import Refusal
from firmware_sim.turn import Turn
from firmware_sim.values import replace
from schemas import audience, events
from schemas.alerts import Alert, AlertContent, Purpose
from schemas.configuration import Ownership
from schemas.events import AlertResult, MessageKind, RefusalReason
from schemas.fields import DeviceKind, Level, PlayReference, PlaySource
from schemas.orders import MediaReference
from schemas.plans import ContentKind

REMEMBERED_MS = 48 * 3_600_000  # beyond an alert's validity
LATE_MS = 600_000  # an alert that comes this late after its end is late; later it is a replay
BELOW_FLOOR_MS = 600_000  # how far below the floor a device without a trusted clock believes an unseen alert
SHOWN_MS = 15_000  # a content on a board, unless its sound tells how long it lasts
KEYS_AWAITED_MS = 3_000  # how long an alert with an unknown key waits for keys before it is refused
AWAITED = 8  # alerts that may wait for keys at once
_ENDED = 65_535  # the version of what another alert has put an end to: no version of it counts any more

_SOUNDING = frozenset({Purpose.ALERT, Purpose.AUDIBLE_TEST})


# --- what comes in ---------------------------------------------------------------------------------------------------


def receive(turn: Turn, payload: bytes) -> RefusalReason | None:
    """Judge one alert and do what it says; why it was refused, if so."""
    standing = turn.state.alerts.standing.values()
    if not payload or any(each.raw == payload and not _is_over(turn, each) for each in standing):
        return None  # the topic was cleared, or a retained message came again
    verdict = trust.verify_alert(payload, turn.state.trust)
    if isinstance(verdict, Refusal):
        _refuse_or_wait(turn, payload, verdict)
        return verdict.reason
    refusal = _consider(turn, payload, verdict)
    if refusal is None:
        return None
    turn.refuse(MessageKind.ALERT, refusal)
    return refusal.reason


def foresee(state: DeviceState, payload: bytes, *, now: Moment) -> effects.StartPlayback | None:
    """What `device.step` will let sound for this message, where that can be told at a glance; None where it cannot.

    A speaker with nothing else to do that hears a new emergency for itself begins its first content. The signature is
    checked here as there. Whoever acts on it still owes the device the step, with the same `now`.
    """
    programme, alerts = state.programme, state.alerts
    planned = programme.planned[programme.ahead : programme.ahead + 1]
    is_idle = (
        state.profile.kind is DeviceKind.CLUSTER
        and not (state.is_going_down or state.is_silenced or alerts.standing or programme.orders or programme.due)
        and not (programme.suspended or programme.closing or programme.sounding)
        and all(each.emission.starts_at_ms > now.at_ms for each in planned)
        and trust.is_trusted(now, state.trust.floor_ms)
    )
    if not is_idle or not payload:
        return None
    alert = trust.verify_alert(payload, state.trust)
    if isinstance(alert, Refusal) or alert.alert_id in alerts.handled or alert.references:
        return None
    is_plain = alert.purpose is Purpose.ALERT and alert.rank.level is Level.EMERGENCY and alert.volume_percent != 0
    is_in_time = max(alert.valid_from_ms, alert.issued_at_ms) <= now.at_ms < alert.valid_until_ms
    if not (is_plain and is_in_time and is_addressed(state, alert)):
        return None
    for _, content in _each_playable(state.profile.kind, alert):
        if content.media is not None and _is_at_hand(state, content):
            return effects.StartPlayback(
                token=programme.next_token,
                content=content.kind,
                media=content.media.sha256,
                text=content.text,
                position_ms=0,
                relay=None,
            )
    return None


def receive_awaiting(turn: Turn) -> None:
    """Judge again what waited for keys."""
    waiting = turn.state.awaiting_alerts
    if waiting:
        turn.state = replace(turn.state, awaiting_alerts=())
        for each in waiting:
            receive(turn, each.payload)


def refuse_unawaited(turn: Turn) -> None:
    """Refuse what waited for keys in vain."""
    over = [each for each in turn.state.awaiting_alerts if each.until_ms <= turn.now.uptime_ms]
    if over:
        rest = tuple(each for each in turn.state.awaiting_alerts if each not in over)
        turn.state = replace(turn.state, awaiting_alerts=rest)
        for _ in over:
            turn.refuse(MessageKind.ALERT, Refusal(reason=RefusalReason.UNKNOWN_KEY))


def _refuse_or_wait(turn: Turn, payload: bytes, refusal: Refusal) -> None:
    waiting = turn.state.awaiting_alerts
    if refusal.reason is not RefusalReason.UNKNOWN_KEY or len(waiting) >= AWAITED:
        turn.refuse(MessageKind.ALERT, refusal)
    elif all(each.payload != payload for each in waiting):
        one_more = Awaiting(payload=payload, until_ms=turn.now.uptime_ms + KEYS_AWAITED_MS)
        turn.state = replace(turn.state, awaiting_alerts=(*waiting, one_more))


def _consider(turn: Turn, payload: bytes, alert: Alert) -> Refusal | None:
    """Do what a genuine alert says, unless it is old, early or for others."""
    known, now = turn.state.trust, turn.now
    is_meant = is_addressed(turn.state, alert)
    handled = turn.state.alerts.handled.get(alert.alert_id)
    is_new = handled is None or alert.alert_version > handled.version
    if handled is not None and alert.alert_version == handled.version:
        is_new = is_meant and not handled.is_meant  # this device has since been moved to where it is meant
    late_ms = trust.believed_ms(now, known.floor_ms) - alert.valid_until_ms
    if late_ms >= LATE_MS:
        return Refusal(reason=RefusalReason.EXPIRED if is_new else RefusalReason.REPLAYED, detail=_name(alert))
    if not is_new:
        return None
    if not trust.is_trusted(now, known.floor_ms):
        if alert.issued_at_ms < known.floor_ms - BELOW_FLOOR_MS:
            return Refusal(reason=RefusalReason.REPLAYED, detail=f"{_name(alert)}: issued long before others")
    elif max(alert.valid_from_ms, alert.issued_at_ms) > now.at_ms + trust.SKEW_MS:
        return Refusal(reason=RefusalReason.NOT_YET_VALID, detail=_name(alert))
    if not is_meant and alert.alert_version == 1:
        return None  # an ordinary message that is none of this device's business
    # What a later version leaves this device out of is noted too: an earlier one that is still to come must not sound.
    turn.state = replace(
        turn.state,
        trust=replace(known, floor_ms=max(known.floor_ms, alert.issued_at_ms)),
        alerts=_noted(turn, alert.alert_id, alert.alert_version, alert.valid_until_ms, is_meant=is_meant),
    )
    if not is_meant:
        _end(turn, alert.alert_id, told_as=alert)
    elif late_ms >= 0:
        _tell(turn, alert, AlertResult.EXPIRED)
    else:
        _obey(turn, payload, alert)
    return None


def is_addressed(state: DeviceState, alert: Alert) -> bool:
    """Whether the alert is for this device, by what was signed for it."""
    config = None if state.config is None else state.config.order
    return audience.addresses(
        alert.audience,
        device=state.profile.id,
        kind=state.profile.kind,
        ownership=Ownership.PUBLIC if config is None else config.ownership,
        membership=() if config is None else config.membership,
        position=None if config is None else config.position,
    )


def _obey(turn: Turn, payload: bytes, alert: Alert) -> None:
    for earlier in alert.references:
        if earlier != alert.alert_id:
            _end(turn, earlier)
            noted = _noted(turn, earlier, _ENDED, alert.valid_until_ms)
            turn.state = replace(turn.state, alerts=noted)
    match alert.purpose:
        case Purpose.ALERT | Purpose.AUDIBLE_TEST:
            _take(turn, payload, alert)
        case Purpose.CANCEL:
            _drop(turn, alert.alert_id)
            _tell(turn, alert, AlertResult.CANCELLED)
        case Purpose.SILENT_TEST:
            _test(turn, alert)
        case Purpose.SILENCE:
            _drop(turn, alert.alert_id)
            _stand(turn, payload, alert)
            _tell(turn, alert, AlertResult.SILENCED)
        case Purpose.RELEASE:
            _drop(turn, alert.alert_id)
            _tell(turn, alert, AlertResult.RELEASED)


def _take(turn: Turn, payload: bytes, alert: Alert) -> None:
    """Let it sound and show from now on, in place of any earlier version."""
    _drop(turn, alert.alert_id)
    playable = _playable(turn.state.profile.kind, alert)
    if not playable:
        _tell(turn, alert, AlertResult.UNSUPPORTED)
        return
    _stand(turn, payload, alert, next_uptime_ms=turn.now.uptime_ms)
    missing = [each.media for each in playable.values() if not _is_at_hand(turn.state, each)]
    if turn.state.is_quiet:
        _tell(turn, alert, AlertResult.KILLED)
    elif missing:
        _tell(turn, alert, AlertResult.MEDIA_MISSING, f"{len(missing)} of {len(playable)} contents")
    else:
        _tell(turn, alert, AlertResult.TAKEN)


def _stand(turn: Turn, payload: bytes, alert: Alert, *, next_uptime_ms: int | None = None) -> None:
    remaining_ms = alert.valid_until_ms - trust.believed_ms(turn.now, turn.state.trust.floor_ms)
    standing = Standing(
        raw=payload,
        alert=alert,
        until_uptime_ms=turn.now.uptime_ms + remaining_ms,
        next_uptime_ms=next_uptime_ms,
    )
    _put(turn, standing)


def _test(turn: Turn, alert: Alert) -> None:
    """Confirm without a sound that an alert would be heard and seen, or say what stands in its way."""
    state = turn.state
    troubles = []
    if state.is_quiet:
        _tell(turn, alert, AlertResult.KILLED)
        return
    if not trust.is_trusted(turn.now, state.trust.floor_ms):
        troubles.append("clock")
    playable = _playable(state.profile.kind, alert)
    missing = sum(1 for each in playable.values() if not _is_at_hand(state, each))
    kept = () if state.config is None else state.config.order.alert_media
    missing += sum(1 for each in kept if _concerns(state.profile.kind, each) and not _is_stored(state, each.sha256))
    if missing:
        troubles.append(f"media: {missing} missing")
    if state.events_lost:
        troubles.append("storage")
    if state.profile.kind is DeviceKind.CLUSTER and state.volume_percent == 0:
        troubles.append("volume 0")
    if troubles:
        _tell(turn, alert, AlertResult.TEST_FAILED, "; ".join(troubles))
    else:
        _tell(turn, alert, AlertResult.TEST_PASSED)


# --- what changes around standing alerts -----------------------------------------------------------------------------


def reconsider_audience(turn: Turn) -> None:
    """End what a new configuration has put this device outside of."""
    for standing in tuple(turn.state.alerts.standing.values()):
        if not is_addressed(turn.state, standing.alert):
            _end(turn, standing.alert.alert_id)


def reconsider_keys(turn: Turn, *, is_theft: bool) -> None:
    """End what was signed by a key that is no longer announced, and after a theft forget what was dealt with and is over:
    the highest version there is would be the thief's last word about an alert.
    """
    for standing in tuple(turn.state.alerts.standing.values()):
        verdict = trust.verify_alert(standing.raw, turn.state.trust)
        if isinstance(verdict, Refusal):
            turn.refuse(MessageKind.ALERT, replace(verdict, detail="its key is no longer announced"))
            _drop(turn, standing.alert.alert_id)
    if is_theft:
        alerts = turn.state.alerts
        handled = {key: each for key, each in alerts.handled.items() if key in alerts.standing}
        turn.state = replace(turn.state, alerts=replace(alerts, handled=handled))


def recall(turn: Turn, recalled: Recalled) -> None:
    """Take up what the flash holds. What a power cut interrupted begins anew; a pause between rounds goes on."""
    turn.state = replace(turn.state, alerts=Alerts(handled=recalled.handled))
    for kept in recalled.kept:
        verdict = trust.verify_alert(kept.raw, turn.state.trust)
        if isinstance(verdict, Refusal):
            turn.refuse(MessageKind.ALERT, replace(verdict, detail="on flash"))
        elif is_addressed(turn.state, verdict):
            _put(turn, _standing_again(turn, kept, verdict))


def _standing_again(turn: Turn, kept: Kept, alert: Alert) -> Standing:
    is_broken_off = kept.is_under_way or bool(kept.left)
    next_in_ms = 0 if is_broken_off else kept.next_in_ms
    return Standing(
        raw=kept.raw,
        alert=alert,
        until_uptime_ms=turn.now.uptime_ms + kept.remaining_ms,
        round_at_ms=kept.round_at_ms,
        next_uptime_ms=None if next_in_ms is None else turn.now.uptime_ms + next_in_ms,
    )


# --- rounds ----------------------------------------------------------------------------------------------------------


def tend(turn: Turn) -> None:
    """End what is over, and put what is next where it can sound."""
    for standing in tuple(turn.state.alerts.standing.values()):
        if _is_over(turn, standing):
            _expire(turn, standing)
        elif standing.alert.purpose in _SOUNDING:
            _go_on(turn, standing)


def next_ms(state: DeviceState, *, now_uptime_ms: int, at_ms: int, is_trusted: bool) -> int | None:
    """Milliseconds until something about alerts changes by itself; None when nothing does."""
    waits = [each.until_ms - now_uptime_ms for each in state.awaiting_alerts]
    for standing in state.alerts.standing.values():
        waits.append(standing.alert.valid_until_ms - at_ms if is_trusted else standing.until_uptime_ms - now_uptime_ms)
        if standing.next_uptime_ms is not None and standing.next_uptime_ms > now_uptime_ms:
            waits.append(standing.next_uptime_ms - now_uptime_ms)
    return max(0, min(waits)) if waits else None


def missing_media(state: DeviceState) -> Iterable[MediaReference]:
    """The files that alerts in force need and that are not on flash."""
    kind, stored = state.profile.kind, state.shelf.stored
    for standing in state.alerts.standing.values():
        for content in _playable(kind, standing.alert).values():
            if content.media is not None and content.media.sha256 not in stored:
                yield content.media


def missing_reserve(state: DeviceState) -> Iterable[MediaReference]:
    """The files that are to be kept for alerts to come and that are not on flash."""
    kind, stored = state.profile.kind, state.shelf.stored
    for each in () if state.config is None else state.config.order.alert_media:
        if _concerns(kind, each) and each.sha256 not in stored:
            yield each


def used_media(state: DeviceState) -> frozenset[bytes]:
    """The files that must stay on flash for alerts."""
    kept = () if state.config is None else state.config.order.alert_media
    contents = (each for standing in state.alerts.standing.values() for each in standing.alert.contents)
    return frozenset(each.sha256 for each in kept) | {each.media.sha256 for each in contents if each.media is not None}


def _is_over(turn: Turn, standing: Standing) -> bool:
    floor_ms = turn.state.trust.floor_ms
    if trust.is_trusted(turn.now, floor_ms):
        return standing.alert.valid_until_ms <= turn.now.at_ms
    return standing.until_uptime_ms <= turn.now.uptime_ms or standing.alert.valid_until_ms <= floor_ms


def _expire(turn: Turn, standing: Standing) -> None:
    """It is over: nothing of it begins any more, and what sounds goes on to its end."""
    _remove(turn, standing.alert.alert_id)
    turn.conducted(
        playback.retract(turn.state.programme, standing.alert.alert_id, now=turn.now, lets_sounding_end=True)
    )
    if standing.is_silence:
        _tell(turn, standing.alert, AlertResult.RELEASED, "its time is over")


def _go_on(turn: Turn, standing: Standing) -> None:
    if standing.item is not None:
        reference = _reference(standing, standing.item)
        if any(each.reference == reference for each in turn.state.programme.orders):
            return  # it sounds, waits for its turn, or for a silence to end
        standing = replace(standing, item=None)
    playable = _playable(turn.state.profile.kind, standing.alert)
    ready = [each for each in standing.left if _is_at_hand(turn.state, playable[each])]
    repeats = standing.alert.repeat_interval_s
    if standing.left and not ready and (repeats is not None or _none_can_come(turn.state, standing, playable)):
        standing = replace(standing, left=())
    if standing.left:
        if ready:
            _begin(turn, standing, ready[0], playable[ready[0]])
        else:
            _put(turn, standing)
        return
    if standing.next_uptime_ms is None and standing.round_at_ms and repeats is not None:
        standing = replace(standing, next_uptime_ms=turn.now.uptime_ms + 1_000 * repeats)
    if standing.next_uptime_ms is None or turn.now.uptime_ms < standing.next_uptime_ms or turn.state.is_quiet:
        _put(turn, standing)
        return
    ready = [each for each, content in playable.items() if _is_at_hand(turn.state, content)]
    if not ready:
        _put(turn, standing)
        return
    round_at_ms = max(turn.now.at_ms, standing.round_at_ms + 1)
    standing = replace(standing, round_at_ms=round_at_ms, left=tuple(playable), next_uptime_ms=None)
    _begin(turn, standing, ready[0], playable[ready[0]])


def _begin(turn: Turn, standing: Standing, item: int, content: _Content) -> None:
    """Offer one content of a round to the arbitration."""
    alert = standing.alert
    is_emergency = alert.rank.level is Level.EMERGENCY
    remaining_ms = alert.valid_until_ms - trust.believed_ms(turn.now, turn.state.trust.floor_ms)
    ordered = Order(
        reference=_reference(standing, item),
        rank=alert.rank,
        content=content.kind,
        media=None if content.media is None else content.media.sha256,
        text=content.text,
        volume_percent=100 if is_emergency and alert.volume_percent is None else alert.volume_percent,
        duration_ms=content.duration_ms,
        resume=alert.resume,
        begin_by_uptime_ms=turn.now.uptime_ms + max(0, remaining_ms),
        passes_cap=is_emergency,
    )
    left = tuple(each for each in standing.left if each != item)
    alerts = _with(turn.state.alerts, replace(standing, item=item, left=left))
    turn.state = replace(turn.state, alerts=alerts, programme=playback.order(turn.state.programme, ordered))


def _reference(standing: Standing, item: int) -> PlayReference:
    return PlayReference(
        source=PlaySource.ALERT, id=standing.alert.alert_id, occurrence_at_ms=standing.round_at_ms, item=item
    )


def _none_can_come(state: DeviceState, standing: Standing, playable: dict[int, _Content]) -> bool:
    """Whether all that is left of a round came in and cannot be decoded, so that waiting is of no use."""
    media = (playable[each].media for each in standing.left)
    return all(each is not None and each.sha256 in state.shelf.corrupt for each in media)


# --- contents --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Content:
    """What a device of one kind puts out of a content."""

    kind: ContentKind
    media: MediaReference | None = None
    text: str | None = None
    duration_ms: int | None = None


def _playable(kind: DeviceKind, alert: Alert) -> dict[int, _Content]:
    """What a device of this kind puts out, by index of the content. A board shows each as long as its sound lasts."""
    return dict(_each_playable(kind, alert))


def _each_playable(kind: DeviceKind, alert: Alert) -> Iterator[tuple[int, _Content]]:
    for index, content in enumerate(alert.contents):
        playable = _of_board(content) if kind is DeviceKind.BOARD else _of_cluster(kind, content)
        if playable is not None:
            yield index, playable


def _of_cluster(kind: DeviceKind, content: AlertContent) -> _Content | None:
    media = content.media
    if kind is not DeviceKind.CLUSTER or media is None or not _concerns(kind, media):
        return None
    return _Content(kind=ContentKind.AUDIO, media=media)


def _of_board(content: AlertContent) -> _Content:
    media = content.media
    shown_ms = SHOWN_MS if media is None or not media.duration_ms else media.duration_ms
    if media is None or not _concerns(DeviceKind.BOARD, media):
        return _Content(kind=ContentKind.TEXT, text=content.text or content.headline, duration_ms=shown_ms)
    is_video = media.mime.startswith("video/")
    return _Content(
        kind=ContentKind.VIDEO if is_video else ContentKind.IMAGE,
        media=media,
        duration_ms=None if is_video and not media.duration_ms else shown_ms,
    )


def _concerns(kind: DeviceKind, media: MediaReference) -> bool:
    """Whether devices of this kind put out such files."""
    family = media.mime.partition("/")[0]
    return (kind is DeviceKind.CLUSTER and family == "audio") or (
        kind is DeviceKind.BOARD and family in ("image", "video")
    )


def _is_at_hand(state: DeviceState, content: _Content) -> bool:
    return content.media is None or _is_stored(state, content.media.sha256)


def _is_stored(state: DeviceState, sha256: bytes) -> bool:
    return sha256 in state.shelf.stored and sha256 not in state.shelf.corrupt


# --- what is known of alerts -----------------------------------------------------------------------------------------


def _put(turn: Turn, standing: Standing) -> None:
    alerts = turn.state.alerts
    if alerts.standing.get(standing.alert.alert_id) != standing:
        turn.state = replace(turn.state, alerts=_with(alerts, standing))


def _with(alerts: Alerts, standing: Standing) -> Alerts:
    return replace(alerts, standing={**alerts.standing, standing.alert.alert_id: standing})


def _remove(turn: Turn, alert_id: uuid.UUID) -> None:
    alerts = turn.state.alerts
    rest = {key: each for key, each in alerts.standing.items() if key != alert_id}
    turn.state = replace(turn.state, alerts=replace(alerts, standing=rest))


def _drop(turn: Turn, alert_id: uuid.UUID) -> None:
    """Stop whatever stands of an alert, at once."""
    if alert_id in turn.state.alerts.standing:
        _remove(turn, alert_id)
    turn.conducted(playback.retract(turn.state.programme, alert_id, now=turn.now))


def _end(turn: Turn, alert_id: uuid.UUID, *, told_as: Alert | None = None) -> None:
    """Stop what stands of an alert because something else put an end to it, and tell."""
    standing = turn.state.alerts.standing.get(alert_id)
    if standing is None:
        return
    _drop(turn, alert_id)
    result = AlertResult.RELEASED if standing.is_silence else AlertResult.CANCELLED
    _tell(turn, told_as or standing.alert, result)


def _noted(turn: Turn, alert_id: uuid.UUID, version: int, valid_until_ms: int, *, is_meant: bool = True) -> Alerts:
    """The alerts that remember that a version was dealt with, and forget what nobody can replay any more."""
    alerts, floor_ms = turn.state.alerts, turn.state.trust.floor_ms
    believed_ms = trust.believed_ms(turn.now, floor_ms)
    earlier = alerts.handled.get(alert_id)
    until_ms = max(valid_until_ms + REMEMBERED_MS, 0 if earlier is None else earlier.until_ms)
    one = Handled(version=version, until_ms=until_ms, is_meant=is_meant)
    if earlier is not None and earlier.version > version:
        one = replace(earlier, until_ms=until_ms)
    handled = {key: each for key, each in alerts.handled.items() if each.until_ms > believed_ms}
    return replace(alerts, handled={**handled, alert_id: one})


def _tell(turn: Turn, alert: Alert, result: AlertResult, detail: str | None = None) -> None:
    turn.record(
        events.AlertHandled(
            device_at_ms=turn.now.at_ms,
            clock=turn.clock,
            alert_id=alert.alert_id,
            alert_version=alert.alert_version,
            purpose=alert.purpose,
            result=result,
            detail=None if detail is None else detail[:160],
        )
    )


def _name(alert: Alert) -> str:
    return f"alert {alert.alert_id} version {alert.alert_version}"
