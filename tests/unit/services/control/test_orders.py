from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import codec, limits
from schemas.configuration import Configuration, Fallback, Ownership
from schemas.errors import EncodeError
from schemas.fields import DeviceKind
from schemas.identifiers import DeviceId
from schemas.orders import Order
from schemas.plans import ContentKind, Plan
from services.control import orders
from services.control.orders import SignedOrder
from services.control.planning.model import DeviceNo, Media, RelaySource, Slot, SourceId, to_ms
from services.control.planning.programme import plan
from tests.support.planning import (
    a_broadcast,
    a_bulletin,
    a_device,
    a_media,
    a_snapshot,
    an_addressee,
    bulletins,
    daily,
    days,
    local,
    unit_id,
)

ISSUED_AT = local("2026-09-07 04:00")
HORIZON_AT = local("2026-09-15 00:00")


EVERY_HOUR = [f"{hour:02}:00" for hour in range(24)]


def slots(
    *times: str, kind: DeviceKind = DeviceKind.CLUSTER, text: str = "chữ", count: int = 8, rounds: int = 1
) -> tuple[Slot, ...]:
    snapshot = a_snapshot(
        [a_broadcast(recurrence=daily(*times), items=bulletins(*(1, 2) * rounds))],
        bulletins=[a_bulletin(1, 60, board_text=text), a_bulletin(2, 30)],
        devices=[a_device(1, kind=kind)],
    )
    return plan(snapshot, days(count)).programmes[DeviceNo(1)]


def unsigned(order: Order) -> bytes:
    """A "signature" that keeps the limits of size."""
    return codec.encode(order)


def signed(programme: tuple[Slot, ...]) -> tuple[SignedOrder, Plan]:
    made = orders.sign_plan(
        DeviceId("loa-0001"),
        programme,
        serial=7,
        issued_at=ISSUED_AT,
        valid_until=HORIZON_AT,
        sign=unsigned,
        wire=orders.wire_emission,
    )
    return made, codec.decode(Plan, made.message)


def test_a_plan_holds_its_slots_and_their_media_once() -> None:
    made, message = signed(slots("05:30", "17:00"))
    assert (made.emissions, made.valid_until) == (32, HORIZON_AT)
    assert len(message.emissions) == 32
    assert len(message.media) == 2
    assert (message.device, message.serial) == ("loa-0001", 7)
    # Devices whose clocks are a little behind must not take it for tomorrow's.
    assert message.valid_from_ms == to_ms(ISSUED_AT - orders.BACKDATE)


def test_an_empty_plan_is_a_plan() -> None:
    made, message = signed(())
    assert (made.emissions, message.emissions, message.media) == (0, (), ())


@pytest.mark.parametrize(
    "programme",
    [
        pytest.param(slots(*EVERY_HOUR, rounds=6), id="too_many"),
        pytest.param(slots(*EVERY_HOUR, kind=DeviceKind.BOARD, text="ộ" * 2000), id="too_large"),
    ],
)
def test_what_does_not_fit_is_left_for_the_next_plan(programme: tuple[Slot, ...]) -> None:
    made, message = signed(programme)
    assert 0 < made.emissions < len(programme)
    assert made.emissions == len(message.emissions) <= limits.MAX_EMISSIONS
    assert len(made.message) <= limits.PLAN_BYTES
    # It ends where the first one left out begins, so nothing is missed before the next plan.
    assert made.valid_until == programme[made.emissions].starts_at < HORIZON_AT
    assert message.valid_until_ms == to_ms(made.valid_until)


def test_a_wire_that_takes_nothing_is_an_error_not_an_endless_loop() -> None:
    def refuse(_: Order) -> bytes:
        raise EncodeError("too large")

    with pytest.raises(EncodeError):
        orders.sign_plan(
            DeviceId("loa-0001"),
            slots("05:30"),
            serial=1,
            issued_at=ISSUED_AT,
            valid_until=HORIZON_AT,
            sign=refuse,
            wire=orders.wire_emission,
        )


def test_what_the_wire_cannot_hold_is_cut_to_what_it_can() -> None:
    snapshot = a_snapshot(
        bulletins=[a_bulletin(1, None, title="t" * 300, board_text="x" * 3000)],
        devices=[a_device(1, kind=DeviceKind.BOARD)],
    )
    (emission,) = [orders.wire_emission(slot) for slot in plan(snapshot, days(1)).programmes[DeviceNo(1)]]
    assert (len(emission.title or ""), len(emission.text or "")) == (200, 2000)


def a_source(**changes: object) -> RelaySource:
    values: dict[str, object] = {"source_id": SourceId(uuid.UUID(int=7)), "name": "VOV1", "path": "relays/7"}
    return RelaySource(**(values | changes))  # type: ignore[arg-type]


