"""Values of a CAP 1.2 document: text of an element as what it means, or a note of what is wrong with it. Pure.

Every function takes the text from its beginning to its end once: documents come from strangers, and a pattern that is
tried again at each place of a long text costs the square of its length.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from services.control.alerting.cap import WRITTEN, CapCircle
from services.control.alerting.model import CapReference, Certainty, Point
from services.control.errors import Fault

MAX_NAME = 500  # characters of an identifier or a sender
MAX_TEXT = 100_000  # characters of any text but a file's
MAX_CORNERS = 100_000  # of one polygon; some services send coasts
MAX_REFERENCES = 500
_MAX_NUMBER_TEXT = 1_500  # characters of what is three numbers at most, the smallest ones written out
_MAX_QUOTED = 80
_MAX_NOTES = 1_000  # of either kind; far more than are told

# Day, hour and minute, then what programs leave out or add: seconds, fractions of them, the colon in the offset.
_INSTANT = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d)(:\d\d)?(\.\d{1,9})?(?:([Zz])|([-+]\d\d)(:?)(\d\d))?")
_END_OF_DAY = "24:00"
_NUMBER = r"[-+]?(?:\d{1,20}(?:\.\d{0,400})?|\.\d{1,400})(?:[eE][-+]?\d{1,2})?"
_CORNER = re.compile(rf"({_NUMBER})\s*,\s*({_NUMBER})(?:\s+|$)")
_CIRCLE = re.compile(rf"({_NUMBER})\s*,\s*({_NUMBER})\s+({_NUMBER})")
# RFC 3066, as xs:language has it.
_LANGUAGE = re.compile(r"[A-Za-z]{1,8}(-[A-Za-z0-9]{1,8}){0,15}")
_FORBIDDEN_IN_NAMES = re.compile(r"[\s,<&]")
# Where a reference ends: at an instant after a comma. Names before it may hold blanks.
_REFERENCE_END = re.compile(r",\s{0,8}(\d{4}-\d\d-\d\dT[^\s,]*),?(?:\s+|$)")

Word = TypeVar("Word", bound=enum.StrEnum)

# What the standard says of a word that its first version had (3.2.2, `certainty`).
_EARLIER_WORDS: Mapping[str, enum.StrEnum] = {"very likely": Certainty.LIKELY}


class Notes:
    """What is found while reading: faults, and remarks on what was taken as meant."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.remarks: list[Fault] = []

    def fault(self, field: str, code: str, **facts: object) -> None:
        """Note what is wrong."""
        if len(self.faults) < _MAX_NOTES:
            self.faults.append(Fault(field, code, facts))

    def remark(self, field: str, code: str, **facts: object) -> None:
        """Note what is odd, but clear."""
        if len(self.remarks) < _MAX_NOTES:
            self.remarks.append(Fault(field, code, facts))


class Aside(Notes):
    """Notes on parts that nothing here rests on: what is wrong with them is a remark, and they are left out."""

    def __init__(self, notes: Notes) -> None:
        super().__init__()
        self._notes = notes

    def fault(self, field: str, code: str, **facts: object) -> None:
        """Note what is wrong with something that can be left out."""
        self._notes.remark(field, code, **facts)

    def remark(self, field: str, code: str, **facts: object) -> None:
        """Note what is odd, but clear."""
        self._notes.remark(field, code, **facts)


def anything(_: Notes, __: str, text: str) -> str:
    """The text, however long."""
    return text


def plain(notes: Notes, field: str, text: str) -> str | None:
    """Words of people."""
    if len(text) > MAX_TEXT:
        notes.fault(field, "text_too_long", limit=MAX_TEXT)
        return None
    return text


def name(notes: Notes, field: str, text: str) -> str | None:
    """An identifier or a sender: what `references` of other messages are made of (3.2.1)."""
    if len(text) > MAX_NAME:
        notes.fault(field, "text_too_long", limit=MAX_NAME)
        return None
    if _FORBIDDEN_IN_NAMES.search(text):
        notes.remark(field, "cap_name_malformed", value=quoted(text))
    return text


def language(notes: Notes, field: str, text: str) -> str | None:
    """A language tag; `vi_VN`, as computers name their locales, is one."""
    tag = text.replace("_", "-") if len(text) <= _MAX_NUMBER_TEXT else text
    if _LANGUAGE.fullmatch(tag) is None:
        notes.fault(field, "cap_language_malformed", value=quoted(text))
        return None
    if tag != text:
        notes.remark(field, "cap_taken_as", value=quoted(text), taken=tag)
    return tag


def word(words: type[Word]) -> Callable[[Notes, str, str], Word | None]:
    """Reads one of a list of values."""
    written: Mapping[str, Word] = {WRITTEN.get(each, each.value): each for each in words}
    folded = {text.casefold(): each for text, each in written.items()}

    def read(notes: Notes, field: str, text: str) -> Word | None:
        found = written.get(text)
        if found is not None:
            return found
        if (found := folded.get(text.casefold())) is not None:
            notes.remark(field, "cap_other_letters", value=quoted(text))
            return found
        earlier = _EARLIER_WORDS.get(text.casefold())
        if isinstance(earlier, words):
            notes.remark(field, "cap_taken_as", value=quoted(text), taken=WRITTEN[earlier])
            return earlier
        notes.fault(field, "cap_not_listed", value=quoted(text), expected=", ".join(written))
        return None

    return read


