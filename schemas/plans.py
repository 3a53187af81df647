"""Plans: all emissions of one device for the coming days, signed and replaced as a whole."""

from __future__ import annotations

import enum
import uuid
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from schemas import limits
from schemas.fields import Body, Instant, Milliseconds, Percent, PlayReference, PlaySource, ResumePolicy, Sha256, Title
from schemas.orders import DeviceOrder, MediaReference, Rank
from schemas.shapes import Key, Record


class ContentKind(enum.IntEnum):
    """What an emission puts out."""

    AUDIO = 0
    TEXT = 1
    TICKER = 2
    IMAGE = 3
    VIDEO = 4
    RELAY = 5


class Emission(Record):
    """One item of one occurrence on this device.

    Sounds in [`starts_at_ms`, `starts_at_ms + duration_ms`); a device that is ready later joins in progress, but not
    after `latest_start_ms`. `offset_ms` is where in the media the emission begins. Audio, image and video need `media`,
    text and ticker need `text`. `volume_percent` overrides the configuration's, below the same cap.
    """

    broadcast_id: Annotated[uuid.UUID, Key(0)]
    occurrence_at_ms: Annotated[Instant, Key(1)]
    item: Annotated[int, Key(2), Field(ge=0, le=255)]
    starts_at_ms: Annotated[Instant, Key(3)]
    duration_ms: Annotated[int, Key(4), Field(ge=1, le=2**31 - 1)]
    latest_start_ms: Annotated[Instant, Key(5)]
    rank: Annotated[Rank, Key(6)]
    content: Annotated[ContentKind, Key(7)]
    media: Annotated[Sha256 | None, Key(8)] = None
    text: Annotated[Body | None, Key(9)] = None
    volume_percent: Annotated[Percent | None, Key(10)] = None
    resume: Annotated[ResumePolicy, Key(11)] = ResumePolicy.RESUME
    bulletin_id: Annotated[uuid.UUID | None, Key(12)] = None
    offset_ms: Annotated[Milliseconds, Key(13)] = 0
    title: Annotated[Title | None, Key(14)] = None

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.latest_start_ms < self.starts_at_ms:
            raise ValueError("latest_start_ms lies before starts_at_ms")
        if self.content in (ContentKind.AUDIO, ContentKind.IMAGE, ContentKind.VIDEO) and self.media is None:
            raise ValueError(f"{self.content.name.lower()} needs media")
        if self.content in (ContentKind.TEXT, ContentKind.TICKER) and self.text is None:
            raise ValueError(f"{self.content.name.lower()} needs text")
        return self

    @property
    def ends_at_ms(self) -> int:
        """First instant at which the emission no longer sounds."""
        return self.starts_at_ms + self.duration_ms

    @property
    def reference(self) -> PlayReference:
        """Identity of the emission on its device."""
        return PlayReference(
            source=PlaySource.EMISSION, id=self.broadcast_id, occurrence_at_ms=self.occurrence_at_ms, item=self.item
        )


class Plan(DeviceOrder):
    """The programme of one device.

    Emissions are sorted by (start, broadcast, occurrence, item), identities are unique, and every media hash an
    emission names stands in `media` exactly once.
    """

    SIZE_LIMIT: ClassVar[int] = limits.PLAN_BYTES

    emissions: Annotated[tuple[Emission, ...], Key(10), Field(max_length=limits.MAX_EMISSIONS)] = ()
    media: Annotated[tuple[MediaReference, ...], Key(11), Field(max_length=limits.MAX_EMISSIONS)] = ()

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        order = [(e.starts_at_ms, e.broadcast_id.bytes, e.occurrence_at_ms, e.item) for e in self.emissions]
        if order != sorted(order):
            raise ValueError("emissions must be sorted by start, broadcast, occurrence and item")
        if len({(e.broadcast_id, e.occurrence_at_ms, e.item) for e in self.emissions}) != len(order):
            raise ValueError("two emissions share an identity")
        if missing := {e.media for e in self.emissions if e.media} - {m.sha256 for m in self.media}:
            raise ValueError(f"{len(missing)} media hashes are named by emissions but not listed")
        if len({m.sha256 for m in self.media}) != len(self.media):
            raise ValueError("two media entries share a hash")
        return self
