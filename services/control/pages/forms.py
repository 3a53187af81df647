"""What forms of pages say, read by the same models as the API's bodies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from pydantic import ValidationError
from starlette.datastructures import FormData
from starlette.requests import Request

from services.control.api.faults import faults_of_validation
from services.control.api.fields import Body
from services.control.errors import Invalid

_MAX_FIELDS = 60

BodyT = TypeVar("BodyT", bound=Body)


async def form_of(request: Request) -> FormData:
    """The form that was sent; files are in none of ours."""
    return await request.form(max_files=0, max_fields=_MAX_FIELDS)


def checked(model: type[BodyT], values: Mapping[str, object]) -> BodyT:
    """What a form says, by the rules of the API. Raises `Invalid`."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        _, faults = faults_of_validation(error.errors())
        raise Invalid(*faults) from None


def given(form: FormData, *names: str) -> dict[str, str]:
    """What was typed into these fields; a field left empty is not there."""
    values = ((name, form.get(name)) for name in names)
    return {name: value.strip() for name, value in values if isinstance(value, str) and value.strip()}


def all_given(form: FormData, name: str) -> list[str]:
    """What was typed into, or ticked of, all the fields of one name; empty ones are left out."""
    return [value.strip() for value in form.getlist(name) if isinstance(value, str) and value.strip()]
