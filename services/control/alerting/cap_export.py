"""Alerts of ours as CAP messages: each version is a message, and names the ones before it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from schemas.alerts import Purpose
from schemas.identifiers import UnitId
from services.control.alerting import voicing
from services.control.alerting.cap import CapAlert, CapArea, CapCircle, CapInfo, MessageType, Named, Scope, Status
from services.control.alerting.model import AlertDraft, AlertText, AlertVersion, AreaWish, CapReference
from services.control.units import UnitTree

_TESTS = (Purpose.SILENT_TEST, Purpose.AUDIBLE_TEST)


def cap_of(version: AlertVersion, before: Sequence[AlertVersion], tree: UnitTree, *, unit_code: str) -> CapAlert:
    """The version as a CAP message; `before` are the earlier ones of its alert.

    `unit_code` is what the geocode is called that holds the code of an administrative unit.
    """
    draft = version.draft
    return CapAlert(
        identifier=_identifier(version),
        sender=_sender(draft.unit_id),
        sent=version.issued_at,
        status=Status.TEST if draft.purpose in _TESTS else Status(draft.status.value.capitalize()),
        message_type=_message_type(version, before),
        scope=Scope.PUBLIC,
        references=tuple(
            CapReference(sender=_sender(each.draft.unit_id), identifier=_identifier(each), sent=each.issued_at)
            for each in before
        ),
        infos=tuple(_info(draft, text, version.issued_at, tree, unit_code) for text, _ in voicing.folded(draft.texts)),
    )


def _message_type(version: AlertVersion, before: Sequence[AlertVersion]) -> MessageType:
    if version.purpose is Purpose.CANCEL:
        return MessageType.CANCEL
    return MessageType.UPDATE if before else MessageType.ALERT


def _identifier(version: AlertVersion) -> str:
    return f"urn:uuid:{version.alert_id}:{version.version}"


def _sender(unit_id: UnitId) -> str:
    return f"urn:uuid:{unit_id}"


def _info(draft: AlertDraft, text: AlertText, issued_at: datetime, tree: UnitTree, unit_code: str) -> CapInfo:
    unit = tree.get(draft.unit_id)
    return CapInfo(
        language=text.language,
        categories=(draft.category,),
        event=text.event or draft.event,
        urgency=draft.urgency,
        severity=draft.severity,
        certainty=draft.certainty,
        effective=issued_at,
        expires=draft.valid_until,
        sender_name=text.sender_name or (unit.name if unit is not None else None),
        headline=text.headline,
        description=text.description,
        instruction=text.instruction,
        areas=tuple(_area(area, tree, unit_code) for area in draft.audience.areas),
    )


def _area(area: AreaWish, tree: UnitTree, unit_code: str) -> CapArea:
    """With shapes only those: by the standard an area is the union of all that it names, and ours is what both hold."""
    units = [unit for unit in map(tree.get, area.units) if unit is not None]
    has_shapes = bool(area.polygons or area.circles)
    return CapArea(
        description="; ".join(unit.name for unit in units) or "-",
        polygons=tuple((*polygon, polygon[0]) for polygon in area.polygons),
        circles=tuple(CapCircle(centre=each.centre, radius_km=each.radius_m / 1_000) for each in area.circles),
        geocodes=() if has_shapes else tuple(Named(name=unit_code, value=unit.code) for unit in units),
    )
