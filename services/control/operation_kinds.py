"""What may need a second person (S-07), as it can be asked for, kept, read and confirmed."""

from __future__ import annotations

import base64
import enum
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from schemas.alerts import Purpose
from schemas.identifiers import AlertId, BroadcastId, DeviceId, UnitId
from services.control.alerting.cap import CapAlert
from services.control.alerting.documents import document_of
from services.control.alerting.model import Alert, AlertDraft, CapReference
from services.control.broadcast_requests import Wish
from services.control.errors import Fault
from services.control.permissions import Permission
from services.control.planning.policies import Danger
from services.control.relay_addresses import Rules
from services.control.relay_sources import Wish as SourceWish
from services.control.relay_store import StoredSource
from services.control.trust.keyring import Keyring
from services.control.wish_documents import document_of as document_of_wish


class Kind(enum.StrEnum):
    """What is asked for. Stable words of the API."""

    ALERT_ISSUE = "alert_issue"
    ALERT_UPDATE = "alert_update"
    CAP = "cap"
    AUDIBLE_TEST = "audible_test"  # now, by hand: those of a timetable were decided on beforehand
    SILENCE = "silence"
    SILENCE_RELEASE = "silence_release"
    LIVE = "live"  # a broadcast with a live source in it
    LIVE_CHANGE = "live_change"
    RELAY_CHANGE = "relay_change"  # what a live source is
    VOLUME = "volume"  # of an area
    CLAIMS = "claims"  # codes that devices enrol with


