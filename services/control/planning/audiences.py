"""Who a broadcast means, and who of them has to accept it first.

Devices are taken together where they put out the same thing under the same rules (`Class`), so what is found out for one
of them holds for all. A tree of units stands for many days, and so does an audience.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from schemas.fields import DeviceKind, Level
from schemas.identifiers import UnitId
from services.control.planning.ground import Ground
from services.control.planning.model import Answer, Broadcast, DeviceNo, DeviceRef, ProblemKind, Snapshot
from services.control.planning.policies import EffectivePolicy
from services.control.planning.targets import Choice, choose
from services.control.units import UnitTree

_UNACCEPTED = {
    None: ProblemKind.OFFER_PENDING,
    Answer.DECLINED: ProblemKind.OFFER_DECLINED,
    Answer.SCHEDULED: ProblemKind.OFFER_SCHEDULED,
}


class Class(NamedTuple):
    """What is the same for devices that put out the same thing under the same rules.

    `above` and `private` are those of their `Traits`, `place` is the one that their deciding unit gives the broadcast.
    """

    kind: DeviceKind
    policy: EffectivePolicy
    above: int
    place: int | None
    private: DeviceNo | None


class Members(NamedTuple):
    """The devices of a class; those that come or go within the window apart, together with whom they come and go."""

    of: Class
    steady: tuple[DeviceNo, ...]
    passing: tuple[tuple[DeviceRef, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Audience:
    """Who is meant on the days of one tree, and what became of the offer to others (R-17)."""

    tree: UnitTree
    depth: int
    choice: Choice
    classes: tuple[Members, ...]
    undecided: tuple[tuple[ProblemKind, UnitId], ...]
    offered: frozenset[UnitId]
    waiting: frozenset[DeviceKind]  # kinds of devices that do not get it because of the offer


def audience_of(broadcast: Broadcast, ground: Ground, snapshot: Snapshot, tree: UnitTree, depth: int) -> Audience:
    """Return who is meant on the days of a tree in which the issuer lies `depth` levels below the root."""
    choice = choose(broadcast.targets, broadcast.unit_id, tree, ground.fleet, ground.groups)
    members: dict[Class, tuple[list[DeviceNo], list[DeviceRef]]] = defaultdict(lambda: ([], []))
    undecided: set[tuple[ProblemKind, UnitId]] = set()
    offered: set[UnitId] = set()
    waiting: set[DeviceKind] = set()
    single = ground.sorted_out(choice.devices, tree)
    for crowd in (*(crowd for unit in choice.units for crowd in ground.crowds(unit, tree)), *single):
        traits = crowd.traits
        if _is_offered(broadcast, traits.deciding, ground, tree):
            offered.add(traits.deciding)
            answer = snapshot.offers.get((broadcast.broadcast_id, traits.deciding))
            if answer is not Answer.ACCEPTED:
                undecided.add((_UNACCEPTED[answer], traits.deciding))
                waiting.add(traits.kind)
                continue
        place = None
        if broadcast.level is Level.PRIORITY:
            place = snapshot.places.get((traits.deciding, broadcast.broadcast_id))
        steady, passing = members[Class(traits.kind, traits.policy, traits.above, place, traits.private)]
        steady.extend(crowd.devices)
        passing.extend(crowd.passing)
    return Audience(
        tree=tree,
        depth=depth,
        choice=choice,
        classes=tuple(Members(each, tuple(steady), _together(passing)) for each, (steady, passing) in members.items()),
        undecided=tuple(sorted(undecided)),
        offered=frozenset(offered),
        waiting=frozenset(waiting),
    )


def _together(passing: Iterable[DeviceRef]) -> tuple[tuple[DeviceRef, ...], ...]:
    """Devices by when they are there: a fleet that is registered at once is looked at once."""
    alike: dict[tuple[datetime, datetime | None], list[DeviceRef]] = defaultdict(list)
    for device in passing:
        alike[device.registered_at, device.retired_at].append(device)
    return tuple(map(tuple, alike.values()))


def _is_offered(broadcast: Broadcast, deciding: UnitId, ground: Ground, tree: UnitTree) -> bool:
    """Whether a unit has to accept a broadcast before it enters: a normal one from above, unless it takes all of them."""
    if broadcast.level is not Level.NORMAL or deciding == tree.standing(broadcast.unit_id):
        return False
    own = ground.policies.own(deciding)
    return tree.covers(broadcast.unit_id, deciding) and not (own is not None and own.accepts_normal)
