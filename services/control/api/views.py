"""Answers that several routes share, and their making from values of the service."""

from __future__ import annotations

import uuid
from dataclasses import asdict
from datetime import date, datetime, timedelta
from typing import Any

from pydantic import Field

from schemas.identifiers import UnitId
from services.control.account_store import Account, ApiToken, Session
from services.control.airing_store import Airing, ProofCounts, Proven
from services.control.api.fields import Answer
from services.control.emission_store import EmissionRecord, NamedAlert
from services.control.fleet import KINDS, LIVENESS, DeviceHistory, DeviceStatus, Tally, UnitStatus
from services.control.permissions import Permission, Role
from services.control.units import UnitTree


class UnitRef(Answer):
    """A unit by id and name."""

    unit_id: uuid.UUID
    code: str | None
    name: str


class UnitView(Answer):
    """A unit as it is on a day."""

    unit_id: uuid.UUID
    parent_id: uuid.UUID | None
    code: str
    level: str
    name: str
    valid_from: date
    valid_until: date | None
    depth: int
    children: int
    path: list[UnitRef] = Field(description="from the root down to the unit itself")


class GrantView(Answer):
    """A role in a unit."""

    unit_id: uuid.UUID
    role: Role
    expires_at: datetime | None


class AccountView(Answer):
    """An account."""

    account_id: uuid.UUID
    login: str
    display_name: str
    unit_id: uuid.UUID
    created_at: datetime
    is_disabled: bool
    grants: list[GrantView]


class SessionView(Answer):
    """An open session."""

    session_id: uuid.UUID
    is_current: bool
    origin: str | None
    user_agent: str | None
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime


class TokenView(Answer):
    """A token; the token itself is shown once, when it is made."""

    token_id: uuid.UUID
    name: str
    created_at: datetime
    expires_at: datetime
    permissions: list[Permission] | None = Field(description="all it may do; null: what its account may")
    unit_id: uuid.UUID | None = Field(description="where it may do so; null: wherever its account may")
    last_used_at: datetime | None
    last_used_origin: str | None


class EndedView(Answer):
    """How many sessions were ended."""

    ended: int


class AiringView(Answer):
    """Something that is to sound on a device."""

    broadcast_id: uuid.UUID
    broadcast_title: str
    bulletin_id: uuid.UUID | None
    relay_source_id: uuid.UUID | None
    title: str
    level: str
    occurrence_at: datetime
    item: int
    content: str
    starts_at: datetime
    ends_at: datetime


class ProvenView(AiringView):
    """Something that was to sound, and what became of it."""

    outcome: str
    reason: str | None
    evidence: str | None
    started_at: datetime | None
    ended_at: datetime | None
    sounded_ms: int | None


class PlayingView(Answer):
    """What a device says it puts out now."""

    source: str
    id: uuid.UUID | None
    title: str | None
    since: datetime | None


class DeviceStatusView(Answer):
    """A device now. `playing` is its own word; `due` is what should be on."""

    device_id: str
    kind: str
    unit_id: uuid.UUID
    name: str
    liveness: str = Field(description="online, offline or never (heard)")
    online_since: datetime | None
    last_heard_at: datetime | None
    gateway_id: str | None
    volume_set_percent: int
    volume_percent: int | None
    clock_state: str | None
    firmware: str | None
    plan_serial: int | None
    config_serial: int | None
    last_error: str | None
    state: dict[str, Any] | None = Field(description="the latest heartbeat")
    playing: PlayingView | None
    due: AiringView | None
    next: AiringView | None
    last: ProvenView | None


class ProofView(Answer):
    """Emissions by what became of them; `planned` is the sum of all the others but `unexplained`.

    `by_gateway` are those only a gateway vouches for: never counted as played (R-28). `pending` are not due yet,
    `overdue` have had no verdict 15 minutes after their slot. `unexplained` is unknown + overdue.
    """

    planned: int
    played: int
    late: int
    cut: int
    missed: int
    refused: int
    unknown: int
    by_gateway: int
    pending: int
    overdue: int
    unexplained: int


class TallyView(Answer):
    """Devices of a kind by state."""

    kind: str
    online: int
    offline: int
    never: int


class ChildStatusView(Answer):
    """A child unit with everything below it."""

    unit: UnitRef
    devices: list[TallyView]
    playing: int


class UnitStatusView(Answer):
    """A unit with everything below it, now."""

    unit: UnitRef
    at: datetime
    devices_by_kind: list[TallyView]
    playing: int
    children: list[ChildStatusView]
    proof_today: ProofView
    devices: list[DeviceStatusView]
    more_after: str | None = Field(description="device id to go on after; null: that was all")


