"""Rules between fields, the same for whoever makes a message and for whoever reads one."""

from __future__ import annotations

import hashlib
import uuid
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas import codec, keys, limits, readings, wire
from schemas.alerts import Alert, AlertContent, Area, Audience, Purpose
from schemas.commands import Action, Command
from schemas.configuration import Configuration, Position
from schemas.fields import ClockState, DeviceKind, Level, PlayReference, PlaySource
from schemas.identifiers import DeviceId
from schemas.keys import KeySet, SigningKey
from schemas.orders import MediaReference, Rank
from schemas.plans import ContentKind, Emission, Plan, RelayReference
from schemas.readings import Reading, Sample
from schemas.receipts import Receipt, SequenceRange
from schemas.relays import SegmentList
from schemas.shapes import Record
from tests.support import strategies
from tests.support.vectors.downlinks import orders

RANK = Rank(level=Level.NORMAL, issuer_depth=0, issued_at_ms=0)
MEDIA = MediaReference(sha256=bytes(32), size=1, mime="audio/ogg", path="a")
WINDOW: dict[str, Any] = {"issued_at_ms": 5, "valid_from_ms": 5, "valid_until_ms": 6}
ID = uuid.UUID(int=7)
RecordT = TypeVar("RecordT", bound=Record)


def changed(record: RecordT, **changes: Any) -> RecordT:
    """Return a validated copy of `record` with `changes`."""
    values = {name: getattr(record, name) for name in type(record).model_fields}
    return type(record)(**{**values, **changes})


def refused(record: Record, because: str, **changes: Any) -> None:
    with pytest.raises(ValidationError, match=because):
        changed(record, **changes)


# --- references --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", list(PlaySource))
def test_only_what_recurs_has_an_occurrence_and_an_item(source: PlaySource) -> None:
    full = {"occurrence_at_ms": 0, "item": 0}
    good: dict[str, Any] = full if source in (PlaySource.EMISSION, PlaySource.ALERT) else {}
    reference = PlayReference(source=source, id=ID, **good)
    for filled in ({}, {"item": 0}, {"occurrence_at_ms": 0}, full):
        if filled != good:
            values = {"occurrence_at_ms": None, "item": None, **filled}
            refused(reference, "reference of an emission", **values)


def test_an_emission_names_itself() -> None:
    plan = orders()["plan_v1_day"]
    assert isinstance(plan, Plan)
    first = plan.emissions[0]
    reference = first.reference
    assert (reference.id, reference.occurrence_at_ms, reference.item) == (first.broadcast_id, first.occurrence_at_ms, 0)
    assert reference.source is PlaySource.EMISSION
    assert first.ends_at_ms == first.starts_at_ms + 60_000


# --- orders ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(orders()))
def test_a_window_is_not_empty(name: str) -> None:
    order = orders()[name]
    for until in (order.valid_from_ms, order.valid_from_ms - 1):
        refused(order, "valid_until_ms must lie after", valid_until_ms=until)
    changed(order, valid_until_ms=order.valid_from_ms + 1)


def test_a_device_id_goes_into_an_order_as_plain_text() -> None:
    command = Command(**WINDOW, device=DeviceId("cum-loa-1"), serial=1, command_id=ID, action=Action.STOP)
    assert codec.decode(Command, codec.encode(command)) == command
    assert type(wire.to_wire(command)[1]) is str
    assert type(wire.to_json(command)["device"]) is str


@pytest.mark.parametrize("device", ["", "ab", "Cum-loa", "a/b", "a" * 49, "abc\n", "-ab"])
def test_an_order_is_for_a_well_named_device(device: str) -> None:
    refused(orders()["command_v1_stop"], "pattern", device=device)


# --- plans -------------------------------------------------------------------------------------------------------------


def emission(**changes: Any) -> Emission:
    values: dict[str, Any] = {
        "broadcast_id": ID,
        "occurrence_at_ms": 0,
        "item": 0,
        "starts_at_ms": 10,
        "duration_ms": 5,
        "latest_start_ms": 10,
        "rank": RANK,
        "content": ContentKind.TEXT,
        "text": "chữ",
    }
    return Emission(**{**values, **changes})


RELAY = RelayReference(source_id=uuid.UUID(int=1), path="relays/vov1")


