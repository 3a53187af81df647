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


class RelayReference(Record):
    """Where the sound of a relay comes from (R-21).

    `path` is relative to the media base of the configuration and leads to the signed list of the source's segments at
    the province's relay point. `url` is a source the device takes directly (FM gateway, foreign stream): nobody signs
    what it says, so it is allowed by policy only. Exactly one of the two.
    """

    source_id: Annotated[uuid.UUID, Key(0)]
    path: Annotated[str | None, Key(1), Field(pattern=r"^[A-Za-z0-9._~-][A-Za-z0-9._~/-]{0,199}$")] = None
    url: Annotated[str | None, Key(2), Field(pattern=r"^(https?|fm)://[!-~]{1,192}$")] = None

    @model_validator(mode="after")
    def _is_one_thing(self) -> Self:
        if (self.path is None) == (self.url is None):
            raise ValueError("a relay has either a path at the relay point or a url of its own")
        return self

    @property
    def is_authenticated(self) -> bool:
        """Whether what it says is signed."""
        return self.path is not None


class Emission(Record):
    """One item of one occurrence on this device.

    Sounds in [`starts_at_ms`, `starts_at_ms + duration_ms`); a device that is ready later joins in progress, but not
    after `latest_start_ms`. `offset_ms` is where in the media the emission begins. Audio, image and video need `media`,
    text and ticker need `text`, a relay needs `relay`. `volume_percent` overrides the configuration's, below the same
    cap. `fallback` is the media that fills in while the source of a relay is silent or cannot be reached.
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
    relay: Annotated[RelayReference | None, Key(15)] = None
    fallback: Annotated[Sha256 | None, Key(16)] = None

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.latest_start_ms < self.starts_at_ms:
            raise ValueError("latest_start_ms lies before starts_at_ms")
        if self.content in (ContentKind.AUDIO, ContentKind.IMAGE, ContentKind.VIDEO) and self.media is None:
            raise ValueError(f"{self.content.name.lower()} needs media")
        if self.content in (ContentKind.TEXT, ContentKind.TICKER) and self.text is None:
            raise ValueError(f"{self.content.name.lower()} needs text")
        if self.content is ContentKind.RELAY and self.relay is None:
            raise ValueError("relay needs relay")
        if self.content is not ContentKind.RELAY and self.relay is not None:
            raise ValueError("only a relay has a source")
        if self.fallback is not None and self.relay is None:
            raise ValueError("only a relay has a fallback")
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
        named = {sha256 for e in self.emissions for sha256 in (e.media, e.fallback) if sha256}
        if missing := named - {m.sha256 for m in self.media}:
            raise ValueError(f"{len(missing)} media hashes are named by emissions but not listed")
        if len({m.sha256 for m in self.media}) != len(self.media):
            raise ValueError("two media entries share a hash")
        return self
