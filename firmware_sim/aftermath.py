"""What may wait until the sound is out: chores of a fleet, done one at a time between two looks at the sockets.

Thousands of simulated devices share one thread, which no real fleet does: were each to write down at once that it began
an alert, the last of them would begin when all others had written. So chores wait until nobody has had anything new to
put off for a while, which is when the last device has begun; but none for long. Until then nobody looks for garbage either,
which would take as long as a hundred beginnings.
"""

from __future__ import annotations

import asyncio
import gc
from collections import deque
from collections.abc import Callable

QUIET_S = 0.25  # without a new chore, until chores are done
LONGEST_S = 3.0  # that a chore waits for quiet


class Aftermath:
    """Chores in the order they came. `owns_process` says that stopping its garbage collection disturbs nobody else."""

    def __init__(self, *, owns_process: bool = False) -> None:
        self._owns_process = owns_process
        self._loop = asyncio.get_running_loop()
        self._chores: deque[tuple[float, Callable[[], None]]] = deque()  # since when each waits
        self._added_at = 0.0

    def add(self, chore: Callable[[], None]) -> None:
        """Do this when the sockets have had their turn."""
        if self._owns_process:
            gc.disable()
        self._added_at = self._loop.time()
        self._chores.append((self._added_at, chore))
        if len(self._chores) == 1:
            self._loop.call_later(QUIET_S, self._go_on)

    def _go_on(self) -> None:
        """Do the oldest chore, if it is quiet or the chore has waited for long; come back for the next."""
        since, chore = self._chores[0]
        due = min(self._added_at + QUIET_S, since + LONGEST_S)
        if self._loop.time() < due:
            self._loop.call_at(due, self._go_on)
            return
        if self._owns_process:
            gc.enable()
        try:
            chore()
        finally:
            self._chores.popleft()
            if self._chores:
                self._loop.call_soon(self._go_on)
