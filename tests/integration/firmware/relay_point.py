"""A relay point in miniature: real segments of sound, and their list signed anew whenever somebody asks."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas.plans import RelayReference
from schemas.relays import RelayState, Segment, SegmentList
from tests.integration.firmware.centre import Centre, now_ms
from tests.support.sounds import tone
from tests.unit.firmware_sim.builders import PLATFORM, signed

SEGMENT_MS = 1_000
DELAY_MS = 3_000
KEPT = 10


@dataclass
class RelayPoint:
    """One source, on the air since `began_ms`. Segments exist from the moment at which they are whole."""

    centre: Centre
    relay: RelayReference
    began_ms: int = field(default_factory=now_ms)
    is_reachable: bool = True
    is_silent: bool = False
    signer: Ed25519PrivateKey = PLATFORM
    aged_ms: int = 0  # how old the lists are that are handed out
    stopped_ms: int | None = None  # the source gives nothing since then

    def __post_init__(self) -> None:
        # One second of sound, exactly; what it says is the same all the time.
        self.sound = tone("flac", seconds=1.0, rate=24_000)
        self.centre.media.files[f"/{self._path}"] = self.sound
        self.centre.media.answers[f"/{self.relay.path}"] = self.answer

    @property
    def _path(self) -> str:
        return f"{self.relay.path}/sound.flac"

    def serve(self, sound: bytes) -> None:
        """Serve other bytes than the ones that are signed."""
        self.centre.media.files[f"/{self._path}"] = sound

    def answer(self) -> bytes | None:
        if not self.is_reachable:
            return None
        at_ms = now_ms() - self.aged_ms
        end_ms = at_ms if self.stopped_ms is None else min(at_ms, self.stopped_ms)
        whole = max(0, (end_ms - self.began_ms) // SEGMENT_MS)
        segments = tuple(self._segment(number) for number in range(max(0, whole - KEPT), whole))
        listed = SegmentList(
            issued_at_ms=at_ms,
            valid_from_ms=at_ms,
            valid_until_ms=at_ms + 10_000,
            source_id=self.relay.source_id,
            state=RelayState.SILENT if self.is_silent else RelayState.ON_AIR,
            segment_ms=SEGMENT_MS,
            delay_ms=DELAY_MS,
            segments=segments,
        )
        return signed(listed, self.signer)

    def _segment(self, number: int) -> Segment:
        return Segment(
            sequence=number,
            sha256=hashlib.sha256(self.sound).digest(),
            size=len(self.sound),
            mime="audio/flac",
            path=self._path,
            starts_at_ms=self.began_ms + number * SEGMENT_MS,
            duration_ms=SEGMENT_MS,
            silent=self.is_silent,
        )
