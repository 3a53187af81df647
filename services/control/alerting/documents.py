"""A draft as it is kept in the database and shown in the audit: JSON, whole, and back again. Pure.

Fields are only added: what an older version stored must stay readable.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from schemas.alerts import Purpose
from schemas.fields import ResumePolicy
from schemas.identifiers import AlertId, DeviceId, UnitId
from services.control.alerting.model import (
    AlertDraft,
    AlertText,
    AreaWish,
    AudienceWish,
    CapOrigin,
    CapReference,
    Category,
    Certainty,
    Circle,
    Origin,
    Point,
    Severity,
    Status,
    Urgency,
)

Document = Mapping[str, Any]


def document_of(draft: AlertDraft) -> dict[str, Any]:
    """The draft as JSON."""
    return {
        "unit_id": str(draft.unit_id),
        "purpose": draft.purpose.name.lower(),
        "status": draft.status.value,
        "event": draft.event,
        "category": draft.category.value,
        "urgency": draft.urgency.value,
        "severity": draft.severity.value,
        "certainty": draft.certainty.value,
        "texts": [_text_document(text) for text in draft.texts],
        "audience": audience_document(draft.audience),
        "repeat_interval_s": draft.repeat_interval.total_seconds() if draft.repeat_interval is not None else None,
        "valid_until": draft.valid_until.isoformat(),
        "resume": draft.resume.name.lower(),
        "volume_percent": draft.volume_percent,
        "template_id": str(draft.template_id) if draft.template_id is not None else None,
        "origin": draft.origin.value,
        "cap": _cap_document(draft.cap) if draft.cap is not None else None,
        "references": [str(each) for each in draft.references],
    }


def draft_of(document: Document) -> AlertDraft:
    """The draft in a document that `document_of` made."""
    interval, template, cap = document["repeat_interval_s"], document["template_id"], document["cap"]
    return AlertDraft(
        unit_id=UnitId(uuid.UUID(document["unit_id"])),
        purpose=Purpose[document["purpose"].upper()],
        status=Status(document["status"]),
        event=document["event"],
        category=Category(document["category"]),
        urgency=Urgency(document["urgency"]),
        severity=Severity(document["severity"]),
        certainty=Certainty(document["certainty"]),
        texts=tuple(map(_text, document["texts"])),
        audience=audience_of(document["audience"]),
        repeat_interval=timedelta(seconds=interval) if interval is not None else None,
        valid_until=datetime.fromisoformat(document["valid_until"]),
        resume=ResumePolicy[document["resume"].upper()],
        volume_percent=document["volume_percent"],
        template_id=uuid.UUID(template) if template is not None else None,
        origin=Origin(document["origin"]),
        cap=_cap(cap) if cap is not None else None,
        references=tuple(AlertId(uuid.UUID(each)) for each in document["references"]),
    )


def audience_document(wish: AudienceWish) -> dict[str, Any]:
    """An audience as JSON."""
    return {
        "areas": [
            {
                "units": [str(unit) for unit in area.units],
                "polygons": [[_point_document(corner) for corner in polygon] for polygon in area.polygons],
                "circles": [
                    {"centre": _point_document(circle.centre), "radius_m": circle.radius_m} for circle in area.circles
                ],
            }
            for area in wish.areas
        ],
        "devices": list(wish.devices),
        "except_units": [str(unit) for unit in wish.except_units],
        "except_devices": list(wish.except_devices),
        "kinds": list(wish.kinds),
        "ownerships": list(wish.ownerships),
    }


def audience_of(document: Document) -> AudienceWish:
    """The audience in a document that `audience_document` made."""
    return AudienceWish(
        areas=tuple(
            AreaWish(
                units=_units(area["units"]),
                polygons=tuple(tuple(map(_point, polygon)) for polygon in area["polygons"]),
                circles=tuple(
                    Circle(centre=_point(each["centre"]), radius_m=each["radius_m"]) for each in area["circles"]
                ),
            )
            for area in document["areas"]
        ),
        devices=tuple(map(DeviceId, document["devices"])),
        except_units=_units(document["except_units"]),
        except_devices=tuple(map(DeviceId, document["except_devices"])),
        kinds=tuple(document["kinds"]),
        ownerships=tuple(document["ownerships"]),
    )


def _text_document(text: AlertText) -> dict[str, Any]:
    return {
        "language": text.language,
        "headline": text.headline,
        "description": text.description,
        "instruction": text.instruction,
        "board_text": text.board_text,
        "media_sha256": text.media_sha256.hex() if text.media_sha256 is not None else None,
        "event": text.event,
        "sender_name": text.sender_name,
        "area_description": text.area_description,
    }


def _text(document: Document) -> AlertText:
    media = document["media_sha256"]
    return AlertText(**{**document, "media_sha256": bytes.fromhex(media) if media is not None else None})


def _cap_document(cap: CapOrigin) -> dict[str, Any]:
    return {
        "identifier": cap.identifier,
        "sender": cap.sender,
        "sent": cap.sent.isoformat(),
        "references": [
            {"sender": each.sender, "identifier": each.identifier, "sent": each.sent.isoformat()}
            for each in cap.references
        ],
    }


def _cap(document: Document) -> CapOrigin:
    return CapOrigin(
        identifier=document["identifier"],
        sender=document["sender"],
        sent=datetime.fromisoformat(document["sent"]),
        references=tuple(
            CapReference(
                sender=each["sender"], identifier=each["identifier"], sent=datetime.fromisoformat(each["sent"])
            )
            for each in document["references"]
        ),
    )


def _point_document(point: Point) -> list[float]:
    return [point.latitude, point.longitude]


def _point(pair: list[float]) -> Point:
    return Point(latitude=pair[0], longitude=pair[1])


def _units(written: list[str]) -> tuple[UnitId, ...]:
    return tuple(UnitId(uuid.UUID(each)) for each in written)
