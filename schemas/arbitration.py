"""Who sounds when several want to: the one total order, the same on server and device (regulation section 5).

emergency > live > priority > normal; then the more severe; then the issuer nearer to the root of the tree; then the
earlier issue; then the smaller identity: the id's bytes, the source's number, the occurrence, the item. A play's
identity is its own, so the order is total and two machines never disagree. A province that wants another order changes
`precedence` and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from schemas.fields import Level, PlayReference
from schemas.orders import Rank

Precedence = tuple[int, int, int, int, bytes, int, int]


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


def _tier(rank: Rank) -> int:
    """Emergency 0, live 1, priority 2, normal 3: live is a rank of a source, not a fourth level."""
    if rank.level is Level.EMERGENCY:
        return 0
    if rank.live:
        return 1
    return 2 if rank.level is Level.PRIORITY else 3
