"""Whom an alert means among registered devices, by the rule that devices themselves go by. Pure."""

from __future__ import annotations

import uuid
from collections.abc import Iterable

from schemas.audience import addresses
from schemas.configuration import Ownership, Position
from schemas.fields import DeviceKind
from services.control.alerting import messages
from services.control.alerting.model import Alert
from services.control.alerting.reach_store import Candidate
from services.control.units import UnitTree


def addressed(alert: Alert, found: Iterable[Candidate], tree: UnitTree) -> list[Candidate]:
    """Whom the alert means, by the rule devices go by, without the ground on which it was stopped."""
    audience = messages.wire_audience(alert.draft.audience)
    paths: dict[uuid.UUID, tuple[uuid.UUID, ...]] = {}
    stopped = set(alert.stopped_in)
    meant = []
    for each in found:
        path = paths.setdefault(each.unit_id, tree.path(each.unit_id))
        is_meant = addresses(
            audience,
            device=each.device_id,
            kind=DeviceKind[each.kind.upper()],
            ownership=Ownership[each.ownership.upper()],
            membership=path,
            position=_position(each),
        )
        if is_meant and stopped.isdisjoint(path):
            meant.append(each)
    return meant


def _position(each: Candidate) -> Position | None:
    if each.latitude is None or each.longitude is None:
        return None
    return Position(latitude_e6=round(each.latitude * 1e6), longitude_e6=round(each.longitude * 1e6))
