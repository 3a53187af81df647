"""A CAP 1.2 document as a value, or everything that is wrong with it at once. Pure.

Held to the standard: mandatory elements, how often each may stand, lists of values, forms of times and shapes. Taken
although the standard words it otherwise, because the meaning is beyond doubt and feeds do it; each is *remarked*:

- elements in another order, and elements of other namespaces, which are passed over (the standard allows signatures);
- times that end in `Z` or hold fractions of a second; a time without an offset is refused, because nobody knows when it is;
- words of value lists in other letters (`actual`); numbers with blanks around the comma;
- polygons whose last corner is not their first; identifiers and senders with blanks, commas, `<` or `&`.

Optional elements that are empty count as absent. CAP 1.0 and 1.1 are refused by name.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from services.control.alerting import cap_xml
from services.control.alerting.cap import (
    DEFAULT_LANGUAGE,
    NAMESPACE,
    WRITTEN,
    CapAlert,
    CapArea,
    CapCircle,
    CapInfo,
    CapResource,
    MessageType,
    Named,
    ResponseType,
    Scope,
    Status,
)
from services.control.alerting.cap_xml import BadXml, Element
from services.control.alerting.model import CapReference, Category, Certainty, Point, Severity, Urgency
from services.control.errors import Fault

MAX_NAME = 500  # characters of an identifier or a sender
MAX_TEXT = 100_000  # characters of any text but a file's
MAX_INFOS = 64
MAX_CORNERS = 100_000  # of one polygon; some services send coasts
MAX_FAULTS = 20  # told at once
_MAX_QUOTED = 80

_OLD_NAMESPACES = {
    "urn:oasis:names:tc:emergency:cap:1.1": "1.1",
    "http://www.incident.com/cap/1.0": "1.0",
}
_INSTANT = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(\.\d{1,9})?(Z|z|[-+]\d\d:\d\d)?",
)
_NUMBER = r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d{1,2})?"
_PAIR = re.compile(rf"({_NUMBER})\s*,\s*({_NUMBER})")
_CIRCLE = re.compile(rf"({_NUMBER})\s*,\s*({_NUMBER})\s+({_NUMBER})")
# RFC 3066, as xs:language has it.
_LANGUAGE = re.compile(r"[A-Za-z]{1,8}(-[A-Za-z0-9]{1,8})*")
_FORBIDDEN_IN_NAMES = re.compile(r"[\s,<&]")

Word = TypeVar("Word", bound=enum.StrEnum)
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a document says. `alert` is None where there are `faults`; `remarks` are oddities that were taken as meant."""

    alert: CapAlert | None = None
    faults: tuple[Fault, ...] = ()
    remarks: tuple[Fault, ...] = ()


def parse(data: bytes) -> Reading:
    """What the document says, or what is wrong with it: at most `MAX_FAULTS`, the first ones."""
    try:
        tree = cap_xml.read(data, namespace=NAMESPACE, root="alert")
    except BadXml as bad:
        return Reading(faults=(_fault_of(bad),))
    notes = _Notes()
    for name in tree.foreign:
        notes.remark("alert", "cap_foreign_element", name=name)
    alert = _alert(_Reader(tree.root, "alert", notes))
    return Reading(
        alert=alert if not notes.faults else None,
        faults=tuple(notes.faults[:MAX_FAULTS]),
        remarks=tuple(notes.remarks[:MAX_FAULTS]),
    )


def _fault_of(bad: BadXml) -> Fault:
    version = _OLD_NAMESPACES.get(str(bad.facts.get("namespace")))
    if version is not None:
        return Fault("alert", "cap_old_version", {"version": version})
    return Fault("file", bad.flaw.value, bad.facts)


