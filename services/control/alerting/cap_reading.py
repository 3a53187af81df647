"""A CAP 1.2 document as a value, or everything that is wrong with it at once. Pure.

Held to the standard: mandatory elements, how often each may stand, lists of values, forms of times and shapes. Taken
although the standard words it otherwise, because the meaning is beyond doubt and feeds do it; each is *remarked*:

- elements in another order, and elements of other namespaces, which are passed over (the standard allows signatures);
- times that end in `Z`, hold fractions of a second or no seconds, `+0700`, `24:00:00`; a time without an offset is refused,
  because nobody knows when it is;
- words of value lists in other letters (`actual`), `Very Likely`, `vi_VN`; numbers with blanks around the comma;
- polygons whose last corner is not their first, or that surround nothing, which are left out; identifiers and senders with
  blanks, commas, `<` or `&`; areas without a name that say by shapes or codes where they are;
- a message among those that it refers to itself, as services do that list all of an event; to itself alone is refused later;
- elements within a text (`<b>`): all words are read, in their order, because one left out may be the *not*;
- whatever is wrong with parts that nothing here rests on, such as files, parameters, heights: those are left out.

Optional elements that are empty count as absent. CAP 1.0 and 1.1 are refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from services.control.alerting import cap_values, cap_xml
from services.control.alerting.cap import (
    DEFAULT_LANGUAGE,
    NAMESPACE,
    CapAlert,
    CapArea,
    CapInfo,
    CapResource,
    MessageType,
    Named,
    ResponseType,
    Scope,
    Status,
)
from services.control.alerting.cap_values import Aside, Notes
from services.control.alerting.cap_xml import BadXml, Element
from services.control.alerting.model import Category, Certainty, Severity, Urgency
from services.control.errors import Fault

MAX_INFOS = 64
MAX_FAULTS = 20  # told at once

_OLD_NAMESPACES = {
    "urn:oasis:names:tc:emergency:cap:1.1": "1.1",
    "http://www.incident.com/cap/1.0": "1.0",
}

Value = TypeVar("Value")
# Takes notes, the place and the text of an element.
Read = Callable[[Notes, str, str], Value | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a document says. `alert` is None where there are `faults`; `remarks` are oddities that were taken as meant."""

    alert: CapAlert | None = None
    faults: tuple[Fault, ...] = ()
    remarks: tuple[Fault, ...] = ()


def parse(data: bytes) -> Reading:
    """What the document says, or what is wrong with it: at most `MAX_FAULTS`, the first ones."""
    try:
        root = cap_xml.read(data, namespace=NAMESPACE, root="alert")
    except BadXml as bad:
        return Reading(faults=(_fault_of(bad),))
    notes = Notes()
    alert = _alert(_Reader(root, "alert", notes))
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


class _Reader:
    """Reads the parts of one element, each by its name, and knows where it stands."""

    def __init__(self, element: Element, field: str, notes: Notes) -> None:
        self._element = element
        self._asked: list[str] = []
        self.field = field
        self.notes = notes

    def path(self, name: str) -> str:
        return f"{self.field}.{name}"

    def one(self, name: str, read: Read[Value]) -> Value | None:
        """A part that must stand there once."""
        return self._first(name, read, self.notes, is_needed=True)

    def maybe(self, name: str, read: Read[Value]) -> Value | None:
        """A part that may stand there, once; empty is absent."""
        return self._first(name, read, self.notes)

    def aside(self, name: str, read: Read[Value]) -> Value | None:
        """The same of a part that nothing rests on: it is left out if there is anything wrong with it."""
        return self._first(name, read, Aside(self.notes))

    def several(self, name: str, read: Read[Value]) -> tuple[Value, ...]:
        """Parts that may stand there any number of times; empty ones are absent."""
        places = ((f"{self.path(name)}[{place}]", each) for place, each in enumerate(self._elements(name)))
        texts = ((field, text) for field, each in places if (text := self._text(each, field)))
        values = (read(self.notes, field, text) for field, text in texts)
        return tuple(value for value in values if value is not None)

    def needed(self, name: str, read: Read[Value]) -> tuple[Value, ...]:
        """The same of parts of which there must be one."""
        if not any(each.text for each in self._element.all(name)):
            self.notes.fault(self.path(name), "cap_missing", name=name)
        return self.several(name, read)

    def within(self, name: str) -> Iterator[_Reader]:
        """The elements of that name, each to be read in turn."""
        for place, each in enumerate(self._elements(name)):
            yield _Reader(each, f"{self.path(name)}[{place}]", self.notes)

    def within_aside(self, name: str) -> Iterator[_Reader]:
        """The same of elements that nothing rests on."""
        for each in self.within(name):
            each.notes = Aside(self.notes)
            yield each

    def finish(self) -> None:
        """Name what stands here that nobody asked for, and tell when the order is another."""
        order = {name: place for place, name in enumerate(self._asked)}
        children = list(self._element.children)
        for child in children:
            if child.name not in order:
                self.notes.fault(self.field, "cap_unknown_element", name=child.name[:64], line=child.line)
        for name in dict.fromkeys(f"{{{each.foreign or '–'}}}{each.name}"[:160] for each in self._element.strangers):
            self.notes.remark(self.field, "cap_foreign_element", name=name)
        if stray := self._element.own_text:
            self.notes.remark(self.field, "cap_stray_text", value=cap_values.quoted(stray))
        places = [order[child.name] for child in children if child.name in order]
        if places != sorted(places):
            self.notes.remark(self.field, "cap_other_order")

    def _elements(self, name: str) -> list[Element]:
        self._asked.append(name)
        return list(self._element.all(name))

    def _first(self, name: str, read: Read[Value], notes: Notes, *, is_needed: bool = False) -> Value | None:
        found, field = self._elements(name), self.path(name)
        text = self._text(found[0], field) if found else ""
        if not text:
            if is_needed:
                notes.fault(field, "cap_missing", name=name)
            return None
        if len(found) > 1:
            notes.fault(field, "cap_repeated", name=name)
        return read(notes, field, text)

    def _text(self, element: Element, field: str) -> str:
        """All the words; that there are elements among them is remarked."""
        within = next((each for each in element.parts if isinstance(each, Element)), None)
        if within is not None:
            self.notes.remark(field, "cap_markup_in_text", name=within.name[:64])
        return element.text


