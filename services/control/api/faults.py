"""From pydantic's findings to faults of ours: which field, what is wrong, how to mend it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from services.control.errors import Fault

# Where a value came from says nothing to whoever sent it: the field's own name does.
_PLACES = frozenset({"body", "query", "path", "header", "cookie", "form"})

# pydantic's error type → our code, and which of its context values our text names (theirs: ours).
_CODES: dict[str, tuple[str, Mapping[str, str]]] = {
    "missing": ("field_missing", {}),
    "extra_forbidden": ("field_unknown", {}),
    "string_too_short": ("text_too_short", {"min_length": "limit"}),
    "string_too_long": ("text_too_long", {"max_length": "limit"}),
    "string_pattern_mismatch": ("text_of_wrong_form", {"pattern": "pattern"}),
    "too_short": ("too_few", {"min_length": "limit"}),
    "too_long": ("too_many", {"max_length": "limit"}),
    "greater_than": ("number_too_small", {"gt": "limit"}),
    "greater_than_equal": ("number_too_small", {"ge": "limit"}),
    "less_than": ("number_too_large", {"lt": "limit"}),
    "less_than_equal": ("number_too_large", {"le": "limit"}),
    "enum": ("not_one_of", {"expected": "expected"}),
    "literal_error": ("not_one_of", {"expected": "expected"}),
    "union_tag_invalid": ("not_one_of", {"expected_tags": "expected"}),
    "union_tag_not_found": ("field_missing", {}),
    "uuid_parsing": ("not_a_uuid", {}),
    "uuid_type": ("not_a_uuid", {}),
    "date_parsing": ("not_a_date", {}),
    "date_type": ("not_a_date", {}),
    "date_from_datetime_parsing": ("not_a_date", {}),
    "date_from_datetime_inexact": ("not_a_date", {}),
    "time_parsing": ("not_a_time", {}),
    "time_type": ("not_a_time", {}),
    "datetime_parsing": ("not_an_instant", {}),
    "datetime_type": ("not_an_instant", {}),
    "datetime_from_date_parsing": ("not_an_instant", {}),
    "timezone_aware": ("not_an_instant", {}),
    "bool_parsing": ("not_true_or_false", {}),
    "bool_type": ("not_true_or_false", {}),
    "int_parsing": ("not_a_whole_number", {}),
    "int_type": ("not_a_whole_number", {}),
    "int_from_float": ("not_a_whole_number", {}),
    "int_parsing_size": ("not_a_whole_number", {}),
    "float_parsing": ("not_a_number", {}),
    "float_type": ("not_a_number", {}),
    "finite_number": ("not_a_number", {}),
    "string_type": ("not_a_text", {}),
    "string_unicode": ("not_a_text", {}),
    "list_type": ("not_a_list", {}),
    "tuple_type": ("not_a_list", {}),
    "dict_type": ("not_an_object", {}),
    "model_type": ("not_an_object", {}),
    "model_attributes_type": ("not_an_object", {}),
    "json_invalid": ("not_json", {}),
    "not_a_local_time": ("not_a_local_time", {}),  # raised by `services.control.policies`
}

_MAX_FAULTS = 50


def faults_of_validation(errors: Iterable[Mapping[str, Any]]) -> tuple[bool, tuple[Fault, ...]]:
    """Whether the body could not be read at all, and every fault found in it."""
    faults = tuple(_fault(error) for error in list(errors)[:_MAX_FAULTS])
    return any(fault.code == "not_json" for fault in faults), faults


class FieldFault(ValueError):
    """Raised by validators of ours inside models: carries the code and facts of a fault."""

    def __init__(self, code: str, **facts: object) -> None:
        super().__init__(code)
        self.code = code
        self.facts = facts


def _fault(error: Mapping[str, Any]) -> Fault:
    context = error.get("ctx") or {}
    cause = context.get("error")
    field = _path(error["loc"])
    if isinstance(cause, FieldFault):
        return Fault(field, cause.code, cause.facts)
    if error["type"] == "json_invalid":
        return Fault("", "not_json", {"position": error["loc"][-1] if error["loc"] else 0})
    code, names = _CODES.get(error["type"], ("not_valid", {}))
    return Fault(field, code, {ours: _said(theirs, context.get(theirs, "")) for theirs, ours in names.items()})


# How a limit of a number is said in every language, and the forms that our patterns ask for.
_SIGNS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
_FORMS = {
    "^[a-z0-9][a-z0-9_-]*$": "a-z, 0-9, _, -",
    "^[a-z0-9-]*$": "a-z, 0-9, -",
    r"^20\d\d-(0[1-9]|1[0-2])$": "2026-10",
}


def _said(name: str, value: Any) -> Any:
    """A limit as people read it."""
    if name in _SIGNS:
        number = f"{value:,.10g}".replace(",", " ") if isinstance(value, int | float) else value
        return f"{_SIGNS[name]} {number}"
    if name == "pattern":
        return _FORMS.get(value, value)
    if name in ("expected", "expected_tags"):
        return ", ".join(re.findall(r"'([^']*)'", value)) or value
    return value


def _path(location: Iterable[str | int]) -> str:
    """`("body", "items", 0, "bulletin", "bulletin_id")` as `items[0].bulletin_id`."""
    parts = list(location)
    if parts and parts[0] in _PLACES:
        parts = parts[1:]
    path = ""
    for part in parts:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    return path
