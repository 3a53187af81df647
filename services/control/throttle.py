"""How long failed logins make the next one wait. Pure.

Three counts are kept, because each alone can be turned against somebody: per login and origin (the usual guesser), per
login (a guesser with many addresses; mild, so that nobody can lock an officer out), and per origin (many logins from
one address; late, because a whole office may share it).
"""

from __future__ import annotations

import enum
import ipaddress
from dataclasses import dataclass
from datetime import datetime, timedelta


class Scope(enum.StrEnum):
    """What failures are counted by."""

    LOGIN_AND_ORIGIN = "login_and_origin"
    LOGIN = "login"
    ORIGIN = "origin"
    ENROLMENT = "enrolment"  # wrong claim codes, by the address they come from
    SECOND_FACTOR = "second_factor"  # per account; a code is asked of who is logged in


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """`free` failures cost nothing; each further one doubles the wait from `first` up to `longest`."""

    free: int
    first: timedelta
    longest: timedelta


POLICIES: dict[Scope, Policy] = {
    Scope.LOGIN_AND_ORIGIN: Policy(free=4, first=timedelta(seconds=1), longest=timedelta(minutes=15)),
    Scope.LOGIN: Policy(free=30, first=timedelta(seconds=1), longest=timedelta(seconds=30)),
    # A code has a hundred random bits: this is against floods, and leaves a workshop behind one address at work.
    Scope.ENROLMENT: Policy(free=20, first=timedelta(seconds=1), longest=timedelta(minutes=5)),
    Scope.ORIGIN: Policy(free=60, first=timedelta(seconds=1), longest=timedelta(minutes=5)),
    Scope.SECOND_FACTOR: Policy(free=4, first=timedelta(seconds=1), longest=timedelta(minutes=15)),
}

FORGOTTEN_AFTER = timedelta(hours=24)
_IPV6_NETWORK_BITS = 64  # one customer's; the rest of the address is theirs to choose


def wait(scope: Scope, failures: int, last_failed_at: datetime, *, now: datetime) -> timedelta:
    """How much longer to wait after `failures`, the last of them at `last_failed_at`; zero: not at all."""
    policy = POLICIES[scope]
    beyond = failures - policy.free
    if beyond <= 0 or now - last_failed_at >= FORGOTTEN_AFTER:
        return timedelta(0)
    # The exponent is bounded before it is used: 2**10000 seconds is no span.
    span = min(policy.longest, policy.first * (1 << min(beyond - 1, 30)))
    return max(timedelta(0), last_failed_at + span - now)


def network_of(address: str) -> str:
    """Whom an address counts for: itself, or of IPv6 its network, which one customer has whole."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((int(parsed), _IPV6_NETWORK_BITS), strict=False).network_address)