# --- the parts ---------------------------------------------------------------------------------------------------------


def _alert(reader: _Reader) -> CapAlert | None:
    identifier = reader.one("identifier", cap_values.name)
    sender = reader.one("sender", cap_values.name)
    sent = reader.one("sent", cap_values.instant)
    status = reader.one("status", cap_values.word(Status))
    message_type = reader.one("msgType", cap_values.word(MessageType))
    source = reader.aside("source", cap_values.plain)
    scope = reader.one("scope", cap_values.word(Scope))
    restriction = reader.maybe("restriction", cap_values.plain)
    addresses = reader.maybe("addresses", cap_values.listed)
    codes = reader.several("code", cap_values.plain)
    note = reader.aside("note", cap_values.plain)
    # A new alert means the same without the messages it names; an update or a cancel means nothing.
    names_others = message_type in (MessageType.UPDATE, MessageType.CANCEL)
    references = (reader.maybe if names_others else reader.aside)("references", cap_values.references(sender))
    incidents = reader.aside("incidents", cap_values.listed)
    infos = _infos(reader)
    reader.finish()
    _check_scope(reader, scope, restriction, addresses)
    if identifier is None or sender is None or sent is None or status is None or message_type is None or scope is None:
        return None
    alert = CapAlert(
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
    if alert.replaced and len(alert.replaced) < len(alert.references):
        reader.notes.remark(reader.path("references"), "cap_self_reference")
    return alert


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
    language = reader.maybe("language", cap_values.language) or DEFAULT_LANGUAGE
    categories = reader.needed("category", cap_values.word(Category))
    event = reader.one("event", cap_values.plain)
    response_types = reader.several("responseType", cap_values.word(ResponseType))
    urgency = reader.one("urgency", cap_values.word(Urgency))
    severity = reader.one("severity", cap_values.word(Severity))
    certainty = reader.one("certainty", cap_values.word(Certainty))
    audience = reader.aside("audience", cap_values.plain)
    event_codes = _named(reader, "eventCode")
    effective = reader.aside("effective", cap_values.instant)
    onset = reader.aside("onset", cap_values.instant)
    expires = reader.maybe("expires", cap_values.instant)
    sender_name = reader.maybe("senderName", cap_values.plain)
    headline = reader.maybe("headline", cap_values.plain)
    description = reader.maybe("description", cap_values.plain)
    instruction = reader.maybe("instruction", cap_values.plain)
    web = reader.aside("web", cap_values.plain)
    contact = reader.aside("contact", cap_values.plain)
    parameters = _named(reader, "parameter")
    resources = tuple(each for each in map(_resource, reader.within_aside("resource")) if each is not None)
    areas = tuple(each for each in map(_area, reader.within("area")) if each is not None)
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
    for each in reader.within_aside(name):
        called = each.one("valueName", cap_values.plain)
        value = each.maybe("value", cap_values.plain)
        each.finish()
        if called is not None:
            found.append(Named(name=called, value=value or ""))
    return tuple(found)


def _resource(reader: _Reader) -> CapResource | None:
    description = reader.one("resourceDesc", cap_values.plain)
    mime_type = reader.one("mimeType", cap_values.plain)
    size = reader.maybe("size", cap_values.size)
    uri = reader.maybe("uri", cap_values.plain)
    content = reader.maybe("derefUri", cap_values.anything)
    digest = reader.maybe("digest", cap_values.plain)
    reader.finish()
    if description is None or mime_type is None:
        return None
    return CapResource(description=description, mime_type=mime_type, size=size, uri=uri, content=content, digest=digest)


def _area(reader: _Reader) -> CapArea | None:
    description = reader.maybe("areaDesc", cap_values.plain)
    polygons = reader.several("polygon", cap_values.polygon)
    circles = reader.several("circle", cap_values.circle)
    geocodes = tuple(each for each in _named(reader, "geocode") if each.value)
    altitude = reader.aside("altitude", cap_values.number)
    ceiling = reader.aside("ceiling", cap_values.number)
    reader.finish()
    if ceiling is not None and altitude is None:
        reader.notes.remark(reader.path("ceiling"), "cap_ceiling_alone")
    if description is None:
        # Some services name no area and draw it: nobody is in doubt who is warned.
        note = reader.notes.remark if polygons or circles or geocodes else reader.notes.fault
        note(reader.path("areaDesc"), "cap_missing", name="areaDesc")
    return CapArea(
        description=description or "",
        polygons=polygons,
        circles=circles,
        geocodes=geocodes,
        altitude=altitude,
        ceiling=ceiling,
    )
