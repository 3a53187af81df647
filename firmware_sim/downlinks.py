"""What a device does about orders: keys, configuration, plan and commands.

Whether an order is believed is `trust`; here is what follows from it, and what is refused is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar, assert_never

from firmware_sim import alerts, effects, media, playback, trust
from firmware_sim.programme import Order
from firmware_sim.state import Awaiting
from firmware_sim.trust import Held, Refusal, Unchanged
from firmware_sim.turn import Turn
from schemas import events
from schemas.commands import Action, Command
from schemas.configuration import Configuration
from schemas.events import CommandResult, MessageKind, RefusalReason
from schemas.fields import DeviceKind, PlayReference, PlaySource
from schemas.identifiers import CommandId
from schemas.orders import DeviceOrder
from schemas.plans import ContentKind, Plan
from schemas.topics import DownlinkKind

DeviceOrderT = TypeVar("DeviceOrderT", bound=DeviceOrder)

COMMANDS_REMEMBERED = 64  # ids; older commands are refused by their serial
SHOWN_BY_COMMAND_MS = 60_000  # text without a duration stays this long on a board
UNTIMED_COMMAND_MS = 60_000  # how long a command may wait for its media on a device that does not know the time
KEYS_AWAITED_MS = 3_000  # how long an order with an unknown key waits for keys before it is refused


def receive(turn: Turn, kind: DownlinkKind, payload: bytes) -> None:
    """Judge one downlink and do what it says."""
    match kind:
        case DownlinkKind.KEYS:
            _receive_keys(turn, payload)
        case DownlinkKind.CONFIG:
            _receive_config(turn, payload)
        case DownlinkKind.PLAN:
            _receive_plan(turn, payload)
        case DownlinkKind.COMMAND:
            _receive_command(turn, payload)
        case DownlinkKind.RECEIPT:
            # The journal takes the readable ones before they come here.
            turn.refuse(MessageKind.RECEIPT, Refusal(reason=RefusalReason.MALFORMED))
        case _:
            assert_never(kind)


def _judged(
    turn: Turn, cls: type[DeviceOrderT], payload: bytes, kind: MessageKind, held: Held[DeviceOrderT] | None
) -> Held[DeviceOrderT] | None:
    """The order if it is to be obeyed; a refusal is told here, and what is held already is nothing new."""
    verdict = trust.judge(
        cls, payload, turn.state.trust, kind=kind, device=turn.state.profile.id, held=held, now=turn.now
    )
    if isinstance(verdict, Unchanged):
        return None
    if isinstance(verdict, Refusal):
        _refuse_or_wait(turn, kind, payload, verdict)
        return None
    turn.state = replace(turn.state, trust=turn.state.trust.raised(kind, verdict.order, verdict.order.serial))
    return verdict


_DOWNLINKS = {
    MessageKind.PLAN: DownlinkKind.PLAN,
    MessageKind.CONFIG: DownlinkKind.CONFIG,
    MessageKind.COMMAND: DownlinkKind.COMMAND,
}


def _refuse_or_wait(turn: Turn, kind: MessageKind, payload: bytes, refusal: Refusal) -> None:
    """Refuse, unless all that is missing is a key: then the newest message of each kind waits for one."""
    downlink = _DOWNLINKS[kind]
    earlier = turn.state.awaiting.get(downlink)
    if refusal.reason is not RefusalReason.UNKNOWN_KEY:
        turn.refuse(kind, refusal)
    elif earlier is None or earlier.payload != payload:
        if earlier is not None:
            turn.refuse(kind, refusal)
        waiting = Awaiting(payload=payload, until_ms=turn.now.uptime_ms + KEYS_AWAITED_MS)
        turn.state = replace(turn.state, awaiting={**turn.state.awaiting, downlink: waiting})


def refuse_unawaited(turn: Turn) -> None:
    """Refuse what waited for a key in vain."""
    for kind, downlink in _DOWNLINKS.items():
        waiting = turn.state.awaiting.get(downlink)
        if waiting is not None and waiting.until_ms <= turn.now.uptime_ms:
            turn.state = replace(turn.state, awaiting=_without(turn.state.awaiting, downlink))
            turn.refuse(kind, Refusal(reason=RefusalReason.UNKNOWN_KEY))


def _without(awaiting: Mapping[DownlinkKind, Awaiting], downlink: DownlinkKind) -> Mapping[DownlinkKind, Awaiting]:
    return {kind: waiting for kind, waiting in awaiting.items() if kind is not downlink}


def _receive_keys(turn: Turn, payload: bytes) -> None:
    verdict = trust.judge_keys(payload, turn.state.trust, now=turn.now)
    if isinstance(verdict, Unchanged):
        return
    if isinstance(verdict, Refusal):
        turn.refuse(MessageKind.KEYS, verdict)
        return
    is_theft = trust.withdraws(turn.state.trust.keys, verdict.order)
    known = replace(turn.state.trust.raised(MessageKind.KEYS, verdict.order, verdict.order.serial), keys=verdict)
    if is_theft:
        # The highest serial and the latest time there are would be a thief's last word: both begin anew with root's.
        known = replace(known, serials={MessageKind.KEYS: verdict.order.serial}, floor_ms=verdict.order.issued_at_ms)
    turn.state = replace(turn.state, trust=known)
    # What a stolen key signed must not go on speaking.
    if turn.state.config is not None:
        config = trust.verify(Configuration, turn.state.config.raw, known, device=turn.state.profile.id)
        if isinstance(config, Refusal):
            turn.refuse(MessageKind.CONFIG, replace(config, detail="its key is no longer announced"))
            turn.state = replace(turn.state, config=None)
        else:
            _hold_on(turn, MessageKind.CONFIG, config)
    if turn.state.plan is not None:
        plan = trust.verify(Plan, turn.state.plan.raw, known, device=turn.state.profile.id)
        if isinstance(plan, Refusal):
            turn.refuse(MessageKind.PLAN, replace(plan, detail="its key is no longer announced"))
            turn.state = replace(turn.state, plan=None)
            turn.conducted(playback.abandon(turn.state.programme, now=turn.now))
        else:
            _hold_on(turn, MessageKind.PLAN, plan)
    alerts.reconsider_keys(turn, is_theft=is_theft)
    for downlink in tuple(turn.state.awaiting):
        waiting = turn.state.awaiting[downlink]
        turn.state = replace(turn.state, awaiting=_without(turn.state.awaiting, downlink))
        receive(turn, downlink, waiting.payload)
    alerts.receive_awaiting(turn)


def _hold_on(turn: Turn, kind: MessageKind, order: Configuration | Plan) -> None:
    """What is still believed says what comes after it."""
    turn.state = replace(turn.state, trust=turn.state.trust.raised(kind, order, order.serial))


def _receive_config(turn: Turn, payload: bytes) -> None:
    config = _judged(turn, Configuration, payload, MessageKind.CONFIG, turn.state.config)
    if config is None:
        return
    turn.state = replace(
        turn.state,
        config=config,
        volume_override=None,
        heartbeat_due_ms=turn.now.uptime_ms,  # says at once which configuration is in force
        shelf=media.retry_at_once(turn.state.shelf),
    )
    alerts.reconsider_audience(turn)


def _receive_plan(turn: Turn, payload: bytes) -> None:
    plan = _judged(turn, Plan, payload, MessageKind.PLAN, turn.state.plan)
    if plan is None:
        return
    now = turn.now
    # The old plan has its last word first, so that nothing of it goes unsettled.
    turn.conducted(playback.conduct(turn.state.programme, turn.state.scene(now), now=now))
    turn.state = replace(turn.state, plan=plan)
    turn.conducted(playback.adopt(turn.state.programme, plan.order, accepted_at_ms=now.at_ms, now=now))
    _tidy_shelf(turn)
    missing = sum(1 for each in plan.order.media if each.sha256 not in turn.state.shelf.stored)
    turn.record(
        events.PlanAccepted(
            device_at_ms=now.at_ms,
            clock=turn.clock,
            serial=plan.order.serial,
            emissions=len(plan.order.emissions),
            media_missing=missing,
        )
    )


def _tidy_shelf(turn: Turn) -> None:
    plan = turn.state.plan
    used = {each.sha256 for each in (() if plan is None else plan.order.media)}
    used |= {each.sha256 for each in turn.state.ordered_media}
    used |= alerts.used_media(turn.state)
    if turn.state.config is not None and turn.state.config.order.fallback is not None:
        used.add(turn.state.config.order.fallback.media.sha256)
    programme = turn.state.programme
    if programme.sounding is not None and programme.sounding.put_out is not None:
        used.add(programme.sounding.put_out)
    shelf, dropped = media.keep(turn.state.shelf, frozenset(used))
    turn.state = replace(turn.state, shelf=shelf)
    turn.effects.extend(effects.DeleteMedia(sha256=sha256) for sha256 in dropped)


def _receive_command(turn: Turn, payload: bytes) -> None:
    """Execute a command at most once per id (R-25)."""
    known = turn.state.trust
    command = trust.verify(Command, payload, known, device=turn.state.profile.id)
    if isinstance(command, Refusal):
        _refuse_or_wait(turn, MessageKind.COMMAND, payload, command)
        return
    command_id = CommandId(command.command_id)
    if command_id in turn.state.executed:
        return  # delivered again: at least once is what the platform and the broker promise
    last = known.serials.get(MessageKind.COMMAND)
    if last is not None and command.serial <= last:
        detail = f"last accepted serial {last}"
        turn.refuse(MessageKind.COMMAND, Refusal(reason=RefusalReason.REPLAYED, serial=command.serial, detail=detail))
        return
    believed_ms = trust.believed_ms(turn.now, known.floor_ms)
    is_trusted = trust.is_trusted(turn.now, known.floor_ms)
    if is_trusted and max(command.valid_from_ms, command.issued_at_ms) > turn.now.at_ms + trust.SKEW_MS:
        turn.refuse(MessageKind.COMMAND, Refusal(reason=RefusalReason.NOT_YET_VALID, serial=command.serial))
        return
    turn.state = replace(
        turn.state,
        trust=known.raised(MessageKind.COMMAND, command, command.serial),
        executed=(*turn.state.executed, command_id)[-COMMANDS_REMEMBERED:],
        unfinished=(*turn.state.unfinished, command_id),
    )
    if command.valid_until_ms <= believed_ms:
        turn.command_done(command_id, CommandResult.EXPIRED)
        return
    wait_ms = command.valid_until_ms - turn.now.at_ms if is_trusted else UNTIMED_COMMAND_MS
    _execute(turn, command, wait_ms=wait_ms)


def _execute(turn: Turn, command: Command, *, wait_ms: int) -> None:
    command_id, now = CommandId(command.command_id), turn.now
    match command.action:
        case Action.PLAY:
            _order_play(turn, command, wait_ms=wait_ms)
        case Action.STOP:
            turn.conducted(playback.halt(turn.state.programme, now=now))
            turn.command_done(command_id, CommandResult.DONE)
        case Action.SET_VOLUME:
            if turn.state.profile.kind is not DeviceKind.CLUSTER:
                turn.command_done(command_id, CommandResult.UNSUPPORTED, "no loudspeaker")
                return
            turn.state = replace(turn.state, volume_override=command.volume_percent)
            turn.command_done(command_id, CommandResult.DONE, f"volume {turn.state.volume_percent} %")
        case Action.SILENCE:
            turn.state = replace(turn.state, is_silenced=True)
            turn.command_done(command_id, CommandResult.DONE)
        case Action.RELEASE:
            turn.state = replace(turn.state, is_silenced=False)
            turn.command_done(command_id, CommandResult.DONE)
        case Action.ALERT:
            assert command.alert is not None  # the message's own validator demands it
            refused = alerts.receive(turn, command.alert)
            if refused is None:
                turn.command_done(command_id, CommandResult.DONE)
            else:
                turn.command_done(command_id, CommandResult.FAILED, f"refused: {refused.name.lower()}")
        case Action.REBOOT:
            turn.command_done(command_id, CommandResult.DONE)
            turn.effects.append(effects.Reboot())
        case _:
            assert_never(command.action)


def _order_play(turn: Turn, command: Command, *, wait_ms: int) -> None:
    command_id, kind = CommandId(command.command_id), turn.state.profile.kind
    assert command.rank is not None  # the message's own validator demands it
    content = _content_of(command)
    is_possible = (kind is DeviceKind.CLUSTER and content is ContentKind.AUDIO) or (
        kind is DeviceKind.BOARD and content in (ContentKind.IMAGE, ContentKind.TEXT, ContentKind.VIDEO)
    )
    if not is_possible:
        turn.command_done(command_id, CommandResult.UNSUPPORTED, f"a {kind.name.lower()} cannot put out this content")
        return
    duration_ms = command.duration_ms
    if duration_ms is None and content not in (ContentKind.AUDIO, ContentKind.VIDEO):
        duration_ms = SHOWN_BY_COMMAND_MS
    ordered = Order(
        reference=PlayReference(source=PlaySource.COMMAND, id=command.command_id),
        rank=command.rank,
        content=content,
        media=None if command.media is None else command.media.sha256,
        text=command.text,
        volume_percent=command.volume_percent,
        duration_ms=duration_ms,
        resume=command.resume,
        begin_by_uptime_ms=turn.now.uptime_ms + wait_ms,
    )
    wanted = turn.state.ordered_media if command.media is None else (*turn.state.ordered_media, command.media)
    turn.state = replace(turn.state, programme=playback.order(turn.state.programme, ordered), ordered_media=wanted)


def _content_of(command: Command) -> ContentKind:
    if command.media is None:
        return ContentKind.TEXT
    family = command.media.mime.partition("/")[0]
    return {"image": ContentKind.IMAGE, "video": ContentKind.VIDEO}.get(family, ContentKind.AUDIO)
