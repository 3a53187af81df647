"""Alerts prepared beforehand: words, sound and board text, ready on the devices (regulation, section 5)."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Query, Response
from pydantic import Field

from schemas.alerts import Purpose
from schemas.fields import ResumePolicy
from schemas.identifiers import UnitId
from services.control import versions
from services.control.alerting import template_store, templates
from services.control.alerting.model import LONGEST, MAX_TEXTS, SHORTEST, Category, Certainty, Severity, Urgency
from services.control.alerting.template import Template, TemplateText
from services.control.alerting.template_store import Holders
from services.control.alerting.templates import Hand
from services.control.alerting.tones import Tone
from services.control.api.access import Scope, requires
from services.control.api.context import Caller, Parts
from services.control.api.fields import Answer, BoardText, Body, LanguageTag, Name, Percent, Sha256Text, Title, Whole
from services.control.errors import Fault, Invalid
from services.control.permissions import Permission

router = APIRouter(tags=["alert templates"])

Reader = Annotated[Caller, requires(Permission.SEE_ALERTS, Scope.ANYWHERE)]
Maker = Annotated[Caller, requires(Permission.MAKE_ALERT_TEMPLATES, Scope.BODY)]
Keeper = Annotated[Caller, requires(Permission.MAKE_ALERT_TEMPLATES, Scope.ALERT_TEMPLATE)]
IfMatch = Annotated[str | None, Header(description="ETag of the version that is meant")]

_PURPOSES = {"alert": Purpose.ALERT, "audible_test": Purpose.AUDIBLE_TEST}
_PLACE = Annotated[Whole, Field(ge=0, le=999)]


class TemplateTextBody(Body):
    """A template in one language. The first text sounds first, after the tone; boards show all of them in turn."""

    language: LanguageTag = "vi"
    headline: Title
    description: BoardText | None = None
    instruction: BoardText | None = Field(default=None, description="what people are to do")
    board_text: BoardText | None = Field(default=None, description="null: headline and instruction")
    spoken: str | None = Field(
        default=None,
        max_length=2_000,
        description="what is read out; null: headline, description and instruction; empty: nothing",
    )
    recording_sha256: Sha256Text | None = Field(
        default=None, description="an uploaded sound that is heard in place of the speech engine"
    )

    def text(self) -> TemplateText:
        """As it is kept."""
        return TemplateText(
            language=self.language,
            headline=self.headline,
            description=self.description,
            instruction=self.instruction,
            board_text=self.board_text,
            spoken=self.spoken.strip() if self.spoken is not None else None,
            recording_sha256=bytes.fromhex(self.recording_sha256) if self.recording_sha256 is not None else None,
        )


class AlertTemplateBody(Body):
    """An alert that only wants its audience. Categories and the three scales are those of CAP 1.2, in lower case."""

    unit_id: uuid.UUID = Field(description="the unit that keeps it; it holds there and everywhere below")
    name: Name
    purpose: Literal["alert", "audible_test"] = "alert"
    event: Name
    category: Category = Category.OTHER
    urgency: Urgency = Urgency.IMMEDIATE
    severity: Severity = Severity.SEVERE
    certainty: Certainty = Certainty.LIKELY
    tone: Tone = Field(default=Tone.WARNING, description="what is heard before the first words")
    texts: list[TemplateTextBody] = Field(min_length=1, max_length=MAX_TEXTS)
    repeat_interval_s: Annotated[Whole, Field(ge=1, le=86_400)] | None = Field(
        default=None, description="pause between two repetitions; null: it sounds once"
    )
    validity_s: Annotated[Whole, Field(ge=SHORTEST.total_seconds(), le=LONGEST.total_seconds())] = Field(
        default=3_600, description="how long an alert made of it holds, unless it says otherwise"
    )
    volume_percent: Percent | None = Field(default=None, description="null: full")
    resume: Literal["resume", "restart", "drop"] = "resume"
    place: _PLACE = Field(default=0, description="order in lists; of two equally grave ones, which devices keep first")

    def template(self, caller: Caller, stored: Template | None) -> Template:
        """As it is kept, without sounds yet."""
        return Template(
            template_id=stored.template_id if stored is not None else uuid.uuid4(),
            unit_id=UnitId(self.unit_id),
            name=self.name,
            purpose=_PURPOSES[self.purpose],
            event=self.event,
            category=self.category,
            urgency=self.urgency,
            severity=self.severity,
            certainty=self.certainty,
            tone=self.tone,
            texts=tuple(text.text() for text in self.texts),
            repeat_interval=timedelta(seconds=self.repeat_interval_s) if self.repeat_interval_s is not None else None,
            validity=timedelta(seconds=self.validity_s),
            volume_percent=self.volume_percent,
            resume=ResumePolicy[self.resume.upper()],
            place=self.place,
            created_at=stored.created_at if stored is not None else caller.now,
            created_by=stored.created_by if stored is not None else caller.actor.account_id,
            changed_at=caller.now,
            changed_by=caller.actor.account_id,
        )


class TemplateTextView(Answer):
    """A template in one language, with the sound that was made of it."""

    language: str
    headline: str
    description: str | None
    instruction: str | None
    board_text: str | None
    spoken: str | None
    recording_sha256: str | None
    media_sha256: str | None = Field(description="what sounds, at /media/{sha256}; null: boards only")


class HoldersView(Answer):
    """How far the sound of a template has come: clusters below its unit, and those that say they hold all of it."""

    devices: int
    holding: int


class AlertTemplateView(Answer):
    """A template; `version` is its ETag."""

    template_id: uuid.UUID
    version: int
    unit_id: uuid.UUID
    name: str
    purpose: str
    event: str
    category: Category
    urgency: Urgency
    severity: Severity
    certainty: Certainty
    tone: Tone
    texts: list[TemplateTextView]
    repeat_interval_s: int | None
    validity_s: int
    volume_percent: int | None
    resume: str
    place: int
    changed_at: datetime
    changed_by: uuid.UUID | None = Field(description="null: it came with the installation")
    retired_at: datetime | None
    holders: HoldersView | None = Field(description="null in lists, and where it has no sound")


def _view(template: Template, holders: Holders | None = None) -> AlertTemplateView:
    interval = template.repeat_interval
    return AlertTemplateView(
        template_id=template.template_id,
        version=template.version,
        unit_id=template.unit_id,
        name=template.name,
        purpose=template.purpose.name.lower(),
        event=template.event,
        category=template.category,
        urgency=template.urgency,
        severity=template.severity,
        certainty=template.certainty,
        tone=template.tone,
        texts=[_text_view(text) for text in template.texts],
        repeat_interval_s=round(interval.total_seconds()) if interval is not None else None,
        validity_s=round(template.validity.total_seconds()),
        volume_percent=template.volume_percent,
        resume=template.resume.name.lower(),
        place=template.place,
        changed_at=template.changed_at,
        changed_by=template.changed_by,
        retired_at=template.retired_at,
        holders=HoldersView(devices=holders.devices, holding=holders.holding) if holders is not None else None,
    )


def _text_view(text: TemplateText) -> TemplateTextView:
    return TemplateTextView(
        language=text.language,
        headline=text.headline,
        description=text.description,
        instruction=text.instruction,
        board_text=text.board_text,
        spoken=text.spoken,
        recording_sha256=text.recording_sha256.hex() if text.recording_sha256 is not None else None,
        media_sha256=text.media_sha256.hex() if text.media_sha256 is not None else None,
    )


@router.get("/api/v1/alert-templates")
async def list_templates(
    caller: Reader,
    services: Parts,
    unit_id: Annotated[
        uuid.UUID | None, Query(description="those that hold there: its own and those of the units above it")
    ] = None,
) -> list[AlertTemplateView]:
    """The templates in use: those of the units one may see and of the units above them."""
    tree = caller.rights.tree
    if unit_id is not None:
        if UnitId(unit_id) not in tree:
            raise Invalid(Fault("unit_id", "unknown_unit", {"unit": str(unit_id)}))
        caller.demand(Permission.SEE_ALERTS, UnitId(unit_id), field="unit_id")
        units = frozenset(tree.path(UnitId(unit_id)))
    else:
        units = tree.with_ancestors(caller.rights.reach(Permission.SEE_ALERTS))
    async with services.database.connection() as connection:
        found = await template_store.templates_of(connection, units)
    return [_view(each) for each in found]


@router.post("/api/v1/alert-templates", status_code=201)
async def create_template(
    body: AlertTemplateBody, caller: Maker, response: Response, services: Parts
) -> AlertTemplateView:
    """Prepare an alert. Its sound is made at once, so the answer takes a second or two."""
    unit_id = UnitId(body.unit_id)
    if unit_id not in caller.rights.tree:
        raise Invalid(Fault("unit_id", "unknown_unit", {"unit": str(unit_id)}))
    caller.demand(Permission.MAKE_ALERT_TEMPLATES, unit_id, field="unit_id")
    hand = _hand(caller)
    voiced = await templates.voiced(
        services.database, services.workshop, body.template(caller, None), before=None, hand=hand
    )
    async with services.database.transaction() as connection:
        created = await templates.create(connection, voiced, caller.rights.tree, hand=hand)
    response.headers["ETag"] = versions.etag(created.version)
    return _view(created)


@router.get("/api/v1/alert-templates/{template_id}")
async def get_template(
    template_id: uuid.UUID, caller: Reader, response: Response, services: Parts
) -> AlertTemplateView:
    """One template, and how many devices hold its sound. Its ETag is what If-Match wants."""
    async with services.database.connection() as connection:
        template = await template_store.template(connection, template_id)
        holders = (
            await template_store.holders(connection, caller.rights.tree.subtree(template.unit_id), template.files)
            if template.files
            else None
        )
    response.headers["ETag"] = versions.etag(template.version)
    return _view(template, holders)


@router.put("/api/v1/alert-templates/{template_id}")
async def replace_template(
    template_id: uuid.UUID,
    body: AlertTemplateBody,
    caller: Keeper,
    response: Response,
    services: Parts,
    if_match: IfMatch = None,
) -> AlertTemplateView:
    """Change a template; If-Match must name the version one has read. Alerts under way stay as they are."""
    hand = _hand(caller)
    async with services.database.connection() as connection:
        read = await template_store.template(connection, template_id)
    given = body.model_dump(mode="json")
    versions.check(read.version, if_match, _view(read).model_dump(mode="json"), given=given)
    # Made before the lock is taken: nobody waits for a speech engine.
    voiced = await templates.voiced(
        services.database, services.workshop, body.template(caller, read), before=read, hand=hand
    )
    async with services.database.transaction() as connection:
        stored = await template_store.template_for_update(connection, template_id)
        versions.check(stored.version, if_match, _view(stored).model_dump(mode="json"), given=given)
        changed = await templates.change(connection, stored, voiced, caller.rights.tree, hand=hand)
    response.headers["ETag"] = versions.etag(changed.version)
    return _view(changed)


@router.post("/api/v1/alert-templates/{template_id}/retire")
async def retire_template(
    template_id: uuid.UUID, caller: Keeper, response: Response, services: Parts
) -> AlertTemplateView:
    """Take a template out of use; devices may throw its sound away."""
    async with services.database.transaction() as connection:
        stored = await template_store.template_for_update(connection, template_id)
        retired = await templates.retire(connection, stored, caller.rights.tree, hand=_hand(caller))
    response.headers["ETag"] = versions.etag(retired.version)
    return _view(retired)


def _hand(caller: Caller) -> Hand:
    return Hand(actor=caller.actor, origin=caller.origin, now=caller.now)