class NamedAlertView(Answer):
    """An alert, a test or a silence: what it said, and the unit that spoke as it was called then."""

    alert_id: uuid.UUID
    purpose: str = Field(description="alert | audible_test | silence")
    event: str
    headline: str
    unit_id: uuid.UUID
    unit_name: str


class EmissionView(Answer):
    """One item of one occurrence on one device; `outcome` is null while there is no verdict."""

    broadcast_id: uuid.UUID
    broadcast_title: str
    occurrence_at: datetime
    item: int
    device_id: str
    device_name: str
    unit_id: uuid.UUID
    bulletin_id: uuid.UUID | None
    relay_source_id: uuid.UUID | None
    title: str
    level: str
    content: str
    starts_at: datetime
    ends_at: datetime
    outcome: str | None
    reason: str | None
    evidence: str | None
    started_at: datetime | None
    ended_at: datetime | None
    sounded_ms: int | None
    cut_by_source: str | None
    cut_by: uuid.UUID | None
    cut_by_alert: NamedAlertView | None = Field(description="the alert that cut it or took its place, by name")
    late_ms: int | None = Field(description="how long after its slot it began, of what is late or was cut")
    is_resumed: bool | None = Field(description="of what something cut into: whether it went on afterwards")
    fallback_ms: int | None = Field(description="of a relay: how much of what sounded was not its source")


class ReadingView(Answer):
    """The newest value of a quantity."""

    quantity: str
    value: float
    unit: str
    quality: str
    at: datetime


class DeviceHistoryView(Answer):
    """A device now, what comes on it, and what was in the last seven days."""

    at: datetime
    status: DeviceStatusView
    certificate_shared_at: datetime | None = Field(
        description="when two devices were last seen to use this one's certificate, if within a day"
    )
    coming: list[EmissionView]
    past: list[EmissionView]
    readings: list[ReadingView]


def unit_ref(tree: UnitTree, unit_id: UnitId) -> UnitRef:
    """A unit by name; one that is in no tree by its id."""
    unit = tree.get(unit_id)
    return UnitRef(unit_id=unit_id, code=unit.code if unit else None, name=unit.name if unit else str(unit_id))


def unit_view(tree: UnitTree, unit_id: UnitId) -> UnitView:
    """A unit of the tree."""
    unit = tree.get(unit_id)
    assert unit is not None
    return UnitView(
        unit_id=unit.unit_id,
        parent_id=unit.parent_id,
        code=unit.code,
        level=unit.level,
        name=unit.name,
        valid_from=unit.valid_from,
        valid_until=unit.valid_until,
        depth=tree.depth(unit_id) or 0,
        children=len(tree.children(unit_id)),
        path=[unit_ref(tree, each) for each in tree.path(unit_id)],
    )


def session_view(session: Session, current: uuid.UUID | None) -> SessionView:
    """A session; `current` is the one that asks."""
    return SessionView(
        session_id=session.session_id,
        is_current=session.session_id == current,
        origin=session.origin,
        user_agent=session.user_agent,
        created_at=session.created_at,
        last_seen_at=session.last_seen_at,
        expires_at=session.expires_at,
    )


def token_view(token: ApiToken) -> TokenView:
    """A token, without what it is sent as."""
    permissions = token.narrowing.permissions
    return TokenView(
        token_id=token.token_id,
        name=token.name,
        created_at=token.created_at,
        expires_at=token.expires_at,
        permissions=sorted(permissions) if permissions is not None else None,
        unit_id=token.narrowing.unit_id,
        last_used_at=token.last_used_at,
        last_used_origin=token.last_used_origin,
    )


def account_view(account: Account) -> AccountView:
    """An account."""
    return AccountView(
        account_id=account.account_id,
        login=account.login,
        display_name=account.display_name,
        unit_id=account.unit_id,
        created_at=account.created_at,
        is_disabled=account.disabled_at is not None,
        grants=[
            GrantView(unit_id=grant.unit_id, role=grant.role, expires_at=grant.expires_at) for grant in account.grants
        ],
    )


def airing_view(airing: Airing) -> AiringView:
    """Something that is to sound."""
    return AiringView(**_airing(airing))


def _airing(airing: Airing) -> dict[str, Any]:
    return {
        "broadcast_id": airing.broadcast_id,
        "broadcast_title": airing.broadcast_title,
        "bulletin_id": airing.bulletin_id,
        "relay_source_id": airing.relay_source_id,
        "title": airing.title,
        "level": airing.level.name.lower(),
        "occurrence_at": airing.occurrence_at,
        "item": airing.item,
        "content": airing.content,
        "starts_at": airing.starts_at,
        "ends_at": airing.ends_at,
    }


