"""Who sounds when several want to: the one total order, the same on server and device (regulation section 5).

emergency > live > priority > normal; among priority content the order the receiving unit gave it (R-17); then the more
severe; then the issuer nearer to the root of the tree; then the earlier issue; then the smaller identity: the id's
bytes, the source's number, the occurrence, the item. A play's identity is its own, so the order is total and two
machines never disagree. A province that wants another order changes `precedence` and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from schemas.fields import Level, PlayReference
from schemas.orders import DEFAULT_PLACE, Rank

Precedence = tuple[int, int, int, int, int, bytes, int, int]

# What each part of a precedence compares, in the words of the vectors: the first part that differs is the tie-break.
CRITERIA = ("level", "place", "severity", "issuer_depth", "issued_at_ms", "identity", "identity", "identity")
LIVE = "live"

EMERGENCY_TIER, LIVE_TIER, PRIORITY_TIER, NORMAL_TIER = range(4)


@dataclass(frozen=True, slots=True)
class Contender:
    """Content that could sound at one instant."""

    reference: PlayReference
    rank: Rank


def precedence(contender: Contender) -> Precedence:
    """Return the sort key of a contender; the smallest key wins. Contenders for different plays have different keys."""
    rank, reference = contender.rank, contender.reference
    return (
        _tier(rank),
        _place(rank),
        -rank.severity,
        rank.issuer_depth,
        rank.issued_at_ms,
        reference.id.bytes + bytes([reference.source]),
        reference.occurrence_at_ms or 0,
        reference.item or 0,
    )


def winner(contenders: Iterable[Contender]) -> Contender | None:
    """Return the contender that sounds, or None when there is none."""
    return min(contenders, key=precedence, default=None)


def decided_by(first: Contender, second: Contender) -> str:
    """Return which criterion settles the order of two contenders for different plays: `live` or one of `CRITERIA`."""
    one, other = precedence(first), precedence(second)
    criterion = next(name for name, a, b in zip(CRITERIA, one, other, strict=True) if a != b)
    if criterion == "level" and LIVE_TIER in (one[0], other[0]) and EMERGENCY_TIER not in (one[0], other[0]):
        return LIVE
    return criterion


def _place(rank: Rank) -> int:
    """The receiving unit orders priority content, and nothing else (R-17)."""
    if _tier(rank) != PRIORITY_TIER:
        return 0
    return DEFAULT_PLACE if rank.place is None else rank.place


def _tier(rank: Rank) -> int:
    """Emergency 0, live 1, priority 2, normal 3: live is a rank of a source, not a fourth level."""
    if rank.level is Level.EMERGENCY:
        return EMERGENCY_TIER
    if rank.live:
        return LIVE_TIER
    return PRIORITY_TIER if rank.level is Level.PRIORITY else NORMAL_TIER
