"""Examples of everything that travels signed."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from typing import Any

from schemas import fields, signing
from schemas.alerts import Alert, AlertContent, Area, Audience, Circle, Purpose
from schemas.commands import Action, Command
from schemas.configuration import Configuration, Fallback, Ownership, Position
from schemas.fields import Level, ResumePolicy
from schemas.keys import KeySet, SigningKey
from schemas.orders import MediaReference, Order, Rank
from schemas.plans import ContentKind, Emission, Plan, RelayReference
from schemas.relays import RelayState, Segment, SegmentList
from tests.support.vectors.world import (
    ALERT,
    AUDIO_FILE,
    BOARD,
    BROADCAST,
    BULLETIN,
    CLUSTER,
    COMMAND,
    COMMUNE,
    DAY,
    DISTRICT,
    EARLIER_ALERT,
    EMERGENCY,
    IMAGE,
    MEDIA,
    NEXT_PLATFORM_KEY,
    NORMAL,
    PLATFORM_KEY,
    PROVINCE,
    ROOT_KEY,
    SECOND_BROADCAST,
    T,
    an_id,
    raw,
)

SOURCE = an_id(77)

KEY_SET = KeySet(
    issued_at_ms=T - DAY,
    valid_from_ms=T - DAY,
    valid_until_ms=T + 400 * DAY,
    serial=3,
    keys=(
        SigningKey(
            kid=signing.key_id(PLATFORM_KEY.public_key()),
            public_key=raw(PLATFORM_KEY),
            not_before_ms=T - 100 * DAY,
            not_after_ms=T + 265 * DAY,
        ),
        SigningKey(
            kid=signing.key_id(NEXT_PLATFORM_KEY.public_key()),
            public_key=raw(NEXT_PLATFORM_KEY),
            not_before_ms=T + 200 * DAY,
            not_after_ms=T + 600 * DAY,
        ),
    ),
)


def _orders() -> Iterator[tuple[str, Order]]:
    week: dict[str, Any] = {
        "issued_at_ms": T - 3_600_000,
        "valid_from_ms": T - 3_600_000,
        "valid_until_ms": T + 7 * DAY,
    }
    soon: dict[str, Any] = {"issued_at_ms": T, "valid_from_ms": T, "valid_until_ms": T + 300_000}
    yield "plan_v1_empty", Plan(**week, device=CLUSTER, serial=0)
    yield (
        "plan_v1_day",
        Plan(
            **week,
            device=CLUSTER,
            serial=1_042,
            emissions=(
                Emission(
                    broadcast_id=BROADCAST,
                    occurrence_at_ms=T,
                    item=0,
                    starts_at_ms=T,
                    duration_ms=60_000,
                    latest_start_ms=T + 45_000,
                    rank=NORMAL,
                    content=ContentKind.AUDIO,
                    media=MEDIA,
                    volume_percent=65,
                    bulletin_id=BULLETIN,
                    title="Bản tin sáng",
                ),
                Emission(
                    broadcast_id=SECOND_BROADCAST,
                    occurrence_at_ms=T + 60_000,
                    item=3,
                    starts_at_ms=T + 90_000,
                    duration_ms=30_000,
                    latest_start_ms=T + 90_000,
                    rank=Rank(level=Level.PRIORITY, live=True, severity=2, issuer_depth=1, issued_at_ms=T - 60_000),
                    content=ContentKind.AUDIO,
                    media=MEDIA,
                    resume=ResumePolicy.DROP,
                    offset_ms=30_000,
                ),
            ),
            media=(AUDIO_FILE,),
        ),
    )
    yield (
        "plan_v1_board",
        Plan(
            **week,
            device=BOARD,
            serial=88,
            emissions=(
                Emission(
                    broadcast_id=BROADCAST,
                    occurrence_at_ms=T,
                    item=0,
                    starts_at_ms=T,
                    duration_ms=600_000,
                    latest_start_ms=T + 600_000,
                    rank=NORMAL,
                    content=ContentKind.TICKER,
                    text="Mời bà con nộp phí rác thải tháng 11\ntại nhà văn hoá thôn",
                ),
                Emission(
                    broadcast_id=BROADCAST,
                    occurrence_at_ms=T,
                    item=1,
                    starts_at_ms=T + 600_000,
                    duration_ms=600_000,
                    latest_start_ms=T + 600_000,
                    rank=NORMAL,
                    content=ContentKind.IMAGE,
                    media=IMAGE,
                ),
            ),
            media=(MediaReference(sha256=IMAGE, size=90_210, mime="image/png", path=f"media/{IMAGE.hex()}"),),
        ),
    )
    yield (
        "plan_v1_relay",
        Plan(
            **week,
            device=CLUSTER,
            serial=1_043,
            emissions=(
                Emission(
                    broadcast_id=BROADCAST,
                    occurrence_at_ms=T,
                    item=0,
                    starts_at_ms=T,
                    duration_ms=1_800_000,
                    latest_start_ms=T + 1_800_000,
                    rank=Rank(level=Level.PRIORITY, issuer_depth=0, issued_at_ms=T - DAY, place=10),
                    content=ContentKind.RELAY,
                    relay=RelayReference(source_id=SOURCE, path="relays/vov1"),
                    fallback=MEDIA,
                    title="Tiếp sóng VOV1",
                ),
                Emission(
                    broadcast_id=BROADCAST,
                    occurrence_at_ms=T,
                    item=1,
                    starts_at_ms=T + 1_800_000,
                    duration_ms=600_000,
                    latest_start_ms=T + 2_400_000,
                    rank=NORMAL,
                    content=ContentKind.RELAY,
                    relay=RelayReference(source_id=an_id(78), url="fm://103.5"),
                ),
            ),
            media=(AUDIO_FILE,),
        ),
    )
    yield (
        "configuration_v1_fallback",
        Configuration(
            **week,
            device=CLUSTER,
            serial=8,
            volume_percent=30,
            volume_cap_percent=80,
            heartbeat_interval_s=60,
            fallback=Fallback(fallback_id=an_id(79), media=AUDIO_FILE, at_s=(0, 36_000)),
        ),
    )
    yield (
        "configuration_v1_minimal",
        Configuration(
            **week, device=CLUSTER, serial=1, volume_percent=0, volume_cap_percent=100, heartbeat_interval_s=60
        ),
    )
    yield (
        "configuration_v1_full",
        Configuration(
            **week,
            device=CLUSTER,
            serial=7,
            volume_percent=65,
            volume_cap_percent=80,
            heartbeat_interval_s=60,
            membership=(PROVINCE, DISTRICT, COMMUNE),
            media_base_url="https://phat-thanh.example/",
            ownership=Ownership.PRIVATE_WITH_PUBLIC_SHARE,
            position=Position(latitude_e6=21_273_100, longitude_e6=106_194_600),
            alert_media=(AUDIO_FILE,),
        ),
    )
    yield "keys_v1_rotation", KEY_SET
    yield (
        "command_v1_play",
        Command(
            **soon,
            device=CLUSTER,
            serial=5,
            command_id=COMMAND,
            action=Action.PLAY,
            media=AUDIO_FILE,
            rank=Rank(level=Level.PRIORITY, live=True, issuer_depth=2, issued_at_ms=T),
            resume=ResumePolicy.RESTART,
        ),
    )
    yield (
        "command_v1_show",
        Command(
            **soon,
            device=BOARD,
            serial=6,
            command_id=COMMAND,
            action=Action.PLAY,
            text="Họp thôn 19 giờ",
            duration_ms=900_000,
            rank=NORMAL,
        ),
    )
    yield (
        "command_v1_set_volume",
        Command(**soon, device=CLUSTER, serial=7, command_id=an_id(30), action=Action.SET_VOLUME, volume_percent=40),
    )
    for number, action in enumerate((Action.STOP, Action.SILENCE, Action.RELEASE, Action.REBOOT)):
        yield (
            f"command_v1_{action.name.lower()}",
            Command(**soon, device=CLUSTER, serial=8 + number, command_id=an_id(31 + number), action=action),
        )
    yield (
        "command_v1_alert",
        Command(
            **soon,
            device=CLUSTER,
            serial=12,
            command_id=an_id(36),
            action=Action.ALERT,
            alert=signing.sign(
                Alert(
                    **soon,
                    alert_id=ALERT,
                    alert_version=3,
                    purpose=Purpose.CANCEL,
                    audience=Audience(areas=(Area(units=(DISTRICT,)),)),
                    rank=EMERGENCY,
                ),
                PLATFORM_KEY,
            ),
        ),
    )
    yield (
        "alert_v1_storm",
        Alert(
            **{**soon, "valid_until_ms": T + 6 * 3_600_000},
            alert_id=ALERT,
            alert_version=2,
            purpose=Purpose.ALERT,
            audience=Audience(
                areas=(
                    Area(
                        units=(DISTRICT,),
                        polygons=(
                            (
                                Position(latitude_e6=21_200_000, longitude_e6=106_100_000),
                                Position(latitude_e6=21_400_000, longitude_e6=106_100_000),
                                Position(latitude_e6=21_300_000, longitude_e6=106_400_000),
                            ),
                        ),
                        circles=(
                            Circle(centre=Position(latitude_e6=21_300_000, longitude_e6=106_200_000), radius_m=15_000),
                        ),
                    ),
                    Area(
                        units=(PROVINCE,), circles=(Circle(centre=Position(latitude_e6=0, longitude_e6=0), radius_m=1),)
                    ),
                ),
                devices=(BOARD,),
                except_units=(COMMUNE,),
                except_devices=(CLUSTER,),
                kinds=(fields.DeviceKind.CLUSTER, fields.DeviceKind.BOARD),
                ownerships=(Ownership.PUBLIC,),
            ),
            rank=EMERGENCY,
            contents=(
                AlertContent(
                    language="vi",
                    headline="Lũ khẩn cấp trên sông Thương",
                    text="Người dân vùng trũng di chuyển ngay đến nơi cao.",
                    media=AUDIO_FILE,
                ),
                AlertContent(language="hmn-VN", headline="Dej nyab"),
            ),
            references=(EARLIER_ALERT,),
            repeat_interval_s=300,
            volume_percent=100,
        ),
    )
    yield (
        "alert_v1_cancel",
        Alert(
            **soon,
            alert_id=ALERT,
            alert_version=3,
            purpose=Purpose.CANCEL,
            audience=Audience(areas=(Area(units=(DISTRICT,)),)),
            rank=EMERGENCY,
        ),
    )
    yield (
        "alert_v1_silence",
        Alert(
            **soon,
            alert_id=an_id(40),
            alert_version=1,
            purpose=Purpose.SILENCE,
            audience=Audience(areas=(Area(units=(PROVINCE,)),)),
            rank=EMERGENCY,
        ),
    )


def _segment(number: int, *, at_ms: int, silent: bool = False) -> Segment:
    sha256 = hashlib.sha256(f"doan {number}".encode()).digest()
    return Segment(
        sequence=881_794_800 + number,
        sha256=sha256,
        size=16_000 + number,
        mime="audio/ogg",
        path=f"relays/{SOURCE}/{sha256.hex()}",
        starts_at_ms=at_ms,
        duration_ms=2_000,
        silent=silent,
    )


def _segment_lists() -> Iterator[tuple[str, SegmentList]]:
    half_a_minute: dict[str, Any] = {"issued_at_ms": T, "valid_from_ms": T, "valid_until_ms": T + 30_000}
    of_vov1: dict[str, Any] = {"source_id": SOURCE, "segment_ms": 2_000, "delay_ms": 10_000}
    yield (
        "segments_v1_on_air",
        SegmentList(
            **half_a_minute,
            **of_vov1,
            state=RelayState.ON_AIR,
            segments=(
                _segment(0, at_ms=T - 8_120),
                _segment(1, at_ms=T - 6_120),
                _segment(3, at_ms=T - 2_100),  # number 2 was lost
            ),
        ),
    )
    yield (
        "segments_v1_silent",
        SegmentList(
            **half_a_minute,
            **of_vov1,
            state=RelayState.SILENT,
            segments=(_segment(7, at_ms=T - 4_050), _segment(8, at_ms=T - 2_050, silent=True)),
        ),
    )
    yield (
        "segments_v1_unreachable",
        SegmentList(**half_a_minute, **of_vov1, state=RelayState.UNREACHABLE),
    )


@functools.cache
def orders() -> dict[str, Order]:
    """Return every order by the name of its vector."""
    return dict((*_orders(), *_segment_lists()))


def signed(order: Order) -> bytes:
    """Return `order` as the vectors have it signed: a key set by the root key, everything else by the platform key."""
    return signing.sign(order, ROOT_KEY if isinstance(order, KeySet) else PLATFORM_KEY)
