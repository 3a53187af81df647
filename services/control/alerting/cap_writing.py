"""A CAP message as a document of CAP 1.2: the same bytes for the same message. Pure.

Parts stand in the order of the standard's schema; what is absent is left out. Times are written in UTC with the offset
that the standard gives UTC (`-00:00`, 3.3.2).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from xml.sax.saxutils import escape

from services.control.alerting.cap import NAMESPACE, WRITTEN, CapAlert, CapArea, CapInfo, CapResource, Named
from services.control.alerting.model import CapReference, Point


def write(alert: CapAlert) -> bytes:
    """The document, UTF-8."""
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<alert xmlns="{NAMESPACE}">',
        *_alert(alert),
        "</alert>",
        "",
    ]
    return "\n".join(lines).encode()


def instant(at: datetime) -> str:
    """A time as CAP writes it, whole seconds."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S-00:00")


def reference(referred: CapReference) -> str:
    """A message as others name it."""
    return f"{referred.sender},{referred.identifier},{instant(referred.sent)}"


def clean(text: str) -> str:
    """The text without what XML 1.0 cannot hold (section 2.2)."""
    return "".join(each for each in text if _may_stand(ord(each)))


def _may_stand(code: int) -> bool:
    return code in (0x9, 0xA, 0xD) or 0x20 <= code <= 0xD7FF or 0xE000 <= code <= 0xFFFD or code >= 0x10000


def _alert(alert: CapAlert) -> Iterator[str]:
    yield _element("identifier", alert.identifier)
    yield _element("sender", alert.sender)
    yield _element("sent", instant(alert.sent))
    yield _element("status", alert.status)
    yield _element("msgType", alert.message_type)
    yield from _maybe("source", alert.source)
    yield _element("scope", alert.scope)
    yield from _maybe("restriction", alert.restriction)
    yield from _maybe("addresses", _listed(alert.addresses))
    yield from (_element("code", each) for each in alert.codes)
    yield from _maybe("note", alert.note)
    yield from _maybe("references", " ".join(map(reference, alert.references)))
    yield from _maybe("incidents", _listed(alert.incidents))
    for info in alert.infos:
        yield from _block("info", _info(info))


def _info(info: CapInfo) -> Iterator[str]:
    yield _element("language", info.language)
    yield from (_element("category", WRITTEN[each]) for each in info.categories)
    yield _element("event", info.event)
    yield from (_element("responseType", each) for each in info.response_types)
    yield _element("urgency", WRITTEN[info.urgency])
    yield _element("severity", WRITTEN[info.severity])
    yield _element("certainty", WRITTEN[info.certainty])
    yield from _maybe("audience", info.audience)
    yield from _named("eventCode", info.event_codes)
    for name, at in (("effective", info.effective), ("onset", info.onset), ("expires", info.expires)):
        yield from _maybe(name, instant(at) if at is not None else None)
    yield from _maybe("senderName", info.sender_name)
    yield from _maybe("headline", info.headline)
    yield from _maybe("description", info.description)
    yield from _maybe("instruction", info.instruction)
    yield from _maybe("web", info.web)
    yield from _maybe("contact", info.contact)
    yield from _named("parameter", info.parameters)
    for resource in info.resources:
        yield from _block("resource", _resource(resource))
    for area in info.areas:
        yield from _block("area", _area(area))


def _resource(resource: CapResource) -> Iterator[str]:
    yield _element("resourceDesc", resource.description)
    yield _element("mimeType", resource.mime_type)
    yield from _maybe("size", str(resource.size) if resource.size is not None else None)
    yield from _maybe("uri", resource.uri)
    yield from _maybe("derefUri", resource.content)
    yield from _maybe("digest", resource.digest)


def _area(area: CapArea) -> Iterator[str]:
    yield _element("areaDesc", area.description)
    yield from (_element("polygon", " ".join(map(_point, corners))) for corners in area.polygons)
    yield from (_element("circle", f"{_point(each.centre)} {number(each.radius_km)}") for each in area.circles)
    yield from _named("geocode", area.geocodes)
    yield from _maybe("altitude", number(area.altitude) if area.altitude is not None else None)
    yield from _maybe("ceiling", number(area.ceiling) if area.ceiling is not None else None)


def _point(point: Point) -> str:
    return f"{number(point.latitude)},{number(point.longitude)}"


def number(value: float) -> str:
    """Digits and a point, never an exponent, as short as it can be without losing anything."""
    return format(Decimal(repr(float(value))), "f").removesuffix(".0")


def _named(name: str, values: Sequence[Named]) -> Iterator[str]:
    for each in values:
        yield from _block(name, iter((_element("valueName", each.name), _element("value", each.value))))


def _listed(words: Sequence[str]) -> str | None:
    return " ".join(f'"{each}"' if any(map(str.isspace, each)) else each for each in words) or None


def _maybe(name: str, text: str | None) -> Iterator[str]:
    if text:
        yield _element(name, text)


def _block(name: str, lines: Iterator[str]) -> Iterator[str]:
    yield f"<{name}>"
    yield from lines
    yield f"</{name}>"


def _element(name: str, text: str) -> str:
    # A carriage return that is meant would be read as a line feed otherwise.
    return f"<{name}>{escape(clean(text), {chr(13): '&#13;'})}</{name}>"
