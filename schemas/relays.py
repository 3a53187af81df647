"""Relays (R-21): what the province's relay point hands out of a live source, as short signed segments.

A signed address does not sign its content, so no device ever plays a stream. The relay point cuts it into small files
and signs, every few seconds, the list of the newest ones. It travels over HTTPS: README.md says how a device reads it.
"""

from __future__ import annotations

import enum
import uuid
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from schemas import limits
from schemas.fields import Instant, Sha256
from schemas.orders import MediaReference, Order
from schemas.shapes import Key, Record


class RelayState(enum.IntEnum):
    """What the relay point hears of a source when it signs."""

    ON_AIR = 0
    SILENT = 1  # connected, and below the source's threshold of silence for longer than it allows
    UNREACHABLE = 2  # nothing comes; the relay point goes on trying


class Segment(Record):
    """A file with the sound of [`starts_at_ms`, `starts_at_ms` + `duration_ms`), decodable without the others.

    `starts_at_ms` is when its first sample was taken, on the relay point's clock. It decodes to `duration_ms` of sound
    exactly. `silent`: the source has been silent for longer than it may; what has a fallback plays that meanwhile.
    """

    sequence: Annotated[int, Key(0), Field(ge=0, le=limits.INT64_MAX)]
    sha256: Annotated[Sha256, Key(1)]
    size: Annotated[int, Key(2), Field(ge=1, le=limits.SEGMENT_BYTES)]
    mime: Annotated[str, Key(3), Field(pattern=r"^[a-z]{1,24}/[a-z0-9.+-]{1,64}$")]
    path: Annotated[str, Key(4), Field(pattern=r"^[A-Za-z0-9._~-][A-Za-z0-9._~/-]{0,199}$")]
    starts_at_ms: Annotated[Instant, Key(5)]
    duration_ms: Annotated[int, Key(6), Field(ge=1, le=limits.SEGMENT_MS)]
    silent: Annotated[bool, Key(7)] = False

    @property
    def ends_at_ms(self) -> int:
        """First instant that is no longer in it."""
        return self.starts_at_ms + self.duration_ms

    @property
    def media(self) -> MediaReference:
        """The file, as other orders name files."""
        return MediaReference(
            sha256=self.sha256, size=self.size, mime=self.mime, path=self.path, duration_ms=self.duration_ms
        )


class SegmentList(Order):
    """The newest segments of one source, for every device; signed anew with every segment and valid for seconds.

    Of two lists of a source the one with the larger `issued_at_ms` holds. At the instant `now` of its clock a device
    sounds the instant `now - delay_ms` of the source: the same on all devices, so they are in step. Segments are sorted
    by `sequence`, which a source never uses twice, and do not overlap in time; a gap between two is sound that was lost.
    A new segment is there about every `segment_ms`.
    """

    SIZE_LIMIT: ClassVar[int] = limits.SEGMENT_LIST_BYTES

    source_id: Annotated[uuid.UUID, Key(10)]
    state: Annotated[RelayState, Key(11)]
    segment_ms: Annotated[int, Key(12), Field(ge=1, le=limits.SEGMENT_MS)]
    delay_ms: Annotated[int, Key(13), Field(ge=1, le=600_000)]
    segments: Annotated[tuple[Segment, ...], Key(14), Field(max_length=limits.MAX_SEGMENTS)] = ()

    @model_validator(mode="after")
    def _segments_follow_each_other(self) -> Self:
        for earlier, later in zip(self.segments, self.segments[1:], strict=False):
            if later.sequence <= earlier.sequence:
                raise ValueError("segments must be sorted by sequence, each number once")
            if later.starts_at_ms < earlier.ends_at_ms:
                raise ValueError("segments must not overlap in time")
        return self
