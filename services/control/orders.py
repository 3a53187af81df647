"""From programme to signed orders: the edge where values of planning become messages of the wire. Pure.

An order is a plan or a configuration for one device. Whether it has to be issued is a comparison of content hashes,
which cover what the device is told and neither serial nor times of issue.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from schemas import codec, limits
from schemas.configuration import Configuration, Fallback, Ownership, Position
from schemas.errors import EncodeError
from schemas.fields import DeviceKind
from schemas.identifiers import DeviceId, UnitId
from schemas.orders import MediaReference, Order
from schemas.plans import Emission, Plan, RelayReference
from services.control.planning.model import DeviceNo, Media, RelaySource, Slot, to_ms

# Orders are valid from a little before their issue, because devices' clocks may be a little behind ours.
BACKDATE = timedelta(minutes=5)
# Plans are signed again in the course of a day after they become due, each device at its own time of it.
RENEWAL_SPREAD = timedelta(days=1)
# Longer texts do not fit the wire; the API refuses them, and what got past it is shown as far as it goes.
TITLE_LENGTH = 200
TEXT_LENGTH = 2_000
MAX_HEARTBEAT_S = 86_400
MAX_MEMBERSHIP = 16  # deeper trees than the wire can say are refused at import
_KNUTH = 2_654_435_761  # multiplicative hashing: consecutive numbers end up far apart

Sign = Callable[[Order], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Addressee:
    """A device as it is configured. `principal` is who receives for it: itself or its gateway."""

    device_no: DeviceNo
    device_id: DeviceId
    kind: DeviceKind
    principal: DeviceId
    unit_id: UnitId
    ownership: Ownership
    volume_percent: int
    volume_cap_percent: int
    heartbeat_interval: timedelta
    latitude: float | None = None
    longitude: float | None = None
    is_retired: bool = False
    fallback: Fallback | None = None  # what sounds when its plan has run out
    alert_media: tuple[MediaReference, ...] = ()  # sounds of prepared alerts, which it keeps always


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedOrder:
    """A message for a device and what is kept beside it."""

    message: bytes
    valid_until: datetime
    emissions: int = 0


def media_path(sha256: bytes) -> str:
    """Where a media file is found, relative to the media base of the configuration."""
    return f"media/{sha256.hex()}"


def sign_plan(
    device_id: DeviceId,
    slots: Sequence[Slot],
    *,
    serial: int,
    issued_at: datetime,
    valid_until: datetime,
    sign: Sign,
    wire: Callable[[Slot], Emission],
) -> SignedOrder:
    """Return the signed plan that holds `slots`, which are sorted by `Slot.order`.

    What does not fit a plan's limits of count and size is left out from the end, and the plan ends before it: it then
    becomes due for renewal that much earlier.
    """
    count = min(len(slots), limits.MAX_EMISSIONS)
    while True:
        until = valid_until if count == len(slots) else max(slots[count].starts_at, issued_at + BACKDATE)
        some = slots[:count]
        plan = Plan(
            device=device_id,
            serial=serial,
            issued_at_ms=to_ms(issued_at),
            valid_from_ms=to_ms(issued_at - BACKDATE),
            valid_until_ms=to_ms(until),
            emissions=tuple(wire(slot) for slot in some),
            media=media_references(some),
        )
        try:
            return SignedOrder(message=sign(plan), valid_until=until, emissions=count)
        except EncodeError:
            if count == 0:
                raise
            count //= 2


def wire_emission(slot: Slot) -> Emission:
    """Return the slot as devices read it."""
    return Emission(
        broadcast_id=slot.broadcast_id,
        occurrence_at_ms=to_ms(slot.occurrence_at),
        item=slot.item,
        starts_at_ms=to_ms(slot.starts_at),
        duration_ms=to_ms(slot.ends_at) - to_ms(slot.starts_at),
        latest_start_ms=to_ms(slot.latest_start_at),
        rank=slot.rank,
        content=slot.content,
        media=slot.media.sha256 if slot.media is not None else None,
        text=slot.text[:TEXT_LENGTH] if slot.text is not None else None,
        volume_percent=slot.volume_percent,
        resume=slot.resume,
        bulletin_id=slot.bulletin_id,
        title=slot.title[:TITLE_LENGTH] or None,
        relay=_wire_relay(slot.relay) if slot.relay is not None else None,
        fallback=slot.relay.fallback.sha256 if slot.relay is not None and slot.relay.fallback is not None else None,
    )


def _wire_relay(source: RelaySource) -> RelayReference:
    return RelayReference(source_id=source.source_id, path=source.path, url=source.url)


def media_references(slots: Iterable[Slot]) -> tuple[MediaReference, ...]:
    """Return each media file that the slots name, also to fall back on, once, in order of hashes."""
    files: dict[bytes, Media] = {media.sha256: media for slot in slots for media in _media(slot)}
    return tuple(media_reference(files[sha256]) for sha256 in sorted(files))


def _media(slot: Slot) -> Iterator[Media]:
    if slot.media is not None:
        yield slot.media
    if slot.relay is not None and slot.relay.fallback is not None:
        yield slot.relay.fallback


def media_reference(media: Media) -> MediaReference:
    """Return a media file as devices read of it."""
    return MediaReference(
        sha256=media.sha256,
        size=media.size,
        mime=media.mime,
        path=media_path(media.sha256),
        duration_ms=media.duration // timedelta(milliseconds=1) if media.duration is not None else None,
    )


def plan_hash(fingerprints: Iterable[bytes]) -> bytes:
    """Return the content hash of a plan from the fingerprints of its slots, in whatever order they come."""
    return hashlib.sha256(b"".join(sorted(fingerprints))).digest()


def configuration(
    addressee: Addressee,
    membership: Sequence[UnitId],
    media_base_url: str,
    *,
    serial: int,
    issued_at: datetime,
    valid_for: timedelta,
) -> Configuration:
    """Return what a device shall go by until the next configuration."""
    position = None
    if addressee.latitude is not None and addressee.longitude is not None:
        position = Position(
            latitude_e6=round(addressee.latitude * 1_000_000), longitude_e6=round(addressee.longitude * 1_000_000)
        )
    return Configuration(
        device=addressee.device_id,
        serial=serial,
        issued_at_ms=to_ms(issued_at),
        valid_from_ms=to_ms(issued_at - BACKDATE),
        valid_until_ms=to_ms(issued_at + valid_for),
        volume_percent=addressee.volume_percent,
        volume_cap_percent=addressee.volume_cap_percent,
        heartbeat_interval_s=min(max(1, round(addressee.heartbeat_interval.total_seconds())), MAX_HEARTBEAT_S),
        membership=tuple(membership[:MAX_MEMBERSHIP]),
        media_base_url=media_base_url.rstrip("/"),
        ownership=addressee.ownership,
        position=position,
        fallback=addressee.fallback,
        alert_media=addressee.alert_media,
    )


def configuration_hash(content: Configuration) -> bytes:
    """Return the content hash of a configuration: of everything but its serial and its times."""
    bare = content.model_copy(update={"serial": 0, "issued_at_ms": 0, "valid_from_ms": 0, "valid_until_ms": 1})
    return hashlib.sha256(codec.encode(bare)).digest()


def renew_plan_at(
    device_no: DeviceNo, *, issued_at: datetime, valid_until: datetime, renew_left: timedelta
) -> datetime:
    """Return when a plan is to be signed again: with about `renew_left` to go, each device at its own time.

    A plan that was cut short is renewed half-way through.
    """
    share = (device_no * _KNUTH % 2**32) / 2**32
    due_at = valid_until - renew_left + min(RENEWAL_SPREAD, renew_left / 3) * share
    return max(due_at, issued_at + (valid_until - issued_at) / 2)
