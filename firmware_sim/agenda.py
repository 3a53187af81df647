"""What a device has to do before the next thing changes by itself: when to look again, and which sources to listen to."""

from __future__ import annotations

import uuid
from bisect import bisect_right
from collections.abc import Iterable, Mapping

from firmware_sim import standby
from firmware_sim.change import plays, same
from firmware_sim.clock import Moment
from firmware_sim.contenders import START_GRACE_MS, shown_until_ms
from firmware_sim.programme import Planned, Programme, Scene
from schemas.fields import PlaySource, ResumePolicy
from schemas.plans import RelayReference

# A relay is listened to this long before it starts (schemas/README.md): time enough to fetch what sounds first.
TUNE_LEAD_MS = 60_000


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
            until_ms = shown_until_ms(scene, scene.fallback, play)
            if until_ms is not None:
                yield until_ms - at_ms


def _next_change_ms(programme: Programme, planned: Planned) -> int:
    """The device time at which an emission in its slot is to be looked at again."""
    emission = planned.emission
    play = next((play for play in plays(programme) if same(play.reference, planned.reference)), None)
    too_late_ms = min(emission.latest_start_ms + START_GRACE_MS + 1, emission.ends_at_ms)
    if play is None:
        return too_late_ms
    is_cut = play.paused_at_ms is not None and play.cut_by is not None
    if is_cut and emission.resume is ResumePolicy.RESTART and emission.relay is None:
        return emission.latest_start_ms + START_GRACE_MS + 1
    return emission.ends_at_ms + play.shifted_ms
