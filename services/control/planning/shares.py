"""What comes of one broadcast: parts of occurrences, who gets them, and what of the time that is granted they draw on.

Values only. `drafts` makes them, and `programme` settles what several broadcasts share.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple

from schemas.arbitration import Precedence
from schemas.identifiers import UnitId
from services.control.planning.model import DeviceNo, GrantKey, Occurrence, Problem, ProblemKind, Slot

_NOTHING = timedelta(0)


class Grant(NamedTuple):
    """Time that an occurrence draws on, together with others that have the same key on the same device."""

    key: GrantKey
    limit: timedelta
    wanted: timedelta
    kind: ProblemKind  # what it is when the grant does not suffice
    unit_id: UnitId  # whose policy, or where the board lies


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """One occurrence, as one class of devices puts it out; `precedence` is who is served first where time is granted."""

    occurrence: Occurrence
    slots: tuple[Slot, ...]
    grants: tuple[Grant, ...] = ()
    precedence: Precedence | None = None  # by the order that decides who sounds; None without grants


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Share:
    """What a class of devices gets of a broadcast; `wants` is what all of it draws on grants, with their limits."""

    devices: tuple[DeviceNo, ...]
    parts: tuple[Part, ...]
    slots: tuple[Slot, ...] = field(init=False, repr=False)
    wants: Mapping[GrantKey, tuple[timedelta, timedelta]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        wants: dict[GrantKey, tuple[timedelta, timedelta]] = {}
        for part in self.parts:
            for grant in part.grants:
                before = wants[grant.key][0] if grant.key in wants else _NOTHING
                wants[grant.key] = (before + grant.wanted, grant.limit)
        object.__setattr__(self, "wants", wants)
        object.__setattr__(self, "slots", tuple(slot for part in self.parts for slot in part.slots))

    @property
    def is_limited(self) -> bool:
        """Whether any of it draws on time that is granted."""
        return bool(self.wants)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What one broadcast asks for. Problems are sorted, and each stands there once."""

    shares: tuple[Share, ...]
    problems: tuple[Problem, ...]
    offers: frozenset[UnitId]
