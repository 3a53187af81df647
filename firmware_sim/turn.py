"""One turn of a device: the state being changed and the effects gathered so far.

Local to one call of `device.step` or `device.boot`: inside a turn things are assigned, outside everything is frozen.
"""

from __future__ import annotations

from typing import assert_never

from firmware_sim import effects, trust
from firmware_sim.clock import Moment
from firmware_sim.programme import Begun, Directive, Ended, Lapsed, Missed, Programme, Start, Stop
from firmware_sim.state import DeviceState
from firmware_sim.trust import Refusal
from firmware_sim.values import replace
from schemas import events
from schemas.events import CommandResult, Event, MessageKind, MissReason
from schemas.fields import ClockState, PlayReference, PlaySource
from schemas.identifiers import CommandId


class Turn:
    """The state being changed and the effects so far."""

    __slots__ = ("effects", "now", "state")

    def __init__(self, state: DeviceState, now: Moment) -> None:
        self.state = state
        self.now = now
        self.effects: list[effects.Effect] = []

    @property
    def clock(self) -> ClockState:
        """What the device says of its clock: one that contradicts what was signed is not believed by itself."""
        return self.now.clock if trust.is_trusted(self.now, self.state.trust.floor_ms) else ClockState.UNSYNCHRONISED

    def record(self, event: Event) -> None:
        """Tell the platform, through the journal."""
        self.effects.append(effects.Record(event=event))

    def refuse(self, kind: MessageKind, refusal: Refusal) -> None:
        """Tell that a message was not accepted, unless there were too many of late: then count it for the next one."""
        bucket, is_told = self.state.refusals.tell(self.now.uptime_ms)
        error = f"refused {kind.name.lower()}: {refusal.reason.name.lower()}"
        untold = self.state.refusals.untold
        self.state = replace(self.state, refusals=bucket, last_error=error)
        if is_told:
            parts = (refusal.detail, f"{untold} refusals before it were not told" if untold else None)
            detail = "; ".join(part for part in parts if part)[:160] or None
            self.record(
                events.Refused(
                    device_at_ms=self.now.at_ms,
                    clock=self.clock,
                    refused=kind,
                    reason=refusal.reason,
                    serial=refusal.serial,
                    detail=detail,
                )
            )

    def command_done(self, command_id: CommandId, result: CommandResult, detail: str | None = None) -> None:
        """Answer a command."""
        self.state = replace(self.state, unfinished=tuple(each for each in self.state.unfinished if each != command_id))
        self.record(
            events.CommandDone(
                device_at_ms=self.now.at_ms, clock=self.clock, command_id=command_id, result=result, detail=detail
            )
        )

    def direct(self, directive: Directive) -> None:
        """Carry out or tell one directive of the programme."""
        _direct(self, directive)

    def conducted(self, outcome: tuple[Programme, tuple[Directive, ...]]) -> None:
        """Take over a programme and carry out what it asks for."""
        programme, directives = outcome
        if programme is not self.state.programme:
            self.state = replace(self.state, programme=programme)
        for directive in directives:
            self.direct(directive)


# --- what the programme asks for -------------------------------------------------------------------------------------


def _direct(turn: Turn, directive: Directive) -> None:
    """Carry out or tell one directive of the programme."""
    at_ms, clock = turn.now.at_ms, turn.clock
    match directive:
        case Start(play=play, content=content, text=text, position_ms=position_ms, relay=relay):
            assert play.token is not None
            turn.effects.append(
                effects.StartPlayback(
                    token=play.token,
                    content=content,
                    media=play.put_out,
                    text=text,
                    position_ms=position_ms,
                    relay=relay,
                )
            )
        case Stop(token=token):
            turn.effects.append(effects.StopPlayback(token=token))
        case Begun(play=play):
            assert play.started_at_ms is not None
            turn.record(
                events.PlayStarted(
                    device_at_ms=at_ms,
                    clock=clock,
                    reference=play.reference,
                    started_at_ms=play.started_at_ms,
                    media=play.media,
                    volume_percent=play.volume_percent,
                )
            )
            if play.reference.source is PlaySource.COMMAND:
                turn.command_done(CommandId(play.reference.id), CommandResult.DONE)
        case Ended(play=play, outcome=outcome, ended_at_ms=ended_at_ms):
            assert play.started_at_ms is not None
            turn.record(
                events.PlayEnded(
                    device_at_ms=at_ms,
                    clock=clock,
                    reference=play.reference,
                    started_at_ms=play.started_at_ms,
                    media=play.media,
                    volume_percent=play.volume_percent,
                    ended_at_ms=ended_at_ms,
                    outcome=outcome,
                    sounded_ms=play.sounded_ms,
                    samples=play.samples,
                    sample_rate_hz=play.sample_rate_hz,
                    cut_by=play.cut_by,
                    interruptions=play.interruptions or None,
                    fallback_ms=play.fallback_ms or None,
                )
            )
            _release_media(turn, play.reference)
        case Missed(reference=reference, reason=reason, by=by):
            if reference.source is PlaySource.COMMAND:
                turn.command_done(CommandId(reference.id), CommandResult.FAILED, reason.name.lower())
                _release_media(turn, reference)
                return
            turn.record(
                events.PlayMissed(device_at_ms=at_ms, clock=clock, reference=reference, reason=reason, cut_by=by)
            )
        case Lapsed(reference=reference, obstacle=obstacle):
            reason = MissReason.TOO_LATE if obstacle is None else obstacle.reason
            if reference.source is PlaySource.ALERT:
                turn.record(
                    events.PlayMissed(
                        device_at_ms=at_ms,
                        clock=clock,
                        reference=reference,
                        reason=reason,
                        cut_by=None if obstacle is None else obstacle.by,
                    )
                )
                return
            turn.command_done(CommandId(reference.id), CommandResult.EXPIRED, f"could not begin: {reason.name.lower()}")
            _release_media(turn, reference)
        case _:
            assert_never(directive)


def _release_media(turn: Turn, reference: PlayReference) -> None:
    """Forget the media of commands that are through; files stay until the shelf is tidied."""
    if reference.source is not PlaySource.COMMAND:
        return
    still = {order.media for order in turn.state.programme.orders}
    turn.state = replace(
        turn.state, ordered_media=tuple(each for each in turn.state.ordered_media if each.sha256 in still)
    )
