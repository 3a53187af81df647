"""Which orders a device needs, and the orders. Pure: signing is a function that is handed in.

An order is issued when what it would say differs from what stands, when it goes to another topic (the device was given
to a gateway), when it was signed with another key, or when it is due for renewal. Everything else is left alone, so a
change reaches the devices it touches and no others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from schemas.configuration import Configuration, Fallback
from schemas.fields import DeviceKind
from schemas.identifiers import BulletinId, UnitId
from schemas.orders import MediaReference
from schemas.plans import Emission
from schemas.topics import Downlink, DownlinkKind, format_topic
from services.control import orders
from services.control.alerting.template import Template, files_at
from services.control.orders import Addressee
from services.control.planning.model import DeviceNo, Media, Slot
from services.control.planning.policies import Fallback as WantedFallback
from services.control.planning.policies import Policies
from services.control.planning.targets import PLAYS
from services.control.trust.keyring import Keyring
from services.control.units import UnitTree

# A configuration is renewed when a quarter of its time is left: devices that are off for months still come back to one.
CONFIGURATION_RENEWAL_SHARE = 0.75

PLAN, CONFIG, KEYS = DownlinkKind.PLAN.value, DownlinkKind.CONFIG.value, DownlinkKind.KEYS.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What all orders of a turn have in common."""

    now: datetime
    horizon_at: datetime
    renew_left: timedelta
    configuration_validity: timedelta
    media_base_url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """A device and the kinds of order it needs."""

    addressee: Addressee
    kinds: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The order of a kind that stands for a device now."""

    serial: int
    issued_at: datetime
    valid_until: datetime
    renew_at: datetime
    topic: str
    kid: bytes
    content_hash: bytes


class PlannedSlot(NamedTuple):
    """A slot on a device as it stands on record, with the fingerprint it was recorded under."""

    slot: Slot
    fingerprint: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """An order to be put in place of what stands. `old_topic` is where that was published, if it was elsewhere."""

    device_no: DeviceNo
    kind: str
    serial: int
    valid_until: datetime
    renew_at: datetime
    topic: Downlink
    kid: bytes
    content_hash: bytes
    message: bytes
    emissions: int = 0
    old_topic: str | None = None


def with_fallbacks(
    addressees: Sequence[Addressee],
    policies: Policies,
    tree: UnitTree,
    media: Mapping[BulletinId, Media],
    *,
    zone: ZoneInfo,
    today: date,
) -> tuple[Addressee, ...]:
    """Give each device that sounds what its policies have it sound when its plan has run out (R-26).

    `media` holds the sound of the bulletins that policies name, where they are approved. Devices count in UTC: the times
    are those of `today`, and where the zone's clock changes the configuration goes out again.
    """
    return tuple(
        replace(each, fallback=_fallback(policies.at(each.unit_id, tree).fallback, media, zone=zone, today=today))
        if each.kind is DeviceKind.CLUSTER
        else each
        for each in addressees
    )


def with_alert_media(
    addressees: Sequence[Addressee],
    templates: Mapping[UnitId, Sequence[Template]],
    tones: Sequence[bytes],
    tree: UnitTree,
    media: Mapping[bytes, Media],
) -> tuple[Addressee, ...]:
    """Give each device that sounds what it keeps for alerts: the bare tones, and the templates that hold at its unit.

    `media` are the files they name. Devices of one unit share one tuple.
    """
    by_unit: dict[UnitId, tuple[MediaReference, ...]] = {}
    for unit_id in {each.unit_id for each in addressees if each.kind is DeviceKind.CLUSTER}:
        files = files_at(tree.path(unit_id), templates, tones)
        by_unit[unit_id] = tuple(orders.media_reference(media[file]) for file in files if file in media)
    return tuple(
        replace(each, alert_media=by_unit[each.unit_id]) if each.kind is DeviceKind.CLUSTER else each
        for each in addressees
    )


def _fallback(
    wanted: WantedFallback | None, media: Mapping[BulletinId, Media], *, zone: ZoneInfo, today: date
) -> Fallback | None:
    if wanted is None or wanted.bulletin_id not in media:
        return None
    instants = (datetime.combine(today, each, tzinfo=zone).astimezone(UTC) for each in wanted.times)
    return Fallback(
        fallback_id=wanted.bulletin_id,
        media=orders.media_reference(media[wanted.bulletin_id]),
        at_s=tuple(sorted({at.hour * 3600 + at.minute * 60 + at.second for at in instants})),
    )


Standings = Mapping[tuple[DeviceNo, str], Standing]
Programmes = Mapping[DeviceNo, Sequence[PlannedSlot]]


def lookback(addressees: Sequence[Addressee], standings: Standings, *, now: datetime) -> dict[DeviceNo, datetime]:
    """From which instant on the recorded programme of each device that plays has to be known.

    What stands can only be compared over the time it was made for, so that is since its issue.
    """
    return {
        each.device_no: standing.issued_at if (standing := standings.get((each.device_no, PLAN))) is not None else now
        for each in addressees
        if each.kind in PLAYS
    }


def needs(
    addressees: Sequence[Addressee],
    standings: Standings,
    programmes: Programmes,
    tree: UnitTree,
    keyring: Keyring,
    terms: Terms,
) -> tuple[Need, ...]:
    """Return the devices that need orders. Order of `addressees`."""
    keys_hash = hashlib.sha256(keyring.announced.message).digest()
    found: list[Need] = []
    for addressee in addressees:
        no = addressee.device_no
        wanted = {KEYS} if _needs_keys(addressee, standings.get((no, KEYS)), keys_hash) else set()
        if _needs_configuration(addressee, standings.get((no, CONFIG)), tree, keyring, terms):
            wanted.add(CONFIG)
        if no in programmes and _needs_plan(addressee, standings.get((no, PLAN)), programmes[no], keyring, terms):
            wanted.add(PLAN)
        if wanted:
            found.append(Need(addressee=addressee, kinds=frozenset(wanted)))
    return tuple(found)


def _needs_keys(addressee: Addressee, standing: Standing | None, keys_hash: bytes) -> bool:
    """Only who has a session of its own is given keys; a gateway believes for the devices behind it."""
    if addressee.principal != addressee.device_id or addressee.is_retired:
        return False
    return standing is None or standing.content_hash != keys_hash


def _needs_configuration(
    addressee: Addressee, standing: Standing | None, tree: UnitTree, keyring: Keyring, terms: Terms
) -> bool:
    if addressee.is_retired:
        return False
    if standing is None or _is_outdated(standing, addressee, DownlinkKind.CONFIG, keyring, terms):
        return True
    content = _configuration(addressee, tree, terms, serial=0)
    return standing.content_hash != orders.configuration_hash(content)


def _needs_plan(
    addressee: Addressee, standing: Standing | None, programme: Sequence[PlannedSlot], keyring: Keyring, terms: Terms
) -> bool:
    """A retired device is told to fall silent, once."""
    if standing is None:
        return not addressee.is_retired
    if _is_outdated(standing, addressee, DownlinkKind.PLAN, keyring, terms) and not addressee.is_retired:
        return True
    return standing.content_hash != orders.plan_hash(
        planned.fingerprint
        for planned in programme
        if planned.slot.ends_at > standing.issued_at and planned.slot.starts_at < standing.valid_until
    )


def _is_outdated(standing: Standing, addressee: Addressee, kind: DownlinkKind, keyring: Keyring, terms: Terms) -> bool:
    return (
        standing.renew_at <= terms.now
        or standing.kid != keyring.kid
        or standing.topic != format_topic(_downlink(addressee, kind))
    )


def issue(
    need: Need,
    serials: Mapping[str, int],
    standings: Standings,
    programmes: Programmes,
    tree: UnitTree,
    keyring: Keyring,
    terms: Terms,
) -> tuple[Issue, ...]:
    """Return the orders that a device needs, signed, with `serials` by kind.

    Keys come first and the plan last: the order in which a device that listens can make use of them.
    """
    addressee = need.addressee
    made: list[Issue] = []
    if KEYS in need.kinds:
        made.append(_issue_keys(addressee, keyring))
    if CONFIG in need.kinds:
        made.append(_issue_configuration(addressee, tree, keyring, terms, serial=serials[CONFIG]))
    if PLAN in need.kinds:
        programme = programmes[addressee.device_no]
        made.append(_issue_plan(addressee, programme, keyring, terms, serial=serials[PLAN]))
    return tuple(
        replace(each, old_topic=_old_topic(each, standings.get((addressee.device_no, each.kind)))) for each in made
    )


def _old_topic(made: Issue, standing: Standing | None) -> str | None:
    """Whoever spoke for the device before must not find its orders there any more."""
    if standing is None or standing.topic == format_topic(made.topic):
        return None
    return standing.topic


def _issue_keys(addressee: Addressee, keyring: Keyring) -> Issue:
    announced = keyring.announced
    return Issue(
        device_no=addressee.device_no,
        kind=KEYS,
        serial=announced.serial,
        valid_until=announced.valid_until,
        renew_at=announced.valid_until,
        topic=_downlink(addressee, DownlinkKind.KEYS),
        kid=announced.root_kid,
        content_hash=hashlib.sha256(announced.message).digest(),
        message=announced.message,
    )


def _issue_configuration(addressee: Addressee, tree: UnitTree, keyring: Keyring, terms: Terms, *, serial: int) -> Issue:
    content = _configuration(addressee, tree, terms, serial=serial)
    return Issue(
        device_no=addressee.device_no,
        kind=CONFIG,
        serial=serial,
        valid_until=terms.now + terms.configuration_validity,
        renew_at=terms.now + terms.configuration_validity * CONFIGURATION_RENEWAL_SHARE,
        topic=_downlink(addressee, DownlinkKind.CONFIG),
        kid=keyring.kid,
        content_hash=orders.configuration_hash(content),
        message=keyring.sign(content),
    )


def _issue_plan(
    addressee: Addressee, programme: Sequence[PlannedSlot], keyring: Keyring, terms: Terms, *, serial: int
) -> Issue:
    ahead = [planned for planned in programme if planned.slot.ends_at > terms.now]
    signed = orders.sign_plan(
        addressee.device_id,
        [planned.slot for planned in ahead],
        serial=serial,
        issued_at=terms.now,
        valid_until=terms.horizon_at,
        sign=keyring.sign,
        wire=_wire_emission,
    )
    return Issue(
        device_no=addressee.device_no,
        kind=PLAN,
        serial=serial,
        valid_until=signed.valid_until,
        renew_at=orders.renew_plan_at(
            addressee.device_no, issued_at=terms.now, valid_until=signed.valid_until, renew_left=terms.renew_left
        ),
        topic=_downlink(addressee, DownlinkKind.PLAN),
        kid=keyring.kid,
        content_hash=orders.plan_hash(
            planned.fingerprint for planned in ahead if planned.slot.starts_at < signed.valid_until
        ),
        message=signed.message,
        emissions=signed.emissions,
    )


def _configuration(addressee: Addressee, tree: UnitTree, terms: Terms, *, serial: int) -> Configuration:
    return orders.configuration(
        addressee,
        tree.path(addressee.unit_id),
        terms.media_base_url,
        serial=serial,
        issued_at=terms.now,
        valid_for=terms.configuration_validity,
    )


def _downlink(addressee: Addressee, kind: DownlinkKind) -> Downlink:
    return Downlink(principal=addressee.principal, kind=kind, device=addressee.device_id)


@lru_cache(maxsize=4096)
def _wire_emission(slot: Slot) -> Emission:
    """Devices share slots, so the same message part serves them all."""
    return orders.wire_emission(slot)
