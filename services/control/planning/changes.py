"""What a plan means for what is recorded already.

What has begun is history: it is neither withdrawn nor rewritten. What was asked for only after it would have begun is
no part of the programme. What should have begun since, but could not be planned in time, is recorded all the same, as
missed: nothing vanishes because the planner was away. What was noted about occurrences before that is history too: why
they were silent is not what today's plan says of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, datetime
from typing import NamedTuple

from schemas.identifiers import BroadcastId
from services.control.planning.model import DeviceNo, Emission, Plan, Problem, Slot, to_ms

FINGERPRINT_BYTES = 16

EmissionKey = tuple[BroadcastId, datetime, int, DeviceNo]


class Recorded(NamedTuple):
    """An emission as it stands in the database, not withdrawn. A plain tuple: a province records hundreds of thousands."""

    broadcast_id: BroadcastId
    occurrence_at: datetime
    item: int
    device_no: DeviceNo
    starts_at: datetime
    ends_at: datetime
    fingerprint: bytes
    is_stopped: bool = False

    @property
    def key(self) -> EmissionKey:
        """Identity of the emission."""
        return (self.broadcast_id, self.occurrence_at, self.item, self.device_no)


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What to do so that the record says what the plan says. Each in the order of the plan, or of the record.

    add       record, or give a new form to what has not begun yet
    lapsed    record as missed: asked for in time, planned too late
    withdraw  never was: not begun, and no longer wanted
    stop      sounding now and no longer wanted: the record stays, the device's plan loses it
    keep      as recorded
    """

    add: tuple[Emission, ...] = ()
    lapsed: tuple[Emission, ...] = ()
    withdraw: tuple[Recorded, ...] = ()
    stop: tuple[Recorded, ...] = ()
    keep: tuple[Recorded, ...] = ()

    @property
    def devices(self) -> frozenset[DeviceNo]:
        """The devices whose programme is no longer what it was."""
        changed = {emission.device_no for emission in self.add}
        return frozenset(changed | {recorded.device_no for recorded in (*self.withdraw, *self.stop)})

    @property
    def is_empty(self) -> bool:
        """Whether the record already says what the plan says."""
        return not (self.add or self.lapsed or self.withdraw or self.stop)


def changes(planned: Plan, recorded: Iterable[Recorded], *, now: datetime, asked_at: datetime) -> Changes:
    """Return the way from `recorded` to `planned`.

    `recorded` holds every emission in the scope of the plan that ends after `min(now, asked_at)`. `asked_at` is the
    earliest instant at which what the plan answers to was asked for.
    """
    standing = {each.key: each for each in recorded}
    prints = fingerprinter()
    add: list[Emission] = []
    lapsed: list[Emission] = []
    keep: list[Recorded] = []
    for emission in planned.emissions:
        slot = emission.slot
        existing = standing.pop((slot.broadcast_id, slot.occurrence_at, slot.item, emission.device_no), None)
        if existing is None:
            if slot.starts_at < asked_at:
                continue
            (lapsed if slot.latest_start_at <= now else add).append(emission)
        elif existing.starts_at <= now or existing.fingerprint == prints(slot):
            keep.append(existing)
        else:
            add.append(emission)
    withdraw: list[Recorded] = []
    stop: list[Recorded] = []
    for existing in standing.values():
        if existing.starts_at > now:
            withdraw.append(existing)
        elif existing.ends_at > now and not existing.is_stopped:
            stop.append(existing)
        else:
            keep.append(existing)
    return Changes(add=tuple(add), lapsed=tuple(lapsed), withdraw=tuple(withdraw), stop=tuple(stop), keep=tuple(keep))


def is_history(problem: Problem, *, asked_at: datetime, asked_on: date) -> bool:
    """Whether a problem is about what lay before the plan was asked for; `asked_on` is the local day of `asked_at`.

    Such a problem stays as it was noted then, and none is noted any more.
    """
    if problem.occurrence_at is not None:
        return problem.occurrence_at < asked_at
    return problem.local_day is not None and problem.local_day < asked_on


def fingerprinter() -> Callable[[Slot], bytes]:
    """Return `fingerprint` that looks at each slot once: thousands of devices share a slot."""
    known: dict[int, tuple[Slot, bytes]] = {}

    def remembered(slot: Slot) -> bytes:
        found = known.get(id(slot))
        if found is None:
            # The slot is kept beside its print, so that its id is not given to another one meanwhile.
            found = known[id(slot)] = (slot, fingerprint(slot))
        return found[1]

    return remembered


def fingerprint(slot: Slot) -> bytes:
    """Return a digest of everything a device is told about `slot`: equal digests, nothing to tell."""
    facts: tuple[object, ...] = (
        to_ms(slot.starts_at),
        to_ms(slot.ends_at),
        to_ms(slot.latest_start_at),
        int(slot.rank.level),
        slot.rank.live,
        slot.rank.severity,
        slot.rank.issuer_depth,
        slot.rank.issued_at_ms,
        int(slot.content),
        str(slot.bulletin_id),
        slot.title,
        slot.media.sha256.hex() if slot.media is not None else None,
        slot.text,
        slot.volume_percent,
        int(slot.resume),
    )
    # Only where there is something to say: what was recorded before there were relays and places keeps its print.
    if slot.rank.place is not None:
        facts += ("place", slot.rank.place)
    if slot.relay is not None:
        fallback = slot.relay.fallback.sha256.hex() if slot.relay.fallback is not None else None
        facts += ("relay", str(slot.relay.source_id), slot.relay.path, slot.relay.url, fallback)
    return hashlib.sha256(repr(facts).encode()).digest()[:FINGERPRINT_BYTES]
