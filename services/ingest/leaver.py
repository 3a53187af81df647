"""How a replica leaves for good: out of the group, and then everything the broker still has for it, to the last message.

Nothing is given up before it is taken: the broker forgets a session and what it holds for it in one. So the end of the
queue has to be known, not guessed from a silence. It is: UNSUBSCRIBE goes out behind the acknowledgement of all we have,
and its answer comes back behind all that those acknowledgements made room for. When nothing came before it, nothing is
there, and nothing will be.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from services.ingest.errors import IngestError

POLL = timedelta(milliseconds=20)
RETRY = timedelta(milliseconds=200)

log = logging.getLogger(__name__)


class Leaving(Protocol):
    """The session's leaving side."""

    @property
    def is_connected(self) -> bool:
        """Whether the broker can be asked."""

    @property
    def connections(self) -> int:
        """How many connections there have been."""

    def leave(self) -> None:
        """Be without subscriptions from the next connection on."""

    async def unsubscribe(self) -> None:
        """Be without subscriptions now, and return with the broker's answer."""


class Hand(Protocol):
    """What has been taken and what is not yet stored."""

    @property
    def taken(self) -> int:
        """Messages taken since the start."""

    @property
    def in_hand(self) -> int:
        """Messages taken and not yet acknowledged."""


@dataclass(frozen=True, slots=True)
class Queue:
    """One session and where its messages go."""

    session: Leaving
    hand: Hand

    @property
    def seen(self) -> tuple[int, int]:
        """What has come so far, over how many connections."""
        return (self.hand.taken, self.session.connections)


async def drain(queues: Sequence[Queue]) -> int:
    """Leave every subscription and return, with the number of messages taken meanwhile, when nothing is left to take.

    However long that takes: without a database or a broker it waits. Cancelled, it has lost nothing, and what it has not
    taken waits for the next who connects as this replica.
    """
    before = sum(queue.hand.taken for queue in queues)
    for queue in queues:
        queue.session.leave()
    while True:
        async with asyncio.TaskGroup() as tasks:
            emptied = [tasks.create_task(_empty(queue)) for queue in queues]
        # One queue is empty long before another, and a broker killed meanwhile may have come back with a subscription.
        if all(task.result() == queue.seen for task, queue in zip(emptied, queues, strict=True)):
            break
    return sum(queue.hand.taken for queue in queues) - before


async def _empty(queue: Queue) -> tuple[int, int]:
    """Return, with what has been seen by then, when nothing is left to take."""
    complained = False
    while True:
        while not queue.session.is_connected or queue.hand.in_hand:
            await asyncio.sleep(POLL.total_seconds())
        seen = queue.seen
        try:
            await queue.session.unsubscribe()
        except (TimeoutError, OSError, IngestError) as error:
            if not complained:
                log.warning("leaving_held_up", extra={"reason": str(error) or type(error).__name__})
                complained = True
            await asyncio.sleep(RETRY.total_seconds())
            continue
        if queue.seen == seen and not queue.hand.in_hand:
            return seen
