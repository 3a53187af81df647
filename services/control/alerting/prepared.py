"""Alerts that an installation is given to begin with: the words of the catalogue with what CAP says of each. Pure.

They are ordinary templates of the root unit afterwards, to be changed and retired like any other.
"""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import NamedTuple

from schemas.alerts import Purpose
from schemas.identifiers import UnitId
from services.control.alerting.model import Category, Certainty, Severity, Urgency
from services.control.alerting.template import Template, TemplateText
from services.control.alerting.tones import Tone
from services.control.catalogue.template_texts import PREPARED


class _Kind(NamedTuple):
    category: Category
    severity: Severity
    urgency: Urgency
    tone: Tone
    repeats: timedelta | None
    holds: timedelta
    purpose: Purpose = Purpose.ALERT


_HALF_A_MINUTE, _HOUR = timedelta(seconds=30), timedelta(hours=1)
_IMMEDIATE, _EXPECTED = Urgency.IMMEDIATE, Urgency.EXPECTED
_KINDS: dict[str, _Kind] = {
    "flood": _Kind(Category.MET, Severity.EXTREME, _IMMEDIATE, Tone.WARNING, _HALF_A_MINUTE, 3 * _HOUR),
    "flash_flood": _Kind(Category.GEO, Severity.EXTREME, _IMMEDIATE, Tone.EVACUATE, _HALF_A_MINUTE, 3 * _HOUR),
    "storm": _Kind(Category.MET, Severity.SEVERE, _EXPECTED, Tone.WARNING, 10 * _HALF_A_MINUTE, 6 * _HOUR),
    "fire": _Kind(Category.FIRE, Severity.SEVERE, _IMMEDIATE, Tone.EVACUATE, _HALF_A_MINUTE, _HOUR),
    "evacuation": _Kind(Category.SAFETY, Severity.EXTREME, _IMMEDIATE, Tone.EVACUATE, _HALF_A_MINUTE, 2 * _HOUR),
    "all_clear": _Kind(Category.SAFETY, Severity.MINOR, Urgency.PAST, Tone.NOTICE, None, _HOUR / 4),
    "test": _Kind(Category.OTHER, Severity.MINOR, Urgency.UNKNOWN, Tone.TEST, None, _HOUR / 12, Purpose.AUDIBLE_TEST),
}


def prepared(unit_id: UnitId, *, now: datetime) -> tuple[Template, ...]:
    """The templates as the unit's own, without sounds yet."""
    return tuple(
        Template(
            template_id=uuid.uuid5(unit_id, key),  # of several replicas each would make the same ones
            unit_id=unit_id,
            name=name,
            purpose=kind.purpose,
            event=event,
            category=kind.category,
            urgency=kind.urgency,
            severity=kind.severity,
            certainty=Certainty.LIKELY,
            tone=kind.tone,
            texts=(_text("vi", *vietnamese), _text("en", *english)),
            repeat_interval=kind.repeats,
            validity=kind.holds,
            place=place,
            created_at=now,
            changed_at=now,
        )
        for place, (key, kind) in enumerate(_KINDS.items())
        for (name, event), vietnamese, english in [PREPARED[key]]
    )


def _text(language: str, headline: str, instruction: str) -> TemplateText:
    return TemplateText(language=language, headline=headline, instruction=instruction)
