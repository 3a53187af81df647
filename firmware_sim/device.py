"""A device, whole: what it is, what it knows, and what it does about anything that happens to it.

`step(state, input, *, now)` returns the next state and the effects to carry out; `boot` makes the first state from what
the flash remembers; `next_wake_ms` says when to look again. No clock, no randomness, no I/O: two runs over the same
inputs are the same run.

All four kinds are one machine. A cluster sounds, a board shows, a sensor measures, a gateway counts the devices behind
it (each of which is a machine of its own, driven by the gateway's shell: that is the bridge of R-28).
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import assert_never

from firmware_sim import (
    agenda,
    alerts,
    contenders,
    downlinks,
    effects,
    inputs,
    media,
    memory,
    playback,
    standing,
    trust,
    vitals,
)
from firmware_sim.clock import Moment
from firmware_sim.profile import Profile
from firmware_sim.programme import Ended, Programme
from firmware_sim.state import NOTED_ALIVE_EVERY_MS, DeviceState, Rhythm, notes_of, orders_of
from firmware_sim.trust import Held, Refusal, Trust
from firmware_sim.turn import Turn
from firmware_sim.values import replace
from schemas import events
from schemas.configuration import Configuration
from schemas.events import BootReason, CommandResult, Fault, MessageKind, RefusalReason
from schemas.fields import DeviceKind, PlaySource
from schemas.orders import MediaReference
from schemas.plans import Plan, RelayReference

SOON_MS = 3_600_000  # what begins within an hour is fetched before what is kept for alerts to come
STEP_WORTH_TELLING_MS = 1_000  # smaller corrections of the clock are everyday synchronisation


def step(state: DeviceState, happened: inputs.Input, *, now: Moment) -> tuple[DeviceState, tuple[effects.Effect, ...]]:
    """The device after `happened`, and what it wants done, in order."""
    turn = Turn(state, now)
    _note_trust(turn)
    _react(turn, happened)
    downlinks.refuse_unawaited(turn)
    alerts.refuse_unawaited(turn)
    _note_trust(turn)
    if not turn.state.is_going_down:
        _tell_expiry(turn)
        _conduct(turn)
        _tune(turn)
        _fetch(turn)
        _speak(turn, happened)
    if _has_news(state, turn.state):
        _persist(turn, orders_of(state), notes_of(state), state.alerts)
    if isinstance(happened, inputs.AlertReceived):
        _sound_first(turn)
    return turn.state, tuple(turn.effects)


def _conduct(turn: Turn) -> None:
    """Let sound what is to sound now, alerts first of all: a content of an alert that ends makes room for its next."""
    while True:
        alerts.tend(turn)
        known = turn.state.alerts
        turn.conducted(playback.conduct(turn.state.programme, turn.state.scene(turn.now), now=turn.now))
        if not known.standing:
            return
        alerts.tend(turn)
        if turn.state.alerts is known:
            return


def _sound_first(turn: Turn) -> None:
    """An alert sounds before anything is written down: a power cut in between makes it sound again, which does no harm."""
    at_once = (effects.StopPlayback, effects.StartPlayback)
    sound = [effect for effect in turn.effects if isinstance(effect, at_once)]
    rest = [effect for effect in turn.effects if not isinstance(effect, at_once)]
    turn.effects = [*sound, *rest]


def next_wake_ms(state: DeviceState, *, now: Moment) -> int:
    """Milliseconds until the device wants a `Tick`, at least 1: its next duty, or another note that it is alive."""
    duty_ms = next_duty_ms(state, now=now)
    return NOTED_ALIVE_EVERY_MS if duty_ms is None else min(NOTED_ALIVE_EVERY_MS, duty_ms)


def next_duty_ms(state: DeviceState, *, now: Moment) -> int | None:
    """Milliseconds until something is due, at least 1; None when nothing is. A `Tick` before that changes nothing.

    But for one thing: a clock that lies below the floor (`Trust.floor_ms`) comes to be trusted by time passing.
    """
    waits: list[int] = []
    look_ms = agenda.next_look_ms(state.programme, state.scene(now), now=now)
    if look_ms is not None:
        waits.append(look_ms)
    if state.is_connected:
        waits.append(state.heartbeat_due_ms - now.uptime_ms)
        if state.profile.kind is DeviceKind.SENSOR:
            waits.append(state.reading_due_ms - now.uptime_ms)
        if state.shelf.failures and _media_base(state) is not None:
            needed, reserve = _wanted(state, now=now)
            # The reserve waits for what is on its way, whose end is a turn of its own.
            due = needed if state.shelf.fetching else needed + reserve
            retry_ms = media.next_retry_ms(state.shelf, due, uptime_ms=now.uptime_ms)
            if retry_ms is not None:
                waits.append(retry_ms)
    waits.extend(each.until_ms - now.uptime_ms for each in state.awaiting.values())
    if state.alerts.standing or state.awaiting_alerts:
        is_trusted = trust.is_trusted(now, state.trust.floor_ms)
        alert_ms = alerts.next_ms(state, now_uptime_ms=now.uptime_ms, at_ms=now.at_ms, is_trusted=is_trusted)
        if alert_ms is not None:
            waits.append(alert_ms)
    return max(1, min(waits)) if waits else None


# --- start -----------------------------------------------------------------------------------------------------------


def boot(
    profile: Profile, rhythm: Rhythm, recollection: memory.Recollection, *, reason: BootReason, now: Moment
) -> tuple[DeviceState, tuple[effects.Effect, ...]]:
    """The device as it comes up from its flash. Every order is verified again; what fails is refused and dropped."""
    notes = memory.load(recollection.files.get(memory.NOTES))
    state = DeviceState(
        profile=profile,
        rhythm=rhythm,
        trust=Trust(root=profile.root_public_key, serials=notes.serials, floor_ms=notes.floor_ms),
        shelf=media.Shelf(stored=recollection.media),
        executed=notes.executed,
        unfinished=notes.unfinished,
        is_silenced=notes.is_silenced,
        volume_override=notes.volume_override,
        connection_number=notes.connection_number,
        expired_serial=notes.expired_serial,
        programme=Programme(settled=notes.settled, fallback_at_ms=notes.fallback_at_ms),
        heartbeat_due_ms=now.uptime_ms,
        reading_due_ms=now.uptime_ms,
    )
    turn = Turn(state, now)
    _recall(turn, recollection.files)
    turn.record(
        events.Booted(
            device_at_ms=now.at_ms,
            clock=turn.clock,
            reason=reason,
            firmware=profile.firmware,
            last_up_at_ms=recollection.last_up_at_ms,
        )
    )
    _note_trust(turn)
    _resurrect(turn, notes, recollection.last_up_at_ms)
    alerts.recall(turn, standing.load(recollection.files.get(memory.ALERTS)))
    for command_id in turn.state.unfinished:
        turn.command_done(command_id, CommandResult.FAILED, "restarted before it was carried out")
    known = turn.state.alerts
    _tell_expiry(turn)
    _conduct(turn)
    _tune(turn)
    _persist(turn, {name: recollection.files.get(name) for name in orders_of(state)}, notes, known)
    return turn.state, tuple(turn.effects)


def _recall(turn: Turn, files: Mapping[str, bytes]) -> None:
    """Take up the orders on flash. Their windows and serials were judged when they came; signatures are judged again."""
    profile = turn.state.profile
    if (raw := files.get(memory.KEYS)) is not None:
        keys = trust.verify_keys(raw, profile.root_public_key)
        if isinstance(keys, Refusal):
            turn.refuse(MessageKind.KEYS, _from_flash(keys))
        else:
            turn.state = replace(turn.state, trust=replace(turn.state.trust, keys=Held(raw=raw, order=keys)))
            _raise(turn, MessageKind.KEYS, keys.issued_at_ms, keys.serial)
    if (raw := files.get(memory.CONFIG)) is not None:
        config = trust.verify(Configuration, raw, turn.state.trust, device=profile.id)
        if isinstance(config, Refusal):
            turn.refuse(MessageKind.CONFIG, _from_flash(config))
        else:
            turn.state = replace(turn.state, config=Held(raw=raw, order=config))
            _raise(turn, MessageKind.CONFIG, config.issued_at_ms, config.serial)
    if (raw := files.get(memory.PLAN)) is not None:
        plan = trust.verify(Plan, raw, turn.state.trust, device=profile.id)
        if isinstance(plan, Refusal):
            turn.refuse(MessageKind.PLAN, _from_flash(plan))
        else:
            turn.state = replace(turn.state, plan=Held(raw=raw, order=plan))
            _raise(turn, MessageKind.PLAN, plan.issued_at_ms, plan.serial)


def _raise(turn: Turn, kind: MessageKind, issued_at_ms: int, serial: int) -> None:
    known = turn.state.trust
    turn.state = replace(
        turn.state,
        trust=replace(
            known,
            serials={**known.serials, kind: max(serial, known.serials.get(kind, 0))},
            floor_ms=max(known.floor_ms, issued_at_ms),
        ),
    )


def _resurrect(turn: Turn, notes: memory.Notes, last_up_at_ms: int | None) -> None:
    """Put back the plan, and what the power cut interrupted: in its slot it joins in progress, after it it failed.

    What a cut-off part had put out is not known (nothing was written down while it sounded), so it counts as nothing.
    """
    paused_ms = turn.now.at_ms if last_up_at_ms is None else last_up_at_ms
    interrupted = tuple(
        play
        if play.paused_at_ms is not None
        else replace(play, paused_at_ms=max(paused_ms, play.started_at_ms or 0), interruptions=play.interruptions + 1)
        for play in notes.plays
    )
    emitted = tuple(play for play in interrupted if play.reference.source is PlaySource.EMISSION)
    programme = replace(turn.state.programme, suspended=emitted)
    if turn.state.plan is None:
        turn.conducted(playback.abandon(programme, now=turn.now))
    else:
        turn.conducted(
            playback.adopt(programme, turn.state.plan.order, accepted_at_ms=notes.plan_accepted_at_ms, now=turn.now)
        )
    for play in interrupted:
        if play.reference.source is not PlaySource.EMISSION:
            ended_at_ms = play.paused_at_ms or paused_ms
            turn.direct(Ended(play=play, outcome=events.PlayOutcome.FAILED, ended_at_ms=ended_at_ms))


def _from_flash(refusal: Refusal) -> Refusal:
    return replace(refusal, detail=f"on flash; {refusal.detail}" if refusal.detail else "on flash")


# --- inputs ----------------------------------------------------------------------------------------------------------


def _react(turn: Turn, happened: inputs.Input) -> None:
    programme, now = turn.state.programme, turn.now
    match happened:
        case inputs.Tick():
            pass
        case inputs.Received(kind=kind, payload=payload):
            downlinks.receive(turn, kind, payload)
        case inputs.AlertReceived(payload=payload):
            alerts.receive(turn, payload)
        case inputs.PlaybackStarted(token=token, at_ms=at_ms):
            turn.conducted(playback.begun(programme, token, at_ms=at_ms))
        case inputs.PlaybackFinished():
            _finished(turn, happened)
        case inputs.PlaybackStopped(token=token, figures=figures):
            turn.conducted(playback.stopped(programme, token, figures, now=now))
        case inputs.PlaybackBroke():
            _broke(turn, happened)
        case inputs.MediaFetched(sha256=sha256, size=size):
            turn.state = replace(turn.state, shelf=media.fetched(turn.state.shelf, sha256, size))
            turn.record(events.MediaStored(device_at_ms=now.at_ms, clock=turn.clock, media=sha256, size=size))
        case inputs.MediaFailed(sha256=sha256, detail=detail):
            failure = _failed(turn, sha256, f"media: {detail}")
            if failure.is_told:
                turn.record(
                    events.MediaFailed(device_at_ms=now.at_ms, clock=turn.clock, media=sha256, detail=detail[:160])
                )
        case inputs.MediaRejected(sha256=sha256, detail=detail):
            _failed(turn, sha256, f"media: {detail}")
            turn.refuse(MessageKind.MEDIA, Refusal(reason=RefusalReason.WRONG_HASH, detail=detail))
        case inputs.MediaUnreadable(sha256=sha256, detail=detail):
            shelf = media.unreadable(turn.state.shelf, sha256)
            turn.state = replace(turn.state, shelf=shelf, last_error=f"media: {detail}"[:160])
        case inputs.SourceSounds(source_id=source_id):
            if source_id in turn.state.tuned:
                turn.state = replace(turn.state, heard=turn.state.heard | {source_id})
        case inputs.SourceSilent(source_id=source_id, detail=detail):
            _fell_silent(turn, source_id, detail)
        case inputs.SourceRefused(source_id=source_id, kind=kind, refusal=refusal):
            turn.refuse(kind, replace(refusal, detail=_about(source_id, refusal.detail)))
        case inputs.Connecting():
            # Grows over everything this device ever used, even when flash or clock were lost (schemas.presence).
            number = max(turn.state.connection_number + 1, now.at_ms)
            turn.state = replace(turn.state, connection_number=number)
        case inputs.Connected():
            turn.state = replace(
                turn.state,
                is_connected=True,
                heartbeat_due_ms=now.uptime_ms,
                shelf=media.retry_at_once(turn.state.shelf),
            )
        case inputs.Disconnected():
            turn.state = replace(turn.state, is_connected=False)
        case inputs.PowerSwitched(source=source, battery_percent=battery):
            turn.state = replace(turn.state, power=source, battery_percent=battery)
            turn.record(
                events.PowerChanged(device_at_ms=now.at_ms, clock=turn.clock, source=source, battery_percent=battery)
            )
        case inputs.ClockSet(previous=previous, step_ms=step_ms):
            if previous is not now.clock or abs(step_ms) >= STEP_WORTH_TELLING_MS:
                turn.record(
                    events.ClockChanged(device_at_ms=now.at_ms, clock=turn.clock, previous=previous, step_ms=step_ms)
                )
        case inputs.EventsLost(count=count):
            _events_lost(turn, count)
        case inputs.PoweringOff():
            turn.state = replace(turn.state, is_going_down=True)
            turn.conducted(playback.interrupt(programme, now=now))
            turn.effects.extend(effects.Untune(source_id=source_id) for source_id in turn.state.tuned)
        case _:
            assert_never(happened)


def _note_trust(turn: Turn) -> None:
    """Remember since when the clock can be trusted."""
    is_trusted = trust.is_trusted(turn.now, turn.state.trust.floor_ms)
    if is_trusted != (turn.state.trusted_since_ms is not None):
        turn.state = replace(turn.state, trusted_since_ms=turn.now.at_ms if is_trusted else None)


def _finished(turn: Turn, over: inputs.PlaybackFinished) -> None:
    """Content came to its end; a source that did has gone silent, and a fallback without any sound fills nothing."""
    sounding = turn.state.programme.sounding
    if sounding is not None and sounding.token == over.token and sounding.source_id is not None:
        if sounding.filled_by is None:
            _fell_silent(turn, sounding.source_id, "it ended")
        elif over.figures.sounded_ms == 0:
            turn.state = replace(turn.state, shelf=media.unreadable(turn.state.shelf, sounding.filled_by))
    turn.conducted(playback.finished(turn.state.programme, over.token, over.figures, now=turn.now))


def _broke(turn: Turn, broken: inputs.PlaybackBroke) -> None:
    """The decoder gave up: nobody should be cut again for this file, nor for this source before it has sound again."""
    sounding = turn.state.programme.sounding
    if sounding is not None and sounding.token == broken.token:
        if sounding.put_out is not None:
            turn.state = replace(turn.state, shelf=media.unreadable(turn.state.shelf, sounding.put_out))
        elif sounding.source_id is not None:
            turn.state = replace(turn.state, heard=turn.state.heard - {sounding.source_id})
    turn.state = replace(turn.state, last_error=f"playback: {broken.detail}"[:160])
    turn.conducted(playback.broke(turn.state.programme, broken.token, broken.figures, now=turn.now))


def _failed(turn: Turn, sha256: bytes, error: str) -> media.Failure:
    shelf, failure = media.failed(turn.state.shelf, sha256, uptime_ms=turn.now.uptime_ms, draw=turn.state.profile.phase)
    turn.state = replace(turn.state, shelf=shelf, last_error=error[:160])
    return failure


def _events_lost(turn: Turn, count: int) -> None:
    """Say once that the journal cannot take events, and keep the number in the heartbeat's last error."""
    total = turn.state.events_lost + count
    if turn.state.events_lost == 0:
        turn.record(
            events.FaultChanged(
                device_at_ms=turn.now.at_ms, clock=turn.clock, fault=Fault.STORAGE, present=True, detail="events lost"
            )
        )
    turn.state = replace(turn.state, events_lost=total, last_error=f"{total} events lost")