def instant(notes: Notes, field: str, text: str) -> datetime | None:
    """A time that says its offset."""
    match = _INSTANT.fullmatch(text)
    if match is None:
        notes.fault(field, "cap_time_malformed", value=quoted(text))
        return None
    day, minute, second, fraction, zulu, hours, colon, minutes = match.groups()
    if zulu is None and hours is None:
        notes.fault(field, "cap_time_without_offset", value=quoted(text))
        return None
    if second is None or fraction is not None or zulu is not None or not colon:
        notes.remark(field, "cap_time_other_form", value=quoted(text))
    # XML has a day end at 24:00, which is the next one's beginning.
    is_end_of_day = minute == _END_OF_DAY and second in (None, ":00")
    offset = "+00:00" if zulu is not None or (hours, minutes) == ("-00", "00") else f"{hours}:{minutes}"
    try:
        # Whole seconds, as the standard writes them: what is exported again then names the same instant.
        at = datetime.fromisoformat(f"{day}T{'00:00' if is_end_of_day else minute}{second or ':00'}{offset}")
        return (at + timedelta(days=1 if is_end_of_day else 0)).astimezone(UTC)
    except (ValueError, OverflowError):
        notes.fault(field, "cap_time_malformed", value=quoted(text))
        return None


def listed(notes: Notes, field: str, text: str) -> tuple[str, ...] | None:
    """Words between blanks; what holds blanks itself stands in quotation marks."""
    if plain(notes, field, text) is None:
        return None
    return tuple(in_quotes or bare for in_quotes, bare in re.findall(r'"([^"]*)"|(\S+)', text) if in_quotes or bare)


def references(own: str | None) -> Callable[[Notes, str, str], tuple[CapReference, ...]]:
    """Reads `sender,identifier,sent` between blanks; `own` is the sender of the message, whose name may hold anything."""

    def read(notes: Notes, field: str, text: str) -> tuple[CapReference, ...]:
        found: dict[CapReference, None] = {}
        begin = 0
        for number, end in enumerate(_REFERENCE_END.finditer(text)):
            where = f"{field}[{number}]"
            if number >= MAX_REFERENCES:
                notes.fault(field, "cap_too_many", limit=MAX_REFERENCES, name="references")
                return ()
            names = _two_names(text[begin : end.start()].strip(" \t\r\n,"), own)
            sent = instant(notes, where, end[1])
            if names is None:
                notes.fault(where, "cap_reference_malformed", value=quoted(text[begin : end.end()].strip()))
            elif sent is not None:
                found[CapReference(sender=names[0], identifier=names[1], sent=sent)] = None
            begin = end.end()
        rest = text[begin:].strip(" \t\r\n,")
        if rest:
            notes.fault(f"{field}[{len(found)}]", "cap_reference_malformed", value=quoted(rest))
        return tuple(found)

    return read


def _two_names(text: str, own: str | None) -> tuple[str, str] | None:
    """Sender and identifier, of which both may hold commas: the sender does where it is the one of the message."""
    if own is not None and text.startswith(f"{own},"):
        sender, identifier = own, text[len(own) + 1 :]
    else:
        sender, _, identifier = text.partition(",")
    sender, identifier = sender.strip(), identifier.strip()
    if not sender or not identifier or len(text) > 2 * MAX_NAME + 1:
        return None
    return sender, identifier


def size(notes: Notes, field: str, text: str) -> int | None:
    """A number of bytes."""
    if re.fullmatch(r"\+?\d{1,15}", text) is None:
        notes.fault(field, "cap_number_malformed", value=quoted(text))
        return None
    return int(text)


def number(notes: Notes, field: str, text: str) -> float | None:
    """A number, with a fraction perhaps."""
    if len(text) > _MAX_NUMBER_TEXT or re.fullmatch(_NUMBER, text) is None:
        notes.fault(field, "cap_number_malformed", value=quoted(text))
        return None
    return float(text)


def polygon(notes: Notes, field: str, text: str) -> tuple[Point, ...] | None:
    """At least four `latitude,longitude`, the last one the first (3.2.4); None of what surrounds nothing."""
    corners: list[Point] = []
    end = 0
    while end < len(text):
        match = _CORNER.match(text, end)
        if match is None:
            notes.fault(field, "cap_polygon_malformed", value=quoted(text[end : end + 2 * _MAX_QUOTED].strip()))
            return None
        corner = _point(notes, field, match[1], match[2])
        if corner is None:
            return None
        corners.append(corner)
        if len(corners) > MAX_CORNERS:
            notes.fault(field, "cap_too_many", limit=MAX_CORNERS, name="corner")
            return None
        end = match.end()
    if corners[0] != corners[-1]:
        notes.remark(field, "cap_polygon_open")
        corners.append(corners[0])
    if len(set(corners)) < 3:
        notes.remark(field, "cap_polygon_too_few")
        return None
    return tuple(corners)


def circle(notes: Notes, field: str, text: str) -> CapCircle | None:
    """`latitude,longitude radius`, in kilometres (3.2.4)."""
    match = _CIRCLE.fullmatch(text) if len(text) <= _MAX_NUMBER_TEXT else None
    radius = float(match[3]) if match is not None else -1.0
    if match is None or radius < 0:
        notes.fault(field, "cap_circle_malformed", value=quoted(text))
        return None
    centre = _point(notes, field, match[1], match[2])
    return CapCircle(centre=centre, radius_km=radius) if centre is not None else None


def _point(notes: Notes, field: str, latitude_text: str, longitude_text: str) -> Point | None:
    latitude, longitude = float(latitude_text), float(longitude_text)
    if abs(latitude) > 90 or abs(longitude) > 180:
        notes.fault(field, "cap_point_nowhere", value=quoted(f"{latitude_text},{longitude_text}"))
        return None
    return Point(latitude=latitude, longitude=longitude)


def quoted(text: str) -> str:
    """The text as a message about it names it."""
    return text if len(text) <= _MAX_QUOTED else text[: _MAX_QUOTED - 1] + "…"
