"""What devices did about alerts and when, as lines in a file: for whoever measures a fleet from outside.

The journal is what a device tells the platform, and goes once the platform has it. This file tells the same to whoever
must not believe the platform about itself, and besides when the packet of an alert was there and when there was an uplink.

Each line is tab-separated: what happened, the device, when (microseconds since 1970; of plays and words the device's own
time), and for all but `up` and `down` the alert. `came`: nothing more. `handled`: version and result. `started`: occurrence
(milliseconds) and item; `ended`: the same and the outcome.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from schemas.events import AlertHandled, Event, PlayEnded, PlayStarted
from schemas.fields import PlayReference, PlaySource

WRITTEN_EVERY_S = 0.5
_BUFFER_BYTES = 1 << 20


class Trace:
    """The trace of a fleet. Lines are written out twice a second, so that the last may be missing when we are killed."""

    def __init__(self, file: Path, *, true_us: Callable[[], int]) -> None:
        self._file = file.open("a", buffering=_BUFFER_BYTES, encoding="ascii")
        self._true_us = true_us
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(WRITTEN_EVERY_S, self._write_out)

    def close(self) -> None:
        """Write out what is left."""
        self._timer.cancel()
        self._file.close()

    def link(self, device: str, what: Literal["up", "down"]) -> None:
        """The uplink of a station came or went."""
        self._file.write(f"{what}\t{device}\t{self._true_us()}\n")

    def came(self, device: str, alert_id: uuid.UUID) -> None:
        """The packet of an alert is there."""
        self._file.write(f"came\t{device}\t{self._true_us()}\t{alert_id}\n")

    def recorded(self, device: str, event: Event) -> None:
        """An event went into the journal; those that are not about alerts are nothing to us."""
        match event:
            case AlertHandled():
                result = event.result.name.lower()
                self._line("handled", device, event.device_at_ms, event.alert_id, event.alert_version, result)
            case PlayStarted(reference=PlayReference(source=PlaySource.ALERT) as play):
                self._line("started", device, event.started_at_ms, play.id, play.occurrence_at_ms, play.item)
            case PlayEnded(reference=PlayReference(source=PlaySource.ALERT) as play):
                outcome = event.outcome.name.lower()
                self._line("ended", device, event.ended_at_ms, play.id, play.occurrence_at_ms, play.item, outcome)
            case _:
                pass

    def _line(self, what: str, device: str, at_ms: int, *rest: object) -> None:
        self._file.write("\t".join((what, device, str(1_000 * at_ms), *map(str, rest))) + "\n")

    def _write_out(self) -> None:
        self._file.flush()
        self._timer = self._loop.call_later(WRITTEN_EVERY_S, self._write_out)