# --- relays and what stands in for a plan ----------------------------------------------------------------------------


def _tune(turn: Turn) -> None:
    """Listen to the sources that are needed now or soon, and to no others."""
    state = turn.state
    if not state.programme.relays_at_ms and not state.tuned:
        return
    is_trusted = trust.is_trusted(turn.now, state.trust.floor_ms)
    relays = agenda.wanted_sources(state.programme, now=turn.now) if is_trusted else {}
    base = _media_base(state)
    wanted = {
        source_id: effects.Tune(source=source, url=url)
        for source_id, source in relays.items()
        if (url := _source_url(source, base)) is not None
    }
    if wanted == state.tuned:
        return
    kept = {source_id for source_id, tune in wanted.items() if state.tuned.get(source_id) == tune}
    turn.effects.extend(effects.Untune(source_id=source_id) for source_id in state.tuned if source_id not in kept)
    turn.effects.extend(tune for source_id, tune in wanted.items() if source_id not in kept)
    turn.state = replace(state, tuned=wanted, heard=state.heard & kept)
    if turn.state.heard != state.heard:
        # It is taken from another address now, and sounds no longer before it has sound from there.
        turn.conducted(playback.conduct(turn.state.programme, turn.state.scene(turn.now), now=turn.now))


def _source_url(source: RelayReference, base: str | None) -> str | None:
    if source.path is None:
        return source.url
    return None if base is None else f"{base.rstrip('/')}/{source.path}"


