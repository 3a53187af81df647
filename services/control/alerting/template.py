"""Alerts prepared beforehand, and which of them lie on a device. Pure."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from schemas.alerts import Purpose
from schemas.fields import ResumePolicy
from schemas.identifiers import UnitId
from services.control.alerting.model import (
    AlertDraft,
    AlertText,
    AudienceWish,
    Category,
    Certainty,
    Severity,
    Status,
    Urgency,
)
from services.control.alerting.tones import Tone

# As many files as a configuration names (`schemas.configuration.Configuration.alert_media`).
MAX_FILES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateText:
    """A template in one language: what stands on record of its alert, and how its sound is made.

    `spoken` is what the speech engine says (None: headline, description and instruction); with `recording_sha256` a
    person's voice is heard in its place. `media_sha256` is the sound that was made.
    """

    language: str
    headline: str
    description: str | None = None
    instruction: str | None = None
    board_text: str | None = None
    spoken: str | None = None
    recording_sha256: bytes | None = None
    media_sha256: bytes | None = None

    @property
    def words(self) -> str:
        """What the speech engine says, a paragraph a line."""
        if self.spoken is not None:
            return self.spoken
        return "\n".join(part for part in (self.headline, self.description, self.instruction) if part)

    def text(self, event: str) -> AlertText:
        """As an alert holds it."""
        return AlertText(
            language=self.language,
            headline=self.headline,
            description=self.description,
            instruction=self.instruction,
            board_text=self.board_text,
            media_sha256=self.media_sha256,
            event=event,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """An alert that only wants its audience. It holds at its unit and everywhere below."""

    template_id: uuid.UUID
    unit_id: UnitId
    name: str
    purpose: Purpose = Purpose.ALERT
    event: str
    category: Category
    urgency: Urgency
    severity: Severity
    certainty: Certainty
    tone: Tone
    texts: tuple[TemplateText, ...]
    repeat_interval: timedelta | None = None
    validity: timedelta
    volume_percent: int | None = None
    resume: ResumePolicy = ResumePolicy.RESUME
    place: int = 0
    version: int = 1
    created_at: datetime
    created_by: uuid.UUID | None = None
    changed_at: datetime
    changed_by: uuid.UUID | None = None
    retired_at: datetime | None = None

    @property
    def files(self) -> tuple[bytes, ...]:
        """The sounds it needs, in order of its texts, each once."""
        return tuple(dict.fromkeys(text.media_sha256 for text in self.texts if text.media_sha256 is not None))

    def draft(self, *, unit_id: UnitId, audience: AudienceWish, now: datetime) -> AlertDraft:
        """The alert it stands for, said by a unit to an audience."""
        return AlertDraft(
            unit_id=unit_id,
            purpose=self.purpose,
            status=Status.ACTUAL if self.purpose is Purpose.ALERT else Status.TEST,
            event=self.event,
            category=self.category,
            urgency=self.urgency,
            severity=self.severity,
            certainty=self.certainty,
            texts=tuple(text.text(self.event) for text in self.texts),
            audience=audience,
            repeat_interval=self.repeat_interval,
            valid_until=now + self.validity,
            resume=self.resume,
            volume_percent=self.volume_percent,
            template_id=self.template_id,
        )

    def described(self) -> dict[str, Any]:
        """The template as facts of the audit."""
        return {
            "name": self.name,
            "purpose": self.purpose.name.lower(),
            "event": self.event,
            "category": self.category.value,
            "urgency": self.urgency.value,
            "severity": self.severity.value,
            "certainty": self.certainty.value,
            "tone": self.tone.value,
            "texts": [_described(text) for text in self.texts],
            "repeat_interval_s": self.repeat_interval.total_seconds() if self.repeat_interval is not None else None,
            "validity_s": self.validity.total_seconds(),
            "volume_percent": self.volume_percent,
            "resume": self.resume.name.lower(),
            "place": self.place,
            "retired": self.retired_at is not None,
        }


def _described(text: TemplateText) -> dict[str, Any]:
    return {
        "language": text.language,
        "headline": text.headline,
        "description": text.description,
        "instruction": text.instruction,
        "board_text": text.board_text,
        "spoken": text.spoken,
        "recording_sha256": text.recording_sha256.hex() if text.recording_sha256 is not None else None,
        "media_sha256": text.media_sha256.hex() if text.media_sha256 is not None else None,
    }


def files_at(
    path: Sequence[UnitId], templates: Mapping[UnitId, Iterable[Template]], tones: Sequence[bytes]
) -> tuple[bytes, ...]:
    """What a device of the last unit of `path` keeps at hand, at most `MAX_FILES`, the most needed first.

    Bare tones come before everything: they serve any alert. Then what is graver, then what more units share, then by
    place; a template that does not fit whole is left out, so that no alert speaks one of its languages only.
    """
    ranked = sorted(
        ((template, height) for height, unit in enumerate(path) for template in templates.get(unit, ())),
        key=lambda each: (-each[0].severity.number, each[1], each[0].place, each[0].template_id),
    )
    files = dict.fromkeys(tones[:MAX_FILES])
    for template, _ in ranked:
        wanted = files | dict.fromkeys(template.files)
        if len(wanted) <= MAX_FILES:
            files = wanted
    return tuple(files)