def plan(*emissions: Emission, media: tuple[MediaReference, ...] = ()) -> Plan:
    return Plan(**WINDOW, device="cum-loa-1", serial=1, emissions=emissions, media=media)


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ({"starts_at_ms": 9, "occurrence_at_ms": 1}, {"starts_at_ms": 10, "occurrence_at_ms": 0}),
        ({"broadcast_id": uuid.UUID(int=1)}, {"broadcast_id": uuid.UUID(int=2)}),
        ({"occurrence_at_ms": 0}, {"occurrence_at_ms": 1}),
        ({"item": 0}, {"item": 1}),
        ({"starts_at_ms": 9, "item": 1}, {"starts_at_ms": 10, "item": 0}),
    ],
)
def test_emissions_are_sorted(earlier: dict[str, Any], later: dict[str, Any]) -> None:
    plan(emission(**earlier), emission(**later))
    with pytest.raises(ValidationError, match="must be sorted"):
        plan(emission(**later), emission(**earlier))


def test_an_identity_stands_once_in_a_plan() -> None:
    with pytest.raises(ValidationError, match="share an identity"):
        plan(emission(starts_at_ms=10), emission(starts_at_ms=11, latest_start_ms=11))


def test_media_an_emission_names_is_listed_exactly_once() -> None:
    sounding = emission(content=ContentKind.AUDIO, media=MEDIA.sha256)
    plan(sounding, media=(MEDIA,))
    plan(media=(MEDIA,))  # fetched ahead
    with pytest.raises(ValidationError, match="1 media hashes are named"):
        plan(sounding)
    with pytest.raises(ValidationError, match="share a hash"):
        plan(sounding, media=(MEDIA, changed(MEDIA, path="b")))


@pytest.mark.parametrize("content", list(ContentKind))
def test_content_has_what_it_is_made_of(content: ContentKind) -> None:
    needs = {ContentKind.TEXT: "text", ContentKind.TICKER: "text", ContentKind.RELAY: "relay"}.get(content, "media")
    filled = {"media": bytes(32), "text": "chữ", "relay": RELAY if content is ContentKind.RELAY else None}
    emission(content=content, **filled)
    with pytest.raises(ValidationError, match=f"needs {needs}"):
        emission(content=content, **{**filled, needs: None})


def test_only_a_relay_has_a_source_and_a_fallback() -> None:
    emission(content=ContentKind.RELAY, relay=RELAY, fallback=bytes(32))
    with pytest.raises(ValidationError, match="only a relay has a source"):
        emission(relay=RELAY)
    with pytest.raises(ValidationError, match="only a relay has a fallback"):
        emission(fallback=bytes(32))


@pytest.mark.parametrize("where", [{}, {"path": "relays/vov1", "url": "fm://103.5"}], ids=["nowhere", "two_places"])
def test_a_relay_comes_from_one_place(where: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="either a path at the relay point or a url"):
        RelayReference(source_id=uuid.UUID(int=1), **where)


def test_the_fallback_of_a_relay_is_listed_as_media() -> None:
    with pytest.raises(ValidationError, match="1 media hashes are named"):
        plan(emission(content=ContentKind.RELAY, relay=RELAY, fallback=bytes(32)))


def test_the_latest_start_is_not_before_the_start() -> None:
    emission(starts_at_ms=10, latest_start_ms=10)
    with pytest.raises(ValidationError, match="lies before"):
        emission(starts_at_ms=10, latest_start_ms=9)


def test_an_emission_sounds_for_some_time() -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        emission(duration_ms=0)


@pytest.mark.parametrize("path", ["", "/etc/passwd", "//other.example/x", "a b", "ả", "a" * 201, "a?b", "a\n"])
def test_a_media_path_stays_below_the_media_base(path: str) -> None:
    refused(MEDIA, "pattern", path=path)


@pytest.mark.parametrize("path", ["a", "media/0f", "a/b.c~d_e-f", ".well-known/x", "a" * 200])
def test_a_media_path_may_have_levels(path: str) -> None:
    changed(MEDIA, path=path)


@pytest.mark.parametrize("mime", ["audio", "audio/", "/ogg", "Audio/ogg", "audio/ogg; codecs=opus", "audio/ogg\n"])
def test_a_media_type_is_a_plain_one(mime: str) -> None:
    refused(MEDIA, "pattern", mime=mime)


# --- configuration, keys, commands, alerts -----------------------------------------------------------------------------


def test_the_volume_respects_its_cap() -> None:
    configuration = orders()["configuration_v1_full"]
    changed(configuration, volume_percent=80, volume_cap_percent=80)
    refused(configuration, "above volume_cap_percent", volume_percent=81, volume_cap_percent=80)


