"""The arbitration table: contenders, the winner as a person states it, and what settles it."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from schemas.arbitration import Contender
from schemas.fields import Level, PlayReference, PlaySource
from schemas.orders import Rank
from tests.support.vectors.world import (
    BROADCAST,
    T,
    an_id,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """Contenders, which of them wins (stated by hand, not computed) and what settles it."""

    name: str
    contenders: tuple[Contender, ...]
    winner: int
    decided_by: str


def _contender(number: int, level: Level, **rank: Any) -> Contender:
    reference = PlayReference(
        source=rank.pop("source", PlaySource.COMMAND),
        id=rank.pop("id", an_id(number)),
        **{name: rank.pop(name) for name in ("occurrence_at_ms", "item") if name in rank},
    )
    return Contender(reference, Rank(level=level, **{"issuer_depth": 2, "issued_at_ms": T, **rank}))


def contests() -> tuple[Contest, ...]:
    """Return the arbitration table."""
    normal, priority, emergency = Level.NORMAL, Level.PRIORITY, Level.EMERGENCY
    emission = {"source": PlaySource.EMISSION, "id": BROADCAST, "occurrence_at_ms": T, "item": 1}
    table: list[tuple[str, list[Contender], int, str]] = [
        ("priority beats normal", [_contender(1, normal), _contender(2, priority)], 1, "level"),
        ("live beats priority", [_contender(1, priority), _contender(2, normal, live=True)], 1, "live"),
        ("emergency beats live", [_contender(1, priority, live=True), _contender(2, emergency)], 1, "level"),
        (
            "live adds nothing to an emergency",
            [_contender(1, emergency), _contender(2, emergency, live=True)],
            0,
            "identity",
        ),
        (
            "among live sources the level no longer counts",
            [_contender(1, normal, live=True), _contender(2, priority, live=True)],
            0,
            "identity",
        ),
        (
            "a severe emergency beats a moderate one from higher up",
            [
                _contender(1, emergency, severity=2, issuer_depth=0),
                _contender(2, emergency, severity=3, issuer_depth=2),
            ],
            1,
            "severity",
        ),
        (
            "severity does not lift a level",
            [_contender(1, normal, severity=4), _contender(2, priority, severity=0)],
            1,
            "level",
        ),
        (
            "the province beats the commune",
            [_contender(1, normal, issuer_depth=2), _contender(2, normal, issuer_depth=0)],
            1,
            "issuer_depth",
        ),
        (
            "height in the tree beats an earlier issue",
            [_contender(1, normal, issuer_depth=2, issued_at_ms=0), _contender(2, normal, issuer_depth=1)],
            1,
            "issuer_depth",
        ),
        (
            "asked for first, sounds first",
            [_contender(1, normal, issued_at_ms=T + 1), _contender(2, normal, issued_at_ms=T)],
            1,
            "issued_at_ms",
        ),
        ("the smaller id wins a full tie", [_contender(2, normal), _contender(1, normal)], 1, "identity"),
        (
            "ids are compared as bytes, the first byte first",
            [
                _contender(0, normal, id=uuid.UUID("ff000000-0000-4000-8000-000000000000")),
                _contender(0, normal, id=uuid.UUID("00000000-0000-4000-8000-0000000000ff")),
            ],
            1,
            "identity",
        ),
        (
            "the same id: the smaller source number",
            [_contender(1, normal, source=PlaySource.FALLBACK), _contender(1, normal, source=PlaySource.COMMAND)],
            1,
            "identity",
        ),
        (
            "the same broadcast: the earlier occurrence",
            [
                _contender(0, normal, **emission),
                _contender(0, normal, **{**emission, "occurrence_at_ms": T - 1, "item": 9}),
            ],
            1,
            "identity",
        ),
        (
            "the same occurrence: the earlier item",
            [_contender(0, normal, **emission), _contender(0, normal, **{**emission, "item": 0})],
            1,
            "identity",
        ),
        (
            "one of five",
            [
                _contender(1, normal, live=True, severity=4, issuer_depth=0, issued_at_ms=0),
                _contender(2, emergency, severity=3, issuer_depth=1),
                _contender(3, emergency, severity=3, issuer_depth=1, issued_at_ms=T - 1),
                _contender(4, emergency, severity=3, issuer_depth=2, issued_at_ms=0),
                _contender(5, priority, severity=4, issuer_depth=0, issued_at_ms=0),
            ],
            2,
            "issued_at_ms",
        ),
        (
            "the commune puts its priority content in order, whoever issued it",
            [
                _contender(1, priority, issuer_depth=0, severity=3, issued_at_ms=0),
                _contender(2, priority, issuer_depth=2, place=10),
            ],
            1,
            "place",
        ),
        (
            "what was put behind comes behind what was not put anywhere",
            [_contender(1, priority, place=200), _contender(2, priority)],
            1,
            "place",
        ),
        (
            "normal content has no place",
            [_contender(1, normal, issuer_depth=1), _contender(2, normal, issuer_depth=2, place=0)],
            0,
            "issuer_depth",
        ),
        (
            "an emergency has no place",
            [_contender(1, emergency, place=255), _contender(2, emergency, place=0)],
            0,
            "identity",
        ),
        ("alone", [_contender(1, normal)], 0, "nobody else"),
    ]
    return tuple(
        Contest(name=name, contenders=tuple(contenders), winner=winner, decided_by=decided_by)
        for name, contenders, winner, decided_by in table
    )
