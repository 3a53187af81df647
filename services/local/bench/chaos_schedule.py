"""Which faults come when: drawn from a seed, so that a run can be made again. Pure."""

import enum
import random
from collections.abc import Collection, Iterator
from dataclasses import dataclass


class Kind(enum.StrEnum):
    """What is done to the system."""

    INGEST_KILLED = "ingest_killed"  # kill -9 of one of two replicas; the other goes on
    ALL_INGEST_KILLED = "all_ingest_killed"
    BROKER_KILLED = "broker_killed"
    DATABASE_KILLED = "database_killed"  # kill -9 of the whole server, started again with crash recovery
    BACKEND_KILLED = "backend_killed"  # kill -9 of one session's process: the server restarts all of them
    BACKEND_TERMINATED = "backend_terminated"  # every session of ingest is ended by an administrator
    DATABASE_UNREACHABLE = "database_unreachable"  # connections end, new ones are refused
    DATABASE_SILENT = "database_silent"  # nothing passes and nobody is told
    DATABASE_HUNG = "database_hung"  # SIGSTOP of every process of the server, later SIGCONT
    DISK_FULL = "disk_full"
    BROKER_UNREACHABLE = "broker_unreachable"
    BROKER_HUNG = "broker_hung"  # SIGSTOP, later SIGCONT
    LOST_IN_TRANSACTION = "lost_in_transaction"  # the network between a replica and the database ends within a COPY
    FROZEN_IN_TRANSACTION = "frozen_in_transaction"  # a replica stops within a COPY, and is killed later


# How often each comes in one round. The three that the promises are about come more often; those that hang come once.
ROUND: dict[Kind, int] = dict.fromkeys(Kind, 1) | {
    Kind.INGEST_KILLED: 3,
    Kind.ALL_INGEST_KILLED: 3,
    Kind.BROKER_KILLED: 3,
    Kind.DATABASE_KILLED: 3,
    Kind.BACKEND_KILLED: 2,
    Kind.BACKEND_TERMINATED: 2,
}

NEEDS_OWN_SERVER = frozenset(
    {Kind.DATABASE_KILLED, Kind.BACKEND_KILLED, Kind.DATABASE_HUNG, Kind.DISK_FULL}
)  # the server's processes and disk are not ours to touch where it was given by URL

LONGEST_WAIT_S = 1.0
SHORTEST_HOLD_S, LONGEST_HOLD_S = 0.1, 2.0
FOLLOWED_SHARE = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault to come."""

    kind: Kind
    wait_s: float  # after everything works again, before it comes
    hold_s: float  # how long it lasts, or what was killed stays down
    replica: int  # which of the two it befalls
    is_followed: bool  # by the next one before anything has recovered


def schedule(seed: int, *, without: Collection[Kind] = ()) -> Iterator[Fault]:
    """Yield faults without end: rounds of all kinds but `without`, each in an order of its own."""
    draw = random.Random(seed)  # noqa: S311 - to be repeatable, not secret
    while True:
        order = [kind for kind, times in ROUND.items() if kind not in without for _ in range(times)]
        draw.shuffle(order)
        for kind in order:
            yield Fault(
                kind=kind,
                wait_s=draw.uniform(0, LONGEST_WAIT_S),
                hold_s=draw.uniform(SHORTEST_HOLD_S, LONGEST_HOLD_S),
                replica=draw.randrange(2),
                is_followed=draw.random() < FOLLOWED_SHARE,
            )