@pytest.mark.parametrize(
    ("url", "is_good"),
    [
        ("https://phat-thanh.example/", True),
        ("http://127.0.0.1:8080", True),
        ("ftp://example/", False),
        ("https://", False),
        ("javascript:alert(1)", False),
        ("https://a b/", False),
        ("https://ví-dụ.vn/", False),
        ("https://" + "a" * 193, False),
        ("https://example/\n", False),
    ],
)
def test_the_media_base_is_a_web_address(url: str, is_good: bool) -> None:
    configuration = orders()["configuration_v1_full"]
    if is_good:
        changed(configuration, media_base_url=url)
    else:
        refused(configuration, "pattern", media_base_url=url)


def signing_key(seed: bytes, **changes: Any) -> SigningKey:
    public = hashlib.sha256(seed).digest()
    values = {"kid": keys.key_id(public), "public_key": public, "not_before_ms": 0, "not_after_ms": 1}
    return SigningKey(**{**values, **changes})


def test_a_key_id_belongs_to_its_key() -> None:
    signing_key(b"a")
    with pytest.raises(ValidationError, match="kid is not"):
        signing_key(b"a", kid=bytes(8))
    with pytest.raises(ValidationError, match="not_after_ms must lie after"):
        signing_key(b"a", not_after_ms=0)


def test_a_key_stands_once_in_a_set() -> None:
    a, b = signing_key(b"a"), signing_key(b"b")
    KeySet(**WINDOW, serial=0, keys=(a, b))
    KeySet(**WINDOW, serial=0)
    with pytest.raises(ValidationError, match="share a kid"):
        KeySet(**WINDOW, serial=0, keys=(a, b, changed(a, not_after_ms=9)))


@pytest.mark.parametrize(
    ("action", "extra", "because"),
    [
        (Action.PLAY, {"rank": RANK, "media": MEDIA}, None),
        (Action.PLAY, {"rank": RANK, "text": "chữ"}, None),
        (Action.PLAY, {"rank": RANK}, "play needs"),
        (Action.PLAY, {"media": MEDIA}, "play needs"),
        (Action.PLAY, {"rank": RANK, "media": MEDIA, "text": "chữ"}, "play needs"),
        (Action.SET_VOLUME, {"volume_percent": 0}, None),
        (Action.SET_VOLUME, {}, "set_volume needs"),
        (Action.STOP, {}, None),
        (Action.SILENCE, {}, None),
        (Action.RELEASE, {}, None),
        (Action.REBOOT, {}, None),
    ],
)
def test_a_command_has_what_its_action_needs(action: Action, extra: dict[str, Any], because: str | None) -> None:
    def make() -> Command:
        return Command(**WINDOW, device="cum-loa-1", serial=0, command_id=ID, action=action, **extra)

    if because is None:
        make()
    else:
        with pytest.raises(ValidationError, match=because):
            make()


CONTENT = AlertContent(language="vi", headline="Lũ")


@pytest.mark.parametrize("purpose", list(Purpose))
def test_what_shall_be_heard_has_contents(purpose: Purpose) -> None:
    alert = orders()["alert_v1_cancel"]
    changed(alert, purpose=purpose, contents=(CONTENT,))
    if purpose in (Purpose.ALERT, Purpose.AUDIBLE_TEST):
        refused(alert, "needs contents", purpose=purpose)
        changed(alert, purpose=purpose, contents=(CONTENT,), repeat_interval_s=60)
    else:
        changed(alert, purpose=purpose)
        refused(alert, "can be repeated", purpose=purpose, repeat_interval_s=60)


def test_an_audience_is_never_empty() -> None:
    Audience(areas=(Area(units=(ID,)),))
    Audience(devices=("loa-1",))
    with pytest.raises(ValidationError, match="needs areas or devices"):
        Audience(kinds=(DeviceKind.CLUSTER,))
    with pytest.raises(ValidationError, match="at least 1 item"):
        Area(units=())


@pytest.mark.parametrize(
    ("corners", "is_good"), [(0, False), (1, False), (2, False), (3, True), (256, True), (257, False)]
)
def test_a_polygon_has_an_inside(corners: int, is_good: bool) -> None:
    polygon = tuple(Position(latitude_e6=n, longitude_e6=n * n) for n in range(corners))
    if is_good:
        Area(units=(ID,), polygons=(polygon,))
    else:
        with pytest.raises(ValidationError, match=r"at least 3|at most 256"):
            Area(units=(ID,), polygons=(polygon,))


