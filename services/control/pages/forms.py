"""What forms of pages say, read by the same models as the API's bodies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from pydantic import ValidationError
from starlette.datastructures import FormData
from starlette.requests import Request

from services.control.api.errors import document_of
from services.control.api.faults import faults_of_validation
from services.control.api.fields import Body
from services.control.catalogue.texts import Language
from services.control.errors import Conflict, Fault, Forbidden, Invalid, Refusal

# As many as the check of the CSRF token reads.
_MAX_FIELDS = 1_000

# What a form is given back for, with what was typed: it can be mended, or looked at again.
MENDABLE = (Invalid, Forbidden, Conflict)

BodyT = TypeVar("BodyT", bound=Body)


async def form_of(request: Request) -> FormData:
    """The form that was sent; files are in none of ours."""
    return await request.form(max_files=0, max_fields=_MAX_FIELDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Returned:
    """A form that is given back: why, and what is wrong at which of its places ("": at none), each with how to mend it."""

    status: int
    title: str
    detail: str
    faults: Mapping[str, tuple[str, ...]]


def returned(error: Refusal, language: Language, *, place_of: Callable[[str], str] = lambda field: field) -> Returned:
    """Why a form is given back; `place_of` tells where in it a field of the API is."""
    document, _ = document_of(error, language)
    faults: dict[str, tuple[str, ...]] = {}
    for each in document["errors"]:
        place = place_of(each["field"])
        said = f"{each['message']} {each['mend']}"
        if said not in faults.get(place, ()):
            faults[place] = (*faults.get(place, ()), said)
    return Returned(status=document["status"], title=document["title"], detail=document["detail"], faults=faults)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What was typed into a form that is given back, and why it is. `about`: which of the forms of a page it was."""

    about: str
    form: FormData
    back: Returned

    def typed(self, name: str) -> str:
        """What was typed into a field, as it was."""
        return str(self.form.get(name) or "")

    def every(self, name: str) -> tuple[str, ...]:
        """What was typed into all fields of a name, empty ones too."""
        return tuple(str(value) for value in self.form.getlist(name))


def only(*fields: str) -> Callable[[str], str]:
    """For a form that has these fields of the API: whatever is wrong with another one is said at its head."""
    return lambda field: field if field in fields else ""


def checked(model: type[BodyT], values: Mapping[str, object], *, own_faults: Iterable[Fault] = ()) -> BodyT:
    """What a form says, by the rules of the API; `own_faults` are those of the form itself. Raises `Invalid` with all."""
    faults = tuple(own_faults)
    try:
        body = model.model_validate(values)
    except ValidationError as error:
        raise Invalid(*faults, *faults_of_validation(error.errors())[1]) from None
    if faults:
        raise Invalid(*faults)
    return body


def given(form: FormData, *names: str) -> dict[str, str]:
    """What was typed into these fields; a field left empty is not there."""
    values = ((name, form.get(name)) for name in names)
    return {name: value.strip() for name, value in values if isinstance(value, str) and value.strip()}


def all_given(form: FormData, name: str) -> list[str]:
    """What was typed into, or ticked of, all the fields of one name; empty ones are left out."""
    return [value.strip() for value in form.getlist(name) if isinstance(value, str) and value.strip()]
