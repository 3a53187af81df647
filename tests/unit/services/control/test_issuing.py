"""Who needs which order: a change reaches the devices it touches and no others."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import time, timedelta
from zoneinfo import ZoneInfo

import pytest

from schemas.configuration import Fallback
from schemas.fields import DeviceKind
from schemas.identifiers import BulletinId, DeviceId
from schemas.topics import format_topic
from services.control import orders
from services.control.issuing import (
    CONFIG,
    KEYS,
    PLAN,
    Need,
    PlannedSlot,
    Standing,
    Terms,
    issue,
    lookback,
    needs,
    with_alert_media,
    with_fallbacks,
)
from services.control.orders import Addressee
from services.control.planning.changes import fingerprint
from services.control.planning.model import DeviceNo, Media
from services.control.planning.policies import Fallback as WantedFallback
from services.control.planning.policies import Policies, Policy
from services.control.planning.programme import plan
from services.control.trust.keyring import Keyring
from tests.support.control import a_keyring
from tests.support.planning import (
    DAY,
    PROVINCE,
    a_broadcast,
    a_bulletin,
    a_media,
    a_snapshot,
    an_addressee,
    bulletin_id,
    daily,
    days,
    local,
    unit_id,
)

NOW = local("2026-09-07 04:00")
TERMS = Terms(
    now=NOW,
    horizon_at=local("2026-09-15 00:00"),
    renew_left=timedelta(days=3),
    configuration_validity=timedelta(days=365),
    media_base_url="https://loa.example",
)
TREE = PROVINCE.on(DAY)
NO = DeviceNo(1)


def a_programme(*times: str) -> list[PlannedSlot]:
    snapshot = a_snapshot([a_broadcast(recurrence=daily(*times))], bulletins=[a_bulletin(1, 60)])
    return [PlannedSlot(slot, fingerprint(slot)) for slot in plan(snapshot, days(8)).programmes[NO]]


@pytest.fixture(scope="module")
def keyring() -> Keyring:
    return a_keyring()


def standing_for(
    addressee: Addressee, programme: list[PlannedSlot], keyring: Keyring, terms: Terms = TERMS
) -> dict[tuple[DeviceNo, str], Standing]:
    """What stands after everything was issued once."""
    made = issue(
        Need(addressee=addressee, kinds=frozenset({KEYS, CONFIG, PLAN})),
        {PLAN: 1, CONFIG: 1},
        {},
        {addressee.device_no: programme},
        TREE,
        keyring,
        terms,
    )
    return {
        (each.device_no, each.kind): Standing(
            serial=each.serial,
            issued_at=terms.now,
            valid_until=each.valid_until,
            renew_at=each.renew_at,
            topic=format_topic(each.topic),
            kid=each.kid,
            content_hash=each.content_hash,
        )
        for each in made
    }


def needed(
    addressee: Addressee,
    standings: dict[tuple[DeviceNo, str], Standing],
    programme: list[PlannedSlot] | None,
    keyring: Keyring,
    terms: Terms = TERMS,
) -> set[str]:
    programmes = {addressee.device_no: programme} if programme is not None else {}
    found = needs([addressee], standings, programmes, TREE, keyring, terms)
    return set(found[0].kinds) if found else set()


def test_a_new_device_needs_everything(keyring: Keyring) -> None:
    assert needed(an_addressee(), {}, a_programme("05:30"), keyring) == {KEYS, CONFIG, PLAN}


def test_a_device_that_has_everything_needs_nothing(keyring: Keyring) -> None:
    programme = a_programme("05:30")
    assert needed(an_addressee(), standing_for(an_addressee(), programme, keyring), programme, keyring) == set()


def test_a_device_behind_a_gateway_is_given_no_keys(keyring: Keyring) -> None:
    child = an_addressee(principal=DeviceId("gw-1"))
    assert needed(child, {}, a_programme("05:30"), keyring) == {CONFIG, PLAN}


def test_a_sensor_has_no_plan(keyring: Keyring) -> None:
    sensor = an_addressee(kind=DeviceKind.SENSOR)
    assert lookback([sensor], {}, now=NOW) == {}
    assert needed(sensor, {}, None, keyring) == {KEYS, CONFIG}


CHANGES = [
    pytest.param({"volume_percent": 40}, {CONFIG}, id="volume"),
    pytest.param({"unit_id": unit_id(21)}, {CONFIG}, id="another_commune_is_another_membership"),
    pytest.param({"principal": DeviceId("gw-1")}, {CONFIG, PLAN}, id="given_to_a_gateway"),
    pytest.param({}, set(), id="nothing"),
]


@pytest.mark.parametrize(("change", "kinds"), CHANGES)
def test_a_change_of_the_device(change: dict[str, object], kinds: set[str], keyring: Keyring) -> None:
    programme = a_programme("05:30")
    standings = standing_for(an_addressee(), programme, keyring)
    assert needed(an_addressee(**change), standings, programme, keyring) == kinds


def test_a_change_of_the_programme(keyring: Keyring) -> None:
    before, after = a_programme("05:30"), a_programme("05:30", "17:00")
    standings = standing_for(an_addressee(), before, keyring)
    assert needed(an_addressee(), standings, after, keyring) == {PLAN}
    assert needed(an_addressee(), standings, before[1:], keyring) == {PLAN}


def test_what_lies_beyond_the_plan_waits_for_its_renewal(keyring: Keyring) -> None:
    programme = a_programme("05:30")
    standings = standing_for(
        an_addressee(), programme[:4], keyring, replace(TERMS, horizon_at=programme[4].slot.starts_at)
    )
    assert needed(an_addressee(), standings, programme, keyring) == set()
    renew_at = standings[NO, PLAN].renew_at
    assert needed(an_addressee(), standings, programme, keyring, replace(TERMS, now=renew_at)) == {PLAN}


def test_time_alone_changes_nothing(keyring: Keyring) -> None:
    programme = a_programme("05:30", "17:00")
    standings = standing_for(an_addressee(), programme, keyring)
    later = replace(TERMS, now=NOW + timedelta(days=3), horizon_at=TERMS.horizon_at + timedelta(days=3))
    # The record still holds what is over; the look-back reaches to the issue.
    assert lookback([an_addressee()], standings, now=later.now) == {NO: NOW}
    assert needed(an_addressee(), standings, programme, keyring, later) == set()


def test_another_signing_key_needs_every_signature_anew(keyring: Keyring) -> None:
    programme = a_programme("05:30")
    standings = standing_for(an_addressee(), programme, keyring)
    assert needed(an_addressee(), standings, programme, a_keyring()) == {KEYS, CONFIG, PLAN}


def test_a_retired_device_falls_silent_and_is_left_alone(keyring: Keyring) -> None:
    programme = a_programme("05:30")
    retired = an_addressee(is_retired=True)
    standings = standing_for(an_addressee(), programme, keyring)
    assert needed(retired, standings, [], keyring) == {PLAN}

    silent = standing_for(an_addressee(), [], keyring)
    far = replace(TERMS, now=NOW + timedelta(days=400))
    assert needed(retired, silent, [], keyring, far) == set()
    assert needed(retired, {}, [], keyring) == set()


def test_keys_come_first_and_the_old_place_is_named(keyring: Keyring) -> None:
    programme = a_programme("05:30")
    standings = standing_for(an_addressee(), programme, keyring)
    child = an_addressee(principal=DeviceId("gw-1"))
    made = issue(
        Need(addressee=child, kinds=frozenset({PLAN, CONFIG})),
        {PLAN: 2, CONFIG: 2},
        standings,
        {NO: programme},
        TREE,
        keyring,
        TERMS,
    )
    assert [(each.kind, each.serial, each.old_topic) for each in made] == [
        (CONFIG, 2, "loa/v1/loa-0001/down/config"),
        (PLAN, 2, "loa/v1/loa-0001/down/plan"),
    ]
    first = issue(
        Need(addressee=an_addressee(), kinds=frozenset({PLAN, CONFIG, KEYS})),
        {PLAN: 1, CONFIG: 1},
        {},
        {NO: programme},
        TREE,
        keyring,
        TERMS,
    )
    assert [each.kind for each in first] == [KEYS, CONFIG, PLAN]
    assert first[0].content_hash == hashlib.sha256(keyring.announced.message).digest()
    assert first[2].content_hash == orders.plan_hash(planned.fingerprint for planned in programme)


# --- what sounds when a plan has run out -------------------------------------------------------------------------------

NOTICE = bulletin_id(1)


def fallback_for(addressee: Addressee, *policies: Policy, media: dict[BulletinId, Media], zone: str) -> Fallback | None:
    holding = Policies({policy.unit_id: policy for policy in policies})
    (given,) = with_fallbacks([addressee], holding, TREE, media, zone=ZoneInfo(zone), today=DAY)
    return given.fallback


def a_policy(unit: int, *times: str) -> Policy:
    return Policy(
        unit_id=unit_id(unit),
        fallback=WantedFallback(bulletin_id=NOTICE, times=tuple(time.fromisoformat(each) for each in times)),
    )


def test_devices_are_told_in_utc_what_to_sound_without_a_plan() -> None:
    found = fallback_for(
        an_addressee(), a_policy(11, "17:00", "05:30"), media={NOTICE: a_media(20)}, zone="Asia/Ho_Chi_Minh"
    )
    assert found is not None
    assert (found.fallback_id, found.media.sha256) == (NOTICE, a_media(20).sha256)
    assert found.at_s == (10 * 3600, 22 * 3600 + 1800)


@pytest.mark.parametrize(
    ("addressee", "media"),
    [
        (an_addressee(kind=DeviceKind.BOARD), {NOTICE: a_media(20)}),
        (an_addressee(unit_id=unit_id(2)), {NOTICE: a_media(20)}),  # another unit's notice
        (an_addressee(), {}),  # withdrawn, or without sound
    ],
)
def test_who_has_nothing_to_fall_back_on_is_told_nothing(addressee: Addressee, media: dict[BulletinId, Media]) -> None:
    assert fallback_for(addressee, a_policy(11, "05:30"), media=media, zone="UTC") is None


def test_another_fallback_is_another_configuration(keyring: Keyring) -> None:
    programme = a_programme("05:30")
    standings = standing_for(an_addressee(), programme, keyring)
    (given,) = with_fallbacks(
        [an_addressee()],
        Policies({unit_id(11): a_policy(11, "05:30")}),
        TREE,
        {NOTICE: a_media(20)},
        zone=ZoneInfo("UTC"),
        today=DAY,
    )
    assert needed(given, standings, programme, keyring) == {CONFIG}


def test_devices_that_sound_keep_the_sounds_of_alerts_that_hold_at_their_unit(keyring: Keyring) -> None:
    programme = a_programme("05:30")
    standings = standing_for(an_addressee(), programme, keyring)
    tone, gone = a_media(30), a_media(31)
    board = an_addressee(kind=DeviceKind.BOARD)
    cluster, shown = with_alert_media(
        [an_addressee(), board], {}, [tone.sha256, gone.sha256], TREE, {tone.sha256: tone}
    )
    assert [each.sha256 for each in cluster.alert_media] == [tone.sha256]
    assert shown == board
    assert needed(cluster, standings, programme, keyring) == {CONFIG}