@pytest.mark.parametrize(
    ("language", "is_good"),
    [
        ("vi", True),
        ("hmn-VN", True),
        ("zh-Hant-TW", True),
        ("Vi", False),
        ("v", False),
        ("vi_VN", False),
        ("vi\n", False),
    ],
)
def test_a_language_is_a_tag(language: str, is_good: bool) -> None:
    if is_good:
        changed(CONTENT, language=language)
    else:
        refused(CONTENT, "pattern", language=language)


# --- readings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("quantity", "unit"), sorted(readings.UNITS.items()))
def test_a_known_quantity_has_one_unit(quantity: str, unit: str) -> None:
    Sample(quantity=quantity, value=1.0, unit=unit)
    for other in {"m", "cm", "mm", "Cel", "K", "[degF]", "%", "1"} - {unit}:
        with pytest.raises(ValidationError, match=f"{quantity} is measured in"):
            Sample(quantity=quantity, value=1.0, unit=other)


@pytest.mark.parametrize("unit", ["1", "[pH]", "mg/L", "10*3/uL", "%", "m2.s-1"])
def test_a_quantity_of_a_vendor_s_own_has_any_ucum_code(unit: str) -> None:
    Sample(quantity="vendor_specific", value=1.0, unit=unit)


@pytest.mark.parametrize("unit", ["", " m", "m ", "°C", "độ", "m\n", "x" * 25])
def test_a_unit_is_printable_ascii(unit: str) -> None:
    with pytest.raises(ValidationError, match="pattern"):
        Sample(quantity="vendor_specific", value=1.0, unit=unit)


@pytest.mark.parametrize("quantity", ["", "Water", "water-level", "1st", "x" * 33, "mực_nước", "a\n"])
def test_a_quantity_is_a_plain_word(quantity: str) -> None:
    with pytest.raises(ValidationError, match="pattern"):
        Sample(quantity=quantity, value=1.0, unit="m")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), 1.1e12, -1.1e12])
def test_a_value_is_finite_and_sane(value: float) -> None:
    with pytest.raises(ValidationError):
        Sample(quantity="vendor_specific", value=value, unit="m")


@pytest.mark.parametrize(("count", "is_good"), [(0, False), (1, True), (32, True), (33, False)])
def test_a_reading_has_samples(count: int, is_good: bool) -> None:
    samples = (Sample(quantity="water_level", value=1.0, unit="m"),) * count
    if is_good:
        reading = Reading(device_at_ms=0, clock=ClockState.HOLDOVER, samples=samples)
        assert len(codec.encode(reading)) <= limits.READING_BYTES
    else:
        with pytest.raises(ValidationError, match="item"):
            Reading(device_at_ms=0, clock=ClockState.HOLDOVER, samples=samples)


# --- receipts ----------------------------------------------------------------------------------------------------------


def span(first: int, last: int) -> SequenceRange:
    return SequenceRange(first=first, last=last)


@pytest.mark.parametrize(
    ("through", "ranges", "is_good"),
    [
        (0, (), True),
        (10, (), True),
        (0, ((2, 2),), True),
        (10, ((12, 12),), True),
        (10, ((12, 13), (15, 15)), True),
        (0, ((1, 1),), False),  # then `through` would be 1
        (10, ((11, 12),), False),
        (10, ((10, 12),), False),
        (10, ((3, 5),), False),
        (10, ((12, 11),), False),
        (10, ((12, 13), (14, 15)), False),  # touching: one range
        (10, ((12, 13), (13, 15)), False),
        (10, ((20, 21), (12, 13)), False),
    ],
)
def test_ranges_ascend_and_lie_apart(through: int, ranges: tuple[tuple[int, int], ...], is_good: bool) -> None:
    def make() -> Receipt:
        return Receipt(journal=bytes(8), through=through, ranges=tuple(span(*one) for one in ranges))

    if is_good:
        make()
    else:
        with pytest.raises(ValidationError, match="ranges must ascend"):
            make()


def receipt_of(committed: set[int]) -> Receipt:
    """Return the receipt that states `committed`, made the slow way."""
    through = 0
    while through + 1 in committed:
        through += 1
    ranges: list[SequenceRange] = []
    for sequence in sorted(n for n in committed if n > through):
        if ranges and ranges[-1].last == sequence - 1:
            ranges[-1] = span(ranges[-1].first, sequence)
        else:
            ranges.append(span(sequence, sequence))
    return Receipt(journal=bytes(8), through=through, ranges=tuple(ranges))


@given(st.sets(st.integers(1, 60)))
def test_a_receipt_covers_what_is_committed_and_nothing_else(committed: set[int]) -> None:
    receipt = receipt_of(committed)
    assert {n for n in range(1, 70) if receipt.covers(n)} == committed