DANGERS: Mapping[Kind, Danger] = {
    Kind.ALERT_ISSUE: Danger.ALERTS,
    Kind.ALERT_UPDATE: Danger.ALERTS,
    Kind.CAP: Danger.ALERTS,
    Kind.AUDIBLE_TEST: Danger.ALERTS,
    Kind.SILENCE: Danger.SILENCES,
    Kind.SILENCE_RELEASE: Danger.SILENCES,
    Kind.LIVE: Danger.LIVE,
    Kind.LIVE_CHANGE: Danger.LIVE,
    Kind.RELAY_CHANGE: Danger.LIVE,
    Kind.VOLUME: Danger.VOLUME,
    Kind.CLAIMS: Danger.KEYS,
}
# The right that whoever confirms or acknowledges it needs, as who asked for it did.
PERMISSIONS: Mapping[Kind, Permission] = {
    Kind.ALERT_ISSUE: Permission.RELEASE_ALERTS,
    Kind.ALERT_UPDATE: Permission.RELEASE_ALERTS,
    Kind.CAP: Permission.RELEASE_ALERTS,
    Kind.AUDIBLE_TEST: Permission.TEST_ALERTS,
    Kind.SILENCE: Permission.SILENCE_DEVICES,
    Kind.SILENCE_RELEASE: Permission.SILENCE_DEVICES,
    Kind.LIVE: Permission.MAKE_BROADCASTS,
    Kind.LIVE_CHANGE: Permission.MAKE_BROADCASTS,
    Kind.RELAY_CHANGE: Permission.MANAGE_RELAYS,
    Kind.VOLUME: Permission.OPERATE_DEVICES,
    Kind.CLAIMS: Permission.ENROL_DEVICES,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """Something to be done, as it can be kept: `document` is all of it, as JSON. `unit_id` is the unit that speaks."""

    kind: Kind
    unit_id: UnitId
    summary: str
    document: Mapping[str, Any]

    @property
    def digest(self) -> bytes:
        """What a second person has read: SHA-256 of kind and document."""
        text = json.dumps([self.kind.value, self.document], sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(text.encode()).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What carrying out takes: keys that sign, the zone of local hours, the rules of live sources; how long a request
    waits; and the reason of who acts alone.
    """

    keyring: Keyring
    zone: ZoneInfo
    rules: Rules
    waits: timedelta
    alone: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenUp:
    """A broadcast from above that a unit was offered, in the version that was read, and what the unit says to it."""

    broadcast_id: BroadcastId
    version: int
    note: str | None


# --- alerts, tests, silences -----------------------------------------------------------------------------------------


def issuing(draft: AlertDraft, *, alert_id: AlertId | None = None) -> Operation:
    """An alert, a test or a silence to be issued; `alert_id` where it stands on record already, as a proposal."""
    return Operation(
        kind=Kind.SILENCE if draft.purpose is Purpose.SILENCE else Kind.ALERT_ISSUE,
        unit_id=draft.unit_id,
        summary=draft.headline,
        document={"alert_id": str(alert_id) if alert_id is not None else None, "draft": document_of(draft)},
    )


def updating(alert: Alert, draft: AlertDraft) -> Operation:
    """Something else to be said in the place of an alert, as it stands."""
    return Operation(
        kind=Kind.ALERT_UPDATE,
        unit_id=alert.draft.unit_id,
        summary=draft.headline,
        document={"alert_id": str(alert.alert_id), "version": alert.version, "draft": document_of(draft)},
    )


def releasing(silence: Alert, *, units: tuple[UnitId, ...], devices: tuple[DeviceId, ...], note: str) -> Operation:
    """The end of a silence, as it stands; for some units and devices, or where none is named for all."""
    return Operation(
        kind=Kind.SILENCE_RELEASE,
        unit_id=silence.draft.unit_id,
        summary=silence.draft.headline,
        document={
            "alert_id": str(silence.alert_id),
            "version": silence.version,
            "units": [str(each) for each in units],
            "devices": list(devices),
            "note": note,
        },
    )


def taking_cap(unit_id: UnitId, document: bytes, message: CapAlert, *, unit_codes: tuple[str, ...]) -> Operation:
    """A CAP message to be taken in as the word of a unit; `unit_codes` as `cap_intake.Taking` has them."""
    return Operation(
        kind=Kind.CAP,
        unit_id=unit_id,
        summary=message.identifier[:120],
        document={
            "cap": base64.b64encode(document).decode("ascii"),
            "unit_codes": list(unit_codes),
            "message": named_cap(message.reference),
            "replaced": [named_cap(each) for each in message.replaced],
        },
    )


def named_cap(message: CapReference) -> dict[str, str]:
    """A CAP message as documents of operations name it: one instant is always written in the same way."""
    sent = message.sent.astimezone(UTC).isoformat()
    return {"sender": message.sender, "identifier": message.identifier, "sent": sent}


def as_read(operation: Operation, drafts: Iterable[AlertDraft], remarks: Iterable[Fault]) -> Operation:
    """A CAP message to be taken in, with the alerts it becomes and what was left out of it, for a second person to read."""
    told = [{"field": each.field, "code": each.code, "facts": dict(each.facts)} for each in remarks]
    said = [document_of(each) for each in drafts]
    return replace(operation, document={**operation.document, "drafts": said, "left_out": told})


def says_as_read(operation: Operation, drafts: Iterable[AlertDraft]) -> bool:
    """Whether a CAP message becomes here what a second person has read: the same words in the same places.

    Until when it holds is reckoned from the moment where the message does not say it, and is no difference.
    """
    read = operation.document.get("drafts")  # an earlier version has kept none
    return read is None or [*map(_but_its_end, read)] == [_but_its_end(document_of(each)) for each in drafts]


def _but_its_end(draft: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in draft.items() if name != "valid_until"}


def left_out(document: Mapping[str, Any]) -> tuple[Fault, ...]:
    """What was left out of the CAP message that is to be taken in."""
    return tuple(Fault(each["field"], each["code"], each["facts"]) for each in document.get("left_out", ()))


def testing_aloud(unit_id: UnitId, *, name: str) -> Operation:
    """A test that sounds on all the ground of a unit, now."""
    return Operation(kind=Kind.AUDIBLE_TEST, unit_id=unit_id, summary=name, document={"unit_id": str(unit_id)})


# --- what is live, how loud, who it is -------------------------------------------------------------------------------


def airing(wish: Wish, *, instead_of: tuple[BroadcastId, int] | None = None, offer: TakenUp | None = None) -> Operation:
    """A broadcast with something live in it; `instead_of` is the one it takes the place of, in the version that was read.

    `offer` is what its unit was offered and puts on at these times.
    """
    document: dict[str, Any] = {"wish": document_of_wish(wish)}
    if instead_of is not None:
        document |= {"broadcast_id": str(instead_of[0]), "version": instead_of[1]}
    if offer is not None:
        document["offer"] = {"broadcast_id": str(offer.broadcast_id), "version": offer.version, "note": offer.note}
    return Operation(
        kind=Kind.LIVE if instead_of is None else Kind.LIVE_CHANGE,
        unit_id=wish.unit_id,
        summary=wish.title,
        document=document,
    )


def retuning(source: StoredSource, wish: SourceWish) -> Operation:
    """A live source to be something else, in the place of the version that was read."""
    return Operation(
        kind=Kind.RELAY_CHANGE,
        unit_id=source.unit_id,
        summary=f"{wish.name}: {wish.url}",
        document={"source_id": str(source.source_id), "version": source.version, "wish": document_of_wish(wish)},
    )


def setting_volume(unit_id: UnitId, percent: int, kinds: Iterable[str], *, name: str) -> Operation:
    """One volume for all devices of these kinds below a unit."""
    return Operation(
        kind=Kind.VOLUME,
        unit_id=unit_id,
        summary=f"{name}: {percent} %",
        document={"unit_id": str(unit_id), "volume_percent": percent, "kinds": sorted(kinds)},
    )


def claiming(unit_id: UnitId, codes: Sequence[tuple[str, bytes]], *, expires_at: datetime) -> Operation:
    """Claim codes for devices, of which only the hashes are kept; `unit_id` is one that all of them lie below."""
    return Operation(
        kind=Kind.CLAIMS,
        unit_id=unit_id,
        summary=", ".join(device_id for device_id, _ in codes[:3]) + (" …" if len(codes) > 3 else ""),
        document={
            "claims": [{"device_id": device_id, "code_hash": code_hash.hex()} for device_id, code_hash in codes],
            "expires_at": expires_at.isoformat(),
        },
    )
