"""Whether an alert can be issued as somebody wants it: every fault at once, with its field. Pure and quick.

What stands here is asked while an emergency waits, so nothing is looked up that the alert does not name, and no device is
counted: whom it reaches is found out after it is on its way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from schemas.alerts import Purpose
from schemas.identifiers import DeviceId, UnitId
from services.control.alerting.model import (
    LONGEST,
    LONGEST_SILENCE,
    MAX_AREAS,
    MAX_CORNERS,
    MAX_NAMED,
    MAX_RADIUS_M,
    MAX_REFERENCES,
    MAX_SHAPES,
    MAX_TEXTS,
    MAX_UNITS,
    SHORTEST,
    AlertDraft,
    AreaWish,
    AudienceWish,
    Point,
    Polygon,
)
from services.control.errors import Fault
from services.control.planning.model import Media
from services.control.units import UnitTree

SPOKEN = (Purpose.ALERT, Purpose.AUDIBLE_TEST)
KINDS = ("cluster", "board")
_LONGEST_INTERVAL = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedDevice:
    """A device that an alert names, as the registry knows it."""

    device_id: DeviceId
    unit_id: UnitId
    kind: str
    is_retired: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What was looked up of what the draft names."""

    tree: UnitTree
    devices: Mapping[DeviceId, NamedDevice]
    media: Mapping[bytes, Media]


def faults_of(draft: AlertDraft, known: Known, *, now: datetime) -> tuple[Fault, ...]:
    """Everything that stands against issuing the draft, in the order of its fields."""
    return tuple(_faults(draft, known, now=now))


def _faults(draft: AlertDraft, known: Known, *, now: datetime) -> Iterator[Fault]:
    if not known.tree.stands(draft.unit_id):
        yield Fault("unit_id", "unknown_unit", {"unit": str(draft.unit_id)})
    yield from _text_faults(draft, known)
    yield from audience_faults(draft.audience, known)
    yield from _time_faults(draft, now=now)
    if len(draft.references) > MAX_REFERENCES:
        yield Fault("references", "too_many", {"limit": MAX_REFERENCES})


def _text_faults(draft: AlertDraft, known: Known) -> Iterator[Fault]:
    texts = draft.texts
    if len(texts) > MAX_TEXTS:
        yield Fault("texts", "too_many", {"limit": MAX_TEXTS})
    if draft.purpose not in SPOKEN:
        return
    if not texts:
        yield Fault("texts", "alert_says_nothing")
    seen: set[str] = set()
    for place, text in enumerate(texts):
        if text.language.lower() in seen:
            yield Fault(f"texts[{place}].language", "language_twice", {"language": text.language})
        seen.add(text.language.lower())
        if text.media_sha256 is None:
            continue
        media = known.media.get(text.media_sha256)
        if media is None:
            yield Fault(f"texts[{place}].media_sha256", "unknown_media", {"sha256": text.media_sha256.hex()})
    # A board shows text, but a cluster is silent without a file: an alert that nobody hears would count as sent.
    is_for_clusters = draft.audience.kinds != ("board",)
    sounds = (known.media.get(text.media_sha256) for text in texts if text.media_sha256 is not None)
    if texts and is_for_clusters and not any(media is not None and media.mime.startswith("audio/") for media in sounds):
        yield Fault("texts", "alert_without_sound")


def audience_faults(wish: AudienceWish, known: Known) -> Iterator[Fault]:
    """What is wrong with whom somebody wants to reach."""
    if not wish.areas and not wish.devices:
        yield Fault("audience", "nobody_addressed")
    if len(wish.areas) > MAX_AREAS:
        yield Fault("audience.areas", "too_many", {"limit": MAX_AREAS})
    if len(wish.units) > MAX_UNITS:
        yield Fault("audience.areas", "too_many", {"limit": MAX_UNITS})
    for place, area in enumerate(wish.areas):
        yield from _area_faults(area, known.tree, f"audience.areas[{place}]")
    yield from _device_faults(wish.devices, known, "audience.devices")
    yield from _unit_faults(wish.except_units, known.tree, "audience.except_units")
    yield from _device_faults(wish.except_devices, known, "audience.except_devices")
    for place, kind in enumerate(wish.kinds):
        if kind not in KINDS:
            yield Fault(f"audience.kinds[{place}]", "not_one_of", {"expected": " | ".join(KINDS)})