@given(strategies.messages(Receipt), st.integers(1, 2**63 - 2))
def test_covering_survives_the_wire(receipt: Receipt, sequence: int) -> None:
    assert codec.decode_receipt(codec.encode(receipt)).covers(sequence) == receipt.covers(sequence)


def test_a_full_receipt_fits() -> None:
    top = limits.INT64_MAX - 1
    ranges = tuple(span(top - 2 * n, top - 2 * n) for n in range(limits.MAX_RECEIPT_RANGES - 1, -1, -1))
    assert len(codec.encode(Receipt(journal=bytes(8), through=1, ranges=ranges))) <= limits.RECEIPT_BYTES
    with pytest.raises(ValidationError, match="at most 64"):
        Receipt(journal=bytes(8), through=1, ranges=(*ranges, span(top, top)))


# --- relays ------------------------------------------------------------------------------------------------------------


def a_list() -> SegmentList:
    found = orders()["segments_v1_on_air"]
    assert isinstance(found, SegmentList)
    return found


def test_a_segment_is_a_file_and_a_span_of_time() -> None:
    segment = a_list().segments[0]
    assert segment.ends_at_ms == segment.starts_at_ms + 2_000
    assert segment.media == MediaReference(
        sha256=segment.sha256, size=segment.size, mime="audio/ogg", path=segment.path, duration_ms=2_000
    )


def test_segments_follow_each_other() -> None:
    first, second, third = a_list().segments
    refused(a_list(), "sorted by sequence", segments=(second, first, third))
    refused(a_list(), "sorted by sequence", segments=(first, first))
    early = second.model_copy(update={"starts_at_ms": first.ends_at_ms - 1})
    refused(a_list(), "must not overlap", segments=(first, early))
    changed(a_list(), segments=(first, third))


def test_a_full_list_of_segments_fits() -> None:
    first = a_list().segments[0]
    segments = tuple(
        first.model_copy(
            update={
                "sequence": limits.INT64_MAX - limits.MAX_SEGMENTS + number,
                "starts_at_ms": first.starts_at_ms + number * limits.SEGMENT_MS,
                "duration_ms": limits.SEGMENT_MS,
                "size": limits.SEGMENT_BYTES,
                "path": "relays/" + "x" * 193,
                "mime": "application/vnd.example.a-name-of-a-type-that-is-as-long-as-it-may-be-here",
                "silent": True,
            }
        )
        for number in range(limits.MAX_SEGMENTS)
    )
    full = SegmentList(**{**dict(a_list()), "segments": segments})
    assert len(codec.encode(full)) <= limits.SEGMENT_LIST_BYTES
    with pytest.raises(ValidationError, match="at most 32"):
        changed(a_list(), segments=(*segments, segments[0]))


# --- values ------------------------------------------------------------------------------------------------------------


def test_messages_are_values() -> None:
    plan = orders()["plan_v1_day"]
    assert plan == changed(plan)
    assert hash(plan) == hash(changed(plan))
    with pytest.raises(ValidationError, match="frozen"):
        plan.valid_until_ms = 0  # type: ignore[misc]


def test_no_field_is_guessed() -> None:
    with pytest.raises(ValidationError, match="extra"):
        Rank(level=Level.NORMAL, issuer_depth=0, issued_at_ms=0, urgency=1)  # type: ignore[call-arg]
    with pytest.raises(ValidationError, match="valid integer"):
        Rank(level=Level.NORMAL, issuer_depth="0", issued_at_ms=0)  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="instance of Level"):
        Rank(level=0, issuer_depth=0, issued_at_ms=0)  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="valid integer"):
        Configuration(
            **WINDOW, device="cum-loa-1", serial=0, volume_percent=True, volume_cap_percent=1, heartbeat_interval_s=1
        )


def test_an_alert_of_the_largest_audience_fits() -> None:
    alert = orders()["alert_v1_storm"]
    assert isinstance(alert, Alert)
    units = tuple(uuid.UUID(int=n) for n in range(256))
    polygon = tuple(Position(latitude_e6=-90_000_000 + n, longitude_e6=-180_000_000 + n) for n in range(256))
    names = tuple(f"{'x' * 44}-{n:03}" for n in range(256))
    audience = Audience(
        areas=(Area(units=units, polygons=(polygon,)), Area(units=units)),
        devices=names,
        except_units=units,
        except_devices=names,
    )
    assert len(codec.encode(alert.model_copy(update={"audience": audience}))) <= limits.ALERT_BYTES
