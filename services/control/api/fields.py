"""Field types of requests and answers, with their limits."""

from __future__ import annotations

import re
import unicodedata
import uuid
from datetime import date, datetime
from typing import Annotated

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    StringConstraints,
)

from schemas.errors import InvalidIdentifier
from schemas.identifiers import DeviceId
from services.control.api.faults import FieldFault
from services.control.errors import Fault, Invalid


class Body(BaseModel):
    """A request body: unknown fields are refused, because a misspelt one would otherwise be ignored in silence."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Answer(BaseModel):
    """A response body."""

    model_config = ConfigDict(frozen=True)


def _tidy(value: str) -> str:
    """Composed characters and single blanks; control characters are refused."""
    tidy = " ".join(unicodedata.normalize("NFC", value).split())
    if not tidy.isprintable():
        raise FieldFault("text_has_control_characters")
    return tidy


def _paragraphs(value: str) -> str:
    """Composed characters; line breaks are kept, other control characters are refused."""
    text = unicodedata.normalize("NFC", value).replace("\r\n", "\n").strip()
    if not text.replace("\n", "").isprintable():
        raise FieldFault("text_has_control_characters")
    return text


def _device_id(value: str) -> str:
    try:
        return DeviceId.parse(value)
    except InvalidIdentifier:
        raise FieldFault("bad_device_id", value=value[:64]) from None


_LOGIN = re.compile(r"[a-z0-9][a-z0-9._@-]{1,62}[a-z0-9]")


def _login(value: str) -> str:
    login = value.strip().lower()
    if not _LOGIN.fullmatch(login):
        raise FieldFault("bad_login")
    return login


_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}")


def _language(value: str) -> str:
    if not _LANGUAGE.fullmatch(value):
        raise FieldFault("bad_language_tag", value=value[:32])
    return value


_DAY_OR_MOMENT = re.compile(r"\d{4}-\d\d-\d\d(T([01]\d|2[0-3]):[0-5]\d(:[0-5]\d)?)?")


def _local_day_or_moment(value: object) -> object:
    """Only a day, or a day and a time of it, both without an offset: they are local to the broadcast's zone."""
    if not isinstance(value, str) or not _DAY_OR_MOMENT.fullmatch(value):
        raise FieldFault("not_a_local_day_or_moment")
    try:
        parsed = datetime.fromisoformat(value) if "T" in value else date.fromisoformat(value)
    except ValueError:
        raise FieldFault("not_a_local_day_or_moment") from None
    _day(parsed.date() if isinstance(parsed, datetime) else parsed)
    return parsed


def _sha256(value: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{64}", value):
        raise FieldFault("not_a_sha256")
    return value


def uuid_of(text: str, *, field: str) -> uuid.UUID:
    """The UUID written in a form's field. Raises `Invalid` naming the field."""
    try:
        return uuid.UUID(text)
    except ValueError:
        raise Invalid(Fault(field, "not_a_uuid")) from None


def _text(longest: int) -> StringConstraints:
    """Not empty and not blank."""
    return StringConstraints(strip_whitespace=True, min_length=1, max_length=longest)


def _day(value: date) -> date:
    """Days within two centuries: beyond them lies a slip of the pen, or the end of what can be computed."""
    if not FIRST_DAY <= value < END_OF_DAYS:
        raise FieldFault("day_out_of_bounds", first=FIRST_DAY.isoformat(), last=END_OF_DAYS.isoformat())
    return value


def _instant(value: datetime) -> datetime:
    """Within the same bounds; the ends of the calendar overflow as soon as somebody asks for another zone."""
    _day(value.date())
    return value


# As far back as planning takes a beginning (`recurrence.EARLIEST_START`).
FIRST_DAY, END_OF_DAYS = date(1970, 1, 1), date(2200, 1, 1)

# In JSON a number is a number and true is true: a volume of true would sound at one per cent.
Whole = Annotated[int, Field(strict=True)]
Number = Annotated[float, Field(strict=True)]
Flag = Annotated[bool, Field(strict=True)]

Day = Annotated[date, AfterValidator(_day)]
SearchText = Annotated[str, Field(max_length=100), AfterValidator(_tidy)]
AfterDevice = Annotated[str, Field(max_length=48, pattern="^[a-z0-9-]*$")]
Title = Annotated[str, _text(200), AfterValidator(_tidy)]
Name = Annotated[str, _text(120), AfterValidator(_tidy)]
Note = Annotated[str, Field(max_length=500), AfterValidator(_tidy)]
BoardText = Annotated[str, _text(2_000), AfterValidator(_paragraphs)]
DeviceIdText = Annotated[str, Field(max_length=200), AfterValidator(_device_id)]
Login = Annotated[str, Field(max_length=200), AfterValidator(_login)]
LanguageTag = Annotated[str, Field(max_length=64), AfterValidator(_language)]
LocalDayOrMoment = Annotated[
    datetime | date,
    PlainValidator(_local_day_or_moment, json_schema_input_type=str),
    PlainSerializer(lambda each: each.isoformat(), return_type=str),
]
SessionCode = Annotated[str, Field(min_length=1, max_length=40, pattern="^[a-z0-9][a-z0-9_-]*$")]
Sha256Text = Annotated[str, Field(max_length=200), AfterValidator(_sha256)]
# Long enough to be a reason and not a sigh.
Reason = Annotated[str, StringConstraints(strip_whitespace=True, min_length=20, max_length=500), AfterValidator(_tidy)]
Why = Annotated[str, _text(500), AfterValidator(_tidy)]
TopicText = Annotated[str, Field(min_length=1, max_length=256)]
Percent = Annotated[Whole, Field(ge=0, le=100)]
Latitude = Annotated[Number, Field(ge=-90, le=90)]
Longitude = Annotated[Number, Field(ge=-180, le=180)]
Instant = AwareDatetime
PlannedInstant = Annotated[AwareDatetime, AfterValidator(_instant)]
Limit = Annotated[int, Field(ge=1, le=500)]