def _fell_silent(turn: Turn, source_id: uuid.UUID, detail: str) -> None:
    state = turn.state
    if source_id in state.tuned:
        error = _about(source_id, f"silent: {detail}")
        turn.state = replace(state, heard=state.heard - {source_id}, last_error=error)


def _about(source_id: uuid.UUID, detail: str | None) -> str:
    return f"relay {source_id}: {detail or 'refused'}"[:160]


def _tell_expiry(turn: Turn) -> None:
    """Tell once that the plan has run out and no newer one came."""
    plan = turn.state.plan
    if plan is None or plan.order.serial == turn.state.expired_serial:
        return
    is_trusted = trust.is_trusted(turn.now, turn.state.trust.floor_ms)
    if is_trusted and contenders.has_expired(turn.state.programme, now=turn.now):
        serial, valid_until_ms = plan.order.serial, plan.order.valid_until_ms
        turn.state = replace(turn.state, expired_serial=serial)
        turn.record(
            events.PlanExpired(
                device_at_ms=turn.now.at_ms, clock=turn.clock, serial=serial, valid_until_ms=valid_until_ms
            )
        )


# --- media -----------------------------------------------------------------------------------------------------------


def _media_base(state: DeviceState) -> str | None:
    return None if state.config is None else state.config.order.media_base_url