class _Notes:
    """What is found while reading."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.remarks: list[Fault] = []

    def fault(self, field: str, code: str, **facts: object) -> None:
        self.faults.append(Fault(field, code, facts))

    def remark(self, field: str, code: str, **facts: object) -> None:
        self.remarks.append(Fault(field, code, facts))


class _Reader:
    """Reads the parts of one element, each by its name, and knows where it stands."""

    def __init__(self, element: Element, field: str, notes: _Notes) -> None:
        self._element = element
        self._asked: list[str] = []
        self.field = field
        self.notes = notes

    def path(self, name: str) -> str:
        return f"{self.field}.{name}"

    def one(self, name: str, read: Callable[[_Reader, str, str], Value | None]) -> Value | None:
        """A part that must stand there once."""
        found = self._elements(name)
        if not found or not found[0].text:
            self.notes.fault(self.path(name), "cap_missing", name=name)
            return None
        return self._read_first(name, found, read)

    def maybe(self, name: str, read: Callable[[_Reader, str, str], Value | None]) -> Value | None:
        """A part that may stand there, once; empty is absent."""
        found = self._elements(name)
        if not found or not found[0].text:
            return None
        return self._read_first(name, found, read)

    def several(self, name: str, read: Callable[[_Reader, str, str], Value | None]) -> tuple[Value, ...]:
        """Parts that may stand there any number of times; empty ones are absent."""
        found = self._elements(name)
        values = (
            read(self, f"{self.path(name)}[{number}]", each.text) for number, each in enumerate(found) if each.text
        )
        return tuple(value for value in values if value is not None)

    def within(self, name: str) -> Iterator[_Reader]:
        """The elements of that name, each to be read in turn."""
        for number, each in enumerate(self._elements(name)):
            yield _Reader(each, f"{self.path(name)}[{number}]", self.notes)

    def finish(self) -> None:
        """Name what stands here that nobody asked for, and tell when the order is another."""
        order = {name: place for place, name in enumerate(self._asked)}
        for child in self._element.children:
            if child.name not in order:
                self.notes.fault(self.field, "cap_unknown_element", name=child.name[:64], line=child.line)
        places = [order[child.name] for child in self._element.children if child.name in order]
        if places != sorted(places):
            self.notes.remark(self.field, "cap_other_order")

    def _elements(self, name: str) -> list[Element]:
        self._asked.append(name)
        return list(self._element.all(name))

    def _read_first(
        self, name: str, found: list[Element], read: Callable[[_Reader, str, str], Value | None]
    ) -> Value | None:
        if len(found) > 1:
            self.notes.fault(self.path(name), "cap_repeated", name=name)
        return read(self, self.path(name), found[0].text)


# --- the parts ---------------------------------------------------------------------------------------------------------


def _alert(reader: _Reader) -> CapAlert | None:
    identifier = reader.one("identifier", _name)
    sender = reader.one("sender", _name)
    sent = reader.one("sent", _instant)
    status = reader.one("status", _word(Status))
    message_type = reader.one("msgType", _word(MessageType))
    source = reader.maybe("source", _text)
    scope = reader.one("scope", _word(Scope))
    restriction = reader.maybe("restriction", _text)
    addresses = reader.maybe("addresses", _listed)
    codes = reader.several("code", _text)
    note = reader.maybe("note", _text)
    # A new alert means the same without the messages it names; an update or a cancel means nothing.
    names_others = message_type in (MessageType.UPDATE, MessageType.CANCEL)
    references = reader.maybe("references", _references if names_others else _references_by_the_way)
    incidents = reader.maybe("incidents", _listed)
    infos = _infos(reader)
    reader.finish()
    _check_scope(reader, scope, restriction, addresses)
    if identifier is None or sender is None or sent is None or status is None or message_type is None or scope is None:
        return None
    return CapAlert(
        identifier=identifier,
        sender=sender,
        sent=sent,
        status=status,
        message_type=message_type,
        source=source,
        scope=scope,
        restriction=restriction,
        addresses=addresses or (),
        codes=codes,
        note=note,
        references=references or (),
        incidents=incidents or (),
        infos=infos,
    )


def _check_scope(
    reader: _Reader, scope: Scope | None, restriction: str | None, addresses: tuple[str, ...] | None
) -> None:
    """Conditional parts (3.2.1): a restricted message says how, a private one to whom."""
    if scope is Scope.RESTRICTED and restriction is None:
        reader.notes.fault(reader.path("restriction"), "cap_missing", name="restriction")
    if scope is Scope.PRIVATE and not addresses:
        reader.notes.fault(reader.path("addresses"), "cap_missing", name="addresses")


def _infos(reader: _Reader) -> tuple[CapInfo, ...]:
    infos = []
    for number, each in enumerate(reader.within("info")):
        if number >= MAX_INFOS:
            reader.notes.fault(reader.path("info"), "cap_too_many", limit=MAX_INFOS, name="info")
            break
        info = _info(each)
        if info is not None:
            infos.append(info)
    return tuple(infos)


def _info(reader: _Reader) -> CapInfo | None:
    language = reader.maybe("language", _language) or DEFAULT_LANGUAGE
    categories = reader.several("category", _word(Category))
    event = reader.one("event", _text)
    response_types = reader.several("responseType", _word(ResponseType))
    urgency = reader.one("urgency", _word(Urgency))
    severity = reader.one("severity", _word(Severity))
    certainty = reader.one("certainty", _word(Certainty))
    audience = reader.maybe("audience", _text)
    event_codes = _named(reader, "eventCode")
    effective = reader.maybe("effective", _instant)
    onset = reader.maybe("onset", _instant)
    expires = reader.maybe("expires", _instant)
    sender_name = reader.maybe("senderName", _text)
    headline = reader.maybe("headline", _text)
    description = reader.maybe("description", _text)
    instruction = reader.maybe("instruction", _text)
    web = reader.maybe("web", _text)
    contact = reader.maybe("contact", _text)
    parameters = _named(reader, "parameter")
    resources = tuple(each for each in map(_resource, reader.within("resource")) if each is not None)
    areas = tuple(each for each in map(_area, reader.within("area")) if each is not None)
    if not categories and not any(fault.field.startswith(reader.path("category")) for fault in reader.notes.faults):
        reader.notes.fault(reader.path("category"), "cap_missing", name="category")
    reader.finish()
    if event is None or urgency is None or severity is None or certainty is None:
        return None
    return CapInfo(
        language=language,
        categories=categories,
        event=event,
        response_types=response_types,
        urgency=urgency,
        severity=severity,
        certainty=certainty,
        audience=audience,
        event_codes=event_codes,
        effective=effective,
        onset=onset,
        expires=expires,
        sender_name=sender_name,
        headline=headline,
        description=description,
        instruction=instruction,
        web=web,
        contact=contact,
        parameters=parameters,
        resources=resources,
        areas=areas,
    )


def _named(reader: _Reader, name: str) -> tuple[Named, ...]:
    found = []
    for each in reader.within(name):
        called = each.one("valueName", _text)
        value = each.maybe("value", _text)
        each.finish()
        if called is not None:
            found.append(Named(name=called, value=value or ""))
    return tuple(found)


def _resource(reader: _Reader) -> CapResource | None:
    description = reader.one("resourceDesc", _text)
    mime_type = reader.one("mimeType", _text)
    size = reader.maybe("size", _size)
    uri = reader.maybe("uri", _text)
    content = reader.maybe("derefUri", _anything)
    digest = reader.maybe("digest", _text)
    reader.finish()
    if description is None or mime_type is None:
        return None
    return CapResource(description=description, mime_type=mime_type, size=size, uri=uri, content=content, digest=digest)


def _area(reader: _Reader) -> CapArea | None:
    description = reader.one("areaDesc", _text)
    polygons = reader.several("polygon", _polygon)
    circles = reader.several("circle", _circle)
    geocodes = tuple(each for each in _named(reader, "geocode") if each.value)
    altitude = reader.maybe("altitude", _number)
    ceiling = reader.maybe("ceiling", _number)
    reader.finish()
    if ceiling is not None and altitude is None:
        reader.notes.remark(reader.path("ceiling"), "cap_ceiling_alone")
    if description is None:
        return None
    return CapArea(
        description=description,
        polygons=polygons,
        circles=circles,
        geocodes=geocodes,
        altitude=altitude,
        ceiling=ceiling,
    )


# --- the values --------------------------------------------------------------------------------------------------------


def _anything(_: _Reader, __: str, text: str) -> str:
    return text


def _text(reader: _Reader, field: str, text: str) -> str | None:
    if len(text) > MAX_TEXT:
        reader.notes.fault(field, "text_too_long", limit=MAX_TEXT)
        return None
    return text


def _name(reader: _Reader, field: str, text: str) -> str | None:
    """An identifier or a sender: what `references` of other messages are made of (3.2.1)."""
    if len(text) > MAX_NAME:
        reader.notes.fault(field, "text_too_long", limit=MAX_NAME)
        return None
    if _FORBIDDEN_IN_NAMES.search(text):
        reader.notes.remark(field, "cap_name_malformed", value=_quoted(text))
    return text


def _language(reader: _Reader, field: str, text: str) -> str | None:
    if _LANGUAGE.fullmatch(text) is None:
        reader.notes.fault(field, "cap_language_malformed", value=_quoted(text))
        return None
    return text


def _word(words: type[Word]) -> Callable[[_Reader, str, str], Word | None]:
    written: Mapping[str, Word] = {WRITTEN.get(each, each.value): each for each in words}
    folded = {text.casefold(): each for text, each in written.items()}

    def read(reader: _Reader, field: str, text: str) -> Word | None:
        word = written.get(text)
        if word is None and (word := folded.get(text.casefold())) is not None:
            reader.notes.remark(field, "cap_other_letters", value=_quoted(text))
        if word is None:
            reader.notes.fault(field, "cap_not_listed", value=_quoted(text), expected=", ".join(written))
        return word

    return read


def _instant(reader: _Reader, field: str, text: str) -> datetime | None:
    match = _INSTANT.fullmatch(text)
    if match is None:
        reader.notes.fault(field, "cap_time_malformed", value=_quoted(text))
        return None
    fraction, offset = match[7], match[8]
    if offset is None:
        reader.notes.fault(field, "cap_time_without_offset", value=_quoted(text))
        return None
    if fraction or offset in "Zz":
        reader.notes.remark(field, "cap_time_other_form", value=_quoted(text))
    try:
        # Whole seconds, as the standard writes them: what is exported again then names the same instant.
        return datetime.fromisoformat(text[:19] + ("+00:00" if offset in ("Z", "z", "-00:00") else offset)).astimezone(
            UTC
        )
    except (ValueError, OverflowError):
        reader.notes.fault(field, "cap_time_malformed", value=_quoted(text))
        return None


def _listed(_: _Reader, __: str, text: str) -> tuple[str, ...]:
    """Words between blanks; what holds blanks itself stands in quotation marks."""
    return tuple(quoted or plain for quoted, plain in re.findall(r'"([^"]*)"|(\S+)', text) if quoted or plain)


def _references(reader: _Reader, field: str, text: str) -> tuple[CapReference, ...]:
    """`sender,identifier,sent` between blanks."""
    found: dict[CapReference, None] = {}
    for number, each in enumerate(text.split()):
        sender, comma, rest = each.strip(",").partition(",")
        identifier, other_comma, sent_text = rest.rpartition(",")
        where = f"{field}[{number}]"
        if not (comma and other_comma and sender and identifier):
            reader.notes.fault(where, "cap_reference_malformed", value=_quoted(each))
            continue
        sent = _instant(reader, where, sent_text)
        if sent is not None:
            found[CapReference(sender=sender, identifier=identifier, sent=sent)] = None
    return tuple(found)


def _references_by_the_way(reader: _Reader, field: str, text: str) -> tuple[CapReference, ...]:
    """The same of a message that does not rest on them: those that cannot be read are remarked and left out."""
    aside = _Notes()
    found = _references(_Reader(Element("references", 0), field, aside), field, text)
    reader.notes.remarks.extend(aside.faults + aside.remarks)
    return found


def _size(reader: _Reader, field: str, text: str) -> int | None:
    if re.fullmatch(r"\+?\d{1,15}", text) is None:
        reader.notes.fault(field, "cap_number_malformed", value=_quoted(text))
        return None
    return int(text)


def _number(reader: _Reader, field: str, text: str) -> float | None:
    if re.fullmatch(_NUMBER, text) is None:
        reader.notes.fault(field, "cap_number_malformed", value=_quoted(text))
        return None
    return float(text)


def _polygon(reader: _Reader, field: str, text: str) -> tuple[Point, ...] | None:
    """At least four `latitude,longitude`, the last one the first (3.2.4)."""
    corners: list[Point] = []
    end = 0
    for match in _PAIR.finditer(text):
        if text[end : match.start()].strip():
            break
        end = match.end()
        point = _point(reader, field, match[1], match[2])
        if point is None:
            return None
        corners.append(point)
        if len(corners) > MAX_CORNERS:
            reader.notes.fault(field, "cap_too_many", limit=MAX_CORNERS, name="corner")
            return None
    if text[end:].strip() or not corners:
        reader.notes.fault(field, "cap_polygon_malformed", value=_quoted(text[end:].strip() or text))
        return None
    if corners[0] != corners[-1]:
        reader.notes.remark(field, "cap_polygon_open")
        corners.append(corners[0])
    if len(set(corners)) < 3:
        reader.notes.fault(field, "cap_polygon_too_few")
        return None
    return tuple(corners)


def _circle(reader: _Reader, field: str, text: str) -> CapCircle | None:
    """`latitude,longitude radius`, in kilometres (3.2.4)."""
    match = _CIRCLE.fullmatch(text)
    radius = float(match[3]) if match is not None else -1.0
    if match is None or radius < 0:
        reader.notes.fault(field, "cap_circle_malformed", value=_quoted(text))
        return None
    centre = _point(reader, field, match[1], match[2])
    return CapCircle(centre=centre, radius_km=radius) if centre is not None else None


def _point(reader: _Reader, field: str, latitude_text: str, longitude_text: str) -> Point | None:
    latitude, longitude = float(latitude_text), float(longitude_text)
    if abs(latitude) > 90 or abs(longitude) > 180:
        reader.notes.fault(field, "cap_point_nowhere", value=f"{latitude_text},{longitude_text}"[:_MAX_QUOTED])
        return None
    return Point(latitude=latitude, longitude=longitude)


def _quoted(text: str) -> str:
    return text if len(text) <= _MAX_QUOTED else text[: _MAX_QUOTED - 1] + "…"
