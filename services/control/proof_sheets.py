"""The sheet of a unit and a month that an officer signs: what was planned there, and what of it is proven. Pure.

Counted are emissions by the local day on which they begin, on devices that belonged to the unit (or to one below it) on
that day, so sheets of units of before a reform and of after it never count the same emission. Minutes of what was played,
late or cut are minutes that sounded by the devices' own word, a relay's fallback left out; of everything else they are
minutes that were planned. What only a gateway vouches for stands apart and is never among them (R-28).

The same figures always give the same digest, whoever prints them and in whatever form, so paper can be checked later.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import date
from typing import Any

from schemas.identifiers import UnitId

PRINTED_DECIMALS = 5  # of degrees: about a metre


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """How emissions ended; the counts but `planned` add up to it. Spans in milliseconds.

    `open`: no verdict yet. `fallback_ms`: of relays, what sounded instead of their source. `late_by_ms`: how late the
    late ones began, added up.
    """

    planned: int = 0
    planned_ms: int = 0
    played: int = 0
    played_ms: int = 0
    late: int = 0
    late_ms: int = 0
    late_by_ms: int = 0
    cut: int = 0
    cut_ms: int = 0
    missed: int = 0
    missed_ms: int = 0
    refused: int = 0
    refused_ms: int = 0
    unknown: int = 0
    unknown_ms: int = 0
    by_gateway: int = 0
    by_gateway_ms: int = 0
    open: int = 0
    open_ms: int = 0
    fallback_ms: int = 0

    def __add__(self, other: Figures) -> Figures:
        return Figures(**{each.name: getattr(self, each.name) + getattr(other, each.name) for each in fields(self)})

    @property
    def sounded_ms(self) -> int:
        """What sounded by the devices' own word."""
        return self.played_ms + self.late_ms + self.cut_ms

    @property
    def share(self) -> float | None:
        """What sounded of what was planned; None when nothing was."""
        return min(1.0, self.sounded_ms / self.planned_ms) if self.planned_ms else None


FIGURES = tuple(each.name for each in fields(Figures))


@dataclass(frozen=True, slots=True, kw_only=True)
class DayRow:
    """A local day."""

    day: date
    figures: Figures


@dataclass(frozen=True, slots=True, kw_only=True)
class BroadcastRow:
    """A broadcast that was heard, or should have been."""

    broadcast_id: uuid.UUID
    title: str
    issuer_id: UnitId
    issuer: str
    level: str
    figures: Figures


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRow:
    """A device of the unit or below."""

    device_id: str
    name: str
    kind: str
    unit: str
    latitude: float | None
    longitude: float | None
    figures: Figures

    @property
    def place(self) -> tuple[float | None, float | None]:
        """Latitude and longitude as printed: to a metre, as far as anybody can look for a loudspeaker."""
        return _printed(self.latitude), _printed(self.longitude)


def _printed(degrees: float | None) -> float | None:
    return None if degrees is None else round(degrees, PRINTED_DECIMALS)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasonRow:
    """Why some emissions were cut, missed, refused, or are not known about; `evidence` is whose word that is, if anybody's.

    `alert` is what took their place, where an alert did: its headline and the unit that spoke. `emissions` that only a gateway speaks for are among those that count as its word, whatever it says.
    """

    outcome: str
    reason: str
    evidence: str | None
    emissions: int
    devices: int
    alert_id: uuid.UUID | None = None
    alert: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProblemRow:
    """What of a broadcast was not planned, or not as it was asked for, and why; on how many days."""

    broadcast_id: uuid.UUID
    title: str
    kind: str
    times: int
    first: date
    last: date


@dataclass(frozen=True, slots=True, kw_only=True)
class Uptake:
    """Normal broadcasts from above that were offered in the month, and what the units made of them (R-17)."""

    offered: int = 0
    accepted: int = 0
    declined: int = 0
    scheduled: int = 0

    @property
    def undecided(self) -> int:
        """Offers that nobody answered."""
        return self.offered - self.accepted - self.declined - self.scheduled


@dataclass(frozen=True, slots=True, kw_only=True)
class Month:
    """A calendar month of local days."""

    year: int
    month: int

    @property
    def first(self) -> date:
        """Its first day."""
        return date(self.year, self.month, 1)

    @property
    def end(self) -> date:
        """The day after its last."""
        return date(self.year + self.month // 12, self.month % 12 + 1, 1)

    def __str__(self) -> str:
        return f"{self.year:04}-{self.month:02}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """Everything on a sheet but when it was made. Rows are sorted.

    `days_held` are the days of the month on which the unit was in the tree; `path` leads from the root to it.
    """

    unit_id: UnitId
    code: str
    name: str
    path: tuple[str, ...]
    month: Month
    time_zone: str
    days_held: tuple[date, date]
    days: tuple[DayRow, ...] = ()
    broadcasts: tuple[BroadcastRow, ...] = ()
    devices: tuple[DeviceRow, ...] = ()
    reasons: tuple[ReasonRow, ...] = ()
    problems: tuple[ProblemRow, ...] = ()
    uptake: Uptake = field(default_factory=Uptake)
    bulletins: int = 0
    own_units: frozenset[UnitId] = frozenset()

    @property
    def total(self) -> Figures:
        """All days together."""
        return summed(row.figures for row in self.days)

    @property
    def from_above(self) -> Figures:
        """What was issued by units that lie above."""
        return summed(row.figures for row in self.broadcasts if row.issuer_id not in self.own_units)

    @property
    def emergencies(self) -> Figures:
        """Emergency content."""
        return summed(row.figures for row in self.broadcasts if row.level == "emergency")

    def devices_of(self, kind: str) -> int:
        """How many devices of a kind are on the sheet."""
        return sum(row.kind == kind for row in self.devices)

    @property
    def digest(self) -> str:
        """SHA-256 of the figures, in hex."""
        return hashlib.sha256(json.dumps(described(self), sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def summed(figures: Iterable[Figures]) -> Figures:
    """Figures added up."""
    total = Figures()
    for each in figures:
        total += each
    return total


def described(sheet: Sheet) -> Mapping[str, Any]:
    """The sheet as plain values: what the digest is made of."""
    return {
        "unit_id": str(sheet.unit_id),
        "code": sheet.code,
        "name": sheet.name,
        "path": list(sheet.path),
        "month": str(sheet.month),
        "time_zone": sheet.time_zone,
        "days_held": [day.isoformat() for day in sheet.days_held],
        "bulletins": sheet.bulletins,
        "uptake": asdict(sheet.uptake),
        **{
            name: [_plain(asdict(row)) for row in rows]
            for name, rows in (
                ("days", sheet.days),
                ("broadcasts", sheet.broadcasts),
                ("devices", sheet.devices),
                ("problems", sheet.problems),
            )
        },
        "reasons": [_reason(row) for row in sheet.reasons],
    }


def _reason(row: ReasonRow) -> dict[str, Any]:
    """Without an alert as it was before sheets named them, so that paper of that time can still be checked."""
    values = _plain(asdict(row))
    if row.alert_id is None:
        del values["alert_id"], values["alert"]
    return values


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value.isoformat() if isinstance(value, date) else str(value) if isinstance(value, uuid.UUID) else value
        for name, value in values.items()
    }
