"""What a device must not obey: each is sent by somebody with the broker's own rights, told as refused, and not heard."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cbor2
import pytest

from schemas import signing
from schemas.commands import Action
from schemas.events import MessageKind, PlanAccepted, PlayStarted, RefusalReason, Refused
from schemas.orders import MediaReference
from schemas.topics import DownlinkKind
from tests.integration.firmware.centre import Centre, make_sound, now_ms
from tests.unit.firmware_sim.builders import (
    DAY,
    PLATFORM,
    ROOT,
    STRANGER,
    a_command,
    a_key_set,
    a_plan,
    a_rank,
    an_emission,
    announced,
    signed,
)

pytestmark = pytest.mark.integration

CLUSTER = "loa-0001"


@dataclass
class Scene:
    """A device that has accepted one (empty) plan, serial 5, and a file it could play."""

    centre: Centre
    media: MediaReference

    def plan(self, *, serial: int = 6, device: str = CLUSTER, at_ms: int | None = None, **fields: int) -> bytes:
        """A plan that would sound right now if it were believed."""
        emission = an_emission(at_ms=now_ms() - 1_000, duration_ms=60_000, media=self.media.sha256)
        at_ms = now_ms() if at_ms is None else at_ms
        plan = a_plan(emission, device=device, serial=serial, at_ms=at_ms, files=(self.media,), **fields)
        return signed(plan)


@pytest.fixture
def scene(centre: Centre) -> Scene:
    sound = centre.folder / "news.mp3"
    make_sound(sound, seconds=10.0)
    media = centre.media.offer(sound)
    centre.provision({CLUSTER: "cluster"})
    centre.greet(CLUSTER)
    centre.send(CLUSTER, DownlinkKind.PLAN, signed(a_plan(device=CLUSTER, serial=5, at_ms=now_ms() - 1_000)))
    centre.start()
    centre.wait(CLUSTER, PlanAccepted)
    return Scene(centre, media)


def flipped(scene: Scene) -> bytes:
    """A good plan with one bit of its payload the other way round."""
    message = bytearray(scene.plan())
    message[len(message) // 2] ^= 1
    return bytes(message)


def unsigned(scene: Scene) -> bytes:
    return bytes(cbor2.loads(scene.plan())[2])


def downgraded(scene: Scene) -> bytes:
    """A plan whose header names another algorithm ("none" does not exist in COSE; HMAC with a known key would do)."""
    _, unprotected, payload, signature = cbor2.loads(scene.plan())
    kid = signing.key_id(PLATFORM.public_key())
    protected = cbor2.dumps({1: 5, 4: kid, 16: "application/loa-plan+cbor"}, canonical=True)
    return cbor2.dumps([protected, unprotected, payload, signature], canonical=True)


def signed_by_a_stranger(scene: Scene) -> bytes:
    plan = a_plan(
        an_emission(at_ms=now_ms() - 1_000, duration_ms=60_000, media=scene.media.sha256),
        device=CLUSTER,
        serial=6,
        at_ms=now_ms(),
        files=(scene.media,),
    )
    return signed(plan, STRANGER)


def signed_by_root(scene: Scene) -> bytes:
    """Root signs keys and nothing else: whoever has stolen a key set's signature gets no plan out of it."""
    return signed(a_plan(device=CLUSTER, serial=6, at_ms=now_ms()), ROOT)


def a_command_as_plan(_: Scene) -> bytes:
    return signed(a_command(Action.STOP, device=CLUSTER, at_ms=now_ms()))


@pytest.mark.parametrize(
    ("forge", "reason"),
    [
        pytest.param(flipped, RefusalReason.BAD_SIGNATURE, id="one_bit_flipped"),
        pytest.param(unsigned, RefusalReason.MALFORMED, id="unsigned"),
        pytest.param(lambda _: b"\xff\x00garbage", RefusalReason.MALFORMED, id="garbage"),
        pytest.param(lambda _: b"\xa0" * 70_000, RefusalReason.MALFORMED, id="garbage_of_70_kB"),
        pytest.param(downgraded, RefusalReason.DOWNGRADED_ALGORITHM, id="downgraded_algorithm"),
        pytest.param(signed_by_a_stranger, RefusalReason.UNKNOWN_KEY, id="unknown_key"),
        pytest.param(signed_by_root, RefusalReason.UNKNOWN_KEY, id="root_key_signs_no_plans"),
        pytest.param(a_command_as_plan, RefusalReason.WRONG_TYPE, id="a_command_passed_off_as_a_plan"),
        pytest.param(lambda s: s.plan(device="loa-0002"), RefusalReason.FOREIGN_AUDIENCE, id="foreign_audience"),
        pytest.param(lambda s: s.plan(serial=4), RefusalReason.REPLAYED, id="replayed"),
        pytest.param(lambda s: s.plan(at_ms=now_ms() - 2 * DAY, valid_for_ms=DAY), RefusalReason.EXPIRED, id="expired"),
        pytest.param(lambda s: s.plan(valid_from_ms=now_ms() + DAY), RefusalReason.NOT_YET_VALID, id="not_yet_valid"),
    ],
)
def test_forged_plan_is_refused_and_not_heard(
    scene: Scene, forge: Callable[[Scene], bytes], reason: RefusalReason
) -> None:
    centre = scene.centre
    centre.send(CLUSTER, DownlinkKind.PLAN, forge(scene))

    (refused,) = centre.wait(CLUSTER, Refused)
    assert (refused.refused, refused.reason) == (MessageKind.PLAN, reason)

    # An honest plan after it is obeyed, so the device has had every chance to obey the forged one as well.
    centre.send(CLUSTER, DownlinkKind.PLAN, signed(a_plan(device=CLUSTER, serial=7, at_ms=now_ms())))
    accepted = centre.wait(CLUSTER, PlanAccepted, count=2)
    assert [event.serial for event in accepted] == [5, 7]
    assert centre.told(CLUSTER).of(PlayStarted) == []
    assert centre.media.requests == []


