"""The server's HTTP/1.1 with an end to its patience: who does not finish the head of a request is hung up on.

The server itself waits for ever for the rest of a head, so a few thousand silent connections would use up its sockets.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

# The head of a request: line and all fields. Beyond it the answer is 400.
MAX_HEAD_BYTES = 32 * 1024


class PatientProtocol(H11Protocol):
    """One connection."""

    head_wait = timedelta(seconds=15)
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a first request."""
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """Go on waiting while no head is whole; between requests the server's own keep-alive counts."""
        super().data_received(data)
        if _is_under_way(self.cycle):
            self._stop_waiting()
        elif self._timer is None:
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody is waited for any more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        self._timer = self.loop.call_later(self.head_wait.total_seconds(), self._hang_up)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _hang_up(self) -> None:
        self._timer = None
        self.transport.abort()


def _is_under_way(cycle: RequestResponseCycle | None) -> bool:
    return cycle is not None and not cycle.response_complete


def patient(head_wait: timedelta) -> type[PatientProtocol]:
    """The protocol with this much patience."""
    return type("Patient", (PatientProtocol,), {"head_wait": head_wait})