def _area_faults(area: AreaWish, tree: UnitTree, field: str) -> Iterator[Fault]:
    if not area.units:
        yield Fault(f"{field}.units", "too_few", {"limit": 1})
    yield from _unit_faults(area.units, tree, f"{field}.units", most=MAX_UNITS)
    for name, shapes in (("polygons", area.polygons), ("circles", area.circles)):
        if len(shapes) > MAX_SHAPES:
            yield Fault(f"{field}.{name}", "too_many", {"limit": MAX_SHAPES})
    for place, polygon in enumerate(area.polygons):
        yield from _polygon_faults(polygon, f"{field}.polygons[{place}]")
    for place, circle in enumerate(area.circles):
        yield from _point_faults(circle.centre, f"{field}.circles[{place}].centre")
        if not 1 <= circle.radius_m <= MAX_RADIUS_M:
            code, limit = ("number_too_small", 1) if circle.radius_m < 1 else ("number_too_large", MAX_RADIUS_M)
            yield Fault(f"{field}.circles[{place}].radius_m", code, {"limit": limit})


def _polygon_faults(polygon: Polygon, field: str) -> Iterator[Fault]:
    for place, corner in enumerate(polygon):
        yield from _point_faults(corner, f"{field}[{place}]")
    if len(polygon) > MAX_CORNERS:
        yield Fault(field, "too_many", {"limit": MAX_CORNERS})
    if len(set(polygon)) < 3:
        yield Fault(field, "polygon_without_inside")


def _point_faults(point: Point, field: str) -> Iterator[Fault]:
    if not (-90 <= point.latitude <= 90 and -180 <= point.longitude <= 180):
        yield Fault(field, "not_a_position")


def _unit_faults(units: Iterable[UnitId], tree: UnitTree, field: str, *, most: int = MAX_NAMED) -> Iterator[Fault]:
    named = tuple(units)
    if len(named) > most:
        yield Fault(field, "too_many", {"limit": most})
    for place, unit in enumerate(named):
        # Closed units are no ground of today: devices know themselves by the units that stand.
        if not tree.stands(unit):
            yield Fault(f"{field}[{place}]", "unknown_unit", {"unit": str(unit)})


def _device_faults(devices: tuple[DeviceId, ...], known: Known, field: str) -> Iterator[Fault]:
    if len(devices) > MAX_NAMED:
        yield Fault(field, "too_many", {"limit": MAX_NAMED})
    for place, device_id in enumerate(devices):
        device = known.devices.get(device_id)
        if device is None:
            yield Fault(f"{field}[{place}]", "unknown_device", {"id": device_id})
        elif device.is_retired:
            yield Fault(f"{field}[{place}]", "device_retired", {"id": device_id})
        elif device.kind not in KINDS:
            yield Fault(f"{field}[{place}]", "device_neither_sounds_nor_shows", {"id": device_id})


def _time_faults(draft: AlertDraft, *, now: datetime) -> Iterator[Fault]:
    longest = LONGEST_SILENCE if draft.purpose is Purpose.SILENCE else LONGEST
    if draft.valid_until < now + SHORTEST:
        yield Fault("valid_until", "alert_over_at_once", {"seconds": int(SHORTEST.total_seconds())})
    elif draft.valid_until > now + longest:
        yield Fault("valid_until", "instant_too_late", {"latest": (now + longest).isoformat(timespec="minutes")})
    interval = draft.repeat_interval
    if interval is None:
        return
    if draft.purpose is not Purpose.ALERT:
        yield Fault("repeat_interval_s", "only_alerts_repeat")
    elif not timedelta(seconds=1) <= interval <= _LONGEST_INTERVAL:
        yield Fault("repeat_interval_s", "number_too_large", {"limit": int(_LONGEST_INTERVAL.total_seconds())})