def a_relay(source: RelaySource) -> Slot:
    return replace(
        slots("05:30", count=1)[0],
        content=ContentKind.RELAY,
        bulletin_id=None,
        media=None,
        text=None,
        relay=source,
        title=source.name,
    )


def test_a_relay_is_told_by_its_source_and_what_fills_in() -> None:
    fallback = a_media(30, n=9)
    _, message = signed((a_relay(a_source(fallback=fallback)),))
    (emission,) = message.emissions
    assert emission.relay is not None
    assert (emission.relay.source_id, emission.relay.path, emission.relay.url) == (uuid.UUID(int=7), "relays/7", None)
    assert (emission.content, emission.media, emission.bulletin_id) == (ContentKind.RELAY, None, None)
    assert emission.fallback == fallback.sha256
    assert [medium.sha256 for medium in message.media] == [fallback.sha256]


def test_a_source_taken_directly_keeps_its_own_address() -> None:
    emission = orders.wire_emission(a_relay(a_source(path=None, url="https://vov.example/1")))
    assert emission.relay is not None
    assert (emission.relay.path, emission.relay.url, emission.fallback) == (None, "https://vov.example/1", None)
    assert not emission.relay.is_authenticated


def test_a_picture_is_media_without_a_length() -> None:
    picture = Media(sha256=bytes(32), size=9_000, mime="image/png")
    slot = replace(slots("05:30", count=1)[0], content=ContentKind.IMAGE, media=picture, text=None)
    _, message = signed((slot,))
    assert [(medium.mime, medium.duration_ms) for medium in message.media] == [("image/png", None)]


def test_a_plans_hash_is_of_its_content_in_whatever_order() -> None:
    assert orders.plan_hash([b"a", b"b"]) == orders.plan_hash([b"b", b"a"])
    assert orders.plan_hash([b"a"]) != orders.plan_hash([b"b"])


def a_configuration(
    serial: int = 1, issued_at: datetime = ISSUED_AT, depth: int = 3, **changes: object
) -> Configuration:
    return orders.configuration(
        an_addressee(**changes),
        [unit_id(n) for n in range(depth)],
        "https://loa.example/",
        serial=serial,
        issued_at=issued_at,
        valid_for=timedelta(days=365),
    )


def a_fallback(at_s: int) -> Fallback:
    return Fallback(fallback_id=uuid.UUID(int=1), media=orders.media_reference(a_media(10)), at_s=(at_s,))


def test_a_configurations_hash_covers_everything_but_serial_and_times() -> None:
    plain = orders.configuration_hash(a_configuration())
    assert orders.configuration_hash(a_configuration(serial=9, issued_at=HORIZON_AT)) == plain
    others = [
        a_configuration(volume_percent=31),
        a_configuration(volume_cap_percent=81),
        a_configuration(heartbeat_interval=timedelta(seconds=30)),
        a_configuration(depth=2),
        a_configuration(latitude=21.0),
        a_configuration(ownership=Ownership.PRIVATE),
        a_configuration(latitude=None),
        a_configuration(fallback=a_fallback(3_600)),
        a_configuration(fallback=a_fallback(7_200)),
    ]
    assert len({plain, *map(orders.configuration_hash, others)}) == len(others) + 1


@pytest.mark.parametrize(
    ("interval", "expected"),
    [(timedelta(0), 1), (timedelta(seconds=60), 60), (timedelta(days=30), 86_400)],
)
def test_a_configuration_stays_within_the_wire(interval: timedelta, expected: int) -> None:
    made = a_configuration(heartbeat_interval=interval, depth=40)
    assert made.heartbeat_interval_s == expected
    assert len(made.membership) == orders.MAX_MEMBERSHIP
    assert made.media_base_url == "https://loa.example"
    codec.encode(made)


@given(
    device_no=st.integers(1, 10**7).map(DeviceNo),
    hours=st.integers(1, 24 * 31),
    left=st.integers(1, 24 * 7),
)
def test_renewal_lies_within_the_second_half_of_a_plan(device_no: DeviceNo, hours: int, left: int) -> None:
    issued_at = datetime(2026, 9, 7, tzinfo=UTC)
    valid_until = issued_at + timedelta(hours=hours)
    at = orders.renew_plan_at(device_no, issued_at=issued_at, valid_until=valid_until, renew_left=timedelta(hours=left))
    assert issued_at + (valid_until - issued_at) / 2 <= at < valid_until


def test_renewals_are_spread_over_a_day() -> None:
    due = sorted(
        orders.renew_plan_at(DeviceNo(no), issued_at=ISSUED_AT, valid_until=HORIZON_AT, renew_left=timedelta(days=3))
        for no in range(1, 1001)
    )
    assert due[0] >= HORIZON_AT - timedelta(days=3)
    assert due[-1] < HORIZON_AT - timedelta(days=2)
    gaps = [later - earlier for earlier, later in pairwise(due)]
    assert max(gaps) < timedelta(minutes=5)
