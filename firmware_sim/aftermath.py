"""What may wait until the sound is out: chores of a fleet, done one at a time between two looks at the sockets.

Thousands of simulated devices share one thread, which no real fleet does: were each to write down at once that it began
an alert, the last of them would begin when all others had written.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

QUIET_S = 0.1  # from the first chore until chores begin


class Aftermath:
    """Chores in the order they came."""

    def __init__(self) -> None:
        self._chores: deque[Callable[[], None]] = deque()

    def add(self, chore: Callable[[], None]) -> None:
        """Do this when the sockets have had their turn."""
        self._chores.append(chore)
        if len(self._chores) == 1:
            asyncio.get_running_loop().call_later(QUIET_S, self._do_one)

    def _do_one(self) -> None:
        chore = self._chores[0]
        try:
            chore()
        finally:
            self._chores.popleft()
            if self._chores:
                asyncio.get_running_loop().call_soon(self._do_one)
