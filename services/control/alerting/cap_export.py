"""Alerts of ours as CAP messages: each version is a message, and names the ones before it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from schemas.alerts import Purpose
from schemas.identifiers import UnitId
from services.control.alerting import voicing
from services.control.alerting.cap import CapAlert, CapArea, CapCircle, CapInfo, MessageType, Named, Scope, Status
from services.control.alerting.model import AlertDraft, AlertText, AlertVersion, AudienceWish, CapReference
from services.control.catalogue.texts import Language, text
from services.control.units import UnitTree, UnitVersion

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
        infos=tuple(_info(draft, said, version.issued_at, tree, unit_code) for said, _ in voicing.folded(draft.texts)),
    )


def _message_type(version: AlertVersion, before: Sequence[AlertVersion]) -> MessageType:
    if version.purpose is Purpose.CANCEL:
        return MessageType.CANCEL
    return MessageType.UPDATE if before else MessageType.ALERT


def _identifier(version: AlertVersion) -> str:
    return f"urn:uuid:{version.alert_id}:{version.version}"


def _sender(unit_id: UnitId) -> str:
    return f"urn:uuid:{unit_id}"


def _info(draft: AlertDraft, said: AlertText, issued_at: datetime, tree: UnitTree, unit_code: str) -> CapInfo:
    unit = tree.get(draft.unit_id)
    language = Language.VIETNAMESE if said.language.lower().partition("-")[0] == "vi" else Language.ENGLISH
    return CapInfo(
        language=said.language,
        categories=(draft.category,),
        event=said.event or draft.event,
        urgency=draft.urgency,
        severity=draft.severity,
        certainty=draft.certainty,
        effective=issued_at,
        expires=draft.valid_until,
        sender_name=said.sender_name or (unit.name if unit is not None else None),
        headline=said.headline,
        description=said.description,
        instruction=said.instruction,
        parameters=tuple(_parameters(draft.audience, tree)),
        areas=tuple(_areas(draft.audience, tree, unit_code, language)),
    )


def _areas(audience: AudienceWish, tree: UnitTree, unit_code: str, language: Language) -> Iterator[CapArea]:
    """What an area of CAP cannot leave out is said in its words, as are the units that a shape reaches beyond."""
    limits = "; ".join(_limits(audience, tree, language))
    said = f" ({limits})" if limits else ""
    excepted = frozenset(audience.except_units)
    for area in audience.areas:
        # With shapes only those: by the standard an area is the union of all that it names, and ours is what both hold.
        has_shapes = bool(area.polygons or area.circles)
        units = [] if has_shapes else [left for unit in area.units for left in _without(unit, excepted, tree)]
        yield CapArea(
            description=(_names(area.units, tree) or "-") + said,
            polygons=tuple((*polygon, polygon[0]) for polygon in area.polygons),
            circles=tuple(CapCircle(centre=each.centre, radius_km=each.radius_m / 1_000) for each in area.circles),
            geocodes=tuple(Named(name=unit_code, value=unit.code) for unit in units),
        )
    if audience.devices:
        yield CapArea(description=text("cap.devices", language, {"devices": ", ".join(audience.devices)}) + said)


def _without(unit_id: UnitId, excepted: frozenset[UnitId], tree: UnitTree) -> Iterator[UnitVersion]:
    """The unit, or of one in which others are excepted those below it that are not."""
    unit = tree.get(unit_id)
    if unit is None or any(tree.covers(each, unit_id) for each in excepted):
        return
    if not any(tree.covers(unit_id, each) for each in excepted):
        yield unit
        return
    for child in tree.children(unit_id):
        yield from _without(child.unit_id, excepted, tree)


def _limits(audience: AudienceWish, tree: UnitTree, language: Language) -> Iterator[str]:
    but = [_names(audience.except_units, tree), ", ".join(audience.except_devices)]
    if any(but):
        yield text("cap.except", language, {"what": ", ".join(each for each in but if each)})
    only = [text(f"kinds.{each}", language) for each in audience.kinds]
    only += [text(f"cap.ownership.{each}", language) for each in audience.ownerships]
    if only:
        yield text("cap.only", language, {"what": ", ".join(only)})


def _parameters(audience: AudienceWish, tree: UnitTree) -> Iterator[Named]:
    """The same for programs."""
    excepted = (unit for unit in map(tree.get, audience.except_units) if unit is not None)
    yield from (Named(name="loa:except-unit-code", value=unit.code) for unit in excepted)
    for name, values in (
        ("loa:except-device", audience.except_devices),
        ("loa:kind", audience.kinds),
        ("loa:ownership", audience.ownerships),
        ("loa:device", audience.devices),
    ):
        yield from (Named(name=name, value=each) for each in values)


def _names(units: Iterable[UnitId], tree: UnitTree) -> str:
    return "; ".join(unit.name for unit in map(tree.get, units) if unit is not None)
