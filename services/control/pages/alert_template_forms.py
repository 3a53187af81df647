"""What the form of an alert template says, from what was typed to the API's body and back. Pure.

What was typed is kept as it was typed, so that a form that is refused comes back whole. A text of which nothing is
typed is left out, so there is always an empty one for another language.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from schemas.alerts import Purpose
from schemas.identifiers import UnitId
from services.control.alerting.model import MAX_TEXTS
from services.control.alerting.template import Template, TemplateText

_WORDS = ("headline", "description", "instruction", "board_text", "spoken", "recording")
_NAMED_ALIKE = frozenset(
    {"name", "purpose", "event", "category", "urgency", "severity", "certainty", "tone", "resume", "place"}
)
_PLACES = {"repeat_interval_s": "repeat", "validity_s": "validity", "volume_percent": "volume"}
_TEXT_PLACES = {"recording_sha256": "recording"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TypedText:
    """The fields of one language. `recording`: the hash of a person's voice that is kept; `is_mute`: for boards only."""

    language: str = "vi"
    headline: str = ""
    description: str = ""
    instruction: str = ""
    board_text: str = ""
    spoken: str = ""
    recording: str = ""
    is_mute: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether nothing is typed: the language alone says nothing."""
        return not any(getattr(self, name) for name in _WORDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class TypedTemplate:
    """What stands in the fields; the pause in seconds ("": it sounds once), the validity in minutes."""

    name: str = ""
    purpose: str = "alert"
    event: str = ""
    category: str = "met"
    urgency: str = "immediate"
    severity: str = "severe"
    certainty: str = "likely"
    tone: str = "warning"
    texts: tuple[TypedText, ...] = (TypedText(),)
    repeat: str = "30"
    validity: str = "60"
    volume: str = ""
    resume: str = "resume"
    place: str = "0"

    @property
    def with_room(self) -> TypedTemplate:
        """The same, with an empty text at the end for another language."""
        if self.texts and (self.texts[-1].is_empty or len(self.texts) >= MAX_TEXTS):
            return self
        return replace(self, texts=(*self.texts, TypedText(language="en" if len(self.texts) == 1 else "")))


def typed_of(fields: Mapping[str, str]) -> TypedTemplate:
    """What was typed; `fields` are the values by name."""

    def one(name: str) -> str:
        return fields.get(name, "").strip()

    rows = [number for number in range(MAX_TEXTS) if f"headline-{number}" in fields]
    return TypedTemplate(
        **{name: one(name) for name in sorted(_NAMED_ALIKE | set(_PLACES.values()))},
        texts=tuple(
            TypedText(
                language=one(f"language-{number}"),
                is_mute=f"mute-{number}" in fields,
                **{name: one(f"{name}-{number}") for name in _WORDS},
            )
            for number in rows
        ),
    )


def typed_of_template(template: Template) -> TypedTemplate:
    """The form of a template as it stands."""
    interval = template.repeat_interval
    return TypedTemplate(
        name=template.name,
        purpose=template.purpose.name.lower(),
        event=template.event,
        category=template.category.value,
        urgency=template.urgency.value,
        severity=template.severity.value,
        certainty=template.certainty.value,
        tone=template.tone.value,
        texts=tuple(map(_typed_text, template.texts)),
        repeat=str(round(interval.total_seconds())) if interval is not None else "",
        validity=f"{template.validity.total_seconds() / 60:.3f}".rstrip("0").rstrip(".").replace(".", ","),
        volume=str(template.volume_percent) if template.volume_percent is not None else "",
        resume=template.resume.name.lower(),
        place=str(template.place),
    )


def _typed_text(text: TemplateText) -> TypedText:
    return TypedText(
        language=text.language,
        headline=text.headline,
        description=text.description or "",
        instruction=text.instruction or "",
        board_text=text.board_text or "",
        spoken=text.spoken or "",
        recording=text.recording_sha256.hex() if text.recording_sha256 is not None else "",
        is_mute=text.spoken == "",
    )


def body_of(typed: TypedTemplate, unit_id: UnitId) -> dict[str, Any]:
    """What the API is asked for; what is no number goes there as it was typed, and is refused there."""
    return {
        "unit_id": unit_id,
        **{name: getattr(typed, name) for name in _NAMED_ALIKE - {"place"}},
        "place": _whole(typed.place or "0"),
        "repeat_interval_s": _whole(typed.repeat) if typed.repeat else None,
        "validity_s": _seconds(typed.validity),
        "volume_percent": _whole(typed.volume) if typed.volume else None,
        "texts": [_text_body(each) for each in typed.texts if not each.is_empty],
    }


def _text_body(text: TypedText) -> dict[str, Any]:
    return {
        "language": text.language,
        "headline": text.headline,
        "description": text.description or None,
        "instruction": text.instruction or None,
        "board_text": text.board_text or None,
        "spoken": "" if text.is_mute else text.spoken or None,
        "recording_sha256": text.recording or None,
    }


def place_of(field: str, typed: TypedTemplate) -> str:
    """Where in the form a field of the API is: of a text with the number of its fields; "": at the form's head."""
    if (found := re.fullmatch(r"texts\[(\d+)\](?:\.(\w+))?", field)) is not None:
        rows = [number for number, each in enumerate(typed.texts) if not each.is_empty]
        name = found[2] or "headline"
        return f"{_TEXT_PLACES.get(name, name)}-{rows[int(found[1])]}"
    name = re.split(r"[.\[]", field, maxsplit=1)[0]
    return _PLACES.get(name, name if name in _NAMED_ALIKE or name == "texts" else "")


def _whole(text: str) -> int | str:
    return int(text) if re.fullmatch(r"[0-9]{1,6}", text) else text


def _seconds(minutes: str) -> int | str:
    found = re.fullmatch(r"[0-9]{1,6}(?:[.,][0-9]{1,3})?", minutes)
    return round(float(minutes.replace(",", ".")) * 60) if found else minutes


PURPOSES = tuple(each.name.lower() for each in (Purpose.ALERT, Purpose.AUDIBLE_TEST))