def _fetch(turn: Turn) -> None:
    """Begin the downloads that are due. What is kept for alerts to come is many files: they come one at a time, so that
    the next broadcast, or an alert, finds a way free.
    """
    state = turn.state
    base = _media_base(state)
    if not state.is_connected or base is None:
        return
    needed, reserve = _wanted(state, now=turn.now)
    if not needed and not reserve:
        return
    uptime_ms = turn.now.uptime_ms
    shelf, begun = media.to_fetch(state.shelf, needed, uptime_ms=uptime_ms)
    if reserve:
        shelf, more = media.to_fetch(shelf, reserve, uptime_ms=uptime_ms, at_once=1)
        begun += more
    if begun:
        turn.state = replace(state, shelf=shelf)
    turn.effects.extend(effects.Fetch(media=each, url=f"{base.rstrip('/')}/{each.path.lstrip('/')}") for each in begun)


def _wanted(state: DeviceState, *, now: Moment) -> tuple[list[MediaReference], list[MediaReference]]:
    """What is not on flash, by need: alerts in force, commands, the plan and the fallback; and what is kept for alerts to
    come, which goes before whatever begins later than `SOON_MS` from now.
    """
    needed = [*alerts.missing_media(state), *state.ordered_media]
    reserve = list(alerts.missing_reserve(state))
    stored = state.shelf.stored
    later: list[MediaReference] = []
    if state.plan is not None:
        missing = {each.sha256: each for each in state.plan.order.media if each.sha256 not in stored}
        if missing:
            # Emissions are sorted by start, so the first mention is the first need.
            for emission in state.programme.pending:
                needs = needed if emission.starts_at_ms < now.at_ms + SOON_MS else later
                named = (missing.pop(each, None) for each in (emission.media, emission.fallback) if each is not None)
                needs.extend(each for each in named if each is not None)
            later.extend(missing.values())
    fallback = None if state.config is None else state.config.order.fallback
    if fallback is not None and fallback.media.sha256 not in stored:
        later.append(fallback.media)
    return (needed, reserve + later) if reserve else (needed + later, [])


