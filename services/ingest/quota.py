"""How much of what is quarantined is kept with its bytes: so much a day per principal and in all, then only counted."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantineQuota:
    """New rows a (UTC) day."""

    per_principal: int = 100
    in_all: int = 10_000


def kept(
    payloads: Iterable[tuple[str, bytes]],
    *,
    known: frozenset[tuple[str, bytes]],
    today: Mapping[str, int],
    in_all_today: int,
    quota: QuarantineQuota,
) -> frozenset[tuple[str, bytes]]:
    """Return which of the (principal, digest) `payloads` have a row or get one.

    `known` have one already and cost nothing. `today` and `in_all_today` count the rows made today so far. First come,
    first kept.
    """
    result = set()
    made = dict(today)
    left = quota.in_all - in_all_today
    for principal, digest in payloads:
        if (principal, digest) in known or (principal, digest) in result:
            result.add((principal, digest))
        elif left > 0 and made.get(principal, 0) < quota.per_principal:
            result.add((principal, digest))
            made[principal] = made.get(principal, 0) + 1
            left -= 1
    return frozenset(result)
