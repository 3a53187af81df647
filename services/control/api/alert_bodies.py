"""What an alert, a test or a silence is in the API: as it is asked for, and as it is shown."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import Field

from schemas.alerts import Purpose
from schemas.fields import ResumePolicy
from schemas.identifiers import AlertId, DeviceId, UnitId
from services.control.alerting.documents import document_of
from services.control.alerting.model import (
    MAX_AREAS,
    MAX_CORNERS,
    MAX_NAMED,
    MAX_RADIUS_M,
    MAX_REFERENCES,
    MAX_SHAPES,
    MAX_TEXTS,
    MAX_UNITS,
    Alert,
    AlertDraft,
    AlertText,
    AreaWish,
    AudienceWish,
    Category,
    Certainty,
    Circle,
    Point,
    Severity,
    State,
    Status,
    Urgency,
)
from services.control.alerting.template import Template
from services.control.api.fields import (
    Answer,
    BoardText,
    Body,
    DeviceIdText,
    LanguageTag,
    Latitude,
    Longitude,
    Name,
    Note,
    Percent,
    PlannedInstant,
    Sha256Text,
    Title,
    Whole,
)
from services.control.errors import Fault, Invalid


class PointBody(Body):
    """WGS 84, in degrees."""

    latitude: Latitude
    longitude: Longitude


class CircleBody(Body):
    """All points within `radius_m` metres of the centre."""

    centre: PointBody
    radius_m: Whole = Field(ge=1, le=MAX_RADIUS_M)


class AreaBody(Body):
    """The ground of `units`; where there are shapes, of it what lies inside any of them."""

    units: list[uuid.UUID] = Field(min_length=1, max_length=MAX_UNITS)
    polygons: list[Annotated[list[PointBody], Field(min_length=3, max_length=MAX_CORNERS)]] = Field(
        default=[], max_length=MAX_SHAPES
    )
    circles: list[CircleBody] = Field(default=[], max_length=MAX_SHAPES)


class AudienceBody(Body):
    """Any of the areas and any of the devices, without the exceptions; only the kinds and ownerships named, if any."""

    areas: list[AreaBody] = Field(default=[], max_length=MAX_AREAS)
    devices: list[DeviceIdText] = Field(default=[], max_length=MAX_NAMED)
    except_units: list[uuid.UUID] = Field(default=[], max_length=MAX_NAMED)
    except_devices: list[DeviceIdText] = Field(default=[], max_length=MAX_NAMED)
    kinds: list[Literal["cluster", "board"]] = Field(default=[], max_length=2)
    ownerships: list[Literal["public", "private", "private_with_public_share"]] = Field(default=[], max_length=3)

    def wish(self) -> AudienceWish:
        """As control knows it."""
        return AudienceWish(
            areas=tuple(
                AreaWish(
                    units=tuple(map(UnitId, area.units)),
                    polygons=tuple(tuple(map(_point, polygon)) for polygon in area.polygons),
                    circles=tuple(Circle(centre=_point(each.centre), radius_m=each.radius_m) for each in area.circles),
                )
                for area in self.areas
            ),
            devices=tuple(map(DeviceId, self.devices)),
            except_units=tuple(map(UnitId, self.except_units)),
            except_devices=tuple(map(DeviceId, self.except_devices)),
            kinds=tuple(self.kinds),
            ownerships=tuple(self.ownerships),
        )


class TextBody(Body):
    """The alert in one language. Without `board_text` boards show the headline and the instruction."""

    language: LanguageTag = "vi"
    headline: Title
    description: BoardText | None = None
    instruction: BoardText | None = None
    board_text: BoardText | None = None
    media_sha256: Sha256Text | None = Field(default=None, description="a stored file: what sounds, or what boards show")

    def said(self) -> AlertText:
        """As control knows it."""
        return AlertText(
            language=self.language,
            headline=self.headline,
            description=self.description,
            instruction=self.instruction,
            board_text=self.board_text,
            media_sha256=bytes.fromhex(self.media_sha256) if self.media_sha256 is not None else None,
        )


class ContentBody(Body):
    """What an alert says, to whom and for how long; words of CAP 1.2."""

    status: Status = Status.ACTUAL
    event: Name
    category: Category = Category.OTHER
    urgency: Urgency = Urgency.UNKNOWN
    severity: Severity = Severity.UNKNOWN
    certainty: Certainty = Certainty.UNKNOWN
    texts: list[TextBody] = Field(min_length=1, max_length=MAX_TEXTS)
    audience: AudienceBody
    valid_until: PlannedInstant
    repeat_interval_s: Whole | None = Field(default=None, ge=1, le=86_400, description="pause between repetitions")
    resume: Literal["resume", "restart", "drop"] = "resume"
    volume_percent: Annotated[Percent, Field(ge=1)] | None = None
    references: list[uuid.UUID] = Field(
        default=[], max_length=MAX_REFERENCES, description="alerts that end when this one begins"
    )

    def draft(self, unit_id: UnitId, purpose: Purpose = Purpose.ALERT) -> AlertDraft:
        """As control knows it."""
        return AlertDraft(
            unit_id=unit_id,
            purpose=purpose,
            status=self.status,
            event=self.event,
            category=self.category,
            urgency=self.urgency,
            severity=self.severity,
            certainty=self.certainty,
            texts=tuple(each.said() for each in self.texts),
            audience=self.audience.wish(),
            repeat_interval=timedelta(seconds=self.repeat_interval_s) if self.repeat_interval_s is not None else None,
            valid_until=self.valid_until.astimezone(UTC),
            resume=ResumePolicy[self.resume.upper()],
            volume_percent=self.volume_percent,
            references=tuple(map(AlertId, self.references)),
        )


class AlertBody(Body):
    """An alert to be issued by a unit: in full, or by a template, of which each field given here takes the place."""

    unit_id: uuid.UUID = Field(description="the unit that speaks")
    template_id: uuid.UUID | None = Field(default=None, description="a template of the unit or of one above it")
    purpose: Literal["alert", "silent_test", "audible_test"] | None = Field(
        default=None, description="default: the template's, or alert"
    )
    audience: AudienceBody
    status: Status | None = Field(default=None, description="default: actual, of a template for tests test")
    event: Name | None = Field(default=None, description="needed without a template")
    category: Category | None = None
    urgency: Urgency | None = None
    severity: Severity | None = None
    certainty: Certainty | None = None
    texts: list[TextBody] | None = Field(
        default=None, min_length=1, max_length=MAX_TEXTS, description="needed without a template"
    )
    valid_until: PlannedInstant | None = Field(default=None, description="needed without a template")
    repeat_interval_s: Whole | None = Field(default=None, ge=1, le=86_400, description="pause between repetitions")
    resume: Literal["resume", "restart", "drop"] | None = None
    volume_percent: Annotated[Percent, Field(ge=1)] | None = None
    references: list[uuid.UUID] = Field(
        default=[], max_length=MAX_REFERENCES, description="alerts that end when this one begins"
    )

    def draft(self, template: Template | None, *, now: datetime) -> AlertDraft:
        """As control knows it. Raises `Invalid`."""
        unit_id, wish = UnitId(self.unit_id), self.audience.wish()
        if template is None:
            missing = [name for name in ("event", "texts", "valid_until") if getattr(self, name) is None]
            if missing:
                raise Invalid(*(Fault(name, "field_missing") for name in missing))
            base = AlertDraft(unit_id=unit_id, event=self.event or "", audience=wish, valid_until=now)
        else:
            base = template.draft(unit_id=unit_id, audience=wish, now=now)
        return replace(base, **self._said(base.purpose if template is not None else None))

    def facts(self) -> dict[str, Any]:
        """What a refused attempt is put on record with."""
        return {
            "headline": self.texts[0].headline if self.texts else self.event,
            "template_id": str(self.template_id) if self.template_id is not None else None,
        }

    def _said(self, purpose: Purpose | None) -> dict[str, Any]:
        """What the request says itself, by fields of a draft; `purpose` is that of the template."""
        own = {
            name: value
            for name in ("status", "event", "category", "urgency", "severity", "certainty", "volume_percent")
            if (value := getattr(self, name)) is not None
        }
        if self.purpose is not None:
            own["purpose"] = Purpose[self.purpose.upper()]
            if purpose is not None and purpose is not own["purpose"]:
                raise Invalid(Fault("purpose", "not_one_of", {"expected": purpose.name.lower()}))
        if self.texts is not None:
            own["texts"] = tuple(each.said() for each in self.texts)
        if self.valid_until is not None:
            own["valid_until"] = self.valid_until.astimezone(UTC)
        if self.repeat_interval_s is not None:
            own["repeat_interval"] = timedelta(seconds=self.repeat_interval_s)
        if self.resume is not None:
            own["resume"] = ResumePolicy[self.resume.upper()]
        return own | {"references": tuple(map(AlertId, self.references))}


class StopBody(Body):
    """Whose ground it shall end on."""

    unit_id: uuid.UUID


class SilenceBody(Body):
    """The kill switch: no sound and a blank screen, until it is released."""

    unit_id: uuid.UUID = Field(description="the unit that orders it")
    audience: AudienceBody
    reason: Name
    valid_until: PlannedInstant | None = Field(default=None, description="default: for a year")


class ReleaseBody(Body):
    """What is let go first; nothing named: everything."""

    except_units: list[uuid.UUID] = Field(default=[], max_length=MAX_NAMED, description="units that may sound again")
    except_devices: list[DeviceIdText] = Field(default=[], max_length=MAX_NAMED, description="devices that may")
    note: Note = ""


class AlertView(Answer):
    """An alert, a test or a silence as it stands."""

    alert_id: uuid.UUID
    version: int
    state: State
    purpose: str
    unit_id: uuid.UUID
    headline: str
    first_issued_at: datetime
    issued_at: datetime
    valid_until: datetime
    ended_at: datetime | None
    created_by: uuid.UUID | None
    stopped_in: list[uuid.UUID] = Field(description="units that ended this version on their own ground")
    content: dict[str, Any] = Field(description="what it says and to whom")


def _point(body: PointBody) -> Point:
    return Point(latitude=body.latitude, longitude=body.longitude)


def alert_view(alert: Alert) -> AlertView:
    """The alert as it is shown."""
    draft = alert.draft
    return AlertView(
        alert_id=alert.alert_id,
        version=alert.version,
        state=alert.state,
        purpose=draft.purpose.name.lower(),
        unit_id=draft.unit_id,
        headline=draft.headline,
        first_issued_at=alert.first_issued_at,
        issued_at=alert.issued_at,
        valid_until=draft.valid_until,
        ended_at=alert.ended_at,
        created_by=alert.created_by,
        stopped_in=list(alert.stopped_in),
        content=document_of(draft),
    )