# --- heartbeats and readings -----------------------------------------------------------------------------------------


def _speak(turn: Turn, happened: inputs.Input) -> None:
    uptime_ms = turn.now.uptime_ms
    if uptime_ms - turn.state.alive_noted_ms >= NOTED_ALIVE_EVERY_MS:
        turn.state = replace(turn.state, alive_noted_ms=uptime_ms)
        turn.effects.append(effects.NoteAlive(at_ms=turn.now.at_ms))
    if not turn.state.is_connected or not isinstance(happened, inputs.Tick):
        return
    if uptime_ms >= turn.state.heartbeat_due_ms:
        turn.effects.append(effects.Send(message=vitals.heartbeat(turn.state, happened, now=turn.now)))
        due_ms = _next_due(turn.state.profile, uptime_ms, turn.state.heartbeat_interval_ms)
        turn.state = replace(turn.state, heartbeat_due_ms=due_ms)
    if turn.state.profile.kind is DeviceKind.SENSOR and uptime_ms >= turn.state.reading_due_ms:
        turn.effects.append(effects.Send(message=vitals.reading(turn.state, now=turn.now)))
        due_ms = _next_due(turn.state.profile, uptime_ms, 1_000 * turn.state.rhythm.reading_s)
        turn.state = replace(turn.state, reading_due_ms=due_ms)