def proven_view(proven: Proven) -> ProvenView:
    """Something that was to sound, with its verdict."""
    return ProvenView(
        **_airing(proven.airing),
        outcome=proven.outcome,
        reason=proven.reason,
        evidence=proven.evidence,
        started_at=proven.started_at,
        ended_at=proven.ended_at,
        sounded_ms=proven.sounded_ms,
    )


def device_status_view(status: DeviceStatus) -> DeviceStatusView:
    """A device now."""
    state = status.state
    is_online = state.liveness == "online"
    playing = (
        PlayingView(
            source=state.playing_source, id=state.playing_id, title=state.playing_title, since=state.playing_since
        )
        if state.playing_source is not None and is_online
        else None
    )
    return DeviceStatusView(
        device_id=state.device_id,
        kind=state.kind,
        unit_id=state.unit_id,
        name=state.name,
        liveness=state.liveness,
        online_since=state.presence_at if is_online and state.online else None,
        last_heard_at=state.last_heard_at,
        gateway_id=state.gateway_id,
        volume_set_percent=state.volume_set_percent,
        volume_percent=state.volume_percent,
        clock_state=state.clock_state,
        firmware=state.firmware,
        plan_serial=state.plan_serial,
        config_serial=state.config_serial,
        last_error=state.last_error,
        state=dict(state.state) if state.state is not None else None,
        playing=playing,
        due=airing_view(status.due) if status.due else None,
        next=airing_view(status.next) if status.next else None,
        last=proven_view(status.last) if status.last else None,
    )


def proof_view(counts: ProofCounts) -> ProofView:
    """Emissions counted."""
    return ProofView(
        planned=counts.planned,
        played=counts.played,
        late=counts.late,
        cut=counts.cut,
        missed=counts.missed,
        refused=counts.refused,
        unknown=counts.unknown,
        by_gateway=counts.by_gateway,
        pending=counts.pending,
        overdue=counts.overdue,
        unexplained=counts.unexplained,
    )


def tally_views(tally: Tally) -> list[TallyView]:
    """Devices by kind, in the order of kinds; kinds there are none of are left out."""
    return [
        TallyView(kind=kind, **{state: tally.total(kind, state) for state in LIVENESS})
        for kind in KINDS
        if tally.total(kind)
    ]


def unit_status_view(status: UnitStatus, tree: UnitTree) -> UnitStatusView:
    """A unit now."""
    return UnitStatusView(
        unit=unit_ref(tree, status.unit_id),
        at=status.at,
        devices_by_kind=tally_views(status.tally),
        playing=status.tally.playing,
        children=[
            ChildStatusView(unit=unit_ref(tree, child), devices=tally_views(tally), playing=tally.playing)
            for child, tally in status.children.items()
        ],
        proof_today=proof_view(status.proof_today),
        devices=[device_status_view(each) for each in status.devices],
        more_after=status.more_after,
    )


def named_alert_view(alert: NamedAlert) -> NamedAlertView:
    """An alert by name."""
    return NamedAlertView(**asdict(alert))


def emission_view(record: EmissionRecord) -> EmissionView:
    """One emission."""
    return EmissionView(
        broadcast_id=record.broadcast_id,
        broadcast_title=record.broadcast_title,
        occurrence_at=record.occurrence_at,
        item=record.item,
        device_id=record.device_id,
        device_name=record.device_name,
        unit_id=record.unit_id,
        bulletin_id=record.bulletin_id,
        relay_source_id=record.relay_source_id,
        title=record.title,
        level=record.level,
        content=record.content,
        starts_at=record.starts_at,
        ends_at=record.ends_at,
        outcome=record.outcome,
        reason=record.reason,
        evidence=record.evidence,
        started_at=record.started_at,
        ended_at=record.ended_at,
        sounded_ms=record.sounded_ms,
        cut_by_source=record.cut_by_source,
        cut_by=record.cut_by,
        cut_by_alert=named_alert_view(record.cut_by_alert) if record.cut_by_alert is not None else None,
        late_ms=None if record.late_by is None else record.late_by // timedelta(milliseconds=1),
        is_resumed=record.is_resumed,
        fallback_ms=record.fallback_ms,
    )


def device_history_view(history: DeviceHistory) -> DeviceHistoryView:
    """A device with what comes and what was."""
    return DeviceHistoryView(
        at=history.at,
        status=device_status_view(history.status),
        certificate_shared_at=history.certificate_shared_at,
        coming=[emission_view(each) for each in history.coming],
        past=[emission_view(each) for each in history.past],
        readings=[
            ReadingView(quantity=each.quantity, value=each.value, unit=each.unit, quality=each.quality, at=each.at)
            for each in history.readings
        ],
    )