def test_media_with_another_hash_is_refused_and_not_heard(centre: Centre) -> None:
    sound, other = centre.folder / "news.mp3", centre.folder / "other.mp3"
    make_sound(sound, seconds=1.0)
    make_sound(other, seconds=1.0, rate=16_000)
    padded = other.read_bytes().ljust(len(sound.read_bytes()), b"\0")[: len(sound.read_bytes())]
    media = centre.media.offer(sound, served=padded)
    centre.provision({CLUSTER: "cluster"})
    centre.greet(CLUSTER)
    emission = an_emission(at_ms=now_ms(), duration_ms=60_000, media=media.sha256)
    centre.send(CLUSTER, DownlinkKind.PLAN, signed(a_plan(emission, device=CLUSTER, at_ms=now_ms(), files=(media,))))
    centre.start()

    (refused,) = centre.wait(CLUSTER, Refused)
    assert (refused.refused, refused.reason) == (MessageKind.MEDIA, RefusalReason.WRONG_HASH)
    folder = centre.folder / "devices" / CLUSTER / "media"
    assert list(folder.iterdir()) == []
    assert centre.told(CLUSTER).of(PlayStarted) == []


def test_stolen_platform_key_is_no_use_once_root_has_dropped_it(scene: Scene) -> None:
    centre = scene.centre
    centre.send(CLUSTER, DownlinkKind.PLAN, scene.plan())
    centre.wait(CLUSTER, PlayStarted)

    keys = a_key_set(announced(STRANGER), serial=2, at_ms=now_ms())
    centre.send(CLUSTER, DownlinkKind.KEYS, signed(keys))

    reasons = {(each.refused, each.reason) for each in centre.wait(CLUSTER, Refused, count=2)}
    assert reasons == {
        (MessageKind.PLAN, RefusalReason.UNKNOWN_KEY),
        (MessageKind.CONFIG, RefusalReason.UNKNOWN_KEY),
    }
    centre.wait_heartbeat(CLUSTER, lambda each: each.playing is None and each.plan_serial is None)


def test_keys_not_signed_by_root_are_refused(scene: Scene) -> None:
    centre = scene.centre
    keys = a_key_set(announced(STRANGER), serial=2, at_ms=now_ms())
    centre.send(CLUSTER, DownlinkKind.KEYS, signing.sign(keys, PLATFORM))
    (refused,) = centre.wait(CLUSTER, Refused)
    assert (refused.refused, refused.reason) == (MessageKind.KEYS, RefusalReason.UNKNOWN_KEY)


def test_forged_command_is_refused(scene: Scene) -> None:
    centre = scene.centre
    command = a_command(Action.PLAY, device=CLUSTER, at_ms=now_ms(), media=scene.media, rank=a_rank())
    centre.send(CLUSTER, DownlinkKind.COMMAND, signed(command, STRANGER))
    (refused,) = centre.wait(CLUSTER, Refused)
    assert (refused.refused, refused.reason) == (MessageKind.COMMAND, RefusalReason.UNKNOWN_KEY)
    assert centre.told(CLUSTER).of(PlayStarted) == []


def test_flood_of_garbage_is_told_a_bounded_number_of_times(scene: Scene) -> None:
    centre = scene.centre
    for index in range(200):
        centre.send(CLUSTER, DownlinkKind.COMMAND, b"garbage %d" % index)
    centre.send(CLUSTER, DownlinkKind.PLAN, signed(a_plan(device=CLUSTER, serial=7, at_ms=now_ms())))
    centre.wait(CLUSTER, PlanAccepted, count=2)
    assert 1 <= len(centre.told(CLUSTER).of(Refused)) <= 20


def test_unreadable_receipt_frees_nothing(scene: Scene) -> None:
    centre = scene.centre
    topic = f"loa/v1/{CLUSTER}/down/receipt"
    centre.ingest.publish(topic, b"\x00")
    (refused,) = centre.wait(CLUSTER, Refused)
    assert (refused.refused, refused.reason) == (MessageKind.RECEIPT, RefusalReason.MALFORMED)