def _next_due(profile: Profile, uptime_ms: int, interval_ms: int) -> int:
    """The next instant of a device's own grid, so that a fleet that connects at once does not speak at once."""
    phase_ms = round(profile.phase * interval_ms)
    return (uptime_ms - phase_ms) // interval_ms * interval_ms + interval_ms + phase_ms


# --- memory -----------------------------------------------------------------------------------------------------------


def _has_news(before: DeviceState, after: DeviceState) -> bool:
    """Whether anything may have changed that goes to flash: most steps change nothing of it, and finding out is dear."""
    return not (
        before.programme is after.programme
        and before.alerts is after.alerts
        and before.trust is after.trust
        and before.plan is after.plan
        and before.config is after.config
        and before.executed is after.executed
        and before.unfinished is after.unfinished
        and before.is_silenced is after.is_silenced
        and before.volume_override == after.volume_override
        and before.connection_number == after.connection_number
        and before.expired_serial == after.expired_serial
    )


def _persist(turn: Turn, before: Mapping[str, bytes | None], noted: memory.Notes, known: standing.Alerts) -> None:
    """Write down what changed.

    Events come first and everything the outside can see comes last: a power cut in between repeats an event at worst,
    and never loses one or carries out a command twice. Orders come before the notes (see `memory`).
    """
    written: list[effects.Effect] = [
        effects.Persist(name=name, content=content)
        for name, content in orders_of(turn.state).items()
        if content is not before[name]
    ]
    if turn.state.alerts != known:
        written.append(effects.RememberAlerts(alerts=turn.state.alerts, uptime_ms=turn.now.uptime_ms))
    notes = notes_of(turn.state)
    if notes != noted:
        written.append(effects.Remember(notes=notes))
    recorded = [effect for effect in turn.effects if isinstance(effect, effects.Record)]
    rest = [effect for effect in turn.effects if not isinstance(effect, effects.Record)]
    turn.effects = [*recorded, *written, *rest]
